//! The database on disk: fjall, and the only file that names it.
//!
//! One batch at a time is written to its journal and synced; a batch that is not synced yet is therefore the
//! journal's last, which [`super::journal`] relies on.

use std::io;
use std::ops::{Bound, ControlFlow};
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use fjall::{Keyspace, KeyspaceCreateOptions, PersistMode, Readable};

use super::database::{
    Batch, Database, DatabaseError, Direction, DiskUse, KeyRange, Look, Visitor,
};
use super::format::{Damage, SPACES, Space};
use super::journal;

/// Blocks of tables that are kept in memory.
const CACHE_BYTES: u64 = 32 << 20;
/// All journals together. They are read at every start, and the database wants at least 64 MiB.
const JOURNAL_BYTES_MAX: u64 = 128 << 20;
/// What a space keeps in memory before it becomes a table.
const TABLE_BYTES: u64 = 16 << 20;
/// Threads that write and merge tables.
const WORKERS: usize = 2;

/// Why fjall did not open.
#[derive(Debug)]
pub enum FjallError {
    /// Another process has it open.
    Locked,
    /// The machine does not let it write; no damage.
    NotWritable(io::Error),
    /// Anything else; the text is for people.
    Failed(String),
}

/// An open database.
pub struct Fjall {
    path: PathBuf,
    database: fjall::Database,
    spaces: [Keyspace; SPACES.len()],
}

impl Fjall {
    /// Opens the database at `path`, which is made if it is not there. Its journals were looked at.
    pub fn open(path: &Path) -> Result<Self, FjallError> {
        // A damaged table can make it panic, not only fail; its threads are gone with it then.
        let opened = catch_unwind(AssertUnwindSafe(|| -> fjall::Result<Self> {
            let database = fjall::Database::builder(path)
                .cache_size(CACHE_BYTES)
                .max_journaling_size(JOURNAL_BYTES_MAX)
                .worker_threads(WORKERS)
                .open()?;
            let options = || KeyspaceCreateOptions::default().max_memtable_size(TABLE_BYTES);
            let mut spaces = Vec::with_capacity(SPACES.len());
            for space in SPACES {
                spaces.push(database.keyspace(space.as_str(), options)?);
            }
            let spaces = spaces.try_into().unwrap_or_else(|_| unreachable!("one for each space"));
            Ok(Self { path: path.to_owned(), database, spaces })
        }));
        match opened {
            Ok(Ok(opened)) => Ok(opened),
            Ok(Err(fjall::Error::Locked)) => Err(FjallError::Locked),
            Ok(Err(
                fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)),
            )) if is_not_writable(&error) => Err(FjallError::NotWritable(error)),
            Ok(Err(error)) => Err(FjallError::Failed(format!("{error:?}"))),
            Err(_) => Err(FjallError::Failed("the database gave up over what it read".into())),
        }
    }

    fn space(&self, space: Space) -> &Keyspace {
        &self.spaces[space as usize]
    }
}

/// What says nothing about what is on disk already.
fn is_not_writable(error: &io::Error) -> bool {
    use io::ErrorKind as It;
    matches!(
        error.kind(),
        It::StorageFull | It::QuotaExceeded | It::ReadOnlyFilesystem | It::PermissionDenied
    )
}

fn failed(error: fjall::Error) -> DatabaseError {
    DatabaseError::Failed(format!("{error:?}"))
}

/// Why something at `key`, or after it, could not be read. A block that is not what was written is damage, and the rest
/// of the database is as good as it was; a disk that does not answer is not.
fn unread(error: fjall::Error, space: Space, key: &[u8]) -> DatabaseError {
    use fjall::{Error, LsmError as Lsm};
    let what = match error {
        Error::Storage(Lsm::ChecksumMismatch { .. }) => "or after it: a block's checksum is wrong",
        Error::Storage(Lsm::Decompress(_)) | Error::Decompress(_) => {
            "or after it: a block does not decompress"
        }
        Error::Storage(Lsm::InvalidHeader(_) | Lsm::InvalidTrailer | Lsm::InvalidTag(_))
        | Error::InvalidTrailer
        | Error::InvalidTag(_) => "or after it: a block is not one",
        error => return failed(error),
    };
    DatabaseError::Damaged(Damage { space, key: key.to_vec(), what })
}

impl Database for Fjall {
    fn commit(&self, batch: Batch) -> Result<(), DatabaseError> {
        let mut writes = self.database.batch().durability(Some(PersistMode::SyncData));
        for (space, key, value) in batch.into_writes() {
            match value {
                Some(value) => writes.insert(self.space(space), key, value),
                None => writes.remove(self.space(space), key),
            }
        }
        writes.commit().map_err(failed)
    }

    fn look(&self) -> Box<dyn Look> {
        Box::new(FjallLook { snapshot: self.database.snapshot(), spaces: self.spaces.clone() })
    }

    fn disk_use(&self) -> Result<DiskUse, DatabaseError> {
        let mut used = DiskUse::default();
        let journals = journal::journals(&self.path)
            .map_err(|error| DatabaseError::Failed(format!("{error:?}")))?;
        for (file, _) in journals {
            // A journal is 64 MiB long from its first day, most of it a hole; what counts is what is there.
            // One that was deleted just now counts nothing.
            let blocks = std::fs::metadata(&file).map_or(0, |it| it.blocks());
            used.journal_bytes += blocks * 512;
            used.journals += 1;
        }
        let tables: u64 = self.spaces.iter().map(Keyspace::disk_space).sum();
        used.bytes = used.journal_bytes + tables;
        Ok(used)
    }

    fn compact(&self) -> Result<(), DatabaseError> {
        for space in &self.spaces {
            // What was removed is marked so in memory first; only as a table it meets what it removes.
            space.rotate_memtable_and_wait().map_err(failed)?;
        }
        self.spaces.iter().try_for_each(|space| space.major_compact().map_err(failed))
    }
}

struct FjallLook {
    snapshot: fjall::Snapshot,
    spaces: [Keyspace; SPACES.len()],
}

impl Look for FjallLook {
    fn value(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, DatabaseError> {
        let value = self.snapshot.get(&self.spaces[space as usize], key);
        let value = value.map_err(|error| unread(error, space, key))?;
        Ok(value.map(Bytes::from))
    }

    fn walk(
        &self,
        space: Space,
        range: KeyRange,
        direction: Direction,
        visitor: &mut Visitor<'_>,
    ) -> Result<(), DatabaseError> {
        if range.is_empty() {
            return Ok(());
        }
        let mut last = match (direction, &range.from, &range.to) {
            (Direction::Forwards, Bound::Included(key) | Bound::Excluded(key), _)
            | (Direction::Backwards, _, Bound::Included(key) | Bound::Excluded(key)) => key.clone(),
            _ => Vec::new(),
        };
        let mut pairs = self.snapshot.range(&self.spaces[space as usize], (range.from, range.to));
        loop {
            let pair = match direction {
                Direction::Forwards => pairs.next(),
                Direction::Backwards => pairs.next_back(),
            };
            let Some(pair) = pair else { return Ok(()) };
            let (key, value) = pair.into_inner().map_err(|error| unread(error, space, &last))?;
            last.clear();
            last.extend_from_slice(&key);
            if visitor(&key, &value)? == ControlFlow::Break(()) {
                return Ok(());
            }
        }
    }
}
