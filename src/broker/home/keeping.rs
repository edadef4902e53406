//! A home that keeps history: what is asked of the past, and channels whose events go to disk first.
//!
//! A durable channel's events get their serials at once, wait for the store, and are delivered and answered when
//! they are on disk, in order. Until the store has said what it holds of a channel, asks for it wait; after
//! the store failed at something, all that was on its way is refused, the channel is opened again, and what
//! turns out to be on disk is delivered: nobody is acknowledged what is lost, and no subscriber misses
//! what is kept.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Asker, Home, Kept};
use crate::base::event_id::EventId;
use crate::base::ids::{ConnectionId, Epoch, Serial, ShardId};
use crate::base::name::{Channel, Name};
use crate::base::time::{Millis, Nanos, Now, UnixMillis};
use crate::broker::history::{Found, Window};
use crate::broker::record;
use crate::broker::{
    Command, Down, Event, Gap, GapReason, IdempotencyKey, Mode, Page, PageQuery, Position,
    Published, Purged, Refusal, Render, Replay, Reply, Start, Stream, Subscribe,
};
use crate::store::{self, Answer, Ask, Clock, Fault, Head, KeyRecord, PageAsk, PurgeTo, Record};

/// Asks of one channel that wait for the store to say what it holds of it; a further one is refused.
const WAITING_MAX: usize = 4096;
/// How soon a channel that could not be opened is tried again.
const RETRY: Millis = Millis(1_000);
/// How long a durable channel that nobody hears stays in memory after it was last used.
const IDLE: Millis = Millis(30_000);
/// How often a replay is read on from where the disk's part ended, because more was published than the window
/// in memory holds.
const READS_MAX: u8 = 4;
/// Bytes of records that were on their way when the store failed and are read back, at most.
const CATCH_UP_BYTES_MAX: u64 = 256 << 20;

/// What the home knows of a channel's stream on disk.
#[derive(Debug)]
pub(super) struct Durable {
    stage: Stage,
    /// As the store last said; its newest is not looked at.
    head: Head,
    last_id: EventId,
    /// Asks that wait until the stream is open.
    waiting: VecDeque<(Asker, Command)>,
    /// Events on their way to disk, in order.
    in_flight: VecDeque<InFlight>,
    /// It was open before: what was delivered since is known.
    is_known: bool,
    /// Appends that the store has not answered, those refused already included.
    appends_open: u32,
    /// Everything else that the store has not answered.
    reads_open: u32,
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
    event: Arc<Event>,
    exclude: Option<ConnectionId>,
    keep_last: Option<Millis>,
    expires: Clock,
    key: Option<Arc<IdempotencyKey>>,
    /// Who is to be answered: the publisher, unless it does not care, and those who repeated it.
    askers: Vec<Asker>,
    bytes: u64,
}

/// What an answer of the store is for.
#[derive(Debug)]
pub(super) enum Pending {
    Open(u32),
    Append(u32, u64),
    Page(u32, Asker, PageQuery),
    Read(u32, Box<Reading>),
    Purge(u32, Asker, Epoch, bool),
}

/// A replay that is read from disk.
#[derive(Debug)]
pub(super) struct Reading {
    asker: Asker,
    wanted: Wanted,
    start: Start,
    collected: Vec<Arc<Event>>,
    is_cut_by_limit: bool,
    reads: u8,
}

/// What a replay is for.
#[derive(Debug)]
enum Wanted {
    /// To be answered with it.
    Reply,
    /// A subscription begins with it.
    Subscription(Box<Subscribe>),
}

/// An idempotency key that was used.
#[derive(Debug)]
pub(super) struct Used {
    fingerprint: [u8; 16],
    /// What was said, or will be once it is on disk.
    published: Published,
    is_on_disk: bool,
}

impl Durable {
    /// From when nothing but subscribers would keep the channel in memory; none while something is open.
    pub fn idle_from(&self) -> Option<Nanos> {
        let is_quiet = self.waiting.is_empty()
            && self.appends_open == 0
            && self.reads_open == 0
            && !matches!(self.stage, Stage::Opening | Stage::Resetting);
        is_quiet.then_some(self.used + IDLE)
    }

