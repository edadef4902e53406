use std::collections::BTreeSet;

use bytes::Bytes;
use serde_json::{Value, json};

use super::*;
use crate::auth::apps::tests::settings;
use crate::base::event_id::EventId;
use crate::base::ids::AppIndex;
use crate::base::prng::Prng;
use crate::base::time::Nanos;
use crate::broker::{Meta, Mode, Tags};

fn event(serial: u64, name: &str, user_id: &str, run: u8) -> Arc<Event> {
    let data = json!({
        "event": name, "cause": "join", "user_id": user_id, "connection_id": "1.2",
        "user_info": null, "dead_node_id": null, "dedupe_key": "k", "published_at_ms": serial,
    });
    let publisher = Some(Payload(Bytes::from(run.to_string())));
    Arc::new(Event {
        channel: Channel { app: AppIndex(0), name: companion::presence_history("presence-r") },
        serial: Serial(serial),
        epoch: Some(Epoch(7)),
        id: EventId(u128::from(serial)),
        at: UnixMillis(1000 + serial),
        arrived: Nanos(0),
        tags: Tags::default(),
        meta: Some(Arc::new(Meta { publisher, ..Meta::default() })),
        guarded: false,
        happening: Happening::Message {
            name: Name::from(name),
            data: Payload(Bytes::from(data.to_string())),
            sender: None,
        },
    })
}

fn stream(oldest: u64, newest: u64) -> Stream {
    Stream {
        mode: Mode::Memory,
        epoch: Epoch(7),
        newest: Serial(newest),
        oldest: Serial(oldest),
        oldest_at: Some(UnixMillis(1000 + oldest)),
        newest_at: Some(UnixMillis(1000 + newest)),
        bytes: 5,
    }
}

/// What is answered to a query by who keeps these events, a page of `most` at a time.
fn answer(kept: &[Arc<Event>], asked: &PageQuery, most: usize) -> Page {
    let is_wanted = |it: &&Arc<Event>| {
        it.serial >= asked.from
            && asked.to.is_none_or(|to| it.serial <= to)
            && asked.to_at.is_none_or(|to| it.at <= to)
    };
    let wanted: Vec<_> = kept.iter().filter(is_wanted).cloned().collect();
    let has_more = wanted.len() > most;
    let oldest = kept.first().map_or(1, |it| it.serial.0);
    let newest = kept.last().map_or(0, |it| it.serial.0);
    let events = wanted.into_iter().take(most).collect();
    Page { stream: stream(oldest, newest), events, has_more }
}

fn snapshot(kept: &[Arc<Event>], given: &[(&str, u64)], present: Option<&[Arc<Member>]>) -> Value {
    let value =
        |name: &str| given.iter().find(|it| it.0 == name).map(|(_, number)| number.to_string());
    let mut it = Snapshot::read(&value).unwrap();
    while it.take(&answer(kept, &it.query(), 3)) {}
    serde_json::from_slice(&it.write("presence-r", present)).unwrap()
}

fn ids(snapshot: &Value) -> Vec<&str> {
    let members = snapshot["members"].as_array().unwrap();
    assert_eq!(snapshot["member_count"], members.len());
    members.iter().map(|it| it["user_id"].as_str().unwrap()).collect()
}

#[test]
fn a_snapshot_is_who_was_there() {
    let mut chance = Prng::new(9);
    for _ in 0..200 {
        let mut kept = Vec::new();
        let mut run = 0;
        let mut present = BTreeSet::new();
        // Who is there after each event.
        let mut after = vec![present.clone()];
        for serial in 1..=1 + chance.below(20) {
            if chance.chance(1, 10) {
                run += 1;
                present.clear();
            }
            let user_id = format!("u{}", chance.below(4));
            let name = match (present.contains(&user_id), chance.chance(1, 2)) {
                (false, _) => "member_added",
                (true, true) => "member_updated",
                (true, false) => "member_removed",
            };
            match name {
                "member_removed" => present.remove(&user_id),
                _ => present.insert(user_id.clone()),
            };
            kept.push(event(serial, name, &user_id, run));
            after.push(present.clone());
        }
        let last = kept.len() as u64;
        let it = snapshot(&kept, &[], None);
        assert!(ids(&it).into_iter().eq(present.iter().map(String::as_str)));
        assert_eq!((&it["events_replayed"], &it["snapshot_serial"]), (&json!(last), &json!(last)));
        assert_eq!(it["continuity"]["complete"], true);
        let at = 1 + chance.below(last);
        for bound in [("at_serial", at), ("at_time_ms", 1000 + at), ("at", 1000 + at)] {
            let it = snapshot(&kept, &[bound], Some(&[]));
            assert!(ids(&it).into_iter().eq(after[at as usize].iter().map(String::as_str)));
            assert_eq!(
                (&it["snapshot_time_ms"], &it["events_replayed"]),
                (&json!(1000 + at), &json!(at))
            );
        }
        // Of this moment, only those who are there.
        assert!(ids(&snapshot(&kept, &[], Some(&[]))).is_empty());
    }
}

