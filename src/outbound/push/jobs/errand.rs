//! What changes a publish beside its sending, wherever it is: in memory, or on disk alone. One group of them at a time, and
//! one of each publish in a group: each sees what the one before it left.

use std::sync::Arc;

use super::job::{Body, Job};
use super::record::{Cursor, Place, Progress, Spec, mark, put, remove};
use super::*;
use crate::outbound::push::registry::Went;
use crate::push::device::Device;
use crate::push::publish::{Fate, State};
use crate::push::stored::decode;
use crate::store::Change;

/// Errands of one group.
const GROUP_MAX: usize = 64;
/// Devices of one publish that wait to be tried again on request.
const REPLAYS_MAX: usize = 1024;

/// What is to be done.
#[derive(Debug)]
pub enum Errand {
    /// Call a publish off.
    Cancel { caller: u64, app: Arc<str>, id: String },
    /// A callback says what came of a device.
    Feedback {
        caller: u64,
        app: Arc<str>,
        id: String,
        key: String,
        fate: Fate,
        message_id: Option<String>,
        reason: Option<String>,
    },
    /// A dead letter is to be tried again; which publish that is about is found out first.
    Replay { caller: u64, app: Arc<str>, number: u64, letter: Option<Box<DeadLetter>> },
    /// The time of a publish has come, says this entry of the queue.
    Due { app: Arc<str>, id: String, entry: Bytes },
    /// The time of a publish has passed long ago, and nobody said so.
    Lapsed { app: Arc<str>, id: String, at: u64 },
}

/// An errand whose records are being read.
pub struct Asked {
    errand: Errand,
    /// Its publish was in memory when that began.
    was_here: bool,
}

/// What an errand came to.
pub struct Done {
    /// The publish in memory that it is about: written in the same commit.
    pub job: Option<u64>,
    /// The dead letter that goes.
    pub letter: Option<u64>,
    /// To be written.
    pub changes: Vec<(Shelf, Change)>,
    /// And then?
    pub end: Outcome,
}

/// What follows when that is written.
pub enum Outcome {
    /// Nothing, and no errand waits for it.
    Dropped,
    /// Nothing.
    Nothing,
    /// Somebody is told.
    Tell(u64, Box<Told>),
    /// A publish is opened, and somebody is told.
    Open(Box<Job>, Option<(u64, Box<Told>)>),
    /// An entry of the queue is done with; perhaps a publish is opened.
    Entry(Option<Box<Job>>),
}

impl Errand {
    fn place(&self) -> Option<Place<'_>> {
        match self {
            Self::Cancel { app, id, .. }
            | Self::Feedback { app, id, .. }
            | Self::Due { app, id, .. }
            | Self::Lapsed { app, id, .. } => Some(Place { app, id }),
            Self::Replay { app, letter, .. } => {
                letter.as_ref().map(|it| Place { app, id: &it.publish_id })
            }
        }
    }

    fn caller(&self) -> Option<u64> {
        match self {
            Self::Cancel { caller, .. }
            | Self::Feedback { caller, .. }
            | Self::Replay { caller, .. } => Some(*caller),
            Self::Due { .. } | Self::Lapsed { .. } => None,
        }
    }
}

/// Where a dead letter is.
pub fn letter_key(app: &str, number: u64) -> Bytes {
    keys::key(keys::DEAD, app, &[&number.to_be_bytes()], true)
}

impl Jobs {
    /// Takes an errand.
    pub(super) fn send_on(&mut self, errand: Errand, out: &mut Vec<Step>) {
        if self.errands.len() >= ERRANDS_MAX
            && let Some(caller) = errand.caller()
        {
            let refused = Refused::unavailable("too many changes at once");
            return out.push(Step::Tell(caller, Err(refused)));
        }
        self.errands.push_back(errand);
    }

