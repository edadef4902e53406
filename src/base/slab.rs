//! A table whose slots are reused and whose keys are not.

use std::mem;

/// How many bytes one chunk aims for; big entries still share one with a few others.
const CHUNK_BYTES: usize = 16 * 1024;
/// The fewest entries in one chunk.
const CHUNK_ENTRIES_MIN: usize = 8;
/// Ends the list of free slots.
const NONE: u32 = u32::MAX;

/// Values in dense `u32` slots, each use of a slot with a generation of its own.
///
/// A key is a slot and a generation; a key whose value was removed misses for ever (2^32 uses of
/// one slot), so it may lie around in the kernel, in a mailbox or on a wire. Storage grows by
/// chunks and never moves, so a big value is written once; a slot freed last is used first, while it
/// is still in the cache. Memory is not given back before the slab is dropped.
#[derive(Debug)]
pub struct Slab<T> {
    /// Every chunk but the last is full; none is ever longer than [`Slab::CHUNK`].
    chunks: Vec<Vec<Entry<T>>>,
    free_first: u32,
    len: usize,
    seed: u32,
}

#[derive(Debug)]
struct Entry<T> {
    /// Of the value that is here or, in a free slot, of the next one.
    generation: u32,
    state: State<T>,
}

#[derive(Debug)]
enum State<T> {
    Free { next: u32 },
    Taken(T),
}

impl<T> Slab<T> {
    /// Entries per chunk: a power of two, so that a slot splits into chunk and place by shift and mask.
    const CHUNK: usize = {
        let fit = CHUNK_BYTES / mem::size_of::<Entry<T>>();
        let least = if fit > CHUNK_ENTRIES_MIN { fit } else { CHUNK_ENTRIES_MIN };
        1 << least.ilog2()
    };

    /// An empty slab. Generations start from `seed`: a random one keeps keys from repeating across
    /// restarts of the process, a fixed one makes a run repeatable.
    pub fn new(seed: u32) -> Self {
        Self { chunks: Vec::new(), free_first: NONE, len: 0, seed }
    }

    /// How many values are held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if no value is held.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// One more than the highest slot ever used: fit for sizing a table beside this one.
    pub fn slots(&self) -> usize {
        match self.chunks.last() {
            Some(last) => (self.chunks.len() - 1) * Self::CHUNK + last.len(),
            None => 0,
        }
    }

    /// The slot and generation the next [`Slab::insert`] will give, for a value that must know its key.
    pub fn next_key(&self) -> (u32, u32) {
        match self.entry(self.free_first) {
            Some(entry) => (self.free_first, entry.generation),
            None => {
                let slot = self.slots() as u32;
                (slot, self.generation_first(slot))
            }
        }
    }

    /// Takes a value in and gives its slot and generation. Slots are dense: the highest in use is
    /// below the greatest [`Slab::len`] there has been.
    pub fn insert(&mut self, value: T) -> (u32, u32) {
        let slot = self.free_first;
        self.len += 1;
        if let Some(entry) = self.entry_mut(slot) {
            let State::Free { next } = mem::replace(&mut entry.state, State::Taken(value)) else {
                unreachable!("slot {slot} is in the free list and taken");
            };
            let generation = entry.generation;
            self.free_first = next;
            return (slot, generation);
        }
        let slots = self.slots();
        assert!(slots < NONE as usize, "a slab has less than 2^32 - 1 slots");
        let slot = slots as u32;
        let generation = self.generation_first(slot);
        let entry = Entry { generation, state: State::Taken(value) };
        match self.chunks.last_mut() {
            Some(last) if last.len() < Self::CHUNK => last.push(entry),
            _ => {
                let mut chunk = Vec::with_capacity(Self::CHUNK);
                chunk.push(entry);
                self.chunks.push(chunk);
            }
        }
        (slot, generation)
    }

    /// The value of this key, if it is still held.
    pub fn get(&self, slot: u32, generation: u32) -> Option<&T> {
        match self.entry(slot)? {
            Entry { generation: current, state: State::Taken(value) } if *current == generation => {
                Some(value)
            }
            _ => None,
        }
    }

    /// The value of this key, to change, if it is still held.
    pub fn get_mut(&mut self, slot: u32, generation: u32) -> Option<&mut T> {
        match self.entry_mut(slot)? {
            Entry { generation: current, state: State::Taken(value) } if *current == generation => {
                Some(value)
            }
            _ => None,
        }
    }

    /// What is in a slot now, with its generation, whoever it belongs to.
    pub fn at(&self, slot: u32) -> Option<(u32, &T)> {
        match self.entry(slot)? {
            Entry { generation, state: State::Taken(value) } => Some((*generation, value)),
            _ => None,
        }
    }

    /// What is in a slot now, to change, with its generation, whoever it belongs to.
    pub fn at_mut(&mut self, slot: u32) -> Option<(u32, &mut T)> {
        match self.entry_mut(slot)? {
            Entry { generation, state: State::Taken(value) } => Some((*generation, value)),
            _ => None,
        }
    }

