//! One bare authrequest session: whatever comes in whatever order, every message is answered once with JSON
//! unless the connection ends, and nothing follows the end.
//!
//! The input is a script: an opcode byte, a length byte, then that many bytes.
#![no_main]

use std::collections::VecDeque;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use ringmain::auth::{Finding, Identity};
use ringmain::base::ids::{AppIndex, ConnectionId, LaneId, Serial, Ticket};
use ringmain::base::name::Channel;
use ringmain::base::time::{Millis, Nanos, Now, UnixMillis};
use ringmain::broker::{Command, Description, Event, Happening, Payload, Refusal, Reply, Subscribed, Tags};
use ringmain::config::Config;
use ringmain::dialects::authrequest::Settings;
use ringmain::dialects::{self, Facts, Input, Opening, Output, Request, Session, TimerKind};
use ringmain::observe::Metrics;
use ringmain::wire::json;

struct Peer {
    session: Box<dyn Session>,
    now: Now,
    asks: VecDeque<(Ticket, Channel)>,
    inquiries: VecDeque<Ticket>,
    sent: usize,
    answered: usize,
    is_over: bool,
}

impl Peer {
    fn handle(&mut self, input: Input<'_>) {
        let mut out = Vec::new();
        self.session.handle(input, self.now, &mut out);
        for output in out {
            assert!(!self.is_over, "nothing follows the end");
            match output {
                Output::Text(text) => {
                    let reply = json::parse(&text).expect("what we send is JSON");
                    let kind = reply.member("type").and_then(json::Raw::as_str).expect("it has a type");
                    assert!(kind.ends_with("response") && reply.member("success").is_some());
                    self.answered += 1;
                }
                Output::Ask(ticket, Command::Subscribe(it)) => self.asks.push_back((ticket, it.channel)),
                Output::Inquire(ticket, _) => self.inquiries.push_back(ticket),
                Output::Close(farewell, _) => {
                    assert!(farewell.text.len() <= 123);
                    self.is_over = true;
                }
                Output::Ask(..) | Output::Arm(..) | Output::Ping => {}
                other => panic!("not of a WebSocket session: {other:?}"),
            }
        }
        assert!(self.answered <= self.sent, "no message is answered twice");
    }

    fn send(&mut self, text: &str) {
        self.sent += 1;
        self.handle(Input::Text(text));
    }

    fn answer(&mut self, is_granted: bool) {
        let Some((ticket, channel)) = self.asks.pop_front() else { return };
        let reply = if is_granted {
            let (description, members) = (Description::default(), Vec::new());
            Reply::Subscribed(Box::new(Subscribed {
                values: Vec::new(),
                has_more_values: false,
                channel,
                after: Serial(0),
                description,
                members,
                position: None,
                replay: None,
            }))
        } else {
            Reply::Refused(Refusal::ChannelsFull { channels_max: 1 })
        };
        self.handle(Input::Reply(ticket, reply));
    }

    fn find(&mut self, what: u8) {
        let Some(ticket) = self.inquiries.pop_front() else { return };
        let identity = Identity {
            account: (what & 8 == 0).then(|| "a".into()),
            permissions: if what & 16 == 0 { vec!["account_events".into()] } else { Vec::new() },
            ..Identity::named(if what & 32 == 0 { "ann" } else { "bob" })
        };
        self.handle(Input::Found(ticket, match what & 7 {
            0 => Finding::Unknown,
            1 => Finding::Expired,
            2 => Finding::Limited,
            3 => Finding::Unavailable,
            4 => Finding::Done,
            _ => Finding::Known(Arc::new(identity)),
        }));
    }
}

fuzz_target!(|script: &[u8]| {
    let mut config = Config::development();
    let mut settings = Settings::of(&config);
    settings.extensions = true;
    settings.auth_failures_max = 1_000;
    settings.tokens.consult_url = "http://consult/".into();
    config.sections.set(settings);
    let metrics = Arc::new(Metrics::new(1, &dialects::NAMES));
    let all = dialects::all(&config, metrics);
    let dialect = all.iter().find(|it| it.name() == "authrequest").expect("it is in the list");
    let now = Now { steady: Nanos(1), wall: UnixMillis(1_700_000_000_000) };
    let peer = ([127, 0, 0, 1], 9).into();
    let (method, path) = ("GET", "/realtime");
    let request = Request { method, path, query: None, headers: &[], peer, is_websocket: true, takes_chunks: true };
    let facts = Facts {
        connection: ConnectionId::from_pair(1, 1),
        now,
        shards: 1,
        draining: false,
        lane_first: LaneId(0),
        deflate: false,
        chance: 0,
    };
    let Some(Opening::WebSocket { session, .. }) = dialect.open(&request, &facts) else {
        panic!("its own path is opened");
    };
    let (asks, inquiries) = (VecDeque::new(), VecDeque::new());
    let mut peer = Peer { session, now, asks, inquiries, sent: 0, answered: 0, is_over: false };
    peer.handle(Input::Opened);
    let mut script = script;
    while let [opcode, length, tail @ ..] = script {
        let (bytes, tail) = tail.split_at(tail.len().min(usize::from(*length)));
        script = tail;
        let text = String::from_utf8_lossy(bytes);
        let plain = text.replace(['"', '\\'], "");
        match opcode & 15 {
            0 => peer.send(&text),
            1 => peer.send(&format!("{{\"type\":\"authrequest\",\"token\":\"{plain}\"}}")),
            2 => peer.send(r#"{"type":"authrequest","token":"dev-token"}"#),
            3 => peer.send(r#"{"type":"startusereventrequest"}"#),
            4 => peer.send(r#"{"type":"startaccounteventrequest","requestId":1}"#),
            5 => peer.send(r#"{"type":"stopusereventrequest"}"#),
            6 => peer.send(r#"{"type":"stopaccounteventrequest"}"#),
            7 => peer.send(r#"{"type":"liststreamsrequest"}"#),
            8 => peer.answer(true),
            9 => peer.answer(false),
            10 => peer.find(*length),
            11 => peer.handle(Input::Timer(TimerKind(*length & 3))),
            12 => peer.now.steady = peer.now.steady + Millis(u64::from(*length) * 10),
            13 => peer.handle(Input::Pong),
            14 => peer.handle(Input::Reply(Ticket(u32::from(*length)), Reply::Done)),
            _ if *length < 200 => peer.handle(Input::Found(Ticket(u32::from(*length) << 8), Finding::Unknown)),
            _ if *length < 230 => peer.handle(Input::Binary(bytes)),
            _ => {
                let data = Payload(bytes::Bytes::from_static(b"null"));
                peer.handle(Input::Event(&Event {
                    channel: Channel { app: AppIndex(0), name: "#".into() },
                    serial: Serial(1),
                    at: now.wall,
                    arrived: now.steady,
                    epoch: None,
                    id: Default::default(),
                    meta: None,
                    tags: Tags::default(),
                    guarded: false,
                    happening: Happening::Message { name: "n".into(), data, sender: None },
                }));
            }
        }
    }
    while !peer.is_over {
        if peer.asks.is_empty() && peer.inquiries.is_empty() {
            break;
        }
        peer.answer(true);
        peer.find(7);
    }
    assert!(peer.is_over || peer.answered == peer.sent, "every message is answered");
});
