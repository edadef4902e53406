//! The HTTP side of a connection: heads, bodies, answers, pipelining, and the switch to WebSocket.

use std::borrow::Cow;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use crate::base::frame::Frame;
use crate::dialects::{Facts, Input, Opening, Request, Response};
use crate::observe::{CloseReason, Counter, Histogram};
use crate::wire::http::chunked::ChunkProgress;
use crate::wire::http::response::{self, Body};
use crate::wire::http::{
    BodyKind, Chunked, Field, Head, HeadLimits, Progress, Version, parse_head,
};
use crate::wire::websocket::HandshakeError;
use crate::wire::websocket::deflate::Agreed;
use crate::wire::websocket::handshake::VERSION_FIELD;

use super::Shard;
use super::connection::{
    BodyState, Connection, Exchange, Framing, HOLD_PIPELINE, Phase, TIMER_PHASE,
};
use super::websocket::Asked;

/// What a peer may pipeline ahead of an answer before we stop receiving.
const PIPELINE_BYTES_MAX: usize = 16 * 1024;
/// Answers that may wait for a peer to take them before its next request is looked at: else one packet of short requests
/// for long answers would fill an outbox in one turn, and keep everyone else of the shard waiting for it.
const ANSWERS_BYTES_MAX: usize = 256 * 1024;
/// A body whose request was answered without it is read and dropped up to this; above it the
/// connection closes, which is cheaper for both.
const DISCARD_BYTES_MAX: u64 = 64 * 1024;
/// A body as long as this is sent as a frame of its own behind its head; a shorter one is copied to it, which is
/// cheaper than a further frame.
const BODY_BYTES_APART: usize = 8 * 1024;

impl Shard {
    /// Takes bytes in an HTTP phase. Returns how many were used: all, unless the connection became a
    /// WebSocket, whose bytes the rest are.
    pub(super) fn feed_http(&mut self, c: &mut Connection, bytes: &mut [u8]) -> usize {
        let waiting = match &mut c.phase {
            Phase::Head { pending, .. } => std::mem::take(pending),
            Phase::Answering(exchange) => {
                exchange.pending.extend_from_slice(bytes);
                self.pace(c);
                return bytes.len();
            }
            _ => Vec::new(),
        };
        if waiting.is_empty() {
            let used = self.read_http(c, bytes);
            if matches!(c.phase, Phase::WebSocket) {
                return used;
            }
            self.keep_rest(c, &bytes[used..], true);
        } else {
            let mut whole = waiting;
            whole.extend_from_slice(bytes);
            let used = self.read_http(c, &mut whole);
            match c.phase {
                Phase::WebSocket => self.feed_websocket(c, &mut whole[used..]),
                // What a slow head adds does not give it more time; what follows a request does.
                _ => self.keep_rest(c, &whole[used..], used > 0),
            }
        }
        self.pace(c);
        bytes.len()
    }

    /// After an answer that came later: goes on with what the peer had pipelined.
    pub(super) fn feed_pipelined(&mut self, c: &mut Connection) {
        if matches!(&c.phase, Phase::Head { pending, .. } if !pending.is_empty()) {
            self.feed_http(c, &mut []);
        }
        self.pace(c);
        let is_held = c.holds & HOLD_PIPELINE != 0;
        if c.ended && !is_held && !matches!(c.phase, Phase::Answering(_) | Phase::Leaving(_)) {
            // What it had asked before it half-closed is answered, and there will be no more.
            self.finish(c, CloseReason::Done);
        }
    }

    /// Stops receiving while too much waits behind an answer. Not until the next answer but until that
    /// has shrunk, or each answer would let in more than it takes away.
    fn pace(&mut self, c: &mut Connection) {
        match &c.phase {
            Phase::Answering(exchange) if exchange.pending.len() > PIPELINE_BYTES_MAX => {
                self.hold(c, HOLD_PIPELINE);
            }
            Phase::Head { pending, .. } if !pending.is_empty() && self.is_behind(c) => {
                self.hold(c, HOLD_PIPELINE);
            }
            _ => self.unhold(c, HOLD_PIPELINE),
        }
    }

    /// Whether so many answers wait for the peer that its next request has to wait, too.
    fn is_behind(&self, c: &Connection) -> bool {
        self.outboxes.bytes_of(c.socket.slot) > ANSWERS_BYTES_MAX
    }

