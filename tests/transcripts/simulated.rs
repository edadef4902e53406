//! A whole simulated server: shards, mailboxes, sockets and a clock that moves when it is told to.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ringmain::auth::{Finding, Inquiry};
use ringmain::base::ids::{ConnectionId, Ticket};
use ringmain::base::time::{Millis, Now, UnixMillis};
use ringmain::config::Config;
use ringmain::outbound::desk::{Desk, Step as DeskStep};
use ringmain::reactor::sim::{Faults, SimClient};
use ringmain::shard::back::Outside;
use ringmain::store::memory::Memory;
use ringmain::wire::http::Chunked;
use ringmain::wire::http::chunked::ChunkProgress;
use ringmain::wire::websocket::deflate::Inflater;
use ringmain::wire::websocket::encode::{Compression, masked_close_frame, masked_frame};
use ringmain::wire::websocket::{Decoder, Opcode, Role, Step};

use crate::bare::another;
use crate::script::{self, Answer, Heard, Lines, World};
use crate::universe::Universe;

/// More than one, so that what a transcript says also holds across mailboxes.
const SHARDS: u16 = 3;

/// A simulated server and the peers of one transcript.
pub struct Simulated {
    universe: Universe,
    peers: BTreeMap<String, Peer>,
    /// Peers offer compression.
    pub deflate: bool,
}

struct Peer {
    socket: SimClient,
    decoder: Decoder,
    assembly: Vec<u8>,
    /// Instead of the decoder, of one that hears an event stream.
    stream: Option<Stream>,
    heard: VecDeque<Heard>,
    /// Answers no pings.
    is_mute: bool,
    /// It has heard how its WebSocket ended.
    has_ended: bool,
}

/// An event stream as it comes over the wire.
struct Stream {
    /// None: it comes as it stands.
    chunked: Option<Chunked>,
    lines: Lines,
    has_ended: bool,
}

impl Stream {
    fn take(&mut self, bytes: &[u8], is_end: bool) -> Vec<Heard> {
        let (mut piece, mut has_ended) = (Vec::new(), is_end);
        match &mut self.chunked {
            None => piece.extend_from_slice(bytes),
            Some(chunked) => match chunked.read(bytes, &mut piece, usize::MAX) {
                Ok(ChunkProgress::More) => has_ended = false,
                Ok(ChunkProgress::Done { used }) => {
                    assert_eq!(used, bytes.len(), "nothing follows the end");
                    has_ended = true;
                }
                Err(error) => panic!("the server broke HTTP: {error}"),
            },
        }
        let mut heard = self.lines.take(&piece);
        if has_ended && !std::mem::replace(&mut self.has_ended, true) {
            heard.push(self.lines.end());
        }
        heard
    }
}

/// A desk, and the last random number it was handed.
type SharedDesk = Arc<Mutex<(Desk<(ConnectionId, Ticket)>, u128)>>;

/// The back shard as one shard sees it, without a thread: an application that answers as it is told to.
struct Application {
    /// One desk for all shards, as in a server: what was given out on one is good on every other.
    desk: SharedDesk,
    consulted: HashMap<String, (u16, String)>,
    found: VecDeque<(ConnectionId, Ticket, Finding)>,
}

impl Outside for Application {
    fn ask(&mut self, from: ConnectionId, ticket: Ticket, inquiry: Inquiry) {
        let (now, mut steps) = (Now::default(), Vec::new());
        let mut desk = self.desk.lock().expect("nobody panics at the desk");
        let (desk, last) = &mut *desk;
        let mut random = another(last);
        desk.ask((from, ticket), inquiry, now, &mut random, &mut steps);
        while let Some(step) = steps.pop() {
            match step {
                DeskStep::Tell((to, ticket), finding) => {
                    self.found.push_back((to, ticket, finding))
                }
                DeskStep::Ask(number, question) => {
                    let answer = script::consult(&self.consulted, &question.body);
                    desk.answered(number, answer, now, &mut random, &mut steps);
                }
            }
        }
    }

    fn take(&mut self) -> Option<(ConnectionId, Ticket, Finding)> {
        self.found.pop_front()
    }

    fn is_ready(&self) -> bool {
        !self.found.is_empty()
    }
}

impl Simulated {
    /// `consulted` is what the application says of tokens. `seed` decides who ticks when and which shard gets which connection.
    pub fn new(seed: u64, config: &Config, consulted: &HashMap<String, (u16, String)>) -> Self {
        let mut config = config.clone();
        // Nobody else's thread moves this clock: a shard that spins would spin forever.
        config.limits.spin_us = 0;
        let desk = SharedDesk::default();
        let outside = || {
            let (desk, consulted) = (Arc::clone(&desk), consulted.clone());
            let application = Application { desk, consulted, found: VecDeque::new() };
            Box::new(application) as Box<dyn Outside>
        };
        let universe =
            Universe::with_all(seed, Faults::none(), config, SHARDS, &outside, &Memory::default());
        Self { universe, peers: BTreeMap::new(), deflate: false }
    }

