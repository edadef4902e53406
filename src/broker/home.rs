//! One shard's channels: their order, who hears them, who is present, what is kept.
//!
//! Everything that happens to a channel happens here, one thing after the other, and leaves in that
//! order in each shard's mail. The home knows shards and lanes, never connections.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::interest::Interest;
use super::members::Members;
use super::slots::Slots;
use super::table::{Keyed, Table};
use super::{
    Channel, Command, Control, Delivery, Description, Down, Event, Happening, Member, Mode,
    Publish, Published, Refusal, Render, Reply, Subscribe, Subscribed, Tags, Up,
};
use crate::base::event_id::EventId;
use crate::base::ids::{AppIndex, ConnectionId, Serial, ShardId, Ticket};
use crate::base::time::{Millis, Nanos, Now};

/// Up to this many subscriptions each change of a channel's count is told at once.
/// Source: Pusher's documentation of `subscription_count`.
pub const COUNT_IMMEDIATE_MAX: u32 = 100;

/// Above [`COUNT_IMMEDIATE_MAX`] the count is told once in this time at most. Same source.
pub const COUNT_PERIOD: Millis = Millis(5_000);

/// Timers that one call of [`Home::expire`] looks at.
pub const EXPIRE_MAX: usize = 256;

/// Places for channels that one survey looks at. Looking at all of a hundred thousand took 44 ms with
/// sorting and telling them, during which everyone else of the shard waited.
pub const SURVEY_MAX: usize = 1024;

/// Bounds of one home.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Channels it may hold.
    pub channels_max: usize,
}

/// The channels whose home is one shard.
///
/// A channel exists while it has a subscription or a kept event. One that nobody knows costs nothing
/// to publish to, and its serials start again at 1 when it comes back.
#[derive(Debug)]
pub struct Home {
    channels: Table<Held>,
    /// Each channel with a timer, by when it is due; the same moment is in its [`Rare::timer`].
    timers: BTreeSet<(Nanos, u32)>,
    /// Members of all channels together.
    members: usize,
    limits: Limits,
}

#[derive(Debug)]
struct Held {
    channel: Channel,
    serial: u64,
    /// Subscriptions that are not silent.
    counted: u32,
    interest: Interest,
    /// What most channels do without.
    rare: Option<Box<Rare>>,
}

#[derive(Debug, Default)]
struct Rare {
    members: Members,
    kept: Option<Kept>,
    count: Option<Count>,
    /// When this channel wants to be looked at; never later than something in it is due.
    timer: Option<Nanos>,
}

/// The last event of a channel that keeps it.
#[derive(Debug)]
struct Kept {
    event: Arc<Event>,
    until: Nanos,
}

/// What subscribers were told about their number.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    told: u32,
    /// None before the first time.
    told_at: Option<Nanos>,
    /// A change waits until then.
    due: Option<Nanos>,
}

impl Keyed for Held {
    fn channel(&self) -> &Channel {
        &self.channel
    }
}

impl Held {
    fn new(channel: Channel) -> Self {
        Self { channel, serial: 0, counted: 0, interest: Interest::default(), rare: None }
    }

    fn members(&self) -> Option<&Members> {
        Some(&self.rare.as_ref()?.members)
    }

    fn user_count(&self) -> u64 {
        self.members().map_or(0, |members| members.len() as u64)
    }

    fn kept(&self) -> Option<&Kept> {
        self.rare.as_ref()?.kept.as_ref()
    }

    /// Members have subscriptions, so interest speaks for them too.
    fn is_forgotten(&self) -> bool {
        self.interest.is_empty() && self.kept().is_none()
    }

    fn snapshot(&self) -> Vec<Arc<Member>> {
        self.members().map(Members::snapshot).unwrap_or_default()
    }

    fn describe(&self, now: Now) -> Description {
        Description {
            subscription_count: u64::from(self.counted),
            user_count: self.user_count(),
            // Its timer may be a tick late.
            last: self.kept().filter(|kept| kept.until > now.steady).map(|kept| {
                let left = Millis((kept.until - now.steady).0.div_ceil(1_000_000));
                (kept.event.clone(), left)
            }),
        }
    }

