//! Hotsock on the real binary: what was acknowledged, through `kill -9`; and input meant to hurt.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::Message;

use crate::http::Tcp;
use crate::peer::frame;
use crate::server::{Directory, PATIENCE, Server};
use crate::talk::{SETTINGS, Talker, api, request, token, wall};

/// Publishers of the test that kills, and how often it does.
const PUBLISHERS: usize = 3;
const KILLS: u32 = 4;
/// How long a peer may be kept waiting by what another sends.
const PROMPT: Duration = Duration::from_secs(2);

fn at(seconds: u64) -> String {
    crate::mint::at(ringmain::base::time::UnixMillis(seconds * 1000))
}

/// One who stores messages and values over HTTP, each until it is acknowledged.
struct Publisher {
    channel: String,
    next: u64,
    /// Message ids by number.
    messages: BTreeMap<u64, String>,
    /// The last value that was acknowledged, and the one after it, which may be there.
    value: u64,
}

impl Publisher {
    fn run(&mut self, address: std::net::SocketAddr, stop: &AtomicBool) {
        let mut tcp = Tcp::connect(address);
        let channel = &self.channel;
        while !stop.load(Ordering::Relaxed) {
            let n = self.next;
            let message = json!({ "channel": channel, "event": "n", "data": n, "store": -1, "eagerIdGeneration": true });
            let value = json!({ "channel": channel, "event": "hotsock.channelStorageSet", "key": "last", "data": n });
            self.next += 1;
            let Some((202, told)) = try_api(&mut tcp, &message) else { return };
            let id = told["id"].as_str().expect("an id was asked for").to_owned();
            self.messages.insert(n, id);
            let Some((202, _)) = try_api(&mut tcp, &value) else { return };
            self.value = n;
        }
    }

    fn check(&self, server: &Server) {
        let claims = json!({ "uid": "u", "channels": { "*": { "subscribe": true, "historyStart": 0, "storage": { "*": { "get": true } } } } });
        let mut peer = Talker::open(server, claims);
        peer.subscribe(&self.channel);
        let mut found: Vec<(u64, String)> = Vec::new();
        loop {
            let after = found.last().map_or(Value::Null, |(_, id)| json!(id));
            let mut ask = json!({ "channel": self.channel });
            if !after.is_null() {
                ask["after"] = after;
            }
            let (status, page) = peer.call(server, "listMessages", &ask);
            assert_eq!(status, 200, "{page}");
            let page = page["messages"].as_array().expect("a list");
            for message in page {
                let n = message["data"].as_u64().expect("a number of ours");
                let id = message["id"].as_str().expect("a message has an id").to_owned();
                assert!(found.last().is_none_or(|(_, last)| *last < id), "ids go up");
                found.push((n, id));
            }
            if page.len() < 100 {
                break;
            }
        }
        let numbers: Vec<_> = found.iter().map(|(n, _)| *n).collect();
        assert!(numbers.windows(2).all(|two| two[0] < two[1]), "in order and once: {numbers:?}");
        let found: BTreeMap<_, _> = found.into_iter().collect();
        for (n, id) in &self.messages {
            assert_eq!(found.get(n), Some(id), "{}: message {n} was acknowledged", self.channel);
        }
        // Of what was on its way at each kill, one may be there.
        assert!(found.len() <= self.messages.len() + KILLS as usize);
        let ask = json!({ "channel": self.channel, "key": "last" });
        let (status, told) = peer.call(server, "channelStorageGet", &ask);
        assert_eq!(status, 200, "{told}");
        let value = told["data"].as_u64().unwrap_or(0);
        assert!((self.value..=self.next).contains(&value), "{value}, not {}", self.value);
    }
}

