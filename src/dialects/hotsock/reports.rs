//! What the world outside is told: upstream's back-end events, as the bodies of webhooks.
//!
//! Source: our reference, section 10.

use bytes::Bytes;

use super::user::{self, User};
use super::{frames, names};
use crate::base::event_id::EVENT_ID_CHARS;
use crate::base::ids::AppIndex;
use crate::base::name::Name;
use crate::base::time::UnixMillis;
use crate::broker::state::ValueChange;
use crate::broker::{Event, Happening, Payload, Presence, Report};
use crate::wire::http::query;
use crate::wire::json::{self, Raw};
use crate::wire::write_decimal;

/// The version of the original whose events these are.
const VERSION: &str = "1.13.5";

/// What the kinds of all reports begin with.
pub const FAMILY: &str = "hotsock.";

/// Where a request comes from.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// The peer's address.
    pub ip: Box<str>,
    /// What it says that it is.
    pub agent: Option<Box<str>>,
}

impl About {
    /// From an address and a field of the request.
    pub fn new(ip: &str, agent: Option<&str>) -> Self {
        Self { ip: ip.into(), agent: agent.map(Box::from) }
    }

    /// Memory it holds.
    pub fn held_bytes(&self) -> usize {
        size_of::<Self>() + self.ip.len() + self.agent.as_ref().map_or(0, |it| it.len())
    }
}

/// By which door something was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// A client, over its WebSocket.
    WebSocket,
    /// A client, over HTTP.
    ClientHttp,
    /// A back end, over HTTP.
    ServerHttp,
    /// A back end, by the invoke route.
    ServerLambda,
}

impl Trigger {
    /// As reports spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WebSocket => "client.websocket",
            Self::ClientHttp => "client.http",
            Self::ServerHttp => "server.http",
            Self::ServerLambda => "server.lambda",
        }
    }
}

/// What a publisher wants told with what it published: one object, whose members go into `metadata`.
pub fn about(
    trigger: Trigger,
    request: Option<&str>,
    connection: Option<&str>,
    about: Option<&About>,
) -> Payload {
    let mut out = b"{\"trigger\":\"".to_vec();
    out.extend_from_slice(trigger.as_str().as_bytes());
    out.push(b'"');
    let agent = about.and_then(|it| it.agent.as_deref());
    for (name, value) in [
        ("requestId", request),
        ("connectionId", connection),
        ("sourceIp", about.map(|it| &*it.ip)),
        ("userAgent", agent),
    ] {
        if let Some(value) = value {
            write_member(&mut out, name, value);
        }
    }
    out.push(b'}');
    Payload(out.into())
}

/// Whether this is what [`about`] makes.
pub fn is_about(about: &Payload) -> bool {
    about.0.starts_with(b"{\"trigger\":")
}

/// A connection, for who is told of it.
pub struct Connection<'a> {
    /// Its id.
    pub id: &'a str,
    /// When it began.
    pub connected: UnixMillis,
    /// When it ended, if it did.
    pub ended: Option<UnixMillis>,
    /// It is told that we are there.
    pub keep_alive: bool,
    /// Where it comes from.
    pub about: &'a About,
    /// Who it is.
    pub user: &'a User,
}

/// A connection came, went, or is known by something else.
pub fn connection(app: AppIndex, kind: &'static str, it: &Connection<'_>) -> Report {
    let mut body = start(kind, None, None);
    body.extend_from_slice(b"},\"data\":{\"id\":");
    json::write_str(&mut body, it.id);
    body.extend_from_slice(b",\"connectedAt\":\"");
    frames::write_nanos(&mut body, it.connected);
    body.extend_from_slice(b"\",\"disconnectedAt\":");
    match it.ended {
        None => body.extend_from_slice(b"null"),
        Some(at) => {
            body.push(b'"');
            frames::write_nanos(&mut body, at);
            body.push(b'"');
        }
    }
    body.extend_from_slice(if it.keep_alive {
        b",\"keepAlive\":true,\"sourceIp\":"
    } else {
        b",\"keepAlive\":false,\"sourceIp\":"
    });
    json::write_str(&mut body, &it.about.ip);
    body.push(b',');
    user::write_members(&mut body, it.user.uid.as_deref(), it.user.umd.as_ref());
    body.extend_from_slice(b",\"userAgent\":");
    match &it.about.agent {
        Some(agent) => json::write_str(&mut body, agent),
        None => body.extend_from_slice(b"null"),
    }
    body.push(b'}');
    finish(app, kind, "connection", None, body)
}

