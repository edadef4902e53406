//! Devices, subscriptions, credentials and templates.
//!
//! Thousands of orders are under way at once. Each is decided by a function that says what the order comes to, given what
//! it has read (`seen`), or what it misses; after each answer of the store it is asked again. What changes a device
//! claims it first (`claims`) and reads it then, so orders of one device come one after the other and those of others
//! share commits. All that an order changes is one commit; one that ends a channel's subscriptions or removes a client's
//! devices is a row of them, each whole. Read `Registry::step` first.

mod claims;
mod credentials;
mod devices;
mod order;
mod seen;
mod subscriptions;
mod templates;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::courier::{BroadcastAsk, BroadcastWhat};
use super::{Counts, Note, Step, Wants, keys};
use crate::base::time::{Nanos, Now};
use crate::config::push::PushSettings;
use crate::push::Provider;
use crate::push::credential::Credential;
use crate::push::device::Device;
use crate::push::order::{Order, Refused, Told};
use crate::store::{Answer, Ask, Fault, Shelf};

use claims::Claims;
use credentials::Vault;
use order::{Effect, Running, Stage, Then, Work, later};
use seen::{Need, RANGE_BYTES_MAX, Range, Rows, Seen};
use subscriptions::Asked;

pub use credentials::CREDENTIALS_OF_APP_MAX;
pub use devices::{SCAN_ROWS_MAX, SUBSCRIPTIONS_OF_DEVICE_MAX};
pub use templates::TEMPLATES_OF_APP_MAX;

/// Orders under way: each has one ask at the store, at most, and the jobs have the rest of the way there.
pub const ORDERS_MAX: usize = 2_048;
/// Orders that wait for one of those places; a further one is refused.
pub const ORDERS_WAITING_MAX: usize = 8_192;
/// What sending did to devices waits up to here; more of it is forgotten, and the next publish finds it out again.
pub const WENT_WAITING_MAX: usize = 8_192;
/// How often an order may find out that it claims too little: where devices take one address from each other, each of
/// a line finds out with each of them whose it is now.
const ROUNDS_MAX: u32 = 2 * claims::LINE_MAX as u32;
/// The tag of credentials that are read; orders' own begin behind it.
const TAG_CREDENTIALS: u64 = 0;
/// The kind of the report that a registration is gone though its application did not remove it.
pub const REMOVED: &str = "push.device_removed";

/// How sending to a device went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Went {
    /// Its provider took it.
    Well,
    /// It did not, for the device's sake: why.
    Badly(String),
    /// There is no such device any more.
    Gone,
}

/// Why there are no credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoCredential {
    /// None were given.
    Missing,
    /// They are still being read.
    NotYet,
    /// They cannot be opened: another key sealed them.
    Sealed,
}

/// The registry.
pub struct Registry {
    settings: Arc<PushSettings>,
    counts: Arc<Counts>,
    wants: Wants,
    vault: Vault,
    claims: Claims,
    running: HashMap<u64, Running>,
    waiting: VecDeque<Running>,
    went_waiting: VecDeque<Running>,
    /// Orders whose turn may have come.
    ready: VecDeque<u64>,
    last: u64,
}

impl Registry {
    /// An empty one; [`Registry::drive`] reads credentials from the store.
    pub fn new(settings: Arc<PushSettings>, counts: Arc<Counts>, wants: Wants) -> Self {
        let vault = Vault::new(settings.encryption_key.as_ref().map(|it| it.0.as_str()));
        Self {
            settings,
            counts,
            wants,
            vault,
            claims: Claims::default(),
            running: HashMap::new(),
            waiting: VecDeque::new(),
            went_waiting: VecDeque::new(),
            ready: VecDeque::new(),
            last: TAG_CREDENTIALS,
        }
    }

