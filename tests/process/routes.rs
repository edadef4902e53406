//! Every route of the HTTP API with every status that its row names, and every answer in the shape that it names.

use std::collections::BTreeSet;

use ringmain::dialects::pusher::http::push::snake;
use ringmain::dialects::pusher::http::shapes::{ERROR, Kind};
use ringmain::dialects::pusher::http::table::{ALWAYS, Route, Row, rows};
use serde_json::Value;

use crate::http::Answer;
use crate::peer::Peer;
use crate::server::{APP, Server};
use crate::sign;

const DISABLED: (&str, &str, &str) = ("1002", "app-key-2", "app-secret-2");
const STRANGER: (&str, &str, &str) = (APP.0, APP.1, "another-secret");

/// A body may have so many bytes, an event's data a quarter of it.
const BODY_BYTES_MAX: usize = 8192;

/// A message's or an annotation's name that nothing has.
const NOBODY: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

fn settings() -> String {
    let (id, key, secret) = DISABLED;
    format!(
        "http.body_bytes_max = {BODY_BYTES_MAX}\n\
         [[history.channels]]\npattern = \"*plain\"\nmode = \"none\"\n\
         [[history.channels]]\npattern = \"*\"\nmode = \"memory\"\n\
         [[apps]]\nid = \"{id}\"\nkey = \"{key}\"\nsecret = \"{secret}\"\nenabled = false\n\
         [[apps]]\nid = \"{}\"\nkey = \"{}\"\nsecret = \"{}\"\nevent_payload_bytes_max = {}\nevent_batch_max = 10\n",
        APP.0,
        APP.1,
        APP.2,
        BODY_BYTES_MAX / 4,
    )
}

/// A request in the words of its row.
pub struct Ask<'a> {
    pub row: &'a Row,
    pub app: (&'a str, &'a str, &'a str),
    pub channel: &'a str,
    pub message: &'a str,
    pub annotation: &'a str,
    pub query: &'a [(&'a str, &'a str)],
    pub body: String,
    pub is_signed: bool,
    /// What the last place of a path about push notifications is.
    pub name: &'a str,
    /// Further fields of its head, whole lines.
    pub head: &'a str,
}

impl<'a> Ask<'a> {
    pub fn of(row: &'a Row) -> Self {
        let channel = match row {
            _ if row.is_of_presence => "presence-room",
            // What the routes about history take away are others.
            _ if row.path.contains("/messages/") => "letters",
            _ => "room",
        };
        let body = row.body.map_or(String::new(), |body| body.example.to_owned());
        let message = "01ARZ3NDEKTSV4RRFFQ69G5FAV-1";
        let annotation = NOBODY;
        Self {
            row,
            app: APP,
            channel,
            message,
            annotation,
            query: &[],
            body,
            is_signed: true,
            name: "7",
            head: "",
        }
    }

    fn text(&self) -> String {
        let path = self.row.path.replace("{app_id}", self.app.0);
        let path = path.replace("{channel_name}", self.channel).replace("{user_id}", "ann");
        let path = path.replace("{message_serial}", self.message);
        let path = path.replace("{annotation_serial}", self.annotation);
        let path = path.replace("{provider}", "wns");
        let path = match path.split_once('{').zip(path.rsplit_once('}')) {
            Some(((before, _), (_, after))) => format!("{before}{}{after}", self.name),
            None => path,
        };
        let method = self.row.method.as_str();
        let target = if self.is_signed {
            sign::target_of(self.app, method, &path, self.query, self.body.as_bytes())
        } else {
            path
        };
        format!(
            "{method} {target} HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n\
             {}Content-Length: {}\r\n\r\n{}",
            self.head,
            self.body.len(),
            self.body
        )
    }

    pub fn send(&self, server: &Server) -> Answer {
        let mut tcp = server.connect();
        tcp.send(self.text().as_bytes());
        tcp.answer()
    }
}

