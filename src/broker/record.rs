//! What a channel's history keeps as bytes for the store, and back: a message, a version of one, an annotation.
//!
//! A byte for the layout, which says what it is, flags, then the parts that the flags name, each behind its length in
//! four bytes, little end first. What the record carries itself (serial, id, time) is not repeated.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use super::versioned::{About, Action, Annotated, Annotation, MessageRef, Mutated, Summarizer};
use super::{Event, Happening, Meta, Payload, Sender, Tag, Tags};
use crate::base::event_id::EventId;
use crate::base::ids::{ConnectionId, Epoch, Serial, ShardId};
use crate::base::name::{Channel, Name};
use crate::base::time::{Nanos, UnixMillis};
use crate::store::Record;

/// A message.
const LAYOUT: u8 = 1;
/// A version of one that is not its first.
const LAYOUT_MUTATED: u8 = 2;
/// Something said about one, or taken back.
const LAYOUT_ANNOTATED: u8 = 3;

const HAS_SENDER: u8 = 1;
const HAS_USER: u8 = 1 << 1;
const HAS_MESSAGE_ID: u8 = 1 << 2;
const HAS_EXTRAS: u8 = 1 << 3;
const HAS_TAGS: u8 = 1 << 4;
const HAS_PUBLISHER: u8 = 1 << 5;
const HAS_WAS_DUE: u8 = 1 << 6;
const HAS_CLIENT: u8 = 1 << 7;

/// What an event says of itself beside what happened, in flags of [`LAYOUT`] and in parts.
const META: u8 = HAS_MESSAGE_ID | HAS_EXTRAS | HAS_TAGS | HAS_PUBLISHER | HAS_WAS_DUE | HAS_CLIENT;

// Of a version and of an annotation: a second byte of flags.
const KEEPS_TYPE: u8 = 1;
const HAS_NAME: u8 = 1 << 1;
const HAS_DATA: u8 = 1 << 2;
const HAS_FRAGMENT: u8 = 1 << 3;
const HAS_BY: u8 = 1 << 4;
const HAS_DESCRIPTION: u8 = 1 << 5;
const HAS_METADATA: u8 = 1 << 6;
const HAS_COUNT: u8 = 1 << 3;
const HAS_ENCODING: u8 = 1 << 5;
const TAKES_BACK: u8 = 1 << 6;

/// Bytes that are none of these, or of a layout this version does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotARecord;

/// The body of a record; empty for what is never kept.
pub(super) fn encode(event: &Event) -> Bytes {
    match &event.happening {
        Happening::Message { name, data, sender } => {
            encode_message(event, name, data, sender.as_ref())
        }
        Happening::Mutated(it) => encode_mutated(event, it),
        Happening::Annotated(it) => encode_annotated(event, it),
        _ => Bytes::new(),
    }
}

fn encode_message(event: &Event, name: &Name, data: &Payload, sender: Option<&Sender>) -> Bytes {
    let user = sender.and_then(|it| it.user_id.as_ref());
    let flags = meta_flags(event) | flag(sender, HAS_SENDER) | flag(user, HAS_USER);
    let mut out = Writer(BytesMut::with_capacity(32 + name.len() + data.0.len()));
    out.0.put_slice(&[LAYOUT, flags]);
    out.part(name.as_bytes());
    out.part(&data.0);
    out.part_if(user.map(|it| it.as_bytes()));
    out.meta(event);
    out.0.freeze()
}

fn encode_mutated(event: &Event, it: &Mutated) -> Bytes {
    let data = it.data.as_ref();
    let About { client_id, description, metadata } = &it.about;
    let flags = flag(it.keeps_type.then_some(()).as_ref(), KEEPS_TYPE)
        | flag(it.name.as_ref(), HAS_NAME)
        | flag(data, HAS_DATA)
        | flag(it.fragment.as_ref(), HAS_FRAGMENT)
        | flag(client_id.as_ref(), HAS_BY)
        | flag(description.as_ref(), HAS_DESCRIPTION)
        | flag(metadata.as_ref(), HAS_METADATA);
    let mut out = Writer(BytesMut::with_capacity(96 + data.map_or(0, |it| it.0.len())));
    out.0.put_slice(&[LAYOUT_MUTATED, meta_flags(event), flags, number_of_action(it.action)]);
    out.message(it.message);
    out.part_if(it.name.as_ref().map(|it| it.as_bytes()));
    out.part_if(data.map(|it| &*it.0));
    out.part_if(it.fragment.as_ref().map(|it| &*it.0));
    out.part_if(client_id.as_ref().map(|it| it.as_bytes()));
    out.part_if(description.as_ref().map(|it| it.as_bytes()));
    out.part_if(metadata.as_ref().map(|it| &*it.0));
    out.meta(event);
    out.0.freeze()
}