    /// Takes an order about what is registered.
    pub fn order(
        &mut self,
        caller: u64,
        app: &str,
        order: Order,
        now: Now,
        random: &mut dyn FnMut() -> u128,
        out: &mut Vec<Step>,
    ) {
        if let Some((credential_id, what)) = broadcast(&order) {
            let provider = Provider::Apns;
            out.push(match self.credential(app, provider, credential_id) {
                Ok(credential) => {
                    Step::Broadcast(caller, Box::new(BroadcastAsk { credential, provider, what }))
                }
                Err(why) => Step::Tell(caller, Err(credentials::refusal(why, provider))),
            });
            return;
        }
        if self.waiting.len() >= ORDERS_WAITING_MAX {
            out.push(Step::Tell(caller, Err(later("too many requests are under way"))));
            return;
        }
        let mut running = self.running(Some(caller), app, Work::Order(order));
        for half in running.chance.chunks_exact_mut(16) {
            half.copy_from_slice(&random().to_be_bytes());
        }
        self.waiting.push_back(running);
        self.go_on(now, out);
    }

    /// Asks for what can be done now.
    pub fn drive(&mut self, now: Now, out: &mut Vec<Step>) {
        self.vault.drive(TAG_CREDENTIALS, now, out);
        self.go_on(now, out);
    }

    /// When [`Registry::drive`] is to be called next.
    pub fn due(&self, now: Now) -> Option<Nanos> {
        self.vault.due(now)
    }

    /// Takes an answer of the store.
    pub fn answered(&mut self, tag: u64, answer: Answer, now: Now, out: &mut Vec<Step>) {
        if tag == TAG_CREDENTIALS {
            self.vault.answered(answer, now, out);
            self.vault.drive(TAG_CREDENTIALS, now, out);
            self.go_on(now, out);
            return;
        }
        let Some(it) = self.running.get_mut(&tag) else { return };
        match (std::mem::replace(&mut it.stage, Stage::Lines), answer) {
            (Stage::Values(keys), Answer::Values { values, .. }) => {
                it.seen.take_values(keys, values);
                self.ready.push_back(tag);
            }
            (Stage::Range(range), Answer::Values { values, has_more }) => {
                it.seen.take_range(range, Rows { rows: values, has_more });
                self.ready.push_back(tag);
            }
            (Stage::Disk(then, effect), Answer::Changed) => {
                self.take_effect(tag, effect);
                self.conclude(tag, then, out);
            }
            (stage, answer) => {
                if let (Stage::Disk(_, Effect::Credential(..) | Effect::NoCredential(..)), _) =
                    (&stage, &answer)
                {
                    self.vault.doubt();
                    self.vault.drive(TAG_CREDENTIALS, now, out);
                }
                let text = match answer {
                    Answer::Fault(Fault::Full) => "the disk's bound is reached",
                    Answer::Fault(Fault::Failed(_)) => {
                        "the store failed; it is not known whether this was done"
                    }
                    _ => "the store is not there or has too much to do",
                };
                self.finish(tag, Err(later(text)), out);
            }
        }
        self.go_on(now, out);
    }

    /// The credentials of an app for a provider: those with this id; else, if none is asked for or the id is that of another
    /// provider's, those called [`DEFAULT_ID`](crate::push::credential::DEFAULT_ID), else the only ones.
    pub fn credential(
        &self,
        app: &str,
        provider: Provider,
        id: Option<&str>,
    ) -> Result<Arc<Credential>, NoCredential> {
        self.vault.find(app, provider, id)
    }

    /// Credentials were given, changed or removed since this was last asked: what waits for them may be tried again.
    pub fn take_changed(&mut self) -> bool {
        self.vault.take_changed()
    }

    /// How sending to a device went; `device` as it was when that began. One that took another address since is left alone.
    pub fn went(&mut self, app: &str, device: &Device, went: Went, now: Now, out: &mut Vec<Step>) {
        if self.went_waiting.len() >= WENT_WAITING_MAX {
            return;
        }
        let running = self.running(None, app, Work::Went(Box::new(device.clone()), went));
        self.went_waiting.push_back(running);
        self.go_on(now, out);
    }

