//! Opening a store: refusals by name and with the fix, the journals looked at first, the layout last.

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::database::{Batch, Database, DatabaseError, Direction, KeyRange};
use super::fjall::{Fjall, FjallError};
use super::format::{LAYOUT, META_ID, META_LAYOUT, META_NEXT, SPACES, Space, decode_number};
use super::journal::{self, Cut, JournalError};
use super::tables;

/// The file that whoever has the database open holds a lock on.
const LOCK_FILE: &str = "lock";
/// The folder of its tables.
const TABLES_FOLDER: &str = "keyspaces";
/// What lies in the root of a file system of its own, and is none of our business.
const FOREIGN: &str = "lost+found";

/// A store that is open, and what had to be done for it.
pub struct Opened {
    /// The database.
    pub database: Arc<dyn Database>,
    /// The store's own id.
    pub store: u128,
    /// A torn tail that was cut off: a write that nobody was told is done.
    pub cut: Option<Cut>,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").field("cut", &self.cut).finish_non_exhaustive()
    }
}

/// Why a store was not opened. As text: where, what, and what to do.
#[derive(Debug)]
pub struct OpenError {
    /// The store's directory.
    pub path: PathBuf,
    /// What is the matter.
    pub refusal: Refusal,
}

/// What is the matter with a store.
#[derive(Debug)]
pub enum Refusal {
    /// There is a file where the directory should be.
    NotADirectory,
    /// The directory cannot be made or written.
    NotWritable(io::Error),
    /// The directory has other things in it.
    NotEmpty,
    /// Another process has the store open.
    InUse,
    /// Written by a newer program; the layout it has.
    NewerLayout(u32),
    /// Of another database format than this program knows.
    UnknownFormat,
    /// A copy that was never finished.
    Unfinished,
    /// A journal is wrong in its middle.
    DamagedJournal {
        /// Its file.
        file: PathBuf,
        /// How many bytes from the beginning.
        at: usize,
    },
    /// The database could not read itself.
    Damaged(String),
    /// The machine failed while reading.
    Io(PathBuf, io::Error),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "store {}: ", self.path.display())?;
        match &self.refusal {
            Refusal::NotADirectory => {
                f.write_str("is not a directory; name a directory, or one that is not there yet")
            }
            Refusal::NotWritable(error) => {
                let fix = match error.kind() {
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                        "make room on its disk"
                    }
                    _ => "give the server's user the right to it",
                };
                write!(f, "cannot be written ({error}); {fix}")
            }
            Refusal::NotEmpty => {
                f.write_str("has other files in it and no store; name an empty directory")
            }
            Refusal::InUse => f.write_str(
                "is in use by another process; stop that one, or give this one a directory of its own",
            ),
            Refusal::NewerLayout(layout) => write!(
                f,
                "has layout {layout}, written by a newer version; this one knows layouts up to {LAYOUT}: start \
                 the newer version, or restore a backup made before it"
            ),
            Refusal::UnknownFormat => f.write_str(
                "is of a database format this version does not know; start the version that wrote it",
            ),
            Refusal::Unfinished => {
                f.write_str("is a backup that was not finished; remove it and make another one")
            }
            Refusal::DamagedJournal { file, at } => write!(
                f,
                "is damaged: {} is wrong {at} bytes from its beginning, and good batches follow; check the disk \
                 and restore a backup",
                file.display()
            ),
            Refusal::Damaged(text) => {
                write!(f, "is damaged ({text}); check the disk and restore a backup")
            }
            Refusal::Io(file, error) => {
                write!(f, "{} cannot be read ({error}); check the disk", file.display())
            }
        }
    }
}

impl std::error::Error for OpenError {}

/// Opens the store at `path`, or makes one. `progress` is told in words what is being done; who shows it decides
/// how often.
pub fn open(path: &Path, progress: &mut dyn FnMut(&str)) -> Result<Opened, OpenError> {
    let refuse = |refusal| OpenError { path: path.to_owned(), refusal };
    let cut = prepare(path, progress).map_err(refuse)?;
    progress("opening the database");
    let database = open_database(path).map_err(refuse)?;
    let store = settle(&database, chance()).map_err(refuse)?;
    Ok(Opened { database: Arc::new(database), store, cut })
}

/// Opens the database of a new and empty store, its layout not written yet.
pub(super) fn create(path: &Path) -> Result<Fjall, OpenError> {
    let refuse = |refusal| OpenError { path: path.to_owned(), refusal };
    prepare(path, &mut |_| {}).map_err(refuse)?;
    if path.join(journal::MARKER_FILE).exists() {
        return Err(refuse(Refusal::NotEmpty));
    }
    open_database(path).map_err(refuse)
}

fn open_database(path: &Path) -> Result<Fjall, Refusal> {
    Fjall::open(path).map_err(|error| match error {
        FjallError::Locked => Refusal::InUse,
        FjallError::NotWritable(error) => Refusal::NotWritable(error),
        FjallError::Failed(text) => Refusal::Damaged(text),
    })
}

fn chance() -> u128 {
    let mut bytes = [0; 16];
    // Without chance two stores could have the same epochs, and positions in one be taken for the other's.
    getrandom::fill(&mut bytes).expect("the kernel has a random source");
    u128::from_ne_bytes(bytes)
}

