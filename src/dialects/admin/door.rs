//! Who may use the console: whoever is on this machine while neither an app nor a token is configured, else
//! who has logged in with the operator's token, which a cookie tells, or shows the token itself as a bearer's.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::auth::sign::SigningKey;
use crate::base::time::UnixMillis;
use crate::config::Secret;
use crate::dialects::Request;
use subtle::ConstantTimeEq;

/// How long a login is good for.
const LOGIN_SECONDS: u64 = 12 * 3600;
const COOKIE: &str = "ringmain_operator";
/// Wrong logins in one second, of everyone together.
const WRONG_LOGINS_MAX: u64 = 20;

/// The door.
pub struct DoorKeeper {
    development: bool,
    token: Option<Secret>,
    key: Option<SigningKey>,
    /// The second, and how many wrong logins it has seen.
    wrong: AtomicU64,
}

/// What someone may do here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Everything.
    Open,
    /// A login, and nothing else.
    Login,
    /// Nothing: there is no token to log in with, or the request comes from another site's page.
    Closed,
}

impl DoorKeeper {
    /// `development`: nothing is configured, and only this machine's loopback is served.
    pub fn new(development: bool, token: Option<Secret>) -> Self {
        let key = token.as_ref().map(|token| SigningKey::new(token.0.as_bytes()));
        Self { development, token, key, wrong: AtomicU64::new(0) }
    }

    /// What the sender of a request may do.
    pub fn entry(&self, request: &Request<'_>, wall: UnixMillis) -> Entry {
        if !is_same_site(request) {
            return Entry::Closed;
        }
        let bearer = request.header("authorization").and_then(|it| it.strip_prefix("Bearer "));
        if bearer.is_some_and(|it| self.is_token(it)) {
            return Entry::Open;
        }
        let cookie = request.header("cookie").and_then(cookie_of);
        if cookie.is_some_and(|cookie| self.is_cookie(cookie, wall))
            || self.development && self.token.is_none() && is_local(request)
        {
            return Entry::Open;
        }
        if self.token.is_some() { Entry::Login } else { Entry::Closed }
    }

    /// Whether there is a token to come in with.
    pub fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Whether this is the operator's token.
    pub fn is_token(&self, token: &str) -> bool {
        let right = self.token.as_ref();
        right.is_some_and(|it| bool::from(it.0.as_bytes().ct_eq(token.as_bytes())))
    }

    /// The cookie of who has just logged in.
    pub fn cookie(&self, wall: UnixMillis) -> Option<String> {
        let expires = wall.seconds() + LOGIN_SECONDS;
        let signature = self.key.as_ref()?.sign(&[b"console", expires.to_string().as_bytes()]);
        let signature = String::from_utf8_lossy(&signature).into_owned();
        Some(format!(
            "{COOKIE}={expires}.{signature}; Path=/_/; Max-Age={LOGIN_SECONDS}; HttpOnly; SameSite=Strict"
        ))
    }

    /// The cookie of who has logged out.
    pub fn cookie_of_nobody() -> String {
        format!("{COOKIE}=; Path=/_/; Max-Age=0; HttpOnly; SameSite=Strict")
    }

    /// Counts a wrong login; true if there are too many of late.
    pub fn is_flooded(&self, wall: UnixMillis, wrong: bool) -> bool {
        let second = wall.seconds() << 16;
        let seen = self.wrong.load(Ordering::Relaxed);
        let count = if seen >> 16 == wall.seconds() { seen & 0xffff } else { 0 };
        if wrong {
            // Another shard's count may get lost: a bound that is a little soft.
            self.wrong.store(second | (count + 1).min(0xffff), Ordering::Relaxed);
        }
        count >= WRONG_LOGINS_MAX
    }

    fn is_cookie(&self, cookie: &str, wall: UnixMillis) -> bool {
        let Some((expires, signature)) = cookie.split_once('.') else { return false };
        let is_fresh = expires.parse::<u64>().is_ok_and(|it| it > wall.seconds());
        let key = self.key.as_ref();
        is_fresh && key.is_some_and(|it| it.verify(&[b"console", expires.as_bytes()], signature))
    }
}

fn cookie_of(field: &str) -> Option<&str> {
    let mut pairs = field.split(';').filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE).map(|(_, value)| value)
}

/// Whether it comes from this machine itself, not through a proxy on it, and under a name of this machine:
/// a page whose own name leads here is another site's page.
fn is_local(request: &Request<'_>) -> bool {
    is_from_here(request) && is_loopback(request.header("host").unwrap_or_default())
}

/// Whether it comes from this machine itself, not through a proxy on it.
pub fn is_from_here(request: &Request<'_>) -> bool {
    let is_forwarded = ["forwarded", "x-forwarded-for", "x-real-ip", "via"]
        .iter()
        .any(|name| request.header(name).is_some());
    request.peer.ip().to_canonical().is_loopback() && !is_forwarded
}

/// Whether a `Host` names this machine's loopback: an address or `localhost`, perhaps with a port.
fn is_loopback(host: &str) -> bool {
    let localhost = host.get(..9).filter(|it| it.eq_ignore_ascii_case("localhost"));
    if localhost.is_some() {
        let port = host.get(9..).unwrap_or_default();
        return port.is_empty()
            || port.strip_prefix(':').is_some_and(|it| it.parse::<u16>().is_ok());
    }
    let bare = host.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(host);
    let address = host.parse::<std::net::SocketAddr>().map(|it| it.ip());
    address.or(bare.parse()).is_ok_and(|ip| ip.is_loopback())
}

