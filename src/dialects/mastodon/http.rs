//! What back ends publish over HTTP: signed requests to `/apps/<id>/mastodon/events`.
//!
//! A publish is an event for some of Mastodon's own channels, as Mastodon would publish it, or for bridged channels of
//! the app. Where Mastodon's servers are followed, it goes the way of what comes from there.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;

use super::accounts::is_account;
use super::envelope::{self, Envelope};
use super::names::{self, Kind as Stream};
use super::rules::Rules;
use super::status::Status;
use super::tags;
use crate::auth::{App, Apps, Inquiry, Source, What};
use crate::base::ids::Ticket;
use crate::base::name::{Channel, Name};
use crate::base::time::{Millis, Now};
use crate::broker::{self, Command, Meta, Payload, Publish};
use crate::dialects::api::{self, Door, ReadBody, Refusal, Submission};
use crate::dialects::{Facts, Opening, Output, Request};
use crate::wire::http::query::{self, Plus};
use crate::wire::json::{self, Kind, Raw};

/// What Mastodon's own channels start with.
const OWN: &str = "timeline:";
/// What ends connections, on an account's system channel.
const KILL: &str = "kill";
/// What tells of other keyword filters, there and to who wants to know.
const FILTERS_CHANGED: &str = "filters_changed";

/// The number of every status: whoever listens hears all of what is judged by the settings.
const NUMBER: u64 = 1;

/// The route, and what it needs.
pub(super) struct Publishing {
    pub app: Arc<App>,
    pub apps: Arc<Apps>,
    pub signature_window: Millis,
    pub body_bytes_max: usize,
    /// Channels that every protocol hears.
    pub bridge: Vec<Name>,
    /// Whose the inquiries are.
    pub source: Arc<Source>,
    /// By what statuses are judged, without anyone to ask.
    pub rules: Arc<Rules>,
    pub sends_filters_changed: bool,
}

/// Where an event goes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum To {
    /// Onto one of Mastodon's channels, which is named here as there.
    Stream(Name),
    /// Onto an account's system channel.
    System(Name),
    /// Onto a channel of the app that every protocol hears.
    Bridged(Name),
}

/// The channels of an app that every protocol hears.
pub(super) fn bridge(app: &App) -> Vec<Name> {
    let bridge = app.settings.bridge.iter().filter(|it| !it.starts_with(names::OWN));
    bridge.map(|it| Name::from(&**it)).collect()
}

impl Publishing {
    /// Looks at a request; another app's paths and other routes are not ours.
    pub fn open(self: &Arc<Self>, request: &Request<'_>, facts: &Facts) -> Option<Opening> {
        let path = request.path.strip_suffix('/').unwrap_or(request.path);
        let id = path.strip_prefix("/apps/")?.strip_suffix("/mastodon/events")?;
        let app_id = &self.app.settings.id;
        if query::decode_lossy(id, Plus::Literal) != **app_id {
            return None;
        }
        let route = self.clone();
        let read: ReadBody = Box::new(move |app, body, now, out| route.read(app, body, now, out));
        let door = || Ok(Door::signed(&self.apps, self.signature_window, app_id, request));
        Some(Submission::open(request, facts, self.body_bytes_max, door, read))
    }

    fn read(
        &self,
        app: &Arc<App>,
        body: &[u8],
        now: Now,
        out: &mut Vec<Output>,
    ) -> Result<(), Refusal> {
        // All of a batch is good before any of it is published.
        let events = api::read_events(body, app.settings.event_batch_max, |item| {
            Submitted::read(item, self)
        })?;
        for event in events {
            event.publish(self, now, out);
        }
        Ok(())
    }

