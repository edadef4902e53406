//! What an operator asks over HTTP: health, metrics, statistics, and the console.
//!
//! The last dialect in the list: what nobody else took ends here. Never here: anything that changes
//! what clients see; the console publishes as any client does. Start with [`Admin`], then [`console`].

mod assets;
pub mod console;
mod door;
mod push;
mod usage;
mod webhooks;

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;

use self::console::Console;
use super::{Dialect, Facts, Farewell, LaneKind, Opening, Request, Response};
use crate::auth::Apps;
use crate::base::ids::LaneId;
use crate::broker::Event;
use crate::config::Config;
use crate::observe::{CloseReason, Gauge, Metrics, Process, exposition, stats};

/// Methods of every path here.
const ALLOW: &str = "GET, HEAD, OPTIONS";

/// The dialect.
pub struct Admin {
    apps: Arc<Apps>,
    metrics: Arc<Metrics>,
    connections_max: u64,
    /// Peers on other machines may read metrics and statistics, too.
    remote: bool,
    /// The key to show on the page: the development app's, which is no secret.
    key_shown: Option<String>,
    /// What there is to call over HTTP, if any dialect says.
    openapi: Option<Bytes>,
    /// The other dialects.
    spoken: Vec<Arc<dyn Dialect>>,
    console: Console,
}

impl Admin {
    /// The dialect over these metrics; `spoken` are the others, which the console shows.
    pub fn new(
        config: &Config,
        apps: Arc<Apps>,
        metrics: Arc<Metrics>,
        spoken: Vec<Arc<dyn Dialect>>,
    ) -> Self {
        let openapi = spoken.iter().find_map(|it| it.openapi()).map(Bytes::from);
        let console = Console::new(config, apps.clone(), metrics.clone(), spoken.clone());
        let development = config.development.then(|| config.apps.first()).flatten();
        Self {
            apps,
            metrics,
            connections_max: u64::from(config.limits.connections_max),
            remote: config.admin.remote,
            key_shown: development.map(|app| app.key.clone()),
            openapi,
            spoken,
            console,
        }
    }

    /// How the process is, in one word, and the status that goes with it.
    fn health(&self, facts: &Facts) -> (u16, &'static str) {
        let is_degraded = [Gauge::StoreFailed, Gauge::StoreFull]
            .iter()
            .any(|gauge| self.metrics.total_gauge(*gauge) > 0);
        match (facts.draining, is_degraded) {
            (true, _) => (503, "DRAINING"),
            // What is not durable goes on.
            (false, true) => (200, "DEGRADED"),
            (false, false) => (200, "OK"),
        }
    }

    /// Whether new connections are welcome.
    fn readiness(&self, facts: &Facts) -> (u16, &'static str) {
        let health = self.health(facts);
        if health.0 != 200 {
            return health;
        }
        if self.metrics.total_gauge(Gauge::StoreFailed) > 0 {
            return (503, "STORE_FAILED");
        }
        if self.metrics.total_gauge(Gauge::StoreFull) > 0 {
            return (503, "STORE_FULL");
        }
        if self.metrics.total_gauge(Gauge::Connections) >= self.connections_max {
            return (503, "CAPACITY");
        }
        health
    }

    /// The answer to who asks whether new connections are welcome.
    fn ready(&self, facts: &Facts) -> Response {
        let readiness = self.readiness(facts);
        let whys = self.spoken.iter().filter_map(|it| Some((it.name(), it.unready()?)));
        let whys: Vec<_> = whys.map(|(name, why)| format!("{name}: {why}\n")).collect();
        if readiness.0 != 200 || whys.is_empty() {
            return word(readiness);
        }
        let mut response = word((503, "NOT_READY"));
        response.body = Bytes::from(format!("NOT_READY\n{}", whys.concat()));
        response
    }

