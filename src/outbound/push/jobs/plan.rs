//! Planning: targets become devices, page by page, no faster than devices are done with.

use std::collections::HashMap;

use super::admit::bytes_of;
use super::job::{Body, Item, Run, Stage};
use super::record::{Cursor, PAGE_DEVICES, Progress, Spec};
use super::settle::Finished;
use super::*;
use crate::outbound::push::Looking;
use crate::outbound::push::provider::Address;
use crate::push::Provider;
use crate::push::device::{Device, DeviceState, Recipient};
use crate::push::publish::{Fate, Target};
use crate::push::stored::decode;

/// Room for fewer devices is waited for.
const ROOM_MIN: usize = 16;
/// A publish with so many devices that can be sent to reads no further.
const READY_ENOUGH: usize = PAGE_DEVICES as usize / 2;
/// Devices whose own rate is remembered; it is forgotten of those that sent nothing for longest enough.
const DEVICE_RATES_MAX: usize = 65_536;

/// A page that is being read.
pub struct Page {
    start: Cursor,
    rows: usize,
}

/// A page whose devices are being read.
pub struct PickedPage {
    start: Cursor,
    end: Cursor,
    rows: usize,
    candidates: Vec<Candidate>,
    /// The publish names each of them; else an index does, which may be a moment behind.
    is_named: bool,
}

/// Somebody who may be sent something: a device by its id, or an address.
struct Candidate {
    key: String,
    to: Option<(Provider, Address)>,
}

/// A page that waits to hear who has a connection.
pub struct Looked {
    job: u64,
    rows: usize,
    clients: Vec<String>,
    items: Vec<Item>,
}

impl Jobs {
    /// Devices in memory: read, awake, and not known to be written.
    pub(super) fn pending(&self) -> usize {
        let writing = self.settling.as_ref().map_or(0, |it| it.outcomes());
        self.items.len() - self.asleep + self.finished.len() + writing
    }

    /// Lets a publish wait for a turn to read on, if it has reason to.
    pub(super) fn want_page(&mut self, number: u64) {
        let Some(job) = self.jobs.get_mut(&number) else { return };
        let is_hungry = !job.is_planned
            && !job.is_held
            && !job.is_parked
            && job.ready_devices() <= READY_ENOUGH;
        if is_hungry && !job.is_over && !job.is_in_plan {
            job.is_in_plan = true;
            self.planning.push(&job.app, number);
        }
    }

    /// Reads pages as long as there is room for what they bring.
    pub(super) fn plan(&mut self, now: Now, out: &mut Vec<Step>) {
        self.plan_again(ROOM_MIN);
        while self.pages < PAGES_MAX && now.steady >= self.store_at && !self.planning.is_empty() {
            let taken = self.pending() + self.reserved;
            let room = (self.settings.pending_max as usize).saturating_sub(taken);
            if room < ROOM_MIN {
                if !self.make_room(now) {
                    return;
                }
                continue;
            }
            let Some(number) = self.planning.pop() else { return };
            let Some(job) = self.jobs.get_mut(&number) else { continue };
            if job.is_over || job.is_planned || job.is_held || job.is_parked {
                job.is_in_plan = false;
                continue;
            }
            match &job.body {
                Body::Coming => {}
                Body::Here(spec, _) => {
                    let (spec, app) = (Arc::clone(spec), Arc::clone(&job.app));
                    let room = room.min(self.room_of(&app)).min(PAGE_DEVICES as usize);
                    if self.has_room(&app, ROOM_MIN) {
                        self.read_page(number, &spec, room, now, out);
                    } else if self.make_room(now) {
                        self.planning.push(&app, number);
                    } else {
                        self.wait_for_room(&app, number);
                    }
                }
                Body::Absent if self.bodies_bytes > BODIES_BYTES_MAX => {
                    self.planning.push(&job.app, number);
                    return;
                }
                Body::Absent => {
                    job.body = Body::Coming;
                    let keys = vec![job.place().spec(), job.place().progress()];
                    self.ask(Asked::Body(number), Ask::Pick { shelf: Shelf::Push, keys }, out);
                }
            }
        }
    }

