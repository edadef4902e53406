//! Redis and PostgreSQL as Debian has them, started by a test for itself and ended with it.
//!
//! Each runs in a directory of its own, on a port of its own and on a Unix socket, can be stopped and started again
//! where it was, and can be made to stand still. Needs `redis-server` and `postgresql` (tools/test installs them).

mod database;
mod feed;
pub mod postgres;
pub mod redis;

pub use self::postgres::Postgres;
pub use self::redis::Redis;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long one of them may take to start or to stop; only a failing test gets near it.
pub const START_MAX: Duration = Duration::from_secs(60);
/// How often it is looked whether it has.
const LOOK: Duration = Duration::from_millis(20);
/// Debian's `nobody` and `nogroup`: PostgreSQL refuses to run as root.
const NOBODY: u32 = 65534;

/// A directory that whoever runs the server may write to, removed when it is dropped.
pub struct Ground {
    /// Where.
    pub path: PathBuf,
    /// Who owns it, if not whoever runs the tests.
    owner: Option<u32>,
}

impl Ground {
    fn new(name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // Short: the path of a Unix socket may have 107 bytes.
        let path = std::env::temp_dir().join(format!("rm-{name}-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).expect("a temporary directory can be made");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
        let is_root = fs::metadata(&path).expect("it is there").uid() == 0;
        let owner = is_root.then_some(NOBODY);
        let ground = Self { path, owner };
        ground.give("");
        ground
    }

    /// A file or directory here.
    pub fn at(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.path.clone() } else { self.path.join(name) }
    }

    /// Hands a file here to whoever runs the server.
    fn give(&self, name: &str) {
        if let Some(owner) = self.owner {
            chown(self.at(name), Some(owner), Some(owner)).expect("root may");
        }
    }

    /// Writes a file that whoever runs the server owns and nobody else may read.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.at(name);
        fs::write(&path, text).expect("a temporary file can be written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("it is ours");
        self.give(name);
        path
    }

    /// A command that runs here, as whoever owns it. What it says goes to the file `log`.
    fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        let log = fs::File::options().create(true).append(true).open(self.at("log"));
        let log = log.expect("a temporary file can be written");
        let again = log.try_clone().expect("a file can be had twice");
        command.current_dir(&self.path).env("LC_ALL", "C").env("TZ", "UTC");
        command.stdin(Stdio::null()).stdout(log).stderr(again);
        if let Some(owner) = self.owner {
            command.uid(owner).gid(owner);
        }
        command
    }

    /// What the server said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.at("log")).unwrap_or_default()
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{} said: {}", self.path.display(), self.log());
        }
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// A server's process, killed when it is dropped.
struct Process(Child);

impl Process {
    /// A signal, by its name.
    fn signal(&self, signal: &str) {
        let pid = self.0.id().to_string();
        // A shell's own `kill` is everywhere, and a system call from here would be unsafe code.
        let sent = Command::new("sh").args(["-c", &format!("kill -{signal} {pid}")]).status();
        assert!(sent.is_ok_and(|status| status.success()), "kill -{signal} {pid}");
    }

    fn is_alive(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }

    /// Ends it by a signal and waits until it has ended.
    fn end(mut self, signal: &str) {
        self.signal(signal);
        wait_until("a server to stop", || !self.is_alive());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits for something that another process does and tells nobody of.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < START_MAX, "waited too long for {what}");
        thread::sleep(LOOK);
    }
}

/// A port that nobody listens on now.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    listener.local_addr().expect("it is bound").port()
}

/// Makes a certificate for 127.0.0.1 and `localhost` that vouches for itself: its file, and its key's.
pub fn certificate(folder: &Path) -> (PathBuf, PathBuf) {
    let (file, key) = (folder.join("server.crt"), folder.join("server.key"));
    let mut command = Command::new("openssl");
    command.args([
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]);
    command.args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]);
    command.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    command.arg("-keyout").arg(&key).arg("-out").arg(&file);
    let made = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(made.is_ok_and(|it| it.success()), "openssl makes a certificate");
    (file, key)
}
