//! Push notifications: who takes them is kept, what is published is planned, sent, tried again and accounted for. Sans-io
//! but for [`courier`]: what is to be read, written and sent comes out; answers come in.
//!
//! Two halves. The [`registry`] keeps devices, subscriptions, credentials and templates. The [`jobs`] are publishes: each
//! is on disk before it is acknowledged, goes through its targets page by page, and writes what came of each device in
//! one commit with how far it is, so that after a crash it goes on where it was and sends nothing twice that was
//! answered. How one provider is spoken to is a [`provider`]; [`keys`] says where all that lies in the store.

pub mod courier;
pub mod identity;
pub mod jobs;
pub mod keys;
pub mod provider;
pub mod registry;
pub mod seal;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::base::time::{Nanos, Now};
use crate::broker::Report;
use crate::config::push::PushSettings;
use crate::push::Provider;
use crate::push::order::{Order, Refused, Told};
use crate::push::publish::State;
use crate::store::{Answer, Ask};

use jobs::Jobs;
use provider::{Delivered, Parcel};
use registry::Registry;

/// Tags of what the jobs ask of the store have this bit; those of the registry do not.
pub const TAG_JOBS: u64 = 1 << 62;

/// What is to be done.
#[derive(Debug)]
pub enum Step {
    /// Ask the store, and bring what it says to [`Push::answered`] with this tag.
    Ask(u64, Ask),
    /// Send this, and bring what comes of it to [`Push::delivered`] with this number.
    Deliver(u64, Box<Parcel>),
    /// Ask a provider about its broadcast channels, and bring what it says to whoever asked: nothing of it is kept here.
    Broadcast(u64, Box<courier::BroadcastAsk>),
    /// Find out which of these clients of an app have a connection, and bring that to [`Push::looked`] with this number.
    Look(u64, Looking),
    /// Tell this to whoever asked.
    Tell(u64, Result<Told, Refused>),
    /// Something a person may want to know.
    Say(Note),
}

/// Clients of an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Looking {
    /// The id of the app.
    pub app: String,
    /// Who.
    pub clients: Vec<String>,
}

/// Something a person may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A publish is finished: app, publish, how, devices planned, taken, and what was said most often where it was
    /// not taken.
    Finished(String, String, State, u64, u64, Option<String>),
    /// A provider does not take our credentials: app, provider, why.
    CredentialRefused(String, Provider, String),
    /// Credentials cannot be opened: app and provider of each, why.
    CredentialsSealed(String, &'static str),
    /// A publish that nobody waits for could not be accepted: app, publish, why.
    NotAccepted(String, String, String),
    /// A provider asks to be left alone or does not answer: provider, why, milliseconds.
    Paused(Provider, String, u64),
    /// It takes something again.
    Resumed(Provider),
    /// A record of the store cannot be read: its key.
    Unreadable(String),
    /// So many of the oldest dead letters went because there is no room for more.
    Dropped(u64),
}

/// Counts, written by the back shard and read by anyone. Those with a provider are in the order of [`Provider::ALL`].
#[derive(Debug, Default)]
pub struct Counts {
    /// Publishes taken.
    pub accepted: AtomicU64,
    /// Publishes refused for want of room or for coming too often.
    pub refused: AtomicU64,
    /// Publishes finished, by [`State`].
    pub finished: [AtomicU64; 11],
    /// Devices a provider took something for.
    pub delivered: [AtomicU64; 6],
    /// Devices it refused for good.
    pub failed: [AtomicU64; 6],
    /// Registrations it said are gone.
    pub pruned: [AtomicU64; 6],
    /// Tries beyond the first.
    pub retried: [AtomicU64; 6],
    /// Devices given up.
    pub dead: [AtomicU64; 6],
    /// Devices left out or too late.
    pub skipped: AtomicU64,
    /// Requests under way; goes both ways.
    pub in_flight: [AtomicU64; 6],
    /// Publishes not finished; goes both ways.
    pub open: AtomicU64,
    /// Devices planned and not finished; goes both ways.
    pub pending: AtomicU64,
    /// Devices registered since the start.
    pub registered: AtomicU64,
    /// Microseconds of a thread's time that building requests took, encryption included.
    pub build_us: AtomicU64,
}

/// Whether someone outside is told, in the app with this id, of what has this kind.
pub type Wants = Arc<dyn Fn(&str, &str) -> bool + Send + Sync>;

/// Both halves.
pub struct Push {
    registry: Registry,
    jobs: Jobs,
}

impl Push {
    /// What these settings say. `seed` is for the jitter of pauses. `wants` says what is worth a report ([`Report`]). Begin
    /// with [`Push::drive`].
    pub fn new(settings: Arc<PushSettings>, counts: Arc<Counts>, wants: Wants, seed: u64) -> Self {
        Self {
            registry: Registry::new(Arc::clone(&settings), Arc::clone(&counts), Arc::clone(&wants)),
            jobs: Jobs::new(settings, counts, wants, seed),
        }
    }

    /// Takes an order of `caller`, in the name of an app. `random` makes 128 bits that nobody can guess.
    pub fn order(
        &mut self,
        caller: u64,
        app: &str,
        order: Order,
        now: Now,
        random: &mut dyn FnMut() -> u128,
        out: &mut Vec<Step>,
    ) {
        match order {
            Order::Publish(_)
            | Order::Status(_)
            | Order::Outcomes(..)
            | Order::Cancel(_)
            | Order::Feedback { .. }
            | Order::DeadLetters { .. }
            | Order::Replay(_)
            | Order::Overview => {
                self.jobs.order(caller, app, order, &mut self.registry, now, random, out);
            }
            order => self.registry.order(caller, app, order, now, random, out),
        }
    }

    /// Something may have been put on the queue.
    pub fn nudged(&mut self, now: Now, out: &mut Vec<Step>) {
        self.jobs.nudged(&mut self.registry, now, out);
    }

    /// Asks for all that can be done now. Called at the start and when [`Push::due`] has come; the others do it themselves.
    pub fn drive(&mut self, now: Now, out: &mut Vec<Step>) {
        self.registry.drive(now, out);
        self.jobs.drive(&mut self.registry, now, out);
    }

    /// When [`Push::drive`] is to be called next if nothing happens; none: not before something does.
    pub fn due(&self, now: Now) -> Option<Nanos> {
        self.registry.due(now).into_iter().chain(self.jobs.due(now)).min()
    }

    /// Takes an answer of the store.
    pub fn answered(&mut self, tag: u64, answer: Answer, now: Now, out: &mut Vec<Step>) {
        match tag & TAG_JOBS {
            0 => self.registry.answered(tag, answer, now, out),
            _ => self.jobs.answered(tag, answer, &mut self.registry, now, out),
        }
        self.drive(now, out);
    }

    /// Takes what came of a parcel.
    pub fn delivered(&mut self, number: u64, delivered: Delivered, now: Now, out: &mut Vec<Step>) {
        self.jobs.delivered(number, delivered, &mut self.registry, now, out);
    }

    /// Takes which clients have a connection, in the order of the question.
    pub fn looked(&mut self, number: u64, are_there: &[bool], now: Now, out: &mut Vec<Step>) {
        self.jobs.looked(number, are_there, &mut self.registry, now, out);
    }
}

/// A report about push notifications, as it waits in the outbox of webhooks.
pub fn outbox_value(report: &Report, app: &str, now: Now) -> bytes::Bytes {
    crate::broker::report::encode(report, app, now.wall)
}
