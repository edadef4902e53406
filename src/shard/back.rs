//! The back shard: one thread beside the shards, for what needs the world outside. A shard hands it
//! inquiries and takes findings; neither ever waits for the other. What is told to receivers of webhooks it reads
//! from the store, where shards put it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc as plain;
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use tokio::sync::mpsc;

use crate::auth::{Denied, Finding, Inquiry, What};
use crate::base::ids::{ConnectionId, Ticket};
use crate::base::time::{Nanos, Now};
use crate::broker::Publish;
use crate::config::webhooks::Webhooks;
use crate::observe::log;
use crate::outbound::client::Client;
use crate::outbound::desk::{Desk, HttpAnswer, Step};
use crate::outbound::hooks::post::Heard;
use crate::outbound::hooks::receiver::Turn;
use crate::outbound::hooks::{self, Hooks, Note, Order};
use crate::reactor::machine;
use crate::store::Keeper;
use crate::store::health::Health;

use super::mesh::Doorbell;

/// Inquiries of one shard that are not answered yet, at most; a further one is answered with
/// [`Finding::Unavailable`] at once. As many findings fit the way back, so that none is ever lost.
const INQUIRIES_MAX: usize = 4096;
/// How long an operator's order may take.
const ORDER_MAX: Duration = Duration::from_secs(30);
/// How long the thread sleeps at most.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// Who answers a shard's inquiries: the back shard, or a test.
pub trait Outside: Send {
    /// Takes an inquiry of a session. Each is answered once, by [`Outside::take`].
    fn ask(&mut self, from: ConnectionId, ticket: Ticket, inquiry: Inquiry);
    /// A finding, and whose.
    fn take(&mut self) -> Option<(ConnectionId, Ticket, Finding)>;
    /// Is there one, or an arrival?
    fn is_ready(&self) -> bool;
    /// A connection that asked something which stands ([`What::stands`]) has ended its session.
    fn gone(&mut self, _from: ConnectionId) {}
    /// An event from upstream, whose channel's home is this shard.
    fn arrival(&mut self) -> Option<Box<Publish>> {
        None
    }
}

/// Answers that nobody can be asked.
#[derive(Default)]
pub struct Nobody(VecDeque<(ConnectionId, Ticket, Finding)>);

impl Outside for Nobody {
    fn ask(&mut self, from: ConnectionId, ticket: Ticket, _: Inquiry) {
        self.0.push_back((from, ticket, Finding::Unavailable));
    }

    fn take(&mut self) -> Option<(ConnectionId, Ticket, Finding)> {
        self.0.pop_front()
    }

    fn is_ready(&self) -> bool {
        !self.0.is_empty()
    }
}

/// Who waits for a finding.
#[derive(Clone, Copy, Debug)]
struct Waiter {
    shard: usize,
    to: ConnectionId,
    ticket: Ticket,
}

/// What the back shard's thread is told.
enum Mail {
    Inquiry(Waiter, Inquiry),
    Answered(u64, HttpAnswer),
    Heard(u64, Heard),
    Order(Order, Caller),
    /// The store has an answer, or something new for receivers.
    Store,
}

/// What an operator is told: lines, or why not.
type Told = Result<Vec<String>, Denied>;

/// Who waits for what comes of an order.
#[derive(Debug)]
enum Caller {
    /// A thread of its own.
    Thread(plain::SyncSender<Told>),
    /// A session.
    Session(Waiter),
}

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

/// Gives an operator's orders to the back shard.
#[derive(Clone)]
pub struct Operator {
    out: mpsc::Sender<Mail>,
}

impl Operator {
    /// Has an order done, and waits for what came of it. Not for a shard's thread.
    pub fn order(&self, order: Order) -> Told {
        let (sender, told) = plain::sync_channel(1);
        if self.out.try_send(Mail::Order(order, Caller::Thread(sender))).is_err() {
            return Err(Denied::unavailable("the server has too much to do now; ask again"));
        }
        let late = |_| Err(Denied::unavailable("the server did not get to it in time"));
        told.recv_timeout(ORDER_MAX).unwrap_or_else(late)
    }
}

/// The thread, from outside.
pub struct Back {
    /// One port for each shard, in the order of their doorbells.
    pub ports: Vec<BackPort>,
    /// Tells it that the store has something for it.
    pub ring: Box<dyn Fn() + Send + Sync>,
    /// Takes orders about webhooks.
    pub operator: Operator,
}

