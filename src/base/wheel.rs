//! Many timers, coarse and cheap: a hierarchical wheel on whatever clock the caller tells it.
//!
//! Source of the idea: Varghese and Lauck, "Hashed and hierarchical timing wheels", 1987.

use super::time::Nanos;

/// A beat of the wheel is 2^22 ns, about 4.2 ms: fine for keep-alives and deadlines in protocols,
/// and the finest of them (an HTTP head's) is a thousand times longer.
const BEAT_BITS: u32 = 22;
/// One level has 64 slots, so that one word says which are occupied.
const LEVEL_BITS: u32 = 6;
const LEVEL_SLOTS: usize = 1 << LEVEL_BITS;
/// Seven levels of six bits cover every beat there is: no deadline is too far away.
const LEVELS: usize = 7;
const _: () =
    assert!(BEAT_BITS + LEVELS as u32 * LEVEL_BITS == u64::BITS, "all of Nanos is covered");
const BEAT_LAST: u64 = u64::MAX >> BEAT_BITS;

/// Ends a list of entries, and marks a free one.
const NONE: u32 = u32::MAX;
const FREE: u16 = u16::MAX;

/// Timers of one shard, each with a small value.
///
/// A timer comes never early and up to one beat (4.2 ms) late, plus how long the caller waits
/// between calls of [`Wheel::expire`]. Timers of one beat come in the order they were armed, as
/// long as no budget cuts a cascade. Arming and cancelling touch one entry and its neighbours;
/// most timers are moved before they come. One that does come was moved down once per level and costs
/// more than in a sorted map (`benches/wheel.rs`).
#[derive(Debug)]
pub struct Wheel<T> {
    /// The beat up to which everything has come. Slots of a level that hold this beat are empty,
    /// but for level 0 and for one slot whose cascade a budget cut.
    elapsed: u64,
    occupied: [u64; LEVELS],
    lists: Box<[List; LEVELS * LEVEL_SLOTS]>,
    entries: Vec<Entry<T>>,
    free_first: u32,
    len: usize,
}

/// A timer that was armed; still names it after it came or was cancelled, and then misses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimerId {
    slot: u32,
    generation: u32,
}

#[derive(Clone, Copy, Debug)]
struct List {
    first: u32,
    last: u32,
}

/// Compact on purpose: there are a few for every connection.
#[derive(Debug)]
struct Entry<T> {
    value: T,
    beat: u64,
    next: u32,
    previous: u32,
    generation: u32,
    /// Which list it is in: level * 64 + slot, or `FREE`.
    list: u16,
}

const _: () = assert!(size_of::<Entry<u64>>() <= 32, "two timers share a cache line");

impl<T: Copy> Wheel<T> {
    /// An empty wheel whose clock stands at `now`.
    pub fn new(now: Nanos) -> Self {
        Self {
            elapsed: now.0 >> BEAT_BITS,
            occupied: [0; LEVELS],
            lists: Box::new([List { first: NONE, last: NONE }; LEVELS * LEVEL_SLOTS]),
            entries: Vec::new(),
            free_first: NONE,
            len: 0,
        }
    }

    /// How many timers are armed.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if no timer is armed.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Arms a timer: `value` comes out of the first [`Wheel::expire`] at or after `deadline`,
    /// rounded up to a beat. A deadline in the past comes with the next call.
    pub fn arm(&mut self, deadline: Nanos, value: T) -> TimerId {
        let up = u64::from(deadline.0 & ((1 << BEAT_BITS) - 1) != 0);
        let beat = ((deadline.0 >> BEAT_BITS) + up).min(BEAT_LAST).max(self.elapsed);
        let slot = self.free_first;
        let id = if let Some(entry) = self.entries.get_mut(slot as usize) {
            self.free_first = entry.next;
            entry.value = value;
            entry.beat = beat;
            TimerId { slot, generation: entry.generation }
        } else {
            let slot = self.entries.len();
            assert!(slot < NONE as usize, "a wheel has less than 2^32 - 1 timers");
            let (next, previous, generation, list) = (NONE, NONE, 0, FREE);
            self.entries.push(Entry { value, beat, next, previous, generation, list });
            TimerId { slot: slot as u32, generation: 0 }
        };
        self.len += 1;
        self.link(id.slot);
        id
    }

    /// Disarms a timer and gives its value back; none if it has come or was cancelled before.
    pub fn cancel(&mut self, id: TimerId) -> Option<T> {
        let entry = self.entries.get(id.slot as usize)?;
        if entry.generation != id.generation || entry.list == FREE {
            return None;
        }
        let value = entry.value;
        self.unlink(id.slot);
        self.release(id.slot);
        Some(value)
    }

