//! The routes of the HTTP API, one row each: routing, `Allow`, the OpenAPI document, the reference page and the
//! test of every route with every status come from here.
//!
//! Source: Pusher HTTP API reference; Sockudo's HTTP API for what is about history, versions, annotations and
//! revocations.

use super::push;
use super::push::PushRoute;
use super::shapes::{self, Body, Field, Kind};
use crate::wire::http::query::{self, Plus};

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Publish one event.
    Events,
    /// Publish several.
    BatchEvents,
    /// Which channels are occupied.
    Channels,
    /// One channel.
    Channel,
    /// Who is in a presence channel.
    Users,
    /// What a channel's history holds.
    History,
    /// What is kept of it.
    HistoryState,
    /// Forget it and begin another.
    HistoryReset,
    /// Forget the oldest of it.
    HistoryPurge,
    /// Who came, changed and left.
    PresenceHistory,
    /// What is kept of that.
    PresenceHistoryState,
    /// Who was there at a moment.
    PresenceHistorySnapshot,
    /// Forget it and begin another.
    PresenceHistoryReset,
    /// A message as it is now.
    Message,
    /// Its versions.
    Versions,
    /// Change it.
    Update,
    /// Take it back.
    Delete,
    /// Add to it.
    Append,
    /// Say something about it.
    Annotate,
    /// What was said about it.
    Annotations,
    /// Take back what was said about it.
    TakeBack,
    /// Make capability tokens worthless.
    Revoke,
    /// End a user's connections for good.
    Terminate,
    /// End a user's connections; they come back.
    Reconnect,
    /// Something about push notifications.
    Push(PushRoute),
}

/// A method that a row takes. Whoever may `GET` may `HEAD`, and anyone may ask with `OPTIONS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Reads.
    Get,
    /// Does something.
    Post,
    /// Takes something back.
    Delete,
}

impl Method {
    /// As requests spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Delete => "DELETE",
        }
    }
}

/// A status of those from 400 that a route answers with, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The status.
    pub status: u16,
    /// The word for programs.
    pub code: &'static str,
    /// When.
    pub when: &'static str,
}

/// One route.
#[derive(Debug)]
pub struct Row {
    /// What it is about.
    pub route: Route,
    /// What it is called, once in the table.
    pub name: &'static str,
    /// Its method.
    pub method: Method,
    /// Its path; a word in braces stands for one segment.
    pub path: &'static str,
    /// What it does, in a few words.
    pub summary: &'static str,
    /// More, in whole sentences.
    pub about: &'static str,
    /// The channel must be a presence channel.
    pub is_of_presence: bool,
    /// What its query may say beside the signature.
    pub query: &'static [Field],
    /// Header fields it looks at.
    pub headers: &'static [Field],
    /// Its body.
    pub body: Option<&'static Body>,
    /// The statuses that say it is done.
    pub good: &'static [u16],
    /// What it answers with them; 204 has no body.
    pub answer: &'static Kind,
    /// Its own failures; those of every route are [`ALWAYS`], those of every body [`OF_BODIES`].
    pub failures: &'static [Failure],
}

impl Row {
    /// Everything it may answer with beside what is good.
    pub fn all_failures(&self) -> impl Iterator<Item = &'static Failure> + use<> {
        let of_body: &[Failure] = match (self.body, self.route) {
            (None, _) => &[],
            (_, Route::Push(_)) => push::OF_BODIES,
            _ => OF_BODIES,
        };
        ALWAYS.iter().chain(of_body).chain(self.failures)
    }

    /// The statuses it may answer with, the good ones included, lowest first.
    pub fn statuses(&self) -> Vec<u16> {
        let mut statuses: Vec<_> = self.all_failures().map(|it| it.status).collect();
        statuses.extend(self.good);
        statuses.sort_unstable();
        statuses.dedup();
        statuses
    }
}

pub(super) const fn failure(status: u16, code: &'static str, when: &'static str) -> Failure {
    Failure { status, code, when }
}

