//! Mastodon streaming: beside Pusher in the same server, and as the follower of a Redis and a PostgreSQL beside the
//! server that Mastodon has for it, if that is at hand.
//!
//! Servers take turns within a round, each started afresh for each part. What is published through Redis is published to
//! the channels that Mastodon's own processes publish to.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddrV4;
use std::time::Duration;

use crate::args::Args;
use crate::ask::Http;
use crate::backing::{Backing, KEYWORDS};
use crate::bench::Bench;
use crate::lines::{self, Cells, Figures, Line, Target, of, quantiles};
use crate::load::{
    First, Load, Pace, Publishing, Script, Shape, Spelling, Targets, Transport, everyone,
};
use crate::process::{self, Server};
use crate::publish::{self, Credentials, Marked, Signer};
use crate::redis::Redis;
use crate::report::without_folders;

/// What `ringmain-perf mastodon` is for.
pub const WHAT: &str = "Mastodon streaming beside Pusher and beside Mastodon's own server: fan-out, filters, connects, memory";

const PARTS: &[&str] = &["lanes", "user", "public", "connect", "idle"];

const OURS: &str = "ringmain";
const THEIRS: &str = "upstream";
const WEBSOCKET: &str = "WebSocket";
const STREAM: &str = "event stream";
/// The app of the server that follows nobody, and its Pusher channel.
const CHANNEL: &str = "perf-00000";
const PUSHER: &str = "/app/app-key?protocol=7&client=perf&version=1.0";
/// Nanoseconds after which whoever waited has answered what it was asked.
const LINGER_NS: u64 = 1_000_000;
/// A server that uses less than this of a core for [`QUIET`] is at rest.
const QUIET_NS: u64 = 2_000_000;
const QUIET: Duration = Duration::from_millis(200);

struct Plan {
    bench: Bench,
    parts: Vec<&'static str>,
    /// The command of the other server.
    upstream: Option<String>,
    only_upstream: bool,
    /// The command of the least server: one `send(2)` each.
    floor: Option<String>,
    subscribers: Vec<usize>,
    accounts: usize,
    connections: usize,
    idle: usize,
    size: usize,
    rate: f64,
}

/// Runs the parts: rounds, table, files.
pub fn run(args: &Args, words: &[String]) -> Result<(), String> {
    let rounds: usize = args.value("rounds", 5)?;
    let out = args.text("out").unwrap_or_else(|| "perf/results".into());
    let name = args.text("name").unwrap_or_else(|| "mastodon".into());
    let plan = Plan::read(args)?;
    args.finish()?;
    let command = format!("ringmain-perf mastodon {}", without_folders(&words.join(" ")));
    let lines = |runs: &[Cells]| plan.lines(runs);
    lines::measure((&name, &command, &out), (&plan.bench.machine, rounds), || plan.round(), lines)
}

fn credentials() -> Credentials {
    Credentials { app: "app-id".into(), key: "app-key".into(), secret: "app-secret".into() }
}

/// One who is measured with a database behind it.
#[derive(Clone, Copy)]
struct Contender<'a> {
    name: &'static str,
    command: &'a str,
}

impl Plan {
    fn read(args: &Args) -> Result<Self, String> {
        let wanted = args.text("parts").unwrap_or_else(|| PARTS.join(","));
        let known = |name: &str| {
            let found = PARTS.iter().find(|it| **it == name).copied();
            found.ok_or_else(|| format!("--parts: want some of {}", PARTS.join(",")))
        };
        let subscribers = args.text("subscribers").unwrap_or_else(|| "1000,4000".into());
        let count =
            |text: &str| text.parse().map_err(|_| format!("--subscribers: cannot read {text:?}"));
        Ok(Self {
            parts: wanted.split(',').map(known).collect::<Result<_, _>>()?,
            upstream: args.text("upstream"),
            only_upstream: args.text("only-upstream").is_some(),
            floor: args.text("floor"),
            subscribers: subscribers.split(',').map(count).collect::<Result<_, _>>()?,
            accounts: args.value("accounts", 1000)?,
            connections: args.value("connections", 2000)?,
            idle: args.value("idle", 8000)?,
            size: args.value("size", 2800)?,
            rate: args.value("rate", 0.0)?,
            bench: Bench::read(args, "perf/target/mastodon", 0.5)?,
        })
    }

