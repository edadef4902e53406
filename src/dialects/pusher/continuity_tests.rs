use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use super::super::formats::Format;
use super::super::frames::View;
use super::super::two::Two;
use super::super::versions::Shown;
use super::*;
use crate::auth::{Apps, Seat, sign};
use crate::base::event_id::EventId;
use crate::base::ids::ConnectionId;
use crate::base::ids::LaneId;
use crate::base::name::Channel;
use crate::base::time::Now;
use crate::base::time::{Nanos, UnixMillis};
use crate::broker::versioned::Summarized;
use crate::broker::{Description, Happening, Meta, Mode, Page, Payload, Tag, Tags};
use crate::config::Config;
use crate::dialects::pusher::Pusher;
use crate::dialects::{Facts, Input, Session};

const LIFE: Epoch = Epoch(0x1111);

/// A connection of version 2 and what it has asked that is not answered.
pub(in crate::dialects::pusher) struct Peer {
    pub session: PusherSession,
    pub asked: Vec<(Ticket, Command)>,
    app: Arc<crate::auth::App>,
    /// What is said about the messages of every channel.
    pub summaries: Vec<Arc<Summarized>>,
}

impl Peer {
    pub fn new(query: &str) -> Self {
        let config = Config::development();
        let apps = Arc::new(Apps::new(&config.apps));
        let app = apps.with_id("app-id").unwrap().clone();
        let seat = Seat::try_take(&app).unwrap();
        let facts = Facts {
            connection: ConnectionId::from_pair(1, 2),
            now: now(),
            shards: 1,
            draining: false,
            lane_first: LaneId(0),
            deflate: false,
            chance: 0,
        };
        let shared = Pusher::new(&config, apps).0.clone();
        let two = Two::read(query).unwrap();
        let session = PusherSession::new(shared, seat, &facts, Some(two));
        let mut peer = Self { session, asked: Vec::new(), app, summaries: Vec::new() };
        let greeting = peer.hear(Input::Opened);
        assert_eq!(greeting[0]["event"], "sockudo:connection_established");
        peer
    }

    /// Frames that follow an input, as JSON; those without data keep it as null.
    pub fn hear(&mut self, input: Input<'_>) -> Vec<Value> {
        let mut out = Vec::new();
        self.session.handle(input, now(), &mut out);
        let mut heard = Vec::new();
        for output in out {
            match output {
                Output::Text(text) => heard.push(serde_json::from_slice(&text).unwrap()),
                Output::Binary(bytes) => {
                    let text = self.session.format().decode(&bytes).unwrap();
                    heard.push(serde_json::from_str(&text).unwrap());
                }
                Output::Ask(ticket, Command::Summaries(_)) => {
                    let summaries = Reply::Summaries(self.summaries.clone());
                    heard.extend(self.hear(Input::Reply(ticket, summaries)));
                }
                Output::Ask(ticket, command) => self.asked.push((ticket, command)),
                _ => {}
            }
        }
        heard
    }

    pub fn say(&mut self, event: &str, data: Value) -> Vec<Value> {
        let text = json!({"event": event, "data": data}).to_string();
        match self.session.format() {
            Format::Json => self.hear(Input::Text(&text)),
            format => self.hear(Input::Binary(&format.encoded(text.as_bytes()))),
        }
    }

    /// Answers the oldest ask.
    pub fn reply(&mut self, reply: Reply) -> Vec<Value> {
        let (ticket, _) = self.asked.remove(0);
        self.hear(Input::Reply(ticket, reply))
    }

    fn grant(&self, channel: &str) -> String {
        let parts = [b"1.2:", channel.as_bytes()];
        format!("app-key:{}", String::from_utf8_lossy(&self.app.signing_key.sign(&parts)))
    }

    /// What the oldest ask, a subscribe, begins with.
    fn start(&self) -> Start {
        match &self.asked[0].1 {
            Command::Subscribe(subscribe) => subscribe.start,
            other => panic!("not a subscribe: {other:?}"),
        }
    }

    fn channel(&self, name: &str) -> Channel {
        Channel { app: self.app.index, name: Name::from(name) }
    }

