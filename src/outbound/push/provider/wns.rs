//! Windows Push Notification Services. Source: Microsoft's documentation, "Push notification service request and response
//! headers", "How to authenticate with WNS", "Toast schema".

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::form::{self, Object};
use super::sign;
use super::{
    Access, Address, Answered, Delivered, Message, Parcel, ProviderUrls, Request, Speak, Verdict,
};
use crate::base::time::{Millis, Now};
use crate::push::Provider;
use crate::push::credential::Material;
use crate::push::device::Recipient;
use crate::wire::json::{Kind, Raw};

/// What access is asked for.
const SCOPE: &str = "notify.windows.com";
/// Where channels are. Whoever sends elsewhere gives an access token away: a device may say any URI.
const HOSTS: &[&str] = &[".notify.windows.com", ".wns.windows.com"];
/// Bytes of a message.
const BODY_MAX: usize = 5000;
/// Characters of what says that a later message takes an earlier one's place.
const TAG_MAX: usize = 16;
/// Texts of a toast that are shown.
const TEXTS_MAX: usize = 4;

/// Speaks with WNS.
pub struct Wns;

/// One kind of message with its content.
#[derive(Debug, PartialEq, Eq)]
struct Body {
    kind: &'static str,
    content: String,
}

impl Body {
    fn toast(content: String) -> Self {
        Self { kind: "toast", content }
    }

    fn raw(content: String) -> Self {
        Self { kind: "raw", content }
    }
}

/// Who asks, and the secret.
fn package(material: &Material) -> Result<(&str, &str), String> {
    match material {
        Material::Wns { package_sid, .. } if package_sid.is_empty() => {
            Err("there is no package SID".to_owned())
        }
        Material::Wns { client_secret, .. } if client_secret.is_empty() => {
            Err("there is no client secret".to_owned())
        }
        Material::Wns { package_sid, client_secret } => Ok((package_sid, client_secret)),
        _ => Err("these are no credentials for WNS".to_owned()),
    }
}

impl Speak for Wns {
    fn provider(&self) -> Provider {
        Provider::Wns
    }

    fn access(&self, parcel: &Parcel, urls: &ProviderUrls, _: Now) -> Result<Access, Delivered> {
        let unauthorized = |why: &str| Delivered::not(Verdict::Unauthorized, why);
        let credential =
            parcel.credential.as_ref().ok_or_else(|| unauthorized("no credentials"))?;
        let (sid, secret) = package(&credential.material).map_err(|why| unauthorized(&why))?;
        let exchange = form::exchange(
            &urls.wns_token,
            &[
                ("grant_type", "client_credentials"),
                ("client_id", sid),
                ("client_secret", secret),
                ("scope", SCOPE),
            ],
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
        let refused = |reason: &str| Delivered::not(Verdict::Refused, reason);
        let Address::Recipient(Recipient::Wns { uri }) = &parcel.address else {
            return Err(refused("this is no address of WNS"));
        };
        if !is_channel(uri, urls) {
            return Err(refused("this is no channel URI of WNS"));
        }
        let Body { kind, content } = body(&parcel.message).map_err(refused)?;
        if content.len() > BODY_MAX {
            return Err(refused("payload_too_large"));
        }
        let content_type = if kind == "raw" { "application/octet-stream" } else { "text/xml" };
        let mut fields = vec![
            ("authorization", access.to_owned()),
            ("content-type", content_type.to_owned()),
            // Kept for a device that is not reachable now.
            ("x-wns-cache-policy", "cache".to_owned()),
            ("x-wns-type", format!("wns/{kind}")),
        ];
        if let Some(at) = parcel.expires_at {
            let seconds = (at.saturating_sub(now.wall.0) / 1000).max(1);
            fields.push(("x-wns-ttl", seconds.to_string()));
        }
        if let Some(key) = parcel.message.text.collapse_key.as_deref().filter(|_| kind != "raw") {
            fields.push(("x-wns-tag", tag(key)));
        }
        let body = Bytes::from(content);
        Ok(Request { method: "POST", url: uri.clone(), fields, body, is_http2: false })
    }

    fn read(&self, answered: &Answered, now: Now) -> Delivered {
        let status = answered.status;
        let said = answered.field("x-wns-status");
        let verdict = match (status, said) {
            (200, Some("dropped")) => Verdict::Refused,
            // This channel had too many; all others are well.
            (200, Some("channelthrottled")) => Verdict::Unavailable,
            (200..=202, _) => {
                let id = answered.field("x-wns-msg-id").map(str::to_owned);
                return Delivered::taken(id).with_status(status);
            }
            (401, _) => Verdict::Unauthorized,
            (404 | 410, _) => Verdict::Gone,
            (406 | 429, _) => Verdict::Throttled,
            (408 | 500..=599, _) => Verdict::Unavailable,
            // Among them 403: the channel is that of another package.
            _ => Verdict::Refused,
        };
        let reason = answered.field("x-wns-error-description").or(said);
        let reason = reason.map_or_else(|| form::said(answered), form::cut);
        Delivered {
            retry_after: answered.pause(now),
            ..Delivered::not(verdict, reason).with_status(status)
        }
    }

    fn check(&self, material: &Material) -> Result<(), String> {
        package(material).map(|_| ())
    }

    fn rendered(&self, message: &Message) -> String {
        let Body { kind, content } = shown(message);
        let out = Object::new().text("type", kind);
        match kind {
            "raw" => out.raw("data", if content.is_empty() { "{}" } else { &content }).end(),
            _ => out.text("xml", &content).end(),
        }
    }
}

/// Whether this is where WNS takes messages: on its own hosts, over TLS, or where the settings put the whole of it.
fn is_channel(uri: &str, urls: &ProviderUrls) -> bool {
    let Some(origin) = form::origin(uri) else { return false };
    let is_own = origin
        .strip_prefix("https://")
        .is_some_and(|host| !host.contains(':') && HOSTS.iter().any(|end| host.ends_with(end)));
    let is_moved = urls.wns_token != ProviderUrls::real().wns_token;
    is_own || is_moved && form::origin(&urls.wns_token).is_some_and(|it| it == origin)
}

/// What is sent: an override, or the message in WNS' words. Fails, in words, for an override that is nothing WNS takes.
fn body(message: &Message) -> Result<Body, &'static str> {
    let Some(own) = form::object(&message.raw) else { return Ok(shown(message)) };
    let text = |name: &str| own.member(name).and_then(Raw::as_str).map(|it| it.into_owned());
    let kind = match text("type").as_deref() {
        None | Some("toast" | "wns/toast") => "toast",
        Some("tile" | "wns/tile") => "tile",
        Some("badge" | "wns/badge") => "badge",
        Some("raw" | "wns/raw") => "raw",
        Some(_) => return Err("WNS has no such type"),
    };
    if kind == "raw" {
        let data = own.member("data").map(|it| match it.as_str() {
            Some(text) => text.into_owned(),
            None => it.text().to_owned(),
        });
        let whole = || form::copy(Object::new(), own, &["type"]).end();
        return Ok(Body::raw(data.unwrap_or_else(whole)));
    }
    if let Some(content) = text("xml") {
        return Ok(Body { kind, content });
    }
    match own.member("toast") {
        Some(toast) if kind == "toast" => Ok(Body::toast(toast_of(toast, own.member("data")))),
        _ => Err("an override for WNS has a member xml, or toast, or is raw"),
    }
}

