//! When something scheduled is due: `at(2026-01-31T12:00:00)`, in a time zone.
//!
//! A local time that clocks skip is moved forward by as much as they skip; of one that comes twice the first is
//! meant. The zones are in the binary, so that every machine knows the same ones.

use std::fmt;

use jiff::civil::{Date, Time};
use jiff::tz::{TimeZone, TimeZoneDatabase};

use crate::base::time::UnixMillis;

/// A zone's name is not longer.
const ZONE_BYTES_MAX: usize = 64;

/// Why an expression is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtError {
    /// It is not written as it must be.
    Form,
    /// There is no such day or time of day.
    NoSuchTime,
    /// No time zone has the name.
    Zone,
    /// It is over.
    Past,
}

impl fmt::Display for AtError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Form => "scheduleExpression must be at(YYYY-MM-DDThh:mm:ss)",
            Self::NoSuchTime => "scheduleExpression names a day or a time that does not exist",
            Self::Zone => {
                "scheduleExpressionTimezone must be the name of a time zone, like Europe/London"
            }
            Self::Past => "scheduleExpression is in the past",
        })
    }
}

impl std::error::Error for AtError {}

/// The moment an expression means; without a zone, in UTC.
pub fn parse(
    expression: &str,
    zone: Option<&str>,
    wall: UnixMillis,
) -> Result<UnixMillis, AtError> {
    let [year, month, day, hour, minute, second] = numbers(expression).ok_or(AtError::Form)?;
    let exists = |_| AtError::NoSuchTime;
    let date = Date::new(year, month as i8, day as i8).map_err(exists)?;
    let time = Time::new(hour as i8, minute as i8, second as i8, 0).map_err(exists)?;
    let zone = match zone {
        None => TimeZone::UTC,
        Some(name) => named(name).ok_or(AtError::Zone)?,
    };
    // "Compatible" is the rule above. Source: RFC 5545, section 3.3.5, by way of Temporal.
    let at = zone.to_ambiguous_timestamp(date.to_datetime(time)).compatible().map_err(exists)?;
    let at = u64::try_from(at.as_millisecond()).map_err(|_| AtError::Past)?;
    if at <= wall.0 { Err(AtError::Past) } else { Ok(UnixMillis(at)) }
}

/// The six numbers, which the form leaves no more than four digits.
fn numbers(expression: &str) -> Option<[i16; 6]> {
    let inside = expression.strip_prefix("at(")?.strip_suffix(')')?.as_bytes();
    const FORM: &[u8; 19] = b"0000-00-00T00:00:00";
    let fits = |(byte, form): (&u8, &u8)| match form {
        b'0' => byte.is_ascii_digit(),
        _ => byte == form,
    };
    if inside.len() != FORM.len() || !inside.iter().zip(FORM).all(fits) {
        return None;
    }
    let mut numbers = [0; 6];
    let runs = inside.split(|byte| !byte.is_ascii_digit());
    for (number, run) in numbers.iter_mut().zip(runs) {
        *number = run.iter().fold(0, |number, digit| number * 10 + i16::from(digit - b'0'));
    }
    Some(numbers)
}

