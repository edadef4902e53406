//! Cells, the figures of each in each round, and the lines that hold them against something.
//!
//! What is compared runs in turn, round after round; a ratio is of two figures of one round.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;

use serde_json::{Value, json};

use crate::compare::{Spread, bars, spread, write_files};
use crate::histogram::Histogram;
use crate::report::taken;

/// The figures of a cell in one round, by name.
pub(crate) type Figures = BTreeMap<String, f64>;
/// The cells of a round, by name.
pub(crate) type Cells = BTreeMap<String, Figures>;

/// A line of the result: a figure of each round, and what it is held against.
pub(crate) struct Line {
    what: String,
    unit: &'static str,
    ours: Vec<f64>,
    /// What it is compared with, in the same rounds.
    beside: Option<(String, Vec<f64>)>,
    target: Target,
}

#[derive(Clone, Copy)]
pub(crate) enum Target {
    None,
    RatioMin(f64),
    RatioMax(f64),
    ValueMin(f64),
    ValueMax(f64),
}

impl Line {
    pub(crate) fn new(what: impl Into<String>, unit: &'static str, ours: Vec<f64>) -> Self {
        Self { what: what.into(), unit, ours, beside: None, target: Target::None }
    }

    pub(crate) fn beside(mut self, what: impl Into<String>, values: Vec<f64>) -> Self {
        self.beside = Some((what.into(), values));
        self
    }

    pub(crate) fn target(mut self, target: Target) -> Self {
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
            Target::ValueMax(max) => {
                (spread(self.ours.clone()).map(|it| it.median <= max), max, "at most")
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

/// Measures so many rounds, prints the table and writes the files.
pub(crate) fn measure(
    (name, command, out): (&str, &str, &str),
    (machine, rounds): (&Value, usize),
    mut round: impl FnMut() -> io::Result<Cells>,
    lines: impl FnOnce(&[Cells]) -> Vec<Line>,
) -> Result<(), String> {
    let mut runs: Vec<Cells> = Vec::new();
    for at in 1..=rounds {
        eprintln!("round {at} of {rounds}: {name}");
        runs.push(round().map_err(|error| error.to_string())?);
    }
    let lines = lines(&runs);
    let text = markdown(name, command, machine, rounds, &lines, &runs);
    println!("{text}");
    let value = json!({
        "name": name,
        "command": command,
        "machine": machine,
        "lines": lines.iter().map(Line::json).collect::<Vec<_>>(),
        "rounds": runs,
    });
    write_files(out, name, text, &value, &picture(name, &lines))
}

/// A figure of a cell, of every round that has it.
pub(crate) fn of(runs: &[Cells], cell: &str, figure: &str) -> Vec<f64> {
    runs.iter().filter_map(|run| run.get(cell)?.get(figure).copied()).collect()
}

fn markdown(
    name: &str,
    command: &str,
    machine: &Value,
    rounds: usize,
    lines: &[Line],
    runs: &[Cells],
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

/// Median and p99 in microseconds.
pub(crate) fn quantiles(figures: &mut Figures, name: &str, histogram: &Histogram) {
    for (part, share) in [("p50", 0.5), ("p99", 0.99)] {
        figures.insert(format!("{name}_{part}_us"), histogram.quantile(share) as f64 / 1e3);
    }
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
}
