//! Several servers in one run, in turn, round after round: ratios to the floor.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::args::Args;
use crate::report::{Report, machine, said, taken, without_folders};
use crate::scenarios;

/// The options of `compare` itself; all others go to the scenario.
const OWN: &[&str] = &["scenario", "ringmain", "with", "rounds", "out", "only", "name"];

/// What decides a scenario, and the bound it should meet.
struct Measure {
    figure: &'static str,
    unit: &'static str,
    ratio_max: Option<f64>,
    value_max: Option<f64>,
}

fn measure(scenario: &str, args: &Args) -> Result<Measure, String> {
    let one_in_flight = args.value("in-flight", 1)? == 1;
    let (figure, unit, ratio_max, value_max) = match scenario {
        "fanout" if one_in_flight => ("cpu_us_per_delivered", "µs", Some(1.05), None),
        // The bare loop spends one send on each message however many are in flight; gathering is the point.
        "fanout" => ("cpu_us_per_delivered", "µs", Some(0.20), None),
        "latency" => ("last_p99_us", "µs", Some(1.1), None),
        "channels" => ("cpu_us_per_delivered", "µs", None, None),
        "idle" => ("process_bytes_per_connection", "bytes", None, Some(1024.0)),
        "connect" => ("cpu_us_per_connection", "µs", None, Some(30.0)),
        other => return Err(format!("--scenario: no scenario {other:?}")),
    };
    Ok(Measure { figure, unit, ratio_max, value_max })
}

struct Contender {
    name: String,
    command: String,
    reports: Vec<Report>,
    failures: Vec<String>,
}

/// The smallest, the middle and the largest of some numbers.
#[derive(Clone, Copy)]
pub(crate) struct Spread {
    pub min: f64,
    pub median: f64,
    pub max: f64,
}

impl Spread {
    pub fn json(self) -> Value {
        json!({"min": self.min, "median": self.median, "max": self.max})
    }
}

pub(crate) fn spread(mut values: Vec<f64>) -> Option<Spread> {
    values.sort_by(f64::total_cmp);
    let (min, max) = (*values.first()?, *values.last()?);
    let half = values.len() / 2;
    let median =
        if values.len() % 2 == 1 { values[half] } else { (values[half - 1] + values[half]) / 2.0 };
    Some(Spread { min, median, max })
}

fn contenders(args: &Args) -> Result<Vec<Contender>, String> {
    let folder = std::env::current_exe()
        .ok()
        .and_then(|path| path.parent().map(Path::to_path_buf))
        .unwrap_or_default();
    let mut all: Vec<(String, String)> =
        ["floor", "tokio-tungstenite-fanout", "monoio-fanout", "tokio-uring-fanout"]
            .iter()
            .map(|name| {
                let path = folder.join(name).display().to_string();
                (name.trim_end_matches("-fanout").to_owned(), path)
            })
            .collect();
    if let Some(path) = args.text("ringmain") {
        let common = format!("{path} serve --listen 127.0.0.1:0 --shards 1");
        all.push(("ringmain".into(), format!("{common} --driver uring")));
        all.push(("ringmain-epoll".into(), format!("{common} --driver epoll")));
    }
    for with in args.all("with") {
        let (name, command) = with.split_once('=').ok_or("--with: want NAME=\"PATH ARGS\"")?;
        all.push((name.into(), command.into()));
    }
    let only = args.all("only");
    Ok(all
        .into_iter()
        .filter(|(name, _)| only.is_empty() || only.contains(name))
        .map(|(name, command)| Contender {
            name,
            command,
            reports: Vec::new(),
            failures: Vec::new(),
        })
        .collect())
}

/// `compare`: runs, prints, writes.
pub fn run(args: &Args, words: &[String]) -> Result<(), String> {
    let scenario = args.text("scenario").ok_or("--scenario is missing")?;
    let rounds: usize = args.value("rounds", 3)?;
    let out = args.text("out").unwrap_or_else(|| "perf/results".into());
    let measure = measure(&scenario, args)?;
    let mut contenders = contenders(args)?;
    let name = args.text("name").unwrap_or_else(|| default_name(&scenario, words));
    let machine = machine();
    for round in 1..=rounds {
        for contender in &mut contenders {
            eprintln!("round {round} of {rounds}: {scenario} on {}", contender.name);
            let mut inner = scenarios::words_without(words, OWN);
            inner.extend(["--server".into(), contender.command.clone()]);
            match scenarios::run(&scenario, &contender.name, &Args::read(&inner)?) {
                Ok(report) => {
                    let value = report.figure(measure.figure).unwrap_or(f64::NAN);
                    eprintln!("  {} {value} {}", measure.figure, measure.unit);
                    contender.reports.push(report);
                }
                Err(error) => {
                    eprintln!("  failed: {error}");
                    contender.failures.push(error);
                }
            }
        }
    }
    let rows: Vec<Row> = contenders.iter().map(|one| row(one, &contenders[0], &measure)).collect();
    let command = format!("ringmain-perf compare {}", without_folders(&words.join(" ")));
    let text = markdown(&name, &command, &machine, &measure, &rows, &contenders, rounds);
    println!("{text}");
    write_all(&out, &name, &text, &command, &machine, &measure, &rows, &contenders)
}

