//! A network that exists only in memory, for simulating whole shards in one thread.
//!
//! A [`World`] holds the clock, the connections and every choice of chance, so that a run follows
//! from its seed and its [`Faults`]. Each shard gets a [`SimDriver`]; tests speak to the shards through
//! [`SimClient`]s. Nothing here waits: a turn hands over what is due now and returns, whatever wait
//! was asked for. Who turns next, and when time passes, is the harness's to decide:
//!
//! ```
//! use std::net::SocketAddr;
//! use std::time::Duration;
//! use ringmain::reactor::{Completion, Driver, Wait};
//! use ringmain::reactor::sim::{Faults, World};
//!
//! let world = World::new(7, Faults::rough());
//! let mut driver = world.driver(0);
//! let (_, address) = driver.listen(SocketAddr::from(([127, 0, 0, 1], 0)))?;
//! let client = world.connect(address);
//! client.send(b"hello");
//!
//! let mut heard = Vec::new();
//! while heard != b"hello" {
//!     let mut completions = Vec::new();
//!     driver.turn(Wait::AtMost(Duration::from_secs(1)), &mut completions)?;
//!     for completion in completions {
//!         match completion {
//!             Completion::Received { bytes, .. } => heard.extend_from_slice(&bytes),
//!             Completion::Failed { .. } => return Ok(()), // The seed chose to break it.
//!             _ => {}
//!         }
//!     }
//!     // Time may pass when nobody has anything left to do at this moment.
//!     if world.is_idle(0) && !world.advance() {
//!         break;
//!     }
//! }
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! With several shards: turn them in an order drawn from [`World::draw`] until a whole round of turns was
//! idle on every shard ([`World::is_idle`]) and no mail lies between them, then [`World::advance`]: it moves
//! the clock to the next thing that happens, be it on the network or the end of some shard's wait.
//! Which fault comes first, which listener of a shared port gets a connection and how bytes are cut: all drawn.

mod driver;
mod link;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::time::Duration;

use crate::base::prng::Prng;
use crate::base::time::{Nanos, Now, UnixMillis};

pub use driver::SimDriver;

use driver::{Ready, Shard};
use link::{Link, Pipe, Way};

/// What the network may do to those who use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    /// Every hop (a connection attempt, a segment, the end of a send) takes up to this long.
    pub delay_max: Duration,
    /// A segment is cut anywhere up to this many bytes; at least 1.
    pub segment_bytes_max: usize,
    /// Bytes under way or unread per direction, drawn for each connection; a small one keeps sends in flight.
    pub window_bytes: RangeInclusive<usize>,
    /// In a million segments, how many break their connection instead of arriving.
    pub resets_per_million: u32,
    /// In a million accepts, how many fail first, as if descriptors had run out.
    pub accept_failures_per_million: u32,
    /// In a million receives, how many find no buffer for a while.
    pub starvations_per_million: u32,
    /// Every look that a shard takes at the clock takes up to this long; with 0 a tick takes no time at all.
    pub look_max: Duration,
}

impl Faults {
    /// A network that does nothing wrong and takes no time.
    pub fn none() -> Self {
        Self {
            delay_max: Duration::ZERO,
            segment_bytes_max: usize::MAX,
            window_bytes: 64 << 10..=64 << 10,
            resets_per_million: 0,
            accept_failures_per_million: 0,
            starvations_per_million: 0,
            look_max: Duration::ZERO,
        }
    }

    /// Everything goes slowly and in pieces, but nobody loses a connection.
    pub fn slow() -> Self {
        Self {
            delay_max: Duration::from_millis(5),
            segment_bytes_max: 300,
            window_bytes: 1..=8 << 10,
            resets_per_million: 0,
            accept_failures_per_million: 100_000,
            starvations_per_million: 100_000,
            look_max: Duration::ZERO,
        }
    }

    /// As [`Faults::slow`], the shards are slow too, and now and then a connection breaks.
    pub fn rough() -> Self {
        Self { resets_per_million: 1_000, look_max: Duration::from_micros(500), ..Self::slow() }
    }
}

/// The clock, the network and the chance of one simulation. Clones share it.
#[derive(Clone)]
pub struct World(Rc<RefCell<Inner>>);

struct Inner {
    prng: Prng,
    faults: Faults,
    now: u64,
    events: BTreeMap<(u64, u64), Event>,
    events_scheduled: u64,
    shards: Vec<Shard>,
    links: Vec<Link>,
    port_next: u16,
}

