//! The peers of a simulated server: Pusher clients that keep a record of all they hear, and back
//! ends that publish over the signed HTTP API.

use std::collections::BTreeMap;
use std::collections::VecDeque;

use ringmain::auth::{App, sign};
use ringmain::reactor::sim::SimClient;
use ringmain::wire::websocket::encode::masked_frame;
use ringmain::wire::websocket::{Decoder, Opcode, Role, Step};

use crate::universe::Universe;

/// What a client has heard of one subscription.
#[derive(Default, Debug, Clone)]
pub struct Run {
    /// Events, in order: publisher and its count.
    pub events: Vec<(u64, u64)>,
    /// Who is present, by its own account: snapshot, then additions and removals.
    pub members: Vec<String>,
    /// How far each publisher's answered publishes went when the subscription was asked for.
    pub answered_at_ask: BTreeMap<u64, u64>,
    /// How far each publisher had sent when the server confirmed it.
    pub sent_at_confirm: BTreeMap<u64, u64>,
    pub confirmed: bool,
    pub ended: bool,
}

/// A Pusher client.
pub struct Subscriber {
    pub socket: SimClient,
    pub user: String,
    decoder: Decoder,
    assembly: Vec<u8>,
    head: Vec<u8>,
    upgraded: bool,
    pub socket_id: Option<String>,
    pub wants: VecDeque<String>,
    /// Every subscription it ever had, in order, by channel.
    pub runs: BTreeMap<String, Vec<Run>>,
    pub stalled: bool,
    pub gone: bool,
    pub errors: Vec<String>,
}

pub const KEY: &str = "app-key";

