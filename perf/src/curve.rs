//! The `filters` scenario over numbers of sockets and of matches: does cost grow with who listens, or with
//! who is meant?
//!
//! Every cell is a server of its own. Cells run in turn, round after round, so that a machine that drifts
//! drifts under all of them.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::hint::black_box;
use std::time::Instant;

use serde_json::{Value, json};

use crate::args::Args;
use crate::compare::{Spread, spread, write_files};
use crate::publish::{GROUP, document_uri};
use crate::report::{Report, machine, taken, without_folders};
use crate::scenarios;

/// The options of `curve` itself; all others go to the scenario.
const OWN: &[&str] =
    &["server", "sockets", "matches", "rounds", "out", "name", "rate", "rate-busy", "idle"];
/// What is drawn and compared.
const FIGURE: &str = "cpu_us_per_published";
/// Where everyone matches, publishes are so few that no more than this many events a second arrive: one core
/// is to hand each out alone, not to gather them.
const DELIVERIES_PER_SECOND_MAX: f64 = 30_000.0;
/// The server pings everyone once in this time; a window of it holds one ping of each socket.
const KEEP_ALIVE_SECONDS: f64 = 30.0;

/// Cells that differ in one number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Series {
    /// A document each, at the asked rate and at a higher one.
    Uri,
    Busy,
    /// All look for the group that every annotation is in.
    Group,
    /// Sockets share documents.
    Shared,
    /// Nothing is published, for one period of the keep-alive.
    Silent,
}

impl Series {
    fn name(self) -> &'static str {
        match self {
            Self::Uri => "uri",
            Self::Busy => "uri-busy",
            Self::Group => "group",
            Self::Shared => "uri-shared",
            Self::Silent => "silent",
        }
    }
}

struct Cell {
    series: Series,
    sockets: usize,
    matches: usize,
    rate: f64,
    idle: f64,
    reports: Vec<Report>,
}

impl Cell {
    fn new(series: Series, sockets: usize, matches: usize, rate: f64) -> Self {
        Self { series, sockets, matches, rate, idle: 0.0, reports: Vec::new() }
    }

    /// The scenario's options that make it this cell.
    fn words(&self) -> Vec<String> {
        let by = if self.series == Series::Group { "group" } else { "uri" };
        // The filters of this series are alike, whatever the documents.
        let matches = if self.series == Series::Group { 1 } else { self.matches };
        let mut words = vec![
            format!("--sockets={}", self.sockets),
            format!("--matches={matches}"),
            format!("--by={by}"),
            format!("--rate={}", self.rate),
            format!("--idle={}", self.idle),
        ];
        if self.series == Series::Silent {
            words.push("--seconds=0".into());
        }
        words
    }

    fn values(&self, figure: &str) -> Vec<f64> {
        self.reports.iter().filter_map(|report| report.figure(figure)).collect()
    }

    fn spread(&self, figure: &str) -> Option<Spread> {
        spread(self.values(figure))
    }

    fn json(&self) -> Value {
        let value = self.spread(FIGURE);
        json!({
            "series": self.series.name(),
            "sockets": self.sockets,
            "matches": self.matches,
            "rate": self.rate,
            "value": value.map(Spread::json),
            "runs": self.reports.iter().map(Report::json).collect::<Vec<_>>(),
        })
    }
}

fn numbers(args: &Args, name: &str, default: &[usize]) -> Result<Vec<usize>, String> {
    let given = args.all(name);
    if given.is_empty() {
        return Ok(default.to_vec());
    }
    let numbers: Result<BTreeSet<usize>, _> = given.iter().map(|text| text.parse()).collect();
    let numbers = numbers.map_err(|_| format!("--{name}: want a number, may be repeated"))?;
    Ok(numbers.into_iter().collect())
}

fn cells(args: &Args) -> Result<Vec<Cell>, String> {
    let sockets = numbers(args, "sockets", &[100, 316, 1000, 3162, 10_000])?;
    let matches = numbers(args, "matches", &[10, 100, 1000])?;
    let rate: f64 = args.value("rate", 100.0)?;
    let rate_busy: f64 = args.value("rate-busy", 2000.0)?;
    let idle = args.value("idle", 3.0)?;
    let most = *sockets.last().ok_or("--sockets is missing")?;
    let mut cells = Vec::new();
    for &sockets in &sockets {
        cells.push(Cell { idle, ..Cell::new(Series::Uri, sockets, 1, rate) });
        cells.push(Cell::new(Series::Busy, sockets, 1, rate_busy));
        let rate_all = rate.min(DELIVERIES_PER_SECOND_MAX / sockets as f64);
        cells.push(Cell::new(Series::Group, sockets, sockets, rate_all));
    }
    let shared = matches.into_iter().filter(|&it| it > 1 && most.is_multiple_of(it));
    cells.extend(shared.map(|matches| Cell::new(Series::Shared, most, matches, rate)));
    cells.push(Cell { idle: KEEP_ALIVE_SECONDS, ..Cell::new(Series::Silent, most, 1, 0.0) });
    Ok(cells)
}

