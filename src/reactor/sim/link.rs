//! One simulated connection: two byte pipes and what each end knows.

use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::reactor::SocketId;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

pub(super) struct Link {
    /// Where the client connects to.
    pub(super) target: SocketAddr,
    /// Where it connects from.
    pub(super) address: SocketAddr,
    pub(super) up: Pipe,
    pub(super) down: Pipe,
    /// The shard and the socket that accepted it.
    pub(super) server: Option<(usize, SocketId)>,
    pub(super) refused: bool,
    /// No byte goes either way any more.
    pub(super) broken: bool,
    /// The client does not read.
    pub(super) stalled: bool,
    /// What the client has read and the test has not taken.
    pub(super) inbox: Vec<u8>,

    // The server's end.
    pub(super) paused: bool,
    /// A receive found no buffer and waits to be fed.
    pub(super) starved: bool,
    /// A `Readable` lies in the shard's queue.
    pub(super) readable: bool,
    /// `Ended` was handed over.
    pub(super) end_told: bool,
    /// The bytes of the send in flight.
    pub(super) sending: Option<usize>,
    pub(super) sent_scheduled: bool,
    pub(super) closed_by_server: bool,
}

impl Link {
    pub(super) fn new(
        target: SocketAddr,
        address: SocketAddr,
        window_up: usize,
        window_down: usize,
    ) -> Self {
        Self {
            target,
            address,
            up: Pipe::new(window_up),
            down: Pipe::new(window_down),
            server: None,
            refused: false,
            broken: false,
            stalled: false,
            inbox: Vec::new(),
            paused: false,
            starved: false,
            readable: false,
            end_told: false,
            sending: None,
            sent_scheduled: false,
            closed_by_server: false,
        }
    }

    pub(super) fn pipe(&mut self, way: Way) -> &mut Pipe {
        match way {
            Way::Up => &mut self.up,
            Way::Down => &mut self.down,
        }
    }

    pub(super) fn forget_bytes(&mut self) {
        self.up.forget_bytes();
        self.down.forget_bytes();
    }
}

/// Bytes going one way: unsent, under way, arrived. The last two share the window.
pub(super) struct Pipe {
    window: usize,
    pub(super) unsent: VecDeque<u8>,
    under_way: VecDeque<Vec<u8>>,
    under_way_bytes: usize,
    pub(super) arrived: VecDeque<u8>,
    /// When the youngest segment arrives: later ones must not overtake it.
    pub(super) last_due: u64,
    /// The sender will send no more.
    pub(super) ending: bool,
    pub(super) end_scheduled: bool,
    /// The end of the stream has arrived.
    pub(super) ended: bool,
}

impl Pipe {
    fn new(window: usize) -> Self {
        Self {
            window,
            unsent: VecDeque::new(),
            under_way: VecDeque::new(),
            under_way_bytes: 0,
            arrived: VecDeque::new(),
            last_due: 0,
            ending: false,
            end_scheduled: false,
            ended: false,
        }
    }

    /// Bytes that may depart now.
    pub(super) fn sendable(&self) -> usize {
        let used = self.under_way_bytes + self.arrived.len();
        self.unsent.len().min(self.window.saturating_sub(used))
    }

    pub(super) fn depart(&mut self, bytes: usize, due: u64) {
        self.under_way.push_back(take_front(&mut self.unsent, bytes));
        self.under_way_bytes += bytes;
        self.last_due = due;
    }

    pub(super) fn arrive(&mut self) {
        if let Some(segment) = self.under_way.pop_front() {
            self.under_way_bytes -= segment.len();
            self.arrived.extend(segment);
        }
    }

    /// Takes up to `most` arrived bytes, which opens the window.
    pub(super) fn read(&mut self, most: usize) -> Vec<u8> {
        let bytes = self.arrived.len().min(most);
        take_front(&mut self.arrived, bytes)
    }

    fn forget_bytes(&mut self) {
        self.unsent = VecDeque::new();
        self.under_way = VecDeque::new();
        self.under_way_bytes = 0;
        self.arrived = VecDeque::new();
    }
}

/// Takes `count` bytes off the front, by the slice: byte by byte is felt when megabytes go by.
fn take_front(bytes: &mut VecDeque<u8>, count: usize) -> Vec<u8> {
    let (first, second) = bytes.as_slices();
    let mut taken = Vec::with_capacity(count);
    taken.extend_from_slice(&first[..first.len().min(count)]);
    taken.extend_from_slice(&second[..count - taken.len()]);
    bytes.drain(..count);
    taken
}
