//! The frames this dialect sends, as bytes. Payloads are spliced as they came.
//!
//! Source: our reference, sections 3.2, 4.2 to 4.4 and 7.2.

use std::io::Write;
use std::sync::Arc;

use super::names;
use super::user::{self, User};
use crate::base::event_id::EVENT_ID_CHARS;
use crate::base::time::{Civil, UnixMillis};
use crate::broker::state::{Value, ValueChange};
use crate::broker::{Event, Happening, Member, Payload, Presence};
use crate::wire::json;

/// The server's sign of life.
pub const KEEP_ALIVE: &[u8] = br#"{"event":"hotsock.keepAlive","data":{}}"#;
/// The answer to a ping; its data is a string, as upstream documents it.
pub const PONG: &[u8] = br#"{"event":"hotsock.pong","data":"{}"}"#;

/// The event that subscribers see when someone reacts.
pub const REACTION_ADDED: &str = "hotsock.messageReactionAdded";
/// The event that subscribers see when someone takes a reaction back.
pub const REACTION_REMOVED: &str = "hotsock.messageReactionRemoved";

/// The greeting.
pub fn connected(id: &[u8], secret: &[u8], expires: UnixMillis, user: &User) -> Vec<u8> {
    let mut out = Vec::with_capacity(192);
    out.extend_from_slice(b"{\"event\":\"hotsock.connected\",\"data\":{\"connectionId\":\"");
    out.extend_from_slice(id);
    out.extend_from_slice(b"\",\"connectionExpiresAt\":\"");
    write_seconds(&mut out, expires);
    out.extend_from_slice(b"\",\"connectionSecret\":\"");
    out.extend_from_slice(secret);
    out.extend_from_slice(b"\"},\"meta\":");
    out.extend_from_slice(&user.pair().0);
    out.push(b'}');
    out
}

/// A subscription stands. `members` on presence channels.
pub fn subscribed(
    channel: &str,
    alias: Option<&str>,
    members: Option<&[Arc<Member>]>,
    is_automatic: bool,
    user: &User,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    out.extend_from_slice(b"{\"event\":\"hotsock.subscribed\",\"channel\":");
    json::write_str(&mut out, channel);
    out.extend_from_slice(b",\"data\":{");
    if let Some(members) = members {
        out.extend_from_slice(b"\"members\":");
        write_members(&mut out, members);
    }
    if is_automatic {
        out.extend_from_slice(if members.is_some() { b"," } else { b"" });
        out.extend_from_slice(b"\"autoSubscribed\":true");
    }
    out.push(b'}');
    write_subscription_meta(&mut out, alias, user);
    out.push(b'}');
    out
}

/// A subscription is over.
pub fn unsubscribed(channel: &str, alias: Option<&str>, user: &User) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    out.extend_from_slice(b"{\"event\":\"hotsock.unsubscribed\",\"channel\":");
    json::write_str(&mut out, channel);
    out.extend_from_slice(b",\"data\":{}");
    write_subscription_meta(&mut out, alias, user);
    out.push(b'}');
    out
}

fn write_subscription_meta(out: &mut Vec<u8>, alias: Option<&str>, user: &User) {
    out.extend_from_slice(b",\"meta\":{");
    if let Some(alias) = alias {
        out.extend_from_slice(b"\"channelAlias\":");
        json::write_str(out, alias);
        out.push(b',');
    }
    user::write_members(out, user.uid.as_deref(), user.umd.as_ref());
    out.push(b'}');
}

/// What a key holds, asked for.
pub fn value(channel: &str, key: &str, value: Option<&Value>) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    let (data, meta) = value.map_or((None, None), |it| (Some(&it.data), Some(&it.meta)));
    write_value(&mut out, "hotsock.channelStorageData", channel, key, data, meta);
    out
}

/// What a key holds, observed.
pub fn value_updated(channel: &str, value: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    let (data, meta) = (Some(&value.data), Some(&value.meta));
    write_value(&mut out, "hotsock.channelStorageUpdated", channel, &value.key, data, meta);
    out
}

fn write_value(
    out: &mut Vec<u8>,
    event: &str,
    channel: &str,
    key: &str,
    data: Option<&Payload>,
    meta: Option<&Payload>,
) {
    out.extend_from_slice(b"{\"event\":\"");
    out.extend_from_slice(event.as_bytes());
    out.extend_from_slice(b"\",\"channel\":");
    json::write_str(out, channel);
    out.extend_from_slice(b",\"key\":");
    json::write_str(out, key);
    out.extend_from_slice(b",\"data\":");
    out.extend_from_slice(data.map_or(b"null", |it| &it.0));
    out.extend_from_slice(b",\"meta\":");
    out.extend_from_slice(meta.map_or(b"null", |it| &it.0));
    out.push(b'}');
}

