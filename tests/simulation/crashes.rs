//! Servers that crash with whatever their disk has, listeners that come back with their positions, and back ends
//! that publish again what was not acknowledged: nothing acknowledged is lost, nothing is there twice, and a
//! listener hears exactly what it missed.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use ringmain::auth::sign;
use ringmain::base::time::{Millis, UnixMillis};
use ringmain::config::Config;
use ringmain::config::history::History;
use ringmain::push::stored::{self, Queued};
use ringmain::reactor::sim::{Faults, SimClient};
use ringmain::store::database::Database;
use ringmain::store::memory::Memory;
use ringmain::store::reads::Reader;
use ringmain::store::{Answer, Ask, Shelf, open};
use serde_json::{Value, json};

use crate::link::Link;
use crate::tell;
use crate::universe::Universe;

const CHANNELS: u64 = 3;
/// A page of history holds as many: each channel stays below that.
const EVENTS_MAX: usize = 90;

fn name(channel: usize) -> String {
    format!("durable-{channel}")
}

/// One who listens to one channel, over many connections.
struct Listener {
    channel: usize,
    link: Option<Link>,
    /// The last event heard: stream, serial, id.
    position: Option<(String, u64, Option<String>)>,
    heard: BTreeMap<u64, String>,
    replayed: u64,
    resumed: u64,
}

/// One who publishes one event after the other, each until it is acknowledged.
struct Publisher {
    id: usize,
    socket: Option<SimClient>,
    received: Vec<u8>,
    /// The channel and number of what is on its way.
    current: Option<(usize, u64)>,
    next: u64,
    repeated: u64,
    refused: u64,
}

struct Scene {
    seed: u64,
    disk: Memory,
    universe: Universe,
    listeners: Vec<Listener>,
    publishers: Vec<Publisher>,
    published: [usize; CHANNELS as usize],
    /// What was acknowledged: by channel and data, the serial.
    acknowledged: BTreeMap<(usize, String), u64>,
    crashes: u64,
}

fn config() -> Config {
    let mut config = Config::development();
    config.limits.spin_us = 0;
    config.limits.mailbox_slots = 16;
    let month = Millis(30 * 24 * 3_600_000);
    config.http.idle_timeout = month;
    config.http.head_timeout = month;
    config.http.body_timeout = month;
    config.pusher.activity_timeout = month;
    config.pusher.pong_timeout = month;
    config.apps[0].subscription_counts = false;
    // The clock jumps by half an hour when nobody is there.
    let history = History { idempotency_window: month, ..History::of(&config) };
    config.sections.set(history);
    config
}

impl Scene {
    fn universe(seed: u64, crashes: u64, disk: &Memory) -> Universe {
        let faults = if seed.is_multiple_of(3) { Faults::none() } else { Faults::slow() };
        let shards = 1 + (seed % 3) as u16;
        let seed = seed ^ crashes << 40;
        let mut universe = Universe::on_disk(seed, faults, config(), shards, disk);
        universe.store_fails = seed % 2 == 1;
        universe
    }

    fn new(seed: u64) -> Self {
        let disk = Memory::default();
        let listener = |n: usize| Listener {
            channel: n % CHANNELS as usize,
            link: None,
            position: None,
            heard: BTreeMap::new(),
            replayed: 0,
            resumed: 0,
        };
        let publisher = |id| Publisher {
            id,
            socket: None,
            received: Vec::new(),
            current: None,
            next: 0,
            repeated: 0,
            refused: 0,
        };
        Self {
            seed,
            universe: Self::universe(seed, 0, &disk),
            disk,
            listeners: (0..6).map(listener).collect(),
            publishers: (0..3).map(publisher).collect(),
            published: [0; CHANNELS as usize],
            acknowledged: BTreeMap::new(),
            crashes: 0,
        }
    }

    fn draw(&self, below: u64) -> u64 {
        self.universe.world.draw(below)
    }

    fn act(&mut self) {
        match self.draw(200) {
            0..16 => {
                let at = self.draw(self.listeners.len() as u64) as usize;
                self.listeners[at].connect(&self.universe);
            }
            16..20 => {
                let at = self.draw(self.listeners.len() as u64) as usize;
                self.listeners[at].cut();
            }
            20..45 => {
                let at = self.draw(self.publishers.len() as u64) as usize;
                self.publish(at);
            }
            45..75 => self.universe.step_store(),
            75..85 => self.universe.advance(),
            85 if self.draw(2) == 0 => self.crash(),
            _ => self.universe.tick(),
        }
        self.take_in();
    }

