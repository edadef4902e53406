//! A shard's end of the ways to the back shard and back.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_queue::ArrayQueue;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::{Arrival, INQUIRIES_MAX, Mail, Nobody, Outside, Waiter};
use crate::auth::{Finding, Inquiry};
use crate::base::ids::{ConnectionId, Ticket};

/// Events from upstream that wait for one shard, at most; beyond that they are not read over there.
pub(super) const ARRIVALS_MAX: usize = 1024;

pub(super) type Findings = ArrayQueue<(ConnectionId, Ticket, Finding)>;

/// Events from upstream on their way to a shard.
pub(super) struct Arrivals {
    pub(super) queue: ArrayQueue<Arrival>,
    /// The back shard has more of them: it wants to know when there is room.
    pub(super) is_wanted: AtomicBool,
}

impl Default for Arrivals {
    fn default() -> Self {
        Self { queue: ArrayQueue::new(ARRIVALS_MAX), is_wanted: AtomicBool::default() }
    }
}

/// A shard's end of the way to the back shard and back.
pub struct BackPort {
    shard: usize,
    out: mpsc::Sender<Mail>,
    findings: Arc<Findings>,
    arrivals: Arc<Arrivals>,
    /// Asked and not taken yet.
    open: usize,
    refused: Nobody,
    /// Connections that are gone and that the back shard could not be told of: no more than there are with something
    /// that stands. Nothing else is asked before they are told.
    gone: VecDeque<ConnectionId>,
}

impl BackPort {
    pub(super) fn new(
        shard: usize,
        out: mpsc::Sender<Mail>,
        findings: Arc<Findings>,
        arrivals: Arc<Arrivals>,
    ) -> Self {
        let (open, refused, gone) = (0, Nobody::default(), VecDeque::new());
        Self { shard, out, findings, arrivals, open, refused, gone }
    }

    /// Tells who is gone, as far as there is room. True: all are told.
    fn tell_gone(&mut self) -> bool {
        while let Some(from) = self.gone.front() {
            if let Err(TrySendError::Full(_)) = self.out.try_send(Mail::Gone(*from)) {
                return false;
            }
            self.gone.pop_front();
        }
        true
    }
}

impl Outside for BackPort {
    fn ask(&mut self, from: ConnectionId, ticket: Ticket, inquiry: Inquiry) {
        let waiter = Waiter { shard: self.shard, to: from, ticket };
        // In order: a connection is gone after what it asked, and before whoever takes its place asks.
        if self.open >= INQUIRIES_MAX || !self.tell_gone() {
            return self.refused.ask(from, ticket, inquiry);
        }
        match self.out.try_send(Mail::Inquiry(waiter, inquiry)) {
            Ok(()) => self.open += 1,
            Err(TrySendError::Full(mail) | TrySendError::Closed(mail)) => {
                if let Mail::Inquiry(_, inquiry) = mail {
                    self.refused.ask(from, ticket, inquiry);
                }
            }
        }
    }

    fn take(&mut self) -> Option<(ConnectionId, Ticket, Finding)> {
        self.tell_gone();
        if let Some(refused) = self.refused.take() {
            return Some(refused);
        }
        let found = self.findings.pop()?;
        self.open -= 1;
        Some(found)
    }

    fn is_ready(&self) -> bool {
        // Whoever is to be told of is tried again at once: there is room soon.
        self.refused.is_ready()
            || !self.findings.is_empty()
            || !self.arrivals.queue.is_empty()
            || !self.gone.is_empty()
    }

    fn gone(&mut self, from: ConnectionId) {
        self.gone.push_back(from);
        self.tell_gone();
    }

    fn arrival(&mut self) -> Option<Arrival> {
        let arrival = self.arrivals.queue.pop()?;
        // Half of it is room enough to be worth a word.
        if self.arrivals.queue.len() <= ARRIVALS_MAX / 2
            && self.arrivals.is_wanted.load(Ordering::SeqCst)
            && self.arrivals.is_wanted.swap(false, Ordering::SeqCst)
        {
            // A full mailbox does as well: the back shard looks again after every mail.
            let _ = self.out.try_send(Mail::Room);
        }
        Some(arrival)
    }

    fn looked(&mut self, number: u64, are_occupied: Vec<bool>) {
        // A full mailbox: whoever asked does without, after a while.
        let _ = self.out.try_send(Mail::Looked(self.shard, number, are_occupied));
    }
}