    /// When it is to be opened again for its subscribers, who may miss what is on disk.
    pub fn retry_from(&self) -> Option<Nanos> {
        match self.stage {
            Stage::Closed(at) => Some(at),
            _ => None,
        }
    }
}

fn refusal_of(fault: &Fault) -> Refusal {
    match fault {
        Fault::Full => Refusal::StoreFull,
        Fault::Failed(_) => Refusal::StoreFailed,
        Fault::Order | Fault::Unavailable => Refusal::StoreBusy,
    }
}

/// The channel of an ask that is about its past or adds to it.
fn of_history(command: &Command) -> Option<&Channel> {
    match command {
        Command::Publish(publish) => Some(&publish.channel),
        Command::Subscribe(subscribe) => Some(&subscribe.channel),
        Command::History(channel, _)
        | Command::Replay(channel, _)
        | Command::Stream(channel)
        | Command::Reset(channel)
        | Command::Purge(channel, _) => Some(channel),
        _ => None,
    }
}

impl Home {
    /// The clock of retention.
    pub(super) fn clock(&self, now: Now) -> Clock {
        let origin = self.keeping.origin;
        UnixMillis(origin.wall.0 + (now.steady - origin.steady).0 / 1_000_000)
    }

    /// When the clock of retention is there.
    pub(super) fn steady_of(&self, clock: Clock) -> Nanos {
        let origin = self.keeping.origin;
        // A millisecond late: the clock counts whole ones.
        origin.steady + Millis(clock.0.saturating_sub(origin.wall.0).saturating_add(1))
    }

    fn chance(&mut self) -> u128 {
        u128::from(self.prng.next_u64()) << 64 | u128::from(self.prng.next_u64())
    }

    /// A name for an event of this shard.
    pub(super) fn next_id(&mut self, now: Now) -> EventId {
        let chance = self.chance();
        self.last_id = EventId::next(self.last_id, now.wall, chance);
        self.last_id
    }

    /// A window for a new channel, and what its stream on disk needs.
    pub(super) fn begin_history(&mut self, number: u32, now: Now) {
        let channel = self.channels[number].channel.clone();
        let Some(rule) = self.keeping.rules.of(&channel) else { return };
        let epoch = Epoch(self.chance());
        let rare = self.channels[number].rare.get_or_insert_default();
        rare.history = Some(Box::new(Window::new(rule, epoch)));
        if rule.mode == Mode::Durable {
            rare.durable = Some(Box::new(Durable {
                stage: Stage::Closed(Nanos(0)),
                head: Head::default(),
                last_id: EventId::default(),
                waiting: VecDeque::new(),
                in_flight: VecDeque::new(),
                is_known: false,
                appends_open: 0,
                reads_open: 0,
                used: now.steady,
            }));
        }
    }

    pub(super) fn window(&self, number: u32) -> Option<&Window> {
        self.channels[number].rare.as_ref()?.history.as_deref()
    }

    fn durable(&mut self, number: u32) -> Option<&mut Durable> {
        self.channels[number].rare.as_mut()?.durable.as_deref_mut()
    }

    /// Changes a window and keeps the count of what all of them hold.
    pub(super) fn with_window<R>(
        &mut self,
        number: u32,
        change: impl FnOnce(&mut Window) -> R,
    ) -> Option<R> {
        let window = self.channels[number].rare.as_mut()?.history.as_mut()?;
        let before = window.bytes();
        let result = change(window);
        self.history_bytes = self.history_bytes + window.bytes() - before;
        Some(result)
    }

