//! Writing what came of devices, and how far publishes are, in one commit: what is on disk is always whole.

use super::errand::Done;
use super::job::Job;
use super::record::{PAGE_DEVICES, Progress, Quota, put, remove};
use super::*;
use crate::base::ids::AppIndex;
use crate::broker::{Payload, Report};
use crate::outbound::push::outbox_value;
use crate::push::publish::{Counters, Fate, State, Status};
use crate::store::{Change, NEVER};
use crate::wire::json;

/// Outcomes written in one commit.
const OUTCOMES_MAX: usize = 1024;
/// Publishes whose records are written in one commit beside those that have outcomes in it.
const JOBS_MAX: usize = 1024;
/// Different reasons of one publish that are counted, for its line in the log.
const REASONS_MAX: usize = 8;
/// Commits are no closer than this, so that each carries more: what is answered meanwhile is sent again after a crash.
const SETTLE_PAUSE: Millis = Millis(20);

/// A device that has its outcome.
pub struct Finished {
    /// Of which publish, by its number.
    pub job: u64,
    /// Of which run of it.
    pub run: u64,
    /// Its key.
    pub key: String,
    /// What came of it.
    pub outcome: Outcome,
    /// It was handed to a provider.
    pub was_sent: bool,
}

/// What an app used of its daily bound.
#[derive(Debug, Default)]
pub struct Used {
    /// None: it is being read.
    pub quota: Option<Quota>,
    /// It is to be written.
    pub is_dirty: bool,
}

/// What is being written.
#[derive(Default)]
pub struct Settling {
    /// The store has it.
    is_asked: bool,
    changes: Vec<(Shelf, Change)>,
    outcomes: Vec<(u64, String, bool)>,
    jobs: Vec<(u64, Progress)>,
    done: Vec<Done>,
    letters: Vec<(u64, Arc<str>)>,
    /// Dead letters that go.
    gone: Vec<u64>,
}

impl Settling {
    /// How many devices' outcomes are in it.
    pub fn outcomes(&self) -> usize {
        self.outcomes.len()
    }
}

impl Jobs {
    /// Something waits to be written.
    fn has_news(&self) -> bool {
        let is_over = self.dead.len() as u64 > self.settings.dead_letters_max;
        !self.finished.is_empty() || !self.dirty.is_empty() || !self.done.is_empty() || is_over
    }

    /// When it is to be written, if there is something.
    pub(super) fn settle_due(&self) -> Option<Nanos> {
        let is_waiting = match &self.settling {
            Some(it) => !it.is_asked,
            None => self.has_news(),
        };
        is_waiting.then_some(self.settle_at.max(self.store_at))
    }

    /// Writes what has changed.
    pub(super) fn settle(&mut self, now: Now, out: &mut Vec<Step>) {
        if self.settle_due().is_none_or(|at| now.steady < at) {
            return;
        }
        if self.settling.is_none() {
            self.settling = Some(self.gather(now));
        }
        let Some(it) = &mut self.settling else { return };
        it.is_asked = true;
        let ask = Ask::Change { changes: it.changes.clone() };
        self.settle_at = now.steady + SETTLE_PAUSE;
        self.ask(Asked::Settled, ask, out);
    }

    /// Gathers what has changed. What is told of a publish and what is told of its devices goes together, always.
    fn gather(&mut self, now: Now) -> Settling {
        let mut it = Settling::default();
        let mut jobs = BTreeSet::new();
        for mut done in std::mem::take(&mut self.done) {
            it.changes.append(&mut done.changes);
            jobs.extend(done.job);
            it.done.push(done);
        }
        let take = self.finished.len().min(OUTCOMES_MAX);
        for finished in self.finished.drain(..take).collect::<Vec<_>>() {
            jobs.insert(finished.job);
            self.settle_outcome(finished, &mut it, now);
        }
        jobs.extend(self.dirty.iter().take(JOBS_MAX));
        for number in jobs {
            self.dirty.remove(&number);
            self.settle_job(number, &mut it, now);
        }
        for (app, used) in &mut self.quotas {
            if let (true, Some(quota)) = (std::mem::take(&mut used.is_dirty), &used.quota) {
                let expires = (quota.day + 2) * 86_400_000;
                it.changes.push(put(send::quota_key(app), quota, expires));
            }
        }
        self.drop_letters(&mut it);
        it
    }

