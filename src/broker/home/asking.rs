//! What the store is asked, and who takes what it answers.

use bytes::Bytes;

use super::annotations::AnnotationsRead;
use super::later::Asked;
use super::latest::LatestPage;
use super::line::Place;
use super::replaying::Reading;
use super::retained::RetainedRead;
use super::summaries::SummariesRead;
use super::values::ValuesRead;
use super::versions::MessageRead;
use super::{Asker, Home};
use crate::base::ids::{Epoch, ShardId};
use crate::base::time::Now;
use crate::broker::{Down, PageQuery, Render};
use crate::store::{self, Answer, Ask, Head};

/// What an answer of the store is for.
#[derive(Debug)]
pub(super) enum Pending {
    Open(u32),
    Append(u32, u64),
    Page(u32, Asker, PageQuery),
    Clean(u32),
    /// A page of messages as they are now.
    Latest(u32, Box<LatestPage>),
    /// A message, or its versions.
    Message(u32, Box<MessageRead>),
    Read(u32, Box<Reading>),
    Purge(u32, Asker, Epoch, bool),
    /// Annotations of a message.
    Annotations(u32, Box<AnnotationsRead>),
    /// What is said about messages, all together.
    Summaries(u32, SummariesRead),
    /// Something is removed that nobody waits for.
    Forgotten(u32),
    /// What an operation in a line asked.
    Line(Place),
    Retained(Box<RetainedRead>),
    Values(Box<ValuesRead>),
    Reports(Vec<super::state::Timed>),
    /// A page of the index of values whose time will be over, after this key.
    Expiries(Option<Bytes>),
    Later(Asked),
}

impl Home {
    pub(super) fn ask_store(&mut self, pending: Pending, ask: Ask) {
        // What happened before is told before, in the store's order too.
        self.flush_reports();
        self.ask_now(pending, ask);
    }

    pub(super) fn ask_now(&mut self, pending: Pending, ask: Ask) {
        let tag = self.tag_next;
        self.tag_next += 1;
        self.pending.insert(tag, pending);
        self.asks.push_back((tag, ask));
    }

    /// The next that the store is to be asked, with the tag of its answer.
    pub fn next_ask(&mut self) -> Option<(u64, Ask)> {
        if self.asks.is_empty() {
            self.flush_reports();
        }
        self.asks.pop_front()
    }

    /// Events that are on their way to disk, and asks that wait for it.
    pub fn store_asks_open(&self) -> usize {
        self.pending.len()
    }

    /// What was done since this was last asked.
    pub fn take_counts(&mut self) -> super::Counts {
        self.counts.reports_lost += std::mem::take(&mut self.reports.lost);
        std::mem::take(&mut self.counts)
    }

    /// Bytes of history in memory.
    pub fn history_bytes(&self) -> u64 {
        self.history_bytes
    }

    /// Takes an answer of the store, and appends what follows from it.
    pub fn stored(
        &mut self,
        tag: u64,
        answer: Answer,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        if let Answer::Moved { stream, head } = answer {
            return self.moved(&stream, head, now);
        }
        let Some(pending) = self.pending.remove(&tag) else { return };
        let number = match pending {
            Pending::Later(asked) => return self.later_stored(asked, answer, now, render, out),
            Pending::Append(number, serial) => {
                self.appended(number, serial, answer, now, render, out);
                number
            }
            Pending::Open(number) => {
                self.opened(number, answer, now, render, out);
                number
            }
            Pending::Page(number, asker, query) => {
                self.read_done(number);
                self.paged(number, asker, &query, answer, now, out);
                number
            }
            Pending::Clean(number) => {
                self.read_done(number);
                self.clean_on(number, answer);
                number
            }
            Pending::Latest(number, page) => {
                self.read_done(number);
                self.latest_read(number, page, answer, now, out);
                number
            }
            Pending::Message(number, read) => {
                self.read_done(number);
                self.message_read(number, *read, answer, now, out);
                number
            }
            Pending::Read(number, reading) => {
                self.read_done(number);
                self.read_on(number, reading, answer, now, render, out);
                number
            }
            Pending::Purge(number, asker, before, is_reset) => {
                self.read_done(number);
                self.purged(number, asker, before, is_reset, answer, now, render, out);
                number
            }
            Pending::Annotations(number, read) => {
                self.read_done(number);
                self.annotations_read(number, *read, answer, now, out);
                number
            }
            Pending::Summaries(number, what) => {
                self.read_done(number);
                self.summaries_read(number, what, answer, now, render, out);
                number
            }
            Pending::Forgotten(number) => {
                self.read_done(number);
                number
            }
            Pending::Line(place) => return self.lined(&place, answer, now, render, out),
            Pending::Retained(read) => {
                self.reads_open -= 1;
                return self.retained_read(read, answer, out);
            }
            Pending::Values(read) => {
                self.reads_open -= 1;
                return self.values_read(read, answer, now, out);
            }
            Pending::Expiries(after) => return self.expiries_read(&after, answer, now),
            Pending::Reports(reports) => return self.reported(reports, &answer, now),
        };
        if self.channels.is_taken(number) && self.has_line(number) {
            // The first in line may have waited for what was on its way.
            self.advance(number, now, render, out);
        }
        self.settle_if_held(number, now);
    }

    pub(super) fn read_done(&mut self, number: u32) {
        if let Some(durable) = self.durable(number) {
            durable.reads_open -= 1;
        }
    }

    fn moved(&mut self, stream: &store::StreamKey, head: Head, now: Now) {
        let Some(channel) = self.keeping.rules.channel(stream) else { return };
        let Some(number) = self.find(&channel) else { return };
        self.learn(number, head);
        self.settle(number, now);
    }
}