    pub fn subscribed(
        &self,
        name: &str,
        at: Option<u64>,
        replay: Option<Result<Replay, Gap>>,
    ) -> Reply {
        Reply::Subscribed(Box::new(Subscribed {
            values: Vec::new(),
            has_more_values: false,
            channel: self.channel(name),
            after: Serial(at.unwrap_or(0)),
            description: Description { subscription_count: 1, ..Description::default() },
            members: Vec::new(),
            position: at.map(place),
            replay: replay.map(Box::new),
        }))
    }

    pub fn replay(&self, name: &str, from: u64, to: u64) -> Replay {
        Replay {
            position: place(to),
            events: (from..=to).map(|n| Arc::new(self.event(name, n))).collect(),
            is_cold: false,
            is_cut_by_retention: false,
            is_cut_by_limit: false,
        }
    }

    fn replayed(&self, name: &str, from: u64, to: u64) -> Reply {
        Reply::Replayed(Box::new(Ok(self.replay(name, from, to))))
    }

    pub fn event(&self, name: &str, serial: u64) -> Event {
        Event {
            channel: self.channel(name),
            serial: Serial(serial),
            epoch: Some(LIFE),
            id: EventId(u128::from(serial)),
            at: UnixMillis(1000 + serial),
            arrived: Nanos(0),
            tags: Tags::default(),
            meta: None,
            guarded: false,
            happening: Happening::Message {
                name: Name::from("e"),
                data: Payload(Bytes::from(format!("\"{serial}\""))),
                sender: None,
            },
        }
    }
}

fn now() -> Now {
    Now { steady: Nanos(5), wall: UnixMillis(1_700_000_000_000) }
}

pub(in crate::dialects::pusher) fn place(serial: u64) -> Position {
    Position { epoch: LIFE, serial: Serial(serial) }
}

fn gap(reason: GapReason) -> Gap {
    let stream = Stream {
        mode: Mode::Memory,
        epoch: Epoch(0x2222),
        newest: Serial(9),
        oldest: Serial(5),
        oldest_at: None,
        newest_at: None,
        bytes: 1,
    };
    Gap { reason, asked: place(3), stream: Some(stream) }
}

pub(in crate::dialects::pusher) fn positions(of: &[(&str, u64)]) -> Value {
    let places = of.iter().map(|(name, serial)| {
        ((*name).to_owned(), json!({"serial": serial, "stream_id": LIFE.to_string()}))
    });
    json!({"channel_positions": places.collect::<serde_json::Map<_, _>>()})
}

/// Serials of the messages among frames, or the names of the other events.
pub(in crate::dialects::pusher) fn told(frames: &[Value]) -> Vec<String> {
    let word = |frame: &Value| match frame["event"].as_str().unwrap() {
        "e" => frame["serial"].to_string(),
        other => other.split(':').nth(1).unwrap_or(other).to_owned(),
    };
    frames.iter().map(word).collect()
}

/// The data of a frame, which is JSON as text.
pub(in crate::dialects::pusher) fn inner(frame: &Value) -> Value {
    serde_json::from_str(frame["data"].as_str().unwrap()).unwrap()
}

#[test]
fn parameters_are_refused_for_what_is_wrong_with_them() {
    for query in [
        "protocol=2",
        "format=json&echo_messages=true&append_mode=delta&append_rollup_window=40",
        "append_mode=full&append_rollup_window=0&client=python&version=2.2.0&flash=false",
    ] {
        assert!(Two::read(query).is_ok_and(|it| it.echoes), "{query}");
    }
    assert!(!Two::read("echo_messages=false").unwrap().echoes);
    for (query, format) in [
        ("", Format::Json),
        ("format=", Format::Json),
        ("format=JSON", Format::Json),
        ("format=messagepack", Format::MessagePack),
        ("format=msgpack&append_mode=", Format::MessagePack),
        ("format=protobuf", Format::Protobuf),
        ("format=proto", Format::Protobuf),
    ] {
        assert_eq!(Two::read(query).unwrap().format, format, "{query}");
    }
    for query in ["format=xml", "echo_messages=1", "append_mode=half", "append_rollup_window=30"] {
        assert!(Two::read(query).is_err(), "{query}");
    }
}

