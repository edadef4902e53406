//! What is sent and to whom, as bodies of publishes and templates say it, and `extras.push` of an event.

use super::devices::{self, ID_BYTES_MAX, TAG_BYTES_MAX};
use super::members::{Members, parse};
use crate::auth::sign::fingerprint;
use crate::dialects::api::Refusal;
use crate::push::Provider;
use crate::push::publish::{Content, Intent, TARGETS_MAX, Target};
use crate::push::stored;
use crate::push::template::{Template, Text};
use crate::wire::json::{Kind, Raw};

// Source of the bounds: Sockudo's push API.
const TITLE_BYTES_MAX: usize = 256;
const BODY_BYTES_MAX: usize = 4096;
const ICON_BYTES_MAX: usize = 2048;
const TEMPLATE_DATA_BYTES_MAX: usize = 8192;
const OVERRIDE_BYTES_MAX: usize = 4096;
const OVERRIDE_OF_APNS_BYTES_MAX: usize = 5120;
/// Bytes of the data for the application on the device, at most: no provider takes more.
const DATA_BYTES_MAX: usize = 4096;
/// Bytes of what is said of a Live Activity, at most: as much as APNs takes of anything.
const LIVE_ACTIVITY_BYTES_MAX: usize = 5120;
/// Bytes of the name of a sound, or of a key under which notifications take each other's place, at most.
const NAME_BYTES_MAX: usize = 256;
/// Bytes of a topic or a condition of a provider, at most.
const TOPIC_BYTES_MAX: usize = 1024;
/// Bytes of an idempotency key, at most. Source: Sockudo's HTTP API, "Idempotency".
const KEY_BYTES_MAX: usize = 128;
/// Languages of a template, at most.
const LOCALES_MAX: usize = 100;
/// Publishes of one batch, at most.
pub(super) const BATCH_MAX: usize = 100;

/// What surrounds the body of a publish.
pub(super) struct Around<'a> {
    /// The id of the app.
    pub app: &'a str,
    /// The key of the request, if its head has one.
    pub key: Option<&'a str>,
    /// The app's daily bound is to hold nothing up.
    pub passes_quota: bool,
    /// Addresses on networks that are not public are no matter.
    pub allow_private: bool,
}

/// Reads a publish.
pub(super) fn publish(body: &[u8], around: &Around<'_>) -> Result<Intent, Refusal> {
    intent(parse(body)?, around, around.key.map(str::to_owned))
}

/// Reads a batch, a list of publishes; all of them, or the first reason against one.
pub(super) fn batch(body: &[u8], around: &Around<'_>) -> Result<Vec<Intent>, Refusal> {
    let body = parse(body)?;
    // An object with the list in it is what the batch of events looks like.
    let list = match body.kind() {
        Kind::Object => Members::of_body(body)?.any(&["batch", "items"]),
        _ => Some(body),
    };
    let list = list.filter(|it| it.kind() == Kind::Array);
    let list = list.ok_or(Refusal::invalid("the body is not a list"))?;
    let count = list.items().count();
    if !(1..=BATCH_MAX).contains(&count) {
        let text = format!("a batch has 1 to {BATCH_MAX} publishes, not {count}");
        return Err(Refusal::limit(text));
    }
    let items = list.items().enumerate().map(|(n, item)| {
        let key = around.key.map(|key| format!("{key}#{n}"));
        let read = intent(item, around, key).map(|it| Intent { is_sync: false, ..it });
        read.map_err(|refusal| Refusal {
            text: format!("[{n}]: {}", refusal.text).into(),
            ..refusal
        })
    });
    items.collect()
}

fn intent(body: Raw<'_>, around: &Around<'_>, key: Option<String>) -> Result<Intent, Refusal> {
    let members = Members::of_body(body)?;
    members.check_app(around.app)?;
    let targets = targets(&members, around)?;
    let payload = members.any(&["payload"]);
    let payload = payload.ok_or_else(|| members.wrong("payload", "is missing"))?;
    let payload = Members::of(payload, "payload", "payload.")?;
    let mut intent = Intent { targets, ..part(&payload)? };
    overrides(&members, &mut intent.content.overrides)?;
    if intent.content.live_activity.is_empty() {
        intent.content.live_activity =
            members.object(&["liveActivity"], LIVE_ACTIVITY_BYTES_MAX)?;
    }
    check_content(&intent.content)?;
    timing(&members, &mut intent)?;
    intent.id = members.id(&["publishId"], ID_BYTES_MAX)?;
    if let Some(key) = around.key {
        super::members::check_id(key, KEY_BYTES_MAX)
            .map_err(|why| Refusal::invalid(format!("X-Idempotency-Key {why}")))?;
    }
    intent.key = members.id(&["idempotencyKey"], KEY_BYTES_MAX)?.or(key);
    intent.credential_id = members.id(&["credentialId"], ID_BYTES_MAX)?;
    intent.skip_connected |= members.switch(&["skipConnected"])?;
    intent.is_sync = members.switch(&["sync"])?;
    intent.passes_quota = around.passes_quota;
    Ok(digested(intent))
}

