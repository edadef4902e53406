//! Every route about push notifications with every status that its row names, and every answer in the shape that it names.
//!
//! What all routes have in common is in [`crate::routes`].

use ringmain::dialects::pusher::http::push::{PushRoute, ROWS};
use ringmain::dialects::pusher::http::table::{Route, Row};
use serde_json::{Value, json};

use crate::routes::{Ask, Seen};
use crate::server::{APP, Server};
use crate::sign;

/// With a key that seals credentials, and a log that takes what they are not there for.
const SETTINGS: &str = "[push]\nenabled = \"on\"\nlog = \"on\"\n\
                        encryption_key = \"a key of the tests, of more than 32 bytes\"\n";

/// What nothing here answers with, and where it is seen; the name is a part of a row's.
const ELSEWHERE: &[(&str, u16, &str)] = &[
    // There are no servers of APNs here: `tests/clients/push.test.js`, and `provider/broadcast_tests.rs`.
    ("roadcast", 200, ""),
    ("roadcast", 201, ""),
    ("roadcast", 204, ""),
    ("roadcast", 404, "not_found"),
    ("roadcast", 502, "provider_unauthorized"),
    ("roadcast", 502, "provider_error"),
    // A provider must have failed for long: `tests/clients/push.test.js`.
    ("replayDeadLetter", 202, ""),
    // It takes very many: `outbound/push/registry/tests.rs` ...
    ("registerDevice", 400, "limit_exceeded"),
    ("subscribeDevice", 400, "limit_exceeded"),
    ("putCredential", 400, "limit_exceeded"),
    // ... and `outbound/push/jobs/cases_tests.rs`.
    ("publishPush", 429, "too_many_publishes"),
];

/// The head of a device that does not show who it is.
const DEVICE: &str = "X-Sockudo-Push-Capability: push-subscribe\r\n";

fn row(route: PushRoute) -> &'static Row {
    ROWS.iter().find(|row| row.route == Route::Push(route)).expect("each has one")
}

