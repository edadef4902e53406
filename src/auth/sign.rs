//! HMAC-SHA256 signatures: of channel and user grants, and of whole HTTP requests as Pusher signs
//! them.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use sha2::Sha256;
use subtle::{Choice, ConstantTimeEq};

use super::apps::{App, Apps};
use crate::base::time::{Millis, UnixMillis};
use crate::wire::http::query::{self, Plus};

/// A secret with its padding already hashed: a signature costs two compressions less.
#[derive(Clone)]
pub struct SigningKey(Hmac<Sha256>);

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl SigningKey {
    /// Prepares a secret of any length.
    pub fn new(secret: &[u8]) -> Self {
        Self(Hmac::new_from_slice(secret).expect("an HMAC key may have any length"))
    }

    /// The signature of `parts`, taken as one run of bytes: 64 lower-case hex digits.
    pub fn sign(&self, parts: &[&[u8]]) -> [u8; 64] {
        let mut mac = self.0.clone();
        for part in parts {
            mac.update(part);
        }
        hex(mac.finalize().into_bytes().into())
    }

    /// The signature of `parts` as 16 bytes: for tokens that we ourselves issue and read.
    pub fn tag(&self, parts: &[&[u8]]) -> [u8; 16] {
        let mut mac = self.0.clone();
        for part in parts {
            mac.update(part);
        }
        let whole: [u8; 32] = mac.finalize().into_bytes().into();
        std::array::from_fn(|i| whole[i])
    }

    /// True if `tag` is the tag of `parts`; takes the same time wherever it differs.
    pub fn verify_tag(&self, parts: &[&[u8]], tag: &[u8]) -> bool {
        bool::from(self.tag(parts)[..].ct_eq(tag))
    }

    /// True if `signature` is the signature of `parts`, in lower-case hex; takes the same time
    /// wherever it differs.
    pub fn verify(&self, parts: &[&[u8]], signature: &str) -> bool {
        bool::from(self.sign(parts).ct_eq(signature.as_bytes()))
    }
}

/// Lower-case hex of a digest of N bytes, as 2N digits.
fn hex<const N: usize, const D: usize>(digest: [u8; N]) -> [u8; D] {
    const { assert!(D == 2 * N, "two digits for each byte") };
    let mut digits = [0; D];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(digest) {
        pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
        pair[1] = b"0123456789abcdef"[usize::from(byte & 15)];
    }
    digits
}

/// The MD5 of a request's body: 32 lower-case hex digits. An integrity check inside a signed
/// request, not a secret. Source: the Pusher HTTP API's `body_md5`.
pub fn body_md5(body: &[u8]) -> [u8; 32] {
    hex::<16, 32>(Md5::digest(body).into())
}

/// A digest of `parts`, each kept apart from the next: the first 16 bytes of a SHA-256.
pub fn fingerprint(parts: &[&[u8]]) -> [u8; 16] {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    let whole: [u8; 32] = digest.finalize().into();
    std::array::from_fn(|i| whole[i])
}

/// Splits `<app key>:<signature>`, checks the key part and the signature of `parts`.
fn verify_grant(app: &App, auth: &str, parts: &[&[u8]]) -> bool {
    let (key, signature) = auth.split_once(':').unwrap_or(("", auth));
    let right = app.signing_key.sign(parts);
    let same: Choice =
        key.as_bytes().ct_eq(app.settings.key.as_bytes()) & right.ct_eq(signature.as_bytes());
    bool::from(same)
}

/// True if `auth` lets `socket_id` into a private channel or, with `channel_data`, into a presence
/// channel. Source: Pusher protocol, channel authorization.
pub fn verify_channel(
    app: &App,
    auth: &str,
    socket_id: &str,
    channel: &str,
    channel_data: Option<&str>,
) -> bool {
    let (socket_id, channel) = (socket_id.as_bytes(), channel.as_bytes());
    match channel_data {
        None => verify_grant(app, auth, &[socket_id, b":", channel]),
        Some(it) => verify_grant(app, auth, &[socket_id, b":", channel, b":", it.as_bytes()]),
    }
}

