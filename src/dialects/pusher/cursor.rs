//! Where a page of history ended, as a text that clients hand back.
//!
//! Opaque to them and signed, so that only what we wrote is read; it names its app, channel, epoch, direction
//! and bounds, so that it continues one query and no other. Nothing is remembered here meanwhile.

use std::fmt;

use crate::auth::{App, Apps};
use crate::base::ids::{Epoch, Serial};
use crate::wire::base64::{self, Alphabet};

/// How long a cursor may be that is looked at. Source: Sockudo's history API.
pub const CURSOR_BYTES_MAX: usize = 16 << 10;

/// What stands before all else under the signature: no other text that the secret signs starts so.
const PURPOSE: &[u8] = b"ringmain history cursor\0";

/// The first byte; another one is another layout.
const LAYOUT: u8 = 1;

const TAG_BYTES: usize = 16;

/// Which part of a history a query is about; serials and times inclusive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// From this serial.
    pub start_serial: Option<u64>,
    /// To this serial.
    pub end_serial: Option<u64>,
    /// From this time, in milliseconds since 1970.
    pub start_ms: Option<u64>,
    /// To this time.
    pub end_ms: Option<u64>,
}

/// Where a page ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// In which life of the channel.
    pub epoch: Epoch,
    /// Its last event.
    pub serial: Serial,
    /// The newest come first.
    pub is_newest_first: bool,
    /// What was asked for.
    pub range: Range,
}

/// Why a cursor is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CursorError {
    /// We did not write it.
    Foreign,
    /// We wrote it for another app.
    OtherApp,
    /// We wrote it for another channel.
    OtherChannel,
    /// It continues a query with another direction or other bounds.
    OtherQuery,
}

impl fmt::Display for CursorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Foreign => "cursor is not one of this server's",
            Self::OtherApp => "cursor belongs to another app",
            Self::OtherChannel => "cursor belongs to another channel",
            Self::OtherQuery => {
                "cursor belongs to another query: its direction or bounds are not these"
            }
        })
    }
}

impl Cursor {
    /// The cursor as text.
    pub fn write(&self, app: &App, channel: &str) -> String {
        let mut bytes = vec![LAYOUT];
        for text in [&*app.settings.id, channel] {
            let length = u16::try_from(text.len()).expect("ids and channels are bounded far below");
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
        bytes.extend_from_slice(&self.epoch.0.to_le_bytes());
        bytes.extend_from_slice(&self.serial.0.to_le_bytes());
        bytes.push(u8::from(self.is_newest_first));
        for bound in self.range.bounds() {
            bytes.push(u8::from(bound.is_some()));
            bytes.extend_from_slice(&bound.unwrap_or(0).to_le_bytes());
        }
        let tag = app.signing_key.tag(&[PURPOSE, &bytes]);
        bytes.extend_from_slice(&tag);
        encode(&bytes)
    }

    /// Reads what [`Cursor::write`] wrote for this app and channel.
    pub fn read(text: &str, apps: &Apps, app: &App, channel: &str) -> Result<Self, CursorError> {
        if text.len() > CURSOR_BYTES_MAX {
            return Err(CursorError::Foreign);
        }
        let bytes = decode(text).ok_or(CursorError::Foreign)?;
        let end = bytes.len().checked_sub(TAG_BYTES).ok_or(CursorError::Foreign)?;
        let (signed, tag) = bytes.split_at(end);
        let mut rest = Rest(signed);
        let (of_app, of_channel, cursor) = rest.cursor().ok_or(CursorError::Foreign)?;
        let signer = apps.with_id(of_app).ok_or(CursorError::Foreign)?;
        if !rest.0.is_empty() || !signer.signing_key.verify_tag(&[PURPOSE, signed], tag) {
            return Err(CursorError::Foreign);
        }
        if of_app != app.settings.id {
            return Err(CursorError::OtherApp);
        }
        if of_channel != channel {
            return Err(CursorError::OtherChannel);
        }
        Ok(cursor)
    }
}

impl Range {
    fn bounds(&self) -> [Option<u64>; 4] {
        [self.start_serial, self.end_serial, self.start_ms, self.end_ms]
    }

