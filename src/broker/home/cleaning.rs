//! What is written beside a channel's history on disk goes when its place in the history does.
//!
//! By age it goes by itself; by number, by a purge, by a reset it is looked for when the history moves on: every version
//! and annotation has an entry under its place that says what goes with it. A message goes with its last version. What is
//! not cleaned away yet is not shown: whoever reads compares serials and epochs.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::Home;
use super::asking::Pending;
use crate::base::event_id::EventId;
use crate::base::ids::Serial;
use crate::broker::shelved::{self, Going};
use crate::broker::versioned::MessageRef;
use crate::store::{Answer, Ask, Change, Shelf};

/// Places that are cleaned with one ask; few in tests, so that a second one is needed.
const PLACES_PER_ASK: u32 = if cfg!(test) { 2 } else { 256 };

/// A channel that is being cleaned.
#[derive(Debug, Default)]
pub(super) struct Cleaning {
    step: Step,
    /// The history moved on meanwhile: once more.
    is_again: bool,
    /// Messages that may have been given another version since what was read last was asked for. They are left alone.
    changed: BTreeSet<EventId>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    /// Whether there is anything at all is read.
    #[default]
    Any,
    /// Places before the oldest that is kept are, and those of lives that sort before this one.
    Before,
    /// Those of lives that sort after it.
    Behind,
}

impl Home {
    /// A channel's history has moved on, or is looked at for the first time.
    pub(super) fn clean(&mut self, number: u32) {
        let Some(durable) = self.durable(number) else { return };
        let step = match durable.has_places {
            Some(false) => return,
            Some(true) => Step::Before,
            None => Step::Any,
        };
        match &mut durable.cleaning {
            Some(cleaning) => cleaning.is_again = true,
            None => {
                durable.cleaning = Some(Box::default());
                self.read_places(number, step);
            }
        }
    }

    /// Something is written that goes with its place; a version of a message, if it is one.
    pub(super) fn will_clean(&mut self, number: u32, message: Option<MessageRef>) {
        let Some(durable) = self.durable(number) else { return };
        durable.has_places = Some(true);
        if let (Some(cleaning), Some(message)) = (&mut durable.cleaning, message) {
            cleaning.changed.insert(message.id);
        }
    }

    fn read_places(&mut self, number: u32, step: Step) {
        let epoch = self.window(number).map(|it| it.epoch).unwrap_or_default();
        let prefix = self.prefix(&self.channels[number].channel);
        let Some((durable, prefix)) = self.durable(number).zip(prefix) else { return };
        let oldest = durable.head.oldest;
        let changed = durable.changing().map(|it| it.id).collect();
        if let Some(cleaning) = &mut durable.cleaning {
            (cleaning.step, cleaning.changed) = (step, changed);
        }
        let at = |serial| Some(shelved::place_key(&prefix, epoch, serial));
        let (after, before) = match step {
            Step::Any => (None, None),
            Step::Before => (None, at(oldest)),
            Step::Behind => (at(Serial(u64::MAX)), None),
        };
        let ask = Ask::Read {
            shelf: Shelf::Versions,
            prefix: shelved::places(&prefix),
            after,
            before,
            is_last_first: false,
            values_max: PLACES_PER_ASK,
            bytes_max: u64::MAX,
        };
        self.ask_cleaning(number, ask);
    }

    fn ask_cleaning(&mut self, number: u32, ask: Ask) {
        if let Some(durable) = self.durable(number) {
            durable.reads_open += 1;
        }
        self.ask_store(Pending::Clean(number), ask);
    }

    /// Goes on with what the store said.
    pub(super) fn clean_on(&mut self, number: u32, answer: Answer) {
        let Some(durable) = self.durable(number) else { return };
        let Some(cleaning) = &mut durable.cleaning else { return };
        match answer {
            Answer::Values { values, .. } if values.is_empty() => match cleaning.step {
                Step::Any => {
                    // Unless something was written meanwhile.
                    durable.has_places = durable.has_places.or(Some(false));
                    self.cleaned(number);
                }
                Step::Before => self.read_places(number, Step::Behind),
                Step::Behind => self.cleaned(number),
            },
            Answer::Values { .. } if cleaning.step == Step::Any => {
                durable.has_places = Some(true);
                self.read_places(number, Step::Before);
            }
            Answer::Values { values, .. } => self.remove_places(number, values),
            // There may be more.
            Answer::Changed => self.read_places(number, Step::Before),
            // What could not be done is done when the history moves on again.
            _ => durable.cleaning = None,
        }
    }

    fn cleaned(&mut self, number: u32) {
        let Some(durable) = self.durable(number) else { return };
        let is_again = durable.cleaning.take().is_some_and(|it| it.is_again);
        if is_again {
            self.clean(number);
        }
    }

    fn remove_places(&mut self, number: u32, values: Vec<(Bytes, Bytes)>) {
        let prefix = self.prefix(&self.channels[number].channel);
        let Some((durable, prefix)) = self.durable(number).zip(prefix) else { return };
        let Some(cleaning) = &durable.cleaning else { return };
        let mut changes = Vec::new();
        let mut remove = |shelf, key| changes.push((shelf, Change::Remove { key }));
        for (place, stored) in values {
            // What says nothing is removed all the same: it would be met again and again.
            let Some(Going { shelf, key, is_latest }) = Going::decode(&stored) else {
                remove(Shelf::Versions, place);
                continue;
            };
            if let Some(message) = shelved::parse_version_key(&prefix, &key).filter(|_| is_latest) {
                if cleaning.changed.contains(&message) {
                    continue;
                }
                remove(Shelf::Versions, shelved::latest_key(&prefix, message));
                remove(Shelf::Versions, shelved::version_key(&prefix, message, message));
            }
            remove(Shelf::Versions, place);
            remove(shelf, key);
        }
        if changes.is_empty() {
            return self.cleaned(number);
        }
        self.ask_cleaning(number, Ask::Change { changes });
    }
}
