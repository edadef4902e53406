//! What is to be done later, as bytes for the store, and back.
//!
//! There are two keys for each on [`Shelf::Schedules`](crate::store::Shelf::Schedules). The *index* is in the order in
//! which they are due: `d`, the time in milliseconds and the id, big end first, to app and channel, so that a home finds
//! what is its own and reads nothing else. The *body* is found by name: `p`, the app's id behind its length, and the id, to
//! all of it; `q` instead of `p` where it is a notification, which nobody lists or cancels by that name, and which the
//! index says. What has no body is not done. For a while a *mark* stays of one that was: `x` and its id.
//!
//! Values begin with a byte for their layout. Parts are put behind their length in four bytes, little end first; what may
//! be absent, behind a byte that says whether it is there.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use super::state::{Deferred, Keep, SetValue};
use super::{Meta, Payload, Publish, Sender, Tag, Tags};
use crate::base::event_id::EventId;
use crate::base::ids::{AppIndex, ConnectionId};
use crate::base::name::{Channel, Name};
use crate::base::time::{Millis, Nanos, UnixMillis};
use crate::store::StreamKey;

const LAYOUT: u8 = 1;

const PUBLISH: u8 = 1;
const SET_VALUE: u8 = 2;
const PUSH: u8 = 3;
/// A publish that a notification goes with.
const PUBLISH_AND_PUSH: u8 = 4;

const FOREVER: u8 = 1;
const FOR: u8 = 2;

/// What keys of the index begin with.
pub(super) const INDEX: &[u8] = b"d";
const MARK: u8 = b'x';

/// Among which bodies one is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Body {
    /// Those that peers list and cancel.
    Told = b'p',
    /// Notifications, which have an owner and a name elsewhere.
    Push = b'q',
}

impl Body {
    pub(super) fn of(what: &Deferred) -> Self {
        match what {
            Deferred::Publish(_) | Deferred::SetValue(_) => Self::Told,
            Deferred::Push(..) => Self::Push,
        }
    }
}

/// The key in the index.
pub(super) fn index_key(at: UnixMillis, id: EventId) -> Bytes {
    let mut key = BytesMut::with_capacity(25);
    key.put_slice(INDEX);
    key.put_u64(at.0);
    key.put_u128(id.0);
    key.freeze()
}

/// Reads what [`index_key`] wrote.
pub(super) fn parse_index_key(key: &[u8]) -> Option<(UnixMillis, EventId)> {
    let (at, id) = key.strip_prefix(INDEX)?.split_first_chunk::<8>()?;
    let id = u128::from_be_bytes(id.try_into().ok()?);
    Some((UnixMillis(u64::from_be_bytes(*at)), EventId(id)))
}

/// What the index says of one: whose it is, and where its body is.
pub(super) fn encode_index(stream: &StreamKey, body: Body) -> Bytes {
    let mut out = Writer::new(stream.app.len() + stream.channel.len());
    out.part(stream.app.as_bytes());
    out.part(stream.channel.as_bytes());
    if body != Body::Told {
        out.0.put_u8(body as u8);
    }
    out.0.freeze()
}

/// Reads what [`encode_index`] wrote; none: these bytes are of a layout that this version does not know.
pub(super) fn decode_index(stored: &Bytes) -> Option<(StreamKey, Body)> {
    let mut rest = Reader::new(stored)?;
    let stream = StreamKey { app: rest.name()?, channel: rest.name()? };
    let body = match rest.byte() {
        None => Body::Told,
        Some(byte) if byte == Body::Push as u8 => Body::Push,
        Some(_) => return None,
    };
    rest.end((stream, body))
}

/// What the keys of the bodies of an app begin with.
pub(super) fn body_prefix(body: Body, app_id: &str) -> Bytes {
    let mut key = BytesMut::with_capacity(21 + app_id.len());
    key.put_u8(body as u8);
    key.put_u32(app_id.len() as u32);
    key.put_slice(app_id.as_bytes());
    key.freeze()
}

