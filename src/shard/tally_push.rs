//! What push notifications came to, told the metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::observe::{Counter, Gauge, ShardMetrics};
use crate::outbound::push::Counts;
use crate::push::Provider;
use crate::push::publish::State;

/// By provider, in the order of [`Provider::ALL`].
type ByProvider<T> = [T; Provider::ALL.len()];

const DELIVERED: ByProvider<Counter> = [
    Counter::PushDeliveredFcm,
    Counter::PushDeliveredApns,
    Counter::PushDeliveredWebPush,
    Counter::PushDeliveredHms,
    Counter::PushDeliveredWns,
    Counter::PushDeliveredRealtime,
];
const FAILED: ByProvider<Counter> = [
    Counter::PushFailedFcm,
    Counter::PushFailedApns,
    Counter::PushFailedWebPush,
    Counter::PushFailedHms,
    Counter::PushFailedWns,
    Counter::PushFailedRealtime,
];
const PRUNED: ByProvider<Counter> = [
    Counter::PushPrunedFcm,
    Counter::PushPrunedApns,
    Counter::PushPrunedWebPush,
    Counter::PushPrunedHms,
    Counter::PushPrunedWns,
    Counter::PushPrunedRealtime,
];
const RETRIED: ByProvider<Counter> = [
    Counter::PushRetriedFcm,
    Counter::PushRetriedApns,
    Counter::PushRetriedWebPush,
    Counter::PushRetriedHms,
    Counter::PushRetriedWns,
    Counter::PushRetriedRealtime,
];
const DEAD: ByProvider<Counter> = [
    Counter::PushDeadFcm,
    Counter::PushDeadApns,
    Counter::PushDeadWebPush,
    Counter::PushDeadHms,
    Counter::PushDeadWns,
    Counter::PushDeadRealtime,
];
const REQUESTS: ByProvider<Gauge> = [
    Gauge::PushRequestsFcm,
    Gauge::PushRequestsApns,
    Gauge::PushRequestsWebPush,
    Gauge::PushRequestsHms,
    Gauge::PushRequestsWns,
    Gauge::PushRequestsRealtime,
];

/// How a publish ends.
const FINISHED: [(State, Counter); 7] = [
    (State::Cancelled, Counter::PushFinishedCancelled),
    (State::Succeeded, Counter::PushFinishedSucceeded),
    (State::PartiallySucceeded, Counter::PushFinishedPartial),
    (State::Failed, Counter::PushFinishedFailed),
    (State::QuotaExceeded, Counter::PushFinishedQuota),
    (State::Expired, Counter::PushFinishedExpired),
    (State::DeadLettered, Counter::PushFinishedDead),
];

/// The numbers as they were told last.
#[derive(Default)]
pub(super) struct PushTally {
    plain: [u64; 5],
    by_provider: [ByProvider<u64>; 5],
    finished: [u64; FINISHED.len()],
}

impl PushTally {
    /// Tells what has been counted since.
    pub(super) fn tell(&mut self, counts: &Counts, metrics: &ShardMetrics) {
        let now_is = |counted: &AtomicU64| counted.load(Ordering::Relaxed);
        let tell = |counter: Counter, counted: &AtomicU64, told: &mut u64| {
            let is = now_is(counted);
            metrics.add(counter, is.saturating_sub(*told));
            *told = is;
        };
        let plain = [
            (Counter::PushRegistered, &counts.registered),
            (Counter::PushAccepted, &counts.accepted),
            (Counter::PushRefused, &counts.refused),
            (Counter::PushSkipped, &counts.skipped),
            (Counter::PushBuild, &counts.build_us),
        ];
        for ((counter, counted), told) in plain.into_iter().zip(&mut self.plain) {
            tell(counter, counted, told);
        }
        let by_provider = [
            (DELIVERED, &counts.delivered),
            (FAILED, &counts.failed),
            (PRUNED, &counts.pruned),
            (RETRIED, &counts.retried),
            (DEAD, &counts.dead),
        ];
        for ((counters, counted), told) in by_provider.into_iter().zip(&mut self.by_provider) {
            for ((counter, counted), told) in counters.into_iter().zip(counted).zip(told) {
                tell(counter, counted, told);
            }
        }
        for ((state, counter), told) in FINISHED.into_iter().zip(&mut self.finished) {
            tell(counter, &counts.finished[state as usize], told);
        }
        metrics.set(Gauge::PushOpen, now_is(&counts.open));
        metrics.set(Gauge::PushPending, now_is(&counts.pending));
        for (gauge, counted) in REQUESTS.into_iter().zip(&counts.in_flight) {
            metrics.set(gauge, now_is(counted));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::ShardId;
    use crate::observe::Metrics;

    #[test]
    fn what_is_counted_is_told_once() {
        let (counts, metrics) = (Counts::default(), Metrics::new(1, &[]));
        let mut tally = PushTally::default();
        for provider in Provider::ALL {
            counts.delivered[provider as usize].store(provider as u64 + 1, Ordering::Relaxed);
        }
        counts.finished[State::DeadLettered as usize].store(2, Ordering::Relaxed);
        counts.in_flight[Provider::Wns as usize].store(3, Ordering::Relaxed);
        for _ in 0..2 {
            tally.tell(&counts, metrics.shard(ShardId(0)));
        }
        for provider in Provider::ALL {
            let counter = DELIVERED[provider as usize];
            assert_eq!(counter.row().label, Some(("provider", provider.as_str())));
            assert_eq!(metrics.total(counter), provider as u64 + 1);
            for counter in [FAILED, PRUNED, RETRIED, DEAD] {
                let label = counter[provider as usize].row().label;
                assert_eq!(label, Some(("provider", provider.as_str())));
            }
        }
        for (state, counter) in FINISHED {
            assert_eq!(counter.row().label, Some(("state", state.as_str())));
        }
        assert_eq!(metrics.total(Counter::PushFinishedDead), 2);
        assert_eq!(metrics.total_gauge(Gauge::PushRequestsWns), 3);
    }
}
