use std::sync::Arc;

use super::*;
use crate::base::ids::{AppIndex, Serial};
use crate::base::name::Channel;
use crate::base::time::{Nanos, UnixMillis};
use crate::broker::{self, Meta, Payload, Tags};

fn event(channel: &str, name: &str, data: &str, brief: Option<Brief>) -> Event {
    let meta = brief.map(|it| Meta { brief: broker::Brief::new(Arc::new(it)), ..Meta::default() });
    Event {
        channel: Channel { app: AppIndex(0), name: channel.into() },
        serial: Serial(1),
        epoch: None,
        id: Default::default(),
        at: UnixMillis(0),
        arrived: Nanos(0),
        tags: Tags::default(),
        meta: meta.map(Arc::new),
        guarded: false,
        happening: Happening::Message {
            name: name.into(),
            data: Payload(bytes::Bytes::copy_from_slice(data.as_bytes())),
            sender: None,
        },
    }
}

fn shown(event: &Event, filtered: Option<&str>) -> (String, String) {
    let (mut frame, mut lines) = (Vec::new(), Vec::new());
    assert_eq!(text(event, None, filtered, &mut frame), !frame.is_empty());
    assert_eq!(piece(event, filtered, &mut lines), !lines.is_empty());
    (String::from_utf8(frame).unwrap(), String::from_utf8(lines).unwrap())
}

#[test]
fn events_are_told_as_clients_read_them() {
    // Channel, name, data; the stream's name, the payload of the frame, the data of the event stream.
    for (channel, name, data, stream, payload, lines) in [
        (
            "#timeline:7",
            "update",
            r#"{"a":"b\n"}"#,
            r#"["user"]"#,
            r#""{\"a\":\"b\\n\"}""#,
            r#"{"a":"b\n"}"#,
        ),
        ("#timeline:7", "x", " [1, 2]\n", r#"["user"]"#, r#""[1, 2]""#, "[1, 2]"),
        ("#timeline:7", "x", "{\r\n}", r#"["user"]"#, r#""{\r\n}""#, "{\ndata: }"),
        ("#timeline:7:notifications", "delete", r#""5""#, r#"["user"]"#, r#""5""#, "5"),
        (
            "#timeline:list:5",
            "x",
            r#""a\u0062\"\nc""#,
            r#"["list","5"]"#,
            r#""a\u0062\"\nc""#,
            "ab\"\ndata: c",
        ),
        ("#timeline:direct:7", "x", "5.0", r#"["direct"]"#, "5.0", "5.0"),
        ("#timeline:direct:7", "x", "true", r#"["direct"]"#, "true", "true"),
        ("#timeline:hashtag:ü", "delete", r#""5""#, r#"["hashtag","ü"]"#, r#""5""#, "5"),
        (
            "#timeline:hashtag:a:local",
            "delete",
            r#""5""#,
            r#"["hashtag:local","a"]"#,
            r#""5""#,
            "5",
        ),
        ("Cats", "x", r#""5""#, r#"["hashtag","cats"]"#, r#""5""#, "5"),
        ("cats", "update", "{}", r#"["hashtag","cats"]"#, r#""{}""#, "{}"),
    ] {
        let frame = format!(r#"{{"stream":{stream},"event":"{name}","payload":{payload}}}"#);
        let lines = format!("event: {name}\ndata: {lines}\n\n");
        assert_eq!(shown(&event(channel, name, data, None), None), (frame, lines), "{data}");
    }
    // Without a payload there is none, which an event stream cannot say but as it does at Mastodon's.
    let nothing = event("#timeline:7", "filters_changed", "null", None);
    let frame = r#"{"stream":["user"],"event":"filters_changed"}"#.to_owned();
    let lines = "event: filters_changed\ndata: undefined\n\n".to_owned();
    assert_eq!(shown(&nothing, None), (frame, lines));
    // A name of another protocol's may be anything.
    let odd = event("cats", "a\"b\nc", "1", None);
    let frame = r#"{"stream":["hashtag","cats"],"event":"a\"b\nc","payload":1}"#.to_owned();
    assert_eq!(shown(&odd, None), (frame, "event: a\"bc\ndata: 1\n\n".to_owned()));
}

#[test]
fn judged_statuses_say_what_is_filtered() {
    let has = || Some(Brief { has_filtered: true, ..Brief::default() });
    for (channel, name, data, brief, filtered, expected) in [
        ("#timeline:public", "update", r#"{"a":1}"#, None, None, r#"{"a":1,"filtered":[]}"#),
        (
            "#timeline:public",
            "update",
            r#"{"a":1}"#,
            Some(Brief::default()),
            None,
            r#"{"a":1,"filtered":[]}"#,
        ),
        (
            "#timeline:public",
            "update",
            r#"{"a":1}"#,
            None,
            Some("[2]"),
            r#"{"a":1,"filtered":[2]}"#,
        ),
        ("#timeline:hashtag:a", "status.update", "{ }\n", None, None, r#"{"filtered":[]}"#),
        ("#timeline:public", "update", r#"{"a":1 }"#, None, None, r#"{"a":1,"filtered":[]}"#),
        ("#timeline:public", "update", r#"{"filtered":[3]}"#, None, None, r#"{"filtered":[3]}"#),
        ("#timeline:public", "update", r#"{"filtered":[3]}"#, has(), None, r#"{"filtered":[3]}"#),
        (
            "#timeline:public",
            "update",
            r#"{"filtered":null}"#,
            None,
            Some("[2]"),
            r#"{"filtered":null}"#,
        ),
        (
            "#timeline:public",
            "update",
            r#"{"a":{"filtered":1}}"#,
            None,
            None,
            r#"{"a":{"filtered":1},"filtered":[]}"#,
        ),
        ("#timeline:public", "update", "[1]", None, None, "[1]"),
        ("#timeline:public", "else", r#"{"a":1}"#, None, None, r#"{"a":1}"#),
        ("#timeline:7", "update", r#"{"a":1}"#, None, None, r#"{"a":1}"#),
        ("#timeline:list:7", "update", r#"{"a":1}"#, None, None, r#"{"a":1}"#),
        ("cats", "update", r#"{"a":1}"#, None, None, r#"{"a":1}"#),
    ] {
        let event = event(channel, name, data, brief);
        let (frame, lines) = shown(&event, filtered);
        assert_eq!(lines, format!("event: {name}\ndata: {expected}\n\n"), "{data}");
        let frame = json::parse_str(&frame).unwrap();
        let payload = frame.member("payload").and_then(json::Raw::as_str);
        assert_eq!(payload.as_deref(), Some(expected), "{data}");
    }
}

#[test]
fn what_is_of_no_stream_is_not_told() {
    for channel in ["#timeline:7:device", "#timeline:public:else", "#else"] {
        let (frame, _) = {
            let (mut frame, mut lines) = (b"before".to_vec(), Vec::new());
            let event = event(channel, "x", "1", None);
            assert!(!text(&event, None, None, &mut frame), "{channel}");
            piece(&event, None, &mut lines);
            (frame, lines)
        };
        assert_eq!(frame, b"before");
    }
    let occupied = Event { happening: Happening::Occupied, ..event("#timeline:7", "x", "1", None) };
    assert_eq!(shown(&occupied, None), (String::new(), String::new()));
    // Something is shown of what the system says, or no session would be handed it.
    let (frame, lines) = shown(&event("#timeline:system:7", "kill", "null", None), None);
    assert_eq!((&*frame, &*lines), ("{}", ":\n\n"));
}
