//! Homes that keep history on a store that fails, and crash, against what their clients were told.
//!
//! Clients subscribe, go away and come back with their position; publishers publish, with keys and without, and
//! try again when they are refused; the store commits in groups, late, and now and then fails, before it
//! wrote or after; the wall clock steps; the process crashes with all that was not committed. Checked: nobody hears
//! an event twice or misses one without being told; what was acknowledged is in the history, once, where it was
//! said to be; a key gives one event; a refusal to continue has its reason.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::home::{Home, Keeping, Limits};
use super::rules::{AppRules, Pattern, Rule, Rules};
use super::slots::Slots;
use super::*;
use crate::base::ids::Ticket;
use crate::base::prng::Prng;
use crate::base::time::Now;
use crate::store::database::Database;
use crate::store::ledger::Ledger;
use crate::store::memory::{Memory, Outcome};
use crate::store::reads::Reader;
use crate::store::{Answer, Ask, Bounds, Fault, Shelf, StreamKey, open};

const SHARDS: u16 = 2;
const CLIENTS: usize = 6;
const STEPS: usize = 500;
const SEEDS: u64 = 1_500;
const NAMES: [&str; 4] = ["durable-a", "durable-b", "memory-a", "none-a"];
/// Events that a memory channel keeps.
const MEMORY_EVENTS: u64 = 6;
/// Events that a durable channel keeps in memory: few, so that most of the past is read from disk.
const WINDOW_EVENTS: usize = 4;
/// Events that `durable-b` keeps on disk.
const DISK_EVENTS: u64 = 30;

const BEGIN: Now = Now { steady: Nanos(1 << 40), wall: UnixMillis(1_700_000_000_000) };

struct Nothing;

impl Render for Nothing {
    fn render(&self, _: LaneId, _: &Event) -> Option<Bytes> {
        Some(Bytes::from_static(b"x"))
    }
}

/// What a client knows of its channel.
struct Client {
    channel: usize,
    /// The place after what it heard last.
    position: Option<Position>,
    stage: ClientStage,
    ticket: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClientStage {
    Away,
    /// Asked; and left since.
    Asked(bool),
    Here,
}

/// A publish that is on its way or has been answered.
#[derive(Clone, Debug)]
struct Sent {
    channel: usize,
    data: String,
    key: Option<String>,
    /// What was said.
    told: Option<Published>,
}

/// The store, as slow as the seed wants it.
struct SlowStore {
    memory: Memory,
    ledger: Ledger,
    store: u128,
    writes: VecDeque<(usize, u64, Ask)>,
    reads: VecDeque<(usize, u64, Ask)>,
    reader: Reader,
    answers: Vec<VecDeque<(u64, Answer)>>,
    failures: u64,
}

impl SlowStore {
    fn open(memory: Memory) -> Self {
        memory.reopen();
        let store = open::settle(&memory, 7).expect("a settled store");
        let ledger = Ledger::new(Arc::new(memory.clone()), store).expect("a sound store");
        Self {
            memory,
            ledger,
            store,
            writes: VecDeque::new(),
            reads: VecDeque::new(),
            reader: Reader::default(),
            answers: (0..SHARDS).map(|_| VecDeque::new()).collect(),
            failures: 0,
        }
    }

    fn ask(&mut self, home: usize, tag: u64, ask: Ask) {
        let is_read = ask.is_read();
        let queue = if is_read { &mut self.reads } else { &mut self.writes };
        queue.push_back((home, tag, ask));
    }

    /// Commits a group of so many, or answers a read.
    fn step(&mut self, chance: &mut Prng, clock: UnixMillis) {
        if chance.below(2) == 0 {
            let Some((home, tag, ask)) = self.reads.pop_front() else { return };
            let look = self.memory.look();
            let answer = self.reader.answer(&*look, self.store, &ask, clock);
            self.answers[home].push_back((tag, answer.expect("it is a read")));
            return;
        }
        let group = (1 + chance.below(6) as usize).min(self.writes.len());
        if group == 0 {
            return;
        }
        let group: Vec<_> = self.writes.drain(..group).collect();
        match chance.below(40) {
            0 => self.memory.expect([Outcome::FailsBefore]),
            1 => self.memory.expect([Outcome::FailsAfter]),
            // The disk's bound.
            2 => {
                for (home, tag, _) in group {
                    self.failures += 1;
                    self.answers[home].push_back((tag, Answer::Fault(Fault::Full)));
                }
                return;
            }
            _ => {}
        }
        let asks = group.iter().map(|(_, _, ask)| ask.clone());
        let answers = self.ledger.answer(asks, clock);
        for ((home, tag, _), answer) in group.into_iter().zip(answers) {
            self.failures += u64::from(matches!(answer, Answer::Fault(_)));
            self.answers[home].push_back((tag, answer));
        }
        if self.ledger.is_broken() {
            self.memory.reopen();
            let database = Arc::new(self.memory.clone());
            self.ledger = Ledger::new(database, self.store).expect("a sound store");
        }
    }

