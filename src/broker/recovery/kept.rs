//! Homes that keep messages, reactions and values beside history, on the same store: it fails, and the process crashes.
//!
//! Everything is reported to the world outside, in the batch that writes it: so the outbox, read from the beginning,
//! says what should be there. Checked: it is what homes say is there; what was acknowledged is in it, once, what was
//! refused is not; observers know each value; ids and changes come in order, and no retained message twice.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::broker::state::{
    AdmitKey, Keys, React, Reaction, Retained, RetainedQuery, SetValue, Value, ValuesQuery,
};
use crate::broker::{Keep, Report, report};
use crate::store::Shelf;
use crate::wire::json::same_value;

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

    fn report(&self, event: &Event, about: Option<&Payload>) -> Option<Report> {
        let about = about?;
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
        Some(Report { app: event.channel.app, kind, fields, body: about.clone() })
    }
}

/// What was asked.
#[derive(Clone, Debug)]
enum Act {
    Publish { is_retained: bool, key: Option<String> },
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
        let up = Up::Detach(Box::new(Subscribe::new(channel, LaneId(0))));
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
        self.sent.push(Sent { channel: at, act, keep, told: None });
        self.send(number);
    }

    fn send(&mut self, number: usize) {
        let Sent { channel: at, act, keep, .. } = self.sent[number].clone();
        let channel = channel(at);
        let about = Some(payload(&number.to_string()));
        let command = match act {
            Act::Publish { is_retained, key } => {
                let key = key.map(|name| {
                    let (fingerprint, span) = ([number as u8; 16], Some(Millis(60_000_000)));
                    Arc::new(IdempotencyKey { name: name.as_str().into(), fingerprint, span })
                });
                let data = payload(&format!("\"{number}\""));
                let retain = is_retained.then_some(keep);
                let steady = self.now.steady;
                let publish = Publish::new(channel.clone(), "message".into(), data, steady);
                let report = about.filter(|_| is_retained);
                Command::Publish(Box::new(Publish { key, retain, report, ..publish }))
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
                if event.meta.is_none() && &*NAMES[client.channel] != "durable-a" {
                    let of = format!("{} {}", event.id, text(data));
                    assert!(client.heard.insert(of.clone()), "seed {seed}: {of} twice");
                }
            }
            Happening::ValueChanged(change) => {
                assert!(!change.is_expired);
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

    /// What the outbox says, channel by channel.
    fn read_outbox(&mut self) -> BTreeMap<String, Told> {
        let mut told: BTreeMap<String, Told> = BTreeMap::new();
        let ask = Ask::read(Shelf::Outbox, Bytes::new(), None, u32::MAX);
        let look = self.store.memory.look();
        let answer = self.store.reader.answer(&*look, self.store.store, &ask, self.clock());
        let Some(Answer::Values { values, .. }) = answer else { panic!("{answer:?}") };
        for (nth, (key, stored)) in values.iter().enumerate() {
            assert_eq!(**key, (nth as u64 + 1).to_be_bytes(), "the outbox has no holes");
            let report = report::decode(stored).expect("a report");
            let field = |name: &str| {
                let found = report.fields.iter().find(|it| &*it.0 == name);
                found.map(|it| it.1.to_string())
            };
            let channel = field("channel").expect("each has one");
            let it = told.entry(channel).or_default();
            let seed = self.seed;
            let (key, data) = (field("key").unwrap_or_default(), field("data"));
            match &*report.kind {
                "message" => {
                    let id = field("id").expect("it has").parse().expect("an id");
                    let data = data.expect("it has");
                    *it.times.entry(data.clone()).or_default() += 1;
                    assert!(it.messages.insert(id, data).is_none());
                }
                "value" | "expired" => {
                    let before = it.values.get(&key).cloned();
                    let previous = field("previous");
                    let is_same = match (&before, &previous) {
                        (Some(before), Some(previous)) => {
                            same_value(before.as_bytes(), previous.as_bytes())
                        }
                        (before, previous) => before == previous,
                    };
                    assert!(is_same, "seed {seed}: {key} was {before:?}, not {previous:?}");
                    if &*report.kind == "expired" {
                        self.counts.expired += 1;
                    }
                    let times = data.clone().unwrap_or_default();
                    *it.times.entry(times).or_default() += 1;
                    match data {
                        Some(data) => it.values.insert(key, data),
                        None => it.values.remove(&key),
                    };
                }
                "added" | "removed" => {
                    let data = data.expect("it has");
                    let (message, user) =
                        data.trim_matches('"').split_once(' ').expect("both are told");
                    let of = it.reactions.entry(message.parse().expect("an id")).or_default();
                    let is_new = match &*report.kind {
                        "added" => of.insert(user.to_owned()),
                        _ => of.remove(user),
                    };
                    // What was said to a message may be over a moment before who says it again looks.
                    let of = message.parse().ok().and_then(|id| it.messages.get(&id));
                    let is_over = of.is_none_or(|it| self.may_be_over(it));
                    assert!(is_new || is_over, "seed {seed}: {} {data} again", report.kind);
                    let count = match &*report.kind {
                        "added" => &mut self.counts.reacted,
                        _ => &mut self.counts.taken_back,
                    };
                    *count += 1;
                }
                other => panic!("{other}"),
            }
        }
        told
    }

    /// Asks a home until it answers: the store fails under it now and then.
    fn read<T>(&mut self, at: usize, command: &Command, taken: fn(&mut Self) -> Option<T>) -> T {
        let number = self.sent.len() as u32;
        self.sent.push(Sent { channel: at, act: Act::Read, keep: Keep::Forever, told: None });
        for _ in 0..100 {
            self.up(&channel(at), Self::connection(CLIENTS), number, command.clone());
            self.settle();
            if let Some(found) = taken(self) {
                return found;
            }
        }
        panic!("seed {}: no answer", self.seed);
    }

    fn all_values(&mut self, at: usize) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        let mut after = None;
        loop {
            let query =
                ValuesQuery { keys: None, after, admit: None, values_max: 2, bytes_max: 99 };
            let command = Command::Values(channel(at), Box::new(query));
            let found = self.read(at, &command, |it| it.values.take());
            assert!(found.len() <= 2 && found.is_sorted_by(|a, b| a.key < b.key));
            let Some(last) = found.last() else { return all };
            after = Some(last.key.clone());
            all.extend(found.iter().map(|it| (it.key.to_string(), text(&it.data))));
        }
    }

    fn all_retained(&mut self, at: usize, is_newest_first: bool) -> Vec<Retained> {
        let mut all: Vec<Retained> = Vec::new();
        loop {
            let last = all.last().map(|it| it.event.id);
            let query = RetainedQuery {
                after: last.filter(|_| !is_newest_first),
                before: last.filter(|_| is_newest_first),
                from_at: UnixMillis(0),
                is_newest_first,
                events_max: 5,
                bytes_max: 1 << 20,
                with_reactions: true,
            };
            let command = Command::Retained(channel(at), Box::new(query));
            let found = self.read(at, &command, |it| it.retained.take());
            if found.is_empty() {
                return all;
            }
            all.extend(found);
        }
    }

    fn check(&mut self) {
        let seed = self.seed;
        self.settle();
        for at in 0..NAMES.len() {
            let values = self.all_values(at);
            let newest = self.all_retained(at, true);
            let mut retained = self.all_retained(at, false);
            // What was over between the two is in the first alone.
            let ids: BTreeSet<_> = retained.iter().map(|it| it.event.id).collect();
            let again = newest.iter().rev().map(|it| it.event.id).filter(|it| ids.contains(it));
            assert!(again.eq(retained.iter().map(|it| it.event.id)), "seed {seed}");
            let told = self.read_outbox().remove(NAMES[at]).unwrap_or_default();
            for (key, data) in &values {
                let is_it = told
                    .values
                    .get(key)
                    .is_some_and(|it| same_value(it.as_bytes(), data.as_bytes()));
                assert!(is_it, "seed {seed}: {key} is {data}, and told as {:?}", told.values);
            }
            for (key, data) in &told.values {
                // Its end is told.
                let is_there = values.contains_key(key);
                assert!(is_there, "seed {seed}: {key} was told as {data} and is not there");
            }
            for it in &mut retained {
                let data = data_of(&it.event);
                assert_eq!(told.messages.get(&it.event.id), Some(&data), "seed {seed}");
                let said = it.reactions.iter().map(|it: &Reaction| it.by.user_id.to_string());
                let said: BTreeSet<_> = said.collect();
                let of = told.reactions.get(&it.event.id).cloned().unwrap_or_default();
                assert_eq!(said, of, "seed {seed}: what was said to {}", it.event.id);
            }
            for (id, data) in &told.messages {
                let is_there = ids.contains(id) || self.may_be_over(data);
                assert!(is_there, "seed {seed}: {data} was told and is not there");
            }
            self.check_told(at, &told);
            self.check_views(at, &values);
        }
    }

    /// What was acknowledged was done once; what was refused, not at all, unless nobody knew.
    fn check_told(&mut self, at: usize, told: &Told) {
        for (number, sent) in self.sent.iter().enumerate().filter(|it| it.1.channel == at) {
            let data = match &sent.act {
                Act::Publish { is_retained: true, .. } => {
                    self.counts.retained += 1;
                    format!("\"{number}\"")
                }
                Act::Set { data: Some(data), .. } if *data == data_number(number) => {
                    self.counts.values += 1;
                    data.clone()
                }
                Act::Set { data: Some(_), .. } => {
                    self.counts.unchanged += 1;
                    continue;
                }
                Act::Set { data: None, .. } => {
                    self.counts.cleared += 1;
                    continue;
                }
                _ => continue,
            };
            let times = told.times.get(&data).copied().unwrap_or_default();
            let is_right = match sent.told {
                Some(Ok(_)) => times == 1,
                Some(Err(Refusal::StoreFailed)) | None => times <= 1,
                Some(Err(_)) => times == 0,
            };
            assert!(is_right, "seed {}: {number} {sent:?} {times} times", self.seed);
        }
    }

    /// Who observes a channel knows what is there.
    fn check_views(&mut self, at: usize, values: &BTreeMap<String, String>) {
        for (n, client) in self.clients.iter().enumerate() {
            if client.channel != at || client.stage != ClientStage::Here {
                continue;
            }
            for key in KEYS {
                let (known, there) = (client.view.get(key), values.get(key));
                let is_over = there.is_none() && known.is_some_and(|it| self.may_be_over(it));
                let is_same = match (known, there) {
                    (Some(known), Some(there)) => same_value(known.as_bytes(), there.as_bytes()),
                    (known, there) => known == there,
                };
                assert!(
                    is_same || is_over,
                    "seed {}: {n} knows {known:?}, not {there:?}",
                    self.seed
                );
            }
        }
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
    ] {
        assert!(count > 50, "hardly anything was {what}: {total:?}");
    }
}
