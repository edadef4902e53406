//! The driver on io_uring.
//!
//! Accepts and receives are armed once and complete many times, receives into buffers that the kernel
//! picks when bytes arrive, sends go out in one submission per turn. Read `Socket` first, then
//! `UringDriver::complete`: a socket's life is the count of its operations in flight.

mod probe;
mod ring;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use io_uring::types::{CancelBuilder, Fd};
use io_uring::{cqueue, opcode, squeue};

use self::probe::Features;
use self::ring::{BUFFER_GROUP, Buffers, Enter, Ring};
use super::buffers::Pool;
use super::local::Accepts;
use super::sending::{Gathers, Sending};
use super::{
    ACCEPT_RETRY, COMPLETIONS_PER_TURN_MAX, Completion, Driver, DriverStats, ListenerId,
    LocalListener, Options, SocketId, Wait, Waker, machine, sockets,
};
use crate::base::frame::Frame;
use crate::base::ids::CONNECTIONS_PER_SHARD_MAX;
use crate::base::slab::Slab;
use crate::base::time::{Nanos, Now};

const RECEIVE_FLAGS: squeue::Flags = squeue::Flags::BUFFER_SELECT;
/// A full socket makes the kernel wait instead of answering early; a gone one is an error, not a signal.
const SEND_FLAGS: i32 = libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
/// The most of one frame that a single operation is asked to take; the rest continues.
const SEND_BYTES_MAX: usize = 1 << 30;

/// Why io_uring cannot be used here.
#[derive(Debug)]
pub struct UringError {
    /// What was refused.
    pub what: &'static str,
    /// How.
    pub error: io::Error,
}

impl fmt::Display for UringError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "io_uring: {} refused: {}", self.what, self.error)
    }
}

impl std::error::Error for UringError {}

/// What an entry was for. Above it in the entry's mark: the slot and its generation.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Accept,
    Receive,
    Send,
    Cancel,
    CancelAccept,
    Wake,
}

/// What an entry carries, and its completion brings back: operation (8 bits), slot (24), generation (32).
fn mark(operation: Operation, slot: u32, generation: u32) -> u64 {
    (operation as u64) << 56 | u64::from(slot) << 32 | u64::from(generation)
}

fn operation(mark: u64) -> Option<Operation> {
    const ALL: [Operation; 6] = [
        Operation::Accept,
        Operation::Receive,
        Operation::Send,
        Operation::Cancel,
        Operation::CancelAccept,
        Operation::Wake,
    ];
    ALL.get((mark >> 56) as usize).copied()
}

const _: () = assert!(CONNECTIONS_PER_SHARD_MAX <= 1 << 24, "a slot must fit its place in a mark");
const _: () = assert!(size_of::<Socket>() <= 40, "there are tens of thousands of these");

/// One stream socket, from its accept until nothing is in flight after `close`.
struct Socket {
    fd: RawFd,
    /// Entries in flight that name this slot. The descriptor is closed and the slot freed only at zero, so
    /// no completion can land on whoever comes next.
    operations: u16,
    /// A receive is in flight.
    receiving: bool,
    /// A cancel of that receive is in flight.
    cancelling: bool,
    paused: bool,
    /// The receive ended for want of buffers; the slot is in `starved`.
    starving: bool,
    /// The peer's end of stream was reported.
    ended: bool,
    /// A failure was reported: nothing else is.
    failed: bool,
    closing: bool,
    sending: Sending,
}

struct Listener {
    /// None once it is closed.
    fd: Option<OwnedFd>,
    /// Others accept here, too. The kernel wakes the first of those who wait, and an accept that completes many times
    /// stays the first: it would get every connection.
    shared: bool,
    operations: u16,
    closing: bool,
    /// A shortage was reported and no accept has worked since.
    failing: bool,
    retry_at: Option<Nanos>,
}

/// See the module.
pub(super) struct UringDriver(ManuallyDrop<Core>);

struct Core {
    // Dropped in this order: the ring with nothing in flight, then what the kernel might have pointed to.
    ring: Ring,
    buffers: Buffers,
    sockets: Slab<Socket>,
    listeners: Vec<Listener>,
    gathers: Gathers,
    /// Completions found outside of a turn.
    pending: VecDeque<Completion>,
    starved: VecDeque<SocketId>,
    waker: Waker,
    features: Features,
    retries: bool,
    stats: DriverStats,
}

