//! Peers of protocol 2 on servers that crash with whatever their disk has: they come, stall, go and continue where they
//! were, on channels in memory and on disk, while back ends publish, change and annotate, each until it is
//! acknowledged.
//!
//! Checked: a peer hears every version after its first in order, but for the places that annotations have; what it
//! makes of them is what the server says each message is, whether it came early, late, or looked back; everything
//! acknowledged is there once, where it was said to be; and what a peer was told last of a message's annotations is what
//! counting them again comes to.

mod back_end;
mod peer;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ringmain::auth::sign;
use ringmain::base::time::Millis;
use ringmain::config::Config;
use ringmain::config::history::History;
use ringmain::reactor::sim::{Faults, SimClient};
use ringmain::store::memory::Memory;
use serde_json::{Value, json};

use back_end::{Ask, BackEnd, body};
use peer::{Messages, Peer, Summaries};

use crate::tell;
use crate::universe::Universe;

const CHANNELS: [&str; 4] = ["durable-0", "durable-1", "room", "private-room"];
const PEERS: usize = 14;
/// The last ones are told of each annotation.
const PEERS_RAW: usize = 4;
const BACK_ENDS: usize = 4;
/// Places of a channel that are taken at most: one in memory keeps as many, and a page holds its messages.
const EVENTS_MAX: u64 = 90;
const TYPES: [&str; 4] = ["a:total.v1", "b:flag.v1", "c:distinct.v1", "d:multiple.v1"];

fn is_durable(channel: usize) -> bool {
    CHANNELS[channel].starts_with("durable-")
}

fn config(seed: u64) -> Config {
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
    let mut history = History { idempotency_window: month, ..History::of(&config) };
    // The clock may jump by an hour, which is the age of what is in memory.
    history.channels.iter_mut().for_each(|it| it.age = month);
    // With a small window a process that comes after another finds little of what it asks for without the disk.
    if seed % 4 < 2 {
        history.window_events = 4;
    }
    config.sections.set(history);
    config
}

/// What was acknowledged of a channel.
#[derive(Default)]
struct Acknowledged {
    messages: Vec<String>,
    /// By serial: the action, and the message it was of.
    versions: BTreeMap<u64, (&'static str, String)>,
    annotations: BTreeMap<String, String>,
    taken_back: BTreeSet<String>,
}

#[derive(Debug, Default)]
struct Exercised {
    crashes: u64,
    heard: u64,
    replayed: u64,
    looked_back: u64,
    resumed: u64,
    reset: u64,
    versions: u64,
    annotations: u64,
    repeated: u64,
    refused: u64,
    holes: u64,
    summaries: u64,
    raw: u64,
}

struct Scene {
    seed: u64,
    disk: Memory,
    universe: Universe,
    peers: Vec<Peer>,
    back_ends: Vec<BackEnd>,
    acknowledged: Vec<Acknowledged>,
    asked: [u64; CHANNELS.len()],
    exercised: Exercised,
}

impl Scene {
    fn universe(seed: u64, crashes: u64, disk: &Memory) -> Universe {
        let faults = if seed.is_multiple_of(3) { Faults::none() } else { Faults::slow() };
        let shards = 1 + (seed % 3) as u16;
        let mut universe =
            Universe::on_disk(seed ^ crashes << 40, faults, config(seed), shards, disk);
        universe.store_fails = seed % 2 == 1;
        universe
    }

    fn new(seed: u64) -> Self {
        let disk = Memory::default();
        let peer = |n: usize| Peer {
            channel: n % CHANNELS.len(),
            is_full: n.is_multiple_of(3),
            looks_back: n.is_multiple_of(2) && n + PEERS_RAW < PEERS,
            is_raw: n + PEERS_RAW >= PEERS,
            link: None,
            stalled: false,
            leaves: false,
            socket_id: String::new(),
            position: None,
            rewinds: false,
            heard: BTreeSet::new(),
            first: None,
            messages: Messages::new(),
            summaries: Summaries::new(),
            said: 0,
        };
        let back_end =
            |id| BackEnd { id, socket: None, received: Vec::new(), current: None, next: 0 };
        Self {
            seed,
            universe: Self::universe(seed, 0, &disk),
            disk,
            peers: (0..PEERS).map(peer).collect(),
            back_ends: (0..BACK_ENDS).map(back_end).collect(),
            acknowledged: CHANNELS.map(|_| Acknowledged::default()).into(),
            asked: [0; CHANNELS.len()],
            exercised: Exercised::default(),
        }
    }