#[test]
fn every_frame_of_the_servers_has_a_name_of_its_own() {
    let mut peer = Peer::new("");
    let mut names = std::collections::BTreeSet::new();
    for _ in 0..5 {
        let heard = peer.say("sockudo:subscribe", json!({"channel": "a b"}));
        assert_eq!(heard[0]["event"], "sockudo:error");
        let name = heard[0]["message_id"].as_str().unwrap().to_owned();
        assert_eq!(name.parse::<EventId>().unwrap().at(), now().wall);
        names.insert(name);
    }
    assert_eq!(names.len(), 5);
    assert_eq!(peer.say("pusher:ping", json!({})), [json!({"event": "sockudo:pong"})]);
}

#[test]
fn a_message_says_what_its_publisher_said_and_where_it_is() {
    let peer = Peer::new("");
    let mut event = peer.event("c", 7);
    let render = |view, event: &Event| {
        let mut out = Vec::new();
        assert!(frames::render(view, event, &mut out));
        String::from_utf8(out).unwrap()
    };
    let two = View::Two { shown: Shown::Added, has_versions: false };
    let plain = r#"{"event":"e","channel":"c","data":"7"}"#;
    let named = format!(
        r#"{{"event":"e","channel":"c","data":"7","message_id":"{}","stream_id":"{LIFE}","serial":7}}"#,
        event.id
    );
    assert_eq!(render(View::Seven, &event), plain);
    assert_eq!(render(two, &event), named);
    event.meta = Some(Arc::new(Meta {
        message_id: Some(Name::from("m\"")),
        extras: Some(Payload(Bytes::from_static(b"{\"a\":1}"))),
        ..Meta::default()
    }));
    let tag = |name: &str, value: &str| Tag { name: Name::from(name), value: Name::from(value) };
    event.tags = Tags::from(vec![tag("t", "1"), tag("t", "2"), tag("u", "3")]);
    event.epoch = None;
    assert_eq!(render(View::Seven, &event), plain);
    assert_eq!(
        render(two, &event),
        r#"{"event":"e","channel":"c","data":"7","tags":{"t":"1","u":"3"},"message_id":"m\"","extras":{"a":1}}"#
    );
}

#[test]
fn a_subscription_says_where_it_begins() {
    let mut peer = Peer::new("");
    peer.say("sockudo:subscribe", json!({"channel": "c"}));
    let heard = peer.reply(peer.subscribed("c", Some(7), None));
    assert_eq!(heard[0]["event"], "sockudo_internal:subscription_succeeded");
    assert_eq!(inner(&heard[0]), json!({"attach_serial": 7}));
    assert_eq!(
        (&heard[0]["serial"], &heard[0]["stream_id"]),
        (&json!(7), &json!(LIFE.to_string()))
    );
    assert!(heard[0]["message_id"].is_string());
    // Once more: how far it has come since.
    assert_eq!(peer.say("sockudo:subscribe", json!({"channel": "c"})), [] as [Value; 0]);
    let stream = Stream { epoch: LIFE, ..gap(GapReason::Expired).stream.unwrap() };
    let heard = peer.reply(Reply::Stream(stream));
    assert_eq!((inner(&heard[0]), &heard[0]["serial"]), (json!({"attach_serial": 9}), &json!(9)));
    // On a channel that keeps nothing there is nothing to say.
    peer.say("sockudo:subscribe", json!({"channel": "d"}));
    let heard = peer.reply(peer.subscribed("d", None, None));
    assert_eq!((inner(&heard[0]), &heard[0]["serial"]), (json!({}), &Value::Null));
    assert_eq!(
        told(&peer.say("sockudo:subscribe", json!({"channel": "d"}))),
        ["subscription_succeeded"]
    );
}

