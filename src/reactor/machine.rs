//! The machine as the process finds it: cores, limits, memory, clocks, signals.

use std::io;
use std::time::Duration;

use crate::base::time::{Nanos, Now, UnixMillis};

/// Reads both clocks.
pub fn now() -> Now {
    let steady = clock(libc::CLOCK_MONOTONIC);
    let wall = clock(libc::CLOCK_REALTIME);
    Now { steady: Nanos(steady), wall: UnixMillis(wall / 1_000_000) }
}

fn clock(which: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec; both clocks exist on every Linux.
    unsafe { libc::clock_gettime(which, &mut time) };
    (time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64)
}

/// The cores this process may run on, lowest first. Empty if the kernel will not say.
pub fn cores() -> Vec<usize> {
    // SAFETY: a cpu_set_t is plain bits, for which zero is a value.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes at most the size it is told.
    if unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) } != 0 {
        return Vec::new();
    }
    // SAFETY: every index is below the size of the set.
    (0..libc::CPU_SETSIZE as usize).filter(|core| unsafe { libc::CPU_ISSET(*core, &set) }).collect()
}

/// Keeps the calling thread on one core. Fails if the process may not run there.
pub fn pin(core: usize) -> io::Result<()> {
    if core >= libc::CPU_SETSIZE as usize {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: a cpu_set_t is plain bits, for which zero is a value.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the index is below the size of the set.
    unsafe { libc::CPU_SET(core, &mut set) };
    // SAFETY: the kernel reads the size it is told.
    check(unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) }).map(drop)
}

/// Asks the kernel to give the calling thread short turns: when it wakes, it goes at once before threads of ordinary turns,
/// and gets no more of a core for it. Kernels before 6.12 have one length for all and take no notice.
/// Source: sched_setattr(2), `sched_runtime`; Linux `kernel/sched/fair.c`, PREEMPT_SHORT.
pub fn ask_short_turns(turn: Duration) -> io::Result<()> {
    // SAFETY: a sched_attr is plain numbers, for which zero is a value.
    let mut attributes: libc::sched_attr = unsafe { std::mem::zeroed() };
    let size = size_of::<libc::sched_attr>();
    // SAFETY: the kernel writes at most the size it is told.
    check(
        unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) } as i32
    )?;
    // Other policies give that length a meaning of their own.
    if attributes.sched_policy != libc::SCHED_OTHER as u32 {
        return Ok(());
    }
    attributes.sched_runtime = turn.as_nanos() as u64;
    // SAFETY: the kernel reads the size that the attributes name, which `sched_getattr` has set to what they have.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) } as i32)
        .map(drop)
}

/// Lets other threads go before the calling one where there is not enough for all, by so many steps of `nice` (0 to 19).
pub fn yield_to_others(steps: i32) -> io::Result<()> {
    // On Linux it is the thread's own number, in spite of the name. Source: setpriority(2), "C library/kernel differences".
    // SAFETY: no pointers are passed.
    check(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, steps.clamp(0, 19)) }).map(drop)
}

/// Raises the number of descriptors this process may open as far as it may; returns that number.
pub fn raise_descriptors_max() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one rlimit.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) })?;
    if limit.rlim_cur < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: the kernel reads one rlimit.
        check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) })?;
    }
    Ok(limit.rlim_cur)
}

/// The memory this process may use, in bytes: the machine's, or its control group's if that is less.
pub fn memory_bytes() -> u64 {
    // SAFETY: no pointers are passed.
    let (pages, page_bytes) =
        unsafe { (libc::sysconf(libc::_SC_PHYS_PAGES), libc::sysconf(libc::_SC_PAGESIZE)) };
    let machine =
        u64::try_from(pages).unwrap_or(0).saturating_mul(u64::try_from(page_bytes).unwrap_or(0));
    // Inside a container, version 2 of control groups shows its own group at the root of the mount.
    let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max")
        .ok()
        .and_then(|text| text.trim().parse().ok());
    group.map_or(machine, |group: u64| group.min(machine))
}

/// How many bytes are free, for who has no privileges, on the file system of a path that is there.
pub fn free_bytes(path: &std::path::Path) -> io::Result<u64> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: a statvfs is plain numbers, for which zero is a value.
    let mut found: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path ends with a zero, and the kernel writes one statvfs.
    check(unsafe { libc::statvfs(path.as_ptr(), &mut found) })?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Makes writing to a closed pipe or socket an error instead of the end of the process.
