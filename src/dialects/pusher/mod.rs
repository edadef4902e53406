//! The Pusher protocol, version 7, and Sockudo's version 2 of it: WebSocket connections at `/app/<key>` and
//! the signed HTTP API under `/apps/<id>`.
//!
//! Never here: who is in a channel, in which order events come and how they are kept, which is the broker's.
//! Start with [`session`] for connections and [`http`] for the API; what version 2 adds to a connection is
//! `continuity`. Source: the Pusher documentation, "Pusher Channels Protocol" and "HTTP API Reference", the
//! Sockudo documentation, and what the published clients of both send.

mod actor;
mod capabilities;
mod client_events;
mod continuity;
mod cursor;
mod delta;
mod expression;
pub mod fault;
mod filter_document;
mod filter_tags;
mod filters;
pub mod formats;
mod frames;
mod history;
pub mod http;
mod lanes;
mod limited;
pub mod names;
mod pace;
mod presence;
mod presence_history;
pub mod reports;
mod revoking;
pub mod session;
pub mod settings;
mod subscribing;
mod tokens;
mod two;
mod user;
pub mod versions;

use std::sync::Arc;

use self::fault::Ending;
use self::formats::Format;
use self::frames::Version;
use self::reports::Reports;
use self::session::{PusherSession, Refusing};
use self::tokens::Token;
use self::two::Two;
use super::api::{Refusal, draining, upgrade_required};
use super::{Dialect, Facts, Farewell, LaneKind, Opening, Pane, Request, Response};
use crate::auth::{Apps, Seat};
use crate::base::name::Name;
use crate::broker::{Event, Payload, Report};
use crate::config::{self, Config};
use crate::observe::CloseReason;

/// Inbound messages of a connection that is only told why it is ended.
const REFUSED_MESSAGE_BYTES_MAX: usize = 4096;

/// What every session of this dialect shares.
pub(crate) struct Shared {
    /// The apps.
    pub apps: Arc<Apps>,
    /// The protocol's settings.
    pub settings: config::Pusher,
    /// What is set of version 2.
    pub version_two: settings::Settings,
    /// How often one address may ask.
    pub rates: config::rates::Rates,
    /// Some app may publish or read only so often.
    pub apps_are_bounded: bool,
    /// How long an inbound message may be.
    pub message_bytes_max: usize,
    /// How long a request's body may be.
    pub body_bytes_max: usize,
    /// Bytes of missed events that one resume may send: half of what may wait for one connection, so that
    /// catching up alone makes nobody a slow consumer.
    pub replay_bytes_max: usize,
    /// What the world outside is told.
    pub reports: Reports,
    /// Which events a push notification goes with by itself.
    pub push_rules: Arc<http::push_rules::PushRules>,
    /// Revocations are on disk; else in memory.
    pub revocations_are_durable: bool,
    /// What is set of push notifications.
    pub push: http::push::Terms,
}

impl Shared {
    /// Whether messages of channels that keep history have versions.
    pub fn has_versions(&self) -> bool {
        self.settings.versioned_messages
    }

    /// Whether such messages can be annotated.
    pub fn has_annotations(&self) -> bool {
        self.settings.versioned_messages && self.settings.annotations
    }
}

/// The dialect.
pub struct Pusher(Arc<Shared>);

impl Pusher {
    /// The dialect for these apps.
    pub fn new(config: &Config, apps: Arc<Apps>) -> Self {
        Self(Arc::new(Shared {
            apps,
            settings: config.pusher.clone(),
            version_two: settings::Settings::of(config),
            rates: config::rates::Rates::of(config),
            apps_are_bounded: config
                .apps
                .iter()
                .any(|app| app.publishes_per_second_max > 0 || app.reads_per_second_max > 0),
            message_bytes_max: config.websocket.message_bytes_max,
            body_bytes_max: config.http.body_bytes_max,
            replay_bytes_max: config.limits.outbox_bytes_high_water / 2,
            revocations_are_durable: revoking::are_durable(config),
            reports: Reports::of(config),
            push_rules: Arc::new(http::push_rules::PushRules::new(
                &config::push::PushSettings::of(config),
                http::push::Terms::of(config).key_window,
            )),
            push: http::push::Terms::of(config),
        }))
    }

    /// The session of a connection to an app, or why there is none.
    fn connect(
        &self,
        key: &str,
        request: &Request<'_>,
        facts: &Facts,
        two: Option<Two>,
    ) -> Result<PusherSession, Ending> {
        if key.is_empty() || key.contains('/') {
            return Err(Ending::PathUnknown);
        }
        let Some(app) = self.0.apps.with_key(key) else {
            return Err(Ending::AppUnknown(key.chars().take(64).collect()));
        };
        if !app.settings.enabled {
            return Err(Ending::AppDisabled);
        }
        if !origin_is_allowed(&app.settings.allowed_origins, request.header("origin")) {
            return Err(Ending::Origin);
        }
        let token = match tokens::in_query(request.query.unwrap_or_default()) {
            Some(_) if two.is_none() => return Err(Ending::TokenVersion),
            Some(token) => Some(Token::read(&token, app, facts.now.wall).map_err(Ending::Token)?),
            None => None,
        };
        let seat = Seat::try_take(app).ok_or(Ending::AppFull)?;
        let mut session = PusherSession::new(self.0.clone(), seat, facts, two);
        if let Some(token) = token {
            session.bring(token);
        }
        Ok(session)
    }

