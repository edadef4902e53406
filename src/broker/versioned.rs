//! What becomes of messages after they were published, in words: versions, and what is said about them.
//!
//! A message of a channel that keeps history can be given further versions and be annotated. Versions and annotations
//! take places in the channel's history like everything published: who continues from a position hears them in order.
//! The home does it; a dialect says what and hears what came of it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::{ConnectionId, Event, IdempotencyKey, Payload};
use crate::base::event_id::EventId;
use crate::base::ids::Serial;
use crate::base::name::{Channel, Name};

/// Names a message of a channel's history for good: as text, its id, a dash, and its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageRef {
    /// Its id, which is that of its first version.
    pub id: EventId,
    /// The place where it was published.
    pub serial: Serial,
}

impl fmt::Display for MessageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.id, self.serial.0)
    }
}

/// Text that names no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotARef;

impl FromStr for MessageRef {
    type Err = NotARef;

    /// Takes only what [`MessageRef`] writes, so that each message has one name.
    fn from_str(text: &str) -> Result<Self, NotARef> {
        let (id, serial) = text.split_once('-').ok_or(NotARef)?;
        let read = Self {
            id: id.parse().map_err(|_| NotARef)?,
            serial: Serial(serial.parse().map_err(|_| NotARef)?),
        };
        (read.to_string() == text && read.serial > Serial(0)).then_some(read).ok_or(NotARef)
    }
}

/// What made a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// It was published.
    Create,
    /// Parts of it were replaced or cleared.
    Update,
    /// It was taken back; what is kept of it can still be read.
    Delete,
    /// Text was added to its data, which is text.
    Append,
}

/// What becomes of a part of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Patch<T> {
    /// It stays.
    #[default]
    Stay,
    /// It is gone.
    Clear,
    /// It is this.
    Set(T),
}

/// Who made a version and what they say about it; passed on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// The client.
    pub client_id: Option<Name>,
    /// In words.
    pub description: Option<Name>,
    /// One JSON value.
    pub metadata: Option<Payload>,
}

/// A message is to have another version.
#[derive(Clone, Debug)]
pub struct Mutate {
    /// In which channel.
    pub channel: Channel,
    /// Which.
    pub message: MessageRef,
    /// What is to happen to it; never [`Action::Create`].
    pub action: Action,
    /// Its name. Of an update only.
    pub name: Patch<Name>,
    /// Its data: one JSON value. Of an append what is added: a JSON string that is not empty.
    pub data: Patch<Payload>,
    /// What else its publisher says about it: one JSON object.
    pub extras: Patch<Payload>,
    /// Who does it.
    pub about: About,
    /// Only if this client published it; else [`Refusal::NotOwner`](super::Refusal::NotOwner).
    pub only_of: Option<Name>,
    /// Bytes its data may have then; more is refused.
    pub data_bytes_max: usize,
    /// The one connection that is not told.
    pub exclude: Option<ConnectionId>,
    /// Who comes again with this key hears the first answer again, and nothing happens.
    pub key: Option<Arc<IdempotencyKey>>,
    /// What the world outside is to be told with it: see [`Render::report`](super::Render::report).
    pub report: Option<Payload>,
    /// A push notification that goes with it, as [`Publish::push`](super::Publish::push).
    pub push: Option<Payload>,
}

/// A version of a message that is not its first, as it was told. The event's id and serial are the version's; its tags,
/// and of its [`Meta`](super::Meta) message id, extras and client, are the message's in this version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutated {
    /// Of which message.
    pub message: MessageRef,
    /// What made it.
    pub action: Action,
    /// The message's name in this version.
    pub name: Option<Name>,
    /// All of its data in this version: one JSON value.
    pub data: Option<Payload>,
    /// What an append added: a JSON string.
    pub fragment: Option<Payload>,
    /// The message's data came from a peer, or from an update: it keeps its type. Else it is told as text.
    pub keeps_type: bool,
    /// Who made it.
    pub about: About,
}

/// Which of a message's versions.
#[derive(Clone, Copy, Debug)]
pub struct VersionsQuery {
    /// Of which message.
    pub message: MessageRef,
    /// Only versions behind this one, in the order asked for.
    pub after: Option<EventId>,
    /// The newest first.
    pub is_newest_first: bool,
    /// So many, at most; at least 1.
    pub versions_max: u32,
    /// Bytes of them, at most; one comes even if it is larger.
    pub bytes_max: u64,
}

