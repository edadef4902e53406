//! The bodies of `events` and `batch_events`.

use std::borrow::Cow;

use bytes::Bytes;

use super::super::names;
use crate::base::ids::ConnectionId;
use crate::base::name::Name;
use crate::broker::Payload;
use crate::config::App;
use crate::dialects::api::Refusal;
use crate::wire::json::{self, Kind, Raw};

/// What is to be told about the channels of an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Info {
    /// How many users are present.
    pub user_count: bool,
    /// How many subscriptions there are.
    pub subscription_count: bool,
    /// The kept event.
    pub cache: bool,
}

impl Info {
    /// Reads a comma list of attributes; a word that is none is named.
    pub fn parse(list: &str) -> Result<Self, Refusal> {
        let mut info = Self::default();
        for word in list.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            match word {
                "user_count" => info.user_count = true,
                "subscription_count" => info.subscription_count = true,
                "cache" => info.cache = true,
                _ => {
                    return Err(Refusal::invalid(format!(
                        "info: unknown attribute '{word}'; known are user_count, subscription_count, cache"
                    )));
                }
            }
        }
        Ok(info)
    }
}

/// One event of a request, checked.
#[derive(Debug)]
pub(super) struct EventIn {
    pub name: Name,
    pub channels: Vec<Name>,
    pub data: Payload,
    /// The connection that does not receive it.
    pub exclude: Option<ConnectionId>,
    pub info: Option<Info>,
}

/// Reads the body of `events`.
pub(super) fn read_event(body: &[u8], app: &App) -> Result<EventIn, Refusal> {
    event(parse(body)?, app)
}

/// Reads the body of `batch_events`: all events, or the first reason against one.
pub(super) fn read_batch(body: &[u8], app: &App) -> Result<Vec<EventIn>, Refusal> {
    let body = parse(body)?;
    if body.kind() != Kind::Object {
        return Err(Refusal::shape("the body is not an object"));
    }
    let batch = body.member("batch").ok_or(Refusal::shape("batch is missing"))?;
    if batch.kind() != Kind::Array {
        return Err(Refusal::shape("batch is not a list"));
    }
    let mut events = Vec::new();
    for (i, item) in batch.items().enumerate() {
        if i == app.event_batch_max {
            let count = batch.items().count();
            return Err(Refusal::limit(format_args!(
                "Batch size ({count}) exceeds limit ({})",
                app.event_batch_max
            )));
        }
        let item = event(item, app).map_err(|refusal| Refusal {
            text: format!("batch[{i}]: {}", refusal.text).into(),
            ..refusal
        })?;
        events.push(item);
    }
    Ok(events)
}

fn parse(body: &[u8]) -> Result<Raw<'_>, Refusal> {
    json::parse(body).map_err(|error| Refusal::invalid(format!("the body is {error}")))
}

