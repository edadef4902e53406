//! One folder per protocol, sans-io. A dialect is a stateless [`Dialect`] and, per connection, a
//! [`Session`] with one method.
//!
//! Dialects see the broker's nouns, commands and replies, never its machinery.

pub mod admin;
mod api;
pub mod authrequest;
pub mod hotsock;
pub mod hypothesis;
pub mod lanes;
pub mod list;
pub mod mastodon;
pub mod pusher;
pub mod upstream;

pub use self::lanes::Lanes;
pub use self::list::{NAMES, SECTIONS, all};
pub use self::upstream::Upstream;

use std::borrow::Cow;
use std::net::SocketAddr;

use bytes::Bytes;

use crate::auth::{Finding, Inquiry};
use crate::base::ids::{ConnectionId, LaneId, Ticket};
use crate::base::name::Name;
use crate::base::time::{Millis, Now};
use crate::broker::{Command, Event, Payload, Reply, Report};
use crate::observe::{CloseReason, Counter};

/// One wire protocol, all of it; shared by every shard.
pub trait Dialect: Send + Sync {
    /// What logs, metrics and settings call it.
    fn name(&self) -> &'static str;

    /// Its lanes. The table of lanes gives them consecutive [`LaneId`]s, in this order.
    fn lanes(&self) -> &'static [LaneKind];

    /// Looks at a request head. None: not ours, ask the next dialect.
    fn open(&self, request: &Request<'_>, facts: &Facts) -> Option<Opening>;

    /// Appends the payload of `event` for this dialect's lane number `lane`, without a transport
    /// header; false (and nothing appended) if the lane does not show it.
    fn render(&self, lane: usize, event: &Event, out: &mut Vec<u8>) -> bool;

    /// How this dialect refuses a WebSocket handshake that is wrong, on a path of its own; none: not its
    /// path, or in the server's words.
    fn refuse_handshake(&self, _request: &Request<'_>) -> Option<Response> {
        None
    }

    /// How it refuses a request that it opened an exchange for and whose session never hears of it: the body is too
    /// large or malformed, or the server has too much to do. None: in the server's words, as text.
    fn refuse_exchange(&self, _status: u16, _why: &'static str) -> Option<Response> {
        None
    }

    /// Its pane of the console: an ES module, served as it stands. None: it has none.
    fn pane(&self) -> Option<Pane<'_>> {
        None
    }

    /// Its HTTP API as an OpenAPI document, served as it stands. None: it has none, or nobody described it.
    fn openapi(&self) -> Option<Vec<u8>> {
        None
    }

    /// A line for who has just started the server and sees this protocol for the first time: where it is
    /// and what to try. `host` is an address with port that leads here. None: nothing to say.
    fn welcome(&self, _host: &str) -> Option<String> {
        None
    }

    /// What `ringmain publish` is told to publish something that this protocol's peers hear at once. None: `--channel`
    /// and the like.
    fn sample(&self) -> Option<&'static str> {
        None
    }

    /// What who waits for the server to listen reads from its output: a line, once it does. None: nobody waits.
    fn listening(&self, _address: &str) -> Option<String> {
        None
    }

    /// Whether the frames of its lane number `lane` for members who come, change or leave show everyone present.
    fn shows_members(&self, _lane: usize) -> bool {
        false
    }

    /// Whether it tells the world outside anything: [`Dialect::report`] and [`Output::Report`].
    fn reports(&self) -> bool {
        false
    }

    /// Whether it tells the world outside everyone present with each member who comes, changes or leaves.
    fn reports_members(&self) -> bool {
        false
    }

    /// Appends what the world outside is told of an event: see
    /// [`broker::Render::report`](crate::broker::Render::report).
    fn report(&self, _event: &Event, _about: Option<&Payload>, _out: &mut Vec<Report>) {}

    /// Whether it keeps anything on disk whatever the rules of history say.
    fn needs_store(&self) -> bool {
        false
    }

    /// The channel that has a subscription while this client of an app has a connection; none: it knows no clients.
    fn client_channel(&self, _client_id: &str) -> Option<Name> {
        None
    }

    /// What it follows elsewhere, on the back shard; asked for once, at the start. None: it follows nothing.
    fn upstream(&self) -> Option<Upstream> {
        None
    }

    /// Why nobody should be sent here now, in words; none: it is ready.
    fn unready(&self) -> Option<String> {
        None
    }

    /// Appends metrics of its own in the text format of Prometheus, under the names that its protocol's users know.
    /// `delivered` says how many events were queued as frames of its lane of that number.
    fn metrics(&self, _delivered: &dyn Fn(usize) -> u64, _out: &mut String) {}

    /// How to say goodbye when the shard, not the session, ends a WebSocket connection or an event stream: of the
    /// latter the message is the last piece, and there is no code.
    fn farewell(&self, reason: CloseReason) -> Farewell;
}