/// True if `auth` signs `socket_id` in with `user_data`. Source: Pusher protocol, user authentication.
pub fn verify_user(app: &App, auth: &str, socket_id: &str, user_data: &str) -> bool {
    verify_grant(app, auth, &[socket_id.as_bytes(), b"::user::", user_data.as_bytes()])
}

/// The parameters of a query, decoded: keys in lower case, sorted, the last of several wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query<'a> {
    pairs: Pairs<'a>,
    /// The same with the keys as they were sent, sorted by those; empty: they were sent in lower case. Pusher signs keys
    /// in lower case, and whoever writes a signer by hand signs what is sent.
    as_sent: Pairs<'a>,
}

type Pairs<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

impl<'a> Query<'a> {
    /// Reads what followed `?`. Percent escapes are decoded (what does not decode to UTF-8 is
    /// replaced), a plus stays a plus: signers sign the value before it is escaped.
    pub fn parse(query: &'a str) -> Self {
        let sent: Pairs<'a> = query::pairs_raw(query)
            .map(|(key, value)| {
                (query::decode_lossy(key, Plus::Literal), query::decode_lossy(value, Plus::Literal))
            })
            .collect();
        let is_upper = |(key, _): &(Cow<'a, str>, Cow<'a, str>)| {
            key.bytes().any(|byte| byte.is_ascii_uppercase())
        };
        if !sent.iter().any(is_upper) {
            return Self { pairs: sorted(sent), as_sent: Vec::new() };
        }
        let lower =
            sent.iter().map(|(key, value)| (Cow::Owned(key.to_ascii_lowercase()), value.clone()));
        Self { pairs: sorted(lower.collect()), as_sent: sorted(sent) }
    }

    /// The value of a parameter.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.pairs.iter().find(|(k, _)| k == key).map(|(_, value)| &**value)
    }
}

/// Sorts parameters; the last of several wins.
fn sorted<'a>(mut pairs: Pairs<'a>) -> Pairs<'a> {
    // Stable, so that among equals the last one given is the last one here.
    pairs.sort_by(|a, b| a.0.cmp(&b.0));
    let mut kept: Pairs<'a> = Vec::with_capacity(pairs.len());
    for pair in pairs {
        match kept.last_mut() {
            Some(last) if last.0 == pair.0 => *last = pair,
            _ => kept.push(pair),
        }
    }
    kept
}

/// A request as its signature sees it.
#[derive(Clone, Copy, Debug)]
pub struct SignedRequest<'a> {
    /// The method, upper case.
    pub method: &'a str,
    /// The path as received, percent-encoding left as it is.
    pub path: &'a str,
    /// The app id the path names, decoded; none if the path names no app.
    pub app_id: Option<&'a str>,
    /// The whole body.
    pub body: &'a [u8],
}

/// Why a request's signature was refused.
///
/// Which app was meant does not show in it: an unknown key, another app's path and a wrong
/// signature are all [`RequestError::Signature`] and cost the same work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// A parameter every signed request carries is absent.
    Missing {
        /// Which.
        parameter: &'static str,
    },
    /// `auth_timestamp` is not a whole number of seconds.
    TimestampMalformed,
    /// `auth_timestamp` is too far from this server's clock.
    TimestampStale {
        /// The server's clock, in seconds since 1970.
        server_seconds: u64,
        /// How far it may be, in seconds.
        window_seconds: u64,
    },
    /// `body_md5` is absent although there is a body.
    BodyUnsigned,
    /// `body_md5` is not the digest of the body.
    BodyChanged,
    /// No app with this key signed this request for this path.
    Signature,
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { parameter } => write!(f, "{parameter} is missing"),
            Self::TimestampMalformed => {
                f.write_str("auth_timestamp must be whole seconds since 1970")
            }
            Self::TimestampStale { server_seconds, window_seconds } => write!(
                f,
                "auth_timestamp is more than {window_seconds} s away from the server's clock, \
                 which says {server_seconds}"
            ),
            Self::BodyUnsigned => f.write_str("body_md5 is missing"),
            Self::BodyChanged => f.write_str("body_md5 is not the MD5 of the body"),
            Self::Signature => f.write_str(
                "Invalid API signature: unknown auth_key, wrong auth_signature, or another app's path",
            ),
        }
    }
}

