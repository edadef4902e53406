//! Dialects that stand in for another server: what their followers want, done.
//!
//! A follower decides and knows no clock and no socket; here are its Redis, its database and the way to the homes of
//! channels. While a home has no room, nothing more is read from Redis: a flood waits there, not here.

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::mpsc;

use super::homes::Homes;
use super::port::Arrivals;
use super::{Mail, SLEEP_MAX, Waiter, Ways};
use crate::auth::What;
use crate::auth::upstream::{Rows, TOO_MANY, Unanswered};
use crate::base::ids::ConnectionId;
use crate::base::time::{Millis, Nanos, Now};
use crate::broker::slots::Slots;
use crate::dialects::upstream::{Follower, FollowerInput, FollowerOutput, Upstream};
use crate::observe::log;
use crate::outbound::postgres::Database;
use crate::outbound::redis::{Event, Feed, Place};

/// Messages taken at once; then whoever else waits has a turn.
const MESSAGES_PER_TURN: usize = 128;
/// How often the pool of connections to the database is looked at.
const POOL_EVERY: Millis = Millis(1000);

/// What a follower is driven with, checked: where its servers are.
pub(super) struct Plan {
    dialect: &'static str,
    follower: Box<dyn Follower>,
    place: Place,
    database: Database,
}

impl Plan {
    /// Fails, in words, if a server's address is none.
    pub(super) fn new(upstream: Upstream) -> Result<Self, String> {
        let Upstream { dialect, servers, follower } = upstream;
        let place = Place::new(&servers.redis).map_err(|why| format!("{dialect}: Redis: {why}"))?;
        let database = Database::new(&servers.postgres)
            .map_err(|why| format!("{dialect}: PostgreSQL: {why}"))?;
        Ok(Self { dialect, follower, place, database })
    }
}

/// A follower at work.
pub(super) struct Following {
    /// Which of them.
    index: usize,
    dialect: &'static str,
    follower: Box<dyn Follower>,
    feed: Feed,
    database: Database,
    /// What the log says of the database; none: nothing yet.
    is_answered: Option<bool>,
    homes: Homes,
    out: mpsc::Sender<Mail>,
    ways: Ways,
    pool_due: Nanos,
    outputs: Vec<FollowerOutput>,
}

impl Following {
    /// Starts. To be called within the runtime.
    pub(super) fn new(
        index: usize,
        plan: Plan,
        slots: Arc<Slots>,
        arrivals: &[Arc<Arrivals>],
        out: mpsc::Sender<Mail>,
        ways: Ways,
    ) -> Self {
        let Plan { dialect, follower, place, database } = plan;
        Self {
            index,
            dialect,
            follower,
            feed: Feed::new(place),
            database,
            is_answered: None,
            homes: Homes::new(slots, arrivals),
            out,
            ways,
            pool_due: Nanos(0),
            outputs: Vec::new(),
        }
    }

    /// Whether inquiries of this dialect are for it.
    pub(super) fn is_for(&self, dialect: &str) -> bool {
        self.dialect == dialect
    }

    /// How long nothing is to be done unless something comes.
    pub(super) fn wait(&self, now: Nanos) -> Duration {
        let due = self.follower.due().unwrap_or(Nanos(u64::MAX)).min(self.pool_due);
        due.since(now).min(SLEEP_MAX)
    }

