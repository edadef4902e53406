//! Reads a request head: [`parse_head`].

use std::borrow::Cow;

use super::grammar::{is_host, is_token, list, target_len, trim, value_len};
use crate::wire::websocket::handshake::{Handshake, HandshakeError, Offer};

/// A header field: its name as it came, its value trimmed.
pub type Field<'a> = (&'a str, &'a [u8]);

/// Bounds of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// The request line's target; above it 414.
    pub target_bytes_max: usize,
    /// The whole head, blank line included; above it 431.
    pub head_bytes_max: usize,
    /// Header fields; above it 431.
    pub head_fields_max: usize,
}

/// What is known of a head that has not ended, so that a slow one is not read again for every byte.
/// A new one for each head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeadScan {
    /// Bytes read in vain.
    scanned: u32,
    /// The request line has been read and is good.
    line_read: bool,
}

/// How far a head is.
#[derive(Debug)]
pub enum Progress<'a> {
    /// More bytes are needed. Call again with the same bytes and more behind them.
    Incomplete,
    /// It is whole and good.
    Complete(Head<'a>),
}

/// Which HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// What follows the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyKind {
    /// Nothing.
    None,
    /// This many bytes, at least 1.
    Length(u64),
    /// Chunks: see [`super::Chunked`].
    Chunked,
}

/// A checked request head; borrows the bytes it was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head<'a> {
    /// Bytes it took, blank line included: where the body starts.
    pub len: usize,
    /// The method, as it came.
    pub method: &'a str,
    /// The target, as it came.
    pub target: &'a str,
    /// The target's path, percent-encoding left as it is; `*` for `OPTIONS *`.
    pub path: &'a str,
    /// What followed `?`, if there was one, without it.
    pub query: Option<&'a str>,
    /// The version.
    pub version: Version,
    /// What follows.
    pub body: BodyKind,
    /// The peer wants to send more requests on this connection.
    pub keep_alive: bool,
    /// The peer waits for `100 Continue` before it sends the body.
    pub expect_continue: bool,
    /// None: no WebSocket is asked for. Otherwise the handshake, or what is wrong with it.
    pub websocket: Option<Result<Handshake<'a>, HandshakeError>>,
}

/// Why a request head was refused. The connection is closed after the answer: where the next
/// request would start is anyone's guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadError {
    /// The request line is not `method SP target SP version CRLF`.
    RequestLine,
    /// A method byte outside the token grammar, or a method longer than any known one.
    Method,
    /// A byte that no target may hold.
    TargetByte,
    /// Not a path, an absolute `http` address or the asterisk of `OPTIONS`.
    TargetForm,
    /// The target is longer than the limit.
    TargetTooLong,
    /// Not a version at all.
    VersionForm,
    /// A version other than 1.0 and 1.1.
    VersionUnsupported,
    /// LF without CR.
    BareLf,
    /// CR without LF.
    BareCr,
    /// A line that starts with space or tab.
    Fold,
    /// Space between a field's name and its colon.
    SpaceBeforeColon,
    /// A field name that is empty or holds a byte outside the token grammar.
    FieldName,
    /// A control byte in a field value.
    FieldValue,
    /// More fields than the limit.
    TooManyFields,
    /// The head has not ended within the limit.
    TooLong,
    /// HTTP/1.1 without `Host`.
    HostMissing,
    /// More than one `Host`.
    HostRepeated,
    /// A `Host` that is no host.
    Host,
    /// `Content-Length` is not one decimal number.
    ContentLength,
    /// More than one `Content-Length`.
    ContentLengthRepeated,
    /// Both `Content-Length` and `Transfer-Encoding`.
    BothLengths,
    /// `Transfer-Encoding` that does not end in exactly one `chunked`.
    TransferEncoding,
    /// More than one `Transfer-Encoding`.
    TransferEncodingRepeated,
    /// `Transfer-Encoding` in HTTP/1.0.
    TransferEncodingInHttp10,
    /// A transfer coding other than `chunked`.
    TransferCodingUnknown,
    /// `Expect` asks for something other than `100-continue`.
    Expectation,
}

