//! The subscribers of a simulated server: Pusher clients that keep a record of all they hear.

use std::collections::{BTreeMap, VecDeque};

use ringmain::auth::App;
use ringmain::reactor::sim::{SimClient, World};
use ringmain::wire::websocket::deflate::{Compressor, Inflater};
use ringmain::wire::websocket::encode::{Compression, masked_close_frame, masked_frame};
use ringmain::wire::websocket::{Decoder, Opcode, Role, Step};
use serde_json::Value;

use crate::tell;
use crate::universe::Universe;

pub const KEY: &str = "app-key";

/// How far every publisher has got in every channel.
pub type Counts = BTreeMap<(String, u64), u64>;

/// Client events are counted under the number of their sender above this.
pub const SENDERS: u64 = 1_000_000;

/// What a client has heard of one subscription.
#[derive(Default, Debug, Clone)]
pub struct Run {
    /// Events, in order: publisher and its count.
    pub events: Vec<(u64, u64)>,
    /// On cache channels what came right after the confirmation: the kept event, or the news of none.
    pub cached: Option<Option<(u64, u64)>>,
    /// Who is present, by its own account: snapshot, then additions and removals.
    pub members: Vec<String>,
    /// How far each publisher's answered publishes went when the subscription was asked for.
    pub answered_at_ask: BTreeMap<u64, u64>,
    /// How far each publisher had sent when the server confirmed it.
    pub sent_at_confirm: BTreeMap<u64, u64>,
    pub confirmed: bool,
    pub ended: bool,
}

/// What a peer does that others do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    Usual,
    /// Never reads again once it has a subscription.
    Deaf,
    /// Answers no ping.
    Mute,
}

/// What all subscribers of a run came across.
#[derive(Default, Debug, Clone)]
pub struct Met {
    pub events: u64,
    pub confirmed: u64,
    pub presence_changes: u64,
    pub cache_hits: u64,
    pub cache_misses: u64,
    pub client_events: u64,
    pub client_events_limited: u64,
    pub user_events: u64,
    pub watchlists: u64,
    pub inflated: u64,
    pub fragmented: u64,
    pub deflated: u64,
    pub counts: u64,
}

/// A Pusher client.
pub struct Subscriber {
    pub socket: SimClient,
    pub user: String,
    /// Its place among the subscribers.
    pub who: usize,
    pub manner: Manner,
    world: World,
    decoder: Decoder,
    assembly: Vec<u8>,
    head: Vec<u8>,
    upgraded: bool,
    deflate: bool,
    pub socket_id: Option<String>,
    pub wants: VecDeque<String>,
    /// Whom it wants to watch once it signs in; none if it never does.
    pub signs_in: Option<Vec<String>>,
    /// Who is online, by its own account.
    pub online: BTreeMap<String, bool>,
    /// Every subscription it ever had, in order, by channel.
    pub runs: BTreeMap<String, Vec<Run>>,
    pub stalled: bool,
    pub was_stalled: bool,
    /// It did not read any more when the run came to rest, nor answer, so its time must run out.
    pub is_lost: bool,
    pub gone: bool,
    /// Its user was terminated after its sign-in was confirmed.
    pub doomed: bool,
    pub closed: Option<u16>,
    /// The status it was answered instead of 101.
    pub refused: Option<String>,
    pub pings: u64,
    pub pongs: u64,
    pub met: Met,
}

fn of_channel(counts: &Counts, channel: &str) -> BTreeMap<u64, u64> {
    let here = counts.iter().filter(|((name, _), _)| name == channel);
    here.map(|((_, publisher), count)| (*publisher, *count)).collect()
}

/// The user's own channel.
pub fn user_channel(user: &str) -> String {
    format!("#server-to-user-{user}")
}

impl Subscriber {
    pub fn new(universe: &Universe, who: usize, user: String, manner: Manner) -> Self {
        let world = universe.world.clone();
        let socket = universe.connect();
        let offer = if world.draw(3) == 0 {
            "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
        } else {
            ""
        };
        socket.send(
            format!(
                "GET /app/{KEY}?protocol=7&client=sim HTTP/1.1\r\nHost: sim\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n{offer}\r\n"
            )
            .as_bytes(),
        );
        tell!(world, "subscriber {who} connects as {user}, {manner:?} {offer}");
        Self {
            socket,
            user,
            who,
            manner,
            world,
            decoder: Decoder::new(Role::Client, 1 << 20, false),
            assembly: Vec::new(),
            head: Vec::new(),
            upgraded: false,
            deflate: false,
            socket_id: None,
            wants: VecDeque::new(),
            signs_in: None,
            online: BTreeMap::new(),
            runs: BTreeMap::new(),
            stalled: false,
            was_stalled: false,
            is_lost: false,
            gone: false,
            doomed: false,
            closed: None,
            refused: None,
            pings: 0,
            pongs: 0,
            met: Met::default(),
        }
    }

