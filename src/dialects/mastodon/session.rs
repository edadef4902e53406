//! One WebSocket: who it is, the streams it asks for, and what it is told.
//!
//! While upstream is asked about a stream, the commands that come meanwhile wait, bounded: each is carried out after
//! the one before, as its writer meant it. An idle session holds no buffer.

use std::collections::VecDeque;
use std::sync::Arc;

use super::connected::Transport;
use super::listening::{Listening, Told};
use super::replies::{Fault, UNSUBSCRIBE_FAILED};
use super::streams::{Asked, Stream};
use super::{Arrival, LANE_TEXT, Shared, Shown};
use crate::auth::source::What;
use crate::auth::{Finding, Identity};
use crate::base::ids::LaneId;
use crate::base::time::{Millis, Now};
use crate::broker::{Refusal, Reply};
use crate::dialects::{Farewell, Input, Output, Session, TimerKind};
use crate::observe::{CloseReason, Counter};
use crate::wire::json::{self, Kind, Raw};

/// Asks for a sign of life.
const PING: TimerKind = TimerKind(0);
/// The token ends.
pub(super) const EXPIRY: TimerKind = TimerKind(1);

/// Messages that wait at most, and their bytes.
const WAITING_MAX: usize = 2048;
const WAITING_BYTES_MAX: usize = 256 << 10;

/// Makes a close frame without a code. Source: RFC 6455, section 7.4.1.
const NO_CODE: u16 = 1005;
/// Cuts the connection without a close frame. Source: the same.
const NO_FRAME: u16 = 1006;

/// One peer's side of a WebSocket.
pub(super) struct SocketSession {
    shared: Arc<Shared>,
    lane: LaneId,
    state: State,
}

enum State {
    /// Who it is is not known yet.
    Arriving(Box<Arriving>),
    /// Its streams are carried.
    Here(Box<Here>),
    /// Nothing more is said.
    Over,
}

struct Arriving {
    arrival: Option<Arrival>,
    identity: Option<Arc<Identity>>,
    /// What the address asks for.
    asked: Asked<'static>,
}

struct Here {
    listening: Listening,
    /// The last ping was answered.
    is_alive: bool,
    waiting: Option<Box<Waiting>>,
}

/// What waits for upstream's answer.
struct Waiting {
    step: Step,
    messages: VecDeque<Box<str>>,
    bytes: usize,
}

/// What is asked of upstream.
enum Step {
    /// To follow this.
    Follow(Stream),
    /// Not to, and whether that is the peer's to ask.
    Unfollow(Stream),
}

impl SocketSession {
    /// The session of a peer that shows this.
    pub(super) fn new(
        shared: Arc<Shared>,
        lane_first: LaneId,
        arrival: Arrival,
        asked: Asked<'static>,
    ) -> Self {
        let lane = LaneId(lane_first.0 + LANE_TEXT);
        let arriving = Arriving { arrival: Some(arrival), identity: None, asked };
        Self { shared, lane, state: State::Arriving(Box::new(arriving)) }
    }

    /// Says whether there will be a WebSocket, or asks whose the token is.
    fn asked(&mut self, out: &mut Vec<Output>) {
        let State::Arriving(arriving) = &mut self.state else { return };
        let Some(arrival) = &mut arriving.arrival else { return };
        match arrival.shown.take() {
            Some(Shown::Known(identity)) => {
                arriving.identity = Some(identity);
                out.push(Output::Accept);
            }
            Some(Shown::Ask(inquiry)) => {
                out.push(Output::Inquire(super::TOKEN, inquiry));
            }
            Some(Shown::Fault(fault)) => self.refuse(fault, out),
            None => self.refuse(Fault::MissingToken, out),
        }
    }

    fn refuse(&mut self, fault: Fault, out: &mut Vec<Output>) {
        let State::Arriving(arriving) = std::mem::replace(&mut self.state, State::Over) else {
            return;
        };
        if fault == Fault::InvalidToken {
            out.push(Output::Count(Counter::SignatureFailures));
        }
        let id = arriving.arrival.map(|it| it.request_id).unwrap_or_default();
        out.push(Output::Respond(fault.refusal(&id)));
    }

