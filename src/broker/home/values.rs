//! Values that channels keep under keys: set, cleared, read, and told to those who observe them.

use std::collections::VecDeque;

use bytes::Bytes;

use super::asking::Pending;
use super::durable::refusal_of;
use super::line::{Check, Op, Place, Write, Written, exactly, found};
use super::state::Origin;
use super::subscribing::Beginning;
use super::{Asker, Home, expiring, state};
use crate::base::ids::ShardId;
use crate::base::name::{Channel, Name};
use crate::base::time::Now;
use crate::broker::shelved::{self, StoredValue};
use crate::broker::state::{SetValue, Value, ValueChange, ValuesQuery};
use crate::broker::{Down, Event, Happening, Keep, Payload, Refusal, Render, Reply, Subscribe};
use crate::store::{Answer, Ask, Change, Clock, NEVER, Shelf};
use crate::wire::json::same_value;

/// Bytes of keys and values that a subscription starts with, at most.
pub(super) const OBSERVED_BYTES_MAX: u64 = 512 << 10;
/// What a value takes on its way to a peer beside its own bytes, about.
const VALUE_OVERHEAD_BYTES: usize = 128;
/// Values that the store is asked for at once; few in tests, so that the model meets a second page.
const VALUES_PER_READ: u32 = if cfg!(test) { 2 } else { 512 };
/// And bytes of them.
const BYTES_PER_READ: u64 = 1 << 20;
/// Keys that one ask may name; further ones are not looked at.
const KEYS_MAX: usize = 1024;

/// A value to be set, in its channel's line.
#[derive(Debug)]
pub(super) struct Setting {
    set: SetValue,
    origin: Origin,
    /// Nobody sets it: its time is over then, unless it was set again.
    expiry: Option<Clock>,
    /// When it was written, or came.
    at: Now,
    stage: Stage,
}

impl Setting {
    /// When its time is over, if it is to be told then; `clock` is when it was written.
    fn told_when_over(&self, clock: Clock) -> Option<Clock> {
        let is_told = self.set.data.is_some() && self.set.report.is_some();
        match self.set.keep {
            Keep::For(_) if is_told => Some(state::until(self.set.keep, clock)),
            _ => None,
        }
    }
}

#[derive(Debug)]
enum Stage {
    /// Nothing was done yet.
    New,
    /// The value before is being read.
    Reads,
    /// The new one is being written; what subscribers will be told, if it is another.
    Writes(Write, Option<Box<Event>>),
    /// It is written, and waits for what is on its way in the channel's history.
    Done(Option<Box<Event>>),
}

/// The value before and its key on disk.
#[derive(Debug)]
struct Before {
    key: Bytes,
    /// As it is on disk, perhaps past its time.
    stored: Option<StoredValue>,
}

/// A subscription that starts with values, in its channel's line.
#[derive(Debug)]
pub(super) struct Observing {
    asker: Asker,
    granted: Box<Subscribe>,
    /// The store was asked.
    is_reading: bool,
    values: Vec<Value>,
    bytes: u64,
}

/// Values that are being read for who asked.
#[derive(Debug)]
pub(super) struct ValuesRead {
    asker: Asker,
    prefix: Bytes,
    query: ValuesQuery,
    /// Keys that are still to be looked at, in order, where they were named.
    keys: VecDeque<Name>,
    values: Vec<Value>,
    bytes: u64,
}

fn weight(value: &Value) -> u64 {
    (value.key.len() + value.data.0.len() + value.meta.0.len() + VALUE_OVERHEAD_BYTES) as u64
}

/// The value stored under a key, unless its time is over.
fn value_of(prefix: &[u8], stored: (&Bytes, &Bytes), clock: Clock) -> Option<Value> {
    let key = shelved::parse_value_key(prefix, stored.0)?;
    let StoredValue { data, meta, expires, .. } = StoredValue::decode(stored.1)?;
    (expires > clock).then_some(Value { key, data, meta })
}

impl Home {
    /// Sets or clears a value, in its channel's line. `origin` may bring changes that are to be on disk together
    /// with it.
    pub(super) fn set_value(
        &mut self,
        origin: Origin,
        set: SetValue,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let about = set.report.as_ref().map_or(0, |it| it.0.len());
        let data = set.data.as_ref().map_or(0, |it| it.0.len());
        let bytes = set.key.len() + data + set.meta.0.len() + about;
        let Some(number) = self.enter_line(&origin, &set.channel, bytes, now, out) else { return };
        let op = Op::SetValue(Box::new(Setting {
            set,
            origin,
            expiry: None,
            at: now,
            stage: Stage::New,
        }));
        self.line_up(number, op, bytes, None, now, render, out);
    }

