//! Counters and histograms with one writer each, their catalog, log lines, and the words for why
//! things end.
//!
//! The path of an event is counted, never logged. Nothing here locks. Start with [`catalog`], which
//! declares every metric; [`Metrics`] holds their values; [`exposition`] and [`stats`] print them.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_utils::CachePadded;

use crate::base::ids::{LANES_MAX, LaneId, ShardId};
use crate::base::time::UnixMillis;

pub mod catalog;
pub mod exposition;
mod histogram;
pub mod log;
mod process;
pub mod stats;

pub use catalog::{Counter, Gauge, Histogram};
pub use histogram::Snapshot;

use histogram::Distribution;

/// Why a connection ended: a closed set, for metrics, logs and the dialects' close codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum CloseReason {
    /// The peer closed or went away.
    Peer,
    /// The session ended it as its protocol says (unauthorised, its rules broken).
    Session,
    /// The application asked for it.
    Asked,
    /// Its outbox passed the high-water mark.
    SlowConsumer,
    /// The process drains.
    Drain,
    /// The peer broke HTTP or the WebSocket protocol.
    Protocol,
    /// A message or frame above its limit.
    TooLarge,
    /// Text that is not UTF-8.
    Utf8,
    /// A head, body, sign of life or close answer did not come in time.
    Timeout,
    /// A limit of this process was reached.
    Overload,
    /// The answer was given and the peer asked for no more.
    Done,
    /// Code of ours failed; the connection was given up, nobody else was touched.
    Failed,
}

impl CloseReason {
    /// All of them, in order.
    pub const ALL: [Self; 12] = [
        Self::Peer,
        Self::Session,
        Self::Asked,
        Self::SlowConsumer,
        Self::Drain,
        Self::Protocol,
        Self::TooLarge,
        Self::Utf8,
        Self::Timeout,
        Self::Overload,
        Self::Done,
        Self::Failed,
    ];

    /// What metrics and logs call it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Session => "session",
            Self::Asked => "asked",
            Self::SlowConsumer => "slow_consumer",
            Self::Drain => "drain",
            Self::Protocol => "protocol",
            Self::TooLarge => "too_large",
            Self::Utf8 => "utf8",
            Self::Timeout => "timeout",
            Self::Overload => "overload",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

const REASONS: usize = CloseReason::ALL.len();

/// The values of every metric, for all shards. Share it in an `Arc`.
#[derive(Debug)]
pub struct Metrics {
    /// One block per shard, on cache lines of its own: a shard's count never disturbs another's.
    shards: Box<[CachePadded<ShardMetrics>]>,
    dialects: Box<[&'static str]>,
}

impl Metrics {
    /// All zero, for this many shards and for dialects of these names, in the order of their index.
    pub fn new(shards: u16, dialects: &[&'static str]) -> Self {
        let shard = |_| CachePadded::new(ShardMetrics::new(dialects.len()));
        Self { shards: (0..shards).map(shard).collect(), dialects: dialects.into() }
    }

    /// One shard's values. Panics if there is no such shard.
    pub fn shard(&self, shard: ShardId) -> &ShardMetrics {
        &self.shards[shard.index()]
    }

    /// Every shard's values, in order.
    pub fn shards(&self) -> impl Iterator<Item = (ShardId, &ShardMetrics)> {
        self.shards.iter().enumerate().map(|(index, shard)| (ShardId(index as u16), &**shard))
    }

    /// The names of the dialects, by index.
    pub fn dialects(&self) -> &[&'static str] {
        &self.dialects
    }

    /// A counter over all shards.
    pub fn total(&self, counter: Counter) -> u64 {
        self.shards.iter().map(|shard| shard.counter(counter)).sum()
    }

    /// Events queued to recipients as frames of this lane, over all shards. What sessions render themselves is not
    /// among them.
    pub fn total_delivered(&self, lane: LaneId) -> u64 {
        self.shards.iter().map(|shard| shard.delivered_count(lane)).sum()
    }

    /// A gauge over all shards: summed, or the greatest where it is a peak.
    pub fn total_gauge(&self, gauge: Gauge) -> u64 {
        let values = self.shards.iter().map(|shard| shard.gauge(gauge));
        match gauge {
            Gauge::OutboxPeakBytes => values.max().unwrap_or(0),
            _ => values.sum(),
        }
    }

    /// A distribution over all shards.
    pub fn total_histogram(&self, histogram: Histogram) -> Snapshot {
        let mut sum = Snapshot::default();
        for shard in &self.shards {
            shard.histograms[histogram as usize].add_to(&mut sum);
        }
        sum
    }

    /// Connections that ended for this reason, over all shards and dialects.
    pub fn total_closed(&self, reason: CloseReason) -> u64 {
        let dialects = (0..self.dialects.len()).map(Some).chain([None]);
        let counts = dialects
            .map(|dialect| self.shards.iter().map(move |s| s.closed_count(reason, dialect)));
        counts.flatten().sum()
    }
}

/// One shard's values: written by that shard alone, read by anyone.
///
/// Having one writer, a count is a plain load and a plain store, no atomic addition. A second writer
/// would lose counts and break nothing else.
#[derive(Debug)]
pub struct ShardMetrics {
    counters: [AtomicU64; Counter::COUNT],
    gauges: [AtomicU64; Gauge::COUNT],
    histograms: [Distribution; Histogram::COUNT],
    /// Events queued to recipients, by the lane whose frame it was.
    delivered: [AtomicU64; LANES_MAX],
    /// By dialect, the last being none, then by reason.
    closed: Box<[[AtomicU64; REASONS]]>,
}

impl ShardMetrics {
    fn new(dialects: usize) -> Self {
        Self {
            counters: [const { AtomicU64::new(0) }; Counter::COUNT],
            gauges: [const { AtomicU64::new(0) }; Gauge::COUNT],
            histograms: std::array::from_fn(|_| Distribution::new()),
            delivered: [const { AtomicU64::new(0) }; LANES_MAX],
            closed: (0..=dialects).map(|_| [const { AtomicU64::new(0) }; REASONS]).collect(),
        }
    }

