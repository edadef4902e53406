//! One message of a back end: its fields checked, and what is to be done for it.
//!
//! The same JSON comes by `/publish`, in a batch and as the payload of an invocation. Source: our reference,
//! sections 7.1, 8 and 9.2.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;

use super::Origin;
use crate::base::event_id::EventId;
use crate::base::name::{Channel, Name};
use crate::base::time::{Millis, Now, UnixMillis};
use crate::broker::state::{Deferred, Keep, React, Schedule, SetValue};
use crate::broker::{Command, IdempotencyKey, Member, Payload, Publish};
use crate::dialects::hotsock::faults::{Code, Fault};
use crate::dialects::hotsock::{Shared, at, frames, names, user};
use crate::wire::json::{self, Kind, Raw};

/// How long a `deduplicationId` is remembered.
pub(super) const DEDUPLICATION: Millis = Millis(5 * 60_000);
/// The longest `deduplicationId`, in characters.
const DEDUPLICATION_CHARS_MAX: usize = 128;

/// A message, checked.
#[derive(Debug)]
pub(in super::super) struct Message {
    /// Its channel, as it came.
    pub channel: Box<str>,
    /// Its event.
    pub event: Box<str>,
    /// The answer shows the id.
    pub shows_id: bool,
    /// What is to be done.
    pub command: Command,
    /// Only if nobody used this name before; for what has no key of its own.
    pub once: Option<Name>,
}

/// The fields of a message, those that are null left out.
#[derive(Default)]
struct Fields<'a> {
    channel: Option<Raw<'a>>,
    event: Option<Raw<'a>>,
    data: Option<Raw<'a>>,
    store: Option<Raw<'a>>,
    emits: Option<Raw<'a>>,
    deduplication_id: Option<Raw<'a>>,
    eager: Option<Raw<'a>>,
    key: Option<Raw<'a>>,
    schedule: Option<Raw<'a>>,
    zone: Option<Raw<'a>>,
    meta: Option<Raw<'a>>,
}

impl<'a> Fields<'a> {
    fn of(message: Raw<'a>) -> Self {
        let mut fields = Self::default();
        for (name, value) in message.members() {
            let field = match &*name {
                "channel" => &mut fields.channel,
                "event" => &mut fields.event,
                "data" => &mut fields.data,
                "store" => &mut fields.store,
                "emitPubSubEvent" => &mut fields.emits,
                "deduplicationId" => &mut fields.deduplication_id,
                "eagerIdGeneration" => &mut fields.eager,
                "key" => &mut fields.key,
                "scheduleExpression" => &mut fields.schedule,
                "scheduleExpressionTimezone" => &mut fields.zone,
                "meta" => &mut fields.meta,
                _ => continue,
            };
            *field = Some(value).filter(|it| !it.is_null());
        }
        fields
    }
}

fn text<'a>(field: Option<Raw<'a>>, name: &str) -> Result<Cow<'a, str>, Fault> {
    field.and_then(Raw::as_str).ok_or_else(|| Fault::field(name, "a string"))
}

fn switch(field: Option<Raw<'_>>, name: &str) -> Result<bool, Fault> {
    field.map_or(Ok(false), |it| it.as_bool().ok_or_else(|| Fault::field(name, "true or false")))
}

/// The bytes of a value; without its white space if it is too large with it.
fn payload(value: Raw<'_>, bytes_max: usize) -> Result<Payload, Fault> {
    let text = value.text();
    if text.len() <= bytes_max {
        return Ok(Payload(Bytes::copy_from_slice(text.as_bytes())));
    }
    let compact = names::compact(text);
    if compact.len() > bytes_max {
        let text = format!("more than {bytes_max} bytes of JSON");
        return Err(Fault::new(Code::DataTooLarge, text));
    }
    Ok(Payload(Bytes::from(compact)))
}