    fn answer(&self, path: &str, request: &Request<'_>, facts: &Facts) -> Option<Response> {
        let is_private = matches!(path, "/metrics" | "/stats" | "/operator/stats" | "/usage");
        if is_private && !self.remote && !door::is_from_here(request) {
            let text = "for peers on this machine only, and not through a proxy; admin.remote = true lets \
                        others read it, too\n";
            return Some(text_response(403, text));
        }
        Some(match path {
            "/up" => word(self.health(facts)),
            "/live" => text_response(200, ""),
            "/ready" => self.ready(facts),
            "/metrics" => {
                let mut body = Vec::with_capacity(32 * 1024);
                exposition::write(&self.metrics, &Process::read(), &mut body);
                let mut own = String::new();
                // Lanes are numbered through, in the order of the dialects.
                let mut first = 0;
                for dialect in &self.spoken {
                    let lane = |number: usize| LaneId((first + number) as u8);
                    dialect.metrics(&|it| self.metrics.total_delivered(lane(it)), &mut own);
                    first += dialect.lanes().len();
                }
                body.extend_from_slice(own.as_bytes());
                response(200, exposition::CONTENT_TYPE, body)
            }
            "/stats" | "/operator/stats" => {
                let process = Process::read();
                let body = usage::statistics(&self.metrics, &process, &self.apps, facts.now.wall);
                response(200, stats::CONTENT_TYPE, body)
            }
            "/openapi.json" => {
                let mut response = response(200, "application/json", Vec::new());
                response.body = self.openapi.clone()?;
                // Tools on pages of any origin read it.
                response.headers.push(("Access-Control-Allow-Origin", "*".into()));
                response
            }
            "/usage" => {
                response(200, stats::CONTENT_TYPE, usage::usage(&Process::read(), &self.apps))
            }
            "/accept-traffic" => {
                let (status, word) =
                    if facts.draining { (503, "DRAINING") } else { (200, "ACCEPTING") };
                let mut response = text_response(status, word);
                response.headers.push(("X-Accept-Traffic", word.into()));
                response
            }
            "/" => response(200, "text/html; charset=utf-8", self.page().into_bytes()),
            _ => {
                let app_id = path.strip_prefix("/up/")?;
                word(match self.apps.with_id(app_id) {
                    None => (404, "NOT_FOUND"),
                    Some(app) if !app.settings.enabled => (503, "ERROR"),
                    Some(_) => self.health(facts),
                })
            }
        })
    }

    fn page(&self) -> String {
        let key = self.key_shown.as_deref().unwrap_or("&lt;app key&gt;");
        let version = env!("CARGO_PKG_VERSION");
        format!(
            "<!doctype html><meta charset=utf-8><title>Ringmain</title>\
             <body style=\"font:16px/1.5 system-ui;max-width:42em;margin:3em auto;padding:0 1em\">\
             <h1>Ringmain {version} is running</h1>\
             <p>One publish reaches every subscriber, whichever protocol it speaks.\
             <p>Pusher clients: <code>new Pusher(\"{key}\", {{wsHost: \"<span class=h></span>\", wsPort: \
             <span class=p></span>, forceTLS: false, enabledTransports: [\"ws\"], cluster: \"\"}})</code>\
             <p>By hand, in this page's console: <code>w = new WebSocket(`ws://${{location.host}}/app/{key}\
             ?protocol=7`); w.onmessage = e =&gt; console.log(e.data)</code>, then <code>w.send('{{\"event\":\
             \"pusher:subscribe\",\"data\":{{\"channel\":\"hello\"}}}}')</code>\
             <p><a href=/_/>The console</a> shows every protocol at work: publish, listen, look at the frames.\
             <p>Publish with any Pusher server library, or from a terminal: <code>ringmain publish --help</code>\
             <ul><li><a href=/up>/up</a>, <a href=/live>/live</a>, <a href=/ready>/ready</a>: health\
             <li><a href=/metrics>/metrics</a>: for Prometheus\
             <li><a href=/stats>/stats</a>: the same as JSON\
             <li><a href=/openapi.json>/openapi.json</a>: the HTTP API, described</ul>\
             <script>document.querySelector('.h').textContent=location.hostname;\
             document.querySelector('.p').textContent=location.port||80</script>\n"
        )
    }
}

