//! Homes that keep messages, reactions and values beside history, on the same store: it fails, and the process crashes.
//!
//! Everything is reported to the world outside, in the batch that writes it: so the outbox, read from the beginning,
//! says what should be there. Checked: it is what homes say is there; what was acknowledged is in it, once, what was
//! refused is not; observers know each value; ids and changes come in order, and no retained message twice.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::broker::state::{
    AdmitKey, Keys, React, Reaction, Retained, RetainedQuery, SetValue, Value, ValueChange,
    ValuesQuery,
};
use crate::broker::{Keep, Report, report};
use crate::store::Shelf;
use crate::wire::json::same_value;

mod checks;

const STEPS: usize = 400;
const SEEDS: u64 = 500;
const CLIENTS: usize = 4;
const NAMES: [&str; 4] = ["plain-a", "plain-b", "memory-a", "durable-a"];
const KEYS: [&str; 3] = ["a", "b", "c/é"];
const USERS: [&str; 2] = ["ann", "bob"];

fn channel(n: usize) -> Channel {
    Channel { app: AppIndex(0), name: NAMES[n].into() }
}

fn payload(text: &str) -> Payload {
    Payload(Bytes::from(text.to_owned()))
}

/// What is set as a value by the operation of a number.
fn data_number(number: usize) -> String {
    (number + 1_000).to_string()
}

/// Whether a change is one.
fn is_other(change: &ValueChange) -> bool {
    match (&change.data, &change.previous) {
        (Some(data), Some(previous)) => !same_value(&data.0, &previous.0),
        (data, previous) => data != previous,
    }
}

fn text(payload: &Payload) -> String {
    String::from_utf8_lossy(&payload.0).into_owned()
}

struct Every;

impl AdmitKey for Every {
    fn admit(&self, _: &str) -> bool {
        true
    }
}

/// Says everything that happened in the report.
struct Reporter;

impl Render for Reporter {
    fn render(&self, _: LaneId, _: &Event) -> Option<Bytes> {
        Some(Bytes::from_static(b"x"))
    }

    fn reports(&self) -> bool {
        true
    }

    fn report(&self, event: &Event, about: Option<&Payload>, out: &mut Vec<Report>) {
        let Some(about) = about else { return };
        let mut fields: Vec<(&'static str, Box<str>)> =
            vec![("channel", (&*event.channel.name).into()), ("id", event.id.to_string().into())];
        let kind = match &event.happening {
            Happening::Message { name, data, .. } => {
                fields.push(("data", text(data).into()));
                name.clone()
            }
            Happening::ValueChanged(change) => {
                fields.push(("key", (&*change.key).into()));
                fields.extend(change.data.iter().map(|it| ("data", text(it).into())));
                fields.extend(change.previous.iter().map(|it| ("previous", text(it).into())));
                if change.is_expired { "expired".into() } else { "value".into() }
            }
            other => panic!("{other:?} is reported without a word"),
        };
        let (app, channel) = (event.channel.app, Some(event.channel.name.clone()));
        out.push(Report { app, kind, channel, fields, body: about.clone() });
    }
}

/// What was asked.
#[derive(Clone, Debug)]
enum Act {
    Publish { is_retained: bool, is_pushed: bool, key: Option<String> },
    Set { key: usize, data: Option<String> },
    React { message: EventId, is_added: bool },
    Read,
}

#[derive(Clone, Debug)]
struct Sent {
    channel: usize,
    act: Act,
    keep: Keep,
    told: Option<Result<EventId, Refusal>>,
    /// How often nobody knew what became of it.
    unknown: u64,
}

struct Client {
    channel: usize,
    stage: ClientStage,
    ticket: u32,
    last: EventId,
    heard: BTreeSet<String>,
    view: BTreeMap<String, String>,
}

/// What the outbox says of a channel.
#[derive(Debug, Default)]
struct Told {
    messages: BTreeMap<EventId, String>,
    values: BTreeMap<String, String>,
    /// By message: what, and who.
    reactions: BTreeMap<EventId, BTreeSet<String>>,
    /// How often each value was set, and each message published.
    times: BTreeMap<String, u64>,
}

#[derive(Debug, Default)]
struct Counts {
    retained: u64,
    values: u64,
    unchanged: u64,
    cleared: u64,
    expired: u64,
    reacted: u64,
    taken_back: u64,
    observed: u64,
    refused: u64,
    repeated: u64,
    pushed: u64,
    /// Notifications of which nobody was told that they are on the queue.
    pushed_unknown: u64,
}

struct Scene {
    seed: u64,
    chance: Prng,
    slots: Arc<Slots>,
    rules: Arc<Rules>,
    homes: Vec<Home>,
    store: SlowStore,
    downs: Vec<VecDeque<Down>>,
    clients: Vec<Client>,
    sent: Vec<Sent>,
    now: Now,
    crashes: u64,
    counts: Counts,
    values: Option<Vec<Value>>,
    retained: Option<Vec<Retained>>,
}

impl Scene {
    fn new(seed: u64) -> Self {
        let rule = |mode, events_max| Rule { mode, age: Millis(0), events_max, bytes_max: 0 };
        let rules = AppRules {
            id: "app".into(),
            rules: vec![
                (Pattern("durable-*".into()), rule(Mode::Durable, 0)),
                (Pattern("memory-*".into()), rule(Mode::Memory, MEMORY_EVENTS)),
            ],
        };
        let client = |n| Client {
            channel: n % NAMES.len(),
            stage: ClientStage::Away,
            ticket: 0,
            last: EventId(0),
            heard: BTreeSet::new(),
            view: BTreeMap::new(),
        };
        let mut scene = Self {
            seed,
            chance: Prng::new(seed),
            slots: Arc::new(Slots::new(SHARDS, [seed, 1])),
            rules: Rules::new(vec![rules]),
            homes: Vec::new(),
            store: SlowStore::open(Memory::default()),
            downs: (0..SHARDS).map(|_| VecDeque::new()).collect(),
            clients: (0..CLIENTS).map(client).collect(),
            sent: Vec::new(),
            now: BEGIN,
            crashes: 0,
            counts: Counts::default(),
            values: None,
            retained: None,
        };
        scene.start_homes();
        scene
    }

