use super::*;

fn error(json: &str) -> String {
    match Claims::parse(json) {
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    }
}

fn with(claims: &str) -> String {
    format!(r#"{{"exp":1800000000,"scope":"connect subscribe",{claims}}}"#)
}

fn good(claims: &str) -> Claims {
    let json = with(claims);
    Claims::parse(&json).unwrap_or_else(|error| panic!("{json}: {error}"))
}

#[test]
fn claims_have_types_bounds_and_defaults() {
    let least = Claims::parse(r#"{"exp":1,"scope":""}"#).unwrap();
    assert_eq!(least.expires, UnixMillis(1000));
    assert!(!least.connects && !least.subscribes && !least.updates_umd && !least.opens());
    assert!(!least.single_use && !least.keep_alive && !least.umd_update && !least.umd_propagate);
    assert!(!least.has_uid && !least.has_umd);
    assert_eq!((&least.connection_id, &least.jti, &least.heartbeat), (&None, &None, &None));
    assert_eq!((&least.uid, &least.umd, least.held_bytes()), (&None, &None, 0));
    assert_eq!(least.literal_channels().count() + least.auto_subscribe().count(), 0);

    let all = Claims::parse(
        r#"{"exp":1800000000.25,"scope":"umd subscribe  connect other","singleUse":true,"jti":"j",
        "connectionId":"c=","uid":"Ada","umd":{ "a" : [1, "x y"] },"keepAlive":true,
        "heartbeatTimeout":30,"umdUpdate":true,"umdPropagate":true,"iat":"later","sub":7}"#,
    )
    .unwrap();
    assert_eq!(all.expires, UnixMillis(1_800_000_000_250));
    assert!(all.connects && all.subscribes && all.updates_umd && !all.opens());
    assert!(all.single_use && all.keep_alive && all.umd_update && all.umd_propagate);
    assert!(all.has_uid && all.has_umd);
    assert_eq!(all.connection_id.as_deref(), Some("c="));
    assert_eq!((all.uid.as_deref(), all.jti.as_deref()), (Some("Ada"), Some("j")));
    assert_eq!(all.umd.as_ref().map(|it| &it.0[..]), Some(&br#"{"a":[1,"x y"]}"#[..]));
    assert_eq!(all.heartbeat, Some(Millis(30_000)));
    assert_eq!(all.held_bytes(), 2 + 3 + 1 + 15);

    let none =
        good(r#""uid":null,"umd":null,"singleUse":null,"connectionId":null,"channels":null"#);
    assert!(none.has_uid && none.has_umd && none.uid.is_none() && none.umd.is_none());
    assert!(none.opens() && !none.single_use);
    let last = good(r#""uid":"a","uid":"b","channels":{"a":{}},"channels":{"b":{}}"#);
    assert_eq!(last.uid.as_deref(), Some("b"));
    assert_eq!(last.literal_channels().collect::<Vec<_>>(), ["b"]);
}

#[test]
fn a_token_of_which_one_part_is_wrong_is_refused() {
    let long = |n| "é".repeat(n);
    let (uid_max, uid_over) = (long(128), long(129));
    let umd = |n: usize| format!("[\"{}\" , 1]", "a".repeat(n - 6));
    for (claims, expected) in [
        ("\"a\":1", ""),
        ("\"uid\":7", "uid must be a string"),
        (&format!("\"uid\":\"{uid_max}\""), ""),
        (&format!("\"uid\":\"{uid_over}\""), "uid must have at most 128 characters"),
        (&format!("\"umd\":{}", umd(1024)), ""),
        (&format!("\"umd\":{}", umd(1025)), "umd must be at most 1024 bytes"),
        ("\"scope\":[\"connect\"]", "scope must be a string"),
        ("\"exp\":\"1\"", "exp must be a number of seconds since 1970"),
        ("\"exp\":null", "exp is missing"),
        ("\"singleUse\":1,\"jti\":\"a\"", "singleUse must be true or false"),
        ("\"singleUse\":true", "singleUse needs a jti that no other token has"),
        ("\"singleUse\":true,\"jti\":\"\"", "singleUse needs a jti that no other token has"),
        ("\"singleUse\":true,\"jti\":null", "singleUse needs a jti that no other token has"),
        ("\"singleUse\":true,\"jti\":5", "jti must be a string"),
        ("\"singleUse\":true,\"jti\":\"a\"", ""),
        ("\"connectionId\":1", "connectionId must be a string"),
        ("\"keepAlive\":\"true\"", "keepAlive must be true or false"),
        ("\"umdUpdate\":1", "umdUpdate must be true or false"),
        ("\"umdPropagate\":[]", "umdPropagate must be true or false"),
        ("\"heartbeatTimeout\":5", ""),
        ("\"heartbeatTimeout\":600.0", ""),
        (
            "\"heartbeatTimeout\":4",
            "heartbeatTimeout must be a whole number of seconds from 5 to 600",
        ),
        (
            "\"heartbeatTimeout\":601",
            "heartbeatTimeout must be a whole number of seconds from 5 to 600",
        ),
        (
            "\"heartbeatTimeout\":5.5",
            "heartbeatTimeout must be a whole number of seconds from 5 to 600",
        ),
        (
            "\"heartbeatTimeout\":true",
            "heartbeatTimeout must be a whole number of seconds from 5 to 600",
        ),
        ("\"channels\":[]", "channels must be an object"),
        ("\"channels\":\"room\"", "channels must be an object"),
    ] {
        assert_eq!(error(&with(claims)), expected, "{claims}");
    }
    for (json, expected) in [
        ("", "the claims must be a JSON object"),
        ("[]", "the claims must be a JSON object"),
        ("{", "the claims must be a JSON object"),
        ("{}", "exp is missing"),
        (r#"{"exp":1}"#, "scope is missing"),
        (r#"{"scope":"connect"}"#, "exp is missing"),
        (r#"{"exp":1,"scope":null}"#, "scope is missing"),
        (
            &with(&format!("\"a\":\"{}\"", "a".repeat(TOKEN_BYTES_MAX))),
            "the claims must be at most 16384 bytes",
        ),
    ] {
        assert_eq!(error(json), expected, "{json:.40}");
    }
}

#[test]
fn directives_have_types_and_bounds() {
    const SWITCH: &str = "must be true or false";
    const TIME: &str = "must be a number of seconds since 1970";
    const STORE: &str = "must be -1, 0 or up to 3155695200";
    const KEPT: &str = "must be -1 or 1 to 3155695200";
    const REACT: &str = "must be true, false or an array of strings";
    for (above, directive, good, bad, allowed) in [
        ("", "subscribe", &["true", "false", "null"][..], &["1", "\"true\"", "{}"][..], SWITCH),
        ("", "autoSubscribe", &["true", "false", "null"], &["0", "[]"], SWITCH),
        ("", "alias", &["\"me\"", "null"], &["7", "true"], "must be a string"),
        ("", "historyStart", &["0", "1.5", "-1", "null"], &["\"0\"", "true", "1e999"], TIME),
        ("", "getInfo", &["true", "null"], &["1"], SWITCH),
        ("", "omitFromSubCount", &["true", "null"], &["1"], SWITCH),
        ("", "umdUpdate", &["true", "null"], &["1"], SWITCH),
        ("", "messages", &["{}", "null"], &["[]", "true", "\"*\""], "must be an object"),
        ("", "storage", &["{}", "null"], &["[]", "0"], "must be an object"),
        ("", "nobodyKnows", &["1", "{}"], &[], ""),
        ("messages.e*", "publish", &["true", "false", "null"], &["1"], SWITCH),
        ("messages.e*", "broadcast", &["true", "null"], &["\"\""], SWITCH),
        ("messages.e*", "echo", &["true", "null"], &["0"], SWITCH),
        ("messages.e*", "emitPubSubEvent", &["true", "null"], &["0"], SWITCH),
        (
            "messages.e*",
            "store",
            &["-1", "0", "1", "3155695200", "60.0", "6e1", "null"],
            &["-2", "3155695201", "1.5", "\"1\"", "true", "1e99", "99999999999999999999"],
            STORE,
        ),
        ("messages.e*", "scheduleBefore", &["0", "1800000000.5", "null"], &["\"1\"", "{}"], TIME),
        (
            "messages.e*",
            "react",
            &["true", "false", "[]", "[\"a\",\"👍\"]", "null"],
            &["\"a\"", "[1]", "[\"a\",null]", "{}", "0"],
            REACT,
        ),
        ("messages.e*", "nobodyKnows", &["1"], &[], ""),
        ("storage.k", "get", &["true", "null"], &["0"], SWITCH),
        ("storage.k", "set", &["true", "null"], &["0"], SWITCH),
        ("storage.k", "observe", &["true", "null"], &["0"], SWITCH),
        ("storage.k", "emitPubSubEvent", &["true", "null"], &["0"], SWITCH),
        (
            "storage.k",
            "store",
            &["-1", "1", "3155695200", "null"],
            &["0", "0.0", "-2", "3155695201", "0.5", "\"1\""],
            KEPT,
        ),
        ("storage.k", "scheduleBefore", &["0", "null"], &["true"], TIME),
        ("storage.k", "publish", &["1"], &[], ""),
    ] {
        let claims = |value: &str| {
            let mut json = format!("{{\"{directive}\":{value}}}");
            for name in above.split('.').rev().filter(|it| !it.is_empty()) {
                json = format!("{{\"{name}\":{json}}}");
            }
            with(&format!("\"channels\":{{\"room.1\":{json}}}"))
        };
        for value in good {
            assert_eq!(error(&claims(value)), "", "{above}.{directive} {value}");
        }
        for value in bad {
            let mut path = format!("channels.room.1.{above}.{directive}");
            path = path.replace("..", ".");
            assert_eq!(error(&claims(value)), format!("{path} {allowed}"), "{value}");
        }
    }
    for (channels, expected) in [
        (r#"{"a":true}"#, "channels.a must be an object"),
        (r#"{"a":null}"#, "channels.a must be an object"),
        (r#"{"a":{"messages":{"b":true}}}"#, "channels.a.messages.b must be an object"),
        (r#"{"a":{"storage":{"*":[]}}}"#, "channels.a.storage.* must be an object"),
        (r##"{"#regex:(":{}}"##, "channels.#regex:( is no regular expression"),
        (
            r##"{"a":{"messages":{"#regex:a**":{}}}}"##,
            "channels.a.messages.#regex:a** repeats a repetition",
        ),
        (
            r##"{"a":{"storage":{"#regex:(a{1000}){1000}":{}}}}"##,
            "channels.a.storage.#regex:(a{1000}){1000} is too large when compiled",
        ),
        (r#"{"room.*":{"autoSubscribe":false}}"#, ""),
        (
            r#"{"room.*":{"autoSubscribe":true}}"#,
            "channels.room.*.autoSubscribe needs a channel without * and #regex:",
        ),
        (
            r##"{"#regex:a":{"autoSubscribe":true}}"##,
            "channels.#regex:a.autoSubscribe needs a channel without * and #regex:",
        ),
        (r#"{"a":{"autoSubscribe":true},"a":{}}"#, ""),
    ] {
        assert_eq!(error(&with(&format!("\"channels\":{channels}"))), expected, "{channels}");
    }
}

#[test]
fn aliases_are_names_of_their_own() {
    for (channels, expected) in [
        (r#"{"user.9":{"alias":"me"},"user.8":{"alias":"you"}}"#, ""),
        (r#"{"user.9":{"alias":"user.*"}}"#, "channels.user.9.alias must be the name of a channel"),
        (r#"{"user.9":{"alias":""}}"#, "channels.user.9.alias must be the name of a channel"),
        (r#"{"user.9":{"alias":"a b"}}"#, "channels.user.9.alias must be the name of a channel"),
        (
            r#"{"user.*":{"alias":"me"}}"#,
            "channels.user.*.alias needs a channel without * and #regex:",
        ),
        (
            r##"{"#regex:a":{"alias":"me"}}"##,
            "channels.#regex:a.alias needs a channel without * and #regex:",
        ),
        (
            r#"{"a":{"alias":"me"},"b":{"alias":"me"}}"#,
            "channels.b.alias must not be the alias of another channel, too",
        ),
        (
            r#"{"a":{"alias":"b"},"b":{}}"#,
            "channels.a.alias must not be the name of a channel in this token",
        ),
        (
            r#"{"a":{"alias":"a"}}"#,
            "channels.a.alias must not be the name of a channel in this token",
        ),
        // Patterns name no channel.
        (r#"{"a":{"alias":"b"},"b*":{}}"#, ""),
    ] {
        assert_eq!(error(&with(&format!("\"channels\":{channels}"))), expected, "{channels}");
    }
    let claims = good(r#""channels":{"user.9":{"alias":"me"},"room.*":{},"news":{}}"#);
    assert_eq!(claims.alias_target("me"), Some("user.9"));
    assert_eq!(claims.alias_target("user.9"), None);
    assert_eq!(claims.literal_channels().collect::<Vec<_>>(), ["user.9", "news"]);
}

#[test]
fn what_patterns_may_take_is_bounded() {
    let named = |n: usize, prefix: &str| -> String {
        let all: Vec<_> = (0..n).map(|i| format!("\"{prefix}{i}\":{{}}")).collect();
        format!("{{{}}}", all.join(","))
    };
    let too_many = "channels must have at most 256 patterns on all levels together";
    for (channels, expected) in [
        (named(256, "c"), ""),
        (named(257, "c"), too_many),
        (named(256, "#regex:^c"), ""),
        (
            format!(
                "{{\"a\":{{\"messages\":{},\"storage\":{}}}}}",
                named(100, "m"),
                named(155, "s")
            ),
            "",
        ),
        (
            format!(
                "{{\"a\":{{\"messages\":{},\"storage\":{}}}}}",
                named(100, "m"),
                named(156, "s")
            ),
            too_many,
        ),
        (format!("{{\"{}\":{{}}}}", "a".repeat(1024)), ""),
        (
            format!("{{\"{}\":{{}}}}", "a".repeat(1025)),
            &*format!("channels.{}… has more than 1024 bytes", "a".repeat(48)),
        ),
    ] {
        assert_eq!(error(&with(&format!("\"channels\":{channels}"))), expected);
    }
    // Each is small enough, all are not.
    let large = named(40, r"#regex:\\pL{1,9}");
    let refused = error(&with(&format!("\"channels\":{large}")));
    assert!(refused.ends_with("is too large when compiled"), "{refused}");
    let held =
        good(&format!("\"channels\":{}", named(100, "#regex:^room\\\\.[0-9]+"))).held_bytes();
    assert!((20_000..EXPRESSIONS_BYTES_MAX).contains(&held), "{held}");
}

#[test]
fn errors_show_names_and_nothing_else() {
    let claims = with(r#""umd":{"secret":"hush"},"channels":{"a":{"alias":"hush hush"}}"#);
    assert!(!error(&claims).contains("hush"));
    let claims = with(r#""channels":{"a":{"subscribe":"hush"}}"#);
    assert!(!error(&claims).contains("hush"));
}

#[test]
fn a_token_for_an_open_connection_names_it_or_its_user() {
    for (claims, connection, uid, expected) in [
        (r#""connectionId":"c=""#, "c=", None, true),
        (r#""connectionId":"c=","uid":"ada""#, "c=", Some("bob"), true),
        (r#""connectionId":"c=","uid":"ada""#, "d=", Some("ada"), false),
        (r#""connectionId":"""#, "c=", None, false),
        (r#""uid":"ada""#, "c=", Some("ada"), true),
        (r#""uid":"ada""#, "c=", Some("Ada"), false),
        (r#""uid":"ada""#, "c=", None, false),
        (r#""uid":"""#, "c=", Some(""), false),
        (r#""uid":null"#, "c=", None, false),
        (r#""a":1"#, "c=", None, false),
        (r#""a":1"#, "c=", Some("ada"), false),
    ] {
        assert_eq!(good(claims).is_for(connection, uid), expected, "{claims} {uid:?}");
    }
}

#[test]
fn channels_are_subscribed_in_the_order_of_the_claims() {
    let claims = good(
        r#""channels":{"z":{"autoSubscribe":true},"b":{},"a":{"autoSubscribe":true,"subscribe":false},"z":{"autoSubscribe":true}}"#,
    );
    assert_eq!(claims.auto_subscribe().collect::<Vec<_>>(), ["z", "a"]);
    // Of names that repeat the last counts, where the first was.
    let claims =
        good(r#""channels":{"b":{"alias":"1"},"a":{},"b":{},"c":{},"a":{},"b":{"alias":"3"}}"#);
    assert_eq!(claims.literal_channels().collect::<Vec<_>>(), ["b", "a", "c"]);
    assert_eq!((claims.alias_target("1"), claims.alias_target("3")), (None, Some("b")));
}
