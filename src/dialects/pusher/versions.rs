//! Messages with versions, and what is said about them, as version 2 tells it: what stands in a message's extras,
//! the frames of further versions, of annotations and of summaries, and the same as items of the HTTP API.
//!
//! Source: Sockudo, "Versioned messages" and "Annotations", and how its clients take them: they fold what comes by
//! the action in the headers, not by the name of the frame.

use super::frames;
use crate::base::event_id::EventId;
use crate::base::name::Name;
use crate::base::time::UnixMillis;
use crate::broker::versioned::{About, Action, Annotated, MessageRef, Mutated, Summarized};
use crate::broker::{Event, Happening, Payload};
use crate::wire::json::{self, Kind, Raw};
use crate::wire::write_decimal;

/// Headers whose names start so are the server's.
const HEADER_PREFIX: &str = "sockudo_";

/// What is shown of a version that added to a message's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// All of the data in that version.
    Whole,
    /// What it added.
    Added,
}

/// Which version of which message an event is.
#[derive(Clone, Copy, Debug)]
struct Versioned {
    message: MessageRef,
    action: Action,
    id: EventId,
    at: UnixMillis,
    /// It stands for its message in the message's first place, whole, whatever came before it.
    is_latest: bool,
}

impl Versioned {
    /// Of a message that is kept, or of a further version of one.
    fn of(event: &Event) -> Option<Self> {
        let first = MessageRef { id: event.id, serial: event.serial };
        let (message, action) = match &event.happening {
            Happening::Message { .. } if event.epoch.is_some() => (first, Action::Create),
            Happening::Mutated(it) => (it.message, it.action),
            _ => return None,
        };
        let is_latest = action != Action::Create && event.serial == message.serial;
        Some(Self { message, action, id: event.id, at: event.at, is_latest })
    }

    /// Appends its name, a JSON string; the first is called as its message is.
    fn write_serial(self, out: &mut Vec<u8>) {
        match self.action {
            Action::Create => write_ref(self.message, out),
            _ => frames::append(out, format_args!("\"{}\"", self.id)),
        }
    }

    /// Appends the server's headers, as members.
    fn write_headers(self, out: &mut Vec<u8>) {
        // Clients add an appended text to what they have, and have nothing yet when they are told the latest.
        let action = match self.action {
            Action::Append if self.is_latest => Action::Update,
            other => other,
        };
        frames::append(out, format_args!("\"sockudo_action\":\"message.{}\"", word(action)));
        out.extend_from_slice(b",\"sockudo_message_serial\":");
        write_ref(self.message, out);
        out.extend_from_slice(b",\"sockudo_version_serial\":");
        self.write_serial(out);
        // Numbers of headers are floating; so clients in every language read the same type.
        out.extend_from_slice(b",\"sockudo_history_serial\":");
        write_decimal(out, self.message.serial.0);
        out.extend_from_slice(b".0,\"sockudo_version_timestamp_ms\":");
        write_decimal(out, self.at.0);
        out.extend_from_slice(b".0");
    }
}

/// The word for what made a version.
pub fn word(action: Action) -> &'static str {
    match action {
        Action::Create => "create",
        Action::Update => "update",
        Action::Delete => "delete",
        Action::Append => "append",
    }
}

/// What a version's frame is called.
pub(super) fn frame_name(action: Action) -> &'static str {
    match action {
        Action::Create => "sockudo:message.create",
        Action::Update => "sockudo:message.update",
        Action::Delete => "sockudo:message.delete",
        Action::Append => "sockudo:message.append",
    }
}

/// Appends a message's name for good, as a JSON string.
pub fn write_ref(message: MessageRef, out: &mut Vec<u8>) {
    frames::append(out, format_args!("\"{message}\""));
}

