//! Homes that give messages further versions, on a store that fails, and crash, against a plain list of what happened.
//!
//! The history, read from its oldest event on, says what should be there: each version follows from the one before it by
//! what was asked, whatever was on its way at the same time. Checked against it: what a message is now, its versions in
//! both directions, pages and rewinds of messages as they are now, and at the end that nothing is left in the store
//! beside the history that does not belong to it. What was acknowledged is there, once, with its key; a message is not
//! found only if it is gone.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::broker::mutation::{message_of, mutated};
use crate::broker::shelved;
use crate::broker::versioned::{About, Action, MessageRef, Mutate, Patch, Versions, VersionsQuery};
use crate::store::Shelf;

mod checks;

const STEPS: usize = 400;
const SEEDS: u64 = 200;
const CLIENTS: usize = 3;
const NAMES: [&str; 3] = ["durable-a", "durable-b", "memory-a"];
/// Where readers of the model itself have their connections.
const READER: usize = 50;

fn channel(n: usize) -> Channel {
    Channel { app: AppIndex(0), name: NAMES[n].into() }
}

/// What was asked by the operation of a number.
#[derive(Clone, Debug)]
struct Sent {
    channel: usize,
    /// None: it is a publish.
    mutate: Option<Mutate>,
    key: Option<Arc<IdempotencyKey>>,
    told: Option<Result<Published, Refusal>>,
    /// How often nobody knew what became of it.
    unknown: u64,
    /// It was acknowledged, in this life of its channel or in one before.
    was_told: bool,
}

#[derive(Debug, Default)]
struct Counts {
    versions: u64,
    repeated: u64,
    refused: u64,
    not_found: u64,
    not_text: u64,
    heard: u64,
    pages: u64,
    cold_rewinds: u64,
    long_lists: u64,
    cleaned: u64,
    pushed: u64,
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
    /// Messages that were acknowledged.
    known: Vec<(usize, MessageRef)>,
    /// Every event anyone was shown: by channel, epoch and serial.
    shown: BTreeMap<(usize, u128, u64), Arc<Event>>,
    counts: Counts,
    reply: Option<Reply>,
    replay: Option<Box<Result<Replay, Gap>>>,
}

/// What is compared of an event: all but when its bytes arrived.
fn essence(event: &Event) -> String {
    let Event { serial, epoch, id, at, tags, meta, happening, .. } = event;
    // Whoever sent it is nobody once it is on disk.
    let happening = match happening {
        Happening::Message { name, data, .. } => format!("{name:?} {data:?}"),
        other => format!("{other:?}"),
    };
    format!("{serial:?} {epoch:?} {id:?} {at:?} {tags:?} {meta:?} {happening}")
}

impl Scene {
    fn new(seed: u64) -> Self {
        let rule = |mode, events_max| Rule { mode, age: Millis(0), events_max, bytes_max: 0 };
        let rules = AppRules {
            id: "app".into(),
            rules: vec![
                (Pattern("durable-*".into()), rule(Mode::Durable, 0)),
                (Pattern("memory-*".into()), rule(Mode::Memory, MEMORY_EVENTS * 2)),
            ],
        };
        let client = |n| Client {
            channel: n % NAMES.len(),
            position: None,
            stage: ClientStage::Away,
            ticket: 0,
        };
        let mut scene = Self {
            seed,
            chance: Prng::new(seed),
            slots: Arc::new(Slots::new(SHARDS, [seed, 2])),
            rules: Rules::new(vec![rules]),
            homes: Vec::new(),
            store: SlowStore::open(Memory::default()),
            downs: (0..SHARDS).map(|_| VecDeque::new()).collect(),
            clients: (0..CLIENTS).map(client).collect(),
            sent: Vec::new(),
            now: BEGIN,
            crashes: 0,
            known: Vec::new(),
            shown: BTreeMap::new(),
            counts: Counts::default(),
            reply: None,
            replay: None,
        };
        scene.start_homes();
        scene
    }