/// What makes it answer well; what is asked before makes it so.
fn good(row: &'static Row) -> Ask<'static> {
    let ask = Ask::of(row);
    let Route::Push(route) = row.route else { panic!("it is about push notifications") };
    match route {
        PushRoute::UnregisterClient => Ask { query: &[("clientid", "user-42")], ..ask },
        PushRoute::Unsubscribe => Ask { query: &[("channel", "orders")], ..ask },
        PushRoute::Device | PushRoute::Unregister => Ask { name: "ios-device-1", ..ask },
        PushRoute::Template | PushRoute::RemoveTemplate => Ask { name: "order-updated", ..ask },
        PushRoute::Status | PushRoute::Outcomes => Ask { name: "one", ..ask },
        PushRoute::Feedback => {
            let body =
                json!({"publish_id": "one", "device_id": "ios-device-1", "outcome": "delivered"});
            Ask { body: body.to_string(), ..ask }
        }
        PushRoute::Cancel => Ask { name: "later", ..ask },
        _ => ask,
    }
}

/// What makes it fail so; none: that is tested where it is made.
fn bad(row: &'static Row, status: u16, code: &str) -> Option<Ask<'static>> {
    let ask = good(row);
    let Route::Push(route) = row.route else { panic!("it is about push notifications") };
    let with = |name: &str, value: Value| {
        let mut body: Value = serde_json::from_str(&ask.body).unwrap_or_default();
        let one = if body.is_array() { &mut body[0] } else { &mut body };
        one[name] = value;
        if let Some(list) = body.as_array_mut() {
            // Where all are refused the first refusal is the answer.
            list.truncate(1);
        }
        body.to_string()
    };
    Some(match (status, code) {
        (401, _) => Ask { head: DEVICE, query: &[("deviceid", "ios-device-1")], ..ask },
        (403, _) => Ask { head: "X-Sockudo-Push-Capability: none\r\n", ..ask },
        (404, _) => match route {
            PushRoute::CreateBroadcast
            | PushRoute::Broadcasts
            | PushRoute::Broadcast
            | PushRoute::RemoveBroadcast => return None,
            PushRoute::Subscribe => Ask { body: with("device_id", "nobody".into()), ..ask },
            PushRoute::Subscriptions | PushRoute::Unsubscribe | PushRoute::Unregister => {
                Ask { head: DEVICE, name: "nobody", query: &[("deviceid", "nobody")], ..ask }
            }
            PushRoute::Publish | PushRoute::Batch => {
                Ask { body: with("credential_id", "nobody".into()), ..ask }
            }
            PushRoute::Feedback => Ask { body: with("publish_id", "nobody".into()), ..ask },
            _ => Ask { name: "7", ..ask },
        },
        (400, "limit_exceeded") => match route {
            PushRoute::Publish | PushRoute::Batch => {
                let many = (0..1025).map(|n| json!({"type": "client", "client_id": n.to_string()}));
                Ask { body: with("recipients", many.collect()), ..ask }
            }
            PushRoute::PutTemplate => {
                let many = (0..101).map(|n| (n.to_string(), json!({"title": "t"})));
                Ask { body: with("locales", Value::Object(many.collect())), ..ask }
            }
            _ => return None,
        },
        (409, _) => match route {
            PushRoute::Cancel => Ask { name: "one", ..ask },
            _ => Ask { body: with("publish_id", "one".into()), ..ask },
        },
        _ => return None,
    })
}

fn post(server: &Server, route: &str, body: &Value) -> Value {
    let mut tcp = server.connect();
    tcp.send(sign::post(APP, route, body.to_string().as_bytes()).as_bytes());
    let answer = tcp.answer();
    assert!(answer.status < 300, "{route}: {}", answer.text());
    serde_json::from_slice(&answer.body).expect("JSON")
}

/// A device that is subscribed, a publish to it that is finished, and one that waits for its time.
fn prepare(server: &Server) {
    for route in [PushRoute::Register, PushRoute::Subscribe, PushRoute::PutTemplate] {
        let answer = Ask::of(row(route)).send(server);
        assert_eq!(answer.status, 201, "{}", answer.text());
    }
    let to = json!([{"type": "device", "device_id": "ios-device-1"}]);
    let one =
        json!({"publish_id": "one", "recipients": to, "payload": {"title": "t"}, "sync": true});
    assert_eq!(post(server, "push/publish", &one)["status"], "succeeded");
    let later = json!({
        "publish_id": "later", "recipients": to, "payload": {"title": "t"}, "not_before_ms": 4_000_000_000_000_u64,
    });
    assert_eq!(post(server, "push/publish", &later)["status"], "accepted");
}

#[test]
fn every_route_about_push_notifications_answers_with_every_status_it_names() {
    let server = Server::start(SETTINGS);
    // Nothing takes notifications here.
    let idle = Server::start("push.enabled = \"on\"");
    let mut seen = Seen::default();
    prepare(&server);
    for row in ROWS {
        // That they are off is the first failure of each.
        for failure in &row.failures[1..] {
            let publishes = ["publishPush", "publishPushBatch"].contains(&row.name);
            let asked = if publishes && failure.status == 404 { &idle } else { &server };
            if let Some(ask) = bad(row, failure.status, failure.code) {
                seen.take(row, failure.status, &ask.send(asked));
            }
        }
    }
    for route in [PushRoute::Publish, PushRoute::Batch] {
        seen.take(row(route), 503, &good(row(route)).send(&idle));
    }
    let waits = Ask { query: &[("mode", "sync")], ..Ask::of(row(PushRoute::Publish)) };
    let body = json!({"recipients": [{"type": "client", "client_id": "user-42"}], "payload": {"title": "t"}});
    let waits = Ask { body: body.to_string(), ..waits };
    seen.take(row(PushRoute::Publish), 200, &waits.send(&server));
    // What forgets something comes when the others have seen it.
    let (last, first): (Vec<_>, Vec<_>) = ROWS.iter().partition(|row| {
        matches!(row.route, Route::Push(PushRoute::UnregisterClient | PushRoute::Unregister))
            || row.name.starts_with("delete")
            || row.name.starts_with("unsubscribe")
    });
    for row in first.into_iter().chain(last) {
        // There is no APNs here, and nothing was given up.
        let elsewhere = row.path.contains("liveActivities") || row.name == "replayDeadLetter";
        if !elsewhere {
            seen.take(row, *row.good.last().expect("each has one"), &good(row).send(&server));
        }
    }
    assert!(seen.faults.is_empty(), "{}", seen.faults.join("\n"));
    let told = ROWS.iter().flat_map(|row| {
        let good = row.good.iter().map(|status| (row.name, *status, String::new()));
        // That they are off is seen below.
        let bad = row.failures[1..].iter().map(|it| (row.name, it.status, it.code.to_owned()));
        good.chain(bad)
    });
    let is_elsewhere = |name: &str, status: u16, code: &str| {
        ELSEWHERE.iter().any(|it| name.contains(it.0) && (it.1, it.2) == (status, code))
    };
    let missing: Vec<_> =
        told.filter(|it| !seen.answers.contains(it) && !is_elsewhere(it.0, it.1, &it.2)).collect();
    assert!(missing.is_empty(), "never seen: {missing:#?}");
    let needless: Vec<_> = ELSEWHERE
        .iter()
        .filter(|it| {
            seen.answers.iter().any(|(name, status, code)| {
                name.contains(it.0) && (*status, &**code) == (it.1, it.2)
            })
        })
        .collect();
    assert!(needless.is_empty(), "seen here: {needless:#?}");
}

#[test]
fn where_push_notifications_are_off_no_route_is_there() {
    let server = Server::start("push.enabled = \"off\"");
    let mut seen = Seen::default();
    for row in ROWS {
        seen.take(row, 404, &good(row).send(&server));
    }
    assert!(seen.faults.is_empty(), "{}", seen.faults.join("\n"));
    // What goes with an event is passed on.
    let event =
        json!({"name": "e", "channel": "c", "data": "", "extras": {"push": {"title": "t"}}});
    post(&server, "events", &event);
}
