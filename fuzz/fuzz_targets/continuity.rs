//! A connection of protocol 2 and the history API on a home that keeps history in memory: whatever is asked, every
//! message is JSON with a name, every request is answered once, and no event of a channel comes twice or with a
//! hole behind the last.
//!
//! The input is a script: an opcode byte, a length byte, then that many bytes.
#![no_main]

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use ringmain::auth::{App, Apps, sign};
use ringmain::base::ids::{AppIndex, ConnectionId, LaneId, ShardId, Ticket};
use ringmain::base::name::Channel;
use ringmain::base::time::{Millis, Nanos, Now, UnixMillis};
use ringmain::broker::home::{Home, Keeping, Limits};
use ringmain::broker::rules::Rules;
use ringmain::broker::slots::Slots;
use ringmain::broker::{Command, Down, Event, Payload, Publish, Render, Reply, Up};
use ringmain::config::Config;
use ringmain::dialects::{self, Dialect, Facts, Input, Opening, Output, Request, Session};
use ringmain::observe::Metrics;
use ringmain::wire::json::{self, Raw};

struct Nothing;

impl Render for Nothing {
    fn render(&self, _: LaneId, _: &Event) -> Option<Bytes> {
        None
    }
}

struct Server {
    home: Home,
    now: Now,
    app: Arc<App>,
    dialect: Arc<dyn Dialect>,
}

impl Server {
    fn facts(&self) -> Facts {
        Facts {
            connection: ConnectionId::from_pair(1, 1),
            now: self.now,
            shards: 1,
            draining: false,
            lane_first: LaneId(0),
            deflate: false,
            chance: 0,
        }
    }

    fn ask(&mut self, ticket: Ticket, command: Command) -> Option<(Ticket, Reply)> {
        let from = ConnectionId::from_pair(1, 1);
        let mut downs = Vec::new();
        self.home.handle(Up::Ask { from, ticket, command }, ShardId(0), self.now, &Nothing, &mut downs);
        downs.into_iter().find_map(|(_, down)| match down {
            Down::Answer { ticket, reply, .. } => Some((ticket, reply)),
            Down::Attach { ticket, reply, .. } => Some((ticket, Reply::Subscribed(reply))),
            Down::Deliver(_) => None,
        })
    }

    /// One signed request; its status.
    fn request(&mut self, method: &str, path: &str, pairs: &[(&str, &str)], body: &[u8]) -> u16 {
        let query = sign::sign_request(&self.app, method, path, pairs, body, self.now.wall);
        let peer = ([127, 0, 0, 1], 9).into();
        let query = Some(query.as_str());
        let request = Request { method, path, query, headers: &[], peer, is_websocket: false, takes_chunks: true };
        let mut session = match self.dialect.open(&request, &self.facts()) {
            Some(Opening::Exchange { session, .. }) => session,
            Some(Opening::Respond(response)) => return response.status,
            _ => panic!("the API's own path"),
        };
        let mut out = Vec::new();
        session.handle(Input::Body(body), self.now, &mut out);
        let mut status = None;
        while !out.is_empty() {
            for output in std::mem::take(&mut out) {
                match output {
                    Output::Respond(response) => {
                        assert!(status.replace(response.status).is_none(), "answered once");
                        assert!(json::parse(&response.body).is_ok(), "with JSON");
                    }
                    Output::Ask(ticket, command) => {
                        if let Some((ticket, reply)) = self.ask(ticket, command) {
                            session.handle(Input::Reply(ticket, reply), self.now, &mut out);
                        }
                    }
                    _ => {}
                }
            }
        }
        status.expect("answered")
    }
}

struct Peer {
    session: Box<dyn Session>,
    /// By channel: stream and serial of the last event.
    last: HashMap<String, (String, u64)>,
    is_over: bool,
}

impl Peer {
    fn handle(&mut self, input: Input<'_>, server: &mut Server) {
        if self.is_over {
            return;
        }
        let mut out = Vec::new();
        self.session.handle(input, server.now, &mut out);
        while !out.is_empty() {
            for output in std::mem::take(&mut out) {
                match output {
                    Output::Text(text) => self.hear(&text),
                    Output::Ask(ticket, command) => {
                        if let Some((ticket, reply)) = server.ask(ticket, command) {
                            self.session.handle(Input::Reply(ticket, reply), server.now, &mut out);
                        }
                    }
                    Output::Close(..) => self.is_over = true,
                    _ => {}
                }
            }
        }
    }