    /// What was put on the queue of notifications after this many, in order.
    fn queued(&mut self, after: u64, clock: UnixMillis) -> Vec<String> {
        let after = Some(Bytes::copy_from_slice(&after.to_be_bytes()));
        let ask = Ask::read(Shelf::PushQueue, Bytes::new(), after, u32::MAX);
        let look = self.memory.look();
        let answer = self.reader.answer(&*look, self.store, &ask, clock);
        let Some(Answer::Values { values, .. }) = answer else { panic!("reads") };
        let text = |value: &Bytes| String::from_utf8_lossy(value).into_owned();
        values.iter().map(|(_, value)| text(value)).collect()
    }

    fn sweep(&mut self, clock: UnixMillis) {
        let bounds = |stream: &StreamKey| match &*stream.channel {
            "durable-b" => Bounds { records_max: DISK_EVENTS, bytes_max: 0 },
            _ => Bounds::default(),
        };
        let Ok(portion) = self.ledger.sweep(clock, &bounds) else { return };
        for (stream, head) in portion.moved {
            for answers in &mut self.answers {
                answers.push_back((u64::MAX, Answer::Moved { stream: stream.clone(), head }));
            }
        }
    }
}

/// Prints what happens, if `RINGMAIN_SIM_LOG` is set: the readable side of a seed that failed.
macro_rules! tell {
    ($($text:tt)*) => {
        if std::env::var_os("RINGMAIN_SIM_LOG").is_some() {
            println!($($text)*);
        }
    };
}

mod annotations;
mod kept;
mod later;
mod versions;

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
    /// What could make a position void: resets, crashes, failures.
    resets: [u64; NAMES.len()],
    crashes: u64,
    /// Every event anyone was shown: by channel, epoch and serial.
    shown: HashMap<(usize, Epoch, u64), EventId>,
    counts: Counts,
    page: Option<Page>,
}

/// How often what is looked for happened, so that no check is empty.
#[derive(Debug, Default)]
struct Counts {
    replayed: u64,
    cold: u64,
    gaps: u64,
    refused: u64,
    repeated: u64,
    acknowledged: u64,
    catch_ups: u64,
}

fn channel(n: usize) -> Channel {
    Channel { app: AppIndex(0), name: NAMES[n].into() }
}

