//! A channel's past, in words: places in it, parts of it, how it is kept.

use std::sync::Arc;

use super::Event;
use crate::base::ids::{Epoch, Serial};
use crate::base::time::{Millis, UnixMillis};

/// A place in a channel's history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Which life of the channel.
    pub epoch: Epoch,
    /// After this event of it; 0: before the first.
    pub serial: Serial,
}

/// Which part of a channel's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageQuery {
    /// Only if the channel still is in this epoch; else [`Refusal::EpochChanged`](super::Refusal::EpochChanged).
    pub epoch: Option<Epoch>,
    /// This event or a later one.
    pub from: Serial,
    /// This event or an earlier one; none: up to the newest.
    pub to: Option<Serial>,
    /// Ordered at this time or later.
    pub from_at: Option<UnixMillis>,
    /// Ordered at this time or earlier.
    pub to_at: Option<UnixMillis>,
    /// The newest first.
    pub is_newest_first: bool,
    /// Events, at most; at least 1.
    pub events_max: u32,
    /// Bytes of names and data, at most; one event comes even if it is larger.
    pub bytes_max: u64,
    /// Messages as they are now, each in its first place ([`Happening::Mutated`](super::Happening) where it is another
    /// than it was published as), and nothing else; else every event in its own place.
    pub is_latest: bool,
}

/// Events of a channel's history.
#[derive(Clone, Debug)]
pub struct Page {
    /// What is kept of the channel.
    pub stream: Stream,
    /// In the order asked for.
    pub events: Vec<Arc<Event>>,
    /// There are more within the bounds of what was asked.
    pub has_more: bool,
}

/// How a channel's events are kept; what an acknowledgement means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Not at all: ordered and queued for fan-out.
    #[default]
    None,
    /// In memory, within bounds: the same, and there for who asks while the process runs.
    Memory,
    /// On disk: synced there first, then queued for fan-out.
    Durable,
}

impl Mode {
    /// As settings and answers spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Memory => "memory",
            Self::Durable => "durable",
        }
    }
}

/// What is kept of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    /// How it is kept.
    pub mode: Mode,
    /// Which life of the channel.
    pub epoch: Epoch,
    /// The newest event's serial, whether it is still kept or not; 0 before the first.
    pub newest: Serial,
    /// The oldest kept event's serial; `newest + 1` if none is kept.
    pub oldest: Serial,
    /// When the oldest kept one was ordered; none if none is kept.
    pub oldest_at: Option<UnixMillis>,
    /// When the newest one was ordered, if it is kept.
    pub newest_at: Option<UnixMillis>,
    /// Bytes of the events kept.
    pub bytes: u64,
}

impl Stream {
    /// How many events are kept.
    pub fn events(&self) -> u64 {
        (self.newest.0 + 1).saturating_sub(self.oldest.0)
    }

    /// The place after its newest event.
    pub fn position(&self) -> Position {
        Position { epoch: self.epoch, serial: self.newest }
    }
}

/// Where in a channel's history a subscription begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// With what comes next.
    #[default]
    Now,
    /// With exactly what came after a position.
    After(Position),
    /// With so many of the newest events.
    Events(u32),
    /// With what was ordered within so long before now.
    Since(Millis),
}

/// Events of the past, oldest first, that end exactly where the live ones begin.
#[derive(Clone, Debug)]
pub struct Replay {
    /// The place after the last of them.
    pub position: Position,
    /// What came.
    pub events: Vec<Arc<Event>>,
    /// They were read from disk, at least in part.
    pub is_cold: bool,
    /// There were more that are not kept any more.
    pub is_cut_by_retention: bool,
    /// There are more than may be replayed at once.
    pub is_cut_by_limit: bool,
}

/// Why what came after a position cannot be told exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Why.
    pub reason: GapReason,
    /// What was asked for.
    pub asked: Position,
    /// What is kept of the channel, where that is known.
    pub stream: Option<Stream>,
}

/// Why a position cannot be continued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapReason {
    /// The channel keeps no history.
    NotKept,
    /// The channel began another life since.
    EpochChanged,
    /// Events after it are not kept any more.
    Expired,
    /// The channel has not come that far.
    Ahead,
    /// More came since than may be replayed at once: read the history page by page.
    TooMuch,
    /// The store cannot be asked now.
    Unavailable,
}

/// What a purge or a reset did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purged {
    /// The epoch before.
    pub epoch_before: Epoch,
    /// What is kept now.
    pub stream: Stream,
    /// Events that are gone.
    pub events: u64,
    /// And their bytes.
    pub bytes: u64,
}
