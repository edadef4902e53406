//! Protocol 2 beside protocol 7, and what only protocol 2 has: filters, deltas, versions, annotations.
//!
//! Every part starts a server of its own in each round. What is compared runs there and back again (a, b, b, a), so that
//! what drifts within a round falls on both.

use std::cell::Cell;
use std::fmt::Write as _;
use std::io;
use std::net::SocketAddrV4;
use std::rc::Rc;

use crate::args::Args;
use crate::ask::{Http, Socket};
use crate::bench::{Bench, Fresh};
use crate::lines::{self, Cells, Figures, Line, Target, of};
use crate::load::{First, Load, Pace, Publishing, Script, Shape, Transport, everyone};
use crate::process;
use crate::publish::{self, Credentials, Marked, Signer};
use crate::report::without_folders;

/// What `ringmain-perf sockudo` is for.
pub const WHAT: &str =
    "protocol 2 beside 7: fan-out, filters, deltas, versions, annotations, publishes nobody hears";

const PARTS: &[&str] = &["fanout", "filters", "deltas", "versions", "annotations", "publishes"];

const SEVEN: &str = "/app/app-key?protocol=7&client=perf&version=1.0";
const TWO: &str = "/app/app-key?protocol=2&client=perf&version=1.0";
/// Publishers that each wait for an answer.
const PUBLISHERS: usize = 64;
/// Clients that annotate in turn.
const CLIENTS: u64 = 500;

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

struct Plan {
    bench: Bench,
    parts: Vec<&'static str>,
    subscribers: usize,
    filters: usize,
    sizes: Vec<usize>,
    ticks: usize,
}

/// Runs the parts: rounds, table, files.
pub fn run(args: &Args, words: &[String]) -> Result<(), String> {
    let rounds: usize = args.value("rounds", 5)?;
    let out = args.text("out").unwrap_or_else(|| "perf/results".into());
    let name = args.text("name").unwrap_or_else(|| "sockudo".into());
    let plan = Plan::read(args)?;
    args.finish()?;
    let command = format!("ringmain-perf sockudo {}", without_folders(&words.join(" ")));
    let lines = |runs: &[Cells]| plan.lines(runs);
    lines::measure((&name, &command, &out), (&plan.bench.machine, rounds), || plan.round(), lines)
}

fn credentials() -> Credentials {
    Credentials { app: "app-id".into(), key: "app-key".into(), secret: "app-secret".into() }
}

/// A kind of filter, the channel of those who have one, and the n-th of them.
type Kind = (&'static str, &'static str, fn(usize) -> String);

