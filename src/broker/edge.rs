//! One shard's subscriptions: which of its connections hear which channel.
//!
//! Asks leave for the channel's home; what comes back attaches subscriptions and is fanned out to
//! them. A subscription is attached when the home's answer arrives, not when it is asked for: the
//! answer and the deliveries come by the same mail, so it starts at exactly the home's position.
//!
//! A connection costs 8 bytes here, a subscription 40, a channel that only one connection of this
//! shard hears about 100 and its name.

use std::sync::Arc;

use bytes::Bytes;

use super::few::Few;
use super::pool::Pool;
use super::slots::Slots;
use super::table::{Keyed, Table};
use super::{
    Channel, Command, Delivery, Down, Event, Happening, Member, Refusal, Reply, Subscribe,
    Subscribed, Up,
};
use crate::base::ids::{ConnectionId, LaneId, ShardId, Ticket};

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
    fn control(&mut self, to: ConnectionId, event: &Event);
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
    channels: Table<Heard>,
}

/// The chain of a connection's subscriptions.
#[derive(Clone, Copy, Debug)]
struct Connection {
    generation: u32,
    first: u32,
}

/// Ends a chain.
const NONE: u32 = u32::MAX;
/// In place of a chain: the connection was closed, and nothing more is recorded for it.
const CLOSED: u32 = u32::MAX - 1;

