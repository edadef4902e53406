//! The simulated driver: the same calls and completions as the kernel's, on a [`World`].

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::link::Way;
use super::{Event, Inner, RETRY, World};
use crate::base::frame::Frame;
use crate::base::time::Now;
use crate::reactor::buffers::Pool;
use crate::reactor::{
    COMPLETIONS_PER_TURN_MAX, Completion, Driver, DriverStats, GATHER_FRAMES_MAX, ListenerId,
    SocketId, Wait, Waker,
};

/// What one driver keeps in the world, so that others' events can reach it.
pub(super) struct Shard {
    listeners: Vec<Option<SocketAddr>>,
    slots: Vec<Slot>,
    slots_free: Vec<u32>,
    pub(super) ready: VecDeque<Ready>,
    pool: Pool,
    waker: Waker,
    woken: Arc<AtomicBool>,
    parked: Parked,
    stats: DriverStats,
    open: bool,
}

#[derive(Clone, Copy)]
struct Slot {
    generation: u32,
    link: Option<usize>,
}

/// Whether the shard would be waiting now if waiting took time.
#[derive(Clone, Copy)]
enum Parked {
    No,
    Until(u64),
    Forever,
}

/// What the next turn will look at.
pub(super) enum Ready {
    Accept { listener: ListenerId, link: usize },
    AcceptFailed { listener: ListenerId },
    Readable { socket: SocketId },
    Sent { socket: SocketId, bytes: usize },
    Failed { socket: SocketId, error: i32 },
    Closed { socket: SocketId },
}

impl Shard {
    fn new(pool: Pool) -> Self {
        let (waker, woken) = Waker::flag();
        Self {
            listeners: Vec::new(),
            slots: Vec::new(),
            slots_free: Vec::new(),
            ready: VecDeque::new(),
            pool,
            waker,
            woken,
            parked: Parked::No,
            stats: DriverStats::default(),
            open: false,
        }
    }

    pub(super) fn listeners_of(
        &self,
        address: SocketAddr,
    ) -> impl Iterator<Item = ListenerId> + '_ {
        let hears = move |bound: SocketAddr| {
            bound.port() == address.port()
                && (bound.ip() == address.ip() || bound.ip().is_unspecified())
        };
        let numbered = self.listeners.iter().enumerate();
        numbered
            .filter(move |(_, bound)| bound.is_some_and(hears))
            .map(|(id, _)| ListenerId(id as u16))
    }

    pub(super) fn is_woken(&self) -> bool {
        self.woken.load(Ordering::Acquire)
    }

    pub(super) fn is_idle(&self, now: u64) -> bool {
        let waits = match self.parked {
            Parked::No => false,
            Parked::Until(end) => end > now,
            Parked::Forever => true,
        };
        !self.open || (waits && self.ready.is_empty() && !self.is_woken())
    }

    pub(super) fn wait_ends(&self) -> Option<u64> {
        match self.parked {
            Parked::Until(end) if self.open => Some(end),
            _ => None,
        }
    }

    /// The link of a living socket.
    fn link(&self, socket: SocketId) -> Option<usize> {
        let slot = self.slots.get(socket.slot as usize)?;
        if slot.generation == socket.generation { slot.link } else { None }
    }

    fn occupy(&mut self, link: usize) -> SocketId {
        let slot = self.slots_free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, link: None });
            self.slots.len() as u32 - 1
        });
        let state = &mut self.slots[slot as usize];
        state.link = Some(link);
        SocketId { slot, generation: state.generation }
    }

    fn vacate(&mut self, socket: SocketId) {
        let state = &mut self.slots[socket.slot as usize];
        state.link = None;
        state.generation = state.generation.wrapping_add(1);
        // The last freed is the next used: a stale id is then most likely to meet a stranger.
        self.slots_free.push(socket.slot);
    }
}

/// One shard's end of a [`World`]. Dropping it breaks its connections, as a crash does.
pub struct SimDriver {
    world: World,
    shard: usize,
}

impl SimDriver {
    pub(super) fn new(world: World, shard: usize, buffers: u16, buffer_bytes: u32) -> Self {
        let pool = Pool::new(buffers, buffer_bytes).expect("a pool that can be mapped");
        let mut inner = world.0.borrow_mut();
        while inner.shards.len() <= shard {
            // Stand-ins for shards whose drivers come later; one buffer each costs nothing.
            inner.shards.push(Shard::new(pool.clone()));
        }
        assert!(!inner.shards[shard].open, "shard {shard} has a driver already");
        inner.shards[shard] = Shard { open: true, ..Shard::new(pool) };
        drop(inner);
        Self { world, shard }
    }

