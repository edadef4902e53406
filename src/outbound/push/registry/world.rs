//! A registry over a ledger in memory, for tests: the store's two threads, as slow and as wrong as a test wants.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::base::prng::Prng;
use crate::base::time::{Millis, UnixMillis};
use crate::config::Secret;
use crate::push::device::{Recipient, Subscription};
use crate::push::order::{DeviceFilter, Page, PageOf, Registrar};
use crate::push::stored;
use crate::store::ledger::Ledger;
use crate::store::memory::Memory;
use crate::store::{Change, open};

const STORE: u128 = 9;
pub const START: u64 = 1_700_000_000_000;
pub const APP: &str = "app";
pub const KEY: &str = "a text that is long enough to seal credentials with";

/// An ask on its way, and its answer once a thread of the store has done it.
struct Pending {
    tag: u64,
    ask: Ask,
    answer: Option<Answer>,
}

pub struct World {
    pub memory: Memory,
    ledger: Ledger,
    pub registry: Registry,
    pub counts: Arc<Counts>,
    pub settings: PushSettings,
    pub now: Now,
    pub chance: Prng,
    reads: VecDeque<Pending>,
    writes: VecDeque<Pending>,
    pub told: VecDeque<(u64, Result<Told, Refused>)>,
    pub notes: Vec<Note>,
    pub broadcasts: Vec<(u64, Box<BroadcastAsk>)>,
    pub is_full: bool,
    /// Nothing is asked of the store any more: it is not there.
    pub is_away: bool,
    pub asked: usize,
    last_caller: u64,
}

/// All that is stored, index by index.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dump {
    pub devices: BTreeMap<(String, String), Device>,
    pub subscriptions: BTreeMap<(String, String, String), Subscription>,
}

pub fn settings() -> PushSettings {
    PushSettings {
        encryption_key: Some(Secret(KEY.into())),
        devices_max: 1_000_000,
        failures_max: 3,
        ..PushSettings::default()
    }
}

pub fn page(rows_max: u32) -> PageOf {
    PageOf { after: None, rows_max }
}

pub fn admin() -> Registrar {
    Registrar::Admin { is_rotated: false }
}

pub fn itself(identity: &str) -> Registrar {
    Registrar::Device { identity: Some(identity.to_owned()), is_rotated: false }
}

pub fn device(id: &str, token: &str) -> Device {
    Device {
        id: id.to_owned(),
        client_id: None,
        form_factor: "phone".into(),
        platform: "android".into(),
        timezone: String::new(),
        locale: String::new(),
        metadata: String::new(),
        recipient: Recipient::Fcm { token: token.to_owned() },
        state: Default::default(),
        failures: 0,
        error_reason: None,
        last_active_at: 0,
        rate: None,
        identity: None,
        created_at: 0,
        updated_at: 0,
    }
}

pub fn subscribe(channel: &str, device_id: &str) -> Order {
    Order::Subscribe {
        channel: channel.to_owned(),
        device_id: device_id.to_owned(),
        client_id: None,
        provider: None,
        token_hash: None,
        credential_version: None,
        registrar: admin(),
    }
}

/// The identity token that the order of this caller makes, if it makes one.
pub fn identity_of(caller: u64) -> String {
    let half = u128::from(caller).to_be_bytes();
    let mut chance = [0; 32];
    chance[..16].copy_from_slice(&half);
    chance[16..].copy_from_slice(&half);
    devices::to_text(&chance)
}

impl World {
    pub fn new(settings: PushSettings, seed: u64) -> Self {
        let memory = Memory::default();
        open::settle(&memory, STORE).unwrap();
        let ledger = Ledger::new(Arc::new(memory.clone()), STORE).unwrap();
        let counts = Arc::<Counts>::default();
        let mut world = Self {
            registry: registry(&settings, &counts),
            memory,
            ledger,
            counts,
            settings,
            now: Now { steady: Nanos(1), wall: UnixMillis(START) },
            chance: Prng::new(seed),
            reads: VecDeque::new(),
            writes: VecDeque::new(),
            told: VecDeque::new(),
            notes: Vec::new(),
            broadcasts: Vec::new(),
            is_full: false,
            is_away: false,
            asked: 0,
            last_caller: 0,
        };
        world.with(|registry, now, out| registry.drive(now, out));
        world
    }

    pub fn with(&mut self, act: impl FnOnce(&mut Registry, Now, &mut Vec<Step>)) {
        let mut out = Vec::new();
        act(&mut self.registry, self.now, &mut out);
        for step in out {
            match step {
                Step::Ask(tag, ask) => {
                    self.asked += 1;
                    let queue = if ask.is_read() { &mut self.reads } else { &mut self.writes };
                    queue.push_back(Pending { tag, ask, answer: None });
                }
                Step::Tell(caller, told) => self.told.push_back((caller, told)),
                Step::Say(note) => self.notes.push(note),
                Step::Broadcast(caller, ask) => self.broadcasts.push((caller, ask)),
                other => panic!("{other:?}"),
            }
        }
        let open = self.reads.len() + self.writes.len();
        assert!(open <= ORDERS_MAX + 1, "asks are bounded");
    }

