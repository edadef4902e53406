//! Prints every metric in Prometheus' text format, version 0.0.4.

use std::io::Write as _;

use super::catalog::{CLOSED, Counter, Gauge, Histogram, Kind, Row};
use super::{CloseReason, Metrics, Process, Seconds};

/// The media type of what [`write()`] makes.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Appends all metrics of all shards, and those of the process.
pub fn write(metrics: &Metrics, process: &Process, out: &mut Vec<u8>) {
    for family in Counter::ALL.chunk_by(|a, b| a.row().name == b.row().name) {
        head(family[0].row(), out);
        for &counter in family {
            for (shard, values) in metrics.shards() {
                series(counter.row(), "", shard.0, None, values.counter(counter), out);
            }
        }
    }
    for family in Gauge::ALL.chunk_by(|a, b| a.row().name == b.row().name) {
        head(family[0].row(), out);
        for &gauge in family {
            for (shard, values) in metrics.shards() {
                series(gauge.row(), "", shard.0, None, values.gauge(gauge), out);
            }
        }
    }
    for family in Histogram::ALL.chunk_by(|a, b| a.row().name == b.row().name) {
        head(family[0].row(), out);
        for &histogram in family {
            let row = histogram.row();
            for (shard, values) in metrics.shards() {
                let snapshot = values.histogram(histogram);
                let count = snapshot.count();
                for (upper, below) in snapshot.octaves() {
                    let upper = Seconds(upper).to_string();
                    series(row, "_bucket", shard.0, Some(&upper), below, out);
                }
                series(row, "_bucket", shard.0, Some("+Inf"), count, out);
                series(row, "_sum", shard.0, None, Seconds(snapshot.sum().as_nanos() as u64), out);
                series(row, "_count", shard.0, None, count, out);
            }
        }
    }
    closed(metrics, out);
    about_process(process, out);
}

fn closed(metrics: &Metrics, out: &mut Vec<u8>) {
    head(&CLOSED, out);
    let names = metrics.dialects().iter().enumerate().map(|(index, &name)| (Some(index), name));
    for (dialect, name) in names.chain([(None, "none")]) {
        for reason in CloseReason::ALL {
            for (shard, values) in metrics.shards() {
                let (metric, reason_text) = (CLOSED.name, reason.as_str());
                let count = values.closed_count(reason, dialect);
                line(
                    format_args!(
                        "{metric}{{shard=\"{}\",reason=\"{reason_text}\",dialect=\"{name}\"}} {count}\n",
                        shard.0
                    ),
                    out,
                );
            }
        }
    }
}

/// The names every Prometheus client library uses for these.
fn about_process(process: &Process, out: &mut Vec<u8>) {
    let cpu = Seconds(process.cpu.as_nanos() as u64).to_string();
    let started = Seconds(process.started.0.saturating_mul(1_000_000)).to_string();
    for (name, kind, help, value) in [
        ("process_cpu_seconds_total", "counter", "CPU time spent, user and system.", cpu),
        ("process_start_time_seconds", "gauge", "When the process started, since 1970.", started),
        (
            "process_resident_memory_bytes",
            "gauge",
            "Memory of the process in RAM.",
            process.resident_bytes.to_string(),
        ),
        ("process_open_fds", "gauge", "Descriptors open.", process.descriptors_open.to_string()),
        (
            "process_max_fds",
            "gauge",
            "Descriptors that may be open.",
            process.descriptors_max.to_string(),
        ),
        ("process_threads", "gauge", "Threads.", process.threads.to_string()),
    ] {
        line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n"), out);
    }
    let (name, version) = ("ringmain_build_info", process.version);
    line(
        format_args!(
            "# HELP {name} Always 1; the version is its label.\n# TYPE {name} gauge\n\
             {name}{{version=\"{version}\"}} 1\n"
        ),
        out,
    );
}

