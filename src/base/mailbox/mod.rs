//! One-way mail between two threads: a bounded queue with one sender and one receiver.
//!
//! Mail is staged with [`Sender::try_push`] and becomes visible, all of it at once, with
//! [`Sender::publish`]: one store per batch, so the receiver's core is disturbed once per tick and
//! not once per mail. Whoever may sleep while mail comes says so in a [`Parking`].
//!
//! The queue is Lamport's ("Proving the correctness of multiprocess programs", 1977) with two
//! habits of newer ones: each side keeps a copy of the other's index and looks at the shared one
//! only when the copy says full or empty, and the indices live on cache lines of their own. Indices
//! count for ever and wrap; a slot is the index masked.
//!
//! Shown by: a plain twin (property test), Miri, and Loom for every interleaving of small cases:
//! `RUSTFLAGS="--cfg mailbox_loom" cargo test --lib --target-dir target/loom mailbox::loom_tests`.

mod parking;
mod sync;

use std::mem::MaybeUninit;
use std::ptr;

use crossbeam_utils::CachePadded;

pub use parking::Parking;

use sync::{Arc, AtomicUsize, Ordering, UnsafeCell};

/// Makes a mailbox of `slots` slots, a power of two. Both ends may move to other threads.
pub fn mailbox<T: Send>(slots: usize) -> (Sender<T>, Receiver<T>) {
    assert!(slots.is_power_of_two(), "the index is masked, not divided: {slots} slots");
    assert!(slots <= isize::MAX as usize, "full and empty must differ: {slots} slots");
    let shared = Arc::new(Shared {
        slots: (0..slots).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect(),
        head: CachePadded::new(AtomicUsize::new(0)),
        tail: CachePadded::new(AtomicUsize::new(0)),
    });
    let sender = Sender { shared: Arc::clone(&shared), staged: 0, published: 0, head_seen: 0 };
    (sender, Receiver { shared, head: 0, tail_seen: 0 })
}

/// What both ends see.
///
/// Slots from `head` up to (not including) `tail` hold items and belong to the receiver; the others
/// belong to the sender. `head` only moves by the receiver and `tail` only by the sender, both
/// forwards, and never further apart than there are slots.
struct Shared<T> {
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
    head: CachePadded<AtomicUsize>,
    tail: CachePadded<AtomicUsize>,
}

// SAFETY: a slot is touched by one end at a time: it is handed over by a release store of `tail` or
// `head` and an acquire load of the same by the other end. Items move from one thread to the other
// by that, hence `T: Send`. No `&T` is ever given to two threads, so `T: Sync` is not needed.
unsafe impl<T: Send> Sync for Shared<T> {}
// SAFETY: as above; whoever drops it last drops items made by another thread, which `T: Send` allows.
unsafe impl<T: Send> Send for Shared<T> {}

impl<T> Shared<T> {
    fn slot(&self, index: usize) -> &UnsafeCell<MaybeUninit<T>> {
        &self.slots[index & (self.slots.len() - 1)]
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        // Both ends are gone (they hold the only references), so nobody else moves the indices.
        let tail = self.tail.load(Ordering::Relaxed);
        let mut head = self.head.load(Ordering::Relaxed);
        while head != tail {
            // SAFETY: slots from `head` up to `tail` hold items, and this is the only owner left.
            // The item is passed once: `head` moves on before anything else can happen to the slot.
            self.slot(head).with_mut(|slot| unsafe { (*slot).assume_init_drop() });
            head = head.wrapping_add(1);
        }
    }
}

/// The end that puts mail in. Not cloneable: there is one sender.
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
    /// The next slot to fill; those from `published` on are filled but not yet visible.
    staged: usize,
    published: usize,
    /// The receiver's `head` when last looked at; the real one is here or further on.
    head_seen: usize,
}

impl<T: Send> Sender<T> {
    /// Stages an item for the next [`Sender::publish`]; gives it back if all slots are taken.
    pub fn try_push(&mut self, item: T) -> Result<(), T> {
        let slots = self.shared.slots.len();
        if self.staged.wrapping_sub(self.head_seen) == slots {
            self.head_seen = self.shared.head.load(Ordering::Acquire);
            if self.staged.wrapping_sub(self.head_seen) == slots {
                return Err(item);
            }
        }
        // SAFETY: `staged` is at least `tail` and less than `slots` past a value that `head` had, so
        // the slot is the sender's. What it held was taken out before `head` passed it, which the
        // acquire load of `head` made visible here; so nothing is overwritten that needs a drop.
        self.shared.slot(self.staged).with_mut(|slot| unsafe {
            slot.write(MaybeUninit::new(item));
        });
        self.staged = self.staged.wrapping_add(1);
        Ok(())
    }

    /// Makes everything staged visible, with one store; says how many items that were.
    pub fn publish(&mut self) -> usize {
        let count = self.staged.wrapping_sub(self.published);
        if count > 0 {
            // Release: who sees this index sees the slots before it filled.
            self.shared.tail.store(self.staged, Ordering::Release);
            self.published = self.staged;
        }
        count
    }

    /// How many items are staged and not yet published.
    pub fn staged(&self) -> usize {
        self.staged.wrapping_sub(self.published)
    }

    /// How many items are in it, staged ones included; the receiver may have taken some meanwhile.
    pub fn len(&self) -> usize {
        self.staged.wrapping_sub(self.shared.head.load(Ordering::Acquire))
    }

    /// True if it held nothing, staged or visible, a moment ago.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many slots it has.
    pub fn slots(&self) -> usize {
        self.shared.slots.len()
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        // What was staged still arrives, or is dropped with the mailbox: nothing leaks.
        self.shared.tail.store(self.staged, Ordering::Release);
    }
}

/// The end that takes mail out. Not cloneable: there is one receiver.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    /// The next slot to empty; a copy of the shared one, which only this end moves.
    head: usize,
    /// The sender's `tail` when last looked at; the real one is here or further on.
    tail_seen: usize,
}

impl<T: Send> Receiver<T> {
    /// Takes the oldest published item out.
    pub fn pop(&mut self) -> Option<T> {
        if self.head == self.tail_seen {
            self.tail_seen = self.shared.tail.load(Ordering::Acquire);
            if self.head == self.tail_seen {
                return None;
            }
        }
        // SAFETY: `head` is before a value that `tail` had, so this slot holds an item, whose
        // writing the acquire load of `tail` made visible here; and the sender leaves it alone until
        // `head` has moved past it, below. The item is read once: `head` never comes back.
        let item =
            self.shared.slot(self.head).with(|slot| unsafe { ptr::read(slot).assume_init() });
        self.head = self.head.wrapping_add(1);
        // Release: who sees this index sees the slot before it emptied.
        self.shared.head.store(self.head, Ordering::Release);
        Some(item)
    }

    /// How many published items wait; there may be more by now.
    pub fn len(&self) -> usize {
        self.shared.tail.load(Ordering::Acquire).wrapping_sub(self.head)
    }

    /// True if no published item waited a moment ago. To decide on sleep, call it between
    /// [`Parking::prepare`] and the wait.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(all(test, not(mailbox_loom)))]
mod tests;

#[cfg(all(test, mailbox_loom))]
mod loom_tests;
