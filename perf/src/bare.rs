//! What the disk and the database can do with nobody in between.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use crate::histogram::Histogram;
use crate::sys;

// As the server opens it: `src/store/fjall.rs`.
const CACHE_BYTES: u64 = 32 << 20;
const JOURNAL_BYTES_MAX: u64 = 128 << 20;
const TABLE_BYTES: u64 = 16 << 20;
const WORKERS: usize = 2;

/// Bytes that the server stores of an event beside its data, and those of the key: `src/store/format.rs` and
/// `src/broker/record.rs`, for a name of one byte and data that is a JSON string.
pub const VALUE_BYTES_BESIDE: usize = 41 + 10 + 1 + 2;
pub const KEY_BYTES: usize = 16;

/// What was done over and over.
#[derive(Default)]
pub struct Done {
    pub seconds: f64,
    /// Each time.
    pub took: Histogram,
}

/// Runs `work` on `core` until the time is over; a thread of its own, so that the caller stays where it is.
fn on_core<R: Send>(core: Option<usize>, work: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            if let Some(core) = core {
                let _ = sys::pin(core);
            }
            work()
        });
        thread.join().expect("what ran on the core has said why it ended")
    })
}

fn repeat(seconds: f64, mut once: impl FnMut(u64) -> io::Result<()>) -> io::Result<Done> {
    let start = sys::now_ns();
    let end = start + (seconds * 1e9) as u64;
    let mut done = Done::default();
    let (mut times, mut now) = (0, start);
    while now < end {
        once(times)?;
        times += 1;
        let after = sys::now_ns();
        done.took.record(after - now);
        now = after;
    }
    done.seconds = (now - start) as f64 / 1e9;
    Ok(done)
}

/// Commits batches of so many records, each synced, in a new database in `folder`. Records go to `streams`
/// streams in turn, as they do in a server with as many channels.
pub fn commits(
    folder: &Path,
    core: Option<usize>,
    (batch, streams, size): (usize, u64, usize),
    seconds: f64,
) -> io::Result<Done> {
    on_core(core, || {
        let database = Database::builder(folder)
            .cache_size(CACHE_BYTES)
            .max_journaling_size(JOURNAL_BYTES_MAX)
            .worker_threads(WORKERS)
            .open()
            .map_err(io::Error::other)?;
        let options = || KeyspaceCreateOptions::default().max_memtable_size(TABLE_BYTES);
        let records: Keyspace = database.keyspace("events", options).map_err(io::Error::other)?;
        let value = vec![b'x'; size + VALUE_BYTES_BESIDE];
        let mut next = 0u64;
        repeat(seconds, |_| {
            let mut writes = database.batch().durability(Some(PersistMode::SyncData));
            for _ in 0..batch {
                let mut key = [0; KEY_BYTES];
                key[..8].copy_from_slice(&(next % streams).to_be_bytes());
                key[8..].copy_from_slice(&(next / streams).to_be_bytes());
                next += 1;
                writes.insert(&records, key.as_slice(), value.as_slice());
            }
            writes.commit().map_err(io::Error::other)
        })
    })
}

/// How the file was made before it is written to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Prepared {
    /// Every block was written: what is measured is the device.
    Written,
    /// Only its length was set, as the database does with its journal.
    Hole,
}

const FILE_BYTES: u64 = 64 << 20;

/// Writes as many bytes as one record has into a file in `folder`, one after the other, each followed by an
/// `fdatasync`.
pub fn syncs(
    folder: &Path,
    core: Option<usize>,
    prepared: Prepared,
    size: usize,
    seconds: f64,
) -> io::Result<Done> {
    let path = folder.join("synced");
    let done = on_core(core, || {
        let file = File::create(&path)?;
        file.set_len(FILE_BYTES)?;
        if prepared == Prepared::Written {
            let zeros = vec![0; 1 << 20];
            for at in (0..FILE_BYTES).step_by(zeros.len()) {
                file.write_all_at(&zeros, at)?;
            }
        }
        file.sync_all()?;
        let bytes = vec![b'x'; size + VALUE_BYTES_BESIDE + KEY_BYTES];
        let places = FILE_BYTES / bytes.len() as u64;
        repeat(seconds, |times| {
            file.write_all_at(&bytes, times % places * bytes.len() as u64)?;
            file.sync_data()
        })
    });
    std::fs::remove_file(path)?;
    done
}
