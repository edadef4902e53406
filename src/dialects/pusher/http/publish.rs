//! The bodies of `events` and `batch_events`.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;

use super::super::names;
use super::fields::{check_event_name, parse, text};
use crate::auth::sign::fingerprint;
use crate::base::ids::ConnectionId;
use crate::base::name::Name;
use crate::broker::{IdempotencyKey, Meta, Payload, Tag, Tags};
use crate::config::App;
use crate::dialects::api::Refusal;
use crate::wire::json::{Kind, Raw};

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
    pub tags: Tags,
    pub meta: Option<Arc<Meta>>,
    /// It has no place in the channel's history.
    pub ephemeral: bool,
    pub key: Option<Arc<IdempotencyKey>>,
    /// The push notification that goes with it; read behind the rest.
    pub push: Option<Payload>,
}

/// Bytes of an idempotency key, at most. Source: Sockudo's HTTP API, "Idempotency".
const KEY_BYTES_MAX: usize = 128;

/// Bytes of a message id, at most: as long as an event's name may be.
const MESSAGE_ID_BYTES_MAX: usize = 200;

/// Tags of one event, and bytes of their names and values, at most. Source: Sockudo's bounds of tag filters,
/// beyond which nobody could look at them.
const TAGS_MAX: usize = 128;
const TAG_NAME_BYTES_MAX: usize = 256;
const TAG_VALUE_BYTES_MAX: usize = 1024;

/// Reads the body of `events`; `key` is the request's idempotency key, if its head had one.
pub(super) fn read_event(body: &[u8], key: Option<&str>, app: &App) -> Result<EventIn, Refusal> {
    let key = key.map(|key| Ok(format!("k:{}", checked_key(key, "X-Idempotency-Key")?)));
    event(parse(body)?, key.transpose()?, app)
}

/// Reads the body of `batch_events`: all events, or the first reason against one. A key of the whole request
/// is another one for each of its events, and none of them is that of a single event.
pub(super) fn read_batch(
    body: &[u8],
    key: Option<&str>,
    app: &App,
) -> Result<Vec<EventIn>, Refusal> {
    let key = key.map(|key| checked_key(key, "X-Idempotency-Key")).transpose()?;
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
        let item = event(item, key.map(|key| format!("b{i}:{key}")), app).map_err(|refusal| {
            Refusal { text: format!("batch[{i}]: {}", refusal.text).into(), ..refusal }
        })?;
        events.push(item);
    }
    Ok(events)
}

