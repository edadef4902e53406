//! JSON Web Tokens: one key, one algorithm, and a clock that is handed in.
//!
//! The signature is the library's affair. The times are checked here, because the library would read a clock
//! of its own. Source: RFC 7519.

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};

use super::identity::Identity;
use crate::base::time::UnixMillis;
use crate::wire::json;

/// Algorithms by the names the settings have for them.
pub const ALGORITHMS: &[&str] = &[
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256",
    "ES384", "EdDSA",
];

/// How far the clocks of those who issue tokens may be from ours.
const LEEWAY_MS: u64 = 5_000;

/// Checks tokens of one issuer.
pub struct Verifier {
    key: DecodingKey,
    validation: Validation,
}

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is not one, or not signed with our key, or not for us.
    Invalid,
    /// It was good once.
    Expired,
}

impl Verifier {
    /// `key` is the secret of an HS algorithm, else a public key as PEM. Empty `issuer` or `audience`: any.
    /// The error says what is wrong with the key.
    pub fn new(algorithm: &str, key: &str, issuer: &str, audience: &str) -> Result<Self, String> {
        let algorithm: Algorithm =
            algorithm.parse().map_err(|_| format!("no algorithm is called {algorithm}"))?;
        use Algorithm::*;
        let key = match algorithm {
            HS256 | HS384 | HS512 => Ok(DecodingKey::from_secret(key.as_bytes())),
            ES256 | ES384 => DecodingKey::from_ec_pem(key.as_bytes()),
            EdDSA => DecodingKey::from_ed_pem(key.as_bytes()),
            _ => DecodingKey::from_rsa_pem(key.as_bytes()),
        };
        let key = key.map_err(|error| format!("the key is no public key in PEM: {error}"))?;
        let mut validation = Validation::new(algorithm);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = !audience.is_empty();
        if !audience.is_empty() {
            validation.set_audience(&[audience]);
            validation.required_spec_claims.insert("aud".into());
        }
        if !issuer.is_empty() {
            validation.set_issuer(&[issuer]);
            validation.required_spec_claims.insert("iss".into());
        }
        Ok(Self { key, validation })
    }

    /// Who the token says its bearer is.
    pub fn verify(&self, token: &str, wall: UnixMillis) -> Result<Identity, Refused> {
        let decoded = decode::<serde_json::Value>(token, &self.key, &self.validation);
        let claims = decoded.map_err(|_| Refused::Invalid)?.claims.to_string();
        let claims = json::parse_str(&claims).map_err(|_| Refused::Invalid)?;
        let identity = Identity::from_json(claims, wall).map_err(|_| Refused::Invalid)?;
        let not_before = match claims.member("nbf").filter(|it| !it.is_null()) {
            None => 0.0,
            Some(claim) => claim.as_f64().ok_or(Refused::Invalid)?,
        };
        if not_before * 1000.0 > wall.0.saturating_add(LEEWAY_MS) as f64 {
            return Err(Refused::Invalid);
        }
        if identity.is_expired(UnixMillis(wall.0.saturating_sub(LEEWAY_MS))) {
            return Err(Refused::Expired);
        }
        Ok(identity)
    }
}

/// Signs claims with an HS256 secret: what a back end does, for tests and tools.
pub fn sign_hs256(claims: &str, secret: &[u8]) -> Option<String> {
    let claims: serde_json::Value = serde_json::from_str(claims).ok()?;
    let header = jsonwebtoken::Header::new(Algorithm::HS256);
    jsonwebtoken::encode(&header, &claims, &jsonwebtoken::EncodingKey::from_secret(secret)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

    #[test]
    fn a_token_is_taken_or_refused_by_name() {
        let plain = Verifier::new("HS256", "secret", "", "").unwrap();
        let strict = Verifier::new("HS256", "secret", "me", "you").unwrap();
        let sign = |claims, secret: &str| sign_hs256(claims, secret.as_bytes()).unwrap();
        let good = sign(r#"{"sub":"ann","exp":1700000001}"#, "secret");
        assert_eq!(plain.verify(&good, NOW).map(|it| it.user.to_string()), Ok("ann".into()));
        assert_eq!(strict.verify(&good, NOW), Err(Refused::Invalid));
        let ours = sign(r#"{"sub":"ann","iss":"me","aud":["you","her"]}"#, "secret");
        assert!(strict.verify(&ours, NOW).is_ok() && plain.verify(&ours, NOW).is_ok());
        for (claims, secret, refused) in [
            (r#"{"sub":"ann","exp":1699999994}"#, "secret", Refused::Expired),
            (r#"{"sub":"ann","nbf":1700000006}"#, "secret", Refused::Invalid),
            (r#"{"sub":"ann","nbf":"1600000000"}"#, "secret", Refused::Invalid),
            (r#"{"sub":"ann"}"#, "another", Refused::Invalid),
            (r#"{"exp":1700000001}"#, "secret", Refused::Invalid),
            (r#"{"sub":["ann"]}"#, "secret", Refused::Invalid),
        ] {
            assert_eq!(plain.verify(&sign(claims, secret), NOW), Err(refused), "{claims}");
        }
        // `none`, another algorithm of the same family, garbage.
        let (_, rest) = good.split_once('.').unwrap();
        for token in ["", "a.b.c", &format!("eyJhbGciOiJub25lIn0.{rest}"), &good[1..]] {
            assert_eq!(plain.verify(token, NOW), Err(Refused::Invalid), "{token}");
        }
        let other = Verifier::new("HS512", "secret", "", "").unwrap();
        assert_eq!(other.verify(&good, NOW), Err(Refused::Invalid));
    }

    #[test]
    fn keys_that_are_none_are_refused() {
        for algorithm in ALGORITHMS {
            let made = Verifier::new(algorithm, "not a key", "", "");
            assert_eq!(made.is_ok(), algorithm.starts_with("HS"), "{algorithm}");
        }
        assert!(Verifier::new("none", "secret", "", "").is_err());
    }
}
