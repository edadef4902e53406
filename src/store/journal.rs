//! The database's journals, read before it is opened.
//!
//! fjall replays a journal up to the first byte it does not know and cuts off the rest, wherever that is:
//! a flipped bit in the middle would silently take acknowledged batches with it. And it refuses to open where the
//! last batch is whole in length but wrong in content, which a loss of power can leave. So we look first. There is
//! at most one batch that was not synced yet, and it is the last one; nobody was told that it is on disk:
//!
//! - nothing but zeros after the last good batch: all is well;
//! - something wrong, and no good batch anywhere after it: the torn tail of that batch; it is cut off;
//! - something wrong, and a good batch after it: damage in the middle; refused.
//!
//! The search for a later good batch could be misled by a body that imitates one, but only to a refusal.
//!
//! Source of the format: fjall 3.1, `journal/entry.rs` and `journal/batch_reader.rs`. A batch is a start (tag 1,
//! number of items u32, sequence number u64), items (tag 2, type u8, compression u8, keyspace u64, key length u16,
//! value length u32, length on disk u32, key, value; or tag 4, keyspace u64) and an end (tag 3, XXH3 of the
//! items u64, `FJL` and 3), all little-endian. Journals are files `<number>.jnl`, made 64 MiB long in advance.

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

/// The file that says which format a directory's database has, and what it says for the one we can read.
pub const MARKER_FILE: &str = "version";
/// See [`MARKER_FILE`].
pub const MARKER: &[u8] = b"FJL\x03";

const TRAILER: [u8; 4] = *b"FJL\x03";
const START_BYTES: usize = 13;

/// How far the sequence number may step from one batch to the next. The database itself uses a few numbers
/// between two batches; the number is not under the checksum, and one that leaps is a flipped bit.
const SEQUENCE_STEP_MAX: u64 = 1 << 32;
/// The database panics at numbers beyond this.
const SEQUENCE_MAX: u64 = 1 << 62;

/// What a journal holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// Good batches from the beginning on.
    pub batches: u64,
    /// The last of them; empty at 0 if there is none.
    pub last: Range<usize>,
    /// What comes after it.
    pub rest: Rest,
}

/// What comes after the last good batch of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// The end of the file, or zeros up to it.
    Nothing,
    /// Bytes among which there is no good batch.
    Torn {
        /// Up to the last one that is not zero.
        bytes: usize,
    },
    /// Bytes and then another good batch.
    Damaged {
        /// Where that one begins.
        next_at: usize,
    },
}

/// Reads a journal's bytes.
pub fn scan(bytes: &[u8]) -> Scan {
    let (mut batches, mut last, mut sequence) = (0, 0..0, None);
    while let Some((end, number)) = batch(bytes, last.end, sequence) {
        (batches, last, sequence) = (batches + 1, last.end..end, Some(number));
    }
    let rest = match bytes[last.end..].iter().rposition(|&byte| byte != 0) {
        None => Rest::Nothing,
        Some(at) => {
            let used = last.end + at + 1;
            let starts = memchr::memchr_iter(1, &bytes[last.end..used]).map(|at| last.end + at);
            let next = starts.skip_while(|&at| at == last.end);
            match next.into_iter().find(|&at| batch(bytes, at, sequence).is_some()) {
                Some(next_at) => Rest::Damaged { next_at },
                None => Rest::Torn { bytes: at + 1 },
            }
        }
    };
    Scan { batches, last, rest }
}

/// The end and sequence number of the batch at `at`, if there is a good one that may follow `sequence`.
fn batch(bytes: &[u8], at: usize, sequence: Option<u64>) -> Option<(usize, u64)> {
    let mut rest = bytes.get(at..)?;
    if take(&mut rest)? != [1] {
        return None;
    }
    let items = u32::from_le_bytes(take(&mut rest)?);
    let number = u64::from_le_bytes(take(&mut rest)?);
    let follows = sequence.is_none_or(|last| number > last && number - last <= SEQUENCE_STEP_MAX);
    if items == 0 || number > SEQUENCE_MAX || !follows {
        return None;
    }
    for _ in 0..items {
        match take(&mut rest)? {
            [2] => item(&mut rest)?,
            [4] => take::<8>(&mut rest).map(|_| ())?,
            _ => return None,
        }
    }
    let covered = &bytes[at + START_BYTES..bytes.len() - rest.len()];
    if take(&mut rest)? != [3] {
        return None;
    }
    let checksum = u64::from_le_bytes(take(&mut rest)?);
    if take(&mut rest)? != TRAILER || checksum != xxh3_64(covered) {
        return None;
    }
    Some((bytes.len() - rest.len(), number))
}

