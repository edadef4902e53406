//! The HTTP client of the back shard: asks a question of the [`desk`](super::desk) or tells what
//! [`hooks`](super::hooks) have to tell, and brings the answer.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::{Method, Request, Response};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::{GaiFuture, GaiResolver, Name};
use hyper_util::rt::TokioExecutor;
use tower_service::Service;

use super::desk::{HttpAnswer, Question};
use super::hooks::post::{Heard, Post, Silence};
use crate::base::address::is_private;

/// An answer may be this long; a longer one is none.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Reading the rest of an answer whose status is known may take so long: then its connection can be used again.
const REST_MAX: Duration = Duration::from_secs(1);
/// Who we say we are.
pub(super) const AGENT: &str = concat!("ringmain/", env!("CARGO_PKG_VERSION"));
/// Connections kept open to one application.
const IDLE_MAX: usize = 16;

type PlainPool = Pool<HttpConnector<Resolver>, Full<Bytes>>;
type TlsPool = Pool<HttpsConnector<HttpConnector<Resolver>>, Full<Bytes>>;

/// Pools of connections. Clones share them.
#[derive(Clone)]
pub struct Client {
    /// To wherever it is said.
    anywhere: Pools,
    /// To public addresses only. Apart, so that a connection of the others is never used for it.
    public: Pools,
}

#[derive(Clone)]
struct Pools {
    resolver: Resolver,
    plain: PlainPool,
    /// Made with the first question that needs it: reading the machine's certificates takes a while.
    tls: Arc<OnceLock<Option<TlsPool>>>,
}

impl Default for Client {
    fn default() -> Self {
        Self { anywhere: Pools::new(true), public: Pools::new(false) }
    }
}

/// Finds the addresses of a host as the machine does, and may leave out private ones: a name leads where its owner says,
/// another time elsewhere, so that what it leads to is looked at when a connection is made. A host that is an address is
/// not asked about; those are refused with the settings.
#[derive(Clone)]
pub(super) struct Resolver {
    system: GaiResolver,
    allow_private: bool,
}

impl Resolver {
    pub(super) fn new(allow_private: bool) -> Self {
        Self { system: GaiResolver::new(), allow_private }
    }
}

/// All addresses of a host are private.
#[derive(Debug)]
struct OnlyPrivate;

impl fmt::Display for OnlyPrivate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("all its addresses are private")
    }
}

impl Error for OnlyPrivate {}

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, io::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        self.system.poll_ready(context)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let (found, allow_private) = (self.system.call(name), self.allow_private);
        Box::pin(admitted(found, allow_private))
    }
}

async fn admitted(
    found: GaiFuture,
    allow_private: bool,
) -> Result<std::vec::IntoIter<SocketAddr>, io::Error> {
    admit(found.await?, allow_private)
}

fn admit(
    found: impl Iterator<Item = SocketAddr>,
    allow_private: bool,
) -> Result<std::vec::IntoIter<SocketAddr>, io::Error> {
    let (mut admitted, mut is_any_left_out) = (Vec::new(), false);
    for address in found {
        match allow_private || !is_private(address.ip()) {
            true => admitted.push(address),
            false => is_any_left_out = true,
        }
    }
    match admitted.is_empty() && is_any_left_out {
        true => Err(io::Error::other(OnlyPrivate)),
        false => Ok(admitted.into_iter()),
    }
}

/// Whether a request failed for the address's sake.
pub(super) fn is_private_error(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if inner.is_some_and(|it| it.is::<OnlyPrivate>()) {
            return true;
        }
        next = error.source();
    }
    false
}

