//! Tables: a message, what is done to it, what it is then.

use super::*;
use crate::base::ids::{AppIndex, ConnectionId, Epoch, ShardId};
use crate::base::name::Channel;
use crate::base::time::{Nanos, UnixMillis};
use crate::broker::versioned::About;
use crate::broker::{Sender, Tag, Tags};

fn json(text: &str) -> Payload {
    Payload(Bytes::from(text.to_owned()))
}

/// A message of a back end (`back`) or a peer.
fn created(by: &str, data: &str) -> Event {
    let connection = ConnectionId { shard: ShardId(0), slot: 1, generation: 1 };
    let sender = (by != "back").then_some(Sender { connection, user_id: None });
    let meta = Meta {
        message_id: Some("m".into()),
        extras: Some(json("{\"a\":1}")),
        was_due: Some(UnixMillis(1)),
        client_id: Some(by.into()),
        ..Meta::default()
    };
    Event {
        channel: Channel { app: AppIndex(0), name: "c".into() },
        serial: Serial(4),
        epoch: Some(Epoch(9)),
        id: EventId(40),
        at: UnixMillis(4),
        arrived: Nanos(4),
        tags: Tags::from(vec![Tag { name: "t".into(), value: "1".into() }]),
        meta: Some(Arc::new(meta)),
        guarded: false,
        happening: Happening::Message { name: "n".into(), data: json(data), sender },
    }
}

/// `update name=x data=1 extras={}`, `-` clears; `delete`, `append data="x"`; `of=client`, `max=bytes`.
fn mutate(words: &str) -> Mutate {
    let (action, words) = words.split_once(' ').unwrap_or((words, ""));
    let mut it = Mutate {
        channel: Channel { app: AppIndex(0), name: "c".into() },
        message: MessageRef { id: EventId(40), serial: Serial(4) },
        action: match action {
            "update" => Action::Update,
            "delete" => Action::Delete,
            "append" => Action::Append,
            other => panic!("{other}"),
        },
        name: Patch::Stay,
        data: Patch::Stay,
        extras: Patch::Stay,
        about: About { client_id: Some("who".into()), ..About::default() },
        only_of: None,
        data_bytes_max: 40,
        exclude: None,
        key: None,
        report: None,
        push: None,
    };
    for word in words.split_whitespace() {
        let (key, value) = word.split_once('=').expect("a word with a value");
        let payload = if value == "-" { Patch::Clear } else { Patch::Set(json(value)) };
        match key {
            "data" => it.data = payload,
            "extras" => it.extras = payload,
            "name" if value == "-" => it.name = Patch::Clear,
            "name" => it.name = Patch::Set(value.into()),
            "of" => it.only_of = Some(value.into()),
            "max" => it.data_bytes_max = value.parse().expect("a number"),
            other => panic!("{other}"),
        }
    }
    it
}

fn apply(version: &Event, words: &str, nth: u64) -> Result<Event, Refusal> {
    let now = Now { steady: Nanos(50 + nth), wall: UnixMillis(50 + nth) };
    mutated(version, &mutate(words), (EventId(50 + u128::from(nth)), Serial(50 + nth)), now)
}

/// Name, data, whether it keeps its type, extras, and what was added.
fn show(event: &Event) -> String {
    let Happening::Mutated(it) = &event.happening else { panic!("{event:?}") };
    let text = |it: Option<&Payload>| {
        it.map_or("-".to_owned(), |it| String::from_utf8_lossy(&it.0).into_owned())
    };
    let extras = event.meta.as_ref().and_then(|it| it.extras.as_ref());
    let name = it.name.as_ref().map_or("-", |it| it);
    let mut shown = format!("{name} {}", text(it.data.as_ref()));
    if it.keeps_type {
        shown.push_str(" typed");
    }
    if extras != Some(&json("{\"a\":1}")) {
        shown.push_str(&format!(" extras {}", text(extras)));
    }
    if it.fragment.is_some() {
        shown.push_str(&format!(" added {}", text(it.fragment.as_ref())));
    }
    shown
}

/// Who published what; what was done to it in turn, and what it was then.
type Case = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

