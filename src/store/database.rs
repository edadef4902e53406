//! The narrow face the database stands behind: batches go in whole, looks come out.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Bound, ControlFlow};

use bytes::Bytes;

use super::format::{Damage, Space};

/// Why the database did not do as told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatabaseError {
    /// What lies on disk is not what was written.
    Damaged(Damage),
    /// The machine or the database failed; the text is for the log.
    Failed(String),
}

impl fmt::Display for DatabaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged(damage) => write!(f, "damaged: {damage}"),
            Self::Failed(text) => f.write_str(text),
        }
    }
}

impl From<Damage> for DatabaseError {
    fn from(damage: Damage) -> Self {
        Self::Damaged(damage)
    }
}

/// Changes that are made together or not at all. Each key is in it once: the last change of it counts, because
/// the database would give two changes of one key the same number and then either could win.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    writes: BTreeMap<(Space, Vec<u8>), Option<Bytes>>,
    bytes: usize,
}

impl Batch {
    /// Writes a value.
    pub fn put(&mut self, space: Space, key: impl Into<Vec<u8>>, value: Bytes) {
        let key = key.into();
        self.bytes += key.len() + value.len();
        self.writes.insert((space, key), Some(value));
    }

    /// Removes a value, if it is there.
    pub fn remove(&mut self, space: Space, key: impl Into<Vec<u8>>) {
        let key = key.into();
        self.bytes += key.len();
        self.writes.insert((space, key), None);
    }

    /// What it does to a key, if it is in it; `Some(None)` removes.
    pub fn write_of(&self, space: Space, key: &[u8]) -> Option<Option<&Bytes>> {
        // A map of pairs is not asked with a borrowed key; the copy is less than a look at the disk.
        self.writes.get(&(space, key.to_vec())).map(Option::as_ref)
    }

    /// True if it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// How many keys it changes.
    pub fn len(&self) -> usize {
        self.writes.len()
    }

    /// Bytes of keys and values, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What it changes, each key once; `None` removes.
    pub fn into_writes(self) -> impl Iterator<Item = (Space, Vec<u8>, Option<Bytes>)> {
        self.writes.into_iter().map(|((space, key), value)| (space, key, value))
    }
}

/// Keys from one to another.
#[derive(Clone, Debug)]
pub struct KeyRange {
    /// Where they begin.
    pub from: Bound<Vec<u8>>,
    /// Where they end.
    pub to: Bound<Vec<u8>>,
}

impl KeyRange {
    /// All keys of a space.
    pub fn all() -> Self {
        Self { from: Bound::Unbounded, to: Bound::Unbounded }
    }

    /// Keys from `from` on, up to but without `to`.
    pub fn between(from: impl Into<Vec<u8>>, to: impl Into<Vec<u8>>) -> Self {
        Self { from: Bound::Included(from.into()), to: Bound::Excluded(to.into()) }
    }

    /// Keys that begin with `prefix`.
    pub fn prefix(prefix: &[u8]) -> Self {
        let to = super::format::after_prefix(prefix).map_or(Bound::Unbounded, Bound::Excluded);
        Self { from: Bound::Included(prefix.to_vec()), to }
    }

    /// The same, but only what comes after `key`.
    pub fn after(mut self, key: &[u8]) -> Self {
        self.from = Bound::Excluded(key.to_vec());
        self
    }

    /// True if no key can be in it; a database may not be asked for such a range.
    pub fn is_empty(&self) -> bool {
        let (from, to) = match (&self.from, &self.to) {
            (Bound::Unbounded, _) | (_, Bound::Unbounded) => return false,
            (Bound::Included(from), Bound::Included(to)) => return from > to,
            (Bound::Included(from) | Bound::Excluded(from), Bound::Excluded(to))
            | (Bound::Excluded(from), Bound::Included(to)) => (from, to),
        };
        from >= to
    }
}

/// Which way a range is walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the lowest key on.
    Forwards,
    /// From the highest key on.
    Backwards,
}

/// What is handed each key and value, and says whether to go on.
pub type Visitor<'a> = dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>, DatabaseError> + 'a;

/// The database as it was at one moment.
pub trait Look: Send {
    /// A value.
    fn value(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, DatabaseError>;
    /// Hands `visitor` the keys of a range with their values, in order, until it breaks off.
    fn walk(
        &self,
        space: Space,
        range: KeyRange,
        direction: Direction,
        visitor: &mut Visitor<'_>,
    ) -> Result<(), DatabaseError>;
}

/// How much room a database takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskUse {
    /// All of it, as the disk has it.
    pub bytes: u64,
    /// Of these, the journals.
    pub journal_bytes: u64,
    /// How many journals there are.
    pub journals: u64,
}

/// An ordered map in several spaces that survives the process. One thread commits, any may look.
pub trait Database: Send + Sync {
    /// Makes all changes of a batch and syncs them to disk. After an error it is not known whether they are
    /// made, and the database must be opened again.
    fn commit(&self, batch: Batch) -> Result<(), DatabaseError>;
    /// All that was committed, as of now.
    fn look(&self) -> Box<dyn Look>;
    /// How much room it takes.
    fn disk_use(&self) -> Result<DiskUse, DatabaseError>;
    /// Gives the room of what was removed back to the disk; may take long, and others go on meanwhile.
    fn compact(&self) -> Result<(), DatabaseError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_in_a_batch_once_and_the_last_change_counts() {
        let mut batch = Batch::default();
        batch.put(Space::State, *b"a", Bytes::from_static(b"1"));
        batch.remove(Space::State, *b"a");
        batch.remove(Space::Keys, *b"a");
        batch.put(Space::Keys, *b"a", Bytes::from_static(b"2"));
        assert_eq!((batch.len(), batch.bytes()), (2, 6));
        let writes: Vec<_> = batch.into_writes().collect();
        let two = Some(Bytes::from_static(b"2"));
        assert_eq!(
            writes,
            [(Space::Keys, b"a".to_vec(), two), (Space::State, b"a".to_vec(), None)]
        );
    }

    #[test]
    fn an_empty_range_is_known_as_one() {
        for (range, is_empty) in [
            (KeyRange::all(), false),
            (KeyRange::between(*b"a", *b"b"), false),
            (KeyRange::between(*b"a", *b"a"), true),
            (KeyRange::between(*b"b", *b"a"), true),
            (KeyRange::prefix(b"a").after(b"b"), true),
            (KeyRange::prefix(b"a").after(b"ab"), false),
            (KeyRange::prefix(b"\xff").after(b"\xff\xff"), false),
        ] {
            assert_eq!(range.is_empty(), is_empty, "{range:?}");
        }
    }
}
