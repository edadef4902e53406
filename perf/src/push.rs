//! Push notifications: durable registrations a second, and a publish to very many devices beside a fan-out, whose latency
//! is held against that of the same server a moment before and after.
//!
//! Where notifications go is the server's own log, or a `sink` that speaks as HMS does: the least HTTP there is.

use std::cell::Cell;
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{SocketAddrV4, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::args::Args;
use crate::ask::Http;
use crate::bench::{Bench, Fresh, metrics};
use crate::lines::{self, Cells, Figures, Line, Target, of, quantiles};
use crate::load::{DURABLE, First, Load, Pace, Publishing, Script, Shape, Transport, everyone};
use crate::process::{self, ByThread};
use crate::publish::{self, Credentials, Marked, Signer};
use crate::report::without_folders;
use crate::{sys, wire};

/// What this is for.
pub const WHAT: &str = "push notifications: durable registrations a second, and planning for 100,000 devices beside a fan-out";

const PARTS: &[&str] = &["register", "plan"];
const ROUTES: &[&str] = &["log", "sink"];
/// The channel that devices hear of.
const CHANNEL: &str = "orders";
/// How long a publish to all may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// How often it is looked at, and the server's memory with it.
const LOOK: Duration = Duration::from_millis(250);

struct Plan {
    parts: Vec<&'static str>,
    routes: Vec<&'static str>,
    bench: Bench,
    in_flight: Vec<usize>,
    devices: u64,
    subscribers: usize,
    rate: f64,
    size: usize,
    concurrency: usize,
    publishes: usize,
}

/// Runs the parts: rounds, table, files.
pub fn run(args: &Args, words: &[String]) -> Result<(), String> {
    let rounds: usize = args.value("rounds", 3)?;
    let out = args.text("out").unwrap_or_else(|| "perf/results".into());
    let name = args.text("name").unwrap_or_else(|| "push".into());
    let plan = Plan::read(args)?;
    args.finish()?;
    let command = format!("ringmain-perf push {}", without_folders(&words.join(" ")));
    let lines = |runs: &[Cells]| plan.lines(runs);
    lines::measure((&name, &command, &out), (&plan.bench.machine, rounds), || plan.round(), lines)
}

/// Some of the words that are known.
fn some(args: &Args, name: &str, known: &[&'static str]) -> Result<Vec<&'static str>, String> {
    let wanted = args.text(name).unwrap_or_else(|| known.join(","));
    let find = |word: &str| {
        let found = known.iter().find(|it| **it == word).copied();
        found.ok_or_else(|| format!("--{name}: want some of {}", known.join(",")))
    };
    wanted.split(',').map(find).collect()
}

impl Plan {
    fn read(args: &Args) -> Result<Self, String> {
        let in_flight = args.text("in-flight").unwrap_or_else(|| "1,64,256".into());
        let number = |text: &str| text.parse().map_err(|_| format!("--in-flight: {text:?}"));
        Ok(Self {
            parts: some(args, "parts", PARTS)?,
            routes: some(args, "routes", ROUTES)?,
            in_flight: in_flight.split(',').map(number).collect::<Result<_, _>>()?,
            devices: args.value("devices", 100_000)?,
            subscribers: args.value("subscribers", 1000)?,
            rate: args.value("rate", 50.0)?,
            size: args.value("size", 128)?,
            concurrency: args.value("concurrency", 64)?,
            publishes: args.value("publishes", 3)?,
            bench: Bench::read(args, "perf/target/push", 1.0)?,
        })
    }

    fn round(&self) -> io::Result<Cells> {
        let mut cells = Cells::new();
        for part in &self.parts {
            match *part {
                "register" => {
                    for in_flight in &self.in_flight {
                        let name = format!("{in_flight} in flight");
                        cells.insert(format!("register, {name}"), self.register(*in_flight)?);
                        cells.insert(format!("durable publish, {name}"), self.keep(*in_flight)?);
                    }
                }
                _ => {
                    for route in &self.routes {
                        self.plan(route, &mut cells)?;
                    }
                }
            }
        }
        Ok(cells)
    }
}

/// A server whose messages go to its log, or to the sink.
fn config(sink: Option<SocketAddrV4>, concurrency: usize) -> String {
    let mut text = format!(
        r#"
[[apps]]
id = "app-id"
key = "app-key"
secret = "app-secret"

[[history.channels]]
pattern = "{DURABLE}*"
mode = "durable"

[push]
enabled = "on"
encryption_key = "0123456789abcdef0123456789abcdef"
concurrency_max = {concurrency}
"#
    );
    let _ = match sink {
        None => writeln!(text, "log = \"on\""),
        Some(sink) => writeln!(
            text,
            "log = \"off\"\nallow_private = true\nhms_url = \"http://{sink}\"\nhms_token_url = \"http://{sink}/token\""
        ),
    };
    text
}

fn credentials() -> Credentials {
    Credentials { app: "app-id".into(), key: "app-key".into(), secret: "app-secret".into() }
}

/// Signed requests, each about the next number.
fn numbered(
    path: &'static str,
    body: impl Fn(u64) -> String + 'static,
) -> (Publishing, Rc<Cell<u64>>) {
    let (signer, next) = (Signer::new(credentials()), Rc::new(Cell::new(0)));
    let count = next.clone();
    let spell = Box::new(move |out: &mut Vec<u8>, _: Marked, _| {
        let at = next.replace(next.get() + 1);
        signer.request(out, path, body(at).as_bytes());
    });
    (Publishing::Request(spell), count)
}

/// A registration as an application's back end sends it; the token is as long as those of FCM and HMS are.
fn registration(at: u64) -> String {
    format!(
        r#"{{"appId":"app-id","id":"device-{at}","clientId":"client-{}","formFactor":"phone","platform":"android","timezone":"Europe/Vienna","locale":"de-AT","metadata":{{"app_version":"4.5.0"}},"push":{{"recipient":{{"transportType":"hms","registrationToken":"{:0>152}"}}}}}}"#,
        at / 2,
        at
    )
}

fn subscription(at: u64) -> String {
    format!(r#"{{"appId":"app-id","channel":"{CHANNEL}","deviceId":"device-{at}"}}"#)
}

/// Requests alone: nobody listens.
fn alone(publish: Publishing) -> Script {
    Script {
        target: everyone("/app/app-key?protocol=7&client=perf&version=1.0"),
        transport: Transport::WebSocket,
        first: First::Head,
        publish,
    }
}

// The parts.

impl Plan {
    fn load(&self, to: SocketAddrV4, script: Option<Script>, is_patient: bool) -> io::Result<Load> {
        let mut load = Load::new(to, &credentials(), Shape::Fanout, self.size)?;
        load.script = script;
        load.is_patient = is_patient;
        Ok(load)
    }

    fn asked(&self, in_flight: usize, what: &str, publish: Publishing) -> io::Result<Figures> {
        let fresh = self.bench.fresh(&config(None, self.concurrency))?;
        let mut load = self.load(fresh.server.address, Some(alone(publish)), true)?;
        load.open_publishers(in_flight)?;
        let window = self.bench.window(&fresh.server, &mut load, Pace::InFlight)?;
        let mut figures = window.figures();
        let done = window.counts.acknowledged as f64;
        figures.insert("acknowledged_per_s".into(), done / window.seconds);
        let cpu = window.cpu.all_ns() as f64;
        figures.insert("acknowledged_per_cpu_s".into(), done * 1e9 / cpu.max(1.0));
        quantiles(&mut figures, "answer", &window.answer);
        window.per(&mut figures, "request", done);
        eprintln!("  {in_flight} in flight, {what}: {:.0}/s", figures["acknowledged_per_s"]);
        Ok(figures)
    }

    fn register(&self, in_flight: usize) -> io::Result<Figures> {
        self.asked(in_flight, "register", numbered("push/deviceRegistrations", registration).0)
    }

    fn keep(&self, in_flight: usize) -> io::Result<Figures> {
        let (signer, size) = (Signer::new(credentials()), self.size);
        let spell = Box::new(move |out: &mut Vec<u8>, marked: Marked, _| {
            let mut body = Vec::with_capacity(size + 128);
            let channel = format!("{DURABLE}{}", marked.sequence % 64);
            publish::event(&mut body, &channel, marked, size);
            signer.request(out, "events", &body);
        });
        self.asked(in_flight, "durable publish", Publishing::Request(spell))
    }

    /// Says something about each device, on 256 connections.
    fn fill(
        &self,
        to: SocketAddrV4,
        path: &'static str,
        body: impl Fn(u64) -> String + 'static,
    ) -> io::Result<()> {
        let (publish, count) = numbered(path, body);
        let mut load = self.load(to, Some(alone(publish)), true)?;
        load.open_publishers(256)?;
        let mut said = Instant::now();
        load.run(Pace::InFlight, |_, _| {
            if said.elapsed() > Duration::from_secs(5) {
                said = Instant::now();
                eprintln!("  {path}: {} of {}", count.get(), self.devices);
            }
            count.get() >= self.devices
        })?;
        load.settle()?;
        if load.faults.refused + load.faults.errors + load.faults.closed > 0 {
            let text = format!("{path}: {:?}; last error: {:?}", load.faults, load.last_error());
            return Err(io::Error::other(text));
        }
        Ok(())
    }

    /// Publishes to all devices of a channel, time after time, beside a fan-out.
    fn plan(&self, route: &str, cells: &mut Cells) -> io::Result<()> {
        let sink = (route == "sink").then(Sink::start).transpose()?;
        let fresh =
            self.bench.fresh(&config(sink.as_ref().map(|it| it.address), self.concurrency))?;
        let address = fresh.server.address;
        let signer = Signer::new(credentials());
        if sink.is_some() {
            let mut request = Vec::new();
            let body = br#"{"hmsAppId":"1","clientSecret":"sink"}"#;
            signer.request(&mut request, "push/credentials/hms", body);
            Http::open(address)?.ask(&request)?;
        }
        self.fill(address, "push/deviceRegistrations", registration)?;
        let devices = self.devices.max(1);
        // Those that are on their way when enough were sent say the first ones again: not one of them all at once, which
        // is refused.
        self.fill(address, "push/channelSubscriptions", move |at| subscription(at % devices))?;

        let mut load = self.load(address, None, true)?;
        load.open(self.subscribers, 64, 64)?;
        let seconds = Duration::from_secs_f64(self.bench.seconds);
        let warm = Instant::now();
        load.run(Pace::Rate(self.rate), |_, _| warm.elapsed().as_secs_f64() >= self.bench.warmup)?;
        let before = self.beside(&fresh, &mut load, || Ok(false), seconds)?;
        let watch = Watch::start(address, fresh.server.pid, self.publishes)?;
        let beside = self.beside(&fresh, &mut load, || watch.is_running(), PATIENCE)?;
        let watched = watch.ended()?;
        let after = self.beside(&fresh, &mut load, || Ok(false), seconds)?;
        load.settle()?;
        if load.faults.lost + load.faults.closed + load.faults.errors + load.faults.refused > 0 {
            let text = format!("{:?}; last error: {:?}", load.faults, load.last_error());
            return Err(io::Error::other(text));
        }

        let mut figures = beside.figures.clone();
        let devices = watched.planned.max(1) as f64;
        figures.insert("planned".into(), watched.planned as f64);
        figures.insert("succeeded".into(), watched.succeeded as f64);
        figures.insert("seconds".into(), watched.seconds);
        figures.insert("devices_per_s".into(), devices / watched.seconds);
        figures.insert("accepted_after_max_ms".into(), watched.accepted_ms);
        let mib = |bytes: u64| bytes as f64 / 1048576.0;
        figures.insert("rss_before_mib".into(), mib(watched.rss_before));
        figures.insert("rss_growth_mib".into(), mib(watched.rss_max - watched.rss_before));
        // The gauge at its highest, so far as looks every now and then see it.
        figures.insert("pending_max".into(), watched.pending_max);
        let idle_us = before.cpu.all_ns() as f64 / before.seconds * beside.seconds;
        let own = beside.cpu.all_ns() as f64 - idle_us;
        figures.insert("cpu_us_per_device".into(), own / 1e3 / devices);
        if let Some(sink) = &sink {
            figures.insert("arrived".into(), sink.arrived.load(Ordering::Relaxed) as f64);
        }
        eprintln!(
            "  {route}: {:.0} devices/s, p99 {:.0} us beside, {:.0} before, {:.0} after",
            figures["devices_per_s"],
            beside.figures["last_p99_us"],
            before.figures["last_p99_us"],
            after.figures["last_p99_us"]
        );
        // What the machine does in between is in both halves of what is held against.
        let mut idle = before.figures;
        for (name, value) in &mut idle {
            *value = (*value + after.figures[name]) / 2.0;
        }
        cells.insert(format!("idle, {route}"), idle);
        cells.insert(format!("plan, {route}"), figures);
        Ok(())
    }

    /// The fan-out for so long, or as long as something else goes on.
    fn beside(
        &self,
        fresh: &Fresh,
        load: &mut Load,
        mut goes_on: impl FnMut() -> io::Result<bool>,
        longest: Duration,
    ) -> io::Result<Beside> {
        load.reset_counts();
        let (start, cpu) = (Instant::now(), process::by_thread(fresh.server.pid)?);
        let is_watch = longest == PATIENCE;
        let (mut failed, mut next) = (None, sys::now_ns());
        load.run(Pace::Rate(self.rate), |_, now| {
            if start.elapsed() >= longest {
                return true;
            }
            if !is_watch || now < next {
                return false;
            }
            next = now + LOOK.as_nanos() as u64;
            match goes_on() {
                Ok(it) => !it,
                Err(error) => {
                    failed = Some(error);
                    true
                }
            }
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        let seconds = start.elapsed().as_secs_f64();
        let cpu = process::by_thread(fresh.server.pid)?.since(cpu);
        let share = |ns: u64| ns as f64 / 1e9 / seconds;
        let mut figures = Figures::from([
            ("shards_core_share".to_owned(), share(cpu.shards_ns)),
            ("store_core_share".to_owned(), share(cpu.store_ns)),
            ("other_core_share".to_owned(), share(cpu.other_ns)),
            ("generator_busy_share".to_owned(), share(load.counts.work_ns)),
            ("published".to_owned(), load.counts.published as f64),
        ]);
        quantiles(&mut figures, "last", &load.last);
        quantiles(&mut figures, "answer", &load.answer);
        Ok(Beside { seconds, cpu, figures })
    }
}

struct Beside {
    seconds: f64,
    cpu: ByThread,
    figures: Figures,
}

/// Publishes to all, one after another, on a thread of its own, until nothing more comes of the last.
struct Watch {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<Watched>>,
}

#[derive(Default)]
struct Watched {
    seconds: f64,
    accepted_ms: f64,
    planned: u64,
    succeeded: u64,
    rss_before: u64,
    rss_max: u64,
    pending_max: f64,
}

impl Watch {
    fn start(to: SocketAddrV4, pid: u32, publishes: usize) -> io::Result<Self> {
        let is_over = Arc::new(AtomicBool::new(false));
        let over = is_over.clone();
        let thread = std::thread::Builder::new().name("watch".into()).spawn(move || {
            let watched = watch(to, pid, publishes);
            over.store(true, Ordering::Release);
            watched
        })?;
        Ok(Self { is_over, thread })
    }

    fn is_running(&self) -> io::Result<bool> {
        Ok(!self.is_over.load(Ordering::Acquire))
    }

    fn ended(self) -> io::Result<Watched> {
        self.thread.join().map_err(|_| io::Error::other("the watch panicked"))?
    }
}

fn watch(to: SocketAddrV4, pid: u32, publishes: usize) -> io::Result<Watched> {
    let mut http = Http::open(to)?;
    let rss = process::resident(pid)?;
    let mut watched = Watched { rss_before: rss, rss_max: rss, ..Watched::default() };
    for _ in 0..publishes {
        watched.publish(to, pid, &mut http)?;
    }
    Ok(watched)
}

impl Watched {
    /// Adds one publish to all.
    fn publish(&mut self, to: SocketAddrV4, pid: u32, http: &mut Http) -> io::Result<()> {
        let signer = Signer::new(credentials());
        let body = format!(
            r#"{{"recipients":[{{"type":"channel","channel":"{CHANNEL}"}}],"payload":{{"title":"Order updated","body":"Order ord_123 moved to packing","data":{{"order_id":"ord_123"}}}}}}"#
        );
        let mut request = Vec::new();
        let start = Instant::now();
        signer.request(&mut request, "push/publish", body.as_bytes());
        let answer = parsed(&http.ask(&request)?)?;
        self.accepted_ms = self.accepted_ms.max(start.elapsed().as_secs_f64() * 1e3);
        let id = answer["publishId"].as_str().unwrap_or_default().to_owned();
        while start.elapsed() < PATIENCE {
            request.clear();
            // A parameter that the route does not know: this signer has none to leave out.
            signer.question(&mut request, &format!("push/publish/{id}/status"), "limit=1");
            let status = parsed(&http.ask(&request)?)?;
            self.rss_max = self.rss_max.max(process::resident(pid)?);
            let gauges = metrics(to)?;
            let pending = gauges.get("ringmain_push_pending").copied().unwrap_or(0.0);
            self.pending_max = self.pending_max.max(pending);
            match status["state"].as_str().unwrap_or_default() {
                "accepted" | "planning" | "throttled" | "dispatching" => std::thread::sleep(LOOK),
                "succeeded" => {
                    let count = |name: &str| status["counters"][name].as_u64().unwrap_or(0);
                    self.planned += count("planned");
                    self.succeeded += count("succeeded");
                    self.seconds += start.elapsed().as_secs_f64();
                    return Ok(());
                }
                _ => return Err(io::Error::other(format!("it came to this: {status}"))),
            }
        }
        Err(io::Error::other("the publish did not end"))
    }
}

fn parsed(text: &str) -> io::Result<Value> {
    serde_json::from_str(text).map_err(|error| io::Error::other(format!("{error}: {text}")))
}

/// A server that speaks as HMS does and takes everything. A thread for each connection: there are
/// `push.concurrency_max` at most.
struct Sink {
    address: SocketAddrV4,
    arrived: Arc<AtomicU64>,
}

impl Sink {
    fn start() -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let std::net::SocketAddr::V4(address) = listener.local_addr()? else {
            return Err(io::Error::other("no address of IPv4"));
        };
        let arrived = Arc::new(AtomicU64::new(0));
        let counted = arrived.clone();
        std::thread::Builder::new().name("sink".into()).spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let counted = counted.clone();
                std::thread::spawn(move || {
                    // A hint: what it needs of the generator's core is not what is measured.
                    let _ = sys::only_when_idle();
                    // Whoever goes away goes away.
                    let _ = take(stream, &counted);
                });
            }
        })?;
        Ok(Self { address, arrived })
    }
}

fn take(mut stream: TcpStream, arrived: &AtomicU64) -> io::Result<()> {
    const TOKEN: &str = r#"{"access_token":"sink","expires_in":3600,"token_type":"Bearer"}"#;
    const TAKEN: &str = r#"{"code":"80000000","msg":"Success","requestId":"1"}"#;
    stream.set_nodelay(true)?;
    let (mut held, mut piece) = (Vec::new(), vec![0; 16 << 10]);
    loop {
        while let Some(request) = wire::request(&held) {
            let is_token = wire::find(request.head, b"/token").is_some();
            let body = if is_token { TOKEN } else { TAKEN };
            let len = request.len;
            held.drain(..len);
            arrived.fetch_add(u64::from(!is_token), Ordering::Relaxed);
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes())?;
        }
        let got = stream.read(&mut piece)?;
        if got == 0 {
            return Ok(());
        }
        held.extend_from_slice(&piece[..got]);
    }
}

// What it is held against.

impl Plan {
    fn lines(&self, runs: &[Cells]) -> Vec<Line> {
        let mut lines = Vec::new();
        if self.parts.contains(&"register") {
            for in_flight in &self.in_flight {
                let of = |what: &str| {
                    of(runs, &format!("{what}, {in_flight} in flight"), "acknowledged_per_s")
                };
                let what = format!("durable registrations, {in_flight} in flight");
                let line = Line::new(what, "/s", of("register"));
                lines.push(line.beside("durable publishes", of("durable publish")));
            }
        }
        if self.parts.contains(&"plan") {
            for route in &self.routes {
                let (plan, idle) = (format!("plan, {route}"), format!("idle, {route}"));
                for (part, target) in
                    [("last_p50_us", Target::None), ("last_p99_us", Target::RatioMax(1.1))]
                {
                    let what = format!(
                        "publish to the last of {} subscribers beside {} devices, {route}: {}",
                        self.subscribers,
                        self.devices,
                        part.trim_start_matches("last_").trim_end_matches("_us")
                    );
                    let line = Line::new(what, "µs", of(runs, &plan, part));
                    lines.push(line.beside("idle", of(runs, &idle, part)).target(target));
                }
                for (figure, unit) in [
                    ("devices_per_s", "devices/s"),
                    ("cpu_us_per_device", "µs of CPU a device"),
                    ("rss_growth_mib", "MiB more, resident"),
                ] {
                    let what = format!("{} devices, {route}: {figure}", self.devices);
                    lines.push(Line::new(what, unit, of(runs, &plan, figure)));
                }
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_json_and_tokens_differ() {
        let [one, other] = [7, 8].map(|at| parsed(&registration(at)).unwrap());
        let token = |it: &Value| it["push"]["recipient"]["registrationToken"].clone();
        assert_eq!(token(&one).as_str().map(str::len), Some(152));
        assert_ne!(token(&one), token(&other));
        assert_eq!(parsed(&subscription(7)).unwrap()["deviceId"], one["id"]);
    }

    #[test]
    fn the_sink_takes_what_comes() {
        let sink = Sink::start().unwrap();
        let mut http = Http::open(sink.address).unwrap();
        let ask = |path: &str| format!("POST {path} HTTP/1.1\r\nContent-Length: 2\r\n\r\n{{}}");
        let token = http.ask(ask("/token").as_bytes()).unwrap();
        assert!(token.contains("access_token"), "{token}");
        let taken = http.ask(ask("/v1/1/messages:send").as_bytes()).unwrap();
        assert!(taken.contains("80000000"), "{taken}");
        assert_eq!(sink.arrived.load(Ordering::Relaxed), 1);
    }
}
