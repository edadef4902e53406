//! PKCS #12, as far as files go that are made today: their parts encrypted with AES under a password (PBES2). What is
//! encrypted as it was long ago (RC2, triple DES) is refused by name. Source: RFC 7292, RFC 8018, X.690.
//!
//! The seal over the whole file is not looked at: the request that brought it was signed, and a wrong password shows when
//! the parts are opened.

use std::num::NonZeroU32;

use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, DecryptionContext, PaddedBlockDecryptingKey, UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::pbkdf2;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::CHAIN_MAX;

/// Rounds that making a key from the password may take: a file says how many, and a thread does them.
const ROUNDS_MAX: u32 = 600_000;
/// Parts of a file, and bags in a part, at most.
const PARTS_MAX: usize = 64;

const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;
const OID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const INNER: u8 = 0xa0;
const INNER_OCTETS: u8 = 0x80;

const DATA: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01";
const ENCRYPTED_DATA: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x07\x06";
const KEY: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x0a\x01\x01";
const ENCRYPTED_KEY: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x0a\x01\x02";
const CERTIFICATE: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x0a\x01\x03";
const X509: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x09\x16\x01";
/// What begins the algorithms of long ago.
const OLD: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x01";
const PBES2: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x05\x0d";
const PBKDF2: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x05\x0c";
/// What begins the names of HMACs; one byte more says which.
const HMAC: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x02";
/// What begins the names of AES; one byte more says which.
const AES: &[u8] = b"\x60\x86\x48\x01\x65\x03\x04\x01";

type Opened = (Vec<CertificateDer<'static>>, Vec<PrivateKeyDer<'static>>);

/// Certificates and keys of a file. The error says what is wrong.
pub(super) fn open(file: &[u8], password: &str) -> Result<Opened, String> {
    let mut whole = Der(file).enter(SEQUENCE).ok_or(NONE)?;
    whole.take(INTEGER).ok_or(NONE)?;
    let mut safe = whole.enter(SEQUENCE).ok_or(NONE)?;
    if safe.take(OID) != Some(DATA) {
        return Err("the file is sealed for somebody, not by a password".to_owned());
    }
    let parts = safe.enter(INNER).and_then(|mut it| it.take(OCTETS)).ok_or(NONE)?;
    let mut parts = Der(parts).enter(SEQUENCE).ok_or(NONE)?;
    let mut opened = (Vec::new(), Vec::new());
    for _ in 0..PARTS_MAX {
        let Some(mut part) = parts.enter(SEQUENCE) else { break };
        let kind = part.take(OID).ok_or(NONE)?;
        let mut inner = part.enter(INNER).ok_or(NONE)?;
        match kind {
            DATA => open_bags(inner.take(OCTETS).ok_or(NONE)?, password, &mut opened)?,
            ENCRYPTED_DATA => {
                let mut data = inner.enter(SEQUENCE).ok_or(NONE)?;
                data.take(INTEGER).ok_or(NONE)?;
                let mut data = data.enter(SEQUENCE).ok_or(NONE)?;
                data.take(OID).ok_or(NONE)?;
                let how = data.enter(SEQUENCE).ok_or(NONE)?;
                let sealed = data.take(INNER_OCTETS).ok_or(NONE)?;
                open_bags(&decrypt(how, sealed, password)?, password, &mut opened)?;
            }
            _ => {}
        }
    }
    Ok(opened)
}

const NONE: &str = "it is no PKCS #12 file in DER";

fn open_bags(bags: &[u8], password: &str, opened: &mut Opened) -> Result<(), String> {
    let mut bags = Der(bags).enter(SEQUENCE).ok_or(WRONG)?;
    for _ in 0..PARTS_MAX {
        let Some(mut bag) = bags.enter(SEQUENCE) else { break };
        let kind = bag.take(OID).ok_or(NONE)?;
        let mut inner = bag.enter(INNER).ok_or(NONE)?;
        match kind {
            KEY => opened.1.push(PrivatePkcs8KeyDer::from(inner.0.to_vec()).into()),
            ENCRYPTED_KEY => {
                let mut key = inner.enter(SEQUENCE).ok_or(NONE)?;
                let how = key.enter(SEQUENCE).ok_or(NONE)?;
                let sealed = key.take(OCTETS).ok_or(NONE)?;
                let key = decrypt(how, sealed, password)?;
                opened.1.push(PrivatePkcs8KeyDer::from(key).into());
            }
            CERTIFICATE if opened.0.len() < CHAIN_MAX => {
                let mut certificate = inner.enter(SEQUENCE).ok_or(NONE)?;
                if certificate.take(OID) == Some(X509) {
                    let der = certificate.enter(INNER).and_then(|mut it| it.take(OCTETS));
                    opened.0.push(der.ok_or(NONE)?.to_vec().into());
                }
            }
            _ => {}
        }
    }
    Ok(())
}

