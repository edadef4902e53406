//! The store's two threads and the ways to them.
//!
//! The *writer* makes a group of whatever came while the last one was synced, so that many asks share one
//! sync; between groups it sweeps and looks at the disk. The *reader* answers what writes nothing, and never waits
//! for a sync. What a shard was told is committed is there for its next read, because answers leave after
//! the commit.
//!
//! A failed commit ends the database: it is dropped, with everything remembered of it, and opened again until
//! that succeeds. Meanwhile every ask is answered [`Fault::Unavailable`].

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::database::Database;
use super::format::Damage;
use super::health::{Condition, Health};
use super::ledger::Ledger;
use super::open::{OpenError, Opened};
use super::port::{ASKS_OPEN_MAX, Mail, Port, Way};
use super::reads::Reader;
use super::tools::{self, CheckReport, Follow, StatsReport, ToolError};
use super::writer::Writer;
use super::{Answer, Ask, Bounds, Clock, Fault, Head, StreamKey};

/// Streams of which is known which port opened them; past it, all ports that opened any are told of all streams.
const OWNERS_MAX: usize = 1 << 20;
/// Mail to one thread beside the asks: to stop.
const MAIL_EXTRA: usize = 16;

/// Something a person may want to know; as text it is one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A torn tail was cut off while opening: a write that nobody was told is done.
    Cut(super::journal::Cut),
    /// The bound of the disk is reached; nothing more is written.
    Full {
        /// Bytes the store takes.
        used_bytes: u64,
        /// Bytes free on the file system.
        free_bytes: u64,
        /// Bytes the store may take; 0: any number.
        bytes_max: u64,
        /// Bytes that must stay free.
        free_bytes_min: u64,
    },
    /// There is room again.
    Room,
    /// The database failed and is opened again; why.
    Failed(String),
    /// Opening it again failed, too; why.
    StillFailed(String),
    /// It is open again.
    Reopened,
    /// Something on disk could not be read and was passed by.
    Damaged(Damage),
    /// What someone asked for could not be read; why.
    Unreadable(String),
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut(cut) => {
                let (file, at, bytes) = (cut.file.display(), cut.at, cut.bytes);
                write!(f, "cut an unfinished write of {bytes} bytes off {file} at {at}")
            }
            Self::Full { used_bytes, free_bytes, bytes_max, free_bytes_min } => {
                write!(f, "{used_bytes} bytes are used ")?;
                match bytes_max {
                    0 => f.write_str("(store.bytes_max sets no bound)")?,
                    max => write!(f, "(store.bytes_max {max})")?,
                }
                write!(
                    f,
                    " and {free_bytes} free (store.free_bytes_min {free_bytes_min}); nothing more is kept until there is room"
                )
            }
            Self::Room => f.write_str("there is room again"),
            Self::Failed(text) => write!(f, "the database failed and is opened again: {text}"),
            Self::StillFailed(text) => write!(f, "the database does not open: {text}"),
            Self::Reopened => f.write_str("the database is open again"),
            Self::Damaged(damage) => write!(f, "passed by what cannot be read: {damage}"),
            Self::Unreadable(text) => write!(f, "refused what cannot be read: {text}"),
        }
    }
}

/// How much is free on the file system of a path.
pub type FreeBytes = Box<dyn Fn(&Path) -> io::Result<u64> + Send>;
/// How a database is opened, at the start and after a failure.
pub type Opener = Box<dyn FnMut() -> Result<Opened, OpenError> + Send>;

/// What the threads are given of the world.
pub struct Options {
    /// The store's directory.
    pub path: PathBuf,
    /// Bytes the store may take; 0: any number.
    pub bytes_max: u64,
    /// Bytes that must stay free on the file system.
    pub bytes_free_min: u64,
    /// How much is free there.
    pub free_bytes: FreeBytes,
    /// What a stream may keep.
    pub bounds_of: Box<dyn Fn(&StreamKey) -> Bounds + Send>,
    /// The clock of retention.
    pub clock: Arc<dyn Fn() -> Clock + Send + Sync>,
    /// How many ask: the shards, and whoever else.
    pub ports: usize,
    /// The port that is woken, too, when something was pushed on a shelf: whose owner reads there what others push.
    pub pushes_wake: Option<usize>,
    /// Wakes whoever has something to take at this port; called from the store's threads.
    pub notify: Arc<dyn Fn(usize) + Send + Sync>,
    /// Hears what a person may want to know; called from the store's threads.
    pub note: Arc<dyn Fn(Note) + Send + Sync>,
}

/// The threads, from outside.
pub struct Store {
    shared: Arc<Shared>,
    writer: SyncSender<Mail>,
    reader: SyncSender<Mail>,
    threads: Vec<JoinHandle<()>>,
}