/// Reads a message; nothing is asked of anyone yet.
pub(in super::super) fn read(
    shared: &Shared,
    message: Raw<'_>,
    origin: &Origin,
    now: Now,
) -> Result<Message, Fault> {
    if message.kind() != Kind::Object {
        return Err(Fault::new(Code::InvalidMessage, "a message is a JSON object"));
    }
    let fields = Fields::of(message);
    let channel = text(fields.channel, "channel")?;
    names::channel_fault(&channel).map_err(|why| Fault::new(Code::InvalidChannel, why))?;
    let event = text(fields.event, "event")?;
    let reader = Reader { shared, fields: &fields, channel: &channel, origin, now };
    let key = reader.idempotency_key()?;
    let schedule = reader.schedule()?;
    let (what, shows_id) = match &*event {
        names::STORAGE_SET => (Deferred::SetValue(Box::new(reader.set_value()?)), false),
        names::REACTION => {
            if schedule.is_some() {
                let text = "a reaction cannot be scheduled";
                return Err(Fault::new(Code::InvalidScheduleExpression, text));
            }
            let command = Command::React(Box::new(reader.react()?));
            let once = key.map(|key| reader.once(&key));
            let (channel, event) = (channel.into(), event.into());
            return Ok(Message { channel, event, shows_id: false, command, once });
        }
        _ => {
            names::event_fault(&event).map_err(|why| Fault::new(Code::InvalidEvent, why))?;
            let is_eager = switch(fields.eager, "eagerIdGeneration")?;
            (Deferred::Publish(Box::new(reader.publish(&event)?)), is_eager)
        }
    };
    let (command, once) = match (what, schedule) {
        (what, Some(at)) => (Command::Schedule(Box::new(Schedule { what, at, key })), None),
        (Deferred::Publish(publish), None) => {
            (Command::Publish(Box::new(Publish { key, ..*publish })), None)
        }
        (Deferred::SetValue(set), None) => {
            (Command::SetValue(set), key.map(|key| reader.once(&key)))
        }
    };
    let shows_id = shows_id && schedule.is_none();
    Ok(Message { channel: channel.into(), event: event.into(), shows_id, command, once })
}

/// The broker channel behind a channel.
pub(super) fn channel(shared: &Shared, name: &str) -> Channel {
    let app = &shared.app;
    Channel { app: app.index, name: names::to_broker(name, &app.settings.bridge) }
}

struct Reader<'a> {
    shared: &'a Shared,
    fields: &'a Fields<'a>,
    channel: &'a str,
    origin: &'a Origin,
    now: Now,
}