/// What every route may answer.
pub static ALWAYS: &[Failure] = &[
    failure(
        400,
        "invalid_input",
        "there is no query, or something in it or in the path makes no sense",
    ),
    failure(
        401,
        "auth_failed",
        "the key, the signature, the timestamp or the digest of the body is wrong, or the app is not the path's",
    ),
    failure(403, "forbidden", "the app is disabled"),
    failure(
        429,
        "rate_limited",
        "the address asked, or the app published or read, more often than it may; `Retry-After` says when to come again",
    ),
    failure(503, "draining", "the server is about to stop; `Retry-After` says when to come again"),
    failure(
        503,
        "backpressure",
        "the server has more to do than it may keep; `Retry-After` says when to come again",
    ),
    failure(
        503,
        "service_unavailable",
        "the store failed, is full, or a bound of the whole server is met; `Retry-After` says when to come again",
    ),
];

/// What every route with a body may answer.
pub static OF_BODIES: &[Failure] = &[
    failure(400, "invalid_input", "the body is not JSON, or a value in it makes no sense"),
    failure(413, "payload_too_large", "the body is larger than `http.body_bytes_max`"),
    failure(422, "invalid_input", "a member of the body is missing or of the wrong type"),
];

const NOT_KEPT: Failure = failure(
    422,
    "feature_disabled",
    "the channel keeps no history (the setting `history.channels`)",
);
const NO_PRESENCE_HISTORY: Failure = failure(
    422,
    "feature_disabled",
    "the channel keeps no history of its members (the settings `history.channels` and `history.presence`)",
);
const NO_VERSIONS: Failure = failure(
    422,
    "feature_disabled",
    "versions are off (`pusher.versioned_messages`), or the channel keeps no history",
);
const NO_ANNOTATIONS: Failure = failure(
    422,
    "feature_disabled",
    "annotations are off (`pusher.annotations`), or the channel keeps no history",
);
const NO_MESSAGE: Failure = failure(404, "not_found", "the channel has no such message");
const NO_ANNOTATION: Failure =
    failure(404, "not_found", "the message has no such annotation, or there is no such message");
const LIMIT: Failure =
    failure(400, "limit_exceeded", "more channels, events or bytes of a name than the app may use");
const NOWHERE: Failure = failure(400, "missing_channel_info", "the event names no channel");
const TOO_LARGE: Failure = failure(
    413,
    "payload_too_large",
    "an event's data is larger than the app's `event_payload_bytes_max`",
);
const DATA_TOO_LARGE: Failure = failure(
    413,
    "payload_too_large",
    "the message's data would be larger than the app's `event_payload_bytes_max`",
);
const NOT_ACTING: Failure = failure(
    401,
    "auth_failed",
    "the connection of `socket_id` is not there, or not one of protocol 2",
);
const MAY_NOT: Failure = failure(
    403,
    "mutable_not_permitted",
    "the capability token of the connection of `socket_id` does not allow it",
);
const MAY_NOT_SAY: Failure = failure(
    403,
    "forbidden",
    "the capability token of the connection of `socket_id` does not allow it",
);
const KEY_REUSED: Failure =
    failure(400, "invalid_input", "the message's own key was used with something else before");

