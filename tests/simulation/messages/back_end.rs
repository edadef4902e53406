//! Who publishes, changes and annotates, over HTTP.

use ringmain::auth::sign;
use ringmain::reactor::sim::SimClient;
use serde_json::{Value, json};

use super::CHANNELS;
use crate::universe::Universe;

/// What a back end asks for.
#[derive(Clone, Debug)]
pub enum Ask {
    Publish,
    Change { message: String, action: &'static str },
    Annotate { message: String, kind: &'static str },
    TakeBack { message: String, annotation: String },
}

/// One who asks for one thing after the other, each until it is acknowledged.
pub struct BackEnd {
    pub id: usize,
    pub socket: Option<SimClient>,
    pub received: Vec<u8>,
    pub current: Option<(usize, u64, Ask)>,
    pub next: u64,
}

impl BackEnd {
    /// Sends what is on its way, over a new connection.
    pub fn send(&mut self, universe: &Universe) {
        let Some((channel, number, ask)) = &self.current else { return };
        let (name, key) = (CHANNELS[*channel], format!("{}:{number}", self.id));
        let message = |it: &String| format!("/apps/app-id/channels/{name}/messages/{it}");
        let (method, path, body) = match ask {
            Ask::Publish => {
                let body = json!({ "name": "e", "channel": name, "data": format!("[{key}]"),
                    "info": "subscription_count", "idempotency_key": key });
                ("POST", "/apps/app-id/events".to_owned(), body)
            }
            Ask::Change { message: it, action } => {
                let mut body = json!({ "op_id": key });
                if *action != "delete" {
                    body["data"] = json!(format!("[{action} {key}]"));
                }
                ("POST", format!("{}/{action}", message(it)), body)
            }
            Ask::Annotate { message: it, kind } => {
                let named = if number % 2 == 0 { "one" } else { "two" };
                let body = json!({ "type": kind, "name": named, "client_id": key, "count": 2 });
                ("POST", format!("{}/annotations", message(it)), body)
            }
            Ask::TakeBack { message: it, annotation } => {
                ("DELETE", format!("{}/annotations/{annotation}", message(it)), Value::Null)
            }
        };
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (wall, length) = (universe.world.now().wall, body.len());
        let query = sign::sign_request(&universe.app, method, &path, &[], body.as_bytes(), wall);
        let socket = universe.connect();
        let head = format!(
            "{method} {path}?{query} HTTP/1.1\r\nHost: sim\r\nContent-Length: {length}\r\n\r\n"
        );
        socket.send(head.as_bytes());
        socket.send(body.as_bytes());
        self.socket = Some(socket);
    }

    /// The answer, if it has come: its status and its body.
    pub fn take_in(&mut self) -> Option<(String, Value)> {
        let socket = self.socket.as_ref()?;
        self.received.extend(socket.received());
        let body = body(&self.received)?;
        let status = String::from_utf8_lossy(&self.received[9..12]).into_owned();
        self.received.clear();
        if let Some(socket) = self.socket.take() {
            socket.reset();
        }
        Some((status, body))
    }
}

/// What an answer says, once it is whole.
pub fn body(answer: &[u8]) -> Option<Value> {
    let head = answer.windows(4).position(|it| it == b"\r\n\r\n")?;
    serde_json::from_slice(&answer[head + 4..]).ok()
}
