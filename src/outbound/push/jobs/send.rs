//! Sending: whose turn it is gets a request, and what comes of it is an outcome, another try, or a pause for all.

use super::admit::Bucket;
use super::job::Stage;
use super::lane::{Gate, LaneKey, back_off};
use super::record::Quota;
use super::settle::{Finished, Used};
use super::*;
use crate::outbound::push::provider::{Parcel, Verdict};
use crate::outbound::push::registry::{NoCredential, Went};
use crate::push::Provider;
use crate::push::publish::{Fate, State};

/// Who waits for something that is being read asks again after so long.
const HOLD_PAUSE: Millis = Millis(50);
/// Why a device gets nothing whose provider's credentials cannot be opened.
const SEALED: &str = "credentials_sealed";
/// Lanes remembered that nobody waits for.
const LANES_MAX: usize = 65_536;

/// Lines of messages that were logged, for the console ...
const LOGGED_MAX: usize = 50;
/// ... and characters of the text in each.
const LOGGED_TEXT: usize = 120;

/// What to do with a device whose turn it is.
enum Turn {
    /// Send, perhaps to the log.
    Send(Option<Arc<crate::push::credential::Credential>>, bool),
    /// Not now.
    Hold,
    /// Not with credentials that cannot be opened.
    Sealed,
    /// Never.
    Fail(&'static str),
    /// No more of this publish: the app's daily bound is met.
    Quota,
}

impl Jobs {
    /// Lets a publish wait for its turn to send, if it has something.
    pub(super) fn want_send(&mut self, number: u64, provider: Provider) {
        let Some(job) = self.jobs.get_mut(&number) else { return };
        let at = provider as usize;
        if !job.is_in_send[at] && !job.ready[at].is_empty() {
            job.is_in_send[at] = true;
            self.sending[at].push(&job.app, number);
        }
    }

    fn lane_of(&self, number: u64, provider: Provider) -> Option<LaneKey> {
        let job = self.jobs.get(&number)?;
        let credential = job.spec()?.intent.credential_id.clone();
        Some(LaneKey { app: Arc::clone(&job.app), provider, credential })
    }

    /// Sends what can be sent.
    pub(super) fn send(&mut self, registry: &mut Registry, now: Now, out: &mut Vec<Step>) {
        for provider in Provider::ALL {
            while self.flying[provider as usize] < u64::from(self.settings.concurrency_max) {
                if self.rates[provider as usize].is_empty(self.rate(), now.steady) {
                    break;
                }
                let Some(number) = self.sending[provider as usize].pop() else { break };
                let app = self.jobs.get(&number).map(|it| Arc::clone(&it.app));
                if app.is_some_and(|app| !self.may_send(&app, number, provider as usize)) {
                    continue;
                }
                self.send_one(number, provider, registry, now, out);
            }
        }
    }

    fn rate(&self) -> u32 {
        self.settings.requests_per_second_max
    }