    fn found(&mut self, finding: Finding, now: Now, out: &mut Vec<Output>) {
        match &mut self.state {
            State::Arriving(arriving) => match self.shared.found(finding) {
                Ok(identity) => {
                    arriving.identity = Some(identity);
                    out.push(Output::Accept);
                }
                Err(fault) => self.refuse(fault, out),
            },
            State::Here(here) => here.found(finding, now, out),
            State::Over => {}
        }
    }

    fn opened(&mut self, now: Now, out: &mut Vec<Output>) {
        let State::Arriving(arriving) = std::mem::replace(&mut self.state, State::Over) else {
            return;
        };
        let Arriving { arrival: Some(arrival), identity: Some(identity), asked } = *arriving else {
            return;
        };
        out.push(Output::Arm(PING, self.shared.settings.ping));
        out.extend(expiry(&self.shared, &identity, now));
        let (shared, transport) = (self.shared.clone(), Transport::WebSocket);
        let listening = Listening::begin(shared, arrival.seat, transport, self.lane, identity, out);
        let mut here = Here { listening, is_alive: true, waiting: None };
        // Without a name the socket starts empty; that is no mistake.
        if asked.name.as_ref().is_some_and(|it| !it.is_empty()) {
            here.subscribe(&asked, out);
        }
        self.state = State::Here(Box::new(here));
    }
}

impl Here {
    fn text(&mut self, text: &str, out: &mut Vec<Output>) {
        let Some(waiting) = &mut self.waiting else { return self.message(text, out) };
        waiting.bytes += text.len();
        if waiting.messages.len() >= WAITING_MAX || waiting.bytes > WAITING_BYTES_MAX {
            return out.push(close(1013, "try again later", CloseReason::Overload));
        }
        waiting.messages.push_back(text.into());
    }

    /// Carries a command out. Whatever is none is passed over.
    fn message(&mut self, text: &str, out: &mut Vec<Output>) {
        let Ok(message) = json::parse_str(text) else { return };
        if message.kind() != Kind::Object {
            return;
        }
        match message.member("type").and_then(Raw::as_str).as_deref() {
            Some("subscribe") => self.subscribe(&Asked::of_message(message), out),
            Some("unsubscribe") => self.unsubscribe(&Asked::of_message(message), out),
            _ => {}
        }
    }

    fn subscribe(&mut self, asked: &Asked<'_>, out: &mut Vec<Output>) {
        let stream = match self.listening.grant(asked) {
            Ok(stream) => stream,
            Err(fault) => return out.push(Output::Text(fault.frame())),
        };
        if self.listening.has(&stream) {
            return;
        }
        if !self.listening.has_room(&stream) {
            // No client is told: it would take an error for one of its other streams'.
            return out.push(Output::Count(Counter::SubscriptionsRefused));
        }
        let follow = |account: &_| What::Follow(stream.follow(account));
        match self.listening.inquiry(follow) {
            Some(inquiry) => {
                out.push(Output::Inquire(self.listening.ticket(), inquiry));
                self.wait(Step::Follow(stream));
            }
            None => match self.listening.alone(&stream) {
                Ok(following) => self.listening.add(stream, following, out),
                Err(fault) => out.push(Output::Text(fault.frame())),
            },
        }
    }

    fn unsubscribe(&mut self, asked: &Asked<'_>, out: &mut Vec<Output>) {
        // Scopes are not looked at here.
        let stream = match self.listening.find(asked) {
            Ok(stream) => stream,
            Err(_) => return out.push(Output::Text(UNSUBSCRIBE_FAILED.into())),
        };
        let unfollow = |account: &_| What::Unfollow(stream.follow(account));
        match self.listening.inquiry(unfollow) {
            // Of a list that is not heard it is told whose it is.
            Some(_) if !self.listening.has(&stream) && stream.list().is_none() => {}
            Some(inquiry) => {
                // From then on upstream judges for this account no more: before it hears of it, nothing comes any more.
                if stream.kind.is_judged() {
                    self.listening.remove(&stream, out);
                }
                out.push(Output::Inquire(self.listening.ticket(), inquiry));
                self.wait(Step::Unfollow(stream));
            }
            None => match self.listening.alone(&stream) {
                Ok(_) => self.listening.remove(&stream, out),
                Err(_) => out.push(Output::Text(UNSUBSCRIBE_FAILED.into())),
            },
        }
    }

    fn wait(&mut self, step: Step) {
        let waiting = self.waiting.take();
        let (messages, bytes) = waiting.map(|it| (it.messages, it.bytes)).unwrap_or_default();
        self.waiting = Some(Box::new(Waiting { step, messages, bytes }));
    }