/// The scenario and the numbers that make it another one.
fn default_name(scenario: &str, words: &[String]) -> String {
    let mut name = scenario.to_owned();
    for pair in words.windows(2) {
        let sign = match pair[0].as_str() {
            "--subscribers" => "n",
            "--size" => "b",
            "--in-flight" => "w",
            "--rate" => "r",
            _ => continue,
        };
        name.push_str(&format!("-{sign}{}", pair[1]));
    }
    name
}

struct Row {
    name: String,
    value: Option<Spread>,
    ratio: Option<Spread>,
    verdict: String,
}

/// One server's values, and their ratios to the floor's of the same round.
fn row(contender: &Contender, floor: &Contender, measure: &Measure) -> Row {
    let values = |one: &Contender| -> Vec<f64> {
        one.reports.iter().filter_map(|report| report.figure(measure.figure)).collect()
    };
    let own = values(contender);
    let whole = contender.failures.is_empty() && floor.failures.is_empty();
    let ratios = if whole {
        own.iter().zip(values(floor)).map(|(value, floor)| value / floor).collect()
    } else {
        Vec::new()
    };
    let (value, ratio) = (spread(own), spread(ratios));
    let reached = |is: f64, max: f64| if is <= max { "reached" } else { "not reached" };
    let ours = contender.name.starts_with("ringmain");
    let verdict = match (measure.ratio_max, measure.value_max, ratio, value) {
        (Some(max), _, Some(ratio), _) => reached(ratio.median, max),
        (_, Some(max), _, Some(value)) => reached(value.median, max),
        _ => "-",
    };
    // The bounds are ours; the others are there to be compared with.
    let verdict = if ours { verdict } else { "-" };
    Row { name: contender.name.clone(), value, ratio, verdict: verdict.into() }
}

fn target(measure: &Measure) -> String {
    match (measure.ratio_max, measure.value_max) {
        (Some(max), _) => format!("at most {max} of the floor"),
        (_, Some(max)) => format!("at most {max} {}", measure.unit),
        _ => "none".into(),
    }
}

/// Figures worth seeing for every server, as medians.
const ALSO: &[&str] = &[
    "delivered_per_s",
    "connections_per_s",
    "last_p50_us",
    "last_p99_us",
    "each_p99_us",
    "handshake_p99_us",
    "frames_per_receive",
    "server_user_share",
    "switches_per_1000",
    "rss_bytes_per_connection",
    "idle_cpu_ms_per_s",
    "cpu_us_per_close",
    "rss_mib",
    "generator_us_per_delivered",
    "generator_busy_share",
    "lost",
    "duplicated",
    "out_of_order",
    "closed_by_server",
    "refused",
    "errors",
];

fn markdown(
    name: &str,
    command: &str,
    machine: &Value,
    measure: &Measure,
    rows: &[Row],
    contenders: &[Contender],
    rounds: usize,
) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "# {name}\n\n`{command}`\n\n{} {rounds} rounds, servers in turn.\n\nMeasured: `{}`. Target: {}.\n",
        taken(machine),
        measure.figure,
        target(measure)
    );
    let _ = writeln!(
        text,
        "| server | median {0} | min | max | ratio to floor | min | max | target |\n| --- | --- | --- | --- | --- | --- | --- | --- |",
        measure.unit
    );
    for row in rows {
        let part = |spread: Option<Spread>| match spread {
            Some(Spread { min, median, max }) => format!("{median:.3} | {min:.3} | {max:.3}"),
            None => "failed | - | -".into(),
        };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} |",
            row.name,
            part(row.value),
            part(row.ratio),
            row.verdict
        );
    }
    let _ = writeln!(text, "\nOther figures (medians):\n");
    let header: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
    let _ = writeln!(
        text,
        "| figure | {} |\n| --- |{}",
        header.join(" | "),
        " --- |".repeat(header.len())
    );
    for figure in ALSO {
        let cells: Vec<Option<Spread>> = contenders
            .iter()
            .map(|one| {
                spread(one.reports.iter().filter_map(|report| report.figure(figure)).collect())
            })
            .collect();
        if cells.iter().any(Option::is_some) {
            let cells: Vec<String> = cells
                .iter()
                .map(|cell| cell.map_or("-".into(), |cell| format!("{:.3}", cell.median)))
                .collect();
            let _ = writeln!(text, "| {figure} | {} |", cells.join(" | "));
        }
    }
    for one in contenders {
        let mut failures: BTreeMap<&str, usize> = BTreeMap::new();
        one.failures.iter().for_each(|failure| *failures.entry(failure).or_default() += 1);
        for (failure, times) in failures {
            let _ =
                writeln!(text, "\n{} failed {times} times: {}", one.name, without_folders(failure));
        }
    }
    text
}

