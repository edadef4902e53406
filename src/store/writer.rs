//! The writer's turn: a group, then a portion of the sweep if it is time, then a look at the disk.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use super::database::{Database, DatabaseError};
use super::health::{Condition, add};
use super::ledger::Ledger;
use super::open::OpenError;
use super::port::{Mail, Waiting};
use super::thread::{FreeBytes, Note, Opener, Options, Shared};
use super::{Answer, Ask, Bounds, Fault, Head, Shelf, StreamKey};

/// Asks in one group, at most ...
const GROUP_ASKS_MAX: usize = 4096;
/// ... or so many bytes of them.
const GROUP_BYTES_MAX: usize = 8 << 20;
/// The disk is looked at this often ...
const DISK_LOOK_EVERY: Duration = Duration::from_secs(1);
/// ... and after so many bytes were written.
const DISK_LOOK_BYTES: u64 = 16 << 20;
/// Full ends when this part of the bound, in percent, is free again.
const ROOM_PERCENT: u64 = 5;
/// Between two compactions to get room ...
const COMPACT_EVERY: Duration = Duration::from_secs(60);
/// ... where records were removed since: whoever purges to make room waits for it.
const COMPACT_EVERY_REMOVED: Duration = Duration::from_secs(5);
/// Between two rounds of the sweep, at least ...
const ROUND_PAUSE: Duration = Duration::from_secs(5);
/// ... and so many times as long as the last one took, so that a store of many streams is not swept all day ...
const ROUND_PAUSE_TIMES: u32 = 20;
/// ... but no longer than this.
const ROUND_PAUSE_MAX: Duration = Duration::from_secs(120);
/// Within a round a portion comes when nothing is asked, and at the latest after this.
const PORTION_EVERY: Duration = Duration::from_millis(100);
/// Between two tries to open a database that failed.
const REOPEN_PAUSE: Duration = Duration::from_secs(1);

