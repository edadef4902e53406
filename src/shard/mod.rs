//! One thread's worth of everything: a driver, its sockets, the sessions that talk to them, the
//! channels at home here, and the mailboxes to the other shards.
//!
//! Read [`Shard::tick`] first: it is the only caller of everything else. The same shard runs on every
//! driver, the simulated one included; it never reads a clock or waits but through its driver.

pub mod back;
mod connection;
mod drain;
mod http;
mod leave;
mod mail;
pub mod mesh;
mod outbox;
mod stages;
mod streaming;
mod tally;
mod tally_push;
mod websocket;

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::base::frame::Frame;
use crate::base::ids::{ConnectionId, LaneId, ShardId};
use crate::base::prng::Prng;
use crate::base::time::{Nanos, Now};
use crate::base::wheel::Wheel;
use crate::broker::edge::Edge;
use crate::broker::home::Home;
use crate::broker::{Down, Reply, Up};
use crate::config::Config;
use crate::dialects::lanes::Lanes;
use crate::dialects::{Dialect, Input, Output, TimerKind};
use crate::observe::{CloseReason, Counter, Gauge, Metrics, ShardMetrics};
use crate::outbound::{hooks, push};
use crate::reactor::{Completion, Driver, ListenerId, SocketId, Wait};
use crate::store::Keeper;
use crate::store::health::Health;
use crate::wire::http::{DateText, FieldsSpare};
use crate::wire::websocket::deflate::Inflater;
use crate::wire::websocket::encode;

use back::Outside;
use connection::{Connection, HOLD_BACKLOG, Phase, TIMER_PHASE, TIMERS};
use mesh::Ports;
use outbox::Outboxes;
use stages::Stages;
use tally::{CountedLanes, Tally};

/// Timers fired in one tick; the rest waits for the next.
const TIMERS_PER_TICK: usize = 4096;
/// The close code for "try again later". Source: IANA's registry of WebSocket close codes.
const TRY_AGAIN_LATER: u16 = 1013;
/// How soon mail that found its mailbox full is tried again.
const BACKLOG_RETRY_NS: u64 = 100_000;
/// Connections above the process's limit that are still accepted, per shard, so that each can be refused by
/// name; above that they are closed unread.
const REFUSALS_PER_SHARD: u32 = 64;

/// What all shards and the server share: a few numbers that change at connect, close and drain.
#[derive(Debug, Default)]
pub struct Shared {
    /// Connections in the process.
    pub connections: AtomicU32,
    /// The process drains.
    pub draining: AtomicBool,
    /// The process stops now, drained or not.
    pub stopping: AtomicBool,
    /// What webhooks came to.
    pub webhooks: Arc<hooks::Counts>,
    /// What push notifications came to.
    pub push: Arc<push::Counts>,
}

/// What a shard is made of.
pub struct Parts {
    /// Which one.
    pub id: ShardId,
    /// Its kernel.
    pub driver: Box<dyn Driver>,
    /// What it listens on already.
    pub listeners: Vec<ListenerId>,
    /// Its mailboxes.
    pub ports: Ports,
    /// The channels at home here.
    pub home: Home,
    /// The subscriptions of its connections.
    pub edge: Edge,
    /// The checked settings.
    pub config: Arc<Config>,
    /// The protocols, in the order in which they look at a request.
    pub dialects: Arc<Vec<Arc<dyn Dialect>>>,
    /// Their lanes.
    pub lanes: Lanes,
    /// Where it counts.
    pub metrics: Arc<Metrics>,
    /// What it shares with the other shards.
    pub shared: Arc<Shared>,
    /// Who answers inquiries.
    pub outside: Box<dyn Outside>,
    /// Who keeps what is durable.
    pub keeper: Box<dyn Keeper>,
    /// How the store is, for the one shard that counts what it did.
    pub health: Option<Arc<Health>>,
    /// Makes connection ids differ from those of an earlier process.
    pub seed: u32,
}

/// Whether a shard has more to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It goes on.
    Running,
    /// It drained; nothing is left.
    Done,
}

