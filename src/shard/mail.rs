//! Mail between shards, taken and sent within budgets.

use bytes::Bytes;

use crate::auth::Finding;
use crate::base::frame::Frame;
use crate::base::ids::{ConnectionId, LaneId, ShardId, Ticket};
use crate::base::time::{Millis, Nanos};
use crate::broker::edge::{Recipient, Sink};
use crate::broker::{Command, Down, Event, Refusal, Reply, Up};
use crate::dialects::{Caller, Input};
use crate::observe::{Counter, Gauge, Histogram, ShardMetrics};

use super::Shard;
use super::back::Arrival;
use super::connection::HOLD_BACKLOG;
use super::outbox::Outboxes;
use super::stages::Stages;

/// Mails taken from one mailbox in one round; a flood from one shard does not starve another's.
const MAILS_PER_SOURCE: usize = 512;
/// Rounds in one tick: an ask to ourselves, its answer and what the answer makes us ask fit.
const ROUNDS: usize = 4;

/// Asks are taken for this long in one tick, and one at least: a batch of large events for peers that take
/// compression would otherwise keep everyone else of the shard waiting until the last is rendered.
const ASKS_TIME: Millis = Millis(2);

/// How far the asks of a tick have come.
#[derive(Default)]
pub(super) struct Asks {
    /// Whose mailbox is looked into first.
    first: u16,
    /// When to stop; none before the first publish.
    until: Option<Nanos>,
    /// The time is up.
    over: bool,
}

/// What an edge says while it takes one mail, kept until the sessions can be run.
#[derive(Default)]
struct Heard {
    answers: Vec<(ConnectionId, Ticket, Reply)>,
    handed: Vec<(ConnectionId, Event)>,
}

struct FanOut<'a> {
    outboxes: &'a mut Outboxes,
    stages: &'a mut Stages,
    metrics: &'a ShardMetrics,
    heard: Heard,
    now: Nanos,
}

impl Sink for FanOut<'_> {
    fn fan_out(
        &mut self,
        lane: LaneId,
        frame: &Bytes,
        recipients: &[Recipient],
        exclude: Option<u32>,
        event: &Event,
    ) {
        // One atomic increment for the whole lane; the recipients share the plain count.
        let frame = Frame::new(frame.clone());
        let slots = recipients.iter().map(|recipient| recipient.slot);
        let delivered = match exclude {
            None => self.outboxes.push_all(&frame, slots),
            Some(excluded) => {
                self.outboxes.push_all(&frame, slots.filter(|slot| *slot != excluded))
            }
        };
        self.metrics.delivered(lane, delivered);
        self.stages.fanned_out(&frame, event.arrived, self.now);
    }

    fn answer(&mut self, to: ConnectionId, ticket: Ticket, reply: Reply) {
        self.heard.answers.push((to, ticket, reply));
    }

    fn hand(&mut self, to: ConnectionId, event: &Event) {
        self.heard.handed.push((to, event.clone()));
    }
}

impl Shard {
    /// Is there mail that could be taken now?
    pub(super) fn has_mail(&mut self) -> bool {
        let asks_too = self.takes_asks();
        self.outside.is_ready() || self.keeper.is_ready() || self.ports.is_busy(asks_too)
    }

    /// Asks are taken only while our own answers find their way: the rule that keeps back-pressure from
    /// becoming a deadlock.
    fn takes_asks(&self) -> bool {
        self.ports.backlog_down() <= self.config.limits.backlog_mails_high_water
    }

    /// Takes mail: asks first, so that those we sent ourselves are answered in the same tick.
    pub(super) fn take_mail(&mut self) {
        self.asks = Asks { first: self.asks.first, until: None, over: false };
        self.take_findings();
        self.take_stored();
        self.take_arrivals();
        for _ in 0..ROUNDS {
            self.ports.publish_own();
            let asks = if self.takes_asks() { self.take_asks() } else { 0 };
            self.ports.publish_own();
            let rest = self.take_answers();
            if asks + rest == 0 {
                return;
            }
            self.mail_at = self.now.steady;
        }
    }

