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
    replay: Option<Result<Replay, Gap>>,
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
        self.sent.push(Sent { channel: at, mutate: None, key, told: None });
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
        };
        self.sent.push(Sent { channel: at, mutate: Some(mutate), key, told: None });
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
            if self.sent[number].key.is_some() {
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
                self.replay = reply.replay.map(|it| *it);
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

    /// The whole history of a channel, page by page.
    fn history(&mut self, at: usize, is_latest: bool, is_newest_first: bool) -> Vec<Arc<Event>> {
        let mut events: Vec<Arc<Event>> = Vec::new();
        loop {
            let last = events.last().map(|it| it.serial.0);
            let (from, to) = match is_newest_first {
                true => (0, last.map(|it| Serial(it - 1))),
                false => (last.map_or(0, |it| it + 1), None),
            };
            let query = PageQuery {
                epoch: None,
                from: Serial(from),
                to,
                from_at: None,
                to_at: None,
                is_newest_first,
                events_max: if is_latest { 2 } else { 7 },
                bytes_max: 1 << 20,
                is_latest,
            };
            let reply = self.ask(at, &Command::History(channel(at), Box::new(query)));
            let Reply::Page(page) = reply else { panic!("{reply:?}") };
            self.counts.pages += 1;
            assert!(!page.has_more || !page.events.is_empty(), "seed {}: no way on", self.seed);
            events.extend(page.events);
            if !page.has_more {
                return events;
            }
        }
    }

    fn versions(
        &mut self,
        at: usize,
        message: MessageRef,
        is_newest_first: bool,
    ) -> Vec<Arc<Event>> {
        let mut events: Vec<Arc<Event>> = Vec::new();
        loop {
            let after = events.last().map(|it| it.id);
            let (versions_max, bytes_max) = (2, 1 << 20);
            let query = VersionsQuery { message, after, is_newest_first, versions_max, bytes_max };
            let reply = self.ask(at, &Command::Versions(channel(at), Box::new(query)));
            let Reply::Versions(Versions { events: some, has_more }) = reply else {
                panic!("seed {}: {message} has {reply:?}", self.seed)
            };
            events.extend(some);
            if !has_more {
                return events;
            }
        }
    }

    /// What a subscription begins with.
    fn rewind(&mut self, at: usize, start: Start) -> Replay {
        for _ in 0..100 {
            let subscribe = Subscribe { start, ..Subscribe::new(channel(at), LaneId(0)) };
            self.replay = None;
            self.up(&channel(at), READER, 0, Command::Subscribe(Box::new(subscribe)));
            self.settle();
            match self.replay.take() {
                Some(Ok(replay)) => return replay,
                Some(Err(gap)) => assert_eq!(gap.reason, GapReason::Unavailable),
                None => {}
            }
            self.pass(Millis(1_500));
        }
        panic!("seed {}: no rewind", self.seed);
    }

    fn check(&mut self) {
        self.settle();
        for at in 0..NAMES.len() {
            self.check_channel(at);
        }
    }

    fn check_channel(&mut self, at: usize) {
        let seed = self.seed;
        let history = self.history(at, false, false);
        assert!(history.windows(2).all(|two| two[1].serial.0 == two[0].serial.0 + 1));
        assert!(history.windows(2).all(|two| two[1].id > two[0].id));
        for event in &history {
            self.show(at, event);
        }
        let messages = self.check_versions(at, &history);
        self.check_told(at, &history, &messages);
        // Each message as it is now.
        for (message, versions) in &messages {
            let latest = versions.last().expect("there is one");
            let reply = self.ask(at, &Command::Latest(channel(at), *message));
            let Reply::Versions(told) = reply else { panic!("seed {seed}: {message}: {reply:?}") };
            assert_eq!(essence(&told.events[0]), essence(latest), "seed {seed}: {message}");
            let mut oldest_first = self.versions(at, *message, false);
            let newest_first = self.versions(at, *message, true);
            assert!(oldest_first.iter().rev().eq(&newest_first), "seed {seed}: {message}");
            self.counts.long_lists += u64::from(oldest_first.len() > 4);
            assert_eq!(oldest_first[0].id, message.id, "seed {seed}: it begins with its first");
            if versions[0].id != message.id {
                oldest_first.remove(0);
            }
            let ids = |list: &[Arc<Event>]| list.iter().map(|it| essence(it)).collect::<Vec<_>>();
            assert_eq!(ids(&oldest_first), ids(versions), "seed {seed}: {message}");
        }
        // Those that are gone.
        let known: BTreeSet<_> = self.known.iter().filter(|it| it.0 == at).map(|it| it.1).collect();
        for message in known.into_iter().rev().filter(|it| !messages.contains_key(it)).take(8) {
            let reply = self.ask(at, &Command::Latest(channel(at), message));
            let is_gone = matches!(reply, Reply::Refused(Refusal::NotFound));
            assert!(is_gone, "seed {seed}: {message} is {reply:?}");
        }
        // Pages and rewinds of messages as they are now.
        let first: Vec<_> = history
            .iter()
            .filter(|it| matches!(it.happening, Happening::Message { .. }))
            .map(|it| {
                let message = message_of(it).expect("a message");
                (it.serial, messages[&message].last().expect("there is one").id)
            })
            .collect();
        let shown = |events: &[Arc<Event>]| -> Vec<_> {
            events.iter().map(|it| (it.serial, it.id)).collect()
        };
        assert_eq!(shown(&self.history(at, true, false)), first, "seed {seed}: {at}");
        let mut backwards = shown(&self.history(at, true, true));
        backwards.reverse();
        assert_eq!(backwards, first, "seed {seed}");
        for start in [Start::Events(3), Start::Since(Millis(1 << 40))] {
            let replay = self.rewind(at, start);
            self.counts.cold_rewinds += u64::from(replay.is_cold);
            let told = shown(&replay.events);
            assert!(first.ends_with(&told), "seed {seed}: {start:?} {told:?} of {first:?}");
            let wanted = if let Start::Events(count) = start { count as usize } else { usize::MAX };
            let is_all = told.len() == first.len().min(wanted);
            assert!(is_all || replay.is_cut_by_limit, "seed {seed}: {told:?} of {first:?}");
        }
    }

    /// All versions of each message, by the history; each follows from the one before.
    fn check_versions(
        &mut self,
        at: usize,
        history: &[Arc<Event>],
    ) -> BTreeMap<MessageRef, Vec<Arc<Event>>> {
        let mut messages: BTreeMap<MessageRef, Vec<Arc<Event>>> = BTreeMap::new();
        for event in history {
            let message = message_of(event).expect("a version of a message");
            let versions = messages.entry(message).or_default();
            if let Happening::Mutated(it) = &event.happening {
                let epoch = event.epoch.expect("it is kept").0;
                let is_earlier = |it: &&Arc<Event>| message_of(it) == Some(message);
                let shown = self.shown.range((at, epoch, 0)..(at, epoch, event.serial.0));
                let before = versions.last().or_else(|| shown.map(|it| it.1).rfind(is_earlier));
                let number = it.about.description.as_ref().expect("what it was asked by");
                let sent = &self.sent[number.parse::<usize>().expect("a number")];
                let mutate = sent.mutate.as_ref().expect("a version was asked for");
                // Of one that was never shown nothing is known.
                let is_whole = before.is_some_and(|it| {
                    let is_first = matches!(it.happening, Happening::Message { .. });
                    !versions.is_empty() || is_first && it.serial.0 + 1 == event.serial.0
                });
                if let Some(before) = before.filter(|_| is_whole) {
                    let now = Now { wall: event.at, ..Now::default() };
                    let expected = mutated(before, mutate, (event.id, event.serial), now);
                    let expected = expected.map(|it| essence(&it));
                    assert_eq!(expected, Ok(essence(event)), "seed {}", self.seed);
                }
            }
            versions.push(event.clone());
        }
        messages
    }

    /// What was acknowledged is there, once; what was not found is not.
    fn check_told(
        &self,
        at: usize,
        history: &[Arc<Event>],
        messages: &BTreeMap<MessageRef, Vec<Arc<Event>>>,
    ) {
        let seed = self.seed;
        let Some(first) = history.first() else { return };
        let mut asked = BTreeSet::new();
        for event in history {
            if let Happening::Mutated(it) = &event.happening {
                let number = it.about.description.clone().expect("what it was asked by");
                let is_keyed = self.sent[number.parse::<usize>().expect("a number")].key.is_some();
                assert!(asked.insert(number.clone()) || !is_keyed, "seed {seed}: {number} twice");
            }
        }
        for sent in self.sent.iter().filter(|it| it.channel == at) {
            match &sent.told {
                Some(Ok(told)) if told.epoch == first.epoch && told.serial >= first.serial => {
                    let there = &history[(told.serial.0 - first.serial.0) as usize];
                    assert_eq!(there.id, told.id, "seed {seed}: {sent:?} is not there");
                }
                Some(Err(Refusal::NotFound)) => {
                    let message = sent.mutate.as_ref().expect("of a message").message;
                    let versions = messages.get(&message);
                    let is_there = versions.is_some_and(|it| it[0].id == message.id);
                    // It was asked for before the message was where it is told to be only if that is the newest.
                    assert!(!is_there, "seed {seed}: {message} was not found and is there");
                }
                _ => {}
            }
        }
    }

    /// Nothing is in the store beside the history that does not belong to it.
    fn check_store(&mut self) {
        for at in 0..2 {
            let prefix = shelved::prefix("app", NAMES[at]);
            // What could not be cleaned is tried again when the channel is opened.
            let is_clean = (0..20).any(|_| {
                self.crash();
                let history = self.history(at, false, false);
                let messages = self.check_versions(at, &history);
                let mut wanted = BTreeSet::new();
                for (message, versions) in &messages {
                    if versions.len() == 1 && versions[0].id == message.id {
                        continue;
                    }
                    wanted.insert(shelved::latest_key(&prefix, message.id));
                    wanted.insert(shelved::version_key(&prefix, message.id, message.id));
                    for version in versions {
                        let Happening::Mutated(_) = version.happening else { continue };
                        let epoch = version.epoch.expect("it is kept");
                        wanted.insert(shelved::version_key(&prefix, message.id, version.id));
                        wanted.insert(shelved::place_key(&prefix, epoch, version.serial));
                    }
                }
                let ask = Ask::read(Shelf::Versions, prefix.clone(), None, u32::MAX);
                let look = self.store.memory.look();
                let answer = self.store.reader.answer(&*look, self.store.store, &ask, self.clock());
                let Some(Answer::Values { values, .. }) = answer else { panic!("{answer:?}") };
                let found: BTreeSet<_> = values.iter().map(|it| it.0.clone()).collect();
                let missing: Vec<_> = wanted.difference(&found).collect();
                assert!(missing.is_empty(), "seed {}: {missing:?} missing", self.seed);
                tell!("left {:?}", found.difference(&wanted).collect::<Vec<_>>());
                found == wanted
            });
            assert!(is_clean, "seed {}: {} is never clean", self.seed, NAMES[at]);
            self.counts.cleaned += 1;
        }
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
    }
    println!("{total:?}");
    let Counts { versions, repeated, refused, not_found, not_text, heard, .. } = &total;
    for count in [versions, repeated, refused, not_found, not_text, heard] {
        assert!(*count > 50, "something hardly ever happened: {total:?}");
    }
    assert!(total.cold_rewinds > 50 && total.long_lists > 50, "{total:?}");
}
