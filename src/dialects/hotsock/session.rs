//! One connection: its greeting, its timers, and one answer for each thing it says.
//!
//! What is said about a channel whose subscription is on its way waits for it, so that everything happens in the
//! order in which it was said. An idle session holds its claims, its subscriptions and no buffer.

use std::collections::VecDeque;
use std::sync::Arc;

use super::calls::Op;
use super::claims::Claims;
use super::doing::{Doing, Origin, What};
use super::envelope::Envelope;
use super::faults::{Code, Fault};
use super::reports::{self, About};
use super::subscriptions::Subscription;
use super::user::User;
use super::{Shared, frames, http};
use crate::auth::Seat;
use crate::base::ids::{ConnectionId, LaneId, Ticket};
use crate::base::name::{Channel, Name};
use crate::base::time::{Millis, Now, UnixMillis};
use crate::broker::{Command, Refusal, Reply};
use crate::dialects::{Caller, Facts, Farewell, Input, Output, Session, TimerKind};
use crate::observe::CloseReason;

/// The peer did not say that it is there.
pub(super) const HEARTBEAT: TimerKind = TimerKind(0);
/// The peer is to hear that we are there.
pub(super) const KEEP_ALIVE: TimerKind = TimerKind(1);
/// The connection has lived as long as one may.
pub(super) const LIFETIME: TimerKind = TimerKind(2);
/// Nothing came or went.
pub(super) const IDLE: TimerKind = TimerKind(3);

/// How often a peer that wants it hears that we are there. Source: our reference, section 3.3.
const KEEP_ALIVE_EVERY: Millis = Millis(570_000);
/// How much later than it should a heartbeat may come.
const HEARTBEAT_GRACE: Millis = Millis(1_000);

/// Messages that wait for subscriptions on their way, and their bytes; a further one is `RATE_LIMITED`.
pub(super) const WAITING_MAX: usize = 256;
const WAITING_BYTES_MAX: usize = 256 * 1024;
/// What one connection may have asked for and not heard of, at most; the same.
pub(super) const DOING_MAX: usize = 1024;

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It is not let in yet.
    Entering,
    /// It is greeted.
    Open,
    /// The end was said: nothing more is.
    Over,
}

/// One peer's side of the protocol.
pub(super) struct HotsockSession {
    pub(super) shared: Arc<Shared>,
    /// This connection's place in its app.
    _seat: Seat,
    pub(super) connection: ConnectionId,
    pub(super) lane_first: LaneId,
    pub(super) deflate: bool,
    stage: Stage,
    ticket_next: u32,
    /// Requests that were given a name.
    requests: u64,
    /// What the connect token says.
    pub(super) claims: Arc<Claims>,
    /// Who the connection is; what later subscriptions inherit.
    pub(super) user: Arc<User>,
    connected: UnixMillis,
    /// Sorted by the name that peers see.
    pub(super) subscriptions: Vec<Subscription>,
    /// How many of them are on their way.
    pub(super) pending: usize,
    /// Memory that they were counted for.
    pub(super) subscriptions_bytes: usize,
    /// Channels to subscribe without being asked, that have not been asked for yet.
    pub(super) autos: VecDeque<Name>,
    /// Channels and the keys behind which their values go on, when the peer has taken those before.
    pub(super) more: Vec<(Name, Name)>,
    /// Asked for and not heard of.
    pub(super) doing: Vec<Doing>,
    /// What waits for a subscription, by the channel's name, in order.
    waiting: VecDeque<(Name, Box<str>)>,
    waiting_bytes: usize,
    /// Where the connection comes from; kept only if it is told.
    pub(super) about: Option<Box<About>>,
}

