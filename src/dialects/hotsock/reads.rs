//! What clients read: messages, reactions, values, and what a channel looks like.
//!
//! Source: our reference, sections 6.4, 6.5, 6.7 and 6.8.

use super::doing::{Doing, Origin, What};
use super::envelope::{self, Envelope};
use super::faults::{Code, Fault};
use super::rights::Observes;
use super::session::HotsockSession;
use super::subscriptions::not_subscribed;
use super::{frames, names, reports};
use crate::base::event_id::EventId;
use crate::base::name::Name;
use crate::base::time::UnixMillis;
use crate::broker::state::{Reaction, Retained, RetainedQuery, Value, ValuesQuery};
use crate::broker::{Command, Reply};
use crate::dialects::Output;
use crate::wire::json::{self, Kind, Raw};
use crate::wire::write_decimal;

/// Messages or values of one page.
pub const PAGE_ITEMS_MAX: u32 = 100;
/// Bytes of one page.
pub const PAGE_BYTES_MAX: usize = 1 << 20;
/// Keys that may be asked for by name at once.
pub const KEYS_MAX: usize = 100;

impl HotsockSession {
    /// The oldest message of a channel that this connection may see: since it subscribed, or since the history that
    /// its tokens open.
    pub(super) fn visible_from(&self, channel: &str) -> UnixMillis {
        let since = self.standing(channel).map_or(UnixMillis(u64::MAX), |it| it.since);
        let start = self.rights(channel).history_start(channel);
        start.map_or(since, |start| start.min(since))
    }

    pub(super) fn list_messages(
        &mut self,
        origin: Origin,
        message: &Envelope<'_>,
        body: Raw<'_>,
        out: &mut Vec<Output>,
    ) -> Result<(), Fault> {
        let sent = message.channel()?;
        let real = self.resolve_valid(&sent)?;
        let reverse = envelope::flag("reverse", body.member("reverse"))?;
        let expand = envelope::flag("expandReactions", body.member("expandReactions"))?;
        let (after, before) = (cursor(body, "after")?, cursor(body, "before")?);
        let limit = match body.member("limit").filter(|it| !it.is_null()) {
            None => PAGE_ITEMS_MAX,
            Some(limit) => {
                let limit = limit.as_u64().and_then(|it| u32::try_from(it).ok());
                let limit = limit.filter(|it| (1..=PAGE_ITEMS_MAX).contains(it));
                limit.ok_or_else(|| Fault::field("limit", "a number from 1 to 100"))?
            }
        };
        if self.standing(&real).is_none() {
            return Err(not_subscribed());
        }
        let query = RetainedQuery {
            after: after.filter(|_| !reverse),
            before: before.filter(|_| reverse),
            from_at: self.visible_from(&real),
            is_newest_first: reverse,
            events_max: limit,
            bytes_max: PAGE_BYTES_MAX as u64,
            with_reactions: true,
        };
        let command = Command::Retained(self.channel(&real), Box::new(query));
        let what = What::ListMessages { channel: Name::from(&*real), expand };
        self.ask(origin, &sent, what, command, out)
    }

    pub(super) fn list_reactions(
        &mut self,
        origin: Origin,
        message: &Envelope<'_>,
        body: Raw<'_>,
        out: &mut Vec<Output>,
    ) -> Result<(), Fault> {
        let sent = message.channel()?;
        let real = self.resolve_valid(&sent)?;
        let id = envelope::required("messageId", body.member("messageId"))?;
        if self.standing(&real).is_none() {
            return Err(not_subscribed());
        }
        let id: EventId =
            id.parse().map_err(|_| Fault::field("messageId", "the id of a message, a ULID"))?;
        let command = Command::FindRetained(self.channel(&real), id);
        let what = What::ListReactions { from: self.visible_from(&real) };
        self.ask(origin, &sent, what, command, out)
    }

    pub(super) fn get_value(
        &mut self,
        origin: Origin,
        message: &Envelope<'_>,
        out: &mut Vec<Output>,
    ) -> Result<(), Fault> {
        let sent = message.channel()?;
        let real = self.resolve_valid(&sent)?;
        let key = message.key()?;
        let on = |fault: Fault| fault.with_key(&key);
        names::key_fault(&key).map_err(|text| on(Fault::new(Code::InvalidKey, text)))?;
        if !self.rights(&real).storage(&real, &key).get {
            let text = "the tokens give no right to get this key";
            return Err(on(Fault::new(Code::StoragePermissionDenied, text)));
        }
        let (channel, key) = (Name::from(&*real), Name::from(&*key));
        let query = ValuesQuery {
            keys: Some(vec![key.clone()]),
            after: None,
            admit: None,
            values_max: 1,
            bytes_max: PAGE_BYTES_MAX as u64,
        };
        let command = Command::Values(self.channel(&real), Box::new(query));
        let what = What::GetValue { channel, key };
        self.ask(origin, &sent, what, command, out)
    }