pub fn ignore_broken_pipes() {
    // SAFETY: ignoring a signal installs no handler.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

/// Why the process should stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM, or [`request_stop`].
    Terminate,
    /// SIGINT: someone pressed Ctrl-C.
    Interrupt,
}

/// The two signals that stop the process, held back so that one thread can wait for them.
///
/// Hold them before the first thread is started: threads inherit what is held back.
#[derive(Debug)]
pub struct Signals(());

impl Signals {
    /// Holds SIGTERM and SIGINT back in this thread and in those it will start.
    pub fn hold() -> io::Result<Self> {
        mask(libc::SIG_BLOCK)?;
        Ok(Self(()))
    }

    /// Waits for the next of them.
    pub fn wait(&self) -> Signal {
        loop {
            if let Some(signal) = self.wait_at_most(Duration::from_secs(3600)) {
                return signal;
            }
        }
    }

    /// Waits for the next of them, but not longer than `span`.
    pub fn wait_at_most(&self, span: Duration) -> Option<Signal> {
        let time = libc::timespec {
            tv_sec: span.as_secs().try_into().unwrap_or(libc::time_t::MAX),
            tv_nsec: span.subsec_nanos().into(),
        };
        // SAFETY: the set and the time are read, and no details are asked for.
        match unsafe { libc::sigtimedwait(&stopping(), std::ptr::null_mut(), &time) } {
            libc::SIGTERM => Some(Signal::Terminate),
            libc::SIGINT => Some(Signal::Interrupt),
            _ => None,
        }
    }

    /// From now on either signal ends the process at once: the second one means it.
    pub fn release(self) -> io::Result<()> {
        for signal in [libc::SIGTERM, libc::SIGINT] {
            // A process started in the background may have inherited "ignore".
            // SAFETY: the default action installs no handler.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
        mask(libc::SIG_UNBLOCK)
    }
}

/// Asks this process to stop, as SIGTERM from outside would.
pub fn request_stop() {
    // SAFETY: a signal to ourselves; no pointers.
    unsafe { libc::kill(libc::getpid(), libc::SIGTERM) };
}

fn stopping() -> libc::sigset_t {
    // SAFETY: a sigset_t is plain bits, and sigemptyset gives it its value; the signals exist.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGTERM);
        libc::sigaddset(&mut set, libc::SIGINT);
        set
    }
}

fn mask(how: i32) -> io::Result<()> {
    // SAFETY: the set is read, and the old one is not asked for.
    match unsafe { libc::pthread_sigmask(how, &stopping(), std::ptr::null_mut()) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// The result of a system call that reports failure by -1.
pub(super) fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steady_clock_does_not_step_back_and_the_wall_clock_is_of_this_century() {
        let first = now();
        let second = now();
        assert!(second.steady >= first.steady);
        assert!(first.wall.seconds() > 1_700_000_000);
    }

    #[test]
    fn a_thread_can_be_pinned_to_each_core_it_may_use_and_to_no_other() {
        let cores = cores();
        assert!(!cores.is_empty());
        let allowed = cores.clone();
        std::thread::spawn(move || {
            for core in allowed {
                pin(core).unwrap();
                // SAFETY: no pointers.
                assert_eq!(unsafe { libc::sched_getcpu() }, core as i32);
            }
            assert!(pin(libc::CPU_SETSIZE as usize).is_err());
        })
        .join()
        .unwrap();
    }

    #[test]
    fn limits_are_known() {
        assert!(raise_descriptors_max().unwrap() >= 1024);
        assert!(memory_bytes() > 64 << 20);
    }

    #[test]
    fn a_held_signal_is_waited_for() {
        // In a thread of its own, and to that thread alone, so that no other test is ended by it.
        std::thread::spawn(|| {
            let signals = Signals::hold().unwrap();
            assert_eq!(signals.wait_at_most(Duration::ZERO), None);
            // SAFETY: the calling thread exists.
            unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGINT) };
            assert_eq!(signals.wait(), Signal::Interrupt);
        })
        .join()
        .unwrap();
    }
}
