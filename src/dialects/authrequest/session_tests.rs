use super::*;
use crate::auth::source::TokenRow;
use crate::auth::{Apps, TokenSettings};
use crate::base::ids::{AppIndex, ConnectionId, Serial};
use crate::base::name::Channel;
use crate::base::time::{Millis, UnixMillis};
use crate::broker::{Description, Refusal, Subscribed, Tags};
use crate::config::{Config, Secret};
use crate::dialects::authrequest::{AuthRequest, Settings};
use crate::dialects::{Dialect, Opening};
use crate::observe::CloseReason;

#[test]
fn an_idle_session_is_small() {
    assert!(size_of::<AuthSession>() <= 96, "{}", size_of::<AuthSession>());
}

/// One session whose asks and inquiries are answered by hand.
struct Bench {
    session: Box<dyn Session>,
    now: Now,
    out: Vec<Output>,
    /// What was asked and not answered.
    asks: Vec<(Ticket, Channel)>,
    inquiries: Vec<Ticket>,
}

fn row(token: &str, user: &str, permissions: &[&str]) -> TokenRow {
    TokenRow {
        token: Some(Secret(token.into())),
        user: user.into(),
        account: "acme".into(),
        permissions: permissions.iter().map(|it| it.to_string()).collect(),
        ..TokenRow::default()
    }
}

impl Bench {
    /// `change` changes the settings; the application knows other tokens than `ann`, `ann-less` and `bob`.
    fn new(bridge: &[&str], change: impl FnOnce(&mut Settings)) -> Self {
        let mut config = Config::development();
        config.apps[0].bridge = bridge.iter().map(|it| it.to_string()).collect();
        let mut settings = Settings::of(&config);
        settings.tokens = TokenSettings {
            tokens: vec![
                row("ann", "ann", &[ACCOUNT_EVENTS]),
                row("ann-less", "ann", &[]),
                row("bob", "bob", &[ACCOUNT_EVENTS]),
                row("long", &"x".repeat(257), &[]),
            ],
            consult_url: "http://consult/".into(),
            ..TokenSettings::default()
        };
        change(&mut settings);
        config.sections.set(settings);
        let dialect = AuthRequest::new(&config, Arc::new(Apps::new(&config.apps)));
        let request = crate::dialects::Request {
            method: "GET",
            path: "/realtime",
            query: None,
            headers: &[],
            peer: ([127, 0, 0, 1], 9).into(),
            is_websocket: true,
            takes_chunks: true,
        };
        let now = Now { steady: Nanos(1_000_000_000), wall: UnixMillis(1_700_000_000_000) };
        let facts = Facts {
            connection: ConnectionId::from_pair(1, 1),
            now,
            shards: 1,
            draining: false,
            lane_first: LaneId(0),
            deflate: false,
            chance: 0,
        };
        let Some(Opening::WebSocket { session, message_bytes_max, .. }) =
            dialect.open(&request, &facts)
        else {
            panic!("its own path is opened")
        };
        assert_eq!(message_bytes_max, 65_536);
        let (out, asks, inquiries) = (Vec::new(), Vec::new(), Vec::new());
        Self { session, now, out, asks, inquiries }
    }

    /// Hands an input over; what follows, in words.
    fn handle(&mut self, input: Input<'_>) -> String {
        self.session.handle(input, self.now, &mut self.out);
        let mut words = Vec::new();
        for output in self.out.drain(..) {
            words.push(match output {
                Output::Text(text) => {
                    let text = String::from_utf8(text).unwrap();
                    let raw = crate::wire::json::parse_str(&text).unwrap();
                    let member = |name| raw.member(name).and_then(|it| it.as_str());
                    let kind = member("type").unwrap().replace("response", "");
                    member("error").map_or(kind.clone(), |error| format!("{kind}:{error}"))
                }
                Output::Ask(ticket, Command::Subscribe(it)) => {
                    let gate = if it.filter.is_some() { "?" } else { "" };
                    let word = format!("+{}{gate}", it.channel.name);
                    assert!(it.silent);
                    self.asks.push((ticket, it.channel));
                    word
                }
                Output::Ask(_, Command::Unsubscribe(channel)) => format!("-{}", channel.name),
                Output::Ask(_, Command::Refilter(channel, _)) => format!("!{}", channel.name),
                Output::Inquire(ticket, _) => {
                    self.inquiries.push(ticket);
                    "inquire".into()
                }
                Output::Close(farewell, CloseReason::Session) => {
                    format!("close {} {}", farewell.code, farewell.text)
                }
                Output::Ping => "ping".into(),
                Output::Arm(..) => continue,
                other => panic!("{other:?}"),
            });
        }
        words.join(" ").replace("#authrequest:", "#")
    }

