//! The Hypothesis dialect: no message breaks a session, no address its normal form, no body its reader.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use ringmain::base::ids::{ConnectionId, LaneId};
use ringmain::base::time::Now;
use ringmain::config::Config;
use ringmain::dialects::hypothesis::uri;
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
    // A web address loses its fragment; what calls itself `httpx` already stays as it is.
    if let Some(normal) = uri::normalise(text) {
        let is_web = normal.starts_with("httpx://") && !text.to_ascii_lowercase().contains("httpx");
        assert!(!is_web || !normal.contains('#'), "{normal}");
    }
    let _ = uri::keys_wanted(text);
    let [plain, all] = uri::keys_of(text, None);
    assert!(all.starts_with(&plain));

    let config = Config::development();
    let dialects = dialects::all(&config, Arc::new(Metrics::new(1, &dialects::NAMES)));
    let open = |method, path, headers: &[(&str, &[u8])], is_websocket| {
        let peer = ([127, 0, 0, 1], 9).into();
        let request = Request { method, path, query: None, headers, peer, is_websocket, takes_chunks: true };
        dialects.iter().find_map(|it| it.open(&request, &facts()))
    };
    let Some(Opening::WebSocket { mut session, .. }) = open("GET", "/ws", &[], true) else {
        panic!("the development server speaks it");
    };
    let mut out = Vec::new();
    session.handle(Input::Opened, Now::default(), &mut out);
    for message in text.split('\n') {
        out.clear();
        session.handle(Input::Text(message), Now::default(), &mut out);
        for output in &out {
            if let Output::Text(text) = output {
                json::parse(text).expect("what it says is JSON");
            }
        }
    }
});
