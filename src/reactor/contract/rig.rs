//! What the contract suite is played on: a driver of one kind, peers that speak to it, and patience.

use std::collections::{HashMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use crate::base::frame::Frame;
use crate::reactor::sim::{Faults, SimClient, SimEnd, World};
use crate::reactor::{
    Completion, Driver, ListenerId, LocalListener, Options, SocketId, Wait, epoll, uring,
};

/// A kind of driver.
#[derive(Clone)]
pub(super) enum Rig {
    Uring {
        plain: bool,
    },
    Epoll,
    Sim(World),
    /// The driver of another rig, on Unix sockets.
    Local(Box<Rig>),
}

/// Where the Unix socket is that is called by this port.
fn local_path(port: u16) -> PathBuf {
    std::env::temp_dir().join(format!("ringmain-contract-{}-{port}", std::process::id()))
}

impl Rig {
    pub(super) fn sim(seed: u64, faults: Faults) -> Self {
        Rig::Sim(World::new(seed, faults))
    }

    pub(super) fn is_sim(&self) -> bool {
        matches!(self, Rig::Sim(_))
    }

    pub(super) fn stage(&self) -> Stage {
        self.stage_with(Options::new(64, 2048))
    }

    pub(super) fn stage_with(&self, options: Options) -> Stage {
        self.stage_of(0, options)
    }

    pub(super) fn stage_of(&self, shard: usize, options: Options) -> Stage {
        let kind = match self {
            Rig::Local(kind) => kind,
            kind => kind,
        };
        let driver: Box<dyn Driver> = match kind {
            Rig::Local(_) => panic!("a driver is of one kind"),
            Rig::Uring { plain } => {
                let options = Options { plain: *plain, ..options };
                Box::new(uring::UringDriver::open(options).unwrap())
            }
            Rig::Epoll => Box::new(epoll::EpollDriver::open(options, None).unwrap()),
            Rig::Sim(world) => Box::new(world.driver_with(
                shard,
                options.receive_buffers,
                options.receive_buffer_bytes,
            )),
        };
        Stage {
            rig: self.clone(),
            shard,
            driver,
            local: Vec::new(),
            accepted: Vec::new(),
            received: HashMap::new(),
            held: None,
            events: Vec::new(),
        }
    }

    pub(super) fn connect(&self, address: SocketAddr) -> Peer {
        let line = match self {
            Rig::Sim(world) => Line::Sim(world.connect(address)),
            Rig::Local(_) => {
                let stream = UnixStream::connect(local_path(address.port())).unwrap();
                stream.set_nonblocking(true).unwrap();
                // What is done with it here is done alike with both.
                Line::Kernel(TcpStream::from(OwnedFd::from(stream)))
            }
            _ => {
                let stream = TcpStream::connect(address).unwrap();
                stream.set_nonblocking(true).unwrap();
                Line::Kernel(stream)
            }
        };
        Peer {
            line,
            unsent: VecDeque::new(),
            finishing: false,
            stalled: false,
            received: Vec::new(),
            end: None,
        }
    }
}

/// What a driver said, without the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    AcceptFailed(ListenerId),
    Ended(SocketId),
    Sent(SocketId, usize),
    Failed(SocketId, ErrorKind),
    Closed(SocketId),
}

pub(super) struct Stage {
    pub(super) rig: Rig,
    pub(super) shard: usize,
    pub(super) driver: Box<dyn Driver>,
    /// The Unix sockets that it listens on, if it does.
    pub(super) local: Vec<LocalListener>,
    pub(super) accepted: Vec<(SocketId, SocketAddr)>,
    pub(super) received: HashMap<SocketId, Vec<u8>>,
    /// Where buffers are kept instead of being dropped, if they are.
    pub(super) held: Option<Vec<crate::reactor::Buffer>>,
    pub(super) events: Vec<Seen>,
}

/// After this much real time or this many simulated turns a test has failed.
const PATIENCE: Duration = Duration::from_secs(20);
const TURNS_MAX: usize = 200_000;

impl Stage {
    pub(super) fn listen(&mut self) -> (ListenerId, SocketAddr) {
        if let Rig::Local(_) = &self.rig {
            static PORT: AtomicU16 = AtomicU16::new(1);
            let port = PORT.fetch_add(1, Ordering::Relaxed);
            let listener = LocalListener::bind(&local_path(port)).unwrap();
            let id = self.driver.listen_local(&listener).unwrap().unwrap();
            self.local.push(listener);
            return (id, ([127, 0, 0, 1], port).into());
        }
        self.driver.listen("127.0.0.1:0".parse().unwrap()).unwrap()
    }

    /// A listening stage's new connection: the peer, and the socket that is its other end.
    pub(super) fn pair(&mut self, address: SocketAddr) -> (Peer, SocketId) {
        let known = self.accepted.len();
        let mut peer = self.rig.connect(address);
        self.until(&mut [&mut peer], "accept", |stage, _| stage.accepted.len() > known);
        (peer, self.accepted[known].0)
    }

    pub(super) fn send(&mut self, socket: SocketId, bytes: &[u8]) -> bool {
        self.driver.send(socket, &mut VecDeque::from([Frame::from(bytes.to_vec())]))
    }

    pub(super) fn bytes(&self, socket: SocketId) -> &[u8] {
        self.received.get(&socket).map_or(&[], Vec::as_slice)
    }

    pub(super) fn saw(&self, event: &Seen) -> usize {
        self.events.iter().filter(|seen| *seen == event).count()
    }

