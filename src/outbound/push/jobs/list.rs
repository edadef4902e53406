//! What is only looked at: where a publish is, what came of its devices, dead letters, how all is.

use super::job::Job;
use super::record::{Place, Progress};
use super::*;
use crate::push::Provider;
use crate::push::order::{Overview, Page, PageOf, ProviderShown};
use crate::push::publish::{State, Status};
use crate::push::stored::decode;

/// Publishes that the console shows.
const PUBLISHES_MAX: usize = 100;
/// Those of them whose time is to come, which are looked up on disk.
const WAITING_MAX: usize = 25;

/// A page for somebody.
pub enum Listing {
    /// Where a publish is.
    Status(u64, String),
    /// What came of its devices: whose, behind which prefix, and of which publish.
    Outcomes(u64, Bytes, Arc<str>, String),
    /// Dead letters, behind which prefix, of which provider and time.
    Dead(u64, Bytes, Option<Provider>, u64, u64),
    /// What came of the devices of a publish that was waited for: behind which prefix, where it is, who waits.
    Ended(Bytes, Status, Vec<u64>, Rendered),
    /// Which publishes wait for their time, for the console.
    Marks(u64),
    /// Where these are.
    Waiting(u64, Vec<(String, String)>),
}

impl Jobs {
    /// As it is told.
    pub(super) fn status_of(&self, job: &Job, now: Nanos) -> Status {
        let live = (job.live.len() as u64, job.tried, job.retrying);
        let mut status = job.written.status(&job.id, live);
        if !status.state.is_final() {
            let credential = job.spec().and_then(|it| it.intent.credential_id.clone());
            let providers =
                || Provider::ALL.into_iter().filter(|it| !job.ready[*it as usize].is_empty());
            let opens = |provider: Provider| {
                let (app, credential) = (Arc::clone(&job.app), credential.clone());
                let key = LaneKey { app, provider, credential };
                self.lanes.get(&key).and_then(|it| it.opens_at(now))
            };
            let paused = providers().map(opens).collect::<Option<Vec<_>>>();
            let at = paused.and_then(|it| it.into_iter().min());
            if let Some(at) = at {
                status.state = State::Throttled;
                status.retry_after = Some(at.since(now).as_millis() as u64);
            } else if job.tried > 0 {
                // What is on disk counts what is done with: a first device that is tried again is not.
                status.state = State::Dispatching;
            }
        }
        status
    }

    /// Somebody asks where a publish is.
    pub(super) fn tell_status(
        &mut self,
        caller: u64,
        app: &str,
        id: String,
        now: Now,
        out: &mut Vec<Step>,
    ) {
        let place = Place { app, id: &id };
        let here = self.by_key.get(&place.open()).and_then(|it| self.jobs.get(it));
        if let Some(job) = here.filter(|it| it.is_known) {
            let told = Told::Status(Box::new(self.status_of(job, now.steady)));
            return out.push(Step::Tell(caller, Ok(told)));
        }
        let ask = Ask::Pick { shelf: Shelf::Push, keys: vec![place.progress()] };
        let listing = Listing::Status(caller, id);
        self.ask(Asked::Listed(Box::new(listing)), ask, out);
    }

    /// Somebody asks what came of the devices of a publish.
    pub(super) fn list_outcomes(
        &mut self,
        caller: u64,
        app: &str,
        id: String,
        page: PageOf,
        out: &mut Vec<Step>,
    ) {
        let prefix = Place { app, id: &id }.outcomes();
        let ask = read(&prefix, &page);
        let listing = Listing::Outcomes(caller, prefix, app.into(), id);
        self.ask(Asked::Listed(Box::new(listing)), ask, out);
    }

