//! The table of lanes: which dialect renders which, and the transport header in front.

use std::cell::RefCell;
use std::sync::Arc;

use bytes::Bytes;

use super::{Dialect, LaneKind};
use crate::base::ids::{LANES_MAX, LaneId};
use crate::broker::{Event, Payload, Render, Report};
use crate::config::Config;
use crate::wire::http::chunked;
use crate::wire::websocket::Opcode;
use crate::wire::websocket::deflate::Compressor;
use crate::wire::websocket::encode::{Builder, Compression};

/// What a rendered event takes, mostly; a longer one grows its buffer.
const PAYLOAD_BYTES_EXPECTED: usize = 500;

/// Effort of the compressor, of 9: an event is compressed once, but while its subscribers wait.
const DEFLATE_LEVEL: u32 = 3;

/// Every dialect's lanes, numbered through in the order of the dialects.
pub struct Lanes {
    lanes: Vec<Lane>,
    firsts: Vec<LaneId>,
    /// Those who tell the world outside something; mostly nobody does.
    reporters: Vec<Arc<dyn Dialect>>,
    /// Payloads shorter than this leave uncompressed in a compressed lane, too.
    deflate_bytes_min: usize,
}

struct Lane {
    dialect: Arc<dyn Dialect>,
    /// Its number within the dialect.
    number: usize,
    kind: LaneKind,
}

impl Lanes {
    /// The lanes of these dialects.
    pub fn new(dialects: &[Arc<dyn Dialect>], config: &Config) -> Self {
        let (mut lanes, mut firsts) = (Vec::new(), Vec::new());
        for dialect in dialects {
            firsts.push(LaneId(lanes.len() as u8));
            let kinds = dialect.lanes().iter().enumerate();
            lanes.extend(kinds.map(|(number, &kind)| Lane {
                dialect: dialect.clone(),
                number,
                kind,
            }));
            assert!(lanes.len() <= LANES_MAX, "a set of lanes is one machine word");
        }
        let reporters = dialects.iter().filter(|it| it.reports()).cloned().collect();
        Self { lanes, firsts, reporters, deflate_bytes_min: config.websocket.deflate_bytes_min }
    }

    /// The first lane of the dialect at this place in the list; what its sessions are told.
    pub fn first(&self, dialect: usize) -> LaneId {
        self.firsts[dialect]
    }

    /// How a lane's payload travels.
    pub fn kind(&self, lane: LaneId) -> LaneKind {
        self.lanes[usize::from(lane.0)].kind
    }
}

impl Render for Lanes {
    fn shows_members(&self, lane: LaneId) -> bool {
        let lane = self.lanes.get(usize::from(lane.0));
        lane.is_some_and(|lane| lane.dialect.shows_members(lane.number))
    }

    fn reports(&self) -> bool {
        !self.reporters.is_empty()
    }

    fn reports_members(&self) -> bool {
        self.reporters.iter().any(|dialect| dialect.reports_members())
    }

    fn report(&self, event: &Event, about: Option<&Payload>, out: &mut Vec<Report>) {
        self.reporters.iter().for_each(|dialect| dialect.report(event, about, out));
    }

    fn render(&self, lane: LaneId, event: &Event) -> Option<Bytes> {
        let lane = self.lanes.get(usize::from(lane.0))?;
        if lane.kind == LaneKind::Session {
            return Some(Bytes::new());
        }
        if lane.kind == LaneKind::Chunk {
            let mut chunk = chunked::Builder::with_capacity(PAYLOAD_BYTES_EXPECTED);
            let is_shown = lane.dialect.render(lane.number, event, chunk.payload());
            return Some(chunk.finish()).filter(|piece| is_shown && !piece.is_empty());
        }
        if lane.kind == LaneKind::Plain {
            let mut piece = Vec::with_capacity(PAYLOAD_BYTES_EXPECTED);
            let is_shown = lane.dialect.render(lane.number, event, &mut piece);
            return Some(piece.into()).filter(|piece: &Bytes| is_shown && !piece.is_empty());
        }
        let mut frame = Builder::with_capacity(PAYLOAD_BYTES_EXPECTED);
        if !lane.dialect.render(lane.number, event, frame.payload()) {
            return None;
        }
        let is_worth_it = frame.as_payload().len() >= self.deflate_bytes_min;
        if lane.kind == LaneKind::TextDeflate && is_worth_it {
            let mut smaller = Builder::with_capacity(frame.as_payload().len() / 2);
            if compress(frame.as_payload(), smaller.payload()) {
                return Some(smaller.finish(Opcode::Text, Compression::Deflated));
            }
        }
        let opcode = match lane.kind {
            LaneKind::Binary => Opcode::Binary,
            _ => Opcode::Text,
        };
        Some(frame.finish(opcode, Compression::Plain))
    }
}

thread_local! {
    /// A compressor is large: one serves every lane of the shard that runs on this thread. It keeps
    /// nothing from one message to the next.
    static COMPRESSOR: RefCell<Compressor> = RefCell::new(Compressor::new(DEFLATE_LEVEL));
}

fn compress(payload: &[u8], out: &mut Vec<u8>) -> bool {
    COMPRESSOR.with_borrow_mut(|compressor| compressor.compress(payload, out))
}
