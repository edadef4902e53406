//! The whole of it on a ledger in memory: providers that fail, throttle and refuse, a store that fails, crashes, orders at
//! any moment; and a plain model that says what must be so.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::record::{Place, Progress};
use super::*;
use crate::config::push::Logging;
use crate::outbound::push::Push;
use crate::outbound::push::provider::{Parcel, Verdict};
use crate::push::Provider;
use crate::push::device::{Device, DeviceState, Recipient, Subscription};
use crate::push::order::PageOf;
use crate::push::publish::{Content, Fate, Intent, State, Target};
use crate::push::stored::{decode, encode};
use crate::push::template::Text;
use crate::store::ledger::Ledger;
use crate::store::memory::{Memory, Outcome as Commit};
use crate::store::{Change, Fault, NEVER, open};

const STORE: u128 = 9;
const START: u64 = 1_700_000_000_000;
pub(super) const APP: &str = "app";

pub(super) struct World {
    memory: Memory,
    ledger: Ledger,
    pub(super) push: Push,
    settings: Arc<PushSettings>,
    pub(super) counts: Arc<Counts>,
    pub(super) now: Now,
    chance: Prng,
    /// Asked and not done; done and not told. Those that write, and those that read.
    asks: [VecDeque<(u64, Ask)>; 2],
    acks: [VecDeque<(u64, Answer)>; 2],
    pub(super) parcels: Vec<(u64, Parcel)>,
    looks: Vec<(u64, Vec<String>)>,
    callers: u64,
    waiting: HashSet<u64>,
    pub(super) told: HashMap<u64, Result<Told, Refused>>,
    pub(super) notes: Vec<Note>,
    pub(super) is_full: bool,
    /// Taken in this life of the process.
    taken: HashSet<(String, String)>,
    /// Publishes with what was asked, accepted or not.
    asked: BTreeMap<String, Intent>,
    accepted: BTreeSet<String>,
    cancelled: BTreeSet<String>,
    schedules: Vec<(u64, String)>,
    pub(super) connected: HashSet<String>,
    gone: HashSet<String>,
}

pub(super) fn settings() -> PushSettings {
    PushSettings {
        log: Logging::On,
        publishes_per_second_max: 1000,
        publishes_open_max: 1000,
        devices_max: 1000,
        pending_max: 32,
        concurrency_max: 8,
        timeout: Millis(1000),
        retry_first: Millis(1000),
        retry_longest: Millis(60_000),
        attempts_max: 3,
        failures_max: 10,
        retention: Millis(7 * 86_400_000),
        dead_letters_max: 20,
        sync_wait: Millis(5_000),
        ..PushSettings::default()
    }
}

pub(super) fn text(title: &str) -> Content {
    let text = Text { title: Some(title.to_owned()), ..Text::default() };
    Content { text, ..Content::default() }
}

pub(super) fn intent(targets: Vec<Target>) -> Intent {
    Intent {
        id: None,
        key: None,
        key_span: None,
        fingerprint: [7; 16],
        targets,
        content: text("hello"),
        credential_id: None,
        not_before: None,
        expires_at: None,
        skip_connected: false,
        passes_quota: false,
        is_sync: false,
    }
}

pub(super) fn channel(name: &str) -> Target {
    Target::Channel(name.to_owned())
}

impl World {
    pub(super) fn new(settings: PushSettings, seed: u64) -> Self {
        let memory = Memory::default();
        open::settle(&memory, STORE).unwrap();
        let ledger = Ledger::new(Arc::new(memory.clone()), STORE).unwrap();
        let (settings, counts) = (Arc::new(settings), Arc::<Counts>::default());
        let push = Push::new(Arc::clone(&settings), Arc::clone(&counts), wants(), seed);
        let mut world = Self {
            memory,
            ledger,
            push,
            settings,
            counts,
            now: Now { steady: Nanos(1), wall: UnixMillis(START) },
            chance: Prng::new(seed),
            asks: Default::default(),
            acks: Default::default(),
            parcels: Vec::new(),
            looks: Vec::new(),
            callers: 0,
            waiting: HashSet::new(),
            told: HashMap::new(),
            notes: Vec::new(),
            is_full: false,
            taken: HashSet::new(),
            asked: BTreeMap::new(),
            accepted: BTreeSet::new(),
            cancelled: BTreeSet::new(),
            schedules: Vec::new(),
            connected: HashSet::new(),
            gone: HashSet::new(),
        };
        world.with(|push, now, out| push.drive(now, out));
        world.settle();
        world
    }

