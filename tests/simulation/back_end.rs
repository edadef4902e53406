//! Those who speak plain HTTP to a simulated server: back ends that publish over the signed API, and
//! peers that never finish what they ask.

use std::collections::VecDeque;

use ringmain::auth::sign;
use ringmain::reactor::sim::{SimClient, SimEnd};

use crate::tell;
use crate::universe::Universe;

/// A request in flight.
struct Waiting {
    /// What it must be answered.
    status: u16,
    is_head: bool,
    /// What it publishes: channels and counts.
    publishes: Vec<(String, u64)>,
    /// Subscribers whose connections it ends.
    ends: Vec<usize>,
}

/// A back end on one keep-alive connection.
pub struct Publisher {
    pub socket: SimClient,
    pub id: u64,
    received: Vec<u8>,
    waiting: VecDeque<Waiting>,
    /// Bodies of what was answered and publishes nothing.
    pub answers: VecDeque<(u16, String)>,
    pub answered: u64,
    /// Subscribers whose end was acknowledged.
    pub ended: Vec<usize>,
    /// Answers that refused for overload.
    pub overloads: u64,
    pub gone: bool,
}

/// One event of a request: channels with their counts, who is left out, and how much to add.
pub struct Post {
    pub counts: Vec<(String, u64)>,
    pub exclude: Option<String>,
    pub padding: usize,
}

impl Publisher {
    pub fn new(universe: &Universe, id: u64) -> Self {
        Self {
            socket: universe.connect(),
            id,
            received: Vec::new(),
            waiting: VecDeque::new(),
            answers: VecDeque::new(),
            answered: 0,
            ended: Vec::new(),
            overloads: 0,
            gone: false,
        }
    }

    /// How many requests wait for their answers.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    fn request(
        &mut self,
        universe: &Universe,
        method: &str,
        path: &str,
        body: &str,
        waiting: Waiting,
    ) {
        let wall = universe.world.now().wall;
        let mut query = sign::sign_request(&universe.app, method, path, &[], body.as_bytes(), wall);
        if waiting.status == 401 {
            // The last digit of the signature.
            let last = if query.ends_with('0') { "1" } else { "0" };
            query.replace_range(query.len() - 1.., last);
        }
        let (mut head, mut framed) = (String::new(), body.to_owned());
        if body.len() > 2 && universe.world.draw(4) == 0 {
            head += "Transfer-Encoding: chunked\r\n";
            let (first, second) = body.split_at(body.len() / 2);
            framed = format!(
                "{:x}\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\n\r\n",
                first.len(),
                second.len()
            );
        } else if !body.is_empty() {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        self.socket.send(
            format!("{method} {path}?{query} HTTP/1.1\r\nHost: sim\r\nContent-Type: application/json\r\n{head}\r\n{framed}")
                .as_bytes(),
        );
        self.waiting.push_back(waiting);
    }

    /// Publishes one event, or several in a batch; each of a batch goes to one channel.
    pub fn publish(&mut self, universe: &Universe, posts: &[Post]) {
        let events: Vec<_> = posts
            .iter()
            .map(|post| {
                let counts: serde_json::Map<_, _> = post
                    .counts
                    .iter()
                    .map(|(name, count)| (name.clone(), (*count).into()))
                    .collect();
                let data = serde_json::json!({
                    "publisher": self.id, "counts": counts, "padding": "x".repeat(post.padding)
                });
                let mut event = serde_json::json!({ "name": "count", "data": data.to_string() });
                let channels: Vec<_> = post.counts.iter().map(|(name, _)| name.clone()).collect();
                match &channels[..] {
                    [channel] => event["channel"] = channel.clone().into(),
                    _ => event["channels"] = channels.into(),
                }
                if let Some(socket_id) = &post.exclude {
                    event["socket_id"] = socket_id.clone().into();
                }
                tell!(
                    universe.world,
                    "publisher {} publishes {:?}, {} more bytes, but not to {:?}",
                    self.id,
                    post.counts,
                    post.padding,
                    post.exclude
                );
                event
            })
            .collect();
        let publishes = posts.iter().flat_map(|post| post.counts.clone()).collect();
        let waiting = Waiting { status: 200, is_head: false, publishes, ends: Vec::new() };
        match &events[..] {
            [event] => {
                self.request(universe, "POST", "/apps/app-id/events", &event.to_string(), waiting);
            }
            _ => {
                let batch = serde_json::json!({ "batch": events }).to_string();
                self.request(universe, "POST", "/apps/app-id/batch_events", &batch, waiting);
            }
        }
    }

    /// Asks for something whose answer can be told from all others'.
    pub fn ask(&mut self, universe: &Universe, method: &str, path: &str, status: u16) {
        let body = if method == "POST" { "{}" } else { "" };
        let is_head = method == "HEAD";
        let waiting = Waiting { status, is_head, publishes: Vec::new(), ends: Vec::new() };
        tell!(universe.world, "publisher {} asks {method} {path}, for {status}", self.id);
        self.request(universe, method, path, body, waiting);
    }

    /// Ends a user's connections, `whom` among them.
    pub fn terminate(&mut self, universe: &Universe, user: &str, whom: Vec<usize>) {
        let path = format!("/apps/app-id/users/{user}/terminate_connections");
        self.ask(universe, "POST", &path, 200);
        if let Some(waiting) = self.waiting.back_mut() {
            waiting.ends = whom;
        }
    }

    /// Takes in answers; returns the publishes that were answered, in order.
    pub fn hear(&mut self) -> Vec<(String, u64)> {
        self.received.extend(self.socket.received());
        let mut done = Vec::new();
        while let Some(end) = self.received.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8(self.received[..end].to_vec()).expect("heads are ASCII");
            let waiting = self.waiting.front().expect("an answer nobody waits for");
            let length = head.lines().find_map(|line| {
                let line = line.to_ascii_lowercase();
                line.strip_prefix("content-length:").map(|n| n.trim().parse().expect("a number"))
            });
            let length: usize = if waiting.is_head { 0 } else { length.unwrap_or_default() };
            if self.received.len() < end + 4 + length {
                break;
            }
            let rest = self.received.split_off(end + 4 + length);
            let body =
                String::from_utf8(self.received.split_off(end + 4)).expect("bodies are UTF-8");
            self.received = rest;
            let status: u16 = head[9..12].parse().expect("a status");
            let waiting = self.waiting.pop_front().expect("looked at above");
            self.answered += 1;
            if status == 503 {
                assert!(head.contains("Retry-After"), "{head}");
                self.overloads += 1;
                self.gone = true;
                continue;
            }
            assert_eq!(status, waiting.status, "answered out of order or wrong: {head}\n{body}");
            self.ended.extend(waiting.ends);
            if waiting.publishes.is_empty() {
                self.answers.push_back((status, body));
            } else {
                done.extend(waiting.publishes);
            }
        }
        if self.socket.end().is_some() {
            self.gone = true;
            self.socket.finish();
        }
        done
    }
}

