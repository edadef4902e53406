//! What changed from one run of bytes to the next, for a peer that holds the first.
//!
//! [`changes`] finds the runs of a base that a target repeats; [`fossil`] and [`vcdiff`] write them down. Both can be read
//! back here, too, so that tests and tools need nobody else for it.

pub mod fossil;
pub mod vcdiff;

use std::ops::Range;

/// Why a delta cannot be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeltaError {
    /// It is not of the format, or ends too early.
    Malformed,
    /// It names bytes that the base does not have.
    OutOfBase,
    /// It makes more than the caller takes, or another number of bytes than it says.
    Length,
    /// What it makes is not what was encoded: another base.
    Checksum,
}

/// A part of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// These bytes of the base.
    Copy(Range<usize>),
    /// These bytes of the target.
    Add(Range<usize>),
}

/// Bytes that are looked up together.
const GRAM: usize = 8;
/// Every so many bytes of the base one run is noted.
const STEP: usize = 4;
/// A shorter run costs about as much to name as to repeat.
const COPY_MIN: usize = 12;
/// Slots of the index, at most: a base with more runs than that has some forgotten.
const SLOTS_MAX: usize = 1 << 15;

/// What a target is made of, in order; together the changes are exactly it. Takes time in proportion to both lengths.
pub fn changes(base: &[u8], target: &[u8]) -> Vec<Change> {
    let mut found = Vec::new();
    let prefix = common(base, target);
    let mut at = 0;
    if prefix >= COPY_MIN {
        found.push(Change::Copy(0..prefix));
        at = prefix;
    }
    let rest = base.len().min(target.len()) - at;
    let suffix = base.iter().rev().zip(target.iter().rev()).take(rest);
    let suffix = suffix.take_while(|(a, b)| a == b).count();
    let suffix = if suffix >= COPY_MIN { suffix } else { 0 };
    let end = target.len() - suffix;
    // What comes next in the target and is in no run yet begins here.
    let mut literal = at;
    if end - at >= COPY_MIN && base.len() >= GRAM {
        let index = Index::new(base);
        while at + GRAM <= end {
            let Some(from) = index.find(base, &target[at..at + GRAM]) else {
                at += 1;
                continue;
            };
            let back = base[..from].iter().rev().zip(target[literal..at].iter().rev());
            let back = back.take_while(|(a, b)| a == b).count();
            let length = back + GRAM + common(&base[from + GRAM..], &target[at + GRAM..end]);
            if length < COPY_MIN {
                at += 1;
                continue;
            }
            let start = at - back;
            if literal < start {
                found.push(Change::Add(literal..start));
            }
            found.push(Change::Copy(from - back..from - back + length));
            at = start + length;
            literal = at;
        }
    }
    if literal < end {
        found.push(Change::Add(literal..end));
    }
    if suffix > 0 {
        found.push(Change::Copy(base.len() - suffix..base.len()));
    }
    found
}

/// How many bytes both begin with alike.
fn common(a: &[u8], b: &[u8]) -> usize {
    let mut at = 0;
    while let (Some(a), Some(b)) = (a[at..].first_chunk::<8>(), b[at..].first_chunk::<8>()) {
        let differing = u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b);
        if differing != 0 {
            return at + (differing.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    at + a[at..].iter().zip(&b[at..]).take_while(|(a, b)| a == b).count()
}

/// Where in a base some of its runs are.
struct Index {
    /// One more than where; 0: nowhere.
    slots: Vec<u32>,
}

impl Index {
    fn new(base: &[u8]) -> Self {
        let slots = (base.len() / STEP + 1).next_power_of_two().min(SLOTS_MAX);
        let mut index = Self { slots: vec![0; slots] };
        for (i, gram) in base.windows(GRAM).step_by(STEP).enumerate() {
            let slot = index.slot(gram);
            // The first of a repeated run stays, so that what is alike is named alike.
            if index.slots[slot] == 0 {
                index.slots[slot] = u32::try_from(i * STEP + 1).unwrap_or(0);
            }
        }
        index
    }

    fn find(&self, base: &[u8], gram: &[u8]) -> Option<usize> {
        let at = (self.slots[self.slot(gram)] as usize).checked_sub(1)?;
        (base.get(at..at + GRAM)? == gram).then_some(at)
    }

    fn slot(&self, gram: &[u8]) -> usize {
        let word = gram.first_chunk().map_or(0, |it| u64::from_le_bytes(*it));
        // 2^64 divided by the golden ratio; the top bits are the good ones. Whoever makes collisions makes longer deltas.
        (word.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize & (self.slots.len() - 1)
    }
}

#[cfg(test)]
#[path = "delta_tests.rs"]
mod tests;