    fn hear(&mut self, text: &[u8]) {
        let message = json::parse(text).expect("what we send is JSON");
        let name = message.member("event").and_then(Raw::as_str).expect("it has a name");
        let (Some(channel), Some(stream), Some(serial)) = (
            message.member("channel").and_then(Raw::as_str),
            message.member("stream_id").and_then(Raw::as_str),
            message.member("serial").and_then(Raw::as_u64),
        ) else {
            return;
        };
        if name.starts_with("sockudo") {
            return;
        }
        // Nothing is delivered live here, so whatever comes is of a replay: within one, without a hole.
        let last = self.last.insert(channel.to_string(), (stream.to_string(), serial));
        if let Some((before, last)) = last.filter(|(it, _)| *it == *stream) {
            assert!(serial == last + 1 || serial <= last, "{before}: {serial} after {last}");
        }
    }
}

fuzz_target!(|script: &[u8]| {
    let config = Config::development();
    let metrics = Arc::new(Metrics::new(1, &dialects::NAMES));
    let all = dialects::all(&config, metrics);
    let dialect = Arc::clone(all.iter().find(|it| it.name() == "pusher").expect("it is in the list"));
    let now = Now { steady: Nanos(1 << 40), wall: UnixMillis(1_700_000_000_000) };
    let slots = Arc::new(Slots::new(1, [1, 2]));
    let keeping = Keeping::configured(&config, Rules::configured(&config), now, 3);
    let home = Home::new(slots, Limits { channels_max: 64 }).keeping(keeping);
    let app = Arc::clone(Apps::new(&config.apps).with_key("app-key").expect("the development app"));
    let mut server = Server { home, now, app, dialect };
    let peer = ([127, 0, 0, 1], 9).into();
    let (method, path, query) = ("GET", "/app/app-key", Some("protocol=2"));
    let request = Request { method, path, query, headers: &[], peer, is_websocket: true, takes_chunks: true };
    let Some(Opening::WebSocket { session, .. }) = server.dialect.open(&request, &server.facts()) else {
        panic!("its own path is opened");
    };
    let mut peer = Peer { session, last: HashMap::new(), is_over: false };
    peer.handle(Input::Opened, &mut server);
    let (mut script, mut stream) = (script, String::new());
    while let [opcode, length, tail @ ..] = script {
        let (bytes, tail) = tail.split_at(tail.len().min(usize::from(*length)));
        script = tail;
        let text = String::from_utf8_lossy(bytes);
        let channel = ["a", "b", "private-c"][usize::from(opcode >> 4) % 3];
        match opcode & 15 {
            0 => peer.handle(Input::Text(&text), &mut server),
            1..4 => {
                let to = Channel { app: AppIndex(0), name: channel.into() };
                let data = Payload(Bytes::from_static(b"\"d\""));
                let publish = Publish::new(to, "e".into(), data, server.now.steady);
                if let Some((_, Reply::Published(it))) =
                    server.ask(Ticket(0), Command::Publish(Box::new(publish)))
                    && let Some(epoch) = it.epoch
                {
                    stream = epoch.to_string();
                }
            }
            4 => {
                let text = format!(
                    r#"{{"event":"sockudo:resume","data":{{"channel_positions":{{"{channel}":{{"serial":{length},"stream_id":"{stream}"}}}}}}}}"#
                );
                peer.last.clear();
                peer.handle(Input::Text(&text), &mut server);
            }
            5 => {
                let text = format!(
                    r#"{{"event":"sockudo:subscribe","data":{{"channel":"{channel}","rewind":{length}}}}}"#
                );
                peer.last.clear();
                peer.handle(Input::Text(&text), &mut server);
            }
            6 => {
                let text = format!(r#"{{"event":"sockudo:unsubscribe","data":{{"channel":"{channel}"}}}}"#);
                peer.handle(Input::Text(&text), &mut server);
            }
            7 => {
                let text = format!(
                    r#"{{"event":"sockudo:channel_history","data":{{"channel":"{channel}","params":{{"limit":{length}}}}}}}"#
                );
                peer.handle(Input::Text(&text), &mut server);
            }
            8 => {
                let path = format!("/apps/app-id/channels/{channel}/history");
                let pairs: Vec<_> = text.split('&').filter_map(|pair| pair.split_once('=')).collect();
                server.request("GET", &path, &pairs, b"");
            }
            9 => {
                let path = format!("/apps/app-id/channels/{channel}/history/purge");
                server.request("POST", &path, &[], bytes);
            }
            10 => {
                server.request("POST", "/apps/app-id/events", &[], bytes);
            }
            11 => {
                let path = format!("/apps/app-id/channels/{channel}/history/reset");
                let body = format!(
                    r#"{{"confirm_channel":"{channel}","confirm_operation":"reset","reason":"r"}}"#
                );
                server.request("POST", &path, &[], body.as_bytes());
            }
            _ => {
                server.now.steady = server.now.steady + Millis(u64::from(*length) * 100_000);
                let mut downs = Vec::new();
                server.home.expire(server.now, &Nothing, &mut downs);
            }
        }
    }
});