impl UringDriver {
    /// Sets everything up and tries it out. Call it on the thread that will use the driver: the kernel
    /// takes entries from no other.
    pub(super) fn open(options: Options) -> Result<Self, UringError> {
        let refused = |what| move |error| UringError { what, error };
        let pool = Pool::new(options.receive_buffers, options.receive_buffer_bytes)
            .map_err(refused("memory for receive buffers"))?;
        let mut ring = Ring::new(options.submissions, options.completions, options.plain)?;
        let mut buffers = Buffers::new(&ring, pool)?;
        let features = probe::probe(&mut ring, &mut buffers, options.plain)?;
        let waker = Waker::event().map_err(refused("event descriptor"))?;
        ring.enters = 0;
        let mut core = Core {
            ring,
            buffers,
            sockets: Slab::new(0),
            listeners: Vec::new(),
            gathers: Gathers::default(),
            pending: VecDeque::new(),
            starved: VecDeque::new(),
            waker,
            features,
            retries: false,
            stats: DriverStats::default(),
        };
        core.arm_wake();
        Ok(Self(ManuallyDrop::new(core)))
    }
}

impl UringDriver {
    /// Closes listeners and sockets, and waits for the last of them as long as there is progress.
    fn close_all(&mut self) {
        for id in 0..self.0.listeners.len() as u16 {
            self.unlisten(ListenerId(id));
        }
        let sockets = self.0.sockets.iter();
        let ids: Vec<_> =
            sockets.map(|(slot, generation, _)| SocketId { slot, generation }).collect();
        for id in ids {
            self.close(id);
        }
        let mut completions = Vec::new();
        let mut idle_turns = 0;
        while !self.0.sockets.is_empty() && idle_turns < 20 {
            completions.clear();
            if self.turn(Wait::AtMost(Duration::from_millis(50)), &mut completions).is_err() {
                return;
            }
            idle_turns = if completions.is_empty() { idle_turns + 1 } else { 0 };
            for completion in &completions {
                // Accepted while its listener was being closed.
                if let Completion::Accepted { socket, .. } = completion {
                    self.close(*socket);
                }
            }
        }
    }
}

impl Drop for UringDriver {
    fn drop(&mut self) {
        // After a panic nobody knows what the kernel still points to; memory it may write is never freed.
        if std::thread::panicking() {
            return;
        }
        self.close_all();
        if probe::cancel_all(&mut self.0.ring).is_err() {
            return;
        }
        for (_, _, socket) in self.0.sockets.iter() {
            sockets::close(socket.fd);
        }
        // SAFETY: nothing is in flight, and this is the end of `self`.
        unsafe { ManuallyDrop::drop(&mut self.0) };
    }
}

impl Core {
    fn arm_wake(&mut self) {
        let Some(fd) = self.waker.descriptor() else { return };
        let entry = opcode::PollAdd::new(Fd(fd), libc::POLLIN as u32).multi(true).build();
        // SAFETY: the entry points to nothing.
        unsafe { self.ring.push(entry.user_data(mark(Operation::Wake, 0, 0))) };
    }

    fn accept_on(&mut self, id: u16, fd: OwnedFd, shared: bool) -> ListenerId {
        self.listeners.push(Listener {
            fd: Some(fd),
            shared,
            operations: 0,
            closing: false,
            failing: false,
            retry_at: None,
        });
        self.arm_accept(usize::from(id));
        ListenerId(id)
    }

    fn arm_accept(&mut self, id: usize) {
        let Some(listener) = self.listeners.get_mut(id) else { return };
        let Some(fd) = listener.fd.as_ref().map(|fd| Fd(fd.as_raw_fd())) else { return };
        listener.operations += 1;
        listener.retry_at = None;
        let null = std::ptr::null_mut();
        let entry = if self.features.accept_multishot && !listener.shared {
            opcode::AcceptMulti::new(fd).flags(libc::SOCK_CLOEXEC).build()
        } else {
            opcode::Accept::new(fd, null, null.cast()).flags(libc::SOCK_CLOEXEC).build()
        };
        // SAFETY: the entry points to nothing.
        unsafe { self.ring.push(entry.user_data(mark(Operation::Accept, id as u32, 0))) };
    }

