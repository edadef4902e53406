//! A database in memory, for simulation and tests. It keeps what was committed while a handle lives, so that
//! dropping everything else is a crash; and it fails when told to.

use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::database::{
    Batch, Database, DatabaseError, Direction, DiskUse, KeyRange, Look, Visitor,
};
use super::format::{SPACES, Space};

type Map = BTreeMap<Vec<u8>, Bytes>;
type Maps = [Map; SPACES.len()];

/// How a commit goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should.
    Done,
    /// Fails, and nothing is on disk.
    FailsBefore,
    /// Fails, and yet all of it is on disk.
    FailsAfter,
}

#[derive(Debug, Default)]
struct Inner {
    maps: Arc<Maps>,
    next: VecDeque<Outcome>,
    is_poisoned: bool,
    commits: u64,
    disk_bytes: Option<u64>,
}

/// A handle; clones share the same database.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<Inner>>);

impl Memory {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Who panicked in a test is told of already.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the next commits go, one after the other; further ones are done.
    pub fn expect(&self, outcomes: impl IntoIterator<Item = Outcome>) {
        self.inner().next.extend(outcomes);
    }

    /// Opens it again after a failed commit: until then it refuses more of them, as the real one does.
    pub fn reopen(&self) {
        self.inner().is_poisoned = false;
    }

    /// How many commits had effect.
    pub fn commits(&self) -> u64 {
        self.inner().commits
    }

    /// Says from now on that it takes so many bytes.
    pub fn pretend_disk_bytes(&self, bytes: u64) {
        self.inner().disk_bytes = Some(bytes);
    }

    /// How many keys a space has.
    pub fn keys(&self, space: Space) -> usize {
        self.inner().maps[space as usize].len()
    }
}

impl Database for Memory {
    fn commit(&self, batch: Batch) -> Result<(), DatabaseError> {
        let mut inner = self.inner();
        if inner.is_poisoned {
            return Err(DatabaseError::Failed("an earlier commit failed".into()));
        }
        if batch.is_empty() {
            return Ok(());
        }
        let outcome = inner.next.pop_front().unwrap_or(Outcome::Done);
        if outcome != Outcome::FailsBefore {
            let maps = Arc::make_mut(&mut inner.maps);
            for (space, key, value) in batch.into_writes() {
                match value {
                    Some(value) => maps[space as usize].insert(key, value),
                    None => maps[space as usize].remove(&key),
                };
            }
            inner.commits += 1;
        }
        if outcome == Outcome::Done {
            return Ok(());
        }
        inner.is_poisoned = true;
        Err(DatabaseError::Failed("told to fail".into()))
    }

    fn look(&self) -> Box<dyn Look> {
        Box::new(MemoryLook(Arc::clone(&self.inner().maps)))
    }

    fn disk_use(&self) -> Result<DiskUse, DatabaseError> {
        let inner = self.inner();
        let kept = || {
            let pairs = inner.maps.iter().flatten();
            pairs.map(|(key, value)| (key.len() + value.len()) as u64).sum()
        };
        let bytes = inner.disk_bytes.unwrap_or_else(kept);
        Ok(DiskUse { bytes, journal_bytes: 0, journals: 0 })
    }

    fn compact(&self) -> Result<(), DatabaseError> {
        Ok(())
    }
}

struct MemoryLook(Arc<Maps>);

impl Look for MemoryLook {
    fn value(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, DatabaseError> {
        Ok(self.0[space as usize].get(key).cloned())
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
        let mut pairs = self.0[space as usize].range((range.from, range.to));
        loop {
            let pair = match direction {
                Direction::Forwards => pairs.next(),
                Direction::Backwards => pairs.next_back(),
            };
            let Some((key, value)) = pair else { return Ok(()) };
            if visitor(key, value)? == ControlFlow::Break(()) {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(value: &'static [u8]) -> Batch {
        let mut batch = Batch::default();
        batch.put(Space::State, *b"k", Bytes::from_static(value));
        batch
    }

    #[test]
    fn a_commit_fails_as_told_and_a_look_does_not_change() {
        let memory = Memory::default();
        let value = |look: &dyn Look| look.value(Space::State, b"k").unwrap();
        memory.commit(one(b"1")).unwrap();
        let look = memory.look();
        memory.expect([Outcome::FailsBefore, Outcome::FailsAfter]);
        assert!(memory.commit(one(b"2")).is_err());
        assert_eq!(value(&*memory.look()).unwrap(), "1");
        assert!(memory.commit(one(b"3")).is_err(), "refuses until it is opened again");
        memory.reopen();
        assert!(memory.commit(one(b"4")).is_err());
        assert_eq!(value(&*memory.look()).unwrap(), "4");
        assert_eq!(value(&*look).unwrap(), "1");
        assert_eq!(memory.commits(), 2);
    }
}