    fn happened(&self, happening: Happening, now: Now) -> Event {
        let channel = self.channel.clone();
        Event {
            channel,
            serial: Serial(0),
            at: now.wall,
            arrived: now.steady,
            epoch: None,
            id: EventId::default(),
            tags: Tags::default(),
            meta: None,
            guarded: false,
            happening,
        }
    }

    /// Renders an event for every lane that hears it and mails it to every shard that does.
    ///
    /// Allocates the list of frames, what `render` does for each lane, and one `Arc`: nothing per
    /// shard and nothing per subscriber. The caller has seen that there is interest.
    fn deliver(
        &self,
        event: Event,
        exclude: Option<ConnectionId>,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let lanes = self.interest.lanes();
        let mut frames = Vec::with_capacity(lanes.len());
        for lane in lanes.iter() {
            frames.extend(render.render(lane, &event).map(|frame| (lane, frame)));
        }
        if !frames.is_empty() {
            self.mail(Delivery { event, exclude, frames }, out);
        }
    }

    fn mail(&self, delivery: Delivery, out: &mut Vec<(ShardId, Down)>) {
        let delivery = Arc::new(delivery);
        out.extend(self.interest.shards().map(|shard| (shard, Down::Deliver(delivery.clone()))));
    }

    /// Tells an event of the channel's own, if anyone is there to hear it.
    fn tell(
        &self,
        happening: Happening,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        if !self.interest.is_empty() {
            self.deliver(self.happened(happening, now), None, render, out);
        }
    }

    /// Tells the subscription count if it changed, or sees to it that it is told later.
    fn tell_count(&mut self, now: Now, render: &dyn Render, out: &mut Vec<(ShardId, Down)>) {
        let counted = self.counted;
        let Some(count) = self.rare.as_mut().and_then(|rare| rare.count.as_mut()) else { return };
        let free_at = count.told_at.map_or(now.steady, |at| at + COUNT_PERIOD);
        if counted == count.told {
            count.due = None;
        } else if counted > COUNT_IMMEDIATE_MAX && free_at > now.steady {
            count.due = Some(free_at);
        } else {
            *count = Count { told: counted, told_at: Some(now.steady), due: None };
            self.tell(Happening::SubscriptionCount(u64::from(counted)), now, render, out);
        }
    }
}

impl Home {
    /// A home without channels. Every shard has the same `slots`.
    pub fn new(slots: Arc<Slots>, limits: Limits) -> Self {
        Self { channels: Table::new(slots), timers: BTreeSet::new(), members: 0, limits }
    }

    /// How many members the channels have, all together.
    pub fn members(&self) -> usize {
        self.members
    }

    /// How many channels there are.
    pub fn channels(&self) -> usize {
        self.channels.len()
    }

    /// Takes one mail from the edge `from_shard` and appends what follows: mail, and to whom. The
    /// deliveries an ask causes come before its answer.
    pub fn handle(
        &mut self,
        up: Up,
        from_shard: ShardId,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let (to, ticket, command) = match up {
            Up::Ask { from, ticket, command } => (from, ticket, command),
            Up::Detach(ended) => return self.detach(&ended, from_shard, now, render, out),
        };
        let reply = match command {
            Command::Subscribe(subscribe) => {
                return self.subscribe(to, ticket, subscribe, from_shard, now, render, out);
            }
            // The edge's own affair; it never gets here.
            Command::Unsubscribe(_) | Command::Refilter(..) => return,
            Command::Publish(publish) => {
                let quiet = publish.quiet;
                let reply = self.publish(*publish, now, render, out);
                if quiet {
                    return;
                }
                reply
            }
            Command::Describe(channel) => {
                let description =
                    self.find(&channel).map(|number| self.channels[number].describe(now));
                Reply::Described(Box::new(description.unwrap_or_default()))
            }
            Command::Members(channel) => {
                let members = self.find(&channel).map(|number| self.channels[number].snapshot());
                Reply::Members(members.unwrap_or_default())
            }
            Command::Survey { app, prefix, from, .. } => self.survey(app, &prefix, from),
            Command::Control(channel, control) => {
                self.control(&channel, control, now, out);
                Reply::Done
            }
            Command::History(..)
            | Command::Replay(..)
            | Command::Stream(_)
            | Command::Reset(_)
            | Command::Purge(..) => Reply::Refused(Refusal::NotKept),
        };
        out.push((from_shard, Down::Answer { to, ticket, reply }));
    }

