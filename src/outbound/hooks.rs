//! Webhooks: what the queue holds is told to every receiver that wants it, in order, at least once. Sans-io: what
//! is to be read, written and sent comes out; answers come in.
//!
//! The queue is the store's shelf [`Shelf::Outbox`]: shards push there, in the same commit that makes an event
//! durable, and never hear of a receiver again. Each receiver goes through the queue at its own pace with one
//! request under way at a time, which is what keeps its order; its place is on disk ([`Shelf::Deliveries`], under `c`
//! and its name), and what all have passed is removed. Who fails is asked again after longer and longer
//! pauses; what it does not take in the end is a dead letter ([`letter`]). Read [`Hooks::drive`] first.

pub mod letter;
mod orders;
pub mod post;
pub mod receiver;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::auth::Denied;
use crate::base::name::Name;
use crate::base::prng::Prng;
use crate::base::time::{Millis, Nanos, Now};
use crate::config::webhooks::Webhooks;
use crate::store::{Answer, Ask, Change, Fault, NEVER, Shelf};

use letter::{Letter, Letters, Why, again_key, id_of, letter_key};
pub use orders::Order;
use post::{Entry, Heard, Post, Verdict};
use receiver::{Load, Receiver, Turn};

/// Entries read from the queue at once ...
const PAGE_ENTRIES: u32 = 256;
/// ... and bytes of them.
const PAGE_BYTES: u64 = 1 << 20;
/// Entries removed from the queue in one change.
const REMOVES_MAX: u64 = 1024;
/// Numbers a receiver may be ahead of what is on disk about it: so many are sent again after a crash, at most,
/// and mostly those of one commit.
const UNSAVED_MAX: u64 = 4096;
/// Dead letters sent again whose end is not on disk yet.
const ENDED_MAX: usize = 64;
/// After the store failed, or said that it is full.
const STORE_PAUSE: Millis = Millis(1_000);
/// Places are written no more often than this, so that a stream of single events does not keep the disk busy.
const SETTLE_PAUSE: Millis = Millis(20);
/// Entries whose bytes are counted together.
const SPAN: u64 = 256;

/// Tags of what the store is asked; receivers' own follow.
const TAG_TAIL: u64 = 0;
const TAG_SETTLE: u64 = 1;
const TAG_LOAD: u64 = 2;
const TAG_ORDER: u64 = 3;
/// A page of the queue for a receiver, whose index follows.
const TAG_PAGE: u64 = 1 << 32;
/// A dead letter for a receiver, whose index follows.
const TAG_AGAIN: u64 = 2 << 32;

/// What is to be done.
#[derive(Debug)]
pub enum Step {
    /// Ask the store, and bring what it says to [`Hooks::answered`] with this tag.
    Ask(u64, Ask),
    /// Send this, and bring what is said to [`Hooks::heard`] with this number.
    Post(u64, Post),
    /// Tell this to the operator who asked: lines, or why not.
    Tell(u64, Result<Vec<String>, Denied>),
    /// Something a person may want to know.
    Say(Note),
}

/// Something a person may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A receiver's state turned: whose, how, why, how many wait for it.
    Turned(Name, Turn, String, u64),
    /// Entries became dead letters: whose, why, how many, the last status.
    Died(Name, Why, u64, u16),
    /// So many of the oldest dead letters went because there is no room for more.
    Dropped(u64),
    /// An entry of the queue, or a letter, cannot be read: by its number.
    Unreadable(u64),
}

/// Counts, written by the back shard and read by anyone. The second half goes both ways.
#[derive(Debug, Default)]
pub struct Counts {
    /// Events taken, one for each receiver.
    pub delivered: AtomicU64,
    /// Requests that failed or were refused.
    pub failed: AtomicU64,
    /// Events that became dead letters, by [`Why`].
    pub died: [AtomicU64; 3],
    /// Dead letters that went for want of room.
    pub dropped: AtomicU64,
    /// Events that some receiver has not got.
    pub waiting: AtomicU64,
    /// When the oldest of them that is known happened, in milliseconds since 1970; 0: none.
    pub oldest_at: AtomicU64,
    /// Dead letters kept.
    pub letters: AtomicU64,
    /// Receivers that are failing.
    pub failing: AtomicU64,
}

/// What is being written.
struct Settling {
    floor: Option<u64>,
    /// How far each receiver will be known to be.
    done: Vec<u64>,
    /// Letters that go for those that come.
    gone: Vec<u64>,
    ended: usize,
    /// The letters of the burial are in it. One that came after it was asked is not.
    is_burying: bool,
    /// No letter, no place: only what makes the store smaller.
    is_removal: bool,
}

