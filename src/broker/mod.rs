//! Channels: who listens, who is present, what was published, in which order.
//!
//! Sans-io: mail comes in, mail goes out. A channel's home ([`home`]) orders its events and answers
//! asks; a connection's edge ([`edge`]) holds its subscriptions and fans deliveries out. This file
//! is the whole vocabulary between them; dialects see no more of the broker than this. Read it first,
//! then [`home`].

pub mod companion;
mod deferred;
pub mod edge;
mod few;
mod filtered;
mod history;
pub mod home;
mod interest;
mod leases;
mod mail;
mod members;
#[cfg(test)]
mod model;
mod mutation;
mod past;
mod pool;
mod record;
#[cfg(test)]
mod recovery;
mod refusal;
pub mod report;
pub mod rules;
mod shelved;
pub mod slots;
pub mod state;
mod summary;
mod table;
pub mod versioned;
mod wildcards;
#[cfg(test)]
mod wildcards_model;

pub use self::history::ReplayMax;
pub use self::mail::{Delivery, Down, Parting, Render, Up};
pub use self::past::{
    Gap, GapReason, Mode, Page, PageQuery, Position, Purged, Replay, Start, Stream,
};
pub use self::refusal::Refusal;
pub use self::state::{Keep, Report};
pub use crate::store::PurgeTo;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::base::event_id::EventId;
use crate::base::ids::{AppIndex, ConnectionId, Epoch, LANES_MAX, LaneId, Serial, ShardId};
use crate::base::name::{Channel, Name};
use crate::base::time::{Millis, Nanos, UnixMillis};
use crate::wire::json::same_value;

/// A set of lanes, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneSet(pub u64);

impl LaneSet {
    /// Adds a lane, which is below [`LANES_MAX`].
    pub fn insert(&mut self, lane: LaneId) {
        debug_assert!(usize::from(lane.0) < LANES_MAX, "a set of lanes is one machine word");
        self.0 |= 1 << lane.0;
    }

    /// Whether a lane is in it.
    pub fn contains(self, lane: LaneId) -> bool {
        usize::from(lane.0) < LANES_MAX && self.0 >> lane.0 & 1 == 1
    }

    /// How many lanes are in it.
    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether no lane is in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Its lanes, lowest first.
    pub fn iter(self) -> impl Iterator<Item = LaneId> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let lane = (rest != 0).then(|| LaneId(rest.trailing_zeros() as u8));
            // Clears the lowest bit.
            rest &= rest.wrapping_sub(1);
            lane
        })
    }
}

/// The data of a published event: one JSON value, as the bytes that came.
///
/// Validated as JSON and UTF-8 at the door, never re-encoded; a dialect splices it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload(pub Bytes);

/// One thing a publisher says about an event for filters to look at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tag {
    /// What it is about.
    pub name: Name,
    /// What it says.
    pub value: Name,
}

/// What a publisher says about an event for filters to look at; a name may repeat. Nobody else reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tags(Option<Arc<[Tag]>>);

impl From<Vec<Tag>> for Tags {
    fn from(tags: Vec<Tag>) -> Self {
        Self((!tags.is_empty()).then(|| Arc::from(tags)))
    }
}

impl Tags {
    /// All of them, in the publisher's order.
    pub fn as_slice(&self) -> &[Tag] {
        self.0.as_deref().unwrap_or_default()
    }

    /// The values of a name, in order.
    pub fn values<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a Name> {
        self.as_slice().iter().filter(move |tag| *tag.name == *name).map(|tag| &tag.value)
    }

    /// The first value of a name.
    pub fn value<'a>(&'a self, name: &str) -> Option<&'a Name> {
        self.values(name).next()
    }
}

/// Which of a channel's events a subscription takes; one without a filter takes every event that is not
/// guarded, as its lane's frame.
pub struct Filter {
    /// Of messages and their versions only those with at least one of these tags are looked at, which costs the
    /// others nothing; none: all are. Whatever else happens is looked at anyway.
    pub any_of: Option<Arc<[Tag]>>,
    /// Says what becomes of an event that is looked at.
    pub admit: Box<dyn Admit>,
}