impl Client {
    /// Asks. Redirects are not followed; what does not come whole and in time is no answer.
    pub async fn ask(&self, question: Question) -> HttpAnswer {
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(&question.url)
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, AGENT);
        if let Some(signature) = &question.signature {
            request = request.header("X-Ringmain-Signature", signature);
        }
        let request = request.body(Full::from(question.body)).ok()?;
        let answer = async {
            let response = self.anywhere.request(&question.url, request).await.ok()?;
            let status = response.status().as_u16();
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await.ok()?;
            Some((status, body.to_bytes().to_vec()))
        };
        tokio::time::timeout(Duration::from_millis(question.timeout.0), answer).await.ok()?
    }

    /// Tells. Redirects are not followed; of the answer only status and `Retry-After` count.
    pub async fn post(&self, post: Post) -> Heard {
        let silent = |silence| Heard { outcome: Err(silence), retry_after: None };
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(&*post.url)
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, AGENT);
        for (name, value) in &post.fields {
            let name = HeaderName::try_from(name.as_str());
            if let (Ok(name), Ok(value)) = (name, HeaderValue::try_from(value.as_str())) {
                request = request.header(name, value);
            }
        }
        let Ok(request) = request.body(Full::from(post.body)) else {
            return silent(Silence::Unreachable);
        };
        let timeout = Duration::from_millis(post.timeout.0);
        let pools = if post.allow_private { &self.anywhere } else { &self.public };
        let asked = tokio::time::timeout(timeout, pools.request(&post.url, request)).await;
        let response = match asked {
            Err(_) => return silent(Silence::Late),
            Ok(Err(silence)) => return silent(silence),
            Ok(Ok(response)) => response,
        };
        let retry_after = response.headers().get(RETRY_AFTER);
        let retry_after = retry_after.and_then(|it| it.to_str().ok()).map(str::to_owned);
        let outcome = Ok(response.status().as_u16());
        let rest = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect();
        let _ = tokio::time::timeout(REST_MAX, rest).await;
        Heard { outcome, retry_after }
    }
}

impl Pools {
    fn new(allow_private: bool) -> Self {
        let resolver = Resolver::new(allow_private);
        let plain = Pool::builder(TokioExecutor::new())
            .pool_max_idle_per_host(IDLE_MAX)
            .build(HttpConnector::new_with_resolver(resolver.clone()));
        Self { resolver, plain, tls: Arc::default() }
    }

    /// Sends a request and brings the head of the answer.
    async fn request(
        &self,
        url: &str,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, Silence> {
        let response = match url.starts_with("https:") {
            true => self.tls().ok_or(Silence::Unreachable)?.request(request).await,
            false => self.plain.request(request).await,
        };
        response.map_err(|error| match is_private_error(&error) {
            true => Silence::Private,
            false => Silence::Unreachable,
        })
    }

    /// The pool that trusts the certificates of this machine; none if it has none.
    fn tls(&self) -> Option<&TlsPool> {
        let made = self.tls.get_or_init(|| {
            let connector = HttpsConnectorBuilder::new().with_native_roots().ok()?;
            let mut http = HttpConnector::new_with_resolver(self.resolver.clone());
            // Its scheme is the other's matter.
            http.enforce_http(false);
            let connector = connector.https_only().enable_http1().wrap_connector(http);
            let mut pool = Pool::builder(TokioExecutor::new());
            Some(pool.pool_max_idle_per_host(IDLE_MAX).build(connector))
        });
        made.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses_are_left_out_and_that_alone_is_told() {
        let admitted = |addresses: &[&str], allow_private| {
            let found = addresses.iter().map(|it| it.parse().expect("an address"));
            admit(found, allow_private).map(Iterator::count)
        };
        let mixed = ["127.0.0.1:80", "1.1.1.1:80", "[::1]:80"];
        assert_eq!(admitted(&mixed, false).ok(), Some(1));
        assert_eq!(admitted(&mixed, true).ok(), Some(3));
        assert_eq!(admitted(&[], false).ok(), Some(0));
        let refused = admitted(&["10.0.0.1:80"], false).expect_err("it is private");
        assert!(is_private_error(&refused));
        assert!(!is_private_error(&io::Error::other("else")));
    }
}