    /// Somebody asks for dead letters.
    pub(super) fn list_dead(
        &mut self,
        caller: u64,
        app: &str,
        (provider, since, until): (Option<Provider>, Option<u64>, Option<u64>),
        page: PageOf,
        out: &mut Vec<Step>,
    ) {
        let prefix = keys::key(keys::DEAD, app, &[], false);
        let ask = read(&prefix, &page);
        let (since, until) = (since.unwrap_or(0), until.unwrap_or(u64::MAX));
        let listing = Listing::Dead(caller, prefix, provider, since, until);
        self.ask(Asked::Listed(Box::new(listing)), ask, out);
    }

    /// What somebody asked for is read.
    pub(super) fn listed(
        &mut self,
        listing: Listing,
        answer: Answer,
        now: Now,
        out: &mut Vec<Step>,
    ) {
        let (values, has_more) = match (answer, &listing) {
            (Answer::Values { values, has_more }, _) => (values, has_more),
            // What came of it device by device is not known, but where it is.
            (_, Listing::Ended(..) | Listing::Marks(_) | Listing::Waiting(..)) => {
                (Vec::new(), false)
            }
            (
                _,
                Listing::Status(caller, ..)
                | Listing::Outcomes(caller, ..)
                | Listing::Dead(caller, ..),
            ) => {
                let refused = Refused::unavailable("the store does not answer");
                return out.push(Step::Tell(*caller, Err(refused)));
            }
        };
        let next = |prefix: &Bytes| {
            let last = values.last().filter(|_| has_more)?;
            Some(last.0.slice(prefix.len()..))
        };
        match listing {
            Listing::Status(caller, id) => {
                let known = values.first().and_then(|it| decode::<Progress>(&it.1));
                let told = match known {
                    Some(it) => Ok(Told::Status(Box::new(it.status(&id, (0, 0, 0))))),
                    None => Err(Refused::unknown("there is no such publish")),
                };
                out.push(Step::Tell(caller, told));
            }
            Listing::Outcomes(caller, prefix, app, id) => {
                if values.is_empty() && !has_more {
                    // Of none, or of one that has none yet.
                    return self.tell_none(caller, &app, id, out);
                }
                let next = next(&prefix);
                let rows = outcomes(&prefix, &values);
                out.push(Step::Tell(caller, Ok(Told::Outcomes(Page { rows, next }))));
            }
            Listing::Dead(caller, prefix, provider, since, until) => {
                let next = next(&prefix);
                let rows = values.iter().filter_map(|(key, value)| {
                    let number = key.get(prefix.len()..)?.first_chunk::<8>()?;
                    let letter = decode::<DeadLetter>(value)?;
                    let is_wanted = provider.is_none_or(|it| letter.provider == Some(it))
                        && (since..=until).contains(&letter.at);
                    is_wanted.then(|| (u64::from_be_bytes(*number), letter))
                });
                let rows = rows.collect();
                out.push(Step::Tell(caller, Ok(Told::DeadLetters(Page { rows, next }))));
            }
            Listing::Marks(caller) => {
                let of = |(key, _): &(Bytes, Bytes)| {
                    let (app, rest) = keys::app_of(keys::WAITING, key)?;
                    let (_, id) = keys::split(rest)?;
                    Some((app.to_owned(), std::str::from_utf8(id).ok()?.to_owned()))
                };
                let found: Vec<_> = values.iter().filter_map(of).collect();
                let keys: Vec<_> =
                    found.iter().map(|(app, id)| Place { app, id }.progress()).collect();
                let listing = Listing::Waiting(caller, found);
                if keys.is_empty() {
                    let answer = Answer::Values { values: Vec::new(), has_more: false };
                    return self.listed(listing, answer, now, out);
                }
                let ask = Ask::Pick { shelf: Shelf::Push, keys };
                self.ask(Asked::Listed(Box::new(listing)), ask, out);
            }
            Listing::Waiting(caller, names) => {
                let of = |(app, id): (String, String)| {
                    let key = Place { app: &app, id: &id }.progress();
                    let value = values.iter().find(|it| it.0 == key);
                    let progress = value.and_then(|it| decode::<Progress>(&it.1));
                    let progress = progress.filter(|it| it.is_waiting && !it.state.is_final())?;
                    Some(Shown { status: progress.status(&id, (0, 0, 0)), app })
                };
                let waiting = names.into_iter().filter_map(of).collect();
                let told = Told::Overview(Box::new(self.overview(waiting, now)));
                out.push(Step::Tell(caller, Ok(told)));
            }
            Listing::Ended(prefix, status, callers, rendered) => {
                let rows = outcomes(&prefix, &values);
                for caller in callers {
                    let told = Told::Published {
                        status: Box::new(status.clone()),
                        rendered: rendered.clone(),
                        is_repeated: false,
                        is_forced_async: false,
                        outcomes: Some(rows.clone()),
                        due: None,
                    };
                    out.push(Step::Tell(caller, Ok(told)));
                }
            }
        }
    }

