//! The Hotsock protocol: what a peer may do is written in its tokens.
//!
//! A connection subscribes channels, publishes, keeps values and reacts, over its WebSocket or, on its behalf, over
//! HTTP; a back end does the same by a server API. Never here: in which order things happen and what is kept, which is
//! the broker's. Start with `session`, then `subscriptions` and `calls`. What the vendor's documentation leaves open is
//! decided in `docs/hotsock.md`.

pub mod at;
mod calls;
pub mod claims;
mod doing;
mod envelope;
mod expression;
mod faults;
mod frames;
mod http;
mod ids;
mod invoke;
pub mod names;
pub mod patterns;
mod reads;
mod reports;
pub mod rights;
mod server;
mod session;
#[cfg(test)]
mod session_tests;
pub mod settings;
mod subscriptions;
mod user;

use std::sync::Arc;

use self::claims::Claims;
use self::faults::{Code, Fault};
use self::http::refuse;
use self::reports::About;
use self::session::HotsockSession;
use self::settings::Settings;
use super::{Dialect, Facts, Farewell, LaneKind, Opening, Pane, Request, Response, Session};
use crate::auth::keyring::Keyring;
use crate::auth::{App, Apps, Seat};
use crate::base::name::Channel;
use crate::base::time::UnixMillis;
use crate::broker::{Event, Happening, Payload, Report};
use crate::config::Config;
use crate::config::webhooks::Webhooks;
use crate::observe::CloseReason;
use crate::wire::http::query;

/// Messages and members; the next lane is the same, compressed.
const LANE_PLAIN: u8 = 0;
/// Values, too; the next lane is the same, compressed.
const LANE_OBSERVER: u8 = 2;

/// Bytes that the members of a channel may take. Source: our reference, section 1.
const MEMBERS_BYTES_MAX: u64 = 102_400;

/// What every session of this dialect shares.
struct Shared {
    /// The app whose channels these are.
    app: Arc<App>,
    settings: Settings,
    /// Checks tokens.
    keyring: Keyring,
    /// What connections and requests are called.
    ids: ids::Ids,
    body_bytes_max: usize,
    /// The world outside hears of what happens.
    reports: bool,
}

impl Shared {
    /// A channel of the app, by the name that peers see.
    fn channel(&self, name: &str) -> Channel {
        Channel { app: self.app.index, name: names::to_broker(name, &self.app.settings.bridge) }
    }

    /// Until when a token that expires then is taken.
    fn good_until(&self, expires: UnixMillis) -> UnixMillis {
        UnixMillis(expires.0.saturating_add(self.settings.leeway.0))
    }

    /// Whether a channel of the broker's is one of this protocol's.
    fn has(&self, channel: &Channel) -> bool {
        channel.app == self.app.index
            && (names::from_broker(&channel.name).len() < channel.name.len()
                || self.app.settings.bridge.iter().any(|it| **it == *channel.name))
    }
}

/// The dialect; without an app it takes no request.
pub struct Hotsock(Option<Arc<Shared>>);

impl Hotsock {
    /// The dialect for the app that its settings name. Its ids and secrets are this process's own.
    pub fn new(config: &Config, apps: Arc<Apps>) -> Self {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).expect("the kernel has a random source");
        Self::with_seed(config, &apps, &seed)
    }

    /// The same, with ids and secrets that follow from `seed`.
    fn with_seed(config: &Config, apps: &Apps, seed: &[u8; 32]) -> Self {
        let (settings, webhooks) = (Settings::of(config), Webhooks::of(config));
        Self(apps.with_id(&settings.app).cloned().map(|app| {
            Arc::new(Shared {
                keyring: settings.keyring().expect("the settings were checked at the start"),
                ids: ids::Ids::new(seed),
                body_bytes_max: config.http.body_bytes_max,
                reports: webhooks.any_for(&app.settings.id, reports::FAMILY),
                app,
                settings,
            })
        }))
    }
}

