//! The facts about the machine that some defaults are derived from.

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

impl Machine {
    /// Reads the facts; what cannot be read is assumed small.
    ///
    /// The descriptor limit is the soft one, as it is at the moment of the call.
    pub fn here() -> Self {
        let small = Self::small();
        let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        // Within a container's own namespace its group is the root: version 2, then version 1.
        let group = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
            .iter()
            .find_map(|path| std::fs::read_to_string(path).ok())
            .and_then(|text| text.trim().parse::<u64>().ok())
            .unwrap_or(u64::MAX);
        Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            descriptors_max: descriptors_max(&limits).unwrap_or(small.descriptors_max),
            memory_bytes: memory_bytes(&memory).unwrap_or(small.memory_bytes).min(group),
        }
    }

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

    /// As many connections as there are descriptors left.
    pub(crate) fn connections_max(&self, shards: u16, listeners: usize) -> u32 {
        let reserved = Self::descriptors_reserved(shards, listeners);
        let left = self.descriptors_max.saturating_sub(reserved).max(16);
        let slots = u64::from(shards) * CONNECTIONS_PER_SHARD_MAX as u64;
        u32::try_from(left.min(slots)).unwrap_or(u32::MAX)
    }

    /// A quarter of memory for all outboxes, and never less than one may hold.
    pub(crate) fn outbox_bytes_per_shard_max(&self, shards: u16, high_water: usize) -> usize {
        let share = self.memory_bytes / 4 / u64::from(shards.max(1));
        usize::try_from(share).unwrap_or(usize::MAX).max(high_water)
    }
}

/// The soft limit in the text of `/proc/self/limits`.
fn descriptors_max(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

/// All memory in the text of `/proc/meminfo`.
fn memory_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_texts_are_understood() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max open files            20000                524288               files\n";
        assert_eq!(descriptors_max(limits), Some(20_000));
        assert_eq!(descriptors_max("Max open files  unlimited  unlimited  files"), Some(u64::MAX));
        assert_eq!(descriptors_max("Max processes 1 2 x"), None);
        assert_eq!(memory_bytes("MemTotal:       24000000 kB\n"), Some(24_000_000 * 1024));
        assert_eq!(memory_bytes("MemTotal: many kB"), None);
    }

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
        assert_eq!(huge.connections_max(1, 1), 1 << 24);
        assert_eq!(huge.connections_max(256, 1), u32::MAX);
    }
}
