//! Huawei Mobile Services, Push Kit v1. Source: Huawei's documentation of `messages:send` and of its result codes.

use bytes::Bytes;

use super::form::{self, Object};
use super::{
    Access, Address, Answered, Delivered, Message, Parcel, ProviderUrls, Request, Speak, Verdict,
};
use crate::base::time::{Millis, Now};
use crate::push::Provider;
use crate::push::credential::Material;
use crate::push::device::Recipient;
use crate::wire::json::{self, Kind};

/// How long HMS keeps a message at most, in seconds.
const TTL_S_MAX: u64 = 15 * 86_400;
/// What opens the app when its notification is tapped.
const OPENS_APP: &str = r#"{"type":3}"#;
/// Members of a message that say whom it is for: we do.
const ADDRESSED: &[&str] = &["token", "topic", "condition"];

/// Speaks with HMS.
pub struct Hms;

/// Id and secret of an app.
fn app(material: &Material) -> Result<(&str, &str), String> {
    let Material::Hms { app_id, client_secret } = material else {
        return Err("these are no credentials for HMS".to_owned());
    };
    if app_id.is_empty() || !app_id.bytes().all(|it| it.is_ascii_alphanumeric()) {
        return Err("the app id is not one of digits and letters".to_owned());
    }
    if client_secret.is_empty() {
        return Err("there is no client secret".to_owned());
    }
    Ok((app_id, client_secret))
}

/// The same of a parcel.
fn app_of(parcel: &Parcel) -> Result<(&str, &str), Delivered> {
    let Some(credential) = &parcel.credential else {
        return Err(Delivered::not(Verdict::Unauthorized, "no credentials"));
    };
    app(&credential.material).map_err(|error| Delivered::not(Verdict::Unauthorized, error))
}

impl Speak for Hms {
    fn provider(&self) -> Provider {
        Provider::Hms
    }

    fn access(&self, parcel: &Parcel, urls: &ProviderUrls, _: Now) -> Result<Access, Delivered> {
        let (id, secret) = app_of(parcel)?;
        let exchange = form::exchange(
            &urls.hms_token,
            &[("grant_type", "client_credentials"), ("client_id", id), ("client_secret", secret)],
        );
        Ok(Access::Exchange(Box::new(exchange)))
    }

    fn realm(&self, _: &Parcel) -> String {
        String::new()
    }

    fn read_access(&self, answered: &Answered, now: Now) -> Result<(String, Millis), Delivered> {
        form::read_access(answered, now)
    }

    fn request(
        &self,
        parcel: &Parcel,
        access: &str,
        urls: &ProviderUrls,
        _: &[u8; 32],
        now: Now,
    ) -> Result<Request, Delivered> {
        let (id, _) = app_of(parcel)?;
        let Address::Recipient(Recipient::Hms { token }) = &parcel.address else {
            return Err(Delivered::not(Verdict::Refused, "this is no address of HMS"));
        };
        let (around, message) = match form::object(&parcel.message.raw) {
            Some(own) => match own.member("message").filter(|it| it.kind() == Kind::Object) {
                Some(message) => {
                    let around = form::copy(Object::new(), own, &["message"]);
                    (around, form::copy(Object::new(), message, ADDRESSED))
                }
                None => (Object::new(), form::copy(Object::new(), own, ADDRESSED)),
            },
            None => (Object::new(), message(&parcel.message, ttl(parcel.expires_at, now))),
        };
        let mut tokens = vec![b'['];
        json::write_str(&mut tokens, token);
        tokens.push(b']');
        let tokens = String::from_utf8(tokens).unwrap_or_default();
        let body = around.object("message", message.raw("token", &tokens)).end();
        Ok(Request {
            method: "POST",
            url: format!("{}/v1/{id}/messages:send", urls.hms),
            fields: vec![
                ("authorization", access.to_owned()),
                ("content-type", "application/json; charset=utf-8".to_owned()),
            ],
            body: Bytes::from(body),
            is_http2: false,
        })
    }