    /// Lets everything happen that takes no time, and takes in what the peers received.
    fn settle(&mut self) {
        self.universe.pass(Duration::ZERO);
        for peer in self.peers.values_mut() {
            peer.take_in();
        }
    }

    fn frame(&mut self, peer: &str, opcode: Opcode, payload: &[u8]) {
        let frame = masked_frame(opcode, Compression::Plain, payload, [9, 8, 7, 6]);
        self.peers[peer].socket.send(&frame);
        self.settle();
    }

    /// Lets every peer go and all time-outs pass; true if nothing is held then.
    pub fn is_empty_in_the_end(&mut self) -> bool {
        for peer in self.peers.keys().cloned().collect::<Vec<_>>() {
            self.lose(&peer);
        }
        self.universe.pass(Duration::from_secs(24 * 3600));
        self.universe.held() == Default::default()
    }
}

impl Peer {
    fn take_in(&mut self) {
        let mut bytes = self.socket.received();
        if let Some(stream) = &mut self.stream {
            if !stream.has_ended {
                self.heard.extend(stream.take(&bytes, self.socket.end().is_some()));
            }
            return;
        }
        let mut input = &mut bytes[..];
        loop {
            let text = match self.decoder.next(&mut input, &mut self.assembly) {
                Ok(Step::NeedMore) => break,
                Ok(Step::Text(text)) => text.to_owned(),
                Ok(Step::Binary(bytes)) => {
                    self.heard.push_back(Heard::Binary(bytes.to_vec()));
                    continue;
                }
                Ok(Step::Deflated(_, bytes)) => {
                    let message = Inflater::new().inflate(bytes, 1 << 20).expect("it inflates");
                    String::from_utf8(message.to_vec()).expect("text is UTF-8")
                }
                Ok(Step::Ping(payload)) => {
                    if !self.is_mute {
                        let pong = masked_frame(Opcode::Pong, Compression::Plain, payload, [0; 4]);
                        self.socket.send(&pong);
                    }
                    continue;
                }
                Ok(Step::Close { code, reason }) => {
                    let (code, reason) = (code.unwrap_or(1005), reason.to_owned());
                    self.heard.push_back(Heard::Closed(code, reason));
                    self.has_ended = true;
                    self.socket.send(&masked_close_frame(1000, "", [0; 4]));
                    self.socket.finish();
                    break;
                }
                Ok(other) => panic!("nothing here sends {other:?}"),
                Err(error) => panic!("the server broke the WebSocket protocol: {error}"),
            };
            self.heard.push_back(Heard::Text(text));
        }
        if !self.has_ended && self.socket.end().is_some() {
            self.has_ended = true;
            self.heard.push_back(Heard::Cut);
        }
    }
}

/// Whether an answer goes on: it says no length.
pub fn is_stream(head: &Answer) -> bool {
    head.status == 200
        && !head.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length"))
}

/// An answer as it came over the wire.
pub fn answer_of(text: &str) -> Answer {
    let (head, body) = text.split_once("\r\n\r\n").expect("a head ends");
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
    let headers = lines.filter_map(|line| line.split_once(": "));
    Answer {
        status: status.expect("a status line has one"),
        headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        body: body.to_owned(),
    }
}

impl World for Simulated {
    fn open(
        &mut self,
        peer: &str,
        target: &str,
        headers: &[(String, String)],
    ) -> Result<Option<String>, Answer> {
        let socket = self.universe.connect();
        let mut head = format!(
            "GET {target} HTTP/1.1\r\nHost: sim\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
        );
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        if self.deflate {
            head += "Sec-WebSocket-Extensions: permessage-deflate\r\n";
        }
        socket.send((head + "\r\n").as_bytes());
        self.settle();
        let mut bytes = socket.received();
        let end = bytes.windows(4).position(|it| it == b"\r\n\r\n").expect("a head ends") + 4;
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        if !head.starts_with("HTTP/1.1 101 ") {
            socket.finish();
            return Err(answer_of(&String::from_utf8(bytes).expect("answers are text")));
        }
        let deflate = head.contains("permessage-deflate");
        // Some dialects take no compression.
        assert!(self.deflate || !deflate, "{head}");
        let mut opened = Peer {
            socket,
            decoder: Decoder::new(Role::Client, 1 << 20, deflate),
            assembly: Vec::new(),
            stream: None,
            heard: VecDeque::new(),
            is_mute: false,
            has_ended: false,
        };
        // The greeting came with the head.
        let mut rest = bytes.split_off(end);
        let mut input = &mut rest[..];
        let mut socket_id = None;
        loop {
            match opened.decoder.next(&mut input, &mut opened.assembly) {
                Ok(step @ (Step::Text(_) | Step::Binary(_))) => {
                    let heard = match step {
                        Step::Binary(bytes) => Heard::Binary(bytes.to_vec()),
                        Step::Text(text) => Heard::Text(text.to_owned()),
                        _ => break,
                    };
                    socket_id = socket_id.or(script::greeted(&heard));
                    opened.heard.push_back(heard);
                }
                Ok(Step::Close { code, reason }) => {
                    let (code, reason) = (code.unwrap_or(1005), reason.to_owned());
                    opened.heard.push_back(Heard::Closed(code, reason));
                    opened.has_ended = true;
                    break;
                }
                _ => break,
            }
        }
        self.peers.insert(peer.into(), opened);
        Ok(socket_id)
    }

