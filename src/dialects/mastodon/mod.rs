//! Mastodon streaming: timelines and notifications over server-sent events and WebSockets, as Mastodon's own streaming
//! server speaks it, in its place or alone.
//!
//! Alone, tokens come from the settings or an issuer, and events from a signed request. In that server's place, both come
//! from Mastodon's own Redis and PostgreSQL ([`follower`]). What a status means for each account is found out once, before
//! it is published ([`judge`], [`brief`]). Never here: timelines, which are Mastodon's. Start with [`names`], then the
//! sessions.

pub mod accounts;
mod automaton;
pub mod brief;
pub mod connected;
mod credentials;
pub mod envelope;
mod eventstream;
mod folded;
pub mod follower;
mod frames;
mod html;
mod http;
pub mod judge;
pub mod keywords;
mod listening;
mod metrics;
pub mod names;
mod replies;
pub mod rules;
pub mod sample;
mod scopes;
mod session;
pub mod settings;
pub mod status;
mod streams;
pub mod tags;

use std::sync::Arc;

use self::connected::Connected;
use self::eventstream::EventStreamSession;
use self::follower::{Counts, Plan, Relay};
use self::listening::Filters;
use self::replies::Fault;
use self::rules::Rules;
use self::session::SocketSession;
use self::settings::DEVELOPMENT_TOKEN;
pub use self::settings::{SECTION, Settings};
use self::streams::{Asked, Stream, Word};
use super::api;
use super::{Dialect, Facts, Farewell, LaneKind, Opening, Pane, Request, Response, Upstream};
use crate::auth::source::Following;
use crate::auth::{App, Apps, Checked, Finding, Identity, Inquiry, Seat, Source};
use crate::base::ids::Ticket;
use crate::base::name::Name;
use crate::broker::Event;
use crate::config::Config;
use crate::observe::CloseReason;
use crate::wire::http::query;
use crate::wire::websocket::handshake::protocols;

/// WebSockets, each event named by its channel's stream.
pub(in crate::dialects) const LANE_TEXT: u8 = 0;
/// Event streams, in chunks; the next lane is the same for peers that take none.
pub(in crate::dialects) const LANE_CHUNK: u8 = 1;

/// Where everything is, but for the site's own icon.
const PATH: &str = "/api/v1/streaming";
const HEALTH_PATH: &str = "/api/v1/streaming/health";
const ICON_PATH: &str = "/favicon.ico";

/// The body of a request for a stream, which nobody reads.
const BODY_BYTES_MAX: usize = 64 << 10;

/// The ticket of the question whose a token is.
const TOKEN: Ticket = Ticket(0);
/// And of that for an event stream's channels.
const FOLLOW: Ticket = Ticket(1);

/// What every session of this dialect shares.
struct Shared {
    /// The app whose events these are.
    app: Arc<App>,
    settings: Settings,
    source: Arc<Source>,
    filters: Filters,
    connected: Arc<Connected>,
    /// What the settings say about accounts.
    rules: Arc<Rules>,
    /// The route that back ends publish by.
    publishing: Arc<http::Publishing>,
    development: bool,
}

impl Shared {
    /// What a request shows of who sends it.
    fn shown(&self, request: &Request<'_>, facts: &Facts) -> Shown {
        let Some(token) = credentials::token_of(request) else {
            return Shown::Fault(Fault::MissingToken);
        };
        let shown = match self.source.check(&token, facts.now.wall) {
            Checked::Known(identity) => self.enter(identity),
            Checked::Inquire(inquiry) => return Shown::Ask(inquiry),
            Checked::Expired | Checked::Unknown => Err(Fault::InvalidToken),
        };
        shown.map_or_else(Shown::Fault, Shown::Known)
    }

    /// Who was found out to ask, or why that is not good enough.
    fn found(&self, finding: Finding) -> Result<Arc<Identity>, Fault> {
        match finding {
            Finding::Known(identity) => self.enter(identity),
            Finding::Unknown | Finding::Expired => Err(Fault::InvalidToken),
            _ => Err(Fault::Unexpected),
        }
    }

    /// Lets someone in, with what is known of the account beside its token.
    fn enter(&self, mut identity: Arc<Identity>) -> Result<Arc<Identity>, Fault> {
        // Channels are named by it: `public` is nobody's account.
        if !accounts::is_account(&identity.user) {
            return Err(Fault::InvalidToken);
        }
        if !self.source.has_upstream
            && identity.languages.is_none()
            && let Some(languages) = self.rules.languages(&identity.user)
        {
            Arc::make_mut(&mut identity).languages = Some(languages);
        }
        Ok(identity)
    }

    /// How a stream may be followed, without anyone to ask.
    fn alone(&self, account: &Name, stream: &Stream) -> Result<Following, Fault> {
        match stream.list().is_some_and(|list| !self.rules.owns(account, list)) {
            true => Err(Fault::ForeignList),
            false => Ok(Following { judged_from: 0, local: true, remote: true }),
        }
    }
}

