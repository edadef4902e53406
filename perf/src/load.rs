//! One thread that plays thousands of subscribers and a few publishers.
//!
//! It has to cost far less per frame than the server it measures: one `recv(2)` takes all a socket has,
//! frames are walked by their headers only, and the mark in the payload is read at the place where the first
//! frame had it. It never sleeps while it measures: a sleeping receiver would make the server pay for
//! waking it.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, OwnedFd};

use crate::histogram::Histogram;
use crate::publish::{self, Credentials, MARK, MARKED_BYTES, Marked, Signer};
use crate::redis;
use crate::sys::{self, Epoll};
use crate::wire;

const BUFFER_BYTES: usize = 512 << 10;
const EVENTS_MAX: usize = 1024;
const PUBLISHER: u64 = 1 << 40;
/// How long to let events gather when there were none, so that two threads do not fight over one epoll.
const PAUSE_NS: u64 = 4_000;
/// With nothing on its way the generator may sleep until this long before the next publish is due.
const SLEEP_MARGIN_NS: u64 = 200_000;
/// Without any progress for this long, what is missing is lost.
const STALL_NS: u64 = 5_000_000_000;
/// A patient generator sleeps so long at most, so that whoever asks to stop is heard.
const PATIENCE_NS: u64 = 1_000_000;
/// Between two publishes that are to reach those who wait for a first event.
const CALL_NS: u64 = 50_000_000;
/// Connections per source address, well below the ephemeral port range.
const PER_SOURCE: usize = 12_000;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Connecting,
    Upgrading,
    Subscribing,
    /// Opened, and waiting for a first event.
    Waiting,
    Live,
    Closed,
}

struct Connection {
    fd: Option<OwnedFd>,
    phase: Phase,
    answers_left: u32,
    started_ns: u64,
    /// The start of a frame whose end has not come.
    left: Vec<u8>,
    /// Folds the order in which events came; equal everywhere if all saw one order.
    order: u64,
}

/// What one subscriber has seen of one stream.
#[derive(Clone, Default)]
struct Stream {
    next: u64,
    /// Bit n: sequence `next - 1 - n` has come.
    seen: u64,
}

struct Publisher {
    fd: OwnedFd,
    answered: bool,
    remaining: u32,
    /// The next sequence of this publisher (one channel) or its place in the round over its channels.
    next: u64,
    intended_ns: u64,
    held: Vec<u8>,
    /// Bytes of a request that the socket did not take at once.
    unsent: Vec<u8>,
}

/// How channels and subscribers relate.
#[derive(Clone)]
pub enum Shape {
    /// One channel, every connection on it; one stream per publisher.
    Fanout,
    /// Channel c is subscribed by connection c modulo their number only and published by publisher c modulo
    /// theirs, `batch` events a request.
    Channels { channels: usize, batch: usize },
    /// Nobody listens: publisher p publishes to channel p modulo `channels`, and with a batch to the channels
    /// after it, too.
    Alone { prefix: &'static str, channels: usize, batch: usize },
    /// Nothing is published: pages of 100 of this channel's history are asked for.
    Pages { channel: String, pages: Pages },
    /// Hypothesis: one stream of annotations, the k-th of document k modulo `documents`. Connection c has a
    /// filter for document c modulo `documents`, or for the group that all annotations are in.
    Annotations { documents: usize, by: Wanted },
}

/// Which pages of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pages {
    /// The newest.
    Newest,
    /// Pages anywhere among the oldest so many events, oldest first.
    Among(u64),
}

/// Events of one page.
pub const PAGE_EVENTS: u64 = 100;

/// What a Hypothesis filter looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    Uri,
    Group,
}

/// What peers and publishers say where it is not plain Pusher.
pub struct Script {
    /// Path and query of what each connection asks for.
    pub target: Targets,
    pub transport: Transport,
    pub first: First,
    pub publish: Publishing,
}

/// Path and query for the connection of a number.
pub type Targets = Box<dyn Fn(usize) -> String>;

/// The same for all.
pub fn everyone(target: impl Into<String>) -> Targets {
    let target = target.into();
    Box::new(move |_| target.clone())
}

/// What connections are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    WebSocket,
    /// An answer that does not end: a chunk for each event, or for each part of one.
    EventStream,
}

/// What makes a connection live.
pub enum First {
    /// A greeting, and the answers to what is said to it.
    Greeting {
        /// What the server's first words have in them.
        greeting: &'static str,
        /// What a connection answers to them; with nothing it is live.
        greeted: Answering,
        /// What the answer to each of these has in it.
        answer: &'static str,
    },
    /// The head of the answer, where no more is said.
    Head,
    /// An event: nothing tells that a subscription has begun, so this publishes one that is not counted, again and
    /// again until all have had it.
    Event(Box<dyn FnMut() -> io::Result<()>>),
}

/// What is said to a text.
pub type Answering = Box<dyn Fn(&[u8]) -> Vec<String>>;

/// How a publish is spelt.
pub type Spelling = Box<dyn Fn(&mut Vec<u8>, Marked, usize)>;

/// Where publishes of a [`Script`] go.
pub enum Publishing {
    /// A whole request each, on the publisher's own connection; everyone gets it.
    Request(Spelling),
    /// A text message each, on the connection of the subscriber of the same number, which does not get it back.
    Message(Spelling),
    /// A Redis `PUBLISH` each; everyone gets it.
    Redis { to: SocketAddrV4, channel: String, spell: Spelling },
}

