//! One shard's channels: their order, who hears them, who is present, what is kept.
//!
//! Everything that happens to a channel happens here, one thing after the other, and leaves in that
//! order in each shard's mail. The home knows shards and lanes, never connections.

mod durable;
mod keeping;
mod later;
mod once;
mod replaying;
mod state;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use self::durable::{Durable, Pending};
pub use self::keeping::Keeping;
use self::keeping::Used;
use self::later::Later;
use super::history::Window;
use super::interest::Interest;
use super::members::Members;
use super::slots::Slots;
use super::table::{Keyed, Table};
use super::{
    Channel, Command, Control, Delivery, Description, Down, Event, Gap, Happening, Member, Mode,
    Presence, Publish, Published, Refusal, Render, Replay, Reply, Start, Subscribe, Subscribed,
    Tags, Up,
};
use crate::base::event_id::EventId;
use crate::base::ids::{AppIndex, ConnectionId, Serial, ShardId, Ticket};
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
/// A channel exists while it has a subscription, a kept event, history in memory or a key that is remembered;
/// one whose history is on disk, for a while longer. One that nobody knows costs nothing to publish to, and its
/// serials start again at 1 when it comes back, in another epoch where it has one.
#[derive(Debug)]
pub struct Home {
    channels: Table<Held>,
    /// Each channel with a timer, by when it is due; the same moment is in its [`Rare::timer`].
    timers: BTreeSet<(Nanos, u32)>,
    /// Members of all channels together.
    members: usize,
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
    /// When each key's time is over, by then about: channel, key, and the event it was used for.
    keys: VecDeque<(Nanos, u32, Name, EventId)>,
    keys_used: usize,
    in_flight_bytes: u64,
    later: Later,
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
    kept: Option<Kept>,
    count: Option<Count>,
    history: Option<Box<Window>>,
    /// Until then a channel that is kept in memory stays although nobody hears it and nothing is kept: who was
    /// cut off finds its position still good.
    lingers: Option<Nanos>,
    durable: Option<Box<Durable>>,
    /// Idempotency keys that were used.
    keys: HashMap<Name, Used>,
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
    fn is_forgotten(&self, now: Now) -> bool {
        let is_kept = |rare: &Rare| {
            rare.kept.is_some()
                || !rare.keys.is_empty()
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

    /// Tells who came, changed or left, with everyone present where some lane shows that.
    fn tell_members(
        &self,
        what: fn(Arc<Presence>) -> Happening,
        member: Arc<Member>,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        if self.interest.is_empty() {
            return;
        }
        let are_shown = self.interest.lanes().iter().any(|lane| render.shows_members(lane));
        let members = if are_shown { self.snapshot() } else { Vec::new() };
        self.tell(what(Arc::new(Presence { member, members })), now, render, out);
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
            channels: Table::new(slots),
            timers: BTreeSet::new(),
            members: 0,
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
            keys: VecDeque::new(),
            keys_used: 0,
            in_flight_bytes: 0,
            later: Later::default(),
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
        }
        self.keeping = keeping;
        self
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
        match up {
            Up::Ask { from, ticket, command } => {
                let asker = Asker { shard: from_shard, to: from, ticket };
                self.ask(asker, command, now, render, out);
            }
            Up::Detach(ended) => self.detach(&ended, from_shard, now, render, out),
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
            Command::Publish(publish) => return self.publish(asker, *publish, now, render, out),
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
            Command::Reset(channel) => return self.purge(asker, &channel, None, now, out),
            Command::Purge(channel, to) => return self.purge(asker, &channel, Some(to), now, out),
            command => return self.ask_later(asker, command, now, render, out),
        };
        asker.answer(reply, out);
    }

    /// When [`Home::expire`] has something to do next.
    pub fn next_due(&self) -> Option<Nanos> {
        let timer = self.timers.first().map(|&(due, _)| due);
        let key = self.keys.front().map(|&(due, ..)| due);
        timer.into_iter().chain(key).chain(self.later.next_due()).min()
    }

    /// Does what is due: forgets kept events, history and keys, tells counts that waited. Looks at
    /// [`EXPIRE_MAX`] channels and keys at most; if more are due, [`Home::next_due`] stays in the past.
    pub fn expire(&mut self, now: Now, render: &dyn Render, out: &mut Vec<(ShardId, Down)>) {
        self.expire_keys(now, EXPIRE_MAX);
        self.look_later(now);
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
            let clock = self.clock(now);
            self.with_window(number, |window| window.expire(clock));
            if !self.channels[number].interest.is_empty() {
                self.retry_store(number, now);
            }
            self.settle(number, now);
        }
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
            let is_held = is_heard || kept_until.is_some() || !rare.keys.is_empty();
            let durable_due = rare.durable.as_ref().and_then(|durable| match is_held {
                true => durable.retry_from().filter(|_| is_heard),
                false => durable.idle_from(),
            });
            let lingers = rare.lingers.filter(|_| !is_held && expires.is_none());
            let dues = [kept_until, count_due, expires, durable_due, lingers];
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
            self.history_bytes -=
                held.rare.as_ref().and_then(|it| it.history.as_ref()).map_or(0, |it| it.bytes());
            if let Some(timer) = timer {
                self.timers.remove(&(timer, number));
            }
            self.channels.remove(number);
        }
    }

    fn publish(
        &mut self,
        asker: Asker,
        publish: Publish,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let Publish { channel, name, data, sender, exclude, arrived, tags, meta, key, .. } =
            publish;
        let asker = (!publish.quiet).then_some(asker);
        let keep_last = publish.keep_last.filter(|_| !publish.guarded);
        let is_ephemeral = publish.ephemeral || publish.guarded;
        let number = match self.find(&channel) {
            Some(number) => number,
            None => {
                let is_kept = !is_ephemeral && self.keeping.rules.of(&channel).is_some();
                if keep_last.is_none() && key.is_none() && !is_kept {
                    // Nobody knows it: the event is the first and the last of its channel.
                    let id = self.next_id(now);
                    let published = Published { id, ..Published::unkept(Serial(1)) };
                    return answer(asker, Reply::Published(published), out);
                }
                match self.find_or_hold(&channel, now) {
                    Ok(number) => number,
                    Err(refusal) => return answer(asker, Reply::Refused(refusal), out),
                }
            }
        };
        if let Some(key) = &key {
            if self.repeated(number, key, asker, out) {
                return;
            }
            let keys_max = self.keeping.keys_max;
            if self.keys_used >= keys_max {
                let due = self.keys.front().map_or(now.steady, |it| it.0);
                let free_in = Millis(due.since(now.steady).as_millis() as u64);
                answer(asker, Reply::Refused(Refusal::KeysFull { keys_max, free_in }), out);
                return self.settle(number, now);
            }
        }
        let window = self.window(number).filter(|_| !is_ephemeral);
        let (mode, epoch) = match window {
            Some(window) => (window.rule.mode, Some(window.epoch)),
            None => (Mode::None, None),
        };
        let has_window = self.window(number).is_some();
        if mode == Mode::Durable && !self.may_append(name.len() + data.0.len()) {
            return answer(asker, Reply::Refused(Refusal::StoreBusy), out);
        }
        let id = match mode {
            Mode::Durable => self.next_durable_id(number, now),
            Mode::Memory | Mode::None => self.next_id(now),
        };
        let held = &mut self.channels[number];
        // Only what is kept has a place in a history.
        let is_placed = epoch.is_some() || !has_window;
        held.serial += u64::from(is_placed);
        let serial = Serial(if is_placed { held.serial } else { 0 });
        let published = Published {
            serial,
            id,
            mode,
            epoch,
            subscription_count: u64::from(held.counted),
            user_count: held.user_count(),
            is_repeated: false,
        };
        if let Some(key) = &key {
            self.remember_key(number, key, published, mode != Mode::Durable, now);
        }
        let held = &mut self.channels[number];
        let is_heard = !held.interest.is_empty();
        if is_heard || keep_last.is_some() || epoch.is_some() {
            let channel = held.channel.clone();
            let at = now.wall;
            let happening = Happening::Message { name, data, sender };
            let guarded = publish.guarded;
            let event =
                Event { channel, serial, epoch, id, at, arrived, tags, meta, guarded, happening };
            if mode == Mode::Durable {
                return self.append(number, event, exclude, keep_last, key, asker, now);
            }
            if epoch.is_some() || keep_last.is_some() {
                self.keep(number, Arc::new(event.clone()), epoch.is_some(), keep_last, now);
            }
            if is_heard {
                self.channels[number].deliver(event, exclude, render, out);
            }
        }
        answer(asker, Reply::Published(published), out);
        if has_window || keep_last.is_some() || key.is_some() {
            self.settle(number, now);
            self.bound_history(now);
        }
    }

    /// Keeps an event in memory: in the channel's history, as its last, or both.
    fn keep(
        &mut self,
        number: u32,
        event: Arc<Event>,
        in_history: bool,
        as_last: Option<Millis>,
        now: Now,
    ) {
        if let Some(span) = as_last {
            let kept = Kept { event: event.clone(), until: now.steady + span };
            self.channels[number].rare.get_or_insert_default().kept = Some(kept);
        }
        if in_history {
            self.counts.kept_memory += 1;
            let clock = self.clock(now);
            self.with_window(number, |window| {
                let expires = window.expiry(clock);
                window.push(event, expires, usize::MAX);
            });
        }
    }

    fn subscribe(
        &mut self,
        asker: Asker,
        granted: Box<Subscribe>,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        if granted.start == Start::Now {
            return self.attach(asker, granted, None, now, render, out);
        }
        match self.admit(&granted, now) {
            Ok(number) => self.subscribe_from(number, asker, granted, now, render, out),
            Err(refusal) => asker.answer(Reply::Refused(refusal), out),
        }
    }

    /// Lets a subscription stand, behind what it begins with.
    fn attach(
        &mut self,
        asker: Asker,
        granted: Box<Subscribe>,
        replay: Option<Box<Result<Replay, Gap>>>,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let number = match self.admit(&granted, now) {
            Ok(number) => number,
            Err(refusal) => return asker.answer(Reply::Refused(refusal), out),
        };
        let position = self.position(number);
        let held = &mut self.channels[number];
        if let Some(member) = &granted.member
            && held.rare.get_or_insert_default().members.join(member)
        {
            self.members += 1;
            // Before the attach, so that nobody hears of themselves.
            held.tell_members(Happening::MemberAdded, member.clone(), now, render, out);
        }
        held.interest.add(asker.shard, granted.lane);
        if !granted.silent {
            held.counted += 1;
        }
        let reply = Box::new(Subscribed {
            channel: held.channel.clone(),
            // On disk the newest may still be on their way.
            after: position.map_or(Serial(held.serial), |position| position.serial),
            description: held.describe(now),
            members: held.snapshot(),
            position,
            replay,
            values: Vec::new(),
            has_more_values: false,
        });
        let announce = granted.announce_count;
        let Asker { shard, to, ticket } = asker;
        out.push((shard, Down::Attach { to, ticket, granted, reply }));
        // After the attach, so that the new subscriber hears it too.
        if announce {
            held.rare.get_or_insert_default().count.get_or_insert_default();
        }
        held.tell_count(now, render, out);
        self.settle(number, now);
    }

    /// Whether there is room for the channel and the user; the channel's number if so.
    fn admit(&mut self, subscribe: &Subscribe, now: Now) -> Result<u32, Refusal> {
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
        self.find_or_hold(&subscribe.channel, now)
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
                held.tell_members(Happening::MemberRemoved, member.clone(), now, render, out);
            }
        }
        held.tell_count(now, render, out);
        if held.interest.is_empty() {
            self.linger(number, now);
        }
        self.settle(number, now);
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
