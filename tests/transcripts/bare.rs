//! Two shards' worth of sessions, edges and homes in memory: no socket, no thread, a clock that moves
//! when it is told to.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use ringmain::base::ids::{ConnectionId, LaneId, ShardId, Ticket};
use ringmain::base::time::{Millis, Nanos, Now, UnixMillis};
use ringmain::broker::edge::{Edge, Recipient, Sink};
use ringmain::broker::home::{Home, Keeping, Limits};
use ringmain::broker::rules::Rules;
use ringmain::broker::slots::Slots;
use ringmain::broker::{
    Command, Down, Event, Parting, Payload, Refusal, Render, Reply, Report, Up,
};
use ringmain::config::Config;
use ringmain::dialects::{
    self, Caller, Dialect, Facts, Input, Lanes, Opening, Output, Request, Response, Session,
    TimerKind, Words,
};
use ringmain::observe::{CloseReason, Metrics};
use ringmain::outbound::desk::{Desk, Step};
use ringmain::wire::http::Chunked;
use ringmain::wire::http::chunked::ChunkProgress;
use ringmain::wire::websocket::deflate::Inflater;

use crate::disk::Disk;
use crate::script::{self, Answer, Heard, Lines, World};

const SHARDS: u16 = 2;

/// Sessions over a broker of their own.
pub struct Bare {
    dialects: Vec<Arc<dyn Dialect>>,
    lanes: Watched,
    disk: Disk,
    /// When the clock of retention started.
    origin: Now,
    homes: Vec<Home>,
    edges: Vec<Edge>,
    mail: VecDeque<Mail>,
    desk: Desk<(ConnectionId, Ticket)>,
    steps: Vec<Step<(ConnectionId, Ticket)>>,
    /// The last random number that was made.
    random: u128,
    /// What the application says of each token.
    pub consulted: HashMap<String, (u16, String)>,
    peers: HashMap<ConnectionId, Peer>,
    names: BTreeMap<String, ConnectionId>,
    opened: u32,
    now: Now,
    /// Peers offer compression.
    pub deflate: bool,
    /// The process is about to stop.
    pub draining: bool,
}

/// The lanes, and what they say to the world outside.
struct Watched {
    lanes: Lanes,
    reports: RefCell<Vec<Report>>,
}

impl Render for Watched {
    fn render(&self, lane: LaneId, event: &Event) -> Option<Bytes> {
        self.lanes.render(lane, event)
    }

    fn shows_members(&self, lane: LaneId) -> bool {
        self.lanes.shows_members(lane)
    }

    fn reports(&self) -> bool {
        self.lanes.reports()
    }

    fn reports_members(&self) -> bool {
        self.lanes.reports_members()
    }

    fn report(&self, event: &Event, about: Option<&Payload>, out: &mut Vec<Report>) {
        let first = out.len();
        self.lanes.report(event, about, out);
        self.reports.borrow_mut().extend_from_slice(&out[first..]);
    }
}

enum Mail {
    Up { from: ShardId, to: ShardId, up: Up },
    Down { to: ShardId, down: Down },
}

struct Peer {
    session: Option<Box<dyn Session>>,
    timers: BTreeMap<u8, Nanos>,
    /// The timer that comes when nothing was sent or received for so long, and since when nothing was.
    idle: Option<(u8, Millis)>,
    active: Nanos,
    heard: VecDeque<Heard>,
    response: Option<Response>,
    /// Its answer is an event stream, which it is sent in chunks or as it stands.
    stream: Option<Lines>,
    takes_chunks: bool,
    /// It was asked for a WebSocket and has said yes.
    is_accepted: bool,
    /// Answers no pings.
    is_mute: bool,
}

impl Peer {
    fn hear(&mut self, heard: Heard, now: Now) {
        self.active = now.steady;
        self.heard.push_back(heard);
    }

    /// The session says something.
    fn hear_text(&mut self, text: Vec<u8>, now: Now) {
        match &mut self.stream {
            Some(lines) => {
                self.active = now.steady;
                self.heard.extend(lines.take(&text));
            }
            None => {
                assert!(self.response.is_none(), "it said something after its answer");
                let text = String::from_utf8(text).expect("text is UTF-8");
                self.hear(Heard::Text(text), now);
            }
        }
    }

