//! Event streams on a simulated server: peers that hear ticks of a protocol made for this, which come from upstream.
//!
//! Every stream is a whole answer or was cut by its peer; every subscription hears its channel from where it was granted,
//! without a gap and nothing twice; whoever stopped reading is told so; and the world outside hears of the end of every
//! connection that it was asked to remember.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use ringmain::auth::{Finding, Follow, Following, Inquiry, Need, Source, TokenSettings, What};
use ringmain::base::ids::{AppIndex, ConnectionId, LaneId, Ticket};
use ringmain::base::name::Channel;
use ringmain::base::time::{Millis, Now};
use ringmain::broker::slots::Slots;
use ringmain::broker::{Command, Event, Happening, Payload, Publish, Reply, Subscribe};
use ringmain::config::Config;
use ringmain::dialects::{
    Dialect, Facts, Farewell, Input, LaneKind, Opening, Output, Request, Response, Session,
    TimerKind, Words,
};
use ringmain::observe::{CloseReason, Counter};
use ringmain::reactor::sim::{Faults, SimClient, SimEnd};
use ringmain::shard::back::{Arrival, Outside};
use ringmain::wire::http::Chunked;
use ringmain::wire::http::chunked::ChunkProgress;

use crate::universe::{Universe, Wrap};

const CHANNELS: [&str; 3] = ["a", "b", "c"];
const LISTENERS_MAX: usize = 10;
const THUMP: Millis = Millis(15_000);

/// Puts the ticks in the place of a dialect that has their lanes.
struct Ticking;

impl Wrap for Ticking {
    fn dialect(&self, dialect: Arc<dyn Dialect>) -> Arc<dyn Dialect> {
        if dialect.name() == "mastodon" { Arc::new(Ticks) } else { dialect }
    }
}

struct Ticks;

impl Dialect for Ticks {
    fn name(&self) -> &'static str {
        "mastodon"
    }

    fn lanes(&self) -> &'static [LaneKind] {
        &[LaneKind::Text, LaneKind::Chunk, LaneKind::Plain]
    }

    fn open(&self, request: &Request<'_>, facts: &Facts) -> Option<Opening> {
        let channels = request.path.strip_prefix("/ticks/")?.split(',');
        let mut source = Source::new("mastodon", &TokenSettings::default(), None);
        source.has_upstream = true;
        let session = Box::new(Ticker {
            channels: channels.map(channel).collect(),
            lane: LaneId(facts.lane_first.0 + if request.takes_chunks { 1 } else { 2 }),
            source: Arc::new(source),
        });
        assert_ne!(facts.chance, 0);
        Some(Opening::Exchange { session, body_bytes_max: 0 })
    }

    fn render(&self, _: usize, event: &Event, out: &mut Vec<u8>) -> bool {
        let Happening::Message { data, .. } = &event.happening else { return false };
        let data = String::from_utf8_lossy(&data.0);
        write_event(out, &event.channel.name, &data);
        true
    }

    fn farewell(&self, reason: CloseReason) -> Farewell {
        let mut text = Vec::new();
        write_event(&mut text, "bye", reason.as_str());
        let text = String::from_utf8(text).expect("text");
        Farewell { message: Some(Words::Text(text.into())), code: 1000, text: "".into() }
    }
}

fn channel(name: &str) -> Channel {
    Channel { app: AppIndex(0), name: name.into() }
}

fn write_event(out: &mut Vec<u8>, name: &str, data: &str) {
    ringmain::wire::sse::write_event(out, Some(name), None, data);
}

struct Ticker {
    channels: Vec<Channel>,
    lane: LaneId,
    source: Arc<Source>,
}

