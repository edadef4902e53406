//! What clients do beside subscribing: publish, store, schedule, react. The same for messages over WebSocket and for
//! the client HTTP API, which asks on a connection's behalf.
//!
//! Source: our reference, sections 4.1, 4.4, 6.6, 6.7 and 8.

use std::sync::Arc;

use super::doing::{Doing, Origin, What};
use super::envelope::{At, Envelope};
use super::faults::{Code, Fault};
use super::reports::{About, Trigger};
use super::session::HotsockSession;
use super::subscriptions::not_subscribed;
use super::user::User;
use super::{at, frames, names, reports};
use crate::base::event_id::EventId;
use crate::base::name::{Channel, Name};
use crate::base::time::{Now, UnixMillis};
use crate::broker::state::{Deferred, React, Retained, Schedule, SetValue};
use crate::broker::{Command, Payload, Publish, Reply, Sender};
use crate::dialects::Output;
use crate::observe::Counter;
use crate::wire::json::{self, Kind, Raw};

/// What the client HTTP API does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Reads messages.
    ListMessages,
    /// Reads the reactions to a message.
    ListReactions,
    /// Publishes.
    PublishMessage,
    /// Reads a value.
    StorageGet,
    /// Sets a value.
    StorageSet,
    /// Reads values.
    StorageList,
    /// Describes a channel.
    ChannelInfo,
    /// Changes user metadata.
    UmdUpdate,
}

impl Op {
    /// Every one, by its place in mail between sessions, and what paths call it.
    pub const ALL: [(Self, &'static str); 8] = [
        (Self::ListMessages, "listMessages"),
        (Self::ListReactions, "listReactions"),
        (Self::PublishMessage, "publishMessage"),
        (Self::StorageGet, "channelStorageGet"),
        (Self::StorageSet, "channelStorageSet"),
        (Self::StorageList, "channelStorageList"),
        (Self::ChannelInfo, "getChannelInfo"),
        (Self::UmdUpdate, "umdUpdate"),
    ];
}

/// A request's body: an object, and nothing is an empty one.
pub fn body(bytes: &[u8]) -> Result<Raw<'_>, Fault> {
    let bytes = if bytes.is_empty() { b"{}" } else { bytes };
    let wrong = |text: String| Fault::new(Code::InvalidMessage, text);
    let body = json::parse(bytes).map_err(|error| wrong(format!("the body is {error}")))?;
    if body.kind() == Kind::Object {
        Ok(body)
    } else {
        Err(wrong("the body is not a JSON object".into()))
    }
}

/// A reaction whose target is being read.
pub struct Reacting {
    /// By the name that peers see.
    pub channel: Name,
    message: EventId,
    reaction: Name,
    is_added: bool,
    user: Arc<User>,
    /// As told to subscribers.
    data: Payload,
    /// The oldest message that may be reacted to.
    from: UnixMillis,
    about: Option<Box<About>>,
}

impl HotsockSession {
    /// What a report of something is told with, if it is to be told.
    fn about(
        &mut self,
        origin: Origin,
        call: Option<&About>,
        with_request: bool,
    ) -> Option<Payload> {
        self.about.as_ref()?;
        let trigger = match origin {
            Origin::Socket => Trigger::WebSocket,
            Origin::Call(_) => Trigger::ClientHttp,
        };
        let request = with_request.then(|| self.request_id());
        let id = self.id();
        let from = call.or(self.about.as_deref());
        Some(reports::about(trigger, request.as_deref(), Some(&id), from))
    }

    /// A message for a channel.
    pub(super) fn publish(
        &mut self,
        origin: Origin,
        call: Option<&About>,
        event: &str,
        message: &Envelope<'_>,
        now: Now,
        out: &mut Vec<Output>,
    ) -> Result<(), Fault> {
        let sent = message.channel()?;
        let real = match self.standing(&sent) {
            Some(_) => sent.clone(),
            None => self.resolve_valid(&sent)?,
        };
        let (event, rights) = self.message_rights(&real, event)?;
        let subscription = self.standing(&real);
        if !rights.may_publish(subscription.is_some()) {
            if rights.may_publish(true) {
                return Err(not_subscribed());
            }
            let text = "the tokens give no right to publish this event in this channel";
            return Err(Fault::new(Code::PublishPermissionDenied, text));
        }
        let schedule = self.schedule(message, rights.schedule_before, now)?;
        let eager = message.eager()?;
        let data = message.payload()?;
        let user = subscription.map_or(&self.user, |it| &it.user);
        let is_member = subscription.is_some() && names::is_presence(&real);
        let channel = match subscription {
            Some(it) => Channel { app: self.shared.app.index, name: it.home().clone() },
            None => self.channel(&real),
        };
        let mut publish = Publish {
            sender: Some(Sender {
                connection: self.connection,
                user_id: user.some_uid().filter(|_| is_member).cloned(),
            }),
            exclude: Some(self.connection).filter(|_| !rights.echo),
            meta: Some(user.meta.clone()),
            retain: rights.store,
            ..Publish::new(channel, event.clone(), data, now.steady)
        };
        if rights.emits {
            publish.report = self.about(origin, call, true);
        }
        out.push(Output::Count(Counter::ClientEvents));
        if let Some(at) = schedule {
            let what = What::Schedule { channel: Name::from(&*real), event };
            let later = Deferred::Publish(Box::new(publish));
            return self.ask_schedule(origin, &sent, what, later, at, out);
        }
        if origin == Origin::Socket && publish.retain.is_none() && publish.report.is_none() {
            // Nothing that can fail, and nobody who wants to know.
            publish.quiet = true;
            let ticket = self.ticket();
            out.push(Output::Ask(ticket, Command::Publish(Box::new(publish))));
            return Ok(());
        }
        let what = What::Publish { channel: Name::from(&*real), event, eager };
        self.ask(origin, &sent, what, Command::Publish(Box::new(publish)), out)
    }

