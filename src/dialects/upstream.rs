//! A dialect's side of another server that it stands in for: what is followed there, and what is made of what comes.
//!
//! Sans-io, as sessions are; it lives on the back shard, which carries out what it wants. A dialect gives its
//! [`Upstream`] once, at the start. Inquiries of its sessions that [`Source::has_upstream`](crate::auth::Source) sends
//! to the world outside come here.

use crate::auth::upstream::{FeedOrder, Rows, Servers, Statement, Unanswered};
use crate::auth::{Finding, What};
use crate::base::ids::{ConnectionId, Ticket};
use crate::base::time::{Nanos, Now};
use crate::broker::Publish;

/// What a dialect follows elsewhere.
pub struct Upstream {
    /// The dialect's name: inquiries with its [`Source`](crate::auth::Source) are for it.
    pub dialect: &'static str,
    /// Where it is.
    pub servers: Servers,
    /// Who follows.
    pub follower: Box<dyn Follower>,
}

/// Who follows: one method, as a session has.
pub trait Follower: Send {
    /// Takes an input and appends what follows from it. The caller drains `out` before the next input.
    fn handle(&mut self, input: FollowerInput<'_>, now: Now, out: &mut Vec<FollowerOutput>);

    /// When it wants [`FollowerInput::Due`]; none: it waits for something.
    fn due(&self) -> Option<Nanos>;
}

/// What a follower hears.
#[derive(Debug)]
pub enum FollowerInput<'a> {
    /// A session asks; answered by one [`FollowerOutput::Tell`].
    Asked(ConnectionId, Ticket, What),
    /// A connection that asked something which stands ([`What::stands`]) has ended its session. Comes after what it asked.
    Gone(ConnectionId),
    /// Something was published on a channel that is subscribed.
    Message {
        /// In full.
        channel: &'a str,
        /// As it came.
        payload: &'a [u8],
    },
    /// The pub/sub server is there, and everything that was ordered is in force there again.
    Linked,
    /// The pub/sub server is lost.
    Unlinked,
    /// The answer to a question.
    Answered(u64, Result<Rows, Unanswered>),
    /// The time that [`Follower::due`] named has come.
    Due,
    /// How the pool of connections to the database is, now and then: connections, idle ones, questions that wait.
    Pool(u32, u32, u32),
}

/// What a follower wants done.
#[derive(Debug)]
pub enum FollowerOutput {
    /// Answer a session.
    Tell(ConnectionId, Ticket, Finding),
    /// Publish this, quietly; those of one channel keep their order.
    Publish(Box<Publish>),
    /// Have the pub/sub server do this.
    Feed(FeedOrder),
    /// Ask the database: [`FollowerInput::Answered`] with the number, once.
    Query(u64, Statement),
}
