//! One Pusher connection: what the peer may do, in which order, and what it is told.
//!
//! An idle session holds its subscriptions and no buffer. Subscriptions are sorted by name, so that
//! thousands on one connection are still found quickly.

use std::borrow::Cow;
use std::sync::Arc;

use super::continuity::Place;
use super::fault::{Ending, Fault};
use super::formats::Format;
use super::frames::{self, Version};
use super::tokens::TOKEN;
use super::two::Two;
use super::user::User;
use super::{Shared, lanes};
use crate::auth::{App, Seat};
use crate::base::ids::{ConnectionId, LaneId, Ticket};
use crate::base::name::{Channel, Name};
use crate::base::time::{Millis, Nanos, Now};
use crate::broker::{Control, Event, Happening, Member, Position, Reply};
use crate::dialects::{Facts, Farewell, Input, Output, Session, TimerKind, Words};
use crate::observe::CloseReason;
use crate::wire::json::{self, Kind as JsonKind, Raw};

/// The keep-alive timer: a period of silence, or the wait for a pong.
const KEEP_ALIVE: TimerKind = TimerKind(0);

/// Acknowledgements one pending subscribe is owed at most; a peer that repeats itself more often than
/// that while it waits hears no more of them.
pub(super) const ACKNOWLEDGEMENTS_MAX: u8 = 16;

/// Members that were asked for and have not come, at most.
pub(super) const ROSTERS_MAX: usize = 64;

/// Silence after which version 2 pings, at least: its clients are told a shorter timeout in good faith, but
/// their libraries ping no more often than that. Source: Sockudo's keep-alive.
const PING_SILENCE_MIN: Millis = Millis(30_000);

/// One peer's side of the protocol.
pub struct PusherSession {
    pub(super) shared: Arc<Shared>,
    /// The app, and this connection's place in it.
    pub(super) seat: Seat,
    pub(super) connection: ConnectionId,
    lane_first: LaneId,
    pub(super) lane: LaneId,
    /// The ping was sent and nothing came since.
    is_pinged: bool,
    ticket_next: u32,
    /// When anything last came.
    heard: Nanos,
    /// When the next client event would be due, were they evenly spaced.
    pub(super) client_event_due: Nanos,
    /// Sorted by name.
    pub(super) subscriptions: Vec<Subscription>,
    /// Acknowledgements that wait for more about a channel; unallocated when there are none.
    pub(super) rosters: Vec<Roster>,
    /// Who is signed in.
    pub(super) user: Option<Box<User>>,
    /// What only version 2 has; none: version 7 is spoken.
    pub(super) two: Option<Box<Two>>,
}

/// A subscription, asked for or standing.
pub(super) struct Subscription {
    pub name: Name,
    /// Who the peer is in it, on presence channels.
    pub member: Option<Arc<Member>>,
    pub ticket: Ticket,
    /// Acknowledgements to send when it stands; 0 once it does.
    pub owed: u8,
    /// In which it takes the channel's events.
    pub lane: LaneId,
    /// Where in the channel's history it begins; version 2 only.
    pub place: Option<Box<Place>>,
}

/// An acknowledgement of what stands already, while more about the channel is asked.
pub(super) struct Roster {
    pub ticket: Ticket,
    pub channel: Name,
    /// How far the channel's history has come, once that is known.
    pub position: Option<Position>,
}

/// What a message is, once its envelope is read.
pub(super) struct Envelope<'a> {
    pub event: Cow<'a, str>,
    pub channel: Option<Cow<'a, str>>,
    pub data: Option<Raw<'a>>,
}

impl PusherSession {
    /// A session for a connection that is about to be greeted.
    pub(super) fn new(shared: Arc<Shared>, seat: Seat, facts: &Facts, two: Option<Two>) -> Self {
        let lane = match (&two, facts.deflate) {
            (None, false) => lanes::SEVEN_TEXT,
            (None, true) => lanes::SEVEN_DEFLATE,
            (Some(two), deflate) => two.lane(deflate).number(),
        };
        Self {
            shared,
            seat,
            connection: facts.connection,
            lane_first: facts.lane_first,
            lane: LaneId(facts.lane_first.0 + lane as u8),
            is_pinged: false,
            ticket_next: 0,
            heard: facts.now.steady,
            client_event_due: Nanos::default(),
            subscriptions: Vec::new(),
            rosters: Vec::new(),
            user: None,
            two: two.map(Box::new),
        }
    }

    /// The version this peer speaks.
    pub(super) fn version(&self) -> Version {
        if self.two.is_some() { Version::Two } else { Version::Seven }
    }

