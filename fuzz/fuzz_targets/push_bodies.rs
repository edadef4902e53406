//! Requests about push notifications, whatever their bodies and queries are: each is answered once, at once or when what it
//! asks for is answered; an order is one that can be kept, and every answer is JSON or nothing.
//!
//! The input: a byte for the route, a byte for how the world answers, a query up to a line feed, and a body.
#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use ringmain::auth::{App, Apps, Finding, What, sign};
use ringmain::base::ids::{ConnectionId, LaneId};
use ringmain::base::time::{Nanos, Now, UnixMillis};
use ringmain::broker::{Command, Refusal, Reply};
use ringmain::config::Config;
use ringmain::dialects::pusher::http::push::ROWS;
use ringmain::dialects::{self, Dialect, Facts, Input, Opening, Output, Request};
use ringmain::observe::Metrics;
use ringmain::push::order::{Order, Refused, Told};
use ringmain::push::stored;
use ringmain::wire::json;

struct World {
    app: Arc<App>,
    dialect: Arc<dyn Dialect>,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let config = Config::development();
    let apps = Apps::new(&config.apps);
    let app = apps.iter().next().expect("the development app").clone();
    let all = dialects::all(&config, Arc::new(Metrics::new(1, &dialects::NAMES)));
    let dialect = all.into_iter().find(|it| it.name() == "pusher").expect("it is there");
    World { app, dialect }
});

/// Whether what an order has in it comes back from the disk as it went.
fn check(order: &Order) {
    match order {
        Order::Register(device, _) => {
            assert_eq!(stored::decode(&stored::encode(&**device)), Some((**device).clone()));
            assert!(!device.id.is_empty() && !device.recipient.address().is_empty());
        }
        Order::Publish(intent) => {
            assert_eq!(stored::decode(&stored::encode(&**intent)), Some((**intent).clone()));
            assert!(!intent.targets.is_empty());
        }
        Order::PutTemplate(template) => {
            assert_eq!(stored::decode(&stored::encode(&**template)), Some((**template).clone()));
        }
        _ => {}
    }
}

fuzz_target!(|data: &[u8]| {
    let [route, world, rest @ ..] = data else { return };
    let at = rest.iter().position(|it| *it == b'\n').unwrap_or(0);
    let (query, body) = rest.split_at(at);
    let body = body.strip_prefix(b"\n").unwrap_or(body);
    let query = String::from_utf8_lossy(query);
    let row = &ROWS[usize::from(*route) % ROWS.len()];
    let path: Vec<_> = row
        .path
        .split('/')
        .map(|it| match it {
            "{app_id}" => "app-id",
            "{provider}" => ["fcm", "apns", "webpush", "hms", "wns"][usize::from(*world >> 4) % 5],
            it if it.starts_with('{') => "7",
            it => it,
        })
        .collect();
    let path = path.join("/");
    let pairs: Vec<_> = query.split('&').filter_map(|it| it.split_once('=')).collect();
    let now = Now { steady: Nanos(5_000_000_000), wall: UnixMillis(1_700_000_000_000) };
    let method = row.method.as_str();
    let query = sign::sign_request(&WORLD.app, method, &path, &pairs, body, now.wall);
    let capability: &[u8] = if world & 1 == 0 { b"push-admin" } else { b"push-subscribe" };
    let headers = [
        ("X-Sockudo-Push-Capability", capability),
        ("X-Sockudo-Device-Identity-Token", &b"token"[..]),
    ];
    let request = Request {
        method,
        path: &path,
        query: Some(&query),
        headers: &headers,
        peer: ([127, 0, 0, 1], 1).into(),
        is_websocket: false,
        takes_chunks: true,
    };
    let facts = Facts {
        connection: ConnectionId::from_pair(1, 1),
        now,
        shards: 1,
        draining: false,
        lane_first: LaneId(0),
        deflate: false,
        chance: 0,
    };
    let Some(Opening::Exchange { mut session, .. }) = WORLD.dialect.open(&request, &facts) else {
        panic!("{path} is a path of the API")
    };
    let (mut out, mut answers) = (Vec::new(), 0);
    session.handle(Input::Body(body), now, &mut out);
    // Nothing asks more than a batch and a few steps behind each of its parts.
    for _ in 0..1_000 {
        let Some(next) = (!out.is_empty()).then(|| out.remove(0)) else { break };
        match next {
            Output::Inquire(ticket, inquiry) => {
                let What::Push(_, order) = inquiry.what else { panic!("{:?}", inquiry.what) };
                check(&order);
                let told = match world & 6 {
                    0 => Ok(Told::Removed(1)),
                    2 => Ok(Told::Cancelled(false)),
                    _ => Err(Refused::unavailable("no")),
                };
                let found = Input::Found(ticket, Finding::Push(Box::new(told)));
                session.handle(found, now, &mut out);
            }
            Output::Ask(ticket, Command::Schedule(_)) => {
                session.handle(Input::Reply(ticket, Reply::Refused(Refusal::StoreBusy)), now, &mut out);
            }
            Output::Respond(response) => {
                answers += 1;
                assert!(response.body.is_empty() || json::parse(&response.body).is_ok());
            }
            Output::Count(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(out.is_empty());
    assert_eq!(answers, 1, "{path}");
});