fn encode_annotated(event: &Event, it: &Annotated) -> Bytes {
    let Annotation { message, kind, summarizer, name, client_id, count, data, encoding } =
        &it.annotation;
    let flags = flag(name.as_ref(), HAS_NAME)
        | flag(data.as_ref(), HAS_DATA)
        | flag(count.as_ref(), HAS_COUNT)
        | flag(client_id.as_ref(), HAS_BY)
        | flag(encoding.as_ref(), HAS_ENCODING)
        | flag(it.takes_back.as_ref(), TAKES_BACK);
    let mut out = Writer(BytesMut::with_capacity(96 + kind.len()));
    let summarizer = number_of_summarizer(*summarizer);
    out.0.put_slice(&[LAYOUT_ANNOTATED, meta_flags(event), flags, summarizer]);
    out.message(*message);
    out.part(kind.as_bytes());
    out.part_if(name.as_ref().map(|it| it.as_bytes()));
    out.part_if(client_id.as_ref().map(|it| it.as_bytes()));
    out.part_if(count.map(u64::to_le_bytes).as_ref().map(|it| &it[..]));
    out.part_if(data.as_ref().map(|it| &*it.0));
    out.part_if(encoding.as_ref().map(|it| it.as_bytes()));
    out.part_if(it.takes_back.map(|it| it.0.to_le_bytes()).as_ref().map(|it| &it[..]));
    out.meta(event);
    out.0.freeze()
}

// These numbers are on disk: none ever means another one.

fn number_of_action(action: Action) -> u8 {
    match action {
        Action::Create => 0,
        Action::Update => 1,
        Action::Delete => 2,
        Action::Append => 3,
    }
}

fn action_of(number: u8) -> Result<Action, NotARecord> {
    let all = [Action::Create, Action::Update, Action::Delete, Action::Append];
    all.into_iter().find(|it| number_of_action(*it) == number).ok_or(NotARecord)
}

fn number_of_summarizer(summarizer: Summarizer) -> u8 {
    match summarizer {
        Summarizer::Total => 0,
        Summarizer::Flag => 1,
        Summarizer::Distinct => 2,
        Summarizer::Unique => 3,
        Summarizer::Multiple => 4,
    }
}

fn summarizer_of(number: u8) -> Result<Summarizer, NotARecord> {
    use Summarizer::{Distinct, Flag, Multiple, Total, Unique};
    let all = [Total, Flag, Distinct, Unique, Multiple];
    all.into_iter().find(|it| number_of_summarizer(*it) == number).ok_or(NotARecord)
}

fn flag<T>(part: Option<&T>, flag: u8) -> u8 {
    if part.is_some() { flag } else { 0 }
}

fn meta_flags(event: &Event) -> u8 {
    let tags = if event.tags.as_slice().is_empty() { 0 } else { HAS_TAGS };
    let Some(meta) = &event.meta else { return tags };
    tags | flag(meta.message_id.as_ref(), HAS_MESSAGE_ID)
        | flag(meta.extras.as_ref(), HAS_EXTRAS)
        | flag(meta.publisher.as_ref(), HAS_PUBLISHER)
        | flag(meta.was_due.as_ref(), HAS_WAS_DUE)
        | flag(meta.client_id.as_ref(), HAS_CLIENT)
}

struct Writer(BytesMut);

impl Writer {
    fn part(&mut self, bytes: &[u8]) {
        self.0.put_u32_le(bytes.len() as u32);
        self.0.put_slice(bytes);
    }

    fn part_if(&mut self, bytes: Option<&[u8]>) {
        bytes.into_iter().for_each(|it| self.part(it));
    }

    fn message(&mut self, message: MessageRef) {
        self.0.put_u128_le(message.id.0);
        self.0.put_u64_le(message.serial.0);
    }

    /// What an event says of itself beside what happened; tags last, since nothing says how many they are.
    fn meta(&mut self, event: &Event) {
        if let Some(meta) = &event.meta {
            self.part_if(meta.message_id.as_ref().map(|it| it.as_bytes()));
            self.part_if(meta.extras.as_ref().map(|it| &*it.0));
            self.part_if(meta.publisher.as_ref().map(|it| &*it.0));
            self.part_if(meta.was_due.map(|it| it.0.to_le_bytes()).as_ref().map(|it| &it[..]));
            self.part_if(meta.client_id.as_ref().map(|it| it.as_bytes()));
        }
        for tag in event.tags.as_slice() {
            self.part(tag.name.as_bytes());
            self.part(tag.value.as_bytes());
        }
    }
}

/// What a record is of. The sender of a message, if it had one, is no connection of this process.
pub(super) fn decode(
    record: &Record,
    channel: &Channel,
    epoch: Epoch,
) -> Result<Event, NotARecord> {
    let mut rest = Rest(record.body.clone());
    let layout = rest.byte()?;
    let flags = rest.byte()?;
    let happening = match layout {
        LAYOUT => decode_message(&mut rest, flags)?,
        LAYOUT_MUTATED if flags & !META == 0 => decode_mutated(&mut rest)?,
        LAYOUT_ANNOTATED if flags & !META == 0 => decode_annotated(&mut rest)?,
        _ => return Err(NotARecord),
    };
    let meta = Meta {
        message_id: rest.text_if(flags, HAS_MESSAGE_ID)?,
        extras: rest.payload_if(flags, HAS_EXTRAS)?,
        publisher: rest.payload_if(flags, HAS_PUBLISHER)?,
        was_due: rest.number_if(flags, HAS_WAS_DUE)?.map(UnixMillis),
        client_id: rest.text_if(flags, HAS_CLIENT)?,
        is_whole: false,
        brief: super::Brief::default(),
    };
    let mut tags = Vec::new();
    if flags & HAS_TAGS != 0 {
        while let Ok(name) = rest.part() {
            tags.push(Tag { name: text(&name)?, value: text(&rest.part()?)? });
        }
    }
    if !rest.0.is_empty() {
        return Err(NotARecord);
    }
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
        happening,
    })
}