    /// Begins the next group.
    pub(super) fn run_errands(&mut self, now: Now, out: &mut Vec<Step>) {
        if self.errands_open > 0
            || self.errands.is_empty()
            || now.steady < self.store_at
            || self.is_open_stale
        {
            return;
        }
        let (mut group, mut asked_keys) = (Vec::new(), Vec::new());
        let mut places = std::collections::HashSet::new();
        while group.len() < GROUP_MAX {
            let Some(errand) = self.errands.pop_front() else { break };
            let place = match (errand.place(), &errand) {
                (Some(place), _) => place.progress(),
                (None, Errand::Replay { app, number, .. }) => letter_key(app, *number),
                (None, _) => Bytes::new(),
            };
            if !places.insert(place.clone()) {
                self.errands.push_front(errand);
                break;
            }
            asked_keys.push(place);
            if let Some(place) = errand.place() {
                match &errand {
                    Errand::Due { .. } => asked_keys.push(place.spec()),
                    Errand::Feedback { app, key, .. } => {
                        asked_keys.push(place.outcome(key));
                        asked_keys.push(keys::key(keys::DEVICE, app, &[key.as_bytes()], true));
                    }
                    Errand::Replay { letter: Some(letter), app, number, .. } => {
                        asked_keys.extend([place.spec(), place.outcome(&letter.key)]);
                        asked_keys.push(letter_key(app, *number));
                    }
                    _ => {}
                }
            }
            let was_here = errand.place().is_some_and(|it| self.by_key.contains_key(&it.open()));
            group.push(Asked { errand, was_here });
        }
        self.errands_open = group.len();
        let ask = Ask::Pick { shelf: Shelf::Push, keys: asked_keys };
        self.ask(super::Asked::Errands(group), ask, out);
    }

    /// Records that errands change are read.
    pub(super) fn errands_read(
        &mut self,
        group: Vec<Asked>,
        answer: Answer,
        registry: &mut Registry,
        now: Now,
        out: &mut Vec<Step>,
    ) {
        let Answer::Values { values, .. } = answer else {
            self.store_at = now.steady + STORE_PAUSE;
            self.errands_open = 0;
            for it in group.into_iter().rev() {
                match it.errand.caller() {
                    Some(caller) => {
                        let refused = Refused::unavailable("the store does not answer");
                        out.push(Step::Tell(caller, Err(refused)));
                    }
                    None => self.errands.push_front(it.errand),
                }
            }
            return;
        };
        let values: HashMap<Bytes, Bytes> = values.into_iter().collect();
        for Asked { errand, was_here } in group {
            let is_here = errand.place().is_some_and(|it| self.by_key.contains_key(&it.open()));
            let is_coming = errand.place().is_some_and(|it| self.accepting.contains(&it.open()));
            if was_here && !is_here || is_coming {
                // What was read may be older than what was written when it ended, or is of one that is about to be known.
                self.errands_open -= 1;
                self.errands.push_front(errand);
                continue;
            }
            self.run_errand(errand, &values, registry, now, out);
        }
    }

