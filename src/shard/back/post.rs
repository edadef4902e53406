//! Push notifications, driven: what [`Push`] decides, done. Requests to providers are made on a thread of their own,
//! which yields to the shards: encrypting for a hundred thousand browsers must not be felt by who listens.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::homes::Homes;
use super::{Arrival, Mail, SLEEP_MAX, Waiter, Ways};
use crate::auth::Finding;
use crate::base::ids::AppIndex;
use crate::base::name::{Channel, Name};
use crate::base::time::{Millis, Nanos, Now};
use crate::broker::{Payload, Publish};
use crate::config::push::PushSettings;
use crate::observe::log;
use crate::outbound::push::courier::Courier;
use crate::outbound::push::provider::{Address, Delivered, Message, Parcel, Verdict};
use crate::outbound::push::{Counts, Looking, Note, Push, Step, Wants};
use crate::push::device::Recipient;
use crate::push::order::{Order, Refused, Told};
use crate::push::publish::State;
use crate::reactor::machine;
use crate::store::Keeper;
use crate::store::health::Health;
use crate::wire::json;

/// Answers of the store taken at once, and as many of what homes took; then whoever else waits has a turn.
const TAKEN_PER_TURN: usize = 128;
/// How long shards may take to say who is connected; whoever is not found by then is sent what there is to be sent.
const LOOK_MAX: Millis = Millis(1_000);
/// When nothing more has come for so long, what came last is written: the jobs gather outcomes for less.
const QUIET: Millis = Millis(100);
/// How much the thread that makes requests yields to others, as `nice` counts.
const NICENESS: i32 = 10;
/// What an event is called that a socket gets as a device.
const EVENT: &str = "push";

/// Says which channels show that a client of an app has a connection: one for each dialect that knows clients.
pub type ClientChannels = Box<dyn Fn(&str) -> Vec<Name> + Send>;

/// What sending push notifications takes.
pub struct Posting {
    /// How.
    pub settings: Arc<PushSettings>,
    /// An end of the way to the store.
    pub keeper: Box<dyn Keeper>,
    /// How the store is: it counts what is pushed there.
    pub health: Arc<Health>,
    /// Where it is counted.
    pub counts: Arc<Counts>,
    /// What is worth a report.
    pub wants: Wants,
    /// The apps by their ids.
    pub apps: HashMap<String, AppIndex>,
    /// Where a client's connections are seen.
    pub client_channels: ClientChannels,
}

/// Sends push notifications: what [`Push`] decides, done.
pub(super) struct Post {
    push: Push,
    keeper: Box<dyn Keeper>,
    health: Arc<Health>,
    apps: HashMap<String, AppIndex>,
    client_channels: ClientChannels,
    courier: Courier,
    /// Where requests are made.
    couriers: Handle,
    homes: Homes,
    out: mpsc::Sender<Mail>,
    ways: Ways,
    /// Pushes on the queue that are known of.
    pushes: u64,
    callers: HashMap<u64, Waiter>,
    next_caller: u64,
    looks: HashMap<u64, Look>,
    /// What came of parcels for channels here; those before it are on their way to their homes.
    taken: VecDeque<(u64, Delivered)>,
    steps: Vec<Step>,
    /// Asks that the store has not answered.
    asks_open: u64,
    /// Requests under way.
    in_flight: u64,
    /// Whoever wants to know that nothing is under way any more; nothing new is sent.
    stopping: Option<SyncSender<()>>,
    /// When a request last came back.
    heard_at: Nanos,
    due: Nanos,
}

/// Who is connected, while shards are asked.
struct Look {
    are_there: Vec<bool>,
    /// By shard, in the order of the channels it was asked about: whose they are.
    open: HashMap<usize, Vec<usize>>,
    until: Nanos,
}