/// Appends the member for an event's extras, its comma in front: what its publisher said, and which version of which
/// message it is, if it is one and `has_versions`; nothing if there is nothing.
pub(super) fn write_extras(event: &Event, has_versions: bool, out: &mut Vec<u8>) {
    let extras = event.meta.as_ref().and_then(|it| it.extras.as_ref());
    let version = Versioned::of(event).filter(|_| has_versions);
    let Some(version) = version else {
        if let Some(extras) = extras {
            out.extend_from_slice(b",\"extras\":");
            out.extend_from_slice(&extras.0);
        }
        return;
    };
    out.extend_from_slice(b",\"extras\":{");
    let extras = extras.and_then(|it| json::parse(&it.0).ok());
    let mut headers = None;
    for (name, value) in extras.iter().flat_map(|it| it.members()) {
        // With the server's own, at the end.
        if name == "headers" {
            headers = Some(value);
            continue;
        }
        write_member(&name, value, out);
        out.push(b',');
    }
    out.extend_from_slice(b"\"headers\":{");
    for (name, value) in headers.iter().flat_map(|it| it.members()) {
        if !name.starts_with(HEADER_PREFIX) {
            write_member(&name, value, out);
            out.push(b',');
        }
    }
    version.write_headers(out);
    out.extend_from_slice(b"}}");
}

fn write_member(name: &str, value: Raw<'_>, out: &mut Vec<u8>) {
    json::write_str(out, name);
    out.push(b':');
    out.extend_from_slice(value.text().as_bytes());
}

/// Appends a further version of a message as its subscribers are told.
pub(super) fn mutated(
    event: &Event,
    it: &Mutated,
    shown: Shown,
    has_versions: bool,
    out: &mut Vec<u8>,
) {
    let is_latest = event.serial == it.message.serial;
    let shown = if is_latest { Shown::Whole } else { shown };
    start_item(event, it.action, out);
    write_data(it, shown, out);
    write_optional("name", it.name.as_ref(), out);
    // Whose message it is, where that is known.
    let owner = event.meta.as_ref().and_then(|it| it.client_id.as_ref());
    write_optional("user_id", owner.or(it.about.client_id.as_ref()), out);
    frames::write_tags(event, out);
    // A name of its own: clients pass over what is called as something they have heard. Which message it is of, its
    // headers say.
    frames::append(out, format_args!(",\"message_id\":\"{}\"", event.id));
    if let Some(position) = event.position() {
        frames::place(position, out);
    }
    write_extras(event, has_versions, out);
    out.push(b'}');
}

fn start_item(event: &Event, action: Action, out: &mut Vec<u8>) {
    frames::append(out, format_args!("{{\"event\":\"{}\",\"channel\":", frame_name(action)));
    json::write_str(out, &event.channel.name);
}

fn write_data(it: &Mutated, shown: Shown, out: &mut Vec<u8>) {
    let fragment = it.fragment.as_ref().filter(|_| shown == Shown::Added);
    let Some(data) = fragment.or(it.data.as_ref()) else { return };
    out.extend_from_slice(b",\"data\":");
    write_typed(data, it.keeps_type, out);
}

fn write_typed(data: &Payload, keeps_type: bool, out: &mut Vec<u8>) {
    if keeps_type {
        out.extend_from_slice(&data.0);
    } else {
        frames::write_data(data, out);
    }
}

fn write_optional(name: &str, value: Option<&Name>, out: &mut Vec<u8>) {
    let Some(value) = value else { return };
    frames::append(out, format_args!(",\"{name}\":"));
    json::write_str(out, value);
}

/// Appends a version of a message as an item of the HTTP API; false, and nothing appended, if the event is none.
pub fn write_item(event: &Event, shown: Shown, out: &mut Vec<u8>) -> bool {
    let Some(version) = Versioned::of(event) else { return false };
    start_item(event, version.action, out);
    let created;
    let about = match &event.happening {
        Happening::Message { name, data, sender } => {
            out.extend_from_slice(b",\"data\":");
            write_typed(data, sender.is_some(), out);
            write_optional("name", Some(name), out);
            let client_id = event.meta.as_ref().and_then(|it| it.client_id.clone());
            created = About { client_id, ..About::default() };
            &created
        }
        Happening::Mutated(it) => {
            write_data(it, shown, out);
            write_optional("name", it.name.as_ref(), out);
            &it.about
        }
        _ => return false,
    };
    frames::append(out, format_args!(",\"serial\":{}", event.serial.0));
    write_extras(event, true, out);
    frames::append(
        out,
        format_args!(",\"action\":\"{}\",\"message_serial\":", word(version.action)),
    );
    write_ref(version.message, out);
    frames::append(
        out,
        format_args!(
            ",\"history_serial\":{},\"delivery_serial\":{},\"version\":{{\"serial\":",
            version.message.serial.0, event.serial.0
        ),
    );
    version.write_serial(out);
    frames::append(out, format_args!(",\"timestamp_ms\":{}", version.at.0));
    write_optional("client_id", about.client_id.as_ref(), out);
    write_optional("description", about.description.as_ref(), out);
    if let Some(metadata) = &about.metadata {
        out.extend_from_slice(b",\"metadata\":");
        out.extend_from_slice(&metadata.0);
    }
    out.extend_from_slice(b"}}");
    true
}

