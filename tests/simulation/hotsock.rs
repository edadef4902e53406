//! Hotsock's peers on servers that crash with whatever their disk has: they come and go, publish what is stored, set
//! values and are present; a back end publishes and sets until it is acknowledged.
//!
//! Checked: in each subscription ids go up, nothing comes twice and no number of a back end is missing; whoever comes
//! or goes is told to everyone once, with everyone who is there then; what was acknowledged is listed after every
//! crash, once; what observers were told last is what is stored; and once all have gone, nothing is held.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ringmain::base::time::Millis;
use ringmain::config::load::{Sources, load};
use ringmain::config::{Config, Machine};
use ringmain::reactor::sim::{Faults, SimClient};
use ringmain::store::memory::Memory;
use serde_json::{Value, json};

use crate::link::Link;
use crate::universe::Universe;
use crate::{mint, tell};

const ROOMS: u64 = 2;
const PEERS: usize = 8;
/// Users are fewer than peers: some have two tabs.
const USERS: usize = 5;
const BACK_ENDS: usize = 2;
const SECRET: &str = "a secret for the tokens of the tests";
const KEY: &str = "a-bearer-key-of-the-tests";
/// A page of messages holds as many.
const PAGE: usize = 100;

const SETTINGS: &str = r#"
[hotsock]
app = "one"
connection_lifetime_s = 2592000
idle_s = 86400
[[hotsock.keys]]
method = "HS256"
key_base64 = "YSBzZWNyZXQgZm9yIHRoZSB0b2tlbnMgb2YgdGhlIHRlc3Rz"
[[hotsock.api_keys]]
key = "a-bearer-key-of-the-tests"
[[apps]]
id = "one"
key = "app-key"
secret = "app-secret"
"#;

fn config() -> Config {
    let sources = Sources {
        file: Some(("simulation.toml".into(), SETTINGS.into())),
        environment: Vec::new(),
        flags: Vec::new(),
        machine: Machine::small(),
        sections: ringmain::dialects::SECTIONS,
    };
    let mut config = load(&sources).expect("these settings are good").config;
    config.limits.spin_us = 0;
    config.limits.mailbox_slots = 16;
    let month = Millis(30 * 24 * 3_600_000);
    config.http.idle_timeout = month;
    config.http.head_timeout = month;
    config.http.body_timeout = month;
    config
}

fn room(n: usize) -> String {
    format!("room.{n}")
}

/// One peer, over many connections; each subscribes one room and the presence channel.
struct Peer {
    name: String,
    user: String,
    room: usize,
    link: Option<Link>,
    run: Run,
    /// How many messages it has sent.
    sent: u64,
    /// The store fails now and then.
    bears_failures: bool,
}

/// What a connection has heard.
#[derive(Default)]
struct Run {
    credentials: Option<(String, String)>,
    is_present: bool,
    last_id: String,
    /// The last number of each publisher.
    numbers: BTreeMap<String, u64>,
    members: Vec<String>,
    value: Option<Value>,
}

/// One who publishes and sets, each until it is acknowledged.
struct BackEnd {
    name: String,
    socket: Option<SimClient>,
    received: Vec<u8>,
    /// What is on its way: its room, its number, and whether it is a value.
    current: Option<(usize, u64, bool)>,
    /// It was sent more than once: it may be there as often.
    is_unsure: bool,
    next: [u64; ROOMS as usize],
}

#[derive(Debug, Default)]
struct Exercised {
    crashes: u64,
    heard: u64,
    acknowledged: u64,
    refused: u64,
    presence: u64,
    values: u64,
    observed: u64,
}

struct Scene {
    seed: u64,
    disk: Memory,
    universe: Universe,
    peers: Vec<Peer>,
    back_ends: Vec<BackEnd>,
    /// By room: the ids of numbered messages that were acknowledged.
    acknowledged: Vec<BTreeMap<String, String>>,
    /// By room: the numbers that may be there more than once, or not at all.
    unsure: BTreeSet<(usize, String)>,
    /// By room and back end: the newest value that was acknowledged.
    values: BTreeMap<(usize, usize), u64>,
    exercised: Exercised,
}

impl Scene {
    fn universe(seed: u64, crashes: u64, disk: &Memory) -> Universe {
        let faults = if seed.is_multiple_of(3) { Faults::none() } else { Faults::slow() };
        let shards = 1 + (seed % 3) as u16;
        let mut universe = Universe::on_disk(seed ^ crashes << 40, faults, config(), shards, disk);
        universe.store_fails = seed % 2 == 1;
        universe
    }

