//! The control socket: how a command on this machine works on the store of a running server.
//!
//! The server has its store's directory to itself, so `ringmain store` asks it, over a Unix domain socket in the data
//! directory that only the server's own user may use. One thread takes one request after the other; a shard
//! never hears of them. A request is a line, [`BACKUP`] with an absolute path, [`CHECK`], [`STATS`] or [`WEBHOOKS`]
//! with an order; the answer is lines, each a word and a text: any number of `PROGRESS` and `SAYS`, then `DONE` or `ERROR`.
//! Read `Control::start` first, then [`ask`] for the other end.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, Permissions};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::observe::log;
use crate::outbound::hooks::Order;
use crate::reactor::machine;
use crate::shard::back::Operator;
use crate::store::thread::Store;

/// Asks for a copy; its directory follows after a space.
pub const BACKUP: &str = "backup";
/// Asks for a check.
pub const CHECK: &str = "check";
/// Asks for figures.
pub const STATS: &str = "stats";
/// Asks about webhooks; what follows after a space, an order or nothing, is read by [`Order::parse`].
pub const WEBHOOKS: &str = "webhooks";
/// What is being done.
const PROGRESS: &str = "progress";
/// A line of the result.
const SAYS: &str = "says";
/// The end; a number follows: keys copied, or faults found.
const DONE: &str = "done";
/// The end; a sentence follows.
const ERROR: &str = "error";

/// A line, in both directions: the longest path Linux takes, and a word.
const LINE_BYTES_MAX: u64 = 4096 + 64;
/// How long a request may take to come, whole.
const REQUEST_MAX: Duration = Duration::from_secs(5);
/// How long one line of an answer may take to leave.
const SEND_MAX: Duration = Duration::from_secs(5);
/// Between two words of progress.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// Who asks waits so long for the next line. Another request may be under way, and be a long one.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// After a failed accept (no descriptor is left) the next try waits.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The socket of a data directory.
pub fn path(data: &Path) -> PathBuf {
    data.join("control.sock")
}

/// The socket, served.
pub(super) struct Control {
    path: PathBuf,
    is_stopping: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Control {
    /// Serves the socket of this data directory; none if that cannot be, which is logged: the server does its work
    /// without.
    pub(super) fn start(data: &Path, store: Arc<Store>, operator: Operator) -> Option<Self> {
        let path = path(data);
        let started = listen(&path).and_then(|listener| {
            let is_stopping = Arc::<AtomicBool>::default();
            let stopping = Arc::clone(&is_stopping);
            let thread = std::thread::Builder::new().name("control".into());
            let thread = thread.spawn(move || serve(&listener, &store, &operator, &stopping))?;
            Ok(Self { path: path.clone(), is_stopping, thread })
        });
        match started {
            Ok(control) => Some(control),
            Err(error) => {
                let (now, path) = (machine::now().wall, path.display());
                let what = "ringmain store works only while the server is stopped";
                let fields: [log::Field<'_>; 3] =
                    [("path", &path), ("why", &error), ("what", &what)];
                // The length of a socket's address is Linux's business, and no mistake.
                match error.kind() {
                    ErrorKind::InvalidInput => log::info(now, "control_off", &fields),
                    _ => log::warn(now, "control_off", &fields),
                }
                None
            }
        }
    }

    /// Breaks off what is under way, and ends.
    pub(super) fn stop(self) {
        self.is_stopping.store(true, Ordering::Relaxed);
        // Whoever removed the socket left nothing to wake the thread by; it ends with the process.
        if UnixStream::connect(&self.path).is_ok() {
            let _ = self.thread.join();
        }
        let _ = fs::remove_file(&self.path);
    }
}

/// Listens where only our own user can connect. The directory's store is ours, so a socket that is there is a
/// killed server's.
fn listen(path: &Path) -> io::Result<UnixListener> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => fs::remove_file(path)?,
        Ok(_) => return Err(io::Error::other("something else than a socket is there")),
        Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    // Whoever connected before that may have been anyone.
    listener.set_nonblocking(true)?;
    while listener.accept().is_ok() {}
    listener.set_nonblocking(false)?;
    Ok(listener)
}

fn serve(listener: &UnixListener, store: &Store, operator: &Operator, is_stopping: &AtomicBool) {
    loop {
        let accepted = listener.accept();
        if is_stopping.load(Ordering::Relaxed) {
            return;
        }
        match accepted {
            // A peer that is gone needs no answer.
            Ok((stream, _)) => drop(answer(&stream, store, operator, is_stopping)),
            Err(_) => std::thread::sleep(ACCEPT_PAUSE),
        }
    }
}

fn answer(
    stream: &UnixStream,
    store: &Store,
    operator: &Operator,
    is_stopping: &AtomicBool,
) -> io::Result<()> {
    stream.set_write_timeout(Some(SEND_MAX))?;
    let request = read_request(stream)?;
    let told = Pace::new();
    let follow = |what: &str| {
        let is_due = told.is_due();
        let is_gone = is_due && say(stream, PROGRESS, &what).is_err();
        // Who asked and left, wants it no more.
        match is_gone || is_stopping.load(Ordering::Relaxed) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    };
    let (word, rest) = match request.iter().position(|&byte| byte == b' ') {
        Some(at) => (&request[..at], &request[at + 1..]),
        None => (&request[..], &[][..]),
    };
    let to = Path::new(OsStr::from_bytes(rest));
    let result: Result<(String, u64), String> = match (str::from_utf8(word), rest) {
        (Ok(BACKUP), _) if to.is_absolute() => {
            let now = || machine::now().wall;
            log::info(now(), "backup_started", &[("to", &to.display())]);
            let done = store.backup(to, &follow);
            match &done {
                Ok(keys) => {
                    log::info(now(), "backup_done", &[("to", &to.display()), ("keys", keys)]);
                }
                Err(error) => {
                    log::warn(now(), "backup_failed", &[("to", &to.display()), ("why", error)]);
                }
            }
            done.map(|keys| (String::new(), keys)).map_err(|error| error.to_string())
        }
        (Ok(CHECK), []) => match store.check(&follow) {
            Ok(report) => Ok((report.to_string(), report.faults_total)),
            Err(error) => Err(error.to_string()),
        },
        (Ok(STATS), []) => match store.stats(&follow) {
            Ok(report) => Ok((report.to_string(), 0)),
            Err(error) => Err(error.to_string()),
        },
        (Ok(WEBHOOKS), rest) => match str::from_utf8(rest).ok().and_then(Order::parse) {
            Some(order) => match operator.order(order) {
                Ok(lines) => Ok((lines.join("\n"), 0)),
                Err(denied) => Err(denied.text),
            },
            None => {
                Err("the server does not know this order; use its own version's command".into())
            }
        },
        _ => Err("the server does not know this request; use its own version's command".into()),
    };
    match result {
        _ if is_stopping.load(Ordering::Relaxed) => say(stream, ERROR, &"the server is stopping"),
        Ok((text, number)) => {
            text.lines().try_for_each(|line| say(stream, SAYS, &line))?;
            say(stream, DONE, &number)
        }
        Err(text) => say(stream, ERROR, &text),
    }
}

/// The request, without its end of line.
fn read_request(mut stream: &UnixStream) -> io::Result<Vec<u8>> {
    let until = Instant::now() + REQUEST_MAX;
    let (mut request, mut buffer) = (Vec::new(), [0; 512]);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        // No time left is not the same as any time, which zero would mean.
        stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        let n = stream.read(&mut buffer)?;
        request.extend_from_slice(&buffer[..n]);
        if let Some(at) = request.iter().position(|&byte| byte == b'\n') {
            request.truncate(at);
            return Ok(request);
        }
        if n == 0 || request.len() as u64 >= LINE_BYTES_MAX || left.is_zero() {
            return Err(ErrorKind::InvalidData.into());
        }
    }
}