/// The rows, the busiest first.
static ROWS: &[Row] = &[
    Row {
        route: Route::Events,
        name: "publishEvent",
        method: Method::Post,
        path: "/apps/{app_id}/events",
        summary: "Publish an event",
        about: "To one channel or several; each of them orders it for itself. `X-Ringmain-Acknowledged` in the answer's head says how the event is kept: `none`, `memory` or `durable`. The answer lists the channels if the event has `info` or `message_id`.",
        is_of_presence: false,
        query: &[],
        headers: shapes::KEY_HEADER,
        body: Some(&shapes::EVENT_BODY),
        good: &[200],
        answer: &shapes::PUBLISHED,
        failures: &[NOWHERE, LIMIT, TOO_LARGE, KEY_REUSED],
    },
    Row {
        route: Route::BatchEvents,
        name: "publishBatch",
        method: Method::Post,
        path: "/apps/{app_id}/batch_events",
        summary: "Publish several events",
        about: "In order. One that is wrong keeps all of them from being published. If any has `info` or `message_id`, the answer has one object for each, `{}` for those that have neither.",
        is_of_presence: false,
        query: &[],
        headers: shapes::KEY_HEADER,
        body: Some(&shapes::BATCH_BODY),
        good: &[200],
        answer: &shapes::BATCH_PUBLISHED,
        failures: &[NOWHERE, LIMIT, TOO_LARGE, KEY_REUSED],
    },
    Row {
        route: Route::Channels,
        name: "listChannels",
        method: Method::Get,
        path: "/apps/{app_id}/channels",
        summary: "List the occupied channels",
        about: "`info=user_count` needs a prefix that starts with `presence-`.",
        is_of_presence: false,
        query: shapes::CHANNELS_QUERY,
        headers: &[],
        body: None,
        good: &[200],
        answer: &shapes::CHANNELS,
        failures: &[],
    },
    Row {
        route: Route::Channel,
        name: "describeChannel",
        method: Method::Get,
        path: "/apps/{app_id}/channels/{channel_name}",
        summary: "Describe a channel",
        about: "`info=user_count` is for presence channels.",
        is_of_presence: false,
        query: shapes::INFO_QUERY,
        headers: &[],
        body: None,
        good: &[200],
        answer: &shapes::CHANNEL,
        failures: &[],
    },
    Row {
        route: Route::Users,
        name: "listUsers",
        method: Method::Get,
        path: "/apps/{app_id}/channels/{channel_name}/users",
        summary: "List who is in a presence channel",
        about: "",
        is_of_presence: true,
        query: &[],
        headers: &[],
        body: None,
        good: &[200],
        answer: &shapes::USERS,
        failures: &[],
    },
    Row {
        route: Route::History,
        name: "readHistory",
        method: Method::Get,
        path: "/apps/{app_id}/channels/{channel_name}/history",
        summary: "Read a channel's history",
        about: "Messages as they are now, each in its first place. `next_cursor` continues a page; it is good for the same query only.",
        is_of_presence: false,
        query: shapes::HISTORY_QUERY,
        headers: &[],
        body: None,
        good: &[200],
        answer: &shapes::HISTORY,
        failures: &[NOT_KEPT],
    },
    Row {
        route: Route::HistoryState,
        name: "inspectHistory",
        method: Method::Get,
        path: "/apps/{app_id}/channels/{channel_name}/history/state",
        summary: "Say what is kept of a channel's history",
        about: "",
        is_of_presence: false,
        query: &[],
        headers: &[],
        body: None,
        good: &[200],
        answer: &shapes::HISTORY_STATE,
        failures: &[NOT_KEPT],
    },
    Row {
        route: Route::HistoryReset,
        name: "resetHistory",
        method: Method::Post,
        path: "/apps/{app_id}/channels/{channel_name}/history/reset",
        summary: "Forget a channel's history",
        about: "The channel begins another stream: whoever continues from a position in the old one is told so. Versions and annotations go, too.",
        is_of_presence: false,
        query: &[],
        headers: &[],
        body: Some(&shapes::RESET_BODY),
        good: &[200],
        answer: &shapes::RESET,
        failures: &[NOT_KEPT],
    },
    Row {
        route: Route::HistoryPurge,
        name: "purgeHistory",
        method: Method::Post,
        path: "/apps/{app_id}/channels/{channel_name}/history/purge",
        summary: "Forget the oldest of a channel's history",
        about: "`mode` says how far, and exactly the member of its name goes with it.",
        is_of_presence: false,
        query: &[],
        headers: &[],
        body: Some(&shapes::PURGE_BODY),
        good: &[200],
        answer: &shapes::PURGED,
        failures: &[NOT_KEPT],
    },
    Row {
        route: Route::PresenceHistory,
        name: "readPresenceHistory",
        method: Method::Get,
        path: "/apps/{app_id}/channels/{channel_name}/presence/history",
        summary: "Read who came, changed and left",
        about: "",
        is_of_presence: true,
        query: shapes::HISTORY_QUERY,
        headers: &[],
        body: None,
        good: &[200],
        answer: &shapes::PRESENCE_HISTORY,
        failures: &[NO_PRESENCE_HISTORY],
    },
    Row {
        route: Route::PresenceHistoryState,
        name: "inspectPresenceHistory",
        method: Method::Get,
        path: "/apps/{app_id}/channels/{channel_name}/presence/history/state",
        summary: "Say what is kept of who came, changed and left",
        about: "",
        is_of_presence: true,
        query: &[],
        headers: &[],
        body: None,
        good: &[200],
        answer: &shapes::HISTORY_STATE,
        failures: &[NO_PRESENCE_HISTORY],
    },
    Row {
        route: Route::PresenceHistorySnapshot,
        name: "readPresenceSnapshot",
        method: Method::Get,
        path: "/apps/{app_id}/channels/{channel_name}/presence/history/snapshot",
        summary: "Say who was there at a moment",
        about: "Without a moment: after the newest event kept.",
        is_of_presence: true,
        query: shapes::SNAPSHOT_QUERY,
        headers: &[],
        body: None,
        good: &[200],
        answer: &shapes::SNAPSHOT,
        failures: &[NO_PRESENCE_HISTORY],
    },
    Row {
        route: Route::PresenceHistoryReset,
        name: "resetPresenceHistory",
        method: Method::Post,
        path: "/apps/{app_id}/channels/{channel_name}/presence/history/reset",
        summary: "Forget who came, changed and left",
        about: "",
        is_of_presence: true,
        query: &[],
        headers: &[],
        body: Some(&shapes::RESET_BODY),
        good: &[200],
        answer: &shapes::PRESENCE_RESET,
        failures: &[NO_PRESENCE_HISTORY],
    },
    Row {
        route: Route::Message,
        name: "readMessage",
        method: Method::Get,
        path: "/apps/{app_id}/channels/{channel_name}/messages/{message_serial}",
        summary: "Read a message as it is now",
        about: "",
        is_of_presence: false,
        query: &[],
        headers: &[],
        body: None,
        good: &[200],
        answer: &shapes::MESSAGE,
        failures: &[NO_MESSAGE, NO_VERSIONS],
    },
    Row {
        route: Route::Versions,
        name: "listVersions",
        method: Method::Get,
        path: "/apps/{app_id}/channels/{channel_name}/messages/{message_serial}/versions",
        summary: "List a message's versions",
        about: "An append holds only what it added. `next_cursor` is the serial of the last version of the page.",
        is_of_presence: false,
        query: shapes::VERSIONS_QUERY,
        headers: &[],
        body: None,
        good: &[200],
        answer: &shapes::VERSIONS,
        failures: &[NO_MESSAGE, NO_VERSIONS],
    },
    Row {
        route: Route::Update,
        name: "updateMessage",
        method: Method::Post,
        path: "/apps/{app_id}/channels/{channel_name}/messages/{message_serial}/update",
        summary: "Replace or clear parts of a message",
        about: "With `socket_id` that connection acts, with the rights of its capability token; without one the app itself does, and `client_id` is only recorded. A message that was deleted comes back.",
        is_of_presence: false,
        query: &[],
        headers: &[],
        body: Some(&shapes::UPDATE_BODY),
        good: &[200],
        answer: &shapes::MUTATED,
        failures: &[NO_MESSAGE, NO_VERSIONS, NOT_ACTING, MAY_NOT, DATA_TOO_LARGE, KEY_REUSED],
    },
    Row {
        route: Route::Delete,
        name: "deleteMessage",
        method: Method::Post,
        path: "/apps/{app_id}/channels/{channel_name}/messages/{message_serial}/delete",
        summary: "Take a message back",
        about: "Its versions stay. Without `data` the version that deletes it keeps its data.",
        is_of_presence: false,
        query: &[],
        headers: &[],
        body: Some(&shapes::DELETE_BODY),
        good: &[200],
        answer: &shapes::MUTATED,
        failures: &[NO_MESSAGE, NO_VERSIONS, NOT_ACTING, MAY_NOT, DATA_TOO_LARGE, KEY_REUSED],
    },
    Row {
        route: Route::Append,
        name: "appendMessage",
        method: Method::Post,
        path: "/apps/{app_id}/channels/{channel_name}/messages/{message_serial}/append",
        summary: "Add text to a message",
        about: "The message's data must be a string.",
        is_of_presence: false,
        query: &[],
        headers: &[],
        body: Some(&shapes::APPEND_BODY),
        good: &[200],
        answer: &shapes::MUTATED,
        failures: &[NO_MESSAGE, NO_VERSIONS, NOT_ACTING, MAY_NOT, DATA_TOO_LARGE, KEY_REUSED],
    },
    Row {
        route: Route::Annotate,
        name: "annotateMessage",
        method: Method::Post,
        path: "/apps/{app_id}/channels/{channel_name}/messages/{message_serial}/annotations",
        summary: "Say something about a message",
        about: "The type's second part says how what is said is taken together: `total`, `flag`, `distinct`, `unique`, `multiple`. The last three need `name`; `flag`, `distinct` and `unique` need `client_id`, or `socket_id` of a connection that has one.",
        is_of_presence: false,
        query: &[],
        headers: &[],
        body: Some(&shapes::ANNOTATION_BODY),
        good: &[200],
        answer: &shapes::ANNOTATED,
        failures: &[NO_MESSAGE, NO_ANNOTATIONS, NOT_ACTING, MAY_NOT_SAY],
    },
    Row {
        route: Route::Annotations,
        name: "listAnnotations",
        method: Method::Get,
        path: "/apps/{app_id}/channels/{channel_name}/messages/{message_serial}/annotations",
        summary: "List what was said about a message",
        about: "Oldest first, with what was taken back. `nextCursor` is the first serial of the next page: ask with `from_serial`.",
        is_of_presence: false,
        query: shapes::ANNOTATIONS_QUERY,
        headers: &[],
        body: None,
        good: &[200],
        answer: &shapes::ANNOTATIONS,
        failures: &[NO_MESSAGE, NO_ANNOTATIONS, NOT_ACTING, MAY_NOT_SAY],
    },
    Row {
        route: Route::TakeBack,
        name: "deleteAnnotation",
        method: Method::Delete,
        path: "/apps/{app_id}/channels/{channel_name}/messages/{message_serial}/annotations/{annotation_serial}",
        summary: "Take back what was said about a message",
        about: "Once more is answered with the serial of what was said in both members.",
        is_of_presence: false,
        query: shapes::ACTOR_QUERY,
        headers: &[],
        body: None,
        good: &[200],
        answer: &shapes::TAKEN_BACK,
        failures: &[NO_ANNOTATION, NO_ANNOTATIONS, NOT_ACTING, MAY_NOT_SAY],
    },
    Row {
        route: Route::Revoke,
        name: "revokeTokens",
        method: Method::Post,
        path: "/apps/{app_id}/revocations",
        summary: "Make capability tokens worthless",
        about: "One by its `jti`, or all of a client. Connections that use one are closed.",
        is_of_presence: false,
        query: &[],
        headers: &[],
        body: Some(&shapes::REVOCATION_BODY),
        good: &[200],
        answer: &shapes::REVOKED,
        failures: &[],
    },
    Row {
        route: Route::Terminate,
        name: "terminateUser",
        method: Method::Post,
        path: "/apps/{app_id}/users/{user_id}/terminate_connections",
        summary: "End a user's connections for good",
        about: "Those signed in as the user get the error 4009 and are closed.",
        is_of_presence: false,
        query: &[],
        headers: &[],
        body: None,
        good: &[200],
        answer: &shapes::DONE,
        failures: &[],
    },
    Row {
        route: Route::Reconnect,
        name: "reconnectUser",
        method: Method::Post,
        path: "/apps/{app_id}/users/{user_id}/force_reconnect",
        summary: "Let a user's connections come back anew",
        about: "Those signed in as the user get the error 4200 and are closed; their clients connect again at once.",
        is_of_presence: false,
        query: &[],
        headers: &[],
        body: None,
        good: &[200],
        answer: &shapes::DONE,
        failures: &[],
    },
    Row {
        route: Route::Terminate,
        name: "terminateUserOfKey",
        method: Method::Post,
        path: "/users/{user_id}/terminate_connections",
        summary: "End a user's connections for good",
        about: "As Pusher's library for Python asks for it: the key says which app.",
        is_of_presence: false,
        query: &[],
        headers: &[],
        body: None,
        good: &[200],
        answer: &shapes::DONE,
        failures: &[],
    },
    Row {
        route: Route::Reconnect,
        name: "reconnectUserOfKey",
        method: Method::Post,
        path: "/users/{user_id}/force_reconnect",
        summary: "Let a user's connections come back anew",
        about: "Likewise.",
        is_of_presence: false,
        query: &[],
        headers: &[],
        body: None,
        good: &[200],
        answer: &shapes::DONE,
        failures: &[],
    },
];

