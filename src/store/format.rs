//! Keys and values as they lie on disk.
//!
//! Numbers in keys are big-endian, so that keys sort as the numbers do; those in values are little-endian.
//! A value begins with the version of its own layout. What does not decode is a [`Damage`] with its
//! space and key, never a panic: the disk is outside.

use std::fmt;
use std::hash::Hasher;

use bytes::Bytes;
use siphasher::sip128::{Hasher128, SipHasher13};

use crate::base::event_id::EventId;
use crate::base::ids::{Epoch, Serial};
use crate::base::name::Name;
use crate::base::time::UnixMillis;

use super::{Head, KeyRecord, Record, Shelf, StreamKey};

/// The layout of the whole: which spaces there are and how their keys are made. A store with a higher one
/// was written by a newer program.
pub const LAYOUT: u32 = 1;

/// Bytes of a key, at most: the database counts them in 16 bits, and the `expiry` space puts a few before.
pub const KEY_BYTES_MAX: usize = 60_000;

/// The version every value begins with; each kind has its own history, and all are at their first.
const VERSION: u8 = 1;

/// A part of the database with keys of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Space {
    /// The layout, the store's id, the next stream's number, what is left to delete.
    Meta = 0,
    /// App and channel to a stream's number and head.
    Streams = 1,
    /// Stream number and serial to a record.
    Events = 2,
    /// Stream number and key to an idempotency record.
    Keys = 3,
    /// Shelf and key to a value.
    State = 4,
    /// When something in `keys` or `state` expires, and what, to nothing.
    Expiry = 5,
}

/// All of them, in the order of their numbers.
pub const SPACES: [Space; 6] =
    [Space::Meta, Space::Streams, Space::Events, Space::Keys, Space::State, Space::Expiry];

impl Space {
    /// Its name in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Streams => "streams",
            Self::Events => "events",
            Self::Keys => "keys",
            Self::State => "state",
            Self::Expiry => "expiry",
        }
    }
}

/// Something on disk that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where.
    pub space: Space,
    /// Under which key; empty if it concerns no single one.
    pub key: Vec<u8>,
    /// What is wrong.
    pub what: &'static str,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} key={} {}", self.space.as_str(), self.key.escape_ascii(), self.what)
    }
}

/// The key of the layout version in `meta`. Written last, so that an unfinished store has none.
pub const META_LAYOUT: &[u8] = b"layout";
/// The key of the store's id in `meta`.
pub const META_ID: &[u8] = b"id";
/// The key of the next stream's number in `meta`.
pub const META_NEXT: &[u8] = b"next";
/// What keys of [`Leftover`]s in `meta` begin with.
pub const META_LEFTOVER: &[u8] = b"leftover/";
/// What keys of the counters of [`Change::Push`](super::Change::Push) in `meta` begin with; the shelf's number follows.
pub const META_PUSHED: &[u8] = b"pushed/";

/// A stream as it is kept: its number and what makes up its head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// What its events and keys are found by. A reset gives it a new one.
    pub number: u64,
    /// Which life of the stream.
    pub epoch: Epoch,
    /// The newest record's serial.
    pub newest: Serial,
    /// The oldest kept record's serial; `newest + 1` if none is kept.
    pub oldest: Serial,
    /// Bytes of all bodies of this number so far.
    pub bytes_total: u64,
    /// Bytes of the bodies before the oldest kept one.
    pub bytes_before: u64,
    /// The newest record's id.
    pub last_id: EventId,
    /// When the oldest kept record was ordered.
    pub oldest_at: UnixMillis,
    /// When the oldest kept record expires, so that a sweep need not read it.
    pub oldest_expires: UnixMillis,
    /// When the newest record was ordered.
    pub newest_at: UnixMillis,
}

impl Header {
    /// A stream that has no record.
    pub fn new(number: u64, epoch: Epoch) -> Self {
        Self { number, epoch, oldest: Serial(1), ..Self::default() }
    }

    /// How many records are kept.
    pub fn records(&self) -> u64 {
        (self.newest.0 + 1).saturating_sub(self.oldest.0)
    }

