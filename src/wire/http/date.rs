//! The `Date` field's text (IMF-fixdate). Source: RFC 9110, section 5.6.7.

use crate::base::time::UnixMillis;

/// A second and its text, `Sun, 06 Nov 1994 08:49:37 GMT`; kept by the caller and refreshed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DateText {
    second: u64,
    text: [u8; 29],
}

impl DateText {
    /// The text for a moment; after the year 9999 its last second.
    pub fn new(time: UnixMillis) -> Self {
        let second = time.seconds().min(253_402_300_799);
        Self { second, text: render(second) }
    }

    /// Moves to a moment; costs one comparison within the same second.
    pub fn refresh(&mut self, time: UnixMillis) {
        if time.seconds() != self.second {
            *self = Self::new(time);
        }
    }

    /// The text: 29 bytes of ASCII.
    pub fn as_bytes(&self) -> &[u8] {
        &self.text
    }
}

impl Default for DateText {
    fn default() -> Self {
        Self::new(UnixMillis(0))
    }
}

fn render(second: u64) -> [u8; 29] {
    const DAYS: [[u8; 3]; 7] = [*b"Sun", *b"Mon", *b"Tue", *b"Wed", *b"Thu", *b"Fri", *b"Sat"];
    const MONTHS: [[u8; 3]; 12] = [
        *b"Jan", *b"Feb", *b"Mar", *b"Apr", *b"May", *b"Jun", *b"Jul", *b"Aug", *b"Sep", *b"Oct",
        *b"Nov", *b"Dec",
    ];
    let civil = UnixMillis(second * 1000).to_civil();
    let mut text = *b"Thu, 01 Jan 1970 00:00:00 GMT";
    text[..3].copy_from_slice(&DAYS[usize::from(civil.weekday)]);
    text[8..11].copy_from_slice(&MONTHS[usize::from(civil.month) - 1]);
    for (at, number) in [
        (5, civil.day),
        (12, (civil.year / 100) as u8),
        (14, (civil.year % 100) as u8),
        (17, civil.hour),
        (20, civil.minute),
        (23, civil.second),
    ] {
        text[at] = b'0' + number / 10;
        text[at + 1] = b'0' + number % 10;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_rendered() {
        let cases = [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_399, "Mon, 28 Feb 2000 23:59:59 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_709_164_800, "Thu, 29 Feb 2024 00:00:00 GMT"),
            (1_735_689_599, "Tue, 31 Dec 2024 23:59:59 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
            (253_402_300_799, "Fri, 31 Dec 9999 23:59:59 GMT"),
            (u64::MAX / 1000, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ];
        let mut date = DateText::default();
        for (second, want) in cases {
            date.refresh(UnixMillis(second * 1000 + 7));
            assert_eq!(std::str::from_utf8(date.as_bytes()), Ok(want), "{second}");
        }
    }
}
