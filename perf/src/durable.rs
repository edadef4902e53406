//! What is kept: durable publishes against the bare database and the bare disk, a storm of them beside a
//! fan-out, pages of history, bytes on disk.
//!
//! Every cell is a server of its own on an empty directory. Cells and what they are compared with run in turn,
//! round after round; a ratio is of two figures of one round.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::args::Args;
use crate::bare::{self, Prepared};
use crate::bench::{Bench, Fresh};
use crate::lines::{self, Cells, Figures, Line, Target, quantiles};
use crate::load::{DURABLE, Load, Pace, Pages, Shape, Storm};
use crate::process::{self, Server};
use crate::publish::Credentials;
use crate::report::without_folders;

/// The parts by name, with what they are for.
pub const PARTS: &[(&str, &str)] = &[
    (
        "durable",
        "acknowledged durable publishes a second against the bare database, latency of one against fdatasync",
    ),
    (
        "storm",
        "fan-out beside a storm of durable publishes: CPU per delivered message, p99 to the last subscriber",
    ),
    (
        "history",
        "pages of 100 events from memory and from disk: pages per CPU-second of the server",
    ),
    ("disk", "bytes on disk and bytes written for each event that is kept"),
];

/// What all parts are told.
struct Kept {
    bench: Bench,
    size: usize,
    channels: usize,
    /// The generator sleeps when nothing has come, unless `--spin`.
    is_patient: bool,
}

/// Runs a part: rounds, table, files.
pub fn run(part: &str, args: &Args, words: &[String]) -> Result<(), String> {
    let rounds: usize = args.value("rounds", 5)?;
    let out = args.text("out").unwrap_or_else(|| "perf/results".into());
    let name = match part {
        "durable" => "durable".to_owned(),
        part => format!("durable-{part}"),
    };
    let name = args.text("name").unwrap_or(name);
    let plan = Plan::read(part, args)?;
    let kept = Kept {
        size: args.value("size", 128)?,
        channels: args.value("channels", 64)?,
        is_patient: args.text("spin").is_none(),
        bench: Bench::read(args, "perf/target/durable", 1.0)?,
    };
    args.finish()?;
    let command = format!("ringmain-perf {part} {}", without_folders(&words.join(" ")));
    let round = || plan.round(&kept);
    let lines = |runs: &[Cells]| plan.lines(&kept, runs);
    lines::measure((&name, &command, &out), (&kept.bench.machine, rounds), round, lines)
}

/// A part with its numbers.
enum Plan {
    /// Cells by publishes in flight and events of each; then one alone.
    Durable(Vec<(usize, usize)>),
    Storm {
        subscribers: usize,
        rate: f64,
        storm: Storm,
    },
    History {
        in_flight: usize,
        events: u64,
    },
    Disk(Vec<(usize, u64)>),
}

/// `AxB`, several with commas.
fn pairs(args: &Args, name: &str, default: &str) -> Result<Vec<(usize, usize)>, String> {
    let text = args.text(name).unwrap_or_else(|| default.into());
    let pair = |word: &str| {
        let (left, right) = word.split_once('x')?;
        Some((left.parse().ok()?, right.parse().ok()?))
    };
    let pairs = text.split(',').filter(|it| !it.is_empty()).map(pair);
    pairs.collect::<Option<_>>().ok_or_else(|| format!("--{name}: want AxB,CxD, not {text:?}"))
}

impl Plan {
    fn read(part: &str, args: &Args) -> Result<Self, String> {
        Ok(match part {
            "durable" => {
                Self::Durable(pairs(args, "cells", "64x1,256x1,1024x1,16x10,16x100,64x100")?)
            }
            "storm" => {
                let rate: f64 = args.value("storm-rate", 1000.0)?;
                Self::Storm {
                    subscribers: args.value("subscribers", 1000)?,
                    rate: args.value("rate", 50.0)?,
                    storm: Storm {
                        publishers: args.value("storm-publishers", 64)?,
                        rate: (rate > 0.0).then_some(rate),
                        size: args.value("storm-size", 128)?,
                        channels: args.value("storm-channels", 64)?,
                    },
                }
            }
            "history" => Self::History {
                in_flight: args.value("in-flight", 16)?,
                events: args.value("events", 20_000)?,
            },
            "disk" => {
                let cells = pairs(args, "cells", "128x400000,1024x150000")?;
                Self::Disk(cells.into_iter().map(|(size, events)| (size, events as u64)).collect())
            }
            other => return Err(format!("no part {other:?}")),
        })
    }