/// Appends an event as subscribers take it, with changes of values for who observes them; false, and nothing
/// appended, if they do not.
pub fn render(event: &Event, observes: bool, out: &mut Vec<u8>) -> bool {
    let channel = names::from_broker(&event.channel.name);
    match &event.happening {
        // On a bridged channel others publish, whose names are not ours to refuse.
        Happening::Message { name, .. } if is_reserved(name) => return false,
        Happening::Message { name, data, .. } => message(event, channel, name, data, out),
        Happening::ValueChanged(it) if observes && !it.is_expired => changed(channel, it, out),
        // A bridged channel may have members although its name has none here.
        _ if !names::is_presence(channel) => return false,
        Happening::MemberAdded(it) => member("hotsock.memberAdded", channel, it, out),
        Happening::MemberUpdated(it) => member("hotsock.memberUpdated", channel, it, out),
        Happening::MemberRemoved(it) => member("hotsock.memberRemoved", channel, it, out),
        Happening::ValueChanged(_)
        | Happening::Mutated(_)
        | Happening::Annotated(_)
        | Happening::Summarized(_)
        | Happening::SubscriptionCount(_)
        | Happening::Occupied
        | Happening::Vacated
        | Happening::Control(_) => {
            return false;
        }
    }
    true
}

/// Whether clients would take a message of this name for something that it is not.
fn is_reserved(name: &str) -> bool {
    name.starts_with("hotsock.") && !matches!(name, REACTION_ADDED | REACTION_REMOVED)
}

fn message(event: &Event, channel: &str, name: &str, data: &Payload, out: &mut Vec<u8>) {
    out.reserve(128 + name.len() + channel.len() + data.0.len());
    out.push(b'{');
    write_message(event, channel, name, data, out);
    if let Some(meta) = publisher(event) {
        out.extend_from_slice(b",\"meta\":");
        out.extend_from_slice(&meta);
    }
    write_late(event, out);
    out.push(b'}');
}

/// When a message was to be published, if that was long before it was.
pub fn write_late(event: &Event, out: &mut Vec<u8>) {
    if let Some(due) = event.meta.as_ref().and_then(|it| it.was_due) {
        out.extend_from_slice(b",\"late\":true,\"scheduledFor\":\"");
        write_seconds(out, due);
        out.push(b'"');
    }
}

/// A message's own members, without braces.
pub fn write_message(event: &Event, channel: &str, name: &str, data: &Payload, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\"id\":\"");
    out.extend_from_slice(event.id.write(&mut [0; EVENT_ID_CHARS]).as_bytes());
    out.extend_from_slice(b"\",\"event\":");
    json::write_str(out, name);
    out.extend_from_slice(b",\"channel\":");
    json::write_str(out, channel);
    out.extend_from_slice(b",\"data\":");
    out.extend_from_slice(&data.0);
}

/// Who published a message, for those who did not: none for a back end. A peer of another dialect, on a bridged
/// channel, is shown by its id.
pub fn publisher(event: &Event) -> Option<bytes::Bytes> {
    if let Some(publisher) = event.meta.as_ref().and_then(|it| it.publisher.as_ref()) {
        return Some(publisher.0.clone());
    }
    match &event.happening {
        Happening::Message { sender: Some(sender), .. } => {
            Some(user::pair(sender.user_id.as_deref(), None).0)
        }
        _ => None,
    }
}

fn changed(channel: &str, change: &ValueChange, out: &mut Vec<u8>) {
    let event = "hotsock.channelStorageUpdated";
    write_value(out, event, channel, &change.key, change.data.as_ref(), Some(&change.meta));
}

fn member(event: &str, channel: &str, presence: &Presence, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"event\":\"");
    out.extend_from_slice(event.as_bytes());
    out.extend_from_slice(b"\",\"channel\":");
    json::write_str(out, channel);
    out.extend_from_slice(b",\"data\":{\"member\":");
    write_member(out, &presence.member);
    out.extend_from_slice(b",\"members\":");
    write_members(out, &presence.members);
    out.extend_from_slice(b"}}");
}

/// One member.
pub fn write_member(out: &mut Vec<u8>, member: &Member) {
    out.push(b'{');
    user::write_members(out, Some(&member.user_id), member.info.as_ref());
    out.push(b'}');
}

/// A list of members.
pub fn write_members(out: &mut Vec<u8>, members: &[Arc<Member>]) {
    out.push(b'[');
    for (i, member) in members.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_member(out, member);
    }
    out.push(b']');
}

/// What subscribers are told of a reaction, as data.
pub fn reaction(message: &str, reaction: &str, is_added: bool) -> Payload {
    let mut out = b"{\"messageId\":".to_vec();
    json::write_str(&mut out, message);
    out.extend_from_slice(b",\"reaction\":");
    json::write_str(&mut out, reaction);
    out.extend_from_slice(b",\"action\":\"");
    out.extend_from_slice(if is_added { b"add" } else { b"remove" });
    out.extend_from_slice(b"\"}");
    Payload(out.into())
}

/// A moment as RFC 3339 has it, in whole seconds.
pub fn write_seconds(out: &mut Vec<u8>, at: UnixMillis) {
    let Civil { year, month, day, hour, minute, second, .. } = at.to_civil();
    write!(out, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
        .expect("a vector takes every byte");
}

/// A moment as RFC 3339 has it, in nanoseconds.
pub fn write_nanos(out: &mut Vec<u8>, at: UnixMillis) {
    write_seconds(out, at);
    out.pop();
    write!(out, ".{:03}000000Z", at.to_civil().millis).expect("a vector takes every byte");
}