    fn start_homes(&mut self) {
        let home = |shard: u16| {
            Home::new(Arc::clone(&self.slots), Limits { channels_max: 100 }).keeping(Keeping {
                rules: Arc::clone(&self.rules),
                shard: Some(ShardId(shard)),
                origin: self.now,
                seed: self.seed ^ self.crashes << 32 ^ u64::from(shard),
                window_events: WINDOW_EVENTS,
                ..Keeping::default()
            })
        };
        self.homes = (0..SHARDS).map(home).collect();
    }

    fn connection(n: usize) -> ConnectionId {
        ConnectionId { shard: ShardId(n as u16 % SHARDS), slot: n as u32, generation: 1 }
    }

    fn up(&mut self, to: &Channel, from: ConnectionId, ticket: u32, command: Command) {
        let home = self.slots.home_of(to).index();
        tell!("up {from} {ticket} {command:?}");
        let up = Up::Ask { from, ticket: Ticket(ticket), command };
        let mut out = Vec::new();
        self.homes[home].handle(up, from.shard, self.now, &Reporter, &mut out);
        self.post(home, out);
    }

    fn post(&mut self, home: usize, out: Vec<(ShardId, Down)>) {
        for (shard, down) in out {
            self.downs[shard.index()].push_back(down);
        }
        while let Some((tag, ask)) = self.homes[home].next_ask() {
            tell!("ask {home} {tag} {ask:?}");
            self.store.ask(home, tag, ask);
        }
    }

    fn subscribe(&mut self, n: usize) {
        let client = &mut self.clients[n];
        if client.stage != ClientStage::Away {
            return;
        }
        client.stage = ClientStage::Asked(false);
        client.ticket += 1;
        client.view.clear();
        let (ticket, at) = (client.ticket, client.channel);
        let values = Some(Keys(Arc::new(Every)));
        let subscribe = Subscribe { values, ..Subscribe::new(channel(at), LaneId(0)) };
        let command = Command::Subscribe(Box::new(subscribe));
        self.up(&channel(at), Self::connection(n), ticket, command);
    }

    fn leave(&mut self, n: usize) {
        match self.clients[n].stage {
            ClientStage::Away => {}
            ClientStage::Asked(_) => self.clients[n].stage = ClientStage::Asked(true),
            ClientStage::Here => self.detach(n),
        }
    }

    fn detach(&mut self, n: usize) {
        self.clients[n].stage = ClientStage::Away;
        let channel = channel(self.clients[n].channel);
        let home = self.slots.home_of(&channel).index();
        let up = Up::Detach(
            Box::new(Subscribe::new(channel, LaneId(0))),
            crate::broker::Parting::Unsubscribed,
        );
        let mut out = Vec::new();
        let shard = Self::connection(n).shard;
        self.homes[home].handle(up, shard, self.now, &Reporter, &mut out);
        self.post(home, out);
    }

