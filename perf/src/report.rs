//! One run's figures, for people and for programs.

use serde_json::{Map, Value, json};

use crate::histogram::Histogram;

/// The figures of one run of one server, in the order they are shown.
pub struct Report {
    pub scenario: String,
    pub server: String,
    pub settings: Map<String, Value>,
    pub figures: Map<String, Value>,
}

impl Report {
    pub fn new(scenario: &str, server: &str) -> Self {
        Self {
            scenario: scenario.into(),
            server: server.into(),
            settings: Map::new(),
            figures: Map::new(),
        }
    }

    pub fn setting(&mut self, name: &str, value: impl Into<Value>) {
        self.settings.insert(name.into(), value.into());
    }

    /// Adds a count.
    pub fn count(&mut self, name: &str, value: u64) {
        self.figures.insert(name.into(), value.into());
    }

    /// Adds a measured number, rounded to three decimals.
    pub fn number(&mut self, name: &str, value: f64) {
        let rounded = (value * 1000.0).round() / 1000.0;
        self.figures.insert(name.into(), json!(rounded));
    }

    /// Adds quantiles in microseconds.
    pub fn quantiles(&mut self, name: &str, histogram: &Histogram) {
        if histogram.total() == 0 {
            return;
        }
        for (part, share) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999)] {
            self.number(&format!("{name}_{part}_us"), histogram.quantile(share) as f64 / 1e3);
        }
        self.number(&format!("{name}_max_us"), histogram.max() as f64 / 1e3);
    }

    pub fn figure(&self, name: &str) -> Option<f64> {
        self.figures.get(name).and_then(Value::as_f64)
    }

    pub fn json(&self) -> Value {
        json!({
            "scenario": self.scenario,
            "server": self.server,
            "settings": self.settings,
            "figures": self.figures,
        })
    }

    /// A table for a terminal.
    pub fn table(&self) -> String {
        let settings: Vec<String> =
            self.settings.iter().map(|(name, value)| format!("{name}={}", plain(value))).collect();
        let mut text = format!("{} on {} ({})\n", self.scenario, self.server, settings.join(" "));
        for (name, value) in &self.figures {
            text.push_str(&format!("  {name:<36} {:>16}\n", plain(value)));
        }
        text
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Where and with what something was measured.
pub fn machine() -> Value {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo")
        .lines()
        .find_map(|line| {
            line.strip_prefix("model name")?.split_once(':').map(|(_, v)| v.trim().to_owned())
        })
        .unwrap_or_default();
    json!({
        "cpu": cpu,
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "load_before": read("/proc/loadavg").split_whitespace().next(),
        "commit": said("git", &["describe", "--always", "--dirty"]),
    })
}

/// When and where, as a sentence of a result's text.
pub fn taken(machine: &Value) -> String {
    let plain = |key: &str| machine[key].as_str().map_or(machine[key].to_string(), str::to_owned);
    format!(
        "{} {}, {} cores, Linux {}, load average before the run {}, commit {}.",
        said("date", &["-u", "+%F %R UTC,"]),
        plain("cpu"),
        plain("cores"),
        plain("kernel"),
        plain("load_before"),
        plain("commit"),
    )
}

/// What a short command prints, empty if it cannot be run.
pub fn said(program: &str, words: &[&str]) -> String {
    std::process::Command::new(program)
        .args(words)
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default()
}

/// A command without the folders of this machine.
pub fn without_folders(command: &str) -> String {
    command
        .split_whitespace()
        .map(|word| match word.rsplit_once('/') {
            Some((_, name)) => match word.split_once('=') {
                Some((left, _)) => format!("{left}={name}"),
                None => name.to_owned(),
            },
            None => word.to_owned(),
        })
        .collect::<Vec<_>>()
        .join(" ")
}
