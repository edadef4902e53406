//! What the asks do: a group of them becomes one batch, one sync, and an answer each.
//!
//! The ledger is the only writer. It remembers the headers of streams touched lately, so that appends are
//! checked without a read, and forgets them all when a commit fails: then it is not known what is on disk,
//! the ledger answers nothing more, and a new one is made on the database opened again.
//!
//! Removing moves the header first. What no header reaches any more is a [`Leftover`], remembered in the same
//! batch and deleted in chunks later, so that neither a long purge nor a crash in it matters.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::base::ids::{Epoch, Serial};

use super::changes::put_expiry;
use super::database::{Batch, Database, DatabaseError, Direction, KeyRange, Look};
use super::format::{
    Header, Leftover, META_LEFTOVER, META_NEXT, META_PUSHED, Space, decode_leftover, decode_number,
    encode_event, encode_header, encode_key, encode_leftover, event_key, first_epoch, key_key,
    leftover_key, parse_pushed_key, stream_key,
};
use super::reads::{self, ReadError, Reader};
use super::{Answer, Ask, Change, Clock, Fault, KeyRecord, PurgeTo, Record, Shelf, StreamKey};

/// Records deleted in one batch on behalf of one ask or one portion of a sweep. An append may have to wait for
/// that batch: 4096 took 16 ms on the mean (two shared cores, development build), so it is a quarter of that.
pub const CHUNK_RECORDS: u64 = 1024;
/// A group's batch is committed early when it has so many changes ...
const BATCH_WRITES_MAX: usize = 65_536;
/// ... or so many bytes.
const BATCH_BYTES_MAX: usize = 32 << 20;
/// Headers remembered; past it all are forgotten, and read again when they are needed.
const HEADERS_MAX: usize = 65_536;

/// The one writer of a store.
pub struct Ledger {
    pub(super) database: Arc<dyn Database>,
    store: u128,
    next_number: u64,
    /// Of streams touched lately, as of the batch in the making; `None`: never written.
    headers: HashMap<StreamKey, Option<Header>>,
    /// The last key given on each shelf by [`Change::Push`], as of the batch in the making.
    pub(super) pushed: BTreeMap<u8, u64>,
    /// What is to be deleted, by number.
    pub(super) leftovers: BTreeMap<u64, Leftover>,
    /// Where the sweep goes on in the streams; `None`: at the first.
    pub(super) cursor: Option<Vec<u8>>,
    pub(super) reader: Reader,
    /// Why the last commit failed; nothing is done after it.
    broken: Option<String>,
}

/// A group in the making.
#[derive(Default)]
pub(super) struct Group {
    pub(super) batch: Batch,
    /// What was on disk before the batch, for conditions; made when it is first needed.
    pub(super) look: Option<Box<dyn Look>>,
    /// Streams whose header goes with the batch.
    touched: HashSet<StreamKey>,
    has_new_number: bool,
    answers: Vec<Answer>,
    /// From here on the answers depend on the batch.
    open_from: usize,
    /// Answers whose head may have expired records at its old end, and the header.
    to_show: Vec<(usize, Header)>,
}

impl Ledger {
    /// The ledger of a settled store ([`super::open::settle`]), whose id is `store`.
    pub fn new(database: Arc<dyn Database>, store: u128) -> Result<Self, DatabaseError> {
        let look = database.look();
        let next = look.value(Space::Meta, META_NEXT)?;
        let next = next.map(|value| decode_number(META_NEXT, &value)).transpose()?;
        let mut leftovers = BTreeMap::new();
        let range = KeyRange::prefix(META_LEFTOVER);
        look.walk(Space::Meta, range, Direction::Forwards, &mut |key, value| {
            let leftover = decode_leftover(key, value)?;
            leftovers.insert(leftover.number, leftover);
            Ok(ControlFlow::Continue(()))
        })?;
        let mut pushed = BTreeMap::new();
        let range = KeyRange::prefix(META_PUSHED);
        look.walk(Space::Meta, range, Direction::Forwards, &mut |key, value| {
            let last = u64::from_le_bytes(decode_number(key, value)?);
            pushed.insert(parse_pushed_key(key)?, last);
            Ok(ControlFlow::Continue(()))
        })?;
        drop(look);
        Ok(Self {
            database,
            store,
            pushed,
            next_number: next.map_or(1, u64::from_le_bytes),
            headers: HashMap::new(),
            leftovers,
            cursor: None,
            reader: Reader::default(),
            broken: None,
        })
    }

