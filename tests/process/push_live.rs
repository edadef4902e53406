//! Push notifications beside sockets: a socket that is a device, clients that are connected and left out, and a process
//! that is asked to stop in the middle.

use std::time::Duration;

use serde_json::{Value, json};

use crate::peer::Peer;
use crate::push::{Service, prepare, publish, register, start, until_state};
use crate::server::{Directory, Server};
use crate::sign;
use crate::webhooks::until;

const DEVELOPMENT: (&str, &str, &str) = ("app-id", "app-key", "app-secret");

fn call(server: &Server, method: &str, route: &str, body: &Value) -> Value {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let path = format!("/apps/{}/push/{route}", DEVELOPMENT.0);
    let target = sign::target_of(DEVELOPMENT, method, &path, &[], body.as_bytes());
    let mut tcp = server.connect();
    let request = format!(
        "{method} {target} HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    tcp.send(request.as_bytes());
    let answer = tcp.answer();
    assert!((200..300).contains(&answer.status), "{route}: {} {}", answer.status, answer.text());
    serde_json::from_slice(&answer.body).unwrap_or_default()
}

fn device(server: &Server, id: &str, client: &str, recipient: &Value) {
    let device = json!({
        "id": id, "clientId": client, "platform": "android", "formFactor": "phone",
        "push": { "recipient": recipient },
    });
    call(server, "POST", "deviceRegistrations", &device);
    call(server, "POST", "channelSubscriptions", &json!({ "channel": "news", "deviceId": id }));
}

fn finished(server: &Server, id: &str) -> Value {
    let mut status = Value::Null;
    until("its end", || {
        status = call(server, "GET", &format!("publish/{id}/status"), &Value::Null);
        status["state"] == "succeeded"
    });
    status
}

#[test]
fn a_socket_is_a_device_and_who_is_connected_is_left_out() {
    let server = Server::development();
    let mut peer = Peer::of(&server, DEVELOPMENT.1);
    peer.subscribe("inbox");
    let greeting: Value = serde_json::from_str(&peer.greeting).expect("JSON");
    let greeting: Value =
        serde_json::from_str(greeting["data"].as_str().expect("text")).expect("JSON");
    let socket_id = greeting["socket_id"].as_str().expect("it has one");
    let user = json!({ "id": "ann" }).to_string();
    let signature = sign::hmac(DEVELOPMENT.2, &format!("{socket_id}::user::{user}"));
    let auth = format!("{}:{signature}", DEVELOPMENT.1);
    let signin = json!({ "event": "pusher:signin", "data": { "auth": auth, "user_data": user } });
    peer.say(&signin.to_string());
    peer.next("pusher:signin_success");

    let phone = |token: &str| json!({ "transportType": "gcm", "registrationToken": token });
    device(&server, "anns", "ann", &phone("a"));
    device(&server, "bobs", "bob", &phone("b"));
    device(&server, "socket", "carol", &json!({ "transportType": "realtime", "channel": "inbox" }));
    let publish = |id: &str, more: Value| {
        let mut body = json!({
            "publishId": id,
            "recipients": [{ "type": "channel", "channel": "news" }],
            "payload": { "title": "Hello", "body": "all" },
        });
        let members = more.as_object().into_iter().flatten();
        let body_members = body.as_object_mut().expect("it is one");
        body_members.extend(members.map(|(name, value)| (name.clone(), value.clone())));
        call(&server, "POST", "publish", &body);
    };
    publish("everyone", json!({}));
    let heard: Value = serde_json::from_str(&peer.next("push")).expect("JSON");
    assert_eq!(heard["channel"], "inbox");
    let data = match &heard["data"] {
        Value::String(text) => serde_json::from_str(text).expect("JSON"),
        other => other.clone(),
    };
    assert_eq!((&data["title"], &data["publish_id"]), (&json!("Hello"), &json!("everyone")));
    let counters = finished(&server, "everyone")["counters"].clone();
    assert_eq!((&counters["succeeded"], &counters["skipped"]), (&json!(3), &json!(0)));

    publish("others", json!({ "skipConnected": true }));
    let counters = finished(&server, "others")["counters"].clone();
    assert_eq!((&counters["succeeded"], &counters["skipped"]), (&json!(2), &json!(1)));
    let outcomes = call(&server, "GET", "publish/others/outcomes", &Value::Null);
    let outcomes = outcomes["items"].as_array().expect("items").clone();
    let of_ann = outcomes.iter().find(|it| it["deviceId"] == "anns").expect("an outcome");
    assert_eq!(of_ann["outcome"], "connected");

    // The console says what was logged, and metrics what was taken.
    let mut tcp = server.connect();
    tcp.send(b"GET /_/push HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let shown: Value = serde_json::from_slice(&tcp.answer().body).expect("JSON");
    assert_eq!(shown["publishes"][0]["id"], "others");
    assert_eq!(shown["logged"].as_array().map(Vec::len), Some(3), "ann's phone once, bob's twice");
    for (provider, taken) in [("fcm", 3), ("realtime", 2)] {
        let line =
            format!("ringmain_push_delivered_total{{shard=\"0\",provider=\"{provider}\"}} {taken}");
        // A shard tells what the back shard counts, a moment later.
        until(&line, || server.fetch("/metrics").text().lines().any(|it| it == line));
    }
}

#[test]
fn what_is_under_way_at_the_end_is_not_sent_again_after_the_next_start() {
    const DEVICES: usize = 150;
    let (data, service) = (Directory::new(), Service::start(Duration::from_millis(300)));
    let mut server = start(&data.0);
    prepare(&server);
    register(&server, &service, "slow", DEVICES);
    publish(&server, "slow", "slow", &Value::Null);
    until("some of them", || service.count("slow") > 20);
    assert!(server.stop("TERM").success());
    let first = service.count("slow");
    assert!(first < DEVICES, "it was stopped in the middle");
    let server = start(&data.0);
    until_state(&server, "slow", "succeeded");
    let by_device = service.by_device("slow");
    assert_eq!(by_device.len(), DEVICES);
    for (device, arrivals) in by_device {
        assert_eq!(arrivals.len(), 1, "{device} got it again");
    }
}
