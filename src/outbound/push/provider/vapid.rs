//! Who sends a Web Push message: a token that the key pair signs which browsers subscribed to, one for each push service.
//! Source: RFC 8292.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};

use super::form::Object;
use super::sign::{Signer, any_base64, base64url};
use crate::base::time::{Millis, Now};

/// How long a token is good. Source: at most 24 hours by RFC 8292, section 2.
const TOKEN_LASTS: Millis = Millis(12 * 3_600_000);
/// How long it is used: clocks may be wrong, theirs or ours, and what a wrong one signed is soon over.
const TOKEN_USED: Millis = Millis(3_600_000);
const _: () = assert!(TOKEN_USED.0 < TOKEN_LASTS.0 && TOKEN_LASTS.0 <= 24 * 3_600_000);

const HEAD: &str = r#"{"typ":"JWT","alg":"ES256"}"#;

/// A key pair, and whom a push service may write to.
pub struct Vapid {
    signer: Signer,
    public_key: String,
    subject: String,
}

impl Vapid {
    /// The pair of these keys, the uncompressed point and the scalar in Base64. An empty subject: push services hear of none,
    /// which some of them do not take.
    pub fn new(public_key: &str, private_key: &str, subject: &str) -> Result<Self, String> {
        let point = any_base64(public_key).filter(|it| it.len() == 65 && it[0] == 4);
        let point = point.ok_or("the public key is not 65 bytes of Base64url: a point on P-256")?;
        let scalar = any_base64(private_key).filter(|it| it.len() == 32);
        let scalar = scalar.ok_or("the private key is not 32 bytes of Base64url")?;
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pair = EcdsaKeyPair::from_private_key_and_public_key(algorithm, &scalar, &point)
            .map_err(|_| "the private key is not that of the public key")?;
        let is_contact = subject.is_empty()
            || subject.starts_with("https://")
            || subject.strip_prefix("mailto:").is_some_and(|it| it.contains('@'));
        if !is_contact {
            return Err("the subject is neither a mailto: nor an https:// address".to_owned());
        }
        let public_key = base64url(&point);
        Ok(Self { signer: Signer::Curve(pair), public_key, subject: subject.to_owned() })
    }

    /// What goes into `Authorization` for a push service, and for how long it does.
    pub fn authorization(&self, origin: &str, now: Now) -> Option<(String, Millis)> {
        let claims = self.claims(origin, now.wall.seconds() + TOKEN_LASTS.0 / 1000);
        let token = self.signer.token(HEAD, &claims)?;
        Some((format!("vapid t={token}, k={}", self.public_key), TOKEN_USED))
    }

    fn claims(&self, origin: &str, expires: u64) -> String {
        let subject = Some(self.subject.as_str()).filter(|it| !it.is_empty());
        Object::new()
            .text("aud", origin)
            .raw("exp", &expires.to_string())
            .optional("sub", subject)
            .end()
    }
}

#[cfg(test)]
#[path = "vapid_tests.rs"]
mod tests;