impl Subscriber {
    pub fn new(universe: &Universe, user: String) -> Self {
        let socket = universe.connect();
        socket.send(
            format!(
                "GET /app/{KEY}?protocol=7&client=sim HTTP/1.1\r\nHost: sim\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            )
            .as_bytes(),
        );
        Self {
            socket,
            user,
            decoder: Decoder::new(Role::Client, 1 << 20, false),
            assembly: Vec::new(),
            head: Vec::new(),
            upgraded: false,
            socket_id: None,
            wants: VecDeque::new(),
            runs: BTreeMap::new(),
            stalled: false,
            gone: false,
            errors: Vec::new(),
        }
    }

    /// Is this subscription wanted and not given up?
    pub fn has(&self, channel: &str) -> bool {
        self.wants.iter().any(|wanted| wanted == channel)
            || self.runs.get(channel).and_then(|runs| runs.last()).is_some_and(|run| !run.ended)
    }

    fn send(&mut self, text: &str) {
        self.socket.send(&masked_frame(
            Opcode::Text,
            ringmain::wire::websocket::encode::Compression::Plain,
            text.as_bytes(),
            [1, 2, 3, 4],
        ));
    }

    /// Sends the subscribes it wants, once it has a socket id. `answered` is how far the publishers' answers go.
    pub fn ask(&mut self, app: &App, answered: &BTreeMap<(String, u64), u64>) {
        let Some(socket_id) = self.socket_id.clone() else { return };
        if self.gone {
            return;
        }
        while let Some(channel) = self.wants.pop_front() {
            let text = if channel.starts_with("presence-") {
                let member = format!("{{\"user_id\":\"{}\"}}", self.user);
                let signed =
                    app.signing_key.sign(&[format!("{socket_id}:{channel}:{member}").as_bytes()]);
                let signature = std::str::from_utf8(&signed).expect("hex digits");
                let quoted = member.replace('"', "\\\"");
                format!(
                    "{{\"event\":\"pusher:subscribe\",\"data\":{{\"channel\":\"{channel}\",\"auth\":\"{KEY}:{signature}\",\"channel_data\":\"{quoted}\"}}}}"
                )
            } else {
                format!("{{\"event\":\"pusher:subscribe\",\"data\":{{\"channel\":\"{channel}\"}}}}")
            };
            let answered_at_ask = answered
                .iter()
                .filter(|((name, _), _)| *name == channel)
                .map(|((_, publisher), count)| (*publisher, *count))
                .collect();
            self.runs
                .entry(channel.clone())
                .or_default()
                .push(Run { answered_at_ask, ..Run::default() });
            self.send(&text);
        }
    }

    pub fn unsubscribe(&mut self, channel: &str) {
        if let Some(position) = self.wants.iter().position(|wanted| wanted == channel) {
            self.wants.remove(position);
            return;
        }
        let Some(run) = self.runs.get_mut(channel).and_then(|runs| runs.last_mut()) else { return };
        // Only confirmed ones: what is heard between two subscriptions of a name cannot be told apart.
        if run.ended || !run.confirmed || self.gone {
            return;
        }
        run.ended = true;
        self.send(&format!(
            "{{\"event\":\"pusher:unsubscribe\",\"data\":{{\"channel\":\"{channel}\"}}}}"
        ));
    }

    /// Takes in what arrived. `sent` is how far the publishers have sent.
    pub fn hear(&mut self, sent: &BTreeMap<(String, u64), u64>) {
        let mut bytes = self.socket.received();
        if self.socket.end().is_some() {
            self.gone = true;
        }
        if !self.upgraded {
            self.head.append(&mut bytes);
            let Some(end) = self.head.windows(4).position(|window| window == b"\r\n\r\n") else {
                return;
            };
            assert!(
                self.head.starts_with(b"HTTP/1.1 101 "),
                "{}",
                String::from_utf8_lossy(&self.head)
            );
            self.upgraded = true;
            bytes = self.head.split_off(end + 4);
        }
        let mut input = &mut bytes[..];
        let (mut texts, mut pongs) = (Vec::new(), Vec::new());
        loop {
            match self.decoder.next(&mut input, &mut self.assembly) {
                Ok(Step::NeedMore) => break,
                Ok(Step::Text(text)) => texts.push(text.to_owned()),
                Ok(Step::Ping(payload)) => pongs.push(payload.to_vec()),
                Ok(Step::Close { .. }) => {
                    self.gone = true;
                    break;
                }
                Ok(other) => panic!("unexpected {other:?}"),
                Err(error) => panic!("the server broke the WebSocket protocol: {error}"),
            }
        }
        for text in texts {
            self.take(&text, sent);
        }
    }

    fn take(&mut self, text: &str, sent: &BTreeMap<(String, u64), u64>) {
        let value: serde_json::Value = serde_json::from_str(text).expect("the server sends JSON");
        let event = value["event"].as_str().unwrap_or_default();
        let channel = value["channel"].as_str().unwrap_or_default().to_owned();
        let data: serde_json::Value = match &value["data"] {
            serde_json::Value::String(text) => serde_json::from_str(text).unwrap_or_default(),
            other => other.clone(),
        };
        match event {
            "pusher:connection_established" => {
                self.socket_id = data["socket_id"].as_str().map(str::to_owned);
            }
            "pusher:ping" => self.send("{\"event\":\"pusher:pong\",\"data\":{}}"),
            "pusher:error" => self.errors.push(text.to_owned()),
            "pusher:pong" | "pusher_internal:subscription_count" => {}
            _ => {
                let runs =
                    self.runs.get_mut(&channel).expect("heard of a channel it never asked for");
                let is_second = runs.len() > 1;
                let Some(run) = runs.iter_mut().find(|run| !run.ended) else { return };
                if is_second && !run.confirmed && event != "pusher_internal:subscription_succeeded"
                {
                    // The tail of the subscription before: it was on its way when that one ended.
                    return;
                }
                match event {
                    "pusher_internal:subscription_succeeded" => {
                        assert!(!run.confirmed, "confirmed twice");
                        run.confirmed = true;
                        run.sent_at_confirm = sent
                            .iter()
                            .filter(|((name, _), _)| *name == channel)
                            .map(|((_, publisher), count)| (*publisher, *count))
                            .collect();
                        if let Some(ids) = data["presence"]["ids"].as_array() {
                            run.members = ids
                                .iter()
                                .filter_map(|id| id.as_str().map(str::to_owned))
                                .collect();
                        }
                    }
                    "pusher_internal:member_added" => {
                        let user = data["user_id"].as_str().expect("a member has an id").to_owned();
                        assert!(!run.members.contains(&user), "{user} joined {channel} twice");
                        run.members.push(user);
                    }
                    "pusher_internal:member_removed" => {
                        let user = data["user_id"].as_str().expect("a member has an id");
                        let place = run.members.iter().position(|member| member == user);
                        run.members.remove(
                            place.unwrap_or_else(|| panic!("{user} left {channel} unseen")),
                        );
                    }
                    "count" => {
                        assert!(
                            run.confirmed,
                            "an event of {channel} came before its confirmation"
                        );
                        let publisher = data["publisher"].as_u64().expect("ours");
                        let count = data["count"].as_u64().expect("ours");
                        run.events.push((publisher, count));
                    }
                    other => panic!("unexpected event {other}"),
                }
            }
        }
    }
}

/// A back end on one keep-alive connection.
pub struct Publisher {
    pub socket: SimClient,
    pub id: u64,
    received: Vec<u8>,
    /// What each request in flight was: channel and count; none for a query.
    pub waiting: VecDeque<(String, u64)>,
    pub answers: VecDeque<(u16, String)>,
    pub gone: bool,
}

impl Publisher {
    pub fn new(universe: &Universe, id: u64) -> Self {
        Self {
            socket: universe.connect(),
            id,
            received: Vec::new(),
            waiting: VecDeque::new(),
            answers: VecDeque::new(),
            gone: false,
        }
    }

