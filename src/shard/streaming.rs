//! The event stream side of a connection: an HTTP answer that goes on, piece by piece, until its session ends it.
//!
//! Nothing is kept for it but the phase: pieces that many peers get are rendered for their lane, framing included, and
//! go from the edge to the outboxes as WebSocket frames do.

use bytes::Bytes;

use crate::base::frame::Frame;
use crate::dialects::{Input, Response};
use crate::observe::{CloseReason, Counter};
use crate::wire::http::chunked;
use crate::wire::http::response::Body;

use super::Shard;
use super::connection::{Connection, Framing, HOLD_PIPELINE, Phase, TIMER_PHASE};
use super::leave::parting_of;

impl Shard {
    /// Answers with an event stream: its head, what it begins with, and then whatever the session says.
    pub(super) fn stream(&mut self, c: &mut Connection, answer: Response) {
        let Phase::Answering(exchange) = &c.phase else { return };
        let (framing, is_head) = (exchange.framing, exchange.is_head);
        let body = match framing {
            Framing::Chunked => Body::Chunked,
            Framing::UntilClose => Body::UntilClose,
        };
        // Nobody reads what comes after the request, so nobody may ask more.
        self.write_response(c, answer.status, &answer.headers, body, false);
        c.phase = Phase::Streaming(framing);
        self.disarm(c, TIMER_PHASE);
        // What it pipelined is dropped, and its end must be seen.
        self.unhold(c, HOLD_PIPELINE);
        if is_head {
            return self.finish(c, CloseReason::Done);
        }
        self.count(Counter::EventStreams, 1);
        self.send_piece(c, framing, &answer.body);
        if c.ended {
            // It half-closed while the answer was worked on: as one that does so later.
            return self.end_stream(c, CloseReason::Peer);
        }
        self.run(c, Input::Opened);
    }

    /// Queues the next piece; without bytes there is none.
    pub(super) fn send_piece(&mut self, c: &Connection, framing: Framing, payload: &[u8]) {
        if payload.is_empty() {
            return;
        }
        let piece = match framing {
            Framing::Chunked => {
                let mut chunk = chunked::Builder::with_capacity(payload.len());
                chunk.payload().extend_from_slice(payload);
                chunk.finish()
            }
            Framing::UntilClose => Bytes::copy_from_slice(payload),
        };
        self.outboxes.push(c.socket.slot, Frame::new(piece));
    }

    /// Ends the stream: the body is whole, then FIN.
    pub(super) fn end_stream(&mut self, c: &mut Connection, reason: CloseReason) {
        if let Phase::Streaming(Framing::Chunked) = c.phase {
            self.outboxes.push(c.socket.slot, Frame::new(Bytes::from_static(chunked::END)));
        }
        self.retire(c, parting_of(reason));
        self.finish(c, reason);
    }
}