impl Dialect for Admin {
    fn name(&self) -> &'static str {
        "admin"
    }

    fn lanes(&self) -> &'static [LaneKind] {
        // The tap's.
        &[LaneKind::Session]
    }

    fn open(&self, request: &Request<'_>, facts: &Facts) -> Option<Opening> {
        if let Some(opening) = self.console.open(request, facts) {
            return Some(opening);
        }
        let path = match request.path {
            "/" => "/",
            path => path.strip_suffix('/').unwrap_or(path),
        };
        let response = match self.answer(path, request, facts) {
            None => not_found(path),
            Some(_) if request.method == "OPTIONS" => {
                let mut response = text_response(200, "");
                response.headers.push(("Allow", ALLOW.into()));
                response
            }
            Some(response) if matches!(request.method, "GET" | "HEAD") => response,
            Some(_) => {
                let mut response = text_response(405, "this path is only read: GET, HEAD\n");
                response.headers.push(("Allow", ALLOW.into()));
                response
            }
        };
        Some(Opening::Respond(response))
    }

    fn render(&self, _: usize, _: &Event, _: &mut Vec<u8>) -> bool {
        false
    }

    fn welcome(&self, host: &str) -> Option<String> {
        let open = if self.console.is_open() { "" } else { ", once admin.token is set" };
        Some(format!("http://{host}/_/ shows it all live{open}; /up /ready /metrics /stats /usage"))
    }

    fn farewell(&self, _: CloseReason) -> Farewell {
        // Going away: the page opens another tap when it can.
        Farewell { message: None, code: 1001, text: Cow::Borrowed("") }
    }
}

fn response(status: u16, content_type: &'static str, body: Vec<u8>) -> Response {
    let headers = vec![("Content-Type", content_type.into()), ("Cache-Control", "no-store".into())];
    Response { status, headers, body: Bytes::from(body) }
}

fn text_response(status: u16, text: &str) -> Response {
    response(status, "text/plain; charset=utf-8", text.as_bytes().to_vec())
}

