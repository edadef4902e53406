//! What a shard counts once per tick rather than where it happens: gauges, and what its driver counted.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;

use crate::base::ids::LaneId;
use crate::base::time::{Millis, Nanos};
use crate::broker::{Event, Payload, Render, Report};
use crate::dialects::lanes::Lanes;
use crate::observe::{Counter, Gauge, Histogram, log};
use crate::reactor::DriverStats;
use crate::store::health::{Condition, Health, SYNC_STEPS};

use super::Shard;
use super::tally_push::PushTally;

/// The numbers as they were told last.
#[derive(Default)]
pub struct Tally {
    /// What the store counts, if this shard tells it.
    health: Option<Arc<Health>>,
    store: StoreTally,
    driver: DriverStats,
    subscriptions_opened: u64,
    subscriptions_closed: u64,
    /// The second in which log lines were last summed.
    second: u64,
}

/// What the store had done when it was told last.
#[derive(Default)]
struct StoreTally {
    /// When that was.
    at: Nanos,
    batches: u64,
    asks: u64,
    records: u64,
    bytes: u64,
    failures: u64,
    swept: u64,
    syncs: [u64; SYNC_STEPS.len() + 1],
    /// Webhooks: delivered, failed, dead by why, dropped.
    webhooks: [u64; 6],
    push: PushTally,
}

/// How long what the store did may go untold.
const STORE_PERIOD: Millis = Millis(10);
/// What a sync is said to have taken that took longer than all steps.
const SYNC_LONGEST: Duration = Duration::from_secs(10);

impl Tally {
    pub fn new(health: Option<Arc<Health>>) -> Self {
        Self { health, ..Self::default() }
    }
}

/// The lanes, and how much they rendered since the last tick.
pub struct CountedLanes {
    pub lanes: Lanes,
    renders: Cell<u64>,
    bytes: Cell<u64>,
}

impl CountedLanes {
    pub fn new(lanes: Lanes) -> Self {
        Self { lanes, renders: Cell::new(0), bytes: Cell::new(0) }
    }
}

impl Render for CountedLanes {
    fn render(&self, lane: LaneId, event: &Event) -> Option<Bytes> {
        let frame = self.lanes.render(lane, event)?;
        if frame.is_empty() {
            return Some(frame);
        }
        self.renders.set(self.renders.get() + 1);
        self.bytes.set(self.bytes.get() + frame.len() as u64);
        Some(frame)
    }

    fn shows_members(&self, lane: LaneId) -> bool {
        self.lanes.shows_members(lane)
    }

    fn reports(&self) -> bool {
        self.lanes.reports()
    }

    fn reports_members(&self) -> bool {
        self.lanes.reports_members()
    }

    fn report(&self, event: &Event, about: Option<&Payload>, out: &mut Vec<Report>) {
        self.lanes.report(event, about, out);
    }
}

impl Shard {
    /// A subscription was granted.
    pub(super) fn count_subscribed(&mut self) {
        self.tally.subscriptions_opened += 1;
        self.count(Counter::SubscriptionsOpened, 1);
    }

    /// Tells the metrics what this tick, which began at `began`, has changed.
    pub(super) fn tally(&mut self, began: Nanos) {
        let metrics = self.metrics.shard(self.id);
        metrics.add(Counter::Ticks, 1);
        metrics.record(Histogram::Tick, self.driver.now().steady.since(began));
        metrics.add(Counter::Renders, self.lanes.renders.take());
        metrics.add(Counter::BytesRendered, self.lanes.bytes.take());

        let subscriptions = self.edge.subscriptions() as u64;
        // What was opened and is no more was closed, whichever way it went.
        let closed = self.tally.subscriptions_opened.saturating_sub(subscriptions);
        metrics.add(
            Counter::SubscriptionsClosed,
            closed.saturating_sub(self.tally.subscriptions_closed),
        );
        self.tally.subscriptions_closed = closed.max(self.tally.subscriptions_closed);
        metrics.set(Gauge::Subscriptions, subscriptions);
        metrics.set(Gauge::Channels, self.home.channels() as u64);
        metrics.set(Gauge::Members, self.home.members() as u64);
        metrics.set(Gauge::OutboxBytes, self.outboxes.bytes() as u64);
        metrics.raise(Gauge::OutboxPeakBytes, self.outboxes.bytes_peak() as u64);

        let (stats, told) = (self.driver.stats(), self.tally.driver);
        metrics.add(Counter::RingEnters, stats.enters - told.enters);
        metrics.add(
            Counter::RingOverflows,
            stats.completions_overflowed - told.completions_overflowed,
        );
        metrics.add(Counter::SendsShort, stats.sends_short - told.sends_short);
        metrics
            .add(Counter::ReceiveBuffersExhausted, stats.receives_starved - told.receives_starved);
        self.tally.driver = stats;

        self.tally_store(began);
        let second = self.now.wall.seconds();
        if second != self.tally.second {
            self.tally.second = second;
            log::flush(self.now.wall);
        }
    }

