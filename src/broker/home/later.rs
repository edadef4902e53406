//! What is done later: schedules, on disk until they are done.
//!
//! A home knows, of those whose channel is at home here, when they are due and what they are called; the rest it reads
//! when it is time. A due one is done in one step with its removal: whatever it writes goes into one batch with
//! [`Change::RemoveKept`] of its body, and nobody hears of it before. So it is done once, however often it is tried and
//! wherever the process ends; who cancels it removes the same body and is first or not.
//!
//! "Due" is a matter of the wall clock, which may step: it is compared when it is time and again every minute.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;

use super::asking::Pending;
use super::durable::refusal_of;
use super::publishing::queue_push;
use super::state::Origin;
use super::{Asker, Home};
use crate::base::event_id::EventId;
use crate::base::ids::{AppIndex, ShardId};
use crate::base::name::{Channel, Name};
use crate::base::time::{Millis, Nanos, Now, UnixMillis};
use crate::broker::deferred::{self, Body};
use crate::broker::state::{Deferred, Schedule, Scheduled, SchedulesQuery};
use crate::broker::{Command, Down, Meta, Refusal, Render, Reply};
use crate::store::{Answer, Ask, Change, Fault, NEVER, Shelf};

// The first bounds are low in tests, so that the model of them meets each.

/// Schedules of one home that are being done, at most; those that are to be tried again among them.
pub const DUE_AT_ONCE: usize = if cfg!(test) { 4 } else { 256 };
/// Schedules of one home in memory, at most: the first that are due. The others stay on disk and are loaded when
/// half of these are done.
const LOADED_MAX: usize = if cfg!(test) { 16 } else { 262_144 };
/// Schedules in one page of the index ...
const PAGE_SCHEDULES: u32 = if cfg!(test) { 3 } else { 1_000 };
/// ... and bytes of it.
const PAGE_BYTES_MAX: u64 = 256 << 10;
/// The wall clock is looked at again at least this often while anything waits for it.
const LOOK_AGAIN: Millis = Millis(60_000);
/// Who hears of something this much after its time is told that it is late.
const LATE: Millis = Millis(1_000);
/// How soon something that failed is tried again; then twice as long each time ...
const RETRY: Millis = Millis(1_000);
/// ... up to this.
const RETRY_MAX: Millis = Millis(60_000);
/// How long the mark of one that was done stays: much longer than it can take to find out about a write.
const MARK_SPAN: Millis = Millis(3_600_000);
/// Asks of peers about schedules and single uses that the store has not answered; a further one is refused.
const ASKS_MAX: usize = 4_096;
/// Asks with the same key that wait for the answer to the first.
const SAME_KEY_MAX: usize = 1_024;
/// Schedules told at once ...
const TOLD_MAX: u32 = 100;
/// ... and bytes of them.
const TOLD_BYTES_MAX: u64 = 1 << 20;

/// One that waits, in the order in which they are due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    due: UnixMillis,
    id: EventId,
    app: AppIndex,
    body: Body,
}

/// One that is being done.
#[derive(Clone, Copy, Debug)]
struct Doing {
    due: UnixMillis,
    app: AppIndex,
    body: Body,
    tries: u32,
    /// What is in the way of being done is a publish.
    is_publish: bool,
    is_late: bool,
}

/// How much of the index is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Loading {
    /// All of it, or this home does no schedules.
    #[default]
    Done,
    /// More is to be read, from then on.
    Wanted(Nanos),
    /// There is more, and no room for it.
    Full,
    /// The store was asked.
    Asked,
}

/// What a home knows of what is to be done later.
#[derive(Debug, Default)]
pub(super) struct Later {
    waiting: BTreeSet<Waiting>,
    doing: HashMap<EventId, Doing>,
    /// Those of `doing` that are to be tried again, by when.
    retries: BTreeSet<(Nanos, EventId)>,
    loading: Loading,
    /// Up to this key of the index all is known.
    loaded_to: Option<Bytes>,
    /// When there is something to look at.
    look_at: Option<Nanos>,
    keys: HashMap<(Channel, Name), Used>,
    /// When the time of each is over.
    keys_until: BTreeMap<(Nanos, EventId), (Channel, Name)>,
    /// Asks of peers that the store has not answered.
    open: usize,
}