    pub(super) fn with(&mut self, act: impl FnOnce(&mut Push, Now, &mut Vec<Step>)) {
        let mut out = Vec::new();
        act(&mut self.push, self.now, &mut out);
        for step in out {
            match step {
                Step::Ask(tag, ask) => self.asks[usize::from(ask.is_read())].push_back((tag, ask)),
                Step::Deliver(number, parcel) => self.leave(number, *parcel),
                Step::Look(number, looking) => self.looks.push((number, looking.clients)),
                Step::Tell(caller, told) => {
                    assert!(self.waiting.remove(&caller), "{caller} is told once: {told:?}");
                    self.told.insert(caller, told);
                }
                Step::Broadcast(..) => panic!("nobody asked for that"),
                Step::Say(note) => self.notes.push(note),
            }
        }
        let jobs = &self.push.jobs;
        assert!(jobs.pending() <= self.settings.pending_max as usize, "devices are bounded");
        assert!(jobs.pages <= PAGES_MAX && jobs.asleep <= room::ASLEEP_MAX);
        let asleep = jobs.items.values().filter(|it| it.is_asleep).count();
        assert_eq!(jobs.asleep, asleep, "who is asleep is counted");
    }

    /// A parcel leaves: nothing may be known of it.
    fn leave(&mut self, number: u64, parcel: Parcel) {
        let key = self.push.jobs.items[&number].key.clone();
        let id = parcel.publish_id.clone();
        let on_disk = self.value(&Place { app: APP, id: &id }.outcome(&key));
        let known = on_disk.and_then(|it| decode::<Outcome>(&it));
        assert!(known.is_none(), "{id} {key} has {known:?} on disk and is sent again");
        let place = (id, key);
        assert!(!self.taken.contains(&place), "{place:?} was taken");
        let twin = self.parcels.iter().find(|it| self.place_of(it.0) == place);
        assert!(twin.is_none(), "{place:?} is under way");
        let same = self.parcels.iter().filter(|it| it.1.provider == parcel.provider).count();
        assert!(same < self.settings.concurrency_max as usize);
        self.parcels.push((number, parcel));
    }

    fn place_of(&self, number: u64) -> (String, String) {
        let item = &self.push.jobs.items[&number];
        (self.push.jobs.jobs[&item.job].id.to_string(), item.key.clone())
    }

