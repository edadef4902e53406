//! One shard's subscriptions: which of its connections hear which channel.
//!
//! Asks leave for the channel's home; what comes back attaches subscriptions and is fanned out to
//! them. A subscription is attached when the home's answer arrives, not when it is asked for: the
//! answer and the deliveries come by the same mail, so it starts at exactly the home's position.
//!
//! A connection costs 8 bytes here, a subscription 50, a channel that only one connection of this
//! shard hears about 80 and its name. Measured with home and edge together, by a counting allocator:
//! 60 to 68 bytes per subscription when 20,000 connections hear one channel, 261 when each hears one
//! of its own, 445 when it is the member of it too.

mod wide;

use std::sync::Arc;

use bytes::Bytes;
use hashbrown::{HashMap, HashTable};

use self::wide::{Awaited, Reached};
use super::few::Few;
use super::filtered::{Filtered, Spread};
use super::pool::Pool;
use super::slots::Slots;
use super::state::SchedulesQuery;
use super::table::{Keyed, Table};
use super::wildcards::Shapes;
use super::{
    Channel, Command, Delivery, Down, Event, Filter, Happening, Member, Parting, Refusal, Reply,
    Subscribe, Subscribed, Up, Verdict,
};
use crate::base::ids::{ConnectionId, LaneId, ShardId, Ticket};
use crate::base::name::Name;
use crate::base::time::Millis;

/// What an edge hands to its shard. Called while the edge is at work: queue, do not call back.
pub trait Sink {
    /// Send `frame` to each of `recipients`, which are all of `lane`, except to the one in the slot
    /// `exclude`. One call per lane with a subscriber here, so that what is inside is a plain loop.
    fn fan_out(
        &mut self,
        lane: LaneId,
        frame: &Bytes,
        recipients: &[Recipient],
        exclude: Option<u32>,
        event: &Event,
    );

    /// Hand a session its reply. The connection may be gone.
    fn answer(&mut self, to: ConnectionId, ticket: Ticket, reply: Reply);

    /// Hand a session an event that it takes part in itself.
    fn hand(&mut self, to: ConnectionId, event: &Event);
}

/// One subscriber in one lane of one channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// The connection's slot on this shard.
    pub slot: u32,
    /// Which subscription it is, for finding back when the list changes.
    subscription: u32,
}

/// One shard's subscriptions.
#[derive(Debug)]
pub struct Edge {
    shard: ShardId,
    slots: Arc<Slots>,
    /// By slot; grows to the highest slot that asked.
    connections: Vec<Connection>,
    subscriptions: Pool<Subscription>,
    /// Subscriptions by connection and channel: a peer may have thousands, and cancel and repeat each.
    numbers: HashTable<u32>,
    channels: Table<Heard>,
    /// By channel number; only channels that have subscriptions with filters are here.
    filtered: HashMap<u32, Filtered, Spread>,
    /// The shapes of the patterns that active subscriptions are of, each as often as there are such subscriptions.
    patterns: Shapes,
    /// Subscriptions of patterns that not every home has answered.
    awaited: HashMap<u32, Awaited, Spread>,
    /// Reused: who is to look at an event, and who of them gets its frame.
    candidates: Vec<u32>,
    admitted: Vec<(LaneId, Recipient)>,
}

/// The chain of a connection's subscriptions.
#[derive(Clone, Copy, Debug)]
struct Connection {
    generation: u32,
    first: u32,
}

/// How long a member may stay whose connection is lost: a subscription has one byte for the seconds.
pub const LEASE_MAX: Millis = Millis(255_000);

/// Ends a chain.
const NONE: u32 = u32::MAX;
/// In place of a chain: the connection was closed, and nothing more is recorded for it.
const CLOSED: u32 = u32::MAX - 1;

