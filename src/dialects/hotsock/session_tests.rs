use std::collections::VecDeque;

use super::*;
use crate::auth::keyring::KeySlot;
use crate::base::event_id::EventId;
use crate::base::ids::{AppIndex, ConnectionId, LaneId, Serial, Ticket};
use crate::base::name::Name;
use crate::base::time::{Millis, Nanos, Now, UnixMillis};
use crate::broker::state::{Deferred, Keep, Reaction, Retained, Value};
use crate::broker::{
    Command, Description, Member, Meta, Mode, Published, Refusal, Reply, Subscribed, Tags,
};
use crate::dialects::hotsock::calls::Op;
use crate::dialects::hotsock::http::Call;
use crate::dialects::{Caller, Input, Output, TimerKind};
use crate::wire::json;

pub(super) const NOW: UnixMillis = UnixMillis(1_700_000_000_000);
const CONNECTION: (u32, u32) = (1, 1);

/// One session whose asks are answered by hand.
pub(super) struct Bench {
    session: Box<dyn Session>,
    shared: Arc<Shared>,
    pub now: Now,
    /// What was asked and not answered.
    pub asks: VecDeque<(Ticket, Command)>,
}

/// A token with these claims beside its times.
pub(super) fn token(claims: &str) -> String {
    let exp = NOW.seconds() + 60;
    let claims = format!("{{\"exp\":{exp},{}", claims.trim_start().trim_start_matches('{'));
    let key_base64 = crate::config::Secret("YXBwLXNlY3JldA==".into());
    KeySlot { method: "HS256", id: None, key_base64 }.sign(&claims).unwrap()
}

pub(super) fn dialect(reports: bool, change: impl FnOnce(&mut Config, &mut Settings)) -> Hotsock {
    let mut config = Config::development();
    config.apps[0].bridge = vec!["news".into()];
    // In development the settings bring their keys each time they are asked for.
    let mut settings = Settings::of(&Config { development: false, ..Config::development() });
    change(&mut config, &mut settings);
    config.sections.set(settings);
    let it = Hotsock::with_seed(&config, &Apps::new(&config.apps), &[7; 32]);
    let mut shared = Arc::into_inner(it.0.unwrap()).unwrap();
    shared.reports = reports;
    Hotsock(Some(Arc::new(shared)))
}

fn facts(now: Now) -> Facts {
    Facts {
        connection: ConnectionId::from_pair(CONNECTION.0, CONNECTION.1),
        now,
        shards: 2,
        draining: false,
        lane_first: LaneId(10),
        deflate: false,
        chance: 0,
    }
}

fn open(it: &Hotsock, query: &str, facts: &Facts) -> Option<Opening> {
    it.open(
        &Request {
            method: "GET",
            path: "/v1",
            query: Some(query),
            headers: &[("User-Agent", b"test/1")],
            peer: ([127, 0, 0, 1], 9).into(),
            is_websocket: true,
            takes_chunks: true,
        },
        facts,
    )
}

impl Bench {
    /// A session of a connection that was let in; it is not open yet.
    pub fn entering(it: &Hotsock, claims: &str) -> Self {
        let now = Now { steady: Nanos(1_000_000_000), wall: NOW };
        let query = format!("token={}", token(claims));
        let session = match open(it, &query, &facts(now)) {
            Some(Opening::WebSocket { session, .. } | Opening::Decide { session, .. }) => session,
            Some(Opening::Respond(response)) => panic!("{response:?}"),
            _ => panic!("its own path is opened"),
        };
        Self { session, shared: it.0.clone().unwrap(), now, asks: VecDeque::new() }
    }

    /// An open one, greeting and all behind it.
    pub fn new(claims: &str) -> Self {
        let mut bench = Self::entering(&dialect(false, |_, _| {}), claims);
        bench.handle(Input::Opened);
        bench
    }

    /// One with this said of the channel `a`, which is subscribed.
    pub fn on(rules: &str) -> Self {
        Self::with_channels(&format!("{{\"a\":{{\"subscribe\":true{rules}}}}}"))
    }

