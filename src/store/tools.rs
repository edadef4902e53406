//! For the operator: checks, figures, copies.

use std::fmt;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::database::{
    Batch, Database, DatabaseError, Direction, DiskUse, KeyRange, Look, Visitor,
};
use super::format::{
    Damage, Header, META_ID, META_LAYOUT, META_LEFTOVER, META_NEXT, META_PUSHED, SPACES, Space,
    decode_event, decode_header, decode_key, decode_leftover, decode_number, decode_state,
    parse_event_key, parse_expiry_key, parse_pushed_key, parse_stream_key,
};
use super::journal::Cut;
use super::open::{self, OpenError};
use super::{Shelf, StreamKey};

/// Faults a check names, at most; further ones are counted.
const FAULTS_MAX: usize = 1000;
/// Streams that figures name.
const LARGEST: usize = 20;
/// A copy is committed in batches of so many bytes, or ...
const COPY_BYTES: usize = 4 << 20;
/// ... so many keys.
const COPY_KEYS: usize = 16_384;

/// Keys between two words to who follows.
const KEYS_PER_WORD: u64 = 4096;

/// Who follows long work: hears every some thousand keys what is being done, and may break it off.
pub type Follow<'a> = dyn Fn(&str) -> ControlFlow<()> + Sync + 'a;

/// A look whose reader is followed.
struct Followed<'a> {
    look: Box<dyn Look>,
    follow: &'a Follow<'a>,
    read: AtomicU64,
}

impl<'a> Followed<'a> {
    fn new(database: &dyn Database, follow: &'a Follow<'a>) -> Self {
        Self { look: database.look(), follow, read: AtomicU64::new(0) }
    }
}

impl Look for Followed<'_> {
    fn value(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, DatabaseError> {
        self.look.value(space, key)
    }

    fn walk(
        &self,
        space: Space,
        range: KeyRange,
        direction: Direction,
        visitor: &mut Visitor<'_>,
    ) -> Result<(), DatabaseError> {
        self.look.walk(space, range, direction, &mut |key, value| {
            let read = self.read.fetch_add(1, Ordering::Relaxed) + 1;
            if read.is_multiple_of(KEYS_PER_WORD)
                && (self.follow)(&format!("{read} keys read")).is_break()
            {
                return Err(DatabaseError::Failed("broken off".into()));
            }
            visitor(key, value)
        })
    }
}

/// What a check found.
#[derive(Clone, Debug, Default)]
pub struct CheckReport {
    /// A torn tail that opening cut off: a write that nobody was told is done. No fault.
    pub cut: Option<Cut>,
    /// Streams with a header.
    pub streams: u64,
    /// Records that headers reach.
    pub records: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
    /// Idempotency records.
    pub keys: u64,
    /// Values of the state.
    pub values: u64,
    /// Records no header reaches, which are still to be deleted.
    pub leftovers: u64,
    /// What is wrong, the first of it.
    pub faults: Vec<String>,
    /// How much is wrong.
    pub faults_total: u64,
}

impl CheckReport {
    fn fault(&mut self, text: impl fmt::Display) {
        self.faults_total += 1;
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(text.to_string());
        }
    }
}

impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Cut { file, at, bytes }) = &self.cut {
            let file = file.display();
            writeln!(f, "cut an unfinished write of {bytes} bytes off {file} at {at}")?;
        }
        writeln!(f, "streams {}", self.streams)?;
        writeln!(f, "events {} of {} bytes", self.records, self.bytes)?;
        writeln!(f, "idempotency keys {}", self.keys)?;
        writeln!(f, "state values {}", self.values)?;
        writeln!(f, "events still to be deleted {}", self.leftovers)?;
        for fault in &self.faults {
            writeln!(f, "fault: {fault}")?;
        }
        writeln!(f, "faults {}", self.faults_total)
    }
}

/// Opens the store at `path`, which no process may have open, and reads all of it: every key and value must
/// decode, every stream's records be consecutive, every header agree with them.
pub fn check(path: &Path, follow: &Follow<'_>) -> Result<CheckReport, ToolError> {
    let opened = open_existing(path, follow)?;
    let report = check_open(&*opened.database, follow)?;
    Ok(CheckReport { cut: opened.cut, ..report })
}