/// The key of a body.
pub(super) fn body_key(body: Body, app_id: &str, id: EventId) -> Bytes {
    [&body_prefix(body, app_id)[..], &id.0.to_be_bytes()].concat().into()
}

/// The key of the mark of one that was done, by which that is known where a write failed so that nobody knows.
pub(super) fn mark_key(id: EventId) -> Bytes {
    [&[MARK][..], &id.0.to_be_bytes()].concat().into()
}

/// The id in a body's key.
pub(super) fn id_of(prefix: &[u8], key: &[u8]) -> Option<EventId> {
    let id = key.strip_prefix(prefix)?.try_into().ok()?;
    Some(EventId(u128::from_be_bytes(id)))
}

/// A body. What a publish says of `arrived`, `key` and `quiet` is not in it.
pub(super) fn encode(what: &Deferred, at: UnixMillis) -> Bytes {
    match what {
        Deferred::Publish(publish) => {
            let mut out = Writer::new(96 + publish.name.len() + publish.data.0.len());
            out.number(at.0);
            out.0.put_u8(if publish.push.is_some() { PUBLISH_AND_PUSH } else { PUBLISH });
            put_publish(&mut out, publish);
            if let Some(push) = &publish.push {
                out.part(&push.0);
            }
            out.0.freeze()
        }
        Deferred::SetValue(set) => {
            let of_data = set.data.as_ref().map_or(0, |it| it.0.len());
            let mut out = Writer::new(64 + of_data + set.meta.0.len());
            out.number(at.0);
            out.0.put_u8(SET_VALUE);
            out.part(set.channel.name.as_bytes());
            out.part(set.key.as_bytes());
            out.payload_if(set.data.as_ref());
            out.part(&set.meta.0);
            out.keep(Some(set.keep));
            out.payload_if(set.report.as_ref());
            out.0.freeze()
        }
        Deferred::Push(channel, queued) => {
            let mut out = Writer::new(16 + channel.name.len() + queued.0.len());
            out.number(at.0);
            out.0.put_u8(PUSH);
            out.part(channel.name.as_bytes());
            out.part(&queued.0);
            out.0.freeze()
        }
    }
}

fn put_publish(out: &mut Writer, publish: &Publish) {
    let Publish { channel, name, data, sender, exclude, keep_last, tags, meta, .. } = publish;
    out.part(channel.name.as_bytes());
    out.part(name.as_bytes());
    out.part(&data.0);
    out.flag(sender.is_some());
    if let Some(sender) = sender {
        out.connection(sender.connection);
        out.name_if(sender.user_id.as_ref());
    }
    out.flag(exclude.is_some());
    if let Some(exclude) = exclude {
        out.connection(*exclude);
    }
    out.number_if(keep_last.map(|it| it.0));
    out.number(tags.as_slice().len() as u64);
    for tag in tags.as_slice() {
        out.part(tag.name.as_bytes());
        out.part(tag.value.as_bytes());
    }
    out.flag(publish.guarded);
    out.flag(meta.is_some());
    if let Some(meta) = meta {
        // Nobody who schedules speaks for a client, or for peers that take changes only.
        let Meta { message_id, extras, publisher, was_due, client_id: _, is_whole: _, brief: _ } =
            &**meta;
        out.name_if(message_id.as_ref());
        out.payload_if(extras.as_ref());
        out.payload_if(publisher.as_ref());
        out.number_if(was_due.map(|it| it.0));
    }
    out.flag(publish.ephemeral);
    out.keep(publish.retain);
    out.payload_if(publish.report.as_ref());
}

/// When a body is due; none: these bytes are of a layout that this version does not know.
pub(super) fn due(stored: &Bytes) -> Option<UnixMillis> {
    Reader::new(stored)?.number().map(UnixMillis)
}