    /// A publish is read.
    pub(super) fn loaded(&mut self, number: u64, answer: Answer, now: Now, out: &mut Vec<Step>) {
        let Some(job) = self.jobs.get_mut(&number) else { return };
        job.is_in_plan = false;
        let Answer::Values { values, .. } = answer else {
            job.body = Body::Absent;
            self.store_at = now.steady + STORE_PAUSE;
            return self.want_page(number);
        };
        let value = |key: Bytes| values.iter().find(|it| it.0 == key).map(|it| &it.1);
        let spec = value(job.place().spec()).and_then(|it| decode::<Spec>(it));
        let progress = value(job.place().progress()).and_then(|it| decode::<Progress>(it));
        let (Some(spec), Some(progress)) = (spec, progress) else {
            // Nothing can be sent of it, and nothing said: the mark that it is not finished goes.
            out.push(Step::Say(Note::Unreadable(format!("publish {} of {}", job.id, job.app))));
            let changes = vec![record::remove(job.place().open())];
            self.done.push(errand::Done {
                job: None,
                letter: None,
                changes,
                end: errand::Outcome::Dropped,
            });
            return self.forget(number);
        };
        if job.is_over {
            // It was called off meanwhile: what it was does not matter any more.
            job.body = Body::Absent;
            return;
        }
        let bytes = bytes_of(&spec);
        self.bodies_bytes += bytes;
        // What an errand read and changed meanwhile is newer.
        if !job.is_known {
            job.know(progress);
        }
        let is_final = job.progress.state.is_final();
        let spec = Arc::new(spec);
        job.body = Body::Here(Arc::clone(&spec), bytes);
        if is_final {
            // It was called off or ended in the commit whose answer never came.
            let changes = vec![record::remove(job.place().open())];
            self.done.push(errand::Done {
                job: None,
                letter: None,
                changes,
                end: errand::Outcome::Dropped,
            });
            if self.dirty.contains(&number) {
                // It goes when that is written.
                job.is_over = true;
                self.open -= 1;
                return;
            }
            return self.forget(number);
        }
        let ends_at = self.ends_at(&spec, &self.jobs[&number].progress);
        if let Some(job) = self.jobs.get_mut(&number) {
            job.ends_at = ends_at;
            self.ends.insert((ends_at, number));
        }
        self.want_page(number);
    }

    fn read_page(&mut self, number: u64, spec: &Spec, rows: usize, now: Now, out: &mut Vec<Step>) {
        let Some(job) = self.jobs.get_mut(&number) else { return };
        job.is_reading = true;
        self.pages += 1;
        self.reserved += rows;
        let app = Arc::clone(&job.app);
        let start = job.next.clone();
        self.hold(&app, rows);
        let Some(job) = self.jobs.get_mut(&number) else { return };
        let targets = &spec.intent.targets;
        let prefix = match targets.get(start.target as usize) {
            Some(Target::Client(id)) => {
                Some(keys::key(keys::OF_CLIENT, &job.app, &[id.as_bytes()], false))
            }
            Some(Target::Channel(name)) => {
                Some(keys::key(keys::SUBSCRIPTION, &job.app, &[name.as_bytes()], false))
            }
            _ => None,
        };
        if let Some(prefix) = prefix {
            let after = (!start.after.is_empty()).then(|| Bytes::from(start.after.clone()));
            let ask = Ask::read(Shelf::Push, prefix, after, rows as u32);
            return self.ask(Asked::Page(number, Page { start, rows }), ask, out);
        }
        // Single devices and addresses that follow each other are a page.
        let mut candidates = Vec::new();
        let mut end = start.clone();
        while candidates.len() < rows {
            let Some(target) = targets.get(end.target as usize) else { break };
            let Some(candidate) = single(target, end.target as usize) else { break };
            candidates.push(candidate);
            end.target += 1;
        }
        if end.target as usize == targets.len() && candidates.is_empty() {
            let seen = index_of(&end.after);
            for key in job.progress.replays.iter().skip(seen).take(rows) {
                let index = key.strip_prefix('#').and_then(|it| it.parse::<usize>().ok());
                let target = index.and_then(|it| single(targets.get(it)?, it));
                let to = target.and_then(|it| it.to);
                candidates.push(Candidate { key: key.clone(), to });
            }
            end.after = ((seen + candidates.len()) as u32).to_be_bytes().to_vec();
        }
        self.pick(number, PickedPage { start, end, rows, candidates, is_named: true }, now, out);
    }