#[derive(Debug)]
struct Subscription {
    slot: u32,
    channel: u32,
    /// The connection's next, an older one.
    next: u32,
    /// The connection's one before, a newer one.
    before: u32,
    /// The ticket it was asked for with, which tells it from an earlier one that is still on its way;
    /// once it is active, its place in its lane's recipients.
    mark: u32,
    stage: Stage,
    lane: LaneId,
    traits: Traits,
    /// [`Subscribe::lease`].
    lease_s: u8,
    member: Option<Arc<Member>>,
}

/// What is so of a subscription, or not: in one byte, because there are many of them.
#[derive(Clone, Copy, Debug)]
struct Traits(u8);

impl Traits {
    const SILENT: u8 = 1;
    const FILTERED: u8 = 1 << 1;
    const PATTERN: u8 = 1 << 2;

    fn of(subscribe: &Subscribe) -> Self {
        let silent = if subscribe.silent { Self::SILENT } else { 0 };
        let filtered = if subscribe.filter.is_some() { Self::FILTERED } else { 0 };
        let pattern = if subscribe.is_pattern { Self::PATTERN } else { 0 };
        Self(silent | filtered | pattern)
    }

    /// Its channel's name is a pattern, and every home knows of it.
    fn is_pattern(self) -> bool {
        self.0 & Self::PATTERN != 0
    }

    fn is_silent(self) -> bool {
        self.0 & Self::SILENT != 0
    }

    /// Its filter stands in [`Edge::filtered`], as does its channel; it is nobody's recipient.
    fn is_filtered(self) -> bool {
        self.0 & Self::FILTERED != 0
    }

    /// It has a filter from here on; whether it had one.
    fn set_filtered(&mut self) -> bool {
        let before = self.is_filtered();
        self.0 |= Self::FILTERED;
        before
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Asked for.
    Pending,
    /// Asked for, and not wanted any more.
    Cancelled,
    /// Attached.
    Active,
}

/// A channel that someone here asked to hear.
#[derive(Debug)]
struct Heard {
    channel: Channel,
    /// In any state; the channel goes with the last.
    subscriptions: u32,
    lanes: Few<Lane>,
}

/// The active subscriptions of one lane.
#[derive(Debug)]
struct Lane {
    id: LaneId,
    recipients: Few<Recipient>,
}

const _: () = assert!(size_of::<Connection>() == 8 && size_of::<Recipient>() == 8);
const _: () = assert!(size_of::<Subscription>() <= 32 && size_of::<Heard>() <= 64);

impl Keyed for Heard {
    fn channel(&self) -> &Channel {
        &self.channel
    }
}

impl Edge {
    /// An edge without connections. Every shard has the same `slots`.
    pub fn new(shard: ShardId, slots: Arc<Slots>) -> Self {
        let channels = Table::new(slots.clone());
        Self {
            shard,
            slots,
            connections: Vec::new(),
            subscriptions: Pool::new(),
            numbers: HashTable::new(),
            channels,
            filtered: HashMap::default(),
            patterns: Shapes::default(),
            awaited: HashMap::default(),
            candidates: Vec::new(),
            admitted: Vec::new(),
        }
    }

    /// The shard that orders this channel's events.
    pub fn home_of(&self, channel: &Channel) -> ShardId {
        self.slots.home_of(channel)
    }

    /// How many subscriptions there are, asked for or active.
    pub fn subscriptions(&self) -> usize {
        self.subscriptions.len()
    }

    /// How many channels have subscriptions here.
    pub fn channels(&self) -> usize {
        self.channels.len()
    }

