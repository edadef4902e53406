//! Which shard is a channel's home.
//!
//! The name is hashed into one of [`SLOTS`] slots, and a table built at start says whose each slot
//! is. The hash has a key of this process, because names come from outside: nobody can aim many
//! channels at one shard, or at one bucket of a table.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::base::ids::{AppIndex, ShardId};
use crate::broker::{Channel, companion};

/// How many slots there are; many times the shards there can be, so that each has an even share.
pub const SLOTS: usize = 4096;
const _: () = assert!(SLOTS.is_power_of_two(), "a hash is masked, not divided");

/// The table of slots. Every shard has the same one.
#[derive(Debug)]
pub struct Slots {
    key: [u64; 2],
    owners: Box<[ShardId]>,
    shards: u16,
}

impl Slots {
    /// Spreads the slots evenly over `shards` shards. `key` is random and the same on all shards.
    ///
    /// # Panics
    /// Without a single shard there is no home.
    pub fn new(shards: u16, key: [u64; 2]) -> Self {
        assert!(shards > 0, "a channel needs a shard to live on");
        let owners = (0..SLOTS).map(|slot| ShardId((slot % usize::from(shards)) as u16)).collect();
        Self { key, owners, shards }
    }

    /// How many shards there are.
    pub fn shards(&self) -> u16 {
        self.shards
    }

    /// The shard that orders this channel's events. Channels that go with another are at home where that one is.
    pub fn home_of(&self, channel: &Channel) -> ShardId {
        // The upper half of the hash: tables are indexed by the lower one, and all channels of one
        // home agree in some bits of what chose it.
        let name = companion::base(&channel.name);
        let slot = (self.hash(channel.app, name) >> 32) as usize & (SLOTS - 1);
        self.owners[slot]
    }

    /// The keyed hash of a channel's name.
    pub fn hash(&self, app: AppIndex, name: &str) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.key[0] ^ u64::from(app.0), self.key[1]);
        hasher.write(name.as_bytes());
        hasher.finish()
    }

    /// The keyed hash of two texts from outside.
    pub(crate) fn hash_pair(&self, first: &str, second: &str) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.key[0], self.key[1]);
        hasher.write(first.as_bytes());
        // No byte of UTF-8: where one ends and the other begins counts.
        hasher.write_u8(0xff);
        hasher.write(second.as_bytes());
        hasher.finish()
    }

    /// The keyed hash of a pair of numbers of ours; a few cycles. Peers have some say in the numbers,
    /// but do not know the key.
    pub(crate) fn mix(&self, a: u32, b: u32) -> u64 {
        let pair = (u64::from(a) << 32 | u64::from(b)) ^ self.key[0];
        // A folded multiplication; the odd factor is 2^64 divided by the golden ratio.
        let wide = u128::from(pair) * u128::from(self.key[1] ^ 0x9e37_79b9_7f4a_7c15 | 1);
        wide as u64 ^ (wide >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::name::Name;

    fn channel(app: u16, name: &str) -> Channel {
        Channel { app: AppIndex(app), name: Name::from(name) }
    }

    #[test]
    fn every_shard_gets_its_share() {
        for shards in [1u16, 2, 3, 7, 64, 255] {
            let slots = Slots::new(shards, [7, 9]);
            let mut counts = vec![0u32; usize::from(shards)];
            let total = 2000 * u32::from(shards).min(16);
            for n in 0..total {
                counts[slots.home_of(&channel(0, &format!("room-{n}"))).index()] += 1;
            }
            let fair = total / u32::from(shards);
            assert!(counts.iter().all(|&n| n > fair / 4 && n < fair * 2 + 60), "{counts:?}");
        }
    }

    #[test]
    fn the_key_and_the_app_move_a_channel() {
        let (a, b) = (Slots::new(251, [1, 2]), Slots::new(251, [1, 3]));
        let moved = |f: &dyn Fn(&Channel) -> bool| {
            (0..100).filter(|n| f(&channel(0, &format!("x{n}")))).count()
        };
        assert!(moved(&|c| a.home_of(c) != b.home_of(c)) > 90);
        let elsewhere = |c: &Channel| Channel { app: AppIndex(1), name: c.name.clone() };
        assert!(moved(&|c| a.home_of(c) != a.home_of(&elsewhere(c))) > 90);
        assert_eq!(moved(&|c| a.home_of(c) != a.home_of(&c.clone())), 0);
        for companion in [companion::meta, companion::presence_history] {
            let with = |c: &Channel| Channel { app: c.app, name: companion(&c.name) };
            assert_eq!(moved(&|c| a.home_of(c) != a.home_of(&with(c))), 0);
        }
    }
}
