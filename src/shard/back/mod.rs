//! The back shard: one thread beside the shards, for what needs the world outside. A shard hands it
//! inquiries and takes findings; neither ever waits for the other. What is told to receivers of webhooks it reads
//! from the store, where shards put it. Who asks is in `port`, who tells receivers in `teller`, who sends push
//! notifications in `post`, and who drives dialects that stand in for another server in `upstream`.

mod homes;
mod port;
mod post;
mod teller;
mod upstream;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc as plain;
use std::time::Duration;

use tokio::sync::mpsc;

pub use self::port::BackPort;
pub use self::post::{ClientChannels, Posting};
pub use self::teller::Telling;

use self::homes::Homes;
use self::port::{Arrivals, Findings};
use self::post::Post;
use self::teller::Teller;
use self::upstream::{Following, Next, Plan};
use super::mesh::Doorbell;
use crate::auth::upstream::{Rows, Unanswered};
use crate::auth::{Denied, Finding, Inquiry, What};
use crate::base::ids::{ConnectionId, Ticket};
use crate::base::name::Channel;
use crate::base::time::Now;
use crate::broker::Publish;
use crate::broker::slots::Slots;
use crate::dialects::upstream::Upstream;
use crate::observe::log;
use crate::outbound::client::Client;
use crate::outbound::desk::{Desk, HttpAnswer, Step};
use crate::outbound::hooks::Order;
use crate::outbound::hooks::post::Heard;
use crate::outbound::push::provider::Delivered;
use crate::push::order;
use crate::reactor::machine;

