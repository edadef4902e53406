//! The console at `/_/`: a live page, and what it asks.
//!
//! The page publishes and listens as any client does; here is only what no client may have: signatures made
//! for it, members and channels of every kind, and the tap, which shows what became of each event.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::assets::{ASSETS, JS};
use super::door::{DoorKeeper, Entry};
use super::{push, webhooks};
use crate::auth::{App, Apps, sign};
use crate::base::ids::{LaneId, ShardId, Ticket};
use crate::base::name::{Channel, Name};
use crate::base::time::Now;
use crate::broker::{
    Admit, Command, Event, Filter, Happening, Payload, Render, Reply, Subscribe, Verdict,
};
use crate::config::Config;
use crate::dialects::{
    Dialect, Facts, Farewell, Input, LaneKind, Lanes, Opening, Output, Request, Response, Session,
};
use crate::observe::{CloseReason, Counter, Metrics, Process, exposition};
use crate::wire::base64;
use crate::wire::http::query;
use crate::wire::json::{self, Raw};

/// Channels one answer lists.
const CHANNELS_MAX: usize = 1000;
/// Members one answer lists.
const MEMBERS_MAX: usize = 1000;
/// A request to sign may be this long.
const BODY_BYTES_MAX: usize = 1 << 20;
/// A channel's name, for the tap.
const NAME_BYTES_MAX: usize = 1024;

/// Nothing is loaded from elsewhere, and no other page shows this one.
const POLICY: &str = "default-src 'self'; connect-src 'self' ws: wss:; base-uri 'none'; \
    form-action 'self'; frame-ancestors 'none'";

/// The console.
pub struct Console {
    shared: Arc<Shared>,
}

struct Shared {
    apps: Arc<Apps>,
    metrics: Arc<Metrics>,
    door: DoorKeeper,
    development: bool,
    /// All dialects but the one this is part of, and their lanes.
    dialects: Vec<Arc<dyn Dialect>>,
    lanes: Lanes,
}

impl Console {
    /// The console of a server that speaks these dialects.
    pub fn new(
        config: &Config,
        apps: Arc<Apps>,
        metrics: Arc<Metrics>,
        dialects: Vec<Arc<dyn Dialect>>,
    ) -> Self {
        let door = DoorKeeper::new(config.development, config.admin.token.clone());
        let lanes = Lanes::new(&dialects, config);
        let development = config.development;
        // Who sets a token wants it asked for, app or no app.
        let development = development && config.admin.token.is_none();
        Self { shared: Arc::new(Shared { apps, metrics, door, development, dialects, lanes }) }
    }

    /// Whether anyone can get in.
    pub fn is_open(&self) -> bool {
        self.shared.development || self.shared.door.has_token()
    }

