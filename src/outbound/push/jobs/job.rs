//! A publish that is not finished, as far as it is in memory.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::record::{Cursor, Place, Progress, Spec};
use super::render::Messages;
use crate::base::time::Nanos;
use crate::outbound::push::provider::Address;
use crate::push::Provider;
use crate::push::device::Device;
use crate::push::publish::State;

/// What devices of each provider get, as it is told, and whether it is an override.
pub type Rendered = Vec<(Provider, String, bool)>;

/// How much of a publish is in memory.
#[derive(Debug)]
pub enum Body {
    /// Its name alone.
    Absent,
    /// It is being read.
    Coming,
    /// All that was asked for, and about how many bytes that is.
    Here(Arc<Spec>, usize),
}

/// A run of devices that were read together.
#[derive(Debug)]
pub struct Run {
    /// Which.
    pub number: u64,
    /// Where it begins.
    pub start: Cursor,
    /// Devices of it whose outcome is neither on disk nor in what is being written.
    pub open: u32,
}

/// A publish.
pub struct Job {
    /// The id of its app.
    pub app: Arc<str>,
    /// What it is called.
    pub id: Arc<str>,
    /// What was asked for.
    pub body: Body,
    /// How far it is, what is being written included.
    pub progress: Progress,
    /// How far it is known to be on disk.
    pub written: Progress,
    /// What its devices get.
    pub messages: Messages,
    /// Where the next page begins.
    pub next: Cursor,
    /// All its targets were gone through.
    pub is_planned: bool,
    /// It waits for a turn to read a page, or is reading one.
    pub is_in_plan: bool,
    /// A page is being read.
    pub is_reading: bool,
    /// Keys whose outcome came to disk while a page was being read, which may not know of it.
    pub fresh: HashSet<String>,
    /// Keys of devices that are read and whose outcome is not known to be on disk; the item of each that is not answered.
    pub live: HashMap<String, Option<u64>>,
    /// Pages with devices that are not finished, in order of reading.
    pub runs: VecDeque<Run>,
    /// What can be sent, by provider.
    pub ready: [VecDeque<u64>; 6],
    /// It waits for a turn to send, by provider, or for its lane.
    pub is_in_send: [bool; 6],
    /// Devices that are read and have no outcome.
    pub items: u32,
    /// Outcomes that wait to be written.
    pub unwritten: u32,
    /// Devices that were tried and wait to be tried again.
    pub retrying: u64,
    /// Devices that were tried at least once and whose outcome is not known to be on disk.
    pub tried: u64,
    /// How far it is was read, not guessed.
    pub is_known: bool,
    /// It reads nothing before what was done to it is on disk.
    pub is_held: bool,
    /// Devices of it were taken out of memory until their lane opens: it reads nothing before.
    pub is_parked: bool,
    /// Nothing more is planned or sent: on disk it is finished or about to be.
    pub is_over: bool,
    /// Its time is over: in milliseconds since 1970.
    pub ends_at: u64,
    /// Why devices were not taken, and how many each; for the log alone.
    pub reasons: Vec<(String, u64)>,
    /// Who waits for its end.
    pub waiters: Vec<u64>,
    /// What they are told that devices get.
    pub rendered: Rendered,
    /// Who waits until it is known to be called off.
    pub cancellers: Vec<u64>,
}

impl Job {
    /// One of which nothing was done in this process.
    pub fn new(app: Arc<str>, id: Arc<str>, progress: Progress, body: Body) -> Self {
        Self {
            app,
            id,
            body,
            next: progress.cursor.clone(),
            written: progress.clone(),
            progress,
            messages: Messages::default(),
            is_planned: false,
            is_in_plan: false,
            is_reading: false,
            fresh: HashSet::new(),
            live: HashMap::new(),
            runs: VecDeque::new(),
            ready: Default::default(),
            is_in_send: [false; 6],
            items: 0,
            unwritten: 0,
            retrying: 0,
            tried: 0,
            is_known: true,
            is_held: false,
            is_parked: false,
            is_over: false,
            ends_at: u64::MAX,
            reasons: Vec::new(),
            waiters: Vec::new(),
            rendered: Vec::new(),
            cancellers: Vec::new(),
        }
    }

    /// One that is known by its name alone.
    pub fn found(app: Arc<str>, id: Arc<str>) -> Self {
        let progress = Progress {
            state: State::Accepted,
            counters: Default::default(),
            cursor: Cursor::default(),
            expected: 0,
            accepted_at: 0,
            not_before: None,
            is_waiting: false,
            finished_at: None,
            error_reason: None,
            replays: Vec::new(),
            fingerprint: [0; 16],
        };
        Self { is_known: false, ..Self::new(app, id, progress, Body::Absent) }
    }

    /// Takes how far it is.
    pub fn know(&mut self, progress: Progress) {
        self.next = progress.cursor.clone();
        self.written = progress.clone();
        (self.progress, self.is_known) = (progress, true);
    }

    /// Where its records are.
    pub fn place(&self) -> Place<'_> {
        Place { app: &self.app, id: &self.id }
    }

    /// What was asked for, if it is here.
    pub fn spec(&self) -> Option<Arc<Spec>> {
        match &self.body {
            Body::Here(spec, _) => Some(Arc::clone(spec)),
            _ => None,
        }
    }

    /// Devices that can be sent to at once.
    pub fn ready_devices(&self) -> usize {
        self.ready.iter().map(VecDeque::len).sum()
    }

    /// Nothing is read, sent or waited for; outcomes may wait to be written.
    pub fn is_idle(&self) -> bool {
        !self.is_reading && self.items == 0
    }

    /// Where it would go on if the process ended now and all that was handed to the store were on disk.
    pub fn cursor(&self) -> Cursor {
        let first = self.runs.iter().filter(|it| it.open > 0).map(|it| &it.start).min();
        first.map_or(&self.next, |it| it.min(&self.next)).clone()
    }
}

/// What is to be done about a device next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It waits for its turn.
    Ready,
    /// A request is under way.
    Flying,
    /// It is tried again then.
    Waiting(Nanos),
}

/// A device of a publish, or an address, a topic, a condition.
#[derive(Debug)]
pub struct Item {
    /// Of which publish, by its number.
    pub job: u64,
    /// Of which run of it.
    pub run: u64,
    /// The key of its outcome.
    pub key: String,
    /// By whom.
    pub provider: Provider,
    /// Where.
    pub address: Address,
    /// The device, without what it says of itself, if it is one.
    pub device: Option<Box<Device>>,
    /// Tries that counted.
    pub attempts: u32,
    /// When the last began.
    pub sent: Nanos,
    /// What is next.
    pub stage: Stage,
    /// It waits for so long that its device and where that is were let go: they are read again when its time has come.
    pub is_asleep: bool,
}
