//! The server API: what a back end asks over HTTP with a bearer key.
//!
//! A request is let in by its head alone and becomes one `exchange::Exchange`. What a back end publishes is read in
//! `message` and done in `publishing`, whichever way it came: see also `invoke`. Source: our reference, section 9.

mod exchange;
pub(super) mod message;
pub(super) mod publishing;

#[cfg(test)]
mod exchange_tests;
#[cfg(test)]
mod invoke_tests;

use std::sync::Arc;

use subtle::{Choice, ConstantTimeEq};

use super::faults::{Code, Fault};
use super::http::{draining, method_not_allowed, preflight, refuse};
use super::reports::{About, Trigger};
use super::{Shared, invoke};
use crate::auth::source::digest;
use crate::dialects::{Facts, Opening, Request, Response};
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

    fn preflight(&self) -> Response {
        let mut response = preflight();
        if let Self::Schedule(_) = self {
            let methods = ("Access-Control-Allow-Methods", "GET, DELETE, OPTIONS".into());
            response.headers.retain(|(name, _)| *name != methods.0);
            response.headers.push(methods);
        }
        response
    }

    fn body_bytes_max(&self) -> usize {
        match self {
            Self::Batch => BATCH_BYTES_MAX,
            _ => BODY_BYTES_MAX,
        }
    }
}

/// Who asks, as far as reports tell it.
#[derive(Debug)]
pub(super) struct Origin {
    /// What the request is called.
    pub request_id: String,
    /// By which way it came.
    pub trigger: Trigger,
    /// From where, if that says anything.
    pub about: Option<About>,
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
        "OPTIONS" => route.preflight(),
        method if !allow.split(", ").any(|it| it == method) => method_not_allowed(allow),
        _ if facts.draining => draining(),
        _ if !is_bearer(shared, request) => {
            let text = "Authorization must be Bearer with one of [[hotsock.api_keys]]";
            let mut response = refuse(&Fault::new(Code::InvalidApiKey, text));
            response.headers.push(("WWW-Authenticate", "Bearer".into()));
            response
        }
        _ if !shared.app.settings.enabled => refuse(&disabled()),
        _ => {
            let body_bytes_max = route.body_bytes_max().min(shared.body_bytes_max);
            let about = About::new(&request.peer.ip().to_string(), request.header("user-agent"));
            let origin = Origin {
                request_id: request_id(shared, facts),
                trigger: Trigger::ServerHttp,
                about: Some(about),
            };
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

fn disabled() -> Fault {
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