#[test]
fn a_rewind_is_told_in_order_and_ended() {
    for (rewind, start) in [
        (json!(2), Start::Events(2)),
        (json!("2"), Start::Events(2)),
        (json!({"count": 2}), Start::Events(2)),
        (json!({"seconds": 3}), Start::Since(Millis(3000))),
        (json!({"duration_seconds": "3"}), Start::Since(Millis(3000))),
        (Value::Null, Start::Now),
    ] {
        let mut peer = Peer::new("");
        peer.say("sockudo:subscribe", json!({"channel": "c", "rewind": rewind}));
        assert_eq!(peer.start(), start, "{rewind}");
    }
    let mut peer = Peer::new("");
    for bad in
        [json!(0), json!("x"), json!(-1), json!({}), json!({"count": 0}), json!(1.5), json!([])]
    {
        let heard = peer.say("sockudo:subscribe", json!({"channel": "c", "rewind": bad}));
        assert_eq!(heard[0]["data"]["code"], 4000, "{bad}");
    }
    peer.say("sockudo:subscribe", json!({"channel": "c", "rewind": 2}));
    let replay = Replay { is_cut_by_limit: true, ..peer.replay("c", 6, 7) };
    let heard = peer.reply(peer.subscribed("c", Some(7), Some(Ok(replay))));
    assert_eq!(told(&heard), ["subscription_succeeded", "6", "7", "rewind_complete"]);
    // The place is the one after which what follows came: a peer cut off here loses nothing.
    assert_eq!((inner(&heard[0]), &heard[0]["serial"]), (json!({"attach_serial": 7}), &json!(5)));
    assert_eq!(
        heard[3]["data"],
        json!({"historical_count": 2, "live_count": 0, "complete": false,
            "truncated_by_retention": false, "truncated_by_limit": true})
    );
    // Where nothing is kept the peer waits for no more, and is told that this is not all.
    peer.say("sockudo:subscribe", json!({"channel": "d", "rewind": 2}));
    let heard = peer.reply(peer.subscribed("d", None, None));
    assert_eq!(told(&heard), ["subscription_succeeded", "rewind_complete"]);
    assert_eq!(heard[1]["data"]["complete"], false);
}

#[test]
fn version_seven_knows_nothing_of_it() {
    let mut peer = Peer::new("");
    peer.session.two = None;
    for event in ["pusher:resume", "sockudo:resume", "sockudo:channel_history"] {
        assert_eq!(peer.say(event, positions(&[("c", 1)])), [] as [Value; 0]);
    }
    peer.say("pusher:subscribe", json!({"channel": "c", "rewind": "x"}));
    assert_eq!(peer.start(), Start::Now);
    let heard = peer.reply(peer.subscribed("c", Some(7), None));
    assert_eq!(
        heard,
        [json!({"event": "pusher_internal:subscription_succeeded", "channel": "c", "data": "{}"})]
    );
}

#[test]
fn a_resume_that_names_nothing_is_refused() {
    let mut peer = Peer::new("");
    for (data, code) in [
        (json!({}), 4000),
        (json!({"channel_positions": []}), 4000),
        (json!("nope"), 4000),
        (json!({"channel_positions": {}}), 4302),
        (json!({"channel_serials": {}}), 4302),
        (json!("{\"channel_serials\":{}}"), 4302),
    ] {
        let heard = peer.say("sockudo:resume", data.clone());
        assert_eq!(heard[0]["data"]["code"], code, "{data}");
    }
    assert!(peer.asked.is_empty());
}

#[test]
fn a_public_channel_is_resumed_at_once_and_its_subscription_goes_on_from_there() {
    let mut peer = Peer::new("");
    peer.say("sockudo:resume", positions(&[("a", 3), ("b", 0)]));
    assert_eq!(peer.asked.len(), 2);
    let heard = peer.say("sockudo:resume", positions(&[("c", 3)]));
    assert_eq!(heard[0]["data"]["code"], 4302);
    assert_eq!(told(&peer.reply(peer.replayed("a", 4, 5))), ["4", "5"]);
    let heard = peer.reply(peer.replayed("b", 1, 1));
    assert_eq!(told(&heard), ["1", "resume_success"]);
    let recovered = inner(&heard[1]);
    assert_eq!(
        recovered["recovered"][0],
        json!({"channel": "a", "source": "hot", "replayed": 2, "position": {
            "stream_id": LIFE.to_string(), "serial": 5, "last_message_id": EventId(5).to_string()}})
    );
    assert_eq!(recovered["failed"], json!([]));
    // What came between the two is told by the subscription, whatever else the peer asks for.
    peer.say("sockudo:subscribe", json!({"channel": "a", "rewind": 10}));
    assert_eq!(peer.start(), Start::After(place(5)));
    let heard = peer.reply(peer.subscribed("a", Some(6), Some(Ok(peer.replay("a", 6, 6)))));
    assert_eq!(told(&heard), ["subscription_succeeded", "6", "rewind_complete"]);
    // Used once.
    peer.say("sockudo:unsubscribe", json!({"channel": "a"}));
    peer.asked.clear();
    peer.say("sockudo:subscribe", json!({"channel": "a"}));
    assert_eq!(peer.start(), Start::Now);
}