/// What a sloth never finishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfinished {
    Head,
    Body,
    /// It never says anything at all.
    All,
}

/// A peer that takes all the time it is given, byte by byte.
pub struct Sloth {
    pub socket: SimClient,
    pub what: Unfinished,
    pub received: Vec<u8>,
}

impl Sloth {
    pub fn new(universe: &Universe, what: Unfinished) -> Self {
        let socket = universe.connect();
        tell!(universe.world, "a sloth comes: {what:?}");
        match what {
            Unfinished::Head => socket.send(b"GET /up HTTP/1.1\r\nHost: s"),
            Unfinished::Body => socket.send(
                b"POST /apps/app-id/events HTTP/1.1\r\nHost: sim\r\nContent-Length: 9000\r\n\r\n{",
            ),
            Unfinished::All => {}
        }
        Self { socket, what, received: Vec::new() }
    }

    /// One more byte, if it says anything.
    pub fn dribble(&mut self) {
        self.received.extend(self.socket.received());
        if self.what != Unfinished::All && self.socket.end().is_none() {
            self.socket.send(b"x");
        }
    }

    /// Checks that its time-out came, and with words; returns whether it heard them.
    pub fn check(&mut self, may_break: bool) -> bool {
        self.received.extend(self.socket.received());
        let end = self.socket.end();
        assert!(end.is_some(), "{:?} is waited for forever", self.what);
        let text = String::from_utf8_lossy(&self.received);
        if may_break && end == Some(SimEnd::Reset) {
            return false;
        }
        match self.what {
            Unfinished::All => assert_eq!(text, "", "who says nothing hears nothing"),
            _ => assert!(
                text.starts_with("HTTP/1.1 408 ") || text.starts_with("HTTP/1.1 503 "),
                "{:?} was told {text:?}",
                self.what
            ),
        }
        self.what != Unfinished::All && text.starts_with("HTTP/1.1 408 ")
    }
}
