//! Hotsock beside Pusher, in the same process wherever both can do it, and beside itself.
//!
//! Every part starts servers of its own in each round. What is compared runs there and back again (a, b, b, a), so
//! that what drifts within a round falls on both.

use std::cell::OnceCell;
use std::fmt::Write as _;
use std::io;
use std::net::SocketAddrV4;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::args::Args;
use crate::ask::{Http, Socket};
use crate::bare::{self, Prepared};
use crate::bench::{Bench, Folder};
use crate::lines::{self, Cells, Figures, Line, Target, of, quantiles};
use crate::load::{First, Load, Pace, Publishing, Script, Shape, Spelling, Transport, everyone};
use crate::process::{self, Server};
use crate::publish::{self, Credentials, Marked, Signer};
use crate::report::without_folders;
use crate::sys;
use crate::token::Key;

/// What `ringmain-perf hotsock` is for.
pub const WHAT: &str = "Hotsock against Pusher in the same server: connects, subscribes, fan-out, pages, schedules, latency";

const PARTS: &[&str] = &["connect", "subscribe", "fanout", "pages", "schedules", "latency"];

const SECRET: &str = "a-secret-of-more-than-thirty-two-bytes";
const BEARER: &str = "abcdefghijklmnopqrstuvwxyzabcdefghijklmn";
/// The channel of both protocols; Pusher's peers may publish to private ones only.
const CHANNEL: &str = "private-perf";
/// A channel that Pusher keeps.
const DURABLE: &str = "private-durable";
/// Connections of which latency is measured; each publishes in turn, so that one that waits for the disk does not hold
/// up the next.
const SPEAKERS: usize = 16;
/// Patterns in one token, at most, and beside those of its own channel.
const PATTERNS: usize = 256;
/// Subscribes on their way at once on one connection.
const SUBSCRIBES: usize = 8;

/// What all parts are told.
struct Plan {
    bench: Bench,
    parts: Vec<&'static str>,
    connections: usize,
    subscribers: usize,
    sizes: Vec<usize>,
    in_flight: usize,
    rate: f64,
    schedules: usize,
    idle_seconds: f64,
    hs256: Key,
    es256: Key,
    config: String,
    /// A directory with schedules in it, and what was seen when they were made.
    scheduled: OnceCell<(Folder, Figures)>,
}

/// Runs the parts: rounds, table, files.
pub fn run(args: &Args, words: &[String]) -> Result<(), String> {
    let rounds: usize = args.value("rounds", 5)?;
    let out = args.text("out").unwrap_or_else(|| "perf/results".into());
    let name = args.text("name").unwrap_or_else(|| "hotsock".into());
    let plan = Plan::read(args)?;
    args.finish()?;
    let command = format!("ringmain-perf hotsock {}", without_folders(&words.join(" ")));
    let lines = |runs: &[Cells]| plan.lines(runs);
    lines::measure((&name, &command, &out), (&plan.bench.machine, rounds), || plan.round(), lines)
}

impl Plan {
    fn read(args: &Args) -> Result<Self, String> {
        let wanted = args.text("parts").unwrap_or_else(|| PARTS.join(","));
        let known = |name: &str| {
            let found = PARTS.iter().find(|it| **it == name).copied();
            found.ok_or_else(|| format!("--parts: want some of {}", PARTS.join(",")))
        };
        let sizes = args.text("sizes").unwrap_or_else(|| "128,1024".into());
        let size = |text: &str| text.parse().map_err(|_| format!("--sizes: cannot read {text:?}"));
        let (hs256, es256) = (Key::Hs256(SECRET.into()), Key::es256());
        Ok(Self {
            parts: wanted.split(',').map(known).collect::<Result<_, _>>()?,
            connections: args.value("connections", 2000)?,
            subscribers: args.value("subscribers", 1000)?,
            sizes: sizes.split(',').map(size).collect::<Result<_, _>>()?,
            in_flight: args.value("in-flight", 1)?,
            rate: args.value("rate", 200.0)?,
            schedules: args.value("schedules", 100_000)?,
            idle_seconds: args.value("idle", 20.0)?,
            bench: Bench::read(args, "perf/target/hotsock", 0.3)?,
            config: config(&[&hs256, &es256]),
            hs256,
            es256,
            scheduled: OnceCell::new(),
        })
    }

