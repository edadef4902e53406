//! Schedules and single uses on a store that fails, a wall clock that steps, and a process that crashes.
//!
//! Checked: what was promised is done once unless its cancelling was; nothing is done early, or twice, or both
//! done and cancelled; who is told late knows it; of one name one is told that it is the first to use it.

use std::collections::BTreeMap;

use super::*;
use crate::broker::deferred::Body;
use crate::broker::state::{Deferred, Schedule, Scheduled, SchedulesQuery, SetValue};
use crate::store::Shelf;

const CHANNELS: [&str; 4] = ["none-a", "memory-b", "durable-c", "#own"];
const SEEDS: u64 = 400;
const STEPS: usize = 500;
/// How long keys are remembered.
const KEY_SPAN: Millis = Millis(20_000);
/// The connection that asks.
const PEER: usize = 0;
/// The one that listens.
const EAR: u32 = 1;

/// Something that was to be done.
#[derive(Clone, Debug)]
struct Task {
    channel: usize,
    at: UnixMillis,
    key: Option<String>,
    told: Told,
    /// Someone was told that it is cancelled.
    is_cancelled: bool,
    heard: u64,
    /// It was done and the process ended before anyone could hear; or nobody knows whether it was cancelled.
    is_excused: bool,
    /// It was done in an earlier life of the process.
    is_over: bool,
    /// When it was asked for first.
    sent: Nanos,
    kind: Kind,
    /// How often its notification is on the queue.
    queued: u64,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Publish,
    Retained,
    /// A publish that a notification goes with.
    Pushed,
    Value,
    Push,
}

const KINDS: [Kind; 5] = [Kind::Publish, Kind::Retained, Kind::Pushed, Kind::Value, Kind::Push];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    Promised(EventId),
    /// It may be done.
    Unknown,
    /// It is not done.
    Refused,
}

/// What the answer to a ticket is about.
#[derive(Clone, Copy, Debug)]
enum About {
    Schedule(usize),
    Cancel(usize),
    Use(u64),
    List,
}

#[derive(Debug, Default)]
struct Totals {
    done: u64,
    late: u64,
    cancelled: u64,
    not_found: u64,
    refused: u64,
    repeated: u64,
    used: u64,
    used_again: u64,
    excused: u64,
    queued: u64,
}

struct Stage {
    seed: u64,
    chance: Prng,
    slots: Arc<Slots>,
    rules: Arc<Rules>,
    homes: Vec<Home>,
    store: SlowStore,
    downs: Vec<VecDeque<Down>>,
    tasks: Vec<Task>,
    tickets: BTreeMap<u32, About>,
    ticket: u32,
    /// By name: who was told it is the first, and whether it may be used without anyone being told.
    uses: HashMap<u64, (u64, bool)>,
    now: Now,
    /// The latest that the wall clock has shown.
    wall_latest: UnixMillis,
    /// When the process began.
    origin: Now,
    crashes: u64,
    totals: Totals,
    list: Option<Vec<(EventId, UnixMillis)>>,
    /// Notifications on the queue that were looked at.
    queued: u64,
}

fn named(n: usize) -> Channel {
    Channel { app: AppIndex(0), name: CHANNELS[n].into() }
}

impl Stage {
    fn new(seed: u64) -> Self {
        let rule = |mode| Rule { mode, ..Rule::default() };
        let rules = vec![
            (Pattern("durable-*".into()), rule(Mode::Durable)),
            (Pattern("memory-*".into()), Rule { events_max: 5, ..rule(Mode::Memory) }),
        ];
        let mut stage = Self {
            seed,
            chance: Prng::new(seed),
            slots: Arc::new(Slots::new(SHARDS, [seed, 1])),
            rules: Rules::new(vec![AppRules { id: "app".into(), rules }]),
            homes: Vec::new(),
            store: SlowStore::open(Memory::default()),
            downs: (0..SHARDS).map(|_| VecDeque::new()).collect(),
            tasks: Vec::new(),
            tickets: BTreeMap::new(),
            ticket: 0,
            uses: HashMap::new(),
            now: BEGIN,
            wall_latest: BEGIN.wall,
            origin: BEGIN,
            crashes: 0,
            totals: Totals::default(),
            list: None,
            queued: 0,
        };
        stage.start_homes();
        stage
    }

