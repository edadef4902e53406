//! How the store is: numbers its threads write and anyone may read.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

/// Whether the store takes what it is asked to keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Condition {
    /// It does.
    #[default]
    Ok = 0,
    /// Nothing more is written until there is room again; reading and removing go on.
    Full = 1,
    /// The database failed and is being opened again.
    Failed = 2,
    /// It was stopped.
    Stopped = 3,
}

/// The upper ends of the steps in which syncs are counted; the last step has none.
pub const SYNC_STEPS: [Duration; 9] = [
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_millis(2),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(100),
    Duration::from_secs(1),
];

/// The store's state and counters. All but `condition` only grow, except where said.
#[derive(Debug, Default)]
pub struct Health {
    condition: AtomicU8,
    /// Bytes on disk, as last looked at; goes both ways.
    pub used_bytes: AtomicU64,
    /// Bytes of these in journals; goes both ways.
    pub journal_bytes: AtomicU64,
    /// Journals; goes both ways.
    pub journals: AtomicU64,
    /// Bytes free on the file system, as last looked at; goes both ways.
    pub free_bytes: AtomicU64,
    /// Groups committed.
    pub batches: AtomicU64,
    /// Asks in them.
    pub asks: AtomicU64,
    /// Records appended.
    pub records: AtomicU64,
    /// Bytes of their bodies.
    pub record_bytes: AtomicU64,
    /// Asks that pushed something on a shelf, or tried to, that of push notifications left out.
    pub pushes: AtomicU64,
    /// Asks that pushed something on that one, or tried to.
    pub pushes_queued: AtomicU64,
    /// Asks that only read.
    pub reads: AtomicU64,
    /// Asks refused because the store was full.
    pub refused_full: AtomicU64,
    /// Asks refused because it was failed or stopped.
    pub refused_unavailable: AtomicU64,
    /// Commits that failed.
    pub failures: AtomicU64,
    /// Records that retention removed.
    pub swept_records: AtomicU64,
    /// Nanoseconds the last group took from its batch to its sync; goes both ways.
    pub sync_last_ns: AtomicU64,
    /// Nanoseconds of all of them.
    pub sync_sum_ns: AtomicU64,
    /// How many took how long: one count for each of [`SYNC_STEPS`], and one for longer.
    pub sync_steps: [AtomicU64; SYNC_STEPS.len() + 1],
}

impl Health {
    /// Whether the store takes what it is asked to keep.
    pub fn condition(&self) -> Condition {
        match self.condition.load(Ordering::Relaxed) {
            0 => Condition::Ok,
            1 => Condition::Full,
            2 => Condition::Failed,
            _ => Condition::Stopped,
        }
    }

    /// True if it was another before.
    pub(super) fn set_condition(&self, condition: Condition) -> bool {
        self.condition.swap(condition as u8, Ordering::Relaxed) != condition as u8
    }

    pub(super) fn count_sync(&self, took: Duration) {
        let ns = took.as_nanos() as u64;
        self.sync_last_ns.store(ns, Ordering::Relaxed);
        self.sync_sum_ns.fetch_add(ns, Ordering::Relaxed);
        let step = SYNC_STEPS.iter().position(|&end| took <= end).unwrap_or(SYNC_STEPS.len());
        add(&self.sync_steps[step], 1);
    }
}

pub(super) fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_is_counted_in_the_step_it_ends_in() {
        let health = Health::default();
        for (took, step) in [(0, 0), (250_000, 0), (250_001, 1), (2_000_000_000, 9)] {
            let before = health.sync_steps[step].load(Ordering::Relaxed);
            health.count_sync(Duration::from_nanos(took));
            assert_eq!(health.sync_steps[step].load(Ordering::Relaxed), before + 1);
        }
        assert_eq!(health.sync_last_ns.load(Ordering::Relaxed), 2_000_000_000);
    }

    #[test]
    fn a_condition_is_read_as_it_was_set() {
        let health = Health::default();
        assert_eq!(health.condition(), Condition::Ok);
        for it in [Condition::Full, Condition::Failed, Condition::Stopped, Condition::Ok] {
            health.set_condition(it);
            assert_eq!(health.condition(), it);
        }
    }
}