    /// When [`Home::expire`] has something to do next.
    pub fn next_due(&self) -> Option<Nanos> {
        self.timers.first().map(|&(due, _)| due)
    }

    /// Does what is due: forgets kept events, tells counts that waited. Looks at [`EXPIRE_MAX`]
    /// channels at most; if more are due, [`Home::next_due`] stays in the past.
    pub fn expire(&mut self, now: Now, render: &dyn Render, out: &mut Vec<(ShardId, Down)>) {
        for _ in 0..EXPIRE_MAX {
            let Some(&(due, number)) = self.timers.first() else { return };
            if due > now.steady {
                return;
            }
            self.timers.pop_first();
            let held = &mut self.channels[number];
            let rare = held.rare.as_mut().expect("a channel with a timer has a reason for it");
            rare.timer = None;
            rare.kept.take_if(|kept| kept.until <= now.steady);
            if rare.count.is_some_and(|count| count.due.is_some()) {
                held.tell_count(now, render, out);
            }
            self.settle(number);
        }
    }

    fn find(&self, channel: &Channel) -> Option<u32> {
        self.channels.find(channel.app, &channel.name)
    }

    /// The channel's number, new if need be.
    fn find_or_hold(&mut self, channel: &Channel) -> Result<u32, Refusal> {
        if let Some(number) = self.find(channel) {
            return Ok(number);
        }
        let channels_max = self.limits.channels_max;
        if self.channels.len() >= channels_max {
            return Err(Refusal::ChannelsFull { channels_max });
        }
        Ok(self.channels.insert(Held::new(channel.clone())))
    }

    /// After a change: forgets the channel if nothing is left of it, else sets its timer.
    fn settle(&mut self, number: u32) {
        let held = &mut self.channels[number];
        let timer = held.rare.as_mut().and_then(|rare| {
            let count_due = rare.count.and_then(|count| count.due);
            let wanted =
                rare.kept.as_ref().map(|kept| kept.until).into_iter().chain(count_due).min();
            // An earlier timer stays: it looks again when it comes. A channel whose kept event is
            // replaced a thousand times a second would otherwise move its timer as often.
            match (rare.timer, wanted) {
                (Some(set), Some(wanted)) if set > wanted => {
                    self.timers.remove(&(set, number));
                    rare.timer = None;
                }
                (Some(_), _) => return rare.timer,
                _ => (),
            }
            if let Some(wanted) = wanted {
                self.timers.insert((wanted, number));
                rare.timer = Some(wanted);
            }
            rare.timer
        });
        if held.is_forgotten() {
            if let Some(timer) = timer {
                self.timers.remove(&(timer, number));
            }
            self.channels.remove(number);
        }
    }

    fn publish(
        &mut self,
        mut publish: Publish,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) -> Reply {
        if publish.guarded {
            publish.keep_last = None;
        }
        let number = match publish.keep_last {
            Some(_) => match self.find_or_hold(&publish.channel) {
                Ok(number) => number,
                Err(refusal) => return Reply::Refused(refusal),
            },
            None => match self.find(&publish.channel) {
                Some(number) => number,
                // Nobody knows it: the event is the first and the last of its channel.
                None => {
                    return Reply::Published(Published::unkept(Serial(1)));
                }
            },
        };
        let held = &mut self.channels[number];
        held.serial += 1;
        let serial = Serial(held.serial);
        let reply = Reply::Published(Published {
            subscription_count: u64::from(held.counted),
            user_count: held.user_count(),
            ..Published::unkept(serial)
        });
        if publish.keep_last.is_none() && held.interest.is_empty() {
            return reply;
        }
        let Publish { name, data, sender, arrived, tags, guarded, .. } = publish;
        let happening = Happening::Message { name, data, sender };
        let channel = held.channel.clone();
        let event = Event {
            channel,
            serial,
            epoch: None,
            id: EventId::default(),
            at: now.wall,
            arrived,
            tags,
            meta: None,
            guarded,
            happening,
        };
        if let Some(span) = publish.keep_last {
            let kept = Kept { event: Arc::new(event.clone()), until: now.steady + span };
            held.rare.get_or_insert_default().kept = Some(kept);
            self.settle(number);
        }
        let held = &self.channels[number];
        if !held.interest.is_empty() {
            held.deliver(event, publish.exclude, render, out);
        }
        reply
    }