    /// A finished frame comes.
    fn hear_frame(&mut self, frame: &[u8], now: Now) {
        match &mut self.stream {
            Some(lines) => {
                self.active = now.steady;
                let piece = match self.takes_chunks {
                    true => &unchunked(frame),
                    false => frame,
                };
                self.heard.extend(lines.take(piece));
            }
            None => self.hear(heard_of(frame), now),
        }
    }
}

/// The bytes of one chunk.
fn unchunked(frame: &[u8]) -> Vec<u8> {
    let (mut chunked, mut piece) = (Chunked::new(), Vec::new());
    let read = chunked.read(frame, &mut piece, frame.len());
    assert!(matches!(read, Ok(ChunkProgress::More)) && frame.ends_with(b"\r\n"), "one chunk");
    assert!(!piece.is_empty(), "an empty chunk ends the stream");
    piece
}

/// How a peer asks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    WebSocket,
    Http,
    /// HTTP/1.0, which knows no chunks.
    OldHttp,
}

/// What an edge did while it was at work.
#[derive(Default)]
struct Done {
    frames: Vec<(u32, Bytes)>,
    answers: Vec<(ConnectionId, Ticket, Reply)>,
    handed: Vec<(ConnectionId, Event)>,
}

impl Sink for Done {
    fn fan_out(
        &mut self,
        _: LaneId,
        frame: &Bytes,
        recipients: &[Recipient],
        exclude: Option<u32>,
        _: &Event,
    ) {
        let slots = recipients.iter().map(|it| it.slot).filter(|&slot| Some(slot) != exclude);
        self.frames.extend(slots.map(|slot| (slot, frame.clone())));
    }

    fn answer(&mut self, to: ConnectionId, ticket: Ticket, reply: Reply) {
        self.answers.push((to, ticket, reply));
    }

    fn hand(&mut self, to: ConnectionId, event: &Event) {
        self.handed.push((to, event.clone()));
    }
}

impl Bare {
    pub fn new(config: &Config) -> Self {
        let mut world = Self::cold(config);
        world.settle();
        world
    }

    /// Before the homes have asked the disk for anything.
    fn cold(config: &Config) -> Self {
        let metrics = Arc::new(Metrics::new(SHARDS, &dialects::NAMES));
        let dialects = dialects::all(config, metrics);
        let slots = Arc::new(Slots::new(SHARDS, [1, 2]));
        let shards = || (0..SHARDS).map(ShardId);
        let limits = Limits { channels_max: config.limits.channels_per_shard_max };
        let now = Now { steady: Nanos(5_000_000_000), wall: UnixMillis(1_700_000_000_000) };
        let rules = Rules::configured(config);
        let home = |shard: ShardId| {
            let seed = u64::from(shard.0) + 1;
            Home::new(slots.clone(), limits).keeping(Keeping {
                shard: Some(shard),
                ..Keeping::configured(config, rules.clone(), now, seed)
            })
        };
        Self {
            lanes: Watched { lanes: Lanes::new(&dialects, config), reports: RefCell::default() },
            disk: Disk::new(),
            origin: now,
            dialects,
            homes: shards().map(home).collect(),
            edges: shards().map(|shard| Edge::new(shard, slots.clone())).collect(),
            mail: VecDeque::new(),
            desk: Desk::default(),
            steps: Vec::new(),
            random: 0,
            consulted: HashMap::new(),
            peers: HashMap::new(),
            names: BTreeMap::new(),
            opened: 0,
            now,
            deflate: false,
            draining: false,
        }
    }

    /// Lets every peer go and kept events expire; how many channels and subscriptions are held even
    /// then, which should be none.
    pub fn held_by_nobody(&mut self) -> usize {
        for peer in self.names.keys().cloned().collect::<Vec<_>>() {
            self.go(&peer);
        }
        self.wait(Millis(24 * 3_600_000));
        let homes: usize = self.homes.iter().map(Home::channels).sum();
        let edges: usize = self.edges.iter().map(|it| it.channels() + it.subscriptions()).sum();
        homes + edges
    }