/// Entries on their way to being dead letters; one receiver's at a time.
struct Burial {
    receiver: usize,
    letters: Vec<(u64, Letter)>,
}

/// All receivers, and the queue as far as it is known.
pub struct Hooks {
    receivers: Vec<Receiver>,
    settings: Webhooks,
    counts: Arc<Counts>,
    chance: Prng,
    letters: Letters,
    /// Reading the shelf of deliveries, before all else.
    is_loaded: bool,
    loading_after: Option<Bytes>,
    /// Letters to be sent again, found while loading.
    again_found: Vec<u64>,
    /// All entries up to this number are removed; none: the queue was empty so far.
    floor: Option<u64>,
    /// All entries up to this number were seen and counted.
    tail: u64,
    is_reading: bool,
    /// Something was pushed since the end of the queue was last read.
    is_stale: bool,
    /// Bytes of entries, by spans of their numbers, from the floor's span on.
    spans: VecDeque<u64>,
    /// The sum of them.
    queue_bytes: u64,
    /// Not before this, unless there is more to write than places.
    settle_at: Nanos,
    settling: Option<Settling>,
    burial: Option<Burial>,
    /// What dead letters that were sent again came to: changes to write.
    ended: Vec<Change>,
    /// Until then nothing is asked of the store.
    store_at: Nanos,
    /// The store is full; until then only removals are asked of it.
    full_until: Option<Nanos>,
    order: Option<orders::Running>,
    posts: u64,
}

impl Hooks {
    /// The receivers of these settings. `seed` is for the jitter of pauses. Begin with [`Hooks::drive`].
    pub fn new(settings: Webhooks, counts: Arc<Counts>, seed: u64) -> Self {
        Self {
            receivers: settings
                .receivers
                .iter()
                .map(|row| Receiver::new(row, &settings.signers))
                .collect(),
            settings,
            counts,
            chance: Prng::new(seed),
            letters: Letters::default(),
            is_loaded: false,
            loading_after: None,
            again_found: Vec::new(),
            floor: None,
            tail: 0,
            is_reading: false,
            is_stale: true,
            spans: VecDeque::new(),
            queue_bytes: 0,
            settle_at: Nanos(0),
            settling: None,
            burial: None,
            ended: Vec::new(),
            store_at: Nanos(0),
            full_until: None,
            order: None,
            posts: 0,
        }
    }

    /// Something may have been pushed.
    pub fn nudged(&mut self, now: Now, out: &mut Vec<Step>) {
        self.is_stale = true;
        self.drive(now, out);
    }

    /// Asks for all that can be done now. Called at the start and when [`Hooks::due`] has come; the others call it
    /// themselves.
    pub fn drive(&mut self, now: Now, out: &mut Vec<Step>) {
        if now.steady < self.store_at {
            return;
        }
        if !self.is_loaded {
            if !std::mem::replace(&mut self.is_reading, true) {
                let ask = read(Shelf::Deliveries, self.loading_after.clone());
                out.push(Step::Ask(TAG_LOAD, ask));
            }
            return;
        }
        if self.full_until.is_some_and(|until| until <= now.steady) {
            self.full_until = None;
        }
        if self.is_stale && !self.is_reading {
            (self.is_stale, self.is_reading) = (false, true);
            out.push(Step::Ask(TAG_TAIL, read(Shelf::Outbox, key_after(self.tail))));
        }
        for index in 0..self.receivers.len() {
            let receiver = &mut self.receivers[index];
            if receiver.is_behind(self.tail) {
                receiver.is_reading = true;
                let ask = read(Shelf::Outbox, key_after(receiver.seen));
                out.push(Step::Ask(TAG_PAGE | index as u64, ask));
            }
            self.go_on(index, now, out);
        }
        self.settle(now, out);
        self.go_on_with_order(out);
        self.count();
    }

    /// When [`Hooks::drive`] is to be called next if nothing happens; none: not before something does.
    pub fn due(&self, now: Now) -> Option<Nanos> {
        let times = self
            .receivers
            .iter()
            .flat_map(Receiver::due)
            .flatten()
            .chain([self.store_at, self.settle_at])
            .chain(self.full_until);
        times.filter(|at| *at > now.steady).min()
    }

