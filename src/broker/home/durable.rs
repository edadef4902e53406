//! Channels whose events go to disk first.
//!
//! Their events get their serials at once, wait for the store, and are delivered and answered when they are on
//! disk, in order. Until the store has said what it holds of a channel, asks for it wait; after the store failed
//! at something, all that was on its way is refused, the channel is opened again, and what turns out to
//! be on disk is delivered: nobody is acknowledged what is lost, and no subscriber misses what is kept.

use std::collections::VecDeque;
use std::sync::Arc;

use super::asking::Pending;
use super::cleaning::Cleaning;
use super::keeping::Used;
use super::messages::Messages;
use super::state::Origin;
use super::subscribing::Beginning;
use super::{Asker, Home, Kept};
use crate::base::event_id::EventId;
use crate::base::ids::{ConnectionId, Serial, ShardId};
use crate::base::name::Channel;
use crate::base::time::{Millis, Nanos, Now, UnixMillis};
use crate::broker::record;
use crate::broker::versioned::MessageRef;
use crate::broker::{
    Command, Down, Event, Gap, GapReason, Happening, IdempotencyKey, Mode, Position, Published,
    Refusal, Render, Reply, Start,
};
use crate::store::{self, Answer, Ask, Change, Clock, Fault, Head, KeyRecord, Record, Shelf};

/// Asks of one channel that wait for the store to say what it holds of it; a further one is refused.
const WAITING_MAX: usize = 4096;
/// Asks of one channel that wait for what is on its way; a further one does not wait.
const READERS_MAX: usize = 1024;
/// How soon a channel that could not be opened is tried again.
const RETRY: Millis = Millis(1_000);
/// How long a durable channel that nobody hears stays in memory after it was last used.
const IDLE: Millis = Millis(30_000);
/// What an event on its way to disk counts for beside its own bytes.
const IN_FLIGHT_BYTES: u64 = 256;
/// Bytes of records that were on their way when the store failed and are read back, at most.
const CATCH_UP_BYTES_MAX: u64 = 256 << 20;

/// What the home knows of a channel's stream on disk.
#[derive(Debug)]
pub(super) struct Durable {
    stage: Stage,
    /// As the store last said; its newest is not looked at.
    pub(super) head: Head,
    last_id: EventId,
    /// Asks that wait until the stream is open.
    waiting: VecDeque<(Asker, Command)>,
    /// Asks that wait until what was on its way when they came is on disk, up to a serial, in order.
    readers: VecDeque<(Serial, Asker, Command)>,
    /// Events on their way to disk, in order.
    in_flight: VecDeque<InFlight>,
    /// The store is asked what it holds.
    is_asked: bool,
    /// What it will say is old already: it is to be asked once more.
    is_stale: bool,
    /// It was open before: what was delivered since is known.
    pub(super) is_known: bool,
    /// Appends that the store has not answered, those refused already included.
    appends_open: u32,
    /// Everything else that the store has not answered.
    pub(super) reads_open: u32,
    /// How often an append failed: what was read before that may not be so.
    pub(super) failures: u64,
    /// What is written with events goes with their places; none: it is not known whether there is any.
    pub(super) has_places: Option<bool>,
    pub(super) cleaning: Option<Box<Cleaning>>,
    /// When it was last used.
    used: Nanos,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The store was asked what it holds, or will be as soon as it has answered all appends.
    Opening,
    /// It was asked to begin another life.
    Resetting,
    /// What it holds is known.
    Open,
    /// It could not say; to be asked again from then on.
    Closed(Nanos),
}

#[derive(Debug)]
struct InFlight {
    pub(super) event: Arc<Event>,
    exclude: Option<ConnectionId>,
    keep_last: Option<Millis>,
    expires: Clock,
    key: Option<Arc<IdempotencyKey>>,
    origin: Origin,
    /// Those who repeated it.
    pub(super) others: Vec<Asker>,
    bytes: u64,
}

