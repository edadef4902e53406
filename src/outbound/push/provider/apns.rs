//! Apple Push Notification service, over HTTP/2, with tokens or with a certificate. Source: Apple's documentation, "Sending
//! notification requests to APNs", "Handling notification responses from APNs", "Establishing a token-based
//! connection to APNs", "Starting and updating Live Activities with ActivityKit push notifications", "Sending broadcast
//! push notification requests to APNs".

use std::borrow::Cow;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::form::{self, Object};
use super::sign::{self, Signer};
use super::{
    Access, Address, Answered, Delivered, Message, Parcel, ProviderUrls, Request, Speak, Verdict,
};
use crate::base::time::{Millis, Now, UnixMillis};
use crate::outbound::push::identity;
use crate::push::Provider;
use crate::push::credential::Material;
use crate::push::device::Recipient;
use crate::wire::json::{self, Kind, Raw};

/// A token is good for an hour, and whoever makes more than one in twenty minutes is refused.
const TOKEN_LASTS: Millis = Millis(40 * 60_000);
/// Bytes of a message.
const BODY_MAX: usize = 4096;
/// Bytes of one for a broadcast channel, or for a call.
const BODY_MAX_LARGE: usize = 5120;
/// Bytes of what says that a later message takes an earlier one's place.
const COLLAPSE_BYTES_MAX: usize = 64;
/// How long a broadcast channel that stores keeps a message that does not say: as long as a Live Activity runs.
const STORED_FOR: Millis = Millis(8 * 3_600_000);
/// What the topic of Live Activities ends with.
const LIVE: &str = ".push-type.liveactivity";
const PUSH_TYPES: &[&str] = &[
    "alert",
    "background",
    "complication",
    "controls",
    "fileprovider",
    "liveactivity",
    "location",
    "mdm",
    "pushtotalk",
    "voip",
    "widgets",
];

/// Speaks with APNs.
pub struct Apns;

/// Topic, and whether it is for an app in development.
pub(super) fn topic_of(material: &Material) -> Result<(&str, bool), Delivered> {
    match material {
        Material::ApnsToken { topic, is_sandbox, .. }
        | Material::ApnsCertificate { topic, is_sandbox, .. } => Ok((topic, *is_sandbox)),
        _ => Err(Delivered::not(Verdict::Unauthorized, "these are no credentials for APNs")),
    }
}

fn material(parcel: &Parcel) -> Result<&Material, Delivered> {
    let credential = parcel.credential.as_ref();
    credential
        .map(|it| &it.material)
        .ok_or_else(|| Delivered::not(Verdict::Unauthorized, "no credentials"))
}

/// How this material lets one in: the same at all of its servers.
pub(super) fn access(material: &Material, now: Now) -> Result<Access, String> {
    let Material::ApnsToken { team_id, key_id, private_key, .. } = material else {
        // The certificate of the connection does.
        return Ok(Access::Open);
    };
    let signer = Signer::curve(private_key).map_err(|error| format!("the private key: {error}"))?;
    let head = Object::new().text("alg", "ES256").text("kid", key_id).end();
    let issued = (now.wall.0 / 1000).to_string();
    let claims = Object::new().text("iss", team_id).raw("iat", &issued).end();
    let token = signer.token(&head, &claims).ok_or("the token could not be signed")?;
    Ok(Access::Signed(format!("bearer {token}"), TOKEN_LASTS))
}

impl Speak for Apns {
    fn provider(&self) -> Provider {
        Provider::Apns
    }

    fn access(&self, parcel: &Parcel, _: &ProviderUrls, now: Now) -> Result<Access, Delivered> {
        access(material(parcel)?, now)
            .map_err(|error| Delivered::not(Verdict::Unauthorized, form::cut(&error)))
    }

    fn realm(&self, _: &Parcel) -> String {
        String::new()
    }

    fn read_access(&self, answered: &Answered, _: Now) -> Result<(String, Millis), Delivered> {
        // Nothing is exchanged here.
        Err(Delivered::not(Verdict::Unavailable, form::said(answered)))
    }

