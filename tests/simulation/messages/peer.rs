//! Who listens, and what it makes of what it hears.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{CHANNELS, Exercised, is_durable, reduced, sorted};
use crate::link::Link;
use crate::universe::Universe;
use crate::{mint, tell};

/// What a channel's messages are, by their serial; none of one whose beginning was not heard.
pub type Messages = BTreeMap<String, Value>;
/// What was told last of a message's annotations of a type.
pub type Summaries = BTreeMap<(String, String), Value>;

/// One who listens to one channel, over many connections.
pub struct Peer {
    pub channel: usize,
    /// Appends come whole.
    pub is_full: bool,
    /// Begins with what was.
    pub looks_back: bool,
    /// Hears each annotation, and begins anew each time.
    pub is_raw: bool,
    pub link: Option<Link>,
    pub stalled: bool,
    /// It reads no more of this connection.
    pub leaves: bool,
    pub socket_id: String,
    /// Where it is: stream and serial.
    pub position: Option<(String, u64)>,
    /// It is told what was.
    pub rewinds: bool,
    /// The serials it heard since it began.
    pub heard: BTreeSet<u64>,
    pub first: Option<u64>,
    pub messages: Messages,
    pub summaries: Summaries,
    pub said: u64,
}

impl Peer {
    pub fn connect(&mut self, universe: &Universe) {
        if self.link.is_some() {
            return;
        }
        let mode = if self.is_full { "full" } else { "delta" };
        let mut target = format!("/app/app-key?protocol=2&append_mode={mode}");
        if self.is_raw {
            self.forget();
            let now = universe.world.now().wall.seconds();
            let may = json!({ "*": ["subscribe", "publish", "annotation-subscribe"] });
            let claims = json!({ "iat": now, "exp": now + 80_000, "jti": format!("raw-{now}"),
                "x-sockudo-client-id": "raw", "x-sockudo-capability": may });
            let head = r#"{"alg":"HS256","kid":"app-key"}"#;
            let token = mint::token_with(head, &claims.to_string(), b"app-secret");
            target.push_str(&format!("&token={token}"));
        }
        self.link = Some(Link::open(universe, &target));
        (self.stalled, self.leaves) = (false, false);
    }

    pub fn cut(&mut self) {
        if let Some(link) = self.link.take() {
            link.socket.reset();
        }
    }

    /// Reads nothing for a while, or reads again.
    pub fn stall(&mut self) {
        let Some(link) = &self.link else { return };
        self.stalled = !self.stalled;
        if self.stalled { link.socket.stall() } else { link.socket.resume() }
    }

    /// Knows nothing any more.
    pub fn forget(&mut self) {
        (self.position, self.first, self.rewinds) = (None, None, false);
        self.heard.clear();
        self.messages.clear();
        self.summaries.clear();
    }

    pub fn take_in(&mut self, universe: &Universe, exercised: &mut Exercised) {
        let Some(mut link) = self.link.take() else { return };
        if link.socket.end().is_some() {
            return;
        }
        for frame in link.messages() {
            tell!(universe.world, "{} {} hears {frame}", CHANNELS[self.channel], self.socket_id);
            self.hear(&mut link, &frame, universe, exercised);
            if self.leaves {
                link.socket.reset();
                return;
            }
        }
        self.link = Some(link);
    }