    /// Where a publisher's word for a channel leads.
    fn to(&self, channel: &str) -> Result<To, Refusal> {
        if let Some(name) = self.bridge.iter().find(|it| ***it == *channel) {
            return Ok(To::Bridged(name.clone()));
        }
        let shown: String = channel.chars().take(64).collect();
        let Some(rest) = channel.strip_prefix(OWN) else {
            let text = format!(
                "{shown} is no channel of Mastodon's (timeline:...) and not in the app's `bridge`"
            );
            return Err(Refusal::invalid(text));
        };
        let bytes_max = self.app.settings.channel_name_bytes_max;
        if channel.len() > bytes_max {
            return Err(Refusal::limit(format_args!(
                "a channel is too long. Max length is {bytes_max}"
            )));
        }
        if let Some(account) = rest.strip_prefix("system:").filter(|it| is_account(it)) {
            return Ok(To::System(Name::from(account)));
        }
        if rest.starts_with("access_token:") && !self.source.has_upstream {
            let text = "tokens have no channels of their own here: publish kill on timeline:system:ACCOUNT, with the \
                        token's id (jti) as payload for that token alone";
            return Err(Refusal::invalid(text));
        }
        let none = || Refusal::invalid(format!("no stream is made of {shown}"));
        if let Some(tag) = rest.strip_prefix("hashtag:") {
            let (tag, end) = match tag.strip_suffix(":local") {
                Some(tag) => (tag, ":local"),
                None => (tag, ""),
            };
            // Who subscribes one is given the same spelling.
            let tag = Some(tags::normalize(tag)).filter(|it| !it.is_empty()).ok_or_else(none)?;
            return Ok(To::Stream(Name::from(&*format!("timeline:hashtag:{tag}{end}"))));
        }
        let is_known = rest.starts_with("access_token:") || is_stream(rest);
        if is_known { Ok(To::Stream(Name::from(channel))) } else { Err(none()) }
    }
}

/// Whether a stream is made of the channel that this is the rest of; tags apart. Source: our reference, section 3.
fn is_stream(rest: &str) -> bool {
    match rest.split_once(':') {
        Some(("list" | "direct", id)) => is_account(id),
        Some((account, "notifications")) => is_account(account),
        _ => is_account(rest) || rest.starts_with("public") && Stream::of(rest).is_some(),
    }
}

/// One publish, checked.
struct Submitted {
    event: Name,
    /// A JSON value, none for what goes without.
    payload: Option<Bytes>,
    to: Vec<To>,
}

impl Submitted {
    fn read(item: Raw<'_>, route: &Publishing) -> Result<Self, Refusal> {
        let settings = &route.app.settings;
        if item.kind() != Kind::Object {
            return Err(Refusal::shape("the event is not an object"));
        }
        let event = item.member("event").and_then(Raw::as_str);
        let event = event.ok_or(Refusal::shape("event is missing or not a string"))?;
        let bytes_max = settings.event_name_bytes_max;
        if event.len() > bytes_max {
            let text = format_args!("event too long. Max length is {bytes_max}");
            return Err(Refusal::limit(text));
        }
        // A line of an event stream is made of it.
        if event.is_empty() || event.contains(char::is_control) {
            return Err(Refusal::invalid("event is empty or has control characters"));
        }
        let payload = item.member("payload").filter(|it| !it.is_null());
        let (bytes, bytes_max) =
            (payload.map_or(0, |it| it.text().len()), settings.event_payload_bytes_max);
        if bytes > bytes_max {
            let text = format!("payload ({bytes} bytes) exceeds limit ({bytes_max} bytes)");
            return Err(Refusal::new(413, "payload_too_large", text));
        }
        let channels = item.member("channels").filter(|it| it.kind() == Kind::Array);
        let channels = channels.ok_or(Refusal::shape("channels is missing or not a list"))?;
        let (count, count_max) = (channels.items().count(), settings.event_channels_max);
        if count == 0 {
            return Err(Refusal::invalid("channels is empty"));
        }
        if count > count_max {
            return Err(Refusal::limit(format_args!(
                "channels are too many. Max size is {count_max}"
            )));
        }
        let mut to = Vec::with_capacity(count);
        for channel in channels.items() {
            let name = channel.as_str().ok_or(Refusal::shape("a channel is not a string"))?;
            let next = route.to(&name)?;
            if !to.contains(&next) {
                to.push(next);
            }
        }
        Self::fits(&event, payload, &to)?;
        let payload = payload.map(|it| Bytes::from(compact(it.text()).into_owned().into_bytes()));
        Ok(Self { event: Name::from(&*event), payload, to })
    }