impl HeadError {
    /// The status sent before closing. Source: RFC 9110, section 15.5, and RFC 6585, section 5.
    pub fn status(self) -> u16 {
        match self {
            Self::TargetTooLong => 414,
            Self::TooLong | Self::TooManyFields => 431,
            Self::VersionUnsupported => 505,
            Self::TransferCodingUnknown => 501,
            Self::Expectation => 417,
            _ => 400,
        }
    }

    /// What is wrong, for the answer's body.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RequestLine => {
                "The request line is not a method, a target and a version, one space apart."
            }
            Self::Method => "The method is not a token of at most 32 bytes.",
            Self::TargetByte => "The request target holds a byte that must be percent-encoded.",
            Self::TargetForm => "The request target is neither a path nor an http address.",
            Self::TargetTooLong => "The request target is too long.",
            Self::VersionForm => "The request line does not end in an HTTP version.",
            Self::VersionUnsupported => "Only HTTP/1.1 and HTTP/1.0 are spoken here.",
            Self::BareLf => "A line ends in LF without CR.",
            Self::BareCr => "A CR is not followed by LF.",
            Self::Fold => "A header line starts with white space.",
            Self::SpaceBeforeColon => "A field name is followed by white space before its colon.",
            Self::FieldName => "A field name is not a token.",
            Self::FieldValue => "A field value holds a control byte.",
            Self::TooManyFields => "There are too many header fields.",
            Self::TooLong => "The request head is too long.",
            Self::HostMissing => "The Host field is missing.",
            Self::HostRepeated => "There is more than one Host field.",
            Self::Host => "The Host field is not a host and an optional port.",
            Self::ContentLength => "Content-Length is not one decimal number.",
            Self::ContentLengthRepeated => "There is more than one Content-Length field.",
            Self::BothLengths => "There is both a Content-Length and a Transfer-Encoding field.",
            Self::TransferEncoding => "Transfer-Encoding does not end in chunked, once.",
            Self::TransferEncodingRepeated => "There is more than one Transfer-Encoding field.",
            Self::TransferEncodingInHttp10 => "HTTP/1.0 has no Transfer-Encoding.",
            Self::TransferCodingUnknown => "The only transfer coding spoken here is chunked.",
            Self::Expectation => "The only expectation met here is 100-continue.",
        }
    }
}

impl std::fmt::Display for HeadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for HeadError {}

/// Memory for a head's fields, kept between heads.
///
/// ```
/// use ringmain::wire::http::{FieldsSpare, HeadLimits, HeadScan, Progress, parse_head};
/// let limits = HeadLimits { target_bytes_max: 4096, head_bytes_max: 16384, head_fields_max: 64 };
/// let mut spare = FieldsSpare::default();
/// let bytes = b"GET /up?a=1 HTTP/1.1\r\nHost: x\r\n\r\n";
/// let mut fields = spare.take();
/// match parse_head(bytes, &mut HeadScan::default(), &limits, &mut fields) {
///     Ok(Progress::Complete(head)) => {
///         assert_eq!((head.path, head.query, head.len), ("/up", Some("a=1"), bytes.len()));
///         assert_eq!(fields, [("Host", &b"x"[..])]);
///     }
///     other => panic!("{other:?}"),
/// }
/// spare.put_back(fields);
/// ```
#[derive(Debug, Default)]
pub struct FieldsSpare(Vec<Field<'static>>);

impl FieldsSpare {
    /// Takes the memory out, empty.
    pub fn take<'a>(&mut self) -> Vec<Field<'a>> {
        std::mem::take(&mut self.0)
    }

    /// Gives it back.
    pub fn put_back(&mut self, mut fields: Vec<Field<'_>>) {
        fields.clear();
        // There is nothing in it to map; the standard library collects such an iterator into the
        // vector it came from, which is what rids the memory of its lifetime.
        self.0 = fields.into_iter().map(|_| -> Field<'static> { ("", &[]) }).collect();
    }
}

/// Longer than any registered method.
const METHOD_BYTES_MAX: usize = 32;

/// Reads a request head from the start of `bytes`.
///
/// `bytes` is all that has arrived since the last message ended, and may go on behind the head.
/// `scan` belongs to this head: the same one for every call until it is whole. `fields` is emptied and
/// filled with the header fields in order; what is in it is meaningful only with `Complete`. One empty
/// line before the head is skipped (RFC 9112, section 2.2). How the bytes are cut into calls changes
/// nothing but when an error is noticed.
pub fn parse_head<'a>(
    bytes: &'a [u8],
    scan: &mut HeadScan,
    limits: &HeadLimits,
    fields: &mut Vec<Field<'a>>,
) -> Result<Progress<'a>, HeadError> {
    fields.clear();
    let window = &bytes[..bytes.len().min(limits.head_bytes_max)];
    let is_full = window.len() == limits.head_bytes_max;
    if !is_full && !is_worth_reading(window, scan, limits) {
        scan.scanned = u32::try_from(window.len()).unwrap_or(u32::MAX);
        return Ok(Progress::Incomplete);
    }
    let mut reader = Reader { bytes: window, at: 0 };
    match read(&mut reader, scan, limits, fields)? {
        Some(head) => Ok(Progress::Complete(head)),
        None if is_full => Err(HeadError::TooLong),
        None => {
            scan.scanned = u32::try_from(window.len()).unwrap_or(u32::MAX);
            Ok(Progress::Incomplete)
        }
    }
}

