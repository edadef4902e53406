//! The frames this dialect sends, as bytes: what the lanes render once for all, and what a session
//! says to its own peer.
//!
//! Payloads are spliced as they came. Some members hold JSON inside a JSON string: those are built
//! in full first and then written as text. The two versions of the protocol differ in the prefix of what the
//! server names, and in what stands beside `data`: version 7 gets none of version 2's members, ever.

use std::fmt;
use std::io::Write;

use super::names::{self, USER_PREFIX};
use super::presence;
use super::versions::{self, Shown};
use crate::base::event_id::EVENT_ID_CHARS;
use crate::base::ids::{ConnectionId, Serial};
use crate::base::name::Name;
use crate::base::time::Millis;
use crate::broker::{Event, Happening, Member, Payload, Position, Sender, companion};
use crate::wire::{json, write_decimal};

/// Which version of the protocol a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Pusher's own, and all that came before it.
    Seven,
    /// Sockudo's: events have names and places, and what was missed can be asked for.
    Two,
}

impl Version {
    /// What the server's own events start with.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Seven => "pusher:",
            Self::Two => "sockudo:",
        }
    }

    /// What those start with that the client's library keeps to itself.
    pub fn prefix_internal(self) -> &'static str {
        match self {
            Self::Seven => "pusher_internal:",
            Self::Two => "sockudo_internal:",
        }
    }
}

/// How a peer is shown what happens in its channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// As version 7 shows it.
    Seven,
    /// As version 2 shows it.
    Two {
        /// What it is shown of a version that added to a message's data.
        shown: Shown,
        /// Messages say which version of which message they are.
        has_versions: bool,
    },
}

impl View {
    /// The version of the protocol.
    pub fn version(self) -> Version {
        match self {
            Self::Seven => Version::Seven,
            Self::Two { .. } => Version::Two,
        }
    }
}

/// Whether clients take an event of this name for the server's own.
fn is_reserved(name: &str) -> bool {
    let of = |version: Version| {
        name.starts_with(version.prefix()) || name.starts_with(version.prefix_internal())
    };
    of(Version::Seven) || of(Version::Two)
}

/// Appends an event as it is shown in this view; false, and nothing appended, if it is not.
pub fn render(view: View, event: &Event, out: &mut Vec<u8>) -> bool {
    let version = view.version();
    let channel = &event.channel.name;
    match &event.happening {
        // On a bridged channel peers of other protocols publish, whose names are not ours to refuse.
        Happening::Message { name, sender: Some(_), .. } if is_reserved(name) => return false,
        Happening::Message { name, data, sender } => {
            message(channel, name, data, sender.as_ref(), out);
            if let View::Two { has_versions, .. } = view {
                out.pop();
                describe(event, has_versions, out);
                out.push(b'}');
            }
        }
        Happening::Mutated(it) => {
            let View::Two { shown, has_versions } = view else { return false };
            versions::mutated(event, it, shown, has_versions, out);
        }
        Happening::Annotated(it) => {
            let View::Two { .. } = view else { return false };
            versions::annotated(event, it, out);
        }
        Happening::Summarized(it) => {
            let View::Two { .. } = view else { return false };
            versions::summarized(channel, it, out);
        }
        _ if companion::of_meta(channel).is_some() => {
            return presence::render_meta(version, event, out);
        }
        // A user's own channel has members too: for the watchers, not for the user.
        _ if names::is_internal(channel) => return false,
        Happening::MemberAdded(it) => {
            internal(version, "member_added", channel, &described(&it.member), out);
        }
        Happening::MemberUpdated(it) if version == Version::Two => {
            internal(version, "presence_update", channel, &described(&it.member), out);
        }
        Happening::MemberRemoved(it) => {
            let mut inner = b"{\"user_id\":".to_vec();
            json::write_str(&mut inner, &it.member.user_id);
            inner.push(b'}');
            internal(version, "member_removed", channel, &inner, out);
        }
        Happening::SubscriptionCount(count) => {
            let inner = format!("{{\"subscription_count\":{count}}}");
            internal(version, "subscription_count", channel, inner.as_bytes(), out);
        }
        // Nothing of this protocol says so.
        Happening::MemberUpdated(_)
        | Happening::ValueChanged(_)
        | Happening::Occupied
        | Happening::Vacated
        | Happening::Control(_) => {
            return false;
        }
    }
    true
}

