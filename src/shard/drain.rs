//! Draining: accept nothing new, tell every peer to go elsewhere, paced, then be done.

use std::sync::atomic::Ordering;

use crate::base::time::{Millis, Nanos};
use crate::observe::CloseReason;

use super::connection::{Connection, Phase};
use super::{Life, Shard};

/// Peers are told in small portions this far apart, so that they do not all come back at once.
const PORTION: Millis = Millis(20);

/// How far a drain has come.
pub struct Drain {
    /// The connection to tell next.
    next_slot: usize,
    /// When the next portion is due.
    due: Nanos,
    /// When whoever is left is dropped.
    deadline: Nanos,
}

impl Shard {
    /// When draining wants to be called again.
    pub(super) fn drain_due(&self) -> Option<Nanos> {
        self.drain.as_ref().map(|drain| drain.due.min(drain.deadline))
    }

    /// Starts to drain when told to, and takes the next portion when it is due.
    pub(super) fn drain_some(&mut self) -> Life {
        if self.shared.stopping.load(Ordering::Relaxed) {
            return Life::Done;
        }
        let now = self.now.steady;
        let Some(drain) = &mut self.drain else {
            if self.shared.draining.load(Ordering::Relaxed) {
                for listener in self.listeners.drain(..) {
                    self.driver.unlisten(listener);
                }
                let deadline = now + self.config.drain.deadline;
                self.drain = Some(Drain { next_slot: 0, due: now, deadline });
                return self.drain_some();
            }
            return Life::Running;
        };
        // All shards go on until the last connection of the process is gone: its channels may be at
        // home here.
        if self.shared.connections.load(Ordering::Relaxed) == 0 {
            return Life::Done;
        }
        if now >= drain.deadline {
            let left = self.connections_open;
            crate::observe::log::warn(
                self.now.wall,
                "drain_deadline",
                &[("shard", &self.id.0), ("connections_dropped", &left)],
            );
            return Life::Done;
        }
        if now >= drain.due {
            drain.due = now + PORTION;
            let from = drain.next_slot;
            let portion =
                (u64::from(self.config.drain.per_second) * PORTION.0).div_ceil(1000).max(1);
            self.drain_portion(from, portion);
        }
        Life::Running
    }

    fn drain_portion(&mut self, from: usize, portion: u64) {
        let mut slot = from;
        let mut told = 0;
        while told < portion && slot < self.connections.len() {
            if let Some(mut c) = self.connections[slot].take() {
                told += u64::from(self.send_away(&mut c));
                self.check_in(c);
            }
            slot += 1;
        }
        if let Some(drain) = &mut self.drain {
            // Once around, then again for those that were busy answering.
            drain.next_slot = if slot < self.connections.len() { slot } else { 0 };
        }
    }

    /// Tells one peer to go; false if it is going already or must be answered first.
    fn send_away(&mut self, c: &mut Connection) -> bool {
        match (&c.phase, self.farewell(c, CloseReason::Drain)) {
            (Phase::WebSocket | Phase::Streaming(_), Some(farewell)) => {
                self.say_goodbye(c, &farewell, CloseReason::Drain);
                true
            }
            (Phase::Head { pending, .. }, _) if pending.is_empty() => {
                self.finish(c, CloseReason::Drain);
                true
            }
            _ => false,
        }
    }
}
