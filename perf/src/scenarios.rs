//! What is done with the subscribers, and what is reported about it.

use std::io;

use crate::args::Args;
use crate::load::{Load, Pace, Shape, Wanted};
use crate::process::{self, Memory, Server, Usage};
use crate::publish::Credentials;
use crate::report::{Report, without_folders};
use crate::sys;

/// The scenarios by name, with what they are for.
pub const SCENARIOS: &[(&str, &str)] = &[
    ("fanout", "one channel, N subscribers, W publishes in flight: cost per delivered message"),
    ("latency", "one channel, N subscribers, a fixed rate: publish to each and to the last"),
    ("channels", "many channels with one subscriber each, tiny publishes in batches"),
    ("idle", "N subscribed connections that say nothing: memory per connection"),
    ("connect", "connect, upgrade, subscribe: server CPU per connection"),
    (
        "filters",
        "N Hypothesis sockets with a filter each, annotations at a rate: CPU per annotation",
    ),
];

/// Options of every scenario.
struct Common {
    server: String,
    credentials: Credentials,
    server_core: Option<usize>,
    seconds: f64,
    warmup: f64,
}

fn core(args: &Args, name: &str, default: usize) -> Result<Option<usize>, String> {
    match args.text(name).as_deref() {
        Some("none") => Ok(None),
        _ => args.value(name, default).map(Some),
    }
}

fn text_or(args: &Args, name: &str, default: &str) -> String {
    args.text(name).unwrap_or_else(|| default.into())
}

/// The server to load: `--server "path arguments"`, or `--server-pid` with `--address`.
fn server(args: &Args, common: &Common, nice: i32) -> Result<Server, String> {
    if let Some(pid) = args.text("server-pid") {
        let pid = pid.parse().map_err(|_| "--server-pid: not a number".to_owned())?;
        let address = text_or(args, "address", "127.0.0.1:6001");
        let address = address.parse().map_err(|_| "--address: want ADDR:PORT".to_owned())?;
        return Ok(Server::attach(pid, address));
    }
    Server::start(&common.server, common.server_core, nice).map_err(|error| error.to_string())
}

/// The options of a scenario among `words`: all but these.
pub fn words_without(words: &[String], own: &[&str]) -> Vec<String> {
    let mut inner = Vec::new();
    let mut keep = false;
    for word in words {
        if let Some(name) = word.strip_prefix("--") {
            let name = name.split('=').next().unwrap_or(name);
            keep = !own.contains(&name);
        }
        if keep {
            inner.push(word.clone());
        }
    }
    inner
}

/// Runs the scenario `name` once.
pub fn run(name: &str, label: &str, args: &Args) -> Result<Report, String> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let common = Common {
        server: text_or(args, "server", ""),
        credentials: Credentials {
            app: text_or(args, "app", "app-id"),
            key: text_or(args, "key", "app-key"),
            secret: text_or(args, "secret", "app-secret"),
        },
        server_core: core(args, "server-core", 0)?,
        seconds: args.value("seconds", 5.0)?,
        warmup: args.value("warmup", 1.0)?,
    };
    let nice: i32 = args.value("nice", 0)?;
    let own_core = core(args, "core", cores.min(2) - 1)?;
    let plan = Plan::read(name, args)?;
    // Read later; named here so that they are known.
    for name in ["json", "address", "server-pid"] {
        args.text(name);
    }
    args.finish()?;

    let server = server(args, &common, nice)?;
    if let Some(own) = own_core {
        sys::pin(own).map_err(|error| format!("--core {own}: {error}"))?;
    }
    if nice != 0 {
        sys::nice(nice).map_err(|error| format!("--nice {nice}: {error}"))?;
    }
    let label = if label.is_empty() && common.server.is_empty() {
        format!("pid {}", server.pid)
    } else if label.is_empty() {
        without_folders(&common.server)
    } else {
        label.to_owned()
    };
    let mut report = Report::new(name, &label);
    for (name, value) in &plan.shown {
        report.setting(name, *value);
    }
    plan.run(&server, &common, &mut report).map_err(|error| error.to_string())?;
    Ok(report)
}