/// The text a request's signature covers, without `auth_signature`. Source: Pusher HTTP API,
/// "Generating authentication signatures".
fn request_text(method: &str, path: &str, pairs: &Pairs<'_>) -> String {
    let mut text = String::with_capacity(256);
    text.push_str(method);
    text.push('\n');
    // The router drops one trailing slash, and signers sign the path without it.
    text.push_str(path.strip_suffix('/').unwrap_or(path));
    let mut separator = '\n';
    for (key, value) in pairs.iter().filter(|(key, _)| key != "auth_signature") {
        text.push(separator);
        text.push_str(key);
        text.push('=');
        text.push_str(value);
        separator = '&';
    }
    text
}

/// Who signed this request, if it is all there, fresh and unchanged.
///
/// `window` is how far `auth_timestamp` may be from `wall`, either way. `body_md5` must be there
/// when there is a body, and right whenever it is there: the Python SDK sends it with a GET too.
pub fn verify_request<'t>(
    apps: &'t Apps,
    request: SignedRequest<'_>,
    query: &Query<'_>,
    wall: UnixMillis,
    window: Millis,
) -> Result<&'t Arc<App>, RequestError> {
    let parameter =
        |name: &'static str| query.value(name).ok_or(RequestError::Missing { parameter: name });
    let auth_key = parameter("auth_key")?;
    let timestamp: u64 =
        parameter("auth_timestamp")?.parse().map_err(|_| RequestError::TimestampMalformed)?;
    let signature = parameter("auth_signature")?;
    if timestamp.saturating_mul(1000).abs_diff(wall.0) > window.0 {
        return Err(RequestError::TimestampStale {
            server_seconds: wall.seconds(),
            window_seconds: window.0 / 1000,
        });
    }
    match query.value("body_md5") {
        None if request.body.is_empty() => {}
        None => return Err(RequestError::BodyUnsigned),
        Some(it) if bool::from(body_md5(request.body).ct_eq(it.as_bytes())) => {}
        Some(_) => return Err(RequestError::BodyChanged),
    }

    let app = apps.with_key(auth_key);
    let signing_key = app.map_or(apps.decoy(), |app| &app.signing_key);
    let is_signed = |pairs: &Pairs<'_>| {
        let text = request_text(request.method, request.path, pairs);
        signing_key.verify(&[text.as_bytes()], signature)
    };
    let mut signed = is_signed(&query.pairs);
    if !query.as_sent.is_empty() {
        signed |= is_signed(&query.as_sent);
    }
    let of_path = |app: &App| request.app_id.is_none_or(|id| id == app.settings.id);
    match app {
        Some(app) if signed && of_path(app) => Ok(app),
        _ => Err(RequestError::Signature),
    }
}

/// The query that signs a request, without the `?`: what a publisher sends. `parameters` are its own,
/// values not escaped.
pub fn sign_request(
    app: &App,
    method: &str,
    path: &str,
    parameters: &[(&str, &str)],
    body: &[u8],
    wall: UnixMillis,
) -> String {
    let seconds = wall.seconds().to_string();
    let md5 = body_md5(body);
    let md5 = std::str::from_utf8(&md5).expect("hex digits are ASCII");
    let mut pairs: Pairs<'_> =
        parameters.iter().map(|&(key, value)| (key.into(), value.into())).collect();
    pairs.push(("auth_key".into(), app.settings.key.as_str().into()));
    pairs.push(("auth_timestamp".into(), seconds.into()));
    pairs.push(("auth_version".into(), "1.0".into()));
    if !body.is_empty() {
        pairs.push(("body_md5".into(), md5.into()));
    }
    pairs.sort();
    let signature = app.signing_key.sign(&[request_text(method, path, &pairs).as_bytes()]);
    let mut text = String::new();
    for (key, value) in &pairs {
        text.push_str(key);
        text.push('=');
        query::encode(&mut text, value);
        text.push('&');
    }
    text.push_str("auth_signature=");
    text.push_str(std::str::from_utf8(&signature).expect("hex digits are ASCII"));
    text
}