/// Something that happens at a time. Links are never reused, so an event cannot meet a stranger.
enum Event {
    /// A connection attempt reaches the listeners of its address.
    Arrive { link: usize },
    /// The oldest segment under way arrives.
    Deliver { link: usize, way: Way },
    /// The end of the stream arrives.
    End { link: usize, way: Way },
    /// The whole of a send is with the kernel.
    Sent { link: usize },
    /// The connection breaks, at both ends.
    Break { link: usize },
    /// Buffers are to be had again.
    Fed { link: usize },
}

/// How long a starved receive or a failed accept waits before the next attempt.
const RETRY: Duration = Duration::from_millis(10);
/// The wall clock's reading at the start: 2030-01-01T00:00:00Z.
const WALL_START: UnixMillis = UnixMillis(1_893_456_000_000);

impl World {
    /// A world of its own; equal seeds, faults and calls give equal runs.
    pub fn new(seed: u64, faults: Faults) -> Self {
        Self(Rc::new(RefCell::new(Inner {
            prng: Prng::new(seed),
            faults,
            now: 1_000_000_000,
            events: BTreeMap::new(),
            events_scheduled: 0,
            shards: Vec::new(),
            links: Vec::new(),
            port_next: 40_000,
        })))
    }

    /// The driver of shard number `shard`, with a pool of 256 receive buffers of 2 KiB. A shard whose driver
    /// was dropped (it crashed) may be given a new one.
    pub fn driver(&self, shard: usize) -> SimDriver {
        SimDriver::new(self.clone(), shard, 256, 2048)
    }

    /// As [`World::driver`], with this pool of receive buffers.
    ///
    /// Panics if the numbers are none that [`super::buffers::Pool::new`] takes.
    pub fn driver_with(&self, shard: usize, buffers: u16, buffer_bytes: u32) -> SimDriver {
        SimDriver::new(self.clone(), shard, buffers, buffer_bytes)
    }

    /// Connects to whoever listens on `address` by the time the attempt arrives; among several that share it,
    /// the seed chooses.
    pub fn connect(&self, address: SocketAddr) -> SimClient {
        let mut inner = self.0.borrow_mut();
        let link = inner.links.len();
        let (window_up, window_down) = (inner.window(), inner.window());
        let local = SocketAddr::from(([127, 0, 0, 1], 10_000 + (link % 30_000) as u16));
        inner.links.push(Link::new(address, local, window_up, window_down));
        let due = inner.due();
        inner.schedule(due, Event::Arrive { link });
        drop(inner);
        SimClient { world: self.clone(), link }
    }

    /// Both clocks, as a shard sees them, whose look takes its time.
    fn look(&self) -> Now {
        let mut inner = self.0.borrow_mut();
        let most = inner.faults.look_max.as_nanos() as u64;
        if most > 0 {
            inner.now += inner.prng.below(most);
        }
        drop(inner);
        self.now()
    }

    /// Both clocks.
    pub fn now(&self) -> Now {
        let now = self.0.borrow().now;
        Now { steady: Nanos(now), wall: UnixMillis(WALL_START.0 + now / 1_000_000) }
    }

    /// A number below `n`, from the world's own chance: for choosing who turns next.
    pub fn draw(&self, n: u64) -> u64 {
        self.0.borrow_mut().prng.below(n)
    }

    /// Changes what the network does wrong from here on, such as to let everything settle at the end of a run.
    pub fn set_faults(&self, faults: Faults) {
        self.0.borrow_mut().faults = faults;
    }

    /// True if this shard's last turn brought nothing, was allowed to wait, and since then nothing has become
    /// due for it, nobody woke it, and its own calls gave it nothing to do. A shard without a driver is idle.
    pub fn is_idle(&self, shard: usize) -> bool {
        let inner = self.0.borrow();
        inner.events.first_key_value().is_none_or(|((due, _), _)| *due > inner.now)
            && inner.shards.get(shard).is_none_or(|shard| shard.is_idle(inner.now))
    }

    /// True if someone woke this shard and it has not turned since.
    pub fn is_woken(&self, shard: usize) -> bool {
        self.0.borrow().shards.get(shard).is_some_and(Shard::is_woken)
    }

    /// When the next thing happens: on the network, or the end of some idle shard's wait. None if nothing ever
    /// will unless someone does something.
    pub fn next_due(&self) -> Option<Nanos> {
        let inner = self.0.borrow();
        let event = inner.events.keys().next().map(|(due, _)| *due);
        let waits = inner.shards.iter().filter_map(Shard::wait_ends);
        event.into_iter().chain(waits).min().map(Nanos)
    }

