//! Dead letters: what a receiver did not take, kept for a person to look at.
//!
//! On the shelf of deliveries a letter stands under `d` and its id in eight bytes, and `a` with the same id beside
//! it says that it is to be sent again. All that is asked of letters is answered from their marks, which are in
//! memory; what a letter says is read when it is sent.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;

use bytes::{BufMut, Bytes, BytesMut};

use super::post::Entry;
use crate::base::event_id::EventId;
use crate::base::name::Name;
use crate::base::time::UnixMillis;

const LAYOUT: u8 = 1;
/// What a mark and its key take in the store beside the event, about.
const OVERHEAD_BYTES: u64 = 64;

/// Why a letter is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Why {
    /// Its receiver would not have it.
    Refused = 1,
    /// Its receiver took nothing until it was too old.
    Expired = 2,
    /// Its receiver took nothing, or too little, until the queue was at its bound.
    Overflow = 3,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "refused",
            Self::Expired => "expired",
            Self::Overflow => "overflow",
        })
    }
}

/// What is known of a letter without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Whose it was to be.
    pub receiver: Name,
    /// What kind of event it is.
    pub kind: Name,
    /// The event's name for good.
    pub event: EventId,
    /// When it happened.
    pub at: UnixMillis,
    /// Why it is dead.
    pub why: Why,
    /// What its receiver said last; 0: nothing.
    pub status: u16,
    /// How often it was sent.
    pub attempts: u32,
    /// When it died.
    pub died: UnixMillis,
    /// Bytes it takes in the store, about.
    pub bytes: u64,
    /// It is to be sent again.
    pub is_again: bool,
}

/// A letter as it is stored.
#[derive(Clone, Debug)]
pub struct Letter {
    /// What is known of it.
    pub mark: Mark,
    /// Its event's position in the queue.
    pub number: u64,
    /// Its event, as it was stored.
    pub stored: Bytes,
}

impl Letter {
    /// The letter of an entry that its receiver does not get.
    pub fn new(
        receiver: &Name,
        entry: &Entry,
        (why, status, attempts): (Why, u16, u32),
        died: UnixMillis,
    ) -> Self {
        let mark = Mark {
            receiver: receiver.clone(),
            kind: entry.report.kind.clone(),
            event: entry.id,
            at: entry.report.at,
            why,
            status,
            attempts,
            died,
            bytes: entry.stored.len() as u64 + OVERHEAD_BYTES,
            is_again: false,
        };
        Self { mark, number: entry.number, stored: entry.stored.clone() }
    }

    /// As bytes for the store: a byte for the layout and one for why, status, attempts, when and number little end
    /// first, the receiver's name behind its length in one byte, the event.
    pub fn encode(&self) -> Bytes {
        let Mark { receiver, why, status, attempts, died, .. } = &self.mark;
        let mut out = BytesMut::with_capacity(32 + receiver.len() + self.stored.len());
        out.put_u8(LAYOUT);
        out.put_u8(*why as u8);
        out.put_u16_le(*status);
        out.put_u32_le(*attempts);
        out.put_u64_le(died.0);
        out.put_u64_le(self.number);
        // The settings bound it far below.
        out.put_u8(receiver.len().min(255) as u8);
        out.put_slice(&receiver.as_bytes()[..receiver.len().min(255)]);
        out.put_slice(&self.stored);
        out.freeze()
    }

    /// The letter of these bytes, and the entry in it; none: this version cannot read them.
    pub fn decode(value: &Bytes) -> Option<(Self, Entry)> {
        let (head, rest) = value.split_first_chunk::<25>()?;
        let why = match (head[0], head[1]) {
            (LAYOUT, 1) => Why::Refused,
            (LAYOUT, 2) => Why::Expired,
            (LAYOUT, 3) => Why::Overflow,
            _ => return None,
        };
        let eight = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| head[at + i]));
        let (name, _) = rest.split_at_checked(usize::from(head[24]))?;
        let receiver = Name::from(std::str::from_utf8(name).ok()?);
        let status = u16::from_le_bytes([head[2], head[3]]);
        let attempts = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
        let entry = Entry::read(eight(16), value.slice(25 + name.len()..))?;
        let said = (why, status, attempts);
        Some((Self::new(&receiver, &entry, said, UnixMillis(eight(8))), entry))
    }
}

/// A letter's key on its shelf.
pub fn letter_key(id: u64) -> Bytes {
    key(b'd', id)
}

/// The key that says that a letter is to be sent again.
pub fn again_key(id: u64) -> Bytes {
    key(b'a', id)
}

