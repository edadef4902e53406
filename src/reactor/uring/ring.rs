//! The two queues shared with the kernel, and the ring of receive buffers.
//!
//! Knows nothing of sockets: entries go in, completions come out, none is lost, and what is in flight is
//! counted.

use std::collections::VecDeque;
use std::io;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use io_uring::types::{BufRingEntry, SubmitArgs, Timespec};
use io_uring::{IoUring, Submitter, cqueue, squeue};

use super::UringError;
use crate::reactor::buffers::{Buffer, Pool};

/// The one group of receive buffers.
pub(super) const BUFFER_GROUP: u16 = 0;
/// Buffers the kernel is given at first. It uses them in turn, so fewer stay warm and cost less memory;
/// the number doubles whenever it runs out.
const BUFFERS_LENT_START: u16 = 256;

/// How long [`Ring::enter`] waits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Enter {
    /// Not at all.
    Submit,
    /// For one completion, but not longer than this.
    WaitAtMost(Duration),
    /// For one completion.
    Wait,
}

pub(super) struct Ring {
    /// The submitter that registered the ring's descriptor: only this one uses the registration.
    submitter: Submitter<'static>,
    /// What the submitter points into; freed by `drop`.
    ring: NonNull<IoUring>,
    /// Entries that found the queue full when the kernel would not take it; they go first.
    backlog: VecDeque<squeue::Entry>,
    in_flight: usize,
    pub(super) is_registered: bool,
    pub(super) has_no_array: bool,
    pub(super) enters: u64,
    pub(super) overflows: u64,
}

impl Ring {
    /// Sets the queues up for one thread, which must be the calling one.
    pub(super) fn new(submissions: u32, completions: u32, plain: bool) -> Result<Self, UringError> {
        let build = |no_array: bool| {
            let mut builder = IoUring::builder();
            builder
                .setup_single_issuer()
                .setup_defer_taskrun()
                .setup_taskrun_flag()
                .setup_submit_all()
                .setup_cqsize(completions)
                .dontfork();
            if no_array {
                builder.setup_no_sqarray();
            }
            builder.build(submissions)
        };
        let refused =
            |error| UringError { what: "ring with deferred task work (Linux 6.1)", error };
        let (ring, has_no_array) = match build(!plain) {
            Err(error) if !plain && error.raw_os_error() == Some(libc::EINVAL) => {
                (build(false).map_err(refused)?, false)
            }
            other => (other.map_err(refused)?, !plain),
        };
        let parameters = ring.params();
        if !parameters.is_feature_ext_arg() || !parameters.is_feature_nodrop() {
            return Err(UringError {
                what: "wait with a time limit",
                error: io::ErrorKind::Unsupported.into(),
            });
        }
        let ring = NonNull::from(Box::leak(Box::new(ring)));
        // SAFETY: leaked above, so it lives until `drop` takes it back, after the submitter's last use.
        let mut submitter = unsafe { ring.as_ref() }.submitter();
        let is_registered = !plain && submitter.register_ring_fd().is_ok();
        Ok(Self {
            submitter,
            ring,
            backlog: VecDeque::new(),
            in_flight: 0,
            is_registered,
            has_no_array,
            enters: 0,
            overflows: 0,
        })
    }

    fn ring(&self) -> &IoUring {
        // SAFETY: it lives until `drop`, and only shared references to it are ever made before that.
        unsafe { self.ring.as_ref() }
    }

    /// Entries that will still complete: each counts from its push to its last completion.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Queues an entry. If the queue is full it is submitted first.
    ///
    /// # Safety
    /// Everything the entry points to stays where it is until its last completion.
    pub(super) unsafe fn push(&mut self, entry: squeue::Entry) {
        self.in_flight += 1;
        if self.backlog.is_empty() && self.queue(&entry) {
            return;
        }
        self.backlog.push_back(entry);
        // A failure is not lost: the entry stays, and the next turn's enter reports what persists.
        if self.submit().is_ok() {
            self.unload();
        }
    }