    fn start_homes(&mut self) {
        self.origin = self.now;
        let home = |shard: u16| {
            Home::new(Arc::clone(&self.slots), Limits { channels_max: 100 }).keeping(Keeping {
                rules: Arc::clone(&self.rules),
                shard: Some(ShardId(shard)),
                origin: self.now,
                seed: self.seed ^ self.crashes << 32 ^ u64::from(shard),
                key_span: KEY_SPAN,
                ..Keeping::default()
            })
        };
        self.homes = (0..SHARDS).map(home).collect();
        for n in 0..CHANNELS.len() {
            let subscribe = Subscribe::new(named(n), LaneId(0));
            self.ask_home(&named(n), EAR, Command::Subscribe(Box::new(subscribe)), None);
        }
    }

    fn clock(&self) -> UnixMillis {
        UnixMillis(self.origin.wall.0 + (self.now.steady - self.origin.steady).0 / 1_000_000)
    }

    fn ask_home(&mut self, channel: &Channel, slot: u32, command: Command, about: Option<About>) {
        self.ticket += 1;
        if let Some(about) = about {
            self.tickets.insert(self.ticket, about);
        }
        tell!("{:?} ask {} {command:?}", self.now, self.ticket);
        let home = self.slots.home_of(channel).index();
        let from = ConnectionId { shard: ShardId(0), slot, generation: 1 };
        let up = Up::Ask { from, ticket: Ticket(self.ticket), command };
        let mut out = Vec::new();
        self.homes[home].handle(up, ShardId(0), self.now, &Nothing, &mut out);
        self.post(home, out);
    }

    fn post(&mut self, home: usize, out: Vec<(ShardId, Down)>) {
        for (shard, down) in out {
            self.downs[shard.index()].push_back(down);
        }
        while let Some((tag, ask)) = self.homes[home].next_ask() {
            tell!("store {home} {tag} {ask:?}");
            self.store.ask(home, tag, ask);
        }
    }

    fn schedule(&mut self) {
        let channel = self.chance.below(CHANNELS.len() as u64) as usize;
        let delay = [0, 50, 2_000, 30_000, 200_000][self.chance.below(5) as usize];
        let at = UnixMillis(self.now.wall.0 + self.chance.below(delay + 1));
        let key = (self.chance.below(2) == 0).then(|| format!("k{}", self.tasks.len()));
        self.tasks.push(Task {
            channel,
            at,
            key,
            told: Told::Nothing,
            is_cancelled: false,
            heard: 0,
            is_excused: false,
            is_over: false,
            sent: self.now.steady,
            kind: KINDS[self.chance.below(KINDS.len() as u64) as usize],
            queued: 0,
        });
        self.send(self.tasks.len() - 1);
    }

    fn send(&mut self, number: usize) {
        let Task { channel, at, key, kind, .. } = self.tasks[number].clone();
        let data = Payload(Bytes::from(number.to_string()));
        let publish = Publish::new(named(channel), "e".into(), data.clone(), Nanos(0));
        let what = match kind {
            Kind::Publish => Deferred::Publish(Box::new(publish)),
            Kind::Retained => {
                let retain = Some(Keep::Forever);
                Deferred::Publish(Box::new(Publish { retain, ..publish }))
            }
            Kind::Pushed => {
                let push = Some(data.clone());
                Deferred::Publish(Box::new(Publish { push, ..publish }))
            }
            Kind::Push => Deferred::Push(named(channel), data),
            Kind::Value => Deferred::SetValue(Box::new(SetValue {
                channel: named(channel),
                key: "k".into(),
                data: Some(data),
                meta: Payload(Bytes::from_static(b"null")),
                keep: Keep::Forever,
                report: None,
                quiet: true,
            })),
        };
        let key = key.map(|name| {
            let (name, fingerprint) = (name.as_str().into(), [0; 16]);
            Arc::new(IdempotencyKey { name, fingerprint, span: None })
        });
        let schedule = Schedule { what, at, key };
        let command = Command::Schedule(Box::new(schedule));
        self.ask_home(&named(channel), PEER as u32, command, Some(About::Schedule(number)));
    }

