//! Publishes: accepted, planned, sent, tried again, accounted for.
//!
//! A publish is accepted when it is on disk (`record`, `admit`). Then its targets are gone through page by page
//! (`plan`); what a page finds is sent in turn (`turns`, `send`) within what its provider takes (`lane`); what came of
//! each device is written together with how far the publish is (`settle`). What else changes a publish, wherever that is,
//! is an `errand`; what is only looked at, a `list`. Memory is bounded by devices that are read and not written
//! (`push.pending_max`), by bytes of publishes that are here ([`BODIES_BYTES_MAX`]), and by a few words for each publish that is
//! not finished (`push.publishes_open_max`).

mod admit;
mod errand;
mod job;
mod lane;
mod list;
mod plan;
pub mod record;
pub mod render;
mod room;
mod send;
mod settle;
mod turns;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::provider::Delivered;
use super::registry::Registry;
use super::{Counts, Note, Step, TAG_JOBS, Wants, keys};
use crate::base::prng::Prng;
use crate::base::time::{Millis, Nanos, Now, UnixMillis};
use crate::config::push::PushSettings;
use crate::push::order::{Order, Refused, Shown, Told};
use crate::push::publish::{DeadLetter, Outcome};
use crate::push::stored::Queued;
use crate::store::{Answer, Ask, Shelf};

use admit::{Admission, Bucket};
use errand::{Asked as AskedErrand, Errand};
use job::{Item, Job, Rendered};
use lane::{Lane, LaneKey};
use list::Listing;
use plan::{Page, PickedPage};
use room::Held;
use settle::Settling;
use turns::Turns;

/// Bytes of publishes that are in memory, about; further ones are read when their turn comes and there is room.
pub const BODIES_BYTES_MAX: usize = 64 << 20;
/// Publishes on their way to disk; a further one is refused.
pub const ADMISSIONS_MAX: usize = 1024;
/// Orders that wait to change publishes; a further one is refused.
pub const ERRANDS_MAX: usize = 4096;
/// Pages being read at once.
pub const PAGES_MAX: usize = 8;
/// After the store failed or is full.
const STORE_PAUSE: Millis = Millis(1_000);
/// A publish whose time passed this many milliseconds ago and was not told never will be.
const LAPSE: u64 = 3_600_000;
/// Entries of the queue read at once ...
const QUEUE_ENTRIES: u32 = 64;
/// ... and bytes of them.
const QUEUE_BYTES: u64 = 1 << 20;
/// Keys read at once at the start.
const SCAN_KEYS: u32 = 1024;
/// Publishes that wait for a time are looked through so often for those whose time was never told.
const SWEEP_PAUSE: Millis = Millis(600_000);
/// Finished publishes that the console shows.
const SHOWN_MAX: usize = 50;

/// What the store was asked for.
enum Asked {
    /// What is known of a publish that wants to be accepted.
    Admission(Box<Admission>),
    /// It is being written.
    Accepted(Box<Admission>),
    /// A publish is read.
    Body(u64),
    /// Devices of a target.
    Page(u64, Page),
    /// What these devices are.
    Picked(u64, PickedPage),
    /// What devices of an app are that were asleep.
    Woken(Arc<str>, Vec<(u64, Bytes)>),
    /// Outcomes are written.
    Settled,
    /// How many devices an app was sent something for.
    Quota(Arc<str>),
    /// Records that errands change.
    Errands(Vec<AskedErrand>),
    /// Whether there is a publish whose outcomes somebody asked for.
    None(u64),
    /// A page for somebody.
    Listed(Box<Listing>),
    /// Dead letters that there are, at the start.
    Dead,
    /// Publishes that are not finished, at the start and when that is in doubt.
    Open,
    /// What waits on the queue.
    Queue,
    /// Publishes whose time is to come.
    Waiting,
}

/// What is read of the store before anything is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    Dead,
    Open,
    Done,
}

/// Reads a range of keys bit by bit.
#[derive(Debug, Default)]
struct Scan {
    after: Option<Bytes>,
    is_reading: bool,
}

