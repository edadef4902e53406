//! What channels keep beside their history: who carries out which ask, and reports on their way to the world outside.

use std::collections::VecDeque;

use bytes::Bytes;

use super::asking::Pending;
use super::line::Op;
use super::{Asker, Home};
use crate::base::event_id::EventId;
use crate::base::ids::{AppIndex, ShardId};
use crate::base::name::{Channel, Name};
use crate::base::time::{Millis, Nanos, Now, UnixMillis};
use crate::broker::{
    Command, Down, Event, Keep, Payload, Publish, Refusal, Render, Reply, Report, report, shelved,
};
use crate::store::{Answer, Ask, Change, Clock, NEVER, Shelf};

/// Reports that go to the store with one ask.
const REPORTS_PER_ASK: usize = 256;
/// Bytes of reports that wait for the store, at most; what does not fit any more is lost, and counted.
const REPORTS_BYTES_MAX: u64 = 16 << 20;
/// What a report counts for beside its body.
const REPORT_BYTES: u64 = 256;
/// How soon reports that the store did not take are tried again.
const REPORTS_RETRY: Millis = Millis(1_000);

/// Where an operation comes from, and what comes with it.
#[derive(Debug, Default)]
pub(super) struct Origin {
    /// Who is told what became of it.
    pub asker: Option<Asker>,
    /// The schedule that it was, which [`Home::carried_out`] hears of.
    pub schedule: Option<EventId>,
    /// The same publish, if it is to be tried again when it is refused.
    pub again: Option<Box<Publish>>,
    /// Changes of the store that are to be made together with it, or nothing is.
    pub changes: Vec<(Shelf, Change)>,
}

impl Origin {
    pub(super) fn of(asker: Asker, is_quiet: bool) -> Self {
        Self { asker: (!is_quiet).then_some(asker), ..Self::default() }
    }
}

/// A report, and when it happened.
pub(super) type Timed = (UnixMillis, Report);

/// Reports that are not on disk yet.
#[derive(Debug, Default)]
pub(super) struct Reports {
    waiting: VecDeque<Timed>,
    /// Of those that wait, and those that the store was asked to keep.
    bytes: u64,
    /// The store did not take some: until then none are tried.
    paused: Option<Nanos>,
    pub(super) lost: u64,
}

fn weight((_, report): &Timed) -> u64 {
    report.body.0.len() as u64 + REPORT_BYTES
}

impl Reports {
    pub(super) fn take(&mut self, report: Report, at: UnixMillis) {
        let report = (at, report);
        if self.bytes + weight(&report) > REPORTS_BYTES_MAX {
            self.lost += 1;
            return;
        }
        self.bytes += weight(&report);
        self.waiting.push_back(report);
    }
}

impl Home {
    /// Tells the world outside of an event, with what its publisher wants told with it, once that is on disk.
    pub(super) fn report_event(
        &mut self,
        event: &Event,
        about: Option<&Payload>,
        render: &dyn Render,
    ) {
        let mut told = Vec::new();
        render.report(event, about, &mut told);
        told.into_iter().for_each(|report| self.report(report, event.at));
    }

    /// What waits to be reported; it waits no more.
    #[cfg(test)]
    pub(super) fn take_reports(&mut self) -> Vec<Report> {
        self.reports.bytes = 0;
        self.reports.waiting.drain(..).map(|(_, report)| report).collect()
    }

    /// Tells the world outside something that happened `at` this time, once it is on disk.
    pub fn report(&mut self, report: Report, at: UnixMillis) {
        self.reports.take(report, at);
    }

    /// Carries out an ask about what a channel keeps beside its history.
    pub(super) fn ask_state(
        &mut self,
        asker: Asker,
        command: Command,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let reply = match command {
            Command::Renew(channel, renew) => self.renew(asker, &channel, &renew, now, render, out),
            Command::Retained(ref channel, _)
            | Command::FindRetained(ref channel, _)
            | Command::Values(ref channel, _) => {
                // Who has just written something finds it there.
                let number = self.find(channel).filter(|it| self.has_line(*it));
                let Some(number) = number else { return self.read_state(asker, command, out) };
                if !self.may_line_up(number, 0) {
                    return asker.answer(Reply::Refused(Refusal::StoreBusy), out);
                }
                let op = Op::Read(asker, Box::new(command));
                return self.line_up(number, op, 0, None, now, render, out);
            }
            command @ (Command::Annotate(_) | Command::Annotations(..) | Command::Summaries(_)) => {
                return self.ask_said(asker, command, now, render, out);
            }
            Command::React(react) => return self.react(asker, *react, now, render, out),
            Command::Mutate(mutate) => return self.mutate(asker, *mutate, now, render, out),
            Command::Latest(channel, message) => {
                return self.read_latest(asker, &channel, message, now, out);
            }
            Command::Versions(channel, query) => {
                return self.read_versions(asker, &channel, *query, now, out);
            }
            Command::SetValue(set) => {
                let origin = Origin::of(asker, set.quiet);
                return self.set_value(origin, *set, now, render, out);
            }
            _ => Reply::Refused(Refusal::StoreBusy),
        };
        asker.answer(reply, out);
    }

