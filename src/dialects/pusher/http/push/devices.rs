//! Registrations of devices and their subscriptions, as bodies and queries say them.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ParsedPublicKey};

use super::members::{Members, check_id, snake};
use crate::auth::sign::Query;
use crate::base::address::is_private_host;
use crate::dialects::api::Refusal;
use crate::push::Provider;
use crate::push::device::{Device, DeviceRate, DeviceState, Recipient};
use crate::push::order::{DeviceFilter, Order, Registrar};
use crate::wire::base64::{self, Alphabet};
use crate::wire::json::{self, Kind, Raw};

/// Bytes of the id of a device, a client, a template, credentials or a publish, at most.
pub(super) const ID_BYTES_MAX: usize = 255;
/// Bytes of a device's metadata, at most. Source: Sockudo's push API.
const METADATA_BYTES_MAX: usize = 4096;
/// Bytes of a token or an address, at most.
const ADDRESS_BYTES_MAX: usize = 4096;
/// Bytes of the name of a time zone or a language, at most.
pub(super) const TAG_BYTES_MAX: usize = 64;
/// Bytes of why sending failed, at most.
const REASON_BYTES_MAX: usize = 512;
/// Failures that a registration may bring along, at most: it is a number people look at.
const FAILURES_MAX: u64 = u32::MAX as u64;

const FORM_FACTORS: [&str; 8] =
    ["phone", "tablet", "desktop", "tv", "car", "watch", "embedded", "other"];
const PLATFORMS: [&str; 8] =
    ["android", "ios", "browser", "windows", "macos", "watchos", "tvos", "other"];

/// Where WNS has its channels: whoever else was sent a message would get the package's access token with it. Source:
/// Microsoft's documentation, "Push notification service request and response headers".
const WNS_HOSTS: [&str; 2] = [".notify.windows.com", ".wns.windows.com"];

/// Reads a registration. `allow_private`: addresses on networks that are not public are no matter.
pub(super) fn device(body: Raw<'_>, app: &str, allow_private: bool) -> Result<Device, Refusal> {
    let members = Members::of_body(body)?;
    members.check_app(app)?;
    let id = members.must_id(&["id", "deviceId"], ID_BYTES_MAX)?;
    check_device(&id)?;
    let said = members.text(&["platform"])?.map(|it| it.to_ascii_lowercase());
    let push = members.any(&["push"]).map(|it| Members::of(it, "push", "push.")).transpose()?;
    let recipient = match push.as_ref().map(|it| it.any(&["recipient"])) {
        Some(Some(it)) => recipient(it, "push.recipient", allow_private)?,
        Some(None) => return Err(Refusal::invalid("push.recipient is missing")),
        None => of_token(&members, said.as_deref(), allow_private)?,
    };
    let word = |name: &str, given: Option<String>, words: &[&'static str], otherwise: &str| {
        let given = given.map_or_else(|| otherwise.to_owned(), |it| it.to_ascii_lowercase());
        let known = words.contains(&&*given);
        known.then_some(given).ok_or_else(|| members.wrong(name, one_of(words)))
    };
    let platform = match said {
        // The documentation says the provider there.
        Some(it) if !PLATFORMS.contains(&&*it) && Provider::parse(&it).is_some() => {
            platform_of(&recipient).to_owned()
        }
        said => word("platform", said, &PLATFORMS, platform_of(&recipient))?,
    };
    let form_factor = members.text(&["formFactor"])?;
    let form_factor = word("formFactor", form_factor, &FORM_FACTORS, "other")?;
    let tag = |name: &str| Ok(members.bounded(&[name], TAG_BYTES_MAX)?.unwrap_or_default());
    let (mut state, mut failures, mut error_reason) = (DeviceState::default(), 0, None);
    if let Some(push) = &push {
        if let Some(it) = push.text(&["state"])? {
            let found = DeviceState::parse(&it);
            state =
                found.ok_or_else(|| push.wrong("state", "is none of ACTIVE, FAILING, FAILED"))?;
        }
        failures = push.number(&["failureCount"])?.unwrap_or(0).min(FAILURES_MAX) as u32;
        error_reason = push.bounded(&["errorReason"], REASON_BYTES_MAX)?;
    }
    Ok(Device {
        client_id: members.id(&["clientId"], ID_BYTES_MAX)?,
        form_factor,
        platform,
        timezone: tag("timezone")?,
        locale: tag("locale")?,
        metadata: members.object(&["metadata"], METADATA_BYTES_MAX)?,
        recipient,
        state,
        failures,
        error_reason,
        last_active_at: members.number(&["lastActiveAtMs"])?.unwrap_or(0),
        rate: rate(&members)?,
        // The registry's affair.
        identity: None,
        created_at: 0,
        updated_at: 0,
        id,
    })
}