/// What the console shows of a dialect.
#[derive(Clone, Copy, Debug)]
pub struct Pane<'a> {
    /// What people call the protocol.
    pub title: &'static str,
    /// The id of the one app that it serves; none: it serves them all.
    pub app: Option<&'a str>,
    /// The module's text; what it exports is described in `dialects/admin/console/panes.js`.
    pub script: &'static str,
}

/// How a lane's payload travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneKind {
    /// One WebSocket text message.
    Text,
    /// One WebSocket text message, compressed with permessage-deflate, no context takeover.
    TextDeflate,
    /// One WebSocket binary message.
    Binary,
    /// A piece of an event stream, whole lines, as one chunk (RFC 9112, section 7.1).
    Chunk,
    /// The same for peers that take no chunks: as it stands.
    Plain,
    /// Not at all: its sessions are handed the events, as `Input::Event`.
    Session,
}

/// A request head, checked by `wire::http`.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The method, as it came (upper case by the grammar of all known ones).
    pub method: &'a str,
    /// The path, percent-encoding left as it is, without the query.
    pub path: &'a str,
    /// What followed `?`, if there was one, without it.
    pub query: Option<&'a str>,
    /// The header fields in order, names as they came, values trimmed.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// The peer's address.
    pub peer: SocketAddr,
    /// The head is a well-formed WebSocket handshake (RFC 6455, section 4.2.1).
    pub is_websocket: bool,
    /// The peer takes an answer in chunks: it speaks HTTP/1.1. One that does not hears an event stream in a
    /// [`LaneKind::Plain`] lane.
    pub takes_chunks: bool,
}

impl<'a> Request<'a> {
    /// The first value of a header field, by its name in any case; none if it is absent or not UTF-8.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        let (_, value) = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(value).ok()
    }
}

/// What a session should know about where it lives.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// The connection.
    pub connection: ConnectionId,
    /// The time.
    pub now: Now,
    /// How many shards answer a survey.
    pub shards: u16,
    /// No new work is taken: the process is about to stop.
    pub draining: bool,
    /// The lane id of this dialect's lane 0.
    pub lane_first: LaneId,
    /// The peer offered permessage-deflate and the server takes it.
    pub deflate: bool,
    /// Chance, new for each request: for ids that nobody else has.
    pub chance: u128,
}

/// What becomes of a request.
pub enum Opening {
    /// Answered at once; the body, if any, is read and dropped.
    Respond(Response),
    /// Read the body (up to `body_bytes_max`, else 413), hand it to `session` as `Input::Body`,
    /// and wait for its one `Output::Respond`.
    Exchange {
        /// What answers.
        session: Box<dyn Session>,
        /// How much body there may be.
        body_bytes_max: usize,
    },
    /// Ask the session, as `Input::Asked`, and switch to WebSocket when it says `Output::Accept`, or answer as it says
    /// with `Output::Respond`. Then as [`Opening::WebSocket`].
    Decide {
        /// What decides, and talks.
        session: Box<dyn Session>,
        /// As there.
        message_bytes_max: usize,
        /// As there.
        deflate: bool,
        /// The sub-protocol that accepting selects; one of those that the peer offered.
        protocol: Option<String>,
        /// Header fields of the answer that accepts, beside the handshake's own.
        headers: Vec<(&'static str, Cow<'static, str>)>,
    },
    /// Switch to WebSocket. The session's first input is `Input::Opened`.
    WebSocket {
        /// What talks.
        session: Box<dyn Session>,
        /// How long an inbound message may be, assembled (and inflated).
        message_bytes_max: usize,
        /// Take permessage-deflate if the peer offers it and the server allows it.
        deflate: bool,
    },
}

/// An HTTP answer. The shard adds `Content-Length`, `Date`, `Connection` where needed.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// Header fields beside those.
    pub headers: Vec<(&'static str, Cow<'static, str>)>,
    /// The body.
    pub body: Bytes,
}

