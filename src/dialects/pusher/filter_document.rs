//! A message as expressions of filters see it: what its subscribers are told, its data looked into. Source: Sockudo,
//! "Filter expressions"; that data which is JSON text is looked into, as clients do, is ours.

use std::borrow::Cow;

use super::expression::{Expression, Value};
use super::filters::action_event;
use crate::base::name::Name;
use crate::broker::{Event, Happening, Payload, versioned};
use crate::wire::json;

/// Bytes of a document. Source: Sockudo's limits.
const DOCUMENT_BYTES_MAX: usize = 64 << 10;
/// Headers of this prefix are the server's own.
const OWN_HEADERS: &str = "sockudo_";

/// What the document is made of and does not hold itself.
struct Parts<'a> {
    event: &'a str,
    name: Option<&'a Name>,
    data: Option<&'a Payload>,
    user_id: Option<&'a Name>,
    action: &'static str,
    extras: Option<&'a Payload>,
}

/// Whether an expression holds of a message or a version of one. Of what it cannot be asked it does not hold.
pub(super) fn holds(expression: &Expression, event: &Event) -> bool {
    let meta = event.meta.as_deref();
    let extras = meta.and_then(|it| it.extras.as_ref());
    let parts = match &event.happening {
        Happening::Message { name, data, sender } => Parts {
            event: name,
            name: None,
            data: Some(data),
            user_id: sender.as_ref().and_then(|it| it.user_id.as_ref()),
            action: "create",
            extras,
        },
        Happening::Mutated(it) => Parts {
            event: action_event(it.action),
            name: it.name.as_ref(),
            data: it.data.as_ref(),
            user_id: it.about.client_id.as_ref(),
            action: match it.action {
                versioned::Action::Create => "create",
                versioned::Action::Update => "update",
                versioned::Action::Delete => "delete",
                versioned::Action::Append => "append",
            },
            extras,
        },
        _ => return false,
    };
    let tags = event.tags.as_slice();
    let bytes = parts.data.map_or(0, |it| it.0.len())
        + parts.extras.map_or(0, |it| it.0.len())
        + tags.iter().map(|tag| tag.name.len() + tag.value.len()).sum::<usize>();
    if bytes > DOCUMENT_BYTES_MAX {
        return false;
    }
    let data = parts.data.filter(|_| expression.looks_at("data"));
    let data = data.and_then(|it| json::parse(&it.0).ok());
    // Clients are told text and read it as JSON if it is some.
    let inner = data.and_then(|it| it.as_str());
    let data = match (data, &inner) {
        (None, _) => Value::Null,
        (Some(data), None) => Value::new(data),
        (Some(_), Some(text)) => json::parse_str(text).map_or(Value::Text(text), Value::new),
    };
    let headers = parts.extras.filter(|_| expression.looks_at("headers"));
    let headers = headers.and_then(|it| json::parse(&it.0).ok()?.member("headers"));
    let headers: Vec<_> = headers.into_iter().flat_map(|it| it.members()).collect();
    let headers = headers.iter().filter(|(name, _)| !name.starts_with(OWN_HEADERS));
    let headers = headers.map(|(name, value)| (&**name, Value::new(*value)));
    let message_id: Cow<'_, str> =
        match (meta.and_then(|it| it.message_id.as_ref()), &event.happening) {
            (Some(id), _) => Cow::Borrowed(id),
            (None, _) if !expression.looks_at("messageId") => Cow::Borrowed(""),
            (None, Happening::Mutated(it)) => it.message.id.to_string().into(),
            (None, _) => event.id.to_string().into(),
        };
    let stream_id = event.epoch.map(|it| it.to_string());
    let optional = |it| match it {
        Some(text) => Value::Text(text),
        None => Value::Null,
    };
    // The first value of a name is the one that is told.
    let first = tags
        .iter()
        .enumerate()
        .filter(|(i, tag)| !tags[..*i].iter().any(|before| before.name == tag.name));
    let tags = first.map(|(_, tag)| (&*tag.name, Value::Text(&tag.value)));
    let document = Value::object([
        ("event", Value::Text(parts.event)),
        ("channel", Value::Text(&event.channel.name)),
        ("data", data),
        ("name", optional(parts.name.map(|it| &**it))),
        ("userId", optional(parts.user_id.map(|it| &**it))),
        ("tags", Value::object(tags)),
        ("headers", Value::object(headers)),
        ("messageId", Value::Text(&message_id)),
        ("streamId", optional(stream_id.as_deref())),
        ("serial", event.epoch.map_or(Value::Null, |_| Value::Number(event.serial.0 as f64))),
        ("action", Value::Text(parts.action)),
    ]);
    expression.ask(document).is_ok_and(|it| it.is_true())
}
