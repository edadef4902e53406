//! What channels keep beside their history, as keys and values for the store, and back.
//!
//! Keys begin with the app's id and the channel's name, each behind its length in four bytes, big end first, so that no
//! channel's keys are among another's; then come a message's id, or a value's key, whose bytes give the order. Values
//! begin with a byte for their layout.

use bytes::{BufMut, Bytes, BytesMut};

use super::record;
use super::{Event, Member, Payload};
use crate::base::event_id::EventId;
use crate::base::ids::{Epoch, Serial};
use crate::base::name::{Channel, Name};
use crate::base::time::UnixMillis;
use crate::store::{Clock, NEVER, Record, Shelf, StreamKey};

const LAYOUT: u8 = 1;

/// What the keys of everything that a channel keeps begin with.
pub(super) fn prefix(app_id: &str, channel: &str) -> Bytes {
    let mut key = BytesMut::with_capacity(8 + app_id.len() + channel.len());
    put_name(&mut key, app_id);
    put_name(&mut key, channel);
    key.freeze()
}

fn put_name(key: &mut BytesMut, name: &str) {
    key.put_u32(name.len() as u32);
    key.put_slice(name.as_bytes());
}

/// The key of a message; what the keys of what was said to it begin with.
pub(super) fn message_key(prefix: &[u8], id: EventId) -> Bytes {
    [prefix, &id.0.to_be_bytes()].concat().into()
}

/// The id in a message's key or in that of something said to it.
pub(super) fn id_of(prefix: &[u8], key: &[u8]) -> Option<EventId> {
    let id = key.strip_prefix(prefix)?.first_chunk::<16>()?;
    Some(EventId(u128::from_be_bytes(*id)))
}

/// The key of what a user said to a message.
pub(super) fn reaction_key(message_key: &[u8], reaction: &str, user_id: &str) -> Bytes {
    let mut key = BytesMut::with_capacity(message_key.len() + 8 + reaction.len() + user_id.len());
    key.put_slice(message_key);
    put_name(&mut key, reaction);
    put_name(&mut key, user_id);
    key.freeze()
}

/// What was said and by whom, from the key of it behind its message's.
pub(super) fn parse_reaction(mut rest: &[u8]) -> Option<(Name, Name)> {
    let named = (take_name(&mut rest)?, take_name(&mut rest)?);
    rest.is_empty().then_some(named)
}

/// The key of a value.
pub(super) fn value_key(prefix: &[u8], key: &str) -> Bytes {
    [prefix, key.as_bytes()].concat().into()
}

/// A value's own key, from that under which it is stored.
pub(super) fn parse_value_key(prefix: &[u8], stored: &[u8]) -> Option<Name> {
    let key = std::str::from_utf8(stored.strip_prefix(prefix)?).ok()?;
    Some(Name::from(key))
}

/// The key by which it is found when the time of the value under another key is over.
pub(super) fn expiry_key(expires: Clock, value_key: &[u8]) -> Bytes {
    [&expires.0.to_be_bytes(), value_key].concat().into()
}

/// When that time is over, in which channel, and the value's own key.
pub(super) fn parse_expiry_key(key: &[u8]) -> Option<(Clock, StreamKey, Name)> {
    let (expires, mut rest) = key.split_first_chunk::<8>()?;
    let app = take_name(&mut rest)?;
    let channel = take_name(&mut rest)?;
    let key = Name::from(std::str::from_utf8(rest).ok()?);
    Some((UnixMillis(u64::from_be_bytes(*expires)), StreamKey { app, channel }, key))
}

fn take_name(rest: &mut &[u8]) -> Option<Name> {
    let (length, behind) = rest.split_first_chunk::<4>()?;
    let (name, behind) = behind.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    *rest = behind;
    Some(Name::from(std::str::from_utf8(name).ok()?))
}

// The kinds of keys among the versions of a channel's messages, behind its prefix.