/// Reads all of an open store as it is now.
pub fn check_open(
    database: &dyn Database,
    follow: &Follow<'_>,
) -> Result<CheckReport, DatabaseError> {
    check_database(&Followed::new(database, follow))
}

/// What a store holds, as figures.
#[derive(Clone, Debug, Default)]
pub struct StatsReport {
    /// Streams with a header.
    pub streams: u64,
    /// Records they keep.
    pub records: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
    /// What each part of the state keeps: values, and bytes of keys and values; those that keep none are left out.
    pub shelves: Vec<(Shelf, u64, u64)>,
    /// What it all takes on disk.
    pub disk: DiskUse,
    /// The streams that keep most bytes, the largest first.
    pub largest: Vec<(StreamKey, Header)>,
}

impl fmt::Display for StatsReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "streams {}", self.streams)?;
        writeln!(f, "events {} of {} bytes", self.records, self.bytes)?;
        for (shelf, values, bytes) in &self.shelves {
            writeln!(f, "{} {values} of {bytes} bytes", shelf.as_str())?;
        }
        let DiskUse { bytes, journal_bytes, journals } = self.disk;
        writeln!(f, "on disk {bytes} bytes, of these {journal_bytes} in {journals} journals")?;
        for (stream, header) in &self.largest {
            let (events, bytes) = (header.records(), header.head().bytes);
            let (stream, oldest, newest) = (named(stream), header.oldest.0, header.newest.0);
            writeln!(f, "{stream} {events} events of {bytes} bytes, serials {oldest} to {newest}")?;
        }
        Ok(())
    }
}

/// A stream in a line. A name is from outside: it must not make lines of its own.
fn named(StreamKey { app, channel }: &StreamKey) -> String {
    format!("stream {}/{}", app.escape_debug(), channel.escape_debug())
}

/// Opens the store at `path`, which no process may have open, and counts.
pub fn stats(path: &Path, follow: &Follow<'_>) -> Result<StatsReport, ToolError> {
    let opened = open_existing(path, follow)?;
    Ok(stats_open(&*opened.database, follow)?)
}

/// Counts an open store.
pub fn stats_open(
    database: &dyn Database,
    follow: &Follow<'_>,
) -> Result<StatsReport, DatabaseError> {
    let mut report = StatsReport { disk: database.disk_use()?, ..StatsReport::default() };
    let walk = &mut |key: &[u8], value: &[u8]| {
        let (stream, header) = (parse_stream_key(key)?, decode_header(key, value)?);
        report.streams += 1;
        report.records += header.records();
        report.bytes += header.head().bytes;
        report.largest.push((stream, header));
        if report.largest.len() >= LARGEST * 8 {
            keep_largest(&mut report.largest);
        }
        Ok(ControlFlow::Continue(()))
    };
    let look = Followed::new(database, follow);
    look.walk(Space::Streams, KeyRange::all(), Direction::Forwards, walk)?;
    keep_largest(&mut report.largest);
    for shelf in Shelf::ALL {
        let (mut values, mut bytes) = (0, 0);
        look.walk(
            Space::State,
            KeyRange::prefix(&[shelf as u8]),
            Direction::Forwards,
            &mut |key, value| {
                let (_, content) = decode_state(key, value)?;
                values += 1;
                bytes += (key.len() - 1 + content.len()) as u64;
                Ok(ControlFlow::Continue(()))
            },
        )?;
        if values > 0 {
            report.shelves.push((shelf, values, bytes));
        }
    }
    Ok(report)
}

fn keep_largest(streams: &mut Vec<(StreamKey, Header)>) {
    streams.sort_by_key(|(_, header)| std::cmp::Reverse(header.head().bytes));
    streams.truncate(LARGEST);
}