#[test]
fn a_private_channel_tells_nothing_before_its_subscribe_is_granted() {
    let mut peer = Peer::new("");
    let names = ["private-a", "presence-b", "private-encrypted-c", "#server-to-user-ann"];
    let heard = peer.say("sockudo:resume", positions(&names.map(|it| (it, 3))));
    assert!(peer.asked.is_empty(), "{:?}", peer.asked);
    assert_eq!(told(&heard), ["resume_success"]);
    let recovered = inner(&heard[0])["recovered"].clone();
    assert_eq!(recovered.as_array().unwrap().len(), 4);
    for it in recovered.as_array().unwrap() {
        assert_eq!((&it["replayed"], &it["position"]["serial"]), (&json!(0), &json!(3)));
    }
    // A wrong signature does not use the position up.
    let wrong = json!({"channel": "private-a", "auth": peer.grant("private-b")});
    assert_eq!(peer.say("sockudo:subscribe", wrong)[0]["data"]["code"], 4009);
    let auth = peer.grant("private-a");
    peer.say("sockudo:subscribe", json!({"channel": "private-a", "auth": auth}));
    assert_eq!(peer.start(), Start::After(place(3)));
    let replay = peer.replay("private-a", 4, 5);
    let heard = peer.reply(peer.subscribed("private-a", Some(5), Some(Ok(replay))));
    assert_eq!(told(&heard), ["subscription_succeeded", "4", "5"]);
    assert_eq!((inner(&heard[0]), &heard[0]["serial"]), (json!({"attach_serial": 5}), &json!(3)));
    // The user's own channel hears what it missed once it is signed in.
    let data = r#"{"id":"ann"}"#;
    let signed = peer.app.signing_key.sign(&[b"1.2::user::", data.as_bytes()]);
    let auth = format!("app-key:{}", String::from_utf8_lossy(&signed));
    assert!(sign::verify_user(&peer.app, &auth, "1.2", data));
    peer.say("sockudo:signin", json!({"auth": auth, "user_data": data}));
    assert_eq!(peer.start(), Start::After(place(3)));
    let name = "#server-to-user-ann";
    let heard = peer.reply(peer.subscribed(name, Some(4), Some(Ok(peer.replay(name, 4, 4)))));
    assert_eq!(told(&heard), ["signin_success", "4"]);
}

#[test]
fn a_position_that_cannot_be_continued_is_told_with_its_reason() {
    for (reason, code, word) in [
        (GapReason::EpochChanged, "stream_reset", "stream_id_mismatch"),
        (GapReason::Expired, "position_expired", "position_expired"),
        (GapReason::Ahead, "continuity_unverifiable", "position_ahead_of_durable_stream"),
        (GapReason::TooMuch, "position_expired", "replay_too_large"),
        (GapReason::Unavailable, "persistence_unavailable", "store_unavailable"),
        (GapReason::NotKept, "continuity_unverifiable", "history_not_kept"),
    ] {
        let mut peer = Peer::new("");
        peer.say("sockudo:resume", positions(&[("c", 3), ("private-c", 3)]));
        let heard = peer.reply(Reply::Replayed(Box::new(Err(gap(reason)))));
        assert_eq!(told(&heard), ["resume_failed", "resume_success"]);
        let failure = json!({"channel": "c", "code": code, "reason": word,
            "expected_stream_id": LIFE.to_string(), "current_stream_id": Epoch(0x2222).to_string(),
            "oldest_available_serial": 5, "newest_available_serial": 9});
        assert_eq!((&heard[0]["channel"], inner(&heard[0])), (&json!("c"), failure.clone()));
        assert_eq!(inner(&heard[1])["failed"], json!([failure]));
        // A private one is told when it may know; then the subscription goes on from now.
        let auth = peer.grant("private-c");
        peer.say("sockudo:subscribe", json!({"channel": "private-c", "auth": auth}));
        let heard = peer.reply(peer.subscribed("private-c", Some(9), Some(Err(gap(reason)))));
        assert_eq!(told(&heard), ["subscription_succeeded", "resume_failed"]);
        assert_eq!((&heard[0]["serial"], &inner(&heard[1])["reason"]), (&json!(9), &json!(word)));
    }
    let mut peer = Peer::new("");
    peer.say("sockudo:resume", positions(&[("c", 3)]));
    let heard = peer.reply(Reply::Refused(Refusal::NotKept));
    assert_eq!(inner(&heard[0])["reason"], "history_not_kept");
    peer.say("sockudo:subscribe", json!({"channel": "c"}));
    assert_eq!(peer.start(), Start::Now);
    // What is no position at all is not asked about.
    let mut peer = Peer::new("");
    let heard = peer.say(
        "sockudo:resume",
        json!({"channel_positions": {
            "a": 7, "b": {"serial": 7}, "c": {"stream_id": LIFE.to_string()},
            "d": {"serial": 7, "stream_id": "another server's"}, "e f": {"serial": 1}, "g": null}}),
    );
    assert!(peer.asked.is_empty());
    let failed = inner(heard.last().unwrap())["failed"].clone();
    let reasons: Vec<_> =
        failed.as_array().unwrap().iter().map(|it| it["reason"].clone()).collect();
    assert_eq!(
        reasons,
        [
            "stream_id_missing",
            "stream_id_missing",
            "position_malformed",
            "stream_id_mismatch",
            "channel_name_invalid",
            "position_malformed"
        ]
    );
    let heard = peer.say("sockudo:resume", json!({"channel_serials": {"a": 7}}));
    assert_eq!(inner(&heard[0])["reason"], "stream_id_missing");
}