fn one_of(words: &[&str]) -> String {
    format!("is none of {}", words.join(", "))
}

/// Checks a device's id: outcomes of what is no device are told under `#` and a number.
fn check_device(id: &str) -> Result<(), Refusal> {
    match id.starts_with('#') {
        true => Err(Refusal::invalid("id begins with #")),
        false => Ok(()),
    }
}

fn rate(members: &Members<'_>) -> Result<Option<DeviceRate>, Refusal> {
    let Some(policy) = members.any(&["pushRatePolicy"]) else { return Ok(None) };
    let policy = Members::of(policy, "pushRatePolicy", "pushRatePolicy.")?;
    let count = |name: &str| {
        let found = policy.number(&[name])?.and_then(|it| u32::try_from(it).ok());
        let found = found.filter(|it| *it > 0);
        found.ok_or_else(|| policy.wrong(name, "is not a whole number from 1"))
    };
    let (capacity, refill_per_second) = (count("capacity")?, count("refillPerSecond")?);
    Ok(Some(DeviceRate { capacity, refill_per_second }))
}

/// What a device is if nothing is said but who serves it.
fn platform_of(recipient: &Recipient) -> &'static str {
    match recipient.provider() {
        Provider::Fcm | Provider::Hms => "android",
        Provider::Apns => "ios",
        Provider::WebPush => "browser",
        Provider::Wns => "windows",
        Provider::Realtime => "other",
    }
}

/// Who serves a device of which only the platform is said.
fn provider_of(platform: &str) -> Option<Provider> {
    match platform {
        "android" => Some(Provider::Fcm),
        "ios" | "macos" | "watchos" | "tvos" => Some(Provider::Apns),
        "browser" => Some(Provider::WebPush),
        "windows" => Some(Provider::Wns),
        other => Provider::parse(other),
    }
}

/// The recipient as the documentation says it: `platform`, or `provider`, and `provider_token`, which for Web Push is the
/// browser's subscription as it comes, as an object or as its text.
fn of_token(
    members: &Members<'_>,
    platform: Option<&str>,
    allow_private: bool,
) -> Result<Recipient, Refusal> {
    const TOKEN: &[&str] = &["providerToken", "token"];
    let Some(token) = members.any(TOKEN) else {
        return Err(Refusal::invalid("push.recipient, or provider_token, is missing"));
    };
    let provider = match members.provider(&["provider"])? {
        Some(it) => it,
        None => platform.and_then(provider_of).ok_or_else(|| {
            Refusal::invalid(
                "platform is missing, or none that says which provider the token is of",
            )
        })?,
    };
    if provider == Provider::WebPush {
        let text = token.as_str();
        let subscription = match &text {
            Some(text) => json::parse_str(text).map_err(|_| {
                Refusal::invalid("provider_token is not a browser's subscription as JSON")
            })?,
            None => token,
        };
        return web(
            &Members::of(subscription, "provider_token", "provider_token.")?,
            allow_private,
        );
    }
    let token = members.text(TOKEN)?.unwrap_or_default();
    let recipient = match provider {
        Provider::Fcm => Recipient::Fcm { token },
        Provider::Apns => Recipient::Apns { token },
        Provider::Hms => Recipient::Hms { token },
        Provider::Wns => Recipient::Wns { uri: token },
        Provider::Realtime | Provider::WebPush => Recipient::Realtime { channel: token },
    };
    check(recipient, "provider_token", allow_private)
}

/// Reads a recipient.
pub(super) fn recipient(
    value: Raw<'_>,
    what: &'static str,
    allow_private: bool,
) -> Result<Recipient, Refusal> {
    let members = Members::of(value, what, format!("{what}."))?;
    let kind = members.text(&["transportType", "provider"])?;
    let kind = kind.ok_or_else(|| members.wrong("transportType", "is missing"))?;
    let must = |name: &'static str, other: &'static str| {
        let found = members.text(&[name, other, "token", "providerToken"])?;
        found.ok_or_else(|| members.wrong(name, "is missing"))
    };
    let recipient = match &*kind {
        "gcm" | "fcm" => Recipient::Fcm { token: must("registrationToken", "deviceToken")? },
        "apns" => Recipient::Apns { token: must("deviceToken", "registrationToken")? },
        "apnsLiveActivity" | "apns_live_activity" => {
            Recipient::ApnsLiveActivity { token: must("activityToken", "deviceToken")? }
        }
        "apnsLiveActivityBroadcast" | "apns_live_activity_broadcast" => Recipient::ApnsBroadcast {
            channel_id: must("channelId", "channel")?,
            storage_policy: storage_policy(&members)?,
        },
        "web" | "webPush" | "webpush" | "web_push" => return web(&members, allow_private),
        "hms" => Recipient::Hms { token: must("registrationToken", "deviceToken")? },
        "wns" => Recipient::Wns { uri: must("channelUri", "uri")? },
        "realtime" => Recipient::Realtime { channel: must("channel", "channel")? },
        _ => {
            let why = "is none of gcm, apns, apnsLiveActivity, apnsLiveActivityBroadcast, web, hms, wns, realtime";
            return Err(members.wrong("transportType", why));
        }
    };
    check(recipient, what, allow_private)
}