    /// Sends one of the server's own frames, which version 2 gives a name.
    pub(super) fn say(&mut self, mut frame: Vec<u8>, out: &mut Vec<Output>) {
        if let Some(two) = &mut self.two {
            two.name(&mut frame);
        }
        self.send(frame, out);
    }

    /// Sends a finished JSON frame in this peer's format.
    pub(super) fn send(&self, frame: Vec<u8>, out: &mut Vec<Output>) {
        out.push(match self.format() {
            Format::Json => Output::Text(frame),
            format => Output::Binary(format.encoded(&frame)),
        });
    }

    /// Sends an event as one of this dialect's lanes shows it; the frame's bytes, none if it does not.
    pub(super) fn show(&self, lane: LaneId, event: &Event, out: &mut Vec<Output>) -> Option<usize> {
        let mut frame = Vec::new();
        let lane = usize::from(lane.0 - self.lane_first.0);
        if !lanes::render(lane, self.shared.has_versions(), event, &mut frame) {
            return None;
        }
        let bytes = frame.len();
        out.push(match self.format() {
            Format::Json => Output::Text(frame),
            Format::MessagePack | Format::Protobuf => Output::Binary(frame),
        });
        Some(bytes)
    }

    /// What this peer's frames are written in.
    pub(super) fn format(&self) -> Format {
        self.two.as_ref().map_or(Format::Json, |it| it.format)
    }

    /// Tells the peer its mistake.
    pub(super) fn fault(&mut self, fault: &Fault, out: &mut Vec<Output>) {
        let frame = frames::error(self.version(), fault.code(), fault);
        self.say(frame, out);
    }

    pub(super) fn end(&mut self, ending: &Ending) -> Output {
        let mut frame = frames::error(self.version(), ending.code(), ending);
        if let Some(two) = &mut self.two {
            two.name(&mut frame);
        }
        end(ending, self.format().words(frame))
    }

    /// The app this connection belongs to.
    pub(super) fn app(&self) -> &App {
        &self.seat
    }

    /// A name for the next ask.
    pub(super) fn ticket(&mut self) -> Ticket {
        let ticket = Ticket(self.ticket_next);
        self.ticket_next = self.ticket_next.wrapping_add(1);
        ticket
    }

    /// A channel of this connection's app.
    pub(super) fn channel(&self, name: Name) -> Channel {
        Channel { app: self.seat.index, name }
    }

    /// The id of one of this dialect's lanes.
    pub(super) fn lane_id(&self, lane: usize) -> LaneId {
        LaneId(self.lane_first.0 + lane as u8)
    }

    /// The lane this peer takes its events in, unless a subscription wants more.
    pub(super) fn lane(&self) -> LaneId {
        self.lane
    }

    /// The lane in which it hears each annotation as well.
    pub(super) fn lane_with_annotations(&self) -> LaneId {
        let two = lanes::Two::of(usize::from(self.lane.0 - self.lane_first.0));
        two.map_or(self.lane, |it| self.lane_id(it.with_annotations().number()))
    }

    pub(super) fn find(&self, name: &str) -> Result<usize, usize> {
        self.subscriptions.binary_search_by(|it| (*it.name).cmp(name))
    }

    /// The subscription of a channel, asked for or standing.
    pub(super) fn subscription(&mut self, name: &str) -> Option<&mut Subscription> {
        self.find(name).ok().map(|at| &mut self.subscriptions[at])
    }

    fn opened(&mut self, now: Now, out: &mut Vec<Output>) {
        if let Some(two) = &mut self.two {
            two.open(self.connection, now);
        }
        if let Some(ending) = self.entered(now, out) {
            return out.push(self.end(&ending));
        }
        let timeout = self.shared.settings.activity_timeout;
        let frame = frames::connection_established(self.version(), self.connection, timeout);
        self.say(frame, out);
        self.heard = now.steady;
        out.push(Output::Arm(KEEP_ALIVE, self.silence_max()));
    }

    /// How long the peer may be silent before it is pinged.
    fn silence_max(&self) -> Millis {
        let timeout = self.shared.settings.activity_timeout;
        match self.version() {
            Version::Seven => timeout,
            Version::Two => PING_SILENCE_MIN.max(Millis(timeout.0 / 2)),
        }
    }

