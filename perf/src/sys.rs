//! The system calls the generator and the floor make, each behind a safe face.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use libc::{c_int, c_void, socklen_t};

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Monotonic time in nanoseconds.
#[inline]
pub fn now_ns() -> u64 {
    let mut at = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `at` is a valid timespec for the call to fill.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut at) };
    at.tv_sec as u64 * 1_000_000_000 + at.tv_nsec as u64
}

/// Confines the calling thread (and what it spawns later) to one core.
pub fn pin(core: usize) -> io::Result<()> {
    // SAFETY: an all-zero cpu_set_t is the empty set; CPU_SET writes inside it for any core below its size.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        check(libc::sched_setaffinity(0, std::mem::size_of::<libc::cpu_set_t>(), &set))?;
    }
    Ok(())
}

/// Sets the nice value of the calling process and of its session's scheduling group, without which the
/// value means nothing to processes of other sessions.
pub fn nice(value: i32) -> io::Result<()> {
    // SAFETY: plain integers.
    check(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, value) })?;
    // Absent where the kernel does not group by session.
    let _ = std::fs::write("/proc/self/autogroup", value.to_string());
    Ok(())
}

/// Lets the calling thread run only where nobody else wants to.
pub fn only_when_idle() -> io::Result<()> {
    // SAFETY: plain data, zero is the priority that this policy wants.
    let param: libc::sched_param = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a local that outlives the call.
    check(unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const param) }).map(drop)
}

/// Raises the limit of open descriptors to the hard limit and returns it.
pub fn raise_descriptors() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for both calls.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
    }
    limit.rlim_cur
}

fn set_option<T>(fd: RawFd, level: c_int, name: c_int, value: T) -> io::Result<()> {
    // SAFETY: the pointer and the length describe `value`, which lives through the call.
    check(unsafe {
        libc::setsockopt(
            fd,
            level,
            name,
            (&raw const value).cast::<c_void>(),
            std::mem::size_of::<T>() as socklen_t,
        )
    })
    .map(drop)
}

/// Sends small frames at once.
pub fn no_delay(fd: RawFd) -> io::Result<()> {
    set_option(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1 as c_int)
}

/// Closing resets the connection, so that no port waits in TIME_WAIT between runs.
pub fn reset_on_close(fd: RawFd) -> io::Result<()> {
    set_option(fd, libc::SOL_SOCKET, libc::SO_LINGER, libc::linger { l_onoff: 1, l_linger: 0 })
}

/// Lengthens the accept queue of a listener that std made with its own default.
pub fn listen_again(fd: RawFd, backlog: i32) -> io::Result<()> {
    // SAFETY: plain integers.
    check(unsafe { libc::listen(fd, backlog) }).map(drop)
}

fn address(at: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: at.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(at.ip().octets()) },
        sin_zero: [0; 8],
    }
}

/// Starts a non-blocking connect from `source` (any port) to `to`.
pub fn connect(source: Ipv4Addr, to: SocketAddrV4) -> io::Result<OwnedFd> {
    // SAFETY: the descriptor is fresh and owned from here on; addresses outlive their calls.
    unsafe {
        let flags = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        let raw = check(libc::socket(libc::AF_INET, flags, 0))?;
        let fd = OwnedFd::from_raw_fd(raw);
        no_delay(raw)?;
        reset_on_close(raw)?;
        set_option(raw, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1 as c_int)?;
        let size = std::mem::size_of::<libc::sockaddr_in>() as socklen_t;
        let from = address(SocketAddrV4::new(source, 0));
        check(libc::bind(raw, (&raw const from).cast(), size))?;
        let to = address(to);
        match check(libc::connect(raw, (&raw const to).cast(), size)) {
            Ok(_) => Ok(fd),
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(fd),
            Err(error) => Err(error),
        }
    }
}

/// What a finished connect came to.
pub fn connect_result(fd: RawFd) -> io::Result<()> {
    let mut code: c_int = 0;
    let mut size = std::mem::size_of::<c_int>() as socklen_t;
    // SAFETY: `code` and `size` are valid for the call to fill.
    check(unsafe {
        libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_ERROR, (&raw mut code).cast(), &mut size)
    })?;
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) }
}