    /// What those outside see of it.
    pub fn head(&self) -> Head {
        Head {
            epoch: self.epoch,
            newest: self.newest,
            oldest: self.oldest,
            bytes: self.bytes_total - self.bytes_before,
            last_id: self.last_id,
            oldest_at: self.oldest_at,
            newest_at: self.newest_at,
        }
    }

    /// The same stream with its oldest kept record at `oldest`, which is `stored`; `None`: none is kept.
    pub fn with_oldest(mut self, oldest: Serial, stored: Option<&StoredFacts>) -> Self {
        self.oldest = oldest;
        match stored {
            Some(facts) => {
                self.bytes_before = facts.bytes_before;
                self.oldest_at = facts.at;
                self.oldest_expires = facts.expires;
            }
            None => {
                self.oldest = Serial(self.newest.0 + 1);
                self.bytes_before = self.bytes_total;
            }
        }
        self
    }
}

/// What is known of a stored record without its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredFacts {
    /// Its name for good.
    pub id: EventId,
    /// When it was ordered.
    pub at: UnixMillis,
    /// From when it may be removed.
    pub expires: UnixMillis,
    /// Bytes of the bodies before it. With this, how much lies between two records is two reads, not a walk.
    pub bytes_before: u64,
    /// Bytes of its body.
    pub bytes: u64,
}

/// Events and keys that no head reaches any more and that are still to be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// Of which number.
    pub number: u64,
    /// The first serial of them.
    pub from: Serial,
    /// The serial after the last one.
    pub to: Serial,
    /// The number is done with: its keys go, too.
    pub has_keys: bool,
}

/// The epoch of a stream that was never written: the same at every look, another one in another store.
pub fn first_epoch(store: u128, stream: &StreamKey) -> Epoch {
    let mut hasher = SipHasher13::new_with_keys((store >> 64) as u64, store as u64);
    hasher.write(stream.app.as_bytes());
    hasher.write_u8(0);
    hasher.write(stream.channel.as_bytes());
    Epoch(hasher.finish128().as_u128())
}

/// A name that cannot be a key: too long, or with a zero byte where one divides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAKey;

/// The key of a stream's header.
pub fn stream_key(stream: &StreamKey) -> Result<Vec<u8>, NotAKey> {
    let (app, channel) = (stream.app.as_bytes(), stream.channel.as_bytes());
    if app.contains(&0) || app.len() + channel.len() >= KEY_BYTES_MAX {
        return Err(NotAKey);
    }
    let mut key = Vec::with_capacity(app.len() + 1 + channel.len());
    key.extend_from_slice(app);
    key.push(0);
    key.extend_from_slice(channel);
    Ok(key)
}

/// Reads what [`stream_key`] wrote.
pub fn parse_stream_key(key: &[u8]) -> Result<StreamKey, Damage> {
    let damage = |what| Damage { space: Space::Streams, key: key.to_vec(), what };
    let at = key.iter().position(|&byte| byte == 0).ok_or_else(|| damage("names no channel"))?;
    let text = |bytes| std::str::from_utf8(bytes).map_err(|_| damage("is not UTF-8"));
    Ok(StreamKey { app: Name::from(text(&key[..at])?), channel: Name::from(text(&key[at + 1..])?) })
}

/// The key of a record.
pub fn event_key(number: u64, serial: Serial) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&number.to_be_bytes());
    key[8..].copy_from_slice(&serial.0.to_be_bytes());
    key
}

/// Reads what [`event_key`] wrote: stream number and serial.
pub fn parse_event_key(key: &[u8]) -> Result<(u64, Serial), Damage> {
    let mut fields = Fields::new(Space::Events, key, key);
    let number = u64::from_be_bytes(fields.take()?);
    let serial = Serial(u64::from_be_bytes(fields.take()?));
    fields.end()?;
    Ok((number, serial))
}

/// The key of an idempotency record.
pub fn key_key(number: u64, key: &str) -> Result<Vec<u8>, NotAKey> {
    join(&number.to_be_bytes(), key.as_bytes())
}