#[test]
fn a_peer_that_subscribes_before_or_while_it_resumes_is_told_everything_once() {
    // Before: the subscription stands and sends what came after 5 itself.
    let mut peer = Peer::new("");
    peer.say("sockudo:subscribe", json!({"channel": "c"}));
    peer.reply(peer.subscribed("c", Some(5), None));
    peer.say("sockudo:resume", positions(&[("c", 3)]));
    let heard = peer.reply(peer.replayed("c", 4, 7));
    assert_eq!(told(&heard), ["4", "5", "resume_success"]);
    // Sent before, answered while: the same.
    let mut peer = Peer::new("");
    peer.say("sockudo:subscribe", json!({"channel": "c"}));
    peer.say("sockudo:resume", positions(&[("c", 3)]));
    peer.reply(peer.subscribed("c", Some(5), None));
    assert_eq!(told(&peer.reply(peer.replayed("c", 4, 5))), ["4", "5", "resume_success"]);
    // While, and the replay comes first: the subscription goes on from where that ended.
    let mut peer = Peer::new("");
    peer.say("sockudo:resume", positions(&[("c", 3)]));
    peer.say("sockudo:subscribe", json!({"channel": "c"}));
    assert_eq!(told(&peer.reply(peer.replayed("c", 4, 5))), ["4", "5", "resume_success"]);
    assert_eq!(peer.start(), Start::After(place(3)));
    let heard = peer.reply(peer.subscribed("c", Some(6), Some(Ok(peer.replay("c", 4, 6)))));
    assert_eq!(told(&heard), ["subscription_succeeded", "6"]);
    // While, and the replay, read from disk, comes last: there is nothing left to tell.
    let mut peer = Peer::new("");
    peer.say("sockudo:resume", positions(&[("c", 3)]));
    peer.say("sockudo:subscribe", json!({"channel": "c"}));
    let late = peer.asked.remove(0);
    let heard = peer.reply(peer.subscribed("c", Some(6), Some(Ok(peer.replay("c", 4, 6)))));
    assert_eq!(told(&heard), ["subscription_succeeded", "4", "5", "6"]);
    peer.asked.push(late);
    assert_eq!(told(&peer.reply(peer.replayed("c", 4, 5))), ["resume_success"]);
    // And a failure is told once.
    let mut peer = Peer::new("");
    peer.say("sockudo:resume", positions(&[("c", 3)]));
    peer.say("sockudo:subscribe", json!({"channel": "c"}));
    let heard = peer.reply(Reply::Replayed(Box::new(Err(gap(GapReason::Expired)))));
    assert_eq!(told(&heard), ["resume_failed", "resume_success"]);
    let gap = Err(gap(GapReason::Expired));
    let heard = peer.reply(peer.subscribed("c", Some(9), Some(gap)));
    assert_eq!(told(&heard), ["subscription_succeeded"]);
}