fn event(item: Raw<'_>, app: &App) -> Result<EventIn, Refusal> {
    let (mut name, mut data, mut channels, mut channel) = (None, None, None, None);
    let (mut socket_id, mut info) = (None, None);
    if item.kind() != Kind::Object {
        return Err(Refusal::shape("the event is not an object"));
    }
    for (key, value) in item.members() {
        match &*key {
            "name" => name = Some(value),
            "data" => data = Some(value),
            "channels" => channels = Some(value),
            "channel" => channel = Some(value),
            "socket_id" => socket_id = Some(value),
            "info" => info = Some(value),
            _ => {}
        }
    }
    let name = text(name, "name")?.ok_or(Refusal::shape("name is missing"))?;
    if name.is_empty() {
        return Err(Refusal::invalid("name is empty"));
    }
    if name.len() > app.event_name_bytes_max {
        return Err(Refusal::limit(format_args!(
            "Event name too long. Max length is {}",
            app.event_name_bytes_max
        )));
    }
    let channels = match channels.filter(|it| !it.is_null()) {
        Some(list) => channel_list(list, app)?,
        None => {
            let channel = text(channel, "channel")?.ok_or(Refusal::new(
                400,
                "missing_channel_info",
                "channel or channels is missing",
            ))?;
            vec![channel_name(&channel, app)?]
        }
    };
    let bytes = data.map_or(0, |data| data_bytes(data, app.event_payload_bytes_max));
    if bytes > app.event_payload_bytes_max {
        let kilobytes = app.event_payload_bytes_max / 1024;
        return Err(Refusal::new(
            413,
            "payload_too_large",
            format!(
                "Event payload size ({bytes} bytes) for event '{name}' exceeds limit ({kilobytes} KB)"
            ),
        ));
    }
    // An id that is none names no connection: nobody is left out.
    let exclude = text(socket_id, "socket_id")?.and_then(|id| id.parse().ok());
    let info = text(info, "info")?.map(|list| Info::parse(&list)).transpose()?;
    Ok(EventIn {
        name: Name::from(&*name),
        channels,
        // The one copy of the payload: everyone downstream shares these bytes.
        data: Payload(data.map_or(Bytes::from_static(b"null"), |data| {
            Bytes::copy_from_slice(data.text().as_bytes())
        })),
        exclude,
        info,
    })
}

/// How large the data is as its subscribers see it: a string's text, anything else's JSON.
fn data_bytes(data: Raw<'_>, bytes_max: usize) -> usize {
    // A string is never longer than its JSON: nothing to count when that fits.
    let bytes = data.text().len();
    if bytes <= bytes_max {
        return bytes;
    }
    data.as_str().map_or(bytes, |text| text.len())
}

fn channel_list(list: Raw<'_>, app: &App) -> Result<Vec<Name>, Refusal> {
    if list.kind() != Kind::Array {
        return Err(Refusal::shape("channels is not a list"));
    }
    let mut channels: Vec<Name> = Vec::new();
    for (i, item) in list.items().enumerate() {
        if i == app.event_channels_max {
            return Err(Refusal::limit(format_args!(
                "Cannot publish to more than {} channels at once",
                app.event_channels_max
            )));
        }
        let name = item.as_str().ok_or(Refusal::shape("channels holds other than strings"))?;
        channels.push(channel_name(&name, app)?);
    }
    if channels.is_empty() {
        return Err(Refusal::new(400, "missing_channel_info", "channels is empty"));
    }
    Ok(channels)
}

fn channel_name(name: &str, app: &App) -> Result<Name, Refusal> {
    match names::check_published(name, app.channel_name_bytes_max) {
        Ok(()) => Ok(Name::from(name)),
        Err(error @ names::NameError::TooLong { .. }) => Err(Refusal::limit(error)),
        Err(error) => Err(Refusal::invalid(error.to_string())),
    }
}

