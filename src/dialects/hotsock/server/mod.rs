//! The server API: what a back end asks over HTTP with a bearer key.
//!
//! A request is let in by its head alone and becomes one `exchange::Exchange`. What a back end publishes is read in
//! `message` and done in `publishing`, whichever way it came: see also `invoke`. Source: our reference, section 9.

mod exchange;
pub(super) mod message;
pub(super) mod publishing;

#[cfg(test)]
mod exchange_tests;

use std::sync::Arc;

use bytes::Bytes;
use subtle::{Choice, ConstantTimeEq};

use super::faults::{Code, Fault};
use super::{Shared, invoke};
use crate::auth::source::digest;
use crate::dialects::{Facts, Opening, Request, Response, api};
use crate::wire::http::query::{self, Plus};

/// The largest body of one message: its data and everything else.
pub(super) const BODY_BYTES_MAX: usize = 256 << 10;
/// The largest body of a batch.
const BATCH_BYTES_MAX: usize = 4 << 20;

/// What a request is about; a name that percent-encoding makes no text of is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// Publish one message.
    Publish,
    /// Publish several.
    Batch,
    /// One channel.
    Channel(Option<String>),
    /// The values it keeps.
    Storage(Option<String>),
    /// What will be done.
    Schedules,
    /// One of that.
    Schedule(String),
}

impl Route {
    fn of(path: &str) -> Option<Self> {
        let path = path.strip_suffix('/').unwrap_or(path);
        let mut segments = path.strip_prefix('/')?.split('/');
        let mut next = || segments.next();
        let found = (next()?, next(), next());
        if next().is_some() {
            return None;
        }
        let name = |segment: &str| query::decode(segment, Plus::Literal).map(|it| it.into_owned());
        Some(match found {
            ("publish", None, _) => Self::Publish,
            ("publish", Some("batch"), None) => Self::Batch,
            ("channels", Some(channel), None) => Self::Channel(name(channel)),
            ("channels", Some(channel), Some("storage")) => Self::Storage(name(channel)),
            ("schedules", None, _) => Self::Schedules,
            ("schedules", Some(id), None) => {
                Self::Schedule(query::decode_lossy(id, Plus::Literal).into_owned())
            }
            _ => return None,
        })
    }

    /// The methods it takes, as `Allow` lists them.
    fn allow(&self) -> &'static str {
        match self {
            Self::Publish | Self::Batch => "POST, OPTIONS",
            Self::Channel(_) | Self::Storage(_) | Self::Schedules => "GET, HEAD, OPTIONS",
            Self::Schedule(_) => "GET, HEAD, DELETE, OPTIONS",
        }
    }

    fn body_bytes_max(&self) -> usize {
        match self {
            Self::Batch => BATCH_BYTES_MAX,
            _ => BODY_BYTES_MAX,
        }
    }
}

/// Who asks, as far as reports tell it.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    /// What the request is called.
    pub request_id: String,
    /// By which way it came.
    pub trigger: &'static str,
    /// From where, if that says anything.
    pub source_ip: Option<String>,
    /// With which program, if that says anything.
    pub user_agent: Option<String>,
}

impl Origin {
    fn new(shared: &Shared, request: &Request<'_>, facts: &Facts) -> Self {
        Self {
            request_id: request_id(shared, facts),
            trigger: "server.http",
            source_ip: Some(request.peer.ip().to_canonical().to_string()),
            user_agent: request.header("user-agent").map(Into::into),
        }
    }
}

/// What a request is called. The head of a connection's next request comes later than this one's.
pub(super) fn request_id(shared: &Shared, facts: &Facts) -> String {
    shared.ids.request(facts.connection, facts.now.steady.0)
}

/// Looks at a request of the server API.
pub(super) fn open(shared: &Arc<Shared>, request: &Request<'_>, facts: &Facts) -> Option<Opening> {
    if let Some(opening) = invoke::open(shared, request, facts) {
        return Some(opening);
    }
    let Some(route) = Route::of(request.path) else {
        let first = request.path.split('/').nth(1).unwrap_or_default();
        return ["publish", "channels", "schedules"].contains(&first).then(|| {
            Opening::Respond(refuse(&Fault::new(Code::NotFound, "no such path in the server API")))
        });
    };
    let allow = route.allow();
    Some(Opening::Respond(match request.method {
        "OPTIONS" => preflight(allow),
        method if !allow.split(", ").any(|it| it == method) => method_not_allowed(method, allow),
        _ if facts.draining => refuse(&draining()),
        _ if !is_bearer(shared, request) => {
            let text = "Authorization must be Bearer with one of [[hotsock.api_keys]]";
            let mut response = refuse(&Fault::new(Code::InvalidApiKey, text));
            response.headers.push(("WWW-Authenticate", "Bearer".into()));
            response
        }
        _ if !shared.app.settings.enabled => refuse(&disabled()),
        _ => {
            let body_bytes_max = route.body_bytes_max().min(shared.body_bytes_max);
            let origin = Origin::new(shared, request, facts);
            let is_deleting = request.method == "DELETE";
            let query = request.query.map(Into::into);
            let session =
                exchange::Exchange::new(shared.clone(), route, is_deleting, query, origin);
            return Some(Opening::Exchange { session: Box::new(session), body_bytes_max });
        }
    }))
}

