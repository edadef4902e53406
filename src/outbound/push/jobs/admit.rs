//! How a publish is accepted: checked, looked up, written, told.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::errand::Outcome as ErrandEnd;
use super::job::{Body, Job, Rendered};
use super::record::{KeyOf, PAGE_DEVICES, Place, Progress, Spec, mark, put};
use super::*;
use crate::config::push::Logging;
use crate::outbound::push::provider;
use crate::outbound::push::registry::NoCredential;
use crate::push::Provider;
use crate::push::publish::{Intent, State, TARGETS_MAX, Target};
use crate::push::stored::decode;
use crate::push::template::Template;
use crate::store::{Change, Fault};

/// Apps whose rate is remembered.
const BUCKETS_MAX: usize = 4096;
/// How often an admission begins again because another one was faster.
const ROUNDS_MAX: u32 = 4;
/// How far ahead a publish may be, in milliseconds: a hundred years. Whoever counts in microseconds is beyond.
const AHEAD_MAX: u64 = 36_525 * 86_400_000;

/// A publish that wants to be accepted.
pub struct Admission {
    /// Who waits for it; none: it came from the queue.
    pub caller: Option<u64>,
    /// The key of the entry of the queue that it is.
    pub entry: Option<Bytes>,
    app: Arc<str>,
    id: String,
    spec: Spec,
    progress: Option<Progress>,
    rounds: u32,
}

/// A bucket of tokens.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bucket {
    /// Thousandths of tokens that are missing.
    missing: u64,
    at: Nanos,
}

impl Bucket {
    /// Takes a token of `capacity`, which `refill` come back to in a second; else when there is one.
    pub fn take(&mut self, capacity: u32, refill: u32, now: Nanos) -> Result<(), Millis> {
        let refill = u64::from(refill.max(1));
        self.fill(refill, now);
        let most = u64::from(capacity.max(1)) * 1000;
        if self.missing + 1000 > most {
            let over = self.missing + 1000 - most;
            return Err(Millis(over.div_ceil(refill).max(1)));
        }
        self.missing += 1000;
        Ok(())
    }

    fn fill(&mut self, refill: u64, now: Nanos) {
        // Whole milliseconds alone, so that nothing is lost by rounding.
        let millis = now.since(self.at).as_millis() as u64;
        if millis > 0 {
            self.missing = self.missing.saturating_sub(millis.saturating_mul(refill));
            self.at = if self.missing == 0 { now } else { self.at + Millis(millis) };
        }
    }

    /// It is full: nothing would be missed of it.
    pub fn is_full(&mut self, refill: u32, now: Nanos) -> bool {
        self.fill(u64::from(refill.max(1)), now);
        self.missing == 0
    }
}

impl Jobs {
    /// A publish is asked for.
    #[expect(clippy::too_many_arguments, reason = "the world comes in as arguments")]
    pub(super) fn publish(
        &mut self,
        caller: u64,
        app: &str,
        intent: Intent,
        registry: &Registry,
        now: Now,
        random: &mut dyn FnMut() -> u128,
        out: &mut Vec<Step>,
    ) {
        let app: Arc<str> = app.into();
        if let Err(refused) = self.may_publish(&app, &intent, registry, now) {
            if matches!(refused.status, 429 | 503) {
                self.counts.refused.fetch_add(1, Ordering::Relaxed);
            }
            return out.push(Step::Tell(caller, Err(refused)));
        }
        let id = intent.id.clone().unwrap_or_else(|| format!("{:032x}", random()));
        let spec = Spec { intent, template: None };
        let (caller, entry) = (Some(caller), None);
        self.admit(Admission { caller, entry, app, id, spec, progress: None, rounds: 0 }, out);
    }

    /// A publish was found on the queue. False: not now.
    pub(super) fn publish_entry(
        &mut self,
        entry: Bytes,
        app: &str,
        intent: Intent,
        out: &mut Vec<Step>,
    ) -> bool {
        if self.open >= u64::from(self.settings.publishes_open_max)
            || self.admissions >= ADMISSIONS_MAX
        {
            return false;
        }
        let chance = u128::from(self.chance.next_u64()) << 64 | u128::from(self.chance.next_u64());
        let id = intent.id.clone().unwrap_or_else(|| format!("{chance:032x}"));
        let spec = Spec { intent, template: None };
        let (caller, app, entry) = (None, app.into(), Some(entry));
        self.admit(Admission { caller, entry, app, id, spec, progress: None, rounds: 0 }, out);
        true
    }

