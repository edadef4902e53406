//! Several keys, one of which must have signed a token: so that keys can be changed while tokens are about.
//!
//! Each slot is bound to one method, and a token of another method is never tried against it: a public key must not
//! be taken for a secret. Claims are handed on as the text that was signed. Source: RFC 7515, RFC 7519, RFC 8725.

use std::fmt;

use aws_lc_rs::signature::{self, ParsedPublicKey, VerificationAlgorithm};
use aws_lc_rs::{hmac, rsa};

use crate::base::time::{Millis, UnixMillis};
use crate::config::Secret;
use crate::wire::base64::{self, Alphabet};
use crate::wire::json::{self, Kind, Raw};

/// A token longer than this is refused before anything of it is read.
pub const TOKEN_BYTES_MAX: usize = 16 << 10;

/// The methods a slot may have.
pub const METHODS: &[&str] = &[
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256",
    "ES384", "ES512", "EdDSA",
];

/// RSA keys below this are no longer safe. Source: RFC 7518, sections 3.3 and 3.5.
const RSA_BYTES_MIN: usize = 2048 / 8;

/// One key as it is configured.
#[derive(Clone, Debug)]
pub struct KeySlot {
    /// One of [`METHODS`].
    pub method: &'static str,
    /// Its name, which tokens may carry as `kid`; none: any name will do.
    pub id: Option<String>,
    /// Base64 of the secret (HS...) or of the public key in PEM.
    pub key_base64: Secret,
}

/// Checks tokens against all slots.
pub struct Keyring {
    slots: Vec<Slot>,
    audience: Option<Box<str>>,
    issuer: Option<Box<str>>,
    leeway: Millis,
}

struct Slot {
    method: &'static str,
    id: Option<Box<str>>,
    key: Key,
}

enum Key {
    Secret(Box<hmac::Key>),
    Public(ParsedPublicKey),
}

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// More than [`TOKEN_BYTES_MAX`].
    TooLong,
    /// It is no signed token of the compact form, or its head or claims are not what they must be.
    Malformed {
        /// What.
        what: &'static str,
    },
    /// No slot has its method and key id.
    NoKey,
    /// None of the keys that it may be signed with signed it.
    Signature,
    /// It was good until this many seconds since 1970.
    Expired {
        /// `exp`.
        at_seconds: u64,
    },
    /// It will be good from this many seconds since 1970.
    NotYet {
        /// `nbf`.
        at_seconds: u64,
    },
    /// It is for others.
    Audience,
    /// It is from others.
    Issuer,
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "the token is longer than {TOKEN_BYTES_MAX} bytes"),
            Self::Malformed { what } => f.write_str(what),
            Self::NoKey => f.write_str("no configured key has the token's alg and kid"),
            Self::Signature => f.write_str("the token is not signed with the configured key"),
            Self::Expired { at_seconds } => {
                write!(f, "the token expired at {}", UnixMillis(at_seconds * 1000).to_civil())
            }
            Self::NotYet { at_seconds } => write!(
                f,
                "the token is not valid before {}",
                UnixMillis(at_seconds * 1000).to_civil()
            ),
            Self::Audience => f.write_str("the token's aud is not the configured audience"),
            Self::Issuer => f.write_str("the token's iss is not the configured issuer"),
        }
    }
}

impl std::error::Error for TokenError {}

impl Keyring {
    /// Reads the keys. `leeway` is how far the clocks of those who issue tokens may be from ours; an empty audience or
    /// issuer: any. The error is the number of a slot, from 0, and what is wrong with it.
    pub fn new(
        slots: &[KeySlot],
        audience: &str,
        issuer: &str,
        leeway: Millis,
    ) -> Result<Self, (usize, String)> {
        let slot = |(i, it): (usize, &KeySlot)| {
            let id = it.id.as_deref().filter(|id| !id.is_empty()).map(Box::from);
            Ok(Slot { method: it.method, id, key: it.key().map_err(|error| (i, error))? })
        };
        let given = |text: &str| (!text.is_empty()).then(|| Box::from(text));
        Ok(Self {
            slots: slots.iter().enumerate().map(slot).collect::<Result<_, _>>()?,
            audience: given(audience),
            issuer: given(issuer),
            leeway,
        })
    }