/// What a key was used for.
#[derive(Debug)]
struct Used {
    fingerprint: [u8; 16],
    id: EventId,
    at: UnixMillis,
    /// Its time is over then.
    until: Nanos,
    stage: UsedStage,
}

#[derive(Debug)]
enum UsedStage {
    OnDisk,
    /// On its way, and who waits for it.
    Asked(Vec<Asker>),
    /// The store failed at it: who comes again finds out.
    Unknown,
}

/// What the store was asked about what is done later.
#[derive(Debug)]
pub(super) enum Asked {
    /// A page of the index, after this key.
    Index(Option<Bytes>),
    Schedule(Box<Scheduling>),
    /// To list some of an app.
    List(Asker, AppIndex),
    /// What is to be cancelled.
    Find(Asker, AppIndex, EventId),
    Cancel(Asker, AppIndex, UnixMillis, EventId),
    UseOnce(Asker),
    /// What is due.
    Due(EventId),
    /// A notification that is due was put on the store's queue.
    Pushed(EventId),
}

/// A schedule on its way to disk.
#[derive(Debug)]
pub(super) struct Scheduling {
    asker: Asker,
    waiting: Waiting,
    key: Option<(Channel, Name)>,
    bytes: u64,
}

impl Later {
    /// Nothing is known of what is on disk.
    pub(super) fn to_load() -> Self {
        Self { loading: Loading::Wanted(Nanos(0)), look_at: Some(Nanos(0)), ..Self::default() }
    }

    pub(super) fn next_due(&self) -> Option<Nanos> {
        self.look_at
    }

    /// Sees to it that whatever is due next is looked at then.
    fn set_look(&mut self, now: Now) {
        let first = self.waiting.first().filter(|_| self.doing.len() < DUE_AT_ONCE);
        let first = first.map(|it| {
            let left = Millis(it.due.0.saturating_sub(now.wall.0));
            now.steady + left.min(LOOK_AGAIN)
        });
        let retry = self.retries.first().map(|&(at, _)| at);
        let key = self.keys_until.first_key_value().map(|(&(at, _), _)| at);
        let load = match self.loading {
            Loading::Wanted(at) => Some(at),
            Loading::Full if self.has_room() => Some(now.steady),
            _ => None,
        };
        self.look_at = [first, retry, key, load].into_iter().flatten().min();
    }

    fn await_due(&mut self, waiting: Waiting, now: Now) {
        if !self.doing.contains_key(&waiting.id) {
            self.waiting.insert(waiting);
            self.bound();
        }
        self.set_look(now);
    }

    /// Whether it is time to load those that found no room.
    fn has_room(&self) -> bool {
        self.waiting.len() < LOADED_MAX / 2
    }

    /// Forgets the last ones if there are more than may be in memory.
    fn bound(&mut self) {
        if self.waiting.len() <= LOADED_MAX {
            return;
        }
        while self.waiting.len() > LOADED_MAX {
            self.waiting.pop_last();
        }
        let last = self.waiting.last().map(|last| deferred::index_key(last.due, last.id));
        // What came anew may be behind what is not loaded yet.
        let is_all_loaded = self.loading == Loading::Done;
        self.loaded_to = if is_all_loaded { last } else { self.loaded_to.take().min(last) };
        // A page that is on its way and begins elsewhere now is read once more.
        self.loading = Loading::Full;
    }
}

impl Home {
    /// Whether a peer may ask one more.
    pub(super) fn may_ask_later(&mut self) -> bool {
        let may = self.later.open < ASKS_MAX;
        self.later.open += usize::from(may);
        may
    }

