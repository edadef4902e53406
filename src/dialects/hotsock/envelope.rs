//! What came, in fields: one reader for messages over WebSocket and bodies over HTTP.
//!
//! One pass; values stay where they lie. What is of the wrong type is named. Unknown fields are ignored.

use std::borrow::Cow;

use bytes::Bytes;

use super::faults::{Code, Fault};
use super::names::{self, DATA_BYTES_MAX};
use crate::broker::Payload;
use crate::wire::json::{self, Kind, Raw};

/// The fields that messages and operations share.
#[derive(Default)]
pub struct Envelope<'a> {
    /// What is wanted, of a message; what is published, of an operation.
    pub event: Option<Raw<'a>>,
    channel: Option<Raw<'a>>,
    /// The data.
    pub data: Option<Raw<'a>>,
    key: Option<Raw<'a>>,
    expression: Option<Raw<'a>>,
    zone: Option<Raw<'a>>,
    eager: Option<Raw<'a>>,
}

impl<'a> Envelope<'a> {
    /// Reads a text.
    pub fn read(text: &'a str) -> Result<Self, Fault> {
        let mut it = Self::default();
        let read = json::read_object(text, |key, value| match &*key {
            "event" => it.event = Some(value),
            "channel" => it.channel = Some(value),
            "data" => it.data = Some(value),
            "key" => it.key = Some(value),
            "scheduleExpression" => it.expression = Some(value),
            "scheduleExpressionTimezone" => it.zone = Some(value),
            "eagerIdGeneration" => it.eager = Some(value),
            _ => {}
        });
        match read {
            Ok(()) => Ok(it),
            Err(error) => Err(Fault::new(Code::InvalidMessage, format!("the message is {error}"))),
        }
    }

    /// The event, which must be there.
    pub fn event(&self) -> Result<Cow<'a, str>, Fault> {
        required("event", self.event)
    }

    /// The channel's name, which must be there.
    pub fn channel(&self) -> Result<Cow<'a, str>, Fault> {
        required("channel", self.channel)
    }

    /// The channel's name, if there is one.
    pub fn some_channel(&self) -> Result<Option<Cow<'a, str>>, Fault> {
        string("channel", self.channel)
    }

    /// The key, which must be there.
    pub fn key(&self) -> Result<Cow<'a, str>, Fault> {
        required("key", self.key)
    }

    /// When it is to be done, and in which zone that is meant, if not at once.
    pub fn schedule(&self) -> Result<Option<At<'a>>, Fault> {
        let (expression, zone) = (
            string("scheduleExpression", self.expression)?,
            string("scheduleExpressionTimezone", self.zone)?,
        );
        Ok(expression.map(|it| (it, zone)))
    }

    /// Whether the id is wanted in the answer.
    pub fn eager(&self) -> Result<bool, Fault> {
        flag("eagerIdGeneration", self.eager)
    }

    /// The data's member of that name, a string: of what is an object, or not there.
    pub fn data_string(&self, name: &str) -> Result<Option<Cow<'a, str>>, Fault> {
        match self.data.filter(|it| !it.is_null()) {
            None => Ok(None),
            Some(data) if data.kind() == Kind::Object => {
                string(&format!("data.{name}"), data.member(name))
            }
            Some(_) => Err(Fault::field("data", "an object")),
        }
    }

    /// The data as what is published: compact enough, `null` if there is none.
    pub fn payload(&self) -> Result<Payload, Fault> {
        let Some(data) = self.data else { return Ok(Payload(Bytes::from_static(b"null"))) };
        let text = data.text();
        if text.len() <= DATA_BYTES_MAX {
            return Ok(Payload(Bytes::copy_from_slice(text.as_bytes())));
        }
        let compact = names::compact(text);
        if compact.len() > DATA_BYTES_MAX {
            let (bytes, max) = (compact.len(), DATA_BYTES_MAX);
            let text = format!("data has {bytes} bytes; it may have {max}");
            return Err(Fault::new(Code::DataTooLarge, text));
        }
        Ok(Payload(compact.into()))
    }

    /// The data as a value; none, `null` and the empty object are none.
    pub fn value(&self) -> Result<Option<Payload>, Fault> {
        let is_none = self.data.is_none_or(|data| {
            data.is_null() || (data.kind() == Kind::Object && data.members().next().is_none())
        });
        if is_none { Ok(None) } else { self.payload().map(Some) }
    }
}

