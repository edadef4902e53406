//! Credentials at rest: sealed with a key that is not in the store.
//!
//! AES-256-GCM under a random nonce. What is sealed is bound to whose it is and what may be told of it, so that a record
//! moved to another app or under another name does not open. Source: NIST SP 800-38D.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::push::credential::{CredentialFacts, Material};
use crate::push::stored;
use crate::wire::base64;

/// Bytes of a nonce.
pub const NONCE_BYTES: usize = 12;

/// A shorter text is no key.
pub const KEY_TEXT_BYTES_MIN: usize = 32;

/// What seals and opens.
pub struct Key(LessSafeKey);

/// Credentials as they are stored: what may be told of them, and the rest, sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// What may be told.
    pub facts: CredentialFacts,
    nonce: [u8; NONCE_BYTES],
    sealed: Vec<u8>,
}

impl Key {
    /// The key that a text says: 32 bytes in base64 or hexadecimal digits; any other text of at least 32 bytes is
    /// digested. None: it is too short.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.len() < KEY_TEXT_BYTES_MIN {
            return None;
        }
        let bytes = of_hex(text).or_else(|| of_base64(text));
        let bytes = bytes.unwrap_or_else(|| Sha256::digest(text.as_bytes()).into());
        UnboundKey::new(&AES_256_GCM, &bytes).ok().map(|key| Self(LessSafeKey::new(key)))
    }

    /// Seals credentials of an app. `nonce` was never used before.
    pub fn seal(
        &self,
        app: &str,
        facts: CredentialFacts,
        material: &Material,
        nonce: [u8; NONCE_BYTES],
    ) -> Option<Sealed> {
        let bound = Aad::from(binding(app, &facts));
        let mut sealed = stored::encode(material).to_vec();
        let unique = Nonce::assume_unique_for_key(nonce);
        self.0.seal_in_place_append_tag(unique, bound, &mut sealed).ok()?;
        Some(Sealed { facts, nonce, sealed })
    }

    /// Opens credentials of an app; none: another key sealed them, or they are not as they were sealed.
    pub fn open(&self, app: &str, it: &Sealed) -> Option<Material> {
        let bound = Aad::from(binding(app, &it.facts));
        let mut sealed = it.sealed.clone();
        let nonce = Nonce::assume_unique_for_key(it.nonce);
        let opened = self.0.open_in_place(nonce, bound, &mut sealed).ok()?;
        let material: Material = stored::decode(opened)?;
        (material.provider() == it.facts.provider).then_some(material)
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// What a sealed record is bound to.
fn binding(app: &str, facts: &CredentialFacts) -> Bytes {
    stored::encode(&("push credential", app, facts))
}

fn of_hex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|it| it.is_ascii_hexdigit()) {
        return None;
    }
    let mut out = [0; 32];
    for (n, byte) in out.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * n..2 * n + 2)?, 16).ok()?;
    }
    Some(out)
}

fn of_base64(text: &str) -> Option<[u8; 32]> {
    let text = text.trim_end_matches('=').as_bytes();
    [base64::Alphabet::Standard, base64::Alphabet::Url]
        .into_iter()
        .find_map(|alphabet| base64::decode(text, alphabet)?.try_into().ok())
}

#[cfg(test)]
#[path = "seal_tests.rs"]
mod tests;
