//! Publishes: their way to the subscribers, at once, through memory, or past the disk.

use std::sync::Arc;

use super::durable::refusal_of;
use super::keeping::Used;
use super::line::{Check, Op, Place, Write, Written};
use super::state::Origin;
use super::{Asker, Home, Kept};
use crate::base::event_id::EventId;
use crate::base::ids::{Epoch, Serial, ShardId};
use crate::base::time::{Millis, Now, UnixMillis};
use crate::broker::shelved;
use crate::broker::{
    Down, Event, Happening, IdempotencyKey, Mode, Payload, Publish, Published, Refusal, Render,
    Reply,
};
use crate::store::{Answer, Ask, Change, Clock, Fault, Shelf};

/// A publish in a channel's line.
#[derive(Debug)]
pub(super) struct Ordered {
    publish: Publish,
    pub id: EventId,
    at: UnixMillis,
    origin: Origin,
    /// Those who repeated it with its key meanwhile.
    pub others: Vec<Asker>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Nothing of it is on its way to disk.
    Ready,
    Writes(Write),
    /// It is to be appended to a history that is on disk.
    Appends,
}

impl Ordered {
    fn new(publish: Publish, id: EventId, now: Now, origin: Origin, stage: Stage) -> Self {
        Self { publish, id, at: now.wall, origin, others: Vec::new(), stage }
    }
}

/// Its place in its channel's history.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot {
    pub mode: Mode,
    pub epoch: Option<Epoch>,
    pub serial: Serial,
}

/// Bytes of a publish that wait for the store.
fn weight(publish: &Publish) -> usize {
    let about = publish.report.as_ref().map_or(0, |it| it.0.len());
    let push = publish.push.as_ref().map_or(0, |it| it.0.len());
    publish.name.len() + publish.data.0.len() + about + push
}

/// The change that puts a notification among those that are to be planned.
pub(super) fn queue_push(push: Payload) -> (Shelf, Change) {
    (Shelf::PushQueue, Change::Push { value: push.0 })
}

impl Home {
    /// Carries out a publish, or sends it on its way. `origin` may bring changes that are to be on disk together
    /// with it: then it waits for the store in any case.
    pub(super) fn publish(
        &mut self,
        origin: Origin,
        mut publish: Publish,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        publish.push = publish.push.filter(|_| self.keeping.has_pushes);
        let channel = &publish.channel;
        let keep_last = publish.keep_last.filter(|_| !publish.guarded);
        let is_ephemeral = publish.ephemeral || publish.guarded;
        let is_stored =
            publish.retain.is_some() || publish.push.is_some() || !origin.changes.is_empty();
        let number = match self.find(channel) {
            Some(number) => number,
            None => {
                let is_kept = !is_ephemeral && self.keeping.rules.of(channel).is_some();
                let is_told =
                    is_stored || publish.report.is_some() || self.wildcards.reach_any(channel);
                if keep_last.is_none() && publish.key.is_none() && !is_kept && !is_told {
                    // Nobody knows it: the event is the first and the last of its channel.
                    let id = self.next_id(now);
                    let published = Published { id, ..Published::unkept(Serial(1)) };
                    return self.conclude(origin, Ok(Reply::Published(published)), now, out);
                }
                match self.find_or_hold(&channel.clone(), now) {
                    Ok(number) => number,
                    Err(refusal) => return self.conclude(origin, Err(refusal), now, out),
                }
            }
        };
        if let Some(key) = &publish.key {
            if self.repeated(number, key, origin.asker, out) {
                return;
            }
            if let Some(refusal) = self.keys_full(now) {
                self.conclude(origin, Err(refusal), now, out);
                return self.settle(number, now);
            }
        }
        let is_durable = !is_ephemeral
            && self.window(number).is_some_and(|window| window.rule.mode == Mode::Durable);
        if is_durable {
            return self.publish_durable(number, origin, publish, now, render, out);
        }
        if is_stored || self.has_line(number) {
            return self.publish_in_line(number, origin, publish, now, render, out);
        }
        let is_kept = self.window(number).is_some() || keep_last.is_some();
        let is_settled = is_kept
            || publish.key.is_some()
            || publish.report.is_some()
            || !self.wildcards.is_empty();
        let id = self.next_id_of(number, now);
        let published = self.order(number, publish, id, now.wall, now, render, out);
        self.conclude(origin, Ok(Reply::Published(published)), now, out);
        if is_settled {
            self.settle(number, now);
            self.bound_history(now);
        }
    }

