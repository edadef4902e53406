//! Retention: what may be removed is, in bounded portions.

use std::ops::ControlFlow;

use crate::base::ids::Serial;

use super::database::{Batch, DatabaseError, Direction, KeyRange, Look};
use super::format::{
    Damage, Header, Space, decode_header, decode_key, decode_state, encode_header, leftover_key,
    parse_expiry_key, parse_stream_key,
};
use super::ledger::{CHUNK_RECORDS, Ledger};
use super::reads::{self, ReadError};
use super::{Bounds, Clock, Head, StreamKey};

/// Headers looked at in one portion.
const PORTION_STREAMS: usize = 256;
/// Expiries looked at in one portion.
const PORTION_EXPIRIES: usize = 1024;

/// What one portion of a sweep did.
#[derive(Clone, Debug, Default)]
pub struct Portion {
    /// Streams whose oldest record is another one now.
    pub moved: Vec<(StreamKey, Head)>,
    /// How many records no stream shows any more because of it.
    pub records: u64,
    /// All streams and expiries were seen since the last time this was true, and nothing is left to delete.
    pub is_round_over: bool,
    /// What could not be read, and was left alone.
    pub damages: Vec<Damage>,
}

impl Ledger {
    /// Sweeps one portion: deletes leftovers, then what expired among keys and state, then looks at some streams.
    /// `bounds_of` says what a stream may keep beside the expiry of its records. After an error the ledger is of
    /// no more use.
    pub fn sweep(
        &mut self,
        clock: Clock,
        bounds_of: &dyn Fn(&StreamKey) -> Bounds,
    ) -> Result<Portion, DatabaseError> {
        let portion = self.portion(clock, bounds_of);
        // It may have ended between what it noted and the commit of it.
        portion.inspect_err(|error| self.give_up(error))
    }

    fn portion(
        &mut self,
        clock: Clock,
        bounds_of: &dyn Fn(&StreamKey) -> Bounds,
    ) -> Result<Portion, DatabaseError> {
        let mut portion = Portion::default();
        let mut batch = Batch::default();
        let look = self.database.look();
        if self.delete_some(&*look, &mut batch)? {
            self.commit_batch(batch)?;
            return Ok(portion);
        }
        let has_more_expiries = expire(&*look, &mut batch, clock, &mut portion.damages)?;
        let (streams, cursor) = self.some_streams(&*look, &mut portion.damages)?;
        let is_last = cursor.is_none();
        let mut stopped_at = None;
        let mut moved = Vec::new();
        for (key, stream, header) in streams {
            if batch.len() as u64 >= CHUNK_RECORDS {
                stopped_at = Some(key);
                break;
            }
            let bounds = bounds_of(&stream);
            let (oldest, is_done) = match new_oldest(&*look, &header, clock, bounds) {
                Ok(found) => found,
                Err(error) => {
                    portion.damages.push(damage_of(error)?);
                    continue;
                }
            };
            if oldest != header.oldest {
                match self.move_oldest(&*look, &mut batch, &header, oldest) {
                    Ok(header_moved) => {
                        batch.put(Space::Streams, key.clone(), encode_header(&header_moved));
                        portion.records += header.records() - header_moved.records();
                        moved.push((stream, header_moved));
                    }
                    Err(error) => portion.damages.push(damage_of(error)?),
                }
            }
            if !is_done {
                stopped_at = Some(key);
                break;
            }
        }
        drop(look);
        self.commit_batch(batch)?;
        portion.is_round_over =
            is_last && stopped_at.is_none() && !has_more_expiries && self.leftovers.is_empty();
        self.cursor = stopped_at.or(cursor);
        for (stream, header) in moved {
            self.know(&stream, header);
            portion.moved.push((stream, header.head()));
        }
        Ok(portion)
    }