    /// The process ends; what was not committed is gone, and another starts on the same disk.
    fn crash(&mut self) {
        self.crashes += 1;
        tell!(self.universe.world, "crash");
        self.listeners.iter_mut().for_each(|it| it.link = None);
        for publisher in &mut self.publishers {
            publisher.socket = None;
            publisher.received.clear();
        }
        self.universe = Self::universe(self.seed, self.crashes, &self.disk);
    }

    fn publish(&mut self, at: usize) {
        let channel = self.draw(CHANNELS) as usize;
        let publisher = &mut self.publishers[at];
        if publisher.socket.is_some() && publisher.current.is_some() {
            return;
        }
        if publisher.current.is_none() {
            if self.published[channel] >= EVENTS_MAX {
                return;
            }
            self.published[channel] += 1;
            publisher.current = Some((channel, publisher.next));
            publisher.next += 1;
        }
        publisher.send(&self.universe);
    }

    fn take_in(&mut self) {
        for listener in &mut self.listeners {
            listener.take_in(&self.universe);
        }
        for publisher in &mut self.publishers {
            if let Some((channel, data, serial)) = publisher.take_in(&self.universe) {
                let before = self.acknowledged.insert((channel, data), serial);
                assert!(before.is_none(), "acknowledged twice");
            }
        }
    }

    fn rest(&mut self) {
        for _ in 0..60 {
            self.universe.pass(Duration::from_millis(200));
            self.take_in();
            for at in 0..self.publishers.len() {
                // What was refused is published again.
                if self.publishers[at].current.is_some() && self.publishers[at].socket.is_none() {
                    self.publishers[at].send(&self.universe);
                }
            }
        }
    }

    /// How often the notification of each event is on the queue, by what it says.
    fn queued(&self) -> BTreeMap<String, u64> {
        let ask = Ask::read(Shelf::PushQueue, Bytes::new(), None, u32::MAX);
        let store = open::settle(&self.disk, 7).expect("a settled store");
        let look = self.disk.look();
        let answer = Reader::default().answer(&*look, store, &ask, UnixMillis(0));
        let Some(Answer::Values { values, .. }) = answer else { panic!("{answer:?}") };
        let mut times = BTreeMap::new();
        for (_, value) in &values {
            let Some(Queued::Publish { app, intent }) = stored::decode(value) else {
                panic!("{value:?} is no publish")
            };
            assert_eq!(app, "app-id");
            let title = intent.content.text.title.expect("it has a title");
            *times.entry(title).or_default() += 1;
        }
        times
    }

    /// A channel's history as the API tells it: data by serial.
    fn history(&mut self, channel: usize) -> BTreeMap<u64, String> {
        let path = format!("/apps/app-id/channels/{}/history", name(channel));
        let wall = self.universe.world.now().wall;
        let parameters = [("direction", "oldest_first"), ("limit", "100")];
        let query = sign::sign_request(&self.universe.app, "GET", &path, &parameters, b"", wall);
        let socket = self.universe.connect();
        socket.send(format!("GET {path}?{query} HTTP/1.1\r\nHost: sim\r\n\r\n").as_bytes());
        self.universe.pass(Duration::from_secs(5));
        let answer = String::from_utf8_lossy(&socket.received()).into_owned();
        socket.reset();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
        let page: Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(page["has_more"], false);
        let items = page["items"].as_array().expect("items").iter();
        let pairs = items.map(|item| {
            let data = item["message"]["data"].as_str().expect("data").to_owned();
            (item["serial"].as_u64().expect("a serial"), data)
        });
        pairs.collect()
    }