    fn draw(&self, below: u64) -> u64 {
        self.universe.world.draw(below)
    }

    fn act(&mut self) {
        let someone = self.draw(PEERS as u64) as usize;
        match self.draw(200) {
            0..14 => self.peers[someone].connect(&self.universe),
            14..16 => self.peers[someone].cut(),
            16 => {
                // Another comes in its place.
                self.peers[someone].cut();
                if self.draw(2) == 0 {
                    self.peers[someone].forget();
                }
            }
            17..19 => self.peers[someone].stall(),
            19..24 => self.say(someone),
            24 if self.draw(4) == 0 => self.universe.neglect_one(),
            24..60 => {
                let at = self.draw(BACK_ENDS as u64) as usize;
                self.ask(at);
            }
            60..90 => self.universe.step_store(),
            90..140 => self.universe.advance(),
            140 if self.draw(10) == 0 => self.crash(),
            _ => self.universe.tick(),
        }
        self.take_in();
    }

    /// The process ends between two instructions, and another comes after it; what was in memory is gone.
    fn crash(&mut self) {
        self.exercised.crashes += 1;
        tell!(self.universe.world, "crash");
        self.peers.iter_mut().for_each(|it| it.link = None);
        for back_end in &mut self.back_ends {
            (back_end.socket, back_end.received) = (None, Vec::new());
            // What may have been done, and cannot be told from what was not, is not asked for again.
            let is_over = |(channel, _, ask): &(usize, u64, Ask)| {
                !is_durable(*channel) || matches!(ask, Ask::Annotate { .. })
            };
            if back_end.current.as_ref().is_some_and(is_over) {
                back_end.current = None;
            }
        }
        for channel in (0..CHANNELS.len()).filter(|it| !is_durable(*it)) {
            self.acknowledged[channel] = Acknowledged::default();
            self.asked[channel] = 0;
        }
        self.universe = Self::universe(self.seed, self.exercised.crashes, &self.disk);
    }

    /// A peer publishes itself, where it may.
    fn say(&mut self, at: usize) {
        let peer = &mut self.peers[at];
        let name = CHANNELS[peer.channel];
        let Some(link) = peer.link.as_ref().filter(|it| it.is_subscribed) else { return };
        if !name.starts_with("private-") || self.asked[peer.channel] >= EVENTS_MAX {
            return;
        }
        self.asked[peer.channel] += 1;
        peer.said += 1;
        let data = format!("peer {at}: {}", peer.said);
        link.say(&json!({ "event": "client-e", "channel": name, "data": data }));
    }

    /// A back end asks for something new, or again for what was not acknowledged.
    fn ask(&mut self, at: usize) {
        if self.back_ends[at].socket.is_some() {
            return;
        }
        if self.back_ends[at].current.is_none() {
            let channel = self.draw(CHANNELS.len() as u64) as usize;
            if self.asked[channel] >= EVENTS_MAX {
                return;
            }
            self.asked[channel] += 1;
            let ask = self.something(channel);
            let back_end = &mut self.back_ends[at];
            back_end.current = Some((channel, back_end.next, ask));
            back_end.next += 1;
        }
        self.back_ends[at].send(&self.universe);
    }

    fn something(&self, channel: usize) -> Ask {
        let known = &self.acknowledged[channel];
        let what = self.draw(20);
        if known.messages.is_empty() || what < 5 {
            return Ask::Publish;
        }
        let message = known.messages[self.draw(known.messages.len() as u64) as usize].clone();
        match what {
            5..11 => Ask::Change { message, action: "append" },
            11..13 => Ask::Change { message, action: "update" },
            13 => Ask::Change { message, action: "delete" },
            14 if !known.annotations.is_empty() => {
                let at = self.draw(known.annotations.len() as u64) as usize;
                let (annotation, message) = known.annotations.iter().nth(at).expect("it is drawn");
                Ask::TakeBack { message: message.clone(), annotation: annotation.clone() }
            }
            _ => Ask::Annotate { message, kind: TYPES[self.draw(4) as usize] },
        }
    }

