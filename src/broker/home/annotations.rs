//! What is said about messages: made, taken back, and read one by one.
//!
//! An annotation has a place in its channel's history like everything published. Where that is on disk, its own record
//! goes there with it, so that it is found by its message; one whose message or target is in the channel's window needs no
//! read, so that many share a sync. What else there is to be known first is read in the channel's line.

use std::sync::Arc;

use bytes::Bytes;

use super::asking::Pending;
use super::durable::refusal_of;
use super::line::{Op, Place, found};
use super::said;
use super::state::Origin;
use super::versions::{Finding, Found, Known, Looked, Looking, goes_with};
use super::{Asker, Home};
use crate::base::event_id::EventId;
use crate::base::ids::{Epoch, Serial, ShardId};
use crate::base::name::Channel;
use crate::base::time::{Millis, Now, UnixMillis};
use crate::broker::shelved::{self, Going};
use crate::broker::versioned::{
    Annotate, Annotated, Annotating, Annotations, AnnotationsQuery, MessageRef,
};
use crate::broker::{
    Command, Down, Event, Happening, Mode, Published, Refusal, Render, Reply, Tags,
};
use crate::store::{Answer, Ask, Change, Clock, Fault, NEVER, Shelf};

/// Bytes of annotations that are read from disk at once, at most.
pub(super) const READ_BYTES_MAX: u64 = 1 << 20;
/// The places of a message's annotations that are in no saved summary are within so small a part of the history.
const UNSAVED_PART: u64 = 16;

/// Something to be said about a message or taken back, in its channel's line.
#[derive(Debug)]
pub(super) struct Saying {
    annotate: Annotate,
    asker: Asker,
    /// What it will be called: in the order of the line, as everything else has its id.
    id: EventId,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Its message is looked for.
    Finds(Finding),
    /// What is to be taken back is to be read ...
    New,
    /// ... and is being read.
    Reads,
}

/// What is to be done.
enum Decided {
    Do(Annotated),
    /// It was done before.
    Again(Published),
    Not(Refusal),
    /// Something has to be read first.
    Unknown,
}

/// A read for who asks what was said.
#[derive(Debug)]
pub(super) struct AnnotationsRead {
    asker: Asker,
    query: AnnotationsQuery,
    /// In this life of the channel.
    epoch: Epoch,
    /// Nothing is said: whether there is such a message is read.
    looking: Option<Looking>,
}

fn weight(annotate: &Annotate) -> usize {
    let said = match &annotate.what {
        Annotating::Say(it) => said::annotation_bytes(it),
        Annotating::TakeBack { .. } => 0,
    };
    said + annotate.report.as_ref().map_or(0, |it| it.0.len())
}

impl Home {
    /// Says something about a message, or takes it back.
    pub(super) fn annotate(
        &mut self,
        asker: Asker,
        annotate: Annotate,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let number = match self.find_kept(&annotate.channel) {
            Ok(number) => number,
            Err(refusal) => return asker.answer(Reply::Refused(refusal), out),
        };
        let bytes = weight(&annotate);
        let is_durable = self.durable(number).is_some();
        if is_durable && !(self.may_append(bytes) && self.is_ready(number, now)) {
            return asker.answer(Reply::Refused(Refusal::StoreBusy), out);
        }
        // What is in the line has a place before this.
        let waits = is_durable && self.has_line(number);
        match self.decide(number, &annotate.what, now) {
            Decided::Unknown => {}
            Decided::Do(_) if waits => {}
            decided => {
                let id = self.next_id_of(number, now);
                self.carry_out(number, decided, id, asker, annotate, now, render, out);
                self.settle(number, now);
                return self.bound_history(now);
            }
        }
        if !self.may_line_up(number, bytes) {
            return asker.answer(Reply::Refused(Refusal::StoreBusy), out);
        }
        let stage = match &annotate.what {
            Annotating::Say(annotation) => Stage::Finds(Finding::new(annotation.message)),
            Annotating::TakeBack { .. } => Stage::New,
        };
        let id = self.next_id_of(number, now);
        let saying = Box::new(Saying { annotate, asker, id, stage });
        self.line_up(number, Op::Annotate(saying), bytes, None, now, render, out);
    }

