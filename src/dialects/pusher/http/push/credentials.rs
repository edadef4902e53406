//! Providers' credentials and callbacks, as bodies say them.

use super::devices::ID_BYTES_MAX;
use super::members::Members;
use crate::dialects::api::Refusal;
use crate::push::Provider;
use crate::push::credential::{DEFAULT_ID, Material};
use crate::push::order::Order;
use crate::push::publish::Fate;
use crate::wire::json::{Kind, Raw};

/// Bytes of a secret part, at most: a certificate with its chain.
const SECRET_BYTES_MAX: usize = 65_536;
/// Bytes of a part that is no secret, at most.
const PART_BYTES_MAX: usize = 1024;
/// Bytes of why a device was not reached, at most.
const REASON_BYTES_MAX: usize = 512;

/// Reads credentials for a provider.
pub(super) fn put(body: Raw<'_>, provider: Provider, app: &str) -> Result<Order, Refusal> {
    let members = Members::of_body(body)?;
    if provider != Provider::Hms {
        members.check_app(app)?;
    }
    let part = |name: &'static str, bytes_max: usize| {
        let found = members.bounded(&[name], bytes_max)?.filter(|it| !it.is_empty());
        found.ok_or_else(|| members.wrong(name, "is missing"))
    };
    let material = match provider {
        Provider::Fcm => Material::Fcm { service_account: service_account(&members)? },
        Provider::Apns => apns(&members)?,
        Provider::WebPush => Material::WebPush {
            public_key: part("publicKey", PART_BYTES_MAX)?,
            private_key: part("privateKey", PART_BYTES_MAX)?,
            subject: subject(&members)?,
        },
        Provider::Hms => Material::Hms {
            app_id: part("hmsAppId", PART_BYTES_MAX)?,
            client_secret: part("clientSecret", PART_BYTES_MAX)?,
        },
        Provider::Wns => Material::Wns {
            package_sid: part("packageSid", PART_BYTES_MAX)?,
            client_secret: part("clientSecret", PART_BYTES_MAX)?,
        },
        Provider::Realtime => return Err(Refusal::invalid("realtime needs no credentials")),
    };
    let id = members.id(&["credentialId"], ID_BYTES_MAX)?;
    Ok(Order::PutCredential {
        id: id.unwrap_or_else(|| DEFAULT_ID.to_owned()),
        version: members.number(&["version"])?,
        material: Box::new(material),
    })
}

/// The file of a service account: as an object, or as its text.
fn service_account(members: &Members<'_>) -> Result<String, Refusal> {
    const NAME: &[&str] = &["serviceAccountJson", "serviceAccount"];
    let value = members.any(NAME);
    let value = value.ok_or_else(|| members.wrong(NAME[0], "is missing"))?;
    match value.kind() {
        Kind::Object => members.sized(NAME[0], value, SECRET_BYTES_MAX),
        Kind::String => Ok(members.bounded(NAME, SECRET_BYTES_MAX)?.unwrap_or_default()),
        _ => Err(members.wrong(NAME[0], "is neither an object nor its text")),
    }
}

fn apns(members: &Members<'_>) -> Result<Material, Refusal> {
    let topic = members.bounded(&["topic", "bundleId"], PART_BYTES_MAX)?.unwrap_or_default();
    let is_sandbox = match members.text(&["environment"])?.as_deref() {
        None => members.switch(&["sandbox", "isSandbox"])?,
        Some("sandbox" | "development") => true,
        Some("production") => false,
        Some(_) => return Err(members.wrong("environment", "is neither sandbox nor production")),
    };
    if let Some(p12) = members.bounded(&["p12"], SECRET_BYTES_MAX)? {
        let password = members.bounded(&["p12Password"], PART_BYTES_MAX)?.unwrap_or_default();
        return Ok(Material::ApnsCertificate { p12, password, topic, is_sandbox });
    }
    let key = members.bounded(&["privateKey", "pem"], SECRET_BYTES_MAX)?;
    Ok(Material::ApnsToken {
        private_key: key.ok_or_else(|| members.wrong("privateKey", "or p12 is missing"))?,
        team_id: members.must_id(&["teamId"], PART_BYTES_MAX)?,
        key_id: members.must_id(&["keyId"], PART_BYTES_MAX)?,
        topic,
        is_sandbox,
    })
}

/// Whom a push service may write to (RFC 8292, section 2.1).
fn subject(members: &Members<'_>) -> Result<String, Refusal> {
    let subject = members.bounded(&["subject"], PART_BYTES_MAX)?.unwrap_or_default();
    let is_good = subject.starts_with("mailto:") || subject.starts_with("https://");
    match subject.is_empty() || is_good {
        true => Ok(subject),
        false => Err(members.wrong("subject", "is neither a mailto: nor an https:// address")),
    }
}

/// Reads what a provider or a worker says of one device of a publish; none: it says nothing that is final.
pub(super) fn feedback(body: Raw<'_>, app: &str) -> Result<Option<Order>, Refusal> {
    let event = Members::of_body(body)?;
    event.check_app(app)?;
    let result =
        event.any(&["result"]).map(|it| Members::of(it, "result", "result.")).transpose()?;
    let result = result.as_ref().unwrap_or(&event);
    let publish_id = match result.id(&["publishId"], ID_BYTES_MAX)? {
        Some(id) => id,
        None => event.must_id(&["publishId"], ID_BYTES_MAX)?,
    };
    let outcome = result.text(&["outcome", "status"])?;
    let outcome = outcome.ok_or_else(|| result.wrong("outcome", "is missing"))?;
    // It comes again, or nothing was to come of it.
    if matches!(&*outcome, "retryable" | "cancelled") {
        return Ok(None);
    }
    let fate = match Fate::parse(&outcome) {
        Some(Fate::Connected | Fate::Skipped | Fate::DeadLettered) | None => {
            let why = "is none of accepted, delivered, rejected, failed, expired, gone, retryable, cancelled";
            return Err(result.wrong("outcome", why));
        }
        Some(fate) => fate,
    };
    let error = result.any(&["error"]).map(|it| Members::of(it, "error", "error.")).transpose()?;
    let reason = match &error {
        Some(error) => error.bounded(&["reason", "class"], REASON_BYTES_MAX)?,
        None => result.bounded(&["reason"], REASON_BYTES_MAX)?,
    };
    Ok(Some(Order::Feedback {
        publish_id,
        key: result.must_id(&["deviceId"], ID_BYTES_MAX)?,
        fate,
        message_id: result.bounded(&["providerMessageId", "messageId"], REASON_BYTES_MAX)?,
        reason,
    }))
}