    fn round(&self) -> io::Result<Cells> {
        let mut cells = Cells::new();
        for part in &self.parts {
            match *part {
                "connect" => self.connect(&mut cells)?,
                "subscribe" => self.subscribe(&mut cells)?,
                "fanout" => self.fanout(&mut cells)?,
                "pages" => self.pages(&mut cells)?,
                "schedules" => self.idle(&mut cells)?,
                _ => self.latency(&mut cells)?,
            }
        }
        Ok(cells)
    }
}

fn config(keys: &[&Key]) -> String {
    let mut text = format!(
        r#"
[[apps]]
id = "app-id"
key = "app-key"
secret = "app-secret"
client_events = true
client_events_per_second_max = 0

[[history.channels]]
pattern = "{DURABLE}"
mode = "durable"

[http]
target_bytes_max = "16384B"

[hotsock]
app = "app-id"

[[hotsock.api_keys]]
key = "{BEARER}"
"#
    );
    for key in keys {
        let (method, base64) = (key.method(), key.base64());
        let _ =
            write!(text, "\n[[hotsock.keys]]\nmethod = \"{method}\"\nkey_base64 = \"{base64}\"\n");
    }
    text
}

fn credentials() -> Credentials {
    Credentials { app: "app-id".into(), key: "app-key".into(), secret: "app-secret".into() }
}

// What peers say.