impl Session for Ticker {
    fn handle(&mut self, input: Input<'_>, _: Now, out: &mut Vec<Output>) {
        let text = |name: &str, data: &str| {
            let mut text = Vec::new();
            write_event(&mut text, name, data);
            Output::Text(text)
        };
        match input {
            Input::Body(_) => {
                let follow = Follow {
                    channels: Vec::new(),
                    account: "ann".into(),
                    is_judged: false,
                    need: Need::Nothing,
                };
                let inquiry =
                    Inquiry { source: self.source.clone(), what: What::Follow(Box::new(follow)) };
                out.push(Output::Inquire(Ticket(0), inquiry));
            }
            Input::Found(..) => {
                // Before the answer there is nothing to say it on.
                out.push(text("early", ""));
                let headers = vec![("Content-Type", "text/event-stream".into())];
                let body = Bytes::from_static(b": here\n\n");
                out.push(Output::Stream(Response { status: 200, headers, body }));
            }
            Input::Opened => {
                for (n, channel) in self.channels.iter().enumerate() {
                    let subscribe = Subscribe::new(channel.clone(), self.lane);
                    out.push(Output::Ask(
                        Ticket(n as u32),
                        Command::Subscribe(Box::new(subscribe)),
                    ));
                }
                out.push(Output::Arm(TimerKind(0), THUMP));
                // Means nothing here.
                out.push(Output::Ping);
                out.push(Output::Text(Vec::new()));
            }
            Input::Reply(_, Reply::Subscribed(subscribed)) => {
                out.push(text("on", &subscribed.channel.name));
            }
            Input::Timer(_) => {
                out.push(Output::Text(b":thump\n\n".to_vec()));
                out.push(Output::Arm(TimerKind(0), THUMP));
            }
            _ => {}
        }
    }
}

/// What the world outside knows.
#[derive(Default)]
struct Upstream {
    /// By shard.
    arrivals: Vec<VecDeque<Box<Publish>>>,
    /// How far the homes have taken each channel.
    taken: BTreeMap<String, u64>,
    /// Connections that asked and are not gone.
    standing: BTreeSet<(u32, u32)>,
    asked: u64,
}

type SharedUpstream = Arc<Mutex<Upstream>>;

fn locked(upstream: &SharedUpstream) -> MutexGuard<'_, Upstream> {
    upstream.lock().expect("nobody panics with it")
}

/// One shard's end of it.
struct Port {
    shard: usize,
    upstream: SharedUpstream,
    found: VecDeque<(ConnectionId, Ticket, Finding)>,
}

impl Outside for Port {
    fn ask(&mut self, from: ConnectionId, ticket: Ticket, inquiry: Inquiry) {
        assert!(inquiry.what.stands());
        let mut upstream = locked(&self.upstream);
        assert!(upstream.standing.insert(from.to_pair()), "it asks once");
        upstream.asked += 1;
        let following = Following { judged_from: 0, local: true, remote: true };
        self.found.push_back((from, ticket, Finding::Following(following)));
    }

    fn take(&mut self) -> Option<(ConnectionId, Ticket, Finding)> {
        self.found.pop_front()
    }

    fn is_ready(&self) -> bool {
        !self.found.is_empty() || !locked(&self.upstream).arrivals[self.shard].is_empty()
    }

    fn gone(&mut self, from: ConnectionId) {
        assert!(locked(&self.upstream).standing.remove(&from.to_pair()), "it was there");
    }

    fn arrival(&mut self) -> Option<Arrival> {
        let mut upstream = locked(&self.upstream);
        let publish = upstream.arrivals[self.shard].pop_front()?;
        *upstream.taken.entry(publish.channel.name.to_string()).or_default() += 1;
        Some(Arrival::Publish(publish))
    }
}

/// One subscription of a listener.
#[derive(Default)]
struct Run {
    taken_at_ask: u64,
    taken_at_confirm: Option<u64>,
    heard: Vec<u64>,
}

struct Listener {
    socket: SimClient,
    is_head: bool,
    /// None: it speaks HTTP/1.0.
    chunked: Option<Chunked>,
    head: Vec<u8>,
    is_open: bool,
    is_whole: bool,
    text: String,
    runs: BTreeMap<String, Run>,
    bye: Option<String>,
    stalled: bool,
    was_stalled: bool,
    /// It went itself.
    left: bool,
    thumps: u64,
}