    fn may_publish(
        &mut self,
        app: &Arc<str>,
        intent: &Intent,
        registry: &Registry,
        now: Now,
    ) -> Result<(), Refused> {
        if intent.targets.is_empty() || intent.targets.len() > TARGETS_MAX {
            return Err(Refused::invalid(format!("recipients must be 1 to {TARGETS_MAX}")));
        }
        if intent.expires_at.is_some_and(|it| it <= now.wall.0.max(intent.not_before.unwrap_or(0)))
        {
            return Err(Refused::invalid("expiresAtMs is over before anything could be sent"));
        }
        // Seconds or microseconds taken for milliseconds, most often.
        if intent.not_before.is_some_and(|it| it > now.wall.0.saturating_add(AHEAD_MAX)) {
            return Err(Refused::invalid(
                "notBeforeMs is more than a hundred years ahead (it counts milliseconds since 1970)",
            ));
        }
        if self.admissions >= ADMISSIONS_MAX {
            return Err(Refused::unavailable("too many publishes at once"));
        }
        self.is_available(app, intent, registry)?;
        if self.open >= u64::from(self.settings.publishes_open_max) {
            let text = format!("{} publishes are not finished", self.open);
            return Err(Refused {
                retry_after: Some(1000),
                ..Refused::new(429, "too_many_publishes", text)
            });
        }
        let rate = self.settings.publishes_per_second_max;
        if self.buckets.len() >= BUCKETS_MAX {
            self.buckets.retain(|_, it| !it.is_full(rate, now.steady));
        }
        let bucket = self.buckets.entry(Arc::clone(app)).or_default();
        bucket.take(rate, rate, now.steady).map_err(|pause| Refused {
            retry_after: Some(pause.0),
            ..Refused::new(429, "rate_limited", format!("more than {rate} publishes in a second"))
        })
    }

    /// Whether a provider could take something of it.
    fn is_available(&self, app: &str, intent: &Intent, registry: &Registry) -> Result<(), Refused> {
        let id = intent.credential_id.as_deref();
        let (mut has_named, mut is_sealed) = (false, false);
        let mut could = |provider: Provider| {
            if provider == Provider::Realtime {
                return true;
            }
            let found = registry.credential(app, provider, id);
            has_named |= found.as_ref().is_ok_and(|it| Some(it.id.as_str()) == id);
            has_named |= matches!(found, Err(NoCredential::NotYet | NoCredential::Sealed));
            is_sealed |= found == Err(NoCredential::Sealed);
            // What is sealed is there: nothing is logged in its place.
            matches!(found, Ok(_) | Err(NoCredential::NotYet))
                || self.settings.is_logged(found != Err(NoCredential::Missing))
        };
        // All are asked: each may be whom the credentials are named for.
        let able = Provider::ALL[..5].iter().filter(|it| could(**it)).count();
        let is_any = able > 0;
        let is_one = intent.targets.iter().any(|target| match target {
            Target::Direct(recipient) => could(recipient.provider()),
            Target::ProviderTopic(provider, _) | Target::ProviderCondition(provider, _) => {
                could(*provider)
            }
            Target::Device(_) | Target::Client(_) | Target::Channel(_) => is_any,
        });
        if let (Some(id), false) = (id, has_named || self.settings.log == Logging::On) {
            return Err(Refused::unknown(format!("there are no credentials \"{id}\"")));
        }
        match is_one {
            true => Ok(()),
            false if is_sealed => Err(Refused::unavailable(
                "push admission unavailable: its credentials cannot be opened: push.encryption_key is missing or another one",
            )),
            false => Err(Refused::unavailable(
                "push admission unavailable: there are no credentials for any provider that it needs",
            )),
        }
    }

    /// Looks up what is known of it: whether it was accepted before, its template, how many hear of its channels.
    fn admit(&mut self, admission: Admission, out: &mut Vec<Step>) {
        let Admission { app, id, spec, .. } = &admission;
        let place = Place { app, id };
        let mut found = vec![place.progress()];
        found.extend(spec.intent.key.as_deref().map(|key| key_key(app, key)));
        found.extend(spec.intent.content.template_id.as_deref().map(|id| template_key(app, id)));
        for target in &spec.intent.targets {
            if let Target::Channel(name) = target {
                found.push(keys::key(keys::CHANNEL, app, &[name.as_bytes()], true));
            }
        }
        self.admissions += 1;
        let ask = Ask::Pick { shelf: Shelf::Push, keys: found };
        self.ask(Asked::Admission(Box::new(admission)), ask, out);
    }

