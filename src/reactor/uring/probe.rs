//! Trying each feature once at start, on sockets that nobody else sees.
//!
//! A kernel may know an operation and still get it wrong (6.6.1 to 6.8-rc handed out wrong descriptors
//! from multishot accepts under deferred task work), or a filter may refuse it. So each is tried, not looked up.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use io_uring::types::Fd;
use io_uring::{cqueue, opcode, squeue};

use super::ring::{BUFFER_GROUP, Buffers, Enter, Ring};
use super::{RECEIVE_FLAGS, UringError};
use crate::reactor::machine::check;

/// The longest the kernel may take for what is due at once.
const PATIENCE: Duration = Duration::from_secs(2);

/// Which forms the driver uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Features {
    pub(super) accept_multishot: bool,
    pub(super) receive_multishot: bool,
}

/// Runs the tests. An error means that even the plain forms do not work.
pub(super) fn probe(
    ring: &mut Ring,
    buffers: &mut Buffers,
    plain: bool,
) -> Result<Features, UringError> {
    let refused = |what| move |error| UringError { what, error };
    let nop = one(ring, opcode::Nop::new().build()).map_err(refused("no-operation"))?;
    if nop.result() < 0 {
        return Err(refused("no-operation")(io::Error::from_raw_os_error(-nop.result())));
    }
    let listener = local_listener().map_err(refused("local socket"))?;
    let fd = Fd(listener.as_raw_fd());
    let multishot = opcode::AcceptMulti::new(fd).flags(libc::SOCK_CLOEXEC).build();
    let mut accepted = None;
    if !plain {
        accepted = accept(ring, &listener, multishot).ok();
    }
    let accept_multishot = accepted.is_some();
    let (server, client) = match accepted {
        Some(pair) => pair,
        None => {
            let null = std::ptr::null_mut();
            let single =
                opcode::Accept::new(fd, null, null.cast()).flags(libc::SOCK_CLOEXEC).build();
            accept(ring, &listener, single).map_err(refused("accept"))?
        }
    };
    buffers.lend();
    let fd = Fd(server.as_raw_fd());
    let receive_multishot = !plain
        && receive(ring, buffers, &client, opcode::RecvMulti::new(fd, BUFFER_GROUP).build())
            .is_ok();
    if !receive_multishot {
        receive(ring, buffers, &client, single_receive(fd)).map_err(refused("receive"))?;
    }
    cancel_all(ring).map_err(refused("cancel"))?;
    Ok(Features { accept_multishot, receive_multishot })
}

/// The one-shot receive into a buffer of the kernel's choice.
pub(super) fn single_receive(fd: Fd) -> squeue::Entry {
    opcode::Recv::new(fd, std::ptr::null_mut(), 0)
        .buf_group(BUFFER_GROUP)
        .build()
        .flags(RECEIVE_FLAGS)
}

/// Cancels everything in flight and waits for the last completion. Fails if there is none for too long.
pub(super) fn cancel_all(ring: &mut Ring) -> io::Result<()> {
    let cancel = opcode::AsyncCancel2::new(io_uring::types::CancelBuilder::any().all()).build();
    // SAFETY: the entry points to nothing.
    unsafe { ring.push(cancel) };
    let (mut since, mut left) = (Instant::now(), ring.in_flight());
    while ring.in_flight() > 0 {
        if ring.in_flight() < left {
            (since, left) = (Instant::now(), ring.in_flight());
        } else if since.elapsed() > PATIENCE {
            return Err(io::ErrorKind::TimedOut.into());
        }
        ring.enter(Enter::WaitAtMost(Duration::from_millis(100)))?;
        let mut batch = [const { MaybeUninit::uninit() }; 64];
        while !ring.take(&mut batch, 64).is_empty() {}
        ring.flush_overflow()?;
    }
    Ok(())
}

/// Accepts a connection made here, and makes sure that it is that one.
fn accept(
    ring: &mut Ring,
    listener: &OwnedFd,
    entry: squeue::Entry,
) -> io::Result<(OwnedFd, OwnedFd)> {
    let client = local_socket()?;
    connect(&client, listener)?;
    let completion = one(ring, entry)?;
    let fd = check_result(completion.result())?;
    // SAFETY: a fresh descriptor that nobody else owns.
    let server = unsafe { OwnedFd::from_raw_fd(fd) };
    ping(client.as_raw_fd(), server.as_raw_fd())?;
    Ok((server, client))
}

/// Sends one byte one way, past the ring.
fn ping(from: RawFd, to: RawFd) -> io::Result<()> {
    let (sent, mut heard) = (b'?', 0u8);
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: one valid byte each.
    unsafe {
        check(libc::send(from, (&raw const sent).cast(), 1, flags) as i32)?;
        check(libc::recv(to, (&raw mut heard).cast(), 1, flags) as i32)?;
    }
    if heard == sent { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// Receives one byte through the ring.
fn receive(
    ring: &mut Ring,
    buffers: &mut Buffers,
    client: &OwnedFd,
    entry: squeue::Entry,
) -> io::Result<()> {
    let sent = b'!';
    // SAFETY: one valid byte.
    check(
        unsafe { libc::send(client.as_raw_fd(), (&raw const sent).cast(), 1, libc::MSG_NOSIGNAL) }
            as i32,
    )?;
    let completion = one(ring, entry)?;
    let bytes = check_result(completion.result())?;
    let Some(id) = cqueue::buffer_select(completion.flags()) else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    // SAFETY: id and length of a completion just taken.
    let buffer = unsafe { buffers.claim(id, bytes as usize) };
    if *buffer == [sent] { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

fn check_result(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(result) }
}

/// What entries of the tests are known by; the last one's completion is the one waited for.
const PROBE: u64 = u64::MAX >> 8;

/// Submits one entry and waits for its first completion.
fn one(ring: &mut Ring, entry: squeue::Entry) -> io::Result<cqueue::Entry> {
    // Unlike any other in flight, so that an older entry's completion is not taken for this one's.
    let mark = PROBE - ring.enters;
    // SAFETY: none of the entries made here points to memory of ours.
    unsafe { ring.push(entry.user_data(mark)) };
    let since = Instant::now();
    while since.elapsed() < PATIENCE {
        ring.enter(Enter::WaitAtMost(PATIENCE))?;
        let mut batch = [const { MaybeUninit::uninit() }; 1];
        while let Some(completion) = ring.take(&mut batch, 1).first() {
            if completion.user_data() == mark {
                return Ok(completion.clone());
            }
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

fn local_socket() -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    let fd =
        check(unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: a fresh descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Listens on a name that the kernel chooses and that no file system shows.
fn local_listener() -> io::Result<OwnedFd> {
    let fd = local_socket()?;
    let family = libc::AF_UNIX as libc::sa_family_t;
    // SAFETY: an address that is only its family asks for a name; the size told is the family's.
    unsafe {
        check(libc::bind(fd.as_raw_fd(), (&raw const family).cast(), size_of_val(&family) as u32))?;
        check(libc::listen(fd.as_raw_fd(), 4))?;
    }
    Ok(fd)
}

fn connect(client: &OwnedFd, listener: &OwnedFd) -> io::Result<()> {
    let mut storage = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let mut length = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes of the address, then reads as many as it wrote.
    unsafe {
        check(libc::getsockname(listener.as_raw_fd(), storage.as_mut_ptr().cast(), &mut length))?;
        check(libc::connect(client.as_raw_fd(), storage.as_ptr().cast(), length)).map(drop)
    }
}
