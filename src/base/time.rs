//! Time as a value: the reactor reads the clocks once per tick and everyone else is told.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

/// Nanoseconds of a clock that never steps back; zero is arbitrary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nanos(pub u64);

/// A span in whole milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub u64);

/// Milliseconds since 1970-01-01T00:00:00Z, as the machine's wall clock has it; may step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMillis(pub u64);

/// Both clocks, read together at the start of a tick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// For durations, deadlines and order.
    pub steady: Nanos,
    /// For what people and protocols call the time.
    pub wall: UnixMillis,
}

impl Nanos {
    /// How long before this moment `earlier` was; zero if it was not before.
    pub fn since(self, earlier: Nanos) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Millis> for Nanos {
    type Output = Nanos;
    fn add(self, span: Millis) -> Nanos {
        Nanos(self.0.saturating_add(span.0.saturating_mul(1_000_000)))
    }
}

impl Sub for Nanos {
    type Output = Nanos;
    fn sub(self, other: Nanos) -> Nanos {
        Nanos(self.0.saturating_sub(other.0))
    }
}

impl UnixMillis {
    /// Whole seconds since 1970.
    pub fn seconds(self) -> u64 {
        self.0 / 1000
    }

    /// As people write it, in UTC.
    pub fn to_civil(self) -> Civil {
        let seconds = self.seconds();
        let (days, second_of_day) = (seconds / 86_400, seconds % 86_400);
        // Days are counted from 0000-03-01, so that a leap day is the last of its year; eras have
        // 400 years. Source: Howard Hinnant, "chrono-compatible low-level date algorithms".
        let day = days + 719_468;
        let (era, day_of_era) = (day / 146_097, day % 146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let is_next_year = month_from_march >= 10;
        Civil {
            year: era * 400 + year_of_era + u64::from(is_next_year),
            month: (if is_next_year { month_from_march - 9 } else { month_from_march + 3 }) as u8,
            day: (day_of_year - (153 * month_from_march + 2) / 5 + 1) as u8,
            hour: (second_of_day / 3600) as u8,
            minute: (second_of_day / 60 % 60) as u8,
            second: (second_of_day % 60) as u8,
            millis: (self.0 % 1000) as u16,
            // 1970-01-01 was a Thursday.
            weekday: ((days + 4) % 7) as u8,
        }
    }
}

/// A moment in the calendar, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Civil {
    /// The year.
    pub year: u64,
    /// The month, from 1.
    pub month: u8,
    /// The day of the month, from 1.
    pub day: u8,
    /// The hour, from 0.
    pub hour: u8,
    /// The minute, from 0.
    pub minute: u8,
    /// The second, from 0; there is no leap second.
    pub second: u8,
    /// The millisecond, from 0.
    pub millis: u16,
    /// The day of the week, from Sunday as 0.
    pub weekday: u8,
}

impl fmt::Display for Civil {
    /// As RFC 3339 has it, with milliseconds: `2026-01-31T12:00:00.000Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { year, month, day, hour, minute, second, millis, .. } = self;
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calendar_is_right() {
        for (seconds, text, weekday) in [
            (0, "1970-01-01T00:00:00.000Z", 4),
            (951_782_399, "2000-02-28T23:59:59.000Z", 1),
            (951_782_400, "2000-02-29T00:00:00.000Z", 2),
            (951_868_800, "2000-03-01T00:00:00.000Z", 3),
            (1_700_000_000, "2023-11-14T22:13:20.000Z", 2),
            (1_735_689_599, "2024-12-31T23:59:59.000Z", 2),
            (1_735_689_600, "2025-01-01T00:00:00.000Z", 3),
            (4_107_542_400, "2100-03-01T00:00:00.000Z", 1),
        ] {
            let civil = UnixMillis(seconds * 1000).to_civil();
            assert_eq!((civil.to_string().as_str(), civil.weekday), (text, weekday));
        }
    }
}