/// What a shard holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Connections.
    pub connections: usize,
    /// Channels at home here.
    pub channels: usize,
    /// Subscriptions of its connections.
    pub subscriptions: usize,
    /// Bytes in outboxes, in flight included.
    pub outbox_bytes: usize,
    /// Bytes of messages and bodies that are not whole.
    pub assembly_bytes: usize,
    /// Armed timers.
    pub timers: usize,
    /// Mails waiting in backlogs.
    pub backlog_mails: usize,
    /// What the store was asked and has not answered.
    pub store_asks: usize,
    /// Bytes of events that channels keep in memory.
    pub history_bytes: u64,
}

/// One shard.
pub struct Shard {
    id: ShardId,
    driver: Box<dyn Driver>,
    ports: Ports,
    home: Home,
    edge: Edge,
    config: Arc<Config>,
    dialects: Arc<Vec<Arc<dyn Dialect>>>,
    lanes: CountedLanes,
    metrics: Arc<Metrics>,
    shared: Arc<Shared>,
    outside: Box<dyn Outside>,
    keeper: Box<dyn Keeper>,
    seed: u32,
    random: Prng,
    now: Now,
    listeners: Vec<ListenerId>,
    /// By socket slot.
    connections: Vec<Option<Box<Connection>>>,
    connections_open: u32,
    outboxes: Outboxes,
    /// Bytes of messages and bodies that are not whole, over all connections.
    assembly_bytes: usize,
    timers: Wheel<u64>,
    stages: Stages,
    tally: Tally,
    drain: Option<drain::Drain>,
    /// Connections that wait for the up backlogs to shrink.
    held: Vec<u32>,
    date: DateText,
    fields: FieldsSpare,
    inflater: Inflater,
    asks: mail::Asks,
    /// When mail last came; spinning pays only soon after.
    mail_at: Nanos,
    /// The last turn brought completions.
    worked: bool,
    // Reused buffers.
    completions: Vec<Completion>,
    outputs: Vec<Output>,
    ups: Vec<(ShardId, Up)>,
    downs: Vec<(ShardId, Down)>,
    fired: Vec<u64>,
}

impl Shard {
    /// Puts a shard together. It does nothing until it is ticked.
    pub fn new(parts: Parts) -> Self {
        let now = parts.driver.now();
        Self {
            id: parts.id,
            outboxes: Outboxes::new(parts.config.limits.outbox_bytes_high_water),
            assembly_bytes: 0,
            timers: Wheel::new(now.steady),
            driver: parts.driver,
            ports: parts.ports,
            home: parts.home,
            edge: parts.edge,
            config: parts.config,
            dialects: parts.dialects,
            lanes: CountedLanes::new(parts.lanes),
            metrics: parts.metrics,
            shared: parts.shared,
            outside: parts.outside,
            keeper: parts.keeper,
            seed: parts.seed,
            random: Prng::new(u64::from(parts.id.0) << 32 | u64::from(parts.seed)),
            now,
            listeners: parts.listeners,
            connections: Vec::new(),
            connections_open: 0,
            stages: Stages::default(),
            tally: Tally::new(parts.health),
            drain: None,
            held: Vec::new(),
            date: DateText::new(now.wall),
            fields: FieldsSpare::default(),
            inflater: Inflater::new(),
            asks: mail::Asks::default(),
            mail_at: Nanos(0),
            worked: false,
            completions: Vec::new(),
            outputs: Vec::new(),
            ups: Vec::new(),
            downs: Vec::new(),
            fired: Vec::new(),
        }
    }

    /// What it holds at this moment: all zero once its peers are gone and its mail is taken.
    pub fn held(&self) -> Held {
        Held {
            connections: self.connections_open as usize,
            channels: self.home.channels(),
            subscriptions: self.edge.subscriptions(),
            outbox_bytes: self.outboxes.bytes(),
            assembly_bytes: self.assembly_bytes,
            timers: self.timers.len(),
            backlog_mails: self.ports.backlog_up() + self.ports.backlog_down(),
            store_asks: self.home.store_asks_open(),
            history_bytes: self.home.history_bytes(),
        }
    }