/// Could reading from the start again end otherwise than last time?
fn is_worth_reading(window: &[u8], scan: &HeadScan, limits: &HeadLimits) -> bool {
    let scanned = scan.scanned as usize;
    let new = window.get(scanned..).unwrap_or_default();
    if !scan.line_read {
        // Not for another piece of an endless target, until it is too long for any.
        return scanned == 0
            || window.len() > limits.target_bytes_max
            || target_len(new) != new.len();
    }
    // The end of the head, or a bare LF: then the error is found by the one place that names it.
    memchr::memchr_iter(b'\n', new).any(|at| {
        let before = &window[..scanned + at];
        !before.ends_with(b"\r") || before.ends_with(b"\r\n\r")
    })
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    /// Steps over CRLF; None: not enough bytes.
    fn line_end(&mut self, otherwise: HeadError) -> Result<Option<()>, HeadError> {
        match self.rest() {
            [b'\r', b'\n', ..] => {
                self.at += 2;
                Ok(Some(()))
            }
            [] | [b'\r'] => Ok(None),
            [b'\r', ..] => Err(HeadError::BareCr),
            [b'\n', ..] => Err(HeadError::BareLf),
            _ => Err(otherwise),
        }
    }
}

/// What the fields said, until they are judged together.
#[derive(Default)]
struct Said<'a> {
    host: Option<&'a [u8]>,
    content_length: Option<&'a [u8]>,
    transfer_encoding: Option<&'a [u8]>,
    close: bool,
    keep_alive: bool,
    expect: Option<&'a [u8]>,
    offer: Offer<'a>,
}

/// None: not enough bytes.
fn read<'a>(
    reader: &mut Reader<'a>,
    scan: &mut HeadScan,
    limits: &HeadLimits,
    fields: &mut Vec<Field<'a>>,
) -> Result<Option<Head<'a>>, HeadError> {
    match reader.rest() {
        [b'\r', b'\n', ..] => reader.at = 2,
        [b'\r'] => return Ok(None),
        _ => {}
    }
    let Some((method, target, version)) = read_request_line(reader, limits)? else {
        return Ok(None);
    };
    scan.line_read = true;
    let mut said = Said::default();
    loop {
        match reader.rest() {
            [b'\r', b'\n', ..] => {
                reader.at += 2;
                break;
            }
            _ if fields.len() == limits.head_fields_max => match reader.rest() {
                [] | [b'\r'] => return Ok(None),
                _ => return Err(HeadError::TooManyFields),
            },
            _ => {}
        }
        let Some(field) = read_field(reader)? else { return Ok(None) };
        note(&mut said, field)?;
        fields.push(field);
    }
    judge(method, target, version, &said, reader.at).map(Some)
}