    fn check(&mut self) -> Exercised {
        // Everyone comes back to a server that works.
        self.universe.store_fails = false;
        self.rest();
        for at in 0..self.listeners.len() {
            self.listeners[at].connect(&self.universe);
        }
        self.rest();
        let histories: Vec<_> = (0..CHANNELS as usize).map(|it| self.history(it)).collect();
        for publisher in &self.publishers {
            assert!(publisher.current.is_none(), "publisher {} still waits", publisher.id);
        }
        for (channel, history) in histories.iter().enumerate() {
            let serials: Vec<_> = history.keys().copied().collect();
            assert!(serials.iter().copied().eq(1..=serials.len() as u64), "{serials:?}");
            assert_eq!(history.len(), self.published[channel], "{}", name(channel));
            let mut data: Vec<_> = history.values().collect();
            data.sort();
            data.dedup();
            assert_eq!(data.len(), history.len(), "{} has something twice", name(channel));
        }
        let queued = self.queued();
        for ((channel, data), serial) in &self.acknowledged {
            assert_eq!(histories[*channel].get(serial), Some(data), "{}", name(*channel));
            assert_eq!(queued.get(data), Some(&1), "the notification of {data}");
        }
        let events: usize = histories.iter().map(BTreeMap::len).sum();
        assert_eq!(queued.len(), events, "a notification goes with each event");
        let mut exercised = Exercised { crashes: self.crashes, ..Exercised::default() };
        for (at, listener) in self.listeners.iter().enumerate() {
            let history = &histories[listener.channel];
            let Some(first) = listener.heard.keys().next() else { continue };
            // From the first on, all of it.
            let expected: BTreeMap<_, _> =
                history.range(first..).map(|(serial, data)| (*serial, data.clone())).collect();
            assert_eq!(listener.heard, expected, "listener {at} of {}", name(listener.channel));
            exercised.heard += listener.heard.len() as u64;
            exercised.replayed += listener.replayed;
            exercised.resumed += listener.resumed;
        }
        exercised.acknowledged = self.acknowledged.len() as u64;
        exercised.repeated = self.publishers.iter().map(|it| it.repeated).sum();
        exercised.refused = self.publishers.iter().map(|it| it.refused).sum();
        exercised
    }
}

/// What a run came across.
#[derive(Debug, Default)]
struct Exercised {
    crashes: u64,
    heard: u64,
    replayed: u64,
    resumed: u64,
    acknowledged: u64,
    repeated: u64,
    refused: u64,
}

impl Listener {
    fn connect(&mut self, universe: &Universe) {
        if self.link.is_some() {
            return;
        }
        self.link = Some(Link::open(universe, "/app/app-key?protocol=2"));
    }

    fn cut(&mut self) {
        if let Some(link) = self.link.take() {
            link.socket.reset();
        }
    }

    fn take_in(&mut self, universe: &Universe) {
        let Some(mut link) = self.link.take() else { return };
        if link.socket.end().is_some() {
            return;
        }
        for message in link.messages() {
            self.hear(&mut link, &message, universe);
        }
        self.link = Some(link);
    }

    fn hear(&mut self, link: &mut Link, message: &Value, universe: &Universe) {
        let inner = |value: &Value| -> Value {
            serde_json::from_str(value.as_str().expect("text")).expect("JSON in it")
        };
        tell!(universe.world, "{} hears {message}", name(self.channel));
        match message["event"].as_str().expect("an event") {
            "sockudo:connection_established" => {
                if let Some((stream, serial, id)) = &self.position {
                    let position =
                        json!({"stream_id": stream, "serial": serial, "last_message_id": id});
                    let positions = json!({ name(self.channel): position });
                    link.say(&json!({"event": "sockudo:resume", "data": {"channel_positions": positions}}));
                }
                let data = json!({ "channel": name(self.channel) });
                link.say(&json!({"event": "sockudo:subscribe", "data": data}));
            }
            "sockudo_internal:subscription_succeeded" => {
                link.is_subscribed = true;
                if self.position.is_none()
                    && let Some(stream) = message["stream_id"].as_str()
                {
                    let serial = message["serial"].as_u64().expect("a serial");
                    self.position = Some((stream.to_owned(), serial, None));
                }
            }
            "sockudo:resume_success" => {
                self.resumed += 1;
                let data = inner(&message["data"]);
                for failed in data["failed"].as_array().expect("a list") {
                    assert_eq!(failed["code"], "persistence_unavailable", "{message}");
                }
            }
            "sockudo:resume_failed" => {
                // The store was failing: the listener keeps its position and comes again.
                assert_eq!(inner(&message["data"])["code"], "persistence_unavailable", "{message}");
                assert!(universe.store_fails);
                link.socket.reset();
            }
            "e" => {
                let serial = message["serial"].as_u64().expect("a serial");
                let stream = message["stream_id"].as_str().expect("a stream").to_owned();
                let data = message["data"].as_str().expect("data").to_owned();
                if let Some((known, last, _)) = &self.position {
                    assert_eq!(*known, stream, "another stream without a word");
                    assert_eq!(serial, last + 1, "{} missed or repeats", name(self.channel));
                }
                self.replayed += u64::from(!link.is_subscribed);
                self.heard.insert(serial, data);
                let id = message["message_id"].as_str().map(str::to_owned);
                self.position = Some((stream, serial, id));
            }
            other => panic!("nobody sends {other}: {message}"),
        }
    }
}

