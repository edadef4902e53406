//! What this dialect sends, as bytes. Spaces stand where the `h` service's JSON has them.

use std::fmt::Write as _;

use super::{EVENT_PREFIX, USER_PREFIX};
use crate::broker::{Event, Happening};
use crate::wire::json::{self, Raw};

/// Appends an annotation notification; false, and nothing appended, if the event is none.
///
/// An event of another protocol on a bridged channel is shown as an annotation of the group of that name.
pub fn render(event: &Event, out: &mut Vec<u8>) -> bool {
    render_with(event, View::Reader, out)
}

/// The same, for a moderator of its group.
pub fn render_for_moderator(event: &Event, moderation: &str, out: &mut Vec<u8>) -> bool {
    render_with(event, View::Moderator(moderation), out)
}

/// The same, for its author, who is not told that it is hidden.
pub fn render_for_author(event: &Event, out: &mut Vec<u8>) -> bool {
    render_with(event, View::Author, out)
}

/// As whom an annotation is seen.
#[derive(Clone, Copy)]
enum View<'a> {
    Reader,
    Author,
    Moderator(&'a str),
}

fn render_with(event: &Event, view: View<'_>, out: &mut Vec<u8>) -> bool {
    let Happening::Message { name, data, .. } = &event.happening else { return false };
    if event.channel.name.starts_with(USER_PREFIX) {
        return false;
    }
    let action = name.strip_prefix(EVENT_PREFIX);
    let action = action.filter(|it| matches!(*it, "create" | "update" | "delete"));
    out.reserve(96 + data.0.len());
    out.extend_from_slice(b"{\"type\": \"annotation-notification\", \"options\": {\"action\": \"");
    // Only we know its tags: whoever else gives an event that name gives no annotation.
    let is_ours = !event.tags.as_slice().is_empty();
    out.extend_from_slice(action.filter(|_| is_ours).unwrap_or("create").as_bytes());
    out.extend_from_slice(b"\"}, \"payload\": [");
    match (action.filter(|_| is_ours), view) {
        (None, _) => write_foreign(event, name, &data.0, out),
        (Some(_), View::Reader) => out.extend_from_slice(&data.0),
        (Some(_), View::Author) => write_unhidden(&data.0, out),
        (Some(_), View::Moderator(moderation)) => {
            out.extend_from_slice(&data.0[..data.0.len().saturating_sub(1)]);
            out.extend_from_slice(b", \"moderation\": ");
            out.extend_from_slice(moderation.as_bytes());
            out.push(b'}');
        }
    }
    out.extend_from_slice(b"]}");
    true
}

/// The annotation, `hidden` being false.
fn write_unhidden(data: &[u8], out: &mut Vec<u8>) {
    let Ok(annotation) = json::parse(data) else { return out.extend_from_slice(data) };
    if annotation.member("hidden").is_none() {
        return out.extend_from_slice(data);
    }
    for (i, (name, value)) in annotation.members().enumerate() {
        out.extend_from_slice(if i == 0 { b"{" } else { b", " });
        json::write_str(out, &name);
        out.extend_from_slice(b": ");
        out.extend_from_slice(if name == "hidden" { b"false" } else { value.text().as_bytes() });
    }
    out.push(b'}');
}

