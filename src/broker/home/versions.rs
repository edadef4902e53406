//! Messages that are given further versions, and what is read of them.
//!
//! A version takes the next place in its channel's history, as a publish does. On disk it is written with its event,
//! in one batch: under its own name, and as what its message is now. A message that is known in memory needs no read for
//! that; of another one the store is asked, and what comes for the channel meanwhile waits in its line.
//!
//! A version is kept as long as its event is; a message as long as its last version. What is gone by then is told by
//! serials, and removed from disk when the history moves on: see [`super::cleaning`].

use std::collections::VecDeque;
use std::sync::Arc;

use super::asking::Pending;
use super::durable::refusal_of;
use super::line::{Check, Op, Place, Write, Written, exactly, found};
use super::messages::Messages;
use super::publishing::{Spot, queue_push};
use super::state::Origin;
use super::{Asker, Home};
use crate::base::event_id::EventId;
use crate::base::ids::{Serial, ShardId};
use crate::base::name::Channel;
use crate::base::time::Now;
use crate::broker::mutation::{message_of, mutated};
use crate::broker::shelved::{self, Going};
use crate::broker::versioned::{MessageRef, Mutate, Patch, Versions, VersionsQuery};
use crate::broker::{Down, Event, Happening, Mode, Refusal, Render, Reply};
use crate::store::{self, Answer, Ask, Change, Clock, Fault, PageAsk, Shelf};

/// What is known of a message without asking the store.
#[derive(Debug)]
pub(super) enum Known {
    Here(Arc<Event>),
    /// There is no such message, or not any more.
    Not,
    /// The store knows.
    OnDisk,
}

/// A message that an operation is about and that is looked for.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    message: MessageRef,
    /// None before the store was asked.
    stage: Option<Looking>,
    /// How often an append of the channel had failed when it was.
    failures: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Looking {
    /// For what became of it.
    Latest,
    /// For what was published.
    Created,
}

/// What came of looking for a message.
#[derive(Debug)]
pub(super) enum Found {
    /// The store was asked.
    Open(Finding),
    /// As it is when all that is on its way is on disk.
    Here(Arc<Event>),
    Not(Refusal),
}

/// A version in its channel's line: its message is looked for.
#[derive(Debug)]
pub(super) struct Mutating {
    mutate: Mutate,
    pub id: EventId,
    origin: Origin,
    /// Those who repeated it with its key meanwhile.
    pub others: Vec<Asker>,
    finding: Finding,
    /// Its notification is on its way to disk, before it: there is nothing else of it there.
    write: Option<Write>,
}

/// A message, or its versions, read for who asks.
#[derive(Debug)]
pub(super) struct MessageRead {
    asker: Asker,
    message: MessageRef,
    /// Its versions are wanted, not only what it is now.
    query: Option<VersionsQuery>,
    stage: Reading,
}

#[derive(Debug)]
enum Reading {
    Message(Looking),
    Versions,
}

impl Finding {
    pub(super) fn new(message: MessageRef) -> Self {
        Self { message, stage: None, failures: 0 }
    }
}

/// Bytes of a version that wait for the store.
fn weight(mutate: &Mutate) -> usize {
    let of = |patch: &Patch<_>| match patch {
        Patch::Set(crate::broker::Payload(bytes)) => bytes.len(),
        Patch::Stay | Patch::Clear => 0,
    };
    of(&mutate.data) + of(&mutate.extras) + mutate.push.as_ref().map_or(0, |it| it.0.len())
}

impl Home {
    /// Changes what is known of a channel's messages, and keeps the count of what all of them hold.
    pub(super) fn with_messages<R>(
        &mut self,
        number: u32,
        change: impl FnOnce(&mut Messages) -> R,
    ) -> Option<R> {
        let messages = self.channels[number].rare.as_mut()?.messages.as_mut()?;
        let before = messages.bytes();
        let result = change(messages);
        self.history_bytes = self.history_bytes + messages.bytes() - before;
        Some(result)
    }

    /// The same, of a channel of whose messages nothing may be known yet.
    pub(super) fn with_messages_new(&mut self, number: u32, change: impl FnOnce(&mut Messages)) {
        let Some(rare) = self.channels[number].rare.as_mut() else { return };
        let is_all = rare.durable.is_none();
        rare.messages.get_or_insert_with(|| Box::new(Messages::new(is_all)));
        self.with_messages(number, change);
    }

