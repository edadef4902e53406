//! Lines to providers of push notifications: HTTP/1.1 and HTTP/2 by what the other side speaks, HTTP/2 alone where a provider
//! wants that, with TLS and without it.
//!
//! A request that surely was not processed, because the other side refused its stream or said good-bye before it read
//! it, is sent again at once on another connection. Any other that fails is the caller's affair: it may have arrived.

use std::error::Error;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{HeaderName, HeaderValue, USER_AGENT};
use hyper::{Method, Response, Version};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;

use super::client::{AGENT, Resolver, is_private_error};
use super::push::provider::{Answered, Request};
use super::tls::{self, Identity};
use crate::base::address::is_private;

/// An answer may be this long; a longer one is cut here, and its status counts.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Reading the body of an answer may take so long once its head is there: the head says what came of it.
const BODY_MAX: Duration = Duration::from_secs(5);
/// A request that was surely not processed is sent so often, the first included.
const SENDS_MAX: u32 = 4;
/// The pause before it is sent again, twice as long each time: a connection that is being closed is still in the pool.
const RESEND_PAUSE: Duration = Duration::from_millis(5);
/// Connecting may take so long.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// Idle connections kept open to one host: as many as may be under way at once by default, so that none is closed to be
/// opened again.
const IDLE_MAX: usize = 256;
/// For so long. Devices say hosts, and whoever registers many of those would keep as many connections.
const IDLE_FOR: Duration = Duration::from_secs(30);
/// The same where a provider wants HTTP/2; its hosts are the settings'. Source: APNs asks to keep them open.
const IDLE_FOR_HTTP2: Duration = Duration::from_secs(3600);
/// A connection of HTTP/2 that is silent for so long is asked whether it lives ...
const PING_EVERY: Duration = Duration::from_secs(30);
/// ... and has so long to answer.
const PING_WAIT: Duration = Duration::from_secs(10);

type Line = Pool<HttpsConnector<HttpConnector<Resolver>>, Full<Bytes>>;

/// Pools of connections. Clones share them.
#[derive(Clone)]
pub struct Lines(Arc<Pools>);

struct Pools {
    /// Whom we are towards the other side; none: nobody.
    identity: Option<Identity>,
    anywhere: Pair,
    /// To public addresses only. Apart, so that a connection of the others is never used for it.
    public: Pair,
}

#[derive(Default)]
struct Pair {
    /// What the other side speaks.
    either: OnceLock<Line>,
    /// HTTP/2, without TLS too.
    http2: OnceLock<Line>,
}

/// Why there was no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// The request makes no sense: an address that is none, a field that cannot stand in a head.
    Malformed,
    /// No connection.
    Unreachable,
    /// It ended too early: the request may have arrived.
    Broken,
    /// Nothing in time.
    Late,
    /// Its host is on a private address, and may not be.
    Private,
}

impl Silence {
    /// In a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed_request",
            Self::Unreachable => "unreachable",
            Self::Broken => "connection_lost",
            Self::Late => "timeout",
            Self::Private => "private_endpoint",
        }
    }
}

impl Lines {
    /// Lines on which we are this one, or nobody in particular.
    pub fn new(identity: Option<Identity>) -> Self {
        let pools = Pools { identity, anywhere: Pair::default(), public: Pair::default() };
        Self(Arc::new(pools))
    }

    /// Sends a request and brings the answer. Redirects are not followed. `timeout` is for all of it.
    pub async fn send(
        &self,
        request: &Request,
        allow_private: bool,
        timeout: Duration,
    ) -> Result<Answered, Silence> {
        let sent = self.send_patiently(request, allow_private);
        tokio::time::timeout(timeout, sent).await.unwrap_or(Err(Silence::Late))
    }

