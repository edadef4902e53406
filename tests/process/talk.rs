//! Hotsock's peers: a WebSocket, its HTTP credentials, and a back end with a key.

use std::net::TcpStream;
use std::time::{SystemTime, UNIX_EPOCH};

use ringmain::base::time::UnixMillis;
use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

use crate::http::{Answer, Tcp};
use crate::mint;
use crate::server::{PATIENCE, Server};

/// What tokens are signed with.
pub const SECRET: &str = "a secret for the tokens of the tests";
/// The bearer key of the server API.
pub const KEY: &str = "a-bearer-key-for-the-tests-0123456789abc";

/// The settings of a server whose one app speaks Hotsock.
pub const SETTINGS: &str = "[hotsock]\napp = \"1001\"\n[[hotsock.keys]]\nmethod = \"HS256\"\n\
    key_base64 = \"YSBzZWNyZXQgZm9yIHRoZSB0b2tlbnMgb2YgdGhlIHRlc3Rz\"\n[[hotsock.api_keys]]\n\
    key = \"a-bearer-key-for-the-tests-0123456789abc\"\n";

/// The time of day.
pub fn wall() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    UnixMillis(since.as_millis() as u64)
}

/// A token that is good for a minute.
pub fn token(mut claims: Value) -> String {
    claims["exp"] = json!(wall().seconds() + 60);
    mint::token(&claims.to_string(), SECRET.as_bytes())
}

/// A connected peer.
pub struct Talker {
    pub socket: WebSocket<TcpStream>,
    pub id: String,
    secret: String,
}

impl Talker {
    /// Connects with these claims, to which the scope is added.
    pub fn open(server: &Server, claims: Value) -> Self {
        Self::try_open(server, claims).expect("the upgrade")
    }

    /// The same, or the status it was refused with.
    pub fn try_open(server: &Server, mut claims: Value) -> Result<Self, u16> {
        claims["scope"] = json!("connect");
        let stream = TcpStream::connect(server.address).expect("the server accepts");
        stream.set_nodelay(true).expect("a socket option");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
        let url = format!("ws://{}/v1?token={}", server.address, token(claims));
        let (socket, _) = match tungstenite::client(url, stream) {
            Ok(opened) => opened,
            Err(tungstenite::HandshakeError::Failure(tungstenite::Error::Http(answer))) => {
                return Err(answer.status().as_u16());
            }
            Err(error) => panic!("{error}"),
        };
        let mut talker = Self { socket, id: String::new(), secret: String::new() };
        let greeting = talker.next("hotsock.connected");
        let text = |member: &str| greeting["data"][member].as_str().expect("a text").to_owned();
        (talker.id, talker.secret) = (text("connectionId"), text("connectionSecret"));
        Ok(talker)
    }

    /// Sends a text message.
    pub fn say(&mut self, text: impl Into<String>) {
        self.socket.send(Message::text(text.into())).expect("the server reads");
    }

    /// Subscribes and waits for the answer.
    pub fn subscribe(&mut self, channel: &str) -> Value {
        self.say(json!({ "event": "hotsock.subscribe", "channel": channel }).to_string());
        self.next("hotsock.subscribed")
    }

    /// The next frame of that event; others are skipped.
    pub fn next(&mut self, event: &str) -> Value {
        loop {
            match self.socket.read() {
                Ok(Message::Text(text)) => {
                    let frame: Value = serde_json::from_str(&text).expect("one JSON document");
                    if frame["event"] == event {
                        return frame;
                    }
                    let is_error = frame["event"] == "hotsock.error";
                    assert!(!is_error, "waiting for {event}: {frame}");
                }
                Ok(Message::Close(frame)) => panic!("closed while waiting for {event}: {frame:?}"),
                Ok(_) => {}
                Err(error) => panic!("waiting for {event}: {error}"),
            }
        }
    }

    /// The code of the next frame, which is an error.
    pub fn error(&mut self) -> String {
        let frame = self.next("hotsock.error");
        frame["error"]["code"].as_str().expect("an error has a code").to_owned()
    }

    /// Reads to the end; the close code, if one came.
    pub fn end(mut self) -> Option<u16> {
        loop {
            match self.socket.read() {
                Ok(Message::Close(frame)) => return frame.map(|frame| frame.code.into()),
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }

    /// Asks the client HTTP API for something.
    pub fn call(&self, server: &Server, operation: &str, body: &Value) -> (u16, Value) {
        let id = self.id.replace('=', "%3D");
        let secret = &self.secret;
        let target = format!("/connection/{operation}?connectionId={id}&connectionSecret={secret}");
        json_of(&request(&mut server.connect(), "POST", &target, "", &body.to_string()))
    }
}

/// One request on a connection that stays.
pub fn request(tcp: &mut Tcp, method: &str, target: &str, fields: &str, body: &str) -> Answer {
    let length = body.len();
    tcp.send(
        format!(
            "{method} {target} HTTP/1.1\r\nHost: here\r\n{fields}Content-Length: {length}\r\n\r\n{body}"
        )
        .as_bytes(),
    );
    tcp.answer()
}

/// A request of the server API.
pub fn api(tcp: &mut Tcp, method: &str, target: &str, body: &Value) -> (u16, Value) {
    let fields = format!("Authorization: Bearer {KEY}\r\n");
    let body = if body.is_null() { String::new() } else { body.to_string() };
    json_of(&request(tcp, method, target, &fields, &body))
}

fn json_of(answer: &Answer) -> (u16, Value) {
    (answer.status, serde_json::from_slice(&answer.body).unwrap_or_default())
}