impl Reader<'_> {
    fn channel(&self) -> Channel {
        channel(self.shared, self.channel)
    }

    fn publish(&self, event: &str) -> Result<Publish, Fault> {
        let data = self.fields.data.map(|it| payload(it, names::DATA_BYTES_MAX)).transpose()?;
        let data = data.unwrap_or(Payload(Bytes::from_static(b"null")));
        let channel = self.channel();
        Ok(Publish {
            retain: self.keep(None)?,
            report: self.report()?,
            ..Publish::new(channel, Name::from(event), data, self.now.steady)
        })
    }

    fn set_value(&self) -> Result<SetValue, Fault> {
        let key = text(self.fields.key, "key")?;
        names::key_fault(&key).map_err(|why| Fault::new(Code::InvalidKey, why))?;
        // An object without members clears, too.
        let is_empty = |it: &Raw<'_>| it.kind() == Kind::Object && it.members().next().is_none();
        let data = self.fields.data.filter(|it| !is_empty(it));
        let keep = self.keep(Some(Keep::Forever))?;
        Ok(SetValue {
            channel: self.channel(),
            key: Name::from(&*key),
            data: data.map(|it| payload(it, names::DATA_BYTES_MAX)).transpose()?,
            meta: user::pair(None, None),
            keep: keep.ok_or_else(|| Fault::field("store", "-1 or more than 0 for a value"))?,
            report: self.report()?,
            quiet: false,
        })
    }

    fn react(&self) -> Result<React, Fault> {
        let data = self.fields.data.filter(|it| it.kind() == Kind::Object);
        let data = data.ok_or_else(|| Fault::field("data", "an object"))?;
        let message = text(data.member("messageId"), "data.messageId")?;
        let message: EventId =
            message.parse().map_err(|_| Fault::field("data.messageId", "the id of a message"))?;
        let reaction = text(data.member("reaction"), "data.reaction")?;
        names::reaction_fault(&reaction).map_err(|why| Fault::new(Code::InvalidReaction, why))?;
        let is_added = match data.member("action").and_then(Raw::as_str).as_deref() {
            Some("add") => true,
            Some("remove") => false,
            _ => return Err(Fault::field("data.action", "\"add\" or \"remove\"")),
        };
        let by = self.reacting()?;
        let event = if is_added { frames::REACTION_ADDED } else { frames::REACTION_REMOVED };
        let told = frames::reaction(&message.to_string(), &reaction, is_added);
        Ok(React {
            channel: self.channel(),
            message,
            reaction: Name::from(&*reaction),
            publisher: Some(user::pair(Some(&by.user_id), by.info.as_ref())),
            by: Arc::new(by),
            is_added,
            event: (Name::from(event), told),
            exclude: None,
            report: self.report()?,
        })
    }

    /// Who reacts; upstream does not say.
    fn reacting(&self) -> Result<Member, Fault> {
        let uid = self.fields.meta.and_then(|it| it.member("uid")).and_then(Raw::as_str);
        let uid = uid.filter(|it| !it.is_empty()).ok_or_else(|| {
            Fault::new(Code::UserIdRequired, "\"meta.uid\" must say who reacts: a string")
        })?;
        names::uid_fault(&uid).map_err(|why| Fault::new(Code::InvalidMessage, why))?;
        let umd = self.fields.meta.and_then(|it| it.member("umd")).filter(|it| !it.is_null());
        let info = umd.map(|it| payload(it, names::UMD_BYTES_MAX)).transpose()?;
        Ok(Member { user_id: Name::from(&*uid), info })
    }

    /// How long it is kept; none: not at all.
    fn keep(&self, default: Option<Keep>) -> Result<Option<Keep>, Fault> {
        let Some(store) = self.fields.store else { return Ok(default) };
        match store.as_i64() {
            Some(-1) => Ok(Some(Keep::Forever)),
            Some(0) => Ok(None),
            Some(seconds @ 1..=names::STORE_SECONDS_MAX) => {
                Ok(Some(Keep::For(Millis(seconds.unsigned_abs() * 1000))))
            }
            _ => {
                let what = format!("a whole number from -1 to {}", names::STORE_SECONDS_MAX);
                Err(Fault::field("store", &what))
            }
        }
    }

    /// What reports are told of the request, where anyone is to be told.
    fn report(&self) -> Result<Option<Payload>, Fault> {
        let emits = switch(self.fields.emits, "emitPubSubEvent")?;
        Ok((emits && self.shared.reports).then(|| {
            let origin = self.origin;
            let mut out = b"{\"requestId\":".to_vec();
            json::write_str(&mut out, &origin.request_id);
            let more = [
                ("trigger", Some(origin.trigger)),
                ("sourceIp", origin.source_ip.as_deref()),
                ("userAgent", origin.user_agent.as_deref()),
            ];
            for (name, value) in more {
                let Some(value) = value else { continue };
                out.push(b',');
                json::write_str(&mut out, name);
                out.push(b':');
                json::write_str(&mut out, value);
            }
            out.push(b'}');
            Payload(Bytes::from(out))
        }))
    }

    fn idempotency_key(&self) -> Result<Option<Arc<IdempotencyKey>>, Fault> {
        let Some(id) = self.fields.deduplication_id else { return Ok(None) };
        let id = id.as_str().filter(|it| {
            (1..=DEDUPLICATION_CHARS_MAX)
                .contains(&it.chars().take(DEDUPLICATION_CHARS_MAX + 1).count())
        });
        let what = "a string of 1 to 128 characters";
        let id = id.ok_or_else(|| Fault::field("deduplicationId", what))?;
        // One fingerprint for all: what comes again is dropped whatever it says, never a conflict.
        let (fingerprint, span) = ([0; 16], Some(DEDUPLICATION));
        Ok(Some(Arc::new(IdempotencyKey { name: Name::from(&*id), fingerprint, span })))
    }

    /// The name of a `deduplicationId` among those that are good for one use.
    fn once(&self, key: &IdempotencyKey) -> Name {
        Name::from(&*format!("deduplicationId\n{}\n{}", self.channel, &*key.name))
    }

    fn schedule(&self) -> Result<Option<UnixMillis>, Fault> {
        let Some(expression) = self.fields.schedule else { return Ok(None) };
        let expression = text(Some(expression), "scheduleExpression")?;
        let zone = self.fields.zone;
        let zone = zone.map(|it| text(Some(it), "scheduleExpressionTimezone")).transpose()?;
        at::parse(&expression, zone.as_deref(), self.now.wall)
            .map(Some)
            .map_err(|error| Fault::new(Code::InvalidScheduleExpression, error.to_string()))
    }
}