    /// Carries out an ask about what is done later, or once; the others go on.
    pub(super) fn ask_later(
        &mut self,
        asker: Asker,
        command: Command,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        match command {
            Command::Schedule(schedule) => self.schedule(asker, *schedule, now, out),
            Command::Schedules(query) => self.schedules(asker, query, out),
            Command::CancelSchedule(app, id) => self.cancel_schedule(asker, app, id, out),
            Command::UseOnce(app, name, until) => {
                self.use_once(asker, (app, name, until), now, out);
            }
            command => self.ask_state(asker, command, now, render, out),
        }
    }

    /// Takes what the store says to one of these.
    pub(super) fn later_stored(
        &mut self,
        asked: Asked,
        answer: Answer,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        if !matches!(asked, Asked::Index(_) | Asked::Due(_) | Asked::Pushed(_)) {
            self.later.open -= 1;
        }
        match asked {
            Asked::Index(after) => self.loaded(after, answer, now),
            Asked::Schedule(scheduling) => self.scheduled(*scheduling, &answer, now, out),
            Asked::List(asker, app) => self.listed(asker, app, answer, out),
            Asked::Find(asker, app, id) => self.found_schedule(asker, app, id, answer, out),
            Asked::Cancel(asker, app, due, id) => {
                let waiting = Waiting { due, id, app, body: Body::Told };
                self.cancelled(asker, waiting, &answer, out);
            }
            Asked::UseOnce(asker) => self.used_once(asker, &answer, out),
            Asked::Due(id) => self.due(id, answer, now, render, out),
            Asked::Pushed(id) => {
                let settled = match &answer {
                    Answer::Changed => Ok(()),
                    Answer::Fault(fault) => Err(refusal_of(fault)),
                    _ => Err(Refusal::StoreBusy),
                };
                self.carried_out(id, settled, now);
            }
        }
    }

    fn schedule(
        &mut self,
        asker: Asker,
        schedule: Schedule,
        now: Now,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let Schedule { what, mut at, key } = schedule;
        let channel = what.channel();
        let named = key.as_ref().map(|key| (channel.clone(), key.name.clone()));
        let mut id = None;
        if let (Some(key), Some(named)) = (&key, &named) {
            match self.scheduled_before(named, key.fingerprint, asker, now) {
                Ok(Some(before)) => (id, at) = (Some(before.0), before.1),
                Ok(None) => {}
                Err(None) => return,
                Err(Some(reply)) => return asker.answer(reply, out),
            }
        }
        let body = deferred::encode(&what, at);
        let kind = Body::of(&what);
        let bytes = body.len() as u64;
        let does_any = self.keeping.shard.is_some();
        let Some(app_id) = self.keeping.rules.app_id(channel.app).filter(|_| does_any).cloned()
        else {
            return asker.answer(Reply::Refused(Refusal::StoreBusy), out);
        };
        if !self.may_append(body.len()) || !self.may_ask_later() {
            return asker.answer(Reply::Refused(Refusal::StoreBusy), out);
        }
        let id = id.unwrap_or_else(|| self.next_id(now));
        if let (Some(key), Some(named)) = (&key, &named) {
            let (fingerprint, stage) = (key.fingerprint, UsedStage::Asked(Vec::new()));
            let until = now.steady + key.span.unwrap_or(self.keeping.key_span);
            let used = Used { fingerprint, id, at, until, stage };
            if let Some(before) = self.later.keys.insert(named.clone(), used) {
                self.later.keys_until.remove(&(before.until, before.id));
            }
            self.later.keys_until.insert((until, id), named.clone());
        }
        let stream = self.keeping.rules.stream_key(channel);
        let waiting = Waiting { due: at, id, app: channel.app, body: kind };
        let put = |key, value| (Shelf::Schedules, Change::PutNew { key, value, expires: NEVER });
        let changes = vec![
            put(deferred::body_key(kind, &app_id, id), body),
            put(deferred::index_key(at, id), deferred::encode_index(&stream, kind)),
        ];
        self.in_flight_bytes += bytes;
        let scheduling = Box::new(Scheduling { asker, waiting, key: named, bytes });
        self.ask_store(Pending::Later(Asked::Schedule(scheduling)), Ask::Change { changes });
    }