    /// Takes what became of messages from a window that was just read.
    pub(super) fn tell_messages(&mut self, number: u32) {
        let Some(window) = self.window(number) else { return };
        let is_one = |it: &(&Arc<Event>, Clock)| matches!(it.0.happening, Happening::Mutated(_));
        let versions: Vec<_> =
            window.events().filter(is_one).map(|(it, expires)| (it.clone(), expires)).collect();
        for (version, expires) in &versions {
            self.with_messages_new(number, |messages| messages.tell(version, *expires));
        }
    }

    /// A message as it is when all that is on its way is on disk; or, if `is_told`, as it was told last.
    pub(super) fn known(&self, number: u32, message: MessageRef, is_told: bool, now: Now) -> Known {
        let clock = self.clock(now);
        let Some(rare) = self.channels[number].rare.as_ref() else { return Known::Not };
        let Some(window) = rare.history.as_ref() else { return Known::Not };
        let oldest = rare.durable.as_ref().map_or(Serial(0), |it| it.head.oldest);
        let known = rare.messages.as_ref().and_then(|it| match is_told {
            true => it.latest(message, clock),
            false => it.ordered(message, clock),
        });
        if let Some(known) = known.filter(|it| it.serial >= oldest) {
            return Known::Here(known.clone());
        }
        if let Some((event, _)) = window.event(message.serial.0, clock) {
            let is_it = message_of(event) == Some(message)
                && matches!(event.happening, Happening::Message { .. });
            return if is_it { Known::Here(event.clone()) } else { Known::Not };
        }
        match rare.durable.is_some() && message.serial.0 < window.oldest() {
            true => Known::OnDisk,
            false => Known::Not,
        }
    }

    /// Looks for the message that an operation is about, which is the first in its channel's line. Begins with
    /// [`Finding::new`] and no answer.
    pub(super) fn find_in_line(
        &mut self,
        place: &Place,
        finding: Finding,
        answer: Option<Answer>,
        now: Now,
    ) -> Found {
        let &Place { number, .. } = place;
        let Finding { message, .. } = finding;
        if self.durable(number).is_none() {
            return match self.known(number, message, false, now) {
                Known::Here(event) => Found::Here(event),
                Known::Not | Known::OnDisk => Found::Not(Refusal::NotFound),
            };
        }
        if !self.is_ready(number, now) {
            return Found::Not(Refusal::StoreBusy);
        }
        let failures = self.durable(number).map_or(0, |it| it.failures);
        let stage = finding.stage.filter(|_| finding.failures == failures);
        let result = match (stage, answer) {
            (Some(_), None) => return Found::Open(finding),
            (None, _) => match self.known(number, message, false, now) {
                Known::Here(event) => return Found::Here(event),
                Known::Not => return Found::Not(Refusal::NotFound),
                Known::OnDisk => Ok(Looked::GoOn(Looking::Latest)),
            },
            (Some(stage), Some(answer)) => self.looked(number, message, stage, &answer, now),
        };
        match result {
            Ok(Looked::Here(event, expires)) => {
                self.with_messages_new(number, |messages| messages.learn(&event, expires));
                Found::Here(event)
            }
            Ok(Looked::GoOn(stage)) => match self.look_for(number, message, stage) {
                Some(ask) => {
                    self.ask_in_line(place, ask);
                    Found::Open(Finding { stage: Some(stage), failures, ..finding })
                }
                None => Found::Not(Refusal::StoreBusy),
            },
            Err(refusal) => Found::Not(refusal),
        }
    }

    /// What the store is to be asked for a message.
    pub(super) fn look_for(&self, number: u32, message: MessageRef, stage: Looking) -> Option<Ask> {
        let channel = &self.channels[number].channel;
        Some(match stage {
            Looking::Latest => {
                let prefix = self.prefix(channel)?;
                exactly(Shelf::Versions, shelved::latest_key(&prefix, message.id))
            }
            Looking::Created => {
                let stream = self.keeping.rules.stream_key(channel);
                let (from, to) = (message.serial, message.serial);
                let bounds = PageAsk { records_max: 1, bytes_max: 1, ..PageAsk::default() };
                Ask::Page { stream, page: PageAsk { from, to, ..bounds } }
            }
        })
    }