    /// Keeps what is not whole yet; `is_start`: it is the beginning of a head, whose time runs from here.
    fn keep_rest(&mut self, c: &mut Connection, rest: &[u8], is_start: bool) {
        if rest.is_empty() {
            return;
        }
        match &mut c.phase {
            Phase::Head { pending, .. } => {
                pending.extend_from_slice(rest);
                if is_start {
                    self.arm(c, TIMER_PHASE, self.config.http.head_timeout);
                }
            }
            Phase::Answering(exchange) => exchange.pending.extend_from_slice(rest),
            Phase::Body(_) | Phase::Streaming(_) | Phase::WebSocket | Phase::Leaving(_) => {}
        }
    }

    fn read_http(&mut self, c: &mut Connection, bytes: &mut [u8]) -> usize {
        let mut used = 0;
        loop {
            match &c.phase {
                Phase::Head { .. } if self.is_behind(c) => return used,
                Phase::Head { .. } if used < bytes.len() => match self.read_head(c, &bytes[used..])
                {
                    Some(length) => used += length,
                    None => return used,
                },
                Phase::Body(_) if used < bytes.len() => used += self.read_body(c, &bytes[used..]),
                _ => return used,
            }
        }
    }

    /// Reads a head if it is whole, and opens what it asks for. Returns its length.
    fn read_head(&mut self, c: &mut Connection, bytes: &[u8]) -> Option<usize> {
        let Phase::Head { scan, .. } = &mut c.phase else { return None };
        let http = &self.config.http;
        let limits = HeadLimits {
            target_bytes_max: http.target_bytes_max,
            head_bytes_max: http.head_bytes_max,
            head_fields_max: http.head_fields_max,
        };
        let mut fields = self.fields.take();
        let length = match parse_head(bytes, scan, &limits, &mut fields) {
            Ok(Progress::Incomplete) => None,
            Ok(Progress::Complete(head)) => {
                self.open(c, &head, &fields);
                Some(head.len)
            }
            Err(error) => {
                self.refuse(c, error.status(), error.as_str(), CloseReason::Protocol);
                None
            }
        };
        self.fields.put_back(fields);
        length
    }

