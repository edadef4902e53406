//! Tokens of the Hotsock dialect: checking their signatures, reading their claims, asking what they allow.
//!
//! `cargo bench --bench tokens`; the least of several rounds, what is compared taking turns. The bare signature is
//! what the cryptography asks for alone, with a key that is ready.

use std::fmt::Write;
use std::hint::black_box;
use std::time::Instant;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, ParsedPublicKey, RsaKeyPair, VerificationAlgorithm,
};
use aws_lc_rs::{digest, hmac, rsa};
use ringmain::auth::keyring::{KeySlot, Keyring, METHODS};
use ringmain::base::time::{Millis, UnixMillis};
use ringmain::config::Secret;
use ringmain::dialects::hotsock::claims::{Claims, PATTERNS_MAX};
use ringmain::dialects::hotsock::rights::Rights;
use ringmain::wire::base64::{self, Alphabet};

const WALL: UnixMillis = UnixMillis(1_700_000_000_000);
const SECRET: &[u8] = b"a secret of more than thirty-two bytes";

fn main() {
    let signers: Vec<Signer> = METHODS.iter().map(|method| Signer::new(method)).collect();
    verification(&signers, "small", &small());
    verification(&signers, "256 patterns", &patterned(PATTERNS_MAX));
    reading();
    asking();
}

/// A key and how it signs.
struct Signer {
    method: &'static str,
    slot: KeySlot,
    sign: Sign,
    check: Check,
}

/// The signature of a text.
type Sign = Box<dyn Fn(&[u8]) -> Vec<u8>>;
/// Whether a text has this signature.
type Check = Box<dyn Fn(&[u8], &[u8]) -> bool>;

impl Signer {
    fn new(method: &'static str) -> Self {
        match method {
            "HS256" => Self::secret(method, hmac::HMAC_SHA256),
            "HS384" => Self::secret(method, hmac::HMAC_SHA384),
            "HS512" => Self::secret(method, hmac::HMAC_SHA512),
            "RS256" => Self::rsa(method, &signature::RSA_PKCS1_SHA256),
            "RS384" => Self::rsa(method, &signature::RSA_PKCS1_SHA384),
            "RS512" => Self::rsa(method, &signature::RSA_PKCS1_SHA512),
            "PS256" => Self::rsa(method, &signature::RSA_PSS_SHA256),
            "PS384" => Self::rsa(method, &signature::RSA_PSS_SHA384),
            "PS512" => Self::rsa(method, &signature::RSA_PSS_SHA512),
            "ES256" => Self::curve(method, &signature::ECDSA_P256_SHA256_FIXED_SIGNING),
            "ES384" => Self::curve(method, &signature::ECDSA_P384_SHA384_FIXED_SIGNING),
            "ES512" => Self::curve(method, &signature::ECDSA_P521_SHA512_FIXED_SIGNING),
            "EdDSA" => {
                let pair = Ed25519KeyPair::generate().expect("a key");
                let der = pair.public_key().as_der();
                Self::public(method, der, move |text| pair.sign(text).as_ref().to_vec())
            }
            other => panic!("{other} has no signer here"),
        }
    }

    fn secret(method: &'static str, algorithm: hmac::Algorithm) -> Self {
        let key = hmac::Key::new(algorithm, SECRET);
        let mut key_base64 = String::new();
        base64::encode(&mut key_base64, SECRET, Alphabet::Standard);
        let checked = key.clone();
        Self {
            method,
            slot: KeySlot { method, id: None, key_base64: Secret(key_base64) },
            sign: Box::new(move |text| hmac::sign(&key, text).as_ref().to_vec()),
            check: Box::new(move |text, tag| hmac::verify(&checked, text, tag).is_ok()),
        }
    }

    fn rsa(method: &'static str, padding: &'static dyn signature::RsaEncoding) -> Self {
        let pair = rsa::KeyPair::generate(KeySize::Rsa2048).expect("a key");
        let der = pair.public_key().as_der();
        let sign = move |text: &[u8]| rsa_signature(&pair, padding, text);
        Self::public(method, der, sign)
    }

    fn curve(method: &'static str, algorithm: &'static signature::EcdsaSigningAlgorithm) -> Self {
        let pair = EcdsaKeyPair::generate(algorithm).expect("a key");
        let der = pair.public_key().as_der();
        let sign = move |text: &[u8]| {
            pair.sign(&SystemRandom::new(), text).expect("a signature").as_ref().to_vec()
        };
        Self::public(method, der, sign)
    }

    fn public(
        method: &'static str,
        der: Result<PublicKeyX509Der<'static>, aws_lc_rs::error::Unspecified>,
        sign: impl Fn(&[u8]) -> Vec<u8> + 'static,
    ) -> Self {
        let der = der.expect("a public key");
        let key = ParsedPublicKey::new(algorithm(method), der.as_ref()).expect("a public key");
        let mut pem = "-----BEGIN PUBLIC KEY-----\n".to_owned();
        base64::encode(&mut pem, der.as_ref(), Alphabet::Standard);
        pem += "\n-----END PUBLIC KEY-----\n";
        let mut key_base64 = String::new();
        base64::encode(&mut key_base64, pem.as_bytes(), Alphabet::Standard);
        Self {
            method,
            slot: KeySlot { method, id: None, key_base64: Secret(key_base64) },
            sign: Box::new(sign),
            check: Box::new(move |text, signature| key.verify_sig(text, signature).is_ok()),
        }
    }