impl Post {
    /// Fails, in words, if the machine refuses the thread that makes requests.
    pub(super) fn new(
        posting: Posting,
        homes: Homes,
        out: mpsc::Sender<Mail>,
        ways: Ways,
    ) -> Result<Self, String> {
        let Posting { settings, keeper, health, counts, wants, apps, client_channels } = posting;
        let mut seed = [0; 8];
        // Jitter that others can guess is no harm.
        let _ = getrandom::fill(&mut seed);
        let seed = u64::from_ne_bytes(seed);
        Ok(Self {
            push: Push::new(settings.clone(), counts.clone(), wants, seed),
            keeper,
            health,
            apps,
            client_channels,
            courier: Courier::new(settings, counts),
            couriers: couriers()?,
            homes,
            out,
            ways,
            pushes: 0,
            callers: HashMap::new(),
            next_caller: 0,
            looks: HashMap::new(),
            taken: VecDeque::new(),
            steps: Vec::new(),
            asks_open: 0,
            in_flight: 0,
            stopping: None,
            heard_at: Nanos(0),
            due: Nanos(0),
        })
    }

    /// How long nothing is to be done unless something comes.
    pub(super) fn wait(&self, now: Nanos) -> Duration {
        self.due.since(now).min(SLEEP_MAX)
    }

    /// Whether there is something to do for [`Post::work`].
    pub(super) fn is_ready(&self, now: Nanos) -> bool {
        self.due <= now || self.keeper.is_ready() || self.pushes_queued() != self.pushes
    }

    /// Takes an order of a session; `random` makes 128 bits that nobody can guess.
    pub(super) fn order(
        &mut self,
        waiter: Waiter,
        app: &Name,
        order: Order,
        now: Now,
        random: &mut dyn FnMut() -> u128,
    ) {
        self.next_caller += 1;
        // As many as inquiries are open, at most.
        self.callers.insert(self.next_caller, waiter);
        self.push.order(self.next_caller, app, order, now, random, &mut self.steps);
        self.do_steps(now);
    }

    /// Takes what came of a parcel.
    pub(super) fn delivered(&mut self, number: u64, delivered: Delivered, now: Now) {
        self.in_flight -= 1;
        self.heard_at = now.steady;
        self.push.delivered(number, delivered, now, &mut self.steps);
        self.do_steps(now);
    }

    /// Takes what a provider said about its broadcast channels.
    pub(super) fn told(&mut self, caller: u64, told: Result<Told, Refused>, now: Now) {
        self.steps.push(Step::Tell(caller, told));
        self.do_steps(now);
    }

    /// Takes which channels have a subscription, as a shard says.
    pub(super) fn looked(&mut self, shard: usize, number: u64, are_occupied: &[bool], now: Now) {
        let Some(look) = self.looks.get_mut(&number) else { return };
        for (whose, is_occupied) in look.open.remove(&shard).into_iter().flatten().zip(are_occupied)
        {
            look.are_there[whose] |= is_occupied;
        }
        if look.open.is_empty() {
            self.end_look(number, now);
            self.do_steps(now);
        }
    }

    /// Sends nothing new from here on, and tells whoever waits when all that is under way has an outcome on disk.
    pub(super) fn stop(&mut self, stopped: SyncSender<()>, now: Now) {
        self.stopping = Some(stopped);
        self.heard_at = now.steady;
        self.work(now);
    }

    /// Takes what the store answers, and does what it is time for.
    pub(super) fn work(&mut self, now: Now) {
        let mut left = TAKEN_PER_TURN;
        while left > 0
            && let Some((tag, answer)) = self.keeper.take()
        {
            left -= 1;
            self.asks_open = self.asks_open.saturating_sub(1);
            self.push.answered(tag, answer, now, &mut self.steps);
            self.do_steps(now);
        }
        self.homes.flush(|shard| self.ways.wake(shard));
        for _ in 0..TAKEN_PER_TURN {
            // What waits for room at a home is not taken yet: so a home that is slow is not sent more.
            if self.homes.waiting > 0 {
                break;
            }
            let Some((number, delivered)) = self.taken.pop_front() else { break };
            self.delivered(number, delivered, now);
        }
        let late = self.looks.iter().filter(|(_, look)| look.until <= now.steady);
        for number in late.map(|(number, _)| *number).collect::<Vec<_>>() {
            self.end_look(number, now);
        }
        let pushes = self.pushes_queued();
        if pushes != self.pushes {
            self.pushes = pushes;
            self.push.nudged(now, &mut self.steps);
        }
        self.push.drive(now, &mut self.steps);
        self.do_steps(now);
        self.end(now);
    }

    /// Says that all is done, if that is so.
    fn end(&mut self, now: Now) {
        let is_quiet = self.heard_at + QUIET <= now.steady;
        if self.in_flight == 0
            && self.asks_open == 0
            && is_quiet
            && let Some(stopped) = &self.stopping
        {
            // Said again and again, perhaps: nothing new is sent from here on.
            let _ = stopped.try_send(());
        }
    }