    /// Whether channels take such an event: Mastodon's server would pass over it, and nobody would learn of it.
    fn fits(event: &str, payload: Option<Raw<'_>>, to: &[To]) -> Result<(), Refusal> {
        for to in to {
            match to {
                To::System(_) if !matches!(event, KILL | FILTERS_CHANGED) => {
                    let text = format!("system channels take {KILL} and {FILTERS_CHANGED} alone");
                    return Err(Refusal::invalid(text));
                }
                To::System(_) if payload.is_some_and(|it| it.kind() != Kind::String) => {
                    return Err(Refusal::shape("payload is not a string: the id of a token"));
                }
                To::Stream(name) if event == FILTERS_CHANGED && !names::is_judged(name) => {}
                To::Stream(name) if name.starts_with("timeline:access_token:") => {}
                To::Stream(name) if names::is_judged(name) && is_status(event) => {
                    if payload.and_then(Status::read).is_none() {
                        let text = format!("payload is no status: {name} wants a whole one");
                        return Err(Refusal::shape(text));
                    }
                }
                To::Stream(_) if !payload.is_some_and(envelope::is_truthy) => {
                    return Err(Refusal::shape("payload is missing or empty"));
                }
                To::System(_) | To::Stream(_) | To::Bridged(_) => {}
            }
        }
        Ok(())
    }

    fn publish(&self, route: &Publishing, now: Now, out: &mut Vec<Output>) {
        let mut upstream = Vec::new();
        let brief = self.judge(route, now);
        for to in &self.to {
            let name = match to {
                To::Bridged(name) => name.clone(),
                To::Stream(name) if route.source.has_upstream => {
                    upstream.push(name.clone());
                    continue;
                }
                To::System(account) if route.source.has_upstream => {
                    upstream.push(Name::from(&*names::system(account)));
                    continue;
                }
                // As Mastodon's own server: it has no payload, and who does not ask for it is not told.
                To::Stream(_) if self.payload.is_none() && !route.sends_filters_changed => continue,
                To::Stream(name) => names::own(name),
                To::System(account) => names::own(&names::system(account)),
            };
            let channel = Channel { app: route.app.index, name };
            let data = self.payload.clone().unwrap_or_else(|| Bytes::from_static(b"null"));
            let mut publish = Publish::new(channel, self.event.clone(), Payload(data), now.steady);
            publish.ephemeral = !matches!(to, To::Bridged(_));
            if matches!(to, To::Stream(name) if names::is_judged(name)) {
                publish.meta = brief.clone();
            }
            out.push(Output::Ask(Ticket(0), Command::Publish(Box::new(publish))));
        }
        if !upstream.is_empty() {
            let what = What::Submit { channels: upstream, envelope: self.envelope() };
            out.push(Output::Inquire(Ticket(0), Inquiry { source: route.source.clone(), what }));
        }
    }

    /// What becomes of a status for each account, where that matters and nobody else judges it.
    fn judge(&self, route: &Publishing, now: Now) -> Option<Arc<Meta>> {
        let is_judged = |to: &To| matches!(to, To::Stream(name) if names::is_judged(name));
        if route.source.has_upstream || !is_status(&self.event) || !self.to.iter().any(is_judged) {
            return None;
        }
        let payload = json::parse(self.payload.as_deref()?).ok()?;
        let brief = route.rules.judge(&Status::read(payload)?, NUMBER, now.wall);
        Some(Arc::new(Meta { brief: broker::Brief::new(Arc::new(brief)), ..Meta::default() }))
    }

    /// As Mastodon would publish it.
    fn envelope(&self) -> Bytes {
        let payload = self.payload.as_deref().unwrap_or_default();
        let mut out = Vec::with_capacity(self.event.len() + payload.len() + 32);
        out.extend_from_slice(b"{\"event\":");
        json::write_str(&mut out, &self.event);
        if !payload.is_empty() {
            out.extend_from_slice(b",\"payload\":");
            out.extend_from_slice(payload);
        }
        out.push(b'}');
        Bytes::from(out)
    }
}

fn is_status(event: &str) -> bool {
    Envelope { event: Name::from(event), payload: None }.is_status()
}

/// The same JSON without a line end, which would end a line of an event stream.
fn compact(text: &str) -> Cow<'_, str> {
    if !text.contains(['\n', '\r']) {
        return Cow::Borrowed(text);
    }
    // Within a string line ends are escaped.
    Cow::Owned(text.replace(['\n', '\r'], " "))
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