    /// Arms receiving if that is what the socket's state asks for.
    fn arm_receive(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.get_mut(id.slot, id.generation) else { return };
        let busy = socket.receiving || socket.starving;
        if busy || socket.paused || socket.ended || socket.failed || socket.closing {
            return;
        }
        socket.receiving = true;
        socket.operations += 1;
        let entry = if self.features.receive_multishot {
            opcode::RecvMulti::new(Fd(socket.fd), BUFFER_GROUP).build()
        } else {
            probe::single_receive(Fd(socket.fd))
        };
        // SAFETY: the entry names a registered group of buffers, which lives as long as the ring.
        unsafe {
            self.ring.push(entry.user_data(mark(Operation::Receive, id.slot, id.generation)))
        };
    }

    fn cancel_receive(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.get_mut(id.slot, id.generation) else { return };
        if !socket.receiving || socket.cancelling || socket.closing {
            return;
        }
        socket.cancelling = true;
        self.cancel(id, Operation::Receive);
    }

    /// Cancels one operation of a socket, by its mark: that is one bucket of the kernel's table, while
    /// "all of this descriptor" would make it walk everything armed on the ring for each close.
    fn cancel(&mut self, id: SocketId, operation: Operation) {
        let Some(socket) = self.sockets.get_mut(id.slot, id.generation) else { return };
        socket.operations += 1;
        let target = CancelBuilder::user_data(mark(operation, id.slot, id.generation));
        let entry = opcode::AsyncCancel2::new(target).build();
        // SAFETY: the entry points to nothing.
        unsafe { self.ring.push(entry.user_data(mark(Operation::Cancel, id.slot, id.generation))) };
    }

    /// Submits what is left of the socket's send.
    fn push_send(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.get_mut(id.slot, id.generation) else { return };
        let entry = match &mut socket.sending {
            Sending::Nothing => return,
            Sending::One { frame, gone } => {
                let rest = frame.get(*gone as usize..).unwrap_or_default();
                let bytes = rest.len().min(SEND_BYTES_MAX) as u32;
                opcode::Send::new(Fd(socket.fd), rest.as_ptr(), bytes).flags(SEND_FLAGS).build()
            }
            Sending::Many(gather) => opcode::SendMsg::new(Fd(socket.fd), gather.header())
                .flags(SEND_FLAGS as u32)
                .build(),
        };
        socket.operations += 1;
        // SAFETY: the bytes belong to frames, the vectors and the header to a box, and `sending` keeps both
        // until this entry's completion (see `Sending`).
        unsafe { self.ring.push(entry.user_data(mark(Operation::Send, id.slot, id.generation))) };
    }

    /// Closes the descriptor and frees the slot if a closing socket has nothing left in flight.
    fn bury(&mut self, id: SocketId) -> Option<Completion> {
        let socket = self.sockets.get(id.slot, id.generation)?;
        if !socket.closing || socket.operations > 0 {
            return None;
        }
        let socket = self.sockets.remove(id.slot, id.generation)?;
        sockets::close(socket.fd);
        self.gathers.give_back(socket.sending);
        Some(Completion::Closed { socket: id })
    }

    /// Reports a failure, once.
    fn fail(&mut self, id: SocketId, error: i32) -> Option<Completion> {
        let socket = self.sockets.get_mut(id.slot, id.generation)?;
        if socket.failed || socket.closing {
            return None;
        }
        socket.failed = true;
        Some(Completion::Failed { socket: id, error: io::Error::from_raw_os_error(error) })
    }

    /// Takes up to `most` completions and turns them into ours; returns how many were taken.
    fn reap(&mut self, most: usize, out: &mut impl Extend<Completion>) -> usize {
        let mut taken = 0;
        let mut batch = [const { MaybeUninit::uninit() }; 64];
        while taken < most {
            let completions = self.ring.take(&mut batch, most - taken);
            if completions.is_empty() {
                break;
            }
            taken += completions.len();
            for completion in completions {
                out.extend(self.complete(completion));
            }
        }
        taken
    }