/// Says what becomes of an event for one subscription. The dialects stand behind it.
pub trait Admit: Send + Sync {
    /// Called once for each event that [`Filter::any_of`] lets through, on the edge.
    fn admit(&self, event: &Event) -> Verdict;
}

/// What becomes of an event for one subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Skip,
    /// Its lane's frame is sent.
    Frame,
    /// The session is handed the event, and says what this peer is told.
    Session,
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Filter").field("any_of", &self.any_of).finish_non_exhaustive()
    }
}

/// A user in a channel, counted once however many connections they have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Who: unique within the channel.
    pub user_id: Name,
    /// What others may know about them: one JSON value, if any was given.
    pub info: Option<Payload>,
}

impl Member {
    /// Bytes it counts for in [`Subscribe::members_bytes_max`]: as `{"uid":"…","umd":…}`, nothing escaped.
    pub fn weight(&self) -> u64 {
        let info = self.info.as_ref().map_or("null".len(), |it| it.0.len());
        (r#"{"uid":"","umd":}"#.len() + self.user_id.len() + info) as u64
    }

    /// Whether others know the same about both: nothing is the same as `null`.
    pub fn is_known_as(&self, other: &Member) -> bool {
        let text =
            |it: &Member| it.info.as_ref().map_or(Bytes::from_static(b"null"), |it| it.0.clone());
        match (&self.info, &other.info) {
            (None, None) => true,
            _ => same_value(&text(self), &text(other)),
        }
    }
}

/// Who came, changed or left, and who is there then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presence {
    /// Who.
    pub member: Arc<Member>,
    /// Everyone present after it, in the order they joined; empty unless some lane shows it
    /// ([`Render::shows_members`]).
    pub members: Vec<Arc<Member>>,
}

/// Who published, where a subscriber may be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sender {
    /// The publishing connection.
    pub connection: ConnectionId,
    /// Its user in the channel, on presence channels.
    pub user_id: Option<Name>,
}

/// What happened in a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happening {
    /// A back end or a peer published.
    Message {
        /// The event's name.
        name: Name,
        /// Its data.
        data: Payload,
        /// The peer that published; absent for a back end.
        sender: Option<Sender>,
    },
    /// A user's first connection joined.
    MemberAdded(Arc<Presence>),
    /// What others may know about a user who is present is another.
    MemberUpdated(Arc<Presence>),
    /// A user's last connection left.
    MemberRemoved(Arc<Presence>),
    /// A value that the channel keeps was set, cleared, or its time was over.
    ValueChanged(Arc<state::ValueChange>),
    /// A message that was published before is another now.
    Mutated(Arc<versioned::Mutated>),
    /// Something was said about a message, or taken back.
    Annotated(Arc<versioned::Annotated>),
    /// What is said about a message, all together, is another now.
    Summarized(Arc<versioned::Summarized>),
    /// How many subscriptions there are now.
    SubscriptionCount(u64),
    /// The first subscription that counts began.
    Occupied,
    /// The last subscription that counts ended.
    Vacated,
    /// Not for the wire: a request to the sessions subscribed here. Delivered as `Input::Event`.
    Control(Control),
}

/// What the sessions of a channel are asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// End the connection for good.
    Terminate,
    /// End the connection; the peer should come back at once.
    Reconnect,
    /// What let the connection in counts no more.
    Revoke,
}

/// What a publisher says about an event beside its name, data and tags; passed on, kept, never looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// What the publisher calls it.
    pub message_id: Option<Name>,
    /// More, as one JSON object.
    pub extras: Option<Payload>,
    /// What subscribers may know about who published it: one JSON value.
    pub publisher: Option<Payload>,
    /// When it was to be published, where that was so long before that its subscribers should know.
    pub was_due: Option<UnixMillis>,
    /// The client that its publisher speaks for: who owns it, where only owners may change a message.
    pub client_id: Option<Name>,
    /// Peers that take what changed since the last event are sent all of this one. Of live events only: not kept.
    pub is_whole: bool,
    /// What was found out about it, for filters. Of live events only: not kept.
    pub brief: Brief,
}