    fn act(&mut self) {
        let at = self.chance.below(NAMES.len() as u64) as usize;
        let number = self.sent.len();
        let keep = match self.chance.below(3) {
            0 => Keep::For(Millis(1 + self.chance.below(3_000))),
            _ => Keep::Forever,
        };
        let act = match self.chance.below(10) {
            0..4 => Act::Publish {
                is_retained: self.chance.below(4) > 0,
                is_pushed: self.chance.below(2) == 0,
                key: (self.chance.below(3) == 0).then(|| format!("k{number}")),
            },
            4..8 => {
                let data = match self.chance.below(6) {
                    0 => None,
                    // Written in many ways, and the same.
                    1 => Some(["7", " 7.0", "70e-1"][self.chance.below(3) as usize].to_owned()),
                    _ => Some(data_number(number)),
                };
                Act::Set { key: self.chance.below(KEYS.len() as u64) as usize, data }
            }
            _ => {
                let of_channel = self.sent.iter().filter(|it| it.channel == at);
                let ids: Vec<_> = of_channel
                    .filter(|it| matches!(it.act, Act::Publish { is_retained: true, .. }))
                    .filter_map(|it| it.told.and_then(Result::ok))
                    .collect();
                // Mostly one of few, so that what is said is said again and taken back.
                let recent = ids.len().saturating_sub(2);
                let message = match ids.get(recent + self.chance.below(3) as usize) {
                    Some(id) => *id,
                    None => EventId(5),
                };
                Act::React { message, is_added: self.chance.below(2) == 0 }
            }
        };
        self.sent.push(Sent { channel: at, act, keep, told: None, unknown: 0 });
        self.send(number);
    }

    fn send(&mut self, number: usize) {
        let Sent { channel: at, act, keep, .. } = self.sent[number].clone();
        let channel = channel(at);
        let about = Some(payload(&number.to_string()));
        let command = match act {
            Act::Publish { is_retained, is_pushed, key } => {
                let key = key.map(|name| {
                    let (fingerprint, span) = ([number as u8; 16], Some(Millis(60_000_000)));
                    Arc::new(IdempotencyKey { name: name.as_str().into(), fingerprint, span })
                });
                let data = payload(&format!("\"{number}\""));
                let retain = is_retained.then_some(keep);
                let steady = self.now.steady;
                let publish = Publish::new(channel.clone(), "message".into(), data, steady);
                let push = about.clone().filter(|_| is_pushed);
                let report = about.filter(|_| is_retained);
                Command::Publish(Box::new(Publish { key, retain, report, push, ..publish }))
            }
            Act::Set { key, data } => Command::SetValue(Box::new(SetValue {
                channel: channel.clone(),
                key: KEYS[key].into(),
                data: data.as_deref().map(payload),
                meta: payload("null"),
                keep,
                report: about,
                quiet: false,
            })),
            Act::React { message, is_added } => {
                let user_id = USERS[number % 2].into();
                let said = format!("\"{message} {}\"", USERS[number % 2]);
                let name = if is_added { "added" } else { "removed" };
                Command::React(Box::new(React {
                    channel: channel.clone(),
                    message,
                    reaction: "+1".into(),
                    by: Arc::new(Member { user_id, info: None }),
                    is_added,
                    event: (name.into(), payload(&said)),
                    publisher: None,
                    exclude: None,
                    report: about,
                }))
            }
            Act::Read => return,
        };
        self.up(&channel, Self::connection(CLIENTS + number % 2), number as u32, command);
    }

    /// A publisher that was refused, or does not know, tries again.
    fn send_again(&mut self) {
        let from = self.sent.len().saturating_sub(12);
        if from == self.sent.len() {
            return;
        }
        let number = from + self.chance.below((self.sent.len() - from) as u64) as usize;
        if matches!(self.sent[number].act, Act::Publish { key: Some(_), .. }) {
            // Of the second try nobody knows anything yet.
            self.sent[number].told = self.sent[number].told.filter(Result::is_ok);
            self.send(number);
        }
    }

    /// Whether the time of what was set or published with this data may be over.
    fn may_be_over(&self, data: &str) -> bool {
        let number = match data.strip_prefix('"') {
            Some(data) => data.trim_end_matches('"').parse().ok(),
            None => data.parse::<usize>().ok().and_then(|it| it.checked_sub(1_000)),
        };
        let sent = number.and_then(|it| self.sent.get(it));
        // Of what is written in many ways nobody knows who wrote it.
        sent.is_none_or(|it| it.keep != Keep::Forever) || same_value(data.as_bytes(), b"7")
    }

