//! Messages and their versions: what may be asked of them, and the answers.
//!
//! Source: Sockudo's HTTP API, "Versioned messages".

use std::sync::Arc;

use bytes::Bytes;

use super::super::actor::Actor;
use super::super::capabilities::Op;
use super::super::versions::{self, Shown};
use super::fields::{self, Fields};
use super::publish::{self, Extras};
use super::push;
use crate::auth;
use crate::auth::sign::{Query, fingerprint};
use crate::base::event_id::EventId;
use crate::base::ids::ConnectionId;
use crate::base::name::{Channel, Name};
use crate::broker::versioned::{About, Action, MessageRef, Mutate, Patch, Versions, VersionsQuery};
use crate::broker::{self, Command, IdempotencyKey, Payload, Published};
use crate::config::App;
use crate::dialects::Response;
use crate::dialects::api::{Refusal, refused, respond};
use crate::wire::json::{self, Kind, Raw};

/// Bytes of the key of one operation, at most. Source: Sockudo's HTTP API, "Versioned messages".
const OP_ID_BYTES_MAX: usize = 64;
/// The same under the name that publishes have for it.
const KEY_BYTES_MAX: usize = 128;
/// Bytes of a client's id, at most: as in a capability token.
pub(super) const CLIENT_ID_BYTES_MAX: usize = 128;
/// Bytes of what someone says in words about a version, at most.
const DESCRIPTION_BYTES_MAX: usize = 4096;
/// Versions of one page, at most. Source: as above.
const VERSIONS_MAX: u32 = 100;
/// Bytes of them, at most, about: a page that would be larger says that there is more.
const VERSIONS_BYTES_MAX: u64 = 512 << 10;
/// What goes with a change that is not permitted. Source: Sockudo's reference of errors.
const NOT_PERMITTED_CODE: u32 = 93_002;

/// Reads a message's serial in a path; who asks for what is none asks for nothing that is there.
pub(super) fn read_serial(text: &str, channel: &str) -> Result<MessageRef, Refusal> {
    text.parse().map_err(|_| not_found("Message", text, channel))
}

/// The refusal of what is not there.
pub(super) fn not_found(what: &str, serial: &str, channel: &str) -> Refusal {
    let serial: String = serial.chars().take(128).collect();
    Refusal::new(
        404,
        "not_found",
        format!("{what} '{serial}' was not found in channel '{channel}'"),
    )
}

/// The answer to what the broker refuses about a message.
pub(super) fn refused_of(refusal: broker::Refusal, message: MessageRef, channel: &str) -> Response {
    match refusal {
        broker::Refusal::NotFound => not_found("Message", &message.to_string(), channel).response(),
        broker::Refusal::NotOwner => not_permitted(),
        broker::Refusal::KeyReused => Refusal::invalid(refusal.text()).response(),
        other => refused(other),
    }
}

/// The answer to a connection that may not change the message.
fn not_permitted() -> Response {
    let text = "the acting connection may not do that to this message";
    let refusal = Refusal::new(403, "mutable_not_permitted", text);
    let mut response = refusal.response();
    let mut body = response.body.to_vec();
    body.pop();
    body.extend_from_slice(format!(",\"ai_code\":{NOT_PERMITTED_CODE}}}").as_bytes());
    response.body = Bytes::from(body);
    response
}

/// A message is to be changed.
#[derive(Debug)]
pub(super) struct Mutation {
    /// The connection that acts; none: the app does.
    pub actor: Option<ConnectionId>,
    mutate: Mutate,
}

