//! For the operator: checks, figures, copies.

use std::fmt;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};

use bytes::Bytes;

use super::StreamKey;
use super::database::{Batch, Database, DatabaseError, Direction, DiskUse, KeyRange, Look};
use super::format::{
    Damage, Header, META_ID, META_LAYOUT, META_LEFTOVER, META_NEXT, SPACES, Space, decode_event,
    decode_header, decode_key, decode_leftover, decode_number, decode_state, parse_event_key,
    parse_expiry_key, parse_stream_key,
};
use super::open::{self, OpenError};

/// Faults a check names, at most; further ones are counted.
const FAULTS_MAX: usize = 1000;
/// Streams that figures name.
const LARGEST: usize = 20;
/// A copy is committed in batches of so many bytes, or ...
const COPY_BYTES: usize = 4 << 20;
/// ... so many keys.
const COPY_KEYS: usize = 16_384;

/// What a check found.
#[derive(Clone, Debug, Default)]
pub struct CheckReport {
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

/// Opens the store at `path`, which no process may have open, and reads all of it: every key and value must
/// decode, every stream's records be consecutive, every header agree with them.
pub fn check(path: &Path, progress: &mut dyn FnMut(&str)) -> Result<CheckReport, ToolError> {
    let opened = open_existing(path, progress)?;
    Ok(check_database(&*opened.database.look(), progress)?)
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
    /// What it all takes on disk.
    pub disk: DiskUse,
    /// The streams that keep most bytes, the largest first.
    pub largest: Vec<(StreamKey, Header)>,
}

/// Opens the store at `path`, which no process may have open, and counts.
pub fn stats(path: &Path, progress: &mut dyn FnMut(&str)) -> Result<StatsReport, ToolError> {
    let opened = open_existing(path, progress)?;
    Ok(stats_of(&*opened.database)?)
}

/// Counts an open store.
pub fn stats_of(database: &dyn Database) -> Result<StatsReport, DatabaseError> {
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
    database.look().walk(Space::Streams, KeyRange::all(), Direction::Forwards, walk)?;
    keep_largest(&mut report.largest);
    Ok(report)
}

fn keep_largest(streams: &mut Vec<(StreamKey, Header)>) {
    streams.sort_by_key(|(_, header)| std::cmp::Reverse(header.head().bytes));
    streams.truncate(LARGEST);
}

/// Copies the store at `path`, which no process may have open, into the directory `to`, which must be empty or not
/// be there. Gives how many keys were copied.
pub fn backup_offline(
    path: &Path,
    to: &Path,
    progress: &mut dyn FnMut(&str),
) -> Result<u64, ToolError> {
    let opened = open_existing(path, progress)?;
    progress("copying");
    let target = open::create(to)?;
    let (never, copied) = (AtomicBool::new(false), AtomicU64::new(0));
    copy(&*opened.database.look(), &target, &never, &copied).map_err(ToolError::Database)?;
    Ok(copied.load(Ordering::Relaxed))
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
}

impl fmt::Display for ToolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoStore(path) => {
                write!(f, "store {}: is not there; name the store's directory", path.display())
            }
            Self::Open(error) => error.fmt(f),
            Self::Database(error) => error.fmt(f),
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

fn open_existing(path: &Path, progress: &mut dyn FnMut(&str)) -> Result<open::Opened, ToolError> {
    // A tool that makes a store where it was to look at one hides a typing error.
    if !path.join(super::journal::MARKER_FILE).exists() {
        return Err(ToolError::NoStore(path.to_owned()));
    }
    Ok(open::open(path, progress)?)
}

/// Reads all of a store.
pub fn check_database(
    look: &dyn Look,
    progress: &mut dyn FnMut(&str),
) -> Result<CheckReport, DatabaseError> {
    let mut report = CheckReport::default();
    check_meta(look, &mut report)?;
    let mut numbers = std::collections::HashSet::new();
    look.walk(Space::Streams, KeyRange::all(), Direction::Forwards, &mut |key, value| {
        report.streams += 1;
        if report.streams.is_multiple_of(1024) {
            progress(&format!("{} streams", report.streams));
        }
        match parse_stream_key(key).and_then(|stream| Ok((stream, decode_header(key, value)?))) {
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
    })?;
    progress("keys and state");
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
    look.walk(space, KeyRange::all(), Direction::Forwards, &mut |key, value| {
        if let Err(damage) = one(report, key, value) {
            report.fault(damage);
        }
        Ok(ControlFlow::Continue(()))
    })
}

fn check_meta(look: &dyn Look, report: &mut CheckReport) -> Result<(), DatabaseError> {
    check_space(look, Space::Meta, report, |_, key, value| match key {
        META_LAYOUT => decode_number::<4>(key, value).map(|_| ()),
        META_ID => decode_number::<16>(key, value).map(|_| ()),
        META_NEXT => decode_number::<8>(key, value).map(|_| ()),
        _ if key.starts_with(META_LEFTOVER) => decode_leftover(key, value).map(|_| ()),
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
    match walked {
        Err(DatabaseError::Damaged(damage)) => report.fault(damage),
        failed => failed?,
    }
    if let Some(last) = last {
        if last.id != header.last_id || last.at != header.newest_at {
            wrong.get_or_insert("has another newest record than its header says");
        }
        if bytes != header.bytes_total {
            wrong.get_or_insert("counts its bytes otherwise than its records do");
        }
    }
    if let Some(what) = wrong {
        report.fault(format_args!("stream {}/{} {what}", stream.app, stream.channel));
    }
    Ok(())
}

/// Why a copy was not begun.
#[derive(Debug)]
pub enum BackupError {
    /// The store is failed or stopped.
    Unavailable,
    /// Another one is under way.
    Underway,
    /// The target is not fit.
    Target(OpenError),
    /// There is no thread for it.
    Io(std::io::Error),
}

impl fmt::Display for BackupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable => f.write_str("the store is not available; try again when it is"),
            Self::Underway => f.write_str("another backup is under way; wait for it"),
            Self::Target(error) => error.fmt(f),
            Self::Io(error) => write!(f, "no thread for the backup: {error}"),
        }
    }
}

impl std::error::Error for BackupError {}

/// A copy under way.
pub struct Backup {
    copied: Arc<AtomicU64>,
    done: Receiver<Result<u64, String>>,
}

impl Backup {
    /// Keys copied so far.
    pub fn copied(&self) -> u64 {
        self.copied.load(Ordering::Relaxed)
    }