    /// Takes what is known of a publish that wants to be accepted.
    pub(super) fn admitting(
        &mut self,
        mut admission: Box<Admission>,
        answer: Answer,
        now: Now,
        out: &mut Vec<Step>,
    ) {
        self.admissions -= 1;
        let Answer::Values { values, .. } = answer else {
            self.store_at = now.steady + STORE_PAUSE;
            return self.refuse(*admission, Refused::unavailable("the store does not answer"), out);
        };
        let place = Place { app: &admission.app, id: &admission.id };
        let intent = &admission.spec.intent;
        let value = |key: &Bytes| values.iter().find(|it| it.0 == *key).map(|it| &it.1);
        // Known under its key, perhaps by another name.
        if let Some(key) = &intent.key
            && let Some(known) = value(&key_key(place.app, key)).and_then(|it| decode::<KeyOf>(it))
        {
            if known.fingerprint != intent.fingerprint {
                return self.refuse(*admission, conflict("idempotency key"), out);
            }
            if known.publish_id != admission.id {
                admission.id = known.publish_id;
                return self.again(*admission, out);
            }
        }
        if let Some(known) = value(&place.progress()).and_then(|it| decode::<Progress>(it)) {
            if known.fingerprint != intent.fingerprint {
                return self.refuse(*admission, conflict("publish id"), out);
            }
            return self.repeated(*admission, &known, out);
        }
        let mut error = None;
        if let Some(id) = &intent.content.template_id {
            match value(&template_key(place.app, id)).map(|it| decode::<Template>(it)) {
                Some(Some(found)) => admission.spec.template = Some(found),
                Some(None) => error = Some(Refused::unavailable("the template cannot be read")),
                None => error = Some(Refused::invalid(format!("there is no template \"{id}\""))),
            }
        }
        let error = error.map_or_else(|| render::check(&admission.spec), Err).err();
        if let (Some(refused), Some(_)) = (&error, admission.caller) {
            let refused = refused.clone();
            return self.refuse(*admission, refused, out);
        }
        let spec = &admission.spec;
        let expected = spec.intent.targets.iter().map(|target| match target {
            Target::Channel(name) => {
                let key = keys::key(keys::CHANNEL, &admission.app, &[name.as_bytes()], true);
                let count = value(&key).and_then(|it| it.first_chunk::<8>());
                count.map_or(0, |it| u64::from_be_bytes(*it))
            }
            _ => 1,
        });
        let not_before = spec.intent.not_before.filter(|it| *it > now.wall.0);
        // One that nobody can be refused any more is on record, at least.
        let is_failed = error.is_some();
        let progress = Progress {
            state: if is_failed { State::Failed } else { State::Accepted },
            counters: Default::default(),
            cursor: Default::default(),
            expected: expected.sum(),
            accepted_at: now.wall.0,
            not_before,
            is_waiting: not_before.is_some(),
            finished_at: is_failed.then_some(now.wall.0),
            error_reason: error.map(|it| it.text),
            replays: Vec::new(),
            fingerprint: spec.intent.fingerprint,
        };
        admission.progress = Some(progress);
        self.write_admission(admission, now, out);
    }

    fn write_admission(&mut self, admission: Box<Admission>, now: Now, out: &mut Vec<Step>) {
        let Admission { app, id, spec, progress, entry, .. } = &*admission;
        let Some(progress) = progress else { return };
        let place = Place { app, id };
        let expires = self.expires(progress, now);
        let mut changes = vec![
            (
                Shelf::Push,
                Change::PutNew {
                    key: place.spec(),
                    value: crate::push::stored::encode(spec),
                    expires: UnixMillis(expires),
                },
            ),
            put(place.progress(), progress, expires),
        ];
        match progress.not_before {
            _ if progress.state.is_final() => {}
            Some(at) => changes.push(mark(place.waiting(at))),
            None => changes.push(mark(place.open())),
        }
        if let Some(key) = &spec.intent.key {
            let known = KeyOf { publish_id: id.clone(), fingerprint: progress.fingerprint };
            let (key, value) = (key_key(app, key), crate::push::stored::encode(&known));
            let span = spec.intent.key_span.unwrap_or(self.settings.retention.0);
            let expires = UnixMillis(now.wall.0.saturating_add(span));
            changes.push((Shelf::Push, Change::PutNew { key, value, expires }));
        }
        if progress.state.is_final() {
            changes.extend(self.report_end(app, id, progress, now));
        }
        if let Some(entry) = entry {
            changes.push((Shelf::PushQueue, Change::Remove { key: entry.clone() }));
        }
        self.admissions += 1;
        self.accepting.insert(place.open());
        self.ask(Asked::Accepted(admission), Ask::Change { changes }, out);
    }