impl Durable {
    /// A stream that nothing is known of yet.
    pub fn new(now: Now) -> Self {
        Self {
            stage: Stage::Closed(Nanos(0)),
            head: Head::default(),
            last_id: EventId::default(),
            waiting: VecDeque::new(),
            readers: VecDeque::new(),
            in_flight: VecDeque::new(),
            is_asked: false,
            is_stale: false,
            is_known: false,
            appends_open: 0,
            reads_open: 0,
            failures: 0,
            has_places: None,
            cleaning: None,
            used: now.steady,
        }
    }

    /// Answers one more with what becomes of an event that is on its way.
    pub fn answer_too(&mut self, serial: Serial, asker: Asker) {
        if let Some(it) = self.in_flight.iter_mut().find(|it| it.event.serial == serial) {
            it.others.push(asker);
        }
    }

    /// The messages that have a version on its way to disk.
    pub fn changing(&self) -> impl Iterator<Item = MessageRef> {
        self.in_flight.iter().filter_map(|it| match &it.event.happening {
            Happening::Mutated(it) => Some(it.message),
            _ => None,
        })
    }

    /// Events that are on their way to disk, in order.
    pub fn in_flight(&self) -> impl Iterator<Item = &Arc<Event>> {
        self.in_flight.iter().map(|it| &it.event)
    }

    /// Another life of the stream is asked for: what comes meanwhile waits.
    pub fn begin_reset(&mut self) {
        self.reads_open += 1;
        self.stage = Stage::Resetting;
    }

    /// It has begun; false if something else happened to the stream since.
    pub fn end_reset(&mut self) -> bool {
        let is_it = self.stage == Stage::Resetting;
        if is_it {
            self.stage = Stage::Open;
        }
        is_it
    }

    /// From when nothing but subscribers would keep the channel in memory; none while something is open.
    pub fn idle_from(&self) -> Option<Nanos> {
        let is_quiet = self.waiting.is_empty()
            && self.appends_open == 0
            && self.reads_open == 0
            && !matches!(self.stage, Stage::Opening | Stage::Resetting);
        // Of a stream that was never written there is nothing to remember: names that someone made up fill no table.
        let span = if self.head.newest == Serial(0) { Millis(0) } else { IDLE };
        is_quiet.then_some(self.used + span)
    }

    /// Lets an ask wait for what is on its way to disk, if anything is and there is room; else gives it back.
    pub fn await_flight(&mut self, asker: Asker, command: Command) -> Option<Command> {
        match self.in_flight.back() {
            Some(newest) if self.readers.len() < READERS_MAX => {
                self.readers.push_back((newest.event.serial, asker, command));
                None
            }
            _ => Some(command),
        }
    }

    /// Takes an ask that has waited long enough. After a failure it waits once more, until what is on disk is known.
    pub fn take_reader(&mut self) -> Option<(Asker, Command)> {
        let next = self.in_flight.front().map_or(Serial(u64::MAX), |it| it.event.serial);
        while self.readers.front().is_some_and(|(serial, ..)| *serial < next) {
            let (_, asker, command) = self.readers.pop_front()?;
            if self.stage == Stage::Open {
                return Some((asker, command));
            }
            self.waiting.push_back((asker, command));
        }
        None
    }

    /// When it is to be opened again for its subscribers, who may miss what is on disk.
    pub fn retry_from(&self) -> Option<Nanos> {
        match self.stage {
            Stage::Closed(at) => Some(at),
            _ => None,
        }
    }
}

/// What a change takes on its way to disk.
fn weight((_, change): &(Shelf, Change)) -> usize {
    match change {
        Change::Put { key, value, .. } | Change::PutNew { key, value, .. } => {
            key.len() + value.len()
        }
        Change::Push { value } => value.len(),
        Change::Add { key, .. } | Change::Remove { key } | Change::RemoveKept { key } => key.len(),
    }
}

pub(super) fn refusal_of(fault: &Fault) -> Refusal {
    match fault {
        Fault::Full => Refusal::StoreFull,
        Fault::Failed(_) => Refusal::StoreFailed,
        Fault::Exists => Refusal::Used,
        Fault::Missing => Refusal::NotFound,
        Fault::Order | Fault::Unavailable => Refusal::StoreBusy,
    }
}

