//! One shard's channels: their order, who hears them, who is present, what is kept.
//!
//! Everything that happens to a channel happens here, one thing after the other, and leaves in that
//! order in each shard's mail. The home knows shards and lanes, never connections.

mod annotations;
mod asking;
mod cleaning;
mod durable;
mod expiring;
mod keeping;
mod later;
mod latest;
mod line;
mod messages;
mod once;
mod presence;
mod presence_history;
mod publishing;
mod rates;
mod reactions;
mod replaying;
mod retained;
mod said;
mod state;
mod subscribing;
mod summaries;
mod values;
mod versions;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use self::asking::Pending;
use self::durable::Durable;
use self::expiring::Expiring;
pub use self::keeping::Keeping;
use self::keeping::Used;
use self::later::Later;
use self::line::Line;
use self::messages::Messages;
pub use self::presence::VACATED_DELAY;
use self::presence_history::Untaken;
use self::said::Said;
use self::state::{Origin, Reports};
use super::history::Window;
use super::interest::Interest;
use super::leases::Leases;
use super::members::Members;
use super::slots::Slots;
use super::table::{Keyed, Table};
use super::wildcards::{Reached, Wildcards};
use super::{
    Channel, Command, Control, Delivery, Description, Down, Event, Happening, LaneSet, Member,
    Presence, Refusal, Render, Reply, Tags, Up,
};
use crate::base::event_id::EventId;
use crate::base::ids::{AppIndex, ConnectionId, LaneId, Serial, ShardId, Ticket};
use crate::base::name::Name;
use crate::base::prng::Prng;
use crate::base::time::{Millis, Nanos, Now};
use crate::store::Ask;

/// Up to this many subscriptions each change of a channel's count is told at once.
/// Source: Pusher's documentation of `subscription_count`.
pub const COUNT_IMMEDIATE_MAX: u32 = 100;

/// Above [`COUNT_IMMEDIATE_MAX`] the count is told once in this time at most. Same source.
pub const COUNT_PERIOD: Millis = Millis(5_000);

/// How long a channel that is kept in memory stays when the last who heard it is gone, at least.
pub const LINGER: Millis = Millis(120_000);

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
/// A channel exists while it has a subscription, a member, a kept event, history in memory or a key that is remembered;
/// one whose history is on disk, for a while longer. One that nobody knows costs nothing to publish to, and its
/// serials start again at 1 when it comes back, in another epoch where it has one.
#[derive(Debug)]
pub struct Home {
    channels: Table<Held>,
    /// Each channel with a timer, by when it is due; the same moment is in its [`Rare::timer`].
    timers: BTreeSet<(Nanos, u32)>,
    /// Members of all channels together.
    members: usize,
    /// Channels that tell of others: mostly there are none.
    metas: usize,
    untaken: Untaken,
    limits: Limits,
    keeping: Keeping,
    /// Some channels are on disk.
    has_durable: bool,
    prng: Prng,
    /// The newest event's id, over all channels that are not on disk.
    last_id: EventId,
    /// What the store is to be asked.
    asks: VecDeque<(u64, Ask)>,
    /// What it was asked and has not answered, by tag.
    pending: HashMap<u64, Pending>,
    tag_next: u64,
    /// Bytes of all windows together.
    history_bytes: u64,
    /// The channel whose window was halved last to make room.
    hand: u32,
    /// When each key's time is over: channel, key, and the event it was used for.
    keys: BTreeSet<(Nanos, u32, Name, EventId)>,
    keys_used: usize,
    /// Summaries that are to be told.
    telling: BTreeSet<summaries::Due>,
    in_flight_bytes: u64,
    /// Reads for who asks, beside history, that the store has not answered.
    reads_open: usize,
    reports: Reports,
    expiring: Expiring,
    later: Later,
    wildcards: Wildcards,
    rates: rates::Rates,
    counts: Counts,
}

/// What a home has done since it was last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events kept in memory alone.
    pub kept_memory: u64,
    /// Events kept on disk.
    pub kept_durable: u64,
    /// Publishes answered with the result of an earlier one.
    pub repeats: u64,
    /// Events of the past that were handed out to begin with.
    pub replayed: u64,
    /// Positions that were refused.
    pub gaps: u64,
    /// Reports to the world outside that found no room to wait for the store.
    pub reports_lost: u64,
    /// Changes of members that found no room to wait for the store.
    pub presence_lost: u64,
    /// Schedules that were done ...
    pub schedules_done: u64,
    /// ... those that were late ...
    pub schedules_late: u64,
    /// ... and the publishes among them, which nobody else counts.
    pub published: u64,
}

/// Who asked, and where the answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Asker {
    shard: ShardId,
    to: ConnectionId,
    ticket: Ticket,
}