    fn new(seed: u64) -> Self {
        let disk = Memory::default();
        let peer = |n: usize| Peer {
            name: format!("p{n}"),
            user: format!("u{}", n % USERS),
            room: n % ROOMS as usize,
            link: None,
            run: Run::default(),
            sent: 0,
            bears_failures: seed % 2 == 1,
        };
        let back_end = |n: usize| BackEnd {
            name: format!("b{n}"),
            socket: None,
            received: Vec::new(),
            current: None,
            is_unsure: false,
            next: [1; ROOMS as usize],
        };
        Self {
            seed,
            universe: Self::universe(seed, 0, &disk),
            disk,
            peers: (0..PEERS).map(peer).collect(),
            back_ends: (0..BACK_ENDS).map(back_end).collect(),
            acknowledged: vec![BTreeMap::new(); ROOMS as usize],
            unsure: BTreeSet::new(),
            values: BTreeMap::new(),
            exercised: Exercised::default(),
        }
    }

    fn draw(&self, below: u64) -> u64 {
        self.universe.world.draw(below)
    }

    fn act(&mut self) {
        match self.draw(200) {
            0..8 => {
                let at = self.draw(PEERS as u64) as usize;
                self.connect(at);
            }
            8..11 => {
                let at = self.draw(PEERS as u64) as usize;
                if let Some(link) = self.peers[at].link.take() {
                    link.socket.reset();
                }
            }
            11..22 => {
                let at = self.draw(PEERS as u64) as usize;
                let is_quiet = self.draw(2) == 0;
                self.peers[at].speak(is_quiet);
            }
            22..45 => {
                let at = self.draw(BACK_ENDS as u64) as usize;
                self.ask(at);
            }
            45..75 => self.universe.step_store(),
            75..85 => self.universe.advance(),
            85 if self.draw(3) == 0 => self.crash(),
            _ => self.universe.tick(),
        }
        self.take_in();
    }

    fn connect(&mut self, at: usize) {
        let peer = &mut self.peers[at];
        if peer.link.is_some() {
            return;
        }
        let all = json!({ "subscribe": true, "historyStart": 0,
            "messages": { "e": { "publish": true, "echo": true, "store": -1 }, "quiet": { "publish": true } },
            "storage": { "*": { "observe": true } } });
        let exp = self.universe.world.now().wall.seconds() + 3600;
        let claims = json!({ "exp": exp, "scope": "connect", "uid": peer.user,
            "channels": { "room.*": all, "presence.p": { "autoSubscribe": true } } });
        let token = mint::token(&claims.to_string(), SECRET.as_bytes());
        let link = Link::open(&self.universe, &format!("/v1?token={token}"));
        // Before it is greeted, as the official client does when it comes back.
        (peer.link, peer.run) = (Some(link), Run::default());
    }

    /// The process ends between two instructions, and another comes after it.
    fn crash(&mut self) {
        self.exercised.crashes += 1;
        tell!(self.universe.world, "crash");
        self.peers.iter_mut().for_each(|it| it.link = None);
        for back_end in &mut self.back_ends {
            (back_end.socket, back_end.received) = (None, Vec::new());
        }
        self.universe = Self::universe(self.seed, self.exercised.crashes, &self.disk);
    }

    /// A back end asks for something new, or again for what was not acknowledged.
    fn ask(&mut self, at: usize) {
        let (room, is_value) = (self.draw(ROOMS) as usize, self.draw(3) == 0);
        let back_end = &mut self.back_ends[at];
        if back_end.socket.is_some() {
            return;
        }
        if back_end.current.is_none() {
            back_end.current = Some((room, back_end.next[room], is_value));
            back_end.next[room] += 1;
            back_end.is_unsure = false;
        } else {
            back_end.is_unsure = true;
        }
        back_end.send(&self.universe);
    }