fn data_of(event: &Event) -> String {
    let Happening::Message { data, .. } = &event.happening else { panic!("{event:?}") };
    String::from_utf8_lossy(&data.0).into_owned()
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
        let mut scene = Self {
            seed,
            chance: Prng::new(seed),
            slots: Arc::new(Slots::new(SHARDS, [seed, 1])),
            rules: Rules::new(vec![rules]),
            homes: Vec::new(),
            store: SlowStore::open(Memory::default()),
            downs: (0..SHARDS).map(|_| VecDeque::new()).collect(),
            clients: Vec::new(),
            sent: Vec::new(),
            now: BEGIN,
            resets: [0; NAMES.len()],
            crashes: 0,
            shown: HashMap::new(),
            counts: Counts::default(),
            page: None,
        };
        let client = |n| Client {
            channel: n % NAMES.len(),
            position: None,
            stage: ClientStage::Away,
            ticket: 0,
        };
        scene.clients = (0..CLIENTS).map(client).collect();
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

    /// Publishers have connections behind those of the clients.
    fn up(&mut self, to: &Channel, from: ConnectionId, ticket: u32, command: Command) {
        let home = self.slots.home_of(to).index();
        tell!("up {from} {ticket} {command:?}");
        let up = Up::Ask { from, ticket: Ticket(ticket), command };
        let mut out = Vec::new();
        self.homes[home].handle(up, from.shard, self.now, &Nothing, &mut out);
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
        let start = match client.position {
            Some(position) => Start::After(position),
            None => Start::Now,
        };
        let subscribe = Subscribe { start, ..Subscribe::new(channel(at), LaneId(0)) };
        let command = Command::Subscribe(Box::new(subscribe));
        self.up(&channel(at), Self::connection(n), ticket, command);
    }

    fn leave(&mut self, n: usize) {
        match self.clients[n].stage {
            ClientStage::Away => {}
            ClientStage::Asked(_) => self.clients[n].stage = ClientStage::Asked(true),
            ClientStage::Here => {
                self.clients[n].stage = ClientStage::Away;
                self.detach(n);
            }
        }
    }

    fn detach(&mut self, n: usize) {
        let channel = channel(self.clients[n].channel);
        let home = self.slots.home_of(&channel).index();
        let up = Up::Detach(
            Box::new(Subscribe::new(channel, LaneId(0))),
            crate::broker::Parting::Unsubscribed,
        );
        let mut out = Vec::new();
        let shard = Self::connection(n).shard;
        self.homes[home].handle(up, shard, self.now, &Nothing, &mut out);
        self.post(home, out);
    }

    fn publish(&mut self) {
        let channel = self.chance.below(NAMES.len() as u64) as usize;
        let number = self.sent.len();
        let key = (self.chance.below(2) == 0).then(|| format!("k{number}"));
        let data = format!("\"{number}\"");
        self.sent.push(Sent { channel, data, key, told: None });
        self.send(number);
    }

    fn send(&mut self, number: usize) {
        let Sent { channel: at, data, key, .. } = self.sent[number].clone();
        let key = key.map(|name| {
            Arc::new(IdempotencyKey {
                name: name.as_str().into(),
                fingerprint: [number as u8; 16],
                span: None,
            })
        });
        let data = Payload(Bytes::from(data));
        let publish =
            Publish { key, ..Publish::new(channel(at), "e".into(), data, self.now.steady) };
        let from = Self::connection(CLIENTS + number % 2);
        self.up(&channel(at), from, number as u32, Command::Publish(Box::new(publish)));
    }

    /// A publisher that was refused, or does not know, tries again.
    fn send_again(&mut self) {
        if self.sent.is_empty() {
            return;
        }
        let from = self.sent.len().saturating_sub(20);
        let number = from + self.chance.below((self.sent.len() - from) as u64) as usize;
        if self.sent[number].key.is_some() {
            self.send(number);
        }
    }

    fn show(&mut self, at: usize, event: &Event) {
        let epoch = event.epoch.expect("only what is kept has a position");
        let key = (at, epoch, event.serial.0);
        let id = *self.shown.entry(key).or_insert(event.id);
        assert_eq!(id, event.id, "seed {}: two events at {key:?}", self.seed);
    }

    fn hear(&mut self, n: usize, event: &Event) {
        let client = &mut self.clients[n];
        let Some(position) = event.position() else { return };
        if let Some(before) = client.position.filter(|it| it.epoch == position.epoch) {
            let expected = Serial(before.serial.0 + 1);
            assert_eq!(
                expected, position.serial,
                "seed {}: client {n} missed or repeats",
                self.seed
            );
        }
        client.position = Some(position);
        let at = client.channel;
        self.show(at, event);
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
                match self.clients[n].stage {
                    ClientStage::Asked(true) => {
                        self.clients[n].stage = ClientStage::Away;
                        self.detach(n);
                    }
                    _ => self.attached(n, *reply),
                }
            }
            Down::Answer { to, ticket, reply } => self.answered(to, ticket, reply),
        }
    }

    fn attached(&mut self, n: usize, reply: Subscribed) {
        self.clients[n].stage = ClientStage::Here;
        let asked = self.clients[n].position;
        match reply.replay.as_deref() {
            None => {
                assert!(asked.is_none());
                self.clients[n].position = reply.position;
            }
            Some(Ok(replay)) => {
                self.counts.cold += u64::from(replay.is_cold);
                for event in &replay.events {
                    self.counts.replayed += 1;
                    self.hear(n, event);
                }
                assert_eq!(self.clients[n].position, Some(replay.position), "seed {}", self.seed);
                assert_eq!(reply.position, Some(replay.position), "seed {}", self.seed);
            }
            Some(Err(gap)) => {
                self.counts.gaps += 1;
                let at = self.clients[n].channel;
                let is_memory = NAMES[at].starts_with("memory");
                let is_justified = match gap.reason {
                    GapReason::EpochChanged => is_memory || self.resets[at] > 0,
                    GapReason::Expired => is_memory || at == 1 || self.resets[at] > 0,
                    GapReason::Unavailable => self.store.failures > 0,
                    GapReason::NotKept => NAMES[at].starts_with("none"),
                    GapReason::Ahead | GapReason::TooMuch => false,
                };
                assert!(is_justified, "seed {}: {gap:?} on {}", self.seed, NAMES[at]);
                self.clients[n].position = reply.position;
            }
        }
    }

    fn answered(&mut self, to: ConnectionId, ticket: Ticket, reply: Reply) {
        let n = to.slot as usize;
        match reply {
            Reply::Published(published) => {
                let sent = &mut self.sent[ticket.0 as usize];
                if let Some(told) = &sent.told {
                    // Another life of the channel knows no keys of the last.
                    let is_anew = told.epoch != published.epoch && self.resets[sent.channel] > 0;
                    assert!(
                        published.is_repeated || published.mode == Mode::None || is_anew,
                        "seed {}: {sent:?} again as {published:?}",
                        self.seed,
                    );
                    if is_anew {
                        sent.told = Some(published);
                    } else if published.is_repeated {
                        self.counts.repeated += 1;
                        assert_eq!((told.serial, told.id), (published.serial, published.id));
                    }
                } else {
                    self.counts.acknowledged += 1;
                    sent.told = Some(published);
                }
            }
            Reply::Refused(refusal) => {
                assert!(
                    n >= CLIENTS,
                    "seed {}: a subscription was refused: {refusal:?}",
                    self.seed
                );
                assert!(
                    matches!(
                        refusal,
                        Refusal::StoreBusy
                            | Refusal::StoreFailed
                            | Refusal::StoreUnreadable
                            | Refusal::StoreFull
                    ),
                    "{refusal:?}"
                );
                self.counts.refused += 1;
            }
            Reply::Page(page) => self.page = Some(*page),
            Reply::Purged(_) | Reply::Stream(_) => {}
            other => panic!("{other:?}"),
        }
    }

    fn take_answer(&mut self, home: usize) {
        let Some((tag, answer)) = self.store.answers[home].pop_front() else { return };
        tell!("answer {home} {tag} {answer:?}");
        if let Answer::Opened { tail, .. } = &answer {
            self.counts.catch_ups += u64::from(!tail.is_empty());
        }
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

    /// The process ends between two instructions: what is not committed is gone, and so is every connection.
    fn crash(&mut self) {
        tell!("crash");
        self.crashes += 1;
        let failures = self.store.failures;
        self.store = SlowStore::open(self.store.memory.clone());
        self.store.failures = failures;
        self.downs.iter_mut().for_each(VecDeque::clear);
        for client in &mut self.clients {
            client.stage = ClientStage::Away;
        }
        // What is only in memory has another life, and so have its keys.
        for sent in &mut self.sent {
            if !NAMES[sent.channel].starts_with("durable") {
                (sent.key, sent.told) = (None, None);
            }
        }
        // Whatever it said meanwhile, a process starts by a clock that is right.
        self.now.steady = self.now.steady + Millis(10);
        self.now.wall = self.clock();
        self.start_homes();
    }

    fn step(&mut self) {
        let clock = self.clock();
        match self.chance.below(100) {
            0..20 => self.publish(),
            20..26 => self.send_again(),
            26..34 => {
                let n = self.chance.below(CLIENTS as u64) as usize;
                self.subscribe(n);
            }
            34..38 => {
                let n = self.chance.below(CLIENTS as u64) as usize;
                self.leave(n);
            }
            38..60 => {
                let shard = self.chance.below(SHARDS.into()) as usize;
                self.take_down(shard);
            }
            60..78 => {
                let mut chance = Prng::new(self.chance.next_u64());
                self.store.step(&mut chance, clock);
            }
            78..94 => {
                let home = self.chance.below(SHARDS.into()) as usize;
                self.take_answer(home);
            }
            94 => self.store.sweep(clock),
            95 => {
                // Never as long as a key is remembered, over all steps.
                let span = [10, 1_500, 35_000][self.chance.below(100).saturating_sub(97) as usize];
                self.pass(Millis(span));
            }
            96 => {
                let wall = self.now.wall.0;
                let step = [wall - 3_600_000, wall + 86_400_000][self.chance.below(2) as usize];
                self.now.wall = UnixMillis(step);
            }
            97 if self.chance.below(4) == 0 => {
                let at = self.chance.below(NAMES.len() as u64 - 1) as usize;
                self.resets[at] += 1;
                self.up(&channel(at), Self::connection(CLIENTS), 0, Command::Reset(channel(at)));
            }
            98 if self.chance.below(3) == 0 => self.crash(),
            _ => self.pass(Millis(1)),
        }
    }

    /// The clock of retention, which the wall clock was once.
    fn clock(&self) -> UnixMillis {
        UnixMillis(BEGIN.wall.0 + (self.now.steady - BEGIN.steady).0 / 1_000_000)
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
            let mut chance = Prng::new(self.seed.wrapping_add(round));
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

    /// The whole history of a channel, as its home tells it.
    fn history(&mut self, at: usize) -> Vec<Arc<Event>> {
        let mut events: Vec<Arc<Event>> = Vec::new();
        loop {
            let from = events.last().map_or(Serial(0), |it| Serial(it.serial.0 + 1));
            let query = PageQuery {
                epoch: None,
                from,
                to: None,
                from_at: None,
                to_at: None,
                is_newest_first: false,
                events_max: 7,
                bytes_max: 1 << 20,
                is_latest: false,
            };
            // A refusal means that the store failed under it: again.
            let page = (0..100).find_map(|_| {
                let command = Command::History(channel(at), Box::new(query));
                self.up(&channel(at), Self::connection(CLIENTS), 0, command);
                self.settle();
                let page = self.page.take();
                if page.is_none() {
                    self.pass(Millis(1_500));
                }
                page
            });
            let page = page.unwrap_or_else(|| panic!("seed {}: no page", self.seed));
            events.extend(page.events);
            if !page.has_more {
                let newest = page.stream.newest.0;
                assert_eq!(events.last().map_or(newest, |it| it.serial.0), newest);
                return events;
            }
        }
    }

    fn check(&mut self) {
        self.settle();
        for (at, name) in NAMES.iter().enumerate().filter(|(_, name)| !name.starts_with("none")) {
            let events = self.history(at);
            let serials: Vec<_> = events.iter().map(|it| it.serial.0).collect();
            assert!(serials.windows(2).all(|two| two[1] == two[0] + 1), "{serials:?}");
            assert!(events.windows(2).all(|two| two[0].id < two[1].id), "ids of {name}");
            let mut seen = HashMap::new();
            for event in &events {
                self.show(at, event);
                let twice = seen.insert(data_of(event), event.serial);
                assert!(twice.is_none(), "seed {}: {} twice", self.seed, data_of(event));
            }
            let Some(first) = events.first() else { continue };
            let epoch = first.epoch;
            for sent in self.sent.iter().filter(|it| it.channel == at) {
                let Some(told) = sent.told.filter(|it| it.epoch == epoch) else { continue };
                if told.serial < first.serial {
                    continue;
                }
                assert_eq!(
                    seen.get(&sent.data),
                    Some(&told.serial),
                    "seed {}: {sent:?} acknowledged on {} and not there, among {serials:?}",
                    self.seed,
                    NAMES[at]
                );
            }
        }
    }
}

#[test]
fn what_was_acknowledged_is_kept_and_what_was_missed_is_told() {
    let seeds = std::env::var("RINGMAIN_SEEDS").ok().and_then(|it| it.parse().ok());
    let mut total = Counts::default();
    let first = std::env::var("RINGMAIN_SEED").ok().and_then(|it| it.parse().ok()).unwrap_or(0);
    for seed in first..first + seeds.unwrap_or(SEEDS) {
        let mut scene = Scene::new(seed);
        for step in 1..=STEPS {
            scene.step();
            if step % 125 == 0 {
                scene.check();
            }
        }
        scene.crash();
        scene.check();
        let counts = &scene.counts;
        total.replayed += counts.replayed;
        total.cold += counts.cold;
        total.gaps += counts.gaps;
        total.refused += counts.refused;
        total.repeated += counts.repeated;
        total.acknowledged += counts.acknowledged;
        total.catch_ups += counts.catch_ups;
    }
    println!("{total:?}");
    for (what, count) in [
        ("replayed", total.replayed),
        ("read from disk", total.cold),
        ("refused to continue", total.gaps),
        ("refused", total.refused),
        ("repeated", total.repeated),
        ("acknowledged", total.acknowledged),
        ("caught up", total.catch_ups),
    ] {
        assert!(count > 50, "hardly anything was {what}: {total:?}");
    }
}
