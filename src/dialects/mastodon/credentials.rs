//! The token that a request shows. Source: Mastodon's documentation, and its streaming server as observed.

use std::borrow::Cow;

use crate::dialects::Request;
use crate::wire::http::query;

/// The token: of the header field for it if there is one, right or wrong, else of the query, else the whole
/// sub-protocol that a browser offers because it can set nothing else. What is empty is not there.
pub(super) fn token_of<'a>(request: &Request<'a>) -> Option<Cow<'a, str>> {
    let there = |it: &Cow<'_, str>| !it.is_empty();
    let authorization = request.header("authorization").filter(|it| !it.is_empty());
    if let Some(field) = authorization {
        return Some(field.strip_prefix("Bearer ").unwrap_or(field).into());
    }
    let query = request.query.unwrap_or_default();
    let in_query = query::value(query, "access_token").filter(there);
    in_query.or_else(|| request.header("sec-websocket-protocol").map(Cow::from)).filter(there)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_credential_counts() {
        // Authorization, query, sub-protocol.
        for (authorization, query, protocol, expected) in [
            (None, None, None, None),
            (Some("Bearer a"), Some("access_token=b"), Some("c"), Some("a")),
            (Some("bearer a"), Some("access_token=b"), None, Some("bearer a")),
            (Some("Basic x"), Some("access_token=b"), None, Some("Basic x")),
            (Some(""), Some("access_token=b"), None, Some("b")),
            (None, Some("access_token=b"), Some("c"), Some("b")),
            (None, Some("access_token=b%2Fd"), None, Some("b/d")),
            (None, Some("access_token="), Some("c"), Some("c")),
            (None, Some("stream=user"), Some("c"), Some("c")),
            (None, None, Some("a, b"), Some("a, b")),
            (None, Some("access_token="), None, None),
        ] {
            let fields = [("Authorization", authorization), ("Sec-WebSocket-Protocol", protocol)];
            let headers: Vec<(&str, &[u8])> = fields
                .iter()
                .filter_map(|(name, value)| Some((*name, (*value)?.as_bytes())))
                .collect();
            let request = Request {
                method: "GET",
                path: "/",
                query,
                headers: &headers,
                peer: ([127, 0, 0, 1], 9).into(),
                is_websocket: true,
                takes_chunks: true,
            };
            let case = (authorization, query, protocol);
            assert_eq!(token_of(&request).as_deref(), expected, "{case:?}");
        }
    }
}
