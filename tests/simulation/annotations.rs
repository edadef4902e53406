//! Listeners with filters that change, and annotations that they find or do not: on simulated servers, each
//! listener hears exactly what its filter of the time admits, once, in the order of the stream.

use std::collections::BTreeMap;
use std::time::Duration;

use ringmain::auth::sign;
use ringmain::base::time::Millis;
use ringmain::config::Config;
use ringmain::reactor::sim::{Faults, SimClient};
use ringmain::wire::websocket::encode::{Compression, masked_frame};
use ringmain::wire::websocket::{Decoder, Opcode, Role, Step};

use crate::universe::{Sound, Universe};

const DOCUMENTS: u64 = 4;
const GROUPS: u64 = 2;

/// What a filter finds: any of these documents, or any of these groups.
#[derive(Clone, Debug, Default)]
struct Wanted {
    documents: Vec<u64>,
    groups: Vec<u64>,
}

impl Wanted {
    fn finds(&self, event: &Published) -> bool {
        self.documents.contains(&event.document) || self.groups.contains(&event.group)
    }
}

/// A filter and when it was certainly in force: from when it was answered for until the next was sent.
#[derive(Debug)]
struct Epoch {
    wanted: Wanted,
    sent: u64,
    confirmed: Option<u64>,
    ended: u64,
}

#[derive(Debug)]
struct Published {
    document: u64,
    group: u64,
    origin: Option<usize>,
    sent: u64,
    acknowledged: Option<u64>,
}

struct Listener {
    socket: SimClient,
    decoder: Decoder,
    assembly: Vec<u8>,
    head: Vec<u8>,
    is_open: bool,
    gone: bool,
    epochs: Vec<Epoch>,
    heard: Vec<usize>,
}

struct Scene {
    universe: Universe,
    step: u64,
    listeners: Vec<Listener>,
    publisher: SimClient,
    answers: Vec<u8>,
    events: Vec<Published>,
    acknowledged: usize,
}

impl Scene {
    fn new(seed: u64) -> Self {
        let mut config = Config::development();
        config.limits.spin_us = 0;
        config.limits.mailbox_slots = 16;
        // The clock jumps to what comes next, and that must not be the end of the publisher.
        let month = Millis(30 * 24 * 3_600_000);
        config.http.idle_timeout = month;
        config.http.head_timeout = month;
        config.http.body_timeout = month;
        let faults = if seed.is_multiple_of(3) { Faults::none() } else { Faults::slow() };
        let universe = Universe::new(seed, faults, config, 1 + (seed % 3) as u16, &Sound);
        let publisher = universe.connect();
        Self {
            universe,
            step: 0,
            listeners: Vec::new(),
            publisher,
            answers: Vec::new(),
            events: Vec::new(),
            acknowledged: 0,
        }
    }

    fn draw(&self, below: u64) -> u64 {
        self.universe.world.draw(below)
    }

    fn act(&mut self) {
        self.step += 1;
        match self.draw(40) {
            0 if self.listeners.len() < 12 => self.listen(),
            1 => self.leave(),
            2..6 => self.refilter(),
            6..12 => self.publish(),
            12..14 => self.universe.advance(),
            _ => self.universe.tick(),
        }
        self.take_in();
    }

