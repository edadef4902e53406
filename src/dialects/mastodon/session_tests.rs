//! Sessions of both transports in the place of Mastodon's own server, with its answers given by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::brief::Brief;
use super::super::connected::Transport;
use super::super::*;
use crate::auth::What;
use crate::auth::source::{Feeds, Need};
use crate::base::ids::{AppIndex, ConnectionId, LaneId, Serial, Ticket};
use crate::base::name::Channel;
use crate::base::prng::Prng;
use crate::base::time::{Nanos, Now, UnixMillis};
use crate::broker::{
    self, Command, Filter, Happening, Meta, Payload, Refusal, Reply, Tags, Verdict,
};
use crate::config::Machine;
use crate::config::load::{Sources, load};
use crate::dialects::{Input, Output, Session, TimerKind};

const LANE_FIRST: LaneId = LaneId(10);

fn dialect(upstream: bool) -> Mastodon {
    let servers = match upstream {
        true => "redis_url = \"redis://h\"\ndatabase_url = \"postgres://h/d\"\n",
        false => "[[mastodon.tokens]]\ntoken = \"t\"\nuser = \"7\"\npermissions = [\"read\"]\n",
    };
    let text = format!(
        "[mastodon]\napp = \"a\"\nenforces_expiry = true\n{servers}[[apps]]\nid = \"a\"\nkey = \"k\"\n\
         secret = \"s\"\nbridge = [\"cats\", \"dogs\", \"Cats\"]\n"
    );
    let sources = Sources {
        file: Some(("x.toml".into(), text)),
        environment: Vec::new(),
        flags: Vec::new(),
        machine: Machine::small(),
        sections: crate::dialects::SECTIONS,
    };
    let config = load(&sources).expect("the settings are good").config;
    let apps = Arc::new(Apps::new(&config.apps));
    Mastodon::new(&config, apps)
}

fn open(
    dialect: &Mastodon,
    target: &str,
    headers: &[(&str, &[u8])],
    is_websocket: bool,
) -> Opening {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let request = Request {
        method: "GET",
        path,
        query: Some(query),
        headers,
        peer: ([127, 0, 0, 1], 9).into(),
        is_websocket,
        takes_chunks: true,
    };
    let facts = Facts {
        connection: ConnectionId::from_pair(1, 1),
        now: Now::default(),
        shards: 1,
        draining: false,
        lane_first: LANE_FIRST,
        deflate: true,
        chance: 7,
    };
    dialect.open(&request, &facts).expect("it is ours")
}

/// A session and what it wants done.
struct Peer {
    session: Box<dyn Session>,
}

impl Peer {
    fn socket(dialect: &Mastodon, query: &str) -> (Self, Vec<Output>) {
        let target = format!("/api/v1/streaming?{query}");
        let Opening::Decide { session, deflate, .. } = open(dialect, &target, &[], true) else {
            panic!("a WebSocket is decided about");
        };
        assert!(!deflate);
        let mut peer = Self { session };
        let out = peer.hear(Input::Asked);
        (peer, out)
    }

    fn stream(dialect: &Mastodon, target: &str) -> (Self, Vec<Output>) {
        let target = format!("/api/v1/streaming/{target}");
        let Opening::Exchange { session, .. } = open(dialect, &target, &[], false) else {
            panic!("a stream is an exchange");
        };
        let mut peer = Self { session };
        let out = peer.hear(Input::Body(b""));
        (peer, out)
    }

    fn hear(&mut self, input: Input<'_>) -> Vec<Output> {
        let mut out = Vec::new();
        let wall = UnixMillis(1_000);
        self.session.handle(input, Now { steady: Nanos(0), wall }, &mut out);
        out
    }

    fn found(&mut self, finding: Finding) -> Vec<Output> {
        self.hear(Input::Found(Ticket(0), finding))
    }

    /// A socket whose token is good, without a stream.
    fn here(dialect: &Mastodon, scopes: &[&str]) -> Self {
        let (mut peer, out) = Self::socket(dialect, "access_token=x");
        assert!(matches!(asked(&out)[..], [What::Token(_)]));
        let out = peer.found(Finding::Known(identity(scopes)));
        assert!(matches!(out[..], [Output::Accept]));
        peer.hear(Input::Opened);
        peer
    }
}