    fn run_errand(
        &mut self,
        errand: Errand,
        values: &HashMap<Bytes, Bytes>,
        registry: &mut Registry,
        now: Now,
        out: &mut Vec<Step>,
    ) {
        let progress = errand
            .place()
            .and_then(|it| values.get(&it.progress()))
            .and_then(|it| decode::<Progress>(it));
        let here = errand.place().and_then(|it| self.by_key.get(&it.open()).copied());
        if let (Some(job), Some(progress)) = (here.and_then(|it| self.jobs.get_mut(&it)), &progress)
            && !job.is_known
        {
            job.know(progress.clone());
        }
        match errand {
            Errand::Cancel { caller, app, id } => {
                self.errands_open -= 1;
                let place = Place { app: &app, id: &id };
                if let Some(number) = here {
                    return self.cancel_here(number, caller, now, out);
                }
                let Some(mut progress) = progress.filter(|it| !it.state.is_final()) else {
                    return out.push(Step::Tell(caller, Ok(Told::Cancelled(false))));
                };
                self.finish_record(&mut progress, State::Cancelled, now);
                let mut changes = vec![remove(place.open())];
                if let Some(at) = progress.not_before {
                    changes.push(remove(place.waiting(at)));
                }
                changes.push(put(place.progress(), &progress, self.expires(&progress, now)));
                let end = Outcome::Tell(caller, Box::new(Told::Cancelled(true)));
                self.settle_errand(Done { job: None, letter: None, changes, end });
            }
            Errand::Lapsed { app, id, at } => {
                let place = Place { app: &app, id: &id };
                let mut changes = vec![remove(place.waiting(at))];
                if let Some(mut progress) = progress.filter(|it| it.is_waiting && here.is_none()) {
                    self.finish_record(&mut progress, State::Expired, now);
                    progress.error_reason = Some("its time came and was not told".to_owned());
                    changes.push(put(place.progress(), &progress, self.expires(&progress, now)));
                }
                self.errands_open -= 1;
                self.settle_errand(Done {
                    job: None,
                    letter: None,
                    changes,
                    end: Outcome::Nothing,
                });
            }
            Errand::Due { app, id, entry } => {
                self.errands_open -= 1;
                let place = Place { app: &app, id: &id };
                let mut changes = vec![(Shelf::PushQueue, Change::Remove { key: entry })];
                let spec = values.get(&place.spec()).and_then(|it| decode::<Spec>(it));
                let mut opened = None;
                // One that was called off, or is open already, needs no more than that.
                if let (Some(mut progress), Some(spec), None) =
                    (progress.filter(|it| it.is_waiting), spec, here)
                {
                    progress.is_waiting = false;
                    changes.push(put(place.progress(), &progress, self.expires(&progress, now)));
                    changes.push(remove(place.waiting(progress.not_before.unwrap_or(0))));
                    changes.push(mark(place.open()));
                    let body = self.body_of(spec);
                    opened = Some(Box::new(Job::new(app, id.into(), progress, body)));
                }
                self.settle_errand(Done {
                    job: None,
                    letter: None,
                    changes,
                    end: Outcome::Entry(opened),
                });
            }
            Errand::Feedback { caller, app, id, key, fate, message_id, reason } => {
                self.errands_open -= 1;
                let place = Place { app: &app, id: &id };
                let known = values.get(&place.outcome(&key));
                let Some(known) = known.and_then(|it| decode::<crate::push::publish::Outcome>(it))
                else {
                    let is_live = here
                        .and_then(|it| self.jobs.get(&it))
                        .is_some_and(|it| it.live.contains_key(&key));
                    let refused = match is_live {
                        true => Refused::unavailable("the provider has not answered yet"),
                        false => Refused::unknown("nothing was sent to this device"),
                    };
                    return out.push(Step::Tell(caller, Err(refused)));
                };
                // That it was taken is no news of one that was delivered.
                let is_news = fate != known.fate
                    && !(fate == Fate::Accepted && known.fate == Fate::Delivered);
                if !is_news {
                    return out.push(Step::Tell(caller, Ok(Told::Done)));
                }
                let mut outcome = known.clone();
                (outcome.fate, outcome.at) = (fate, now.wall.0);
                outcome.message_id = message_id.or(outcome.message_id);
                outcome.reason = reason.or(outcome.reason);
                let recount = |progress: &mut Progress| {
                    progress.count(&known, false);
                    progress.count(&outcome, true);
                };
                let kept = now.wall.0.saturating_add(self.settings.retention.0.saturating_mul(2));
                let mut changes = vec![put(place.outcome(&key), &outcome, kept)];
                match (here.and_then(|it| self.jobs.get_mut(&it)), progress) {
                    (Some(job), _) => recount(&mut job.progress),
                    (None, Some(mut progress)) => {
                        recount(&mut progress);
                        let expires = self.expires(&progress, now);
                        changes.push(put(place.progress(), &progress, expires));
                    }
                    (None, None) => {}
                }
                let kind = match fate {
                    Fate::Delivered => "push.delivered",
                    Fate::Gone => "push.device_removed",
                    Fate::Accepted => "push.accepted",
                    _ => "push.failed",
                };
                changes.extend(self.report_of(kind, &app, &id, &key, &outcome, now));
                let device = keys::key(keys::DEVICE, &app, &[key.as_bytes()], true);
                let device = values.get(&device).and_then(|it| decode::<Device>(it));
                if let (Some(device), Fate::Gone) = (device, fate) {
                    if let Some(provider) = outcome.provider {
                        self.counts.pruned[provider as usize].fetch_add(1, Ordering::Relaxed);
                    }
                    registry.went(&app, &device, Went::Gone, now, out);
                }
                let end = Outcome::Tell(caller, Box::new(Told::Done));
                self.settle_errand(Done { job: here, letter: None, changes, end });
            }
            Errand::Replay { caller, app, number, letter: None } => {
                self.errands_open -= 1;
                let letter = values.get(&letter_key(&app, number));
                let Some(letter) = letter.and_then(|it| decode::<DeadLetter>(it)) else {
                    let refused = Refused::unknown("there is no such dead letter");
                    return out.push(Step::Tell(caller, Err(refused)));
                };
                let letter = Some(Box::new(letter));
                self.errands.push_front(Errand::Replay { caller, app, number, letter });
            }
            Errand::Replay { caller, app, number, letter: Some(letter) } => {
                self.errands_open -= 1;
                let place = Place { app: &app, id: &letter.publish_id };
                let letter_place = letter_key(&app, number);
                let spec = values.get(&place.spec()).and_then(|it| decode::<Spec>(it));
                let known = values
                    .get(&place.outcome(&letter.key))
                    .and_then(|it| decode::<crate::push::publish::Outcome>(it))
                    .filter(|it| it.fate == Fate::DeadLettered);
                let (Some(spec), Some(known), Some(mut progress)) = (spec, known, progress) else {
                    return out.push(Step::Tell(caller, Ok(Told::Replayed(false))));
                };
                let is_late = self.ends_at(&spec, &progress) <= now.wall.0;
                let is_off = progress.state == State::Cancelled;
                if is_late || is_off || !values.contains_key(&letter_place) {
                    return out.push(Step::Tell(caller, Ok(Told::Replayed(false))));
                }
                let mut changes = vec![remove(letter_place), remove(place.outcome(&letter.key))];
                let target = spec.intent.targets.len() as u32;
                let told = Box::new(Told::Replayed(true));
                if let Some(job) = here.and_then(|it| self.jobs.get_mut(&it)) {
                    // A letter may be seen before it is known here that it was written.
                    let is_live =
                        job.live.contains_key(&letter.key) || job.progress.state.is_final();
                    if job.is_over || is_live || job.progress.replays.len() >= REPLAYS_MAX {
                        let refused = Refused::unavailable("its publish is being finished");
                        return out.push(Step::Tell(caller, Err(refused)));
                    }
                    job.progress.count(&known, false);
                    if job.is_planned {
                        let seen = job.progress.replays.len() as u32;
                        job.next = Cursor { target, after: seen.to_be_bytes().to_vec() };
                        job.is_planned = false;
                    }
                    job.progress.replays.push(letter.key.clone());
                    // What is read before the outcome is gone from the disk would take it for one.
                    job.is_held = true;
                    let end = Outcome::Tell(caller, told);
                    let letter = Some(number);
                    return self.settle_errand(Done { job: here, letter, changes, end });
                }
                progress.count(&known, false);
                (progress.state, progress.finished_at) = (State::Accepted, None);
                progress.error_reason = None;
                progress.replays = vec![letter.key.clone()];
                progress.cursor = Cursor { target, after: Vec::new() };
                changes.push(put(place.progress(), &progress, self.expires(&progress, now)));
                changes.push(mark(place.open()));
                let body = self.body_of(spec);
                let job = Job::new(Arc::clone(&app), place.id.into(), progress, body);
                let end = Outcome::Open(Box::new(job), Some((caller, told)));
                self.settle_errand(Done { job: None, letter: Some(number), changes, end });
            }
        }
    }