    fn send_one(
        &mut self,
        number: u64,
        provider: Provider,
        registry: &mut Registry,
        now: Now,
        out: &mut Vec<Step>,
    ) {
        let at = provider as usize;
        let lane_key = self.lane_of(number, provider);
        let Some(job) = self.jobs.get_mut(&number) else { return };
        job.is_in_send[at] = false;
        let (Some(lane_key), false) = (lane_key, job.is_over || job.ready[at].is_empty()) else {
            return;
        };
        if self.lanes.len() >= LANES_MAX {
            self.lanes.retain(|_, it| !it.is_blank(now.steady));
        }
        let gate = self.lanes.entry(lane_key.clone()).or_default().gate(now.steady, &self.settings);
        let turn = match gate {
            Gate::Open => self.turn(number, &lane_key, registry, now, out),
            Gate::Closed => Turn::Hold,
            Gate::Dead => return self.give_up_ready(number, &lane_key, registry, now, out),
        };
        match turn {
            Turn::Send(credential, is_logged) => {
                let Some(job) = self.jobs.get_mut(&number) else { return };
                let Some(id) = job.ready[at].pop_front() else { return };
                let (Some(spec), Some(item)) = (job.spec(), self.items.get_mut(&id)) else {
                    return;
                };
                job.tried += u64::from(item.sent == Nanos(0));
                // Zero says that it was never sent.
                (item.sent, item.stage) = (Nanos(now.steady.0.max(1)), Stage::Flying);
                let locale = item.device.as_ref().map_or("", |it| it.locale.as_str());
                let parcel = Parcel {
                    app: job.app.to_string(),
                    publish_id: job.id.to_string(),
                    provider,
                    credential,
                    address: item.address.clone(),
                    message: job.messages.of(&spec, locale, provider),
                    expires_at: spec.intent.expires_at,
                    is_logged,
                };
                if is_logged {
                    let line = line_of(&parcel, &item.key);
                    if self.logged.len() >= LOGGED_MAX {
                        self.logged.pop_front();
                    }
                    self.logged.push_back(line);
                }
                if let Some(lane) = self.lanes.get_mut(&lane_key) {
                    lane.sent(id);
                }
                self.take_off(&lane_key.app, at);
                self.counts.in_flight[at].fetch_add(1, Ordering::Relaxed);
                let rate = self.rate();
                self.rates[at].spend(rate, now.steady);
                out.push(Step::Deliver(id, Box::new(parcel)));
            }
            Turn::Hold => {
                job_mut(&mut self.jobs, number).is_in_send[at] = true;
                self.lanes.entry(lane_key).or_default().stalled.push(number);
                return;
            }
            // As credentials that are refused: another key or other credentials may come, and a dead letter can be
            // replayed.
            Turn::Sealed => {
                let refused = Delivered::not(Verdict::Unauthorized, SEALED);
                let Some(id) = job_mut(&mut self.jobs, number).ready[at].pop_front() else {
                    return;
                };
                self.hear_lane(id, number, provider, now.steady, &refused, now, out);
                let Some(item) = self.items.get_mut(&id) else { return };
                item.attempts += 1;
                if item.attempts < self.settings.attempts_max {
                    return self.ready_again(id);
                }
                self.counts.dead[at].fetch_add(1, Ordering::Relaxed);
                self.finish(id, Fate::DeadLettered, None, Some(SEALED.to_owned()), 0, now);
            }
            Turn::Fail(reason) => {
                let Some(id) = job_mut(&mut self.jobs, number).ready[at].pop_front() else {
                    return;
                };
                self.counts.failed[at].fetch_add(1, Ordering::Relaxed);
                self.finish(id, Fate::Failed, None, Some(reason.to_owned()), 0, now);
            }
            Turn::Quota => {
                return self.end(number, State::QuotaExceeded, "the app's daily bound", now);
            }
        }
        self.want_send(number, provider);
        self.want_page(number);
    }

    /// What to do with the next device of a publish.
    fn turn(
        &mut self,
        number: u64,
        lane: &LaneKey,
        registry: &Registry,
        now: Now,
        out: &mut Vec<Step>,
    ) -> Turn {
        let is_first = self.jobs.get(&number).and_then(|job| {
            let id = job.ready[lane.provider as usize].front()?;
            Some(self.items.get(id)?.sent == Nanos(0))
        });
        let turn = if lane.provider == Provider::Realtime {
            Turn::Send(None, self.settings.log == crate::config::push::Logging::On)
        } else {
            let found = registry.credential(&lane.app, lane.provider, lane.credential.as_deref());
            match found {
                Err(NoCredential::NotYet) => Turn::Hold,
                // What is sealed is there: nothing is logged in its place.
                Err(NoCredential::Sealed) if !self.settings.is_logged(true) => Turn::Sealed,
                found if self.settings.is_logged(found.is_ok()) => Turn::Send(None, true),
                Ok(credential) => Turn::Send(Some(credential), false),
                Err(_) => Turn::Fail("no_credentials"),
            }
        };
        let most = self.settings.deliveries_per_day_max;
        let passes = self.jobs.get(&number).and_then(Job::spec);
        let passes = passes.is_some_and(|it| it.intent.passes_quota);
        let is_counted =
            matches!(turn, Turn::Send(..)) && most > 0 && is_first == Some(true) && !passes;
        let turn = match is_counted.then(|| self.use_quota(&lane.app, most, now, out)) {
            None | Some(Some(true)) => turn,
            Some(Some(false)) => Turn::Quota,
            Some(None) => Turn::Hold,
        };
        if let Turn::Hold = turn {
            self.lanes.entry(lane.clone()).or_default().hold(now.steady + HOLD_PAUSE);
        }
        turn
    }

    /// One more device of an app is sent something today. False: no more may be; none: that is not known yet.
    fn use_quota(
        &mut self,
        app: &Arc<str>,
        most: u64,
        now: Now,
        out: &mut Vec<Step>,
    ) -> Option<bool> {
        let day = now.wall.0 / 86_400_000;
        let Some(used) = self.quotas.get_mut(app) else {
            self.quotas.insert(Arc::clone(app), Used::default());
            let keys = vec![quota_key(app)];
            self.ask(Asked::Quota(Arc::clone(app)), Ask::Pick { shelf: Shelf::Push, keys }, out);
            return None;
        };
        let quota = used.quota.as_mut()?;
        if quota.day != day {
            *quota = Quota { day, used: 0 };
        }
        if quota.used >= most {
            return Some(false);
        }
        quota.used += 1;
        used.is_dirty = true;
        Some(true)
    }