    /// One lazy timer: input only notes the time, and the timer looks at the note when it comes.
    fn keep_alive(&mut self, now: Now, out: &mut Vec<Output>) {
        if self.is_pinged {
            return out.push(self.end(&Ending::PongMissing));
        }
        let timeout = self.silence_max();
        let silent = Millis(now.steady.since(self.heard).as_millis() as u64);
        if silent < timeout {
            return out.push(Output::Arm(KEEP_ALIVE, Millis(timeout.0 - silent.0)));
        }
        self.is_pinged = true;
        out.push(match self.version() {
            Version::Seven => Output::Text(frames::PING.to_vec()),
            // Its clients take a ping of the application's for an event.
            Version::Two => Output::Ping,
        });
        out.push(Output::Arm(KEEP_ALIVE, self.shared.settings.pong_timeout));
    }

    /// Anything that came is a sign of life.
    fn hear(&mut self, now: Now, out: &mut Vec<Output>) {
        self.heard = now.steady;
        if std::mem::take(&mut self.is_pinged) {
            out.push(Output::Arm(KEEP_ALIVE, self.silence_max()));
        }
    }

    /// A message in this peer's format, unless that is text.
    fn binary(&mut self, bytes: &[u8], now: Now, out: &mut Vec<Output>) -> Result<(), Fault> {
        let text = match self.format() {
            Format::Json => return Err(Fault::Binary),
            format => format.decode(bytes).map_err(Fault::Encoding)?,
        };
        self.message(&text, now, out)
    }

    fn text(&mut self, text: &str, now: Now, out: &mut Vec<Output>) -> Result<(), Fault> {
        match self.format() {
            Format::Json => self.message(text, now, out),
            format => Err(Fault::Text { format: format.name() }),
        }
    }

    /// A message, as JSON.
    fn message(&mut self, text: &str, now: Now, out: &mut Vec<Output>) -> Result<(), Fault> {
        let message = Envelope::read(text)?;
        if message.event.starts_with("client-") {
            return self.client_event(&message, now, out);
        }
        let prefixed = |prefix| message.event.strip_prefix(prefix);
        match prefixed("pusher:").or_else(|| prefixed("sockudo:")) {
            Some("ping") => self.send(frames::pong(self.version()), out),
            Some("subscribe") => return self.subscribe(message.data, out),
            Some("unsubscribe") => return self.unsubscribe(message.data, out),
            Some("signin") => return self.signin(message.data, out),
            Some("auth") => return self.auth(message.data, now, out),
            Some("resume") if self.two.is_some() => return self.resume(message.data, out),
            Some("enable_delta_compression") if self.two.is_some() => {
                return self.enable_delta(message.data, out);
            }
            Some("delta_sync_error") if self.two.is_some() => {
                return self.delta_sync_error(message.data);
            }
            Some("channel_history") if self.two.is_some() => {
                return self.channel_history(message.data, out);
            }
            Some("presence_update") if self.two.is_some() => {
                return self.presence_update(&message, now, out);
            }
            // A pong has done its work by coming. What is not known is not answered: clients send
            // things of their own that other servers understand.
            _ => {}
        }
        Ok(())
    }

    /// How many subscriptions there are, asked for or standing.
    pub(super) fn subscriptions_len(&self) -> usize {
        self.subscriptions.len()
    }

    /// Whether the subscription that was to be asked for with this ticket is still wanted.
    pub(super) fn is_wanted(&self, name: &str, ticket: Ticket) -> bool {
        self.find(name).is_ok_and(|at| self.subscriptions[at].ticket == ticket)
    }

    fn reply(&mut self, ticket: Ticket, reply: Reply, now: Now, out: &mut Vec<Output>) {
        if self.token_reply(ticket, &reply, now, out) || self.user_reply(ticket, &reply, out) {
            return;
        }
        if let Some(at) = self.rosters.iter().position(|it| it.ticket == ticket) {
            return self.roster(at, reply, out);
        }
        let Some(reply) = self.continuity_reply(ticket, reply, out) else { return };
        match reply {
            Reply::Subscribed(subscribed) => self.subscribed(ticket, *subscribed, out),
            Reply::Refused(refusal) => self.refused(ticket, refusal, out),
            Reply::Spent(spent) => self.spent(ticket, spent, out),
            Reply::Summaries(summaries) => self.summaries(ticket, &summaries, out),
            _ => {}
        }
        self.paced(ticket, out);
    }

    fn event(&mut self, event: &Event, now: Now, out: &mut Vec<Output>) {
        match event.happening {
            Happening::Message { .. } => self.tell_changes(event, now, out),
            Happening::Control(Control::Terminate) => out.push(self.end(&Ending::Terminated)),
            Happening::Control(Control::Reconnect) => out.push(self.end(&Ending::Reconnect)),
            Happening::Control(Control::Revoke) => self.revoked(out),
            _ => {}
        }
    }
}