    fn round(&self, kept: &Kept) -> io::Result<Cells> {
        let mut cells = Cells::new();
        match self {
            Self::Durable(pairs) => {
                for &(in_flight, batch) in pairs {
                    let ours = kept.publish(DURABLE, in_flight, batch)?;
                    let group = (ours["records_per_sync"].round() as usize).max(1);
                    let bare = kept.bare(group)?;
                    let name = format!("{in_flight}x{batch}");
                    cells.insert(format!("{name} bare database"), bare);
                    let unkept = kept.publish(UNKEPT, in_flight, batch)?;
                    cells.insert(format!("{name} not kept"), unkept);
                    cells.insert(name, ours);
                }
                let alone = ["alone: fdatasync", "alone: fdatasync, a hole"];
                for (name, prepared) in alone.into_iter().zip([Prepared::Written, Prepared::Hole]) {
                    cells.insert(name.into(), kept.syncs(prepared)?);
                }
                cells.insert("alone: bare database".into(), kept.bare(1)?);
                cells.insert("alone: not kept".into(), kept.publish(UNKEPT, 1, 1)?);
                cells.insert("alone".into(), kept.publish(DURABLE, 1, 1)?);
            }
            Self::Storm { subscribers, rate, storm } => {
                for (name, rate, storm) in [
                    ("fan-out", Some(*rate), None),
                    ("storm", None, Some(*storm)),
                    // What a publish of the storm costs at the least: the shard never sleeps between two.
                    ("storm, busy", None, Some(Storm { rate: None, ..*storm })),
                    ("both", Some(*rate), Some(*storm)),
                ] {
                    cells.insert(name.into(), kept.storm(*subscribers, rate, storm)?);
                }
                let both = &cells["both"];
                let mut derived = Figures::new();
                // Alone, a publish of the storm wakes a sleeping shard, which beside a fan-out it often need not:
                // taking that off takes too much. What it costs a busy shard is the least it can cost: taking
                // that off leaves the fan-out all that is in doubt.
                for (figure, storm) in
                    [("cpu_us_per_delivered", "storm, busy"), ("with_wakes_taken_off", "storm")]
                {
                    let storms =
                        cells[storm]["shards_us_per_storm_publish"] * both["storm_published"];
                    let own = (both["shards_us"] - storms) / both["delivered"];
                    derived.insert(figure.into(), own);
                }
                cells.insert("both, storm taken off".into(), derived);
            }
            Self::History { in_flight, events } => {
                for (name, prefix, pages) in [
                    ("memory channel", "memory-", Pages::Newest),
                    ("durable channel, window", DURABLE, Pages::Newest),
                    ("durable channel, disk", DURABLE, Pages::Among(events - 1000)),
                ] {
                    let figures = kept.pages(prefix, pages, *in_flight, *events)?;
                    cells.insert(name.into(), figures);
                }
            }
            Self::Disk(pairs) => {
                for &(size, events) in pairs {
                    cells.insert(format!("{size} B"), kept.disk(size, events)?);
                }
            }
        }
        Ok(cells)
    }