    /// What was scheduled with a key before. `Ok`: nothing; or something that may be on disk, under this name and for
    /// this time. `Err`: what is to be said to who comes again; nothing yet, if that is still on its way.
    fn scheduled_before(
        &mut self,
        named: &(Channel, Name),
        fingerprint: [u8; 16],
        asker: Asker,
        now: Now,
    ) -> Result<Option<(EventId, UnixMillis)>, Option<Reply>> {
        let Some(used) = self.later.keys.get_mut(named) else {
            let keys_max = self.keeping.keys_max;
            if self.later.keys.len() < keys_max {
                return Ok(None);
            }
            let due = self.later.keys_until.first_key_value().map_or(now.steady, |(it, _)| it.0);
            let free_in = Millis(due.since(now.steady).as_millis() as u64);
            return Err(Some(Reply::Refused(Refusal::KeysFull { keys_max, free_in })));
        };
        if used.fingerprint != fingerprint {
            return Err(Some(Reply::Refused(Refusal::KeyReused)));
        }
        match &mut used.stage {
            UsedStage::OnDisk => {
                self.counts.repeats += 1;
                Err(Some(Reply::Scheduled(used.id)))
            }
            UsedStage::Asked(askers) if askers.len() < SAME_KEY_MAX => {
                self.counts.repeats += 1;
                askers.push(asker);
                Err(None)
            }
            UsedStage::Asked(_) => Err(Some(Reply::Refused(Refusal::StoreBusy))),
            // Under the name it had: if it is on disk, it is there once.
            UsedStage::Unknown => Ok(Some((used.id, used.at))),
        }
    }

    fn scheduled(
        &mut self,
        scheduling: Scheduling,
        answer: &Answer,
        now: Now,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let Scheduling { asker, waiting, key, bytes } = scheduling;
        self.in_flight_bytes -= bytes;
        let reply = match answer {
            // Its name was given to it alone: it was there already, from a try that seemed to fail.
            Answer::Changed | Answer::Fault(Fault::Exists) => Reply::Scheduled(waiting.id),
            Answer::Fault(fault) => Reply::Refused(refusal_of(fault)),
            _ => Reply::Refused(Refusal::StoreBusy),
        };
        let is_done = matches!(reply, Reply::Scheduled(_));
        let is_unknown = matches!(answer, Answer::Fault(Fault::Failed(_)));
        let used = key.as_ref().and_then(|key| self.later.keys.get_mut(key));
        // Unless its time was over meanwhile, and the key was used for another.
        let waited = match used.filter(|used| used.id == waiting.id) {
            Some(used) => {
                let stage = if is_done { UsedStage::OnDisk } else { UsedStage::Unknown };
                match std::mem::replace(&mut used.stage, stage) {
                    UsedStage::Asked(askers) => askers,
                    UsedStage::OnDisk | UsedStage::Unknown => Vec::new(),
                }
            }
            None => Vec::new(),
        };
        // Nothing was done: who comes again comes anew.
        if !is_done
            && !is_unknown
            && let Some(key) = &key
            && self.later.keys.get(key).is_some_and(|used| used.id == waiting.id)
            && let Some(used) = self.later.keys.remove(key)
        {
            self.later.keys_until.remove(&(used.until, used.id));
        }
        // What is not known to be on disk may be: then it is done, although nobody was promised it.
        if is_done || is_unknown {
            self.later.await_due(waiting, now);
        }
        for asker in std::iter::once(asker).chain(waited) {
            asker.answer(reply.clone(), out);
        }
    }

