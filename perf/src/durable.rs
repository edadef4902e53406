//! What is kept: durable publishes against the bare database and the bare disk, a storm of them beside a
//! fan-out, pages of history, bytes on disk.
//!
//! Every cell is a server of its own on an empty directory. Cells and what they are compared with run in turn,
//! round after round; a ratio is of two figures of one round.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Read, Write as _};
use std::net::SocketAddrV4;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::args::Args;
use crate::bare::{self, Prepared};
use crate::compare::{Spread, bars, spread, write_files};
use crate::histogram::Histogram;
use crate::load::{DURABLE, Load, Pace, Pages, Shape, Storm};
use crate::process::{self, ByThread, Server};
use crate::publish::Credentials;
use crate::report::{machine, taken, without_folders};
use crate::sys;

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
struct Bench {
    ringmain: String,
    folder: PathBuf,
    server_core: Option<usize>,
    nice: i32,
    seconds: f64,
    warmup: f64,
    size: usize,
    channels: usize,
    /// The generator sleeps when nothing has come, unless `--spin`.
    is_patient: bool,
}

/// The figures of a cell in one round, by name.
type Figures = BTreeMap<String, f64>;

/// A line of the result: a figure of each round, and what it is held against.
struct Line {
    what: String,
    unit: &'static str,
    ours: Vec<f64>,
    /// What it is compared with, in the same rounds.
    beside: Option<(String, Vec<f64>)>,
    target: Target,
}

#[derive(Clone, Copy)]
enum Target {
    None,
    RatioMin(f64),
    RatioMax(f64),
    ValueMin(f64),
}

impl Line {
    fn new(what: impl Into<String>, unit: &'static str, ours: Vec<f64>) -> Self {
        Self { what: what.into(), unit, ours, beside: None, target: Target::None }
    }

    fn beside(mut self, what: impl Into<String>, values: Vec<f64>) -> Self {
        self.beside = Some((what.into(), values));
        self
    }

    fn target(mut self, target: Target) -> Self {
        self.target = target;
        self
    }

    fn ratio(&self) -> Option<Spread> {
        let (_, beside) = self.beside.as_ref()?;
        spread(self.ours.iter().zip(beside).map(|(ours, beside)| ours / beside).collect())
    }

    fn verdict(&self) -> String {
        let (is, bound, said) = match self.target {
            Target::None => return "-".into(),
            Target::RatioMin(min) => (self.ratio().map(|it| it.median >= min), min, "at least"),
            Target::RatioMax(max) => (self.ratio().map(|it| it.median <= max), max, "at most"),
            Target::ValueMin(min) => {
                (spread(self.ours.clone()).map(|it| it.median >= min), min, "at least")
            }
        };
        let is = if is == Some(true) { "reached" } else { "not reached" };
        format!("{said} {bound}: {is}")
    }

    fn row(&self) -> String {
        let (ours, unit) = (spread(self.ours.clone()).map_or("-".into(), said), self.unit);
        let (beside, ratio) = match &self.beside {
            Some((what, values)) => (
                format!("{what}: {}", spread(values.clone()).map_or("-".into(), said)),
                self.ratio().map_or("-".into(), said),
            ),
            None => ("-".into(), "-".into()),
        };
        format!("| {} | {ours} {unit} | {beside} | {ratio} | {} |", self.what, self.verdict())
    }

    fn json(&self) -> Value {
        json!({
            "what": self.what,
            "unit": self.unit,
            "ours": self.ours,
            "beside": self.beside.as_ref().map(|(what, values)| json!({"what": what, "values": values})),
            "ratio": self.ratio().map(Spread::json),
            "target": self.verdict(),
        })
    }
}

