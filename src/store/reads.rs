//! What the asks that write nothing do, on one look at the database.
//!
//! A record is *expired in order*: once its own expiry and those of all older ones have passed. So what is
//! shown of a stream is always its newest records without a hole, also where the retention was shortened.

use std::collections::HashMap;
use std::ops::{Bound, ControlFlow};

use bytes::Bytes;

use crate::base::ids::Serial;

use super::database::{DatabaseError, Direction, KeyRange, Look};
use super::format::{
    Damage, Header, Space, StoredFacts, decode_event, decode_header, decode_key, decode_state,
    event_key, first_epoch, parse_event_key, state_key, stream_key,
};
use super::{Answer, Ask, Clock, Fault, KeyRecord, Page, PageAsk, Record, Shelf, StreamKey};

/// Records that come with [`Answer::Opened`], at most, however small they are.
pub const TAIL_RECORDS_MAX: u64 = 65_536;
/// Streams of which is remembered how far they are expired.
const MEMO_MAX: usize = 65_536;

/// Why something could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// A name that cannot be a key.
    Name,
    /// The database's reason.
    Database(DatabaseError),
}

impl From<DatabaseError> for ReadError {
    fn from(error: DatabaseError) -> Self {
        Self::Database(error)
    }
}

impl From<Damage> for ReadError {
    fn from(damage: Damage) -> Self {
        Self::Database(damage.into())
    }
}

impl From<super::format::NotAKey> for ReadError {
    fn from(_: super::format::NotAKey) -> Self {
        Self::Name
    }
}

impl ReadError {
    /// What the one who asked is told.
    pub fn fault(&self) -> Fault {
        Fault::Failed(match self {
            Self::Name => "a name that is too long, or an app's id with a zero byte".into(),
            Self::Database(error) => error.to_string(),
        })
    }
}

/// The header of a stream; `None`: it was never written.
pub fn header(look: &dyn Look, stream: &StreamKey) -> Result<Option<Header>, ReadError> {
    let key = stream_key(stream)?;
    let value = look.value(Space::Streams, &key)?;
    Ok(value.map(|value| decode_header(&key, &value)).transpose()?)
}

/// What is known of one record, which must be there.
pub fn facts(look: &dyn Look, number: u64, serial: Serial) -> Result<StoredFacts, DatabaseError> {
    let key = event_key(number, serial);
    let value = look.value(Space::Events, &key)?.ok_or_else(|| missing(number, serial))?;
    Ok(decode_event(&key, &value)?.0)
}

fn missing(number: u64, serial: Serial) -> Damage {
    let what = "is missing, and records around it are there";
    Damage { space: Space::Events, key: event_key(number, serial).to_vec(), what }
}

/// What is handed each record's serial, facts and body, and says whether to go on.
pub type EventVisitor<'a> = dyn FnMut(Serial, StoredFacts, &[u8]) -> ControlFlow<()> + 'a;

/// Hands over the records from one serial to another, both included, and checks that none is missing.
pub fn walk_events(
    look: &dyn Look,
    number: u64,
    (from, to): (Serial, Serial),
    direction: Direction,
    visitor: &mut EventVisitor<'_>,
) -> Result<(), DatabaseError> {
    if from > to {
        return Ok(());
    }
    let mut left = to.0 - from.0 + 1;
    let expected = |left: u64| match direction {
        Direction::Forwards => Serial(to.0 + 1 - left),
        Direction::Backwards => Serial(from.0 + left - 1),
    };
    let range = KeyRange {
        from: Bound::Included(event_key(number, from).to_vec()),
        to: Bound::Included(event_key(number, to).to_vec()),
    };
    let mut is_broken_off = false;
    look.walk(Space::Events, range, direction, &mut |key, value| {
        let (_, serial) = parse_event_key(key)?;
        if serial != expected(left) {
            return Err(missing(number, expected(left)).into());
        }
        left -= 1;
        let (facts, body) = decode_event(key, value)?;
        let flow = visitor(serial, facts, body);
        is_broken_off = flow.is_break();
        Ok(flow)
    })?;
    if left > 0 && !is_broken_off {
        return Err(missing(number, expected(left)).into());
    }
    Ok(())
}

