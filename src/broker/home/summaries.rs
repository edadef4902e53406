//! What is said about messages, all together: kept up with each annotation, told, and read where it is not in memory.
//!
//! A summary that changes is told at once if none was told for a while, else when that while is over, as it is then: a
//! storm of annotations makes few summaries, and the last of them is true. Where nobody listens nothing is told.

use std::sync::Arc;

use bytes::Bytes;

use super::annotations::READ_BYTES_MAX;
use super::asking::Pending;
use super::durable::refusal_of;
use super::said::{self, Applied, Asking, SUMMARIZED_MAX, Said, Stage};
use super::{Asker, EXPIRE_MAX, Home};
use crate::base::event_id::EventId;
use crate::base::ids::{Epoch, ShardId};
use crate::base::name::{Channel, Name};
use crate::base::time::{Millis, Nanos, Now};
use crate::broker::versioned::MessageRef;
use crate::broker::{Down, Event, Happening, Refusal, Render, Reply};
use crate::store::{Answer, Ask, Change, Fault, Shelf};

/// Between two summaries of a message and a kind that are told, at least.
pub const SUMMARY_PERIOD: Millis = Millis(20);
/// Those who ask for a channel's summaries while these are read, at most; a further one is refused.
const ASKERS_MAX: usize = 4096;
/// Values of a message that are read first: most have no more. Low in tests, so that the model reads on.
const FIRST_VALUES: u32 = if cfg!(test) { 3 } else { 128 };
/// Values that are read with each further read.
const MORE_VALUES: u32 = if cfg!(test) { 4 } else { 2_048 };
/// How soon a summary that could not be read, and is to be told, is tried again.
const RETRY: Millis = Millis(1_000);

/// A summary that is to be told: when, in which channel, of which message and kind.
pub(super) type Due = (Nanos, u32, EventId, Name);

/// A read of summaries.
#[derive(Debug)]
pub(super) enum SummariesRead {
    /// Of the newest messages that were annotated, in this life of the channel.
    Marks(Epoch),
    /// Of what is said about one, as its stage says it was asked; its first read looks for what was saved.
    Message { message: EventId, read: u64, is_first: bool },
}

impl Home {
    pub(super) fn said(&self, number: u32) -> Option<&Said> {
        self.channels[number].rare.as_ref()?.said.as_deref()
    }

    /// Changes what is said in a channel that keeps history, and keeps the count of what all of that takes.
    pub(super) fn with_said<R>(
        &mut self,
        number: u32,
        change: impl FnOnce(&mut Said) -> R,
    ) -> Option<R> {
        let rare = self.channels[number].rare.as_mut()?;
        rare.history.as_ref()?;
        let is_all = rare.durable.is_none();
        let said = rare.said.get_or_insert_with(|| Box::new(Said::new(is_all)));
        let before = said.bytes();
        let result = change(said);
        self.history_bytes = self.history_bytes + said.bytes() - before;
        Some(result)
    }

    /// An annotation has its place, and was told: so is what it makes of the summary.
    pub(super) fn annotated(
        &mut self,
        number: u32,
        event: &Arc<Event>,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let Happening::Annotated(annotated) = &event.happening else { return };
        let is_asked = self.said(number).is_some_and(|said| !said.asking.askers.is_empty());
        // Who asks may hear it already, and be told what was read before this.
        let is_heard = is_asked || self.is_heard(number);
        let (message, kind) = (annotated.annotation.message, &annotated.annotation.kind);
        match self.with_said(number, |said| said.apply(event, annotated)) {
            Some(Applied::Changed) if is_heard => {
                self.tell_summary(number, message.id, kind, now, render, out);
            }
            Some(Applied::Unknown) if is_heard => {
                self.read_summary(number, message, true);
            }
            Some(Applied::Unknown) => {
                self.with_said(number, |said| said.is_complete = false);
            }
            _ => {}
        }
    }

    /// Tells a summary that is another now, at once or when it is time.
    fn tell_summary(
        &mut self,
        number: u32,
        message: EventId,
        kind: &Name,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let told = self.with_said(number, |said| {
            let bytes_max = said.summary_bytes_max;
            said.with(message, |about| {
                let it = about.kinds.get_mut(kind)?;
                let free_at = it.told.map_or(now.steady, |at| at + SUMMARY_PERIOD);
                if it.due.is_none() && free_at > now.steady {
                    it.due = Some(free_at);
                    return Some(Err(free_at));
                }
                if it.due.is_some_and(|due| due > now.steady) {
                    return None;
                }
                (it.told, it.due) = (Some(now.steady), None);
                Some(Ok(about.summarized(kind, bytes_max)?))
            })
        });
        match told.flatten().flatten() {
            Some(Ok(summarized)) => {
                let held = &self.channels[number];
                let event = held.happened(Happening::Summarized(summarized), now);
                if self.is_heard(number) {
                    self.deliver(number, event, None, render, out);
                }
            }
            Some(Err(due)) => {
                self.telling.insert((due, number, message, kind.clone()));
            }
            None => {}
        }
    }