impl Asker {
    fn answer(self, reply: Reply, out: &mut Vec<(ShardId, Down)>) {
        let Self { shard, to, ticket } = self;
        out.push((shard, Down::Answer { to, ticket, reply }));
    }
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
    /// Of those without a connection.
    leases: Leases,
    /// Nobody subscribes it any more; then the world outside is told so.
    vacates: Option<Nanos>,
    kept: Option<Kept>,
    count: Option<Count>,
    history: Option<Box<Window>>,
    /// Until then a channel that is kept in memory stays although nobody hears it and nothing is kept: who was
    /// cut off finds its position still good.
    lingers: Option<Nanos>,
    durable: Option<Box<Durable>>,
    /// Messages that are not what they were published as any more.
    messages: Option<Box<Messages>>,
    /// What is said about its messages.
    said: Option<Box<Said>>,
    /// Idempotency keys that were used.
    keys: HashMap<Name, Used>,
    /// Operations on their way to disk; none: there are none.
    line: Option<Box<Line>>,
    /// When this channel wants to be looked at; never later than something in it is due.
    timer: Option<Nanos>,
}

impl Rare {
    /// Bytes of the past in memory.
    fn history_bytes(&self) -> u64 {
        let window = self.history.as_ref().map_or(0, |it| it.bytes());
        let messages = self.messages.as_ref().map_or(0, |it| it.bytes());
        window + messages + self.said.as_ref().map_or(0, |it| it.bytes())
    }
}

/// The last event of a channel that keeps it.
#[derive(Debug)]
struct Kept {
    event: Arc<Event>,
    until: Nanos,
}

/// What was told about the number of subscriptions.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    told: u32,
    /// None before the first time.
    told_at: Option<Nanos>,
    /// A change waits until then.
    due: Option<Nanos>,
    /// Subscribers are told, too.
    is_announced: bool,
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

    /// Someone subscribes it, or stays in it although the connection was lost.
    fn is_occupied(&self) -> bool {
        self.counted > 0 || self.user_count() > 0
    }

    fn kept(&self) -> Option<&Kept> {
        self.rare.as_ref()?.kept.as_ref()
    }

    /// Members have subscriptions or a lease, so that interest and leases speak for them.
    fn is_forgotten(&self, now: Now) -> bool {
        let is_kept = |rare: &Rare| {
            rare.kept.is_some()
                || !rare.keys.is_empty()
                || rare.line.is_some()
                || rare.vacates.is_some()
                || !rare.leases.is_empty()
                || match (&rare.durable, &rare.history) {
                    (Some(durable), _) => durable.idle_from().is_none_or(|it| it > now.steady),
                    (None, Some(window)) => {
                        !window.is_empty() || rare.lingers.is_some_and(|it| it > now.steady)
                    }
                    (None, None) => false,
                }
        };
        self.interest.is_empty() && !self.rare.as_deref().is_some_and(is_kept)
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
        let frames = rendered(&event, lanes, render);
        if !frames.is_empty() {
            self.mail(Delivery { event, exclude, frames }, out);
        }
    }

    fn mail(&self, delivery: Delivery, out: &mut Vec<(ShardId, Down)>) {
        let delivery = Arc::new(delivery);
        out.extend(self.interest.shards().map(|shard| (shard, Down::Deliver(delivery.clone()))));
    }

    /// Tells an event of the channel's own to who is there to hear it, and to the world outside.
    fn tell(
        &self,
        happening: Happening,
        now: Now,
        render: &dyn Render,
        reports: &mut Reports,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let is_reported = render.reports();
        if self.interest.is_empty() && !is_reported {
            return;
        }
        let event = self.happened(happening, now);
        if is_reported {
            let mut told = Vec::new();
            render.report(&event, None, &mut told);
            told.into_iter().for_each(|report| reports.take(report, event.at));
        }
        if !self.interest.is_empty() {
            self.deliver(event, None, render, out);
        }
    }

    /// Tells who came, changed or left, with everyone present where some lane or the world outside shows that.
    fn tell_members(
        &self,
        what: fn(Arc<Presence>) -> Happening,
        member: &Arc<Member>,
        now: Now,
        render: &dyn Render,
        reports: &mut Reports,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let is_reported = render.reports();
        if self.interest.is_empty() && !is_reported {
            return;
        }
        let shown = |lane| render.shows_members(lane);
        let are_shown = render.reports_members() || self.interest.lanes().iter().any(shown);
        let members = if are_shown { self.snapshot() } else { Vec::new() };
        let presence = Arc::new(Presence { member: member.clone(), members });
        self.tell(what(presence), now, render, reports, out);
    }
}

/// An event's frames, one for each of the lanes that show it.
fn rendered(event: &Event, lanes: LaneSet, render: &dyn Render) -> Vec<(LaneId, Bytes)> {
    let mut frames = Vec::with_capacity(lanes.len());
    for lane in lanes.iter() {
        frames.extend(render.render(lane, event).map(|frame| (lane, frame)));
    }
    frames
}