/// What was counted since the last [`Load::mark`].
#[derive(Clone, Default)]
pub struct Counts {
    pub delivered: u64,
    pub bytes: u64,
    pub published: u64,
    /// Events whose publish was answered with success, or pages.
    pub acknowledged: u64,
    /// Publishes of the storm, and those that were answered with success.
    pub storm_published: u64,
    pub storm_acknowledged: u64,
    pub receives: u64,
    /// Control pings, which are the server's keep-alive.
    pub pings: u64,
    pub work_ns: u64,
}

/// Everything that went wrong, over the whole run.
#[derive(Clone, Default, Debug)]
pub struct Faults {
    pub lost: u64,
    pub duplicated: u64,
    pub out_of_order: u64,
    pub closed: u64,
    pub refused: u64,
    pub errors: u64,
}

/// When to publish.
#[derive(Clone, Copy)]
pub enum Pace {
    /// A publisher goes on as soon as its last publish is answered and has reached everyone.
    InFlight,
    /// This many publishes a second, whatever the server does.
    Rate(f64),
}

/// Durable publishes beside the load that is measured, on connections of their own.
#[derive(Clone, Copy)]
pub struct Storm {
    pub publishers: usize,
    /// A second; none: each goes on as soon as it is answered.
    pub rate: Option<f64>,
    pub size: usize,
    pub channels: usize,
}

/// The channels of a storm.
pub const DURABLE: &str = "durable-";

/// The generator.
pub struct Load {
    epoll: Epoll,
    to: SocketAddrV4,
    key: String,
    signer: Signer,
    shape: Shape,
    /// With [`Shape::Fanout`] only.
    pub script: Option<Script>,
    size: usize,
    connections: Vec<Connection>,
    streams: Vec<Stream>,
    streams_each: usize,
    publishers: Vec<Publisher>,
    ready: VecDeque<usize>,
    /// Sleeps when nothing has come: what is measured waits for a disk, and the kernel's own threads, which bring
    /// its answers, need a core.
    pub is_patient: bool,
    /// When the next publish is due; a patient generator sleeps no longer.
    due_ns: u64,
    storm: Option<Storm>,
    /// Publishers from here on are the storm's.
    storm_from: usize,
    storm_ready: VecDeque<usize>,
    storm_sent: u64,
    mark_at: usize,
    buffer: Vec<u8>,
    live: usize,
    opening: usize,
    called_ns: u64,
    pub counts: Counts,
    pub faults: Faults,
    pub each: Histogram,
    pub last: Histogram,
    pub answer: Histogram,
    pub storm_answer: Histogram,
    pub handshake: Histogram,
    progress_ns: u64,
    last_error: String,
    /// Publishes so far, whoever sent them.
    sequence_next: u64,
    /// Events that were to arrive, and that did, over the whole run; each event at each subscriber once.
    expected: u64,
    arrived: u64,
}

/// How many events a page holds.
fn events_in(page: &[u8]) -> u64 {
    const EACH: &[u8] = br#""operation_kind""#;
    page.windows(EACH.len()).filter(|it| *it == EACH).count() as u64
}

impl Load {
    pub fn new(
        to: SocketAddrV4,
        credentials: &Credentials,
        shape: Shape,
        size: usize,
    ) -> io::Result<Self> {
        sys::raise_descriptors();
        Ok(Self {
            epoll: Epoll::new()?,
            to,
            key: credentials.key.clone(),
            signer: Signer::new(credentials.clone()),
            shape,
            script: None,
            size,
            connections: Vec::new(),
            streams: Vec::new(),
            streams_each: 0,
            publishers: Vec::new(),
            ready: VecDeque::new(),
            is_patient: false,
            due_ns: 0,
            storm: None,
            storm_from: usize::MAX,
            storm_ready: VecDeque::new(),
            storm_sent: 0,
            mark_at: 0,
            buffer: vec![0; BUFFER_BYTES],
            live: 0,
            opening: 0,
            called_ns: 0,
            counts: Counts::default(),
            faults: Faults::default(),
            each: Histogram::default(),
            last: Histogram::default(),
            answer: Histogram::default(),
            storm_answer: Histogram::default(),
            handshake: Histogram::default(),
            progress_ns: sys::now_ns(),
            last_error: String::new(),
            sequence_next: 0,
            expected: 0,
            arrived: 0,
        })
    }

    /// The last error a server reported to any peer, empty if none.
    pub fn last_error(&self) -> &str {
        &self.last_error
    }

    fn channel_of(&self, channel: usize) -> String {
        format!("perf-{channel:05}")
    }

