//! The HTTP client of the back shard: asks a question of the [`desk`](super::desk) or tells what
//! [`hooks`](super::hooks) have to tell, and brings the answer.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::{Method, Request, Response};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use super::desk::{HttpAnswer, Question};
use super::hooks::post::{Heard, Post, Silence};

/// An answer may be this long; a longer one is none.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Reading the rest of an answer whose status is known may take so long: then its connection can be used again.
const REST_MAX: Duration = Duration::from_secs(1);
/// Who we say we are.
const AGENT: &str = concat!("ringmain/", env!("CARGO_PKG_VERSION"));
/// Connections kept open to one application.
const IDLE_MAX: usize = 16;

type PlainPool = Pool<HttpConnector, Full<Bytes>>;
type TlsPool = Pool<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Pools of connections. Clones share them.
#[derive(Clone)]
pub struct Client {
    plain: PlainPool,
    /// Made with the first question that needs it: reading the machine's certificates takes a while.
    tls: Arc<OnceLock<Option<TlsPool>>>,
}

impl Default for Client {
    fn default() -> Self {
        let plain =
            Pool::builder(TokioExecutor::new()).pool_max_idle_per_host(IDLE_MAX).build_http();
        Self { plain, tls: Arc::default() }
    }
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
            let response = self.request(&question.url, request).await?;
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
        let asked = tokio::time::timeout(timeout, self.request(&post.url, request)).await;
        let response = match asked {
            Err(_) => return silent(Silence::Late),
            Ok(None) => return silent(Silence::Unreachable),
            Ok(Some(response)) => response,
        };
        let retry_after = response.headers().get(RETRY_AFTER);
        let retry_after = retry_after.and_then(|it| it.to_str().ok()).map(str::to_owned);
        let outcome = Ok(response.status().as_u16());
        let rest = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect();
        let _ = tokio::time::timeout(REST_MAX, rest).await;
        Heard { outcome, retry_after }
    }

    /// Sends a request and brings the head of the answer.
    async fn request(
        &self,
        url: &str,
        request: Request<Full<Bytes>>,
    ) -> Option<Response<Incoming>> {
        if url.starts_with("https:") {
            self.tls()?.request(request).await.ok()
        } else {
            self.plain.request(request).await.ok()
        }
    }

    /// The pool that trusts the certificates of this machine; none if it has none.
    fn tls(&self) -> Option<&TlsPool> {
        let made = self.tls.get_or_init(|| {
            let connector = HttpsConnectorBuilder::new().with_native_roots().ok()?;
            let connector = connector.https_only().enable_http1().build();
            let mut pool = Pool::builder(TokioExecutor::new());
            Some(pool.pool_max_idle_per_host(IDLE_MAX).build(connector))
        });
        made.as_ref()
    }
}
