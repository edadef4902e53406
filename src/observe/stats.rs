//! The same values as one JSON document, with quantiles, for people and small scripts.

use std::fmt::Display;
use std::io::Write as _;

use crate::base::time::UnixMillis;

use super::catalog::{CLOSED, Counter, Gauge, Histogram, Row};
use super::{CloseReason, Metrics, Process, Seconds, ShardMetrics, Snapshot};

/// The media type of what [`write()`] makes.
pub const CONTENT_TYPE: &str = "application/json";

const QUANTILES: [(&str, f64); 5] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999), ("max", 1.0)];

/// Appends one JSON object: the process, all shards together (`total`), each by itself (`shards`).
///
/// Names are those of the metrics without their prefix; a label's values are the keys of an
/// object. Spans are in seconds.
pub fn write(metrics: &Metrics, process: &Process, at: UnixMillis, out: &mut Vec<u8>) {
    let mut json = Json { out, is_first: true };
    json.object(None, |json| {
        json.text("at", &at.to_civil());
        json.text("version", &process.version);
        let up = at.0.saturating_sub(process.started.0);
        json.number("uptime_seconds", Seconds(up.saturating_mul(1_000_000)));
        json.object(Some("process"), |json| {
            json.number("cpu_seconds", Seconds(process.cpu.as_nanos() as u64));
            json.number("resident_bytes", process.resident_bytes);
            json.number("descriptors_open", process.descriptors_open);
            json.number("descriptors_max", process.descriptors_max);
            json.number("threads", process.threads);
        });
        json.object(Some("total"), |json| scope(&Scope::All(metrics), metrics, json));
        json.array("shards", |json| {
            for (_, shard) in metrics.shards() {
                json.object(None, |json| scope(&Scope::One(shard), metrics, json));
            }
        });
    });
}

enum Scope<'a> {
    All(&'a Metrics),
    One(&'a ShardMetrics),
}

impl Scope<'_> {
    fn counter(&self, counter: Counter) -> u64 {
        match self {
            Self::All(metrics) => metrics.total(counter),
            Self::One(shard) => shard.counter(counter),
        }
    }

    fn gauge(&self, gauge: Gauge) -> u64 {
        match self {
            Self::All(metrics) => metrics.total_gauge(gauge),
            Self::One(shard) => shard.gauge(gauge),
        }
    }

    fn histogram(&self, histogram: Histogram) -> Snapshot {
        match self {
            Self::All(metrics) => metrics.total_histogram(histogram),
            Self::One(shard) => shard.histogram(histogram),
        }
    }

    fn closed(&self, reason: CloseReason, dialect: Option<usize>) -> u64 {
        match self {
            Self::All(metrics) => {
                metrics.shards().map(|(_, s)| s.closed_count(reason, dialect)).sum()
            }
            Self::One(shard) => shard.closed_count(reason, dialect),
        }
    }
}

fn scope(scope: &Scope<'_>, metrics: &Metrics, json: &mut Json<'_>) {
    families(Gauge::ALL, Gauge::row, json, |json, key, gauge| {
        json.number(key, scope.gauge(gauge));
    });
    families(Counter::ALL, Counter::row, json, |json, key, counter| {
        json.number(key, scope.counter(counter));
    });
    json.object(Some(short(CLOSED.name)), |json| {
        let names = metrics.dialects().iter().enumerate().map(|(index, &name)| (Some(index), name));
        for (dialect, name) in names.chain([(None, "none")]) {
            json.object(Some(name), |json| {
                for reason in CloseReason::ALL {
                    json.number(reason.as_str(), scope.closed(reason, dialect));
                }
            });
        }
    });
    families(Histogram::ALL, Histogram::row, json, |json, key, histogram| {
        let snapshot = scope.histogram(histogram);
        json.object(Some(key), |json| {
            json.number("count", snapshot.count());
            json.number("sum", Seconds(snapshot.sum().as_nanos() as u64));
            for (name, part) in QUANTILES {
                match snapshot.quantile(part) {
                    Some(span) => json.number(name, Seconds(span.as_nanos() as u64)),
                    None => json.number(name, "null"),
                }
            }
        });
    });
}

/// Shows each metric: by its name, or as an object by the values of its label.
fn families<M: Copy>(
    all: &[M],
    row: impl Fn(M) -> &'static Row,
    json: &mut Json<'_>,
    mut show: impl FnMut(&mut Json<'_>, &'static str, M),
) {
    for family in all.chunk_by(|&a, &b| row(a).name == row(b).name) {
        let name = short(row(family[0]).name);
        if row(family[0]).label.is_none() {
            show(json, name, family[0]);
            continue;
        }
        json.object(Some(name), |json| {
            for &metric in family {
                let value = row(metric).label.map_or("", |(_, value)| value);
                show(json, value, metric);
            }
        });
    }
}