    /// Looks at a request; none if its path is not the console's.
    pub fn open(&self, request: &Request<'_>, facts: &Facts) -> Option<Opening> {
        let Some(path) = request.path.strip_prefix("/_/") else {
            let moved = || {
                let mut response = reply(308, "text/plain", Vec::new());
                response.headers.push(("Location", "/_/".into()));
                Opening::Respond(response)
            };
            return (request.path == "/_").then(moved);
        };
        let entry = self.shared.door.entry(request, facts.now.wall);
        if entry == Entry::Closed {
            let text = "set admin.token (or its _file or _env) to open the console; without it and without an \
                        app it opens on this machine alone";
            return Some(Opening::Respond(refusal(403, text)));
        }
        Some(match (request.method, path) {
            ("POST", "login") => self.exchange(Asked::Login),
            ("POST", "logout") => Opening::Respond(logged_out()),
            ("GET" | "HEAD", _) if self.asset(path).is_some() => {
                Opening::Respond(self.asset(path).unwrap_or_else(not_found))
            }
            _ if entry == Entry::Login => Opening::Respond(refusal(401, "log in first")),
            ("GET" | "HEAD", "about") => Opening::Respond(json(200, self.about())),
            ("GET" | "HEAD", "metrics") => {
                let mut body = Vec::with_capacity(32 << 10);
                exposition::write(&self.shared.metrics, &Process::read(), &mut body);
                Opening::Respond(reply(200, exposition::CONTENT_TYPE, body))
            }
            (_, path) if path == "webhooks" || path.starts_with("webhooks/") => {
                webhooks::open(&path["webhooks".len()..], request)
            }
            (_, path) if path == "push" || path.starts_with("push/") => {
                push::open(&path["push".len()..], request)
            }
            ("POST", "sign") => self.exchange(Asked::Sign),
            ("GET", "channels") => match self.app_of(request) {
                Some(app) => self.exchange(Asked::Channels(app, facts.shards)),
                None => Opening::Respond(refusal(404, "no app has this id")),
            },
            ("GET", "members" | "tap") => {
                match (self.app_of(request), parameter(request, "channel")) {
                    (None, _) => Opening::Respond(refusal(404, "no app has this id")),
                    (_, None) => Opening::Respond(refusal(400, "channel is missing")),
                    (_, Some(name)) if name.len() > NAME_BYTES_MAX => {
                        Opening::Respond(refusal(400, "channel is too long"))
                    }
                    (Some(app), Some(name)) => {
                        let channel = Channel { app: app.index, name: Name::from(name.as_str()) };
                        match (path, request.is_websocket) {
                            ("members", _) => self.exchange(Asked::Members(channel)),
                            (_, false) => Opening::Respond(refusal(426, "the tap is a WebSocket")),
                            (_, true) => {
                                let shared = self.shared.clone();
                                let session =
                                    Box::new(Tap { shared, channel, lane: facts.lane_first });
                                Opening::WebSocket {
                                    session,
                                    message_bytes_max: 1024,
                                    deflate: false,
                                }
                            }
                        }
                    }
                }
            }
            (
                _,
                "login" | "logout" | "sign" | "about" | "metrics" | "channels" | "members" | "tap",
            ) => Opening::Respond(refusal(405, "this path takes another method")),
            _ => Opening::Respond(not_found()),
        })
    }

    fn exchange(&self, asked: Asked) -> Opening {
        let session = Box::new(Asking { shared: self.shared.clone(), asked, state: State::Begun });
        Opening::Exchange { session, body_bytes_max: BODY_BYTES_MAX }
    }

    fn app_of(&self, request: &Request<'_>) -> Option<Arc<App>> {
        self.shared.apps.with_id(&parameter(request, "app")?).cloned()
    }

    /// A file of the page, or a dialect's pane.
    fn asset(&self, path: &str) -> Option<Response> {
        let pane = path.strip_prefix("panes/").and_then(|it| it.strip_suffix(".js"));
        let (content_type, text) = match pane {
            Some(name) => {
                let dialect = self.shared.dialects.iter().find(|it| it.name() == name)?;
                (JS, dialect.pane()?.script)
            }
            None => {
                let (_, content_type, text) = ASSETS.iter().find(|(name, ..)| *name == path)?;
                (*content_type, *text)
            }
        };
        let mut response = reply(200, content_type, Vec::new());
        response.body = Bytes::from_static(text.as_bytes());
        response.headers.extend([
            ("Content-Security-Policy", POLICY.into()),
            ("X-Content-Type-Options", "nosniff".into()),
            ("Referrer-Policy", "no-referrer".into()),
        ]);
        Some(response)
    }

