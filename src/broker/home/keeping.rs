//! A home that keeps history: windows and their bounds, idempotency keys, and what is asked of the past.

use std::sync::Arc;

use super::asking::Pending;
use super::durable::{Durable, refusal_of};
use super::messages::Messages;
use super::said::Said;
use super::{Asker, Home, LINGER};
use crate::base::event_id::EventId;
use crate::base::ids::{Epoch, Serial, ShardId};
use crate::base::name::{Channel, Name};
use crate::base::time::{Millis, Nanos, Now, UnixMillis};
use crate::broker::history::{ReplayMax, Window};
use crate::broker::rules::Rules;
use crate::broker::{
    Down, IdempotencyKey, Mode, Page, PageQuery, Position, Published, Purged, Refusal, Render,
    Reply, Stream,
};
use crate::config::Config;
use crate::config::history::History;
use crate::store::{Answer, Ask, Clock, Fault, Head, PageAsk, PurgeTo};

/// How a home keeps history and remembers keys.
#[derive(Clone, Debug)]
pub struct Keeping {
    /// Which channels keep what.
    pub rules: Arc<Rules>,
    /// Which shard's home this is, if it does what is to be done later: there is a store then.
    pub shard: Option<ShardId>,
    /// Push notifications go with events: there is a store to keep them. Else what says one is published alone.
    pub has_pushes: bool,
    /// When the clock of retention started; the store's starts at the same moment.
    pub origin: Now,
    /// Makes epochs and ids; differs from process to process and from shard to shard.
    pub seed: u64,
    /// Bytes of events in memory, over all channels; above it older ones go.
    pub bytes_max: u64,
    /// Events of a durable channel that stay in memory.
    pub window_events: usize,
    /// What may be replayed to one subscriber at once.
    pub replay: ReplayMax,
    /// Bytes of events on their way to disk, over all channels; more are refused.
    pub in_flight_bytes_max: u64,
    /// How long an idempotency key is remembered.
    pub key_span: Millis,
    /// Keys remembered at once; more are refused.
    pub keys_max: usize,
}

impl Keeping {
    /// As configured; `rules` are [`Rules::configured`].
    pub fn configured(config: &Config, rules: Arc<Rules>, origin: Now, seed: u64) -> Self {
        let history = History::of(config);
        Self {
            rules,
            origin,
            seed,
            bytes_max: config.limits.history_bytes_per_shard_max as u64,
            window_events: history.window_events,
            replay: ReplayMax {
                events: history.replay_events_max,
                bytes: history.replay_bytes_max,
            },
            key_span: history.idempotency_window,
            keys_max: history.idempotency_keys_max,
            ..Self::default()
        }
    }
}

impl Default for Keeping {
    /// Keeps nothing.
    fn default() -> Self {
        Self {
            rules: Arc::default(),
            shard: None,
            has_pushes: true,
            origin: Now::default(),
            seed: 0,
            bytes_max: 64 << 20,
            window_events: 128,
            replay: ReplayMax { events: 1_000, bytes: 1 << 20 },
            // Half of what one port of the store takes.
            in_flight_bytes_max: 8 << 20,
            key_span: Millis(120_000),
            keys_max: 100_000,
        }
    }
}

/// Places for channels that one event looks at to make room for itself.
const ROOM_MAX: u32 = 256;

/// An idempotency key that was used.
#[derive(Debug)]
pub(super) struct Used {
    pub(super) fingerprint: [u8; 16],
    /// What was said, or will be once it is on disk.
    pub(super) published: Published,
    pub(super) is_on_disk: bool,
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

    pub(super) fn chance(&mut self) -> u128 {
        u128::from(self.prng.next_u64()) << 64 | u128::from(self.prng.next_u64())
    }

    /// A name for an event of this shard.
    pub(super) fn next_id(&mut self, now: Now) -> EventId {
        let chance = self.chance();
        self.last_id = EventId::next(self.last_id, now.wall, chance);
        self.last_id
    }

    /// A name for the next event of a channel, wherever it is kept.
    pub(super) fn next_id_of(&mut self, number: u32, now: Now) -> EventId {
        match self.durable(number) {
            Some(_) => self.next_durable_id(number, now),
            None => self.next_id(now),
        }
    }