    /// Hands sessions what the world outside has said; the connection may be gone.
    fn take_findings(&mut self) {
        for _ in 0..MAILS_PER_SOURCE {
            let Some((to, ticket, finding)) = self.outside.take() else { return };
            if matches!(finding, Finding::Unavailable) {
                self.count(Counter::InquiriesUnanswered, 1);
            }
            if let Some(mut connection) = self.check_out_id(to) {
                self.run(&mut connection, Input::Found(ticket, finding));
                self.feed_pipelined(&mut connection);
                self.check_in(connection);
            }
        }
    }

    /// Publishes what came from another server that a dialect follows. As long as asks are taken, and no longer at once:
    /// what waits is not read over there.
    fn take_arrivals(&mut self) {
        if !self.takes_asks() {
            return;
        }
        let mut downs = std::mem::take(&mut self.downs);
        for _ in 0..MAILS_PER_SOURCE {
            let publish = match self.outside.arrival() {
                Some(Arrival::Publish(publish)) => publish,
                Some(Arrival::Look(number, channels)) => {
                    let are_occupied = channels.iter().map(|it| self.home.is_occupied(it));
                    self.outside.looked(number, are_occupied.collect());
                    continue;
                }
                None => break,
            };
            self.mail_at = self.now.steady;
            // Nobody waits for an answer; a connection of this name there is not.
            let from = ConnectionId { shard: self.id, slot: u32::MAX, generation: 0 };
            let command = Command::Publish(publish);
            self.handle_up(Up::Ask { from, ticket: Ticket(0), command }, self.id, &mut downs);
            if std::mem::take(&mut self.asks.over) {
                break;
            }
        }
        // What this shard's own peers ask has its time beside that.
        self.asks.until = None;
        self.downs = downs;
        self.ask_keeper();
    }

    /// Lets the home hear what the store has said: events that are on disk now are delivered.
    fn take_stored(&mut self) {
        let mut downs = std::mem::take(&mut self.downs);
        for _ in 0..MAILS_PER_SOURCE {
            let Some((tag, answer)) = self.keeper.take() else { break };
            self.home.stored(tag, answer, self.now, &self.lanes, &mut downs);
            self.send_downs(&mut downs);
        }
        self.downs = downs;
        self.ask_keeper();
    }

    /// Hands the store what the home asks of it.
    fn ask_keeper(&mut self) {
        while self.keeper.has_room()
            && let Some((tag, ask)) = self.home.next_ask()
        {
            self.keeper.ask(tag, ask);
        }
    }

