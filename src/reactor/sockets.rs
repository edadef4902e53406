//! The system calls on sockets that both kernel drivers make directly.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::machine::check;

/// Connections waiting to be accepted, per listener; the kernel lowers it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Binds and listens, with `SO_REUSEPORT`; `flags` is `SOCK_NONBLOCK` or 0.
pub(super) fn listen(address: SocketAddr, flags: i32) -> io::Result<(OwnedFd, SocketAddr)> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: no pointers.
    let fd =
        check(unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC | flags, 0) })?;
    // SAFETY: a fresh descriptor that nobody else owns.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    option(&fd, libc::SOL_SOCKET, libc::SO_REUSEADDR)?;
    option(&fd, libc::SOL_SOCKET, libc::SO_REUSEPORT)?;
    // Linux hands this one down to accepted sockets (a test holds it to that), which saves a call for each.
    option(&fd, libc::IPPROTO_TCP, libc::TCP_NODELAY)?;
    let (storage, length) = raw(address);
    // SAFETY: `storage` holds an address of `length` bytes.
    check(unsafe { libc::bind(fd.as_raw_fd(), storage.as_ptr().cast(), length) })?;
    // SAFETY: no pointers.
    check(unsafe { libc::listen(fd.as_raw_fd(), BACKLOG) })?;
    let bound = name(fd.as_raw_fd(), libc::getsockname)?;
    Ok((fd, bound))
}

fn option(fd: &OwnedFd, level: i32, option: i32) -> io::Result<()> {
    let on: i32 = 1;
    // SAFETY: one int, of the size told.
    check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            option,
            (&raw const on).cast(),
            size_of::<i32>() as u32,
        )
    })
    .map(drop)
}

/// Who is at the other end. Fails if the peer has already gone.
pub(super) fn peer(fd: RawFd) -> io::Result<SocketAddr> {
    name(fd, libc::getpeername)
}

type NameCall = unsafe extern "C" fn(i32, *mut libc::sockaddr, *mut libc::socklen_t) -> i32;

fn name(fd: RawFd, call: NameCall) -> io::Result<SocketAddr> {
    let mut storage = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let mut length = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes.
    check(unsafe { call(fd, storage.as_mut_ptr().cast(), &mut length) })?;
    // SAFETY: zeroed before the call, so every byte has a value.
    Ok(address(unsafe { storage.assume_init_ref() }))
}

/// The unspecified address: what a peer is called that left before it could be asked.
pub(super) const NOBODY: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));

/// What a peer is called whose socket has no name: it is on this machine.
const LOCAL: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));

fn address(storage: &libc::sockaddr_storage) -> SocketAddr {
    match i32::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says which address it is, and the storage is large and aligned enough for any.
            let v4 = unsafe { &*(&raw const *storage).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
            SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into()
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let v6 = unsafe { &*(&raw const *storage).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            SocketAddrV6::new(ip, u16::from_be(v6.sin6_port), v6.sin6_flowinfo, v6.sin6_scope_id)
                .into()
        }
        libc::AF_UNIX => LOCAL,
        _ => NOBODY,
    }
}

fn raw(address: SocketAddr) -> (MaybeUninit<libc::sockaddr_storage>, libc::socklen_t) {
    let mut storage = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let length = match address {
        SocketAddr::V4(v4) => {
            let raw = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from(*v4.ip()).to_be() },
                sin_zero: [0; 8],
            };
            // SAFETY: the storage is large and aligned enough for any address.
            unsafe { storage.as_mut_ptr().cast::<libc::sockaddr_in>().write(raw) };
            size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(v6) => {
            let raw = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            };
            // SAFETY: as above.
            unsafe { storage.as_mut_ptr().cast::<libc::sockaddr_in6>().write(raw) };
            size_of::<libc::sockaddr_in6>()
        }
    };
    (storage, length as libc::socklen_t)
}

/// Ends one direction (`SHUT_WR`) or both (`SHUT_RDWR`). A socket that is already gone is as good as shut down.
pub(super) fn shutdown(fd: RawFd, how: i32) {
    // SAFETY: no pointers.
    unsafe { libc::shutdown(fd, how) };
}

/// Closes a descriptor that its slot owned.
pub(super) fn close(fd: RawFd) {
    // SAFETY: no pointers; the slot forgets the number at the same time. Linux frees it even on an error.
    unsafe { libc::close(fd) };
}

/// Whether a failed accept means that one connection attempt came to nothing: then the next one may be
/// taken at once. Anything else (descriptors, memory) may last, and is tried again later.
///
/// Source: accept(2), "Error handling": pending network errors of the new socket come out here.
pub(super) fn is_one_attempts(error: i32) -> bool {
    matches!(
        error,
        libc::EINTR
            | libc::EAGAIN
            | libc::ECONNABORTED
            | libc::ECONNRESET
            | libc::ETIMEDOUT
            | libc::EPERM
            | libc::EPROTO
            | libc::ENETDOWN
            | libc::ENOPROTOOPT
            | libc::EHOSTDOWN
            | libc::ENONET
            | libc::EHOSTUNREACH
            | libc::EOPNOTSUPP
            | libc::ENETUNREACH
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_back() {
        for text in ["127.0.0.1:0", "10.1.2.3:65535", "[::1]:80", "[fe80::1%7]:443"] {
            let there: SocketAddr = text.parse().unwrap();
            let (storage, _) = raw(there);
            // SAFETY: zeroed at birth.
            assert_eq!(address(unsafe { storage.assume_init_ref() }), there, "{text}");
        }
    }

    #[test]
    fn what_is_accepted_sends_without_delay() {
        let (listener, address) = listen("127.0.0.1:0".parse().unwrap(), 0).unwrap();
        let client = std::net::TcpStream::connect(address).unwrap();
        let (server, peer) = std::net::TcpListener::from(listener).accept().unwrap();
        assert!(server.nodelay().unwrap());
        assert_eq!(
            (super::peer(server.as_raw_fd()).unwrap(), peer),
            (peer, client.local_addr().unwrap())
        );
    }
}