/// A health answer: the word as the body and as a header.
fn word((status, word): (u16, &'static str)) -> Response {
    let mut response = text_response(status, word);
    response.headers.push(("X-Health-Check", word.into()));
    if status == 503 {
        response.headers.push(("Retry-After", "1".into()));
    }
    response
}

fn not_found(path: &str) -> Response {
    let shown: String = path.chars().take(100).collect();
    text_response(
        404,
        &format!(
            "404 NOT FOUND: there is nothing at {shown}\n\
             WebSocket connections of Pusher clients: /app/<app key>\n\
             HTTP API: /apps/<app id>/events, batch_events, channels; all of it: /openapi.json\n\
             Console: /_/\n\
             Health: /up, /live, /ready, /metrics, /stats\n"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{ConnectionId, LaneId};
    use crate::base::time::Now;

    fn ask(admin: &Admin, method: &str, path: &str, peer: &str, draining: bool) -> Response {
        let request = Request {
            method,
            path,
            query: None,
            headers: &[],
            peer: peer.parse().unwrap(),
            is_websocket: false,
            takes_chunks: true,
        };
        let facts = Facts {
            connection: ConnectionId::from_pair(1, 1),
            now: Now::default(),
            shards: 1,
            draining,
            lane_first: LaneId(0),
            deflate: false,
            chance: 0,
        };
        match admin.open(&request, &facts) {
            Some(Opening::Respond(response)) => response,
            _ => panic!("{path} is answered at once"),
        }
    }

    fn admin(config: &Config) -> Admin {
        let apps = Arc::new(Apps::new(&config.apps));
        Admin::new(config, apps, Arc::new(Metrics::new(1, &["pusher", "admin"])), Vec::new())
    }

    #[test]
    fn paths_answer_what_they_are_for() {
        let mut config = Config::development();
        config.admin.remote = false;
        let admin = admin(&config);
        let here = "127.0.0.1:9";
        let id = config.apps[0].id.clone();
        for (path, status, part) in [
            ("/up", 200, "OK"),
            ("/up/", 200, "OK"),
            (&format!("/up/{id}"), 200, "OK"),
            ("/up/nobody", 404, "NOT_FOUND"),
            ("/live", 200, ""),
            ("/ready", 200, "OK"),
            ("/metrics", 200, "ringmain_connections"),
            ("/stats", 200, "uptime_seconds"),
            ("/openapi.json", 404, "nothing at /openapi.json"),
            ("/", 200, "is running"),
            ("/nothing", 404, "nothing at /nothing"),
            ("/metrics/more", 404, "/app/<app key>"),
        ] {
            let response = ask(&admin, "GET", path, here, false);
            let body = String::from_utf8(response.body.to_vec()).unwrap();
            assert_eq!(response.status, status, "{path}");
            assert!(body.contains(part), "{path}: {body}");
        }
        for (path, status) in [("/up", 503), ("/ready", 503), ("/live", 200)] {
            assert_eq!(ask(&admin, "HEAD", path, here, true).status, status, "{path}");
        }
        assert_eq!(ask(&admin, "POST", "/up", here, false).status, 405);
        assert_eq!(ask(&admin, "OPTIONS", "/up", here, false).status, 200);
    }

    #[test]
    fn others_read_no_metrics_unless_they_may() {
        let mut config = Config::development();
        let closed = admin(&config);
        config.admin.remote = true;
        let open = admin(&config);
        for (peer, status) in [
            ("127.0.0.1:9", 200),
            ("[::1]:9", 200),
            ("[::ffff:127.0.0.1]:9", 200),
            ("10.0.0.1:9", 403),
        ] {
            assert_eq!(ask(&closed, "GET", "/metrics", peer, false).status, status, "{peer}");
            assert_eq!(ask(&open, "GET", "/metrics", peer, false).status, 200, "{peer}");
        }
        assert_eq!(ask(&closed, "GET", "/up", "10.0.0.1:9", false).status, 200);
    }

    /// A dialect that has lost what it follows.
    struct Lost;

    impl Dialect for Lost {
        fn name(&self) -> &'static str {
            "lost"
        }

        fn lanes(&self) -> &'static [LaneKind] {
            &[]
        }

        fn open(&self, _: &Request<'_>, _: &Facts) -> Option<Opening> {
            None
        }

        fn render(&self, _: usize, _: &Event, _: &mut Vec<u8>) -> bool {
            false
        }

        fn unready(&self) -> Option<String> {
            Some("its feed is gone".into())
        }

        fn metrics(&self, _: &dyn Fn(usize) -> u64, out: &mut String) {
            out.push_str("feeds_lost 1\n");
        }

        fn farewell(&self, _: CloseReason) -> Farewell {
            Farewell { message: None, code: 1001, text: Cow::Borrowed("") }
        }
    }

    #[test]
    fn dialects_say_why_nobody_should_come_and_what_they_count() {
        let config = Config::development();
        let apps = Arc::new(Apps::new(&config.apps));
        let metrics = Arc::new(Metrics::new(1, &["lost", "admin"]));
        let admin = Admin::new(&config, apps, metrics, vec![Arc::new(Lost)]);
        let here = "127.0.0.1:9";
        let ready = ask(&admin, "GET", "/ready", here, false);
        assert_eq!(
            (ready.status, &ready.body[..]),
            (503, &b"NOT_READY\nlost: its feed is gone\n"[..])
        );
        // Who drains says so first.
        assert_eq!(&ask(&admin, "GET", "/ready", here, true).body[..], b"DRAINING");
        assert_eq!(ask(&admin, "GET", "/up", here, false).status, 200);
        let body = ask(&admin, "GET", "/metrics", here, false).body;
        assert!(body.ends_with(b"\nfeeds_lost 1\n"));
    }

    #[test]
    fn a_full_server_is_up_but_not_ready() {
        let mut config = Config::development();
        config.limits.connections_max = 1;
        let admin = admin(&config);
        admin.metrics.shard(crate::base::ids::ShardId(0)).set(Gauge::Connections, 1);
        assert_eq!(ask(&admin, "GET", "/ready", "127.0.0.1:9", false).status, 503);
        assert_eq!(ask(&admin, "GET", "/up", "127.0.0.1:9", false).status, 200);
    }
}
