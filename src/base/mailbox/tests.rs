//! Against a plain twin, across threads, and for leaks. Clean under Miri.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crossbeam_queue::ArrayQueue;

use super::*;
use crate::base::prng::Prng;

const ROUNDS: u64 = if cfg!(miri) { 3 } else { 50 };

#[test]
fn staged_mail_is_invisible_until_published() {
    let (mut sender, mut receiver) = mailbox(4);
    assert_eq!((sender.len(), receiver.len()), (0, 0));
    assert_eq!(sender.publish(), 0);
    for item in 0..4 {
        assert_eq!(sender.try_push(item), Ok(()));
    }
    assert_eq!(sender.try_push(4), Err(4), "staged mail takes slots");
    assert_eq!((sender.len(), sender.staged(), receiver.len()), (4, 4, 0));
    assert_eq!(receiver.pop(), None);
    assert_eq!(sender.publish(), 4);
    assert_eq!((sender.len(), sender.staged(), receiver.len()), (4, 0, 4));
    assert_eq!(receiver.pop(), Some(0));
    assert_eq!(sender.try_push(4), Ok(()));
    assert_eq!(sender.try_push(5), Err(5));
    assert_eq!((1..4).map(|_| receiver.pop()).collect::<Vec<_>>(), [Some(1), Some(2), Some(3)]);
    assert_eq!(receiver.pop(), None);
    drop(sender);
    assert_eq!(receiver.pop(), Some(4), "what was staged when the sender went still arrives");
    assert_eq!(receiver.pop(), None);
    assert!(receiver.is_empty());
}

#[test]
#[should_panic(expected = "masked, not divided")]
fn slots_are_a_power_of_two() {
    let _ = mailbox::<u8>(3);
}

#[test]
fn it_does_what_its_plain_twin_does() {
    for seed in 0..ROUNDS {
        let mut prng = Prng::new(seed);
        let slots = 1 << prng.below(6);
        let (mut sender, mut receiver) = mailbox(slots);
        let twin = ArrayQueue::new(slots);
        // The twin has no staging: it shows this many of its items.
        let mut visible = 0;
        for step in 0..1000 {
            match prng.below(5) {
                0..2 => {
                    let item = Box::new(step);
                    assert_eq!(sender.try_push(item.clone()), twin.push(item), "seed {seed}");
                }
                2 => {
                    assert_eq!(sender.publish(), twin.len() - visible, "seed {seed}");
                    visible = twin.len();
                }
                _ => {
                    let expected = if visible > 0 { twin.pop() } else { None };
                    visible = visible.saturating_sub(1);
                    assert_eq!(receiver.pop(), expected, "seed {seed}");
                }
            }
            assert_eq!((sender.len(), receiver.len()), (twin.len(), visible), "seed {seed}");
        }
    }
}

#[test]
fn indices_pass_the_end_of_their_numbers() {
    let (mut sender, mut receiver) = mailbox(2);
    let near = usize::MAX - 1;
    sender.shared.head.store(near, Ordering::Relaxed);
    sender.shared.tail.store(near, Ordering::Relaxed);
    (sender.staged, sender.published, sender.head_seen) = (near, near, near);
    (receiver.head, receiver.tail_seen) = (near, near);
    for item in 0..10 {
        assert_eq!(sender.try_push(Box::new(item)), Ok(()));
        assert_eq!(sender.try_push(Box::new(item + 100)), Ok(()));
        assert!(sender.try_push(Box::new(0)).is_err());
        assert_eq!(sender.publish(), 2);
        assert_eq!(receiver.pop(), Some(Box::new(item)));
        assert_eq!(receiver.pop(), Some(Box::new(item + 100)));
        assert_eq!(receiver.pop(), None);
    }
    assert_eq!(sender.try_push(Box::new(7)), Ok(()));
}

#[test]
fn leftovers_are_dropped_once() {
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    for sender_first in [true, false] {
        let drops = Arc::new(AtomicUsize::new(0));
        let (mut sender, mut receiver) = mailbox(8);
        for n in 0..7 {
            assert!(sender.try_push(Counted(drops.clone())).is_ok());
            if n == 4 {
                sender.publish();
            }
        }
        drop((receiver.pop(), receiver.pop()));
        assert_eq!(drops.load(Ordering::Relaxed), 2);
        if sender_first {
            drop(sender);
            drop(receiver);
        } else {
            drop(receiver);
            drop(sender);
        }
        assert_eq!(drops.load(Ordering::Relaxed), 7);
    }
}

#[test]
fn two_threads_keep_the_order() {
    let count: u64 = if cfg!(miri) { 300 } else { 200_000 };
    let (mut sender, mut receiver) = mailbox(16);
    let (parking, peer) = (Arc::new(Parking::new()), thread::current());
    let peer_parking = parking.clone();
    let pushing = thread::spawn(move || {
        let mut prng = Prng::new(1);
        for item in 0..count {
            let is_last = item + 1 == count;
            let mut item = Box::new(item);
            while let Err(back) = sender.try_push(item) {
                item = back;
                sender.publish();
                if peer_parking.should_wake() {
                    peer.unpark();
                }
                thread::yield_now();
            }
            if prng.chance(1, 5) || is_last {
                sender.publish();
                if peer_parking.should_wake() {
                    peer.unpark();
                }
            }
        }
    });
    for expected in 0..count {
        let item = loop {
            if let Some(item) = receiver.pop() {
                break item;
            }
            parking.prepare();
            if receiver.is_empty() {
                thread::park();
            }
            parking.cancel();
        };
        assert_eq!(*item, expected);
    }
    pushing.join().unwrap();
    assert_eq!(receiver.pop(), None);
}