    /// Takes what a session asks and appends the mail that carries it to where it is answered.
    /// Asks of a connection that was closed are dropped.
    pub fn ask(
        &mut self,
        from: ConnectionId,
        ticket: Ticket,
        command: Command,
        out: &mut Vec<(ShardId, Up)>,
    ) {
        let home = match &command {
            Command::Subscribe(subscribe) => self.slots.home_of(&subscribe.channel),
            Command::Publish(publish) => self.slots.home_of(&publish.channel),
            Command::Describe(channel)
            | Command::Members(channel)
            | Command::History(channel, _)
            | Command::Replay(channel, _)
            | Command::Stream(channel)
            | Command::Reset(channel)
            | Command::Purge(channel, _)
            | Command::Renew(channel, _)
            | Command::Retained(channel, _)
            | Command::FindRetained(channel, _)
            | Command::Values(channel, _)
            | Command::Latest(channel, _)
            | Command::Versions(channel, _)
            | Command::Annotations(channel, _)
            | Command::Summaries(channel)
            | Command::Control(channel, _) => self.slots.home_of(channel),
            Command::Unsubscribe(channel) => return self.unsubscribe(from, channel, out),
            Command::Refilter(channel, filter) => return self.refilter(from, channel, filter),
            Command::Survey { shard, .. } => *shard,
            Command::React(react) => self.slots.home_of(&react.channel),
            Command::SetValue(set) => self.slots.home_of(&set.channel),
            Command::Mutate(mutate) => self.slots.home_of(&mutate.channel),
            Command::Annotate(annotate) => self.slots.home_of(&annotate.channel),
            Command::Spend(app, spend) => {
                self.slots.home_of(&Channel { app: *app, name: spend.name.clone() })
            }
            Command::Schedule(schedule) => self.slots.home_of(schedule.what.channel()),
            // What is the whole app's has a home, too, the same at every ask.
            Command::Schedules(SchedulesQuery { app, .. }) | Command::CancelSchedule(app, _) => {
                self.slots.home_of(&Channel { app: *app, name: Name::from("#schedules") })
            }
            Command::UseOnce(app, name, _) => {
                self.slots.home_of(&Channel { app: *app, name: name.clone() })
            }
            Command::Call(to, _) => to.shard,
        };
        let command = match command {
            Command::Subscribe(subscribe) => match self.expect(from, ticket, subscribe) {
                Some(subscribe) if subscribe.is_pattern => {
                    return self.ask_all(from, ticket, &subscribe, out);
                }
                Some(subscribe) => Command::Subscribe(subscribe),
                None => return,
            },
            other => other,
        };
        out.push((home, Up::Ask { from, ticket, command }));
    }

    /// Ends everything of a connection, for when it is gone.
    pub fn close(
        &mut self,
        connection: ConnectionId,
        parting: Parting,
        out: &mut Vec<(ShardId, Up)>,
    ) {
        let Some(entry) = self.enter(connection) else { return };
        let mut rest = std::mem::replace(&mut entry.first, CLOSED);
        while rest != NONE && rest != CLOSED {
            let number = rest;
            rest = self.subscriptions[number].next;
            // Of one that is not answered yet, the answer finds the connection gone and goes back.
            self.end(number, parting, out);
        }
    }

    /// Takes one mail from a home: fans out or answers through `sink`, and appends what goes back.
    pub fn handle(&mut self, down: Down, sink: &mut dyn Sink, out: &mut Vec<(ShardId, Up)>) {
        match down {
            Down::Deliver(delivery) => self.deliver(&delivery, sink),
            Down::Answer { to, ticket, reply } => {
                if let Reply::Refused(refusal) = reply
                    && let Some(number) = self.find_refused(to, ticket)
                {
                    if self.subscriptions[number].traits.is_pattern() {
                        let answer = Err(refusal);
                        return self.answered(number, (to, ticket), answer, sink, out);
                    }
                    self.unchain(number);
                    self.end(number, Parting::Unsubscribed, out);
                }
                sink.answer(to, ticket, reply);
            }
            Down::Attach { to, ticket, granted, reply } if granted.is_pattern => {
                self.attach_pattern((to, ticket), *granted, reply, sink, out);
            }
            Down::Attach { to, ticket, granted, reply } => {
                self.attach(to, ticket, *granted, reply, sink, out);
            }
        }
    }

    fn deliver(&mut self, delivery: &Delivery, sink: &mut dyn Sink) {
        let event = &delivery.event;
        let number = self.channels.find(event.channel.app, &event.channel.name);
        if !self.patterns.is_empty() && self.deliver_wide(number, delivery, sink) {
            return;
        }
        // Everyone here may have left while it was on its way.
        let Some(number) = number else { return };
        self.deliver_direct(number, delivery, None, sink);
    }

