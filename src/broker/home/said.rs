//! What is said about a channel's messages, as far as it is in memory, and its keys and values for the store.
//!
//! Of a channel that is kept in memory this is all there is: each annotation, and the summaries. Of one on disk these are
//! the summaries that someone asked for or hears, which are read again where they are not here: behind the last that was
//! saved of them.
//!
//! An annotation is kept as long as its place in the channel's history is, and the summaries of a message as long as the
//! newest annotation of it: what is saved of them has those that are gone, too. Of a message to whose channel nobody
//! listens nothing is saved: its summaries are made of what is kept when someone asks.
//!
//! Keys begin as all of the channel's do, then come two bytes that no message's id begins with, and the channel's epoch, so
//! that a channel that begins anew finds nothing. Under `a`: the message, and the annotation's id, or 0 for what is saved of
//! the summaries, or an annotation's id and a byte more if it is taken back. Under `m`: a message that was annotated.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::Asker;
use crate::base::event_id::EventId;
use crate::base::ids::{Epoch, Serial};
use crate::base::name::Name;
use crate::base::time::Nanos;
use crate::broker::summary::{self, Summary};
use crate::broker::versioned::{Annotated, Annotation, MessageRef, Summarized};
use crate::broker::{Event, Happening};

/// Messages whose summaries a new subscriber is told, at most: the newest.
pub(super) const SUMMARIZED_MAX: usize = 100;
/// Bytes of a summary for who asks before anyone said how many it may have.
const SUMMARY_BYTES_MAX: usize = 64 << 10;
/// What an annotation or a message counts for beside its own bytes.
const ENTRY_BYTES: u64 = 256;
/// Bytes of them, at most, about: of the newest messages as many as fit.
const SUMMARIES_BYTES_MAX: usize = 1 << 20;
/// Bytes of a message's summaries that are saved, at most, about; larger ones are made of their annotations again.
const SAVED_BYTES_MAX: u64 = 4 << 20;
/// What an annotation counts for where it is weighed against summaries that are saved with it, about.
const UNSAVED_BYTES: u64 = 256;

const ANNOTATION: [u8; 2] = *b"\xffa";
const MARK: [u8; 2] = *b"\xffm";
const LAYOUT: u8 = 1;

/// What is said about the messages of one channel.
#[derive(Debug)]
pub(super) struct Said {
    messages: BTreeMap<EventId, About>,
    /// The message of each place that has a message's newest annotation.
    newest: BTreeMap<u64, EventId>,
    bytes: u64,
    /// This is all there is.
    is_all: bool,
    /// The newest messages that were annotated are here.
    pub is_complete: bool,
    /// Bytes of a summary, at most, as whoever annotated last has it.
    pub summary_bytes_max: usize,
    /// The place before which all is forgotten.
    pruned: u64,
    /// Those who ask for the summaries of the newest messages, which are being read.
    pub asking: Asking,
}

/// Who asks for the summaries of a channel, and what is read for them.
#[derive(Debug, Default)]
pub(super) struct Asking {
    pub askers: Vec<Asker>,
    /// The store was asked which messages were annotated.
    pub is_asked: bool,
    /// Those that are to be known; none: that is not known yet.
    pub messages: Option<Vec<MessageRef>>,
    /// Reads that may still be begun.
    pub reads_left: usize,
}

/// What is said about one message.
#[derive(Debug)]
pub(super) struct About {
    pub message: MessageRef,
    /// Each annotation, in order, where this is all there is.
    events: VecDeque<Arc<Event>>,
    /// Those of them that are taken back.
    taken_back: BTreeSet<EventId>,
    pub kinds: BTreeMap<Name, Kind>,
    /// The newest that is in the summaries.
    pub last: EventId,
    last_serial: u64,
    /// Annotations since the summaries were saved ...
    unsaved: u64,
    /// ... and the place of the first of them.
    unsaved_from: u64,
    pub stage: Stage,
    bytes: u64,
}

/// What is known of a message's summaries.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Known,
    /// They are being read.
    Reading {
        /// The newest annotation that was made meanwhile.
        newest: EventId,
        /// It is another than listeners know: to be told then.
        is_changed: bool,
        /// What the store was asked last for it; nothing yet.
        read: Option<u64>,
    },
}

/// A summary, and when subscribers were told of it.
#[derive(Debug)]
pub(super) struct Kind {
    pub summary: Summary,
    /// It as it was written, for so many bytes, until it changes.
    written: Option<(usize, Arc<Summarized>)>,
    pub told: Option<Nanos>,
    /// It is another than was told, which is told then.
    pub due: Option<Nanos>,
}

/// What becomes of the summaries when an annotation was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Applied {
    /// One is another.
    Changed,
    /// It was in them.
    Before,
    /// They are being read.
    Reading,
    /// They are not here.
    Unknown,
}

