//! Items with small numbers that are used again.

use std::ops::{Index, IndexMut};

/// A list with holes. Whoever holds a number says when it is free; there are no generations, because
/// numbers never leave the room.
#[derive(Debug)]
pub(crate) struct Pool<T> {
    places: Vec<Place<T>>,
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

/// No place: ends the chain of free ones.
const NONE: u32 = u32::MAX;

impl<T> Pool<T> {
    pub(crate) fn new() -> Self {
        Self { places: Vec::new(), free: NONE, len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn insert(&mut self, item: T) -> u32 {
        self.len += 1;
        let number = self.free;
        match self.places.get_mut(number as usize) {
            Some(place) => {
                let Place::Free(before) = *place else {
                    unreachable!("a free place holds an item")
                };
                self.free = before;
                *place = Place::Taken(item);
                number
            }
            None => {
                assert!(self.places.len() < NONE as usize, "numbers are 32 bits wide");
                self.places.push(Place::Taken(item));
                (self.places.len() - 1) as u32
            }
        }
    }

    /// Frees a number that is taken.
    pub(crate) fn remove(&mut self, number: u32) -> T {
        let place = &mut self.places[number as usize];
        let Place::Taken(item) = std::mem::replace(place, Place::Free(self.free)) else {
            panic!("place {number} freed twice");
        };
        self.free = number;
        self.len -= 1;
        item
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.places.iter().filter_map(|place| match place {
            Place::Taken(item) => Some(item),
            Place::Free(_) => None,
        })
    }
}

impl<T> Index<u32> for Pool<T> {
    type Output = T;
    fn index(&self, number: u32) -> &T {
        match &self.places[number as usize] {
            Place::Taken(item) => item,
            Place::Free(_) => panic!("place {number} is free"),
        }
    }
}

impl<T> IndexMut<u32> for Pool<T> {
    fn index_mut(&mut self, number: u32) -> &mut T {
        match &mut self.places[number as usize] {
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
        assert_eq!(pool.iter().collect::<Vec<_>>(), [&"b"]);
        assert_eq!((pool.insert("d"), pool.insert("e"), pool.insert("f")), (c, a, 3));
        pool[a] = "g";
        assert_eq!((pool[a], pool.len()), ("g", 4));
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