#[test]
fn a_resume_asks_and_sends_within_its_bounds() {
    let mut peer = Peer::new("");
    let names: Vec<_> = (0..REPLAYS_MAX + 3).map(|n| format!("c{n:02}")).collect();
    let of: Vec<_> = names.iter().map(|it| (it.as_str(), 3)).collect();
    peer.say("sockudo:resume", positions(&of));
    assert_eq!(peer.asked.len(), REPLAYS_MAX);
    assert!(peer.session.held_bytes() > 0);
    peer.session.shared = Arc::new(super::super::Shared {
        apps: peer.session.shared.apps.clone(),
        settings: peer.session.shared.settings.clone(),
        version_two: peer.session.shared.version_two.clone(),
        replay_bytes_max: 400,
        reports: super::super::Reports::default(),
        push_rules: Arc::default(),
        ..*peer.session.shared
    });
    let mut heard = Vec::new();
    for name in &names {
        heard.extend(peer.reply(peer.replayed(name, 4, 4)));
    }
    let (sent, rest): (Vec<_>, Vec<_>) = heard.iter().partition(|it| it["event"] == "e");
    assert!(!sent.is_empty() && sent.len() < names.len());
    // So little fits that failures are told in the list at the end alone.
    assert_eq!(rest.len(), 1);
    assert_eq!(rest[0]["event"], "sockudo:resume_success");
    let end = inner(rest[0]);
    let failed = end["failed"].as_array().unwrap();
    assert_eq!(sent.len() + failed.len(), names.len());
    assert_eq!(failed[0]["reason"], "replay_too_large");
}

#[test]
fn a_subscription_that_would_begin_with_too_much_is_told_so_and_goes_on_live() {
    let mut peer = Peer::new("");
    peer.say("sockudo:resume", positions(&[("c", 3)]));
    peer.say("sockudo:subscribe", json!({"channel": "c"}));
    peer.session.shared = Arc::new(super::super::Shared {
        apps: peer.session.shared.apps.clone(),
        settings: peer.session.shared.settings.clone(),
        version_two: peer.session.shared.version_two.clone(),
        replay_bytes_max: 400,
        reports: super::super::Reports::default(),
        push_rules: Arc::default(),
        ..*peer.session.shared
    });
    // The subscription's answer comes first.
    peer.asked.remove(0);
    let many = peer.replay("c", 4, 9);
    let heard = peer.reply(peer.subscribed("c", Some(9), Some(Ok(many))));
    assert_eq!(told(&heard), ["subscription_succeeded", "resume_failed"]);
    assert_eq!(inner(&heard[1])["reason"], "replay_too_large");
}

#[test]
fn history_is_read_by_subscribers_two_pages_at_a_time() {
    let mut peer = Peer::new("");
    let event = "sockudo:channel_history";
    assert_eq!(peer.say(event, json!({"channel": "c"}))[0]["data"]["code"], 4301);
    assert_eq!(peer.say(event, json!({}))[0]["data"]["code"], 4000);
    peer.say("sockudo:subscribe", json!({"channel": "c"}));
    assert_eq!(peer.say(event, json!({"channel": "c"}))[0]["data"]["code"], 4301);
    peer.reply(peer.subscribed("c", Some(7), None));
    for bad in [json!({"limit": 0}), json!({"direction": "up"}), json!({"cursor": "x"})] {
        let heard = peer.say(event, json!({"channel": "c", "params": bad}));
        assert_eq!(heard[0]["data"]["code"], 4000, "{bad}");
    }
    let nested = json!({"channel": "c", "params": {"limit": 2, "direction": "oldest_first",
        "end_serial": 90}, "until_attach": true});
    peer.say(event, json!(nested.to_string()));
    peer.say(event, json!({"channel": "c", "limit": "500", "start_serial": 2}));
    let asked = |at: usize| match &peer.asked[at].1 {
        Command::History(_, query) => **query,
        other => panic!("{other:?}"),
    };
    let first = asked(0);
    assert_eq!((first.events_max, first.is_newest_first, first.to), (2, false, Some(Serial(7))));
    assert_eq!((asked(1).events_max, asked(1).from), (100, Serial(2)));
    let heard = peer.say(event, json!({"channel": "c"}));
    assert_eq!(heard[0]["data"]["code"], 4301);
    let stream = Stream { epoch: LIFE, oldest: Serial(1), ..gap(GapReason::Ahead).stream.unwrap() };
    let events = (1..=2).map(|n| Arc::new(peer.event("c", n))).collect();
    let page = Page { stream, events, has_more: true };
    let heard = peer.reply(Reply::Page(Box::new(page)));
    assert_eq!((&heard[0]["event"], &heard[0]["channel"]), (&json!(event), &json!("c")));
    let data = &heard[0]["data"];
    assert_eq!(data["bounds"]["until_attach"], true);
    assert_eq!(data["bounds"]["attach_serial"], 7);
    assert_eq!(data["items"][1]["message"]["serial"], 2);
    assert!(data["next_cursor"].is_string());
    assert_eq!(peer.reply(Reply::Refused(Refusal::NotKept))[0]["data"]["code"], 4301);
}

