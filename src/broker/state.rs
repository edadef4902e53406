//! What channels keep beside their history, in words: messages under their ids, reactions to them, values under
//! keys; and what is to be done later.
//!
//! All of it is on disk before it is acknowledged or told. The home does it; a dialect says what and hears what
//! came of it.

use std::fmt;
use std::sync::Arc;

use crate::base::event_id::EventId;
use crate::base::ids::AppIndex;
use crate::base::name::{Channel, Name};
use crate::base::time::{Millis, UnixMillis};

use super::{Event, IdempotencyKey, Member, Payload, Publish};
use crate::base::ids::ConnectionId;

/// How long something is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Until someone removes it.
    Forever,
    /// So long, from when it is ordered.
    For(Millis),
}

/// Says which keys are meant; a dialect stands behind it.
pub trait AdmitKey: Send + Sync {
    /// Whether this one is.
    fn admit(&self, key: &str) -> bool;
}

/// A choice of keys, shared.
#[derive(Clone)]
pub struct Keys(pub Arc<dyn AdmitKey>);

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("keys")
    }
}

/// What the world outside is to be told, once it is durable: a webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The app whose receivers hear it.
    pub app: AppIndex,
    /// What kind of thing happened; receivers choose by it.
    pub kind: Name,
    /// In which channel, as its dialect calls it, where it happened in one; receivers choose by it, too.
    pub channel: Option<Name>,
    /// More for the head of the request: field names and values.
    pub fields: Vec<(&'static str, Box<str>)>,
    /// One JSON value.
    pub body: Payload,
}

/// A value that a channel keeps under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// Its key.
    pub key: Name,
    /// One JSON value.
    pub data: Payload,
    /// Who set it: one JSON value, passed on.
    pub meta: Payload,
}

/// A value is to be set or cleared.
#[derive(Clone, Debug)]
pub struct SetValue {
    /// In which channel.
    pub channel: Channel,
    /// Its key.
    pub key: Name,
    /// The value; none clears it. Equal to the one before (as JSON values are equal): nobody is told, but time and
    /// `meta` are those of this one.
    pub data: Option<Payload>,
    /// Who sets it: one JSON value, passed on.
    pub meta: Payload,
    /// How long it stays.
    pub keep: Keep,
    /// What its writer wants the world outside to be told with it; none: it is not told. See
    /// [`Render::report`](super::Render::report).
    pub report: Option<Payload>,
    /// Do not answer.
    pub quiet: bool,
}

/// A value was set, cleared, or its time was over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueChange {
    /// Its key.
    pub key: Name,
    /// What it is now; none: nothing.
    pub data: Option<Payload>,
    /// What it was.
    pub previous: Option<Payload>,
    /// Who changed it: one JSON value.
    pub meta: Payload,
    /// Its time was over. Subscribers are not told of that.
    pub is_expired: bool,
    /// When its time will be over.
    pub expires: Option<UnixMillis>,
}

/// Which values of a channel, in the order of their keys as bytes.
#[derive(Clone, Debug)]
pub struct ValuesQuery {
    /// Only these; none: all there are.
    pub keys: Option<Vec<Name>>,
    /// Only keys behind this one.
    pub after: Option<Name>,
    /// Of those only these count.
    pub admit: Option<Keys>,
    /// Values, at most.
    pub values_max: u32,
    /// Bytes of keys and values, at most; one comes even if it is larger.
    pub bytes_max: u64,
}

/// Which of the messages that a channel keeps under their ids.
#[derive(Clone, Copy, Debug)]
pub struct RetainedQuery {
    /// Only ids behind this one.
    pub after: Option<EventId>,
    /// Only ids before this one.
    pub before: Option<EventId>,
    /// Only ids of this time or later.
    pub from_at: UnixMillis,
    /// The newest first.
    pub is_newest_first: bool,
    /// Messages, at most; at least 1.
    pub events_max: u32,
    /// Bytes of names, data and what else is kept of them, at most; one comes even if it is larger.
    pub bytes_max: u64,
    /// With the reactions to them.
    pub with_reactions: bool,
}

/// A message that is kept under its id.
#[derive(Clone, Debug)]
pub struct Retained {
    /// The message; its serial and epoch say nothing.
    pub event: Arc<Event>,
    /// What was said to it, oldest first; empty unless asked for.
    pub reactions: Vec<Reaction>,
}

/// What a user said to a message; each user says each thing once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reaction {
    /// What.
    pub reaction: Name,
    /// Who, and what others may know about them.
    pub by: Arc<Member>,
    /// When.
    pub at: UnixMillis,
    /// Until when it is kept: as long as the message is.
    pub expires: Option<UnixMillis>,
}

/// Something is to be said to a message that is kept, or taken back.
#[derive(Clone, Debug)]
pub struct React {
    /// In which channel.
    pub channel: Channel,
    /// To which message.
    pub message: EventId,
    /// What.
    pub reaction: Name,
    /// By whom.
    pub by: Arc<Member>,
    /// It is said; else taken back. Either may be so already: then nothing happens.
    pub is_added: bool,
    /// What subscribers are told, as an ephemeral event of this name and data.
    pub event: (Name, Payload),
    /// Who published it, as a message's [`Meta`](super::Meta) says.
    pub publisher: Option<Payload>,
    /// The one connection that is not told.
    pub exclude: Option<ConnectionId>,
    /// What the world outside is to be told with it; none: it is not told. What was given when it was said is told
    /// again when it is taken back.
    pub report: Option<Payload>,
}

/// What is done later.
#[derive(Clone, Debug)]
pub enum Deferred {
    /// A publish. What it says of `arrived`, `key` and `quiet` means nothing then.
    Publish(Box<Publish>),
    /// A value is set.
    SetValue(Box<SetValue>),
    /// The time of a push notification has come: this is put on the store's queue for them, in one commit with the end of
    /// the schedule. The channel says where the schedule is at home, and nothing is published there.
    Push(Channel, Payload),
}

impl Deferred {
    /// The channel it is about.
    pub fn channel(&self) -> &Channel {
        match self {
            Self::Publish(it) => &it.channel,
            Self::SetValue(it) => &it.channel,
            Self::Push(channel, _) => channel,
        }
    }
}

/// Something is to be done later: once, never early, and although the process may end meanwhile.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// What.
    pub what: Deferred,
    /// When, on the wall clock.
    pub at: UnixMillis,
    /// Who comes again with this key hears the first answer again, and nothing more is scheduled.
    pub key: Option<Arc<IdempotencyKey>>,
}

/// Something that will be done.
#[derive(Clone, Debug)]
pub struct Scheduled {
    /// What it is called.
    pub id: EventId,
    /// When it will be done.
    pub at: UnixMillis,
    /// What.
    pub what: Deferred,
}

/// Which of an app's schedules.
#[derive(Clone, Copy, Debug)]
pub struct SchedulesQuery {
    /// The app.
    pub app: AppIndex,
    /// Only ids behind this one.
    pub after: Option<EventId>,
    /// Only this one.
    pub only: Option<EventId>,
    /// So many, at most.
    pub schedules_max: u32,
}