/// A subscription stands, or is over.
pub fn subscription(
    app: AppIndex,
    kind: &'static str,
    channel: &str,
    connection: &str,
    user: &User,
) -> Report {
    let mut body = start(kind, Some(channel), None);
    body.extend_from_slice(b"},\"data\":{\"channel\":");
    json::write_str(&mut body, channel);
    body.extend_from_slice(b",\"connectionId\":");
    json::write_str(&mut body, connection);
    body.push(b',');
    user::write_members(&mut body, user.uid.as_deref(), user.umd.as_ref());
    body.push(b'}');
    finish(app, kind, "subscription", Some(channel), body)
}

/// What is told of an event in a channel.
pub fn event(event: &Event, about: Option<&Payload>) -> Option<Report> {
    let app = event.channel.app;
    let channel = names::from_broker(&event.channel.name);
    match &event.happening {
        Happening::SubscriptionCount(count) => {
            let kind = "hotsock.channelUpdated";
            let mut body = start(kind, Some(channel), None);
            body.extend_from_slice(b"},\"data\":{\"name\":");
            json::write_str(&mut body, channel);
            body.extend_from_slice(b",\"subscriptionsCount\":");
            write_decimal(&mut body, *count);
            body.push(b'}');
            Some(finish(app, kind, "channel", Some(channel), body))
        }
        Happening::MemberAdded(it) => member(app, "hotsock.memberAdded", channel, it),
        Happening::MemberUpdated(it) => member(app, "hotsock.memberUpdated", channel, it),
        Happening::MemberRemoved(it) => member(app, "hotsock.memberRemoved", channel, it),
        Happening::Message { name, data, .. } => {
            let about = about?;
            if matches!(&**name, frames::REACTION_ADDED | frames::REACTION_REMOVED) {
                return reaction(event, channel, name, data, about);
            }
            let kind = "hotsock.messagePublished";
            let mut body = start(kind, Some(channel), Some(&about.0));
            write_member(&mut body, "event", name);
            body.extend_from_slice(b"},\"data\":{");
            frames::write_message(event, channel, name, data, &mut body);
            if let Some(meta) = frames::publisher(event).filter(|it| it != NOBODY) {
                body.extend_from_slice(b",\"meta\":");
                body.extend_from_slice(&meta);
            }
            body.push(b'}');
            Some(finish(app, kind, "message", Some(channel), body))
        }
        Happening::ValueChanged(change) => Some(value(app, channel, change, about?)),
        Happening::Mutated(_)
        | Happening::Annotated(_)
        | Happening::Summarized(_)
        | Happening::Occupied
        | Happening::Vacated
        | Happening::Control(_) => None,
    }
}

/// Who published, if nobody did.
const NOBODY: &[u8] = br#"{"uid":null,"umd":null}"#;

fn member(app: AppIndex, kind: &'static str, channel: &str, it: &Presence) -> Option<Report> {
    if !names::is_presence(channel) {
        return None;
    }
    let mut body = start(kind, Some(channel), None);
    body.extend_from_slice(b"},\"data\":{");
    user::write_members(&mut body, Some(&it.member.user_id), it.member.info.as_ref());
    body.extend_from_slice(b",\"members\":");
    frames::write_members(&mut body, &it.members);
    body.push(b'}');
    Some(finish(app, kind, "channelMember", Some(channel), body))
}

fn value(app: AppIndex, channel: &str, change: &ValueChange, about: &Payload) -> Report {
    let kind = "hotsock.channelStorageUpdated";
    let mut body = start(kind, Some(channel), Some(&about.0));
    write_member(&mut body, "key", &change.key);
    body.extend_from_slice(b"},\"data\":{\"channel\":");
    json::write_str(&mut body, channel);
    body.extend_from_slice(b",\"key\":");
    json::write_str(&mut body, &change.key);
    let or_null =
        |it: &Option<Payload>| it.as_ref().map_or(Bytes::from_static(b"null"), |it| it.0.clone());
    body.extend_from_slice(b",\"data\":");
    body.extend_from_slice(&or_null(&change.data));
    body.extend_from_slice(b",\"dataPrevious\":");
    body.extend_from_slice(&or_null(&change.previous));
    body.extend_from_slice(if change.is_expired {
        b",\"expired\":true,\"expiresAt\":"
    } else {
        b",\"expired\":false,\"expiresAt\":"
    });
    write_expiry(&mut body, change.expires);
    body.extend_from_slice(b",\"meta\":");
    body.extend_from_slice(&change.meta.0);
    body.push(b'}');
    finish(app, kind, "channelStorage", Some(channel), body)
}

