//! Many shards: start them, pin them, tell them to drain, wait for them.

mod banner;
pub mod control;
mod keep;
mod start;

use std::fmt;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::config::Config;
use crate::dialects::{self, Dialect};
use crate::observe::{Metrics, log};
use crate::reactor::machine;

use control::Control;

pub use keep::path as store_path;

/// Why the server could not start or had to stop.
#[derive(Debug)]
pub enum RunError {
    /// The machine refuses: the port is taken, a directory is not writable, no driver works.
    Machine(String),
    /// It failed while running.
    Failed(String),
}

impl RunError {
    /// The process's exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Failed(_) => 1,
            Self::Machine(_) => 3,
        }
    }
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Machine(text) | Self::Failed(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for RunError {}

/// Runs the server with the dialects of this crate until it is told to stop (SIGTERM, SIGINT).
///
/// `banner` gets a few lines that say what runs, once everything does.
pub fn run(config: Config, banner: &mut dyn Write) -> Result<(), RunError> {
    run_with(config, &dialects::NAMES, dialects::all, banner)
}

/// Runs the server with other dialects: `dialects` makes them, in the order in which they look at a
/// request, and `names` are what metrics call them, in the same order.
pub fn run_with(
    config: Config,
    names: &[&'static str],
    dialects: impl FnOnce(&Config, Arc<Metrics>) -> Vec<Arc<dyn Dialect>>,
    banner: &mut dyn Write,
) -> Result<(), RunError> {
    let signals = machine::Signals::hold()
        .map_err(|error| RunError::Machine(format!("signals cannot be blocked: {error}")))?;
    let started = start::start(config, names, dialects)?;
    // Nobody reading the banner is no reason to stop.
    let _ = banner::write(&started, banner).and_then(|()| banner.flush());

    let shared = Arc::clone(&started.shared);
    let wakers = started.wakers.clone();
    let wake_all = move || wakers.iter().for_each(|waker| waker.wake());
    let wake_after_panic = wake_all.clone();
    let after_signal = Arc::clone(&shared);
    // Ends with the process: it only ever waits for signals.
    std::thread::spawn(move || {
        signals.wait();
        let open = after_signal.connections.load(Ordering::Relaxed);
        log::info(machine::now().wall, "draining", &[("connections", &open)]);
        after_signal.draining.store(true, Ordering::Relaxed);
        wake_all();
        signals.wait();
        log::warn(machine::now().wall, "stopping_at_once", &[("signal", &"a second one")]);
        after_signal.stopping.store(true, Ordering::Relaxed);
        wake_all();
    });

    let mut failure = None;
    for (index, thread) in started.threads.into_iter().enumerate() {
        if thread.join().is_err() {
            failure.get_or_insert(RunError::Failed(format!(
                "shard {index} panicked; this is a defect of the server, please report the lines above"
            )));
        }
        if failure.is_some() {
            shared.stopping.store(true, Ordering::Relaxed);
            wake_after_panic();
        }
    }
    // Whatever was acknowledged is on disk already; this lets go of the directory.
    drop(started.local);
    started.operator.stop();
    started.control.into_iter().for_each(Control::stop);
    drop(started.store);
    let left = shared.connections.load(Ordering::Relaxed);
    log::info(machine::now().wall, "stopped", &[("connections_dropped", &left)]);
    failure.map_or(Ok(()), Err)
}