    /// Puts an order in and gives who asked.
    pub fn send_as(&mut self, app: &str, order: Order) -> u64 {
        self.last_caller += 1;
        let caller = self.last_caller;
        let mut random = || u128::from(caller);
        self.with(|registry, now, out| registry.order(caller, app, order, now, &mut random, out));
        caller
    }

    pub fn send(&mut self, order: Order) -> u64 {
        self.send_as(APP, order)
    }

    pub fn went(&mut self, device: &Device, went: Went) {
        self.with(|registry, now, out| registry.went(APP, device, went, now, out));
    }

    fn reopen(&mut self) {
        if self.ledger.is_broken() {
            self.memory.reopen();
            self.ledger = Ledger::new(Arc::new(self.memory.clone()), STORE).unwrap();
        }
    }

    pub fn ask(&mut self, ask: Ask) -> Answer {
        let brings_more = match &ask {
            Ask::Change { changes } => changes.iter().any(|(_, it)| {
                matches!(it, Change::Put { .. } | Change::PutNew { .. } | Change::Push { .. })
            }),
            _ => false,
        };
        if self.is_away {
            return Answer::Fault(Fault::Unavailable);
        }
        if self.is_full && brings_more {
            return Answer::Fault(Fault::Full);
        }
        let answer = self.ledger.answer([ask], UnixMillis(0)).pop().unwrap();
        self.reopen();
        answer
    }

    /// One of the store's threads does what is next, or brings an answer. False: there was nothing to do.
    pub fn turn(&mut self) -> bool {
        let is_read = match (self.reads.is_empty(), self.writes.is_empty()) {
            (true, true) => return false,
            (is_empty, false) if is_empty => false,
            (_, true) => true,
            _ => self.chance.chance(1, 2),
        };
        let queue = if is_read { &self.reads } else { &self.writes };
        let next = queue.iter().position(|it| it.answer.is_none());
        let has_answer = queue.front().is_some_and(|it| it.answer.is_some());
        match next {
            Some(at) if !has_answer || self.chance.chance(1, 2) => {
                let ask = if is_read { &self.reads[at].ask } else { &self.writes[at].ask };
                let answer = self.ask(ask.clone());
                let queue = if is_read { &mut self.reads } else { &mut self.writes };
                queue[at].answer = Some(answer);
            }
            _ => {
                let queue = if is_read { &mut self.reads } else { &mut self.writes };
                let Pending { tag, answer, .. } = queue.pop_front().unwrap();
                let answer = answer.unwrap();
                self.with(|registry, now, out| registry.answered(tag, answer, now, out));
            }
        }
        true
    }

    /// Until nothing is under way.
    pub fn settle(&mut self) {
        for _ in 0..2_000_000 {
            if self.turn() {
                continue;
            }
            match self.registry.due(self.now) {
                Some(due) if !self.is_away => {
                    self.now.steady = due;
                    self.with(|registry, now, out| registry.drive(now, out));
                }
                _ => {
                    assert!(self.registry.running.is_empty() && self.registry.claims.is_empty());
                    return;
                }
            }
        }
        panic!("it does not come to rest");
    }

    /// What an order comes to, alone.
    pub fn order_as(&mut self, app: &str, order: Order) -> Result<Told, Refused> {
        let caller = self.send_as(app, order);
        self.settle();
        let (who, told) = self.told.pop_front().expect("an answer");
        assert_eq!((who, self.told.len()), (caller, 0), "one answer");
        told
    }

    pub fn order(&mut self, order: Order) -> Result<Told, Refused> {
        self.order_as(APP, order)
    }

    pub fn register(&mut self, device: Device) -> Result<Told, Refused> {
        self.order(Order::Register(Box::new(device), admin()))
    }

    pub fn pass(&mut self, millis: u64) {
        self.now.steady = self.now.steady + Millis(millis);
        self.now.wall.0 += millis;
    }

    /// The process ends; of what was asked some is done.
    pub fn crash(&mut self) {
        while self.writes.iter().any(|it| it.answer.is_none()) && self.chance.chance(2, 3) {
            let at = self.writes.iter().position(|it| it.answer.is_none()).unwrap();
            let answer = self.ask(self.writes[at].ask.clone());
            self.writes[at].answer = Some(answer);
        }
        self.reads.clear();
        self.writes.clear();
        self.told.clear();
        self.registry = registry(&self.settings, &self.counts);
        self.with(|registry, now, out| registry.drive(now, out));
    }

    pub fn values(&mut self, shelf: Shelf) -> Vec<(Bytes, Bytes)> {
        let ask = Ask::read(shelf, Bytes::new(), None, u32::MAX);
        match self.ledger.answer([ask], UnixMillis(0)).pop() {
            Some(Answer::Values { values, .. }) => values,
            other => panic!("{other:?}"),
        }
    }

