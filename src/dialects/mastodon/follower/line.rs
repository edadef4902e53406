//! What came on judged channels, in order: a status leaves when it is judged, and what came after it follows.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::base::name::Name;
use crate::base::time::{Millis, Nanos};
use crate::broker::Publish;

/// What may be in the line, in number and in bytes; more is not taken.
const LENGTH_MAX: usize = 4096;
const BYTES_MAX: usize = 64 << 20;
/// A status whose relations are not known so long after it came is nobody's.
pub const RELATIONS_WAIT_MAX: Millis = Millis(10_000);
/// So long after it came, a status does not wait for keyword filters any more: accounts whose filters are not known do
/// not get it.
pub const FILTERS_WAIT_MAX: Millis = Millis(1000);

/// A status that waits.
#[derive(Debug)]
pub struct Waiting {
    /// Its number.
    pub number: u64,
    /// Upstream's name of the channel.
    pub channel: Arc<str>,
    /// What it is: new, or changed.
    pub event: Name,
    /// The status, as it came.
    pub payload: Bytes,
    /// The questions about its relations.
    pub lookups: Vec<u64>,
    /// When it came.
    pub arrived: Nanos,
}

/// One place in the line.
#[derive(Debug)]
pub enum Place {
    /// To be published as it is.
    Ready(Box<Publish>),
    /// To be judged.
    Status(Box<Waiting>),
}

impl Place {
    fn bytes(&self) -> usize {
        match self {
            Self::Ready(publish) => publish.data.0.len(),
            Self::Status(status) => status.payload.len(),
        }
    }
}

/// The line.
#[derive(Debug, Default)]
pub struct Line {
    places: VecDeque<Place>,
    bytes: usize,
}

impl Line {
    /// How many are in it.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether nobody is in it.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Whether something of so many bytes may come.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.places.len() < LENGTH_MAX && self.bytes + bytes <= BYTES_MAX
    }

    /// Whether something of so many bytes that is no status may come: a status that is deleted must not stay where it was
    /// shown because others wait, so there is as much room again.
    pub fn has_room_for_others(&self, bytes: usize) -> bool {
        self.places.len() < 2 * LENGTH_MAX && self.bytes + bytes <= 2 * BYTES_MAX
    }

    /// Someone comes.
    pub fn push(&mut self, place: Place) {
        self.bytes += place.bytes();
        self.places.push_back(place);
    }

    /// Who is first.
    pub fn first(&self) -> Option<&Place> {
        self.places.front()
    }

    /// The first leaves.
    pub fn pop(&mut self) -> Option<Place> {
        let place = self.places.pop_front()?;
        self.bytes -= place.bytes();
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_bounded_in_length_and_in_bytes() {
        let status = |bytes: usize| {
            Place::Status(Box::new(Waiting {
                number: 1,
                channel: "a".into(),
                event: "update".into(),
                payload: Bytes::from(vec![0; bytes]),
                lookups: Vec::new(),
                arrived: Nanos(0),
            }))
        };
        let mut line = Line::default();
        for _ in 0..LENGTH_MAX {
            assert!(line.has_room(1));
            line.push(status(1));
        }
        assert!(!line.has_room(1));
        while line.pop().is_some() {}
        assert!(line.is_empty() && line.has_room(BYTES_MAX));
        line.push(status(BYTES_MAX - 1));
        assert!(line.has_room(1) && !line.has_room(2));
    }
}
