//! The only room that meets the kernel.
//!
//! One trait, [`Driver`]: owned values go in and come back with a [`Completion`]; no caller promises
//! a lifetime to the kernel. Three drivers stand behind it (`uring`, `epoll`, `sim`), and one
//! contract suite runs on all three. Everything above is sans-io. Read this file first.

#![allow(dead_code)] // Until the drivers stand.

#[allow(unsafe_code)]
pub mod buffers;
#[allow(unsafe_code)]
pub mod machine;
pub mod sim;
#[allow(unsafe_code)]
mod sockets;
#[allow(unsafe_code)]
mod wake;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::base::frame::Frame;
use crate::base::time::Now;

pub use buffers::Buffer;
pub use wake::Waker;

/// A listening socket of this driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenerId(pub u16);

/// A stream socket of this driver: a slot and which use of the slot. Never reused while anything
/// is in flight for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SocketId {
    /// Its slot; small and dense, fit for indexing a table.
    pub slot: u32,
    /// Which use of the slot.
    pub generation: u32,
}

/// What came back from the kernel.
#[derive(Debug)]
pub enum Completion {
    /// A peer connected. Receiving is armed already; TCP_NODELAY is set.
    Accepted {
        /// Where.
        listener: ListenerId,
        /// The new socket.
        socket: SocketId,
        /// The peer's address.
        peer: SocketAddr,
    },
    /// Accepting failed (out of descriptors, for one). The driver tries again by itself, paced.
    AcceptFailed {
        /// Where.
        listener: ListenerId,
        /// Why.
        error: io::Error,
    },
    /// Bytes arrived; never empty. Dropping `bytes` gives the buffer back.
    Received {
        /// On which socket.
        socket: SocketId,
        /// The bytes, in a pool buffer.
        bytes: Buffer,
    },
    /// The peer will send no more. Sending still works until `close`.
    Ended {
        /// Which socket.
        socket: SocketId,
    },
    /// The whole gather handed over by one `send` is with the kernel.
    Sent {
        /// Which socket.
        socket: SocketId,
        /// How many bytes it had; what was handed over, never less.
        bytes: usize,
    },
    /// The connection broke (reset, time-out, broken pipe). Nothing more comes but `Closed`,
    /// after the caller calls `close`.
    Failed {
        /// Which socket.
        socket: SocketId,
        /// Why.
        error: io::Error,
    },
    /// After `close`: nothing is in flight, the descriptor is closed, the id is dead.
    Closed {
        /// Which socket.
        socket: SocketId,
    },
}

/// How long a `turn` may wait for something to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all: there is work left over.
    No,
    /// Until a completion, a wake, or this much time has passed.
    AtMost(Duration),
    /// Until a completion or a wake.
    Forever,
}

/// What the shard needs from a kernel.
///
/// Every call is non-blocking but `turn`. Calls that name a dead or unknown `SocketId` are ignored:
/// the caller may not have seen its `Closed` yet. At most one send per socket is in flight.
pub trait Driver {
    /// Binds and listens with `SO_REUSEPORT`, and starts accepting. Returns the real address
    /// (port 0 has become a number). Fails as bind and listen do.
    fn listen(&mut self, address: SocketAddr) -> io::Result<(ListenerId, SocketAddr)>;

    /// Stops accepting and closes the listener; connections stay.
    fn unlisten(&mut self, listener: ListenerId);

    /// Takes up to [`GATHER_FRAMES_MAX`] frames from the front of `queue` and sends them as one
    /// gathered send. Short sends are continued inside. One `Sent` (or `Failed`) follows.
    ///
    /// Returns false, and takes nothing, if a send is in flight for this socket, if `queue` is
    /// empty or if the socket is dead.
    fn send(&mut self, socket: SocketId, queue: &mut VecDeque<Frame>) -> bool;

    /// Stops receiving, so that TCP slows the peer down. What is in the kernel's buffer or already
    /// reaped still comes out.
    fn pause(&mut self, socket: SocketId);

    /// Receives again after `pause`.
    fn resume(&mut self, socket: SocketId);

    /// Tells the peer that no more will be sent (FIN). Call it with no send in flight.
    fn finish(&mut self, socket: SocketId);

    /// Ends the socket: shuts it down, cancels everything in flight, waits for the last completion,
    /// closes the descriptor, then says `Closed`. Frames in flight are dropped.
    fn close(&mut self, socket: SocketId);

    /// One turn: submits what is queued, waits as told, reaps, and appends to `completions`. At most
    /// [`COMPLETIONS_PER_TURN_MAX`] are appended; the rest comes with the next turn.
    fn turn(&mut self, wait: Wait, completions: &mut Vec<Completion>) -> io::Result<()>;

    /// Reads both clocks.
    fn now(&self) -> Now;

    /// A handle by which other threads end this driver's wait.
    fn waker(&self) -> Waker;

    /// What it has done since it was opened.
    fn stats(&self) -> DriverStats;

    /// One line for people: which driver, with which kernel features, or why it fell back.
    fn describe(&self) -> String;
}

/// What a driver has done since it was opened; every number only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DriverStats {
    /// Connections accepted.
    pub accepts: u64,
    /// Times accepting stopped for want of descriptors or memory.
    pub accept_failures: u64,
    /// Buffers received.
    pub receives: u64,
    /// Times receiving stopped because every buffer was held.
    pub receives_starved: u64,
    /// Gathered sends taken.
    pub sends: u64,
    /// Sends the kernel took only a part of, continued inside.
    pub sends_short: u64,
    /// Times the kernel had more completions than its queue holds. Anything but 0 wants a larger queue.
    pub completions_overflowed: u64,
    /// Wakes seen.
    pub wakes: u64,
    /// Times the kernel was entered to submit or to wait.
    pub enters: u64,
}

/// Frames in one gathered send.
pub const GATHER_FRAMES_MAX: usize = 64;
/// Completions handed over by one turn.
pub const COMPLETIONS_PER_TURN_MAX: usize = 4096;