    fn tally_store(&mut self, now: Nanos) {
        let counts = self.home.take_counts();
        let metrics = self.metrics.shard(self.id);
        metrics.add(Counter::KeptMemory, counts.kept_memory);
        metrics.add(Counter::KeptDurable, counts.kept_durable);
        metrics.add(Counter::IdempotentRepeats, counts.repeats);
        metrics.add(Counter::EventsReplayed, counts.replayed);
        metrics.add(Counter::Gaps, counts.gaps);
        metrics.add(Counter::SchedulesDone, counts.schedules_done);
        metrics.add(Counter::SchedulesLate, counts.schedules_late);
        metrics.add(Counter::EventsPublished, counts.published);
        metrics.add(Counter::ReportsLost, counts.reports_lost);
        metrics.add(Counter::PresenceLost, counts.presence_lost);
        metrics.set(Gauge::HistoryBytes, self.home.history_bytes());
        metrics.set(Gauge::StoreAsks, self.home.store_asks_open() as u64);
        let Tally { health: Some(health), store: told, .. } = &mut self.tally else { return };
        // Whoever asks whether we are ready is to hear it at once.
        let condition = health.condition();
        metrics.set(Gauge::StoreFull, u64::from(condition == Condition::Full));
        metrics.set(
            Gauge::StoreFailed,
            u64::from(matches!(condition, Condition::Failed | Condition::Stopped)),
        );
        if now < told.at + STORE_PERIOD {
            return;
        }
        told.at = now;
        let now_is = |counted: &AtomicU64| counted.load(Ordering::Relaxed);
        let counted = [
            (Counter::StoreBatches, &health.batches, &mut told.batches),
            (Counter::StoreAsks, &health.asks, &mut told.asks),
            (Counter::StoreRecords, &health.records, &mut told.records),
            (Counter::StoreRecordBytes, &health.record_bytes, &mut told.bytes),
            (Counter::StoreFailures, &health.failures, &mut told.failures),
            (Counter::StoreRecordsExpired, &health.swept_records, &mut told.swept),
        ];
        for (counter, counted, told) in counted {
            let is = now_is(counted);
            metrics.add(counter, is - *told);
            *told = is;
        }
        for (step, told) in told.syncs.iter_mut().enumerate() {
            let is = now_is(&health.sync_steps[step]);
            // The upper end of the step: never better than it was.
            let took = SYNC_STEPS.get(step).copied().unwrap_or(SYNC_LONGEST);
            for _ in *told..is {
                metrics.record(Histogram::StoreSync, took);
            }
            *told = is;
        }
        let hooks = &self.shared.webhooks;
        let [refused, expired, overflow] = &hooks.died;
        let counted = [
            (Counter::WebhookDelivered, &hooks.delivered),
            (Counter::WebhookFailed, &hooks.failed),
            (Counter::WebhookRefused, refused),
            (Counter::WebhookExpired, expired),
            (Counter::WebhookOverflow, overflow),
            (Counter::WebhookDropped, &hooks.dropped),
        ];
        for ((counter, counted), told) in counted.into_iter().zip(&mut told.webhooks) {
            let is = now_is(counted);
            metrics.add(counter, is - *told);
            *told = is;
        }
        let oldest = Some(now_is(&hooks.oldest_at)).filter(|at| *at > 0);
        let age = oldest.map_or(0, |at| self.now.wall.0.saturating_sub(at) / 1000);
        metrics.set(Gauge::WebhookOldest, age);
        metrics.set(Gauge::WebhookWaiting, now_is(&hooks.waiting));
        metrics.set(Gauge::WebhookLetters, now_is(&hooks.letters));
        metrics.set(Gauge::WebhookFailing, now_is(&hooks.failing));
        told.push.tell(&self.shared.push, metrics);
        metrics.set(Gauge::StoreBytes, now_is(&health.used_bytes));
        metrics.set(Gauge::StoreFreeBytes, now_is(&health.free_bytes));
    }
}