    fn last(&self, channel: &str) -> Option<&Run> {
        self.runs.get(channel).and_then(|runs| runs.last())
    }

    /// Is this subscription wanted and not given up?
    pub fn has(&self, channel: &str) -> bool {
        self.wants.iter().any(|wanted| wanted == channel)
            || self.last(channel).is_some_and(|run| !run.ended)
    }

    /// Does it stand, as far as this peer knows?
    pub fn stands(&self, channel: &str) -> bool {
        !self.gone && self.last(channel).is_some_and(|run| run.confirmed && !run.ended)
    }

    /// Was its sign-in confirmed?
    pub fn is_signed_in(&self) -> bool {
        self.last(&user_channel(&self.user)).is_some_and(|run| run.confirmed)
    }

    /// Sends a text whole, compressed or in pieces, as chance will have it.
    fn send(&mut self, text: &str) {
        let bytes = text.as_bytes();
        let piece_bytes_max = match self.world.draw(8) {
            0 if self.deflate => {
                let mut out = Vec::new();
                assert!(Compressor::new(6).compress(bytes, &mut out));
                self.met.deflated += 1;
                let frame = masked_frame(Opcode::Text, Compression::Deflated, &out, [4, 3, 2, 1]);
                return self.socket.send(&frame);
            }
            1 => 1 + bytes.len() / 3,
            2 if bytes.len() < 200 => 1,
            _ => bytes.len(),
        };
        let pieces = bytes.chunks(piece_bytes_max).collect::<Vec<_>>();
        self.met.fragmented += u64::from(pieces.len() > 1);
        for (i, piece) in pieces.iter().enumerate() {
            let opcode = if i == 0 { Opcode::Text } else { Opcode::Continuation };
            let mut frame = masked_frame(opcode, Compression::Plain, piece, [1, 2, 3, 4]);
            if i + 1 < pieces.len() {
                frame[0] &= 0x7f;
            }
            self.socket.send(&frame);
            if i == 0 && pieces.len() > 1 {
                // A control frame between the pieces of a message.
                self.pings += 1;
                let payload = self.pings.to_be_bytes();
                self.socket.send(&masked_frame(Opcode::Ping, Compression::Plain, &payload, [7; 4]));
            }
        }
    }

    /// Sends the subscribes it wants, once it has a socket id. `answered` is how far the publishers' answers go.
    pub fn ask(&mut self, app: &App, answered: &Counts) {
        let Some(socket_id) = self.socket_id.clone() else { return };
        if self.gone {
            return;
        }
        let sign = |text: String| {
            let signed = app.signing_key.sign(&[text.as_bytes()]);
            format!("{KEY}:{}", std::str::from_utf8(&signed).expect("hex digits"))
        };
        if let Some(watchlist) = self.signs_in.take() {
            self.online = watchlist.iter().map(|user| (user.clone(), false)).collect();
            let user_data =
                serde_json::json!({ "id": self.user, "watchlist": watchlist }).to_string();
            let auth = sign(format!("{socket_id}::user::{user_data}"));
            let run = Run {
                answered_at_ask: of_channel(answered, &user_channel(&self.user)),
                ..Run::default()
            };
            self.runs.insert(user_channel(&self.user), vec![run]);
            let data = serde_json::json!({ "auth": auth, "user_data": user_data });
            tell!(self.world, "subscriber {} signs in as {}", self.who, self.user);
            self.send(&serde_json::json!({ "event": "pusher:signin", "data": data }).to_string());
        }
        while let Some(channel) = self.wants.pop_front() {
            let mut data = serde_json::json!({ "channel": channel });
            if channel.starts_with("presence-") {
                let member = format!("{{\"user_id\":\"{}\"}}", self.user);
                data["auth"] = sign(format!("{socket_id}:{channel}:{member}")).into();
                data["channel_data"] = member.into();
            } else if channel.starts_with("private-") {
                data["auth"] = sign(format!("{socket_id}:{channel}")).into();
            }
            let answered_at_ask = of_channel(answered, &channel);
            tell!(self.world, "subscriber {} asks for {channel}", self.who);
            self.runs.entry(channel).or_default().push(Run { answered_at_ask, ..Run::default() });
            let text = serde_json::json!({ "event": "pusher:subscribe", "data": data }).to_string();
            self.send(&text);
        }
    }