impl Session for PusherSession {
    fn handle(&mut self, input: Input<'_>, now: Now, out: &mut Vec<Output>) {
        match input {
            Input::Opened => self.opened(now, out),
            Input::Text(text) => {
                self.hear(now, out);
                if let Err(error) = self.text(text, now, out) {
                    out.extend(error.counter().map(Output::Count));
                    self.fault(&error, out);
                }
            }
            Input::Binary(bytes) => {
                self.hear(now, out);
                if let Err(error) = self.binary(bytes, now, out) {
                    out.extend(error.counter().map(Output::Count));
                    self.fault(&error, out);
                }
            }
            Input::Reply(ticket, reply) => self.reply(ticket, reply, now, out),
            Input::Event(event) => self.event(event, now, out),
            Input::Call(caller, words) => self.called(caller, words, out),
            Input::Asked => self.asked(out),
            Input::Timer(TOKEN) => self.token_timer(out),
            Input::Timer(KEEP_ALIVE) => self.keep_alive(now, out),
            Input::Pong if self.two.is_some() => {
                self.hear(now, out);
                self.pace_ponged(out);
            }
            Input::Timer(_) | Input::Body(_) | Input::Found(..) | Input::Pong | Input::Closed => {}
        }
    }

    fn farewell(&self, reason: CloseReason) -> Option<Farewell> {
        self.two.as_ref().map(|_| super::farewell(self.version(), self.format(), reason))
    }

    fn held_bytes(&self) -> usize {
        self.two.as_ref().map_or(0, |it| it.held_bytes())
    }
}

/// A connection that is told why it may not be, and ended.
pub struct Refusing(pub(super) Version, pub(super) Ending, pub(super) Format);

impl Session for Refusing {
    fn handle(&mut self, input: Input<'_>, _: Now, out: &mut Vec<Output>) {
        if let Input::Opened = input {
            let frame = frames::error(self.0, self.1.code(), &self.1);
            out.push(end(&self.1, self.2.words(frame)));
        }
    }
}

/// The error frame and the close frame of an ending.
fn end(ending: &Ending, message: Option<Words>) -> Output {
    let mut text = ending.to_string();
    // A close frame's reason has 123 bytes. Source: RFC 6455, section 5.5.
    while text.len() > 123 {
        text.pop();
    }
    let farewell = Farewell { message, code: ending.code(), text: Cow::Owned(text) };
    Output::Close(farewell, ending.reason())
}

/// A user's id: a string that is not empty.
pub(super) fn user_id_of(value: Raw<'_>) -> Option<Cow<'_, str>> {
    value.as_str().filter(|text| !text.is_empty())
}

impl<'a> Envelope<'a> {
    fn read(text: &'a str) -> Result<Self, Fault> {
        let (mut event, mut channel, mut data) = (None, None, None);
        let read = json::read_object(text, |key, value| match &*key {
            "event" => event = value.as_str(),
            "channel" => channel = value.as_str(),
            "data" => data = Some(value),
            _ => {}
        });
        read.map_err(Fault::NotJson)?;
        Ok(Self { event: event.ok_or(Fault::EventMissing)?, channel, data })
    }
}

/// An event's `data` as an object: the object itself, or the string that holds one, decoded into
/// `buffer`.
pub(super) fn object<'a>(
    event: &'static str,
    data: Option<Raw<'a>>,
    buffer: &'a mut String,
) -> Result<Raw<'a>, Fault> {
    let malformed = || Fault::DataMalformed { event };
    let data = data.ok_or_else(malformed)?;
    let data = match data.as_str() {
        Some(text) => {
            *buffer = text.into_owned();
            json::parse_str(buffer).map_err(|_| malformed())?
        }
        None => data,
    };
    if data.kind() != JsonKind::Object {
        return Err(malformed());
    }
    Ok(data)
}

/// A string member that must be there.
pub(super) fn field<'a>(
    data: Raw<'a>,
    event: &'static str,
    field: &'static str,
) -> Result<Cow<'a, str>, Fault> {
    optional(data, event, field)?.ok_or(Fault::FieldMissing { event, field })
}

/// A string member that may be absent or null, but not anything else.
pub(super) fn optional<'a>(
    data: Raw<'a>,
    event: &'static str,
    field: &'static str,
) -> Result<Option<Cow<'a, str>>, Fault> {
    match data.member(field) {
        None => Ok(None),
        Some(value) if value.is_null() => Ok(None),
        Some(value) => value.as_str().map(Some).ok_or(Fault::FieldMissing { event, field }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_session_is_small() {
        assert!(size_of::<PusherSession>() <= 160, "{}", size_of::<PusherSession>());
        assert!(size_of::<Subscription>() <= 40, "{}", size_of::<Subscription>());
    }
}
