//! Webhooks of Pusher's shape from the real binary: what is told and how it is signed, receivers that are slow, broken or
//! lead elsewhere, addresses that are private, and the operator's routes.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::http::Answer;
use crate::peer::Peer;
use crate::server::{Directory, Server, ringmain, run};
use crate::sign::{self, hmac};
use crate::talk::request;
use crate::webhooks::{Receiver, Told, server, until, webhooks};

/// The development app.
const APP: (&str, &str, &str) = ("app-id", "app-key", "app-secret");

fn receiver(name: &str, address: SocketAddr, more: &str) -> String {
    format!(
        "[[webhooks.receivers]]\nname = \"{name}\"\nurl = \"http://{address}/hook\"\nformat = \"sockudo\"\n\
         allow_private = true\nretry_first_s = \"20ms\"\nretry_longest_s = \"100ms\"\n{more}\n"
    )
}

/// The events of a request, which is checked as a back end would.
fn events(told: &Told) -> Vec<Value> {
    assert_eq!(told.field("X-Pusher-Key"), APP.1);
    assert_eq!(told.field("X-Pusher-Signature"), hmac(APP.2, &told.body));
    assert_eq!(told.field("Content-Type"), "application/json");
    let body: Value = serde_json::from_str(&told.body).expect("JSON");
    assert!(body["time_ms"].as_u64().is_some_and(|it| it > 1_600_000_000_000), "{body}");
    body["events"].as_array().expect("a list").clone()
}

fn all_events(receiver: &Receiver) -> Vec<Value> {
    receiver.told().iter().flat_map(events).collect()
}