    pub(super) fn turn(&mut self, wait: Wait) {
        let mut completions = Vec::new();
        self.driver.turn(wait, &mut completions).unwrap();
        for completion in completions {
            match completion {
                Completion::Accepted { socket, peer, .. } => self.accepted.push((socket, peer)),
                Completion::Received { socket, bytes } => {
                    assert!(!bytes.is_empty());
                    assert_eq!(self.saw(&Seen::Ended(socket)), 0, "bytes after the end");
                    self.received.entry(socket).or_default().extend_from_slice(&bytes);
                    if let Some(held) = &mut self.held {
                        held.push(bytes);
                    }
                }
                Completion::AcceptFailed { listener, .. } => {
                    self.events.push(Seen::AcceptFailed(listener))
                }
                Completion::Ended { socket } => self.events.push(Seen::Ended(socket)),
                Completion::Sent { socket, bytes } => self.events.push(Seen::Sent(socket, bytes)),
                Completion::Failed { socket, error } => {
                    self.events.push(Seen::Failed(socket, error.kind()))
                }
                Completion::Closed { socket } => self.events.push(Seen::Closed(socket)),
            }
        }
        if let Rig::Sim(world) = &self.rig
            && world.is_idle(self.shard)
        {
            world.advance();
        }
    }

    /// Turns until it is so.
    pub(super) fn until(
        &mut self,
        peers: &mut [&mut Peer],
        what: &str,
        so: impl Fn(&Stage, &[&mut Peer]) -> bool,
    ) {
        let since = Instant::now();
        for turn in 0.. {
            peers.iter_mut().for_each(|peer| peer.step());
            if so(self, peers) {
                return;
            }
            let out_of_patience =
                if self.rig.is_sim() { turn > TURNS_MAX } else { since.elapsed() > PATIENCE };
            assert!(!out_of_patience, "waited in vain for: {what}; saw {:?}", self.events);
            self.turn(Wait::AtMost(Duration::from_millis(2)));
        }
    }

    /// Turns for as long as something would come if it came at all.
    pub(super) fn settle(&mut self, peers: &mut [&mut Peer]) {
        for _ in 0..if self.rig.is_sim() { 200 } else { 15 } {
            peers.iter_mut().for_each(|peer| peer.step());
            self.turn(Wait::AtMost(Duration::from_millis(2)));
        }
    }
}

/// The far end of a connection.
pub(super) struct Peer {
    line: Line,
    unsent: VecDeque<u8>,
    finishing: bool,
    stalled: bool,
    pub(super) received: Vec<u8>,
    pub(super) end: Option<SimEnd>,
}

enum Line {
    Kernel(TcpStream),
    Sim(SimClient),
}

impl Peer {
    pub(super) fn address(&self) -> SocketAddr {
        match &self.line {
            // A Unix socket's peer has no name of its own.
            Line::Kernel(stream) => stream.local_addr().unwrap_or(([127, 0, 0, 1], 0).into()),
            Line::Sim(client) => client.address(),
        }
    }

    pub(super) fn send(&mut self, bytes: &[u8]) {
        self.unsent.extend(bytes);
        self.step();
    }

    pub(super) fn finish(&mut self) {
        self.finishing = true;
        self.step();
    }

    pub(super) fn stall(&mut self, stalled: bool) {
        self.stalled = stalled;
        match &self.line {
            Line::Sim(client) if stalled => client.stall(),
            Line::Sim(client) => client.resume(),
            Line::Kernel(_) => {}
        }
    }

    /// Breaks the connection.
    pub(super) fn reset(&mut self) {
        match &self.line {
            Line::Sim(client) => client.reset(),
            Line::Kernel(stream) => {
                let linger = libc::linger { l_onoff: 1, l_linger: 0 };
                // SAFETY: one linger, of the size told.
                let result = unsafe {
                    libc::setsockopt(
                        stream.as_raw_fd(),
                        libc::SOL_SOCKET,
                        libc::SO_LINGER,
                        (&raw const linger).cast(),
                        size_of::<libc::linger>() as u32,
                    )
                };
                assert_eq!(result, 0);
                // Closing with no time to linger is a reset; a socket in its place keeps `self` whole.
                let stand_in = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
                self.line =
                    Line::Kernel(TcpStream::connect(stand_in.local_addr().unwrap()).unwrap());
                self.end = Some(SimEnd::Reset);
            }
        }
    }

    /// Writes and reads what can be.
    pub(super) fn step(&mut self) {
        match &mut self.line {
            Line::Sim(client) => {
                client.send(self.unsent.make_contiguous());
                self.unsent.clear();
                if self.finishing {
                    client.finish();
                }
                self.received.extend(client.received());
                self.end = client.end();
            }
            Line::Kernel(stream) => {
                while !self.unsent.is_empty()
                    && let Ok(sent) = stream.write(self.unsent.as_slices().0)
                {
                    self.unsent.drain(..sent);
                }
                if self.finishing && self.unsent.is_empty() {
                    let _ = stream.shutdown(Shutdown::Write);
                }
                let mut space = [0; 4096];
                while !self.stalled && self.end.is_none() {
                    match stream.read(&mut space) {
                        Ok(0) => self.end = Some(SimEnd::Finished),
                        Ok(got) => self.received.extend_from_slice(&space[..got]),
                        Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                        Err(_) => self.end = Some(SimEnd::Reset),
                    }
                }
            }
        }
    }
}

/// Bytes in which a gap, a repetition or a swap shows.
pub(super) fn pattern(length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| (at ^ (at >> 8).wrapping_mul(31) ^ (at >> 16).wrapping_mul(17)) as u8)
        .collect()
}
