//! The past that a subscription begins with, or that is asked for without one.
//!
//! What is in memory is told at once. What is on disk is read first, and what was published meanwhile is in
//! memory by then: a replay ends exactly where the live events begin.

use std::sync::Arc;

use bytes::Bytes;

use super::asking::Pending;
use super::latest::{BYTES_PER_READ, Gathered, Gathering, RECORDS_PER_READ};
use super::subscribing::Beginning;
use super::{Asker, Home};
use crate::base::ids::{Epoch, Serial, ShardId};
use crate::base::name::Channel;
use crate::base::time::{Now, UnixMillis};
use crate::broker::history::{Found, Window, weight};
use crate::broker::record;
use crate::broker::{
    Down, Event, Gap, GapReason, Happening, Position, Render, Replay, Reply, Start, Subscribe,
};
use crate::store::{self, Answer, Ask, PageAsk};

/// How often a replay is read on from where the disk's part ended, because more was published than the window
/// in memory holds.
const READS_MAX: u8 = 4;

/// A replay that is read from disk.
#[derive(Debug)]
pub(super) struct Reading {
    asker: Asker,
    wanted: Wanted,
    start: Start,
    /// The channel's when it began.
    epoch: Option<Epoch>,
    step: Step,
    /// Of a rewind: the messages that are on disk.
    gathered: Gathered,
    /// What came after that, or after the position.
    collected: Vec<Arc<Event>>,
    /// The oldest that was looked at, and the newest; none before the first.
    looked: Option<(u64, u64)>,
    is_cut_by_limit: bool,
    reads: u8,
}

/// What is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Of a rewind: the history, from the newest back.
    Back,
    /// Of a rewind: what became of the messages.
    Versions,
    /// The history, on to the newest.
    On,
}

/// What a replay is for.
#[derive(Debug)]
enum Wanted {
    /// To be answered with it.
    Reply,
    /// A subscription begins with it.
    Subscription(Box<Subscribe>),
}

impl Reading {
    fn new(asker: Asker, wanted: Wanted, start: Start) -> Box<Self> {
        Box::new(Self {
            asker,
            wanted,
            start,
            epoch: None,
            step: if matches!(start, Start::After(_)) { Step::On } else { Step::Back },
            gathered: Gathered::default(),
            collected: Vec::new(),
            looked: None,
            is_cut_by_limit: false,
            reads: 0,
        })
    }

    /// How many of the newest events, and from when on, a rewind wants at most.
    fn rewind(&self, now: Now, events_max: u32) -> (u32, Option<UnixMillis>) {
        match self.start {
            Start::Events(count) => (count.min(events_max), None),
            Start::Since(span) => (events_max, Some(UnixMillis(now.wall.0.saturating_sub(span.0)))),
            Start::Now | Start::After(_) => (0, None),
        }
    }

    /// Whether a rewind that has more behind it holds less than was asked for.
    fn is_cut(&self) -> bool {
        match self.start {
            Start::Events(count) => (self.gathered.created.len() as u64) < u64::from(count),
            _ => true,
        }
    }
}

/// A part of the history for a rewind, from a serial back.
fn back(from_at: Option<UnixMillis>, to: Serial) -> PageAsk {
    PageAsk {
        to,
        from_at,
        is_newest_first: true,
        records_max: RECORDS_PER_READ,
        bytes_max: BYTES_PER_READ,
        ..PageAsk::default()
    }
}

impl Home {
    pub(super) fn read(&mut self, number: u32, pending: Pending, page: PageAsk) {
        let stream = self.keeping.rules.stream_key(&self.channels[number].channel);
        if let Some(durable) = self.durable(number) {
            durable.reads_open += 1;
        }
        self.ask_store(pending, Ask::Page { stream, page });
    }

    pub(super) fn decode(&self, number: u32, page: &store::Page) -> Option<Vec<Arc<Event>>> {
        let channel = &self.channels[number].channel;
        let decode = |it| record::decode(it, channel, page.head.epoch).ok().map(Arc::new);
        page.records.iter().map(decode).collect()
    }

