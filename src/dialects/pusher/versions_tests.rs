use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use super::super::capabilities::Capabilities;
use super::super::continuity::{Peer, inner, place, positions, told};
use super::super::frames::{View, render};
use super::*;
use crate::base::ids::{AppIndex, ConnectionId, Epoch, Serial};
use crate::base::name::Channel;
use crate::base::time::Nanos;
use crate::broker::versioned::{Annotation, Summarizer};
use crate::broker::{Command, Meta, Replay, Reply, Sender, Tag, Tags};
use crate::dialects::{Input, Session, Words};
use crate::observe::CloseReason;

const LIFE: Epoch = Epoch(0x1111);
const AT: u64 = 1_795_222_954_357;

fn payload(text: &str) -> Payload {
    Payload(Bytes::copy_from_slice(text.as_bytes()))
}

/// An id of a moment, told apart by its last letter.
fn id(last: u64) -> EventId {
    EventId::next(EventId::default(), UnixMillis(AT), u128::from(last))
}

fn event(serial: u64, happening: Happening) -> Event {
    Event {
        channel: Channel { app: AppIndex(0), name: Name::from("c") },
        serial: Serial(serial),
        epoch: Some(LIFE),
        id: id(serial),
        at: UnixMillis(AT + serial),
        arrived: Nanos::default(),
        tags: Tags::default(),
        meta: None,
        guarded: false,
        happening,
    }
}

fn message(serial: u64, data: &str) -> Event {
    event(serial, Happening::Message { name: Name::from("e"), data: payload(data), sender: None })
}

/// The message that was published in place 4.
fn target() -> MessageRef {
    MessageRef { id: id(4), serial: Serial(4) }
}