/// The channel of an ask that is about its past or adds to it.
fn of_history(command: &Command) -> Option<&Channel> {
    match command {
        Command::Publish(publish) => Some(&publish.channel),
        // What tells of it has an id, which comes after all the channel had.
        Command::React(react) => Some(&react.channel),
        Command::Annotate(annotate) => Some(&annotate.channel),
        Command::Mutate(mutate) => Some(&mutate.channel),
        // A pattern is no channel, and has no past.
        Command::Subscribe(subscribe) if subscribe.is_pattern => None,
        Command::Subscribe(subscribe) => Some(&subscribe.channel),
        Command::History(channel, _)
        | Command::Replay(channel, _)
        | Command::Stream(channel)
        | Command::Reset(channel)
        | Command::Latest(channel, _)
        | Command::Versions(channel, _)
        | Command::Annotations(channel, _)
        | Command::Summaries(channel)
        | Command::Purge(channel, _) => Some(channel),
        _ => None,
    }
}

impl Home {
    /// Keeps an ask for later if its channel is on disk and what is there is not known yet. Gives it back if it
    /// can be carried out.
    pub(super) fn wait_for_store(
        &mut self,
        asker: Asker,
        command: Command,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) -> Option<Command> {
        let Some(channel) = of_history(&command) else { return Some(command) };
        let number = match self.find(channel) {
            Some(number) => number,
            None => {
                let rule = self.keeping.rules.of(channel);
                if rule.is_none_or(|rule| rule.mode != Mode::Durable) {
                    return Some(command);
                }
                match self.find_or_hold(&channel.clone(), now) {
                    Ok(number) => number,
                    Err(refusal) => {
                        self.refuse(asker, &command, refusal, out);
                        return None;
                    }
                }
            }
        };
        let Some(durable) = self.durable(number) else { return Some(command) };
        durable.used = now.steady;
        match durable.stage {
            Stage::Open => return self.behind_presence(number, asker, command),
            Stage::Closed(at) if at > now.steady => {
                self.without_store(number, asker, command, now, render, out);
                return None;
            }
            _ if durable.waiting.len() >= WAITING_MAX => {
                self.refuse(asker, &command, Refusal::StoreBusy, out);
                return None;
            }
            Stage::Closed(_) => {
                durable.waiting.push_back((asker, command));
                self.open(number);
            }
            Stage::Opening | Stage::Resetting => durable.waiting.push_back((asker, command)),
        }
        None
    }

    fn refuse(
        &mut self,
        asker: Asker,
        command: &Command,
        refusal: Refusal,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        match command {
            Command::Publish(publish) if publish.quiet => {
                if let Some(again) = Self::again(publish) {
                    self.keep_later(again);
                }
            }
            _ => asker.answer(Reply::Refused(refusal), out),
        }
    }

    /// Carries out what can be while the store is not there: to listen. What is not stored is not published.
    fn without_store(
        &mut self,
        number: u32,
        asker: Asker,
        command: Command,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let gap =
            |asked| Box::new(Err(Gap { reason: GapReason::Unavailable, asked, stream: None }));
        match command {
            Command::Subscribe(subscribe) => {
                if subscribe.values.is_some() {
                    let refusal = Refusal::StoreBusy;
                    return asker.answer(Reply::Refused(refusal), out);
                }
                let replay = match subscribe.start {
                    Start::Now => None,
                    Start::After(position) => Some(gap(position)),
                    Start::Events(_) | Start::Since(_) => Some(gap(Position::default())),
                };
                let beginning = Beginning { replay, ..Beginning::default() };
                self.attach(asker, subscribe, beginning, now, render, out);
            }
            Command::Replay(_, position) => asker.answer(Reply::Replayed(gap(position)), out),
            command => self.refuse(asker, &command, Refusal::StoreBusy, out),
        }
        self.settle_if_held(number, now);
    }

