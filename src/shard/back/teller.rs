//! Tells receivers of webhooks what happened: what [`Hooks`] decide, done.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;

use super::{Caller, Mail, SLEEP_MAX, Ways};
use crate::base::time::{Nanos, Now};
use crate::config::webhooks::Webhooks;
use crate::observe::log;
use crate::outbound::client::Client;
use crate::outbound::hooks::receiver::Turn;
use crate::outbound::hooks::{self, Hooks, Note};
use crate::store::Keeper;
use crate::store::health::Health;

/// What telling receivers of webhooks takes.
pub struct Telling {
    /// Who is told.
    pub settings: Webhooks,
    /// An end of the way to the store.
    pub keeper: Box<dyn Keeper>,
    /// How the store is: it counts what is pushed there.
    pub health: Arc<Health>,
    /// Where it is counted.
    pub counts: Arc<hooks::Counts>,
}

/// Tells receivers of webhooks: what [`Hooks`] decide, done.
pub(super) struct Teller {
    hooks: Hooks,
    keeper: Box<dyn Keeper>,
    health: Arc<Health>,
    /// Pushes that are known of.
    pushes: u64,
    out: mpsc::Sender<Mail>,
    ways: Ways,
    callers: HashMap<u64, Caller>,
    next_caller: u64,
    steps: Vec<hooks::Step>,
    /// When something is to be done though nothing comes.
    pub(super) due: Nanos,
}

impl Teller {
    pub(super) fn new(telling: Telling, out: mpsc::Sender<Mail>, ways: Ways) -> Self {
        let Telling { settings, keeper, health, counts } = telling;
        let mut seed = [0; 8];
        // Jitter that others can guess is no harm.
        let _ = getrandom::fill(&mut seed);
        Self {
            hooks: Hooks::new(settings, counts, u64::from_ne_bytes(seed)),
            keeper,
            health,
            pushes: 0,
            out,
            ways,
            callers: HashMap::new(),
            next_caller: 0,
            steps: Vec::new(),
            due: Nanos(0),
        }
    }

    /// How long nothing is to be done unless something comes.
    pub(super) fn wait(&self, now: Nanos) -> Duration {
        self.due.since(now).min(SLEEP_MAX)
    }

    /// Takes what came, and does what follows. Nothing came: it is time for something.
    pub(super) fn work(&mut self, mail: Option<Mail>, now: Now, client: &Client) {
        match mail {
            Some(Mail::Heard(number, heard)) => {
                self.hooks.heard(number, &heard, now, &mut self.steps);
            }
            Some(Mail::Order(order, caller)) => {
                self.next_caller += 1;
                self.callers.insert(self.next_caller, caller);
                self.hooks.order(self.next_caller, order, now, &mut self.steps);
            }
            _ => {}
        }
        self.do_steps(now, client);
        while let Some((tag, answer)) = self.keeper.take() {
            self.hooks.answered(tag, answer, now, &mut self.steps);
            self.do_steps(now, client);
        }
        let pushes = pushes(&self.health.pushes);
        if pushes != self.pushes {
            self.pushes = pushes;
            self.hooks.nudged(now, &mut self.steps);
        } else {
            // Whatever came: the time of something may be over, too.
            self.hooks.drive(now, &mut self.steps);
        }
        self.do_steps(now, client);
        self.due = self.hooks.due(now).unwrap_or(Nanos(u64::MAX));
    }

    fn do_steps(&mut self, now: Now, client: &Client) {
        for step in self.steps.drain(..) {
            match step {
                hooks::Step::Ask(tag, ask) => self.keeper.ask(tag, ask),
                hooks::Step::Post(number, post) => {
                    let (client, out) = (client.clone(), self.out.clone());
                    tokio::spawn(async move {
                        let heard = client.post(post).await;
                        let _ = out.send(Mail::Heard(number, heard)).await;
                    });
                }
                hooks::Step::Tell(caller, told) => {
                    if let Some(caller) = self.callers.remove(&caller) {
                        self.ways.answer(caller, told);
                    }
                }
                hooks::Step::Say(note) => say(&note, now),
            }
        }
    }
}

fn pushes(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

fn say(note: &Note, now: Now) {
    match note {
        Note::Turned(receiver, Turn::Failing, why, waiting) => {
            let fields: [log::Field<'_>; 3] =
                [("receiver", receiver), ("why", why), ("waiting", waiting)];
            log::warn(now.wall, "webhook_failing", &fields);
        }
        Note::Turned(receiver, Turn::Recovered(after), _, waiting) => {
            let seconds = after.0 / 1000;
            let fields: [log::Field<'_>; 3] =
                [("receiver", receiver), ("failed_s", &seconds), ("waiting", waiting)];
            log::info(now.wall, "webhook_recovered", &fields);
        }
        Note::Died(receiver, why, events, status) => {
            let fields: [log::Field<'_>; 4] =
                [("receiver", receiver), ("why", why), ("events", events), ("status", status)];
            log::warn(now.wall, "webhook_dead", &fields);
        }
        Note::Dropped(letters) => {
            log::error(now.wall, "webhook_dead_letters_dropped", &[("letters", letters)]);
        }
        Note::Unreadable(number) => {
            log::error(now.wall, "webhook_unreadable", &[("number", number)]);
        }
    }
}