/// Inquiries of one shard that are not answered yet, at most; a further one is answered with
/// [`Finding::Unavailable`] at once. As many findings fit the way back, so that none is ever lost.
const INQUIRIES_MAX: usize = 16_384;
/// How long an operator's order may take.
const ORDER_MAX: Duration = Duration::from_secs(30);
/// How long what is under way at the end is waited for: a provider that is slower is sent it again after the next start.
const STOP_MAX: Duration = Duration::from_secs(3);
/// How long the thread sleeps at most.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// What comes from the world outside without being asked for.
#[derive(Debug)]
pub enum Arrival {
    /// An event for a channel whose home is this shard.
    Publish(Box<Publish>),
    /// Which of these channels, whose home is this shard, have a subscription? Answered by [`Outside::looked`] with this
    /// number.
    Look(u64, Vec<Channel>),
}

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
    /// Something from the world outside for this shard.
    fn arrival(&mut self) -> Option<Arrival> {
        None
    }
    /// Whether each channel of an [`Arrival::Look`] has a subscription, in its order.
    fn looked(&mut self, _number: u64, _are_occupied: Vec<bool>) {}
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
    /// A connection that asked something which stands is gone.
    Gone(ConnectionId),
    /// What the database of a follower, by its index, answered to a question.
    Rows(usize, u64, Result<Rows, Unanswered>),
    /// A shard has room for events again.
    Room,
    /// Which channels of an [`Arrival::Look`] with this number have a subscription, says this shard.
    Looked(usize, u64, Vec<bool>),
    /// What came of the parcel with this number.
    Delivered(u64, Delivered),
    /// What a provider said about its broadcast channels, and which order asked.
    Broadcasts(u64, Result<order::Told, order::Refused>),
    /// Send nothing new, and say when nothing is under way any more.
    Stop(plain::SyncSender<()>),
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

    /// Has nothing new sent, and waits until what is under way with providers has an outcome on disk: so that it is not
    /// sent again after the next start. Not for a shard's thread.
    pub fn stop(&self) {
        let (sender, stopped) = plain::sync_channel(1);
        if self.out.try_send(Mail::Stop(sender)).is_ok() {
            let _ = stopped.recv_timeout(STOP_MAX);
        }
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
        self.wake(waiter.shard);
    }

    /// Ends a shard's sleep.
    fn wake(&self, shard: usize) {
        let doorbell = &self.doorbells[shard];
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

/// What is followed elsewhere, and where channels are at home.
pub struct Upstreams {
    /// Each dialect's.
    pub upstreams: Vec<Upstream>,
    /// Which shard orders a channel's events.
    pub slots: Arc<Slots>,
}

/// Starts the thread, which ends with the process. Without `telling` nobody is told of events, without `posting` there are
/// no push notifications. Fails, in words, if an address of `upstreams` is none, or if the machine refuses.
pub fn start(
    doorbells: Arc<Vec<Doorbell>>,
    telling: Option<Telling>,
    posting: Option<Posting>,
    upstreams: Upstreams,
) -> Result<Back, String> {
    let Upstreams { upstreams, slots } = upstreams;
    let plans: Vec<_> = upstreams.into_iter().map(Plan::new).collect::<Result<_, _>>()?;
    let shards = doorbells.len();
    // Room for what all shards may ask and for the answers to it.
    let (out, mail) = mpsc::channel(shards * INQUIRIES_MAX + 1024);
    let findings: Vec<_> = (0..shards).map(|_| Arc::new(Findings::new(INQUIRIES_MAX))).collect();
    let arrivals: Vec<Arc<Arrivals>> = (0..shards).map(|_| Arc::default()).collect();
    let ways_back = findings.iter().cloned().zip(arrivals.iter().cloned()).enumerate();
    let ports = ways_back
        .map(|(shard, (findings, arrivals))| BackPort::new(shard, out.clone(), findings, arrivals));
    let ports = ports.collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
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
    let post = posting.map(|it| {
        let homes = Homes::new(slots.clone(), &arrivals);
        Post::new(it, homes, out.clone(), ways.clone())
    });
    let post = post.transpose()?;
    let thread = std::thread::Builder::new().name("back".into()).spawn(move || {
        let teller = telling.map(|it| Teller::new(it, out.clone(), ways.clone()));
        runtime.block_on(async {
            let followings = plans.into_iter().enumerate().map(|(index, plan)| {
                Following::new(index, plan, slots.clone(), &arrivals, out.clone(), ways.clone())
            });
            let followings = followings.collect();
            run(mail, &out, &ways, Owners { is_rung, teller, post, followings }).await;
        });
    });
    thread.map_err(|error| error.to_string())?;
    Ok(Back { ports, ring, operator })
}

/// Who does what on the thread.
struct Owners {
    /// The store has rung, and nobody has looked yet.
    is_rung: Arc<AtomicBool>,
    teller: Option<Teller>,
    post: Option<Post>,
    followings: Vec<Following>,
}

/// 128 bits that nobody can guess.
fn random() -> u128 {
    let mut bytes = [0; 16];
    // Without chance there are no tokens that nobody can guess: better none at all.
    getrandom::fill(&mut bytes).expect("the kernel has a random source");
    u128::from_ne_bytes(bytes)
}

async fn run(
    mut mail: mpsc::Receiver<Mail>,
    out: &mpsc::Sender<Mail>,
    ways: &Ways,
    owners: Owners,
) {
    let Owners { is_rung, mut teller, mut post, mut followings } = owners;
    let (mut desk, client) = (Desk::default(), Client::default());
    let (mut steps, mut mail_first) = (Vec::new(), false);
    if let Some(teller) = &mut teller {
        teller.work(None, machine::now(), &client);
    }
    loop {
        let now = machine::now();
        if let Some(post) = post.as_mut().filter(|it| it.is_ready(now.steady)) {
            post.work(now);
        }
        let wait = teller.as_ref().map_or(SLEEP_MAX, |it| it.wait(now.steady));
        let wait = followings.iter().map(|it| it.wait(now.steady)).fold(wait, Duration::min);
        let wait = post.as_ref().map_or(wait, |it| it.wait(now.steady).min(wait));
        // Either something came, or it is time to try something again.
        mail_first = !mail_first;
        let got = upstream::next(&mut mail, &mut followings, wait, mail_first).await;
        let now = machine::now();
        // Messages without end do not keep what is to be told from its time.
        if let Some(teller) = teller.as_mut().filter(|it| it.due <= now.steady) {
            teller.work(None, now, &client);
        }
        let got = match got {
            Next::End => return,
            Next::Event(index, event) => {
                followings[index].hear(event, now);
                followings[index].work(now);
                continue;
            }
            Next::Mail(Mail::Gone(from)) => {
                followings.iter_mut().for_each(|it| it.gone(from, now));
                continue;
            }
            Next::Mail(Mail::Rows(index, number, rows)) => {
                followings[index].answered(number, rows, now);
                continue;
            }
            Next::Mail(Mail::Room) => {
                followings.iter_mut().for_each(|it| it.work(now));
                post.iter_mut().for_each(|it| it.work(now));
                continue;
            }
            Next::Mail(
                mail @ (Mail::Looked(..)
                | Mail::Delivered(..)
                | Mail::Broadcasts(..)
                | Mail::Stop(_)
                | Mail::Inquiry(_, Inquiry { what: What::Push(..), .. })),
            ) => {
                hand(mail, &mut post, ways, now);
                continue;
            }
            Next::Mail(mail) => Some(mail),
            Next::Time => None,
        };
        if let Some(Mail::Store) = got {
            // Before the store is looked at: what comes after that rings again.
            is_rung.store(false, Ordering::Release);
        }
        followings.iter_mut().for_each(|it| it.work(now));
        let got = match got {
            Some(Mail::Inquiry(waiter, Inquiry { what: What::Operate(words), .. })) => {
                let Some(order) = Order::parse(&words) else {
                    let text = "there is no such order".to_owned();
                    ways.tell(waiter, Finding::Told(Err(Denied { status: 400, text })));
                    continue;
                };
                Some(Mail::Order(order, Caller::Session(waiter)))
            }
            Some(Mail::Inquiry(waiter, Inquiry { source, what })) if source.has_upstream => {
                match followings.iter_mut().find(|it| it.is_for(source.dialect)) {
                    Some(following) => following.ask(waiter, what, now),
                    None => ways.tell(waiter, Finding::Unavailable),
                }
                continue;
            }
            got => got,
        };
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

/// Hands what is about push notifications to whoever sends them.
fn hand(mail: Mail, post: &mut Option<Post>, ways: &Ways, now: Now) {
    match (post, mail) {
        (Some(post), Mail::Inquiry(waiter, Inquiry { what: What::Push(app, order), .. })) => {
            post.order(waiter, &app, *order, now, &mut random);
        }
        (None, Mail::Inquiry(waiter, _)) => {
            let off = order::Refused::unknown(NO_POST);
            ways.tell(waiter, Finding::Push(Box::new(Err(off))));
        }
        (Some(post), Mail::Looked(shard, number, are_occupied)) => {
            post.looked(shard, number, &are_occupied, now);
        }
        (Some(post), Mail::Delivered(number, delivered)) => post.delivered(number, delivered, now),
        (Some(post), Mail::Broadcasts(caller, told)) => post.told(caller, told, now),
        (Some(post), Mail::Stop(stopped)) => post.stop(stopped, now),
        // There is nothing under way.
        (None, Mail::Stop(stopped)) => drop(stopped.try_send(())),
        _ => {}
    }
}

const NO_POST: &str = "push notifications are off; push.enabled = \"on\" switches them on";
const NO_RECEIVER: &str =
    "no receiver is configured; a [[webhooks.receivers]] table with a name and a url makes one";
