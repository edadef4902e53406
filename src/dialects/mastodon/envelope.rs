//! What Mastodon publishes: an event's name and its payload, on one channel.

use std::sync::Arc;

use bytes::Bytes;

use super::brief::Brief;
use super::names;
use crate::base::ids::AppIndex;
use crate::base::name::{Channel, Name};
use crate::base::time::Nanos;
use crate::broker::{self, Meta, Payload, Publish};
use crate::wire::json::{self, Kind, Raw};

/// One published message, as it came.
#[derive(Clone, Debug)]
pub struct Envelope<'a> {
    /// What happened.
    pub event: Name,
    /// With what; none where Mastodon's server would deliver nothing: it is absent or empty.
    pub payload: Option<Raw<'a>>,
}

/// Why a message is no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// It is not JSON.
    Json,
    /// It is not an object with a name in `event`.
    Shape,
}

/// Whether JavaScript would take a value for true.
pub fn is_truthy(value: Raw<'_>) -> bool {
    match value.kind() {
        Kind::Object | Kind::Array => true,
        Kind::Bool => value.text() == "true",
        Kind::Number => value.as_f64().is_some_and(|it| it != 0.0),
        Kind::String => value.as_str().is_some_and(|it| !it.is_empty()),
        Kind::Null => false,
    }
}

impl<'a> Envelope<'a> {
    /// Reads a message.
    pub fn read(message: &'a [u8]) -> Result<Self, Malformed> {
        let message = json::parse(message).map_err(|_| Malformed::Json)?;
        let event = message.member("event").and_then(|it| it.as_str());
        let event = event.filter(|it| !it.is_empty()).ok_or(Malformed::Shape)?;
        let payload = message.member("payload").filter(|it| is_truthy(*it));
        Ok(Self { event: Name::from(&*event), payload })
    }

    /// Whether it is a status, which is judged on channels that are.
    pub fn is_status(&self) -> bool {
        matches!(&*self.event, "update" | "status.update")
    }

    /// The event, to be published on upstream's `channel`; none without a payload.
    pub fn publish(
        &self,
        app: AppIndex,
        channel: &str,
        brief: Option<Arc<Brief>>,
        arrived: Nanos,
    ) -> Option<Publish> {
        let channel = Channel { app, name: names::own(channel) };
        let data = Payload(Bytes::copy_from_slice(self.payload?.text().as_bytes()));
        let mut publish = Publish::new(channel, self.event.clone(), data, arrived);
        publish.meta = brief
            .map(|brief| Arc::new(Meta { brief: broker::Brief::new(brief), ..Meta::default() }));
        publish.quiet = true;
        // Timelines are kept elsewhere, whatever the rules of history say.
        publish.ephemeral = true;
        Some(publish)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_events_or_not() {
        for (message, expected) in [
            (r#"{"event":"update","payload":{"id":"1"}}"#, Ok(("update", Some(r#"{"id":"1"}"#)))),
            (r#"{"event":"delete","payload":"1","queued_at":1}"#, Ok(("delete", Some("\"1\"")))),
            (r#"{"event":"x","payload":7}"#, Ok(("x", Some("7")))),
            (r#"{"event":"x","payload":""}"#, Ok(("x", None))),
            (r#"{"event":"x","payload":0}"#, Ok(("x", None))),
            (r#"{"event":"x","payload":false}"#, Ok(("x", None))),
            (r#"{"event":"x","payload":null}"#, Ok(("x", None))),
            (r#"{"event":"filters_changed"}"#, Ok(("filters_changed", None))),
            (r#"{"event":"","payload":1}"#, Err(Malformed::Shape)),
            (r#"{"payload":1}"#, Err(Malformed::Shape)),
            ("[]", Err(Malformed::Shape)),
            ("1", Err(Malformed::Shape)),
            ("null", Err(Malformed::Shape)),
            ("kill", Err(Malformed::Json)),
            ("", Err(Malformed::Json)),
        ] {
            let read = Envelope::read(message.as_bytes());
            let read = read.as_ref().map(|it| (&*it.event, it.payload.map(Raw::text)));
            assert_eq!(read.map_err(|it| *it), expected, "{message}");
        }
    }
}