    fn settle_outcome(&mut self, finished: Finished, it: &mut Settling, now: Now) {
        let Finished { job: number, run, key, outcome, was_sent } = finished;
        let Some(job) = self.jobs.get_mut(&number) else { return };
        job.unwritten -= 1;
        job.progress.count(&outcome, true);
        job.note_reason(&outcome);
        if let Some(run) = job.runs.iter_mut().find(|it| it.number == run) {
            run.open -= 1;
        }
        let expires = now.wall.0.saturating_add(self.settings.retention.0.saturating_mul(2));
        it.changes.push(put(job.place().outcome(&key), &outcome, expires));
        let (app, id) = (Arc::clone(&job.app), Arc::clone(&job.id));
        if outcome.fate == Fate::DeadLettered {
            let letter = DeadLetter {
                app: app.to_string(),
                publish_id: id.to_string(),
                provider: outcome.provider,
                key: key.clone(),
                stage: "dispatch".to_owned(),
                reason: outcome.reason.clone().unwrap_or_default(),
                at: now.wall.0,
                is_replayable: true,
            };
            self.dead_last += 1;
            let place = errand::letter_key(&app, self.dead_last);
            it.changes.push(put(place, &letter, NEVER.0));
            it.letters.push((self.dead_last, Arc::clone(&app)));
        }
        let kind = match outcome.fate {
            Fate::Accepted => Some("push.accepted"),
            Fate::Delivered => Some("push.delivered"),
            Fate::Gone => Some("push.device_removed"),
            Fate::Failed | Fate::DeadLettered | Fate::Expired => Some("push.failed"),
            Fate::Connected | Fate::Skipped => None,
        };
        if let Some(kind) = kind {
            it.changes.extend(self.report_of(kind, &app, &id, &key, &outcome, now));
        }
        it.outcomes.push((number, key, was_sent));
    }

    fn settle_job(&mut self, number: u64, it: &mut Settling, now: Now) {
        let Some(job) = self.jobs.get_mut(&number) else { return };
        job.runs.retain(|it| it.open > 0);
        job.progress.cursor = job.cursor();
        let is_done = job.is_idle() && job.unwritten == 0 && (job.is_planned || job.is_over);
        if is_done && !job.progress.state.is_final() {
            let is_expired = job.is_over;
            job.progress.state = job.progress.verdict(is_expired);
            job.progress.finished_at = Some(now.wall.0);
            if !std::mem::replace(&mut job.is_over, true) {
                self.open -= 1;
            }
        } else if !job.progress.state.is_final() {
            job.progress.state = match job.progress.counters.planned {
                0 => State::Planning,
                _ => State::Dispatching,
            };
        }
        let is_final = job.progress.state.is_final();
        if is_final {
            job.progress.replays.clear();
        }
        if job.progress == job.written && !is_final {
            return;
        }
        if is_final && !job.written.state.is_final() {
            it.changes.push(remove(job.place().open()));
        }
        let (progress, place) = (job.progress.clone(), job.place().progress());
        let is_news = is_final && !job.written.state.is_final();
        let (app, id) = (Arc::clone(&job.app), Arc::clone(&job.id));
        let expires = self.expires(&progress, now);
        it.changes.push(put(place, &progress, expires));
        if is_news {
            it.changes.extend(self.report_end(&app, &id, &progress, now));
        }
        it.jobs.push((number, progress));
    }

    /// Drops the oldest dead letters above their bound.
    fn drop_letters(&mut self, it: &mut Settling) {
        let most = self.settings.dead_letters_max as usize;
        let over = (self.dead.len() + it.letters.len()).saturating_sub(most);
        let old: Vec<_> = self.dead.iter().take(over).map(|it| (*it.0, Arc::clone(it.1))).collect();
        for (number, app) in old {
            it.changes.push(remove(errand::letter_key(&app, number)));
            it.gone.push(number);
        }
    }