#[derive(Debug)]
struct Subscription {
    channel: u32,
    /// The connection's next.
    next: u32,
    state: State,
    lane: LaneId,
    silent: bool,
    member: Option<Arc<Member>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Asked for; the ticket tells it from an earlier one that is still on its way.
    Pending(Ticket),
    /// Asked for, and not wanted any more.
    Cancelled(Ticket),
    /// Attached, at this place in its lane's recipients.
    Active(u32),
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
        Self { shard, slots, connections: Vec::new(), subscriptions: Pool::new(), channels }
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
            | Command::Control(channel, _) => self.slots.home_of(channel),
            Command::Unsubscribe(channel) => return self.unsubscribe(from, channel, out),
            Command::Survey { .. } => {
                let all = (0..self.slots.shards()).map(ShardId);
                let ask = |shard| (shard, Up::Ask { from, ticket, command: command.clone() });
                return out.extend(all.map(ask));
            }
        };
        let command = match command {
            Command::Subscribe(subscribe) => match self.expect(from, ticket, subscribe) {
                Some(subscribe) => Command::Subscribe(subscribe),
                None => return,
            },
            other => other,
        };
        out.push((home, Up::Ask { from, ticket, command }));
    }

    /// Ends everything of a connection, for when it is gone.
    pub fn close(&mut self, connection: ConnectionId, out: &mut Vec<(ShardId, Up)>) {
        let Some(entry) = self.enter(connection) else { return };
        let mut rest = std::mem::replace(&mut entry.first, CLOSED);
        while rest != NONE && rest != CLOSED {
            let number = rest;
            rest = self.subscriptions[number].next;
            // Of one that is not answered yet, the answer finds the connection gone and goes back.
            self.end(number, out);
        }
    }

    /// Takes one mail from a home: fans out or answers through `sink`, and appends what goes back.
    pub fn handle(&mut self, down: Down, sink: &mut dyn Sink, out: &mut Vec<(ShardId, Up)>) {
        match down {
            Down::Deliver(delivery) => self.deliver(&delivery, sink),
            Down::Answer { to, ticket, reply } => {
                if matches!(reply, Reply::Refused(_))
                    && let Some(number) = self.take_asked(to, ticket)
                {
                    self.end(number, out);
                }
                sink.answer(to, ticket, reply);
            }
            Down::Attach { to, ticket, granted, reply } => {
                self.attach(to, ticket, granted, reply, sink, out);
            }
        }
    }

    fn deliver(&self, delivery: &Delivery, sink: &mut dyn Sink) {
        let event = &delivery.event;
        // Everyone here may have left while it was on its way.
        let Some(number) = self.channels.find(event.channel.app, &event.channel.name) else {
            return;
        };
        let lanes = self.channels[number].lanes.as_slice();
        if matches!(event.happening, Happening::Control(_)) {
            return self.deliver_control(lanes, event, sink);
        }
        let exclude = delivery.exclude.filter(|&it| self.is_open(it)).map(|it| it.slot);
        for lane in lanes {
            if let Some((_, frame)) = delivery.frames.iter().find(|(id, _)| *id == lane.id) {
                sink.fan_out(lane.id, frame, lane.recipients.as_slice(), exclude, event);
            }
        }
    }

    fn deliver_control(&self, lanes: &[Lane], event: &Event, sink: &mut dyn Sink) {
        for recipient in lanes.iter().flat_map(|lane| lane.recipients.as_slice()) {
            // Who only watches a user is not meant when that user is.
            if self.subscriptions[recipient.subscription].member.is_some() {
                let generation = self.connections[recipient.slot as usize].generation;
                sink.control(
                    ConnectionId { shard: self.shard, slot: recipient.slot, generation },
                    event,
                );
            }
        }
    }

    fn attach(
        &mut self,
        to: ConnectionId,
        ticket: Ticket,
        granted: Box<Subscribe>,
        mut reply: Box<Subscribed>,
        sink: &mut dyn Sink,
        out: &mut Vec<(ShardId, Up)>,
    ) {
        let asked = self.find_asked(to, ticket);
        let Some(number) =
            asked.filter(|&it| self.subscriptions[it].state == State::Pending(ticket))
        else {
            out.push((self.slots.home_of(&granted.channel), Up::Detach(granted)));
            if let Some(number) = self.take_asked(to, ticket) {
                self.end(number, out);
                sink.answer(to, ticket, Reply::Refused(Refusal::Cancelled));
            }
            return;
        };
        let subscription = &mut self.subscriptions[number];
        let heard = &mut self.channels[subscription.channel];
        let at = heard.lanes.as_slice().iter().position(|lane| lane.id == granted.lane);
        let at = at.unwrap_or_else(|| {
            heard.lanes.push(Lane { id: granted.lane, recipients: Few::default() });
            heard.lanes.as_slice().len() - 1
        });
        let recipients = &mut heard.lanes.as_mut_slice()[at].recipients;
        subscription.state = State::Active(recipients.as_slice().len() as u32);
        recipients.push(Recipient { slot: to.slot, subscription: number });
        reply.channel = heard.channel.clone();
        sink.answer(to, ticket, Reply::Subscribed(reply));
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
        entry.first = self.subscriptions.insert(Subscription {
            channel,
            next: entry.first,
            state: State::Pending(ticket),
            lane: subscribe.lane,
            silent: subscribe.silent,
            member: subscribe.member.clone(),
        });
        Some(subscribe)
    }

    fn unsubscribe(&mut self, from: ConnectionId, channel: &Channel, out: &mut Vec<(ShardId, Up)>) {
        let Some(heard) = self.channels.find(channel.app, &channel.name) else { return };
        if !self.is_open(from) {
            return;
        }
        // At most one of a connection's subscriptions of a channel is not cancelled.
        let mut number = self.connections[from.slot as usize].first;
        while number != NONE {
            let subscription = &mut self.subscriptions[number];
            if subscription.channel == heard {
                match subscription.state {
                    State::Cancelled(_) => (),
                    State::Pending(ticket) => return subscription.state = State::Cancelled(ticket),
                    State::Active(_) => {
                        self.unchain(from.slot, number);
                        return self.end(number, out);
                    }
                }
            }
            number = subscription.next;
        }
    }

    /// Ends a subscription that is in no chain any more, and tells the home if it was active.
    fn end(&mut self, number: u32, out: &mut Vec<(ShardId, Up)>) {
        let ended = self.subscriptions.remove(number);
        let heard = &mut self.channels[ended.channel];
        if let State::Active(at) = ended.state {
            let lanes = heard.lanes.as_mut_slice();
            let lane = lanes.iter().position(|lane| lane.id == ended.lane);
            let lane = lane.expect("an active subscription's lane is there");
            let recipients = &mut lanes[lane].recipients;
            recipients.swap_remove(at as usize);
            if let Some(moved) = recipients.as_slice().get(at as usize) {
                self.subscriptions[moved.subscription].state = State::Active(at);
            }
            if recipients.is_empty() {
                heard.lanes.swap_remove(lane);
            }
            let detach = Subscribe {
                channel: heard.channel.clone(),
                lane: ended.lane,
                member: ended.member,
                members_max: 0,
                silent: ended.silent,
                announce_count: false,
            };
            out.push((self.slots.home_of(&detach.channel), Up::Detach(Box::new(detach))));
        }
        heard.subscriptions -= 1;
        if heard.subscriptions == 0 {
            self.channels.remove(ended.channel);
        }
    }

    /// The subscription asked for with this ticket, cancelled or not.
    fn find_asked(&self, to: ConnectionId, ticket: Ticket) -> Option<u32> {
        if !self.is_open(to) {
            return None;
        }
        let mut number = self.connections[to.slot as usize].first;
        while number != NONE {
            let subscription = &self.subscriptions[number];
            if matches!(subscription.state, State::Pending(it) | State::Cancelled(it) if it == ticket)
            {
                return Some(number);
            }
            number = subscription.next;
        }
        None
    }

    /// The same, taken out of its connection's chain.
    fn take_asked(&mut self, to: ConnectionId, ticket: Ticket) -> Option<u32> {
        let number = self.find_asked(to, ticket)?;
        self.unchain(to.slot, number);
        Some(number)
    }

    /// Takes a subscription out of the chain it is in.
    fn unchain(&mut self, slot: u32, number: u32) {
        let next = self.subscriptions[number].next;
        let entry = &mut self.connections[slot as usize];
        if entry.first == number {
            entry.first = next;
            return;
        }
        let mut before = entry.first;
        while self.subscriptions[before].next != number {
            before = self.subscriptions[before].next;
        }
        self.subscriptions[before].next = next;
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
