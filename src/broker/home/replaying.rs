//! The past that a subscription begins with, or that is asked for without one.
//!
//! What is in memory is told at once. What is on disk is read first, and what was published meanwhile is in
//! memory by then: a replay ends exactly where the live events begin.

use std::sync::Arc;

use super::durable::Pending;
use super::subscribing::Beginning;
use super::{Asker, Home};
use crate::base::ids::{Epoch, Serial, ShardId};
use crate::base::name::Channel;
use crate::base::time::{Now, UnixMillis};
use crate::broker::history::{Found, Window};
use crate::broker::record;
use crate::broker::{
    Down, Event, Gap, GapReason, Position, Render, Replay, Reply, Start, Subscribe,
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
    collected: Vec<Arc<Event>>,
    is_cut_by_limit: bool,
    reads: u8,
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
            collected: Vec::new(),
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

    /// Whether a page that has more behind it holds less than was asked for.
    fn is_cut(&self, events: &[Arc<Event>]) -> bool {
        match self.start {
            Start::Events(count) => (events.len() as u64) < u64::from(count),
            _ => true,
        }
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
                let (count, since) = reading.rewind(now, max.events);
                let page =
                    PageAsk { from_at: since, is_newest_first: true, records_max: count, ..page };
                let mut found = window.newest(count, since, max.bytes, stream.oldest.0);
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
        let is_after = matches!(reading.start, Start::After(_));
        if is_after || !reading.collected.is_empty() {
            let last = reading.collected.last().map_or(asked.serial.0, |it| it.serial.0);
            // Retention was faster.
            if events.first().is_some_and(|it| it.serial.0 != last + 1) {
                return self.finish(
                    number,
                    *reading,
                    Err(gap(GapReason::Expired)),
                    now,
                    render,
                    out,
                );
            }
            if page.has_more {
                return self.finish(
                    number,
                    *reading,
                    Err(gap(GapReason::TooMuch)),
                    now,
                    render,
                    out,
                );
            }
        } else {
            reading.is_cut_by_limit |= page.has_more && reading.is_cut(&events);
            // A clock that stepped leaves times out of order: what is told has no holes.
            let is_next = |two: &[Arc<Event>]| two[0].serial.0 == two[1].serial.0 + 1;
            let run = events.windows(2).take_while(|two| is_next(two)).count() + 1;
            events.truncate(run);
            events.reverse();
        }
        reading.collected.append(&mut events);
        reading.reads += 1;
        let last = reading.collected.last().map_or(asked.serial.0, |it| it.serial.0);
        let Some(window) = self.window(number) else { return };
        // Nothing within the time asked for: what comes live is all there is.
        if reading.collected.is_empty() {
            return self.found(number, *reading, Found::default(), now, render, out);
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
            None => self.finish(number, *reading, Err(gap(GapReason::TooMuch)), now, render, out),
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
        let is_cold = !reading.collected.is_empty();
        let mut events = std::mem::take(&mut reading.collected);
        events.append(&mut found.events);
        let result = match reading.start {
            Start::After(asked) if found.is_cut_by_limit => {
                Err(Gap { reason: GapReason::TooMuch, asked, stream: Some(stream) })
            }
            start => {
                let first = events.first().map_or(stream.newest.0 + 1, |it| it.serial.0);
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