    /// What the store said of a message.
    pub(super) fn looked(
        &self,
        number: u32,
        message: MessageRef,
        stage: Looking,
        answer: &Answer,
        now: Now,
    ) -> Result<Looked, Refusal> {
        let channel = &self.channels[number].channel;
        let stream = self.stream(number, now).ok_or(Refusal::NotKept)?;
        let (event, expires) = match (stage, answer) {
            (Looking::Latest, answer) => {
                let prefix = self.prefix(channel).ok_or(Refusal::StoreBusy)?;
                let Some(stored) = found(answer, &shelved::latest_key(&prefix, message.id))? else {
                    return Ok(Looked::GoOn(Looking::Created));
                };
                shelved::decode_placed(stored, channel).ok_or(Refusal::StoreUnreadable)?
            }
            (Looking::Created, Answer::Page(page)) => {
                let record = page.records.first().ok_or(Refusal::NotFound)?;
                let event = self.decode(number, page).ok_or(Refusal::StoreUnreadable)?;
                let event = event.into_iter().next().ok_or(Refusal::NotFound)?;
                if !matches!(event.happening, Happening::Message { .. }) {
                    return Err(Refusal::NotFound);
                }
                (Arc::unwrap_or_clone(event), record.expires)
            }
            (Looking::Created, answer) => return Err(refused(answer)),
        };
        // Of an earlier life, or of a time that is not kept any more and was not yet cleaned away.
        let is_gone = event.epoch != Some(stream.epoch) || event.serial < stream.oldest;
        if is_gone || message_of(&event) != Some(message) {
            return Err(Refusal::NotFound);
        }
        Ok(Looked::Here(Arc::new(event), expires))
    }

    /// Gives a message another version, or sends it on its way.
    pub(super) fn mutate(
        &mut self,
        asker: Asker,
        mut mutate: Mutate,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        mutate.push = mutate.push.filter(|_| self.keeping.has_pushes);
        let origin = Origin::of(asker, false);
        let refuse = |refusal| Reply::Refused(refusal);
        let Some(number) = self.find(&mutate.channel) else {
            return asker.answer(refuse(self.without_message(&mutate.channel)), out);
        };
        if self.window(number).is_none() {
            return asker.answer(refuse(Refusal::NotKept), out);
        }
        if let Some(key) = &mutate.key {
            if self.repeated(number, key, Some(asker), out) {
                return;
            }
            if let Some(refusal) = self.keys_full(now) {
                return asker.answer(refuse(refusal), out);
            }
        }
        let is_durable = self.durable(number).is_some();
        let bytes = weight(&mutate);
        if is_durable && (!self.may_append(bytes) || !self.is_ready(number, now)) {
            return asker.answer(refuse(Refusal::StoreBusy), out);
        }
        let clock = self.clock(now);
        self.with_window(number, |window| window.expire(clock));
        let pushes = !is_durable && mutate.push.is_some();
        let waits = pushes || self.has_line(number);
        let version = match self.known(number, mutate.message, false, now) {
            Known::Not => return asker.answer(refuse(Refusal::NotFound), out),
            Known::Here(version) if !waits => version,
            Known::Here(_) | Known::OnDisk => {
                if !self.may_line_up(number, bytes) {
                    return asker.answer(refuse(Refusal::StoreBusy), out);
                }
                // What is in the line has an id before this one.
                let id = self.next_id_of(number, now);
                self.remember_lined(number, mutate.key.as_deref(), id, now);
                let finding = Finding::new(mutate.message);
                let op = Mutating { mutate, id, origin, others: Vec::new(), finding, write: None };
                let op = Op::Mutate(Box::new(op));
                return self.line_up(number, op, bytes, None, now, render, out);
            }
        };
        let id = self.next_id_of(number, now);
        self.give_version(number, &version, mutate, id, (origin, Vec::new()), now, render, out);
        self.settle(number, now);
        self.bound_history(now);
    }

    /// Why there is no message in a channel that is not here.
    fn without_message(&self, channel: &Channel) -> Refusal {
        match self.keeping.rules.of(channel) {
            Some(_) => Refusal::NotFound,
            None => Refusal::NotKept,
        }
    }

