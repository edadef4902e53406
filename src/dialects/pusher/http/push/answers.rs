//! Answers about push notifications. Each member is there as running Sockudo spells it and, where that has capitals, as its
//! documentation does.

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::members::snake;
use crate::push::Provider;
use crate::push::credential::CredentialFacts;
use crate::push::device::{Device, Recipient, Subscription};
use crate::push::order::{Broadcast, Change, Page};
use crate::push::publish::{Counters, DeadLetter, Outcome, Status};
use crate::push::template::{Template, Text};
use crate::wire::base64::{self, Alphabet};
use crate::wire::json;

/// Writes an object.
pub(super) struct Object<'o> {
    out: &'o mut Vec<u8>,
    is_first: bool,
}

/// An object with what `inside` writes.
pub(super) fn object(out: &mut Vec<u8>, inside: impl FnOnce(&mut Object<'_>)) {
    out.push(b'{');
    inside(&mut Object { out, is_first: true });
    out.push(b'}');
}

/// A whole body.
pub(super) fn body(inside: impl FnOnce(&mut Object<'_>)) -> Bytes {
    let mut out = Vec::new();
    object(&mut out, inside);
    out.into()
}

/// A list.
fn list<T>(out: &mut Vec<u8>, items: impl Iterator<Item = T>, write: impl Fn(&mut Vec<u8>, T)) {
    out.push(b'[');
    for (n, item) in items.enumerate() {
        if n > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(b']');
}

impl Object<'_> {
    /// A member whose value `write` appends.
    pub fn member(&mut self, name: &str, write: impl FnOnce(&mut Vec<u8>)) {
        self.name(name);
        let start = self.out.len();
        write(self.out);
        let other = snake(name);
        if *other != *name {
            let end = self.out.len();
            self.name(&other);
            self.out.extend_from_within(start..end);
        }
    }

    fn name(&mut self, name: &str) {
        if !std::mem::take(&mut self.is_first) {
            self.out.push(b',');
        }
        json::write_str(self.out, name);
        self.out.push(b':');
    }

    pub fn text(&mut self, name: &str, text: &str) {
        self.member(name, |out| json::write_str(out, text));
    }

    fn text_or_null(&mut self, name: &str, text: Option<&str>) {
        self.member(name, |out| match text {
            Some(text) => json::write_str(out, text),
            None => out.extend_from_slice(b"null"),
        });
    }

    fn text_if(&mut self, name: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(name, text);
        }
    }

    pub fn number(&mut self, name: &str, number: u64) {
        self.member(name, |out| out.extend_from_slice(number.to_string().as_bytes()));
    }

    fn number_if(&mut self, name: &str, number: Option<u64>) {
        if let Some(number) = number {
            self.number(name, number);
        }
    }

    pub fn switch(&mut self, name: &str, value: bool) {
        self.member(name, |out| out.extend_from_slice(if value { b"true" } else { b"false" }));
    }

    /// Text that is JSON already; left out if it is empty.
    fn json_if(&mut self, name: &str, text: &str) {
        if !text.is_empty() {
            self.member(name, |out| out.extend_from_slice(text.as_bytes()));
        }
    }
}

/// SHA-256 of a recipient's address, in hexadecimal digits.
fn token_hash(recipient: &Recipient) -> String {
    let digest: [u8; 32] = Sha256::digest(recipient.address().as_bytes()).into();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn change(change: Change) -> &'static str {
    match change {
        Change::Inserted => "inserted",
        Change::Unchanged => "unchanged",
        Change::Updated => "updated",
    }
}

/// A device, without what is secret.
pub(super) fn device(out: &mut Vec<u8>, app: &str, it: &Device) {
    object(out, |o| device_members(o, app, it));
}

fn device_members(o: &mut Object<'_>, app: &str, it: &Device) {
    o.text("appId", app);
    o.text("id", &it.id);
    o.text("deviceId", &it.id);
    o.text_or_null("clientId", it.client_id.as_deref());
    o.text("formFactor", &it.form_factor);
    o.text("platform", &it.platform);
    o.text("timezone", &it.timezone);
    o.text("locale", &it.locale);
    o.json_if("metadata", &it.metadata);
    o.number("lastActiveAtMs", it.last_active_at);
    o.text("pushState", it.state.as_str());
    o.number("pushFailureCount", u64::from(it.failures));
    o.text_if("pushErrorReason", it.error_reason.as_deref());
    if let Some(rate) = it.rate {
        o.member("pushRatePolicy", |out| {
            object(out, |o| {
                o.number("capacity", u64::from(rate.capacity));
                o.number("refillPerSecond", u64::from(rate.refill_per_second));
            });
        });
    }
    o.number("createdAtMs", it.created_at);
    o.number("updatedAtMs", it.updated_at);
    o.member("recipient", |out| {
        object(out, |o| {
            o.text("transportType", it.recipient.transport());
            o.text("provider", it.recipient.provider().as_str());
            o.text("tokenHash", &token_hash(&it.recipient));
        });
    });
}

/// What a registration did.
pub(super) fn registered(
    app: &str,
    done: Change,
    it: &Device,
    token_hash: &str,
    identity: Option<&str>,
    replaced: Option<&str>,
) -> Bytes {
    body(|o| {
        o.text("change", change(done));
        o.text("deviceId", &it.id);
        o.text("tokenHash", token_hash);
        o.text_if("deviceIdentityToken", identity);
        o.text_if("replaced", replaced);
        o.member("device", |out| device(out, app, it));
    })
}

/// A subscription.
pub(super) fn subscription(out: &mut Vec<u8>, app: &str, it: &Subscription) {
    object(out, |o| {
        o.text("appId", app);
        o.text("channel", &it.channel);
        o.text("deviceId", &it.device_id);
        o.text_or_null("clientId", it.client_id.as_deref());
        o.text("provider", it.provider.as_str());
        o.text("tokenHash", &it.token_hash);
        o.number_if("credentialVersion", it.credential_version);
        o.number("createdAtMs", it.created_at);
    });
}

/// What may be told of credentials.
pub(super) fn credential(out: &mut Vec<u8>, app: &str, it: &CredentialFacts) {
    object(out, |o| {
        o.text("appId", app);
        o.text("credentialId", &it.id);
        o.text("provider", it.provider.as_str());
        o.number("version", it.version);
        o.number("updatedAtMs", it.updated_at);
    });
}

/// A template.
pub(super) fn template(out: &mut Vec<u8>, app: &str, it: &Template) {
    object(out, |o| {
        o.text("appId", app);
        o.text("templateId", &it.id);
        o.text("defaultLocale", &it.default_locale);
        // Tags are no names of ours: they have one spelling.
        o.member("locales", |out| {
            out.push(b'{');
            for (n, (tag, text)) in it.locales.iter().enumerate() {
                if n > 0 {
                    out.push(b',');
                }
                json::write_str(out, tag);
                out.push(b':');
                object(out, |o| text_members(o, text));
            }
            out.push(b'}');
        });
        o.member("providerOverrides", |out| {
            out.push(b'{');
            for (n, (provider, payload)) in it.overrides.iter().enumerate() {
                if n > 0 {
                    out.push(b',');
                }
                json::write_str(out, provider.as_str());
                out.push(b':');
                out.extend_from_slice(payload.as_bytes());
            }
            out.push(b'}');
        });
        o.number("updatedAtMs", it.updated_at);
    });
}

fn text_members(o: &mut Object<'_>, text: &Text) {
    o.text_if("title", text.title.as_deref());
    o.text_if("body", text.body.as_deref());
    o.text_if("icon", text.icon.as_deref());
    o.text_if("sound", text.sound.as_deref());
    o.text_if("collapseKey", text.collapse_key.as_deref());
}

/// How a publish of so many devices is planned, in the words of Sockudo's API.
fn regime(is_large: bool) -> &'static str {
    if is_large { "shardPath" } else { "fastPath" }
}