    /// One turn of the loop. The order has its reasons:
    ///
    /// 1. the driver submits what the last tick queued, waits, and reaps: one system call;
    /// 2. one clock read serves everything below;
    /// 3. completions run sessions, whose asks become mail;
    /// 4. mail in: asks before answers, so that what we ask ourselves is answered in this very tick;
    /// 5. timers, after the input that may have made them moot;
    /// 6. slow consumers, found by what was queued above, before any of it is submitted;
    /// 7. dirty outboxes, once, after everything that could add to them: one send each;
    /// 8. mail out, all of it, then one wake for each peer that sleeps.
    ///
    /// Every loop has a budget; what it leaves makes the next wait zero.
    pub fn tick(&mut self) -> Life {
        let wait = self.choose_wait();
        if let Err(error) = self.driver.turn(wait, &mut self.completions) {
            // Only our own misuse or a broken kernel gets here; the caller ends the process.
            panic!("shard {}: the driver failed: {error}", self.id.0);
        }
        self.ports.doorbell().parking.cancel();
        self.now = self.driver.now();
        self.worked = !self.completions.is_empty();
        self.stages.reaped(self.now.steady, self.metrics.shard(self.id));
        self.take_completions();
        self.take_mail();
        self.fire_timers();
        let life = self.drain_some();
        self.relieve();
        self.flush();
        self.publish_mail();
        self.tally(self.now.steady);
        life
    }

    fn metrics(&self) -> &ShardMetrics {
        self.metrics.shard(self.id)
    }

    fn count(&self, counter: Counter, n: u64) {
        self.metrics.shard(self.id).add(counter, n);
    }

    /// Chance for one request.
    fn next_chance(&mut self) -> u128 {
        u128::from(self.random.next_u64()) << 64 | u128::from(self.random.next_u64())
    }

    /// How long the driver may wait. Spins a little first when mail came lately, because a
    /// wake costs its sender as much as a send.
    fn choose_wait(&mut self) -> Wait {
        if !self.outboxes.is_clean() || self.has_mail() {
            return Wait::No;
        }
        // A look without waiting first: what came while this tick worked costs no sleep and no wake.
        if std::mem::take(&mut self.worked) {
            return Wait::No;
        }
        let spin = u64::from(self.config.limits.spin_us) * 1000;
        if self.ports.shards() > 1 && self.now.steady.0.saturating_sub(self.mail_at.0) < spin * 4 {
            let start = self.driver.now().steady;
            while self.driver.now().steady.0.saturating_sub(start.0) < spin {
                if self.has_mail() {
                    return Wait::No;
                }
                std::hint::spin_loop();
            }
        }
        // From here on a peer that sends mail wakes us; mail that came before is seen by this look.
        self.ports.doorbell().parking.prepare();
        if self.has_mail() {
            self.ports.doorbell().parking.cancel();
            return Wait::No;
        }
        self.count(Counter::Parks, 1);
        // A peer that empties a mailbox does not wake us: what waits for room is tried again soon.
        let retry = self.ports.backlog_up() + self.ports.backlog_down() > 0;
        // The tick's own moment is past by as long as the tick took, and by the whole wait if the tick before
        // slept: a wait counted from there would end late.
        let now = self.driver.now().steady;
        let retry = retry.then(|| Nanos(now.0 + BACKLOG_RETRY_NS));
        let mut due = [retry, self.timers.next_due(), self.home.next_due(), self.drain_due()];
        due.sort_by_key(|due| due.map_or(u64::MAX, |due| due.0));
        match due[0] {
            None => Wait::Forever,
            Some(due) if due <= now => Wait::No,
            Some(due) => Wait::AtMost(due.since(now)),
        }
    }

