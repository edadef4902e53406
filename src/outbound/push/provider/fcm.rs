//! Firebase Cloud Messaging, HTTP v1. Source: Google's documentation of `projects.messages` and of service accounts
//! (RFC 7523).

use std::borrow::Cow;

use bytes::Bytes;

use super::form::{self, Object};
use super::sign::Signer;
use super::{
    Access, Address, Answered, Delivered, Message, Parcel, ProviderUrls, Request, Speak, Verdict,
};
use crate::base::time::{Millis, Now};
use crate::push::Provider;
use crate::push::credential::Material;
use crate::push::device::Recipient;
use crate::wire::json::{self, Raw};

const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";
const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const TOKEN_URL: &str = "https://oauth2.googleapis.com/token";
/// How long an assertion is good, in seconds. Source: at most an hour by Google's documentation.
const ASSERTION_LASTS_S: u64 = 3600;
/// How long FCM keeps a message at most, in seconds.
const TTL_S_MAX: u64 = 28 * 86_400;
/// How long FCM is left alone when it does not say. Source: Google's documentation of error codes.
const PAUSE: Millis = Millis(60_000);
/// Members of a message that say whom it is for: we do.
const ADDRESSED: &[&str] = &["token", "topic", "condition", "fid"];

/// Speaks with FCM.
pub struct Fcm;

/// What is needed of a service account.
struct Account<'a> {
    project: Cow<'a, str>,
    email: Cow<'a, str>,
    key: Cow<'a, str>,
    key_id: Option<Cow<'a, str>>,
    token_url: Cow<'a, str>,
}

impl<'a> Account<'a> {
    fn read(material: &'a Material) -> Result<Self, String> {
        let Material::Fcm { service_account } = material else {
            return Err("these are no credentials for FCM".to_owned());
        };
        let object = form::object(service_account);
        let object = object.ok_or("the service account is no JSON object")?;
        let text = |name: &str| {
            object.member(name).and_then(Raw::as_str).filter(|it: &Cow<'_, str>| !it.is_empty())
        };
        let needed =
            |name: &str| text(name).ok_or_else(|| format!("the service account has no {name}"));
        let project = needed("project_id")?;
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
        if !project.bytes().all(is_part) {
            return Err("the service account's project_id is none".to_owned());
        }
        let token_url = text("token_uri").unwrap_or(TOKEN_URL.into());
        if form::origin(&token_url).is_none() {
            return Err("the service account's token_uri is no address".to_owned());
        }
        Ok(Self {
            project,
            email: needed("client_email")?,
            key: needed("private_key")?,
            key_id: text("private_key_id"),
            token_url,
        })
    }

    fn signer(&self) -> Result<Signer, String> {
        Signer::rsa(&self.key)
            .map_err(|error| format!("the service account's private_key: {error}"))
    }

    /// The request that is answered with an access token. Source: RFC 7523, section 2.1.
    fn exchange(&self, now: Now) -> Result<Request, String> {
        let head = Object::new().text("alg", "RS256").text("typ", "JWT");
        let head = head.optional("kid", self.key_id.as_deref()).end();
        let from = now.wall.seconds();
        let claims = Object::new()
            .text("iss", &self.email)
            .text("scope", SCOPE)
            .text("aud", &self.token_url)
            .raw("iat", &from.to_string())
            .raw("exp", &(from + ASSERTION_LASTS_S).to_string())
            .end();
        let assertion = self.signer()?.token(&head, &claims).ok_or("cannot sign")?;
        Ok(form::exchange(&self.token_url, &[("grant_type", GRANT), ("assertion", &assertion)]))
    }
}

/// The service account of a parcel.
fn account(parcel: &Parcel) -> Result<Account<'_>, Delivered> {
    let Some(credential) = &parcel.credential else {
        return Err(Delivered::not(Verdict::Unauthorized, "no credentials"));
    };
    Account::read(&credential.material)
        .map_err(|error| Delivered::not(Verdict::Unauthorized, error))
}

impl Speak for Fcm {
    fn provider(&self) -> Provider {
        Provider::Fcm
    }

    fn access(&self, parcel: &Parcel, _: &ProviderUrls, now: Now) -> Result<Access, Delivered> {
        let exchange = account(parcel)?.exchange(now);
        let exchange = exchange.map_err(|error| Delivered::not(Verdict::Unauthorized, error))?;
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
        let account = account(parcel)?;
        let (name, value) = match &parcel.address {
            Address::Recipient(Recipient::Fcm { token }) => ("token", token.as_str()),
            Address::Topic(topic) => ("topic", topic.trim_start_matches("/topics/")),
            Address::Condition(condition) => ("condition", condition.as_str()),
            Address::Recipient(_) => {
                return Err(Delivered::not(Verdict::Refused, "this is no address of FCM"));
            }
        };
        let (around, message) = match form::object(&parcel.message.raw) {
            Some(own) => match own.member("message").filter(|it| it.kind() == json::Kind::Object) {
                Some(message) => {
                    let around = form::copy(Object::new(), own, &["message"]);
                    (around, form::copy(Object::new(), message, ADDRESSED))
                }
                None => (Object::new(), form::copy(Object::new(), own, ADDRESSED)),
            },
            None => (Object::new(), message(&parcel.message, ttl(parcel.expires_at, now))),
        };
        let body = around.object("message", message.text(name, value)).end();
        Ok(Request {
            method: "POST",
            url: format!("{}/v1/projects/{}/messages:send", urls.fcm, account.project),
            fields: vec![
                ("authorization", access.to_owned()),
                ("content-type", "application/json".to_owned()),
            ],
            body: Bytes::from(body),
            is_http2: false,
        })
    }