    /// A window for a new channel, and what its stream on disk needs.
    pub(super) fn begin_history(&mut self, number: u32, now: Now) {
        let channel = self.channels[number].channel.clone();
        let Some(rule) = self.keeping.rules.of(&channel) else { return };
        let epoch = Epoch(self.chance());
        let rare = self.channels[number].rare.get_or_insert_default();
        rare.history = Some(Box::new(Window::new(rule, epoch)));
        if rule.mode == Mode::Durable {
            rare.durable = Some(Box::new(Durable::new(now)));
        }
    }

    pub(super) fn window(&self, number: u32) -> Option<&Window> {
        self.channels[number].rare.as_ref()?.history.as_deref()
    }

    pub(super) fn durable(&mut self, number: u32) -> Option<&mut Durable> {
        self.channels[number].rare.as_mut()?.durable.as_deref_mut()
    }

    /// Changes a window and keeps the count of what all of them hold.
    pub(super) fn with_window<R>(
        &mut self,
        number: u32,
        change: impl FnOnce(&mut Window) -> R,
    ) -> Option<R> {
        let rare = self.channels[number].rare.as_mut()?;
        let window = rare.history.as_mut()?;
        let (before, epoch) = (window.bytes(), window.epoch);
        let result = change(window);
        self.history_bytes = self.history_bytes + window.bytes() - before;
        if let Some(messages) = rare.messages.as_mut() {
            let before = messages.bytes();
            match window.epoch == epoch {
                true => messages.prune(window.oldest()),
                false => messages.forget_all(),
            }
            self.history_bytes = self.history_bytes + messages.bytes() - before;
            rare.messages.take_if(|it| it.is_empty());
        }
        if let Some(said) = rare.said.as_mut() {
            let before = said.bytes();
            let oldest = rare.durable.as_ref().map_or(window.oldest(), |it| it.head.oldest.0);
            match window.epoch == epoch {
                true => said.prune(oldest),
                false => said.forget_all(),
            }
            self.history_bytes = self.history_bytes + said.bytes() - before;
        }
        Some(result)
    }