    /// What is signed, its signature, and both as a token.
    fn token(&self, claims: &str) -> (String, Vec<u8>, String) {
        let mut signed = String::new();
        let head = format!(r#"{{"alg":"{}","typ":"JWT"}}"#, self.method);
        base64::encode(&mut signed, head.as_bytes(), Alphabet::Url);
        signed.push('.');
        base64::encode(&mut signed, claims.as_bytes(), Alphabet::Url);
        let signature = (self.sign)(signed.as_bytes());
        let mut token = signed.clone() + ".";
        base64::encode(&mut token, &signature, Alphabet::Url);
        (signed, signature, token)
    }
}

fn algorithm(method: &str) -> &'static dyn VerificationAlgorithm {
    match method {
        "RS256" => &signature::RSA_PKCS1_2048_8192_SHA256,
        "RS384" => &signature::RSA_PKCS1_2048_8192_SHA384,
        "RS512" => &signature::RSA_PKCS1_2048_8192_SHA512,
        "PS256" => &signature::RSA_PSS_2048_8192_SHA256,
        "PS384" => &signature::RSA_PSS_2048_8192_SHA384,
        "PS512" => &signature::RSA_PSS_2048_8192_SHA512,
        "ES256" => &signature::ECDSA_P256_SHA256_FIXED,
        "ES384" => &signature::ECDSA_P384_SHA384_FIXED,
        "ES512" => &signature::ECDSA_P521_SHA512_FIXED,
        _ => &signature::ED25519,
    }
}

fn rsa_signature(
    pair: &RsaKeyPair,
    padding: &'static dyn signature::RsaEncoding,
    text: &[u8],
) -> Vec<u8> {
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(padding, &SystemRandom::new(), text, &mut signature).expect("a signature");
    signature
}

/// What a browser is given for one room.
fn small() -> String {
    r#"{"exp":4102444800,"scope":"connect","uid":"42","umd":{"name":"Ada"},"channels":{"room.1":{"subscribe":true,"messages":{"chat":{"publish":true,"echo":true,"store":3600}}}}}"#.into()
}

/// Half of so many patterns for channels, each with one for events; the last channel is `room.1`.
fn patterned(patterns: usize) -> String {
    let mut claims = r#"{"exp":4102444800,"scope":"connect","uid":"42","channels":{"#.to_owned();
    for at in (1..=patterns / 2).rev() {
        let comma = if at == 1 { "" } else { "," };
        let name = match at % 2 {
            1 => format!("room.{at}"),
            _ => format!("room{at:03}.*"),
        };
        let _ = write!(
            claims,
            r#""{name}":{{"subscribe":true,"messages":{{"ch*":{{"publish":true}}}}}}{comma}"#
        );
    }
    claims + "}}"
}

fn verification(signers: &[Signer], size: &str, claims: &str) {
    for signer in signers {
        let slot = std::slice::from_ref(&signer.slot);
        let keyring = Keyring::new(slot, "", "", Millis(0)).expect("a good key");
        let (signed, signature, token) = signer.token(claims);
        let (ours, bare) =
            least(&mut || assert!(keyring.verify(black_box(&token), WALL).is_ok()), &mut || {
                assert!((signer.check)(black_box(signed.as_bytes()), &signature))
            });
        let name = format!("verify {}, {size} ({} B)", signer.method, token.len());
        println!(
            "{name:36} {ours:9.0} ns {:9.0} per CPU-second   bare signature {bare:9.0} ns   the rest {:7.0} ns",
            1e9 / ours,
            ours - bare
        );
    }
}

fn reading() {
    for (name, claims) in [
        ("small".to_owned(), small()),
        (format!("{PATTERNS_MAX} patterns"), patterned(PATTERNS_MAX)),
    ] {
        let (ours, hashed) =
            least(&mut || assert!(Claims::parse(black_box(&claims)).is_ok()), &mut || {
                black_box(digest::digest(&digest::SHA256, black_box(claims.as_bytes())));
            });
        let name = format!("read claims, {name} ({} B)", claims.len());
        println!(
            "{name:36} {ours:9.0} ns {:9.0} per CPU-second   SHA-256 of them {hashed:9.0} ns",
            1e9 / ours
        );
    }
}

fn asking() {
    for patterns in [2, 16, PATTERNS_MAX] {
        let claims = Claims::parse(&patterned(patterns)).expect("good claims");
        let rights = Rights { connect: &claims, subscribe: None };
        assert!(rights.message("room.1", "chat").may_publish(true));
        assert!(!rights.message("hall.1", "chat").may_publish(true));
        let (found, absent) = least(
            &mut || {
                black_box(rights.message(black_box("room.1"), black_box("chat")));
            },
            &mut || {
                black_box(rights.message(black_box("hall.1"), black_box("chat")));
            },
        );
        let (subscribe, _) = least(
            &mut || {
                black_box(rights.may_subscribe(black_box("room.1")));
            },
            &mut || {},
        );
        println!(
            "{:36} {found:9.0} ns   of a channel nobody named {absent:9.0} ns   to subscribe {subscribe:9.0} ns",
            format!("rights of a message, {patterns} patterns")
        );
    }
}

/// The least time per call of both, in nanoseconds, taking turns.
fn least(one: &mut dyn FnMut(), other: &mut dyn FnMut()) -> (f64, f64) {
    let calls = |run: &mut dyn FnMut()| {
        let mut calls = 1u32;
        while time(run, calls) * f64::from(calls) < 2e6 && calls < 1 << 20 {
            calls *= 2;
        }
        calls
    };
    let (ones, others) = (calls(one), calls(other));
    (0..15).fold((f64::MAX, f64::MAX), |(a, b), _| {
        (a.min(time(one, ones)), b.min(time(other, others)))
    })
}

/// Nanoseconds per call.
fn time(run: &mut dyn FnMut(), calls: u32) -> f64 {
    let start = Instant::now();
    for _ in 0..calls {
        run();
    }
    start.elapsed().as_nanos() as f64 / f64::from(calls)
}