/// The key of a value of the state.
pub fn state_key(shelf: Shelf, key: &[u8]) -> Result<Vec<u8>, NotAKey> {
    join(&[shelf as u8], key)
}

/// The key that says when another one expires.
pub fn expiry_key(expires: UnixMillis, space: Space, key: &[u8]) -> Vec<u8> {
    let mut made = Vec::with_capacity(9 + key.len());
    made.extend_from_slice(&expires.0.to_be_bytes());
    made.push(space as u8);
    made.extend_from_slice(key);
    made
}

/// Reads what [`expiry_key`] wrote.
pub fn parse_expiry_key(key: &[u8]) -> Result<(UnixMillis, Space, &[u8]), Damage> {
    let mut fields = Fields::new(Space::Expiry, key, key);
    let expires = UnixMillis(u64::from_be_bytes(fields.take()?));
    let [space] = fields.take()?;
    let space = match space {
        3 => Space::Keys,
        4 => Space::State,
        _ => return Err(fields.damage("is of a space where nothing expires")),
    };
    Ok((expires, space, fields.rest))
}

/// The key of a leftover.
pub fn leftover_key(number: u64) -> Vec<u8> {
    [META_LEFTOVER, &number.to_be_bytes()].concat()
}

/// The key of the last number that was given on a shelf.
pub fn pushed_key(shelf: u8) -> Vec<u8> {
    [META_PUSHED, &[shelf]].concat()
}

/// Reads what [`pushed_key`] wrote: the shelf's number.
pub fn parse_pushed_key(key: &[u8]) -> Result<u8, Damage> {
    let tail = key.strip_prefix(META_PUSHED).unwrap_or_default();
    let mut fields = Fields::new(Space::Meta, key, tail);
    let [shelf] = fields.take()?;
    fields.end()?;
    Ok(shelf)
}

fn join(head: &[u8], tail: &[u8]) -> Result<Vec<u8>, NotAKey> {
    if tail.len() > KEY_BYTES_MAX {
        return Err(NotAKey);
    }
    Ok([head, tail].concat())
}

/// The first key after all that begin with `prefix`; `None`: there is none.
pub fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&byte| byte != u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

/// A header's value.
pub fn encode_header(header: &Header) -> Bytes {
    let mut out = Vec::with_capacity(97);
    out.push(VERSION);
    out.extend_from_slice(&header.number.to_le_bytes());
    out.extend_from_slice(&header.epoch.0.to_le_bytes());
    out.extend_from_slice(&header.newest.0.to_le_bytes());
    out.extend_from_slice(&header.oldest.0.to_le_bytes());
    out.extend_from_slice(&header.bytes_total.to_le_bytes());
    out.extend_from_slice(&header.bytes_before.to_le_bytes());
    out.extend_from_slice(&header.last_id.0.to_le_bytes());
    out.extend_from_slice(&header.oldest_at.0.to_le_bytes());
    out.extend_from_slice(&header.oldest_expires.0.to_le_bytes());
    out.extend_from_slice(&header.newest_at.0.to_le_bytes());
    out.into()
}

/// Reads what [`encode_header`] wrote. Serials and bytes that contradict each other are damage, too.
pub fn decode_header(key: &[u8], value: &[u8]) -> Result<Header, Damage> {
    let mut fields = Fields::new(Space::Streams, key, value);
    fields.version()?;
    let header = Header {
        number: fields.u64()?,
        epoch: Epoch(fields.u128()?),
        newest: Serial(fields.u64()?),
        oldest: Serial(fields.u64()?),
        bytes_total: fields.u64()?,
        bytes_before: fields.u64()?,
        last_id: EventId(fields.u128()?),
        oldest_at: UnixMillis(fields.u64()?),
        oldest_expires: UnixMillis(fields.u64()?),
        newest_at: UnixMillis(fields.u64()?),
    };
    fields.end()?;
    let after_newest = header.newest.0.checked_add(1);
    if header.oldest.0 == 0 || after_newest.is_none_or(|after| header.oldest.0 > after) {
        return Err(fields.damage("has serials that contradict each other"));
    }
    if header.bytes_before > header.bytes_total {
        return Err(fields.damage("has byte counts that contradict each other"));
    }
    Ok(header)
}

