//! The two streams of a connection: channels that it subscribes together.
//!
//! A stream is one channel of its own, the account stream also the bridged channels of the app. The bridged ones
//! are asked for first and behind a closed gate, the own one when they all stand; then the gate opens and the
//! start is answered. So nothing of a stream comes before its start reply, and nothing is missed after it.

use std::sync::Arc;

use super::channels;
use super::replies::{self, Failure, RequestId};
use super::requests::Which;
use super::session::AuthSession;
use super::{LANE_ACCOUNT, LANE_USER};
use crate::base::ids::{LaneId, Ticket};
use crate::base::name::{Channel, Name};
use crate::broker::{Admit, Command, Event, Filter, Subscribe, Verdict};
use crate::dialects::Output;

/// Replies that one start may owe; a further request is answered `rate_limited`.
const OWED_MAX: usize = 64;

/// Where a stream is in its life.
pub(super) enum Stream {
    /// Off.
    Off,
    /// Its channels are asked for.
    Starting(Box<Starting>),
    /// On.
    On,
}

/// A stream whose channels are asked for.
pub(super) struct Starting {
    /// The ticket of the first bridged channel; the others follow, the own channel is last.
    first: Ticket,
    /// Bridged channels that have not answered.
    missing: usize,
    /// The requests that wait for the answer.
    owed: Vec<RequestId>,
}

impl Stream {
    /// Whether it is on, or will be once its channels answer.
    pub(super) fn is_on(&self) -> bool {
        !matches!(self, Self::Off)
    }
}

/// The gate of a bridged channel: one filter for all whose stream starts, one for all whose stream is on.
pub(super) struct Gate {
    closed: Arc<Filter>,
    open: Arc<Filter>,
}

struct IsOpen(bool);

impl Admit for IsOpen {
    fn admit(&self, event: &Event) -> Verdict {
        // What another protocol guards is not for everyone who may hear the channel.
        if self.0 && !event.guarded { Verdict::Frame } else { Verdict::Skip }
    }
}

impl Gate {
    pub(super) fn new() -> Self {
        let filter = |is_open| Arc::new(Filter { any_of: None, admit: Box::new(IsOpen(is_open)) });
        Self { closed: filter(false), open: filter(true) }
    }
}

impl AuthSession {
    /// A channel of the app.
    pub(super) fn channel(&self, name: Name) -> Channel {
        Channel { app: self.shared.app.index, name }
    }

    /// The id of one of this dialect's lanes.
    pub(super) fn lane_id(&self, lane: u8) -> LaneId {
        LaneId(self.lane_first.0 + lane)
    }

    fn stream(&mut self, which: Which) -> &mut Stream {
        match which {
            Which::User => &mut self.user,
            Which::Account => &mut self.account,
        }
    }

    /// The lane in which this peer takes a stream; the compressed one is next to the plain one.
    fn lane_of(&self, which: Which) -> LaneId {
        let lane = match which {
            Which::User => LANE_USER,
            Which::Account => LANE_ACCOUNT,
        };
        self.lane_id(lane + u8::from(self.deflate))
    }

    /// The bridged channels of a stream.
    fn bridged(&self, which: Which) -> Vec<Channel> {
        let names: &[Name] = match which {
            Which::User => &[],
            Which::Account => &self.shared.bridge,
        };
        names.iter().map(|name| self.channel(name.clone())).collect()
    }

    /// The channel that is a stream's own.
    fn own(&self, which: Which) -> Option<Channel> {
        let identity = self.identity.as_deref()?;
        let account = identity.account.as_deref()?;
        Some(self.channel(match which {
            Which::User => channels::user(account, &identity.user),
            Which::Account => channels::account(account),
        }))
    }

