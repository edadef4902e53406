//! Every interleaving of small cases. The command is in the room's head.

use loom::sync::Notify;
use loom::sync::atomic::AtomicUsize as Count;
use loom::thread;

use super::*;

#[test]
fn items_arrive_in_order_and_whole() {
    loom::model(|| {
        let (mut sender, mut receiver) = mailbox(2);
        let pushing = thread::spawn(move || {
            let mut refused = 0;
            for item in 0..3 {
                if sender.try_push(Box::new(item)).is_err() {
                    refused += 1;
                }
                if item != 0 {
                    sender.publish();
                }
            }
            refused
        });
        let mut taken = Vec::new();
        for _ in 0..2 {
            taken.extend(receiver.pop().map(|item| *item));
        }
        let refused = pushing.join().unwrap();
        taken.extend(std::iter::from_fn(|| receiver.pop()).map(|item| *item));
        assert_eq!(taken, (0..3 - refused).collect::<Vec<_>>());
    });
}

#[test]
fn leftovers_are_dropped_whichever_end_goes_first() {
    loom::model(|| {
        let (mut sender, mut receiver) = mailbox(2);
        let pushing = thread::spawn(move || {
            assert!(sender.try_push(loom::sync::Arc::new(1)).is_ok());
            sender.publish();
            assert!(sender.try_push(loom::sync::Arc::new(2)).is_ok());
        });
        drop(receiver.pop());
        drop(receiver);
        pushing.join().unwrap();
        // Loom fails the run if one of the counted items above is leaked.
    });
}

#[test]
fn no_wake_is_lost_and_each_is_sent_once() {
    loom::model(|| {
        let (first, mut first_end) = mailbox(1);
        let (second, mut second_end) = mailbox(1);
        let parking = Arc::new(Parking::new());
        let bell = Arc::new(Notify::new());
        let wakes = Arc::new(Count::new(0));
        let spawn = |send: fn(&mut Sender<u8>), mut sender: Sender<u8>| {
            let (parking, bell, wakes) = (parking.clone(), bell.clone(), wakes.clone());
            thread::spawn(move || {
                send(&mut sender);
                if parking.should_wake() {
                    wakes.fetch_add(1, Ordering::Relaxed);
                    bell.notify();
                }
            })
        };
        let send: fn(&mut Sender<u8>) = |sender| {
            assert_eq!(sender.try_push(1), Ok(()));
            sender.publish();
        };
        assert_eq!((first.len(), second.len()), (0, 0));
        let threads = [spawn(send, first), spawn(send, second)];
        let (mut taken, mut prepared) = (0, 0);
        while taken < 2 {
            parking.prepare();
            prepared += 1;
            if first_end.is_empty() && second_end.is_empty() {
                // Loom fails the run as a deadlock if nobody rings.
                bell.wait();
            }
            parking.cancel();
            taken +=
                usize::from(first_end.pop().is_some()) + usize::from(second_end.pop().is_some());
        }
        for thread in threads {
            thread.join().unwrap();
        }
        assert!(wakes.load(Ordering::Relaxed) <= prepared, "one wake for one flag");
    });
}
