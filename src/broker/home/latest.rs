//! A channel's messages as they are now, each in the place where it was published: pages of them, and what a
//! subscription begins with.
//!
//! What is on disk is read in two steps: the history, of which only what was published is taken, and then what became of
//! those messages, which is there only for those of which something did. What becomes of them meanwhile comes later in the
//! history, and who reads up to the newest meets it there.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::asking::Pending;
use super::durable::refusal_of;
use super::{Asker, Home};
use crate::base::ids::{Serial, ShardId};
use crate::base::time::Now;
use crate::broker::history::{Show, weight};
use crate::broker::mutation::message_of;
use crate::broker::{Down, Event, Happening, Page, PageQuery, Refusal, Reply, shelved};
use crate::store::{Answer, Ask, Fault, PageAsk, Shelf};

// Some bounds are low in tests, so that the model of them meets each.

/// Records of the history in one read for messages as they are now ...
pub(super) const RECORDS_PER_READ: u32 = if cfg!(test) { 3 } else { 1_024 };
/// ... and bytes of them.
pub(super) const BYTES_PER_READ: u64 = 1 << 20;
/// Reads for one page or for what a subscription begins with, at most, once it has a message: what was found by then is
/// told, and that there may be more. Who has none yet is read on for: the history has an end.
pub(super) const READS_MAX: u32 = if cfg!(test) { 3 } else { 32 };
/// Messages as they are now in one read.
const VERSIONS_PER_READ: u32 = if cfg!(test) { 2 } else { 1_024 };

/// Messages that are read, and what became of them.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// As they were published, in the order of the reading.
    pub created: Vec<Arc<Event>>,
    pub bytes: u64,
    /// How often the history was read for them.
    pub reads: u32,
    /// What became of them, by the place where each was published.
    latest: BTreeMap<u64, Arc<Event>>,
}

/// What reading for messages comes to, one read of the history later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gathering {
    /// The history goes on, and more is wanted.
    GoesOn,
    /// As many are there as are wanted, or as may be; there is more.
    Full,
    /// That is all there is.
    Done,
}

impl Gathered {
    /// Takes what was published from a part of the history.
    pub fn take(
        &mut self,
        events: Vec<Arc<Event>>,
        (events_max, bytes_max): (u32, u64),
        has_more: bool,
    ) -> Gathering {
        self.reads += 1;
        for event in events {
            if !matches!(event.happening, Happening::Message { .. }) {
                continue;
            }
            let bytes = self.bytes + weight(&event);
            let is_full = self.created.len() as u64 >= u64::from(events_max)
                || bytes > bytes_max && !self.created.is_empty();
            if is_full {
                return Gathering::Full;
            }
            self.bytes = bytes;
            self.created.push(event);
        }
        let is_enough = self.created.len() as u64 >= u64::from(events_max)
            || self.reads >= READS_MAX && !self.created.is_empty();
        match has_more {
            false => Gathering::Done,
            true if is_enough => Gathering::Full,
            true => Gathering::GoesOn,
        }
    }

    /// Takes what became of a message, if it came last.
    pub fn became(&mut self, version: Arc<Event>) {
        let Some(message) = message_of(&version) else { return };
        let known = self.latest.entry(message.serial.0).or_insert_with(|| version.clone());
        if known.serial < version.serial {
            *known = version;
        }
    }

    /// A message as it is now, or none: nothing became of it that was read.
    pub fn latest_at(&self, serial: u64) -> Option<&Arc<Event>> {
        self.latest.get(&serial)
    }
}

/// A page of messages as they are now, being read.
#[derive(Debug)]
pub(super) struct LatestPage {
    asker: Asker,
    query: PageQuery,
    gathered: Gathered,
    /// There is more; none as long as the history is read.
    has_more: Option<bool>,
}