/// Versions of a message: its first is a [`Happening::Message`](super::Happening::Message), the others are
/// [`Happening::Mutated`](super::Happening::Mutated).
#[derive(Clone, Debug, Default)]
pub struct Versions {
    /// In the order asked for.
    pub events: Vec<Arc<Event>>,
    /// There are more.
    pub has_more: bool,
}

/// How what is said about a message is taken together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Summarizer {
    /// How often it was said.
    Total,
    /// Which clients said it.
    Flag,
    /// Which clients said each name; a client may say several.
    Distinct,
    /// Which clients said each name; a client's newer name moves it.
    Unique,
    /// How often each client said each name.
    Multiple,
}

/// Something that was said about a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Annotation {
    /// About which message.
    pub message: MessageRef,
    /// What kind of thing, as its dialect spells it; the same spelling has the same summarizer.
    pub kind: Name,
    /// How it counts.
    pub summarizer: Summarizer,
    /// What.
    pub name: Option<Name>,
    /// By which client.
    pub client_id: Option<Name>,
    /// How much it counts for, of [`Summarizer::Multiple`]; none: once.
    pub count: Option<u64>,
    /// More, for who hears each annotation: one JSON value.
    pub data: Option<Payload>,
    /// How that is encoded.
    pub encoding: Option<Name>,
}

/// What is to be done about a message.
#[derive(Clone, Debug)]
pub enum Annotating {
    /// This is said.
    Say(Annotation),
    /// What was said under this id is taken back. Taken back already: the answer is a repetition, with that id.
    TakeBack {
        /// About which message.
        message: MessageRef,
        /// Which annotation.
        id: EventId,
        /// Only if this client said it; else [`Refusal::NotOwner`](super::Refusal::NotOwner).
        only_of: Option<Name>,
    },
}

/// An annotation to be made or taken back.
#[derive(Clone, Debug)]
pub struct Annotate {
    /// In which channel.
    pub channel: Channel,
    /// What.
    pub what: Annotating,
    /// Bytes of a summary, at most, about: lists of clients are cut to fit.
    pub summary_bytes_max: usize,
    /// What the world outside is to be told with it: see [`Render::report`](super::Render::report).
    pub report: Option<Payload>,
}

/// An annotation that was made or taken back, as it was told; the event's id is its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Annotated {
    /// What was said.
    pub annotation: Annotation,
    /// It is taken back: what was said under this id.
    pub takes_back: Option<EventId>,
}

/// Which of what was said about a message.
#[derive(Clone, Debug)]
pub struct AnnotationsQuery {
    /// About which message.
    pub message: MessageRef,
    /// Only of this kind.
    pub kind: Option<Name>,
    /// Only this one or later ones.
    pub from: Option<EventId>,
    /// So many, at most; at least 1.
    pub annotations_max: u32,
}

/// What was said about a message, one by one; each event is [`Happening::Annotated`](super::Happening::Annotated).
#[derive(Clone, Debug, Default)]
pub struct Annotations {
    /// Oldest first.
    pub events: Vec<Arc<Event>>,
    /// The first that did not fit.
    pub next: Option<EventId>,
}

/// What is said about a message in annotations of one kind, all together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summarized {
    /// About which message.
    pub message: MessageRef,
    /// Of which kind.
    pub kind: Name,
    /// The summary, as Sockudo's clients read it: one JSON object.
    pub summary: Payload,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_one_name() {
        let it = MessageRef { id: EventId(u128::MAX / 5), serial: Serial(12) };
        let text = it.to_string();
        assert_eq!(text.parse(), Ok(it));
        for wrong in [
            "",
            "-",
            "x-1",
            &format!("{text} "),
            &text.replace("-12", "-012"),
            &text.to_lowercase(),
        ] {
            assert_eq!(wrong.parse::<MessageRef>(), Err(NotARef), "{wrong}");
        }
        let zero = MessageRef { serial: Serial(0), ..it };
        assert_eq!(zero.to_string().parse::<MessageRef>(), Err(NotARef));
    }
}