    /// Goes on with a version that is the first in line.
    pub(super) fn carry_mutation(
        &mut self,
        place: &Place,
        mut it: Box<Mutating>,
        answer: Option<Answer>,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) -> Option<Op> {
        let mut answer = answer;
        let mut found = None;
        if let Some(write) = it.write.take() {
            match self.written(place, write, answer.take()) {
                Written::Open(write) => {
                    it.write = Some(write);
                    return Some(Op::Mutate(it));
                }
                Written::Done => {}
                Written::Not(fault) => found = Some(Found::Not(refusal_of(&fault))),
            }
        }
        let finding = it.finding.clone();
        match found.unwrap_or_else(|| self.find_in_line(place, finding, answer, now)) {
            Found::Open(finding) => {
                it.finding = finding;
                return Some(Op::Mutate(it));
            }
            Found::Here(version) => {
                // Whatever is wrong with it is said before anyone is notified of it.
                let is_right = || mutated(&version, &it.mutate, Default::default(), now).is_ok();
                if self.durable(place.number).is_none()
                    && it.mutate.push.is_some()
                    && is_right()
                    && let Some(push) = it.mutate.push.take()
                {
                    let changes = vec![self.mark(it.id, now), queue_push(push)];
                    it.write = Some(Write::Asked(Check::of_mark(&changes)));
                    self.ask_in_line(place, Ask::Change { changes });
                    return Some(Op::Mutate(it));
                }
                let Mutating { mutate, id, origin, others, .. } = *it;
                let (number, origin) = (place.number, (origin, others));
                self.give_version(number, &version, mutate, id, origin, now, render, out);
            }
            Found::Not(refusal) => {
                if let Some(key) = &it.mutate.key {
                    self.give_up_key(place.number, &key.name, it.id);
                }
                self.conclude_publish(it.origin, it.others, Err(refusal), now, out);
            }
        }
        None
    }

    /// Gives a message its next version: keeps it in memory and delivers it, or sends it on its way to disk.
    #[expect(clippy::too_many_arguments, reason = "one version, what it is of, and the world")]
    fn give_version(
        &mut self,
        number: u32,
        before: &Arc<Event>,
        mutate: Mutate,
        id: EventId,
        (origin, others): (Origin, Vec<Asker>),
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let serial = Serial(self.channels[number].serial + 1);
        let event = match mutated(before, &mutate, (id, serial), now) {
            Ok(event) => event,
            Err(refusal) => {
                if let Some(key) = &mutate.key {
                    self.give_up_key(number, &key.name, id);
                }
                return self.conclude_publish(origin, others, Err(refusal), now, out);
            }
        };
        self.channels[number].serial = serial.0;
        let Mutate { key, exclude, report, push, .. } = mutate;
        let mode = self.window(number).map_or(Mode::None, |it| it.rule.mode);
        let published = self.published(number, id, Spot { mode, epoch: event.epoch, serial });
        if let Some(key) = &key {
            self.remember_key(number, key, published, mode != Mode::Durable, now);
        }
        let clock = self.clock(now);
        let expires = self.window(number).map_or(store::NEVER, |window| window.expiry(clock));
        if mode == Mode::Durable {
            let mut changes = self.version_changes(before, &event, expires);
            if let Some(about) = report {
                changes.extend(self.shelve_report(&event, &about, render));
            }
            changes.extend(push.map(queue_push));
            self.will_clean(number, message_of(&event));
            let ordered = Arc::new(event.clone());
            self.with_messages_new(number, |messages| {
                messages.learn(before, expires);
                messages.order(&ordered, expires);
            });
            let origin = (origin, others);
            return self.append(number, event, exclude, None, key, changes, origin, now);
        }
        if let Some(about) = report {
            self.report_event(&event, Some(&about), render);
        }
        let event = Arc::new(event);
        self.counts.kept_memory += 1;
        self.with_messages_new(number, |messages| {
            messages.learn(before, expires);
            messages.tell(&event, expires);
        });
        self.with_window(number, |window| window.push(event.clone(), expires, usize::MAX));
        self.deliver_if_heard(number, &event, exclude, render, out);
        self.conclude_publish(origin, others, Ok(published), now, out);
    }