fn named(name: &str) -> Option<TimeZone> {
    // The library's word for no zone at all.
    if name.len() > ZONE_BYTES_MAX || name.eq_ignore_ascii_case("Etc/Unknown") {
        return None;
    }
    TimeZoneDatabase::bundled().get(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(expression: &str, zone: Option<&str>) -> Result<String, AtError> {
        parse(expression, zone, UnixMillis(0)).map(|at| at.to_civil().to_string())
    }

    #[test]
    fn a_local_time_is_a_moment() {
        for (local, zone, utc) in [
            ("2027-01-31T12:00:00", None, "2027-01-31T12:00:00"),
            ("2028-02-29T23:59:59", Some("UTC"), "2028-02-29T23:59:59"),
            ("9999-12-30T00:00:00", None, "9999-12-30T00:00:00"),
            ("1970-01-01T00:00:01", None, "1970-01-01T00:00:01"),
            ("2026-07-01T12:00:00", Some("Asia/Kolkata"), "2026-07-01T06:30:00"),
            ("2026-07-01T12:00:00", Some("europe/london"), "2026-07-01T11:00:00"),
            // New York skips from 2 to 3 o'clock and has 1 o'clock twice.
            ("2026-03-08T01:59:59", Some("America/New_York"), "2026-03-08T06:59:59"),
            ("2026-03-08T02:00:00", Some("America/New_York"), "2026-03-08T07:00:00"),
            ("2026-03-08T02:30:00", Some("America/New_York"), "2026-03-08T07:30:00"),
            ("2026-03-08T03:30:00", Some("America/New_York"), "2026-03-08T07:30:00"),
            ("2026-11-01T01:30:00", Some("America/New_York"), "2026-11-01T05:30:00"),
            ("2026-11-01T02:00:00", Some("America/New_York"), "2026-11-01T07:00:00"),
            ("2026-03-29T01:30:00", Some("Europe/London"), "2026-03-29T01:30:00"),
            ("2026-03-29T02:00:00", Some("Europe/London"), "2026-03-29T01:00:00"),
            ("2026-10-25T01:30:00", Some("Europe/London"), "2026-10-25T00:30:00"),
            ("2026-10-25T02:00:00", Some("Europe/London"), "2026-10-25T02:00:00"),
            // Lord Howe moves by half an hour.
            ("2026-10-04T02:15:00", Some("Australia/Lord_Howe"), "2026-10-03T15:45:00"),
            ("2026-10-04T02:45:00", Some("Australia/Lord_Howe"), "2026-10-03T15:45:00"),
            ("2026-04-05T01:45:00", Some("Australia/Lord_Howe"), "2026-04-04T14:45:00"),
            ("2026-04-05T02:15:00", Some("Australia/Lord_Howe"), "2026-04-04T15:45:00"),
            // Apia had no 30th of December 2011: the day after is the same time, a day later.
            ("2011-12-29T23:59:59", Some("Pacific/Apia"), "2011-12-30T09:59:59"),
            ("2011-12-30T12:00:00", Some("Pacific/Apia"), "2011-12-30T22:00:00"),
            ("2011-12-31T12:00:00", Some("Pacific/Apia"), "2011-12-30T22:00:00"),
        ] {
            let found = at(&format!("at({local})"), zone);
            assert_eq!(found, Ok(format!("{utc}.000Z")), "{local} {zone:?}");
        }
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for (expression, zone, refused) in [
            ("", None, AtError::Form),
            ("2027-01-31T12:00:00", None, AtError::Form),
            ("at(2027-01-31T12:00:00", None, AtError::Form),
            (" at(2027-01-31T12:00:00)", None, AtError::Form),
            ("at(2027-01-31T12:00:00)\n", None, AtError::Form),
            ("at(2027-01-31 12:00:00)", None, AtError::Form),
            ("at(2027-01-31t12:00:00)", None, AtError::Form),
            ("at(2027-01-31T12:00)", None, AtError::Form),
            ("at(2027-01-31T12:00:00Z)", None, AtError::Form),
            ("at(2027-01-31T12:00:00.5)", None, AtError::Form),
            ("at(+027-01-31T12:00:00)", None, AtError::Form),
            ("at(2027-1-31T012:00:00)", None, AtError::Form),
            ("at(２027-01-31T12:00:00)", None, AtError::Form),
            ("cron(0 10 * * ? *)", None, AtError::Form),
            ("at(2027-02-29T12:00:00)", None, AtError::NoSuchTime),
            ("at(2027-00-01T12:00:00)", None, AtError::NoSuchTime),
            ("at(2027-13-01T12:00:00)", None, AtError::NoSuchTime),
            ("at(2027-01-01T24:00:00)", None, AtError::NoSuchTime),
            ("at(2027-01-01T12:60:00)", None, AtError::NoSuchTime),
            ("at(2027-01-01T12:00:60)", None, AtError::NoSuchTime),
            ("at(2027-01-31T12:00:00)", Some(""), AtError::Zone),
            ("at(2027-01-31T12:00:00)", Some("Mars/Olympus"), AtError::Zone),
            ("at(2027-01-31T12:00:00)", Some("+01:00"), AtError::Zone),
            ("at(2027-01-31T12:00:00)", Some("Etc/Unknown"), AtError::Zone),
            ("at(2027-01-31T12:00:00)", Some("../../etc/passwd"), AtError::Zone),
            ("at(1970-01-01T00:00:00)", None, AtError::Past),
            ("at(1969-12-31T23:59:59)", None, AtError::Past),
            ("at(0000-01-01T00:00:00)", None, AtError::Past),
            ("at(1970-01-01T00:30:00)", Some("Europe/Paris"), AtError::Past),
        ] {
            assert_eq!(at(expression, zone), Err(refused), "{expression} {zone:?}");
        }
        let wall = UnixMillis(1_800_000_000_000);
        assert_eq!(parse("at(2027-01-15T08:00:00)", None, wall), Err(AtError::Past));
        let next = parse("at(2027-01-15T08:00:01)", None, wall);
        assert_eq!(next, Ok(UnixMillis(1_800_000_001_000)));
    }
}