/// All publishes that are not finished.
pub struct Jobs {
    settings: Arc<PushSettings>,
    counts: Arc<Counts>,
    wants: Wants,
    chance: Prng,
    /// The last number that was given; those of asks, publishes, pages, devices and looks are all different.
    numbers: u64,
    asks: HashMap<u64, Asked>,
    start: Start,
    scan: Scan,
    /// Publishes by number.
    jobs: BTreeMap<u64, Job>,
    /// Their numbers by the key of their mark.
    by_key: HashMap<Bytes, u64>,
    /// When the time of each is over.
    ends: BTreeSet<(u64, u64)>,
    /// Those that are not over.
    open: u64,
    bodies_bytes: usize,
    admissions: usize,
    /// Keys of publishes that are being written: on disk perhaps, and not known here.
    accepting: HashSet<Bytes>,
    buckets: HashMap<Arc<str>, Bucket>,
    /// Who waits for the end of which publish until when.
    waits: VecDeque<(Nanos, u64, u64)>,

    planning: Turns,
    pages: usize,
    /// Devices that pages being read may bring.
    reserved: usize,
    looks: HashMap<u64, plan::Looked>,
    /// Devices by number.
    items: HashMap<u64, Item>,
    /// Those of them that are asleep.
    asleep: usize,
    /// What each app has of memory and requests.
    held: BTreeMap<Arc<str>, Held>,
    device_rates: HashMap<(Arc<str>, String), Bucket>,

    sending: [Turns; 6],
    flying: [u64; 6],
    rates: [Bucket; 6],
    lanes: HashMap<LaneKey, Lane>,
    retries: BTreeSet<(Nanos, u64)>,

    /// Outcomes that wait to be written.
    finished: VecDeque<settle::Finished>,
    /// Publishes whose records are to be written.
    dirty: BTreeSet<u64>,
    settling: Option<Settling>,
    settle_at: Nanos,
    /// Until then the store is left alone.
    store_at: Nanos,
    /// Dead letters by number: whose.
    dead: BTreeMap<u64, Arc<str>>,
    dead_last: u64,
    /// Devices each app was sent something for today.
    quotas: HashMap<Arc<str>, settle::Used>,

    errands: VecDeque<Errand>,
    /// Errands of the group that is being read or written.
    errands_open: usize,
    /// What errands came to, to be written with the next outcomes.
    done: Vec<errand::Done>,

    /// Publishes may be open that are not known here.
    is_open_stale: bool,
    /// And came when those that are open were being read, perhaps behind what was read by then.
    is_open_missed: bool,
    queue: Scan,
    queue_is_stale: bool,
    /// An entry is left where it is because there is no room for it: read again when something was finished.
    queue_is_waiting: bool,
    /// Entries of the queue that are taken and not settled.
    queue_open: usize,
    sweep: Scan,
    sweep_at: Option<Nanos>,
    /// Finished publishes, newest last.
    shown: VecDeque<Shown>,
    /// What was written to the log, newest last.
    logged: VecDeque<String>,
}