    /// The number of a channel whose line takes one more operation; none: the operation is refused.
    pub(super) fn enter_line(
        &mut self,
        origin: &Origin,
        channel: &Channel,
        bytes: usize,
        now: Now,
        out: &mut Vec<(ShardId, Down)>,
    ) -> Option<u32> {
        let number = match self.app_id(channel.app) {
            Some(_) => self.find_or_hold(channel, now),
            None => Err(Refusal::StoreBusy),
        };
        let refusal = match number {
            Ok(number) if self.may_line_up(number, bytes) => return Some(number),
            Ok(number) => {
                self.settle(number, now);
                Refusal::StoreBusy
            }
            Err(refusal) => refusal,
        };
        let Origin { asker, schedule, .. } = origin;
        let origin = Origin { asker: *asker, schedule: *schedule, ..Origin::default() };
        self.conclude(origin, Err(refusal), now, out);
        None
    }

    /// Goes on with a value to be set that is the first in line.
    pub(super) fn carry_value(
        &mut self,
        place: &Place,
        mut it: Box<Setting>,
        answer: Option<Answer>,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) -> Option<Op> {
        let prefix = self.prefix(&it.set.channel)?;
        let key = shelved::value_key(&prefix, &it.set.key);
        match (std::mem::replace(&mut it.stage, Stage::Reads), answer) {
            (Stage::New, _) => {
                self.ask_in_line(place, exactly(Shelf::Storage, key));
                Some(Op::SetValue(it))
            }
            (Stage::Reads, None) => Some(Op::SetValue(it)),
            (Stage::Reads, Some(answer)) => {
                let stored = match found(&answer, &key) {
                    Ok(stored) => stored.and_then(StoredValue::decode),
                    Err(refusal) => {
                        self.refuse_value(*it, &key, refusal, now, out);
                        return None;
                    }
                };
                let before = Before { key, stored };
                self.write_value(place, it, before, now, render, out)
            }
            (Stage::Done(told), _) => self.conclude_value(place, it, told, now, render, out),
            (Stage::Writes(write, told), answer) => match self.written(place, write, answer) {
                Written::Open(write) => {
                    it.stage = Stage::Writes(write, told);
                    Some(Op::SetValue(it))
                }
                Written::Done => self.conclude_value(place, it, told, now, render, out),
                Written::Not(fault) => {
                    self.refuse_value(*it, &key, refusal_of(&fault), now, out);
                    None
                }
            },
        }
    }

    /// It is on disk: whoever observes it is told, after what came before it.
    fn conclude_value(
        &mut self,
        place: &Place,
        mut it: Box<Setting>,
        told: Option<Box<Event>>,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) -> Option<Op> {
        if !self.is_clear(place.number) {
            it.stage = Stage::Done(told);
            return Some(Op::SetValue(it));
        }
        if let Some(event) = told {
            self.deliver_if_heard(place.number, &event, None, render, out);
        }
        if let Some(expires) = it.told_when_over(self.clock(it.at))
            && let Some(prefix) = self.prefix(&it.set.channel)
        {
            self.await_expiry(&shelved::value_key(&prefix, &it.set.key), expires);
        }
        self.conclude(it.origin, Ok(Reply::Done), now, out);
        None
    }

    fn refuse_value(
        &mut self,
        it: Setting,
        key: &Bytes,
        refusal: Refusal,
        now: Now,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        if let Some(expires) = it.expiry {
            self.await_expiry_again(key, expires, now);
        }
        self.conclude(it.origin, Err(refusal), now, out);
    }

    /// The value before is known: what follows from that is written.
    fn write_value(
        &mut self,
        place: &Place,
        mut it: Box<Setting>,
        before: Before,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) -> Option<Op> {
        let Before { key, stored } = before;
        let mut changes = std::mem::take(&mut it.origin.changes);
        let of_schedule = Check::of_mark(&changes);
        let clock = self.clock(now);
        let is_stored = stored.is_some();
        let stored = match stored {
            // It was to be told when its time was over, and nobody has come to it yet.
            Some(over) if over.expires <= clock => {
                let change = ValueChange {
                    key: it.set.key.clone(),
                    data: None,
                    previous: Some(over.data.clone()),
                    meta: over.meta.clone(),
                    is_expired: true,
                    expires: None,
                };
                changes.extend(self.forget_value(&key, &over));
                let event = self.value_event(place.number, change, now);
                let about = over.about.as_ref();
                changes.extend(
                    about.into_iter().flat_map(|it| self.shelve_report(&event, it, render)),
                );
                None
            }
            stored => stored,
        };
        let mut told = None;
        match (it.expiry, stored) {
            // It was set again, and has another time, or none.
            (Some(_), Some(_)) => {}
            (Some(expires), None) => changes.push(expiring::forget(&key, expires)),
            (None, stored) => {
                told = self.change_value(place.number, &it, &key, stored, now, &mut changes);
                if let (Some(event), Some(about)) = (&told, &it.set.report) {
                    changes.extend(self.shelve_report(event, about, render));
                }
            }
        }
        if changes.is_empty() {
            self.conclude(it.origin, Ok(Reply::Done), now, out);
            return None;
        }
        it.at = now;
        let expected = changes.iter().rev().find_map(|(shelf, change)| match change {
            Change::Put { value, .. } if *shelf == Shelf::Storage => Some(value.clone()),
            _ => None,
        });
        // Where nothing is cleared, that there is nothing tells nothing.
        let has_written = expected.is_some() || is_stored;
        let written = Check { shelf: Shelf::Storage, key, expected };
        let check = of_schedule.or(has_written.then_some(written));
        self.ask_in_line(place, Ask::Change { changes });
        it.stage = Stage::Writes(Write::Asked(check), told);
        Some(Op::SetValue(it))
    }