    fn schedules(&mut self, asker: Asker, query: SchedulesQuery, out: &mut Vec<(ShardId, Down)>) {
        let SchedulesQuery { app, after, only, schedules_max } = query;
        let Some(app_id) = self.keeping.rules.app_id(app).cloned() else {
            return asker.answer(Reply::Schedules(Vec::new()), out);
        };
        if !self.may_ask_later() {
            return asker.answer(Reply::Refused(Refusal::StoreBusy), out);
        }
        let ask = Ask::Read {
            shelf: Shelf::Schedules,
            prefix: match only {
                Some(id) => deferred::body_key(Body::Told, &app_id, id),
                None => deferred::body_prefix(Body::Told, &app_id),
            },
            after: after.map(|id| deferred::body_key(Body::Told, &app_id, id)),
            before: None,
            is_last_first: false,
            values_max: schedules_max.min(TOLD_MAX),
            bytes_max: TOLD_BYTES_MAX,
        };
        self.ask_store(Pending::Later(Asked::List(asker, app)), ask);
    }

    fn listed(
        &mut self,
        asker: Asker,
        app: AppIndex,
        answer: Answer,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let reply = match answer {
            Answer::Values { values, .. } => {
                let app_id = self.keeping.rules.app_id(app);
                let prefix = app_id.map(|it| deferred::body_prefix(Body::Told, it));
                let one = |(key, stored): &(Bytes, Bytes)| {
                    let id = deferred::id_of(prefix.as_ref()?, key)?;
                    let (at, what) = deferred::decode(stored, app)?;
                    Some(Scheduled { id, at, what })
                };
                Reply::Schedules(values.iter().filter_map(one).collect())
            }
            Answer::Fault(Fault::Failed(_)) => Reply::Refused(Refusal::StoreUnreadable),
            _ => Reply::Refused(Refusal::StoreBusy),
        };
        asker.answer(reply, out);
    }

    fn cancel_schedule(
        &mut self,
        asker: Asker,
        app: AppIndex,
        id: EventId,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let Some(app_id) = self.keeping.rules.app_id(app).cloned() else {
            return asker.answer(Reply::Refused(Refusal::NotFound), out);
        };
        if !self.may_ask_later() {
            return asker.answer(Reply::Refused(Refusal::StoreBusy), out);
        }
        // When it is due says where it is in the index.
        let key = deferred::body_key(Body::Told, &app_id, id);
        let ask = Ask::read(Shelf::Schedules, key, None, 1);
        self.ask_store(Pending::Later(Asked::Find(asker, app, id)), ask);
    }

    fn found_schedule(
        &mut self,
        asker: Asker,
        app: AppIndex,
        id: EventId,
        answer: Answer,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let refusal = match answer {
            Answer::Values { values, .. } => match values.first() {
                None => Refusal::NotFound,
                Some((_, stored)) => match deferred::due(stored) {
                    Some(due) => {
                        let changes = self.removal(Waiting { due, id, app, body: Body::Told });
                        self.later.open += 1;
                        let asked = Asked::Cancel(asker, app, due, id);
                        return self.ask_store(Pending::Later(asked), Ask::Change { changes });
                    }
                    None => Refusal::StoreUnreadable,
                },
            },
            Answer::Fault(Fault::Failed(_)) => Refusal::StoreUnreadable,
            _ => Refusal::StoreBusy,
        };
        asker.answer(Reply::Refused(refusal), out);
    }

    fn cancelled(
        &mut self,
        asker: Asker,
        waiting: Waiting,
        answer: &Answer,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let reply = match answer {
            Answer::Changed => {
                // If it is at home elsewhere, that home finds nothing when it is due.
                self.later.waiting.remove(&waiting);
                Reply::Done
            }
            Answer::Fault(fault) => Reply::Refused(refusal_of(fault)),
            _ => Reply::Refused(Refusal::StoreBusy),
        };
        asker.answer(reply, out);
    }

