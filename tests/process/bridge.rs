//! One event, published once through any protocol, arrives once in each of them.

use std::net::TcpStream;

use tungstenite::{Message, WebSocket};

use crate::http::Tcp;
use crate::server::{PATIENCE, Server};
use crate::sign;

const DEVELOPMENT: (&str, &str, &str) = ("app-id", "app-key", "app-secret");

/// How one protocol listens to the bridged channel `hello`, and publishes there.
struct Speaker {
    dialect: &'static str,
    path: &'static str,
    /// What a listener says, each after what it has to hear first.
    says: &'static [(&'static str, &'static str)],
    /// What it hears last before it listens.
    ready: &'static str,
    /// What every event it hears has.
    event: &'static str,
    route: Route,
    /// The body of a publish; `TRACE` is a word of its own.
    body: &'static str,
}

/// How a back end publishes.
enum Route {
    /// A signed request of the app's.
    Signed(&'static str),
    /// A path, with the development app's secret as a bearer key.
    Bearer(&'static str),
}

/// Pusher's comes after Hotsock's, whose subscription its count would tell it.
const SPEAKERS: &[Speaker] = &[
    Speaker {
        dialect: "hotsock",
        path: "/v1?token=TOKEN",
        says: &[("hotsock.connected", r#"{"event":"hotsock.subscribe","channel":"hello"}"#)],
        ready: "hotsock.subscribed",
        event: r#""channel":"hello""#,
        route: Route::Bearer("/publish"),
        body: r#"{"channel":"hello","event":"greeting","data":{"text":"TRACE"}}"#,
    },
    Speaker {
        dialect: "pusher",
        path: "/app/app-key?protocol=7",
        says: &[(
            "connection_established",
            r#"{"event":"pusher:subscribe","data":{"channel":"hello"}}"#,
        )],
        ready: "subscription_count",
        event: r#""channel":"hello""#,
        route: Route::Signed("events"),
        body: r#"{"name":"greeting","channel":"hello","data":"{\"text\":\"TRACE\"}"}"#,
    },
    Speaker {
        dialect: "mastodon",
        path: "/api/v1/streaming?stream=hashtag&tag=hello&access_token=dev-token",
        // A stream that begins says nothing; what is no stream is refused when the other was asked for.
        says: &[("", r#"{"type":"subscribe","stream":"none"}"#)],
        ready: "Unknown stream type",
        event: r#""stream":["hashtag","hello"]"#,
        route: Route::Signed("mastodon/events"),
        body: r#"{"event":"greeting","payload":{"text":"TRACE"},"channels":["hello"]}"#,
    },
    Speaker {
        dialect: "hypothesis",
        path: "/ws?access_token=dev-token",
        says: &[
            (
                "",
                r#"{"filter":{"match_policy":"include_any","clauses":[{"field":"/group","value":"hello"}],"actions":{}}}"#,
            ),
            ("", r#"{"type":"whoami","id":1}"#),
        ],
        ready: "acct:dev@localhost",
        event: "annotation-notification",
        route: Route::Signed("hypothesis/events"),
        body: r#"{"action":"create","annotation":{"id":"TRACE","user":"acct:ann@h","group":"hello"},"visibility":{"shared":true,"group_world_readable":true}}"#,
    },
    Speaker {
        dialect: "authrequest",
        path: "/realtime",
        says: &[
            ("", r#"{"type":"authrequest","token":"dev-token"}"#),
            ("authresponse", r#"{"type":"startaccounteventrequest"}"#),
        ],
        ready: "startaccounteventresponse",
        event: r#""type":"accountevent""#,
        route: Route::Signed("authrequest/events"),
        body: r#"{"accountId":"dev","category":"channel","subCategory":"hello","eventName":"greeting","data":{"text":"TRACE"}}"#,
    },
];

struct Listener {
    speaker: &'static Speaker,
    socket: WebSocket<TcpStream>,
}

impl Listener {
    fn open(server: &Server, speaker: &'static Speaker) -> Self {
        let stream = TcpStream::connect(server.address).expect("the server accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
        let exp = crate::talk::wall().seconds() + 60;
        let claims = format!(
            r#"{{"exp":{exp},"scope":"connect","channels":{{"hello":{{"subscribe":true}}}}}}"#
        );
        let token = crate::mint::token(&claims, DEVELOPMENT.2.as_bytes());
        let path = speaker.path.replace("TOKEN", &token);
        let url = format!("ws://{}{path}", server.address);
        let (socket, _) = tungstenite::client(url, stream).expect("the upgrade");
        let mut listener = Self { speaker, socket };
        for (first, says) in speaker.says {
            if !first.is_empty() {
                listener.until(first);
            }
            listener.socket.send(Message::text(*says)).expect("the server reads");
        }
        listener.until(speaker.ready);
        listener
    }

    /// The next message that has this in it, and how many events came before it.
    fn until(&mut self, wanted: &str) -> (String, usize) {
        let mut events = 0;
        loop {
            match self.socket.read() {
                Ok(Message::Text(text)) if text.contains(wanted) => {
                    return (text.to_string(), events);
                }
                Ok(Message::Text(text)) => events += usize::from(text.contains(self.speaker.event)),
                Ok(Message::Close(frame)) => panic!("{}: closed: {frame:?}", self.speaker.dialect),
                Ok(_) => {}
                Err(error) => panic!("{}: {wanted}: {error}", self.speaker.dialect),
            }
        }
    }
}

#[test]
fn one_publish_through_any_protocol_arrives_once_in_every_one() {
    let server = Server::development();
    let about = fetch_as_local(&server, "/_/about");
    let spoken = about.matches("\"pane\":").count();
    assert_eq!(spoken, SPEAKERS.len(), "a protocol is missing here: {about}");
    for speaker in SPEAKERS {
        assert!(about.contains(&format!("\"name\":\"{}\"", speaker.dialect)), "{about}");
    }

    let mut listeners: Vec<_> = SPEAKERS.iter().map(|it| Listener::open(&server, it)).collect();
    let mut tcp = Tcp::connect(server.address);
    for round in 0..5 {
        for speaker in SPEAKERS {
            let trace = format!("trace{}{round}", speaker.dialect);
            let body = speaker.body.replace("TRACE", &trace);
            let status = match speaker.route {
                Route::Signed(route) => {
                    tcp.send(sign::post(DEVELOPMENT, route, body.as_bytes()).as_bytes());
                    tcp.answer().status
                }
                Route::Bearer(path) => {
                    let fields = format!("Authorization: Bearer {}\r\n", DEVELOPMENT.2);
                    crate::talk::request(&mut tcp, "POST", path, &fields, &body).status
                }
            };
            assert!(matches!(status, 200 | 202), "{}: {status}", speaker.dialect);
            for listener in &mut listeners {
                let (text, events) = listener.until(&trace);
                assert!(text.contains(listener.speaker.event), "{text}");
                assert_eq!(events, 0, "{} heard something twice", listener.speaker.dialect);
            }
        }
    }
}

/// A GET under a name of this machine, which the console wants.
fn fetch_as_local(server: &Server, path: &str) -> String {
    let mut tcp = server.connect();
    let host = server.address;
    tcp.send(
        format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes(),
    );
    tcp.answer().text()
}