fn identity(scopes: &[&str]) -> Arc<Identity> {
    let permissions = scopes.iter().map(|it| Name::from(*it)).collect();
    let (token, languages) = (Some("11".into()), Some(vec!["de".into()]));
    Arc::new(Identity { permissions, token, languages, ..Identity::named("7") })
}

/// What was asked of upstream.
fn asked(out: &[Output]) -> Vec<&What> {
    let whats = out.iter().map(|it| match it {
        Output::Inquire(_, inquiry) => Some(&inquiry.what),
        _ => None,
    });
    whats.flatten().collect()
}

/// What was said.
fn said(out: &[Output]) -> Vec<String> {
    let texts = out.iter().map(|it| match it {
        Output::Text(text) => Some(String::from_utf8(text.clone()).expect("it is text")),
        _ => None,
    });
    texts.flatten().collect()
}

/// Which channels were subscribed.
fn subscribed(out: &[Output]) -> Vec<String> {
    let channels = out.iter().map(|it| match it {
        Output::Ask(_, Command::Subscribe(it)) => Some(it.channel.name.to_string()),
        _ => None,
    });
    channels.flatten().collect()
}

fn following() -> Finding {
    Finding::Following(Following { judged_from: 5, local: true, remote: true })
}

fn event(channel: &str, name: &str, data: &str, brief: Option<Brief>) -> Event {
    let meta = brief.map(|it| Meta { brief: broker::Brief::new(Arc::new(it)), ..Meta::default() });
    Event {
        channel: Channel { app: AppIndex(0), name: channel.into() },
        serial: Serial(1),
        epoch: None,
        id: Default::default(),
        at: UnixMillis(0),
        arrived: Nanos(0),
        tags: Tags::default(),
        meta: meta.map(Arc::new),
        guarded: false,
        happening: Happening::Message {
            name: name.into(),
            data: Payload(bytes::Bytes::copy_from_slice(data.as_bytes())),
            sender: None,
        },
    }
}

#[test]
fn a_socket_opens_when_upstream_knows_its_token() {
    let dialect = dialect(true);
    for (finding, status, text) in [
        (Finding::Unknown, 401, "Invalid access token"),
        (Finding::Expired, 401, "Invalid access token"),
        (Finding::Unavailable, 500, "An unexpected error occurred"),
        (Finding::Known(Arc::new(Identity::named("public"))), 401, "Invalid access token"),
    ] {
        let (mut peer, out) = Peer::socket(&dialect, "access_token=x&stream=user");
        assert!(matches!(asked(&out)[..], [What::Token(token)] if &**token == "x"));
        let out = peer.found(finding);
        let Some(Output::Respond(response)) = out.last() else { panic!("it is refused") };
        let header = |name| response.headers.iter().find(|it| it.0 == name).map(|it| &*it.1);
        assert_eq!((response.status, header("X-Error-Message")), (status, Some(text)));
        assert_eq!(header("X-Request-Id"), Some("00000000-0000-4000-8000-000000000007"));
        assert!(response.body.is_empty() && header("Access-Control-Allow-Origin").is_none());
        assert!(peer.hear(Input::Text("{}")).is_empty());
    }
    let (mut peer, _) = Peer::socket(&dialect, "access_token=x&stream=user");
    assert!(matches!(peer.found(Finding::Known(identity(&["read"])))[..], [Output::Accept]));
    let out = peer.hear(Input::Opened);
    // It can be told to end before it hears anything, and what it asked for is followed first.
    assert_eq!(subscribed(&out), ["#timeline:system:7"]);
    let [What::Follow(follow)] = asked(&out)[..] else { panic!("it follows") };
    let channels: Vec<_> = follow.channels.iter().map(|it| &**it).collect();
    assert_eq!(channels, ["timeline:7", "timeline:7:notifications"]);
    assert_eq!((&*follow.account, follow.is_judged, &follow.need), ("7", false, &Need::Nothing));
    let out = peer.found(following());
    assert_eq!(subscribed(&out), ["#timeline:7", "#timeline:7:notifications"]);
}