    /// Tells what came after a position.
    pub(super) fn replay(
        &mut self,
        asker: Asker,
        channel: &Channel,
        position: Position,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let start = Start::After(position);
        let Some(number) = self.find(channel) else {
            let stream = self.stream_of(channel, now);
            // It began anew when it was forgotten.
            let reason =
                if stream.is_some() { GapReason::EpochChanged } else { GapReason::NotKept };
            let gap = Gap { reason, asked: position, stream };
            return asker.answer(Reply::Replayed(Box::new(Err(gap))), out);
        };
        let reading = Reading::new(asker, Wanted::Reply, start);
        self.begin_reading(number, reading, now, render, out);
    }

    /// Begins a subscription with a part of the past.
    pub(super) fn subscribe_from(
        &mut self,
        number: u32,
        asker: Asker,
        subscribe: Box<Subscribe>,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let start = subscribe.start;
        let reading = Reading::new(asker, Wanted::Subscription(subscribe), start);
        self.begin_reading(number, reading, now, render, out);
    }

    fn begin_reading(
        &mut self,
        number: u32,
        mut reading: Box<Reading>,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let asked = match reading.start {
            Start::After(position) => position,
            _ => Position::default(),
        };
        let Some(stream) = self.stream(number, now) else {
            let gap = Gap { reason: GapReason::NotKept, asked, stream: None };
            return self.finish(number, *reading, Err(gap), now, render, out);
        };
        reading.epoch = Some(stream.epoch);
        let max = self.keeping.replay;
        let Some(window) = self.window(number) else { return };
        let newest = window.newest;
        let page = PageAsk { to: Serial(newest), bytes_max: max.bytes, ..PageAsk::default() };
        let (found, page) = match reading.start {
            Start::Now => (Some(Found::default()), page),
            Start::After(position) => {
                if let Some(gap) = Window::gap(&stream, position) {
                    return self.finish(number, *reading, Err(gap), now, render, out);
                }
                let from = Serial(position.serial.0 + 1);
                let page = PageAsk { from, records_max: max.events, ..page };
                (window.after(position.serial.0, max), page)
            }
            Start::Events(_) | Start::Since(_) => {
                let wanted = reading.rewind(now, max.events);
                let page = back(wanted.1, Serial(newest));
                let show = self.show_latest(number);
                let mut found = window.newest(wanted, max.bytes, stream.oldest.0, show);
                if let (Some(found), Start::Events(wanted)) = (&mut found, reading.start) {
                    // There being more than was asked for is no cut.
                    found.is_cut_by_limit &= (found.events.len() as u64) < u64::from(wanted);
                }
                (found, page)
            }
        };
        match found {
            Some(found) => self.found(number, *reading, found, now, render, out),
            None => self.read(number, Pending::Read(number, reading), page),
        }
    }