    /// What there is to look at.
    fn about(&self) -> Vec<u8> {
        let mut out = b"{\"version\":".to_vec();
        json::write_str(&mut out, env!("CARGO_PKG_VERSION"));
        out.extend_from_slice(
            format!(",\"development\":{},\"apps\":", self.shared.development).as_bytes(),
        );
        list(&mut out, self.shared.apps.iter(), |out, app| {
            out.extend_from_slice(b"{\"id\":");
            json::write_str(out, &app.settings.id);
            out.extend_from_slice(b",\"key\":");
            json::write_str(out, &app.settings.key);
            out.extend_from_slice(b",\"bridge\":");
            list(out, app.settings.bridge.iter(), |out, name| json::write_str(out, name));
            out.push(b'}');
        });
        out.extend_from_slice(b",\"dialects\":");
        let panes = self.shared.dialects.iter().filter_map(|it| Some((it.name(), it.pane()?)));
        list(&mut out, panes, |out, (name, pane)| {
            out.extend_from_slice(b"{\"name\":");
            json::write_str(out, name);
            out.extend_from_slice(b",\"title\":");
            json::write_str(out, pane.title);
            out.extend_from_slice(b",\"pane\":");
            json::write_str(out, &format!("/_/panes/{name}.js"));
            if let Some(app) = pane.app {
                out.extend_from_slice(b",\"app\":");
                json::write_str(out, app);
            }
            out.push(b'}');
        });
        out.push(b'}');
        out
    }
}

/// What a request of the page wants.
enum Asked {
    Login,
    Sign,
    Channels(Arc<App>, u16),
    Members(Channel),
}

enum State {
    Begun,
    /// Shards that have more to say; found so far, sorted; some were left out.
    Surveying {
        missing: u16,
        found: BTreeMap<Name, (u64, u64)>,
        more: bool,
    },
    Waiting,
}

/// One request of the page.
struct Asking {
    shared: Arc<Shared>,
    asked: Asked,
    state: State,
}

impl Asking {
    fn begin(&mut self, body: &[u8], now: Now, out: &mut Vec<Output>) -> Option<Response> {
        match &self.asked {
            Asked::Login => Some(self.login(body, now, out)),
            Asked::Sign => Some(self.sign(body, now).unwrap_or_else(|text| refusal(400, text))),
            Asked::Channels(app, shards) => {
                out.extend((0..*shards).map(|shard| survey(app, ShardId(shard), 0)));
                self.state =
                    State::Surveying { missing: *shards, found: BTreeMap::new(), more: false };
                None
            }
            Asked::Members(channel) => {
                out.push(Output::Ask(Ticket(0), Command::Members(channel.clone())));
                self.state = State::Waiting;
                None
            }
        }
    }

    fn login(&self, body: &[u8], now: Now, out: &mut Vec<Output>) -> Response {
        let door = &self.shared.door;
        let token = json::parse(body).ok().and_then(|it| it.member("token")?.as_str());
        let is_right = token.is_some_and(|token| door.is_token(&token));
        match is_right.then(|| door.cookie(now.wall)).flatten() {
            Some(cookie) => {
                let mut response = reply(204, "text/plain", Vec::new());
                response.headers.push(("Set-Cookie", cookie.into()));
                response
            }
            // Whoever has the token gets in, however many others guess.
            None => {
                out.push(Output::Count(Counter::SignatureFailures));
                if door.is_flooded(now.wall, true) {
                    let mut response = refusal(429, "too many wrong logins, try again in a second");
                    response.headers.push(("Retry-After", "1".into()));
                    return response;
                }
                refusal(401, "that is not the operator's token")
            }
        }
    }