    /// The number of a channel that keeps history and may have messages.
    fn find_kept(&self, channel: &Channel) -> Result<u32, Refusal> {
        match self.find(channel) {
            Some(number) if self.window(number).is_some() => Ok(number),
            None if self.keeping.rules.of(channel).is_some() => Err(Refusal::NotFound),
            _ => Err(Refusal::NotKept),
        }
    }

    /// Goes on with an annotation that is the first in line.
    pub(super) fn carry_annotation(
        &mut self,
        place: &Place,
        mut it: Box<Saying>,
        answer: Option<Answer>,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) -> Option<Op> {
        let number = place.number;
        if !self.is_ready(number, now) {
            it.asker.answer(Reply::Refused(Refusal::StoreBusy), out);
            return None;
        }
        let decided = match (it.stage, answer) {
            (Stage::Finds(finding), answer) => {
                match self.find_in_line(place, finding, answer, now) {
                    Found::Open(finding) => {
                        it.stage = Stage::Finds(finding);
                        return Some(Op::Annotate(it));
                    }
                    Found::Here(_) => said_now(&it.annotate.what),
                    Found::Not(refusal) => Decided::Not(refusal),
                }
            }
            (Stage::New, _) => {
                match (self.decide(number, &it.annotate.what, now), &it.annotate.what) {
                    (Decided::Unknown, Annotating::TakeBack { message, id, .. }) => {
                        it.stage = Stage::New;
                        // Another that takes it back may be on its way.
                        if self.is_clear(number) {
                            let key = self.annotation_key(number, *message, *id)?;
                            self.ask_in_line(place, Ask::read(Shelf::Annotations, key, None, 2));
                            it.stage = Stage::Reads;
                        }
                        return Some(Op::Annotate(it));
                    }
                    (decided, _) => decided,
                }
            }
            (Stage::Reads, None) => {
                it.stage = Stage::Reads;
                return Some(Op::Annotate(it));
            }
            (Stage::Reads, Some(answer)) => self.decide_by(number, &it.annotate.what, &answer),
        };
        let Saying { annotate, asker, id, .. } = *it;
        self.carry_out(number, decided, id, asker, annotate, now, render, out);
        None
    }

    fn is_said_about(&self, number: u32, message: MessageRef) -> bool {
        let about = self.said(number).and_then(|it| it.of(message.id));
        about.is_some_and(|it| it.message == message)
    }

    /// What is to be done, by what is in memory.
    fn decide(&mut self, number: u32, what: &Annotating, now: Now) -> Decided {
        let is_durable = self.durable(number).is_some();
        match what {
            Annotating::Say(annotation) => {
                match self.known(number, annotation.message, true, now) {
                    Known::Here(_) => said_now(what),
                    Known::OnDisk => Decided::Unknown,
                    // What is said about it has pushed it out of memory: it is remembered by that.
                    Known::Not if !is_durable && self.is_said_about(number, annotation.message) => {
                        said_now(what)
                    }
                    Known::Not => Decided::Not(Refusal::NotFound),
                }
            }
            Annotating::TakeBack { message, id, .. } => {
                if !is_durable {
                    let said = self.said(number);
                    let oldest = said.map_or(0, |it| it.oldest());
                    let about = said.and_then(|it| it.of(message.id));
                    let found = about.and_then(|it| it.find(*id));
                    return match found.filter(|it| it.0.serial.0 >= oldest) {
                        Some((event, is_back)) => self.take_back(number, what, event, is_back),
                        None => Decided::Not(Refusal::NotFound),
                    };
                }
                let is_back_of = |event: &Event| match &event.happening {
                    Happening::Annotated(it) => it.takes_back == Some(*id),
                    _ => false,
                };
                let durable = self.durable(number);
                if durable.is_some_and(|it| it.in_flight().any(|it| is_back_of(it))) {
                    return Decided::Unknown;
                }
                let Some(window) = self.window(number) else { return Decided::Unknown };
                let mut later = window.events_from(*id);
                match later.next().filter(|event| event.id == *id) {
                    Some(event) => {
                        let is_back = later.any(|it| is_back_of(it));
                        self.take_back(number, what, event, is_back)
                    }
                    None => Decided::Unknown,
                }
            }
        }
    }