#[test]
fn a_snapshot_says_what_it_does_not_know() {
    let kept = [event(5, "member_updated", "ann", 0), event(6, "member_added", "bob", 0)];
    let it = snapshot(&kept, &[], None);
    assert_eq!(ids(&it), ["ann", "bob"]);
    assert_eq!(
        it["members"][0],
        json!({
            "user_id": "ann", "last_event": "member_updated", "last_event_serial": 5, "last_event_at_ms": 1005,
        })
    );
    assert_eq!(it["continuity"]["truncated_by_retention"], true);
    assert_eq!(it["continuity"]["complete"], false);
    let none = snapshot(&[], &[], None);
    assert_eq!((&none["members"], &none["snapshot_serial"]), (&json!([]), &Value::Null));
    let wrong = Snapshot::read(&|name| (name == "at_serial").then(|| "x".into())).unwrap_err();
    assert!(wrong.contains("at_serial is not a whole number"), "{wrong}");
}

#[test]
fn a_page_tells_what_happened_and_why() {
    let apps = Apps::new(&[settings("1", "k", "s")]);
    let app = apps.with_id("1").unwrap();
    let value = |given: &'static str| move |name: &str| (name == given).then(|| "1".to_owned());
    let query = read(&apps, app, "presence-r", 100, &value("limit")).unwrap();
    let kept = [event(1, "member_added", "ann", 0), event(2, "member_removed", "ann", 0)];
    let page = Page { stream: stream(1, 2), events: vec![kept[1].clone()], has_more: true };
    let it: Value = serde_json::from_slice(&write_page(&query, app, "presence-r", &page)).unwrap();
    let presence: Value = match &kept[1].happening {
        Happening::Message { data, .. } => serde_json::from_slice(&data.0).unwrap(),
        _ => unreachable!(),
    };
    let bytes = presence.to_string().len();
    assert_eq!(
        it["items"],
        json!([{
            "stream_id": Epoch(7).to_string(), "serial": 2, "published_at_ms": 1002, "event": "member_removed",
            "cause": "join", "user_id": "ann", "connection_id": "1.2", "dead_node_id": null,
            "payload_size_bytes": bytes, "presence_event": presence,
        }])
    );
    assert_eq!(
        it["bounds"],
        json!({
            "start_serial": null, "end_serial": null, "start_time_ms": null, "end_time_ms": null,
        })
    );
    assert_eq!(it["continuity"]["retained_events"], 2);
    assert_eq!(it["continuity"]["degraded"], false);
    assert_eq!(it["stream_state"]["continuity_proven"], true);
    assert_eq!(it["stream_state"].get("recovery_allowed"), None);
    // Its cursor continues it, and no history of messages.
    let cursor = it["next_cursor"].as_str().unwrap().to_owned();
    let value = |name: &str| (name == "cursor").then(|| cursor.clone());
    let next = read(&apps, app, "presence-r", 100, &value).unwrap();
    assert_eq!(page_of(&next).to, Some(Serial(1)));
    assert!(HistoryQuery::read(&apps, app, "presence-r", 100, &value).is_err());
}

fn page_of(query: &HistoryQuery) -> PageQuery {
    page(query)
}

#[test]
fn states_and_resets_are_told() {
    let it: Value = serde_json::from_slice(&state("presence-r", &stream(3, 4))).unwrap();
    assert_eq!(it["stream"]["next_serial"], 5);
    assert_eq!(it["stream"]["retained"]["retained_events"], 2);
    assert_eq!(it["stream"]["retained"].get("retained_messages"), None);
    assert_eq!(it["stream"]["state"]["continuity_proven"], true);
    let done = Purged { epoch_before: Epoch(1), stream: stream(1, 0), events: 3, bytes: 30 };
    let it: Value = serde_json::from_slice(&reset("presence-r", "r", None, &done)).unwrap();
    assert_eq!((&it["ok"], &it["operation"]), (&json!(true), &json!("reset")));
    assert_eq!((&it["purged_events"], &it["purged_bytes"]), (&json!(3), &json!(30)));
    assert_eq!(it["previous_stream_id"], Epoch(1).to_string());
    assert_eq!(it["requested_by"], Value::Null);
}