    fn with_channels(channels: &str) -> Self {
        let claims = r#"{"scope":"connect","uid":"42","channels":"#;
        let mut bench = Self::new(&format!("{claims}{channels}}}"));
        assert_eq!(bench.send(r#"{"event":"hotsock.subscribe","channel":"a"}"#).len(), 1);
        bench.grant();
        bench
    }

    /// Hands an input over; what follows, in words.
    pub fn handle(&mut self, input: Input<'_>) -> Vec<String> {
        let mut out = Vec::new();
        self.session.handle(input, self.now, &mut out);
        let words = out.into_iter().filter_map(|output| match output {
            Output::Text(text) => {
                let text = String::from_utf8(text).unwrap();
                json::parse_str(&text).unwrap();
                Some(text)
            }
            Output::Ask(ticket, command) => {
                let word = word(&command);
                if !matches!(command, Command::Unsubscribe(_)) {
                    self.asks.push_back((ticket, command));
                }
                Some(word)
            }
            Output::Return(_, words) => {
                let (body, status) = words.split_at(words.len() - 2);
                let body = std::str::from_utf8(body).unwrap();
                json::parse_str(body).unwrap();
                Some(format!("{} {body}", u16::from_le_bytes([status[0], status[1]])))
            }
            Output::Report(report) => {
                let body = std::str::from_utf8(&report.body.0).unwrap().to_owned();
                json::parse_str(&body).unwrap();
                Some(format!("report {body}"))
            }
            Output::Arm(TimerKind(kind), Millis(after)) => Some(format!("arm {kind} {after}")),
            Output::ArmIdle(TimerKind(kind), Millis(after)) => Some(format!("idle {kind} {after}")),
            Output::Close(farewell, _) => {
                Some(format!("close {} {}", farewell.code, farewell.text))
            }
            Output::Accept => Some("accept".into()),
            Output::Ping => Some("ping".into()),
            Output::Respond(response) => Some(format!("respond {}", response.status)),
            Output::Count(_) => None,
            other => panic!("{other:?}"),
        });
        words.collect()
    }

    pub fn send(&mut self, text: &str) -> Vec<String> {
        self.handle(Input::Text(text))
    }

    /// The one word that follows.
    pub fn one(&mut self, text: &str) -> String {
        let mut words = self.send(text);
        assert_eq!(words.len(), 1, "{text}: {words:?}");
        words.remove(0)
    }

    pub fn reply(&mut self, reply: Reply) -> Vec<String> {
        let (ticket, _) = self.asks.pop_front().unwrap();
        self.handle(Input::Reply(ticket, reply))
    }

    /// Grants the oldest ask, a subscribe, with these values.
    fn grant_with(&mut self, values: Vec<Value>, has_more_values: bool) -> Vec<String> {
        let (ticket, command) = self.asks.pop_front().unwrap();
        let Command::Subscribe(it) = command else { panic!("{command:?}") };
        let subscribed = Subscribed {
            channel: it.channel.clone(),
            after: Serial(0),
            description: Description::default(),
            members: it.member.iter().cloned().collect(),
            position: None,
            replay: None,
            values,
            has_more_values,
        };
        self.handle(Input::Reply(ticket, Reply::Subscribed(Box::new(subscribed))))
    }

    pub fn grant(&mut self) -> Vec<String> {
        self.grant_with(Vec::new(), false)
    }

    pub fn refuse(&mut self, refusal: Refusal) -> Vec<String> {
        self.reply(Reply::Refused(refusal))
    }

    /// Another session calls, with the right secret.
    pub fn call(&mut self, op: Op, body: &str) -> Vec<String> {
        let connection = ConnectionId::from_pair(CONNECTION.0, CONNECTION.1);
        let secret = self.shared.ids.secret(connection);
        self.call_with(op, body, &secret)
    }

    fn call_with(&mut self, op: Op, body: &str, secret: &[u8]) -> Vec<String> {
        let caller = Caller { connection: ConnectionId::from_pair(9, 9), ticket: Ticket(5) };
        let call = Call { op, secret, ip: "10.0.0.1", agent: Some("curl"), body: body.as_bytes() };
        self.handle(Input::Call(caller, &call.write()))
    }

    fn id(&self) -> String {
        let connection = ConnectionId::from_pair(CONNECTION.0, CONNECTION.1);
        String::from_utf8(self.shared.ids.id(connection).to_vec()).unwrap()
    }
}

/// An ask in a word or two.
fn word(command: &Command) -> String {
    let text = |it: &Payload| String::from_utf8(it.0.to_vec()).unwrap();
    match command {
        Command::Subscribe(it) => {
            let mut word = format!("+{} lane {}", it.channel.name, it.lane.0);
            if let Some(member) = &it.member {
                let info = member.info.as_ref().map_or("null".into(), text);
                word += &format!(" as {} {info}", member.user_id);
                assert!(it.renews && it.members_bytes_max == 102_400);
            }
            word += if it.silent { " silent" } else { "" };
            word += if it.values.is_some() { " values" } else { "" };
            word + if it.filter.is_some() { " some" } else { "" }
        }
        Command::Unsubscribe(channel) => format!("-{}", channel.name),
        Command::Publish(it) => {
            let mut word = format!("publish {} {} {}", it.channel.name, &*it.name, text(&it.data));
            word += &format!(" by {}", text(it.meta.as_ref().unwrap().publisher.as_ref().unwrap()));
            word += if it.exclude.is_some() { " to others" } else { "" };
            word += if it.quiet { " quiet" } else { "" };
            match it.retain {
                Some(Keep::For(Millis(span))) => word += &format!(" for {span}"),
                Some(Keep::Forever) => word += " for ever",
                None => {}
            }
            it.report.as_ref().map_or(word.clone(), |it| format!("{word} report {}", text(it)))
        }
        Command::SetValue(it) => {
            let data = it.data.as_ref().map_or("nothing".into(), text);
            let report = it.report.as_ref().map_or(String::new(), |it| format!(" {}", text(it)));
            format!("set {} {} {data} by {}{report}", it.channel.name, &*it.key, text(&it.meta))
        }
        Command::Values(channel, it) => {
            let keys = it.keys.as_ref().map_or("all".into(), |keys| keys.len().to_string());
            let after = it.after.as_ref().map_or(String::new(), |it| format!(" after {it}"));
            format!("values {} {keys}{after}", channel.name)
        }
        Command::Schedule(it) => {
            let what = match &it.what {
                Deferred::Publish(it) => word(&Command::Publish(it.clone())),
                Deferred::SetValue(it) => word(&Command::SetValue(it.clone())),
                Deferred::Push(..) => panic!("nothing here does that"),
            };
            format!("at {} {what}", it.at.0 - NOW.0)
        }
        Command::FindRetained(channel, id) => format!("find {} {id}", channel.name),
        Command::Retained(channel, it) => {
            let mut word = format!("list {} from {}", channel.name, it.from_at.0);
            word += if it.after.is_some() { " after" } else { "" };
            word += if it.before.is_some() { " before" } else { "" };
            word += if it.is_newest_first { " reverse" } else { "" };
            word + &format!(" {}", it.events_max)
        }
        Command::React(it) => format!(
            "react {} {} {} to {} {}{}",
            it.channel.name,
            &*it.event.0,
            text(&it.event.1),
            it.message,
            text(it.publisher.as_ref().unwrap()),
            if it.exclude.is_some() { " to others" } else { "" },
        ),
        Command::Renew(channel, it) => {
            let info = it.member.info.as_ref().map_or("null".into(), text);
            format!("renew {} {} {info}", channel.name, &*it.member.user_id)
        }
        Command::Describe(channel) => format!("describe {}", channel.name),
        Command::Members(channel) => format!("members {}", channel.name),
        Command::UseOnce(_, name, _) => format!("once {name}"),
        other => panic!("{other:?}"),
    }
}

/// A frame's event, channel and code, short.
pub(super) fn short(words: &[String]) -> Vec<String> {
    let short = |word: &String| {
        let Ok(frame) = json::parse_str(word) else { return word.clone() };
        let member = |name: &str| frame.member(name).and_then(|it| it.as_str());
        let code =
            frame.member("error").and_then(|it| it.member("code")).and_then(|it| it.as_str());
        let mut out = member("event").unwrap().replace("hotsock.", ".");
        for more in [code, member("channel"), member("key")].into_iter().flatten() {
            out += " ";
            out += &more;
        }
        out
    };
    words.iter().map(short).collect()
}

pub(super) fn payload(text: &str) -> Payload {
    Payload(text.to_owned().into())
}

pub(super) fn value(key: &str, data: &str) -> Value {
    Value { key: key.into(), data: payload(data), meta: payload(r#"{"uid":"7","umd":null}"#) }
}

fn published(id: u128) -> Reply {
    Reply::Published(Published {
        id: EventId(id),
        mode: Mode::None,
        ..Published::unkept(Serial(1))
    })
}

/// A kept message of a time after now, published by nobody.
fn kept(after: u64, name: &str, reactions: &[(&str, &str)]) -> Retained {
    let at = UnixMillis(NOW.0 + after);
    let event = Event {
        channel: Channel { app: AppIndex(0), name: "#hotsock:a".into() },
        serial: Serial(0),
        epoch: None,
        id: EventId::next(EventId::default(), at, 1),
        at,
        arrived: Nanos(0),
        tags: Tags::default(),
        meta: None,
        guarded: false,
        happening: Happening::Message { name: name.into(), data: payload("1"), sender: None },
    };
    let reaction = |(what, who): &(&str, &str)| Reaction {
        reaction: (*what).into(),
        by: Arc::new(Member { user_id: (*who).into(), info: None }),
        at,
        expires: None,
    };
    Retained { event: Arc::new(event), reactions: reactions.iter().map(reaction).collect() }
}

#[test]
fn an_idle_session_is_small() {
    let bytes = size_of::<HotsockSession>();
    assert!(bytes <= 320, "{bytes}");
}

#[test]
fn the_upgrade_is_refused_by_name() {
    let it = dialect(false, |_, _| {});
    let now = Now { steady: Nanos(1), wall: NOW };
    let status = |it: &Hotsock, query: &str, facts: &Facts| match open(it, query, facts) {
        Some(Opening::Respond(response)) => response.status,
        Some(Opening::WebSocket { .. }) => 101,
        Some(Opening::Decide { .. }) => 102,
        _ => 0,
    };
    for (claims, expected) in [
        (r#"{"scope":"connect"}"#, 101),
        (r#"{"scope":"umd connect x"}"#, 101),
        (r#"{"scope":"connect","singleUse":true,"jti":"j"}"#, 102),
        (r#"{"scope":"subscribe"}"#, 403),
        (r#"{"scope":"connect","connectionId":"x"}"#, 403),
        (r#"{"scope":"connect","singleUse":true}"#, 401),
        (r##"{"scope":"connect","channels":{"#regex:(":{}}}"##, 401),
        (r#"{"x":1}"#, 401),
    ] {
        let query = format!("token={}", token(claims));
        assert_eq!(status(&it, &query, &facts(now)), expected, "{claims}");
    }
    let good = format!("token={}", token(r#"{"scope":"connect"}"#));
    for query in ["", "token=", "token=x", "token=a.b.c", &good[..good.len() - 2]] {
        assert_eq!(status(&it, query, &facts(now)), 401, "{query}");
    }
    let late = Now { wall: UnixMillis(NOW.0 + 61_000), ..now };
    assert_eq!(status(&it, &good, &facts(late)), 401);
    assert_eq!(status(&it, &good, &Facts { draining: true, ..facts(now) }), 503);
    let it = dialect(false, |config, _| config.apps[0].enabled = false);
    assert_eq!(status(&it, &good, &facts(now)), 403);
    let it = dialect(false, |config, _| config.apps[0].connections_max = 1);
    let _one = Seat::try_take(&it.0.as_ref().unwrap().app).unwrap();
    assert_eq!(status(&it, &good, &facts(now)), 503);
}

#[test]
fn paths_are_ours_or_not() {
    let it = dialect(false, |_, _| {});
    let now = Now { steady: Nanos(1), wall: NOW };
    let id =
        String::from_utf8(it.0.as_ref().unwrap().ids.id(ConnectionId::from_pair(1, 1)).to_vec());
    let id = id.unwrap();
    let good =
        format!("connectionId={}&connectionSecret=aaaaaaaaaaaaaaaaaaaa", id.replace('=', "%3d"));
    let raw = format!("connectionSecret=aaaaaaaaaaaaaaaaaaaa&connectionId={id}");
    let far = it.0.as_ref().unwrap().ids.id(ConnectionId::from_pair(2 << 24, 1));
    let far = format!(
        "connectionId={}&connectionSecret=aaaaaaaaaaaaaaaaaaaa",
        String::from_utf8_lossy(&far)
    );
    for (method, path, query, is_websocket, expected) in [
        ("GET", "/v1", "token=x", true, "401"),
        ("GET", "/v1/", "token=x", true, "401"),
        ("GET", "/", "token=x", true, "401"),
        ("GET", "/", "", true, "none"),
        ("GET", "/", "", false, "none"),
        ("GET", "/v1", "token=x", false, "400"),
        ("OPTIONS", "/v1", "", false, "204"),
        ("GET", "/v2", "token=x", true, "none"),
        ("POST", "/connection/listMessages", &good, false, "exchange"),
        ("POST", "/connection/umdUpdate", &raw, false, "exchange"),
        ("POST", "/connection/umdUpdate", &far, false, "401"),
        ("POST", "/connection/umdUpdate", "", false, "401"),
        ("POST", "/connection/umdUpdate", "connectionId=x&connectionSecret=y", false, "401"),
        ("POST", "/connection/umdUpdate", &good[..good.len() - 1], false, "401"),
        ("GET", "/connection/umdUpdate", &good, false, "405"),
        ("OPTIONS", "/connection/umdUpdate", "", false, "204"),
        ("OPTIONS", "/connection/what", "", false, "204"),
        ("POST", "/connection/what", &good, false, "404"),
        ("POST", "/connection/", &good, false, "404"),
    ] {
        let peer = ([127, 0, 0, 1], 9).into();
        let query = Some(query);
        let request =
            Request { method, path, query, headers: &[], peer, is_websocket, takes_chunks: true };
        let found = match it.open(&request, &facts(now)) {
            None => "none".into(),
            Some(Opening::Respond(response)) => {
                let cors = ("Access-Control-Allow-Origin", "*".into());
                assert!(response.headers.contains(&cors), "{path}");
                let allow = response.headers.iter().any(|(name, _)| *name == "Allow");
                assert_eq!(allow, response.status == 405);
                response.status.to_string()
            }
            Some(Opening::Exchange { .. }) => "exchange".into(),
            Some(_) => "open".into(),
        };
        assert_eq!(found, expected, "{method} {path} {query:?}");
    }
    let nothing = Hotsock(None);
    assert!(open(&nothing, "token=x", &facts(now)).is_none());
    assert!(!nothing.needs_store() && it.needs_store() && it.welcome("h").is_some());
}

#[test]
fn a_connection_is_greeted_and_its_automatic_subscriptions_come_in_order() {
    let claims = r#"{"scope":"connect","uid":"42","umd":{"a":1},"keepAlive":true,"heartbeatTimeout":5,
        "channels":{"z":{"autoSubscribe":true,"alias":"me"},"a":{"autoSubscribe":true,"subscribe":false},
        "presence.p":{"autoSubscribe":true,"omitFromSubCount":true},"x":{"subscribe":true}}}"#;
    let mut it = Bench::entering(&dialect(false, |_, _| {}), claims);
    let id = it.id();
    let words = it.handle(Input::Opened);
    assert!(words[0].starts_with(&format!(
        "{{\"event\":\"hotsock.connected\",\"data\":{{\"connectionId\":\"{id}\",\
         \"connectionExpiresAt\":\"2023-11-15T00:13:20Z\",\"connectionSecret\":\""
    )));
    assert!(words[0].ends_with("\"},\"meta\":{\"uid\":\"42\",\"umd\":{\"a\":1}}}"));
    assert_eq!(words[1..5], ["arm 2 7200000", "idle 3 600000", "arm 1 570000", "arm 0 6000"]);
    assert_eq!(short(&words[5..]), [".error SUBSCRIBE_PERMISSION_DENIED a", "+#hotsock:z lane 10"]);
    // What is said of it meanwhile waits for it, although it was not asked for yet.
    assert!(it.send(r#"{"event":"hotsock.unsubscribe","channel":"presence.p"}"#).is_empty());
    assert_eq!(
        it.grant(),
        [
            r#"{"event":"hotsock.subscribed","channel":"z","data":{"autoSubscribed":true},"meta":{"channelAlias":"me","uid":"42","umd":{"a":1}}}"#,
            "+#hotsock:presence.p lane 10 as 42 {\"a\":1} silent",
        ]
    );
    assert_eq!(
        it.grant(),
        [
            r#"{"event":"hotsock.subscribed","channel":"presence.p","data":{"members":[{"uid":"42","umd":{"a":1}}],"autoSubscribed":true},"meta":{"uid":"42","umd":{"a":1}}}"#,
            "-#hotsock:presence.p",
            r#"{"event":"hotsock.unsubscribed","channel":"presence.p","data":{},"meta":{"uid":"42","umd":{"a":1}}}"#,
        ]
    );
    assert_eq!(
        short(&it.send(r#"{"event":"hotsock.subscribe","channel":"me"}"#)),
        [".error ALREADY_SUBSCRIBED z"]
    );
    assert_eq!(
        it.send(r#"{"event":"hotsock.unsubscribe","channel":"me"}"#),
        [
            "-#hotsock:z",
            r#"{"event":"hotsock.unsubscribed","channel":"z","data":{},"meta":{"channelAlias":"me","uid":"42","umd":{"a":1}}}"#,
        ]
    );
}

#[test]
fn a_token_for_one_use_is_used_before_the_socket_is_open() {
    let claims = r#"{"scope":"connect","singleUse":true,"jti":"j"}"#;
    for (reply, expected) in [
        (Reply::Done, "accept"),
        (Reply::Refused(Refusal::Used), "respond 403"),
        (Reply::Refused(Refusal::StoreBusy), "respond 503"),
    ] {
        let mut it = Bench::entering(&dialect(false, |_, _| {}), claims);
        assert_eq!(it.handle(Input::Asked), ["once j"]);
        assert_eq!(it.call(Op::ChannelInfo, "{}").len(), 1);
        assert_eq!(it.reply(reply), [expected]);
    }
}

#[test]
fn timers_end_what_they_should() {
    let mut it = Bench::new(r#"{"scope":"connect","heartbeatTimeout":5}"#);
    assert_eq!(it.send(r#"{"event":"hotsock.heartbeat"}"#), ["arm 0 6000"]);
    assert!(it.send(r#"{"event":"hotsock.pong"}"#).is_empty());
    assert_eq!(it.one(r#"{"event":"hotsock.ping"}"#), r#"{"event":"hotsock.pong","data":"{}"}"#);
    assert_eq!(
        it.handle(Input::Timer(session::KEEP_ALIVE)),
        [r#"{"event":"hotsock.keepAlive","data":{}}"#, "arm 1 570000"]
    );
    for (kind, expected) in [
        (session::HEARTBEAT, "close 1000 no heartbeat"),
        (session::LIFETIME, "close 1001 Going away"),
        (session::IDLE, "close 1001 Going away"),
    ] {
        let mut it = Bench::new(r#"{"scope":"connect"}"#);
        assert!(it.send(r#"{"event":"hotsock.heartbeat"}"#).is_empty());
        assert_eq!(it.handle(Input::Timer(kind)), [expected]);
        // Nothing follows the end.
        assert!(it.send(r#"{"event":"hotsock.ping"}"#).is_empty());
        assert!(it.handle(Input::Timer(kind)).is_empty());
        assert!(it.call(Op::ChannelInfo, "{}")[0].starts_with("401 "));
    }
    let mut it = Bench::new(r#"{"scope":"connect"}"#);
    assert_eq!(it.handle(Input::Binary(br#"{"event":"hotsock.ping"}"#)).len(), 1);
    assert_eq!(it.handle(Input::Binary(b"\xff")), ["close 1003 only text is understood"]);
}

#[test]
fn everything_happens_in_the_order_in_which_it_was_said() {
    let rules = r#"{"a":{"subscribe":true,"messages":{"x":{"publish":true}}}}"#;
    let claims = r#"{"scope":"connect","uid":"42","channels":"#;
    let mut it = Bench::new(&format!("{claims}{rules}}}"));
    let subscribe = r#"{"event":"hotsock.subscribe","channel":"a"}"#;
    let unsubscribe = r#"{"event":"hotsock.unsubscribe","channel":"a"}"#;
    let publish = r#"{"event":"x","channel":"a"}"#;
    assert_eq!(it.one(subscribe), "+#hotsock:a lane 10");
    for text in [subscribe, publish, unsubscribe, unsubscribe, publish, subscribe, publish] {
        assert!(it.send(text).is_empty(), "{text}");
    }
    // What is about nothing or something else does not wait.
    assert_eq!(short(&it.send(r#"{"event":"hotsock.ping"}"#)), [".pong"]);
    assert_eq!(short(&it.send(r#"{"event":"x","channel":"b"}"#)).len(), 1);
    assert_eq!(
        short(&it.grant()),
        [
            ".subscribed a",
            ".error ALREADY_SUBSCRIBED a",
            "publish #hotsock:a x null by {\"uid\":\"42\",\"umd\":null} to others quiet",
            "-#hotsock:a",
            ".unsubscribed a",
            ".error NOT_SUBSCRIBED a",
            ".error NOT_SUBSCRIBED a",
            "+#hotsock:a lane 10",
        ]
    );
    it.asks.retain(|(_, it)| matches!(it, Command::Subscribe(_)));
    // One that is refused lets the next be judged by itself.
    assert!(it.send(subscribe).is_empty());
    assert_eq!(
        short(&it.refuse(Refusal::ChannelsFull { channels_max: 1 })),
        [".error RATE_LIMITED a", ".error NOT_SUBSCRIBED a", "+#hotsock:a lane 10"]
    );
    assert_eq!(short(&it.grant()), [".subscribed a"]);
}

#[test]
fn what_waits_is_bounded() {
    let mut it = Bench::new(r#"{"scope":"connect","channels":{"*":{"subscribe":true}}}"#);
    it.send(r#"{"event":"hotsock.subscribe","channel":"a"}"#);
    let text = r#"{"event":"hotsock.unsubscribe","channel":"a"}"#;
    let words: Vec<_> = (0..session::WAITING_MAX + 3).flat_map(|_| it.send(text)).collect();
    assert_eq!(short(&words), vec![".error RATE_LIMITED a"; 3]);
    assert!(it.session.held_bytes() > text.len() * session::WAITING_MAX);
    assert_eq!(it.grant().len(), 1 + 2 + session::WAITING_MAX - 1);
    let large =
        format!("{{\"event\":\"x\",\"channel\":\"a\",\"data\":\"{}\"}}", "x".repeat(100_000));
    it.send(r#"{"event":"hotsock.subscribe","channel":"a"}"#);
    assert!(it.send(&large).is_empty() && it.send(&large).is_empty());
    assert_eq!(short(&it.send(&large)), [".error RATE_LIMITED a"]);
}

#[test]
fn subscriptions_are_bounded() {
    let it = dialect(false, |_, settings| settings.subscriptions_max = 1);
    let claims = r#"{"scope":"connect","channels":{"*":{"subscribe":true}}}"#;
    let mut it = Bench::entering(&it, claims);
    it.handle(Input::Opened);
    assert_eq!(it.send(r#"{"event":"hotsock.subscribe","channel":"a"}"#).len(), 1);
    it.grant();
    assert_eq!(
        short(&it.send(r#"{"event":"hotsock.subscribe","channel":"b"}"#)),
        [".error RATE_LIMITED b"]
    );
}

#[test]
fn every_fault_has_its_code_and_names_the_channel_as_it_was_sent() {
    let claims = r#"{"scope":"connect","channels":{
        "a":{"subscribe":true,"messages":{"x":{"publish":true},"no":{"publish":false}},
             "storage":{"k":{"get":true,"set":true}}},
        "presence.p":{"subscribe":true},"real":{"subscribe":true,"alias":"nick",
             "messages":{"x":{"publish":true,"scheduleBefore":1700000100}}}}}"#;
    let mut it = Bench::new(claims);
    it.send(r#"{"event":"hotsock.subscribe","channel":"a"}"#);
    it.grant();
    let umd = |claims: &str| format!("\"data\":{{\"token\":\"{}\"}}", token(claims));
    let other = umd(r#"{"scope":"subscribe","connectionId":"other"}"#);
    let ours = format!(r#"{{"scope":"umd","connectionId":"{}"}}"#, it.id());
    let (scope, ours) = (umd(r#"{"scope":"connect","uid":"42"}"#), umd(&ours));
    let big = format!("\"data\":\"{}\"", "x".repeat(33_000));
    let long = "x".repeat(257);
    let react = |message: &str, reaction: &str, action: &str| {
        format!(
            "\"data\":{{\"messageId\":\"{message}\",\"reaction\":\"{reaction}\",\"action\":\"{action}\"}}"
        )
    };
    let id = "01JA3HVNF6E89HDT1ABRFWJ8CA";
    let (wrong_action, blank) = (react(id, "x", "keep"), react(id, " ", "add"));
    let (no_id, no_uid) = (react("x", "x", "add"), react(id, "x", "add"));
    for (event, channel, rest, expected) in [
        ("hotsock.subscribe", "a", "", ".error ALREADY_SUBSCRIBED a"),
        ("hotsock.unsubscribe", "b", "", ".error NOT_SUBSCRIBED b"),
        ("hotsock.subscribe", "b", "", ".error SUBSCRIBE_PERMISSION_DENIED b"),
        ("hotsock.subscribe", "b", &other, ".error INVALID_SUBSCRIBE_TOKEN b"),
        ("hotsock.subscribe", "b", &scope, ".error INVALID_SUBSCRIBE_TOKEN b"),
        (
            "hotsock.subscribe",
            "b",
            "\"data\":{\"token\":\"x\"}",
            ".error INVALID_SUBSCRIBE_TOKEN b",
        ),
        ("hotsock.subscribe", "b", "\"data\":{\"token\":1}", ".error INVALID_MESSAGE b"),
        ("hotsock.subscribe", "b", "\"data\":1", ".error INVALID_MESSAGE b"),
        (
            "hotsock.subscribe",
            "presence.p",
            "",
            ".error PRESENCE_CHANNEL_USER_ID_REQUIRED presence.p",
        ),
        ("hotsock.subscribe", "a b", "", ".error INVALID_CHANNEL a b"),
        ("hotsock.subscribe", &long, "", &format!(".error INVALID_CHANNEL {long}")),
        ("x", "nick", "", ".error NOT_SUBSCRIBED nick"),
        ("y", "a", "", ".error PUBLISH_PERMISSION_DENIED a"),
        ("no", "a", "", ".error PUBLISH_PERMISSION_DENIED a"),
        ("#x", "a", "", ".error INVALID_EVENT a"),
        ("x*", "a", "", ".error INVALID_EVENT a"),
        ("hotsock.what", "a", "", ".error INVALID_EVENT a"),
        ("x", "a", &big, ".error DATA_TOO_LARGE a"),
        ("x", "a*", "", ".error INVALID_CHANNEL a*"),
        ("x", "a", "\"scheduleExpression\":\"at(x)\"", ".error INVALID_SCHEDULE_EXPRESSION a"),
        (
            "x",
            "a",
            "\"scheduleExpression\":\"at(2024-01-01T00:00:00)\"",
            ".error SCHEDULE_PERMISSION_DENIED a",
        ),
        ("x", "a", "\"scheduleExpression\":1", ".error INVALID_MESSAGE a"),
        ("hotsock.channelStorageSet", "a", "\"key\":\"k*\"", ".error INVALID_KEY a k*"),
        ("hotsock.channelStorageSet", "a", "", ".error INVALID_MESSAGE a"),
        ("hotsock.channelStorageSet", "a", "\"key\":\"z\"", ".error STORAGE_PERMISSION_DENIED a z"),
        ("hotsock.channelStorageGet", "a", "\"key\":\"z\"", ".error STORAGE_PERMISSION_DENIED a z"),
        ("hotsock.channelStorageGet", "a", "\"key\":\"\"", ".error INVALID_KEY a "),
        ("hotsock.umdUpdate", "a", "\"data\":{\"token\":\"x\"}", ".error INVALID_UMD_TOKEN a"),
        ("hotsock.umdUpdate", "a", &other, ".error INVALID_UMD_TOKEN a"),
        ("hotsock.umdUpdate", "a", "", ".error INVALID_MESSAGE a"),
        ("hotsock.umdUpdate", "a", &ours, ".error UMD_UPDATE_PERMISSION_DENIED a"),
        ("hotsock.messageReaction", "a", "", ".error INVALID_MESSAGE a"),
        ("hotsock.messageReaction", "a", &wrong_action, ".error INVALID_MESSAGE a"),
        ("hotsock.messageReaction", "a", &blank, ".error INVALID_REACTION a"),
        ("hotsock.messageReaction", "nick", &no_uid, ".error NOT_SUBSCRIBED nick"),
        ("hotsock.messageReaction", "a", &no_uid, ".error USER_ID_REQUIRED a"),
        ("hotsock.messageReaction", "a", &no_id, ".error USER_ID_REQUIRED a"),
    ] {
        let comma = if rest.is_empty() { "" } else { "," };
        let text = format!("{{\"event\":\"{event}\",\"channel\":\"{channel}\"{comma}{rest}}}");
        assert_eq!(short(&it.send(&text)), [expected], "{text}");
    }
    for text in [
        "",
        "x",
        "[]",
        "{}",
        r#"{"event":1}"#,
        r#"{"event":"x"}"#,
        r#"{"event":"hotsock.subscribe"}"#,
    ] {
        assert_eq!(short(&it.send(text)), [".error INVALID_MESSAGE"], "{text}");
    }
    assert!(it.one("x").contains("not JSON at byte 0"));
    assert!(it.one(r#"{"event":"x","channel":5}"#).contains("\\\"channel\\\" must be a string"));
}

#[test]
fn a_message_is_published_as_the_rights_say() {
    let rules = r#","messages":{"plain":{"publish":true},"echo":{"publish":true,"echo":true},
        "kept":{"publish":true,"store":3600},"ever":{"publish":true,"store":-1},
        "later":{"publish":true,"scheduleBefore":1700000100}}"#;
    let mut it = Bench::on(rules);
    let by = "by {\"uid\":\"42\",\"umd\":null}";
    for (rest, expected) in [
        ("\"event\":\"plain\"", format!("plain null {by} to others quiet")),
        (
            "\"event\":\"plain\",\"data\":{ \"a\" : 1 }",
            format!("plain {{ \"a\" : 1 }} {by} to others quiet"),
        ),
        ("\"event\":\"echo\",\"data\":[]", format!("echo [] {by} quiet")),
        ("\"event\":\"kept\",\"store\":1", format!("kept null {by} to others for 3600000")),
        (
            "\"event\":\"ever\",\"eagerIdGeneration\":true",
            format!("ever null {by} to others for ever"),
        ),
    ] {
        let text = format!("{{\"channel\":\"a\",{rest}}}");
        assert_eq!(it.one(&text), format!("publish #hotsock:a {expected}"));
        assert_eq!(it.one(&text), format!("publish #hotsock:a {expected}"), "cached");
    }
    it.asks.clear();
    let later = r#"{"channel":"a","event":"later","scheduleExpression":"at(2023-11-14T22:14:00)"}"#;
    assert_eq!(it.one(later), format!("at 40000 publish #hotsock:a later null {by} to others"));
    assert!(it.reply(Reply::Scheduled(EventId(1))).is_empty());
    // Who publishes is told of what is not done, and of nothing else.
    it.send(r#"{"channel":"a","event":"kept"}"#);
    assert!(it.reply(published(1)).is_empty());
    it.send(r#"{"channel":"a","event":"kept"}"#);
    assert_eq!(short(&it.refuse(Refusal::StoreFull)), [".error INTERNAL_ERROR a"]);
}

#[test]
fn a_broadcast_needs_no_subscription_and_a_bridged_channel_is_the_others() {
    let claims = r#"{"scope":"connect","uid":"1","umd":2,"channels":{
        "b":{"messages":{"*":{"broadcast":true}}},"news":{"subscribe":true,"messages":{"*":{"broadcast":true}}}}}"#;
    let mut it = Bench::new(claims);
    let by = "by {\"uid\":\"1\",\"umd\":2}";
    assert_eq!(
        it.one(r#"{"channel":"b","event":"x","data":0}"#),
        format!("publish #hotsock:b x 0 {by} to others quiet")
    );
    assert_eq!(
        it.one(r#"{"channel":"news","event":"x"}"#),
        format!("publish news x null {by} to others quiet")
    );
    it.asks.clear();
    assert_eq!(it.one(r#"{"event":"hotsock.subscribe","channel":"news"}"#), "+news lane 10");
    assert_eq!(short(&it.grant()), [".subscribed news"]);
}

mod state;
