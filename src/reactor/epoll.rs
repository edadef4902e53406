//! The driver on epoll, for machines where io_uring is refused.
//!
//! Edge-triggered, and every send is tried at once; what the kernel does not take waits for its edge. The
//! completions are those of the ring: what a call finds out is handed over by the next turn. Read
//! `Socket` first.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use super::buffers::Pool;
use super::local::Accepts;
use super::machine::check;
use super::sending::{Gathers, Sending};
use super::{
    ACCEPT_RETRY, COMPLETIONS_PER_TURN_MAX, Completion, Driver, DriverStats, ListenerId,
    LocalListener, Options, SocketId, UringError, Wait, Waker, machine, sockets,
};
use crate::base::frame::Frame;
use crate::base::ids::CONNECTIONS_PER_SHARD_MAX;
use crate::base::slab::Slab;
use crate::base::time::{Nanos, Now};

/// Edges taken from the kernel at once.
const EVENTS_PER_WAIT: usize = 1024;
/// Buffers one socket may fill before the next socket's turn.
const RECEIVES_PER_ROUND: usize = 4;
/// Connections one listener may accept per turn; the rest follows in the next one.
const ACCEPTS_PER_TURN: usize = 256;

/// What an edge carries: what it is about (8 bits), slot (24), generation (32).
#[derive(Clone, Copy, PartialEq, Eq)]
enum About {
    Socket,
    Listener,
    Waker,
}

fn mark(about: About, slot: u32, generation: u32) -> u64 {
    (about as u64) << 56 | u64::from(slot) << 32 | u64::from(generation)
}

const _: () = assert!(CONNECTIONS_PER_SHARD_MAX <= 1 << 24, "a slot must fit its place in a mark");

/// One stream socket, from its accept until `close`.
struct Socket {
    fd: RawFd,
    /// There may be something to receive: no read has said otherwise since the last edge.
    readable: bool,
    /// It is in the queue of those to be read from.
    queued: bool,
    /// The edge spoke of the peer's end or of an error, so a short read is not the last word.
    hung_up: bool,
    paused: bool,
    ended: bool,
    failed: bool,
    /// The kernel took less than all of the send: its edge for writing is awaited.
    blocked: bool,
    /// Its `Sent` has not been handed over yet.
    sent: bool,
    sending: Sending,
}

struct Listener {
    /// None once it is closed.
    fd: Option<OwnedFd>,
    /// Connections may be waiting: no accept has said otherwise since the last edge.
    ready: bool,
    /// A shortage was reported and no accept has worked since.
    failing: bool,
    retry_at: Option<Nanos>,
}

/// See the module.
pub(super) struct EpollDriver {
    epoll: OwnedFd,
    pool: Pool,
    sockets: Slab<Socket>,
    listeners: Vec<Listener>,
    gathers: Gathers,
    /// Sockets to be read from, in the order in which they became readable.
    readable: VecDeque<SocketId>,
    /// Completions of calls, for the next turn.
    pending: VecDeque<Completion>,
    events: Vec<libc::epoll_event>,
    waker: Waker,
    refusal: Option<UringError>,
    stats: DriverStats,
}