fn try_api(tcp: &mut Tcp, body: &Value) -> Option<(u16, Value)> {
    let body = body.to_string();
    let (key, length) = (crate::talk::KEY, body.len());
    tcp.send(
        format!(
            "POST /publish HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer {key}\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .as_bytes(),
    );
    let answer = tcp.try_answer()?;
    Some((answer.status, serde_json::from_slice(&answer.body).unwrap_or_default()))
}

#[test]
fn stored_messages_and_values_survive_being_killed() {
    let mut chance = ringmain::base::prng::Prng::new(wall().0);
    let directory = Directory::new();
    let data = directory.0.join("data");
    let mut publishers: Vec<_> = (0..PUBLISHERS)
        .map(|n| Publisher {
            channel: format!("room.{n}"),
            next: 1,
            messages: BTreeMap::new(),
            value: 0,
        })
        .collect();
    for round in 0..=KILLS {
        let mut server = Server::on_data(SETTINGS, &data);
        publishers.iter().for_each(|it| it.check(&server));
        if round == KILLS {
            assert!(publishers.iter().all(|it| it.messages.len() as u32 > KILLS));
            return;
        }
        let (address, stop) = (server.address, Arc::new(AtomicBool::new(false)));
        let running: Vec<_> = publishers
            .drain(..)
            .map(|mut publisher| {
                let stop = Arc::clone(&stop);
                thread::spawn(move || {
                    publisher.run(address, &stop);
                    publisher
                })
            })
            .collect();
        // The moment is the point of the test: anything from the first batch on.
        thread::sleep(Duration::from_micros(100_000 + chance.below(200_000)));
        server.signal("KILL");
        server.wait();
        stop.store(true, Ordering::Relaxed);
        publishers.extend(running.into_iter().map(|it| it.join().expect("a publisher")));
    }
}

#[test]
fn schedules_and_used_tokens_survive_being_killed() {
    let directory = Directory::new();
    let data = directory.0.join("data");
    let claims =
        json!({ "uid": "u", "channels": { "room": { "subscribe": true, "historyStart": 0 } } });
    let once = json!({ "jti": "once", "singleUse": true, "channels": {} });
    let mut server = Server::on_data(SETTINGS, &data);
    Talker::open(&server, once.clone());
    let due = wall().seconds() + 2;
    let mut tcp = server.connect();
    let mut schedule = |event: &str, due: u64| {
        let body = json!({ "channel": "room", "event": event, "data": due, "store": 600, "scheduleExpression": at(due) });
        let (status, told) = api(&mut tcp, "POST", "/publish", &body);
        assert_eq!(status, 202, "{told}");
        let arn = told["scheduleArn"].as_str().expect("a schedule has a name").to_owned();
        arn.rsplit('/').next().expect("it has parts").to_owned()
    };
    schedule("late", due);
    schedule("early", due + 5);
    schedule("far", due + 3600);
    let cancelled = schedule("cancelled", due + 4);
    let (status, told) = api(&mut tcp, "DELETE", &format!("/schedules/{cancelled}"), &Value::Null);
    assert!(matches!(status, 200 | 204), "{status} {told}");
    server.signal("KILL");
    server.wait();

    // Nothing else tells that a second of the real clock is over.
    while wall().seconds() < due + 3 {
        thread::sleep(Duration::from_millis(50));
    }
    let mut server = Server::on_data(SETTINGS, &data);
    assert_eq!(Talker::try_open(&server, once.clone()).err(), Some(403), "it was used");
    let mut peer = Talker::open(&server, claims.clone());
    peer.subscribe("room");
    let early = peer.next("early");
    assert!(wall().seconds() >= due + 5, "never early");
    assert_eq!(early.get("late"), None, "{early}");
    let list = |server: &Server, peer: &Talker| {
        let (status, page) = peer.call(server, "listMessages", &json!({ "channel": "room" }));
        assert_eq!(status, 200, "{page}");
        let page = page["messages"].as_array().expect("a list").clone();
        page.iter().map(|it| it["event"].as_str().expect("a name").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(list(&server, &peer), ["late", "early"]);
    server.signal("KILL");
    server.wait();

    let server = Server::on_data(SETTINGS, &data);
    let mut peer = Talker::open(&server, claims);
    peer.subscribe("room");
    assert_eq!(list(&server, &peer), ["late", "early"], "each once");
    let (status, told) = api(&mut server.connect(), "GET", "/schedules", &Value::Null);
    assert_eq!(status, 200, "{told}");
    assert!(told.to_string().contains("far"), "{told}");
    assert!(!told.to_string().contains("cancelled"), "{told}");
    assert_eq!(Talker::try_open(&server, once).err(), Some(403), "it was used");
}

#[test]
fn a_presence_channel_has_room_for_so_many_bytes() {
    let server = Server::start(SETTINGS);
    let umd = "x".repeat(1022);
    let member = |n: usize| {
        let claims = json!({ "uid": format!("u{n:03}"), "umd": umd, "channels": { "presence.p": { "subscribe": true } } });
        Talker::open(&server, claims)
    };
    let weight = json!({ "uid": "u000", "umd": umd }).to_string().len();
    let fits = 102_400 / weight;
    let mut members: Vec<_> = (0..fits).map(member).collect();
    for member in &mut members {
        member.subscribe("presence.p");
    }
    let subscribe = json!({ "event": "hotsock.subscribe", "channel": "presence.p" }).to_string();
    let mut further = member(fits);
    further.say(&subscribe);
    assert_eq!(further.error(), "PRESENCE_CHANNEL_CAPACITY_REACHED");
    // A second connection of one who is there takes no room.
    let mut again = member(0);
    let told = again.subscribe("presence.p");
    assert_eq!(told["data"]["members"].as_array().map(Vec::len), Some(fits));
    // When one leaves, there is room for one.
    drop(members.pop());
    members[0].next("hotsock.memberRemoved");
    further.subscribe("presence.p");
}

#[test]
fn frames_that_are_wrong_keep_the_connection_and_store_nothing() {
    let server = Server::start(SETTINGS);
    let claims = json!({ "uid": "u", "channels": { "room": { "subscribe": true, "historyStart": 0,
        "messages": { "e": { "publish": true, "echo": true, "store": 60 } },
        "storage": { "k": { "get": true, "set": true } } } } });
    let mut peer = Talker::open(&server, claims);
    peer.subscribe("room");
    let long = "x".repeat(40_000);
    let deep = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
    let wrong = [
        String::new(),
        "null".into(),
        "\u{0}".into(),
        "{".into(),
        r#"{"event":"e""#.into(),
        r#"{"event":"e","channel":"room","data":}"#.into(),
        r#"{"event":"e","channel":"room","data":01}"#.into(),
        r#"{"event":"e","channel":"room","data":"\ud800x"#.into(),
        r#"{"event":["e"],"channel":"room"}"#.into(),
        r#"{"event":"e","channel":{"room":1}}"#.into(),
        r#"{"event":"hotsock.channelStorageSet","channel":"room","key":7,"data":1}"#.into(),
        r#"{"event":"hotsock.channelStorageSet","channel":"room","key":"other","data":1}"#.into(),
        r#"{"event":"hotsock.messageReaction","channel":"room","data":[]}"#.into(),
        r#"{"event":"hotsock.umdUpdate","data":{"token":{}}}"#.into(),
        r#"{"event":"hotsock.subscribe","channel":"room","data":{"token":"a.b.c"}}"#.into(),
        format!(r#"{{"event":"e","channel":"room","data":"{long}"}}"#),
        format!(
            r#"{{"event":"hotsock.channelStorageSet","channel":"room","key":"k","data":"{long}"}}"#
        ),
        format!(r#"{{"event":"hotsock.subscribe","channel":"{long}"}}"#),
        deep,
    ];
    for text in &wrong {
        peer.say(text.as_str());
        let shown = &text[..text.len().min(60)];
        let code = peer.error();
        assert!(!code.is_empty() && code != "INTERNAL_ERROR", "{shown}: {code}");
    }
    peer.say(r#"{"event":"hotsock.ping"}"#);
    peer.next("hotsock.pong");
    let (status, page) = peer.call(&server, "listMessages", &json!({ "channel": "room" }));
    assert_eq!((status, page), (200, json!({ "messages": [] })));
    let (status, told) = peer.call(&server, "channelStorageList", &json!({ "channel": "room" }));
    assert_eq!((status, told), (200, json!({ "items": [] })));

    // What is too large, and what is no text, ends it, each with its code.
    peer.say("x".repeat(129 << 10));
    assert_eq!(peer.end(), Some(1009));
    let connect = || Talker::open(&server, json!({}));
    let mut peer = connect();
    peer.socket.send(Message::binary(vec![0xff, 0xfe])).expect("the server reads");
    assert_eq!(peer.end(), Some(1003));
    let mut peer = connect();
    use std::io::Write;
    peer.socket.get_mut().write_all(&frame(0x81, &[0xff])).expect("the server reads");
    assert_eq!(peer.end(), Some(1007));
}

#[test]
fn tokens_meant_to_hurt_are_refused_at_once() {
    let server = Server::start(SETTINGS);
    let mut witness = Talker::open(&server, json!({ "channels": { "a": { "subscribe": true } } }));
    witness.subscribe("a");
    let upgrade = |target: &str| {
        let mut tcp = server.connect();
        tcp.send(crate::peer::handshake(target).as_bytes());
        tcp.try_answer().map(|it| it.status)
    };
    let huge = "x".repeat(10 << 20);
    for target in [format!("/v1?token={huge}"), format!("/v1?{huge}"), format!("/{huge}")] {
        let status = upgrade(&target);
        assert!(matches!(status, None | Some(400 | 414 | 431)), "{status:?}");
    }
    // A URL of 15 KiB is taken for what it is.
    assert_eq!(upgrade(&format!("/v1?token={}", "x".repeat(15 << 10))), Some(401));
    let umd = json!({ "scope": "connect", "umd": "x".repeat(1000), "more": "y".repeat(8 << 10) });
    assert_eq!(upgrade(&format!("/v1?token={}", token(umd))), Some(101));

    let channels = |keys: Vec<String>| {
        let channels: serde_json::Map<_, _> =
            keys.into_iter().map(|it| (it, json!({ "subscribe": true }))).collect();
        json!({ "scope": "connect", "channels": channels })
    };
    for (why, claims) in [
        ("compiles to too much", channels(vec![r"#regex:(\w{500}){500}".into()])),
        ("looks behind", channels(vec!["#regex:(?<=a)b".into()])),
        ("is too long", channels(vec![format!("#regex:{}", "a".repeat(1025))])),
        ("are too many", channels((0..300).map(|n| format!("c{n}*")).collect())),
    ] {
        let target = format!("/v1?token={}", token(claims));
        assert_eq!(upgrade(&target), Some(401), "a pattern that {why}");
    }
    // Patterns on which others need a second for each character.
    let began = Instant::now();
    let cruel = ["#regex:^(a+)+$", "#regex:^(a|a?)+$", "*a*a*a*a*a*a*a*a*a*a*b"];
    let claims = json!({ "uid": "u", "channels": cruel.iter().map(|it| ((*it).to_owned(), json!({ "subscribe": true }))).collect::<serde_json::Map<_, _>>() });
    let mut peer = Talker::open(&server, claims);
    for _ in 0..50 {
        let channel = format!("{}!", "a".repeat(255));
        peer.say(json!({ "event": "hotsock.subscribe", "channel": channel }).to_string());
        assert_eq!(peer.error(), "SUBSCRIBE_PERMISSION_DENIED");
    }
    assert!(began.elapsed() < PROMPT, "it took {:?}", began.elapsed());

    let body = json!({ "channel": "a", "event": "e", "data": 1 });
    assert_eq!(api(&mut server.connect(), "POST", "/publish", &body).0, 202);
    assert_eq!(witness.next("e")["data"], 1);
}

#[test]
fn credentials_of_others_are_of_no_use() {
    for shards in ["shards = 1\n", "shards = 2\n"] {
        let server = Server::start(&format!("{shards}{SETTINGS}"));
        let claims = json!({ "uid": "u", "channels": { "room": { "getInfo": true } } });
        let peers: Vec<_> = (0..6).map(|_| Talker::open(&server, claims.clone())).collect();
        let body = json!({ "channel": "room" });
        for peer in &peers {
            assert_eq!(peer.call(&server, "getChannelInfo", &body).0, 200);
            // Every other id: one bit of it is wrong, somewhere.
            for at in 0..peer.id.len() - 1 {
                let mut id = peer.id.clone().into_bytes();
                id[at] = if id[at] == b'A' { b'B' } else { b'A' };
                let id = String::from_utf8(id).expect("ASCII");
                let target = format!(
                    "/connection/getChannelInfo?connectionId={id}&connectionSecret=aaaaaaaaaaaaaaaaaaaa"
                );
                let answer = request(&mut server.connect(), "POST", &target, "", &body.to_string());
                assert_eq!(answer.status, 401, "{}", answer.text());
            }
        }
        assert!(PATIENCE > PROMPT);
    }
}
