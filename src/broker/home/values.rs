//! Values that channels keep under keys: set, cleared, read, and told to those who observe them.

use std::collections::VecDeque;

use bytes::Bytes;

use super::durable::{Pending, refusal_of};
use super::line::{Check, Op, Place, Write, Written, exactly, found};
use super::state::Origin;
use super::subscribing::Beginning;
use super::{Asker, Home};
use crate::base::ids::ShardId;
use crate::base::name::{Channel, Name};
use crate::base::time::Now;
use crate::broker::shelved::{self, StoredValue};
use crate::broker::state::{SetValue, Value, ValueChange, ValuesQuery};
use crate::broker::{Down, Event, Happening, Refusal, Render, Reply, Subscribe};
use crate::store::{Answer, Ask, Change, Clock, Shelf};
use crate::wire::json::same_value;

/// Bytes of keys and values that a subscription starts with, at most.
pub(super) const OBSERVED_BYTES_MAX: u64 = 4 << 20;
/// Values that the store is asked for at once.
const VALUES_PER_READ: u32 = 512;
/// And bytes of them.
const BYTES_PER_READ: u64 = 1 << 20;
/// Keys that one ask may name; further ones are not looked at.
const KEYS_MAX: usize = 1024;

/// A value to be set, in its channel's line.
#[derive(Debug)]
pub(super) struct Setting {
    set: SetValue,
    origin: Origin,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Nothing was done yet.
    New,
    /// The value before is being read.
    Reads,
    /// The new one is being written; what subscribers will be told, if it is another.
    Writes(Write, Option<Box<Event>>),
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
    (value.key.len() + value.data.0.len() + value.meta.0.len()) as u64
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
        let op = Op::SetValue(Box::new(Setting { set, origin, stage: Stage::New }));
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
        let origin = Origin { asker: *asker, schedule: *schedule, changes: Vec::new() };
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
                let before = match found(&answer, &key) {
                    Ok(before) => before.and_then(StoredValue::decode),
                    Err(refusal) => {
                        self.conclude(it.origin, Err(refusal), now, out);
                        return None;
                    }
                };
                let clock = self.clock(now);
                let before = before.filter(|before| before.expires > clock);
                self.write_value(place, it, key, before, now, render, out)
            }
            (Stage::Writes(write, told), answer) => match self.written(place, write, answer) {
                Written::Open(write) => {
                    it.stage = Stage::Writes(write, told);
                    Some(Op::SetValue(it))
                }
                Written::Done => {
                    let held = &self.channels[place.number];
                    if let Some(event) = told
                        && !held.interest.is_empty()
                    {
                        held.deliver(*event, None, render, out);
                    }
                    self.conclude(it.origin, Ok(Reply::Done), now, out);
                    None
                }
                Written::Not(fault) => {
                    self.conclude(it.origin, Err(refusal_of(&fault)), now, out);
                    None
                }
            },
        }
    }

    /// The value before is known: what follows from that is written.
    #[expect(clippy::too_many_arguments, reason = "one value, before and after, and the world")]
    fn write_value(
        &mut self,
        place: &Place,
        mut it: Box<Setting>,
        key: Bytes,
        before: Option<StoredValue>,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) -> Option<Op> {
        let mut changes = std::mem::take(&mut it.origin.changes);
        let of_schedule = Check::of_schedule(&changes);
        let SetValue { data, meta, keep, report, .. } = &it.set;
        let is_same = match (data, &before) {
            (None, None) => true,
            (Some(data), Some(before)) => same_value(&data.0, &before.data.0),
            _ => false,
        };
        let was_there = before.is_some();
        let expires = self.until(*keep, now);
        let expected = data.as_ref().map(|data| {
            let (data, meta, about) = (data.clone(), meta.clone(), report.clone());
            StoredValue { data, meta, about, expires }.encode()
        });
        match &expected {
            Some(value) => {
                let (key, value) = (key.clone(), value.clone());
                changes.push((Shelf::Storage, Change::Put { key, value, expires }));
            }
            None if before.is_some() => {
                changes.push((Shelf::Storage, Change::Remove { key: key.clone() }));
            }
            None => {}
        }
        let told = (!is_same).then(|| {
            let change = ValueChange {
                key: it.set.key.clone(),
                data: data.clone(),
                previous: before.map(|before| before.data),
                meta: meta.clone(),
                is_expired: false,
                expires: shelved::told(expires).filter(|_| data.is_some()),
            };
            let happening = Happening::ValueChanged(change.into());
            Box::new(self.channels[place.number].happened(happening, now))
        });
        if let (Some(event), Some(about)) = (&told, report) {
            changes.extend(self.shelve_report(event, about, render));
        }
        if changes.is_empty() {
            self.conclude(it.origin, Ok(Reply::Done), now, out);
            return None;
        }
        // Where nothing is cleared, that there is nothing tells nothing.
        let has_written = expected.is_some() || was_there;
        let written = Check { shelf: Shelf::Storage, key, expected };
        let check = of_schedule.or(has_written.then_some(written));
        self.ask_in_line(place, Ask::Change { changes });
        it.stage = Stage::Writes(Write::Asked(check), told);
        Some(Op::SetValue(it))
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