    fn request_of(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(String, String)],
        way: Way,
    ) -> (ConnectionId, Opening) {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        let host = self.host();
        let mut headers: Vec<_> =
            headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        headers.push(("Host", host.as_bytes()));
        let request = Request {
            method,
            path,
            query,
            headers: &headers,
            peer: ([127, 0, 0, 1], 9).into(),
            is_websocket: way == Way::WebSocket,
            takes_chunks: way != Way::OldHttp,
        };
        self.opened += 1;
        let id = ConnectionId {
            shard: ShardId((self.opened % u32::from(SHARDS)) as u16),
            slot: self.opened,
            generation: 7,
        };
        for (number, dialect) in self.dialects.iter().enumerate() {
            let facts = Facts {
                connection: id,
                now: self.now,
                shards: SHARDS,
                draining: self.draining,
                lane_first: self.lanes.lanes.first(number),
                deflate: self.deflate,
                chance: u128::from(self.opened),
            };
            if let Some(opening) = dialect.open(&request, &facts) {
                return (id, opening);
            }
        }
        panic!("the last dialect takes what nobody else wants");
    }

    fn add(&mut self, id: ConnectionId, session: Box<dyn Session>) {
        let peer = Peer {
            session: Some(session),
            timers: BTreeMap::new(),
            idle: None,
            active: self.now.steady,
            heard: VecDeque::new(),
            response: None,
            stream: None,
            takes_chunks: true,
            is_accepted: false,
            is_mute: false,
        };
        self.peers.insert(id, peer);
    }

    /// Hands one input to a session and carries out what follows, mail included.
    fn handle(&mut self, id: ConnectionId, input: Input<'_>) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let Some(session) = &mut peer.session else { return };
        let mut out = Vec::new();
        session.handle(input, self.now, &mut out);
        let mut ups = Vec::new();
        let (mut pinged, mut opened) = (false, false);
        let edge = &mut self.edges[id.shard.index()];
        for output in out {
            match output {
                Output::Text(text) => peer.hear_text(text, self.now),
                Output::Binary(bytes) => peer.hear(Heard::Binary(bytes), self.now),
                Output::Respond(response) => {
                    assert!(!peer.is_accepted, "answered what it accepted");
                    assert!(peer.response.replace(response).is_none(), "answered twice");
                }
                Output::Stream(response) => {
                    assert!(!peer.is_accepted, "answered what it accepted");
                    let first = response.body.clone();
                    assert!(peer.response.replace(response).is_none(), "answered twice");
                    let mut lines = Lines::default();
                    peer.heard.extend(lines.take(&first));
                    peer.stream = Some(lines);
                    opened = true;
                }
                Output::Ask(ticket, command) => edge.ask(id, ticket, command, &mut ups),
                Output::Arm(TimerKind(kind), after) => {
                    assert!(kind < dialects::TIMERS_MAX);
                    peer.timers.insert(kind, self.now.steady + after);
                }
                Output::Close(farewell, reason) => {
                    assert!(farewell.text.len() <= 123);
                    match (&mut peer.stream, farewell.message) {
                        (None, message) => {
                            peer.heard.extend(message.map(|it| match it {
                                Words::Text(text) => Heard::Text(text.into_owned()),
                                Words::Binary(bytes) => Heard::Binary(bytes.to_vec()),
                            }));
                            let text = farewell.text.into_owned();
                            peer.heard.push_back(match farewell.code {
                                1006 => Heard::Cut,
                                code => Heard::Closed(code, text),
                            });
                        }
                        (Some(lines), message) => {
                            peer.heard.extend(message.into_iter().flat_map(|it| match it {
                                Words::Text(text) => lines.take(text.as_bytes()),
                                Words::Binary(bytes) => lines.take(&bytes),
                            }));
                            peer.heard.push_back(lines.end());
                        }
                    }
                    peer.session = None;
                    peer.timers.clear();
                    let parting = match reason {
                        CloseReason::Asked => Parting::Forced,
                        CloseReason::Timeout => Parting::Silent,
                        _ => Parting::Closed,
                    };
                    edge.close(id, parting, &mut ups);
                    break;
                }
                Output::Inquire(ticket, inquiry) => {
                    let who = (id, ticket);
                    let mut random = another(&mut self.random);
                    self.desk.ask(who, inquiry, self.now, &mut random, &mut self.steps);
                }
                Output::Ping => pinged = true,
                Output::Count(_) => {}
                Output::Accept => {
                    assert!(!peer.is_accepted && peer.response.is_none(), "decided twice");
                    (peer.is_accepted, opened) = (true, true);
                }
                Output::Return(Caller { connection: to, ticket }, words) => {
                    let down = Down::Answer { to, ticket, reply: Reply::Returned(words) };
                    self.mail.push_back(Mail::Down { to: to.shard, down });
                }
                Output::Report(report) => {
                    self.lanes.reports.borrow_mut().push(report.clone());
                    self.homes[id.shard.index()].report(report, self.now.wall);
                }
                Output::ArmIdle(TimerKind(kind), after) => {
                    assert!(kind < dialects::TIMERS_MAX);
                    (peer.idle, peer.active) = (Some((kind, after)), self.now.steady);
                    peer.timers.insert(kind, self.now.steady + after);
                }
            }
        }
        self.post(id.shard, ups);
        if opened {
            self.handle(id, Input::Opened);
        }
        let answers = |it: &Peer| !it.is_mute;
        if pinged && self.peers.get(&id).is_some_and(answers) {
            self.handle(id, Input::Pong);
        }
    }

    fn post(&mut self, from: ShardId, ups: Vec<(ShardId, Up)>) {
        self.mail.extend(ups.into_iter().map(|(to, up)| Mail::Up { from, to, up }));
    }

    /// Answers inquiries and carries mail until there is none.
    fn settle(&mut self) {
        loop {
            self.answer_inquiries();
            self.carry_mail();
            self.ask_disk();
            if self.steps.is_empty() && self.mail.is_empty() {
                return;
            }
        }
    }

    /// Does what the homes ask of the disk, one after the other.
    fn ask_disk(&mut self) {
        // As a shard does in every tick.
        self.expire_homes();
        let passed = (self.now.steady - self.origin.steady).0 / 1_000_000;
        let clock = UnixMillis(self.origin.wall.0 + passed);
        for home in &mut self.homes {
            let mut downs = Vec::new();
            while let Some((tag, ask)) = home.next_ask() {
                let answer = self.disk.answer(ask, clock);
                home.stored(tag, answer, self.now, &self.lanes, &mut downs);
            }
            self.mail.extend(downs.into_iter().map(|(to, down)| Mail::Down { to, down }));
        }
    }

    fn expire_homes(&mut self) {
        let mut downs = Vec::new();
        for home in &mut self.homes {
            home.expire(self.now, &self.lanes, &mut downs);
        }
        self.mail.extend(downs.into_iter().map(|(to, down)| Mail::Down { to, down }));
    }

    /// Hands a session what another says to it.
    fn call(&mut self, to: ConnectionId, caller: Caller, words: &[u8]) {
        let is_there = self.peers.get(&to).is_some_and(|it| it.session.is_some());
        if is_there {
            return self.handle(to, Input::Call(caller, words));
        }
        let Caller { connection: to, ticket } = caller;
        let reply = Reply::Refused(Refusal::NoConnection);
        self.mail.push_back(Mail::Down { to: to.shard, down: Down::Answer { to, ticket, reply } });
    }

    fn answer_inquiries(&mut self) {
        for step in std::mem::take(&mut self.steps) {
            match step {
                Step::Tell((id, ticket), finding) => self.handle(id, Input::Found(ticket, finding)),
                Step::Ask(number, question) => {
                    let answer = script::consult(&self.consulted, &question.body);
                    let mut random = another(&mut self.random);
                    self.desk.answered(number, answer, self.now, &mut random, &mut self.steps);
                }
            }
        }
    }

    fn carry_mail(&mut self) {
        while let Some(mail) = self.mail.pop_front() {
            match mail {
                Mail::Up {
                    up: Up::Ask { from, ticket, command: Command::Call(to, words) },
                    ..
                } => {
                    self.call(to, Caller { connection: from, ticket }, &words);
                }
                Mail::Up { from, to, up } => {
                    let mut downs = Vec::new();
                    self.homes[to.index()].handle(up, from, self.now, &self.lanes, &mut downs);
                    self.mail.extend(downs.into_iter().map(|(to, down)| Mail::Down { to, down }));
                }
                Mail::Down { to, down } => {
                    let (mut done, mut ups) = (Done::default(), Vec::new());
                    self.edges[to.index()].handle(down, &mut done, &mut ups);
                    self.post(to, ups);
                    for (slot, frame) in done.frames {
                        let found = self.peers.iter_mut().find(|(id, _)| id.slot == slot);
                        let (_, peer) = found.expect("a recipient is connected");
                        peer.hear_frame(&frame, self.now);
                    }
                    for (id, ticket, reply) in done.answers {
                        self.handle(id, Input::Reply(ticket, reply));
                    }
                    for (id, event) in done.handed {
                        self.handle(id, Input::Event(&event));
                    }
                }
            }
        }
    }

    /// The session is told that its connection is gone, and so is everyone else.
    fn leave(&mut self, id: ConnectionId, parting: Parting) {
        self.handle(id, Input::Closed);
        self.peers.remove(&id);
        let mut ups = Vec::new();
        self.edges[id.shard.index()].close(id, parting, &mut ups);
        self.post(id.shard, ups);
        self.settle();
    }

    fn receive(&mut self, peer: &str, input: Input<'_>) {
        let id = self.named(peer);
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.active = self.now.steady;
        }
        self.handle(id, input);
        self.settle();
    }

    fn named(&self, peer: &str) -> ConnectionId {
        self.names[peer]
    }
}

