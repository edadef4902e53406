use std::sync::Arc;

use serde_json::{Value, json};

use crate::auth::Apps;
use crate::base::event_id::EventId;
use crate::base::ids::{AppIndex, ConnectionId, LaneId, Serial, Ticket};
use crate::base::name::Channel;
use crate::base::time::{Millis, Nanos, Now, UnixMillis};
use crate::broker::state::{self, Deferred, Keep, Scheduled, SetValue};
use crate::broker::{Command, Description, Member, Payload, Publish, Published, Refusal, Reply};
use crate::config::{Config, Secret};
use crate::dialects::hotsock::Hotsock;
use crate::dialects::hotsock::settings::{ApiKeyRow, SECTION};
use crate::dialects::{Dialect, Facts, Input, Opening, Output, Request, Response, Session};

const NOW: Now = Now { steady: Nanos(1_000_000_000), wall: UnixMillis(1_800_000_000_000) };
const BEARER: (&str, &[u8]) = ("Authorization", b"Bearer app-secret");
const NULLS: &str = r#"{"uid":null,"umd":null}"#;

/// A request and its answer as it is on the way.
pub(super) struct Bench {
    session: Option<Box<dyn Session>>,
    pub(super) asked: Vec<(Ticket, Command)>,
    answer: Option<Response>,
}

pub(super) fn dialect(change: impl FnOnce(&mut Config)) -> Hotsock {
    let mut config = Config::development();
    change(&mut config);
    Hotsock::new(&config, Arc::new(Apps::new(&config.apps)))
}

fn facts(draining: bool) -> Facts {
    Facts {
        connection: ConnectionId::from_pair(1, 1),
        now: NOW,
        shards: 1,
        draining,
        lane_first: LaneId(0),
        deflate: false,
        chance: 0,
    }
}

impl Bench {
    pub(super) fn open(
        dialect: &Hotsock,
        (method, target): (&str, &str),
        headers: &[(&str, &[u8])],
        draining: bool,
    ) -> Option<Self> {
        let (path, query) = target.split_once('?').map_or((target, None), |(a, b)| (a, Some(b)));
        let peer = ([127, 0, 0, 1], 9).into();
        let request =
            Request { method, path, query, headers, peer, is_websocket: false, takes_chunks: true };
        let mut bench = Self { session: None, asked: Vec::new(), answer: None };
        match dialect.open(&request, &facts(draining))? {
            Opening::Respond(response) => bench.answer = Some(response),
            Opening::Exchange { session, .. } => bench.session = Some(session),
            _ => panic!("{target} is no WebSocket"),
        }
        Some(bench)
    }

    /// A request with the key, and its body.
    fn send(method: &str, target: &str, body: &str) -> Self {
        let dialect = dialect(|config| config.apps[0].bridge = vec!["news".into()]);
        let headers = [BEARER, ("User-Agent", b"curl")];
        let mut bench = Self::open(&dialect, (method, target), &headers, false).unwrap();
        bench.input(Input::Body(body.as_bytes()));
        bench
    }

    fn publish(body: &str) -> Self {
        Self::send("POST", "/publish", body)
    }

