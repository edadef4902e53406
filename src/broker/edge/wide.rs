//! Subscriptions of patterns, as an edge sees them: every home is asked, and each connection hears an event once.
//!
//! A pattern's subscription is active when the last home has answered. What a home that answered earlier sent meanwhile
//! is passed over: the subscription begins with its answer, for the channels of all homes alike.

use hashbrown::HashSet;

use super::super::filtered::Spread;
use super::{Edge, Recipient, Sink, Stage, Subscription, frame_of};
use crate::base::ids::{ConnectionId, ShardId, Ticket};
use crate::base::name::Channel;
use crate::broker::{
    Command, Delivery, Happening, Parting, Refusal, Reply, Subscribe, Subscribed, Up,
};

/// A subscription of a pattern that not every home has answered.
#[derive(Debug)]
pub(super) struct Awaited {
    /// Homes that have not.
    left: u16,
    /// Homes that let it stand.
    granted: Vec<ShardId>,
    /// What the first of those said that did not.
    refusal: Option<Refusal>,
}

/// Who has heard an event.
pub(super) struct Reached {
    /// The channel itself, if it has subscribers here; those of its lanes have.
    direct: Option<u32>,
    /// The connections that have otherwise.
    slots: HashSet<u32, Spread>,
}

impl Edge {
    /// Asks every home for a pattern's subscription.
    pub(super) fn ask_all(
        &mut self,
        from: ConnectionId,
        ticket: Ticket,
        subscribe: &Subscribe,
        out: &mut Vec<(ShardId, Up)>,
    ) {
        // It was asked for last, and stands first in its connection's chain.
        let number = self.connections[from.slot as usize].first;
        let left = self.slots.shards();
        self.awaited.insert(number, Awaited { left, granted: Vec::new(), refusal: None });
        out.extend((0..left).map(ShardId).map(|home| {
            let subscribe = Subscribe { at: Some(home), ..subscribe.clone() };
            let command = Command::Subscribe(Box::new(subscribe));
            (home, Up::Ask { from, ticket, command })
        }));
    }

    /// A home lets a pattern's subscription stand.
    pub(super) fn attach_pattern(
        &mut self,
        (to, ticket): (ConnectionId, Ticket),
        granted: Subscribe,
        reply: Box<Subscribed>,
        sink: &mut dyn Sink,
        out: &mut Vec<(ShardId, Up)>,
    ) {
        let home = granted.at.expect("the edge says of which home it asks what");
        match self.find_granted(to, ticket, &granted.channel) {
            Some(number) => self.answered(number, (to, ticket), Ok((home, reply)), sink, out),
            // The connection is gone.
            None => {
                let granted = Box::new(Subscribe { by: Some(to), ..granted });
                out.push((home, Up::Detach(granted, Parting::Unsubscribed)));
            }
        }
    }

    /// A home has answered a pattern's subscription; after the last, who asked is.
    pub(super) fn answered(
        &mut self,
        number: u32,
        (to, ticket): (ConnectionId, Ticket),
        answer: Result<(ShardId, Box<Subscribed>), Refusal>,
        sink: &mut dyn Sink,
        out: &mut Vec<(ShardId, Up)>,
    ) {
        let awaited = self.awaited.get_mut(&number);
        let awaited = awaited.expect("a pattern's subscription that is not active is awaited");
        awaited.left -= 1;
        let reply = match answer {
            Ok((home, reply)) => {
                awaited.granted.push(home);
                Some(reply)
            }
            Err(refusal) => {
                awaited.refusal.get_or_insert(refusal);
                None
            }
        };
        if awaited.left > 0 {
            return;
        }
        let is_wanted = self.subscriptions[number].stage == Stage::Pending;
        match (awaited.refusal, reply) {
            (None, Some(mut reply)) if is_wanted => {
                self.awaited.remove(&number);
                self.activate(number);
                let pattern = &self.channels[self.subscriptions[number].channel].channel;
                let is_noted = self.patterns.try_add(pattern);
                assert!(is_noted, "every home has noted the pattern's shape, and has room for it");
                reply.channel = pattern.clone();
                sink.answer(to, ticket, Reply::Subscribed(reply));
            }
            (refusal, _) => {
                self.unchain(number);
                self.end(number, Parting::Unsubscribed, out);
                let refusal = refusal.unwrap_or(Refusal::Cancelled);
                sink.answer(to, ticket, Reply::Refused(refusal));
            }
        }
    }