/// What both threads hold on to.
pub(super) struct Shared {
    pub(super) health: Arc<Health>,
    /// The open database and its store's id; `None` while it is opened again.
    database: Mutex<Option<(Arc<dyn Database>, u128)>>,
    /// Whoever looks at the database must let go of it: it is to be opened again.
    must_let_go: AtomicBool,
    owners: Mutex<Owners>,
    ways: Vec<Arc<Way>>,
    pub(super) notify: Arc<dyn Fn(usize) + Send + Sync>,
    pub(super) clock: Arc<dyn Fn() -> Clock + Send + Sync>,
    pub(super) note: Arc<dyn Fn(Note) + Send + Sync>,
    is_stopped: Arc<AtomicBool>,
}

/// Which port opened which stream.
#[derive(Default)]
struct Owners {
    ports: HashMap<StreamKey, usize>,
    /// Ports that opened any: the others take no notices.
    all: BTreeSet<usize>,
    has_overflowed: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing is left half done under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn database(&self) -> Option<(Arc<dyn Database>, u128)> {
        lock(&self.database).clone()
    }

    pub(super) fn set_database(&self, database: Option<(Arc<dyn Database>, u128)>) {
        self.must_let_go.store(database.is_none(), Ordering::Relaxed);
        *lock(&self.database) = database;
    }

    /// Hands a port an answer. Who gives several calls [`Shared::wake`] after them.
    pub(super) fn give(&self, port: usize, tag: u64, bytes: usize, answer: Answer) {
        let given = self.ways[port].answers.push((tag, bytes, answer));
        assert!(given.is_ok(), "a port asks no more than it has room to be told");
    }

    pub(super) fn wake(&self, ports: &mut HashSet<usize>) {
        ports.drain().for_each(|port| (self.notify)(port));
    }

    fn opened(&self, stream: &StreamKey, port: usize) {
        let mut owners = lock(&self.owners);
        if owners.ports.get(stream) == Some(&port) {
            return;
        }
        owners.all.insert(port);
        if owners.ports.len() >= OWNERS_MAX {
            owners.has_overflowed = true;
            owners.ports.clear();
        }
        owners.ports.insert(stream.clone(), port);
    }

    /// Whom to tell that a stream moved.
    pub(super) fn owners(&self, stream: &StreamKey) -> Vec<usize> {
        let owners = lock(&self.owners);
        match owners.ports.get(stream) {
            Some(&port) => vec![port],
            None if owners.has_overflowed => owners.all.iter().copied().collect(),
            None => Vec::new(),
        }
    }

    /// Tells ports what was not told yet; what finds no room stays.
    pub(super) fn tell_moved(&self, moved: &mut HashMap<(usize, StreamKey), Head>) {
        if moved.is_empty() {
            return;
        }
        let mut woken = HashSet::new();
        moved.retain(|(port, stream), head| {
            let notice = Answer::Moved { stream: stream.clone(), head: *head };
            let is_told = self.ways[*port].notices.push(notice).is_ok();
            if is_told {
                woken.insert(*port);
            }
            !is_told
        });
        self.wake(&mut woken);
    }
}

/// Opens the store and starts its threads; gives [`Options::ports`] ports. `progress` hears what opening does.
pub fn start(
    options: Options,
    progress: &mut dyn FnMut(&str),
) -> Result<(Store, Vec<Port>), OpenError> {
    let opened = super::open::open(&options.path, progress)?;
    let path = options.path.clone();
    let reopen = Box::new(move || super::open::open(&path, &mut |_| {}));
    start_with(options, opened, reopen)
}

/// Starts the threads on a database that is open; `reopen` opens it after a failure.
pub fn start_with(
    options: Options,
    opened: Opened,
    reopen: Opener,
) -> Result<(Store, Vec<Port>), OpenError> {
    let path = options.path.clone();
    let refuse = |refusal| OpenError { path: path.clone(), refusal };
    let ledger = Ledger::new(Arc::clone(&opened.database), opened.store)
        .map_err(|error| refuse(super::open::Refusal::Damaged(error.to_string())))?;
    if let Some(cut) = opened.cut {
        (options.note)(Note::Cut(cut));
    }
    let shared = Arc::new(Shared {
        health: Arc::default(),
        database: Mutex::new(Some((opened.database, opened.store))),
        must_let_go: AtomicBool::default(),
        owners: Mutex::default(),
        ways: (0..options.ports).map(|_| Arc::new(Way::new())).collect(),
        notify: Arc::clone(&options.notify),
        clock: Arc::clone(&options.clock),
        note: Arc::clone(&options.note),
        is_stopped: Arc::default(),
    });
    // Room for what all ports may ask.
    let (writer, writer_mail) = sync_channel(options.ports * ASKS_OPEN_MAX + MAIL_EXTRA);
    let (reader, reader_mail) = sync_channel(options.ports * ASKS_OPEN_MAX + MAIL_EXTRA);
    let ports = shared.ways.iter().enumerate().map(|(port, way)| Port {
        port,
        writer: writer.clone(),
        reader: reader.clone(),
        way: Arc::clone(way),
        is_stopped: Arc::clone(&shared.is_stopped),
        open: 0,
        bytes: 0,
        refused: Default::default(),
    });
    let ports = ports.collect();
    let failed = |error| refuse(super::open::Refusal::Io(path.clone(), error));
    let mut writing = Writer::new(Arc::clone(&shared), ledger, options, reopen);
    // The first look is before the first ask, so that a full disk is known from the start.
    writing.look_at_disk();
    let thread = |name: &str| std::thread::Builder::new().name(name.into());
    let reading = Arc::clone(&shared);
    let threads = vec![
        thread("store-write").spawn(move || writing.run(&writer_mail)).map_err(failed)?,
        thread("store-read").spawn(move || read(&reading, &reader_mail)).map_err(failed)?,
    ];
    Ok((Store { shared, writer, reader, threads }, ports))
}