fn weight(event: &Event) -> u64 {
    let Happening::Annotated(it) = &event.happening else { return ENTRY_BYTES };
    annotation_bytes(&it.annotation) as u64 + ENTRY_BYTES
}

/// Bytes of what is said.
pub(super) fn annotation_bytes(it: &Annotation) -> usize {
    let names = [&it.name, &it.client_id, &it.encoding].into_iter().flatten();
    let data = it.data.as_ref().map_or(0, |it| it.0.len());
    it.kind.len() + data + names.map(|it| it.len()).sum::<usize>()
}

impl Kind {
    fn new(summary: Summary) -> Self {
        Self { summary, written: None, told: None, due: None }
    }

    fn bytes(&self) -> u64 {
        let written = self.written.as_ref().map_or(0, |it| it.1.summary.0.len() as u64);
        self.summary.bytes() + written + ENTRY_BYTES
    }
}

impl About {
    fn new(message: MessageRef, stage: Stage) -> Self {
        Self {
            message,
            events: VecDeque::new(),
            taken_back: BTreeSet::new(),
            kinds: BTreeMap::new(),
            last: EventId(0),
            last_serial: 0,
            unsaved: 0,
            unsaved_from: 0,
            stage,
            bytes: ENTRY_BYTES,
        }
    }

    /// Takes the next annotation into the summaries.
    fn fold(&mut self, event: &Event, annotated: &Annotated) {
        let Annotation { kind, summarizer, .. } = &annotated.annotation;
        if !self.kinds.contains_key(kind) {
            let summary = Summary::new(*summarizer);
            let new = Kind::new(summary);
            self.bytes += kind.len() as u64 + new.bytes();
            self.kinds.insert(kind.clone(), new);
        }
        if let Some(kind) = self.kinds.get_mut(kind) {
            let before = kind.bytes();
            kind.summary.apply(annotated);
            kind.written = None;
            self.bytes = self.bytes + kind.bytes() - before;
        }
        (self.last, self.last_serial) = (event.id, event.serial.0);
        if self.unsaved == 0 {
            self.unsaved_from = self.last_serial;
        }
        self.unsaved += 1;
    }

    /// One of its annotations, and whether it is taken back.
    pub fn find(&self, id: EventId) -> Option<(&Arc<Event>, bool)> {
        let at = self.events.binary_search_by_key(&id, |it| it.id).ok()?;
        Some((&self.events[at], self.taken_back.contains(&id)))
    }

    /// Its annotations from an id on.
    pub fn events_from(&self, id: EventId) -> impl Iterator<Item = &Arc<Event>> {
        self.events.range(self.events.partition_point(|it| it.id < id)..)
    }

    /// Forgets annotations before a place; the summaries stay.
    fn forget_before(&mut self, serial: u64) {
        while self.events.front().is_some_and(|it| it.serial.0 < serial)
            && let Some(gone) = self.events.pop_front()
        {
            self.bytes -= weight(&gone);
            self.taken_back.remove(&gone.id);
        }
    }

    fn is_due(&self) -> bool {
        self.stage != Stage::Known || self.kinds.values().any(|it| it.due.is_some())
    }

    /// What is said of one kind.
    pub fn summarized(&mut self, kind: &Name, bytes_max: usize) -> Option<Arc<Summarized>> {
        let it = self.kinds.get_mut(kind)?;
        if let Some((_, written)) = it.written.as_ref().filter(|it| it.0 == bytes_max) {
            return Some(written.clone());
        }
        let before = it.bytes();
        let (message, summary) = (self.message, it.summary.write(bytes_max));
        let written = Arc::new(Summarized { message, kind: kind.clone(), summary });
        it.written = Some((bytes_max, written.clone()));
        self.bytes = self.bytes + it.bytes() - before;
        Some(written)
    }

    /// What its summaries take in memory.
    fn kinds_bytes(&self) -> u64 {
        self.kinds.iter().map(|(kind, it)| kind.len() as u64 + it.bytes()).sum()
    }

    /// Whether its summaries are to be saved: so that less is read again, or because annotations before this place may be
    /// gone soon.
    pub fn wants_saving(&self, before: u64) -> bool {
        if self.stage != Stage::Known || self.unsaved == 0 {
            return false;
        }
        let bytes = self.kinds_bytes();
        let is_worth_it = self.unsaved * UNSAVED_BYTES >= bytes || self.unsaved_from < before;
        is_worth_it && bytes <= SAVED_BYTES_MAX
    }

    /// Its summaries as bytes for the store. From now on they count as saved.
    pub fn save(&mut self) -> Bytes {
        self.unsaved = 0;
        let mut out = BytesMut::new();
        out.put_u8(LAYOUT);
        out.put_u128_le(self.last.0);
        out.put_u64_le(self.last_serial);
        out.put_u32_le(self.kinds.len() as u32);
        for (kind, it) in &self.kinds {
            summary::put_name(&mut out, kind);
            it.summary.encode(&mut out);
        }
        out.freeze()
    }

