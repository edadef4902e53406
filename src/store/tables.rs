//! The database's lists of its tables, read before it is opened.
//!
//! fjall believes what such a list says, and a flipped bit in one can end the process on the spot (a panic while
//! another is under way), which no caller can turn into a sentence. Each list's checksum is written beside it and not
//! looked at; so we look first.
//!
//! Source of the format: lsm-tree 3.1, `version/persist.rs`. A keyspace's folder has a file `current`: the list's
//! number u64, its XXH3 of 128 bits, and 0 for that kind of checksum, all little-endian; the list is the file
//! `v<number>`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_128;

const CURRENT_FILE: &str = "current";

/// The first list below this folder of keyspaces that is not what was written; `None`: all are.
pub fn damaged(keyspaces: &Path) -> io::Result<Option<PathBuf>> {
    for entry in fs::read_dir(keyspaces)? {
        let folder = entry?.path();
        let current = folder.join(CURRENT_FILE);
        let content = match fs::read(&current) {
            Ok(content) => content,
            // Written last: a keyspace that was begun and not finished is the database's to remove.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let Some((number, checksum)) = read_current(&content) else { return Ok(Some(current)) };
        let list = folder.join(format!("v{number}"));
        match fs::read(&list) {
            Ok(content) if xxh3_128(&content) == checksum => {}
            Ok(_) => return Ok(Some(list)),
            // Its number is under no checksum, and may be what is wrong.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(current)),
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

fn read_current(content: &[u8]) -> Option<(u64, u128)> {
    let (number, rest) = content.split_first_chunk()?;
    let (checksum, kind) = rest.split_first_chunk()?;
    (kind == [0]).then_some((u64::from_le_bytes(*number), u128::from_le_bytes(*checksum)))
}
