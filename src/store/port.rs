//! A shard's end of the way to the store and back.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};

use crossbeam_queue::ArrayQueue;

use super::{Answer, Ask, Change, Fault, Keeper};

/// Asks of one port that are not answered yet, at most; a further one is answered with
/// [`Fault::Unavailable`] at once. As many answers fit the way back, so that none is ever lost.
pub const ASKS_OPEN_MAX: usize = 4096;
/// Bytes one port's asks bring along, at most, until they are answered; one ask may be larger alone.
pub const ASK_BYTES_OPEN_MAX: usize = 16 << 20;
/// Notices that a sweep moved a stream, waiting for one port; further ones wait at the writer.
pub const NOTICES_MAX: usize = 256;

/// What nobody asked for has this tag.
pub const TAG_MOVED: u64 = u64::MAX;

/// An ask on its way: whose, its tag, its bytes, itself.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) port: usize,
    pub(super) tag: u64,
    pub(super) bytes: usize,
    pub(super) ask: Ask,
}

/// What a thread is told.
pub(super) enum Mail {
    Ask(Waiting),
    Stop,
}

/// The ways back to one port.
pub(super) struct Way {
    pub(super) answers: ArrayQueue<(u64, usize, Answer)>,
    pub(super) notices: ArrayQueue<Answer>,
}

impl Way {
    pub(super) fn new() -> Self {
        Self { answers: ArrayQueue::new(ASKS_OPEN_MAX), notices: ArrayQueue::new(NOTICES_MAX) }
    }
}

/// A shard's end of the way to the store's threads and back.
pub struct Port {
    pub(super) port: usize,
    pub(super) writer: SyncSender<Mail>,
    pub(super) reader: SyncSender<Mail>,
    pub(super) way: Arc<Way>,
    pub(super) is_stopped: Arc<AtomicBool>,
    /// Asked and not taken yet.
    pub(super) open: usize,
    pub(super) bytes: usize,
    pub(super) refused: VecDeque<u64>,
}

impl Keeper for Port {
    fn ask(&mut self, tag: u64, ask: Ask) {
        let bytes = bytes_of(&ask);
        let is_heavy = self.bytes > 0 && self.bytes + bytes > ASK_BYTES_OPEN_MAX;
        if self.open >= ASKS_OPEN_MAX || is_heavy || self.is_stopped.load(Ordering::Relaxed) {
            return self.refused.push_back(tag);
        }
        let is_read = ask.is_read();
        let thread = if is_read { &self.reader } else { &self.writer };
        match thread.try_send(Mail::Ask(Waiting { port: self.port, tag, bytes, ask })) {
            Ok(()) => {
                self.open += 1;
                self.bytes += bytes;
            }
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.refused.push_back(tag);
            }
        }
    }

    fn has_room(&self) -> bool {
        self.open < ASKS_OPEN_MAX
    }

    fn take(&mut self) -> Option<(u64, Answer)> {
        if let Some(tag) = self.refused.pop_front() {
            return Some((tag, Answer::Fault(Fault::Unavailable)));
        }
        if let Some((tag, bytes, answer)) = self.way.answers.pop() {
            self.open -= 1;
            self.bytes -= bytes;
            return Some((tag, answer));
        }
        self.way.notices.pop().map(|notice| (TAG_MOVED, notice))
    }

    fn is_ready(&self) -> bool {
        let way = &self.way;
        !self.refused.is_empty() || !way.answers.is_empty() || !way.notices.is_empty()
    }
}

/// What an ask brings along, about.
fn bytes_of(ask: &Ask) -> usize {
    match ask {
        Ask::Append { records, keys, changes, .. } => {
            let changes: usize = changes.iter().map(|(_, change)| change_bytes(change)).sum();
            let bodies: usize = records.iter().map(|record| record.body.len() + 64).sum();
            changes + bodies + keys.iter().map(|key| key.key.len() + 64).sum::<usize>()
        }
        Ask::Pick { keys, .. } => keys.iter().map(|key| key.len() + 32).sum(),
        Ask::Change { changes, .. } => changes.iter().map(|(_, change)| change_bytes(change)).sum(),
        _ => 0,
    }
}

fn change_bytes(change: &Change) -> usize {
    match change {
        Change::Put { key, value, .. } | Change::PutNew { key, value, .. } => {
            key.len() + value.len() + 64
        }
        Change::Push { value } => value.len() + 64,
        Change::Add { key, .. } => key.len() + 72,
        Change::Remove { key } | Change::RemoveKept { key } => key.len() + 64,
    }
}

/// Answers that there is no store.
#[derive(Debug, Default)]
pub struct NoStore(VecDeque<u64>);

impl Keeper for NoStore {
    fn ask(&mut self, tag: u64, _: Ask) {
        self.0.push_back(tag);
    }

    fn has_room(&self) -> bool {
        true
    }

    fn take(&mut self) -> Option<(u64, Answer)> {
        Some((self.0.pop_front()?, Answer::Fault(Fault::Unavailable)))
    }

    fn is_ready(&self) -> bool {
        !self.0.is_empty()
    }
}
