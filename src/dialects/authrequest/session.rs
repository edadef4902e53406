//! One connection: who it is, which streams it has, and one reply for each request.
//!
//! While a token is checked, requests wait in order; they are judged by its outcome. The check ends only when
//! the broker has this connection on its user's session channel, so that whoever heard `success` is reached
//! by every later revocation.

use std::collections::VecDeque;
use std::sync::Arc;

use super::channels::{self, ID_BYTES_MAX};
use super::replies::{self, ERROR, Failure, RequestId};
use super::requests::{self, Command as Asked, Request, Which};
use super::settings::ACCOUNT_EVENTS;
use super::streams::Stream;
use super::{LANE_SESSION, Shared};
use crate::auth::{Checked, Finding, Identity, Seat};
use crate::base::ids::{LaneId, Ticket};
use crate::base::name::Name;
use crate::base::time::{Nanos, Now};
use crate::broker::{Command, Event, Happening, Reply, Subscribe};
use crate::dialects::api::is_within_rate;
use crate::dialects::{Facts, Farewell, Input, Output, Session, TimerKind};
use crate::observe::CloseReason;

/// Ends a connection that does not authenticate.
const AUTH_TIMEOUT: TimerKind = TimerKind(0);
/// Asks for a sign of life.
const KEEP_ALIVE: TimerKind = TimerKind(1);

/// Pings without an answer that are too many. Source: our reference, section 5.6.
const PINGS_MISSED_MAX: u8 = 2;

/// Requests that wait for a check, and their bytes; a further one is answered `rate_limited`.
const WAITING_MAX: usize = 64;
const WAITING_BYTES_MAX: usize = 64 * 1024;

/// One peer's side of the protocol.
pub(super) struct AuthSession {
    pub(super) shared: Arc<Shared>,
    /// This connection's place in its app.
    _seat: Seat,
    /// Who the peer is, once it is authenticated.
    pub(super) identity: Option<Arc<Identity>>,
    /// A token is being checked.
    checking: Option<Box<Checking>>,
    pub(super) user: Stream,
    pub(super) account: Stream,
    pub(super) lane_first: LaneId,
    pub(super) deflate: bool,
    /// The end was said: nothing more is.
    is_over: bool,
    pings_missed: u8,
    /// Failed authentications since the last that did not.
    failures: u16,
    /// Messages in a row that were no JSON objects.
    invalid: u16,
    ticket_next: u32,
    /// When the next request would be due, were they evenly spaced.
    request_due: Nanos,
}

/// A token is being checked, or requests that waited for one are being judged.
#[derive(Default)]
struct Checking {
    /// What is waited for; none between two checks.
    pending: Option<Pending>,
    /// What the peer sent meanwhile, in order.
    waiting: VecDeque<Box<str>>,
    waiting_bytes: usize,
}

struct Pending {
    ticket: Ticket,
    id: RequestId,
    step: Step,
}

enum Step {
    /// The world outside says whose token it is.
    Token,
    /// The broker subscribes this connection to the session channel of this user.
    Attach(Arc<Identity>),
}

impl AuthSession {
    /// A session for a connection that is about to be opened.
    pub fn new(shared: Arc<Shared>, seat: Seat, facts: &Facts) -> Self {
        Self {
            shared,
            _seat: seat,
            identity: None,
            checking: None,
            user: Stream::Off,
            account: Stream::Off,
            lane_first: facts.lane_first,
            deflate: facts.deflate,
            is_over: false,
            pings_missed: 0,
            failures: 0,
            invalid: 0,
            ticket_next: 0,
            request_due: Nanos::default(),
        }
    }

    /// The first of as many consecutive names for asks.
    pub(super) fn tickets(&mut self, count: usize) -> Ticket {
        let first = Ticket(self.ticket_next);
        self.ticket_next = self.ticket_next.wrapping_add(count as u32);
        first
    }

    fn end(&mut self, code: u16, text: &'static str, out: &mut Vec<Output>) {
        self.is_over = true;
        let farewell = Farewell { message: None, code, text: text.into() };
        out.push(Output::Close(farewell, CloseReason::Session));
    }

    fn text(&mut self, text: &str, now: Now, out: &mut Vec<Output>) {
        let read = requests::read(text, self.shared.settings.extensions);
        if matches!(read, Err((Failure::InvalidJson, _))) {
            return self.invalid_json(out);
        }
        self.invalid = 0;
        let rate = self.shared.settings.requests_per_second_max;
        let is_limited = !is_within_rate(&mut self.request_due, now.steady, rate);
        let (name, id, failure) = match read {
            Err((failure, id)) => (ERROR.into(), id, failure),
            Ok(Request { name, id: Err(failure), .. }) => (name, None, failure),
            Ok(request) if !is_limited && self.checking.is_none() => {
                return self.request(request, now, out);
            }
            Ok(_) if !is_limited && self.keep(text) => return,
            Ok(request) => (request.name, request.id.unwrap_or_default(), Failure::RateLimited),
        };
        let failure = if is_limited { Failure::RateLimited } else { failure };
        out.push(Output::Text(replies::reply(&name, Err(failure), &id)));
    }