fn answer_of(response: Response) -> Answer {
    let headers = response.headers.iter();
    Answer {
        status: response.status,
        headers: headers.map(|(name, value)| (name.to_string(), value.to_string())).collect(),
        body: String::from_utf8(response.body.to_vec()).expect("bodies are text"),
    }
}

/// Makes numbers that differ, which is all that a transcript sees of chance.
pub fn another(last: &mut u128) -> impl FnMut() -> u128 {
    || {
        *last += 1;
        *last
    }
}

/// The text message in a finished frame. Source: RFC 6455, section 5.2.
fn heard_of(frame: &[u8]) -> Heard {
    let (header, payload) = match frame[1] {
        126 => (u16::from_be_bytes([frame[2], frame[3]]) as usize, &frame[4..]),
        127 => (
            u64::from_be_bytes(frame[2..10].try_into().expect("eight bytes")) as usize,
            &frame[10..],
        ),
        short => (usize::from(short), &frame[2..]),
    };
    assert_eq!(header, payload.len(), "the header tells the length");
    let payload = match frame[0] {
        0x81 => payload.to_vec(),
        0xc1 => Inflater::new().inflate(payload, 1 << 20).expect("it inflates").to_vec(),
        0x82 => return Heard::Binary(payload.to_vec()),
        other => panic!("not a whole message: {other:#x}"),
    };
    Heard::Text(String::from_utf8(payload).expect("text is UTF-8"))
}

