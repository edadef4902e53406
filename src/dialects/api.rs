//! What the signed HTTP APIs of several dialects share: who signed a request, how it is refused, and an
//! exchange that publishes what its body says.
//!
//! Source: the signature is that of the Pusher HTTP API, so that its server libraries can call every route.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::{Facts, Farewell, Input, Opening, Output, Request, Response, Session};
use crate::auth::sign::{self, Query, RequestError, SignedRequest};
use crate::auth::{App, Apps, Finding};
use crate::base::time::{Millis, Nanos, Now};
use crate::broker::{self, Reply};
use crate::observe::{CloseReason, Counter};
use crate::wire::json::{self, Kind, Raw};

/// An answer in JSON, which pages of any origin may read.
pub(super) fn respond(status: u16, body: Bytes) -> Response {
    Response {
        status,
        headers: vec![
            ("Content-Type", "application/json".into()),
            ("Access-Control-Allow-Origin", "*".into()),
        ],
        body,
    }
}

/// The answer to a browser that asks what it may ask.
pub(super) fn preflight(allow: &'static str) -> Response {
    let mut response = respond(200, Bytes::new());
    response.headers.push(("Allow", allow.into()));
    response.headers.push(("Access-Control-Allow-Methods", allow.into()));
    response.headers.push((
        "Access-Control-Allow-Headers",
        "Authorization, Content-Type, X-Requested-With, Accept, X-Pusher-Library, X-Idempotency-Key, X-Sockudo-Push-Capability, X-Sockudo-Device-Identity-Token, X-Sockudo-Rotate-Device-Identity-Token"
            .into(),
    ));
    response.headers.push(("Access-Control-Max-Age", "600".into()));
    response
}

/// The answer to a method that a path does not take.
pub(super) fn method_not_allowed(method: &str, allow: &'static str) -> Response {
    let method: String = method.chars().take(32).collect();
    let text = format!("{method} is not allowed here; allowed: {allow}");
    let mut response = Refusal::new(405, "method_not_allowed", text).response();
    response.headers.push(("Allow", allow.into()));
    response
}

/// The answer to who comes to a WebSocket's path without a WebSocket.
pub(in crate::dialects) fn upgrade_required() -> Response {
    let text = "this path is for WebSocket connections: send Upgrade: websocket";
    let mut response = Refusal::new(426, "upgrade_required", text).response();
    response.headers.push(("Upgrade", "websocket".into()));
    response
}

/// The answer while the process is about to stop.
pub(super) fn draining() -> Response {
    let mut response =
        Refusal::new(503, "draining", "the server is about to stop: try again").response();
    response.headers.push(("Retry-After", "1".into()));
    response
}

/// Goodbye in the codes of WebSocket alone, for protocols that have none of their own. Source: RFC 6455, section 7.4.1, and
/// its registry of close codes.
pub(super) fn farewell(reason: CloseReason) -> Farewell {
    let (code, text) = match reason {
        CloseReason::Drain => (1012, "the server is about to stop"),
        CloseReason::SlowConsumer => (1013, "messages are not read fast enough"),
        CloseReason::Overload => (1013, "over capacity"),
        CloseReason::Failed => (1011, "the server failed"),
        CloseReason::TooLarge => (1009, "message too large"),
        CloseReason::Utf8 => (1007, "text is not UTF-8"),
        CloseReason::Protocol => (1002, "not the WebSocket protocol"),
        CloseReason::Timeout => (1008, "not heard of in time"),
        CloseReason::Peer | CloseReason::Session | CloseReason::Asked | CloseReason::Done => {
            (1000, "")
        }
    };
    Farewell { message: None, code, text: text.into() }
}

/// The answer to what the broker refuses.
pub(super) fn refused(refusal: broker::Refusal) -> Response {
    use broker::Refusal as It;
    let (status, code) = match refusal {
        It::NotKept => (422, "feature_disabled"),
        It::EpochChanged => (400, "invalid_input"),
        It::KeyReused | It::Used => (409, "conflict"),
        It::NotFound | It::NoConnection => (404, "not_found"),
        It::NotSubscribed | It::MembersTooLarge { .. } | It::NotOwner => (403, "forbidden"),
        It::NotText => (400, "invalid_input"),
        It::DataTooLarge { .. } => (413, "payload_too_large"),
        It::StoreBusy | It::KeysFull { .. } => (503, "backpressure"),
        It::StoreFull
        | It::StoreFailed
        | It::StoreUnreadable
        | It::MembersFull { .. }
        | It::ChannelsFull { .. }
        | It::Cancelled => (503, "service_unavailable"),
    };
    let mut text = refusal.text();
    if refusal == It::NotKept {
        text.push_str(": the setting history.channels says which do");
    }
    let mut response = Refusal::new(status, code, text).response();
    let seconds = match refusal {
        It::KeysFull { free_in, .. } => free_in.0.div_ceil(1000).max(1),
        _ => 1,
    };
    if status == 503 {
        response.headers.push(("Retry-After", seconds.to_string().into()));
    }
    response
}