    /// Opens and subscribes `count` connections, at most `at_once` on their way at a time.
    pub fn open(&mut self, count: usize, at_once: usize, publishers: usize) -> io::Result<()> {
        self.streams_each = match self.shape {
            Shape::Fanout => publishers,
            Shape::Channels { channels, .. } => channels.div_ceil(count),
            Shape::Annotations { .. } | Shape::Alone { .. } | Shape::Pages { .. } => 1,
        };
        self.streams = vec![Stream::default(); count * self.streams_each];
        let mut report = sys::now_ns();
        self.progress_ns = report;
        while self.live < count {
            while self.opening < at_once && self.connections.len() < count {
                self.start_connection()?;
            }
            self.turn()?;
            let now = sys::now_ns();
            if now - report > 1_000_000_000 {
                report = now;
                eprintln!("  {} of {count} subscribed", self.live);
            }
            self.call(now, count)?;
            if now - self.progress_ns > STALL_NS || self.faults.closed > 0 {
                return Err(io::Error::other(format!(
                    "{} of {count} subscribed, {} closed by the server; last error: {:?}",
                    self.live, self.faults.closed, self.last_error
                )));
            }
        }
        self.open_publishers(publishers)
    }

    /// Publishes for those who wait for a first event, if it is time.
    fn call(&mut self, now: u64, count: usize) -> io::Result<()> {
        let is_time = self.opening == 0 && self.live < count && now - self.called_ns > CALL_NS;
        if let Some(Script { first: First::Event(call), .. }) = &mut self.script
            && is_time
        {
            self.called_ns = now;
            call()?;
        }
        Ok(())
    }

    /// Opens the keep-alive connections to publish on.
    pub fn open_publishers(&mut self, count: usize) -> io::Result<()> {
        (0..count).try_for_each(|at| self.open_publisher(at))
    }

    /// Opens the connections of a storm; it blows while [`Load::run`] does. After all other publishers.
    pub fn open_storm(&mut self, storm: Storm) -> io::Result<()> {
        self.storm_from = self.publishers.len();
        self.storm = Some(storm);
        (0..storm.publishers).try_for_each(|at| self.open_publisher(self.storm_from + at))
    }

    fn start_connection(&mut self) -> io::Result<()> {
        let at = self.connections.len();
        let source = Ipv4Addr::new(127, 0, 0, 1 + (at / PER_SOURCE) as u8);
        let started_ns = sys::now_ns();
        let fd = sys::connect(source, self.to)?;
        self.epoll.add(fd.as_raw_fd(), at as u64, sys::READ_EDGE | sys::WRITE)?;
        self.opening += 1;
        self.connections.push(Connection {
            fd: Some(fd),
            phase: Phase::Connecting,
            answers_left: 0,
            started_ns,
            left: Vec::new(),
            order: 0,
        });
        Ok(())
    }

    fn open_publisher(&mut self, at: usize) -> io::Result<()> {
        let to = match &self.script {
            Some(Script { publish: Publishing::Redis { to, .. }, .. }) => *to,
            _ => self.to,
        };
        let stream = std::net::TcpStream::connect(to)?;
        stream.set_nonblocking(true)?;
        let fd: OwnedFd = stream.into();
        sys::no_delay(fd.as_raw_fd())?;
        sys::reset_on_close(fd.as_raw_fd())?;
        self.epoll.add(fd.as_raw_fd(), PUBLISHER | at as u64, sys::READ)?;
        if let Some(publisher) = self.publishers.get_mut(at) {
            publisher.fd = fd;
            publisher.held.clear();
            return Ok(());
        }
        self.publishers.push(Publisher {
            fd,
            answered: true,
            remaining: 0,
            next: 0,
            intended_ns: 0,
            held: Vec::new(),
            unsent: Vec::new(),
        });
        self.is_ready(at);
        Ok(())
    }

    fn is_ready(&mut self, at: usize) {
        let queue = if at >= self.storm_from { &mut self.storm_ready } else { &mut self.ready };
        queue.push_back(at);
    }

    /// Lets the storm publish what is due.
    fn storm(&mut self, start: u64) -> io::Result<()> {
        let Some(storm) = self.storm else { return Ok(()) };
        loop {
            let now = sys::now_ns();
            let due = storm.rate.map(|rate| start + (self.storm_sent as f64 * 1e9 / rate) as u64);
            if let Some(due) = due.filter(|&due| due > now) {
                self.due_ns = self.due_ns.min(due);
                return Ok(());
            }
            let Some(at) = self.storm_ready.pop_front() else { return Ok(()) };
            let mut body = Vec::with_capacity(storm.size + 128);
            let marked =
                Marked { sequence: self.storm_sent, stream: 0, slot: at as u16, sent_ns: now };
            let channel = format!("{DURABLE}{:05}", (at - self.storm_from) % storm.channels);
            publish::event(&mut body, &channel, marked, storm.size);
            self.storm_sent += 1;
            self.counts.storm_published += 1;
            self.send(at, due.unwrap_or(now), "events", &body)?;
        }
    }

    /// Publishes at `pace` until `stop` says so; calls it about every millisecond with the time.
    pub fn run(
        &mut self,
        pace: Pace,
        mut stop: impl FnMut(&mut Self, u64) -> bool,
    ) -> io::Result<()> {
        let mut now = sys::now_ns();
        let start = now;
        let mut sent = 0u64;
        self.storm_sent = 0;
        let mut asked = now;
        self.progress_ns = now;
        loop {
            self.due_ns = u64::MAX;
            match pace {
                Pace::InFlight => {
                    while let Some(at) = self.ready.pop_front() {
                        self.publish(at, sys::now_ns())?;
                    }
                }
                Pace::Rate(per_second) => loop {
                    let due = start + (sent as f64 * 1e9 / per_second) as u64;
                    let now = sys::now_ns();
                    if due > now {
                        self.due_ns = due;
                        if due - now > 4 * SLEEP_MARGIN_NS
                            && !self.is_patient
                            && self.storm.is_none()
                            && self.quiet()
                        {
                            let pause = due - now - SLEEP_MARGIN_NS;
                            std::thread::sleep(std::time::Duration::from_nanos(pause));
                        }
                        break;
                    }
                    let Some(at) = self.ready.pop_front() else { break };
                    self.publish(at, due)?;
                    sent += 1;
                },
            }
            self.storm(start)?;
            self.turn()?;
            now = sys::now_ns();
            if now - asked > 1_000_000 {
                asked = now;
                if stop(self, now) || self.stalled(now) {
                    return Ok(());
                }
            }
        }
    }

