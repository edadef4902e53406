//! JSON Web Tokens in our own name, and the keys that sign them. Source: RFC 7515, RFC 7518.
//!
//! The cryptography takes what chance it needs for a signature itself; nothing else here does.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256};

use crate::wire::base64::{self, Alphabet};

/// RSA keys below this are no longer safe. Source: RFC 7518, section 3.3.
const RSA_BYTES_MIN: usize = 2048 / 8;

/// A key that signs.
pub enum Signer {
    /// ES256.
    Curve(EcdsaKeyPair),
    /// RS256.
    Rsa(rsa::KeyPair),
}

impl Signer {
    /// A key on P-256 in PEM: PKCS #8 or of its own kind.
    pub fn curve(pem: &str) -> Result<Self, String> {
        let der = pem_bytes(pem).ok_or("it is no private key in PEM")?;
        EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, &der)
            .map(Self::Curve)
            .map_err(|_| "it is no private key on the curve P-256".to_owned())
    }

    /// An RSA key of at least 2048 bits in PEM: PKCS #8 or of its own kind.
    pub fn rsa(pem: &str) -> Result<Self, String> {
        let der = pem_bytes(pem).ok_or("it is no private key in PEM")?;
        let pair = rsa::KeyPair::from_pkcs8(&der).or_else(|_| rsa::KeyPair::from_der(&der));
        let pair = pair.map_err(|_| "it is no private RSA key".to_owned())?;
        match pair.public_modulus_len() >= RSA_BYTES_MIN {
            true => Ok(Self::Rsa(pair)),
            false => Err("the RSA key has fewer than 2048 bits".to_owned()),
        }
    }

    /// The token with this head and these claims, both JSON; none: it could not be signed.
    pub fn token(&self, head: &str, claims: &str) -> Option<String> {
        let mut token = base64url(head.as_bytes());
        token.push('.');
        base64::encode(&mut token, claims.as_bytes(), Alphabet::Url);
        let signature = match self {
            Self::Curve(pair) => {
                pair.sign(&SystemRandom::new(), token.as_bytes()).ok()?.as_ref().to_vec()
            }
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                let chance = SystemRandom::new();
                pair.sign(&RSA_PKCS1_SHA256, &chance, token.as_bytes(), &mut signature).ok()?;
                signature
            }
        };
        token.push('.');
        base64::encode(&mut token, &signature, Alphabet::Url);
        Some(token)
    }
}

/// Bytes in Base64url, without padding.
pub fn base64url(bytes: &[u8]) -> String {
    let mut out = String::new();
    base64::encode(&mut out, bytes, Alphabet::Url);
    out
}

/// The bytes of a text in either alphabet, padded or not, as keys come from all kinds of tools.
pub fn any_base64(text: &str) -> Option<Vec<u8>> {
    let text = text.trim().trim_end_matches('=').as_bytes();
    base64::decode(text, Alphabet::Url).or_else(|| base64::decode(text, Alphabet::Standard))
}

/// What the first block of a PEM text that holds a private key says. Line ends may be written as `\n`, as they are after a
/// trip through JSON in an environment variable. Source: RFC 7468.
pub fn pem_bytes(pem: &str) -> Option<Vec<u8>> {
    let pem = pem.replace("\\n", "\n");
    let mut rest = pem.as_str();
    loop {
        let (_, block) = rest.split_once("-----BEGIN ")?;
        let (label, block) = block.split_once("-----")?;
        let (body, behind) = block.split_once("-----END ")?;
        if label.ends_with("PRIVATE KEY") {
            let body: String = body.split_whitespace().collect();
            return base64::decode(body.trim_end_matches('=').as_bytes(), Alphabet::Standard);
        }
        rest = behind;
    }
}

#[cfg(test)]
#[path = "sign_tests.rs"]
mod tests;