/// A record's value; `bytes_before` are those of the bodies before it.
pub fn encode_event(record: &Record, bytes_before: u64) -> Bytes {
    let mut out = Vec::with_capacity(41 + record.body.len());
    out.push(VERSION);
    out.extend_from_slice(&record.id.0.to_le_bytes());
    out.extend_from_slice(&record.at.0.to_le_bytes());
    out.extend_from_slice(&record.expires.0.to_le_bytes());
    out.extend_from_slice(&bytes_before.to_le_bytes());
    out.extend_from_slice(&record.body);
    out.into()
}

/// Reads what [`encode_event`] wrote: the facts and the body.
pub fn decode_event<'a>(key: &[u8], value: &'a [u8]) -> Result<(StoredFacts, &'a [u8]), Damage> {
    let mut fields = Fields::new(Space::Events, key, value);
    fields.version()?;
    let (id, at) = (EventId(fields.u128()?), UnixMillis(fields.u64()?));
    let (expires, bytes_before) = (UnixMillis(fields.u64()?), fields.u64()?);
    let body = fields.rest;
    Ok((StoredFacts { id, at, expires, bytes_before, bytes: body.len() as u64 }, body))
}

/// An idempotency record's value.
pub fn encode_key(record: &KeyRecord) -> Bytes {
    let mut out = Vec::with_capacity(49);
    out.push(VERSION);
    out.extend_from_slice(&record.fingerprint);
    out.extend_from_slice(&record.serial.0.to_le_bytes());
    out.extend_from_slice(&record.id.0.to_le_bytes());
    out.extend_from_slice(&record.expires.0.to_le_bytes());
    out.into()
}

/// Reads what [`key_key`] and [`encode_key`] wrote.
pub fn decode_key(key: &[u8], value: &[u8]) -> Result<KeyRecord, Damage> {
    let mut names = Fields::new(Space::Keys, key, key);
    names.take::<8>()?;
    let text = std::str::from_utf8(names.rest).map_err(|_| names.damage("is not UTF-8"))?;
    let mut fields = Fields::new(Space::Keys, key, value);
    fields.version()?;
    let record = KeyRecord {
        key: Name::from(text),
        fingerprint: fields.take()?,
        serial: Serial(fields.u64()?),
        id: EventId(fields.u128()?),
        expires: UnixMillis(fields.u64()?),
    };
    fields.end()?;
    Ok(record)
}

/// A value of the state.
pub fn encode_state(value: &[u8], expires: UnixMillis) -> Bytes {
    let mut out = Vec::with_capacity(9 + value.len());
    out.push(VERSION);
    out.extend_from_slice(&expires.0.to_le_bytes());
    out.extend_from_slice(value);
    out.into()
}

/// Reads what [`encode_state`] wrote: when it expires and the value.
pub fn decode_state<'a>(key: &[u8], value: &'a [u8]) -> Result<(UnixMillis, &'a [u8]), Damage> {
    let mut fields = Fields::new(Space::State, key, value);
    fields.version()?;
    let expires = UnixMillis(fields.u64()?);
    Ok((expires, fields.rest))
}

/// A leftover's value.
pub fn encode_leftover(leftover: &Leftover) -> Bytes {
    let mut out = Vec::with_capacity(18);
    out.push(VERSION);
    out.push(u8::from(leftover.has_keys));
    out.extend_from_slice(&leftover.from.0.to_le_bytes());
    out.extend_from_slice(&leftover.to.0.to_le_bytes());
    out.into()
}