    fn running(&mut self, caller: Option<u64>, app: &str, work: Work) -> Running {
        self.last += 1;
        Running {
            caller,
            app: app.into(),
            work,
            chance: [0; 32],
            claims: Vec::new(),
            rounds: 0,
            seen: Seen::default(),
            removed: 0,
            stage: Stage::Lines,
            number: self.last,
        }
    }

    /// Begins what waits and goes on with what is ready, until all waits for the store or in line.
    fn go_on(&mut self, now: Now, out: &mut Vec<Step>) {
        loop {
            while let Some(number) = self.ready.pop_front() {
                self.step(number, now, out);
            }
            // Who comes with the start is not sent away for the moment that this takes.
            if self.running.len() >= ORDERS_MAX || self.vault.is_awaited() {
                return;
            }
            // Whoever waits for an answer comes first; what came of a large publish takes what is left.
            let next = self.waiting.pop_front().or_else(|| self.went_waiting.pop_front());
            let Some(next) = next else { return };
            self.ready.push_back(next.number);
            self.running.insert(next.number, next);
        }
    }

    /// Goes on with one order: it is decided, or misses something and asks for it.
    fn step(&mut self, number: u64, now: Now, out: &mut Vec<Step>) {
        let Some(it) = self.running.get(&number) else { return };
        if !matches!(it.stage, Stage::Lines) || !self.claims.has(number, &it.claims) {
            return;
        }
        let decided = self.decide(it, now);
        let Some(it) = self.running.get_mut(&number) else { return };
        match decided {
            Err(Need::Refused(refused)) => self.finish(number, Err(refused), out),
            Err(Need::Claims(more)) => self.claim(number, more, out),
            Err(Need::Values(keys)) => {
                it.stage = Stage::Values(keys.clone());
                out.push(Step::Ask(number, Ask::Pick { shelf: Shelf::Push, keys }));
            }
            Err(Need::Range(range)) => {
                it.stage = Stage::Range(range.clone());
                out.push(Step::Ask(number, read(range)));
            }
            Ok(act) => {
                let unreadable = act.unreadable.into_iter();
                out.extend(unreadable.map(|key| Step::Say(Note::Unreadable(key))));
                if act.changes.is_empty() {
                    // Nothing was left to remove: there is no other part.
                    let then = match act.then {
                        Then::Again(_) => Then::Tell(Told::Removed(it.removed)),
                        then => then,
                    };
                    self.conclude(number, then, out);
                    return;
                }
                it.stage = Stage::Disk(act.then, act.effect);
                // What was read is not needed any more; it may be much.
                it.seen = Seen::default();
                out.push(Step::Ask(number, Ask::Change { changes: act.changes }));
            }
        }
    }

    /// What an order comes to, or what it misses.
    fn decide(&self, it: &Running, now: Now) -> Result<order::Act, Need> {
        let order = match &it.work {
            Work::Went(device, went) => return self.went_with(it, device, went),
            Work::Order(order) => order,
        };
        match order {
            Order::Register(device, registrar) => self.register(it, device, registrar, now),
            Order::Devices(filter, page) => self.devices(it, filter, page),
            Order::Device(id) => self.device(it, id),
            Order::Unregister(id, registrar) => self.unregister(it, id, registrar),
            Order::UnregisterClient(client) => self.unregister_client(it, client),
            Order::Subscribe {
                channel,
                device_id,
                client_id,
                provider,
                token_hash,
                credential_version,
                registrar,
            } => {
                let asked = Asked {
                    channel,
                    device_id,
                    client_id: client_id.as_deref(),
                    provider: *provider,
                    token_hash: token_hash.as_deref(),
                    credential_version: *credential_version,
                    registrar,
                };
                self.subscribe(it, &asked, now)
            }
            Order::Subscriptions { channel, device_id, page } => {
                self.subscriptions(it, channel.as_deref(), device_id.as_deref(), page)
            }
            Order::Channels(page) => self.channels(it, page),
            Order::Unsubscribe { channel, device_id, registrar } => {
                self.unsubscribe(it, channel.as_deref(), device_id.as_deref(), registrar)
            }
            Order::PutCredential { id, version, material } => {
                self.put_credential(it, id, *version, material, now)
            }
            Order::Credentials => self.credentials(it),
            Order::RemoveCredential(provider, id) => self.remove_credential(it, *provider, id),
            Order::PutTemplate(template) => self.put_template(it, template, now),
            Order::Templates(page) => self.templates(it, page),
            Order::Template(id) => self.template(it, id),
            Order::RemoveTemplate(id) => self.remove_template(it, id),
            _ => {
                Err(Refused::new(501, "not_implemented", "this is no order of the registry").into())
            }
        }
    }