#[test]
fn a_refused_subscribe_leaves_its_position_for_the_next() {
    let mut peer = Peer::new("");
    let auth = peer.grant("private-c");
    let subscribe = || json!({"channel": "private-c", "auth": auth});
    peer.say("sockudo:resume", positions(&[("private-c", 3)]));
    peer.say("sockudo:subscribe", subscribe());
    assert_eq!(peer.start(), Start::After(place(3)));
    let full = Refusal::ChannelsFull { channels_max: 1 };
    assert_eq!(peer.reply(Reply::Refused(full))[0]["data"]["code"], 4100);
    peer.say("sockudo:subscribe", subscribe());
    assert_eq!(peer.start(), Start::After(place(3)));
}

#[test]
fn subscriptions_of_the_past_are_asked_for_as_fast_as_the_peer_reads() {
    let mut peer = Peer::new("");
    peer.session.shared = Arc::new(super::super::Shared {
        apps: peer.session.shared.apps.clone(),
        settings: peer.session.shared.settings.clone(),
        version_two: peer.session.shared.version_two.clone(),
        replay_bytes_max: 1000,
        reports: super::super::Reports::default(),
        push_rules: Arc::default(),
        ..*peer.session.shared
    });
    let subscribe = |name: &str| json!({"channel": name, "rewind": 10});
    for name in ["a", "b", "c", "d", "e"] {
        peer.say("sockudo:subscribe", subscribe(name));
    }
    // Others do not wait for them.
    peer.say("sockudo:subscribe", json!({"channel": "live"}));
    let asked = |peer: &Peer| -> Vec<String> {
        let name = |command: &Command| match command {
            Command::Subscribe(it) => it.channel.name.to_string(),
            other => format!("{other:?}"),
        };
        peer.asked.iter().map(|(_, command)| name(command)).collect()
    };
    assert_eq!(asked(&peer), ["a", "b", "live"]);
    assert!(peer.session.held_bytes() > 0);
    // One that was given up is never asked for, and nothing is to be taken back.
    peer.say("sockudo:unsubscribe", json!({"channel": "c"}));
    assert_eq!(asked(&peer), ["a", "b", "live"]);
    peer.reply(peer.subscribed("a", Some(3), Some(Ok(peer.replay("a", 1, 1)))));
    assert_eq!(asked(&peer), ["b", "live", "d"]);
    // More than a peer may have unread: the rest waits for its pong.
    peer.reply(peer.subscribed("b", Some(9), Some(Ok(peer.replay("b", 1, 9)))));
    assert_eq!(asked(&peer), ["live", "d"]);
    peer.hear(Input::Pong);
    assert_eq!(asked(&peer), ["live", "d", "e"]);
    // Those on their way that are given up are taken back, and make room.
    peer.say("sockudo:subscribe", subscribe("f"));
    peer.say("sockudo:unsubscribe", json!({"channel": "d"}));
    let last = asked(&peer).pop().unwrap();
    assert!(last.starts_with("Unsubscribe"), "{last}");
    let (ticket, _) = peer.asked.remove(1);
    peer.hear(Input::Reply(ticket, Reply::Refused(Refusal::Cancelled)));
    assert_eq!(asked(&peer).pop().unwrap(), "f");
}