/// Why a request is refused: status, a word for programs, and a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub status: u16,
    pub code: &'static str,
    pub text: Cow<'static, str>,
}

impl Refusal {
    pub fn new(status: u16, code: &'static str, text: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code, text: text.into() }
    }

    /// A value that does not make sense.
    pub fn invalid(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(400, "invalid_input", text)
    }

    /// More of something than is allowed.
    pub fn limit(text: impl fmt::Display) -> Self {
        Self::new(400, "limit_exceeded", text.to_string())
    }

    /// A member of the body that is missing or of the wrong type.
    pub fn shape(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(422, "invalid_input", text)
    }

    pub fn response(&self) -> Response {
        let mut body = b"{\"error\":".to_vec();
        json::write_str(&mut body, &self.text);
        body.extend_from_slice(b",\"code\":\"");
        body.extend_from_slice(self.code.as_bytes());
        body.extend_from_slice(format!("\",\"status\":{}}}", self.status).as_bytes());
        respond(self.status, Bytes::from(body))
    }
}

/// The app that signed a request, if it did and may do anything; counts signatures that are wrong.
pub(super) fn verify(
    apps: &Apps,
    window: Millis,
    request: SignedRequest<'_>,
    query: &Query<'_>,
    now: Now,
    out: &mut Vec<Output>,
) -> Result<Arc<App>, Refusal> {
    let app = sign::verify_request(apps, request, query, now.wall, window).map_err(|error| {
        if let RequestError::Signature | RequestError::BodyChanged = error {
            out.push(Output::Count(Counter::SignatureFailures));
        }
        Refusal::new(401, "auth_failed", error.to_string())
    })?;
    if !app.settings.enabled {
        return Err(Refusal::new(403, "forbidden", "the app is disabled"));
    }
    Ok(app.clone())
}

/// The refusal of a request without any query.
pub(super) fn unsigned() -> Refusal {
    Refusal::invalid("Missing authentication query parameters")
}

