use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use super::*;
use crate::auth::apps::tests::settings;
use crate::base::event_id::EventId;
use crate::base::ids::{AppIndex, Epoch};
use crate::base::name::{Channel, Name};
use crate::base::time::Nanos;
use crate::broker::{Mode, Payload, Tags};

fn read(apps: &Apps, channel: &str, given: &[(&str, &str)]) -> Result<HistoryQuery, String> {
    let given: BTreeMap<_, _> = given.iter().copied().collect();
    let value = |name: &str| given.get(name).map(|it| (*it).to_owned());
    HistoryQuery::read(apps, apps.with_id("1").unwrap(), channel, 100, &value)
}

fn event(serial: u64) -> Arc<Event> {
    Arc::new(Event {
        channel: Channel { app: AppIndex(0), name: Name::from("c") },
        serial: Serial(serial),
        epoch: Some(Epoch(7)),
        id: EventId(u128::from(serial)),
        at: UnixMillis(1000 + serial),
        arrived: Nanos(0),
        tags: Tags::default(),
        meta: None,
        guarded: false,
        happening: Happening::Message {
            name: Name::from("e"),
            data: Payload(Bytes::from_static(b"\"d\"")),
            sender: None,
        },
    })
}

/// Serials `oldest` to `newest` are kept.
fn stream(oldest: u64, newest: u64) -> Stream {
    let at = |serial| (oldest <= newest).then_some(UnixMillis(1000 + serial));
    Stream {
        mode: Mode::Durable,
        epoch: Epoch(7),
        newest: Serial(newest),
        oldest: Serial(oldest),
        oldest_at: at(oldest),
        newest_at: at(newest),
        bytes: 3 * (newest + 1 - oldest),
    }
}

/// What a store that keeps `stream` answers.
fn answer(asked: &PageQuery, stream: Stream) -> Page {
    let to = asked.to.map_or(stream.newest.0, |it| it.0.min(stream.newest.0));
    let mut serials: Vec<_> = (asked.from.0.max(stream.oldest.0)..=to).collect();
    if asked.is_newest_first {
        serials.reverse();
    }
    let has_more = serials.len() > asked.events_max as usize;
    serials.truncate(asked.events_max as usize);
    Page { stream, events: serials.into_iter().map(event).collect(), has_more }
}

fn written(apps: &Apps, query: &HistoryQuery, page: &Page) -> Value {
    let mut out = Vec::new();
    query.write(apps.with_id("1").unwrap(), "c", page, Bounds::Asked, &mut out);
    serde_json::from_slice(&out).unwrap()
}

#[test]
fn parameters_are_read_or_refused() {
    let apps = Apps::new(&[settings("1", "k", "s")]);
    let asked = |given: &[(&str, &str)]| read(&apps, "c", given).map(|it| it.page(None));
    let plain = asked(&[]).unwrap();
    assert_eq!(
        (plain.events_max, plain.is_newest_first, plain.from, plain.to),
        (100, true, Serial(1), None)
    );
    assert_eq!(asked(&[("limit", "5000")]).unwrap().events_max, 100);
    for (word, newest) in [
        ("newest_first", true),
        ("backwards", true),
        ("reverse", true),
        ("oldest_first", false),
        ("forwards", false),
        ("forward", false),
    ] {
        assert_eq!(asked(&[("direction", word)]).unwrap().is_newest_first, newest, "{word}");
    }
    let bounded =
        [("start_serial", "3"), ("end_serial", "9"), ("start", "5"), ("end_time_ms", "6")];
    let bounded = asked(&bounded).unwrap();
    assert_eq!((bounded.from, bounded.to), (Serial(3), Some(Serial(9))));
    assert_eq!((bounded.from_at, bounded.to_at), (Some(UnixMillis(5)), Some(UnixMillis(6))));
    for (name, value, part) in [
        ("limit", "0", "History limit must be greater than 0"),
        ("limit", "x", "limit is not a whole number"),
        ("limit", "-1", "limit is not a whole number"),
        ("direction", "up", "oldest_first"),
        ("start_serial", "x", "start_serial is not"),
        ("end", "1.5", "end is not"),
        ("cursor", "x", "cursor is not one of this server's"),
    ] {
        let error = read(&apps, "c", &[(name, value)]).unwrap_err();
        assert!(error.contains(part), "{name}={value}: {error}");
    }
}