/// A message in WNS' words; one that shows nothing is for the application.
fn shown(message: &Message) -> Body {
    let text = &message.text;
    let texts: Vec<_> = text.title.iter().chain(&text.body).map(String::as_str).collect();
    if texts.is_empty() {
        return Body::raw(message.data.clone());
    }
    let (icon, sound) = (text.icon.as_deref(), text.sound.as_deref());
    Body::toast(toast("ToastGeneric", &texts, icon, sound, &message.data))
}

/// A toast as Sockudo's overrides say one: `visual.binding` with `template`, `text`, `image`, and `audio.src`.
fn toast_of(toast_said: Raw<'_>, data: Option<Raw<'_>>) -> String {
    let binding = toast_said.member("visual").and_then(|it| it.member("binding"));
    let member = |name: &str| binding.and_then(|it| it.member(name));
    let template = member("template").and_then(Raw::as_str);
    let texts: Vec<_> = match member("text") {
        Some(one) if one.kind() == Kind::String => one.as_str().into_iter().collect(),
        Some(several) => several.items().filter_map(Raw::as_str).take(TEXTS_MAX).collect(),
        None => Vec::new(),
    };
    let texts: Vec<&str> = texts.iter().map(|it| &**it).collect();
    let image = member("image").and_then(Raw::as_str);
    let audio = toast_said.member("audio").and_then(|it| it.member("src")).and_then(Raw::as_str);
    toast(
        template.as_deref().unwrap_or("ToastGeneric"),
        &texts,
        image.as_deref(),
        audio.as_deref(),
        data.filter(|it| !it.is_null()).map_or("", Raw::text),
    )
}

/// The XML of a toast. What is for the application is what it is launched with.
fn toast(
    template: &str,
    texts: &[&str],
    image: Option<&str>,
    sound: Option<&str>,
    launch: &str,
) -> String {
    let mut out = String::from("<toast");
    if !launch.is_empty() {
        attribute(&mut out, "launch", launch);
    }
    out.push_str("><visual><binding");
    attribute(&mut out, "template", template);
    out.push('>');
    for text in texts {
        out.push_str("<text>");
        escape(&mut out, text);
        out.push_str("</text>");
    }
    if let Some(image) = image {
        out.push_str("<image placement=\"appLogoOverride\"");
        attribute(&mut out, "src", image);
        out.push_str("/>");
    }
    out.push_str("</binding></visual>");
    // Other names are those of other platforms' sounds.
    if let Some(sound) = sound.filter(|it| it.starts_with("ms-")) {
        out.push_str("<audio");
        attribute(&mut out, "src", sound);
        out.push_str("/>");
    }
    out.push_str("</toast>");
    out
}

fn attribute(out: &mut String, name: &str, value: &str) {
    out.push(' ');
    out.push_str(name);
    out.push_str("=\"");
    escape(out, value);
    out.push('"');
}

/// A text within XML; characters that XML 1.0 does not have are left out. Source: its sections 2.2 and 2.4.
fn escape(out: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            // An attribute would lose them.
            '\t' | '\n' | '\r' => out.push_str(&format!("&#{};", u32::from(character))),
            '\0'..=' ' if character != ' ' => {}
            '\u{fffe}' | '\u{ffff}' => {}
            character => out.push(character),
        }
    }
}

/// What WNS takes, with the same meaning: what is too long or cannot stand in a head, digested.
fn tag(key: &str) -> String {
    let stands = key.bytes().all(|it| it.is_ascii_alphanumeric() || b"-_.".contains(&it));
    match stands && (1..=TAG_MAX).contains(&key.len()) {
        true => key.to_owned(),
        false => sign::base64url(&Sha256::digest(key.as_bytes())[..12]),
    }
}

#[cfg(test)]
#[path = "wns_tests.rs"]
mod tests;