    fn invalid_json(&mut self, out: &mut Vec<Output>) {
        self.invalid = self.invalid.saturating_add(1);
        out.push(Output::Text(replies::reply(ERROR, Err(Failure::InvalidJson), &None)));
        if u32::from(self.invalid) >= self.shared.settings.invalid_json_max {
            self.end(1007, "too many messages that are not JSON objects", out);
        }
    }

    /// Lets a request wait for the check that is running; false if too much waits.
    fn keep(&mut self, text: &str) -> bool {
        let Some(checking) = &mut self.checking else { return false };
        let bytes = checking.waiting_bytes + text.len();
        let fits = checking.waiting.len() < WAITING_MAX && bytes <= WAITING_BYTES_MAX;
        if fits {
            checking.waiting.push_back(text.into());
            checking.waiting_bytes = bytes;
        }
        fits
    }

    /// Judges what has waited, until it is all done or the next check runs.
    fn judge_waiting(&mut self, now: Now, out: &mut Vec<Output>) {
        while let Some(checking) = &mut self.checking {
            if checking.pending.is_some() || self.is_over {
                return;
            }
            let Some(text) = checking.waiting.pop_front() else {
                self.checking = None;
                return;
            };
            checking.waiting_bytes -= text.len();
            // It was read once when it came.
            if let Ok(request) = requests::read(&text, self.shared.settings.extensions) {
                self.request(request, now, out);
            }
        }
    }

    fn request(&mut self, request: Request<'_>, now: Now, out: &mut Vec<Output>) {
        let id = request.id.unwrap_or_default();
        let outcome = match (request.command, &self.identity) {
            (Asked::Auth, _) => {
                let token = match request.token.filter(|it| !it.is_null()) {
                    None => Err(Failure::MissingToken),
                    Some(token) => token.as_str().ok_or(Failure::InvalidRequest),
                };
                let token = token
                    .and_then(|it| if it.is_empty() { Err(Failure::MissingToken) } else { Ok(it) });
                return match token {
                    Ok(token) => self.authenticate(&token, id, now, out),
                    Err(failure) => self.fail(failure, &id, out),
                };
            }
            (Asked::Ping, _) => Ok(()),
            (_, None) => Err(Failure::NotAuthenticated),
            (Asked::Unknown, Some(_)) => Err(Failure::UnknownCommand),
            (Asked::Start(Which::Account), Some(identity)) if !identity.may(ACCOUNT_EVENTS) => {
                Err(Failure::Forbidden)
            }
            (Asked::Start(which), Some(_)) => return self.start(which, id, out),
            (Asked::Stop(which), Some(_)) => {
                self.stop(which, out);
                Ok(())
            }
            (Asked::List, Some(identity)) => {
                let streams = [
                    (Which::User.name(), true, self.user.is_on()),
                    (Which::Account.name(), identity.may(ACCOUNT_EVENTS), self.account.is_on()),
                ];
                let reply = replies::streams(&request.name, &streams, &id);
                return out.push(Output::Text(reply));
            }
        };
        out.push(Output::Text(replies::reply(&request.name, outcome, &id)));
    }

    fn authenticate(&mut self, token: &str, id: RequestId, now: Now, out: &mut Vec<Output>) {
        match self.shared.source.check(token, now.wall) {
            Checked::Known(identity) => self.admit(identity, id, out),
            Checked::Expired => self.fail(Failure::ExpiredToken, &id, out),
            Checked::Unknown => self.fail(Failure::InvalidToken, &id, out),
            Checked::Inquire(inquiry) => {
                let ticket = self.tickets(1);
                self.wait_for(Pending { ticket, id, step: Step::Token });
                out.push(Output::Inquire(ticket, inquiry));
            }
        }
    }

    fn wait_for(&mut self, pending: Pending) {
        self.checking.get_or_insert_default().pending = Some(pending);
    }

    /// What was waited for with this ticket, if anything was.
    fn take_pending(&mut self, ticket: Ticket) -> Option<Pending> {
        self.checking.as_mut()?.pending.take_if(|it| it.ticket == ticket)
    }

    fn found(&mut self, ticket: Ticket, finding: Finding, now: Now, out: &mut Vec<Output>) {
        let Some(Pending { id, .. }) = self.take_pending(ticket) else { return };
        match finding {
            Finding::Known(identity) => self.admit(identity, id, out),
            Finding::Expired => self.fail(Failure::ExpiredToken, &id, out),
            Finding::Unknown => self.fail(Failure::InvalidToken, &id, out),
            Finding::Issued(_)
            | Finding::Limited
            | Finding::Unavailable
            | Finding::Done
            | Finding::Following(_)
            | Finding::Told(_)
            | Finding::Push(_) => {
                self.fail(Failure::Unavailable, &id, out);
            }
        }
        self.judge_waiting(now, out);
    }