/// What is shown of an event: a message as it is now, in its own place; nothing else.
pub(super) fn shown(event: &Arc<Event>, latest: Option<&Arc<Event>>) -> Option<Arc<Event>> {
    if !matches!(event.happening, Happening::Message { .. }) {
        return None;
    }
    Some(match latest {
        Some(latest) if latest.serial > event.serial => {
            Arc::new(Event { serial: event.serial, ..Event::clone(latest) })
        }
        _ => event.clone(),
    })
}

impl Home {
    /// Shows messages as they are now, where all that became of them is in memory.
    pub(super) fn show_latest(&self, number: u32) -> impl Show {
        let messages = self.channels[number].rare.as_ref().and_then(|it| it.messages.as_deref());
        move |event: &Arc<Event>| shown(event, messages.and_then(|it| it.latest_at(event.serial.0)))
    }

    /// Reads a page of messages as they are now from disk.
    pub(super) fn read_latest_page(
        &mut self,
        number: u32,
        asker: Asker,
        query: PageQuery,
        to: Serial,
    ) {
        let page = LatestPage { asker, query, gathered: Gathered::default(), has_more: None };
        self.read_records(number, Box::new(page), (query.from, to));
    }

    fn read_records(&mut self, number: u32, page: Box<LatestPage>, (from, to): (Serial, Serial)) {
        let PageQuery { from_at, to_at, is_newest_first, .. } = page.query;
        let (records_max, bytes_max) = (RECORDS_PER_READ, BYTES_PER_READ);
        let ask = PageAsk { from, to, from_at, to_at, is_newest_first, records_max, bytes_max };
        self.read(number, Pending::Latest(number, page), ask);
    }

    /// A part of the history has come for a page of messages as they are now, or what became of them.
    pub(super) fn latest_read(
        &mut self,
        number: u32,
        mut page: Box<LatestPage>,
        answer: Answer,
        now: Now,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let asker = page.asker;
        if page.has_more.is_some() {
            return match self.take_versions(number, &mut page.gathered, answer, now) {
                Ok(after) => self.read_versions_of(number, page, after, now, out),
                Err(refusal) => asker.answer(Reply::Refused(refusal), out),
            };
        }
        let (records, stream) = match (answer, self.stream(number, now)) {
            (Answer::Page(records), Some(stream)) => (records, stream),
            (Answer::Fault(Fault::Failed(_)), _) => {
                return asker.answer(Reply::Refused(Refusal::StoreUnreadable), out);
            }
            (Answer::Fault(fault), _) => {
                return asker.answer(Reply::Refused(refusal_of(&fault)), out);
            }
            _ => return asker.answer(Reply::Refused(Refusal::StoreBusy), out),
        };
        self.learn(number, records.head);
        let is_of_an_earlier = |it: &Arc<Event>| it.epoch != Some(stream.epoch);
        if records.head.epoch != stream.epoch || page.gathered.created.iter().any(is_of_an_earlier)
        {
            // It was reset while the page was on its way.
            let reply = match page.query.epoch {
                None => Reply::Page(Box::new(Page { stream, events: Vec::new(), has_more: false })),
                Some(_) => Reply::Refused(Refusal::EpochChanged),
            };
            return asker.answer(reply, out);
        }
        let Some(events) = self.decode(number, &records) else {
            return asker.answer(Reply::Refused(Refusal::StoreUnreadable), out);
        };
        let PageQuery { events_max, bytes_max, is_newest_first, .. } = page.query;
        let last = records.records.last().map_or(0, |it| it.serial.0);
        match page.gathered.take(events, (events_max, bytes_max), records.has_more) {
            Gathering::GoesOn => {
                let to = page.query.to.unwrap_or(Serial(u64::MAX)).min(stream.newest);
                let part = match is_newest_first {
                    true => (page.query.from, Serial(last.saturating_sub(1))),
                    false => (Serial(last + 1), to),
                };
                return self.read_records(number, page, part);
            }
            Gathering::Full => page.has_more = Some(true),
            Gathering::Done => page.has_more = Some(false),
        }
        self.read_versions_of(number, page, Some(None), now, out);
    }

