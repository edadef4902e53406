//! Ending a driver's wait from elsewhere.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Ends a driver's wait from another thread. Cheap to clone; waking a driver that does not wait makes
/// its next wait return at once. It outlives its driver: then it does nothing.
#[derive(Clone, Debug)]
pub struct Waker(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Event(Arc<OwnedFd>),
    Flag(Arc<AtomicBool>),
}

impl Waker {
    /// Wakes the driver. Costs a system call: wake only a shard that is parked.
    pub fn wake(&self) {
        match &self.0 {
            Kind::Event(fd) => {
                let one = 1u64.to_ne_bytes();
                // It cannot fail in a way that matters: a counter that is full is also readable.
                // SAFETY: eight valid bytes, and a descriptor this handle keeps open.
                unsafe { libc::write(fd.as_raw_fd(), one.as_ptr().cast(), one.len()) };
            }
            Kind::Flag(flag) => flag.store(true, Ordering::Release),
        }
    }

    /// A waker that a kernel driver can wait for.
    ///
    /// Its counter is never read: both drivers listen for the edge that every write makes, and
    /// it would take 2^64 wakes to fill.
    pub(super) fn event() -> io::Result<Self> {
        // SAFETY: no pointer is passed.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a fresh descriptor that nobody else owns.
        Ok(Self(Kind::Event(Arc::new(unsafe { OwnedFd::from_raw_fd(fd) }))))
    }

    /// A waker that only raises a flag, for the simulated driver.
    pub(super) fn flag() -> (Self, Arc<AtomicBool>) {
        let flag = Arc::new(AtomicBool::new(false));
        (Self(Kind::Flag(Arc::clone(&flag))), flag)
    }

    /// The descriptor to watch, if it has one.
    pub(super) fn descriptor(&self) -> Option<RawFd> {
        match &self.0 {
            Kind::Event(fd) => Some(fd.as_raw_fd()),
            Kind::Flag(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_stays_raised_until_taken() {
        let (waker, flag) = Waker::flag();
        waker.clone().wake();
        waker.wake();
        assert!(flag.swap(false, Ordering::Acquire));
        assert!(!flag.load(Ordering::Acquire));
    }

    #[test]
    fn a_waker_may_travel() {
        fn travels<T: Send + Sync + Clone>() {}
        travels::<Waker>();
    }
}