    fn start_homes(&mut self) {
        let home = |shard: u16| {
            Home::new(Arc::clone(&self.slots), Limits { channels_max: 100 }).keeping(Keeping {
                rules: Arc::clone(&self.rules),
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

    fn up(&mut self, to: &Channel, n: usize, ticket: u32, command: Command) {
        let from = Self::connection(n);
        let up = Up::Ask { from, ticket: Ticket(ticket), command };
        self.post_up(to, from.shard, up);
    }

    fn post_up(&mut self, to: &Channel, shard: ShardId, up: Up) {
        tell!("up {shard:?} {up:?}");
        let home = self.slots.home_of(to).index();
        let mut out = Vec::new();
        self.homes[home].handle(up, shard, self.now, &Nothing, &mut out);
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
        let (ticket, at) = (client.ticket, client.channel);
        let start = client.position.map_or(Start::Now, Start::After);
        let subscribe = Subscribe { start, ..Subscribe::new(channel(at), LaneId(0)) };
        self.up(&channel(at), n, ticket, Command::Subscribe(Box::new(subscribe)));
    }

    fn leave(&mut self, n: usize) {
        match self.clients[n].stage {
            ClientStage::Away => {}
            ClientStage::Asked(_) => self.clients[n].stage = ClientStage::Asked(true),
            ClientStage::Here => {
                self.clients[n].stage = ClientStage::Away;
                self.detach(self.clients[n].channel, n);
            }
        }
    }

    fn detach(&mut self, at: usize, n: usize) {
        let subscribe = Box::new(Subscribe::new(channel(at), LaneId(0)));
        let up = Up::Detach(subscribe, crate::broker::Parting::Unsubscribed);
        self.post_up(&channel(at), Self::connection(n).shard, up);
    }

    fn publish(&mut self) {
        let at = self.chance.below(NAMES.len() as u64) as usize;
        let key = self.a_key();
        let it = Sent { channel: at, mutate: None, key, told: None, unknown: 0, was_told: false };
        self.sent.push(it);
        self.send(self.sent.len() - 1);
    }

    fn a_key(&mut self) -> Option<Arc<IdempotencyKey>> {
        let number = self.sent.len();
        (self.chance.below(2) == 0).then(|| {
            let name = format!("k{number}").as_str().into();
            Arc::new(IdempotencyKey { name, fingerprint: [number as u8; 16], span: None })
        })
    }

    /// Something is to become of a message: mostly of a new one, now and then of one that never was.
    fn mutate(&mut self) {
        let many = self.known.len() as u64;
        if many == 0 {
            return;
        }
        let back = self.chance.below(many.min(12)).min(self.chance.below(many.min(12)));
        let (at, mut message) = self.known[(many - 1 - back) as usize];
        match self.chance.below(40) {
            // One that the next event will not be given.
            0 => message.id.0 ^= 1 << 60,
            1 => message.serial.0 += 1,
            _ => {}
        }
        let number = self.sent.len();
        let json = |text: String| Payload(Bytes::from(format!("\"{text}\"")));
        let set = Patch::Set(json(format!("<{number}>")));
        let (action, data, name) = match self.chance.below(10) {
            0..5 => (Action::Append, set, Patch::Stay),
            5 => (Action::Update, set, Patch::Set(format!("n{number}").as_str().into())),
            6 => (Action::Update, Patch::Stay, Patch::Clear),
            7 => (Action::Delete, Patch::Stay, Patch::Stay),
            8 => (Action::Delete, Patch::Clear, Patch::Stay),
            _ => (Action::Update, set, Patch::Stay),
        };
        let key = self.a_key();
        // By this it is known again.
        let about =
            About { description: Some(number.to_string().as_str().into()), ..About::default() };
        let mutate = Mutate {
            channel: channel(at),
            message,
            action,
            name,
            data,
            extras: Patch::Stay,
            about,
            only_of: None,
            data_bytes_max: 1 << 20,
            exclude: None,
            key: key.clone(),
            report: None,
            push: (self.chance.below(3) == 0).then(|| Payload(Bytes::from(number.to_string()))),
        };
        let it = Sent {
            channel: at,
            mutate: Some(mutate),
            key,
            told: None,
            unknown: 0,
            was_told: false,
        };
        self.sent.push(it);
        self.send(number);
    }

    fn send(&mut self, number: usize) {
        let Sent { channel: at, mutate, key, .. } = self.sent[number].clone();
        let command = match mutate {
            Some(mutate) => Command::Mutate(Box::new(mutate)),
            None => {
                let data = Payload(Bytes::from(format!("\"{number}\"")));
                let publish = Publish::new(channel(at), "e".into(), data, self.now.steady);
                Command::Publish(Box::new(Publish { key, ..publish }))
            }
        };
        self.up(&channel(at), CLIENTS + number % 2, number as u32, command);
    }

    /// Who was refused, or does not know, tries again.
    fn send_again(&mut self) {
        let from = self.sent.len().saturating_sub(15);
        let many = self.sent.len() - from;
        if many > 0 {
            let number = from + self.chance.below(many as u64) as usize;
            let sent = &mut self.sent[number];
            if sent.key.is_some() {
                // Of the second try nobody knows anything yet.
                sent.told.take_if(|it| it.is_err());
                self.send(number);
            }
        }
    }

    fn show(&mut self, at: usize, event: &Arc<Event>) {
        let epoch = event.epoch.expect("only what is kept has a position");
        let key = (at, epoch.0, event.serial.0);
        let known = self.shown.entry(key).or_insert_with(|| event.clone());
        assert_eq!(essence(known), essence(event), "seed {}: two events at {key:?}", self.seed);
    }

    fn hear(&mut self, n: usize, event: &Arc<Event>) {
        let client = &mut self.clients[n];
        let Some(position) = event.position() else { return };
        if let Some(before) = client.position.filter(|it| it.epoch == position.epoch) {
            let expected = Serial(before.serial.0 + 1);
            assert_eq!(expected, position.serial, "seed {}: client {n} missed", self.seed);
        }
        client.position = Some(position);
        let at = client.channel;
        self.counts.heard += u64::from(matches!(event.happening, Happening::Mutated(_)));
        self.show(at, event);
    }

    fn take_down(&mut self, shard: usize) {
        let Some(down) = self.downs[shard].pop_front() else { return };
        tell!("down {shard} {down:?}");
        match down {
            Down::Deliver(delivery) => {
                let event = Arc::new(delivery.event.clone());
                for n in 0..CLIENTS {
                    let client = &self.clients[n];
                    let is_here = client.stage == ClientStage::Here
                        && Self::connection(n).shard.index() == shard
                        && channel(client.channel) == event.channel;
                    if is_here {
                        self.hear(n, &event);
                    }
                }
            }
            Down::Attach { to, granted, reply, .. } if to.slot as usize == READER => {
                let at = NAMES.iter().position(|it| **it == *granted.channel.name);
                self.replay = reply.replay;
                self.detach(at.expect("one of ours"), READER);
            }
            Down::Attach { to, ticket, reply, .. } => {
                let n = to.slot as usize;
                assert_eq!(self.clients[n].ticket, ticket.0);
                match self.clients[n].stage {
                    ClientStage::Asked(true) => {
                        self.clients[n].stage = ClientStage::Away;
                        self.detach(self.clients[n].channel, n);
                    }
                    _ => self.attached(n, *reply),
                }
            }
            Down::Answer { to, reply, .. } if to.slot as usize == READER => {
                self.reply = Some(reply);
            }
            Down::Answer { ticket, reply, .. } => self.answered(ticket.0 as usize, reply),
        }
    }

    fn attached(&mut self, n: usize, reply: Subscribed) {
        self.clients[n].stage = ClientStage::Here;
        match reply.replay.as_deref() {
            Some(Ok(replay)) => {
                replay.events.iter().for_each(|event| self.hear(n, event));
                assert_eq!(self.clients[n].position, Some(replay.position), "seed {}", self.seed);
            }
            None | Some(Err(_)) => self.clients[n].position = reply.position,
        }
    }

    fn answered(&mut self, number: usize, reply: Reply) {
        let seed = self.seed;
        let told = match reply {
            Reply::Published(published) => Ok(published),
            Reply::Refused(refusal) => Err(refusal),
            Reply::Purged(_) => return,
            other => panic!("{other:?}"),
        };
        let sent = &mut self.sent[number];
        match told {
            Ok(published) => {
                if let Some(Ok(before)) = &sent.told
                    && before.epoch == published.epoch
                {
                    assert!(published.is_repeated, "seed {seed}: {sent:?} again, {published:?}");
                    assert_eq!((before.serial, before.id), (published.serial, published.id));
                    self.counts.repeated += 1;
                }
                if sent.mutate.is_none() {
                    let message = MessageRef { id: published.id, serial: published.serial };
                    self.known.push((sent.channel, message));
                } else {
                    self.counts.versions += 1;
                }
                sent.told = Some(Ok(published));
                sent.was_told = true;
            }
            Err(refusal) => {
                match refusal {
                    Refusal::NotFound if sent.mutate.is_some() => self.counts.not_found += 1,
                    Refusal::NotText if sent.mutate.is_some() => self.counts.not_text += 1,
                    Refusal::StoreBusy
                    | Refusal::StoreFailed
                    | Refusal::StoreUnreadable
                    | Refusal::StoreFull => self.counts.refused += 1,
                    other => panic!("seed {seed}: {sent:?} refused: {other:?}"),
                }
                sent.unknown += u64::from(refusal == Refusal::StoreFailed);
                if !matches!(sent.told, Some(Ok(_))) {
                    sent.told = Some(Err(refusal));
                }
            }
        }
    }

    fn take_answer(&mut self, home: usize) {
        let Some((tag, answer)) = self.store.answers[home].pop_front() else { return };
        tell!("answer {home} {tag} {answer:?}");
        let mut out = Vec::new();
        self.homes[home].stored(tag, answer, self.now, &Nothing, &mut out);
        self.post(home, out);
    }

    fn pass(&mut self, span: Millis) {
        self.now.steady = self.now.steady + span;
        self.now.wall = UnixMillis(self.now.wall.0 + span.0);
        for home in 0..SHARDS as usize {
            let mut out = Vec::new();
            self.homes[home].expire(self.now, &Nothing, &mut out);
            self.post(home, out);
        }
    }

    /// The process ends between two instructions.
    fn crash(&mut self) {
        tell!("crash");
        self.crashes += 1;
        self.store = SlowStore::open(self.store.memory.clone());
        self.downs.iter_mut().for_each(VecDeque::clear);
        for client in &mut self.clients {
            client.stage = ClientStage::Away;
        }
        let is_memory = |at: usize| NAMES[at].starts_with("memory");
        for sent in self.sent.iter_mut().filter(|it| is_memory(it.channel)) {
            (sent.key, sent.told) = (None, None);
        }
        self.pass(Millis(10));
        self.start_homes();
    }

    fn clock(&self) -> UnixMillis {
        UnixMillis(BEGIN.wall.0 + (self.now.steady - BEGIN.steady).0 / 1_000_000)
    }

    fn step(&mut self) {
        let clock = self.clock();
        match self.chance.below(100) {
            0..10 => self.publish(),
            10..26 => self.mutate(),
            26..30 => self.send_again(),
            30..34 => {
                let n = self.chance.below(CLIENTS as u64) as usize;
                self.subscribe(n);
            }
            34..36 => {
                let n = self.chance.below(CLIENTS as u64) as usize;
                self.leave(n);
            }
            36..56 => {
                let shard = self.chance.below(SHARDS.into()) as usize;
                self.take_down(shard);
            }
            56..76 => {
                let mut chance = Prng::new(self.chance.next_u64());
                self.store.step(&mut chance, clock);
            }
            76..93 => {
                let home = self.chance.below(SHARDS.into()) as usize;
                self.take_answer(home);
            }
            93 => self.store.sweep(clock),
            94 => {
                // Never as long as a key is remembered, over all steps.
                let span = [10, 1_500, 35_000][self.chance.below(100).saturating_sub(97) as usize];
                self.pass(Millis(span));
            }
            95 if self.chance.below(6) == 0 => {
                let at = self.chance.below(NAMES.len() as u64) as usize;
                let command = match self.chance.below(2) {
                    0 => Command::Reset(channel(at)),
                    _ => {
                        let newest = self.shown.range((at, 0, 0)..(at + 1, 0, 0)).next_back();
                        let serial = newest.map_or(0, |it| it.1.serial.0.saturating_sub(5));
                        Command::Purge(channel(at), PurgeTo::Serial(Serial(serial)))
                    }
                };
                self.up(&channel(at), READER, 0, command);
            }
            96 if self.chance.below(3) == 0 => self.crash(),
            _ => self.pass(Millis(1)),
        }
    }

    /// Lets everything that is under way come to its end.
    fn settle(&mut self) {
        for round in 0..10_000 {
            for shard in 0..SHARDS as usize {
                while !self.downs[shard].is_empty() {
                    self.take_down(shard);
                }
                while !self.store.answers[shard].is_empty() {
                    self.take_answer(shard);
                }
            }
            let clock = self.clock();
            let mut chance = Prng::new(self.seed.wrapping_add(round) ^ self.crashes << 40);
            self.store.step(&mut chance, clock);
            let is_open = self.homes.iter().any(|home| home.store_asks_open() > 0);
            let is_quiet = self.downs.iter().all(VecDeque::is_empty)
                && self.store.answers.iter().all(VecDeque::is_empty);
            if !is_open && is_quiet {
                return;
            }
        }
        panic!("seed {}: it never comes to rest", self.seed);
    }

    /// An answer that is no refusal of the store: that means that it failed under it, and is asked again.
    fn ask(&mut self, at: usize, command: &Command) -> Reply {
        for _ in 0..100 {
            self.reply = None;
            self.up(&channel(at), READER, 0, command.clone());
            self.settle();
            match self.reply.take() {
                None
                | Some(Reply::Refused(
                    Refusal::StoreBusy
                    | Refusal::StoreFailed
                    | Refusal::StoreUnreadable
                    | Refusal::StoreFull,
                )) => self.pass(Millis(1_500)),
                Some(reply) => return reply,
            }
        }
        panic!("seed {}: no answer to {command:?}", self.seed);
    }
}

#[test]
fn versions_follow_from_each_other_and_are_told_as_the_history_says() {
    let seeds = std::env::var("RINGMAIN_SEEDS").ok().and_then(|it| it.parse().ok());
    let first = std::env::var("RINGMAIN_SEED").ok().and_then(|it| it.parse().ok()).unwrap_or(0);
    let mut total = Counts::default();
    for seed in first..first + seeds.unwrap_or(SEEDS) {
        let mut scene = Scene::new(seed);
        for step in 1..=STEPS {
            scene.step();
            if step % 133 == 0 {
                scene.check();
            }
        }
        scene.crash();
        scene.check();
        scene.check_store();
        let Counts { versions, repeated, refused, not_found, not_text, .. } = &scene.counts;
        total.versions += versions;
        total.repeated += repeated;
        total.refused += refused;
        total.not_found += not_found;
        total.not_text += not_text;
        total.heard += scene.counts.heard;
        total.pages += scene.counts.pages;
        total.cold_rewinds += scene.counts.cold_rewinds;
        total.long_lists += scene.counts.long_lists;
        total.cleaned += scene.counts.cleaned;
        total.pushed += scene.counts.pushed;
    }
    println!("{total:?}");
    let Counts { versions, repeated, refused, not_found, not_text, heard, .. } = &total;
    for count in [versions, repeated, refused, not_found, not_text, heard] {
        assert!(*count > 50, "something hardly ever happened: {total:?}");
    }
    assert!(total.pushed > 50 && total.cold_rewinds > 50 && total.long_lists > 50, "{total:?}");
}
