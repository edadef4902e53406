//! What a shard keeps of one connection beside its outbox.

use std::net::SocketAddr;

use crate::base::ids::ConnectionId;
use crate::base::time::Millis;
use crate::base::wheel::TimerId;
use crate::dialects::{Session, TIMERS_MAX};
use crate::observe::CloseReason;
use crate::reactor::SocketId;
use crate::wire::http::{Chunked, HeadScan};
use crate::wire::websocket;

/// Timers of one connection: the session's own, and one for the phase it is in.
pub const TIMERS: usize = TIMERS_MAX as usize + 1;
/// The timer that bounds the phase: head, body, idle, goodbye.
pub const TIMER_PHASE: u8 = TIMERS_MAX;

/// The socket side of a peer, with the session that talks to it.
pub struct Connection {
    /// Its name everywhere else.
    pub id: ConnectionId,
    /// Its name at the driver.
    pub socket: SocketId,
    /// The peer's address.
    pub peer: SocketAddr,
    /// What is expected from the peer next.
    pub phase: Phase,
    /// The dialect that opened it, once one did.
    pub dialect: Option<u8>,
    /// The WebSocket, from the handshake until nothing the peer sends matters.
    pub stream: Option<Box<Stream>>,
    /// The session, between `open` and the end.
    pub session: Option<Box<dyn Session>>,
    /// The timer that comes when nothing was sent or received for so long.
    pub idle: Option<(u8, Millis)>,
    /// Armed timers, by kind.
    pub timers: [Option<TimerId>; TIMERS],
    /// What of [`Connection::assembly_bytes`] the shard has counted.
    pub assembly_bytes_counted: usize,
    /// Why receiving is paused: a set of `HOLD_` bits; received while 0.
    pub holds: u8,
    /// Accepted although the process has all the connections it may have: gets one refusal.
    pub over_capacity: bool,
    /// The peer has said that it will send no more.
    pub ended: bool,
    /// The world outside remembers it, and is told when its session ends.
    pub stands: bool,
}

/// Paused because the asks of this shard wait in backlogs.
pub const HOLD_BACKLOG: u8 = 1;
/// Paused because the peer pipelines faster than we answer.
pub const HOLD_PIPELINE: u8 = 2;

/// Where a connection is in its life.
pub enum Phase {
    /// HTTP: waiting for a head, or in it.
    Head {
        /// What came of it so far.
        pending: Vec<u8>,
        /// What the parser knows of that.
        scan: HeadScan,
    },
    /// HTTP: the head came, the body comes.
    Body(Box<Exchange>),
    /// HTTP: the session works on the answer; what the peer sends meanwhile waits.
    Answering(Box<Exchange>),
    /// HTTP: the answer is an event stream, which goes on; input is dropped.
    Streaming(Framing),
    /// WebSocket, open.
    WebSocket,
    /// Goodbye is said and what was queued leaves; input is dropped.
    Leaving(Leaving),
}

impl Phase {
    /// Waiting for the first byte of a head.
    pub fn idle() -> Self {
        Self::Head { pending: Vec::new(), scan: HeadScan::default() }
    }
}

/// How the pieces of an event stream are told apart from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Each is a chunk, and the last says so.
    Chunked,
    /// They stand as they are until the connection closes.
    UntilClose,
}

/// One HTTP request being read or answered.
pub struct Exchange {
    /// How its body is framed and how much is missing.
    pub body: BodyState,
    /// The body so far, if it did not come in one piece.
    pub bytes: Vec<u8>,
    /// The most it may have.
    pub bytes_max: usize,
    /// It was answered already; its body is dropped as it comes.
    pub discard: bool,
    /// The method was HEAD: the answer has no body.
    pub is_head: bool,
    /// How the answer is framed if it is an event stream.
    pub framing: Framing,
    /// The connection stays open after the answer.
    pub keep_alive: bool,
    /// Later requests that came before this one was answered.
    pub pending: Vec<u8>,
    /// What becomes of it if its session accepts the WebSocket that it asks for.
    pub upgrade: Option<Box<Upgrade>>,
}

/// A WebSocket that is asked for, and not granted yet.
pub struct Upgrade {
    /// The answer that grants it.
    pub accept: Vec<u8>,
    /// The most a message may have.
    pub message_bytes_max: usize,
    /// It is compressed.
    pub deflate: bool,
}

/// How much of a body is missing.
pub enum BodyState {
    /// Nothing.
    Whole,
    /// This many bytes.
    Length(u64),
    /// As the chunks say.
    Chunked(Chunked),
}

/// An open WebSocket.
pub struct Stream {
    /// Where in a message the peer is.
    pub decoder: websocket::Decoder,
    /// The message so far, if it came in pieces; empty and unallocated between messages.
    pub assembly: Vec<u8>,
    /// The most a message may have, inflated too.
    pub message_bytes_max: u32,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaving {
    /// Why; counted when it is gone.
    pub reason: CloseReason,
    /// What comes next.
    pub step: Step,
}

/// The steps of an ending, each bounded by the phase timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Our close frame is queued or sent; the peer's is awaited.
    AwaitClose,
    /// What is queued leaves, then FIN.
    Flush,
    /// FIN is sent; the peer's is awaited, so that a reset does not eat our last words.
    AwaitEnd,
    /// No more words.
    Now,
}

impl Connection {
    /// A connection that was just accepted.
    pub fn new(id: ConnectionId, socket: SocketId, peer: SocketAddr, over_capacity: bool) -> Self {
        Self {
            id,
            socket,
            peer,
            phase: Phase::idle(),
            dialect: None,
            stream: None,
            session: None,
            idle: None,
            timers: [None; TIMERS],
            assembly_bytes_counted: 0,
            holds: 0,
            over_capacity,
            ended: false,
            stands: false,
        }
    }
}

impl Connection {
    /// Memory held for messages and bodies that are not whole, and for what the session keeps.
    pub fn assembly_bytes(&self) -> usize {
        let http = match &self.phase {
            Phase::Head { pending, .. } => pending.capacity(),
            Phase::Body(exchange) | Phase::Answering(exchange) => {
                exchange.bytes.capacity() + exchange.pending.capacity()
            }
            Phase::Streaming(_) | Phase::WebSocket | Phase::Leaving(_) => 0,
        };
        let session = self.session.as_ref().map_or(0, |session| session.held_bytes());
        http + session + self.stream.as_ref().map_or(0, |stream| stream.assembly.capacity())
    }

    /// Does anything that the peer sends on its WebSocket still matter?
    pub fn reads_websocket(&self) -> bool {
        match self.phase {
            Phase::WebSocket => true,
            Phase::Leaving(leaving) => leaving.step == Step::AwaitClose,
            Phase::Head { .. } | Phase::Body(_) | Phase::Answering(_) | Phase::Streaming(_) => {
                false
            }
        }
    }
}