#[cfg(test)]
mod tests {
    use super::super::apps::tests::settings;
    use super::*;

    fn apps() -> Apps {
        // The credentials of the worked examples in the Pusher documentation.
        Apps::new(&[
            settings("3", "278d425bdf160c739803", "7ad3773142a6692b25b8"),
            settings("4", "other-key", "other-secret"),
        ])
    }

    #[test]
    fn the_documented_examples_verify() {
        let apps = apps();
        let app = apps.with_id("3").unwrap();
        // Pusher protocol: private, presence and user signatures of the documentation.
        let private =
            "278d425bdf160c739803:58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4";
        assert!(verify_channel(app, private, "1234.1234", "private-foobar", None));
        let presence =
            "278d425bdf160c739803:31935e7d86dba64c2a90aed31fdc61869f9b22ba9d8863bba239c03ca481bc80";
        let data = "{\"user_id\":10,\"user_info\":{\"name\":\"Mr. Channels\"}}";
        assert!(verify_channel(app, presence, "1234.1234", "presence-foobar", Some(data)));
        assert!(!verify_channel(app, presence, "1234.1235", "presence-foobar", Some(data)));
        assert!(!verify_channel(app, &presence[1..], "1234.1234", "presence-foobar", Some(data)));
        assert!(!verify_channel(app, "", "1234.1234", "private-foobar", None));
        let user =
            "278d425bdf160c739803:4708d583dada6a56435fb8bc611c77c359a31eebde13337c16ab43aa6de336ba";
        let user_data = "{\"id\":\"12345\"}";
        assert!(verify_user(app, user, "1234.1234", user_data));
        let wrong_key = user.replace("278d", "278e");
        assert!(!verify_user(app, &wrong_key, "1234.1234", user_data));
        // Pusher HTTP API: the worked example of a signed publish.
        let body = br#"{"name":"foo","channels":["project-3"],"data":"{\"some\":\"data\"}"}"#;
        assert_eq!(&body_md5(body), b"ec365a775a4cd0599faeb73354201b6f");
        let query = "auth_key=278d425bdf160c739803&auth_timestamp=1353088179&auth_version=1.0&\
            body_md5=ec365a775a4cd0599faeb73354201b6f&\
            auth_signature=da454824c97ba181a32ccc17a72625ba02771f50b50e1e7430e47a1f3f457e6c";
        let request =
            SignedRequest { method: "POST", path: "/apps/3/events", app_id: Some("3"), body };
        let wall = UnixMillis(1_353_088_179_000);
        let verified =
            verify_request(&apps, request, &Query::parse(query), wall, Millis(600_000)).unwrap();
        assert_eq!(verified.settings.id, "3");
    }