    /// Starts a stream, or answers at once if it is on; the peer may have it.
    pub(super) fn start(&mut self, which: Which, id: RequestId, out: &mut Vec<Output>) {
        let outcome = match self.stream(which) {
            Stream::On => Ok(()),
            Stream::Starting(it) if it.owed.len() < OWED_MAX => return it.owed.push(id),
            Stream::Starting(_) => Err(Failure::RateLimited),
            Stream::Off => return self.begin(which, id, out),
        };
        out.push(Output::Text(replies::reply(start_name(which), outcome, &id)));
    }

    fn begin(&mut self, which: Which, id: RequestId, out: &mut Vec<Output>) {
        let bridged = self.bridged(which);
        let (missing, first) = (bridged.len(), self.tickets(bridged.len() + 1));
        *self.stream(which) =
            Stream::Starting(Box::new(Starting { first, missing, owed: vec![id] }));
        if missing == 0 {
            return self.ask(which, first, out);
        }
        let lane = self.lane_of(which);
        out.extend((0..).zip(bridged).map(|(nth, channel)| {
            let subscribe = Subscribe {
                silent: true,
                filter: Some(self.shared.gate.closed.clone()),
                ..Subscribe::new(channel, lane)
            };
            let ticket = Ticket(first.0.wrapping_add(nth));
            Output::Ask(ticket, Command::Subscribe(Box::new(subscribe)))
        }));
    }

    /// Asks for a stream's own channel.
    fn ask(&mut self, which: Which, ticket: Ticket, out: &mut Vec<Output>) {
        let Some(channel) = self.own(which) else { return };
        let subscribe = Subscribe { silent: true, ..Subscribe::new(channel, self.lane_of(which)) };
        out.push(Output::Ask(ticket, Command::Subscribe(Box::new(subscribe))));
    }

    /// Stops a stream, at once; a start that is under way has succeeded then.
    pub(super) fn stop(&mut self, which: Which, out: &mut Vec<Output>) {
        self.finish(which, Stream::Off, Ok(()), out);
    }

    /// Takes the broker's answer to one of the asks of a stream that starts.
    pub(super) fn stream_reply(&mut self, ticket: Ticket, is_granted: bool, out: &mut Vec<Output>) {
        for which in [Which::User, Which::Account] {
            let bridged = self.bridged(which).len();
            let Stream::Starting(it) = self.stream(which) else { continue };
            let nth = ticket.0.wrapping_sub(it.first.0) as usize;
            if nth > bridged {
                // Of a start that was given up since, or of the other stream.
                continue;
            }
            if !is_granted {
                return self.finish(which, Stream::Off, Err(Failure::Full), out);
            }
            if nth == bridged {
                return self.finish(which, Stream::On, Ok(()), out);
            }
            it.missing = it.missing.saturating_sub(1);
            if it.missing == 0 {
                let own = Ticket(it.first.0.wrapping_add(bridged as u32));
                self.ask(which, own, out);
            }
            return;
        }
    }

    /// Brings a stream to where it stays, and answers who waits for that.
    fn finish(
        &mut self,
        which: Which,
        stream: Stream,
        outcome: Result<(), Failure>,
        out: &mut Vec<Output>,
    ) {
        let (is_on, bridged) = (stream.is_on(), self.bridged(which));
        let owed = match std::mem::replace(self.stream(which), stream) {
            Stream::Off => return,
            Stream::Starting(it) => it.owed,
            Stream::On => Vec::new(),
        };
        let ticket = self.tickets(1);
        let own = self.own(which).filter(|_| !is_on);
        out.extend(bridged.into_iter().chain(own).map(|channel| {
            Output::Ask(
                ticket,
                match is_on {
                    true => Command::Refilter(channel, self.shared.gate.open.clone()),
                    false => Command::Unsubscribe(channel),
                },
            )
        }));
        let reply = |id| Output::Text(replies::reply(start_name(which), outcome, &id));
        out.extend(owed.into_iter().map(reply));
    }
}

/// The type of the request that starts a stream, without the trailing `request`.
fn start_name(which: Which) -> &'static str {
    match which {
        Which::User => "startuserevent",
        Which::Account => "startaccountevent",
    }
}