/// Someone at the door.
struct Arrival {
    /// This connection's place in its app.
    seat: Seat,
    shown: Option<Shown>,
    /// What the answer is called.
    request_id: String,
}

/// What a request shows of who sends it.
enum Shown {
    /// This is who it is.
    Known(Arc<Identity>),
    /// Only upstream knows, or the application.
    Ask(Inquiry),
    /// Nobody that is let in.
    Fault(Fault),
}

/// The dialect; without an app it takes no request.
pub struct Mastodon {
    shared: Option<Arc<Shared>>,
    /// What comes of following Mastodon's own servers.
    counts: Arc<Counts>,
}

impl Mastodon {
    /// The dialect of the app that its settings name.
    pub fn new(config: &Config, apps: Arc<Apps>) -> Self {
        let settings = Settings::of(config);
        let shared = apps.with_id(&settings.app).cloned().map(|app| {
            let mut source = Source::new("mastodon", &settings.tokens, None);
            source.has_upstream = settings.has_upstream();
            let source = Arc::new(source);
            let rules = Arc::new(Rules::new(&settings.accounts, &settings.filters));
            let publishing = http::Publishing {
                bridge: http::bridge(&app),
                signature_window: config.pusher.signature_window,
                body_bytes_max: config.http.body_bytes_max,
                sends_filters_changed: settings.sends_filters_changed,
                app: app.clone(),
                apps: apps.clone(),
                source: source.clone(),
                rules: rules.clone(),
            };
            Arc::new(Shared {
                app,
                source,
                settings,
                rules,
                development: config.development,
                filters: Filters::default(),
                connected: Arc::default(),
                publishing: Arc::new(publishing),
            })
        });
        Self { shared, counts: Arc::default() }
    }

    /// Whether a request is for this dialect.
    fn is_ours(shared: &Shared, request: &Request<'_>) -> bool {
        let is_below = |rest: &str| rest.is_empty() || rest.starts_with('/');
        if request.path.strip_prefix(PATH).is_some_and(is_below) {
            return true;
        }
        shared.settings.takes_everything && (request.is_websocket || !is_servers(request.path))
    }

    /// Someone at the door, or why they are not let in.
    fn arrive(
        shared: &Arc<Shared>,
        request: &Request<'_>,
        facts: &Facts,
        request_id: &str,
    ) -> Result<Arrival, Fault> {
        if facts.draining || !shared.app.settings.enabled {
            return Err(Fault::Unavailable);
        }
        let seat = Seat::try_take(&shared.app).ok_or(Fault::Unavailable)?;
        let shown = Some(shared.shown(request, facts));
        Ok(Arrival { seat, shown, request_id: request_id.to_owned() })
    }

    fn open_socket(
        shared: &Arc<Shared>,
        request: &Request<'_>,
        facts: &Facts,
        request_id: String,
    ) -> Opening {
        let arrival = match Self::arrive(shared, request, facts, &request_id) {
            Ok(arrival) => arrival,
            Err(fault) => return Opening::Respond(fault.refusal(&request_id)),
        };
        let asked = asked_of(request, None);
        let session = SocketSession::new(shared.clone(), facts.lane_first, arrival, asked);
        Opening::Decide {
            session: Box::new(session),
            message_bytes_max: shared.settings.message_bytes_max,
            deflate: false,
            // Browsers want one of theirs back, whatever let them in.
            protocol: protocols(request.headers).next().map(str::to_owned),
            headers: vec![replies::request_id(&request_id)],
        }
    }

    fn open_stream(
        shared: &Arc<Shared>,
        request: &Request<'_>,
        facts: &Facts,
        request_id: String,
    ) -> Opening {
        let only_media = query::value(request.query.unwrap_or_default(), "only_media");
        let only_media = only_media.is_some_and(|it| streams::is_truthy(&it));
        let Some(kind) = streams::kind_of_path(request.path, only_media) else {
            return Opening::Respond(Fault::UnknownPath.response(&request_id));
        };
        if !matches!(request.method, "GET" | "HEAD") {
            return Opening::Respond(Fault::Method.response(&request_id));
        }
        let arrival = match Self::arrive(shared, request, facts, &request_id) {
            Ok(arrival) => arrival,
            Err(fault) => return Opening::Respond(fault.response(&request_id)),
        };
        let (lane_first, takes_chunks) = (facts.lane_first, request.takes_chunks);
        let asked = asked_of(request, Some(kind));
        let shared = shared.clone();
        let session = EventStreamSession::new(shared, lane_first, takes_chunks, arrival, asked);
        Opening::Exchange { session: Box::new(session), body_bytes_max: BODY_BYTES_MAX }
    }
}