    /// Gives a publish its place: keeps it in memory and delivers it.
    #[expect(clippy::too_many_arguments, reason = "one publish, its name, and the world")]
    fn order(
        &mut self,
        number: u32,
        publish: Publish,
        id: EventId,
        at: UnixMillis,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) -> Published {
        let keep_last = publish.keep_last.filter(|_| !publish.guarded);
        let is_ephemeral = publish.ephemeral || publish.guarded;
        let window = self.window(number);
        // Only what is kept has a place in a history.
        let is_placed = window.is_none() || !is_ephemeral;
        let kept = window.filter(|_| !is_ephemeral).map(|it| (it.rule.mode, it.epoch));
        let held = &mut self.channels[number];
        held.serial += u64::from(is_placed);
        let spot = Spot {
            mode: kept.map_or(Mode::None, |(mode, _)| mode),
            epoch: kept.map(|(_, epoch)| epoch),
            serial: Serial(if is_placed { held.serial } else { 0 }),
        };
        let published = self.published(number, id, spot);
        if let Some(key) = &publish.key {
            self.remember_key(number, key, published, true, now);
        }
        let is_heard = self.is_heard(number);
        // A report of what is stored went there with it.
        let about = publish.report.clone().filter(|_| publish.retain.is_none());
        if is_heard || keep_last.is_some() || spot.epoch.is_some() || about.is_some() {
            let exclude = publish.exclude;
            let event = self.event(number, publish, id, at, spot);
            if spot.epoch.is_some() || keep_last.is_some() {
                self.keep(number, Arc::new(event.clone()), spot.epoch.is_some(), keep_last, now);
            }
            if let Some(about) = about {
                self.report_event(&event, Some(&about), render);
            }
            if is_heard {
                self.deliver(number, event, exclude, render, out);
            }
        }
        published
    }

    pub(super) fn published(&self, number: u32, id: EventId, spot: Spot) -> Published {
        let held = &self.channels[number];
        Published {
            serial: spot.serial,
            id,
            mode: spot.mode,
            epoch: spot.epoch,
            subscription_count: u64::from(held.counted),
            user_count: held.user_count(),
            is_repeated: false,
        }
    }

    fn event(
        &self,
        number: u32,
        publish: Publish,
        id: EventId,
        at: UnixMillis,
        spot: Spot,
    ) -> Event {
        let Publish { name, data, sender, arrived, tags, guarded, meta, .. } = publish;
        let Spot { epoch, serial, .. } = spot;
        let channel = self.channels[number].channel.clone();
        let happening = Happening::Message { name, data, sender };
        Event { channel, serial, epoch, id, at, arrived, tags, meta, guarded, happening }
    }

    /// Sends a publish on its way into a history that is on disk.
    fn publish_durable(
        &mut self,
        number: u32,
        origin: Origin,
        publish: Publish,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let bytes = weight(&publish);
        let may_go = match self.has_line(number) {
            true => self.may_line_up(number, bytes),
            false => self.may_append(bytes),
        };
        if !may_go || !self.is_ready(number, now) {
            return self.conclude(origin, Err(Refusal::StoreBusy), now, out);
        }
        let id = self.next_durable_id(number, now);
        if !self.has_line(number) {
            return self.send(number, publish, id, (origin, Vec::new()), now, render);
        }
        // What is in the line has an id before this one.
        self.remember_lined(number, publish.key.as_deref(), id, now);
        let ordered = Ordered::new(publish, id, now, origin, Stage::Appends);
        self.line_up(number, Op::Publish(Box::new(ordered)), bytes, None, now, render, out);
    }

    /// Appends a publish to a history that is on disk.
    fn send(
        &mut self,
        number: u32,
        publish: Publish,
        id: EventId,
        (origin, others): (Origin, Vec<Asker>),
        now: Now,
        render: &dyn Render,
    ) {
        let epoch = self.window(number).map(|it| it.epoch);
        let held = &mut self.channels[number];
        held.serial += 1;
        let spot = Spot { mode: Mode::Durable, epoch, serial: Serial(held.serial) };
        let key = publish.key.clone();
        if let Some(key) = &key {
            let published = self.published(number, id, spot);
            self.remember_key(number, key, published, false, now);
        }
        let keep_last = publish.keep_last;
        let (exclude, retain, about) = (publish.exclude, publish.retain, publish.report.clone());
        let mut changes: Vec<_> = publish.push.clone().map(queue_push).into_iter().collect();
        let event = self.event(number, publish, id, now.wall, spot);
        if let Some(keep) = retain {
            changes.extend(self.shelve(&event, self.until(keep, now)));
        }
        if let Some(about) = about {
            changes.extend(self.shelve_report(&event, &about, render));
        }
        self.append(number, event, exclude, keep_last, key, changes, (origin, others), now);
    }

    /// Remembers the key of what is in its channel's line, and has no serial yet.
    pub(super) fn remember_lined(
        &mut self,
        number: u32,
        key: Option<&IdempotencyKey>,
        id: EventId,
        now: Now,
    ) {
        if let Some(key) = key {
            let published = Published { id, ..Published::unkept(Serial(0)) };
            self.remember_key(number, key, published, false, now);
        }
    }