/// Appends what someone who watches a user is told; false, and nothing appended, if nothing.
pub fn render_watched(version: Version, event: &Event, out: &mut Vec<u8>) -> bool {
    let Some(user_id) = event.channel.name.strip_prefix(USER_PREFIX) else { return false };
    match &event.happening {
        Happening::MemberAdded(_) => {
            watchlist(version, [user_id].into_iter(), std::iter::empty(), out);
        }
        Happening::MemberRemoved(_) => {
            watchlist(version, std::iter::empty(), [user_id].into_iter(), out);
        }
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

/// Appends what version 2 says about a message beside its data: what it was published with, its name and its
/// place.
fn describe(event: &Event, has_versions: bool, out: &mut Vec<u8>) {
    write_tags(event, out);
    out.extend_from_slice(b",\"message_id\":");
    write_id(event, out);
    if let Some(position) = event.position() {
        place(position, out);
    }
    versions::write_extras(event, has_versions, out);
}

/// Appends the member for an event's tags, its comma in front, if it has any.
pub fn write_tags(event: &Event, out: &mut Vec<u8>) {
    let tags = event.tags.as_slice();
    for (i, tag) in tags.iter().enumerate() {
        // A map has no room for the second value of a name.
        if tags[..i].iter().any(|it| it.name == tag.name) {
            continue;
        }
        out.extend_from_slice(if i == 0 { b",\"tags\":{" } else { b"," });
        json::write_str(out, &tag.name);
        out.push(b':');
        json::write_str(out, &tag.value);
    }
    if !tags.is_empty() {
        out.push(b'}');
    }
}

/// Appends what a message is called, whatever version of it this is: as its publisher says, else as we do.
pub fn write_id(event: &Event, out: &mut Vec<u8>) {
    match event.meta.as_ref().and_then(|it| it.message_id.as_ref()) {
        Some(id) => json::write_str(out, id),
        None => {
            let id = match &event.happening {
                Happening::Mutated(it) => it.message.id,
                _ => event.id,
            };
            out.push(b'"');
            out.extend_from_slice(id.write(&mut [0; EVENT_ID_CHARS]).as_bytes());
            out.push(b'"');
        }
    }
}

/// Appends the members that say where in a channel's history something is.
pub fn place(position: Position, out: &mut Vec<u8>) {
    let Position { epoch, serial } = position;
    out.extend_from_slice(b",\"stream_id\":\"");
    out.extend_from_slice(&epoch.to_text());
    out.extend_from_slice(b"\",\"serial\":");
    write_decimal(out, serial.0);
}

/// Appends text to bytes.
pub fn append(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a vector takes every byte");
}

/// Puts more members, each with its comma in front, at the end of a finished frame.
pub fn extend(frame: &mut Vec<u8>, members: impl FnOnce(&mut Vec<u8>)) {
    let end = frame.pop();
    debug_assert_eq!(end, Some(b'}'), "a frame is one object");
    members(frame);
    frame.push(b'}');
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
pub fn write_text(json: &[u8], out: &mut Vec<u8>) {
    // It was checked where it came in or built here: nothing is ever replaced.
    json::write_str(out, &String::from_utf8_lossy(json));
}

/// Who a member is, and what others may know about them.
fn described(member: &Member) -> Vec<u8> {
    let mut out = b"{\"user_id\":".to_vec();
    json::write_str(&mut out, &member.user_id);
    out.extend_from_slice(b",\"user_info\":");
    out.extend_from_slice(info(member));
    out.push(b'}');
    out
}

/// What others may know about a member; never nothing, so that clients can look into it.
fn info(member: &Member) -> &[u8] {
    member.info.as_ref().map_or(b"{}", |info| &info.0)
}

/// Appends an internal event with `inner`, one JSON value, as text.
fn internal(version: Version, name: &str, channel: &str, inner: &[u8], out: &mut Vec<u8>) {
    out.reserve(96 + name.len() + channel.len() + inner.len() + inner.len() / 4);
    append(out, format_args!("{{\"event\":\"{}{name}\",\"channel\":", version.prefix_internal()));
    json::write_str(out, channel);
    out.extend_from_slice(b",\"data\":");
    write_text(inner, out);
    out.push(b'}');
}

/// The start of one of the server's own events, up to its name.
fn system(version: Version, name: &str) -> Vec<u8> {
    format!("{{\"event\":\"{}{name}\"", version.prefix()).into_bytes()
}

/// The greeting.
pub fn connection_established(
    version: Version,
    socket_id: ConnectionId,
    activity_timeout: Millis,
) -> Vec<u8> {
    let seconds = activity_timeout.0.div_ceil(1000);
    let mut out = system(version, "connection_established");
    append(
        &mut out,
        format_args!(
            ",\"data\":\"{{\\\"socket_id\\\":\\\"{socket_id}\\\",\\\"activity_timeout\\\":{seconds}}}\"}}"
        ),
    );
    out
}

/// An error.
pub fn error(version: Version, code: u16, message: &dyn fmt::Display) -> Vec<u8> {
    let mut out = system(version, "error");
    append(&mut out, format_args!(",\"data\":{{\"code\":{code},\"message\":"));
    json::write_str(&mut out, &message.to_string());
    out.extend_from_slice(b"}}");
    out
}

/// Asks for a sign of life; of version 7 only.
pub const PING: &[u8] = b"{\"event\":\"pusher:ping\"}";

/// The answer to the peer's.
pub fn pong(version: Version) -> Vec<u8> {
    let mut out = system(version, "pong");
    out.push(b'}');
    out
}

/// The subscription stands, on a channel without members; `attached` is its history's head at this moment.
pub fn subscribed(version: Version, channel: &str, attached: Option<Serial>) -> Vec<u8> {
    let mut inner = b"{".to_vec();
    if let Some(Serial(serial)) = attached {
        append(&mut inner, format_args!("\"attach_serial\":{serial}"));
    }
    inner.push(b'}');
    let mut out = Vec::new();
    internal(version, "subscription_succeeded", channel, &inner, &mut out);
    out
}

/// The subscription stands, and these are present; `attached` as in [`subscribed`].
pub fn subscribed_presence<'a>(
    version: Version,
    channel: &str,
    attached: Option<Serial>,
    members: impl ExactSizeIterator<Item = &'a Member> + Clone,
) -> Vec<u8> {
    let mut inner = b"{".to_vec();
    if let Some(Serial(serial)) = attached {
        append(&mut inner, format_args!("\"attach_serial\":{serial},"));
    }
    append(&mut inner, format_args!("\"presence\":{{\"count\":{},\"ids\":[", members.len()));
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
    internal(version, "subscription_succeeded", channel, &inner, &mut out);
    out
}

/// A cache channel has no event to start with.
pub fn cache_miss(version: Version, channel: &str) -> Vec<u8> {
    let mut out = system(version, "cache_miss");
    out.extend_from_slice(b",\"channel\":");
    json::write_str(&mut out, channel);
    out.extend_from_slice(b",\"data\":\"{}\"}");
    out
}

/// The peer is signed in; `user_data` is the text it signed in with.
pub fn signin_success(version: Version, user_data: &str) -> Vec<u8> {
    let mut out = system(version, "signin_success");
    out.extend_from_slice(b",\"data\":{\"user_data\":");
    json::write_str(&mut out, user_data);
    out.extend_from_slice(b"}}");
    out
}

/// Appends who came online and who went offline; one of the two is not empty.
pub fn watchlist<'a>(
    version: Version,
    online: impl Iterator<Item = &'a str>,
    offline: impl Iterator<Item = &'a str>,
    out: &mut Vec<u8>,
) {
    let mut inner = b"{\"events\":[".to_vec();
    watchlist_event("online", online, &mut inner);
    watchlist_event("offline", offline, &mut inner);
    inner.extend_from_slice(b"]}");
    let prefix = version.prefix_internal();
    append(out, format_args!("{{\"event\":\"{prefix}watchlist_events\",\"data\":"));
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