/// All routes.
pub fn rows() -> impl Iterator<Item = &'static Row> + Clone {
    ROWS.iter().chain(push::ROWS)
}

impl Row {
    /// The same as another row, for clients that ask so.
    pub fn is_alias(&self) -> bool {
        !self.path.starts_with("/apps/")
    }

    /// What the words in braces of its path stand for.
    pub fn path_fields(&self) -> Vec<Field> {
        let channel =
            if self.is_of_presence { shapes::PRESENCE_NAME } else { shapes::CHANNEL_NAME };
        let words = self.path.split('/').filter_map(placeholder);
        let field = |name: &'static str| {
            let (kind, help) = match name {
                "app_id" => (Kind::Text(1, 64), "The app's id."),
                "channel_name" => (channel, "The channel, percent-encoded."),
                "message_serial" => (Kind::Text(1, 128), "The message: its `message_serial`."),
                "annotation_serial" => {
                    (Kind::Text(1, 128), "What was said: its `annotationSerial`.")
                }
                "user_id" => (Kind::Text(1, 200), "The user's id, percent-encoded."),
                other => push::path_field(other),
            };
            Field { name, kind, is_required: true, help }
        };
        words.map(field).collect()
    }
}

fn placeholder(segment: &'static str) -> Option<&'static str> {
    segment.strip_prefix('{')?.strip_suffix('}')
}

/// What a path says in the places that its pattern leaves open, decoded; empty where it has no such place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// The app's id, if the path has a place for it.
    pub app_id: Option<String>,
    /// The channel, the user, or what else a path names.
    pub name: String,
    /// The message.
    pub message: String,
    /// The annotation.
    pub annotation: String,
    /// The provider of push notifications.
    pub provider: String,
}