/// Copies the store at `path`, which no process may have open, into the directory `to`, which must be empty or not
/// be there. Gives how many keys were copied.
pub fn backup(path: &Path, to: &Path, follow: &Follow<'_>) -> Result<u64, ToolError> {
    let opened = open_existing(path, follow)?;
    backup_open(&*opened.database, to, follow)
}

/// Copies an open store as it is now.
pub fn backup_open(
    database: &dyn Database,
    to: &Path,
    follow: &Follow<'_>,
) -> Result<u64, ToolError> {
    let target = open::create(to)?;
    Ok(copy(&Followed::new(database, follow), &target)?)
}

/// Why a tool did not do its work.
#[derive(Debug)]
pub enum ToolError {
    /// There is no store.
    NoStore(PathBuf),
    /// It does not open.
    Open(OpenError),
    /// It failed on the way.
    Database(DatabaseError),
    /// The running server has it closed at the moment: it failed, or stops.
    Unavailable,
}

impl fmt::Display for ToolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoStore(path) => {
                write!(f, "store {}: is not there; name the store's directory", path.display())
            }
            Self::Open(error) => error.fmt(f),
            Self::Database(error) => error.fmt(f),
            Self::Unavailable => f.write_str("the store is not available at the moment"),
        }
    }
}

impl std::error::Error for ToolError {}

impl From<OpenError> for ToolError {
    fn from(error: OpenError) -> Self {
        Self::Open(error)
    }
}

impl From<DatabaseError> for ToolError {
    fn from(error: DatabaseError) -> Self {
        Self::Database(error)
    }
}

fn open_existing(path: &Path, follow: &Follow<'_>) -> Result<open::Opened, ToolError> {
    // A tool that makes a store where it was to look at one hides a typing error.
    if !path.join(super::journal::MARKER_FILE).exists() {
        return Err(ToolError::NoStore(path.to_owned()));
    }
    // Opening is not broken off: it could have begun to cut a torn tail.
    let mut progress = |what: &str| {
        let _ = follow(what);
    };
    Ok(open::open(path, &mut progress)?)
}

/// Reads all of a store.
pub(super) fn check_database(look: &dyn Look) -> Result<CheckReport, DatabaseError> {
    let mut report = CheckReport::default();
    check_meta(look, &mut report)?;
    let mut numbers = std::collections::HashSet::new();
    let walked =
        look.walk(Space::Streams, KeyRange::all(), Direction::Forwards, &mut |key, value| {
            report.streams += 1;
            match parse_stream_key(key).and_then(|stream| Ok((stream, decode_header(key, value)?)))
            {
                Ok((stream, header)) => {
                    if !numbers.insert(header.number) {
                        report.fault(Damage {
                            space: Space::Streams,
                            key: key.to_vec(),
                            what: "has the number of another stream",
                        });
                    }
                    check_stream(look, &stream, &header, &mut report)?;
                }
                Err(damage) => report.fault(damage),
            }
            Ok(ControlFlow::Continue(()))
        });
    note_damage(walked, &mut report)?;
    check_space(look, Space::Keys, &mut report, |report, key, value| {
        report.keys += 1;
        decode_key(key, value).map(|_| ())
    })?;
    check_space(look, Space::State, &mut report, |report, key, value| {
        report.values += 1;
        decode_state(key, value).map(|_| ())
    })?;
    check_space(look, Space::Expiry, &mut report, |_, key, _| parse_expiry_key(key).map(|_| ()))?;
    let reached = report.records;
    let mut events = 0;
    check_space(look, Space::Events, &mut report, |_, key, value| {
        events += 1;
        parse_event_key(key).and_then(|_| decode_event(key, value)).map(|_| ())
    })?;
    report.leftovers = events.max(reached) - reached;
    Ok(report)
}

fn check_space(
    look: &dyn Look,
    space: Space,
    report: &mut CheckReport,
    mut one: impl FnMut(&mut CheckReport, &[u8], &[u8]) -> Result<(), Damage>,
) -> Result<(), DatabaseError> {
    let walked = look.walk(space, KeyRange::all(), Direction::Forwards, &mut |key, value| {
        if let Err(damage) = one(report, key, value) {
            report.fault(damage);
        }
        Ok(ControlFlow::Continue(()))
    });
    note_damage(walked, report)
}