    /// Makes room when all windows together hold more than they may: the older half of one channel after the
    /// other goes. What is on disk stays there. Looks at [`ROOM_MAX`] places at most; the next event goes on.
    pub(super) fn bound_history(&mut self, now: Now) {
        for _ in 0..ROOM_MAX.min(self.channels.places()) {
            if self.history_bytes <= self.keeping.bytes_max {
                return;
            }
            self.hand = (self.hand + 1) % self.channels.places();
            if self.channels.is_taken(self.hand) {
                self.with_window(self.hand, Window::halve);
                self.with_messages(self.hand, Messages::forget_spare);
                if self.said(self.hand).is_some() {
                    self.with_said(self.hand, Said::halve);
                }
                self.settle(self.hand, now);
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
            self.counts.repeats += 1;
            Reply::Published(Published { is_repeated: true, ..used.published })
        } else {
            // Answered with the first, when that is on disk.
            let Published { serial, id, .. } = used.published;
            match (rare.durable.as_mut(), asker) {
                (_, None) => {}
                (Some(durable), Some(asker)) if serial > Serial(0) => {
                    durable.answer_too(serial, asker);
                }
                (_, Some(asker)) => self.answer_in_line_too(number, id, asker),
            }
            return true;
        };
        if let Some(asker) = asker {
            asker.answer(reply, out);
        }
        true
    }

    /// Why no further key can be remembered; none: it can.
    pub(super) fn keys_full(&self, now: Now) -> Option<Refusal> {
        let keys_max = self.keeping.keys_max;
        let due = self.keys.first().map_or(now.steady, |it| it.0);
        let free_in = Millis(due.since(now.steady).as_millis() as u64);
        (self.keys_used >= keys_max).then_some(Refusal::KeysFull { keys_max, free_in })
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
        self.remember(number, key.name.clone(), used, self.span_of(key), now);
    }

    /// For how long a key is remembered.
    pub(super) fn span_of(&self, key: &IdempotencyKey) -> Millis {
        key.span.unwrap_or(self.keeping.key_span)
    }

    pub(super) fn remember(&mut self, number: u32, name: Name, used: Used, span: Millis, now: Now) {
        let rare = self.channels[number].rare.get_or_insert_default();
        if rare.keys.insert(name.clone(), used).is_none() {
            self.keys_used += 1;
        }
        let id = rare.keys[&*name].published.id;
        self.keys.insert((now.steady + span, number, name, id));
    }

    /// Lets a channel that is kept in memory stay for a while.
    pub(super) fn linger(&mut self, number: u32, now: Now) {
        if let Some(rare) = self.channels[number].rare.as_mut()
            && rare.history.is_some()
            && rare.durable.is_none()
        {
            rare.lingers = Some(now.steady + LINGER);
        }
    }

    /// Another life of a channel has begun on disk.
    fn begin_anew(&mut self, number: u32, head: Head) {
        let is_known_already = self.window(number).is_some_and(|it| it.epoch == head.epoch);
        let Some(durable) = self.durable(number) else { return };
        if durable.end_reset() {
            durable.head = head;
            self.with_window(number, |window| window.restart(head.epoch));
            self.channels[number].serial = 0;
            self.forget_keys(number);
            self.clean(number);
        } else if !is_known_already {
            // The store failed at something meanwhile, and what it said then was said before this.
            self.open(number);
        }
    }

    /// Forgets all keys of a channel, which begins another life.
    pub(super) fn forget_keys(&mut self, number: u32) {
        if let Some(rare) = self.channels[number].rare.as_mut() {
            self.keys_used -= rare.keys.len();
            rare.keys.clear();
        }
    }

    /// Forgets keys whose time is over; a bounded number of them.
    pub(super) fn expire_keys(&mut self, now: Now, most: usize) {
        for _ in 0..most {
            if self.keys.first().is_none_or(|(until, ..)| *until > now.steady) {
                return;
            }
            let Some((_, number, name, id)) = self.keys.pop_first() else { return };
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
        let here = self.window(number).and_then(|window| match query.is_latest {
            true => window.page(&query, oldest, clock, self.show_latest(number)),
            false => window.page(&query, oldest, clock, |it| Some(it.clone())),
        });
        if let Some((events, has_more)) = here {
            let page = Page { stream, events, has_more };
            return asker.answer(Reply::Page(Box::new(page)), out);
        }
        let to = query.to.unwrap_or(Serial(u64::MAX)).min(stream.newest);
        if query.is_latest {
            return self.read_latest_page(number, asker, query, to);
        }
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

    pub(super) fn paged(
        &mut self,
        number: u32,
        asker: Asker,
        query: &PageQuery,
        answer: Answer,
        now: Now,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        if let Answer::Page(page) = &answer {
            // Whoever reads the page compares it with what is kept.
            self.learn(number, page.head);
        }
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
            Answer::Fault(Fault::Failed(_)) => Reply::Refused(Refusal::StoreUnreadable),
            Answer::Fault(fault) => Reply::Refused(refusal_of(&fault)),
            _ => Reply::Refused(Refusal::StoreBusy),
        };
        asker.answer(reply, out);
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
            let ask = match to {
                Some(to) => {
                    durable.reads_open += 1;
                    Ask::Purge { stream, to }
                }
                None => {
                    durable.begin_reset();
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
            self.forget_keys(number);
        }
        // What the answer names is still there when someone asks for it.
        self.linger(number, now);
        let (events, bytes) = gone.unwrap_or_default();
        if let Some(stream) = self.stream(number, now) {
            let purged = Purged { epoch_before, stream, events, bytes };
            asker.answer(Reply::Purged(Box::new(purged)), out);
        }
        self.settle(number, now);
    }

    #[expect(clippy::too_many_arguments, reason = "one answer, taken apart")]
    pub(super) fn purged(
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
                if is_reset {
                    self.begin_anew(number, head);
                } else {
                    self.learn(number, head);
                }
                if let Some(stream) = self.stream(number, now) {
                    let purged = Purged { epoch_before, stream, events: records, bytes };
                    asker.answer(Reply::Purged(Box::new(purged)), out);
                }
                if is_reset {
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
}