    /// True after a commit failed: this ledger is of no more use.
    pub fn is_broken(&self) -> bool {
        self.broken.is_some()
    }

    /// Why it is broken, for the log.
    pub fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    /// Does what is asked, in order, and gives an answer for each. What an answer acknowledges is on disk.
    pub fn answer(&mut self, asks: impl IntoIterator<Item = Ask>, clock: Clock) -> Vec<Answer> {
        let mut group = Group::default();
        for ask in asks {
            if let Some(text) = &self.broken {
                group.answers.push(Answer::Fault(Fault::Failed(text.clone())));
                continue;
            }
            let answer = self.one(&mut group, ask, clock);
            group.answers.push(answer.unwrap_or_else(|error| Answer::Fault(error.fault())));
            let batch = &group.batch;
            if batch.len() >= BATCH_WRITES_MAX || batch.bytes() >= BATCH_BYTES_MAX {
                self.commit(&mut group, clock);
            }
        }
        self.commit(&mut group, clock);
        if self.headers.len() > HEADERS_MAX {
            self.headers.clear();
        }
        group.answers
    }

    fn one(&mut self, group: &mut Group, ask: Ask, clock: Clock) -> Result<Answer, ReadError> {
        match ask {
            Ask::Append { stream, epoch, records, keys, changes } => {
                self.append(group, stream, epoch, (&records, &keys, &changes), clock)
            }
            Ask::Purge { stream, to } => self.purge(group, stream, to, clock),
            Ask::Reset { stream, epoch } => self.reset(group, stream, epoch, clock),
            Ask::Change { changes } => Ok(match self.stage(group, &changes, clock)? {
                Ok(staged) => {
                    self.put_staged(&mut group.batch, staged);
                    Answer::Changed
                }
                Err(fault) => Answer::Fault(fault),
            }),
            ask => {
                // Whoever asks sees what was done before.
                self.commit(group, clock);
                let look = self.database.look();
                let answer = self.reader.answer(&*look, self.store, &ask, clock);
                Ok(answer.expect("the asks that write are above"))
            }
        }
    }

    fn header(&mut self, stream: &StreamKey) -> Result<Option<Header>, ReadError> {
        if let Some(header) = self.headers.get(stream) {
            return Ok(*header);
        }
        let header = reads::header(&*self.database.look(), stream)?;
        self.headers.insert(stream.clone(), header);
        Ok(header)
    }

    fn take_number(&mut self, group: &mut Group) -> u64 {
        group.has_new_number = true;
        self.next_number += 1;
        self.next_number - 1
    }

    fn append(
        &mut self,
        group: &mut Group,
        stream: StreamKey,
        epoch: Epoch,
        (records, keys, changes): (&[Record], &[KeyRecord], &[(Shelf, Change)]),
        clock: Clock,
    ) -> Result<Answer, ReadError> {
        let known = self.header(&stream)?;
        let mut header = known.unwrap_or_else(|| Header::new(0, first_epoch(self.store, &stream)));
        let continues = records.iter().zip(header.newest.0 + 1..).all(|(it, n)| it.serial.0 == n);
        if epoch != header.epoch || records.is_empty() || !continues {
            return Ok(Answer::Fault(Fault::Order));
        }
        // Whatever can be refused is, before anything is put into the batch of all.
        let number = if known.is_some() { header.number } else { self.next_number };
        let named =
            keys.iter().map(|key| key_key(number, &key.key)).collect::<Result<Vec<_>, _>>()?;
        let staged = match self.stage(group, changes, clock)? {
            Ok(staged) => staged,
            Err(fault) => return Ok(Answer::Fault(fault)),
        };
        if known.is_none() {
            header.number = self.take_number(group);
        }
        for record in records {
            if header.records() == 0 {
                header.oldest = record.serial;
                header.oldest_at = record.at;
                header.oldest_expires = record.expires;
            }
            let value = encode_event(record, header.bytes_total);
            group.batch.put(Space::Events, event_key(header.number, record.serial), value);
            header.newest = record.serial;
            header.newest_at = record.at;
            header.last_id = record.id;
            header.bytes_total += record.body.len() as u64;
        }
        for (key, name) in keys.iter().zip(named) {
            put_expiry(&mut group.batch, key.expires, Space::Keys, &name);
            group.batch.put(Space::Keys, name, encode_key(key));
        }
        self.put_staged(&mut group.batch, staged);
        let answer = Answer::Appended { head: header.head() };
        self.touch(group, stream, header);
        Ok(answer)
    }