impl Store {
    /// How the store is.
    pub fn health(&self) -> Arc<Health> {
        Arc::clone(&self.shared.health)
    }

    /// Copies the store as it is now into the directory `to`, which must be empty or not be there, while it goes on
    /// working. Gives how many keys were copied.
    pub fn backup(&self, to: &Path, follow: &Follow<'_>) -> Result<u64, ToolError> {
        self.work(follow, |database, follow| tools::backup_open(database, to, follow))
    }

    /// Reads all of the store as it is now, while it goes on working.
    pub fn check(&self, follow: &Follow<'_>) -> Result<CheckReport, ToolError> {
        self.work(follow, |database, follow| Ok(tools::check_open(database, follow)?))
    }

    /// Counts what the store holds now.
    pub fn stats(&self, follow: &Follow<'_>) -> Result<StatsReport, ToolError> {
        self.work(follow, |database, follow| Ok(tools::stats_open(database, follow)?))
    }

    /// Long work breaks off when the database is to be opened again: as long as anyone looks at it, it is not closed.
    fn work<T>(
        &self,
        follow: &Follow<'_>,
        work: impl FnOnce(&dyn Database, &Follow<'_>) -> Result<T, ToolError>,
    ) -> Result<T, ToolError> {
        let (database, _) = self.shared.database().ok_or(ToolError::Unavailable)?;
        let must_let_go = &self.shared.must_let_go;
        let done = work(&*database, &|what| match must_let_go.load(Ordering::Relaxed) {
            true => ControlFlow::Break(()),
            false => follow(what),
        });
        // What was broken off and what met a failing database are told alike: the server's log says why.
        done.map_err(|error| match must_let_go.load(Ordering::Relaxed) {
            true => ToolError::Unavailable,
            false => error,
        })
    }

    /// Answers what was asked, ends the threads and closes the database. What is asked later is
    /// [`Fault::Unavailable`].
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.shared.is_stopped.store(true, Ordering::Relaxed);
        for mail in [&self.writer, &self.reader] {
            // Fails only when the thread is gone already.
            let _ = mail.send(Mail::Stop);
        }
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
        self.shared.health.set_condition(Condition::Stopped);
        self.shared.set_database(None);
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.end();
    }
}

/// What the reader does until it is told to stop.
fn read(shared: &Shared, mail: &Receiver<Mail>) {
    let mut reader = Reader::default();
    let mut woken = HashSet::new();
    let mut store_read = 0;
    while let Ok(Mail::Ask(waiting)) = mail.recv() {
        let answer = match shared.database() {
            Some((database, store)) => {
                if std::mem::replace(&mut store_read, store) != store {
                    reader = Reader::default();
                }
                if let Ask::Open { stream, .. } = &waiting.ask {
                    shared.opened(stream, waiting.port);
                }
                super::health::add(&shared.health.reads, 1);
                let clock = (shared.clock)();
                let answer = reader.answer(&*database.look(), store, &waiting.ask, clock);
                let answer = answer.expect("a port sends the reader only what it answers");
                if let Answer::Fault(Fault::Failed(text)) = &answer {
                    (shared.note)(Note::Unreadable(text.clone()));
                }
                answer
            }
            None => {
                super::health::add(&shared.health.refused_unavailable, 1);
                Answer::Fault(Fault::Unavailable)
            }
        };
        shared.give(waiting.port, waiting.tag, waiting.bytes, answer);
        woken.insert(waiting.port);
        shared.wake(&mut woken);
    }
    // Nobody waits in vain: what came after the end is not done.
    while let Ok(Mail::Ask(waiting)) = mail.try_recv() {
        let fault = Answer::Fault(Fault::Unavailable);
        shared.give(waiting.port, waiting.tag, waiting.bytes, fault);
        (shared.notify)(waiting.port);
    }
}

#[cfg(test)]
#[path = "thread_tests.rs"]
mod tests;