fn read_request_line<'a>(
    reader: &mut Reader<'a>,
    limits: &HeadLimits,
) -> Result<Option<(&'a str, &'a str, Version)>, HeadError> {
    let rest = reader.rest();
    let len = rest.iter().take(METHOD_BYTES_MAX + 1).position(|&byte| !is_token(byte));
    let method = match len {
        None if rest.len() > METHOD_BYTES_MAX => return Err(HeadError::Method),
        None => return Ok(None),
        Some(0) => return Err(HeadError::Method),
        Some(len) if rest[len] != b' ' => return Err(HeadError::Method),
        Some(len) => &rest[..len],
    };
    reader.at += method.len() + 1;

    let rest = reader.rest();
    let window = &rest[..rest.len().min(limits.target_bytes_max.saturating_add(1))];
    let len = target_len(window);
    if len == window.len() {
        return if len > limits.target_bytes_max {
            Err(HeadError::TargetTooLong)
        } else {
            Ok(None)
        };
    }
    let target = match rest[len] {
        b' ' if len > 0 => &rest[..len],
        b' ' | b'\r' | b'\n' => return Err(HeadError::RequestLine),
        _ => return Err(HeadError::TargetByte),
    };
    reader.at += target.len() + 1;

    let rest = reader.rest();
    let version = match rest {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1', ..] => Version::Http11,
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0', ..] => Version::Http10,
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor, ..]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            return Err(HeadError::VersionUnsupported);
        }
        _ => {
            let shape = b"HTTP/0.0";
            let fits =
                |(&got, &want): (&u8, &u8)| got == want || (want == b'0' && got.is_ascii_digit());
            let good = rest.len() < shape.len() && rest.iter().zip(shape).all(fits);
            return if good { Ok(None) } else { Err(HeadError::VersionForm) };
        }
    };
    reader.at += 8;
    let Some(()) = reader.line_end(HeadError::RequestLine)? else { return Ok(None) };
    // Both hold ASCII only, by their tables.
    let (Ok(method), Ok(target)) = (std::str::from_utf8(method), std::str::from_utf8(target))
    else {
        return Err(HeadError::RequestLine);
    };
    Ok(Some((method, target, version)))
}

/// One header line; None: not enough bytes.
fn read_field<'a>(reader: &mut Reader<'a>) -> Result<Option<Field<'a>>, HeadError> {
    let rest = reader.rest();
    let Some(len) = rest.iter().position(|&byte| !is_token(byte)) else { return Ok(None) };
    let name = &rest[..len];
    match (rest[len], len) {
        (b':', 1..) => {}
        (b' ' | b'\t', 0) => return Err(HeadError::Fold),
        (b' ' | b'\t', _) => return Err(HeadError::SpaceBeforeColon),
        (b'\n', 0) => return Err(HeadError::BareLf),
        (b'\r', 0) => {
            return match rest {
                [b'\r'] => Ok(None),
                _ => Err(HeadError::BareCr),
            };
        }
        _ => return Err(HeadError::FieldName),
    }
    reader.at += len + 1;
    let rest = reader.rest();
    let value = &rest[..value_len(rest)];
    reader.at += value.len();
    let Some(()) = reader.line_end(HeadError::FieldValue)? else { return Ok(None) };
    // A token is ASCII.
    let Ok(name) = std::str::from_utf8(name) else { return Err(HeadError::FieldName) };
    Ok(Some((name, trim(value))))
}

/// Keeps what decides about the connection. Names are told apart by length first.
fn note<'a>(said: &mut Said<'a>, (name, value): Field<'a>) -> Result<(), HeadError> {
    let named = |wanted: &str| name.eq_ignore_ascii_case(wanted);
    match name.len() {
        4 if named("host") => once(&mut said.host, value, HeadError::HostRepeated)?,
        6 if named("expect") => said.expect = Some(value),
        7 if named("upgrade") => said.offer.note_upgrade(value),
        10 if named("connection") => {
            for token in list(value) {
                match token.len() {
                    5 if token.eq_ignore_ascii_case(b"close") => said.close = true,
                    7 if token.eq_ignore_ascii_case(b"upgrade") => {
                        said.offer.connection_upgrade = true
                    }
                    10 if token.eq_ignore_ascii_case(b"keep-alive") => said.keep_alive = true,
                    _ => {}
                }
            }
        }
        14 if named("content-length") => {
            once(&mut said.content_length, value, HeadError::ContentLengthRepeated)?
        }
        17 if named("transfer-encoding") => {
            once(&mut said.transfer_encoding, value, HeadError::TransferEncodingRepeated)?;
        }
        17 if named("sec-websocket-key") => said.offer.note_key(value),
        21 if named("sec-websocket-version") => said.offer.note_version(value),
        _ => {}
    }
    Ok(())
}

