//! The HTTP API: signed requests under `/apps/<id>`.
//!
//! A request is one `exchange::Exchange`: it takes the body, checks the signature, asks the broker
//! and answers once, when the last answer it waits for has come. Which bytes are signed is
//! `auth::sign`'s affair. Source: Pusher HTTP API reference.

mod exchange;
mod history;
mod publish;

use std::sync::Arc;

use super::Shared;
use crate::dialects::api::{Refusal, draining, method_not_allowed, preflight};
use crate::dialects::{Facts, Opening, Request};
use crate::wire::http::query::{self, Plus};

/// What a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// Publish one event.
    Events,
    /// Publish several.
    BatchEvents,
    /// Which channels are occupied.
    Channels,
    /// One channel.
    Channel(String),
    /// Who is in a presence channel.
    Users(String),
    /// What a channel's history holds.
    History(String),
    /// What is kept of it.
    HistoryState(String),
    /// Forget it and begin another.
    HistoryReset(String),
    /// Forget the oldest of it.
    HistoryPurge(String),
    /// End a user's connections for good.
    Terminate(String),
    /// End a user's connections; they come back.
    Reconnect(String),
}

impl Route {
    /// The app a path names, if it names one, and what of it. None: no path of this API.
    fn of(path: &str) -> Option<(Option<String>, Self)> {
        let path = path.strip_suffix('/').unwrap_or(path);
        let text = |segment: &str| query::decode_lossy(segment, Plus::Literal).into_owned();
        let user = |id: &str, verb: &str| match verb {
            "terminate_connections" if !id.is_empty() => Some(Self::Terminate(text(id))),
            "force_reconnect" if !id.is_empty() => Some(Self::Reconnect(text(id))),
            _ => None,
        };
        let mut segments = path.strip_prefix('/')?.split('/');
        let mut next = || segments.next();
        let (app, first) = match next()? {
            "apps" => (Some(text(next()?)), next()?),
            // The Python SDK leaves the app out here; its key says which.
            "users" => (None, "users"),
            _ => return None,
        };
        let rest = (next(), next(), next());
        if next().is_some() {
            return None;
        }
        let route = match (first, rest) {
            ("events", (None, ..)) => Self::Events,
            ("batch_events", (None, ..)) => Self::BatchEvents,
            ("channels", (None, ..)) => Self::Channels,
            ("channels", (Some(name), None, _)) if !name.is_empty() => Self::Channel(text(name)),
            ("channels", (Some(name), Some("users"), None)) if !name.is_empty() => {
                Self::Users(text(name))
            }
            ("channels", (Some(name), Some("history"), verb)) if !name.is_empty() => match verb {
                None => Self::History(text(name)),
                Some("state") => Self::HistoryState(text(name)),
                Some("reset") => Self::HistoryReset(text(name)),
                Some("purge") => Self::HistoryPurge(text(name)),
                Some(_) => return None,
            },
            ("users", (Some(id), Some(verb), None)) => user(id, verb)?,
            _ => return None,
        };
        Some((app, route))
    }

    /// The methods it takes, as `Allow` lists them.
    fn allow(&self) -> &'static str {
        match self {
            Self::Events
            | Self::BatchEvents
            | Self::Terminate(_)
            | Self::Reconnect(_)
            | Self::HistoryReset(_)
            | Self::HistoryPurge(_) => "POST, OPTIONS",
            Self::Channels
            | Self::Channel(_)
            | Self::Users(_)
            | Self::History(_)
            | Self::HistoryState(_) => "GET, HEAD, OPTIONS",
        }
    }

    fn takes(&self, method: &str) -> bool {
        self.allow().split(", ").any(|it| it == method)
    }
}

/// Looks at a request of the API.
pub(super) fn open(shared: &Arc<Shared>, request: &Request<'_>, facts: &Facts) -> Option<Opening> {
    let (app_id, route) = match Route::of(request.path) {
        Some(found) => found,
        None if request.path == "/apps" || request.path.starts_with("/apps/") => {
            let refusal = Refusal::new(404, "not_found", "no such path in the HTTP API");
            return Some(Opening::Respond(refusal.response()));
        }
        None => return None,
    };
    Some(if request.method == "OPTIONS" {
        Opening::Respond(preflight(route.allow()))
    } else if !route.takes(request.method) {
        Opening::Respond(method_not_allowed(request.method, route.allow()))
    } else if facts.draining {
        Opening::Respond(draining())
    } else {
        Opening::Exchange {
            session: Box::new(exchange::Exchange::new(
                shared.clone(),
                app_id,
                route,
                request,
                facts,
            )),
            body_bytes_max: shared.body_bytes_max,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_what_they_are_about() {
        let app = |route| Some((Some("a".to_owned()), route));
        for (path, expected) in [
            ("/apps/a/events", app(Route::Events)),
            ("/apps/a/events/", app(Route::Events)),
            ("/apps/a/batch_events", app(Route::BatchEvents)),
            ("/apps/a/channels", app(Route::Channels)),
            ("/apps/a/channels/presence-%40b", app(Route::Channel("presence-@b".into()))),
            ("/apps/a/channels/c/users", app(Route::Users("c".into()))),
            ("/apps/a/channels/c%3B/history", app(Route::History("c;".into()))),
            ("/apps/a/channels/c/history/", app(Route::History("c".into()))),
            ("/apps/a/channels/c/history/state", app(Route::HistoryState("c".into()))),
            ("/apps/a/channels/c/history/reset", app(Route::HistoryReset("c".into()))),
            ("/apps/a/channels/c/history/purge", app(Route::HistoryPurge("c".into()))),
            ("/apps/a/channels/c/history/other", None),
            ("/apps/a/channels/c/history/state/x", None),
            ("/apps/a/channels//history", None),
            ("/apps/a/channels/c/users/x/y", None),
            ("/apps/a/users/u%2F1/terminate_connections", app(Route::Terminate("u/1".into()))),
            ("/apps/a/users/u/force_reconnect", app(Route::Reconnect("u".into()))),
            ("/users/u/terminate_connections", Some((None, Route::Terminate("u".into())))),
            ("/apps", None),
            ("/apps/a", None),
            ("/apps/a/events/x", None),
            ("/apps/a/channels//users", None),
            ("/apps/a/channels/c/users/x", None),
            ("/apps/a/users/u", None),
            ("/apps/a/users//terminate_connections", None),
            ("/users/u", None),
            ("/events", None),
            ("", None),
        ] {
            assert_eq!(Route::of(path), expected, "{path}");
        }
    }
}
