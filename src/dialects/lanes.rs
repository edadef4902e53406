//! The table of lanes: which dialect renders which, and the transport header in front.

use std::sync::Arc;

use bytes::Bytes;

use super::{Dialect, LaneKind};
use crate::base::ids::{LANES_MAX, LaneId};
use crate::broker::{Event, Render};
use crate::config::Config;

/// Room for the longest WebSocket header of a message to a peer. Source: RFC 6455, section 5.2.
const HEADROOM: usize = 10;

/// Every dialect's lanes, numbered through in the order of the dialects.
pub struct Lanes {
    lanes: Vec<Lane>,
    firsts: Vec<LaneId>,
}

struct Lane {
    dialect: Arc<dyn Dialect>,
    /// Its number within the dialect.
    number: usize,
    kind: LaneKind,
}

impl Lanes {
    /// The lanes of these dialects.
    pub fn new(dialects: &[Arc<dyn Dialect>], _config: &Config) -> Self {
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
        Self { lanes, firsts }
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
    fn render(&self, lane: LaneId, event: &Event) -> Option<Bytes> {
        let lane = self.lanes.get(usize::from(lane.0))?;
        let mut frame = Vec::with_capacity(512);
        frame.resize(HEADROOM, 0);
        if !lane.dialect.render(lane.number, event, &mut frame) {
            return None;
        }
        let length = frame.len() - HEADROOM;
        // One unfragmented text message. Source: RFC 6455, section 5.2.
        let start = match length {
            0..=125 => {
                frame[8..10].copy_from_slice(&[0x81, length as u8]);
                8
            }
            126..=0xffff => {
                frame[6..8].copy_from_slice(&[0x81, 126]);
                frame[8..10].copy_from_slice(&(length as u16).to_be_bytes());
                6
            }
            _ => {
                frame[..2].copy_from_slice(&[0x81, 127]);
                frame[2..10].copy_from_slice(&(length as u64).to_be_bytes());
                0
            }
        };
        Some(Bytes::from(frame).slice(start..))
    }
}
