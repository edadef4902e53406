//! Signed tokens, as an application issues them.

use hmac::{Hmac, Mac};
use p256::ecdsa::signature::Signer;
use p256::ecdsa::{Signature, SigningKey};
use p256::pkcs8::{EncodePublicKey, LineEnding};
use sha2::Sha256;

use crate::wire::base64;

/// A key and its method.
pub enum Key {
    Hs256(Vec<u8>),
    Es256(Box<SigningKey>),
}

impl Key {
    /// Always the same curve key: what is signed with it opens nothing but servers under measurement.
    pub fn es256() -> Self {
        let key = SigningKey::from_slice(&[7; 32]).expect("below the order of the curve");
        Self::Es256(Box::new(key))
    }

    pub fn method(&self) -> &'static str {
        match self {
            Self::Hs256(_) => "HS256",
            Self::Es256(_) => "ES256",
        }
    }

    /// Base64 of the secret, or of the public key as PEM.
    pub fn base64(&self) -> String {
        match self {
            Self::Hs256(secret) => base64(secret),
            Self::Es256(key) => {
                let pem = key.verifying_key().to_public_key_pem(LineEnding::LF);
                base64(pem.expect("a curve's key has a PEM").as_bytes())
            }
        }
    }

    /// A token of these claims.
    pub fn token(&self, claims: &str) -> String {
        let head = format!(r#"{{"alg":"{}","typ":"JWT"}}"#, self.method());
        let text = format!("{}.{}", base64url(head.as_bytes()), base64url(claims.as_bytes()));
        let signature = match self {
            Self::Hs256(secret) => {
                let mac = Hmac::<Sha256>::new_from_slice(secret);
                let mut mac = mac.expect("HMAC takes keys of any length");
                mac.update(text.as_bytes());
                mac.finalize().into_bytes().to_vec()
            }
            Self::Es256(key) => {
                let signature: Signature = key.sign(text.as_bytes());
                signature.to_bytes().to_vec()
            }
        };
        format!("{text}.{}", base64url(&signature))
    }
}

fn base64url(bytes: &[u8]) -> String {
    base64(bytes).trim_end_matches('=').replace('+', "-").replace('/', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_three_parts_of_its_own_length() {
        let token = Key::Hs256(b"secret".to_vec()).token(r#"{"a":1}"#);
        assert!(token.starts_with("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJhIjoxfQ."));
        assert_eq!(Key::es256().token("{}").rsplit('.').next().map(str::len), Some(86));
    }
}