/// What a publish came to when it was taken.
pub(super) struct Accepted<'a> {
    pub app: &'a str,
    pub status: &'a Status,
    pub rendered: &'a [(Provider, String, bool)],
    pub is_repeated: bool,
    /// It was waited for: what came of each device.
    pub outcomes: Option<&'a [(String, Outcome)]>,
}

pub(super) fn accepted(out: &mut Vec<u8>, it: &Accepted<'_>) {
    object(out, |o| {
        o.text("appId", it.app);
        o.text("publishId", &it.status.id);
        o.text("status", it.status.state.as_str());
        o.number("expectedRecipients", it.status.expected);
        o.text("fanoutRegime", regime(it.status.is_large));
        o.member("renderedPayloads", |out| {
            list(out, it.rendered.iter(), |out, (provider, payload, is_override)| {
                object(out, |o| {
                    o.text("provider", provider.as_str());
                    o.json_if("payload", payload);
                    o.switch("usedOverride", *is_override);
                });
            });
        });
        o.number_if("notBeforeMs", it.status.not_before);
        if it.is_repeated {
            o.switch("repeated", true);
        }
        if let Some(outcomes) = it.outcomes {
            o.member("counters", |out| counters(out, &it.status.counters));
            o.text_if("errorReason", it.status.error_reason.as_deref());
            o.member("outcomes", |out| {
                list(out, outcomes.iter(), |out, (key, it)| outcome(out, key, it));
            });
        }
    });
}

fn counters(out: &mut Vec<u8>, it: &Counters) {
    object(out, |o| {
        o.number("planned", it.planned);
        o.number("dispatched", it.dispatched);
        o.number("succeeded", it.succeeded);
        o.number("failed", it.failed);
        o.number("expired", it.expired);
        o.number("skipped", it.skipped);
        o.number("retryScheduled", it.retry_scheduled);
        o.number("retryAttempted", it.retry_attempted);
        o.number("deadLettered", it.dead_lettered);
    });
}

