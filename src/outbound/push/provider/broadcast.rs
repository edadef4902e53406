//! Broadcast channels of Live Activities at APNs: made, listed, looked at, removed. Nothing of them is kept here. Source:
//! Apple's documentation, "Sending channel management requests to APNs".

use bytes::Bytes;

use super::form::Object;
use super::{Access, Answered};
use super::{ProviderUrls, Request, apns};
use crate::base::time::Now;
use crate::outbound::push::courier::BroadcastWhat;
use crate::push::credential::Material;
use crate::push::order::{Broadcast, Refused, Told};
use crate::wire::json::{self, Raw};

/// Channels of one list, at most: APNs has no more of one app.
const LISTED_MAX: usize = 10_000;
/// Bytes of a channel's id.
const ID_BYTES_MAX: usize = 4096;

/// How this material lets one in.
pub fn access(material: &Material, now: Now) -> Result<Access, Refused> {
    apns::topic_of(material).map_err(|_| Refused::invalid("these are no credentials for APNs"))?;
    apns::access(material, now).map_err(Refused::invalid)
}

/// The request that asks.
pub fn request(
    what: &BroadcastWhat,
    material: &Material,
    access: &str,
    urls: &ProviderUrls,
    chance: &[u8; 32],
) -> Result<Request, Refused> {
    let said = apns::topic_of(material);
    let (topic, is_sandbox) =
        said.map_err(|_| Refused::invalid("these are no credentials for APNs"))?;
    if !apns::is_bundle(topic) {
        return Err(Refused::invalid("the credentials for APNs have no topic"));
    }
    let server = if is_sandbox { &urls.apns_channels_sandbox } else { &urls.apns_channels };
    let (method, resource, channel, body) = match what {
        BroadcastWhat::Create(policy) => {
            let body = Object::new()
                .raw("message-storage-policy", &policy.to_string())
                .text("push-type", "LiveActivity");
            ("POST", "channels", None, Bytes::from(body.end()))
        }
        BroadcastWhat::List => ("GET", "all-channels", None, Bytes::new()),
        BroadcastWhat::Read(id) => ("GET", "channels", Some(id), Bytes::new()),
        BroadcastWhat::Remove(id) => ("DELETE", "channels", Some(id), Bytes::new()),
    };
    let mut fields = vec![
        ("content-type", "application/json".to_owned()),
        ("apns-request-id", apns::uuid(chance)),
    ];
    if !access.is_empty() {
        fields.push(("authorization", access.to_owned()));
    }
    if let Some(id) = channel {
        let is_one = id.len() <= ID_BYTES_MAX && id.bytes().all(|it| it.is_ascii_graphic());
        if id.is_empty() || !is_one {
            return Err(Refused::invalid("this is no id of a broadcast channel"));
        }
        fields.push(("apns-channel-id", id.clone()));
    }
    let url = format!("{server}/1/apps/{topic}/{resource}");
    Ok(Request { method, url, fields, body, is_http2: true })
}

/// What an answer says.
pub fn read(what: &BroadcastWhat, answered: &Answered, now: Now) -> Result<Told, Refused> {
    if !(200..=299).contains(&answered.status) {
        return Err(refused(answered, now));
    }
    let body = json::parse(&answered.body).ok();
    let member = |name| body.and_then(|it| it.member(name));
    let unread = || Refused::new(502, "provider_error", "APNs' answer makes no sense");
    match what {
        BroadcastWhat::Create(policy) => {
            let channel_id = answered.field("apns-channel-id").ok_or_else(unread)?.to_owned();
            Ok(Told::Broadcast(Broadcast { channel_id, storage_policy: Some(*policy) }))
        }
        BroadcastWhat::Read(id) => {
            let policy = member("message-storage-policy").and_then(Raw::as_u64);
            let policy = policy.and_then(|it| u8::try_from(it).ok());
            Ok(Told::Broadcast(Broadcast { channel_id: id.clone(), storage_policy: policy }))
        }
        BroadcastWhat::List => {
            let channels = member("channels").ok_or_else(unread)?;
            let ids = channels.items().take(LISTED_MAX).filter_map(Raw::as_str);
            let one = |id: std::borrow::Cow<'_, str>| Broadcast {
                channel_id: id.into_owned(),
                storage_policy: None,
            };
            Ok(Told::Broadcasts(ids.map(one).collect()))
        }
        BroadcastWhat::Remove(_) => Ok(Told::Removed(1)),
    }
}

/// Whether an answer says that a newer token may be let in where this one was not.
pub fn is_stale(answered: &Answered) -> bool {
    apns::reason_of(answered).as_deref() == Some("ExpiredProviderToken")
}

fn refused(answered: &Answered, now: Now) -> Refused {
    let reason = apns::reason_of(answered).unwrap_or_default();
    let text = format!("APNs says {} {reason}", answered.status);
    let refused = match (answered.status, &*reason) {
        (404, _) | (_, "ChannelNotRegistered") => Refused::unknown(text),
        (401 | 403, _) => Refused::new(502, "provider_unauthorized", text),
        (429, _) => Refused::new(429, "rate_limited", text),
        (500..=599, _) => Refused::unavailable(text),
        _ => Refused::invalid(text),
    };
    let pause = answered.pause(now).map(|it| it.0);
    Refused { retry_after: pause.or(refused.retry_after), ..refused }
}

#[cfg(test)]
#[path = "broadcast_tests.rs"]
mod tests;