/// Whether APNs keeps the newest message of a broadcast channel.
pub(super) fn storage_policy(members: &Members<'_>) -> Result<Option<u8>, Refusal> {
    const NAME: &[&str] = &["storagePolicy", "messageStoragePolicy"];
    match members.any(NAME).map(|it| (it.as_u64(), it.as_str())) {
        None => Ok(None),
        Some((Some(policy @ 0..=1), _)) => Ok(Some(policy as u8)),
        Some((_, Some(word))) if word == "noMessageStored" || word == "none" => Ok(Some(0)),
        Some((_, Some(word))) if word == "mostRecentMessageStored" || word == "latest" => {
            Ok(Some(1))
        }
        Some(_) => Err(members.wrong("storagePolicy", "is neither 0 nor 1")),
    }
}

/// A browser's subscription: with its keys beside the endpoint, or within `keys` as browsers write it.
fn web(members: &Members<'_>, allow_private: bool) -> Result<Recipient, Refusal> {
    let keys = members.any(&["keys"]).map(|it| Members::of(it, "keys", "keys.")).transpose()?;
    let key = |name: &'static str, bytes: usize| {
        let found = match &keys {
            Some(keys) => keys.text(&[name])?,
            None => members.text(&[name])?,
        };
        let found = found.ok_or_else(|| members.wrong(name, "is missing"))?;
        // Some libraries pad what browsers do not, or write the other alphabet.
        let plain = found.trim_end_matches('=').replace('+', "-").replace('/', "_");
        let decoded = base64::decode(plain.as_bytes(), Alphabet::Url);
        match decoded.filter(|it| it.len() == bytes) {
            Some(decoded) => Ok((plain, decoded)),
            None => Err(members.wrong(name, format_args!("is not {bytes} bytes in base64url"))),
        }
    };
    let endpoint = members.text(&["endpoint"])?;
    let endpoint = endpoint.ok_or_else(|| members.wrong("endpoint", "is missing"))?;
    check_url(&endpoint, allow_private).map_err(|why| members.wrong("endpoint", why))?;
    let ((p256dh, point), (auth, _)) = (key("p256dh", 65)?, key("auth", 16)?);
    // An uncompressed point (SEC 1, section 2.3.3). One beside the curve would only be refused when something is encrypted.
    if point.first() != Some(&4) || ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &point).is_err()
    {
        return Err(members.wrong("p256dh", "is not an uncompressed point of P-256"));
    }
    Ok(Recipient::Web { endpoint, p256dh, auth })
}

/// Checks what can be seen of a recipient from here.
fn check(recipient: Recipient, what: &str, allow_private: bool) -> Result<Recipient, Refusal> {
    let address = recipient.address();
    let wrong = |why: &str| Err(Refusal::invalid(format!("{what}: {why}")));
    if !(1..=ADDRESS_BYTES_MAX).contains(&address.len()) {
        return wrong(&format!("a token has 1 to {ADDRESS_BYTES_MAX} bytes"));
    }
    match &recipient {
        // It stands in the path of a request.
        Recipient::Apns { token } | Recipient::ApnsLiveActivity { token } => {
            let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:=".contains(&byte);
            if !token.bytes().all(is_safe) {
                return wrong("a device token of APNs has letters, digits, - _ . : = alone");
            }
        }
        Recipient::Fcm { token } | Recipient::Hms { token } => {
            if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                return wrong("a token has visible ASCII characters alone");
            }
        }
        // Base64, in the path or a header field of a request.
        Recipient::ApnsBroadcast { channel_id, .. } => {
            if !channel_id.bytes().all(|byte| byte.is_ascii_graphic()) {
                return wrong("channelId has visible ASCII characters alone");
            }
        }
        Recipient::Wns { uri } => {
            let host = check_url(uri, allow_private);
            let host = host.map_err(|why| Refusal::invalid(format!("{what}: channelUri {why}")))?;
            let host = host.to_ascii_lowercase();
            if !allow_private && !WNS_HOSTS.iter().any(|it| host.ends_with(it)) {
                return wrong("channelUri is not at notify.windows.com");
            }
        }
        Recipient::Realtime { channel } => {
            if let Err(why) = check_id(channel, ID_BYTES_MAX) {
                return wrong(&format!("channel {why}"));
            }
        }
        Recipient::Web { .. } => {}
    }
    Ok(recipient)
}