    fn send(&mut self, text: &str) -> String {
        self.handle(Input::Text(text))
    }

    fn ask(&mut self, kind: &str) -> String {
        self.send(&format!("{{\"type\":\"{kind}request\"}}"))
    }

    fn auth(&mut self, token: &str) -> String {
        self.send(&format!("{{\"type\":\"authrequest\",\"token\":\"{token}\"}}"))
    }

    /// Answers the oldest ask.
    fn grant(&mut self) -> String {
        let (ticket, channel) = self.asks.remove(0);
        let (description, members) = (Description::default(), Vec::new());
        let subscribed = Subscribed {
            values: Vec::new(),
            has_more_values: false,
            channel,
            after: Serial(0),
            description,
            members,
            position: None,
            replay: None,
        };
        self.handle(Input::Reply(ticket, Reply::Subscribed(Box::new(subscribed))))
    }

    fn refuse(&mut self, refusal: Refusal) -> String {
        let (ticket, _) = self.asks.remove(0);
        self.handle(Input::Reply(ticket, Reply::Refused(refusal)))
    }

    fn find(&mut self, finding: Finding) -> String {
        let ticket = self.inquiries.remove(0);
        self.handle(Input::Found(ticket, finding))
    }

    fn known(&mut self, user: &str) -> String {
        let identity = Identity {
            account: Some("acme".into()),
            permissions: vec![ACCOUNT_EVENTS.into()],
            ..Identity::named(user)
        };
        self.find(Finding::Known(Arc::new(identity)))
    }

    /// Authenticated as someone of the settings.
    fn authenticated(bridge: &[&str], token: &str) -> Self {
        let mut bench = Self::new(bridge, |_| {});
        bench.auth(token);
        assert_eq!(bench.grant(), "auth");
        bench
    }
}

const FULL: Refusal = Refusal::ChannelsFull { channels_max: 1 };

#[test]
fn success_is_told_when_a_revocation_would_be_heard() {
    let mut it = Bench::new(&[], |_| {});
    assert_eq!(it.auth("ann"), "+#session:acme:ann");
    assert_eq!(it.ask("startuserevent"), "");
    assert_eq!(it.grant(), "auth +#user:acme:ann");
    assert_eq!(it.grant(), "startuserevent");
    let event = Event {
        channel: Channel { app: AppIndex(0), name: channels::session("acme", "ann") },
        serial: Serial(1),
        at: UnixMillis(0),
        arrived: Nanos(0),
        epoch: None,
        id: Default::default(),
        meta: None,
        tags: Tags::default(),
        guarded: false,
        happening: Happening::SubscriptionCount(1),
    };
    assert_eq!(it.handle(Input::Event(&event)), "");
    let happening = Happening::Message {
        name: "revoked".into(),
        data: crate::broker::Payload(bytes::Bytes::from_static(b"null")),
        sender: None,
    };
    let event = Event { happening, ..event };
    assert_eq!(it.handle(Input::Event(&event)), "close 1008 session revoked");
    // Nothing follows the end.
    assert_eq!(it.ask("startuserevent"), "");
    assert_eq!(it.handle(Input::Event(&event)), "");
}

#[test]
fn a_full_broker_is_an_internal_error_and_leaves_things_as_they_were() {
    let mut it = Bench::new(&["b", "c"], |_| {});
    it.auth("ann");
    assert_eq!(it.refuse(FULL), "auth:internal_error");
    assert_eq!(it.ask("startuserevent"), "startuserevent:not_authenticated");
    it.auth("ann");
    assert_eq!(it.grant(), "auth");
    it.ask("startaccountevent");
    it.ask("startaccountevent");
    assert_eq!(it.grant(), "");
    assert_eq!(
        it.refuse(FULL),
        "-b -c -#account:acme startaccountevent:internal_error startaccountevent:internal_error"
    );
    // The old identity stays when the new one cannot be.
    it.auth("bob");
    assert_eq!(it.refuse(FULL), "auth:internal_error");
    it.ask("startuserevent");
    assert_eq!(it.asks[0].1.name, channels::user("acme", "ann"));
}