    /// Takes the value of this key out, if it is still held. The key misses from now on.
    pub fn remove(&mut self, slot: u32, generation: u32) -> Option<T> {
        let next = self.free_first;
        let entry = self.entry_mut(slot)?;
        if entry.generation != generation || matches!(entry.state, State::Free { .. }) {
            return None;
        }
        // The new generation makes old keys miss instead of landing on whoever takes the slot.
        entry.generation = generation.wrapping_add(1);
        let State::Taken(value) = mem::replace(&mut entry.state, State::Free { next }) else {
            unreachable!("a free slot left above");
        };
        self.free_first = slot;
        self.len -= 1;
        Some(value)
    }

    /// Slot, generation and value of everything held, by slot.
    pub fn iter(&self) -> impl Iterator<Item = (u32, u32, &T)> {
        self.chunks.iter().flatten().enumerate().filter_map(|(slot, entry)| match &entry.state {
            State::Taken(value) => Some((slot as u32, entry.generation, value)),
            State::Free { .. } => None,
        })
    }

    /// Slot, generation and value, to change, of everything held, by slot.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u32, u32, &mut T)> {
        let entries = self.chunks.iter_mut().flatten().enumerate();
        entries.filter_map(|(slot, entry)| match &mut entry.state {
            State::Taken(value) => Some((slot as u32, entry.generation, value)),
            State::Free { .. } => None,
        })
    }

    /// Where the generations of a slot start. Slots differ, so that the first keys of a fresh slab
    /// do not all share one generation.
    fn generation_first(&self, slot: u32) -> u32 {
        self.seed.wrapping_add(slot.wrapping_mul(0x9e37_79b1))
    }

    fn entry(&self, slot: u32) -> Option<&Entry<T>> {
        let slot = slot as usize;
        self.chunks.get(slot / Self::CHUNK)?.get(slot % Self::CHUNK)
    }

    fn entry_mut(&mut self, slot: u32) -> Option<&mut Entry<T>> {
        let slot = slot as usize;
        self.chunks.get_mut(slot / Self::CHUNK)?.get_mut(slot % Self::CHUNK)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::base::prng::Prng;

    #[test]
    fn a_stale_key_misses() {
        let mut slab = Slab::new(5);
        let expected = slab.next_key();
        let (slot, generation) = slab.insert("a");
        assert_eq!((slot, generation), expected);
        assert_eq!(slab.get(slot, generation), Some(&"a"));
        assert_eq!(slab.get(slot, generation.wrapping_add(1)), None);
        assert_eq!(slab.get(slot + 1, generation), None);
        assert_eq!(slab.get(u32::MAX, generation), None);
        assert_eq!(slab.remove(slot, generation), Some("a"));
        assert_eq!(slab.remove(slot, generation), None);
        // The free slot already has its next generation; it must not look taken.
        assert_eq!(slab.get(slot, generation.wrapping_add(1)), None);
        assert_eq!(slab.remove(slot, generation.wrapping_add(1)), None);
        let expected = slab.next_key();
        let again = slab.insert("b");
        assert_eq!(again, expected);
        assert_eq!(again.0, slot, "the slot is used again");
        assert_ne!(again.1, generation, "the generation is not");
        assert_eq!(slab.get_mut(slot, generation), None);
        assert_eq!(slab.at(slot), Some((again.1, &"b")));
    }

    #[test]
    fn generations_pass_the_end_of_their_numbers() {
        let mut slab = Slab::new(u32::MAX);
        let first = slab.insert(());
        assert_eq!(first, (0, u32::MAX));
        assert_eq!(slab.remove(first.0, first.1), Some(()));
        assert_eq!(slab.insert(()), (0, 0));
    }

    #[test]
    fn values_never_move() {
        let mut slab = Slab::new(0);
        let first = slab.insert([0_u8; 3000]);
        let before: *const _ = slab.get(first.0, first.1).unwrap();
        for _ in 0..1000 {
            slab.insert([1; 3000]);
        }
        assert!(std::ptr::eq(before, slab.get(first.0, first.1).unwrap()));
        assert_eq!(slab.slots(), 1001);
    }

    #[test]
    fn it_does_what_a_map_does() {
        for seed in 0..20 {
            let mut prng = Prng::new(seed);
            let mut slab = Slab::new(prng.next_u32());
            let mut model = BTreeMap::new();
            let mut gone = Vec::new();
            let mut len_max = 0;
            for step in 0..3000_u32 {
                if prng.chance(11, 20) {
                    let key = slab.insert(step);
                    assert!(!gone.contains(&key), "seed {seed}: {key:?} came twice");
                    assert_eq!(model.insert(key, step), None, "seed {seed}");
                } else if !model.is_empty() {
                    let nth = prng.below(model.len() as u64) as usize;
                    let (&key, &value) = model.iter().nth(nth).unwrap();
                    model.remove(&key);
                    assert_eq!(slab.remove(key.0, key.1), Some(value), "seed {seed}");
                    gone.push(key);
                }
                len_max = len_max.max(slab.len());
            }
            let held: Vec<_> = slab.iter().map(|(s, g, &v)| ((s, g), v)).collect();
            assert_eq!(held, model.into_iter().collect::<Vec<_>>(), "seed {seed}");
            assert_eq!(slab.len(), held.len(), "seed {seed}");
            assert_eq!(slab.slots(), len_max, "seed {seed}: slots are dense");
            assert!(gone.iter().all(|&(s, g)| slab.get(s, g).is_none()), "seed {seed}");
        }
    }
}