    fn stream(
        &mut self,
        peer: &str,
        target: &str,
        headers: &[(String, String)],
        takes_chunks: bool,
    ) -> Result<Answer, Answer> {
        let socket = self.universe.connect();
        let version = if takes_chunks { "1.1" } else { "1.0" };
        let fields: String =
            headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let head = format!("GET {target} HTTP/{version}\r\nHost: sim\r\n{fields}\r\n");
        socket.send(head.as_bytes());
        self.settle();
        let mut bytes = socket.received();
        let end = bytes.windows(4).position(|it| it == b"\r\n\r\n").expect("a head ends") + 4;
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let answer = answer_of(&head);
        if !is_stream(&answer) {
            socket.finish();
            return Err(answer_of(&String::from_utf8(bytes).expect("answers are text")));
        }
        let chunked = head.contains("Transfer-Encoding: chunked").then(Chunked::new);
        assert_eq!(chunked.is_some(), takes_chunks, "{head}");
        let mut stream = Stream { chunked, lines: Lines::default(), has_ended: false };
        let heard = stream.take(&bytes.split_off(end), socket.end().is_some());
        let opened = Peer {
            socket,
            decoder: Decoder::new(Role::Client, 0, false),
            assembly: Vec::new(),
            stream: Some(stream),
            heard: heard.into(),
            is_mute: false,
            has_ended: false,
        };
        self.peers.insert(peer.into(), opened);
        Ok(answer)
    }

    fn send(&mut self, peer: &str, text: &str) {
        self.frame(peer, Opcode::Text, text.as_bytes());
    }

    fn send_binary(&mut self, peer: &str, bytes: &[u8]) {
        self.frame(peer, Opcode::Binary, bytes);
    }

    fn mute(&mut self, peer: &str) {
        self.peers.get_mut(peer).expect("it was opened").is_mute = true;
    }

    fn next(&mut self, peer: &str) -> Option<Heard> {
        self.peers.get_mut(peer)?.heard.pop_front()
    }

    fn rest(&mut self, peer: &str) -> Option<Heard> {
        self.next(peer)
    }

    fn go(&mut self, peer: &str) {
        if self.peers[peer].stream.is_some() {
            self.peers.remove(peer).expect("it is there").socket.finish();
            return self.settle();
        }
        self.frame(peer, Opcode::Close, &1000u16.to_be_bytes());
        self.lose(peer);
    }

    fn lose(&mut self, peer: &str) {
        if let Some(gone) = self.peers.remove(peer) {
            gone.socket.reset();
        }
        self.settle();
    }

    fn request(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(String, String)],
        body: &str,
    ) -> Answer {
        let socket = self.universe.connect();
        let length = body.len();
        let fields: String =
            headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: sim\r\n{fields}Connection: close\r\nContent-Length: {length}\r\n\r\n"
        );
        socket.send(head.as_bytes());
        socket.send(body.as_bytes());
        self.settle();
        let answer = String::from_utf8(socket.received()).expect("answers are text");
        assert!(socket.end().is_some(), "the connection closes after the answer");
        socket.finish();
        answer_of(&answer)
    }

    fn wait(&mut self, span: Millis) {
        // In steps, so that peers answer pings meanwhile.
        let step = Duration::from_millis((span.0 / 1000).max(1000));
        let mut left = Duration::from_millis(span.0);
        while !left.is_zero() {
            self.universe.pass(left.min(step));
            left = left.saturating_sub(step);
            self.settle();
        }
    }

    fn wall(&self) -> UnixMillis {
        self.universe.world.now().wall
    }

    fn host(&self) -> String {
        "sim".into()
    }
}