    /// When records of a publish go.
    pub(super) fn expires(&self, progress: &Progress, now: Now) -> u64 {
        let kept = self.settings.retention.0;
        let begin = progress.accepted_at.max(progress.not_before.unwrap_or(0));
        match progress.state.is_final() {
            true => now.wall.0.saturating_add(kept),
            // One that is not finished lives no longer than that; what came of it is kept as long again.
            false => begin.saturating_add(kept.saturating_mul(2)),
        }
    }

    /// A publish is on disk, or not.
    pub(super) fn accepted(
        &mut self,
        admission: Box<Admission>,
        answer: Answer,
        registry: &Registry,
        now: Now,
        out: &mut Vec<Step>,
    ) {
        self.admissions -= 1;
        let place = Place { app: &admission.app, id: &admission.id };
        self.accepting.remove(&place.open());
        match answer {
            Answer::Changed => {}
            // Another one of the same name or key was faster: this is a repetition of it.
            Answer::Fault(Fault::Exists) => return self.again(*admission, out),
            Answer::Fault(Fault::Full) => {
                self.store_at = now.steady + STORE_PAUSE;
                return self.refuse(*admission, Refused::unavailable("the disk is full"), out);
            }
            _ => {
                // It may be on disk nevertheless: then it is found among those that are not finished.
                self.look_again(now);
                let refused = Refused::unavailable("the store does not answer");
                return self.refuse(*admission, refused, out);
            }
        }
        self.counts.accepted.fetch_add(1, Ordering::Relaxed);
        let Admission { caller, entry, app, id, spec, progress, .. } = *admission;
        let Some(progress) = progress else { return };
        if entry.is_some() {
            self.queue_open -= 1;
        }
        if progress.state.is_final() {
            let why = progress.error_reason.clone().unwrap_or_default();
            out.push(Step::Say(Note::NotAccepted(app.to_string(), id.clone(), why)));
            self.has_finished(app.to_string(), progress.status(&id, (0, 0, 0)), None, out);
        }
        let place = Place { app: &app, id: &id };
        let is_sync = spec.intent.is_sync && caller.is_some();
        let is_large = progress.expected > PAGE_DEVICES;
        let due = progress.not_before;
        let is_waited_for = is_sync && !is_large && due.is_none();
        let rendered = match caller {
            Some(_) => self.rendered(&app, &spec, registry),
            None => Vec::new(),
        };
        if let (Some(caller), false) = (caller, is_waited_for) {
            let told = Told::Published {
                status: Box::new(progress.status(&id, (0, 0, 0))),
                rendered: rendered.clone(),
                is_repeated: false,
                is_forced_async: is_sync,
                outcomes: None,
                due,
            };
            out.push(Step::Tell(caller, Ok(told)));
        }
        if due.is_none() && !progress.state.is_final() {
            let key = place.open();
            let number = match self.by_key.get(&key) {
                // A look through all that are not finished saw it first.
                Some(number) => *number,
                None => {
                    let bytes = bytes_of(&spec);
                    let body = match self.bodies_bytes + bytes > BODIES_BYTES_MAX {
                        true => Body::Absent,
                        false => Body::Here(Arc::new(spec), bytes),
                    };
                    self.open_job(Job::new(app, id.into(), progress, body))
                }
            };
            if let (Some(caller), true) = (caller, is_waited_for)
                && let Some(job) = self.jobs.get_mut(&number)
            {
                job.waiters.push(caller);
                job.rendered = rendered;
                let until = now.steady + self.settings.sync_wait;
                self.waits.push_back((until, number, caller));
            }
        }
    }

    /// Takes a publish in hand that is on disk and not finished.
    pub(super) fn open_job(&mut self, mut job: Job) -> u64 {
        let number = self.number();
        self.by_key.insert(job.place().open(), number);
        self.open += 1;
        if let Body::Here(spec, bytes) = &job.body {
            self.bodies_bytes += bytes;
            job.ends_at = self.ends_at(spec, &job.progress);
            self.ends.insert((job.ends_at, number));
        }
        job.is_in_plan = true;
        self.planning.push(&job.app, number);
        self.jobs.insert(number, job);
        number
    }

    /// When the time of a publish is over: as it says, or when its records would go.
    pub(super) fn ends_at(&self, spec: &Spec, progress: &Progress) -> u64 {
        let begin = progress.accepted_at.max(progress.not_before.unwrap_or(0));
        let longest = begin.saturating_add(self.settings.retention.0);
        spec.intent.expires_at.map_or(longest, |it| it.min(longest))
    }