    fn take_completions(&mut self) {
        let mut completions = std::mem::take(&mut self.completions);
        for completion in completions.drain(..) {
            match completion {
                Completion::Received { socket, mut bytes } => {
                    if let Some(mut connection) = self.check_out(socket) {
                        self.count(Counter::BytesIn, bytes.len() as u64);
                        self.outboxes.touch(connection.socket.slot, self.now.steady);
                        self.feed(&mut connection, &mut bytes);
                        self.check_in(connection);
                    }
                }
                Completion::Sent { socket, bytes } => self.sent(socket, bytes),
                Completion::Accepted { socket, peer, .. } => self.accept(socket, peer),
                Completion::Ended { socket } => {
                    if let Some(mut connection) = self.check_out(socket) {
                        self.ended(&mut connection);
                        self.check_in(connection);
                    }
                }
                Completion::Failed { socket, .. } => {
                    if let Some(mut connection) = self.check_out(socket) {
                        self.abandon(&mut connection, CloseReason::Peer);
                        self.check_in(connection);
                    }
                }
                Completion::AcceptFailed { .. } => self.count(Counter::AcceptsFailed, 1),
                Completion::Closed { .. } => {}
            }
        }
        self.completions = completions;
    }

    /// Takes a connection out of the table while something is done with it, so that it and the
    /// rest of the shard can be borrowed at once. Stale names find nothing.
    fn check_out(&mut self, socket: SocketId) -> Option<Box<Connection>> {
        let place = self.connections.get_mut(socket.slot as usize)?;
        place.take_if(|connection| connection.socket == socket)
    }

    fn check_out_id(&mut self, id: ConnectionId) -> Option<Box<Connection>> {
        let place = self.connections.get_mut(id.slot as usize)?;
        place.take_if(|connection| connection.id == id)
    }

    /// Puts it back, unless it ended meanwhile.
    fn check_in(&mut self, mut connection: Box<Connection>) {
        self.bound_assembly(&mut connection);
        if matches!(connection.phase, Phase::Leaving(_)) {
            return self.leave_on(connection);
        }
        let slot = connection.socket.slot as usize;
        self.connections[slot] = Some(connection);
    }

    /// Counts what the connection holds of messages and bodies that are not whole. Above the shard's
    /// bound, whoever adds to it is refused: each alone keeps its limit, thousands together would not.
    fn bound_assembly(&mut self, c: &mut Connection) {
        let grew = self.count_assembly(c);
        let bytes_max = self.config.limits.assembly_bytes_per_shard_max;
        if !grew || self.assembly_bytes <= bytes_max {
            return;
        }
        const WHY: &str = "This server is overloaded.";
        match &c.phase {
            Phase::WebSocket => {
                self.close_websocket(c, TRY_AGAIN_LATER, WHY, CloseReason::Overload)
            }
            Phase::Streaming(_) => match self.farewell(c, CloseReason::Overload) {
                Some(farewell) => self.say_goodbye(c, &farewell, CloseReason::Overload),
                None => self.abandon(c, CloseReason::Overload),
            },
            Phase::Leaving(_) => self.abandon(c, CloseReason::Overload),
            Phase::Answering(_) => self.abandon(c, CloseReason::Overload),
            Phase::Head { .. } | Phase::Body(_) => self.refuse(c, 503, WHY, CloseReason::Overload),
        }
        self.count_assembly(c);
    }

    /// Brings the count of assembled bytes up to date; true if this connection holds more than before.
    fn count_assembly(&mut self, c: &mut Connection) -> bool {
        let (before, bytes) = (c.assembly_bytes_counted, c.assembly_bytes());
        self.assembly_bytes = self.assembly_bytes - before + bytes;
        c.assembly_bytes_counted = bytes;
        bytes > before
    }

    fn accept(&mut self, socket: SocketId, peer: SocketAddr) {
        self.count(Counter::ConnectionsAccepted, 1);
        let slot = socket.slot as usize;
        let open = self.shared.connections.fetch_add(1, Ordering::Relaxed);
        let connections_max = self.config.limits.connections_max;
        self.connections_open += 1;
        self.metrics().set(Gauge::Connections, u64::from(self.connections_open));
        if self.connections.len() <= slot {
            self.connections.resize_with(slot + 1, || None);
        }
        // The driver's generation counts the uses of the slot; the seed makes it another series
        // in every process.
        let generation =
            socket.generation.wrapping_add(self.seed ^ socket.slot.wrapping_mul(0x9e37_79b9));
        let id = ConnectionId { shard: self.id, slot: socket.slot, generation };
        let over_capacity = open >= connections_max;
        let mut connection = Box::new(Connection::new(id, socket, peer, over_capacity));
        self.outboxes.open(socket);
        if open >= connections_max.saturating_add(REFUSALS_PER_SHARD) {
            self.abandon(&mut connection, CloseReason::Overload);
        }
        self.arm(&mut connection, TIMER_PHASE, self.config.http.head_timeout);
        self.check_in(connection);
    }