    /// Tells the homes that know of a pattern's subscription that it has ended.
    pub(super) fn leave_pattern(
        &mut self,
        number: u32,
        pattern: &Channel,
        ended: &Subscription,
        parting: Parting,
        out: &mut Vec<(ShardId, Up)>,
    ) {
        let homes = match ended.stage {
            Stage::Active => {
                self.patterns.remove(pattern);
                (0..self.slots.shards()).map(ShardId).collect()
            }
            // The others' answers find the connection gone.
            Stage::Pending | Stage::Cancelled => {
                self.awaited.remove(&number).map(|it| it.granted).unwrap_or_default()
            }
        };
        out.extend(homes.into_iter().map(|home| {
            let detach = Subscribe {
                is_pattern: true,
                at: Some(home),
                silent: ended.traits.is_silent(),
                ..Subscribe::new(pattern.clone(), ended.lane)
            };
            (home, Up::Detach(Box::new(detach), parting))
        }));
    }

    /// Delivers to the subscribers of a channel and of the patterns that its name is one of; false, and nothing
    /// delivered, if there are none of those.
    pub(super) fn deliver_wide(
        &mut self,
        direct: Option<u32>,
        delivery: &Delivery,
        sink: &mut dyn Sink,
    ) -> bool {
        let event = &delivery.event;
        let is_published = matches!(
            event.happening,
            Happening::Message { .. }
                | Happening::Mutated(_)
                | Happening::Annotated(_)
                | Happening::Summarized(_)
        );
        if !is_published {
            return false;
        }
        let mut wide = Vec::new();
        let channels = &self.channels;
        self.patterns.each(&event.channel, |pattern| {
            wide.extend(channels.find(event.channel.app, pattern));
        });
        if wide.is_empty() {
            return false;
        }
        let mut reached = Reached { direct, slots: HashSet::default() };
        if let Some(number) = direct {
            self.deliver_direct(number, delivery, Some(&mut reached), sink);
        }
        let exclude = delivery.exclude.filter(|&it| self.is_open(it)).map(|it| it.slot);
        let mut recipients = Vec::new();
        for number in wide {
            for lane in self.channels[number].lanes.as_slice().iter().filter(|_| !event.guarded) {
                let Some(frame) = frame_of(delivery, lane.id) else { continue };
                recipients.clear();
                let of_lane = lane.recipients.as_slice().iter();
                recipients.extend(of_lane.copied().filter(|it: &Recipient| {
                    exclude != Some(it.slot) && self.reach(&mut reached, it.slot, delivery)
                }));
                if frame.is_empty() {
                    recipients.iter().for_each(|it| sink.hand(self.id_of(it.slot), event));
                } else if !recipients.is_empty() {
                    sink.fan_out(lane.id, frame, &recipients, None, event);
                }
            }
            if self.filtered.contains_key(&number) {
                self.deliver_filtered(number, delivery, exclude, Some(&mut reached), sink);
            }
        }
        true
    }

    /// Notes that a connection hears an event; false if it has heard it already.
    pub(super) fn reach(&self, reached: &mut Reached, slot: u32, delivery: &Delivery) -> bool {
        let hears = |it: &Subscription| {
            it.stage == Stage::Active
                && !it.traits.is_filtered()
                && frame_of(delivery, it.lane).is_some()
        };
        let in_lane = !delivery.event.guarded
            && reached.direct.is_some_and(|number| self.find(slot, number, hears).is_some());
        !in_lane && reached.slots.insert(slot)
    }
}