    /// Comes again with a key soon after the first time.
    fn send_again(&mut self) {
        let from = self.tasks.len().saturating_sub(5);
        let is_remembered = |it: &Task| self.now.steady < it.sent + KEY_SPAN && it.key.is_some();
        if let Some(number) = (from..self.tasks.len()).find(|&n| is_remembered(&self.tasks[n])) {
            self.send(number);
        }
    }

    fn cancel(&mut self) {
        if self.tasks.is_empty() {
            return;
        }
        let from = self.tasks.len().saturating_sub(30);
        let number = from + self.chance.below((self.tasks.len() - from) as u64) as usize;
        if let Told::Promised(id) = self.tasks[number].told {
            // Any home will do.
            let home = named(self.chance.below(CHANNELS.len() as u64) as usize);
            let command = Command::CancelSchedule(AppIndex(0), id);
            self.ask_home(&home, PEER as u32, command, Some(About::Cancel(number)));
        }
    }

    fn use_once(&mut self) {
        let name = self.chance.below(20) + self.crashes * 7;
        let until = UnixMillis(self.now.wall.0 + (1 << 40));
        let command = Command::UseOnce(AppIndex(0), name.to_string().as_str().into(), until);
        self.ask_home(&named(0), PEER as u32, command, Some(About::Use(name)));
    }

    fn list(&mut self) {
        let only = self.tasks.iter().rev().find_map(|task| match task.told {
            Told::Promised(id) => Some(id),
            _ => None,
        });
        let only = only.filter(|_| self.chance.below(2) == 0);
        let query = SchedulesQuery { app: AppIndex(0), after: None, only, schedules_max: 5 };
        self.ask_home(&named(1), PEER as u32, Command::Schedules(query), Some(About::List));
    }

    fn take_down(&mut self, shard: usize) {
        let Some(down) = self.downs[shard].pop_front() else { return };
        tell!("down {shard} {down:?}");
        match down {
            Down::Deliver(delivery) => self.hear(&delivery.event),
            Down::Attach { .. } => {}
            Down::Answer { to, ticket, reply } => {
                assert_ne!(to.slot, EAR, "seed {}: {reply:?}", self.seed);
                let about = self.tickets.remove(&ticket.0).expect("an answer to an ask");
                self.answered(about, reply);
            }
        }
    }

    fn hear(&mut self, event: &Event) {
        let number: usize = match &event.happening {
            Happening::ValueChanged(change) => {
                let data = change.data.as_ref().expect("nothing is cleared");
                std::str::from_utf8(&data.0).expect("digits").parse().expect("a number")
            }
            _ => data_of(event).parse().expect("a number"),
        };
        let (seed, task) = (self.seed, &mut self.tasks[number]);
        task.heard += 1;
        assert_eq!(task.heard, 1, "seed {seed}: {number} twice: {task:?}");
        assert!(!task.is_over, "seed {seed}: {number} again after a crash: {task:?}");
        let is_value = task.kind == Kind::Value;
        // A value is read before it is set, and the clock may be set back in between.
        let at = if is_value { self.wall_latest } else { event.at };
        assert!(at >= task.at, "seed {seed}: {number} is early: {task:?} at {at:?}");
        assert_ne!(task.told, Told::Refused, "seed {seed}: {number} {task:?}");
        assert_eq!(event.channel, named(task.channel));
        let was_due = event.meta.as_ref().and_then(|it| it.was_due);
        let is_late = event.at.0.saturating_sub(task.at.0) > 1_000;
        assert_eq!(
            was_due,
            (is_late && !is_value).then_some(task.at),
            "seed {seed}: {number} {task:?}"
        );
        self.totals.late += u64::from(is_late);
        self.totals.done += 1;
    }