    /// What takes a schedule off the disk, or does nothing if it is not there any more.
    fn removal(&self, waiting: Waiting) -> Vec<(Shelf, Change)> {
        let Waiting { due, id, app, body } = waiting;
        let app_id = self.keeping.rules.app_id(app).map_or("", |it| it);
        vec![
            (Shelf::Schedules, Change::RemoveKept { key: deferred::body_key(body, app_id, id) }),
            (Shelf::Schedules, Change::Remove { key: deferred::index_key(due, id) }),
        ]
    }

    /// Looks whether anything is due, and begins to do it.
    pub(super) fn look_later(&mut self, now: Now) {
        if self.later.look_at.is_none_or(|at| at > now.steady) {
            return;
        }
        self.expire_schedule_keys(now);
        if matches!(self.later.loading, Loading::Wanted(at) if at <= now.steady) {
            self.load(now);
        }
        while let Some(&(at, id)) = self.later.retries.first()
            && at <= now.steady
        {
            self.later.retries.pop_first();
            self.read_due(id);
        }
        while self.later.doing.len() < DUE_AT_ONCE
            && let Some(&Waiting { due, id, app, body }) = self.later.waiting.first()
            && due <= now.wall
        {
            self.later.waiting.pop_first();
            let doing = Doing { due, app, body, tries: 0, is_publish: false, is_late: false };
            self.later.doing.insert(id, doing);
            self.read_due(id);
        }
        if self.later.loading == Loading::Full && self.later.has_room() {
            self.load(now);
        }
        self.later.set_look(now);
    }

    fn expire_schedule_keys(&mut self, now: Now) {
        for _ in 0..super::EXPIRE_MAX {
            let Some(first) = self.later.keys_until.first_entry() else { return };
            if first.key().0 > now.steady {
                return;
            }
            let ((_, id), key) = first.remove_entry();
            if self.later.keys.get(&key).is_some_and(|used| used.id == id) {
                self.later.keys.remove(&key);
            }
        }
    }

    /// Asks for the next page of the index.
    fn load(&mut self, now: Now) {
        self.later.loading = Loading::Asked;
        let after = self.later.loaded_to.clone();
        let ask = Ask::Read {
            shelf: Shelf::Schedules,
            prefix: Bytes::from_static(deferred::INDEX),
            after: after.clone(),
            before: None,
            is_last_first: false,
            values_max: PAGE_SCHEDULES,
            bytes_max: PAGE_BYTES_MAX,
        };
        self.ask_store(Pending::Later(Asked::Index(after)), ask);
        self.later.set_look(now);
    }

    /// Takes a page of the index: those whose channel is at home here.
    fn loaded(&mut self, after: Option<Bytes>, answer: Answer, now: Now) {
        match answer {
            // Some were forgotten meanwhile: what is asked next begins before this.
            _ if after != self.later.loaded_to => {}
            Answer::Values { values, has_more } => {
                self.later.loading =
                    if has_more { Loading::Wanted(now.steady) } else { Loading::Done };
                if let Some((last, _)) = values.last() {
                    self.later.loaded_to = Some(last.clone());
                }
                let rules = Arc::clone(&self.keeping.rules);
                for (key, stored) in &values {
                    // Of an app that is gone, or of a later version: left where it is.
                    let known = deferred::parse_index_key(key).zip(deferred::decode_index(stored));
                    let Some(((due, id), (stream, body))) = known else { continue };
                    let Some(channel) = rules.channel(&stream) else { continue };
                    let is_ours =
                        Some(self.channels.slots().home_of(&channel)) == self.keeping.shard;
                    if is_ours && !self.later.doing.contains_key(&id) {
                        self.later.waiting.insert(Waiting { due, id, app: channel.app, body });
                    }
                }
                self.later.bound();
            }
            _ => self.later.loading = Loading::Wanted(now.steady + RETRY),
        }
        self.later.set_look(now);
    }