    #[expect(clippy::too_many_arguments, reason = "one ask, taken apart")]
    fn subscribe(
        &mut self,
        to: ConnectionId,
        ticket: Ticket,
        granted: Box<Subscribe>,
        from_shard: ShardId,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let number = match self.admit(&granted) {
            Ok(number) => number,
            Err(refusal) => {
                let reply = Reply::Refused(refusal);
                return out.push((from_shard, Down::Answer { to, ticket, reply }));
            }
        };
        let held = &mut self.channels[number];
        if let Some(member) = &granted.member
            && held.rare.get_or_insert_default().members.join(member)
        {
            self.members += 1;
            // Before the attach, so that nobody hears of themselves.
            held.tell(Happening::MemberAdded(member.clone()), now, render, out);
        }
        held.interest.add(from_shard, granted.lane);
        if !granted.silent {
            held.counted += 1;
        }
        let reply = Box::new(Subscribed {
            channel: held.channel.clone(),
            after: Serial(held.serial),
            description: held.describe(now),
            members: held.snapshot(),
            position: None,
            replay: None,
        });
        let announce = granted.announce_count;
        out.push((from_shard, Down::Attach { to, ticket, granted, reply }));
        // After the attach, so that the new subscriber hears it too.
        if announce {
            held.rare.get_or_insert_default().count.get_or_insert_default();
        }
        held.tell_count(now, render, out);
        self.settle(number);
    }

    /// Whether there is room for the channel and the user; the channel's number if so.
    fn admit(&mut self, subscribe: &Subscribe) -> Result<u32, Refusal> {
        if let Some(member) = &subscribe.member {
            let members_max = subscribe.members_max;
            let members =
                self.find(&subscribe.channel).and_then(|number| self.channels[number].members());
            let present = members.map_or(0, Members::len);
            let is_there = members.is_some_and(|members| members.contains(&member.user_id));
            if !is_there && present >= members_max as usize {
                return Err(Refusal::MembersFull { members_max });
            }
        }
        self.find_or_hold(&subscribe.channel)
    }

    fn detach(
        &mut self,
        ended: &Subscribe,
        from_shard: ShardId,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let number = self.find(&ended.channel).expect("a subscribed channel is held");
        let held = &mut self.channels[number];
        held.interest.remove(from_shard, ended.lane);
        if !ended.silent {
            assert!(held.counted > 0, "more subscriptions ended than began");
            held.counted -= 1;
        }
        if let Some(member) = &ended.member {
            let rare = held.rare.as_mut().expect("a member's channel has members");
            if rare.members.leave(&member.user_id) {
                self.members -= 1;
                held.tell(Happening::MemberRemoved(member.user_id.clone()), now, render, out);
            }
        }
        held.tell_count(now, render, out);
        self.settle(number);
    }

    fn survey(&self, app: AppIndex, prefix: &str, from: u32) -> Reply {
        let (portion, rest) = self.channels.portion(from, SURVEY_MAX);
        let occupied = portion.filter(|held| {
            held.counted > 0 && held.channel.app == app && held.channel.name.starts_with(prefix)
        });
        let found = occupied
            .map(|held| (held.channel.name.clone(), u64::from(held.counted), held.user_count()))
            .collect();
        Reply::Channels { found, rest }
    }

    fn control(
        &self,
        channel: &Channel,
        control: Control,
        now: Now,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let Some(number) = self.find(channel) else { return };
        let held = &self.channels[number];
        let event = held.happened(Happening::Control(control), now);
        if !held.interest.is_empty() {
            held.mail(Delivery { event, exclude: None, frames: Vec::new() }, out);
        }
    }
}

#[cfg(test)]
mod tests;