    fn touch(&mut self, group: &mut Group, stream: StreamKey, header: Header) {
        group.to_show.push((group.answers.len(), header));
        group.touched.insert(stream.clone());
        self.headers.insert(stream, Some(header));
    }

    fn purge(
        &mut self,
        group: &mut Group,
        stream: StreamKey,
        to: PurgeTo,
        clock: Clock,
    ) -> Result<Answer, ReadError> {
        self.settle_stream(group, &stream, clock)?;
        let Some(header) = self.header(&stream)? else {
            let head = Header::new(0, first_epoch(self.store, &stream)).head();
            return Ok(Answer::Purged { head, records: 0, bytes: 0 });
        };
        let look = self.database.look();
        let next = Serial(header.newest.0 + 1);
        let oldest = match to {
            PurgeTo::All => next,
            PurgeTo::Serial(serial) => serial.clamp(header.oldest, next),
            PurgeTo::At(at) => {
                let mut found = next;
                let range = (header.oldest, header.newest);
                let number = header.number;
                reads::walk_events(
                    &*look,
                    number,
                    range,
                    Direction::Forwards,
                    &mut |serial, facts, _| {
                        if facts.at < at {
                            return ControlFlow::Continue(());
                        }
                        found = serial;
                        ControlFlow::Break(())
                    },
                )?;
                found
            }
        };
        if oldest == header.oldest {
            group.to_show.push((group.answers.len(), header));
            return Ok(Answer::Purged { head: header.head(), records: 0, bytes: 0 });
        }
        let moved = self.move_oldest(&*look, &mut group.batch, &header, oldest)?;
        let records = header.records() - moved.records();
        let bytes = header.head().bytes - moved.head().bytes;
        self.touch(group, stream, moved);
        Ok(Answer::Purged { head: moved.head(), records, bytes })
    }

    /// Moves a stream's oldest record up to `oldest`, deletes the first chunk of what is below it, and remembers
    /// the rest.
    pub(super) fn move_oldest(
        &mut self,
        look: &dyn Look,
        batch: &mut Batch,
        header: &Header,
        oldest: Serial,
    ) -> Result<Header, DatabaseError> {
        let facts = if oldest <= header.newest {
            Some(reads::facts(look, header.number, oldest)?)
        } else {
            None
        };
        let from = self.leftovers.get(&header.number).map_or(header.oldest, |left| left.from);
        let left = Leftover { number: header.number, from, to: oldest, has_keys: false };
        self.delete_chunk(batch, left, CHUNK_RECORDS);
        Ok(header.with_oldest(oldest, facts.as_ref()))
    }

    /// Deletes some records of a leftover and remembers what is left of it. Gives how many went.
    pub(super) fn delete_chunk(
        &mut self,
        batch: &mut Batch,
        left: Leftover,
        records_max: u64,
    ) -> u64 {
        let end = left.to.0.min(left.from.0.saturating_add(records_max));
        for serial in left.from.0..end {
            batch.remove(Space::Events, event_key(left.number, Serial(serial)));
        }
        let rest = Leftover { from: Serial(end.max(left.from.0)), ..left };
        if rest.from < rest.to || rest.has_keys {
            self.remember(batch, rest);
        } else if self.leftovers.remove(&left.number).is_some() {
            batch.remove(Space::Meta, leftover_key(left.number));
        }
        end.saturating_sub(left.from.0)
    }