/// Reads what `extras.push` of an event says: the payload of a publish to the subscriptions of the event's channels.
pub(super) fn of_event(
    push: Raw<'_>,
    channels: impl Iterator<Item = String>,
) -> Result<Intent, Refusal> {
    let members = Members::of(push, "extras.push", "extras.push.")?;
    let mut intent = Intent { targets: channels.map(Target::Channel).collect(), ..part(&members)? };
    overrides(&members, &mut intent.content.overrides)?;
    check_content(&intent.content)?;
    timing(&members, &mut intent)?;
    // An event is published now.
    intent.not_before = None;
    intent.credential_id = members.id(&["credentialId"], ID_BYTES_MAX)?;
    Ok(digested(intent))
}

/// With the digest of what it says.
fn digested(mut intent: Intent) -> Intent {
    let nameless =
        Intent { id: None, key: None, is_sync: false, passes_quota: false, ..intent.clone() };
    intent.fingerprint = fingerprint(&[&stored::encode(&nameless)]);
    intent
}

/// What a payload says, and nothing around it.
fn part(payload: &Members<'_>) -> Result<Intent, Refusal> {
    let content = Content {
        template_id: payload.id(&["templateId"], ID_BYTES_MAX)?,
        template_data: payload.object(&["templateData"], TEMPLATE_DATA_BYTES_MAX)?,
        text: text(payload)?,
        data: payload.object(&["data"], DATA_BYTES_MAX)?,
        overrides: Vec::new(),
        live_activity: payload.object(&["liveActivity"], LIVE_ACTIVITY_BYTES_MAX)?,
    };
    Ok(Intent {
        id: None,
        key: None,
        key_span: None,
        fingerprint: [0; 16],
        targets: Vec::new(),
        content,
        credential_id: None,
        not_before: None,
        expires_at: None,
        skip_connected: payload.switch(&["skipConnected"])?,
        passes_quota: false,
        is_sync: false,
    })
}

fn text(members: &Members<'_>) -> Result<Text, Refusal> {
    let icon = members.bounded(&["icon"], ICON_BYTES_MAX)?;
    if icon.as_ref().is_some_and(|it| !it.starts_with("https://")) {
        return Err(members.wrong("icon", "is not an https:// address"));
    }
    Ok(Text {
        title: members.bounded(&["title"], TITLE_BYTES_MAX)?,
        body: members.bounded(&["body"], BODY_BYTES_MAX)?,
        icon,
        sound: members.bounded(&["sound"], NAME_BYTES_MAX)?,
        collapse_key: members.bounded(&["collapseKey"], NAME_BYTES_MAX)?,
    })
}

fn check_content(content: &Content) -> Result<(), Refusal> {
    let says_nothing = content.template_id.is_none()
        && content.text == Text::default()
        && content.data.is_empty()
        && content.overrides.is_empty()
        && content.live_activity.is_empty();
    match says_nothing {
        true => {
            Err(Refusal::invalid("payload says nothing: it needs title, body, data or templateId"))
        }
        false => Ok(()),
    }
}

fn timing(members: &Members<'_>, intent: &mut Intent) -> Result<(), Refusal> {
    intent.not_before = members.number(&["notBeforeMs", "notBefore"])?;
    intent.expires_at = members.number(&["expiresAtMs", "expiresAt"])?;
    match (intent.not_before, intent.expires_at) {
        (Some(from), Some(to)) if to <= from => {
            Err(members.wrong("expiresAtMs", "is not after notBeforeMs"))
        }
        _ => Ok(()),
    }
}

/// What is sent as it is to one provider's devices: a list of providers and payloads, or an object of them.
fn overrides(members: &Members<'_>, into: &mut Vec<(Provider, String)>) -> Result<(), Refusal> {
    const NAME: &str = "providerOverrides";
    let Some(value) = members.any(&[NAME]) else { return Ok(()) };
    let mut put = |provider: Provider, payload: Raw<'_>| {
        let bytes_max = match provider {
            Provider::Apns => OVERRIDE_OF_APNS_BYTES_MAX,
            _ => OVERRIDE_BYTES_MAX,
        };
        if !devices::is_object(payload) {
            return Err(members.wrong(NAME, "has a payload that is not an object"));
        }
        if into.iter().any(|(other, _)| *other == provider) {
            return Err(members.wrong(NAME, "has a provider twice"));
        }
        into.push((provider, members.sized(NAME, payload, bytes_max)?));
        Ok(())
    };
    match value.kind() {
        Kind::Object => {
            for (name, payload) in value.members() {
                let provider = Provider::parse(&name);
                let wrong = || members.wrong(NAME, "has a provider that is none");
                put(provider.ok_or_else(wrong)?, payload)?;
            }
        }
        Kind::Array => {
            for item in value.items() {
                let item = Members::of(item, NAME, "providerOverrides.")?;
                let provider = item.provider(&["provider"])?;
                let provider = provider.ok_or_else(|| item.wrong("provider", "is missing"))?;
                let payload = item.any(&["payload"]);
                put(provider, payload.ok_or_else(|| item.wrong("payload", "is missing"))?)?;
            }
        }
        _ => return Err(members.wrong(NAME, "is not a list")),
    }
    Ok(())
}