    /// Deletes a chunk of what no header reaches; false: there is nothing.
    fn delete_some(&mut self, look: &dyn Look, batch: &mut Batch) -> Result<bool, DatabaseError> {
        let Some((_, &left)) = self.leftovers.first_key_value() else { return Ok(false) };
        let gone = self.delete_chunk(batch, left, CHUNK_RECORDS);
        if !left.has_keys || gone == CHUNK_RECORDS {
            return Ok(true);
        }
        let mut keys = 0;
        let range = KeyRange::prefix(&left.number.to_be_bytes());
        look.walk(Space::Keys, range, Direction::Forwards, &mut |key, _| {
            batch.remove(Space::Keys, key);
            keys += 1;
            let is_full = keys == CHUNK_RECORDS;
            Ok(if is_full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        if keys < CHUNK_RECORDS {
            batch.remove(Space::Meta, leftover_key(left.number));
            self.leftovers.remove(&left.number);
        }
        Ok(true)
    }

    /// The next streams from the cursor on, and where to go on after them; `None`: at the first.
    #[allow(clippy::type_complexity)] // A name for it would be read once.
    fn some_streams(
        &self,
        look: &dyn Look,
        damages: &mut Vec<Damage>,
    ) -> Result<(Vec<(Vec<u8>, StreamKey, Header)>, Option<Vec<u8>>), DatabaseError> {
        let (mut found, mut next, mut seen) = (Vec::new(), None, 0);
        let mut range = KeyRange::all();
        if let Some(cursor) = &self.cursor {
            range.from = std::ops::Bound::Included(cursor.clone());
        }
        look.walk(Space::Streams, range, Direction::Forwards, &mut |key, value| {
            if seen == PORTION_STREAMS {
                next = Some(key.to_vec());
                return Ok(ControlFlow::Break(()));
            }
            seen += 1;
            match (parse_stream_key(key), decode_header(key, value)) {
                (Ok(stream), Ok(header)) => found.push((key.to_vec(), stream, header)),
                (Err(damage), _) | (_, Err(damage)) => damages.push(damage),
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok((found, next))
    }
}

/// Damage is passed by; a failure ends the sweep.
fn damage_of(error: DatabaseError) -> Result<Damage, DatabaseError> {
    match error {
        DatabaseError::Damaged(damage) => Ok(damage),
        failed => Err(failed),
    }
}

/// Where a stream should begin now, and whether that is all or there may be more to pass.
fn new_oldest(
    look: &dyn Look,
    header: &Header,
    clock: Clock,
    bounds: Bounds,
) -> Result<(Serial, bool), DatabaseError> {
    let next = header.newest.0 + 1;
    let (mut oldest, mut is_done) = (header.oldest, true);
    if header.records() > 0 && header.oldest_expires <= clock {
        let (found, facts) = reads::first_shown(look, header, oldest, clock, CHUNK_RECORDS)?;
        is_done = facts.is_none_or(|facts| facts.expires > clock);
        oldest = found;
    }
    if bounds.records_max > 0 {
        oldest = oldest.max(Serial(next.saturating_sub(bounds.records_max)));
    }
    let is_heavy = bounds.bytes_max > 0 && header.head().bytes > bounds.bytes_max;
    if is_heavy && oldest.0 < next {
        // The bytes before a record never decrease, so the first that leaves few enough is found by halving.
        let (mut low, mut high) = (oldest.0, next);
        while low < high {
            let middle = low + (high - low) / 2;
            let before = reads::facts(look, header.number, Serial(middle))?.bytes_before;
            if header.bytes_total.saturating_sub(before) <= bounds.bytes_max {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        oldest = Serial(low);
    }
    Ok((oldest, is_done))
}

/// Removes what expired among keys and state; true: there may be more.
fn expire(
    look: &dyn Look,
    batch: &mut Batch,
    clock: Clock,
    damages: &mut Vec<Damage>,
) -> Result<bool, DatabaseError> {
    let (mut due, mut has_more) = (Vec::new(), false);
    look.walk(Space::Expiry, KeyRange::all(), Direction::Forwards, &mut |key, _| {
        let is_due = key.first_chunk().is_none_or(|at| u64::from_be_bytes(*at) <= clock.0);
        has_more = is_due && due.len() == PORTION_EXPIRIES;
        if !is_due || has_more {
            return Ok(ControlFlow::Break(()));
        }
        due.push(key.to_vec());
        Ok(ControlFlow::Continue(()))
    })?;
    for expiry in due {
        match expired(look, clock, &expiry) {
            Ok(Some((space, key))) => batch.remove(space, key),
            Ok(None) => {}
            Err(ReadError::Database(error)) => damages.push(damage_of(error)?),
            Err(ReadError::Name) => {}
        }
        // What cannot be read is told once and then left alone.
        batch.remove(Space::Expiry, expiry);
    }
    Ok(has_more)
}

/// What an expiry removes: what it names, unless that is gone or was written again and lasts longer.
fn expired(
    look: &dyn Look,
    clock: Clock,
    expiry: &[u8],
) -> Result<Option<(Space, Vec<u8>)>, ReadError> {
    let (_, space, key) = parse_expiry_key(expiry)?;
    let Some(value) = look.value(space, key)? else { return Ok(None) };
    let expires = match space {
        Space::Keys => decode_key(key, &value)?.expires,
        _ => decode_state(key, &value)?.0,
    };
    Ok((expires <= clock).then(|| (space, key.to_vec())))
}
