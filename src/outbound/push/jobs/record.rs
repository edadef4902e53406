//! Publishes on disk: what was asked for, written once, and how far it is, written with every outcome.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::super::keys;
use crate::push::publish::{Counters, Fate, Intent, Outcome, State, Status};
use crate::push::stored::encode;
use crate::push::template::Template;
use crate::store::{Change, Shelf};

/// Devices of a small publish, and of a page of a larger one.
pub const PAGE_DEVICES: u64 = 256;

/// A publish as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// The request.
    pub intent: Intent,
    /// The template as it was then: a change does not reach what was accepted.
    pub template: Option<Template>,
}

/// Where planning goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cursor {
    /// The index of the target; one past the last: devices that are tried again on request.
    pub target: u32,
    /// Behind this key of the target's devices; empty: from the first.
    pub after: Vec<u8>,
}

/// How far a publish is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Where it is; what is on disk says no more of one that is not finished than whether something was done.
    pub state: State,
    /// Always what the outcomes on disk come to.
    pub counters: Counters,
    /// All devices before it have their outcome.
    pub cursor: Cursor,
    /// Devices it was expected to reach.
    pub expected: u64,
    /// When it was accepted, in milliseconds since 1970.
    pub accepted_at: u64,
    /// Its time, if that was to come.
    pub not_before: Option<u64>,
    /// Its time has not come.
    pub is_waiting: bool,
    /// When it was called off or all was done.
    pub finished_at: Option<u64>,
    /// Why it failed.
    pub error_reason: Option<String>,
    /// Keys of outcomes that are to be tried again.
    pub replays: Vec<String>,
    /// What its request was, digested.
    pub fingerprint: [u8; 16],
}

/// Which publish has an idempotency key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyOf {
    /// What it is called.
    pub publish_id: String,
    /// What its request was, digested.
    pub fingerprint: [u8; 16],
}

/// How many devices an app was sent something for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// Days since 1970, in UTC.
    pub day: u64,
    /// So many on that day.
    pub used: u64,
}

impl Progress {
    /// As it is told. `live`: devices that are under way, of these tried at least once, of these waiting to be tried again.
    pub fn status(&self, id: &str, live: (u64, u64, u64)) -> Status {
        let mut counters = self.counters;
        counters.planned += live.0;
        counters.dispatched += live.1;
        counters.retry_scheduled = live.2;
        Status {
            id: id.to_owned(),
            state: self.state,
            counters,
            expected: self.expected,
            is_large: self.expected > PAGE_DEVICES,
            accepted_at: self.accepted_at,
            not_before: self.not_before,
            finished_at: self.finished_at,
            retry_after: None,
            error_reason: self.error_reason.clone(),
        }
    }

    /// How it ended, by what came of its devices.
    pub fn verdict(&self, is_expired: bool) -> State {
        let it = &self.counters;
        let bad = it.failed + it.expired + it.dead_lettered;
        match () {
            () if bad == 0 && !is_expired => State::Succeeded,
            () if it.succeeded > 0 => State::PartiallySucceeded,
            () if it.dead_lettered > 0 => State::DeadLettered,
            () if it.failed == 0 => State::Expired,
            () => State::Failed,
        }
    }

    /// Counts an outcome, or takes one back.
    pub fn count(&mut self, outcome: &Outcome, is_new: bool) {
        let it = &mut self.counters;
        let change = |count: &mut u64, by: u64| {
            *count = if is_new { *count + by } else { count.saturating_sub(by) };
        };
        change(&mut it.planned, 1);
        let of_fate = match outcome.fate {
            Fate::Accepted | Fate::Delivered => &mut it.succeeded,
            Fate::Failed | Fate::Gone => &mut it.failed,
            Fate::Expired => &mut it.expired,
            Fate::Connected | Fate::Skipped => &mut it.skipped,
            Fate::DeadLettered => &mut it.dead_lettered,
        };
        change(of_fate, 1);
        if outcome.attempts > 0 {
            change(&mut it.dispatched, 1);
            change(&mut it.retry_attempted, u64::from(outcome.attempts - 1));
        }
    }
}

/// A publish's records. `expires` is when they go.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The id of the app.
    pub app: &'a str,
    /// What it is called.
    pub id: &'a str,
}

impl Place<'_> {
    /// Where it says what was asked.
    pub fn spec(self) -> Bytes {
        keys::key(keys::JOB, self.app, &[self.id.as_bytes()], true)
    }

    /// Where it says how far it is.
    pub fn progress(self) -> Bytes {
        keys::key(keys::PROGRESS, self.app, &[self.id.as_bytes()], true)
    }

    /// Where it says that it is not finished.
    pub fn open(self) -> Bytes {
        keys::key(keys::OPEN, self.app, &[self.id.as_bytes()], true)
    }

    /// Where it says that its time is to come.
    pub fn waiting(self, at: u64) -> Bytes {
        keys::key(keys::WAITING, self.app, &[&at.to_be_bytes(), self.id.as_bytes()], true)
    }

    /// Where all its outcomes are.
    pub fn outcomes(self) -> Bytes {
        keys::key(keys::OUTCOME, self.app, &[self.id.as_bytes()], false)
    }

    /// Where one of them is.
    pub fn outcome(self, key: &str) -> Bytes {
        keys::key(keys::OUTCOME, self.app, &[self.id.as_bytes(), key.as_bytes()], true)
    }
}

/// Writes a record for so long.
pub fn put<T: Serialize>(key: Bytes, record: &T, expires: u64) -> (Shelf, Change) {
    let expires = crate::base::time::UnixMillis(expires);
    (Shelf::Push, Change::Put { key, value: encode(record), expires })
}

/// Writes a mark: a key without a value.
pub fn mark(key: Bytes) -> (Shelf, Change) {
    (Shelf::Push, Change::Put { key, value: Bytes::new(), expires: crate::store::NEVER })
}

/// Removes what is there, if it is.
pub fn remove(key: Bytes) -> (Shelf, Change) {
    (Shelf::Push, Change::Remove { key })
}