    fn complete(&mut self, completion: &cqueue::Entry) -> Option<Completion> {
        let (mark, result) = (completion.user_data(), completion.result());
        let id = SocketId { slot: (mark >> 32) as u32 & 0x00ff_ffff, generation: mark as u32 };
        let last = !cqueue::more(completion.flags());
        let operation = operation(mark)?;
        let of_socket =
            matches!(operation, Operation::Receive | Operation::Send | Operation::Cancel);
        debug_assert!(
            !of_socket || self.sockets.get(id.slot, id.generation).is_some(),
            "a completion came after its socket was buried: the count of operations is wrong"
        );
        match operation {
            Operation::Receive => self.received(id, completion),
            Operation::Send => self.sent(id, result),
            Operation::Accept => self.accepted(id.slot as usize, result, last),
            Operation::Wake => {
                self.stats.wakes += 1;
                if last {
                    self.arm_wake();
                }
                None
            }
            Operation::Cancel => {
                let socket = self.sockets.get_mut(id.slot, id.generation)?;
                socket.operations -= 1;
                socket.cancelling = false;
                if socket.paused {
                    // It missed (the receive was just ending and was armed again since): once more.
                    self.cancel_receive(id);
                }
                self.bury(id)
            }
            Operation::CancelAccept => {
                self.listener_operation_ended(id.slot as usize);
                None
            }
        }
    }

    fn received(&mut self, id: SocketId, completion: &cqueue::Entry) -> Option<Completion> {
        let result = completion.result();
        let buffer = cqueue::buffer_select(completion.flags()).map(|buffer| {
            // SAFETY: id and length of a completion just taken from this ring.
            unsafe { self.buffers.claim(buffer, result.max(0) as usize) }
        });
        let socket = self.sockets.get_mut(id.slot, id.generation)?;
        let last = !cqueue::more(completion.flags());
        if last {
            socket.operations -= 1;
            socket.receiving = false;
        }
        if socket.closing {
            return self.bury(id);
        }
        if socket.failed {
            return None;
        }
        let out = match (result, buffer) {
            (1.., Some(bytes)) => {
                self.stats.receives += 1;
                Some(Completion::Received { socket: id, bytes })
            }
            (0, _) => {
                let told = std::mem::replace(&mut socket.ended, true);
                (!told).then_some(Completion::Ended { socket: id })
            }
            _ => match -result {
                libc::ENOBUFS => {
                    socket.starving = true;
                    self.stats.receives_starved += 1;
                    self.starved.push_back(id);
                    self.buffers.grow();
                    None
                }
                // Cancelled by `pause`, or by `resume` right after it; or nothing was there after all.
                libc::ECANCELED | libc::EINTR | libc::EAGAIN => None,
                error => self.fail(id, error),
            },
        };
        if last {
            self.arm_receive(id);
        }
        out
    }

    fn sent(&mut self, id: SocketId, result: i32) -> Option<Completion> {
        let socket = self.sockets.get_mut(id.slot, id.generation)?;
        socket.operations -= 1;
        if socket.closing {
            return self.bury(id);
        }
        let left = socket.sending.left();
        match result {
            0.. if result as usize == left => {
                let bytes = socket.sending.bytes();
                let sending = std::mem::replace(&mut socket.sending, Sending::Nothing);
                self.gathers.give_back(sending);
                (!self.sockets.get(id.slot, id.generation)?.failed)
                    .then_some(Completion::Sent { socket: id, bytes })
            }
            1.. => {
                socket.sending.advance((result as usize).min(left));
                self.stats.sends_short += 1;
                self.push_send(id);
                None
            }
            _ => match -result {
                libc::EINTR | libc::EAGAIN => {
                    self.push_send(id);
                    None
                }
                error => {
                    let sending = std::mem::replace(&mut socket.sending, Sending::Nothing);
                    self.gathers.give_back(sending);
                    self.fail(id, if error == 0 { libc::EPIPE } else { error })
                }
            },
        }
    }

    fn accepted(&mut self, at: usize, result: i32, last: bool) -> Option<Completion> {
        if last {
            self.listener_operation_ended(at);
        }
        let listener = self.listeners.get_mut(at)?;
        let id = ListenerId(at as u16);
        if result >= 0 {
            listener.failing = false;
            if last && !listener.closing {
                self.arm_accept(at);
            }
            return self.adopt(id, result);
        }
        if !last || listener.closing {
            return None;
        }
        let error = -result;
        if error == libc::ECANCELED || sockets::is_one_attempts(error) {
            self.arm_accept(at);
            return None;
        }
        listener.retry_at = Some(machine::now().steady + ACCEPT_RETRY);
        self.retries = true;
        if std::mem::replace(&mut listener.failing, true) {
            return None;
        }
        self.stats.accept_failures += 1;
        Some(Completion::AcceptFailed { listener: id, error: io::Error::from_raw_os_error(error) })
    }