    /// A publish has no outcomes, if there is one.
    fn tell_none(&mut self, caller: u64, app: &Arc<str>, id: String, out: &mut Vec<Step>) {
        let key = Place { app, id: &id }.open();
        if self.by_key.contains_key(&key) {
            let page = Page { rows: Vec::new(), next: None };
            return out.push(Step::Tell(caller, Ok(Told::Outcomes(page))));
        }
        let keys = vec![Place { app, id: &id }.progress()];
        self.ask(Asked::None(caller), Ask::Pick { shelf: Shelf::Push, keys }, out);
    }

    /// Somebody asks how all is.
    pub(super) fn tell_overview(&mut self, caller: u64, out: &mut Vec<Step>) {
        let prefix = Bytes::copy_from_slice(&[keys::WAITING]);
        let ask = Ask::read(Shelf::Push, prefix, None, WAITING_MAX as u32);
        self.ask(Asked::Listed(Box::new(Listing::Marks(caller))), ask, out);
    }

    /// How all is; these publishes wait for their time.
    fn overview(&self, waiting: Vec<Shown>, now: Now) -> Overview {
        let open =
            self.jobs.values().rev().filter(|it| it.is_known && !it.written.state.is_final());
        let open = open
            .map(|job| Shown { app: job.app.to_string(), status: self.status_of(job, now.steady) });
        let publishes = open
            .take(PUBLISHES_MAX / 2)
            .chain(waiting)
            .chain(self.shown.iter().rev().cloned())
            .take(PUBLISHES_MAX);
        let mut providers = Vec::new();
        for provider in Provider::ALL {
            let at = provider as usize;
            let lanes = || self.lanes.iter().filter(|it| it.0.provider == provider).map(|it| it.1);
            if self.flying[at] == 0 && lanes().next().is_none() {
                continue;
            }
            let waits = self.retries.iter().filter_map(|it| self.items.get(&it.1));
            let paused = lanes().filter_map(|it| it.opens_at(now.steady)).min();
            providers.push(ProviderShown {
                provider,
                in_flight: self.flying[at],
                retrying: waits.filter(|it| it.provider == provider).count() as u64,
                paused: paused.map(|at| at.since(now.steady).as_millis() as u64),
                reason: lanes().find_map(Lane::reason).map(str::to_owned),
            });
        }
        let logged = self.logged.iter().rev().cloned().collect();
        Overview { publishes: publishes.collect(), providers, logged }
    }
}

fn read(prefix: &Bytes, page: &PageOf) -> Ask {
    let after = page.after.as_ref().map(|it| Bytes::from([&prefix[..], &it[..]].concat()));
    Ask::read(Shelf::Push, prefix.clone(), after, page.rows_max.max(1))
}

fn outcomes(prefix: &Bytes, values: &[(Bytes, Bytes)]) -> Vec<(String, Outcome)> {
    let row = |(key, value): &(Bytes, Bytes)| {
        Some((keys::rest(prefix, key)?.to_owned(), decode::<Outcome>(value)?))
    };
    values.iter().filter_map(row).collect()
}
