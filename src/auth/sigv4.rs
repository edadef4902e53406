//! AWS Signature Version 4 on requests, as AWS SDKs sign them.
//!
//! Source: the AWS General Reference, "Create a signed AWS API request"; the details that it leaves open are those of
//! the SDKs for every service but S3: the path is brought into its shortest form and encoded once more.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::base::time::{Millis, UnixMillis};
use crate::config::Secret;
use crate::wire::http::query::{self, Plus};

/// How far a request's time may be from ours, either way.
pub const WINDOW: Millis = Millis(5 * 60 * 1000);
/// Header fields that one request may sign.
const FIELDS_MAX: usize = 64;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// Who may sign.
#[derive(Clone, Debug)]
pub struct AccessKey {
    /// What requests name it by.
    pub id: String,
    /// What they are signed with.
    pub secret: Secret,
}

/// A request as it came.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The method, upper case.
    pub method: &'a str,
    /// The path, percent-encoding left as it is.
    pub path: &'a str,
    /// What followed `?`.
    pub query: Option<&'a str>,
    /// The header fields in order, values trimmed.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// The whole body.
    pub body: &'a [u8],
}

/// Why a request's signature was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureError {
    /// It has no signature, or not what every signature comes with.
    Missing {
        /// Which header field.
        field: &'static str,
    },
    /// A header field is not what it must be.
    Malformed {
        /// What.
        what: &'static str,
    },
    /// No access key has the id.
    UnknownKey,
    /// It was signed too long ago, or will be.
    Expired {
        /// Our clock, in seconds since 1970.
        server_seconds: u64,
    },
    /// The body is not the one that was signed.
    Body,
    /// The key's owner did not sign this.
    Mismatch,
}

impl fmt::Display for SignatureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { field } => write!(f, "{field} is missing"),
            Self::Malformed { what } => f.write_str(what),
            Self::UnknownKey => f.write_str("the access key id is not configured"),
            Self::Expired { server_seconds } => write!(
                f,
                "X-Amz-Date is more than {} s away from the server's clock, which says {}",
                WINDOW.0 / 1000,
                UnixMillis(server_seconds * 1000).to_civil()
            ),
            Self::Body => f.write_str("x-amz-content-sha256 is not the SHA-256 of the body"),
            Self::Mismatch => f.write_str(
                "the signature is not right: compare secret, path, query and signed headers",
            ),
        }
    }
}

impl std::error::Error for SignatureError {}

/// Which of the keys signed a request to `service`, in whatever region.
pub fn verify<'k>(
    keys: &'k [AccessKey],
    service: &str,
    request: &Request<'_>,
    wall: UnixMillis,
) -> Result<&'k AccessKey, SignatureError> {
    let field =
        |name: &'static str| request.field(name)?.ok_or(SignatureError::Missing { field: name });
    let authorization = Authorization::read(field("Authorization")?)?;
    let time = field("X-Amz-Date")?;
    let at = seconds(time)
        .ok_or(SignatureError::Malformed { what: "X-Amz-Date must be like 20260131T120000Z" })?;
    let [id, day, region, of_service] = authorization.credential;
    if !time.starts_with(day) || day.len() != 8 || of_service != service {
        return Err(SignatureError::Malformed {
            what: "the credential's date or service is not the request's",
        });
    }
    if at.saturating_mul(1000).abs_diff(wall.0) > WINDOW.0 {
        return Err(SignatureError::Expired { server_seconds: wall.seconds() });
    }
    let key = keys.iter().find(|it| it.id == id).ok_or(SignatureError::UnknownKey)?;

    let digest = hex(&Sha256::digest(request.body));
    if request.field("X-Amz-Content-Sha256")?.is_some_and(|it| it != digest) {
        return Err(SignatureError::Body);
    }
    let canonical = canonical(request, &authorization, &digest)?;
    let scope = format!("{day}/{region}/{service}/aws4_request");
    let text = format!("{ALGORITHM}\n{time}\n{scope}\n{}", hex(&Sha256::digest(canonical)));
    let secret = format!("AWS4{}", key.secret.0);
    let signing_key = [day, region, service, "aws4_request"]
        .iter()
        .fold(secret.into_bytes(), |key, part| mac(&key, part.as_bytes()));
    let right = hex(&mac(&signing_key, text.as_bytes()));
    if bool::from(right.as_bytes().ct_eq(authorization.signature.as_bytes())) {
        Ok(key)
    } else {
        Err(SignatureError::Mismatch)
    }
}

impl<'a> Request<'a> {
    /// The one value of a field that nobody sends twice.
    fn field(&self, name: &str) -> Result<Option<&'a str>, SignatureError> {
        let mut values = self.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        let (value, more) = (values.next(), values.next());
        let wrong = SignatureError::Malformed { what: "a header field of the signature is wrong" };
        match value {
            _ if more.is_some() => Err(wrong),
            None => Ok(None),
            Some((_, value)) => std::str::from_utf8(value).map(Some).map_err(|_| wrong),
        }
    }
}

/// What the header field of the name says.
struct Authorization<'a> {
    /// Key id, day, region, service.
    credential: [&'a str; 4],
    /// Names of header fields, lower case, sorted.
    fields: &'a str,
    signature: &'a str,
}