/// What a dialect found out about an event before it was published, once for all its subscriptions: only their filters
/// look at it.
#[derive(Clone, Default)]
pub struct Brief(Option<Arc<dyn std::any::Any + Send + Sync>>);

impl Brief {
    /// Holds this.
    pub fn new(it: Arc<dyn std::any::Any + Send + Sync>) -> Self {
        Self(Some(it))
    }

    /// What it holds, if that is of this type.
    pub fn get<T: 'static>(&self) -> Option<&T> {
        self.0.as_deref().and_then(|it| it.downcast_ref())
    }
}

/// The same only if it is the very same.
impl PartialEq for Brief {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (None, None) => true,
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

impl Eq for Brief {}

impl fmt::Debug for Brief {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Brief(..)" } else { "Brief" })
    }
}

/// One thing that happened, ordered: what the home renders and the edges deliver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Where.
    pub channel: Channel,
    /// Its position; 0 for what is not a message.
    pub serial: Serial,
    /// The epoch its serial counts in, for what is kept in the channel's history; none: it is not.
    pub epoch: Option<Epoch>,
    /// A message's name for good; nil for what is none.
    pub id: EventId,
    /// When the home took it.
    pub at: UnixMillis,
    /// When its publisher's bytes arrived, on the steady clock.
    pub arrived: Nanos,
    /// What filters look at.
    pub tags: Tags,
    /// What else its publisher said about it.
    pub meta: Option<Arc<Meta>>,
    /// Only subscriptions whose filter admits it may have it.
    pub guarded: bool,
    /// What.
    pub happening: Happening,
}

impl Event {
    /// What was found out about it for filters, if that is of this type.
    pub fn brief<T: 'static>(&self) -> Option<&T> {
        self.meta.as_ref()?.brief.get()
    }

    /// Its place in its channel's history, if it is kept there.
    pub fn position(&self) -> Option<Position> {
        self.epoch.map(|epoch| Position { epoch, serial: self.serial })
    }
}