#[test]
fn a_stream_of_several_channels_is_on_when_all_of_them_are() {
    let mut it = Bench::authenticated(&["b", "c"], "ann");
    assert_eq!(it.ask("startaccountevent"), "+b? +c?");
    assert_eq!(it.ask("startuserevent"), "+#user:acme:ann");
    assert_eq!(it.ask("startaccountevent"), "");
    assert_eq!((it.grant(), it.grant()), (String::new(), "+#account:acme".into()));
    assert_eq!(it.grant(), "startuserevent");
    assert_eq!(it.grant(), "!b !c startaccountevent startaccountevent");
    assert_eq!(it.ask("startaccountevent"), "startaccountevent");
    assert_eq!(it.ask("stopaccountevent"), "-b -c -#account:acme stopaccountevent");
    assert_eq!(it.ask("stopaccountevent"), "stopaccountevent");
    assert_eq!(it.ask("stopuserevent"), "-#user:acme:ann stopuserevent");
}

#[test]
fn a_stop_answers_the_start_it_overtakes() {
    let mut it = Bench::authenticated(&[], "ann");
    assert_eq!(it.ask("startuserevent"), "+#user:acme:ann");
    assert_eq!(it.ask("startuserevent"), "");
    let stopped = it.ask("stopuserevent");
    assert_eq!(stopped, "-#user:acme:ann startuserevent startuserevent stopuserevent");
    assert_eq!(it.ask("startuserevent"), "+#user:acme:ann");
    // What comes for the first ask means nothing to the second.
    assert_eq!(it.refuse(Refusal::Cancelled), "");
    assert_eq!(it.grant(), "startuserevent");
    // A late answer to an ask that is over.
    it.asks.push((Ticket(1), Channel { app: AppIndex(0), name: "x".into() }));
    assert_eq!(it.grant(), "");
}

#[test]
fn replies_that_one_start_owes_are_bounded() {
    let mut it = Bench::new(&[], |settings| settings.requests_per_second_max = 0);
    it.auth("ann");
    it.grant();
    let replies: Vec<_> = (0..70).map(|_| it.ask("startuserevent")).collect();
    assert_eq!(replies.iter().filter(|it| *it == "startuserevent:rate_limited").count(), 6);
    assert_eq!(it.grant().split(' ').count(), 64);
}

#[test]
fn someone_else_starts_without_streams() {
    let mut it = Bench::authenticated(&["b"], "ann");
    it.ask("startuserevent");
    it.grant();
    it.ask("startaccountevent");
    // Under way while the other one is let in: its request is answered all the same.
    assert_eq!(it.auth("bob"), "+#session:acme:bob");
    assert_eq!(it.asks.remove(0).1.name, "b".into());
    assert_eq!(
        it.grant(),
        "-#user:acme:ann -b -#account:acme startaccountevent -#session:acme:ann auth"
    );
    assert_eq!(it.ask("startaccountevent"), "+b?");
}

#[test]
fn the_same_user_keeps_what_the_new_token_allows() {
    let mut it = Bench::authenticated(&[], "ann");
    for kind in ["startuserevent", "startaccountevent"] {
        it.ask(kind);
        assert_eq!(it.grant(), kind);
    }
    assert_eq!(it.auth("ann"), "auth");
    assert_eq!(it.auth("ann-less"), "-#account:acme auth");
    assert_eq!(it.ask("startaccountevent"), "startaccountevent:forbidden");
    assert_eq!(it.ask("startuserevent"), "startuserevent");
    // No stream needs a privilege to be stopped.
    assert_eq!(it.ask("stopaccountevent"), "stopaccountevent");
}

#[test]
fn requests_wait_for_the_check_in_order() {
    let mut it = Bench::new(&[], |_| {});
    assert_eq!(it.auth("x"), "inquire");
    for kind in ["startuserevent", "startuserevent", "nope", "stopuserevent"] {
        assert_eq!(it.ask(kind), "");
    }
    assert_eq!(it.auth("y"), "");
    assert_eq!(it.ask("nope2"), "");
    // What is no request is answered at once.
    assert_eq!(it.send("{}"), "error:unknown_type");
    assert_eq!(it.known("ann"), "+#session:acme:ann");
    // Answers to what nobody asked.
    assert_eq!(it.handle(Input::Found(Ticket(77), Finding::Unknown)), "");
    assert_eq!(it.handle(Input::Reply(Ticket(77), Reply::Refused(FULL))), "");
    assert_eq!(
        it.grant(),
        "auth +#user:acme:ann nope:unknown_command -#user:acme:ann startuserevent startuserevent \
         stopuserevent inquire"
    );
    assert_eq!(it.ask("last"), "");
    assert_eq!(
        it.find(Finding::Expired),
        "auth:expired_token nope2:unknown_command last:unknown_command"
    );
    assert_eq!(it.ask("last"), "last:unknown_command");
}