impl Listener {
    fn open(universe: &Universe, upstream: &Upstream) -> Self {
        let world = &universe.world;
        let socket = universe.connect();
        let is_old = world.draw(3) == 0;
        let is_head = world.draw(12) == 0;
        let mut wanted: Vec<_> = CHANNELS.into_iter().filter(|_| world.draw(2) == 0).collect();
        if wanted.is_empty() {
            wanted.push(CHANNELS[0]);
        }
        let method = if is_head { "HEAD" } else { "GET" };
        let version = if is_old { "1.0" } else { "1.1" };
        let path = wanted.join(",");
        socket
            .send(format!("{method} /ticks/{path} HTTP/{version}\r\nHost: sim\r\n\r\n").as_bytes());
        let run = |name: &str| Run {
            taken_at_ask: upstream.taken.get(name).copied().unwrap_or_default(),
            ..Run::default()
        };
        Self {
            socket,
            is_head,
            chunked: (!is_old).then(Chunked::new),
            head: Vec::new(),
            is_open: false,
            is_whole: false,
            text: String::new(),
            runs: wanted.into_iter().map(|name| (name.to_owned(), run(name))).collect(),
            bye: None,
            stalled: false,
            was_stalled: false,
            left: false,
            thumps: 0,
        }
    }

    /// Takes in what came, and closes when that was all.
    fn hear_and_close(&mut self, upstream: &Upstream) {
        self.hear(upstream);
        if self.is_whole && self.socket.end() == Some(SimEnd::Finished) {
            self.socket.finish();
        }
    }

    fn hear(&mut self, upstream: &Upstream) {
        let mut bytes = self.socket.received();
        if !self.is_open {
            self.head.extend_from_slice(&bytes);
            let Some(end) = self.head.windows(4).position(|it| it == b"\r\n\r\n") else { return };
            bytes = self.head.split_off(end + 4);
            let head = String::from_utf8_lossy(&self.head);
            assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
            assert!(head.contains("Content-Type: text/event-stream\r\n"), "{head}");
            assert!(head.contains("Connection: close\r\n"), "{head}");
            assert!(!head.contains("Content-Length"), "{head}");
            assert_eq!(head.contains("Transfer-Encoding: chunked\r\n"), self.chunked.is_some());
            self.is_open = true;
        }
        if self.is_head {
            assert!(bytes.is_empty(), "a head alone");
            self.is_whole |= self.socket.end() == Some(SimEnd::Finished);
            return;
        }
        let mut piece = Vec::new();
        match &mut self.chunked {
            None => {
                piece = bytes;
                self.is_whole |= self.socket.end() == Some(SimEnd::Finished);
            }
            Some(_) if bytes.is_empty() => {}
            Some(chunked) => match chunked.read(&bytes, &mut piece, usize::MAX) {
                Ok(ChunkProgress::More) => {}
                Ok(ChunkProgress::Done { used }) => {
                    assert_eq!(used, bytes.len(), "nothing follows the end");
                    self.is_whole = true;
                }
                Err(error) => panic!("chunks that are none: {error}"),
            },
        }
        self.text += std::str::from_utf8(&piece).expect("pieces are text");
        let Some(end) = self.text.rfind("\n\n") else { return };
        let blocks: String = self.text.drain(..end + 2).collect();
        for block in blocks.split_terminator("\n\n") {
            self.take(block, upstream);
        }
    }

