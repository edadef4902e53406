//! The HTTP API: signed requests under `/apps/<id>`.

use std::sync::Arc;

use super::Shared;
use crate::dialects::{Facts, Opening, Request, Response};

/// Looks at a request of the API.
pub(super) fn open(_: &Arc<Shared>, _: &Request<'_>, _: &Facts) -> Option<Opening> {
    None
}

/// The answer to who comes to a WebSocket's path without a WebSocket.
pub(super) fn upgrade_required() -> Response {
    Response {
        status: 426,
        headers: vec![("Upgrade", "websocket".into())],
        body: Default::default(),
    }
}

/// The answer while the process is about to stop.
pub(super) fn draining() -> Response {
    Response { status: 503, headers: vec![("Retry-After", "1".into())], body: Default::default() }
}