    /// Takes an answer of the store.
    pub fn answered(&mut self, tag: u64, answer: Answer, now: Now, out: &mut Vec<Step>) {
        match (tag, answer) {
            (TAG_SETTLE, answer) => self.settled(answer, now, out),
            (TAG_ORDER, answer) => self.ordered(answer, out),
            (tag, Answer::Values { values, has_more }) => {
                self.found(tag, values, has_more, now, out);
            }
            (tag, _) => {
                // Not read; again after a pause.
                self.store_at = now.steady + STORE_PAUSE;
                match (tag >> 32, (tag & 0xffff_ffff) as usize) {
                    (1, index) => self.receivers[index].is_reading = false,
                    (2, index) => {
                        if let Some((_, Load::Again(id))) = self.receivers[index].flight.take() {
                            self.receivers[index].again.push_front(id);
                        }
                    }
                    _ => (self.is_reading, self.is_stale) = (false, true),
                }
            }
        }
        self.drive(now, out);
    }

    fn found(
        &mut self,
        tag: u64,
        values: Vec<(Bytes, Bytes)>,
        has_more: bool,
        now: Now,
        out: &mut Vec<Step>,
    ) {
        match (tag >> 32, (tag & 0xffff_ffff) as usize) {
            (1, index) => {
                for (number, value) in numbered(values) {
                    let entry = Entry::read(number, value).map(Arc::new);
                    self.receivers[index].paged(number, entry.as_ref());
                }
                let receiver = &mut self.receivers[index];
                receiver.is_reading = false;
                if !has_more {
                    // What the end of the queue is known to be was there when this was read.
                    receiver.seen = receiver.seen.max(self.tail);
                }
            }
            (2, index) => self.post_letter(index, values, now, out),
            _ if tag == TAG_LOAD => {
                self.is_reading = false;
                self.loading_after = values.last().map(|(key, _)| key.clone());
                values.into_iter().for_each(|(key, value)| self.load(&key, &value, out));
                if !has_more {
                    self.loaded();
                }
            }
            _ => {
                self.is_reading = false;
                self.is_stale |= has_more;
                for (number, value) in numbered(values) {
                    self.arrived(number, value, out);
                }
            }
        }
    }

    /// Takes one value of the shelf of deliveries.
    fn load(&mut self, key: &Bytes, value: &Bytes, out: &mut Vec<Step>) {
        match key.split_first() {
            Some((b'c', name)) => {
                let receiver = self.receivers.iter_mut().find(|it| it.name.as_bytes() == name);
                if let (Some(receiver), Some(done)) = (receiver, id_of(value)) {
                    (receiver.seen, receiver.saved) = (done, done);
                }
            }
            Some((b'd', rest)) => match (id_of(rest), Letter::decode(value)) {
                (Some(id), Some((letter, _))) => self.letters.insert(id, letter.mark),
                (id, _) => {
                    self.letters.reserve(id.unwrap_or(0));
                    out.push(Step::Say(Note::Unreadable(id.unwrap_or(0))));
                }
            },
            Some((b'a', rest)) => self.again_found.extend(id_of(rest)),
            _ => {}
        }
    }

    fn loaded(&mut self) {
        self.is_loaded = true;
        for id in std::mem::take(&mut self.again_found) {
            if self.letters.get_mut(id).is_some() {
                self.send_again(id);
            } else {
                self.ended.push(Change::Remove { key: again_key(id) });
            }
        }
    }

    /// A dead letter is to be sent again.
    fn send_again(&mut self, id: u64) {
        let Some(mark) = self.letters.get_mut(id) else { return };
        let receiver = self.receivers.iter_mut().find(|it| it.name == mark.receiver);
        if let (Some(receiver), false) = (receiver, mark.is_again) {
            mark.is_again = true;
            receiver.again.push_back(id);
        }
    }

    /// Takes the next entry at the end of the queue.
    fn arrived(&mut self, number: u64, value: Bytes, out: &mut Vec<Step>) {
        if number <= self.tail {
            return;
        }
        if self.floor.is_none() {
            (self.floor, self.tail) = (Some(number - 1), number - 1);
            self.receivers.iter_mut().for_each(|it| it.begin_at(number));
        }
        let floor = self.floor.unwrap_or(0);
        let span = (number / SPAN - (floor + 1) / SPAN) as usize;
        if self.spans.len() <= span {
            self.spans.resize(span + 1, 0);
        }
        self.spans[span] += value.len() as u64;
        self.queue_bytes += value.len() as u64;
        let entry = Entry::read(number, value).map(Arc::new);
        if entry.is_none() {
            out.push(Step::Say(Note::Unreadable(number)));
        }
        for receiver in &mut self.receivers {
            receiver.arrived(self.tail, number, entry.as_ref());
        }
        self.tail = number;
    }

