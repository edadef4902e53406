//! What channels keep beside their history: messages under their ids, reactions to them, values under keys.

use super::{Asker, Home};
use crate::base::ids::ShardId;
use crate::base::time::Now;
use crate::broker::{Command, Down, Refusal, Render, Reply, Report};

impl Home {
    /// Tells the world outside something, once it is on disk.
    pub fn report(&mut self, _report: Report) {}

    /// Carries out an ask about what a channel keeps beside its history.
    pub(super) fn ask_state(
        &mut self,
        asker: Asker,
        _command: Command,
        _now: Now,
        _render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        asker.answer(Reply::Refused(Refusal::StoreBusy), out);
    }
}
