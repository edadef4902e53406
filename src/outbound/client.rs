//! The HTTP client of the back shard: asks a question of the [`desk`](super::desk) and brings the answer.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use hyper::{Method, Request};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use super::desk::{HttpAnswer, Question};

/// An answer may be this long; a longer one is none.
const ANSWER_BYTES_MAX: usize = 64 << 10;
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
            .header(USER_AGENT, concat!("ringmain/", env!("CARGO_PKG_VERSION")));
        if let Some(signature) = &question.signature {
            request = request.header("X-Ringmain-Signature", signature);
        }
        let request = request.body(Full::from(question.body)).ok()?;
        let answer = async {
            let response = if question.url.starts_with("https:") {
                self.tls()?.request(request).await.ok()?
            } else {
                self.plain.request(request).await.ok()?
            };
            let status = response.status().as_u16();
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await.ok()?;
            Some((status, body.to_bytes().to_vec()))
        };
        tokio::time::timeout(Duration::from_millis(question.timeout.0), answer).await.ok()?
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