    /// The claims of a good token, as JSON text: one object.
    pub fn verify(&self, token: &str, wall: UnixMillis) -> Result<String, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong);
        }
        let malformed = |what| TokenError::Malformed { what };
        let parts = || {
            let (signed, signature) = token.rsplit_once('.')?;
            let (head, claims) = signed.split_once('.')?;
            (!claims.contains('.')).then_some((signed, head, claims, signature))
        };
        let (signed, head, claims, signature) =
            parts().ok_or(malformed("the token is not three parts with dots between"))?;
        let head = text(head).ok_or(malformed("the token's header is not Base64url of a text"))?;
        let head = Head::read(&head).map_err(malformed)?;
        let signature = base64::decode(signature.as_bytes(), Alphabet::Url)
            .ok_or(malformed("the token's signature is not Base64url"))?;
        self.check(&head, signed.as_bytes(), &signature)?;
        let claims = text(claims).ok_or(malformed("the token's claims are not Base64url"))?;
        let object = json::parse_str(&claims).ok().filter(|it| it.kind() == Kind::Object);
        let object = object.ok_or(malformed("the token's claims are no JSON object"))?;
        self.check_claims(object, wall)?;
        Ok(claims)
    }

    fn check(&self, head: &Head<'_>, signed: &[u8], signature: &[u8]) -> Result<(), TokenError> {
        let mut refused = TokenError::NoKey;
        for slot in &self.slots {
            let is_named = match (&slot.id, &head.kid) {
                (Some(id), Some(kid)) => **id == **kid,
                _ => true,
            };
            if slot.method != head.alg || !is_named {
                continue;
            }
            let is_right = match &slot.key {
                Key::Secret(key) => hmac::verify(key, signed, signature).is_ok(),
                Key::Public(key) => key.verify_sig(signed, signature).is_ok(),
            };
            if is_right {
                return Ok(());
            }
            refused = TokenError::Signature;
        }
        Err(refused)
    }

    fn check_claims(&self, claims: Raw<'_>, wall: UnixMillis) -> Result<(), TokenError> {
        let given = |name| claims.member(name).filter(|it| !it.is_null());
        let malformed = |what| TokenError::Malformed { what };
        let expires = given("exp").ok_or(malformed("the token has no exp"))?;
        let expires = date(expires).ok_or(malformed("exp must be a number of seconds"))?;
        if expires.0.saturating_add(self.leeway.0) <= wall.0 {
            return Err(TokenError::Expired { at_seconds: expires.seconds() });
        }
        if let Some(start) = given("nbf") {
            let start = date(start).ok_or(malformed("nbf must be a number of seconds"))?;
            if start.0 > wall.0.saturating_add(self.leeway.0) {
                return Err(TokenError::NotYet { at_seconds: start.seconds() });
            }
        }
        let is = |raw: Raw<'_>, right: &str| raw.as_str().is_some_and(|it| it == right);
        if let Some(audience) = &self.audience {
            let is_ours = |it: Raw<'_>| is(it, audience) || it.items().any(|it| is(it, audience));
            given("aud").filter(|it| is_ours(*it)).ok_or(TokenError::Audience)?;
        }
        if let Some(issuer) = &self.issuer {
            given("iss").filter(|it| is(*it, issuer)).ok_or(TokenError::Issuer)?;
        }
        Ok(())
    }
}

/// A `NumericDate`, perhaps with a fraction, to the millisecond; before 1970 is 1970. Source: RFC 7519, section 2.
pub fn date(raw: Raw<'_>) -> Option<UnixMillis> {
    let seconds = raw.as_f64().filter(|it| it.is_finite())?;
    // `as` keeps to what fits.
    Some(UnixMillis((seconds * 1000.0).round() as u64))
}

fn text(part: &str) -> Option<String> {
    String::from_utf8(base64::decode(part.as_bytes(), Alphabet::Url)?).ok()
}

/// What a token says of its signature.
struct Head<'a> {
    alg: std::borrow::Cow<'a, str>,
    kid: Option<std::borrow::Cow<'a, str>>,
}

