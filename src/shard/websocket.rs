//! The WebSocket side of a connection: messages in, control frames answered, text out.

use std::borrow::Cow;

use crate::base::frame::Frame;
use crate::dialects::{Input, Session};
use crate::observe::{CloseReason, Counter};
use crate::wire::http::{Field, Head};
use crate::wire::websocket::deflate::{self, Agreed, InflateError};
use crate::wire::websocket::encode::{self, Compression};
use crate::wire::websocket::handshake::write_accept;
use crate::wire::websocket::{Decoder, FrameError, MessageKind, Opcode, Role, Step};

use super::Shard;
use super::connection::{Connection, Exchange, Phase, Stream, TIMER_PHASE, Upgrade};

/// Makes a close frame without a code; see [`encode::close_frame`].
const NO_CODE: u16 = 1005;

/// A WebSocket whose session decides whether there will be one.
pub(super) struct Asked {
    pub session: Box<dyn Session>,
    pub message_bytes_max: usize,
    pub agreed: Option<Agreed>,
    pub protocol: Option<String>,
    pub headers: Vec<(&'static str, Cow<'static, str>)>,
}

impl Shard {
    /// Answers the handshake and lets the session greet.
    pub(super) fn upgrade(
        &mut self,
        c: &mut Connection,
        head: &Head<'_>,
        session: Box<dyn Session>,
        message_bytes_max: usize,
        agreed: Option<Agreed>,
    ) {
        let Some(Ok(handshake)) = &head.websocket else {
            return self.refuse(c, 400, "This path speaks WebSocket.", CloseReason::Protocol);
        };
        let mut accept = Vec::new();
        write_accept(&mut accept, handshake, None, agreed, []);
        c.session = Some(session);
        self.switch(c, Upgrade { accept, message_bytes_max, deflate: agreed.is_some() });
    }

    /// Lets the session decide whether there will be a WebSocket.
    pub(super) fn decide(
        &mut self,
        c: &mut Connection,
        head: &Head<'_>,
        mut exchange: Box<Exchange>,
        asked: Asked,
    ) {
        let Asked { session, message_bytes_max, agreed, protocol, headers } = asked;
        let Some(Ok(handshake)) = &head.websocket else {
            return self.refuse(c, 400, "This path speaks WebSocket.", CloseReason::Protocol);
        };
        let is_busy = self.ports.backlog_up() > self.config.limits.backlog_mails_high_water;
        if c.over_capacity || is_busy {
            return self.refuse(c, 503, "This server is overloaded.", CloseReason::Overload);
        }
        let mut accept = Vec::new();
        let headers = headers.iter().map(|(name, value)| (*name, value.as_ref()));
        write_accept(&mut accept, handshake, protocol.as_deref(), agreed, headers);
        let deflate = agreed.is_some();
        exchange.upgrade = Some(Box::new(Upgrade { accept, message_bytes_max, deflate }));
        // Whatever is said instead ends the connection: it was meant to become another.
        exchange.keep_alive = false;
        c.phase = Phase::Answering(exchange);
        c.session = Some(session);
        self.disarm(c, TIMER_PHASE);
        self.run(c, Input::Asked);
    }

    /// The session accepts the WebSocket that it was asked for.
    pub(super) fn accept_websocket(&mut self, c: &mut Connection) {
        let Phase::Answering(exchange) = &mut c.phase else { return };
        let Some(upgrade) = exchange.upgrade.take() else { return };
        let mut pending = std::mem::take(&mut exchange.pending);
        self.switch(c, *upgrade);
        if !pending.is_empty() {
            self.feed_websocket(c, &mut pending);
        }
    }

    fn switch(&mut self, c: &mut Connection, upgrade: Upgrade) {
        let Upgrade { accept, message_bytes_max, deflate } = upgrade;
        self.outboxes.push(c.socket.slot, Frame::from(accept));
        self.count(Counter::Handshakes, 1);
        self.disarm(c, TIMER_PHASE);
        let message_bytes_max = message_bytes_max.min(self.config.websocket.message_bytes_max);
        c.phase = Phase::WebSocket;
        c.stream = Some(Box::new(Stream {
            decoder: Decoder::new(Role::Server, message_bytes_max, deflate),
            assembly: Vec::new(),
            message_bytes_max: message_bytes_max as u32,
        }));
        if c.over_capacity {
            return match self.farewell(c, CloseReason::Overload) {
                Some(farewell) => self.say_goodbye(c, &farewell, CloseReason::Overload),
                None => self.abandon(c, CloseReason::Overload),
            };
        }
        self.run(c, Input::Opened);
    }