    /// Delivers to a channel's own subscribers.
    fn deliver_direct(
        &mut self,
        number: u32,
        delivery: &Delivery,
        reached: Option<&mut Reached>,
        sink: &mut dyn Sink,
    ) {
        let event = &delivery.event;
        let lanes = self.channels[number].lanes.as_slice();
        if matches!(event.happening, Happening::Control(_)) {
            return self.deliver_control(lanes, event, sink);
        }
        let exclude = delivery.exclude.filter(|&it| self.is_open(it)).map(|it| it.slot);
        for lane in lanes.iter().filter(|_| !event.guarded) {
            match frame_of(delivery, lane.id) {
                None => {}
                Some(frame) if frame.is_empty() => {
                    let recipients = lane.recipients.as_slice().iter();
                    for recipient in recipients.filter(|it| exclude != Some(it.slot)) {
                        sink.hand(self.id_of(recipient.slot), event);
                    }
                }
                Some(frame) => {
                    sink.fan_out(lane.id, frame, lane.recipients.as_slice(), exclude, event);
                }
            }
        }
        if !self.filtered.is_empty() && self.filtered.contains_key(&number) {
            self.deliver_filtered(number, delivery, exclude, reached, sink);
        }
    }

    /// Asks the filters whose tags the event has, and nobody else: what it costs grows with them.
    fn deliver_filtered(
        &mut self,
        channel: u32,
        delivery: &Delivery,
        exclude: Option<u32>,
        mut reached: Option<&mut Reached>,
        sink: &mut dyn Sink,
    ) {
        let Some(filtered) = self.filtered.get(&channel) else { return };
        let event = &delivery.event;
        let mut candidates = std::mem::take(&mut self.candidates);
        let mut admitted = std::mem::take(&mut self.admitted);
        match event.happening {
            Happening::Message { .. } | Happening::Mutated(_) => {
                filtered.find(&event.tags, &self.slots, &mut candidates);
            }
            // It has no tags by which anyone could look for it.
            _ => filtered.find_all(&mut candidates),
        }
        for number in candidates.drain(..) {
            let it = &self.subscriptions[number];
            if exclude == Some(it.slot) {
                continue;
            }
            let verdict = match frame_of(delivery, it.lane) {
                // Not an event that its lane shows.
                None => continue,
                Some(frame) => match filtered.filter(number).admit.admit(event) {
                    Verdict::Frame if frame.is_empty() => Verdict::Session,
                    verdict => verdict,
                },
            };
            if let Some(reached) = reached.as_deref_mut()
                && verdict != Verdict::Skip
                && !self.reach(reached, it.slot, delivery)
            {
                continue;
            }
            match verdict {
                Verdict::Skip => {}
                Verdict::Frame => {
                    admitted.push((it.lane, Recipient { slot: it.slot, subscription: number }));
                }
                Verdict::Session => sink.hand(self.id_of(it.slot), event),
            }
        }
        self.candidates = candidates;
        // Almost always one lane, and then sorted already.
        admitted.sort_by_key(|(lane, _)| *lane);
        let mut recipients = Vec::with_capacity(admitted.len());
        for of_lane in admitted.chunk_by(|a, b| a.0 == b.0) {
            recipients.clear();
            recipients.extend(of_lane.iter().map(|(_, recipient)| *recipient));
            if let Some(frame) = frame_of(delivery, of_lane[0].0) {
                // Whoever is excluded is not among them.
                sink.fan_out(of_lane[0].0, frame, &recipients, None, event);
            }
        }
        admitted.clear();
        self.admitted = admitted;
    }