/// What is wrong with a value of a kind; where it is, for who reads the failure.
fn faults(kind: &Kind, value: &Value, at: &str, found: &mut Vec<String>) {
    let is_right = match kind {
        Kind::Text(..) | Kind::Pattern(_) => value.is_string(),
        Kind::Choice(words) => value.as_str().is_some_and(|it| words.contains(&it)),
        Kind::Whole(min) => value.as_u64().is_some_and(|it| it >= *min),
        Kind::Number => value.is_number(),
        Kind::Switch => value.is_boolean(),
        Kind::Scalar => !value.is_object() && !value.is_array() && !value.is_null(),
        Kind::Any => true,
        Kind::Open | Kind::Map(_) | Kind::Object(_) | Kind::Twice(_) => value.is_object(),
        Kind::List(..) => value.is_array(),
        Kind::Nullable(of) => {
            if !value.is_null() {
                faults(of, value, at, found);
            }
            true
        }
    };
    if !is_right {
        return found.push(format!("{at} is not {kind:?}: {value}"));
    }
    match kind {
        Kind::Object(fields) => {
            let members = value.as_object().expect("just seen");
            for (name, value) in members {
                match fields.iter().find(|field| field.name == name) {
                    Some(field) => faults(&field.kind, value, &format!("{at}.{name}"), found),
                    None => found.push(format!("{at}.{name} is not described")),
                }
            }
            for field in fields.iter().filter(|it| it.is_required) {
                if !members.contains_key(field.name) {
                    found.push(format!("{at}.{} is missing", field.name));
                }
            }
        }
        Kind::Twice(fields) => {
            let members = value.as_object().expect("just seen");
            for (name, value) in members {
                match fields.iter().find(|it| it.name == name || snake(it.name) == **name) {
                    Some(field) => faults(&field.kind, value, &format!("{at}.{name}"), found),
                    None => found.push(format!("{at}.{name} is not described")),
                }
            }
            for field in *fields {
                let both = [field.name, &*snake(field.name)].map(|name| members.get(name));
                if both[0] != both[1] || field.is_required && both[0].is_none() {
                    found.push(format!("{at}.{} is missing in a spelling", field.name));
                }
            }
        }
        Kind::List(_, of) => {
            for (i, value) in value.as_array().expect("just seen").iter().enumerate() {
                faults(of, value, &format!("{at}[{i}]"), found);
            }
        }
        Kind::Map(of) => {
            for (name, value) in value.as_object().expect("just seen") {
                faults(of, value, &format!("{at}.{name}"), found);
            }
        }
        _ => {}
    }
}