    /// When something is to be done, if not at once and if it may be then.
    fn schedule(
        &self,
        message: &Envelope<'_>,
        before: Option<UnixMillis>,
        now: Now,
    ) -> Result<Option<UnixMillis>, Fault> {
        let Some(expression) = message.schedule()? else { return Ok(None) };
        let at = parse_at(&expression, now)?;
        match before {
            Some(before) if at <= before => Ok(Some(at)),
            _ => Err(Fault::new(
                Code::SchedulePermissionDenied,
                "the tokens give no right to schedule for so late",
            )),
        }
    }

    fn ask_schedule(
        &mut self,
        origin: Origin,
        sent: &str,
        what: What,
        later: Deferred,
        at: UnixMillis,
        out: &mut Vec<Output>,
    ) -> Result<(), Fault> {
        let schedule = Schedule { what: later, at, key: None };
        self.ask(origin, sent, what, Command::Schedule(Box::new(schedule)), out)
    }

    /// A value for a key.
    pub(super) fn set_value(
        &mut self,
        origin: Origin,
        call: Option<&About>,
        message: &Envelope<'_>,
        now: Now,
        out: &mut Vec<Output>,
    ) -> Result<(), Fault> {
        let sent = message.channel()?;
        let real = self.resolve_valid(&sent)?;
        let key = message.key()?;
        let on = |fault: Fault| fault.with_key(&key);
        names::key_fault(&key).map_err(|text| on(Fault::new(Code::InvalidKey, text)))?;
        let rights = self.rights(&real).storage(&real, &key);
        if !rights.set {
            let text = "the tokens give no right to set this key";
            return Err(on(Fault::new(Code::StoragePermissionDenied, text)));
        }
        let schedule = self.schedule(message, rights.schedule_before, now).map_err(on)?;
        let data = message.value().map_err(on)?;
        let user = self.standing(&real).map_or(&self.user, |it| &it.user);
        let meta = user.pair().clone();
        let set = SetValue {
            channel: self.channel(&real),
            key: Name::from(&*key),
            data,
            meta,
            keep: rights.store,
            report: if rights.emits { self.about(origin, call, false) } else { None },
            quiet: false,
        };
        let channel = Name::from(&*real);
        if let Some(at) = schedule {
            let what = What::Schedule { channel, event: Name::from(names::STORAGE_SET) };
            let later = Deferred::SetValue(Box::new(set));
            return self.ask_schedule(origin, &sent, what, later, at, out).map_err(on);
        }
        let what = What::SetValue { channel, key: set.key.clone() };
        self.ask(origin, &sent, what, Command::SetValue(Box::new(set)), out).map_err(on)
    }

    /// A reaction, or its end.
    pub(super) fn react(
        &mut self,
        origin: Origin,
        call: Option<&About>,
        message: &Envelope<'_>,
        out: &mut Vec<Output>,
    ) -> Result<(), Fault> {
        let sent = message.channel()?;
        let real = self.resolve_valid(&sent)?;
        let field = |name: &str| {
            let value = message.data_string(name)?;
            value.ok_or_else(|| Fault::field(&format!("data.{name}"), "a string and is missing"))
        };
        let (id, reaction, action) = (field("messageId")?, field("reaction")?, field("action")?);
        let is_added = match &*action {
            "add" => true,
            "remove" => false,
            _ => return Err(Fault::field("data.action", "\"add\" or \"remove\"")),
        };
        names::reaction_fault(&reaction).map_err(|text| Fault::new(Code::InvalidReaction, text))?;
        let Some(subscription) = self.standing(&real) else { return Err(not_subscribed()) };
        let user = subscription.user.clone();
        if user.some_uid().is_none() {
            let text = "only a connection with a uid can react";
            return Err(Fault::new(Code::UserIdRequired, text));
        }
        let message: EventId = id.parse().map_err(|_| no_message())?;
        let reacting = Reacting {
            from: self.visible_from(&real),
            channel: Name::from(&*real),
            message,
            data: frames::reaction(&message.to_string(), &reaction, is_added),
            reaction: Name::from(&*reaction),
            is_added,
            user,
            about: call.map(|it| Box::new(it.clone())),
        };
        let command = Command::FindRetained(self.channel(&real), message);
        self.ask(origin, &sent, What::FindTarget(Box::new(reacting)), command, out)
    }

