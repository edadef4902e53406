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

/// One owner that takes `senders` mails, one from each sender, and sleeps between.
fn sleep_and_be_woken(senders: usize) {
    let parking = Arc::new(Parking::new());
    let bell = Arc::new(Notify::new());
    let wakes = Arc::new(Count::new(0));
    let mut ends = Vec::new();
    let threads: Vec<_> = (0..senders)
        .map(|_| {
            let (mut sender, end) = mailbox(1);
            ends.push(end);
            let (parking, bell, wakes) = (parking.clone(), bell.clone(), wakes.clone());
            thread::spawn(move || {
                assert_eq!(sender.try_push(1), Ok(()));
                sender.publish();
                if parking.should_wake() {
                    wakes.fetch_add(1, Ordering::Relaxed);
                    bell.notify();
                }
            })
        })
        .collect();
    let (mut taken, mut prepared) = (0, 0);
    while taken < senders {
        parking.prepare();
        prepared += 1;
        if ends.iter().all(Receiver::is_empty) {
            // Loom fails the run as a deadlock if nobody rings.
            bell.wait();
        }
        parking.cancel();
        taken += ends.iter_mut().filter_map(Receiver::pop).count();
    }
    for thread in threads {
        thread.join().unwrap();
    }
    assert!(wakes.load(Ordering::Relaxed) <= prepared, "one wake for one flag");
}

#[test]
fn no_wake_is_lost() {
    loom::model(|| sleep_and_be_woken(1));
}

#[test]
fn of_two_senders_one_wakes() {
    // Two switches away from a thread that could go on: what is left out is beyond patience.
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(|| sleep_and_be_woken(2));
}