fn event(item: Raw<'_>, request_key: Option<String>, app: &App) -> Result<EventIn, Refusal> {
    let (mut name, mut data, mut channels, mut channel) = (None, None, None, None);
    let (mut socket_id, mut info, mut tags) = (None, None, None);
    let (mut message_id, mut extras, mut key, mut delta) = (None, None, None, None);
    if item.kind() != Kind::Object {
        return Err(Refusal::shape("the event is not an object"));
    }
    for (member, value) in item.members() {
        match &*member {
            "name" => name = Some(value),
            "data" => data = Some(value),
            "channels" => channels = Some(value),
            "channel" => channel = Some(value),
            "socket_id" => socket_id = Some(value),
            "info" => info = Some(value),
            "tags" => tags = Some(value),
            "message_id" => message_id = Some(value),
            "extras" => extras = Some(value),
            "idempotency_key" => key = Some(value),
            "delta" => delta = Some(value),
            _ => {}
        }
    }
    let name = text(name, "name")?.ok_or(Refusal::shape("name is missing"))?;
    check_event_name(&name, app)?;
    let channel = text(channel, "channel")?;
    let channels = match channels.filter(|it| !it.is_null()) {
        Some(list) => channel_list(list, app)?,
        None => {
            let channel = channel.ok_or(Refusal::new(
                400,
                "missing_channel_info",
                "channel or channels is missing",
            ))?;
            vec![channel_name(&channel, app)?]
        }
    };
    if let Some(data) = data {
        check_data(data, &name, app)?;
    }
    // An id that is none names no connection: nobody is left out.
    let exclude = text(socket_id, "socket_id")?.and_then(|id| id.parse().ok());
    let info = text(info, "info")?.map(|list| Info::parse(&list)).transpose()?;
    // It says so of events for peers that take what changed.
    let is_whole = match delta.filter(|it| !it.is_null()).map(Raw::as_bool) {
        None | Some(Some(true)) => false,
        Some(Some(false)) => true,
        Some(None) => return Err(Refusal::shape("delta is not a boolean")),
    };
    let tags_text = tags.map_or("", Raw::text);
    let tags = tags.filter(|it| !it.is_null()).map(read_tags).transpose()?.unwrap_or_default();
    let message_id = text(message_id, "message_id")?;
    if let Some(id) = &message_id
        && !(1..=MESSAGE_ID_BYTES_MAX).contains(&id.len())
    {
        return Err(Refusal::invalid(format!("message_id has 1 to {MESSAGE_ID_BYTES_MAX} bytes")));
    }
    let extras = extras.filter(|it| !it.is_null());
    let said = extras.map(|extras| Extras::read(extras, app)).transpose()?.unwrap_or_default();
    let key = match text(key, "idempotency_key")? {
        Some(key) => Some(format!("k:{}", checked_key(&key, "idempotency_key")?)),
        None => request_key,
    };
    // What was meant for the message counts before what was meant for the request: the SDKs make up a new
    // one of these for each call. Source: Sockudo's HTTP API, "Idempotency".
    let named = message_id.as_ref().map(|id| format!("m:{id}"));
    let named = named.or(said.key.as_ref().map(|key| format!("x:{key}")));
    let key = match named {
        Some(named) => {
            // The same event, however its members are ordered and whatever else the request asks to know.
            let channels: Vec<_> = channels.iter().map(|it| &**it).collect();
            let parts = [
                &*name,
                data.map_or("null", Raw::text),
                &channels.join(" "),
                socket_id.map_or("", Raw::text),
                tags_text,
                message_id.as_deref().unwrap_or_default(),
                extras.map_or("", Raw::text),
            ];
            Some((named, fingerprint(&parts.map(str::as_bytes))))
        }
        // A request is repeated under its key alone: who makes it again may not write it alike.
        None => key.map(|key| (key, [0; 16])),
    };
    let key = key.map(|(name, fingerprint)| {
        Arc::new(IdempotencyKey { name: Name::from(&*name), fingerprint, span: None })
    });
    let meta = (message_id.is_some() || extras.is_some() || is_whole).then(|| {
        Arc::new(Meta {
            message_id: message_id.as_deref().map(Name::from),
            extras: extras.map(|it| Payload(Bytes::copy_from_slice(it.text().as_bytes()))),
            is_whole,
            ..Meta::default()
        })
    });
    Ok(EventIn {
        tags,
        meta,
        ephemeral: said.ephemeral,
        key,
        push: None,
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

/// What of `extras` the server looks at itself.
#[derive(Debug, Default)]
pub(super) struct Extras<'a> {
    ephemeral: bool,
    key: Option<Cow<'a, str>>,
}

impl<'a> Extras<'a> {
    /// Reads and checks them.
    pub fn read(extras: Raw<'a>, app: &App) -> Result<Self, Refusal> {
        if extras.kind() != Kind::Object {
            return Err(Refusal::shape("extras is not an object"));
        }
        check_size(extras, "extras", app)?;
        let member = |name: &str| extras.member(name).filter(|it| !it.is_null());
        if let Some(headers) = member("headers") {
            let is_flat =
                |it: Raw<'_>| matches!(it.kind(), Kind::String | Kind::Number | Kind::Bool);
            if headers.kind() != Kind::Object || !headers.members().all(|(_, it)| is_flat(it)) {
                return Err(Refusal::shape(
                    "extras.headers is not a flat map of strings, numbers and booleans",
                ));
            }
        }
        let switch = |name: &str| match member(name).map(Raw::as_bool) {
            None => Ok(false),
            Some(Some(value)) => Ok(value),
            Some(None) => Err(Refusal::shape(format!("extras.{name} is not a boolean"))),
        };
        switch("echo")?;
        let ephemeral = switch("ephemeral")?;
        // Documented in one spelling, sent in the other by the SDKs of Python.
        let key = member("idempotencyKey").or_else(|| member("idempotency_key"));
        let key = text(key, "extras.idempotencyKey")?;
        if let Some(key) = &key {
            checked_key(key, "extras.idempotencyKey")?;
        }
        Ok(Self { ephemeral, key })
    }
}

fn checked_key<'k>(key: &'k str, what: &str) -> Result<&'k str, Refusal> {
    if (1..=KEY_BYTES_MAX).contains(&key.len()) {
        return Ok(key);
    }
    Err(Refusal::invalid(format!("{what} has 1 to {KEY_BYTES_MAX} bytes")))
}

fn read_tags(tags: Raw<'_>) -> Result<Tags, Refusal> {
    if tags.kind() != Kind::Object {
        return Err(Refusal::shape("tags is not a map of strings"));
    }
    let mut read: Vec<Tag> = Vec::new();
    for (name, value) in tags.members() {
        let value = value.as_str().ok_or(Refusal::shape("tags is not a map of strings"))?;
        if name.len() > TAG_NAME_BYTES_MAX || value.len() > TAG_VALUE_BYTES_MAX {
            return Err(Refusal::limit(format_args!(
                "a tag's name has at most {TAG_NAME_BYTES_MAX} bytes, its value {TAG_VALUE_BYTES_MAX}"
            )));
        }
        // As in every object here, the last one counts.
        read.retain(|it| *it.name != *name);
        if read.len() == TAGS_MAX {
            return Err(Refusal::limit(format_args!("an event has at most {TAGS_MAX} tags")));
        }
        read.push(Tag { name: Name::from(&*name), value: Name::from(&*value) });
    }
    Ok(Tags::from(read))
}