#[test]
fn pages_continue_exactly_whatever_comes_and_goes_meanwhile() {
    let apps = Apps::new(&[settings("1", "k", "s")]);
    for (direction, expected) in [
        ("newest_first", (1..=10).rev().collect::<Vec<u64>>()),
        // Those that were published meanwhile come, too.
        ("oldest_first", (1..=14).collect()),
    ] {
        let mut kept = stream(1, 10);
        let mut seen = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let mut given = vec![("limit", "3")];
            match &cursor {
                None => given.push(("direction", direction)),
                Some(cursor) => given.push(("cursor", cursor)),
            }
            let query = read(&apps, "c", &given).unwrap();
            let asked = query.page(None);
            assert_eq!(asked.epoch, cursor.as_ref().map(|_| Epoch(7)));
            let page = written(&apps, &query, &answer(&asked, kept));
            assert_eq!(page["direction"], direction);
            seen.extend(
                page["items"].as_array().unwrap().iter().map(|it| it["serial"].as_u64().unwrap()),
            );
            if kept.newest.0 < 14 {
                kept.newest.0 += 1;
            }
            match &page["next_cursor"] {
                Value::String(text) => cursor = Some(text.clone()),
                other => {
                    assert_eq!((other, &page["has_more"]), (&Value::Null, &json!(false)));
                    break;
                }
            }
        }
        assert_eq!(seen, expected, "{direction}");
    }
    // What was trimmed in between is passed over, and nothing else.
    let query = read(&apps, "c", &[("limit", "3"), ("direction", "forward")]).unwrap();
    let page = written(&apps, &query, &answer(&query.page(None), stream(1, 10)));
    let cursor = page["next_cursor"].as_str().unwrap().to_owned();
    let query = read(&apps, "c", &[("limit", "3"), ("cursor", &cursor)]).unwrap();
    let page = answer(&query.page(None), stream(6, 10));
    assert_eq!(page.events.iter().map(|it| it.serial.0).collect::<Vec<_>>(), [6, 7, 8]);
}

#[test]
fn a_cursor_continues_its_own_query_only() {
    let apps = Apps::new(&[settings("1", "k", "s")]);
    let query = read(&apps, "c", &[("limit", "1"), ("start_serial", "2")]).unwrap();
    let page = written(&apps, &query, &answer(&query.page(None), stream(1, 9)));
    let cursor = page["next_cursor"].as_str().unwrap();
    let again = |given: &[(&str, &str)]| {
        let mut all = vec![("cursor", cursor)];
        all.extend(given);
        read(&apps, "c", &all)
    };
    // Clients send what they asked for along, or not.
    for same in [&[][..], &[("start_serial", "2"), ("direction", "reverse"), ("limit", "7")]] {
        let asked = again(same).unwrap().page(None);
        assert_eq!((asked.from, asked.to), (Serial(2), Some(Serial(8))), "{same:?}");
    }
    for other in
        [("start_serial", "3"), ("end_serial", "8"), ("direction", "forward"), ("end", "1")]
    {
        let error = again(&[other]).unwrap_err();
        assert!(error.starts_with("cursor belongs to another query"), "{other:?}: {error}");
    }
    let error = read(&apps, "d", &[("cursor", cursor)]).unwrap_err();
    assert_eq!(error, "cursor belongs to another channel");
}

#[test]
fn a_page_says_what_it_holds_and_what_it_cannot() {
    let apps = Apps::new(&[settings("1", "k", "s")]);
    let query = read(&apps, "c", &[("limit", "1"), ("end_serial", "9")]).unwrap();
    let page = written(&apps, &query, &answer(&query.page(None), stream(3, 9)));
    let id = EventId(9).to_string();
    let stream_id = Epoch(7).to_string();
    assert_eq!(
        page["items"],
        json!([{"stream_id": stream_id, "serial": 9, "published_at_ms": 1009, "message_id": id,
            "event_name": "e", "operation_kind": "append", "payload_size_bytes": 3,
            "message": {"event": "e", "channel": "c", "data": "d", "message_id": id,
                "stream_id": stream_id, "serial": 9, "extras": {"headers": {
                    "sockudo_action": "message.create", "sockudo_message_serial": format!("{id}-9"),
                    "sockudo_version_serial": format!("{id}-9"), "sockudo_history_serial": 9.0,
                    "sockudo_version_timestamp_ms": 1009.0}}}}])
    );
    assert_eq!(
        page["bounds"],
        json!({"start_serial": null, "end_serial": 9, "start_time_ms": null, "end_time_ms": null})
    );
    assert_eq!(
        page["continuity"],
        json!({"stream_id": stream_id, "oldest_available_serial": 3, "newest_available_serial": 9,
            "oldest_available_published_at_ms": 1003, "newest_available_published_at_ms": 1009,
            "retained_messages": 7, "retained_bytes": 21, "complete": false,
            "truncated_by_retention": true})
    );
    assert_eq!(page["stream_state"]["durable_state"], "healthy");
    // An empty stream has a name and nothing else; what was trimmed is missed only by who asks for it.
    let query = read(&apps, "c", &[]).unwrap();
    let page = written(&apps, &query, &answer(&query.page(None), stream(1, 0)));
    assert_eq!((&page["items"], &page["next_cursor"]), (&json!([]), &Value::Null));
    assert_eq!(page["continuity"]["oldest_available_serial"], Value::Null);
    assert_eq!(page["continuity"]["complete"], true);
    for (given, is_cut) in [
        (("start_serial", "3"), false),
        (("start_serial", "2"), true),
        (("start_time_ms", "1003"), false),
        (("start_time_ms", "1002"), true),
    ] {
        let query = read(&apps, "c", &[given]).unwrap();
        let page = written(&apps, &query, &answer(&query.page(None), stream(3, 9)));
        assert_eq!(page["continuity"]["truncated_by_retention"], is_cut, "{given:?}");
        assert_eq!(page["continuity"]["complete"], !is_cut, "{given:?}");
    }
}
