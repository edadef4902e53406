//! Writes answers: status line, fields, body.

use super::DateText;
use crate::wire::write_decimal;

/// What the peer is told about the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// It stays open. Said aloud because an HTTP/1.0 peer has to hear it.
    KeepAlive,
    /// It closes after this answer.
    Close,
}

/// Does the answer carry its body?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// Yes, this one.
    Bytes(&'a [u8]),
    /// The request was HEAD: the length it would have had, without it.
    Omitted(usize),
    /// It goes on until the connection closes (server-sent events): no length.
    UntilClose,
    /// It follows in chunks ([`super::chunked::Builder`]): no length.
    Chunked,
}

/// Answers `Expect: 100-continue`.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Appends a whole answer.
///
/// `headers` are the fields beside `Content-Length`, `Transfer-Encoding`, `Date` and `Connection`, which are added here. A
/// control byte in a value would let whoever chose it write fields of their own: each becomes a space.
/// Statuses 1xx, 204 and 304 have no body (RFC 9110, section 6.4.1) and lose it.
pub fn write<'h>(
    out: &mut Vec<u8>,
    status: u16,
    headers: impl IntoIterator<Item = (&'h str, &'h str)>,
    body: Body<'_>,
    date: &DateText,
    connection: Connection,
) {
    let bodiless = status < 200 || status == 204 || status == 304;
    let body_len = if let Body::Bytes(bytes) = body { bytes.len() } else { 0 };
    out.reserve(256 + body_len);
    write_status_line(out, status);
    for (name, value) in headers {
        write_field(out, name, value);
    }
    out.extend_from_slice(b"Date: ");
    out.extend_from_slice(date.as_bytes());
    out.extend_from_slice(b"\r\n");
    let length = match body {
        Body::Bytes(bytes) => Some(bytes.len()),
        Body::Omitted(length) => Some(length),
        Body::UntilClose | Body::Chunked => None,
    };
    if let Some(length) = length
        && !bodiless
    {
        out.extend_from_slice(b"Content-Length: ");
        write_decimal(out, length as u64);
        out.extend_from_slice(b"\r\n");
    }
    if body == Body::Chunked && !bodiless {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    out.extend_from_slice(match connection {
        Connection::KeepAlive => b"Connection: keep-alive\r\n\r\n",
        Connection::Close => b"Connection: close\r\n\r\n",
    });
    if let Body::Bytes(bytes) = body
        && !bodiless
    {
        out.extend_from_slice(bytes);
    }
}

/// Appends `HTTP/1.1 404 Not Found` and CRLF.
pub fn write_status_line(out: &mut Vec<u8>, status: u16) {
    assert!((100..1000).contains(&status), "a status has three digits");
    out.extend_from_slice(b"HTTP/1.1 ");
    write_decimal(out, u64::from(status));
    out.push(b' ');
    out.extend_from_slice(reason(status).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Appends a field and CRLF; a control byte in `value` becomes a space.
pub fn write_field(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend(value.bytes().map(|byte| if byte < b' ' || byte == 0x7f { b' ' } else { byte }));
    out.extend_from_slice(b"\r\n");
}

/// The reason phrase of a status; empty if we have none.
pub fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &str = "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n";

    fn written(
        status: u16,
        headers: &[(&'static str, &'static str)],
        body: Body<'_>,
        connection: Connection,
    ) -> String {
        let mut out = Vec::new();
        write(&mut out, status, headers.iter().copied(), body, &DateText::default(), connection);
        String::from_utf8(out).unwrap().replace(DATE, "")
    }

    #[test]
    fn answers_are_written() {
        use Connection::{Close, KeepAlive};
        assert_eq!(
            written(200, &[("Content-Type", "text/plain")], Body::Bytes(b"hi"), KeepAlive),
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nhi"
        );
        assert_eq!(
            written(404, &[], Body::Bytes(b""), Close),
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        assert_eq!(
            written(200, &[], Body::Omitted(1234567890), KeepAlive),
            "HTTP/1.1 200 OK\r\nContent-Length: 1234567890\r\nConnection: keep-alive\r\n\r\n"
        );
        assert_eq!(
            written(204, &[], Body::Bytes(b"lost"), KeepAlive),
            "HTTP/1.1 204 No Content\r\nConnection: keep-alive\r\n\r\n"
        );
        assert_eq!(
            written(200, &[], Body::UntilClose, Close),
            "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
        );
        assert_eq!(
            written(200, &[], Body::Chunked, Close),
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        );
        assert_eq!(
            written(599, &[("X", "a\r\nSet-Cookie: b")], Body::UntilClose, Close),
            "HTTP/1.1 599 \r\nX: a  Set-Cookie: b\r\nConnection: close\r\n\r\n"
        );
    }
}
