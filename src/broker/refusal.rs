//! Why the broker does not do what it is asked.

use crate::base::time::Millis;

/// Why the broker refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The channel has as many members as it may have.
    MembersFull {
        /// How many it may have.
        members_max: u32,
    },
    /// This shard holds as many channels as it may hold.
    ChannelsFull {
        /// How many it may hold.
        channels_max: usize,
    },
    /// The connection unsubscribed before the answer came.
    Cancelled,
    /// The channel keeps no history.
    NotKept,
    /// The channel began another life since.
    EpochChanged,
    /// The idempotency key was used before, with something else.
    KeyReused,
    /// This shard remembers as many keys as it may remember.
    KeysFull {
        /// How many.
        keys_max: usize,
        /// When the first of them is forgotten.
        free_in: Millis,
    },
    /// The store's disk is full, or would be.
    StoreFull,
    /// The store failed while at it: whether the event is kept is not known. The same key may be tried again.
    StoreFailed,
    /// The store could not read what was asked for.
    StoreUnreadable,
    /// The store is not there, or has more to do than it may keep in memory.
    StoreBusy,
    /// What its members say of themselves would take more than the channel may hold of it.
    MembersTooLarge {
        /// Bytes it may hold.
        bytes_max: u64,
    },
    /// The connection is not a subscriber, or not one with a member.
    NotSubscribed,
    /// What is meant is not there (any more): a message, a schedule.
    NotFound,
    /// It was used before.
    Used,
    /// There is no such connection (any more).
    NoConnection,
    /// Only who published or said it may do that.
    NotOwner,
    /// Something can be added only to data that is text, and the message's is not.
    NotText,
    /// The message's data would be larger than it may be.
    DataTooLarge {
        /// Bytes it would have.
        bytes: usize,
        /// Bytes it may have.
        bytes_max: usize,
    },
}

impl Refusal {
    /// A sentence for people.
    pub fn text(self) -> String {
        match self {
            Self::MembersFull { members_max } => {
                format!("the channel has {members_max} members, as many as it may have")
            }
            Self::ChannelsFull { channels_max } => {
                format!("the server holds {channels_max} channels, as many as it may hold")
            }
            Self::Cancelled => "the connection unsubscribed before the answer came".into(),
            Self::NotKept => "the channel keeps no history".into(),
            Self::EpochChanged => "the channel's history was reset since".into(),
            Self::KeyReused => {
                "idempotency key was already used with a different payload".into()
            }
            Self::KeysFull { keys_max, .. } => {
                format!("the server remembers {keys_max} idempotency keys, as many as it may remember")
            }
            Self::StoreFull => {
                "the store is full: make room on its disk (store.free_bytes_min), or raise store.bytes_max"
                    .into()
            }
            Self::StoreFailed => {
                "the store failed: it is not known whether the event is kept; try again with the same \
                 idempotency key"
                    .into()
            }
            Self::StoreUnreadable => {
                "the store cannot read this part of the history: see the server's log".into()
            }
            Self::StoreBusy => "the store cannot take more at this moment".into(),
            Self::MembersTooLarge { bytes_max } => {
                format!("the channel's members take more than {bytes_max} bytes")
            }
            Self::NotSubscribed => "the connection does not subscribe the channel".into(),
            Self::NotFound => "there is nothing of that id, or not any more".into(),
            Self::Used => "it was used before and is good for one use".into(),
            Self::NoConnection => "there is no such connection, or not any more".into(),
            Self::NotOwner => "only who published it may do that".into(),
            Self::NotText => "text can be appended only to a message whose data is a string".into(),
            Self::DataTooLarge { bytes, bytes_max } => {
                format!("the message's data would have {bytes} bytes, and may have {bytes_max}")
            }
        }
    }
}
