//! A log-linear histogram of nanoseconds: 128 steps per power of two, so under 1 % off anywhere.

const STEP_BITS: u32 = 7;
const STEPS: usize = 1 << STEP_BITS;
const ROWS: usize = 64 - STEP_BITS as usize + 1;

/// Counts by size.
#[derive(Clone)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; ROWS * STEPS], total: 0, max: 0 }
    }
}

fn bucket(value: u64) -> usize {
    if value < STEPS as u64 {
        return value as usize;
    }
    let row = 63 - value.leading_zeros() - STEP_BITS;
    (row as usize + 1) * STEPS + ((value >> row) as usize - STEPS)
}

fn highest(bucket: usize) -> u64 {
    if bucket < STEPS {
        return bucket as u64;
    }
    let row = (bucket / STEPS - 1) as u32;
    let step = (bucket % STEPS + STEPS) as u64;
    (step << row) + ((1 << row) - 1)
}

impl Histogram {
    #[inline]
    pub fn record(&mut self, value: u64) {
        self.counts[bucket(value)] += 1;
        self.total += 1;
        self.max = self.max.max(value);
    }

    /// The smallest recorded size that at least `share` (0 to 1) of all values do not exceed.
    pub fn quantile(&self, share: f64) -> u64 {
        let wanted = ((self.total as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (at, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return highest(at).min(self.max);
            }
        }
        self.max
    }

    pub fn max(&self) -> u64 {
        self.max
    }

    pub fn total(&self) -> u64 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_their_own_bounds_and_stay_within_a_percent() {
        for value in
            [0, 1, 127, 128, 129, 255, 256, 1_000, 65_535, 1_234_567, u64::MAX / 2, u64::MAX]
        {
            let top = highest(bucket(value));
            assert!(top >= value, "{value} sits in a bucket that ends at {top}");
            assert!(top - value <= value / 100, "{value} is reported as {top}");
        }
    }

    #[test]
    fn quantiles_of_a_ramp() {
        let mut histogram = Histogram::default();
        (1..=1000).for_each(|value| histogram.record(value * 1000));
        for (share, want) in [(0.5, 500_000), (0.99, 990_000), (1.0, 1_000_000)] {
            let got = histogram.quantile(share);
            assert!(got >= want && got <= want + want / 100, "{share}: {got}");
        }
    }
}