    /// Appends the values of the timers that have come by `now`, earliest beat first.
    ///
    /// Touches at most `budget` timers (a timer is touched again when it moves to a finer level);
    /// true if it stopped for that, and there may be more at this `now`.
    pub fn expire(&mut self, now: Nanos, budget: usize, out: &mut Vec<T>) -> bool {
        // A clock that steps back changes nothing.
        let target = (now.0 >> BEAT_BITS).max(self.elapsed);
        let mut touches = budget;
        while let Some((start, list)) = self.earliest() {
            if start > target {
                break;
            }
            self.elapsed = self.elapsed.max(start);
            loop {
                let first = self.lists[list].first;
                if first == NONE {
                    break;
                }
                if touches == 0 {
                    return true;
                }
                touches -= 1;
                self.unlink(first);
                if list < LEVEL_SLOTS {
                    out.push(self.entries[first as usize].value);
                    self.release(first);
                } else {
                    self.link(first);
                }
            }
        }
        self.elapsed = target;
        false
    }

    /// When to call [`Wheel::expire`] next; none if no timer is armed. Never later than the
    /// earliest timer's beat; earlier if that timer is far away and must move to a finer level first.
    pub fn next_due(&self) -> Option<Nanos> {
        let (start, _) = self.earliest()?;
        Some(Nanos(start << BEAT_BITS))
    }

    /// First beat and place of the list to empty next.
    ///
    /// All timers of a level share the bits above it with `elapsed`, so the lowest occupied slot
    /// is the earliest, and lower levels come first; but a cut cascade starts at `elapsed`
    /// or before, and must end before any timer of a lower level comes. Hence equal starts go to the
    /// highest level.
    fn earliest(&self) -> Option<(u64, usize)> {
        let mut earliest = None;
        for (level, &occupied) in self.occupied.iter().enumerate() {
            if occupied == 0 {
                continue;
            }
            let slot = occupied.trailing_zeros() as usize;
            let shift = level as u32 * LEVEL_BITS;
            let above = self.elapsed & !((1 << (shift + LEVEL_BITS)) - 1);
            let start = above | ((slot as u64) << shift);
            if earliest.is_none_or(|(least, _)| start <= least) {
                earliest = Some((start, level * LEVEL_SLOTS + slot));
            }
        }
        earliest
    }

    /// Appends an entry to the list its beat belongs to, seen from `elapsed`.
    fn link(&mut self, slot: u32) {
        let beat = self.entries[slot as usize].beat;
        assert!(beat >= self.elapsed, "timer {slot} was passed over");
        // The level is that of the highest bit in which its beat differs from the present one.
        let differs = (beat ^ self.elapsed) | 1;
        let level = (differs.ilog2() / LEVEL_BITS) as usize;
        let place = (beat >> (level as u32 * LEVEL_BITS)) as usize % LEVEL_SLOTS;
        let index = level * LEVEL_SLOTS + place;
        let list = &mut self.lists[index];
        let previous = list.last;
        list.last = slot;
        if previous == NONE {
            list.first = slot;
            self.occupied[level] |= 1 << place;
        } else {
            self.entries[previous as usize].next = slot;
        }
        let entry = &mut self.entries[slot as usize];
        entry.previous = previous;
        entry.next = NONE;
        entry.list = index as u16;
    }

    /// Takes an entry out of its list.
    fn unlink(&mut self, slot: u32) {
        let Entry { next, previous, list: index, .. } = self.entries[slot as usize];
        let index = usize::from(index);
        let list = &mut self.lists[index];
        match previous {
            NONE => list.first = next,
            _ => self.entries[previous as usize].next = next,
        }
        match next {
            NONE => list.last = previous,
            _ => self.entries[next as usize].previous = previous,
        }
        if list.first == NONE {
            self.occupied[index / LEVEL_SLOTS] &= !(1 << (index % LEVEL_SLOTS));
        }
    }