    /// Has an order enter more lines. What it read before is forgotten: others may have changed it.
    fn claim(&mut self, number: u64, more: Vec<claims::Claim>, out: &mut Vec<Step>) {
        let Some(it) = self.running.get_mut(&number) else { return };
        let mut first = Vec::new();
        self.claims.leave(number, &it.claims, &mut first);
        it.seen = Seen::default();
        it.claims.extend(more);
        it.claims.sort_unstable();
        it.claims.dedup();
        it.rounds += 1;
        let is_in = it.rounds <= ROUNDS_MAX && self.claims.enter(number, &it.claims);
        self.ready.extend(first);
        match is_in {
            true => self.ready.push_back(number),
            false => {
                it.claims.clear();
                self.finish(number, Err(later("too many requests change the same")), out);
            }
        }
    }

    fn take_effect(&mut self, number: u64, effect: Effect) {
        let Some(it) = self.running.get(&number) else { return };
        match effect {
            Effect::None => {}
            Effect::Registered => {
                self.counts.registered.fetch_add(1, Relaxed);
            }
            Effect::Credential(facts, credential) => self.vault.put(&it.app, facts, credential),
            Effect::NoCredential(provider, id) => self.vault.remove(&it.app, provider, &id),
        }
    }

    fn conclude(&mut self, number: u64, then: Then, out: &mut Vec<Step>) {
        match then {
            Then::Tell(told) => self.finish(number, Ok(told), out),
            Then::Nothing => self.finish(number, Ok(Told::Done), out),
            Then::Again(removed) => {
                let Some(it) = self.running.get_mut(&number) else { return };
                it.removed += removed;
                (it.rounds, it.seen) = (0, Seen::default());
                let (mut first, claims) = (Vec::new(), std::mem::take(&mut it.claims));
                self.claims.leave(number, &claims, &mut first);
                self.ready.extend(first);
                self.ready.push_back(number);
            }
        }
    }

    fn finish(&mut self, number: u64, told: Result<Told, Refused>, out: &mut Vec<Step>) {
        let Some(it) = self.running.remove(&number) else { return };
        let mut first = Vec::new();
        self.claims.leave(number, &it.claims, &mut first);
        self.ready.extend(first);
        if let Some(caller) = it.caller {
            out.push(Step::Tell(caller, told));
        }
    }
}

fn read(range: Range) -> Ask {
    Ask::Read {
        shelf: Shelf::Push,
        prefix: range.prefix,
        after: range.after,
        before: None,
        is_last_first: false,
        values_max: range.rows_max,
        bytes_max: RANGE_BYTES_MAX,
    }
}

/// What an order asks about broadcast channels, and with which credentials.
fn broadcast(order: &Order) -> Option<(Option<&str>, BroadcastWhat)> {
    Some(match order {
        Order::CreateBroadcast { credential_id, storage_policy } => {
            (credential_id.as_deref(), BroadcastWhat::Create(*storage_policy))
        }
        Order::Broadcasts { credential_id } => (credential_id.as_deref(), BroadcastWhat::List),
        Order::Broadcast { credential_id, channel_id } => {
            (credential_id.as_deref(), BroadcastWhat::Read(channel_id.clone()))
        }
        Order::RemoveBroadcast { credential_id, channel_id } => {
            (credential_id.as_deref(), BroadcastWhat::Remove(channel_id.clone()))
        }
        _ => return None,
    })
}

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;