    /// Nothing is on its way.
    fn quiet(&self) -> bool {
        self.publishers.iter().all(|publisher| publisher.remaining == 0 && publisher.answered)
    }

    fn stalled(&mut self, now: u64) -> bool {
        if self.quiet() {
            self.progress_ns = now;
        }
        now - self.progress_ns > STALL_NS
    }

    /// Takes what is still on its way, then counts what never came as lost.
    pub fn settle(&mut self) -> io::Result<()> {
        self.progress_ns = sys::now_ns();
        loop {
            if self.quiet() || self.stalled(sys::now_ns()) {
                break;
            }
            self.turn()?;
        }
        self.faults.lost = self.publishers.iter().map(|one| u64::from(one.remaining)).sum();
        Ok(())
    }

    /// Answers pings for a while without publishing.
    pub fn linger(&mut self, ns: u64) -> io::Result<()> {
        let end = sys::now_ns() + ns;
        self.due_ns = end;
        while sys::now_ns() < end {
            self.turn()?;
        }
        Ok(())
    }

    /// Whether all who should have seen the same events saw them in the same order.
    pub fn one_order(&self) -> bool {
        let alike = match self.shape {
            Shape::Fanout | Shape::Annotations { by: Wanted::Group, .. } => 1,
            Shape::Annotations { documents, .. } => documents,
            Shape::Channels { .. } | Shape::Alone { .. } | Shape::Pages { .. } => return true,
        };
        let orders = self.connections.iter().map(|connection| connection.order);
        orders.clone().zip(orders.skip(alike)).all(|(one, other)| one == other)
    }

    /// Fails unless every event has arrived exactly once wherever it should, and nowhere else.
    pub fn check_exactly_once(&self) -> io::Result<()> {
        let Faults { lost, duplicated, closed, refused, errors, .. } = self.faults;
        let whole = self.arrived == self.expected && self.expected > 0;
        if whole && [lost, duplicated, closed, refused, errors] == [0; 5] {
            return Ok(());
        }
        Err(io::Error::other(format!(
            "{} deliveries expected, {} arrived; {:?}; last error: {:?}",
            self.expected, self.arrived, self.faults, self.last_error
        )))
    }

    pub fn live(&self) -> usize {
        self.live
    }

    /// Forgets what was counted and timed so far; faults stay.
    pub fn reset_counts(&mut self) {
        self.counts = Counts::default();
        self.each = Histogram::default();
        self.last = Histogram::default();
        self.answer = Histogram::default();
        self.storm_answer = Histogram::default();
    }

