//! Rules by which a push notification goes with an event although its publisher does not say so.
//!
//! What a notification takes from an event is cut rather than refused: the event is published in any case. Source of the
//! mapping: Sockudo's push rules.

use std::sync::atomic::{AtomicU64, Ordering};

use super::push::key_of_event;
use crate::auth::App;
use crate::auth::sign::fingerprint;
use crate::base::name::Name;
use crate::base::pattern::Pattern;
use crate::base::time::{Millis, Now};
use crate::broker::{Payload, Publish};
use crate::config::push::PushSettings;
use crate::config::push_rules::PushRule;
use crate::push::publish::{Content, Intent, Target};
use crate::push::stored::{self, Queued};
use crate::push::template::Text;
use crate::wire::json::{self, Kind, Raw, write_str};

/// Bytes of a title, of a body and of what else is sent: together less than any provider's bound.
const TITLE_BYTES_MAX: usize = 256;
const BODY_BYTES_MAX: usize = 1_024;
const DATA_BYTES_MAX: usize = 2_048;

const SECOND_NANOS: u64 = 1_000_000_000;

/// The rules.
#[derive(Debug, Default)]
pub(crate) struct PushRules {
    rules: Vec<Rule>,
    key_window: Millis,
}

#[derive(Debug)]
struct Rule {
    app: Option<String>,
    channels: Pattern,
    events: Vec<Pattern>,
    title: String,
    body: String,
    data: String,
    includes_rest: bool,
    template: Option<String>,
    skip_connected: bool,
    pace: Pace,
}

/// How often something may happen, over all shards: a second's worth at once, then as often as it is over.
#[derive(Debug)]
struct Pace {
    /// Nanoseconds between two of them.
    gap: u64,
    /// When the next one would be in time if none came early.
    next: AtomicU64,
}

impl Pace {
    fn new(per_second: u32) -> Self {
        Self { gap: SECOND_NANOS / u64::from(per_second.max(1)), next: AtomicU64::new(0) }
    }

    /// Whether one more may happen now; if so, it has.
    fn admit(&self, now: Now) -> bool {
        let now = now.steady.0;
        let taken = |next: u64| {
            let next = next.max(now);
            (next - now <= SECOND_NANOS - self.gap).then_some(next + self.gap)
        };
        self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).is_ok()
    }
}

impl PushRules {
    /// As configured; keys of events are remembered for `key_window`.
    pub fn new(settings: &PushSettings, key_window: Millis) -> Self {
        let pattern = |text: &String| Pattern(Name::from(text.as_str()));
        let or = |text: &str, default: &str| {
            if text.is_empty() { default.to_owned() } else { text.to_owned() }
        };
        let rule = |row: &PushRule| Rule {
            app: Some(row.app.clone()).filter(|it| !it.is_empty()),
            channels: pattern(&row.pattern),
            events: row.events.iter().map(pattern).collect(),
            title: or(&row.title_field, "title"),
            body: or(&row.body_field, "body"),
            data: or(&row.data_field, "data"),
            includes_rest: row.includes_rest,
            template: Some(row.template.clone()).filter(|it| !it.is_empty()),
            skip_connected: row.skip_connected,
            pace: Pace::new(row.per_second_max),
        };
        Self { rules: settings.rules.iter().map(rule).collect(), key_window }
    }

    /// A publish with the notification that goes with it, if it brings none of its own.
    pub fn bring_push(&self, app: &App, publish: Publish, now: Now) -> Publish {
        if publish.push.is_some() || self.rules.is_empty() {
            return publish;
        }
        let (channel, event) = (&publish.channel.name, &publish.name);
        let intent = self.notification(&app.settings.id, channel, event, &publish.data.0, now);
        let queued = |mut intent: Intent| {
            if let Some(key) = &publish.key {
                let channels = std::slice::from_ref(channel);
                (intent.key, intent.key_span) = key_of_event(key, channels, self.key_window);
            }
            let queued =
                Queued::Publish { app: app.settings.id.to_string(), intent: Box::new(intent) };
            Payload(stored::encode(&queued))
        };
        let push = intent.map(queued);
        Publish { push, ..publish }
    }

    /// The notification that goes with an event, if a rule says so, its data says something, and there were not too many
    /// of late. `data` is one JSON value: an object, or a text that is one.
    fn notification(
        &self,
        app: &str,
        channel: &str,
        event: &str,
        data: &[u8],
        now: Now,
    ) -> Option<Intent> {
        let matches = |it: &&Rule| {
            it.app.as_deref().is_none_or(|id| id == app)
                && it.channels.matches(channel)
                && it.events.iter().any(|pattern| pattern.matches(event))
        };
        let rule = self.rules.iter().find(matches)?;
        let data = json::parse(data).ok()?;
        let content = match data.as_str() {
            Some(text) => rule.content(json::parse_str(&text).ok()?),
            None => rule.content(data),
        };
        let mut intent = Intent {
            id: None,
            key: None,
            key_span: None,
            fingerprint: [0; 16],
            targets: vec![Target::Channel(channel.to_owned())],
            content: content?,
            credential_id: None,
            not_before: None,
            expires_at: None,
            skip_connected: rule.skip_connected,
            passes_quota: false,
            is_sync: false,
        };
        intent.fingerprint = fingerprint(&[&stored::encode(&intent)]);
        rule.pace.admit(now).then_some(intent)
    }
}

impl Rule {
    fn content(&self, event: Raw<'_>) -> Option<Content> {
        if event.kind() != Kind::Object {
            return None;
        }
        let text = |name: &str, bytes_max| {
            let found = event.member(name).and_then(Raw::as_str).filter(|it| !it.is_empty());
            found.map(|it| cut(&it, bytes_max))
        };
        let data = self.data(event);
        if let Some(template) = &self.template {
            let template_id = Some(template.clone());
            return Some(Content { template_id, template_data: data, ..Content::default() });
        }
        let (title, body) = (text(&self.title, TITLE_BYTES_MAX), text(&self.body, BODY_BYTES_MAX));
        if title.is_none() && body.is_none() {
            return None;
        }
        Some(Content { text: Text { title, body, ..Text::default() }, data, ..Content::default() })
    }

    /// What the application on the device gets: a JSON object, or nothing. What is too large is left out, the rest first.
    fn data(&self, event: Raw<'_>) -> String {
        let own = event.member(&self.data).filter(|it| it.kind() == Kind::Object);
        let own: Vec<_> = own.into_iter().flat_map(Raw::members).collect();
        let is_rest = |name: &str| {
            ![&self.title, &self.body, &self.data].iter().any(|it| *it == name)
                && !own.iter().any(|(it, _)| it == name)
        };
        let rest = event.members().filter(|(name, _)| self.includes_rest && is_rest(name));
        let mut out = b"{".to_vec();
        for (name, value) in own.iter().cloned().chain(rest) {
            let before = out.len();
            if before > 1 {
                out.push(b',');
            }
            write_str(&mut out, &name);
            out.push(b':');
            out.extend_from_slice(value.text().as_bytes());
            if out.len() >= DATA_BYTES_MAX {
                out.truncate(before);
            }
        }
        out.push(b'}');
        if out.len() > 2 { String::from_utf8(out).unwrap_or_default() } else { String::new() }
    }
}

/// The beginning of a text that is too long, with a mark that says so.
fn cut(text: &str, bytes_max: usize) -> String {
    const MARK: &str = "…";
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(bytes_max - MARK.len());
    format!("{}{MARK}", &text[..end])
}

#[cfg(test)]
#[path = "push_rules_tests.rs"]
mod tests;