    fn deliver_control(&self, lanes: &[Lane], event: &Event, sink: &mut dyn Sink) {
        for recipient in lanes.iter().flat_map(|lane| lane.recipients.as_slice()) {
            // Who only watches a user is not meant when that user is.
            if self.subscriptions[recipient.subscription].member.is_some() {
                sink.hand(self.id_of(recipient.slot), event);
            }
        }
    }

    /// The connection in a slot that has subscriptions.
    fn id_of(&self, slot: u32) -> ConnectionId {
        let generation = self.connections[slot as usize].generation;
        ConnectionId { shard: self.shard, slot, generation }
    }

    fn attach(
        &mut self,
        to: ConnectionId,
        ticket: Ticket,
        granted: Subscribe,
        mut reply: Box<Subscribed>,
        sink: &mut dyn Sink,
        out: &mut Vec<(ShardId, Up)>,
    ) {
        let asked = self.find_granted(to, ticket, &granted.channel);
        let Some(number) = asked.filter(|&it| self.subscriptions[it].stage == Stage::Pending)
        else {
            let home = self.slots.home_of(&granted.channel);
            let granted = Box::new(Subscribe { by: Some(to), ..granted });
            out.push((home, Up::Detach(granted, Parting::Unsubscribed)));
            if let Some(number) = asked {
                self.unchain(number);
                self.end(number, Parting::Unsubscribed, out);
                sink.answer(to, ticket, Reply::Refused(Refusal::Cancelled));
            }
            return;
        };
        self.activate(number);
        reply.channel = self.channels[self.subscriptions[number].channel].channel.clone();
        sink.answer(to, ticket, Reply::Subscribed(reply));
    }

    /// From here on a subscription hears what is delivered.
    fn activate(&mut self, number: u32) {
        let subscription = &mut self.subscriptions[number];
        let heard = &mut self.channels[subscription.channel];
        if subscription.traits.is_filtered() {
            subscription.stage = Stage::Active;
            let filtered = self.filtered.get_mut(&subscription.channel);
            let filtered = filtered.expect("a filtered subscription has its filter");
            filtered.activate(number, &self.slots);
            return;
        }
        let lane = subscription.lane;
        let at = heard.lanes.as_slice().iter().position(|it| it.id == lane);
        let at = at.unwrap_or_else(|| {
            heard.lanes.push(Lane { id: lane, recipients: Few::default() });
            heard.lanes.as_slice().len() - 1
        });
        let recipients = &mut heard.lanes.as_mut_slice()[at].recipients;
        subscription.stage = Stage::Active;
        subscription.mark = recipients.as_slice().len() as u32;
        recipients.push(Recipient { slot: subscription.slot, subscription: number });
    }

    /// Records that a subscription is asked for. None if the connection was closed.
    fn expect(
        &mut self,
        from: ConnectionId,
        ticket: Ticket,
        mut subscribe: Box<Subscribe>,
    ) -> Option<Box<Subscribe>> {
        if self.enter(from)?.first == CLOSED {
            return None;
        }
        let found = self.channels.find(subscribe.channel.app, &subscribe.channel.name);
        let channel = found.unwrap_or_else(|| {
            let channel = subscribe.channel.clone();
            self.channels.insert(Heard { channel, subscriptions: 0, lanes: Few::default() })
        });
        let heard = &mut self.channels[channel];
        heard.subscriptions += 1;
        // One allocation per name: the home keeps the first it hears, and that is this one.
        subscribe.channel = heard.channel.clone();
        let entry = &mut self.connections[from.slot as usize];
        let number = self.subscriptions.insert(Subscription {
            slot: from.slot,
            channel,
            next: entry.first,
            before: NONE,
            mark: ticket.0,
            stage: Stage::Pending,
            lane: subscribe.lane,
            traits: Traits::of(&subscribe),
            lease_s: subscribe.lease.min(LEASE_MAX).0.div_ceil(1000) as u8,
            member: subscribe.member.clone(),
        });
        if let Some(filter) = subscribe.filter.take() {
            self.filtered.entry(channel).or_default().insert(number, filter);
        }
        let next = std::mem::replace(&mut entry.first, number);
        if next != NONE {
            self.subscriptions[next].before = number;
        }
        let (slots, subscriptions) = (&self.slots, &self.subscriptions);
        self.numbers.insert_unique(slots.mix(from.slot, channel), number, |&number| {
            let it = &subscriptions[number];
            slots.mix(it.slot, it.channel)
        });
        Some(subscribe)
    }

