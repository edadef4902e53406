//! The Pusher dialect without sockets: what one connection, one publish and one rendered event cost.
//!
//! `cargo bench --bench pusher`; nanoseconds per call, the least of several rounds.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use ringmain::auth::{Apps, sign};
use ringmain::base::ids::{AppIndex, ConnectionId, LaneId, Serial};
use ringmain::base::name::{Channel, Name};
use ringmain::base::time::{Nanos, Now, UnixMillis};
use ringmain::broker::{
    Command, Description, Event, Happening, Payload, Published, Render, Reply, Subscribed, Tags,
};
use ringmain::config::Config;
use ringmain::dialects::{self, Dialect, Facts, Input, Lanes, Opening, Output, Request};
use ringmain::observe::Metrics;

fn main() {
    let config = Config::development();
    let dialects = dialects::all(&config, Arc::new(Metrics::new(1, &dialects::NAMES)));
    let lanes = Lanes::new(&dialects, &config);
    for bytes in [128, 1024] {
        let event = event(bytes);
        report(&format!("render, {bytes} B payload"), || {
            black_box(lanes.render(LaneId(0), black_box(&event)));
        });
        report(&format!("render compressed, {bytes} B payload"), || {
            black_box(lanes.render(LaneId(1), black_box(&event)));
        });
    }

    let pusher = &dialects[0];
    let apps = Apps::new(&config.apps);
    let app = apps.iter().next().expect("the development app");
    let socket_id = facts().connection.to_string();
    let signature = app.signing_key.sign(&[socket_id.as_bytes(), b":private-c"]);
    let auth = String::from_utf8_lossy(&signature).into_owned();
    let public = r#"{"event":"pusher:subscribe","data":{"auth":"","channel":"news"}}"#.to_owned();
    let private = format!(
        r#"{{"event":"pusher:subscribe","data":{{"auth":"app-key:{auth}","channel":"private-c"}}}}"#
    );
    for (name, text) in [("public", &public), ("private", &private)] {
        report(&format!("open, greet, subscribe {name}, close"), || connect(&**pusher, text));
    }

    let body = format!(r#"{{"name":"e","channels":["news"],"data":"{}"}}"#, "x".repeat(128));
    let now = facts().now.wall;
    let query = sign::sign_request(app, "POST", "/apps/app-id/events", &[], body.as_bytes(), now);
    report("signed publish, 128 B payload", || publish(&**pusher, &query, &body));
}

fn facts() -> Facts {
    Facts {
        connection: ConnectionId::from_pair(5, 6),
        now: Now { steady: Nanos(1), wall: UnixMillis(1_700_000_000_000) },
        shards: 1,
        draining: false,
        lane_first: LaneId(0),
        deflate: false,
        chance: 0,
    }
}

fn open(pusher: &dyn Dialect, method: &str, path: &str, query: &str) -> Opening {
    let headers = [("Host", &b"127.0.0.1:6001"[..]), ("Origin", b"https://example.com")];
    let request = Request {
        method,
        path,
        query: Some(query),
        headers: &headers,
        peer: ([127, 0, 0, 1], 9).into(),
        is_websocket: method == "GET",
        takes_chunks: true,
    };
    pusher.open(&request, &facts()).expect("the path is this dialect's")
}

fn connect(pusher: &dyn Dialect, subscribe: &str) {
    let opening = open(pusher, "GET", "/app/app-key", "protocol=7&client=js&version=8.4.0");
    let Opening::WebSocket { mut session, .. } = opening else { panic!("a WebSocket") };
    let (now, mut out) = (facts().now, Vec::with_capacity(8));
    session.handle(Input::Opened, now, &mut out);
    session.handle(Input::Text(subscribe), now, &mut out);
    let Some(Output::Ask(ticket, Command::Subscribe(ask))) = out.pop() else { panic!("it asks") };
    let reply = Subscribed {
        values: Vec::new(),
        has_more_values: false,
        channel: ask.channel.clone(),
        after: Serial(0),
        description: Description::default(),
        members: Vec::new(),
        position: None,
        replay: None,
    };
    session.handle(Input::Reply(ticket, Reply::Subscribed(Box::new(reply))), now, &mut out);
    assert_eq!(out.len(), 3, "a greeting, a timer, an answer");
    session.handle(Input::Closed, now, &mut out);
    black_box(out);
}

fn publish(pusher: &dyn Dialect, query: &str, body: &str) {
    let opening = open(pusher, "POST", "/apps/app-id/events", query);
    let Opening::Exchange { mut session, .. } = opening else { panic!("an exchange") };
    let (now, mut out) = (facts().now, Vec::with_capacity(8));
    session.handle(Input::Body(body.as_bytes()), now, &mut out);
    let Some(Output::Ask(ticket, _)) = out.pop() else { panic!("it asks") };
    let reply = Reply::Published(Published::unkept(Serial(1)));
    session.handle(Input::Reply(ticket, reply), now, &mut out);
    assert!(matches!(out[..], [Output::Respond(_)]), "it answers");
    black_box(out);
}

fn event(bytes: usize) -> Event {
    let words = "some words of text, ".repeat(bytes / 20 + 1);
    Event {
        channel: Channel { app: AppIndex(0), name: Name::from("news") },
        serial: Serial(1),
        at: UnixMillis(0),
        arrived: Nanos(0),
        epoch: None,
        id: Default::default(),
        meta: None,
        tags: Tags::default(),
        guarded: false,
        happening: Happening::Message {
            name: Name::from("an-event"),
            data: Payload(Bytes::from(format!("\"{}\"", &words[..bytes - 2]))),
            sender: None,
        },
    }
}

fn report(name: &str, mut run: impl FnMut()) {
    let mut time = |calls: u32| {
        let start = Instant::now();
        (0..calls).for_each(|_| run());
        start.elapsed().as_nanos() as f64 / f64::from(calls)
    };
    time(1000);
    let least = (0..20).map(|_| time(5000)).fold(f64::MAX, f64::min);
    println!("{name:44} {least:9.0} ns");
}
