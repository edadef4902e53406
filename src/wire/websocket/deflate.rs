//! permessage-deflate (RFC 7692), each message compressed by itself.
//!
//! Without context takeover in either direction a compressed event is the same bytes for everyone who
//! takes it compressed, and no connection owns a window.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::handshake::values;
use crate::wire::http::Field;
use crate::wire::http::grammar::trim;

/// What was agreed with a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// The window the client asked us to keep to, 8 to 15 bits.
    pub server_window_bits: Option<u8>,
}

impl Agreed {
    /// May it be sent what [`Compressor`] writes for everyone? A client with a smaller window may only
    /// be sent messages no longer than that window compressed, so it belongs into a plain lane; what it
    /// sends itself may be compressed all the same.
    pub fn shares_lane(self) -> bool {
        self.server_window_bits.is_none_or(|bits| bits == WINDOW_BITS_MAX)
    }

    /// Appends the answer's `Sec-WebSocket-Extensions` value.
    pub fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(OFFER.as_bytes());
        if let Some(bits) = self.server_window_bits {
            out.extend_from_slice(b"; server_max_window_bits=");
            crate::wire::write_decimal(out, u64::from(bits));
        }
    }
}

/// The `Sec-WebSocket-Extensions` value our client sends, which is also how the answer starts.
pub const OFFER: &str =
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

const WINDOW_BITS_MAX: u8 = 15;

/// Takes the first offer that can be met; None: go on without. Source: RFC 7692, section 7.1.
///
/// An offer is passed over if it repeats a parameter, has one we do not know, or a value out of range.
/// `client_max_window_bits` needs no answer: our side reads any window.
pub fn negotiate(fields: &[Field<'_>]) -> Option<Agreed> {
    values(fields, "sec-websocket-extensions").flat_map(|value| split(value, b',')).find_map(
        |offer| {
            let parameters = Parameters::parse(offer)?;
            Some(Agreed { server_window_bits: parameters.server_window_bits })
        },
    )
}

/// Is this the answer of a server that does what [`OFFER`] asks?
pub fn accepts(value: &[u8]) -> bool {
    Parameters::parse(value).is_some_and(|parameters| {
        parameters.server_no_context_takeover
            && parameters.client_window_bits.is_none_or(|bits| bits == Some(15))
    })
}

#[derive(Default)]
struct Parameters {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_window_bits: Option<u8>,
    /// The outer: named. The inner: with a value.
    client_window_bits: Option<Option<u8>>,
}

impl Parameters {
    /// None: another extension, or parameters that cannot be met.
    fn parse(offer: &[u8]) -> Option<Self> {
        let mut parts = split(offer, b';');
        if !parts.next()?.eq_ignore_ascii_case(b"permessage-deflate") {
            return None;
        }
        let mut parameters = Self::default();
        for part in parts {
            let (name, value) = match part.iter().position(|&byte| byte == b'=') {
                Some(at) => (trim(&part[..at]), Some(trim(&part[at + 1..]))),
                None => (part, None),
            };
            let is_new = match (&name.to_ascii_lowercase()[..], value) {
                (b"server_no_context_takeover", None) => {
                    !std::mem::replace(&mut parameters.server_no_context_takeover, true)
                }
                (b"client_no_context_takeover", None) => {
                    !std::mem::replace(&mut parameters.client_no_context_takeover, true)
                }
                (b"server_max_window_bits", Some(value)) => {
                    parameters.server_window_bits.replace(window_bits(value)?).is_none()
                }
                (b"client_max_window_bits", None) => {
                    parameters.client_window_bits.replace(None).is_none()
                }
                (b"client_max_window_bits", Some(value)) => {
                    parameters.client_window_bits.replace(Some(window_bits(value)?)).is_none()
                }
                _ => false,
            };
            if !is_new {
                return None;
            }
        }
        Some(parameters)
    }
}

/// 8 to 15, without leading zeros, perhaps quoted.
fn window_bits(value: &[u8]) -> Option<u8> {
    let value = match value {
        [b'"', inner @ .., b'"'] => inner,
        _ => value,
    };
    match value {
        [digit @ (b'8' | b'9')] => Some(digit - b'0'),
        [b'1', digit @ b'0'..=b'5'] => Some(10 + digit - b'0'),
        _ => None,
    }
}

/// Splits at a separator outside quotes; parts are trimmed, empty ones left out.
fn split(value: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    value
        .split(move |&byte| {
            quoted ^= byte == b'"';
            byte == separator && !quoted
        })
        .map(trim)
        .filter(|part| !part.is_empty())
}

/// What every message's last flush ends in, and what is left out of it. Source: RFC 7692, section 7.2.1.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// Compresses whole messages; about 256 KiB, so one per shard.
#[derive(Debug)]
pub struct Compressor(Compress);

impl Compressor {
    /// `level` from 1 (fast) to 9 (small).
    pub fn new(level: u32) -> Self {
        Self(Compress::new(Compression::new(level.clamp(1, 9)), false))
    }

    /// Appends a message's compressed form, ready for a frame marked
    /// [`super::encode::Compression::Deflated`]. False (and nothing appended) if it could not.
    pub fn compress(&mut self, payload: &[u8], out: &mut Vec<u8>) -> bool {
        let start = out.len();
        if payload.is_empty() {
            // RFC 7692, section 7.2.3.6.
            out.push(0);
            return true;
        }
        self.0.reset();
        // Deflate's worst case is five bytes per stored block of at least 16 KiB; the flush needs six more.
        out.reserve(payload.len() + payload.len() / 2048 + 64);
        let mut used = 0;
        loop {
            let before = self.0.total_in();
            match self.0.compress_vec(&payload[used..], out, FlushCompress::Sync) {
                Ok(Status::Ok | Status::BufError) => {}
                Ok(Status::StreamEnd) | Err(_) => break,
            }
            used += (self.0.total_in() - before) as usize;
            if out.len() < out.capacity() {
                if used == payload.len() && out[start..].ends_with(&TAIL) {
                    out.truncate(out.len() - TAIL.len());
                    return true;
                }
                break;
            }
            // The flush is whole only when there was room to spare.
            out.reserve(payload.len() / 2 + 64);
        }
        out.truncate(start);
        false
    }
}

/// Why a compressed message was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InflateError {
    /// It is not what deflate writes, or it is cut off.
    Malformed,
    /// It inflates to more than the limit.
    TooLarge,
}