    /// Counts `n` more.
    #[inline]
    pub fn add(&self, counter: Counter, n: u64) {
        add(&self.counters[counter as usize], n);
    }

    /// Sets a gauge.
    #[inline]
    pub fn set(&self, gauge: Gauge, value: u64) {
        self.gauges[gauge as usize].store(value, Ordering::Relaxed);
    }

    /// Sets a gauge if `value` is above it: for peaks.
    #[inline]
    pub fn raise(&self, gauge: Gauge, value: u64) {
        if value > self.gauge(gauge) {
            self.set(gauge, value);
        }
    }

    /// Records a span of time.
    #[inline]
    pub fn record(&self, histogram: Histogram, span: Duration) {
        self.histograms[histogram as usize].record(span);
    }

    /// Counts a connection that ended, by the index of its dialect; none if no dialect took it.
    pub fn closed(&self, reason: CloseReason, dialect: Option<usize>) {
        add(&self.closed[self.closed_row(dialect)][reason as usize], 1);
    }

    /// Counts events queued to so many recipients as frames of this lane.
    #[inline]
    pub fn delivered(&self, lane: LaneId, recipients: u64) {
        add(&self.counters[Counter::EventsDelivered as usize], recipients);
        if let Some(count) = self.delivered.get(usize::from(lane.0)) {
            add(count, recipients);
        }
    }