    fn remember(&mut self, batch: &mut Batch, left: Leftover) {
        batch.put(Space::Meta, leftover_key(left.number), encode_leftover(&left));
        self.leftovers.insert(left.number, left);
    }

    fn reset(
        &mut self,
        group: &mut Group,
        stream: StreamKey,
        epoch: Epoch,
        clock: Clock,
    ) -> Result<Answer, ReadError> {
        self.settle_stream(group, &stream, clock)?;
        let known = self.header(&stream)?;
        let last = known.unwrap_or_else(|| Header::new(0, first_epoch(self.store, &stream)));
        if last.epoch == epoch {
            return Ok(Answer::Fault(Fault::Order));
        }
        if known.is_some() {
            let from = self.leftovers.get(&last.number).map_or(last.oldest, |left| left.from);
            let to = Serial(last.newest.0 + 1);
            self.remember(
                &mut group.batch,
                Leftover { number: last.number, from, to, has_keys: true },
            );
        }
        // The new life has a number of its own, so nothing of the old one can be taken for it. Ids go on: they
        // increase in the channel, not in one life of it.
        let number = self.take_number(group);
        let header = Header { last_id: last.last_id, ..Header::new(number, epoch) };
        let answer = Answer::Purged {
            head: header.head(),
            records: last.records(),
            bytes: last.head().bytes,
        };
        self.touch(group, stream, header);
        Ok(answer)
    }

    /// Commits first if the batch in the making concerns the stream: what reads must see it.
    fn settle_stream(
        &mut self,
        group: &mut Group,
        stream: &StreamKey,
        clock: Clock,
    ) -> Result<(), ReadError> {
        stream_key(stream)?;
        if group.touched.contains(stream) {
            self.commit(group, clock);
        }
        match &self.broken {
            Some(text) => Err(DatabaseError::Failed(text.clone()).into()),
            None => Ok(()),
        }
    }

    fn commit(&mut self, group: &mut Group, clock: Clock) {
        let mut batch = std::mem::take(&mut group.batch);
        group.look = None;
        for stream in group.touched.drain() {
            let header = self.headers.get(&stream).copied().flatten();
            let header = header.expect("a stream that was touched has a header");
            let key = stream_key(&stream).expect("a stream that was touched has a key");
            batch.put(Space::Streams, key, encode_header(&header));
        }
        if std::mem::take(&mut group.has_new_number) {
            batch.put(Space::Meta, META_NEXT, self.next_number.to_le_bytes().to_vec().into());
        }
        let open_from = std::mem::replace(&mut group.open_from, group.answers.len());
        let to_show = std::mem::take(&mut group.to_show);
        if self.commit_batch(batch).is_err() {
            let text = self.broken.clone().unwrap_or_default();
            group.answers[open_from..].fill(Answer::Fault(Fault::Failed(text)));
            return;
        }
        for (index, header) in to_show {
            if header.records() == 0 || header.oldest_expires > clock {
                continue;
            }
            // It is done in any case; a head that cannot be read again is told as it was counted.
            let Ok(shown) = self.reader.shown(&*self.database.look(), header, clock) else {
                continue;
            };
            if let Some(Answer::Appended { head } | Answer::Purged { head, .. }) =
                group.answers.get_mut(index)
            {
                *head = shown.head();
            }
        }
    }

    /// Commits a batch; if that fails, nothing is known any more.
    pub(super) fn commit_batch(&mut self, batch: Batch) -> Result<(), DatabaseError> {
        if let Some(text) = &self.broken {
            return Err(DatabaseError::Failed(text.clone()));
        }
        if batch.is_empty() {
            return Ok(());
        }
        self.database.commit(batch).inspect_err(|error| self.give_up(error))
    }

    /// Does nothing more: what the ledger remembers and what is on disk may differ.
    pub(super) fn give_up(&mut self, error: &DatabaseError) {
        self.headers.clear();
        self.broken.get_or_insert_with(|| error.to_string());
    }

    /// A header moved by other ways than an ask.
    pub(super) fn know(&mut self, stream: &StreamKey, header: Header) {
        if let Some(known) = self.headers.get_mut(stream) {
            *known = Some(header);
        }
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
