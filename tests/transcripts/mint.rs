//! Tokens and signatures as an application makes them, written down a second time.

use hmac::{Hmac, KeyInit, Mac};
use ringmain::base::time::UnixMillis;
use sha2::{Digest, Sha256};

/// Base64 for URLs, without padding.
pub fn base64url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::new();
    for three in bytes.chunks(3) {
        let number = three.iter().fold(0, |number, byte| number << 8 | u32::from(*byte));
        let number = number << (8 * (3 - three.len()));
        let digits = (0..=three.len()).map(|n| DIGITS[(number >> (18 - 6 * n)) as usize & 63]);
        out.extend(digits.map(char::from));
    }
    out
}

fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length");
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

#[allow(dead_code)]
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A signed token with this header; its algorithm is HS256 whatever the header says.
pub fn token_with(header: &str, claims: &str, secret: &[u8]) -> String {
    let text = format!("{}.{}", base64url(header.as_bytes()), base64url(claims.as_bytes()));
    let signature = hmac(secret, text.as_bytes());
    format!("{text}.{}", base64url(&signature))
}

/// A token of these claims, HS256.
pub fn token(claims: &str, secret: &[u8]) -> String {
    token_with(r#"{"alg":"HS256","typ":"JWT"}"#, claims, secret)
}

/// The date and time as `YYYYMMDD` and `hhmmss` digits.
pub fn digits(wall: UnixMillis) -> (String, String) {
    let (days, second) = (wall.seconds() / 86_400, wall.seconds() % 86_400);
    // Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days.
    let days = days + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    (format!("{year:04}{month:02}{day:02}"), format!("{hour:02}{minute:02}{second:02}"))
}

/// `at(...)`, as a schedule says a second in UTC.
pub fn at(wall: UnixMillis) -> String {
    let (date, time) = digits(wall);
    let (year, rest) = date.split_at(4);
    let (month, day) = rest.split_at(2);
    let (hour, rest) = time.split_at(2);
    let (minute, second) = rest.split_at(2);
    format!("at({year}-{month}-{day}T{hour}:{minute}:{second})")
}

/// The header fields of a signed request of an AWS SDK: `path` as it is on the wire, no query.
///
/// Source: AWS, "Create a signed AWS API request", version 4; service `lambda`, whose paths are encoded again.
#[allow(dead_code)] // Not every test invokes.
pub fn sigv4(
    (id, secret): (&str, &str),
    path: &str,
    host: &str,
    body: &str,
    wall: UnixMillis,
) -> Vec<(String, String)> {
    let (date, time) = digits(wall);
    let moment = format!("{date}T{time}Z");
    let path = path.replace('%', "%25");
    let signed = "host;x-amz-date";
    let digest = hex(&Sha256::digest(body.as_bytes()));
    let request = format!("POST\n{path}\n\nhost:{host}\nx-amz-date:{moment}\n\n{signed}\n{digest}");
    let scope = format!("{date}/eu-central-1/lambda/aws4_request");
    let digest = hex(&Sha256::digest(request.as_bytes()));
    let text = format!("AWS4-HMAC-SHA256\n{moment}\n{scope}\n{digest}");
    let parts = [date.as_str(), "eu-central-1", "lambda", "aws4_request"];
    let key = parts
        .iter()
        .fold(format!("AWS4{secret}").into_bytes(), |key, part| hmac(&key, part.as_bytes()));
    let signature = hex(&hmac(&key, text.as_bytes()));
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={id}/{scope}, SignedHeaders={signed}, Signature={signature}"
    );
    vec![("X-Amz-Date".into(), moment), ("Authorization".into(), authorization)]
}

#[test]
fn what_is_minted_is_as_others_mint_it() {
    assert_eq!(base64url(b"{\"a\":1}?"), "eyJhIjoxfT8");
    assert_eq!(base64url(&[0xfb, 0xff]), "-_8");
    assert_eq!(at(UnixMillis(1_700_000_000_000)), "at(2023-11-14T22:13:20)");
    assert_eq!(at(UnixMillis(1_709_164_800_000)), "at(2024-02-29T00:00:00)");
    // The example of RFC 7519 with another key: checked with PyJWT.
    let token = token(r#"{"sub":"1"}"#, b"secret");
    assert!(token.starts_with("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxIn0."), "{token}");
}
