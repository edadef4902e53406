//! Events in the words of a socket and of an event stream.
//!
//! A frame is rendered once for everyone who hears a channel, named as most of them know it; who asked for the stream
//! in other words ([`super::streams::Stream::label`]) has frames of their own, made by the same functions.

use super::brief::Brief;
use super::names::{self, Kind};
use super::tags;
use crate::base::name::Name;
use crate::broker::{Event, Happening};
use crate::wire::{json, sse};

/// What a status that nobody's keywords are in says of that.
const NOTHING_FILTERED: &str = "[]";

/// Appends an event as a socket hears it; false: it is none.
///
/// `label` is the stream's name in place of the one that everyone knows, a JSON list. `filtered` is what a status says
/// of keywords that are in it, a JSON list, if there are any.
pub(super) fn text(
    event: &Event,
    label: Option<&str>,
    filtered: Option<&str>,
    out: &mut Vec<u8>,
) -> bool {
    let Some((name, data)) = message(event) else { return false };
    if names::is_system(&event.channel.name) {
        // Sessions are handed it, and say nothing. What a lane does not show they would not be handed.
        out.extend_from_slice(b"{}");
        return true;
    }
    let start = out.len();
    out.reserve(data.len() + data.len() / 4 + 128);
    out.extend_from_slice(b"{\"stream\":");
    match label {
        Some(label) => out.extend_from_slice(label.as_bytes()),
        None => {
            if !write_label(&event.channel.name, out) {
                out.truncate(start);
                return false;
            }
        }
    }
    out.extend_from_slice(b",\"event\":");
    json::write_str(out, name);
    match data.as_bytes().first() {
        // An event that says nothing has no payload at all.
        None | Some(b'n') => {}
        Some(b'{' | b'[') => {
            out.extend_from_slice(b",\"payload\":\"");
            match with_filtered(event, name, data, filtered) {
                Some(parts) => parts.iter().for_each(|part| json::write_escaped(out, part)),
                None => json::write_escaped(out, data),
            }
            out.push(b'"');
        }
        // A text is one already, and whatever else there is goes as it is.
        Some(_) => {
            out.extend_from_slice(b",\"payload\":");
            out.extend_from_slice(data.as_bytes());
        }
    }
    out.push(b'}');
    true
}

/// Appends an event as a piece of an event stream; false: it is none. `filtered` as in [`text`].
pub(super) fn piece(event: &Event, filtered: Option<&str>, out: &mut Vec<u8>) -> bool {
    let Some((name, data)) = message(event) else { return false };
    if names::is_system(&event.channel.name) {
        sse::write_comment(out, "");
        return true;
    }
    out.reserve(data.len() + 64);
    match data.as_bytes().first() {
        // What JavaScript makes of a payload that is not there, and clients have seen.
        None | Some(b'n') => sse::write_event(out, Some(name), None, "undefined"),
        Some(b'{') => match with_filtered(event, name, data, filtered) {
            Some(parts) => sse::write_event(out, Some(name), None, &parts.concat()),
            None => sse::write_event(out, Some(name), None, data),
        },
        Some(b'"') => {
            let text = json::parse_str(data).ok().and_then(json::Raw::as_str);
            sse::write_event(out, Some(name), None, &text.unwrap_or_default());
        }
        Some(_) => sse::write_event(out, Some(name), None, data),
    }
    true
}

/// An event's name and its data, without white space around it.
fn message(event: &Event) -> Option<(&Name, &str)> {
    let Happening::Message { name, data, .. } = &event.happening else { return None };
    Some((name, std::str::from_utf8(&data.0).ok()?.trim_ascii()))
}

/// A judged status with the member `filtered`, in parts; none: it goes as it is.
fn with_filtered<'a>(
    event: &Event,
    name: &str,
    data: &'a str,
    filtered: Option<&'a str>,
) -> Option<[&'a str; 5]> {
    let is_status = matches!(name, "update" | "status.update");
    let is_judged = names::upstream(&event.channel.name).is_some_and(names::is_judged);
    if !is_status || !is_judged {
        return None;
    }
    let has_filtered = match event.brief::<Brief>() {
        Some(brief) => brief.has_filtered,
        None => json::parse_str(data).is_ok_and(|it| it.member("filtered").is_some()),
    };
    let body = data.strip_suffix('}').filter(|_| !has_filtered)?.trim_ascii_end();
    let comma = if body.ends_with('{') { "" } else { "," };
    Some([body, comma, "\"filtered\":", filtered.unwrap_or(NOTHING_FILTERED), "}"])
}

/// Appends how a channel's stream is called by most who hear it; false: it is of no stream.
fn write_label(channel: &str, out: &mut Vec<u8>) -> bool {
    let Some(upstream) = names::upstream(channel) else {
        if channel.starts_with(names::OWN) {
            return false;
        }
        // Shared with other protocols: everything on it has its name for a tag.
        write_label_of(Kind::Hashtag, Some(&tags::normalize(channel)), out);
        return true;
    };
    let Some((kind, of)) = names::stream_of(upstream) else { return false };
    write_label_of(kind, of, out);
    true
}

/// Appends a stream's name, and of which tag or list it is.
pub(super) fn write_label_of(kind: Kind, of: Option<&str>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"[\"");
    out.extend_from_slice(kind.name().as_bytes());
    out.push(b'"');
    if let Some(of) = of {
        out.push(b',');
        json::write_str(out, of);
    }
    out.push(b']');
}

#[cfg(test)]
#[path = "frames_tests.rs"]
mod tests;