    fn unsubscribe(&mut self, from: ConnectionId, channel: &Channel, out: &mut Vec<(ShardId, Up)>) {
        let Some(heard) = self.channels.find(channel.app, &channel.name) else { return };
        if !self.is_open(from) {
            return;
        }
        // At most one of a connection's subscriptions of a channel is not cancelled.
        let found = self.find(from.slot, heard, |it| it.stage != Stage::Cancelled);
        let Some(number) = found else { return };
        let subscription = &mut self.subscriptions[number];
        if subscription.stage == Stage::Pending {
            // Its answer is on its way, and goes back.
            subscription.stage = Stage::Cancelled;
            return;
        }
        self.unchain(number);
        self.end(number, Parting::Unsubscribed, out);
    }

    fn refilter(&mut self, from: ConnectionId, channel: &Channel, filter: &Arc<Filter>) {
        let Some(heard) = self.channels.find(channel.app, &channel.name) else { return };
        if !self.is_open(from) {
            return;
        }
        let found = self.find(from.slot, heard, |it| it.stage != Stage::Cancelled);
        let Some(number) = found else { return };
        let it = &mut self.subscriptions[number];
        if !it.traits.set_filtered() {
            let is_active = it.stage == Stage::Active;
            if is_active {
                let (lane, at) = (it.lane, it.mark);
                self.leave_lane(heard, lane, at);
            }
            let filtered = self.filtered.entry(heard).or_default();
            filtered.insert(number, filter.clone());
            if is_active {
                filtered.activate(number, &self.slots);
            }
            return;
        }
        let filtered = self.filtered.get_mut(&heard);
        let filtered = filtered.expect("a filtered subscription has its filter");
        let is_active = self.subscriptions[number].stage == Stage::Active;
        // Whoever looks for the same as before is found as before.
        if filtered.replace(number, filter) {
            return;
        }
        filtered.remove(number, is_active, &self.slots);
        filtered.insert(number, filter.clone());
        if is_active {
            filtered.activate(number, &self.slots);
        }
    }

    /// Ends a subscription that is in no chain any more, and tells the home if it was active.
    fn end(&mut self, number: u32, parting: Parting, out: &mut Vec<(ShardId, Up)>) {
        let ended = self.subscriptions.remove(number);
        let found =
            self.numbers.find_entry(self.slots.mix(ended.slot, ended.channel), |&it| it == number);
        found.expect("a subscription is in the table of them").remove();
        if ended.traits.is_filtered() {
            let filtered = self.filtered.get_mut(&ended.channel);
            let filtered = filtered.expect("a filtered subscription has its filter");
            filtered.remove(number, ended.stage == Stage::Active, &self.slots);
            if filtered.is_empty() {
                self.filtered.remove(&ended.channel);
            }
        }
        let by = self.id_of(ended.slot);
        if ended.stage == Stage::Active && !ended.traits.is_filtered() {
            self.leave_lane(ended.channel, ended.lane, ended.mark);
        }
        let heard = &mut self.channels[ended.channel];
        if ended.traits.is_pattern() {
            let pattern = heard.channel.clone();
            self.leave_pattern(number, &pattern, &ended, parting, out);
        } else if ended.stage == Stage::Active {
            let detach = Subscribe {
                member: ended.member,
                silent: ended.traits.is_silent(),
                lease: Millis(u64::from(ended.lease_s) * 1000),
                by: Some(by),
                ..Subscribe::new(heard.channel.clone(), ended.lane)
            };
            let home = self.slots.home_of(&detach.channel);
            out.push((home, Up::Detach(Box::new(detach), parting)));
        }
        let heard = &mut self.channels[ended.channel];
        heard.subscriptions -= 1;
        if heard.subscriptions == 0 {
            self.channels.remove(ended.channel);
        }
    }