    fn answered(&mut self, about: About, reply: Reply) {
        let seed = self.seed;
        match (about, reply) {
            (About::Schedule(number), Reply::Scheduled(id)) => {
                let task = &mut self.tasks[number];
                if let Told::Promised(before) = task.told {
                    self.totals.repeated += 1;
                    assert_eq!(before, id, "seed {seed}: {number} was scheduled twice");
                }
                task.told = Told::Promised(id);
            }
            (About::Schedule(number), Reply::Refused(refusal)) => {
                self.totals.refused += 1;
                let task = &mut self.tasks[number];
                let told = match refusal {
                    Refusal::StoreFailed => Told::Unknown,
                    Refusal::StoreFull | Refusal::StoreBusy => Told::Refused,
                    other => panic!("{other:?}"),
                };
                // Another try may have been told otherwise.
                if !matches!(task.told, Told::Promised(_) | Told::Unknown) {
                    task.told = told;
                }
            }
            (About::Cancel(number), Reply::Done) => {
                self.totals.cancelled += 1;
                let task = &mut self.tasks[number];
                assert!(!task.is_cancelled, "seed {seed}: {number} was cancelled twice");
                task.is_cancelled = true;
            }
            (About::Cancel(_), Reply::Refused(Refusal::NotFound)) => self.totals.not_found += 1,
            (About::Use(name), Reply::Done) => {
                self.totals.used += 1;
                let it = self.uses.entry(name).or_default();
                assert_eq!(it.0, 0, "seed {seed}: {name} was used twice");
                it.0 += 1;
            }
            (About::Use(name), Reply::Refused(Refusal::Used)) => {
                self.totals.used_again += 1;
                let it = self.uses.entry(name).or_default();
                // The first may not have heard yet; what is not told to the end is looked at there.
                it.1 = true;
            }
            (About::List, Reply::Schedules(found)) => {
                let is_push = |it: &Scheduled| matches!(it.what, Deferred::Push(..));
                assert!(!found.iter().any(is_push), "seed {seed}: {found:?}");
                let found: Vec<_> = found.into_iter().map(|it| (it.id, it.at)).collect();
                assert!(found.is_sorted_by_key(|it| it.0));
                self.list = Some(found);
            }
            (About::Cancel(number), Reply::Refused(Refusal::StoreFailed)) => {
                self.totals.refused += 1;
                self.tasks[number].is_excused = true;
            }
            (_, Reply::Refused(Refusal::StoreFailed | Refusal::StoreBusy | Refusal::StoreFull)) => {
                self.totals.refused += 1;
            }
            (_, Reply::Refused(Refusal::StoreUnreadable)) => self.totals.refused += 1,
            (about, reply) => panic!("seed {seed}: {about:?} {reply:?}"),
        }
    }

    fn take_answer(&mut self, home: usize) {
        let Some((tag, answer)) = self.store.answers[home].pop_front() else { return };
        tell!("answer {home} {tag} {answer:?}");
        let mut out = Vec::new();
        self.homes[home].stored(tag, answer, self.now, &Nothing, &mut out);
        self.post(home, out);
    }

    fn step_store(&mut self, seed: u64) {
        let clock = self.clock();
        self.store.step(&mut Prng::new(seed), clock);
        for number in self.store.queued(self.queued, clock) {
            self.queued += 1;
            let number: usize = number.parse().expect("a number");
            let task = &mut self.tasks[number];
            task.queued += 1;
            let what = format!("seed {}: {number} {task:?}", self.seed);
            assert!(matches!(task.kind, Kind::Push | Kind::Pushed), "{what} has none");
            assert_eq!(task.queued, 1, "{what}");
            assert!(self.wall_latest >= task.at, "{what} is early");
            assert_ne!(task.told, Told::Refused, "{what}");
            self.totals.queued += 1;
        }
    }