    pub fn write(&mut self, key: Bytes, value: &'static [u8]) {
        let (shelf, expires) = (Shelf::Push, crate::store::NEVER);
        let change = Change::Put { key, value: Bytes::from_static(value), expires };
        assert!(matches!(self.ask(Ask::change(shelf, vec![change])), Answer::Changed));
    }

    /// All devices and subscriptions, after a look at whether all that points at them does so rightly.
    pub fn dump(&mut self) -> Dump {
        let mut dump = Dump::default();
        let mut others = BTreeMap::new();
        for (key, value) in self.values(Shelf::Push) {
            let (app, rest) = keys::app_of(key[0], &key).expect("a key");
            let app = app.to_owned();
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            match key[0] {
                keys::DEVICE => {
                    let device: Device = stored::decode(&value).expect("a device");
                    assert_eq!(text(rest), device.id);
                    dump.devices.insert((app, text(rest)), device);
                }
                keys::SUBSCRIPTION => {
                    let (channel, device) = keys::split(rest).expect("two parts");
                    let row: Subscription = stored::decode(&value).expect("a subscription");
                    let (channel, device) = (text(channel), text(device));
                    assert_eq!((&row.channel, &row.device_id), (&channel, &device));
                    dump.subscriptions.insert((app, channel, device), row);
                }
                keys::TEMPLATE | keys::CREDENTIAL => {}
                _ => {
                    others.insert(key, value);
                }
            }
        }
        others.retain(|key, _| {
            let (_, rest) = keys::app_of(key[0], key).unwrap();
            key[0] != keys::COUNT || (rest != b"templates" && rest != b"credentials")
        });
        assert_eq!(others, pointers(&dump), "what points at devices and subscriptions");
        dump
    }
}

/// What is to lie beside devices and subscriptions.
fn pointers(dump: &Dump) -> BTreeMap<Bytes, Bytes> {
    let mut found = BTreeMap::new();
    let mut counts = BTreeMap::<Bytes, u64>::new();
    let key = |kind, app: &str, parts: &[&[u8]]| keys::key(kind, app, parts, true);
    let mut addresses = BTreeSet::new();
    for ((app, id), device) in &dump.devices {
        let (provider, address) = (device.recipient.provider(), device.recipient.address());
        assert!(addresses.insert((app, provider, address.to_owned())), "one address is one device");
        let digest = keys::address_digest(provider, address);
        found.insert(key(keys::ADDRESS, app, &[&digest]), Bytes::copy_from_slice(id.as_bytes()));
        if let Some(client) = &device.client_id {
            let parts = [client.as_bytes(), id.as_bytes()];
            found.insert(key(keys::OF_CLIENT, app, &parts), Bytes::new());
        }
        *counts.entry(key(keys::COUNT, app, &[b"devices"])).or_default() += 1;
    }
    for ((app, channel, id), row) in &dump.subscriptions {
        let device = dump.devices.get(&(app.clone(), id.clone())).expect("its device");
        assert_eq!(row.token_hash, devices::token_hash(device));
        assert_eq!(row.provider, device.recipient.provider());
        let (channel, id) = (channel.as_bytes(), id.as_bytes());
        found.insert(key(keys::OF_DEVICE, app, &[id, channel]), Bytes::new());
        *counts.entry(key(keys::CHANNEL, app, &[channel])).or_default() += 1;
        *counts.entry(key(keys::COUNT, app, &[b"subscriptions", id])).or_default() += 1;
    }
    let value = |it: u64| Bytes::copy_from_slice(&it.to_be_bytes());
    found.extend(counts.into_iter().map(|(key, count)| (key, value(count))));
    found
}

fn registry(settings: &PushSettings, counts: &Arc<Counts>) -> Registry {
    let wants: Wants = Arc::new(|app, kind| app == APP && kind == REMOVED);
    Registry::new(Arc::new(settings.clone()), Arc::clone(counts), wants)
}

/// All rows of a list, page by page.
pub fn all<T: Clone>(
    world: &mut World,
    rows_max: u32,
    mut ask: impl FnMut(PageOf) -> Order,
    take: impl Fn(Told) -> Page<T>,
) -> Vec<T> {
    let (mut rows, mut after) = (Vec::new(), None);
    for _ in 0..10_000 {
        let page = take(world.order(ask(PageOf { after, rows_max })).expect("a page"));
        assert!(page.rows.len() <= rows_max as usize);
        rows.extend(page.rows);
        after = page.next;
        if after.is_none() {
            return rows;
        }
    }
    panic!("the list does not end");
}

pub fn device_list(world: &mut World, filter: &DeviceFilter, rows_max: u32) -> Vec<String> {
    let rows = all(
        world,
        rows_max,
        |page| Order::Devices(filter.clone(), page),
        |told| match told {
            Told::Devices(page) => page,
            other => panic!("{other:?}"),
        },
    );
    rows.into_iter().map(|it: Device| it.id).collect()
}
