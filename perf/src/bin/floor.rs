//! The floor: one thread, one epoll, and for each publish one `send(2)` per subscriber in a plain loop.
//!
//! It checks no signature and validates nothing. A socket that is full gets its bytes queued, in order, and
//! sent when it turns writable; a queue over [`QUEUE_BYTES_MAX`] closes its connection and is counted on
//! standard error.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Write};
use std::net::TcpListener;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

use ringmain_perf::sys::{self, Epoll};
use ringmain_perf::wire::{self, Asked, Peer};

const QUEUE_BYTES_MAX: usize = 4 << 20;
const LISTENER: u64 = u64::MAX;

struct Connection {
    fd: OwnedFd,
    peer: Peer,
    queued: Vec<u8>,
    closing: bool,
}

struct Floor {
    epoll: Epoll,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    channels: HashMap<String, Vec<usize>>,
    dropped: u64,
}

impl Floor {
    fn send(&mut self, slot: usize, bytes: &[u8]) {
        let Some(connection) = &mut self.connections[slot] else { return };
        let mut sent = 0;
        if connection.queued.is_empty() {
            match sys::send(connection.fd.as_raw_fd(), bytes) {
                Ok(count) if count == bytes.len() => return,
                Ok(count) => sent = count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => {
                    connection.closing = true;
                    return;
                }
            }
            let _ =
                self.epoll.modify(connection.fd.as_raw_fd(), slot as u64, sys::READ | sys::WRITE);
        }
        if connection.queued.len() + bytes.len() > QUEUE_BYTES_MAX {
            self.dropped += 1;
            eprintln!("floor: slow consumer closed, {} so far", self.dropped);
            connection.closing = true;
            // Level-triggered hang-up brings it back to the loop, which removes it.
            // SAFETY: plain integers on a descriptor we own.
            unsafe { libc::shutdown(connection.fd.as_raw_fd(), libc::SHUT_RDWR) };
            return;
        }
        connection.queued.extend_from_slice(&bytes[sent..]);
    }

    fn flush(&mut self, slot: usize) {
        let Some(connection) = &mut self.connections[slot] else { return };
        if connection.queued.is_empty() {
            return;
        }
        match sys::send(connection.fd.as_raw_fd(), &connection.queued) {
            Ok(count) => drop(connection.queued.drain(..count)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => connection.closing = true,
        }
        if connection.queued.is_empty() {
            connection.queued = Vec::new();
            let _ = self.epoll.modify(connection.fd.as_raw_fd(), slot as u64, sys::READ);
        }
    }

    fn remove(&mut self, slot: usize) {
        if self.connections[slot].take().is_some() {
            for members in self.channels.values_mut() {
                members.retain(|member| *member != slot);
            }
            self.free.push(slot);
        }
    }

    fn accept(&mut self, listener: RawFd) -> io::Result<()> {
        loop {
            // SAFETY: no address is asked for; the descriptor is fresh and owned from here on.
            let fd = unsafe {
                let raw = libc::accept4(
                    listener,
                    std::ptr::null_mut(),
                    std::ptr::null_mut(),
                    libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC,
                );
                if raw < 0 {
                    return Ok(());
                }
                OwnedFd::from_raw_fd(raw)
            };
            sys::no_delay(fd.as_raw_fd())?;
            let slot = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            self.epoll.add(fd.as_raw_fd(), slot as u64, sys::READ)?;
            self.connections[slot] =
                Some(Connection { fd, peer: Peer::default(), queued: Vec::new(), closing: false });
        }
    }

    fn receive(&mut self, slot: usize, buffer: &mut [u8], asked: &mut Vec<Asked>) {
        let Some(connection) = &mut self.connections[slot] else { return };
        match sys::recv(connection.fd.as_raw_fd(), buffer) {
            Ok(0) => return self.remove(slot),
            Ok(count) => connection.peer.handle(&buffer[..count], asked),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(_) => return self.remove(slot),
        }
        for one in asked.drain(..) {
            match one {
                Asked::Reply(bytes) => self.send(slot, &bytes),
                Asked::Subscribe(channel, bytes) => {
                    self.channels.entry(channel).or_default().push(slot);
                    self.send(slot, &bytes);
                }
                Asked::Publish(frames) => {
                    for (channel, frame) in frames {
                        let members =
                            std::mem::take(self.channels.entry(channel.clone()).or_default());
                        for member in &members {
                            self.send(*member, &frame);
                        }
                        self.channels.insert(channel, members);
                    }
                    self.send(slot, wire::OK);
                }
                Asked::Close => {
                    if let Some(connection) = &mut self.connections[slot] {
                        connection.closing = true;
                    }
                }
            }
        }
    }
}

fn main() -> io::Result<()> {
    sys::raise_descriptors();
    let listener = TcpListener::bind(wire::listen_argument())?;
    listener.set_nonblocking(true)?;
    println!("listening on {}", listener.local_addr()?);
    io::stdout().flush()?;
    let listener = listener.into_raw_fd();
    sys::listen_again(listener, 4096)?;
    let epoll = Epoll::new()?;
    epoll.add(listener, LISTENER, sys::READ)?;
    let mut floor = Floor {
        epoll,
        connections: Vec::new(),
        free: Vec::new(),
        channels: HashMap::new(),
        dropped: 0,
    };
    let mut events = vec![sys::Event { events: 0, u64: 0 }; 1024];
    let mut buffer = vec![0; 64 << 10];
    let mut asked = Vec::new();
    loop {
        let count = floor.epoll.wait(&mut events, -1)?;
        for event in &events[..count] {
            let sys::Event { events: what, u64: token } = *event;
            if token == LISTENER {
                floor.accept(listener)?;
                continue;
            }
            let slot = token as usize;
            if what & sys::WRITE != 0 {
                floor.flush(slot);
            }
            if what & (sys::READ | sys::BROKEN) != 0 {
                floor.receive(slot, &mut buffer, &mut asked);
            }
            if floor.connections[slot].as_ref().is_some_and(|connection| connection.closing) {
                floor.remove(slot);
            }
        }
    }
}
