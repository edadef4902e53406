//! A store that answers at once: the real ledger on a disk in memory.

use std::sync::Arc;

use ringmain::base::time::UnixMillis;
use ringmain::store::database::Database;
use ringmain::store::ledger::Ledger;
use ringmain::store::memory::Memory;
use ringmain::store::reads::Reader;
use ringmain::store::{Answer, Ask, open};

/// What one process keeps.
pub struct Disk {
    disk: Memory,
    store: u128,
    ledger: Ledger,
    reader: Reader,
}

impl Disk {
    /// An empty one.
    pub fn new() -> Self {
        let disk = Memory::default();
        let store = open::settle(&disk, 7).expect("a settled store");
        let ledger = Ledger::new(Arc::new(disk.clone()), store).expect("a sound store");
        Self { disk, store, ledger, reader: Reader::default() }
    }

    /// Does as asked.
    pub fn answer(&mut self, ask: Ask, clock: UnixMillis) -> Answer {
        let look = self.disk.look();
        match self.reader.answer(&*look, self.store, &ask, clock) {
            Some(answer) => answer,
            None => self.ledger.answer([ask], clock).pop().expect("one answer for each ask"),
        }
    }
}