    /// Runs `change` on the world, this shard's number and the link of a living socket; any such call
    /// means that the shard has something to do.
    fn with_link(&mut self, socket: SocketId, change: impl FnOnce(&mut Inner, usize, usize)) {
        let mut inner = self.world.0.borrow_mut();
        let shard = &mut inner.shards[self.shard];
        if let Some(link) = shard.link(socket) {
            shard.parked = Parked::No;
            if !inner.links[link].closed_by_server {
                change(&mut inner, self.shard, link);
            }
        }
    }
}

impl Driver for SimDriver {
    fn listen(&mut self, mut address: SocketAddr) -> io::Result<(ListenerId, SocketAddr)> {
        let mut inner = self.world.0.borrow_mut();
        if address.port() == 0 {
            address.set_port(inner.port_next);
            inner.port_next += 1;
        }
        let listeners = &mut inner.shards[self.shard].listeners;
        let id = u16::try_from(listeners.len()).map_err(io::Error::other)?;
        listeners.push(Some(address));
        Ok((ListenerId(id), address))
    }

    fn unlisten(&mut self, listener: ListenerId) {
        let mut inner = self.world.0.borrow_mut();
        let shard = &mut inner.shards[self.shard];
        if let Some(address) = shard.listeners.get_mut(usize::from(listener.0)) {
            *address = None;
        }
        // As the kernel does: who waits in the queue of a listener that goes is sent away.
        let mut waiting = Vec::new();
        shard.ready.retain(|ready| match ready {
            Ready::Accept { listener: at, link } if *at == listener => {
                waiting.push(*link);
                false
            }
            _ => true,
        });
        for link in waiting {
            inner.break_link(link, libc::ECONNRESET);
        }
    }

    fn send(&mut self, socket: SocketId, queue: &mut VecDeque<Frame>) -> bool {
        let mut taken = false;
        self.with_link(socket, |inner, shard, link| {
            let state = &mut inner.links[link];
            if queue.is_empty() || state.sending.is_some() || state.down.ending || state.broken {
                return;
            }
            let gather = queue.len().min(GATHER_FRAMES_MAX);
            let mut bytes = 0;
            for frame in queue.drain(..gather) {
                bytes += frame.len();
                state.down.unsent.extend(frame.iter());
            }
            state.sending = Some(bytes);
            state.sent_scheduled = false;
            inner.shards[shard].stats.sends += 1;
            inner.pump(link, Way::Down);
            taken = true;
        });
        taken
    }

    fn pause(&mut self, socket: SocketId) {
        self.with_link(socket, |inner, _, link| inner.links[link].paused = true);
    }

    fn resume(&mut self, socket: SocketId) {
        self.with_link(socket, |inner, _, link| {
            inner.links[link].paused = false;
            inner.mark_readable(link);
        });
    }

    fn finish(&mut self, socket: SocketId) {
        self.with_link(socket, |inner, _, link| {
            inner.links[link].down.ending = true;
            inner.pump(link, Way::Down);
        });
    }

    fn close(&mut self, socket: SocketId) {
        self.with_link(socket, |inner, shard, link| {
            let state = &mut inner.links[link];
            state.closed_by_server = true;
            state.sending = None;
            state.down.unsent.clear();
            state.down.ending = true;
            // Closing on bytes nobody read makes the kernel send a reset.
            if state.up.arrived.is_empty() {
                inner.pump(link, Way::Down);
            } else {
                let due = inner.due();
                inner.schedule(due, Event::Break { link });
            }
            inner.shards[shard].ready.push_back(Ready::Closed { socket });
        });
    }

    fn turn(&mut self, wait: Wait, completions: &mut Vec<Completion>) -> io::Result<()> {
        let mut inner = self.world.0.borrow_mut();
        let now = inner.now;
        inner.run_until(now);
        let before = completions.len();
        // What is put back during the turn is looked at in the next one, or a full pool would spin here.
        for _ in 0..inner.shards[self.shard].ready.len() {
            if completions.len() - before == COMPLETIONS_PER_TURN_MAX {
                break;
            }
            let Some(ready) = inner.shards[self.shard].ready.pop_front() else { break };
            completions.extend(inner.complete(self.shard, ready));
        }
        let shard = &mut inner.shards[self.shard];
        let woken = shard.woken.swap(false, Ordering::AcqRel);
        shard.stats.wakes += u64::from(woken);
        shard.stats.enters += 1;
        shard.parked = match wait {
            _ if woken || completions.len() > before => Parked::No,
            Wait::No => Parked::No,
            Wait::AtMost(span) => Parked::Until(now.saturating_add(span.as_nanos() as u64)),
            Wait::Forever => Parked::Forever,
        };
        Ok(())
    }

