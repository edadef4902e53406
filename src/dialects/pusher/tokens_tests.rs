use serde_json::{Value, json};

use super::super::Pusher;
use super::super::actor::Actor;
use super::super::two::Two;
use super::*;
use crate::auth::{Apps, Seat, jwt};
use crate::base::event_id::EventId;
use crate::base::ids::{ConnectionId, LaneId, Serial};
use crate::base::time::Nanos;
use crate::broker::state::Value as Kept;
use crate::broker::{Control, Description, Event, Happening, Payload, Refusal, Subscribed, Tags};
use crate::config::Config;
use crate::dialects::{Caller, Facts, Input, Session, Words};

const WALL: UnixMillis = UnixMillis(1_700_000_000_000);
const NOW: Now = Now { steady: Nanos(1), wall: WALL };

fn app() -> Arc<App> {
    let apps = Apps::new(&Config::development().apps);
    apps.with_id("app-id").unwrap().clone()
}

/// A token as an app makes it, with another library.
fn signed(claims: &Value, kid: Option<&str>, algorithm: jsonwebtoken::Algorithm) -> String {
    let mut header = jsonwebtoken::Header::new(algorithm);
    header.kid = kid.map(Into::into);
    let key = jsonwebtoken::EncodingKey::from_secret(b"app-secret");
    jsonwebtoken::encode(&header, claims, &key).unwrap()
}

fn claims() -> Value {
    json!({
        "iat": 1_700_000_000,
        "exp": 1_700_003_600,
        "jti": "j",
        "x-sockudo-client-id": "ann",
        "x-sockudo-capability": {"c": ["subscribe"]},
    })
}

fn token_of(claims: &Value) -> String {
    signed(claims, Some("app-key"), jsonwebtoken::Algorithm::HS256)
}

#[test]
fn a_token_is_taken_or_refused_by_name() {
    let app = app();
    let read = |text: &str| Token::read(text, &app, WALL);
    let good = read(&token_of(&claims())).unwrap();
    assert_eq!((&*good.client_id, &*good.jti, good.expires), ("ann", "j", 1_700_003_600));
    assert!(good.capabilities.may(Op::Subscribe, "c"));
    use TokenError::*;
    let long = "x".repeat(129);
    for (name, value, expected) in [
        ("iat", json!(1_700_000_030), None),
        ("iat", json!(1_700_000_031), Some(IssuedLater)),
        ("iat", json!("1700000000"), Some(Invalid)),
        ("iat", json!(null), Some(Invalid)),
        ("iat", json!(1_699_917_200), None),
        ("iat", json!(1_699_917_199), Some(Lifetime)),
        ("exp", json!(1_699_999_971), None),
        ("exp", json!(1_699_999_970), Some(Expired)),
        ("exp", json!(1_700_086_400.5), None),
        ("exp", json!(1_700_086_401), Some(Lifetime)),
        ("exp", json!(1e300), Some(Invalid)),
        ("exp", json!(null), Some(Invalid)),
        ("nbf", json!(1_700_000_030), None),
        ("nbf", json!(1_700_000_031), Some(NotYet)),
        ("nbf", json!([]), Some(Invalid)),
        ("jti", json!(null), Some(Invalid)),
        ("jti", json!(""), Some(Jti)),
        ("jti", json!(long), Some(Jti)),
        ("jti", json!(&long[1..]), None),
        ("x-sockudo-client-id", json!(""), Some(ClientId)),
        ("x-sockudo-client-id", json!(7), Some(Invalid)),
        ("x-sockudo-capability", json!(null), Some(Invalid)),
        ("x-sockudo-capability", json!({}), None),
        ("x-sockudo-capability", json!("{}"), None),
        (
            "x-sockudo-capability",
            json!({"c": ["fly"]}),
            Some(Claim("unsupported capability operation 'fly'".into())),
        ),
    ] {
        let mut claims = claims();
        claims[name] = value.clone();
        assert_eq!(read(&token_of(&claims)).err(), expected, "{name} {value}");
    }

    let whole = token_of(&claims());
    let hs384 = signed(&claims(), Some("app-key"), jsonwebtoken::Algorithm::HS384);
    let another = jwt::sign_hs256(&claims().to_string(), b"app-secret").unwrap();
    let (head, _) = whole.split_once('.').unwrap();
    let forged = jwt::sign_hs256(&claims().to_string(), b"other").unwrap();
    let forged = format!("{head}.{}", forged.split_once('.').unwrap().1);
    let (unsigned, _) = whole.rsplit_once('.').unwrap();
    for (text, expected) in [
        (String::new(), Header),
        ("a.b.c".into(), Header),
        ("e30.e30.e30".into(), Algorithm),
        (hs384, Algorithm),
        (another, KeyId),
        (forged, Invalid),
        (format!("{unsigned}."), Invalid),
        (format!("{whole}x"), Invalid),
        (whole.clone() + &"x".repeat(TOKEN_BYTES_MAX), TooLong),
    ] {
        assert_eq!(read(&text), Err(expected), "{text}");
    }
}

