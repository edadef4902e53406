//! What a peer is told: one reply for each request, and why it failed.

use crate::wire::json;

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// An authentication without a token.
    MissingToken,
    /// A token that is nobody's.
    InvalidToken,
    /// A token of someone who belongs to no account, or whose ids are too long.
    Accountless,
    /// A token that was good once.
    ExpiredToken,
    /// Nobody could tell whether the token is good.
    Unavailable,
    /// The stream could not be started.
    Full,
    /// Anything but an authentication, before one.
    NotAuthenticated,
    /// A request nobody knows.
    UnknownCommand,
    /// Not a request.
    UnknownType,
    /// Not a JSON object.
    InvalidJson,
    /// More than this user may do.
    Forbidden,
    /// A field of another type.
    InvalidRequest,
    /// Too much at once.
    RateLimited,
}

impl Failure {
    /// The word for programs. Source: our reference, sections 5.1 and 5.3.
    pub fn word(self) -> &'static str {
        match self {
            Self::MissingToken => "missing_token",
            Self::InvalidToken | Self::Accountless => "invalid_token",
            Self::ExpiredToken => "expired_token",
            Self::Unavailable | Self::Full => "internal_error",
            Self::NotAuthenticated => "not_authenticated",
            Self::UnknownCommand => "unknown_command",
            Self::UnknownType => "unknown_type",
            Self::InvalidJson => "invalid_json",
            Self::Forbidden => "forbidden",
            Self::InvalidRequest => "invalid_request",
            Self::RateLimited => "rate_limited",
        }
    }

    /// The sentence for people.
    fn message(self) -> &'static str {
        match self {
            Self::MissingToken => "token is missing",
            Self::InvalidToken => "the token is not valid",
            Self::Accountless => "the token names no account and user of at most 256 bytes each",
            Self::ExpiredToken => "the token has expired",
            Self::Unavailable => "the token could not be checked: try again",
            Self::Full => "the server is over capacity: try again",
            Self::NotAuthenticated => "send authrequest with a token first",
            Self::UnknownCommand => "there is no such request",
            Self::UnknownType => "type is not a string that ends in request",
            Self::InvalidJson => "the message is not a JSON object",
            Self::Forbidden => "this user may not have the account's events",
            Self::InvalidRequest => {
                "token must be a string, requestId a string of at most 128 characters or a number"
            }
            Self::RateLimited => "too many requests: slow down",
        }
    }
}

/// What the peer calls a request, as the JSON it came in; absent unless the peer gave one that is to be repeated.
pub type RequestId = Option<Box<str>>;

/// The type of what answers no request in particular.
pub const ERROR: &str = "error";

/// A reply: `name` is the request's type without the trailing `request`.
pub fn reply(name: &str, outcome: Result<(), Failure>, id: &RequestId) -> Vec<u8> {
    let mut out = begin(name, outcome.is_ok());
    if let Err(failure) = outcome {
        out.extend_from_slice(b",\"error\":\"");
        out.extend_from_slice(failure.word().as_bytes());
        out.extend_from_slice(b"\",\"message\":");
        json::write_str(&mut out, failure.message());
    }
    end(out, id)
}

/// The reply that lists the streams: name, whether the user may have it, whether it is on.
pub fn streams(name: &str, streams: &[(&str, bool, bool)], id: &RequestId) -> Vec<u8> {
    let mut out = begin(name, true);
    out.extend_from_slice(b",\"streams\":");
    let mut separator = b'[';
    for (name, allowed, active) in streams {
        out.push(separator);
        separator = b',';
        out.extend_from_slice(
            format!("{{\"name\":\"{name}\",\"allowed\":{allowed},\"active\":{active}}}").as_bytes(),
        );
    }
    out.push(b']');
    end(out, id)
}

fn begin(name: &str, success: bool) -> Vec<u8> {
    let mut out = b"{\"type\":\"".to_vec();
    json::write_escaped(&mut out, name);
    out.extend_from_slice(b"response\",\"success\":");
    out.extend_from_slice(if success { b"true" } else { b"false" });
    out
}

fn end(mut out: Vec<u8>, id: &RequestId) -> Vec<u8> {
    if let Some(id) = id {
        out.extend_from_slice(b",\"requestId\":");
        out.extend_from_slice(id.as_bytes());
    }
    out.push(b'}');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_spelled_as_the_reference_has_them() {
        for (bytes, text) in [
            (reply("auth", Ok(()), &None), r#"{"type":"authresponse","success":true}"#),
            (
                reply("x\"", Err(Failure::UnknownCommand), &Some("1.50".into())),
                r#"{"type":"x\"response","success":false,"error":"unknown_command","message":"there is no such request","requestId":1.50}"#,
            ),
            (
                streams("liststreams", &[("user", true, false), ("account", false, true)], &None),
                r#"{"type":"liststreamsresponse","success":true,"streams":[{"name":"user","allowed":true,"active":false},{"name":"account","allowed":false,"active":true}]}"#,
            ),
        ] {
            assert_eq!(String::from_utf8_lossy(&bytes), text);
        }
    }
}