    /// What is written with a version of a message: it under its own name, and as what its message is now; with the
    /// second one the first, too.
    fn version_changes(
        &self,
        before: &Event,
        event: &Event,
        expires: Clock,
    ) -> Vec<(Shelf, Change)> {
        let message = message_of(event).zip(self.prefix(&event.channel));
        let Some((message, prefix)) = message else { return Vec::new() };
        let put = |key, value| (Shelf::Versions, Change::Put { key, value, expires });
        let mut changes = Vec::with_capacity(4);
        let first = shelved::version_key(&prefix, message.id, message.id);
        if matches!(before.happening, Happening::Message { .. }) {
            changes.push(put(first, shelved::encode_placed(before, expires)));
        } else {
            let key = shelved::version_key(&prefix, message.id, before.id);
            let going = Going { shelf: Shelf::Versions, key, is_latest: false };
            changes.push(goes_with(&prefix, before, &going, expires));
        }
        let key = shelved::version_key(&prefix, message.id, event.id);
        let stored = shelved::encode_placed(event, expires);
        changes.push(put(key.clone(), stored.clone()));
        changes.push(put(shelved::latest_key(&prefix, message.id), stored));
        let going = Going { shelf: Shelf::Versions, key, is_latest: true };
        changes.push(goes_with(&prefix, event, &going, expires));
        changes
    }

    /// Reads a message as it is now for who asks.
    pub(super) fn read_latest(
        &mut self,
        asker: Asker,
        channel: &Channel,
        message: MessageRef,
        now: Now,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let stage = Reading::Message(Looking::Latest);
        self.read_message(channel, MessageRead { asker, message, query: None, stage }, now, out);
    }

    /// Reads a message's versions for who asks.
    pub(super) fn read_versions(
        &mut self,
        asker: Asker,
        channel: &Channel,
        query: VersionsQuery,
        now: Now,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let (message, stage) = (query.message, Reading::Message(Looking::Latest));
        let read = MessageRead { asker, message, query: Some(query), stage };
        self.read_message(channel, read, now, out);
    }

    fn read_message(
        &mut self,
        channel: &Channel,
        read: MessageRead,
        now: Now,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let MessageRead { asker, message, .. } = read;
        let Some(number) = self.find(channel) else {
            return asker.answer(Reply::Refused(self.without_message(channel)), out);
        };
        if self.window(number).is_none() {
            return asker.answer(Reply::Refused(Refusal::NotKept), out);
        }
        match self.known(number, message, true, now) {
            Known::Here(event) => self.message_found(number, read, event, out),
            Known::Not => asker.answer(Reply::Refused(Refusal::NotFound), out),
            Known::OnDisk => self.read_on_disk(number, read, out),
        }
    }

    /// The message is there: it is told, or its versions are.
    fn message_found(
        &mut self,
        number: u32,
        read: MessageRead,
        event: Arc<Event>,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let MessageRead { asker, message, query, .. } = read;
        let is_first = matches!(event.happening, Happening::Message { .. });
        let Some(query) = query else {
            return asker
                .answer(Reply::Versions(Versions { events: vec![event], has_more: false }), out);
        };
        let messages = self.channels[number].rare.as_ref().and_then(|it| it.messages.as_ref());
        let versions = messages.and_then(|it| it.versions(message)).filter(|it| !it.is_empty());
        match versions {
            Some(versions) if !is_first => {
                asker.answer(Reply::Versions(portion(versions, &query)), out);
            }
            _ if is_first => {
                let all = VecDeque::from([event]);
                asker.answer(Reply::Versions(portion(&all, &query)), out);
            }
            _ => {
                let stage = Reading::Versions;
                let read = MessageRead { asker, message, query: Some(query), stage };
                self.read_on_disk(number, read, out);
            }
        }
    }

    fn read_on_disk(&mut self, number: u32, read: MessageRead, out: &mut Vec<(ShardId, Down)>) {
        let ask = match (&read.stage, &read.query) {
            (Reading::Message(stage), _) => self.look_for(number, read.message, *stage),
            (Reading::Versions, query) => {
                let prefix = self.may_read(&self.channels[number].channel);
                query.as_ref().zip(prefix).map(|(query, prefix)| {
                    let id = read.message.id;
                    let after = query.after.map(|it| shelved::version_key(&prefix, id, it));
                    let (after, before) = match query.is_newest_first {
                        true => (None, after),
                        false => (after, None),
                    };
                    Ask::Read {
                        shelf: Shelf::Versions,
                        prefix: shelved::versions_of(&prefix, id),
                        after,
                        before,
                        is_last_first: query.is_newest_first,
                        values_max: query.versions_max,
                        bytes_max: query.bytes_max,
                    }
                })
            }
        };
        let (Some(ask), Some(durable)) = (ask, self.durable(number)) else {
            return read.asker.answer(Reply::Refused(Refusal::StoreBusy), out);
        };
        durable.reads_open += 1;
        self.ask_store(Pending::Message(number, Box::new(read)), ask);
    }