    async fn send_patiently(
        &self,
        request: &Request,
        allow_private: bool,
    ) -> Result<Answered, Silence> {
        let line = self.line(request, allow_private)?;
        let mut pause = RESEND_PAUSE;
        for _ in 1..SENDS_MAX {
            match line.request(built(request)?).await {
                Ok(response) => return read(response).await,
                Err(error) if is_unprocessed(&error) => {
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                Err(error) => return Err(silence(&error)),
            }
        }
        let response = line.request(built(request)?).await;
        read(response.map_err(|error| silence(&error))?).await
    }

    /// The pool that a request goes to. The resolver is not asked about a host that is an address, so that is looked at
    /// here.
    fn line(&self, request: &Request, allow_private: bool) -> Result<&Line, Silence> {
        let url: hyper::Uri = request.url.parse().map_err(|_| Silence::Malformed)?;
        let host = url.host().ok_or(Silence::Malformed)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if !allow_private && host.parse().is_ok_and(is_private) {
            return Err(Silence::Private);
        }
        let pair = if allow_private { &self.0.anywhere } else { &self.0.public };
        let (pool, is_http2) = match request.is_http2 {
            true => (&pair.http2, true),
            false => (&pair.either, false),
        };
        Ok(pool.get_or_init(|| open(self.0.identity.as_ref(), allow_private, is_http2)))
    }
}

fn open(identity: Option<&Identity>, allow_private: bool, is_http2: bool) -> Line {
    let mut http = HttpConnector::new_with_resolver(Resolver::new(allow_private));
    // Its scheme is the other's matter.
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(CONNECT_MAX));
    let connector = HttpsConnectorBuilder::new().with_tls_config(config(identity)).https_or_http();
    let connector = match is_http2 {
        true => connector.enable_http2().wrap_connector(http),
        false => connector.enable_all_versions().wrap_connector(http),
    };
    Pool::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(if is_http2 { IDLE_FOR_HTTP2 } else { IDLE_FOR })
        .pool_max_idle_per_host(IDLE_MAX)
        .http2_only(is_http2)
        .http2_keep_alive_interval(PING_EVERY)
        .http2_keep_alive_timeout(PING_WAIT)
        .http2_keep_alive_while_idle(true)
        .build(connector)
}

/// Reading the machine's certificates takes a while: once is enough for those without an identity.
fn config(identity: Option<&Identity>) -> ClientConfig {
    static NOBODY: OnceLock<ClientConfig> = OnceLock::new();
    match identity {
        None => NOBODY.get_or_init(|| tls::verified_as(None)).clone(),
        Some(identity) => tls::verified_as(Some(identity)),
    }
}

fn built(request: &Request) -> Result<hyper::Request<Full<Bytes>>, Silence> {
    let method = Method::from_bytes(request.method.as_bytes()).map_err(|_| Silence::Malformed)?;
    let mut built = hyper::Request::builder()
        .method(method)
        .uri(&request.url)
        .version(if request.is_http2 { Version::HTTP_2 } else { Version::HTTP_11 })
        .header(USER_AGENT, AGENT);
    for (name, value) in &request.fields {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| Silence::Malformed)?;
        let value = HeaderValue::from_str(value).map_err(|_| Silence::Malformed)?;
        built = built.header(name, value);
    }
    built.body(Full::new(request.body.clone())).map_err(|_| Silence::Malformed)
}

/// Fields of an answer's head that providers use.
const FIELDS: &[&str] = &[
    "retry-after",
    "apns-id",
    "apns-unique-id",
    "apns-channel-id",
    "apns-request-id",
    "location",
    "www-authenticate",
    "x-wns-debug-trace",
    "x-wns-error-description",
    "x-wns-msg-id",
    "x-wns-notificationstatus",
    "x-wns-status",
];

async fn read(response: Response<hyper::body::Incoming>) -> Result<Answered, Silence> {
    let status = response.status().as_u16();
    let said = |name: &&str| {
        let value = response.headers().get(*name)?.to_str().ok()?;
        Some(((*name).to_owned(), value.to_owned()))
    };
    let fields = FIELDS.iter().filter_map(said).collect();
    let mut body = Limited::new(response.into_body(), ANSWER_BYTES_MAX);
    let mut bytes = Vec::new();
    let rest = async {
        while let Some(Ok(frame)) = body.frame().await {
            bytes.extend_from_slice(frame.data_ref().map_or(&[][..], |it| it));
        }
    };
    // What is missing of a body changes nothing about the status.
    let _ = tokio::time::timeout(BODY_MAX, rest).await;
    Ok(Answered { status, fields, body: bytes })
}

type Failed = hyper_util::client::legacy::Error;

/// Whether the other side surely did not process it. Source: RFC 9113, sections 6.8 and 8.7.
fn is_unprocessed(error: &Failed) -> bool {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            let is_refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
            let is_goodbye = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
            return error.is_remote() && (is_refused || is_goodbye);
        }
        if error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled) {
            return true;
        }
        next = error.source();
    }
    false
}

fn silence(error: &Failed) -> Silence {
    match error.is_connect() {
        _ if is_private_error(error) => Silence::Private,
        true => Silence::Unreachable,
        false => Silence::Broken,
    }
}
