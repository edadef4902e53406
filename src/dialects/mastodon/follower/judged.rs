//! Statuses that were judged just now. One comes on several channels, one right after the other, and is the same for
//! everyone on each of them.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::line::Waiting;
use crate::base::time::{Millis, Nanos};
use crate::dialects::mastodon::brief::Brief;

/// How many are remembered.
const REMEMBERED_MAX: usize = 32;
/// Longer ones are not.
const STATUS_BYTES_MAX: usize = 64 << 10;
/// For how long. A filter ends so much later than it should at most.
const REMEMBERED_FOR: Millis = Millis(1000);

/// One status that was judged.
#[derive(Debug)]
struct Judged {
    number: u64,
    lookups: Box<[u64]>,
    changes: u64,
    payload: Bytes,
    at: Nanos,
    brief: Arc<Brief>,
}

/// Those that are remembered, the oldest first.
#[derive(Debug, Default)]
pub struct JustJudged(VecDeque<Judged>);

impl JustJudged {
    /// What is known of the very same status, from the same answers about its relations, for the same viewers with the
    /// same keywords (`changes`).
    pub fn find(&mut self, status: &Waiting, changes: u64, now: Nanos) -> Option<Arc<Brief>> {
        self.forget_old(now);
        let is_same = |it: &&Judged| {
            it.changes == changes
                && it.number == status.number
                && *it.lookups == *status.lookups
                && it.payload == status.payload
        };
        self.0.iter().find(is_same).map(|it| it.brief.clone())
    }

    /// Remembers what was found out about a status.
    pub fn keep(&mut self, status: &Waiting, changes: u64, brief: Arc<Brief>, now: Nanos) {
        if status.payload.len() > STATUS_BYTES_MAX {
            return;
        }
        if self.0.len() == REMEMBERED_MAX {
            self.0.pop_front();
        }
        self.0.push_back(Judged {
            number: status.number,
            lookups: status.lookups.clone().into(),
            changes,
            payload: status.payload.clone(),
            at: now,
            brief,
        });
    }

    /// When one is to be forgotten.
    pub fn due(&self) -> Option<Nanos> {
        self.0.front().map(|it| it.at + REMEMBERED_FOR)
    }

    /// Forgets what is too old.
    pub fn forget_old(&mut self, now: Nanos) {
        while self.due().is_some_and(|due| due <= now) {
            self.0.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_same_is_known() {
        let status = |number, lookups: &[u64], payload: &'static str| Waiting {
            number,
            channel: "a".into(),
            event: "update".into(),
            payload: payload.into(),
            lookups: lookups.to_vec(),
            arrived: Nanos(0),
        };
        let mut judged = JustJudged::default();
        let first = status(1, &[5], "x");
        judged.keep(&first, 3, Arc::default(), Nanos(0));
        assert!(judged.find(&status(1, &[5], "x"), 3, Nanos(0)).is_some());
        assert!(judged.find(&status(2, &[5], "x"), 3, Nanos(0)).is_none());
        assert!(judged.find(&status(1, &[6], "x"), 3, Nanos(0)).is_none());
        assert!(judged.find(&status(1, &[5], "y"), 3, Nanos(0)).is_none());
        assert!(judged.find(&first, 4, Nanos(0)).is_none());
        for _ in 0..REMEMBERED_MAX {
            judged.keep(&status(9, &[], "z"), 3, Arc::default(), Nanos(5));
        }
        assert!(judged.find(&first, 3, Nanos(5)).is_none());
        assert_eq!(judged.due(), Some(Nanos(1_000_000_005)));
        assert!(judged.find(&status(9, &[], "z"), 3, Nanos(1_000_000_005)).is_none());
    }
}