impl Jobs {
    /// None; [`Jobs::drive`] reads those of before from the store.
    pub fn new(settings: Arc<PushSettings>, counts: Arc<Counts>, wants: Wants, seed: u64) -> Self {
        Self {
            settings,
            counts,
            wants,
            chance: Prng::new(seed),
            numbers: 0,
            asks: HashMap::new(),
            start: Start::Dead,
            scan: Scan::default(),
            jobs: BTreeMap::new(),
            by_key: HashMap::new(),
            ends: BTreeSet::new(),
            open: 0,
            bodies_bytes: 0,
            admissions: 0,
            accepting: HashSet::new(),
            buckets: HashMap::new(),
            waits: VecDeque::new(),
            planning: Turns::default(),
            pages: 0,
            reserved: 0,
            looks: HashMap::new(),
            items: HashMap::new(),
            asleep: 0,
            held: BTreeMap::new(),
            device_rates: HashMap::new(),
            sending: Default::default(),
            flying: [0; 6],
            rates: Default::default(),
            lanes: HashMap::new(),
            retries: BTreeSet::new(),
            finished: VecDeque::new(),
            dirty: BTreeSet::new(),
            settling: None,
            settle_at: Nanos(0),
            store_at: Nanos(0),
            dead: BTreeMap::new(),
            dead_last: 0,
            quotas: HashMap::new(),
            errands: VecDeque::new(),
            errands_open: 0,
            done: Vec::new(),
            is_open_stale: true,
            is_open_missed: false,
            queue: Scan::default(),
            queue_is_stale: true,
            queue_is_waiting: false,
            queue_open: 0,
            sweep: Scan::default(),
            sweep_at: None,
            shown: VecDeque::new(),
            logged: VecDeque::new(),
        }
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn ask(&mut self, asked: Asked, ask: Ask, out: &mut Vec<Step>) {
        let number = self.number();
        self.asks.insert(number, asked);
        out.push(Step::Ask(TAG_JOBS | number, ask));
    }

    /// Takes an order about publishes.
    #[expect(clippy::too_many_arguments, reason = "the world comes in as arguments")]
    pub fn order(
        &mut self,
        caller: u64,
        app: &str,
        order: Order,
        registry: &mut Registry,
        now: Now,
        random: &mut dyn FnMut() -> u128,
        out: &mut Vec<Step>,
    ) {
        match order {
            Order::Publish(intent) => {
                self.publish(caller, app, *intent, registry, now, random, out);
            }
            Order::Status(id) => self.tell_status(caller, app, id, now, out),
            Order::Outcomes(id, page) => self.list_outcomes(caller, app, id, page, out),
            Order::DeadLetters { provider, since, until, page } => {
                self.list_dead(caller, app, (provider, since, until), page, out);
            }
            Order::Cancel(id) => {
                self.send_on(Errand::Cancel { caller, app: app.into(), id }, out);
            }
            Order::Feedback { publish_id: id, key, fate, message_id, reason } => {
                let app = app.into();
                let errand = Errand::Feedback { caller, app, id, key, fate, message_id, reason };
                self.send_on(errand, out);
            }
            Order::Replay(number) => {
                let app = app.into();
                self.send_on(Errand::Replay { caller, app, number, letter: None }, out);
            }
            Order::Overview => self.tell_overview(caller, out),
            _ => out.push(Step::Tell(caller, Err(Refused::unknown("not about publishes")))),
        }
        self.drive(registry, now, out);
    }

    /// Something may have been put on the queue.
    pub fn nudged(&mut self, registry: &mut Registry, now: Now, out: &mut Vec<Step>) {
        self.queue_is_stale = true;
        self.drive(registry, now, out);
    }

    /// Asks for what can be done now.
    pub fn drive(&mut self, registry: &mut Registry, now: Now, out: &mut Vec<Step>) {
        self.wake(registry, now, out);
        let has_room = self.open < u64::from(self.settings.publishes_open_max)
            && self.admissions < ADMISSIONS_MAX;
        if self.queue_is_waiting && has_room {
            (self.queue_is_waiting, self.queue_is_stale) = (false, true);
        }
        if now.steady >= self.store_at {
            self.scan(now, out);
        }
        if self.start == Start::Done {
            self.run_errands(now, out);
            self.read_woken(now, out);
            self.plan(now, out);
        }
        self.send(registry, now, out);
        if self.start == Start::Done {
            self.settle(now, out);
        }
        let set = |count: &std::sync::atomic::AtomicU64, it| count.store(it, Ordering::Relaxed);
        set(&self.counts.open, self.open);
        set(&self.counts.pending, self.pending() as u64);
    }

    /// When [`Jobs::drive`] is to be called next.
    pub fn due(&self, now: Now) -> Option<Nanos> {
        let of_wall = |at: u64| now.steady + Millis(at.saturating_sub(now.wall.0));
        let store_at = Some(self.store_at).filter(|it| *it > now.steady);
        let lanes = self.lanes.values().filter_map(Lane::due);
        let rate = self.settings.requests_per_second_max;
        let rates = self.rates.iter().zip(&self.sending).filter(|it| !it.1.is_empty());
        let rates = rates.filter_map(|it| it.0.due(rate, now.steady));
        let times = [
            store_at,
            self.settle_due(),
            self.retries.first().map(|it| it.0),
            self.ends.first().map(|it| of_wall(it.0)),
            self.waits.front().map(|it| it.0),
            self.sweep_at.filter(|_| !self.sweep.is_reading && self.errands.is_empty()),
        ];
        // What is due and was not done waits for an answer, or for the store.
        let soonest = Nanos(now.steady.0 + 1_000_000);
        times.into_iter().flatten().chain(lanes).chain(rates).min().map(|it| it.max(soonest))
    }

    /// Reads what there is, at the start and when that is in doubt.
    fn scan(&mut self, now: Now, out: &mut Vec<Step>) {
        let prefix = |kind: u8| Bytes::copy_from_slice(&[kind]);
        match self.start {
            _ if self.scan.is_reading => {}
            Start::Dead => {
                self.scan.is_reading = true;
                let ask =
                    Ask::read(Shelf::Push, prefix(keys::DEAD), self.scan.after.clone(), SCAN_KEYS);
                return self.ask(Asked::Dead, ask, out);
            }
            // What is on an errand may be about to change what would be read.
            _ if self.is_open_stale && self.errands_open == 0 => {
                self.scan.is_reading = true;
                let ask =
                    Ask::read(Shelf::Push, prefix(keys::OPEN), self.scan.after.clone(), SCAN_KEYS);
                return self.ask(Asked::Open, ask, out);
            }
            _ => {}
        }
        if self.start != Start::Done {
            return;
        }
        if self.queue_is_stale && self.queue_open == 0 && !self.queue.is_reading {
            (self.queue_is_stale, self.queue.is_reading) = (false, true);
            let after = self.queue.after.clone();
            let ask = Ask::Read {
                shelf: Shelf::PushQueue,
                prefix: Bytes::new(),
                after,
                before: None,
                is_last_first: false,
                values_max: QUEUE_ENTRIES,
                bytes_max: QUEUE_BYTES,
            };
            self.ask(Asked::Queue, ask, out);
        }
        let sweep_at = *self.sweep_at.get_or_insert(now.steady + SWEEP_PAUSE);
        if sweep_at <= now.steady && !self.sweep.is_reading && self.errands.is_empty() {
            self.sweep.is_reading = true;
            let after = self.sweep.after.clone();
            let ask = Ask::read(Shelf::Push, prefix(keys::WAITING), after, SCAN_KEYS);
            self.ask(Asked::Waiting, ask, out);
        }
    }

    /// Publishes may be open that are not known here.
    fn look_again(&mut self, now: Now) {
        self.store_at = now.steady + STORE_PAUSE;
        self.is_open_stale = true;
        match self.scan.is_reading {
            true => self.is_open_missed = true,
            false if self.start == Start::Done => self.scan.after = None,
            false => {}
        }
    }

    /// Takes an answer of the store.
    pub fn answered(
        &mut self,
        tag: u64,
        answer: Answer,
        registry: &mut Registry,
        now: Now,
        out: &mut Vec<Step>,
    ) {
        let Some(asked) = self.asks.remove(&(tag & !TAG_JOBS)) else { return };
        match asked {
            Asked::Admission(it) => self.admitting(it, answer, now, out),
            Asked::Accepted(it) => self.accepted(it, answer, registry, now, out),
            Asked::Body(number) => self.loaded(number, answer, now, out),
            Asked::Page(number, page) => self.paged(number, page, answer, now, out),
            Asked::Picked(number, page) => self.picked(number, page, answer, now, out),
            Asked::Woken(app, woken) => self.woken(&app, woken, answer, now),
            Asked::Settled => self.settled(answer, now, out),
            Asked::Quota(app) => self.quota_read(app, answer, now),
            Asked::Errands(group) => self.errands_read(group, answer, registry, now, out),
            Asked::Listed(it) => self.listed(*it, answer, now, out),
            Asked::None(caller) => {
                let told = match answer {
                    Answer::Values { values, .. } if values.is_empty() => {
                        Err(Refused::unknown("there is no such publish"))
                    }
                    _ => Ok(Told::Outcomes(crate::push::order::Page {
                        rows: Vec::new(),
                        next: None,
                    })),
                };
                out.push(Step::Tell(caller, told));
            }
            Asked::Dead | Asked::Open | Asked::Queue | Asked::Waiting => {
                self.scanned(&asked, answer, now, out);
            }
        }
        // `Push` drives both halves when an answer was taken.
    }

    fn scanned(&mut self, asked: &Asked, answer: Answer, now: Now, out: &mut Vec<Step>) {
        let scan = match asked {
            Asked::Queue => &mut self.queue,
            Asked::Waiting => &mut self.sweep,
            _ => &mut self.scan,
        };
        scan.is_reading = false;
        let Answer::Values { values, has_more } = answer else {
            self.queue_is_stale = true;
            self.store_at = now.steady + STORE_PAUSE;
            return;
        };
        if let Some((key, _)) = values.last() {
            scan.after = Some(key.clone());
        }
        match asked {
            Asked::Dead => {
                for (key, _) in &values {
                    if let Some((app, rest)) = keys::app_of(keys::DEAD, key)
                        && let Some(number) = rest.first_chunk::<8>()
                    {
                        let number = u64::from_be_bytes(*number);
                        self.dead.insert(number, app.into());
                        self.dead_last = self.dead_last.max(number);
                    }
                }
                if !has_more {
                    (self.start, self.scan.after) = (Start::Open, None);
                }
            }
            Asked::Open => {
                for (key, _) in values {
                    let Some((app, rest)) = keys::app_of(keys::OPEN, &key) else { continue };
                    let Ok(id) = std::str::from_utf8(rest) else { continue };
                    if !self.by_key.contains_key(&key) {
                        self.open_job(Job::found(app.into(), id.into()));
                    }
                }
                if !has_more {
                    (self.start, self.scan.after) = (Start::Done, None);
                    self.is_open_stale = std::mem::take(&mut self.is_open_missed);
                }
            }
            Asked::Queue => {
                self.queue_is_stale |= has_more;
                self.queue_open += values.len();
                for (entry, value) in values {
                    self.take_entry(entry, &value, out);
                }
            }
            _ => {
                for (key, _) in values {
                    let Some((app, rest)) = keys::app_of(keys::WAITING, &key) else { continue };
                    let Some((at, id)) = keys::split(rest) else { continue };
                    let (Some(at), Ok(id)) = (at.first_chunk::<8>(), std::str::from_utf8(id))
                    else {
                        continue;
                    };
                    let at = u64::from_be_bytes(*at);
                    if at.saturating_add(LAPSE) < now.wall.0 {
                        let (app, id) = (app.into(), id.to_owned());
                        self.send_on(Errand::Lapsed { app, id, at }, out);
                    }
                }
                if !has_more {
                    self.sweep.after = None;
                    self.sweep_at = Some(now.steady + SWEEP_PAUSE);
                }
            }
        }
    }

    /// Takes an entry of the queue.
    fn take_entry(&mut self, entry: Bytes, value: &Bytes, out: &mut Vec<Step>) {
        match crate::push::stored::decode::<Queued>(value) {
            Some(Queued::Due { app, publish_id: id }) => {
                self.send_on(Errand::Due { app: app.into(), id, entry }, out);
            }
            Some(Queued::Publish { app, intent }) => {
                if !self.publish_entry(entry, &app, *intent, out) {
                    self.queue_open -= 1;
                    self.queue.after = None;
                    self.queue_is_waiting = true;
                }
            }
            None => {
                out.push(Step::Say(Note::Unreadable(format!("entry {entry:?} of the queue"))));
                self.queue_open -= 1;
                self.drop_entry(Some(entry));
            }
        }
    }

    /// Takes what came of a parcel.
    pub fn delivered(
        &mut self,
        number: u64,
        delivered: Delivered,
        registry: &mut Registry,
        now: Now,
        out: &mut Vec<Step>,
    ) {
        self.has_delivered(number, delivered, registry, now, out);
        self.drive(registry, now, out);
    }

    /// Takes which clients have a connection.
    pub fn looked(
        &mut self,
        number: u64,
        are_there: &[bool],
        registry: &mut Registry,
        now: Now,
        out: &mut Vec<Step>,
    ) {
        self.has_looked(number, are_there, now);
        self.drive(registry, now, out);
    }
}

#[cfg(test)]
mod cases_tests;
#[cfg(test)]
mod tests;