    pub(super) fn list_values(
        &mut self,
        origin: Origin,
        message: &Envelope<'_>,
        body: Raw<'_>,
        out: &mut Vec<Output>,
    ) -> Result<(), Fault> {
        let sent = message.channel()?;
        let real = self.resolve_valid(&sent)?;
        let after = envelope::string("after", body.member("after"))?;
        let keys = match body.member("keys").filter(|it| !it.is_null()) {
            None => None,
            Some(keys) => Some(read_keys(keys)?),
        };
        let admit = match self.rights(&real).gets(&real) {
            Observes::Everything => None,
            Observes::Some(keys) => Some(keys),
            Observes::Nothing => {
                self.succeed(origin, 200, || items(&[]), out);
                return Ok(());
            }
        };
        let query = ValuesQuery {
            keys,
            after: after.map(|it| Name::from(&*it)),
            admit,
            values_max: PAGE_ITEMS_MAX,
            bytes_max: PAGE_BYTES_MAX as u64,
        };
        let command = Command::Values(self.channel(&real), Box::new(query));
        self.ask(origin, &sent, What::ListValues, command, out)
    }

    pub(super) fn describe(
        &mut self,
        origin: Origin,
        message: &Envelope<'_>,
        out: &mut Vec<Output>,
    ) -> Result<(), Fault> {
        let sent = message.channel()?;
        let real = self.resolve_valid(&sent)?;
        if !self.rights(&real).may_get_info(&real) {
            let text = "the tokens give no right to this channel's description";
            return Err(Fault::new(Code::InfoPermissionDenied, text));
        }
        let command = Command::Describe(self.channel(&real));
        self.ask(origin, &sent, What::Describe { channel: Name::from(&*real) }, command, out)
    }

    /// What was read.
    pub(super) fn read(&mut self, doing: &Doing, what: What, reply: Reply, out: &mut Vec<Output>) {
        match (what, reply) {
            (What::GetValue { channel, key }, Reply::Values(values)) => {
                let body = frames::value(&channel, &key, values.first());
                match doing.origin {
                    Origin::Socket => out.push(Output::Text(body)),
                    Origin::Call(_) => self.succeed(doing.origin, 200, || body, out),
                }
            }
            (What::ListValues, Reply::Values(values)) => {
                self.succeed(doing.origin, 200, || items(&values), out);
            }
            (What::ListMessages { channel, expand }, Reply::Retained(found)) => {
                self.succeed(doing.origin, 200, || messages(&channel, &found, expand), out);
            }
            (What::ListReactions { from }, Reply::Retained(found)) => {
                let found = found.first().filter(|it| it.event.id.at() >= from);
                let found = found.map_or(&[][..], |it| &it.reactions);
                self.succeed(doing.origin, 200, || reactions(found), out);
            }
            (What::Describe { channel }, Reply::Described(description)) => {
                let count = description.subscription_count;
                if !names::is_presence(&channel) {
                    let body = described("channel", &channel, count, None);
                    return self.succeed(doing.origin, 200, || body, out);
                }
                let command = Command::Members(self.channel(&channel));
                let what = What::Members { channel, count };
                if let Err(fault) = self.ask(doing.origin, &doing.sent, what, command, out) {
                    self.fail(doing.origin, &fault, out);
                }
            }
            (What::Members { channel, count }, Reply::Members(members)) => {
                let body = described("channel", &channel, count, Some(&members));
                self.succeed(doing.origin, 200, || body, out);
            }
            _ => {
                let fault = Fault::new(Code::Internal, "the server failed");
                self.fail(doing.origin, &fault.on(&doing.sent), out);
            }
        }
    }
}

/// An id to go on from; none need be a message's.
fn cursor(body: Raw<'_>, name: &str) -> Result<Option<EventId>, Fault> {
    match envelope::string(name, body.member(name))? {
        None => Ok(None),
        Some(text) => match text.parse() {
            Ok(id) => Ok(Some(id)),
            Err(_) => Err(Fault::field(name, "the id of a message, a ULID")),
        },
    }
}

/// Keys that are asked for by name.
pub fn read_keys(keys: Raw<'_>) -> Result<Vec<Name>, Fault> {
    let wrong = || Fault::field("keys", "a list of at most 100 strings");
    if keys.kind() != Kind::Array || keys.items().count() > KEYS_MAX {
        return Err(wrong());
    }
    let key = |it: Raw<'_>| it.as_str().map(|it| Name::from(&*it)).ok_or_else(wrong);
    keys.items().map(key).collect()
}

/// A list of values.
pub fn items(values: &[Value]) -> Vec<u8> {
    let mut out = b"{\"items\":[".to_vec();
    for (i, value) in values.iter().enumerate() {
        let start = out.len();
        out.extend_from_slice(if i > 0 { b",{\"key\":" } else { b"{\"key\":" });
        json::write_str(&mut out, &value.key);
        out.extend_from_slice(b",\"data\":");
        out.extend_from_slice(&value.data.0);
        out.extend_from_slice(b",\"meta\":");
        out.extend_from_slice(&value.meta.0);
        out.push(b'}');
        if i > 0 && out.len() > PAGE_BYTES_MAX {
            out.truncate(start);
            break;
        }
    }
    out.extend_from_slice(b"]}");
    out
}