/// Reads a body that is one event or `{"batch": [...]}` of them: all of them, or the first reason against one.
pub(super) fn read_events<T>(
    body: &[u8],
    batch_max: usize,
    mut read: impl FnMut(Raw<'_>) -> Result<T, Refusal>,
) -> Result<Vec<T>, Refusal> {
    let body =
        json::parse(body).map_err(|error| Refusal::invalid(format!("the body is {error}")))?;
    if body.kind() != Kind::Object {
        return Err(Refusal::shape("the body is not an object"));
    }
    let Some(batch) = body.member("batch") else { return Ok(vec![read(body)?]) };
    if batch.kind() != Kind::Array {
        return Err(Refusal::shape("batch is not a list"));
    }
    let count = batch.items().count();
    if count > batch_max {
        return Err(Refusal::limit(format_args!(
            "Batch size ({count}) exceeds limit ({batch_max})"
        )));
    }
    let named = |i: usize, refusal: Refusal| Refusal {
        text: format!("batch[{i}]: {}", refusal.text).into(),
        ..refusal
    };
    let items = batch.items().enumerate();
    items.map(|(i, item)| read(item).map_err(|refusal| named(i, refusal))).collect()
}

/// Whether one more of something is within `per_second` (0: any number), allowing a second's worth at once.
///
/// `due` is when the next would be due were they evenly spaced; the bucket is full while that is in the past.
pub(super) fn is_within_rate(due: &mut Nanos, now: Nanos, per_second: u32) -> bool {
    const SECOND: u64 = 1_000_000_000;
    let Some(interval) = SECOND.checked_div(u64::from(per_second)) else { return true };
    let next = Nanos((*due).max(now).0.saturating_add(interval));
    let is_within = next.0.saturating_sub(now.0) <= SECOND;
    if is_within {
        *due = next;
    }
    is_within
}

/// Who may use an exchange: a request's head, kept until its body has come.
pub(super) enum Door {
    /// Whoever signs as an app, the one the path names.
    Signed {
        apps: Arc<Apps>,
        window: Millis,
        app_id: String,
        method: String,
        path: String,
        query: Option<String>,
    },
    /// Whoever was let in by the head alone, on behalf of this app.
    Open(Arc<App>),
}

impl Door {
    /// The door of a request that an app must have signed.
    pub fn signed(apps: &Arc<Apps>, window: Millis, app_id: &str, request: &Request<'_>) -> Self {
        Self::Signed {
            apps: apps.clone(),
            window,
            app_id: app_id.into(),
            method: request.method.into(),
            path: request.path.into(),
            query: request.query.map(Into::into),
        }
    }

    fn pass(&self, body: &[u8], now: Now, out: &mut Vec<Output>) -> Result<Arc<App>, Refusal> {
        match self {
            Self::Open(app) => Ok(app.clone()),
            Self::Signed { apps, window, app_id, method, path, query } => {
                let query = Query::parse(query.as_ref().ok_or_else(unsigned)?);
                let request = SignedRequest { method, path, app_id: Some(app_id), body };
                verify(apps, *window, request, &query, now, out)
            }
        }
    }
}

/// Reads a body and gives what is to be asked: each ask or inquiry is answered once, with any ticket.
pub(super) type ReadBody =
    Box<dyn FnMut(&Arc<App>, &[u8], Now, &mut Vec<Output>) -> Result<(), Refusal>>;

/// One request that asks the broker some things and is answered 202 when all of them are done.
pub(super) struct Submission {
    door: Door,
    read: ReadBody,
    missing: usize,
    refusal: Option<broker::Refusal>,
    unavailable: bool,
}

impl Submission {
    /// The opening of a request that takes `POST` and `OPTIONS`; `door` is made only for a `POST`.
    pub fn open(
        request: &Request<'_>,
        facts: &Facts,
        body_bytes_max: usize,
        door: impl FnOnce() -> Result<Door, Refusal>,
        read: ReadBody,
    ) -> Opening {
        const ALLOW: &str = "POST, OPTIONS";
        Opening::Respond(match request.method {
            "OPTIONS" => preflight(ALLOW),
            "POST" if facts.draining => draining(),
            "POST" => match door() {
                Err(refusal) => refusal.response(),
                Ok(door) => {
                    let session = Box::new(Self {
                        door,
                        read,
                        missing: 0,
                        refusal: None,
                        unavailable: false,
                    });
                    return Opening::Exchange { session, body_bytes_max };
                }
            },
            method => method_not_allowed(method, ALLOW),
        })
    }

    fn begin(&mut self, body: &[u8], now: Now, out: &mut Vec<Output>) -> Option<Response> {
        let begun = self.door.pass(body, now, out).and_then(|app| {
            let first = out.len();
            (self.read)(&app, body, now, out).inspect_err(|_| out.truncate(first))
        });
        if let Err(refusal) = begun {
            return Some(refusal.response());
        }
        let asked = |it: &&Output| matches!(it, Output::Ask(..) | Output::Inquire(..));
        self.missing = out.iter().filter(asked).count();
        (self.missing == 0).then(Self::done)
    }

    fn take(&mut self) -> Option<Response> {
        self.missing = self.missing.checked_sub(1)?;
        if self.missing > 0 {
            return None;
        }
        Some(match self.refusal.take() {
            Some(refusal) => refused(refusal),
            None if self.unavailable => {
                Refusal::new(503, "service_unavailable", "not everything could be carried out")
                    .response()
            }
            None => Self::done(),
        })
    }

    fn done() -> Response {
        respond(202, Bytes::from_static(b"{}"))
    }
}

impl Session for Submission {
    fn handle(&mut self, input: Input<'_>, now: Now, out: &mut Vec<Output>) {
        let response = match input {
            Input::Body(body) => self.begin(body, now, out),
            Input::Reply(_, reply) => {
                if let Reply::Refused(refusal) = reply {
                    self.refusal.get_or_insert(refusal);
                }
                self.take()
            }
            Input::Found(_, finding) => {
                self.unavailable |= matches!(finding, Finding::Unavailable);
                self.take()
            }
            _ => None,
        };
        out.extend(response.map(Output::Respond));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_broker_refuses_says_whether_to_come_again() {
        use broker::Refusal as It;
        for (refusal, status, code) in [
            (It::NotKept, 422, "feature_disabled"),
            (It::EpochChanged, 400, "invalid_input"),
            (It::KeyReused, 409, "conflict"),
            (It::KeysFull { keys_max: 1, free_in: Millis(1) }, 503, "backpressure"),
            (It::StoreBusy, 503, "backpressure"),
            (It::StoreFull, 503, "service_unavailable"),
            (It::StoreFailed, 503, "service_unavailable"),
            (It::StoreUnreadable, 503, "service_unavailable"),
            (It::ChannelsFull { channels_max: 1 }, 503, "service_unavailable"),
        ] {
            let response = refused(refusal);
            let body = String::from_utf8_lossy(&response.body).into_owned();
            assert_eq!(response.status, status, "{body}");
            assert!(body.contains(&format!("\"code\":\"{code}\"")), "{body}");
            assert!(body.contains(&refusal.text()), "{body}");
            let comes_again = response.headers.iter().any(|(name, _)| *name == "Retry-After");
            assert_eq!(comes_again, status == 503, "{body}");
        }
    }

    #[test]
    fn a_rate_allows_a_seconds_worth_at_once() {
        let second = 1_000_000_000;
        let mut due = Nanos::default();
        let mut sent = |at: u64, per_second| is_within_rate(&mut due, Nanos(at), per_second);
        let start = 50 * second;
        assert_eq!((0..5).filter(|_| sent(start, 3)).count(), 3);
        assert_eq!((0..5).filter(|_| sent(start + second / 3, 3)).count(), 1);
        assert_eq!((0..5).filter(|_| sent(start + 10 * second, 3)).count(), 3);
        assert!((0..1000).all(|_| sent(start, 0)));
    }
}