    /// Gives a new descriptor its slot.
    fn adopt(&mut self, listener: ListenerId, fd: RawFd) -> Option<Completion> {
        if self.sockets.len() >= CONNECTIONS_PER_SHARD_MAX {
            sockets::close(fd);
            return None;
        }
        self.stats.accepts += 1;
        // A peer that left again has no address; its receive will say that it has gone.
        let peer = sockets::peer(fd).unwrap_or(sockets::NOBODY);
        let (slot, generation) = self.sockets.insert(Socket {
            fd,
            operations: 0,
            receiving: false,
            cancelling: false,
            paused: false,
            starving: false,
            ended: false,
            failed: false,
            closing: false,
            sending: Sending::Nothing,
        });
        let socket = SocketId { slot, generation };
        self.arm_receive(socket);
        Some(Completion::Accepted { listener, socket, peer })
    }

    fn listener_operation_ended(&mut self, at: usize) {
        let Some(listener) = self.listeners.get_mut(at) else { return };
        listener.operations -= 1;
        if listener.closing && listener.operations == 0 {
            listener.fd = None;
        }
    }

    /// Gives buffers that came back to the kernel, and arms the receives that wait for them.
    fn feed(&mut self) {
        self.buffers.lend();
        let fed = self.starved.len().min(self.buffers.lent());
        for id in self.starved.drain(..fed).collect::<Vec<_>>() {
            if let Some(socket) = self.sockets.get_mut(id.slot, id.generation) {
                socket.starving = false;
                self.arm_receive(id);
            }
        }
    }

    /// Arms the accepts whose pause is over; returns how long the next one still has.
    fn retry_accepts(&mut self) -> Option<Duration> {
        if !self.retries {
            return None;
        }
        let now = machine::now().steady;
        let mut wait: Option<Duration> = None;
        for at in 0..self.listeners.len() {
            match self.listeners[at].retry_at {
                Some(due) if due <= now => self.arm_accept(at),
                Some(due) => {
                    wait = Some(wait.map_or(due.since(now), |wait| wait.min(due.since(now))))
                }
                None => {}
            }
        }
        self.retries = wait.is_some();
        wait
    }

    /// Hands over completions found outside of a turn, but for those that a close has overtaken.
    fn hand_over_pending(&mut self, completions: &mut Vec<Completion>) {
        let most = self.pending.len().min(COMPLETIONS_PER_TURN_MAX);
        for completion in self.pending.drain(..most) {
            let about = match &completion {
                Completion::Received { socket, .. }
                | Completion::Ended { socket }
                | Completion::Sent { socket, .. }
                | Completion::Failed { socket, .. } => Some(*socket),
                _ => None,
            };
            let void = about.is_some_and(|id| {
                self.sockets.get(id.slot, id.generation).is_none_or(|socket| socket.closing)
            });
            if !void {
                completions.push(completion);
            }
        }
    }
}

impl Driver for UringDriver {
    fn listen(&mut self, address: SocketAddr) -> io::Result<(ListenerId, SocketAddr)> {
        let core = &mut *self.0;
        let id = u16::try_from(core.listeners.len()).map_err(io::Error::other)?;
        let (fd, bound) = sockets::listen(address, 0)?;
        Ok((core.accept_on(id, fd, false), bound))
    }

    fn listen_local(&mut self, listener: &LocalListener) -> io::Result<Option<ListenerId>> {
        let core = &mut *self.0;
        let id = u16::try_from(core.listeners.len()).map_err(io::Error::other)?;
        Ok(listener.share(Accepts::Waiting)?.map(|fd| core.accept_on(id, fd, true)))
    }

    fn unlisten(&mut self, listener: ListenerId) {
        let core = &mut *self.0;
        let Some(state) = core.listeners.get_mut(usize::from(listener.0)) else { return };
        if std::mem::replace(&mut state.closing, true) {
            return;
        }
        state.retry_at = None;
        if state.operations == 0 {
            state.fd = None;
            return;
        }
        let Some(fd) = state.fd.as_ref().map(|fd| Fd(fd.as_raw_fd())) else { return };
        state.operations += 1;
        let entry = opcode::AsyncCancel2::new(CancelBuilder::fd(fd).all()).build();
        let mark = mark(Operation::CancelAccept, u32::from(listener.0), 0);
        // SAFETY: the entry points to nothing.
        unsafe { core.ring.push(entry.user_data(mark)) };
    }