/// What a channel looks like; `members` on presence channels. `name` is what its name is called.
pub fn described(
    name: &str,
    channel: &str,
    count: u64,
    members: Option<&[std::sync::Arc<crate::broker::Member>]>,
) -> Vec<u8> {
    let mut out = format!("{{\"{name}\":").into_bytes();
    json::write_str(&mut out, channel);
    out.extend_from_slice(b",\"subscriptionsCount\":");
    write_decimal(&mut out, count);
    if let Some(members) = members {
        out.extend_from_slice(b",\"members\":");
        frames::write_members(&mut out, members);
    }
    out.push(b'}');
    out
}

/// What is about a message in a page: the names of its members and its id, and perhaps who sent it.
const MESSAGE_BYTES_BESIDE: usize = 160;

/// About how long a message is in a page.
fn shown_bytes(channel: &str, it: &Retained) -> usize {
    let own = reports::message_parts(&it.event).map_or(0, |(name, data)| name.len() + data.0.len());
    MESSAGE_BYTES_BESIDE + channel.len() + own
}

/// A page of messages, cut where it would be too long.
fn messages(channel: &str, found: &[Retained], expand: bool) -> Vec<u8> {
    let shown = found.iter().map(|it| shown_bytes(channel, it)).sum::<usize>();
    let mut out = Vec::with_capacity(shown.min(PAGE_BYTES_MAX) + MESSAGE_BYTES_BESIDE);
    out.extend_from_slice(b"{\"messages\":[");
    for (i, it) in found.iter().enumerate() {
        let start = out.len();
        out.extend_from_slice(if i > 0 { b"," } else { b"" });
        message(channel, it, expand, &mut out);
        if i > 0 && out.len() > PAGE_BYTES_MAX {
            out.truncate(start);
            break;
        }
    }
    out.extend_from_slice(b"]}");
    out
}

fn message(channel: &str, it: &Retained, expand: bool, out: &mut Vec<u8>) {
    let Some((name, data)) = reports::message_parts(&it.event) else {
        // Only messages are kept under an id.
        return out.extend_from_slice(b"null");
    };
    out.push(b'{');
    frames::write_message(&it.event, channel, name, data, out);
    out.extend_from_slice(b",\"meta\":");
    // Callers look into it.
    match frames::publisher(&it.event) {
        Some(meta) => out.extend_from_slice(&meta),
        None => out.extend_from_slice(br#"{"uid":null,"umd":null}"#),
    }
    if expand || !it.reactions.is_empty() {
        out.extend_from_slice(b",\"reactions\":");
        write_counts(&it.reactions, expand, out);
    }
    out.push(b'}');
}

/// Reactions by what was said, in the order in which each was said first.
fn write_counts(reactions: &[Reaction], expand: bool, out: &mut Vec<u8>) {
    let mut groups: Vec<(&str, Vec<&Reaction>)> = Vec::new();
    for it in reactions {
        match groups.iter_mut().find(|(reaction, _)| **reaction == *it.reaction) {
            Some((_, these)) => these.push(it),
            None => groups.push((&it.reaction, vec![it])),
        }
    }
    out.push(b'{');
    for (i, (reaction, these)) in groups.iter().enumerate() {
        out.extend_from_slice(if i > 0 { b"," } else { b"" });
        json::write_str(out, reaction);
        out.extend_from_slice(b":{\"count\":");
        write_decimal(out, these.len() as u64);
        if expand {
            out.extend_from_slice(b",\"items\":[");
            for (i, it) in these.iter().enumerate() {
                out.extend_from_slice(if i > 0 { b",{" } else { b"{" });
                write_by(it, out);
                out.push(b'}');
            }
            out.push(b']');
        }
        out.push(b'}');
    }
    out.push(b'}');
}

/// Who reacted; what is not known of them is left out.
fn write_by(reaction: &Reaction, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\"uid\":");
    json::write_str(out, &reaction.by.user_id);
    if let Some(umd) = &reaction.by.info {
        out.extend_from_slice(b",\"umd\":");
        out.extend_from_slice(&umd.0);
    }
}

fn reactions(found: &[Reaction]) -> Vec<u8> {
    let mut out = b"{\"reactions\":[".to_vec();
    for (i, it) in found.iter().enumerate() {
        out.extend_from_slice(if i > 0 { b",{\"reaction\":" } else { b"{\"reaction\":" });
        json::write_str(&mut out, &it.reaction);
        out.push(b',');
        write_by(it, &mut out);
        out.push(b'}');
    }
    out.extend_from_slice(b"]}");
    out
}
