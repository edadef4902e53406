//! Metrics under the names that Mastodon's streaming server has for them, so that its dashboards go on, and a few of
//! our own beside them.
//!
//! Every combination of labels is there from the start. Source: our reference, section 15.

use std::fmt::Write as _;
use std::sync::atomic::Ordering;

use super::connected::{Connected, Transport};
use super::follower::Counts;
use super::names::Kind;
use super::{LANE_CHUNK, LANE_TEXT};

/// The lane for peers that take no chunks.
const LANE_PLAIN: u8 = LANE_CHUNK + 1;
/// The channels of what the system tells a connection.
const SYSTEM: &str = "system";

/// What there is to count.
pub(super) struct Numbers<'a> {
    /// Who is connected, and hears what.
    pub connected: &'a Connected,
    /// What is followed elsewhere.
    pub counts: &'a Counts,
    /// Events queued as frames of a lane, by its number.
    pub delivered: &'a dyn Fn(usize) -> u64,
}

impl Numbers<'_> {
    /// Appends them in the text format of Prometheus; `prefix` goes in front of the names that are Mastodon's.
    pub fn write(&self, prefix: &str, out: &mut String) {
        let Self { connected, counts, .. } = self;
        let theirs = |name: &str| format!("{prefix}{name}");
        let name = theirs("connected_clients");
        head(&name, "gauge", "Peers connected.", out);
        for transport in Transport::ALL {
            let (of, count) = (transport.name(), connected.clients(transport));
            line(format_args!("{name}{{type=\"{of}\"}} {count}"), out);
        }
        let name = theirs("connected_channels");
        head(
            &name,
            "gauge",
            "Streams that peers hear, and two of the system's for each peer.",
            out,
        );
        for transport in Transport::ALL {
            let of = transport.name();
            let streams = Kind::ALL.map(|it| (it.name(), connected.streams(transport, it)));
            let system = (SYSTEM, connected.system_channels(transport));
            for (channel, count) in streams.into_iter().chain([system]) {
                line(format_args!("{name}{{type=\"{of}\",channel=\"{channel}\"}} {count}"), out);
            }
        }
        let name = theirs("messages_sent_total");
        head(&name, "counter", "Events queued to peers.", out);
        for transport in Transport::ALL {
            let (of, count) = (transport.name(), self.sent(transport));
            line(format_args!("{name}{{type=\"{of}\"}} {count}"), out);
        }
        let long = |it: &std::sync::atomic::AtomicU64| it.load(Ordering::Relaxed);
        let short = |it: &std::sync::atomic::AtomicU32| u64::from(it.load(Ordering::Relaxed));
        for (name, kind, help, value) in [
            (
                "redis_subscriptions",
                "gauge",
                "Channels subscribed at Redis.",
                long(&counts.subscriptions),
            ),
            (
                "redis_messages_received_total",
                "counter",
                "Messages that came from Redis.",
                long(&counts.messages),
            ),
            (
                "pg_pool_total_connections",
                "gauge",
                "Connections to PostgreSQL.",
                short(&counts.pool_connections),
            ),
            (
                "pg_pool_idle_connections",
                "gauge",
                "Those of them that nobody uses.",
                short(&counts.pool_idle),
            ),
            (
                "pg_pool_waiting_queries",
                "gauge",
                "Questions that wait for one.",
                short(&counts.pool_waiting),
            ),
        ] {
            let name = theirs(name);
            head(&name, kind, help, out);
            line(format_args!("{name} {value}"), out);
        }
        for (name, kind, help, value) in [
            (
                "ringmain_mastodon_messages_malformed_total",
                "counter",
                "Messages from Redis that were no events, or statuses without the shape of one: skipped.",
                long(&counts.malformed),
            ),
            (
                "ringmain_mastodon_statuses_judged_total",
                "counter",
                "Statuses judged for those who hear them, once for each channel.",
                long(&counts.judged),
            ),
            (
                "ringmain_mastodon_statuses_unjudged_total",
                "counter",
                "Statuses that nobody got because PostgreSQL did not say in time who may have them.",
                long(&counts.unjudged),
            ),
            (
                "ringmain_mastodon_statuses_overflowed_total",
                "counter",
                "Statuses that nobody got because too many waited to be judged.",
                long(&counts.overflowed),
            ),
            (
                "ringmain_mastodon_statuses_withheld_total",
                "counter",
                "Statuses kept back from accounts whose keyword filters were not known in time.",
                long(&counts.withheld),
            ),
            (
                "ringmain_mastodon_keywords_passed_over_total",
                "counter",
                "Keywords that were too much for one account and are not looked for.",
                long(&counts.keywords_passed_over),
            ),
            (
                "ringmain_mastodon_statuses_waiting",
                "gauge",
                "Statuses that wait to be judged, and what waits behind them.",
                long(&counts.waiting),
            ),
        ] {
            head(name, kind, help, out);
            line(format_args!("{name} {value}"), out);
        }
    }

    fn sent(&self, transport: Transport) -> u64 {
        let lanes: &[u8] = match transport {
            Transport::WebSocket => &[LANE_TEXT],
            Transport::EventStream => &[LANE_CHUNK, LANE_PLAIN],
        };
        let frames: u64 = lanes.iter().map(|it| (self.delivered)(usize::from(*it))).sum();
        frames + self.connected.sent(transport)
    }
}