    /// Asks the store what it holds, once it has answered all appends: their outcome is part of it.
    pub(super) fn open(&mut self, number: u32) {
        let channel = &self.channels[number].channel;
        let stream = self.keeping.rules.stream_key(channel);
        let newest = self.window(number).map_or(0, |window| window.newest);
        let window_events = self.keeping.window_events;
        let replay_bytes = self.keeping.replay.bytes;
        let Some(durable) = self.durable(number) else { return };
        durable.stage = Stage::Opening;
        durable.is_stale = durable.is_asked;
        if durable.appends_open > 0 || durable.is_asked {
            return;
        }
        durable.is_asked = true;
        durable.reads_open += 1;
        let (after, bytes_max) = match durable.is_known {
            true => (Serial(newest), CATCH_UP_BYTES_MAX),
            false => (Serial(u64::MAX), replay_bytes),
        };
        let ask = Ask::Open { stream, after, tail: window_events as u32, bytes_max };
        self.ask_store(Pending::Open(number), ask);
    }

    /// Takes what the store says of a stream, if it is newer than what is known: its two threads say so in no
    /// particular order. The oldest record only ever moves on.
    pub(super) fn learn(&mut self, number: u32, head: Head) {
        let Some(durable) = self.durable(number) else { return };
        let known = durable.head;
        if head.epoch == known.epoch && (head.oldest, head.newest) >= (known.oldest, known.newest) {
            durable.head = Head { last_id: known.last_id, ..head };
            self.with_window(number, |window| window.forget_before(head.oldest.0));
            if head.oldest > known.oldest {
                self.clean(number);
            }
        }
    }

    pub(super) fn opened(
        &mut self,
        number: u32,
        answer: Answer,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        self.read_done(number);
        let Some(durable) = self.durable(number) else { return };
        durable.is_asked = false;
        if std::mem::take(&mut durable.is_stale) {
            return self.open(number);
        }
        let retry = Stage::Closed(now.steady + RETRY);
        let (head, tail, keys) = match answer {
            Answer::Opened { head, tail, keys } => (head, tail, keys),
            _ => {
                let Some(durable) = self.durable(number) else { return };
                durable.stage = retry;
                let waiting = std::mem::take(&mut durable.waiting);
                for (asker, command) in waiting {
                    self.without_store(number, asker, command, now, render, out);
                }
                return;
            }
        };
        let channel = self.channels[number].channel.clone();
        let events: Vec<_> = tail
            .iter()
            .map_while(|record| {
                record::decode(record, &channel, head.epoch).ok().map(|it| (it, record.expires))
            })
            .collect();
        // Bytes that are no message would leave a hole: what is before them is read from disk, page by page.
        let events = if events.len() == tail.len() { events } else { Vec::new() };
        let window_events = self.keeping.window_events;
        let delivered = self.window(number).map_or(0, |it| it.newest);
        let is_same = self.window(number).is_some_and(|it| it.epoch == head.epoch);
        self.with_messages(number, Messages::forget_all);
        self.with_window(number, |window| {
            window.restart(head.epoch);
            window.newest = head.newest.0;
            if let Some((first, _)) = events.first() {
                window.newest = first.serial.0 - 1;
            }
            for (event, expires) in &events {
                window.push(Arc::new(event.clone()), *expires, window_events);
            }
            window.newest = head.newest.0;
        });
        self.channels[number].serial = head.newest.0;
        self.tell_messages(number);
        if !is_same {
            self.forget_keys(number);
        }
        let clock = self.clock(now);
        for record in keys {
            let span = Millis(record.expires.0.saturating_sub(clock.0));
            let published = Published {
                id: record.id,
                mode: Mode::Durable,
                epoch: Some(head.epoch),
                ..Published::unkept(record.serial)
            };
            let used = Used { fingerprint: record.fingerprint, published, is_on_disk: true };
            self.remember(number, record.key, used, span, now);
        }
        let Some(durable) = self.durable(number) else { return };
        durable.stage = Stage::Open;
        durable.head = head;
        durable.last_id = durable.last_id.max(head.last_id);
        let was_known = std::mem::replace(&mut durable.is_known, true) && is_same;
        if !was_known {
            self.clean(number);
        }
        self.distrust_said(number);
        if was_known {
            // What was refused because nobody knew whether it is on disk, and is.
            for (event, _) in events.into_iter().filter(|(it, _)| it.serial.0 > delivered) {
                self.deliver_if_heard(number, &event, None, render, out);
                self.annotated(number, &Arc::new(event), now, render, out);
            }
        }
        self.obey_waiting(number, now, render, out);
    }