fn number(value: f64) -> String {
    match value.abs() {
        it if it >= 1000.0 => format!("{value:.0}"),
        it if it >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

fn said(spread: Spread) -> String {
    let Spread { min, median, max } = spread;
    format!("{} ({}-{})", number(median), number(min), number(max))
}

/// Runs a part: rounds, table, files.
pub fn run(part: &str, args: &Args, words: &[String]) -> Result<(), String> {
    let core = |name: &str, default: usize| match args.text(name).as_deref() {
        Some("none") => Ok(None),
        _ => args.value(name, default).map(Some),
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let bench = Bench {
        ringmain: args.text("ringmain").ok_or("--ringmain is missing")?,
        folder: args.text("folder").unwrap_or_else(|| "perf/target/durable".into()).into(),
        server_core: core("server-core", 0)?,
        nice: args.value("nice", 0)?,
        seconds: args.value("seconds", 3.0)?,
        warmup: args.value("warmup", 1.0)?,
        size: args.value("size", 128)?,
        channels: args.value("channels", 64)?,
        is_patient: args.text("spin").is_none(),
    };
    let own_core = core("core", cores.min(2) - 1)?;
    let rounds: usize = args.value("rounds", 5)?;
    let out = args.text("out").unwrap_or_else(|| "perf/results".into());
    let name = match part {
        "durable" => "durable".to_owned(),
        part => format!("durable-{part}"),
    };
    let name = args.text("name").unwrap_or(name);
    let plan = Plan::read(part, args)?;
    args.finish()?;
    let machine = machine();
    if let Some(own) = own_core {
        sys::pin(own).map_err(|error| format!("--core {own}: {error}"))?;
    }
    if bench.nice != 0 {
        sys::nice(bench.nice).map_err(|error| format!("--nice {}: {error}", bench.nice))?;
    }
    let mut runs: Vec<BTreeMap<String, Figures>> = Vec::new();
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}: {part}");
        runs.push(plan.round(&bench).map_err(|error| error.to_string())?);
    }
    let lines = plan.lines(&bench, &runs);
    let command = format!("ringmain-perf {part} {}", without_folders(&words.join(" ")));
    let text = markdown(&name, &command, &machine, rounds, &lines, &runs);
    println!("{text}");
    let value = json!({
        "name": name,
        "command": command,
        "machine": machine,
        "lines": lines.iter().map(Line::json).collect::<Vec<_>>(),
        "rounds": runs,
    });
    write_files(&out, &name, text, &value, &picture(&name, &lines))
}

fn markdown(
    name: &str,
    command: &str,
    machine: &Value,
    rounds: usize,
    lines: &[Line],
    runs: &[BTreeMap<String, Figures>],
) -> String {
    let mut text = format!(
        "# {name}\n\n`{command}`\n\n{} {rounds} rounds, everything in turn. Median (min-max); a ratio is of the same round.\n\n\
         | what | here | beside | ratio | target |\n| --- | --- | --- | --- | --- |\n",
        taken(machine)
    );
    for line in lines {
        let _ = writeln!(text, "{}", line.row());
    }
    let _ = writeln!(text, "\nAll figures of each cell:\n");
    let cells: Vec<&String> = runs.first().into_iter().flat_map(|run| run.keys()).collect();
    for cell in cells {
        let _ = writeln!(text, "| {cell} | median (min-max) |\n| --- | --- |");
        for figure in runs[0][cell].keys() {
            let values =
                runs.iter().filter_map(|run| run.get(cell)?.get(figure).copied()).collect();
            let value = spread(values).map_or("-".into(), self::said);
            let _ = writeln!(text, "| {figure} | {value} |");
        }
        text.push('\n');
    }
    text
}

/// The ratios as bars; without any, the figures.
fn picture(name: &str, lines: &[Line]) -> String {
    let ratios: Vec<_> =
        lines.iter().filter_map(|it| Some((it.what.clone(), it.ratio()?, true))).collect();
    if !ratios.is_empty() {
        return bars(&format!("{name}: ratio to what it is held against"), &ratios, None);
    }
    let unit = lines.first().map_or("", |it| it.unit);
    let alike = lines.iter().filter(|it| it.unit == unit);
    let values: Vec<_> =
        alike.filter_map(|it| Some((it.what.clone(), spread(it.ours.clone())?, true))).collect();
    bars(&format!("{name}: {unit}"), &values, None)
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

    fn round(&self, bench: &Bench) -> io::Result<BTreeMap<String, Figures>> {
        let mut cells = BTreeMap::new();
        match self {
            Self::Durable(pairs) => {
                for &(in_flight, batch) in pairs {
                    let ours = bench.publish(DURABLE, in_flight, batch)?;
                    let group = (ours["records_per_sync"].round() as usize).max(1);
                    let bare = bench.bare(group)?;
                    let name = format!("{in_flight}x{batch}");
                    cells.insert(format!("{name} bare database"), bare);
                    let unkept = bench.publish(UNKEPT, in_flight, batch)?;
                    cells.insert(format!("{name} not kept"), unkept);
                    cells.insert(name, ours);
                }
                let alone = ["alone: fdatasync", "alone: fdatasync, a hole"];
                for (name, prepared) in alone.into_iter().zip([Prepared::Written, Prepared::Hole]) {
                    cells.insert(name.into(), bench.syncs(prepared)?);
                }
                cells.insert("alone: bare database".into(), bench.bare(1)?);
                cells.insert("alone: not kept".into(), bench.publish(UNKEPT, 1, 1)?);
                cells.insert("alone".into(), bench.publish(DURABLE, 1, 1)?);
            }
            Self::Storm { subscribers, rate, storm } => {
                for (name, rate, storm) in [
                    ("fan-out", Some(*rate), None),
                    ("storm", None, Some(*storm)),
                    // What a publish of the storm costs at the least: the shard never sleeps between two.
                    ("storm, busy", None, Some(Storm { rate: None, ..*storm })),
                    ("both", Some(*rate), Some(*storm)),
                ] {
                    cells.insert(name.into(), bench.storm(*subscribers, rate, storm)?);
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
                    let figures = bench.pages(prefix, pages, *in_flight, *events)?;
                    cells.insert(name.into(), figures);
                }
            }
            Self::Disk(pairs) => {
                for &(size, events) in pairs {
                    cells.insert(format!("{size} B"), bench.disk(size, events)?);
                }
            }
        }
        Ok(cells)
    }

    fn lines(&self, bench: &Bench, runs: &[BTreeMap<String, Figures>]) -> Vec<Line> {
        let of = |cell: &str, figure: &str| -> Vec<f64> {
            runs.iter().filter_map(|run| run.get(cell)?.get(figure).copied()).collect()
        };
        let mut lines = Vec::new();
        match self {
            Self::Durable(pairs) => {
                for (in_flight, batch) in pairs {
                    let name = format!("{in_flight}x{batch}");
                    let what = match batch {
                        1 => format!("{in_flight} publishes of {} B in flight", bench.size),
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

/// A server on an empty directory, which goes with it.
struct Fresh {
    server: Server,
    folder: PathBuf,
}

impl Drop for Fresh {
    fn drop(&mut self) {
        // What it still writes lands in files that nobody sees any more.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Bench {
    fn empty_folder(&self) -> io::Result<PathBuf> {
        let folder = self.folder.join(format!("{}", sys::now_ns()));
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    fn fresh(&self) -> io::Result<Fresh> {
        let folder = self.empty_folder()?;
        std::fs::write(folder.join("ringmain.toml"), CONFIG)?;
        let at = folder.display();
        let command = format!(
            "{} serve --config {at}/ringmain.toml --data {at} --listen 127.0.0.1:0 --shards 1",
            self.ringmain
        );
        let server = Server::start(&command, self.server_core, self.nice)?;
        Ok(Fresh { server, folder })
    }

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

    /// Runs a load, and gives what was counted after the warm-up, beside the server's time and metrics. The
    /// load's histograms are those of the window.
    fn window(&self, fresh: &Fresh, load: &mut Load, pace: Pace) -> io::Result<Window> {
        let Server { pid, address, .. } = fresh.server;
        let start = sys::now_ns();
        let warm = start + (self.warmup * 1e9) as u64;
        let end = warm + (self.seconds * 1e9) as u64;
        let mut before = None;
        load.run(pace, |load, now| {
            if before.is_none() && now >= warm {
                let metrics = metrics(address).unwrap_or_default();
                before =
                    Some((metrics, sys::now_ns(), process::by_thread(pid).unwrap_or_default()));
                load.reset_counts();
            }
            now >= end
        })?;
        let (now, cpu) = (sys::now_ns(), process::by_thread(pid)?);
        let (counts, histograms) = (
            load.counts.clone(),
            [load.answer.clone(), load.last.clone(), load.storm_answer.clone()],
        );
        let Some((metrics_before, since, cpu_before)) = before else {
            return Err(io::Error::other(format!("stalled; last error: {:?}", load.last_error())));
        };
        let mut after = metrics(address)?;
        for (name, value) in &mut after {
            *value -= metrics_before.get(name).copied().unwrap_or(0.0);
        }
        load.settle()?;
        let faults = &load.faults;
        if faults.lost + faults.refused + faults.errors + faults.closed + faults.duplicated > 0 {
            let text = format!("{faults:?}; last error: {:?}", load.last_error());
            return Err(io::Error::other(text));
        }
        let [answer, last, storm_answer] = histograms;
        Ok(Window {
            seconds: (now - since) as f64 / 1e9,
            counts,
            cpu: cpu.since(cpu_before),
            metrics: after,
            answer,
            last,
            storm_answer,
        })
    }

    /// Publishes to channels of a kind, so many in flight, each of so many events.
    fn publish(&self, prefix: &'static str, in_flight: usize, batch: usize) -> io::Result<Figures> {
        let fresh = self.fresh()?;
        let shape = Shape::Alone { prefix, channels: self.channels, batch };
        let mut load = self.load(&fresh.server, shape, self.size)?;
        load.open_publishers(in_flight)?;
        let window = self.window(&fresh, &mut load, Pace::InFlight)?;
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
        let folder = self.empty_folder()?;
        let load = (batch, self.channels as u64, self.size);
        let cpu = process::by_thread(std::process::id())?;
        let done = bare::commits(&folder.join("store"), self.server_core, load, self.seconds);
        let cpu = process::by_thread(std::process::id())?.since(cpu);
        std::fs::remove_dir_all(&folder)?;
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
        let folder = self.empty_folder()?;
        let done = bare::syncs(&folder, self.server_core, prepared, self.size, self.seconds);
        std::fs::remove_dir_all(&folder)?;
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
        let fresh = self.fresh()?;
        let mut load = self.load(&fresh.server, Shape::Fanout, self.size)?;
        // Without a rate nobody is there to publish.
        load.open(subscribers, 64, if rate.is_some() { 64 } else { 0 })?;
        if let Some(storm) = storm {
            load.open_storm(storm)?;
        }
        let window = self.window(&fresh, &mut load, Pace::Rate(rate.unwrap_or(1.0)))?;
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
        let fresh = self.fresh()?;
        self.fill(&fresh, prefix, self.size, events)?;
        let shape = Shape::Pages { channel: format!("{prefix}00000"), pages };
        let mut load = self.load(&fresh.server, shape, self.size)?;
        load.open_publishers(in_flight)?;
        let window = self.window(&fresh, &mut load, Pace::InFlight)?;
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
        let fresh = self.fresh()?;
        let pid = fresh.server.pid;
        let store = fresh.folder.join("store");
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

/// What was counted in a window, at both ends.
struct Window {
    seconds: f64,
    counts: crate::load::Counts,
    cpu: ByThread,
    /// The server's own, as differences.
    metrics: BTreeMap<String, f64>,
    answer: Histogram,
    last: Histogram,
    storm_answer: Histogram,
}

impl Window {
    /// What every cell reports.
    fn figures(&self) -> Figures {
        let metric = |name: &str| self.metrics.get(name).copied().unwrap_or(0.0);
        let share = |ns: u64| ns as f64 / 1e9 / self.seconds;
        let mut figures = Figures::from([
            ("shards_core_share".to_owned(), share(self.cpu.shards_ns)),
            ("store_core_share".to_owned(), share(self.cpu.store_ns)),
            ("generator_busy_share".to_owned(), share(self.counts.work_ns)),
        ]);
        let syncs = metric("ringmain_store_batches_total");
        if syncs > 0.0 {
            let records = metric("ringmain_store_records_total");
            figures.insert("records_per_sync".into(), records / syncs);
            figures.insert("syncs_per_s".into(), syncs / self.seconds);
            let spent = metric("ringmain_store_sync_seconds_sum");
            figures.insert("sync_mean_us".into(), spent * 1e6 / syncs);
            figures.insert("sync_busy_share".into(), spent / self.seconds);
        }
        figures
    }

    /// Time of the threads for each of so many.
    fn per(&self, figures: &mut Figures, each: &str, count: f64) {
        let mut put = |name: &str, ns: u64| {
            figures.insert(format!("{name}_us_per_{each}"), ns as f64 / 1e3 / count.max(1.0))
        };
        put("shards", self.cpu.shards_ns);
        put("store", self.cpu.store_ns);
        put("all", self.cpu.all_ns());
    }
}

fn quantiles(figures: &mut Figures, name: &str, histogram: &Histogram) {
    for (part, share) in [("p50", 0.5), ("p99", 0.99)] {
        figures.insert(format!("{name}_{part}_us"), histogram.quantile(share) as f64 / 1e3);
    }
}

/// The server's metrics by name, summed over all labels.
fn metrics(address: SocketAddrV4) -> io::Result<BTreeMap<String, f64>> {
    let mut stream = std::net::TcpStream::connect(address)?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(read_metrics(&text))
}

fn read_metrics(text: &str) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let parts = line.rsplit_once(' ').map(|(name, value)| (name, value.parse::<f64>()));
        if let Some((name, Ok(value))) = parts {
            let name = name.split('{').next().unwrap_or(name);
            *sums.entry(name.to_owned()).or_default() += value;
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_judged_by_the_median_of_its_ratios() {
        let line = |target| {
            Line::new("it", "/s", vec![10.0, 30.0, 60.0])
                .beside("other", vec![20.0, 20.0, 20.0])
                .target(target)
                .verdict()
        };
        assert_eq!(line(Target::RatioMin(1.5)), "at least 1.5: reached");
        assert_eq!(line(Target::RatioMax(1.4)), "at most 1.4: not reached");
        assert_eq!(line(Target::ValueMin(31.0)), "at least 31: not reached");
    }

    #[test]
    fn metrics_are_summed_over_their_labels() {
        let text =
            "# HELP a b\nHTTP/1.1 200 OK\na_total{shard=\"0\"} 2\na_total{shard=\"1\"} 3\nb 0.5\n";
        let metrics = read_metrics(text);
        assert_eq!((metrics["a_total"], metrics["b"]), (5.0, 0.5));
    }

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
