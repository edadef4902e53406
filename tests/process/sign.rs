//! Pusher's request signature, written down a second time.

use std::time::{SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use sha2::Sha256;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Signs `text`.
pub fn hmac(secret: &str, text: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("a key of any length");
    mac.update(text.as_bytes());
    hex(&mac.finalize().into_bytes())
}

/// The target of a signed POST.
pub fn target((id, key, secret): (&str, &str, &str), route: &str, body: &[u8]) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let digest = hex(&Md5::digest(body));
    let path = format!("/apps/{id}/{route}");
    let query = format!("auth_key={key}&auth_timestamp={now}&auth_version=1.0&body_md5={digest}");
    let signature = hmac(secret, &format!("POST\n{path}\n{query}"));
    format!("{path}?{query}&auth_signature={signature}")
}

/// The target of a signed request of any method; `path` is the whole path, `query` holds nothing to be encoded.
pub fn target_of(
    (_, key, secret): (&str, &str, &str),
    method: &str,
    path: &str,
    query: &[(&str, &str)],
    body: &[u8],
) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let (now, digest) = (now.to_string(), hex(&Md5::digest(body)));
    let mut pairs = vec![("auth_key", key), ("auth_timestamp", &now), ("auth_version", "1.0")];
    if !body.is_empty() {
        pairs.push(("body_md5", &digest));
    }
    pairs.extend(query);
    pairs.sort_unstable();
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let query = pairs.join("&");
    let signature = hmac(secret, &format!("{method}\n{path}\n{query}"));
    format!("{path}?{query}&auth_signature={signature}")
}

/// A whole signed GET; `query` is sorted already and holds nothing to be encoded. The connection stays.
pub fn get((id, key, secret): (&str, &str, &str), route: &str, query: &[(&str, &str)]) -> String {
    let now =
        SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs().to_string();
    let mut pairs = vec![("auth_key", key), ("auth_timestamp", &now), ("auth_version", "1.0")];
    pairs.extend(query);
    pairs.sort_unstable();
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let (path, query) = (format!("/apps/{id}/{route}"), pairs.join("&"));
    let signature = hmac(secret, &format!("GET\n{path}\n{query}"));
    format!("GET {path}?{query}&auth_signature={signature} HTTP/1.1\r\nHost: here\r\n\r\n")
}

/// A whole signed POST; the connection stays.
pub fn post(app: (&str, &str, &str), route: &str, body: &[u8]) -> String {
    let target = target(app, route, body);
    let length = body.len();
    let body = std::str::from_utf8(body).expect("our bodies are text");
    format!(
        "POST {target} HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
}