    /// Carries out what waited, in order, until something has to wait again.
    pub(super) fn obey_waiting(
        &mut self,
        number: u32,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let Some(durable) = self.durable(number) else { return };
        if durable.stage != Stage::Open {
            return;
        }
        let waiting = std::mem::take(&mut durable.waiting);
        for (asker, command) in waiting {
            self.ask(asker, command, now, render, out);
        }
    }

    /// Sends an event on its way to disk.
    #[expect(clippy::too_many_arguments, reason = "one publish, taken apart")]
    pub(super) fn append(
        &mut self,
        number: u32,
        event: Event,
        exclude: Option<ConnectionId>,
        keep_last: Option<Millis>,
        key: Option<Arc<IdempotencyKey>>,
        mut changes: Vec<(Shelf, Change)>,
        (mut origin, others): (Origin, Vec<Asker>),
        now: Now,
    ) {
        changes.append(&mut origin.changes);
        let clock = self.clock(now);
        let expires = self.window(number).map_or(store::NEVER, |window| window.expiry(clock));
        let body = record::encode(&event);
        let bytes =
            (body.len() + changes.iter().map(weight).sum::<usize>()) as u64 + IN_FLIGHT_BYTES;
        self.in_flight_bytes += bytes;
        let keys = key.iter().map(|key| KeyRecord {
            key: key.name.clone(),
            fingerprint: key.fingerprint,
            serial: event.serial,
            id: event.id,
            expires: UnixMillis(clock.0.saturating_add(self.span_of(key).0)),
        });
        let ask = Ask::Append {
            stream: self.keeping.rules.stream_key(&event.channel),
            epoch: event.epoch.unwrap_or_default(),
            records: vec![Record {
                serial: event.serial,
                id: event.id,
                at: event.at,
                expires,
                body,
            }],
            keys: keys.collect(),
            changes,
        };
        let serial = event.serial.0;
        if let Some(durable) = self.durable(number) {
            durable.appends_open += 1;
            durable.in_flight.push_back(InFlight {
                event: Arc::new(event),
                exclude,
                keep_last,
                expires,
                key,
                origin,
                others,
                bytes,
            });
        }
        self.ask_store(Pending::Append(number, serial), ask);
    }

    /// Whether a channel's stream is open; if it was closed long enough, it is opened for the next who asks.
    pub(super) fn is_ready(&mut self, number: u32, now: Now) -> bool {
        self.retry_store(number, now);
        self.durable(number).is_some_and(|durable| durable.stage == Stage::Open)
    }

    /// Whether more may be on its way to disk: one event alone may, however large.
    pub(super) fn may_append(&self, event_bytes: usize) -> bool {
        let bytes = self.in_flight_bytes + event_bytes as u64 + IN_FLIGHT_BYTES;
        self.in_flight_bytes == 0 || bytes <= self.keeping.in_flight_bytes_max
    }

    /// A name for the next event of a durable channel: after all it had before, in earlier processes too.
    pub(super) fn next_durable_id(&mut self, number: u32, now: Now) -> EventId {
        let chance = self.chance();
        let Some(durable) = self.durable(number) else { return EventId::default() };
        durable.last_id = EventId::next(durable.last_id, now.wall, chance);
        durable.last_id
    }