    /// Asks for what became of the messages of a page, after a key; if that is all, the page is told.
    fn read_versions_of(
        &mut self,
        number: u32,
        page: Box<LatestPage>,
        after: Option<Option<Bytes>>,
        now: Now,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let ask = after.and_then(|after| self.ask_for_versions(number, &page.gathered, after));
        if let Some(ask) = ask {
            if let Some(durable) = self.durable(number) {
                durable.reads_open += 1;
            }
            return self.ask_store(Pending::Latest(number, page), ask);
        }
        let LatestPage { asker, query, gathered, has_more } = *page;
        let Some(stream) = self.stream(number, now) else { return };
        let told = Page { stream, events: Vec::new(), has_more: has_more.unwrap_or_default() };
        let mut told = told;
        let mut bytes = 0;
        for created in &gathered.created {
            let Some(event) = self.show_gathered(number, &gathered, created) else { continue };
            bytes += weight(&event);
            // What became of them may be larger.
            if bytes > query.bytes_max && !told.events.is_empty() {
                told.has_more = true;
                break;
            }
            told.events.push(event);
        }
        asker.answer(Reply::Page(Box::new(told)), out);
    }

    /// A message as it is now, by what was read and what is in memory.
    pub(super) fn show_gathered(
        &self,
        number: u32,
        gathered: &Gathered,
        event: &Arc<Event>,
    ) -> Option<Arc<Event>> {
        let messages = self.channels[number].rare.as_ref().and_then(|it| it.messages.as_deref());
        let serial = event.serial.0;
        let known = messages.and_then(|it| it.latest_at(serial));
        shown(event, known.into_iter().chain(gathered.latest_at(serial)).max_by_key(|it| it.serial))
    }

    /// What the store is to be asked for what became of messages, after a key; none: they are none.
    pub(super) fn ask_for_versions(
        &self,
        number: u32,
        gathered: &Gathered,
        after: Option<Bytes>,
    ) -> Option<Ask> {
        let prefix = self.prefix(&self.channels[number].channel)?;
        let ids = || gathered.created.iter().map(|it| it.id);
        let (first, last) = (ids().min()?, ids().max()?);
        let key = |id: Option<u128>| {
            Some(shelved::latest_key(&prefix, crate::base::event_id::EventId(id?)))
        };
        Some(Ask::Read {
            shelf: Shelf::Versions,
            prefix: shelved::latest_prefix(&prefix),
            after: after.or_else(|| key(first.0.checked_sub(1))),
            before: key(last.0.checked_add(1)),
            is_last_first: false,
            values_max: VERSIONS_PER_READ,
            bytes_max: BYTES_PER_READ,
        })
    }

    /// Takes what became of messages. After which key to go on, if there is more.
    pub(super) fn take_versions(
        &self,
        number: u32,
        gathered: &mut Gathered,
        answer: Answer,
        now: Now,
    ) -> Result<Option<Option<Bytes>>, Refusal> {
        let (values, has_more) = match answer {
            Answer::Values { values, has_more } => (values, has_more),
            Answer::Fault(Fault::Failed(_)) => return Err(Refusal::StoreUnreadable),
            Answer::Fault(fault) => return Err(refusal_of(&fault)),
            _ => return Err(Refusal::StoreBusy),
        };
        let stream = self.stream(number, now).ok_or(Refusal::NotKept)?;
        let channel = &self.channels[number].channel;
        for (_, stored) in &values {
            let version =
                shelved::decode_placed(stored, channel).ok_or(Refusal::StoreUnreadable)?.0;
            // What is of an earlier life was not cleaned away yet.
            if version.epoch == Some(stream.epoch) {
                gathered.became(Arc::new(version));
            }
        }
        Ok(values.last().filter(|_| has_more).map(|(key, _)| Some(key.clone())))
    }
}
