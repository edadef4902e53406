//! The facts about the machine that some defaults are derived from. Whoever loads finds them out.

use crate::base::ids::{CONNECTIONS_PER_SHARD_MAX, SHARDS_MAX};

/// What the machine allows this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Cores this process may run on.
    pub cores: usize,
    /// File descriptors it may have open.
    pub descriptors_max: u64,
    /// Memory it may use, in bytes.
    pub memory_bytes: u64,
}

/// Descriptors that are not connections: standard streams, files, the store, room to answer by.
const DESCRIPTORS_RESERVED: u64 = 128;
/// Descriptors of a shard beside its connections and listeners: ring or epoll, wakers, timers.
const DESCRIPTORS_PER_SHARD: u64 = 16;

/// Memory that a connection may come to need, the kernel's side and some traffic included: idle it
/// is about a third of this.
const CONNECTION_BYTES: u64 = 16 << 10;

/// Room for three bodies of the default limit.
const ASSEMBLY_BYTES_MIN: usize = 32 << 20;

impl Machine {
    /// A machine that any machine is at least as large as.
    pub fn small() -> Self {
        Self { cores: 1, descriptors_max: 1024, memory_bytes: 1 << 30 }
    }

    /// One shard per core.
    pub(crate) fn shards(&self) -> u16 {
        u16::try_from(self.cores.clamp(1, SHARDS_MAX)).unwrap_or(1)
    }

    /// Descriptors that are needed beside those of the connections.
    pub(crate) fn descriptors_reserved(shards: u16, listeners: usize) -> u64 {
        let listeners = u64::try_from(listeners).unwrap_or(u64::MAX);
        DESCRIPTORS_RESERVED + u64::from(shards) * DESCRIPTORS_PER_SHARD.saturating_add(listeners)
    }

    /// As many connections as descriptors and memory allow.
    pub(crate) fn connections_max(&self, shards: u16, listeners: usize) -> u32 {
        let reserved = Self::descriptors_reserved(shards, listeners);
        let left = self.descriptors_max.saturating_sub(reserved);
        let left = left.min(self.memory_bytes / CONNECTION_BYTES).max(16);
        let slots = u64::from(shards) * CONNECTIONS_PER_SHARD_MAX as u64;
        u32::try_from(left.min(slots)).unwrap_or(u32::MAX)
    }

    /// An eighth of memory for all that is not whole yet, and never less than a few bodies need.
    pub(crate) fn assembly_bytes_per_shard_max(&self, shards: u16) -> usize {
        let share = self.memory_bytes / 8 / u64::from(shards.max(1));
        usize::try_from(share).unwrap_or(usize::MAX).max(ASSEMBLY_BYTES_MIN)
    }

    /// A quarter of memory for all outboxes, and never less than one may hold.
    pub(crate) fn outbox_bytes_per_shard_max(&self, shards: u16, high_water: usize) -> usize {
        // In whole MiB, to be readable where it is printed.
        let share = (self.memory_bytes / 4 / u64::from(shards.max(1))) >> 20 << 20;
        usize::try_from(share).unwrap_or(usize::MAX).max(high_water)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_numbers_fit_the_machine() {
        let machine = Machine { cores: 2, descriptors_max: 20_000, memory_bytes: 16 << 30 };
        assert_eq!(machine.shards(), 2);
        assert_eq!(machine.connections_max(2, 1), 20_000 - 128 - 2 * 17);
        assert_eq!(machine.outbox_bytes_per_shard_max(2, 4 << 20), 2 << 30);
        let tiny = Machine { cores: 0, descriptors_max: 10, memory_bytes: 1 << 20 };
        assert_eq!(tiny.shards(), 1);
        assert_eq!(tiny.connections_max(1, 1), 16);
        assert_eq!(tiny.outbox_bytes_per_shard_max(1, 4 << 20), 4 << 20);
        let huge = Machine { cores: 4096, descriptors_max: u64::MAX, memory_bytes: u64::MAX };
        assert_eq!(huge.shards(), 256);
        let roomy = Machine { descriptors_max: 1 << 30, ..machine };
        assert_eq!(roomy.connections_max(2, 1), 1 << 20);
        assert_eq!(huge.connections_max(1, 1), 1 << 24);
        assert_eq!(huge.connections_max(256, 1), u32::MAX);
    }
}
