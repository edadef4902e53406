//! The frames this dialect sends, as bytes: what the lanes render once for all, and what a session
//! says to its own peer.
//!
//! Payloads are spliced as they came. Some members hold JSON inside a JSON string: those are built
//! in full first and then written as text.

use std::fmt;

use super::names::{self, USER_PREFIX};
use crate::base::ids::ConnectionId;
use crate::base::name::Name;
use crate::base::time::Millis;
use crate::broker::{Event, Happening, Member, Payload, Sender};
use crate::wire::json;

/// Appends an event as every Pusher client takes it; false, and nothing appended, if they do not.
pub fn render(event: &Event, out: &mut Vec<u8>) -> bool {
    let channel = &event.channel.name;
    match &event.happening {
        Happening::Message { name, data, sender } => {
            message(channel, name, data, sender.as_ref(), out);
        }
        // A user's own channel has members too: for the watchers, not for the user.
        _ if names::is_internal(channel) => return false,
        Happening::MemberAdded(member) => {
            let mut inner = b"{\"user_id\":".to_vec();
            json::write_str(&mut inner, &member.user_id);
            inner.extend_from_slice(b",\"user_info\":");
            inner.extend_from_slice(info(member));
            inner.push(b'}');
            internal(b"member_added", channel, &inner, out);
        }
        Happening::MemberRemoved(user_id) => {
            let mut inner = b"{\"user_id\":".to_vec();
            json::write_str(&mut inner, user_id);
            inner.push(b'}');
            internal(b"member_removed", channel, &inner, out);
        }
        Happening::SubscriptionCount(count) => {
            let inner = format!("{{\"subscription_count\":{count}}}");
            internal(b"subscription_count", channel, inner.as_bytes(), out);
        }
        Happening::Control(_) => return false,
    }
    true
}

/// Appends what someone who watches a user is told; false, and nothing appended, if nothing.
pub fn render_watched(event: &Event, out: &mut Vec<u8>) -> bool {
    let Some(user_id) = event.channel.name.strip_prefix(USER_PREFIX) else { return false };
    match &event.happening {
        Happening::MemberAdded(_) => watchlist([user_id].into_iter(), std::iter::empty(), out),
        Happening::MemberRemoved(_) => watchlist(std::iter::empty(), [user_id].into_iter(), out),
        _ => return false,
    }
    true
}

fn message(channel: &str, name: &str, data: &Payload, sender: Option<&Sender>, out: &mut Vec<u8>) {
    out.reserve(64 + name.len() + channel.len() + data.0.len());
    out.extend_from_slice(b"{\"event\":");
    json::write_str(out, name);
    out.extend_from_slice(b",\"channel\":");
    json::write_str(out, channel);
    out.extend_from_slice(b",\"data\":");
    // Peers' data keeps its type.
    if sender.is_some() {
        out.extend_from_slice(&data.0);
    } else {
        write_data(data, out);
    }
    if let Some(user_id) = sender.and_then(|sender| sender.user_id.as_ref()) {
        out.extend_from_slice(b",\"user_id\":");
        json::write_str(out, user_id);
    }
    out.push(b'}');
}

/// Appends a back end's data, which is text: a value that is none becomes its own JSON.
pub fn write_data(data: &Payload, out: &mut Vec<u8>) {
    if data.0.first() == Some(&b'"') {
        out.extend_from_slice(&data.0);
    } else {
        write_text(&data.0, out);
    }
}

/// Appends finished JSON as a JSON string.
fn write_text(json: &[u8], out: &mut Vec<u8>) {
    // It was checked where it came in or built here: nothing is ever replaced.
    json::write_str(out, &String::from_utf8_lossy(json));
}

/// What others may know about a member; never nothing, so that clients can look into it.
fn info(member: &Member) -> &[u8] {
    member.info.as_ref().map_or(b"{}", |info| &info.0)
}

/// Appends `pusher_internal:<name>` with `inner`, one JSON value, as text.
fn internal(name: &[u8], channel: &str, inner: &[u8], out: &mut Vec<u8>) {
    out.reserve(96 + name.len() + channel.len() + inner.len() + inner.len() / 4);
    out.extend_from_slice(b"{\"event\":\"pusher_internal:");
    out.extend_from_slice(name);
    out.extend_from_slice(b"\",\"channel\":");
    json::write_str(out, channel);
    out.extend_from_slice(b",\"data\":");
    write_text(inner, out);
    out.push(b'}');
}

