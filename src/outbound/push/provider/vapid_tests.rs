use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, KeyPair, UnparsedPublicKey};

use super::*;
use crate::base::time::{Nanos, UnixMillis};

/// Source: RFC 8292, section 2.4.
const RFC_KEY: &str =
    "BA1Hxzyi1RUM1b5wjxsn7nGxAszw2u61m164i3MrAIxHF6YK5h4SDYic-dRuU_RCPCfA5aq9ojSwk5Y2EmClBPs";
const RFC_SIGNED: &str = "eyJ0eXAiOiJKV1QiLCJhbGciOiJFUzI1NiJ9.eyJhdWQiOiJodHRwczovL3B1c2guZXhhbXBsZS5uZXQiLCJleHAiOjE0NTM1MjM3NjgsInN1YiI6Im1haWx0bzpwdXNoQGV4YW1wbGUuY29tIn0";
const RFC_SIGNATURE: &str =
    "i3CYb7t4xfxCDquptFOepC9GAu_HLGkMlMuCGSK2rpiUfnK9ojFwDXb1JrErtmysazNjjvW2L9OkSSHzvoD1oA";

/// Point and scalar of a key pair. Source: RFC 8291, section 5: the application server's.
const PUBLIC: &str =
    "BP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A8";
const PRIVATE: &str = "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw";

fn is_signed(key: &str, signed: &str, signature: &str) -> bool {
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, any_base64(key).unwrap());
    key.verify(signed.as_bytes(), &any_base64(signature).unwrap()).is_ok()
}

#[test]
fn the_example_of_the_specification() {
    let vapid = Vapid::new(PUBLIC, PRIVATE, "mailto:push@example.com").unwrap();
    let claims = vapid.claims("https://push.example.net", 1_453_523_768);
    let signed = format!("{}.{}", base64url(HEAD.as_bytes()), base64url(claims.as_bytes()));
    assert_eq!(signed, RFC_SIGNED);
    assert!(is_signed(RFC_KEY, RFC_SIGNED, RFC_SIGNATURE));
    assert!(!is_signed(PUBLIC, RFC_SIGNED, RFC_SIGNATURE));
}

#[test]
fn tokens_are_for_one_push_service_and_a_while() {
    let vapid = Vapid::new(PUBLIC, PRIVATE, "").unwrap();
    let now = Now { steady: Nanos(1), wall: UnixMillis(1_700_000_000_999) };
    let (text, lasts) = vapid.authorization("https://x:8443", now).unwrap();
    assert_eq!(lasts, TOKEN_USED);
    let token = text.strip_prefix("vapid t=").unwrap();
    let (token, key) = token.split_once(", k=").unwrap();
    assert_eq!(key, PUBLIC);
    let (signed, signature) = token.rsplit_once('.').unwrap();
    assert!(is_signed(PUBLIC, signed, signature));
    let claims = signed.split_once('.').unwrap().1;
    let claims = String::from_utf8(any_base64(claims).unwrap()).unwrap();
    assert_eq!(claims, r#"{"aud":"https://x:8443","exp":1700043200}"#);
}

#[test]
fn what_is_no_key_pair_is_refused_by_name() {
    let padded = format!("{PUBLIC}=");
    let short = &PUBLIC[..84];
    let off_the_curve = PUBLIC.replace("P4z9", "P5z9");
    let zero = "A".repeat(43);
    let other = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let other = base64url(other.public_key().as_ref());
    for (public, private, subject, word) in [
        (PUBLIC, PRIVATE, "mailto:a@b", ""),
        (padded.as_str(), PRIVATE, "https://x.example", ""),
        (short, PRIVATE, "", "public key"),
        ("", PRIVATE, "", "public key"),
        (PUBLIC, "", "", "private key"),
        (PUBLIC, PUBLIC, "", "private key"),
        (off_the_curve.as_str(), PRIVATE, "", "private key is not"),
        (PUBLIC, zero.as_str(), "", "private key is not"),
        (other.as_str(), PRIVATE, "", "private key is not"),
        (PUBLIC, PRIVATE, "a@b", "subject"),
        (PUBLIC, PRIVATE, "mailto:", "subject"),
        (PUBLIC, PRIVATE, "http://x", "subject"),
    ] {
        let made = Vapid::new(public, private, subject).err().unwrap_or_default();
        assert_eq!(made.is_empty(), word.is_empty(), "{made}");
        assert!(made.contains(word), "{made}: {word}");
    }
}