/// Reads what [`encode`] wrote for an app: when it is due, and what it is. None: these bytes are nothing that this
/// version knows.
pub(super) fn decode(stored: &Bytes, app: AppIndex) -> Option<(UnixMillis, Deferred)> {
    let mut rest = Reader::new(stored)?;
    let at = UnixMillis(rest.number()?);
    let what = match rest.byte()? {
        PUBLISH => Deferred::Publish(Box::new(take_publish(&mut rest, app)?)),
        PUBLISH_AND_PUSH => {
            let publish = take_publish(&mut rest, app)?;
            let push = Some(rest.payload()?);
            Deferred::Publish(Box::new(Publish { push, ..publish }))
        }
        PUSH => Deferred::Push(Channel { app, name: rest.name()? }, rest.payload()?),
        SET_VALUE => Deferred::SetValue(Box::new(SetValue {
            channel: Channel { app, name: rest.name()? },
            key: rest.name()?,
            data: rest.payload_if()?,
            meta: rest.payload()?,
            keep: rest.keep()??,
            report: rest.payload_if()?,
            quiet: true,
        })),
        _ => return None,
    };
    rest.end((at, what))
}

fn take_publish(rest: &mut Reader, app: AppIndex) -> Option<Publish> {
    let channel = Channel { app, name: rest.name()? };
    let (name, data) = (rest.name()?, rest.payload()?);
    let sender = match rest.flag()? {
        true => Some(Sender { connection: rest.connection()?, user_id: rest.name_if()? }),
        false => None,
    };
    let exclude = if rest.flag()? { Some(rest.connection()?) } else { None };
    let keep_last = rest.number_if()?.map(Millis);
    let mut tags = Vec::new();
    for _ in 0..rest.number()? {
        tags.push(Tag { name: rest.name()?, value: rest.name()? });
    }
    let guarded = rest.flag()?;
    let meta = match rest.flag()? {
        true => Some(Arc::new(Meta {
            message_id: rest.name_if()?,
            extras: rest.payload_if()?,
            publisher: rest.payload_if()?,
            was_due: rest.number_if()?.map(UnixMillis),
            client_id: None,
            is_whole: false,
            brief: super::Brief::default(),
        })),
        false => None,
    };
    Some(Publish {
        sender,
        exclude,
        keep_last,
        tags: Tags::from(tags),
        guarded,
        meta,
        ephemeral: rest.flag()?,
        retain: rest.keep()?,
        report: rest.payload_if()?,
        quiet: true,
        ..Publish::new(channel, name, data, Nanos(0))
    })
}

struct Writer(BytesMut);

impl Writer {
    fn new(bytes: usize) -> Self {
        let mut out = BytesMut::with_capacity(16 + bytes);
        out.put_u8(LAYOUT);
        Self(out)
    }

    fn part(&mut self, part: &[u8]) {
        self.0.put_u32_le(part.len() as u32);
        self.0.put_slice(part);
    }

    fn flag(&mut self, is_so: bool) {
        self.0.put_u8(u8::from(is_so));
    }

    fn number(&mut self, number: u64) {
        self.0.put_u64_le(number);
    }

    fn number_if(&mut self, number: Option<u64>) {
        self.flag(number.is_some());
        number.into_iter().for_each(|it| self.number(it));
    }

    fn name_if(&mut self, name: Option<&Name>) {
        self.flag(name.is_some());
        name.into_iter().for_each(|it| self.part(it.as_bytes()));
    }

    fn payload_if(&mut self, payload: Option<&Payload>) {
        self.flag(payload.is_some());
        payload.into_iter().for_each(|it| self.part(&it.0));
    }

    fn connection(&mut self, connection: ConnectionId) {
        let (first, second) = connection.to_pair();
        self.0.put_u32_le(first);
        self.0.put_u32_le(second);
    }

    fn keep(&mut self, keep: Option<Keep>) {
        match keep {
            None => self.0.put_u8(0),
            Some(Keep::Forever) => self.0.put_u8(FOREVER),
            Some(Keep::For(span)) => {
                self.0.put_u8(FOR);
                self.number(span.0);
            }
        }
    }
}

/// What is left of a value that is being read.
struct Reader(Bytes);

impl Reader {
    fn new(stored: &Bytes) -> Option<Self> {
        (*stored.first()? == LAYOUT).then(|| Self(stored.slice(1..)))
    }