/// The numbers of one scenario.
struct Plan {
    kind: Kind,
    connections: usize,
    size: usize,
    publishers: usize,
    at_once: usize,
    shape: Shape,
    pace: Pace,
    count: u64,
    /// How long to look at connections that say nothing before publishing starts.
    idle_seconds: f64,
    shown: Vec<(&'static str, f64)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Publish,
    Idle,
    Connect,
    Filters,
}

impl Plan {
    fn read(name: &str, args: &Args) -> Result<Self, String> {
        let at_once = args.value("at-once", 64)?;
        let mut plan = Self {
            kind: Kind::Publish,
            connections: 0,
            size: args.value("size", 128)?,
            publishers: 1,
            at_once,
            shape: Shape::Fanout,
            pace: Pace::InFlight,
            count: args.value("count", 0)?,
            idle_seconds: 0.0,
            shown: Vec::new(),
        };
        match name {
            "fanout" => {
                plan.connections = args.value("subscribers", 1000)?;
                plan.publishers = args.value("in-flight", 1)?;
                plan.shown = vec![
                    ("subscribers", plan.connections as f64),
                    ("size", plan.size as f64),
                    ("in_flight", plan.publishers as f64),
                ];
            }
            "latency" => {
                plan.connections = args.value("subscribers", 1000)?;
                plan.publishers = args.value("publishers", 64)?;
                let rate = args.value("rate", 50.0)?;
                plan.pace = Pace::Rate(rate);
                plan.shown = vec![
                    ("subscribers", plan.connections as f64),
                    ("size", plan.size as f64),
                    ("rate", rate),
                ];
            }
            "channels" => {
                let channels = args.value("channels", 10_000)?;
                let batch = args.value("batch", 10)?;
                plan.connections = args.value("connections", channels)?;
                plan.publishers = args.value("in-flight", 16)?;
                plan.size = args.value("size", 40)?;
                plan.count = args.value("count", 1_000_000)?;
                plan.shape = Shape::Channels { channels, batch };
                if plan.connections > channels {
                    return Err("--connections: at most one per channel".into());
                }
                plan.shown = vec![
                    ("channels", channels as f64),
                    ("connections", plan.connections as f64),
                    ("publishes", plan.count as f64),
                    ("batch", batch as f64),
                    ("in_flight", plan.publishers as f64),
                ];
            }
            "idle" => {
                plan.kind = Kind::Idle;
                plan.connections = args.value("subscribers", 19_000)?;
                plan.publishers = 0;
                plan.shown = vec![("subscribers", plan.connections as f64)];
            }
            "connect" => {
                plan.kind = Kind::Connect;
                plan.connections = args.value("connections", 10_000)?;
                plan.publishers = 0;
                plan.shown =
                    vec![("connections", plan.connections as f64), ("at_once", at_once as f64)];
            }
            "filters" => {
                plan.kind = Kind::Filters;
                plan.connections = args.value("sockets", 10_000)?;
                plan.publishers = args.value("publishers", 64)?;
                plan.size = args.value("size", 1024)?;
                plan.idle_seconds = args.value("idle", 3.0)?;
                let rate = args.value("rate", 100.0)?;
                plan.pace = Pace::Rate(rate);
                let matches: usize = args.value("matches", 1)?;
                if matches == 0 || !plan.connections.is_multiple_of(matches) {
                    return Err("--matches: want a divisor of --sockets".into());
                }
                let by = match text_or(args, "by", "uri").as_str() {
                    "uri" => Wanted::Uri,
                    "group" => Wanted::Group,
                    other => return Err(format!("--by: want uri or group, not {other:?}")),
                };
                plan.shape = Shape::Annotations { documents: plan.connections / matches, by };
                let matches = if by == Wanted::Group { plan.connections } else { matches };
                plan.shown = vec![
                    ("sockets", plan.connections as f64),
                    ("matches", matches as f64),
                    ("size", plan.size as f64),
                    ("rate", rate),
                ];
            }
            other => return Err(format!("no scenario {other:?}")),
        }
        Ok(plan)
    }

    fn run(&self, server: &Server, common: &Common, report: &mut Report) -> io::Result<()> {
        let mut load =
            Load::new(server.address, &common.credentials, self.shape.clone(), self.size)?;
        match self.kind {
            Kind::Publish => self.publish(&mut load, server, common, report),
            Kind::Idle => self.idle(&mut load, server, common, report),
            Kind::Connect => self.connect(load, server, report),
            Kind::Filters => self.filters(&mut load, server, common, report),
        }
    }