    /// The changes that set or clear a value, and what subscribers are told if it is another one then.
    fn change_value(
        &self,
        number: u32,
        it: &Setting,
        key: &Bytes,
        stored: Option<StoredValue>,
        now: Now,
        changes: &mut Vec<(Shelf, Change)>,
    ) -> Option<Box<Event>> {
        let SetValue { data, meta, keep, report: about, .. } = &it.set;
        let is_same = match (data, &stored) {
            (None, None) => true,
            (Some(data), Some(stored)) => same_value(&data.0, &stored.data.0),
            _ => false,
        };
        let expires = self.until(*keep, now);
        if let Some(stored) = &stored {
            changes.extend(self.forget_value(key, stored));
        }
        if let Some(data) = data {
            let (data, meta, about) = (data.clone(), meta.clone(), about.clone());
            let is_told = about.is_some() && expires != NEVER;
            let value = StoredValue { data, meta, about, expires }.encode();
            if is_told {
                changes.extend(expiring::put(key, value, expires));
            } else {
                changes.push((Shelf::Storage, Change::Put { key: key.clone(), value, expires }));
            }
        }
        let change = ValueChange {
            key: it.set.key.clone(),
            data: data.clone(),
            previous: stored.map(|stored| stored.data),
            meta: meta.clone(),
            is_expired: false,
            expires: shelved::told(expires).filter(|_| data.is_some()),
        };
        (!is_same).then(|| Box::new(self.value_event(number, change, now)))
    }

    fn value_event(&self, number: u32, change: ValueChange, now: Now) -> Event {
        self.channels[number].happened(Happening::ValueChanged(change.into()), now)
    }

    /// The changes that remove a value, and what there is to know of its time.
    fn forget_value(&self, key: &Bytes, stored: &StoredValue) -> Vec<(Shelf, Change)> {
        let mut changes = vec![(Shelf::Storage, Change::Remove { key: key.clone() })];
        if stored.about.is_some() && stored.expires != NEVER {
            changes.push(expiring::forget(key, stored.expires));
        }
        changes
    }

    /// Puts a value whose time is over into its channel's line, to be removed and told.
    #[expect(clippy::too_many_arguments, reason = "one value, its place and time, and the world")]
    pub(super) fn line_up_expiry(
        &mut self,
        number: u32,
        channel: Channel,
        key: Name,
        expires: Clock,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let bytes = key.len();
        let set = SetValue {
            channel,
            key,
            data: None,
            meta: Payload(Bytes::from_static(b"null")),
            keep: Keep::Forever,
            report: None,
            quiet: true,
        };
        let (origin, expiry) = (Origin::default(), Some(expires));
        let setting = Setting { set, origin, expiry, at: now, stage: Stage::New };
        self.line_up(number, Op::SetValue(Box::new(setting)), bytes, None, now, render, out);
    }

    /// Begins a subscription that starts with values.
    pub(super) fn observe(
        &mut self,
        asker: Asker,
        granted: Box<Subscribe>,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let origin = Origin::of(asker, false);
        let Some(number) = self.enter_line(&origin, &granted.channel, 0, now, out) else { return };
        let observing =
            Observing { asker, granted, is_reading: false, values: Vec::new(), bytes: 0 };
        self.line_up(number, Op::Observe(Box::new(observing)), 0, None, now, render, out);
    }