/// Damage ends the walk that met it, and not the check.
fn note_damage(
    walked: Result<(), DatabaseError>,
    report: &mut CheckReport,
) -> Result<(), DatabaseError> {
    match walked {
        Err(DatabaseError::Damaged(damage)) => {
            report.fault(damage);
            Ok(())
        }
        other => other,
    }
}

fn check_meta(look: &dyn Look, report: &mut CheckReport) -> Result<(), DatabaseError> {
    check_space(look, Space::Meta, report, |_, key, value| match key {
        META_LAYOUT => decode_number::<4>(key, value).map(|_| ()),
        META_ID => decode_number::<16>(key, value).map(|_| ()),
        META_NEXT => decode_number::<8>(key, value).map(|_| ()),
        _ if key.starts_with(META_LEFTOVER) => decode_leftover(key, value).map(|_| ()),
        _ if key.starts_with(META_PUSHED) => {
            parse_pushed_key(key).and_then(|_| decode_number::<8>(key, value)).map(|_| ())
        }
        _ => Err(Damage { space: Space::Meta, key: key.to_vec(), what: "is of no known kind" }),
    })
}

fn check_stream(
    look: &dyn Look,
    stream: &StreamKey,
    header: &Header,
    report: &mut CheckReport,
) -> Result<(), DatabaseError> {
    let mut wrong = None;
    let mut bytes = header.bytes_before;
    let mut last = None;
    let range = (header.oldest, header.newest);
    let walked = super::reads::walk_events(
        look,
        header.number,
        range,
        Direction::Forwards,
        &mut |serial, facts, _| {
            report.records += 1;
            report.bytes += facts.bytes;
            if facts.bytes_before != bytes {
                wrong.get_or_insert("counts its bytes otherwise than its records do");
            }
            if serial == header.oldest
                && (facts.at != header.oldest_at || facts.expires != header.oldest_expires)
            {
                wrong.get_or_insert("has another oldest record than its header says");
            }
            bytes = facts.bytes_before + facts.bytes;
            last = Some(facts);
            ControlFlow::Continue(())
        },
    );
    if let Err(DatabaseError::Damaged(damage)) = walked {
        // What comes after it was not looked at, and would be called wrong.
        report.fault(format_args!("{} cannot be read to its end: {damage}", named(stream)));
        return Ok(());
    }
    walked?;
    if let Some(last) = last {
        if last.id != header.last_id || last.at != header.newest_at {
            wrong.get_or_insert("has another newest record than its header says");
        }
        if bytes != header.bytes_total {
            wrong.get_or_insert("counts its bytes otherwise than its records do");
        }
    }
    if let Some(what) = wrong {
        report.fault(format_args!("{} {what}", named(stream)));
    }
    Ok(())
}

/// Writes all of a look into an empty database, the layout last: an unfinished copy is none. Gives how many keys
/// there are.
fn copy(look: &dyn Look, to: &dyn Database) -> Result<u64, DatabaseError> {
    let (mut batch, mut copied) = (Batch::default(), 0);
    for space in SPACES {
        look.walk(space, KeyRange::all(), Direction::Forwards, &mut |key, value| {
            if space == Space::Meta && key == META_LAYOUT {
                return Ok(ControlFlow::Continue(()));
            }
            batch.put(space, key, Bytes::copy_from_slice(value));
            if batch.bytes() >= COPY_BYTES || batch.len() >= COPY_KEYS {
                copied += batch.len() as u64;
                to.commit(std::mem::take(&mut batch))?;
            }
            Ok(ControlFlow::Continue(()))
        })?;
    }
    copied += batch.len() as u64;
    to.commit(batch)?;
    let mut last = Batch::default();
    if let Some(layout) = look.value(Space::Meta, META_LAYOUT)? {
        last.put(Space::Meta, META_LAYOUT, layout);
        copied += 1;
    }
    to.commit(last)?;
    Ok(copied)
}

#[cfg(test)]
#[path = "tools_tests.rs"]
mod tests;