fn decode_message(rest: &mut Rest, flags: u8) -> Result<Happening, NotARecord> {
    let name = text(&rest.part()?)?;
    let data = Payload(rest.part()?);
    let user_id = rest.text_if(flags, HAS_USER)?;
    let nobody = ConnectionId { shard: ShardId(0), slot: 0, generation: 0 };
    let sender = (flags & HAS_SENDER != 0).then_some(Sender { connection: nobody, user_id });
    Ok(Happening::Message { name, data, sender })
}

fn decode_mutated(rest: &mut Rest) -> Result<Happening, NotARecord> {
    let (flags, action) = (rest.byte()?, action_of(rest.byte()?)?);
    Ok(Happening::Mutated(Arc::new(Mutated {
        message: rest.message()?,
        action,
        name: rest.text_if(flags, HAS_NAME)?,
        data: rest.payload_if(flags, HAS_DATA)?,
        fragment: rest.payload_if(flags, HAS_FRAGMENT)?,
        keeps_type: flags & KEEPS_TYPE != 0,
        about: About {
            client_id: rest.text_if(flags, HAS_BY)?,
            description: rest.text_if(flags, HAS_DESCRIPTION)?,
            metadata: rest.payload_if(flags, HAS_METADATA)?,
        },
    })))
}

fn decode_annotated(rest: &mut Rest) -> Result<Happening, NotARecord> {
    let (flags, summarizer) = (rest.byte()?, summarizer_of(rest.byte()?)?);
    let annotation = Annotation {
        message: rest.message()?,
        kind: text(&rest.part()?)?,
        summarizer,
        name: rest.text_if(flags, HAS_NAME)?,
        client_id: rest.text_if(flags, HAS_BY)?,
        count: rest.number_if(flags, HAS_COUNT)?,
        data: rest.payload_if(flags, HAS_DATA)?,
        encoding: rest.text_if(flags, HAS_ENCODING)?,
    };
    let takes_back = rest.part_if(flags, TAKES_BACK)?;
    let takes_back =
        takes_back.map(|it| Ok(EventId(u128::from_le_bytes(array(&it)?)))).transpose()?;
    Ok(Happening::Annotated(Arc::new(Annotated { annotation, takes_back })))
}

struct Rest(Bytes);

impl Rest {
    fn byte(&mut self) -> Result<u8, NotARecord> {
        let byte = *self.0.first().ok_or(NotARecord)?;
        drop(self.0.split_to(1));
        Ok(byte)
    }

    fn part(&mut self) -> Result<Bytes, NotARecord> {
        let length = u32::from_le_bytes(*self.0.first_chunk::<4>().ok_or(NotARecord)?) as usize;
        drop(self.0.split_to(4));
        (length <= self.0.len()).then(|| self.0.split_to(length)).ok_or(NotARecord)
    }

    fn part_if(&mut self, flags: u8, flag: u8) -> Result<Option<Bytes>, NotARecord> {
        (flags & flag != 0).then(|| self.part()).transpose()
    }

    fn text_if(&mut self, flags: u8, flag: u8) -> Result<Option<Name>, NotARecord> {
        self.part_if(flags, flag)?.map(|it| text(&it)).transpose()
    }

    fn payload_if(&mut self, flags: u8, flag: u8) -> Result<Option<Payload>, NotARecord> {
        Ok(self.part_if(flags, flag)?.map(Payload))
    }

    fn number_if(&mut self, flags: u8, flag: u8) -> Result<Option<u64>, NotARecord> {
        self.part_if(flags, flag)?.map(|it| Ok(u64::from_le_bytes(array(&it)?))).transpose()
    }

    fn message(&mut self) -> Result<MessageRef, NotARecord> {
        let (id, rest) = self.0.split_first_chunk::<16>().ok_or(NotARecord)?;
        let serial = rest.first_chunk::<8>().ok_or(NotARecord)?;
        let id = EventId(u128::from_le_bytes(*id));
        let serial = Serial(u64::from_le_bytes(*serial));
        drop(self.0.split_to(24));
        Ok(MessageRef { id, serial })
    }
}

fn array<const N: usize>(bytes: &[u8]) -> Result<[u8; N], NotARecord> {
    bytes.try_into().map_err(|_| NotARecord)
}

fn text(bytes: &[u8]) -> Result<Name, NotARecord> {
    std::str::from_utf8(bytes).map(Name::from).map_err(|_| NotARecord)
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