    fn value(&mut self, key: &Bytes) -> Option<Bytes> {
        let ask = Ask::Pick { shelf: Shelf::Push, keys: vec![key.clone()] };
        match self.ledger.answer([ask], self.now.wall).pop() {
            Some(Answer::Values { mut values, .. }) => values.pop().map(|it| it.1),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn values(&mut self, shelf: Shelf, prefix: &[u8]) -> Vec<(Bytes, Bytes)> {
        let ask = Ask::read(shelf, Bytes::copy_from_slice(prefix), None, u32::MAX);
        match self.ledger.answer([ask], self.now.wall).pop() {
            Some(Answer::Values { values, .. }) => values,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn change(&mut self, changes: Vec<(Shelf, Change)>) -> bool {
        let answer = self.ledger.answer([Ask::Change { changes }], self.now.wall).pop();
        self.reopen();
        matches!(answer, Some(Answer::Changed))
    }

    fn reopen(&mut self) {
        if self.ledger.is_broken() {
            self.memory.reopen();
            self.ledger = Ledger::new(Arc::new(self.memory.clone()), STORE).unwrap();
        }
    }

    pub(super) fn device(&mut self, id: &str, client: Option<&str>, recipient: Recipient) {
        let device = Device {
            id: id.to_owned(),
            client_id: client.map(str::to_owned),
            form_factor: "phone".into(),
            platform: "android".into(),
            timezone: String::new(),
            locale: String::new(),
            metadata: String::new(),
            recipient,
            state: DeviceState::Active,
            failures: 0,
            error_reason: None,
            last_active_at: 0,
            rate: None,
            identity: None,
            created_at: 0,
            updated_at: 0,
        };
        self.put_device(&device);
    }

    pub(super) fn put_device(&mut self, device: &Device) {
        let mut changes =
            vec![put(keys::key(keys::DEVICE, APP, &[device.id.as_bytes()], true), device)];
        if let Some(client) = &device.client_id {
            let parts = [client.as_bytes(), device.id.as_bytes()];
            changes.push(record::mark(keys::key(keys::OF_CLIENT, APP, &parts, true)));
        }
        assert!(self.change(changes));
    }

    pub(super) fn subscribe(&mut self, channel: &str, ids: &[String]) {
        let mut changes = Vec::new();
        for id in ids {
            let subscription = Subscription {
                channel: channel.to_owned(),
                device_id: id.clone(),
                client_id: None,
                provider: Provider::Fcm,
                token_hash: String::new(),
                credential_version: None,
                created_at: 0,
            };
            let parts = [channel.as_bytes(), id.as_bytes()];
            changes.push(put(keys::key(keys::SUBSCRIPTION, APP, &parts, true), &subscription));
        }
        let count = Bytes::copy_from_slice(&(ids.len() as u64).to_be_bytes());
        let key = keys::key(keys::CHANNEL, APP, &[channel.as_bytes()], true);
        changes.push((Shelf::Push, Change::Put { key, value: count, expires: NEVER }));
        assert!(self.change(changes));
    }

    /// Does the oldest ask of one kind.
    fn work(&mut self, side: usize) {
        let Some((tag, ask)) = self.asks[side].pop_front() else { return };
        let answer = match &ask {
            Ask::Change { .. } if self.is_full => Answer::Fault(Fault::Full),
            _ => self.ledger.answer([ask], self.now.wall).pop().unwrap(),
        };
        self.reopen();
        self.acks[side].push_back((tag, answer));
    }

    fn ack(&mut self, side: usize) {
        let Some((tag, answer)) = self.acks[side].pop_front() else { return };
        self.with(|push, now, out| push.answered(tag, answer, now, out));
    }

    pub(super) fn order(&mut self, order: Order) -> u64 {
        self.callers += 1;
        let caller = self.callers;
        self.waiting.insert(caller);
        let mut chance = self.chance.fork();
        let mut random = || u128::from(chance.next_u64());
        self.with(|push, now, out| push.order(caller, APP, order, now, &mut random, out));
        caller
    }

    pub(super) fn publish(&mut self, intent: Intent) -> u64 {
        let caller = self.order(Order::Publish(Box::new(intent)));
        self.settle();
        caller
    }

    pub(super) fn pass(&mut self, millis: u64) {
        self.now.steady = self.now.steady + Millis(millis);
        self.now.wall.0 += millis;
        self.with(|push, now, out| push.drive(now, out));
    }

    /// Does all that the store is asked for, and waits for pauses of less than a second.
    pub(super) fn settle(&mut self) {
        for _ in 0..200_000 {
            if let Some(side) = (0..2).find(|it| !self.asks[*it].is_empty()) {
                self.work(side);
            } else if let Some(side) = (0..2).find(|it| !self.acks[*it].is_empty()) {
                self.ack(side);
            } else if let Some((number, clients)) = self.looks.pop() {
                let there: Vec<_> = clients.iter().map(|it| self.connected.contains(it)).collect();
                self.with(|push, now, out| push.looked(number, &there, now, out));
            } else if let Some(due) = self.push.due(self.now)
                && due.since(self.now.steady).as_millis() < 100
            {
                self.pass(due.since(self.now.steady).as_millis() as u64 + 1);
            } else {
                return;
            }
        }
        panic!("it does not come to rest");
    }

    /// A provider answers.
    pub(super) fn answer(&mut self, at: usize, verdict: Verdict, retry_after: Option<u64>) {
        let (number, _) = self.parcels.swap_remove(at);
        let (id, key) = self.place_of(number);
        if verdict == Verdict::Taken {
            self.taken.insert((id, key.clone()));
        }
        if verdict == Verdict::Gone {
            self.gone.insert(key);
        }
        let delivered = Delivered {
            retry_after: retry_after.map(Millis),
            ..Delivered::not(verdict, "so it said")
        };
        self.with(|push, now, out| push.delivered(number, delivered, now, out));
    }

    /// Everything is taken, until nothing more leaves and nothing waits for less than an hour.
    pub(super) fn finish(&mut self) {
        for _ in 0..100_000 {
            self.settle();
            if !self.parcels.is_empty() {
                self.answer(0, Verdict::Taken, None);
                continue;
            }
            if self.tell_due() {
                continue;
            }
            match self.push.due(self.now) {
                Some(due) if due.since(self.now.steady).as_secs() < 590 => {
                    self.pass(due.since(self.now.steady).as_millis() as u64 + 1);
                }
                _ if !self.schedules.is_empty() => self.pass(60_000),
                _ => return,
            }
        }
        panic!("it does not come to an end");
    }

    /// The engine's part: what is due is put on the queue.
    fn tell_due(&mut self) -> bool {
        let wall = self.now.wall.0;
        let due: Vec<_> = self.schedules.extract_if(.., |it| it.0 <= wall).collect();
        let has_some = !due.is_empty();
        for (_, id) in due {
            self.queue(Queued::Due { app: APP.to_owned(), publish_id: id });
        }
        has_some
    }

    pub(super) fn queue(&mut self, queued: Queued) {
        let value = encode(&queued);
        // It may fail and be there, or not: it is tried until it is said to be there.
        while !self.change(vec![(Shelf::PushQueue, Change::Push { value: value.clone() })]) {}
        self.with(|push, now, out| push.nudged(now, out));
    }

    pub(super) fn crash(&mut self) {
        // What was asked may or may not have been done.
        while !self.asks[0].is_empty() && self.chance.chance(1, 2) {
            self.work(0);
        }
        self.asks = Default::default();
        self.acks = Default::default();
        self.parcels.clear();
        self.looks.clear();
        self.waiting.clear();
        self.taken.clear();
        let seed = self.chance.next_u64();
        let (settings, counts) = (Arc::clone(&self.settings), Arc::clone(&self.counts));
        self.push = Push::new(settings, counts, wants(), seed);
        self.now.steady = Nanos(self.chance.below(1 << 40) + 1);
        self.with(|push, now, out| push.drive(now, out));
    }

    pub(super) fn progress(&mut self, id: &str) -> Option<Progress> {
        decode(&self.value(&Place { app: APP, id }.progress())?)
    }

    pub(super) fn outcomes(&mut self, id: &str) -> BTreeMap<String, Outcome> {
        let prefix = Place { app: APP, id }.outcomes();
        let values = self.values(Shelf::Push, &prefix);
        let row = |(key, value): (Bytes, Bytes)| {
            (keys::rest(&prefix, &key).unwrap().to_owned(), decode::<Outcome>(&value).unwrap())
        };
        values.into_iter().map(row).collect()
    }

    /// What is on disk agrees with itself.
    fn check_disk(&mut self) {
        for (key, value) in self.values(Shelf::Push, &[keys::PROGRESS]) {
            let (_, id) = keys::app_of(keys::PROGRESS, &key).unwrap();
            let id = std::str::from_utf8(id).unwrap().to_owned();
            let progress = decode::<Progress>(&value).unwrap();
            let outcomes = self.outcomes(&id);
            let mut counted = Progress { counters: Default::default(), ..progress.clone() };
            outcomes.values().for_each(|it| counted.count(it, true));
            assert_eq!(progress.counters, counted.counters, "{id}: {outcomes:?}");
        }
    }

    /// Keys that the outcomes of a publish may have.
    fn wanted(&mut self, intent: &Intent) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for (index, target) in intent.targets.iter().enumerate() {
            let (kind, name) = match target {
                Target::Device(id) => {
                    found.insert(id.clone());
                    continue;
                }
                Target::Client(id) => (keys::OF_CLIENT, id),
                Target::Channel(name) => (keys::SUBSCRIPTION, name),
                _ => {
                    found.insert(format!("#{index}"));
                    continue;
                }
            };
            let prefix = keys::key(kind, APP, &[name.as_bytes()], false);
            let values = self.values(Shelf::Push, &prefix);
            found.extend(values.iter().map(|it| keys::rest(&prefix, &it.0).unwrap().to_owned()));
        }
        found
    }

    /// At the end: every publish that was accepted is finished, and every device has its one outcome.
    fn check_end(&mut self) {
        self.check_disk();
        let asked = self.asked.clone();
        for (id, intent) in &asked {
            let Some(progress) = self.progress(id) else {
                assert!(!self.accepted.contains(id), "{id} was accepted and is lost");
                continue;
            };
            assert!(progress.state.is_final(), "{id} is {progress:?}");
            let outcomes = self.outcomes(id);
            let wanted = self.wanted(intent);
            let have: BTreeSet<_> = outcomes.keys().cloned().collect();
            // One that is gone took its subscriptions with it.
            let strange: Vec<_> =
                have.difference(&wanted).filter(|it| !self.gone.contains(*it)).collect();
            assert!(strange.is_empty(), "{id}: {strange:?}");
            if !matches!(progress.state, State::Cancelled | State::Expired) {
                let lost: Vec<_> =
                    wanted.difference(&have).filter(|it| !self.gone.contains(*it)).collect();
                assert!(
                    lost.is_empty() || progress.error_reason.is_some(),
                    "{id} {progress:?} {intent:?}: {lost:?}, {have:?}"
                );
            }
            for (key, outcome) in &outcomes {
                if key.starts_with("unknown") {
                    assert_eq!(outcome.reason.as_deref(), Some("not_registered"), "{id} {key}");
                }
                let is_connected = outcome.fate == Fate::Connected;
                assert!(!is_connected || intent.skip_connected, "{id} {key}");
            }
            if self.cancelled.contains(id) {
                assert_eq!(progress.state, State::Cancelled, "{id}");
            }
        }
        for kind in [keys::OPEN, keys::WAITING] {
            assert!(self.values(Shelf::Push, &[kind]).is_empty(), "nothing is open");
        }
        assert!(self.values(Shelf::PushQueue, b"").is_empty(), "the queue is empty");
        let dead = self.values(Shelf::Push, &[keys::DEAD]).len();
        assert!(dead <= self.settings.dead_letters_max as usize);
        assert!(self.waiting.is_empty(), "everybody was told: {:?}", self.waiting);
        let jobs = &self.push.jobs;
        assert!(jobs.jobs.is_empty() && jobs.items.is_empty() && jobs.by_key.is_empty());
        assert!(jobs.ends.is_empty() && jobs.retries.is_empty() && jobs.dirty.is_empty());
        assert_eq!((jobs.open, jobs.pages, jobs.reserved, jobs.bodies_bytes), (0, 0, 0, 0));
        assert_eq!((jobs.admissions, jobs.errands_open, jobs.queue_open), (0, 0, 0));
        assert_eq!(jobs.flying, [0; 6]);
        assert_eq!(jobs.dead.len(), dead);
        assert!(jobs.asks.is_empty() && jobs.looks.is_empty());
        assert!(jobs.held.is_empty() && jobs.asleep == 0, "{:?}", jobs.held);
    }
}

fn wants() -> Wants {
    Arc::new(|_, kind| kind == "push.finished")
}

pub(super) fn put<T: serde::Serialize>(key: Bytes, record: &T) -> (Shelf, Change) {
    record::put(key, record, NEVER.0)
}

pub(super) fn fcm(id: &str) -> Recipient {
    Recipient::Fcm { token: format!("token-{id}") }
}

pub(super) fn ids(from: usize, to: usize) -> Vec<String> {
    (from..to).map(|it| format!("d{it:03}")).collect()
}

#[test]
fn a_publish_reaches_every_device_once_and_says_so() {
    let mut world = World::new(settings(), 1);
    for id in ids(0, 100) {
        world.device(&id, None, fcm(&id));
    }
    world.subscribe("news", &ids(0, 80));
    world.subscribe("more", &ids(60, 100));
    let targets = vec![channel("news"), Target::Device("d090".into()), channel("more")];
    let caller = world.publish(Intent { id: Some("p".into()), ..intent(targets) });
    let Ok(Told::Published { status, is_repeated: false, rendered, .. }) = &world.told[&caller]
    else {
        panic!("{:?}", world.told);
    };
    assert_eq!((status.expected, status.state), (121, State::Accepted));
    assert!(rendered[0].1.contains(r#""title":"hello""#), "{rendered:?}");
    assert_eq!(world.parcels.len(), 6, "three quarters of the requests are one app's");
    world.finish();
    assert_eq!(world.outcomes("p").len(), 100);
    let caller = world.order(Order::Status("p".into()));
    world.settle();
    let Ok(Told::Status(status)) = &world.told[&caller] else { panic!() };
    assert_eq!(status.state, State::Succeeded);
    assert_eq!((status.counters.planned, status.counters.succeeded), (100, 100));
    assert!(world.notes.iter().any(|it| matches!(it, Note::Finished(..))));
    assert_eq!(world.values(Shelf::Outbox, b"").len(), 1);
    let page = PageOf { after: None, rows_max: 60 };
    let caller = world.order(Order::Outcomes("p".into(), page));
    world.settle();
    let Ok(Told::Outcomes(page)) = &world.told[&caller] else { panic!() };
    assert_eq!(page.rows.len(), 60);
    let page = PageOf { after: page.next.clone(), rows_max: 60 };
    let caller = world.order(Order::Outcomes("p".into(), page));
    world.settle();
    let Ok(Told::Outcomes(page)) = &world.told[&caller] else { panic!() };
    assert_eq!((page.rows.len(), &page.next), (40, &None));
}

#[test]
fn publishes_go_on_after_a_crash() {
    let mut world = World::new(settings(), 2);
    for id in ids(0, 200) {
        world.device(&id, None, fcm(&id));
    }
    world.subscribe("news", &ids(0, 200));
    world.publish(Intent { id: Some("p".into()), ..intent(vec![channel("news")]) });
    let mut crashes = 0;
    while !world.progress("p").unwrap().state.is_final() {
        for _ in 0..11 {
            world.settle();
            if !world.parcels.is_empty() {
                world.answer(0, Verdict::Taken, None);
            }
        }
        world.check_disk();
        world.crash();
        world.settle();
        crashes += 1;
    }
    assert!(crashes > 10);
    assert_eq!(world.outcomes("p").len(), 200);
}

/// A random run: anything at any moment, then calm.
fn run(seed: u64) {
    let mut world = World::new(settings(), seed);
    let all = ids(0, 60);
    for (n, id) in all.iter().enumerate() {
        let recipient = match n % 3 {
            0 => fcm(id),
            1 => Recipient::Apns { token: format!("ab{n}") },
            _ => Recipient::Wns { uri: format!("https://wns.example/{n}") },
        };
        let client = format!("client{}", n % 7);
        world.device(id, (n % 2 == 0).then_some(&*client), recipient);
    }
    for n in 0..4 {
        let from = world.chance.below(40) as usize;
        let to = (from + world.chance.below(50) as usize).min(60);
        world.subscribe(&format!("c{n}"), &all[from..to]);
    }
    world.connected = HashSet::from(["client2".to_owned(), "client4".to_owned()]);
    let mut publishes: Vec<(u64, String)> = Vec::new();
    let mut cancels: Vec<(u64, String)> = Vec::new();
    for _ in 0..1500 {
        match world.chance.below(100) {
            0..4 => {
                let id = format!("p{}", world.asked.len());
                let targets = (0..1 + world.chance.below(3)).map(|_| match world.chance.below(7) {
                    6 => Target::Device(format!("unknown{}", world.chance.below(3))),
                    0 => Target::Device(all[world.chance.below(60) as usize].clone()),
                    1 => Target::Client(format!("client{}", world.chance.below(8))),
                    2 => Target::Direct(fcm("direct")),
                    _ => channel(&format!("c{}", world.chance.below(5))),
                });
                let mut it = intent(targets.collect());
                it.id = Some(id.clone());
                it.key = world.chance.chance(1, 3).then(|| format!("k{id}"));
                it.skip_connected = world.chance.chance(1, 3);
                it.is_sync = world.chance.chance(1, 4);
                let wall = world.now.wall.0;
                it.not_before =
                    world.chance.chance(1, 4).then(|| wall + 1 + world.chance.below(100_000));
                it.expires_at = world
                    .chance
                    .chance(1, 5)
                    .then(|| it.not_before.unwrap_or(wall) + 1 + world.chance.below(200_000));
                world.asked.insert(id.clone(), it.clone());
                if world.chance.chance(1, 4) {
                    it.not_before = None;
                    world.asked.insert(id.clone(), it.clone());
                    world.queue(Queued::Publish { app: APP.into(), intent: Box::new(it) });
                    world.accepted.insert(id);
                } else {
                    let caller = world.order(Order::Publish(Box::new(it)));
                    publishes.push((caller, id));
                }
            }
            4 => {
                // The same again.
                let n = world.chance.below(world.asked.len() as u64 + 1);
                if let Some(it) = world.asked.get(&format!("p{n}")).cloned() {
                    let caller = world.order(Order::Publish(Box::new(it)));
                    publishes.push((caller, format!("p{n}")));
                }
            }
            5 => {
                let n = world.chance.below(world.asked.len() as u64 + 1);
                let caller = world.order(Order::Cancel(format!("p{n}")));
                cancels.push((caller, format!("p{n}")));
            }
            6..8 => {
                let n = world.chance.below(world.asked.len() as u64 + 1);
                let key = all[world.chance.below(60) as usize].clone();
                let fate = [Fate::Delivered, Fate::Failed][world.chance.below(2) as usize];
                world.order(Order::Feedback {
                    publish_id: format!("p{n}"),
                    key,
                    fate,
                    message_id: None,
                    reason: None,
                });
            }
            8..10 => {
                let numbers: Vec<u64> = world.push.jobs.dead.keys().copied().collect();
                if !numbers.is_empty() {
                    let n = world.chance.below(numbers.len() as u64) as usize;
                    world.order(Order::Replay(numbers[n]));
                }
            }
            10 => {
                let n = world.chance.below(world.asked.len() as u64 + 1);
                world.order(Order::Status(format!("p{n}")));
            }
            11 if world.chance.chance(1, 6) => {
                world.check_disk();
                world.crash();
                publishes.clear();
            }
            12 if world.chance.chance(1, 4) => {
                let how = match world.chance.chance(1, 2) {
                    true => Commit::FailsBefore,
                    false => Commit::FailsAfter,
                };
                world.memory.expect([how]);
            }
            13 if world.chance.chance(1, 4) => world.is_full = !world.is_full,
            14..22 => {
                let most = [5, 50, 2_000][world.chance.below(3) as usize];
                let millis = world.chance.below(most);
                world.pass(millis);
                if world.chance.chance(1, 2) {
                    world.tell_due();
                }
            }
            22..45 if !world.parcels.is_empty() => {
                let at = world.chance.below(world.parcels.len() as u64) as usize;
                let verdict = match world.chance.below(12) {
                    0 if world.chance.chance(1, 3) => Verdict::Unfit,
                    0 => Verdict::Gone,
                    1 => Verdict::Refused,
                    2 => Verdict::Throttled,
                    3 | 4 => Verdict::Unavailable,
                    5 => Verdict::Unauthorized,
                    _ => Verdict::Taken,
                };
                let retry_after = world.chance.chance(1, 4).then(|| world.chance.below(5_000));
                world.answer(at, verdict, retry_after);
            }
            45..50 if !world.looks.is_empty() => {
                let (number, clients) = world.looks.remove(0);
                let there: Vec<_> = clients.iter().map(|it| world.connected.contains(it)).collect();
                world.with(|push, now, out| push.looked(number, &there, now, out));
            }
            50..75 => {
                let side = world.chance.below(2) as usize;
                world.work(side);
            }
            _ => {
                let side = world.chance.below(2) as usize;
                world.ack(side);
            }
        }
        publishes.retain(|(caller, id)| match world.told.get(caller) {
            Some(Ok(Told::Published { due, .. })) => {
                world.accepted.insert(id.clone());
                world.schedules.extend(due.map(|it| (it, id.clone())));
                false
            }
            Some(_) => false,
            None => true,
        });
    }
    world.is_full = false;
    world.memory.expect([]);
    // Whoever was not told comes again, so that all that has a time has a schedule.
    world.finish();
    let repeated: Vec<_> = world.asked.clone().into_iter().collect();
    for (id, it) in repeated {
        if world.progress(&id).is_some_and(|it| it.is_waiting) {
            let due = it.not_before.unwrap();
            world.schedules.push((due, id));
        }
    }
    world.finish();
    for (caller, id) in cancels {
        if let Some(Ok(Told::Cancelled(true))) = world.told.get(&caller) {
            world.cancelled.insert(id);
        }
    }
    world.check_end();
}

#[test]
fn nothing_is_lost_and_nothing_is_sent_twice_whatever_happens() {
    let seeds = std::env::var("SEEDS").ok().and_then(|it| it.parse().ok()).unwrap_or(60);
    let first = std::env::var("SEED").ok().and_then(|it| it.parse().ok()).unwrap_or(0);
    for seed in first..first + seeds {
        let result = std::panic::catch_unwind(|| run(seed));
        if let Err(error) = result {
            eprintln!("seed {seed}");
            std::panic::resume_unwind(error);
        }
    }
}