    /// True if the next push finds the queue full.
    pub(super) fn is_full(&self) -> bool {
        // SAFETY: the only view of the queue at this time.
        unsafe { self.ring().submission_shared() }.is_full()
    }

    fn queue(&self, entry: &squeue::Entry) -> bool {
        // SAFETY: the only view of the queue at this time; the entry's validity is the promise of `push`.
        unsafe { self.ring().submission_shared().push(entry) }.is_ok()
    }

    fn unload(&mut self) {
        while let Some(entry) = self.backlog.front()
            && self.queue(entry)
        {
            self.backlog.pop_front();
        }
    }

    /// Every enter makes the kernel place the completions that found the queue full, so this is where they
    /// can be counted.
    fn count_enter(&mut self) {
        self.enters += 1;
        self.overflows += u64::from(self.has_overflow());
    }

    fn has_overflow(&self) -> bool {
        // SAFETY: the only view of the queue at this time.
        unsafe { self.ring().submission_shared() }.cq_overflow()
    }

    fn submit(&mut self) -> io::Result<()> {
        self.count_enter();
        forgive(self.submitter.submit())
    }

    /// True if an enter would do anything: entries wait, or the kernel has completions it could not place yet.
    pub(super) fn wants_enter(&self) -> bool {
        // SAFETY: the only view of the queue at this time.
        let queue = unsafe { self.ring().submission_shared() };
        !queue.is_empty() || queue.cq_overflow() || !self.backlog.is_empty()
    }

    /// True if the kernel holds work back until the next enter.
    pub(super) fn has_deferred(&self) -> bool {
        // SAFETY: the only view of the queue at this time.
        unsafe { self.ring().submission_shared() }.taskrun()
    }

    /// True if completions are there to be taken.
    pub(super) fn has_completions(&self) -> bool {
        // SAFETY: the only view of the queue at this time.
        !unsafe { self.ring().completion_shared() }.is_empty()
    }

    /// Submits what is queued and waits as told.
    pub(super) fn enter(&mut self, enter: Enter) -> io::Result<()> {
        self.unload();
        while !self.backlog.is_empty() && self.is_full() {
            self.submit()?;
            let before = self.backlog.len();
            self.unload();
            if self.backlog.len() == before {
                break;
            }
        }
        self.count_enter();
        forgive(match enter {
            Enter::Submit => self.submitter.submit(),
            Enter::Wait => self.submitter.submit_and_wait(1),
            Enter::WaitAtMost(span) => {
                let time = Timespec::from(span);
                self.submitter.submit_with_args(1, &SubmitArgs::new().timespec(&time))
            }
        })
    }

    /// If the kernel has completions that found the queue full, makes it place them; the queue must have been
    /// emptied. True if there may be more to take now.
    pub(super) fn flush_overflow(&mut self) -> io::Result<bool> {
        if !self.has_overflow() {
            return Ok(false);
        }
        self.submit()?;
        Ok(self.has_completions())
    }

    /// Takes up to `most` completions into `batch`.
    pub(super) fn take<'a>(
        &mut self,
        batch: &'a mut [MaybeUninit<cqueue::Entry>],
        most: usize,
    ) -> &'a [cqueue::Entry] {
        let most = batch.len().min(most);
        // SAFETY: the only view of the queue at this time.
        let taken = unsafe { self.ring().completion_shared() }.fill(&mut batch[..most]);
        self.in_flight -= taken.iter().filter(|entry| !cqueue::more(entry.flags())).count();
        taken
    }

    /// Makes the ring of receive buffers known to the kernel.
    fn register(&self, entries: NonNull<BufRingEntry>, count: u16) -> io::Result<()> {
        // SAFETY: `Buffers` keeps the memory until after it is unregistered or the ring is gone.
        unsafe {
            self.submitter.register_buf_ring_with_flags(
                entries.as_ptr() as u64,
                count,
                BUFFER_GROUP,
                0,
            )
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if self.is_registered {
            // The registration holds the ring open until the thread ends.
            let _ = self.submitter.unregister_ring_fd();
        }
        // SAFETY: made by `Box::leak` in `new`; the submitter is not used again, and dropping it does nothing.
        drop(unsafe { Box::from_raw(self.ring.as_ptr()) });
    }
}