    /// Takes upstream's answer, and goes on with what waited for it.
    fn found(&mut self, finding: Finding, _now: Now, out: &mut Vec<Output>) {
        let Some(waiting) = self.waiting.take() else { return };
        let Waiting { step, mut messages, mut bytes } = *waiting;
        match (step, finding) {
            (Step::Follow(stream), Finding::Following(following)) => {
                self.listening.add(stream, following, out);
            }
            (Step::Follow(_), finding) => {
                let fault = match finding {
                    Finding::Unknown => Fault::ForeignList,
                    _ => Fault::Unexpected,
                };
                out.push(Output::Text(fault.frame()));
            }
            (Step::Unfollow(stream), Finding::Done) => self.listening.remove(&stream, out),
            (Step::Unfollow(_), _) => out.push(Output::Text(UNSUBSCRIBE_FAILED.into())),
        }
        while self.waiting.is_none()
            && let Some(message) = messages.pop_front()
        {
            bytes -= message.len();
            self.message(&message, out);
        }
        if let Some(waiting) = &mut self.waiting {
            (waiting.messages, waiting.bytes) = (messages, bytes);
        }
    }

    /// A peer that has not answered since the last time is gone, and is cut as upstream does it: its client, if there
    /// still is one, takes that for a lost line and comes back.
    fn ping(&mut self, period: Millis, out: &mut Vec<Output>) {
        if !std::mem::replace(&mut self.is_alive, false) {
            return out.push(close(NO_FRAME, "", CloseReason::Timeout));
        }
        out.push(Output::Ping);
        out.push(Output::Arm(PING, period));
    }
}

impl Session for SocketSession {
    fn handle(&mut self, input: Input<'_>, now: Now, out: &mut Vec<Output>) {
        match (input, &mut self.state) {
            (Input::Asked, _) => self.asked(out),
            (Input::Opened, _) => self.opened(now, out),
            (Input::Found(_, finding), _) => self.found(finding, now, out),
            (Input::Text(text), State::Here(here)) => here.text(text, out),
            (Input::Binary(_), State::Here(_)) => {
                let text = "The mastodon streaming server does not support binary messages";
                out.push(Output::Count(Counter::ProtocolErrors1003));
                out.push(close(1003, text, CloseReason::Protocol));
            }
            (Input::Pong, State::Here(here)) => here.is_alive = true,
            (Input::Event(event), State::Here(here)) => {
                let killed = here.listening.event(event, out) == Told::Killed;
                out.extend(killed.then(|| close(NO_CODE, "", CloseReason::Asked)));
            }
            (Input::Reply(_, Reply::Refused(refusal)), State::Here(_)) => {
                out.extend(broken(refusal));
            }
            (Input::Timer(PING), State::Here(here)) => here.ping(self.shared.settings.ping, out),
            (Input::Timer(EXPIRY), State::Here(_)) => {
                out.push(close(NO_CODE, "", CloseReason::Session));
            }
            (Input::Closed, _) => self.state = State::Over,
            _ => {}
        }
        if matches!(out.last(), Some(Output::Close(..))) {
            self.state = State::Over;
        }
    }

    fn held_bytes(&self) -> usize {
        match &self.state {
            State::Here(here) => {
                let waiting = here.waiting.as_ref().map_or(0, |it| it.bytes);
                waiting + here.listening.names_bytes()
            }
            State::Arriving(_) | State::Over => 0,
        }
    }
}

/// A subscription that the broker does not grant would be a stream that says nothing: the peer comes back instead.
pub(super) fn broken(refusal: Refusal) -> Option<Output> {
    let is_own = matches!(refusal, Refusal::Cancelled);
    (!is_own).then(|| close(1013, "over capacity", CloseReason::Overload))
}

/// Ends with the token, where tokens end.
pub(super) fn expiry(shared: &Shared, identity: &Identity, now: Now) -> Option<Output> {
    let expires = identity.expires.filter(|_| shared.settings.enforces_expiry)?;
    let left = expires.0.saturating_sub(now.wall.0);
    Some(Output::Arm(EXPIRY, Millis(left)))
}

fn close(code: u16, text: &'static str, reason: CloseReason) -> Output {
    Output::Close(Farewell { message: None, code, text: text.into() }, reason)
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