    pub(super) fn input(&mut self, input: Input<'_>) {
        let mut out = Vec::new();
        if let Some(session) = &mut self.session {
            session.handle(input, NOW, &mut out);
        }
        for output in out {
            match output {
                Output::Ask(ticket, command) => self.asked.push((ticket, command)),
                Output::Respond(response) => {
                    assert!(self.answer.is_none(), "answered twice");
                    self.answer = Some(response);
                }
                Output::Count(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Answers the oldest ask.
    pub(super) fn reply(mut self, reply: Reply) -> Self {
        assert!(self.answer.is_none(), "answered before the broker did");
        let (ticket, _) = self.asked.remove(0);
        self.input(Input::Reply(ticket, reply));
        self
    }

    pub(super) fn command(&self) -> &Command {
        let [(_, command)] = &self.asked[..] else { panic!("{:?}", self.asked) };
        command
    }

    #[track_caller]
    pub(super) fn publishes(&self) -> &Publish {
        let Command::Publish(it) = self.command() else { panic!("{:?}", self.asked) };
        it
    }

    #[track_caller]
    fn sets(&self) -> &SetValue {
        let Command::SetValue(it) = self.command() else { panic!("{:?}", self.asked) };
        it
    }

    /// Status and body.
    pub(super) fn told(&self) -> (u16, Value) {
        let answer = self.answer.as_ref().expect("it is answered");
        let cors = answer.headers.iter().find(|(it, _)| *it == "Access-Control-Allow-Origin");
        assert_eq!(cors.map(|(_, it)| &**it), Some("*"));
        let body = if answer.body.is_empty() { b"null" } else { &answer.body[..] };
        (answer.status, serde_json::from_slice(body).unwrap())
    }

    /// Status and code of a refusal.
    fn refused(&self) -> (u16, String, String) {
        let (status, body) = self.told();
        let error = |name: &str| body["error"][name].as_str().unwrap_or_default().to_owned();
        (status, error("code"), error("message"))
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let answer = self.answer.as_ref()?;
        answer.headers.iter().find(|(it, _)| *it == name).map(|(_, value)| &**value)
    }
}

pub(super) fn published(id: u128) -> Reply {
    Reply::Published(Published { id: EventId(id), ..Published::unkept(Serial(1)) })
}

fn text(payload: &Payload) -> &str {
    std::str::from_utf8(&payload.0).unwrap()
}

fn channel(name: &str) -> Channel {
    Channel { app: AppIndex(0), name: name.into() }
}

#[test]
fn only_who_has_a_key_comes_in() {
    let dialect = dialect(|config| {
        let mut settings = SECTION.blank();
        let key = Some(Secret("another-key-of-the-app".into()));
        settings.api_keys = vec![ApiKeyRow { key }, ApiKeyRow::default()];
        config.sections.set(settings);
    });
    for (headers, is_in) in [
        (&[("authorization", &b"Bearer app-secret"[..])][..], true),
        (&[("Authorization", b"bearer another-key-of-the-app")], true),
        (&[("Authorization", b"BEARER  app-secret ")], true),
        (&[], false),
        (&[("Authorization", b"")], false),
        (&[("Authorization", b"Bearer")], false),
        (&[("Authorization", b"Bearer ")], false),
        (&[("Authorization", b"Bearer app-secre")], false),
        (&[("Authorization", b"Bearer app-secrets")], false),
        (&[("Authorization", b"Basic app-secret")], false),
        (&[("Authorization", b"app-secret")], false),
        (&[("Authentication", b"Bearer app-secret")], false),
    ] {
        for target in [("POST", "/publish"), ("GET", "/channels/a"), ("DELETE", "/schedules/1")] {
            let bench = Bench::open(&dialect, target, headers, false).unwrap();
            assert_eq!(bench.session.is_some(), is_in, "{headers:?}");
            if !is_in {
                let (status, code, _) = bench.refused();
                assert_eq!((status, &*code), (401, "INVALID_API_KEY"));
                assert_eq!(bench.header("WWW-Authenticate"), Some("Bearer"));
            }
        }
    }
}

#[test]
fn what_a_head_asks_for_in_vain_is_answered_at_once() {
    let on = dialect(|_| {});
    let read = "GET, HEAD, OPTIONS";
    for (target, draining, status, allow) in [
        (("OPTIONS", "/publish"), false, 204, None),
        (("OPTIONS", "/channels/a/storage"), true, 204, None),
        (("GET", "/publish"), false, 405, Some("POST, OPTIONS")),
        (("PUT", "/publish/batch"), false, 405, Some("POST, OPTIONS")),
        (("POST", "/channels/a"), false, 405, Some(read)),
        (("DELETE", "/schedules"), false, 405, Some(read)),
        (("POST", "/schedules/1"), false, 405, Some("GET, HEAD, DELETE, OPTIONS")),
        (("POST", "/publish/it"), false, 404, None),
        (("GET", "/channels"), false, 404, None),
        (("GET", "/channels/a/b"), false, 404, None),
        (("POST", "/publish"), true, 503, None),
    ] {
        let bench = Bench::open(&on, target, &[BEARER], draining).unwrap();
        assert_eq!((bench.told().0, bench.header("Allow")), (status, allow), "{target:?}");
        assert_eq!(bench.header("Retry-After").is_some(), status == 503);
    }
    for target in [("POST", "/publisher"), ("GET", "/"), ("GET", "/apps/app-id/channels")] {
        assert!(Bench::open(&on, target, &[BEARER], false).is_none(), "{target:?}");
    }
    for (path, methods) in
        [("/publish", "GET, POST, OPTIONS"), ("/schedules/1", "GET, DELETE, OPTIONS")]
    {
        let bench = Bench::open(&on, ("OPTIONS", path), &[], false).unwrap();
        assert_eq!(bench.header("Access-Control-Allow-Methods"), Some(methods), "{path}");
    }
    let off = dialect(|config| config.apps[0].enabled = false);
    let bench = Bench::open(&off, ("POST", "/publish"), &[BEARER], false).unwrap();
    assert_eq!(bench.told().0, 403);
}

#[test]
fn a_message_is_published_as_its_fields_say() {
    let bench = Bench::publish(r#"{"channel":"room.1","event":"tick"}"#);
    let it = bench.publishes();
    assert_eq!(it.channel, channel("#hotsock:room.1"));
    assert_eq!((&*it.name, text(&it.data)), ("tick", "null"));
    assert!(it.retain.is_none() && it.report.is_none() && it.key.is_none());
    assert!(it.meta.is_none() && it.exclude.is_none() && it.sender.is_none());
    let bench = bench.reply(published(1));
    assert_eq!(bench.told(), (202, json!({"channel":"room.1","event":"tick"})));

    let bench = Bench::publish(
        r#" {"channel":"news","event":"a b#c","data":{ "x" : 1 },"store":60,"deduplicationId":"d","eagerIdGeneration":true,
            "key":5,"unknown":{},"scheduleExpression":null,"scheduleExpressionTimezone":"Mars"} "#,
    );
    let it = bench.publishes();
    assert_eq!((&*it.channel.name, &*it.name, text(&it.data)), ("news", "a b#c", r#"{ "x" : 1 }"#));
    assert_eq!(it.retain, Some(Keep::For(Millis(60_000))));
    let key = it.key.as_ref().unwrap();
    assert_eq!((&*key.name, key.fingerprint, key.span), ("d", [0; 16], Some(Millis(300_000))));
    let bench = bench.reply(published(7));
    let id = EventId(7).to_string();
    assert_eq!(bench.told(), (202, json!({"channel":"news","event":"a b#c","id":id})));
}

#[test]
fn how_long_something_is_kept_is_said_by_store() {
    let hundred_years = Some(Keep::For(Millis(3_155_695_200_000)));
    for (store, message, value) in [
        ("null", Ok(None), Ok(Keep::Forever)),
        ("-1", Ok(Some(Keep::Forever)), Ok(Keep::Forever)),
        ("0", Ok(None), Err(())),
        ("1", Ok(Some(Keep::For(Millis(1000)))), Ok(Keep::For(Millis(1000)))),
        ("3155695200", Ok(hundred_years), hundred_years.ok_or(())),
        ("3155695201", Err(()), Err(())),
        ("-2", Err(()), Err(())),
        ("1.5", Err(()), Err(())),
        ("\"1\"", Err(()), Err(())),
        ("true", Err(()), Err(())),
    ] {
        let send =
            |more: &str| Bench::publish(&format!(r#"{{"channel":"c","store":{store},{more}}}"#));
        let told = send(r#""event":"e""#);
        assert_eq!(
            told.answer.as_ref().map_or_else(|| Ok(told.publishes().retain), |_| Err(())),
            message
        );
        let told = send(r#""event":"hotsock.channelStorageSet","key":"k","data":1"#);
        assert_eq!(told.answer.as_ref().map_or_else(|| Ok(told.sets().keep), |_| Err(())), value);
        if let Some(answer) = told.answer {
            assert_eq!(answer.status, 400, "{store}");
        }
    }
}

#[test]
fn a_value_is_set_or_cleared() {
    let set = r#""channel":"c","event":"hotsock.channelStorageSet","key":"a.b""#;
    for (more, data) in [
        (r#","data":{ "a":1}"#, Some(r#"{ "a":1}"#)),
        (r#","data":[]"#, Some("[]")),
        (r#","data":"""#, Some("\"\"")),
        (r#","data":0"#, Some("0")),
        (r#","data":false"#, Some("false")),
        (r#","data":null"#, None),
        (r#","data":{ }"#, None),
        ("", None),
    ] {
        let bench = Bench::publish(&format!("{{{set}{more},\"eagerIdGeneration\":true}}"));
        let it = bench.sets();
        assert_eq!((&*it.channel.name, &*it.key, text(&it.meta)), ("#hotsock:c", "a.b", NULLS));
        assert_eq!(it.data.as_ref().map(text), data, "{more}");
        assert!(it.keep == Keep::Forever && it.report.is_none() && !it.quiet);
        let told = bench.reply(Reply::Done).told();
        assert_eq!(told, (202, json!({"channel":"c","event":"hotsock.channelStorageSet"})));
    }
}

#[test]
fn a_back_end_reacts_as_someone() {
    let id = EventId(77).to_string();
    let body = |action: &str, meta: &str| {
        format!(
            r#"{{"channel":"c","event":"hotsock.messageReaction","data":{{"messageId":"{id}","reaction":"👍","action":"{action}"}}{meta}}}"#
        )
    };
    for (action, told, is_added) in [
        ("add", "hotsock.messageReactionAdded", true),
        ("remove", "hotsock.messageReactionRemoved", false),
    ] {
        let bench = Bench::publish(&body(action, r#","meta":{"uid":"42","umd":{"n":1}}"#));
        let Command::React(it) = bench.command() else { panic!("{:?}", bench.asked) };
        assert_eq!(
            (&*it.channel.name, it.message, &*it.reaction),
            ("#hotsock:c", EventId(77), "👍")
        );
        assert_eq!((it.is_added, it.exclude, &*it.event.0), (is_added, None, told));
        let data: Value = serde_json::from_slice(&it.event.1.0).unwrap();
        assert_eq!(data, json!({"messageId": id, "reaction": "👍", "action": action}));
        let member = Member { user_id: "42".into(), info: Some(Payload(r#"{"n":1}"#.into())) };
        assert_eq!(*it.by, member);
        assert_eq!(it.publisher.as_ref().map(text), Some(r#"{"uid":"42","umd":{"n":1}}"#));
        let done = bench.reply(Reply::Done).told();
        assert_eq!(done, (202, json!({"channel":"c","event":"hotsock.messageReaction"})));
    }
    let bench = Bench::publish(&body("add", r#","meta":{"uid":"42"}"#));
    let bench = bench.reply(Reply::Refused(Refusal::NotFound));
    assert_eq!((bench.refused().0, &*bench.refused().1), (404, "MESSAGE_NOT_FOUND"));
    let long = format!(r#","meta":{{"uid":"{}"}}"#, "x".repeat(129));
    let large = format!(r#","meta":{{"uid":"1","umd":"{}"}}"#, "x".repeat(1024));
    for (action, meta, status, code) in [
        ("add", "", 403, "USER_ID_REQUIRED"),
        ("add", r#","meta":{"uid":""}"#, 403, "USER_ID_REQUIRED"),
        ("add", r#","meta":{"uid":42}"#, 400, "INVALID_MESSAGE"),
        ("add", &long, 400, "INVALID_MESSAGE"),
        ("add", &large, 413, "DATA_TOO_LARGE"),
        ("flip", r#","meta":{"uid":"1"}"#, 400, "INVALID_MESSAGE"),
        (
            "add",
            r#","meta":{"uid":"1"},"scheduleExpression":"at(2099-01-01T00:00:00)""#,
            400,
            "INVALID_SCHEDULE_EXPRESSION",
        ),
    ] {
        let (is, text, _) = Bench::publish(&body(action, meta)).refused();
        assert_eq!((is, &*text), (status, code), "{action} {meta}");
    }
    for (data, code) in [
        ("null", "INVALID_MESSAGE"),
        ("[]", "INVALID_MESSAGE"),
        (r#"{"reaction":"x","action":"add"}"#, "INVALID_MESSAGE"),
        (r#"{"messageId":"x","reaction":"x","action":"add"}"#, "INVALID_MESSAGE"),
        (&format!(r#"{{"messageId":"{id}","action":"add"}}"#), "INVALID_MESSAGE"),
        (&format!(r#"{{"messageId":"{id}","reaction":" ","action":"add"}}"#), "INVALID_REACTION"),
    ] {
        let text = format!(
            r#"{{"channel":"c","event":"hotsock.messageReaction","data":{data},"meta":{{"uid":"1"}}}}"#
        );
        assert_eq!(Bench::publish(&text).refused().1, code, "{data}");
    }
}

#[test]
fn bad_messages_are_refused_for_what_is_wrong_with_them() {
    let (c257, e129) = ("x".repeat(257), "x".repeat(129));
    let large = format!("\"{}\"", "x".repeat(32_767));
    let set = r#""channel":"c","event":"hotsock.channelStorageSet","data":1"#;
    let ok = r#""channel":"c","event":"e""#;
    let brace = |text: &str| format!("{{{text}}}");
    for (body, status, code, part) in [
        (String::new(), 400, "INVALID_MESSAGE", "unfinished"),
        ("nope".into(), 400, "INVALID_MESSAGE", "not JSON"),
        ("[]".into(), 400, "INVALID_MESSAGE", "not a JSON object"),
        ("{}".into(), 400, "INVALID_MESSAGE", "\"channel\" must be a string"),
        (brace(r#""channel":1,"event":"e""#), 400, "INVALID_MESSAGE", "\"channel\""),
        (brace(r#""channel":"c""#), 400, "INVALID_MESSAGE", "\"event\""),
        (brace(r#""channel":"c","event":null"#), 400, "INVALID_MESSAGE", "\"event\""),
        (brace(r#""channel":"","event":"e""#), 400, "INVALID_CHANNEL", "256"),
        (brace(r#""channel":"a b","event":"e""#), 400, "INVALID_CHANNEL", "white space"),
        (brace(r##""channel":"#a","event":"e""##), 400, "INVALID_CHANNEL", "#"),
        (brace(&format!(r#""channel":"{c257}","event":"e""#)), 400, "INVALID_CHANNEL", "256"),
        (brace(r#""channel":"c","event":"""#), 400, "INVALID_EVENT", "128"),
        (brace(r#""channel":"c","event":"a*""#), 400, "INVALID_EVENT", "*"),
        (brace(r#""channel":"c","event":"hotsock.subscribe""#), 400, "INVALID_EVENT", "hotsock."),
        (brace(&format!(r#""channel":"c","event":"{e129}""#)), 400, "INVALID_EVENT", "128"),
        (brace(&format!(r#"{ok},"data":{large}"#)), 413, "DATA_TOO_LARGE", "32768"),
        (brace(&format!(r#"{ok},"emitPubSubEvent":1"#)), 400, "INVALID_MESSAGE", "emitPubSubEvent"),
        (brace(&format!(r#"{ok},"eagerIdGeneration":"y""#)), 400, "INVALID_MESSAGE", "eagerId"),
        (brace(&format!(r#"{ok},"deduplicationId":"""#)), 400, "INVALID_MESSAGE", "1 to 128"),
        (brace(&format!(r#"{ok},"deduplicationId":5"#)), 400, "INVALID_MESSAGE", "1 to 128"),
        (
            brace(&format!(r#"{ok},"deduplicationId":"{e129}""#)),
            400,
            "INVALID_MESSAGE",
            "deduplicationId",
        ),
        (brace(&format!(r#"{ok},"scheduleExpression":5"#)), 400, "INVALID_MESSAGE", "schedule"),
        (
            brace(&format!(r#"{ok},"scheduleExpression":"cron(* * * * * *)""#)),
            400,
            "INVALID_SCHEDULE_EXPRESSION",
            "at(",
        ),
        (
            brace(&format!(r#"{ok},"scheduleExpression":"at(2020-01-01T00:00:00)""#)),
            400,
            "INVALID_SCHEDULE_EXPRESSION",
            "past",
        ),
        (
            brace(&format!(
                r#"{ok},"scheduleExpression":"at(2099-01-01T00:00:00)","scheduleExpressionTimezone":"Mars""#
            )),
            400,
            "INVALID_SCHEDULE_EXPRESSION",
            "scheduleExpressionTimezone",
        ),
        (brace(set), 400, "INVALID_MESSAGE", "\"key\""),
        (brace(&format!(r#"{set},"key":"a b""#)), 400, "INVALID_KEY", "space"),
        (brace(&format!(r#"{set},"key":"k","data":{large}"#)), 413, "DATA_TOO_LARGE", "32768"),
    ] {
        let bench = Bench::publish(&body);
        let (is, text, message) = bench.refused();
        assert_eq!((is, &*text), (status, code), "{body:.80}: {message}");
        assert!(message.contains(part), "{body:.80}: {message}");
        assert!(bench.asked.is_empty());
    }
}

#[test]
fn data_is_measured_without_its_white_space() {
    let fits = format!("\"{}\"", "x".repeat(32_766));
    let bench = Bench::publish(&format!(r#"{{"channel":"c","event":"e","data":{fits}}}"#));
    assert_eq!(text(&bench.publishes().data), fits);
    let spaces = " ".repeat(40_000);
    let body = format!(r#"{{"channel":"c","event":"e","data":[{spaces}"a \" b",{spaces}1]}}"#);
    assert_eq!(text(&Bench::publish(&body).publishes().data), r#"["a \" b",1]"#);
}

#[test]
fn what_is_scheduled_is_done_later() {
    let later = r#""scheduleExpression":"at(2030-07-01T12:00:00)","deduplicationId":"d""#;
    let body = format!(
        r#"{{"channel":"c","event":"e","store":-1,"eagerIdGeneration":true,"scheduleExpressionTimezone":"Europe/Berlin",{later}}}"#
    );
    let bench = Bench::publish(&body);
    let Command::Schedule(it) = bench.command() else { panic!("{:?}", bench.asked) };
    assert_eq!(it.at.to_civil().to_string(), "2030-07-01T10:00:00.000Z");
    assert_eq!(&*it.key.as_ref().unwrap().name, "d");
    let Deferred::Publish(publish) = &it.what else { panic!("{it:?}") };
    assert_eq!((publish.retain, publish.key.is_some()), (Some(Keep::Forever), false));
    let told = bench.reply(Reply::Scheduled(EventId(5))).told();
    let arn = format!("arn:aws:scheduler:local:000000000000:schedule/default/{}", EventId(5));
    assert_eq!(told, (202, json!({"channel":"c","event":"e","scheduleArn":arn})));

    let body = format!(
        r#"{{"channel":"c","event":"hotsock.channelStorageSet","key":"k","data":1,{later}}}"#
    );
    let bench = Bench::publish(&body);
    let Command::Schedule(it) = bench.command() else { panic!("{:?}", bench.asked) };
    assert_eq!(it.at.to_civil().to_string(), "2030-07-01T12:00:00.000Z");
    assert!(matches!(&it.what, Deferred::SetValue(set) if &*set.key == "k"));
}

#[test]
fn a_value_that_comes_again_is_dropped() {
    let body = r#"{"channel":"c","event":"hotsock.channelStorageSet","key":"k","data":1,"deduplicationId":"d"}"#;
    let done = json!({"channel":"c","event":"hotsock.channelStorageSet"});
    let claimed = |bench: &Bench| {
        let Command::UseOnce(_, name, until) = bench.command() else { panic!("{:?}", bench.asked) };
        assert_eq!(*until, UnixMillis(NOW.wall.0 + 300_000));
        name.to_string()
    };
    let first = Bench::publish(body);
    let name = claimed(&first);
    let first = first.reply(Reply::Done);
    assert_eq!(&*first.sets().key, "k");
    assert_eq!(first.reply(Reply::Done).told(), (202, done.clone()));

    let again = Bench::publish(body);
    assert_eq!(claimed(&again), name);
    assert_eq!(again.reply(Reply::Refused(Refusal::Used)).told(), (202, done));
    // Another channel's is another.
    let other = Bench::publish(&body.replace("\"c\"", "\"o\""));
    assert_ne!(claimed(&other), name);

    let busy = Bench::publish(body).reply(Reply::Refused(Refusal::StoreBusy));
    assert_eq!(busy.told().0, 503);
    let failed = Bench::publish(body).reply(Reply::Done).reply(Reply::Refused(Refusal::StoreFull));
    let (status, _, text) = failed.refused();
    assert!(status == 503 && text.contains("its deduplicationId is used up"), "{text}");
}

#[test]
fn a_batch_is_done_in_order_and_each_item_for_itself() {
    let body = r#"{"messages":[
        {"channel":"a","event":"1","eagerIdGeneration":true},
        {"channel":"a","event":"*"},
        {"channel":"a","event":"hotsock.channelStorageSet","key":"k","data":1,"deduplicationId":"d"},
        {"channel":"a","event":"2","scheduleExpression":"at(2099-01-01T00:00:00)"},
        7,
        {"channel":"a","event":"3"}]}"#;
    let mut bench = Bench::send("POST", "/publish/batch", body);
    let tickets = |bench: &Bench| bench.asked.iter().map(|it| it.0.0).collect::<Vec<_>>();
    // The value is claimed; what comes after it waits.
    assert_eq!(tickets(&bench), [0, 2]);
    bench.asked.swap(0, 1);
    let bench = bench.reply(Reply::Done);
    assert_eq!(tickets(&bench), [0, 2, 3, 5]);
    assert!(matches!(bench.asked[1].1, Command::SetValue(_)));
    let bench = bench.reply(published(9)).reply(Reply::Done);
    let bench = bench.reply(Reply::Scheduled(EventId(4)));
    assert!(bench.answer.is_none());
    let bench = bench.reply(Reply::Refused(Refusal::StoreBusy));
    let (status, told) = bench.told();
    assert_eq!(status, 202);
    let results = told["results"].as_array().unwrap();
    assert_eq!(results.len(), 6);
    assert_eq!(results[0], json!({"channel":"a","event":"1","id":EventId(9).to_string()}));
    assert_eq!(results[1]["error"]["code"], "INVALID_EVENT");
    assert_eq!(results[2], json!({"channel":"a","event":"hotsock.channelStorageSet"}));
    assert!(results[3]["scheduleArn"].as_str().unwrap().ends_with(&EventId(4).to_string()));
    assert_eq!(results[4]["error"]["code"], "INVALID_MESSAGE");
    assert_eq!(results[5]["error"]["code"], "RATE_LIMITED");

    let many = |n: usize| {
        let items = vec![r#"{"channel":"a","event":"*"}"#; n].join(",");
        Bench::send("POST", "/publish/batch", &format!(r#"{{"messages":[{items}]}}"#))
    };
    assert_eq!(many(0).told(), (202, json!({"results":[]})));
    assert_eq!(many(100).told().1["results"].as_array().unwrap().len(), 100);
    let (status, code, text) = many(101).refused();
    assert_eq!((status, &*code), (400, "INVALID_MESSAGE"));
    assert!(text.contains("at most 100"), "{text}");
    for body in ["{}", r#"{"messages":{}}"#, "[]"] {
        assert_eq!(Bench::send("POST", "/publish/batch", body).told().0, 400, "{body}");
    }
}

#[test]
fn a_channel_is_described() {
    let described = |count| {
        Reply::Described(Box::new(Description { subscription_count: count, ..Default::default() }))
    };
    let bench = Bench::send("GET", "/channels/a%2Fb", "");
    assert!(matches!(bench.command(), Command::Describe(it) if *it == channel("#hotsock:a/b")));
    let told = bench.reply(described(3)).told();
    assert_eq!(told, (200, json!({"name":"a/b","subscriptionsCount":3})));

    let member = |uid: &str, umd: Option<&'static str>| {
        Arc::new(Member { user_id: uid.into(), info: umd.map(|it| Payload(it.into())) })
    };
    let members = vec![member("1", None), member("2", Some("[1]"))];
    let listed = json!([{"uid":"1","umd":null},{"uid":"2","umd":[1]}]);
    for members_first in [true, false] {
        let mut bench = Bench::send("GET", "/channels/presence.a", "");
        assert_eq!(bench.asked.len(), 2);
        let is_members = |it: &(Ticket, Command)| matches!(it.1, Command::Members(_));
        if is_members(&bench.asked[0]) != members_first {
            bench.asked.swap(0, 1);
        }
        let list = Reply::Members(members.clone());
        let bench = match members_first {
            true => bench.reply(list).reply(described(2)),
            false => bench.reply(described(2)).reply(list),
        };
        let expected = json!({"name":"presence.a","subscriptionsCount":2,"members":listed});
        assert_eq!(bench.told(), (200, expected));
    }
    for target in ["/channels/a%20b", "/channels/%ff", "/channels/%", "/channels//storage"] {
        let (status, code, _) = Bench::send("GET", target, "").refused();
        assert_eq!((status, &*code), (400, "INVALID_CHANNEL"), "{target}");
    }
}

#[test]
fn values_are_listed() {
    let asked = |target: &str| {
        let bench = Bench::send("GET", target, "");
        let Command::Values(it, query) = bench.command() else { panic!("{:?}", bench.asked) };
        assert_eq!(*it, channel("#hotsock:c"));
        assert!(query.admit.is_none() && query.values_max == 100 && query.bytes_max == 1 << 20);
        let keys = query.keys.as_ref().map(|it| it.iter().map(|it| it.to_string()).collect());
        (keys, query.after.as_ref().map(|it| it.to_string()))
    };
    let keys = |keys: &[&str]| Some(keys.iter().map(|it| it.to_string()).collect::<Vec<_>>());
    for (query, expected) in [
        ("", (None, None)),
        ("?after=", (None, None)),
        ("?after=k%2F1", (None, Some("k/1".to_owned()))),
        ("?keys=", (keys(&[]), None)),
        ("?keys=a,b%2Cc&after=a", (keys(&["a", "b", "c"]), Some("a".to_owned()))),
    ] {
        assert_eq!(asked(&format!("/channels/c/storage{query}")), expected, "{query}");
    }
    let many = |n: usize| vec!["k"; n].join(",");
    assert_eq!(asked(&format!("/channels/c/storage?keys={}", many(100))).0.unwrap().len(), 100);
    for (query, code) in [
        (format!("keys={}", many(101)), "INVALID_MESSAGE"),
        ("keys=a%20b".to_owned(), "INVALID_KEY"),
        ("keys=a,,b".to_owned(), "INVALID_KEY"),
        ("after=a%23".to_owned(), "INVALID_KEY"),
    ] {
        let (status, told, _) =
            Bench::send("GET", &format!("/channels/c/storage?{query}"), "").refused();
        assert_eq!((status, &*told), (400, code), "{query:.20}");
    }
    let value = |key: &str, data: &'static str| state::Value {
        key: key.into(),
        data: Payload(data.into()),
        meta: Payload(NULLS.into()),
    };
    let bench = Bench::send("GET", "/channels/c/storage", "");
    let bench = bench.reply(Reply::Values(vec![value("a", "1"), value("b", "{}")]));
    let nulls = json!({"uid":null,"umd":null});
    let items = json!([{"key":"a","data":1,"meta":nulls},{"key":"b","data":{},"meta":nulls}]);
    assert_eq!(bench.told(), (200, json!({ "items": items })));
    let bench = Bench::send("GET", "/channels/c/storage", "").reply(Reply::Values(Vec::new()));
    assert_eq!(bench.told(), (200, json!({"items":[]})));
}

#[test]
fn schedules_are_listed_and_cancelled() {
    let id = EventId(6).to_string();
    let arn = format!("arn:aws:scheduler:local:000000000000:schedule/default/{id}");
    let asked = |target: &str| {
        let bench = Bench::send("GET", target, "");
        let Command::Schedules(it) = bench.command() else { panic!("{:?}", bench.asked) };
        (it.after, it.only, it.schedules_max)
    };
    assert_eq!(asked("/schedules"), (None, None, 100));
    assert_eq!(asked(&format!("/schedules?after={id}&limit=5")), (Some(EventId(6)), None, 5));
    assert_eq!(asked(&format!("/schedules?after={arn}&limit=1")), (Some(EventId(6)), None, 1));
    assert_eq!(asked(&format!("/schedules/{id}")), (None, Some(EventId(6)), 1));
    let encoded = arn.replace(':', "%3A").replace('/', "%2F");
    assert_eq!(asked(&format!("/schedules/{encoded}")), (None, Some(EventId(6)), 1));
    for query in ["after=x", "limit=0", "limit=101", "limit=x"] {
        assert_eq!(Bench::send("GET", &format!("/schedules?{query}"), "").told().0, 400, "{query}");
    }
    let publish = Publish::new(channel("#hotsock:c"), "e".into(), Payload("[1]".into()), Nanos(0));
    let set = SetValue {
        channel: channel("news"),
        key: "k".into(),
        data: None,
        meta: Payload(NULLS.into()),
        keep: Keep::Forever,
        report: None,
        quiet: false,
    };
    let scheduled = |what| Scheduled { id: EventId(6), at: UnixMillis(1_900_000_000_000), what };
    let first = scheduled(Deferred::Publish(Box::new(publish)));
    let second = scheduled(Deferred::SetValue(Box::new(set)));
    let at = "2030-03-17T17:46:40Z";
    let one =
        json!({"id":id,"scheduleArn":arn,"scheduledFor":at,"channel":"c","event":"e","data":[1]});
    let two = json!({"id":id,"scheduleArn":arn,"scheduledFor":at,"channel":"news",
        "event":"hotsock.channelStorageSet","key":"k","data":null});
    let bench = Bench::send("GET", "/schedules", "");
    let bench = bench.reply(Reply::Schedules(vec![first.clone(), second]));
    assert_eq!(bench.told(), (200, json!({"schedules":[one, two]})));
    let target = format!("/schedules/{id}");
    let bench = Bench::send("GET", &target, "").reply(Reply::Schedules(vec![first]));
    assert_eq!(bench.told(), (200, one));
    let bench = Bench::send("GET", &target, "").reply(Reply::Schedules(Vec::new()));
    assert_eq!((bench.refused().0, &*bench.refused().1), (404, "NOT_FOUND"));

    let bench = Bench::send("DELETE", &target, "");
    assert!(matches!(bench.command(), Command::CancelSchedule(_, it) if *it == EventId(6)));
    assert_eq!(bench.reply(Reply::Done).told(), (200, json!({})));
    let bench = Bench::send("DELETE", &target, "").reply(Reply::Refused(Refusal::NotFound));
    assert_eq!((bench.refused().0, &*bench.refused().1), (404, "NOT_FOUND"));
    assert_eq!(Bench::send("DELETE", "/schedules/x", "").told().0, 404);
}

#[test]
fn what_comes_too_late_is_not_heard() {
    let bench = Bench::publish(r#"{"channel":"c","event":"e"}"#).reply(published(1));
    let mut bench = Bench { answer: None, ..bench };
    bench.input(Input::Reply(Ticket(0), published(2)));
    bench.input(Input::Reply(Ticket(99), Reply::Done));
    bench.input(Input::Body(b"{}"));
    assert!(bench.answer.is_none() && bench.asked.is_empty());
}