/// The rows whose pattern a path is of, and what it says in the open places; none: no path of this API.
pub fn find(path: &str) -> Option<(Names, impl Iterator<Item = &'static Row> + Clone + use<>)> {
    // The router drops one trailing slash.
    let path = path.strip_suffix('/').unwrap_or(path);
    let first = rows().find(|row| is_of(row.path, path))?;
    let mut names = Names::default();
    for (segment, given) in first.path.split('/').zip(path.split('/')) {
        let Some(place) = placeholder(segment) else { continue };
        let text = query::decode_lossy(given, Plus::Literal).into_owned();
        match place {
            "app_id" => names.app_id = Some(text),
            "message_serial" => names.message = text,
            "annotation_serial" => names.annotation = text,
            "provider" => names.provider = text,
            _ => names.name = text,
        }
    }
    Some((names, rows().filter(|row| row.path == first.path)))
}

fn is_of(pattern: &'static str, path: &str) -> bool {
    let mut given = path.split('/');
    let is_alike = pattern.split('/').all(|segment| match (placeholder(segment), given.next()) {
        (_, None) => false,
        (None, Some(given)) => given == segment,
        (Some(_), Some(given)) => !given.is_empty(),
    });
    is_alike && given.next().is_none()
}

/// The methods that rows of one path take, as `Allow` lists them.
pub fn allow(rows: impl Iterator<Item = &'static Row>) -> &'static str {
    let mut taken = (false, false, false);
    for row in rows {
        match row.method {
            Method::Get => taken.0 = true,
            Method::Post => taken.1 = true,
            Method::Delete => taken.2 = true,
        }
    }
    match taken {
        (true, false, false) => "GET, HEAD, OPTIONS",
        (false, true, false) => "POST, OPTIONS",
        (true, true, false) => "GET, HEAD, POST, OPTIONS",
        (false, false, true) => "DELETE, OPTIONS",
        (true, false, true) => "GET, HEAD, DELETE, OPTIONS",
        (false, true, true) => "POST, DELETE, OPTIONS",
        (true, true, true) => "GET, HEAD, POST, DELETE, OPTIONS",
        (false, false, false) => "OPTIONS",
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