fn head(row: &Row, out: &mut Vec<u8>) {
    let kind = match row.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    };
    line(format_args!("# HELP {0} {1}\n# TYPE {0} {kind}\n", row.name, row.help), out);
}

/// One line of a series. Labels need no escapes: they come from closed sets of ours.
fn series(
    row: &Row,
    suffix: &str,
    shard: u16,
    upper: Option<&str>,
    value: impl std::fmt::Display,
    out: &mut Vec<u8>,
) {
    line(format_args!("{}{suffix}{{shard=\"{shard}\"", row.name), out);
    if let Some((label, value)) = row.label {
        line(format_args!(",{label}=\"{value}\""), out);
    }
    if let Some(upper) = upper {
        line(format_args!(",le=\"{upper}\""), out);
    }
    line(format_args!("}} {value}\n"), out);
}

fn line(text: std::fmt::Arguments<'_>, out: &mut Vec<u8>) {
    // Writing to memory cannot fail.
    let _ = out.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};
    use std::time::Duration;

    use super::*;
    use crate::base::ids::ShardId;
    use crate::base::time::UnixMillis;
    use crate::observe::catalog;

    #[derive(Debug, PartialEq)]
    struct Sample {
        metric: String,
        name: String,
        labels: BTreeMap<String, String>,
        value: f64,
    }

    fn is_name(text: &str) -> bool {
        !text.is_empty()
            && !text.as_bytes()[0].is_ascii_digit()
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    }

    /// Reads the format and panics on anything it does not allow.
    fn parse(text: &str) -> (BTreeMap<String, String>, Vec<Sample>) {
        assert!(text.ends_with('\n'), "the last line ends, too");
        let (mut kinds, mut samples) = (BTreeMap::new(), Vec::new());
        let (mut helped, mut current) = (HashSet::new(), String::new());
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect(line);
                assert!(is_name(name) && !help.is_empty() && !help.contains('\\'), "{line}");
                assert!(
                    helped.insert(name.to_owned()),
                    "{name}: samples of a metric stand together"
                );
                current = name.to_owned();
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect(line);
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert_eq!(name, current, "TYPE follows HELP");
                assert_eq!(kinds.insert(name.to_owned(), kind.to_owned()), None);
            } else {
                let (series, value) = line.rsplit_once(' ').expect(line);
                let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
                let labels = labels.strip_suffix('}').expect(line);
                let mut read = BTreeMap::new();
                for label in labels.split(',').filter(|label| !label.is_empty()) {
                    let (key, value) = label.split_once("=\"").expect(line);
                    let value = value.strip_suffix('"').expect(line);
                    assert!(is_name(key) && !value.contains(['"', '\\']), "{line}");
                    assert_eq!(read.insert(key.to_owned(), value.to_owned()), None, "{line}");
                }
                let suffixes: &[&str] = match kinds.get(&current).expect(line).as_str() {
                    "histogram" => &["_bucket", "_sum", "_count"],
                    _ => &[""],
                };
                let suffix = name.strip_prefix(&*current).expect(line);
                assert!(suffixes.contains(&suffix), "{line}");
                assert_eq!(suffix == "_bucket", read.contains_key("le"), "{line}");
                let value = value.parse().expect(line);
                let (metric, name) = (current.clone(), name.to_owned());
                samples.push(Sample { metric, name, labels: read, value });
            }
        }
        (kinds, samples)
    }

    fn filled() -> (Metrics, Process) {
        let metrics = Metrics::new(2, &["pusher", "admin"]);
        let shard = metrics.shard(ShardId(1));
        shard.add(Counter::HttpRefused431, 3);
        shard.set(Gauge::BacklogUp, 4);
        shard.record(Histogram::StageHop, Duration::from_nanos(1500));
        shard.record(Histogram::StageHop, Duration::from_secs(100));
        shard.closed(CloseReason::SlowConsumer, Some(0));
        let process = Process {
            memory_bytes: 0,
            memory_available_bytes: 0,
            version: "1.2.3",
            started: UnixMillis(1_700_000_000_500),
            cpu: Duration::from_millis(1250),
            resident_bytes: 1 << 20,
            descriptors_open: 12,
            descriptors_max: 20_000,
            threads: 3,
        };
        (metrics, process)
    }

    fn printed() -> (BTreeMap<String, String>, Vec<Sample>) {
        let (metrics, process) = filled();
        let mut out = Vec::new();
        write(&metrics, &process, &mut out);
        parse(std::str::from_utf8(&out).unwrap())
    }

    fn value(samples: &[Sample], name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |sample: &&Sample| {
            sample.name == name
                && sample.labels.len() == labels.len()
                && labels
                    .iter()
                    .all(|(key, value)| sample.labels.get(*key).is_some_and(|v| v == value))
        };
        let found: Vec<_> = samples.iter().filter(has).collect();
        assert_eq!(found.len(), 1, "{name} {labels:?}");
        found[0].value
    }

    #[test]
    fn every_row_of_the_catalog_appears_once_per_shard() {
        let (kinds, samples) = printed();
        for row in catalog::rows() {
            assert_eq!(kinds[row.name], format!("{:?}", row.kind).to_lowercase());
            for shard in ["0", "1"] {
                let of_row = |sample: &&Sample| {
                    sample.metric == row.name
                        && sample.labels["shard"] == shard
                        && row.label.is_none_or(|(key, value)| sample.labels[key] == value)
                };
                let expected = match row {
                    row if row.name == CLOSED.name => CloseReason::ALL.len() * 3,
                    Row { kind: Kind::Histogram, .. } => 25 + 1 + 2,
                    _ => 1,
                };
                assert_eq!(samples.iter().filter(of_row).count(), expected, "{row:?}");
            }
        }
        let series: HashSet<_> = samples.iter().map(|s| (&s.name, &s.labels)).collect();
        assert_eq!(series.len(), samples.len(), "no series comes twice");
    }

    #[test]
    fn values_come_with_their_labels() {
        let (_, samples) = printed();
        let value = |name, labels: &[_]| value(&samples, name, labels);
        assert_eq!(value("ringmain_http_refused_total", &[("shard", "1"), ("status", "431")]), 3.0);
        assert_eq!(value("ringmain_http_refused_total", &[("shard", "0"), ("status", "431")]), 0.0);
        assert_eq!(value("ringmain_backlog_mails", &[("shard", "1"), ("direction", "up")]), 4.0);
        let reason = [("shard", "1"), ("reason", "slow_consumer"), ("dialect", "pusher")];
        assert_eq!(value("ringmain_connections_closed_total", &reason), 1.0);
        assert_eq!(value("process_start_time_seconds", &[]), 1_700_000_000.5);
        assert_eq!(value("process_cpu_seconds_total", &[]), 1.25);
        assert_eq!(value("ringmain_build_info", &[("version", "1.2.3")]), 1.0);
    }

    #[test]
    fn a_histogram_adds_up() {
        let (_, samples) = printed();
        let hop = [("shard", "1"), ("stage", "hop")];
        let bucket = |le| {
            value(&samples, "ringmain_publish_stage_seconds_bucket", &[hop[0], hop[1], ("le", le)])
        };
        assert_eq!(bucket("0.000001024"), 0.0);
        assert_eq!(bucket("0.000002048"), 1.0);
        assert_eq!(bucket("17.179869184"), 1.0);
        assert_eq!(bucket("+Inf"), 2.0);
        assert_eq!(value(&samples, "ringmain_publish_stage_seconds_count", &hop), 2.0);
        assert_eq!(value(&samples, "ringmain_publish_stage_seconds_sum", &hop), 100.000_001_5);
        for sample in samples.iter().filter(|sample| sample.labels.contains_key("le")) {
            let le: f64 = sample.labels["le"].replace("+Inf", "inf").parse().unwrap();
            assert!(le > 0.0);
        }
    }
}