/// Claims of a peer of [`CHANNEL`], with so many patterns of other channels before it.
fn claims(scope: &str, others: usize) -> String {
    let mut text = format!(r#"{{"exp":4102444800,"scope":"{scope}","uid":"perf","channels":{{"#);
    for at in 0..others {
        let _ = write!(text, r#""room-{at:03}.*":{{"subscribe":true}},"#);
    }
    let _ = write!(
        text,
        r#""{CHANNEL}":{{"subscribe":true,"historyStart":0,"messages":{{"e":{{"publish":true}},"kept":{{"publish":true,"store":3600}}}}}}}}}}"#
    );
    text
}

/// The target of an upgrade with a token.
fn target(key: &Key, claims: &str) -> String {
    format!("/v1?token={}", key.token(claims))
}

/// A peer that is greeted, and says this.
fn hotsock(target: String, says: Option<String>, publish: Publishing) -> Script {
    Script {
        target: everyone(target),
        transport: Transport::WebSocket,
        first: First::Greeting {
            greeting: "hotsock.connected",
            greeted: Box::new(move |_| says.iter().cloned().collect()),
            answer: "hotsock.subscribed",
        },
        publish,
    }
}

/// The same for Pusher, subscribing to a channel.
fn pusher(channel: Option<&'static str>, publish: Publishing) -> Script {
    let signer = Signer::new(credentials());
    let greeted = move |greeting: &[u8]| -> Vec<String> {
        let id = String::from_utf8_lossy(greeting);
        let id = id.split(r#"socket_id\":\""#).nth(1).and_then(|it| it.split('\\').next());
        let Some((id, channel)) = id.zip(channel) else { return Vec::new() };
        let auth = signer.signature(&format!("{id}:{channel}"));
        vec![format!(
            r#"{{"event":"pusher:subscribe","data":{{"channel":"{channel}","auth":"app-key:{auth}"}}}}"#
        )]
    };
    Script {
        target: everyone("/app/app-key?protocol=7&client=perf&version=1.0"),
        transport: Transport::WebSocket,
        first: First::Greeting {
            greeting: "pusher:connection_established",
            greeted: Box::new(greeted),
            answer: "subscription_succeeded",
        },
        publish,
    }
}

fn subscribe() -> String {
    format!(r#"{{"event":"hotsock.subscribe","channel":"{CHANNEL}"}}"#)
}

/// A peer's own publish, in either protocol.
fn said(event: &'static str) -> Publishing {
    Publishing::Message(Box::new(move |out: &mut Vec<u8>, marked: Marked, size| {
        let head = format!(r#"{{"channel":"{CHANNEL}","event":"{event}","data":"#);
        out.extend_from_slice(head.as_bytes());
        marked.write_string(out, size);
        out.push(b'}');
    }))
}

/// A whole request of the server API.
fn bearer(out: &mut Vec<u8>, path: &str, body: &[u8]) {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {BEARER}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(body);
}

/// A back end's publish through the server API.
fn posted(store: u64) -> Publishing {
    Publishing::Request(Box::new(move |out: &mut Vec<u8>, marked: Marked, size| {
        let mut body = match store {
            0 => format!(r#"{{"channel":"{CHANNEL}","event":"e","data":"#),
            _ => format!(r#"{{"channel":"{CHANNEL}","event":"e","store":{store},"data":"#),
        }
        .into_bytes();
        marked.write_string(&mut body, size);
        body.push(b'}');
        bearer(out, "/publish", &body);
    }))
}

/// A back end's publish through Pusher's.
fn signed(channel: &'static str) -> Publishing {
    let signer = Signer::new(credentials());
    Publishing::Request(Box::new(move |out: &mut Vec<u8>, marked: Marked, size| {
        let mut body = Vec::with_capacity(size + 128);
        publish::event(&mut body, channel, marked, size);
        signer.request(out, "events", &body);
    }))
}

fn nothing() -> Publishing {
    Publishing::Request(Box::new(|_, _, _| {}))
}

/// A member's text in flat JSON.
fn member<'a>(text: &'a str, name: &str) -> io::Result<&'a str> {
    let found = text.split(&format!(r#""{name}":""#)).nth(1).and_then(|it| it.split('"').next());
    found.ok_or_else(|| io::Error::other(format!("no {name} in {text}")))
}

/// A way to publish: what it is called, whose subscribers it is for, and how it is spelt.
type Way = (&'static str, usize, fn() -> Publishing);

// The parts.

impl Plan {
    fn load(&self, to: SocketAddrV4, script: Script, size: usize) -> io::Result<Load> {
        let mut load = Load::new(to, &credentials(), Shape::Fanout, size)?;
        load.script = Some(script);
        Ok(load)
    }

    /// Storms of connects, each greeted and gone again.
    fn connect(&self, cells: &mut Cells) -> io::Result<()> {
        let fresh = self.bench.fresh(&self.config)?;
        let Server { address, pid, .. } = fresh.server;
        let plain = claims("connect", 0);
        let scripts = [
            ("Pusher", pusher(None, nothing())),
            ("HS256", hotsock(target(&self.hs256, &plain), None, nothing())),
            ("ES256", hotsock(target(&self.es256, &plain), None, nothing())),
        ];
        let names = scripts.each_ref().map(|(name, _)| *name);
        let mut scripts: Vec<_> = scripts.into_iter().map(|(_, script)| Some(script)).collect();
        let mut spent = [(0u64, 0u64); 3];
        // The first time is for the server to find its memory.
        for (turn, at) in [0, 1, 2, 0, 1, 2, 2, 1, 0].into_iter().enumerate() {
            let script = scripts[at].take().ok_or_else(|| io::Error::other("one at a time"))?;
            let mut load = self.load(address, script, 0)?;
            let count = if turn < 3 { self.connections / 10 } else { self.connections };
            let before = process::by_thread(pid)?;
            load.open(count, 64, 0)?;
            if turn >= 3 {
                spent[at].0 += process::by_thread(pid)?.since(before).all_ns();
                spent[at].1 += count as u64;
            }
            scripts[at] = load.script.take();
            drop(load);
            quiet(pid)?;
        }
        for (name, (ns, count)) in names.into_iter().zip(spent) {
            let figures = Figures::from([
                ("connects_per_cpu_s".to_owned(), count as f64 * 1e9 / ns as f64),
                ("cpu_us_per_connect".to_owned(), ns as f64 / 1e3 / count as f64),
            ]);
            eprintln!("  connect, {name}: {:.1} us", figures["cpu_us_per_connect"]);
            cells.insert(format!("connect, {name}"), figures);
        }
        Ok(())
    }

    /// One connection subscribes and unsubscribes, some at a time.
    fn subscribe(&self, cells: &mut Cells) -> io::Result<()> {
        let fresh = self.bench.fresh(&self.config)?;
        let Server { address, pid, .. } = fresh.server;
        let unsubscribe = format!(r#"{{"event":"hotsock.unsubscribe","channel":"{CHANNEL}"}}"#);
        let with = |claims: &str| {
            let token = self.hs256.token(claims);
            format!(
                r#"{{"event":"hotsock.subscribe","channel":"{CHANNEL}","data":{{"token":"{token}"}}}}"#
            )
        };
        // Three patterns are those of the channel itself.
        let others = PATTERNS - 3;
        let cases = [
            ("1 channel", claims("connect", 0), subscribe()),
            ("256 patterns", claims("connect", others), subscribe()),
            ("own token, 1 channel", claims("connect", 0), with(&claims("subscribe", 0))),
            ("own token, 256 patterns", claims("connect", 0), with(&claims("subscribe", others))),
        ];
        let mut sockets = Vec::new();
        for (_, claims, _) in &cases {
            sockets.push(Socket::open(address, &target(&self.hs256, claims))?.0);
        }
        let mut spent = [(0u64, 0u64); 4];
        for at in [0, 1, 2, 3, 3, 2, 1, 0] {
            let (socket, text) = (&mut sockets[at], &cases[at].2);
            let texts: Vec<String> =
                (0..SUBSCRIBES).flat_map(|_| [text.clone(), unsubscribe.clone()]).collect();
            let mut turn = || -> io::Result<()> {
                socket.say(&texts)?;
                for _ in 0..texts.len() {
                    let heard = socket.hear()?;
                    if !heard.contains("subscribed") {
                        return Err(io::Error::other(heard));
                    }
                }
                Ok(())
            };
            turn()?;
            let before = process::by_thread(pid)?;
            let end = sys::now_ns() + (self.bench.seconds * 5e8) as u64;
            while sys::now_ns() < end {
                turn()?;
                spent[at].1 += SUBSCRIBES as u64;
            }
            spent[at].0 += process::by_thread(pid)?.since(before).all_ns();
        }
        for ((name, _, text), (ns, count)) in cases.iter().zip(spent) {
            let figures = Figures::from([
                ("subscribes_per_cpu_s".to_owned(), count as f64 * 1e9 / ns as f64),
                ("cpu_us_per_subscribe".to_owned(), ns as f64 / 1e3 / count as f64),
                ("message_bytes".to_owned(), text.len() as f64),
            ]);
            eprintln!("  subscribe, {name}: {:.1} us", figures["cpu_us_per_subscribe"]);
            cells.insert(format!("subscribe, {name}"), figures);
        }
        Ok(())
    }

    /// Subscribers of both protocols in one server, published to by peers and by back ends.
    fn fanout(&self, cells: &mut Cells) -> io::Result<()> {
        let fresh = self.bench.fresh(&self.config)?;
        let address = fresh.server.address;
        for &size in &self.sizes {
            let target = target(&self.hs256, &claims("connect", 0));
            let mut loads = [
                self.load(address, hotsock(target, Some(subscribe()), posted(0)), size)?,
                self.load(address, pusher(Some(CHANNEL), signed(CHANNEL)), size)?,
            ];
            for load in &mut loads {
                load.open(self.subscribers, 64, self.in_flight)?;
            }
            let ways: [Way; 4] = [
                ("Hotsock WebSocket", 0, || said("e")),
                ("Pusher client event", 1, || said("client-e")),
                ("Hotsock POST /publish", 0, || posted(0)),
                ("Pusher POST /events", 1, || signed(CHANNEL)),
            ];
            let mut sums = [(0u64, 0u64, 0.0); 4];
            for at in [0, 1, 2, 3, 3, 2, 1, 0] {
                let (_, whose, publishing) = ways[at];
                let [one, other] = &mut loads;
                let (load, idle) = if whose == 0 { (one, other) } else { (other, one) };
                if let Some(script) = &mut load.script {
                    script.publish = publishing();
                }
                // Whoever waited meanwhile answers what it was asked.
                idle.linger(1_000_000)?;
                load.linger(1_000_000)?;
                let window = self.bench.window(&fresh.server, load, Pace::InFlight)?;
                sums[at].0 += window.cpu.all_ns();
                sums[at].1 += window.counts.delivered;
                sums[at].2 += window.counts.bytes as f64;
            }
            for ((name, ..), (ns, delivered, bytes)) in ways.into_iter().zip(sums) {
                let figures = Figures::from([
                    ("cpu_us_per_delivered".to_owned(), ns as f64 / 1e3 / delivered as f64),
                    ("bytes_per_delivered".to_owned(), bytes / delivered as f64),
                    ("delivered".to_owned(), delivered as f64),
                ]);
                eprintln!("  {name}, {size} B: {:.3} us", figures["cpu_us_per_delivered"]);
                cells.insert(format!("fan-out, {size} B, {name}"), figures);
            }
        }
        Ok(())
    }

    /// Pages of 100 messages of 200 bytes.
    fn pages(&self, cells: &mut Cells) -> io::Result<()> {
        let fresh = self.bench.fresh(&self.config)?;
        let address = fresh.server.address;
        let target = target(&self.hs256, &claims("connect", 0));
        let (mut socket, greeting) = Socket::open(address, &target)?;
        let id = member(&greeting, "connectionId")?.replace('=', "%3D");
        let secret = member(&greeting, "connectionSecret")?;
        socket.say(&[subscribe()])?;
        let heard = socket.hear()?;
        if !heard.contains("hotsock.subscribed") {
            return Err(io::Error::other(heard));
        }
        let mut http = Http::open(address)?;
        for at in 0..100 {
            let (mut kept, mut durable, mut request) = (Vec::new(), Vec::new(), Vec::new());
            let marked = Marked { sequence: at, stream: 0, slot: 0, sent_ns: 0 };
            kept.extend_from_slice(
                format!(r#"{{"channel":"{CHANNEL}","event":"kept","store":3600,"data":"#)
                    .as_bytes(),
            );
            marked.write_string(&mut kept, 200);
            kept.push(b'}');
            bearer(&mut request, "/publish", &kept);
            http.ask(&request)?;
            publish::event(&mut durable, DURABLE, marked, 200);
            request.clear();
            Signer::new(credentials()).request(&mut request, "events", &durable);
            http.ask(&request)?;
        }
        let body = format!(r#"{{"channel":"{CHANNEL}","reverse":true}}"#);
        let asked = Rc::new(format!(
            "POST /connection/listMessages?connectionId={id}&connectionSecret={secret} HTTP/1.1\r\n\
             Host: {address}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        let page = http.ask(asked.as_bytes())?;
        let count = page.matches(r#""id":"#).count();
        if count != 100 {
            return Err(io::Error::other(format!("a page of {count} messages: {page}")));
        }
        let spell = asked.clone();
        let ours: Spelling = Box::new(move |out, _, _| out.extend_from_slice(spell.as_bytes()));
        let signer = Signer::new(credentials());
        let path = format!("channels/{DURABLE}/history");
        let theirs: Spelling = Box::new(move |out, _, _| signer.question(out, &path, "limit=100"));
        let mut loads = [ours, theirs]
            .map(|spell| self.load(address, pusher(None, Publishing::Request(spell)), 0));
        let mut sums = [(0u64, 0u64, 0.0, 0.0); 2];
        for load in loads.iter_mut().flatten() {
            load.open_publishers(16)?;
        }
        for at in [0, 1, 1, 0] {
            let load = loads[at].as_mut().map_err(|error| io::Error::other(error.to_string()))?;
            let window = self.bench.window(&fresh.server, load, Pace::InFlight)?;
            sums[at].0 += window.cpu.all_ns();
            sums[at].1 += window.counts.acknowledged;
            sums[at].2 += window.cpu.store_ns as f64;
            sums[at].3 = window.answer.quantile(0.5) as f64 / 1e3;
        }
        for (name, (ns, pages, store, p50)) in
            ["listMessages", "Pusher history"].into_iter().zip(sums)
        {
            let figures = Figures::from([
                ("pages_per_cpu_s".to_owned(), pages as f64 * 1e9 / ns as f64),
                ("cpu_us_per_page".to_owned(), ns as f64 / 1e3 / pages as f64),
                ("store_us_per_page".to_owned(), store / 1e3 / pages as f64),
                ("answer_p50_us".to_owned(), p50),
            ]);
            eprintln!("  {name}: {:.0} pages per CPU-second", figures["pages_per_cpu_s"]);
            cells.insert(format!("pages, {name}"), figures);
        }
        Ok(())
    }

    /// Makes the schedules, once.
    fn schedule(&self) -> io::Result<(Folder, Figures)> {
        let fresh = self.bench.fresh(&self.config)?;
        let Server { address, pid, .. } = fresh.server;
        let mut http = Http::open(address)?;
        let (before, start) = (process::memory(pid)?, Instant::now());
        let mut request = Vec::new();
        let data = "x".repeat(128);
        for first in (0..self.schedules).step_by(100) {
            let mut body = r#"{"messages":["#.to_owned();
            for at in first..(first + 100).min(self.schedules) {
                let comma = if at == first { "" } else { "," };
                let (day, hour) = (1 + at / 86_400, at / 3600 % 24);
                let (minute, second) = (at / 60 % 60, at % 60);
                let _ = write!(
                    body,
                    r#"{comma}{{"channel":"later.{}","event":"e","data":"{data}","scheduleExpression":"at(2037-01-{day:02}T{hour:02}:{minute:02}:{second:02})"}}"#,
                    at % 1000
                );
            }
            body.push_str("]}");
            request.clear();
            bearer(&mut request, "/publish/batch", body.as_bytes());
            let answer = http.ask(&request)?;
            if answer.contains("error") || !answer.contains("scheduleArn") {
                return Err(io::Error::other(answer));
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        let after = process::memory(pid)?;
        let each = |before: u64, after: u64| (after as f64 - before as f64) / self.schedules as f64;
        let figures = Figures::from([
            ("schedules_per_s".to_owned(), self.schedules as f64 / seconds),
            ("rss_bytes_per_schedule".to_owned(), each(before.rss, after.rss)),
            ("anonymous_bytes_per_schedule".to_owned(), each(before.anonymous, after.anonymous)),
        ]);
        eprintln!("  {} schedules in {seconds:.1} s", self.schedules);
        drop(fresh.server);
        Ok((fresh.folder, figures))
    }

    /// Servers that do nothing, one of which has much to do later.
    fn idle(&self, cells: &mut Cells) -> io::Result<()> {
        if self.scheduled.get().is_none() {
            let made = self.schedule()?;
            let _ = self.scheduled.set(made);
        }
        let Some((folder, made)) = self.scheduled.get() else { return Ok(()) };
        cells.insert("schedules, made".into(), made.clone());
        let empty = self.bench.empty_folder()?;
        let mut servers = Vec::new();
        for (name, folder) in [("none", &empty), ("pending", folder)] {
            let start = Instant::now();
            let server = self.bench.serve(folder, &self.config)?;
            let listening = start.elapsed().as_secs_f64() * 1e3;
            let cpu = settled(server.pid)?;
            servers.push((name, server, listening, start.elapsed(), cpu));
        }
        let before: Vec<_> =
            servers.iter().map(|it| process::by_thread(it.1.pid)).collect::<io::Result<_>>()?;
        std::thread::sleep(Duration::from_secs_f64(self.idle_seconds));
        for ((name, server, listening, rests, start_ms), before) in servers.iter().zip(before) {
            let used = process::by_thread(server.pid)?.since(before);
            let memory = process::memory(server.pid)?;
            let figures = Figures::from([
                ("idle_cpu_us_per_s".to_owned(), used.all_ns() as f64 / 1e3 / self.idle_seconds),
                (
                    "shards_idle_us_per_s".to_owned(),
                    used.shards_ns as f64 / 1e3 / self.idle_seconds,
                ),
                ("store_idle_us_per_s".to_owned(), used.store_ns as f64 / 1e3 / self.idle_seconds),
                ("rss_mib".to_owned(), memory.rss as f64 / 1048576.0),
                ("anonymous_mib".to_owned(), memory.anonymous as f64 / 1048576.0),
                ("listening_after_ms".to_owned(), *listening),
                ("resting_after_ms".to_owned(), rests.as_secs_f64() * 1e3),
                ("start_cpu_ms".to_owned(), *start_ms),
            ]);
            eprintln!("  {name}: {figures:?}");
            cells.insert(format!("schedules, {name}"), figures);
        }
        Ok(())
    }

    /// Some publish in turn, at a rate, and hear each other.
    fn latency(&self, cells: &mut Cells) -> io::Result<()> {
        let fresh = self.bench.fresh(&self.config)?;
        let address = fresh.server.address;
        let target = target(&self.hs256, &claims("connect", 0));
        let hears = || Some(subscribe());
        let ways = [
            ("store 0", hotsock(target.clone(), hears(), said("e"))),
            ("store 3600", hotsock(target.clone(), hears(), said("kept"))),
            ("Pusher client event", pusher(Some(CHANNEL), said("client-e"))),
            ("POST /publish, store 3600", hotsock(target, hears(), posted(3600))),
            ("Pusher POST, durable channel", pusher(Some(DURABLE), signed(DURABLE))),
        ];
        for (name, script) in ways {
            let mut load = self.load(address, script, 128)?;
            load.is_patient = true;
            load.open(SPEAKERS, SPEAKERS, SPEAKERS)?;
            let window = self.bench.window(&fresh.server, &mut load, Pace::Rate(self.rate))?;
            let mut figures = window.figures();
            quantiles(&mut figures, "each", &window.each);
            let delivered = window.counts.delivered as f64;
            figures.insert("delivered".into(), delivered);
            window.per(&mut figures, "delivered", delivered);
            eprintln!("  latency, {name}: p50 {:.0} us", figures["each_p50_us"]);
            cells.insert(format!("latency, {name}"), figures);
        }
        let folder = self.bench.empty_folder()?;
        let Bench { server_core, seconds, .. } = self.bench;
        let done = bare::syncs(folder.path(), server_core, Prepared::Written, 128, seconds)?;
        let mut figures = Figures::new();
        quantiles(&mut figures, "took", &done.took);
        cells.insert("latency, fdatasync".into(), figures);
        Ok(())
    }
}

/// Waits until a server has used next to nothing for a while.
fn quiet(pid: u32) -> io::Result<()> {
    let mut last = process::by_thread(pid)?;
    loop {
        std::thread::sleep(Duration::from_millis(100));
        let now = process::by_thread(pid)?;
        if now.since(last).all_ns() < 1_000_000 {
            return Ok(());
        }
        last = now;
    }
}

/// The same after a start; milliseconds of CPU until then.
fn settled(pid: u32) -> io::Result<f64> {
    quiet(pid)?;
    Ok(process::by_thread(pid)?.all_ns() as f64 / 1e6)
}

// What it is held against.

impl Plan {
    fn lines(&self, runs: &[Cells]) -> Vec<Line> {
        let mut lines = Vec::new();
        for part in &self.parts {
            match *part {
                "connect" => connects(&mut lines, runs),
                "subscribe" => subscribes(&mut lines, runs),
                "fanout" => self.deliveries(&mut lines, runs),
                "pages" => {
                    let (ours, theirs) = ("pages, listMessages", "pages, Pusher history");
                    let line = |figure| Line::new(ours, "/CPU-s", of(runs, ours, figure));
                    let beside = of(runs, theirs, "pages_per_cpu_s");
                    let line =
                        line("pages_per_cpu_s").beside("history of a durable channel", beside);
                    lines.push(line.target(Target::ValueMin(20_000.0)));
                }
                "schedules" => self.waits(&mut lines, runs),
                _ => latencies(&mut lines, runs),
            }
        }
        lines
    }

    fn deliveries(&self, lines: &mut Vec<Line>, runs: &[Cells]) {
        for size in &self.sizes {
            for (ours, theirs) in [
                ("Hotsock WebSocket", "Pusher client event"),
                ("Hotsock POST /publish", "Pusher POST /events"),
            ] {
                let cost =
                    |way| of(runs, &format!("fan-out, {size} B, {way}"), "cpu_us_per_delivered");
                let what = format!("{size} B to {}, {ours}", self.subscribers);
                let line = Line::new(what, "µs of CPU a delivery", cost(ours));
                lines.push(line.beside(theirs, cost(theirs)).target(Target::RatioMax(1.05)));
            }
        }
    }

    fn waits(&self, lines: &mut Vec<Line>, runs: &[Cells]) {
        for (figure, unit, target) in [
            ("idle_cpu_us_per_s", "µs of CPU a second", Target::RatioMax(1.05)),
            ("rss_mib", "MiB resident", Target::None),
            ("listening_after_ms", "ms until it listens", Target::None),
            ("resting_after_ms", "ms until it rests", Target::None),
            ("start_cpu_ms", "ms of CPU until it rests", Target::None),
        ] {
            let what = format!("{} schedules pending: {figure}", self.schedules);
            let line = Line::new(what, unit, of(runs, "schedules, pending", figure));
            lines.push(line.beside("none", of(runs, "schedules, none", figure)).target(target));
        }
    }
}

fn connects(lines: &mut Vec<Line>, runs: &[Cells]) {
    let per = |name: &str| of(runs, &format!("connect, {name}"), "connects_per_cpu_s");
    for name in ["HS256", "ES256"] {
        let line = Line::new(format!("connects with a token, {name}"), "/CPU-s", per(name));
        lines.push(line.beside("Pusher", per("Pusher")));
    }
}

fn subscribes(lines: &mut Vec<Line>, runs: &[Cells]) {
    let per = |name: &str| of(runs, &format!("subscribe, {name}"), "subscribes_per_cpu_s");
    for (ours, beside) in [
        ("256 patterns", "1 channel"),
        ("own token, 1 channel", "1 channel"),
        ("own token, 256 patterns", "own token, 1 channel"),
    ] {
        let line = Line::new(format!("subscribe and unsubscribe, {ours}"), "/CPU-s", per(ours));
        lines.push(line.beside(beside, per(beside)));
    }
}

fn latencies(lines: &mut Vec<Line>, runs: &[Cells]) {
    for part in ["p50", "p99"] {
        let each = |name: &str| of(runs, &format!("latency, {name}"), &format!("each_{part}_us"));
        let syncs = of(runs, "latency, fdatasync", &format!("took_{part}_us"));
        let line = |name: &str| {
            Line::new(format!("publish to delivery, {name}, {part}"), "µs", each(name))
        };
        lines.push(line("store 0").beside("Pusher client event", each("Pusher client event")));
        lines.push(line("store 3600").beside("store 0", each("store 0")));
        lines.push(line("store 3600").beside("fdatasync", syncs));
        let (ours, theirs) = ("POST /publish, store 3600", "Pusher POST, durable channel");
        lines.push(line(ours).beside(theirs, each(theirs)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_json_with_so_many_channels() {
        let claims: serde_json::Value = serde_json::from_str(&claims("connect", 253)).unwrap();
        assert_eq!(claims["channels"].as_object().map(serde_json::Map::len), Some(254));
        assert_eq!(claims["channels"][CHANNEL]["historyStart"], 0);
    }

    #[test]
    fn members_are_found() {
        let greeting = r#"{"event":"hotsock.connected","data":{"connectionId":"q3X=","x":1}}"#;
        assert_eq!(member(greeting, "connectionId").unwrap(), "q3X=");
        assert!(member(greeting, "secret").is_err());
    }
}