    fn take_in(&mut self) {
        for peer in &mut self.peers {
            peer.take_in(&self.universe, &self.unsure, &mut self.exercised);
        }
        for (at, back_end) in self.back_ends.iter_mut().enumerate() {
            let Some((room, number, is_value)) = back_end.current else { continue };
            let data = format!("{}:{number}", back_end.name);
            if !is_value && back_end.socket.is_some() && back_end.is_unsure {
                self.unsure.insert((room, data.clone()));
            }
            match back_end.take_in() {
                None => {}
                Some(None) => {
                    self.exercised.refused += 1;
                    self.unsure.insert((room, data));
                }
                Some(Some(_)) if is_value => {
                    self.values.insert((room, at), number);
                    self.exercised.values += 1;
                }
                Some(Some(id)) => {
                    self.acknowledged[room].insert(data, id);
                    self.exercised.acknowledged += 1;
                }
            }
        }
    }

    fn rest(&mut self) {
        for _ in 0..60 {
            self.universe.pass(Duration::from_millis(200));
            self.take_in();
            for at in 0..BACK_ENDS {
                let waits = self.back_ends[at].current.is_some();
                if waits && self.back_ends[at].socket.is_none() {
                    self.ask(at);
                }
            }
        }
    }

    /// An answer to a request, after a while.
    fn request(&mut self, target: &str, fields: &str, body: &str) -> Value {
        let socket = self.universe.connect();
        let method = if body.is_empty() { "GET" } else { "POST" };
        let length = body.len();
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: sim\r\n{fields}Content-Length: {length}\r\n\r\n{body}"
        );
        socket.send(head.as_bytes());
        let mut answer = String::new();
        for _ in 0..60 {
            self.universe.pass(Duration::from_millis(200));
            answer += &String::from_utf8_lossy(&socket.received());
        }
        socket.reset();
        assert!(answer.starts_with("HTTP/1.1 200 "), "seed {}: {answer}", self.seed);
        let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
        serde_json::from_str(body).expect("JSON")
    }

    /// All that a room keeps, as one of its peers may list it.
    fn messages(&mut self, room: usize) -> Vec<(String, Value)> {
        let peer = self.peers.iter().find(|it| it.room == room).expect("every room has peers");
        let (id, secret) = peer.run.credentials.clone().expect("it was greeted");
        let id = id.replace('=', "%3D");
        let target =
            format!("/connection/listMessages?connectionId={id}&connectionSecret={secret}");
        let mut found: Vec<(String, Value)> = Vec::new();
        loop {
            let mut body = json!({ "channel": self::room(room) });
            if let Some((last, _)) = found.last() {
                body["after"] = json!(last);
            }
            let page = self.request(&target, "", &body.to_string());
            let page = page["messages"].as_array().expect("a list").clone();
            let text = |it: &Value| it["id"].as_str().expect("an id").to_owned();
            found.extend(page.iter().map(|it| (text(it), it["data"].clone())));
            if page.len() < PAGE {
                return found;
            }
        }
    }

    fn check(&mut self) {
        // Everyone comes back to a server that works.
        self.universe.store_fails = false;
        self.rest();
        (0..PEERS).for_each(|at| self.connect(at));
        self.rest();
        for back_end in &self.back_ends {
            assert!(back_end.current.is_none(), "seed {}: a back end still waits", self.seed);
        }
        for room in 0..ROOMS as usize {
            let messages = self.messages(room);
            assert!(messages.windows(2).all(|two| two[0].0 < two[1].0), "ids go up");
            let mut seen: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
            for (id, data) in &messages {
                seen.entry(data.as_str().expect("ours")).or_default().push(id);
            }
            for (data, ids) in &seen {
                let is_unsure = self.unsure.contains(&(room, (*data).to_owned()));
                assert!(ids.len() == 1 || is_unsure, "seed {}: {data} is there twice", self.seed);
            }
            for (data, id) in &self.acknowledged[room] {
                let ids = seen.get(data.as_str()).map(Vec::as_slice).unwrap_or_default();
                assert!(
                    ids.contains(&id.as_str()),
                    "seed {}: {data} was acknowledged as {id} and is {ids:?}",
                    self.seed
                );
            }
            let fields = format!("Authorization: Bearer {KEY}\r\n");
            let target = format!("/channels/{}/storage", self::room(room));
            let items = self.request(&target, &fields, "");
            let stored = items["items"].as_array().expect("a list");
            for at in 0..BACK_ENDS {
                let key = &self.back_ends[at].name;
                let value = stored.iter().find(|it| it["key"] == key.as_str());
                let value = value.and_then(|it| it["data"].as_u64()).unwrap_or(0);
                let least = self.values.get(&(room, at)).copied().unwrap_or(0);
                assert_eq!(value, least, "seed {}: {key} of room {room}", self.seed);
            }
            for peer in self.peers.iter().filter(|it| it.room == room) {
                let last = stored.iter().find(|it| it["key"] == "b0").map(|it| it["data"].clone());
                assert_eq!(peer.run.value, last, "seed {}: an observer", self.seed);
            }
        }
        let everyone: BTreeSet<_> = self.peers.iter().map(|it| it.user.clone()).collect();
        for peer in &self.peers {
            assert!(peer.run.is_present && peer.link.is_some(), "seed {}", self.seed);
            let members: BTreeSet<_> = peer.run.members.iter().cloned().collect();
            assert_eq!(members, everyone, "seed {}: who is present", self.seed);
        }
    }
}

