//! What a shard counts once per tick rather than where it happens: gauges, and what its driver counted.

use std::cell::Cell;

use bytes::Bytes;

use crate::base::ids::LaneId;
use crate::base::time::Nanos;
use crate::broker::{Event, Render};
use crate::dialects::lanes::Lanes;
use crate::observe::{Counter, Gauge, Histogram, log};
use crate::reactor::DriverStats;

use super::Shard;

/// The numbers as they were told last.
#[derive(Default)]
pub struct Tally {
    driver: DriverStats,
    subscriptions_opened: u64,
    subscriptions_closed: u64,
    /// The second in which log lines were last summed.
    second: u64,
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

        let second = self.now.wall.seconds();
        if second != self.tally.second {
            self.tally.second = second;
            log::flush(self.now.wall);
        }
    }
}