/// One `send(2)`, never blocking, never a signal.
#[inline]
pub fn send(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the pointer and the length describe `bytes`.
    let sent = unsafe {
        libc::send(fd, bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT)
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(sent as usize) }
}

/// One `recv(2)`, never blocking.
#[inline]
pub fn recv(fd: RawFd, into: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the pointer and the length describe `into`.
    let got = unsafe { libc::recv(fd, into.as_mut_ptr().cast(), into.len(), libc::MSG_DONTWAIT) };
    if got < 0 { Err(io::Error::last_os_error()) } else { Ok(got as usize) }
}

/// An epoll instance.
pub struct Epoll(OwnedFd);

/// One readiness, as the kernel writes it.
pub type Event = libc::epoll_event;

/// Readable, edge-triggered, hang-up included.
pub const READ_EDGE: u32 = (libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLET) as u32;
/// Readable, level-triggered.
pub const READ: u32 = (libc::EPOLLIN | libc::EPOLLRDHUP) as u32;
/// Writable.
pub const WRITE: u32 = libc::EPOLLOUT as u32;
/// Error or hang-up.
pub const BROKEN: u32 = (libc::EPOLLERR | libc::EPOLLHUP) as u32;

impl Epoll {
    pub fn new() -> io::Result<Self> {
        // SAFETY: the descriptor is fresh and owned from here on.
        unsafe { Ok(Self(OwnedFd::from_raw_fd(check(libc::epoll_create1(libc::EPOLL_CLOEXEC))?))) }
    }

    fn control(&self, operation: c_int, fd: RawFd, token: u64, events: u32) -> io::Result<()> {
        let mut event = Event { events, u64: token };
        // SAFETY: `event` is valid for the call.
        check(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), operation, fd, &mut event) }).map(drop)
    }

    pub fn add(&self, fd: RawFd, token: u64, events: u32) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, events)
    }

    pub fn modify(&self, fd: RawFd, token: u64, events: u32) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, events)
    }

    /// Waits up to so many nanoseconds and returns how many of `events` were filled. Linux 5.11 at least.
    pub fn wait_ns(&self, events: &mut [Event], timeout_ns: u64) -> io::Result<usize> {
        if timeout_ns == 0 {
            return self.wait(events, 0);
        }
        let timeout = libc::timespec {
            tv_sec: (timeout_ns / 1_000_000_000) as libc::time_t,
            tv_nsec: (timeout_ns % 1_000_000_000) as libc::c_long,
        };
        // SAFETY: the pointer and the length describe `events`; `timeout` lives through the call; no signals are
        // named.
        let got = unsafe {
            libc::epoll_pwait2(
                self.0.as_raw_fd(),
                events.as_mut_ptr(),
                events.len() as c_int,
                &raw const timeout,
                std::ptr::null(),
            )
        };
        match check(got) {
            Ok(count) => Ok(count as usize),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Waits up to `timeout_ms` (-1: for ever) and returns how many of `events` were filled.
    pub fn wait(&self, events: &mut [Event], timeout_ms: i32) -> io::Result<usize> {
        // SAFETY: the pointer and the length describe `events`.
        let got = unsafe {
            libc::epoll_wait(
                self.0.as_raw_fd(),
                events.as_mut_ptr(),
                events.len() as c_int,
                timeout_ms,
            )
        };
        match check(got) {
            Ok(count) => Ok(count as usize),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            Err(error) => Err(error),
        }
    }
}

/// Whether this process may do anything.
pub fn is_root() -> bool {
    // SAFETY: no arguments, no failure.
    unsafe { libc::geteuid() == 0 }
}

/// Asks a process to stop now: PostgreSQL waits for its clients otherwise.
pub fn interrupt(pid: u32) {
    // SAFETY: plain integers; the caller owns the child, so the id is not reused.
    unsafe { libc::kill(pid as libc::pid_t, libc::SIGINT) };
}

/// Asks a process to stop.
pub fn terminate(pid: u32) {
    // SAFETY: plain integers; the caller owns the child, so the id is not reused.
    unsafe { libc::kill(pid as libc::pid_t, libc::SIGTERM) };
}
