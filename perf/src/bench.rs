//! Servers on empty directories, and a load's window with what the server paid for it.

use std::collections::BTreeMap;
use std::io::{self, Read, Write as _};
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::args::Args;
use crate::histogram::Histogram;
use crate::lines::Figures;
use crate::load::{Counts, Load, Pace};
use crate::process::{self, ByThread, Server};
use crate::report::machine;
use crate::sys;

/// What all who start servers of their own are told.
pub(crate) struct Bench {
    pub ringmain: String,
    pub folder: PathBuf,
    pub server_core: Option<usize>,
    pub nice: i32,
    pub seconds: f64,
    pub warmup: f64,
    /// As it was before this process was pinned.
    pub machine: Value,
}

/// A directory, which goes with this.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What a server still writes lands in files that nobody sees any more.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A server on a directory of its own.
pub(crate) struct Fresh {
    pub server: Server,
    pub folder: Folder,
}

impl Bench {
    /// Reads the options, pins this process and sets its nice value. `folder` and `warmup` hold where none is given.
    pub fn read(args: &Args, folder: &str, warmup: f64) -> Result<Self, String> {
        let core = |name: &str, default: usize| match args.text(name).as_deref() {
            Some("none") => Ok(None),
            _ => args.value(name, default).map(Some),
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let bench = Self {
            ringmain: args.text("ringmain").ok_or("--ringmain is missing")?,
            folder: args.text("folder").unwrap_or_else(|| folder.into()).into(),
            server_core: core("server-core", 0)?,
            nice: args.value("nice", 0)?,
            seconds: args.value("seconds", 3.0)?,
            warmup: args.value("warmup", warmup)?,
            machine: machine(),
        };
        if let Some(own) = core("core", cores.min(2) - 1)? {
            sys::pin(own).map_err(|error| format!("--core {own}: {error}"))?;
        }
        if bench.nice != 0 {
            sys::nice(bench.nice).map_err(|error| format!("--nice {}: {error}", bench.nice))?;
        }
        Ok(bench)
    }

    pub fn empty_folder(&self) -> io::Result<Folder> {
        let folder = self.folder.join(format!("{}", sys::now_ns()));
        std::fs::create_dir_all(&folder)?;
        Ok(Folder(folder))
    }

    pub fn fresh(&self, config: &str) -> io::Result<Fresh> {
        let folder = self.empty_folder()?;
        Ok(Fresh { server: self.serve(&folder, config)?, folder })
    }

    /// Starts a server on a directory, whatever is in it.
    pub fn serve(&self, folder: &Folder, config: &str) -> io::Result<Server> {
        std::fs::write(folder.path().join("ringmain.toml"), config)?;
        let at = folder.path().display();
        let command = format!(
            "{} serve --config {at}/ringmain.toml --data {at} --listen 127.0.0.1:0 --shards 1",
            self.ringmain
        );
        Server::start(&command, self.server_core, self.nice)
    }

    /// Runs a load, and gives what was counted after the warm-up, beside the server's time and metrics. The
    /// load's histograms are those of the window.
    pub fn window(&self, server: &Server, load: &mut Load, pace: Pace) -> io::Result<Window> {
        let Server { pid, address, .. } = *server;
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
            [load.answer.clone(), load.each.clone(), load.last.clone(), load.storm_answer.clone()],
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
        let [answer, each, last, storm_answer] = histograms;
        Ok(Window {
            seconds: (now - since) as f64 / 1e9,
            counts,
            cpu: cpu.since(cpu_before),
            metrics: after,
            answer,
            each,
            last,
            storm_answer,
        })
    }
}

/// What was counted in a window, at both ends.
pub(crate) struct Window {
    pub seconds: f64,
    pub counts: Counts,
    pub cpu: ByThread,
    /// The server's own, as differences.
    pub metrics: BTreeMap<String, f64>,
    pub answer: Histogram,
    pub each: Histogram,
    pub last: Histogram,
    pub storm_answer: Histogram,
}

impl Window {
    /// What every cell reports.
    pub fn figures(&self) -> Figures {
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
    pub fn per(&self, figures: &mut Figures, each: &str, count: f64) {
        let mut put = |name: &str, ns: u64| {
            figures.insert(format!("{name}_us_per_{each}"), ns as f64 / 1e3 / count.max(1.0))
        };
        put("shards", self.cpu.shards_ns);
        put("store", self.cpu.store_ns);
        put("all", self.cpu.all_ns());
    }
}

/// The server's metrics by name, summed over all labels.
pub(crate) fn metrics(address: SocketAddrV4) -> io::Result<BTreeMap<String, f64>> {
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
    fn metrics_are_summed_over_their_labels() {
        let text =
            "# HELP a b\nHTTP/1.1 200 OK\na_total{shard=\"0\"} 2\na_total{shard=\"1\"} 3\nb 0.5\n";
        let metrics = read_metrics(text);
        assert_eq!((metrics["a_total"], metrics["b"]), (5.0, 0.5));
    }
}