/// Answers who asked, if anyone waits for it.
fn answer(asker: Option<Asker>, reply: Reply, out: &mut Vec<(ShardId, Down)>) {
    if let Some(asker) = asker {
        asker.answer(reply, out);
    }
}

impl Home {
    /// A home without channels. Every shard has the same `slots`.
    pub fn new(slots: Arc<Slots>, limits: Limits) -> Self {
        Self {
            wildcards: Wildcards::new(slots.clone()),
            channels: Table::new(slots),
            timers: BTreeSet::new(),
            members: 0,
            metas: 0,
            untaken: Untaken::default(),
            limits,
            keeping: Keeping::default(),
            has_durable: false,
            prng: Prng::new(0),
            last_id: EventId::default(),
            asks: VecDeque::new(),
            pending: HashMap::new(),
            tag_next: 0,
            history_bytes: 0,
            hand: 0,
            keys: BTreeSet::new(),
            keys_used: 0,
            telling: BTreeSet::new(),
            in_flight_bytes: 0,
            reads_open: 0,
            reports: Reports::default(),
            expiring: Expiring::default(),
            later: Later::default(),
            rates: rates::Rates::default(),
            counts: Counts::default(),
        }
    }

    /// The same home, keeping history. Whoever ticks it hands each [`Home::next_ask`] to the store and the answers to
    /// [`Home::stored`].
    pub fn keeping(mut self, keeping: Keeping) -> Self {
        self.prng = Prng::new(keeping.seed);
        self.has_durable = keeping.rules.any_durable();
        if keeping.shard.is_some() {
            self.later = Later::to_load();
            self.expiring = Expiring::to_load();
        }
        self.keeping = keeping;
        self
    }

    /// How many members the channels have, all together.
    pub fn members(&self) -> usize {
        self.members
    }

    /// How many patterns of channels someone subscribes.
    pub fn patterns(&self) -> usize {
        self.wildcards.len()
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
        match up {
            Up::Ask { from, ticket, command } => {
                let asker = Asker { shard: from_shard, to: from, ticket };
                self.ask(asker, command, now, render, out);
            }
            Up::Detach(ended, parting) => {
                self.detach(&ended, parting, from_shard, now, render, out)
            }
        }
    }