    /// An errand's changes are to be written; the group is not over before they are.
    fn settle_errand(&mut self, done: Done) {
        self.errands_open += 1;
        // What was counted in memory alone would go with a publish that is forgotten before this is written.
        self.dirty.extend(done.job);
        self.done.push(done);
    }

    fn body_of(&self, spec: Spec) -> Body {
        let bytes = admit::bytes_of(&spec);
        match self.bodies_bytes + bytes > BODIES_BYTES_MAX {
            true => Body::Absent,
            false => Body::Here(Arc::new(spec), bytes),
        }
    }

    fn finish_record(&self, progress: &mut Progress, state: State, now: Now) {
        (progress.state, progress.is_waiting) = (state, false);
        progress.finished_at = Some(now.wall.0);
        self.counts.finished[state as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Calls a publish off that is in memory.
    fn cancel_here(&mut self, number: u64, caller: u64, now: Now, out: &mut Vec<Step>) {
        let Some(job) = self.jobs.get_mut(&number) else { return };
        // One that is found again after a failure of the store may have ended before it was.
        if job.is_over || job.progress.state.is_final() {
            return out.push(Step::Tell(caller, Ok(Told::Cancelled(false))));
        }
        job.cancellers.push(caller);
        self.end(number, State::Cancelled, "", now);
    }

    /// What an errand came to is on disk.
    pub(super) fn errand_settled(&mut self, done: Done, out: &mut Vec<Step>) {
        let Done { job, letter, end, .. } = done;
        if let Some(number) = letter {
            self.dead.remove(&number);
        }
        if let Some(job) = job.and_then(|it| self.jobs.get_mut(&it)) {
            job.is_held = false;
        }
        if let Some(number) = job {
            self.want_page(number);
        }
        match end {
            Outcome::Dropped => return,
            Outcome::Nothing => {}
            Outcome::Tell(caller, told) => out.push(Step::Tell(caller, Ok(*told))),
            Outcome::Open(job, told) => {
                self.open_job(*job);
                if let Some((caller, told)) = told {
                    out.push(Step::Tell(caller, Ok(*told)));
                }
            }
            Outcome::Entry(job) => {
                if let Some(job) = job {
                    self.open_job(*job);
                }
                self.queue_open -= 1;
            }
        }
        self.errands_open -= 1;
    }
}