    fn chunk<const N: usize>(&mut self) -> Option<[u8; N]> {
        let chunk = *self.0.first_chunk()?;
        drop(self.0.split_to(N));
        Some(chunk)
    }

    fn byte(&mut self) -> Option<u8> {
        self.chunk().map(|[byte]| byte)
    }

    fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn number(&mut self) -> Option<u64> {
        self.chunk().map(u64::from_le_bytes)
    }

    fn number_if(&mut self) -> Option<Option<u64>> {
        if self.flag()? { self.number().map(Some) } else { Some(None) }
    }

    fn payload(&mut self) -> Option<Payload> {
        let length = u32::from_le_bytes(self.chunk()?) as usize;
        (length <= self.0.len()).then(|| Payload(self.0.split_to(length)))
    }

    fn payload_if(&mut self) -> Option<Option<Payload>> {
        if self.flag()? { self.payload().map(Some) } else { Some(None) }
    }

    fn name(&mut self) -> Option<Name> {
        let part = self.payload()?.0;
        std::str::from_utf8(&part).ok().map(Name::from)
    }

    fn name_if(&mut self) -> Option<Option<Name>> {
        if self.flag()? { self.name().map(Some) } else { Some(None) }
    }

    fn connection(&mut self) -> Option<ConnectionId> {
        let (first, second) = (self.chunk()?, self.chunk()?);
        let pair = (u32::from_le_bytes(first), u32::from_le_bytes(second));
        Some(ConnectionId::from_pair(pair.0, pair.1))
    }

    fn keep(&mut self) -> Option<Option<Keep>> {
        Some(match self.byte()? {
            0 => None,
            FOREVER => Some(Keep::Forever),
            FOR => Some(Keep::For(Millis(self.number()?))),
            _ => return None,
        })
    }

