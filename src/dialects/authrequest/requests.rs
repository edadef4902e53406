//! What a peer sends, read once: which request it is and what it is called.

use std::borrow::Cow;

use super::replies::{Failure, RequestId};
use crate::wire::json::{self, Kind, Raw};

/// The longest `requestId`: characters of a string, bytes of a number.
const REQUEST_ID_MAX: usize = 128;

/// One of the two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The caller's own events.
    User,
    /// The events of the caller's account.
    Account,
}

impl Which {
    /// Its name, in types and lists.
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Account => "account",
        }
    }
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Authenticate.
    Auth,
    /// Start a stream.
    Start(Which),
    /// Stop a stream.
    Stop(Which),
    /// List the streams; an extension.
    List,
    /// Show that you are there; an extension.
    Ping,
    /// Something else.
    Unknown,
}

/// One request.
#[derive(Debug)]
pub struct Request<'a> {
    /// Its type without the trailing `request`.
    pub name: Cow<'a, str>,
    /// What it asks.
    pub command: Command,
    /// Its `token`, whatever that is.
    pub token: Option<Raw<'a>>,
    /// What the peer calls it, or that this is nothing to call it.
    pub id: Result<RequestId, Failure>,
}

/// Reads a message. A failure is one that is told in an `errorresponse`, with what the peer called the message.
///
/// Without `extensions` nothing beyond the vendor's documentation is looked at.
pub fn read(text: &str, extensions: bool) -> Result<Request<'_>, (Failure, RequestId)> {
    let (mut kind, mut token, mut id) = (None, None, None);
    let read = json::read_object(text, |key, value| match &*key {
        "type" => kind = Some(value),
        "token" => token = Some(value),
        "requestId" if extensions => id = Some(value),
        _ => {}
    });
    read.map_err(|_| (Failure::InvalidJson, None))?;
    let id = request_id(id);
    let name = kind.and_then(Raw::as_str).and_then(|it| match it {
        Cow::Borrowed(it) => it.strip_suffix("request").map(Cow::Borrowed),
        Cow::Owned(it) => it.strip_suffix("request").map(|it| Cow::Owned(it.to_owned())),
    });
    let Some(name) = name else {
        return Err((Failure::UnknownType, id.unwrap_or_default()));
    };
    let command = match &*name {
        "auth" => Command::Auth,
        "startuserevent" => Command::Start(Which::User),
        "startaccountevent" => Command::Start(Which::Account),
        "stopuserevent" => Command::Stop(Which::User),
        "stopaccountevent" => Command::Stop(Which::Account),
        "liststreams" if extensions => Command::List,
        "ping" if extensions => Command::Ping,
        _ => Command::Unknown,
    };
    Ok(Request { name, command, token, id })
}

fn request_id(value: Option<Raw<'_>>) -> Result<RequestId, Failure> {
    let Some(value) = value.filter(|it| !it.is_null()) else { return Ok(None) };
    let fits = match value.kind() {
        Kind::String => value.as_str().is_some_and(|it| it.chars().count() <= REQUEST_ID_MAX),
        Kind::Number => value.text().len() <= REQUEST_ID_MAX,
        _ => false,
    };
    if fits { Ok(Some(value.text().into())) } else { Err(Failure::InvalidRequest) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_a_request_or_named_for_what_it_is() {
        use Failure::{InvalidJson, UnknownType};
        for (text, failure) in [
            ("", InvalidJson),
            ("nope", InvalidJson),
            ("[]", InvalidJson),
            ("\"authrequest\"", InvalidJson),
            ("{\"type\":\"authrequest\"", InvalidJson),
            ("{\"type\":\"authrequest\"}}", InvalidJson),
            (&format!("{{\"type\":\"authrequest\",\"x\":{}}}", "[".repeat(60_000)), InvalidJson),
            ("{}", UnknownType),
            ("{\"type\":null}", UnknownType),
            ("{\"type\":5}", UnknownType),
            ("{\"type\":[\"authrequest\"]}", UnknownType),
            ("{\"type\":\"auth\"}", UnknownType),
            ("{\"type\":\"authRequest\"}", UnknownType),
            ("{\"type\":\"authrequest \"}", UnknownType),
            ("{\"Type\":\"authrequest\"}", UnknownType),
        ] {
            assert_eq!(read(text, true).map(|_| ()), Err((failure, None)), "{text}");
        }
        for (text, name, command) in [
            (r#"{"type":"authrequest"}"#, "auth", Command::Auth),
            (
                r#" { "type" : "startusereventrequest" } "#,
                "startuserevent",
                Command::Start(Which::User),
            ),
            (
                r#"{"type":"stopaccounteventrequest"}"#,
                "stopaccountevent",
                Command::Stop(Which::Account),
            ),
            (r#"{"type":"\u0061uthrequest"}"#, "auth", Command::Auth),
            (r#"{"type":"x","type":"authrequest"}"#, "auth", Command::Auth),
            (r#"{"type":"request"}"#, "", Command::Unknown),
            (r#"{"type":"AUTHrequest"}"#, "AUTH", Command::Unknown),
            (r#"{"type":"pingrequest"}"#, "ping", Command::Unknown),
        ] {
            let request = read(text, false).unwrap();
            assert_eq!((&*request.name, request.command), (name, command), "{text}");
        }
        assert_eq!(read(r#"{"type":"pingrequest"}"#, true).unwrap().command, Command::Ping);
        assert_eq!(read(r#"{"type":"liststreamsrequest"}"#, true).unwrap().command, Command::List);
    }

    #[test]
    fn a_request_id_is_kept_as_it_came_or_refused() {
        let long = "é".repeat(128);
        let longer = "é".repeat(129);
        let id = |value: &str, extensions| {
            let text = format!("{{\"type\":\"xrequest\",\"requestId\":{value}}}");
            read(&text, extensions).unwrap().id.map(|it| it.map(String::from))
        };
        for (value, kept) in [
            ("\"a\"", true),
            ("\"\\u0061\\n\"", true),
            ("\"\"", true),
            ("-1.5e3", true),
            (&format!("\"{long}\""), true),
            (&format!("\"{longer}\""), false),
            (&"9".repeat(129), false),
            ("true", false),
            ("{}", false),
            ("[1]", false),
        ] {
            let expected =
                if kept { Ok(Some(value.to_owned())) } else { Err(Failure::InvalidRequest) };
            assert_eq!(id(value, true), expected, "{value}");
            assert_eq!(id(value, false), Ok(None), "{value}");
        }
        assert_eq!(id("null", true), Ok(None));
    }
}