    /// The same, by what was read of what is to be taken back.
    fn decide_by(&mut self, number: u32, what: &Annotating, answer: &Answer) -> Decided {
        let Annotating::TakeBack { message, id, .. } = what else {
            return Decided::Not(Refusal::NotFound);
        };
        let Some(key) = self.annotation_key(number, *message, *id) else {
            return Decided::Not(Refusal::StoreBusy);
        };
        let stored = match found(answer, &key) {
            Ok(Some(stored)) => stored,
            Ok(None) => return Decided::Not(Refusal::NotFound),
            Err(refusal) => return Decided::Not(refusal),
        };
        let Some((event, _)) = shelved::decode_placed(stored, &self.channels[number].channel)
        else {
            return Decided::Not(Refusal::StoreUnreadable);
        };
        let back = said::taken_back_key(&key);
        let is_back = match answer {
            Answer::Values { values, .. } => values.iter().any(|(key, _)| *key == back),
            _ => false,
        };
        if event.serial.0 < self.oldest(number) {
            return Decided::Not(Refusal::NotFound);
        }
        self.take_back(number, what, &event, is_back)
    }

    /// Whether what was said may be taken back. `is_back`: it is already.
    fn take_back(&self, number: u32, what: &Annotating, event: &Event, is_back: bool) -> Decided {
        let (Annotating::TakeBack { message, only_of, .. }, Happening::Annotated(it)) =
            (what, &event.happening)
        else {
            return Decided::Not(Refusal::NotFound);
        };
        if it.takes_back.is_some() || it.annotation.message != *message {
            return Decided::Not(Refusal::NotFound);
        }
        if only_of.is_some() && *only_of != it.annotation.client_id {
            return Decided::Not(Refusal::NotOwner);
        }
        if is_back {
            let published = self.published_as(number, event);
            return Decided::Again(Published { is_repeated: true, ..published });
        }
        let annotation = it.annotation.clone();
        Decided::Do(Annotated { annotation, takes_back: Some(event.id) })
    }

    fn published_as(&self, number: u32, event: &Event) -> Published {
        let held = &self.channels[number];
        Published {
            mode: self.window(number).map_or(Mode::None, |it| it.rule.mode),
            id: event.id,
            epoch: event.epoch,
            subscription_count: u64::from(held.counted),
            user_count: held.user_count(),
            ..Published::unkept(event.serial)
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one annotation, what becomes of it, and the world"
    )]
    fn carry_out(
        &mut self,
        number: u32,
        decided: Decided,
        id: EventId,
        asker: Asker,
        annotate: Annotate,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let annotated = match decided {
            Decided::Do(annotated) => annotated,
            Decided::Again(published) => {
                self.counts.repeats += 1;
                return asker.answer(Reply::Published(published), out);
            }
            Decided::Not(refusal) => return asker.answer(Reply::Refused(refusal), out),
            Decided::Unknown => return asker.answer(Reply::Refused(Refusal::StoreBusy), out),
        };
        let Annotate { summary_bytes_max, report: about, .. } = annotate;
        self.with_said(number, |said| said.summary_bytes_max = summary_bytes_max);
        let is_durable = self.durable(number).is_some();
        let epoch = self.window(number).map(|it| it.epoch);
        let held = &mut self.channels[number];
        held.serial += 1;
        let event = Event {
            channel: held.channel.clone(),
            serial: Serial(held.serial),
            epoch,
            id,
            at: now.wall,
            arrived: now.steady,
            tags: Tags::default(),
            meta: None,
            guarded: false,
            happening: Happening::Annotated(Arc::new(annotated)),
        };
        if is_durable {
            let mut changes = self.shelve_annotation(number, &event, now);
            if let Some(about) = &about {
                changes.extend(self.shelve_report(&event, about, render));
            }
            let origin = Origin::of(asker, false);
            return self.append(
                number,
                event,
                None,
                None,
                None,
                changes,
                (origin, Vec::new()),
                now,
            );
        }
        let event = Arc::new(event);
        self.keep(number, event.clone(), true, None, now);
        if let Some(about) = &about {
            self.report_event(&event, Some(about), render);
        }
        self.deliver_if_heard(number, &event, None, render, out);
        self.annotated(number, &event, now, render, out);
        let published = self.published_as(number, &event);
        asker.answer(Reply::Published(published), out);
    }