/// `curve`: runs, prints, writes. A cell that loses or repeats an event fails the whole run.
pub fn run(args: &Args, words: &[String]) -> Result<(), String> {
    let server = args.text("server").ok_or("--server is missing")?;
    let rounds: usize = args.value("rounds", 3)?;
    let out = args.text("out").unwrap_or_else(|| "perf/results".into());
    let name = args.text("name").unwrap_or_else(|| "filters".into());
    let mut cells = cells(args)?;
    let machine = machine();
    for round in 1..=rounds {
        for cell in &mut cells {
            if cell.series == Series::Silent && round > 1 {
                continue;
            }
            let (series, sockets, matches) = (cell.series.name(), cell.sockets, cell.matches);
            let label = format!("{series}: {sockets} sockets, {matches} matches");
            eprintln!("round {round} of {rounds}: {label}");
            let mut inner = scenarios::words_without(words, OWN);
            inner.extend(cell.words());
            inner.extend(["--server".into(), server.clone()]);
            let report = scenarios::run("filters", "", &Args::read(&inner)?)
                .map_err(|error| format!("{label}: {error}"))?;
            if let Some(value) = report.figure(FIGURE) {
                eprintln!("  {FIGURE} {value}");
            }
            cell.reports.push(report);
        }
    }
    let scans = cells.iter().filter(|cell| cell.series == Series::Uri);
    let scans: Vec<(usize, f64)> =
        scans.map(|cell| (cell.sockets, scan_us(cell.sockets))).collect();
    let command = format!("ringmain-perf curve {}", without_folders(&words.join(" ")));
    let text = markdown(&name, &command, &machine, &cells, &scans, rounds);
    println!("{text}");
    let value = json!({
        "name": name,
        "command": command,
        "server": without_folders(&server),
        "machine": machine,
        "figure": FIGURE,
        "cells": cells.iter().map(Cell::json).collect::<Vec<_>>(),
        "scan_floor": scans.iter().map(|(sockets, us)| json!({"sockets": sockets, "us": us})).collect::<Vec<_>>(),
    });
    write_files(&out, &name, text, &value, &svg(&name, &cells, &scans))
}

/// The least that an annotation would cost if every filter were asked: one comparison of strings for each, in
/// a loop that does nothing else and finds everything in the cache. The median of many, in microseconds.
fn scan_us(sockets: usize) -> f64 {
    struct Filter {
        field: String,
        values: Vec<String>,
    }
    let uri = |at| document_uri(at).replacen("https", "httpx", 1);
    let filters: Vec<Box<Filter>> = (0..sockets)
        .map(|at| Box::new(Filter { field: "uri".into(), values: vec![uri(at)] }))
        .collect();
    let times = (0..201).map(|k| {
        let tags = black_box([("group", GROUP.to_owned()), ("uri", uri(k % sockets))]);
        let start = Instant::now();
        let found = filters.iter().filter(|filter| {
            tags.iter().any(|(name, value)| *name == filter.field && filter.values.contains(value))
        });
        black_box(found.count());
        start.elapsed().as_nanos() as f64 / 1e3
    });
    spread(times.collect()).map_or(0.0, |it| it.median)
}