    fn read(&self, answered: &Answered, now: Now) -> Delivered {
        let status = answered.status;
        let answer = json::parse(&answered.body).ok();
        let text = |name| {
            let value = answer.and_then(|it| it.member(name));
            value.and_then(|it| Some(it.as_str()?.into_owned()))
        };
        let code = answer.and_then(|it| it.member("code"));
        let code = code.and_then(|it| it.as_u64().or_else(|| it.as_str()?.parse().ok()));
        let verdict = match (code, status) {
            (Some(80_000_000), _) => Verdict::Taken,
            (Some(code), _) => verdict_of(code, status),
            (None, _) => verdict_without(status),
        };
        let delivered = match verdict {
            Verdict::Taken => Delivered::taken(form::message_id(text("requestId").as_deref())),
            _ => {
                let reason = match (code, text("msg")) {
                    (Some(code), Some(said)) => form::cut(&format!("{code}: {said}")),
                    _ => form::said(answered),
                };
                Delivered::not(verdict, reason)
            }
        };
        Delivered { retry_after: answered.pause(now), ..delivered.with_status(status) }
    }

    fn check(&self, material: &Material) -> Result<(), String> {
        app(material).map(|_| ())
    }

    fn rendered(&self, message: &Message) -> String {
        Object::new().object("message", self::message(message, None)).end()
    }
}

/// What a result code means.
fn verdict_of(code: u64, status: u16) -> Verdict {
    match code {
        // Of the tokens some, or all, are none; there was one. It says so of a token of another app, too.
        80_100_000 | 80_300_007 => Verdict::Unfit,
        // Access that is none, or no more; an app that may not.
        80_200_001 | 80_200_003 | 80_300_002 => Verdict::Unauthorized,
        // It could not ask whether we may, or had an error within.
        80_600_003 | 81_000_001 => Verdict::Unavailable,
        _ => match verdict_without(status) {
            Verdict::Taken => Verdict::Refused,
            verdict => verdict,
        },
    }
}

/// What a status means that no known code comes with.
fn verdict_without(status: u16) -> Verdict {
    match status {
        // Without a code nobody said that it is taken; it may be.
        200..=299 => Verdict::Taken,
        401 | 403 => Verdict::Unauthorized,
        // The second is how HMS says that there is too much.
        429 | 503 => Verdict::Throttled,
        408 | 500..=599 => Verdict::Unavailable,
        _ => Verdict::Refused,
    }
}

/// How long HMS keeps a message, in seconds.
fn ttl(expires_at: Option<u64>, now: Now) -> Option<u64> {
    // It takes none below one second.
    expires_at.map(|at| (at.saturating_sub(now.wall.0) / 1000).clamp(1, TTL_S_MAX))
}

/// A message without whom it is for. What is for the application is a text there, which the application reads.
fn message(message: &Message, ttl: Option<u64>) -> Object {
    let text = &message.text;
    let notification = Object::new()
        .optional("title", text.title.as_deref())
        .optional("body", text.body.as_deref())
        .optional("image", text.icon.as_deref());
    let is_shown = text.title.is_some() || text.body.is_some();
    let shown = match is_shown {
        true => Object::new()
            .raw("click_action", OPENS_APP)
            .optional("sound", text.sound.as_deref())
            .optional("tag", text.collapse_key.as_deref()),
        false => Object::new(),
    };
    let ttl = ttl.map(|seconds| format!("{seconds}s"));
    let android = Object::new().optional("ttl", ttl.as_deref()).object("notification", shown);
    let data = Some(message.data.as_str()).filter(|it| !it.is_empty());
    Object::new()
        .object("notification", notification)
        .optional("data", data)
        .object("android", android)
}

#[cfg(test)]
#[path = "hms_tests.rs"]
mod tests;
