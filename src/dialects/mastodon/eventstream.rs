//! One event stream: a request that is answered for as long as its peer listens.

use std::sync::Arc;

use super::connected::Transport;
use super::listening::{Listening, Told};
use super::replies::{self, Fault};
use super::session::{EXPIRY, broken, expiry};
use super::streams::{Asked, Stream};
use super::{Arrival, LANE_CHUNK, Shared, Shown};
use crate::auth::source::{Following, What};
use crate::auth::{Finding, Identity, Inquiry};
use crate::base::ids::LaneId;
use crate::base::time::Now;
use crate::broker::Reply;
use crate::dialects::{Farewell, Input, Output, Session, TimerKind};
use crate::observe::{CloseReason, Counter};

/// Sends the next comment.
const HEARTBEAT: TimerKind = TimerKind(0);

/// A sign of life, which readers skip.
const THUMP: &[u8] = b":thump\n\n";

/// One peer's side of an event stream.
pub(super) struct EventStreamSession {
    shared: Arc<Shared>,
    lane: LaneId,
    state: State,
}

enum State {
    /// It is found out who asks and whether they may.
    Asking(Box<Asking>),
    /// The stream is carried.
    Here(Box<Listening>),
    /// Nothing more is said.
    Over,
}

struct Asking {
    arrival: Arrival,
    asked: Asked<'static>,
    identity: Option<Arc<Identity>>,
    stream: Option<Stream>,
    following: Option<Following>,
}

impl EventStreamSession {
    /// The session of a peer that shows this. `takes_chunks` as in [`crate::dialects::Request`].
    pub(super) fn new(
        shared: Arc<Shared>,
        lane_first: LaneId,
        takes_chunks: bool,
        arrival: Arrival,
        asked: Asked<'static>,
    ) -> Self {
        let lane = LaneId(lane_first.0 + LANE_CHUNK + u8::from(!takes_chunks));
        let (identity, stream, following) = (None, None, None);
        let asking = Asking { arrival, asked, identity, stream, following };
        Self { shared, lane, state: State::Asking(Box::new(asking)) }
    }

    fn asked(&mut self, out: &mut Vec<Output>) {
        let State::Asking(asking) = &mut self.state else { return };
        match asking.arrival.shown.take() {
            Some(Shown::Known(identity)) => self.entered(identity, out),
            Some(Shown::Ask(inquiry)) => out.push(Output::Inquire(super::TOKEN, inquiry)),
            Some(Shown::Fault(fault)) => self.refuse(fault, out),
            None => self.refuse(Fault::MissingToken, out),
        }
    }

    fn refuse(&mut self, fault: Fault, out: &mut Vec<Output>) {
        let State::Asking(asking) = std::mem::replace(&mut self.state, State::Over) else { return };
        if fault == Fault::InvalidToken {
            out.push(Output::Count(Counter::SignatureFailures));
        }
        out.push(Output::Respond(fault.response(&asking.arrival.request_id)));
    }

    /// It is known who asks: may they?
    fn entered(&mut self, identity: Arc<Identity>, out: &mut Vec<Output>) {
        let State::Asking(asking) = &mut self.state else { return };
        let bridge = &self.shared.app.settings.bridge;
        let stream = match Stream::grant(&asking.asked, &identity, bridge) {
            Ok(stream) => stream,
            Err(fault) => return self.refuse(fault, out),
        };
        asking.identity = Some(identity.clone());
        if self.shared.source.has_upstream {
            let what = What::Follow(stream.follow(&identity.user));
            let inquiry = Inquiry { source: self.shared.source.clone(), what };
            asking.stream = Some(stream);
            return out.push(Output::Inquire(super::FOLLOW, inquiry));
        }
        match self.shared.alone(&identity.user, &stream) {
            Ok(following) => {
                asking.stream = Some(stream);
                self.begin(following, out);
            }
            Err(fault) => self.refuse(fault, out),
        }
    }

    fn begin(&mut self, following: Following, out: &mut Vec<Output>) {
        let State::Asking(asking) = &mut self.state else { return };
        asking.following = Some(following);
        out.push(Output::Stream(replies::stream(&asking.arrival.request_id)));
    }

    fn found(&mut self, finding: Finding, out: &mut Vec<Output>) {
        let State::Asking(asking) = &mut self.state else { return };
        if asking.identity.is_none() {
            return match self.shared.found(finding) {
                Ok(identity) => self.entered(identity, out),
                Err(fault) => self.refuse(fault, out),
            };
        }
        match finding {
            Finding::Following(following) => self.begin(following, out),
            Finding::Unknown => self.refuse(Fault::ForeignList, out),
            _ => self.refuse(Fault::Unexpected, out),
        }
    }

    fn opened(&mut self, now: Now, out: &mut Vec<Output>) {
        let State::Asking(asking) = std::mem::replace(&mut self.state, State::Over) else { return };
        let Asking {
            arrival,
            identity: Some(identity),
            stream: Some(stream),
            following: Some(following),
            ..
        } = *asking
        else {
            return;
        };
        out.push(Output::Arm(HEARTBEAT, self.shared.settings.heartbeat));
        out.extend(expiry(&self.shared, &identity, now));
        let (shared, transport) = (self.shared.clone(), Transport::EventStream);
        let mut listening =
            Listening::begin(shared, arrival.seat, transport, self.lane, identity, out);
        listening.add(stream, following, out);
        self.state = State::Here(Box::new(listening));
    }
}

fn end(reason: CloseReason) -> Output {
    Output::Close(Farewell { message: None, code: 1000, text: "".into() }, reason)
}

impl Session for EventStreamSession {
    fn handle(&mut self, input: Input<'_>, now: Now, out: &mut Vec<Output>) {
        match (input, &mut self.state) {
            (Input::Body(_), _) => self.asked(out),
            (Input::Found(_, finding), _) => self.found(finding, out),
            (Input::Opened, _) => self.opened(now, out),
            (Input::Event(event), State::Here(listening)) => {
                let killed = listening.event(event, out) == Told::Killed;
                out.extend(killed.then(|| end(CloseReason::Asked)));
            }
            (Input::Reply(_, Reply::Refused(refusal)), State::Here(_)) => {
                out.extend(broken(refusal));
            }
            (Input::Timer(HEARTBEAT), State::Here(_)) => {
                out.push(Output::Text(THUMP.to_vec()));
                out.push(Output::Arm(HEARTBEAT, self.shared.settings.heartbeat));
            }
            (Input::Timer(EXPIRY), State::Here(_)) => {
                out.push(end(CloseReason::Session));
            }
            (Input::Closed, _) => self.state = State::Over,
            _ => {}
        }
        if matches!(out.last(), Some(Output::Close(..))) {
            self.state = State::Over;
        }
    }
}