    /// Whatever is done by now and was not heard of need not be heard of.
    fn excuse(&mut self) {
        let kept = self.kept();
        for task in &mut self.tasks {
            let is_done = match task.told {
                Told::Promised(id) => !kept.contains_key(&id),
                _ => false,
            };
            if is_done && task.heard == 0 && !task.is_cancelled && !task.is_excused {
                task.is_excused = true;
            }
        }
    }

    /// What is on disk.
    fn kept(&self) -> BTreeMap<EventId, UnixMillis> {
        let ask = Ask::read(Shelf::Schedules, Bytes::new(), None, u32::MAX);
        let look = self.store.memory.look();
        let answer = Reader::default().answer(&*look, self.store.store, &ask, UnixMillis(0));
        let Some(Answer::Values { values, .. }) = answer else { panic!("reads") };
        let (mut bodies, mut index) = (BTreeMap::new(), BTreeMap::new());
        let prefixes = [Body::Told, Body::Push].map(|it| deferred::body_prefix(it, "app"));
        for (key, value) in &values {
            if let Some(id) = prefixes.iter().find_map(|it| deferred::id_of(it, key)) {
                bodies.insert(id, deferred::due(value).expect("a body"));
            } else if let Some((at, id)) = deferred::parse_index_key(key) {
                index.insert(id, at);
            } else {
                assert_eq!(key[0], b'x', "a mark");
            }
        }
        assert_eq!(bodies, index, "seed {}: index and bodies differ", self.seed);
        bodies
    }

    fn pass(&mut self, span: Millis) {
        self.now.steady = self.now.steady + span;
        self.now.wall = UnixMillis(self.now.wall.0 + span.0);
        self.expire();
    }

    /// As a shard does: only when it is time.
    fn expire(&mut self) {
        self.wall_latest = self.wall_latest.max(self.now.wall);
        for home in 0..SHARDS as usize {
            if self.homes[home].next_due().is_some_and(|at| at <= self.now.steady) {
                let mut out = Vec::new();
                self.homes[home].expire(self.now, &Nothing, &mut out);
                self.post(home, out);
            }
        }
    }

    fn crash(&mut self) {
        tell!("crash");
        self.crashes += 1;
        let failures = self.store.failures;
        self.store = SlowStore::open(self.store.memory.clone());
        self.store.failures = failures;
        // Those who were to hear are gone, and so are those who were to be answered.
        self.downs.iter_mut().for_each(VecDeque::clear);
        self.excuse();
        let tickets = std::mem::take(&mut self.tickets);
        for about in tickets.into_values() {
            match about {
                About::Schedule(number) => {
                    let told = &mut self.tasks[number].told;
                    if matches!(told, Told::Nothing | Told::Refused) {
                        *told = Told::Unknown;
                    }
                }
                // Whether it is cancelled nobody knows; what is done is heard.
                About::Cancel(number) => {
                    self.tasks[number].is_excused |= {
                        let is_gone = match self.tasks[number].told {
                            Told::Promised(id) => !self.kept().contains_key(&id),
                            _ => true,
                        };
                        is_gone && self.tasks[number].heard == 0
                    }
                }
                About::Use(_) | About::List => {}
            }
        }
        let kept = self.kept();
        for task in &mut self.tasks {
            // Keys are remembered by the process alone.
            task.key = None;
            task.is_over |= match task.told {
                Told::Promised(id) => !kept.contains_key(&id),
                _ => false,
            };
        }
        self.now.steady = self.now.steady + Millis(10);
        self.start_homes();
    }

    fn step(&mut self) {
        match self.chance.below(100) {
            0..14 => self.schedule(),
            14..18 => self.send_again(),
            18..24 => self.cancel(),
            24..30 => self.use_once(),
            30..32 => self.list(),
            32..52 => {
                let shard = self.chance.below(SHARDS.into()) as usize;
                self.take_down(shard);
            }
            52..70 => {
                let seed = self.chance.next_u64();
                self.step_store(seed);
            }
            70..86 => {
                let home = self.chance.below(SHARDS.into()) as usize;
                self.take_answer(home);
            }
            86..97 => {
                let span = [1, 20, 300, 5_000, 40_000][self.chance.below(5) as usize];
                let span = Millis(self.chance.below(span + 1));
                self.pass(span);
            }
            97 => {
                let (step, back) = (self.chance.below(90_000), self.chance.below(2) == 0);
                let wall = self.now.wall.0;
                self.now.wall = UnixMillis(if back { wall - step } else { wall + step });
            }
            98 => {
                let clock = self.clock();
                self.store.sweep(clock);
            }
            _ if self.chance.below(3) == 0 => self.crash(),
            _ => {}
        }
        self.expire();
    }