    fn publish(
        &self,
        load: &mut Load,
        server: &Server,
        common: &Common,
        report: &mut Report,
    ) -> io::Result<()> {
        load.open(self.connections, self.at_once, self.publishers)?;
        self.measure(load, server, common, report)
    }

    /// Publishes and reports, with everyone connected.
    fn measure(
        &self,
        load: &mut Load,
        server: &Server,
        common: &Common,
        report: &mut Report,
    ) -> io::Result<()> {
        let start = sys::now_ns();
        // A counted run is measured whole; a timed one from the end of its warm-up.
        let warm = start + if self.count > 0 { 0 } else { (common.warmup * 1e9) as u64 };
        let end = warm + (common.seconds * 1e9) as u64;
        let mut first: Option<(u64, Usage, u64)> = None;
        let mut shown = start;
        let mut delivered_shown = 0;
        load.run(self.pace, |load, now| {
            if first.is_none() && now >= warm {
                load.reset_counts();
                first =
                    Some((now, process::usage(server.pid).unwrap_or_default(), core_busy(common)));
                delivered_shown = 0;
            }
            if now - shown >= 1_000_000_000 {
                let rate = (load.counts.delivered.saturating_sub(delivered_shown)) as f64
                    / ((now - shown) as f64 / 1e9);
                eprintln!(
                    "  {:>4.0} s  {rate:>10.0} delivered/s  {:>9} published",
                    (now - start) as f64 / 1e9,
                    load.counts.published
                );
                shown = now;
                delivered_shown = load.counts.delivered;
            }
            if self.count > 0 { load.counts.published >= self.count } else { now >= end }
        })?;
        if self.count > 0 {
            load.settle()?;
        }
        let now = sys::now_ns();
        let after = process::usage(server.pid)?;
        let busy = core_busy(common);
        let memory = process::memory(server.pid)?;
        let counts = load.counts.clone();
        let (since, before, busy_before) = first.unwrap_or((start, Usage::default(), 0));
        let histograms = [load.each.clone(), load.last.clone(), load.answer.clone()];
        load.settle()?;

        let used = after.since(before);
        let seconds = (now - since) as f64 / 1e9;
        let delivered = counts.delivered.max(1) as f64;
        report.number("cpu_us_per_delivered", used.cpu_ns as f64 / delivered / 1e3);
        let published = counts.published.max(1) as f64;
        report.number("cpu_us_per_published", used.cpu_ns as f64 / published / 1e3);
        report.number("delivered_per_s", counts.delivered as f64 / seconds);
        report.number("published_per_s", counts.published as f64 / seconds);
        report.count("delivered", counts.delivered);
        report.count("lost", load.faults.lost);
        report.count("duplicated", load.faults.duplicated);
        report.count("out_of_order", load.faults.out_of_order);
        report.count("one_order_for_all", u64::from(load.one_order()));
        report.count("closed_by_server", load.faults.closed);
        report.count("refused", load.faults.refused);
        report.count("errors", load.faults.errors);
        report.count("pings", counts.pings);
        if !load.last_error().is_empty() {
            report.figures.insert("last_error".into(), load.last_error().into());
        }
        report.quantiles("each", &histograms[0]);
        report.quantiles("last", &histograms[1]);
        report.quantiles("answer", &histograms[2]);
        report.number("frames_per_receive", delivered / counts.receives.max(1) as f64);
        usage_figures(report, used, seconds, delivered);
        let elsewhere = (busy.saturating_sub(busy_before)) as f64 / 100.0 / seconds
            - used.cpu_ns as f64 / 1e9 / seconds;
        report.number("server_core_elsewhere_share", elsewhere.max(0.0));
        memory_figures(report, memory);
        report.number("generator_us_per_delivered", counts.work_ns as f64 / delivered / 1e3);
        report.number("generator_busy_share", counts.work_ns as f64 / 1e9 / seconds);
        Ok(())
    }