    fn lines(&self, kept: &Kept, runs: &[Cells]) -> Vec<Line> {
        let of = |cell: &str, figure: &str| lines::of(runs, cell, figure);
        let mut lines = Vec::new();
        match self {
            Self::Durable(pairs) => {
                for (in_flight, batch) in pairs {
                    let name = format!("{in_flight}x{batch}");
                    let what = match batch {
                        1 => format!("{in_flight} publishes of {} B in flight", kept.size),
                        _ => format!("{in_flight} batches of {batch} in flight"),
                    };
                    let bare = of(&format!("{name} bare database"), "records_per_s");
                    let ours = of(&name, "acknowledged_per_s");
                    let unkept = of(&format!("{name} not kept"), "acknowledged_per_s");
                    let line = Line::new(what.clone(), "/s", ours.clone());
                    let line = line.beside("bare database", bare);
                    lines.push(line.target(Target::RatioMin(0.5)));
                    lines.push(Line::new(what, "/s", ours).beside("the same, not kept", unkept));
                }
                for (part, target) in [("p50_us", Target::RatioMax(1.5)), ("p99_us", Target::None)]
                {
                    let ours = of("alone", &format!("answer_{part}"));
                    let line = |what: &str, cell: &str| {
                        let beside = of(cell, &format!("took_{part}"));
                        let name = format!("one alone, {}", part.trim_end_matches("_us"));
                        Line::new(name, "µs", ours.clone()).beside(what, beside)
                    };
                    lines.push(line("fdatasync", "alone: fdatasync").target(target));
                    lines.push(line("fdatasync, a hole", "alone: fdatasync, a hole"));
                    lines.push(line("bare database", "alone: bare database"));
                    let unkept = of("alone: not kept", &format!("answer_{part}"));
                    let name = format!("one alone, {}", part.trim_end_matches("_us"));
                    lines.push(
                        Line::new(name, "µs", ours.clone()).beside("the same, not kept", unkept),
                    );
                }
            }
            Self::Storm { .. } => {
                let own = of("both, storm taken off", "cpu_us_per_delivered");
                let quiet = of("fan-out", "shards_us_per_delivered");
                lines.push(
                    Line::new(
                        "CPU of the shards per delivered message, storm taken off",
                        "µs",
                        own,
                    )
                    .beside("without a storm", quiet)
                    .target(Target::RatioMax(1.1)),
                );
                let own = of("both, storm taken off", "with_wakes_taken_off");
                let quiet = of("fan-out", "shards_us_per_delivered");
                lines.push(
                    Line::new("the same, with the storm's wakes taken off", "µs", own)
                        .beside("without a storm", quiet),
                );
                for (part, target) in [("p50", Target::None), ("p99", Target::RatioMax(1.5))] {
                    let figure = format!("last_{part}_us");
                    lines.push(
                        Line::new(
                            format!("publish to the last subscriber, {part}"),
                            "µs",
                            of("both", &figure),
                        )
                        .beside("without a storm", of("fan-out", &figure))
                        .target(target),
                    );
                }
                let storms = of("both", "storm_per_s");
                lines.push(
                    Line::new("durable publishes of the storm", "/s", storms)
                        .beside("without a fan-out", of("storm", "storm_per_s")),
                );
            }
            Self::History { .. } => {
                for name in ["memory channel", "durable channel, window", "durable channel, disk"] {
                    let target = match name {
                        "durable channel, disk" => Target::None,
                        _ => Target::ValueMin(20_000.0),
                    };
                    let pages = of(name, "pages_per_cpu_s");
                    lines.push(Line::new(name, "pages/CPU-s", pages).target(target));
                }
                for name in ["memory channel", "durable channel, window", "durable channel, disk"] {
                    let cpu = of(name, "cpu_us_per_page");
                    lines.push(Line::new(format!("{name}, each"), "µs of CPU", cpu));
                }
            }
            Self::Disk(pairs) => {
                for (size, _) in pairs {
                    let cell = format!("{size} B");
                    for (figure, unit) in [
                        ("disk_bytes_per_event", "bytes/event"),
                        ("disk_bytes_per_event_settled", "bytes/event"),
                        ("tables_bytes_per_event_settled", "bytes/event"),
                        ("written_per_payload_byte", "bytes/byte"),
                        ("written_per_payload_byte_settled", "bytes/byte"),
                    ] {
                        let values = of(&cell, figure);
                        lines.push(Line::new(format!("{cell}: {figure}"), unit, values));
                    }
                }
            }
        }
        lines
    }
}

/// Channels of which nothing is kept.
const UNKEPT: &str = "perf-";

const CONFIG: &str = r#"
[[apps]]
id = "app-id"
key = "app-key"
secret = "app-secret"

[[history.channels]]
pattern = "durable-*"
mode = "durable"

[[history.channels]]
pattern = "memory-*"
mode = "memory"
events_max = 1000
"#;

impl Kept {
    fn load(&self, server: &Server, shape: Shape, size: usize) -> io::Result<Load> {
        let credentials = Credentials {
            app: "app-id".into(),
            key: "app-key".into(),
            secret: "app-secret".into(),
        };
        let mut load = Load::new(server.address, &credentials, shape, size)?;
        load.is_patient = self.is_patient;
        Ok(load)
    }
    /// Publishes to channels of a kind, so many in flight, each of so many events.
    fn publish(&self, prefix: &'static str, in_flight: usize, batch: usize) -> io::Result<Figures> {
        let fresh = self.bench.fresh(CONFIG)?;
        let shape = Shape::Alone { prefix, channels: self.channels, batch };
        let mut load = self.load(&fresh.server, shape, self.size)?;
        load.open_publishers(in_flight)?;
        let window = self.bench.window(&fresh.server, &mut load, Pace::InFlight)?;
        let mut figures = window.figures();
        let events = window.counts.acknowledged as f64;
        figures.insert("acknowledged_per_s".into(), events / window.seconds);
        quantiles(&mut figures, "answer", &window.answer);
        window.per(&mut figures, "event", events);
        eprintln!(
            "  {prefix} {in_flight}x{batch}: {:.0}/s, {:.1} records a sync, answer p50 {:.0} us",
            figures["acknowledged_per_s"],
            figures.get("records_per_sync").unwrap_or(&0.0),
            figures["answer_p50_us"]
        );
        Ok(figures)
    }

