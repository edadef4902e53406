//! What frames of version 2 are written in: JSON, MessagePack or Protobuf, in both directions.
//!
//! Everything is built and read as JSON; the other two are made from a finished frame, once for each lane, and a
//! message in one of them becomes the JSON that it stands for. Source: Sockudo's wire formats, and what its clients
//! decode: its server writes `extras` as an array, which none of them reads, so here it is the map that they write.

mod msgpack;
mod protobuf;

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;

use crate::dialects::Words;
use crate::wire::json::{self, Kind, Raw};
use crate::wire::msgpack::MsgpackError;
use crate::wire::protobuf::ProtobufError;

/// How deep a message's values may nest.
const DEPTH_MAX: usize = 32;

/// A format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Text.
    #[default]
    Json,
    /// A MessagePack array of fifteen places.
    MessagePack,
    /// A Protobuf message.
    Protobuf,
}

/// Why a message is not one of its format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// It is not MessagePack.
    MessagePack(MsgpackError),
    /// It is not Protobuf.
    Protobuf(ProtobufError),
    /// It is neither an array nor a map.
    NotAnEnvelope,
    /// A map's key is not text.
    Key,
    /// A text is not UTF-8.
    Utf8,
    /// More follows what should be all.
    Trailing,
    /// It nests deeper than `DEPTH_MAX`.
    TooDeep,
}

impl From<MsgpackError> for DecodeError {
    fn from(error: MsgpackError) -> Self {
        Self::MessagePack(error)
    }
}

impl From<ProtobufError> for DecodeError {
    fn from(error: ProtobufError) -> Self {
        Self::Protobuf(error)
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MessagePack(error) => error.fmt(f),
            Self::Protobuf(error) => error.fmt(f),
            Self::NotAnEnvelope => f.write_str("neither an array nor a map"),
            Self::Key => f.write_str("a map's key is not text"),
            Self::Utf8 => f.write_str("a text is not UTF-8"),
            Self::Trailing => f.write_str("more follows the message"),
            Self::TooDeep => write!(f, "nested deeper than {DEPTH_MAX}"),
        }
    }
}

impl Format {
    /// Reads the parameter; none: it names none.
    pub fn read(text: &str) -> Option<Self> {
        let is = |names: &[&str]| names.iter().any(|name| name.eq_ignore_ascii_case(text));
        let formats = [
            (&["json", ""], Self::Json),
            (&["messagepack", "msgpack"], Self::MessagePack),
            (&["protobuf", "proto"], Self::Protobuf),
        ];
        formats.into_iter().find(|(names, _)| is(*names)).map(|(_, format)| format)
    }

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::MessagePack => "messagepack",
            Self::Protobuf => "protobuf",
        }
    }

    /// Appends a finished JSON frame in this format.
    pub fn encode(self, json: &[u8], out: &mut Vec<u8>) {
        let read = match self {
            Self::Json => return out.extend_from_slice(json),
            Self::MessagePack | Self::Protobuf => json::parse(json),
        };
        // Frames are built here: they are JSON.
        debug_assert!(read.is_ok(), "{}", String::from_utf8_lossy(json));
        let Ok(frame) = read else { return };
        match self {
            Self::Protobuf => protobuf::encode(frame, out),
            _ => msgpack::encode(frame, out),
        }
    }

    /// A finished JSON frame in this format.
    pub fn encoded(self, json: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(json.len());
        self.encode(json, &mut out);
        out
    }

    /// A message in this format as a JSON frame; of a message that is JSON already, itself.
    pub fn decode(self, bytes: &[u8]) -> Result<String, DecodeError> {
        let json = match self {
            Self::Json => bytes.to_vec(),
            Self::MessagePack => msgpack::decode(bytes)?,
            Self::Protobuf => protobuf::decode(bytes)?,
        };
        String::from_utf8(json).map_err(|_| DecodeError::Utf8)
    }

    /// A finished JSON frame as a connection's last message in this format.
    pub(super) fn words(self, frame: Vec<u8>) -> Option<Words> {
        match self {
            Self::Json => String::from_utf8(frame).ok().map(|it| Words::Text(it.into())),
            format => Some(Words::Binary(Bytes::from(format.encoded(&frame)))),
        }
    }
}

/// Appends what holds a JSON text as the JSON it holds; what is none is a string.
fn write_json(out: &mut Vec<u8>, text: &str) {
    match json::parse_str(text) {
        Ok(value) => out.extend_from_slice(value.text().as_bytes()),
        Err(_) => json::write_str(out, text),
    }
}

/// Appends bytes as JSON, which has no word for them: a list of numbers.
fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'[');
    for (i, byte) in bytes.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        crate::wire::write_decimal(out, u64::from(*byte));
    }
    out.push(b']');
}

/// Appends a number, which JSON has only where it is finite.
fn write_number(out: &mut Vec<u8>, number: f64) {
    if number.is_finite() {
        // With an exponent where that is shorter.
        super::frames::append(out, format_args!("{number:?}"));
    } else {
        out.extend_from_slice(b"null");
    }
}

/// An object's members that are text.
fn texts<'a>(value: Raw<'a>) -> impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)> {
    value.members().filter_map(|(name, value)| Some((name, value.as_str()?)))
}

/// A header's value, of which there are three kinds; anything else is its own text.
enum Header<'a> {
    Text(Cow<'a, str>),
    Number(f64),
    Bool(bool),
}

impl<'a> Header<'a> {
    fn of(value: Raw<'a>) -> Self {
        let text = || Self::Text(value.as_str().unwrap_or(value.text().into()));
        match value.kind() {
            Kind::Number => value.as_f64().map_or_else(text, Self::Number),
            Kind::Bool => value.as_bool().map_or_else(text, Self::Bool),
            _ => text(),
        }
    }
}

#[cfg(test)]
#[path = "formats_tests.rs"]
mod tests;