    #[test]
    fn a_signed_request_is_refused_for_each_reason() {
        let apps = apps();
        let app = apps.with_id("3").unwrap();
        let wall = UnixMillis(1_000_000_000);
        let check = |query: &str, method, path, app_id, body: &[u8], wall| {
            let request = SignedRequest { method, path, app_id, body };
            verify_request(&apps, request, &Query::parse(query), wall, Millis(600_000)).map(|_| ())
        };
        let good = sign_request(app, "POST", "/apps/3/events", &[("info", "a b")], b"{}", wall);
        let post = |query: &str| check(query, "POST", "/apps/3/events", Some("3"), b"{}", wall);
        assert_eq!(post(&good), Ok(()));
        // Key case and order do not matter; a trailing slash neither.
        assert_eq!(post(&good.replace("auth_key", "Auth_Key")), Ok(()));
        assert_eq!(check(&good, "POST", "/apps/3/events/", Some("3"), b"{}", wall), Ok(()));
        let missing = |parameter| Err(RequestError::Missing { parameter });
        assert_eq!(post(""), missing("auth_key"));
        assert_eq!(post("auth_key=x"), missing("auth_timestamp"));
        assert_eq!(post("auth_key=x&auth_timestamp=1000000"), missing("auth_signature"));
        assert_eq!(
            post(&good.replace("auth_timestamp=1000000", "auth_timestamp=-1")),
            Err(RequestError::TimestampMalformed)
        );
        let late = UnixMillis(wall.0 + 600_001);
        assert_eq!(
            check(&good, "POST", "/apps/3/events", Some("3"), b"{}", late),
            Err(RequestError::TimestampStale { server_seconds: 1_000_600, window_seconds: 600 })
        );
        let changed = check(&good, "POST", "/apps/3/events", Some("3"), b"[]", wall);
        assert_eq!(changed, Err(RequestError::BodyChanged));
        let unsigned = sign_request(app, "POST", "/apps/3/events", &[], b"", wall);
        assert_eq!(post(&unsigned), Err(RequestError::BodyUnsigned));

        // The three that must look alike.
        let unknown_key = good.replace("278d425bdf160c739803", "nobody");
        assert_eq!(post(&unknown_key), Err(RequestError::Signature));
        assert_eq!(post(&good.replace("auth_version=1.0", "")), Err(RequestError::Signature));
        let elsewhere = sign_request(app, "POST", "/apps/4/events", &[], b"{}", wall);
        assert_eq!(
            check(&elsewhere, "POST", "/apps/4/events", Some("4"), b"{}", wall),
            Err(RequestError::Signature)
        );
        // The Python SDK sends the digest of no bytes with a GET.
        let md5 = [("body_md5", "d41d8cd98f00b204e9800998ecf8427e")];
        let get = sign_request(app, "GET", "/apps/3/channels", &md5, b"", wall);
        assert_eq!(check(&get, "GET", "/apps/3/channels", Some("3"), b"", wall), Ok(()));
    }

    #[test]
    fn keys_are_signed_in_lower_case_or_as_they_are_sent() {
        let (apps, wall) = (apps(), UnixMillis(1_700_000_000_000));
        let app = apps.with_id("3").expect("it is there");
        let request =
            SignedRequest { method: "GET", path: "/apps/3/x", app_id: Some("3"), body: b"" };
        let check = |query: &str| {
            verify_request(&apps, request, &Query::parse(query), wall, Millis(1)).map(|_| ())
        };
        for (signed, sent) in [("clientid", "clientId"), ("clientId", "clientId")] {
            // Sorted otherwise by its own case than in lower case.
            let query = [(signed, "a"), ("Z", "1")];
            let lower = [(signed, "a"), ("z", "1")];
            let parameters = if signed == sent { &query } else { &lower };
            let query = sign_request(app, "GET", "/apps/3/x", parameters, b"", wall);
            let query = query.replace(&format!("{signed}="), &format!("{sent}="));
            assert_eq!(check(&query), Ok(()), "{query}");
            assert_eq!(check(&query.replace("=a&", "=b&")), Err(RequestError::Signature));
        }
    }

    #[test]
    fn a_query_is_decoded_sorted_and_keeps_the_last() {
        let query = Query::parse("b=2&A=%41+%zz&b=3&&c");
        assert_eq!(query.value("a"), Some("A+%zz"));
        assert_eq!(query.value("b"), Some("3"));
        assert_eq!(query.value("c"), Some(""));
        assert_eq!(query.value("d"), None);
    }
}