    fn bare(&self, batch: usize) -> io::Result<Figures> {
        let folder = self.bench.empty_folder()?;
        let load = (batch, self.channels as u64, self.size);
        let cpu = process::by_thread(std::process::id())?;
        let done = bare::commits(
            &folder.path().join("store"),
            self.bench.server_core,
            load,
            self.bench.seconds,
        );
        let cpu = process::by_thread(std::process::id())?.since(cpu);
        let done = done?;
        let records = done.took.total() as f64 * batch as f64;
        let mut figures = Figures::new();
        figures.insert("records_per_batch".into(), batch as f64);
        figures.insert("records_per_s".into(), records / done.seconds);
        figures
            .insert("database_threads_us_per_record".into(), cpu.store_ns as f64 / 1e3 / records);
        quantiles(&mut figures, "took", &done.took);
        eprintln!("  bare, {batch} a batch: {:.0}/s", figures["records_per_s"]);
        Ok(figures)
    }

    fn syncs(&self, prepared: Prepared) -> io::Result<Figures> {
        let folder = self.bench.empty_folder()?;
        let done = bare::syncs(
            folder.path(),
            self.bench.server_core,
            prepared,
            self.size,
            self.bench.seconds,
        );
        let mut figures = Figures::new();
        quantiles(&mut figures, "took", &done?.took);
        eprintln!("  fdatasync p50 {:.0} us", figures["took_p50_us"]);
        Ok(figures)
    }

    /// Subscribers of one ephemeral channel, which is published to at a rate if one is given, beside a storm.
    fn storm(
        &self,
        subscribers: usize,
        rate: Option<f64>,
        storm: Option<Storm>,
    ) -> io::Result<Figures> {
        let fresh = self.bench.fresh(CONFIG)?;
        let mut load = self.load(&fresh.server, Shape::Fanout, self.size)?;
        // Without a rate nobody is there to publish.
        load.open(subscribers, 64, if rate.is_some() { 64 } else { 0 })?;
        if let Some(storm) = storm {
            load.open_storm(storm)?;
        }
        let window =
            self.bench.window(&fresh.server, &mut load, Pace::Rate(rate.unwrap_or(1.0)))?;
        let mut figures = window.figures();
        let counts = &window.counts;
        figures.insert("delivered".into(), counts.delivered as f64);
        figures.insert("shards_us".into(), window.cpu.shards_ns as f64 / 1e3);
        figures.insert("store_us".into(), window.cpu.store_ns as f64 / 1e3);
        figures.insert("all_us".into(), window.cpu.all_ns() as f64 / 1e3);
        if rate.is_some() {
            if !load.one_order() {
                return Err(io::Error::other("subscribers saw different orders"));
            }
            window.per(&mut figures, "delivered", counts.delivered as f64);
            quantiles(&mut figures, "last", &window.last);
        }
        if storm.is_some() {
            let published = counts.storm_acknowledged as f64;
            figures.insert("storm_published".into(), published);
            figures.insert("storm_per_s".into(), published / window.seconds);
            quantiles(&mut figures, "storm_answer", &window.storm_answer);
            window.per(&mut figures, "storm_publish", published);
        }
        eprintln!("  {:?}", figures.get("last_p99_us"));
        Ok(figures)
    }