    /// Takes a recipient out of a channel's lane, where it stands at `mark`.
    fn leave_lane(&mut self, channel: u32, lane: LaneId, mark: u32) {
        let heard = &mut self.channels[channel];
        let at = mark as usize;
        let lanes = heard.lanes.as_mut_slice();
        let lane = lanes.iter().position(|it| it.id == lane);
        let lane = lane.expect("an active subscription's lane is there");
        let recipients = &mut lanes[lane].recipients;
        recipients.swap_remove(at);
        if let Some(moved) = recipients.as_slice().get(at) {
            self.subscriptions[moved.subscription].mark = mark;
        }
        if recipients.is_empty() {
            heard.lanes.swap_remove(lane);
        }
    }

    /// A subscription of the connection in a slot to a numbered channel.
    fn find(&self, slot: u32, channel: u32, which: impl Fn(&Subscription) -> bool) -> Option<u32> {
        let is_it = |&number: &u32| {
            let it = &self.subscriptions[number];
            it.slot == slot && it.channel == channel && which(it)
        };
        self.numbers.find(self.slots.mix(slot, channel), is_it).copied()
    }

    /// The subscription asked for with this ticket, cancelled or not.
    fn find_granted(&self, to: ConnectionId, ticket: Ticket, channel: &Channel) -> Option<u32> {
        if !self.is_open(to) {
            return None;
        }
        let channel = self.channels.find(channel.app, &channel.name)?;
        self.find(to.slot, channel, |it| it.stage != Stage::Active && it.mark == ticket.0)
    }

    /// The same, without its channel, which a refusal does not carry. The newest come first and only
    /// what was asked for since is passed over.
    fn find_refused(&self, to: ConnectionId, ticket: Ticket) -> Option<u32> {
        if !self.is_open(to) {
            return None;
        }
        let mut number = self.connections[to.slot as usize].first;
        while number != NONE {
            let it = &self.subscriptions[number];
            if it.stage != Stage::Active && it.mark == ticket.0 {
                return Some(number);
            }
            number = it.next;
        }
        None
    }

    /// Takes a subscription out of the chain it is in.
    fn unchain(&mut self, number: u32) {
        let Subscription { slot, next, before, .. } = self.subscriptions[number];
        match before {
            NONE => self.connections[slot as usize].first = next,
            _ => self.subscriptions[before].next = next,
        }
        if next != NONE {
            self.subscriptions[next].before = before;
        }
    }

    /// Whether this is a connection of this shard that asked for a subscription and is not closed.
    fn is_open(&self, connection: ConnectionId) -> bool {
        connection.shard == self.shard
            && self.connections.get(connection.slot as usize).is_some_and(|entry| {
                entry.generation == connection.generation && entry.first != CLOSED
            })
    }

    /// The entry of a connection, new if its slot changed hands. None if it is of another shard.
    fn enter(&mut self, connection: ConnectionId) -> Option<&mut Connection> {
        if connection.shard != self.shard {
            return None;
        }
        let ConnectionId { slot, generation, .. } = connection;
        let at = slot as usize;
        if at >= self.connections.len() {
            let nobody = Connection { generation: 0, first: NONE };
            self.connections.resize(at + 1, nobody);
        }
        let entry = &mut self.connections[at];
        if entry.generation != generation {
            assert!(
                matches!(entry.first, NONE | CLOSED),
                "slot {slot} changed hands before it was closed"
            );
            *entry = Connection { generation, first: NONE };
        }
        Some(entry)
    }
}

/// The frame that a delivery brings for a lane.
fn frame_of(delivery: &Delivery, lane: LaneId) -> Option<&Bytes> {
    delivery.frames.iter().find(|(id, _)| *id == lane).map(|(_, frame)| frame)
}

#[cfg(test)]
mod tests;