    fn take_asks(&mut self) -> usize {
        if self.asks.over {
            return 0;
        }
        let mut taken = 0;
        let mut downs = std::mem::take(&mut self.downs);
        let shards = self.ports.shards();
        let first = self.asks.first;
        'sources: for nth in 0..shards {
            let from = (first + nth) % shards;
            for _ in 0..MAILS_PER_SOURCE {
                let Some(up) = self.ports.take_up(ShardId(from)) else { break };
                taken += 1;
                let up = match up {
                    Up::Ask { from, ticket, command: Command::Call(to, words) } => {
                        self.call(to, Caller { connection: from, ticket }, &words);
                        continue;
                    }
                    up => up,
                };
                self.handle_up(up, ShardId(from), &mut downs);
                if self.asks.over {
                    // The others are first next time.
                    self.asks.first = (from + 1) % shards;
                    break 'sources;
                }
            }
        }
        self.downs = downs;
        self.ask_keeper();
        taken
    }

    /// Lets the home take one ask, and mails what follows.
    fn handle_up(&mut self, up: Up, from: ShardId, downs: &mut Vec<(ShardId, Down)>) {
        let published = match &up {
            Up::Ask { command: Command::Publish(publish), .. } => Some(publish.arrived),
            _ => None,
        };
        let before = published.map(|_| self.driver.now().steady);
        self.home.handle(up, from, self.now, &self.lanes, downs);
        if let (Some(arrived), Some(before)) = (published, before) {
            let after = self.driver.now().steady;
            let metrics = self.metrics.shard(self.id);
            metrics.add(Counter::EventsPublished, 1);
            metrics.record(Histogram::StageHop, before.since(arrived));
            metrics.record(Histogram::StageRender, after.since(before));
            // Only publishes cost enough to be worth a look at the clock, and they have had it.
            let until = *self.asks.until.get_or_insert(before + ASKS_TIME);
            self.asks.over = after > until;
        }
        self.send_downs(downs);
    }

    /// Hands a session what another says to it. Nobody there: the caller is told.
    fn call(&mut self, to: ConnectionId, caller: Caller, words: &[u8]) {
        match self.check_out_id(to) {
            Some(mut connection) => {
                self.run(&mut connection, Input::Call(caller, words));
                self.check_in(connection);
            }
            None => self.give_back(caller, Reply::Refused(Refusal::NoConnection)),
        }
    }

    /// Sends a caller its answer.
    pub(super) fn give_back(&mut self, caller: Caller, reply: Reply) {
        let Caller { connection: to, ticket } = caller;
        self.count(Counter::MailsDown, 1);
        if self.ports.send_down(to.shard, Down::Answer { to, ticket, reply }) {
            self.count(Counter::MailSpills, 1);
        }
    }

    fn send_downs(&mut self, downs: &mut Vec<(ShardId, Down)>) {
        for (to, down) in downs.drain(..) {
            self.count(Counter::MailsDown, 1);
            if self.ports.send_down(to, down) {
                self.count(Counter::MailSpills, 1);
            }
        }
    }

    fn take_answers(&mut self) -> usize {
        let mut taken = 0;
        let mut heard = Heard::default();
        for from in 0..self.ports.shards() {
            for _ in 0..MAILS_PER_SOURCE {
                let Some(down) = self.ports.take_down(ShardId(from)) else { break };
                taken += 1;
                let mut ups = std::mem::take(&mut self.ups);
                let mut sink = FanOut {
                    outboxes: &mut self.outboxes,
                    stages: &mut self.stages,
                    metrics: self.metrics.shard(self.id),
                    heard: std::mem::take(&mut heard),
                    now: self.now.steady,
                };
                self.edge.handle(down, &mut sink, &mut ups);
                heard = sink.heard;
                self.send_ups(&mut ups);
                self.ups = ups;
                // Before the next mail: a session hears its answer before what came after it.
                for (to, ticket, reply) in heard.answers.drain(..) {
                    match &reply {
                        Reply::Subscribed(_) => self.count_subscribed(),
                        Reply::Refused(_) => self.count(Counter::SubscriptionsRefused, 1),
                        _ => {}
                    }
                    if let Some(mut connection) = self.check_out_id(to) {
                        self.run(&mut connection, Input::Reply(ticket, reply));
                        self.feed_pipelined(&mut connection);
                        self.check_in(connection);
                    }
                }
                for (to, event) in heard.handed.drain(..) {
                    if let Some(mut connection) = self.check_out_id(to) {
                        self.run(&mut connection, Input::Event(&event));
                        self.check_in(connection);
                    }
                }
            }
        }
        taken
    }

    /// Lets the home's own timers (counts to announce, kept events) come due.
    pub(super) fn expire_home(&mut self) {
        let mut downs = std::mem::take(&mut self.downs);
        self.home.expire(self.now, &self.lanes, &mut downs);
        self.send_downs(&mut downs);
        self.downs = downs;
        self.ask_keeper();
    }

    /// Sends all mail, wakes who sleeps, and lets paused peers go on when the backlog has shrunk.
    pub(super) fn publish_mail(&mut self) {
        let published = self.ports.publish();
        if published.wakes > 0 {
            self.count(Counter::Wakes, published.wakes);
        }
        let metrics = self.metrics.shard(self.id);
        metrics.set(Gauge::BacklogUp, published.backlog_up as u64);
        metrics.set(Gauge::BacklogDown, published.backlog_down as u64);
        if !self.held.is_empty()
            && published.backlog_up <= self.config.limits.backlog_mails_high_water / 2
        {
            for slot in std::mem::take(&mut self.held) {
                if let Some(mut connection) = self.connections[slot as usize].take() {
                    self.unhold(&mut connection, HOLD_BACKLOG);
                    self.check_in(connection);
                }
            }
        }
    }
}