fn once<'a>(
    place: &mut Option<&'a [u8]>,
    value: &'a [u8],
    repeated: HeadError,
) -> Result<(), HeadError> {
    if place.replace(value).is_some() { Err(repeated) } else { Ok(()) }
}

fn judge<'a>(
    method: &'a str,
    target: &'a str,
    version: Version,
    said: &Said<'a>,
    len: usize,
) -> Result<Head<'a>, HeadError> {
    let (path, query) = split_target(method, target)?;
    match (said.host, version) {
        (None, Version::Http11) => return Err(HeadError::HostMissing),
        (Some(host), _) if !host.iter().all(|&byte| is_host(byte)) => return Err(HeadError::Host),
        _ => {}
    }
    let body = match (said.content_length, said.transfer_encoding) {
        (None, None) => BodyKind::None,
        (Some(_), Some(_)) => return Err(HeadError::BothLengths),
        (Some(length), None) => match decimal(length).ok_or(HeadError::ContentLength)? {
            0 => BodyKind::None,
            length => BodyKind::Length(length),
        },
        (None, Some(_)) if version == Version::Http10 => {
            return Err(HeadError::TransferEncodingInHttp10);
        }
        (None, Some(coding)) if coding.eq_ignore_ascii_case(b"chunked") => BodyKind::Chunked,
        (None, Some(codings)) => {
            let is_chunked = |coding: &&[u8]| coding.eq_ignore_ascii_case(b"chunked");
            let chunked = list(codings).filter(is_chunked).count();
            return Err(
                if chunked == 1 && list(codings).last().is_some_and(|last| is_chunked(&last)) {
                    HeadError::TransferCodingUnknown
                } else {
                    HeadError::TransferEncoding
                },
            );
        }
    };
    let is_11 = version == Version::Http11;
    let expect_continue = match said.expect {
        Some(value) if is_11 => {
            if !value.eq_ignore_ascii_case(b"100-continue") {
                return Err(HeadError::Expectation);
            }
            body != BodyKind::None
        }
        // HTTP/1.0 knows no expectations; RFC 9110, section 10.1.1 says to ignore them.
        _ => false,
    };
    let keep_alive = !said.close && (is_11 || said.keep_alive);
    let websocket = said.offer.judge(method == "GET", is_11, body == BodyKind::None);
    Ok(Head {
        len,
        method,
        target,
        path,
        query,
        version,
        body,
        keep_alive,
        expect_continue,
        websocket,
    })
}

/// The path and query of a target. Source: RFC 9112, section 3.2.
fn split_target<'a>(
    method: &str,
    target: &'a str,
) -> Result<(&'a str, Option<&'a str>), HeadError> {
    let rest = if target.starts_with('/') {
        target
    } else if target == "*" {
        return if method == "OPTIONS" { Ok(("*", None)) } else { Err(HeadError::TargetForm) };
    } else {
        let (scheme, rest) = target.split_once("://").ok_or(HeadError::TargetForm)?;
        if !["http", "https", "ws", "wss"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
            return Err(HeadError::TargetForm);
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        if authority.is_empty() || !authority.bytes().all(is_host) {
            return Err(HeadError::TargetForm);
        }
        rest
    };
    let (path, query) = match rest.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (rest, None),
    };
    Ok((if path.is_empty() { "/" } else { path }, query))
}

/// Digits only: no sign, no list, no space.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

impl<'a> Head<'a> {
    /// The head is a well-formed WebSocket handshake.
    pub fn is_websocket(&self) -> bool {
        matches!(self.websocket, Some(Ok(_)))
    }

    /// The path with percent-encoding removed; None if it is malformed or not UTF-8.
    pub fn path_decoded(&self) -> Option<Cow<'a, str>> {
        super::query::decode(self.path, super::query::Plus::Literal)
    }
}

#[cfg(test)]
#[path = "head_tests.rs"]
mod tests;