    fn read(&self, answered: &Answered, now: Now) -> Delivered {
        let status = answered.status;
        let answer = json::parse(&answered.body).ok();
        if let 200..=299 = status {
            let name = answer.and_then(|it| it.member("name")?.as_str());
            return Delivered::taken(form::message_id(name.as_deref())).with_status(status);
        }
        let fault = Fault::read(answer);
        let verdict = fault.verdict(status);
        let reason = fault.reason().unwrap_or_else(|| form::said(answered));
        let pause = answered.pause(now);
        let retry_after = match verdict {
            Verdict::Throttled => pause.or(Some(PAUSE)),
            _ => pause,
        };
        Delivered { retry_after, ..Delivered::not(verdict, reason).with_status(status) }
    }

    fn check(&self, material: &Material) -> Result<(), String> {
        Account::read(material)?.signer().map(|_| ())
    }

    fn rendered(&self, message: &Message) -> String {
        Object::new().object("message", self::message(message, None)).end()
    }
}

/// How long FCM keeps a message, in seconds.
fn ttl(expires_at: Option<u64>, now: Now) -> Option<u64> {
    expires_at.map(|at| (at.saturating_sub(now.wall.0) / 1000).min(TTL_S_MAX))
}

/// A message without whom it is for.
fn message(message: &Message, ttl: Option<u64>) -> Object {
    let text = &message.text;
    let notification = Object::new()
        .optional("title", text.title.as_deref())
        .optional("body", text.body.as_deref())
        .optional("image", text.icon.as_deref());
    let shown = Object::new().optional("sound", text.sound.as_deref());
    let ttl = ttl.map(|seconds| format!("{seconds}s"));
    let android = Object::new()
        .optional("collapse_key", text.collapse_key.as_deref())
        .optional("ttl", ttl.as_deref())
        .object("notification", shown);
    Object::new()
        .object("notification", notification)
        .object("data", form::texts(&message.data))
        .object("android", android)
}

/// What an error says. Source: Google's documentation of `ErrorCode`, and of `google.rpc.Status`.
#[derive(Default)]
struct Fault<'a> {
    /// FCM's own word for it.
    code: Option<Cow<'a, str>>,
    /// Google's.
    status: Option<Cow<'a, str>>,
    message: Option<Cow<'a, str>>,
    /// It is the token that is none.
    is_token: bool,
    /// It is one device that had too many.
    is_of_device: bool,
}

impl<'a> Fault<'a> {
    fn read(answer: Option<Raw<'a>>) -> Self {
        let Some(error) = answer.and_then(|it| it.member("error")) else { return Self::default() };
        let text = |of: Raw<'a>, name| of.member(name).and_then(Raw::as_str);
        let (status, message) = (text(error, "status"), text(error, "message"));
        let mut fault = Self { status, message, ..Self::default() };
        for detail in error.member("details").into_iter().flat_map(Raw::items) {
            fault.code = fault.code.take().or(text(detail, "errorCode"));
            let violations = ["fieldViolations", "violations"];
            let violations = violations.into_iter().filter_map(|name| detail.member(name));
            for violation in violations.flat_map(Raw::items) {
                fault.is_token |= text(violation, "field").is_some_and(|it| it == "message.token");
                let subject = text(violation, "subject").unwrap_or_default();
                fault.is_of_device |= subject.to_ascii_lowercase().contains("device");
            }
        }
        let message = fault.message.as_deref().unwrap_or_default();
        fault.is_token |= message.contains("not a valid FCM registration token");
        fault
    }

    fn verdict(&self, status: u16) -> Verdict {
        let code = self.code.as_deref().or(self.status.as_deref()).unwrap_or_default();
        match (code, status) {
            ("UNREGISTERED", _) => Verdict::Gone,
            ("INVALID_ARGUMENT", _) if self.is_token => Verdict::Unfit,
            // Somebody else's device: of a project whose credentials were changed for another's all of them are.
            ("SENDER_ID_MISMATCH", _) => Verdict::Unfit,
            ("INVALID_ARGUMENT", _) => Verdict::Refused,
            // About the certificate for devices of Apple or of browsers: others are well.
            ("THIRD_PARTY_AUTH_ERROR", _) => Verdict::Refused,
            ("QUOTA_EXCEEDED" | "RESOURCE_EXHAUSTED", _) if self.is_of_device => {
                Verdict::Unavailable
            }
            ("QUOTA_EXCEEDED" | "RESOURCE_EXHAUSTED", _) | (_, 429) => Verdict::Throttled,
            ("UNAVAILABLE" | "INTERNAL", _) | (_, 408 | 500..=599) => Verdict::Unavailable,
            (_, 401 | 403) => Verdict::Unauthorized,
            _ => Verdict::Refused,
        }
    }

    fn reason(&self) -> Option<String> {
        let code = self.code.as_deref().or(self.status.as_deref());
        match (code, self.message.as_deref()) {
            (Some(code), Some(message)) => Some(form::cut(&format!("{code}: {message}"))),
            (code, message) => code.or(message).map(form::cut),
        }
    }
}

#[cfg(test)]
#[path = "fcm_tests.rs"]
mod tests;
