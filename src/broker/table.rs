//! Channels by name and by number.
//!
//! A channel has a number for as long as it is in the table, so that what belongs to it can point
//! at it with four bytes; the number of a removed channel is used again.

use std::sync::Arc;

use hashbrown::HashTable;

use super::pool::Pool;
use super::slots::Slots;
use crate::base::ids::AppIndex;
use crate::broker::Channel;

/// What a [`Table`] holds: it knows its channel.
pub(crate) trait Keyed {
    fn channel(&self) -> &Channel;
}

/// A bucket: half of the name's hash beside the number, so that growing the table and passing over a
/// stranger in the same bucket touch no names.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    hash: u32,
    number: u32,
}

impl Bucket {
    /// The table takes its index from the low bits and its tag from the top ones.
    fn spread(hash: u32) -> u64 {
        u64::from(hash) << 32 | u64::from(hash)
    }
}

#[derive(Debug)]
pub(crate) struct Table<T> {
    slots: Arc<Slots>,
    buckets: HashTable<Bucket>,
    pool: Pool<T>,
}

impl<T: Keyed> Table<T> {
    pub(crate) fn new(slots: Arc<Slots>) -> Self {
        Self { slots, buckets: HashTable::new(), pool: Pool::new() }
    }

    /// Where channels are at home.
    pub(crate) fn slots(&self) -> &Slots {
        &self.slots
    }

    pub(crate) fn len(&self) -> usize {
        self.pool.len()
    }

    /// The channel's number. Allocates nothing.
    pub(crate) fn find(&self, app: AppIndex, name: &str) -> Option<u32> {
        let hash = self.slots.hash(app, name) as u32;
        let is_it = |bucket: &Bucket| {
            bucket.hash == hash && {
                let channel = self.pool[bucket.number].channel();
                channel.app == app && *channel.name == *name
            }
        };
        self.buckets.find(Bucket::spread(hash), is_it).map(|bucket| bucket.number)
    }

    /// Adds what [`Table::find`] did not find and numbers it.
    pub(crate) fn insert(&mut self, item: T) -> u32 {
        let channel = item.channel();
        debug_assert!(self.find(channel.app, &channel.name).is_none(), "one entry per channel");
        let hash = self.slots.hash(channel.app, &channel.name) as u32;
        let number = self.pool.insert(item);
        self.buckets.insert_unique(Bucket::spread(hash), Bucket { hash, number }, |bucket| {
            Bucket::spread(bucket.hash)
        });
        number
    }

    /// Removes a channel that is there.
    pub(crate) fn remove(&mut self, number: u32) -> T {
        let item = self.pool.remove(number);
        let hash = self.slots.hash(item.channel().app, &item.channel().name) as u32;
        let found = self.buckets.find_entry(Bucket::spread(hash), |b| b.number == number);
        found.expect("a numbered channel has its bucket").remove();
        item
    }

    /// One more than the highest number in use.
    pub(crate) fn places(&self) -> u32 {
        self.pool.places()
    }

    /// Whether a number is in use.
    pub(crate) fn is_taken(&self, number: u32) -> bool {
        self.pool.is_taken(number)
    }

    /// Those with numbers from `from` on, `most` at most, and where the next portion begins, if there is one.
    pub(crate) fn portion(
        &self,
        from: u32,
        most: usize,
    ) -> (impl Iterator<Item = &T>, Option<u32>) {
        self.pool.portion(from, most)
    }
}

impl<T> std::ops::Index<u32> for Table<T> {
    type Output = T;
    fn index(&self, number: u32) -> &T {
        &self.pool[number]
    }
}

impl<T> std::ops::IndexMut<u32> for Table<T> {
    fn index_mut(&mut self, number: u32) -> &mut T {
        &mut self.pool[number]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::name::Name;

    impl Keyed for Channel {
        fn channel(&self) -> &Channel {
            self
        }
    }

    #[test]
    fn channels_are_found_by_app_and_name_until_removed() {
        let mut table = Table::new(Arc::new(Slots::new(1, [3, 4])));
        let channel =
            |app, n: u32| Channel { app: AppIndex(app), name: format!("c{n}")[..].into() };
        let mut numbers = Vec::new();
        for n in 0..1000 {
            for app in [0, 1] {
                assert_eq!(table.find(AppIndex(app), &channel(app, n).name), None);
                numbers.push((app, n, table.insert(channel(app, n))));
            }
        }
        for &(app, n, number) in &numbers {
            assert_eq!(table.find(AppIndex(app), &channel(app, n).name), Some(number));
            assert_eq!(table[number], channel(app, n));
        }
        for &(app, n, number) in &numbers {
            assert_eq!(table.remove(number), channel(app, n));
            assert_eq!(table.find(AppIndex(app), &Name::from(&*format!("c{n}"))), None);
        }
        assert_eq!(table.len(), 0);
        assert_eq!(table.portion(0, 5000).0.count(), 0);
    }
}
