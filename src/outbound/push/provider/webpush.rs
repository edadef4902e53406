//! Web Push: a message that only the browser can read, brought to whatever service its maker runs. Source: RFC 8030 (the
//! requests), RFC 8291 and RFC 8188 (the encryption), RFC 8292 (who sends, [`super::vapid`]).
//!
//! The endpoint is the device's own choice: who registers one can let it answer what they like. So no answer is held against
//! anyone else: what elsewhere closes a provider for all, [`Verdict::Throttled`] and [`Verdict::Unauthorized`], is never
//! read here, and such a message goes again by itself.

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{self, ECDH_P256, PrivateKey, UnparsedPublicKey};
use aws_lc_rs::hmac;
use bytes::Bytes;

use super::form::{self, Object};
use super::sign::{any_base64, base64url};
use super::vapid::Vapid;
use super::{
    Access, Address, Answered, Delivered, Message, Parcel, ProviderUrls, Request, Speak, Verdict,
};
use crate::base::time::{Millis, Now};
use crate::push::Provider;
use crate::push::credential::Material;
use crate::push::device::Recipient;
use crate::wire::json::Raw;

/// What every push service takes as a body. Source: RFC 8030, section 7.2; RFC 8291, section 4.
const BODY_BYTES_MAX: usize = 4096;
/// What stands before the record: salt, size of records, length of the key's name, the key. Source: RFC 8188, section 2.1.
const HEAD_BYTES: usize = SALT_BYTES + 4 + 1 + POINT_BYTES;
/// The byte that ends a record's content, and the tag.
const RECORD_EXTRA_BYTES: usize = 1 + 16;
/// A message of which the notification is longer is refused.
pub const NOTIFICATION_BYTES_MAX: usize = BODY_BYTES_MAX - HEAD_BYTES - RECORD_EXTRA_BYTES;
const _: () = assert!(NOTIFICATION_BYTES_MAX == 3993, "RFC 8291, section 4");
/// Notifications are made as long as a multiple of this, so that their length says little of what is in them.
const PADDED_TO: usize = 128;
const SALT_BYTES: usize = 16;
const POINT_BYTES: usize = 65;
const SECRET_BYTES: usize = 16;
/// The size of records that is said; there is one.
const RECORD_BYTES: u32 = 4096;
/// How long a push service keeps what has no time of its own, in seconds: longer none does.
const TTL_S: u64 = 28 * 86_400;
/// Names of what a later message replaces are no longer. Source: RFC 8030, section 5.4.
const TOPIC_CHARS_MAX: usize = 32;
/// Words for how urgent a message is. Source: RFC 8030, section 5.3.
const URGENCIES: [&str; 4] = ["very-low", "low", "normal", "high"];
/// How often a key is tried for: one in 2^32 is none.
const KEY_TRIES_MAX: u8 = 8;

/// Speaks with push services.
pub struct WebPush;

impl Speak for WebPush {
    fn provider(&self) -> Provider {
        Provider::WebPush
    }

    fn access(&self, parcel: &Parcel, _: &ProviderUrls, now: Now) -> Result<Access, Delivered> {
        let (endpoint, ..) = recipient(parcel)?;
        let Some(credential) = &parcel.credential else {
            return Err(Delivered::not(Verdict::Unauthorized, "no credentials"));
        };
        let origin = form::origin(endpoint).ok_or_else(not_an_address)?;
        let vapid = vapid(&credential.material)
            .map_err(|error| Delivered::not(Verdict::Unauthorized, error))?;
        let (text, lasts) = vapid
            .authorization(&origin, now)
            .ok_or_else(|| Delivered::not(Verdict::Unavailable, "cannot sign"))?;
        Ok(Access::Signed(text, lasts))
    }

    fn realm(&self, parcel: &Parcel) -> String {
        let endpoint = recipient(parcel).ok().and_then(|(endpoint, ..)| form::origin(endpoint));
        endpoint.unwrap_or_default()
    }

    fn read_access(&self, _: &Answered, _: Now) -> Result<(String, Millis), Delivered> {
        Err(Delivered::not(Verdict::Unauthorized, "nothing is exchanged for Web Push"))
    }

