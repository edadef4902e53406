//! The built binary, driven as people drive it: what it prints, and how it fails.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use ringmain::auth::keyring::{KeySlot, Keyring};
use ringmain::base::time::{Millis, UnixMillis};
use ringmain::dialects::hotsock::claims::Claims;

/// Runs `ringmain` in an empty directory, with nothing of our own environment.
fn ringmain(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringmain"))
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .current_dir(directory("empty"))
        .output()
        .expect("the binary was built for this test")
}

fn directory(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("command_line").join(name);
    std::fs::create_dir_all(&path).expect("the target directory can be written");
    path
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn version_is_that_of_the_package() {
    for arguments in [["version"], ["--version"]] {
        let output = ringmain(&arguments, &[]);
        assert_eq!(stdout(&output), concat!("ringmain ", env!("CARGO_PKG_VERSION"), "\n"));
        assert_eq!(output.status.code(), Some(0));
    }
}

#[test]
fn help_has_an_example_everywhere() {
    for command in [
        "",
        "serve",
        "check",
        "mastodon",
        "publish",
        "listen",
        "settings",
        "version",
        "store",
        "store backup",
        "store check",
        "store stats",
        "push",
        "push keys",
        "token",
        "token hotsock",
    ] {
        let arguments: Vec<&str> = command.split_whitespace().chain(["--help"]).collect();
        let output = ringmain(&arguments, &[]);
        assert_eq!(output.status.code(), Some(0), "{command}");
        assert!(stdout(&output).contains("Example"), "{command}: {}", stdout(&output));
    }
}

#[test]
fn keys_for_push_are_new_each_time_and_good() {
    let made = || {
        let output = ringmain(&["push", "keys"], &[]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let text = stdout(&output);
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect::<Vec<_>>()
    };
    let keys = made();
    let names: Vec<_> = keys.iter().map(|it| it.0.as_str()).collect();
    assert_eq!(names, ["RINGMAIN_PUSH_ENCRYPTION_KEY", "VAPID_PUBLIC_KEY", "VAPID_PRIVATE_KEY"]);
    // 32, 65 and 32 bytes in base64url without padding.
    assert_eq!(keys.iter().map(|it| it.1.len()).collect::<Vec<_>>(), [43, 87, 43]);
    // An uncompressed point begins with a byte 4.
    assert!(keys[1].1.starts_with('B'), "{}", keys[1].1);
    for (first, second) in keys.iter().zip(made()) {
        assert_ne!(first.1, second.1, "{}", first.0);
    }
    let output = ringmain(&["check"], &[("RINGMAIN_PUSH_ENCRYPTION_KEY", &keys[0].1)]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(!stdout(&output).contains(&keys[0].1));
}

#[test]
fn settings_are_the_written_reference() {
    let output = ringmain(&["settings", "--markdown"], &[]);
    assert_eq!(stdout(&output), include_str!("../docs/settings.md"));
    let output = ringmain(&["settings"], &[]);
    assert!(stdout(&output).contains("limits.outbox_bytes_high_water"));
}

#[test]
fn check_says_what_would_run_and_why() {
    let file = directory("check").join("good.toml");
    let text =
        "limits.spin_us = 7\n[[apps]]\nid = 1\nkey = \"k\"\nsecret = \"hush\"\nwatchlist = true\n";
    std::fs::write(&file, text).expect("the target directory can be written");
    let path = file.to_string_lossy();
    let output = ringmain(
        &["check", "--config", &path, "--listen", "0.0.0.0:0", "--listen", "[::1]:0"],
        &[("RINGMAIN_SHARDS", "3")],
    );
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    for part in ["7us", "good.toml:1", "0.0.0.0:0, [::1]:0", "RINGMAIN_SHARDS", "watchlist = true"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("hush"), "{text}");
    // The same file, named by the environment.
    let output = ringmain(&["check"], &[("RINGMAIN_CONFIG", &path)]);
    assert!(stdout(&output).contains("app 1: key = k, secret = ***"));
}

/// The value and the origin of a setting in what `check` prints.
fn checked(output: &Output, key: &str) -> String {
    let text = stdout(output);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(output));
    let line = text.lines().find(|it| it.split_whitespace().next() == Some(key));
    line.unwrap_or_default().split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
}

#[test]
fn variables_of_mastodon_are_settings_weaker_than_ours() {
    let folder = directory("live");
    let file = folder.join(".env.production");
    let text = "# theirs\nDB_PASS='hush#1'\nREDIS_PASSWORD=hush2\nPORT=4001 # ours\nPORT=4002\nDB_POOL=7\n\
                RINGMAIN_SHARDS=2\n";
    std::fs::write(&file, text).expect("the target directory can be written");
    std::fs::write(folder.join(".env"), "PORT=4003").expect("the target directory can be written");
    let below = directory("live/streaming");
    let run = |folder: &PathBuf, arguments: &[&str], environment: &[(&str, &str)]| {
        Command::new(env!("CARGO_BIN_EXE_ringmain"))
            .args(["check", "--mastodon"])
            .args(arguments)
            .env_clear()
            .envs(environment.iter().copied())
            .current_dir(folder)
            .output()
            .expect("the binary was built for this test")
    };
    let production = ("NODE_ENV", "production");
    // The file of the folder, of the one above, or the one that is named.
    let output = run(&folder, &[], &[production]);
    assert!(!stdout(&output).contains("hush") && !stderr(&output).contains("hush"));
    for (key, expected) in [
        ("listen", "127.0.0.1:4002 (.env.production:5)"),
        ("shards", "2 (environment variable RINGMAIN_SHARDS)"),
        ("mastodon.app", "mastodon (command mastodon)"),
        ("mastodon.takes_everything", "true (command mastodon)"),
        ("mastodon.redis_url", "*** (.env.production:3)"),
        ("mastodon.database_url", "*** (.env.production:2)"),
        ("mastodon.database_connections_max", "7 (.env.production:6)"),
        ("pin", "false (command mastodon)"),
    ] {
        assert_eq!(checked(&output, key), expected, "{key}");
    }
    let output = run(&below, &[], &[production]);
    assert_eq!(checked(&output, "listen"), "127.0.0.1:4002 (../.env.production:5)");
    let output = run(&folder, &[], &[]);
    assert_eq!(checked(&output, "listen"), "127.0.0.1:4003 (.env:1)");
    let path = file.to_string_lossy().into_owned();
    let output = run(&directory("empty"), &["--env-file", &path], &[]);
    assert_eq!(checked(&output, "listen"), format!("127.0.0.1:4002 ({path}:5)"));
    // Stronger, one after the other: the environment, our variable, our flag.
    let (theirs, ours) = (("PORT", "5000"), ("RINGMAIN_LISTEN", "127.0.0.1:6000"));
    let output = run(&folder, &[], &[production, theirs]);
    assert_eq!(checked(&output, "listen"), "127.0.0.1:5000 (environment variable PORT)");
    let output = run(&folder, &[], &[production, theirs, ours]);
    assert_eq!(checked(&output, "listen"), "127.0.0.1:6000 (environment variable RINGMAIN_LISTEN)");
    let output = run(&folder, &["--listen", "127.0.0.1:7000"], &[production, theirs, ours]);
    assert_eq!(checked(&output, "listen"), "127.0.0.1:7000 (flag --listen 127.0.0.1:7000)");
    // What an administrator should know goes to stderr.
    let output = run(&folder, &[], &[production, ("STREAMING_CLUSTER_NUM", "4")]);
    assert!(stderr(&output).starts_with("note: STREAMING_CLUSTER_NUM"), "{}", stderr(&output));
}

#[test]
fn it_stands_in_for_mastodons_server_on_a_socket_and_says_so_in_its_words() {
    // Short: the path of a Unix socket may have 107 bytes.
    let folder = std::env::temp_dir().join(format!("rm-command-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a temporary directory can be made");
    let mut child = Command::new(env!("CARGO_BIN_EXE_ringmain"))
        .arg("mastodon")
        .env_clear()
        .envs([("SOCKET", "s"), ("REDIS_URL", "unix:///absent"), ("LOG_LEVEL", "error")])
        .current_dir(&folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary was built for this test");
    let path = folder.join("s");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let said = lines.find_map(|it| it.ok().filter(|it| it.starts_with("Streaming")));
    assert_eq!(said, Some(format!("Streaming API now listening on {}", path.display())));
    let ask = |target: &str| {
        let mut stream = UnixStream::connect(&path).expect("it listens");
        let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        answer
    };
    assert!(ask("/api/v1/streaming/health").ends_with("\r\n\r\nOK"));
    assert!(ask("/ready").starts_with("HTTP/1.1 503 "));
    assert!(ask("/metrics").contains("\nconnected_clients{"));
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    std::fs::remove_dir_all(&folder).expect("it is ours");
}

#[test]
fn mistakes_exit_with_2_and_end_with_what_to_change() {
    type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a str);
    let cases: &[Case<'_>] = &[
        (&["check", "--listen", "0.0.0.0:6001"], &[], "--listen 127.0.0.1:6001"),
        (&["--listen", "0.0.0.0:6001"], &[], "RINGMAIN_APP_SECRET"),
        (&["serve", "--shards", "-1"], &[], "allowed: 0, or 1 to 256"),
        (&["check", "--driver", "kqueue"], &[], "allowed: auto, uring, epoll"),
        (&["check", "--set", "limits.spin=1"], &[], "to `limits.spin_us`"),
        (&["check", "--set", "limit.spin_us=1"], &[], "to `limits.spin_us`"),
        (&["check", "--set", "limits.spin_us"], &[], "--set limits.spin_us=VALUE"),
        (&["check", "--set", "app.secret=hush"], &[], "RINGMAIN_APP_SECRET"),
        (&["check", "--config", "absent.toml"], &[], "--config absent.toml"),
        (&["check"], &[("RINGMAIN_CONFIG", "absent.toml")], "RINGMAIN_CONFIG=absent.toml"),
        (&["check"], &[("RINGMAIN_LISTN", "127.0.0.1:1")], "RINGMAIN_LISTEN"),
        (&["check"], &[("RINGMAIN_APP_ID", "1")], "set RINGMAIN_APP_SECRET"),
        (
            &["check", "--mastodon"],
            &[("PORT", "http")],
            "set PORT to another value; allowed: a number up to 65535",
        ),
        (&["mastodon"], &[("DB_POOL", "0")], "(environment variable DB_POOL); allowed: 1 to 1000"),
        (&["mastodon"], &[("NODE_ENV", "test")], "set NODE_ENV to another value"),
        (&["mastodon", "--env-file", "absent"], &[], "--env-file"),
        (&["mastodon", "--set", "mastodon.app=b"], &[], "allowed: the id of an app: mastodon"),
        (&["check", "--env-file", "absent"], &[], "--help"),
        (&["token", "hotsock", "--uid", &"a".repeat(129)], &[], "--uid"),
        (&["token", "hotsock", "--umd", "{name:Ada}"], &[], "--umd '{\"name\":\"Ada\"}'"),
        (&["token", "hotsock", "--subscribe", "#regex:("], &[], "--subscribe"),
        (&["token", "hotsock", "--publish", "room.1"], &[], "--publish 'chat.*:NAME'"),
        (&["token", "hotsock", "--storage", "room.1:"], &[], "--storage 'chat.*:NAME'"),
        (&["token", "hotsock", "--ttl", "0"], &[], "--ttl 3600"),
        (&["token", "hotsock", "--ttl", "1h"], &[], "--ttl 3600"),
        (&["token", "hotsock", "--scope", "publish"], &[], "--scope connect"),
        (&["token", "hotsock", "--claims", "[]"], &[], "--claims '{"),
        (&["token", "hotsock", "--claims", "{\"heartbeatTimeout\":1}"], &[], "--claims"),
        (&["token", "hotsock", "--set", "hotsock.leeway_s=x"], &[], "hotsock.leeway_s"),
        (&["chekc"], &[], "--help"),
        (&["check", "--colour"], &[], "--help"),
    ];
    for (arguments, environment, expected) in cases {
        let output = ringmain(arguments, environment);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(
            text.trim_end().lines().last().unwrap_or("").contains(expected),
            "{arguments:?}: {text}"
        );
        assert!(output.stdout.is_empty() && !text.contains("hush"), "{arguments:?}");
    }
}

#[test]
fn a_file_in_the_working_directory_is_read() {
    let path = directory("here");
    std::fs::write(path.join("ringmain.toml"), "[limit]\nspin_us = 1\n")
        .expect("the target directory can be written");
    let output = Command::new(env!("CARGO_BIN_EXE_ringmain"))
        .arg("check")
        .env_clear()
        .current_dir(path)
        .output()
        .expect("the binary was built for this test");
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("ringmain.toml:2: unknown setting `limit.spin_us`"));
}

#[test]
fn a_token_says_what_was_asked_for() {
    let made = |arguments: &[&str]| {
        let arguments: Vec<&str> = ["token", "hotsock"].iter().chain(arguments).copied().collect();
        let output = ringmain(&arguments, &[]);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", stderr(&output));
        (stdout(&output), stderr(&output))
    };
    let slot = KeySlot {
        method: "HS256",
        id: None,
        key_base64: ringmain::config::Secret("YXBwLXNlY3JldA".into()),
    };
    let keyring = Keyring::new(std::slice::from_ref(&slot), "", "", Millis(0)).unwrap();
    let claims = |token: &str| keyring.verify(token.trim_end(), UnixMillis(0)).unwrap();

    let (token, said) = made(&["--uid", "ada", "--subscribe", "chat.*", "--ttl", "60"]);
    assert!(said.contains(&format!("ws://127.0.0.1:6001/v1?token={}", token.trim_end())), "{said}");
    assert!(said.contains(r#"{"event":"hotsock.subscribe","channel":"chat.1"}"#), "{said}");
    assert!(token.ends_with('\n') && token.lines().count() == 1);
    let text = claims(&token);
    assert!(
        text.ends_with(
            r#""scope":"connect","uid":"ada","channels":{"chat.*":{"subscribe":true}}}"#
        )
    );
    let read = Claims::parse(&text).unwrap();
    assert!(read.opens() && read.uid.as_deref() == Some("ada"));

    let (token, said) = made(&[
        "--scope",
        "subscribe,umd",
        "--single-use",
        "--history",
        "--subscribe",
        "a",
        "--publish",
        "a:b",
        "--publish",
        "a:#",
        "--storage",
        "#regex:x:y:*",
        "--umd",
        " [1] ",
        "--claims",
        r#"{"uid":"bob","keepAlive":true,"scope":"subscribe","channels":{"z":{"alias":"y"}}}"#,
    ]);
    assert!(!said.contains("url"), "{said}");
    let text = claims(&token);
    for part in [
        r#""umd":[1],"singleUse":true,"jti":""#,
        r##""channels":{"a":{"subscribe":true,"historyStart":0,"messages":{"b":{"publish":true},"#":{"publish":true}}},"##,
        r##""#regex:x:y":{"storage":{"*":{"get":true,"set":true,"observe":true}}},"z":{"alias":"y"}}"##,
        r#","uid":"bob","keepAlive":true,"scope":"subscribe"}"#,
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(text.matches("scope").count(), 1);

    // What is configured: address, audience and issuer, the first key that is a secret.
    let file = directory("token").join("some.toml");
    let text = "listen = [\"0.0.0.0:7000\"]\n[hotsock]\napp = \"1\"\naudience = \"us\"\nissuer = \"me\"\n\
        [[hotsock.keys]]\nmethod = \"HS512\"\nid = \"new\"\nkey_base64 = \"c2VjcmV0\"\n\
        [[apps]]\nid = 1\nkey = \"k\"\nsecret = \"hush\"\n";
    std::fs::write(&file, text).expect("the target directory can be written");
    let (token, said) = made(&["--config", &file.to_string_lossy()]);
    assert!(said.contains("ws://127.0.0.1:7000/v1?token="), "{said}");
    let slot = KeySlot {
        method: "HS512",
        id: Some("new".into()),
        key_base64: ringmain::config::Secret("c2VjcmV0".into()),
    };
    let keyring = Keyring::new(&[slot], "us", "me", Millis(0)).unwrap();
    assert!(keyring.verify(token.trim_end(), UnixMillis(0)).is_ok());
}