    /// Does what can be done for one receiver.
    fn go_on(&mut self, index: usize, now: Now, out: &mut Vec<Step>) {
        let is_burying = self.burial.as_ref().map(|it| it.receiver);
        let receiver = &mut self.receivers[index];
        if receiver.flight.is_some() || is_burying == Some(index) {
            return;
        }
        let is_over =
            self.queue_bytes > self.settings.queue_bytes_max && self.floor == Some(receiver.done());
        let (expired, ready) = (receiver.expired(now.wall), receiver.ready.len());
        let doomed = match receiver.condemned {
            Some(status) => Some((1, Why::Refused, status)),
            None if expired > 0 => Some((expired, Why::Expired, receiver.status())),
            None if is_over && ready > 0 => Some((ready, Why::Overflow, receiver.status())),
            None => None,
        };
        if let Some((entries, why, status)) = doomed {
            if is_burying.is_none() {
                let most = u64::from(PAGE_ENTRIES).min(self.settings.dead_letters_max) as usize;
                self.bury(index, entries.min(most), (why, status), now, out);
            }
            return;
        }
        let unsaved = receiver.done().saturating_sub(receiver.saved.max(self.floor.unwrap_or(0)));
        if now.steady < receiver.next_at || unsaved > UNSAVED_MAX {
            return;
        }
        // A receiver that fails is tried with what is due to it in order.
        let may_again = !receiver.again.is_empty() && self.ended.len() < ENDED_MAX;
        let is_turn = receiver.failures == 0 && !receiver.was_again || receiver.ready.is_empty();
        if may_again && is_turn {
            let Some(id) = receiver.again.pop_front() else { return };
            receiver.was_again = true;
            receiver.flight = Some((0, Load::Again(id)));
            let ask = Ask::read(Shelf::Deliveries, letter_key(id), None, 1);
            return out.push(Step::Ask(TAG_AGAIN | index as u64, ask));
        }
        let batch = receiver.batch(now.steady);
        if batch.is_empty() {
            return;
        }
        receiver.was_again = false;
        self.posts += 1;
        receiver.flight = Some((self.posts, Load::Queue(batch.len())));
        let post = receiver.address.post(&batch, receiver.attempts + 1, now);
        out.push(Step::Post(self.posts, post));
    }

    /// Sends a dead letter again that was read for it.
    fn post_letter(
        &mut self,
        index: usize,
        mut values: Vec<(Bytes, Bytes)>,
        now: Now,
        out: &mut Vec<Step>,
    ) {
        let receiver = &mut self.receivers[index];
        let Some((_, Load::Again(id))) = receiver.flight.take() else { return };
        // One that was dropped meanwhile is not sent.
        let Some(mark) = self.letters.get_mut(id) else { return };
        let Some((_, entry)) = values.pop().and_then(|(_, value)| Letter::decode(&value)) else {
            mark.is_again = false;
            return out.push(Step::Say(Note::Unreadable(id)));
        };
        self.posts += 1;
        receiver.flight = Some((self.posts, Load::Again(id)));
        let post = receiver.address.post(&[Arc::new(entry)], mark.attempts + 1, now);
        out.push(Step::Post(self.posts, post));
    }

    /// Takes what was said to a request.
    pub fn heard(&mut self, number: u64, heard: &Heard, now: Now, out: &mut Vec<Step>) {
        let is_it = |it: &&mut Receiver| it.flight.is_some_and(|(flight, _)| flight == number);
        let Some(receiver) = self.receivers.iter_mut().find(is_it) else { return };
        let Some((_, load)) = receiver.flight.take() else { return };
        let turn = match load {
            Load::Queue(entries) => {
                let (verdict, turn) = receiver.heard(heard, entries, now, &mut self.chance);
                if verdict == Verdict::Done {
                    receiver.take(entries, self.tail);
                    add(&self.counts.delivered, entries as u64);
                } else {
                    add(&self.counts.failed, 1);
                }
                turn
            }
            Load::Again(id) => {
                let verdict = receiver.verdict(heard);
                self.ended.push(Change::Remove { key: again_key(id) });
                if verdict == Verdict::Done {
                    receiver.taken_at = Some(now.wall);
                    self.letters.remove(id);
                    self.ended.push(Change::Remove { key: letter_key(id) });
                    add(&self.counts.delivered, 1);
                } else {
                    // Whoever asked for it may ask again: it does not hold up what is due in order.
                    add(&self.counts.failed, 1);
                    if let Some(mark) = self.letters.get_mut(id) {
                        mark.is_again = false;
                        mark.attempts += 1;
                        mark.status = heard.outcome.unwrap_or(0);
                    }
                }
                receiver.turn(heard, verdict, now, &mut self.chance)
            }
        };
        if let Some(turn) = turn {
            let (name, why) = (receiver.name.clone(), receiver.said());
            out.push(Step::Say(Note::Turned(name, turn, why, receiver.waiting)));
        }
        self.drive(now, out);
    }