    fn request(
        &self,
        parcel: &Parcel,
        access: &str,
        _: &ProviderUrls,
        chance: &[u8; 32],
        now: Now,
    ) -> Result<Request, Delivered> {
        let (endpoint, p256dh, auth) = recipient(parcel)?;
        form::origin(endpoint).ok_or_else(not_an_address)?;
        let message = &parcel.message;
        let own = form::object(&message.raw);
        let headers = own.and_then(|it| it.member("headers"));
        let notification = match own {
            Some(own) => form::copy(Object::new(), own, &["headers"]).end(),
            None => notification(message).end(),
        };
        if notification.len() > NOTIFICATION_BYTES_MAX {
            let reason = format!(
                "payload too large: {} bytes, {NOTIFICATION_BYTES_MAX} at most",
                notification.len()
            );
            return Err(Delivered::not(Verdict::Refused, reason));
        }
        let body = encrypt(p256dh, auth, notification.as_bytes(), chance).ok_or_else(|| {
            Delivered::not(Verdict::Refused, "the keys of the subscription are none")
        })?;
        let header = |name| headers.and_then(|it| it.member(name));
        let mut fields = vec![
            ("authorization", access.to_owned()),
            ("content-encoding", "aes128gcm".to_owned()),
            ("content-type", "application/octet-stream".to_owned()),
            ("ttl", ttl(parcel.expires_at, header("ttl"), now).to_string()),
        ];
        let urgency = header("urgency").and_then(Raw::as_str);
        let urgency = urgency.filter(|it| URGENCIES.contains(&&**it));
        fields.push(("urgency", urgency.as_deref().unwrap_or("normal").to_owned()));
        let topic = header("topic").and_then(Raw::as_str);
        let collapsed = message.text.collapse_key.as_deref().filter(|_| own.is_none());
        if let Some(key) = topic.as_deref().or(collapsed).filter(|it| !it.is_empty()) {
            fields.push(("topic", self::topic(key)));
        }
        let url = endpoint.to_owned();
        Ok(Request { method: "POST", url, fields, body: Bytes::from(body), is_http2: false })
    }

    fn read(&self, answered: &Answered, now: Now) -> Delivered {
        let status = answered.status;
        let said = || form::said(answered);
        let delivered = match status {
            200..=299 => Delivered::taken(form::message_id(answered.field("location"))),
            // Source: RFC 8030, section 7.3; the second is what push services say.
            404 | 410 => Delivered::not(Verdict::Gone, said()),
            401 | 403 if is_of_subscription(answered) => Delivered::not(Verdict::Refused, said()),
            // A token that is not taken, perhaps for a clock's sake; too much, the last as Microsoft's service says it.
            401 | 403 | 429 | 406 => Delivered::not(Verdict::Unavailable, said()),
            408 | 425 | 500..=599 => Delivered::not(Verdict::Unavailable, said()),
            413 => Delivered::not(Verdict::Refused, format!("payload too large: {}", said())),
            _ => Delivered::not(Verdict::Refused, said()),
        };
        Delivered { retry_after: answered.pause(now), ..delivered.with_status(status) }
    }

    fn check(&self, material: &Material) -> Result<(), String> {
        vapid(material).map(|_| ())
    }

    fn rendered(&self, message: &Message) -> String {
        notification(message).end()
    }
}

fn not_an_address() -> Delivered {
    Delivered::not(Verdict::Refused, "the endpoint is no https address")
}

/// Endpoint, key and secret of whom a parcel is for.
fn recipient(parcel: &Parcel) -> Result<(&str, &str, &str), Delivered> {
    match &parcel.address {
        Address::Recipient(Recipient::Web { endpoint, p256dh, auth }) => {
            Ok((endpoint, p256dh, auth))
        }
        _ => Err(Delivered::not(Verdict::Refused, "Web Push brings things to subscriptions alone")),
    }
}

fn vapid(material: &Material) -> Result<Vapid, String> {
    match material {
        Material::WebPush { public_key, private_key, subject } => {
            Vapid::new(public_key, private_key, subject)
        }
        _ => Err("these are no credentials for Web Push".to_owned()),
    }
}

/// Whether the refusal is about this subscription, which was made for another key, and not about our tokens: after a change
/// of keys that is what old subscriptions come to. Google's service says 403 for it and Mozilla's 401 with a
/// word; Apple's says 403 for bad tokens, with a word.
fn is_of_subscription(answered: &Answered) -> bool {
    let has = |word: &str| {
        answered.body.windows(word.len()).any(|it| it.eq_ignore_ascii_case(word.as_bytes()))
    };
    has("mismatch") || answered.status == 403 && !has("jwt")
}

/// What the browser's service worker reads: `{"notification":{"title","body","icon","image","tag","sound"},"data":{...}}`.
fn notification(message: &Message) -> Object {
    let text = &message.text;
    let notification = Object::new()
        .optional("title", text.title.as_deref())
        .optional("body", text.body.as_deref())
        .optional("icon", text.icon.as_deref())
        // As Sockudo calls it.
        .optional("image", text.icon.as_deref())
        .optional("tag", text.collapse_key.as_deref())
        .optional("sound", text.sound.as_deref());
    let object = Object::new().object("notification", notification);
    match message.data.is_empty() {
        true => object,
        false => object.raw("data", &message.data),
    }
}