/// Checks an address that something is to be sent to; its host.
pub(super) fn check_url(url: &str, allow_private: bool) -> Result<&str, &'static str> {
    let rest = match url.strip_prefix("https://") {
        Some(rest) => rest,
        None if !allow_private => return Err("is not an https:// address"),
        None => url.strip_prefix("http://").ok_or("is not an https:// or http:// address")?,
    };
    if url.len() > ADDRESS_BYTES_MAX {
        return Err("is too long");
    }
    if !url.bytes().all(|byte| byte.is_ascii_graphic() && !b"#\\<>\"".contains(&byte)) {
        return Err("has characters that an address may not have");
    }
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err("has a user in it");
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(place) => place.split_once(']').ok_or("has no good host")?,
        None => match authority.find(':') {
            Some(at) => authority.split_at(at),
            None => (authority, ""),
        },
    };
    let is_port = |it: &str| it.parse::<u16>().is_ok_and(|port| port > 0);
    if host.is_empty()
        || host.contains('%')
        || !(port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
    {
        return Err("has no good host");
    }
    if !allow_private && is_private_host(host) {
        return Err("is on a private network (the setting push.allow_private)");
    }
    Ok(host)
}

/// Reads a subscription.
pub(super) fn subscribe(
    body: Raw<'_>,
    app: &str,
    registrar: Registrar,
    check_channel: impl Fn(&str) -> Result<(), Refusal>,
) -> Result<Order, Refusal> {
    let members = Members::of_body(body)?;
    members.check_app(app)?;
    let channel = members.whole(&["channel"])?;
    let channel = channel.ok_or_else(|| members.wrong("channel", "is missing"))?;
    check_channel(&channel)?;
    Ok(Order::Subscribe {
        channel,
        device_id: members.must_id(&["deviceId"], ID_BYTES_MAX)?,
        client_id: members.id(&["clientId"], ID_BYTES_MAX)?,
        provider: members.provider(&["provider"])?,
        token_hash: members.id(&["tokenHash"], ID_BYTES_MAX)?,
        credential_version: members.number(&["credentialVersion"])?,
        registrar,
    })
}

/// A parameter of a query, in either spelling: those of a signed query are in lower case.
pub(super) fn parameter<'q>(query: &'q Query<'_>, name: &str) -> Option<&'q str> {
    let found = query.value(&name.to_ascii_lowercase());
    found.or_else(|| query.value(&snake(name)))
}

/// A parameter that names something.
pub(super) fn named(query: &Query<'_>, name: &str) -> Result<Option<String>, Refusal> {
    let Some(text) = parameter(query, name) else { return Ok(None) };
    check_id(text, ID_BYTES_MAX).map_err(|why| Refusal::invalid(format!("{name} {why}")))?;
    Ok(Some(text.to_owned()))
}

/// A provider that a query names.
pub(super) fn provider(query: &Query<'_>) -> Result<Option<Provider>, Refusal> {
    let Some(text) = parameter(query, "provider") else { return Ok(None) };
    let found = Provider::parse(text);
    found
        .map(Some)
        .ok_or(Refusal::invalid("provider is none of fcm, apns, webPush, hms, wns, realtime"))
}

/// Which devices a query asks for.
pub(super) fn filter(query: &Query<'_>) -> Result<DeviceFilter, Refusal> {
    let mut filter = DeviceFilter {
        client_id: named(query, "clientId")?,
        device_id: named(query, "deviceId")?,
        platform: None,
        provider: provider(query)?,
        state: None,
    };
    if let Some(platform) = parameter(query, "platform") {
        match Provider::parse(platform) {
            Some(provider) => filter.provider = Some(provider),
            None if PLATFORMS.contains(&platform) => filter.platform = Some(platform.to_owned()),
            None => return Err(Refusal::invalid(format!("platform {}", one_of(&PLATFORMS)))),
        }
    }
    if let Some(state) = parameter(query, "state") {
        let found = DeviceState::parse(state);
        let wrong = || Refusal::invalid("state is none of ACTIVE, FAILING, FAILED");
        filter.state = Some(found.ok_or_else(wrong)?);
    }
    Ok(filter)
}

/// Whether a part of a value is an object; for who reads either an object or a list.
pub(super) fn is_object(value: Raw<'_>) -> bool {
    value.kind() == Kind::Object
}