fn version(serial: u64, action: Action) -> Mutated {
    let fragment = (action == Action::Append).then(|| payload(r#""!""#));
    Mutated {
        message: target(),
        action,
        name: Some(Name::from("e")),
        data: Some(payload(&format!(r#""text{serial}!""#))),
        fragment,
        keeps_type: false,
        about: About::default(),
    }
}

fn mutation(serial: u64, it: Mutated) -> Event {
    event(serial, Happening::Mutated(Arc::new(it)))
}

fn meta(event: Event, meta: Meta) -> Event {
    Event { meta: Some(Arc::new(meta)), ..event }
}

fn two(shown: Shown) -> View {
    View::Two { shown, has_versions: true }
}

fn shown(view: View, event: &Event) -> Value {
    let mut out = Vec::new();
    assert!(render(view, event, &mut out), "{event:?}");
    serde_json::from_slice(&out).unwrap()
}

fn headers(action: &str, serial: u64, version: String) -> Value {
    json!({"sockudo_action": action, "sockudo_message_serial": target().to_string(),
        "sockudo_version_serial": version, "sockudo_history_serial": 4.0,
        "sockudo_version_timestamp_ms": (AT + serial) as f64})
}

#[test]
fn a_message_that_is_kept_says_that_it_is_the_first_version_of_itself() {
    let it = message(4, r#"{"n":1}"#);
    let mut out = Vec::new();
    assert!(render(two(Shown::Added), &it, &mut out));
    let name = target();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        format!(
            r#"{{"event":"e","channel":"c","data":"{{\"n\":1}}","message_id":"{}","stream_id":"{LIFE}","serial":4,"extras":{{"headers":{{"sockudo_action":"message.create","sockudo_message_serial":"{name}","sockudo_version_serial":"{name}","sockudo_history_serial":4.0,"sockudo_version_timestamp_ms":{}.0}}}}}}"#,
            id(4),
            AT + 4
        )
    );
    // Not where versions are switched off, not of what is not kept, and never in version 7.
    let off = View::Two { shown: Shown::Added, has_versions: false };
    assert_eq!(shown(off, &it).get("extras"), None);
    let unkept = Event { epoch: None, ..it.clone() };
    assert_eq!(shown(two(Shown::Added), &unkept).get("extras"), None);
    assert_eq!(
        shown(View::Seven, &it),
        json!({"event": "e", "channel": "c", "data": r#"{"n":1}"#})
    );
}

#[test]
fn what_a_publisher_says_stands_beside_what_the_server_says() {
    let extras = r#"{ "ref":{"a":[1.0]}, "headers" : {"h":1.0,"b":true,"sockudo_action":"forged"},"echo":false}"#;
    let it = meta(message(4, "1"), Meta { extras: Some(payload(extras)), ..Meta::default() });
    let mut headers = headers("message.create", 4, target().to_string());
    headers["h"] = json!(1.0);
    headers["b"] = json!(true);
    assert_eq!(
        shown(two(Shown::Added), &it)["extras"],
        json!({"ref": {"a": [1.0]}, "echo": false, "headers": headers})
    );
}

#[test]
fn a_version_is_told_as_its_mode_says() {
    let tags = vec![Tag { name: Name::from("t"), value: Name::from("1") }];
    let update = Mutated {
        data: Some(payload(r#"{"n":2}"#)),
        keeps_type: true,
        about: About { client_id: Some(Name::from("ann")), ..About::default() },
        ..version(7, Action::Update)
    };
    let update = Event { tags: Tags::from(tags), ..mutation(7, update) };
    let update = meta(update, Meta { message_id: Some(Name::from("m-1")), ..Meta::default() });
    for mode in [Shown::Added, Shown::Whole] {
        assert_eq!(
            shown(two(mode), &update),
            json!({"event": "sockudo:message.update", "channel": "c", "data": {"n": 2}, "name": "e",
                "user_id": "ann", "tags": {"t": "1"}, "message_id": id(7).to_string(),
                "stream_id": LIFE.to_string(), "serial": 7,
                "extras": {"headers": headers("message.update", 7, id(7).to_string())}})
        );
    }
    // An object that a back end published is told as text until it is updated.
    let text = Mutated { data: Some(payload(r#"{"n":2}"#)), ..version(7, Action::Delete) };
    let text = mutation(7, text);
    assert_eq!(shown(two(Shown::Added), &text)["data"], r#"{"n":2}"#);
    let gone = Mutated { data: None, name: None, ..version(8, Action::Delete) };
    let gone = shown(two(Shown::Added), &mutation(8, gone));
    assert_eq!((gone.get("data"), gone.get("name")), (None, None));
    assert_eq!(gone["event"], "sockudo:message.delete");
    assert_eq!(gone["message_id"], id(8).to_string());
    let of_bob = Meta { client_id: Some(Name::from("bob")), ..Meta::default() };
    assert_eq!(shown(two(Shown::Added), &meta(update.clone(), of_bob))["user_id"], "bob");

    let append = mutation(9, version(9, Action::Append));
    assert_eq!(shown(two(Shown::Added), &append)["data"], "!");
    assert_eq!(shown(two(Shown::Whole), &append)["data"], "text9!");
    for mode in [Shown::Added, Shown::Whole] {
        let it = shown(two(mode), &append);
        assert_eq!(it["event"], "sockudo:message.append");
        assert_eq!(it["extras"]["headers"]["sockudo_action"], "message.append");
    }
    for it in [&update, &append] {
        assert!(!render(View::Seven, it, &mut Vec::new()));
    }
}

#[test]
fn the_latest_version_replaces_whatever_a_client_has() {
    // As a page of history gives it: in the place of the message itself.
    let latest = Event { id: id(9), ..mutation(4, version(9, Action::Append)) };
    let it = shown(two(Shown::Added), &latest);
    assert_eq!(it["event"], "sockudo:message.append");
    assert_eq!((&it["data"], &it["serial"]), (&json!("text9!"), &json!(4)));
    assert_eq!(
        it["extras"]["headers"],
        headers("message.update", 4, id(9).to_string()),
        "clients fold by the action in the headers"
    );
}

#[test]
fn versions_are_items() {
    let item = |event: &Event, shown| {
        let mut out = Vec::new();
        assert!(write_item(event, shown, &mut out));
        let it: Value = serde_json::from_slice(&out).unwrap();
        it
    };
    let sender = Sender { connection: ConnectionId::from_pair(1, 2), user_id: None };
    let create = event(
        4,
        Happening::Message {
            name: Name::from("client-e"),
            data: payload("{}"),
            sender: Some(sender),
        },
    );
    let create = meta(create, Meta { client_id: Some(Name::from("ann")), ..Meta::default() });
    assert_eq!(
        item(&create, Shown::Added),
        json!({"event": "sockudo:message.create", "channel": "c", "data": {}, "name": "client-e",
            "serial": 4, "extras": {"headers": headers("message.create", 4, target().to_string())},
            "action": "create", "message_serial": target().to_string(), "history_serial": 4,
            "delivery_serial": 4, "version": {"serial": target().to_string(),
                "timestamp_ms": AT + 4, "client_id": "ann"}})
    );
    let about = About {
        client_id: Some(Name::from("bob")),
        description: Some(Name::from("more")),
        metadata: Some(payload(r#"[{"a":1}]"#)),
    };
    let append = mutation(9, Mutated { about, ..version(9, Action::Append) });
    assert_eq!(
        item(&append, Shown::Added),
        json!({"event": "sockudo:message.append", "channel": "c", "data": "!", "name": "e",
            "serial": 9, "extras": {"headers": headers("message.append", 9, id(9).to_string())},
            "action": "append", "message_serial": target().to_string(), "history_serial": 4,
            "delivery_serial": 9, "version": {"serial": id(9).to_string(), "timestamp_ms": AT + 9,
                "client_id": "bob", "description": "more", "metadata": [{"a": 1}]}})
    );
    assert_eq!(item(&append, Shown::Whole)["data"], "text9!");
    for no_version in [event(5, Happening::Occupied), Event { epoch: None, ..message(5, "1") }] {
        let mut out = Vec::new();
        assert!(!write_item(&no_version, Shown::Whole, &mut out) && out.is_empty());
    }
}

#[test]
fn annotations_are_told_one_by_one_and_all_together() {
    let annotation = Annotation {
        message: target(),
        kind: Name::from("reactions:distinct.v1"),
        summarizer: Summarizer::Distinct,
        name: Some(Name::from("li\"ke")),
        client_id: Some(Name::from("ann")),
        count: Some(3),
        data: Some(payload(r#"{"a":1}"#)),
        encoding: Some(Name::from("json")),
    };
    let said = Annotated { annotation: annotation.clone(), takes_back: None };
    let said = event(6, Happening::Annotated(Arc::new(said)));
    let what = json!({"action": "annotation.create", "id": id(6).to_string(),
        "serial": id(6).to_string(), "messageSerial": target().to_string(),
        "type": "reactions:distinct.v1", "name": "li\"ke", "clientId": "ann", "count": 3,
        "data": {"a": 1}, "encoding": "json", "timestamp": AT + 6});
    assert_eq!(
        shown(two(Shown::Added), &said),
        json!({"event": "sockudo_internal:annotation", "channel": "c", "data": what,
            "message_id": id(6).to_string(), "stream_id": LIFE.to_string(), "serial": 6,
            "extras": {"headers": {"sockudo_action": "annotation.create",
                "sockudo_message_serial": target().to_string()}}})
    );
    let bare = Annotation {
        name: None,
        client_id: None,
        count: None,
        data: None,
        encoding: None,
        ..annotation
    };
    let back = Annotated { annotation: bare, takes_back: Some(id(6)) };
    let back = event(7, Happening::Annotated(Arc::new(back)));
    assert_eq!(
        shown(two(Shown::Added), &back)["data"],
        json!({"action": "annotation.delete", "serial": id(7).to_string(),
            "messageSerial": target().to_string(), "type": "reactions:distinct.v1",
            "timestamp": AT + 7})
    );
    let summary = Summarized {
        message: target(),
        kind: Name::from("reactions:total.v1"),
        summary: payload(r#"{"total":2}"#),
    };
    let summary = Event {
        epoch: None,
        serial: Serial(0),
        ..event(0, Happening::Summarized(Arc::new(summary)))
    };
    assert_eq!(
        shown(two(Shown::Added), &summary),
        json!({"event": "sockudo_internal:message", "channel": "c", "data": {
            "action": "message.summary", "serial": target().to_string(),
            "annotations": {"summary": {"reactions:total.v1": {"total": 2}}}},
            "extras": {"ephemeral": true}})
    );
    for it in [&said, &back, &summary] {
        assert!(!render(View::Seven, it, &mut Vec::new()));
    }
}

#[test]
fn modes_are_a_list_of_words() {
    for (data, wants) in [
        ("{}", Some(false)),
        (r#"{"modes":null}"#, Some(false)),
        (r#"{"modes":[]}"#, Some(false)),
        (r#"{"modes":["SUBSCRIBE"]}"#, Some(false)),
        (r#"{"modes":["SUBSCRIBE","ANNOTATION_SUBSCRIBE"]}"#, Some(true)),
        (r#"{"modes":["annotation_subscribe",7]}"#, Some(false)),
        (r#"{"modes":"ANNOTATION_SUBSCRIBE"}"#, None),
        (r#"{"modes":{"ANNOTATION_SUBSCRIBE":1}}"#, None),
    ] {
        assert_eq!(wants_annotations(json::parse_str(data).unwrap()), wants, "{data}");
    }
}

fn first() -> MessageRef {
    MessageRef { id: EventId(1), serial: Serial(1) }
}

fn summary_of(kind: &str) -> Arc<Summarized> {
    let summary = payload(r#"{"total":1}"#);
    Arc::new(Summarized { message: first(), kind: Name::from(kind), summary })
}

/// A message in place 1, an annotation of it, and what is appended to it.
fn past(peer: &Peer) -> Replay {
    let annotation = Annotation {
        message: first(),
        kind: Name::from("t:total.v1"),
        summarizer: Summarizer::Total,
        name: None,
        client_id: None,
        count: None,
        data: None,
        encoding: None,
    };
    let append = Mutated {
        message: first(),
        action: Action::Append,
        name: Some(Name::from("e")),
        data: Some(Payload(Bytes::from_static(b"\"1!\""))),
        fragment: Some(Payload(Bytes::from_static(b"\"!\""))),
        keeps_type: false,
        about: About::default(),
    };
    let happenings = [
        Happening::Annotated(Arc::new(Annotated { annotation, takes_back: None })),
        Happening::Mutated(Arc::new(append)),
    ];
    let mut replay = peer.replay("c", 1, 1);
    for (serial, happening) in (2..).zip(happenings) {
        replay.events.push(Arc::new(Event { happening, ..peer.event("c", serial) }));
    }
    replay.position = place(3);
    replay
}

#[test]
fn what_is_said_about_messages_follows_the_acknowledgement() {
    let mut peer = Peer::new("");
    peer.summaries = vec![summary_of("a:total.v1"), summary_of("b:total.v1")];
    peer.say("sockudo:subscribe", json!({"channel": "c"}));
    let heard = peer.reply(peer.subscribed("c", Some(7), None));
    assert_eq!(told(&heard), ["subscription_succeeded", "message", "message"]);
    assert_eq!(heard[1]["data"]["annotations"]["summary"], json!({"a:total.v1": {"total": 1}}));
    assert_eq!(heard[1]["channel"], "c");
    // Where nothing is kept there is nothing to say, and version 7 is told nothing.
    peer.say("sockudo:subscribe", json!({"channel": "unkept"}));
    let heard = peer.reply(peer.subscribed("unkept", None, None));
    assert_eq!(told(&heard), ["subscription_succeeded"]);
    // No more than may be sent of the past at once, and then the newest.
    peer.session.shared = Arc::new(super::super::Shared {
        apps: peer.session.shared.apps.clone(),
        settings: peer.session.shared.settings.clone(),
        replay_bytes_max: 600,
        reports: super::super::Reports::default(),
        version_two: peer.session.shared.version_two.clone(),
        push_rules: Arc::default(),
        ..*peer.session.shared
    });
    peer.summaries = (0..9).map(|n| summary_of(&format!("{n}:total.v1"))).collect();
    peer.say("sockudo:subscribe", json!({"channel": "d"}));
    let heard = peer.reply(peer.subscribed("d", Some(7), None));
    assert_eq!(told(&heard), ["subscription_succeeded"], "there is enough that is not read yet");
    let heard = peer.hear(Input::Pong);
    assert!((1..4).contains(&heard.len()), "{heard:?}");
    let last = heard.last().unwrap();
    assert_eq!(last["data"]["annotations"]["summary"], json!({"8:total.v1": {"total": 1}}));
}

#[test]
fn a_channel_given_up_is_told_nothing_of() {
    let mut peer = Peer::new("");
    peer.summaries = vec![summary_of("a:total.v1")];
    for name in ["a", "b"] {
        peer.say("sockudo:subscribe", json!({"channel": name, "rewind": 1}));
    }
    // It waits behind two that begin in the past.
    peer.say("sockudo:subscribe", json!({"channel": "c"}));
    let (ticket, _) = peer.asked.remove(2);
    let heard = peer.hear(Input::Reply(ticket, peer.subscribed("c", Some(7), None)));
    assert_eq!(told(&heard), ["subscription_succeeded"]);
    peer.say("sockudo:unsubscribe", json!({"channel": "c"}));
    let heard = peer.reply(peer.subscribed("a", None, None));
    assert_eq!(told(&heard), ["subscription_succeeded", "rewind_complete"]);
}

#[test]
fn each_annotation_is_told_to_who_may_and_wants_to_hear_it() {
    let modes = json!({"channel": "c", "modes": ["SUBSCRIBE", "ANNOTATION_SUBSCRIBE"]});
    let mut peer = Peer::new("");
    let heard = peer.say("sockudo:subscribe", modes.clone());
    let text = "Connection is not allowed to receive raw annotations for channel 'c'";
    assert_eq!(heard[0]["data"], json!({"code": 4009, "message": text}));
    assert!(peer.asked.is_empty());

    let lane = |peer: &Peer| match &peer.asked[0].1 {
        Command::Subscribe(subscribe) => subscribe.lane,
        other => panic!("{other:?}"),
    };
    peer.say("sockudo:subscribe", json!({"channel": "c", "rewind": 3}));
    let plain = lane(&peer);
    let past_of = past(&peer);
    let heard = peer.reply(peer.subscribed("c", Some(3), Some(Ok(past_of))));
    assert_eq!(told(&heard), ["subscription_succeeded", "1", "message.append", "rewind_complete"]);
    assert_eq!(
        (&heard[2]["data"], &heard[3]["data"]["historical_count"]),
        (&json!("!"), &json!(2))
    );

    let mut peer = Peer::new("append_mode=full");
    let claim = json::parse_str(r#"{"*":["subscribe","history","annotation-subscribe"]}"#).unwrap();
    peer.session.two.as_mut().unwrap().signed_in = Capabilities::read(claim).ok().map(Box::new);
    let mut asked = modes;
    asked["rewind"] = json!(3);
    peer.say("sockudo:subscribe", asked);
    assert_ne!(lane(&peer), plain);
    let past_of = past(&peer);
    let heard = peer.reply(peer.subscribed("c", Some(3), Some(Ok(past_of))));
    assert_eq!(
        told(&heard),
        ["subscription_succeeded", "1", "annotation", "message.append", "rewind_complete"]
    );
    assert_eq!(heard[3]["data"], "1!");
    // Continued, in the lane of the subscription that stands.
    peer.say("sockudo:resume", positions(&[("c", 0)]));
    let past_of = Replay { position: place(9), ..past(&peer) };
    let heard = peer.reply(Reply::Replayed(Box::new(Ok(past_of))));
    let success = inner(heard.last().unwrap());
    assert_eq!(success["recovered"][0]["position"]["last_message_id"], EventId(3).to_string());
}

#[test]
fn a_peer_of_another_format_hears_everything_in_it() {
    for format in ["messagepack", "protobuf"] {
        let mut peer = Peer::new(&format!("format={format}"));
        peer.summaries = vec![summary_of("a:total.v1")];
        assert_eq!(peer.say("pusher:ping", json!({})), [json!({"event": "sockudo:pong"})]);
        peer.say("sockudo:subscribe", json!({"channel": "c", "rewind": 3}));
        let past_of = past(&peer);
        let heard = peer.reply(peer.subscribed("c", Some(3), Some(Ok(past_of))));
        assert_eq!(
            told(&heard),
            ["subscription_succeeded", "1", "message.append", "rewind_complete", "message"]
        );
        assert_eq!(heard[2]["extras"]["headers"]["sockudo_action"], "message.append");
        assert_eq!(heard[4]["extras"], json!({"ephemeral": true}));
        let farewell = peer.session.farewell(CloseReason::Drain).unwrap();
        let Some(Words::Binary(bytes)) = farewell.message else { panic!("{farewell:?}") };
        let last = peer.session.format().decode(&bytes).unwrap();
        assert!(last.starts_with(r#"{"event":"sockudo:error","data":{"code":4200,"#), "{last}");
        let heard = peer.hear(Input::Text(r#"{"event":"sockudo:ping"}"#));
        let text = heard[0]["data"]["message"].as_str().unwrap();
        assert!(text.contains(&format!("this connection speaks {format}")), "{text}");
    }
    let farewell = Peer::new("").session.farewell(CloseReason::SlowConsumer).unwrap();
    assert!(matches!(farewell.message, Some(Words::Text(text)) if text.contains("sockudo:error")));
}
