//! Writes what leaves on a WebSocket: finished WebSocket frames, header and payload in one run of
//! bytes. Source: RFC 6455, section 5.2.

use bytes::Bytes;

use super::mask::unmask;
use super::{CLOSE_REASON_BYTES_MAX, CONTROL_BYTES_MAX, Opcode};

/// The most bytes an unmasked header has: what [`Builder`] leaves free in front of the payload.
pub const HEADROOM: usize = 10;

/// Does the payload travel compressed (RSV1 of RFC 7692)?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// As it is.
    Plain,
    /// It is what [`super::deflate::Compressor`] wrote.
    Deflated,
}

/// An unmasked header of a whole message or control frame, and how long it is.
pub fn header(
    opcode: Opcode,
    compression: Compression,
    payload_len: usize,
) -> ([u8; HEADROOM], usize) {
    let mut header = [0; HEADROOM];
    header[0] = 0x80 | opcode as u8 | if compression == Compression::Deflated { 0x40 } else { 0 };
    let len = match payload_len {
        0..=125 => {
            header[1] = payload_len as u8;
            2
        }
        126..=0xffff => {
            header[1] = 126;
            header[2..4].copy_from_slice(&(payload_len as u16).to_be_bytes());
            4
        }
        _ => {
            header[1] = 127;
            header[2..].copy_from_slice(&(payload_len as u64).to_be_bytes());
            10
        }
    };
    (header, len)
}

/// Appends an unmasked frame.
pub fn write_frame(out: &mut Vec<u8>, opcode: Opcode, compression: Compression, payload: &[u8]) {
    let (header, len) = header(opcode, compression, payload.len());
    out.reserve(len + payload.len());
    out.extend_from_slice(&header[..len]);
    out.extend_from_slice(payload);
}

/// A whole text message.
pub fn text_frame(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write_frame(&mut out, Opcode::Text, Compression::Plain, payload);
    out
}

/// The answer to a ping.
///
/// # Panics
/// If `payload` has more than 125 bytes; a ping that was let in has not.
pub fn pong_frame(payload: &[u8]) -> Vec<u8> {
    control_frame(Opcode::Pong, payload)
}

/// A ping.
///
/// # Panics
/// If `payload` has more than 125 bytes.
pub fn ping_frame(payload: &[u8]) -> Vec<u8> {
    control_frame(Opcode::Ping, payload)
}

fn control_frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    assert!(payload.len() <= CONTROL_BYTES_MAX, "a control frame has one byte of length");
    let mut out = Vec::new();
    write_frame(&mut out, opcode, Compression::Plain, payload);
    out
}

/// A close frame; a reason above 123 bytes is cut before the character that passes it. Code 1005
/// stands for "no code" (RFC 6455, section 7.4.1) and makes the frame empty.
pub fn close_frame(code: u16, reason: &str) -> Vec<u8> {
    control_frame(Opcode::Close, &close_payload(code, reason))
}

fn close_payload(code: u16, reason: &str) -> Vec<u8> {
    if code == 1005 {
        return Vec::new();
    }
    let mut payload = code.to_be_bytes().to_vec();
    payload.extend_from_slice(
        &reason.as_bytes()[..reason.floor_char_boundary(CLOSE_REASON_BYTES_MAX)],
    );
    payload
}

/// A frame whose payload is written in place, with the header put in front of it afterwards.
///
/// ```
/// use ringmain::wire::websocket::{Opcode, encode::{Builder, Compression}};
/// let mut builder = Builder::with_capacity(64);
/// builder.payload().extend_from_slice(b"hi");
/// let bytes = builder.finish(Opcode::Text, Compression::Plain);
/// assert_eq!(&bytes[..], b"\x81\x02hi");
/// ```
#[derive(Debug)]
pub struct Builder(Vec<u8>);

impl Builder {
    /// Room for a payload of about this many bytes.
    pub fn with_capacity(payload_len: usize) -> Self {
        let mut bytes = Vec::with_capacity(HEADROOM + payload_len);
        bytes.extend_from_slice(&[0; HEADROOM]);
        Self(bytes)
    }