/// Whether a request has one of the bearer keys; how long that takes says nothing about them but their number.
fn is_bearer(shared: &Shared, request: &Request<'_>) -> bool {
    let given = request.header("authorization").and_then(|it| it.split_once(' '));
    let Some((scheme, given)) = given else { return false };
    let given = digest(given.trim());
    let keys = shared.settings.api_keys.iter().filter_map(|it| it.key.as_ref());
    let is_one = keys.fold(Choice::from(0), |found, it| found | digest(&it.0).ct_eq(&given));
    bool::from(is_one) && scheme.eq_ignore_ascii_case("bearer")
}

/// The answer that tells a fault.
pub(super) fn refuse(fault: &Fault) -> Response {
    let (_, status) = fault.code.row();
    let mut response = respond(status, fault.body());
    if status == 503 {
        response.headers.push(("Retry-After", "1".into()));
    }
    response
}

/// An answer in JSON.
pub(super) fn respond(status: u16, body: Vec<u8>) -> Response {
    api::respond(status, Bytes::from(body))
}

/// The answer to a browser that asks what it may ask. Source: our reference, section 6.2.
pub(super) fn preflight(allow: &'static str) -> Response {
    Response {
        status: 204,
        headers: vec![
            ("Access-Control-Allow-Origin", "*".into()),
            ("Access-Control-Allow-Methods", allow.into()),
            // A browser does not take the star for the first of them.
            ("Access-Control-Allow-Headers", "authorization, content-type, *".into()),
            ("Access-Control-Max-Age", "86400".into()),
            ("Allow", allow.into()),
        ],
        body: Bytes::new(),
    }
}

/// The answer to a method that a path does not take.
pub(super) fn method_not_allowed(method: &str, allow: &'static str) -> Response {
    let method: String = method.chars().take(32).collect();
    let text = format!("{method} is not allowed here; allowed: {allow}");
    let mut response = refuse(&Fault::new(Code::MethodNotAllowed, text));
    response.headers.push(("Allow", allow.into()));
    response
}

pub(super) fn draining() -> Fault {
    Fault::new(Code::Unavailable, "the server is about to stop: try again")
}

pub(super) fn disabled() -> Fault {
    Fault::new(Code::PublishPermissionDenied, "the app is disabled")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_what_they_are_about() {
        let name = |text: &str| Some(text.to_owned());
        for (path, route) in [
            ("/publish", Some(Route::Publish)),
            ("/publish/", Some(Route::Publish)),
            ("/publish/batch", Some(Route::Batch)),
            ("/publish/other", None),
            ("/publish/batch/x", None),
            ("/channels", None),
            ("/channels/a.b", Some(Route::Channel(name("a.b")))),
            ("/channels/a%2Fb%20c+d", Some(Route::Channel(name("a/b c+d")))),
            ("/channels/%C3%A4", Some(Route::Channel(name("ä")))),
            ("/channels/%ff", Some(Route::Channel(None))),
            ("/channels/%", Some(Route::Channel(None))),
            ("/channels/storage", Some(Route::Channel(name("storage")))),
            ("/channels/a/storage", Some(Route::Storage(name("a")))),
            ("/channels/a/storage/", Some(Route::Storage(name("a")))),
            ("/channels/a%2Fstorage", Some(Route::Channel(name("a/storage")))),
            ("/channels//storage", Some(Route::Storage(name("")))),
            ("/channels/a/b", None),
            ("/channels/a/storage/b", None),
            ("/schedules", Some(Route::Schedules)),
            ("/schedules/1", Some(Route::Schedule("1".into()))),
            ("/schedules/arn%3Aaws", Some(Route::Schedule("arn:aws".into()))),
            ("/schedules/1/2", None),
            ("/", None),
            ("", None),
            ("/connection/publishMessage", None),
        ] {
            assert_eq!(Route::of(path), route, "{path}");
        }
    }
}