    /// How many devices an app was sent something for is read.
    pub(super) fn quota_read(&mut self, app: Arc<str>, answer: Answer, now: Now) {
        let Answer::Values { values, .. } = answer else {
            self.quotas.remove(&app);
            self.store_at = now.steady + STORE_PAUSE;
            return;
        };
        let known = values.first().and_then(|it| crate::push::stored::decode::<Quota>(&it.1));
        if let Some(used) = self.quotas.get_mut(&app) {
            used.quota = Some(known.unwrap_or_default());
        }
    }

    /// Gives up what could be sent with credentials that are no good.
    fn give_up_ready(
        &mut self,
        number: u64,
        lane: &LaneKey,
        _registry: &mut Registry,
        now: Now,
        _out: &mut Vec<Step>,
    ) {
        let at = lane.provider as usize;
        let reason = self.lanes.get(lane).and_then(|it| it.reason().map(str::to_owned));
        let reason = reason.unwrap_or_else(|| "credentials_refused".to_owned());
        for id in std::mem::take(&mut job_mut(&mut self.jobs, number).ready[at]) {
            self.counts.dead[at].fetch_add(1, Ordering::Relaxed);
            self.finish(id, Fate::DeadLettered, None, Some(reason.clone()), 0, now);
        }
        self.want_page(number);
    }

    /// Takes what came of a parcel.
    pub(super) fn has_delivered(
        &mut self,
        id: u64,
        delivered: Delivered,
        registry: &mut Registry,
        now: Now,
        out: &mut Vec<Step>,
    ) {
        let Some(item) = self.items.get_mut(&id) else { return };
        if item.stage != Stage::Flying {
            return;
        }
        item.stage = Stage::Ready;
        let (number, provider, sent) = (item.job, item.provider, item.sent);
        let at = provider as usize;
        if let Some(app) = self.jobs.get(&number).map(|it| Arc::clone(&it.app)) {
            self.land(&app, at);
        }
        self.counts.in_flight[at].fetch_sub(1, Ordering::Relaxed);
        self.hear_lane(id, number, provider, sent, &delivered, now, out);
        let Some(job) = self.jobs.get_mut(&number) else { return };
        let is_over = job.is_over;
        let is_final = job.progress.state.is_final();
        let Some(item) = self.items.get_mut(&id) else { return };
        let Delivered { verdict, message_id, status, reason, retry_after, gone_at } = delivered;
        let add = |counts: &[std::sync::atomic::AtomicU64; 6]| {
            counts[at].fetch_add(1, Ordering::Relaxed);
        };
        let app = Arc::clone(&job.app);
        let mut went = |device: Option<&crate::push::device::Device>, went: Went| {
            if let Some(device) = device {
                registry.went(&app, device, went, now, out);
            }
        };
        let is_back = item.device.as_ref().zip(gone_at).is_some_and(|(it, at)| at <= it.updated_at);
        match verdict {
            Verdict::Taken => {
                add(&self.counts.delivered);
                let was_bad = |it: &&crate::push::device::Device| {
                    it.failures > 0 || it.state != crate::push::device::DeviceState::Active
                };
                went(item.device.as_deref().filter(was_bad), Went::Well);
                item.attempts += 1;
                self.finish(id, Fate::Accepted, message_id, reason, status, now);
            }
            Verdict::Gone if !is_back => {
                add(&self.counts.pruned);
                went(item.device.as_deref(), Went::Gone);
                item.attempts += 1;
                self.finish(id, Fate::Gone, message_id, reason, status, now);
            }
            Verdict::Refused | Verdict::Unfit | Verdict::Gone => {
                add(&self.counts.failed);
                // What makes no sense, is too large, or never left says nothing of the device.
                if verdict != Verdict::Refused || !matches!(status, 0 | 400 | 413) {
                    let reason = reason.clone().unwrap_or_else(|| format!("status {status}"));
                    went(item.device.as_deref(), Went::Badly(reason));
                }
                item.attempts += 1;
                self.finish(id, Fate::Failed, message_id, reason, status, now);
            }
            Verdict::Throttled | Verdict::Unavailable | Verdict::Unauthorized if is_over => {
                match is_final {
                    // Called off: it is not known to have been sent, and nobody waits to hear of it.
                    true => self.drop_item(id),
                    false => self.finish(id, Fate::Expired, None, reason, status, now),
                }
            }
            Verdict::Throttled => self.ready_again(id),
            Verdict::Unavailable | Verdict::Unauthorized => {
                item.attempts += 1;
                if item.attempts >= self.settings.attempts_max {
                    add(&self.counts.dead);
                    return self.finish(id, Fate::DeadLettered, None, reason, status, now);
                }
                add(&self.counts.retried);
                if verdict == Verdict::Unauthorized {
                    return self.ready_again(id);
                }
                let pause = match retry_after {
                    Some(asked) => Millis(asked.0.clamp(1, self.settings.retry_longest.0.max(1))),
                    None => back_off(item.attempts, &self.settings, &mut self.chance),
                };
                let until = now.steady + pause;
                item.stage = Stage::Waiting(until);
                self.retries.insert((until, id));
                if let Some(job) = self.jobs.get_mut(&number) {
                    job.retrying += 1;
                }
                self.fall_asleep(id, pause);
            }
        }
    }

