//! How connections end: by the peer, by the session, by a limit, by a time-out. One way out for all:
//! words, flush, FIN, the peer's FIN, close; each step bounded by the phase timer.

use std::sync::atomic::Ordering;

use crate::base::frame::Frame;
use crate::base::time::Millis;
use crate::broker::Parting;
use crate::dialects::{Farewell, Input, Words};
use crate::observe::{CloseReason, Counter, Gauge};
use crate::reactor::SocketId;
use crate::wire::websocket::encode;

use super::connection::{
    Connection, HOLD_BACKLOG, HOLD_PIPELINE, Leaving, Phase, Step, TIMER_PHASE,
};
use super::{Shard, connection};

/// How long the peer may take to close after our FIN, before the descriptor is taken from it.
const LINGER: Millis = Millis(2_000);
/// The close code of a WebSocket that is cut without a close frame. Source: RFC 6455, section 7.4.1.
const NO_FRAME: u16 = 1006;

impl Shard {
    /// How a connection is told goodbye: in its session's words, else in its dialect's.
    pub(super) fn farewell(&self, c: &Connection, reason: CloseReason) -> Option<Farewell> {
        let own = c.session.as_ref().and_then(|session| session.farewell(reason));
        own.or_else(|| self.dialect_of(c).map(|dialect| dialect.farewell(reason)))
    }

    /// Ends a WebSocket connection or an event stream with its dialect's words.
    pub(super) fn say_goodbye(
        &mut self,
        c: &mut Connection,
        farewell: &Farewell,
        reason: CloseReason,
    ) {
        let (Phase::WebSocket | Phase::Streaming(_)) = c.phase else {
            return self.abandon(c, reason);
        };
        if matches!(c.phase, Phase::WebSocket) && farewell.code == NO_FRAME {
            return self.abandon(c, reason);
        }
        match &farewell.message {
            Some(Words::Text(text)) => self.send_text(c, text.as_bytes()),
            Some(Words::Binary(bytes)) => self.send_binary(c, bytes),
            None => {}
        }
        match c.phase {
            Phase::WebSocket => self.close_websocket(c, farewell.code, &farewell.text, reason),
            _ => self.end_stream(c, reason),
        }
    }

    /// Sends a close frame and waits for the peer's.
    pub(super) fn close_websocket(
        &mut self,
        c: &mut Connection,
        code: u16,
        text: &str,
        reason: CloseReason,
    ) {
        self.outboxes.push(c.socket.slot, Frame::from(encode::close_frame(code, text)));
        self.retire(c, parting_of(reason));
        c.phase = Phase::Leaving(Leaving { reason, step: Step::AwaitClose });
        self.arm(c, TIMER_PHASE, self.config.websocket.close_timeout);
    }

    /// Lets what is queued leave, then FIN.
    pub(super) fn finish(&mut self, c: &mut Connection, reason: CloseReason) {
        if matches!(&c.phase, Phase::Leaving(leaving) if leaving.step != Step::AwaitClose) {
            return;
        }
        // Words of an earlier reason stand: the first decision is the one that is counted.
        let reason = if let Phase::Leaving(leaving) = &c.phase { leaving.reason } else { reason };
        // A long answer may leave slowly; last words do not.
        let flush_timeout = match &c.phase {
            Phase::Streaming(_) | Phase::WebSocket | Phase::Leaving(_) => {
                self.config.websocket.close_timeout
            }
            Phase::Head { .. } | Phase::Body(_) | Phase::Answering(_) => {
                self.config.http.body_timeout
            }
        };
        self.retire(c, Parting::Closed);
        c.stream = None;
        c.phase = Phase::Leaving(Leaving { reason, step: Step::Flush });
        self.arm(c, TIMER_PHASE, flush_timeout);
    }

    /// Ends a connection without another word.
    pub(super) fn abandon(&mut self, c: &mut Connection, reason: CloseReason) {
        let reason = if let Phase::Leaving(leaving) = &c.phase { leaving.reason } else { reason };
        self.retire(c, Parting::Lost);
        c.stream = None;
        c.phase = Phase::Leaving(Leaving { reason, step: Step::Now });
    }

    /// Takes the session and its subscriptions away; nothing is delivered from here on. Of several partings of one
    /// connection the first counts.
    pub(super) fn retire(&mut self, c: &mut Connection, parting: Parting) {
        if c.session.is_some() {
            self.run(c, Input::Closed);
        }
        self.end_session(c);
        let mut ups = std::mem::take(&mut self.ups);
        self.edge.close(c.id, parting, &mut ups);
        self.send_ups(&mut ups);
        self.ups = ups;
        for kind in 0..connection::TIMERS as u8 {
            self.disarm(c, kind);
        }
        self.unhold(c, HOLD_BACKLOG | HOLD_PIPELINE);
    }

    /// Takes the session away, and tells the world outside if that remembers the connection for its sake.
    pub(super) fn end_session(&mut self, c: &mut Connection) {
        c.session = None;
        if std::mem::take(&mut c.stands) {
            self.outside.gone(c.id);
        }
    }