    fn again(&mut self, mut admission: Admission, out: &mut Vec<Step>) {
        admission.rounds += 1;
        if admission.rounds > ROUNDS_MAX {
            return self.refuse(admission, Refused::unavailable("try again"), out);
        }
        (admission.progress, admission.spec.template) = (None, None);
        self.admit(admission, out);
    }

    fn refuse(&mut self, admission: Admission, refused: Refused, out: &mut Vec<Step>) {
        if let Some(caller) = admission.caller {
            out.push(Step::Tell(caller, Err(refused)));
        } else if admission.entry.is_some() {
            self.queue_open -= 1;
            if refused.status == 409 {
                return self.drop_entry(admission.entry);
            }
            // What is not done with is still there, and read again from the first.
            self.queue_is_stale = true;
            self.queue.after = None;
        }
    }

    fn repeated(&mut self, admission: Admission, known: &Progress, out: &mut Vec<Step>) {
        let Some(caller) = admission.caller else {
            self.queue_open -= 1;
            return self.drop_entry(admission.entry);
        };
        let place = Place { app: &admission.app, id: &admission.id };
        let live = self.by_key.get(&place.open()).and_then(|it| self.jobs.get(it));
        let status = match live {
            Some(job) => self.status_of(job, Nanos(0)),
            None => known.status(&admission.id, (0, 0, 0)),
        };
        let told = Told::Published {
            due: known.not_before.filter(|_| known.is_waiting),
            status: Box::new(status),
            rendered: Vec::new(),
            is_repeated: true,
            is_forced_async: admission.spec.intent.is_sync,
            outcomes: None,
        };
        out.push(Step::Tell(caller, Ok(told)));
    }

    /// An entry of the queue means nothing.
    pub(super) fn drop_entry(&mut self, entry: Option<Bytes>) {
        if let Some(key) = entry {
            let changes = vec![(Shelf::PushQueue, Change::Remove { key })];
            self.done.push(errand::Done {
                job: None,
                letter: None,
                changes,
                end: ErrandEnd::Dropped,
            });
        }
    }

    /// What devices of each provider that could take it get.
    fn rendered(&self, app: &str, spec: &Spec, registry: &Registry) -> Rendered {
        let id = spec.intent.credential_id.as_deref();
        let could = |it: &&Provider| {
            **it != Provider::Realtime
                && match registry.credential(app, **it, id) {
                    Ok(_) => true,
                    Err(why) => self.settings.is_logged(why != NoCredential::Missing),
                }
        };
        let default = spec.template.as_ref().map_or("", |it| it.default_locale.as_str());
        let asked = render::locale_asked(spec);
        let locale = asked.as_deref().unwrap_or(default);
        let shown = |provider: &Provider| {
            let message = render::message(spec, locale, *provider).ok()?;
            let shown = provider::rendered(*provider, &message);
            Some((*provider, shown, !message.raw.is_empty()))
        };
        Provider::ALL.iter().filter(could).filter_map(shown).collect()
    }
}

fn conflict(what: &str) -> Refused {
    Refused::new(
        409,
        "conflict",
        format!("another publish, which says something else, has this {what}"),
    )
}

fn key_key(app: &str, key: &str) -> Bytes {
    keys::key(keys::IDEMPOTENCY, app, &[key.as_bytes()], true)
}

fn template_key(app: &str, id: &str) -> Bytes {
    keys::key(keys::TEMPLATE, app, &[id.as_bytes()], true)
}

/// About how many bytes of memory a publish takes.
pub(super) fn bytes_of(spec: &Spec) -> usize {
    let target = |it: &Target| match it {
        Target::Device(text) | Target::Client(text) | Target::Channel(text) => text.len(),
        Target::Direct(recipient) => recipient.address().len() + 256,
        Target::ProviderTopic(_, text) | Target::ProviderCondition(_, text) => text.len(),
    };
    let content = &spec.intent.content;
    let raw = |it: &Vec<(Provider, String)>| it.iter().map(|it| it.1.len()).sum::<usize>();
    let text = |it: &crate::push::template::Text| {
        [&it.title, &it.body, &it.icon, &it.sound, &it.collapse_key]
            .into_iter()
            .flatten()
            .map(String::len)
            .sum::<usize>()
    };
    let of_template = spec.template.as_ref().map_or(0, |it| {
        raw(&it.overrides) + it.locales.iter().map(|it| text(&it.1) + 64).sum::<usize>()
    });
    512 + spec.intent.targets.iter().map(|it| target(it) + 96).sum::<usize>()
        + content.template_data.len()
        + content.data.len()
        + content.live_activity.len()
        + raw(&content.overrides)
        + text(&content.text)
        + of_template
}