impl Mutation {
    /// Reads the body of `update`, `delete` or `append`.
    pub fn read(
        body: &[u8],
        action: Action,
        channel: Channel,
        serial: &str,
        app: &App,
    ) -> Result<Self, Refusal> {
        let fields = Fields::read(body)?;
        let message = read_serial(serial, &channel.name)?;
        let name = match action {
            Action::Update => fields.text(&["name"])?,
            _ => None,
        };
        if let Some(name) = &name {
            fields::check_event_name(name, app)?;
        }
        let data = fields.any("data");
        if action == Action::Append {
            check_appended(data)?;
        }
        if let Some(data) = data {
            publish::check_data(data, "", app)?;
        }
        let extras = fields.any("extras");
        extras.map(|extras| Extras::read(extras, app)).transpose()?;
        let cleared = Cleared::read(fields, action)?;
        let description = fields.text(&["description"])?;
        if description.as_ref().is_some_and(|it| it.len() > DESCRIPTION_BYTES_MAX) {
            let text = format!("description has at most {DESCRIPTION_BYTES_MAX} bytes");
            return Err(Refusal::limit(text));
        }
        let metadata = fields.any("metadata");
        if let Some(metadata) = metadata {
            publish::check_size(metadata, "metadata", app)?;
        }
        let client_id = fields.id(&["client_id", "clientId"], CLIENT_ID_BYTES_MAX)?;
        let has_patch = name.is_some() || data.is_some() || extras.is_some() || cleared.any();
        let is_about = description.is_some() || metadata.is_some() || client_id.is_some();
        if action == Action::Update && !has_patch && !is_about {
            return Err(Refusal::invalid(
                "update request must include at least one patch field or operation metadata",
            ));
        }
        let actor = read_actor(fields.text(&["socket_id", "socketId"])?.as_deref())?;
        let op_id = match fields.id(&["op_id", "opId"], OP_ID_BYTES_MAX)? {
            None => fields.id(&["idempotency_key"], KEY_BYTES_MAX)?,
            given => given,
        };
        let key = op_id.map(|op_id| {
            let actor = actor.map(|it| it.to_string());
            let text = |it: Option<Raw<'_>>| it.map_or("", Raw::text).to_owned();
            let parts = [
                format!("{action:?}{cleared:?}"),
                name.as_deref().unwrap_or_default().into(),
                text(data),
                text(extras),
                description.as_deref().unwrap_or_default().into(),
                text(metadata),
                client_id.as_deref().unwrap_or_default().into(),
                actor.unwrap_or_default(),
            ];
            let fingerprint = fingerprint(&parts.each_ref().map(|it| it.as_bytes()));
            let name = Name::from(&*format!("o:{message}:{op_id}"));
            Arc::new(IdempotencyKey { name, fingerprint, span: None })
        });
        let mutate = Mutate {
            message,
            action,
            name: patch(name.map(|it| Name::from(&*it)), cleared.name),
            data: patch(data.map(payload), cleared.data),
            extras: patch(extras.map(payload), cleared.extras),
            about: About {
                client_id: client_id.map(|it| Name::from(&*it)),
                description: description.map(|it| Name::from(&*it)),
                metadata: metadata.map(payload),
            },
            only_of: None,
            data_bytes_max: app.event_payload_bytes_max,
            exclude: None,
            key,
            report: None,
            push: None,
            channel,
        };
        Ok(Self { actor, mutate })
    }

    /// In which channel.
    pub fn channel(&self) -> &str {
        &self.mutate.channel.name
    }

    /// Reads the push notification that its extras say goes with it.
    pub fn bring_push(&mut self, app: &auth::App, terms: push::Terms) -> Result<(), Refusal> {
        let Patch::Set(extras) = &self.mutate.extras else { return Ok(()) };
        let channels = std::slice::from_ref(&self.mutate.channel.name);
        let key = self.mutate.key.as_deref();
        self.mutate.push = push::of_extras(Some(extras), channels, key, app, terms)?;
        Ok(())
    }

