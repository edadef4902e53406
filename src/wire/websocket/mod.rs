//! WebSocket (RFC 6455) and permessage-deflate (RFC 7692), for servers and for our own client.
//!
//! [`handshake`] turns an HTTP request into a WebSocket, [`decode`] takes in what arrives, [`encode`]
//! writes what leaves, [`deflate`] compresses whole messages. Start with [`decode::Decoder`].

pub mod client;
pub mod decode;
pub mod deflate;
pub mod encode;
pub mod handshake;
pub mod mask;
#[cfg(test)]
mod peer_tests;

pub use decode::{Decoder, FrameError, Role, Step};
pub use handshake::{Handshake, HandshakeError};

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// UTF-8.
    Text,
    /// Bytes.
    Binary,
}

/// What a WebSocket frame is, as its header says it. Source: RFC 6455, section 5.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// More of the message under way.
    Continuation = 0,
    /// The start of a text message, or all of it.
    Text = 1,
    /// The start of a binary message, or all of it.
    Binary = 2,
    /// The end of the connection.
    Close = 8,
    /// A question for a sign of life.
    Ping = 9,
    /// The answer.
    Pong = 10,
}

impl Opcode {
    /// Reads the low four bits of a header's first byte; None for a reserved one.
    pub fn of(byte: u8) -> Option<Self> {
        Some(match byte & 0x0f {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }

    /// Is it about the connection and not part of a message?
    pub fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// May this code stand in a close frame? Source: RFC 6455, section 7.4, and IANA's registry (1012 to 1014).
pub fn is_close_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// The most bytes a control frame carries.
pub const CONTROL_BYTES_MAX: usize = 125;
/// The most bytes a close frame's reason has beside its code.
pub const CLOSE_REASON_BYTES_MAX: usize = CONTROL_BYTES_MAX - 2;