    /// Signs a request that the page is about to send, as one of the apps.
    fn sign(&self, body: &[u8], now: Now) -> Result<Response, &'static str> {
        let body = json::parse(body).map_err(|_| "the body is not JSON")?;
        let text = |name| body.member(name).and_then(Raw::as_str);
        let (Some(app), Some(method), Some(path), Some(body)) =
            (text("app"), text("method"), text("path"), text("body"))
        else {
            return Err("app, method, path and body are needed");
        };
        let app = self.shared.apps.with_id(&app).ok_or("no app has this id")?;
        if !path.starts_with(&format!("/apps/{}/", app.settings.id)) || path.contains('?') {
            return Err("path is none of the app's");
        }
        let query = sign::sign_request(app, &method, &path, &[], body.as_bytes(), now.wall);
        let mut out = b"{\"target\":".to_vec();
        json::write_str(&mut out, &format!("{path}?{query}"));
        out.push(b'}');
        Ok(json(200, out))
    }

    fn reply(&mut self, ticket: Ticket, reply: Reply, out: &mut Vec<Output>) -> Option<Response> {
        match (&mut self.state, reply) {
            (
                State::Surveying { missing, found, more },
                Reply::Channels { found: portion, rest },
            ) => {
                for (name, subscriptions, members) in portion {
                    found.insert(name, (subscriptions, members));
                    if found.len() > CHANNELS_MAX {
                        found.pop_last();
                        *more = true;
                    }
                }
                if let (Some(from), Asked::Channels(app, _)) = (rest, &self.asked) {
                    out.push(survey(app, ShardId(ticket.0 as u16), from));
                    return None;
                }
                *missing = missing.saturating_sub(1);
                (*missing == 0).then(|| json(200, channels(found, *more)))
            }
            (State::Waiting, Reply::Members(members)) => {
                let mut body = b"{\"members\":".to_vec();
                list(&mut body, members.iter().take(MEMBERS_MAX), |out, member| {
                    out.extend_from_slice(b"{\"id\":");
                    json::write_str(out, &member.user_id);
                    out.extend_from_slice(b",\"info\":");
                    let info = member.info.as_ref().map_or(&b"null"[..], |Payload(info)| info);
                    out.extend_from_slice(info);
                    out.push(b'}');
                });
                body.extend_from_slice(
                    format!(",\"more\":{}}}", members.len() > MEMBERS_MAX).as_bytes(),
                );
                Some(json(200, body))
            }
            _ => None,
        }
    }
}

impl Session for Asking {
    fn handle(&mut self, input: Input<'_>, now: Now, out: &mut Vec<Output>) {
        let response = match input {
            Input::Body(body) if matches!(self.state, State::Begun) => self.begin(body, now, out),
            Input::Reply(ticket, reply) => self.reply(ticket, reply, out),
            _ => None,
        };
        out.extend(response.map(Output::Respond));
    }
}

fn survey(app: &App, shard: ShardId, from: u32) -> Output {
    let survey = Command::Survey { shard, from, app: app.index, prefix: Name::from("") };
    Output::Ask(Ticket(u32::from(shard.0)), survey)
}

fn channels(found: &BTreeMap<Name, (u64, u64)>, more: bool) -> Vec<u8> {
    let mut body = b"{\"channels\":".to_vec();
    list(&mut body, found.iter(), |out, (name, (subscriptions, members))| {
        out.extend_from_slice(b"{\"name\":");
        json::write_str(out, name);
        out.extend_from_slice(
            format!(",\"subscriptions\":{subscriptions},\"members\":{members}}}").as_bytes(),
        );
    });
    body.extend_from_slice(format!(",\"more\":{more}}}").as_bytes());
    body
}

/// Shows what became of each event of a channel: the finished frame of every lane.
struct Tap {
    shared: Arc<Shared>,
    channel: Channel,
    lane: LaneId,
}

/// An operator sees what is guarded, too.
struct Everything;

impl Admit for Everything {
    fn admit(&self, _: &Event) -> Verdict {
        Verdict::Session
    }
}

impl Session for Tap {
    fn handle(&mut self, input: Input<'_>, _: Now, out: &mut Vec<Output>) {
        match input {
            Input::Opened => {
                let filter = Filter { any_of: None, admit: Box::new(Everything) };
                let subscribe = Subscribe {
                    silent: true,
                    filter: Some(Arc::new(filter)),
                    ..Subscribe::new(self.channel.clone(), self.lane)
                };
                out.push(Output::Ask(Ticket(0), Command::Subscribe(Box::new(subscribe))));
            }
            Input::Event(event) => out.push(Output::Text(self.shared.shown(event))),
            Input::Reply(_, Reply::Refused(_)) => {
                let text = "too many channels".into();
                let farewell = Farewell { message: None, code: 1013, text };
                out.push(Output::Close(farewell, CloseReason::Overload));
            }
            _ => {}
        }
    }
}