    /// Asks the dialects, in their order, whose request this is.
    fn open(&mut self, c: &mut Connection, head: &Head<'_>, fields: &[Field<'_>]) {
        let request = Request {
            method: head.method,
            path: head.path,
            query: head.query,
            headers: fields,
            peer: c.peer,
            is_websocket: head.is_websocket(),
            takes_chunks: head.version == Version::Http11,
        };
        if let Some(Err(error)) = &head.websocket {
            return self.refuse_handshake(c, *error, &request);
        }
        // Not whether this shard has come to it: once one shard sends peers away, none takes requests.
        let draining = self.shared.draining.load(Ordering::Relaxed);
        let mut exchange = Box::new(Exchange {
            body: match head.body {
                BodyKind::None => BodyState::Whole,
                BodyKind::Length(length) => BodyState::Length(length),
                BodyKind::Chunked => BodyState::Chunked(Chunked::new()),
            },
            bytes: Vec::new(),
            bytes_max: 0,
            discard: false,
            is_head: head.method == "HEAD",
            framing: match request.takes_chunks {
                true => Framing::Chunked,
                false => Framing::UntilClose,
            },
            keep_alive: head.keep_alive && !draining && !c.over_capacity,
            pending: Vec::new(),
            upgrade: None,
        });
        let chance = self.next_chance();
        let dialects = std::sync::Arc::clone(&self.dialects);
        let agreed = self.agree_on_deflate(fields);
        for (index, dialect) in dialects.iter().enumerate() {
            let facts = Facts {
                connection: c.id,
                now: self.now,
                shards: self.ports.shards(),
                draining,
                lane_first: self.lane_first(index),
                deflate: agreed.is_some_and(Agreed::shares_lane),
                chance,
            };
            let Some(opening) = dialect.open(&request, &facts) else { continue };
            c.dialect = Some(index as u8);
            match opening {
                Opening::Respond(response) => {
                    // Told the outcome instead of to go on, a peer may send the body or leave it: where
                    // the next request starts is anybody's guess. Source: RFC 9110, section 10.1.1.
                    exchange.keep_alive &= !head.expect_continue;
                    c.phase = Phase::Answering(exchange);
                    self.answer_early(c, response);
                }
                Opening::Exchange { session, body_bytes_max } => {
                    let backlog = self.ports.backlog_up();
                    if c.over_capacity || backlog > self.config.limits.backlog_mails_high_water {
                        return self.refuse_exchange(
                            c,
                            503,
                            "This server is overloaded.",
                            CloseReason::Overload,
                        );
                    }
                    exchange.bytes_max = body_bytes_max.min(self.config.http.body_bytes_max);
                    c.session = Some(session);
                    self.start_body(c, exchange, head.expect_continue);
                }
                Opening::Decide { session, message_bytes_max, deflate, protocol, headers } => {
                    let agreed = agreed.filter(|_| deflate);
                    let asked = Asked { session, message_bytes_max, agreed, protocol, headers };
                    self.decide(c, head, exchange, asked);
                }
                Opening::WebSocket { session, message_bytes_max, deflate } => {
                    let agreed = agreed.filter(|_| deflate);
                    self.upgrade(c, head, session, message_bytes_max, agreed);
                }
            }
            return;
        }
        c.phase = Phase::Answering(exchange);
        self.answer_early(c, plain(404, "Nothing is served at this path.\n"));
    }

    /// Someone wants a WebSocket and asks for it wrongly.
    fn refuse_handshake(
        &mut self,
        c: &mut Connection,
        error: HandshakeError,
        request: &Request<'_>,
    ) {
        let answer = self.dialects.iter().find_map(|dialect| dialect.refuse_handshake(request));
        let answer = answer.unwrap_or_else(|| {
            let mut answer = plain(error.status(), error.as_str());
            if answer.status == 426 {
                let (name, value) = VERSION_FIELD;
                answer.headers.push((name, Cow::Borrowed(value)));
            }
            answer
        });
        let status = answer.status;
        self.count(Counter::http_refused(status), 1);
        self.write_response(c, status, &answer.headers, Body::Bytes(&answer.body), false);
        self.finish(c, CloseReason::Protocol);
    }

    fn start_body(&mut self, c: &mut Connection, exchange: Box<Exchange>, expect_continue: bool) {
        match exchange.body {
            BodyState::Whole => {
                c.phase = Phase::Answering(exchange);
                self.disarm(c, TIMER_PHASE);
                return self.run(c, Input::Body(&[]));
            }
            BodyState::Length(length) if length > exchange.bytes_max as u64 => {
                return self.refuse_exchange(
                    c,
                    413,
                    "The request body is too large.",
                    CloseReason::TooLarge,
                );
            }
            BodyState::Length(_) | BodyState::Chunked(_) => {}
        }
        if expect_continue {
            self.outboxes.push(c.socket.slot, Frame::new(Bytes::from_static(response::CONTINUE)));
        }
        c.phase = Phase::Body(exchange);
        self.arm(c, TIMER_PHASE, self.config.http.body_timeout);
    }

    /// Reads on in a body. Returns how many bytes belonged to it.
    fn read_body(&mut self, c: &mut Connection, bytes: &[u8]) -> usize {
        let Phase::Body(exchange) = &mut c.phase else { return 0 };
        let used = match &mut exchange.body {
            BodyState::Whole => 0,
            BodyState::Length(left) => {
                let here = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= here as u64;
                if *left == 0 && exchange.bytes.is_empty() && !exchange.discard {
                    // In one piece: the session reads it where the kernel put it.
                    self.body_came(c, Some(&bytes[..here]));
                    return here;
                }
                if !exchange.discard {
                    exchange.bytes.extend_from_slice(&bytes[..here]);
                }
                if *left > 0 {
                    return here;
                }
                here
            }
            BodyState::Chunked(chunked) => {
                match chunked.read(bytes, &mut exchange.bytes, exchange.bytes_max) {
                    Ok(ChunkProgress::More) => return bytes.len(),
                    Ok(ChunkProgress::Done { used }) => used,
                    Err(error) => {
                        let reason = if error.status() == 413 {
                            CloseReason::TooLarge
                        } else {
                            CloseReason::Protocol
                        };
                        self.refuse_exchange(c, error.status(), error.as_str(), reason);
                        return bytes.len();
                    }
                }
            }
        };
        self.body_came(c, None);
        used
    }

    /// The body is whole: `piece` if it came in one, else it was assembled.
    fn body_came(&mut self, c: &mut Connection, piece: Option<&[u8]>) {
        let Phase::Body(mut exchange) = std::mem::replace(&mut c.phase, Phase::idle()) else {
            return;
        };
        if exchange.discard {
            return self.await_request(c, exchange.pending);
        }
        let assembled = std::mem::take(&mut exchange.bytes);
        c.phase = Phase::Answering(exchange);
        self.disarm(c, TIMER_PHASE);
        self.run(c, Input::Body(piece.unwrap_or(&assembled)));
        let parsed = self.driver.now().steady.since(self.now.steady);
        self.metrics().record(Histogram::StageParse, parsed);
    }

    /// Answers before the body was read; the body, if it is small, is then dropped as it comes.
    fn answer_early(&mut self, c: &mut Connection, response: Response) {
        let Phase::Answering(exchange) = &mut c.phase else { return };
        let rest = match &mut exchange.body {
            BodyState::Length(length) if *length <= DISCARD_BYTES_MAX => {
                Some(std::mem::replace(&mut exchange.body, BodyState::Whole))
            }
            BodyState::Whole => None,
            BodyState::Length(_) | BodyState::Chunked(_) => {
                exchange.keep_alive = false;
                None
            }
        };
        self.respond(c, response);
        if let (Some(body), Phase::Head { .. }) = (rest, &c.phase) {
            c.phase = Phase::Body(Box::new(Exchange {
                body,
                bytes: Vec::new(),
                bytes_max: 0,
                discard: true,
                is_head: false,
                framing: Framing::UntilClose,
                keep_alive: true,
                pending: Vec::new(),
                upgrade: None,
            }));
            self.arm(c, TIMER_PHASE, self.config.http.body_timeout);
        }
    }

    /// Writes the answer and gets ready for the next request, or ends the connection.
    pub(super) fn respond(&mut self, c: &mut Connection, answer: Response) {
        let Phase::Answering(_) = &c.phase else { return };
        let Phase::Answering(exchange) = std::mem::replace(&mut c.phase, Phase::idle()) else {
            return;
        };
        self.end_session(c);
        let is_large = answer.body.len() >= BODY_BYTES_APART;
        let is_apart = is_large && answer.status == 200 && !exchange.is_head;
        let body = if exchange.is_head || is_apart {
            Body::Omitted(answer.body.len())
        } else {
            Body::Bytes(&answer.body)
        };
        // Whoever has half-closed may have asked more before that: it waits behind this answer, or waited for room.
        let has_more = !exchange.pending.is_empty() || c.holds & HOLD_PIPELINE != 0;
        let keep = exchange.keep_alive && (!c.ended || has_more);
        self.write_response(c, answer.status, &answer.headers, body, keep);
        if is_apart {
            self.outboxes.push(c.socket.slot, Frame::new(answer.body));
        }
        if keep {
            self.await_request(c, exchange.pending);
        } else {
            self.finish(c, CloseReason::Done);
        }
    }

    fn await_request(&mut self, c: &mut Connection, pending: Vec<u8>) {
        let http = &self.config.http;
        let timeout = if pending.is_empty() { http.idle_timeout } else { http.head_timeout };
        c.phase = Phase::Head { pending, scan: Default::default() };
        self.arm(c, TIMER_PHASE, timeout);
    }

    /// Refuses what was asked, by name, and closes: after such a request nobody knows where the next starts.
    pub(super) fn refuse(
        &mut self,
        c: &mut Connection,
        status: u16,
        why: &'static str,
        reason: CloseReason,
    ) {
        self.refuse_with(c, &plain(status, why), reason);
    }

    /// The same for a request that a dialect took, in its words if it has any.
    fn refuse_exchange(
        &mut self,
        c: &mut Connection,
        status: u16,
        why: &'static str,
        reason: CloseReason,
    ) {
        let dialect = c.dialect.map(|it| &self.dialects[usize::from(it)]);
        let own = dialect.and_then(|it| it.refuse_exchange(status, why));
        self.refuse_with(c, &own.unwrap_or_else(|| plain(status, why)), reason);
    }

    fn refuse_with(&mut self, c: &mut Connection, answer: &Response, reason: CloseReason) {
        let status = answer.status;
        self.count(Counter::http_refused(status), 1);
        self.write_response(c, status, &answer.headers, Body::Bytes(&answer.body), false);
        self.finish(c, reason);
    }

    pub(super) fn write_response(
        &mut self,
        c: &Connection,
        status: u16,
        headers: &[(&'static str, Cow<'static, str>)],
        body: Body<'_>,
        keep_alive: bool,
    ) {
        self.count(Counter::http_answered(status), 1);
        self.date.refresh(self.now.wall);
        let connection =
            if keep_alive { response::Connection::KeepAlive } else { response::Connection::Close };
        let mut out = Vec::new();
        let headers = headers.iter().map(|(name, value)| (*name, value.as_ref()));
        response::write(&mut out, status, headers, body, &self.date, connection);
        self.outboxes.push(c.socket.slot, Frame::from(out));
    }
}

fn plain(status: u16, why: &'static str) -> Response {
    let mut headers = vec![("Content-Type", Cow::Borrowed("text/plain; charset=utf-8"))];
    if status == 503 {
        headers.push(("Retry-After", Cow::Borrowed("1")));
    }
    Response { status, headers, body: Bytes::from_static(why.as_bytes()) }
}