    /// Makes room when all windows together hold more than they may: the older half of one channel after the
    /// other goes. What is on disk stays there.
    pub(super) fn bound_history(&mut self, now: Now) {
        // Each channel once at most: then there is nothing left to take.
        for _ in 0..self.channels.places() {
            if self.history_bytes <= self.keeping.bytes_max {
                return;
            }
            self.hand = (self.hand + 1) % self.channels.places();
            if self.channels.is_taken(self.hand) {
                self.with_window(self.hand, Window::halve);
                self.settle(self.hand, now);
            }
        }
    }

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
            Stage::Open => return Some(command),
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
        if !matches!(command, Command::Publish(publish) if publish.quiet) {
            asker.answer(Reply::Refused(refusal), out);
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
                let replay = match subscribe.start {
                    Start::Now => None,
                    Start::After(position) => Some(gap(position)),
                    Start::Events(_) | Start::Since(_) => Some(gap(Position::default())),
                };
                self.attach(asker, subscribe, replay, now, render, out);
            }
            Command::Replay(_, position) => asker.answer(Reply::Replayed(gap(position)), out),
            command => self.refuse(asker, &command, Refusal::StoreBusy, out),
        }
        self.settle_if_held(number, now);
    }

    /// Asks the store what it holds, once it has answered all appends: their outcome is part of it.
    fn open(&mut self, number: u32) {
        let channel = &self.channels[number].channel;
        let stream = self.keeping.rules.stream_key(channel);
        let newest = self.window(number).map_or(0, |window| window.newest);
        let window_events = self.keeping.window_events;
        let replay_bytes = self.keeping.replay.bytes;
        let Some(durable) = self.durable(number) else { return };
        durable.stage = Stage::Opening;
        if durable.appends_open > 0 {
            return;
        }
        durable.reads_open += 1;
        let (after, bytes_max) = match durable.is_known {
            true => (Serial(newest), CATCH_UP_BYTES_MAX),
            false => (Serial(u64::MAX), replay_bytes),
        };
        let ask = Ask::Open { stream, after, tail: window_events as u32, bytes_max };
        self.ask_store(Pending::Open(number), ask);
    }

    fn ask_store(&mut self, pending: Pending, ask: Ask) {
        let tag = self.tag_next;
        self.tag_next += 1;
        self.pending.insert(tag, pending);
        self.asks.push((tag, ask));
    }

    /// What the store is to be asked, each with the tag of its answer.
    pub fn asks(&mut self) -> std::vec::Drain<'_, (u64, Ask)> {
        self.asks.drain(..)
    }

    /// Whether there is anything to ask the store.
    pub fn has_asks(&self) -> bool {
        !self.asks.is_empty()
    }

    /// Events that are on their way to disk, and asks that wait for it.
    pub fn store_asks_open(&self) -> usize {
        self.pending.len()
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
        };
        self.settle_if_held(number, now);
    }

    fn read_done(&mut self, number: u32) {
        if let Some(durable) = self.durable(number) {
            durable.reads_open -= 1;
        }
    }

    fn moved(&mut self, stream: &store::StreamKey, head: Head, now: Now) {
        let Some(channel) = self.keeping.rules.channel(stream) else { return };
        let Some(number) = self.find(&channel) else { return };
        if let Some(durable) = self.durable(number)
            && durable.head.epoch == head.epoch
        {
            durable.head = Head { last_id: durable.head.last_id, ..head };
            self.with_window(number, |window| window.forget_before(head.oldest.0));
            self.settle(number, now);
        }
    }

    fn opened(
        &mut self,
        number: u32,
        answer: Answer,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        self.read_done(number);
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
        if std::mem::replace(&mut durable.is_known, true) && is_same {
            // What was refused because nobody knew whether it is on disk, and is.
            for (event, _) in events.into_iter().filter(|(it, _)| it.serial.0 > delivered) {
                self.deliver_if_heard(number, event, None, render, out);
            }
        }
        self.obey_waiting(number, now, render, out);
    }

    /// Carries out what waited, in order, until something has to wait again.
    fn obey_waiting(
        &mut self,
        number: u32,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let Some(durable) = self.durable(number) else { return };
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
        asker: Option<Asker>,
        now: Now,
    ) {
        let clock = self.clock(now);
        let expires = self.window(number).map_or(store::NEVER, |window| window.expiry(clock));
        let body = record::encode(&event);
        let bytes = body.len() as u64;
        self.in_flight_bytes += bytes;
        let keys = key.iter().map(|key| KeyRecord {
            key: key.name.clone(),
            fingerprint: key.fingerprint,
            serial: event.serial,
            id: event.id,
            expires: UnixMillis(clock.0 + self.keeping.key_span.0),
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
                askers: asker.into_iter().collect(),
                bytes,
            });
        }
        self.ask_store(Pending::Append(number, serial), ask);
    }

    /// Whether more may be on its way to disk.
    pub(super) fn may_append(&self, event_bytes: usize) -> bool {
        self.in_flight_bytes + event_bytes as u64 <= self.keeping.in_flight_bytes_max
    }

    /// A name for the next event of a durable channel: after all it had before, in earlier processes too.
    pub(super) fn next_durable_id(&mut self, number: u32, now: Now) -> EventId {
        let chance = self.chance();
        let Some(durable) = self.durable(number) else { return EventId::default() };
        durable.last_id = EventId::next(durable.last_id, now.wall, chance);
        durable.last_id
    }

    fn appended(
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
                durable.head = head;
                let in_flight = durable.in_flight.pop_front();
                self.commit(number, in_flight.expect("it is the first"), now, render, out);
            }
            Answer::Fault(fault) if is_first => self.fail(number, &fault, out),
            _ => {}
        }
        let Some(durable) = self.durable(number) else { return };
        if durable.stage == Stage::Opening && durable.appends_open == 0 {
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
        let InFlight { event, exclude, keep_last, expires, key, askers, bytes } = in_flight;
        self.in_flight_bytes -= bytes;
        let window_events = self.keeping.window_events;
        self.with_window(number, |window| window.push(event.clone(), expires, window_events));
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
        self.deliver_if_heard(number, Event::clone(&event), exclude, render, out);
        for (nth, asker) in askers.into_iter().enumerate() {
            let is_repeated = nth > 0;
            asker.answer(Reply::Published(Published { is_repeated, ..published }), out);
        }
        self.bound_history(now);
    }

    fn deliver_if_heard(
        &self,
        number: u32,
        event: Event,
        exclude: Option<ConnectionId>,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let held = &self.channels[number];
        if !held.interest.is_empty() {
            held.deliver(event, exclude, render, out);
        }
    }

    /// An append failed: all that is on its way in this channel is refused, and the channel opened again.
    fn fail(&mut self, number: u32, fault: &Fault, out: &mut Vec<(ShardId, Down)>) {
        let Some(durable) = self.durable(number) else { return };
        durable.stage = Stage::Opening;
        let refusal = refusal_of(fault);
        for (nth, gone) in std::mem::take(&mut durable.in_flight).into_iter().enumerate() {
            self.in_flight_bytes -= gone.bytes;
            let rare = self.channels[number].rare.as_mut();
            if let (Some(key), Some(rare)) = (&gone.key, rare) {
                rare.keys.remove(&*key.name);
                self.keys_used -= 1;
            }
            // Those behind it are refused by the store for their order, or may yet be on disk.
            let refusal = if nth == 0 || refusal == Refusal::StoreFull {
                refusal
            } else {
                Refusal::StoreFailed
            };
            for asker in gone.askers {
                asker.answer(Reply::Refused(refusal), out);
            }
        }
    }

    /// What was said when a key was first used. A key that is new is left to be remembered.
    pub(super) fn repeated(
        &mut self,
        number: u32,
        key: &IdempotencyKey,
        asker: Option<Asker>,
        out: &mut Vec<(ShardId, Down)>,
    ) -> bool {
        let Some(rare) = self.channels[number].rare.as_mut() else { return false };
        let Some(used) = rare.keys.get(&*key.name) else { return false };
        let reply = if used.fingerprint != key.fingerprint {
            Reply::Refused(Refusal::KeyReused)
        } else if used.is_on_disk {
            Reply::Published(Published { is_repeated: true, ..used.published })
        } else {
            // Answered with the first, when that is on disk.
            let serial = used.published.serial;
            let durable = rare.durable.as_mut();
            let waiting =
                durable.and_then(|it| it.in_flight.iter_mut().find(|it| it.event.serial == serial));
            if let (Some(in_flight), Some(asker)) = (waiting, asker) {
                in_flight.askers.push(asker);
            }
            return true;
        };
        if let Some(asker) = asker {
            asker.answer(reply, out);
        }
        true
    }

    /// Remembers what a key was used for.
    pub(super) fn remember_key(
        &mut self,
        number: u32,
        key: &IdempotencyKey,
        published: Published,
        is_on_disk: bool,
        now: Now,
    ) {
        let used = Used { fingerprint: key.fingerprint, published, is_on_disk };
        self.remember(number, key.name.clone(), used, self.keeping.key_span, now);
    }

    fn remember(&mut self, number: u32, name: Name, used: Used, span: Millis, now: Now) {
        let rare = self.channels[number].rare.get_or_insert_default();
        if rare.keys.insert(name.clone(), used).is_none() {
            self.keys_used += 1;
        }
        let id = rare.keys[&*name].published.id;
        self.keys.push_back((now.steady + span, number, name, id));
    }

    /// Forgets keys whose time is over; a bounded number of them.
    pub(super) fn expire_keys(&mut self, now: Now, most: usize) {
        for _ in 0..most {
            if self.keys.front().is_none_or(|(until, ..)| *until > now.steady) {
                return;
            }
            let Some((_, number, name, id)) = self.keys.pop_front() else { return };
            // A key that was given up may have left its number to another channel.
            if !self.channels.is_taken(number) {
                continue;
            }
            if let Some(rare) = self.channels[number].rare.as_mut()
                && rare.keys.get(&*name).is_some_and(|used| used.published.id == id)
            {
                rare.keys.remove(&*name);
                self.keys_used -= 1;
                self.settle(number, now);
            }
        }
    }

    /// The place after a channel's newest delivered event, if it keeps history and that is known.
    pub(super) fn position(&self, number: u32) -> Option<Position> {
        let rare = self.channels[number].rare.as_ref()?;
        let window = rare.history.as_ref()?;
        let is_known = rare.durable.as_ref().is_none_or(|it| it.is_known);
        is_known.then_some(Position { epoch: window.epoch, serial: Serial(window.newest) })
    }

    /// What is kept of a channel.
    pub(super) fn stream(&self, number: u32, now: Now) -> Option<Stream> {
        let window = self.window(number)?;
        let Some(durable) = self.channels[number].rare.as_ref().and_then(|it| it.durable.as_ref())
        else {
            return Some(window.stream(self.clock(now)));
        };
        let head = &durable.head;
        let is_kept = head.oldest.0 <= window.newest;
        Some(Stream {
            mode: Mode::Durable,
            epoch: window.epoch,
            newest: Serial(window.newest),
            oldest: Serial(head.oldest.0.min(window.newest + 1)),
            oldest_at: is_kept.then_some(head.oldest_at),
            newest_at: is_kept.then_some(head.newest_at),
            bytes: head.bytes,
        })
    }

    /// The stream of a channel that may never have been used; none if it keeps no history.
    pub(super) fn stream_of(&mut self, channel: &Channel, now: Now) -> Option<Stream> {
        if let Some(number) = self.find(channel) {
            return self.stream(number, now);
        }
        // Only what is kept in memory gets here without being held: nothing is known of it.
        let rule = self.keeping.rules.of(channel)?;
        Some(Window::new(rule, Epoch(self.chance())).stream(self.clock(now)))
    }

    /// Reads a part of a channel's history, here or on disk.
    pub(super) fn page(
        &mut self,
        asker: Asker,
        channel: &Channel,
        query: PageQuery,
        now: Now,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let Some(stream) = self.stream_of(channel, now) else {
            return asker.answer(Reply::Refused(Refusal::NotKept), out);
        };
        if query.epoch.is_some_and(|epoch| epoch != stream.epoch) {
            return asker.answer(Reply::Refused(Refusal::EpochChanged), out);
        }
        let clock = self.clock(now);
        let Some(number) = self.find(channel) else {
            let page = Page { stream, events: Vec::new(), has_more: false };
            return asker.answer(Reply::Page(Box::new(page)), out);
        };
        let oldest = stream.oldest.0;
        let here = self.window(number).and_then(|window| window.page(&query, oldest, clock));
        if let Some((events, has_more)) = here {
            let page = Page { stream, events, has_more };
            return asker.answer(Reply::Page(Box::new(page)), out);
        }
        let to = query.to.unwrap_or(Serial(u64::MAX)).min(stream.newest);
        let page = PageAsk {
            from: query.from,
            to,
            from_at: query.from_at,
            to_at: query.to_at,
            is_newest_first: query.is_newest_first,
            records_max: query.events_max,
            bytes_max: query.bytes_max,
        };
        self.read(number, Pending::Page(number, asker, query), page);
    }

    fn read(&mut self, number: u32, pending: Pending, page: PageAsk) {
        let stream = self.keeping.rules.stream_key(&self.channels[number].channel);
        if let Some(durable) = self.durable(number) {
            durable.reads_open += 1;
        }
        self.ask_store(pending, Ask::Page { stream, page });
    }

    fn decode(&self, number: u32, page: &store::Page) -> Option<Vec<Arc<Event>>> {
        let channel = &self.channels[number].channel;
        let decode = |it| record::decode(it, channel, page.head.epoch).ok().map(Arc::new);
        page.records.iter().map(decode).collect()
    }

    fn paged(
        &mut self,
        number: u32,
        asker: Asker,
        query: &PageQuery,
        answer: Answer,
        now: Now,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let reply = match answer {
            Answer::Page(page) => match (self.decode(number, &page), self.stream(number, now)) {
                (Some(events), Some(stream)) if page.head.epoch == stream.epoch => {
                    Reply::Page(Box::new(Page { stream, events, has_more: page.has_more }))
                }
                // It was reset while the page was on its way.
                (Some(_), Some(stream)) if query.epoch.is_none() => {
                    Reply::Page(Box::new(Page { stream, events: Vec::new(), has_more: false }))
                }
                (Some(_), Some(_)) => Reply::Refused(Refusal::EpochChanged),
                _ => Reply::Refused(Refusal::StoreBusy),
            },
            Answer::Fault(fault) => Reply::Refused(refusal_of(&fault)),
            _ => Reply::Refused(Refusal::StoreBusy),
        };
        asker.answer(reply, out);
    }

    /// Tells what came after a position.
    pub(super) fn replay(
        &mut self,
        asker: Asker,
        channel: &Channel,
        position: Position,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let start = Start::After(position);
        let Some(number) = self.find(channel) else {
            let stream = self.stream_of(channel, now);
            // It began anew when it was forgotten.
            let reason =
                if stream.is_some() { GapReason::EpochChanged } else { GapReason::NotKept };
            let gap = Gap { reason, asked: position, stream };
            return asker.answer(Reply::Replayed(Box::new(Err(gap))), out);
        };
        let reading = Reading::new(asker, Wanted::Reply, start);
        self.begin_reading(number, reading, now, render, out);
    }

    /// Begins a subscription with a part of the past.
    pub(super) fn subscribe_from(
        &mut self,
        number: u32,
        asker: Asker,
        subscribe: Box<Subscribe>,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let start = subscribe.start;
        let reading = Reading::new(asker, Wanted::Subscription(subscribe), start);
        self.begin_reading(number, reading, now, render, out);
    }

    fn begin_reading(
        &mut self,
        number: u32,
        reading: Box<Reading>,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let asked = match reading.start {
            Start::After(position) => position,
            _ => Position::default(),
        };
        let Some(stream) = self.stream(number, now) else {
            let gap = Gap { reason: GapReason::NotKept, asked, stream: None };
            return self.finish(number, *reading, Err(gap), now, render, out);
        };
        let max = self.keeping.replay;
        let Some(window) = self.window(number) else { return };
        let newest = window.newest;
        let page = PageAsk { to: Serial(newest), bytes_max: max.bytes, ..PageAsk::default() };
        let (found, page) = match reading.start {
            Start::Now => (Some(Found::default()), page),
            Start::After(position) => {
                if let Some(gap) = Window::gap(&stream, position) {
                    return self.finish(number, *reading, Err(gap), now, render, out);
                }
                let from = Serial(position.serial.0 + 1);
                let page = PageAsk { from, records_max: max.events, ..page };
                (window.after(position.serial.0, max), page)
            }
            Start::Events(_) | Start::Since(_) => {
                let (count, since) = reading.rewind(now, max.events);
                let page =
                    PageAsk { from_at: since, is_newest_first: true, records_max: count, ..page };
                let mut found = window.newest(count, since, max.bytes, stream.oldest.0);
                if let (Some(found), Start::Events(wanted)) = (&mut found, reading.start) {
                    // There being more than was asked for is no cut.
                    found.is_cut_by_limit &= (found.events.len() as u64) < u64::from(wanted);
                }
                (found, page)
            }
        };
        match found {
            Some(found) => self.found(number, reading, found, now, render, out),
            None => self.read(number, Pending::Read(number, reading), page),
        }
    }

    /// The disk's part of a replay has come.
    fn read_on(
        &mut self,
        number: u32,
        mut reading: Box<Reading>,
        answer: Answer,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let asked = match reading.start {
            Start::After(position) => position,
            _ => Position::default(),
        };
        let stream = self.stream(number, now);
        let gap = |reason| Err(Gap { reason, asked, stream });
        let Answer::Page(page) = answer else {
            return self.finish(number, *reading, gap(GapReason::Unavailable), now, render, out);
        };
        let (Some(mut events), Some(stream)) = (self.decode(number, &page), stream) else {
            return self.finish(number, *reading, gap(GapReason::Unavailable), now, render, out);
        };
        if page.head.epoch != stream.epoch {
            return self.finish(number, *reading, gap(GapReason::EpochChanged), now, render, out);
        }
        let is_after = matches!(reading.start, Start::After(_));
        if is_after || !reading.collected.is_empty() {
            let last = reading.collected.last().map_or(asked.serial.0, |it| it.serial.0);
            // Retention was faster.
            if events.first().is_some_and(|it| it.serial.0 != last + 1) {
                return self.finish(number, *reading, gap(GapReason::Expired), now, render, out);
            }
            if page.has_more {
                return self.finish(number, *reading, gap(GapReason::TooMuch), now, render, out);
            }
        } else {
            reading.is_cut_by_limit |= page.has_more && reading.is_cut(&events);
            events.reverse();
        }
        reading.collected.append(&mut events);
        reading.reads += 1;
        let last = reading.collected.last().map_or(asked.serial.0, |it| it.serial.0);
        let Some(window) = self.window(number) else { return };
        // Nothing within the time asked for: what comes live is all there is.
        if reading.collected.is_empty() {
            return self.found(number, reading, Found::default(), now, render, out);
        }
        let max = self.keeping.replay;
        match window.after(last, max) {
            Some(found) => self.found(number, reading, found, now, render, out),
            None if reading.reads < READS_MAX => {
                let page = PageAsk {
                    from: Serial(last + 1),
                    to: Serial(window.newest),
                    records_max: max.events,
                    bytes_max: max.bytes,
                    ..PageAsk::default()
                };
                self.read(number, Pending::Read(number, reading), page);
            }
            None => self.finish(number, *reading, gap(GapReason::TooMuch), now, render, out),
        }
    }

    /// The part of a replay that is in memory, its last, is there.
    fn found(
        &mut self,
        number: u32,
        reading: Box<Reading>,
        mut found: Found,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let Some(stream) = self.stream(number, now) else { return };
        let mut reading = *reading;
        let is_cold = !reading.collected.is_empty();
        let mut events = std::mem::take(&mut reading.collected);
        events.append(&mut found.events);
        let result = match reading.start {
            Start::After(asked) if found.is_cut_by_limit => {
                Err(Gap { reason: GapReason::TooMuch, asked, stream: Some(stream) })
            }
            start => {
                let first = events.first().map_or(stream.newest.0 + 1, |it| it.serial.0);
                let is_oldest = first <= stream.oldest.0 && stream.oldest.0 > 1;
                let is_cut_by_retention = is_oldest
                    && match start {
                        Start::Events(count) => (events.len() as u64) < u64::from(count),
                        // What is gone may have been within the time, or not: who asked cannot know.
                        Start::Since(_) => true,
                        Start::Now | Start::After(_) => false,
                    };
                let is_cut_by_limit = reading.is_cut_by_limit || found.is_cut_by_limit;
                Ok(Replay {
                    position: stream.position(),
                    events,
                    is_cold,
                    is_cut_by_retention,
                    is_cut_by_limit,
                })
            }
        };
        self.finish(number, reading, result, now, render, out);
    }

    fn finish(
        &mut self,
        number: u32,
        reading: Reading,
        result: Result<Replay, Gap>,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        match reading.wanted {
            Wanted::Reply => reading.asker.answer(Reply::Replayed(Box::new(result)), out),
            Wanted::Subscription(subscribe) => {
                let replay = Some(Box::new(result));
                self.attach(reading.asker, subscribe, replay, now, render, out);
            }
        }
        self.settle_if_held(number, now);
    }

    /// Forgets a part of a channel's history, or all of it and begins anew.
    pub(super) fn purge(
        &mut self,
        asker: Asker,
        channel: &Channel,
        to: Option<PurgeTo>,
        now: Now,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let Some(number) = self.find(channel) else {
            let Some(stream) = self.stream_of(channel, now) else {
                return asker.answer(Reply::Refused(Refusal::NotKept), out);
            };
            let purged = Purged { epoch_before: stream.epoch, stream, events: 0, bytes: 0 };
            return asker.answer(Reply::Purged(Box::new(purged)), out);
        };
        let Some(window) = self.window(number) else {
            return asker.answer(Reply::Refused(Refusal::NotKept), out);
        };
        let epoch_before = window.epoch;
        let epoch = Epoch(self.chance());
        let stream = self.keeping.rules.stream_key(channel);
        if let Some(durable) = self.durable(number) {
            durable.reads_open += 1;
            let ask = match to {
                Some(to) => Ask::Purge { stream, to },
                None => {
                    durable.stage = Stage::Resetting;
                    Ask::Reset { stream, epoch }
                }
            };
            let pending = Pending::Purge(number, asker, epoch_before, to.is_none());
            return self.ask_store(pending, ask);
        }
        let gone = self.with_window(number, |window| {
            let before = match to {
                None | Some(PurgeTo::All) => window.newest + 1,
                Some(PurgeTo::Serial(serial)) => serial.0,
                Some(PurgeTo::At(at)) => window.first_at(at),
            };
            let gone = window.forget_before(before);
            if to.is_none() {
                window.restart(epoch);
            }
            gone
        });
        if to.is_none() {
            self.channels[number].serial = 0;
        }
        let (events, bytes) = gone.unwrap_or_default();
        if let Some(stream) = self.stream(number, now) {
            let purged = Purged { epoch_before, stream, events, bytes };
            asker.answer(Reply::Purged(Box::new(purged)), out);
        }
        self.settle(number, now);
    }

    #[expect(clippy::too_many_arguments, reason = "one answer, taken apart")]
    fn purged(
        &mut self,
        number: u32,
        asker: Asker,
        epoch_before: Epoch,
        is_reset: bool,
        answer: Answer,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        match answer {
            Answer::Purged { head, records, bytes } => {
                self.with_window(number, |window| {
                    if is_reset {
                        window.restart(head.epoch);
                    } else {
                        window.forget_before(head.oldest.0);
                    }
                });
                if let Some(durable) = self.durable(number) {
                    durable.head = head;
                }
                if is_reset {
                    self.channels[number].serial = 0;
                }
                if let Some(stream) = self.stream(number, now) {
                    let purged = Purged { epoch_before, stream, events: records, bytes };
                    asker.answer(Reply::Purged(Box::new(purged)), out);
                }
                if let Some(durable) = self.durable(number)
                    && durable.stage == Stage::Resetting
                {
                    durable.stage = Stage::Open;
                    self.obey_waiting(number, now, render, out);
                }
            }
            answer => {
                let refusal = match answer {
                    Answer::Fault(fault) => refusal_of(&fault),
                    _ => Refusal::StoreBusy,
                };
                asker.answer(Reply::Refused(refusal), out);
                // It may have been reset all the same.
                if is_reset {
                    self.open(number);
                }
            }
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

impl Reading {
    fn new(asker: Asker, wanted: Wanted, start: Start) -> Box<Self> {
        let (collected, is_cut_by_limit, reads) = (Vec::new(), false, 0);
        Box::new(Self { asker, wanted, start, collected, is_cut_by_limit, reads })
    }

    /// How many of the newest events, and from when on, a rewind wants at most.
    fn rewind(&self, now: Now, events_max: u32) -> (u32, Option<UnixMillis>) {
        match self.start {
            Start::Events(count) => (count.min(events_max), None),
            Start::Since(span) => (events_max, Some(UnixMillis(now.wall.0.saturating_sub(span.0)))),
            Start::Now | Start::After(_) => (0, None),
        }
    }

    /// Whether a page that has more behind it holds less than was asked for.
    fn is_cut(&self, events: &[Arc<Event>]) -> bool {
        match self.start {
            Start::Events(count) => (events.len() as u64) < u64::from(count),
            _ => true,
        }
    }
}