impl InflateError {
    /// The close code the peer is told: data that is not what it claims to be, or too much of it.
    /// Source: RFC 6455, section 7.4.1.
    pub fn close_code(self) -> u16 {
        match self {
            Self::Malformed => 1007,
            Self::TooLarge => 1009,
        }
    }

    /// What is wrong, for the close frame's reason.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed compressed message",
            Self::TooLarge => "message too large",
        }
    }
}

/// Inflates whole messages; about 40 KiB, so one per shard.
#[derive(Debug)]
pub struct Inflater(Decompress);

impl Default for Inflater {
    fn default() -> Self {
        Self::new()
    }
}

impl Inflater {
    /// One for any number of messages.
    pub fn new() -> Self {
        Self(Decompress::new(false))
    }

    /// The message that `payload` compresses, at most `message_bytes_max` bytes of it.
    pub fn inflate(
        &mut self,
        payload: &[u8],
        message_bytes_max: usize,
    ) -> Result<Vec<u8>, InflateError> {
        let message_bytes_max = message_bytes_max.min(isize::MAX as usize - 1);
        let mut out =
            Vec::with_capacity((payload.len() * 4).clamp(64, 1 << 16).min(message_bytes_max + 1));
        self.0.reset(false);
        if self.feed(payload, &mut out, message_bytes_max)? {
            // A last block as the last thing; the sender owes one more byte, but nothing is in doubt.
            return Ok(out);
        }
        // The tail that the sender left out, then an empty last block: if the sender's blocks were whole,
        // and (but for a freak of bits) only then, they add nothing and end the stream.
        let whole_len = out.len();
        match self.feed(&[0, 0, 0xff, 0xff, 1, 0, 0, 0xff, 0xff], &mut out, whole_len) {
            Ok(true) => Ok(out),
            _ => Err(InflateError::Malformed),
        }
    }