impl EpollDriver {
    /// Opens one; `refusal` is why it is not io_uring, if that was tried.
    pub(super) fn open(options: Options, refusal: Option<UringError>) -> io::Result<Self> {
        // SAFETY: no pointers.
        let epoll = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: a fresh descriptor that nobody else owns.
        let epoll = unsafe { OwnedFd::from_raw_fd(epoll) };
        let waker = Waker::event()?;
        let driver = Self {
            epoll,
            pool: Pool::new(options.receive_buffers, options.receive_buffer_bytes)?,
            sockets: Slab::new(0),
            listeners: Vec::new(),
            gathers: Gathers::default(),
            readable: VecDeque::new(),
            pending: VecDeque::new(),
            events: vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS_PER_WAIT],
            waker,
            refusal,
            stats: DriverStats::default(),
        };
        if let Some(fd) = driver.waker.descriptor() {
            driver.watch(libc::EPOLL_CTL_ADD, fd, libc::EPOLLIN, mark(About::Waker, 0, 0))?;
        }
        Ok(driver)
    }

    fn accept_on(&mut self, id: u16, fd: OwnedFd) -> io::Result<ListenerId> {
        let mark = mark(About::Listener, u32::from(id), 0);
        self.watch(libc::EPOLL_CTL_ADD, fd.as_raw_fd(), libc::EPOLLIN, mark)?;
        self.listeners.push(Listener {
            fd: Some(fd),
            ready: false,
            failing: false,
            retry_at: None,
        });
        Ok(ListenerId(id))
    }

    fn watch(&self, how: i32, fd: RawFd, edges: i32, mark: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: (edges | libc::EPOLLET) as u32, u64: mark };
        // SAFETY: the kernel reads one event.
        check(unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), how, fd, &mut event) }).map(drop)
    }

    fn note(&mut self, event: libc::epoll_event) {
        let (mark, edges) = (event.u64, event.events as i32);
        let id = SocketId { slot: (mark >> 32) as u32 & 0x00ff_ffff, generation: mark as u32 };
        match mark >> 56 {
            about if about == About::Waker as u64 => self.stats.wakes += 1,
            about if about == About::Listener as u64 => {
                if let Some(listener) = self.listeners.get_mut(id.slot as usize) {
                    listener.ready = true;
                }
            }
            _ => {
                let Some(socket) = self.sockets.get_mut(id.slot, id.generation) else { return };
                let ends = libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR;
                if edges & (libc::EPOLLIN | ends) != 0 {
                    socket.readable = true;
                    socket.hung_up |= edges & ends != 0;
                    self.queue_read(id);
                }
                if edges & (libc::EPOLLOUT | libc::EPOLLHUP | libc::EPOLLERR) != 0 {
                    self.unblock(id);
                }
            }
        }
    }

    fn queue_read(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.get_mut(id.slot, id.generation) else { return };
        if socket.readable && !socket.queued && !socket.paused && !socket.ended && !socket.failed {
            socket.queued = true;
            self.readable.push_back(id);
        }
    }

    /// Reads from every socket that may have something, a little from each, round by round.
    fn read(&mut self, completions: &mut Vec<Completion>, most: usize) {
        while completions.len() < most
            && let Some(id) = self.readable.pop_front()
        {
            let Some(socket) = self.sockets.get_mut(id.slot, id.generation) else { continue };
            socket.queued = false;
            for _ in 0..RECEIVES_PER_ROUND {
                let done = socket.paused || socket.ended || socket.failed;
                if completions.len() >= most || !socket.readable || done {
                    break;
                }
                let Some(mut buffer) = self.pool.take() else {
                    // Everything is held by the caller; go on here when something came back.
                    self.stats.receives_starved += 1;
                    socket.queued = true;
                    self.readable.push_front(id);
                    return;
                };
                let space = buffer.space();
                let flags = libc::MSG_DONTWAIT;
                // SAFETY: the kernel writes at most the length of the space.
                let got =
                    unsafe { libc::recv(socket.fd, space.as_mut_ptr().cast(), space.len(), flags) };
                match got {
                    1.. => {
                        self.stats.receives += 1;
                        let got = got as usize;
                        // A short read has emptied the socket, and the next bytes make a new edge.
                        socket.readable = got == space.len() || socket.hung_up;
                        buffer.truncate_to(got);
                        completions.push(Completion::Received { socket: id, bytes: buffer });
                    }
                    0 => {
                        (socket.readable, socket.ended) = (false, true);
                        completions.push(Completion::Ended { socket: id });
                    }
                    _ => match io::Error::last_os_error() {
                        error if error.kind() == io::ErrorKind::WouldBlock => {
                            socket.readable = false
                        }
                        error if error.kind() == io::ErrorKind::Interrupted => {}
                        error => {
                            socket.readable = false;
                            if !std::mem::replace(&mut socket.failed, true) {
                                completions.push(Completion::Failed { socket: id, error });
                            }
                        }
                    },
                }
            }
            self.queue_read(id);
        }
    }

    /// Goes on with a send that the kernel had not room for.
    fn unblock(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.get_mut(id.slot, id.generation) else { return };
        if !std::mem::replace(&mut socket.blocked, false) {
            return;
        }
        let fd = socket.fd;
        self.write(id);
        let still = self.sockets.get(id.slot, id.generation).is_some_and(|socket| socket.blocked);
        if !still {
            // Without this the kernel would report every window the peer opens, send or no send.
            let read = libc::EPOLLIN | libc::EPOLLRDHUP;
            let _ = self.watch(
                libc::EPOLL_CTL_MOD,
                fd,
                read,
                mark(About::Socket, id.slot, id.generation),
            );
        }
    }

    /// Hands what is left of the send to the kernel, as far as it takes it.
    fn write(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.get_mut(id.slot, id.generation) else { return };
        let mut error = None;
        loop {
            let left = socket.sending.left();
            let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
            let took = match &mut socket.sending {
                Sending::Nothing => return,
                Sending::One { frame, gone } => {
                    let rest = frame.get(*gone as usize..).unwrap_or_default();
                    // SAFETY: the kernel reads the rest of the frame during this call.
                    unsafe { libc::send(socket.fd, rest.as_ptr().cast(), rest.len(), flags) }
                }
                // SAFETY: the header describes frames that the gather holds.
                Sending::Many(gather) => unsafe {
                    libc::sendmsg(socket.fd, gather.header(), flags)
                },
            };
            if took >= 0 {
                socket.sending.advance((took as usize).min(left));
                if took as usize >= left {
                    break;
                }
                self.stats.sends_short += 1;
                continue;
            }
            match io::Error::last_os_error() {
                full if full.kind() == io::ErrorKind::WouldBlock => {
                    if !std::mem::replace(&mut socket.blocked, true) {
                        let edges = libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLOUT;
                        let (fd, mark) = (socket.fd, mark(About::Socket, id.slot, id.generation));
                        if let Err(refused) = self.watch(libc::EPOLL_CTL_MOD, fd, edges, mark) {
                            error = Some(refused);
                            break;
                        }
                    }
                    return;
                }
                again if again.kind() == io::ErrorKind::Interrupted => {}
                broken => {
                    error = Some(broken);
                    break;
                }
            }
        }
        let Some(socket) = self.sockets.get_mut(id.slot, id.generation) else { return };
        let sending = std::mem::replace(&mut socket.sending, Sending::Nothing);
        match error {
            None => {
                socket.sent = true;
                self.pending.push_back(Completion::Sent { socket: id, bytes: sending.bytes() });
            }
            Some(error) if !std::mem::replace(&mut socket.failed, true) => {
                self.pending.push_back(Completion::Failed { socket: id, error });
            }
            Some(_) => {}
        }
        self.gathers.give_back(sending);
    }

    fn accept(&mut self, at: usize, completions: &mut Vec<Completion>, most: usize) {
        let listener_id = ListenerId(at as u16);
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(listener) = self.listeners.get_mut(at) else { return };
            let Some(fd) = listener.fd.as_ref().map(AsRawFd::as_raw_fd) else { return };
            if completions.len() >= most || !listener.ready || listener.retry_at.is_some() {
                return;
            }
            let (null, flags) = (std::ptr::null_mut(), libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC);
            // SAFETY: no address is asked for.
            match check(unsafe { libc::accept4(fd, null, null.cast(), flags) }) {
                Ok(fd) => {
                    listener.failing = false;
                    completions.extend(self.adopt(listener_id, fd));
                }
                Err(error) => match error.raw_os_error().unwrap_or_default() {
                    libc::EAGAIN => listener.ready = false,
                    code if sockets::is_one_attempts(code) => {}
                    _ => {
                        listener.retry_at = Some(machine::now().steady + ACCEPT_RETRY);
                        if !std::mem::replace(&mut listener.failing, true) {
                            self.stats.accept_failures += 1;
                            completions
                                .push(Completion::AcceptFailed { listener: listener_id, error });
                        }
                    }
                },
            }
        }
    }

    /// Gives a new descriptor its slot.
    fn adopt(&mut self, listener: ListenerId, fd: RawFd) -> Option<Completion> {
        let (slot, generation) = self.sockets.next_key();
        let edges = libc::EPOLLIN | libc::EPOLLRDHUP;
        let watched =
            self.watch(libc::EPOLL_CTL_ADD, fd, edges, mark(About::Socket, slot, generation));
        if self.sockets.len() >= CONNECTIONS_PER_SHARD_MAX || watched.is_err() {
            sockets::close(fd);
            return None;
        }
        self.stats.accepts += 1;
        // A peer that left again has no address; reading will say that it has gone.
        let peer = sockets::peer(fd).unwrap_or(sockets::NOBODY);
        self.sockets.insert(Socket {
            fd,
            readable: false,
            queued: false,
            hung_up: false,
            paused: false,
            ended: false,
            failed: false,
            blocked: false,
            sent: false,
            sending: Sending::Nothing,
        });
        Some(Completion::Accepted { listener, socket: SocketId { slot, generation }, peer })
    }

    /// Ends the pauses that are over; returns how long the next one still has.
    fn retry_accepts(&mut self) -> Option<Duration> {
        let mut wait: Option<Duration> = None;
        if self.listeners.iter().all(|listener| listener.retry_at.is_none()) {
            return None;
        }
        let now = machine::now().steady;
        for listener in &mut self.listeners {
            match listener.retry_at {
                Some(due) if due <= now => listener.retry_at = None,
                Some(due) => {
                    wait = Some(wait.map_or(due.since(now), |wait| wait.min(due.since(now))))
                }
                None => {}
            }
        }
        wait
    }

    /// Hands over what calls found out, but for that which a close has overtaken.
    fn hand_over_pending(&mut self, completions: &mut Vec<Completion>, most: usize) {
        let room = most.saturating_sub(completions.len()).min(self.pending.len());
        for completion in self.pending.drain(..room) {
            let lives = match &completion {
                Completion::Sent { socket, .. } => {
                    let socket = self.sockets.get_mut(socket.slot, socket.generation);
                    socket.is_some_and(|socket| {
                        socket.sent = false;
                        !socket.failed
                    })
                }
                Completion::Failed { socket, .. } => {
                    self.sockets.get(socket.slot, socket.generation).is_some()
                }
                _ => true,
            };
            if lives {
                completions.push(completion);
            }
        }
    }

    /// True if this turn has something to do without waiting for the kernel.
    fn has_work(&self) -> bool {
        let readable = !self.readable.is_empty() && self.pool.free() > 0;
        let acceptable = |listener: &Listener| {
            listener.ready && listener.retry_at.is_none() && listener.fd.is_some()
        };
        readable || !self.pending.is_empty() || self.listeners.iter().any(acceptable)
    }

    /// Waits for edges and notes them.
    fn wait(&mut self, wait: Option<Duration>) -> io::Result<()> {
        // Rounded up: a wait that ends early would be asked for again at once, until its time has come.
        let milliseconds = match wait {
            Some(span) => i32::try_from(span.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX),
            None => -1,
        };
        self.stats.enters += 1;
        let mut events = std::mem::take(&mut self.events);
        // SAFETY: the kernel writes at most as many events as the vector has.
        let got = check(unsafe {
            libc::epoll_wait(
                self.epoll.as_raw_fd(),
                events.as_mut_ptr(),
                events.len() as i32,
                milliseconds,
            )
        });
        let result = match got {
            Ok(got) => {
                for event in &events[..got as usize] {
                    self.note(*event);
                }
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error),
        };
        self.events = events;
        result
    }
}