/// A peer that subscribes to a channel.
fn peer(target: &str, channel: &'static str, publish: Publishing) -> Script {
    let subscribe = format!(r#"{{"event":"pusher:subscribe","data":{{"channel":"{channel}"}}}}"#);
    Script {
        target: everyone(target),
        transport: Transport::WebSocket,
        first: First::Greeting {
            greeting: "connection_established",
            greeted: Box::new(move |_| vec![subscribe.clone()]),
            answer: "subscription_succeeded",
        },
        publish,
    }
}

/// A back end's publish.
fn signed(channel: &'static str) -> Publishing {
    let signer = Signer::new(credentials());
    Publishing::Request(Box::new(move |out: &mut Vec<u8>, marked: Marked, size| {
        let mut body = Vec::with_capacity(size + 128);
        publish::event(&mut body, channel, marked, size);
        signer.request(out, "events", &body);
    }))
}

/// A request whose body is made anew each time.
fn posted(path: String, body: impl Fn(u64) -> String + 'static) -> Publishing {
    let (signer, count) = (Signer::new(credentials()), Cell::new(0));
    Publishing::Request(Box::new(move |out: &mut Vec<u8>, _, _| {
        let nth = count.get();
        count.set(nth + 1);
        signer.request(out, &path, body(nth).as_bytes());
    }))
}

fn ask(http: &mut Http, path: &str, body: &str) -> io::Result<String> {
    let mut request = Vec::new();
    Signer::new(credentials()).request(&mut request, path, body.as_bytes());
    http.ask(&request)
}

/// Publishes a message, and gives its name for good.
fn message(http: &mut Http, channel: &str) -> io::Result<String> {
    let body = format!(r#"{{"name":"e","channel":"{channel}","data":"x","message_id":"perf"}}"#);
    let answer = ask(http, "events", &body)?;
    let serial = answer.split(r#""message_serial":""#).nth(1).and_then(|it| it.split('"').next());
    serial
        .map(str::to_owned)
        .ok_or_else(|| io::Error::other(format!("no message_serial: {answer}")))
}

/// The last number behind a member's name in flat text.
fn number(text: &str, name: &str) -> Option<u64> {
    let rest = text.rsplit_once(&format!("\"{name}\":"))?.1;
    let end = rest.find(|it: char| !it.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().ok()
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
        Ok(Self {
            parts: wanted.split(',').map(known).collect::<Result<_, _>>()?,
            subscribers: args.value("subscribers", 1000)?,
            filters: args.value("filters", 1000)?,
            sizes: sizes.split(',').map(size).collect::<Result<_, _>>()?,
            ticks: args.value("ticks", 300)?,
            bench: Bench::read(args, "perf/target/sockudo", 0.3)?,
        })
    }

    fn round(&self) -> io::Result<Cells> {
        let mut cells = Cells::new();
        for part in &self.parts {
            let fresh = self.bench.fresh(CONFIG)?;
            match *part {
                "fanout" => self.fanout(&fresh, &mut cells)?,
                "filters" => self.filtered(&fresh, &mut cells)?,
                "deltas" => self.deltas(&fresh, &mut cells)?,
                "versions" => self.versions(&fresh, &mut cells)?,
                "annotations" => self.annotations(&fresh, &mut cells)?,
                _ => self.publishes(&fresh, &mut cells)?,
            }
        }
        Ok(cells)
    }

    fn load(&self, to: SocketAddrV4, script: Script, size: usize) -> io::Result<Load> {
        let mut load = Load::new(to, &credentials(), Shape::Fanout, size)?;
        load.script = Some(script);
        Ok(load)
    }

    /// Subscribers of both versions in one server, each of a channel of their own: without history, and with.
    fn fanout(&self, fresh: &Fresh, cells: &mut Cells) -> io::Result<()> {
        let address = fresh.server.address;
        for &size in &self.sizes {
            let ways = [
                ("7", SEVEN, "plain-7"),
                ("2", TWO, "plain-2"),
                ("7, history", SEVEN, "memory-7"),
                ("2, history", TWO, "memory-2"),
            ];
            let mut loads = Vec::new();
            for (_, target, channel) in ways {
                let mut load = self.load(address, peer(target, channel, signed(channel)), size)?;
                load.open(self.subscribers, 64, 1)?;
                loads.push(load);
            }
            let mut sums = [(0u64, 0u64, 0.0); 4];
            for at in [0, 1, 2, 3, 3, 2, 1, 0] {
                for load in &mut loads {
                    // Whoever waited meanwhile answers what it was asked.
                    load.linger(1_000_000)?;
                }
                let window = self.bench.window(&fresh.server, &mut loads[at], Pace::InFlight)?;
                sums[at].0 += window.cpu.all_ns();
                sums[at].1 += window.counts.delivered;
                sums[at].2 += window.counts.bytes as f64;
            }
            for ((name, ..), (ns, delivered, bytes)) in ways.into_iter().zip(sums) {
                let figures = Figures::from([
                    ("cpu_us_per_delivered".to_owned(), ns as f64 / 1e3 / delivered as f64),
                    ("bytes_per_delivered".to_owned(), bytes / delivered as f64),
                ]);
                eprintln!("  version {name}, {size} B: {:.3} us", figures["cpu_us_per_delivered"]);
                cells.insert(format!("fan-out, {size} B, {name}"), figures);
            }
        }
        Ok(())
    }

    /// Publishes into channels of subscribers whose filters do not match, and into one that nobody hears.
    fn filtered(&self, fresh: &Fresh, cells: &mut Cells) -> io::Result<()> {
        let address = fresh.server.address;
        let kinds: [Kind; 3] = [
            ("equal", "f-equal", |at| format!(r#"{{"key":"n","cmp":"eq","val":"{at}"}}"#)),
            ("greater", "f-greater", |at| format!(r#"{{"key":"n","cmp":"gt","val":"{at}"}}"#)),
            ("all of two", "f-both", |at| {
                format!(
                    r#"{{"op":"and","nodes":[{{"key":"n","cmp":"eq","val":"{at}"}},{{"key":"m","cmp":"ex"}}]}}"#
                )
            }),
        ];
        let mut sockets = Vec::new();
        for (_, channel, filter) in kinds {
            for at in 0..self.filters {
                let (mut socket, _) = Socket::open(address, TWO)?;
                socket.say(&[format!(
                    r#"{{"event":"sockudo:subscribe","data":{{"channel":"{channel}","filter":{}}}}}"#,
                    filter(at)
                )])?;
                let heard = socket.hear()?;
                if !heard.contains("subscription_succeeded") {
                    return Err(io::Error::other(heard));
                }
                sockets.push(socket);
            }
        }
        let channels = ["f-nobody", kinds[0].1, kinds[1].1, kinds[2].1];
        let names = ["none", kinds[0].0, kinds[1].0, kinds[2].0];
        let mut sums = [(0u64, 0u64); 4];
        for at in [0, 1, 2, 3, 3, 2, 1, 0] {
            let channel = channels[at];
            let body = move |_| {
                format!(r#"{{"name":"e","channel":"{channel}","data":"x","tags":{{"n":"-1"}}}}"#)
            };
            let script = peer(TWO, "unused", posted("events".into(), body));
            let mut load = self.load(address, script, 0)?;
            load.open_publishers(PUBLISHERS)?;
            let window = self.bench.window(&fresh.server, &mut load, Pace::InFlight)?;
            sums[at].0 += window.cpu.all_ns();
            sums[at].1 += window.counts.acknowledged;
        }
        let cost = |(ns, publishes): (u64, u64)| ns as f64 / publishes.max(1) as f64;
        for (name, sum) in names.into_iter().zip(sums) {
            let beyond = (cost(sum) - cost(sums[0])) / self.filters as f64;
            let figures = Figures::from([
                ("cpu_us_per_publish".to_owned(), cost(sum) / 1e3),
                ("ns_per_subscriber".to_owned(), beyond),
            ]);
            eprintln!("  filter {name}: {:.1} ns a subscriber", figures["ns_per_subscriber"]);
            cells.insert(format!("filters, {name}"), figures);
        }
        Ok(())
    }

    /// A document that ticks, to subscribers who take all of it and to those who take what changed.
    fn deltas(&self, fresh: &Fresh, cells: &mut Cells) -> io::Result<()> {
        const PEERS: usize = 20;
        let address = fresh.server.address;
        let ways = [
            ("full", "d-full", ""),
            ("fossil", "d-fossil", r#","delta":"fossil""#),
            ("xdelta3", "d-xdelta3", r#","delta":"xdelta3""#),
        ];
        let mut http = Http::open(address)?;
        for (name, channel, delta) in ways {
            let mut sockets = Vec::new();
            for _ in 0..PEERS {
                let (mut socket, _) = Socket::open(address, TWO)?;
                socket.say(&[format!(
                    r#"{{"event":"sockudo:subscribe","data":{{"channel":"{channel}"{delta}}}}}"#
                )])?;
                socket.hear()?;
                sockets.push(socket);
            }
            let mut bytes = 0;
            let before = process::by_thread(fresh.server.pid)?;
            for tick in 0..self.ticks {
                ask(&mut http, "events", &ticking(channel, tick))?;
                for socket in &mut sockets {
                    bytes += socket.hear()?.len();
                }
            }
            let ns = process::by_thread(fresh.server.pid)?.since(before).all_ns();
            let delivered = (self.ticks * PEERS) as f64;
            let figures = Figures::from([
                ("bytes_per_delivered".to_owned(), bytes as f64 / delivered),
                ("cpu_us_per_delivered".to_owned(), ns as f64 / 1e3 / delivered),
            ]);
            eprintln!("  delta {name}: {figures:?}");
            cells.insert(format!("deltas, {name}"), figures);
        }
        Ok(())
    }

    /// A storm of changes to one message each: all of them acknowledged, the last of them there.
    fn versions(&self, fresh: &Fresh, cells: &mut Cells) -> io::Result<()> {
        let address = fresh.server.address;
        let mut http = Http::open(address)?;
        for channel in ["memory-v", "durable-v"] {
            for (name, verb) in [("update", "update"), ("append", "append")] {
                let serial = message(&mut http, channel)?;
                let path = format!("channels/{channel}/messages/{serial}");
                let body = |nth| match nth {
                    // What is appended may not grow without end.
                    nth if nth % 200 == 0 => r#"{"data":"x"}"#.to_owned(),
                    nth => format!(r#"{{"data":"{nth}"}}"#),
                };
                let script = peer(TWO, "unused", posted(format!("{path}/{verb}"), body));
                let mut load = self.load(address, script, 0)?;
                load.is_patient = true;
                load.open_publishers(if verb == "append" { 1 } else { PUBLISHERS })?;
                let window = self.bench.window(&fresh.server, &mut load, Pace::InFlight);
                let window = match window {
                    Ok(window) => window,
                    // An append that would make the message too large is refused, which ends this part early.
                    Err(error) if verb == "append" => {
                        eprintln!("  {channel} {name}: {error}");
                        continue;
                    }
                    Err(error) => return Err(error),
                };
                let done = window.counts.acknowledged as f64;
                let figures = Figures::from([
                    ("per_s".to_owned(), done / window.seconds),
                    ("cpu_us_each".to_owned(), window.cpu.all_ns() as f64 / 1e3 / done),
                    ("answer_p50_us".to_owned(), window.answer.quantile(0.5) as f64 / 1e3),
                    ("answer_p99_us".to_owned(), window.answer.quantile(0.99) as f64 / 1e3),
                ]);
                eprintln!("  {channel} {name}: {figures:?}");
                cells.insert(format!("versions, {channel}, {name}"), figures);
            }
        }
        Ok(())
    }

    /// Annotations of one message from many at once; the summary at the end counts them all.
    fn annotations(&self, fresh: &Fresh, cells: &mut Cells) -> io::Result<()> {
        let address = fresh.server.address;
        let mut http = Http::open(address)?;
        for channel in ["memory-a", "durable-a"] {
            let serial = message(&mut http, channel)?;
            let path = format!("channels/{channel}/messages/{serial}/annotations");
            let body = |nth: u64| {
                format!(
                    r#"{{"type":"perf:total.v1","name":"like","client_id":"u{}"}}"#,
                    nth % CLIENTS
                )
            };
            let made = Rc::new(Cell::new(0));
            let counted = made.clone();
            let counting = move |nth| {
                counted.set(nth + 1);
                body(nth)
            };
            let script = peer(TWO, "unused", posted(path.clone(), counting));
            let mut load = self.load(address, script, 0)?;
            load.open_publishers(PUBLISHERS)?;
            let window = self.bench.window(&fresh.server, &mut load, Pace::InFlight)?;
            // One more of our own, and the summary a new subscriber is told.
            ask(&mut http, &path, &body(0))?;
            let (mut socket, _) = Socket::open(address, TWO)?;
            socket.say(&[format!(
                r#"{{"event":"sockudo:subscribe","data":{{"channel":"{channel}"}}}}"#
            )])?;
            let summary = loop {
                let heard = socket.hear()?;
                if heard.contains("message.summary") {
                    break heard;
                }
            };
            let counted = number(&summary, "total").unwrap_or(0);
            let done = window.counts.acknowledged as f64;
            let figures = Figures::from([
                ("per_s".to_owned(), done / window.seconds),
                ("cpu_us_each".to_owned(), window.cpu.all_ns() as f64 / 1e3 / done),
                ("answer_p50_us".to_owned(), window.answer.quantile(0.5) as f64 / 1e3),
                ("summary_minus_made".to_owned(), counted as f64 - made.get() as f64 - 1.0),
            ]);
            eprintln!("  annotations, {channel}: {figures:?}");
            cells.insert(format!("annotations, {channel}"), figures);
        }
        Ok(())
    }

    /// Signed publishes into channels that nobody hears, and the same as batches of ten.
    fn publishes(&self, fresh: &Fresh, cells: &mut Cells) -> io::Result<()> {
        for (name, batch) in [("one by one", 1), ("batches of 10", 10)] {
            let shape = Shape::Alone { prefix: "alone", channels: 1000, batch };
            let mut load = Load::new(fresh.server.address, &credentials(), shape, 128)?;
            load.open_publishers(PUBLISHERS)?;
            let window = self.bench.window(&fresh.server, &mut load, Pace::InFlight)?;
            let requests = window.counts.acknowledged as f64 / batch as f64;
            let figures = Figures::from([
                (
                    "events_per_cpu_s".to_owned(),
                    window.counts.acknowledged as f64 * 1e9 / window.cpu.all_ns() as f64,
                ),
                ("cpu_us_per_request".to_owned(), window.cpu.all_ns() as f64 / 1e3 / requests),
            ]);
            eprintln!("  publishes, {name}: {figures:?}");
            cells.insert(format!("publishes, {name}"), figures);
        }
        Ok(())
    }
}

/// A document of about a kibibyte of which a few numbers change.
fn ticking(channel: &str, tick: usize) -> String {
    let mut document = String::from("{");
    for row in 0..16 {
        let price = if (tick + row).is_multiple_of(5) { 10_000 + tick } else { 10_000 + row };
        let _ = write!(
            document,
            r#""item-{row:02}":{{"price":{price},"currency":"EUR","name":"instrument {row:02}"}},"#
        );
    }
    let _ = write!(document, r#""tick":{tick}}}"#);
    format!(r#"{{"name":"tick","channel":"{channel}","data":{document}}}"#)
}

// What it is held against.

impl Plan {
    fn lines(&self, runs: &[Cells]) -> Vec<Line> {
        let mut lines = Vec::new();
        for part in &self.parts {
            match *part {
                "fanout" => self.deliveries(&mut lines, runs),
                "filters" => {
                    for name in ["equal", "all of two", "greater"] {
                        let cell = format!("filters, {name}");
                        let what = format!("{} filters that do not match, {name}", self.filters);
                        let cost = of(runs, &cell, "ns_per_subscriber");
                        let line = Line::new(what, "ns each and publish", cost);
                        let most = vec![100.0; runs.len()];
                        lines.push(line.beside("at most", most).target(Target::RatioMax(1.0)));
                    }
                }
                "deltas" => {
                    for (figure, unit) in [
                        ("bytes_per_delivered", "B a delivery"),
                        ("cpu_us_per_delivered", "µs of CPU a delivery"),
                    ] {
                        for name in ["fossil", "xdelta3"] {
                            let value = |name: &str| of(runs, &format!("deltas, {name}"), figure);
                            let line =
                                Line::new(format!("a ticking document, {name}"), unit, value(name));
                            lines.push(line.beside("in full", value("full")));
                        }
                    }
                }
                "versions" => {
                    for channel in ["memory-v", "durable-v"] {
                        for name in ["update", "append"] {
                            let cell = format!("versions, {channel}, {name}");
                            let what = format!("{name}s of one message, {channel}");
                            lines.push(Line::new(what.clone(), "/s", of(runs, &cell, "per_s")));
                            let cost = of(runs, &cell, "cpu_us_each");
                            lines.push(Line::new(what, "µs of CPU each", cost));
                        }
                    }
                }
                "annotations" => {
                    for channel in ["memory-a", "durable-a"] {
                        let cell = format!("annotations, {channel}");
                        let what = format!("annotations of one message, {channel}");
                        let line = Line::new(what.clone(), "/s", of(runs, &cell, "per_s"));
                        lines.push(line.target(Target::ValueMin(10_000.0)));
                        let missing = of(runs, &cell, "summary_minus_made");
                        lines.push(Line::new(what, "in the summary beyond those made", missing));
                    }
                }
                _ => {
                    for name in ["one by one", "batches of 10"] {
                        let per = of(runs, &format!("publishes, {name}"), "events_per_cpu_s");
                        let what = format!("signed publishes that nobody hears, {name}");
                        let line = Line::new(what, "/CPU-s", per);
                        lines.push(line.target(Target::ValueMin(150_000.0)));
                    }
                }
            }
        }
        lines
    }

    fn deliveries(&self, lines: &mut Vec<Line>, runs: &[Cells]) {
        for size in &self.sizes {
            for (ours, theirs) in [("2", "7"), ("2, history", "7, history")] {
                let cost =
                    |way| of(runs, &format!("fan-out, {size} B, {way}"), "cpu_us_per_delivered");
                let what = format!("{size} B to {}, protocol {ours}", self.subscribers);
                let line = Line::new(what, "µs of CPU a delivery", cost(ours));
                let theirs_is = format!("protocol {theirs}");
                lines.push(line.beside(theirs_is, cost(theirs)).target(Target::RatioMax(1.10)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_is_json_of_about_a_kibibyte() {
        let body: serde_json::Value = serde_json::from_str(&ticking("c", 7)).unwrap();
        let bytes = body["data"].to_string().len();
        assert!((900..1500).contains(&bytes), "{bytes}");
    }

    #[test]
    fn the_last_number_of_a_name_is_found() {
        assert_eq!(number(r#"{"total":1,"a":{"total":23}}"#, "total"), Some(23));
        assert_eq!(number("{}", "total"), None);
    }
}
