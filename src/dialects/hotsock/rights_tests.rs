use super::*;
use crate::base::time::Millis;

fn claims(channels: &str) -> Claims {
    let json = format!(r#"{{"exp":1,"scope":"connect subscribe","channels":{{{channels}}}}}"#);
    Claims::parse(&json).unwrap_or_else(|error| panic!("{json}: {error}"))
}

/// What two tokens allow; an empty second one is none.
fn of<T>(connect: &str, subscribe: &str, look: impl FnOnce(Rights<'_>) -> T) -> T {
    let (connect, more) = (claims(connect), claims(subscribe));
    let subscribe = (!subscribe.is_empty()).then_some(&more);
    look(Rights { connect: &connect, subscribe })
}

const fn at(seconds: u64) -> Option<UnixMillis> {
    Some(UnixMillis(seconds * 1000))
}

const fn kept(seconds: u64) -> Option<Keep> {
    Some(Keep::For(Millis(seconds * 1000)))
}

#[test]
fn a_false_anywhere_denies_and_else_a_true_grants() {
    for (connect, subscribe, expected) in [
        ("", "", false),
        (r#""room.1":{}"#, "", false),
        (r#""room.1":{"subscribe":true}"#, "", true),
        (r#""room.1":{"subscribe":false}"#, "", false),
        (r#""room.2":{"subscribe":true}"#, "", false),
        (r#""room.*":{"subscribe":true}"#, "", true),
        (r##""#regex:^room\\.\\d$":{"subscribe":true}"##, "", true),
        (r##""#regex:^room$":{"subscribe":true}"##, "", false),
        // Order and specificity do not matter.
        (r#""room.1":{"subscribe":true},"*":{"subscribe":false}"#, "", false),
        (r#""*":{"subscribe":false},"room.1":{"subscribe":true}"#, "", false),
        (r#""room.1":{"subscribe":false},"*":{"subscribe":true}"#, "", false),
        (r#""room.1":{},"*":{"subscribe":true}"#, "", true),
        (r#""room.1":{"subscribe":true},"room.2":{"subscribe":false}"#, "", true),
        // Both tokens together.
        ("", r#""room.1":{"subscribe":true}"#, true),
        (r#""room.*":{"subscribe":false}"#, r#""room.1":{"subscribe":true}"#, false),
        (r#""room.*":{"subscribe":true}"#, r#""room.1":{"subscribe":false}"#, false),
        (r#""room.*":{"subscribe":true}"#, r#""hall":{"subscribe":false}"#, true),
        // Of itself enough, in the connect token; an explicit false still wins.
        (r#""room.1":{"autoSubscribe":true}"#, "", true),
        (r#""room.1":{"autoSubscribe":true,"subscribe":false}"#, "", false),
        (r#""room.1":{"autoSubscribe":true},"*":{"subscribe":false}"#, "", false),
        ("", r#""room.1":{"autoSubscribe":true}"#, false),
        (r#""room.2":{"autoSubscribe":true}"#, "", false),
        // Of a name that repeats the last counts, as a whole.
        (r#""room.1":{"subscribe":false},"room.1":{"subscribe":true}"#, "", true),
        (r#""room.1":{"subscribe":true},"room.1":{}"#, "", false),
        (r#""room.1":{"subscribe":true,"subscribe":false}"#, "", false),
    ] {
        let found = of(connect, subscribe, |it| it.may_subscribe("room.1"));
        assert_eq!(found, expected, "{connect} + {subscribe}");
    }
    for (directive, look) in [
        ("getInfo", (|it, channel| it.may_get_info(channel)) as fn(Rights<'_>, &str) -> bool),
        ("omitFromSubCount", |it, channel| it.is_uncounted(channel)),
        ("umdUpdate", |it, channel| it.may_update_umd(channel)),
    ] {
        let granted = format!(r#""room.*":{{"{directive}":true}}"#);
        let denied = format!(r#""room.1":{{"{directive}":false}}"#);
        for (connect, subscribe, expected) in [
            ("", "", false),
            (&*granted, "", true),
            ("", &*granted, true),
            (&*denied, &*granted, false),
            (&*format!("{granted},{denied}"), "", false),
        ] {
            let found = of(connect, subscribe, |it| look(it, "room.1"));
            assert_eq!(found, expected, "{connect} + {subscribe}");
        }
    }
}

#[test]
fn publishing_needs_a_right_and_perhaps_a_subscription() {
    // The table of the reference: publish, broadcast, allowed while subscribed, without.
    for (directives, subscribed, not) in [
        ("", false, false),
        (r#""publish":false"#, false, false),
        (r#""publish":false,"broadcast":false"#, false, false),
        (r#""publish":false,"broadcast":true"#, false, false),
        (r#""publish":true"#, true, false),
        (r#""publish":true,"broadcast":false"#, true, false),
        (r#""broadcast":false"#, false, false),
        (r#""broadcast":true"#, true, true),
        (r#""publish":true,"broadcast":true"#, true, true),
    ] {
        let channels = format!(r#""room.*":{{"messages":{{"ch*":{{{directives}}}}}}}"#);
        let rights = of(&channels, "", |it| it.message("room.1", "chat"));
        assert_eq!(rights.may_publish(true), subscribed, "{directives}");
        assert_eq!(rights.may_publish(false), not, "{directives}");
    }
    // Rights on messages and the right to subscribe are independent.
    let both = r#""room.1":{"subscribe":false},"room.*":{"messages":{"*":{"publish":true}}}"#;
    assert!(of(both, "", |it| it.message("room.1", "chat").may_publish(true)));
    assert!(!of(both, "", |it| it.may_subscribe("room.1")));
    // Broadcasting is read from the connect token only.
    let broadcast = r#""room.1":{"messages":{"chat":{"broadcast":true}}}"#;
    let not = r#""room.1":{"messages":{"chat":{"broadcast":false}}}"#;
    assert!(of(broadcast, not, |it| it.message("room.1", "chat").broadcast));
    assert!(!of(not, broadcast, |it| it.message("room.1", "chat").broadcast));
    assert!(!of("", broadcast, |it| it.message("room.1", "chat").broadcast));
}

#[test]
fn nothing_is_allowed_that_is_not_said() {
    let none = MessageRights {
        publish: None,
        broadcast: false,
        echo: false,
        store: None,
        emits: false,
        schedule_before: None,
        react: Reactions::None,
    };
    let nothing = StorageRights {
        get: false,
        set: false,
        observe: false,
        store: Keep::Forever,
        emits: false,
        schedule_before: None,
    };
    for channels in ["", r#""room.1":{"subscribe":true,"messages":{"c":{}},"storage":{"c":{}}}"#] {
        assert_eq!(of(channels, "", |it| it.message("room.1", "chat")), none);
        assert_eq!(of(channels, "", |it| it.storage("room.1", "chat")), nothing);
        assert!(matches!(of(channels, "", |it| it.observes("room.1")), Observes::Nothing));
        assert_eq!(of(channels, "", |it| it.history_start("room.1")), None);
        assert_eq!(of(channels, "", |it| it.alias("room.1").map(str::to_owned)), None);
    }
}

#[test]
fn of_numbers_the_most_particular_pattern_counts() {
    for (connect, subscribe, expected) in [
        (r#""room.1":{"messages":{"chat":{"store":5}}}"#, "", kept(5)),
        (r#""room.1":{"messages":{"chat":{"store":-1}}}"#, "", Some(Keep::Forever)),
        (r#""room.1":{"messages":{"chat":{"store":0}}}"#, "", None),
        // A literal, then more characters, then an expression.
        (r#""room.1":{"messages":{"*":{"store":1},"chat":{"store":2}}}"#, "", kept(2)),
        (r#""room.1":{"messages":{"chat":{"store":0},"*":{"store":1}}}"#, "", None),
        (
            r#""room.1":{"messages":{"c*":{"store":1},"cha*":{"store":2},"*":{"store":3}}}"#,
            "",
            kept(2),
        ),
        (r##""room.1":{"messages":{"#regex:^chat$":{"store":1},"*":{"store":2}}}"##, "", kept(2)),
        // Ties by the bytes of the pattern.
        (r#""room.1":{"messages":{"ch*":{"store":1},"*at":{"store":2}}}"#, "", kept(2)),
        (r##""room.1":{"messages":{"#regex:h":{"store":1},"#regex:c":{"store":2}}}"##, "", kept(2)),
        // A pattern that does not say is passed over.
        (r#""room.1":{"messages":{"chat":{"publish":true},"*":{"store":1}}}"#, "", kept(1)),
        // The channel's pattern comes first, then the event's.
        (
            r#""room.1":{"messages":{"*":{"store":1}}},"room.*":{"messages":{"chat":{"store":2}}}"#,
            "",
            kept(1),
        ),
        (
            r#""*":{"messages":{"chat":{"store":1}}},"room.*":{"messages":{"*":{"store":2}}}"#,
            "",
            kept(2),
        ),
        // The subscribe token's, if it says.
        (
            r#""room.1":{"messages":{"chat":{"store":1}}}"#,
            r#""*":{"messages":{"*":{"store":2}}}"#,
            kept(2),
        ),
        (
            r#""room.1":{"messages":{"chat":{"store":1}}}"#,
            r#""*":{"messages":{"*":{"store":0}}}"#,
            None,
        ),
        (
            r#""*":{"messages":{"*":{"store":1}}}"#,
            r#""room.1":{"messages":{"chat":{"publish":true}}}"#,
            kept(1),
        ),
    ] {
        let found = of(connect, subscribe, |it| it.message("room.1", "chat").store);
        assert_eq!(found, expected, "{connect} + {subscribe}");
        // A stored value's is merged alike; not at all is no time for it.
        if ![connect, subscribe].iter().any(|it| it.contains(r#""store":0"#)) {
            let [connect, subscribe] =
                [connect, subscribe].map(|it| it.replace("messages", "storage"));
            let found = of(&connect, &subscribe, |it| it.storage("room.1", "chat").store);
            assert_eq!(Some(found), expected, "{connect} + {subscribe}");
        }
    }
    for (connect, subscribe, expected) in [
        (r#""room.1":{"historyStart":0},"room.*":{"historyStart":7}"#, "", at(0)),
        (r#""room.1":{},"room.*":{"historyStart":7.5}"#, "", Some(UnixMillis(7500))),
        (r#""*":{"historyStart":1},"room.*":{"historyStart":7}"#, "", at(7)),
        (r#""room.1":{"historyStart":1}"#, r#""*":{"historyStart":7}"#, at(7)),
        (r#""room.1":{"historyStart":1}"#, r#""*":{}"#, at(1)),
        (r#""room.2":{"historyStart":1}"#, "", None),
    ] {
        let found = of(connect, subscribe, |it| it.history_start("room.1"));
        assert_eq!(found, expected, "{connect} + {subscribe}");
    }
    let before = r#""room.1":{"messages":{"*":{"scheduleBefore":9},"chat":{"scheduleBefore":0}}}"#;
    assert_eq!(of(before, "", |it| it.message("room.1", "chat").schedule_before), at(0));
    assert_eq!(of(before, "", |it| it.message("room.1", "other").schedule_before), at(9));
}

#[test]
fn switches_of_events_and_keys_are_merged() {
    let connect = r#""room.1":{"messages":{"chat":{"echo":true,"emitPubSubEvent":true}},
        "storage":{"topic":{"get":true,"set":true,"observe":true,"emitPubSubEvent":true}}}"#;
    let rights = of(connect, "", |it| it.message("room.1", "chat"));
    assert!(rights.echo && rights.emits && rights.publish.is_none());
    let rights = of(connect, "", |it| it.storage("room.1", "topic"));
    assert!(rights.get && rights.set && rights.observe && rights.emits);
    let deny = r#""*":{"messages":{"*":{"echo":false}},"storage":{"t*":{"set":false}}}"#;
    let rights = of(connect, deny, |it| it.message("room.1", "chat"));
    assert!(!rights.echo && rights.emits);
    let rights = of(connect, deny, |it| it.storage("room.1", "topic"));
    assert!(rights.get && !rights.set && rights.observe && rights.emits);
    let rights = of("", connect, |it| it.storage("room.1", "topic"));
    assert!(rights.get && rights.set && rights.observe && rights.emits);
    assert!(!of(connect, "", |it| it.storage("room.2", "topic").get));
    assert!(!of(connect, "", |it| it.storage("room.1", "topics").get));
}

#[test]
fn reactions_are_denied_all_or_those_of_every_pattern() {
    let some = |all: &[&str]| Reactions::Some(all.iter().map(|it| Box::from(*it)).collect());
    let on = |messages: &str| format!(r#""room.1":{{"messages":{{{messages}}}}}"#);
    for (connect, subscribe, expected) in [
        (r#""chat":{"react":true}"#, "", Reactions::All),
        (r#""chat":{"react":false}"#, "", Reactions::None),
        (r#""chat":{"react":["a","b"]}"#, "", some(&["a", "b"])),
        (r#""chat":{"react":[]}"#, "", Reactions::None),
        (r#""chat":{"react":["a"]},"*":{"react":["b"]}"#, "", some(&["a", "b"])),
        (r#""chat":{"react":["a"]},"*":{"react":true}"#, "", Reactions::All),
        (r#""chat":{"react":true},"*":{"react":false}"#, "", Reactions::None),
        (r#""chat":{"react":["a"]},"*":{"react":false}"#, "", Reactions::None),
        (r#""chat":{"react":["a"]}"#, r#""chat":{"react":["b"]}"#, some(&["b"])),
        (r#""chat":{"react":["a"]}"#, r#""*":{"publish":true}"#, some(&["a"])),
        (r#""chat":{"react":["a"]}"#, r#""*":{"react":false}"#, Reactions::None),
        ("", r#""*":{"react":true}"#, Reactions::All),
    ] {
        let more = if subscribe.is_empty() { String::new() } else { on(subscribe) };
        let found = of(&on(connect), &more, |it| it.message("room.1", "chat").react);
        assert_eq!(found, expected, "{connect} + {subscribe}");
    }
    assert!(Reactions::All.allow("x") && !Reactions::None.allow("x"));
    assert!(some(&["x"]).allow("x") && !some(&["x"]).allow("y"));
}

#[test]
fn keys_are_observed_all_or_by_pattern() {
    let on = |storage: &str| format!(r#""room.*":{{"storage":{{{storage}}}}}"#);
    let look = |connect: &str, subscribe: &str| {
        let more = if subscribe.is_empty() { String::new() } else { on(subscribe) };
        match of(&on(connect), &more, |it| it.observes("room.1")) {
            Observes::Nothing => "nothing".to_owned(),
            Observes::Everything => "everything".to_owned(),
            Observes::Some(keys) => ["a", "b", "bb"]
                .into_iter()
                .filter(|key| keys.0.admit(key))
                .collect::<Vec<_>>()
                .join(" "),
        }
    };
    for (connect, subscribe, expected) in [
        ("", "", "nothing"),
        (r#""a":{"get":true}"#, "", "nothing"),
        (r#""a":{"observe":false}"#, "", "nothing"),
        (r#""*":{"observe":true}"#, "", "everything"),
        (r#""*":{"observe":true},"a":{"observe":true}"#, "", "everything"),
        (r#""a":{"observe":true}"#, "", "a"),
        (r#""b*":{"observe":true}"#, "", "b bb"),
        (r##""#regex:^b$":{"observe":true}"##, "", "b"),
        (r#""*":{"observe":true},"a":{"observe":false}"#, "", "b bb"),
        (r##""b*":{"observe":true},"#regex:^.$":{"observe":false}"##, "", "bb"),
        (r#""a":{"observe":true},"*":{"observe":false}"#, "", "nothing"),
        (r#""a":{"observe":true}"#, r#""b":{"observe":true}"#, "a b"),
        (r#""*":{"observe":true}"#, r#""b":{"observe":false}"#, "a bb"),
        (r#""b":{"observe":false}"#, r#""*":{"observe":true}"#, "a bb"),
    ] {
        assert_eq!(look(connect, subscribe), expected, "{connect} + {subscribe}");
    }
    let gets = of(r#""room.1":{"storage":{"*":{"get":true}}}"#, "", |it| it.gets("room.1"));
    assert!(matches!(gets, Observes::Everything));
    let other = of(r#""room.1":{"storage":{"*":{"observe":true}}}"#, "", |it| it.observes("x"));
    assert!(matches!(other, Observes::Nothing));
}

#[test]
fn keys_observed_are_those_with_the_right_one_by_one() {
    // Whatever the patterns, both ways of asking agree.
    let values = ["", r#""observe":true"#, r#""observe":false"#];
    let patterns = ["a", "b*", "*", "#regex:b$"];
    for combination in 0..3usize.pow(4) {
        let mut rest = combination;
        let storage: Vec<_> = patterns
            .iter()
            .map(|pattern| {
                let value = values[rest % 3];
                rest /= 3;
                format!(r#""{pattern}":{{{value}}}"#)
            })
            .collect();
        let channels = format!(r#""c":{{"storage":{{{}}}}}"#, storage.join(","));
        of(&channels, "", |it| {
            for key in ["a", "b", "ab", "ba", "x"] {
                let observed = match it.observes("c") {
                    Observes::Nothing => false,
                    Observes::Everything => true,
                    Observes::Some(keys) => keys.0.admit(key),
                };
                assert_eq!(observed, it.storage("c", key).observe, "{channels} {key}");
            }
        });
    }
}

#[test]
fn a_name_is_a_channel_before_it_is_an_alias() {
    let connect = r#""user.9":{"alias":"me"},"news":{"alias":"n"},"room.*":{}"#;
    let subscribe = r#""user.9":{"alias":"self"},"n":{}"#;
    for (name, plain, with_more) in [
        ("me", "user.9", "user.9"),
        ("self", "self", "user.9"),
        ("user.9", "user.9", "user.9"),
        // The subscribe token names it in full.
        ("n", "news", "n"),
        ("room.1", "room.1", "room.1"),
        ("anything", "anything", "anything"),
    ] {
        assert_eq!(of(connect, "", |it| it.resolve(name).to_owned()), plain, "{name}");
        assert_eq!(of(connect, subscribe, |it| it.resolve(name).to_owned()), with_more, "{name}");
    }
    let alias = |subscribe: &str, channel: &str| {
        of(connect, subscribe, |it| it.alias(channel).map(str::to_owned))
    };
    assert_eq!(alias("", "user.9").as_deref(), Some("me"));
    assert_eq!(alias(subscribe, "user.9").as_deref(), Some("self"));
    assert_eq!(alias(subscribe, "news").as_deref(), Some("n"));
    assert_eq!(alias(subscribe, "room.1"), None);
}