    fn round(&self) -> io::Result<Cells> {
        let mut cells = Cells::new();
        for part in &self.parts {
            match *part {
                "lanes" => self.lanes(&mut cells)?,
                "user" => self.user(&mut cells)?,
                "public" => self.public(&mut cells)?,
                "connect" => self.connect(&mut cells)?,
                _ => self.idle(&mut cells)?,
            }
        }
        Ok(cells)
    }

    fn pace(&self) -> Pace {
        if self.rate > 0.0 { Pace::Rate(self.rate) } else { Pace::InFlight }
    }

    fn backing(&self) -> io::Result<Backing> {
        let most =
            self.subscribers.iter().copied().chain([self.accounts, self.connections, self.idle]);
        Backing::start(most.max().unwrap_or(1))
    }

    fn contenders(&self) -> Vec<Contender<'_>> {
        let ours = Contender { name: OURS, command: &self.bench.ringmain };
        let theirs = self.upstream.as_deref().map(|command| Contender { name: THEIRS, command });
        Some(ours).filter(|_| !self.only_upstream).into_iter().chain(theirs).collect()
    }

    /// Starts a server that follows, as an administrator would.
    fn follow(&self, who: Contender<'_>, backing: &Backing) -> io::Result<Server> {
        let Bench { server_core, nice, .. } = self.bench;
        let mut command = who.command.to_owned();
        if who.name == OURS {
            command.push_str(" mastodon --shards 1");
        }
        Server::start_with(&command, &backing.environment(), server_core, nice)
    }

    fn load(&self, to: SocketAddrV4, script: Script) -> io::Result<Load> {
        let mut load = Load::new(to, &credentials(), Shape::Fanout, self.size)?;
        load.script = Some(script);
        Ok(load)
    }
}

// What peers ask for, and what they get.

/// Where a stream is asked for.
fn target(transport: Transport, stream: &str, token: &str) -> String {
    match transport {
        Transport::WebSocket => format!("/api/v1/streaming?stream={stream}&access_token={token}"),
        Transport::EventStream => format!("/api/v1/streaming/{stream}?access_token={token}"),
    }
}

/// The same for an account each: connection n is account n + 1, or all are account 1.
fn targets(transport: Transport, stream: &'static str, is_each: bool) -> Targets {
    if is_each {
        Box::new(move |at| target(transport, stream, &format!("token-{}", at + 1)))
    } else {
        everyone(target(transport, stream, "token-1"))
    }
}

/// Appends a string's inside.
fn escape(out: &mut Vec<u8>, text: &[u8]) {
    for byte in text {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(*byte);
    }
}