fn head(name: &str, kind: &str, help: &str, out: &mut String) {
    line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"), out);
}

fn line(text: std::fmt::Arguments<'_>, out: &mut String) {
    // Writing to memory cannot fail.
    let _ = writeln!(out, "{text}");
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use super::super::connected::Presence;
    use super::*;

    #[test]
    fn names_and_labels_are_mastodons_from_the_start() {
        let connected = Arc::new(Connected::default());
        let counts = Counts::default();
        let delivered = |lane: usize| [7, 20, 100][lane];
        let numbers = Numbers { connected: &connected, counts: &counts, delivered: &delivered };
        let mut out = String::new();
        numbers.write("", &mut out);
        let has =
            |out: &str, line: &str| assert!(out.lines().any(|it| it == line), "{line}: {out}");
        has(&out, "# TYPE connected_clients gauge");
        has(&out, "# TYPE redis_messages_received_total counter");
        for transport in ["websocket", "eventsource"] {
            has(&out, &format!("connected_clients{{type=\"{transport}\"}} 0"));
            for channel in Kind::ALL.map(Kind::name).into_iter().chain(["system"]) {
                let labels = format!("type=\"{transport}\",channel=\"{channel}\"");
                has(&out, &format!("connected_channels{{{labels}}} 0"));
            }
        }
        has(&out, "messages_sent_total{type=\"websocket\"} 7");
        has(&out, "messages_sent_total{type=\"eventsource\"} 120");
        for name in [
            "redis_subscriptions",
            "redis_messages_received_total",
            "pg_pool_total_connections",
            "pg_pool_idle_connections",
            "pg_pool_waiting_queries",
        ] {
            has(&out, &format!("{name} 0"));
        }
        let series: Vec<_> = out.lines().filter(|it| !it.starts_with('#')).collect();
        let names: BTreeSet<_> = series.iter().filter_map(|it| it.split_once(' ')).collect();
        assert_eq!(names.len(), series.len(), "each once");

        let presence = Presence::new(connected.clone(), Transport::EventStream);
        presence.add(Kind::PublicLocalMedia);
        presence.sent();
        counts.messages.store(3, Ordering::Relaxed);
        counts.pool_idle.store(2, Ordering::Relaxed);
        let mut out = String::new();
        numbers.write("m_", &mut out);
        has(&out, "m_connected_clients{type=\"eventsource\"} 1");
        has(&out, "m_connected_channels{type=\"eventsource\",channel=\"system\"} 2");
        has(&out, "m_connected_channels{type=\"eventsource\",channel=\"public:local:media\"} 1");
        has(&out, "m_messages_sent_total{type=\"eventsource\"} 121");
        has(&out, "m_redis_messages_received_total 3");
        has(&out, "m_pg_pool_idle_connections 2");
        has(&out, "ringmain_mastodon_statuses_judged_total 0");
        presence.remove(Kind::PublicLocalMedia);
    }
}