    /// Whether what is given here is the same there.
    pub fn is_part_of(&self, other: &Self) -> bool {
        let pairs = self.bounds().into_iter().zip(other.bounds());
        pairs.into_iter().all(|(given, it)| given.is_none() || given == it)
    }
}

/// What of a cursor's bytes is not read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = usize::from(u16::from_le_bytes(self.take()?));
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }

    fn bound(&mut self) -> Option<Option<u64>> {
        let [is_there] = self.take()?;
        let bound = u64::from_le_bytes(self.take()?);
        Some((is_there == 1).then_some(bound))
    }

    fn cursor(&mut self) -> Option<(&'a str, &'a str, Cursor)> {
        let [LAYOUT] = self.take()? else { return None };
        let (app, channel) = (self.text()?, self.text()?);
        let epoch = Epoch(u128::from_le_bytes(self.take()?));
        let serial = Serial(u64::from_le_bytes(self.take()?));
        let [direction] = self.take()?;
        let range = Range {
            start_serial: self.bound()?,
            end_serial: self.bound()?,
            start_ms: self.bound()?,
            end_ms: self.bound()?,
        };
        Some((app, channel, Cursor { epoch, serial, is_newest_first: direction == 1, range }))
    }
}

fn encode(bytes: &[u8]) -> String {
    let mut out = String::new();
    base64::encode(&mut out, bytes, Alphabet::Url);
    out
}

fn decode(text: &str) -> Option<Vec<u8>> {
    // Some clients pad what is not padded.
    base64::decode(text.trim_end_matches('=').as_bytes(), Alphabet::Url)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::apps::tests::settings;

    fn cursor() -> Cursor {
        Cursor {
            epoch: Epoch(77 << 100 | 5),
            serial: Serial(42),
            is_newest_first: true,
            range: Range { start_serial: Some(3), end_ms: Some(9), ..Range::default() },
        }
    }

    #[test]
    fn a_cursor_is_read_where_it_was_written_for() {
        let apps = Apps::new(&[settings("1", "k", "s"), settings("2", "l", "t")]);
        let (one, two) = (apps.with_id("1").unwrap(), apps.with_id("2").unwrap());
        let text = cursor().write(one, "c");
        assert!(
            text.bytes().all(|it| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'_')),
            "{text}"
        );
        assert_eq!(Cursor::read(&text, &apps, one, "c"), Ok(cursor()));
        assert_eq!(Cursor::read(&format!("{text}=="), &apps, one, "c"), Ok(cursor()));
        assert_eq!(Cursor::read(&text, &apps, one, "d"), Err(CursorError::OtherChannel));
        assert_eq!(Cursor::read(&text, &apps, two, "c"), Err(CursorError::OtherApp));
        let long = "A".repeat(CURSOR_BYTES_MAX + 1);
        for bad in ["", "A", "AAAA", "not base64!", &long, &text[1..], &format!("{text}AAAA")] {
            assert_eq!(Cursor::read(bad, &apps, one, "c"), Err(CursorError::Foreign), "{bad}");
        }
    }

    #[test]
    fn every_changed_character_is_noticed() {
        let apps = Apps::new(&[settings("1", "k", "s")]);
        let app = apps.with_id("1").unwrap();
        let text = cursor().write(app, "presence-c");
        for at in 0..text.len() {
            let mut forged = text.clone().into_bytes();
            forged[at] = if forged[at] == b'A' { b'Q' } else { b'A' };
            let forged = String::from_utf8(forged).unwrap();
            assert!(Cursor::read(&forged, &apps, app, "presence-c").is_err(), "{at}");
        }
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let mut bytes = Vec::new();
        for n in 0..70u8 {
            assert_eq!(decode(&encode(&bytes)), Some(bytes.clone()));
            bytes.push(n.wrapping_mul(37));
        }
        assert_eq!(encode(b"\xfb\xff"), "-_8");
    }
}