    /// Takes what was saved. None: these bytes are nothing of that, or of a layout this version does not know.
    pub fn restore(&mut self, mut saved: Bytes) -> Option<()> {
        if saved.try_get_u8().ok()? != LAYOUT {
            return None;
        }
        let last = EventId(saved.try_get_u128_le().ok()?);
        let last_serial = saved.try_get_u64_le().ok()?;
        let mut kinds = BTreeMap::new();
        for _ in 0..saved.try_get_u32_le().ok()? {
            let kind = summary::take_name(&mut saved)?;
            let summary = Summary::decode(&mut saved)?;
            kinds.insert(kind, Kind::new(summary));
        }
        let before = self.kinds_bytes();
        (self.last, self.last_serial, self.kinds) = (last, last_serial, kinds);
        self.unsaved = 0;
        self.bytes = self.bytes + self.kinds_bytes() - before;
        Some(())
    }
}

impl Said {
    /// Nothing. `is_all`: nothing else is kept anywhere.
    pub fn new(is_all: bool) -> Self {
        Self {
            messages: BTreeMap::new(),
            newest: BTreeMap::new(),
            bytes: 0,
            is_all,
            is_complete: is_all,
            summary_bytes_max: SUMMARY_BYTES_MAX,
            pruned: 0,
            asking: Asking::default(),
        }
    }

    /// Bytes it holds.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn of(&self, message: EventId) -> Option<&About> {
        self.messages.get(&message)
    }

    /// Changes what is said about a message, and keeps the count of what all take.
    pub fn with<R>(&mut self, message: EventId, change: impl FnOnce(&mut About) -> R) -> Option<R> {
        let about = self.messages.get_mut(&message)?;
        let (bytes, last) = (about.bytes, about.last_serial);
        let result = change(about);
        self.bytes = self.bytes + about.bytes - bytes;
        if about.last_serial != last {
            self.newest.remove(&last);
            self.newest.insert(about.last_serial, message);
        }
        Some(result)
    }

    /// Takes the next annotation that was made or taken back.
    pub fn apply(&mut self, event: &Arc<Event>, annotated: &Annotated) -> Applied {
        let message = annotated.annotation.message;
        if self.is_all {
            self.insert(message, Stage::Known);
        }
        let (is_all, pruned) = (self.is_all, self.pruned);
        let applied = self.with(message.id, |about| match &mut about.stage {
            Stage::Reading { newest, is_changed, .. } => {
                (*newest, *is_changed) = (event.id, true);
                Applied::Reading
            }
            Stage::Known if about.last >= event.id => Applied::Before,
            Stage::Known => {
                about.fold(event, annotated);
                if is_all {
                    about.forget_before(pruned);
                    about.bytes += weight(event);
                    about.events.push_back(event.clone());
                    about.taken_back.extend(annotated.takes_back);
                }
                Applied::Changed
            }
        });
        applied.unwrap_or(Applied::Unknown)
    }

    /// Begins to know a message, if it does not.
    pub fn insert(&mut self, message: MessageRef, stage: Stage) {
        if !self.messages.contains_key(&message.id) {
            self.bytes += ENTRY_BYTES;
            self.messages.insert(message.id, About::new(message, stage));
        }
    }

    pub fn remove(&mut self, message: EventId) {
        if let Some(gone) = self.messages.remove(&message) {
            self.bytes -= gone.bytes;
            self.newest.remove(&gone.last_serial);
        }
    }

    /// Takes what was read of a message behind what is known of it.
    pub fn read(&mut self, message: EventId, events: &[Event]) {
        self.with(message, |about| {
            for event in events {
                if let Happening::Annotated(annotated) = &event.happening
                    && event.id > about.last
                {
                    about.fold(event, annotated);
                }
            }
        });
    }

    /// Forgets the older half of the messages, to make room: those that nobody waits for.
    pub fn halve(&mut self) {
        let half = self.messages.len().div_ceil(2);
        let idle = self.messages.iter().filter(|(_, about)| !about.is_due());
        let gone: Vec<_> = idle.take(half).map(|(id, _)| *id).collect();
        for message in gone {
            self.is_complete = self.is_all;
            self.remove(message);
        }
    }

    /// What is kept of the channel's past begins with this place now.
    pub fn prune(&mut self, oldest: u64) {
        self.pruned = self.pruned.max(oldest);
        while let Some(first) = self.newest.first_entry().filter(|it| *it.key() < oldest) {
            let message = *first.get();
            self.remove(message);
        }
    }

    /// The messages of which something is said that is or will be known here, the newest.
    pub fn newest(&self) -> Vec<MessageRef> {
        self.messages.values().rev().take(SUMMARIZED_MAX).map(|it| it.message).collect()
    }

    /// The place before which all is forgotten.
    pub fn oldest(&self) -> u64 {
        self.pruned
    }

    /// Another life of the channel has begun. Who asks is still to be answered.
    pub fn forget_all(&mut self) {
        let askers = std::mem::take(&mut self.asking.askers);
        let asking = Asking { askers, ..Asking::default() };
        let summary_bytes_max = self.summary_bytes_max;
        *self = Self { asking, summary_bytes_max, ..Self::new(self.is_all) };
    }

    /// What is here may not be what is on disk: forgets all that nobody waits for, and is to read the rest again, which this
    /// gives.
    pub fn distrust(&mut self) -> Vec<EventId> {
        self.is_complete = false;
        self.asking.reads_left = reads_for(self.asking.messages.iter().flatten().count());
        let all: Vec<_> = self.messages.keys().copied().collect();
        for id in all {
            let Some(about) = self.messages.get(&id) else { continue };
            let is_changed = match about.stage {
                Stage::Known => about.is_due(),
                Stage::Reading { is_changed, .. } => is_changed,
            };
            let (message, newest) = (about.message, EventId(0));
            self.remove(id);
            if is_changed {
                self.insert(message, Stage::Reading { newest, is_changed, read: None });
            }
        }
        self.messages.keys().copied().collect()
    }

    /// The summaries of the newest messages that are known, in the order of the messages; `oldest`: the place with which
    /// what is kept of the channel's past begins.
    pub fn summaries(&mut self, oldest: u64) -> Vec<Arc<Summarized>> {
        let is_told = |it: &&About| {
            it.stage == Stage::Known && it.last_serial >= oldest && !it.kinds.is_empty()
        };
        let newest = self.messages.values().rev().filter(is_told).take(SUMMARIZED_MAX);
        let newest: Vec<_> = newest.map(|it| it.message.id).collect();
        let (mut newest_first, mut bytes) = (Vec::new(), 0);
        let bytes_max = self.summary_bytes_max;
        for message in newest {
            let summaries = self.with(message, |about| {
                let kinds: Vec<_> = about.kinds.keys().rev().cloned().collect();
                kinds.iter().filter_map(|it| about.summarized(it, bytes_max)).collect()
            });
            let summaries: Vec<_> = summaries.unwrap_or_default();
            bytes += summaries.iter().map(|it| it.summary.0.len()).sum::<usize>();
            if bytes > SUMMARIES_BYTES_MAX && !newest_first.is_empty() {
                break;
            }
            newest_first.extend(summaries);
        }
        newest_first.reverse();
        newest_first
    }
}