    /// Where the payload is appended. The first [`HEADROOM`] bytes are the header's.
    pub fn payload(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }

    /// The payload so far.
    pub fn as_payload(&self) -> &[u8] {
        &self.0[HEADROOM..]
    }

    /// The finished frame, header and payload, without a copy.
    ///
    /// # Panics
    /// If the headroom was cut off.
    pub fn finish(self, opcode: Opcode, compression: Compression) -> Bytes {
        let mut bytes = self.0;
        assert!(bytes.len() >= HEADROOM, "the headroom was cut off");
        let (header, len) = header(opcode, compression, bytes.len() - HEADROOM);
        let start = HEADROOM - len;
        bytes[start..HEADROOM].copy_from_slice(&header[..len]);
        Bytes::from(bytes).slice(start..)
    }
}

/// A masked frame, as clients send it. `key` should be unpredictable (RFC 6455, section 10.3).
pub fn masked_frame(
    opcode: Opcode,
    compression: Compression,
    payload: &[u8],
    key: [u8; 4],
) -> Vec<u8> {
    let (mut header, len) = header(opcode, compression, payload.len());
    header[1] |= 0x80;
    let mut out = Vec::with_capacity(len + 4 + payload.len());
    out.extend_from_slice(&header[..len]);
    out.extend_from_slice(&key);
    out.extend_from_slice(payload);
    unmask(&mut out[len + 4..], key, 0);
    out
}

/// A masked close frame, as clients send it; see [`close_frame`].
pub fn masked_close_frame(code: u16, reason: &str, key: [u8; 4]) -> Vec<u8> {
    masked_frame(Opcode::Close, Compression::Plain, &close_payload(code, reason), key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_take_as_few_bytes_as_they_can() {
        let cases: &[(usize, &[u8])] = &[
            (0, &[0x81, 0]),
            (125, &[0x81, 125]),
            (126, &[0x81, 126, 0, 126]),
            (65535, &[0x81, 126, 0xff, 0xff]),
            (65536, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ];
        for (len, want) in cases {
            let payload = vec![b'x'; *len];
            let frame = text_frame(&payload);
            assert_eq!(
                (&frame[..want.len()], &frame[want.len()..]),
                (*want, &payload[..]),
                "{len}"
            );
            let mut builder = Builder::with_capacity(0);
            builder.payload().extend_from_slice(&payload);
            assert_eq!(builder.as_payload(), payload);
            assert_eq!(
                builder.finish(Opcode::Text, Compression::Plain),
                frame,
                "{len} built in place"
            );
            let masked = masked_frame(Opcode::Text, Compression::Plain, &payload, [0; 4]);
            assert_eq!(masked[1], want[1] | 0x80);
            assert_eq!(masked[want.len() + 4..], payload);
        }
        assert_eq!(header(Opcode::Binary, Compression::Deflated, 1).0[0], 0xc2);
    }

    #[test]
    fn a_finished_frame_is_not_copied() {
        let mut builder = Builder::with_capacity(100);
        builder.payload().extend_from_slice(&[7; 100]);
        let at = builder.as_payload().as_ptr();
        let bytes = builder.finish(Opcode::Text, Compression::Plain);
        assert_eq!(bytes[2..].as_ptr(), at);
    }

    #[test]
    fn close_reasons_are_cut_between_characters() {
        let cases: &[(u16, &str, &[u8])] = &[
            (1000, "", b"\x88\x02\x03\xe8"),
            (1005, "lost", b"\x88\x00"),
            (4200, "bye", b"\x88\x05\x10\x68bye"),
        ];
        for (code, reason, want) in cases {
            assert_eq!(close_frame(*code, reason), *want);
        }
        let long = format!("{}€", "x".repeat(122));
        assert_eq!(close_frame(1000, &long).len(), 2 + 2 + 122);
        assert_eq!(close_frame(1000, &"x".repeat(200)).len(), 2 + 2 + 123);
        assert_eq!(masked_close_frame(1000, "a", [0; 4]), b"\x88\x83\0\0\0\0\x03\xe8a");
    }
}