/// Reads what [`leftover_key`] and [`encode_leftover`] wrote.
pub fn decode_leftover(key: &[u8], value: &[u8]) -> Result<Leftover, Damage> {
    let tail = key.strip_prefix(META_LEFTOVER).unwrap_or_default();
    let mut names = Fields::new(Space::Meta, key, tail);
    let number = u64::from_be_bytes(names.take()?);
    names.end()?;
    let mut fields = Fields::new(Space::Meta, key, value);
    fields.version()?;
    let [has_keys] = fields.take()?;
    let (from, to) = (Serial(fields.u64()?), Serial(fields.u64()?));
    fields.end()?;
    Ok(Leftover { number, from, to, has_keys: has_keys != 0 })
}

/// A number in `meta`, as it is: layout, id, next stream number and last numbers of shelves.
pub fn decode_number<const N: usize>(key: &[u8], value: &[u8]) -> Result<[u8; N], Damage> {
    let mut fields = Fields::new(Space::Meta, key, value);
    let bytes = fields.take()?;
    fields.end()?;
    Ok(bytes)
}

/// What is left of a value that is being read, and whose it is.
struct Fields<'k, 'v> {
    space: Space,
    key: &'k [u8],
    rest: &'v [u8],
}

impl<'k, 'v> Fields<'k, 'v> {
    fn new(space: Space, key: &'k [u8], rest: &'v [u8]) -> Self {
        Fields { space, key, rest }
    }

