//! A store for simulated servers: it commits when the seed says so, and loses what was not committed.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use ringmain::base::time::UnixMillis;
use ringmain::shard::mesh::Doorbell;
use ringmain::store::database::Database;
use ringmain::store::ledger::Ledger;
use ringmain::store::memory::{Memory, Outcome};
use ringmain::store::reads::Reader;
use ringmain::store::{Answer, Ask, Keeper, open};

/// The store of one process; what its disk holds outlives it.
#[derive(Clone)]
pub struct SimStore(Arc<Mutex<Inner>>);

struct Inner {
    disk: Memory,
    store: u128,
    ledger: Ledger,
    reader: Reader,
    writes: VecDeque<(usize, u64, Ask)>,
    reads: VecDeque<(usize, u64, Ask)>,
    answers: Vec<VecDeque<(u64, Answer)>>,
}

/// A shard's end of it.
struct Port {
    shard: usize,
    store: SimStore,
}

impl SimStore {
    /// A process's store on a disk that may hold something already.
    pub fn open(disk: &Memory, shards: u16) -> Self {
        disk.reopen();
        let store = open::settle(disk, 7).expect("a settled store");
        let ledger = Ledger::new(Arc::new(disk.clone()), store).expect("a sound store");
        Self(Arc::new(Mutex::new(Inner {
            disk: disk.clone(),
            store,
            ledger,
            reader: Reader::default(),
            writes: VecDeque::new(),
            reads: VecDeque::new(),
            answers: (0..shards).map(|_| VecDeque::new()).collect(),
        })))
    }

    /// One end for each shard, in order.
    pub fn keeper(&self, shard: usize) -> Box<dyn Keeper> {
        Box::new(Port { shard, store: self.clone() })
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether something is asked and not answered.
    pub fn is_busy(&self) -> bool {
        let inner = self.inner();
        !inner.writes.is_empty() || !inner.reads.is_empty()
    }

    /// Does something: answers a read, or commits a group; `draw` says what, how much, and whether it fails.
    pub fn step(
        &self,
        draw: &dyn Fn(u64) -> u64,
        clock: UnixMillis,
        fails: bool,
        bells: &[Doorbell],
    ) {
        let mut inner = self.inner();
        let inner = &mut *inner;
        let mut answered = Vec::new();
        if draw(2) == 0 {
            if let Some((shard, tag, ask)) = inner.reads.pop_front() {
                let look = inner.disk.look();
                let answer = inner.reader.answer(&*look, inner.store, &ask, clock);
                answered.push((shard, tag, answer.expect("it is a read")));
            }
        } else if !inner.writes.is_empty() {
            let group = 1 + draw(inner.writes.len() as u64) as usize;
            let group: Vec<_> = inner.writes.drain(..group).collect();
            match draw(60) {
                0 if fails => inner.disk.expect([Outcome::FailsBefore]),
                1 if fails => inner.disk.expect([Outcome::FailsAfter]),
                _ => {}
            }
            let asks = group.iter().map(|(_, _, ask)| ask.clone());
            let answers = inner.ledger.answer(asks, clock);
            answered.extend(
                group.into_iter().zip(answers).map(|((shard, tag, _), it)| (shard, tag, it)),
            );
            if inner.ledger.is_broken() {
                inner.disk.reopen();
                let database = Arc::new(inner.disk.clone());
                inner.ledger = Ledger::new(database, inner.store).expect("a sound store");
            }
        }
        for (shard, tag, answer) in answered {
            inner.answers[shard].push_back((tag, answer));
            if bells[shard].parking.should_wake() {
                bells[shard].waker.wake();
            }
        }
    }
}

impl Keeper for Port {
    fn ask(&mut self, tag: u64, ask: Ask) {
        let mut inner = self.store.inner();
        let is_read = ask.is_read();
        let inner = &mut *inner;
        let queue = if is_read { &mut inner.reads } else { &mut inner.writes };
        queue.push_back((self.shard, tag, ask));
    }

    fn has_room(&self) -> bool {
        true
    }

    fn take(&mut self) -> Option<(u64, Answer)> {
        self.store.inner().answers[self.shard].pop_front()
    }

    fn is_ready(&self) -> bool {
        !self.store.inner().answers[self.shard].is_empty()
    }
}