impl<'a> Head<'a> {
    fn read(text: &'a str) -> Result<Self, &'static str> {
        let (mut alg, mut kid, mut wrong) = (None, None, None);
        json::read_object(text, |name, value| match &*name {
            "alg" => alg = value.as_str(),
            "kid" => match value.as_str() {
                None => wrong = Some("the token's kid must be a string"),
                id => kid = id,
            },
            "typ" if !value.as_str().is_some_and(|it| it.eq_ignore_ascii_case("JWT")) => {
                wrong = Some("the token's typ must be JWT");
            }
            // Whatever it names must be understood, and nothing is.
            "crit" => wrong = Some("the token's crit names what is not understood"),
            _ => {}
        })
        .map_err(|_| "the token's header is no JSON object")?;
        match (wrong, alg) {
            (Some(what), _) => Err(what),
            (None, None) => Err("the token has no alg"),
            (None, Some(alg)) => Ok(Self { alg, kid }),
        }
    }
}

impl KeySlot {
    /// Signs claims with a secret, as a back end does: for tools and tests. None: the method has no secret.
    pub fn sign(&self, claims: &str) -> Option<String> {
        let Ok(Key::Secret(key)) = self.key() else { return None };
        let mut head = format!("{{\"alg\":\"{}\",\"typ\":\"JWT\"", self.method).into_bytes();
        if let Some(id) = &self.id {
            head.extend_from_slice(b",\"kid\":");
            json::write_str(&mut head, id);
        }
        head.push(b'}');
        let mut token = String::new();
        base64::encode(&mut token, &head, Alphabet::Url);
        token.push('.');
        base64::encode(&mut token, claims.as_bytes(), Alphabet::Url);
        let tag = hmac::sign(&key, token.as_bytes());
        token.push('.');
        base64::encode(&mut token, tag.as_ref(), Alphabet::Url);
        Some(token)
    }

    fn key(&self) -> Result<Key, String> {
        let bytes = loose_base64(self.key_base64.0.as_bytes()).ok_or("the key is not Base64")?;
        if bytes.is_empty() {
            return Err("the key is empty".into());
        }
        let secret = |algorithm| Ok(Key::Secret(Box::new(hmac::Key::new(algorithm, &bytes))));
        let algorithm: &'static dyn VerificationAlgorithm = match self.method {
            "HS256" => return secret(hmac::HMAC_SHA256),
            "HS384" => return secret(hmac::HMAC_SHA384),
            "HS512" => return secret(hmac::HMAC_SHA512),
            "RS256" => &signature::RSA_PKCS1_2048_8192_SHA256,
            "RS384" => &signature::RSA_PKCS1_2048_8192_SHA384,
            "RS512" => &signature::RSA_PKCS1_2048_8192_SHA512,
            "PS256" => &signature::RSA_PSS_2048_8192_SHA256,
            "PS384" => &signature::RSA_PSS_2048_8192_SHA384,
            "PS512" => &signature::RSA_PSS_2048_8192_SHA512,
            "ES256" => &signature::ECDSA_P256_SHA256_FIXED,
            "ES384" => &signature::ECDSA_P384_SHA384_FIXED,
            "ES512" => &signature::ECDSA_P521_SHA512_FIXED,
            "EdDSA" => &signature::ED25519,
            other => return Err(format!("no method is called {other}")),
        };
        let pem = std::str::from_utf8(&bytes).map_err(|_| "the key is not PEM")?;
        let der = public_pem(pem)?;
        let wrong = || format!("the key is no public key for {}", self.method);
        if self.method.starts_with(['R', 'P']) {
            let bits = rsa::PublicKey::from_der(&der).map_err(|_| wrong())?.modulus_len();
            if bits < RSA_BYTES_MIN {
                return Err(format!("the key has {} bits, at least 2048 are needed", bits * 8));
            }
        }
        ParsedPublicKey::new(algorithm, der).map(Key::Public).map_err(|_| wrong())
    }
}

/// Base64 as people paste it: white space in it, padded or not.
fn loose_base64(text: &[u8]) -> Option<Vec<u8>> {
    let mut packed: Vec<u8> =
        text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let padding = packed.iter().rev().take_while(|byte| **byte == b'=').count();
    if padding > 2 || padding > 0 && !packed.len().is_multiple_of(4) {
        return None;
    }
    packed.truncate(packed.len() - padding);
    base64::decode(&packed, Alphabet::Standard)
}

/// What stands in the frame of a public key. Source: RFC 7468, section 13.
fn public_pem(pem: &str) -> Result<Vec<u8>, &'static str> {
    const BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
    const END: &str = "-----END PUBLIC KEY-----";
    if pem.contains("PRIVATE KEY-----") {
        return Err("the key is a private key; its public key is what belongs here");
    }
    let inside = pem.trim().strip_prefix(BEGIN).and_then(|it| it.strip_suffix(END));
    let inside = inside.ok_or("the key is not PEM from BEGIN PUBLIC KEY to END PUBLIC KEY")?;
    loose_base64(inside.as_bytes()).ok_or("what the PEM holds is not Base64")
}

#[cfg(test)]
#[path = "keyring_tests.rs"]
mod tests;