impl Shared {
    /// An event and its frames.
    fn shown(&self, event: &Event) -> Vec<u8> {
        let (name, bytes) = match &event.happening {
            Happening::Message { name, data, .. } => (&**name, data.0.len()),
            Happening::MemberAdded(_) => ("member_added", 0),
            Happening::MemberUpdated(_) => ("member_updated", 0),
            Happening::MemberRemoved(_) => ("member_removed", 0),
            Happening::ValueChanged(it) => {
                ("value_changed", it.data.as_ref().map_or(0, |data| data.0.len()))
            }
            Happening::Mutated(it) => {
                ("message_mutated", it.data.as_ref().map_or(0, |data| data.0.len()))
            }
            Happening::Annotated(_) => ("message_annotated", 0),
            Happening::Summarized(it) => ("annotations_summarized", it.summary.0.len()),
            Happening::SubscriptionCount(_) => ("subscription_count", 0),
            Happening::Occupied => ("channel_occupied", 0),
            Happening::Vacated => ("channel_vacated", 0),
            Happening::Control(_) => ("control", 0),
        };
        let mut out =
            format!("{{\"serial\":{},\"at\":\"{}\",\"name\":", event.serial.0, event.at.to_civil())
                .into_bytes();
        json::write_str(&mut out, name);
        out.extend_from_slice(format!(",\"bytes\":{bytes},\"lanes\":").as_bytes());
        let lanes = self.dialects.iter().flat_map(|dialect| {
            dialect
                .lanes()
                .iter()
                .enumerate()
                .map(move |(number, kind)| (dialect.name(), number, *kind))
        });
        let frames = (0..).zip(lanes).filter_map(|(lane, (dialect, number, kind))| {
            let frame = self.lanes.render(LaneId(lane), event).filter(|it| !it.is_empty())?;
            Some((dialect, number, kind, frame))
        });
        list(&mut out, frames, |out, (dialect, number, kind, frame)| {
            out.extend_from_slice(b"{\"dialect\":");
            json::write_str(out, dialect);
            let kind = match kind {
                LaneKind::Text => "text",
                LaneKind::TextDeflate => "text-deflate",
                LaneKind::Binary => "binary",
                LaneKind::Session => "session",
                LaneKind::Chunk => "chunk",
                LaneKind::Plain => "plain",
            };
            out.extend_from_slice(
                format!(",\"lane\":{number},\"kind\":\"{kind}\",\"bytes\":\"").as_bytes(),
            );
            let mut text = vec![b'='; frame.len().div_ceil(3) * 4];
            base64::fill(&mut text, &frame);
            out.extend_from_slice(&text);
            out.extend_from_slice(b"\"}");
        });
        out.push(b'}');
        out
    }
}

/// Appends a JSON list of what `write` makes of the items.
pub(super) fn list<T>(
    out: &mut Vec<u8>,
    items: impl Iterator<Item = T>,
    mut write: impl FnMut(&mut Vec<u8>, T),
) {
    out.push(b'[');
    for (i, item) in items.enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(b']');
}

fn parameter(request: &Request<'_>, name: &str) -> Option<String> {
    query::value(request.query?, name).map(|it| it.into_owned()).filter(|it| !it.is_empty())
}

fn reply(status: u16, content_type: &'static str, body: Vec<u8>) -> Response {
    super::response(status, content_type, body)
}

pub(super) fn json(status: u16, body: Vec<u8>) -> Response {
    reply(status, "application/json", body)
}

pub(super) fn refusal(status: u16, text: &str) -> Response {
    let mut body = b"{\"error\":".to_vec();
    json::write_str(&mut body, text);
    body.push(b'}');
    json(status, body)
}

fn not_found() -> Response {
    refusal(404, "the console has nothing there")
}

fn logged_out() -> Response {
    let mut response = reply(204, "text/plain", Vec::new());
    response.headers.push(("Set-Cookie", DoorKeeper::cookie_of_nobody().into()));
    response
}