    fn hear(&mut self, n: usize, event: &Event) {
        let seed = self.seed;
        match &event.happening {
            Happening::Message { data, .. } => {
                let client = &mut self.clients[n];
                assert!(client.last < event.id, "seed {seed}: {n} hears {} late", event.id);
                client.last = event.id;
                if event.meta.is_none() && NAMES[client.channel] != "durable-a" {
                    let of = format!("{} {}", event.id, text(data));
                    assert!(client.heard.insert(of.clone()), "seed {seed}: {of} twice");
                }
            }
            Happening::ValueChanged(change) => {
                assert!(!change.is_expired && is_other(change), "seed {seed}: {change:?}");
                let known = self.clients[n].view.get(&*change.key).cloned();
                let previous = change.previous.as_ref().map(text);
                let is_over =
                    previous.is_none() && known.as_ref().is_some_and(|it| self.may_be_over(it));
                // Unchanged ones are not told, however they are written.
                let is_same = match (&known, &previous) {
                    (Some(known), Some(previous)) => {
                        same_value(known.as_bytes(), previous.as_bytes())
                    }
                    (known, previous) => known == previous,
                };
                assert!(is_same || is_over, "seed {seed}: {n} knew {known:?}, not {previous:?}");
                let view = &mut self.clients[n].view;
                match &change.data {
                    Some(data) => view.insert(change.key.to_string(), text(data)),
                    None => view.remove(&*change.key),
                };
            }
            other => panic!("{other:?}"),
        }
    }

    fn take_down(&mut self, shard: usize) {
        let Some(down) = self.downs[shard].pop_front() else { return };
        tell!("down {shard} {down:?}");
        match down {
            Down::Deliver(delivery) => {
                for n in 0..CLIENTS {
                    let client = &self.clients[n];
                    let is_here = client.stage == ClientStage::Here
                        && Self::connection(n).shard.index() == shard
                        && channel(client.channel) == delivery.event.channel;
                    if is_here {
                        self.hear(n, &delivery.event);
                    }
                }
            }
            Down::Attach { to, ticket, reply, .. } => {
                let n = to.slot as usize;
                assert_eq!(self.clients[n].ticket, ticket.0);
                if self.clients[n].stage == ClientStage::Asked(true) {
                    return self.detach(n);
                }
                let client = &mut self.clients[n];
                client.stage = ClientStage::Here;
                let keys: Vec<_> = reply.values.iter().map(|it| it.key.clone()).collect();
                assert!(keys.is_sorted() && !reply.has_more_values, "{keys:?}");
                let view = reply.values.iter().map(|it| (it.key.to_string(), text(&it.data)));
                client.view = view.collect();
                self.counts.observed += client.view.len() as u64;
            }
            Down::Answer { to, ticket, reply } => self.answered(to, ticket, reply),
        }
    }

    fn answered(&mut self, to: ConnectionId, ticket: Ticket, reply: Reply) {
        let n = to.slot as usize;
        if n < CLIENTS {
            assert!(matches!(reply, Reply::Refused(_)), "{reply:?}");
            self.clients[n].stage = ClientStage::Away;
            return;
        }
        let sent = self.sent.get_mut(ticket.0 as usize);
        let told = match reply {
            Reply::Published(published) => {
                self.counts.repeated += u64::from(published.is_repeated);
                Ok(published.id)
            }
            Reply::Done => Ok(EventId(0)),
            Reply::Refused(refusal) => {
                self.counts.refused += 1;
                Err(refusal)
            }
            Reply::Values(values) => {
                self.values = Some(values);
                return;
            }
            Reply::Retained(retained) => {
                self.retained = Some(retained);
                return;
            }
            other => panic!("{other:?}"),
        };
        let Some(sent) = sent.filter(|it| !matches!(it.act, Act::Read)) else { return };
        sent.unknown += u64::from(told == Err(Refusal::StoreFailed));
        match (sent.told, told) {
            (Some(Ok(before)), Ok(again)) => assert_eq!(before, again, "{sent:?}"),
            // A refusal of the second try says nothing of the first.
            (Some(Ok(_)), Err(_)) => {}
            _ => sent.told = Some(told),
        }
    }

    fn take_answer(&mut self, home: usize) {
        let Some((tag, answer)) = self.store.answers[home].pop_front() else { return };
        tell!("answer {home} {tag} {answer:?}");
        let mut out = Vec::new();
        self.homes[home].stored(tag, answer, self.now, &Reporter, &mut out);
        self.post(home, out);
    }

    fn pass(&mut self, span: Millis) {
        self.now.steady = self.now.steady + span;
        self.now.wall = UnixMillis(self.now.wall.0 + span.0);
        for home in 0..SHARDS as usize {
            let mut out = Vec::new();
            self.homes[home].expire(self.now, &Reporter, &mut out);
            self.post(home, out);
        }
    }