    /// Gives an entry that is in no list back; its id misses from now on.
    fn release(&mut self, slot: u32) {
        let entry = &mut self.entries[slot as usize];
        entry.generation = entry.generation.wrapping_add(1);
        entry.list = FREE;
        entry.next = self.free_first;
        self.free_first = slot;
        self.len -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::base::prng::Prng;

    const BEAT: u64 = 1 << BEAT_BITS;

    fn expired(wheel: &mut Wheel<u64>, now: u64) -> Vec<u64> {
        let mut out = Vec::new();
        assert!(!wheel.expire(Nanos(now), usize::MAX, &mut out));
        out
    }

    #[test]
    fn a_timer_comes_never_early_and_at_most_a_beat_late() {
        for start in [0, 1, BEAT - 1, 63 * BEAT, 12_345_678_901_234, u64::MAX / 2] {
            for span in [0, 1, BEAT, 63 * BEAT, 64 * BEAT, 65 * BEAT + 1, 5000 * BEAT, BEAT << 30] {
                let mut wheel = Wheel::new(Nanos(start));
                let deadline = start + span;
                wheel.arm(Nanos(deadline), 1);
                if let Some(before) = deadline.checked_sub(1).filter(|&before| before >= start) {
                    assert!(expired(&mut wheel, before).is_empty(), "{start} + {span}");
                }
                assert_eq!(expired(&mut wheel, deadline + BEAT), [1], "{start} + {span}");
                assert_eq!(wheel.next_due(), None);
            }
        }
    }

    #[test]
    fn the_last_moment_can_be_armed() {
        let mut wheel = Wheel::new(Nanos(3));
        wheel.arm(Nanos(u64::MAX), 9);
        assert!(expired(&mut wheel, u64::MAX - BEAT).is_empty());
        assert_eq!(expired(&mut wheel, u64::MAX), [9]);
    }

    #[test]
    fn a_stale_id_misses() {
        let mut wheel = Wheel::new(Nanos(0));
        let a = wheel.arm(Nanos(BEAT), 1);
        assert_eq!(wheel.cancel(a), Some(1));
        assert_eq!(wheel.cancel(a), None);
        let b = wheel.arm(Nanos(BEAT), 2);
        assert_eq!(wheel.cancel(a), None);
        assert_eq!(expired(&mut wheel, BEAT), [2]);
        assert_eq!(wheel.cancel(b), None);
        assert!(wheel.is_empty());
    }

    #[test]
    fn a_budget_cuts_anywhere_and_loses_nothing() {
        let mut wheel = Wheel::new(Nanos(0));
        for i in 0..1000 {
            wheel.arm(Nanos((i % 100 + 64) * BEAT), i);
        }
        let now = 200 * BEAT;
        let mut out = Vec::new();
        let mut calls = 0;
        while wheel.expire(Nanos(now), 7, &mut out) {
            assert_eq!(wheel.next_due().map(|due| due.0 <= now), Some(true));
            calls += 1;
        }
        assert!(calls >= 1000 / 7, "{calls}");
        assert!(out.is_sorted_by_key(|i| i % 100), "earliest beat first");
        out.sort_unstable();
        assert_eq!(out, (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn it_does_what_a_sorted_map_does() {
        for seed in 0..60 {
            let mut prng = Prng::new(seed);
            let mut now = prng.next_u64() >> (1 + prng.below(40));
            let mut wheel = Wheel::new(Nanos(now));
            // By id: the beat a timer comes at and its value.
            let mut model: BTreeMap<u64, (u64, TimerId)> = BTreeMap::new();
            let mut unfinished = false;
            for value in 0..2000 {
                match prng.below(10) {
                    0..5 => {
                        let reach = prng.below(45) as u32;
                        let deadline =
                            (now + (prng.next_u64() >> 20 >> reach)).saturating_sub(BEAT);
                        let id = wheel.arm(Nanos(deadline), value);
                        model.insert(value, (deadline.div_ceil(BEAT), id));
                    }
                    5..7 if !model.is_empty() => {
                        let nth = prng.below(model.len() as u64) as usize;
                        let (&value, &(_, id)) = model.iter().nth(nth).unwrap();
                        model.remove(&value);
                        assert_eq!(wheel.cancel(id), Some(value), "seed {seed}");
                    }
                    _ => {
                        if !unfinished {
                            now += prng.next_u64() >> 22 >> prng.below(42);
                        }
                        let budget = if prng.chance(1, 2) { 3 } else { usize::MAX };
                        let mut out = Vec::new();
                        unfinished = wheel.expire(Nanos(now), budget, &mut out);
                        for value in out {
                            let (beat, _) = model.remove(&value).expect("came once");
                            assert!(beat <= now / BEAT, "seed {seed}: {value} came early");
                        }
                        if !unfinished {
                            let late =
                                model.values().filter(|(beat, _)| *beat <= now / BEAT).count();
                            assert_eq!(late, 0, "seed {seed}");
                        }
                    }
                }
                assert_eq!(wheel.len(), model.len(), "seed {seed}");
                let earliest = model.values().map(|&(beat, _)| beat.max(now / BEAT)).min();
                match (wheel.next_due(), earliest) {
                    (None, None) => {}
                    (Some(due), Some(beat)) => assert!(due.0 / BEAT <= beat, "seed {seed}"),
                    other => panic!("seed {seed}: {other:?}"),
                }
            }
        }
    }
}