    fn take_in(&mut self) {
        for peer in &mut self.peers {
            peer.take_in(&self.universe, &mut self.exercised);
        }
        for back_end in &mut self.back_ends {
            let Some((channel, _, ask)) = back_end.current.clone() else { continue };
            let Some((status, body)) = back_end.take_in() else { continue };
            tell!(self.universe.world, "{ask:?}: {status} {body}");
            let known = &mut self.acknowledged[channel];
            if status == "503" {
                self.exercised.refused += 1;
                if matches!(ask, Ask::Annotate { .. }) {
                    back_end.current = None;
                }
                continue;
            }
            assert_eq!(status, "200", "{ask:?}: {body}");
            back_end.current = None;
            let text = |it: &Value| it.as_str().expect("a text").to_owned();
            match ask {
                Ask::Publish => {
                    let told = &body["channels"][CHANNELS[channel]];
                    let message = text(&told["message_serial"]);
                    let serial = told["delivery_serial"].as_u64().expect("a serial");
                    self.exercised.repeated += u64::from(told["repeated"] == true);
                    let before = known.versions.insert(serial, ("create", message.clone()));
                    assert!(before.is_none(), "two events at {serial}");
                    known.messages.push(message);
                }
                Ask::Change { message, action } => {
                    assert_eq!(body["message_serial"], message.as_str());
                    let serial = body["delivery_serial"].as_u64().expect("a serial");
                    self.exercised.repeated += u64::from(body["status"] == "duplicate");
                    let before = known.versions.insert(serial, (action, message));
                    assert!(before.is_none(), "two events at {serial}");
                }
                Ask::Annotate { message, .. } => {
                    known.annotations.insert(text(&body["annotationSerial"]), message);
                }
                Ask::TakeBack { annotation, .. } => {
                    assert_eq!(body["deletedAnnotationSerial"], annotation.as_str());
                    known.taken_back.insert(annotation);
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

    /// The answers to reads that are asked all at once.
    fn read(&mut self, asks: &[String]) -> Vec<Value> {
        let sockets: Vec<_> = asks
            .iter()
            .map(|ask| {
                let (path, query) = ask.split_once('?').unwrap_or((ask, ""));
                let path = format!("/apps/app-id/channels/{path}");
                let parameters: Vec<_> =
                    query.split('&').filter_map(|it| it.split_once('=')).collect();
                let wall = self.universe.world.now().wall;
                let app = &self.universe.app;
                let query = sign::sign_request(app, "GET", &path, &parameters, b"", wall);
                let socket = self.universe.connect();
                socket.send(format!("GET {path}?{query} HTTP/1.1\r\nHost: sim\r\n\r\n").as_bytes());
                socket
            })
            .collect();
        let mut answers = vec![Vec::new(); sockets.len()];
        // A window may be as small as a byte, and each takes its time.
        for _ in 0..120 {
            self.universe.pass(Duration::from_secs(1));
            for (socket, answer) in sockets.iter().zip(&mut answers) {
                answer.extend(socket.received());
            }
            if answers.iter().all(|it| body(it).is_some()) {
                break;
            }
        }
        sockets.iter().for_each(SimClient::reset);
        let bodies = answers.iter().zip(asks).map(|(answer, ask)| {
            assert!(answer.starts_with(b"HTTP/1.1 200 "), "{ask}: {answer:?}");
            body(answer).unwrap_or_else(|| panic!("{ask}: {answer:?}"))
        });
        bodies.collect()
    }

    fn check(&mut self) {
        // Everyone comes back to a server that works.
        self.universe.store_fails = false;
        for peer in &mut self.peers {
            peer.cut();
        }
        self.rest();
        // Who was reset comes once more.
        for _ in 0..2 {
            self.peers.iter_mut().for_each(|it| it.connect(&self.universe));
            self.rest();
        }
        for back_end in &self.back_ends {
            assert!(back_end.current.is_none(), "back end {} still waits", back_end.id);
        }
        for channel in 0..CHANNELS.len() {
            self.check_channel(channel);
        }
    }

    fn check_channel(&mut self, channel: usize) {
        let name = CHANNELS[channel];
        let history = self.read(&[format!("{name}/history?direction=oldest_first&limit=100")]);
        let history = &history[0];
        assert_eq!(history["has_more"], false, "{name}");
        let newest = history["continuity"]["newest_available_serial"].as_u64().unwrap_or(0);
        let mut latest = Messages::new();
        for item in history["items"].as_array().expect("items") {
            let headers = &item["message"]["extras"]["headers"];
            let serial = headers["sockudo_message_serial"].as_str().expect("a serial");
            latest.insert(serial.to_owned(), item["message"]["data"].clone());
        }
        let ids: Vec<_> = latest.keys().cloned().collect();
        let asks = |what: &str| -> Vec<String> {
            ids.iter().map(|it| format!("{name}/messages/{it}{what}")).collect()
        };
        let items = self.read(&asks(""));
        let versions = self.read(&asks("/versions?direction=oldest_first&limit=100"));
        let annotations = self.read(&asks("/annotations?limit=100"));

        // The versions of a message come to what it is, wherever one asks.
        let mut places = BTreeMap::new();
        for ((id, item), versions) in ids.iter().zip(&items).zip(&versions) {
            let mut data = Value::Null;
            for version in versions["items"].as_array().expect("versions") {
                let action = version["action"].as_str().expect("an action");
                data = reduced(action, &data, &version["data"]);
                let serial = version["delivery_serial"].as_u64().expect("a serial");
                let before = places.insert(serial, (action.to_owned(), id.clone()));
                assert!(before.is_none(), "{name}: two versions at {serial}");
            }
            assert_eq!(item["item"]["data"], data, "{name} {id}");
            assert_eq!(latest[id], data, "{name} {id}: in its history");
        }
        // What was acknowledged is where it was said to be; and nothing but what was asked for is there.
        let known = &self.acknowledged[channel];
        for (serial, (action, message)) in &known.versions {
            let there = places.get(serial).map(|(action, id)| (action.as_str(), id));
            assert_eq!(there, Some((*action, message)), "{name}: what is at {serial}");
        }
        let is_said = |id: &String| matches!(&latest[id], Value::String(it) if it.contains("peer"));
        let others = places.iter().filter(|(at, _)| !known.versions.contains_key(at));
        for (serial, (action, id)) in others {
            assert!(
                action == "create" && is_said(id),
                "{name}: nobody asked for {action} at {serial}"
            );
        }
        self.exercised.versions += places.len() as u64;

        // Counted again.
        let mut sums = Summaries::new();
        let mut listed = 0;
        let mut created = BTreeSet::new();
        for (id, listing) in ids.iter().zip(&annotations) {
            assert_eq!(listing["hasMore"], false);
            let events = listing["items"].as_array().expect("a list");
            listed += events.len() as u64;
            for kind in TYPES {
                let of_kind: Vec<_> = events.iter().filter(|it| it["type"] == kind).collect();
                if !of_kind.is_empty() {
                    sums.insert((id.clone(), kind.to_owned()), counted(kind, &of_kind));
                }
            }
            created
                .extend(events.iter().map(|it| it["serial"].as_str().expect("a text").to_owned()));
        }
        for annotation in known.annotations.keys() {
            assert!(created.contains(annotation), "{name}: {annotation} was acknowledged");
        }
        self.exercised.annotations += listed;
        // Every place of the stream is a version's or an annotation's.
        assert_eq!(newest, places.len() as u64 + listed, "{name}: places of its stream");

        for (at, peer) in self.peers.iter().enumerate().filter(|(_, it)| it.channel == channel) {
            let what = format!("{name}: peer {at}");
            assert!(peer.link.as_ref().is_some_and(|it| it.is_subscribed), "{what} is not there");
            if let Some(first) = peer.first {
                let is_its = |it: &u64| peer.is_raw || places.contains_key(it);
                let all: BTreeSet<_> = (first + 1..=newest).filter(is_its).collect();
                assert_eq!(peer.heard, all, "{what}, from {first} on");
                self.exercised.heard += all.len() as u64;
                self.exercised.holes += newest - first - all.len() as u64;
            }
            for (id, data) in &peer.messages {
                assert_eq!(Some(data), latest.get(id), "{what}: {id}");
            }
            if peer.looks_back {
                assert_eq!(peer.messages.len(), latest.len(), "{what}: messages");
            }
            let mut told = peer.summaries.clone();
            let mut counted = sums.clone();
            // One that came to nothing is told who was there, and nobody else.
            told.retain(|_, it| !is_nothing(it));
            counted.retain(|_, it| !is_nothing(it));
            assert_eq!(told, counted, "{what}: annotations");
            self.exercised.summaries += told.len() as u64;
        }
    }
}

/// What a message is after another version of it.
fn reduced(action: &str, before: &Value, data: &Value) -> Value {
    match (action, before, data) {
        ("append", Value::String(before), Value::String(data)) => json!(format!("{before}{data}")),
        _ => data.clone(),
    }
}

fn is_nothing(summary: &Value) -> bool {
    summary["total"] == 0 || summary.as_object().is_some_and(|it| it.is_empty())
}

/// Annotations of one type, counted: each was made by someone else, who is named `one` or `two`.
fn counted(kind: &str, events: &[&Value]) -> Value {
    let clients = |name: Option<&str>| {
        let mut there: Vec<&str> = Vec::new();
        for event in events.iter().filter(|it| name.is_none_or(|name| it["name"] == name)) {
            let client = event["clientId"].as_str().expect("a client");
            match event["action"].as_str() {
                Some("annotation.create") => there.push(client),
                _ => there.retain(|it| *it != client),
            }
        }
        there.sort();
        there
    };
    let listed =
        |there: &[&str]| json!({ "total": there.len(), "clientIds": there, "clipped": false });
    let by_name = |what: &dyn Fn(&[&str]) -> Value| {
        let named = ["one", "two"].map(|it| (it.to_owned(), clients(Some(it))));
        let named = named.into_iter().filter(|(_, there)| !there.is_empty());
        Value::Object(named.map(|(name, there)| (name, what(&there))).collect())
    };
    match &kind[..2] {
        "a:" => json!({ "total": clients(None).len() }),
        "b:" => listed(&clients(None)),
        "c:" => by_name(&listed),
        _ => by_name(&|there| {
            let counts: serde_json::Map<_, _> =
                there.iter().map(|it| ((*it).to_owned(), json!(2))).collect();
            json!({
                "total": 2 * there.len(), "clientCounts": counts, "totalUnidentified": 0,
                "totalClientIds": there.len(), "clipped": false,
            })
        }),
    }
}

/// A summary with its clients in the order of their names, and without names that nobody has.
fn sorted(mut summary: Value) -> Value {
    if let Some(ids) = summary.get_mut("clientIds").and_then(Value::as_array_mut) {
        ids.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
    } else if let Some(members) = summary.as_object_mut() {
        members.retain(|_, it| it["total"] != 0);
        members.values_mut().filter(|it| it.is_object()).for_each(|it| *it = sorted(it.take()));
    }
    summary
}

fn run(seed: u64) -> Exercised {
    let mut scene = Scene::new(seed);
    for _ in 0..9_000 {
        scene.act();
    }
    scene.check();
    scene.peers.iter_mut().for_each(Peer::cut);
    // Until all is too old.
    scene.universe.pass(Duration::from_secs(62 * 24 * 3600));
    assert_eq!(scene.universe.held(), Default::default());
    scene.exercised
}

#[test]
fn peers_of_protocol_2_make_of_what_they_hear_what_is_there() {
    if let Some(seed) = crate::variable("RINGMAIN_SEED") {
        println!("{:?}", run(seed));
        return;
    }
    let mut total = Exercised::default();
    for seed in 0..crate::variable("RINGMAIN_SEEDS").unwrap_or(24) {
        let it = std::panic::catch_unwind(|| run(seed));
        let it = it.unwrap_or_else(|_| panic!("seed {seed}: RINGMAIN_SEED={seed} replays it"));
        total.crashes += it.crashes;
        total.heard += it.heard;
        total.replayed += it.replayed;
        total.looked_back += it.looked_back;
        total.resumed += it.resumed;
        total.reset += it.reset;
        total.versions += it.versions;
        total.annotations += it.annotations;
        total.repeated += it.repeated;
        total.refused += it.refused;
        total.holes += it.holes;
        total.summaries += it.summaries;
        total.raw += it.raw;
    }
    println!("{total:?}");
    for (what, count) in [
        ("crashes", total.crashes),
        ("versions heard", total.heard),
        ("replayed", total.replayed),
        ("messages of the past", total.looked_back),
        ("resumed", total.resumed),
        ("streams that were reset", total.reset),
        ("versions", total.versions),
        ("annotations", total.annotations),
        ("repeated", total.repeated),
        ("refused", total.refused),
        ("holes", total.holes),
        ("summaries", total.summaries),
        ("annotations heard one by one", total.raw),
    ] {
        assert!(count > 20, "hardly any {what}: {total:?}");
    }
}