fn markdown(
    name: &str,
    command: &str,
    machine: &Value,
    cells: &[Cell],
    scans: &[(usize, f64)],
    rounds: usize,
) -> String {
    let mut text = format!(
        "# {name}\n\n`{command}`\n\n{} {rounds} rounds, cells in turn, a server of its own for each.\n\n",
        taken(machine)
    );
    let of = |series| cells.iter().filter(move |cell| cell.series == series);
    let part = |spread: Option<Spread>, digits: usize| match spread {
        Some(Spread { min, median, max }) => {
            format!("{median:.digits$} | {min:.digits$} | {max:.digits$}")
        }
        None => "- | - | -".into(),
    };
    let median = |cell: &Cell, figure: &str, digits: usize| match cell.spread(figure) {
        Some(it) => format!("{:.digits$}", it.median),
        None => "-".into(),
    };
    let _ = writeln!(
        text,
        "Server CPU per annotation, in µs: all of it, HTTP request, signature and waking included, nothing \
         subtracted. Every expected delivery arrived exactly once, and nowhere else, in every run.\n"
    );
    for (series, title) in [
        (Series::Uri, "A document each: one socket matches"),
        (Series::Busy, "The same at a higher rate: less waking, warmer caches"),
        (Series::Group, "Everyone matches, by group"),
        (Series::Shared, "Sockets share documents"),
    ] {
        let _ = writeln!(
            text,
            "## {title} (`{}`)\n\n\
             | sockets | matches | annotations/s | median µs | min | max | µs per delivery | p50 µs | p99 µs | pings |\n\
             | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
            series.name()
        );
        for cell in of(series) {
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {} | {} | {} |",
                cell.sockets,
                cell.matches,
                median(cell, "published_per_s", 1),
                part(cell.spread(FIGURE), 1),
                median(cell, "cpu_us_per_delivered", 2),
                median(cell, "each_p50_us", 0),
                median(cell, "each_p99_us", 0),
                median(cell, "pings", 0),
            );
        }
        if let Some((from, to, growth)) = growth(&of(series).collect::<Vec<_>>()) {
            let Spread { min, median, max } = growth;
            let _ = writeln!(
                text,
                "\n{} against {} sockets, same round: {median:.2} times as much ({min:.2}-{max:.2}).",
                to, from
            );
        }
        text.push('\n');
    }
    let _ = writeln!(
        text,
        "p50 and p99 count from when an annotation should have been sent to its arrival at a socket. \
         `group` is published so slowly that at most {DELIVERIES_PER_SECOND_MAX} events a second arrive. A \
         rate below the asked one says that the machine did not keep up.\n"
    );
    let _ = writeln!(
        text,
        "## Sockets that hear nothing\n\n\
         | sockets | server CPU µs/s, median | min | max | RSS bytes per socket, median | min | max |\n\
         | --- | --- | --- | --- | --- | --- | --- |"
    );
    for cell in of(Series::Uri).chain(of(Series::Silent)) {
        let is_period = cell.series == Series::Silent;
        let _ = writeln!(
            text,
            "| {}{} | {} | {} |",
            cell.sockets,
            if is_period { ", with their keep-alive, one run" } else { "" },
            part(cell.spread("idle_cpu_us_per_s"), 1),
            part(cell.spread("rss_bytes_per_socket"), 0),
        );
    }
    let _ = writeln!(
        text,
        "\nThe windows lie between two pings of the keep-alive; the last row is a window of its whole period, \
         with {} pings. RSS is what the server grew by from before the first socket; with few sockets that is \
         mostly what it needs once.\n",
        of(Series::Silent).next().map_or("no".into(), |cell| median(cell, "idle_pings", 0)),
    );
    let _ = writeln!(
        text,
        "## What a scan would add at least\n\nOne comparison for each filter in a bare loop, warm, in the \
         generator's process.\n\n| filters | µs per annotation |\n| --- | --- |"
    );
    for (sockets, us) in scans {
        let _ = writeln!(text, "| {sockets} | {us:.1} |");
    }
    text
}

/// How much more the most sockets cost than the fewest, in the same round.
fn growth(cells: &[&Cell]) -> Option<(usize, usize, Spread)> {
    let (first, last) = (cells.first()?, cells.last()?);
    if first.sockets == last.sockets {
        return None;
    }
    let pairs = last.values(FIGURE).into_iter().zip(first.values(FIGURE));
    Some((first.sockets, last.sockets, spread(pairs.map(|(last, first)| last / first).collect())?))
}