    pub fn unsubscribe(&mut self, channel: &str) {
        if let Some(position) = self.wants.iter().position(|wanted| wanted == channel) {
            self.wants.remove(position);
            return;
        }
        // Only confirmed ones: what is heard between two subscriptions of a name cannot be told apart.
        if !self.stands(channel) {
            return;
        }
        if let Some(run) = self.runs.get_mut(channel).and_then(|runs| runs.last_mut()) {
            run.ended = true;
        }
        tell!(self.world, "subscriber {} unsubscribes {channel}", self.who);
        self.send(&format!(
            "{{\"event\":\"pusher:unsubscribe\",\"data\":{{\"channel\":\"{channel}\"}}}}"
        ));
    }

    /// Publishes over its own connection; the sender's number stands for the publisher's.
    pub fn client_event(&mut self, channel: &str, count: u64) {
        let publisher = SENDERS + self.who as u64;
        tell!(self.world, "subscriber {} sends {channel} {publisher}:{count}", self.who);
        self.send(&format!(
            "{{\"event\":\"client-count\",\"channel\":\"{channel}\",\"data\":{{\"publisher\":{publisher},\"counts\":{{\"{channel}\":{count}}}}}}}"
        ));
    }

    pub fn stall(&mut self) {
        (self.stalled, self.was_stalled) = (true, true);
        self.socket.stall();
    }

    pub fn resume(&mut self) {
        self.stalled = false;
        self.socket.resume();
    }

    /// Takes in what arrived. `sent` is how far the publishers have sent.
    pub fn hear(&mut self, sent: &Counts) {
        let mut bytes = self.socket.received();
        let has_ended = self.socket.end().is_some();
        if !self.upgraded {
            self.head.append(&mut bytes);
            let Some(end) = self.head.windows(4).position(|window| window == b"\r\n\r\n") else {
                self.gone |= has_ended;
                return;
            };
            let rest = self.head.split_off(end + 4);
            let head = String::from_utf8_lossy(&self.head).into_owned();
            if !head.starts_with("HTTP/1.1 101 ") {
                (self.gone, self.refused) = (true, Some(head));
                return;
            }
            self.upgraded = true;
            self.deflate = head.contains("permessage-deflate");
            self.decoder = Decoder::new(Role::Client, 1 << 20, self.deflate);
            bytes = rest;
        }
        let mut input = &mut bytes[..];
        let mut texts = Vec::new();
        loop {
            match self.decoder.next(&mut input, &mut self.assembly) {
                Ok(Step::NeedMore) => break,
                Ok(Step::Text(text)) => texts.push(text.to_owned()),
                Ok(Step::Deflated(_, bytes)) => {
                    self.met.inflated += 1;
                    let text = Inflater::new().inflate(bytes, 1 << 20).expect("it inflates");
                    texts.push(String::from_utf8(text).expect("text is UTF-8"));
                }
                Ok(Step::Pong(payload)) => {
                    self.pongs += 1;
                    assert_eq!(payload, self.pongs.to_be_bytes(), "pongs come in order, once each");
                }
                Ok(Step::Close { code, .. }) => {
                    self.closed = code;
                    break;
                }
                Ok(other) => panic!("unexpected {other:?}"),
                Err(error) => panic!("the server broke the WebSocket protocol: {error}"),
            }
        }
        for text in texts {
            self.take(&text, sent);
        }
        if self.closed.is_some() && !self.gone {
            tell!(self.world, "subscriber {} is closed: {:?}", self.who, self.closed);
            // Some answer, some only leave.
            if self.who.is_multiple_of(2) {
                self.socket.send(&masked_close_frame(1000, "", [5; 4]));
            }
            self.socket.finish();
        }
        self.gone |= has_ended || self.closed.is_some();
        if self.manner == Manner::Deaf
            && !self.was_stalled
            && self.runs.values().flatten().any(|run| run.confirmed)
        {
            tell!(self.world, "subscriber {} never reads again", self.who);
            self.stall();
        }
    }