/// Appends a status of about `size` bytes by an author, with the members that Mastodon gives one. The mark is where its
/// words begin.
fn status(out: &mut Vec<u8>, author: u64, marked: Marked, size: usize) {
    const AT: &str = "2026-11-27T08:00:00.000Z";
    const WORDS: &str = "<p>A railway that ends where it began: the ring main of <a href=\\\"https://town.example/tags/water\\\" class=\\\"mention hashtag\\\" rel=\\\"tag\\\">#<span>water</span></a> &amp; wire,<br />under every street of a town. </p>";
    let start = out.len();
    let id = 115_000_000_000_000_000 + marked.sequence;
    let _ = write!(
        Text(out),
        r#"{{"id":"{id}","created_at":"{AT}","in_reply_to_id":null,"in_reply_to_account_id":null,"sensitive":false,"spoiler_text":"","visibility":"public","language":"en","uri":"https://town.example/users/perf{author:09}/statuses/{id}","url":"https://town.example/@perf{author:09}/{id}","replies_count":0,"reblogs_count":0,"favourites_count":0,"quotes_count":0,"edited_at":null,"content":"<p>"#
    );
    marked.write(out);
    let mut tail = String::new();
    let _ = write!(
        tail,
        r#"</p>","quote_approval":{{"automatic":["public"],"manual":[],"current_user":"automatic"}},"reblog":null,"application":{{"name":"Web","website":null}},"account":{{"id":"{author:09}","username":"perf{author:09}","acct":"perf{author:09}@town.example","display_name":"Perf","locked":false,"bot":false,"discoverable":true,"indexable":true,"group":false,"created_at":"{AT}","note":"<p>Says the same all day.</p>","url":"https://town.example/@perf{author:09}","uri":"https://town.example/users/perf{author:09}","avatar":"https://files.town.example/accounts/avatars/115/original/3d1c.png","avatar_static":"https://files.town.example/accounts/avatars/115/original/3d1c.png","header":"https://files.town.example/accounts/headers/115/original/77ab.png","header_static":"https://files.town.example/accounts/headers/115/original/77ab.png","followers_count":12,"following_count":34,"statuses_count":567,"last_status_at":"2026-11-27","hide_collections":null,"emojis":[],"roles":[],"fields":[{{"name":"Home","value":"<a href=\"https://town.example\">town.example</a>","verified_at":null}}]}},"media_attachments":[],"mentions":[{{"id":"800000001","username":"neighbour","url":"https://town.example/@neighbour","acct":"neighbour@town.example"}}],"tags":[{{"name":"water","url":"https://town.example/tags/water"}}],"emojis":[],"card":null,"poll":null}}"#
    );
    let room = (start + size).saturating_sub(out.len() + tail.len());
    for _ in 0..room / WORDS.len() {
        out.extend_from_slice(WORDS.as_bytes());
    }
    out.resize(out.len() + room % WORDS.len(), b'x');
    out.extend_from_slice(tail.as_bytes());
}

/// Lets bytes be written to as text.
struct Text<'a>(&'a mut Vec<u8>);

