//! Filters of subscriptions: whatever is asked for is refused in words or answers about any event, and who is let
//! through is found by the filter's tags.
//!
//! The input: a filter as JSON, a line break, and the data of an event, whose first bytes are its tags' values, too.
#![no_main]

use std::sync::Arc;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use ringmain::base::event_id::EventId;
use ringmain::base::ids::{AppIndex, ConnectionId, Epoch, LaneId, Serial};
use ringmain::base::name::Channel;
use ringmain::base::time::{Nanos, Now, UnixMillis};
use ringmain::broker::{Command, Event, Happening, Payload, Tag, Tags, Verdict};
use ringmain::config::Config;
use ringmain::dialects::{self, Facts, Input, Opening, Output, Request};
use ringmain::observe::Metrics;
use ringmain::wire::json;

fn facts() -> Facts {
    Facts {
        connection: ConnectionId::from_pair(1, 1),
        now: Now::default(),
        shards: 1,
        draining: false,
        lane_first: LaneId(0),
        deflate: false,
        chance: 0,
    }
}

fuzz_target!(|text: &str| {
    let (filter, data) = text.split_once('\n').unwrap_or((text, "1"));
    let config = Config::development();
    let dialects = dialects::all(&config, Arc::new(Metrics::new(1, &dialects::NAMES)));
    let peer = ([127, 0, 0, 1], 9).into();
    let path = "/app/app-key";
    let request =
        Request { method: "GET", path, query: Some("protocol=2"), headers: &[], peer, is_websocket: true, takes_chunks: true };
    let opened = dialects.iter().find_map(|it| it.open(&request, &facts()));
    let Some(Opening::WebSocket { mut session, .. }) = opened else {
        panic!("the development server speaks it");
    };
    let mut out = Vec::new();
    session.handle(Input::Opened, Now::default(), &mut out);
    out.clear();
    let subscribe = format!(
        "{{\"event\":\"sockudo:subscribe\",\"data\":{{\"channel\":\"c\",\"filter\":{filter}}}}}"
    );
    session.handle(Input::Text(&subscribe), Now::default(), &mut out);
    assert!(!out.is_empty(), "it is asked for or refused");

    let value = |range| data.get(range).unwrap_or_default();
    let tag = |name: &str, value: &str| Tag { name: name.into(), value: value.into() };
    let tags = vec![tag("a", value(0..1)), tag("b", value(1..2)), tag("a", value(2..3))];
    let data = match json::parse_str(data) {
        Ok(_) => data.to_owned(),
        Err(_) => "null".to_owned(),
    };
    let event = Event {
        channel: Channel { app: AppIndex(0), name: "c".into() },
        serial: Serial(1),
        epoch: Some(Epoch(1)),
        id: EventId(1),
        at: UnixMillis(0),
        arrived: Nanos(0),
        tags: Tags::from(tags),
        meta: None,
        guarded: false,
        happening: Happening::Message { name: "e".into(), data: Payload(Bytes::from(data)), sender: None },
    };
    for output in &out {
        let Output::Ask(_, Command::Subscribe(subscribe)) = output else { continue };
        let Some(filter) = &subscribe.filter else { continue };
        if filter.admit.admit(&event) == Verdict::Skip {
            continue;
        }
        let any_of = filter.any_of.as_deref();
        let is_found = |any_of: &[Tag]| event.tags.as_slice().iter().any(|tag| any_of.contains(tag));
        assert!(any_of.is_none_or(is_found), "who is let through is found");
    }
});