fn targets(members: &Members<'_>, around: &Around<'_>) -> Result<Vec<Target>, Refusal> {
    const NAME: &str = "recipients";
    let list = members.any(&[NAME]).ok_or_else(|| members.wrong(NAME, "is missing"))?;
    if list.kind() != Kind::Array {
        return Err(members.wrong(NAME, "is not a list"));
    }
    let mut targets = Vec::new();
    for item in list.items() {
        if targets.len() == TARGETS_MAX {
            return Err(Refusal::limit(format!("recipients has at most {TARGETS_MAX}")));
        }
        let target = target(item, around).map_err(|refusal| Refusal {
            text: format!("recipients[{}]: {}", targets.len(), refusal.text).into(),
            ..refusal
        })?;
        if !targets.contains(&target) {
            targets.push(target);
        }
    }
    match targets.is_empty() {
        true => Err(members.wrong(NAME, "is empty")),
        false => Ok(targets),
    }
}

fn target(item: Raw<'_>, around: &Around<'_>) -> Result<Target, Refusal> {
    let members = Members::of(item, "it", "")?;
    // What its type does not need is looked at all the same: it may be meant for another one.
    for name in ["deviceId", "clientId", "channel"] {
        members.id(&[name], ID_BYTES_MAX)?;
    }
    for name in ["topic", "condition"] {
        members.text(&[name])?;
    }
    members.provider(&["provider"])?;
    if members.any(&["recipient"]).is_some_and(|it| it.kind() != Kind::Object) {
        return Err(members.wrong("recipient", "is not an object"));
    }
    let kind = members.text(&["type"])?.ok_or_else(|| members.wrong("type", "is missing"))?;
    let of_provider = |name: &'static str| {
        let provider = members.provider(&["provider"])?.unwrap_or(Provider::Fcm);
        if provider != Provider::Fcm && provider != Provider::Hms {
            return Err(members.wrong("provider", "has no topics"));
        }
        Ok((provider, members.must_id(&[name], TOPIC_BYTES_MAX)?))
    };
    Ok(match &*kind {
        "device" => Target::Device(members.must_id(&["deviceId", "id"], ID_BYTES_MAX)?),
        "client" => Target::Client(members.must_id(&["clientId", "id"], ID_BYTES_MAX)?),
        "channel" => Target::Channel(members.must_id(&["channel"], ID_BYTES_MAX)?),
        "recipient" => {
            let value = members.any(&["recipient"]);
            let value = value.ok_or_else(|| members.wrong("recipient", "is missing"))?;
            Target::Direct(devices::recipient(value, "recipient", around.allow_private)?)
        }
        "providerTopic" | "provider_topic" => {
            let (provider, topic) = of_provider("topic")?;
            Target::ProviderTopic(provider, topic)
        }
        "providerCondition" | "provider_condition" => {
            let (provider, condition) = of_provider("condition")?;
            Target::ProviderCondition(provider, condition)
        }
        // Running Sockudo takes them, and sends nothing.
        "registeredTopic" | "registered_topic" | "userTopic" | "user_topic" | "indexedFilter"
        | "indexed_filter" => {
            let why = format!("{kind} reaches nothing; use device, client or channel");
            return Err(members.wrong("type", why));
        }
        _ => {
            let why =
                "is none of device, client, channel, recipient, providerTopic, providerCondition";
            return Err(members.wrong("type", why));
        }
    })
}

/// Reads a template.
pub(super) fn template(body: Raw<'_>, app: &str) -> Result<Template, Refusal> {
    let members = Members::of_body(body)?;
    members.check_app(app)?;
    let id = members.must_id(&["templateId", "id"], ID_BYTES_MAX)?;
    let default_locale = members.must_id(&["defaultLocale"], TAG_BYTES_MAX)?;
    let given = members.any(&["locales"]).filter(|it| it.kind() == Kind::Object);
    let given = given.ok_or_else(|| members.wrong("locales", "is not an object"))?;
    let mut locales: Vec<(String, Text)> = Vec::new();
    for (tag, value) in given.members() {
        super::members::check_id(&tag, TAG_BYTES_MAX)
            .map_err(|why| Refusal::invalid(format!("a tag in locales {why}")))?;
        let members = Members::of(value, "a part of locales", format!("locales.{tag}."))?;
        // As in every object, the last one counts.
        locales.retain(|(other, _)| *other != *tag);
        if locales.len() == LOCALES_MAX {
            return Err(Refusal::limit(format!("a template has at most {LOCALES_MAX} languages")));
        }
        let text = text(&members)?;
        if text.title.is_none() && text.body.is_none() {
            return Err(members.wrong("title", "or body is missing"));
        }
        locales.push((tag.into_owned(), text));
    }
    locales.sort_by(|(a, _), (b, _)| a.cmp(b));
    if !locales.iter().any(|(tag, _)| *tag == default_locale) {
        return Err(members.wrong("defaultLocale", "is none of locales"));
    }
    let mut found = Vec::new();
    overrides(&members, &mut found)?;
    Ok(Template { id, default_locale, locales, overrides: found, updated_at: 0 })
}
