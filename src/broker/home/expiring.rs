//! Values whose time will be over, where the world outside wants to be told of that.
//!
//! Such a value stays on disk past its time, which readers see in it, until it is removed in one step with its report;
//! an index in the order of those times says what comes next. A home knows those of its channels that are over first,
//! and reads on in the index when half of them are done.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::Home;
use super::asking::Pending;
use super::state::Origin;
use crate::base::ids::ShardId;
use crate::base::name::{Channel, Name};
use crate::base::time::{Millis, Nanos, Now, UnixMillis};
use crate::broker::{Down, Render, shelved};
use crate::store::{Answer, Ask, Change, Clock, NEVER, Shelf};

// The first two are low in tests, so that the model meets them.

/// Values in memory whose time will be over, at most: the first of them.
const LOADED_MAX: usize = if cfg!(test) { 4 } else { 65_536 };
/// Values in one page of the index ...
const PAGE_VALUES: u32 = if cfg!(test) { 3 } else { 1_000 };
/// ... and bytes of it.
const PAGE_BYTES_MAX: u64 = 256 << 10;
/// How soon something that failed is tried again.
const RETRY: Millis = Millis(1_000);

/// What a home knows of values whose time will be over.
#[derive(Debug, Default)]
pub(super) struct Expiring {
    /// When each is to be looked at, and its key in the index.
    waiting: BTreeSet<(Clock, Bytes)>,
    loading: Loading,
    /// Up to this key of the index all is known, unless all is.
    known_to: Option<Bytes>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Loading {
    /// All of the index is known.
    #[default]
    Done,
    /// More is to be read, from then on.
    Wanted(Nanos),
    /// There is more, and no need for it now.
    Full,
    /// The store was asked.
    Asked,
}

impl Expiring {
    /// Nothing is known of what is on disk.
    pub(super) fn to_load() -> Self {
        Self { loading: Loading::Wanted(Nanos(0)), ..Self::default() }
    }

    fn knows(&self, key: &Bytes) -> bool {
        match self.loading {
            // A page on its way may have been read before this was written.
            Loading::Done | Loading::Asked => true,
            _ => self.known_to.as_ref().is_some_and(|to| key <= to),
        }
    }

    fn insert(&mut self, due: Clock, key: Bytes) {
        if !self.knows(&key) {
            return;
        }
        self.waiting.insert((due, key));
        if self.waiting.len() > LOADED_MAX
            && let Some((_, gone)) = self.waiting.pop_last()
        {
            // What is tried again has another time than its key, and is there again when that is read.
            let keys = self.waiting.iter().map(|(_, key)| key);
            let last = keys.filter(|key| **key < gone).max().cloned();
            // What came anew may be behind what is not known yet.
            let is_all_known = self.loading == Loading::Done;
            self.known_to = if is_all_known { last } else { self.known_to.take().min(last) };
            // A page that is on its way and begins elsewhere now is read once more.
            self.loading = Loading::Full;
        }
    }
}

/// The changes that keep a value under its key until its time is over, and the world outside wants to know.
pub(super) fn put(key: &Bytes, value: Bytes, expires: Clock) -> [(Shelf, Change); 2] {
    let index = shelved::expiry_key(expires, key);
    let put = |key, value| Change::Put { key, value, expires: NEVER };
    [(Shelf::Storage, put(key.clone(), value)), (Shelf::Expiries, put(index, Bytes::new()))]
}

/// The change that takes it out of the index.
pub(super) fn forget(key: &Bytes, expires: Clock) -> (Shelf, Change) {
    (Shelf::Expiries, Change::Remove { key: shelved::expiry_key(expires, key) })
}

impl Home {
    /// A value is on disk whose time will be over then.
    pub(super) fn await_expiry(&mut self, key: &Bytes, expires: Clock) {
        self.expiring.insert(expires, shelved::expiry_key(expires, key));
    }

    /// It was looked at in vain: once more.
    pub(super) fn await_expiry_again(&mut self, key: &Bytes, expires: Clock, now: Now) {
        let due = UnixMillis(self.clock(now).0.saturating_add(RETRY.0));
        self.expiring.insert(due, shelved::expiry_key(expires, key));
    }

    /// When there is something to look at.
    pub(super) fn expiring_due(&self) -> Option<Nanos> {
        let first = self.expiring.waiting.first().map(|&(due, _)| self.steady_of(due));
        match self.expiring.loading {
            Loading::Wanted(at) => Some(first.map_or(at, |first| first.min(at))),
            _ => first,
        }
    }

    /// Begins to remove values whose time is over; `values_max` of them at most.
    pub(super) fn expire_values(
        &mut self,
        values_max: usize,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let clock = self.clock(now);
        for _ in 0..values_max {
            if self.expiring.waiting.first().is_none_or(|&(due, _)| due > clock) {
                break;
            }
            let Some((_, index)) = self.expiring.waiting.pop_first() else { break };
            if let Some((expires, channel, key)) = self.parse_expiry(&index) {
                self.expire_value(channel, key, expires, now, render, out);
            }
        }
        let is_low = self.expiring.waiting.len() < LOADED_MAX / 2;
        match self.expiring.loading {
            Loading::Wanted(at) if at <= now.steady => self.load_expiries(),
            Loading::Full if is_low => self.load_expiries(),
            _ => {}
        }
    }

    fn parse_expiry(&self, index: &[u8]) -> Option<(Clock, Channel, Name)> {
        let (expires, stream, key) = shelved::parse_expiry_key(index)?;
        Some((expires, self.keeping.rules.channel(&stream)?, key))
    }

    fn load_expiries(&mut self) {
        self.expiring.loading = Loading::Asked;
        let after = self.expiring.known_to.clone();
        let ask = Ask::Read {
            shelf: Shelf::Expiries,
            prefix: Bytes::new(),
            after: after.clone(),
            before: None,
            is_last_first: false,
            values_max: PAGE_VALUES,
            bytes_max: PAGE_BYTES_MAX,
        };
        self.ask_store(Pending::Expiries(after), ask);
    }

    /// Takes a page of the index: the values whose channel is at home here.
    pub(super) fn expiries_read(&mut self, after: &Option<Bytes>, answer: Answer, now: Now) {
        let (values, has_more) = match answer {
            // Some were forgotten meanwhile: what is asked next begins before this.
            _ if *after != self.expiring.known_to => return,
            Answer::Values { values, has_more } => (values, has_more),
            _ => {
                self.expiring.loading = Loading::Wanted(now.steady + RETRY);
                return;
            }
        };
        self.expiring.known_to =
            values.last().map(|(key, _)| key.clone()).or_else(|| after.clone());
        self.expiring.loading = if has_more { Loading::Wanted(now.steady) } else { Loading::Done };
        for (index, _) in values {
            // Of an app that is gone, or of a later version: left where it is.
            let Some((expires, channel, _)) = self.parse_expiry(&index) else { continue };
            if Some(self.channels.slots().home_of(&channel)) == self.keeping.shard {
                self.expiring.insert(expires, index);
            }
        }
    }

    fn expire_value(
        &mut self,
        channel: Channel,
        key: Name,
        expires: Clock,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let bytes = key.len();
        let origin = Origin::default();
        match self.enter_line(&origin, &channel, bytes, now, out) {
            Some(number) => self.line_up_expiry(number, channel, key, expires, now, render, out),
            None => {
                if let Some(prefix) = self.prefix(&channel) {
                    self.await_expiry_again(&shelved::value_key(&prefix, &key), expires, now);
                }
            }
        }
    }
}