    fn send(&mut self, id: SocketId, queue: &mut VecDeque<Frame>) -> bool {
        let core = &mut *self.0;
        let Some(socket) = core.sockets.get_mut(id.slot, id.generation) else { return false };
        if queue.is_empty() || !socket.sending.is_nothing() || socket.failed || socket.closing {
            return false;
        }
        socket.sending = core.gathers.take(queue);
        core.stats.sends += 1;
        let full = core.ring.is_full();
        core.push_send(id);
        if full {
            // A batch has just been submitted. Its completions are taken now, so that a broadcast to
            // more sockets than the completion queue has places does not overflow it.
            let mut pending = std::mem::take(&mut core.pending);
            core.reap(usize::MAX, &mut pending);
            core.pending = pending;
        }
        true
    }

    fn pause(&mut self, id: SocketId) {
        if let Some(socket) = self.0.sockets.get_mut(id.slot, id.generation) {
            socket.paused = true;
            self.0.cancel_receive(id);
        }
    }

    fn resume(&mut self, id: SocketId) {
        if let Some(socket) = self.0.sockets.get_mut(id.slot, id.generation) {
            socket.paused = false;
            // If the cancel is still under way, the receive is armed again when it has ended.
            self.0.arm_receive(id);
        }
    }

    fn finish(&mut self, id: SocketId) {
        if let Some(socket) = self.0.sockets.get(id.slot, id.generation) {
            sockets::shutdown(socket.fd, libc::SHUT_WR);
        }
    }

    fn close(&mut self, id: SocketId) {
        let core = &mut *self.0;
        let Some(socket) = core.sockets.get_mut(id.slot, id.generation) else { return };
        if std::mem::replace(&mut socket.closing, true) {
            return;
        }
        // Directly: the ring would give a shutdown to a worker thread.
        sockets::shutdown(socket.fd, libc::SHUT_RDWR);
        if socket.operations == 0 {
            let closed = core.bury(id);
            core.pending.extend(closed);
            return;
        }
        let (receiving, sending) = (socket.receiving, !socket.sending.is_nothing());
        if receiving {
            core.cancel(id, Operation::Receive);
        }
        if sending {
            core.cancel(id, Operation::Send);
        }
    }

    fn turn(&mut self, wait: Wait, completions: &mut Vec<Completion>) -> io::Result<()> {
        let core = &mut *self.0;
        let before = completions.len();
        let retry = core.retry_accepts();
        core.feed();
        core.hand_over_pending(completions);
        let busy = completions.len() > before || core.ring.has_completions();
        let enter = match (wait, retry) {
            _ if busy => Enter::Submit,
            (Wait::No | Wait::AtMost(Duration::ZERO), _) => Enter::Submit,
            (Wait::AtMost(most), retry) => {
                Enter::WaitAtMost(retry.map_or(most, |retry| retry.min(most)))
            }
            (Wait::Forever, Some(retry)) => Enter::WaitAtMost(retry),
            (Wait::Forever, None) => Enter::Wait,
        };
        // Work the kernel holds back waits while there are completions to take without asking.
        if enter != Enter::Submit || core.ring.wants_enter() || (!busy && core.ring.has_deferred())
        {
            core.ring.enter(enter)?;
        }
        loop {
            let room = COMPLETIONS_PER_TURN_MAX.saturating_sub(completions.len() - before);
            core.reap(room, completions);
            if core.ring.has_completions() || !core.ring.flush_overflow()? {
                return Ok(());
            }
        }
    }

    fn now(&self) -> Now {
        machine::now()
    }

    fn waker(&self) -> Waker {
        self.0.waker.clone()
    }

    fn stats(&self) -> DriverStats {
        DriverStats {
            enters: self.0.ring.enters,
            completions_overflowed: self.0.ring.overflows,
            ..self.0.stats
        }
    }

    fn describe(&self) -> String {
        let form = |multishot| if multishot { "multishot" } else { "one-shot" };
        format!(
            "io_uring ({} accept, {} receive, {} buffers, ring {}registered, {}submission array)",
            form(self.0.features.accept_multishot),
            form(self.0.features.receive_multishot),
            self.0.buffers.count(),
            if self.0.ring.is_registered { "" } else { "not " },
            if self.0.ring.has_no_array { "no " } else { "" },
        )
    }
}
