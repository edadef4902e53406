//! Records written and read back; bytes that are none.

use super::*;
use crate::base::ids::AppIndex;
use crate::store::NEVER;

fn versions() -> Vec<Happening> {
    let json = |text: &'static str| Payload(Bytes::from_static(text.as_bytes()));
    let message = MessageRef { id: EventId(u128::MAX / 3), serial: Serial(7) };
    let bare = Mutated {
        message,
        action: Action::Delete,
        name: None,
        data: None,
        fragment: None,
        keeps_type: false,
        about: About::default(),
    };
    let about = About {
        client_id: Some("ann".into()),
        description: Some("".into()),
        metadata: Some(json("[1]")),
    };
    let full = Mutated {
        action: Action::Append,
        name: Some("n".into()),
        data: Some(json("\"abc\"")),
        fragment: Some(json("\"c\"")),
        keeps_type: true,
        about: about.clone(),
        ..bare.clone()
    };
    let update = Mutated { action: Action::Update, data: Some(json("{}")), about, ..bare.clone() };
    [bare, full, update].map(|it| Happening::Mutated(Arc::new(it))).into()
}

fn annotations() -> Vec<Happening> {
    use Summarizer::{Distinct, Flag, Multiple, Total, Unique};
    let message = MessageRef { id: EventId(1), serial: Serial(u64::MAX) };
    let bare = |summarizer| Annotation {
        message,
        kind: "a:b.v1".into(),
        summarizer,
        name: None,
        client_id: None,
        count: None,
        data: None,
        encoding: None,
    };
    let full = Annotation {
        name: Some("+1".into()),
        client_id: Some("ann".into()),
        count: Some(u64::MAX),
        data: Some(Payload(Bytes::from_static(b"null"))),
        encoding: Some("utf8".into()),
        ..bare(Multiple)
    };
    let all = [bare(Total), bare(Flag), bare(Distinct), bare(Unique), full];
    let back = [None, Some(EventId(5))];
    let each = |it: Annotation| {
        back.map(|takes_back| {
            let annotation = it.clone();
            Happening::Annotated(Arc::new(Annotated { annotation, takes_back }))
        })
    };
    all.into_iter().flat_map(each).collect()
}

fn every_kind() -> Vec<Event> {
    let json = |text: &'static str| Payload(Bytes::from_static(text.as_bytes()));
    let nobody = ConnectionId { shard: ShardId(0), slot: 0, generation: 0 };
    let tag = |name: &str, value: &str| Tag { name: name.into(), value: value.into() };
    let mut events = Vec::new();
    let sender = |user_id| Some(Sender { connection: nobody, user_id });
    let senders = [None, sender(None), sender(Some("ann".into()))];
    let message = |sender| Happening::Message { name: "n".into(), data: json("\"x\""), sender };
    let happenings = senders.into_iter().map(message).chain(versions()).chain(annotations());
    for happening in happenings {
        for meta in [
            None,
            Some(Meta { message_id: Some("m-1".into()), ..Meta::default() }),
            Some(Meta { extras: Some(json("{\"a\":1}")), ..Meta::default() }),
            Some(Meta {
                message_id: Some("é".into()),
                extras: Some(json("{}")),
                ..Meta::default()
            }),
            Some(Meta { publisher: Some(json("{\"uid\":1}")), ..Meta::default() }),
            Some(Meta { was_due: Some(UnixMillis(0)), ..Meta::default() }),
            Some(Meta {
                message_id: Some("".into()),
                extras: Some(json("1")),
                publisher: Some(json("null")),
                was_due: Some(UnixMillis(u64::MAX)),
                client_id: Some("c".into()),
                ..Meta::default()
            }),
        ] {
            for tags in [vec![], vec![tag("a", ""), tag("", "b"), tag("a", "c")]] {
                events.push(Event {
                    channel: Channel { app: AppIndex(3), name: "c".into() },
                    serial: Serial(9),
                    epoch: Some(Epoch(5)),
                    id: EventId(77),
                    at: UnixMillis(1),
                    arrived: Nanos(0),
                    tags: Tags::from(tags),
                    meta: meta.clone().map(Arc::new),
                    guarded: false,
                    happening: happening.clone(),
                });
            }
        }
    }
    events
}

fn record(body: Bytes) -> Record {
    Record { serial: Serial(9), id: EventId(77), at: UnixMillis(1), expires: NEVER, body }
}

#[test]
fn what_is_encoded_is_decoded() {
    for event in every_kind() {
        let record = record(encode(&event));
        assert_eq!(decode(&record, &event.channel, Epoch(5)), Ok(event));
    }
}

#[test]
fn what_earlier_versions_wrote_is_read() {
    // The layout before there were publishers and due times: name, data, a user, a message id, extras, one tag.
    let body =
        b"\x01\x1f\x01\0\0\0n\x01\0\0\x001\x01\0\0\0u\x01\0\0\0m\x02\0\0\0{}\x01\0\0\0a\x01\0\0\0b";
    let channel = Channel { app: AppIndex(3), name: "c".into() };
    let event = decode(&record(Bytes::from_static(body)), &channel, Epoch(5)).expect("a message");
    assert_eq!(encode(&event), &body[..]);
    assert_eq!(event.tags.value("a"), Some(&"b".into()));
    let meta = event.meta.expect("it has");
    assert_eq!((meta.publisher.as_ref(), meta.was_due), (None, None));
}

#[test]
fn a_cut_or_lengthened_body_is_no_message() {
    for event in every_kind() {
        let body = encode(&event);
        for end in 0..body.len() {
            // A list of tags may end after any of them.
            if let Ok(cut) = decode(&record(body.slice(..end)), &event.channel, Epoch(5)) {
                assert!(cut.tags.as_slice().len() < event.tags.as_slice().len(), "{end}");
            }
        }
        if event.tags == Tags::default() {
            let longer = [&body[..], b"x"].concat();
            let longer = decode(&record(longer.into()), &event.channel, Epoch(5));
            assert_eq!(longer, Err(NotARecord));
        }
        let newer = [&[LAYOUT_ANNOTATED + 1], &body[1..]].concat();
        assert_eq!(decode(&record(newer.into()), &event.channel, Epoch(5)), Err(NotARecord));
    }
}
