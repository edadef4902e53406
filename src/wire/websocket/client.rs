//! The client's side of the handshake, for the command line's own listener. Source: RFC 6455, section 4.1.

use super::deflate::{OFFER, accepts};
use super::handshake::accept_key;
use crate::wire::base64;
use crate::wire::http::client::{NotHttp, parse_response_head};
use crate::wire::http::grammar::list_holds;
use crate::wire::http::response::write_field;

/// Makes the key of a handshake from 16 random bytes.
pub fn key(random: [u8; 16]) -> [u8; 24] {
    let mut out = [b'='; 24];
    base64::fill(&mut out, &random);
    out
}

/// Appends the request that asks for a WebSocket at `target` (path and query) of `host`.
pub fn write_request<'h>(
    out: &mut Vec<u8>,
    host: &str,
    target: &str,
    key: &[u8; 24],
    deflate: bool,
    headers: impl IntoIterator<Item = (&'h str, &'h str)>,
) {
    out.extend_from_slice(b"GET ");
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    write_field(out, "Host", host);
    out.extend_from_slice(
        b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ",
    );
    out.extend_from_slice(key);
    out.extend_from_slice(b"\r\n");
    if deflate {
        write_field(out, "Sec-WebSocket-Extensions", OFFER);
    }
    for (name, value) in headers {
        write_field(out, name, value);
    }
    out.extend_from_slice(b"\r\n");
}

/// A WebSocket is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Bytes the answer took; what follows are frames.
    pub len: usize,
    /// Both sides may send compressed messages.
    pub deflate: bool,
}

/// Why it is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// The other end does not speak HTTP/1.1.
    NotHttp,
    /// It answered with another status.
    Status(u16),
    /// It answered 101 without what the specification demands of it.
    Malformed,
}

impl std::fmt::Display for OpenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotHttp => f.write_str("the answer is not HTTP/1.1"),
            Self::Status(status) => write!(f, "the answer is status {status}, not 101"),
            Self::Malformed => f.write_str("the answer is no WebSocket handshake"),
        }
    }
}

impl std::error::Error for OpenError {}

impl From<NotHttp> for OpenError {
    fn from(NotHttp: NotHttp) -> Self {
        Self::NotHttp
    }
}

/// Reads the answer; None: more bytes are needed.
pub fn parse_accept(bytes: &[u8], key: &[u8; 24]) -> Result<Option<Opened>, OpenError> {
    let Some(head) = parse_response_head(bytes)? else { return Ok(None) };
    if head.status != 101 {
        return Err(OpenError::Status(head.status));
    }
    let upgraded = head.values("upgrade").any(|value| list_holds(value, "websocket"))
        && head.values("connection").any(|value| list_holds(value, "upgrade"))
        && head.values("sec-websocket-accept").eq([&accept_key(key)[..]]);
    let mut extensions = head.values("sec-websocket-extensions");
    let deflate = match (extensions.next(), extensions.next()) {
        (None, _) => false,
        (Some(value), None) if accepts(value) => true,
        _ => return Err(OpenError::Malformed),
    };
    if upgraded { Ok(Some(Opened { len: head.len, deflate })) } else { Err(OpenError::Malformed) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::http::{HeadLimits, HeadScan, Progress, parse_head};
    use crate::wire::websocket::{deflate::negotiate, handshake::write_accept};

    #[test]
    fn both_our_sides_agree() {
        let key = key([7; 16]);
        for offered in [false, true] {
            let mut request = Vec::new();
            write_request(
                &mut request,
                "localhost:1",
                "/app/x?protocol=7",
                &key,
                offered,
                [("Origin", "http://x")],
            );
            let limits =
                HeadLimits { target_bytes_max: 100, head_bytes_max: 1000, head_fields_max: 10 };
            let mut fields = Vec::new();
            let Ok(Progress::Complete(head)) =
                parse_head(&request, &mut HeadScan::default(), &limits, &mut fields)
            else {
                panic!("refused")
            };
            let handshake = head.websocket.unwrap().unwrap();
            let agreed = negotiate(&fields);
            assert_eq!(agreed.is_some(), offered);
            let mut answer = Vec::new();
            write_accept(&mut answer, &handshake, None, agreed, []);
            for end in 0..answer.len() {
                assert_eq!(parse_accept(&answer[..end], &key), Ok(None));
            }
            assert_eq!(
                parse_accept(&answer, &key),
                Ok(Some(Opened { len: answer.len(), deflate: offered }))
            );
            assert_eq!(parse_accept(&answer, &super::key([8; 16])), Err(OpenError::Malformed));
        }
    }

    #[test]
    fn refusals_are_told() {
        let key = key([7; 16]);
        assert_eq!(
            parse_accept(b"HTTP/1.1 403 Forbidden\r\n\r\n", &key),
            Err(OpenError::Status(403))
        );
        assert_eq!(parse_accept(b"HTTP/1.1 101 x\r\n\r\n", &key), Err(OpenError::Malformed));
        assert_eq!(parse_accept(b"\x16\x03", &key), Err(OpenError::NotHttp));
    }
}