#[test]
fn every_finding_has_its_word() {
    let nobody = Identity { account: None, ..Identity::named("x") };
    for (finding, word) in [
        (Finding::Unknown, "invalid_token"),
        (Finding::Expired, "expired_token"),
        (Finding::Limited, "internal_error"),
        (Finding::Unavailable, "internal_error"),
        (Finding::Done, "internal_error"),
        (Finding::Known(Arc::new(nobody)), "invalid_token"),
    ] {
        let mut it = Bench::new(&[], |_| {});
        assert_eq!(it.auth("x"), "inquire");
        it.ask("startuserevent");
        assert_eq!(it.find(finding), format!("auth:{word} startuserevent:not_authenticated"));
    }
    assert_eq!(Bench::new(&[], |_| {}).auth("long"), "auth:invalid_token");
}

#[test]
fn what_waits_is_bounded() {
    let mut it = Bench::new(&[], |settings| settings.requests_per_second_max = 0);
    it.auth("x");
    let replies: Vec<_> = (0..70).map(|_| it.ask("x")).collect();
    assert_eq!(replies.iter().filter(|it| it.is_empty()).count(), WAITING_MAX);
    assert_eq!(replies[69], "x:rate_limited");
    assert_eq!(it.find(Finding::Unknown).split(' ').count(), 1 + WAITING_MAX);
    it.auth("x");
    let large = format!("{{\"type\":\"yrequest\",\"x\":\"{}\"}}", "x".repeat(30_000));
    assert_eq!((it.send(&large), it.send(&large)), (String::new(), String::new()));
    assert_eq!(it.send(&large), "y:rate_limited");
    // Once judged, there is room again.
    it.find(Finding::Unknown);
    it.auth("x");
    assert_eq!((it.send(&large), it.send(&large)), (String::new(), String::new()));
}

#[test]
fn nothing_waiting_is_judged_after_the_end() {
    let mut it = Bench::new(&[], |_| {});
    it.auth("x");
    for _ in 0..4 {
        it.send(r#"{"type":"authrequest"}"#);
    }
    it.ask("x");
    assert_eq!(
        it.find(Finding::Unknown),
        "auth:invalid_token auth:missing_token auth:missing_token auth:missing_token \
         auth:missing_token close 1008 too many failed authentication attempts"
    );
}

#[test]
fn a_rate_is_kept_and_forgiven() {
    let mut it = Bench::new(&[], |settings| settings.requests_per_second_max = 3);
    it.auth("ann");
    it.grant();
    assert_eq!(
        (it.ask("x"), it.ask("x")),
        ("x:unknown_command".into(), "x:unknown_command".into())
    );
    assert_eq!(it.ask("x"), "x:rate_limited");
    assert_eq!(it.send("{}"), "error:rate_limited");
    // One that is refused so is no attempt.
    for _ in 0..10 {
        assert_eq!(it.send(r#"{"type":"authrequest"}"#), "auth:rate_limited");
    }
    it.now.steady = it.now.steady + Millis(334);
    assert_eq!((it.ask("x"), it.ask("x")), ("x:unknown_command".into(), "x:rate_limited".into()));
}

#[test]
fn a_peer_is_cut_after_two_pings_without_a_sign_of_life() {
    let mut it = Bench::new(&[], |_| {});
    let tick = |it: &mut Bench| it.handle(Input::Timer(KEEP_ALIVE));
    for sign in [Input::Pong, Input::Text("{}")] {
        assert_eq!((tick(&mut it), tick(&mut it)), ("ping".into(), "ping".into()));
        it.handle(sign);
    }
    assert_eq!((tick(&mut it), tick(&mut it)), ("ping".into(), "ping".into()));
    assert_eq!(tick(&mut it), "close 1008 no sign of life");
}
