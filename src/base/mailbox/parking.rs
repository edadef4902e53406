//! How a receiver sleeps without missing mail, and senders wake it once.

use crossbeam_utils::CachePadded;

use super::sync::{AtomicBool, Ordering, fence};

/// A flag that says its owner sleeps or is about to.
///
/// The owner, when it runs out of work: [`Parking::prepare`]; look into every mailbox; then, if all
/// are empty, wait, and in any case [`Parking::cancel`]. A sender: publish; then, if
/// [`Parking::should_wake`], wake the owner by whatever ends its wait.
///
/// No wake is lost: each side writes first (the flag; the mailbox), then fences, then looks at
/// what the other wrote. The fences have one order, so at least one side sees the other's write:
/// the owner sees the mail and does not wait, or the sender sees the flag and wakes. And of several
/// senders one wakes: the one that takes the flag down.
#[derive(Debug)]
pub struct Parking {
    asleep: CachePadded<AtomicBool>,
}

impl Default for Parking {
    fn default() -> Self {
        Self::new()
    }
}

impl Parking {
    /// The parking of an owner that is awake.
    pub fn new() -> Self {
        Self { asleep: CachePadded::new(AtomicBool::new(false)) }
    }

    /// The owner will wait unless the look at its mailboxes, which must follow, finds mail.
    pub fn prepare(&self) {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The owner is awake. A wake that was on its way ends its next wait at once: harmless.
    pub fn cancel(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }

    /// For a sender that has published: true if the owner must be woken, and this sender is the one
    /// to do it.
    pub fn should_wake(&self) -> bool {
        fence(Ordering::SeqCst);
        // The plain look first: a swap would take the cache line from an owner that is awake.
        self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::AcqRel)
    }
}
