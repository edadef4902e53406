//! One message of a back end: its fields checked, and what is to be done for it.
//!
//! The same JSON comes by `/publish`, in a batch and as the payload of an invocation. Source: our reference,
//! sections 7.1, 8 and 9.2.

use std::sync::Arc;

use bytes::Bytes;

use super::Origin;
use crate::base::name::{Channel, Name};
use crate::base::time::{Millis, Now, UnixMillis};
use crate::broker::state::{Deferred, Keep, React, Schedule, SetValue};
use crate::broker::{Command, IdempotencyKey, Member, Payload, Publish};
use crate::dialects::hotsock::calls::parse_at;
use crate::dialects::hotsock::envelope::{self, Envelope};
use crate::dialects::hotsock::faults::{Code, Fault};
use crate::dialects::hotsock::{Shared, frames, names, reports, user};
use crate::wire::json::Raw;

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

/// Reads a message; nothing is asked of anyone yet.
pub(in super::super) fn read(
    shared: &Shared,
    message: Raw<'_>,
    origin: &Origin,
    now: Now,
) -> Result<Message, Fault> {
    let fields = Envelope::read(message.text())?;
    let channel = fields.channel()?;
    names::channel_fault(&channel).map_err(|why| Fault::new(Code::InvalidChannel, why))?;
    let event = fields.event()?;
    let reader = Reader { shared, message, fields: &fields, channel: &channel, origin, now };
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
            let is_eager = fields.eager()?;
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
        // Nothing that is read here becomes one.
        (Deferred::Push(..), None) => {
            return Err(Fault::new(Code::InvalidEvent, "there is no such event"));
        }
    };
    let shows_id = shows_id && schedule.is_none();
    Ok(Message { channel: channel.into(), event: event.into(), shows_id, command, once })
}

struct Reader<'a> {
    shared: &'a Shared,
    message: Raw<'a>,
    fields: &'a Envelope<'a>,
    channel: &'a str,
    origin: &'a Origin,
    now: Now,
}

impl Reader<'_> {
    fn channel(&self) -> Channel {
        self.shared.channel(self.channel)
    }

    /// A field that only back ends send.
    fn extra(&self, name: &str) -> Option<Raw<'_>> {
        self.message.member(name).filter(|it| !it.is_null())
    }

    fn publish(&self, event: &str) -> Result<Publish, Fault> {
        Ok(Publish {
            retain: self.keep(None)?,
            report: self.report()?,
            ..Publish::new(
                self.channel(),
                Name::from(event),
                self.fields.payload()?,
                self.now.steady,
            )
        })
    }

    fn set_value(&self) -> Result<SetValue, Fault> {
        let key = self.fields.key()?;
        names::key_fault(&key).map_err(|why| Fault::new(Code::InvalidKey, why))?;
        let keep = self.keep(Some(Keep::Forever))?;
        Ok(SetValue {
            channel: self.channel(),
            key: Name::from(&*key),
            data: self.fields.value()?,
            meta: user::pair(None, None),
            keep: keep.ok_or_else(|| Fault::field("store", "-1 or more than 0 for a value"))?,
            report: self.report()?,
            quiet: false,
        })
    }

    fn react(&self) -> Result<React, Fault> {
        let member = |name: &str| {
            let missing = || Fault::field(&format!("data.{name}"), "a string and is missing");
            self.fields.data_string(name)?.ok_or_else(missing)
        };
        let id = member("messageId")?;
        let message =
            id.parse().map_err(|_| Fault::field("data.messageId", "the id of a message"))?;
        let reaction = member("reaction")?;
        names::reaction_fault(&reaction).map_err(|why| Fault::new(Code::InvalidReaction, why))?;
        let is_added = match &*member("action")? {
            "add" => true,
            "remove" => false,
            _ => return Err(Fault::field("data.action", "\"add\" or \"remove\"")),
        };
        let by = self.reacting()?;
        let report = self.report()?;
        let event = if is_added { frames::REACTION_ADDED } else { frames::REACTION_REMOVED };
        let told = frames::reaction(&id, &reaction, is_added);
        Ok(React {
            channel: self.channel(),
            message,
            reaction: Name::from(&*reaction),
            publisher: Some(user::pair(Some(&by.user_id), by.info.as_ref())),
            by: Arc::new(by),
            is_added,
            event: (Name::from(event), told),
            exclude: None,
            report,
        })
    }

    /// Who reacts; upstream does not say.
    fn reacting(&self) -> Result<Member, Fault> {
        let meta = self.message.member("meta");
        let uid = envelope::string("meta.uid", meta.and_then(|it| it.member("uid")))?;
        let uid = uid
            .filter(|it| !it.is_empty())
            .ok_or_else(|| Fault::new(Code::UserIdRequired, "\"meta.uid\" must say who reacts"))?;
        names::uid_fault(&uid).map_err(|why| Fault::new(Code::InvalidMessage, why))?;
        let umd = meta.and_then(|it| it.member("umd")).filter(|it| !it.is_null());
        let info = umd.map(|it| Payload(Bytes::from(names::compact(it.text()))));
        if info.as_ref().is_some_and(|it| it.0.len() > names::UMD_BYTES_MAX) {
            let text = format!("meta.umd has more than {} bytes", names::UMD_BYTES_MAX);
            return Err(Fault::new(Code::DataTooLarge, text));
        }
        Ok(Member { user_id: Name::from(&*uid), info })
    }

    /// How long it is kept; none: not at all.
    fn keep(&self, default: Option<Keep>) -> Result<Option<Keep>, Fault> {
        let Some(store) = self.extra("store") else { return Ok(default) };
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
        let emits = envelope::flag("emitPubSubEvent", self.message.member("emitPubSubEvent"))?;
        let Origin { request_id, trigger, about } = self.origin;
        let made = || reports::about(*trigger, Some(request_id), None, about.as_ref());
        Ok((emits && self.shared.reports).then(made))
    }

    fn idempotency_key(&self) -> Result<Option<Arc<IdempotencyKey>>, Fault> {
        let Some(id) = self.extra("deduplicationId") else { return Ok(None) };
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
        self.fields.schedule()?.map(|it| parse_at(&it, self.now)).transpose()
    }
}