impl Driver for EpollDriver {
    fn listen(&mut self, address: SocketAddr) -> io::Result<(ListenerId, SocketAddr)> {
        let id = u16::try_from(self.listeners.len()).map_err(io::Error::other)?;
        let (fd, bound) = sockets::listen(address, libc::SOCK_NONBLOCK)?;
        Ok((self.accept_on(id, fd)?, bound))
    }

    fn listen_local(&mut self, listener: &LocalListener) -> io::Result<Option<ListenerId>> {
        let id = u16::try_from(self.listeners.len()).map_err(io::Error::other)?;
        let shared = listener.share(Accepts::AtOnce)?;
        shared.map(|fd| self.accept_on(id, fd)).transpose()
    }

    fn unlisten(&mut self, listener: ListenerId) {
        let Some(listener) = self.listeners.get_mut(usize::from(listener.0)) else { return };
        listener.retry_at = None;
        if let Some(fd) = listener.fd.take() {
            // Closing alone does not do while others have copies of it.
            let _ = self.watch(libc::EPOLL_CTL_DEL, fd.as_raw_fd(), 0, 0);
        }
    }

    fn send(&mut self, id: SocketId, queue: &mut VecDeque<Frame>) -> bool {
        let Some(socket) = self.sockets.get_mut(id.slot, id.generation) else { return false };
        if queue.is_empty() || !socket.sending.is_nothing() || socket.sent || socket.failed {
            return false;
        }
        socket.sending = self.gathers.take(queue);
        self.stats.sends += 1;
        self.write(id);
        true
    }