    fn now(&self) -> Now {
        self.world.look()
    }

    fn waker(&self) -> Waker {
        self.world.0.borrow().shards[self.shard].waker.clone()
    }

    fn stats(&self) -> DriverStats {
        self.world.0.borrow().shards[self.shard].stats
    }

    fn describe(&self) -> String {
        "sim".into()
    }
}

impl Inner {
    /// Turns one due thing into its completion, unless it has become void.
    fn complete(&mut self, shard: usize, ready: Ready) -> Option<Completion> {
        match ready {
            Ready::Accept { listener, link } => {
                if self.links[link].broken {
                    return None;
                }
                let socket = self.shards[shard].occupy(link);
                self.shards[shard].stats.accepts += 1;
                self.links[link].server = Some((shard, socket));
                let peer = self.links[link].address;
                self.mark_readable(link);
                Some(Completion::Accepted { listener, socket, peer })
            }
            Ready::AcceptFailed { listener } => {
                self.shards[shard].stats.accept_failures += 1;
                Some(Completion::AcceptFailed {
                    listener,
                    error: io::Error::from_raw_os_error(libc::EMFILE),
                })
            }
            Ready::Readable { socket } => self.receive(shard, socket),
            Ready::Sent { socket, bytes } => {
                self.open_link(shard, socket).map(|_| Completion::Sent { socket, bytes })
            }
            Ready::Failed { socket, error } => {
                let error = io::Error::from_raw_os_error(error);
                let link = self.shards[shard].link(socket)?;
                (!self.links[link].closed_by_server).then_some(Completion::Failed { socket, error })
            }
            Ready::Closed { socket } => {
                self.shards[shard].vacate(socket);
                Some(Completion::Closed { socket })
            }
        }
    }

    /// The link of a socket about which there is still something to say.
    fn open_link(&self, shard: usize, socket: SocketId) -> Option<usize> {
        let link = self.shards[shard].link(socket)?;
        (!self.links[link].closed_by_server && !self.links[link].broken).then_some(link)
    }

    fn receive(&mut self, shard: usize, socket: SocketId) -> Option<Completion> {
        let link = self.open_link(shard, socket)?;
        let state = &mut self.links[link];
        state.readable = false;
        if state.paused {
            return None;
        }
        if state.up.arrived.is_empty() {
            if !state.up.ended || state.end_told {
                return None;
            }
            state.end_told = true;
            return Some(Completion::Ended { socket });
        }
        if self.strikes(self.faults.starvations_per_million) {
            self.shards[shard].stats.receives_starved += 1;
            self.links[link].starved = true;
            self.schedule(self.now + RETRY.as_nanos() as u64, Event::Fed { link });
            return None;
        }
        let Some(mut buffer) = self.shards[shard].pool.take() else {
            self.shards[shard].stats.receives_starved += 1;
            self.links[link].starved = true;
            self.schedule(self.now + RETRY.as_nanos() as u64, Event::Fed { link });
            return None;
        };
        let arrived = self.links[link].up.read(buffer.space().len());
        buffer.space()[..arrived.len()].copy_from_slice(&arrived);
        buffer.truncate_to(arrived.len());
        self.shards[shard].stats.receives += 1;
        self.mark_readable(link);
        self.pump(link, Way::Up);
        Some(Completion::Received { socket, bytes: buffer })
    }
}

impl Drop for SimDriver {
    fn drop(&mut self) {
        // A panic may come from inside the world; a second one here would hide it.
        let Ok(mut inner) = self.world.0.try_borrow_mut() else { return };
        let shard = &mut inner.shards[self.shard];
        shard.open = false;
        shard.listeners.clear();
        let held = shard.slots.iter().filter_map(|slot| slot.link).collect::<Vec<_>>();
        let waiting =
            std::mem::take(&mut shard.ready).into_iter().filter_map(|ready| match ready {
                Ready::Accept { link, .. } => Some(link),
                _ => None,
            });
        for link in held.into_iter().chain(waiting.collect::<Vec<_>>()) {
            inner.links[link].server = None;
            inner.break_link(link, libc::ECONNRESET);
        }
    }
}