/// Appends an annotation as an item of the HTTP API, which is what is told of it as well; false, and nothing appended,
/// if the event is none.
pub fn write_annotation(event: &Event, out: &mut Vec<u8>) -> bool {
    let Happening::Annotated(it) = &event.happening else { return false };
    let Annotated { annotation, takes_back } = &**it;
    let id = event.id;
    match takes_back {
        None => {
            frames::append(out, format_args!("{{\"action\":\"annotation.create\",\"id\":\"{id}\""))
        }
        Some(_) => out.extend_from_slice(b"{\"action\":\"annotation.delete\""),
    }
    frames::append(out, format_args!(",\"serial\":\"{id}\",\"messageSerial\":"));
    write_ref(annotation.message, out);
    write_optional("type", Some(&annotation.kind), out);
    write_optional("name", annotation.name.as_ref(), out);
    write_optional("clientId", annotation.client_id.as_ref(), out);
    if let Some(count) = annotation.count {
        frames::append(out, format_args!(",\"count\":{count}"));
    }
    if let Some(data) = &annotation.data {
        out.extend_from_slice(b",\"data\":");
        out.extend_from_slice(&data.0);
    }
    write_optional("encoding", annotation.encoding.as_ref(), out);
    frames::append(out, format_args!(",\"timestamp\":{}}}", event.at.0));
    true
}

/// Appends an annotation as those are told who want to hear each.
pub(super) fn annotated(event: &Event, it: &Annotated, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"event\":\"sockudo_internal:annotation\",\"channel\":");
    json::write_str(out, &event.channel.name);
    out.extend_from_slice(b",\"data\":");
    write_annotation(event, out);
    frames::append(out, format_args!(",\"message_id\":\"{}\"", event.id));
    if let Some(position) = event.position() {
        frames::place(position, out);
    }
    let action = if it.takes_back.is_some() { "delete" } else { "create" };
    frames::append(
        out,
        format_args!(
            ",\"extras\":{{\"headers\":{{\"sockudo_action\":\"annotation.{action}\",\
             \"sockudo_message_serial\":\"{}\"}}}}}}",
            it.annotation.message
        ),
    );
}

/// Appends what is said about a message, all together, in annotations of one kind.
pub(super) fn summarized(channel: &str, it: &Summarized, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"event\":\"sockudo_internal:message\",\"channel\":");
    json::write_str(out, channel);
    out.extend_from_slice(b",\"data\":{\"action\":\"message.summary\",\"serial\":");
    write_ref(it.message, out);
    out.extend_from_slice(b",\"annotations\":{\"summary\":{");
    json::write_str(out, &it.kind);
    out.push(b':');
    out.extend_from_slice(&it.summary.0);
    out.extend_from_slice(b"}}},\"extras\":{\"ephemeral\":true}}");
}

/// What a subscribe says about modes: whether it wants to hear each annotation; none if it is no list.
pub(super) fn wants_annotations(data: Raw<'_>) -> Option<bool> {
    let Some(modes) = data.member("modes").filter(|it| !it.is_null()) else { return Some(false) };
    let wants = || modes.items().filter_map(Raw::as_str).any(|it| it == "ANNOTATION_SUBSCRIBE");
    (modes.kind() == Kind::Array).then(wants)
}

#[cfg(test)]
#[path = "versions_tests.rs"]
mod tests;
