//! Durable state: streams of records and a key-value state beside them, kept by an embedded database.
//!
//! Values in, values out. An [`Ask`] goes in with a number, its [`Answer`] comes back with the same; what an
//! answer acknowledges is on disk, synced. Nothing here knows a channel, a subscriber or a protocol: a
//! record's body is bytes. Read this file first, then [`ledger`] for what the asks do, [`database`] for the
//! narrow face the database stands behind, and [`thread`] for who runs it.
//!
//! # What is promised
//!
//! - What [`Answer::Appended`] or [`Answer::Changed`] acknowledges survives the end of the process and the loss
//!   of power, whole and once.
//! - Appends of one stream are taken in order and without a hole, or refused with [`Fault::Order`]: a stream's
//!   records have consecutive serials, always.
//! - What an ask changes is changed whole or not at all, records and state together. Conditions ([`Change::PutNew`],
//!   [`Change::RemoveKept`]) see everything that was asked before.
//! - After [`Fault::Failed`] it is not known whether what was asked is on disk; [`Ask::Open`] tells.
//! - A record is not removed before it expires, its stream's bounds are passed, or someone asks.

mod changes;
pub mod database;
#[cfg(test)]
mod directory;
pub mod fjall;
pub mod format;
pub mod health;
pub mod journal;
pub mod ledger;
pub mod memory;
pub mod open;
pub mod port;
pub mod reads;
pub mod sweep;
pub mod tables;
pub mod thread;
pub mod tools;
mod writer;

use bytes::Bytes;

use crate::base::event_id::EventId;
use crate::base::ids::{Epoch, Serial};
use crate::base::name::Name;
use crate::base::time::UnixMillis;

/// The name of a stream: an app by its id, a channel by its name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StreamKey {
    /// The app's id, as configured: it outlives the process, unlike an index.
    pub app: Name,
    /// The channel's name.
    pub channel: Name,
}

/// One record of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its position; consecutive within an epoch.
    pub serial: Serial,
    /// Its name for good.
    pub id: EventId,
    /// When it was ordered, on the wall clock, which may step.
    pub at: UnixMillis,
    /// From when it may be removed, on the clock of retention ([`Clock`]); [`NEVER`]: not by age.
    pub expires: UnixMillis,
    /// What it is.
    pub body: Bytes,
}

/// The expiry of what never expires.
pub const NEVER: UnixMillis = UnixMillis(u64::MAX);

/// The clock of retention: the wall clock of the process's start, moved on by the steady clock. A wall clock
/// that jumps a day ahead removes nothing.
pub type Clock = UnixMillis;

/// What is kept of a stream as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Which life of the stream. One that was never written has an epoch too, the same at every look.
    pub epoch: Epoch,
    /// The newest record's serial, whether it is still kept or not; 0 before the first.
    pub newest: Serial,
    /// The oldest kept record's serial; `newest + 1` if none is kept.
    pub oldest: Serial,
    /// Bytes of the bodies kept.
    pub bytes: u64,
    /// The newest record's id, whether it is still kept or not.
    pub last_id: EventId,
    /// When the oldest kept record was ordered; meaningless if none is kept.
    pub oldest_at: UnixMillis,
    /// When the newest record was ordered; meaningless before the first.
    pub newest_at: UnixMillis,
}

impl Head {
    /// How many records are kept.
    pub fn records(&self) -> u64 {
        (self.newest.0 + 1).saturating_sub(self.oldest.0)
    }
}

/// How much a stream may keep beside its records' expiry; 0: any number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Records.
    pub records_max: u64,
    /// Bytes of their bodies.
    pub bytes_max: u64,
}

/// An idempotency record: who comes again with this key is given the same record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// The key.
    pub key: Name,
    /// What it was used with, digested.
    pub fingerprint: [u8; 16],
    /// The record it made.
    pub serial: Serial,
    /// That record's id.
    pub id: EventId,
    /// Until when it is remembered, on the clock of retention.
    pub expires: UnixMillis,
}

/// Which records of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageAsk {
    /// From this serial on; 0: from the oldest.
    pub from: Serial,
    /// Up to this serial, it included; [`Serial`]`(u64::MAX)`: to the newest.
    pub to: Serial,
    /// Ordered at this time or later.
    pub from_at: Option<UnixMillis>,
    /// Ordered at this time or earlier.
    pub to_at: Option<UnixMillis>,
    /// The newest first.
    pub is_newest_first: bool,
    /// Records, at most; at least 1.
    pub records_max: u32,
    /// Bytes of their bodies, at most; one record comes even if it is larger.
    pub bytes_max: u64,
}

/// Records of a stream, in the order asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The stream when the page was read.
    pub head: Head,
    /// What was found.
    pub records: Vec<Record>,
    /// There are more within the bounds of what was asked.
    pub has_more: bool,
}

