//! The only room that meets the kernel.
//!
//! One trait, [`Driver`]: owned values go in and come back with a [`Completion`]; no caller promises
//! a lifetime to the kernel. Three drivers stand behind it (`uring`, `epoll`, `sim`), and one
//! contract suite runs on all three. Everything above is sans-io. Read this file first.

#[allow(unsafe_code)]
pub mod buffers;
#[cfg(test)]
#[allow(unsafe_code)]
mod contract;
#[allow(unsafe_code)]
mod epoll;
mod local;
#[allow(unsafe_code)]
pub mod machine;
mod sending;
pub mod sim;
#[allow(unsafe_code)]
mod sockets;
#[allow(unsafe_code)]
mod uring;
#[allow(unsafe_code)]
mod wake;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::base::driver::DriverChoice;
use crate::base::frame::Frame;
use crate::base::time::{Millis, Now};

pub use buffers::Buffer;
pub use local::LocalListener;
pub use uring::UringError;
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

    /// Starts accepting on a Unix socket beside other drivers; its peers are called 127.0.0.1, without a port. None if
    /// the others accept there in another way than this one does: they go on alone.
    fn listen_local(&mut self, _listener: &LocalListener) -> io::Result<Option<ListenerId>> {
        Err(io::ErrorKind::Unsupported.into())
    }

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
/// How long a listener that ran short of descriptors or memory waits before it tries again.
const ACCEPT_RETRY: Millis = Millis(100);

/// What a driver is opened with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Receive buffers, 1 to [`buffers::BUFFERS_MAX`]. Address space only, until they are used.
    pub receive_buffers: u16,
    /// Bytes of each.
    pub receive_buffer_bytes: u32,
    /// Places in the queue to the kernel; a full one is submitted. io_uring only.
    submissions: u32,
    /// Places in the queue from the kernel. io_uring only.
    completions: u32,
    /// Use the plain form of every feature, as on a kernel that lacks them. io_uring only.
    plain: bool,
}

impl Options {
    /// These buffers, and queues of the usual size.
    pub fn new(receive_buffers: u16, receive_buffer_bytes: u32) -> Self {
        Self {
            receive_buffers,
            receive_buffer_bytes,
            submissions: 1024,
            completions: 32_768,
            plain: false,
        }
    }
}

/// Why there is no driver.
#[derive(Debug)]
pub enum OpenError {
    /// io_uring was asked for and cannot be used.
    Uring(UringError),
    /// The machine refuses even what epoll needs: descriptors or memory.
    Epoll(io::Error),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Uring(error) => error.fmt(f),
            OpenError::Epoll(error) => write!(f, "epoll: {error}"),
        }
    }
}

impl std::error::Error for OpenError {}

/// Opens a driver for the calling thread, which must be the one that uses it.
///
/// `Auto` takes io_uring where everything it needs works when tried, and epoll otherwise; then
/// [`Driver::describe`] says what was refused.
pub fn open(choice: DriverChoice, options: Options) -> Result<Box<dyn Driver>, OpenError> {
    let refusal = match choice {
        DriverChoice::Epoll => None,
        DriverChoice::Auto | DriverChoice::Uring => match uring::UringDriver::open(options) {
            Ok(driver) => return Ok(Box::new(driver)),
            Err(error) if choice == DriverChoice::Uring => return Err(OpenError::Uring(error)),
            Err(error) => Some(error),
        },
    };
    let driver = epoll::EpollDriver::open(options, refusal).map_err(OpenError::Epoll)?;
    Ok(Box::new(driver))
}
