//! Small numbers with a type each, so that two of them cannot be swapped.

use std::fmt;

/// One pinned thread with its reactor, sockets and channels, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(pub u16);

impl ShardId {
    /// Its place in a table of shards.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// An app's place in the table of apps (`auth::Apps`), counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AppIndex(pub u16);

/// A lane's place in the table of lanes, below [`LANES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaneId(pub u8);

/// How many lanes there may be: a set of them is one machine word.
pub const LANES_MAX: usize = 64;

/// An event's position in its channel, from 1; 0 is "before the first".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Serial(pub u64);

/// Which life of a channel its serials count in; a new one means older positions are void.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Epoch(pub u128);

/// How long an epoch is as text.
pub const EPOCH_CHARS: usize = 36;

impl Epoch {
    /// As a UUID is written, which is what clients of protocols with streams expect to keep. It stands in every
    /// event of a page, so it is not left to formatting.
    pub fn to_text(self) -> [u8; EPOCH_CHARS] {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut text = [b'-'; EPOCH_CHARS];
        let mut at = 0;
        for byte in self.0.to_be_bytes() {
            if matches!(at, 8 | 13 | 18 | 23) {
                at += 1;
            }
            text[at] = HEX[usize::from(byte >> 4)];
            text[at + 1] = HEX[usize::from(byte & 15)];
            at += 2;
        }
        text
    }
}

impl fmt::Display for Epoch {
    /// As [`Epoch::to_text`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.to_text()).expect("digits and dashes"))
    }
}

impl std::str::FromStr for Epoch {
    type Err = std::num::ParseIntError;

    /// Reads what [`fmt::Display`] wrote: 32 digits, with dashes anywhere or none.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.replace('-', "");
        // One digit too many is an overflow, even if it is a zero.
        let digits = if digits.len() == 32 { digits.as_str() } else { "" };
        u128::from_str_radix(digits, 16).map(Self)
    }
}

/// What a session calls one of its asks; the reply carries it back. Unique per session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(pub u32);

/// Connections a shard can hold: a slot must fit 24 bits of a [`ConnectionId`]'s first number.
pub const CONNECTIONS_PER_SHARD_MAX: usize = 1 << 24;
/// Shards there can be: a shard must fit the 8 bits above the slot.
pub const SHARDS_MAX: usize = 1 << 8;

/// One connection, for as long as the process runs: the generation of a slot never repeats
/// within 2^32 uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId {
    /// The shard that holds its socket (its edge).
    pub shard: ShardId,
    /// Its slot in that shard's slab, below [`CONNECTIONS_PER_SHARD_MAX`].
    pub slot: u32,
    /// Which use of the slot.
    pub generation: u32,
}

impl ConnectionId {
    /// Two decimal integers that name this connection on the wire: `shard << 24 | slot` and the
    /// generation. Both stay below 10^10, as Pusher's socket ids must.
    pub fn to_pair(self) -> (u32, u32) {
        (u32::from(self.shard.0) << 24 | self.slot, self.generation)
    }

    /// The inverse of [`ConnectionId::to_pair`]; any two numbers name some (perhaps absent) connection.
    pub fn from_pair(first: u32, second: u32) -> Self {
        Self { shard: ShardId((first >> 24) as u16), slot: first & 0x00ff_ffff, generation: second }
    }
}

impl fmt::Display for ConnectionId {
    /// The two integers joined by a dot: Pusher's `socket_id`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, second) = self.to_pair();
        write!(f, "{first}.{second}")
    }
}

impl std::str::FromStr for ConnectionId {
    type Err = std::num::ParseIntError;

    /// Reads what [`fmt::Display`] wrote; fails on anything but two `u32` joined by one dot.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (first, second) = text.split_once('.').unwrap_or((text, ""));
        Ok(Self::from_pair(first.parse()?, second.parse()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_looks_like_a_uuid_and_reads_back() {
        let epoch = Epoch(0x0123_4567_89ab_cdef_0011_2233_4455_6677);
        assert_eq!(epoch.to_string(), "01234567-89ab-cdef-0011-223344556677");
        assert_eq!(epoch.to_string().parse(), Ok(epoch));
        for bad in ["", "-", "x", "01234567-89ab-cdef-0011-2233445566778"] {
            assert!(bad.parse::<Epoch>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_socket_id_reads_back() {
        let id = ConnectionId { shard: ShardId(3), slot: 77, generation: 4_000_000_000 };
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", ".", "1", "1.", ".1", "1.2.3", "-1.2", "1.99999999999"] {
            assert!(bad.parse::<ConnectionId>().is_err(), "{bad}");
        }
    }
}