fn reaction(
    event: &Event,
    channel: &str,
    kind: &Name,
    data: &Payload,
    about: &Payload,
) -> Option<Report> {
    // Made by `frames::reaction`.
    let data = json::parse(&data.0).ok()?;
    let (message, said) = (data.member("messageId")?, data.member("reaction")?);
    let kind = match &**kind {
        frames::REACTION_ADDED => frames::REACTION_ADDED,
        _ => frames::REACTION_REMOVED,
    };
    let mut body = start(kind, Some(channel), Some(&about.0));
    body.extend_from_slice(b",\"reaction\":");
    body.extend_from_slice(said.text().as_bytes());
    body.extend_from_slice(b"},\"data\":{\"channel\":");
    json::write_str(&mut body, channel);
    body.extend_from_slice(b",\"messageId\":");
    body.extend_from_slice(message.text().as_bytes());
    body.extend_from_slice(b",\"id\":\"");
    body.extend_from_slice(event.id.write(&mut [0; EVENT_ID_CHARS]).as_bytes());
    body.extend_from_slice(b"\",\"reaction\":");
    body.extend_from_slice(said.text().as_bytes());
    let publisher = frames::publisher(event).unwrap_or(Bytes::from_static(NOBODY));
    body.push(b',');
    // Its members, without the braces.
    body.extend_from_slice(publisher.get(1..publisher.len() - 1).unwrap_or_default());
    // The home says when it was said and until when it is kept.
    let kept = event.meta.as_ref().and_then(|it| it.extras.as_ref());
    let kept = kept.and_then(|it| json::parse(&it.0).ok());
    let number = |name: &str| kept.and_then(|it| it.member(name)).and_then(Raw::as_u64);
    body.extend_from_slice(b",\"createdAt\":");
    write_decimal(&mut body, number("at").unwrap_or(event.at.0));
    body.extend_from_slice(b",\"expiresAt\":");
    write_expiry(&mut body, number("expires").map(UnixMillis));
    body.push(b'}');
    Some(finish(event.channel.app, kind, "messageReaction", Some(channel), body))
}

fn write_expiry(out: &mut Vec<u8>, at: Option<UnixMillis>) {
    match at {
        Some(at) => write_decimal(out, at.seconds()),
        None => out.extend_from_slice(b"null"),
    }
}

/// The body up to the end of what everyone is told beside the data; `about` is an object whose members belong there.
fn start(kind: &str, channel: Option<&str>, about: Option<&[u8]>) -> Vec<u8> {
    let mut out = b"{\"source\":\"hotsock.v1\",\"type\":\"".to_vec();
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\",\"metadata\":{\"hotsockVersion\":\"");
    out.extend_from_slice(VERSION.as_bytes());
    out.push(b'"');
    if let Some(channel) = channel {
        write_member(&mut out, "channel", channel);
    }
    let members = about.and_then(|it| it.strip_prefix(b"{")?.strip_suffix(b"}"));
    if let Some(members) = members.filter(|it| !it.is_empty()) {
        out.push(b',');
        out.extend_from_slice(members);
    }
    out
}

fn write_member(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    json::write_str(out, value);
}

fn finish(
    app: AppIndex,
    kind: &'static str,
    data_type: &'static str,
    channel: Option<&str>,
    mut body: Vec<u8>,
) -> Report {
    body.extend_from_slice(b",\"dataType\":\"");
    body.extend_from_slice(data_type.as_bytes());
    body.extend_from_slice(b"\"}");
    let mut fields =
        vec![("X-Hotsock-Type", Box::from(kind)), ("X-Hotsock-Data-Type", Box::from(data_type))];
    if let Some(channel) = channel {
        let mut encoded = String::new();
        query::encode(&mut encoded, channel);
        fields.push(("X-Hotsock-Channel", encoded.into()));
    }
    let channel = channel.map(Name::from);
    Report { app, kind: Name::from(kind), channel, fields, body: Payload(body.into()) }
}

/// A message's name.
pub fn message_name(event: &Event) -> Option<&str> {
    message_parts(event).map(|(name, _)| &**name)
}

/// A message's name and data.
pub fn message_parts(event: &Event) -> Option<(&Name, &Payload)> {
    match &event.happening {
        Happening::Message { name, data, .. } => Some((name, data)),
        _ => None,
    }
}