    /// What was written is on disk, or not.
    pub(super) fn settled(&mut self, answer: Answer, now: Now, out: &mut Vec<Step>) {
        if !matches!(answer, Answer::Changed) {
            if let Some(it) = &mut self.settling {
                it.is_asked = false;
            }
            // Whether it is on disk is not known, or there is no room: the same again leaves the same.
            self.store_at = now.steady + STORE_PAUSE;
            return;
        }
        let Some(it) = self.settling.take() else { return };
        for (number, app) in it.letters {
            self.dead.insert(number, app);
        }
        for number in &it.gone {
            self.dead.remove(number);
        }
        if !it.gone.is_empty() {
            out.push(Step::Say(Note::Dropped(it.gone.len() as u64)));
        }
        for (number, key, was_sent) in it.outcomes {
            let Some(job) = self.jobs.get_mut(&number) else { continue };
            job.live.remove(&key);
            job.tried -= u64::from(was_sent);
            if job.is_reading {
                job.fresh.insert(key);
            }
        }
        for (number, progress) in it.jobs {
            self.job_settled(number, progress, out);
        }
        for done in it.done {
            self.errand_settled(done, out);
        }
    }

    /// A publish's record is on disk.
    fn job_settled(&mut self, number: u64, progress: Progress, out: &mut Vec<Step>) {
        let Some(job) = self.jobs.get_mut(&number) else { return };
        let was_final = job.written.state.is_final();
        let is_final = progress.state.is_final();
        job.written = progress;
        if is_final && !was_final {
            let (app, status) = (job.app.to_string(), job.status_written());
            for caller in std::mem::take(&mut job.cancellers) {
                out.push(Step::Tell(caller, Ok(Told::Cancelled(true))));
            }
            let why = job.commonest_reason();
            self.has_finished(app, status, why, out);
            let Some(job) = self.jobs.get_mut(&number) else { return };
            let waiters = std::mem::take(&mut job.waiters);
            if !waiters.is_empty() {
                let rendered = std::mem::take(&mut job.rendered);
                let prefix = job.place().outcomes();
                let ask = Ask::read(Shelf::Push, prefix.clone(), None, PAGE_DEVICES as u32);
                let listing = Listing::Ended(prefix, job.status_written(), waiters, rendered);
                self.ask(Asked::Listed(Box::new(listing)), ask, out);
            }
        }
        let Some(job) = self.jobs.get(&number) else { return };
        let is_quiet = job.is_idle() && job.live.is_empty() && !self.dirty.contains(&number);
        if is_final && is_quiet {
            self.forget(number);
        }
    }

    /// Nothing more comes of a publish, and that is on disk.
    pub(super) fn has_finished(
        &mut self,
        app: String,
        status: Status,
        why: Option<String>,
        out: &mut Vec<Step>,
    ) {
        self.counts.finished[status.state as usize].fetch_add(1, Ordering::Relaxed);
        let Counters { planned, succeeded, .. } = status.counters;
        let (id, state) = (status.id.clone(), status.state);
        let why = why.filter(|_| succeeded < planned);
        let note = Note::Finished(app.clone(), id, state, planned, succeeded, why);
        out.push(Step::Say(note));
        if self.shown.len() >= SHOWN_MAX {
            self.shown.pop_front();
        }
        self.shown.push_back(Shown { app, status });
    }

    /// A publish is not needed here any more.
    pub(super) fn forget(&mut self, number: u64) {
        let Some(job) = self.jobs.remove(&number) else { return };
        self.by_key.remove(&job.place().open());
        self.ends.remove(&(job.ends_at, number));
        self.dirty.remove(&number);
        if let job::Body::Here(_, bytes) = job.body {
            self.bodies_bytes -= bytes;
        }
        if !job.is_over {
            self.open -= 1;
        }
    }

