//! How fast one connection is sent the past: a few subscriptions that begin there at a time, and no more of them
//! until the peer has read what it was sent, which its pong says. What is said about a channel's messages is asked for
//! likewise.

use std::collections::VecDeque;

use super::session::PusherSession;
use crate::base::ids::Ticket;
use crate::base::name::Name;
use crate::broker::{Command, Subscribe};
use crate::dialects::Output;

/// Asks for something of the past that are on their way at once.
const OPEN_MAX: usize = 2;

/// What waits, and what is on its way.
#[derive(Default)]
pub(super) struct Pace {
    /// Asked for and not answered.
    open: Vec<(Name, Ticket)>,
    /// Not asked for yet. Those given up since are passed over.
    waiting: VecDeque<(Name, Ticket, Command)>,
    /// Bytes sent of the past that no pong has covered.
    bytes: usize,
    /// A ping is on its way behind them.
    is_pinged: bool,
}

impl Pace {
    /// Bytes of the past were sent.
    pub fn sent(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// Memory it holds for its peer.
    pub fn held_bytes(&self) -> usize {
        self.waiting.len() * (size_of::<(Name, Ticket, Command)>() + size_of::<Subscribe>() + 64)
    }

    /// The channel that an ask on its way is about.
    pub fn open(&self, ticket: Ticket) -> Option<Name> {
        self.open.iter().find(|(_, it)| *it == ticket).map(|(name, _)| name.clone())
    }
}

impl PusherSession {
    /// Asks for something of a channel's past, a subscription or more for one, when its turn has come.
    pub(super) fn ask_paced(
        &mut self,
        name: &Name,
        ticket: Ticket,
        command: Command,
        out: &mut Vec<Output>,
    ) {
        let subscriptions = self.subscriptions_len();
        let Some(pace) = self.pace() else { return out.push(Output::Ask(ticket, command)) };
        pace.waiting.push_back((name.clone(), ticket, command));
        // A peer that subscribes and gives up in turn leaves no more behind than it may have.
        if pace.waiting.len() > 2 * subscriptions + 16 {
            let mut waiting = std::mem::take(&mut pace.waiting);
            waiting.retain(|(name, ticket, _)| self.is_wanted(name, *ticket));
            if let Some(pace) = self.pace() {
                pace.waiting = waiting;
            }
        }
        self.pace_on(out);
    }

    /// Whether an ask was never sent, and need not be taken back.
    pub(super) fn is_waiting(&mut self, ticket: Ticket) -> bool {
        self.pace().is_some_and(|it| it.waiting.iter().rev().any(|(_, waits, _)| *waits == ticket))
    }

    /// An ask was answered: the next may go.
    pub(super) fn paced(&mut self, ticket: Ticket, out: &mut Vec<Output>) {
        let Some(pace) = self.pace() else { return };
        let Some(at) = pace.open.iter().position(|(_, it)| *it == ticket) else { return };
        pace.open.swap_remove(at);
        self.pace_on(out);
    }

    /// The peer has read everything up to our ping.
    pub(super) fn pace_ponged(&mut self, out: &mut Vec<Output>) {
        if let Some(pace) = self.pace()
            && std::mem::take(&mut pace.is_pinged)
        {
            pace.bytes = 0;
            self.pace_on(out);
        }
    }

    fn pace_on(&mut self, out: &mut Vec<Output>) {
        // With what is on its way still below the outbox's mark.
        let bytes_max = self.past_bytes_max();
        loop {
            let Some(pace) = self.pace() else { return };
            if pace.waiting.is_empty() || pace.open.len() >= OPEN_MAX || pace.is_pinged {
                return;
            }
            if pace.bytes > bytes_max {
                pace.is_pinged = true;
                return out.push(Output::Ping);
            }
            let Some((name, ticket, command)) = pace.waiting.pop_front() else { return };
            if self.is_wanted(&name, ticket) {
                if let Some(pace) = self.pace() {
                    pace.open.push((name, ticket));
                }
                out.push(Output::Ask(ticket, command));
            }
        }
    }
}