    fn damage(&self, what: &'static str) -> Damage {
        Damage { space: self.space, key: self.key.to_vec(), what }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Damage> {
        let (head, rest) =
            self.rest.split_first_chunk().ok_or_else(|| self.damage("is cut off"))?;
        self.rest = rest;
        Ok(*head)
    }

    fn u64(&mut self) -> Result<u64, Damage> {
        self.take().map(u64::from_le_bytes)
    }

    fn u128(&mut self) -> Result<u128, Damage> {
        self.take().map(u128::from_le_bytes)
    }

    fn version(&mut self) -> Result<(), Damage> {
        match self.take()? {
            [VERSION] => Ok(()),
            _ => Err(self.damage("has an unknown version")),
        }
    }

    fn end(&self) -> Result<(), Damage> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.damage("is too long")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::prng::Prng;

    fn header() -> Header {
        Header {
            number: 3,
            epoch: Epoch(77 << 70),
            newest: Serial(9),
            oldest: Serial(4),
            bytes_total: 100,
            bytes_before: 20,
            last_id: EventId(5),
            oldest_at: UnixMillis(6),
            oldest_expires: UnixMillis(7),
            newest_at: UnixMillis(8),
        }
    }

    fn record() -> Record {
        Record {
            serial: Serial(4),
            id: EventId(1 << 90),
            at: UnixMillis(6),
            expires: UnixMillis(7),
            body: Bytes::from_static(b"body"),
        }
    }

    fn key_record() -> KeyRecord {
        KeyRecord {
            key: Name::from("order-7"),
            fingerprint: [9; 16],
            serial: Serial(4),
            id: EventId(1 << 90),
            expires: UnixMillis(7),
        }
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        assert_eq!(decode_header(b"k", &encode_header(&header())), Ok(header()));
        let value = encode_event(&record(), 20);
        let (facts, body) = decode_event(b"k", &value).unwrap();
        assert_eq!(
            (facts.id, facts.at, facts.expires),
            (record().id, record().at, record().expires)
        );
        assert_eq!((facts.bytes_before, facts.bytes, body), (20, 4, b"body".as_slice()));
        let key = key_key(3, "order-7").unwrap();
        assert_eq!(decode_key(&key, &encode_key(&key_record())), Ok(key_record()));
        let value = encode_state(b"value", UnixMillis(5));
        assert_eq!(decode_state(b"k", &value), Ok((UnixMillis(5), b"value".as_slice())));
        let leftover = Leftover { number: 8, from: Serial(1), to: Serial(5), has_keys: true };
        assert_eq!(decode_leftover(&leftover_key(8), &encode_leftover(&leftover)), Ok(leftover));
        let stream = StreamKey { app: Name::from("app"), channel: Name::from("a\0b") };
        assert_eq!(parse_stream_key(&stream_key(&stream).unwrap()), Ok(stream));
        assert_eq!(parse_event_key(&event_key(7, Serial(8))), Ok((7, Serial(8))));
        let key = expiry_key(UnixMillis(3), Space::Keys, b"key");
        assert_eq!(parse_expiry_key(&key), Ok((UnixMillis(3), Space::Keys, b"key".as_slice())));
    }

    #[test]
    fn a_value_cut_anywhere_is_damage_with_its_space_and_key() {
        let header = encode_header(&header());
        for cut in 0..header.len() {
            let damage = decode_header(b"k", &header[..cut]).unwrap_err();
            assert_eq!((damage.space, damage.key.as_slice()), (Space::Streams, b"k".as_slice()));
        }
        let event = encode_event(&record(), 0);
        assert!((0..41).all(|cut| decode_event(b"k", &event[..cut]).is_err()));
        let key = key_key(3, "k").unwrap();
        let value = encode_key(&key_record());
        assert!((0..value.len()).all(|cut| decode_key(&key, &value[..cut]).is_err()));
        assert!((0..8).all(|cut| decode_key(&key[..cut], &value).is_err()));
        let value = encode_state(b"", UnixMillis(5));
        assert!((0..value.len()).all(|cut| decode_state(b"k", &value[..cut]).is_err()));
        assert!((0..9).all(|cut| parse_expiry_key(&[4; 9][..cut]).is_err()));
        assert!(parse_event_key(&[0; 15]).is_err() && parse_event_key(&[0; 17]).is_err());
        assert!(parse_stream_key(b"no divider").is_err() && parse_stream_key(b"\xff\0c").is_err());
    }

    #[test]
    fn garbage_is_damage_and_never_a_panic() {
        let mut prng = Prng::new(1);
        for _ in 0..20_000 {
            let mut bytes = vec![0; prng.below(120) as usize];
            bytes.fill_with(|| prng.next_u32() as u8);
            if let (Some(first), true) = (bytes.first_mut(), prng.chance(1, 2)) {
                *first = VERSION;
            }
            if let Ok(header) = decode_header(b"k", &bytes) {
                let head = header.head();
                assert!(head.records() <= head.newest.0);
            }
            let _ = (decode_event(&bytes, &bytes), decode_key(&bytes, &bytes));
            let _ = (decode_state(&bytes, &bytes), decode_leftover(&bytes, &bytes));
            let _ = (parse_stream_key(&bytes), parse_expiry_key(&bytes), parse_event_key(&bytes));
        }
    }

    #[test]
    fn names_that_cannot_be_keys_are_refused() {
        let stream =
            |app: &str, channel: &str| StreamKey { app: app.into(), channel: channel.into() };
        assert!(stream_key(&stream("a\0b", "c")).is_err());
        assert!(stream_key(&stream("a", &"c".repeat(KEY_BYTES_MAX))).is_err());
        assert!(key_key(1, &"c".repeat(KEY_BYTES_MAX + 1)).is_err());
        assert!(state_key(Shelf::Push, &vec![0; KEY_BYTES_MAX + 1]).is_err());
    }

    #[test]
    fn the_end_of_a_prefix_is_right() {
        for (prefix, end) in
            [(&b"a"[..], Some(&b"b"[..])), (b"a\xff", Some(b"b")), (b"\xff\xff", None), (b"", None)]
        {
            assert_eq!(after_prefix(prefix).as_deref(), end);
        }
    }

    #[test]
    fn an_epoch_that_was_never_written_is_the_same_at_every_look() {
        let stream =
            |app: &str, channel: &str| StreamKey { app: app.into(), channel: channel.into() };
        let epoch = first_epoch(5, &stream("a", "b"));
        assert_eq!(epoch, first_epoch(5, &stream("a", "b")));
        for (store, app, channel) in [(6, "a", "b"), (5, "ab", ""), (5, "", "ab"), (5, "b", "a")] {
            assert_ne!(epoch, first_epoch(store, &stream(app, channel)));
        }
    }
}
