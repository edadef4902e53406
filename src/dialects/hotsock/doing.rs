//! What a session asked of the broker and has not heard of: who wanted it, and what becomes of the answer.

use std::sync::Arc;

use super::calls::Reacting;
use super::user::User;
use crate::base::ids::Ticket;
use crate::base::name::Name;
use crate::base::time::UnixMillis;
use crate::dialects::Caller;

/// Who wants something done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The peer, over its WebSocket: it hears of what is not done.
    Socket,
    /// Somebody with its credentials, over HTTP: one answer, whatever it is.
    Call(Caller),
}

/// Something that is under way.
pub struct Doing {
    /// What the ask is called.
    pub ticket: Ticket,
    /// Who hears of it.
    pub origin: Origin,
    /// The channel, as it was named; empty: none.
    pub sent: Box<str>,
    /// What.
    pub what: What,
}

/// What is under way; channels by the names that peers see.
pub enum What {
    /// The connect token is used.
    Enter,
    /// A message is published.
    Publish {
        channel: Name,
        event: Name,
        /// Its id is wanted.
        eager: bool,
    },
    /// A message or a value is scheduled.
    Schedule { channel: Name, event: Name },
    /// A value is set.
    SetValue { channel: Name, key: Name },
    /// A value is read.
    GetValue { channel: Name, key: Name },
    /// Values are listed.
    ListValues,
    /// The rest of a new subscription's values.
    MoreValues { channel: Name },
    /// Messages are listed.
    ListMessages { channel: Name, expand: bool },
    /// Reactions are listed, of a message no older than that.
    ListReactions { from: UnixMillis },
    /// The target of a reaction is read.
    FindTarget(Box<Reacting>),
    /// A reaction is on its way.
    React { channel: Name },
    /// A channel's subscriptions are counted; its members are next.
    Describe { channel: Name },
    /// Its members are read.
    Members { channel: Name, count: u64 },
    /// A member is to be known by something else; it was known by that.
    Renew { channel: Name, before: Arc<User> },
}

impl Doing {
    /// Memory it holds.
    pub fn held_bytes(&self) -> usize {
        size_of::<Self>() + self.sent.len()
    }
}