/// Checks how large an event's or a message's data is.
pub(super) fn check_data(data: Raw<'_>, event: &str, app: &App) -> Result<(), Refusal> {
    let bytes = data_bytes(data, app.event_payload_bytes_max);
    if bytes <= app.event_payload_bytes_max {
        return Ok(());
    }
    let kilobytes = app.event_payload_bytes_max / 1024;
    let text = format!(
        "Event payload size ({bytes} bytes) for event '{event}' exceeds limit ({kilobytes} KB)"
    );
    Err(Refusal::new(413, "payload_too_large", text))
}

/// Checks how large something else is that is passed on.
pub(super) fn check_size(value: Raw<'_>, what: &str, app: &App) -> Result<(), Refusal> {
    if value.text().len() <= app.event_payload_bytes_max {
        return Ok(());
    }
    let kilobytes = app.event_payload_bytes_max / 1024;
    Err(Refusal::new(413, "payload_too_large", format!("{what} exceeds limit ({kilobytes} KB)")))
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
    match names::check_published(name, app.channel_name_bytes_max, &app.namespaces) {
        Ok(()) => Ok(Name::from(name)),
        Err(error @ names::NameError::TooLong { .. }) => Err(Refusal::limit(error)),
        Err(error) => Err(Refusal::invalid(error.to_string())),
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
        let key = "k".repeat(129);
        let long_key = format!(r#"{{"name":"e","channel":"c","idempotency_key":"{key}"}}"#);
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
            (r#"{"name":"e","channel":"c","tags":[]}"#, 422, "invalid_input", "tags is not a map"),
            (
                r#"{"name":"e","channel":"c","tags":{"a":1}}"#,
                422,
                "invalid_input",
                "tags is not a map",
            ),
            (
                r#"{"name":"e","channel":"c","message_id":""}"#,
                400,
                "invalid_input",
                "message_id has",
            ),
            (
                r#"{"name":"e","channel":"c","message_id":7}"#,
                422,
                "invalid_input",
                "message_id is not",
            ),
            (r#"{"name":"e","channel":"c","extras":1}"#, 422, "invalid_input", "extras is not"),
            (
                r#"{"name":"e","channel":"c","extras":{"headers":{"a":{}}}}"#,
                422,
                "invalid_input",
                "extras.headers is not",
            ),
            (
                r#"{"name":"e","channel":"c","extras":{"ephemeral":1}}"#,
                422,
                "invalid_input",
                "extras.ephemeral is not",
            ),
            (
                r#"{"name":"e","channel":"c","extras":{"idempotencyKey":""}}"#,
                400,
                "invalid_input",
                "extras.idempotencyKey has 1 to 128",
            ),
            (
                r#"{"name":"e","channel":"c","idempotency_key":""}"#,
                400,
                "invalid_input",
                "idempotency_key has 1 to 128",
            ),
            (&long_key, 400, "invalid_input", "idempotency_key has 1 to 128"),
            (&large, 413, "payload_too_large", "1025 bytes"),
            (&long_name, 400, "limit_exceeded", "Event name too long"),
            (&long_channel, 400, "limit_exceeded", "Max length is 200"),
        ] {
            let refusal = read_event(body.as_bytes(), None, &app).map(|_| ()).unwrap_err();
            assert_eq!((refusal.status, refusal.code), (status, code), "{body}");
            assert!(refusal.text.contains(part), "{body}: {}", refusal.text);
        }
        let one = r#"{"name":"e","channel":"c","data":"x"}"#;
        let refusal =
            read_batch(format!(r#"{{"batch":[{one},{{}}]}}"#).as_bytes(), None, &app).unwrap_err();
        assert_eq!(refusal.text, "batch[1]: name is missing");
        let four = format!(r#"{{"batch":[{one},{one},{one},{one}]}}"#);
        let refusal = read_batch(four.as_bytes(), None, &app).unwrap_err();
        assert_eq!(refusal.text, "Batch size (4) exceeds limit (2)");
        assert_eq!(refusal.code, "limit_exceeded");
        for body in ["{}", r#"{"batch":1}"#, "[]"] {
            assert_eq!(read_batch(body.as_bytes(), None, &app).unwrap_err().status, 422, "{body}");
        }
    }

    #[test]
    fn an_event_is_read() {
        let app = settings("1", "k", "s");
        let body = r#" {"name":"e\u00e9","channels":["a","presence-b"],"channel":"ignored",
            "data":{"x" : [1]},"socket_id":"1.2","info":"user_count, subscription_count","unknown":1} "#;
        let event = read_event(body.as_bytes(), None, &app).unwrap();
        assert_eq!(&*event.name, "eé");
        assert_eq!(event.channels.iter().map(|it| &**it).collect::<Vec<_>>(), ["a", "presence-b"]);
        assert_eq!(&event.data.0[..], br#"{"x" : [1]}"#);
        assert_eq!(event.exclude, Some(ConnectionId::from_pair(1, 2)));
        let info = event.info.unwrap();
        assert!(info.user_count && info.subscription_count && !info.cache);
        // Absent data is null, a socket id that is none excludes nobody.
        let event =
            read_event(br#"{"name":"e","channel":"c","socket_id":"x"}"#, None, &app).unwrap();
        assert_eq!((&event.data.0[..], event.exclude), (&b"null"[..], None));
        assert_eq!(read_batch(br#"{"batch":[]}"#, None, &app).unwrap().len(), 0);
    }

    #[test]
    fn what_else_is_said_about_an_event_is_kept() {
        let app = settings("1", "k", "s");
        let body =
            br#"{"name":"e","channel":"c","data":"x","message_id":"m","tags":{"a":"1","b":"2"},
            "extras":{"headers":{"h":1},"ephemeral":true,"ref":{"x":[]}}}"#;
        let event = read_event(body, None, &app).unwrap();
        let meta = event.meta.unwrap();
        assert_eq!(meta.message_id.as_deref(), Some("m"));
        let extras = meta.extras.as_ref().unwrap();
        assert_eq!(&extras.0[..], br#"{"headers":{"h":1},"ephemeral":true,"ref":{"x":[]}}"#);
        assert!(event.ephemeral);
        let tags: Vec<_> = event.tags.as_slice().iter().map(|it| (&*it.name, &*it.value)).collect();
        assert_eq!(tags, [("a", "1"), ("b", "2")]);
        let plain = read_event(br#"{"name":"e","channel":"c","extras":null}"#, None, &app).unwrap();
        assert!(plain.meta.is_none() && plain.key.is_none() && !plain.ephemeral);
    }

    #[test]
    fn a_key_names_the_event_it_came_with() {
        let app = settings("1", "k", "s");
        let key = |body: &str, header: Option<&str>| {
            let event = read_event(format!("{{\"name\":\"e\",{body}}}").as_bytes(), header, &app);
            event.unwrap().key.map(|it| (it.name.to_string(), it.fingerprint))
        };
        let name = |body, header| key(body, header).map(|(name, _)| name);
        let plain = r#""channel":"c","data":"1""#;
        assert_eq!(name(plain, None), None);
        assert_eq!(name(plain, Some("h")).as_deref(), Some("k:h"));
        let keyed = r#""channel":"c","data":"1","idempotency_key":"b""#;
        assert_eq!(name(keyed, Some("h")).as_deref(), Some("k:b"));
        let extra = r#""channel":"c","idempotency_key":"b","extras":{"idempotencyKey":"x"}"#;
        assert_eq!(name(extra, None).as_deref(), Some("x:x"));
        let named = r#""channel":"c","message_id":"m","extras":{"idempotencyKey":"x"}"#;
        assert_eq!(name(named, Some("h")).as_deref(), Some("m:m"));
        // A request is the same whatever it says now.
        assert_eq!(key(keyed, None), key(r#""channel":"d","idempotency_key":"b""#, None));
        // A message is another one with anything else in it; the order of members and what is asked to know
        // are nothing of it.
        let named = r#""channel":"c","data":"1","message_id":"b""#;
        assert_eq!(key(named, None), key(r#""message_id":"b","data":"1","channels":["c"]"#, None));
        assert_eq!(key(named, None), key(&format!("{named},\"info\":\"cache\""), None));
        for other in [
            r#""channel":"c","data":"2","message_id":"b""#,
            r#""channel":"d","data":"1","message_id":"b""#,
            r#""channel":"c","data":"1","message_id":"b","tags":{"a":"b"}"#,
            r#""channel":"c","data":"1","message_id":"b","extras":{}"#,
            r#""channel":"c","data":"1","message_id":"b","socket_id":"1.1""#,
        ] {
            assert_ne!(key(named, None), key(other, None), "{other}");
        }
        let one = r#"{"name":"e","channel":"c"}"#;
        let batch = format!(r#"{{"batch":[{one},{one}]}}"#);
        let batch = read_batch(batch.as_bytes(), Some("h"), &app).unwrap();
        let names: Vec<_> = batch.iter().map(|it| &*it.key.as_ref().unwrap().name).collect();
        assert_eq!(names, ["b0:h", "b1:h"]);
        assert!(read_event(one.as_bytes(), Some(""), &app).is_err());
    }
}