    /// What is reacted to is known: whether that may be depends on it.
    fn react_to(
        &mut self,
        doing: &Doing,
        reacting: Reacting,
        found: &[Retained],
        out: &mut Vec<Output>,
    ) -> Result<(), Fault> {
        let target = found.first().filter(|it| it.event.id.at() >= reacting.from);
        let target = target.ok_or_else(no_message)?;
        if self.standing(&reacting.channel).is_none() {
            return Err(not_subscribed());
        }
        let Some(event) = reports::message_name(&target.event) else { return Err(no_message()) };
        let rights = self.rights(&reacting.channel).message(&reacting.channel, event);
        if !rights.react.allow(&reacting.reaction) {
            let text = "the tokens give no right to this reaction to this event";
            return Err(Fault::new(Code::ReactionPermissionDenied, text));
        }
        let by = reacting.user.member().ok_or_else(not_subscribed)?;
        let echo = self.rights(&reacting.channel).message(&reacting.channel, names::REACTION).echo;
        let name = match reacting.is_added {
            true => frames::REACTION_ADDED,
            false => frames::REACTION_REMOVED,
        };
        let report = match rights.emits {
            true => self.about(doing.origin, reacting.about.as_deref(), true),
            false => None,
        };
        let react = React {
            channel: self.channel(&reacting.channel),
            message: reacting.message,
            reaction: reacting.reaction,
            by,
            is_added: reacting.is_added,
            event: (Name::from(name), reacting.data),
            publisher: Some(reacting.user.pair().clone()),
            exclude: Some(self.connection).filter(|_| !echo),
            report,
        };
        let what = What::React { channel: reacting.channel };
        self.ask(doing.origin, &doing.sent, what, Command::React(Box::new(react)), out)
    }

    /// The answer to something that was under way.
    pub(super) fn done(&mut self, mut doing: Doing, reply: Reply, out: &mut Vec<Output>) {
        let what = std::mem::replace(&mut doing.what, What::Enter);
        let refusal = match &reply {
            Reply::Refused(refusal) => Some(*refusal),
            _ => None,
        };
        match (what, reply) {
            (What::Enter, reply) => self.entered(reply, out),
            (What::Renew { channel, before }, _) => {
                self.renewed(&doing, &channel, before, refusal, out);
            }
            (What::SetValue { key, .. }, Reply::Refused(refusal)) => {
                let fault = Fault::from(refusal).on(&doing.sent).with_key(&key);
                self.fail(doing.origin, &fault, out);
            }
            (_, Reply::Refused(refusal)) => {
                self.fail(doing.origin, &Fault::from(refusal).on(&doing.sent), out);
            }
            (What::Publish { channel, event, eager }, Reply::Published(published)) => {
                let id = eager.then_some(published.id);
                self.succeed(doing.origin, 202, || accepted(&channel, &event, id, None), out);
            }
            (What::Schedule { channel, event }, Reply::Scheduled(id)) => {
                self.succeed(doing.origin, 202, || accepted(&channel, &event, None, Some(id)), out);
            }
            (What::SetValue { channel, .. }, Reply::Done) => {
                let body = accepted(&channel, names::STORAGE_SET, None, None);
                self.succeed(doing.origin, 202, || body, out);
            }
            (What::React { channel }, Reply::Done) => {
                let body = accepted(&channel, names::REACTION, None, None);
                self.succeed(doing.origin, 202, || body, out);
            }
            (What::FindTarget(reacting), Reply::Retained(found)) => {
                if let Err(fault) = self.react_to(&doing, *reacting, &found, out) {
                    self.fail(doing.origin, &fault.on(&doing.sent), out);
                }
            }
            (What::MoreValues { channel }, Reply::Values(values)) => {
                self.more_values(channel, &values, out);
            }
            (what, reply) => self.read(&doing, what, reply, out),
        }
    }
}

/// When an expression means, if that is to come.
pub fn parse_at(expression: &At<'_>, now: Now) -> Result<UnixMillis, Fault> {
    let (text, zone) = expression;
    let at = at::parse(text, zone.as_deref(), now.wall);
    at.map_err(|error| Fault::new(Code::InvalidScheduleExpression, error.to_string()))
}

/// What a publisher hears.
pub fn accepted(
    channel: &str,
    event: &str,
    id: Option<EventId>,
    schedule: Option<EventId>,
) -> Vec<u8> {
    let mut out = b"{\"channel\":".to_vec();
    json::write_str(&mut out, channel);
    out.extend_from_slice(b",\"event\":");
    json::write_str(&mut out, event);
    if let Some(id) = id {
        out.extend_from_slice(format!(",\"id\":\"{id}\"").as_bytes());
    }
    if let Some(id) = schedule {
        out.extend_from_slice(format!(",\"scheduleArn\":\"{SCHEDULE_ARN}{id}\"").as_bytes());
    }
    out.push(b'}');
    out
}

/// What a schedule's name starts with, in the form that upstream's platform gives one.
pub const SCHEDULE_ARN: &str = "arn:aws:scheduler:local:000000000000:schedule/default/";

fn no_message() -> Fault {
    Fault::new(Code::MessageNotFound, "there is no such message, or not any more")
}