/// Which records are purged: all before a position. A purge always takes the oldest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PurgeTo {
    /// All of them.
    All,
    /// Those with a lower serial.
    Serial(Serial),
    /// The oldest ones up to the first that was ordered at this time or later.
    At(UnixMillis),
}

/// A change of the key-value state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Writes a value.
    Put {
        /// Its key.
        key: Bytes,
        /// The value.
        value: Bytes,
        /// From when it is gone, on the clock of retention; [`NEVER`]: stays.
        expires: UnixMillis,
    },
    /// Writes a value under a key that has none; with [`Fault::Exists`] nothing of the whole ask is done.
    PutNew {
        /// Its key.
        key: Bytes,
        /// The value.
        value: Bytes,
        /// As with `Put`.
        expires: UnixMillis,
    },
    /// Writes a value under the key after the last that was given so on its shelf: eight bytes, big-endian, from 1. A key
    /// is given once, though its value is removed.
    Push {
        /// The value.
        value: Bytes,
    },
    /// Adds to a count: eight bytes, big end first. It is never below 0, no value is the count 0, and a count that comes to
    /// 0 is removed. So a count is exact without anyone reading it first, however many add to it at once.
    Add {
        /// Its key.
        key: Bytes,
        /// How many more; fewer, if it is below 0.
        by: i64,
    },
    /// Removes a value, if it is there.
    Remove {
        /// Its key.
        key: Bytes,
    },
    /// Removes a value; if it is not there, nothing of the whole ask is done: [`Fault::Missing`].
    RemoveKept {
        /// Its key.
        key: Bytes,
    },
}

/// A part of the key-value state; each has its own keys. Its number is on disk: it never means another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Shelf {
    /// Versions of messages.
    Versions = 1,
    /// Annotations of messages.
    Annotations = 2,
    /// Values that channels store.
    Storage = 3,
    /// What is to be done later.
    Schedules = 4,
    /// Tokens that may be used once, and were.
    UsedTokens = 5,
    /// Who takes push notifications, and where.
    Push = 6,
    /// What is to be told to the world outside.
    Outbox = 7,
    /// Messages under their ids.
    Messages = 8,
    /// When the time of values is over whose end is to be told.
    Expiries = 9,
    /// How far each receiver of what waits in the outbox is, and what could not be told.
    Deliveries = 10,
    /// Push notifications on their way to being planned: [`crate::push::stored::Queued`].
    PushQueue = 11,
}

impl Change {
    /// What a value that [`Change::Add`] keeps stands for; none: 0.
    pub fn count(value: Option<&[u8]>) -> u64 {
        value.and_then(|it| it.try_into().ok()).map_or(0, u64::from_be_bytes)
    }
}

/// What the store is asked.
#[derive(Clone, Debug)]
pub enum Ask {
    /// The head of a stream, its newest records and its keys: [`Answer::Opened`]. Writes nothing.
    Open {
        /// Which.
        stream: StreamKey,
        /// Its newest records are wanted from the one after this on ...
        after: Serial,
        /// ... or this many of them, whichever is more, while the bytes are within ...
        tail: u32,
        /// ... this bound.
        bytes_max: u64,
    },
    /// Adds records to a stream: [`Answer::Appended`].
    Append {
        /// Which.
        stream: StreamKey,
        /// The epoch they belong to: the stream's.
        epoch: Epoch,
        /// Consecutive, the first one after the stream's newest; at least one.
        records: Vec<Record>,
        /// Keys of some of them.
        keys: Vec<KeyRecord>,
        /// Changes of the key-value state that go with them, all or nothing.
        changes: Vec<(Shelf, Change)>,
    },
    /// Reads a stream: [`Answer::Page`].
    Page {
        /// Which.
        stream: StreamKey,
        /// What of it.
        page: PageAsk,
    },
    /// Removes all of a stream and begins another life of it: [`Answer::Purged`].
    Reset {
        /// Which.
        stream: StreamKey,
        /// Its new epoch.
        epoch: Epoch,
    },
    /// Removes the oldest records of a stream: [`Answer::Purged`].
    Purge {
        /// Which.
        stream: StreamKey,
        /// Up to where.
        to: PurgeTo,
    },
    /// Changes the key-value state, all or nothing: [`Answer::Changed`].
    Change {
        /// In this order, each of its part.
        changes: Vec<(Shelf, Change)>,
    },
    /// Reads the key-value state: [`Answer::Values`].
    Read {
        /// Which part.
        shelf: Shelf,
        /// Keys that start so, in order ...
        prefix: Bytes,
        /// ... after this one, if it is given ...
        after: Option<Bytes>,
        /// ... and before this one, if that is ...
        before: Option<Bytes>,
        /// ... from the last to the first, if this is so ...
        is_last_first: bool,
        /// ... at most so many ...
        values_max: u32,
        /// ... and so many bytes of keys and values; one comes even if it is larger.
        bytes_max: u64,
    },
    /// Reads single values of the key-value state: [`Answer::Values`] with those that are there, in the order of `keys`,
    /// and `has_more` false.
    Pick {
        /// Which part.
        shelf: Shelf,
        /// Whole keys; as many as the one who asks can hold the values of.
        keys: Vec<Bytes>,
    },
}