impl Publisher {
    fn data(&self, number: u64) -> String {
        format!("{}:{number}", self.id)
    }

    /// Sends what is on its way, over a new connection if there is none.
    fn send(&mut self, universe: &Universe) {
        let Some((channel, number)) = self.current else { return };
        let data = self.data(number);
        let body = json!({
            "name": "e", "channel": name(channel), "data": data, "info": "subscription_count",
            "idempotency_key": data, "extras": { "push": { "title": data, "body": "b" } },
        });
        let (path, body) = ("/apps/app-id/events", body.to_string());
        let wall = universe.world.now().wall;
        let query = sign::sign_request(&universe.app, "POST", path, &[], body.as_bytes(), wall);
        let socket = self.socket.get_or_insert_with(|| universe.connect());
        let length = body.len();
        let head = format!(
            "POST {path}?{query} HTTP/1.1\r\nHost: sim\r\nContent-Length: {length}\r\n\r\n"
        );
        socket.send(head.as_bytes());
        socket.send(body.as_bytes());
    }

    /// Channel, data and serial of what was acknowledged just now.
    fn take_in(&mut self, _: &Universe) -> Option<(usize, String, u64)> {
        let socket = self.socket.as_ref()?;
        self.received.extend(socket.received());
        let text = String::from_utf8_lossy(&self.received).into_owned();
        let (head, body) = text.split_once("\r\n\r\n")?;
        let body: Value = serde_json::from_str(body).ok()?;
        self.received.clear();
        let (channel, number) = self.current.expect("who is answered has asked");
        if !head.starts_with("HTTP/1.1 200 ") {
            assert!(head.starts_with("HTTP/1.1 503 "), "{text}");
            self.refused += 1;
            // Again, a little later.
            self.socket = None;
            return None;
        }
        self.current = None;
        let told = &body["channels"][name(channel)];
        assert_eq!(told["mode"], "durable", "{text}");
        self.repeated += u64::from(told["repeated"] == true);
        Some((channel, self.data(number), told["history_serial"].as_u64().expect("a serial")))
    }
}

fn run(seed: u64) -> Exercised {
    let mut scene = Scene::new(seed);
    for _ in 0..4_000 {
        scene.act();
    }
    let exercised = scene.check();
    scene.listeners.iter_mut().for_each(Listener::cut);
    scene.publishers.iter_mut().for_each(|it| {
        if let Some(socket) = it.socket.take() {
            socket.reset();
        }
    });
    // Until the last key is forgotten.
    scene.universe.pass(Duration::from_secs(31 * 24 * 3600));
    assert_eq!(scene.universe.held(), Default::default());
    exercised
}

#[test]
fn a_crash_loses_nothing_that_was_acknowledged() {
    if let Some(seed) = crate::variable("RINGMAIN_SEED") {
        println!("{:?}", run(seed));
        return;
    }
    let mut total = Exercised::default();
    for seed in 0..crate::variable("RINGMAIN_SEEDS").unwrap_or(60) {
        let exercised = std::panic::catch_unwind(|| run(seed));
        let exercised =
            exercised.unwrap_or_else(|_| panic!("seed {seed}: RINGMAIN_SEED={seed} replays it"));
        total.crashes += exercised.crashes;
        total.heard += exercised.heard;
        total.replayed += exercised.replayed;
        total.resumed += exercised.resumed;
        total.acknowledged += exercised.acknowledged;
        total.repeated += exercised.repeated;
        total.refused += exercised.refused;
    }
    println!("{total:?}");
    for (what, count) in [
        ("crashes", total.crashes),
        ("replayed", total.replayed),
        ("resumed", total.resumed),
        ("acknowledged", total.acknowledged),
        ("repeated", total.repeated),
        ("refused", total.refused),
    ] {
        assert!(count > 40, "hardly any {what}: {total:?}");
    }
}