/// A connection that brought a token, and what it has asked.
struct Peer {
    session: PusherSession,
    asked: Vec<(Ticket, Command)>,
}

impl Peer {
    fn new(token: Option<&str>, is_durable: bool) -> Self {
        let mut config = Config::development();
        config.pusher.revocations = match is_durable {
            true => crate::config::Revocations::Durable,
            false => crate::config::Revocations::Memory,
        };
        let apps = Arc::new(Apps::new(&config.apps));
        let app = apps.with_id("app-id").unwrap().clone();
        let facts = Facts {
            connection: ConnectionId::from_pair(1, 2),
            now: NOW,
            shards: 1,
            draining: false,
            lane_first: LaneId(0),
            deflate: false,
            chance: 0,
        };
        let shared = Pusher::new(&config, apps).0.clone();
        let seat = Seat::try_take(&app).unwrap();
        let two = Two::read("").unwrap();
        let mut session = PusherSession::new(shared, seat, &facts, Some(two));
        if let Some(token) = token {
            session.bring(Token::read(token, &app, WALL).unwrap());
        }
        Self { session, asked: Vec::new() }
    }

    /// What follows, in words.
    fn hear(&mut self, input: Input<'_>) -> Vec<String> {
        let mut out = Vec::new();
        self.session.handle(input, NOW, &mut out);
        let mut heard = Vec::new();
        for output in out {
            match output {
                Output::Text(text) => {
                    let frame: Value = serde_json::from_slice(&text).unwrap();
                    heard.push(format!("{} {}", frame["event"].as_str().unwrap(), frame["data"]));
                }
                Output::Ask(ticket, command) => self.asked.push((ticket, command)),
                Output::Accept => heard.push("accept".into()),
                Output::Close(farewell, _) => {
                    let Some(Words::Text(message)) = farewell.message else {
                        panic!("it says why")
                    };
                    let frame: Value = serde_json::from_str(&message).unwrap();
                    heard.push(format!("{} {}", frame["event"].as_str().unwrap(), frame["data"]));
                    heard.push(format!("close {} {}", farewell.code, farewell.text));
                }
                Output::Return(_, words) => {
                    heard.push(String::from_utf8(words.to_vec()).unwrap());
                }
                _ => {}
            }
        }
        heard
    }

    /// Answers the oldest ask.
    fn reply(&mut self, reply: Reply) -> Vec<String> {
        let (ticket, _) = self.asked.remove(0);
        self.hear(Input::Reply(ticket, reply))
    }

    /// What it has asked, in words; answered in order by `reply`.
    fn asks(&self) -> Vec<String> {
        let word = |(_, command): &(Ticket, Command)| match command {
            Command::Subscribe(it) => {
                let user = &it.member.as_ref().unwrap().user_id;
                assert!(!it.silent, "revocations are counted");
                format!("{} as {user}, values {}", it.channel.name, it.values.is_some())
            }
            Command::Unsubscribe(it) => format!("leave {}", it.name),
            other => format!("{other:?}"),
        };
        self.asked.iter().map(word).collect()
    }

    fn granted(&self, description: Description, values: Vec<Kept>) -> Reply {
        let Command::Subscribe(subscribe) = &self.asked[0].1 else { panic!("{:?}", self.asked[0]) };
        Reply::Subscribed(Box::new(Subscribed {
            channel: subscribe.channel.clone(),
            after: Serial(0),
            description,
            members: Vec::new(),
            position: None,
            replay: None,
            values,
            has_more_values: false,
        }))
    }

    /// Nothing was revoked of what the oldest ask is about.
    fn is_good(&mut self) -> Vec<String> {
        let reply = self.granted(Description::default(), Vec::new());
        self.reply(reply)
    }
}

fn event(happening: Happening) -> Event {
    Event {
        channel: crate::base::name::Channel { app: app().index, name: "#token:j".into() },
        serial: Serial(0),
        epoch: None,
        id: EventId(0),
        at: WALL,
        arrived: Nanos(0),
        tags: Tags::default(),
        meta: None,
        guarded: false,
        happening,
    }
}

fn entered() -> Peer {
    let mut peer = Peer::new(Some(&token_of(&claims())), false);
    assert!(peer.hear(Input::Asked).is_empty());
    assert!(peer.is_good().is_empty());
    assert_eq!(peer.is_good(), ["accept"]);
    assert!(peer.hear(Input::Opened)[0].starts_with("sockudo:connection_established "));
    peer
}