/// How a WebSocket connection is ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Farewell {
    /// A last message, if the protocol has one for this.
    pub message: Option<Words>,
    /// The close code; 1005 makes a close frame without one, and with 1006 there is none: the connection is cut. Source:
    /// RFC 6455, section 7.4.1.
    pub code: u16,
    /// The close frame's reason, at most 123 bytes.
    pub text: Cow<'static, str>,
}

/// A last message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Words {
    /// A text message.
    Text(Cow<'static, str>),
    /// A binary message.
    Binary(Bytes),
}

/// What a session hears.
#[derive(Debug)]
pub enum Input<'a> {
    /// A WebSocket is asked for: accept it, now or later, or answer the request.
    Asked,
    /// The WebSocket is open: greet.
    Opened,
    /// A whole text message; UTF-8 was checked.
    Text(&'a str),
    /// A whole binary message.
    Binary(&'a [u8]),
    /// A WebSocket pong, whoever's ping it answers.
    Pong,
    /// The whole body of the request; empty if it had none.
    Body(&'a [u8]),
    /// The answer to an ask.
    Reply(Ticket, Reply),
    /// An event that this session takes part in itself: a control, one its filter wants handed over, or any
    /// in a [`LaneKind::Session`] lane.
    Event(&'a Event),
    /// The answer to an inquiry.
    Found(Ticket, Finding),
    /// Another session calls ([`Command::Call`]): answer with [`Output::Return`], once.
    Call(Caller, &'a [u8]),
    /// A timer it armed has come.
    Timer(TimerKind),
    /// The connection is gone. Of outputs only `Report` and `Return` mean anything; the broker is told by the shard.
    Closed,
}

/// Who called, and what they call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Caller {
    /// The calling connection.
    pub connection: ConnectionId,
    /// Its session's ticket.
    pub ticket: Ticket,
}

/// Which of a session's timers; arming one again moves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimerKind(pub u8);

/// Timers one session may have armed at once: kinds are below this.
pub const TIMERS_MAX: u8 = 4;

/// What a session wants done.
#[derive(Debug)]
pub enum Output {
    /// Send a text message; must be UTF-8. On an event stream: the next piece of it, whole lines.
    Text(Vec<u8>),
    /// Send a binary message.
    Binary(Vec<u8>),
    /// Answer the request. Once, and only in an exchange.
    Respond(Response),
    /// Answer the request with an event stream that ends when the session closes it: status, header fields, and as the
    /// body what it begins with. In an exchange instead of `Respond`, once. The next input is `Input::Opened`; from
    /// there on the session takes events in a lane of [`LaneKind::Chunk`] or, as [`Request::takes_chunks`] says,
    /// [`LaneKind::Plain`]. What the peer sends meanwhile is dropped.
    Stream(Response),
    /// Switch to WebSocket; only after `Input::Asked`, and once. The next input is `Input::Opened`.
    Accept,
    /// Ask the broker.
    Ask(Ticket, Command),
    /// Answer a call.
    Return(Caller, Bytes),
    /// Tell the world outside, durably, when the store is there; with no receiver for it, nobody.
    Report(Report),
    /// Ask the world outside: answered by `Input::Found` with the same ticket, once.
    Inquire(Ticket, Inquiry),
    /// Send a WebSocket ping; what the peer answers is `Input::Pong`.
    Ping,
    /// Send `Input::Timer(kind)` after this long.
    Arm(TimerKind, Millis),
    /// Send `Input::Timer(kind)` when nothing was sent or received for this long, to the second; one kind of each
    /// session.
    ArmIdle(TimerKind, Millis),
    /// Say goodbye and end the connection; what was sent before still leaves.
    Close(Farewell, CloseReason),
    /// Move a counter.
    Count(Counter),
}

/// A dialect's state for one connection.
pub trait Session {
    /// Takes an input and appends what follows from it. The caller drains `out` before the next input.
    fn handle(&mut self, input: Input<'_>, now: Now, out: &mut Vec<Output>);

    /// How its peer is told goodbye when the shard ends the connection; none: as [`Dialect::farewell`] says.
    fn farewell(&self, _reason: CloseReason) -> Option<Farewell> {
        None
    }

    /// Memory, in bytes, that it holds for its peer beside itself and that the peer chose the size of:
    /// messages that wait, filters. Counts towards the shard's bound of what is not whole yet.
    fn held_bytes(&self) -> usize {
        0
    }
}