/// Makes sure that `path` is a directory the database can be opened in: ours alone, writable, and its journals
/// whole.
fn prepare(path: &Path, progress: &mut dyn FnMut(&str)) -> Result<Option<Cut>, Refusal> {
    let failed = |error| Refusal::Io(path.to_owned(), error);
    match fs::metadata(path) {
        Ok(found) if !found.is_dir() => return Err(Refusal::NotADirectory),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(path).map_err(Refusal::NotWritable)?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            return Err(Refusal::NotADirectory);
        }
        Err(error) => return Err(Refusal::NotWritable(error)),
    }
    // Before anything is made in it: a directory of someone else stays as it is.
    marker(path)?;
    // Journals are read and cut only while nobody else can have them open. The database takes the same lock
    // after us; if someone is faster, it says so.
    let mut options = File::options();
    options.create(true).truncate(false).read(true).write(true);
    let lock = options.open(path.join(LOCK_FILE)).map_err(Refusal::NotWritable)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(Refusal::InUse),
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    match marker(path)? {
        Some(bytes) if bytes == journal::MARKER => {
            let tables = path.join(TABLES_FOLDER);
            match tables::damaged(&tables) {
                Ok(None) => {}
                Ok(Some(file)) => {
                    let text = format!("{} is not what was written", file.display());
                    return Err(Refusal::Damaged(text));
                }
                Err(error) => return Err(Refusal::Io(tables, error)),
            }
            let prepared = journal::prepare(path, &mut |read, total| {
                progress(&format!("scanning journal {} of {} MiB", read >> 20, total >> 20));
            });
            prepared.map_err(|error| match error {
                JournalError::Damaged { file, at } => Refusal::DamagedJournal { file, at },
                JournalError::Io { file, error } => Refusal::Io(file, error),
            })
        }
        Some(_) => Err(Refusal::UnknownFormat),
        None => {
            // The marker is written last: what is there was begun and not finished, and nobody was told of it.
            for (file, _) in journal::journals(path).unwrap_or_default() {
                fs::remove_file(&file).map_err(|error| Refusal::Io(file.clone(), error))?;
            }
            let tables = path.join(TABLES_FOLDER);
            if tables.exists() {
                fs::remove_dir(&tables).map_err(|error| Refusal::Io(tables.clone(), error))?;
            }
            Ok(None)
        }
    }
}

/// What the format marker says; `None`: there is none, and nothing else that would be in the way.
fn marker(path: &Path) -> Result<Option<Vec<u8>>, Refusal> {
    match fs::read(path.join(journal::MARKER_FILE)) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => check_empty(path).map(|()| None),
        Err(error) => Err(Refusal::Io(path.to_owned(), error)),
    }
}

/// A directory without a database may hold the beginnings of one (first journal, first folder), and nothing else.
fn check_empty(path: &Path) -> Result<(), Refusal> {
    let failed = |error| Refusal::Io(path.to_owned(), error);
    for entry in fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let is_begun = match name.to_str() {
            Some(LOCK_FILE | FOREIGN) => true,
            Some("0.jnl") => journal::is_zeros(&entry.path()).map_err(failed)?,
            Some(TABLES_FOLDER) => fs::read_dir(entry.path()).map_err(failed)?.next().is_none(),
            _ => false,
        };
        if !is_begun {
            return Err(Refusal::NotEmpty);
        }
    }
    Ok(())
}

/// Checks the layout of an open database, and writes it with `chance` as the store's id into a new one. Gives
/// the store's id.
pub fn settle(database: &dyn Database, chance: u128) -> Result<u128, Refusal> {
    let damaged = |error: DatabaseError| Refusal::Damaged(error.to_string());
    let look = database.look();
    let layout = look.value(Space::Meta, META_LAYOUT).map_err(damaged)?;
    let Some(layout) = layout else {
        for space in SPACES {
            let mut is_empty = true;
            look.walk(space, KeyRange::all(), Direction::Forwards, &mut |_, _| {
                is_empty = false;
                Ok(std::ops::ControlFlow::Break(()))
            })
            .map_err(damaged)?;
            if !is_empty {
                return Err(Refusal::Unfinished);
            }
        }
        let mut batch = Batch::default();
        batch.put(Space::Meta, META_ID, chance.to_le_bytes().to_vec().into());
        batch.put(Space::Meta, META_NEXT, 1_u64.to_le_bytes().to_vec().into());
        batch.put(Space::Meta, META_LAYOUT, LAYOUT.to_le_bytes().to_vec().into());
        database.commit(batch).map_err(damaged)?;
        return Ok(chance);
    };
    let layout = decode_number(META_LAYOUT, &layout).map_err(|it| damaged(it.into()))?;
    let layout = u32::from_le_bytes(layout);
    if layout > LAYOUT {
        return Err(Refusal::NewerLayout(layout));
    }
    let id = look.value(Space::Meta, META_ID).map_err(damaged)?.unwrap_or_default();
    let id = decode_number(META_ID, &id).map_err(|it| damaged(it.into()))?;
    Ok(u128::from_le_bytes(id))
}

#[cfg(test)]
#[path = "open_tests.rs"]
mod tests;