impl HotsockSession {
    /// A session for a connection that is about to be let in.
    pub(super) fn new(
        shared: Arc<Shared>,
        seat: Seat,
        claims: Claims,
        about: Option<About>,
        facts: &Facts,
    ) -> Self {
        let user = User::new(claims.uid.clone(), claims.umd.clone());
        Self {
            shared,
            _seat: seat,
            connection: facts.connection,
            lane_first: facts.lane_first,
            deflate: facts.deflate,
            stage: Stage::Entering,
            ticket_next: 0,
            requests: 0,
            claims: Arc::new(claims),
            user,
            connected: facts.now.wall,
            subscriptions: Vec::new(),
            pending: 0,
            subscriptions_bytes: 0,
            autos: VecDeque::new(),
            more: Vec::new(),
            doing: Vec::new(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            about: about.map(Box::new),
        }
    }

    /// A name for the next ask.
    pub(super) fn ticket(&mut self) -> Ticket {
        let ticket = Ticket(self.ticket_next);
        self.ticket_next = self.ticket_next.wrapping_add(1);
        ticket
    }

    /// A channel of this connection's app, by the name that peers see.
    pub(super) fn channel(&self, name: &str) -> Channel {
        self.shared.channel(name)
    }

    /// This connection's id.
    pub(super) fn id(&self) -> String {
        String::from_utf8_lossy(&self.shared.ids.id(self.connection)).into_owned()
    }

    /// What reports call the request at hand.
    pub(super) fn request_id(&mut self) -> String {
        self.requests += 1;
        self.shared.ids.request(self.connection, self.requests)
    }

    /// Asks the broker, and remembers what for.
    pub(super) fn ask(
        &mut self,
        origin: Origin,
        sent: &str,
        what: What,
        command: Command,
        out: &mut Vec<Output>,
    ) -> Result<(), Fault> {
        if self.doing.len() >= DOING_MAX {
            return Err(Fault::new(
                Code::RateLimited,
                format!("there are {DOING_MAX} things under way already"),
            ));
        }
        let ticket = self.ticket();
        self.doing.push(Doing { ticket, origin, sent: sent.into(), what });
        out.push(Output::Ask(ticket, command));
        Ok(())
    }

    /// Tells who asked that it is not done.
    pub(super) fn fail(&self, origin: Origin, fault: &Fault, out: &mut Vec<Output>) {
        out.push(match origin {
            Origin::Socket => Output::Text(fault.frame()),
            Origin::Call(caller) => {
                Output::Return(caller, http::answer(fault.code.row().1, fault.body()))
            }
        });
    }

    /// Tells who asked over HTTP that it is done; over WebSocket that is not told.
    pub(super) fn succeed(
        &self,
        origin: Origin,
        status: u16,
        body: impl FnOnce() -> Vec<u8>,
        out: &mut Vec<Output>,
    ) {
        if let Origin::Call(caller) = origin {
            out.push(Output::Return(caller, http::answer(status, body())));
        }
    }

    fn opened(&mut self, now: Now, out: &mut Vec<Output>) {
        self.stage = Stage::Open;
        self.connected = now.wall;
        let lifetime = self.shared.settings.connection_lifetime;
        let expires = UnixMillis(now.wall.0.saturating_add(lifetime.0));
        let (id, secret) =
            (self.shared.ids.id(self.connection), self.shared.ids.secret(self.connection));
        out.push(Output::Text(frames::connected(&id, &secret, expires, &self.user)));
        out.push(Output::Arm(LIFETIME, lifetime));
        out.push(Output::ArmIdle(IDLE, self.shared.settings.idle));
        if self.claims.keep_alive {
            out.push(Output::Arm(KEEP_ALIVE, KEEP_ALIVE_EVERY));
        }
        self.expect_heartbeat(out);
        self.report_connection("hotsock.connected", None, out);
        self.subscribe_automatically(now, out);
    }

    fn expect_heartbeat(&self, out: &mut Vec<Output>) {
        if let Some(timeout) = self.claims.heartbeat {
            out.push(Output::Arm(HEARTBEAT, Millis(timeout.0 + HEARTBEAT_GRACE.0)));
        }
    }

    fn close(&mut self, code: u16, text: &'static str, out: &mut Vec<Output>) {
        self.stage = Stage::Over;
        let farewell = Farewell { message: None, code, text: text.into() };
        out.push(Output::Close(farewell, CloseReason::Session));
    }

    /// A message of the peer's.
    fn text(&mut self, text: &str, now: Now, out: &mut Vec<Output>) {
        let message = match Envelope::read(text) {
            Ok(message) => message,
            Err(fault) => return self.fail(Origin::Socket, &fault, out),
        };
        if let Err(mut fault) = self.message(&message, text, now, out) {
            // The client finds the channel that a fault is about by the name that it used itself.
            if fault.channel.is_none()
                && let Ok(Some(sent)) = message.some_channel()
            {
                fault = fault.on(&sent);
            }
            self.fail(Origin::Socket, &fault, out);
        }
    }

    fn message(
        &mut self,
        message: &Envelope<'_>,
        text: &str,
        now: Now,
        out: &mut Vec<Output>,
    ) -> Result<(), Fault> {
        // Most have an escape-free name: it is looked at where it lies.
        let event = message.event()?;
        if self.has_pending()
            && let Some(sent) = message.some_channel()?
        {
            let name = self.resolve(&sent, None);
            if self.is_pending(&name) {
                let name = Name::from(&*name);
                return self.wait(name, text);
            }
        }
        let Some(own) = event.strip_prefix("hotsock.") else {
            return self.publish(Origin::Socket, None, &event, message, now, out);
        };
        match own {
            "subscribe" => self.subscribe(message, text, now, out),
            "unsubscribe" => self.unsubscribe(message, out),
            "channelStorageSet" => self.set_value(Origin::Socket, None, message, now, out),
            "channelStorageGet" => self.get_value(Origin::Socket, message, out),
            "umdUpdate" => {
                let token = message.data_string("token")?;
                let sent = message.some_channel()?;
                self.update_umd(Origin::Socket, token.as_deref(), sent.as_deref(), now, out)
            }
            "messageReaction" => self.react(Origin::Socket, None, message, out),
            "ping" => {
                out.push(Output::Text(frames::PONG.to_vec()));
                Ok(())
            }
            "heartbeat" => {
                self.expect_heartbeat(out);
                Ok(())
            }
            "pong" => Ok(()),
            _ => {
                let text =
                    "clients may not use this event: names that start with hotsock. are ours";
                Err(Fault::new(Code::InvalidEvent, text))
            }
        }
    }

    /// Keeps a message until a subscription is settled.
    pub(super) fn wait(&mut self, name: Name, text: &str) -> Result<(), Fault> {
        let is_full = self.waiting.len() >= WAITING_MAX
            || self.waiting_bytes + text.len() > WAITING_BYTES_MAX;
        if is_full {
            let text = "too much waits for a subscription that is on its way";
            return Err(Fault::new(Code::RateLimited, text));
        }
        self.waiting_bytes += text.len();
        self.waiting.push_back((name, text.into()));
        Ok(())
    }

    /// Takes what waited and does not have to any more, in order.
    pub(super) fn resume(&mut self, now: Now, out: &mut Vec<Output>) {
        let mut at = 0;
        while let Some((name, _)) = self.waiting.get(at) {
            if self.is_pending(name) {
                at += 1;
                continue;
            }
            let Some((_, text)) = self.waiting.remove(at) else { break };
            self.waiting_bytes -= text.len();
            self.text(&text, now, out);
        }
        if self.waiting.is_empty() {
            self.waiting = VecDeque::new();
        }
    }

    fn reply(&mut self, ticket: Ticket, reply: Reply, now: Now, out: &mut Vec<Output>) {
        if let Some(at) = self.doing.iter().position(|it| it.ticket == ticket) {
            let doing = self.doing.swap_remove(at);
            if self.doing.is_empty() {
                self.doing = Vec::new();
            }
            return self.done(doing, reply, out);
        }
        self.subscription_reply(ticket, reply, now, out);
    }

    /// Asked whether the connection may be: its token is good for one.
    fn asked(&mut self, out: &mut Vec<Output>) {
        let Some(jti) = self.claims.jti.clone() else { return out.push(Output::Accept) };
        let until = self.shared.good_until(self.claims.expires);
        let command = Command::UseOnce(self.shared.app.index, jti, until);
        let ticket = self.ticket();
        self.doing.push(Doing {
            ticket,
            origin: Origin::Socket,
            sent: "".into(),
            what: What::Enter,
        });
        out.push(Output::Ask(ticket, command));
    }

    /// Whether the token was used before.
    pub(super) fn entered(&mut self, reply: Reply, out: &mut Vec<Output>) {
        let fault = match reply {
            Reply::Done => return out.push(Output::Accept),
            Reply::Refused(Refusal::Used) => {
                Fault::new(Code::ConnectPermissionDenied, "the token was used before")
            }
            Reply::Refused(refusal) => Fault::from(refusal),
            _ => Fault::new(Code::Internal, "the server failed"),
        };
        out.push(Output::Respond(http::refuse(&fault)));
    }

    /// Another session, which speaks HTTP, wants something done as this connection.
    fn call(&mut self, caller: Caller, words: &[u8], now: Now, out: &mut Vec<Output>) {
        let origin = Origin::Call(caller);
        let call = http::Call::read(words).filter(|call| {
            self.is_open() && self.shared.ids.is_secret(self.connection, call.secret)
        });
        let Some(call) = call else {
            return self.fail(origin, &http::unknown_credentials(), out);
        };
        let about = self.about.is_some().then(|| About::new(call.ip, call.agent));
        if let Err(fault) = self.operate(call.op, origin, about.as_ref(), call.body, now, out) {
            self.fail(origin, &fault, out);
        }
    }

    fn operate(
        &mut self,
        op: Op,
        origin: Origin,
        about: Option<&About>,
        body: &[u8],
        now: Now,
        out: &mut Vec<Output>,
    ) -> Result<(), Fault> {
        let body = super::calls::body(body)?;
        let message = Envelope::read(body.text())?;
        match op {
            Op::ListMessages => self.list_messages(origin, &message, body, out),
            Op::ListReactions => self.list_reactions(origin, &message, body, out),
            Op::PublishMessage => {
                let event = message.event()?;
                match event.strip_prefix("hotsock.") {
                    None => self.publish(origin, about, &event, &message, now, out),
                    Some("messageReaction") => self.react(origin, about, &message, out),
                    Some(_) => Err(Fault::new(
                        Code::InvalidEvent,
                        "of the names that start with hotsock. only hotsock.messageReaction may be published",
                    )),
                }
            }
            Op::StorageGet => self.get_value(origin, &message, out),
            Op::StorageSet => self.set_value(origin, about, &message, now, out),
            Op::StorageList => self.list_values(origin, &message, body, out),
            Op::ChannelInfo => self.describe(origin, &message, out),
            Op::UmdUpdate => {
                let token = super::envelope::required("token", body.member("token"))?;
                let sent = message.some_channel()?;
                self.update_umd(origin, Some(&token), sent.as_deref(), now, out)
            }
        }
    }

    fn closed(&mut self, now: Now, out: &mut Vec<Output>) {
        for doing in std::mem::take(&mut self.doing) {
            if let Origin::Call(_) = doing.origin {
                self.fail(doing.origin, &http::unknown_credentials(), out);
            }
        }
        if self.about.is_none() || self.stage == Stage::Entering {
            return;
        }
        for subscription in std::mem::take(&mut self.subscriptions) {
            if subscription.is_standing() {
                self.report_subscription("hotsock.unsubscribed", &subscription, out);
            }
        }
        self.report_connection("hotsock.disconnected", Some(now.wall), out);
    }

    fn is_open(&self) -> bool {
        self.stage == Stage::Open
    }

    /// Tells the world outside about this connection, if it wants to know.
    pub(super) fn report_connection(
        &self,
        kind: &'static str,
        ended: Option<UnixMillis>,
        out: &mut Vec<Output>,
    ) {
        let Some(about) = &self.about else { return };
        let id = self.id();
        let connection = reports::Connection {
            id: &id,
            connected: self.connected,
            ended,
            keep_alive: self.claims.keep_alive,
            about,
            user: &self.user,
        };
        out.push(Output::Report(reports::connection(self.shared.app.index, kind, &connection)));
    }

    /// The same about a subscription.
    pub(super) fn report_subscription(
        &self,
        kind: &'static str,
        subscription: &Subscription,
        out: &mut Vec<Output>,
    ) {
        if self.about.is_some() {
            let (app, id) = (self.shared.app.index, self.id());
            let report =
                reports::subscription(app, kind, subscription.name(), &id, &subscription.user);
            out.push(Output::Report(report));
        }
    }

    fn timer(&mut self, kind: TimerKind, out: &mut Vec<Output>) {
        match kind {
            KEEP_ALIVE => {
                out.push(Output::Text(frames::KEEP_ALIVE.to_vec()));
                out.push(Output::Arm(KEEP_ALIVE, KEEP_ALIVE_EVERY));
            }
            // As upstream's platform closes what the application drops.
            HEARTBEAT => self.close(1000, "no heartbeat", out),
            LIFETIME | IDLE => self.close(1001, "Going away", out),
            _ => {}
        }
    }
}

impl Session for HotsockSession {
    fn handle(&mut self, input: Input<'_>, now: Now, out: &mut Vec<Output>) {
        match input {
            Input::Text(text) if self.is_open() => self.text(text, now, out),
            Input::Binary(bytes) if self.is_open() => match std::str::from_utf8(bytes) {
                Ok(text) => self.text(text, now, out),
                Err(_) => self.close(1003, "only text is understood", out),
            },
            Input::Reply(ticket, reply) => self.reply(ticket, reply, now, out),
            Input::Call(caller, words) => self.call(caller, words, now, out),
            Input::Timer(kind) if self.is_open() => self.timer(kind, out),
            Input::Asked => self.asked(out),
            Input::Opened => self.opened(now, out),
            Input::Closed => self.closed(now, out),
            Input::Pong => self.ponged(out),
            // A subscription's filter hands nothing over.
            Input::Text(_)
            | Input::Binary(_)
            | Input::Timer(_)
            | Input::Event(_)
            | Input::Body(_)
            | Input::Found(..) => {}
        }
    }

    fn held_bytes(&self) -> usize {
        let about = self.about.as_ref().map_or(0, |it| it.held_bytes());
        let doing: usize = self.doing.iter().map(Doing::held_bytes).sum();
        self.waiting_bytes
            + self.claims.held_bytes()
            + self.user.held_bytes()
            + self.subscriptions_bytes
            + doing
            + about
    }
}