    fn pages(
        &self,
        prefix: &'static str,
        pages: Pages,
        in_flight: usize,
        events: u64,
    ) -> io::Result<Figures> {
        let fresh = self.bench.fresh(CONFIG)?;
        self.fill(&fresh, prefix, self.size, events)?;
        let shape = Shape::Pages { channel: format!("{prefix}00000"), pages };
        let mut load = self.load(&fresh.server, shape, self.size)?;
        load.open_publishers(in_flight)?;
        let window = self.bench.window(&fresh.server, &mut load, Pace::InFlight)?;
        let count = window.counts.acknowledged as f64;
        let mut figures = window.figures();
        figures.insert("pages_per_s".into(), count / window.seconds);
        figures.insert("pages_per_cpu_s".into(), count * 1e9 / window.cpu.all_ns() as f64);
        figures.insert("cpu_us_per_page".into(), window.cpu.all_ns() as f64 / 1e3 / count);
        figures.insert("bytes_per_page".into(), window.counts.bytes as f64 / count);
        quantiles(&mut figures, "answer", &window.answer);
        window.per(&mut figures, "page", count);
        eprintln!("  {prefix} {pages:?}: {:.0} pages per CPU-second", figures["pages_per_cpu_s"]);
        Ok(figures)
    }

    /// Publishes so many events of one size to the first channel of a kind, in batches.
    fn fill(
        &self,
        fresh: &Fresh,
        prefix: &'static str,
        size: usize,
        events: u64,
    ) -> io::Result<()> {
        let shape = Shape::Alone { prefix, channels: 1, batch: 100 };
        let mut load = self.load(&fresh.server, shape, size)?;
        load.open_publishers(16)?;
        load.run(Pace::InFlight, |load, _| load.counts.published >= events)?;
        load.settle()?;
        match load.counts.acknowledged >= events {
            true => Ok(()),
            false => Err(io::Error::other(format!("not filled: {:?}", load.last_error()))),
        }
    }

    fn disk(&self, size: usize, events: u64) -> io::Result<Figures> {
        let fresh = self.bench.fresh(CONFIG)?;
        let pid = fresh.server.pid;
        let store = fresh.folder.path().join("store");
        let shape = Shape::Alone { prefix: DURABLE, channels: self.channels, batch: 100 };
        let mut load = self.load(&fresh.server, shape, size)?;
        load.open_publishers(16)?;
        let before = process::written_bytes(pid)?;
        load.run(Pace::InFlight, |load, _| load.counts.published >= events)?;
        load.settle()?;
        let stored = load.counts.acknowledged as f64;
        if load.faults.refused > 0 || stored < events as f64 {
            return Err(io::Error::other(format!("refused: {:?}", load.last_error())));
        }
        let mut figures = Figures::new();
        let payload = stored * size as f64;
        let mut look = |after: &str| -> io::Result<(u64, u64)> {
            let (written, (all, journals)) = (process::written_bytes(pid)?, blocks(&store)?);
            let mut put = |name: &str, value: f64| figures.insert(format!("{name}{after}"), value);
            put("disk_bytes_per_event", all as f64 / stored);
            put("tables_bytes_per_event", (all - journals) as f64 / stored);
            put("written_per_payload_byte", (written - before) as f64 / payload);
            put("journal_mib", journals as f64 / 1048576.0);
            Ok((all, written))
        };
        let mut last = look("")?;
        // Settled: nothing was written for a while. The server's own looks at its disk write nothing.
        let mut since = Instant::now();
        let deadline = since + SETTLE_MAX;
        while since.elapsed() < SETTLED_AFTER && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(200));
            let now = look("_settled")?;
            if std::mem::replace(&mut last, now) != now {
                since = Instant::now();
            }
        }
        figures.insert("events".into(), stored);
        eprintln!("  {size} B: {:.1} bytes an event", figures["disk_bytes_per_event"]);
        Ok(figures)
    }
}

/// Nothing was written for so long: the database has settled.
const SETTLED_AFTER: Duration = Duration::from_secs(3);
const SETTLE_MAX: Duration = Duration::from_secs(60);

/// Bytes that a folder takes on disk, and those of its journals.
fn blocks(folder: &Path) -> io::Result<(u64, u64)> {
    let (mut all, mut journals) = (0, 0);
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        // A file that was deleted just now counts nothing.
        let Ok(facts) = std::fs::symlink_metadata(&path) else { continue };
        let bytes = facts.blocks() * 512;
        all += bytes;
        if facts.is_dir() {
            all += blocks(&path)?.0;
        } else if path.extension().is_some_and(|it| it == "jnl") {
            journals += bytes;
        }
    }
    Ok((all, journals))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_pairs() {
        let read = |text: &str| {
            let args = Args::read(&[format!("--cells={text}")]).unwrap();
            pairs(&args, "cells", "")
        };
        assert_eq!(read("64x1,16x100"), Ok(vec![(64, 1), (16, 100)]));
        assert!(read("64").is_err());
    }
}