/// How many reads may be begun for who asks for the summaries of so many messages: if more are needed, there is no room to
/// keep what was read.
pub(super) fn reads_for(messages: usize) -> usize {
    2 * messages
}

/// What the keys of all annotations of a life of a channel begin with.
pub(super) fn annotations_key(prefix: &[u8], epoch: Epoch) -> Bytes {
    [prefix, &ANNOTATION, &epoch.0.to_be_bytes()].concat().into()
}

/// What the keys of its marks begin with.
pub(super) fn marks_key(prefix: &[u8], epoch: Epoch) -> Bytes {
    [prefix, &MARK, &epoch.0.to_be_bytes()].concat().into()
}

/// The key of something with an id, among those that begin so.
pub(super) fn key_of(begin: &[u8], id: EventId) -> Bytes {
    [begin, &id.0.to_be_bytes()].concat().into()
}

/// The key of who takes back the annotation under another.
pub(super) fn taken_back_key(annotation_key: &[u8]) -> Bytes {
    [annotation_key, b"b"].concat().into()
}

/// The id of an annotation, or 0 for what is saved; none: it is a key of something else.
pub(super) fn id_of(begin: &[u8], key: &[u8]) -> Option<EventId> {
    let id = key.strip_prefix(begin)?.try_into().ok()?;
    Some(EventId(u128::from_be_bytes(id)))
}

/// A mark of a message, whose id is in the key: its place, and that of its newest annotation.
pub(super) fn encode_mark(message: MessageRef, newest: Serial) -> Bytes {
    [message.serial.0.to_le_bytes(), newest.0.to_le_bytes()].concat().into()
}

/// None: these bytes are none.
pub(super) fn decode_mark(id: EventId, mark: &Bytes) -> Option<(MessageRef, Serial)> {
    let (serial, newest) = mark.split_first_chunk::<8>()?;
    let newest = u64::from_le_bytes(newest.try_into().ok()?);
    let serial = Serial(u64::from_le_bytes(*serial));
    Some((MessageRef { id, serial }, Serial(newest)))
}
