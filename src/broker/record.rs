//! A message as bytes for the store, and back.
//!
//! A byte for the layout, a byte of flags, then the parts that the flags name, each behind its length in four
//! bytes, little end first. What the record carries itself (serial, id, time) is not repeated.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use super::{Event, Happening, Meta, Payload, Sender, Tag, Tags};
use crate::base::ids::{ConnectionId, Epoch, ShardId};
use crate::base::name::{Channel, Name};
use crate::base::time::{Nanos, UnixMillis};
use crate::store::Record;

const LAYOUT: u8 = 1;

const HAS_SENDER: u8 = 1;
const HAS_USER: u8 = 1 << 1;
const HAS_MESSAGE_ID: u8 = 1 << 2;
const HAS_EXTRAS: u8 = 1 << 3;
const HAS_TAGS: u8 = 1 << 4;
const HAS_PUBLISHER: u8 = 1 << 5;
const HAS_WAS_DUE: u8 = 1 << 6;
const HAS_CLIENT: u8 = 1 << 7;

/// Bytes that are no message, or of a layout this version does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotARecord;

/// The body of a message's record; empty for what is no message, which is never kept.
pub(super) fn encode(event: &Event) -> Bytes {
    let Happening::Message { name, data, sender } = &event.happening else { return Bytes::new() };
    let user = sender.as_ref().and_then(|it| it.user_id.as_ref());
    let message_id = event.meta.as_ref().and_then(|it| it.message_id.as_ref());
    let extras = event.meta.as_ref().and_then(|it| it.extras.as_ref());
    let publisher = event.meta.as_ref().and_then(|it| it.publisher.as_ref());
    let was_due = event.meta.as_ref().and_then(|it| it.was_due);
    let client_id = event.meta.as_ref().and_then(|it| it.client_id.as_ref());
    let tags = event.tags.as_slice();
    let mut flags = 0;
    for (is_there, flag) in [
        (sender.is_some(), HAS_SENDER),
        (user.is_some(), HAS_USER),
        (message_id.is_some(), HAS_MESSAGE_ID),
        (extras.is_some(), HAS_EXTRAS),
        (!tags.is_empty(), HAS_TAGS),
        (publisher.is_some(), HAS_PUBLISHER),
        (was_due.is_some(), HAS_WAS_DUE),
        (client_id.is_some(), HAS_CLIENT),
    ] {
        flags |= if is_there { flag } else { 0 };
    }
    let mut out = BytesMut::with_capacity(32 + name.len() + data.0.len());
    out.put_u8(LAYOUT);
    out.put_u8(flags);
    let mut part = |bytes: &[u8]| {
        out.put_u32_le(bytes.len() as u32);
        out.put_slice(bytes);
    };
    part(name.as_bytes());
    part(&data.0);
    user.iter().for_each(|it| part(it.as_bytes()));
    message_id.iter().for_each(|it| part(it.as_bytes()));
    extras.iter().for_each(|it| part(&it.0));
    publisher.iter().for_each(|it| part(&it.0));
    was_due.iter().for_each(|it| part(&it.0.to_le_bytes()));
    client_id.iter().for_each(|it| part(it.as_bytes()));
    for tag in tags {
        part(tag.name.as_bytes());
        part(tag.value.as_bytes());
    }
    out.freeze()
}

/// The message of a record. Its sender, if it had one, is no connection of this process.
pub(super) fn decode(
    record: &Record,
    channel: &Channel,
    epoch: Epoch,
) -> Result<Event, NotARecord> {
    let mut rest = record.body.clone();
    if rest.len() < 2 || rest[0] != LAYOUT {
        return Err(NotARecord);
    }
    let flags = rest[1];
    drop(rest.split_to(2));
    let mut part = || {
        let length = rest.first_chunk::<4>().ok_or(NotARecord)?;
        let length = u32::from_le_bytes(*length) as usize;
        drop(rest.split_to(4));
        (length <= rest.len()).then(|| rest.split_to(length)).ok_or(NotARecord)
    };
    let name = text(&part()?)?;
    let data = Payload(part()?);
    let mut optional = |flag: u8| (flags & flag != 0).then(&mut part).transpose();
    let user_id = optional(HAS_USER)?.map(|it| text(&it)).transpose()?;
    let message_id = optional(HAS_MESSAGE_ID)?.map(|it| text(&it)).transpose()?;
    let extras = optional(HAS_EXTRAS)?.map(Payload);
    let publisher = optional(HAS_PUBLISHER)?.map(Payload);
    let was_due = optional(HAS_WAS_DUE)?.map(|it| time(&it)).transpose()?;
    let client_id = optional(HAS_CLIENT)?.map(|it| text(&it)).transpose()?;
    let mut tags = Vec::new();
    if flags & HAS_TAGS != 0 {
        while let Ok(name) = part() {
            tags.push(Tag { name: text(&name)?, value: text(&part()?)? });
        }
    }
    if !rest.is_empty() {
        return Err(NotARecord);
    }
    let nobody = ConnectionId { shard: ShardId(0), slot: 0, generation: 0 };
    let sender = (flags & HAS_SENDER != 0).then_some(Sender { connection: nobody, user_id });
    let meta = Meta { message_id, extras, publisher, was_due, client_id, is_whole: false };
    Ok(Event {
        channel: channel.clone(),
        serial: record.serial,
        epoch: Some(epoch),
        id: record.id,
        at: record.at,
        arrived: Nanos(0),
        tags: Tags::from(tags),
        meta: (meta != Meta::default()).then(|| Arc::new(meta)),
        guarded: false,
        happening: Happening::Message { name, data, sender },
    })
}

fn time(bytes: &[u8]) -> Result<UnixMillis, NotARecord> {
    bytes.try_into().map(|it| UnixMillis(u64::from_le_bytes(it))).map_err(|_| NotARecord)
}

fn text(bytes: &[u8]) -> Result<Name, NotARecord> {
    std::str::from_utf8(bytes).map(Name::from).map_err(|_| NotARecord)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::event_id::EventId;
    use crate::base::ids::{AppIndex, Serial};
    use crate::store::NEVER;

    fn every_kind() -> Vec<Event> {
        let json = |text: &'static str| Payload(Bytes::from_static(text.as_bytes()));
        let nobody = ConnectionId { shard: ShardId(0), slot: 0, generation: 0 };
        let tag = |name: &str, value: &str| Tag { name: name.into(), value: value.into() };
        let mut events = Vec::new();
        for sender in [
            None,
            Some(Sender { connection: nobody, user_id: None }),
            Some(Sender { connection: nobody, user_id: Some("ann".into()) }),
        ] {
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
                    is_whole: false,
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
                        happening: Happening::Message {
                            name: "n".into(),
                            data: json("\"x\""),
                            sender: sender.clone(),
                        },
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
        let body = b"\x01\x1f\x01\0\0\0n\x01\0\0\x001\x01\0\0\0u\x01\0\0\0m\x02\0\0\0{}\x01\0\0\0a\x01\0\0\0b";
        let channel = Channel { app: AppIndex(3), name: "c".into() };
        let event =
            decode(&record(Bytes::from_static(body)), &channel, Epoch(5)).expect("a message");
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
            let newer = [&[LAYOUT + 1], &body[1..]].concat();
            assert_eq!(decode(&record(newer.into()), &event.channel, Epoch(5)), Err(NotARecord));
        }
    }
}