/// Where a publish is.
pub(super) fn status(app: &str, it: &Status) -> Bytes {
    body(|o| {
        o.text("appId", app);
        o.text("publishId", &it.id);
        o.text("state", it.state.as_str());
        o.text("status", it.state.as_str());
        o.member("counters", |out| counters(out, &it.counters));
        o.number("expectedRecipients", it.expected);
        o.text("fanoutRegime", regime(it.is_large));
        o.number("acceptedAtMs", it.accepted_at);
        o.number_if("notBeforeMs", it.not_before);
        o.number_if("finishedAtMs", it.finished_at);
        o.number_if("retryAfterMs", it.retry_after);
        o.text_if("errorReason", it.error_reason.as_deref());
    })
}

/// What came of sending to one device, or to what is none: then `target` says which of the recipients it was.
pub(super) fn outcome(out: &mut Vec<u8>, key: &str, it: &Outcome) {
    object(out, |o| {
        match key.strip_prefix('#').and_then(|index| index.parse().ok()) {
            Some(index) => o.number("target", index),
            None => o.text("deviceId", key),
        }
        o.text_if("provider", it.provider.map(Provider::as_str));
        o.text("outcome", it.fate.as_str());
        o.number("attempts", u64::from(it.attempts));
        o.text_if("providerMessageId", it.message_id.as_deref());
        o.number_if("providerStatus", Some(u64::from(it.status)).filter(|it| *it > 0));
        o.text_if("reason", it.reason.as_deref());
        o.number("occurredAtMs", it.at);
    });
}

/// A dead letter.
pub(super) fn dead_letter(out: &mut Vec<u8>, number: u64, it: &DeadLetter) {
    object(out, |o| {
        o.text("deadLetterId", &number.to_string());
        o.text("appId", &it.app);
        o.text("publishId", &it.publish_id);
        o.text_if("provider", it.provider.map(Provider::as_str));
        o.text("stage", &it.stage);
        o.text("key", &it.key);
        o.text("reason", &it.reason);
        o.number("occurredAtMs", it.at);
        o.switch("replayable", it.is_replayable);
    });
}

/// A broadcast channel.
pub(super) fn broadcast(out: &mut Vec<u8>, it: &Broadcast) {
    object(out, |o| {
        o.text("channelId", &it.channel_id);
        o.number_if("storagePolicy", it.storage_policy.map(u64::from));
    });
}

/// A page of rows. `of` marks its cursor: it is good for the same list only.
pub(super) fn page<T>(of: u8, page: &Page<T>, write: impl Fn(&mut Vec<u8>, &T)) -> Bytes {
    let next = page.next.as_ref().map(|key| cursor(of, key));
    let mut out = b"{\"items\":".to_vec();
    list(&mut out, page.rows.iter(), write);
    out.extend_from_slice(b",\"next_cursor\":");
    match &next {
        Some(next) => json::write_str(&mut out, next),
        None => out.extend_from_slice(b"null"),
    }
    let more: &[u8] = if next.is_some() { b",\"has_more\":true}" } else { b",\"has_more\":false}" };
    out.extend_from_slice(more);
    out.into()
}

/// All rows of a list that has no pages.
pub(super) fn all<T>(rows: &[T], write: impl Fn(&mut Vec<u8>, &T)) -> Bytes {
    let mut out = b"{\"items\":".to_vec();
    list(&mut out, rows.iter(), write);
    out.extend_from_slice(b",\"next_cursor\":null,\"has_more\":false}");
    out.into()
}

/// How many are gone. `of_client`: all devices of one.
pub(super) fn removed(count: u64, of_client: bool) -> Bytes {
    body(|o| {
        o.number("deleted", count);
        if of_client {
            o.text("consistency", "eventual");
        }
    })
}

/// A dead letter is tried again.
pub(super) fn replayed(dead_letter_id: &str) -> Bytes {
    body(|o| {
        o.text("deadLetterId", dead_letter_id);
        o.switch("replayed", true);
    })
}

fn cursor(of: u8, key: &[u8]) -> String {
    let mut text = String::new();
    base64::encode(&mut text, &[&[of], key].concat(), Alphabet::Url);
    text
}

/// Reads a cursor of the same list; none: it is another's, or nobody's.
pub(super) fn read_cursor(of: u8, text: &str) -> Option<Bytes> {
    let bytes = base64::decode(text.as_bytes(), Alphabet::Url)?;
    let (first, key) = bytes.split_first()?;
    (*first == of).then(|| Bytes::copy_from_slice(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_there_in_both_spellings() {
        let body = body(|o| {
            o.text("publishId", "p");
            o.member("counters", |out| {
                object(out, |o| o.number("retryScheduled", 1));
            });
        });
        assert_eq!(
            String::from_utf8_lossy(&body),
            r#"{"publishId":"p","publish_id":"p","counters":{"retryScheduled":1,"retry_scheduled":1}}"#
        );
    }

    #[test]
    fn a_cursor_is_good_for_its_own_list() {
        for key in [&b"d"[..], b"\0\x01key", &[255; 100]] {
            let text = cursor(b'd', key);
            assert!(!text.contains('='), "{text}");
            assert_eq!(read_cursor(b'd', &text).as_deref(), Some(key));
            assert_eq!(read_cursor(b's', &text), None);
        }
        for text in ["", "!", "Z=", "ab c"] {
            assert_eq!(read_cursor(b'd', text), None, "{text}");
        }
    }
}