    pub(super) fn appended(
        &mut self,
        number: u32,
        serial: u64,
        answer: Answer,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let Some(durable) = self.durable(number) else { return };
        durable.appends_open -= 1;
        // Those that were refused when an earlier one failed are not waited for any more.
        let is_first = durable.in_flight.front().is_some_and(|it| it.event.serial.0 == serial);
        match answer {
            Answer::Appended { head } if is_first => {
                let in_flight = durable.in_flight.pop_front();
                self.learn(number, head);
                self.commit(number, in_flight.expect("it is the first"), now, render, out);
            }
            Answer::Fault(fault) if is_first => self.fail(number, &fault, now, out),
            _ => {}
        }
        self.let_readers(number, now, out);
        let Some(durable) = self.durable(number) else { return };
        if durable.stage == Stage::Opening && !durable.is_asked {
            self.open(number);
        }
    }

    /// An event is on disk: it is delivered, and its publisher told.
    fn commit(
        &mut self,
        number: u32,
        in_flight: InFlight,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let InFlight { event, exclude, keep_last, expires, key, origin, others, bytes } = in_flight;
        self.in_flight_bytes -= bytes;
        self.counts.kept_durable += 1;
        let window_events = self.keeping.window_events;
        self.with_window(number, |window| window.push(event.clone(), expires, window_events));
        if matches!(event.happening, Happening::Mutated(_)) {
            self.with_messages(number, |messages| messages.tell(&event, expires));
        }
        let held = &mut self.channels[number];
        if let Some(span) = keep_last {
            let kept = Kept { event: event.clone(), until: now.steady + span };
            held.rare.get_or_insert_default().kept = Some(kept);
        }
        let published = Published {
            serial: event.serial,
            id: event.id,
            mode: Mode::Durable,
            epoch: event.epoch,
            subscription_count: u64::from(held.counted),
            user_count: held.user_count(),
            is_repeated: false,
        };
        if let Some(key) = key
            && let Some(used) = held.rare.as_mut().and_then(|it| it.keys.get_mut(&*key.name))
        {
            used.published = published;
            used.is_on_disk = true;
        }
        self.deliver_if_heard(number, &event, exclude, render, out);
        self.annotated(number, &event, now, render, out);
        self.conclude_publish(origin, others, Ok(published), now, out);
        self.bound_history(now);
    }

    /// Whether no event of a channel is on its way to disk, or may turn out to be there.
    pub(super) fn is_clear(&mut self, number: u32) -> bool {
        self.durable(number).is_none_or(|durable| {
            let is_known = matches!(durable.stage, Stage::Open | Stage::Closed(_));
            durable.in_flight.is_empty() && is_known
        })
    }

    pub(super) fn deliver_if_heard(
        &self,
        number: u32,
        event: &Event,
        exclude: Option<ConnectionId>,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        if self.is_heard(number) {
            self.deliver(number, event.clone(), exclude, render, out);
        }
    }

    /// An append failed: all that is on its way in this channel is refused, and the channel opened again.
    fn fail(&mut self, number: u32, fault: &Fault, now: Now, out: &mut Vec<(ShardId, Down)>) {
        let Some(durable) = self.durable(number) else { return };
        durable.stage = Stage::Opening;
        durable.failures += 1;
        let refusal = refusal_of(fault);
        for (nth, gone) in std::mem::take(&mut durable.in_flight).into_iter().enumerate() {
            self.in_flight_bytes -= gone.bytes;
            if matches!(gone.event.happening, Happening::Mutated(_)) {
                self.with_messages(number, |messages| messages.give_up(&gone.event));
            }
            let rare = self.channels[number].rare.as_mut();
            // Unless its time was over meanwhile.
            if let (Some(key), Some(rare)) = (&gone.key, rare)
                && rare.keys.remove(&*key.name).is_some()
            {
                self.keys_used -= 1;
            }
            // Those behind it are refused by the store for their order, or may yet be on disk.
            let refusal = if nth == 0 || refusal == Refusal::StoreFull {
                refusal
            } else {
                Refusal::StoreFailed
            };
            self.conclude_publish(gone.origin, gone.others, Err(refusal), now, out);
        }
    }

    /// Tries to open a channel again whose subscribers may miss something.
    pub(super) fn retry_store(&mut self, number: u32, now: Now) {
        if let Some(durable) = self.durable(number)
            && matches!(durable.stage, Stage::Closed(at) if at <= now.steady)
        {
            self.open(number);
        }
    }
}