    /// What of permessage-deflate is agreed with a peer that sent these fields.
    pub(super) fn agree_on_deflate(&self, fields: &[Field<'_>]) -> Option<Agreed> {
        self.config.websocket.deflate.then(|| deflate::negotiate(fields)).flatten()
    }

    /// Takes bytes of a WebSocket, open or waiting for the peer's close frame.
    pub(super) fn feed_websocket(&mut self, c: &mut Connection, bytes: &mut [u8]) {
        // Out of the connection while it is read, so that the session can run meanwhile.
        let Some(mut stream) = c.stream.take() else { return };
        let mut input = bytes;
        loop {
            let step = stream.decoder.next(&mut input, &mut stream.assembly);
            match (step, &c.phase) {
                (Ok(Step::NeedMore), _) => break,
                (Ok(step), Phase::WebSocket) => {
                    self.take_step(c, step, stream.message_bytes_max as usize);
                }
                // We said goodbye first: whatever is not the peer's goodbye is dropped.
                (Ok(Step::Close { .. }), _) => self.finish(c, CloseReason::Peer),
                (Ok(_), _) => {}
                (Err(error), _) => self.fail_websocket(c, error),
            }
            if !c.reads_websocket() {
                return;
            }
        }
        if !stream.decoder.is_assembling() && stream.assembly.capacity() > 0 {
            stream.assembly = Vec::new();
        }
        c.stream = Some(stream);
    }

    /// Acts on one message or control frame.
    fn take_step(&mut self, c: &mut Connection, step: Step<'_>, message_bytes_max: usize) {
        match step {
            Step::NeedMore => {}
            Step::Text(text) => {
                self.count(Counter::MessagesIn, 1);
                self.run(c, Input::Text(text));
            }
            Step::Binary(bytes) => {
                self.count(Counter::MessagesIn, 1);
                self.run(c, Input::Binary(bytes));
            }
            Step::Deflated(kind, bytes) => {
                self.count(Counter::MessagesIn, 1);
                match self.inflater.inflate(bytes, message_bytes_max) {
                    Ok(message) => self.take_inflated(c, kind, &message),
                    Err(InflateError::TooLarge) => self.fail_websocket(c, FrameError::TooLarge),
                    Err(error) => {
                        self.count(Counter::protocol_error(error.close_code()), 1);
                        self.close_websocket(
                            c,
                            error.close_code(),
                            error.as_str(),
                            CloseReason::Protocol,
                        );
                        self.finish(c, CloseReason::Protocol);
                    }
                }
            }
            Step::Ping(payload) => {
                self.outboxes.push(c.socket.slot, Frame::from(encode::pong_frame(payload)));
            }
            Step::Pong(_) => self.run(c, Input::Pong),
            Step::Close { code, .. } => {
                let code = code.unwrap_or(NO_CODE);
                self.outboxes.push(c.socket.slot, Frame::from(encode::close_frame(code, "")));
                self.finish(c, CloseReason::Peer);
            }
        }
    }

    fn take_inflated(&mut self, c: &mut Connection, kind: MessageKind, message: &[u8]) {
        match kind {
            MessageKind::Binary => self.run(c, Input::Binary(message)),
            MessageKind::Text => match std::str::from_utf8(message) {
                Ok(text) => self.run(c, Input::Text(text)),
                Err(_) => self.fail_websocket(c, FrameError::Utf8),
            },
        }
    }

    /// Fails the connection as RFC 6455, section 7.1.7, says: the close frame, then no more reading.
    fn fail_websocket(&mut self, c: &mut Connection, error: FrameError) {
        let code = error.close_code();
        self.count(Counter::protocol_error(code), 1);
        let reason = match error {
            FrameError::TooLarge => CloseReason::TooLarge,
            FrameError::Utf8 => CloseReason::Utf8,
            _ => CloseReason::Protocol,
        };
        if matches!(c.phase, Phase::WebSocket) {
            // In which words is the dialect's affair, but for a breach of the protocol, where it matters which.
            let is_breach = reason == CloseReason::Protocol;
            let farewell = self.farewell(c, reason).filter(|it| !is_breach && it.code == code);
            let text = farewell.map_or(Cow::Borrowed(error.as_str()), |it| it.text);
            self.close_websocket(c, code, &text, reason);
        }
        self.finish(c, reason);
    }

    /// Sends a text message, or the next piece of an event stream.
    pub(super) fn send_text(&mut self, c: &Connection, payload: &[u8]) {
        let frame = match c.phase {
            Phase::Streaming(framing) => return self.send_piece(c, framing, payload),
            Phase::WebSocket => Frame::from(encode::text_frame(payload)),
            _ => return,
        };
        self.count(Counter::MessagesOut, 1);
        self.outboxes.push(c.socket.slot, frame);
    }

    pub(super) fn send_binary(&mut self, c: &Connection, payload: &[u8]) {
        match c.phase {
            Phase::Streaming(framing) => return self.send_piece(c, framing, payload),
            Phase::WebSocket => {}
            _ => return,
        }
        self.count(Counter::MessagesOut, 1);
        let mut out = Vec::with_capacity(payload.len() + encode::HEADROOM);
        encode::write_frame(&mut out, Opcode::Binary, Compression::Plain, payload);
        self.outboxes.push(c.socket.slot, Frame::from(out));
    }
}