const WRONG: &str = "the password is not that of the file";

/// What is sealed so. `how` is an `AlgorithmIdentifier` without its frame.
fn decrypt(mut how: Der<'_>, sealed: &[u8], password: &str) -> Result<Vec<u8>, String> {
    let unknown = || "the file is encrypted in a way that is not known here".to_owned();
    match how.take(OID).ok_or(NONE)? {
        PBES2 => {}
        old if old.starts_with(OLD) => {
            let text = "the file is encrypted with RC2 or triple DES, which is not read; \
                        `openssl pkcs12 -legacy -nodes` makes PEM of it, which is";
            return Err(text.to_owned());
        }
        _ => return Err(unknown()),
    }
    let mut how = how.enter(SEQUENCE).ok_or_else(unknown)?;
    let mut derivation = how.enter(SEQUENCE).ok_or_else(unknown)?;
    if derivation.take(OID) != Some(PBKDF2) {
        return Err(unknown());
    }
    let mut derivation = derivation.enter(SEQUENCE).ok_or_else(unknown)?;
    let salt = derivation.take(OCTETS).ok_or_else(unknown)?;
    let rounds = derivation.take(INTEGER).and_then(number).and_then(NonZeroU32::new);
    let rounds = rounds.filter(|it| it.get() <= ROUNDS_MAX);
    let rounds =
        rounds.ok_or_else(|| format!("the file asks for more than {ROUNDS_MAX} rounds"))?;
    // The length of the key goes without saying.
    let _ = derivation.take(INTEGER);
    let hash = derivation.enter(SEQUENCE).and_then(|mut it| it.take(OID));
    let hash = match hash.map(|it| it.strip_prefix(HMAC)) {
        None | Some(Some(&[7])) => pbkdf2::PBKDF2_HMAC_SHA1,
        Some(Some(&[9])) => pbkdf2::PBKDF2_HMAC_SHA256,
        Some(Some(&[10])) => pbkdf2::PBKDF2_HMAC_SHA384,
        Some(Some(&[11])) => pbkdf2::PBKDF2_HMAC_SHA512,
        Some(_) => return Err(unknown()),
    };
    let mut cipher = how.enter(SEQUENCE).ok_or_else(unknown)?;
    let (algorithm, bytes) = match cipher.take(OID).and_then(|it| it.strip_prefix(AES)) {
        Some(&[2]) => (&AES_128, 16),
        Some(&[22]) => (&AES_192, 24),
        Some(&[42]) => (&AES_256, 32),
        _ => return Err(unknown()),
    };
    let first: [u8; 16] =
        cipher.take(OCTETS).and_then(|it| it.try_into().ok()).ok_or_else(unknown)?;
    let mut key = [0; 32];
    let key = &mut key[..bytes];
    pbkdf2::derive(hash, rounds, salt, password.as_bytes(), key);
    let key = UnboundCipherKey::new(algorithm, key).map_err(|_| unknown())?;
    let key = PaddedBlockDecryptingKey::cbc_pkcs7(key).map_err(|_| unknown())?;
    let mut open = sealed.to_vec();
    let first = DecryptionContext::Iv128(FixedLength::from(first));
    let length = key.decrypt(&mut open, first).map_err(|_| WRONG)?.len();
    open.truncate(length);
    Ok(open)
}

fn number(bytes: &[u8]) -> Option<u32> {
    let bytes = bytes.strip_prefix(&[0]).unwrap_or(bytes);
    let is_small = bytes.len() <= 4;
    is_small.then(|| bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
}

/// What is left of some DER.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The content of what comes next, if it has this tag; what has another stays where it is.
    fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (&first, rest) = self.0.split_first()?;
        let (&length, rest) = rest.split_first()?;
        let (length, rest) = match length {
            0..=0x7f => (usize::from(length), rest),
            0x81..=0x83 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
                (bytes.iter().fold(0, |it, byte| it << 8 | usize::from(*byte)), rest)
            }
            // Without a length, or larger than any file.
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        (first == tag).then(|| {
            self.0 = rest;
            content
        })
    }

    /// The same, to go on within.
    fn enter(&mut self, tag: u8) -> Option<Der<'a>> {
        self.take(tag).map(Der)
    }
}
