use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use super::super::frames::{View, render};
use super::*;
use crate::base::ids::{AppIndex, ConnectionId, Epoch, Serial};
use crate::base::name::Channel;
use crate::base::time::Nanos;
use crate::broker::versioned::{Annotation, Summarizer};
use crate::broker::{Meta, Sender, Tag, Tags};

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
                "user_id": "ann", "tags": {"t": "1"}, "message_id": "m-1",
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
    assert_eq!(gone["message_id"], id(4).to_string());

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