    /// Moves the clock to [`World::next_due`] and lets it happen. False if there is no such moment.
    pub fn advance(&self) -> bool {
        let Some(due) = self.next_due() else { return false };
        self.advance_to(due);
        true
    }

    /// Moves the clock to `moment` (never back) and lets all that was due until then happen, in order.
    pub fn advance_to(&self, moment: Nanos) {
        self.0.borrow_mut().run_until(moment.0);
    }

    /// Moves the clock by `span`.
    pub fn advance_by(&self, span: Duration) {
        let mut inner = self.0.borrow_mut();
        let until = inner.now + span.as_nanos() as u64;
        inner.run_until(until);
    }
}

impl Inner {
    fn run_until(&mut self, moment: u64) {
        while let Some(first) = self.events.first_entry() {
            let due = first.key().0;
            if due > moment {
                break;
            }
            let event = first.remove();
            self.now = self.now.max(due);
            self.happen(event);
        }
        self.now = self.now.max(moment);
    }

    fn schedule(&mut self, due: u64, event: Event) {
        self.events_scheduled += 1;
        self.events.insert((due, self.events_scheduled), event);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive { link } => self.arrive(link),
            Event::Deliver { link, way } => self.deliver(link, way),
            Event::End { link, way } => {
                self.links[link].pipe(way).ended = true;
                if way == Way::Up {
                    self.mark_readable(link);
                }
            }
            Event::Sent { link } => {
                let link = &mut self.links[link];
                if let (Some((shard, socket)), Some(bytes)) = (link.server, link.sending.take()) {
                    self.shards[shard].ready.push_back(Ready::Sent { socket, bytes });
                }
            }
            Event::Break { link } => self.break_link(link, libc::ECONNRESET),
            Event::Fed { link } => {
                self.links[link].starved = false;
                self.mark_readable(link);
            }
        }
    }

    fn arrive(&mut self, link: usize) {
        if self.links[link].broken {
            return;
        }
        let address = self.links[link].target;
        let listeners: Vec<_> = self
            .shards
            .iter()
            .enumerate()
            .flat_map(|(shard, state)| {
                state.listeners_of(address).map(move |listener| (shard, listener))
            })
            .collect();
        if listeners.is_empty() {
            let link = &mut self.links[link];
            (link.broken, link.refused) = (true, true);
            return;
        }
        let chosen = self.prng.below(listeners.len() as u64) as usize;
        let (shard, listener) = listeners[chosen];
        if self.strikes(self.faults.accept_failures_per_million) {
            self.shards[shard].ready.push_back(Ready::AcceptFailed { listener });
            self.schedule(self.now + RETRY.as_nanos() as u64, Event::Arrive { link });
        } else {
            self.shards[shard].ready.push_back(Ready::Accept { listener, link });
        }
    }

    fn deliver(&mut self, link: usize, way: Way) {
        if self.links[link].broken {
            return;
        }
        if self.strikes(self.faults.resets_per_million) {
            self.break_link(link, libc::ECONNRESET);
            return;
        }
        let state = &mut self.links[link];
        state.pipe(way).arrive();
        if way == Way::Up {
            if state.closed_by_server {
                self.break_link(link, libc::ECONNRESET);
            } else {
                self.mark_readable(link);
            }
        } else if !state.stalled {
            let arrived = state.down.read(usize::MAX);
            state.inbox.extend(arrived);
            self.pump(link, Way::Down);
        }
    }

    /// Puts on the way what the window allows, and notes when a send or a stream is through.
    fn pump(&mut self, link: usize, way: Way) {
        loop {
            let pipe = self.links[link].pipe(way);
            let room = pipe.sendable().min(self.faults.segment_bytes_max.max(1));
            if room == 0 {
                break;
            }
            // Half of the segments are as large as they can be, or large sends would take forever.
            let bytes = if self.prng.chance(1, 2) {
                room
            } else {
                1 + self.prng.below(room as u64) as usize
            };
            let due = self.due().max(self.links[link].pipe(way).last_due);
            self.links[link].pipe(way).depart(bytes, due);
            self.schedule(due, Event::Deliver { link, way });
        }
        let state = &mut self.links[link];
        if !state.pipe(way).unsent.is_empty() {
            return;
        }
        if way == Way::Down && state.sending.is_some() && !state.sent_scheduled {
            state.sent_scheduled = true;
            let due = self.due();
            self.schedule(due, Event::Sent { link });
        }
        let pipe = self.links[link].pipe(way);
        if pipe.ending && !pipe.end_scheduled {
            pipe.end_scheduled = true;
            let last = pipe.last_due;
            let due = self.due().max(last);
            self.schedule(due, Event::End { link, way });
        }
    }

    /// Tells the shard that holds this link's server end to look at it in its next turn.
    fn mark_readable(&mut self, link: usize) {
        let state = &mut self.links[link];
        let Some((shard, socket)) = state.server else { return };
        let something = !state.up.arrived.is_empty() || (state.up.ended && !state.end_told);
        if something
            && !state.readable
            && !state.paused
            && !state.starved
            && !state.closed_by_server
        {
            state.readable = true;
            self.shards[shard].ready.push_back(Ready::Readable { socket });
        }
    }

    /// Breaks a connection: what is under way or unread is lost, as a reset does.
    fn break_link(&mut self, link: usize, error: i32) {
        let state = &mut self.links[link];
        if state.broken {
            return;
        }
        state.broken = true;
        state.forget_bytes();
        if let (Some((shard, socket)), false) = (state.server, state.closed_by_server) {
            self.shards[shard].ready.push_back(Ready::Failed { socket, error });
        }
    }

    fn due(&mut self) -> u64 {
        let most = self.faults.delay_max.as_nanos() as u64;
        self.now + self.prng.below(most + 1)
    }

    fn window(&mut self) -> usize {
        let (low, high) = (*self.faults.window_bytes.start(), *self.faults.window_bytes.end());
        let low = low.max(1);
        low + self.prng.below((high.max(low) - low) as u64 + 1) as usize
    }

    fn strikes(&mut self, per_million: u32) -> bool {
        per_million > 0 && self.prng.chance(u64::from(per_million), 1_000_000)
    }
}