/// A wait that timed out or was interrupted has succeeded; an enter the kernel put off is tried again next turn.
fn forgive(result: io::Result<usize>) -> io::Result<()> {
    match result {
        Err(error)
            if !matches!(
                error.raw_os_error(),
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN)
            ) =>
        {
            Err(error)
        }
        _ => Ok(()),
    }
}

/// The pool's buffers as the kernel takes them: a ring of descriptions in shared memory.
pub(super) struct Buffers {
    pool: Pool,
    entries: NonNull<BufRingEntry>,
    /// Entries of the ring, a power of two.
    size: u16,
    tail: u16,
    /// Buffers the kernel has now.
    lent: u16,
    /// Buffers it may have.
    lent_max: u16,
    /// It ran out since the last lending.
    short: bool,
}

impl Buffers {
    pub(super) fn new(ring: &Ring, pool: Pool) -> Result<Self, UringError> {
        let refused = |error| UringError { what: "ring of receive buffers", error };
        let size = pool.count().next_power_of_two();
        let bytes = usize::from(size) * size_of::<BufRingEntry>();
        // SAFETY: an anonymous mapping at an address of the kernel's choice touches nothing of ours.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        let entries = match NonNull::new(at.cast::<BufRingEntry>()) {
            Some(entries) if at != libc::MAP_FAILED => entries,
            _ => return Err(refused(io::Error::last_os_error())),
        };
        let lent_max = pool.count().min(BUFFERS_LENT_START);
        let buffers = Self { pool, entries, size, tail: 0, lent: 0, lent_max, short: false };
        ring.register(entries, size).map_err(refused)?;
        Ok(buffers)
    }

    /// Hands free buffers to the kernel.
    pub(super) fn lend(&mut self) {
        let before = self.tail;
        if std::mem::take(&mut self.short) {
            // Once per turn, however many receives found nothing in it.
            self.lent_max = self.pool.count().min(self.lent_max.saturating_mul(2));
        }
        while self.lent < self.lent_max
            && let Some(id) = self.pool.take_id()
        {
            let place = usize::from(self.tail & (self.size - 1));
            // SAFETY: `place` is below `size`, the length of the mapping, and the kernel does not read an
            // entry before the tail has passed it. The tail itself lies in the first entry's unused
            // field, which these three setters leave alone.
            let entry = unsafe { &mut *self.entries.as_ptr().add(place) };
            entry.set_addr(self.pool.address(id) as u64);
            entry.set_len(self.pool.buffer_bytes() as u32);
            entry.set_bid(id);
            self.tail = self.tail.wrapping_add(1);
            self.lent += 1;
        }
        if self.tail != before {
            // SAFETY: `entries` is the start of a registered ring, so this is the address of its tail,
            // which only we write and the kernel reads atomically.
            let tail = unsafe { &*BufRingEntry::tail(self.entries.as_ptr()).cast::<AtomicU16>() };
            tail.store(self.tail, Ordering::Release);
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> u16 {
        self.pool.count()
    }

    /// Buffers the kernel has now.
    pub(super) fn lent(&self) -> usize {
        usize::from(self.lent)
    }

    /// The kernel ran out: it may have twice as many from now on.
    pub(super) fn grow(&mut self) {
        self.short = true;
    }

    /// The buffer a completion speaks of.
    ///
    /// # Safety
    /// The completion just taken from this ring carries this id and length.
    pub(super) unsafe fn claim(&mut self, id: u16, len: usize) -> Buffer {
        self.lent -= 1;
        // SAFETY: the caller's promise, and the kernel gives each lent buffer back once.
        unsafe { self.pool.claim(id, len) }
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        let bytes = usize::from(self.size) * size_of::<BufRingEntry>();
        // SAFETY: mapped in `new` with this size. The driver drops its ring first, with nothing in
        // flight, so the kernel neither reads nor writes here any more.
        unsafe { libc::munmap(self.entries.as_ptr().cast(), bytes) };
    }
}