    /// Lets everything that is under way, and everything that is due within a while, come to its end.
    fn settle(&mut self) {
        for round in 0..4_000 {
            for shard in 0..SHARDS as usize {
                while !self.downs[shard].is_empty() {
                    self.take_down(shard);
                }
                while !self.store.answers[shard].is_empty() {
                    self.take_answer(shard);
                }
            }
            self.step_store(self.seed.wrapping_add(round));
            self.pass(Millis(500));
            let is_open = self.homes.iter().any(|home| home.store_asks_open() > 0);
            if !is_open && self.kept().is_empty() && self.downs.iter().all(VecDeque::is_empty) {
                return;
            }
        }
        panic!("seed {}: it never comes to rest: {:?}", self.seed, self.kept());
    }

    fn check(&mut self) {
        self.settle();
        for (number, task) in self.tasks.iter().enumerate() {
            let what = format!("seed {}: {number} {task:?}", self.seed);
            let is_done = task.heard + task.queued > 0;
            assert!(!(task.is_cancelled && is_done), "{what} was done and cancelled");
            let is_promised = matches!(task.told, Told::Promised(_)) && !task.is_cancelled;
            match task.kind {
                Kind::Push => {
                    assert_eq!(task.heard, 0, "{what}");
                    assert!(!task.is_cancelled, "{what} is nobody's to cancel here");
                    assert!(!is_promised || task.queued == 1, "{what} was promised");
                    continue;
                }
                // One goes with the other, though it may be that nobody was there to hear.
                Kind::Pushed if is_promised && task.heard > 0 => {
                    assert_eq!(task.queued, 1, "{what} was promised");
                }
                _ => {}
            }
            self.totals.excused += u64::from(task.is_excused && task.heard == 0);
            if let (Told::Promised(_), false, false) =
                (task.told, task.is_cancelled, task.is_excused)
            {
                assert_eq!(task.heard, 1, "{what} was promised");
            }
        }
        self.list();
        self.settle();
        if let Some(found) = self.list.take() {
            assert_eq!(found, [], "seed {}", self.seed);
        }
    }
}

#[test]
fn what_is_promised_for_later_is_done_once_and_never_early() {
    let from_env = |name| std::env::var(name).ok().and_then(|it| it.parse().ok());
    let first = from_env("RINGMAIN_SEED").unwrap_or(0);
    let mut total = Totals::default();
    for seed in first..first + from_env("RINGMAIN_SEEDS").unwrap_or(SEEDS) {
        let mut stage = Stage::new(seed);
        for _ in 0..STEPS {
            stage.step();
        }
        stage.check();
        stage.crash();
        stage.check();
        let totals = &stage.totals;
        total.done += totals.done;
        total.late += totals.late;
        total.cancelled += totals.cancelled;
        total.not_found += totals.not_found;
        total.refused += totals.refused;
        total.repeated += totals.repeated;
        total.used += totals.used;
        total.used_again += totals.used_again;
        total.excused += totals.excused;
        total.queued += totals.queued;
    }
    println!("{total:?}");
    for (what, count) in [
        ("done", total.done),
        ("late", total.late),
        ("cancelled", total.cancelled),
        ("not found", total.not_found),
        ("refused", total.refused),
        ("repeated", total.repeated),
        ("used", total.used),
        ("used again", total.used_again),
        ("queued", total.queued),
    ] {
        assert!(count > 50, "hardly anything was {what}: {total:?}");
    }
    assert!(total.excused * 10 < total.done, "too much was excused: {total:?}");
}
