//! Items with small numbers that are used again.

use std::ops::{Index, IndexMut};

/// A list with holes. Whoever holds a number says when it is free; there are no generations, because
/// numbers never leave the room.
///
/// It grows by a chunk at a time, so that a full pool of a million does not stop the shard to move
/// house, and no more than a chunk is ever spare at its end.
#[derive(Debug)]
pub(crate) struct Pool<T> {
    /// All full to capacity but the last.
    chunks: Vec<Vec<Place<T>>>,
    /// The place freed last, [`NONE`] if all are taken.
    free: u32,
    len: usize,
}

#[derive(Debug)]
enum Place<T> {
    Taken(T),
    /// The place freed before this one.
    Free(u32),
}

const CHUNK: usize = 256;
const _: () = assert!(CHUNK.is_power_of_two(), "a number is masked, not divided");

/// No place: ends the chain of free ones.
const NONE: u32 = u32::MAX;

impl<T> Pool<T> {
    pub(crate) fn new() -> Self {
        Self { chunks: Vec::new(), free: NONE, len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn insert(&mut self, item: T) -> u32 {
        self.len += 1;
        let number = self.free;
        if number != NONE {
            let place = self.place_mut(number);
            let Place::Free(before) = std::mem::replace(place, Place::Taken(item)) else {
                unreachable!("a free place holds an item")
            };
            self.free = before;
            return number;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            assert!(self.chunks.len() < NONE as usize / CHUNK, "numbers are 32 bits wide");
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let at = self.chunks.len() - 1;
        let chunk = &mut self.chunks[at];
        chunk.push(Place::Taken(item));
        (at * CHUNK + chunk.len() - 1) as u32
    }

    /// Frees a number that is taken.
    pub(crate) fn remove(&mut self, number: u32) -> T {
        let free = self.free;
        let Place::Taken(item) = std::mem::replace(self.place_mut(number), Place::Free(free))
        else {
            panic!("place {number} freed twice");
        };
        self.free = number;
        self.len -= 1;
        item
    }

    /// The items with numbers from `from` on, among `most` places, and where the next portion begins, if
    /// there is one.
    pub(crate) fn portion(
        &self,
        from: u32,
        most: usize,
    ) -> (impl Iterator<Item = &T>, Option<u32>) {
        let places = self.places() as usize;
        let end = places.min((from as usize).saturating_add(most));
        let items =
            (from as usize..end).filter_map(|at| match &self.chunks[at / CHUNK][at % CHUNK] {
                Place::Taken(item) => Some(item),
                Place::Free(_) => None,
            });
        (items, (end < places).then_some(end as u32))
    }

    /// One more than the highest number in use.
    pub(crate) fn places(&self) -> u32 {
        let full = self.chunks.len().saturating_sub(1) * CHUNK;
        self.chunks.last().map_or(0, |last| (full + last.len()) as u32)
    }

    /// Whether a number is in use.
    pub(crate) fn is_taken(&self, number: u32) -> bool {
        number < self.places()
            && matches!(
                self.chunks[number as usize / CHUNK][number as usize % CHUNK],
                Place::Taken(_)
            )
    }

    fn place_mut(&mut self, number: u32) -> &mut Place<T> {
        &mut self.chunks[number as usize / CHUNK][number as usize % CHUNK]
    }
}

impl<T> Index<u32> for Pool<T> {
    type Output = T;
    fn index(&self, number: u32) -> &T {
        match &self.chunks[number as usize / CHUNK][number as usize % CHUNK] {
            Place::Taken(item) => item,
            Place::Free(_) => panic!("place {number} is free"),
        }
    }
}

impl<T> IndexMut<u32> for Pool<T> {
    fn index_mut(&mut self, number: u32) -> &mut T {
        match self.place_mut(number) {
            Place::Taken(item) => item,
            Place::Free(_) => panic!("place {number} is free"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_used_again() {
        let mut pool = Pool::new();
        let [a, b, c] = ["a", "b", "c"].map(|item| pool.insert(item));
        assert_eq!((pool[a], pool[b], pool[c], pool.len()), ("a", "b", "c", 3));
        assert_eq!((pool.remove(a), pool.remove(c)), ("a", "c"));
        assert_eq!(pool.portion(0, 9).0.collect::<Vec<_>>(), [&"b"]);
        assert_eq!((pool.insert("d"), pool.insert("e"), pool.insert("f")), (c, a, 3));
        pool[a] = "g";
        assert_eq!((pool[a], pool.len()), ("g", 4));
    }

    #[test]
    fn it_grows_past_its_chunks() {
        let mut pool = Pool::new();
        let numbers: Vec<_> = (0..3 * CHUNK + 1).map(|n| pool.insert(n)).collect();
        assert!(numbers.iter().enumerate().all(|(n, &number)| pool[number] == n));
        assert!(pool.portion(0, usize::MAX).0.copied().eq(0..3 * CHUNK + 1));
        let (mut from, mut all) = (Some(0), Vec::new());
        while let Some(at) = from {
            let (items, rest) = pool.portion(at, 100);
            all.extend(items.copied());
            from = rest;
        }
        assert!(all.into_iter().eq(0..3 * CHUNK + 1));
        assert_eq!((pool.portion(5000, 1).0.count(), pool.portion(5000, 1).1), (0, None));
        for (n, &number) in numbers.iter().enumerate() {
            assert_eq!(pool.remove(number), n);
        }
        assert_eq!((pool.len(), pool.portion(0, 5000).0.count()), (0, 0));
    }

    #[test]
    #[should_panic(expected = "freed twice")]
    fn a_number_is_freed_once() {
        let mut pool = Pool::new();
        let number = pool.insert(());
        pool.remove(number);
        pool.remove(number);
    }
}
