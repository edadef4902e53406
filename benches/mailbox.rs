//! What one mail costs from thread to thread, and a plain twin beside it:
//! `cargo bench --bench mailbox`.
//!
//! Nanoseconds per item of 1,024 slots, published every 1, 16 and 64 items; each figure is the middle
//! one of some rounds, and both queues are measured in turn within a round.

use std::collections::VecDeque;
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::Instant;

use crossbeam_queue::ArrayQueue;
use ringmain::base::mailbox::mailbox;

const SLOTS: usize = 1024;
const ITEMS: u64 = 1_000_000;
const ROUNDS: usize = 7;

/// About what a mail weighs.
type Item = [u64; 6];

fn main() {
    println!(
        "{:>14} {:>10} {:>14} {:>14}",
        "publish every", "mailbox", "ArrayQueue", "Mutex<VecDeque>"
    );
    for batch in [1, 16, 64] {
        let mut rounds = [const { Vec::new() }; 3];
        for _ in 0..ROUNDS {
            rounds[0].push(mailbox_round(batch));
            rounds[1].push(array_queue_round());
            rounds[2].push(mutex_round(batch));
        }
        let [ours, twin, locked] = rounds.map(|mut figures| {
            figures.sort_by(f64::total_cmp);
            figures[ROUNDS / 2]
        });
        println!(
            "{batch:>14} {ours:>7.1} ns {twin:>6.1} x{:>5.2} {locked:>6.1} x{:>5.2}",
            twin / ours,
            locked / ours
        );
    }
}

/// Runs both ends, each on a thread, and gives nanoseconds per item.
fn race(push: impl FnOnce() + Send, mut pop: impl FnMut() -> Option<Item> + Send) -> f64 {
    let start = Barrier::new(2);
    thread::scope(|scope| {
        scope.spawn(|| {
            start.wait();
            push();
        });
        start.wait();
        let began = Instant::now();
        let mut expected = 0;
        while expected < ITEMS {
            match pop() {
                Some(item) => {
                    assert_eq!(item[0], expected);
                    expected += 1;
                }
                // The machine may have fewer free cores than this has threads.
                None => thread::yield_now(),
            }
        }
        began.elapsed().as_secs_f64() * 1e9 / ITEMS as f64
    })
}

fn mailbox_round(batch: u64) -> f64 {
    let (mut sender, mut receiver) = mailbox::<Item>(SLOTS);
    let push = move || {
        for n in 0..ITEMS {
            let mut item = [n; 6];
            while let Err(back) = sender.try_push(item) {
                item = back;
                sender.publish();
                thread::yield_now();
            }
            if n % batch == batch - 1 {
                sender.publish();
            }
        }
        sender.publish();
    };
    race(push, move || receiver.pop())
}

fn array_queue_round() -> f64 {
    let queue = Arc::new(ArrayQueue::<Item>::new(SLOTS));
    let sender = Arc::clone(&queue);
    let push = move || {
        for n in 0..ITEMS {
            let mut item = [n; 6];
            while let Err(back) = sender.push(item) {
                item = back;
                thread::yield_now();
            }
        }
    };
    race(push, move || queue.pop())
}

fn mutex_round(batch: u64) -> f64 {
    let queue = Arc::new(Mutex::new(VecDeque::<Item>::with_capacity(SLOTS)));
    let sender = Arc::clone(&queue);
    let push = move || {
        let mut n = 0;
        while n < ITEMS {
            let mut queue = sender.lock().expect("no thread panics with it");
            let end = ITEMS.min(n + batch).min(n + (SLOTS - queue.len()) as u64);
            queue.extend((n..end).map(|n| [n; 6]));
            drop(queue);
            if end == n {
                thread::yield_now();
            }
            n = end;
        }
    };
    race(push, move || queue.lock().expect("no thread panics with it").pop_front())
}