    fn hear(
        &mut self,
        link: &mut Link,
        frame: &Value,
        universe: &Universe,
        exercised: &mut Exercised,
    ) {
        let inner = |value: &Value| -> Value {
            serde_json::from_str(value.as_str().expect("text")).expect("JSON in it")
        };
        let name = CHANNELS[self.channel];
        match frame["event"].as_str().expect("an event") {
            "sockudo:connection_established" => {
                let told = inner(&frame["data"]);
                self.socket_id = told["socket_id"].as_str().expect("an id").to_owned();
                // Cut off while it was told what was, it begins anew.
                if self.rewinds {
                    self.forget();
                }
                self.summaries.clear();
                if let Some((stream, serial)) = &self.position {
                    let position = json!({ "stream_id": stream, "serial": serial });
                    let positions = json!({ "channel_positions": { name: position } });
                    link.say(&json!({ "event": "sockudo:resume", "data": positions }));
                }
                let mut data = json!({ "channel": name });
                if name.starts_with("private-") {
                    let signed = [self.socket_id.as_bytes(), b":", name.as_bytes()];
                    let signature = universe.app.signing_key.sign(&signed);
                    let signature = std::str::from_utf8(&signature).expect("hex digits");
                    data["auth"] = json!(format!("app-key:{signature}"));
                }
                if self.is_raw {
                    data["modes"] = json!(["SUBSCRIBE", "ANNOTATION_SUBSCRIBE"]);
                }
                if self.looks_back && self.position.is_none() {
                    data["rewind"] = json!(100);
                    self.rewinds = true;
                }
                link.say(&json!({ "event": "sockudo:subscribe", "data": data }));
            }
            "sockudo_internal:subscription_succeeded" => {
                link.is_subscribed = true;
                if self.position.is_none()
                    && let Some(stream) = frame["stream_id"].as_str()
                {
                    // Who looks back begins before what was, and goes on after it.
                    let attached = inner(&frame["data"])["attach_serial"].as_u64();
                    let serial = frame["serial"].as_u64().expect("a serial");
                    assert!(self.rewinds || attached == Some(serial), "{frame}");
                    self.position = Some((stream.to_owned(), serial));
                    self.first = attached;
                }
            }
            "sockudo:rewind_complete" => {
                assert!(self.rewinds, "nobody asked: {frame}");
                let data = &frame["data"];
                let is_failed = data["complete"] == false;
                assert!(!is_failed || universe.store_fails, "{frame}");
                if is_failed {
                    self.forget();
                    self.leaves = true;
                    return;
                }
                self.rewinds = false;
                exercised.looked_back += data["historical_count"].as_u64().expect("a number");
                // Clients take the last frame for where they are.
                let serial = frame["serial"].as_u64().expect("a serial");
                assert_eq!(Some(serial), self.first, "{frame}");
                self.position =
                    Some((frame["stream_id"].as_str().expect("text").to_owned(), serial));
            }
            "sockudo:resume_success" => exercised.resumed += 1,
            "sockudo:resume_failed" => {
                match inner(&frame["data"])["code"].as_str() {
                    // It keeps its position and comes again.
                    Some("persistence_unavailable") => assert!(universe.store_fails, "{frame}"),
                    Some("stream_reset") => {
                        assert!(!is_durable(self.channel), "{frame}");
                        exercised.reset += 1;
                        self.forget();
                    }
                    other => panic!("{other:?}: {frame}"),
                }
                self.leaves = true;
            }
            "sockudo_internal:message" => {
                let data = &frame["data"];
                let id = data["serial"].as_str().expect("a serial");
                let kinds = data["annotations"]["summary"].as_object().expect("by type");
                for (kind, summary) in kinds {
                    let summary = sorted(summary.clone());
                    self.summaries.insert((id.to_owned(), kind.clone()), summary);
                }
            }
            "sockudo_internal:annotation" => {
                assert!(self.is_raw, "nobody asked: {frame}");
                exercised.raw += 1;
                self.step(frame);
            }
            event if !event.starts_with("sockudo") || event.starts_with("sockudo:message.") => {
                self.hear_version(link, frame, exercised);
            }
            other => panic!("nobody sends {other}: {frame}"),
        }
    }

    /// It has come to this frame.
    fn step(&mut self, frame: &Value) {
        let serial = frame["serial"].as_u64().expect("a serial");
        let (stream, last) = self.position.as_mut().expect("it has begun");
        assert_eq!(frame["stream_id"], stream.as_str(), "another stream without a word");
        assert!(*last < serial, "{serial} after {last}: {frame}");
        // Who hears each annotation misses nothing at all.
        assert!(!self.is_raw || serial == *last + 1, "{serial} after {last}: {frame}");
        *last = serial;
        self.heard.insert(serial);
    }

    fn hear_version(&mut self, link: &Link, frame: &Value, exercised: &mut Exercised) {
        let headers = &frame["extras"]["headers"];
        let id = headers["sockudo_message_serial"].as_str().expect("a serial").to_owned();
        let action = headers["sockudo_action"].as_str().expect("an action");
        let action = action.strip_prefix("message.").expect("of a message");
        let serial = frame["serial"].as_u64();
        let is_past = self.rewinds && serial <= self.first;
        if is_past {
            // All that it is, in its first place.
            let before = self.messages.insert(id, frame["data"].clone());
            assert!(before.is_none() && action != "append", "told twice: {frame}");
            return;
        }
        self.step(frame);
        exercised.replayed += u64::from(!link.is_subscribed);
        let before = self.messages.get(&id);
        let is_whole = self.is_full || action != "append";
        let data = match (before, is_whole) {
            (_, true) => frame["data"].clone(),
            (Some(before), false) => reduced(action, before, &frame["data"]),
            // What it is added to was never heard.
            (None, false) => return,
        };
        self.messages.insert(id, data);
    }
}