    /// Events queued to recipients as frames of this lane.
    pub fn delivered_count(&self, lane: LaneId) -> u64 {
        self.delivered.get(usize::from(lane.0)).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// A counter's value.
    pub fn counter(&self, counter: Counter) -> u64 {
        self.counters[counter as usize].load(Ordering::Relaxed)
    }

    /// A gauge's value.
    pub fn gauge(&self, gauge: Gauge) -> u64 {
        self.gauges[gauge as usize].load(Ordering::Relaxed)
    }

    /// A distribution as it is now.
    pub fn histogram(&self, histogram: Histogram) -> Snapshot {
        let mut snapshot = Snapshot::default();
        self.histograms[histogram as usize].add_to(&mut snapshot);
        snapshot
    }

    /// How many connections of a dialect (none: of no dialect) ended for this reason.
    pub fn closed_count(&self, reason: CloseReason, dialect: Option<usize>) -> u64 {
        self.closed[self.closed_row(dialect)][reason as usize].load(Ordering::Relaxed)
    }

    fn closed_row(&self, dialect: Option<usize>) -> usize {
        let none = self.closed.len() - 1;
        dialect.map_or(none, |dialect| dialect.min(none))
    }
}

/// The process as the kernel sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// The program's version.
    pub version: &'static str,
    /// When it started.
    pub started: UnixMillis,
    /// CPU time spent, user and system.
    pub cpu: Duration,
    /// Memory in RAM.
    pub resident_bytes: u64,
    /// Memory it may use: the machine's, or its control group's if that is less.
    pub memory_bytes: u64,
    /// How much more of that the machine could give.
    pub memory_available_bytes: u64,
    /// Descriptors open.
    pub descriptors_open: u64,
    /// Descriptors that may be open.
    pub descriptors_max: u64,
    /// Threads.
    pub threads: u64,
}

/// Nanoseconds, printed as seconds with as many digits as they need.
struct Seconds(u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, nanos) = (self.0 / 1_000_000_000, self.0 % 1_000_000_000);
        if nanos == 0 {
            return write!(f, "{seconds}");
        }
        let digits = format!("{nanos:09}");
        write!(f, "{seconds}.{}", digits.trim_end_matches('0'))
    }
}

/// Adds to a value that only the calling thread writes.
#[inline]
fn add(value: &AtomicU64, n: u64) {
    value.store(value.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_count_apart_and_add_up() {
        let metrics = Metrics::new(2, &["pusher", "admin"]);
        let [first, second] = [ShardId(0), ShardId(1)].map(|shard| metrics.shard(shard));
        first.add(Counter::BytesIn, 5);
        second.add(Counter::BytesIn, 7);
        first.set(Gauge::Connections, 3);
        second.set(Gauge::Connections, 4);
        first.raise(Gauge::OutboxPeakBytes, 10);
        first.raise(Gauge::OutboxPeakBytes, 9);
        second.raise(Gauge::OutboxPeakBytes, 8);
        first.delivered(LaneId(1), 2);
        first.delivered(LaneId(2), 3);
        second.delivered(LaneId(2), 4);
        second.delivered(LaneId(LANES_MAX as u8), 1);
        assert_eq!(metrics.total_delivered(LaneId(1)), 2);
        assert_eq!(metrics.total_delivered(LaneId(2)), 7);
        assert_eq!(metrics.total(Counter::EventsDelivered), 10);
        first.record(Histogram::Tick, Duration::from_millis(1));
        second.record(Histogram::Tick, Duration::from_millis(3));
        assert_eq!(first.counter(Counter::BytesIn), 5);
        assert_eq!(metrics.total(Counter::BytesIn), 12);
        assert_eq!(metrics.total_gauge(Gauge::Connections), 7);
        assert_eq!(metrics.total_gauge(Gauge::OutboxPeakBytes), 10);
        assert_eq!(metrics.total_histogram(Histogram::Tick).count(), 2);
        assert_eq!(metrics.total_histogram(Histogram::Tick).sum(), Duration::from_millis(4));
    }

    #[test]
    fn endings_are_counted_by_reason_and_dialect() {
        let metrics = Metrics::new(1, &["pusher", "admin"]);
        let shard = metrics.shard(ShardId(0));
        shard.closed(CloseReason::Peer, Some(0));
        shard.closed(CloseReason::Peer, Some(1));
        shard.closed(CloseReason::Peer, None);
        shard.closed(CloseReason::Peer, Some(99));
        assert_eq!(shard.closed_count(CloseReason::Peer, Some(1)), 1);
        assert_eq!(shard.closed_count(CloseReason::Peer, None), 2, "an unknown dialect is none");
        assert_eq!(metrics.total_closed(CloseReason::Peer), 4);
        assert_eq!(metrics.total_closed(CloseReason::Done), 0);
    }

    #[test]
    fn seconds_have_the_digits_they_need() {
        for (nanos, text) in [
            (0, "0"),
            (1, "0.000000001"),
            (1_500_000_000, "1.5"),
            (60_000_000_000, "60"),
            (u64::MAX, "18446744073.709551615"),
        ] {
            assert_eq!(Seconds(nanos).to_string(), text);
        }
    }

    #[test]
    fn the_lists_are_in_the_order_of_their_numbers() {
        assert!(CloseReason::ALL.iter().enumerate().all(|(i, &reason)| reason as usize == i));
        assert!(Counter::ALL.iter().enumerate().all(|(i, &counter)| counter as usize == i));
    }
}