    /// Goes on with a subscription that is the first in line: it stands once all values are read, so that changes
    /// follow them without a gap.
    pub(super) fn carry_observer(
        &mut self,
        place: &Place,
        mut it: Box<Observing>,
        answer: Option<Answer>,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) -> Option<Op> {
        let prefix = self.prefix(&it.granted.channel)?;
        let mut after = None;
        match answer {
            None if it.is_reading => return Some(Op::Observe(it)),
            None => {}
            Some(Answer::Values { values, has_more }) => {
                let clock = self.clock(now);
                let keys = it.granted.values.as_ref();
                let mut is_full = false;
                for (key, value) in &values {
                    let Some(value) = value_of(&prefix, (key, value), clock) else { continue };
                    if keys.is_some_and(|keys| !keys.0.admit(&value.key)) {
                        continue;
                    }
                    is_full = it.bytes + weight(&value) > OBSERVED_BYTES_MAX;
                    if is_full {
                        break;
                    }
                    it.bytes += weight(&value);
                    it.values.push(value);
                }
                if is_full || !has_more {
                    let (values, has_more_values) = (it.values, is_full);
                    let beginning = Beginning { values, has_more_values, ..Beginning::default() };
                    self.attach(it.asker, it.granted, beginning, now, render, out);
                    return None;
                }
                after = values.last().map(|(key, _)| key.clone());
            }
            Some(answer) => {
                let refusal = found(&answer, &[]).err().unwrap_or(Refusal::StoreBusy);
                it.asker.answer(Reply::Refused(refusal), out);
                return None;
            }
        }
        it.is_reading = true;
        self.ask_in_line(place, page(prefix, after));
        Some(Op::Observe(it))
    }

    /// Reads a channel's values for who asks.
    pub(super) fn read_values(
        &mut self,
        asker: Asker,
        channel: Channel,
        query: ValuesQuery,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let Some(prefix) = self.may_read(&channel) else {
            return asker.answer(Reply::Refused(Refusal::StoreBusy), out);
        };
        let mut keys: Vec<_> = query.keys.iter().flatten().take(KEYS_MAX).cloned().collect();
        keys.sort_unstable();
        keys.dedup();
        keys.retain(|key| {
            query.after.as_ref().is_none_or(|after| key > after)
                && query.admit.as_ref().is_none_or(|admit| admit.0.admit(key))
        });
        let is_scan = query.keys.is_none();
        let after = query.after.as_ref().map(|after| shelved::value_key(&prefix, after));
        let read =
            ValuesRead { asker, prefix, query, keys: keys.into(), values: Vec::new(), bytes: 0 };
        if is_scan {
            let ask = page(read.prefix.clone(), after);
            return self.ask_reading(Pending::Values(Box::new(read)), ask);
        }
        self.read_next_key(read, out);
    }

    /// Looks at the next of the keys that were named, or answers.
    fn read_next_key(&mut self, read: ValuesRead, out: &mut Vec<(ShardId, Down)>) {
        match read.keys.front() {
            Some(key) => {
                let ask = exactly(Shelf::Storage, shelved::value_key(&read.prefix, key));
                self.ask_reading(Pending::Values(Box::new(read)), ask);
            }
            None => read.asker.answer(Reply::Values(read.values), out),
        }
    }

    /// Some of the values that someone asked for are read.
    pub(super) fn values_read(
        &mut self,
        mut read: Box<ValuesRead>,
        answer: Answer,
        now: Now,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let (values, has_more) = match answer {
            Answer::Values { values, has_more } => (values, has_more),
            answer => {
                let refusal = found(&answer, &[]).err().unwrap_or(Refusal::StoreBusy);
                return read.asker.answer(Reply::Refused(refusal), out);
            }
        };
        let clock = self.clock(now);
        let is_scan = read.query.keys.is_none();
        let named = if is_scan { None } else { read.keys.pop_front() };
        for (key, value) in &values {
            let Some(value) = value_of(&read.prefix, (key, value), clock) else { continue };
            let is_meant = match (&named, &read.query.admit) {
                (Some(named), _) => value.key == *named,
                (None, admit) => admit.as_ref().is_none_or(|it| it.0.admit(&value.key)),
            };
            if !is_meant {
                continue;
            }
            let bytes = read.bytes + weight(&value);
            let is_full = read.values.len() >= read.query.values_max as usize
                || !read.values.is_empty() && bytes > read.query.bytes_max;
            if is_full {
                return read.asker.answer(Reply::Values(read.values), out);
            }
            read.bytes = bytes;
            read.values.push(value);
        }
        if !is_scan {
            return self.read_next_key(*read, out);
        }
        match values.last() {
            Some((last, _)) if has_more => {
                let ask = page(read.prefix.clone(), Some(last.clone()));
                self.ask_reading(Pending::Values(read), ask);
            }
            _ => read.asker.answer(Reply::Values(read.values), out),
        }
    }
}

/// Asks for the next of a channel's values.
fn page(prefix: Bytes, after: Option<Bytes>) -> Ask {
    Ask::Read {
        shelf: Shelf::Storage,
        prefix,
        after,
        before: None,
        is_last_first: false,
        values_max: VALUES_PER_READ,
        bytes_max: BYTES_PER_READ,
    }
}