impl World for Bare {
    fn open(
        &mut self,
        peer: &str,
        target: &str,
        headers: &[(String, String)],
    ) -> Result<Option<String>, Answer> {
        let (id, opening) = self.request_of("GET", target, headers, Way::WebSocket);
        match opening {
            Opening::WebSocket { session, .. } => {
                self.add(id, session);
                self.handle(id, Input::Opened);
            }
            Opening::Decide { session, .. } => {
                self.add(id, session);
                self.handle(id, Input::Asked);
            }
            Opening::Respond(response) => return Err(answer_of(response)),
            Opening::Exchange { .. } => panic!("{target} is no WebSocket"),
        }
        self.settle();
        if let Some(response) = self.peers.get_mut(&id).and_then(|peer| peer.response.take()) {
            self.leave(id, Parting::Closed);
            return Err(answer_of(response));
        }
        self.names.insert(peer.into(), id);
        // Only Pusher greets with it.
        Ok(target.starts_with("/app/").then(|| id.to_string()))
    }

    fn stream(
        &mut self,
        peer: &str,
        target: &str,
        headers: &[(String, String)],
        takes_chunks: bool,
    ) -> Result<Answer, Answer> {
        let way = if takes_chunks { Way::Http } else { Way::OldHttp };
        let (id, opening) = self.request_of("GET", target, headers, way);
        let session = match opening {
            Opening::Exchange { session, .. } => session,
            Opening::Respond(response) => return Err(answer_of(response)),
            Opening::WebSocket { .. } | Opening::Decide { .. } => panic!("{target} is a WebSocket"),
        };
        self.add(id, session);
        self.peers.get_mut(&id).expect("it was added").takes_chunks = takes_chunks;
        self.handle(id, Input::Body(&[]));
        self.settle();
        let peer_there = self.peers.get_mut(&id).expect("it was added");
        let mut response = peer_there.response.clone().expect("every request is answered");
        if peer_there.stream.is_none() {
            self.leave(id, Parting::Closed);
            return Err(answer_of(response));
        }
        response.body = Bytes::new();
        self.names.insert(peer.into(), id);
        Ok(answer_of(response))
    }