type Findings = ArrayQueue<(ConnectionId, Ticket, Finding)>;

/// The ways back to the shards.
#[derive(Clone)]
struct Ways {
    findings: Vec<Arc<Findings>>,
    doorbells: Arc<Vec<Doorbell>>,
}

impl Ways {
    /// Tells a session what was found.
    fn tell(&self, waiter: Waiter, finding: Finding) {
        let told = self.findings[waiter.shard].push((waiter.to, waiter.ticket, finding));
        assert!(told.is_ok(), "a shard asks no more than it has room to be told");
        let doorbell = &self.doorbells[waiter.shard];
        if doorbell.parking.should_wake() {
            doorbell.waker.wake();
        }
    }

    /// Tells whoever gave an order what came of it.
    fn answer(&self, caller: Caller, told: Told) {
        match caller {
            // Who asked may have gone.
            Caller::Thread(sender) => drop(sender.try_send(told)),
            Caller::Session(waiter) => self.tell(waiter, Finding::Told(told)),
        }
    }
}

/// A shard's end of the way to the back shard and back.
pub struct BackPort {
    shard: usize,
    out: mpsc::Sender<Mail>,
    findings: Arc<Findings>,
    /// Asked and not taken yet.
    open: usize,
    refused: Nobody,
}

impl Outside for BackPort {
    fn ask(&mut self, from: ConnectionId, ticket: Ticket, inquiry: Inquiry) {
        let waiter = Waiter { shard: self.shard, to: from, ticket };
        if self.open >= INQUIRIES_MAX {
            return self.refused.ask(from, ticket, inquiry);
        }
        match self.out.try_send(Mail::Inquiry(waiter, inquiry)) {
            Ok(()) => self.open += 1,
            Err(
                mpsc::error::TrySendError::Full(mail) | mpsc::error::TrySendError::Closed(mail),
            ) => {
                if let Mail::Inquiry(_, inquiry) = mail {
                    self.refused.ask(from, ticket, inquiry);
                }
            }
        }
    }

    fn take(&mut self) -> Option<(ConnectionId, Ticket, Finding)> {
        if let Some(refused) = self.refused.take() {
            return Some(refused);
        }
        let found = self.findings.pop()?;
        self.open -= 1;
        Some(found)
    }

    fn is_ready(&self) -> bool {
        self.refused.is_ready() || !self.findings.is_empty()
    }
}

/// Starts the thread, which ends with the process. Without `telling` nobody is told of events.
pub fn start(doorbells: Arc<Vec<Doorbell>>, telling: Option<Telling>) -> std::io::Result<Back> {
    let shards = doorbells.len();
    // Room for what all shards may ask and for the answers to it.
    let (out, mail) = mpsc::channel(shards * INQUIRIES_MAX + 1024);
    let findings: Vec<_> = (0..shards).map(|_| Arc::new(Findings::new(INQUIRIES_MAX))).collect();
    let ports = findings.iter().enumerate().map(|(shard, findings)| BackPort {
        shard,
        out: out.clone(),
        findings: Arc::clone(findings),
        open: 0,
        refused: Nobody::default(),
    });
    let ports = ports.collect();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let is_rung = Arc::<AtomicBool>::default();
    let bell = (out.clone(), Arc::clone(&is_rung));
    let ring = Box::new(move || {
        let (out, is_rung) = &bell;
        // A full mailbox does as well: the store is looked at after every mail.
        if !is_rung.swap(true, Ordering::AcqRel) && out.try_send(Mail::Store).is_err() {
            is_rung.store(false, Ordering::Release);
        }
    });
    let operator = Operator { out: out.clone() };
    let ways = Ways { findings, doorbells };
    std::thread::Builder::new().name("back".into()).spawn(move || {
        let teller = telling.map(|it| Teller::new(it, is_rung, out.clone(), ways.clone()));
        runtime.block_on(run(mail, &out, &ways, teller));
    })?;
    Ok(Back { ports, ring, operator })
}