    fn ask(
        &mut self,
        asker: Asker,
        command: Command,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let command = match self.has_durable {
            true => match self.wait_for_store(asker, command, now, render, out) {
                Some(command) => command,
                None => return,
            },
            false => command,
        };
        let reply = match command {
            Command::Subscribe(subscribe) => {
                return self.subscribe(asker, subscribe, now, render, out);
            }
            // The edge's own affair; it never gets here.
            Command::Unsubscribe(_) | Command::Refilter(..) => return,
            Command::Publish(publish) => {
                let again = Self::again(&publish);
                let origin = Origin { again, ..Origin::of(asker, publish.quiet) };
                return self.publish(origin, *publish, now, render, out);
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
            Command::History(channel, query) => {
                return self.page(asker, &channel, *query, now, out);
            }
            Command::Replay(channel, position) => {
                return self.replay(asker, &channel, position, now, render, out);
            }
            Command::Stream(channel) => match self.stream_of(&channel, now) {
                Some(stream) => Reply::Stream(stream),
                None => Reply::Refused(Refusal::NotKept),
            },
            Command::Spend(app, spend) => Reply::Spent(self.rates.spend(app, &spend, now)),
            Command::Reset(channel) => return self.purge(asker, &channel, None, now, out),
            Command::Purge(channel, to) => return self.purge(asker, &channel, Some(to), now, out),
            command => return self.ask_later(asker, command, now, render, out),
        };
        asker.answer(reply, out);
    }

    /// When [`Home::expire`] has something to do next.
    pub fn next_due(&self) -> Option<Nanos> {
        let timer = self.timers.first().map(|&(due, _)| due);
        let key = self.keys.first().map(|&(due, ..)| due);
        let values = self.expiring_due();
        let (reports, untaken) = (self.reports_due(), self.untaken.due());
        let summary = self.telling_due();
        let dues = [timer, key, values, summary, reports, untaken, self.later.next_due()];
        dues.into_iter().flatten().min()
    }

    /// Does what is due: forgets kept events, history and keys, tells counts that waited. Looks at
    /// [`EXPIRE_MAX`] channels and keys at most; if more are due, [`Home::next_due`] stays in the past.
    pub fn expire(&mut self, now: Now, render: &dyn Render, out: &mut Vec<(ShardId, Down)>) {
        self.expire_keys(now, EXPIRE_MAX);
        self.retry_reports(now);
        self.retry_presence(now, render, out);
        self.expire_values(EXPIRE_MAX, now, render, out);
        self.look_later(now);
        self.tell_summaries(now, render, out);
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
                let counted = held.counted;
                self.tell_count(number, counted, now, render, out);
            }
            let records = self.end_leases(number, now, render, out);
            self.report_vacated(number, now, render);
            let clock = self.clock(now);
            self.with_window(number, |window| window.expire(clock));
            if !self.channels[number].interest.is_empty() {
                self.retry_store(number, now);
            }
            self.settle(number, now);
            self.keep_presence(records, now, render, out);
        }
    }

    /// Whether anyone hears what is published on a channel.
    fn is_heard(&self, number: u32) -> bool {
        let held = &self.channels[number];
        !held.interest.is_empty() || self.wildcards.reach_any(&held.channel)
    }

    /// Mails what was published on a channel to everyone who hears it, those who listen to a pattern of its name
    /// included.
    fn deliver(
        &self,
        number: u32,
        event: Event,
        exclude: Option<ConnectionId>,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let held = &self.channels[number];
        let is_published = matches!(
            event.happening,
            Happening::Message { .. }
                | Happening::Mutated(_)
                | Happening::Annotated(_)
                | Happening::Summarized(_)
        );
        let reached = match self.wildcards.is_empty() {
            false if is_published => self.wildcards.reach(&held.channel),
            _ => Reached::default(),
        };
        if reached.shards.is_empty() {
            if !held.interest.is_empty() {
                held.deliver(event, exclude, render, out);
            }
            return;
        }
        let Reached { lanes: LaneSet(lanes), mut shards } = reached;
        let frames = rendered(&event, LaneSet(lanes | held.interest.lanes().0), render);
        if frames.is_empty() {
            return;
        }
        shards.extend(held.interest.shards());
        shards.sort_unstable();
        shards.dedup();
        let delivery = Arc::new(Delivery { event, exclude, frames });
        out.extend(shards.into_iter().map(|shard| (shard, Down::Deliver(delivery.clone()))));
    }

    /// Whether someone has a subscription of a channel.
    pub fn is_occupied(&self, channel: &Channel) -> bool {
        self.find(channel).is_some_and(|number| self.channels[number].is_occupied())
    }

    fn find(&self, channel: &Channel) -> Option<u32> {
        self.channels.find(channel.app, &channel.name)
    }

    /// The channel's number, new if need be.
    fn find_or_hold(&mut self, channel: &Channel, now: Now) -> Result<u32, Refusal> {
        if let Some(number) = self.find(channel) {
            return Ok(number);
        }
        let channels_max = self.limits.channels_max;
        if self.channels.len() >= channels_max {
            return Err(Refusal::ChannelsFull { channels_max });
        }
        self.metas += usize::from(Self::is_meta(channel));
        let number = self.channels.insert(Held::new(channel.clone()));
        self.begin_history(number, now);
        Ok(number)
    }

    fn settle_if_held(&mut self, number: u32, now: Now) {
        if self.channels.is_taken(number) {
            self.settle(number, now);
        }
    }

    /// After a change: forgets the channel if nothing is left of it, else sets its timer.
    fn settle(&mut self, number: u32, now: Now) {
        let expires = self.window(number).and_then(Window::expires).map(|it| self.steady_of(it));
        let held = &mut self.channels[number];
        let is_heard = !held.interest.is_empty();
        let timer = held.rare.as_mut().and_then(|rare| {
            let count_due = rare.count.and_then(|count| count.due);
            let kept_until = rare.kept.as_ref().map(|kept| kept.until);
            // What holds the channel for another reason ends by itself, and this is looked at again.
            let presence_due = Self::presence_due(rare);
            let is_kept = kept_until.is_some()
                || rare.line.is_some()
                || !rare.keys.is_empty()
                || presence_due.is_some();
            let is_held = is_heard || is_kept;
            let durable_due = rare.durable.as_ref().and_then(|durable| match is_held {
                true => durable.retry_from().filter(|_| is_heard),
                false => durable.idle_from(),
            });
            let lingers = rare.lingers.filter(|_| !is_held && expires.is_none());
            let dues = [kept_until, count_due, expires, durable_due, lingers, presence_due];
            let wanted = dues.into_iter().flatten().min();
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
        if held.is_forgotten(now) {
            self.history_bytes -= held.rare.as_ref().map_or(0, |it| it.history_bytes());
            if let Some(timer) = timer {
                self.timers.remove(&(timer, number));
            }
            let gone = self.channels.remove(number);
            self.metas -= usize::from(Self::is_meta(&gone.channel));
        }
    }

    fn survey(&self, app: AppIndex, prefix: &str, from: u32) -> Reply {
        let (portion, rest) = self.channels.portion(from, SURVEY_MAX);
        let occupied = portion.filter(|held| {
            held.is_occupied() && held.channel.app == app && held.channel.name.starts_with(prefix)
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