impl Shelf {
    /// All of them, in the order of their numbers.
    pub const ALL: [Shelf; 11] = [
        Self::Versions,
        Self::Annotations,
        Self::Storage,
        Self::Schedules,
        Self::UsedTokens,
        Self::Push,
        Self::Outbox,
        Self::Messages,
        Self::Expiries,
        Self::Deliveries,
        Self::PushQueue,
    ];

    /// What it is called where people read of it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Versions => "versions",
            Self::Annotations => "annotations",
            Self::Storage => "storage",
            Self::Schedules => "schedules",
            Self::UsedTokens => "used tokens",
            Self::Push => "push",
            Self::Outbox => "outbox",
            Self::Messages => "messages",
            Self::Expiries => "expiries",
            Self::Deliveries => "deliveries",
            Self::PushQueue => "push queue",
        }
    }
}

impl Ask {
    /// Writes nothing.
    pub fn is_read(&self) -> bool {
        matches!(
            self,
            Self::Open { .. } | Self::Page { .. } | Self::Read { .. } | Self::Pick { .. }
        )
    }

    /// A change of one part of the key-value state.
    pub fn change(shelf: Shelf, changes: Vec<Change>) -> Self {
        Self::Change { changes: changes.into_iter().map(|change| (shelf, change)).collect() }
    }

    /// The first values of one part whose keys start so, in order, after a key if one is given.
    pub fn read(shelf: Shelf, prefix: Bytes, after: Option<Bytes>, values_max: u32) -> Self {
        let (before, bytes_max) = (None, u64::MAX);
        Self::Read { shelf, prefix, after, before, is_last_first: false, values_max, bytes_max }
    }
}

/// What the store answers.
#[derive(Clone, Debug)]
pub enum Answer {
    /// What a stream looks like.
    Opened {
        /// As a whole.
        head: Head,
        /// Its newest records, oldest first.
        tail: Vec<Record>,
        /// Its keys that are not expired.
        keys: Vec<KeyRecord>,
    },
    /// The records are on disk.
    Appended {
        /// The stream now.
        head: Head,
    },
    /// Records.
    Page(Page),
    /// Records are gone from the disk.
    Purged {
        /// The stream now.
        head: Head,
        /// How many are gone.
        records: u64,
        /// And bytes of their bodies.
        bytes: u64,
    },
    /// The state is changed, on disk.
    Changed,
    /// Values with their keys, in the order asked for; expired ones are left out.
    Values {
        /// Key and value.
        values: Vec<(Bytes, Bytes)>,
        /// There are more within what was asked.
        has_more: bool,
    },
    /// Nobody asked: retention moved the oldest record of a stream that this port opened. Its tag is
    /// [`port::TAG_MOVED`].
    Moved {
        /// Which.
        stream: StreamKey,
        /// The stream now.
        head: Head,
    },
    /// Not done.
    Fault(Fault),
}

/// Who answers a shard's asks: the store's threads, or a test.
pub trait Keeper: Send {
    /// Takes an ask. Each is answered once, by [`Keeper::take`], with its tag. Asks that write are done in their
    /// order, and so are those that read; a read sees the writes that were answered before it was asked.
    fn ask(&mut self, tag: u64, ask: Ask);
    /// Whether one more may be asked now; there is room again when answers are taken.
    fn has_room(&self) -> bool;
    /// An answer, and to which ask; or [`Answer::Moved`], to none.
    fn take(&mut self) -> Option<(u64, Answer)>;
    /// Is there one?
    fn is_ready(&self) -> bool;
}

/// Why the store did not do as asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The disk's bound or the room that must stay free is reached; nothing was done.
    Full,
    /// There is a value under a key that was to be new; nothing was done.
    Exists,
    /// There is no value under a key that was to be removed; nothing was done.
    Missing,
    /// The records do not continue the stream, or are of another epoch; nothing was done.
    Order,
    /// The database failed while at it: the outcome is not known until the stream is opened again. The text is
    /// for the log.
    Failed(String),
    /// The store is not there, or has more to do than it may keep in memory; nothing was done.
    Unavailable,
}