/// What has been seen.
#[derive(Default)]
pub struct Seen {
    /// Route, status, code.
    pub answers: BTreeSet<(&'static str, u16, String)>,
    /// What was not as described; all of it is told at the end.
    pub faults: Vec<String>,
}

impl Seen {
    /// Takes an answer that must have this status, in the shape that goes with it.
    pub fn take(&mut self, row: &'static Row, status: u16, answer: &Answer) -> Value {
        let (name, text) = (row.name, answer.text());
        assert_eq!(answer.status, status, "{name}: {text}");
        if status == 204 {
            assert!(text.is_empty(), "{name}: {text}");
            self.answers.insert((name, status, String::new()));
            return Value::Null;
        }
        assert_eq!(answer.header("content-type"), Some("application/json"), "{name} {status}");
        let value: Value = serde_json::from_str(&text).expect("every answer is JSON");
        let mut found = Vec::new();
        let is_good = row.good.contains(&status);
        faults(if is_good { row.answer } else { &ERROR }, &value, name, &mut found);
        if !found.is_empty() {
            self.faults.push(format!("{status}: {found:#?}\n{text}"));
        }
        assert_eq!(
            answer.header("retry-after").is_some(),
            matches!(status, 429 | 503),
            "{name}: {text}"
        );
        let code = value["code"].as_str().unwrap_or_default().to_owned();
        if !is_good {
            let is_told = row.all_failures().any(|it| it.status == status && it.code == code);
            assert!(is_told, "{name}: {status} {code} is not in the table: {text}");
            assert_eq!(value["status"], status, "{name}: {text}");
        }
        self.answers.insert((name, status, code));
        value
    }
}

/// It is about push notifications.
pub fn is_push(row: &Row) -> bool {
    matches!(row.route, Route::Push(_))
}

/// A body with another channel's name in it.
fn with_channel(body: &str, channel: &str) -> String {
    let mut body: Value = serde_json::from_str(body).unwrap_or_default();
    if body["confirm_channel"].is_string() {
        body["confirm_channel"] = channel.into();
    }
    body.to_string()
}

fn socket_id(greeting: &str) -> String {
    let greeting: Value = serde_json::from_str(greeting).expect("JSON");
    let inner = greeting["data"].as_str().expect("JSON in JSON");
    let inner: Value = serde_json::from_str(inner).expect("JSON");
    inner["socket_id"].as_str().expect("a greeting names the connection").to_owned()
}

/// Asks everything of a server that is about to stop.
fn drain(seen: &mut Seen) {
    let mut server = Server::configured(&settings());
    // A request that has begun is heard to its end: the first byte of each comes with one that is whole, so that
    // it is known to have arrived.
    let asks = rows().map(|row| {
        let (mut tcp, text) = (server.connect(), Ask::of(row).text());
        tcp.send(format!("GET /live HTTP/1.1\r\nHost: here\r\n\r\n{}", &text[..1]).as_bytes());
        assert_eq!(tcp.answer().status, 200);
        (row, tcp, text)
    });
    let asks: Vec<_> = asks.collect();
    // One that only waits was accepted, too: nobody closes those that were not.
    let mut idle = server.connect();
    idle.send(b"GET /live HTTP/1.1\r\nHost: here\r\n\r\n");
    assert_eq!(idle.answer().status, 200);
    server.signal("TERM");
    assert!(idle.rest().is_empty());
    for (row, mut tcp, text) in asks {
        tcp.send(&text.as_bytes()[1..]);
        seen.take(row, 503, &tcp.answer());
    }
    server.wait();
}

/// Asks everything of a server that hears one request of each address.
fn ask_too_often(seen: &mut Seen) {
    let server = Server::configured(&format!("rates.api_requests_max = 1\n{}", settings()));
    assert_eq!(server.get("channels", &[]).status, 200);
    for row in rows() {
        seen.take(row, 429, &Ask::of(row).send(&server));
    }
}

#[test]
fn every_route_answers_with_every_status_it_names() {
    let server = Server::configured(&settings());
    let mut seen = Seen::default();
    let (mut seven, two) = (Peer::open(&server), Peer::speaking(&server, 2));
    let [socket_of_seven, socket] = [&seven, &two].map(|it| socket_id(&it.greeting));
    let (room, member) = ("presence-room", r#"{"user_id":"ann","user_info":{"n":1}}"#);
    let auth = sign::hmac(APP.2, &format!("{socket_of_seven}:{room}:{member}"));
    let member = member.replace('"', "\\\"");
    seven.say(&format!(
        r#"{{"event":"pusher:subscribe","data":{{"channel":"{room}","auth":"{}:{auth}","channel_data":"{member}"}}}}"#,
        APP.1
    ));
    seven.next("pusher_internal:subscription_succeeded");
    assert_eq!(server.publish("room", "e", "hello").status, 200);
    let published = r#"{"name":"e","channel":"letters","data":"hello","info":""}"#;
    let published = server.post("events", published).text();
    let published: Value = serde_json::from_str(&published).expect("JSON");
    let message = published["channels"]["letters"]["message_serial"].as_str().expect("it is kept");
    let mut annotation = String::new();
    let big = "x".repeat(BODY_BYTES_MAX / 4 + 1);
    for row in rows() {
        // What all have in common.
        seen.take(row, 400, &Ask { is_signed: false, ..Ask::of(row) }.send(&server));
        seen.take(row, 401, &Ask { app: STRANGER, ..Ask::of(row) }.send(&server));
        seen.take(row, 403, &Ask { app: DISABLED, ..Ask::of(row) }.send(&server));
        if row.body.is_some() {
            let body = "{".to_owned() + &" ".repeat(BODY_BYTES_MAX) + "}";
            seen.take(row, 413, &Ask { body, ..Ask::of(row) }.send(&server));
            seen.take(row, 400, &Ask { body: "nope".into(), ..Ask::of(row) }.send(&server));
            let status = if is_push(row) { 400 } else { 422 };
            seen.take(row, status, &Ask { body: "[]".into(), ..Ask::of(row) }.send(&server));
        }
        // The rest of these is in `routes_push`.
        if is_push(row) {
            continue;
        }
        // What some have.
        for failure in row.failures {
            let ask = match (failure.status, failure.code, row.name) {
                (400, "missing_channel_info", "publishEvent") => {
                    Ask { body: r#"{"name":"e"}"#.into(), ..Ask::of(row) }
                }
                (400, "missing_channel_info", _) => {
                    Ask { body: r#"{"batch":[{"name":"e"}]}"#.into(), ..Ask::of(row) }
                }
                (400, "limit_exceeded", "publishEvent") => {
                    let name = "n".repeat(201);
                    let body = format!(r#"{{"name":"{name}","channel":"c"}}"#);
                    Ask { body, ..Ask::of(row) }
                }
                (400, "limit_exceeded", _) => {
                    let event = r#"{"name":"e","channel":"c"}"#;
                    let events = [event; 11].join(",");
                    Ask { body: format!(r#"{{"batch":[{events}]}}"#), ..Ask::of(row) }
                }
                (413, _, "publishEvent") => {
                    let body = format!(r#"{{"name":"e","channel":"c","data":"{big}"}}"#);
                    Ask { body, ..Ask::of(row) }
                }
                (413, _, "publishBatch") => {
                    let event = format!(r#"{{"name":"e","channel":"c","data":"{big}"}}"#);
                    Ask { body: format!(r#"{{"batch":[{event}]}}"#), ..Ask::of(row) }
                }
                (413, ..) => Ask { body: format!(r#"{{"data":"{big}"}}"#), ..Ask::of(row) },
                (400, "invalid_input", _) | (401 | 403, "auth_failed" | "forbidden", _) => continue,
                (403, ..) => {
                    let body = format!(r#"{{"data":"x","socket_id":"{socket}"}}"#);
                    Ask { body, message, ..Ask::of(row) }
                }
                (404, ..) => Ask::of(row),
                (422, "feature_disabled", _) => {
                    let channel = if row.is_of_presence { "presence-plain" } else { "plain" };
                    let body = with_channel(&Ask::of(row).body, channel);
                    Ask { channel, body, ..Ask::of(row) }
                }
                other => panic!("nothing is known that makes {other:?}"),
            };
            seen.take(row, failure.status, &ask.send(&server));
        }
        // A connection acts that is not there, or not one that can.
        if row.name.ends_with("Message") && row.body.is_some() {
            for id in ["4294967295.1", "0.4000000000", "x", &socket_of_seven] {
                let body = format!(r#"{{"data":"x","type":"a:total.v1","socket_id":"{id}"}}"#);
                seen.take(row, 401, &Ask { body, message, ..Ask::of(row) }.send(&server));
            }
        }
        // And what each is for.
        let ask = Ask { message, annotation: &annotation, ..Ask::of(row) };
        let ask = match row.name {
            "resetHistory" | "resetPresenceHistory" | "purgeHistory" => {
                let body = with_channel(&ask.body, ask.channel);
                Ask { body, ..ask }
            }
            "updateMessage" | "deleteMessage" | "appendMessage" => {
                Ask { body: r#"{"data":"x","metadata":{"a":[1]}}"#.into(), ..ask }
            }
            "annotateMessage" => {
                let body = r#"{"type":"likes:flag.v1","clientId":"ann","data":{"a":[1]}}"#;
                Ask { body: body.into(), ..ask }
            }
            _ => ask,
        };
        let answer = seen.take(row, 200, &ask.send(&server));
        if let Some(serial) = answer["annotationSerial"].as_str() {
            annotation = serial.to_owned();
        }
    }
    drain(&mut seen);
    ask_too_often(&mut seen);
    assert!(seen.faults.is_empty(), "{}", seen.faults.join("\n"));
    let missing: Vec<_> = rows()
        .flat_map(|row| {
            let own = if is_push(row) { row.failures } else { &[] };
            let here = row.all_failures().filter(move |it| !own.contains(it));
            here.map(move |it| (row.name, it.status, it.code))
        })
        .filter(|(name, status, code)| {
            // What makes these is tested where it is made: a store that is full, a mailbox that is.
            let is_of_everyone = ALWAYS.iter().any(|it| it.status == *status && it.code == *code);
            let is_elsewhere =
                is_of_everyone && matches!(*code, "backpressure" | "service_unavailable");
            !is_elsewhere && !seen.answers.contains(&(name, *status, code.to_string()))
        })
        .collect();
    assert!(missing.is_empty(), "never seen: {missing:#?}");
    for row in rows().filter(|row| !is_push(row)) {
        assert!(seen.answers.contains(&(row.name, 200, String::new())), "{}", row.name);
    }
}