    /// Keys of devices are read.
    pub(super) fn paged(
        &mut self,
        number: u64,
        page: Page,
        answer: Answer,
        now: Now,
        out: &mut Vec<Step>,
    ) {
        let Page { start, rows } = page;
        let spec = self.jobs.get(&number).and_then(Job::spec);
        let (Answer::Values { values, has_more }, Some(spec)) = (answer, spec) else {
            self.store_at = now.steady + STORE_PAUSE;
            return self.page_over(number, rows);
        };
        let app = Arc::clone(&self.jobs[&number].app);
        let prefix = match spec.intent.targets.get(start.target as usize) {
            Some(Target::Client(id)) => keys::key(keys::OF_CLIENT, &app, &[id.as_bytes()], false),
            Some(Target::Channel(name)) => {
                keys::key(keys::SUBSCRIPTION, &app, &[name.as_bytes()], false)
            }
            _ => Bytes::new(),
        };
        let end = match values.last() {
            Some((key, _)) if has_more => Cursor { target: start.target, after: key.to_vec() },
            _ => Cursor { target: start.target + 1, after: Vec::new() },
        };
        let ids = values.iter().filter_map(|(key, _)| keys::rest(&prefix, key));
        let candidates = ids.map(|id| Candidate { key: id.to_owned(), to: None }).collect();
        self.pick(number, PickedPage { start, end, rows, candidates, is_named: false }, now, out);
    }

    /// Reads devices, and outcomes that there are.
    fn pick(&mut self, number: u64, page: PickedPage, now: Now, out: &mut Vec<Step>) {
        let Some(job) = self.jobs.get(&number) else { return self.page_over(number, page.rows) };
        let mut keys = Vec::with_capacity(page.candidates.len() * 2);
        for candidate in &page.candidates {
            keys.push(job.place().outcome(&candidate.key));
            if candidate.to.is_none() {
                keys.push(device_key(&job.app, &candidate.key));
            }
        }
        if keys.is_empty() {
            let answer = Answer::Values { values: Vec::new(), has_more: false };
            return self.picked(number, page, answer, now, out);
        }
        self.ask(Asked::Picked(number, page), Ask::Pick { shelf: Shelf::Push, keys }, out);
    }

