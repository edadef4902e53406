//! The RealTime API of `authrequest` and `authresponse`: a connection authenticates with a token and switches two
//! streams of events on and off, its user's and its account's.
//!
//! Never here: whose token it is, which `auth` and the back shard know, and in which order events come, which is
//! the broker's. Start with `session`, then `streams`. What the vendor's documentation leaves open is
//! decided in `docs/authrequest.md`.

mod channels;
mod events;
mod http;
mod login;
mod replies;
mod requests;
mod session;
mod settings;
mod streams;

use std::sync::Arc;

use self::session::AuthSession;
use self::settings::DEVELOPMENT_TOKEN;
pub use self::settings::{SECTION, Settings};
use self::streams::Gate;
use super::api::{self, draining, upgrade_required};
use super::{Dialect, Facts, Farewell, Input, LaneKind, Opening, Output, Pane, Request, Session};
use crate::auth::{App, Apps, Seat, Source};
use crate::base::name::Name;
use crate::base::time::{Millis, Now};
use crate::broker::Event;
use crate::config::Config;
use crate::observe::CloseReason;

/// The account streams; the next lane is the same, compressed.
const LANE_ACCOUNT: u8 = 0;
/// The user streams; the next lane is the same, compressed.
const LANE_USER: u8 = 2;
/// What ends the connections of a user who is revoked.
const LANE_SESSION: u8 = 4;

/// What every session of this dialect shares.
struct Shared {
    /// The app whose events these are.
    app: Arc<App>,
    /// Every app, for whoever signs.
    apps: Arc<Apps>,
    settings: Settings,
    source: Arc<Source>,
    /// The app's bridged channels.
    bridge: Vec<Name>,
    gate: Gate,
    /// The development app is in force.
    development: bool,
    signature_window: Millis,
    body_bytes_max: usize,
}

/// The dialect; without an app it takes no request.
pub struct AuthRequest(Option<Arc<Shared>>);

impl AuthRequest {
    /// The dialect for the app that its settings name.
    pub fn new(config: &Config, apps: Arc<Apps>) -> Self {
        let settings = Settings::of(config);
        Self(apps.with_id(&settings.app).cloned().map(|app| {
            let source = Source::new("authrequest", &settings.tokens, settings.logins());
            let bridge = app.settings.bridge.iter().filter(|it| !channels::is_own(it));
            Arc::new(Shared {
                bridge: bridge.map(|it| Name::from(&**it)).collect(),
                source: Arc::new(source),
                gate: Gate::new(),
                development: config.development,
                signature_window: config.pusher.signature_window,
                body_bytes_max: config.http.body_bytes_max,
                app,
                apps,
                settings,
            })
        }))
    }
}

fn connect(shared: &Arc<Shared>, facts: &Facts) -> Opening {
    let session: Box<dyn Session> = if !shared.app.settings.enabled {
        Box::new(Refusing(1008, "the app is disabled"))
    } else if let Some(seat) = Seat::try_take(&shared.app) {
        Box::new(AuthSession::new(shared.clone(), seat, facts))
    } else {
        Box::new(Refusing(1013, "the app has as many connections as it may have"))
    };
    let message_bytes_max = shared.settings.message_bytes_max;
    Opening::WebSocket { session, message_bytes_max, deflate: true }
}

impl Dialect for AuthRequest {
    fn name(&self) -> &'static str {
        "authrequest"
    }

    fn lanes(&self) -> &'static [LaneKind] {
        use LaneKind::{Session, Text, TextDeflate};
        &[Text, TextDeflate, Text, TextDeflate, Session]
    }

    fn open(&self, request: &Request<'_>, facts: &Facts) -> Option<Opening> {
        let shared = self.0.as_ref()?;
        let path = request.path.strip_suffix('/').unwrap_or(request.path);
        let is_ours = path == shared.settings.path();
        // The root is the vendor's path; without a WebSocket it is somebody else's page.
        if request.is_websocket && (is_ours || path.is_empty()) {
            let is_late = facts.draining;
            return Some(if is_late {
                Opening::Respond(draining())
            } else {
                connect(shared, facts)
            });
        }
        if is_ours && !path.is_empty() {
            return Some(Opening::Respond(upgrade_required()));
        }
        if shared.settings.login
            && let Some(opening) = login::open(shared, request, facts)
        {
            return Some(opening);
        }
        http::open(shared, request, facts)
    }

    fn render(&self, lane: usize, event: &Event, out: &mut Vec<u8>) -> bool {
        match lane as u8 & !1 {
            LANE_ACCOUNT => events::render_account(event, out),
            LANE_USER => events::render_user(event, out),
            _ => false,
        }
    }

    fn pane(&self) -> Option<Pane<'_>> {
        let app = &*self.0.as_ref()?.app.settings.id;
        Some(Pane { title: "authrequest", app: Some(app), script: include_str!("pane.js") })
    }

    fn welcome(&self, host: &str) -> Option<String> {
        let shared = self.0.as_ref()?;
        let path = shared.settings.path();
        let token = match shared.development {
            true => format!(", token {DEVELOPMENT_TOKEN}"),
            false => String::new(),
        };
        Some(format!("ws://{host}{path}{token}"))
    }

    fn farewell(&self, reason: CloseReason) -> Farewell {
        api::farewell(reason)
    }
}

