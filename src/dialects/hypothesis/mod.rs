//! The Hypothesis Real Time API: annotation events over one WebSocket, by filter and by who may see them.
//!
//! All annotations of an app are one stream, in one order; which socket hears which is its filter's affair,
//! found by the tags of the event. Never here: groups and memberships, which are the application's. Start
//! with [`session`] for sockets and [`annotation`] for what comes in. Source: the Hypothesis documentation,
//! "Real Time API", and what the `h` service was observed to do.

pub mod annotation;
pub mod filter;
mod frames;
pub mod session;
pub mod settings;
pub mod uri;

use std::sync::Arc;

use bytes::Bytes;
use subtle::ConstantTimeEq;

use self::session::HypothesisSession;
use self::settings::{DEVELOPMENT_TOKEN, DEVELOPMENT_USER, Settings};
use super::api::{Door, Refusal, Submission, draining};
use super::{Dialect, Facts, Farewell, LaneKind, Opening, Output, Pane, Request, Response};
use crate::auth::{App, Apps, Checked, Seat, Source};
use crate::base::ids::Ticket;
use crate::base::time::Millis;
use crate::broker::{Command, Event};
use crate::config::Config;
use crate::observe::CloseReason;
use crate::wire::http::query::{self, Plus};

/// Everyone who hears annotations.
const LANE_ANNOTATIONS: u8 = 0;
/// A user's sockets, which hear of the user's groups.
const LANE_USER: u8 = 1;

/// The channel of all annotations that are in no bridged channel.
const CHANNEL: &str = "#hypothesis";
/// The channel of what concerns one user starts so; the rest is the userid.
const USER_PREFIX: &str = "#hypothesis:user:";
/// The name of an annotation event, before its action.
const EVENT_PREFIX: &str = "annotation-";

/// Where the WebSocket is.
const PATH: &str = "/ws";
/// Where an `h` deployment posts its events.
const WEBHOOK_PATH: &str = "/hypothesis/webhook";

/// What every session of this dialect shares.
pub struct Shared {
    app: Arc<App>,
    settings: Settings,
    source: Arc<Source>,
}

/// The dialect.
pub struct Hypothesis {
    /// None: it is off.
    shared: Option<Arc<Shared>>,
    apps: Arc<Apps>,
    signature_window: Millis,
    body_bytes_max: usize,
    development: bool,
}

impl Hypothesis {
    /// The dialect of the app that the settings name.
    pub fn new(config: &Config, apps: Arc<Apps>) -> Self {
        let settings = config.sections.get::<Settings>().cloned();
        let mut settings = settings.unwrap_or_else(|| settings::SECTION.blank());
        if config.development {
            settings = settings.development();
        }
        let shared = apps.with_id(&settings.app).cloned().map(|app| {
            let source = Arc::new(Source::new("hypothesis", &settings.tokens, None));
            Arc::new(Shared { app, settings, source })
        });
        Self {
            shared,
            apps,
            signature_window: config.pusher.signature_window,
            body_bytes_max: config.http.body_bytes_max,
            development: config.development,
        }
    }

    /// A WebSocket at our path, or why there is none.
    fn connect(&self, shared: &Arc<Shared>, request: &Request<'_>, facts: &Facts) -> Opening {
        if !request.is_websocket {
            return Opening::Respond(bad_handshake());
        }
        if facts.draining {
            return Opening::Respond(draining());
        }
        if !shared.app.settings.enabled {
            let reason = "You are not allowed here. Are you connecting from an allowed origin?";
            return Opening::Respond(refused(403, "forbidden", reason));
        }
        let Some(seat) = Seat::try_take(&shared.app) else {
            let mut response =
                refused(503, "server_error", "The app has as many connections as it may have.");
            response.headers.push(("Retry-After", "1".into()));
            return Opening::Respond(response);
        };
        let checked = token_of(request).map(|token| shared.source.check(&token, facts.now.wall));
        let session = match checked {
            Some(Checked::Inquire(inquiry)) => {
                HypothesisSession::asking(shared.clone(), seat, inquiry, facts)
            }
            Some(Checked::Known(identity)) => {
                HypothesisSession::new(shared.clone(), seat, Some(identity), facts)
            }
            Some(Checked::Expired | Checked::Unknown) if shared.settings.strict_tokens => {
                return Opening::Respond(refused(401, "unauthorized", "The token is not valid."));
            }
            // A bad token is no error: the peer finds out when it asks who it is.
            _ => HypothesisSession::new(shared.clone(), seat, None, facts),
        };
        Opening::WebSocket {
            session: Box::new(session),
            message_bytes_max: shared.settings.message_bytes_max,
            deflate: false,
        }
    }