fn publish(server: &Server, channel: &str, name: &str) {
    let body = format!(r#"{{"name":"{name}","channel":"{channel}","data":"x"}}"#);
    let mut tcp = server.connect();
    tcp.send(sign::post(APP, "events", body.as_bytes()).as_bytes());
    assert_eq!(tcp.answer().status, 200);
}

fn subscribe_signed(peer: &mut Peer, channel: &str) {
    let greeting: Value = serde_json::from_str(&peer.greeting).expect("JSON");
    let data = greeting["data"].as_str().expect("text");
    let data: Value = serde_json::from_str(data).expect("JSON");
    let socket_id = data["socket_id"].as_str().expect("text");
    let auth = format!("{}:{}", APP.1, hmac(APP.2, &format!("{socket_id}:{channel}")));
    peer.say(&format!(
        r#"{{"event":"pusher:subscribe","data":{{"channel":"{channel}","auth":"{auth}"}}}}"#
    ));
    peer.next("pusher_internal:subscription_succeeded");
}

#[test]
fn an_app_signs_what_is_told_of_it() {
    let data = Directory::new();
    let (all, some) = (Receiver::start(200), Receiver::start(200));
    let settings = receiver("all", all.address, "")
        + &receiver(
            "some",
            some.address,
            "types = [\"client_event\", \"message_*\"]\nchannel_prefix = \"private-\"\n\
             channel_pattern = \"-[0-9]+$\"\nheaders = [\"X-Team: shop\"]",
        );
    let server = server(&data.0, &settings);
    let mut peer = Peer::of(&server, APP.1);
    peer.subscribe("cache-c");
    subscribe_signed(&mut peer, "private-1");
    peer.say(r#"{"event":"client-typing","channel":"private-1","data":{"is":true}}"#);
    publish(&server, "private-x", "e");
    publish(&server, "private-2", "e");
    let names = |it: &Receiver| -> Vec<(String, String)> {
        let text = |it: &Value| it.as_str().unwrap_or_default().to_owned();
        all_events(it).iter().map(|it| (text(&it["name"]), text(&it["channel"]))).collect()
    };
    let wanted = [
        ("cache_miss", "cache-c"),
        ("client_event", "private-1"),
        ("message_version_created", "private-1"),
        ("message_version_created", "private-2"),
        ("message_version_created", "private-x"),
        ("subscription_count", "private-1"),
    ];
    for wanted in wanted {
        let wanted = (wanted.0.to_owned(), wanted.1.to_owned());
        until(&wanted.0, || names(&all).contains(&wanted));
    }
    let told = all_events(&all);
    let client = told.iter().find(|it| it["name"] == "client_event").expect("it came");
    assert_eq!((&client["event"], &client["data"]["is"]), (&"client-typing".into(), &true.into()));
    assert!(peer.greeting.contains(client["socket_id"].as_str().expect("text")));
    let created = told.iter().find(|it| it["channel"] == "private-2").expect("it came");
    assert_eq!(created["action"], "message.create");
    assert_eq!(created["message_serial"], created["version_serial"]);

    until("what some want", || names(&some).len() >= 3);
    let some_told: BTreeSet<_> = names(&some).into_iter().collect();
    let wanted = [
        ("client_event", "private-1"),
        ("message_version_created", "private-1"),
        ("message_version_created", "private-2"),
    ];
    let wanted: BTreeSet<_> =
        wanted.into_iter().map(|(name, channel)| (name.to_owned(), channel.to_owned())).collect();
    assert_eq!(some_told, wanted);
    assert_eq!(some.told()[0].field("X-Team"), "shop");
    // What is ephemeral is not told.
    let before = all_events(&all).len();
    let body = r#"{"name":"e","channel":"private-9","data":"x","extras":{"ephemeral":true}}"#;
    let mut tcp = server.connect();
    tcp.send(sign::post(APP, "events", body.as_bytes()).as_bytes());
    assert_eq!(tcp.answer().status, 200);
    publish(&server, "private-10", "e");
    until("the last", || all_events(&all).len() > before);
    assert!(all_events(&all).iter().all(|it| it["channel"] != "private-9"));
}

#[test]
fn receivers_that_do_not_behave_hold_up_nobody_and_miss_nothing() {
    const EVENTS: usize = 200;
    let data = Directory::new();
    let types = "types = [\"message_version_created\"]\ntimeout_s = \"300ms\"\nbatch_max = 20";
    let [well, slow, resets, fails, leads] =
        [200, 200, 0, 500, 307].map(|status| (status, Receiver::start(status))).map(|(_, it)| it);
    slow.delays(Duration::from_secs(2));
    let named = [
        ("well", &well),
        ("slow", &slow),
        ("resets", &resets),
        ("fails", &fails),
        ("leads", &leads),
    ];
    let settings: String =
        named.iter().map(|(name, it)| receiver(name, it.address, types)).collect();
    let server = server(&data.0, &settings);
    let mut peer = Peer::of(&server, APP.1);
    peer.subscribe("room");
    let began = Instant::now();
    for n in 0..EVENTS {
        publish(&server, "room", &format!("e{n}"));
    }
    for n in 0..EVENTS {
        peer.next(&format!("e{n}"));
    }
    assert!(began.elapsed() < Duration::from_secs(20), "nobody waits for a receiver");
    let serials = |it: &Receiver| -> Vec<u64> {
        let place = |it: &Value| {
            let serial = it["message_serial"].as_str().and_then(|it| it.split_once('-'));
            serial.and_then(|(_, place)| place.parse().ok()).expect("a serial")
        };
        all_events(it).iter().map(place).collect()
    };
    until("all of them", || serials(&well).len() >= EVENTS);
    assert!(well.told().len() < EVENTS, "they come in batches");
    // It was told, in time or not.
    until("a failure of each", || {
        webhooks(&data.0, &[]).1.matches("failing since").count() == named.len() - 1
    });
    assert!(webhooks(&data.0, &[]).1.contains("no answer within 300 ms"));
    slow.delays(Duration::ZERO);
    for it in [&resets, &fails, &leads] {
        it.answers(204);
    }
    for (name, it) in named {
        let all: Vec<_> = (1..=EVENTS as u64).collect();
        until(name, || serials(it).into_iter().collect::<BTreeSet<_>>().len() == EVENTS);
        let mut firsts = serials(it);
        let mut seen = BTreeSet::new();
        firsts.retain(|serial| seen.insert(*serial));
        assert_eq!(firsts, all, "{name} has each, in order");
    }
    assert!(leads.told().iter().all(|it| it.field("X-Pusher-Key") == APP.1));
}

#[test]
fn a_private_address_is_told_nothing_unless_it_may() {
    let data = Directory::new();
    let hidden = Receiver::start(200);
    let closed = |url: &str| {
        receiver("hidden", hidden.address, "")
            .replace("allow_private = true\n", "")
            .replace(&format!("http://{}", hidden.address), url)
    };
    let directory = Directory::new();
    let file = directory.write("ringmain.toml", &closed("http://127.0.0.1:9"));
    let mut command = ringmain();
    command.arg("serve").arg("--config").arg(file).args(["--listen", "127.0.0.1:0"]);
    command.arg("--data").arg(&data.0);
    let (code, said) = run(command);
    assert!(code == Some(2) && said.contains("allow_private"), "{said}");
    // A name that leads to this machine, as far as only a resolver knows.
    let server = server(&data.0, &closed(&format!("http://127.1:{}", hidden.address.port())));
    publish(&server, "room", "e");
    until("why it fails", || webhooks(&data.0, &[]).1.contains("its address is private"));
    assert!(hidden.told().is_empty());
}

#[test]
fn an_operator_lists_retries_and_drops_over_http() {
    let data = Directory::new();
    let crm = Receiver::start(422);
    let types = "types = [\"message_version_created\"]\nbatch_max = 1";
    let settings = format!("[admin]\ntoken = \"t0k3n\"\n{}", receiver("crm", crm.address, types));
    let server = server(&data.0, &settings);
    let ask = |method: &str, path: &str| -> (u16, Value) {
        let fields = "Authorization: Bearer t0k3n\r\n";
        let target = format!("/_/webhooks{path}");
        let Answer { status, body, .. } =
            request(&mut server.connect(), method, &target, fields, "");
        (status, serde_json::from_slice(&body).unwrap_or_default())
    };
    assert_eq!(server.fetch("/_/webhooks").status, 401);
    for n in 0..3 {
        publish(&server, "room", &format!("e{n}"));
    }
    until("three dead letters", || {
        ask("GET", "/dead").1["dead"].as_array().map_or(0, Vec::len) == 3
    });
    let (_, said) = ask("GET", "/dead?limit=2");
    assert_eq!((&said["more"], &said["dead"][1]["id"]), (&true.into(), &2.into()));
    assert_eq!(
        (&said["dead"][0]["status"], &said["dead"][0]["why"]),
        (&422.into(), &"refused".into())
    );
    let (_, said) = ask("GET", "/dead?after=2&receiver=crm");
    assert_eq!((&said["more"], &said["dead"][0]["id"]), (&false.into(), &3.into()));
    assert_eq!(ask("DELETE", "/dead/2"), (200, serde_json::json!({"dropped": 1})));
    crm.answers(200);
    assert_eq!(ask("POST", "/dead/retry"), (200, serde_json::json!({"retrying": 2})));
    until("both again", || all_events(&crm).len() == 2);
    until("none that is dead", || ask("GET", "").1["receivers"][0]["dead"] == 0);
    let (_, said) = ask("GET", "");
    assert_eq!(
        (&said["receivers"][0]["name"], &said["receivers"][0]["waiting"]),
        (&"crm".into(), &0.into())
    );
    assert_eq!(ask("POST", "/dead/7/retry").0, 404);
    assert_eq!(ask("GET", "/dead?receiver=erp").0, 404);
    assert_eq!(ask("PUT", "/dead").0, 405);
}
