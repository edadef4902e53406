//! What peers are answered: faults, over HTTP and in a socket, and the few answers that are no stream.

use std::borrow::Cow;
use std::fmt::Write as _;

use bytes::Bytes;

use crate::dialects::{Request, Response};
use crate::wire::json;

/// Streams and what they are asked with are nobody else's.
const PRIVATE: (&str, Cow<'static, str>) = ("Cache-Control", Cow::Borrowed("private, no-store"));
const ANY_ORIGIN: (&str, Cow<'static, str>) = ("Access-Control-Allow-Origin", Cow::Borrowed("*"));

/// Why something is not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// There is no such path.
    UnknownPath,
    /// No token was shown.
    MissingToken,
    /// It is nobody's, or not any more.
    InvalidToken,
    /// It opens no such stream.
    Scopes,
    /// Which tag?
    MissingTag,
    /// Which list?
    MissingList,
    /// The list is not theirs.
    ForeignList,
    /// There is no such stream.
    UnknownStream,
    /// Nobody could be asked.
    Unexpected,
    /// The process is about to stop, or has as many connections as it may have.
    Unavailable,
    /// Nothing but reading is done here.
    Method,
}

impl Fault {
    /// The status that says so.
    pub(super) fn status(self) -> u16 {
        match self {
            Self::UnknownPath | Self::MissingTag | Self::MissingList | Self::UnknownStream => 400,
            Self::MissingToken | Self::InvalidToken | Self::Scopes | Self::ForeignList => 401,
            Self::Method => 405,
            Self::Unexpected => 500,
            Self::Unavailable => 503,
        }
    }

    /// What clients compare.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::UnknownPath => "Unknown channel requested",
            Self::MissingToken => "Missing access token",
            Self::InvalidToken => "Invalid access token",
            Self::Scopes => "Access token does not have the required scopes",
            Self::MissingTag => "Missing tag name parameter",
            Self::MissingList => "Missing list name parameter",
            Self::ForeignList => "Not authorized to stream this list",
            Self::UnknownStream => "Unknown stream type",
            Self::Unexpected => "An unexpected error occurred",
            Self::Unavailable => "The server takes no more connections now",
            Self::Method => "Only GET and HEAD are allowed here",
        }
    }

    /// The answer to a request.
    pub(super) fn response(self, id: &str) -> Response {
        let mut response = error(self.status(), self.text());
        response.headers.push(request_id(id));
        match self {
            Self::Unavailable => response.headers.push(("Retry-After", "1".into())),
            Self::Method => response.headers.push(("Allow", "GET, HEAD, OPTIONS".into())),
            _ => {}
        }
        response
    }

    /// The answer to who wanted a WebSocket. Browsers hide it; the field is for everyone else.
    pub(super) fn refusal(self, id: &str) -> Response {
        let headers = vec![
            ("Content-Type", "text/plain".into()),
            request_id(id),
            ("X-Error-Message", self.text().into()),
        ];
        Response { status: self.status(), headers, body: Bytes::new() }
    }

    /// What a socket is told whose subscription fails.
    pub(super) fn frame(self) -> Vec<u8> {
        format!("{{\"error\":\"{}\",\"status\":{}}}", self.text(), self.status()).into_bytes()
    }
}

/// What a socket is told whose unsubscription fails: without a status.
pub(super) const UNSUBSCRIBE_FAILED: &str = r#"{"error":"Error unsubscribing from channel"}"#;

/// A refusal in JSON.
pub(super) fn error(status: u16, text: &str) -> Response {
    let mut body = b"{\"error\":".to_vec();
    json::write_str(&mut body, text);
    body.push(b'}');
    let headers = vec![("Content-Type", "application/json".into()), ANY_ORIGIN];
    Response { status, headers, body: body.into() }
}

/// The head of an event stream, and its first line: so its reader knows that it has begun.
pub(super) fn stream(id: &str) -> Response {
    let headers =
        vec![("Content-Type", "text/event-stream".into()), PRIVATE, ANY_ORIGIN, request_id(id)];
    Response { status: 200, headers, body: Bytes::from_static(b":)\n") }
}

/// Says that the process is there.
pub(super) fn health(id: &str) -> Response {
    let headers = vec![("Content-Type", "text/plain".into()), PRIVATE, ANY_ORIGIN, request_id(id)];
    Response { status: 200, headers, body: Bytes::from_static(b"OK") }
}

/// Says that there is nothing.
pub(super) fn nothing(id: &str) -> Response {
    Response { status: 404, headers: vec![ANY_ORIGIN, request_id(id)], body: Bytes::new() }
}

/// Tells a browser that a page of any origin may ask anything.
pub(super) fn preflight(request: &Request<'_>, id: &str) -> Response {
    const ASKED: &str = "Access-Control-Request-Headers";
    let mut headers = vec![
        ANY_ORIGIN,
        ("Access-Control-Allow-Methods", "GET,HEAD,PUT,PATCH,POST,DELETE".into()),
        ("Vary", ASKED.into()),
    ];
    if let Some(asked) = request.header(ASKED) {
        headers.push(("Access-Control-Allow-Headers", asked.to_owned().into()));
    }
    headers.push(request_id(id));
    Response { status: 204, headers, body: Bytes::new() }
}

/// The answer to a handshake that is wrong.
pub(super) fn bad_handshake(request: &Request<'_>) -> Response {
    let is_version = request.header("sec-websocket-version") == Some("13");
    let (text, versions) = match is_version {
        true => ("Missing or invalid Sec-WebSocket-Key header", None),
        false => ("Missing or invalid Sec-WebSocket-Version header", Some("13, 8")),
    };
    let mut headers = vec![("Content-Type", "text/plain".into())];
    headers.extend(versions.map(|it| ("Sec-WebSocket-Version", it.into())));
    Response { status: 400, headers, body: Bytes::from_static(text.as_bytes()) }
}

/// Names the answer for whoever reads the logs of both sides.
pub(super) fn request_id(id: &str) -> (&'static str, Cow<'static, str>) {
    ("X-Request-Id", id.to_owned().into())
}

/// A random UUID, version 4. Source: RFC 9562, section 5.4.
pub(super) fn uuid(chance: u128) -> String {
    let bits = chance & !(0xf000 << 64) & !(0xc000 << 48) | 4 << 76 | 8 << 60;
    let hex = format!("{bits:032x}");
    let mut text = String::with_capacity(36);
    for (i, part) in
        [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].into_iter().enumerate()
    {
        let _ = write!(text, "{}{part}", if i == 0 { "" } else { "-" });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_is_a_random_uuid() {
        assert_eq!(uuid(0), "00000000-0000-4000-8000-000000000000");
        assert_eq!(uuid(u128::MAX), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        let some = 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef;
        assert_eq!(uuid(some), "01234567-89ab-4def-8123-456789abcdef");
    }

    #[test]
    fn faults_are_told_as_clients_know_them() {
        let frame = String::from_utf8(Fault::Scopes.frame()).unwrap();
        let expected = r#"{"error":"Access token does not have the required scopes","status":401}"#;
        assert_eq!(frame, expected);
        let response = Fault::UnknownPath.response("id");
        assert_eq!(
            (response.status, &*response.body),
            (400, &b"{\"error\":\"Unknown channel requested\"}"[..])
        );
    }
}