    /// Takes the next step of an ending if its time has come, and keeps the connection until the last.
    pub(super) fn leave_on(&mut self, mut c: Box<Connection>) {
        let flushed = self.outboxes.is_empty(c.socket.slot);
        let ended = c.ended;
        let Phase::Leaving(leaving) = &mut c.phase else { return self.check_in(c) };
        let mut finish = false;
        match leaving.step {
            Step::Now => return self.drop_connection(c),
            Step::Flush | Step::AwaitClose if flushed && ended => return self.drop_connection(c),
            Step::Flush if flushed => {
                leaving.step = Step::AwaitEnd;
                finish = true;
            }
            Step::AwaitEnd if ended => return self.drop_connection(c),
            Step::Flush | Step::AwaitClose | Step::AwaitEnd => {}
        }
        if finish {
            self.driver.finish(c.socket);
            self.arm(&mut c, TIMER_PHASE, LINGER);
        }
        let slot = c.socket.slot as usize;
        self.connections[slot] = Some(c);
    }

    /// The end: forgets the connection and gives its socket back.
    fn drop_connection(&mut self, mut c: Box<Connection>) {
        for kind in 0..connection::TIMERS as u8 {
            self.disarm(&mut c, kind);
        }
        let reason = match &c.phase {
            Phase::Leaving(leaving) => leaving.reason,
            _ => CloseReason::Peer,
        };
        self.assembly_bytes -= c.assembly_bytes_counted;
        self.outboxes.close(c.socket.slot);
        self.driver.close(c.socket);
        self.connections_open -= 1;
        self.shared.connections.fetch_sub(1, Ordering::Relaxed);
        let metrics = self.metrics();
        metrics.closed(reason, c.dialect.map(usize::from));
        metrics.set(Gauge::Connections, u64::from(self.connections_open));
    }

    /// A send is with the kernel.
    pub(super) fn sent(&mut self, socket: SocketId, bytes: usize) {
        let Some(Some(connection)) = self.connections.get(socket.slot as usize) else { return };
        if connection.socket != socket {
            return;
        }
        let is_leaving = matches!(connection.phase, Phase::Leaving(_));
        let is_held = connection.holds & HOLD_PIPELINE != 0;
        self.count(Counter::BytesOut, bytes as u64);
        let is_empty = self.outboxes.sent(socket.slot, bytes);
        if is_empty
            && (is_leaving || is_held)
            && let Some(mut connection) = self.check_out(socket)
        {
            if is_held {
                // Its answers are taken: on with the requests that waited for that.
                self.feed_pipelined(&mut connection);
            }
            self.check_in(connection);
        }
    }

    /// The peer will send no more.
    pub(super) fn ended(&mut self, c: &mut Connection) {
        c.ended = true;
        match &c.phase {
            // A WebSocket without its peer's voice is over, and so is an event stream, whose peer has no other way to
            // say that it has gone; so is HTTP between or within requests, once
            // the answers to those before have left.
            Phase::WebSocket | Phase::Streaming(_) => self.abandon(c, CloseReason::Peer),
            Phase::Head { .. } | Phase::Body(_) if self.outboxes.is_empty(c.socket.slot) => {
                self.abandon(c, CloseReason::Peer)
            }
            // Requests of it wait until their forerunners' answers have left.
            Phase::Head { .. } if c.holds & HOLD_PIPELINE != 0 => {}
            Phase::Head { .. } | Phase::Body(_) => self.finish(c, CloseReason::Peer),
            // Whoever asked and half-closed still gets the answer.
            Phase::Answering(_) | Phase::Leaving(_) => {}
        }
    }

    /// The bound of the phase has passed.
    pub(super) fn phase_timed_out(&mut self, c: &mut Connection) {
        match &c.phase {
            Phase::Head { pending, .. } if pending.is_empty() => {
                self.abandon(c, CloseReason::Timeout)
            }
            Phase::Head { .. } | Phase::Body(_) => {
                self.refuse(c, 408, "the request did not arrive in time", CloseReason::Timeout);
            }
            Phase::Leaving(_) => self.abandon(c, CloseReason::Timeout),
            Phase::Answering(_) | Phase::Streaming(_) | Phase::WebSocket => {}
        }
    }

    /// Ends slow consumers: each is told by its dialect, if it ever reads again, and dropped if not.
    pub(super) fn relieve(&mut self) {
        while let Some(slot) = self.outboxes.take_slow() {
            self.end_slow(slot);
        }
        let bytes_max = self.config.limits.outbox_bytes_per_shard_max;
        if self.outboxes.bytes() <= bytes_max {
            return;
        }
        let mut fat = self.outboxes.fattest_last();
        while self.outboxes.bytes() > bytes_max
            && let Some(slot) = fat.pop()
        {
            let before = self.outboxes.bytes();
            self.end_slow(slot);
            if self.outboxes.bytes() >= before
                && let Some(mut c) = self.connections[slot as usize].take()
            {
                // All that is left is in flight: nothing to give back but the connection itself.
                self.abandon(&mut c, CloseReason::SlowConsumer);
                self.check_in(c);
            }
        }
    }

    fn end_slow(&mut self, slot: u32) {
        let Some(mut c) = self.connections[slot as usize].take() else { return };
        let dropped = self.outboxes.drop_queued(slot);
        self.count(Counter::FramesDropped, dropped as u64);
        self.count(Counter::SlowConsumers, 1);
        match (&c.phase, self.farewell(&c, CloseReason::SlowConsumer)) {
            (Phase::WebSocket | Phase::Streaming(_), Some(farewell)) => {
                self.say_goodbye(&mut c, &farewell, CloseReason::SlowConsumer);
            }
            _ => self.abandon(&mut c, CloseReason::SlowConsumer),
        }
        self.check_in(c);
    }
}

/// What a channel's home is told of a connection that we end.
pub(super) fn parting_of(reason: CloseReason) -> Parting {
    match reason {
        CloseReason::Timeout => Parting::Silent,
        CloseReason::Asked => Parting::Forced,
        _ => Parting::Closed,
    }
}