    fn opening(&self, request: &Request<'_>, facts: &Facts) -> Option<Opening> {
        let Some(rest) = request.path.strip_prefix("/app").filter(|it| !it.starts_with('s')) else {
            return http::open(&self.0, request, facts);
        };
        let key = match rest.strip_prefix('/') {
            None if !rest.is_empty() => return None,
            None => "",
            Some(key) => key.strip_suffix('/').unwrap_or(key),
        };
        if !request.is_websocket {
            return Some(Opening::Respond(upgrade_required()));
        }
        if facts.draining {
            return Some(Opening::Respond(draining()));
        }
        let query = request.query.unwrap_or_default();
        let version = read_version(query);
        let two = match version {
            Ok(Version::Two) => match Two::read(query) {
                Ok(two) => Some(two),
                Err(text) => {
                    return Some(Opening::Respond(Refusal::invalid(text).response()));
                }
            },
            _ => None,
        };
        let speaks = *version.as_ref().unwrap_or(&Version::Seven);
        let format = two.as_ref().map_or(Format::Json, |it| it.format);
        let connected = version.and_then(|_| self.connect(key, request, facts, two));
        Some(match connected {
            Ok(session) if session.has_to_ask() => Opening::Decide {
                session: Box::new(session),
                message_bytes_max: self.0.message_bytes_max,
                deflate: true,
                protocol: None,
                headers: Vec::new(),
            },
            Ok(session) => Opening::WebSocket {
                session: Box::new(session),
                message_bytes_max: self.0.message_bytes_max,
                deflate: true,
            },
            // Browsers show a page no more than the close code, and that only once it is open.
            Err(ending) => Opening::WebSocket {
                session: Box::new(Refusing(speaks, ending, format)),
                message_bytes_max: REFUSED_MESSAGE_BYTES_MAX,
                deflate: true,
            },
        })
    }
}

impl Dialect for Pusher {
    fn name(&self) -> &'static str {
        "pusher"
    }

    fn lanes(&self) -> &'static [LaneKind] {
        &lanes::KINDS
    }

    fn open(&self, request: &Request<'_>, facts: &Facts) -> Option<Opening> {
        self.opening(request, facts).map(|it| limited::limit(&self.0, it, request))
    }

    fn render(&self, lane: usize, event: &Event, out: &mut Vec<u8>) -> bool {
        lanes::render(lane, self.0.has_versions(), event, out)
    }

    fn needs_store(&self) -> bool {
        self.0.revocations_are_durable
    }

    fn client_channel(&self, client_id: &str) -> Option<Name> {
        Some(frames::user_channel(client_id))
    }

    fn reports(&self) -> bool {
        self.0.reports.any()
    }

    fn report(&self, event: &Event, _about: Option<&Payload>, out: &mut Vec<Report>) {
        self.0.reports.tell(event, out);
    }

    fn pane(&self) -> Option<Pane<'_>> {
        Some(Pane { title: "Pusher", app: None, script: include_str!("pane.js") })
    }

    fn refuse_exchange(&self, status: u16, why: &'static str) -> Option<Response> {
        let code = match status {
            413 => "payload_too_large",
            503 => "backpressure",
            _ => "invalid_input",
        };
        let mut response = Refusal::new(status, code, why).response();
        if status == 503 {
            response.headers.push(("Retry-After", "1".into()));
        }
        Some(response)
    }

    fn openapi(&self) -> Option<Vec<u8>> {
        Some(http::openapi::document())
    }

    fn welcome(&self, host: &str) -> Option<String> {
        Some(format!("ws://{host}/app/<app key>, and its HTTP API http://{host}/apps/<app id>"))
    }

    fn farewell(&self, reason: CloseReason) -> Farewell {
        farewell(Version::Seven, Format::Json, reason)
    }
}

/// How a connection of a version and a format hears that the shard ends it.
fn farewell(version: Version, format: Format, reason: CloseReason) -> Farewell {
    let (code, text) = match reason {
        CloseReason::Drain => (4200, "Server shutting down"),
        CloseReason::SlowConsumer => (4100, "Over capacity: messages are not read fast enough"),
        CloseReason::Overload | CloseReason::Failed => (4100, "Over capacity"),
        CloseReason::TooLarge => (1009, "Message too large"),
        CloseReason::Utf8 => (1007, "Text is not UTF-8"),
        CloseReason::Protocol => (1002, "Not the WebSocket protocol"),
        CloseReason::Timeout => (4201, "Not heard of in time"),
        CloseReason::Peer | CloseReason::Session | CloseReason::Asked | CloseReason::Done => {
            (1000, "")
        }
    };
    let frame = (code >= 4000).then(|| frames::error(version, code, &text));
    Farewell { message: frame.and_then(|it| format.words(it)), code, text: text.into() }
}