    /// A lane hears what its provider says.
    #[expect(clippy::too_many_arguments, reason = "what is known of one answer")]
    fn hear_lane(
        &mut self,
        id: u64,
        number: u64,
        provider: Provider,
        sent: Nanos,
        delivered: &Delivered,
        now: Now,
        out: &mut Vec<Step>,
    ) {
        let Some(key) = self.lane_of(number, provider) else { return };
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        let was_bad = lane.reason().is_some();
        let means = (&*self.settings, &mut self.chance);
        let pause = lane.heard(id, sent, delivered, now.steady, means);
        let reason = || delivered.reason.clone().unwrap_or_default();
        match (pause, delivered.verdict) {
            (Some(_), Verdict::Unauthorized) => {
                let note = Note::CredentialRefused(key.app.to_string(), provider, reason());
                out.push(Step::Say(note));
            }
            (Some(pause), _) => out.push(Step::Say(Note::Paused(provider, reason(), pause.0))),
            (None, _) if was_bad && lane.reason().is_none() => {
                out.push(Step::Say(Note::Resumed(provider)));
            }
            (None, _) => {}
        }
        self.wake_lane(&key, now);
    }

    /// Lets those go on who wait for a lane that is open.
    fn wake_lane(&mut self, key: &LaneKey, now: Now) {
        let Some(lane) = self.lanes.get_mut(key) else { return };
        if lane.gate(now.steady, &self.settings) == Gate::Closed {
            return;
        }
        let at = key.provider as usize;
        for number in std::mem::take(&mut lane.stalled) {
            if let Some(job) = self.jobs.get_mut(&number) {
                (job.is_in_send[at], job.is_parked) = (false, false);
            }
            self.want_send(number, key.provider);
            self.want_page(number);
        }
    }

    /// Wakes what waited for a time.
    pub(super) fn wake(&mut self, registry: &mut Registry, now: Now, out: &mut Vec<Step>) {
        if registry.take_changed() {
            self.lanes.values_mut().for_each(Lane::forgive);
        }
        let is_due = |it: &Lane| it.due().is_some_and(|at| at <= now.steady);
        let due: Vec<_> =
            self.lanes.iter().filter(|it| is_due(it.1)).map(|it| it.0.clone()).collect();
        for key in due {
            self.wake_lane(&key, now);
        }
        while let Some((at, id)) = self.retries.first().copied() {
            if at > now.steady {
                break;
            }
            self.retries.remove(&(at, id));
            let item = self.items.get(&id).map(|it| (it.job, it.is_asleep));
            if let Some(job) = item.and_then(|it| self.jobs.get_mut(&it.0)) {
                job.retrying -= 1;
            }
            match item {
                Some((_, true)) => self.wake_device(id),
                _ => self.ready_again(id),
            }
        }
        while let Some((at, number)) = self.ends.first().copied() {
            if at > now.wall.0 {
                break;
            }
            self.ends.remove(&(at, number));
            self.end(number, State::Expired, "its time was over", now);
        }
        while let Some((at, number, caller)) = self.waits.front().copied() {
            if at > now.steady {
                break;
            }
            self.waits.pop_front();
            let Some(job) = self.jobs.get_mut(&number) else { continue };
            let Some(place) = job.waiters.iter().position(|it| *it == caller) else { continue };
            job.waiters.remove(place);
            let Some(job) = self.jobs.get(&number) else { continue };
            let told = Told::Published {
                status: Box::new(self.status_of(job, now.steady)),
                rendered: job.rendered.clone(),
                is_repeated: false,
                is_forced_async: true,
                outcomes: None,
                due: None,
            };
            out.push(Step::Tell(caller, Ok(told)));
        }
    }