/// A connection that is told why it may not be, and ended: browsers show no more of a refused handshake than
/// that it failed.
struct Refusing(u16, &'static str);

impl Session for Refusing {
    fn handle(&mut self, input: Input<'_>, _: Now, out: &mut Vec<Output>) {
        if let Input::Opened = input {
            let farewell = Farewell { message: None, code: self.0, text: self.1.into() };
            out.push(Output::Close(farewell, CloseReason::Session));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{ConnectionId, LaneId};

    /// What becomes of a request, in words.
    fn open(
        dialect: &AuthRequest,
        method: &str,
        path: &str,
        is_websocket: bool,
        draining: bool,
    ) -> String {
        let peer = ([127, 0, 0, 1], 9).into();
        let request = Request {
            method,
            path,
            query: None,
            headers: &[],
            peer,
            is_websocket,
            takes_chunks: true,
        };
        let now = Now::default();
        let facts = Facts {
            connection: ConnectionId::from_pair(1, 1),
            now,
            shards: 1,
            draining,
            lane_first: LaneId(0),
            deflate: false,
            chance: 0,
        };
        match dialect.open(&request, &facts) {
            None => "not ours".into(),
            Some(Opening::Respond(response)) => response.status.to_string(),
            Some(Opening::Exchange { .. }) => "exchange".into(),
            Some(Opening::Decide { .. }) => "decides".into(),
            Some(Opening::WebSocket { mut session, .. }) => {
                let mut out = Vec::new();
                session.handle(Input::Opened, now, &mut out);
                match out.first() {
                    Some(Output::Close(farewell, _)) => format!("close {}", farewell.code),
                    _ => "open".into(),
                }
            }
        }
    }

    fn dialect(config: &Config) -> AuthRequest {
        AuthRequest::new(config, Arc::new(Apps::new(&config.apps)))
    }

    fn with(change: impl FnOnce(&mut Settings, &mut Config)) -> AuthRequest {
        let mut config = Config::development();
        config.development = false;
        let mut settings = Settings::of(&config);
        settings.app = "app-id".into();
        change(&mut settings, &mut config);
        config.sections.set(settings);
        dialect(&config)
    }

    #[test]
    fn paths_are_ours_or_not() {
        let it = with(|settings, _| settings.login = true);
        for (method, path, is_websocket, expected) in [
            ("GET", "/", true, "open"),
            ("GET", "/", false, "not ours"),
            ("GET", "/realtime", true, "open"),
            ("GET", "/realtime/", true, "open"),
            ("GET", "/realtime", false, "426"),
            ("GET", "/realtime/x", true, "not ours"),
            ("GET", "/app/app-key", true, "not ours"),
            ("POST", "/auth/login", false, "exchange"),
            ("POST", "/auth/refresh/", false, "exchange"),
            ("GET", "/auth/login", false, "405"),
            ("OPTIONS", "/auth/refresh", false, "200"),
            ("POST", "/auth", false, "not ours"),
            ("POST", "/apps/app-id/authrequest/events", false, "exchange"),
            ("POST", "/apps/app%2Did/authrequest/revoke", false, "exchange"),
            ("GET", "/apps/app-id/authrequest/events", false, "405"),
            ("OPTIONS", "/apps/app-id/authrequest/revoke", false, "200"),
            ("POST", "/apps/other/authrequest/events", false, "not ours"),
            ("POST", "/apps/app-id/authrequest/x", false, "not ours"),
            ("POST", "/apps/app-id/events", false, "not ours"),
        ] {
            assert_eq!(open(&it, method, path, is_websocket, false), expected, "{method} {path}");
        }
        for (method, path, is_websocket) in [
            ("GET", "/realtime", true),
            ("POST", "/auth/login", false),
            ("POST", "/apps/app-id/authrequest/events", false),
        ] {
            assert_eq!(open(&it, method, path, is_websocket, true), "503", "{path}");
        }
        let it = with(|settings, _| settings.path = "/".into());
        assert_eq!(open(&it, "GET", "/", true, false), "open");
        assert_eq!(open(&it, "GET", "/", false, false), "not ours");
        assert_eq!(open(&it, "GET", "/realtime", true, false), "not ours");
        assert_eq!(open(&it, "POST", "/auth/login", false, false), "not ours");
    }

    #[test]
    fn without_an_app_it_takes_nothing() {
        let it = with(|settings, _| settings.app.clear());
        for (path, is_websocket) in
            [("/", true), ("/realtime", true), ("/apps/app-id/authrequest/events", false)]
        {
            assert_eq!(open(&it, "POST", path, is_websocket, false), "not ours");
        }
        let it = dialect(&Config::development());
        assert_eq!(open(&it, "GET", "/realtime", true, false), "open");
    }

    #[test]
    fn an_app_that_is_full_or_disabled_says_so() {
        let it = with(|_, config| config.apps[0].enabled = false);
        assert_eq!(open(&it, "GET", "/realtime", true, false), "close 1008");
        let it = with(|_, config| config.apps[0].connections_max = 1);
        let app = it.0.as_ref().map(|it| it.app.clone());
        let seat = Seat::try_take(&app.unwrap()).unwrap();
        assert_eq!(open(&it, "GET", "/realtime", true, false), "close 1013");
        drop(seat);
        assert_eq!(open(&it, "GET", "/realtime", true, false), "open");
    }

    #[test]
    fn goodbyes_have_the_codes_of_the_reference() {
        let it = dialect(&Config::development());
        let codes = CloseReason::ALL.map(|reason| it.farewell(reason));
        assert!(codes.iter().all(|it| it.message.is_none() && it.text.len() <= 123));
        for (reason, code) in [
            (CloseReason::Drain, 1012),
            (CloseReason::SlowConsumer, 1013),
            (CloseReason::Overload, 1013),
            (CloseReason::TooLarge, 1009),
            (CloseReason::Utf8, 1007),
            (CloseReason::Protocol, 1002),
            (CloseReason::Failed, 1011),
        ] {
            assert_eq!(it.farewell(reason).code, code);
        }
    }
}