/// A version: behind it the message's id, then its own.
const VERSION: u8 = b'v';
/// A message as it is now: behind it its id.
const LATEST: u8 = b'l';
/// What goes when a place in the channel's history does: behind it the epoch and the serial.
const PLACE: u8 = b'p';

/// The key of one version of a message.
pub(super) fn version_key(prefix: &[u8], message: EventId, version: EventId) -> Bytes {
    [&versions_of(prefix, message)[..], &version.0.to_be_bytes()].concat().into()
}

/// What the keys of a message's versions begin with.
pub(super) fn versions_of(prefix: &[u8], message: EventId) -> Bytes {
    [prefix, &[VERSION], &message.0.to_be_bytes()].concat().into()
}

/// The message that a version's key is of.
pub(super) fn parse_version_key(prefix: &[u8], key: &[u8]) -> Option<EventId> {
    let rest = key.strip_prefix(prefix)?.strip_prefix(&[VERSION])?;
    let (message, version) = rest.split_first_chunk::<16>()?;
    (version.len() == 16).then_some(EventId(u128::from_be_bytes(*message)))
}

/// The key of a message that was changed, as it is now.
pub(super) fn latest_key(prefix: &[u8], message: EventId) -> Bytes {
    [prefix, &[LATEST], &message.0.to_be_bytes()].concat().into()
}

/// What those of all of a channel's messages begin with.
pub(super) fn latest_prefix(prefix: &[u8]) -> Bytes {
    [prefix, &[LATEST]].concat().into()
}

/// What the keys of places begin with: what goes with each.
pub(super) fn places(prefix: &[u8]) -> Bytes {
    [prefix, &[PLACE]].concat().into()
}

/// The key of what goes with a place in the channel's history.
pub(super) fn place_key(prefix: &[u8], epoch: Epoch, serial: Serial) -> Bytes {
    [prefix, &[PLACE], &epoch.0.to_be_bytes(), &serial.0.to_be_bytes()].concat().into()
}

/// What goes with a place in the channel's history: the key of a version or an annotation, on its shelf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Going {
    pub shelf: Shelf,
    pub key: Bytes,
    /// It is what its message is now: the message goes with it.
    pub is_latest: bool,
}

impl Going {
    pub fn encode(&self) -> Bytes {
        [&[LAYOUT, self.shelf as u8, u8::from(self.is_latest)], &self.key[..]].concat().into()
    }

    /// None: these bytes say nothing of the kind, or in a layout this version does not know.
    pub fn decode(stored: &Bytes) -> Option<Self> {
        let (&[layout, shelf, is_latest], _) = stored.split_first_chunk::<3>()?;
        let shelf = Shelf::ALL.into_iter().find(|it| *it as u8 == shelf)?;
        let key = stored.slice(3..);
        (layout == LAYOUT).then_some(Self { shelf, key, is_latest: is_latest != 0 })
    }
}

/// An event that has a place in its channel's history, kept beside it until `expires`.
pub(super) fn encode_placed(event: &Event, expires: Clock) -> Bytes {
    let body = record::encode(event);
    let mut out = BytesMut::with_capacity(57 + body.len());
    out.put_u8(LAYOUT);
    out.put_u64_le(expires.0);
    out.put_u128_le(event.epoch.unwrap_or_default().0);
    out.put_u64_le(event.serial.0);
    out.put_u128_le(event.id.0);
    out.put_u64_le(event.at.0);
    out.put_slice(&body);
    out.freeze()
}

/// Such an event, and until when it is kept. None: these bytes are none, or of a layout this version does not know.
pub(super) fn decode_placed(stored: &Bytes, channel: &Channel) -> Option<(Event, Clock)> {
    let (expires, mut rest) = Rest::new(stored)?;
    let epoch = Epoch(rest.take_long()?);
    let serial = Serial(rest.take_number()?);
    let id = EventId(rest.take_long()?);
    let at = UnixMillis(rest.take_number()?);
    let record = Record { serial, id, at, expires, body: rest.0 };
    Some((record::decode(&record, channel, epoch).ok()?, expires))
}