    /// A device can be sent to.
    pub(super) fn ready_again(&mut self, id: u64) {
        let Some(item) = self.items.get_mut(&id) else { return };
        item.stage = Stage::Ready;
        let (number, provider) = (item.job, item.provider);
        if let Some(job) = self.jobs.get_mut(&number) {
            job.ready[provider as usize].push_front(id);
        }
        self.want_send(number, provider);
    }

    /// A device has its outcome, which is to be written.
    pub(super) fn finish(
        &mut self,
        id: u64,
        fate: Fate,
        message_id: Option<String>,
        reason: Option<String>,
        status: u16,
        now: Now,
    ) {
        let Some(item) = self.take_item(id) else { return };
        if let Some(job) = self.jobs.get_mut(&item.job) {
            job.live.insert(item.key.clone(), None);
            job.items -= 1;
            job.unwritten += 1;
        }
        let outcome = Outcome {
            provider: Some(item.provider),
            fate,
            attempts: item.attempts,
            message_id,
            status,
            reason,
            at: now.wall.0,
        };
        self.finished.push_back(Finished {
            job: item.job,
            run: item.run,
            key: item.key,
            outcome,
            was_sent: item.sent != Nanos(0),
        });
    }

    /// A device gets nothing, and nothing is said of it.
    fn drop_item(&mut self, id: u64) {
        let Some(item) = self.take_item(id) else { return };
        let Some(job) = self.jobs.get_mut(&item.job) else { return };
        job.live.remove(&item.key);
        job.items -= 1;
        job.tried -= u64::from(item.sent != Nanos(0));
        if let Some(run) = job.runs.iter_mut().find(|it| it.number == item.run) {
            run.open -= 1;
        }
        self.dirty.insert(item.job);
    }

    /// Nothing more is planned or sent of a publish. What is under way is heard out.
    pub(super) fn end(&mut self, number: u64, state: State, reason: &str, now: Now) {
        let Some(job) = self.jobs.get_mut(&number) else { return };
        if std::mem::replace(&mut job.is_over, true) {
            return;
        }
        self.open -= 1;
        let is_expired = state == State::Expired;
        if !is_expired {
            job.progress.state = state;
            job.progress.finished_at = Some(now.wall.0);
        }
        if state != State::Cancelled {
            job.progress.error_reason.get_or_insert_with(|| reason.to_owned());
        }
        self.dirty.insert(number);
        job.retrying = 0;
        job.ready = Default::default();
        let ids: Vec<u64> = job.live.values().flatten().copied().collect();
        for id in ids {
            let Some(item) = self.items.get(&id) else { continue };
            match item.stage {
                Stage::Flying => continue,
                Stage::Waiting(at) => drop(self.retries.remove(&(at, id))),
                Stage::Ready => {}
            }
            match is_expired {
                true => {
                    self.counts.skipped.fetch_add(1, Ordering::Relaxed);
                    self.finish(id, Fate::Expired, None, None, 0, now);
                }
                false => self.drop_item(id),
            }
        }
    }
}

impl Bucket {
    /// There is no token; 0 a second: there is always one.
    fn is_empty(&mut self, rate: u32, now: Nanos) -> bool {
        let mut copy = *self;
        rate > 0 && copy.take(rate, rate, now).is_err()
    }

    fn spend(&mut self, rate: u32, now: Nanos) {
        if rate > 0 {
            // Looked at before.
            let _ = self.take(rate, rate, now);
        }
    }

    /// When there is one again.
    pub(super) fn due(&self, rate: u32, now: Nanos) -> Option<Nanos> {
        let mut copy = *self;
        (rate > 0).then(|| copy.take(rate, rate, now).err().map(|pause| now + pause)).flatten()
    }
}

pub(super) fn quota_key(app: &str) -> Bytes {
    keys::key(keys::QUOTA, app, &[], true)
}

fn job_mut(jobs: &mut BTreeMap<u64, Job>, number: u64) -> &mut Job {
    jobs.get_mut(&number).expect("the publish was looked up a few lines above")
}

/// What the console shows of a message that is logged.
fn line_of(parcel: &Parcel, key: &str) -> String {
    let cut = |it: &Option<String>| {
        it.as_deref().unwrap_or_default().chars().take(LOGGED_TEXT).collect::<String>()
    };
    let text = &parcel.message.text;
    let (app, id) = (&parcel.app, &parcel.publish_id);
    let (provider, title, body) = (parcel.provider.as_str(), cut(&text.title), cut(&text.body));
    format!("{app} {id} {provider} {key}: {title:?} {body:?}")
}