    /// True: the last byte of `input` ended a stream.
    fn feed(
        &mut self,
        mut input: &[u8],
        out: &mut Vec<u8>,
        max: usize,
    ) -> Result<bool, InflateError> {
        let mut ended = false;
        loop {
            if out.len() == out.capacity() {
                // One byte of room above the limit tells "just fits" from "too large".
                out.reserve_exact(out.len().max(64).min(max + 1 - out.len()).max(1));
            }
            let (in_before, out_before) = (self.0.total_in(), out.len());
            let status = self.0.decompress_vec(input, out, FlushDecompress::None);
            if out.len() > max {
                return Err(InflateError::TooLarge);
            }
            let used = (self.0.total_in() - in_before) as usize;
            input = &input[used..];
            match status {
                Err(_) => return Err(InflateError::Malformed),
                Ok(Status::StreamEnd) => {
                    // The sender may end a stream inside a message and start another (RFC 7692,
                    // section 7.2.3.4).
                    ended = input.is_empty();
                    if !ended {
                        self.0.reset(false);
                        continue;
                    }
                    return Ok(ended);
                }
                Ok(Status::Ok | Status::BufError) => {
                    if input.is_empty() && out.len() < out.capacity() {
                        return Ok(ended);
                    }
                    if used == 0 && out.len() == out_before && out.len() < out.capacity() {
                        return Err(InflateError::Malformed);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::prng::Prng;

    #[test]
    fn offers_are_judged() {
        // The fields' values, then the answer's parameters beside the two we always give.
        let cases: &[(&[&str], Option<&str>)] = &[
            (&[], None),
            (&["x-webkit-deflate-frame"], None),
            (&["permessage-deflate"], Some("")),
            (&["Permessage-Deflate; Client_No_Context_Takeover"], Some("")),
            (&["permessage-deflate; client_max_window_bits"], Some("")),
            (&["permessage-deflate; client_max_window_bits=8"], Some("")),
            (
                &["permessage-deflate;server_no_context_takeover;client_no_context_takeover"],
                Some(""),
            ),
            (
                &["permessage-deflate; server_max_window_bits=10"],
                Some("; server_max_window_bits=10"),
            ),
            (
                &["permessage-deflate; server_max_window_bits=\"15\""],
                Some("; server_max_window_bits=15"),
            ),
            (&["permessage-deflate; server_max_window_bits"], None),
            (&["permessage-deflate; server_max_window_bits=7"], None),
            (&["permessage-deflate; server_max_window_bits=16"], None),
            (&["permessage-deflate; server_max_window_bits=08"], None),
            (&["permessage-deflate; client_max_window_bits=0"], None),
            (&["permessage-deflate; server_no_context_takeover=1"], None),
            (&["permessage-deflate; server_no_context_takeover; server_no_context_takeover"], None),
            (&["permessage-deflate; client_max_window_bits; client_max_window_bits=9"], None),
            (&["permessage-deflate; unknown"], None),
            (&["permessage-deflate; unknown, permessage-deflate"], Some("")),
            (&["x; a=\"b, permessage-deflate\""], None),
            (
                &["x", "y, permessage-deflate; server_max_window_bits=9"],
                Some("; server_max_window_bits=9"),
            ),
        ];
        for (offered, want) in cases {
            let fields: Vec<Field<'_>> = offered
                .iter()
                .map(|value| ("Sec-WebSocket-Extensions", value.as_bytes()))
                .collect();
            let answer = negotiate(&fields).map(|agreed| {
                let mut out = Vec::new();
                agreed.write(&mut out);
                String::from_utf8(out).unwrap()
            });
            assert_eq!(answer, want.map(|more| format!("{OFFER}{more}")), "{offered:?}");
            assert!(answer.is_none_or(|answer| accepts(answer.as_bytes())));
        }
        assert!(Agreed { server_window_bits: Some(15) }.shares_lane());
        assert!(!Agreed { server_window_bits: Some(14) }.shares_lane());
        assert!(!accepts(b"permessage-deflate"), "it may keep its context, and we would not");
        assert!(!accepts(
            b"permessage-deflate; server_no_context_takeover; client_max_window_bits=9"
        ));
    }

    #[test]
    fn what_is_compressed_inflates() {
        let (mut compressor, mut inflater, mut prng) =
            (Compressor::new(6), Inflater::new(), Prng::new(4));
        let mut noise = vec![0; 100_000];
        noise.fill_with(|| prng.next_u64() as u8);
        let repeated = b"{\"event\":\"message\"}".repeat(3000);
        for len in [0, 1, 2, 10, 100, 1000, 5000, 50_000] {
            for source in [&noise, &repeated] {
                let payload = &source[..len];
                let mut out = b"before".to_vec();
                assert!(compressor.compress(payload, &mut out), "{len}");
                assert!(out.starts_with(b"before"));
                let compressed = &out[6..];
                assert_eq!(inflater.inflate(compressed, len).as_deref(), Ok(payload), "{len}");
                if len > 0 {
                    assert_eq!(
                        inflater.inflate(compressed, len - 1),
                        Err(InflateError::TooLarge),
                        "{len}"
                    );
                    assert_eq!(
                        inflater.inflate(&compressed[..compressed.len() - 1], len),
                        Err(InflateError::Malformed)
                    );
                }
            }
        }
    }

    #[test]
    fn the_examples_of_the_specification() {
        // RFC 7692, section 7.2.3: one block, no compression, a last block, two blocks, an empty one.
        let cases: &[&[u8]] = &[
            b"\xf2\x48\xcd\xc9\xc9\x07\x00",
            b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00",
            b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00",
            b"\xf3\x48\xcd\xc9\xc9\x07\x00",
            b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00",
        ];
        let mut inflater = Inflater::new();
        for case in cases {
            assert_eq!(inflater.inflate(case, 5).as_deref(), Ok(&b"Hello"[..]), "{case:x?}");
        }
        assert_eq!(inflater.inflate(b"\x00", 0).as_deref(), Ok(&b""[..]));
        let mut out = Vec::new();
        assert!(Compressor::new(6).compress(b"Hello", &mut out));
        assert_eq!(out, cases[0]);
    }

    #[test]
    fn nonsense_is_refused_and_does_not_linger() {
        let mut inflater = Inflater::new();
        // A reserved block type, a distance before the start (the second message of a kept context),
        // an unfinished stored block, nothing at all, a header only.
        let cases: &[&[u8]] = &[
            b"\xff\xff\xff",
            b"\xf2\x00\x11\x00\x00",
            b"\x00\x05\x00\xfa\xff\x48",
            b"",
            b"\x00\x05\x00\x00\x00",
        ];
        for bad in cases {
            assert_eq!(inflater.inflate(bad, 1000), Err(InflateError::Malformed), "{bad:x?}");
            assert_eq!(
                inflater.inflate(b"\xf2\x48\xcd\xc9\xc9\x07\x00", 5).as_deref(),
                Ok(&b"Hello"[..])
            );
        }
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        let mut out = Vec::new();
        assert!(Compressor::new(9).compress(&vec![0; 10_000_000], &mut out));
        assert!(out.len() < 20_000);
        assert_eq!(Inflater::new().inflate(&out, 100_000), Err(InflateError::TooLarge));
        assert_eq!(InflateError::TooLarge.close_code(), 1009);
    }
}