    fn listen(&mut self) {
        let socket = self.universe.connect();
        socket.send(
            b"GET /ws HTTP/1.1\r\nHost: sim\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
              Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        );
        self.listeners.push(Listener {
            socket,
            decoder: Decoder::new(Role::Client, 1 << 20, false),
            assembly: Vec::new(),
            head: Vec::new(),
            is_open: false,
            gone: false,
            epochs: Vec::new(),
            heard: Vec::new(),
        });
        let name =
            format!(r#"{{"messageType":"client_id","value":"c{}"}}"#, self.listeners.len() - 1);
        self.say(self.listeners.len() - 1, &name);
    }

    fn someone(&self) -> Option<usize> {
        let at = self.draw(self.listeners.len().max(1) as u64) as usize;
        self.listeners.get(at).filter(|it| !it.gone).map(|_| at)
    }

    fn leave(&mut self) {
        let Some(at) = self.someone() else { return };
        let listener = &mut self.listeners[at];
        listener.gone = true;
        listener.socket.reset();
    }

    fn say(&self, at: usize, text: &str) {
        let frame = masked_frame(Opcode::Text, Compression::Plain, text.as_bytes(), [7; 4]);
        self.listeners[at].socket.send(&frame);
    }

    fn refilter(&mut self) {
        let Some(at) = self.someone() else { return };
        let mut wanted = Wanted::default();
        wanted.documents.extend((0..DOCUMENTS).filter(|_| self.draw(3) == 0));
        wanted.groups.extend((0..GROUPS).filter(|_| self.draw(4) == 0));
        let uris: Vec<_> =
            wanted.documents.iter().map(|it| format!("\"http://e.com/{it}\"")).collect();
        let groups: Vec<_> = wanted.groups.iter().map(|it| format!("\"{}\"", group(*it))).collect();
        self.say(at, &format!(
            r#"{{"filter":{{"match_policy":"include_any","clauses":[{{"field":"/uri","value":[{}]}},{{"field":"/group","value":[{}]}}],"actions":{{}}}}}}"#,
            uris.join(","),
            groups.join(",")
        ));
        let number = self.listeners[at].epochs.len();
        self.say(at, &format!(r#"{{"type":"whoami","id":{number}}}"#));
        let step = self.step;
        let epochs = &mut self.listeners[at].epochs;
        if let Some(last) = epochs.last_mut() {
            last.ended = step;
        }
        epochs.push(Epoch { wanted, sent: step, confirmed: None, ended: u64::MAX });
    }

    fn publish(&mut self) {
        if self.events.len() - self.acknowledged >= 8 {
            return;
        }
        let (document, group_of) = (self.draw(DOCUMENTS), self.draw(GROUPS));
        let origin = (self.draw(4) == 0).then(|| self.someone()).flatten();
        let id = self.events.len();
        let group = group(group_of);
        let src = origin.map_or("null".to_owned(), |at| format!("\"c{at}\""));
        let body = format!(
            r#"{{"action":"create","src_client_id":{src},"annotation":{{"id":"{id}","user":"acct:a@h","uri":"http://e.com/{document}","group":"{group}"}},"visibility":{{"shared":true,"group_world_readable":true}}}}"#
        );
        let path = "/apps/app-id/hypothesis/events";
        let wall = self.universe.world.now().wall;
        let query =
            sign::sign_request(&self.universe.app, "POST", path, &[], body.as_bytes(), wall);
        let length = body.len();
        let head = format!(
            "POST {path}?{query} HTTP/1.1\r\nHost: sim\r\nContent-Length: {length}\r\n\r\n"
        );
        self.publisher.send(head.as_bytes());
        self.publisher.send(body.as_bytes());
        self.events.push(Published {
            document,
            group: group_of,
            origin,
            sent: self.step,
            acknowledged: None,
        });
    }

    fn take_in(&mut self) {
        self.answers.extend(self.publisher.received());
        let answers = String::from_utf8_lossy(&self.answers).into_owned();
        let answered = answers.matches("HTTP/1.1 202 ").count();
        // The last may not be whole yet.
        let begun = answers.matches("HTTP/1.1 ").count();
        assert!(begun - answered <= usize::from(!answers.ends_with("{}")), "{answers}");
        for event in &mut self.events[self.acknowledged..answered] {
            event.acknowledged = Some(self.step);
        }
        self.acknowledged = answered;
        for listener in self.listeners.iter_mut().filter(|it| !it.gone) {
            listener.take_in(self.step);
        }
    }

    fn check(&self) -> (u64, u64) {
        let (mut must, mut must_not) = (0, 0);
        for (at, listener) in self.listeners.iter().enumerate() {
            let heard: BTreeMap<usize, usize> =
                listener.heard.iter().enumerate().map(|(i, &id)| (id, i)).collect();
            assert_eq!(heard.len(), listener.heard.len(), "{at} heard something twice");
            // Each group here is a channel, and each channel has one order.
            for group in 0..GROUPS {
                let of_group = listener.heard.iter().filter(|id| self.events[**id].group == group);
                assert!(of_group.is_sorted(), "{at} heard group {group} in another order");
            }
            for (id, event) in self.events.iter().enumerate() {
                let is_own = event.origin == Some(at);
                let found_by = |epoch: &Epoch| !is_own && epoch.wanted.finds(event);
                let acknowledged = event.acknowledged.unwrap_or(u64::MAX);
                let certain = listener.epochs.iter().find(|epoch| {
                    epoch.confirmed.is_some_and(|it| it < event.sent) && acknowledged < epoch.ended
                });
                // A filter may be in force from when it is sent until the next is answered for.
                let perhaps = (0..listener.epochs.len()).any(|i| {
                    let next = listener.epochs.get(i + 1).and_then(|it| it.confirmed);
                    let it = &listener.epochs[i];
                    it.sent < acknowledged && event.sent < next.unwrap_or(u64::MAX) && found_by(it)
                });
                match certain {
                    Some(epoch) if found_by(epoch) && !listener.gone => {
                        must += 1;
                        assert!(
                            heard.contains_key(&id),
                            "{at} missed event {id}: {epoch:?} {event:?}"
                        );
                    }
                    _ if perhaps => {}
                    _ => {
                        must_not += 1;
                        assert!(
                            !heard.contains_key(&id),
                            "{at} was not to hear event {id}: {event:?}"
                        );
                    }
                }
            }
        }
        (must, must_not)
    }
}

fn group(number: u64) -> &'static str {
    // One of them is a bridged channel.
    ["hello", "g1"][number as usize]
}

impl Listener {
    fn take_in(&mut self, step: u64) {
        let mut bytes = self.socket.received();
        if !self.is_open {
            self.head.extend_from_slice(&bytes);
            let Some(end) = self.head.windows(4).position(|it| it == b"\r\n\r\n") else { return };
            self.is_open = true;
            bytes = self.head.split_off(end + 4);
        }
        let mut input = &mut bytes[..];
        loop {
            match self.decoder.next(&mut input, &mut self.assembly) {
                Ok(Step::NeedMore) => return,
                Ok(Step::Ping(payload)) => {
                    let pong = masked_frame(Opcode::Pong, Compression::Plain, payload, [0; 4]);
                    self.socket.send(&pong);
                }
                Ok(Step::Text(text)) => {
                    let message: serde_json::Value = serde_json::from_str(text).expect("JSON");
                    match message["type"].as_str() {
                        Some("whoyouare") => {
                            let number = message["reply_to"].as_u64().expect("a number") as usize;
                            self.epochs[number].confirmed = Some(step);
                        }
                        Some("annotation-notification") => {
                            let id = message["payload"][0]["id"].as_str().expect("an id");
                            self.heard.push(id.parse().expect("a number"));
                        }
                        _ => panic!("nobody sends {text}"),
                    }
                }
                other => panic!("nobody sends {other:?}"),
            }
        }
    }
}

fn run(seed: u64) -> (u64, u64) {
    let mut scene = Scene::new(seed);
    for _ in 0..1500 {
        scene.act();
    }
    for _ in 0..100 {
        scene.universe.pass(Duration::from_millis(100));
        scene.step += 1;
        scene.take_in();
    }
    assert_eq!(scene.acknowledged, scene.events.len(), "every publish is answered");
    let checked = scene.check();
    scene.listeners.iter().for_each(|it| it.socket.reset());
    scene.publisher.reset();
    scene.universe.pass(Duration::from_secs(24 * 3600));
    assert_eq!(scene.universe.held(), Default::default());
    checked
}

#[test]
fn listeners_hear_what_their_filters_admit() {
    if let Some(seed) = crate::variable("RINGMAIN_SEED") {
        println!("{:?}", run(seed));
        return;
    }
    let (mut must, mut must_not) = (0, 0);
    for seed in 0..crate::variable("RINGMAIN_SEEDS").unwrap_or(40) {
        let checked = std::panic::catch_unwind(|| run(seed));
        let checked =
            checked.unwrap_or_else(|_| panic!("seed {seed}: RINGMAIN_SEED={seed} replays it"));
        must += checked.0;
        must_not += checked.1;
    }
    println!("{must} that had to be heard, {must_not} that must not");
    assert!(must > 1000 && must_not > 1000, "{must}, {must_not}");
}