    fn pushes_queued(&self) -> u64 {
        self.health.pushes_queued.load(Ordering::Relaxed)
    }

    fn end_look(&mut self, number: u64, now: Now) {
        let Some(look) = self.looks.remove(&number) else { return };
        self.push.looked(number, &look.are_there, now, &mut self.steps);
    }

    /// Does what is to be done, and what follows from that.
    fn do_steps(&mut self, now: Now) {
        while !self.steps.is_empty() {
            for step in std::mem::take(&mut self.steps) {
                self.do_step(step, now);
            }
        }
        self.homes.flush(|shard| self.ways.wake(shard));
        let looks = self.looks.values().map(|it| it.until).min();
        let is_left = self.keeper.is_ready() || !self.taken.is_empty() && self.homes.waiting == 0;
        let left = is_left.then_some(now.steady);
        let quiet =
            self.stopping.as_ref().map(|_| (self.heard_at + QUIET).max(now.steady + Millis(10)));
        let due = self.push.due(now).into_iter().chain(looks).chain(left).chain(quiet).min();
        self.due = due.unwrap_or(Nanos(u64::MAX));
    }

    fn do_step(&mut self, step: Step, now: Now) {
        match step {
            Step::Ask(tag, ask) => {
                self.asks_open += 1;
                self.keeper.ask(tag, ask);
            }
            // It has no outcome, so that it is sent after the next start.
            Step::Deliver(..) if self.stopping.is_some() => {}
            Step::Deliver(number, parcel) => self.deliver(number, *parcel, now),
            Step::Broadcast(caller, ask) => {
                let (courier, out) = (self.courier.clone(), self.out.clone());
                self.couriers.spawn(async move {
                    let told = courier.broadcast(*ask).await;
                    let _ = out.send(Mail::Broadcasts(caller, told)).await;
                });
            }
            Step::Look(number, looking) => self.look(number, &looking, now),
            Step::Tell(caller, mut told) => {
                if let Ok(Told::Overview(overview)) = &mut told {
                    overview.logged = self.courier.logged();
                }
                if let Some(waiter) = self.callers.remove(&caller) {
                    self.ways.tell(waiter, Finding::Push(Box::new(told)));
                }
            }
            Step::Say(note) => say(&note, now),
        }
    }

    fn deliver(&mut self, number: u64, parcel: Parcel, now: Now) {
        self.in_flight += 1;
        if let Address::Recipient(Recipient::Realtime { channel }) = &parcel.address
            && !parcel.is_logged
        {
            let delivered = match self.apps.get(&parcel.app) {
                Some(&app) => {
                    let channel = Channel { app, name: Name::from(&**channel) };
                    let told = Payload(event(&parcel.publish_id, &parcel.message));
                    let publish = Publish::new(channel, Name::from(EVENT), told, now.steady);
                    self.homes.push(Box::new(publish));
                    Delivered::taken(None)
                }
                None => Delivered::not(Verdict::Refused, "unknown_app"),
            };
            // Heard of with the next turn: no more than are planned wait here.
            self.taken.push_back((number, delivered));
            return;
        }
        let courier = self.courier.clone();
        let mut promise = Promise { out: self.out.clone(), number, is_kept: false };
        self.couriers.spawn(async move {
            let delivered = courier.deliver(parcel).await;
            promise.is_kept = true;
            // Fails only when the thread is gone, and then nobody waits.
            let _ = promise.out.send(Mail::Delivered(number, delivered)).await;
        });
    }

    fn look(&mut self, number: u64, looking: &Looking, now: Now) {
        let mut look = Look {
            are_there: vec![false; looking.clients.len()],
            open: HashMap::new(),
            until: now.steady + LOOK_MAX,
        };
        let mut asked: HashMap<usize, Vec<Channel>> = HashMap::new();
        if let Some(&app) = self.apps.get(&looking.app) {
            for (whose, client) in looking.clients.iter().enumerate() {
                for name in (self.client_channels)(client) {
                    let channel = Channel { app, name };
                    let home = self.homes.of(&channel);
                    look.open.entry(home).or_default().push(whose);
                    asked.entry(home).or_default().push(channel);
                }
            }
        }
        for (shard, channels) in asked {
            self.homes.send(shard, Arrival::Look(number, channels));
        }
        let is_answered = look.open.is_empty();
        self.looks.insert(number, look);
        if is_answered {
            self.end_look(number, now);
        }
    }
}