impl<'a> Authorization<'a> {
    fn read(text: &'a str) -> Result<Self, SignatureError> {
        let wrong = |what| SignatureError::Malformed { what };
        let rest = text
            .strip_prefix(ALGORITHM)
            .filter(|it| it.starts_with(' '))
            .ok_or(wrong("Authorization must start with AWS4-HMAC-SHA256"))?;
        let [mut credential, mut fields, mut signature] = [None; 3];
        for part in rest.split(',') {
            let (name, value) = part.trim().split_once('=').unwrap_or_default();
            match name {
                "Credential" => credential = Some(value),
                "SignedHeaders" => fields = Some(value),
                "Signature" => signature = Some(value),
                _ => {}
            }
        }
        let missing = wrong("Authorization must have Credential, SignedHeaders and Signature");
        let (credential, fields, signature) =
            credential.zip(fields).zip(signature).map(|((a, b), c)| (a, b, c)).ok_or(missing)?;
        // An access key's id may have slashes in it: what follows is counted from the end.
        let mut parts = credential.rsplitn(5, '/');
        let mut part = || parts.next().ok_or(wrong("the credential must have five parts"));
        let (end, service, region, day, id) = (part()?, part()?, part()?, part()?, part()?);
        if end != "aws4_request" || region.is_empty() || id.is_empty() {
            return Err(wrong("the credential must be ID/DAY/REGION/SERVICE/aws4_request"));
        }
        let mut names: Vec<&str> = fields.split(';').take(FIELDS_MAX + 1).collect();
        let is_plain = |it: &&str| !it.is_empty() && !it.bytes().any(|it| it.is_ascii_uppercase());
        if names.len() > FIELDS_MAX || !names.iter().all(is_plain) || !names.is_sorted() {
            return Err(wrong("SignedHeaders must be at most 64 names, lower case and sorted"));
        }
        names.retain(|it| ["host", "x-amz-date"].contains(it));
        if names != ["host", "x-amz-date"] {
            return Err(wrong("SignedHeaders must have host and x-amz-date"));
        }
        Ok(Self { credential: [id, day, region, service], fields, signature })
    }
}

/// The request in the one form that both sides hash.
fn canonical(
    request: &Request<'_>,
    authorization: &Authorization<'_>,
    digest: &str,
) -> Result<Vec<u8>, SignatureError> {
    let mut text = String::with_capacity(512);
    text.push_str(request.method);
    text.push('\n');
    write_path(&mut text, request.path);
    text.push('\n');
    write_query(&mut text, request.query.unwrap_or_default());
    text.push('\n');
    let mut text = text.into_bytes();
    for name in authorization.fields.split(';') {
        text.extend_from_slice(name.as_bytes());
        let mut separator = b':';
        for (_, value) in request.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name)) {
            text.push(separator);
            separator = b',';
            write_squeezed(&mut text, value);
        }
        if separator == b':' {
            return Err(SignatureError::Malformed {
                what: "SignedHeaders has a header that is not there",
            });
        }
        text.push(b'\n');
    }
    text.push(b'\n');
    text.extend_from_slice(authorization.fields.as_bytes());
    text.push(b'\n');
    text.extend_from_slice(digest.as_bytes());
    Ok(text)
}

/// The path without empty parts, `.` and `..`, each of its parts encoded (once more).
fn write_path(out: &mut String, path: &str) {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    for part in &parts {
        out.push('/');
        query::encode(out, part);
    }
    if parts.is_empty() || path.ends_with(['/']) {
        out.push('/');
    }
}

/// The parameters encoded and sorted.
fn write_query(out: &mut String, query: &str) {
    let encoded = |text: &str| {
        let mut out = String::new();
        query::encode(&mut out, &query::decode_lossy(text, Plus::Literal));
        out
    };
    let mut pairs: Vec<(String, String)> =
        query::pairs_raw(query).map(|(key, value)| (encoded(key), encoded(value))).collect();
    pairs.sort();
    for (i, (key, value)) in pairs.iter().enumerate() {
        if i > 0 {
            out.push('&');
        }
        out.push_str(key);
        out.push('=');
        out.push_str(value);
    }
}

/// A field's value, runs of spaces as one.
fn write_squeezed(out: &mut Vec<u8>, value: &[u8]) {
    let mut before = b' ';
    for &byte in value.trim_ascii() {
        if byte != b' ' || before != b' ' {
            out.push(byte);
        }
        before = byte;
    }
}

/// `20260131T120000Z` in seconds since 1970.
fn seconds(text: &str) -> Option<u64> {
    let bytes = text.as_bytes();
    let is_form = bytes.len() == 16 && bytes[8] == b'T' && bytes[15] == b'Z';
    let number = |from: usize, to: usize| {
        let digits = bytes.get(from..to)?;
        let digit =
            |n: u64, byte: &u8| byte.is_ascii_digit().then(|| n * 10 + u64::from(byte - b'0'));
        digits.iter().try_fold(0, digit)
    };
    if !is_form {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
    let (hour, minute, second) = (number(9, 11)?, number(11, 13)?, number(13, 15)?);
    let is_time = hour < 24 && minute < 60 && second < 60;
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) || !is_time {
        return None;
    }
    // The inverse of `UnixMillis::to_civil`, from the same source.
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year / 400, year % 400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

fn mac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("an HMAC key may have any length");
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

#[cfg(test)]
#[path = "sigv4_tests.rs"]
mod tests;
