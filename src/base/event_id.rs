//! The name of one event, for good: a ULID.
//!
//! Ids of a channel strictly increase, whatever its clock does: see [`EventId::next`]. As text they are 26
//! letters of Crockford's base 32, which sort as the numbers do. Source: the ULID specification.

use std::fmt;
use std::str::FromStr;

use ulid::Ulid;

use super::time::UnixMillis;

/// Milliseconds since 1970 in the upper 48 bits, chance in the lower 80.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventId(pub u128);

/// How long an id is as text.
pub const EVENT_ID_CHARS: usize = ulid::ULID_LEN;

impl EventId {
    /// The id after `last` for an event at `at`, made with `chance`: of that moment where that comes after
    /// `last`, else the number after it. So many events of one millisecond, or a clock that steps back,
    /// still give ids in order.
    pub fn next(last: EventId, at: UnixMillis, chance: u128) -> Self {
        let made = Ulid::from_parts(at.0, chance).0;
        Self(if made >> 80 > last.0 >> 80 { made } else { last.0.saturating_add(1) })
    }

    /// Its letters, in `text`.
    pub fn write(self, text: &mut [u8; EVENT_ID_CHARS]) -> &str {
        Ulid(self.0).array_to_str(text)
    }

    /// The time in it.
    pub fn at(self) -> UnixMillis {
        UnixMillis((self.0 >> 80) as u64)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.write(&mut [0; EVENT_ID_CHARS]))
    }
}

/// A text that is no id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAnEventId;

impl FromStr for EventId {
    type Err = NotAnEventId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // Its letters have room for two bits more than a number has.
        if text.as_bytes().first().is_none_or(|it| *it > b'7') {
            return Err(NotAnEventId);
        }
        Ulid::from_string(text).map(|it| Self(it.0)).map_err(|_| NotAnEventId)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_increase_whatever_the_clock_does() {
        let times = [1_000, 1_000, 1_001, 5, 1_001, 9_000, 8_999, u64::MAX >> 16];
        let mut last = EventId::default();
        for (n, at) in times.into_iter().cycle().take(1_000).enumerate() {
            // Chance goes down, so that only the rule can keep the order.
            let id = EventId::next(last, UnixMillis(at), u128::from(u64::MAX) - n as u128);
            assert!(id > last, "{id} after {last}");
            assert!(id.to_string() > last.to_string());
            assert_eq!(id.to_string().parse(), Ok(id));
            last = id;
        }
    }

    #[test]
    fn an_id_tells_its_time_and_reads_back() {
        let id = EventId::next(EventId::default(), UnixMillis(1_700_000_000_123), 77);
        assert_eq!(id.at(), UnixMillis(1_700_000_000_123));
        assert_eq!(id.to_string().len(), EVENT_ID_CHARS);
        for bad in [
            "",
            "01",
            "01JA3HVNF6E89HDT1ABRFWJ8CU",
            "01JA3HVNF6E89HDT1ABRFWJ8C88",
            "81JA3HVNF6E89HDT1ABRFWJ8C8",
        ] {
            assert!(bad.parse::<EventId>().is_err(), "{bad}");
        }
    }
}