    /// What the keys of a message's annotations begin with.
    pub(super) fn about_key(&self, number: u32, message: EventId) -> Option<Bytes> {
        let prefix = self.prefix(&self.channels[number].channel)?;
        let begin = said::annotations_key(&prefix, self.window(number)?.epoch);
        Some(said::key_of(&begin, message))
    }

    fn annotation_key(&self, number: u32, message: MessageRef, id: EventId) -> Option<Bytes> {
        Some(said::key_of(&self.about_key(number, message.id)?, id))
    }

    /// The changes that go to disk with an annotation.
    fn shelve_annotation(&mut self, number: u32, event: &Event, now: Now) -> Vec<(Shelf, Change)> {
        let Happening::Annotated(annotated) = &event.happening else { return Vec::new() };
        let message = annotated.annotation.message;
        let (Some(about), Some(prefix)) =
            (self.about_key(number, message.id), self.prefix(&event.channel))
        else {
            return Vec::new();
        };
        let Some(window) = self.window(number) else { return Vec::new() };
        let (epoch, expires) = (window.epoch, window.expiry(self.clock(now)));
        let mut changes = Vec::with_capacity(5);
        let mut put = |key: Bytes, value: Bytes, expires: Clock| {
            changes.push((Shelf::Annotations, Change::Put { key, value, expires }));
        };
        let key = said::key_of(&about, event.id);
        put(key.clone(), shelved::encode_placed(event, expires), expires);
        if let Some(target) = annotated.takes_back {
            let back = said::taken_back_key(&said::key_of(&about, target));
            put(back, Bytes::new(), expires);
        }
        let mark = said::key_of(&said::marks_key(&prefix, epoch), message.id);
        put(mark, said::encode_mark(message, event.serial), expires);
        // Those that are not saved are gone soon after one another, and the summaries with the last.
        let kept = event.serial.0.saturating_sub(self.oldest(number));
        let before = event.serial.0 - kept / UNSAVED_PART;
        let saved = self.with_said(number, |said| {
            said.with(message.id, |about| about.wants_saving(before).then(|| about.save()))
        });
        if let Some(saved) = saved.flatten().flatten() {
            let key = said::key_of(&about, EventId(0));
            let change = Change::Put { key, value: saved, expires: self.saved_until(number, now) };
            changes.push((Shelf::Annotations, change));
        }
        let going = Going { shelf: Shelf::Annotations, key, is_latest: false };
        changes.push(goes_with(&prefix, event, &going, expires));
        self.will_clean(number, None);
        changes
    }

    /// Until when summaries are kept that are saved now: half as long again as what comes now, so that they are there as
    /// long as the next, which may be saved when those before it are half as old.
    fn saved_until(&self, number: u32, now: Now) -> Clock {
        match self.window(number).map_or(Millis(0), |it| it.rule.age) {
            Millis(0) => NEVER,
            Millis(age) => UnixMillis(self.clock(now).0.saturating_add(age + age / 2)),
        }
    }

    /// The place with which begins what is kept of a channel's past.
    pub(super) fn oldest(&self, number: u32) -> u64 {
        let Some(rare) = self.channels[number].rare.as_ref() else { return 0 };
        match (&rare.durable, &rare.history) {
            (Some(durable), _) => durable.head.oldest.0,
            (None, Some(window)) => window.oldest(),
            (None, None) => 0,
        }
    }