    fn request(
        &self,
        parcel: &Parcel,
        access: &str,
        urls: &ProviderUrls,
        chance: &[u8; 32],
        now: Now,
    ) -> Result<Request, Delivered> {
        let refused = |reason: &str| Delivered::not(Verdict::Refused, reason);
        let (topic, is_sandbox) = topic_of(material(parcel)?)?;
        let server = if is_sandbox { &urls.apns_sandbox } else { &urls.apns };
        let Address::Recipient(recipient) = &parcel.address else {
            return Err(refused("APNs has no topics to send to"));
        };
        let is_live = matches!(
            recipient,
            Recipient::ApnsLiveActivity { .. } | Recipient::ApnsBroadcast { .. }
        );
        let own = form::object(&parcel.message.raw);
        let headers = own.and_then(|it| it.member("headers"));
        let said = |name: &str| headers.and_then(|it| value_of(it.member(name)?));
        let body =
            body(&parcel.message, is_live, now.wall).ok_or_else(|| refused("no live_activity"))?;
        let push_type = match (is_live, said("apns-push-type")) {
            (true, _) => "liveactivity".into(),
            (false, Some(said)) if PUSH_TYPES.contains(&&*said) => said,
            (false, Some(_)) => return Err(refused("InvalidPushType")),
            (false, None) => push_type(&body).into(),
        };
        let topic = said("apns-topic").unwrap_or(topic.into());
        let priority = said("apns-priority").unwrap_or_else(|| match &*push_type {
            "background" => "5".into(),
            _ => "10".into(),
        });
        let until = parcel.expires_at.map(|at| (at / 1000).max(1).to_string());
        let until = said("apns-expiration").or(until.map(Cow::Owned));
        let mut fields = vec![
            ("content-type", "application/json".to_owned()),
            ("apns-push-type", push_type.to_string()),
            ("apns-priority", priority.into_owned()),
        ];
        if !access.is_empty() {
            fields.push(("authorization", access.to_owned()));
        }
        let (url, body_max) = match recipient {
            Recipient::Apns { token } | Recipient::ApnsLiveActivity { token } => {
                if !is_token(token) {
                    return Err(Delivered::not(Verdict::Unfit, "BadDeviceToken"));
                }
                // A certificate says its topic; a token does not.
                if !topic.is_empty() {
                    let topic = match is_live && !topic.ends_with(LIVE) {
                        true => format!("{topic}{LIVE}"),
                        false => topic.into_owned(),
                    };
                    fields.push(("apns-topic", topic));
                } else if !access.is_empty() {
                    return Err(refused("MissingTopic"));
                }
                fields.push(("apns-id", uuid(chance)));
                fields.extend(until.map(|until| ("apns-expiration", until.into_owned())));
                let collapse = said("apns-collapse-id");
                let collapse = collapse.as_deref().or(parcel.message.text.collapse_key.as_deref());
                fields.extend(collapse.map(|key| ("apns-collapse-id", collapse_id(key))));
                let is_large = fields.iter().any(|(_, value)| value == "voip");
                let body_max = if is_large { BODY_MAX_LARGE } else { BODY_MAX };
                (format!("{server}/3/device/{token}"), body_max)
            }
            Recipient::ApnsBroadcast { channel_id, storage_policy } => {
                let bundle = topic.strip_suffix(LIVE).unwrap_or(&topic);
                if !is_bundle(bundle) {
                    return Err(refused("MissingTopic"));
                }
                let stored = (now.wall.0 + STORED_FOR.0) / 1000;
                let until = match storage_policy {
                    Some(1) => until.map_or_else(|| stored.to_string(), Cow::into_owned),
                    // What is not stored has no time.
                    _ => "0".to_owned(),
                };
                fields.push(("apns-expiration", until));
                fields.push(("apns-channel-id", channel_id.clone()));
                fields.push(("apns-request-id", uuid(chance)));
                (format!("{server}/4/broadcasts/apps/{bundle}"), BODY_MAX_LARGE)
            }
            _ => return Err(refused("this is no address of APNs")),
        };
        if body.len() > body_max {
            return Err(refused("PayloadTooLarge"));
        }
        Ok(Request { method: "POST", url, fields, body: Bytes::from(body), is_http2: true })
    }

    fn read(&self, answered: &Answered, now: Now) -> Delivered {
        let status = answered.status;
        if status == 200 {
            let id = answered.field("apns-id").or(answered.field("apns-request-id"));
            return Delivered::taken(id.map(str::to_owned)).with_status(status);
        }
        let pause = answered.pause(now);
        let reason = reason_of(answered);
        let verdict = verdict(status, reason.as_deref().unwrap_or_default(), pause.is_some());
        let reason = reason.unwrap_or_else(|| form::said(answered));
        let gone_at = gone_at(answered).filter(|_| verdict == Verdict::Gone);
        let delivered = Delivered::not(verdict, reason).with_status(status);
        Delivered { retry_after: pause, gone_at, ..delivered }
    }