/// Lets a connection in whose token may open one, or says why not: while the handshake can still be refused, because
/// the official client comes back without a pause to a socket that was closed.
fn connect(shared: &Arc<Shared>, request: &Request<'_>, facts: &Facts) -> Result<Opening, Fault> {
    if facts.draining {
        let text = "the server is about to stop: try again";
        return Err(Fault::new(Code::Unavailable, text));
    }
    let token = query::value(request.query.unwrap_or_default(), "token");
    let invalid = |text| Fault::new(Code::InvalidConnectToken, text);
    let token = token.ok_or_else(|| invalid("the query has no token".to_owned()))?;
    let json = shared.keyring.verify(&token, facts.now.wall);
    let json = json.map_err(|error| invalid(error.to_string()))?;
    let claims = Claims::parse(&json).map_err(|error| invalid(error.to_string()))?;
    let denied = |text| Fault::new(Code::ConnectPermissionDenied, text);
    if !claims.connects {
        return Err(denied("the token has not the scope connect"));
    }
    if !claims.opens() {
        return Err(denied("a token with a connectionId opens no connection"));
    }
    if !shared.app.settings.enabled {
        return Err(denied("the app is disabled"));
    }
    let seat = Seat::try_take(&shared.app)
        .ok_or_else(|| Fault::new(Code::Busy, "the app has as many connections as it may have"))?;
    let about = shared.reports.then(|| {
        About::new(&request.peer.ip().to_canonical().to_string(), request.header("user-agent"))
    });
    let single_use = claims.single_use;
    let session: Box<dyn Session> =
        Box::new(HotsockSession::new(shared.clone(), seat, claims, about, facts));
    let message_bytes_max = shared.settings.message_bytes_max;
    Ok(match single_use {
        true => Opening::Decide {
            session,
            message_bytes_max,
            deflate: true,
            protocol: None,
            headers: Vec::new(),
        },
        false => Opening::WebSocket { session, message_bytes_max, deflate: true },
    })
}

/// Whether a path is where connections come in. The root is ours only for who shows a token: other protocols meet
/// their peers there, too.
fn is_entrance(request: &Request<'_>) -> bool {
    match request.path {
        "/v1" | "/v1/" => true,
        "/" => query::value(request.query.unwrap_or_default(), "token").is_some(),
        _ => false,
    }
}

fn upgrade_required() -> Response {
    let text = "this path is for WebSocket connections";
    refuse(&Fault::new(Code::UpgradeRequired, text))
}

impl Dialect for Hotsock {
    fn name(&self) -> &'static str {
        "hotsock"
    }

    fn lanes(&self) -> &'static [LaneKind] {
        use LaneKind::{Text, TextDeflate};
        &[Text, TextDeflate, Text, TextDeflate]
    }

    fn open(&self, request: &Request<'_>, facts: &Facts) -> Option<Opening> {
        let shared = self.0.as_ref()?;
        if is_entrance(request) {
            if request.is_websocket {
                let opening = connect(shared, request, facts);
                return Some(opening.unwrap_or_else(|fault| Opening::Respond(refuse(&fault))));
            }
            return Some(Opening::Respond(match request.method {
                "OPTIONS" => http::preflight(),
                _ => upgrade_required(),
            }));
        }
        http::open(shared, request, facts).or_else(|| server::open(shared, request, facts))
    }

    fn render(&self, lane: usize, event: &Event, out: &mut Vec<u8>) -> bool {
        frames::render(event, lane as u8 & !1 == LANE_OBSERVER, out)
    }

    fn refuse_handshake(&self, request: &Request<'_>) -> Option<Response> {
        self.0.as_ref()?;
        is_entrance(request).then(upgrade_required)
    }

    fn shows_members(&self, _lane: usize) -> bool {
        true
    }

    fn reports(&self) -> bool {
        self.0.as_ref().is_some_and(|it| it.reports)
    }

    fn reports_members(&self) -> bool {
        self.reports()
    }

    fn report(&self, event: &Event, about: Option<&Payload>, out: &mut Vec<Report>) {
        let Some(shared) = self.0.as_ref().filter(|it| it.reports) else { return };
        // What others publish on a bridged channel says nothing about itself, or not to us.
        let is_ours = about.is_none_or(reports::is_about);
        let is_own = is_ours && !matches!(event.happening, Happening::Control(_));
        if is_own && shared.has(&event.channel) {
            out.extend(reports::event(event, about));
        }
    }

    fn needs_store(&self) -> bool {
        self.0.is_some()
    }

    fn pane(&self) -> Option<Pane<'_>> {
        let app = &*self.0.as_ref()?.app.settings.id;
        Some(Pane { title: "Hotsock", app: Some(app), script: include_str!("pane.js") })
    }

    fn welcome(&self, host: &str) -> Option<String> {
        self.0.as_ref()?;
        Some(format!("ws://{host}/v1?token=<JWT>"))
    }

    fn farewell(&self, reason: CloseReason) -> Farewell {
        let (code, text) = match reason {
            CloseReason::Drain | CloseReason::Timeout => (1001, "Going away"),
            CloseReason::SlowConsumer => (1008, "messages are not read fast enough"),
            CloseReason::Overload => (1013, "over capacity"),
            CloseReason::Failed => (1011, "the server failed"),
            CloseReason::TooLarge => (1009, "message too large"),
            CloseReason::Utf8 => (1007, "text is not UTF-8"),
            CloseReason::Protocol => (1002, "not the WebSocket protocol"),
            CloseReason::Peer | CloseReason::Session | CloseReason::Asked | CloseReason::Done => {
                (1000, "")
            }
        };
        Farewell { message: None, code, text: text.into() }
    }
}
