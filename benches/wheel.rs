//! What a timer costs, with many armed: `cargo bench --bench wheel`.
//!
//! Nanoseconds per operation with 20,000 and 1,000,000 timers armed up to two minutes ahead, and the
//! same with a `BTreeMap` by deadline in the same run. Each figure is the middle one of some rounds.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Instant;

use ringmain::base::prng::Prng;
use ringmain::base::time::Nanos;
use ringmain::base::wheel::Wheel;

const ROUNDS: usize = 7;
const MOVES: usize = 200_000;
const REACH: u64 = 120_000_000_000;

fn main() {
    println!(
        "{:>10} {:>22} {:>22} {:>22} {:>22}",
        "armed", "wheel: move", "map: move", "wheel: expire", "map: expire"
    );
    for armed in [20_000, 1_000_000] {
        let mut figures = [const { Vec::new() }; 4];
        for round in 0..ROUNDS {
            let [moves, expires] = wheel_round(armed, round as u64);
            let [map_moves, map_expires] = map_round(armed, round as u64);
            for (all, one) in figures.iter_mut().zip([moves, map_moves, expires, map_expires]) {
                all.push(one);
            }
        }
        print!("{armed:>10}");
        for mut all in figures {
            all.sort_by(f64::total_cmp);
            print!(" {:>19.1} ns", all[ROUNDS / 2]);
        }
        println!();
    }
}

fn per(count: usize, began: Instant) -> f64 {
    began.elapsed().as_secs_f64() * 1e9 / count as f64
}

/// A move is what every message of a peer does to its keep-alive: cancel, and arm further on.
fn wheel_round(armed: usize, seed: u64) -> [f64; 2] {
    let mut prng = Prng::new(seed);
    let mut wheel = Wheel::new(Nanos(0));
    let mut ids: Vec<_> =
        (0..armed).map(|n| wheel.arm(Nanos(prng.below(REACH)), n as u64)).collect();
    let began = Instant::now();
    for _ in 0..MOVES {
        let n = prng.below(armed as u64) as usize;
        wheel.cancel(ids[n]);
        ids[n] = wheel.arm(Nanos(prng.below(REACH)), n as u64);
    }
    let moves = per(MOVES, began);
    let mut out = Vec::new();
    let began = Instant::now();
    // As a shard would: once per millisecond.
    for now in (0..=REACH + 10_000_000).step_by(1_000_000) {
        if wheel.next_due().is_some_and(|due| due.0 <= now) {
            wheel.expire(Nanos(now), usize::MAX, &mut out);
            black_box(&out);
            out.clear();
        }
    }
    assert!(wheel.is_empty());
    [moves, per(armed, began)]
}

fn map_round(armed: usize, seed: u64) -> [f64; 2] {
    let mut prng = Prng::new(seed);
    let mut map = BTreeMap::new();
    let mut deadlines: Vec<_> = (0..armed).map(|_| prng.below(REACH)).collect();
    map.extend(deadlines.iter().enumerate().map(|(n, &deadline)| ((deadline, n), n)));
    let began = Instant::now();
    for _ in 0..MOVES {
        let n = prng.below(armed as u64) as usize;
        map.remove(&(deadlines[n], n));
        deadlines[n] = prng.below(REACH);
        map.insert((deadlines[n], n), n);
    }
    let moves = per(MOVES, began);
    let began = Instant::now();
    for now in (0..=REACH + 10_000_000).step_by(1_000_000) {
        while let Some(first) = map.first_entry().filter(|first| first.key().0 <= now) {
            black_box(first.remove());
        }
    }
    assert!(map.is_empty());
    [moves, per(armed, began)]
}