/// Walks past what is expired at the old end of a stream, at most so many records. Gives the first record
/// that is shown, with its facts; without them: none is, or the walk ended early.
pub fn first_shown(
    look: &dyn Look,
    header: &Header,
    from: Serial,
    clock: Clock,
    walk_max: u64,
) -> Result<(Serial, Option<StoredFacts>), DatabaseError> {
    let mut found = (Serial(header.newest.0 + 1), None);
    let mut walked = 0;
    let range = (from, header.newest);
    walk_events(look, header.number, range, Direction::Forwards, &mut |serial, facts, _| {
        if facts.expires > clock || walked == walk_max {
            found = (serial, Some(facts));
            return ControlFlow::Break(());
        }
        walked += 1;
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

/// Answers what writes nothing. Keeps only what saves it a walk.
#[derive(Debug, Default)]
pub struct Reader {
    /// How far streams are expired, by their number: the clock of retention does not go back.
    expired: HashMap<u64, Serial>,
}

impl Reader {
    /// Answers [`Ask::Open`], [`Ask::Page`], [`Ask::Read`] and [`Ask::Pick`]; `None`: another ask.
    pub fn answer(
        &mut self,
        look: &dyn Look,
        store: u128,
        ask: &Ask,
        clock: Clock,
    ) -> Option<Answer> {
        let answer = match ask {
            Ask::Open { stream, after, tail, bytes_max } => {
                self.open(look, store, stream, (*after, *tail, *bytes_max), clock)
            }
            Ask::Page { stream, page } => {
                self.page(look, store, stream, page, clock).map(Answer::Page)
            }
            Ask::Read { shelf, prefix, after, before, is_last_first, values_max, bytes_max } => {
                let direction =
                    if *is_last_first { Direction::Backwards } else { Direction::Forwards };
                let range = value_range(*shelf, prefix, (after.as_deref(), before.as_deref()));
                range.and_then(|it| values(look, it, direction, (*values_max, *bytes_max), clock))
            }
            Ask::Pick { shelf, keys } => pick(look, *shelf, keys, clock),
            _ => return None,
        };
        Some(answer.unwrap_or_else(|error| Answer::Fault(error.fault())))
    }

    /// A stream as it is shown: its oldest record is the first that is not expired.
    pub fn shown(
        &mut self,
        look: &dyn Look,
        header: Header,
        clock: Clock,
    ) -> Result<Header, DatabaseError> {
        if header.records() == 0 || header.oldest_expires > clock {
            return Ok(header);
        }
        let from =
            self.expired.get(&header.number).map_or(header.oldest, |&it| it.max(header.oldest));
        let (oldest, facts) = first_shown(look, &header, from, clock, u64::MAX)?;
        if self.expired.len() >= MEMO_MAX {
            self.expired.clear();
        }
        self.expired.insert(header.number, oldest);
        Ok(header.with_oldest(oldest, facts.as_ref()))
    }

    fn header(
        &mut self,
        look: &dyn Look,
        store: u128,
        stream: &StreamKey,
        clock: Clock,
    ) -> Result<Header, ReadError> {
        match header(look, stream)? {
            Some(header) => Ok(self.shown(look, header, clock)?),
            None => Ok(Header::new(0, first_epoch(store, stream))),
        }
    }

    fn open(
        &mut self,
        look: &dyn Look,
        store: u128,
        stream: &StreamKey,
        (after, tail, bytes_max): (Serial, u32, u64),
        clock: Clock,
    ) -> Result<Answer, ReadError> {
        let header = self.header(look, store, stream, clock)?;
        let next = header.newest.0 + 1;
        let wanted = after.0.saturating_add(1).min(next.saturating_sub(u64::from(tail)));
        let bounded = next.saturating_sub(TAIL_RECORDS_MAX);
        let from = Serial(wanted.max(bounded).max(header.oldest.0));
        let (mut records, mut bytes) = (Vec::new(), 0);
        let range = (from, header.newest);
        walk_events(
            look,
            header.number,
            range,
            Direction::Backwards,
            &mut |serial, facts, body| {
                bytes += facts.bytes;
                if bytes > bytes_max {
                    return ControlFlow::Break(());
                }
                records.push(record(serial, &facts, body));
                ControlFlow::Continue(())
            },
        )?;
        records.reverse();
        let keys = if header.number == 0 { Vec::new() } else { keys(look, header.number, clock)? };
        Ok(Answer::Opened { head: header.head(), tail: records, keys })
    }

    fn page(
        &mut self,
        look: &dyn Look,
        store: u128,
        stream: &StreamKey,
        ask: &PageAsk,
        clock: Clock,
    ) -> Result<Page, ReadError> {
        let header = self.header(look, store, stream, clock)?;
        let mut page = Page { head: header.head(), ..Page::default() };
        let range = (ask.from.max(header.oldest), ask.to.min(header.newest));
        let direction =
            if ask.is_newest_first { Direction::Backwards } else { Direction::Forwards };
        let mut bytes = 0;
        walk_events(look, header.number, range, direction, &mut |serial, facts, body| {
            let is_early = ask.from_at.is_some_and(|from| facts.at < from);
            if is_early || ask.to_at.is_some_and(|to| facts.at > to) {
                return ControlFlow::Continue(());
            }
            let count = page.records.len();
            bytes += facts.bytes;
            if count >= ask.records_max.max(1) as usize || count > 0 && bytes > ask.bytes_max {
                page.has_more = true;
                return ControlFlow::Break(());
            }
            page.records.push(record(serial, &facts, body));
            ControlFlow::Continue(())
        })?;
        Ok(page)
    }
}

/// The body is copied: what comes from the database may hold the block it lies in.
fn record(serial: Serial, facts: &StoredFacts, body: &[u8]) -> Record {
    let body = Bytes::copy_from_slice(body);
    Record { serial, id: facts.id, at: facts.at, expires: facts.expires, body }
}

fn keys(look: &dyn Look, number: u64, clock: Clock) -> Result<Vec<KeyRecord>, DatabaseError> {
    let mut found = Vec::new();
    let range = KeyRange::prefix(&number.to_be_bytes());
    look.walk(Space::Keys, range, Direction::Forwards, &mut |key, value| {
        let record = decode_key(key, value)?;
        if record.expires > clock {
            found.push(record);
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(found)
}

/// The keys that a read is about.
fn value_range(
    shelf: Shelf,
    prefix: &[u8],
    (after, before): (Option<&[u8]>, Option<&[u8]>),
) -> Result<KeyRange, ReadError> {
    let prefix = state_key(shelf, prefix)?;
    let mut range = KeyRange::prefix(&prefix);
    if let Some(after) = after {
        let after = state_key(shelf, after)?;
        // A key before the prefix would let the walk begin among keys that do not start so.
        if after >= prefix {
            range = range.after(&after);
        }
    }
    if let Some(before) = before {
        let before = state_key(shelf, before)?;
        // And one behind all of them would let it end among others.
        let is_within = match &range.to {
            Bound::Included(to) | Bound::Excluded(to) => before < *to,
            Bound::Unbounded => true,
        };
        if is_within {
            range.to = Bound::Excluded(before);
        }
    }
    Ok(range)
}

fn values(
    look: &dyn Look,
    range: KeyRange,
    direction: Direction,
    (values_max, bytes_max): (u32, u64),
    clock: Clock,
) -> Result<Answer, ReadError> {
    let (mut found, mut bytes, mut has_more) = (Vec::new(), 0, false);
    look.walk(Space::State, range, direction, &mut |key, value| {
        let (expires, content) = decode_state(key, value)?;
        if expires <= clock {
            return Ok(ControlFlow::Continue(()));
        }
        bytes += (key.len() - 1 + content.len()) as u64;
        if found.len() >= values_max as usize || !found.is_empty() && bytes > bytes_max {
            has_more = true;
            return Ok(ControlFlow::Break(()));
        }
        found.push((Bytes::copy_from_slice(&key[1..]), Bytes::copy_from_slice(content)));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(Answer::Values { values: found, has_more })
}

fn pick(look: &dyn Look, shelf: Shelf, keys: &[Bytes], clock: Clock) -> Result<Answer, ReadError> {
    let mut found = Vec::with_capacity(keys.len());
    for key in keys {
        let whole = state_key(shelf, key)?;
        let Some(value) = look.value(Space::State, &whole)? else { continue };
        let (expires, content) = decode_state(&whole, &value)?;
        if expires > clock {
            found.push((key.clone(), Bytes::copy_from_slice(content)));
        }
    }
    Ok(Answer::Values { values: found, has_more: false })
}