/// Reads the `protocol` parameter: absent means 7, as does any small number but 2, which is Sockudo's.
fn read_version(query: &str) -> Result<Version, Ending> {
    let mut versions = query.split('&').filter_map(|pair| pair.strip_prefix("protocol="));
    match versions.next() {
        None => Ok(Version::Seven),
        Some("") => Err(Ending::VersionMissing),
        Some(version) => match version.parse::<u32>() {
            Ok(2) => Ok(Version::Two),
            Ok(version @ 256..) => Err(Ending::VersionUnsupported(version)),
            Ok(_) => Ok(Version::Seven),
            Err(_) => Err(Ending::VersionMalformed),
        },
    }
}

/// Whether a page from `origin` may connect: on the list exactly, by `*` or by `*.example.com`, with
/// or without scheme. An empty list allows everyone; a list refuses who does not say.
fn origin_is_allowed(allowed: &[String], origin: Option<&str>) -> bool {
    if allowed.is_empty() || allowed.iter().any(|it| it == "*") {
        return true;
    }
    let Some(origin) = origin else { return false };
    let host = origin.split_once("://").map_or(origin, |(_, host)| host);
    allowed.iter().any(|pattern| {
        let (scheme, of_pattern) = match pattern.split_once("://") {
            Some((scheme, host)) => (Some(scheme), host),
            None => (None, pattern.as_str()),
        };
        let of_scheme = scheme.is_none_or(|it| {
            origin.split_once("://").is_some_and(|(of, _)| of.eq_ignore_ascii_case(it))
        });
        // A pattern without a port is for every port.
        let host = if of_pattern.contains(':') {
            host
        } else {
            host.rsplit_once(':').filter(|(_, port)| is_port(port)).map_or(host, |(host, _)| host)
        };
        let of_host = match of_pattern.strip_prefix('*') {
            Some(suffix) => {
                let at = host.len().checked_sub(suffix.len());
                let tail = at.and_then(|at| host.get(at..));
                suffix.starts_with('.')
                    && host.len() > suffix.len()
                    && tail.is_some_and(|tail| tail.eq_ignore_ascii_case(suffix))
            }
            None => host.eq_ignore_ascii_case(of_pattern),
        };
        of_scheme && of_host
    })
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_taken_leniently() {
        for query in ["", "client=js", "protocol=7&client=js", "a=b&protocol=5", "protocol=1"] {
            assert_eq!(read_version(query), Ok(Version::Seven), "{query}");
        }
        assert_eq!(read_version("protocol="), Err(Ending::VersionMissing));
        assert_eq!(read_version("protocol=x"), Err(Ending::VersionMalformed));
        assert_eq!(read_version("protocol=7.0"), Err(Ending::VersionMalformed));
        assert_eq!(read_version("a=b&protocol=2"), Ok(Version::Two));
        assert_eq!(read_version("protocol=700"), Err(Ending::VersionUnsupported(700)));
    }

    #[test]
    fn origins_match_as_listed() {
        let listed = |patterns: &[&str], origin| {
            let patterns: Vec<_> = patterns.iter().map(|it| it.to_string()).collect();
            origin_is_allowed(&patterns, origin)
        };
        for (patterns, origin, allowed) in [
            (&[][..], None, true),
            (&["*"][..], None, true),
            (&["example.com"][..], None, false),
            (&["example.com"][..], Some("https://example.com"), true),
            (&["example.com"][..], Some("http://EXAMPLE.com:8080"), true),
            (&["example.com"][..], Some("https://a.example.com"), false),
            (&["example.com"][..], Some("https://example.com.evil"), false),
            (&["https://example.com"][..], Some("http://example.com"), false),
            (&["https://example.com"][..], Some("https://example.com"), true),
            (&["http://localhost:3000"][..], Some("http://localhost:3000"), true),
            (&["http://localhost:3000"][..], Some("http://localhost:3001"), false),
            (&["*.example.com"][..], Some("https://a.b.example.com"), true),
            (&["*.example.com"][..], Some("https://example.com"), false),
            (&["*.example.com"][..], Some("https://evilexample.com"), false),
            (&["https://*.example.com"][..], Some("http://a.example.com"), false),
            (&["a.com", "*.example.com"][..], Some("null"), false),
        ] {
            assert_eq!(listed(patterns, origin), allowed, "{patterns:?} {origin:?}");
        }
    }
}