    /// Looks whether Redis has something, which [`Following::hear`] takes.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        self.feed.poll(context, self.homes.waiting == 0)
    }

    /// Takes what Redis has.
    pub(super) fn hear(&mut self, event: Event, now: Now) {
        let dialect: log::Field<'_> = ("dialect", &self.dialect);
        match event {
            Event::Linked => {
                log::info(now.wall, "redis_connected", &[dialect]);
                self.drive(FollowerInput::Linked, now);
            }
            Event::Unlinked(why) => {
                log::warn(now.wall, "redis_lost", &[dialect, ("why", &why)]);
                self.drive(FollowerInput::Unlinked, now);
            }
            Event::Ready => {
                let (follower, outputs) = (&mut self.follower, &mut self.outputs);
                self.feed.messages(MESSAGES_PER_TURN, |channel, payload| {
                    follower.handle(FollowerInput::Message { channel, payload }, now, outputs);
                });
                self.carry_out();
            }
        }
    }

    /// A session asks.
    pub(super) fn ask(&mut self, waiter: Waiter, what: What, now: Now) {
        self.drive(FollowerInput::Asked(waiter.to, waiter.ticket, what), now);
    }

    /// A connection is gone.
    pub(super) fn gone(&mut self, from: ConnectionId, now: Now) {
        self.drive(FollowerInput::Gone(from), now);
    }

    /// The database has answered, or not.
    pub(super) fn answered(&mut self, number: u64, answer: Result<Rows, Unanswered>, now: Now) {
        let dialect: log::Field<'_> = ("dialect", &self.dialect);
        let is_asked = !matches!(&answer, Err(Unanswered(why)) if why == TOO_MANY);
        let was_answered = match is_asked {
            true => self.is_answered.replace(answer.is_ok()),
            false => self.is_answered,
        };
        match &answer {
            Err(_) if !is_asked => {}
            Ok(_) if was_answered != Some(true) => {
                log::info(now.wall, "postgres_connected", &[dialect]);
            }
            Err(Unanswered(why)) if was_answered != Some(false) => {
                log::warn(now.wall, "postgres_lost", &[dialect, ("why", why)]);
            }
            _ => {}
        }
        self.drive(FollowerInput::Answered(number, answer), now);
    }

    /// Does what it is time for, and puts on its way what there is room for now.
    pub(super) fn work(&mut self, now: Now) {
        if self.pool_due <= now.steady {
            self.pool_due = now.steady + POOL_EVERY;
            let pool = self.database.gauges();
            let pool = FollowerInput::Pool(pool.connections, pool.idle, pool.waiting);
            self.drive(pool, now);
        }
        if self.follower.due().is_some_and(|due| due <= now.steady) {
            self.drive(FollowerInput::Due, now);
        }
        self.homes.flush(|shard| self.ways.wake(shard));
    }

    fn drive(&mut self, input: FollowerInput<'_>, now: Now) {
        self.follower.handle(input, now, &mut self.outputs);
        self.carry_out();
    }

    fn carry_out(&mut self) {
        for output in self.outputs.drain(..) {
            match output {
                FollowerOutput::Tell(to, ticket, finding) => {
                    let waiter = Waiter { shard: to.shard.index(), to, ticket };
                    self.ways.tell(waiter, finding);
                }
                FollowerOutput::Publish(publish) => self.homes.push(publish),
                FollowerOutput::Feed(order) => self.feed.order(order),
                FollowerOutput::Query(number, statement) => {
                    let (database, out, index) =
                        (self.database.clone(), self.out.clone(), self.index);
                    tokio::spawn(async move {
                        let answer = database.ask(statement).await;
                        // Fails only when the thread is gone, and then nobody waits.
                        let _ = out.send(Mail::Rows(index, number, answer)).await;
                    });
                }
            }
        }
        self.homes.flush(|shard| self.ways.wake(shard));
    }
}

/// Waits for mail, for one of the followers' Redis, or until it is time. Without `mail_first` mail comes second: whoever
/// takes turns lets neither keep the other waiting.
pub(super) async fn next(
    mail: &mut mpsc::Receiver<Mail>,
    followings: &mut [Following],
    wait: Duration,
    mail_first: bool,
) -> Next {
    let mut timer = std::pin::pin!(tokio::time::sleep(wait));
    std::future::poll_fn(|context| {
        for is_mail in [mail_first, !mail_first] {
            if is_mail && let Poll::Ready(mail) = mail.poll_recv(context) {
                return Poll::Ready(mail.map_or(Next::End, Next::Mail));
            }
            for (index, following) in followings.iter_mut().enumerate().filter(|_| !is_mail) {
                if let Poll::Ready(event) = following.poll(context) {
                    return Poll::Ready(Next::Event(index, event));
                }
            }
        }
        timer.as_mut().poll(context).map(|()| Next::Time)
    })
    .await
}

/// What was waited for.
pub(super) enum Next {
    /// Nobody sends mail any more.
    End,
    Mail(Mail),
    /// Of the follower with this index.
    Event(usize, Event),
    Time,
}

#[cfg(test)]
#[path = "upstream_tests.rs"]
mod tests;