    /// Devices are read: those without an outcome are to be sent to.
    pub(super) fn picked(
        &mut self,
        number: u64,
        page: PickedPage,
        answer: Answer,
        now: Now,
        out: &mut Vec<Step>,
    ) {
        let spec = self.jobs.get(&number).and_then(Job::spec);
        let (Answer::Values { values, .. }, Some(spec)) = (answer, spec) else {
            self.store_at = now.steady + STORE_PAUSE;
            return self.page_over(number, page.rows);
        };
        if self.jobs[&number].is_over {
            return self.page_over(number, page.rows);
        }
        let values: HashMap<Bytes, Bytes> = values.into_iter().collect();
        let run = self.number();
        let (mut items, mut skipped, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
        for candidate in page.candidates {
            let Some(job) = self.jobs.get_mut(&number) else { break };
            let key = candidate.key;
            let is_known = job.live.contains_key(&key) || job.fresh.contains(&key);
            if is_known || values.contains_key(&job.place().outcome(&key)) {
                continue;
            }
            let (provider, address, device) = match candidate.to {
                Some((provider, address)) => (provider, address, None),
                None => {
                    let device_key = device_key(&job.app, &key);
                    let Some(value) = values.get(&device_key) else {
                        // One that went from under an index gets nothing; who named it is told.
                        if page.is_named {
                            job.live.insert(key.clone(), None);
                            unknown.push(key);
                        }
                        continue;
                    };
                    let Some(mut device) = decode::<Device>(value) else {
                        out.push(Step::Say(Note::Unreadable(format!("device {key}"))));
                        continue;
                    };
                    // What it says of itself may be long, and is not needed here.
                    device.metadata = String::new();
                    let address = Address::Recipient(device.recipient.clone());
                    (device.recipient.provider(), address, Some(Box::new(device)))
                }
            };
            job.live.insert(key.clone(), None);
            let reason = match &device {
                Some(it) if it.state == DeviceState::Failed => Some("device_failed"),
                Some(it) if !self.is_within_rate(number, it, now) => Some("device_rate"),
                _ => None,
            };
            let (sent, stage) = (Nanos(0), Stage::Ready);
            let job = number;
            let (attempts, is_asleep) = (0, false);
            let item =
                Item { job, run, key, provider, address, device, attempts, sent, stage, is_asleep };
            match reason {
                Some(reason) => skipped.push((item, reason)),
                None => items.push(item),
            }
        }
        let Some(job) = self.jobs.get_mut(&number) else { return };
        job.next = page.end;
        let target_count = spec.intent.targets.len();
        job.is_planned = job.next.target as usize >= target_count
            && index_of(&job.next.after) >= job.progress.replays.len();
        self.dirty.insert(number);
        let open = (items.len() + skipped.len() + unknown.len()) as u32;
        if open > 0 {
            job.runs.push_back(Run { number: run, start: page.start, open });
        }
        for (item, reason) in skipped {
            self.skip(item, Fate::Skipped, reason, now);
        }
        for key in unknown {
            self.end_unsent(number, run, key, None, Fate::Failed, "not_registered", now);
        }
        let clients: Vec<String> =
            items.iter().filter_map(|it| it.device.as_ref()?.client_id.clone()).collect();
        if !spec.intent.skip_connected || clients.is_empty() {
            return self.page_ready(number, page.rows, items);
        }
        let look = self.number();
        let app = self.jobs[&number].app.to_string();
        out.push(Step::Look(look, Looking { app, clients: clients.clone() }));
        self.looks.insert(look, Looked { job: number, rows: page.rows, clients, items });
    }

    /// Who has a connection is known.
    pub(super) fn has_looked(&mut self, look: u64, are_there: &[bool], now: Now) {
        let Some(Looked { job, rows, clients, items }) = self.looks.remove(&look) else { return };
        let there: std::collections::HashSet<&str> = clients
            .iter()
            .zip(are_there)
            .filter(|it| *it.1)
            .map(|(client, _)| client.as_str())
            .collect();
        let is_there = |item: &Item| {
            let client = item.device.as_ref().and_then(|it| it.client_id.as_deref());
            client.is_some_and(|it| there.contains(it))
        };
        let (skipped, items): (Vec<_>, Vec<_>) = items.into_iter().partition(is_there);
        for item in skipped {
            self.skip(item, Fate::Connected, "connected", now);
        }
        self.page_ready(job, rows, items);
    }

    fn skip(&mut self, item: Item, fate: Fate, reason: &str, now: Now) {
        self.counts.skipped.fetch_add(1, Ordering::Relaxed);
        let Item { job, run, key, provider, .. } = item;
        self.end_unsent(job, run, key, Some(provider), fate, reason, now);
    }

    /// A device has its outcome without anybody having been asked.
    #[expect(clippy::too_many_arguments, reason = "what is known of one device")]
    fn end_unsent(
        &mut self,
        job: u64,
        run: u64,
        key: String,
        provider: Option<Provider>,
        fate: Fate,
        reason: &str,
        now: Now,
    ) {
        let outcome = Outcome {
            provider,
            fate,
            attempts: 0,
            message_id: None,
            status: 0,
            reason: Some(reason.to_owned()),
            at: now.wall.0,
        };
        if let Some(job) = self.jobs.get_mut(&job) {
            job.unwritten += 1;
        }
        self.finished.push_back(Finished { job, run, key, outcome, was_sent: false });
    }

    /// What a page brought can be sent.
    fn page_ready(&mut self, number: u64, rows: usize, items: Vec<Item>) {
        for item in items {
            let id = self.number();
            let Some(job) = self.jobs.get_mut(&number) else { break };
            if job.is_over {
                job.live.remove(&item.key);
                continue;
            }
            job.live.insert(item.key.clone(), Some(id));
            job.items += 1;
            let provider = item.provider;
            job.ready[provider as usize].push_back(id);
            let app = Arc::clone(&job.app);
            self.hold(&app, 1);
            self.items.insert(id, item);
            self.want_send(number, provider);
        }
        self.page_over(number, rows);
    }

    /// A page is read, or cannot be.
    fn page_over(&mut self, number: u64, rows: usize) {
        self.pages -= 1;
        self.reserved -= rows;
        if let Some(app) = self.jobs.get(&number).map(|it| Arc::clone(&it.app)) {
            self.release(&app, rows);
        }
        if let Some(job) = self.jobs.get_mut(&number) {
            (job.is_reading, job.is_in_plan) = (false, false);
            job.fresh.clear();
            self.dirty.insert(number);
        }
        self.want_page(number);
    }

    /// Takes devices out of memory that cannot be sent to for a while; they are read again when they can. False: there are
    /// none.
    fn make_room(&mut self, now: Now) -> bool {
        let mut has_made = false;
        let mut gone = Vec::new();
        for (key, lane) in &self.lanes {
            if lane.opens_at(now.steady).is_some() {
                for number in &lane.stalled {
                    gone.push((*number, key.provider));
                }
            }
        }
        for (number, provider) in gone {
            let Some(job) = self.jobs.get_mut(&number) else { continue };
            // One that reads would not know of what it reads again.
            if job.is_reading || job.is_over {
                continue;
            }
            let (mut kept, mut let_go) = (VecDeque::new(), Vec::new());
            for id in std::mem::take(&mut job.ready[provider as usize]) {
                let Some(item) = self.items.get(&id) else { continue };
                if item.attempts > 0 {
                    kept.push_back(id);
                    continue;
                }
                job.live.remove(&item.key);
                if let Some(run) = job.runs.iter_mut().find(|it| it.number == item.run) {
                    run.open -= 1;
                    job.next = job.next.clone().min(run.start.clone());
                    job.is_planned = false;
                }
                job.items -= 1;
                (job.is_parked, has_made) = (true, true);
                let_go.push(id);
            }
            job.runs.retain(|it| it.open > 0);
            job.ready[provider as usize] = kept;
            for id in let_go {
                self.take_item(id);
            }
        }
        has_made
    }

    fn is_within_rate(&mut self, number: u64, device: &Device, now: Now) -> bool {
        let Some(rate) = device.rate else { return true };
        let Some(job) = self.jobs.get(&number) else { return true };
        if self.device_rates.len() >= DEVICE_RATES_MAX {
            self.device_rates.retain(|_, it| !it.is_full(1, now.steady));
            if self.device_rates.len() >= DEVICE_RATES_MAX {
                self.device_rates.clear();
            }
        }
        let key = (Arc::clone(&job.app), device.id.clone());
        let bucket = self.device_rates.entry(key).or_default();
        bucket.take(rate.capacity, rate.refill_per_second, now.steady).is_ok()
    }
}

fn device_key(app: &str, id: &str) -> Bytes {
    keys::key(keys::DEVICE, app, &[id.as_bytes()], true)
}

/// A target that is one device or address.
fn single(target: &Target, index: usize) -> Option<Candidate> {
    let named = |to| Some(Candidate { key: format!("#{index}"), to: Some(to) });
    match target {
        Target::Device(id) => Some(Candidate { key: id.clone(), to: None }),
        Target::Direct(it) => named((it.provider(), Address::Recipient(Recipient::clone(it)))),
        Target::ProviderTopic(it, topic) => named((*it, Address::Topic(topic.clone()))),
        Target::ProviderCondition(it, text) => named((*it, Address::Condition(text.clone()))),
        Target::Client(_) | Target::Channel(_) => None,
    }
}

/// How many of the devices that are tried again on request a cursor is behind.
fn index_of(after: &[u8]) -> usize {
    after.first_chunk::<4>().map_or(0, |it| u32::from_be_bytes(*it) as usize)
}