/// A value, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StoredValue {
    pub data: Payload,
    pub meta: Payload,
    /// What its writer wants the world outside to be told with it.
    pub about: Option<Payload>,
    /// Its time is over then.
    pub expires: Clock,
}

/// What someone said to a message, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StoredReaction {
    pub info: Option<Payload>,
    pub at: UnixMillis,
    pub about: Option<Payload>,
    pub expires: Clock,
}

/// A time that may be over, as people are told of it.
pub(super) fn told(expires: Clock) -> Option<UnixMillis> {
    (expires != NEVER).then_some(expires)
}

struct Parts(BytesMut);

impl Parts {
    fn new(expires: Clock, bytes: usize) -> Self {
        let mut out = BytesMut::with_capacity(24 + bytes);
        out.put_u8(LAYOUT);
        out.put_u64_le(expires.0);
        Self(out)
    }

    fn put(&mut self, part: &[u8]) -> &mut Self {
        self.0.put_u32_le(part.len() as u32);
        self.0.put_slice(part);
        self
    }

    /// One that may be absent: with a byte that says so.
    fn put_if(&mut self, part: Option<&Payload>) -> &mut Self {
        self.0.put_u8(u8::from(part.is_some()));
        if let Some(part) = part {
            self.put(&part.0);
        }
        self
    }
}

struct Rest(Bytes);

impl Rest {
    fn new(stored: &Bytes) -> Option<(Clock, Self)> {
        let (&layout, rest) = stored.split_first()?;
        let expires = u64::from_le_bytes(*rest.first_chunk::<8>()?);
        (layout == LAYOUT).then(|| (UnixMillis(expires), Self(stored.slice(9..))))
    }

    fn take(&mut self) -> Option<Payload> {
        let length = u32::from_le_bytes(*self.0.first_chunk::<4>()?) as usize;
        drop(self.0.split_to(4));
        (length <= self.0.len()).then(|| Payload(self.0.split_to(length)))
    }

    fn take_if(&mut self) -> Option<Option<Payload>> {
        let is_there = *self.0.first()?;
        drop(self.0.split_to(1));
        match is_there {
            0 => Some(None),
            1 => self.take().map(Some),
            _ => None,
        }
    }

    fn take_long(&mut self) -> Option<u128> {
        let number = u128::from_le_bytes(*self.0.first_chunk::<16>()?);
        drop(self.0.split_to(16));
        Some(number)
    }

    fn take_number(&mut self) -> Option<u64> {
        let number = u64::from_le_bytes(*self.0.first_chunk::<8>()?);
        drop(self.0.split_to(8));
        Some(number)
    }
}

impl StoredValue {
    pub fn encode(&self) -> Bytes {
        let mut parts = Parts::new(self.expires, self.data.0.len() + self.meta.0.len());
        parts.put(&self.data.0).put(&self.meta.0).put_if(self.about.as_ref());
        parts.0.freeze()
    }

    /// None: these bytes are no value, or of a layout this version does not know.
    pub fn decode(stored: &Bytes) -> Option<Self> {
        let (expires, mut rest) = Rest::new(stored)?;
        let it = Self { data: rest.take()?, meta: rest.take()?, about: rest.take_if()?, expires };
        rest.0.is_empty().then_some(it)
    }
}

impl StoredReaction {
    pub fn encode(&self) -> Bytes {
        let mut parts = Parts::new(self.expires, 32);
        parts.put_if(self.info.as_ref()).put_if(self.about.as_ref());
        parts.0.put_u64_le(self.at.0);
        parts.0.freeze()
    }

    /// None: these bytes are none, or of a layout this version does not know.
    pub fn decode(stored: &Bytes) -> Option<Self> {
        let (expires, mut rest) = Rest::new(stored)?;
        let (info, about) = (rest.take_if()?, rest.take_if()?);
        let at = UnixMillis(rest.take_number()?);
        rest.0.is_empty().then_some(Self { info, at, about, expires })
    }