fn short(name: &'static str) -> &'static str {
    name.strip_prefix("ringmain_").unwrap_or(name)
}

/// Writes JSON and minds the commas. Keys and texts are ours: plain ASCII without quotes.
struct Json<'a> {
    out: &'a mut Vec<u8>,
    is_first: bool,
}

impl Json<'_> {
    fn object(&mut self, key: Option<&str>, inside: impl FnOnce(&mut Json<'_>)) {
        self.key(key);
        self.nest(b"{}", inside);
    }

    fn array(&mut self, key: &str, inside: impl FnOnce(&mut Json<'_>)) {
        self.key(Some(key));
        self.nest(b"[]", inside);
    }

    fn nest(&mut self, brackets: &[u8; 2], inside: impl FnOnce(&mut Json<'_>)) {
        self.out.push(brackets[0]);
        inside(&mut Json { out: self.out, is_first: true });
        self.out.push(brackets[1]);
    }

    fn number(&mut self, key: &str, value: impl Display) {
        self.key(Some(key));
        // Writing to memory cannot fail.
        let _ = write!(self.out, "{value}");
    }

    fn text(&mut self, key: &str, value: &dyn Display) {
        self.key(Some(key));
        let _ = write!(self.out, "\"{value}\"");
    }

    fn key(&mut self, key: Option<&str>) {
        if !std::mem::take(&mut self.is_first) {
            self.out.push(b',');
        }
        if let Some(key) = key {
            let _ = write!(self.out, "\"{key}\":");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::base::ids::ShardId;
    use crate::observe::catalog;

    fn printed() -> String {
        let metrics = Metrics::new(2, &["pusher"]);
        for shard in [ShardId(0), ShardId(1)] {
            let shard = metrics.shard(shard);
            shard.add(Counter::EventsPublished, 21);
            shard.add(Counter::MailsDown, 2);
            shard.closed(CloseReason::Peer, Some(0));
            shard.record(Histogram::Tick, Duration::from_nanos(1024));
        }
        let process = Process {
            version: "1.2.3",
            started: UnixMillis(1_700_000_000_000),
            ..Process::default()
        };
        let mut out = Vec::new();
        write(&metrics, &process, UnixMillis(1_700_000_001_500), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn totals_come_before_shards() {
        let text = printed();
        assert!(text.starts_with(
            "{\"at\":\"2023-11-14T22:13:21.500Z\",\"version\":\"1.2.3\",\"uptime_seconds\":1.5,\"process\":{"
        ));
        let (total, shards) = text.split_once("\"shards\":[").unwrap();
        for (part, times, events) in [(total, 1, "42"), (shards, 2, "21")] {
            for row in catalog::rows() {
                let key = format!("\"{}\":", short(row.name));
                assert_eq!(part.matches(&key).count(), times, "{key}");
            }
            assert_eq!(
                part.matches(&format!("\"events_published_total\":{events},")).count(),
                times
            );
        }
        assert!(total.contains("\"mails_sent_total\":{\"up\":0,\"down\":4},"));
        assert!(
            total.contains("\"connections_closed_total\":{\"pusher\":{\"peer\":2,\"session\":0,")
        );
        assert!(
            total
                .contains("\"tick_seconds\":{\"count\":2,\"sum\":0.000002048,\"p50\":0.000000512,")
        );
        assert!(total.contains("\"publish_seconds\":{\"count\":0,\"sum\":0,\"p50\":null,"));
    }

    #[test]
    fn it_is_json() {
        // A small strict reader: values, objects and arrays, nothing left over.
        fn value(text: &str) -> &str {
            match text.as_bytes()[0] {
                open @ (b'{' | b'[') => {
                    let close = if open == b'{' { '}' } else { ']' };
                    let mut rest = &text[1..];
                    loop {
                        if open == b'{' {
                            rest = string(rest).strip_prefix(':').expect(rest);
                        }
                        rest = value(rest);
                        match rest.strip_prefix(',') {
                            Some(more) => rest = more,
                            None => return rest.strip_prefix(close).expect(rest),
                        }
                    }
                }
                b'"' => string(text),
                b'n' => text.strip_prefix("null").expect(text),
                _ => {
                    let end = text.find([',', '}', ']']).expect(text);
                    text[..end].parse::<f64>().expect(&text[..end]);
                    &text[end..]
                }
            }
        }
        fn string(text: &str) -> &str {
            text.strip_prefix('"').expect(text).split_once('"').expect(text).1
        }
        assert_eq!(value(&printed()), "");
    }
}
