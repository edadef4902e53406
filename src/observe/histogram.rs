//! Distributions of spans of time in fixed buckets: four per octave from a microsecond to 17 s.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The first bucket takes everything up to 2^10 ns, about a microsecond.
const OCTAVE_FIRST: u32 = 10;
/// The last takes everything above 2^34 ns, about 17 s.
const OCTAVE_END: u32 = 34;
/// Buckets of equal width per octave: a quantile is at most an eighth off.
const PARTS: usize = 4;
const BUCKETS: usize = 2 + (OCTAVE_END - OCTAVE_FIRST) as usize * PARTS;

/// A distribution that one thread writes and anyone reads.
#[derive(Debug)]
pub(super) struct Distribution {
    buckets: [AtomicU64; BUCKETS],
    sum_nanos: AtomicU64,
}

impl Distribution {
    pub(super) fn new() -> Self {
        Self { buckets: [const { AtomicU64::new(0) }; BUCKETS], sum_nanos: AtomicU64::new(0) }
    }

    pub(super) fn record(&self, span: Duration) {
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        super::add(&self.buckets[bucket_of(nanos)], 1);
        super::add(&self.sum_nanos, nanos);
    }

    /// Adds what is here to `sum`.
    pub(super) fn add_to(&self, sum: &mut Snapshot) {
        for (total, bucket) in sum.buckets.iter_mut().zip(&self.buckets) {
            *total += bucket.load(Ordering::Relaxed);
        }
        sum.sum_nanos = sum.sum_nanos.wrapping_add(self.sum_nanos.load(Ordering::Relaxed));
    }
}

/// A distribution as it was at one moment; several shards' can be added up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    buckets: [u64; BUCKETS],
    sum_nanos: u64,
}

impl Default for Snapshot {
    fn default() -> Self {
        Self { buckets: [0; BUCKETS], sum_nanos: 0 }
    }
}

impl Snapshot {
    /// How many spans were recorded.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// All spans together.
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum_nanos)
    }

    /// The span that `part` (of 1) of the recorded ones do not exceed, interpolated within a bucket;
    /// none if nothing was recorded. What is above the last bucket counts as its lower end.
    pub fn quantile(&self, part: f64) -> Option<Duration> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = (part.clamp(0.0, 1.0) * count as f64).ceil().max(1.0);
        let mut below = 0.0;
        let mut lower = 0;
        for (index, &here) in self.buckets.iter().enumerate() {
            let upper = upper_bound(index).unwrap_or(lower);
            let here = here as f64;
            if below + here >= rank {
                let nanos = lower as f64 + (upper - lower) as f64 * (rank - below) / here;
                return Some(Duration::from_nanos(nanos as u64));
            }
            below += here;
            lower = upper;
        }
        Some(Duration::from_nanos(lower))
    }

    /// For every octave: its upper bound in nanoseconds, and how many spans did not exceed it.
    pub fn octaves(&self) -> impl Iterator<Item = (u64, u64)> {
        let mut total = 0;
        let mut buckets = self.buckets.iter();
        (OCTAVE_FIRST..=OCTAVE_END).map(move |octave| {
            let parts = if octave == OCTAVE_FIRST { 1 } else { PARTS };
            total += buckets.by_ref().take(parts).sum::<u64>();
            (1 << octave, total)
        })
    }
}

/// A bucket holds what is above the bound of the one before it, its own bound included: as
/// Prometheus' `le` wants it.
fn bucket_of(nanos: u64) -> usize {
    let below = nanos.saturating_sub(1);
    if below >> OCTAVE_FIRST == 0 {
        return 0;
    }
    let octave = below.ilog2();
    if octave >= OCTAVE_END {
        return BUCKETS - 1;
    }
    let part = (below >> (octave - PARTS.ilog2())) as usize % PARTS;
    1 + (octave - OCTAVE_FIRST) as usize * PARTS + part
}

/// The greatest span a bucket takes, in nanoseconds; none for the last.
fn upper_bound(bucket: usize) -> Option<u64> {
    if bucket == BUCKETS - 1 {
        return None;
    }
    let Some(above_first) = bucket.checked_sub(1) else { return Some(1 << OCTAVE_FIRST) };
    let octave = OCTAVE_FIRST + (above_first / PARTS) as u32;
    let part = (above_first % PARTS) as u64;
    Some((PARTS as u64 + part + 1) << (octave - PARTS.ilog2()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_takes_exactly_what_lies_between_its_bounds() {
        let mut lower = 0;
        for bucket in 0..BUCKETS - 1 {
            let upper = upper_bound(bucket).unwrap();
            assert!(lower < upper, "{bucket}");
            assert_eq!(bucket_of(lower + 1), bucket);
            assert_eq!(bucket_of(upper), bucket);
            lower = upper;
        }
        assert_eq!(lower, 1 << OCTAVE_END);
        assert_eq!((bucket_of(0), bucket_of(lower + 1), bucket_of(u64::MAX)), (0, 97, 97));
    }

    #[test]
    fn quantiles_are_at_most_an_eighth_off() {
        let distribution = Distribution::new();
        for micros in 1..=10_000 {
            distribution.record(Duration::from_micros(micros));
        }
        let mut snapshot = Snapshot::default();
        assert_eq!(snapshot.quantile(0.5), None);
        distribution.add_to(&mut snapshot);
        assert_eq!(snapshot.count(), 10_000);
        assert_eq!(snapshot.sum(), Duration::from_micros(10_000 * 10_001 / 2));
        for (part, micros) in
            [(0.01, 100.0), (0.5, 5000.0), (0.9, 9000.0), (0.99, 9900.0), (1.0, 10_000.0)]
        {
            let off = snapshot.quantile(part).unwrap().as_secs_f64() * 1e6 / micros;
            assert!((0.875..1.125).contains(&off), "{part}: {off}");
        }
        let octaves: Vec<_> = snapshot.octaves().collect();
        assert_eq!(octaves.len(), 25);
        assert_eq!(octaves[0], (1024, 1));
        assert_eq!(octaves[13], (1 << 23, 8388));
        assert_eq!(octaves[24], (1 << 34, 10_000));
    }

    #[test]
    fn spans_beyond_the_last_bucket_are_counted() {
        let distribution = Distribution::new();
        distribution.record(Duration::from_secs(3600));
        let mut snapshot = Snapshot::default();
        distribution.add_to(&mut snapshot);
        assert_eq!(snapshot.count(), 1);
        assert_eq!(snapshot.octaves().last(), Some((1 << 34, 0)));
        assert_eq!(snapshot.quantile(0.5), Some(Duration::from_nanos(1 << 34)));
    }
}