    /// As whoever asks is told.
    pub fn told(self, reaction: Name, user_id: Name) -> super::state::Reaction {
        let by = std::sync::Arc::new(Member { user_id, info: self.info });
        let expires = told(self.expires);
        super::state::Reaction { reaction, by, at: self.at, expires }
    }
}

/// A message, kept until `expires`.
pub(super) fn encode_message(event: &Event, expires: Clock) -> Bytes {
    let body = record::encode(event);
    let mut out = BytesMut::with_capacity(9 + body.len());
    out.put_u8(LAYOUT);
    out.put_u64_le(expires.0);
    out.put_slice(&body);
    out.freeze()
}

/// A message that is kept, and until when. None: these bytes are none, or of a layout this version does not know.
pub(super) fn decode_message(
    stored: &Bytes,
    id: EventId,
    channel: &Channel,
) -> Option<(Event, Clock)> {
    let (expires, rest) = Rest::new(stored)?;
    let record = Record { serial: Serial(0), id, at: id.at(), expires, body: rest.0 };
    let event = record::decode(&record, channel, Epoch(0)).ok()?;
    Some((Event { epoch: None, ..event }, expires))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::AppIndex;
    use crate::base::time::Nanos;
    use crate::broker::{Happening, Tags};

    fn json(text: &'static str) -> Payload {
        Payload(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn what_is_encoded_is_decoded_and_nothing_shorter_is() {
        for about in [None, Some(json("{}")), Some(json(""))] {
            let value = StoredValue {
                data: json("{\"a\":1}"),
                meta: json("null"),
                about: about.clone(),
                expires: UnixMillis(77),
            };
            let stored = value.encode();
            assert_eq!(StoredValue::decode(&stored), Some(value));
            for info in [None, Some(json("7"))] {
                let (at, expires, about) = (UnixMillis(5), NEVER, about.clone());
                let reaction = StoredReaction { info, at, about, expires };
                let stored = reaction.encode();
                assert_eq!(StoredReaction::decode(&stored), Some(reaction));
                for end in 0..stored.len() {
                    assert_eq!(StoredReaction::decode(&stored.slice(..end)), None, "{end}");
                }
            }
            for end in 0..stored.len() {
                assert_eq!(StoredValue::decode(&stored.slice(..end)), None, "{end}");
            }
            let newer = Bytes::from([&[LAYOUT + 1], &stored[1..]].concat());
            assert_eq!(StoredValue::decode(&newer), None);
        }
    }

    #[test]
    fn a_message_is_found_again_under_its_id() {
        let channel = Channel { app: AppIndex(2), name: "c".into() };
        let id = EventId(7 << 80 | 5);
        let event = Event {
            channel: channel.clone(),
            serial: Serial(0),
            epoch: None,
            id,
            at: UnixMillis(7),
            arrived: Nanos(0),
            tags: Tags::default(),
            meta: None,
            guarded: false,
            happening: Happening::Message { name: "n".into(), data: json("1"), sender: None },
        };
        let stored = encode_message(&event, UnixMillis(9));
        assert_eq!(decode_message(&stored, id, &channel), Some((event, UnixMillis(9))));
        assert_eq!(decode_message(&stored.slice(..8), id, &channel), None);
    }

    #[test]
    fn an_event_with_a_place_is_read_with_it() {
        let channel = Channel { app: AppIndex(2), name: "c".into() };
        let event = Event {
            channel: channel.clone(),
            serial: Serial(u64::MAX / 3),
            epoch: Some(Epoch(u128::MAX / 5)),
            id: EventId(7 << 80 | 5),
            at: UnixMillis(8),
            arrived: Nanos(0),
            tags: Tags::default(),
            meta: None,
            guarded: false,
            happening: Happening::Message { name: "n".into(), data: json("1"), sender: None },
        };
        let stored = encode_placed(&event, UnixMillis(9));
        assert_eq!(decode_placed(&stored, &channel), Some((event, UnixMillis(9))));
        for end in 0..stored.len() {
            assert_eq!(decode_placed(&stored.slice(..end), &channel), None, "{end}");
        }
    }

    #[test]
    fn versions_have_keys_in_the_order_of_their_ids_and_places_in_that_of_serials() {
        let prefix = prefix("app", "c");
        let key = |message, version| version_key(&prefix, EventId(message), EventId(version));
        let keys = [key(1, 1), key(1, 2), key(1, 256), key(256, 0)];
        assert!(keys.is_sorted());
        for (key, message) in keys.iter().zip([1, 1, 1, 256]) {
            assert_eq!(parse_version_key(&prefix, key), Some(EventId(message)));
            assert!(key.starts_with(&versions_of(&prefix, EventId(message))));
            assert!(
                !key.starts_with(&latest_prefix(&prefix)) && !key.starts_with(&places(&prefix))
            );
            assert_eq!(parse_version_key(&prefix, &key[..key.len() - 1]), None);
            for is_latest in [false, true] {
                let going = Going { shelf: Shelf::Versions, key: key.clone(), is_latest };
                assert_eq!(Going::decode(&going.encode()), Some(going));
            }
        }
        assert!(latest_key(&prefix, EventId(255)) < latest_key(&prefix, EventId(256)));
        let place = place_key(&prefix, Epoch(5), Serial(255));
        assert!(
            place < place_key(&prefix, Epoch(5), Serial(256))
                && place.starts_with(&places(&prefix))
        );
        for none in [&b"\x01"[..], b"\x01\x01", b"\x01\xff\0", b"\x02\x01\0"] {
            assert_eq!(Going::decode(&Bytes::copy_from_slice(none)), None, "{none:?}");
        }
    }

    #[test]
    fn keys_of_one_channel_are_not_among_anothers() {
        let channels =
            [("a", "b"), ("a", "bc"), ("ab", "c"), ("a", ""), ("", "ab"), ("a", "b\0\0\0\0")];
        for (n, one) in channels.iter().enumerate() {
            for other in &channels[n + 1..] {
                let (one, other) = (prefix(one.0, one.1), prefix(other.0, other.1));
                assert!(!one.starts_with(&other) && !other.starts_with(&one), "{one:?} {other:?}");
            }
        }
        let prefix = prefix("app", "c");
        let message = message_key(&prefix, EventId(5));
        assert_eq!(id_of(&prefix, &message), Some(EventId(5)));
        assert!(message_key(&prefix, EventId(u128::MAX)) > message);
        let pairs = [("+1", "ann"), ("+", "1ann"), ("", "+1ann"), ("+1ann", "")];
        let keys: std::collections::BTreeSet<_> =
            pairs.iter().map(|pair| reaction_key(&message, pair.0, pair.1)).collect();
        assert_eq!(keys.len(), pairs.len());
        for (reaction, user) in pairs {
            let key = reaction_key(&message, reaction, user);
            assert_eq!(id_of(&prefix, &key), Some(EventId(5)));
            let named = parse_reaction(&key[message.len()..]);
            assert_eq!(named, Some((reaction.into(), user.into())));
            assert_eq!(parse_reaction(&key[message.len()..key.len() - 1]), None);
        }
        let value = value_key(&prefix, "käse");
        assert_eq!(parse_value_key(&prefix, &value), Some("käse".into()));
        assert_eq!(parse_value_key(b"other", &value), None);
        let index = expiry_key(UnixMillis(256), &value);
        assert!(index > expiry_key(UnixMillis(255), &value));
        let stream = StreamKey { app: "app".into(), channel: "c".into() };
        assert_eq!(parse_expiry_key(&index), Some((UnixMillis(256), stream, "käse".into())));
        assert_eq!(parse_expiry_key(&index[..12]), None);
    }
}