#[test]
fn each_step_gives_the_message_that_comes_after() {
    let cases: &[Case] = &[
        ("back", "\"a\"", &[("update name=x", "x \"a\"")]),
        ("back", "\"a\"", &[("update data={\"b\":1}", "n {\"b\":1} typed")]),
        ("back", "\"a\"", &[("update data=-", "n -"), ("update data=1", "n 1 typed")]),
        ("back", "\"a\"", &[("update name=- extras=-", "- \"a\" extras -")]),
        ("back", "\"a\"", &[("update extras={}", "n \"a\" extras {}")]),
        ("back", "\"a\"", &[("update", "n \"a\"")]),
        // Text is added to, however it is escaped.
        ("back", "\"a\"", &[("append data=\"b\"", "n \"ab\" added \"b\"")]),
        (
            "ann",
            "\"\\u00e9\"",
            &[("append data=\"\\\"\"", "n \"\\u00e9\\\"\" typed added \"\\\"\"")],
        ),
        (
            "back",
            "\"\"",
            &[
                ("append data=\"b\"", "n \"b\" added \"b\""),
                ("append data=\"c\"", "n \"bc\" added \"c\""),
            ],
        ),
        // What a back end published as another value is told as its text; what a peer did is what it is.
        ("back", "{\"b\":1}", &[("append data=\"c\"", "n \"{\\\"b\\\":1}c\" added \"c\"")]),
        ("back", "12", &[("append data=\"3\"", "n \"123\" added \"3\"")]),
        ("ann", "{\"b\":1}", &[("append data=\"c\"", "NotText")]),
        ("ann", "12", &[("append data=\"c\"", "NotText")]),
        ("back", "12", &[("update data=12", "n 12 typed"), ("append data=\"3\"", "NotText")]),
        // Deleted: what it was stays unless it is replaced, and it can come back.
        (
            "back",
            "\"a\"",
            &[
                ("delete", "n \"a\""),
                ("append data=\"b\"", "n \"ab\" added \"b\""),
                ("delete data=-", "n -"),
                ("append data=\"c\"", "NotText"),
                ("update data=\"c\"", "n \"c\" typed"),
                ("delete data={}", "n {} typed"),
            ],
        ),
        // Only its owner, who stays its owner.
        ("ann", "\"a\"", &[("update of=bob data=1", "NotOwner")]),
        ("ann", "\"a\"", &[("update of=ann data=1", "n 1 typed"), ("delete of=ann", "n 1 typed")]),
        // A bound on what is new, not on what was there before.
        ("back", "\"a\"", &[("update max=3 data=\"b\"", "n \"b\" typed")]),
        (
            "back",
            "\"a\"",
            &[("append max=1 data=\"b\"", "DataTooLarge { bytes: 2, bytes_max: 1 }")],
        ),
        ("back", "\"abcdef\"", &[("update max=3 name=x", "x \"abcdef\"")]),
    ];
    for (by, data, steps) in cases {
        let mut version = created(by, data);
        for (nth, (step, expected)) in steps.iter().enumerate() {
            match apply(&version, step, nth as u64) {
                Ok(next) => {
                    assert_eq!(show(&next), *expected, "{by} {data}: {step}");
                    version = next;
                }
                Err(refusal) => assert_eq!(format!("{refusal:?}"), *expected, "{step}"),
            }
        }
    }
}

#[test]
fn a_version_says_whose_it_is_and_keeps_what_filters_see() {
    let first = created("ann", "\"a\"");
    let second = apply(&first, "update data=2", 0).expect("it may");
    let third = apply(&second, "delete", 1).expect("it may");
    for (nth, version) in [&second, &third].into_iter().enumerate() {
        assert_eq!(message_of(version), message_of(&first));
        assert_eq!((version.serial.0, version.id.0), (50 + nth as u64, 50 + nth as u128));
        assert_eq!((version.epoch, &version.tags), (first.epoch, &first.tags));
        assert_eq!(version.channel, first.channel);
        let meta = version.meta.as_ref().expect("it has");
        assert_eq!(
            (meta.message_id.as_deref(), meta.client_id.as_deref()),
            (Some("m"), Some("ann"))
        );
        assert_eq!(meta.was_due, None);
        let Happening::Mutated(it) = &version.happening else { panic!("{version:?}") };
        assert_eq!(it.about.client_id.as_deref(), Some("who"));
    }
    let about_members = Event { happening: Happening::Occupied, ..first };
    assert_eq!(apply(&about_members, "delete", 0), Err(Refusal::NotFound));
    assert_eq!(message_of(&about_members), None);
}
