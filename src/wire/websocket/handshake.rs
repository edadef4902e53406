//! From HTTP to WebSocket: what the request must say and what the answer says.
//! Source: RFC 6455, section 4.

use sha1::{Digest, Sha1};

use super::deflate::Agreed;
use crate::wire::base64;
use crate::wire::http::Field;
use crate::wire::http::grammar::{is_token, list, list_holds};

/// A well-formed handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handshake<'a> {
    /// `Sec-WebSocket-Key`, 24 bytes of base64.
    pub key: &'a [u8; 24],
}

/// Why a request for a WebSocket is not granted. The connection may go on as HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeError {
    /// Not GET.
    Method,
    /// HTTP/1.0 cannot upgrade.
    Http10,
    /// It has a body.
    Body,
    /// `Connection` does not name `Upgrade`.
    Connection,
    /// `Sec-WebSocket-Key` is missing, repeated or not 16 bytes of base64.
    Key,
    /// `Sec-WebSocket-Version` is missing, repeated or not 13.
    Version,
}

impl HandshakeError {
    /// The status of the answer. One that is 426 must carry [`VERSION_FIELD`].
    pub fn status(self) -> u16 {
        match self {
            Self::Version => 426,
            _ => 400,
        }
    }

    /// What is wrong, for the answer's body.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Method => "A WebSocket is opened with GET.",
            Self::Http10 => "A WebSocket is opened with HTTP/1.1.",
            Self::Body => "A WebSocket handshake has no body.",
            Self::Connection => "The Connection field does not name Upgrade.",
            Self::Key => "Sec-WebSocket-Key is not 16 bytes of base64, once.",
            Self::Version => "The only WebSocket version spoken here is 13.",
        }
    }
}

impl std::fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for HandshakeError {}

/// The field that goes with 426: which version we speak.
pub const VERSION_FIELD: (&str, &str) = ("Sec-WebSocket-Version", "13");

/// What a head says about a WebSocket, collected field by field.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Offer<'a> {
    pub(crate) connection_upgrade: bool,
    upgrade: bool,
    key: Option<&'a [u8]>,
    version: Option<&'a [u8]>,
    key_repeated: bool,
    version_repeated: bool,
}

impl<'a> Offer<'a> {
    pub(crate) fn note_upgrade(&mut self, value: &[u8]) {
        self.upgrade |= list_holds(value, "websocket");
    }

    pub(crate) fn note_key(&mut self, value: &'a [u8]) {
        self.key_repeated |= self.key.replace(value).is_some();
    }

    pub(crate) fn note_version(&mut self, value: &'a [u8]) {
        self.version_repeated |= self.version.replace(value).is_some();
    }

    pub(crate) fn judge(
        &self,
        is_get: bool,
        is_11: bool,
        is_bodiless: bool,
    ) -> Option<Result<Handshake<'a>, HandshakeError>> {
        if !self.upgrade {
            return None;
        }
        Some(if !is_get {
            Err(HandshakeError::Method)
        } else if !is_11 {
            Err(HandshakeError::Http10)
        } else if !is_bodiless {
            Err(HandshakeError::Body)
        } else if !self.connection_upgrade {
            Err(HandshakeError::Connection)
        } else if self.version != Some(b"13") || self.version_repeated {
            Err(HandshakeError::Version)
        } else {
            match self.key.and_then(as_key) {
                Some(key) if !self.key_repeated => Ok(Handshake { key }),
                _ => Err(HandshakeError::Key),
            }
        })
    }
}

/// 16 bytes of base64 are 22 of its characters and two equals signs. Bits that stand for no byte are
/// not looked at: the key is only echoed through a hash.
fn as_key(value: &[u8]) -> Option<&[u8; 24]> {
    let key: &[u8; 24] = value.try_into().ok()?;
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    (key[..22].iter().all(is_base64) && key.ends_with(b"==")).then_some(key)
}

/// `Sec-WebSocket-Accept` for a key. Source: RFC 6455, section 4.2.2.
pub fn accept_key(key: &[u8; 24]) -> [u8; 28] {
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let mut out = [b'='; 28];
    base64::fill(&mut out, hash.finalize().as_slice());
    out
}

/// Appends the `101` that makes the connection a WebSocket.
///
/// `protocol` is the subprotocol chosen among those offered (see [`protocols`]), `deflate` what was
/// agreed (see [`super::deflate::negotiate`]), `headers` what else is to be said.
pub fn write_accept<'h>(
    out: &mut Vec<u8>,
    handshake: &Handshake<'_>,
    protocol: Option<&str>,
    deflate: Option<Agreed>,
    headers: impl IntoIterator<Item = (&'h str, &'h str)>,
) {
    out.reserve(320);
    out.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ",
    );
    out.extend_from_slice(&accept_key(handshake.key));
    out.extend_from_slice(b"\r\n");
    if let Some(protocol) = protocol {
        crate::wire::http::response::write_field(out, "Sec-WebSocket-Protocol", protocol);
    }
    if let Some(agreed) = deflate {
        out.extend_from_slice(b"Sec-WebSocket-Extensions: ");
        agreed.write(out);
        out.extend_from_slice(b"\r\n");
    }
    for (name, value) in headers {
        crate::wire::http::response::write_field(out, name, value);
    }
    out.extend_from_slice(b"\r\n");
}

/// The subprotocols a peer offers, best first; what is no token is left out.
pub fn protocols<'f, 'a: 'f>(fields: &'f [Field<'a>]) -> impl Iterator<Item = &'a str> + 'f {
    values(fields, "sec-websocket-protocol")
        .flat_map(list)
        .filter(|member| member.iter().all(|&byte| is_token(byte)))
        .filter_map(|member| std::str::from_utf8(member).ok())
}

/// The values of a field that may come several times.
pub(super) fn values<'f, 'a: 'f>(
    fields: &'f [Field<'a>],
    name: &'f str,
) -> impl Iterator<Item = &'a [u8]> + 'f {
    fields.iter().filter(move |(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accept_key_of_the_specification() {
        assert_eq!(&accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn keys_are_checked() {
        for good in
            ["dGhlIHNhbXBsZSBub25jZQ==", "AAAAAAAAAAAAAAAAAAAAAA==", "+/+/+/+/+/+/+/+/+/+/+/=="]
        {
            assert!(as_key(good.as_bytes()).is_some(), "{good}");
        }
        for bad in [
            "",
            "dGhlIHNhbXBsZSBub25jZQ=",
            "dGhlIHNhbXBsZSBub25jZQ==a",
            "dGhlIHNhbXBsZSBub25jZQAA",
            "dGhl-HNhbXBsZSBub25jZQ==",
        ] {
            assert!(as_key(bad.as_bytes()).is_none(), "{bad}");
        }
    }

    #[test]
    fn protocols_are_listed() {
        let fields: [Field<'_>; 3] = [
            ("Sec-WebSocket-Protocol", b"a, b"),
            ("X", b"x"),
            ("sec-websocket-protocol", b"c,d e"),
        ];
        assert_eq!(protocols(&fields).collect::<Vec<_>>(), ["a", "b", "c"]);
    }

    #[test]
    fn the_answer_is_written() {
        let mut out = Vec::new();
        let handshake = Handshake { key: b"dGhlIHNhbXBsZSBub25jZQ==" };
        write_accept(
            &mut out,
            &handshake,
            Some("chat"),
            Some(Agreed { server_window_bits: None }),
            [("X", "y")],
        );
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n\
             Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n\
             X: y\r\n\r\n"
        );
    }
}
