use super::*;
use crate::base::time::Millis;
use crate::config::Secret;

fn sources(file: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> Sources {
    Sources {
        file: (!file.is_empty()).then(|| (PathBuf::from("ringmain.toml"), file.to_owned())),
        environment: environment.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
        flags: flags
            .iter()
            .map(|(key, value)| Flag {
                spelled: format!("--set {key}={value}"),
                key: (*key).to_owned(),
                values: vec![(*value).to_owned()],
            })
            .collect(),
        machine: Machine { cores: 2, descriptors_max: 20_000, memory_bytes: 16 << 30 },
        sections: &[],
    }
}

const APP: &str = "[[apps]]\nid = 1\nkey = \"k\"\nsecret = \"s\"\n";

#[test]
fn nothing_given_is_development() {
    let loaded = load(&sources("", &[("PATH", "/bin")], &[])).unwrap();
    assert!(loaded.config.development && loaded.origins.is_empty());
    assert_eq!(loaded.config.shards, 2);
    assert_eq!(loaded.config.limits.connections_max, 20_000 - 128 - 34);
    assert_eq!(loaded.config.apps[0].key, "app-key");
}

#[test]
fn flags_win_over_environment_over_file_over_default() {
    let file = "[limits]\nspin_us = 1\nmailbox_slots = 64\nreceive_buffers = 16\n";
    let environment = [("RINGMAIN_LIMITS_SPIN_US", "2"), ("RINGMAIN_LIMITS_MAILBOX_SLOTS", "128")];
    let loaded = load(&sources(file, &environment, &[("limits.spin_us", "3")])).unwrap();
    let limits = &loaded.config.limits;
    assert_eq!((limits.spin_us, limits.mailbox_slots, limits.receive_buffers), (3, 128, 16));
    assert_eq!(limits.backlog_mails_high_water, 16_384);
    let origin = |key| loaded.origins.get(key).map(Origin::to_string).unwrap_or_default();
    assert_eq!(origin("limits.spin_us"), "flag --set limits.spin_us=3");
    assert_eq!(
        origin("limits.mailbox_slots"),
        "environment variable RINGMAIN_LIMITS_MAILBOX_SLOTS"
    );
    assert_eq!(origin("limits.receive_buffers"), "ringmain.toml:4");
    assert_eq!(origin("limits.backlog_mails_high_water"), "");
}

#[test]
fn a_whole_file_is_understood() {
    let file = r#"
        listen = ["127.0.0.1:0", "[::1]:7000"]
        driver = "epoll"
        pin = false
        data = "/var/lib/ringmain"
        [limits]
        outbox_bytes_high_water = "64KiB"
        [http]
        head_timeout_s = 5
        idle_timeout_s = "1500ms"
        [[apps]]
        id = 17
        key = "first"
        secret = "${ONE}"
        client_events = true
        event_payload_bytes_max = "10 KiB"
        allowed_origins = ["https://example.com", "*.example.org"]
        [[apps]]
        id = "two"
        key = "second"
        secret_env = "TWO"
    "#;
    let environment = [("ONE", "s-one"), ("TWO", "s-two")];
    let config = load(&sources(file, &environment, &[])).unwrap().config;
    assert!(!config.development && !config.pin);
    assert_eq!(config.listen.len(), 2);
    assert_eq!(config.limits.outbox_bytes_high_water, 65_536);
    assert_eq!(config.http.head_timeout, Millis(5_000));
    assert_eq!(config.http.idle_timeout, Millis(1_500));
    let [one, two] = config.apps.as_slice() else { panic!("{:?}", config.apps) };
    assert_eq!((one.id.as_str(), one.secret.0.as_str()), ("17", "s-one"));
    assert_eq!((two.id.as_str(), two.secret.0.as_str()), ("two", "s-two"));
    assert!(one.client_events && !two.client_events);
    assert_eq!(one.event_payload_bytes_max, 10 << 10);
    assert_eq!(one.allowed_origins, ["https://example.com", "*.example.org"]);
}

#[test]
fn unix_sockets_are_listened_on_beside_addresses_or_alone() {
    let file = format!("listen = [\"unix:/run/a.sock\", \"[::1]:0\", \"unix:b\"]\n{APP}");
    let config = load(&sources(&file, &[], &[])).unwrap().config;
    assert_eq!((config.listen.len(), config.listeners()), (1, 3));
    assert_eq!(config.listen_local, ["/run/a.sock", "b"].map(std::path::PathBuf::from));
    let config = load(&sources(APP, &[("RINGMAIN_LISTEN", "unix:/a")], &[])).unwrap().config;
    assert_eq!((config.listen.len(), config.listeners()), (0, 1));
    // Whoever reaches it is on this machine, as with the addresses that the development app is for.
    assert!(load(&sources("listen = \"unix:/a\"", &[], &[])).unwrap().config.development);
}

#[test]
fn the_environment_gives_the_first_app() {
    let environment = [
        ("RINGMAIN_APP_ID", "e"),
        ("RINGMAIN_APP_KEY", "ek"),
        ("RINGMAIN_APP_SECRET", "es"),
        ("RINGMAIN_APP_CLIENT_EVENTS", "true"),
        ("RINGMAIN_LISTEN", "0.0.0.0:0, [::]:0"),
    ];
    let config = load(&sources(APP, &environment, &[("app.id", "f")])).unwrap().config;
    assert_eq!(config.apps.iter().map(|app| app.id.as_str()).collect::<Vec<_>>(), ["f", "1"]);
    assert!(config.apps[0].client_events && !config.development);
    assert_eq!(config.listen.len(), 2);
}

/// Loads what must be refused and returns the first problem with its remedy, as two lines.
fn refused(file: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> String {
    let problems = load(&sources(file, environment, flags)).unwrap_err();
    problems.iter().map(|it| format!("{it}\n{}\n", it.remedy())).collect()
}

#[test]
fn bad_input_is_refused_by_name_place_and_range() {
    let wide = format!("listen = \"0.0.0.0:6001\"\n{}", APP.replace("\"s\"", "\"app-secret\""));
    let same_id = format!("{APP}{}", APP.replace("\"k\"", "\"l\""));
    let same_key = format!("{APP}{}", APP.replace("id = 1", "id = 2"));
    let cases: &[(&str, &[&str])] = &[
        ("limits.spin_us = 99999", &["ringmain.toml:1: limits.spin_us = 99999", "0 to 10000us"]),
        ("\n[limits]\n\nspin = 1", &["ringmain.toml:4: unknown setting `limits.spin`"]),
        ("[limits]\nspin_u = 1", &["ringmain.toml:2", "did you mean `limits.spin_us`?"]),
        ("colour = 1", &["unknown setting `colour`", "`ringmain settings` lists"]),
        ("[colours]", &["unknown setting `colours`"]),
        ("limits.mailbox_slots = 100", &["mailbox_slots = 100", "a power of two, 64 to 1048576"]),
        ("shards = -1", &["shards = -1", "0, or 1 to 256"]),
        ("shards = 257", &["shards = 257"]),
        ("shards = 1.5", &["shards = 1.5"]),
        ("driver = \"kqueue\"", &["driver = kqueue", "auto, uring, epoll"]),
        ("pin = \"maybe\"", &["true or false"]),
        ("listen = []", &["listen = []", "IP:PORT"]),
        ("listen = [\"127.0.0.1\"]", &["IP:PORT"]),
        ("listen = [{ a = 1 }]", &["a list of plain values"]),
        ("data = { a = 1 }", &["unknown setting `data.a`"]),
        ("data = \"\"", &["a path"]),
        ("listen = ", &["ringmain.toml:1", "correct the TOML"]),
        ("pin = true\npin = true", &["ringmain.toml:2", "duplicate"]),
        ("data = \"${NOPE}\"", &["NOPE, which is not set"]),
        ("apps = 1", &["one [[apps]] table"]),
        ("apps = [1]", &["one [[apps]] table"]),
        ("[[apps]]\nid = 1", &["an app needs apps.key", "an app needs apps.secret"]),
        ("[[apps]]\nid = 1\nkey=\"k\"", &["set apps.secret, apps.secret_file or apps.secret_env"]),
        ("[app]\nid = 1", &["unknown setting `app`", "did you mean `[[apps]]`?"]),
        ("listen = [\"unix:\"]", &["listen = [unix:]", "unix:PATH"]),
        ("listen = [\"unix:/a\", \"unix:/a\"]", &["listen = /a", "each address once"]),
        ("listen = [\"[::1]:1\", \"[::1]:1\"]", &["listen = [::1]:1", "each address once"]),
        ("[[apps]]\nid = \"a b\"\nkey=\"k\"\nsecret=\"s\"", &["apps.id = a b", "letters, digits"]),
        ("[[apps]]\nid = 1\nkey=\"k\"\nsecret=\"\"", &["apps.secret = ***"]),
        ("[[apps]]\nid = 1\nkey=\"k\"\nsecret_env=\"NOPE\"", &["NOPE, which is not set"]),
        (
            "[[apps]]\nid = 1\nkey=\"k\"\nsecret_file=\"/nonexistent/x\"",
            &["cannot read /nonexistent/x"],
        ),
        (
            "[[apps]]\nid=1\nkey=\"k\"\nsecret=\"s\"\nsecret_env=\"PATH\"",
            &["more than one way", "keep one of"],
        ),
        (
            "[[apps]]\nid=1\nkey=\"k\"\nsecret=\"s\"\nclient_event=true",
            &["ringmain.toml:5", "did you mean `client_events`?"],
        ),
        (&same_id, &["two apps have the same id: 1", "ringmain.toml:5"]),
        (&same_key, &["two apps have the same key: k"]),
        (
            "listen = \"0.0.0.0:6001\"",
            &["ringmain.toml:1: listen = 0.0.0.0:6001", "RINGMAIN_APP_SECRET"],
        ),
        ("listen = \"[::ffff:10.0.0.1]:1\"", &["known to everyone"]),
        (&wide, &["known to everyone"]),
        ("limits.connections_max = 20000", &["needs 20162 file descriptors; allowed: 20000"]),
        (
            "limits.outbox_bytes_per_shard_max = \"1MiB\"",
            &["is below limits.outbox_bytes_high_water", "at least 4194304"],
        ),
    ];
    for (file, expected) in cases {
        let text = refused(file, &[("PATH", "/bin")], &[]);
        for part in *expected {
            assert!(text.contains(part), "{file}\n--> {text}\n--> lacks {part}");
        }
    }
}

#[test]
fn a_secret_that_cannot_be_had_is_told_once() {
    let file = "[[apps]]\nid = 1\nkey = \"k\"\nsecret = \"${NOPE}\"";
    let text = refused(file, &[], &[]);
    assert!(text.contains("NOPE, which is not set") && !text.contains("an app needs"), "{text}");
    let text = refused("", &[], &[("app.id", "a"), ("app.key", "k"), ("app.secret", "hush")]);
    assert!(text.contains("RINGMAIN_APP_SECRET") && !text.contains("an app needs"), "{text}");
}

#[test]
fn environment_and_flags_are_named_in_refusals() {
    let text = refused("", &[("RINGMAIN_SHARD", "1")], &[]);
    assert!(text.contains("did you mean `RINGMAIN_SHARDS`?"), "{text}");
    let text = refused("", &[("RINGMAIN_PIN", "perhaps")], &[]);
    assert!(text.contains("environment variable RINGMAIN_PIN: pin = perhaps"), "{text}");
    let text = refused("", &[("RINGMAIN_APP_ID", "a")], &[]);
    assert!(text.contains("needs RINGMAIN_APP_SECRET"), "{text}");
    let text = refused("", &[("RINGMAIN_FOO", "a")], &[]);
    assert!(!text.contains("did you mean"), "{text}");
    let text = refused("", &[], &[("shards", "many")]);
    assert!(text.contains("flag --set shards=many: shards = many"), "{text}");
    let text = refused("", &[], &[("app.secret", "hush")]);
    assert!(text.contains("where others can read it"), "{text}");
}

#[test]
fn a_value_is_checked_even_when_a_stronger_source_replaces_it() {
    let text = refused("shards = 0.5", &[], &[("shards", "1")]);
    assert!(text.contains("ringmain.toml:1"), "{text}");
}

#[test]
fn variables_of_a_service_of_our_name_are_not_ours() {
    let environment = [
        ("RINGMAIN_SERVICE_HOST", "10.0.0.1"),
        ("RINGMAIN_PORT", "tcp://10.0.0.1:6001"),
        ("RINGMAIN_PORT_6001_TCP_ADDR", "10.0.0.1"),
        ("RINGMAIN_CONFIG", "x.toml"),
        ("RINGMAIN_SIM_SEEDS", "1"),
    ];
    assert!(load(&sources("", &environment, &[])).is_ok());
}

#[test]
fn variables_that_the_file_names_may_begin_as_settings_do() {
    let environment = [("RINGMAIN_ONE", "k"), ("RINGMAIN_TWO", "s")];
    let file = "[[apps]]\nid = 1\nkey = \"${RINGMAIN_ONE}\"\nsecret_env = \"RINGMAIN_TWO\"\n";
    assert!(load(&sources(file, &environment, &[])).is_ok());
    let text = refused(APP, &environment, &[]);
    assert!(text.contains("unknown setting `RINGMAIN_TWO`"), "{text}");
    let environment = [
        ("RINGMAIN_SHOP", "s"),
        ("RINGMAIN_APP_ID", "i"),
        ("RINGMAIN_APP_KEY", "k"),
        ("RINGMAIN_APP_SECRET_ENV", "RINGMAIN_SHOP"),
    ];
    let config = load(&sources("", &environment, &[])).unwrap().config;
    assert_eq!(config.apps[0].secret.0, "s");
}

#[test]
fn a_lone_secret_is_for_publishing_where_the_file_has_apps() {
    let config = load(&sources(APP, &[("RINGMAIN_APP_SECRET", "s")], &[])).unwrap().config;
    assert_eq!(config.apps.len(), 1);
    let text = refused("", &[("RINGMAIN_APP_SECRET", "s")], &[]);
    assert!(text.contains("needs RINGMAIN_APP_ID"), "{text}");
}

#[test]
fn replacement_follows_the_shell() {
    let cases = [
        ("plain", Ok("plain")),
        ("${SET}", Ok("value")),
        ("a${SET}b${SET}", Ok("avaluebvalue")),
        ("${SET:-other}", Ok("value")),
        ("${UNSET:-other}", Ok("other")),
        ("${UNSET:-}", Ok("")),
        ("${EMPTY:-other}", Ok("other")),
        ("${EMPTY}", Ok("")),
        ("${UNSET}", Err("UNSET")),
        ("$SET", Ok("$SET")),
        ("$${SET}", Ok("${SET}")),
        ("${SET", Ok("${SET")),
        ("$", Ok("$")),
    ];
    for (text, expected) in cases {
        let value = |name: &str| match name {
            "SET" => Some("value"),
            "EMPTY" => Some(""),
            _ => None,
        };
        let expected = expected.map(str::to_owned).map_err(str::to_owned);
        assert_eq!(replace(text, value), expected, "{text}");
    }
}

#[test]
fn no_secret_is_ever_printed() {
    let file = "[[apps]]\nid = 1\nkey = \"k\"\nsecret = \"hush-hush\"\n";
    let loaded = load(&sources(file, &[], &[])).unwrap();
    assert!(!format!("{loaded:?}").contains("hush"));
}

#[test]
fn presets_are_weaker_than_every_source_and_stronger_than_defaults() {
    let preset = |key, value: &str| (Origin::Command("other"), key, Given::One(value.to_owned()));
    let presets = || Presets {
        settings: vec![
            preset("limits.spin_us", "1"),
            preset("limits.mailbox_slots", "64"),
            preset("limits.receive_buffers", "16"),
        ],
        app: Some(App::with("a".into(), "k".into(), Secret("s".into()))),
    };
    let file = "limits.spin_us = 2\n";
    let environment = [("RINGMAIN_LIMITS_MAILBOX_SLOTS", "128")];
    let loaded = load_over(presets(), &sources(file, &environment, &[])).unwrap();
    let limits = &loaded.config.limits;
    assert_eq!((limits.spin_us, limits.mailbox_slots, limits.receive_buffers), (2, 128, 16));
    assert_eq!(loaded.origins["limits.receive_buffers"].to_string(), "command other");
    assert!(!loaded.config.development);
    let ids =
        |loaded: &Loaded| loaded.config.apps.iter().map(|it| it.id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&loaded), ["a"]);
    // An app that is configured stands instead.
    assert_eq!(ids(&load_over(presets(), &sources(APP, &[], &[])).unwrap()), ["1"]);
    let wrong = Presets { settings: vec![preset("limits.spin_us", "x")], app: None };
    let problems = load_over(wrong, &sources("", &[], &[])).unwrap_err();
    assert!(
        problems[0].to_string().starts_with("command other: limits.spin_us"),
        "{}",
        problems[0]
    );
}