    fn publish(&mut self, at: usize, intended_ns: u64) -> io::Result<()> {
        let mut body = Vec::with_capacity(self.size + 128);
        let slot = at as u16;
        let path;
        let publisher_count = self.publishers.len();
        match self.shape {
            Shape::Fanout if self.script.is_some() => return self.publish_as_told(at, intended_ns),
            Shape::Fanout => {
                path = "events";
                let publisher = &mut self.publishers[at];
                let marked =
                    Marked { sequence: publisher.next, stream: slot, slot, sent_ns: intended_ns };
                publisher.next += 1;
                publisher.remaining = self.live as u32;
                publish::event(&mut body, "perf-00000", marked, self.size);
                self.counts.published += 1;
            }
            Shape::Channels { channels, batch } => {
                path = "batch_events";
                body.extend_from_slice(br#"{"batch":["#);
                // Channels at, at + publishers, at + 2 publishers ... are this publisher's own.
                let own = (channels - at).div_ceil(publisher_count) as u64;
                for index in 0..batch {
                    let next = self.publishers[at].next;
                    let channel = at + (next % own) as usize * publisher_count;
                    let marked = Marked {
                        sequence: next / own,
                        stream: (channel / self.connections.len()) as u16,
                        slot,
                        sent_ns: intended_ns,
                    };
                    if index > 0 {
                        body.push(b',');
                    }
                    publish::event(&mut body, &self.channel_of(channel), marked, self.size);
                    self.publishers[at].next += 1;
                }
                body.extend_from_slice(b"]}");
                self.publishers[at].remaining = batch as u32;
                self.counts.published += batch as u64;
            }
            Shape::Alone { prefix, channels, batch } => {
                path = if batch == 1 { "events" } else { "batch_events" };
                if batch > 1 {
                    body.extend_from_slice(br#"{"batch":["#);
                }
                for index in 0..batch {
                    if index > 0 {
                        body.push(b',');
                    }
                    let sequence = self.sequence_next;
                    let marked = Marked { sequence, stream: 0, slot, sent_ns: intended_ns };
                    let channel = format!("{prefix}{:05}", (at + index) % channels);
                    publish::event(&mut body, &channel, marked, self.size);
                    self.sequence_next += 1;
                }
                if batch > 1 {
                    body.extend_from_slice(b"]}");
                }
                self.counts.published += batch as u64;
            }
            Shape::Pages { ref channel, pages } => {
                let parameters = match pages {
                    Pages::Newest => "limit=100".to_owned(),
                    Pages::Among(events) => {
                        // A stride that is prime to most numbers: pages come from everywhere.
                        let start = 1 + self.sequence_next * 7919 % (events - PAGE_EVENTS);
                        format!("direction=oldest_first&limit=100&start_serial={start}")
                    }
                };
                self.sequence_next += 1;
                self.counts.published += 1;
                let mut request = Vec::with_capacity(512);
                let path = format!("channels/{channel}/history");
                self.signer.question(&mut request, &path, &parameters);
                return self.send_request(at, intended_ns, request);
            }
            Shape::Annotations { documents, by } => {
                path = "hypothesis/events";
                let sequence = self.sequence_next;
                self.sequence_next += 1;
                let document = (sequence % documents as u64) as usize;
                let marked = Marked { sequence, stream: 0, slot, sent_ns: intended_ns };
                self.publishers[at].remaining = match by {
                    Wanted::Uri => (self.live / documents) as u32,
                    Wanted::Group => self.live as u32,
                };
                publish::annotation(&mut body, document, marked, self.size);
                self.counts.published += 1;
            }
        }
        self.expected += u64::from(self.publishers[at].remaining);
        self.send(at, intended_ns, path, &body)
    }

    /// Publishes as the script says.
    fn publish_as_told(&mut self, at: usize, intended_ns: u64) -> io::Result<()> {
        let Some(script) = &self.script else { return Ok(()) };
        let (slot, publisher) = (at as u16, &mut self.publishers[at]);
        let sequence = publisher.next;
        let marked = Marked { sequence, stream: slot, slot, sent_ns: intended_ns };
        publisher.next += 1;
        self.counts.published += 1;
        let mut out = Vec::with_capacity(self.size + 512);
        match &script.publish {
            Publishing::Request(spell) => {
                spell(&mut out, marked, self.size);
                publisher.remaining = self.live as u32;
                self.expected += self.live as u64;
                self.send_request(at, intended_ns, out)
            }
            Publishing::Message(spell) => {
                spell(&mut out, marked, self.size);
                publisher.remaining = self.live.saturating_sub(1) as u32;
                self.expected += u64::from(publisher.remaining);
                let fd = self.connections.get(at).and_then(|it| it.fd.as_ref());
                let fd = fd.ok_or_else(|| io::Error::other("nobody to publish as"))?;
                sys::send(fd.as_raw_fd(), &wire::masked_frame(1, &out)).map(drop)
            }
            Publishing::Redis { channel, spell, .. } => {
                let mut message = Vec::with_capacity(self.size + 128);
                spell(&mut message, marked, self.size);
                redis::command(&mut out, &[b"PUBLISH", channel.as_bytes(), &message]);
                publisher.remaining = self.live as u32;
                self.expected += self.live as u64;
                self.send_request(at, intended_ns, out)
            }
        }
    }

    /// Signs and sends a publish.
    fn send(&mut self, at: usize, intended_ns: u64, path: &str, body: &[u8]) -> io::Result<()> {
        let mut request = Vec::with_capacity(body.len() + 512);
        self.signer.request(&mut request, path, body);
        self.send_request(at, intended_ns, request)
    }

    fn send_request(
        &mut self,
        at: usize,
        intended_ns: u64,
        mut request: Vec<u8>,
    ) -> io::Result<()> {
        let publisher = &mut self.publishers[at];
        publisher.intended_ns = intended_ns;
        publisher.answered = false;
        let sent = match sys::send(publisher.fd.as_raw_fd(), &request) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        if sent < request.len() {
            publisher.unsent = request.split_off(sent);
            let token = PUBLISHER | at as u64;
            self.epoll.modify(publisher.fd.as_raw_fd(), token, sys::READ | sys::WRITE)?;
        }
        Ok(())
    }

    fn turn(&mut self) -> io::Result<()> {
        let mut events = [sys::Event { events: 0, u64: 0 }; EVENTS_MAX];
        let patience = if self.is_patient { self.due_ns.saturating_sub(sys::now_ns()) } else { 0 };
        let count = self.epoll.wait_ns(&mut events, patience.min(PATIENCE_NS))?;
        let start = sys::now_ns();
        if count == 0 && self.is_patient {
            return Ok(());
        }
        if count == 0 {
            while sys::now_ns() - start < PAUSE_NS {
                std::hint::spin_loop();
            }
            return Ok(());
        }
        for event in &events[..count] {
            let sys::Event { events: what, u64: token } = *event;
            if token & PUBLISHER != 0 {
                self.publisher_event((token & !PUBLISHER) as usize, what)?;
            } else {
                self.connection_event(token as usize, what)?;
            }
        }
        self.counts.work_ns += sys::now_ns() - start;
        Ok(())
    }

    fn publisher_event(&mut self, at: usize, what: u32) -> io::Result<()> {
        let publisher = &mut self.publishers[at];
        if what & sys::WRITE != 0 && !publisher.unsent.is_empty() {
            let sent = sys::send(publisher.fd.as_raw_fd(), &publisher.unsent)?;
            publisher.unsent.drain(..sent);
            if publisher.unsent.is_empty() {
                let token = PUBLISHER | at as u64;
                self.epoll.modify(publisher.fd.as_raw_fd(), token, sys::READ)?;
            }
        }
        if what & (sys::READ | sys::BROKEN) == 0 {
            return Ok(());
        }
        let count = match sys::recv(publisher.fd.as_raw_fd(), &mut self.buffer) {
            Ok(0) => return self.open_publisher(at),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        publisher.held.extend_from_slice(&self.buffer[..count]);
        if matches!(&self.script, Some(Script { publish: Publishing::Redis { .. }, .. })) {
            return self.redis_answered(at);
        }
        let Some(answer) = wire::request(&publisher.held) else { return Ok(()) };
        let now = sys::now_ns();
        self.progress_ns = now;
        let is_storm = at >= self.storm_from;
        let answered = if is_storm { &mut self.storm_answer } else { &mut self.answer };
        answered.record(now.saturating_sub(publisher.intended_ns));
        if answer.head.starts_with(b"HTTP/1.1 20") {
            let events = match &self.shape {
                _ if is_storm => 1,
                Shape::Alone { batch, .. } | Shape::Channels { batch, .. } => *batch as u64,
                _ => 1,
            };
            let counts = &mut self.counts;
            *if is_storm { &mut counts.storm_acknowledged } else { &mut counts.acknowledged } +=
                events;
            if let Shape::Pages { .. } = self.shape {
                counts.bytes += answer.len as u64;
                // Looking at each would make the generator the bottleneck.
                let is_sample = counts.acknowledged.is_multiple_of(256);
                if is_sample && events_in(answer.body) != PAGE_EVENTS {
                    self.faults.errors += 1;
                    self.last_error = "a page without its 100 events".into();
                }
            }
        } else {
            self.faults.refused += 1;
            self.last_error = String::from_utf8_lossy(&publisher.held).into_owned();
            publisher.remaining = 0;
        }
        let len = answer.len;
        publisher.held.drain(..len);
        publisher.answered = true;
        if publisher.remaining == 0 {
            self.is_ready(at);
        }
        Ok(())
    }

    /// Redis tells how many of its own subscribers a publish had.
    fn redis_answered(&mut self, at: usize) -> io::Result<()> {
        let publisher = &mut self.publishers[at];
        let Some(end) = wire::find(&publisher.held, b"\r\n") else { return Ok(()) };
        let now = sys::now_ns();
        self.progress_ns = now;
        self.answer.record(now.saturating_sub(publisher.intended_ns));
        let answer: Vec<u8> = publisher.held.drain(..end + 2).collect();
        publisher.answered = true;
        if answer.starts_with(b":") && answer != b":0\r\n" {
            self.counts.acknowledged += 1;
        } else {
            self.faults.refused += 1;
            self.last_error = format!("Redis said {:?}", String::from_utf8_lossy(&answer));
            publisher.remaining = 0;
        }
        if publisher.remaining == 0 {
            self.is_ready(at);
        }
        Ok(())
    }

    fn connection_event(&mut self, at: usize, what: u32) -> io::Result<()> {
        let connection = &mut self.connections[at];
        let Some(fd) = connection.fd.as_ref().map(AsRawFd::as_raw_fd) else { return Ok(()) };
        if connection.phase == Phase::Connecting {
            if let Err(error) = sys::connect_result(fd) {
                self.last_error = error.to_string();
                return self.close(at);
            }
            connection.phase = Phase::Upgrading;
            self.epoll.modify(fd, at as u64, sys::READ_EDGE)?;
            let path = match (&self.script, &self.shape) {
                (Some(script), _) => (script.target)(at),
                (_, Shape::Annotations { .. }) => "/ws".to_owned(),
                _ => format!("/app/{}?protocol=7&client=perf&version=1.0", self.key),
            };
            let upgrade = if self.is_stream() {
                "Accept: text/event-stream\r\n"
            } else {
                "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            };
            let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n{upgrade}\r\n", self.to);
            sys::send(fd, request.as_bytes())?;
            return Ok(());
        }
        if what & (sys::READ | sys::BROKEN) == 0 {
            return Ok(());
        }
        loop {
            let connection = &mut self.connections[at];
            let left = connection.left.len();
            self.buffer[..left].copy_from_slice(&connection.left);
            connection.left.clear();
            let room = BUFFER_BYTES - left;
            let count = match sys::recv(fd, &mut self.buffer[left..]) {
                Ok(0) => return self.close(at),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    connection.left.extend_from_slice(&self.buffer[..left]);
                    return Ok(());
                }
                Err(_) => return self.close(at),
            };
            let now = sys::now_ns();
            self.counts.receives += 1;
            self.counts.bytes += count as u64;
            self.progress_ns = now;
            // The buffer leaves `self` for the walk, so that the walk may change the rest.
            let buffer = std::mem::take(&mut self.buffer);
            let used = self.walk(at, &buffer[..left + count], now);
            self.connections[at].left.extend_from_slice(&buffer[used?..left + count]);
            self.buffer = buffer;
            if count < room {
                return Ok(());
            }
        }
    }

    /// Goes through the whole frames at the start of `bytes` and returns where the first unfinished one starts.
    fn walk(&mut self, at: usize, bytes: &[u8], now: u64) -> io::Result<usize> {
        let mut pos = 0;
        if self.connections[at].phase == Phase::Upgrading {
            let Some(end) = wire::find(bytes, b"\r\n\r\n") else { return Ok(0) };
            let good: &[u8] = if self.is_stream() { b"HTTP/1.1 200" } else { b"HTTP/1.1 101" };
            if !bytes.starts_with(good) {
                self.last_error = String::from_utf8_lossy(bytes).into_owned();
                self.close(at)?;
                return Ok(bytes.len());
            }
            self.connections[at].phase = Phase::Subscribing;
            pos = end + 4;
            match self.script.as_ref().map(|it| &it.first) {
                Some(First::Head) => self.is_live(at, now),
                Some(First::Event(_)) => {
                    self.connections[at].phase = Phase::Waiting;
                    self.opening -= 1;
                }
                _ => {}
            }
            if let Shape::Annotations { documents, by } = self.shape {
                self.ask_for_annotations(at, at % documents, by)?;
            }
        }
        if self.is_stream() {
            return self.walk_chunks(at, bytes, pos, now);
        }
        while let Some(&[first, second]) = bytes.get(pos..pos + 2) {
            let (start, len) = match second {
                126 => match bytes.get(pos + 2..pos + 4) {
                    Some(&[high, low]) => (4, usize::from(u16::from_be_bytes([high, low]))),
                    _ => break,
                },
                127 => match bytes.get(pos + 2..pos + 10) {
                    Some(word) => {
                        let mut wide = [0; 8];
                        wide.copy_from_slice(word);
                        (10, u64::from_be_bytes(wide) as usize)
                    }
                    None => break,
                },
                len => (2, usize::from(len)),
            };
            let Some(payload) = bytes.get(pos + start..pos + start + len) else { break };
            pos += start + len;
            if first == 0x81 {
                self.text(at, payload, now)?;
            } else {
                self.control(at, first & 15, payload)?;
            }
        }
        Ok(pos)
    }

    fn is_stream(&self) -> bool {
        self.script.as_ref().is_some_and(|it| it.transport == Transport::EventStream)
    }

    /// The same for the chunks of an answer.
    fn walk_chunks(
        &mut self,
        at: usize,
        bytes: &[u8],
        mut pos: usize,
        now: u64,
    ) -> io::Result<usize> {
        while let Some((start, len)) = wire::chunk(&bytes[pos..]) {
            let Some(piece) = bytes.get(pos + start..pos + start + len) else { break };
            if bytes.len() < pos + start + len + 2 {
                break;
            }
            pos += start + len + 2;
            if len == 0 {
                self.last_error = "the event stream ended".into();
                self.close(at)?;
                break;
            }
            self.text(at, piece, now)?;
        }
        Ok(pos)
    }

    #[inline]
    fn text(&mut self, at: usize, text: &[u8], now: u64) -> io::Result<()> {
        let mut found = text.get(self.mark_at..self.mark_at + MARKED_BYTES);
        if !found.is_some_and(|bytes| bytes.starts_with(MARK)) {
            match wire::find(text, MARK) {
                Some(start) => {
                    self.mark_at = start;
                    found = text.get(start..start + MARKED_BYTES);
                }
                None => return self.spoken(at, text, now),
            }
        }
        let Some(marked) = found.and_then(|bytes| bytes.try_into().ok()).map(Marked::read) else {
            self.faults.errors += 1;
            return Ok(());
        };
        self.event(at, marked, now);
        Ok(())
    }

    #[inline]
    fn event(&mut self, at: usize, marked: Marked, now: u64) {
        let mut sequence = marked.sequence;
        if let Shape::Annotations { documents, by: Wanted::Uri } = self.shape {
            let documents = documents as u64;
            if sequence % documents != at as u64 % documents {
                self.faults.errors += 1;
                self.last_error =
                    format!("connection {at} got annotation {sequence} of another document");
                return;
            }
            sequence /= documents;
        }
        let index = at * self.streams_each + usize::from(marked.stream);
        let (Some(stream), Some(publisher)) =
            (self.streams.get_mut(index), self.publishers.get_mut(usize::from(marked.slot)))
        else {
            self.faults.errors += 1;
            return;
        };
        if sequence >= stream.next {
            let step = sequence - stream.next + 1;
            stream.seen = if step < 64 { stream.seen << step | 1 } else { 1 };
            stream.next = sequence + 1;
        } else {
            let behind = stream.next - 1 - sequence;
            if behind < 64 && stream.seen >> behind & 1 == 0 {
                self.faults.out_of_order += 1;
                stream.seen |= 1 << behind;
            } else {
                self.faults.duplicated += 1;
                return;
            }
        }
        let connection = &mut self.connections[at];
        connection.order = (connection.order ^ (marked.sequence << 16 | u64::from(marked.slot)))
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(23);
        self.counts.delivered += 1;
        self.arrived += 1;
        let took = now.saturating_sub(marked.sent_ns);
        self.each.record(took);
        publisher.remaining = publisher.remaining.saturating_sub(1);
        if publisher.remaining == 0 {
            self.last.record(took);
            if publisher.answered {
                self.ready.push_back(usize::from(marked.slot));
            }
        }
    }

    /// Sends a filter, and a question whose answer says that the filter was taken before it.
    fn ask_for_annotations(&mut self, at: usize, document: usize, by: Wanted) -> io::Result<()> {
        let (field, value) = match by {
            Wanted::Uri => ("/uri", publish::document_uri(document)),
            Wanted::Group => ("/group", publish::GROUP.to_owned()),
        };
        let filter = format!(
            r#"{{"filter":{{"match_policy":"include_any","clauses":[{{"field":"{field}","operator":"one_of","value":["{value}"]}}],"actions":{{"create":true,"update":true,"delete":true}}}}}}"#
        );
        let mut out = wire::masked_frame(1, filter.as_bytes());
        out.extend(wire::masked_frame(1, br#"{"type":"whoami","id":1}"#));
        self.connections[at].answers_left = 1;
        let fd = self.connections[at].fd.as_ref().map(AsRawFd::as_raw_fd);
        fd.map_or(Ok(()), |fd| sys::send(fd, &out).map(drop))
    }

    /// A text that carries no mark: the protocol itself.
    fn spoken(&mut self, at: usize, text: &[u8], now: u64) -> io::Result<()> {
        let has = |needle: &str| wire::find(text, needle.as_bytes()).is_some();
        let fd = self.connections[at].fd.as_ref().map(AsRawFd::as_raw_fd);
        let Some(fd) = fd else { return Ok(()) };
        let first = self.script.as_ref().map(|it| &it.first);
        if let Some(First::Greeting { greeted, .. }) =
            first.filter(|it| matches!(it, First::Greeting { greeting, .. } if has(greeting)))
        {
            let asks = greeted(text);
            self.connections[at].answers_left = asks.len() as u32;
            if asks.is_empty() {
                self.is_live(at, now);
                return Ok(());
            }
            let frames: Vec<u8> =
                asks.iter().flat_map(|ask| wire::masked_frame(1, ask.as_bytes())).collect();
            sys::send(fd, &frames)?;
        } else if first
            .is_some_and(|it| matches!(it, First::Greeting { answer, .. } if has(answer)))
        {
            self.is_answered(at, now);
        } else if self.connections[at].phase == Phase::Waiting && (has("payload") || has("data:")) {
            self.opening += 1;
            self.is_live(at, now);
        } else if has("pusher:connection_established") {
            let mut out = Vec::new();
            let mut asks = 0;
            let mut ask = |channel: String| {
                let text =
                    format!(r#"{{"event":"pusher:subscribe","data":{{"channel":"{channel}"}}}}"#);
                out.extend(wire::masked_frame(1, text.as_bytes()));
                asks += 1;
            };
            match self.shape {
                Shape::Fanout => ask(self.channel_of(0)),
                Shape::Channels { channels, .. } => {
                    // How many connections there will be is known from the streams.
                    let count = self.streams.len() / self.streams_each;
                    (at..channels).step_by(count).for_each(|channel| ask(self.channel_of(channel)));
                }
                // Asked for without being greeted, or not at all.
                Shape::Annotations { .. } | Shape::Alone { .. } | Shape::Pages { .. } => {}
            }
            self.connections[at].answers_left = asks;
            sys::send(fd, &out)?;
        } else if has("subscription_succeeded") || has("whoyouare") {
            self.is_answered(at, now);
        } else if has("pusher:ping") {
            sys::send(fd, &wire::masked_frame(1, br#"{"event":"pusher:pong","data":{}}"#))?;
        } else if has("error") {
            self.faults.errors += 1;
            self.last_error = String::from_utf8_lossy(text).into_owned();
        }
        Ok(())
    }

    /// One of a connection's first asks is answered.
    fn is_answered(&mut self, at: usize, now: u64) {
        let connection = &mut self.connections[at];
        connection.answers_left = connection.answers_left.saturating_sub(1);
        if connection.answers_left == 0 && connection.phase == Phase::Subscribing {
            self.is_live(at, now);
        }
    }

    fn is_live(&mut self, at: usize, now: u64) {
        let connection = &mut self.connections[at];
        connection.phase = Phase::Live;
        self.handshake.record(now - connection.started_ns);
        self.live += 1;
        self.opening -= 1;
    }

    fn control(&mut self, at: usize, opcode: u8, payload: &[u8]) -> io::Result<()> {
        match opcode {
            8 => {
                self.last_error = String::from_utf8_lossy(payload).into_owned();
                self.close(at)
            }
            9 => {
                self.counts.pings += 1;
                if let Some(fd) = &self.connections[at].fd {
                    sys::send(fd.as_raw_fd(), &wire::masked_frame(10, payload))?;
                }
                Ok(())
            }
            10 => Ok(()),
            _ => {
                self.faults.errors += 1;
                self.last_error = format!("unexpected frame, opcode {opcode}");
                Ok(())
            }
        }
    }

    fn close(&mut self, at: usize) -> io::Result<()> {
        let connection = &mut self.connections[at];
        if connection.phase == Phase::Live {
            self.live -= 1;
        } else if !matches!(connection.phase, Phase::Closed | Phase::Waiting) {
            self.opening -= 1;
        }
        connection.phase = Phase::Closed;
        connection.fd = None;
        self.faults.closed += 1;
        Ok(())
    }
}