#[test]
fn nobody_comes_in_with_what_was_revoked() {
    assert_eq!(Peer::new(None, true).hear(Input::Asked), ["accept"]);
    let text = token_of(&claims());
    let data = || Payload(bytes::Bytes::from_static(b"{}"));
    for is_durable in [false, true] {
        for nth in [0, 1] {
            let mut peer = Peer::new(Some(&text), is_durable);
            assert!(peer.session.has_to_ask() && peer.hear(Input::Asked).is_empty());
            assert_eq!(
                peer.asks(),
                [
                    format!("#token:j as j, values {is_durable}"),
                    format!("#client:ann as j, values {is_durable}")
                ]
            );
            for at in [0, 1] {
                let last = (at == nth && !is_durable).then(|| {
                    let (name, data) = ("revoked".into(), data());
                    let message = Happening::Message { name, data, sender: None };
                    (Arc::new(event(message)), Millis(1))
                });
                let value = Kept { key: "revoked".into(), data: data(), meta: data() };
                let values = if at == nth && is_durable { vec![value] } else { Vec::new() };
                let reply = peer.granted(Description { last, ..Description::default() }, values);
                let heard = peer.reply(reply);
                assert_eq!(heard, if at == 0 { vec![] } else { vec!["accept"] });
            }
            let why = "capability token has been revoked";
            assert_eq!(
                peer.hear(Input::Opened),
                [
                    format!(r#"sockudo:error {{"code":4009,"message":"{why}"}}"#),
                    format!("close 4009 {why}")
                ]
            );
        }
    }
    // Nor if nobody can say.
    let mut peer = Peer::new(Some(&text), true);
    peer.hear(Input::Asked);
    assert!(peer.reply(Reply::Refused(Refusal::StoreBusy)).is_empty());
    assert_eq!(peer.is_good(), ["accept"]);
    assert!(peer.hear(Input::Opened)[1].starts_with("close 4100 "));
}

#[test]
fn a_revocation_ends_who_is_in() {
    let mut peer = entered();
    let revoked = event(Happening::Control(Control::Revoke));
    assert_eq!(
        peer.hear(Input::Event(&revoked)),
        [
            r#"sockudo:token_expired {"code":40160,"reason":"revoked"}"#,
            r#"sockudo:error {"code":4009,"message":"capability token revoked"}"#,
            "close 4009 capability token revoked",
        ]
    );
}

#[test]
fn another_token_is_looked_up_before_it_counts() {
    let mut peer = entered();
    let mut next = claims();
    next["jti"] = json!("k");
    next["x-sockudo-capability"] = json!({"d": ["subscribe"]});
    let auth = json!({"event": "sockudo:auth", "data": {"token": token_of(&next)}}).to_string();
    assert!(peer.hear(Input::Text(&auth)).is_empty());
    assert_eq!(
        peer.asks(),
        [
            "leave #token:j",
            "leave #client:ann",
            "#token:k as k, values false",
            "#client:ann as k, values false"
        ]
    );
    // One at a time.
    let busy = peer.hear(Input::Text(&auth));
    assert!(busy[0].contains("\"code\":4302"), "{busy:?}");
    assert!(peer.session.may(Op::Subscribe, "c") && !peer.session.may(Op::Subscribe, "d"));
    peer.asked.drain(..2);
    assert!(peer.is_good().is_empty());
    let success = r#"sockudo:auth_success {"client_id":"ann","exp":1700003600,"jti":"k"}"#;
    assert_eq!(peer.is_good(), [success]);
    assert!(!peer.session.may(Op::Subscribe, "c") && peer.session.may(Op::Subscribe, "d"));
    // Revoked, it does not come to count.
    next["jti"] = json!("l");
    let auth = json!({"event": "sockudo:auth", "data": {"token": token_of(&next)}}).to_string();
    peer.hear(Input::Text(&auth));
    peer.asked.drain(..2);
    assert!(peer.reply(Reply::Refused(Refusal::StoreFailed)).is_empty());
    assert!(peer.is_good()[1].starts_with("close 4100"));
}

#[test]
fn it_says_who_it_is_to_its_own_app() {
    let mut peer = entered();
    let caller = Caller { connection: ConnectionId::from_pair(3, 4), ticket: Ticket(0) };
    let index = peer.session.seat.index;
    let words = peer.hear(Input::Call(caller, &Actor::ask(index, "c"))).remove(0);
    assert_eq!(words, r#"{"client_id":"ann","v2":true,"may":["subscribe"]}"#);
    let actor = Actor::read(words.as_bytes()).unwrap();
    assert!(actor.may(Op::Subscribe) && !actor.may(Op::Publish));
    let other = crate::base::ids::AppIndex(index.0 + 1);
    let words = peer.hear(Input::Call(caller, &Actor::ask(other, "c"))).remove(0);
    assert_eq!(Actor::read(words.as_bytes()), None);
    for words in ["", "{}", "[]", r#"{"app":"x","channel":1}"#] {
        assert!(peer.hear(Input::Call(caller, words.as_bytes())).is_empty(), "{words}");
    }
    // Without a token: what everyone could always do.
    let mut peer = Peer::new(None, false);
    let words = peer.hear(Input::Call(caller, &Actor::ask(index, "c"))).remove(0);
    let may = r#"["subscribe","publish","history","presence"]"#;
    assert_eq!(words, format!(r#"{{"client_id":null,"v2":true,"may":{may}}}"#));
}