/// Sockets to the right, microseconds up, both logarithmic; a whisker from the smallest to the largest.
fn svg(name: &str, cells: &[Cell], scans: &[(usize, f64)]) -> String {
    const LEFT: f64 = 70.0;
    const RIGHT: f64 = 520.0;
    const TOP: f64 = 45.0;
    const BOTTOM: f64 = 360.0;
    const LABEL_HEIGHT: f64 = 16.0;
    type Point = (f64, Spread);
    let line = |series| -> Vec<Point> {
        let cells = cells.iter().filter(|cell| cell.series == series);
        cells.filter_map(|cell| Some((cell.sockets as f64, cell.spread(FIGURE)?))).collect()
    };
    let scan =
        |&(sockets, us): &(usize, f64)| (sockets as f64, Spread { min: us, median: us, max: us });
    let lines: [(&str, &str, &str, Vec<Point>); 4] = [
        ("#9aa4b2", "none", "everyone matches", line(Series::Group)),
        ("#1f6feb", "none", "one matches", line(Series::Uri)),
        ("#54aeff", "none", "one matches, busy", line(Series::Busy)),
        ("#d1242f", "4 3", "a bare scan, alone", scans.iter().map(scan).collect()),
    ];
    let points = || lines.iter().flat_map(|(.., points)| points);
    let bounds = |values: Vec<f64>| {
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(0.0, f64::max);
        // Whole powers of ten, and at least one of them.
        let (low, high) = (low.max(1e-3).log10().floor(), high.max(1e-3).log10().ceil());
        (low, high.max(low + 1.0))
    };
    let (x_low, x_high) = bounds(points().map(|(x, _)| *x).collect());
    let (y_low, y_high) = bounds(points().flat_map(|(_, it)| [it.min, it.max]).collect());
    let x = |value: f64| LEFT + (RIGHT - LEFT) * (value.log10() - x_low) / (x_high - x_low);
    let y =
        |value: f64| BOTTOM - (BOTTOM - TOP) * (value.max(1e-3).log10() - y_low) / (y_high - y_low);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 720 410\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"720\" height=\"410\" fill=\"white\"/>\n\
         <text x=\"10\" y=\"22\" font-weight=\"bold\">{name}: server CPU per annotation, µs, by sockets connected</text>\n"
    );
    for power in x_low as i32..=x_high as i32 {
        let (at, value) = (x(10f64.powi(power)), 10f64.powi(power));
        let _ = writeln!(
            out,
            "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{BOTTOM}\" stroke=\"#e6e8eb\"/>\n\
             <text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{value}</text>",
            BOTTOM + 20.0
        );
    }
    for power in y_low as i32..=y_high as i32 {
        let (at, value) = (y(10f64.powi(power)), 10f64.powi(power));
        let _ = writeln!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#e6e8eb\"/>\n\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>",
            LEFT - 8.0,
            at + 5.0
        );
    }
    let _ = writeln!(
        out,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">sockets</text>",
        (LEFT + RIGHT) / 2.0,
        BOTTOM + 40.0
    );
    for (colour, dashes, _, points) in &lines {
        let path: Vec<String> =
            points.iter().map(|(at, it)| format!("{:.1},{:.1}", x(*at), y(it.median))).collect();
        let _ = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dashes}\"/>",
            path.join(" ")
        );
        for (at, Spread { min, median, max }) in points {
            let (at, from, to, middle) = (x(*at), y(*min), y(*max), y(*median));
            let _ = writeln!(
                out,
                "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{from:.1}\" y2=\"{to:.1}\" stroke=\"black\"/>\n\
                 <circle cx=\"{at:.1}\" cy=\"{middle:.1}\" r=\"3\" fill=\"{colour}\"/>"
            );
        }
    }
    // Labels stand at the ends of their lines, from the top down and never on one another.
    let mut labels: Vec<(f64, f64, String)> = lines
        .iter()
        .filter_map(|(.., label, points)| {
            let (at, last) = points.last()?;
            Some((x(*at) + 8.0, y(last.median) + 5.0, format!("{label}, {:.0}", last.median)))
        })
        .collect();
    labels.sort_by(|one, other| one.1.total_cmp(&other.1));
    let mut free = 0.0;
    for (at, wanted, label) in labels {
        let base = wanted.max(free);
        free = base + LABEL_HEIGHT;
        let _ = writeln!(out, "<text x=\"{at:.1}\" y=\"{base:.1}\">{label}</text>");
    }
    out + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cell_is_a_scenario_that_can_be_read() {
        let cells = cells(&Args::default()).unwrap();
        assert_eq!(cells.len(), 5 * 3 + 3 + 1);
        let group = cells.iter().rfind(|cell| cell.series == Series::Group).unwrap();
        assert_eq!((group.matches, group.rate), (10_000, 3.0));
        assert!(group.words().contains(&"--by=group".to_owned()));
        let shared = cells.iter().filter(|cell| cell.series == Series::Shared);
        assert_eq!(shared.map(|cell| cell.matches).collect::<Vec<_>>(), [10, 100, 1000]);
    }

    #[test]
    fn growth_is_of_the_same_round() {
        let cell = |sockets, values: [f64; 3]| {
            let reports = values.map(|value| {
                let mut report = Report::new("filters", "");
                report.number(FIGURE, value);
                report
            });
            Cell { reports: reports.into(), ..Cell::new(Series::Uri, sockets, 1, 1.0) }
        };
        let (few, many) = (cell(100, [1.0, 2.0, 4.0]), cell(1000, [2.0, 2.0, 2.0]));
        let (from, to, growth) = growth(&[&few, &many]).unwrap();
        assert_eq!((from, to, growth.min, growth.median, growth.max), (100, 1000, 0.5, 1.0, 2.0));
    }
}