    /// When a summary is to be told.
    pub(super) fn telling_due(&self) -> Option<Nanos> {
        self.telling.first().map(|it| it.0)
    }

    /// Tells the summaries whose time it is; [`EXPIRE_MAX`] of them at most.
    pub(super) fn tell_summaries(
        &mut self,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        for _ in 0..EXPIRE_MAX {
            if self.telling.first().is_none_or(|it| it.0 > now.steady) {
                return;
            }
            let Some((_, number, message, kind)) = self.telling.pop_first() else { return };
            // A channel that was forgotten may have left its number to another, which has other messages.
            if !self.channels.is_taken(number) {
                continue;
            }
            let Some(about) = self.said(number).and_then(|it| it.of(message)) else { continue };
            match &about.stage {
                Stage::Known => {
                    let is_due = about.kinds.get(&kind).is_some_and(|it| it.due.is_some());
                    if is_due {
                        self.tell_summary(number, message, &kind, now, render, out);
                    }
                }
                Stage::Reading { read: None, .. } => self.ask_for_summary(number, message),
                Stage::Reading { .. } => {}
            }
        }
    }

    /// Begins to read what is said about a message, to tell it then if it is another now.
    fn read_summary(&mut self, number: u32, message: MessageRef, is_changed: bool) {
        let stage = Stage::Reading { newest: EventId(0), is_changed, read: None };
        self.with_said(number, |said| said.insert(message, stage));
        self.ask_for_summary(number, message.id);
    }

    /// Asks the store what is said about a message, from the beginning, or from what was saved.
    fn ask_for_summary(&mut self, number: u32, message: EventId) {
        let ask = self.tag_next;
        let is_asked = self.with_said(number, |said| {
            said.with(message, |about| match &mut about.stage {
                Stage::Reading { read, .. } if read.is_none() => {
                    *read = Some(ask);
                    true
                }
                _ => false,
            })
        });
        if is_asked.flatten() == Some(true) {
            self.read_on_summary(number, message, ask, None, FIRST_VALUES);
        }
    }

    fn read_on_summary(
        &mut self,
        number: u32,
        message: EventId,
        read: u64,
        after: Option<EventId>,
        values_max: u32,
    ) {
        let Some(prefix) = self.about_key(number, message) else { return };
        let ask = Ask::Read {
            shelf: Shelf::Annotations,
            after: after.map(|it| said::key_of(&prefix, it)),
            prefix,
            before: None,
            is_last_first: false,
            values_max,
            bytes_max: READ_BYTES_MAX,
        };
        let what = SummariesRead::Message { message, read, is_first: after.is_none() };
        self.ask_of(number, |number| Pending::Summaries(number, what), ask);
    }

    /// The store has read something of what is said in a channel.
    pub(super) fn summaries_read(
        &mut self,
        number: u32,
        what: SummariesRead,
        answer: Answer,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        match what {
            SummariesRead::Marks(epoch) => self.marks_read(number, epoch, answer, out),
            SummariesRead::Message { message, read, is_first } => {
                let about = self.said(number).and_then(|it| it.of(message));
                let is_it = about.is_some_and(|about| {
                    matches!(&about.stage, Stage::Reading { read: asked, .. } if *asked == Some(read))
                });
                // What was read before it was forgotten may not be so.
                if is_it {
                    self.summary_read(number, message, read, is_first, answer, now, render, out);
                }
            }
        }
        self.read_next_summary(number, out);
    }