fn key(first: u8, id: u64) -> Bytes {
    let mut key = [first; 9];
    key[1..].copy_from_slice(&id.to_be_bytes());
    Bytes::copy_from_slice(&key)
}

/// The letter that a key behind its first byte is about.
pub fn id_of(rest: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(rest.try_into().ok()?))
}

/// The marks of all letters, by their ids.
#[derive(Default)]
pub struct Letters {
    marks: BTreeMap<u64, Mark>,
    bytes: u64,
    last: u64,
}

impl Letters {
    /// An id that no letter has.
    pub fn next_id(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// No letter is to get this id: there is something under it.
    pub fn reserve(&mut self, id: u64) {
        self.last = self.last.max(id);
    }

    /// Keeps a mark.
    pub fn insert(&mut self, id: u64, mark: Mark) {
        self.reserve(id);
        self.bytes += mark.bytes;
        if let Some(before) = self.marks.insert(id, mark) {
            self.bytes -= before.bytes;
        }
    }

    /// Forgets a letter.
    pub fn remove(&mut self, id: u64) -> Option<Mark> {
        let mark = self.marks.remove(&id)?;
        self.bytes -= mark.bytes;
        Some(mark)
    }

    /// A letter's mark.
    pub fn get_mut(&mut self, id: u64) -> Option<&mut Mark> {
        self.marks.get_mut(&id)
    }

    /// All of them, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Mark)> {
        self.marks.iter().map(|(id, mark)| (*id, mark))
    }

    /// Those behind this one, the oldest first.
    pub fn after(&self, id: u64) -> impl Iterator<Item = (u64, &Mark)> {
        let behind = (Bound::Excluded(id), Bound::Unbounded);
        self.marks.range(behind).map(|(id, mark)| (*id, mark))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.marks.len()
    }

    /// The oldest ones that must go so that so many more, of so many bytes, fit within the bounds.
    pub fn over(&self, (more, bytes): (u64, u64), letters_max: u64, bytes_max: u64) -> Vec<u64> {
        let (mut count, mut sum) = (self.marks.len() as u64 + more, self.bytes + bytes);
        let mut gone = Vec::new();
        for (id, mark) in self.iter() {
            if count <= letters_max && sum <= bytes_max {
                break;
            }
            (count, sum) = (count - 1, sum - mark.bytes);
            gone.push(id);
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::AppIndex;
    use crate::broker::{Payload, Report, report};

    fn letter(number: u64, why: Why) -> Letter {
        let report = Report {
            app: AppIndex(0),
            kind: "a.kind".into(),
            channel: None,
            fields: vec![("X-A", "b".into())],
            body: Payload(Bytes::from_static(b"{}")),
        };
        let stored = report::encode(&report, "app", UnixMillis(77));
        let entry = Entry::read(number, stored).expect("a report");
        Letter::new(&Name::from("crm"), &entry, (why, 400, 2), UnixMillis(99))
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        for why in [Why::Refused, Why::Expired, Why::Overflow] {
            let letter = letter(7, why);
            let (again, entry) = Letter::decode(&letter.encode()).expect("a letter");
            assert_eq!(again.mark, letter.mark);
            assert_eq!((entry.number, &entry.stored), (7, &letter.stored));
        }
        let whole = letter(7, Why::Refused).encode();
        // Behind the body the event is whole, if without its fields.
        for end in 0..whole.len() - 12 {
            assert!(Letter::decode(&whole.slice(..end)).is_none(), "{end}");
        }
        assert!(Letter::decode(&Bytes::from([&[LAYOUT + 1], &whole[1..]].concat())).is_none());
    }

    #[test]
    fn the_oldest_go_when_there_is_no_room() {
        let mut letters = Letters::default();
        let bytes = letter(1, Why::Refused).mark.bytes;
        for number in 1..=5 {
            let id = letters.next_id();
            letters.insert(id, letter(number, Why::Refused).mark);
        }
        for (more, letters_max, bytes_max, gone) in [
            (0, 5, u64::MAX, &[][..]),
            (1, 5, u64::MAX, &[1]),
            (2, 5, u64::MAX, &[1, 2]),
            (1, 100, 5 * bytes, &[1]),
            (1, 100, 3 * bytes, &[1, 2, 3]),
            (9, 1, 1, &[1, 2, 3, 4, 5]),
        ] {
            assert_eq!(letters.over((more, more * bytes), letters_max, bytes_max), gone);
        }
        letters.remove(1);
        assert_eq!((letters.count(), letters.bytes, letters.next_id()), (4, 4 * bytes, 6));
    }
}