    fn crash(&mut self) {
        tell!("crash");
        self.crashes += 1;
        self.store = SlowStore::open(self.store.memory.clone());
        self.downs.iter_mut().for_each(VecDeque::clear);
        for client in &mut self.clients {
            client.stage = ClientStage::Away;
        }
        // Keys of what has no history on disk are gone.
        for sent in &mut self.sent {
            if let Act::Publish { key, .. } = &mut sent.act {
                *key = None;
            }
        }
        self.now.steady = self.now.steady + Millis(10);
        self.now.wall = self.clock();
        self.start_homes();
    }

    fn clock(&self) -> UnixMillis {
        UnixMillis(BEGIN.wall.0 + (self.now.steady - BEGIN.steady).0 / 1_000_000)
    }

    fn step(&mut self) {
        match self.chance.below(100) {
            0..26 => self.act(),
            26..31 => self.send_again(),
            31..36 => {
                let n = self.chance.below(CLIENTS as u64) as usize;
                self.subscribe(n);
            }
            36..38 => {
                let n = self.chance.below(CLIENTS as u64) as usize;
                self.leave(n);
            }
            38..56 => {
                let shard = self.chance.below(SHARDS.into()) as usize;
                self.take_down(shard);
            }
            56..76 => {
                let mut chance = Prng::new(self.chance.next_u64());
                self.store.step(&mut chance, self.clock());
            }
            76..95 => {
                let home = self.chance.below(SHARDS.into()) as usize;
                self.take_answer(home);
            }
            95 => self.store.sweep(self.clock()),
            96..98 => {
                let span = Millis(1 + self.chance.below(700));
                self.pass(span);
            }
            98 if self.chance.below(4) == 0 => self.crash(),
            _ => self.pass(Millis(1)),
        }
    }

    /// Lets everything that is under way come to its end, what is to be tried again included.
    fn settle(&mut self) {
        for round in 0..20_000 {
            for shard in 0..SHARDS as usize {
                while !self.downs[shard].is_empty() {
                    self.take_down(shard);
                }
                while !self.store.answers[shard].is_empty() {
                    self.take_answer(shard);
                }
            }
            let clock = self.clock();
            let mut chance = Prng::new(self.seed.wrapping_add(round));
            self.store.step(&mut chance, clock);
            let is_open = self.homes.iter().any(|home| home.store_asks_open() > 0);
            let is_quiet = self.downs.iter().all(VecDeque::is_empty)
                && self.store.answers.iter().all(VecDeque::is_empty);
            if is_open || !is_quiet {
                continue;
            }
            let due = self.homes.iter().filter_map(Home::next_due).min();
            if due.is_none_or(|due| due > self.now.steady + Millis(1_001)) {
                return;
            }
            self.pass(Millis(200));
        }
        panic!("seed {}: it never comes to rest", self.seed);
    }
}

#[test]
fn what_is_kept_beside_history_is_what_was_told_of_it() {
    let seeds = std::env::var("RINGMAIN_SEEDS").ok().and_then(|it| it.parse().ok());
    let first = std::env::var("RINGMAIN_SEED").ok().and_then(|it| it.parse().ok()).unwrap_or(0);
    let mut total = Counts::default();
    for seed in first..first + seeds.unwrap_or(SEEDS) {
        let mut scene = Scene::new(seed);
        for step in 1..=STEPS {
            scene.step();
            if step % 100 == 0 {
                scene.check();
            }
        }
        scene.crash();
        scene.check();
        let counts = &scene.counts;
        total.retained += counts.retained;
        total.values += counts.values;
        total.unchanged += counts.unchanged;
        total.cleared += counts.cleared;
        total.expired += counts.expired;
        total.reacted += counts.reacted;
        total.taken_back += counts.taken_back;
        total.observed += counts.observed;
        total.refused += counts.refused;
        total.repeated += counts.repeated;
        total.pushed += counts.pushed;
        total.pushed_unknown += counts.pushed_unknown;
    }
    println!("{total:?}");
    for (what, count) in [
        ("retained", total.retained),
        ("set", total.values),
        ("written in many ways", total.unchanged),
        ("cleared", total.cleared),
        ("over", total.expired),
        ("said", total.reacted),
        ("taken back", total.taken_back),
        ("observed", total.observed),
        ("refused", total.refused),
        ("repeated", total.repeated),
        ("pushed", total.pushed),
    ] {
        assert!(count > 50, "hardly anything was {what}: {total:?}");
    }
    assert!(total.pushed_unknown * 10 < total.pushed, "too much is unknown: {total:?}");
}