impl Peer {
    fn speak(&mut self, is_quiet: bool) {
        let Some(link) = self.link.as_ref().filter(|it| it.is_subscribed) else { return };
        self.sent += 1;
        let event = if is_quiet { "quiet" } else { "e" };
        let data = format!("{}:{}", self.name, self.sent);
        link.say(&json!({ "event": event, "channel": room(self.room), "data": data }));
    }

    fn take_in(
        &mut self,
        universe: &Universe,
        unsure: &BTreeSet<(usize, String)>,
        exercised: &mut Exercised,
    ) {
        let Some(mut link) = self.link.take() else { return };
        if link.socket.end().is_some() {
            return;
        }
        for frame in link.messages() {
            tell!(universe.world, "{} hears {frame}", self.user);
            self.hear(&mut link, &frame, unsure, exercised);
        }
        self.link = Some(link);
    }

    fn hear(
        &mut self,
        link: &mut Link,
        frame: &Value,
        unsure: &BTreeSet<(usize, String)>,
        exercised: &mut Exercised,
    ) {
        let run = &mut self.run;
        let uid = |it: &Value| it["uid"].as_str().expect("a member has a uid").to_owned();
        let all = |it: &Value| -> Vec<String> {
            it["data"]["members"].as_array().expect("members").iter().map(uid).collect()
        };
        match frame["event"].as_str().expect("an event") {
            "hotsock.connected" => {
                let text = |name: &str| frame["data"][name].as_str().expect("a text").to_owned();
                run.credentials = Some((text("connectionId"), text("connectionSecret")));
                link.say(&json!({ "event": "hotsock.subscribe", "channel": room(self.room) }));
            }
            "hotsock.subscribed" if frame["channel"] == "presence.p" => {
                assert!(!run.is_present, "subscribed twice");
                run.is_present = true;
                run.members = all(frame);
                assert!(run.members.contains(&self.user), "not among them: {frame}");
            }
            "hotsock.subscribed" => {
                assert!(!link.is_subscribed, "subscribed twice");
                link.is_subscribed = true;
            }
            event @ ("hotsock.memberAdded" | "hotsock.memberRemoved") => {
                assert!(run.is_present, "told before it is there: {frame}");
                let user = uid(&frame["data"]["member"]);
                if event == "hotsock.memberAdded" {
                    assert!(!run.members.contains(&user), "{user} joined twice");
                    run.members.push(user);
                } else {
                    let at = run.members.iter().position(|it| *it == user);
                    run.members.remove(at.expect("who leaves was there"));
                }
                assert_eq!(run.members, all(frame), "who was told one by one");
                exercised.presence += 1;
            }
            "hotsock.channelStorageUpdated" => {
                assert!(link.is_subscribed, "told before it is there: {frame}");
                if frame["key"] == "b0" {
                    let before = run.value.replace(frame["data"].clone());
                    let number = |it: &Value| it.as_u64().expect("a number of ours");
                    let is_later = before.is_none_or(|it| number(&it) < number(&frame["data"]));
                    assert!(is_later || self.bears_failures, "out of order: {frame}");
                }
                exercised.observed += 1;
            }
            "e" | "quiet" | "n" => {
                assert!(link.is_subscribed, "told before it is there: {frame}");
                let id = frame["id"].as_str().expect("a message has an id");
                assert!(run.last_id.as_str() < id, "{id} after {}", run.last_id);
                run.last_id = id.to_owned();
                exercised.heard += 1;
                let Some((publisher, number)) =
                    frame["data"].as_str().and_then(|it| it.split_once(':'))
                else {
                    return;
                };
                let number: u64 = number.parse().expect("a number of ours");
                let last = run.numbers.insert(publisher.to_owned(), number);
                let data = (self.room, format!("{publisher}:{number}"));
                // What was refused may have been done all the same, and is asked for again.
                let is_next = last.is_none_or(|last| last < number) || unsure.contains(&data);
                assert!(is_next, "{publisher}: {number} after {last:?}");
            }
            "hotsock.error" => {
                let code = frame["error"]["code"].as_str().expect("a code");
                let is_store = ["RATE_LIMITED", "INTERNAL_ERROR"].contains(&code);
                assert!(is_store && self.bears_failures, "{frame}");
                if !link.is_subscribed || !run.is_present {
                    // It cannot go on without what was refused: it comes again.
                    link.socket.reset();
                }
            }
            other => panic!("nobody sends {other}: {frame}"),
        }
    }
}