    /// Reads what was said about a message.
    pub(super) fn read_annotations(
        &mut self,
        asker: Asker,
        channel: &Channel,
        query: AnnotationsQuery,
        now: Now,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let number = match self.find_kept(channel) {
            Ok(number) => number,
            Err(refusal) => return asker.answer(Reply::Refused(refusal), out),
        };
        let message = query.message;
        if self.durable(number).is_none() {
            let about = self.said(number).and_then(|it| it.of(message.id));
            let oldest = self.oldest(number);
            let from = query.from.unwrap_or_default();
            let reply = match about.filter(|it| it.message == message) {
                Some(about) => {
                    let events = about.events_from(from).filter(|it| it.serial.0 >= oldest);
                    Reply::Annotations(chosen(events.cloned(), &query, None))
                }
                None => match self.known(number, message, true, now) {
                    Known::Here(_) => Reply::Annotations(Annotations::default()),
                    _ => Reply::Refused(Refusal::NotFound),
                },
            };
            return asker.answer(reply, out);
        }
        let Some(epoch) = self.window(number).map(|it| it.epoch) else { return };
        let read = AnnotationsRead { asker, query, epoch, looking: None };
        self.read_more_annotations(number, read, out);
    }

    fn read_more_annotations(
        &mut self,
        number: u32,
        read: AnnotationsRead,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let Some(begin) = self.about_key(number, read.query.message.id) else {
            return read.asker.answer(Reply::Refused(Refusal::StoreBusy), out);
        };
        // Behind what is saved of the summaries; and behind the mark of the annotation before, if it has one.
        let before = EventId(read.query.from.unwrap_or_default().0.saturating_sub(1));
        let mut after = said::key_of(&begin, before);
        if before != EventId(0) {
            after = [&after[..], b"c"].concat().into();
        }
        // Each may be followed by a mark that it is taken back.
        let values_max = read.query.annotations_max.saturating_add(1).saturating_mul(2);
        let ask = Ask::Read {
            shelf: Shelf::Annotations,
            prefix: begin,
            after: Some(after),
            before: None,
            is_last_first: false,
            values_max,
            bytes_max: READ_BYTES_MAX,
        };
        self.ask_of(number, |number| Pending::Annotations(number, Box::new(read)), ask);
    }

    /// Asks the store something for a channel, which stays in memory until it has answered.
    pub(super) fn ask_of(&mut self, number: u32, pending: impl FnOnce(u32) -> Pending, ask: Ask) {
        if let Some(durable) = self.durable(number) {
            durable.reads_open += 1;
        }
        self.ask_store(pending(number), ask);
    }

    /// The store has read what was said about a message, or whether there is such a message.
    pub(super) fn annotations_read(
        &mut self,
        number: u32,
        read: AnnotationsRead,
        answer: Answer,
        now: Now,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let message = read.query.message;
        if self.window(number).is_none_or(|it| it.epoch != read.epoch) {
            return read.asker.answer(Reply::Refused(Refusal::NotFound), out);
        }
        if let Some(looking) = read.looking {
            let looked = self.looked(number, message, looking, &answer, now);
            return self.message_looked_for(number, read, looked, out);
        }
        let reply = match answer {
            Answer::Values { values, has_more } => {
                let events = self.decode_annotations(number, message.id, &values);
                let oldest = self.oldest(number);
                match events {
                    None => Reply::Refused(Refusal::StoreUnreadable),
                    Some(events) if events.first().is_some_and(|it| !is_about(it, message)) => {
                        Reply::Refused(Refusal::NotFound)
                    }
                    Some(events) if !events.is_empty() => {
                        // What did not fit comes behind the last.
                        let last = events.last().map(|it| EventId(it.id.0 + 1));
                        let events = events.into_iter().filter(|it| it.serial.0 >= oldest);
                        let events = events.map(Arc::new);
                        let rest = last.filter(|_| has_more);
                        Reply::Annotations(chosen(events, &read.query, rest))
                    }
                    Some(_) => match self.known(number, message, true, now) {
                        Known::Here(_) => Reply::Annotations(Annotations::default()),
                        Known::Not => Reply::Refused(Refusal::NotFound),
                        Known::OnDisk => {
                            let look = Ok(Looked::GoOn(Looking::Latest));
                            return self.message_looked_for(number, read, look, out);
                        }
                    },
                }
            }
            Answer::Fault(Fault::Failed(_)) => Reply::Refused(Refusal::StoreUnreadable),
            Answer::Fault(fault) => Reply::Refused(refusal_of(&fault)),
            _ => Reply::Refused(Refusal::StoreBusy),
        };
        read.asker.answer(reply, out);
    }