    /// The disk's part of a replay has come.
    pub(super) fn read_on(
        &mut self,
        number: u32,
        mut reading: Box<Reading>,
        answer: Answer,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let asked = match reading.start {
            Start::After(position) => position,
            _ => Position::default(),
        };
        let stream = self.stream(number, now);
        let gap = |reason| Gap { reason, asked, stream };
        if reading.step == Step::Versions {
            // Of another life by now: what comes next says so.
            return match self.take_versions(number, &mut reading.gathered, answer, now) {
                Ok(after) if reading.epoch == stream.map(|it| it.epoch) => {
                    self.read_became(number, reading, after, now, render, out);
                }
                Ok(_) => {
                    let gap = gap(GapReason::EpochChanged);
                    self.finish(number, *reading, Err(gap), now, render, out);
                }
                Err(_) => {
                    let gap = gap(GapReason::Unavailable);
                    self.finish(number, *reading, Err(gap), now, render, out);
                }
            };
        }
        let Answer::Page(page) = answer else {
            return self.finish(
                number,
                *reading,
                Err(gap(GapReason::Unavailable)),
                now,
                render,
                out,
            );
        };
        let (Some(mut events), Some(stream)) = (self.decode(number, &page), stream) else {
            return self.finish(
                number,
                *reading,
                Err(gap(GapReason::Unavailable)),
                now,
                render,
                out,
            );
        };
        if page.head.epoch != stream.epoch || reading.epoch != Some(stream.epoch) {
            return self.finish(
                number,
                *reading,
                Err(gap(GapReason::EpochChanged)),
                now,
                render,
                out,
            );
        }
        if reading.step == Step::Back {
            return self.read_back(number, reading, page, events, now, render, out);
        }
        let last = reading.looked.map_or(asked.serial.0, |it| it.1);
        // Retention was faster.
        if events.first().is_some_and(|it| it.serial.0 != last + 1) {
            return self.finish(number, *reading, Err(gap(GapReason::Expired)), now, render, out);
        }
        if page.has_more {
            return self.finish(number, *reading, Err(gap(GapReason::TooMuch)), now, render, out);
        }
        if let Some(newest) = events.last() {
            let oldest = reading.looked.map_or(events[0].serial.0, |it| it.0);
            reading.looked = Some((oldest, newest.serial.0));
        }
        reading.collected.append(&mut events);
        reading.reads += 1;
        self.read_to_window(number, reading, now, render, out);
    }

    /// A part of what a rewind wants has come from disk, the newest first.
    #[expect(clippy::too_many_arguments, reason = "one answer, taken apart")]
    fn read_back(
        &mut self,
        number: u32,
        mut reading: Box<Reading>,
        page: store::Page,
        mut events: Vec<Arc<Event>>,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        // A clock that stepped leaves times out of order: what is told has no holes.
        let mut before = reading.looked.map(|it| it.0);
        let is_next = |it: &&Arc<Event>| {
            let is_next = before.is_none_or(|before| it.serial.0 + 1 == before);
            before = Some(it.serial.0);
            is_next
        };
        let run = events.iter().take_while(is_next).count();
        let is_whole = run == events.len();
        events.truncate(run);
        if let (Some(newest), Some(oldest)) = (events.first(), events.last()) {
            let newest = reading.looked.map_or(newest.serial.0, |it| it.1);
            reading.looked = Some((oldest.serial.0, newest));
        }
        let max = self.keeping.replay;
        let (count, since) = reading.rewind(now, max.events);
        let has_more = page.has_more && is_whole;
        match reading.gathered.take(events, (count, max.bytes), has_more) {
            Gathering::GoesOn => {
                let oldest = reading.looked.map_or(0, |it| it.0);
                let page = back(since, Serial(oldest.saturating_sub(1)));
                return self.read(number, Pending::Read(number, reading), page);
            }
            Gathering::Full => reading.is_cut_by_limit |= reading.is_cut(),
            Gathering::Done => {}
        }
        reading.gathered.created.reverse();
        reading.step = Step::Versions;
        self.read_became(number, reading, Some(None), now, render, out);
    }

    /// Reads what became of the messages of a rewind, after a key; then what came since.
    fn read_became(
        &mut self,
        number: u32,
        mut reading: Box<Reading>,
        after: Option<Option<Bytes>>,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let ask = after.and_then(|after| self.ask_for_versions(number, &reading.gathered, after));
        if let Some(ask) = ask {
            if let Some(durable) = self.durable(number) {
                durable.reads_open += 1;
            }
            return self.ask_store(Pending::Read(number, reading), ask);
        }
        reading.step = Step::On;
        self.read_to_window(number, reading, now, render, out);
    }

