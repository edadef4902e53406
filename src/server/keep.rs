//! The store, if a channel or a dialect needs it: opened before anyone listens, closed after the last shard is gone.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use crate::base::time::{Millis, Now, UnixMillis};
use crate::broker::Mode;
use crate::broker::rules::Rules;
use crate::config::Config;
use crate::config::push::{Enabled, PushSettings};
use crate::observe::log;
use crate::reactor::machine;
use crate::shard::mesh::Doorbell;
use crate::store::port::NoStore;
use crate::store::thread::{self, Note, Options, Store};
use crate::store::{Bounds, Keeper, StreamKey};

use super::RunError;

/// The database's directory within that of the settings.
pub fn path(data: &Path) -> PathBuf {
    data.join("store")
}

/// How long opening may take without a word.
const QUIET: Millis = Millis(500);

/// Wakes the back shard when the store has something for it; set by whoever starts that shard.
pub type BackBell = Arc<OnceLock<Box<dyn Fn() + Send + Sync>>>;

/// The store, one end of it for each shard, and two for the back shard.
pub(super) struct Kept {
    /// None: nothing is durable.
    pub store: Option<Store>,
    pub keepers: Vec<Box<dyn Keeper>>,
    /// The back shard's end for webhooks; none: there is no store.
    pub back: Option<Box<dyn Keeper>>,
    /// The same for push notifications.
    pub post: Option<Box<dyn Keeper>>,
    /// Called from the store's threads whenever there is something to take at these ends.
    pub back_ready: BackBell,
}

/// Opens the store and starts its threads, if some channel is durable or `is_needed` anyway. Shards are woken by
/// `doorbells` once these are there.
pub(super) fn open(
    config: &Config,
    rules: &Arc<Rules>,
    is_needed: bool,
    origin: Now,
    doorbells: &Arc<OnceLock<Arc<Vec<Doorbell>>>>,
) -> Result<Kept, RunError> {
    let shards = usize::from(config.shards);
    let back_ready = BackBell::default();
    if !rules.any_durable() && !is_needed {
        if let Some(at) = unused(config) {
            let what = "push.encryption_key, or push.enabled = \"on\", opens what push notifications keep there";
            let fields: [log::Field<'_>; 2] = [("at", &at.display()), ("what", &what)];
            log::warn(machine::now().wall, "store_unused", &fields);
        }
        let keepers = (0..shards).map(|_| Box::new(NoStore::default()) as Box<dyn Keeper>);
        let keepers = keepers.collect();
        return Ok(Kept { store: None, keepers, back: None, post: None, back_ready });
    }
    let back_bell = Arc::clone(&back_ready);
    let (rules, doorbells) = (Arc::clone(rules), Arc::clone(doorbells));
    let bounds_of = move |stream: &StreamKey| {
        // What is durable no more is kept until it expires: a rule may come back.
        let rule = rules.of_stream(stream).filter(|rule| rule.mode == Mode::Durable);
        let bounds = |rule: crate::broker::rules::Rule| Bounds {
            records_max: rule.events_max,
            bytes_max: rule.bytes_max,
        };
        rule.map(bounds).unwrap_or_default()
    };
    let options = Options {
        path: path(&config.data),
        bytes_max: config.store.bytes_max,
        bytes_free_min: config.store.free_bytes_min,
        free_bytes: Box::new(machine::free_bytes),
        bounds_of: Box::new(bounds_of),
        clock: Arc::new(move || {
            let passed = machine::now().steady - origin.steady;
            UnixMillis(origin.wall.0 + passed.0 / 1_000_000)
        }),
        // The last two are the back shard's.
        ports: shards + 2,
        pushes_wake: Some(shards),
        notify: Arc::new(move |port| {
            if port >= shards {
                if let Some(wake) = back_bell.get() {
                    wake();
                }
            } else if let Some(doorbell) = doorbells.get().and_then(|it| it.get(port))
                && doorbell.parking.should_wake()
            {
                doorbell.waker.wake();
            }
        }),
        note: Arc::new(note),
    };
    // What people say to each other lies there: nobody else on this machine reads it.
    let private = DirBuilder::new().recursive(true).mode(0o700).create(&config.data);
    private.map_err(|error| {
        RunError::Machine(format!(
            "cannot make the data directory {}: {error}; choose another with --data DIR",
            config.data.display()
        ))
    })?;
    let began = machine::now().steady;
    let mut progress = |what: &str| {
        let now = machine::now();
        // Mostly it takes no time worth a word.
        if now.steady > began + QUIET {
            log::info(now.wall, "store_opening", &[("at", &what)]);
        }
    };
    let (store, ports) = thread::start(options, &mut progress)
        .map_err(|error| RunError::Machine(error.to_string()))?;
    let mut keepers: Vec<_> =
        ports.into_iter().map(|port| Box::new(port) as Box<dyn Keeper>).collect();
    let post = keepers.pop();
    let back = keepers.pop();
    Ok(Kept { store: Some(store), keepers, back, post, back_ready })
}

/// A store that is there and that nobody opens, unless push notifications are off as said: devices and publishes may be
/// in it, and a key that was forgotten would turn them off without a word.
fn unused(config: &Config) -> Option<PathBuf> {
    let at = path(&config.data);
    (PushSettings::of(config).enabled != Enabled::Off && at.is_dir()).then_some(at)
}

fn note(note: Note) {
    let now = machine::now().wall;
    let what: &dyn std::fmt::Display = &note;
    match note {
        Note::Full { .. } => log::error(now, "store_full", &[("what", what)]),
        Note::Failed(_) | Note::StillFailed(_) => {
            log::error(now, "store_failed", &[("what", what)])
        }
        Note::Damaged(_) | Note::Unreadable(_) => {
            log::error(now, "store_damaged", &[("what", what)])
        }
        Note::Cut(_) => log::warn(now, "store_cut", &[("what", what)]),
        Note::Room | Note::Reopened => log::info(now, "store_recovered", &[("what", what)]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_nobody_opens_is_seen() {
        let data = std::env::temp_dir().join(format!("ringmain-unused-{}", std::process::id()));
        let config = Config { data: data.clone(), ..Config::from_defaults() };
        assert_eq!(unused(&config), None);
        std::fs::create_dir_all(path(&data)).unwrap();
        assert_eq!(unused(&config), Some(path(&data)));
        std::fs::remove_dir_all(&data).unwrap();
    }
}