    #[expect(clippy::too_many_arguments, reason = "one answer, taken apart, and the world")]
    fn summary_read(
        &mut self,
        number: u32,
        message: EventId,
        read: u64,
        is_first: bool,
        answer: Answer,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let (values, has_more) = match answer {
            Answer::Values { values, has_more } => (values, has_more),
            answer => {
                return self.give_up_summary(number, message, refusal_of_read(&answer), now, out);
            }
        };
        let Some(prefix) = self.about_key(number, message) else { return };
        let saved =
            values.first().filter(|(key, _)| is_first && *key == said::key_of(&prefix, EventId(0)));
        if let Some((_, saved)) = saved {
            let saved = saved.clone();
            // What cannot be read counts again from the annotations that are kept.
            self.with_said(number, |said| said.with(message, |it| it.restore(saved)));
        }
        let Some(events) = self.decode_annotations(number, message, &values) else {
            return self.give_up_summary(number, message, Refusal::StoreUnreadable, now, out);
        };
        let newest_read = events.last().map(|it| it.id);
        let state = self.with_said(number, |said| {
            said.read(message, &events);
            said.with(message, |about| {
                let Stage::Reading { newest, .. } = &about.stage else { return None };
                Some((about.last, *newest))
            })
        });
        let Some((last, newest)) = state.flatten().flatten() else { return };
        if has_more || newest > last {
            // Behind what was saved, or behind what was read: whichever is later.
            let after = Some(last.max(newest_read.unwrap_or_default()));
            return self.read_on_summary(number, message, read, after, MORE_VALUES);
        }
        let kinds = self.with_said(number, |said| {
            said.with(message, |about| match std::mem::replace(&mut about.stage, Stage::Known) {
                Stage::Reading { is_changed: true, .. } => about.kinds.keys().cloned().collect(),
                _ => Vec::new(),
            })
        });
        let kinds = kinds.flatten().unwrap_or_default();
        if last == EventId(0) {
            // Nothing is kept of it any more.
            self.with_said(number, |said| {
                said.remove(message);
                said.asking.messages.iter_mut().for_each(|it| it.retain(|it| it.id != message));
            });
            return;
        }
        // All of them: what is forgotten of a message and read again may have kinds that its listeners do not know of.
        for kind in kinds {
            self.tell_summary(number, message, &kind, now, render, out);
        }
        self.bound_history(now);
    }

    /// A summary could not be read. If it is to be told it is tried again.
    fn give_up_summary(
        &mut self,
        number: u32,
        message: EventId,
        refusal: Refusal,
        now: Now,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let is_changed = self.with_said(number, |said| {
            said.with(message, |about| match &mut about.stage {
                Stage::Reading { is_changed, read, .. } => {
                    *read = None;
                    *is_changed
                }
                Stage::Known => false,
            })
        });
        if is_changed.flatten() == Some(true) {
            // Whichever kind it is: the whole message is read.
            self.telling.insert((now.steady + RETRY, number, message, Name::from("")));
        } else {
            self.with_said(number, |said| said.remove(message));
        }
        let askers = self.with_said(number, |said| std::mem::take(&mut said.asking).askers);
        for asker in askers.unwrap_or_default() {
            asker.answer(Reply::Refused(refusal), out);
        }
    }

    /// What was on its way may be on disk or not, and what is there is told now: what is known of it is read again.
    pub(super) fn distrust_said(&mut self, number: u32) {
        if self.said(number).is_none() {
            return;
        }
        let again = self.with_said(number, Said::distrust).unwrap_or_default();
        for message in again {
            self.ask_for_summary(number, message);
        }
    }

    /// Tells who asks the summaries of a channel's newest messages.
    pub(super) fn read_summaries(
        &mut self,
        asker: Asker,
        channel: &Channel,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let number = self.find(channel).filter(|it| self.window(*it).is_some());
        let Some(number) = number else {
            return asker.answer(Reply::Summaries(Vec::new()), out);
        };
        if self.durable(number).is_none() {
            let oldest = self.oldest(number);
            let summaries = match self.said(number) {
                Some(_) => self.with_said(number, |said| said.summaries(oldest)),
                None => None,
            };
            return asker.answer(Reply::Summaries(summaries.unwrap_or_default()), out);
        }
        let askers = self.said(number).map_or(0, |said| said.asking.askers.len());
        if askers >= ASKERS_MAX {
            return asker.answer(Reply::Refused(Refusal::StoreBusy), out);
        }
        self.with_said(number, |said| said.asking.askers.push(asker));
        if askers == 0 {
            self.begin_summaries(number, out);
        }
    }

    /// Begins to read for those who ask, or answers them.
    fn begin_summaries(&mut self, number: u32, out: &mut Vec<(ShardId, Down)>) {
        if self.said(number).is_some_and(|said| said.is_complete) {
            // Some may be being read.
            let messages = self.with_said(number, |said| said.newest()).unwrap_or_default();
            self.await_summaries(number, messages);
            return self.read_next_summary(number, out);
        }
        let channel = &self.channels[number].channel;
        let (Some(prefix), Some(window)) = (self.prefix(channel), self.window(number)) else {
            return self.answer_summaries(number, out);
        };
        let epoch = window.epoch;
        let ask = Ask::Read {
            shelf: Shelf::Annotations,
            prefix: said::marks_key(&prefix, epoch),
            after: None,
            before: None,
            is_last_first: true,
            values_max: SUMMARIZED_MAX as u32,
            bytes_max: READ_BYTES_MAX,
        };
        // Whatever is annotated from now on clears it again, unless it is known.
        self.with_said(number, |said| (said.is_complete, said.asking.is_asked) = (true, true));
        let pending = |number| Pending::Summaries(number, SummariesRead::Marks(epoch));
        self.ask_of(number, pending, ask);
    }

