//! Who is connected and hears what, counted for all shards together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::names::Kind;

/// How a peer is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// A WebSocket.
    WebSocket,
    /// An event stream.
    EventStream,
}

impl Transport {
    /// Both.
    pub const ALL: [Self; 2] = [Self::WebSocket, Self::EventStream];

    /// What metrics call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
            Self::EventStream => "eventsource",
        }
    }
}

/// What the system tells one connection comes on two channels, its account's and its token's.
const SYSTEM_CHANNELS: u64 = 2;

/// Who is connected and hears what.
#[derive(Debug, Default)]
pub struct Connected {
    of: [OfTransport; 2],
}

#[derive(Debug, Default)]
struct OfTransport {
    clients: AtomicU64,
    streams: [AtomicU64; Kind::ALL.len()],
    /// Messages that sessions sent in their own words: filtered, or of a stream that is called differently.
    sent: AtomicU64,
}

impl Connected {
    fn of(&self, transport: Transport) -> &OfTransport {
        &self.of[transport as usize]
    }

    /// How many are connected.
    pub fn clients(&self, transport: Transport) -> u64 {
        self.of(transport).clients.load(Ordering::Relaxed)
    }

    /// How many streams of this kind they hear.
    pub fn streams(&self, transport: Transport, kind: Kind) -> u64 {
        self.of(transport).streams[kind as usize].load(Ordering::Relaxed)
    }

    /// How many channels of the system they hear.
    pub fn system_channels(&self, transport: Transport) -> u64 {
        SYSTEM_CHANNELS * self.clients(transport)
    }

    /// How many messages their sessions sent in their own words.
    pub fn sent(&self, transport: Transport) -> u64 {
        self.of(transport).sent.load(Ordering::Relaxed)
    }
}

/// One connection's part of these numbers; given back when it is dropped.
pub(super) struct Presence {
    connected: Arc<Connected>,
    transport: Transport,
}

impl Presence {
    /// One more is connected.
    pub(super) fn new(connected: Arc<Connected>, transport: Transport) -> Self {
        connected.of(transport).clients.fetch_add(1, Ordering::Relaxed);
        Self { connected, transport }
    }

    fn stream(&self, kind: Kind) -> &AtomicU64 {
        &self.connected.of(self.transport).streams[kind as usize]
    }

    /// It hears one more stream.
    pub(super) fn add(&self, kind: Kind) {
        self.stream(kind).fetch_add(1, Ordering::Relaxed);
    }

    /// It hears one stream less. Whoever added it says so before this is dropped.
    pub(super) fn remove(&self, kind: Kind) {
        let before = self.stream(kind).fetch_sub(1, Ordering::Relaxed);
        assert!(before > 0, "a stream ended that did not begin");
    }

    /// It was sent a message in words of its own.
    pub(super) fn sent(&self) {
        self.connected.of(self.transport).sent.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        let before = self.connected.of(self.transport).clients.fetch_sub(1, Ordering::Relaxed);
        assert!(before > 0, "a connection ended that did not begin");
    }
}
