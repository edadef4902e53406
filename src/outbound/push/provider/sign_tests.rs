use aws_lc_rs::encoding::{AsDer, EcPrivateKeyRfc5915Der, Pkcs8V1Der};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{self, KeyPair, UnparsedPublicKey};

use super::*;

fn pem(label: &str, der: &[u8]) -> String {
    let mut text = vec![b'='; der.len().div_ceil(3) * 4];
    base64::fill(&mut text, der);
    let lines: Vec<_> = text.chunks(64).map(|it| String::from_utf8_lossy(it)).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

#[test]
fn tokens_are_signed_by_keys_of_either_form() {
    let curve = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let point = curve.public_key().as_ref().to_vec();
    let pkcs8 = curve.to_pkcs8v1().unwrap().as_ref().to_vec();
    let own: EcPrivateKeyRfc5915Der<'_> = curve.private_key().as_der().unwrap();
    let pkcs8 = pem("PRIVATE KEY", &pkcs8);
    // As openssl writes it: another block comes first.
    let own = pem("EC PARAMETERS", b"x") + &pem("EC PRIVATE KEY", own.as_ref());
    for text in [&pkcs8, &own, &pkcs8.replace('\n', "\r\n"), &pkcs8.replace('\n', "\\n")] {
        let signer = Signer::curve(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let token = signer.token(r#"{"alg":"ES256"}"#, r#"{"a":1}"#).unwrap();
        let (signed, signature) = token.rsplit_once('.').unwrap();
        assert_eq!(signed, "eyJhbGciOiJFUzI1NiJ9.eyJhIjoxfQ");
        let signature = base64::decode(signature.as_bytes(), Alphabet::Url).unwrap();
        let key = UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, &point);
        assert!(key.verify(signed.as_bytes(), &signature).is_ok());
    }

    let pair = rsa::KeyPair::generate(KeySize::Rsa2048).unwrap();
    let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
    let signer = Signer::rsa(&pem("PRIVATE KEY", der.as_ref())).unwrap();
    let token = signer.token("{}", "{}").unwrap();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let signature = base64::decode(signature.as_bytes(), Alphabet::Url).unwrap();
    let key = UnparsedPublicKey::new(
        &signature::RSA_PKCS1_2048_8192_SHA256,
        pair.public_key().as_ref().to_vec(),
    );
    assert!(key.verify(signed.as_bytes(), &signature).is_ok());
    // Each is refused in the other's place.
    assert!(Signer::curve(&pem("PRIVATE KEY", der.as_ref())).is_err());
    assert!(Signer::rsa(&pkcs8).is_err());
}

#[test]
fn what_is_no_key_is_refused() {
    for text in [
        "",
        "key",
        "-----BEGIN PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nAAAA",
        "-----BEGIN PRIVATE KEY-----\n!\n-----END PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
    ] {
        assert!(Signer::curve(text).is_err(), "{text}");
        assert!(Signer::rsa(text).is_err(), "{text}");
    }
}

#[test]
fn either_alphabet_will_do() {
    for text in ["-_8", "+/8", "-_8=", " +/8=\n"] {
        assert_eq!(any_base64(text).as_deref(), Some(&b"\xfb\xff"[..]), "{text}");
    }
    assert_eq!(any_base64("-/8"), None);
}