/// What a session asks of the broker. Each is answered by exactly one [`Reply`] with its ticket,
/// unless it says otherwise.
#[derive(Clone, Debug)]
pub enum Command {
    /// Subscribe this connection: [`Reply::Subscribed`] or [`Reply::Refused`]. Events follow the
    /// reply without a gap or a duplicate. A connection subscribes a channel once at a time.
    Subscribe(Box<Subscribe>),
    /// Unsubscribe this connection, at once. Not answered. Unknown channels are ignored. A subscribe
    /// still on its way is answered [`Refusal::Cancelled`].
    Unsubscribe(Channel),
    /// Give this connection's subscription, asked for or standing, a filter or another one, at once. Not answered.
    /// Channels it did not subscribe are ignored.
    Refilter(Channel, Arc<Filter>),
    /// Publish: [`Reply::Published`], unless `quiet`.
    Publish(Box<Publish>),
    /// Ask about one channel: [`Reply::Described`].
    Describe(Channel),
    /// Ask who is in a channel: [`Reply::Members`].
    Members(Channel),
    /// Ask a shard for its occupied channels, a portion at a time: [`Reply::Channels`].
    Survey {
        /// Which shard.
        shard: ShardId,
        /// Where to begin: 0, then as the last portion said.
        from: u32,
        /// Of which app.
        app: AppIndex,
        /// Names that start so; empty for all.
        prefix: Name,
    },
    /// Hand a control to every session subscribed as a member: [`Reply::Done`].
    Control(Channel, Control),
    /// Read a channel's history: [`Reply::Page`].
    History(Channel, Box<PageQuery>),
    /// Ask for what came after a position, without subscribing: [`Reply::Replayed`].
    Replay(Channel, Position),
    /// Ask what is kept of a channel: [`Reply::Stream`].
    Stream(Channel),
    /// Forget a channel's history and begin another epoch: [`Reply::Purged`]. Subscribers stay.
    Reset(Channel),
    /// Forget the oldest of a channel's history: [`Reply::Purged`].
    Purge(Channel, PurgeTo),
    /// Let others know something else about the user as whom this connection is a member of the channel:
    /// [`Reply::Done`], or refused with [`Refusal::MembersTooLarge`].
    Renew(Channel, Box<Renew>),
    /// Read the messages that a channel keeps under their ids: [`Reply::Retained`].
    Retained(Channel, Box<state::RetainedQuery>),
    /// Say something to such a message, or take it back: [`Reply::Done`], or refused with [`Refusal::NotFound`].
    React(Box<state::React>),
    /// Read one such message and what was said to it: [`Reply::Retained`], with one or none.
    FindRetained(Channel, EventId),
    /// Set or clear a value that a channel keeps: [`Reply::Done`], unless it is quiet.
    SetValue(Box<state::SetValue>),
    /// Read a channel's values: [`Reply::Values`].
    Values(Channel, Box<state::ValuesQuery>),
    /// Do something later: [`Reply::Scheduled`].
    Schedule(Box<state::Schedule>),
    /// Read an app's schedules, in the order of their ids: [`Reply::Schedules`].
    Schedules(state::SchedulesQuery),
    /// Do not do it: [`Reply::Done`], or refused with [`Refusal::NotFound`].
    CancelSchedule(AppIndex, EventId),
    /// Use something that is good for one use in an app: [`Reply::Done`], or refused with [`Refusal::Used`]. Remembered
    /// until it is no good any more anyway.
    UseOnce(AppIndex, Name, UnixMillis),
    /// Give a message another version: [`Reply::Published`] with the serial and the id of the version, or refused.
    Mutate(Box<versioned::Mutate>),
    /// Read a message as it is now: [`Reply::Versions`] with that one, or refused with [`Refusal::NotFound`].
    Latest(Channel, versioned::MessageRef),
    /// Read a message's versions: [`Reply::Versions`], or refused with [`Refusal::NotFound`].
    Versions(Channel, Box<versioned::VersionsQuery>),
    /// Say something about a message, or take it back: [`Reply::Published`] with the serial and the id of the
    /// annotation, or refused.
    Annotate(Box<versioned::Annotate>),
    /// Read what was said about a message, one by one: [`Reply::Annotations`], or refused with [`Refusal::NotFound`].
    Annotations(Channel, Box<versioned::AnnotationsQuery>),
    /// Read what is said about a channel's messages, all together, for who begins to listen: [`Reply::Summaries`].
    Summaries(Channel),
    /// Use some of what a name of an app may use within a time: [`Reply::Spent`].
    Spend(AppIndex, Box<Spend>),
    /// Hand words to another connection's session, as `Input::Call`: [`Reply::Returned`] with what it says, or
    /// refused with [`Refusal::NoConnection`]. A session of another dialect may never answer. The connection's shard
    /// must be one of ours.
    Call(ConnectionId, Bytes),
}

/// A subscription, as asked for.
#[derive(Clone, Debug)]
pub struct Subscribe {
    /// To which channel.
    pub channel: Channel,
    /// In which lane this connection takes its events.
    pub lane: LaneId,
    /// Joins the channel's members as this user, on channels that have members.
    pub member: Option<Arc<Member>>,
    /// Members the channel may have; a further user is refused.
    pub members_max: u32,
    /// Bytes that its members may take ([`Member::weight`]); more are refused. 0: any number.
    pub members_bytes_max: u64,
    /// If the user is a member already, others know this about them from now on.
    pub renews: bool,
    /// Start with the values that the channel keeps under such keys.
    pub values: Option<state::Keys>,
    /// Listens without being counted: makes no channel occupied and is in no subscription count.
    pub silent: bool,
    /// Subscribers of this channel are told its subscription count when it changes.
    pub announce_count: bool,
    /// The channel's name is a pattern: one `*` in it stands for any run of characters. What is published on channels
    /// with such names arrives under their names, as far as everyone may hear it (not on channels that are private,
    /// have members or are the engine's own); nothing else does. A connection that hears an event otherwise, too,
    /// receives it once. No member, no count, no past.
    pub is_pattern: bool,
    /// At which home a pattern is; set by the edge, which asks them all.
    pub at: Option<ShardId>,
    /// Which events it takes. Stays at the edge.
    pub filter: Option<Arc<Filter>>,
    /// Where it begins.
    pub start: Start,
    /// How long its member stays when the connection is lost without a word; zero: not at all. Whole seconds, up to
    /// [`LEASE_MAX`](edge::LEASE_MAX).
    pub lease: Millis,
    /// Whose it was, once it has ended; the edge says so.
    pub by: Option<ConnectionId>,
}