/// The far end of one simulated connection. Clones are the same end; dropping it leaves the connection as it is.
#[derive(Clone)]
pub struct SimClient {
    world: World,
    link: usize,
}

/// How a connection ended for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SimEnd {
    /// Nobody listened.
    Refused,
    /// The server sent everything and then its end of stream.
    Finished,
    /// The connection broke.
    Reset,
}

impl SimClient {
    /// Sends bytes; they wait at the client if the window is full. Nothing happens after an end.
    pub fn send(&self, bytes: &[u8]) {
        let mut inner = self.world.0.borrow_mut();
        let link = &mut inner.links[self.link];
        if !link.broken && !link.up.ending {
            link.up.unsent.extend(bytes);
            inner.pump(self.link, Way::Up);
        }
    }

    /// Takes what has arrived since the last call.
    pub fn received(&self) -> Vec<u8> {
        std::mem::take(&mut self.world.0.borrow_mut().links[self.link].inbox)
    }

    /// Stops reading: the window fills, and the server's sends stay in flight.
    pub fn stall(&self) {
        self.world.0.borrow_mut().links[self.link].stalled = true;
    }

    /// Reads again.
    pub fn resume(&self) {
        let mut inner = self.world.0.borrow_mut();
        let link = &mut inner.links[self.link];
        link.stalled = false;
        let arrived = link.down.read(usize::MAX);
        link.inbox.extend(arrived);
        inner.pump(self.link, Way::Down);
    }

    /// Says that it will send no more, after what it has sent; it still reads.
    pub fn finish(&self) {
        let mut inner = self.world.0.borrow_mut();
        inner.links[self.link].up.ending = true;
        inner.pump(self.link, Way::Up);
    }

    /// Breaks the connection: the server learns of it after a delay, and whatever is under way is lost.
    pub fn reset(&self) {
        let mut inner = self.world.0.borrow_mut();
        let due = inner.due();
        inner.schedule(due, Event::Break { link: self.link });
    }

    /// Its own address, by which the server knows it.
    pub fn address(&self) -> SocketAddr {
        self.world.0.borrow().links[self.link].address
    }

    /// Which shard accepted it, once one has.
    pub fn shard(&self) -> Option<usize> {
        self.world.0.borrow().links[self.link].server.map(|(shard, _)| shard)
    }