    /// A request that publishes events.
    fn publish(
        &self,
        request: &Request<'_>,
        facts: &Facts,
        door: impl FnOnce() -> Result<Door, Refusal>,
    ) -> Opening {
        let open_groups = self.shared.as_ref().map(|it| it.settings.open_groups.clone());
        let open_groups = open_groups.unwrap_or_default();
        let read =
            move |app: &Arc<App>, body: &[u8], now, out: &mut Vec<Output>| {
                let events = annotation::read(app, body, &open_groups, now)?;
                let asks = (0..).map(Ticket).zip(events);
                out.extend(asks.map(|(ticket, publish)| {
                    Output::Ask(ticket, Command::Publish(Box::new(publish)))
                }));
                Ok(())
            };
        Submission::open(request, facts, self.body_bytes_max, door, Box::new(read))
    }

    /// Lets an `h` deployment in that has our token.
    fn webhook(&self, shared: &Shared, request: &Request<'_>) -> Result<Door, Refusal> {
        let wrong = || Refusal::new(401, "auth_failed", "the bearer token is not the webhook's");
        let given = request.header("authorization").and_then(bearer).ok_or_else(wrong)?;
        let token = shared.settings.webhook_token.as_ref().ok_or_else(wrong)?;
        if bool::from(token.0.as_bytes().ct_eq(given.as_bytes())) {
            return Ok(Door::Open(shared.app.clone()));
        }
        Err(wrong())
    }
}

impl Dialect for Hypothesis {
    fn name(&self) -> &'static str {
        "hypothesis"
    }

    fn lanes(&self) -> &'static [LaneKind] {
        &[LaneKind::Text, LaneKind::Text]
    }

    fn open(&self, request: &Request<'_>, facts: &Facts) -> Option<Opening> {
        let shared = self.shared.as_ref()?;
        if request.path == PATH {
            return Some(self.connect(shared, request, facts));
        }
        if request.path == WEBHOOK_PATH && shared.settings.webhook_token.is_some() {
            return Some(self.publish(request, facts, || self.webhook(shared, request)));
        }
        let app_id = request.path.strip_prefix("/apps/")?.strip_suffix("/hypothesis/events")?;
        // Other apps' paths are not ours to answer for.
        if query::decode_lossy(app_id, Plus::Literal) != shared.app.settings.id {
            return None;
        }
        let door = || {
            let id = &shared.app.settings.id;
            Ok(Door::signed(&self.apps, self.signature_window, id, request))
        };
        Some(self.publish(request, facts, door))
    }

    fn render(&self, lane: usize, event: &Event, out: &mut Vec<u8>) -> bool {
        match lane as u8 {
            LANE_USER => frames::render_session(event, out),
            _ => frames::render(event, out),
        }
    }

    fn refuse_handshake(&self, request: &Request<'_>) -> Option<Response> {
        self.shared.as_ref()?;
        (request.path == PATH).then(bad_handshake)
    }

    fn pane(&self) -> Option<Pane<'_>> {
        let app = &*self.shared.as_ref()?.app.settings.id;
        Some(Pane { title: "Hypothesis", app: Some(app), script: include_str!("pane.js") })
    }

    fn welcome(&self, host: &str) -> Option<String> {
        self.shared.as_ref()?;
        let who = match self.development {
            true => {
                format!(", anonymously or ?access_token={DEVELOPMENT_TOKEN} ({DEVELOPMENT_USER})")
            }
            false => String::new(),
        };
        Some(format!("ws://{host}{PATH}{who}"))
    }

    fn farewell(&self, reason: CloseReason) -> Farewell {
        // The official client comes back after every code but 1000 and 1001.
        let (code, text) = match reason {
            CloseReason::Drain => (1012, "Server is restarting"),
            CloseReason::SlowConsumer => (1013, "Events are not read fast enough"),
            CloseReason::Overload | CloseReason::Failed => (1013, "Try again later"),
            CloseReason::TooLarge => (1009, "Message too large"),
            CloseReason::Utf8 => (1007, "Invalid UTF-8 bytes"),
            CloseReason::Protocol => (1002, "Not the WebSocket protocol"),
            CloseReason::Timeout
            | CloseReason::Peer
            | CloseReason::Session
            | CloseReason::Asked
            | CloseReason::Done => (1000, ""),
        };
        Farewell { message: None, code, text: text.into() }
    }
}

/// The token a peer shows: in the query if there is one at all, else as a bearer.
fn token_of(request: &Request<'_>) -> Option<String> {
    let pairs = query::pairs_raw(request.query.unwrap_or_default());
    let mut pairs = pairs.map(|(name, value)| (query::decode_lossy(name, Plus::Space), value));
    let token = match pairs.find(|(name, _)| name == "access_token") {
        Some((_, value)) => query::decode_lossy(value, Plus::Space).into_owned(),
        None => bearer(request.header("authorization")?)?.to_owned(),
    };
    Some(token).filter(|it| !it.is_empty())
}

fn bearer(field: &str) -> Option<&str> {
    Some(field.strip_prefix("Bearer ")?.trim())
}

fn bad_handshake() -> Response {
    refused(400, "bad_handshake", "Handshake failed. Are you a WebSocket client?")
}

fn refused(status: u16, error: &str, reason: &str) -> Response {
    Response {
        status,
        headers: vec![("Content-Type", "application/json".into())],
        body: Bytes::from(frames::handshake_error(error, reason)),
    }
}