impl Subscribe {
    /// A counted subscription of all events in this lane, without a member.
    pub fn new(channel: Channel, lane: LaneId) -> Self {
        Self {
            channel,
            lane,
            member: None,
            members_max: 0,
            members_bytes_max: 0,
            renews: false,
            values: None,
            silent: false,
            announce_count: false,
            is_pattern: false,
            at: None,
            filter: None,
            start: Start::Now,
            lease: Millis(0),
            by: None,
        }
    }
}

/// An event, as published.
#[derive(Clone, Debug)]
pub struct Publish {
    /// To which channel.
    pub channel: Channel,
    /// The event's name.
    pub name: Name,
    /// Its data.
    pub data: Payload,
    /// Who published, if a peer did.
    pub sender: Option<Sender>,
    /// The one connection that does not receive it.
    pub exclude: Option<ConnectionId>,
    /// Keep it as the channel's last event for this long, for those who subscribe later.
    pub keep_last: Option<Millis>,
    /// When its bytes arrived, on the steady clock.
    pub arrived: Nanos,
    /// Do not answer.
    pub quiet: bool,
    /// What filters look at.
    pub tags: Tags,
    /// Only subscriptions whose filter admits it may have it; such an event is never kept as the last.
    pub guarded: bool,
    /// What else the publisher says about it.
    pub meta: Option<Arc<Meta>>,
    /// Deliver it and forget it: no place in the channel's history.
    pub ephemeral: bool,
    /// Who comes again with this key hears the first answer again, and nothing is published.
    pub key: Option<Arc<IdempotencyKey>>,
    /// Keep it under its id, too, for so long: on disk before anyone hears it. Beside the channel's history, which
    /// has rules of its own.
    pub retain: Option<Keep>,
    /// What its publisher wants the world outside to be told with it; none: it is not told. See [`Render::report`].
    pub report: Option<Payload>,
    /// A push notification that goes with it: put on the store's queue for them, once, in the commit that makes the event
    /// durable if it is, else in one of its own; [`crate::push::stored::Queued`].
    pub push: Option<Payload>,
}

/// Names one publish in its channel, so that it can be repeated safely.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// What the publisher calls it.
    pub name: Name,
    /// What it was used with, digested: the same name with another one is a conflict.
    pub fingerprint: [u8; 16],
    /// For how long it is remembered; none: as the settings say.
    pub span: Option<Millis>,
}

/// A user who is present is to be known by something else.
#[derive(Clone, Debug)]
pub struct Renew {
    /// Who, and what others may know about them from now on.
    pub member: Arc<Member>,
    /// As [`Subscribe::members_bytes_max`].
    pub members_bytes_max: u64,
}

impl Publish {
    /// An event of a back end for everyone, answered, without tags.
    pub fn new(channel: Channel, name: Name, data: Payload, arrived: Nanos) -> Self {
        Self {
            channel,
            name,
            data,
            sender: None,
            exclude: None,
            keep_last: None,
            arrived,
            quiet: false,
            tags: Tags::default(),
            guarded: false,
            meta: None,
            ephemeral: false,
            key: None,
            retain: None,
            report: None,
            push: None,
        }
    }
}

/// What a channel looks like at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// Counted subscriptions.
    pub subscription_count: u64,
    /// Users present.
    pub user_count: u64,
    /// The kept last event and how much longer it is kept, on channels that keep one.
    pub last: Option<(Arc<Event>, Millis)>,
}