    fn take(&mut self, block: &str, upstream: &Upstream) {
        assert_eq!(self.bye, None, "nothing follows the goodbye: {block}");
        let Some(event) = block.strip_prefix("event: ") else {
            assert!(block == ": here" || block == ":thump", "{block}");
            self.thumps += u64::from(block == ":thump");
            return;
        };
        let (name, data) = event.split_once("\ndata: ").expect("an event has data");
        match name {
            "on" => {
                let run = self.runs.get_mut(data).expect("it was asked for");
                assert!(run.heard.is_empty(), "{data}: an event before its confirmation");
                let taken = upstream.taken.get(data).copied().unwrap_or_default();
                assert!(run.taken_at_confirm.replace(taken).is_none(), "confirmed twice");
            }
            "bye" => self.bye = Some(data.to_owned()),
            name => {
                let (count, _) = data.split_once(' ').expect("a count and padding");
                let count = count.parse().expect("a count");
                let run = self.runs.get_mut(name).expect("it was asked for");
                let confirmed = run.taken_at_confirm.expect("an event before its confirmation");
                match run.heard.last() {
                    Some(last) => assert_eq!(count, last + 1, "{name}: skipped or repeated"),
                    None => assert!(
                        run.taken_at_ask < count && count <= confirmed + 1,
                        "{name}: begins with {count}, not after {} and up to {confirmed}",
                        run.taken_at_ask
                    ),
                }
                run.heard.push(count);
            }
        }
    }

    fn is_over(&self) -> bool {
        self.left || self.socket.end().is_some()
    }
}