    /// Reads something of what a channel keeps for who asks.
    pub(super) fn read_state(
        &mut self,
        asker: Asker,
        command: Command,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        match command {
            Command::Retained(channel, query) => self.read_retained(asker, channel, *query, out),
            Command::FindRetained(channel, id) => self.find_retained(asker, channel, id, out),
            Command::Values(channel, query) => self.read_values(asker, channel, *query, out),
            _ => asker.answer(Reply::Refused(Refusal::StoreBusy), out),
        }
    }

    /// The id of an app, which names it in the store.
    pub(super) fn app_id(&self, app: AppIndex) -> Option<&Name> {
        self.keeping.rules.app_id(app)
    }

    /// What the keys of everything that a channel keeps begin with.
    pub(super) fn prefix(&self, channel: &Channel) -> Option<Bytes> {
        Some(shelved::prefix(self.app_id(channel.app)?, &channel.name))
    }

    /// When the time of something that is kept from now on is over.
    pub(super) fn until(&self, keep: Keep, now: Now) -> Clock {
        until(keep, self.clock(now))
    }

    /// The changes that put what the world outside is told of an event among what it is to be told.
    pub(super) fn shelve_report(
        &self,
        event: &Event,
        about: &Payload,
        render: &dyn Render,
    ) -> Vec<(Shelf, Change)> {
        let mut told = Vec::new();
        render.report(event, Some(about), &mut told);
        let push = |report: Report| {
            let value = report::encode(&report, self.app_id(report.app)?, event.at);
            Some((Shelf::Outbox, Change::Push { value }))
        };
        told.into_iter().filter_map(push).collect()
    }

    /// Sends reports that wait on their way to disk, before what is asked of the store next.
    pub(super) fn flush_reports(&mut self) {
        if self.reports.waiting.is_empty() || self.reports.paused.is_some() {
            return;
        }
        let count = self.reports.waiting.len().min(REPORTS_PER_ASK);
        let reports: Vec<_> = self.reports.waiting.drain(..count).collect();
        let push = |(at, report): &Timed| {
            let app_id = self.keeping.rules.app_id(report.app)?;
            Some((Shelf::Outbox, Change::Push { value: report::encode(report, app_id, *at) }))
        };
        let changes: Vec<_> = reports.iter().filter_map(push).collect();
        if changes.is_empty() {
            self.reports.bytes -= reports.iter().map(weight).sum::<u64>();
            return;
        }
        self.ask_now(Pending::Reports(reports), Ask::Change { changes });
    }

    /// The store has taken reports, or not: then they are tried again, before those that came since.
    pub(super) fn reported(&mut self, reports: Vec<Timed>, answer: &Answer, now: Now) {
        if matches!(answer, Answer::Changed) {
            self.reports.bytes -= reports.iter().map(weight).sum::<u64>();
            return;
        }
        for report in reports.into_iter().rev() {
            self.reports.waiting.push_front(report);
        }
        self.reports.paused = Some(now.steady + REPORTS_RETRY);
    }

    /// When reports are to be tried again.
    pub(super) fn reports_due(&self) -> Option<Nanos> {
        self.reports.paused
    }

    /// Tries them, if it is time.
    pub(super) fn retry_reports(&mut self, now: Now) {
        self.reports.paused.take_if(|it| *it <= now.steady);
    }
}

/// When the time of something that is kept from `clock` on is over.
pub(super) fn until(keep: Keep, clock: Clock) -> Clock {
    match keep {
        Keep::Forever => NEVER,
        // Only what is kept for ever never expires.
        Keep::For(span) => UnixMillis(clock.0.saturating_add(span.0).min(NEVER.0 - 1)),
    }
}