    /// Lets a connection do it, with the rights that it has.
    pub fn act_as(&mut self, actor: &Actor) -> Result<(), Response> {
        let (any, own) = match self.mutate.action {
            Action::Append => (Op::MessageAppendAny, Op::MessageAppendOwn),
            Action::Delete => (Op::MessageDeleteAny, Op::MessageDeleteOwn),
            Action::Update | Action::Create => (Op::MessageUpdateAny, Op::MessageUpdateOwn),
        };
        let own_client = actor.client_id.clone().filter(|_| actor.may(own));
        if !actor.may(Op::Publish) || !actor.may(any) && own_client.is_none() {
            return Err(not_permitted());
        }
        self.mutate.only_of = own_client.filter(|_| !actor.may(any));
        self.mutate.about.client_id.clone_from(&actor.client_id);
        Ok(())
    }

    /// What the broker is asked.
    pub fn command(&self) -> Command {
        Command::Mutate(Box::new(self.mutate.clone()))
    }

    /// The answer once it is done.
    pub fn answer(&self, done: &Published) -> Response {
        let Mutate { channel, message, action, .. } = &self.mutate;
        let mut out = b"{\"channel\":".to_vec();
        json::write_str(&mut out, &channel.name);
        let status = if done.is_repeated { "duplicate" } else { "applied" };
        let text = format!(
            ",\"message_serial\":\"{message}\",\"action\":\"{}\",\"accepted\":true,\"version_serial\":\"{}\",\
             \"history_serial\":{},\"delivery_serial\":{},\"status\":\"{status}\"}}",
            versions::word(*action),
            done.id,
            message.serial.0,
            done.serial.0,
        );
        out.extend_from_slice(text.as_bytes());
        respond(200, out.into())
    }

    /// The answer if the broker refuses.
    pub fn refused(&self, refusal: broker::Refusal) -> Response {
        refused_of(refusal, self.mutate.message, self.channel())
    }
}

/// Which parts of a message go.
#[derive(Clone, Copy, Debug, Default)]
struct Cleared {
    name: bool,
    data: bool,
    extras: bool,
}

impl Cleared {
    fn read(fields: Fields<'_>, action: Action) -> Result<Self, Refusal> {
        let mut cleared = Self::default();
        let Some(list) = fields.any("clear_fields").or_else(|| fields.any("clearFields")) else {
            return Ok(cleared);
        };
        let known = match action {
            Action::Update => &["name", "data", "extras"][..],
            Action::Delete => &["data", "extras"],
            _ => &[],
        };
        let wrong =
            || Refusal::shape(format!("clear_fields is a list out of {}", known.join(", ")));
        if known.is_empty() {
            // An append takes nothing away.
            return Ok(cleared);
        }
        if list.kind() != Kind::Array {
            return Err(wrong());
        }
        for item in list.items() {
            let word = item.as_str().ok_or_else(wrong)?;
            if !known.contains(&&*word) {
                return Err(wrong());
            }
            if fields.any(&word).is_some() {
                return Err(Refusal::invalid(format!(
                    "{word} cannot be both replaced and cleared"
                )));
            }
            match &*word {
                "name" => cleared.name = true,
                "data" => cleared.data = true,
                _ => cleared.extras = true,
            }
        }
        Ok(cleared)
    }

    fn any(self) -> bool {
        self.name || self.data || self.extras
    }
}

fn patch<T>(given: Option<T>, is_cleared: bool) -> Patch<T> {
    match given {
        Some(it) => Patch::Set(it),
        None if is_cleared => Patch::Clear,
        None => Patch::Stay,
    }
}

pub(super) fn payload(value: Raw<'_>) -> Payload {
    Payload(Bytes::copy_from_slice(value.text().as_bytes()))
}

fn check_appended(data: Option<Raw<'_>>) -> Result<(), Refusal> {
    match data.map(Raw::as_str) {
        None => Err(Refusal::shape("data is missing")),
        Some(None) => Err(Refusal::shape("data is not a string")),
        Some(Some(text)) if text.is_empty() => {
            Err(Refusal::invalid("append request data must not be empty"))
        }
        Some(Some(_)) => Ok(()),
    }
}

/// Reads who acts. An id that is none names no connection.
pub(super) fn read_actor(id: Option<&str>) -> Result<Option<ConnectionId>, Refusal> {
    id.map(|id| id.parse().map_err(|_| not_connected(id))).transpose()
}