/// The greeting.
pub fn connection_established(socket_id: ConnectionId, activity_timeout: Millis) -> Vec<u8> {
    let seconds = activity_timeout.0.div_ceil(1000);
    format!(
        "{{\"event\":\"pusher:connection_established\",\"data\":\
         \"{{\\\"socket_id\\\":\\\"{socket_id}\\\",\\\"activity_timeout\\\":{seconds}}}\"}}"
    )
    .into_bytes()
}

/// `pusher:error`.
pub fn error(code: u16, message: &dyn fmt::Display) -> Vec<u8> {
    let mut out = format!("{{\"event\":\"pusher:error\",\"data\":{{\"code\":{code},\"message\":")
        .into_bytes();
    json::write_str(&mut out, &message.to_string());
    out.extend_from_slice(b"}}");
    out
}

/// Asks for a sign of life.
pub const PING: &[u8] = b"{\"event\":\"pusher:ping\"}";
/// The answer to the peer's.
pub const PONG: &[u8] = b"{\"event\":\"pusher:pong\"}";

/// The subscription stands, on a channel without members.
pub fn subscribed(channel: &str) -> Vec<u8> {
    let mut out = Vec::new();
    internal(b"subscription_succeeded", channel, b"{}", &mut out);
    out
}

/// The subscription stands, and these are present.
pub fn subscribed_presence<'a>(
    channel: &str,
    members: impl ExactSizeIterator<Item = &'a Member> + Clone,
) -> Vec<u8> {
    let mut inner = format!("{{\"presence\":{{\"count\":{},\"ids\":[", members.len()).into_bytes();
    for (i, member) in members.clone().enumerate() {
        if i > 0 {
            inner.push(b',');
        }
        json::write_str(&mut inner, &member.user_id);
    }
    inner.extend_from_slice(b"],\"hash\":{");
    for (i, member) in members.enumerate() {
        if i > 0 {
            inner.push(b',');
        }
        json::write_str(&mut inner, &member.user_id);
        inner.push(b':');
        inner.extend_from_slice(info(member));
    }
    inner.extend_from_slice(b"}}}");
    let mut out = Vec::new();
    internal(b"subscription_succeeded", channel, &inner, &mut out);
    out
}

/// A cache channel has no event to start with.
pub fn cache_miss(channel: &str) -> Vec<u8> {
    let mut out = b"{\"event\":\"pusher:cache_miss\",\"channel\":".to_vec();
    json::write_str(&mut out, channel);
    out.extend_from_slice(b",\"data\":\"{}\"}");
    out
}

/// The peer is signed in; `user_data` is the text it signed in with.
pub fn signin_success(user_data: &str) -> Vec<u8> {
    let mut out = b"{\"event\":\"pusher:signin_success\",\"data\":{\"user_data\":".to_vec();
    json::write_str(&mut out, user_data);
    out.extend_from_slice(b"}}");
    out
}

/// Appends who came online and who went offline; one of the two is not empty.
pub fn watchlist<'a>(
    online: impl Iterator<Item = &'a str>,
    offline: impl Iterator<Item = &'a str>,
    out: &mut Vec<u8>,
) {
    let mut inner = b"{\"events\":[".to_vec();
    watchlist_event("online", online, &mut inner);
    watchlist_event("offline", offline, &mut inner);
    inner.extend_from_slice(b"]}");
    out.extend_from_slice(b"{\"event\":\"pusher_internal:watchlist_events\",\"data\":");
    write_text(&inner, out);
    out.push(b'}');
}

fn watchlist_event<'a>(name: &str, users: impl Iterator<Item = &'a str>, inner: &mut Vec<u8>) {
    let mut users = users.peekable();
    if users.peek().is_none() {
        return;
    }
    if inner.last() == Some(&b'}') {
        inner.push(b',');
    }
    inner.extend_from_slice(b"{\"name\":\"");
    inner.extend_from_slice(name.as_bytes());
    inner.extend_from_slice(b"\",\"user_ids\":");
    let mut separator = b'[';
    for user_id in users {
        inner.push(separator);
        json::write_str(inner, user_id);
        separator = b',';
    }
    inner.extend_from_slice(b"]}");
}

/// The channel of a user's own events.
pub fn user_channel(user_id: &str) -> Name {
    Name::from(format!("{USER_PREFIX}{user_id}").as_str())
}