    /// How the connection ended, once it has. Bytes received before it are still there to be taken.
    pub fn end(&self) -> Option<SimEnd> {
        let inner = self.world.0.borrow();
        let link = &inner.links[self.link];
        match link {
            Link { refused: true, .. } => Some(SimEnd::Refused),
            Link { broken: true, .. } => Some(SimEnd::Reset),
            Link { down: Pipe { ended: true, .. }, stalled: false, .. } => Some(SimEnd::Finished),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::base::frame::Frame;
    use crate::reactor::{Completion, Driver, Wait};

    type Heard = (Vec<u8>, Option<SimEnd>);

    /// Echoes through two shards on one port until nothing happens any more; returns what each client
    /// got, how it ended and the time it took.
    fn echo(seed: u64, faults: Faults) -> (Vec<Heard>, Nanos) {
        let world = World::new(seed, faults);
        let mut drivers = [world.driver(0), world.driver(1)];
        let (_, address) = drivers[0].listen("127.0.0.1:0".parse().unwrap()).unwrap();
        drivers[1].listen(address).unwrap();
        let clients: Vec<_> = (0..20).map(|_| world.connect(address)).collect();
        for (n, client) in clients.iter().enumerate() {
            client.send(&vec![n as u8; 1000]);
            client.finish();
        }
        let mut outboxes: [BTreeMap<u32, VecDeque<Frame>>; 2] = Default::default();
        for _ in 0..200_000 {
            let shard = world.draw(2) as usize;
            let (driver, outboxes) = (&mut drivers[shard], &mut outboxes[shard]);
            let mut completions = Vec::new();
            driver.turn(Wait::Forever, &mut completions).unwrap();
            for completion in completions {
                match completion {
                    Completion::Received { socket, bytes } => {
                        let outbox = outboxes.entry(socket.slot).or_default();
                        outbox.push_back(Frame::from(bytes.to_vec()));
                        driver.send(socket, outbox);
                    }
                    Completion::Sent { socket, .. } => {
                        driver.send(socket, outboxes.entry(socket.slot).or_default());
                    }
                    Completion::Failed { socket, .. } => driver.close(socket),
                    Completion::Closed { socket } => {
                        outboxes.entry(socket.slot).or_default().clear()
                    }
                    _ => {}
                }
            }
            if world.is_idle(0) && world.is_idle(1) && !world.advance() {
                let ends = clients.iter().map(|client| (client.received(), client.end())).collect();
                return (ends, world.now().steady);
            }
        }
        panic!("seed {seed}: no rest after 200,000 turns");
    }

    #[test]
    fn every_byte_comes_back_whatever_the_delays_and_cuts() {
        for seed in 0..40 {
            for faults in [Faults::none(), Faults::slow()] {
                for (n, (echoed, end)) in echo(seed, faults).0.into_iter().enumerate() {
                    assert_eq!(
                        (echoed, end),
                        (vec![n as u8; 1000], None),
                        "seed {seed}, client {n}"
                    );
                }
            }
        }
    }

    #[test]
    fn equal_seeds_give_equal_runs_and_faults_strike() {
        let run = echo(3, Faults::rough());
        assert_eq!(run, echo(3, Faults::rough()));
        assert_ne!(run.1, echo(4, Faults::rough()).1);
        let harsh = Faults { resets_per_million: 100_000, ..Faults::slow() };
        assert!(echo(5, harsh).0.iter().any(|(_, end)| *end == Some(SimEnd::Reset)));
    }

    #[test]
    fn a_stalled_reader_keeps_the_send_in_flight_and_a_wait_ends() {
        let world = World::new(1, Faults { window_bytes: 10..=10, ..Faults::none() });
        let mut driver = world.driver(0);
        let (_, address) = driver.listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let client = world.connect(address);
        client.stall();
        world.advance();
        let mut completions = Vec::new();
        driver.turn(Wait::No, &mut completions).unwrap();
        let [Completion::Accepted { socket, .. }] = completions[..] else {
            panic!("{completions:?}")
        };
        assert!(driver.send(socket, &mut VecDeque::from([Frame::from(vec![7; 25])])));
        assert!(!world.is_idle(0));
        while world.advance() {}
        completions.clear();
        driver.turn(Wait::AtMost(Duration::from_millis(3)), &mut completions).unwrap();
        assert!(completions.is_empty() && client.received().is_empty() && world.is_idle(0));
        assert_eq!(world.next_due(), Some(world.now().steady + crate::base::time::Millis(3)));
        client.resume();
        world.advance_by(Duration::ZERO);
        assert!(!world.is_idle(0));
        driver.turn(Wait::Forever, &mut completions).unwrap();
        assert!(matches!(completions[..], [Completion::Sent { bytes: 25, .. }]), "{completions:?}");
        driver.waker().wake();
        assert!(world.is_woken(0) && !world.is_idle(0));
        assert_eq!(client.received(), vec![7; 25]);
        assert_eq!(world.connect("127.0.0.1:1".parse().unwrap()).end(), None);
    }
}