fn say(mut stream: &UnixStream, word: &str, text: &dyn fmt::Display) -> io::Result<()> {
    let text = text.to_string().replace('\n', " ");
    // Cut where a reader would refuse it.
    let end = text.floor_char_boundary(LINE_BYTES_MAX as usize - 32);
    stream.write_all(format!("{word} {}\n", &text[..end]).as_bytes())
}

/// Says when it is time for the next word of progress.
pub struct Pace {
    since: Instant,
    told_ms: AtomicU64,
}

impl Pace {
    /// The first word comes when the work has taken a moment.
    #[expect(clippy::new_without_default, reason = "it reads the clock")]
    pub fn new() -> Self {
        Self { since: Instant::now(), told_ms: AtomicU64::new(0) }
    }

    /// Whether it is time; then the next is a moment later.
    pub fn is_due(&self) -> bool {
        let now = self.since.elapsed().as_millis() as u64;
        let every = PROGRESS_EVERY.as_millis() as u64;
        let is_due = now >= self.told_ms.load(Ordering::Relaxed) + every;
        if is_due {
            self.told_ms.store(now, Ordering::Relaxed);
        }
        is_due
    }
}

/// Why a running server did not do as asked.
#[derive(Debug)]
pub enum AskError {
    /// No server listens there.
    NoServer,
    /// It said no, in its words.
    Refused(String),
    /// It could not be heard to the end.
    Lost(io::Error),
}

/// Asks the server of this data directory. `progress` hears what it does, `says` the lines of the result. Gives the
/// number it ends with.
pub fn ask(
    data: &Path,
    request: &[u8],
    progress: &mut dyn FnMut(&str),
    says: &mut dyn FnMut(&str),
) -> Result<u64, AskError> {
    // A path too long for the address of a socket had no server either.
    let mut stream = UnixStream::connect(path(data)).map_err(|_| AskError::NoServer)?;
    let lost = AskError::Lost;
    stream.set_read_timeout(Some(ANSWER_MAX)).map_err(lost)?;
    stream.write_all(request).and_then(|()| stream.write_all(b"\n")).map_err(lost)?;
    let mut lines = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        (&mut lines).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).map_err(lost)?;
        let line = String::from_utf8_lossy(&line);
        let Some((word, text)) = line.strip_suffix('\n').and_then(|line| line.split_once(' '))
        else {
            return Err(lost(ErrorKind::UnexpectedEof.into()));
        };
        match word {
            PROGRESS => progress(text),
            SAYS => says(text),
            DONE => return text.parse().map_err(|_| lost(ErrorKind::InvalidData.into())),
            ERROR => return Err(AskError::Refused(text.to_owned())),
            _ => return Err(lost(ErrorKind::InvalidData.into())),
        }
    }
}