impl BackEnd {
    /// Sends what is on its way, over a new connection.
    fn send(&mut self, universe: &Universe) {
        let Some((room, number, is_value)) = self.current else { return };
        let body = if is_value {
            json!({ "channel": self::room(room), "event": "hotsock.channelStorageSet", "key": self.name, "data": number })
        } else {
            let data = format!("{}:{number}", self.name);
            json!({ "channel": self::room(room), "event": "n", "data": data, "store": -1, "eagerIdGeneration": true })
        };
        let (body, socket) = (body.to_string(), universe.connect());
        let length = body.len();
        socket.send(
            format!(
                "POST /publish HTTP/1.1\r\nHost: sim\r\nAuthorization: Bearer {KEY}\r\nContent-Length: {length}\r\n\r\n{body}"
            )
            .as_bytes(),
        );
        self.socket = Some(socket);
    }

    /// The answer, if it has come: an id if it was acknowledged, else none.
    fn take_in(&mut self) -> Option<Option<String>> {
        let socket = self.socket.as_ref()?;
        self.received.extend(socket.received());
        let text = String::from_utf8_lossy(&self.received).into_owned();
        let (head, body) = text.split_once("\r\n\r\n")?;
        let body: Value = serde_json::from_str(body).ok()?;
        self.received.clear();
        if let Some(socket) = self.socket.take() {
            socket.reset();
        }
        if !head.starts_with("HTTP/1.1 202 ") {
            assert!(head.starts_with("HTTP/1.1 50"), "{text}");
            return Some(None);
        }
        self.current = None;
        Some(Some(body["id"].as_str().unwrap_or_default().to_owned()))
    }
}

fn run(seed: u64) -> Exercised {
    let mut scene = Scene::new(seed);
    for _ in 0..2_500 {
        scene.act();
    }
    scene.check();
    for peer in &mut scene.peers {
        if let Some(link) = peer.link.take() {
            link.socket.reset();
        }
    }
    for back_end in &mut scene.back_ends {
        if let Some(socket) = back_end.socket.take() {
            socket.reset();
        }
    }
    scene.universe.pass(Duration::from_secs(24 * 3600));
    assert_eq!(scene.universe.held(), Default::default());
    scene.exercised
}

#[test]
fn peers_of_hotsock_hear_everything_once_and_lose_nothing_acknowledged() {
    if let Some(seed) = crate::variable("RINGMAIN_SEED") {
        println!("{:?}", run(seed));
        return;
    }
    let mut total = Exercised::default();
    for seed in 0..crate::variable("RINGMAIN_SEEDS").unwrap_or(150) {
        let exercised = std::panic::catch_unwind(|| run(seed));
        let exercised =
            exercised.unwrap_or_else(|_| panic!("seed {seed}: RINGMAIN_SEED={seed} replays it"));
        total.crashes += exercised.crashes;
        total.heard += exercised.heard;
        total.acknowledged += exercised.acknowledged;
        total.refused += exercised.refused;
        total.presence += exercised.presence;
        total.values += exercised.values;
        total.observed += exercised.observed;
    }
    println!("{total:?}");
    for (what, count) in [
        ("crashes", total.crashes),
        ("heard", total.heard),
        ("acknowledged", total.acknowledged),
        ("refused", total.refused),
        ("told who came or went", total.presence),
        ("values", total.values),
        ("values observed", total.observed),
    ] {
        assert!(count > 40, "hardly any {what}: {total:?}");
    }
}