/// Sees to it that a parcel whose task fails is heard of, too.
struct Promise {
    out: mpsc::Sender<Mail>,
    number: u64,
    is_kept: bool,
}

impl Drop for Promise {
    fn drop(&mut self) {
        if !self.is_kept {
            let delivered = Delivered::not(Verdict::Unavailable, "internal_error");
            let _ = self.out.try_send(Mail::Delivered(self.number, delivered));
        }
    }
}

/// The thread on which requests are made; it ends with the process.
fn couriers() -> Result<Handle, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let handle = runtime.handle().clone();
    let thread = std::thread::Builder::new().name("courier".into()).spawn(move || {
        // A hint: it works all the same.
        let _ = machine::yield_to_others(NICENESS);
        runtime.block_on(std::future::pending::<()>());
    });
    thread.map_err(|error| error.to_string())?;
    Ok(handle)
}

/// What a socket gets that is a device.
fn event(publish_id: &str, message: &Message) -> Bytes {
    if !message.raw.is_empty() {
        return Bytes::from(message.raw.clone());
    }
    let text = &message.text;
    let parts = [
        ("title", &text.title),
        ("body", &text.body),
        ("icon", &text.icon),
        ("sound", &text.sound),
        ("collapse_key", &text.collapse_key),
    ];
    let mut out = b"{\"publish_id\":".to_vec();
    json::write_str(&mut out, publish_id);
    for (name, part) in parts {
        let Some(part) = part else { continue };
        out.extend_from_slice(format!(",\"{name}\":").as_bytes());
        json::write_str(&mut out, part);
    }
    if !message.data.is_empty() {
        out.extend_from_slice(b",\"data\":");
        out.extend_from_slice(message.data.as_bytes());
    }
    out.push(b'}');
    out.into()
}

fn say(note: &Note, now: Now) {
    match note {
        Note::Finished(app, publish, state, planned, taken, why) => {
            let how = state.as_str();
            let fields: [log::Field<'_>; 6] = [
                ("app", app),
                ("publish", publish),
                ("state", &how),
                ("devices", planned),
                ("taken", taken),
                ("why", why.as_ref().map_or(&"" as &dyn std::fmt::Display, |it| it)),
            ];
            let fields = if why.is_some() { &fields[..] } else { &fields[..5] };
            let is_bad =
                matches!(state, State::Failed | State::DeadLettered | State::QuotaExceeded);
            match is_bad {
                true => log::warn(now.wall, "push_finished", fields),
                // The path of an event is counted, never logged; each publish is one.
                false => log::debug(now.wall, "push_finished", fields),
            }
        }
        Note::CredentialRefused(app, provider, why) => {
            let provider = provider.as_str();
            let fields: [log::Field<'_>; 3] = [("app", app), ("provider", &provider), ("why", why)];
            log::warn(now.wall, "push_credential_refused", &fields);
        }
        Note::CredentialsSealed(whose, why) => {
            let fields: [log::Field<'_>; 2] = [("whose", whose), ("why", why)];
            log::warn(now.wall, "push_credentials_sealed", &fields);
        }
        Note::NotAccepted(app, publish, why) => {
            let fields: [log::Field<'_>; 3] = [("app", app), ("publish", publish), ("why", why)];
            log::warn(now.wall, "push_dropped", &fields);
        }
        Note::Paused(provider, why, millis) => {
            let provider = provider.as_str();
            let fields: [log::Field<'_>; 3] =
                [("provider", &provider), ("why", why), ("for_ms", millis)];
            log::warn(now.wall, "push_provider_paused", &fields);
        }
        Note::Resumed(provider) => {
            log::info(now.wall, "push_provider_resumed", &[("provider", &provider.as_str())]);
        }
        Note::Unreadable(key) => log::error(now.wall, "push_unreadable", &[("key", key)]),
        Note::Dropped(letters) => {
            log::error(now.wall, "push_dead_letters_dropped", &[("letters", letters)]);
        }
    }
}

#[cfg(test)]
#[path = "post_tests.rs"]
mod tests;