/// The broker's answer to a [`Command`].
#[derive(Clone, Debug)]
pub enum Reply {
    /// The subscription stands from here on: everything later arrives.
    Subscribed(Box<Subscribed>),
    /// The command was refused; nothing changed.
    Refused(Refusal),
    /// The event has its place, and is kept as its mode says.
    Published(Published),
    /// What the channel looks like.
    Described(Box<Description>),
    /// Who is in it.
    Members(Vec<Arc<Member>>),
    /// Some of a shard's occupied channels. Those that come, go or come back between two portions may
    /// be missed or told twice.
    Channels {
        /// Name, counted subscriptions, users.
        found: Vec<(Name, u64, u64)>,
        /// Where the next portion begins; none after the last.
        rest: Option<u32>,
    },
    /// Carried out.
    Done,
    /// Part of a channel's history.
    Page(Box<Page>),
    /// What came after a position, or why that cannot be told.
    Replayed(Box<Result<Replay, Gap>>),
    /// What is kept of a channel.
    Stream(Stream),
    /// Some of a channel's history is gone.
    Purged(Box<Purged>),
    /// Messages kept under their ids, in the order asked for.
    Retained(Vec<state::Retained>),
    /// Values, in the order of their keys.
    Values(Vec<state::Value>),
    /// It will be done.
    Scheduled(EventId),
    /// What will be done.
    Schedules(Vec<state::Scheduled>),
    /// What the other session said.
    Returned(Bytes),
    /// Versions of a message, in the order asked for.
    Versions(versioned::Versions),
    /// What was said about a message, oldest first.
    Annotations(versioned::Annotations),
    /// What is said about a channel's messages, all together, in the order of the messages.
    Summaries(Vec<Arc<versioned::Summarized>>),
    /// How much is left.
    Spent(Spent),
}

/// One use of something that may be used so often within a time.
#[derive(Clone, Debug)]
pub struct Spend {
    /// What is used; every shard counts the uses of a name together.
    pub name: Name,
    /// How much of it this uses; all of it or, where that is too much, nothing.
    pub cost: u32,
    /// How often it may be used within `window`; at least 1.
    pub uses_max: u32,
    /// The time; it begins with the first use.
    pub window: Millis,
}

/// What came of a [`Spend`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent {
    /// It may be used.
    pub is_within: bool,
    /// How often it may be used after this, within the time.
    pub left: u32,
    /// When the time is over, and it begins anew.
    pub renews_in: Millis,
}

/// What a publisher is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// The event's position in its channel.
    pub serial: Serial,
    /// The event's name for good.
    pub id: EventId,
    /// How it is kept, which is what this acknowledges.
    pub mode: Mode,
    /// The epoch its serial counts in, if it is kept.
    pub epoch: Option<Epoch>,
    /// Counted subscriptions when it was published.
    pub subscription_count: u64,
    /// Users present when it was published.
    pub user_count: u64,
    /// It was published before, with the same key: this is what was said then.
    pub is_repeated: bool,
}

impl Published {
    /// Of an event that is kept nowhere, in a channel that nobody hears.
    pub fn unkept(serial: Serial) -> Self {
        Self {
            serial,
            id: EventId::default(),
            mode: Mode::None,
            epoch: None,
            subscription_count: 0,
            user_count: 0,
            is_repeated: false,
        }
    }
}

/// What a new subscriber is told.
#[derive(Clone, Debug)]
pub struct Subscribed {
    /// Which channel; shared with everyone else who subscribes it here.
    pub channel: Channel,
    /// The position it starts after.
    pub after: Serial,
    /// What the channel looks like, this subscription included.
    pub description: Description,
    /// Everyone present, this subscription's user included; empty without members.
    pub members: Vec<Arc<Member>>,
    /// The place it starts after, on channels that keep history.
    pub position: Option<Position>,
    /// What it starts with, if [`Start`] asked for anything: to be sent before what comes live.
    pub replay: Option<Box<Result<Replay, Gap>>>,
    /// The values asked for with [`Subscribe::values`], in the order of their keys: those that live changes follow.
    pub values: Vec<state::Value>,
    /// There were more values than are told at once.
    pub has_more_values: bool,
}