    fn check(&self, material: &Material) -> Result<(), String> {
        let is_id = |it: &str| {
            (1..=64).contains(&it.len()) && it.bytes().all(|it| it.is_ascii_alphanumeric())
        };
        let topic = match material {
            Material::ApnsToken { team_id, key_id, private_key, topic, .. } => {
                if !is_id(team_id) {
                    return Err("the team id is not one of letters and digits".to_owned());
                }
                if !is_id(key_id) {
                    return Err("the key id is not one of letters and digits".to_owned());
                }
                Signer::curve(private_key).map_err(|error| format!("the private key: {error}"))?;
                topic
            }
            Material::ApnsCertificate { p12, password, topic, .. } => {
                identity::open(p12, password)?;
                topic
            }
            _ => return Err("these are no credentials for APNs".to_owned()),
        };
        match topic.is_empty() || is_bundle(topic) {
            true => Ok(()),
            false => Err("the topic is not the bundle id of an app".to_owned()),
        }
    }

    fn rendered(&self, message: &Message) -> String {
        shown(message).end()
    }
}

/// What an answer's reason means; without one, its status.
fn verdict(status: u16, reason: &str, says_when: bool) -> Verdict {
    match reason {
        "Unregistered" | "ExpiredToken" | "ChannelNotRegistered" => Verdict::Gone,
        // Of the other of the two environments, or of another app: so is every token if the credentials say so wrongly.
        "BadDeviceToken" | "DeviceTokenNotForTopic" => Verdict::Unfit,
        "ExpiredProviderToken"
        | "InvalidProviderToken"
        | "MissingProviderToken"
        | "BadCertificate"
        | "BadCertificateEnvironment"
        | "Forbidden"
        | "UnrelatedKeyIdInToken"
        | "BadEnvironmentKeyIdInToken" => Verdict::Unauthorized,
        "TooManyProviderTokenUpdates" => Verdict::Throttled,
        // There were too many to this device; all others are well.
        "TooManyRequests" if !says_when => Verdict::Unavailable,
        "IdleTimeout" | "InternalServerError" | "ServiceUnavailable" | "Shutdown" => {
            Verdict::Unavailable
        }
        _ => match status {
            401 | 403 => Verdict::Unauthorized,
            410 => Verdict::Gone,
            429 => Verdict::Throttled,
            408 | 500..=599 => Verdict::Unavailable,
            _ => Verdict::Refused,
        },
    }
}

/// What APNs says is wrong.
pub(super) fn reason_of(answered: &Answered) -> Option<String> {
    let reason = json::parse(&answered.body).ok()?.member("reason")?.as_str()?;
    Some(form::cut(&reason)).filter(|it| !it.is_empty())
}

/// When APNs last saw that a token is no more.
fn gone_at(answered: &Answered) -> Option<u64> {
    json::parse(&answered.body).ok()?.member("timestamp")?.as_u64()
}

/// What is sent; none: a Live Activity wants content, and there is none.
fn body(message: &Message, is_live: bool, now: UnixMillis) -> Option<String> {
    if let Some(own) = form::object(&message.raw) {
        return Some(form::copy(Object::new(), own, &["headers"]).end());
    }
    match is_live {
        true => live(message, now),
        false => Some(shown(message).end()),
    }
}

/// A message in APNs' words: what is for the application is the member `data`, beside `aps`.
fn shown(message: &Message) -> Object {
    let text = &message.text;
    let alert = alert(message);
    let is_silent = text.title.is_none() && text.body.is_none();
    let mut aps = Object::new().object("alert", alert).optional("sound", text.sound.as_deref());
    if is_silent {
        aps = aps.raw("content-available", "1");
    }
    let mut out = Object::new();
    if let Some(icon) = text.icon.as_deref().filter(|_| !is_silent) {
        // An extension of the app may fetch the image.
        aps = aps.raw("mutable-content", "1");
        out = out.text("icon", icon);
    }
    out = out.object("aps", aps);
    match message.data.is_empty() {
        true => out,
        false => out.raw("data", &message.data),
    }
}