/// A string member that may be absent or null.
fn text<'a>(value: Option<Raw<'a>>, field: &str) -> Result<Option<Cow<'a, str>>, Refusal> {
    match value.filter(|it| !it.is_null()) {
        None => Ok(None),
        Some(value) => match value.as_str() {
            Some(text) => Ok(Some(text)),
            None => Err(Refusal::shape(format!("{field} is not a string"))),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::apps::tests::settings;

    #[test]
    fn bodies_are_refused_for_what_is_wrong_with_them() {
        let mut app = settings("1", "k", "s");
        app.event_payload_bytes_max = 1024;
        app.event_channels_max = 2;
        app.event_batch_max = 2;
        let large = format!(r#"{{"name":"e","channel":"c","data":"{}"}}"#, "x".repeat(1025));
        let long_name = format!(r#"{{"name":"{}","channel":"c","data":""}}"#, "x".repeat(201));
        let long_channel = format!(r#"{{"name":"e","channel":"{}","data":""}}"#, "x".repeat(201));
        for (body, status, code, part) in [
            ("nope", 400, "invalid_input", "not JSON"),
            ("{", 400, "invalid_input", "unfinished JSON"),
            ("[]", 422, "invalid_input", "not an object"),
            (r#"{"channel":"c","data":""}"#, 422, "invalid_input", "name is missing"),
            (r#"{"name":1,"channel":"c"}"#, 422, "invalid_input", "name is not a string"),
            (r#"{"name":"","channel":"c"}"#, 400, "invalid_input", "name is empty"),
            (r#"{"name":"e","data":""}"#, 400, "missing_channel_info", "missing"),
            (r#"{"name":"e","channels":[]}"#, 400, "missing_channel_info", "empty"),
            (r#"{"name":"e","channels":"c"}"#, 422, "invalid_input", "channels is not a list"),
            (r#"{"name":"e","channels":[1]}"#, 422, "invalid_input", "other than strings"),
            (r#"{"name":"e","channels":["a","b","c"]}"#, 400, "limit_exceeded", "more than 2"),
            (r#"{"name":"e","channel":"a b"}"#, 400, "invalid_input", "invalid characters: a b"),
            (r#"{"name":"e","channel":"a:b"}"#, 400, "invalid_input", "namespace 'a'"),
            (
                r#"{"name":"e","channel":"c","info":"x"}"#,
                400,
                "invalid_input",
                "unknown attribute 'x'",
            ),
            (r#"{"name":"e","channel":"c","socket_id":1}"#, 422, "invalid_input", "socket_id"),
            (&large, 413, "payload_too_large", "1025 bytes"),
            (&long_name, 400, "limit_exceeded", "Event name too long"),
            (&long_channel, 400, "limit_exceeded", "Max length is 200"),
        ] {
            let refusal = read_event(body.as_bytes(), &app).map(|_| ()).unwrap_err();
            assert_eq!((refusal.status, refusal.code), (status, code), "{body}");
            assert!(refusal.text.contains(part), "{body}: {}", refusal.text);
        }
        let one = r#"{"name":"e","channel":"c","data":"x"}"#;
        let refusal =
            read_batch(format!(r#"{{"batch":[{one},{{}}]}}"#).as_bytes(), &app).unwrap_err();
        assert_eq!(refusal.text, "batch[1]: name is missing");
        let four = format!(r#"{{"batch":[{one},{one},{one},{one}]}}"#);
        let refusal = read_batch(four.as_bytes(), &app).unwrap_err();
        assert_eq!(refusal.text, "Batch size (4) exceeds limit (2)");
        assert_eq!(refusal.code, "limit_exceeded");
        for body in ["{}", r#"{"batch":1}"#, "[]"] {
            assert_eq!(read_batch(body.as_bytes(), &app).unwrap_err().status, 422, "{body}");
        }
    }

    #[test]
    fn an_event_is_read() {
        let app = settings("1", "k", "s");
        let body = r#" {"name":"e\u00e9","channels":["a","presence-b"],"channel":"ignored",
            "data":{"x" : [1]},"socket_id":"1.2","info":"user_count, subscription_count","unknown":1} "#;
        let event = read_event(body.as_bytes(), &app).unwrap();
        assert_eq!(&*event.name, "eé");
        assert_eq!(event.channels.iter().map(|it| &**it).collect::<Vec<_>>(), ["a", "presence-b"]);
        assert_eq!(&event.data.0[..], br#"{"x" : [1]}"#);
        assert_eq!(event.exclude, Some(ConnectionId::from_pair(1, 2)));
        let info = event.info.unwrap();
        assert!(info.user_count && info.subscription_count && !info.cache);
        // Absent data is null, a socket id that is none excludes nobody.
        let event = read_event(br#"{"name":"e","channel":"c","socket_id":"x"}"#, &app).unwrap();
        assert_eq!((&event.data.0[..], event.exclude), (&b"null"[..], None));
        assert_eq!(read_batch(br#"{"batch":[]}"#, &app).unwrap().len(), 0);
    }
}