    /// What was read, if that is all there is.
    fn end<T>(self, read: T) -> Option<T> {
        self.0.is_empty().then_some(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::ShardId;

    const APP: AppIndex = AppIndex(3);
    const AT: UnixMillis = UnixMillis(1_700_000_000_123);

    fn json(text: &'static str) -> Payload {
        Payload(Bytes::from_static(text.as_bytes()))
    }

    fn every_kind() -> Vec<Deferred> {
        let connection = ConnectionId { shard: ShardId(7), slot: 0x0012_3456, generation: 9 };
        let channel = || Channel { app: APP, name: "#hotsock:räume".into() };
        let plain = || Publish {
            quiet: true,
            ..Publish::new(channel(), "e".into(), json("null"), Nanos(0))
        };
        let sender = |user_id| Some(Sender { connection, user_id });
        let tag = |name: &str, value: &str| Tag { name: name.into(), value: value.into() };
        let meta = |meta| Some(Arc::new(meta));
        let publishes = [
            plain(),
            Publish { push: Some(json("a notification")), ..plain() },
            Publish { sender: sender(None), exclude: Some(connection), ..plain() },
            Publish { sender: sender(Some("ann".into())), guarded: true, ..plain() },
            Publish { keep_last: Some(Millis(5)), ephemeral: true, ..plain() },
            Publish { tags: Tags::from(vec![tag("a", ""), tag("", "b")]), ..plain() },
            Publish { meta: meta(Meta::default()), retain: Some(Keep::Forever), ..plain() },
            Publish {
                meta: meta(Meta {
                    message_id: Some("m".into()),
                    extras: Some(json("{}")),
                    publisher: Some(json(r#"{"uid":"ann"}"#)),
                    was_due: Some(UnixMillis(8)),
                    ..Meta::default()
                }),
                retain: Some(Keep::For(Millis(u64::MAX))),
                report: Some(json(r#"{"trigger":"server.http"}"#)),
                ..plain()
            },
        ];
        let set = |data, keep, report| SetValue {
            channel: channel(),
            key: "topic".into(),
            data,
            meta: json(r#"{"uid":null}"#),
            keep,
            report,
            quiet: true,
        };
        let sets = [
            set(None, Keep::Forever, None),
            set(Some(json("[1,2]")), Keep::For(Millis(60_000)), Some(json("{}"))),
        ];
        let publishes = publishes.into_iter().map(|it| Deferred::Publish(Box::new(it)));
        let sets = sets.into_iter().map(|it| Deferred::SetValue(Box::new(it)));
        publishes.chain(sets).chain([Deferred::Push(channel(), json("queued"))]).collect()
    }

    /// What is deferred has no equality, because nobody else needs one.
    fn text(decoded: Option<(UnixMillis, Deferred)>) -> Option<String> {
        decoded.map(|it| format!("{it:?}"))
    }

    #[test]
    fn what_is_encoded_is_decoded_and_nothing_shorter_or_longer_is() {
        for what in every_kind() {
            let stored = encode(&what, AT);
            assert_eq!(due(&stored), Some(AT));
            assert_eq!(text(decode(&stored, APP)), text(Some((AT, what))));
            for end in 0..stored.len() {
                assert_eq!(text(decode(&stored.slice(..end), APP)), None, "{end}");
            }
            let longer = Bytes::from([&stored[..], b"x"].concat());
            assert_eq!(text(decode(&longer, APP)), None);
            let newer = Bytes::from([&[LAYOUT + 1], &stored[1..]].concat());
            assert_eq!((text(decode(&newer, APP)), due(&newer)), (None, None));
        }
    }

    #[test]
    fn changed_bytes_are_decoded_or_not_and_never_a_panic() {
        for what in every_kind() {
            let stored = encode(&what, AT);
            for at in 0..stored.len() {
                for to in [0, 1, 2, 0x7f, 0xff] {
                    let mut changed = stored.to_vec();
                    changed[at] = to;
                    let _ = decode(&changed.into(), APP);
                }
            }
        }
    }

    #[test]
    fn the_index_is_in_the_order_of_the_times_and_says_whose_it_is() {
        let pairs = [(5, 9), (5, 10), (6, 1), (1 << 40, 0), (u64::MAX, u128::MAX)];
        let keys = pairs.map(|(at, id)| index_key(UnixMillis(at), EventId(id)));
        assert!(keys.is_sorted());
        for ((at, id), key) in pairs.into_iter().zip(&keys) {
            assert_eq!(parse_index_key(key), Some((UnixMillis(at), EventId(id))));
            assert_eq!(parse_index_key(&key[..24]), None);
        }
        let stream = StreamKey { app: "app".into(), channel: "é".into() };
        let told = encode_index(&stream, Body::Told);
        let push = encode_index(&stream, Body::Push);
        assert_eq!(decode_index(&told), Some((stream.clone(), Body::Told)));
        assert_eq!(decode_index(&push), Some((stream, Body::Push)));
        assert_eq!(push.slice(..told.len()), told);
        for end in 0..told.len() {
            assert_eq!(decode_index(&told.slice(..end)), None);
        }
        for more in ["p", "r", "qq"] {
            assert_eq!(decode_index(&[&told[..], more.as_bytes()].concat().into()), None, "{more}");
        }
    }

    #[test]
    fn bodies_of_one_app_are_in_the_order_of_their_ids_and_not_among_anothers() {
        let told = |app: &str, id| body_key(Body::Told, app, id);
        let (prefix, id) = (body_prefix(Body::Told, "app"), EventId(u128::MAX - 5));
        assert_eq!(id_of(&prefix, &told("app", id)), Some(id));
        assert!(told("app", EventId(2)) < told("app", EventId(1 << 80)));
        for other in ["ap", "app2", "", "app\0"] {
            assert_eq!(id_of(&prefix, &told(other, id)), None, "{other}");
        }
        assert_eq!(id_of(&prefix, &body_key(Body::Push, "app", id)), None);
        for body in [Body::Told, Body::Push] {
            assert!(!body_key(body, "app", id).starts_with(INDEX));
            assert!(!mark_key(id).starts_with(INDEX) && !mark_key(id).starts_with(&[body as u8]));
        }
    }
}