    /// Turns entries at the front of a receiver into dead letters.
    fn bury(
        &mut self,
        index: usize,
        entries: usize,
        (why, status): (Why, u16),
        now: Now,
        out: &mut Vec<Step>,
    ) {
        let receiver = &mut self.receivers[index];
        let attempts = receiver.attempts;
        let name = receiver.name.clone();
        let taken = receiver.take(entries, self.tail);
        let letters = taken.iter().enumerate().map(|(n, entry)| {
            // Only the first was at the front, and only it counted attempts.
            let said = (why, status, if n == 0 { attempts } else { 0 });
            (self.letters.next_id(), Letter::new(&name, entry, said, now.wall))
        });
        let letters: Vec<_> = letters.collect();
        out.push(Step::Say(Note::Died(name, why, letters.len() as u64, status)));
        add(&self.counts.died[why as usize - 1], letters.len() as u64);
        self.burial = Some(Burial { receiver: index, letters });
    }

    /// How far a receiver is; entries that are not buried yet hold it back if they are to.
    fn done(&self, index: usize, is_held_back: bool) -> u64 {
        let done = self.receivers[index].done();
        let burial = self.burial.as_ref().filter(|it| it.receiver == index && is_held_back);
        let first = burial.and_then(|it| it.letters.first());
        first.map_or(done, |(_, letter)| done.min(letter.number - 1))
    }

    /// Writes what has changed, in one commit: places, dead letters, and what nobody needs any more goes.
    fn settle(&mut self, now: Now, out: &mut Vec<Step>) {
        let is_urgent = self.burial.is_some() || !self.ended.is_empty();
        if self.settling.is_some() || now.steady < self.settle_at && !is_urgent {
            return;
        }
        let is_removal = self.full_until.is_some();
        let mut changes = Vec::new();
        let done: Vec<_> = (0..self.receivers.len()).map(|it| self.done(it, is_removal)).collect();
        let mut floor = self.floor;
        if let (Some(from), Some(least)) = (self.floor, done.iter().min()) {
            let to = (*least).min(self.tail).min(from + REMOVES_MAX).max(from);
            floor = Some(to);
            for number in from + 1..=to {
                let key = Bytes::copy_from_slice(&number.to_be_bytes());
                changes.push((Shelf::Outbox, Change::Remove { key }));
            }
        }
        let (mut gone, mut ended) = (Vec::new(), 0);
        if !is_removal {
            for (receiver, done) in self.receivers.iter().zip(&done) {
                // Who is where the queue begins needs no place beside it.
                if *done > receiver.saved && floor.is_some_and(|floor| *done > floor) {
                    let key = Bytes::from([b"c", receiver.name.as_bytes()].concat());
                    let value = Bytes::copy_from_slice(&done.to_be_bytes());
                    changes.push((Shelf::Deliveries, Change::Put { key, value, expires: NEVER }));
                }
            }
            if let Some(burial) = &self.burial {
                let bytes = burial.letters.iter().map(|(_, it)| it.mark.bytes).sum();
                let more = (burial.letters.len() as u64, bytes);
                let (most, bytes) =
                    (self.settings.dead_letters_max, self.settings.dead_letter_bytes_max);
                gone = self.letters.over(more, most, bytes);
                for key in gone.iter().flat_map(|id| [letter_key(*id), again_key(*id)]) {
                    changes.push((Shelf::Deliveries, Change::Remove { key }));
                }
                for (id, letter) in &burial.letters {
                    let (key, value) = (letter_key(*id), letter.encode());
                    changes.push((Shelf::Deliveries, Change::Put { key, value, expires: NEVER }));
                }
            }
            ended = self.ended.len();
            changes.extend(self.ended.iter().map(|it| (Shelf::Deliveries, it.clone())));
        }
        if changes.is_empty() {
            return;
        }
        self.settle_at = now.steady + SETTLE_PAUSE;
        let is_burying = !is_removal && self.burial.is_some();
        self.settling = Some(Settling { floor, done, gone, ended, is_burying, is_removal });
        out.push(Step::Ask(TAG_SETTLE, Ask::Change { changes }));
    }

