//! Listening on a Unix socket, for a proxy on the same machine.
//!
//! A path cannot be bound once for each shard, as a port can: one listener is bound and every driver accepts on
//! a copy of its descriptor. Whether that descriptor waits is a property of all its copies, so that all
//! who accept there must be of one kind.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Whoever may reach the folder may connect.
const MODE: u32 = 0o666;

/// What accepts on a listener needs of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accepts {
    /// The kernel waits (io_uring): an accept that would not is lost.
    Waiting,
    /// Nobody waits (epoll): an accept that would stops the shard.
    AtOnce,
}

/// A Unix socket that shards listen on, and its path, which is removed when this is dropped.
#[derive(Debug)]
pub struct LocalListener {
    path: PathBuf,
    /// Which file it made: not what someone else put there since.
    file: (u64, u64),
    /// None: every shard has its copy, and the last of them to go ends the listening.
    socket: Option<UnixListener>,
    accepts: OnceLock<Accepts>,
}

impl LocalListener {
    /// Binds the path, for everyone who may reach it. A socket that is there is replaced if nobody listens on it any
    /// more. Fails as bind and listen do, with [`ErrorKind::AddrInUse`] if anything else is there.
    pub fn bind(path: &Path) -> io::Result<Self> {
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
            Ok(found) if !found.file_type().is_socket() => {
                return Err(io::Error::new(
                    ErrorKind::AddrInUse,
                    "something else than a socket is there",
                ));
            }
            Ok(_) => match UnixStream::connect(path) {
                Ok(_) => return Err(ErrorKind::AddrInUse.into()),
                // Of a server that was killed.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                    fs::remove_file(path)?
                }
                Err(error) => return Err(error),
            },
        }
        let socket = UnixListener::bind(path)?;
        fs::set_permissions(path, Permissions::from_mode(MODE))?;
        let file = identity(path)?;
        let path = path.to_owned();
        Ok(Self { path, file, socket: Some(socket), accepts: OnceLock::new() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A copy of its descriptor for who accepts so; none if others accept otherwise, who serve the path then.
    pub(super) fn share(&self, accepts: Accepts) -> io::Result<Option<OwnedFd>> {
        let Some(socket) = &self.socket else { return Ok(None) };
        if *self.accepts.get_or_init(|| accepts) != accepts {
            return Ok(None);
        }
        socket.set_nonblocking(accepts == Accepts::AtOnce)?;
        Ok(Some(socket.try_clone()?.into()))
    }

    /// No more copies: from here on it listens as long as one of them does.
    pub fn seal(&mut self) {
        self.socket = None;
    }
}

impl Drop for LocalListener {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|file| file == self.file) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|it| (it.dev(), it.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder =
            std::env::temp_dir().join(format!("ringmain-local-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn a_path_is_taken_only_if_nobody_answers_there() {
        let folder = folder("taken");
        let path = folder.join("s");
        let first = LocalListener::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        assert_eq!(LocalListener::bind(&path).unwrap_err().kind(), ErrorKind::AddrInUse);
        drop(first);
        assert!(!path.exists(), "it went with its listener");

        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "left behind, as by a server that was killed");
        let second = LocalListener::bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let third = LocalListener::bind(&path).unwrap();
        drop(second);
        assert!(path.exists(), "it is another's by now");
        drop(third);

        fs::write(&path, "precious").unwrap();
        assert_eq!(LocalListener::bind(&path).unwrap_err().kind(), ErrorKind::AddrInUse);
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn all_who_accept_are_of_one_kind_until_it_is_sealed() {
        let folder = folder("kinds");
        let mut listener = LocalListener::bind(&folder.join("s")).unwrap();
        assert!(listener.share(Accepts::AtOnce).unwrap().is_some());
        assert!(listener.share(Accepts::Waiting).unwrap().is_none());
        assert!(listener.share(Accepts::AtOnce).unwrap().is_some());
        listener.seal();
        assert!(listener.share(Accepts::AtOnce).unwrap().is_none());
        // Sealed and without copies nobody listens any more.
        let refused = UnixStream::connect(listener.path()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        drop(listener);
        fs::remove_dir_all(folder).unwrap();
    }
}