    /// Nothing is said about a message: whether there is one, or where that is to be looked for.
    fn message_looked_for(
        &mut self,
        number: u32,
        mut read: AnnotationsRead,
        looked: Result<Looked, Refusal>,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let reply = match looked {
            Ok(Looked::Here(..)) => Reply::Annotations(Annotations::default()),
            Ok(Looked::GoOn(looking)) => match self.look_for(number, read.query.message, looking) {
                Some(ask) => {
                    read.looking = Some(looking);
                    let pending = |number| Pending::Annotations(number, Box::new(read));
                    return self.ask_of(number, pending, ask);
                }
                None => Reply::Refused(Refusal::StoreBusy),
            },
            Err(refusal) => Reply::Refused(refusal),
        };
        read.asker.answer(reply, out);
    }

    /// The annotations among values with their keys. None: one cannot be read.
    pub(super) fn decode_annotations(
        &self,
        number: u32,
        message: EventId,
        values: &[(Bytes, Bytes)],
    ) -> Option<Vec<Event>> {
        let begin = self.about_key(number, message)?;
        let channel = &self.channels[number].channel;
        let own = values
            .iter()
            .filter(|(key, _)| said::id_of(&begin, key).is_some_and(|id| id != EventId(0)));
        let events = own.map(|(_, value)| shelved::decode_placed(value, channel).map(|it| it.0));
        events.collect()
    }

    /// Carries out an ask about what is said of messages.
    pub(super) fn ask_said(
        &mut self,
        asker: Asker,
        command: Command,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        match command {
            Command::Annotate(annotate) => self.annotate(asker, *annotate, now, render, out),
            Command::Annotations(channel, query) => {
                self.read_annotations(asker, &channel, *query, now, out);
            }
            Command::Summaries(channel) => self.read_summaries(asker, &channel, out),
            _ => asker.answer(Reply::Refused(Refusal::StoreBusy), out),
        }
    }
}

/// What is said, and takes nothing back.
fn said_now(what: &Annotating) -> Decided {
    match what {
        Annotating::Say(annotation) => {
            Decided::Do(Annotated { annotation: annotation.clone(), takes_back: None })
        }
        Annotating::TakeBack { .. } => Decided::Not(Refusal::NotFound),
    }
}

fn is_about(event: &Event, message: MessageRef) -> bool {
    matches!(&event.happening, Happening::Annotated(it) if it.annotation.message == message)
}

/// Those that are asked for; `rest`: where those begin that were not read.
fn chosen(
    events: impl Iterator<Item = Arc<Event>>,
    query: &AnnotationsQuery,
    rest: Option<EventId>,
) -> Annotations {
    let of_kind = events.filter(|event| match (&query.kind, &event.happening) {
        (Some(kind), Happening::Annotated(it)) => it.annotation.kind == *kind,
        _ => true,
    });
    let mut found = Annotations { next: rest, ..Annotations::default() };
    for event in of_kind {
        if found.events.len() as u64 >= u64::from(query.annotations_max) {
            found.next = Some(event.id);
            break;
        }
        found.events.push(event);
    }
    found
}

#[cfg(test)]
#[path = "annotations_tests.rs"]
mod tests;