    fn take(&mut self, text: &str, sent: &Counts) {
        tell!(self.world, "subscriber {} hears {}", self.who, &text[..text.len().min(160)]);
        let value: Value = serde_json::from_str(text).expect("the server sends JSON");
        let event = value["event"].as_str().unwrap_or_default();
        let channel = value["channel"].as_str().unwrap_or_default().to_owned();
        let data: Value = match &value["data"] {
            Value::String(text) => serde_json::from_str(text).unwrap_or_default(),
            other => other.clone(),
        };
        match event {
            "pusher:connection_established" => {
                self.socket_id = data["socket_id"].as_str().map(str::to_owned);
            }
            "pusher:ping" if self.manner == Manner::Mute => {}
            "pusher:ping" => self.send("{\"event\":\"pusher:pong\",\"data\":{}}"),
            "pusher:error" => {
                let message = data["message"].as_str().unwrap_or_default();
                if message.contains("rate limit") {
                    self.met.client_events_limited += 1;
                } else {
                    assert!(
                        ["capacity", "Server shutting down", "Pong", "disconnected by the app"]
                            .iter()
                            .any(|it| message.contains(it)),
                        "subscriber {} is told {text}",
                        self.who
                    );
                }
            }
            "pusher:signin_success" => self.confirm(&user_channel(&self.user.clone()), &data, sent),
            "pusher_internal:watchlist_events" => self.watch(&data),
            "pusher_internal:subscription_count" => self.met.counts += 1,
            _ => self.take_of_channel(event, &channel, &data, sent),
        }
    }

    fn watch(&mut self, data: &Value) {
        self.met.watchlists += 1;
        for news in data["events"].as_array().expect("a list of news") {
            let is_online = news["name"] == "online";
            for user in news["user_ids"].as_array().expect("a list of users") {
                let user = user.as_str().expect("a user's id");
                let place = self.online.get_mut(user).expect("only whom it watches");
                *place = is_online;
            }
        }
    }

    fn confirm(&mut self, channel: &str, data: &Value, sent: &Counts) {
        self.met.confirmed += 1;
        let runs = self.runs.get_mut(channel).expect("confirmed what it never asked for");
        let Some(run) = runs.iter_mut().find(|run| !run.ended) else { return };
        assert!(!run.confirmed, "{channel}: confirmed twice");
        run.confirmed = true;
        run.sent_at_confirm = of_channel(sent, channel);
        if let Some(ids) = data["presence"]["ids"].as_array() {
            run.members = ids.iter().filter_map(|id| id.as_str().map(str::to_owned)).collect();
        }
    }

    fn take_of_channel(&mut self, event: &str, channel: &str, data: &Value, sent: &Counts) {
        if event == "pusher_internal:subscription_succeeded" {
            return self.confirm(channel, data, sent);
        }
        let runs = self.runs.get_mut(channel).expect("heard of a channel it never asked for");
        let is_second = runs.len() > 1;
        let Some(run) = runs.iter_mut().find(|run| !run.ended) else { return };
        if is_second && !run.confirmed {
            // The tail of the subscription before: it was on its way when that one ended.
            return;
        }
        match event {
            "pusher_internal:member_added" => {
                let user = data["user_id"].as_str().expect("a member has an id").to_owned();
                assert!(!run.members.contains(&user), "{user} joined {channel} twice");
                run.members.push(user);
                self.met.presence_changes += 1;
            }
            "pusher_internal:member_removed" => {
                let user = data["user_id"].as_str().expect("a member has an id");
                let place = run.members.iter().position(|member| member == user);
                run.members.remove(place.unwrap_or_else(|| panic!("{user} left {channel} unseen")));
                self.met.presence_changes += 1;
            }
            "pusher:cache_miss" => {
                assert!(run.confirmed && run.events.is_empty(), "{channel}: a late cache miss");
                assert_eq!(run.cached.replace(None), None, "{channel}: missed what was there");
                self.met.cache_misses += 1;
            }
            "count" | "client-count" => {
                assert!(run.confirmed, "an event of {channel} came before its confirmation");
                let publisher = data["publisher"].as_u64().expect("ours");
                let count = data["counts"][channel].as_u64().expect("ours");
                assert_eq!(event == "client-count", publisher >= SENDERS, "{channel}");
                if channel.starts_with("cache-") && run.cached.is_none() {
                    run.cached = Some(Some((publisher, count)));
                    self.met.cache_hits += 1;
                    return;
                }
                run.events.push((publisher, count));
                self.met.events += 1;
                self.met.client_events += u64::from(publisher >= SENDERS);
                self.met.user_events += u64::from(channel.starts_with('#'));
            }
            other => panic!("unexpected event {other}"),
        }
    }
}