fn alert(message: &Message) -> Object {
    Object::new()
        .optional("title", message.text.title.as_deref())
        .optional("body", message.text.body.as_deref())
}

/// A Live Activity's `aps`: as it is said, in APNs' words or the same in one word each; event, time and alert go without
/// saying.
fn live(message: &Message, now: UnixMillis) -> Option<String> {
    let said = form::object(&message.live_activity)?;
    let is_object = |it: &Raw<'_>| it.kind() == Kind::Object;
    let around = said.member("aps").filter(is_object);
    let mut aps = Object::new();
    let (mut has_event, mut has_time, mut has_alert) = (false, false, false);
    for (name, value) in around.unwrap_or(said).members() {
        let name = match &*name {
            "contentState" | "content_state" => "content-state",
            "attributesType" | "attributes_type" => "attributes-type",
            "staleDate" | "stale_date" => "stale-date",
            "dismissalDate" | "dismissal_date" => "dismissal-date",
            "relevanceScore" | "relevance_score" => "relevance-score",
            "inputPushChannel" | "input_push_channel" => "input-push-channel",
            "inputPushToken" | "input_push_token" => "input-push-token",
            name => name,
        };
        has_event |= name == "event";
        has_time |= name == "timestamp";
        has_alert |= name == "alert";
        aps = aps.raw(name, value.text());
    }
    if !has_event {
        aps = aps.text("event", "update");
    }
    if !has_time {
        aps = aps.raw("timestamp", &(now.0 / 1000).to_string());
    }
    if !has_alert {
        aps = aps.object("alert", alert(message));
    }
    let out = match around {
        Some(_) => form::copy(Object::new(), said, &["aps"]),
        None => Object::new(),
    };
    Some(out.object("aps", aps).end())
}

/// What kind a message is that does not say so: one that shows nothing and makes no sound is for the app in the background.
fn push_type(body: &str) -> &'static str {
    let aps = form::object(body).and_then(|it| it.member("aps"));
    let shows = |name| aps.is_some_and(|it| it.member(name).is_some_and(|it| !it.is_null()));
    let is_silent = !["alert", "badge", "sound"].into_iter().any(shows);
    match is_silent && shows("content-available") {
        true => "background",
        false => "alert",
    }
}

/// A value for a head: a text or a number.
fn value_of(value: Raw<'_>) -> Option<Cow<'_, str>> {
    let text = match value.kind() {
        Kind::Number => value.text().into(),
        _ => value.as_str()?,
    };
    let stands = !text.is_empty() && text.bytes().all(|it| (b' '..=b'~').contains(&it));
    Some(text).filter(|_| stands)
}

/// What APNs takes, with the same meaning: what is too long or cannot stand in a head, digested.
fn collapse_id(key: &str) -> String {
    let stands = key.bytes().all(|it| it.is_ascii_graphic());
    match stands && (1..=COLLAPSE_BYTES_MAX).contains(&key.len()) {
        true => key.to_owned(),
        false => sign::base64url(&Sha256::digest(key.as_bytes())),
    }
}

/// Tokens are of any length, by the documentation; they are hexadecimal digits all the same.
fn is_token(token: &str) -> bool {
    (2..=400).contains(&token.len()) && token.bytes().all(|it| it.is_ascii_hexdigit())
}

/// Whether this can stand in a path as the bundle id of an app.
pub(super) fn is_bundle(id: &str) -> bool {
    let is_part = |it: u8| it.is_ascii_alphanumeric() || b".-_".contains(&it);
    (1..=255).contains(&id.len()) && id.bytes().all(is_part)
}

/// A UUID of chance. Source: RFC 9562, section 5.4.
pub(super) fn uuid(chance: &[u8; 32]) -> String {
    let mut number = [0; 16];
    number.copy_from_slice(&chance[..16]);
    number[6] = number[6] & 0x0f | 0x40;
    number[8] = number[8] & 0x3f | 0x80;
    let mut out = String::with_capacity(36);
    for (n, byte) in number.iter().enumerate() {
        if matches!(n, 4 | 6 | 8 | 10) {
            out.push('-');
        }
        out.push_str(&format!("{byte:02x}"));
    }
    out
}

#[cfg(test)]
#[path = "apns_tests.rs"]
mod tests;
