//! What homes and edges send each other, and who turns events into frames for them.

use std::sync::Arc;

use bytes::Bytes;

use crate::base::ids::{ConnectionId, LaneId, Ticket};

use super::{Command, Event, Payload, Reply, Report, Subscribe, Subscribed};

/// Turns an event into finished frames, once per lane. The dialects stand behind it.
pub trait Render {
    /// The whole frame for `lane`, transport header included, or none if that lane does not show
    /// such events. An empty one: there is nothing to send, the lane's sessions are handed the event.
    fn render(&self, lane: LaneId, event: &Event) -> Option<Bytes>;

    /// Whether this lane's frames for members who come, change or leave show everyone present.
    fn shows_members(&self, _lane: LaneId) -> bool {
        false
    }

    /// Whether the world outside is told anything: [`Render::report`].
    fn reports(&self) -> bool {
        false
    }

    /// Whether who is told of members who come, change or leave is shown everyone present.
    fn reports_members(&self) -> bool {
        false
    }

    /// Appends what the world outside is told of an event. `about` is what the publisher wants to be told with it, none
    /// for what happened without one; only the dialect that wrote it reads it. Called for events of the channel's own,
    /// and for those with `about`.
    fn report(&self, _event: &Event, _about: Option<&Payload>, _out: &mut Vec<Report>) {}
}

/// Asks on their way to a channel's home.
#[derive(Clone, Debug)]
pub enum Up {
    /// A session asks.
    Ask {
        /// Which connection; the answer goes back to its shard.
        from: ConnectionId,
        /// What the session calls it.
        ticket: Ticket,
        /// What it asks.
        command: Command,
    },
    /// A subscription ended, and how. Carries what its home counted, so that the home keeps no connections.
    Detach(Box<Subscribe>, Parting),
}

/// How a subscription ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parting {
    /// Its connection did not want it any more.
    Unsubscribed,
    /// Its connection was closed, as its peer or we said it would be.
    Closed,
    /// Its connection was lost without a word.
    Lost,
    /// Its connection was not heard of in time.
    Silent,
    /// Its connection was ended because someone asked for that.
    Forced,
}

/// Answers and deliveries on their way to an edge.
#[derive(Clone, Debug)]
pub enum Down {
    /// The answer to an ask.
    Answer {
        /// For which connection.
        to: ConnectionId,
        /// What its session called the ask.
        ticket: Ticket,
        /// The answer.
        reply: Reply,
    },
    /// A subscription was granted: the edge attaches it here, then answers `Subscribed`.
    Attach {
        /// For which connection.
        to: ConnectionId,
        /// What its session called the ask.
        ticket: Ticket,
        /// What was granted, as asked; goes straight back as `Up::Detach` if nobody wants it any more.
        granted: Box<Subscribe>,
        /// The answer.
        reply: Box<Subscribed>,
    },
    /// An event for this shard's subscribers.
    Deliver(Arc<Delivery>),
}

/// An event with its frames, one per lane that has a subscriber anywhere.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// What happened.
    pub event: Event,
    /// The one connection that does not receive it.
    pub exclude: Option<ConnectionId>,
    /// Finished frames, transport header included.
    pub frames: Vec<(LaneId, Bytes)>,
}