    fn idle(
        &self,
        load: &mut Load,
        server: &Server,
        common: &Common,
        report: &mut Report,
    ) -> io::Result<()> {
        load.linger(500_000_000)?;
        let before = process::memory(server.pid)?;
        let slab_before = process::slab_bytes();
        load.open(self.connections, self.at_once, self.publishers)?;
        load.linger((common.warmup * 2e9) as u64)?;
        let start = process::usage(server.pid)?;
        load.linger((common.seconds * 1e9) as u64)?;
        let used = process::usage(server.pid)?.since(start);
        let after = process::memory(server.pid)?;
        let count = self.connections as f64;
        let per = |after: u64, before: u64| (after as f64 - before as f64) / count;
        report.number("process_bytes_per_connection", per(after.anonymous, before.anonymous));
        report.number("rss_bytes_per_connection", per(after.rss, before.rss));
        report
            .number("slab_bytes_per_connection_both_ends", per(process::slab_bytes(), slab_before));
        report.count("subscribed", load.live() as u64);
        report.count("closed_by_server", load.faults.closed);
        report.number("idle_cpu_ms_per_s", used.cpu_ns as f64 / 1e6 / common.seconds);
        report.number("anonymous_before_mib", before.anonymous as f64 / 1048576.0);
        memory_figures(report, after);
        Ok(())
    }

    fn filters(
        &self,
        load: &mut Load,
        server: &Server,
        common: &Common,
        report: &mut Report,
    ) -> io::Result<()> {
        load.linger(500_000_000)?;
        let before = process::memory(server.pid)?;
        load.open(self.connections, self.at_once, 0)?;
        load.linger((common.warmup * 1e9) as u64)?;
        if self.idle_seconds > 0.0 {
            load.reset_counts();
            let start = process::usage(server.pid)?;
            load.linger((self.idle_seconds * 1e9) as u64)?;
            let used = process::usage(server.pid)?.since(start);
            report.number("idle_cpu_us_per_s", used.cpu_ns as f64 / 1e3 / self.idle_seconds);
            report.count("idle_pings", load.counts.pings);
        }
        let after = process::memory(server.pid)?;
        let per =
            |after: u64, before: u64| (after as f64 - before as f64) / self.connections as f64;
        report.number("rss_bytes_per_socket", per(after.rss, before.rss));
        report.number("anonymous_bytes_per_socket", per(after.anonymous, before.anonymous));
        if common.seconds == 0.0 {
            return Ok(());
        }
        load.open_publishers(self.publishers)?;
        self.measure(load, server, common, report)?;
        // Long enough for an event that comes twice to come again.
        load.linger(200_000_000)?;
        load.check_exactly_once()
    }

    fn connect(&self, mut load: Load, server: &Server, report: &mut Report) -> io::Result<()> {
        load.linger(300_000_000)?;
        let before = process::usage(server.pid)?;
        let start = sys::now_ns();
        load.open(self.connections, self.at_once, 0)?;
        let seconds = (sys::now_ns() - start) as f64 / 1e9;
        let after = process::usage(server.pid)?;
        let used = after.since(before);
        let count = self.connections as f64;
        report.number("cpu_us_per_connection", used.cpu_ns as f64 / count / 1e3);
        report.number("connections_per_s", count / seconds);
        report.quantiles("handshake", &load.handshake);
        usage_figures(report, used, seconds, count);
        memory_figures(report, process::memory(server.pid)?);
        drop(load);
        // The server is done with the closed connections when it has used nothing for a while.
        let mut last = after;
        loop {
            std::thread::sleep(std::time::Duration::from_millis(200));
            let now = process::usage(server.pid)?;
            if now.since(last).cpu_ns < 1_000_000 {
                break;
            }
            last = now;
        }
        report.number("cpu_us_per_close", last.since(after).cpu_ns as f64 / count / 1e3);
        Ok(())
    }
}

fn core_busy(common: &Common) -> u64 {
    common.server_core.map_or(0, process::core_busy_ticks)
}

fn usage_figures(report: &mut Report, used: Usage, seconds: f64, each: f64) {
    let ticks = (used.user_ticks + used.system_ticks).max(1) as f64;
    report.number("server_core_share", used.cpu_ns as f64 / 1e9 / seconds);
    report.number("server_user_share", used.user_ticks as f64 / ticks);
    report.number(
        "switches_per_1000",
        (used.switches_voluntary + used.switches_forced) as f64 * 1000.0 / each,
    );
    report.number("switches_forced_per_s", used.switches_forced as f64 / seconds);
    report.count("server_threads", used.threads);
}

fn memory_figures(report: &mut Report, memory: Memory) {
    report.number("rss_mib", memory.rss as f64 / 1048576.0);
    report.number("pss_mib", memory.pss as f64 / 1048576.0);
    report.number("anonymous_mib", memory.anonymous as f64 / 1048576.0);
}