impl std::fmt::Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// What Mastodon's processes publish. Every status has an author of its own, so that nothing that is known of one helps
/// with the next.
fn envelope() -> Spelling {
    Box::new(|out, marked, size| {
        out.extend_from_slice(br#"{"event":"update","payload":"#);
        status(out, 700_000_000 + marked.sequence, marked, size);
        out.push(b'}');
    })
}

/// A publish through Redis.
fn published(backing: &Backing, channel: &str) -> Publishing {
    let (to, channel) = (backing.redis_at, channel.to_owned());
    Publishing::Redis { to, channel, spell: envelope() }
}

/// Deletes something that nobody has: passes every filter.
fn called(backing: &Backing, channel: &'static str) -> io::Result<First> {
    let mut redis = Redis::open(backing.redis_at)?;
    Ok(First::Event(Box::new(move || {
        let message = br#"{"event":"delete","payload":"1"}"#;
        redis.ask(&[b"PUBLISH", channel.as_bytes(), message]).map(drop)
    })))
}

/// A publish through the API of a server that follows nobody.
fn posted() -> Publishing {
    let signer = Signer::new(credentials());
    Publishing::Request(Box::new(move |out: &mut Vec<u8>, marked: Marked, size| {
        let mut body = br#"{"channels":["timeline:1"],"event":"update","payload":"#.to_vec();
        status(&mut body, 1, marked, size);
        body.push(b'}');
        signer.request(out, "mastodon/events", &body);
    }))
}

/// The same status through Pusher's.
fn signed() -> Publishing {
    let signer = Signer::new(credentials());
    Publishing::Request(Box::new(move |out: &mut Vec<u8>, marked: Marked, size| {
        let (mut body, mut text) = (Vec::with_capacity(2 * size), Vec::with_capacity(size));
        status(&mut text, 1, marked, size);
        body.extend_from_slice(
            format!(r#"{{"name":"update","channel":"{CHANNEL}","data":""#).as_bytes(),
        );
        escape(&mut body, &text);
        body.extend_from_slice(br#""}"#);
        signer.request(out, "events", &body);
    }))
}

fn pusher() -> Script {
    let subscribe = format!(r#"{{"event":"pusher:subscribe","data":{{"channel":"{CHANNEL}"}}}}"#);
    Script {
        target: everyone(PUSHER),
        transport: Transport::WebSocket,
        first: First::Greeting {
            greeting: "connection_established",
            greeted: Box::new(move |_| vec![subscribe.clone()]),
            answer: "subscription_succeeded",
        },
        publish: signed(),
    }
}

const CONFIG: &str = r#"
[[apps]]
id = "app-id"
key = "app-key"
secret = "app-secret"

[mastodon]
app = "app-id"

[[mastodon.tokens]]
token = "token-1"
user = "1"
permissions = ["read"]
"#;

// The parts.

impl Plan {
    /// Subscribers of three lanes in one server that follows nobody.
    fn lanes(&self, cells: &mut Cells) -> io::Result<()> {
        if self.only_upstream {
            return Ok(());
        }
        let fresh = self.bench.fresh(CONFIG)?;
        let address = fresh.server.address;
        for &subscribers in &self.subscribers {
            let mut loads = Vec::new();
            for transport in [None, Some(Transport::WebSocket), Some(Transport::EventStream)] {
                let script = match transport {
                    None => pusher(),
                    Some(transport) => Script {
                        target: targets(transport, "user", false),
                        transport,
                        first: self.told(address)?,
                        publish: posted(),
                    },
                };
                loads.push(Some(self.load(address, script)?));
            }
            let names = ["Pusher", WEBSOCKET, STREAM];
            let mut sums = [(0u64, 0u64, 0u64); 3];
            // Both of Mastodon's would hear what is published to the other: each is there alone.
            for at in [0, 1, 2, 2, 1, 0] {
                let load = loads[at].take();
                let mut load = load.ok_or_else(|| io::Error::other("one at a time"))?;
                load.open(subscribers, 64, 1)?;
                load.linger(LINGER_NS)?;
                let window = self.bench.window(&fresh.server, &mut load, Pace::InFlight)?;
                sums[at].0 += window.cpu.all_ns();
                sums[at].1 += window.counts.delivered;
                sums[at].2 += window.counts.bytes;
                let script = load.script.take();
                drop(load);
                rest(fresh.server.pid)?;
                loads[at] = script.map(|script| self.load(address, script)).transpose()?;
            }
            for (name, (ns, delivered, bytes)) in names.into_iter().zip(sums) {
                let figures = Figures::from([
                    ("cpu_us_per_delivered".to_owned(), ns as f64 / 1e3 / delivered as f64),
                    ("bytes_per_delivered".to_owned(), bytes as f64 / delivered as f64),
                    ("delivered".to_owned(), delivered as f64),
                ]);
                eprintln!("  lanes, {subscribers}, {name}: {figures:?}");
                cells.insert(format!("lanes, {subscribers}, {name}"), figures);
            }
            self.least(cells, subscribers)?;
        }
        Ok(())
    }

    /// The same number of bytes by the least server, which renders and escapes nothing.
    fn least(&self, cells: &mut Cells, subscribers: usize) -> io::Result<()> {
        let Some(command) = &self.floor else { return Ok(()) };
        let server = Server::start(command, self.bench.server_core, self.bench.nice)?;
        let signer = Signer::new(credentials());
        let plain: Spelling = Box::new(move |out, marked, size| {
            let mut body = Vec::with_capacity(size + 128);
            // About as long as what is escaped.
            publish::event(&mut body, CHANNEL, marked, size + size / 10);
            signer.request(out, "events", &body);
        });
        let script = Script { publish: Publishing::Request(plain), ..pusher() };
        let mut load = self.load(server.address, script)?;
        load.open(subscribers, 64, 1)?;
        let (warm, end) = (self.bench.warmup, self.bench.warmup + self.bench.seconds);
        let (start, mut before) = (std::time::Instant::now(), None);
        load.run(Pace::InFlight, |load, _| {
            let at = start.elapsed().as_secs_f64();
            if before.is_none() && at >= warm {
                load.reset_counts();
                before = process::by_thread(server.pid).ok();
            }
            at >= end
        })?;
        let used = process::by_thread(server.pid)?.since(before.unwrap_or_default()).all_ns();
        let delivered = load.counts.delivered as f64;
        let figures = Figures::from([
            ("cpu_us_per_delivered".to_owned(), used as f64 / 1e3 / delivered),
            ("bytes_per_delivered".to_owned(), load.counts.bytes as f64 / delivered),
        ]);
        eprintln!("  lanes, {subscribers}, floor: {figures:?}");
        cells.insert(format!("lanes, {subscribers}, floor"), figures);
        Ok(())
    }

    /// What reaches those who wait for a first event, through the API.
    fn told(&self, address: SocketAddrV4) -> io::Result<First> {
        let (mut http, signer) = (Http::open(address)?, Signer::new(credentials()));
        Ok(First::Event(Box::new(move || {
            let body = br#"{"channels":["timeline:1"],"event":"delete","payload":"1"}"#;
            let mut request = Vec::new();
            signer.request(&mut request, "mastodon/events", body);
            http.ask(&request).map(drop)
        })))
    }

    /// One account's own stream, through Redis.
    fn user(&self, cells: &mut Cells) -> io::Result<()> {
        for &subscribers in &self.subscribers {
            for transport in [Transport::WebSocket, Transport::EventStream] {
                let (stream, channel) = ("user", "timeline:1");
                let way = format!("user, {subscribers}, {}", named(transport));
                self.through(cells, &way, (transport, stream, channel, false), subscribers)?;
            }
        }
        Ok(())
    }

    /// The stream of all that is public, to an account each.
    fn public(&self, cells: &mut Cells) -> io::Result<()> {
        for transport in [Transport::WebSocket, Transport::EventStream] {
            let (stream, channel) = ("public", "timeline:public");
            let way = format!("public, {}, {}", self.accounts, named(transport));
            self.through(cells, &way, (transport, stream, channel, true), self.accounts)?;
        }
        Ok(())
    }

    fn through(
        &self,
        cells: &mut Cells,
        way: &str,
        (transport, stream, channel, is_each): (Transport, &'static str, &'static str, bool),
        subscribers: usize,
    ) -> io::Result<()> {
        let backing = self.backing()?;
        for who in self.contenders() {
            let server = self.follow(who, &backing)?;
            let script = Script {
                target: targets(transport, stream, is_each),
                transport,
                first: called(&backing, channel)?,
                publish: published(&backing, channel),
            };
            let mut load = self.load(server.address, script)?;
            // Redis and the database are on the generator's core.
            load.is_patient = true;
            load.open(subscribers, 64, 1)?;
            load.linger(LINGER_NS)?;
            let database = backing.database_ns();
            let window = self.bench.window(&server, &mut load, self.pace())?;
            let database = backing.database_ns().saturating_sub(database);
            let mut figures = window.figures();
            quantiles(&mut figures, "last", &window.last);
            let delivered = window.counts.delivered as f64;
            figures.insert("delivered".into(), delivered);
            figures.insert("bytes_per_delivered".into(), window.counts.bytes as f64 / delivered);
            window.per(&mut figures, "delivered", delivered);
            // That of the warm-up is in it.
            let all = delivered * (1.0 + self.bench.warmup / window.seconds);
            figures.insert("database_us_per_delivered".into(), database as f64 / 1e3 / all);
            eprintln!("  {way}, {}: {:.2} us", who.name, figures["all_us_per_delivered"]);
            cells.insert(format!("{way}, {}", who.name), figures);
        }
        Ok(())
    }

    /// Storms of connects, by an account each.
    fn connect(&self, cells: &mut Cells) -> io::Result<()> {
        let backing = self.backing()?;
        for transport in [Transport::WebSocket, Transport::EventStream] {
            for who in self.contenders() {
                let server = self.follow(who, &backing)?;
                let mut sum = (0u64, 0u64);
                let (mut rate, mut figures) = (0.0, Figures::new());
                // The first time is for the server to find its memory.
                for turn in 0..3 {
                    let script = Script {
                        target: targets(transport, "user", true),
                        transport,
                        first: First::Head,
                        publish: Publishing::Request(Box::new(|_, _, _| {})),
                    };
                    let mut load = self.load(server.address, script)?;
                    load.is_patient = true;
                    let before = process::by_thread(server.pid)?;
                    let start = std::time::Instant::now();
                    load.open(self.connections, 64, 0)?;
                    let took = start.elapsed().as_secs_f64();
                    rest(server.pid)?;
                    if turn > 0 {
                        sum.0 += process::by_thread(server.pid)?.since(before).all_ns();
                        sum.1 += self.connections as u64;
                        rate = self.connections as f64 / took;
                        quantiles(&mut figures, "handshake", &load.handshake);
                    }
                    drop(load);
                    rest(server.pid)?;
                }
                figures.insert("cpu_us_per_connect".into(), sum.0 as f64 / 1e3 / sum.1 as f64);
                figures.insert("connects_per_s".into(), rate);
                let way = format!("connect, {}, {}", named(transport), who.name);
                eprintln!("  {way}: {figures:?}");
                cells.insert(way, figures);
            }
        }
        Ok(())
    }

    /// Connections that say nothing: of one account, and of an account each.
    fn idle(&self, cells: &mut Cells) -> io::Result<()> {
        let backing = self.backing()?;
        for transport in [Transport::WebSocket, Transport::EventStream] {
            for is_each in [false, true] {
                for who in self.contenders() {
                    let server = self.follow(who, &backing)?;
                    let script = Script {
                        target: targets(transport, "user", is_each),
                        transport,
                        first: First::Head,
                        publish: Publishing::Request(Box::new(|_, _, _| {})),
                    };
                    let mut load = self.load(server.address, script)?;
                    load.is_patient = true;
                    rest(server.pid)?;
                    let before = process::memory(server.pid)?;
                    load.open(self.idle, 64, 0)?;
                    rest(server.pid)?;
                    let after = process::memory(server.pid)?;
                    let each = |before: u64, after: u64| {
                        after.saturating_sub(before) as f64 / self.idle as f64
                    };
                    let start = process::by_thread(server.pid)?;
                    load.linger((self.bench.seconds * 1e9) as u64)?;
                    let used = process::by_thread(server.pid)?.since(start).all_ns();
                    let figures = Figures::from([
                        ("rss_bytes_per_connection".to_owned(), each(before.rss, after.rss)),
                        (
                            "anonymous_bytes_per_connection".to_owned(),
                            each(before.anonymous, after.anonymous),
                        ),
                        (
                            "idle_cpu_us_per_s".to_owned(),
                            used as f64 / 1e3 / self.bench.seconds.max(1e-3),
                        ),
                        ("rss_mib_before".to_owned(), before.rss as f64 / 1048576.0),
                    ]);
                    let whose = if is_each { "an account each" } else { "one account" };
                    let way = format!("idle, {}, {whose}, {}", named(transport), who.name);
                    eprintln!("  {way}: {figures:?}");
                    cells.insert(way, figures);
                }
            }
        }
        Ok(())
    }
}

fn named(transport: Transport) -> &'static str {
    match transport {
        Transport::WebSocket => WEBSOCKET,
        Transport::EventStream => STREAM,
    }
}

/// Waits until a server uses next to nothing.
fn rest(pid: u32) -> io::Result<()> {
    let mut last = process::by_thread(pid)?;
    loop {
        std::thread::sleep(QUIET);
        let now = process::by_thread(pid)?;
        if now.since(last).all_ns() < QUIET_NS {
            return Ok(());
        }
        last = now;
    }
}

// What it is held against.

impl Plan {
    fn lines(&self, runs: &[Cells]) -> Vec<Line> {
        let mut lines = Vec::new();
        for part in &self.parts {
            match *part {
                "lanes" => {
                    for subscribers in &self.subscribers {
                        for lane in [WEBSOCKET, STREAM] {
                            let cost = |lane: &str| {
                                let cell = format!("lanes, {subscribers}, {lane}");
                                of(runs, &cell, "cpu_us_per_delivered")
                            };
                            let what = format!(
                                "status of {} B to {subscribers}, {lane}, published by request",
                                self.size
                            );
                            let line = Line::new(what, "µs of CPU a delivery", cost(lane));
                            let line = line.beside("Pusher", cost("Pusher"));
                            lines.push(line.target(Target::RatioMax(1.3)));
                            if self.floor.is_some() {
                                let what = format!("status to {subscribers}, {lane}");
                                let line = Line::new(what, "µs of CPU a delivery", cost(lane));
                                lines.push(line.beside("floor", cost("floor")));
                            }
                        }
                    }
                }
                "user" => {
                    for subscribers in &self.subscribers {
                        for lane in [WEBSOCKET, STREAM] {
                            let way = format!("user, {subscribers}, {lane}");
                            let what = format!("own stream of {subscribers}, {lane}, by Redis");
                            let unit = "µs of CPU a delivery";
                            let line = self.beside(runs, &way, what, unit, "all_us_per_delivered");
                            lines.push(line.target(Target::ValueMax(5.0)));
                        }
                    }
                }
                "public" => {
                    for lane in [WEBSOCKET, STREAM] {
                        let way = format!("public, {}, {lane}", self.accounts);
                        let what = format!(
                            "public stream of {} with {KEYWORDS} keywords each, {lane}",
                            self.accounts
                        );
                        let unit = "µs of CPU a delivery";
                        let line = self.beside(runs, &way, what, unit, "all_us_per_delivered");
                        lines.push(line.target(Target::ValueMax(10.0)));
                    }
                }
                "connect" => {
                    for lane in [WEBSOCKET, STREAM] {
                        let what = format!("connects, {lane}");
                        let way = format!("connect, {lane}");
                        let unit = "µs of CPU each";
                        lines.push(self.beside(runs, &way, what, unit, "cpu_us_per_connect"));
                    }
                }
                _ => {
                    for lane in [WEBSOCKET, STREAM] {
                        for whose in ["one account", "an account each"] {
                            let what = format!("{} idle, {lane}, {whose}", self.idle);
                            let way = format!("idle, {lane}, {whose}");
                            let figure = "anonymous_bytes_per_connection";
                            let line = self.beside(runs, &way, what, "B each", figure);
                            lines.push(line.target(Target::ValueMax(2048.0)));
                        }
                    }
                }
            }
        }
        lines
    }

    /// A figure of a way, beside that of the other server if there is one.
    fn beside(
        &self,
        runs: &[Cells],
        way: &str,
        what: String,
        unit: &'static str,
        figure: &str,
    ) -> Line {
        let value = |name: &str| of(runs, &format!("{way}, {name}"), figure);
        let line = Line::new(what, unit, value(OURS));
        if self.upstream.is_some() { line.beside(THEIRS, value(THEIRS)) } else { line }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::{MARK, MARKED_BYTES};
    use crate::wire;

    #[test]
    fn a_status_has_its_size_and_its_mark() {
        let marked = Marked { sequence: 7, stream: 0, slot: 1, sent_ns: 9 };
        for size in [0, 2800, 10_000] {
            let mut out = Vec::new();
            status(&mut out, 5, marked, size);
            let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
            assert_eq!(value["account"]["acct"], "perf000000005@town.example");
            assert!(size == 0 || out.len() == size, "{}", out.len());
            let at = wire::find(&out, MARK).unwrap();
            let bytes: &[u8; MARKED_BYTES] = out[at..at + MARKED_BYTES].try_into().unwrap();
            assert_eq!(Marked::read(bytes), marked);
        }
    }

    #[test]
    fn the_same_status_goes_through_pusher() {
        let marked = Marked { sequence: 7, stream: 0, slot: 1, sent_ns: 9 };
        let mut text = Vec::new();
        status(&mut text, 1, marked, 2800);
        let mut escaped = vec![b'"'];
        escape(&mut escaped, &text);
        escaped.push(b'"');
        let back: String = serde_json::from_slice(&escaped).unwrap();
        assert_eq!(back.as_bytes(), text);
    }
}