/// How long the push service keeps a message, in seconds.
fn ttl(expires_at: Option<u64>, own: Option<Raw<'_>>, now: Now) -> u64 {
    let left = expires_at.map(|at| at.saturating_sub(now.wall.0) / 1000);
    let own = own.and_then(|it| it.as_u64().or_else(|| it.as_str()?.parse().ok()));
    left.into_iter().chain(own).min().unwrap_or(TTL_S).min(TTL_S)
}

/// A name for what a later message replaces, as push services take it: any other is digested. Source: RFC 8030, section 5.4.
fn topic(key: &str) -> String {
    let is_one = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if key.len() <= TOPIC_CHARS_MAX && key.bytes().all(is_one) {
        return key.to_owned();
    }
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key.as_bytes());
    // 24 bytes are 32 characters.
    base64url(&digest.as_ref()[..24])
}

/// A body that only the browser with this key and secret, in Base64, can read. `chance` is never used again. None: these
/// are no key and secret.
pub fn encrypt(p256dh: &str, auth: &str, plain: &[u8], chance: &[u8; 32]) -> Option<Vec<u8>> {
    let theirs = any_base64(p256dh).filter(|it| it.len() == POINT_BYTES && it[0] == 4)?;
    let secret = any_base64(auth).filter(|it| it.len() == SECRET_BYTES)?;
    let chance = hmac::Key::new(hmac::HMAC_SHA256, chance);
    let drawn = |what: &[u8], n: u8| digest(&chance, &[what, &[n]]);
    let mut keys = (0..KEY_TRIES_MAX).map(|n| drawn(b"ringmain web push key", n));
    let ours = keys.find_map(|it| PrivateKey::from_private_key(&ECDH_P256, &it).ok())?;
    let salt = drawn(b"ringmain web push salt", 0);
    let padding = plain.len().next_multiple_of(PADDED_TO).min(NOTIFICATION_BYTES_MAX);
    let padding = padding.saturating_sub(plain.len());
    seal_for(&theirs, &secret, &ours, salt.first_chunk()?, plain, padding)
}

/// The body with this key of ours and this salt. Source: RFC 8291, section 3.4.
fn seal_for(
    theirs: &[u8],
    secret: &[u8],
    ours: &PrivateKey,
    salt: &[u8; SALT_BYTES],
    plain: &[u8],
    padding: usize,
) -> Option<Vec<u8>> {
    let public = ours.compute_public_key().ok()?;
    let public = public.as_ref();
    let their_key = UnparsedPublicKey::new(&ECDH_P256, theirs);
    let key = agreement::agree(ours, their_key, (), |shared| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let extracted = hmac::Key::new(hmac::HMAC_SHA256, &digest(&key, &[shared]));
        Ok(digest(&extracted, &[b"WebPush: info\0", theirs, public, &[1]]))
    });
    seal(salt, &key.ok()?, public, plain, padding)
}

/// One record under a key with a name. Source: RFC 8188, sections 2.1 to 2.3.
fn seal(
    salt: &[u8; SALT_BYTES],
    key: &[u8],
    name: &[u8],
    plain: &[u8],
    padding: usize,
) -> Option<Vec<u8>> {
    let extracted = digest(&hmac::Key::new(hmac::HMAC_SHA256, salt), &[key]);
    let extracted = hmac::Key::new(hmac::HMAC_SHA256, &extracted);
    let content_key = digest(&extracted, &[b"Content-Encoding: aes128gcm\0", &[1]]);
    let nonce = digest(&extracted, &[b"Content-Encoding: nonce\0", &[1]]);
    let mut record = Vec::with_capacity(plain.len() + padding + RECORD_EXTRA_BYTES);
    record.extend_from_slice(plain);
    // The last record's content ends so.
    record.push(2);
    record.resize(plain.len() + 1 + padding, 0);
    let content_key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &content_key[..16]).ok()?);
    // There is one record, so that its number changes nothing of the nonce.
    let nonce = Nonce::assume_unique_for_key(*nonce.first_chunk()?);
    content_key.seal_in_place_append_tag(nonce, Aad::empty(), &mut record).ok()?;
    let mut out = Vec::with_capacity(HEAD_BYTES + record.len());
    out.extend_from_slice(salt);
    out.extend_from_slice(&RECORD_BYTES.to_be_bytes());
    out.push(u8::try_from(name.len()).ok()?);
    out.extend_from_slice(name);
    out.extend_from_slice(&record);
    Some(out)
}

/// HMAC-SHA256 of parts, taken as one run of bytes.
fn digest(key: &hmac::Key, parts: &[&[u8]]) -> [u8; 32] {
    let mut context = hmac::Context::with_key(key);
    for part in parts {
        context.update(part);
    }
    let tag = context.sign();
    std::array::from_fn(|i| tag.as_ref()[i])
}

#[cfg(test)]
#[path = "webpush_tests.rs"]
mod tests;