    /// What was read from disk is there: the rest is in memory, or is read on.
    fn read_to_window(
        &mut self,
        number: u32,
        reading: Box<Reading>,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let asked = match reading.start {
            Start::After(position) => position,
            _ => Position::default(),
        };
        let last = reading.looked.map_or(asked.serial.0, |it| it.1);
        let Some(window) = self.window(number) else { return };
        // Nothing within the time asked for: what comes live is all there is.
        if reading.looked.is_none() {
            let found = Found { from: window.newest + 1, ..Found::default() };
            return self.found(number, *reading, found, now, render, out);
        }
        let max = self.keeping.replay;
        match window.after(last, max) {
            Some(found) => self.found(number, *reading, found, now, render, out),
            None if reading.reads < READS_MAX => {
                let page = PageAsk {
                    from: Serial(last + 1),
                    to: Serial(window.newest),
                    records_max: max.events,
                    bytes_max: max.bytes,
                    ..PageAsk::default()
                };
                self.read(number, Pending::Read(number, reading), page);
            }
            None => {
                let stream = self.stream(number, now);
                let gap = Gap { reason: GapReason::TooMuch, asked, stream };
                self.finish(number, *reading, Err(gap), now, render, out);
            }
        }
    }

    /// The part of a replay that is in memory, its last, is there.
    fn found(
        &mut self,
        number: u32,
        mut reading: Reading,
        mut found: Found,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let Some(stream) = self.stream(number, now) else { return };
        let is_cold = reading.looked.is_some();
        let first = reading.looked.map_or(found.from, |it| it.0);
        let mut events = std::mem::take(&mut reading.collected);
        events.append(&mut found.events);
        if is_cold && !matches!(reading.start, Start::After(_)) {
            events = self.rewound(number, &mut reading, events);
        }
        let result = match reading.start {
            Start::After(asked) if found.is_cut_by_limit => {
                Err(Gap { reason: GapReason::TooMuch, asked, stream: Some(stream) })
            }
            start => {
                let is_oldest = first <= stream.oldest.0 && stream.oldest.0 > 1;
                let is_cut_by_retention = is_oldest
                    && match start {
                        Start::Events(count) => (events.len() as u64) < u64::from(count),
                        // What is gone may have been within the time, or not: who asked cannot know.
                        Start::Since(_) => true,
                        Start::Now | Start::After(_) => false,
                    };
                let is_cut_by_limit = reading.is_cut_by_limit || found.is_cut_by_limit;
                Ok(Replay {
                    position: stream.position(),
                    events,
                    is_cold,
                    is_cut_by_retention,
                    is_cut_by_limit,
                })
            }
        };
        self.finish(number, reading, result, now, render, out);
    }

    /// What a rewind begins with: the messages that were read from disk and those that came since, as they are now, the
    /// newest of them that may be replayed at once.
    fn rewound(
        &self,
        number: u32,
        reading: &mut Reading,
        since: Vec<Arc<Event>>,
    ) -> Vec<Arc<Event>> {
        let mut gathered = std::mem::take(&mut reading.gathered);
        for event in since {
            match &event.happening {
                Happening::Message { .. } => gathered.created.push(event),
                Happening::Mutated(_) => gathered.became(event),
                _ => {}
            }
        }
        let shown = gathered.created.iter().rev();
        let shown = shown.filter_map(|it| self.show_gathered(number, &gathered, it));
        let (mut events, mut bytes) = (Vec::new(), 0);
        for event in shown {
            bytes += weight(&event);
            if bytes > self.keeping.replay.bytes && !events.is_empty() {
                reading.is_cut_by_limit = true;
                break;
            }
            events.push(event);
        }
        events.reverse();
        events
    }

    fn finish(
        &mut self,
        number: u32,
        reading: Reading,
        result: Result<Replay, Gap>,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        match &result {
            Ok(replay) => self.counts.replayed += replay.events.len() as u64,
            Err(_) => self.counts.gaps += 1,
        }
        match reading.wanted {
            Wanted::Reply => reading.asker.answer(Reply::Replayed(Box::new(result)), out),
            Wanted::Subscription(subscribe) => {
                let replay = Some(Box::new(result));
                let beginning = Beginning { replay, ..Beginning::default() };
                self.attach(reading.asker, subscribe, beginning, now, render, out);
            }
        }
        self.settle_if_held(number, now);
    }
}