/// The refusal when the acting connection is not there.
pub(super) fn not_connected(id: &str) -> Refusal {
    let id: String = id.chars().take(64).collect();
    Refusal::new(401, "auth_failed", format!("Mutation actor socket '{id}' is not connected"))
}

/// Which versions are asked for.
#[derive(Debug)]
pub(super) struct VersionsAsk {
    channel: String,
    query: VersionsQuery,
}

impl VersionsAsk {
    /// Reads the query of `versions`.
    pub fn read(query: &Query<'_>, channel: &str, serial: &str) -> Result<Self, Refusal> {
        let message = read_serial(serial, channel)?;
        let after = match query.value("cursor") {
            None => None,
            Some(cursor) => Some(read_version(cursor, message)?),
        };
        let is_newest_first = match query.value("direction") {
            None | Some("newest_first" | "backwards" | "reverse") => true,
            Some("oldest_first" | "forwards" | "forward") => false,
            Some(_) => {
                return Err(Refusal::invalid("direction is newest_first or oldest_first"));
            }
        };
        let versions_max = fields::limit(query.value("limit"), VERSIONS_MAX, "Version")?;
        let bytes_max = VERSIONS_BYTES_MAX;
        let query = VersionsQuery { message, after, is_newest_first, versions_max, bytes_max };
        Ok(Self { channel: channel.into(), query })
    }

    /// What the broker is asked.
    pub fn command(&self, channel: Channel) -> Command {
        Command::Versions(channel, Box::new(self.query))
    }

    /// The answer.
    pub fn answer(&self, found: &Versions) -> Response {
        let mut out = b"{\"channel\":".to_vec();
        json::write_str(&mut out, &self.channel);
        let direction = if self.query.is_newest_first { "newest_first" } else { "oldest_first" };
        let text = format!(
            ",\"direction\":\"{direction}\",\"limit\":{},\"has_more\":{},",
            self.query.versions_max, found.has_more
        );
        out.extend_from_slice(text.as_bytes());
        if let Some(last) = found.events.last().filter(|_| found.has_more) {
            let text = if last.id == self.query.message.id {
                self.query.message.to_string()
            } else {
                last.id.to_string()
            };
            out.extend_from_slice(format!("\"next_cursor\":\"{text}\",").as_bytes());
        }
        out.extend_from_slice(b"\"items\":[");
        for event in &found.events {
            let before = out.len();
            if out.last() != Some(&b'[') {
                out.push(b',');
            }
            if !versions::write_item(event, Shown::Added, &mut out) {
                out.truncate(before);
            }
        }
        out.extend_from_slice(b"]}");
        respond(200, out.into())
    }

    /// The answer if the broker refuses.
    pub fn refused(&self, refusal: broker::Refusal) -> Response {
        refused_of(refusal, self.query.message, &self.channel)
    }
}

/// Reads a version's serial; the first is called as its message is.
fn read_version(text: &str, message: MessageRef) -> Result<EventId, Refusal> {
    match text.parse::<MessageRef>() {
        Ok(first) if first == message => Ok(first.id),
        Ok(_) => Err(Refusal::invalid("cursor is of another message")),
        Err(_) => text.parse().map_err(|_| Refusal::invalid("cursor is no version's serial")),
    }
}

/// The answer to who asks for a message as it is now.
pub(super) fn latest(channel: &str, message: MessageRef, found: &Versions) -> Response {
    let mut out = b"{\"channel\":".to_vec();
    json::write_str(&mut out, channel);
    out.extend_from_slice(b",\"item\":");
    let is_there =
        found.events.first().is_some_and(|it| versions::write_item(it, Shown::Whole, &mut out));
    if !is_there {
        return not_found("Message", &message.to_string(), channel).response();
    }
    out.push(b'}');
    respond(200, out.into())
}

#[cfg(test)]
#[path = "messages_tests.rs"]
mod tests;