/// Passes one item, its tag excluded.
fn item(rest: &mut &[u8]) -> Option<()> {
    let [kind, compression] = take(rest)?;
    if !matches!(kind, 0..=2) || compression != 0 {
        return None;
    }
    take::<8>(rest)?;
    let key = usize::from(u16::from_le_bytes(take(rest)?));
    let (value, on_disk) = (take::<4>(rest)?, take::<4>(rest)?);
    if value != on_disk {
        return None;
    }
    *rest = rest.get(key + u32::from_le_bytes(value) as usize..)?;
    Some(())
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(*head)
}

/// Why journals are not fit to be opened.
#[derive(Debug)]
pub enum JournalError {
    /// A batch is wrong and good ones come after it.
    Damaged {
        /// In this file ...
        file: PathBuf,
        /// ... so many bytes from its beginning.
        at: usize,
    },
    /// A file could not be read or cut.
    Io {
        /// Which.
        file: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// A tail that was cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Of this file ...
    pub file: PathBuf,
    /// ... from here on.
    pub at: usize,
    /// How many bytes were not zero there.
    pub bytes: usize,
}

/// Reads all journals of a database that nobody has open, and cuts off a torn tail. `progress` is told how many
/// bytes of how many are read.
pub fn prepare(
    directory: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Option<Cut>, JournalError> {
    let journals = journals(directory)?;
    let total = journals.iter().map(|(_, bytes)| bytes).sum();
    let mut read = 0;
    // A tail is torn only where nothing was written after it, in later journals neither.
    let mut torn: Option<Cut> = None;
    let mut last: Option<(PathBuf, Range<usize>, Vec<u8>)> = None;
    for (file, bytes) in journals {
        progress(read, total);
        let content =
            fs::read(&file).map_err(|error| JournalError::Io { file: file.clone(), error })?;
        let scan = scan(&content);
        read += bytes;
        if let (Some(cut), true) = (&torn, scan.batches > 0) {
            return Err(JournalError::Damaged { file: cut.file.clone(), at: cut.at });
        }
        match scan.rest {
            Rest::Nothing => {}
            Rest::Damaged { .. } => return Err(JournalError::Damaged { file, at: scan.last.end }),
            Rest::Torn { bytes } => {
                if let Some(cut) = torn {
                    return Err(JournalError::Damaged { file: cut.file, at: cut.at });
                }
                torn = Some(Cut { file: file.clone(), at: scan.last.end, bytes });
            }
        }
        if scan.batches > 0 {
            let content = content[scan.last.clone()].to_vec();
            last = Some((file, scan.last, content));
        }
    }
    progress(total, total);
    if let Some(cut) = &torn {
        let done = open(&cut.file)
            .and_then(|file| file.set_len(cut.at as u64).and_then(|()| file.sync_all()));
        done.map_err(|error| JournalError::Io { file: cut.file.clone(), error })?;
    }
    // A sync that failed leaves pages that are clean in memory and not on disk; what was read here may be
    // such a page. Written once more, the last batch is on disk for certain.
    if let Some((path, range, content)) = last {
        let done = open(&path).and_then(|file| {
            file.write_all_at(&content, range.start as u64).and_then(|()| file.sync_all())
        });
        done.map_err(|error| JournalError::Io { file: path, error })?;
    }
    Ok(torn)
}

/// The journals of a directory with their lengths, the oldest first.
pub fn journals(directory: &Path) -> Result<Vec<(PathBuf, u64)>, JournalError> {
    let failed = |error| JournalError::Io { file: directory.to_owned(), error };
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let (name, path) = (entry.file_name(), entry.path());
        let number = name.to_str().and_then(|name| name.strip_suffix(".jnl")?.parse::<u64>().ok());
        if let Some(number) = number {
            let length = entry.metadata().map_err(failed)?.len();
            found.push((number, path, length));
        }
    }
    found.sort_unstable();
    Ok(found.into_iter().map(|(_, path, length)| (path, length)).collect())
}

/// True if a file holds nothing but zeros.
pub fn is_zeros(file: &Path) -> io::Result<bool> {
    Ok(fs::read(file)?.iter().all(|&byte| byte == 0))
}

fn open(file: &Path) -> io::Result<File> {
    File::options().write(true).open(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::prng::Prng;

    fn write(out: &mut Vec<u8>, number: u64, items: &[(&[u8], &[u8])]) {
        out.push(1);
        out.extend_from_slice(&(items.len() as u32).to_le_bytes());
        out.extend_from_slice(&number.to_le_bytes());
        let from = out.len();
        for (key, value) in items {
            out.extend_from_slice(&[2, 0, 0]);
            out.extend_from_slice(&7_u64.to_le_bytes());
            out.extend_from_slice(&(key.len() as u16).to_le_bytes());
            out.extend_from_slice(&(value.len() as u32).to_le_bytes());
            out.extend_from_slice(&(value.len() as u32).to_le_bytes());
            out.extend_from_slice(key);
            out.extend_from_slice(value);
        }
        let checksum = xxh3_64(&out[from..]);
        out.push(3);
        out.extend_from_slice(&checksum.to_le_bytes());
        out.extend_from_slice(&TRAILER);
    }

    /// Three batches, and where each ends.
    fn three() -> (Vec<u8>, [usize; 3]) {
        let mut out = Vec::new();
        let ends = [1, 2, 5].map(|number| {
            write(&mut out, number, &[(b"key", b"\x01value"), (b"other", b"")]);
            out.len()
        });
        (out, ends)
    }

    #[test]
    fn good_batches_with_zeros_or_nothing_after_them_are_whole() {
        let (mut bytes, ends) = three();
        for _ in 0..3 {
            let scan = scan(&bytes);
            assert_eq!((scan.batches, scan.last, scan.rest), (3, ends[1]..ends[2], Rest::Nothing));
            bytes.extend_from_slice(&[0; 100]);
        }
        assert_eq!(scan(&[]), Scan { batches: 0, last: 0..0, rest: Rest::Nothing });
        assert_eq!(scan(&[0; 64]).rest, Rest::Nothing);
    }

    #[test]
    fn the_last_batch_cut_or_changed_anywhere_is_a_torn_tail() {
        let (bytes, ends) = three();
        for cut in ends[1] + 1..ends[2] {
            let mut torn = bytes[..cut].to_vec();
            for zeros in [0, 50] {
                torn.resize(cut + zeros, 0);
                let scan = scan(&torn);
                assert_eq!((scan.batches, scan.last.end), (2, ends[1]), "cut at {cut}");
                assert!(matches!(scan.rest, Rest::Torn { .. }), "cut at {cut}");
            }
        }
        // A sequence number may have any value a little above the last one; its low bits are not noticed.
        let sequence = |at: usize| (ends[1] + 5..ends[1] + 9).contains(&at);
        for at in (ends[1]..ends[2]).filter(|&at| !sequence(at)) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x80;
            let scan = scan(&flipped);
            assert_eq!(scan.batches, 2, "at {at}");
            assert!(matches!(scan.rest, Rest::Torn { .. }), "at {at}");
        }
    }

    #[test]
    fn an_earlier_batch_changed_anywhere_is_damage() {
        let (bytes, ends) = three();
        // A sequence number may have any value below the next one; its low bits are not noticed.
        let sequence = |at: usize| (ends[0] + 5..ends[0] + 13).contains(&at);
        for at in (ends[0]..ends[1]).filter(|&at| !sequence(at)) {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                let scan = scan(&flipped);
                assert_eq!(scan.last.end, ends[0], "byte {at}");
                assert_eq!(scan.rest, Rest::Damaged { next_at: ends[1] }, "byte {at}");
            }
        }
        let mut flipped = bytes.clone();
        flipped[ends[0] + 12] ^= 0x40;
        assert_eq!(scan(&flipped).rest, Rest::Damaged { next_at: ends[1] });
    }

    #[test]
    fn garbage_is_scanned_without_a_panic() {
        let mut prng = Prng::new(3);
        let (bytes, _) = three();
        for _ in 0..5_000 {
            let mut garbage = bytes.clone();
            for _ in 0..prng.below(6) + 1 {
                let at = prng.below(garbage.len() as u64) as usize;
                garbage[at] = prng.below(6) as u8;
            }
            garbage.truncate(prng.below(garbage.len() as u64 + 1) as usize);
            assert!(scan(&garbage).batches <= 3);
        }
    }
}