    fn marks_read(
        &mut self,
        number: u32,
        epoch: Epoch,
        answer: Answer,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        if self.window(number).is_none_or(|it| it.epoch != epoch) {
            // Another life of the channel has begun meanwhile.
            return self.begin_summaries(number, out);
        }
        let values = match answer {
            Answer::Values { values, .. } => values,
            answer => {
                let refusal = refusal_of_read(&answer);
                let askers = self.with_said(number, |said| {
                    said.is_complete = false;
                    std::mem::take(&mut said.asking).askers
                });
                for asker in askers.unwrap_or_default() {
                    asker.answer(Reply::Refused(refusal), out);
                }
                return;
            }
        };
        let prefix = self.prefix(&self.channels[number].channel).unwrap_or_default();
        let begin = said::marks_key(&prefix, epoch);
        let oldest = self.oldest(number);
        let marks = values
            .iter()
            .filter_map(|(key, mark)| said::decode_mark(said::id_of(&begin, key)?, mark));
        let (kept, gone): (Vec<_>, Vec<_>) = marks.partition(|(_, newest)| newest.0 >= oldest);
        self.forget_marks(number, &begin, gone.iter().map(|it| it.0.id));
        let messages: Vec<_> = kept.into_iter().map(|(message, _)| message).collect();
        self.await_summaries(number, messages);
    }

    /// These are to be known before who asks is answered.
    fn await_summaries(&mut self, number: u32, messages: Vec<MessageRef>) {
        let reads_left = said::reads_for(messages.len());
        self.with_said(number, |said| {
            let askers = std::mem::take(&mut said.asking.askers);
            let messages = Some(messages);
            said.asking = Asking { askers, is_asked: false, messages, reads_left };
        });
    }

    /// Removes what is kept of messages whose newest annotation is not.
    fn forget_marks(&mut self, number: u32, begin: &Bytes, gone: impl Iterator<Item = EventId>) {
        let mut changes = Vec::new();
        for id in gone {
            let saved = self.about_key(number, id).map(|it| said::key_of(&it, EventId(0)));
            let keys = [Some(said::key_of(begin, id)), saved];
            let removes = keys.into_iter().flatten().map(|key| Change::Remove { key });
            changes.extend(removes.map(|change| (Shelf::Annotations, change)));
        }
        if !changes.is_empty() {
            // Whether it comes about or not: what is left is found again.
            self.ask_of(number, Pending::Forgotten, Ask::Change { changes });
        }
    }

    /// Goes on reading for those who ask; answers them when all is known.
    fn read_next_summary(&mut self, number: u32, out: &mut Vec<(ShardId, Down)>) {
        let Some(said) = self.said(number) else { return };
        let Asking { askers, is_asked, messages, reads_left } = &said.asking;
        if askers.is_empty() || *is_asked {
            return;
        }
        // None: what was known of them was forgotten.
        let Some(messages) = messages else { return self.begin_summaries(number, out) };
        let unknown = messages
            .iter()
            .find(|it| said.of(it.id).is_none_or(|about| about.stage != Stage::Known));
        match unknown.copied() {
            // It is being read.
            Some(message) if said.of(message.id).is_some() => {}
            Some(message) if *reads_left > 0 => {
                self.with_said(number, |said| said.asking.reads_left -= 1);
                self.read_summary(number, message, false);
            }
            _ => self.answer_summaries(number, out),
        }
    }

    fn answer_summaries(&mut self, number: u32, out: &mut Vec<(ShardId, Down)>) {
        let oldest = self.oldest(number);
        let asking = self.with_said(number, |said| std::mem::take(&mut said.asking));
        let askers = asking.unwrap_or_default().askers;
        let summaries = self.with_said(number, |said| said.summaries(oldest)).unwrap_or_default();
        for asker in askers {
            asker.answer(Reply::Summaries(summaries.clone()), out);
        }
    }
}

fn refusal_of_read(answer: &Answer) -> Refusal {
    match answer {
        Answer::Fault(Fault::Failed(_)) => Refusal::StoreUnreadable,
        Answer::Fault(fault) => refusal_of(fault),
        _ => Refusal::StoreBusy,
    }
}