/// One run, and how many streams it had, how many of them were slow, and how many signs of life came.
fn run(seed: u64, drains: bool) -> [u64; 3] {
    let faults = match seed % 3 {
        0 => Faults::none(),
        1 => Faults::slow(),
        _ => Faults::rough(),
    };
    let shards = 1 + (seed % 4) as u16;
    let mut config = Config::development();
    config.limits.mailbox_slots = 4 << (seed % 3 * 2);
    config.limits.backlog_mails_high_water = 8 << (seed % 4);
    config.limits.outbox_bytes_high_water = 16 << 10;
    config.limits.spin_us = 0;
    let upstream = SharedUpstream::default();
    locked(&upstream).arrivals.resize_with(usize::from(shards), VecDeque::new);
    let next = Cell::new(0);
    let port = || {
        let shard = next.replace(next.get() + 1);
        let port = Port { shard, upstream: Arc::clone(&upstream), found: VecDeque::new() };
        Box::new(port) as Box<dyn Outside>
    };
    let mut universe = Universe::with_outside(seed, faults, config, shards, &Ticking, &port);
    let slots = Slots::new(shards, [seed, !seed]);
    let mut listeners: Vec<Listener> = Vec::new();
    let mut published: BTreeMap<&str, u64> = BTreeMap::new();

    for _ in 0..600 {
        let who = universe.world.draw(listeners.len().max(1) as u64) as usize;
        match (universe.world.draw(16), listeners.get_mut(who)) {
            (0..2, _) => {
                let live = listeners.iter().filter(|it| !it.is_over()).count();
                if live < LISTENERS_MAX {
                    listeners.push(Listener::open(&universe, &locked(&upstream)));
                }
            }
            (2..7, _) => {
                let name = CHANNELS[universe.world.draw(3) as usize];
                let count = published.entry(name).or_default();
                *count += 1;
                let padding = "x".repeat(universe.world.draw(2000) as usize);
                let data = Payload(format!("{count} {padding}").into());
                let arrived = universe.world.now().steady;
                let mut publish = Publish::new(channel(name), name.into(), data, arrived);
                publish.quiet = true;
                let home = slots.home_of(&publish.channel).index();
                locked(&upstream).arrivals[home].push_back(Box::new(publish));
            }
            (7, Some(listener)) if universe.world.draw(3) == 0 => {
                listener.stalled = !listener.stalled;
                listener.was_stalled = true;
                match listener.stalled {
                    true => listener.socket.stall(),
                    false => listener.socket.resume(),
                }
            }
            (8, Some(listener)) if universe.world.draw(6) == 0 && !listener.left => {
                listener.left = true;
                match universe.world.draw(2) {
                    0 => listener.socket.finish(),
                    _ => listener.socket.reset(),
                }
            }
            (9, Some(listener)) if !listener.left => {
                // What it says now is heard by nobody.
                listener.socket.send(b"GET /up HTTP/1.1\r\nHost: sim\r\n\r\n\x00\xff");
            }
            (10, _) => universe.neglect_one(),
            _ => {
                universe.tick();
                if universe.world.draw(4) == 0 {
                    universe.advance();
                }
            }
        }
        let upstream = locked(&upstream);
        listeners.iter_mut().for_each(|it| it.hear_and_close(&upstream));
    }

    universe.world.set_faults(Faults::none());
    let settle = |universe: &mut Universe, listeners: &mut Vec<Listener>, seconds: u64| {
        for _ in 0..seconds {
            universe.pass(Duration::from_secs(1));
            let upstream = locked(&upstream);
            listeners.iter_mut().for_each(|it| it.hear_and_close(&upstream));
        }
    };
    settle(&mut universe, &mut listeners, 20);
    for listener in listeners.iter_mut().filter(|it| it.stalled) {
        listener.socket.resume();
    }
    settle(&mut universe, &mut listeners, 20);
    assert!(locked(&upstream).arrivals.iter().all(VecDeque::is_empty), "all that came was taken");
    let mut slow = 0;
    for listener in &listeners {
        match (listener.socket.end(), listener.left) {
            (_, true) | (Some(SimEnd::Reset | SimEnd::Refused), _) => continue,
            // Who did not read for so long that the goodbye could not leave either has seen the stream break off.
            (Some(SimEnd::Finished), _) if listener.bye.is_none() && listener.was_stalled => {}
            (Some(SimEnd::Finished), _) if listener.is_head => assert!(listener.is_whole),
            (Some(SimEnd::Finished), _) => {
                assert!(listener.is_whole, "a stream ends whole");
                assert_eq!(listener.bye.as_deref(), Some("slow_consumer"));
                slow += 1;
            }
            (None, _) => {
                assert!(!listener.is_head && listener.bye.is_none());
                for (name, run) in &listener.runs {
                    let all = published.get(&**name).copied().unwrap_or_default();
                    let confirmed = run.taken_at_confirm.expect("every subscription is granted");
                    let last = run.heard.last().copied().unwrap_or(confirmed);
                    assert_eq!(last, all, "{name}: it did not hear the last");
                }
            }
        }
    }
    let metrics = &universe.metrics;
    assert_eq!(metrics.total(Counter::SessionPanics), 0);
    let opened = metrics.total(Counter::EventStreams);
    let heard: usize =
        listeners.iter().flat_map(|it| it.runs.values()).map(|it| it.heard.len()).sum();
    let by_lane: u64 = (0..64).map(|lane| metrics.total_delivered(LaneId(lane))).sum();
    assert_eq!(by_lane, metrics.total(Counter::EventsDelivered));
    assert!(by_lane >= heard as u64, "what was heard was counted");
    if drains {
        universe.drain();
        settle(&mut universe, &mut listeners, 30);
        assert!(universe.is_done(), "some shard runs on");
        let told = listeners.iter().filter(|it| it.bye.as_deref() == Some("drain"));
        for it in told {
            assert!(it.is_whole, "{:?} {:?} {:?}", it.socket.end(), it.chunked, it.text);
        }
        assert!(listeners.iter().all(|it| it.is_over() || it.bye.is_some()));
    } else {
        listeners.iter().for_each(|it| it.socket.reset());
        universe.pass(Duration::from_secs(3600));
        assert_eq!(universe.held(), Default::default());
    }
    let upstream = locked(&upstream);
    assert!(upstream.standing.is_empty(), "someone is remembered who is gone");
    assert!(upstream.asked >= opened);
    [opened, slow, listeners.iter().map(|it| it.thumps).sum()]
}

#[test]
fn event_streams_are_whole_and_miss_nothing() {
    let mut sum = [0; 3];
    for seed in 0..crate::variable("RINGMAIN_SEEDS").unwrap_or(48) {
        let ran = std::panic::catch_unwind(|| run(seed, seed % 4 == 0));
        let ran = ran.unwrap_or_else(|_| panic!("seed {seed}"));
        sum.iter_mut().zip(ran).for_each(|(sum, it)| *sum += it);
    }
    let [opened, slow, thumps] = sum;
    assert!(opened > 500 && slow > 10 && thumps > 100, "{sum:?} says little");
}