/// An expression of a time, and the zone it is meant in.
pub type At<'a> = (Cow<'a, str>, Option<Cow<'a, str>>);

/// A string that must be there.
pub fn required<'a>(name: &str, value: Option<Raw<'a>>) -> Result<Cow<'a, str>, Fault> {
    string(name, value)?.ok_or_else(|| Fault::field(name, "a string and is missing"))
}

/// A string that may be absent or null.
pub fn string<'a>(name: &str, value: Option<Raw<'a>>) -> Result<Option<Cow<'a, str>>, Fault> {
    match value {
        None => Ok(None),
        Some(value) if value.is_null() => Ok(None),
        Some(value) => match value.as_str() {
            Some(text) => Ok(Some(text)),
            None => Err(Fault::field(name, "a string")),
        },
    }
}

/// A boolean that may be absent or null.
pub fn flag(name: &str, value: Option<Raw<'_>>) -> Result<bool, Fault> {
    match value {
        None => Ok(false),
        Some(value) if value.is_null() => Ok(false),
        Some(value) => value.as_bool().ok_or_else(|| Fault::field(name, "true or false")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_the_wrong_type_are_named() {
        type Read = fn(&Envelope<'_>) -> Result<(), Fault>;
        let event: Read = |it| it.event().map(drop);
        let channel: Read = |it| it.channel().map(drop);
        let key: Read = |it| it.key().map(drop);
        let schedule: Read = |it| it.schedule().map(drop);
        let eager: Read = |it| it.eager().map(drop);
        let token: Read = |it| it.data_string("token").map(drop);
        for (text, read, expected) in [
            ("{}", event, "\"event\" must be a string and is missing"),
            (r#"{"event":1}"#, event, "\"event\" must be a string"),
            (r#"{"channel":[]}"#, channel, "\"channel\" must be a string"),
            (r#"{"channel":null}"#, channel, "\"channel\" must be a string and is missing"),
            (r#"{"key":1}"#, key, "\"key\" must be a string"),
            (r#"{"scheduleExpression":1}"#, schedule, "\"scheduleExpression\" must be a string"),
            (r#"{"eagerIdGeneration":1}"#, eager, "\"eagerIdGeneration\" must be true or false"),
            (r#"{"data":1}"#, token, "\"data\" must be an object"),
            (r#"{"data":{"token":1}}"#, token, "\"data.token\" must be a string"),
        ] {
            let fault = Envelope::read(text).and_then(|it| read(&it)).unwrap_err();
            assert_eq!((fault.code, &*fault.text), (Code::InvalidMessage, expected), "{text}");
        }
        for text in ["", "x", "[]", "\"x\"", "{", "{}{}"] {
            assert!(Envelope::read(text).is_err(), "{text}");
        }
        assert!(Envelope::read(r#"{"event":"x","other":{}}"#).is_ok());
    }

    #[test]
    fn data_is_measured_compact_and_passed_on_as_it_came() {
        let size = |inside: usize| "x".repeat(inside);
        for (data, expected) in [
            ("1 ".to_owned(), Ok(1)),
            ("{ \"a\": 1 }".to_owned(), Ok(10)),
            (format!("\"{}\"", size(DATA_BYTES_MAX - 2)), Ok(DATA_BYTES_MAX)),
            (format!("\"{}\"", size(DATA_BYTES_MAX - 1)), Err(Code::DataTooLarge)),
            (format!("[{}\"\\\" \"]", " ".repeat(DATA_BYTES_MAX)), Ok(7)),
        ] {
            let text = format!("{{\"data\":{data}}}");
            let payload = Envelope::read(&text).unwrap().payload();
            assert_eq!(payload.map(|it| it.0.len()).map_err(|it| it.code), expected);
        }
        assert_eq!(Envelope::read("{}").unwrap().payload().unwrap().0, "null");
    }

    #[test]
    fn nothing_and_an_empty_object_clear() {
        for (text, is_some) in [
            ("{}", false),
            (r#"{"data":null}"#, false),
            (r#"{"data":{ }}"#, false),
            (r#"{"data":[]}"#, true),
            (r#"{"data":""}"#, true),
            (r#"{"data":0}"#, true),
            (r#"{"data":false}"#, true),
            (r#"{"data":{"a":{}}}"#, true),
        ] {
            assert_eq!(Envelope::read(text).unwrap().value().unwrap().is_some(), is_some, "{text}");
        }
    }
}