pub(super) struct Writer {
    shared: Arc<Shared>,
    /// `None` while the database is opened again.
    ledger: Option<Ledger>,
    path: PathBuf,
    bytes_max: u64,
    bytes_free_min: u64,
    free_bytes: FreeBytes,
    bounds_of: Box<dyn Fn(&StreamKey) -> Bounds + Send>,
    reopen: Opener,
    is_full: bool,
    written_since_look: u64,
    disk_look_at: Instant,
    compacted_at: Option<Instant>,
    removed_since_compact: bool,
    is_compacting: Arc<AtomicBool>,
    sweep_at: Instant,
    /// When the round under way began.
    round_since: Option<Instant>,
    reopen_at: Instant,
    moved: HashMap<(usize, StreamKey), Head>,
    pushes_wake: Option<usize>,
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        ledger: Ledger,
        options: Options,
        reopen: Opener,
    ) -> Self {
        let now = Instant::now();
        Self {
            shared,
            ledger: Some(ledger),
            path: options.path,
            bytes_max: options.bytes_max,
            bytes_free_min: options.bytes_free_min,
            free_bytes: options.free_bytes,
            bounds_of: options.bounds_of,
            reopen,
            is_full: false,
            written_since_look: 0,
            disk_look_at: now,
            compacted_at: None,
            removed_since_compact: false,
            is_compacting: Arc::default(),
            sweep_at: now,
            round_since: None,
            reopen_at: now,
            moved: HashMap::new(),
            pushes_wake: options.pushes_wake,
        }
    }

    /// Until it is told to stop.
    pub(super) fn run(&mut self, mail: &Receiver<Mail>) {
        let mut group = Vec::new();
        let mut is_stopping = false;
        while !is_stopping {
            is_stopping = self.gather(mail, &mut group);
            let is_idle = group.is_empty();
            if !is_idle {
                self.answer(&mut group);
            }
            let now = Instant::now();
            if self.ledger.is_none() {
                if now >= self.reopen_at && !is_stopping {
                    self.open_again();
                }
                continue;
            }
            if now >= self.disk_look_at || self.written_since_look >= DISK_LOOK_BYTES {
                self.look_at_disk();
            }
            if now >= self.sweep_at || self.round_since.is_some() && is_idle {
                self.sweep();
            }
            self.shared.tell_moved(&mut self.moved);
        }
        self.ledger = None;
        // Nobody waits in vain: what came after the end is not done.
        while let Ok(Mail::Ask(waiting)) = mail.try_recv() {
            group.push(waiting);
        }
        self.answer(&mut group);
    }

    /// Takes what is there, or waits for it until there is something else to do. True: it is time to stop.
    fn gather(&self, mail: &Receiver<Mail>, group: &mut Vec<Waiting>) -> bool {
        let now = Instant::now();
        let next = match &self.ledger {
            None => self.reopen_at,
            Some(_) if self.round_since.is_some() => now,
            Some(_) => self.sweep_at.min(self.disk_look_at),
        };
        let mut bytes = 0;
        let mut take = |first: Mail| match first {
            Mail::Stop => None,
            Mail::Ask(waiting) => {
                bytes += waiting.bytes;
                group.push(waiting);
                Some(group.len() < GROUP_ASKS_MAX && bytes < GROUP_BYTES_MAX)
            }
        };
        let mut has_room = match mail.recv_timeout(next.saturating_duration_since(now)) {
            Ok(first) => take(first),
            Err(RecvTimeoutError::Timeout) => return false,
            Err(RecvTimeoutError::Disconnected) => return true,
        };
        while has_room == Some(true) {
            has_room = match mail.try_recv() {
                Ok(next) => take(next),
                Err(TryRecvError::Empty) => return false,
                Err(TryRecvError::Disconnected) => return true,
            };
        }
        has_room.is_none()
    }

    /// Answers a group with one commit.
    fn answer(&mut self, group: &mut Vec<Waiting>) {
        let health = Arc::clone(&self.shared.health);
        let mut woken = HashSet::new();
        let (mut waiting, mut asks) =
            (Vec::with_capacity(group.len()), Vec::with_capacity(group.len()));
        let (mut records, mut bytes) = (0, 0);
        let pushing = |on_queue: bool| group.iter().filter(|it| pushes(&it.ask, on_queue)).count();
        let (pushing, queueing) = (pushing(false) as u64, pushing(true) as u64);
        if pushing + queueing > 0 {
            woken.extend(self.pushes_wake);
        }
        for Waiting { port, tag, bytes: held, ask } in group.drain(..) {
            woken.insert(port);
            let fault = if self.ledger.is_none() {
                add(&health.refused_unavailable, 1);
                Some(Fault::Unavailable)
            } else if self.is_full && brings_more(&ask) {
                add(&health.refused_full, 1);
                Some(Fault::Full)
            } else {
                None
            };
            if let Some(fault) = fault {
                self.shared.give(port, tag, held, Answer::Fault(fault));
                continue;
            }
            let count = match &ask {
                Ask::Append { records, .. } => records.len() as u64,
                _ => 0,
            };
            waiting.push((port, tag, held, count));
            asks.push(ask);
        }
        if let (Some(ledger), false) = (&mut self.ledger, asks.is_empty()) {
            let started = Instant::now();
            let answers = ledger.answer(asks, (self.shared.clock)());
            health.count_sync(started.elapsed());
            add(&health.batches, 1);
            add(&health.asks, waiting.len() as u64);
            assert_eq!(answers.len(), waiting.len(), "the ledger answers every ask once");
            for ((port, tag, held, count), answer) in waiting.into_iter().zip(answers) {
                if let Answer::Appended { .. } = answer {
                    records += count;
                    bytes += held as u64;
                }
                self.removed_since_compact |= matches!(answer, Answer::Purged { .. });
                self.written_since_look += held as u64;
                self.shared.give(port, tag, held, answer);
            }
            add(&health.records, records);
            add(&health.record_bytes, bytes);
            add(&health.pushes, pushing);
            add(&health.pushes_queued, queueing);
            if let Some(text) = ledger.broken().map(str::to_owned) {
                self.close_failed(&text);
            }
        }
        self.shared.wake(&mut woken);
    }

    /// Sweeps one portion, and says when the next one is due.
    fn sweep(&mut self) {
        let Some(ledger) = &mut self.ledger else { return };
        let (clock, started) = ((self.shared.clock)(), Instant::now());
        match ledger.sweep(clock, &*self.bounds_of) {
            Ok(portion) => {
                add(&self.shared.health.swept_records, portion.records);
                self.removed_since_compact |= portion.records > 0;
                for damage in portion.damages {
                    (self.shared.note)(Note::Damaged(damage));
                }
                for (stream, head) in portion.moved {
                    for port in self.shared.owners(&stream) {
                        self.moved.insert((port, stream.clone()), head);
                    }
                }
                let now = Instant::now();
                let since = *self.round_since.get_or_insert(started);
                self.sweep_at = now + PORTION_EVERY;
                if portion.is_round_over {
                    let took = now.duration_since(since);
                    self.round_since = None;
                    self.sweep_at =
                        now + (took * ROUND_PAUSE_TIMES).clamp(ROUND_PAUSE, ROUND_PAUSE_MAX);
                }
            }
            Err(error) => self.close_failed(&error.to_string()),
        }
    }

    /// Looks how much room there is, and decides whether more is taken.
    pub(super) fn look_at_disk(&mut self) {
        self.disk_look_at = Instant::now() + DISK_LOOK_EVERY;
        self.written_since_look = 0;
        let Some((database, _)) = self.shared.database() else { return };
        let used = match database.disk_use() {
            Ok(used) => used,
            // Next time; a disk that is failing says so in a commit.
            Err(DatabaseError::Damaged(_) | DatabaseError::Failed(_)) => return,
        };
        // A file system that cannot be asked has no bound to keep.
        let free = (self.free_bytes)(&self.path).unwrap_or(u64::MAX);
        let health = &self.shared.health;
        health.used_bytes.store(used.bytes, Ordering::Relaxed);
        health.journal_bytes.store(used.journal_bytes, Ordering::Relaxed);
        health.journals.store(used.journals, Ordering::Relaxed);
        health.free_bytes.store(free, Ordering::Relaxed);
        let slack = |bound: u64| if self.is_full { bound / 100 * ROOM_PERCENT } else { 0 };
        let is_over = self.bytes_max > 0
            && used.bytes >= self.bytes_max - slack(self.bytes_max).min(self.bytes_max);
        let is_scarce = free < self.bytes_free_min.saturating_add(slack(self.bytes_free_min));
        let was_full = std::mem::replace(&mut self.is_full, is_over || is_scarce);
        if self.is_full != was_full {
            let full = Note::Full {
                used_bytes: used.bytes,
                free_bytes: free,
                bytes_max: self.bytes_max,
                free_bytes_min: self.bytes_free_min,
            };
            (self.shared.note)(if self.is_full { full } else { Note::Room });
        }
        self.is_now(if self.is_full { Condition::Full } else { Condition::Ok });
        if self.is_full {
            self.compact(database);
        }
    }

    /// Says how the store is, and wakes the shard that tells others.
    fn is_now(&self, condition: Condition) {
        if self.shared.health.set_condition(condition) {
            (self.shared.notify)(0);
        }
    }

    /// Gives room back that removed records still take; the database does it by itself only as it is written to.
    fn compact(&mut self, database: Arc<dyn Database>) {
        let every = if self.removed_since_compact { COMPACT_EVERY_REMOVED } else { COMPACT_EVERY };
        let is_due = self.compacted_at.is_none_or(|at| at.elapsed() >= every);
        if !is_due || self.is_compacting.swap(true, Ordering::Relaxed) {
            return;
        }
        self.compacted_at = Some(Instant::now());
        self.removed_since_compact = false;
        let is_compacting = Arc::clone(&self.is_compacting);
        let thread = std::thread::Builder::new().name("store-compact".into());
        let started = thread.spawn(move || {
            // What fails here fails a commit, too, and is told then.
            let _ = database.compact();
            is_compacting.store(false, Ordering::Relaxed);
        });
        if started.is_err() {
            self.is_compacting.store(false, Ordering::Relaxed);
        }
    }

    fn close_failed(&mut self, text: &str) {
        add(&self.shared.health.failures, 1);
        self.is_now(Condition::Failed);
        self.shared.set_database(None);
        self.ledger = None;
        self.reopen_at = Instant::now() + REOPEN_PAUSE;
        // Most disks that fail are full, and the database does not say so.
        let free = (self.free_bytes)(&self.path);
        let free =
            free.map_or(String::new(), |bytes| format!("; {bytes} bytes are free on its disk"));
        (self.shared.note)(Note::Failed(format!("{text}{free}")));
    }

    fn open_again(&mut self) {
        let opened = (self.reopen)().map_err(|error: OpenError| error.to_string());
        let ledger = opened.and_then(|opened| {
            let ledger = Ledger::new(Arc::clone(&opened.database), opened.store);
            Ok((opened, ledger.map_err(|error| error.to_string())?))
        });
        match ledger {
            Ok((opened, ledger)) => {
                if let Some(cut) = opened.cut {
                    (self.shared.note)(Note::Cut(cut));
                }
                self.shared.set_database(Some((opened.database, opened.store)));
                self.ledger = Some(ledger);
                (self.shared.note)(Note::Reopened);
                self.look_at_disk();
            }
            Err(text) => {
                self.reopen_at = Instant::now() + REOPEN_PAUSE;
                (self.shared.note)(Note::StillFailed(text));
            }
        }
    }
}

/// True if an ask pushes something on the queue of push notifications, or on another shelf.
fn pushes(ask: &Ask, on_queue: bool) -> bool {
    match ask {
        Ask::Append { changes, .. } | Ask::Change { changes } => {
            changes.iter().any(|(shelf, change)| {
                matches!(change, super::Change::Push { .. })
                    && (*shelf == Shelf::PushQueue) == on_queue
            })
        }
        _ => false,
    }
}

/// True if an ask makes the store larger: that is what a full one refuses.
fn brings_more(ask: &Ask) -> bool {
    match ask {
        Ask::Append { .. } => true,
        Ask::Change { changes, .. } => changes.iter().any(|(_, change)| {
            use super::Change::{Push, Put, PutNew};
            matches!(change, Put { .. } | PutNew { .. } | Push { .. })
        }),
        _ => false,
    }
}