/// Whether the page that sends it, if a page does, is ours.
fn is_same_site(request: &Request<'_>) -> bool {
    let Some(origin) = request.header("origin") else { return true };
    let host = origin.split_once("://").map(|(_, host)| host);
    host.is_some() && host == request.header("host")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_000_000_000);

    fn entry(keeper: &DoorKeeper, peer: &str, headers: &[(&str, &str)]) -> Entry {
        let headers: Vec<_> =
            headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        let request = Request {
            method: "GET",
            path: "/_/about",
            query: None,
            headers: &headers,
            peer: peer.parse().unwrap(),
            is_websocket: false,
            takes_chunks: true,
        };
        keeper.entry(&request, NOW)
    }

    #[test]
    fn without_configuration_it_opens_here_and_to_nobody_else() {
        let keeper = DoorKeeper::new(true, None);
        let host = ("Host", "127.0.0.1:6001");
        for (peer, headers, expected) in [
            ("127.0.0.1:9", &[host][..], Entry::Open),
            ("[::1]:9", &[("Host", "[::1]:6001")], Entry::Open),
            ("127.0.0.1:9", &[("Host", "localhost:6001")], Entry::Open),
            ("10.0.0.1:9", &[host], Entry::Closed),
            // A page of another site: by its origin, or by a name of its own for this machine.
            ("127.0.0.1:9", &[host, ("Origin", "http://evil.example")], Entry::Closed),
            ("127.0.0.1:9", &[("Host", "evil.example:6001")], Entry::Closed),
            ("127.0.0.1:9", &[host, ("Origin", "http://127.0.0.1:6001")], Entry::Open),
            ("127.0.0.1:9", &[host, ("Origin", "null")], Entry::Closed),
            // Someone else, through a proxy on this machine.
            ("127.0.0.1:9", &[host, ("X-Forwarded-For", "10.0.0.1")], Entry::Closed),
            ("127.0.0.1:9", &[], Entry::Closed),
            ("127.0.0.1:9", &[("Host", "[::1].evil.example")], Entry::Closed),
            ("127.0.0.1:9", &[("Host", "[::1]:80:90")], Entry::Closed),
            ("127.0.0.1:9", &[("Host", "localhost:evil")], Entry::Closed),
            ("127.0.0.1:9", &[("Host", "localhost")], Entry::Open),
            ("127.0.0.1:9", &[("Host", "[::1]")], Entry::Open),
        ] {
            assert_eq!(entry(&keeper, peer, headers), expected, "{peer} {headers:?}");
        }
    }

    #[test]
    fn configured_it_opens_to_the_token_and_its_cookie_alone() {
        let keeper = DoorKeeper::new(false, Some(Secret("t0k3n".into())));
        let cookie = keeper.cookie(NOW).unwrap();
        let cookie = cookie.split(';').next().unwrap();
        let later = DoorKeeper::new(false, Some(Secret("another".into())));
        for (headers, expected) in [
            (&[][..], Entry::Login),
            (&[("Cookie", &*format!("a=b; {cookie}"))], Entry::Open),
            (&[("Cookie", &*format!("{cookie}0"))], Entry::Login),
            (&[("Cookie", "ringmain_operator=9999999999.x")], Entry::Login),
            (&[("Authorization", "Bearer t0k3n")], Entry::Open),
            (&[("Authorization", "Bearer t0k3n ")], Entry::Login),
            (&[("Authorization", "t0k3n")], Entry::Login),
            (
                &[("Authorization", "Bearer t0k3n"), ("Origin", "http://evil.example")],
                Entry::Closed,
            ),
            (
                &[("Cookie", cookie), ("Origin", "http://evil.example"), ("Host", "h")],
                Entry::Closed,
            ),
        ] {
            assert_eq!(entry(&keeper, "127.0.0.1:9", headers), expected, "{headers:?}");
        }
        assert_eq!(entry(&later, "127.0.0.1:9", &[("Cookie", cookie)]), Entry::Login);
        // Without an app, too: who sets a token wants it asked for.
        let both = DoorKeeper::new(true, Some(Secret("t0k3n".into())));
        assert_eq!(entry(&both, "127.0.0.1:9", &[("Host", "127.0.0.1")]), Entry::Login);
        assert_eq!(entry(&DoorKeeper::new(false, None), "127.0.0.1:9", &[]), Entry::Closed);
        assert!(
            !keeper
                .is_cookie(cookie.split_once('=').unwrap().1, UnixMillis(NOW.0 + 12 * 3_600_000))
        );
    }

    #[test]
    fn a_flood_of_wrong_logins_is_seen_and_forgotten() {
        let keeper = DoorKeeper::new(false, Some(Secret("t".into())));
        for _ in 0..WRONG_LOGINS_MAX {
            assert!(!keeper.is_flooded(NOW, true));
        }
        assert!(keeper.is_flooded(NOW, false));
        assert!(!keeper.is_flooded(UnixMillis(NOW.0 + 1000), false));
    }
}