    /// How it ended: the number of keys, or what went wrong; `None`: not yet. Given once.
    pub fn ended(&self) -> Option<Result<u64, String>> {
        match self.done.try_recv() {
            Ok(ended) => Some(ended),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err("the copy broke off".into())),
        }
    }

    /// Waits for the end.
    pub fn wait(self) -> Result<u64, String> {
        self.done.recv().unwrap_or_else(|_| Err("the copy broke off".into()))
    }
}

/// Copies a database as it is now on a thread of its own, until `must_stop`. `is_copying` is set already, and is
/// cleared at the end.
pub(super) fn start_backup(
    database: Arc<dyn Database>,
    to: &Path,
    must_stop: Arc<AtomicBool>,
    is_copying: Arc<AtomicBool>,
) -> Result<Backup, BackupError> {
    let ends = Arc::clone(&is_copying);
    let target = open::create(to).map_err(BackupError::Target).inspect_err(|_| {
        ends.store(false, Ordering::Relaxed);
    })?;
    let copied = Arc::<AtomicU64>::default();
    let (tell, done) = sync_channel(1);
    let counter = Arc::clone(&copied);
    let thread = std::thread::Builder::new().name("store-backup".into());
    let started = thread.spawn(move || {
        let look = database.look();
        drop(database);
        let ended = copy(&*look, &target, &must_stop, &counter);
        drop((look, target));
        is_copying.store(false, Ordering::Relaxed);
        let ended = ended.map(|()| counter.load(Ordering::Relaxed)).map_err(|it| it.to_string());
        // Fails only if nobody wants to know.
        let _ = tell.send(ended);
    });
    match started {
        Ok(_) => Ok(Backup { copied, done }),
        Err(error) => {
            ends.store(false, Ordering::Relaxed);
            Err(BackupError::Io(error))
        }
    }
}

/// Writes all of a look into an empty database, the layout last: an unfinished copy is none.
pub(super) fn copy(
    look: &dyn Look,
    to: &dyn Database,
    must_stop: &AtomicBool,
    copied: &AtomicU64,
) -> Result<(), DatabaseError> {
    let mut batch = Batch::default();
    for space in SPACES {
        look.walk(space, KeyRange::all(), Direction::Forwards, &mut |key, value| {
            if space == Space::Meta && key == META_LAYOUT {
                return Ok(ControlFlow::Continue(()));
            }
            batch.put(space, key, Bytes::copy_from_slice(value));
            if batch.bytes() >= COPY_BYTES || batch.len() >= COPY_KEYS {
                if must_stop.load(Ordering::Relaxed) {
                    return Err(DatabaseError::Failed("the store is being closed".into()));
                }
                copied.fetch_add(batch.len() as u64, Ordering::Relaxed);
                to.commit(std::mem::take(&mut batch))?;
            }
            Ok(ControlFlow::Continue(()))
        })?;
    }
    copied.fetch_add(batch.len() as u64, Ordering::Relaxed);
    to.commit(batch)?;
    let mut last = Batch::default();
    if let Some(layout) = look.value(Space::Meta, META_LAYOUT)? {
        last.put(Space::Meta, META_LAYOUT, layout);
        copied.fetch_add(1, Ordering::Relaxed);
    }
    to.commit(last)
}

#[cfg(test)]
#[path = "tools_tests.rs"]
mod tests;