    /// What the store said to a read.
    pub(super) fn message_read(
        &mut self,
        number: u32,
        mut read: MessageRead,
        answer: Answer,
        now: Now,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let asker = read.asker;
        let Reading::Message(stage) = read.stage else {
            return match (self.versions_told(number, &answer, now), &mut read.query) {
                // All of these are gone and not cleaned away yet.
                (Ok((told, last)), Some(query)) if told.events.is_empty() && told.has_more => {
                    query.after = last;
                    self.read_on_disk(number, read, out);
                }
                (Ok((told, _)), _) => asker.answer(Reply::Versions(told), out),
                (Err(refusal), _) => asker.answer(Reply::Refused(refusal), out),
            };
        };
        match self.looked(number, read.message, stage, &answer, now) {
            Ok(Looked::Here(event, _)) => self.message_found(number, read, event, out),
            Ok(Looked::GoOn(stage)) => {
                read.stage = Reading::Message(stage);
                self.read_on_disk(number, read, out);
            }
            Err(refusal) => asker.answer(Reply::Refused(refusal), out),
        }
    }

    /// The versions that were read, without those that are not kept any more; and the last that was read.
    fn versions_told(
        &self,
        number: u32,
        answer: &Answer,
        now: Now,
    ) -> Result<(Versions, Option<EventId>), Refusal> {
        let Answer::Values { values, has_more } = answer else { return Err(refused(answer)) };
        let stream = self.stream(number, now).ok_or(Refusal::NotKept)?;
        let channel = &self.channels[number].channel;
        let versions = values.iter().map(|(_, stored)| shelved::decode_placed(stored, channel));
        let versions = versions.collect::<Option<Vec<_>>>().ok_or(Refusal::StoreUnreadable)?;
        let last = versions.last().map(|it| it.0.id);
        let is_kept = |it: &Event| {
            let is_first = matches!(it.happening, Happening::Message { .. });
            it.epoch == Some(stream.epoch) && (is_first || it.serial >= stream.oldest)
        };
        let events = versions.into_iter().map(|(it, _)| it).filter(is_kept).map(Arc::new).collect();
        Ok((Versions { events, has_more: *has_more }, last))
    }
}

/// The change that says what is to be removed from the store when an event's place in the history is.
pub(super) fn goes_with(
    prefix: &[u8],
    event: &Event,
    going: &Going,
    expires: Clock,
) -> (Shelf, Change) {
    let key = shelved::place_key(prefix, event.epoch.unwrap_or_default(), event.serial);
    (Shelf::Versions, Change::Put { key, value: going.encode(), expires })
}

/// What the store's answer says of a message.
#[derive(Debug)]
pub(super) enum Looked {
    /// It, and until when it is kept.
    Here(Arc<Event>, Clock),
    /// It is to be looked for elsewhere.
    GoOn(Looking),
}

/// Why there is no answer to a read.
fn refused(answer: &Answer) -> Refusal {
    match answer {
        Answer::Fault(Fault::Failed(_)) => Refusal::StoreUnreadable,
        Answer::Fault(fault) => refusal_of(fault),
        _ => Refusal::StoreBusy,
    }
}

/// The part of a message's versions that is asked for.
fn portion(versions: &VecDeque<Arc<Event>>, query: &VersionsQuery) -> Versions {
    let mut all: Vec<_> = versions.iter().collect();
    if query.is_newest_first {
        all.reverse();
    }
    let is_behind = |it: &&Arc<Event>| match query.after {
        None => true,
        Some(after) if query.is_newest_first => it.id < after,
        Some(after) => it.id > after,
    };
    let mut told = Versions::default();
    let mut bytes = 0;
    for version in all.into_iter().filter(is_behind) {
        bytes += crate::broker::history::weight(version);
        let is_full = told.events.len() as u64 >= u64::from(query.versions_max)
            || bytes > query.bytes_max && !told.events.is_empty();
        if is_full {
            told.has_more = true;
            break;
        }
        told.events.push(version.clone());
    }
    told
}

#[cfg(test)]
#[path = "versions_tests.rs"]
mod tests;