    /// Sends a publish on its way in its channel's line.
    fn publish_in_line(
        &mut self,
        number: u32,
        mut origin: Origin,
        mut publish: Publish,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let bytes = weight(&publish);
        if !self.may_line_up(number, bytes) || self.app_id(publish.channel.app).is_none() {
            self.conclude(origin, Err(Refusal::StoreBusy), now, out);
            return self.settle(number, now);
        }
        let id = self.next_id_of(number, now);
        self.remember_lined(number, publish.key.as_deref(), id, now);
        let mut changes = std::mem::take(&mut origin.changes);
        let mut check = Check::of_mark(&changes);
        if let Some(keep) = publish.retain {
            let spot = Spot { mode: Mode::None, epoch: None, serial: Serial(0) };
            let event = self.event(number, publish.clone(), id, now.wall, spot);
            if let Some((shelf, change)) = self.shelve(&event, self.until(keep, now)) {
                if let Change::Put { key, value, .. } = &change {
                    let (key, expected) = (key.clone(), Some(value.clone()));
                    check = Some(Check { shelf, key, expected });
                }
                changes.push((shelf, change));
            }
            if let Some(about) = &publish.report {
                changes.extend(self.shelve_report(&event, about, render));
            }
        }
        if let Some(push) = publish.push.take() {
            if check.is_none() {
                // Of a notification alone nothing is left to look for once it is planned.
                changes.push(self.mark(id, now));
                check = Check::of_mark(&changes);
            }
            changes.push(queue_push(push));
        }
        let ask = (!changes.is_empty()).then_some(Ask::Change { changes });
        let stage = if ask.is_some() { Stage::Writes(Write::Asked(check)) } else { Stage::Ready };
        let ordered = Ordered::new(publish, id, now, origin, stage);
        self.line_up(number, Op::Publish(Box::new(ordered)), bytes, ask, now, render, out);
    }

    /// Carries out a publish that is the first in line, if the store has answered.
    pub(super) fn carry_publish(
        &mut self,
        place: &Place,
        mut it: Box<Ordered>,
        answer: Option<Answer>,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) -> Option<Op> {
        let written = match std::mem::replace(&mut it.stage, Stage::Ready) {
            Stage::Ready => Written::Done,
            Stage::Writes(write) => self.written(place, write, answer),
            Stage::Appends if self.is_ready(place.number, now) => {
                let Ordered { publish, id, origin, others, .. } = *it;
                self.send(place.number, publish, id, (origin, others), now, render);
                return None;
            }
            Stage::Appends => Written::Not(Fault::Unavailable),
        };
        match written {
            Written::Open(write) => {
                it.stage = Stage::Writes(write);
                return Some(Op::Publish(it));
            }
            Written::Done => {
                let Ordered { publish, id, at, origin, others, .. } = *it;
                let published = self.order(place.number, publish, id, at, now, render, out);
                self.conclude_publish(origin, others, Ok(published), now, out);
                self.bound_history(now);
            }
            Written::Not(fault) => {
                if let Some(key) = &it.publish.key {
                    self.give_up_key(place.number, &key.name, it.id);
                }
                let refusal = Err(refusal_of(&fault));
                self.conclude_publish(it.origin, it.others, refusal, now, out);
            }
        }
        None
    }

    /// Forgets a key whose publish came to nothing.
    pub(super) fn give_up_key(&mut self, number: u32, name: &str, id: EventId) {
        if let Some(rare) = self.channels[number].rare.as_mut()
            && rare.keys.get(name).is_some_and(|used: &Used| used.published.id == id)
        {
            rare.keys.remove(name);
            self.keys_used -= 1;
        }
    }

    /// The change that keeps a message under its id.
    fn shelve(&self, event: &Event, expires: Clock) -> Option<(Shelf, Change)> {
        let prefix = self.prefix(&event.channel)?;
        let key = shelved::message_key(&prefix, event.id);
        let value = shelved::encode_message(event, expires);
        Some((Shelf::Messages, Change::Put { key, value, expires }))
    }

    /// Keeps an event in memory: in the channel's history, as its last, or both.
    pub(super) fn keep(
        &mut self,
        number: u32,
        event: Arc<Event>,
        in_history: bool,
        as_last: Option<Millis>,
        now: Now,
    ) {
        if let Some(span) = as_last {
            let kept = Kept { event: event.clone(), until: now.steady + span };
            self.channels[number].rare.get_or_insert_default().kept = Some(kept);
        }
        if in_history {
            self.counts.kept_memory += 1;
            let clock = self.clock(now);
            self.with_window(number, |window| {
                let expires = window.expiry(clock);
                window.push(event, expires, usize::MAX);
            });
        }
    }
}