/// What an address asks for; `kind`: its path says it.
fn asked_of(request: &Request<'_>, kind: Option<names::Kind>) -> Asked<'static> {
    let query = request.query.unwrap_or_default();
    let name = match kind {
        Some(kind) => Some(kind.name().into()),
        None => query::value(query, "stream"),
    };
    let word = |key| Word::of(query::value(query, key));
    Asked { name, tag: word("tag"), list: word("list") }.into_owned()
}

/// Paths that stay the server's own where this dialect takes everything else: what an operator asks, and the APIs of
/// back ends.
fn is_servers(path: &str) -> bool {
    const WHOLE: [&str; 9] = [
        "/metrics",
        "/up",
        "/live",
        "/ready",
        "/stats",
        "/operator/stats",
        "/usage",
        "/accept-traffic",
        "/openapi.json",
    ];
    let below = ["/apps/", "/up/", "/_/"];
    WHOLE.contains(&path) || path == "/_" || below.iter().any(|it| path.starts_with(it))
}

impl Dialect for Mastodon {
    fn name(&self) -> &'static str {
        "mastodon"
    }

    fn lanes(&self) -> &'static [LaneKind] {
        &[LaneKind::Text, LaneKind::Chunk, LaneKind::Plain]
    }

    fn open(&self, request: &Request<'_>, facts: &Facts) -> Option<Opening> {
        let shared = self.shared.as_ref()?;
        if let Some(opening) = shared.publishing.open(request, facts) {
            return Some(opening);
        }
        if !Self::is_ours(shared, request) {
            return None;
        }
        let id = replies::uuid(facts.chance);
        if request.is_websocket {
            return Some(Self::open_socket(shared, request, facts, id));
        }
        Some(match (request.method, request.path) {
            ("OPTIONS", _) => Opening::Respond(replies::preflight(request, &id)),
            ("GET" | "HEAD", HEALTH_PATH) => Opening::Respond(replies::health(&id)),
            ("GET" | "HEAD", ICON_PATH) => Opening::Respond(replies::nothing(&id)),
            _ => Self::open_stream(shared, request, facts, id),
        })
    }

    fn listening(&self, address: &str) -> Option<String> {
        let is_in_place = self.shared.as_ref()?.settings.takes_everything;
        // What starts that server waits for these words.
        is_in_place.then(|| format!("Streaming API now listening on {address}"))
    }

    fn render(&self, lane: usize, event: &Event, out: &mut Vec<u8>) -> bool {
        match lane as u8 {
            LANE_TEXT => frames::text(event, None, None, out),
            _ => frames::piece(event, None, out),
        }
    }

    fn refuse_handshake(&self, request: &Request<'_>) -> Option<Response> {
        let shared = self.shared.as_ref()?;
        Self::is_ours(shared, request).then(|| replies::bad_handshake(request))
    }

    fn refuse_exchange(&self, status: u16, why: &'static str) -> Option<Response> {
        Some(replies::error(status, why))
    }

    fn pane(&self) -> Option<Pane<'_>> {
        let app = &*self.shared.as_ref()?.app.settings.id;
        Some(Pane { title: "Mastodon", app: Some(app), script: include_str!("pane.js") })
    }

    fn welcome(&self, host: &str) -> Option<String> {
        let shared = self.shared.as_ref()?;
        let at = format!("{host}{PATH}");
        Some(match shared.development && !shared.source.has_upstream {
            true => format!(
                "ws://{at}, token {DEVELOPMENT_TOKEN}, or curl -N 'http://{at}/public?access_token={DEVELOPMENT_TOKEN}'"
            ),
            false => {
                let follows = shared.settings.follows();
                format!("ws://{at}, and event streams below http://{at}{follows}")
            }
        })
    }

    fn sample(&self) -> Option<&'static str> {
        self.shared.as_ref().map(|_| "--mastodon")
    }

    fn upstream(&self) -> Option<Upstream> {
        let Shared { app, settings, source, .. } = &**self.shared.as_ref()?;
        let plan = Plan {
            app: app.index,
            namespace: settings.redis_namespace.clone(),
            relations_cache: settings.relations_cache,
            sends_filters_changed: settings.sends_filters_changed,
            enforces_expiry: settings.enforces_expiry,
        };
        let follower = Box::new(Relay::new(plan, self.counts.clone()));
        Some(Upstream { dialect: source.dialect, servers: settings.servers()?, follower })
    }

    fn metrics(&self, delivered: &dyn Fn(usize) -> u64, out: &mut String) {
        let Some(shared) = &self.shared else { return };
        let (connected, counts) = (&*shared.connected, &*self.counts);
        let numbers = metrics::Numbers { connected, counts, delivered };
        numbers.write(&shared.settings.metrics_prefix, out);
    }

    fn unready(&self) -> Option<String> {
        let follows = self.shared.as_ref().is_some_and(|it| it.settings.has_upstream());
        self.counts.unready().filter(|_| follows)
    }

    fn farewell(&self, reason: CloseReason) -> Farewell {
        let mut farewell = api::farewell(reason);
        if reason == CloseReason::Utf8 {
            // Mastodon's server gives no reason.
            farewell.text = "".into();
        }
        farewell
    }
}