    fn send(&mut self, peer: &str, text: &str) {
        self.receive(peer, Input::Text(text));
    }

    fn send_binary(&mut self, peer: &str, bytes: &[u8]) {
        self.receive(peer, Input::Binary(bytes));
    }

    fn mute(&mut self, peer: &str) {
        let id = self.named(peer);
        self.peers.get_mut(&id).expect("it was opened").is_mute = true;
    }

    fn next(&mut self, peer: &str) -> Option<Heard> {
        self.peers.get_mut(&self.names[peer])?.heard.pop_front()
    }

    fn rest(&mut self, peer: &str) -> Option<Heard> {
        self.next(peer)
    }

    fn go(&mut self, peer: &str) {
        self.leave(self.named(peer), Parting::Closed);
    }

    fn lose(&mut self, peer: &str) {
        self.leave(self.named(peer), Parting::Lost);
    }

    fn request(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(String, String)],
        body: &str,
    ) -> Answer {
        let (id, opening) = self.request_of(method, target, headers, Way::Http);
        let response = match opening {
            Opening::Respond(response) => response,
            Opening::Exchange { session, body_bytes_max } => {
                assert!(body.len() <= body_bytes_max);
                self.add(id, session);
                self.handle(id, Input::Body(body.as_bytes()));
                self.settle();
                let peer = self.peers.get_mut(&id).expect("it was added");
                let response = peer.response.take().expect("every request is answered");
                self.leave(id, Parting::Closed);
                response
            }
            Opening::WebSocket { .. } | Opening::Decide { .. } => panic!("{target} is a WebSocket"),
        };
        let mut answer = answer_of(response);
        if method == "HEAD" {
            answer.body.clear();
        }
        answer
    }

    fn wait(&mut self, span: Millis) {
        let end = self.now.steady + span;
        loop {
            let timers = self.peers.iter().flat_map(|(id, peer)| {
                peer.timers.iter().map(move |(&kind, &due)| (due, Some((id.to_pair(), kind))))
            });
            let homes = self.homes.iter().filter_map(|home| home.next_due()).map(|due| (due, None));
            let Some((due, timer)) = timers.chain(homes).min().filter(|(due, _)| *due <= end)
            else {
                break;
            };
            self.now.wall.0 += due.since(self.now.steady).as_millis() as u64;
            self.now.steady = self.now.steady.max(due);
            match timer {
                Some(((first, second), kind)) => {
                    let id = ConnectionId::from_pair(first, second);
                    let Some(peer) = self.peers.get_mut(&id) else { continue };
                    peer.timers.remove(&kind);
                    let idle = peer.idle.filter(|it| it.0 == kind);
                    match idle.map(|(_, after)| peer.active + after) {
                        Some(due) if due > self.now.steady => {
                            peer.timers.insert(kind, due);
                        }
                        _ => self.handle(id, Input::Timer(TimerKind(kind))),
                    }
                }
                None => self.expire_homes(),
            }
            self.settle();
        }
        self.now.wall.0 += end.since(self.now.steady).as_millis() as u64;
        self.now.steady = end;
    }

    fn wall(&self) -> UnixMillis {
        self.now.wall
    }

    fn host(&self) -> String {
        "bare".into()
    }

    fn reports(&mut self) -> Option<Vec<Report>> {
        Some(self.lanes.reports.take())
    }
}