    /// The token is good: of whom the connection is already, or of someone else.
    fn admit(&mut self, identity: Arc<Identity>, id: RequestId, out: &mut Vec<Output>) {
        let Some(channel) = session_channel(&identity) else {
            return self.fail(Failure::Accountless, &id, out);
        };
        if self.identity.as_ref().is_some_and(|it| is_same(it, &identity)) {
            // A token may allow less than the one before it.
            if !identity.may(ACCOUNT_EVENTS) {
                self.stop(Which::Account, out);
            }
            return self.succeed(identity, &id, out);
        }
        let ticket = self.tickets(1);
        let subscribe = Subscribe {
            silent: true,
            ..Subscribe::new(self.channel(channel), self.lane_id(LANE_SESSION))
        };
        self.wait_for(Pending { ticket, id, step: Step::Attach(identity) });
        out.push(Output::Ask(ticket, Command::Subscribe(Box::new(subscribe))));
    }

    /// The session channel is subscribed, or cannot be.
    fn attached(&mut self, pending: Pending, is_granted: bool, now: Now, out: &mut Vec<Output>) {
        match pending.step {
            Step::Attach(identity) if is_granted => {
                // The streams and the session of whoever it was before.
                self.stop(Which::User, out);
                self.stop(Which::Account, out);
                if let Some(channel) = self.identity.as_deref().and_then(session_channel) {
                    let channel = self.channel(channel);
                    out.push(Output::Ask(self.tickets(1), Command::Unsubscribe(channel)));
                }
                self.succeed(identity, &pending.id, out);
            }
            _ => self.fail(Failure::Full, &pending.id, out),
        }
        self.judge_waiting(now, out);
    }

    fn succeed(&mut self, identity: Arc<Identity>, id: &RequestId, out: &mut Vec<Output>) {
        self.identity = Some(identity);
        self.failures = 0;
        out.push(Output::Text(replies::reply("auth", Ok(()), id)));
    }

    fn fail(&mut self, failure: Failure, id: &RequestId, out: &mut Vec<Output>) {
        self.failures = self.failures.saturating_add(1);
        out.push(Output::Text(replies::reply("auth", Err(failure), id)));
        if u32::from(self.failures) >= self.shared.settings.auth_failures_max {
            self.end(1008, "too many failed authentication attempts", out);
        }
    }

    /// Asks for a sign of life, unless too many went unanswered.
    fn keep_alive(&mut self, out: &mut Vec<Output>) {
        if self.pings_missed >= PINGS_MISSED_MAX {
            return self.end(1008, "no sign of life", out);
        }
        self.pings_missed += 1;
        out.push(Output::Ping);
        out.push(Output::Arm(KEEP_ALIVE, self.shared.settings.keep_alive));
    }

    /// The user was revoked: nothing else comes on the session channel.
    fn event(&mut self, event: &Event, out: &mut Vec<Output>) {
        if matches!(event.happening, Happening::Message { .. }) {
            self.end(1008, "session revoked", out);
        }
    }

    fn reply(&mut self, ticket: Ticket, reply: &Reply, now: Now, out: &mut Vec<Output>) {
        let is_granted = match reply {
            Reply::Subscribed(_) => true,
            Reply::Refused(_) => false,
            _ => return,
        };
        match self.take_pending(ticket) {
            Some(pending) => self.attached(pending, is_granted, now, out),
            None => self.stream_reply(ticket, is_granted, out),
        }
    }
}

impl Session for AuthSession {
    fn held_bytes(&self) -> usize {
        self.checking.as_ref().map_or(0, |it| it.waiting_bytes)
    }

    fn handle(&mut self, input: Input<'_>, now: Now, out: &mut Vec<Output>) {
        if self.is_over {
            return;
        }
        match input {
            Input::Opened => {
                out.push(Output::Arm(AUTH_TIMEOUT, self.shared.settings.auth_timeout));
                out.push(Output::Arm(KEEP_ALIVE, self.shared.settings.keep_alive));
            }
            Input::Text(text) => {
                self.pings_missed = 0;
                self.text(text, now, out);
            }
            Input::Pong => self.pings_missed = 0,
            Input::Binary(_) => self.end(1003, "binary messages are not understood", out),
            Input::Reply(ticket, reply) => self.reply(ticket, &reply, now, out),
            Input::Found(ticket, finding) => self.found(ticket, finding, now, out),
            Input::Event(event) => self.event(event, out),
            Input::Timer(AUTH_TIMEOUT) if self.identity.is_none() => {
                self.end(1008, "authentication timeout", out);
            }
            Input::Timer(KEEP_ALIVE) => self.keep_alive(out),
            Input::Timer(_) | Input::Body(_) | Input::Asked | Input::Call(..) | Input::Closed => {}
        }
    }
}

fn is_same(one: &Identity, other: &Identity) -> bool {
    one.user == other.user && one.account == other.account
}

/// The session channel of someone; none if they can have no streams.
fn session_channel(identity: &Identity) -> Option<Name> {
    let account = identity.account.as_deref()?;
    let fits = |id: &str| !id.is_empty() && id.len() <= ID_BYTES_MAX;
    (fits(account) && fits(&identity.user)).then(|| channels::session(account, &identity.user))
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
