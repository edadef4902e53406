//! Many shards: start them, pin them, tell them to drain, wait for them.

use std::fmt;
use std::io::Write;
use std::sync::Arc;

use crate::config::Config;
use crate::dialects::Dialect;

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
pub fn run(config: Config, banner: &mut dyn Write) -> Result<(), RunError> {
    run_with(config, Vec::new(), banner)
}

/// Runs the server with these dialects, in the order in which they look at a request.
pub fn run_with(
    config: Config,
    dialects: Vec<Arc<dyn Dialect>>,
    banner: &mut dyn Write,
) -> Result<(), RunError> {
    let _ = (config, dialects, banner);
    Err(RunError::Failed("the shards are not there yet".into()))
}