    fn request(&mut self, universe: &Universe, method: &str, path: &str, body: Option<&str>) {
        let body = body.unwrap_or_default();
        let wall = universe.world.now().wall;
        let query = sign::sign_request(&universe.app, method, path, &[], body.as_bytes(), wall);
        self.socket.send(
            format!(
                "{method} {path}?{query} HTTP/1.1\r\nHost: sim\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
            .as_bytes(),
        );
    }

    /// Publishes `count` to a channel.
    pub fn publish(&mut self, universe: &Universe, channel: &str, count: u64, padding: usize) {
        let id = self.id;
        let padding = "x".repeat(padding);
        let data = format!(
            "{{\\\"publisher\\\":{id},\\\"count\\\":{count},\\\"padding\\\":\\\"{padding}\\\"}}"
        );
        let body = format!("{{\"name\":\"count\",\"channel\":\"{channel}\",\"data\":\"{data}\"}}");
        self.request(universe, "POST", "/apps/app-id/events", Some(&body));
        self.waiting.push_back((channel.to_owned(), count));
    }

    /// Asks who is in a channel.
    pub fn ask_users(&mut self, universe: &Universe, channel: &str) {
        self.request(universe, "GET", &format!("/apps/app-id/channels/{channel}/users"), None);
        self.waiting.push_back((String::new(), 0));
    }

    /// Takes in answers; returns the publishes that were answered, in order.
    pub fn hear(&mut self) -> Vec<(String, u64)> {
        self.received.extend(self.socket.received());
        if self.socket.end().is_some() {
            self.gone = true;
        }
        let mut done = Vec::new();
        while let Some(end) = self.received.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8(self.received[..end].to_vec()).expect("heads are ASCII");
            let length: usize = head
                .lines()
                .find_map(|line| {
                    line.to_ascii_lowercase()
                        .strip_prefix("content-length:")
                        .map(|n| n.trim().to_owned())
                })
                .map_or(0, |n| n.parse().expect("a number"));
            if self.received.len() < end + 4 + length {
                break;
            }
            let rest = self.received.split_off(end + 4 + length);
            let body =
                String::from_utf8(self.received.split_off(end + 4)).expect("bodies are UTF-8");
            self.received = rest;
            let status: u16 = head[9..12].parse().expect("a status");
            let (channel, count) = self.waiting.pop_front().expect("an answer nobody waits for");
            if channel.is_empty() {
                self.answers.push_back((status, body));
            } else {
                assert_eq!(status, 200, "{head}\n{body}");
                done.push((channel, count));
            }
        }
        done
    }
}