    /// A report about one device, if somebody wants it.
    pub(super) fn report_of(
        &self,
        kind: &str,
        app: &str,
        id: &str,
        key: &str,
        outcome: &Outcome,
        now: Now,
    ) -> Option<(Shelf, Change)> {
        if !(self.wants)(app, kind) {
            return None;
        }
        let mut body = Object::of(kind, app, now);
        body.text("publish_id", id).text("device_id", key);
        if let Some(provider) = outcome.provider {
            body.text("provider", provider.as_str());
        }
        body.text("outcome", outcome.fate.as_str());
        body.number("attempts", u64::from(outcome.attempts));
        if let Some(message_id) = &outcome.message_id {
            body.text("message_id", message_id);
        }
        if let Some(reason) = &outcome.reason {
            body.text("reason", reason);
        }
        Some(report(kind, app, body, now))
    }

    /// A report that nothing more comes of a publish, if somebody wants it.
    pub(super) fn report_end(
        &self,
        app: &str,
        id: &str,
        progress: &Progress,
        now: Now,
    ) -> Option<(Shelf, Change)> {
        const KIND: &str = "push.finished";
        if !(self.wants)(app, KIND) {
            return None;
        }
        let it = &progress.counters;
        let mut body = Object::of(KIND, app, now);
        body.text("publish_id", id).text("state", progress.state.as_str());
        for (name, count) in [
            ("planned", it.planned),
            ("dispatched", it.dispatched),
            ("succeeded", it.succeeded),
            ("failed", it.failed),
            ("expired", it.expired),
            ("skipped", it.skipped),
            ("dead_lettered", it.dead_lettered),
        ] {
            body.number(name, count);
        }
        Some(report(KIND, app, body, now))
    }
}

impl Job {
    /// Remembers why a device was not taken, as far as there is room for another reason.
    fn note_reason(&mut self, outcome: &Outcome) {
        if matches!(outcome.fate, Fate::Accepted | Fate::Delivered) {
            return;
        }
        let provider = outcome.provider.map_or("unknown", |it| it.as_str());
        let reason = outcome.reason.as_deref().unwrap_or(outcome.fate.as_str());
        let said = match outcome.status {
            0 => format!("{provider} {reason}"),
            status => format!("{provider} {status} {reason}"),
        };
        if let Some((_, devices)) = self.reasons.iter_mut().find(|it| it.0 == said) {
            *devices += 1;
        } else if self.reasons.len() < REASONS_MAX {
            self.reasons.push((said, 1));
        }
    }

    /// Why most devices were not taken, of those that this process heard of.
    fn commonest_reason(&self) -> Option<String> {
        self.reasons.iter().max_by_key(|it| it.1).map(|it| it.0.clone())
    }

    /// As it is on disk.
    fn status_written(&self) -> Status {
        self.written.status(&self.id, (0, 0, 0))
    }
}

fn report(kind: &str, app: &str, body: Object, now: Now) -> (Shelf, Change) {
    let report = Report {
        // Its receivers are found by the app's id.
        app: AppIndex(0),
        kind: kind.into(),
        channel: None,
        fields: Vec::new(),
        body: Payload(body.end()),
    };
    (Shelf::Outbox, Change::Push { value: outbox_value(&report, app, now) })
}

/// A JSON object in the making.
struct Object(Vec<u8>);

impl Object {
    /// One that says what it tells of: a receiver may be told of several kinds.
    fn of(kind: &str, app: &str, now: Now) -> Self {
        let mut it = Self(Vec::from(*b"{"));
        it.text("type", kind).text("app_id", app).number("at_ms", now.wall.0);
        it
    }

    fn name(&mut self, name: &str) {
        if self.0.len() > 1 {
            self.0.push(b',');
        }
        json::write_str(&mut self.0, name);
        self.0.push(b':');
    }

    fn text(&mut self, name: &str, text: &str) -> &mut Self {
        self.name(name);
        json::write_str(&mut self.0, text);
        self
    }

    fn number(&mut self, name: &str, number: u64) -> &mut Self {
        self.name(name);
        self.0.extend_from_slice(number.to_string().as_bytes());
        self
    }

    fn end(mut self) -> Bytes {
        self.0.push(b'}');
        self.0.into()
    }
}