    fn read_due(&mut self, id: EventId) {
        let Some(doing) = self.later.doing.get(&id) else { return };
        let app_id = self.keeping.rules.app_id(doing.app).map_or("", |it| it);
        let key = deferred::body_key(doing.body, app_id, id);
        self.ask_store(Pending::Later(Asked::Due(id)), Ask::read(Shelf::Schedules, key, None, 1));
    }

    /// Does what is due, now that it is known what that is.
    fn due(
        &mut self,
        id: EventId,
        answer: Answer,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let Some(doing) = self.later.doing.get_mut(&id) else { return };
        let Doing { due, app, body, .. } = *doing;
        let found = match answer {
            Answer::Values { values, .. } => values.into_iter().next(),
            _ => return self.carried_out(id, Err(Refusal::StoreBusy), now),
        };
        // It was cancelled, or is of a later version: then it is left where it is.
        let what = found.and_then(|(_, stored)| deferred::decode(&stored, app));
        let Some((_, what)) = what else {
            return self.carried_out(id, Err(Refusal::NotFound), now);
        };
        if now.wall < due {
            // The clock was set back meanwhile.
            self.later.doing.remove(&id);
            return self.later.await_due(Waiting { due, id, app, body }, now);
        }
        doing.is_late = now.wall.0 - due.0 > LATE.0;
        doing.is_publish = matches!(what, Deferred::Publish(_));
        let is_late = doing.is_late;
        let mut changes = self.removal(Waiting { due, id, app, body });
        changes.push(self.mark(id, now));
        // Whatever is written goes with the removal, or neither is done.
        let origin = Origin { schedule: Some(id), changes, ..Origin::default() };
        match what {
            Deferred::Publish(mut publish) => {
                (publish.arrived, publish.key) = (now.steady, None);
                if is_late {
                    let meta = publish.meta.as_deref().cloned().unwrap_or_default();
                    publish.meta = Some(Arc::new(Meta { was_due: Some(due), ..meta }));
                }
                self.publish(origin, *publish, now, render, out);
            }
            Deferred::SetValue(set) => self.set_value(origin, *set, now, render, out),
            Deferred::Push(_, queued) => {
                // Nobody here waits to hear of it: if the store fails so that nobody knows, it is tried again, and its
                // body is there or not.
                let mut changes = origin.changes;
                changes.push(queue_push(queued));
                self.ask_store(Pending::Later(Asked::Pushed(id)), Ask::Change { changes });
            }
        }
    }

    /// The mark of something that was written, by which that is known if the store fails so that nobody knows.
    pub(super) fn mark(&self, id: EventId, now: Now) -> (Shelf, Change) {
        let expires = UnixMillis(self.clock(now).0.saturating_add(MARK_SPAN.0));
        let change = Change::Put { key: deferred::mark_key(id), value: Bytes::new(), expires };
        (Shelf::Schedules, change)
    }

    /// What became of a schedule that was due: it is done; or cancelled, with [`Refusal::NotFound`]; or it is tried
    /// again. Called once for each that was begun.
    pub(super) fn carried_out(&mut self, id: EventId, settled: Result<(), Refusal>, now: Now) {
        let Some(doing) = self.later.doing.get_mut(&id) else { return };
        match settled {
            Ok(()) => {
                self.counts.schedules_done += 1;
                self.counts.schedules_late += u64::from(doing.is_late);
                self.counts.published += u64::from(doing.is_publish);
                self.later.doing.remove(&id);
            }
            Err(Refusal::NotFound) => {
                self.later.doing.remove(&id);
            }
            Err(_) => {
                let after = Millis(RETRY.0 << doing.tries.min(16)).min(RETRY_MAX);
                doing.tries += 1;
                self.later.retries.insert((now.steady + after, id));
            }
        }
        self.later.set_look(now);
    }
}

#[cfg(test)]
#[path = "later_tests.rs"]
mod tests;