    fn pause(&mut self, id: SocketId) {
        if let Some(socket) = self.sockets.get_mut(id.slot, id.generation) {
            socket.paused = true;
        }
    }

    fn resume(&mut self, id: SocketId) {
        if let Some(socket) = self.sockets.get_mut(id.slot, id.generation) {
            socket.paused = false;
            self.queue_read(id);
        }
    }

    fn finish(&mut self, id: SocketId) {
        if let Some(socket) = self.sockets.get(id.slot, id.generation) {
            sockets::shutdown(socket.fd, libc::SHUT_WR);
        }
    }

    fn close(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.remove(id.slot, id.generation) else { return };
        // Nothing is ever in flight here, so the slot is free at once; edges noted for it carry
        // the old generation.
        sockets::shutdown(socket.fd, libc::SHUT_RDWR);
        sockets::close(socket.fd);
        self.gathers.give_back(socket.sending);
        self.pending.push_back(Completion::Closed { socket: id });
    }

    fn turn(&mut self, wait: Wait, completions: &mut Vec<Completion>) -> io::Result<()> {
        let most = completions.len() + COMPLETIONS_PER_TURN_MAX;
        let retry = self.retry_accepts();
        let wait = match wait {
            _ if self.has_work() => Some(Duration::ZERO),
            Wait::No => Some(Duration::ZERO),
            Wait::AtMost(span) => Some(retry.map_or(span, |retry| retry.min(span))),
            Wait::Forever => retry,
        };
        self.wait(wait)?;
        self.hand_over_pending(completions, most);
        for at in 0..self.listeners.len() {
            self.accept(at, completions, most);
        }
        self.read(completions, most);
        Ok(())
    }

    fn now(&self) -> Now {
        machine::now()
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }

    fn stats(&self) -> DriverStats {
        self.stats
    }

    fn describe(&self) -> String {
        match &self.refusal {
            Some(refusal) => format!("epoll ({refusal})"),
            None => "epoll".into(),
        }
    }
}

impl Drop for EpollDriver {
    fn drop(&mut self) {
        for (_, _, socket) in self.sockets.iter() {
            sockets::close(socket.fd);
        }
    }
}