    /// Bytes from the peer, whatever phase it is in.
    fn feed(&mut self, connection: &mut Connection, bytes: &mut [u8]) {
        let used = match connection.phase {
            Phase::WebSocket | Phase::Leaving(_) => 0,
            // Whoever hears an event stream has nothing more to say.
            Phase::Streaming(_) => bytes.len(),
            _ => self.feed_http(connection, bytes),
        };
        if used < bytes.len() {
            self.feed_websocket(connection, &mut bytes[used..]);
        }
    }

    /// Runs a session on one input and carries out what it wants.
    fn run(&mut self, connection: &mut Connection, input: Input<'_>) {
        let Some(session) = connection.session.as_mut() else { return };
        let mut outputs = std::mem::take(&mut self.outputs);
        let now = self.now;
        // A session that panics is our mistake; it costs its own connection and nobody else's.
        let ran = catch_unwind(AssertUnwindSafe(|| session.handle(input, now, &mut outputs)));
        if ran.is_err() {
            outputs.clear();
            connection.session = None;
            self.count(Counter::SessionPanics, 1);
            crate::observe::log::error(
                self.now.wall,
                "session_panicked",
                &[("dialect", &self.dialect_name(connection))],
            );
            self.abandon(connection, CloseReason::Failed);
        }
        for output in outputs.drain(..) {
            // Of one that ends, only what others wait for.
            let is_wanted = matches!(output, Output::Return(..) | Output::Report(_));
            if is_wanted || !matches!(connection.phase, Phase::Leaving(_)) {
                self.carry_out(connection, output);
            }
        }
        self.outputs = outputs;
    }

    fn carry_out(&mut self, connection: &mut Connection, output: Output) {
        match output {
            Output::Text(payload) => self.send_text(connection, &payload),
            Output::Binary(payload) => self.send_binary(connection, &payload),
            Output::Respond(response) => self.respond(connection, response),
            Output::Stream(response) => self.stream(connection, response),
            Output::Ask(ticket, command) => {
                let mut ups = std::mem::take(&mut self.ups);
                self.edge.ask(connection.id, ticket, command, &mut ups);
                if self.send_ups(&mut ups)
                    && self.ports.backlog_up() > self.config.limits.backlog_mails_high_water
                {
                    self.hold(connection, HOLD_BACKLOG);
                }
                self.ups = ups;
            }
            Output::Inquire(ticket, inquiry) => {
                self.count(Counter::Inquiries, 1);
                connection.stands |= inquiry.source.has_upstream && inquiry.what.stands();
                self.outside.ask(connection.id, ticket, inquiry);
            }
            Output::Accept => self.accept_websocket(connection),
            Output::Return(caller, words) => self.give_back(caller, Reply::Returned(words)),
            Output::Report(report) => self.home.report(report, self.now.wall),
            Output::Ping if !matches!(connection.phase, Phase::WebSocket) => {}
            Output::Ping => {
                let frame = Frame::from(encode::ping_frame(b""));
                self.outboxes.push(connection.socket.slot, frame);
            }
            Output::Arm(TimerKind(kind), after) => {
                if kind < TIMER_PHASE {
                    self.arm(connection, kind, after);
                }
            }
            Output::ArmIdle(TimerKind(kind), after) => {
                if kind < TIMER_PHASE {
                    connection.idle = Some((kind, after));
                    self.outboxes.touch(connection.socket.slot, self.now.steady);
                    self.arm(connection, kind, after);
                }
            }
            Output::Close(farewell, reason) => self.say_goodbye(connection, &farewell, reason),
            Output::Count(counter) => self.count(counter, 1),
        }
    }

