//! What a subscribe token adds, what channels keep, who is known by what, and what the world outside is told.

use super::*;

#[test]
fn a_subscribe_token_adds_to_one_subscription() {
    let mut it = Bench::new(r#"{"scope":"connect","uid":"42","umd":1}"#);
    let subscribe = |channel: &str, claims: &str| {
        let token = token(claims);
        format!(
            r#"{{"event":"hotsock.subscribe","channel":"{channel}","data":{{"token":"{token}"}}}}"#
        )
    };
    // Only the token knows the alias.
    let claims = r#"{"scope":"subscribe","uid":"42","umd":{"n":2},"channels":{
        "real":{"subscribe":true,"alias":"me","messages":{"x":{"publish":true}}}}}"#;
    assert_eq!(it.one(&subscribe("me", claims)), "+#hotsock:real lane 10");
    assert!(it.send(r#"{"channel":"me","event":"x"}"#).is_empty());
    assert!(it.send(&subscribe("me", claims)).is_empty());
    assert_eq!(
        it.grant(),
        [
            r#"{"event":"hotsock.subscribed","channel":"real","data":{},"meta":{"channelAlias":"me","uid":"42","umd":{"n":2}}}"#,
            r#"publish #hotsock:real x null by {"uid":"42","umd":{"n":2}} to others quiet"#,
            r#"{"event":"hotsock.error","channel":"real","error":{"code":"ALREADY_SUBSCRIBED","message":"the channel is subscribed already"}}"#,
        ]
    );
    it.asks.clear();
    // Its rights end with it.
    it.send(r#"{"event":"hotsock.unsubscribe","channel":"me"}"#);
    let after = it.send(r#"{"channel":"real","event":"x"}"#);
    assert_eq!(short(&after), [".error PUBLISH_PERMISSION_DENIED real"]);
    // Of the connection's own id it may be anybody's.
    let claims = format!(
        r#"{{"scope":"subscribe","connectionId":"{}","uid":"7","channels":{{"presence.x":{{"subscribe":true}}}}}}"#,
        it.id()
    );
    assert_eq!(it.one(&subscribe("presence.x", &claims)), "+#hotsock:presence.x lane 10 as 7 1");
    let refused = it.refuse(Refusal::MembersTooLarge { bytes_max: 1 });
    assert_eq!(short(&refused), [".error PRESENCE_CHANNEL_CAPACITY_REACHED presence.x"]);
    for claims in [
        r#"{"scope":"subscribe","channels":{"b":{"subscribe":true}}}"#,
        r#"{"scope":"subscribe","uid":"","channels":{"b":{"subscribe":true}}}"#,
        r#"{"scope":"subscribe","uid":"43","channels":{"b":{"subscribe":true}}}"#,
        r#"{"scope":"connect","uid":"42","channels":{"b":{"subscribe":true}}}"#,
    ] {
        let words = it.send(&subscribe("b", claims));
        assert_eq!(short(&words), [".error INVALID_SUBSCRIBE_TOKEN b"], "{claims}");
    }
    let once = r#"{"scope":"subscribe","uid":"42","singleUse":true,"jti":"j","channels":{"b":{"subscribe":true}}}"#;
    assert_eq!(it.one(&subscribe("b", once)), "once j");
    assert_eq!(it.reply(Reply::Done), ["+#hotsock:b lane 10"]);
    assert_eq!(short(&it.grant()), [".subscribed b"]);
    it.send(r#"{"event":"hotsock.unsubscribe","channel":"b"}"#);
    it.send(&subscribe("b", once));
    assert_eq!(short(&it.refuse(Refusal::Used)), [".error INVALID_SUBSCRIBE_TOKEN b"]);
    it.send(&subscribe("b", once));
    assert_eq!(short(&it.refuse(Refusal::StoreBusy)), [".error RATE_LIMITED b"]);
}

#[test]
fn values_are_set_read_and_observed() {
    let rules =
        r#","storage":{"k":{"get":true,"set":true,"observe":true,"store":60},"w":{"set":true}}"#;
    let mut it = Bench::on(rules);
    let set = |data: &str| {
        format!(r#"{{"event":"hotsock.channelStorageSet","channel":"a","key":"k"{data}}}"#)
    };
    let by = "by {\"uid\":\"42\",\"umd\":null}";
    for (data, expected) in [
        ("", "nothing"),
        (",\"data\":null", "nothing"),
        (",\"data\":{ }", "nothing"),
        (",\"data\":[]", "[]"),
        (",\"data\":{\"a\":{}}", "{\"a\":{}}"),
    ] {
        assert_eq!(it.one(&set(data)), format!("set #hotsock:a k {expected} {by}"));
        assert!(it.reply(Reply::Done).is_empty());
    }
    it.send(&set(""));
    assert_eq!(short(&it.refuse(Refusal::StoreBusy)), [".error RATE_LIMITED a k"]);
    let get = r#"{"event":"hotsock.channelStorageGet","channel":"a","key":"k"}"#;
    for (found, expected) in [
        (vec![value("k", "[1]")], r#""data":[1],"meta":{"uid":"7","umd":null}}"#),
        (vec![], r#""data":null,"meta":null}"#),
    ] {
        assert_eq!(it.one(get), "values #hotsock:a 1");
        let head = r#"{"event":"hotsock.channelStorageData","channel":"a","key":"k","#;
        assert_eq!(it.reply(Reply::Values(found)), [format!("{head}{expected}")]);
    }
}

#[test]
fn a_new_subscriber_starts_with_the_values_it_observes() {
    for (rules, expected) in [
        (r#","storage":{"k":{"observe":true}}"#, "+#hotsock:a lane 12 values some"),
        (r#","storage":{"*":{"observe":true}}"#, "+#hotsock:a lane 12 values"),
        (r#","storage":{"*":{"get":true}}"#, "+#hotsock:a lane 10"),
    ] {
        let claims = format!(
            "{{\"scope\":\"connect\",\"channels\":{{\"a\":{{\"subscribe\":true{rules}}}}}}}"
        );
        let mut it = Bench::new(&claims);
        assert_eq!(it.one(r#"{"event":"hotsock.subscribe","channel":"a"}"#), expected);
        if !expected.contains("values") {
            continue;
        }
        let words = it.grant_with(vec![value("a", "1"), value("b", "2")], true);
        assert_eq!(
            short(&words),
            [".subscribed a", ".channelStorageUpdated a a", ".channelStorageUpdated a b", "ping",]
        );
        // The rest follows when the peer has taken the first: whoever reads slowly is not buried under it.
        assert_eq!(it.handle(Input::Pong), ["values #hotsock:a all after b"]);
        assert_eq!(
            words[1],
            r#"{"event":"hotsock.channelStorageUpdated","channel":"a","key":"a","data":1,"meta":{"uid":"7","umd":null}}"#
        );
        assert_eq!(
            short(&it.reply(Reply::Values(vec![value("k", "3")]))),
            [".channelStorageUpdated a k", "ping"]
        );
        assert_eq!(it.handle(Input::Pong), ["values #hotsock:a all after k"]);
        assert!(it.handle(Input::Pong).is_empty());
        assert!(it.reply(Reply::Values(vec![])).is_empty());
    }
}

#[test]
fn the_rest_of_the_values_is_for_the_subscription_that_observes_them() {
    let mut it =
        Bench::new(r#"{"scope":"connect","uid":"42","channels":{"a":{"subscribe":true}}}"#);
    let claims =
        r#"{"scope":"subscribe","uid":"42","channels":{"a":{"storage":{"*":{"observe":true}}}}}"#;
    let token = token(claims);
    it.send(&format!(
        r#"{{"event":"hotsock.subscribe","channel":"a","data":{{"token":"{token}"}}}}"#
    ));
    assert_eq!(short(&it.grant_with(vec![value("b", "1")], true)).last().unwrap(), "ping");
    assert_eq!(it.handle(Input::Pong), ["values #hotsock:a all after b"]);
    let asked = it.asks.pop_front();
    it.send(r#"{"event":"hotsock.unsubscribe","channel":"a"}"#);
    assert_eq!(it.one(r#"{"event":"hotsock.subscribe","channel":"a"}"#), "+#hotsock:a lane 10");
    assert_eq!(short(&it.grant()), [".subscribed a"]);
    it.asks.push_front(asked.unwrap());
    assert!(it.reply(Reply::Values(vec![value("c", "2")])).is_empty());
}

#[test]
fn metadata_changes_where_the_token_says() {
    let channels = r#"{"a":{"subscribe":true,"messages":{"*":{"publish":true}}},
        "presence.p":{"subscribe":true},"c":{"subscribe":true}}"#;
    let mut it = Bench::with_channels(channels);
    it.send(r#"{"event":"hotsock.subscribe","channel":"presence.p"}"#);
    it.grant();
    let update = |channel: &str, claims: &str| {
        let token = token(claims);
        format!(r#"{{"event":"hotsock.umdUpdate"{channel},"data":{{"token":"{token}"}}}}"#)
    };
    let publish = |it: &mut Bench| {
        let word = it.one(r#"{"channel":"a","event":"x"}"#);
        it.asks.clear();
        word
    };
    // A channel's.
    let one = r#"{"scope":"umd","uid":"42","umd":{"n":1},"channels":{"*":{"umdUpdate":true}}}"#;
    assert!(it.send(&update(",\"channel\":\"a\"", one)).is_empty());
    assert!(publish(&mut it).contains("\"umd\":{\"n\":1}"));
    assert_eq!(
        it.one(&update(",\"channel\":\"presence.p\"", one)),
        "renew #hotsock:presence.p 42 {\"n\":1}"
    );
    assert_eq!(
        short(&it.refuse(Refusal::MembersTooLarge { bytes_max: 1 })),
        [".error PRESENCE_CHANNEL_CAPACITY_REACHED presence.p"]
    );
    assert_eq!(short(&it.send(&update(",\"channel\":\"c\"", one))), [".error NOT_SUBSCRIBED c"]);
    assert_eq!(short(&it.send(&update("", one))), [".error UMD_UPDATE_PERMISSION_DENIED"]);
    // The connection's: what is subscribed stays as it is.
    let two = r#"{"scope":"umd","uid":"42","umd":2,"umdUpdate":true}"#;
    assert!(it.send(&update("", two)).is_empty());
    assert!(publish(&mut it).contains("\"umd\":{\"n\":1}"));
    it.send(r#"{"event":"hotsock.subscribe","channel":"c"}"#);
    assert!(it.grant()[0].ends_with("\"meta\":{\"uid\":\"42\",\"umd\":2}}"));
    // Everything's.
    let three = r#"{"scope":"umd","uid":"42","umdUpdate":true,"umdPropagate":true}"#;
    assert_eq!(it.one(&update("", three)), "renew #hotsock:presence.p 42 null");
    assert!(it.reply(Reply::Done).is_empty());
    assert!(publish(&mut it).contains("\"umd\":null"));
}

#[test]
fn a_member_whose_metadata_changed_on_its_way_is_renewed() {
    let channels = r#"{"scope":"connect","uid":"42","channels":{"presence.p":{"subscribe":true}}}"#;
    let mut it = Bench::new(channels);
    it.send(r#"{"event":"hotsock.subscribe","channel":"presence.p"}"#);
    let token = token(r#"{"scope":"umd","uid":"42","umd":1,"umdUpdate":true,"umdPropagate":true}"#);
    let update = format!(r#"{{"event":"hotsock.umdUpdate","data":{{"token":"{token}"}}}}"#);
    assert!(it.send(&update).is_empty());
    assert_eq!(short(&it.grant()), [".subscribed presence.p", "renew #hotsock:presence.p 42 1"]);
}

#[test]
fn a_reaction_is_judged_by_what_it_is_for() {
    let rules = r##","messages":{"chat":{"react":["x","y"]},"all":{"react":true},"no":{"publish":true},
        "hotsock.messageReaction":{"echo":true}}"##;
    let mut it = Bench::on(rules);
    let react = |id: EventId, reaction: &str, action: &str| {
        format!(
            r#"{{"event":"hotsock.messageReaction","channel":"a","data":{{"messageId":"{id}","reaction":"{reaction}","action":"{action}"}}}}"#
        )
    };
    for (found, reaction, action, expected) in [
        (kept(1, "chat", &[]), "x", "add", "hotsock.messageReactionAdded"),
        (kept(1, "chat", &[]), "y", "remove", "hotsock.messageReactionRemoved"),
        (kept(1, "all", &[]), "z", "add", "hotsock.messageReactionAdded"),
        (kept(1, "chat", &[]), "z", "add", ".error REACTION_PERMISSION_DENIED a"),
        (kept(1, "no", &[]), "x", "add", ".error REACTION_PERMISSION_DENIED a"),
    ] {
        let id = found.event.id;
        assert_eq!(it.one(&react(id, reaction, action)), format!("find #hotsock:a {id}"));
        let words = it.reply(Reply::Retained(vec![found]));
        if expected.starts_with('.') {
            assert_eq!(short(&words), [expected]);
            continue;
        }
        assert_eq!(
            words,
            [format!(
                "react #hotsock:a {expected} {{\"messageId\":\"{id}\",\"reaction\":\"{reaction}\",\
                 \"action\":\"{action}\"}} to {id} {{\"uid\":\"42\",\"umd\":null}}"
            )]
        );
        assert!(it.reply(Reply::Done).is_empty());
    }
    // Of a time before the subscription, or not there.
    let id = EventId::next(EventId::default(), UnixMillis(NOW.0 - 1), 1);
    for found in [vec![], vec![Retained { event: old(id), reactions: vec![] }]] {
        it.send(&react(id, "x", "add"));
        let words = it.reply(Reply::Retained(found));
        assert_eq!(short(&words), [".error MESSAGE_NOT_FOUND a"]);
    }
    it.send(&react(id, "x", "add"));
    it.send(r#"{"event":"hotsock.unsubscribe","channel":"a"}"#);
    let words = it.reply(Reply::Retained(vec![kept(1, "chat", &[])]));
    assert_eq!(short(&words), [".error NOT_SUBSCRIBED a"]);
    let wrong = r#"{"event":"hotsock.messageReaction","channel":"a","data":{"messageId":"x","reaction":"x","action":"add"}}"#;
    it.send(r#"{"event":"hotsock.subscribe","channel":"a"}"#);
    it.grant();
    assert_eq!(short(&it.send(wrong)), [".error MESSAGE_NOT_FOUND a"]);
}

fn old(id: EventId) -> Arc<Event> {
    Arc::new(Event { id, ..(*kept(0, "chat", &[]).event).clone() })
}

#[test]
fn what_is_asked_over_http_is_done_by_the_connection() {
    let rules = r#","getInfo":true,"messages":{"x":{"publish":true,"store":1,"scheduleBefore":1700000100}},
        "storage":{"k":{"get":true,"set":true,"scheduleBefore":1700000100}}"#;
    let mut it = Bench::on(rules);
    let key = r#"{"channel":"a","key":"k"}"#;
    let at = r#""scheduleExpression":"at(2023-11-14T22:14:00)""#;
    let arn = format!("arn:aws:scheduler:local:000000000000:schedule/default/{}", EventId(7));
    let done =
        |event: &str, rest: &str| format!("202 {{\"channel\":\"a\",\"event\":\"{event}\"{rest}}}");
    for (op, body, reply, expected) in [
        (
            Op::PublishMessage,
            r#"{"channel":"a","event":"x"}"#.to_owned(),
            published(7),
            done("x", ""),
        ),
        (
            Op::PublishMessage,
            r#"{"channel":"a","event":"x","eagerIdGeneration":true}"#.to_owned(),
            published(7),
            done("x", &format!(",\"id\":\"{}\"", EventId(7))),
        ),
        (
            Op::PublishMessage,
            format!(r#"{{"channel":"a","event":"x","eagerIdGeneration":true,{at}}}"#),
            Reply::Scheduled(EventId(7)),
            done("x", &format!(",\"scheduleArn\":\"{arn}\"")),
        ),
        (Op::StorageSet, key.to_owned(), Reply::Done, done("hotsock.channelStorageSet", "")),
        (
            Op::StorageSet,
            format!(r#"{{"channel":"a","key":"k",{at}}}"#),
            Reply::Scheduled(EventId(7)),
            done("hotsock.channelStorageSet", &format!(",\"scheduleArn\":\"{arn}\"")),
        ),
        (
            Op::StorageGet,
            key.to_owned(),
            Reply::Values(vec![value("k", "1")]),
            r#"200 {"event":"hotsock.channelStorageData","channel":"a","key":"k","data":1,"meta":{"uid":"7","umd":null}}"#.to_owned(),
        ),
        (
            Op::StorageList,
            r#"{"channel":"a","keys":["k","z"],"after":"b"}"#.to_owned(),
            Reply::Values(vec![value("k", "1"), value("l", "2")]),
            r#"200 {"items":[{"key":"k","data":1,"meta":{"uid":"7","umd":null}},{"key":"l","data":2,"meta":{"uid":"7","umd":null}}]}"#.to_owned(),
        ),
        (
            Op::ChannelInfo,
            r#"{"channel":"a"}"#.to_owned(),
            Reply::Described(Box::new(Description { subscription_count: 3, ..Default::default() })),
            r#"200 {"channel":"a","subscriptionsCount":3}"#.to_owned(),
        ),
        (
            Op::ListMessages,
            r#"{"channel":"a"}"#.to_owned(),
            Reply::Retained(vec![kept(1, "x", &[]), kept(2, "y", &[("👍", "1"), ("x", "1"), ("👍", "2")])]),
            format!(
                r#"200 {{"messages":[{{"id":"{}","event":"x","channel":"a","data":1,"meta":{{"uid":null,"umd":null}}}},{{"id":"{}","event":"y","channel":"a","data":1,"meta":{{"uid":null,"umd":null}},"reactions":{{"👍":{{"count":2}},"x":{{"count":1}}}}}}]}}"#,
                kept(1, "", &[]).event.id,
                kept(2, "", &[]).event.id
            ),
        ),
        (
            Op::ListMessages,
            r#"{"channel":"a","expandReactions":true}"#.to_owned(),
            Reply::Retained(vec![kept(1, "x", &[]), kept(2, "y", &[("👍", "1")])]),
            format!(
                r#"200 {{"messages":[{{"id":"{}","event":"x","channel":"a","data":1,"meta":{{"uid":null,"umd":null}},"reactions":{{}}}},{{"id":"{}","event":"y","channel":"a","data":1,"meta":{{"uid":null,"umd":null}},"reactions":{{"👍":{{"count":1,"items":[{{"uid":"1"}}]}}}}}}]}}"#,
                kept(1, "", &[]).event.id,
                kept(2, "", &[]).event.id
            ),
        ),
        (
            Op::ListReactions,
            format!(r#"{{"channel":"a","messageId":"{}"}}"#, kept(1, "", &[]).event.id),
            Reply::Retained(vec![kept(1, "x", &[("👍", "1")])]),
            r#"200 {"reactions":[{"reaction":"👍","uid":"1"}]}"#.to_owned(),
        ),
        (
            Op::ListReactions,
            format!(r#"{{"channel":"a","messageId":"{}"}}"#, kept(1, "", &[]).event.id),
            Reply::Retained(vec![]),
            r#"200 {"reactions":[]}"#.to_owned(),
        ),
        (
            Op::ListReactions,
            format!(r#"{{"channel":"a","messageId":"{}"}}"#, kept(1, "", &[]).event.id),
            Reply::Refused(Refusal::StoreBusy),
            r#"503 {"error":{"code":"RATE_LIMITED","message":"the store cannot take more at this moment"}}"#.to_owned(),
        ),
    ] {
        let asked = it.call(op, &body);
        assert_eq!(asked.len(), 1, "{op:?} {asked:?}");
        assert!(!asked[0].contains("quiet") && it.asks.len() == 1, "{op:?} {asked:?}");
        assert_eq!(it.reply(reply), [expected], "{op:?} {body}");
    }
    let list = r#"{"channel":"a","reverse":true,"after":"01JA3HVNF6E89HDT1ABRFWJ8CA","before":"01JA3HVNF6E89HDT1ABRFWJ8CA","limit":7}"#;
    let from = NOW.0;
    assert_eq!(
        it.call(Op::ListMessages, list),
        [format!("list #hotsock:a from {from} before reverse 7")]
    );
    it.asks.clear();
    let list = list.replace("true", "false");
    assert_eq!(it.call(Op::ListMessages, &list), [format!("list #hotsock:a from {from} after 7")]);
}

#[test]
fn what_is_wrong_over_http_has_its_status() {
    let rules = r#","messages":{"x":{"publish":true}}"#;
    let mut it = Bench::on(rules);
    let keys = format!("[{}]", vec!["\"k\""; 101].join(","));
    let big = format!(r#"{{"channel":"a","event":"x","data":"{}"}}"#, "x".repeat(33_000));
    let token = token(r#"{"scope":"umd","uid":"42","channels":{"*":{"umdUpdate":true}}}"#);
    for (op, body, expected) in [
        (Op::ListMessages, "", "400 INVALID_MESSAGE"),
        (Op::ListMessages, "x", "400 INVALID_MESSAGE"),
        (Op::ListMessages, "[]", "400 INVALID_MESSAGE"),
        (Op::ListMessages, r#"{"channel":1}"#, "400 INVALID_MESSAGE"),
        (Op::ListMessages, r#"{"channel":"a","limit":0}"#, "400 INVALID_MESSAGE"),
        (Op::ListMessages, r#"{"channel":"a","limit":101}"#, "400 INVALID_MESSAGE"),
        (Op::ListMessages, r#"{"channel":"a","after":"x"}"#, "400 INVALID_MESSAGE"),
        (Op::ListMessages, r#"{"channel":"a","reverse":1}"#, "400 INVALID_MESSAGE"),
        (Op::ListMessages, r#"{"channel":"b"}"#, "403 NOT_SUBSCRIBED"),
        (Op::ListMessages, r#"{"channel":"b c"}"#, "400 INVALID_CHANNEL"),
        (Op::ListReactions, r#"{"channel":"a"}"#, "400 INVALID_MESSAGE"),
        (Op::ListReactions, r#"{"channel":"a","messageId":"x"}"#, "400 INVALID_MESSAGE"),
        (Op::PublishMessage, r#"{"channel":"a"}"#, "400 INVALID_MESSAGE"),
        (Op::PublishMessage, r#"{"channel":"a","event":"hotsock.ping"}"#, "400 INVALID_EVENT"),
        (
            Op::PublishMessage,
            r#"{"channel":"a","event":"hotsock.channelStorageSet","key":"k"}"#,
            "400 INVALID_EVENT",
        ),
        (Op::PublishMessage, r#"{"channel":"a","event":"y"}"#, "403 PUBLISH_PERMISSION_DENIED"),
        (Op::PublishMessage, &big, "413 DATA_TOO_LARGE"),
        (
            Op::PublishMessage,
            r#"{"channel":"a","event":"x","scheduleExpression":"at(2001-01-01T00:00:00)"}"#,
            "400 INVALID_SCHEDULE_EXPRESSION",
        ),
        (Op::StorageGet, r#"{"channel":"a","key":"k"}"#, "403 STORAGE_PERMISSION_DENIED"),
        (Op::StorageSet, r#"{"channel":"a","key":"k"}"#, "403 STORAGE_PERMISSION_DENIED"),
        (Op::StorageSet, r#"{"channel":"a","key":"k k"}"#, "400 INVALID_KEY"),
        (Op::StorageList, &format!(r#"{{"channel":"a","keys":{keys}}}"#), "400 INVALID_MESSAGE"),
        (Op::StorageList, r#"{"channel":"a","keys":[1]}"#, "400 INVALID_MESSAGE"),
        (Op::ChannelInfo, r#"{"channel":"a"}"#, "403 CHANNEL_INFO_PERMISSION_DENIED"),
        (Op::UmdUpdate, "{}", "400 INVALID_MESSAGE"),
        (Op::UmdUpdate, r#"{"token":"x"}"#, "403 INVALID_UMD_TOKEN"),
        (Op::UmdUpdate, &format!(r#"{{"token":"{token}","channel":"b"}}"#), "403 NOT_SUBSCRIBED"),
    ] {
        let words = it.call(op, body);
        let (status, body) = words[0].split_once(' ').unwrap();
        let body = json::parse_str(body).unwrap();
        let code = body.member("error").and_then(|it| it.member("code")).unwrap();
        let found = format!("{status} {}", code.as_str().unwrap());
        assert_eq!((words.len(), &*found), (1, expected), "{op:?} {body:?}");
    }
    assert_eq!(it.call(Op::StorageList, r#"{"channel":"a"}"#), [r#"200 {"items":[]}"#]);
    let body = format!(r#"{{"token":"{token}","channel":"a"}}"#);
    assert_eq!(it.call(Op::UmdUpdate, &body), ["200 {}"]);
    // The secret, not the id alone, opens.
    for secret in [&b""[..], b"x", b"aaaaaaaaaaaaaaaaaaaa"] {
        assert!(it.call_with(Op::ChannelInfo, "{}", secret)[0].starts_with("401 "));
    }
    // What is under way is bounded, and answered at the end.
    let publish = r#"{"channel":"a","event":"x"}"#;
    let words: Vec<_> =
        (0..session::DOING_MAX + 2).flat_map(|_| it.call(Op::PublishMessage, publish)).collect();
    assert_eq!(words.iter().filter(|it| it.starts_with("429 ")).count(), 2);
    let ended = it.handle(Input::Closed);
    assert_eq!(ended.iter().filter(|it| it.starts_with("401 ")).count(), session::DOING_MAX);
}

#[test]
fn history_opens_what_was_before_the_subscription() {
    let rules = r#","historyStart":1600000000"#;
    let mut it = Bench::on(rules);
    let list = r#"{"channel":"a"}"#;
    assert_eq!(it.call(Op::ListMessages, list), ["list #hotsock:a from 1600000000000 100"]);
    // What is to come hides nothing.
    let mut it = Bench::on(r#","historyStart":1800000000"#);
    let expected = format!("list #hotsock:a from {} 100", NOW.0);
    assert_eq!(it.call(Op::ListMessages, list), [expected]);
}

#[test]
fn a_presence_channel_is_described_with_its_members() {
    let rules = r#"{"scope":"connect","channels":{"presence.p":{"getInfo":true}}}"#;
    let mut it = Bench::new(rules);
    assert_eq!(
        it.call(Op::ChannelInfo, r#"{"channel":"presence.p"}"#),
        ["describe #hotsock:presence.p"]
    );
    assert_eq!(it.reply(Reply::Described(Box::default())), ["members #hotsock:presence.p"]);
    let member = Arc::new(Member { user_id: "7".into(), info: Some(payload("[1]")) });
    assert_eq!(
        it.reply(Reply::Members(vec![member])),
        [
            r#"200 {"channel":"presence.p","subscriptionsCount":0,"members":[{"uid":"7","umd":[1]}]}"#
        ]
    );
}

#[test]
fn pages_end_before_they_are_too_long() {
    let mut it = Bench::on("");
    it.call(Op::ListMessages, r#"{"channel":"a"}"#);
    let large = |n: u64| {
        let mut it = kept(n, "x", &[]);
        let mut event = (*it.event).clone();
        let data = payload(&format!("\"{}\"", "x".repeat(30_000)));
        event.happening = Happening::Message { name: "x".into(), data, sender: None };
        it.event = Arc::new(event);
        it
    };
    let words = it.reply(Reply::Retained((1..=60).map(large).collect()));
    assert!(words[0].len() < (1 << 20) + 64);
    assert_eq!(words[0].matches("\"event\":\"x\"").count(), 34);
}

#[test]
fn the_world_outside_is_told_if_it_wants_to_be() {
    let claims = r#"{"scope":"connect","uid":"42","channels":{"a":{"subscribe":true,
        "messages":{"x":{"publish":true,"emitPubSubEvent":true}},
        "storage":{"k":{"set":true,"emitPubSubEvent":true}}}}}"#;
    let mut it = Bench::entering(&dialect(true, |_, _| {}), claims);
    let id = it.id();
    let source = r#"report {"source":"hotsock.v1","type":"#;
    let words = it.handle(Input::Opened);
    let connection = |kind: &str, ended: &str| {
        format!(
            r#"{source}"hotsock.{kind}","metadata":{{"hotsockVersion":"1.13.5"}},"data":{{"id":"{id}","connectedAt":"2023-11-14T22:13:20.000000000Z","disconnectedAt":{ended},"keepAlive":false,"sourceIp":"127.0.0.1","uid":"42","umd":null,"userAgent":"test/1"}},"dataType":"connection"}}"#
        )
    };
    let subscription = |kind: &str| {
        format!(
            r#"{source}"hotsock.{kind}","metadata":{{"hotsockVersion":"1.13.5","channel":"a"}},"data":{{"channel":"a","connectionId":"{id}","uid":"42","umd":null}},"dataType":"subscription"}}"#
        )
    };
    assert_eq!(words[3], connection("connected", "null"));
    it.send(r#"{"event":"hotsock.subscribe","channel":"a"}"#);
    assert_eq!(it.grant()[1], subscription("subscribed"));
    let publish = it.one(r#"{"channel":"a","event":"x"}"#);
    let (_, about) = publish.split_once("report ").unwrap();
    let about = json::parse_str(about).unwrap();
    let member = |name| about.member(name).and_then(|it| it.as_str());
    assert_eq!(member("trigger").as_deref(), Some("client.websocket"));
    assert_eq!(member("connectionId").as_deref(), Some(&*id));
    assert_eq!(member("sourceIp").as_deref(), Some("127.0.0.1"));
    assert_eq!(member("requestId").map(|it| it.len()), Some(36));
    it.asks.clear();
    let set = it.call(Op::StorageSet, r#"{"channel":"a","key":"k"}"#);
    let about = format!(
        r#"{{"trigger":"client.http","connectionId":"{id}","sourceIp":"10.0.0.1","userAgent":"curl"}}"#
    );
    assert!(set[0].ends_with(&about), "{set:?}");
    let token = token(r#"{"scope":"umd","uid":"42","umdUpdate":true,"umd":null}"#);
    let update = format!(r#"{{"event":"hotsock.umdUpdate","data":{{"token":"{token}"}}}}"#);
    assert!(it.send(&update).is_empty(), "it is what it was");
    let ended = it.handle(Input::Closed);
    assert_eq!(ended[1], subscription("unsubscribed"));
    assert_eq!(ended[2], connection("disconnected", "\"2023-11-14T22:13:20.000000000Z\""));
    // One that was never let in is no connection.
    let mut it = Bench::entering(&dialect(true, |_, _| {}), claims);
    assert!(it.handle(Input::Closed).is_empty());
}

fn event(name: &str, happening: Happening, meta: Meta) -> Event {
    let mut event = (*kept(0, "x", &[]).event).clone();
    event.channel.name = name.into();
    event.happening = happening;
    event.meta = Some(Arc::new(meta));
    event
}

fn by(text: &str) -> Meta {
    Meta { publisher: Some(payload(text)), ..Meta::default() }
}

fn sent(name: &str, sender: Option<crate::broker::Sender>) -> Happening {
    Happening::Message { name: name.into(), data: payload("{\"a\":1}"), sender }
}

#[test]
fn events_are_rendered_as_subscribers_take_them() {
    let it = dialect(false, |_, _| {});
    let rendered = |lane: usize, event: &Event| {
        let mut out = Vec::new();
        it.render(lane, event, &mut out).then(|| String::from_utf8(out).unwrap())
    };
    let id = kept(0, "", &[]).event.id;
    let sender = |user: Option<&str>| {
        let connection = ConnectionId::from_pair(1, 1);
        Some(crate::broker::Sender { connection, user_id: user.map(Name::from) })
    };
    let head = format!(r#"{{"id":"{id}","event":"x","channel":"a","data":{{"a":1}}"#);
    let late = Meta { was_due: Some(UnixMillis(1_700_000_000_999)), ..Meta::default() };
    for (name, happening, meta, expected) in [
        ("#hotsock:a", sent("x", None), Meta::default(), "}"),
        (
            "#hotsock:a",
            sent("x", sender(None)),
            by("{\"uid\":\"1\",\"umd\":2}"),
            r#","meta":{"uid":"1","umd":2}}"#,
        ),
        ("a", sent("x", sender(Some("7"))), Meta::default(), r#","meta":{"uid":"7","umd":null}}"#),
        ("a", sent("x", sender(None)), Meta::default(), r#","meta":{"uid":null,"umd":null}}"#),
        ("a", sent("x", None), late, r#","late":true,"scheduledFor":"2023-11-14T22:13:20Z"}"#),
    ] {
        let event = event(name, happening, meta);
        for lane in 0..4 {
            assert_eq!(rendered(lane, &event).unwrap(), format!("{head}{expected}"));
        }
    }
    let change = |is_expired| {
        Happening::ValueChanged(Arc::new(crate::broker::state::ValueChange {
            key: "k".into(),
            data: None,
            previous: Some(payload("1")),
            meta: payload("{}"),
            is_expired,
            expires: None,
        }))
    };
    let changed = event("#hotsock:a", change(false), Meta::default());
    assert!(rendered(0, &changed).is_none() && rendered(1, &changed).is_none());
    assert_eq!(
        rendered(2, &changed).unwrap(),
        r#"{"event":"hotsock.channelStorageUpdated","channel":"a","key":"k","data":null,"meta":{}}"#
    );
    assert!(rendered(2, &event("#hotsock:a", change(true), Meta::default())).is_none());
    let member = Arc::new(Member { user_id: "7".into(), info: Some(payload("[1]")) });
    let presence =
        Arc::new(crate::broker::Presence { member: member.clone(), members: vec![member] });
    for (happening, name) in [
        (Happening::MemberAdded(presence.clone()), "memberAdded"),
        (Happening::MemberUpdated(presence.clone()), "memberUpdated"),
        (Happening::MemberRemoved(presence), "memberRemoved"),
    ] {
        let there = event("#hotsock:presence.p", happening.clone(), Meta::default());
        assert_eq!(
            rendered(1, &there).unwrap(),
            format!(
                r#"{{"event":"hotsock.{name}","channel":"presence.p","data":{{"member":{{"uid":"7","umd":[1]}},"members":[{{"uid":"7","umd":[1]}}]}}}}"#
            )
        );
        // Another protocol's presence channel has no members here.
        assert!(rendered(1, &event("presence-p", happening, Meta::default())).is_none());
    }
    let count = event("#hotsock:a", Happening::SubscriptionCount(1), Meta::default());
    assert!(rendered(2, &count).is_none());
}

#[test]
fn reports_have_the_references_shapes() {
    let it = dialect(true, |_, _| {});
    let about = payload(r#"{"trigger":"server.http","requestId":"r"}"#);
    let report = |event: &Event, about: Option<&Payload>| {
        let mut told = Vec::new();
        it.report(event, about, &mut told);
        let report = told.pop()?;
        json::parse(&report.body.0).unwrap();
        let fields: Vec<_> = report.fields.iter().map(|(_, value)| &**value).collect();
        Some(format!("{} {}", fields.join(" "), std::str::from_utf8(&report.body.0).unwrap()))
    };
    let id = kept(0, "", &[]).event.id;
    let message = event("#hotsock:ä", sent("x", None), Meta::default());
    assert_eq!(
        report(&message, Some(&about)).unwrap(),
        format!(
            r#"hotsock.messagePublished message %C3%A4 {{"source":"hotsock.v1","type":"hotsock.messagePublished","metadata":{{"hotsockVersion":"1.13.5","channel":"ä","trigger":"server.http","requestId":"r","event":"x"}},"data":{{"id":"{id}","event":"x","channel":"ä","data":{{"a":1}}}},"dataType":"message"}}"#
        )
    );
    assert!(report(&message, None).is_none());
    let by_someone = event("#hotsock:a", sent("x", None), by("{\"uid\":\"1\",\"umd\":null}"));
    assert!(
        report(&by_someone, Some(&about)).unwrap().contains(r#""meta":{"uid":"1","umd":null}}"#)
    );
    let by_nobody = event("#hotsock:a", sent("x", None), by("{\"uid\":null,\"umd\":null}"));
    assert!(!report(&by_nobody, Some(&about)).unwrap().contains("meta\":{\"uid"));
    let data = payload(r#"{"messageId":"m","reaction":"👍","action":"add"}"#);
    let said =
        Happening::Message { name: "hotsock.messageReactionAdded".into(), data, sender: None };
    let meta = Meta {
        extras: Some(payload(r#"{"at":5,"expires":7999}"#)),
        ..by("{\"uid\":\"1\",\"umd\":2}")
    };
    assert_eq!(
        report(&event("#hotsock:a", said, meta), Some(&about)).unwrap(),
        format!(
            r#"hotsock.messageReactionAdded messageReaction a {{"source":"hotsock.v1","type":"hotsock.messageReactionAdded","metadata":{{"hotsockVersion":"1.13.5","channel":"a","trigger":"server.http","requestId":"r","reaction":"👍"}},"data":{{"channel":"a","messageId":"m","id":"{id}","reaction":"👍","uid":"1","umd":2,"createdAt":5,"expiresAt":7}},"dataType":"messageReaction"}}"#
        )
    );
    let change = crate::broker::state::ValueChange {
        key: "k".into(),
        data: None,
        previous: Some(payload("1")),
        meta: payload("{}"),
        is_expired: true,
        expires: Some(UnixMillis(7_999)),
    };
    let changed = event("#hotsock:a", Happening::ValueChanged(Arc::new(change)), Meta::default());
    assert!(report(&changed, Some(&about)).unwrap().contains(
        r#""key":"k"},"data":{"channel":"a","key":"k","data":null,"dataPrevious":1,"expired":true,"expiresAt":7,"meta":{}},"dataType":"channelStorage"}"#
    ));
    let count = |name: &str| event(name, Happening::SubscriptionCount(3), Meta::default());
    assert!(report(&count("#hotsock:a"), None).unwrap().contains(
        r#""metadata":{"hotsockVersion":"1.13.5","channel":"a"},"data":{"name":"a","subscriptionsCount":3},"dataType":"channel"}"#
    ));
    assert!(report(&count("news"), None).is_some() && report(&count("other"), None).is_none());
    let member = Arc::new(Member { user_id: "7".into(), info: None });
    let presence =
        Arc::new(crate::broker::Presence { member: member.clone(), members: vec![member] });
    let joined = event("#hotsock:presence.p", Happening::MemberAdded(presence), Meta::default());
    assert!(report(&joined, None).unwrap().contains(
        r#""data":{"uid":"7","umd":null,"members":[{"uid":"7","umd":null}]},"dataType":"channelMember"}"#
    ));
    // What another protocol's publisher says about an event is not for us to read.
    let bridged = event("news", sent("x", None), Meta::default());
    assert!(report(&bridged, Some(&about)).is_some());
    assert!(report(&bridged, Some(&payload("{}"))).is_none());
    // Without anyone to tell there is nothing to tell.
    let mut told = Vec::new();
    dialect(false, |_, _| {}).report(&count("#hotsock:a"), None, &mut told);
    assert!(told.is_empty());
}
