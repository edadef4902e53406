//! A list that usually has one item, and then needs no memory of its own.
//!
//! Most channels have subscribers on one shard, in one lane; with 10,000 channels the difference
//! is measured in megabytes.

use std::slice;

/// None, one or many items, contiguous.
#[derive(Clone, Debug, Default)]
pub(crate) enum Few<T> {
    #[default]
    None,
    One(T),
    Many(Vec<T>),
}

impl<T> Few<T> {
    pub(crate) fn as_slice(&self) -> &[T] {
        match self {
            Self::None => &[],
            Self::One(item) => slice::from_ref(item),
            Self::Many(items) => items,
        }
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [T] {
        match self {
            Self::None => &mut [],
            Self::One(item) => slice::from_mut(item),
            Self::Many(items) => items,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.as_slice().is_empty()
    }

    /// Puts an item before position `at`, which is at most the length.
    pub(crate) fn insert(&mut self, at: usize, item: T) {
        *self = match std::mem::take(self) {
            Self::None => Self::One(item),
            Self::One(first) if at == 0 => Self::Many(vec![item, first]),
            Self::One(first) => Self::Many(vec![first, item]),
            Self::Many(mut items) => {
                items.insert(at, item);
                Self::Many(items)
            }
        };
    }

    pub(crate) fn push(&mut self, item: T) {
        match self {
            Self::Many(items) => items.push(item),
            _ => self.insert(self.as_slice().len(), item),
        }
    }

    /// Removes the item at `at`, which must be there; those behind it move up.
    pub(crate) fn remove(&mut self, at: usize) {
        self.remove_by(at, |items| {
            items.remove(at);
        });
    }

    /// Removes the item at `at`, which must be there; the last one takes its place.
    pub(crate) fn swap_remove(&mut self, at: usize) {
        self.remove_by(at, |items| {
            items.swap_remove(at);
        });
    }

    fn remove_by(&mut self, at: usize, from: impl FnOnce(&mut Vec<T>)) {
        assert!(at < self.as_slice().len(), "removing an item that is not there");
        let Self::Many(items) = self else {
            *self = Self::None;
            return;
        };
        from(items);
        if items.is_empty() {
            *self = Self::None;
        } else if items.capacity() > 64 && items.len() < items.capacity() / 4 {
            // A channel that was crowded once does not hold on to the room for ever.
            items.shrink_to(items.len() * 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_does_what_a_vec_does() {
        let (mut few, mut plain) = (Few::None, Vec::new());
        // A fixed walk through growing and shrinking, by position.
        for step in 0u32..4000 {
            let grow = step % 7 < if step % 400 < 200 { 5 } else { 2 };
            let at = (step as usize * 31) % (plain.len() + 1);
            match (grow, step % 2) {
                (true, 0) => (few.insert(at, step), plain.insert(at, step)).0,
                (true, _) => (few.push(step), plain.push(step)).0,
                (false, 0) if at < plain.len() => (few.remove(at), plain.remove(at)).0,
                (false, _) if at < plain.len() => (few.swap_remove(at), plain.swap_remove(at)).0,
                _ => (),
            }
            assert_eq!(few.as_slice(), plain);
            assert_eq!(few.as_mut_slice(), plain);
            assert_eq!(few.is_empty(), plain.is_empty());
        }
    }

    #[test]
    fn one_item_needs_no_more_room_than_a_vec() {
        assert_eq!(size_of::<Few<(u32, u32)>>(), size_of::<Vec<u8>>());
    }
}
