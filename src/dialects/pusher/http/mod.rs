//! The HTTP API: signed requests under `/apps/<id>`.
//!
//! What there is to ask is one table ([`table`], read it first). A request is one `exchange::Exchange`: it takes
//! the body, checks the signature, asks the broker and answers once, when the last answer it waits for has come.
//! Which bytes are signed is `auth::sign`'s affair. Source: Pusher HTTP API reference, and Sockudo's.

mod annotations;
mod channels;
mod exchange;
mod fields;
mod history;
mod matter;
mod messages;
pub mod openapi;
pub mod page;
mod presence;
mod publish;
mod published;
pub mod push;
pub(super) mod push_rules;
pub mod shapes;
pub mod table;

use std::sync::Arc;

use super::Shared;
use crate::dialects::api::{Refusal, draining, method_not_allowed, preflight};
use crate::dialects::{Facts, Opening, Request};

/// Looks at a request of the API.
pub(super) fn open(shared: &Arc<Shared>, request: &Request<'_>, facts: &Facts) -> Option<Opening> {
    let Some((names, rows)) = table::find(request.path) else {
        if request.path == "/apps" || request.path.starts_with("/apps/") {
            let refusal = Refusal::new(404, "not_found", "no such path in the HTTP API");
            return Some(Opening::Respond(refusal.response()));
        }
        return None;
    };
    let allow = table::allow(rows.clone());
    if request.method == "OPTIONS" {
        return Some(Opening::Respond(preflight(allow)));
    }
    let method = if request.method == "HEAD" { "GET" } else { request.method };
    let Some(row) = rows.into_iter().find(|row| row.method.as_str() == method) else {
        return Some(Opening::Respond(method_not_allowed(request.method, allow)));
    };
    if facts.draining {
        return Some(Opening::Respond(draining()));
    }
    Some(Opening::Exchange {
        session: Box::new(exchange::Exchange::new(shared.clone(), row, names, request, facts)),
        body_bytes_max: shared.body_bytes_max,
    })
}