/// An event of another protocol as an annotation: its text is the data, its tag the event's name.
fn write_foreign(event: &Event, name: &str, data: &[u8], out: &mut Vec<u8>) {
    let channel = &*event.channel.name;
    let data = json::parse(data).ok();
    let text = data.and_then(Raw::as_str).or(data.map(|it| it.text().into())).unwrap_or_default();
    let mut at = event.at.to_civil().to_string();
    // As Python has it.
    at.truncate(at.len() - 1);
    at.push_str("000+00:00");
    let mut member = |name: &str, value: &str| {
        out.extend_from_slice(if name == "id" { b"{\"" } else { b", \"" });
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\": ");
        json::write_str(out, value);
    };
    // The serial alone begins anew once a channel is forgotten.
    member("id", &format!("{channel}:{}:{}", event.at.0, event.serial.0));
    member("created", &at);
    member("updated", &at);
    member("user", "acct:ringmain@bridge");
    member("uri", &format!("channel:{channel}"));
    member("text", &text);
    member("group", channel);
    out.extend_from_slice(b", \"tags\": [");
    json::write_str(out, name);
    out.extend_from_slice(b"], \"permissions\": {\"read\": [");
    json::write_str(out, &format!("group:{channel}"));
    out.extend_from_slice(
        b"], \"admin\": [], \"update\": [], \"delete\": []}, \"target\": [{\"source\": ",
    );
    json::write_str(out, &format!("channel:{channel}"));
    out.extend_from_slice(b"}], \"document\": {\"title\": [");
    json::write_str(out, channel);
    out.extend_from_slice(
        b"]}, \"links\": {}, \"mentions\": [], \"user_info\": {\"display_name\": null}, \
          \"flagged\": false, \"hidden\": false}",
    );
}

/// Appends a change of a user's groups; false, and nothing appended, if the event is none.
pub fn render_session(event: &Event, out: &mut Vec<u8>) -> bool {
    let Happening::Message { name, data, .. } = &event.happening else { return false };
    if !event.channel.name.starts_with(USER_PREFIX) {
        return false;
    }
    out.extend_from_slice(b"{\"type\": \"session-change\", \"action\": ");
    json::write_str(out, name);
    out.extend_from_slice(b", \"model\": ");
    out.extend_from_slice(&data.0);
    out.push(b'}');
    true
}

/// `pong`; `id` is the JSON number it answers.
pub fn pong(id: &str) -> Vec<u8> {
    format!("{{\"type\": \"pong\", \"ok\": true, \"reply_to\": {id}}}").into_bytes()
}

/// `whoyouare`.
pub fn whoyouare(userid: Option<&str>, id: &str) -> Vec<u8> {
    let mut out = b"{\"type\": \"whoyouare\", \"userid\": ".to_vec();
    match userid {
        Some(userid) => write_ascii_str(userid, &mut out),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(format!(", \"ok\": true, \"reply_to\": {id}}}").as_bytes());
    out
}

/// `error`.
pub fn error(kind: &str, description: &str, id: &str) -> Vec<u8> {
    let mut out = b"{\"type\": \"error\", \"error\": {\"type\": ".to_vec();
    write_ascii_str(kind, &mut out);
    out.extend_from_slice(b", \"description\": ");
    write_ascii_str(description, &mut out);
    out.extend_from_slice(format!("}}, \"ok\": false, \"reply_to\": {id}}}").as_bytes());
    out
}

/// An error that stands in the place of a WebSocket.
pub fn handshake_error(error: &str, reason: &str) -> Vec<u8> {
    format!("{{\"ok\": false, \"error\": \"{error}\", \"reason\": \"{reason}\"}}").into_bytes()
}

/// A JSON value as Python would print it, for the text of an error: strings in ASCII.
pub fn as_python(value: Raw<'_>) -> String {
    match value.as_str() {
        None => value.text().to_owned(),
        Some(text) => {
            let mut out = Vec::new();
            write_ascii_str(&text, &mut out);
            String::from_utf8_lossy(&out).into_owned()
        }
    }
}

/// Appends a JSON string in which everything but printable ASCII is escaped.
fn write_ascii_str(text: &str, out: &mut Vec<u8>) {
    let mut escaped = String::with_capacity(text.len() + 2);
    escaped.push('"');
    for c in text.chars() {
        match c {
            '"' => escaped.push_str("\\\""),
            '\\' => escaped.push_str("\\\\"),
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            '\u{8}' => escaped.push_str("\\b"),
            '\u{c}' => escaped.push_str("\\f"),
            ' '..='~' => escaped.push(c),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    // Writing to a string cannot fail.
                    let _ = write!(escaped, "\\u{unit:04x}");
                }
            }
        }
    }
    escaped.push('"');
    out.extend_from_slice(escaped.as_bytes());
}