#[test]
fn an_event_stream_begins_when_upstream_has_said_all() {
    let dialect = dialect(true);
    for (token, follow, status) in [
        (Finding::Unknown, None, 401),
        (Finding::Unavailable, None, 500),
        (Finding::Known(identity(&["write"])), None, 401),
        (Finding::Known(identity(&["read"])), Some(Finding::Unknown), 401),
        (Finding::Known(identity(&["read"])), Some(Finding::Unavailable), 500),
        (Finding::Known(identity(&["read"])), Some(following()), 200),
    ] {
        let (mut peer, out) = Peer::stream(&dialect, "list?list=5&access_token=x");
        assert!(matches!(asked(&out)[..], [What::Token(_)]));
        let mut out = peer.found(token);
        if let Some(finding) = follow {
            let [What::Follow(it)] = asked(&out)[..] else { panic!("it follows") };
            assert_eq!(it.need, Need::List("5".into()));
            out = peer.found(finding);
        }
        match out.last() {
            Some(Output::Respond(response)) => assert_eq!(response.status, status),
            Some(Output::Stream(response)) => {
                assert_eq!((response.status, status, &*response.body), (200, 200, &b":)\n"[..]));
                let out = peer.hear(Input::Opened);
                assert_eq!(subscribed(&out), ["#timeline:system:7", "#timeline:list:5"]);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn commands_wait_for_the_one_before() {
    let dialect = dialect(true);
    let mut peer = Peer::here(&dialect, &["read"]);
    let say = |peer: &mut Peer, kind: &str, rest: &str| {
        peer.hear(Input::Text(&format!("{{\"type\":\"{kind}\",{rest}}}")))
    };
    let out = say(&mut peer, "subscribe", r#""stream":"list","list":5"#);
    assert!(matches!(asked(&out)[..], [What::Follow(_)]));
    assert!(say(&mut peer, "unsubscribe", r#""stream":"list","list":"5""#).is_empty());
    assert!(say(&mut peer, "subscribe", r#""stream":"hashtag""#).is_empty());
    assert!(say(&mut peer, "subscribe", r#""stream":"public""#).is_empty());
    assert!(peer.session.held_bytes() > 100);
    // Followed, and then given up.
    let out = peer.found(following());
    assert_eq!(subscribed(&out), ["#timeline:list:5"]);
    assert!(matches!(asked(&out)[..], [What::Unfollow(it)] if it.need == Need::List("5".into())));
    let out = peer.found(Finding::Done);
    assert!(out.iter().any(|it| matches!(it, Output::Ask(_, Command::Unsubscribe(_)))));
    assert_eq!(said(&out), [r#"{"error":"Missing tag name parameter","status":400}"#]);
    let [What::Follow(it)] = asked(&out)[..] else { panic!("it follows") };
    assert_eq!((it.is_judged, &it.need), (true, &Need::Feeds(Feeds::Live)));
    let out = peer.found(Finding::Unavailable);
    assert_eq!(said(&out), [r#"{"error":"An unexpected error occurred","status":500}"#]);
    assert_eq!(peer.session.held_bytes(), 0, "nothing waits, nothing is heard");
    // Whose a list is is asked even of who does not hear it, and of nothing else.
    let out = say(&mut peer, "unsubscribe", r#""stream":"list","list":"6""#);
    assert!(matches!(asked(&out)[..], [What::Unfollow(_)]));
    let out = peer.found(Finding::Unknown);
    assert_eq!(said(&out), [r#"{"error":"Error unsubscribing from channel"}"#]);
    assert!(say(&mut peer, "unsubscribe", r#""stream":"public""#).is_empty());
    // What waits is bounded.
    say(&mut peer, "subscribe", r#""stream":"user""#);
    let mut rest = 10_000;
    while rest > 0 && say(&mut peer, "subscribe", r#""stream":"direct""#).is_empty() {
        rest -= 1;
    }
    assert!((1..9_000).contains(&rest), "{rest}");
    assert!(peer.found(following()).is_empty());
}

#[test]
fn what_is_judged_is_judged_for_the_one_who_hears_it() {
    let dialect = dialect(true);
    let mut peer = Peer::here(&dialect, &["read"]);
    let hear = |peer: &mut Peer, stream: &str, following| {
        peer.hear(Input::Text(&format!("{{\"type\":\"subscribe\",{stream}}}")));
        let out = peer.found(Finding::Following(following));
        let filters = out.into_iter().filter_map(|it| match it {
            Output::Ask(_, Command::Subscribe(it)) => it.filter,
            _ => None,
        });
        filters.collect::<Vec<Arc<Filter>>>()
    };
    let public = Following { judged_from: 5, local: true, remote: false };
    let [filter] = &hear(&mut peer, r#""stream":"public""#, public)[..] else { panic!("one") };
    let brief =
        || Brief { number: 5, is_local: true, language: Some("de".into()), ..Brief::default() };
    let filtered = || [("7".into(), Arc::from("[1]"))].into();
    let update = |brief| event("#timeline:public", "update", r#"{"id":"1"}"#, brief);
    for (brief, verdict) in [
        (None, Verdict::Frame),
        (Some(brief()), Verdict::Frame),
        (Some(Brief { number: 4, ..brief() }), Verdict::Skip),
        (Some(Brief { is_local: false, ..brief() }), Verdict::Skip),
        (Some(Brief { language: None, ..brief() }), Verdict::Skip),
        (Some(Brief { hidden_from: ["7".into()].into(), ..brief() }), Verdict::Skip),
        (Some(Brief { filtered: filtered(), ..brief() }), Verdict::Session),
    ] {
        assert_eq!(filter.admit.admit(&update(brief.clone())), verdict, "{brief:?}");
    }
    let brief = Brief { filtered: filtered(), ..brief() };
    let out = peer.hear(Input::Event(&update(Some(brief.clone()))));
    let payload = r#"{\"id\":\"1\",\"filtered\":[1]}"#;
    let expected = format!(r#"{{"stream":["public"],"event":"update","payload":"{payload}"}}"#);
    assert_eq!(said(&out), [expected]);
    // Spelled in another way, all of it is in words of its own, and judged all the same.
    let tag = r#""stream":"hashtag","tag":"Ann""#;
    let [filter] = &hear(&mut peer, tag, public)[..] else { panic!("one") };
    let update = |brief| event("#timeline:hashtag:ann", "update", r#"{"id":"1"}"#, brief);
    assert_eq!(filter.admit.admit(&update(None)), Verdict::Session);
    let hidden = Brief { hidden_from: ["7".into()].into(), ..brief.clone() };
    assert_eq!(filter.admit.admit(&update(Some(hidden.clone()))), Verdict::Skip);
    assert!(said(&peer.hear(Input::Event(&update(Some(hidden))))).is_empty());
    let out = peer.hear(Input::Event(&update(Some(brief))));
    let expected =
        format!(r#"{{"stream":["hashtag","Ann"],"event":"update","payload":"{payload}"}}"#);
    assert_eq!(said(&out), [expected]);
}

#[test]
fn closed_feeds_are_open_to_who_may_view_them() {
    let dialect = dialect(true);
    let closed = Finding::Following(Following { judged_from: 0, local: false, remote: false });
    for (scopes, verdict) in
        [(&["read"][..], Verdict::Skip), (&["read", "view_feeds"], Verdict::Frame)]
    {
        let (mut peer, _) = Peer::stream(&dialect, "public/remote?access_token=x");
        peer.found(Finding::Known(Arc::new(Identity {
            languages: None,
            ..(*identity(scopes)).clone()
        })));
        peer.found(closed.clone());
        let out = peer.hear(Input::Opened);
        let filter = out.iter().find_map(|it| match it {
            Output::Ask(_, Command::Subscribe(it))
                if &*it.channel.name == "#timeline:public:remote" =>
            {
                assert_eq!(it.lane, LaneId(LANE_FIRST.0 + LANE_CHUNK));
                it.filter.clone()
            }
            _ => None,
        });
        let event = event("#timeline:public:remote", "update", "{}", Some(Brief::default()));
        assert_eq!(filter.expect("it is judged").admit.admit(&event), verdict, "{scopes:?}");
    }
}

#[test]
fn what_ends_a_session_ends_it_once() {
    let dialect = dialect(true);
    let ends = |out: &[Output]| {
        let ends = out.iter().filter_map(|it| match it {
            Output::Close(farewell, _) => Some(farewell.code),
            _ => None,
        });
        ends.collect::<Vec<_>>()
    };
    let kill = |data| event("#timeline:system:7", "kill", data, None);
    let inputs: [(Input<'_>, &[u16]); 8] = [
        (Input::Event(&kill("\"12\"")), &[]),
        (Input::Event(&event("#timeline:system:7", "filters_changed", "null", None)), &[]),
        (Input::Event(&kill("\"11\"")), &[1005]),
        (Input::Event(&kill("null")), &[1005]),
        (Input::Binary(b""), &[1003]),
        (Input::Reply(Ticket(0), Reply::Refused(Refusal::Cancelled)), &[]),
        (
            Input::Reply(Ticket(0), Reply::Refused(Refusal::ChannelsFull { channels_max: 1 })),
            &[1013],
        ),
        (Input::Timer(super::EXPIRY), &[1005]),
    ];
    for (input, codes) in inputs {
        let mut peer = Peer::here(&dialect, &["read"]);
        let about = format!("{input:?}");
        assert_eq!(ends(&peer.hear(input)), codes, "{about}");
        let over = !codes.is_empty();
        let out = peer.hear(Input::Text(r#"{"type":"subscribe"}"#));
        assert_eq!(out.is_empty(), over, "{about}");
    }
    // A ping that is not answered until the next one is due.
    let mut peer = Peer::here(&dialect, &["read"]);
    let ping = || Input::Timer(TimerKind(0));
    assert!(matches!(peer.hear(ping())[..], [Output::Ping, Output::Arm(..)]));
    peer.hear(Input::Pong);
    assert!(matches!(peer.hear(ping())[..], [Output::Ping, Output::Arm(..)]));
    assert_eq!(ends(&peer.hear(ping())), [1006]);
}

#[test]
fn a_token_that_ends_ends_its_connection_where_that_is_wanted() {
    let dialect = dialect(true);
    let (mut peer, _) = Peer::socket(&dialect, "access_token=x");
    let expires = Some(UnixMillis(5_000));
    peer.found(Finding::Known(Arc::new(Identity { expires, ..(*identity(&["read"])).clone() })));
    let out = peer.hear(Input::Opened);
    let is_armed =
        |it: &Output| matches!(it, Output::Arm(super::EXPIRY, after) if after.0 == 4_000);
    assert!(out.iter().any(is_armed), "{out:?}");
}

#[test]
fn the_sub_protocol_is_given_back_and_the_answer_has_a_name() {
    let dialect = dialect(false);
    for (offered, expected) in [
        (None, None),
        (Some("t"), Some("t")),
        (Some("other, t"), Some("other")),
        (Some("a b"), None),
    ] {
        let headers: Vec<(&str, &[u8])> =
            offered.iter().map(|it| ("Sec-WebSocket-Protocol", it.as_bytes())).collect();
        let target = "/api/v1/streaming?access_token=t";
        let Opening::Decide { protocol, headers, message_bytes_max, .. } =
            open(&dialect, target, &headers, true)
        else {
            panic!("a WebSocket is decided about");
        };
        assert_eq!(protocol.as_deref(), expected, "{offered:?}");
        assert_eq!(headers, [("X-Request-Id", "00000000-0000-4000-8000-000000000007".into())]);
        assert_eq!(message_bytes_max, 64 << 10);
    }
}

#[test]
fn who_is_connected_is_counted_until_it_is_gone() {
    let dialect = dialect(true);
    let connected = dialect.shared.as_ref().unwrap().connected.clone();
    let counts = |kind| {
        let of = |it| (connected.clients(it), connected.streams(it, kind));
        (of(Transport::WebSocket), of(Transport::EventStream))
    };
    let mut socket = Peer::here(&dialect, &["read"]);
    for stream in ["user", "public"] {
        socket.hear(Input::Text(&format!("{{\"type\":\"subscribe\",\"stream\":\"{stream}\"}}")));
        socket.found(following());
    }
    let (mut stream, _) = Peer::stream(&dialect, "user?access_token=x");
    stream.found(Finding::Known(identity(&["read"])));
    stream.found(following());
    assert_eq!(counts(names::Kind::User), ((1, 1), (0, 0)));
    stream.hear(Input::Opened);
    assert_eq!(counts(names::Kind::User), ((1, 1), (1, 1)));
    assert_eq!(connected.system_channels(Transport::EventStream), 2);
    socket.hear(Input::Text(r#"{"type":"unsubscribe","stream":"user"}"#));
    socket.found(Finding::Done);
    assert_eq!(counts(names::Kind::User), ((1, 0), (1, 1)));
    assert_eq!(counts(names::Kind::Public), ((1, 1), (1, 0)));
    socket.hear(Input::Closed);
    drop(stream);
    assert_eq!(counts(names::Kind::Public), ((0, 0), (0, 0)));
}

/// Against a plain map: what stands at the broker is what the streams are made of, with a filter where one is needed,
/// whatever upstream answers and when.
#[test]
fn what_is_subscribed_is_what_is_heard() {
    const STREAMS: [(&str, &str, &[&str]); 9] = [
        ("user", "", &["#timeline:7", "#timeline:7:notifications"]),
        ("user:notification", "", &["#timeline:7:notifications"]),
        ("public", "", &["#timeline:public"]),
        ("hashtag", r#","tag":"cats""#, &["#timeline:hashtag:cats", "cats", "Cats"]),
        ("hashtag", r#","tag":"CATS""#, &["#timeline:hashtag:cats", "cats", "Cats"]),
        ("hashtag:local", r#","tag":"cats""#, &["#timeline:hashtag:cats:local"]),
        ("list", r#","list":"5""#, &["#timeline:list:5"]),
        ("list", r#","list":5"#, &["#timeline:list:5"]),
        ("direct", "", &["#timeline:direct:7"]),
    ];
    for seed in 0..200 {
        let mut prng = Prng::new(seed);
        let has_upstream = prng.chance(1, 2);
        let dialect = dialect(has_upstream);
        let mut peer = match has_upstream {
            true => Peer::here(&dialect, &["read"]),
            false => {
                let (mut peer, _) = Peer::socket(&dialect, "access_token=t");
                peer.hear(Input::Opened);
                peer
            }
        };
        // What is heard by its channels; what stands, and how often each channel is followed.
        let mut heard = BTreeMap::<&[&str], &str>::new();
        let mut stands = BTreeSet::new();
        let mut follows = BTreeMap::<String, i32>::new();
        for _ in 0..60 {
            let (stream, more, channels) = STREAMS[prng.below(STREAMS.len() as u64) as usize];
            let is_subscribe = prng.chance(2, 3);
            let kind = if is_subscribe { "subscribe" } else { "unsubscribe" };
            let text = format!("{{\"type\":\"{kind}\",\"stream\":\"{stream}\"{more}}}");
            let mut out = peer.hear(Input::Text(&text));
            let mut is_done = stream != "list" || has_upstream;
            if let Some(what) = asked(&out).first().map(|it| (*it).clone()) {
                // Only a list can turn out to be nobody's to unfollow.
                let can_fail = is_subscribe || stream == "list";
                let fails = can_fail && prng.chance(1, 4);
                is_done = !fails;
                let step = match &what {
                    What::Follow(_) => 1,
                    _ => -1,
                };
                if let (false, What::Follow(it) | What::Unfollow(it)) = (fails, &what) {
                    for channel in &it.channels {
                        *follows.entry(channel.to_string()).or_default() += step;
                    }
                }
                out.extend(peer.found(match what {
                    _ if fails => Finding::Unknown,
                    What::Follow(_) => following(),
                    _ => Finding::Done,
                }));
            }
            match (is_done, is_subscribe) {
                (true, true) => {
                    heard.entry(channels).or_insert(more);
                }
                (true, false) => {
                    heard.remove(channels);
                }
                (false, _) => {}
            }
            for output in &out {
                match output {
                    Output::Ask(_, Command::Subscribe(it)) => {
                        assert!(stands.insert(it.channel.name.to_string()), "seed {seed}: twice");
                    }
                    Output::Ask(_, Command::Unsubscribe(it)) => {
                        assert!(stands.remove(&*it.name), "seed {seed}: it did not stand");
                    }
                    Output::Ask(_, Command::Refilter(it, _)) => {
                        assert!(stands.contains(&*it.name), "seed {seed}: it does not stand");
                    }
                    _ => {}
                }
            }
            let made_of = heard.keys().flat_map(|it| it.iter().map(|it| (*it).to_owned()));
            assert_eq!(stands, made_of.collect(), "seed {seed}, after {text}");
            // Every stream of an event is told once, under the name that it was asked for by.
            for channel in ["#timeline:7:notifications", "#timeline:hashtag:cats", "cats"] {
                let delete = event(channel, "delete", "\"1\"", None);
                let told = said(&peer.hear(Input::Event(&delete)));
                let of = heard.keys().filter(|it| it.contains(&channel)).count();
                assert_eq!(told.len(), of, "seed {seed}: {told:?}");
            }
        }
        if has_upstream {
            let expected = |channel: &str| {
                let own = format!("#{channel}");
                heard.keys().filter(|it| it.contains(&&*own)).count() as i32
            };
            for (channel, times) in &follows {
                // Whoever unfollows a list that is not followed is only told whose it is.
                let is_list = channel.starts_with("timeline:list:");
                assert!(is_list || *times == expected(channel), "seed {seed}: {channel} {times}");
            }
        }
    }
}
