//! What may be used once: whoever says so first is told yes, on disk, and everyone after that no.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use super::asking::Pending;
use super::durable::refusal_of;
use super::later::Asked;
use super::{Asker, Home};
use crate::base::ids::{AppIndex, ShardId};
use crate::base::name::Name;
use crate::base::time::{Millis, Now, UnixMillis};
use crate::broker::{Down, Refusal, Reply};
use crate::store::{Answer, Ask, Change, Clock, Shelf};

/// How much longer a use is remembered than until what was used is no good any more, by the wall clock, which may be
/// set back a little.
pub(super) const MARGIN: Millis = Millis(60_000);

/// Under which key a use is remembered.
fn key(app_id: &str, name: &str) -> Bytes {
    let mut key = BytesMut::with_capacity(4 + app_id.len() + name.len());
    key.put_u32(app_id.len() as u32);
    key.put_slice(app_id.as_bytes());
    key.put_slice(name.as_bytes());
    key.freeze()
}

impl Home {
    /// The clock of retention when the wall clock is there.
    pub(super) fn clock_at(&self, wall: UnixMillis, now: Now) -> Clock {
        let left = wall.0.saturating_sub(now.wall.0);
        UnixMillis(self.clock(now).0.saturating_add(left))
    }

    /// Uses something, if it was not used before.
    pub(super) fn use_once(
        &mut self,
        asker: Asker,
        (app, name, until): (AppIndex, Name, UnixMillis),
        now: Now,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let rules = Arc::clone(&self.keeping.rules);
        let Some(app_id) = rules.app_id(app).filter(|_| self.may_ask_later()) else {
            return asker.answer(Reply::Refused(Refusal::StoreBusy), out);
        };
        let until = UnixMillis(until.0.saturating_add(MARGIN.0));
        let change = Change::PutNew {
            key: key(app_id, &name),
            value: Bytes::new(),
            expires: self.clock_at(until, now),
        };
        let ask = Ask::change(Shelf::UsedTokens, vec![change]);
        self.ask_store(Pending::Later(Asked::UseOnce(asker)), ask);
    }

    /// The store has said whether it was the first use.
    pub(super) fn used_once(
        &mut self,
        asker: Asker,
        answer: &Answer,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let reply = match answer {
            Answer::Changed => Reply::Done,
            // Of one that failed it is not known whether it is used now; then nobody may use it.
            Answer::Fault(fault) => Reply::Refused(refusal_of(fault)),
            _ => Reply::Refused(Refusal::StoreBusy),
        };
        asker.answer(reply, out);
    }
}