/// A bar per server.
fn svg(name: &str, measure: &Measure, rows: &[Row]) -> String {
    let as_ratio = measure.value_max.is_none();
    let of = |row: &Row| {
        let spread = if as_ratio { row.ratio } else { row.value };
        Some((row.name.clone(), spread?, row.name.starts_with("ringmain")))
    };
    let bound = measure.ratio_max.or(measure.value_max);
    let unit = if as_ratio { "ratio to the floor" } else { measure.unit };
    let title = format!("{name}: {}, {unit}", measure.figure);
    bars(&title, &rows.iter().filter_map(of).collect::<Vec<_>>(), bound)
}

/// A bar for each, with its name and whether it is ours; a whisker from the smallest to the largest, and a line
/// at the target.
pub(crate) fn bars(title: &str, bars: &[(String, Spread, bool)], bound: Option<f64>) -> String {
    let letters = bars.iter().map(|(name, ..)| name.chars().count()).max().unwrap_or(0);
    let left = (letters as f64 * 7.0 + 16.0).max(150.0);
    let top = bars.iter().map(|(_, spread, _)| spread.max).chain(bound).fold(1e-9, f64::max);
    const WIDTH: f64 = 480.0;
    const STEP: f64 = 30.0;
    let (width, height) = (left + WIDTH + 90.0, 60.0 + STEP * bars.len() as f64);
    let x = |value: f64| left + WIDTH * value / top;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n\
         <text x=\"10\" y=\"22\" font-weight=\"bold\">{title}</text>\n"
    );
    for (at, (name, spread, is_ours)) in bars.iter().enumerate() {
        let y = 40.0 + STEP * at as f64;
        let Spread { min, median, max } = *spread;
        let colour = if *is_ours { "#1f6feb" } else { "#9aa4b2" };
        let (middle, line, from, to) = (x(median), y + 10.0, x(min), x(max));
        let (bar, base, after, before) = (middle - left, y + 15.0, to + 6.0, left - 8.0);
        let _ = writeln!(
            out,
            "<text x=\"{before}\" y=\"{base}\" text-anchor=\"end\">{name}</text>\n\
             <rect x=\"{left}\" y=\"{y}\" width=\"{bar:.1}\" height=\"20\" fill=\"{colour}\"/>\n\
             <line x1=\"{from:.1}\" x2=\"{to:.1}\" y1=\"{line}\" y2=\"{line}\" stroke=\"black\"/>\n\
             <text x=\"{after:.1}\" y=\"{base}\">{median:.2}</text>",
        );
    }
    if let Some(bound) = bound {
        let _ = writeln!(
            out,
            "<line x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"32\" y2=\"{1}\" stroke=\"#d1242f\" stroke-dasharray=\"4 3\"/>",
            x(bound),
            height - 12.0
        );
    }
    out + "</svg>\n"
}

#[allow(clippy::too_many_arguments)]
fn write_all(
    out: &str,
    name: &str,
    text: &str,
    command: &str,
    machine: &Value,
    measure: &Measure,
    rows: &[Row],
    contenders: &[Contender],
) -> Result<(), String> {
    let value = json!({
        "name": name,
        "command": command,
        "machine": machine,
        "figure": measure.figure,
        "target": target(measure),
        "servers": rows.iter().zip(contenders).map(|(row, one)| json!({
            "name": row.name,
            "command": without_folders(&one.command),
            "value": row.value.map(Spread::json),
            "ratio": row.ratio.map(Spread::json),
            "target": row.verdict,
            "runs": one.reports.iter().map(Report::json).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
    });
    write_files(out, name, text.to_owned(), &value, &svg(name, measure, rows))
}

/// Writes the three files of one result: text, figures and picture.
pub(crate) fn write_files(
    out: &str,
    name: &str,
    text: String,
    value: &Value,
    picture: &str,
) -> Result<(), String> {
    let base = format!("{}-{name}", said("date", &["-u", "+%F"]));
    let folder = PathBuf::from(out);
    let json = serde_json::to_string_pretty(value).map_err(|error| error.to_string())?;
    std::fs::create_dir_all(&folder).map_err(|error| format!("--out {out}: {error}"))?;
    let text = format!("{text}\n![{name}]({base}.svg)\n");
    for (ending, content) in [("md", text), ("json", json + "\n"), ("svg", picture.to_owned())] {
        let path = folder.join(format!("{base}.{ending}"));
        std::fs::write(&path, content).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    eprintln!("written: {}", folder.join(base).display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_even_and_odd_runs() {
        for (values, want) in [(vec![3.0, 1.0, 2.0], 2.0), (vec![4.0, 1.0, 2.0, 3.0], 2.5)] {
            assert_eq!(spread(values).unwrap().median, want);
        }
        assert!(spread(Vec::new()).is_none());
    }

    #[test]
    fn options_of_compare_do_not_reach_the_scenario() {
        let words: Vec<String> =
            ["--scenario", "fanout", "--size", "1024", "--only=floor", "--seconds", "2"]
                .iter()
                .map(|word| (*word).to_owned())
                .collect();
        assert_eq!(scenarios::words_without(&words, OWN), ["--size", "1024", "--seconds", "2"]);
        assert_eq!(default_name("fanout", &words), "fanout-b1024");
    }
}