async fn run(
    mut mail: mpsc::Receiver<Mail>,
    out: &mpsc::Sender<Mail>,
    ways: &Ways,
    mut teller: Option<Teller>,
) {
    let (mut desk, client) = (Desk::default(), Client::default());
    let mut steps = Vec::new();
    let mut random = || {
        let mut bytes = [0; 16];
        // Without chance there are no tokens that nobody can guess: better none at all.
        getrandom::fill(&mut bytes).expect("the kernel has a random source");
        u128::from_ne_bytes(bytes)
    };
    if let Some(teller) = &mut teller {
        teller.work(None, machine::now(), &client);
    }
    loop {
        let wait = teller.as_ref().map_or(SLEEP_MAX, |it| it.wait(machine::now().steady));
        // Either something came, or it is time to try something again.
        let got = match tokio::time::timeout(wait, mail.recv()).await {
            Ok(None) => return,
            Ok(Some(mail)) => Some(mail),
            Err(_) => None,
        };
        let got = match got {
            Some(Mail::Inquiry(waiter, Inquiry { what: What::Operate(words), .. })) => {
                let Some(order) = Order::parse(&words) else {
                    let text = "there is no such order".to_owned();
                    ways.tell(waiter, Finding::Told(Err(Denied { status: 400, text })));
                    continue;
                };
                Some(Mail::Order(order, Caller::Session(waiter)))
            }
            got => got,
        };
        let now = machine::now();
        if !matches!(got, Some(Mail::Inquiry(..) | Mail::Answered(..))) {
            match (&mut teller, got) {
                (Some(teller), got) => teller.work(got, now, &client),
                (None, Some(Mail::Order(_, caller))) => {
                    ways.answer(caller, Err(Denied::unknown(NO_RECEIVER)));
                }
                (None, _) => {}
            }
            log::flush(now.wall);
            continue;
        }
        match got {
            Some(Mail::Inquiry(waiter, inquiry)) => {
                desk.ask(waiter, inquiry, now, &mut random, &mut steps);
            }
            Some(Mail::Answered(number, answer)) => {
                desk.answered(number, answer, now, &mut random, &mut steps);
            }
            _ => {}
        }
        // Questions without end do not keep what is to be told from its time.
        if let Some(teller) = teller.as_mut().filter(|it| it.due <= now.steady) {
            teller.work(None, now, &client);
        }
        for step in steps.drain(..) {
            match step {
                Step::Tell(waiter, finding) => ways.tell(waiter, finding),
                Step::Ask(number, question) => {
                    let (client, out) = (client.clone(), out.clone());
                    tokio::spawn(async move {
                        let answer = client.ask(question).await;
                        // Fails only when the thread is gone, and then nobody waits.
                        let _ = out.send(Mail::Answered(number, answer)).await;
                    });
                }
            }
        }
    }
}

const NO_RECEIVER: &str =
    "no receiver is configured; a [[webhooks.receivers]] table with a name and a url makes one";

/// Tells receivers of webhooks: what [`Hooks`] decide, done.
struct Teller {
    hooks: Hooks,
    keeper: Box<dyn Keeper>,
    health: Arc<Health>,
    /// Pushes that are known of.
    pushes: u64,
    is_rung: Arc<AtomicBool>,
    out: mpsc::Sender<Mail>,
    ways: Ways,
    callers: HashMap<u64, Caller>,
    next_caller: u64,
    steps: Vec<hooks::Step>,
    /// When something is to be done though nothing comes.
    due: Nanos,
}

impl Teller {
    fn new(
        telling: Telling,
        is_rung: Arc<AtomicBool>,
        out: mpsc::Sender<Mail>,
        ways: Ways,
    ) -> Self {
        let Telling { settings, keeper, health, counts } = telling;
        let mut seed = [0; 8];
        // Jitter that others can guess is no harm.
        let _ = getrandom::fill(&mut seed);
        Self {
            hooks: Hooks::new(settings, counts, u64::from_ne_bytes(seed)),
            keeper,
            health,
            pushes: 0,
            is_rung,
            out,
            ways,
            callers: HashMap::new(),
            next_caller: 0,
            steps: Vec::new(),
            due: Nanos(0),
        }
    }

    /// How long nothing is to be done unless something comes.
    fn wait(&self, now: Nanos) -> Duration {
        self.due.since(now).min(SLEEP_MAX)
    }

    /// Takes what came, and does what follows. Nothing came: it is time for something.
    fn work(&mut self, mail: Option<Mail>, now: Now, client: &Client) {
        match mail {
            Some(Mail::Heard(number, heard)) => {
                self.hooks.heard(number, &heard, now, &mut self.steps);
            }
            Some(Mail::Order(order, caller)) => {
                self.next_caller += 1;
                self.callers.insert(self.next_caller, caller);
                self.hooks.order(self.next_caller, order, now, &mut self.steps);
            }
            // Before the store is looked at: what comes after that rings again.
            Some(Mail::Store) => self.is_rung.store(false, Ordering::Release),
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