    /// Mails asks; true if one had to wait in a backlog.
    fn send_ups(&mut self, ups: &mut Vec<(ShardId, Up)>) -> bool {
        let mut waited = false;
        for (to, up) in ups.drain(..) {
            waited |= self.ports.send_up(to, up);
            self.count(Counter::MailsUp, 1);
        }
        if waited {
            self.count(Counter::MailSpills, 1);
        }
        waited
    }

    /// Stops receiving from a connection, for one more reason.
    fn hold(&mut self, connection: &mut Connection, hold: u8) {
        if connection.holds == 0 {
            self.driver.pause(connection.socket);
            self.count(Counter::ReceivePauses, 1);
        }
        if hold == HOLD_BACKLOG && connection.holds & HOLD_BACKLOG == 0 {
            self.held.push(connection.socket.slot);
        }
        connection.holds |= hold;
    }

    /// Takes one reason away, and receives again if it was the last.
    fn unhold(&mut self, connection: &mut Connection, hold: u8) {
        if connection.holds & hold != 0 {
            connection.holds &= !hold;
            if connection.holds == 0 {
                self.driver.resume(connection.socket);
            }
        }
    }

    /// Sets or moves one of a connection's timers.
    fn arm(&mut self, connection: &mut Connection, kind: u8, after: crate::base::time::Millis) {
        self.disarm(connection, kind);
        // Slot, kind and the low half of the generation: enough to miss whoever has the slot next.
        let name = u64::from(connection.id.generation) << 32
            | u64::from(kind) << 24
            | u64::from(connection.id.slot);
        connection.timers[usize::from(kind)] = Some(self.timers.arm(self.now.steady + after, name));
    }

    fn disarm(&mut self, connection: &mut Connection, kind: u8) {
        if let Some(timer) = connection.timers[usize::from(kind)].take() {
            self.timers.cancel(timer);
        }
    }

    fn fire_timers(&mut self) {
        let mut fired = std::mem::take(&mut self.fired);
        self.timers.expire(self.now.steady, TIMERS_PER_TICK, &mut fired);
        for name in fired.drain(..) {
            let id = ConnectionId {
                shard: self.id,
                slot: (name & 0x00ff_ffff) as u32,
                generation: (name >> 32) as u32,
            };
            let kind = (name >> 24) as u8;
            let Some(mut connection) = self.check_out_id(id) else { continue };
            connection.timers[usize::from(kind) % TIMERS] = None;
            self.count(Counter::TimersFired, 1);
            if kind == TIMER_PHASE {
                self.phase_timed_out(&mut connection);
            } else if !self.is_idle_later(&mut connection, kind) {
                self.run(&mut connection, Input::Timer(TimerKind(kind)));
            }
            self.check_in(connection);
        }
        self.fired = fired;
        self.expire_home();
    }

    /// Whether this is the timer of an idle connection, and something was sent or received since: then it is armed again.
    fn is_idle_later(&mut self, connection: &mut Connection, kind: u8) -> bool {
        let Some((_, after)) = connection.idle.filter(|it| it.0 == kind) else { return false };
        let due = self.outboxes.active(connection.socket.slot) + after;
        let left = due.since(self.now.steady).as_millis() as u64;
        if left > 0 {
            self.arm(connection, kind, crate::base::time::Millis(left));
        }
        left > 0
    }

    fn dialect_name(&self, connection: &Connection) -> &'static str {
        connection.dialect.map_or("none", |dialect| self.dialects[usize::from(dialect)].name())
    }

    fn dialect_of(&self, connection: &Connection) -> Option<Arc<dyn Dialect>> {
        connection.dialect.map(|dialect| Arc::clone(&self.dialects[usize::from(dialect)]))
    }

    fn lane_first(&self, dialect: usize) -> LaneId {
        self.lanes.lanes.first(dialect)
    }

    fn flush(&mut self) {
        if self.outboxes.is_clean() {
            return;
        }
        let (sends, gathers) = self.outboxes.flush(self.now.steady, &mut *self.driver);
        let metrics = self.metrics();
        metrics.add(Counter::Sends, sends);
        metrics.add(Counter::SendsGathered, gathers);
        self.stages.flushed(self.driver.now().steady, self.metrics.shard(self.id));
    }
}