    fn settled(&mut self, answer: Answer, now: Now, out: &mut Vec<Step>) {
        let Some(settling) = self.settling.take() else { return };
        match answer {
            Answer::Changed => {}
            Answer::Fault(Fault::Full) => {
                self.full_until = Some(now.steady + STORE_PAUSE);
                return;
            }
            // What is on disk is not known; the same again leaves the same.
            _ => {
                self.store_at = now.steady + STORE_PAUSE;
                return;
            }
        }
        self.sink(settling.floor);
        for (receiver, done) in self.receivers.iter_mut().zip(settling.done) {
            // A full store takes no place; who waited for that would empty no queue.
            receiver.saved = receiver.saved.max(done);
        }
        if settling.is_removal {
            return;
        }
        self.ended.drain(..settling.ended);
        for id in &settling.gone {
            self.letters.remove(*id);
        }
        if !settling.gone.is_empty() {
            add(&self.counts.dropped, settling.gone.len() as u64);
            out.push(Step::Say(Note::Dropped(settling.gone.len() as u64)));
        }
        let buried = if settling.is_burying { self.burial.take() } else { None };
        for (id, letter) in buried.into_iter().flat_map(|it| it.letters) {
            self.letters.insert(id, letter.mark);
        }
    }

    /// The queue begins behind this number now.
    fn sink(&mut self, floor: Option<u64>) {
        let (Some(before), Some(floor)) = (self.floor, floor) else { return };
        let spans = (floor + 1) / SPAN - (before + 1) / SPAN;
        let gone = self.spans.drain(..(spans as usize).min(self.spans.len()));
        self.queue_bytes -= gone.sum::<u64>();
        if floor == self.tail {
            self.spans.clear();
            self.queue_bytes = 0;
        }
        self.floor = Some(floor);
    }

    fn count(&self) {
        let set = |count: &AtomicU64, value: u64| count.store(value, Ordering::Relaxed);
        let Counts { waiting, oldest_at, letters, failing, .. } = &*self.counts;
        set(waiting, self.receivers.iter().map(|it| it.waiting).max().unwrap_or(0));
        let oldest = self.receivers.iter().filter_map(|it| it.ready.front());
        set(oldest_at, oldest.map(|it| it.report.at.0).min().unwrap_or(0));
        set(letters, self.letters.count() as u64);
        set(failing, self.receivers.iter().filter(|it| it.is_failing()).count() as u64);
    }
}

impl Receiver {
    /// The last status; 0: there was none.
    fn status(&self) -> u16 {
        self.outcome.and_then(Result::ok).unwrap_or(0)
    }

    /// What was said last, in words.
    fn said(&self) -> String {
        match self.outcome {
            None => "not tried yet".to_owned(),
            Some(Ok(status)) => format!("status {status}"),
            Some(Err(post::Silence::Unreachable)) => "no connection".to_owned(),
            Some(Err(post::Silence::Late)) => {
                format!("no answer within {} ms", self.address.timeout.0)
            }
            Some(Err(post::Silence::Private)) => {
                "its address is private, and allow_private is not set".to_owned()
            }
        }
    }
}

impl fmt::Display for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failing => f.write_str("failing"),
            Self::Recovered(_) => f.write_str("recovered"),
        }
    }
}

fn add(count: &AtomicU64, by: u64) {
    count.fetch_add(by, Ordering::Relaxed);
}

/// Reads a page of a shelf, behind a key.
fn read(shelf: Shelf, after: Option<Bytes>) -> Ask {
    Ask::Read {
        shelf,
        prefix: Bytes::new(),
        after,
        before: None,
        is_last_first: false,
        values_max: PAGE_ENTRIES,
        bytes_max: PAGE_BYTES,
    }
}

fn key_after(number: u64) -> Option<Bytes> {
    (number > 0).then(|| Bytes::copy_from_slice(&number.to_be_bytes()))
}

/// Values of the queue with their numbers.
fn numbered(values: Vec<(Bytes, Bytes)>) -> impl Iterator<Item = (u64, Bytes)> {
    values.into_iter().filter_map(|(key, value)| Some((id_of(&key)?, value)))
}

#[cfg(test)]
mod tests;
