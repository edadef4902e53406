use super::*;

fn variables(texts: &[&str]) -> Vec<Variable> {
    let split = |it: &&str| {
        let (name, value) = it.split_once('=').expect("NAME=value");
        (name.to_owned(), value.to_owned(), Origin::Environment(name.to_owned()))
    };
    texts.iter().map(split).collect()
}

fn said(texts: &[&str]) -> Said {
    let variables = variables(texts);
    match read(&Variables(&variables)) {
        Ok(said) => said,
        Err(wrong) => panic!("{texts:?}: {wrong:?}"),
    }
}

fn setting(texts: &[&str], key: &str) -> String {
    let said = said(texts);
    let found = said.settings.iter().rev().find(|(_, it, _)| *it == key);
    found.map(|(.., value)| value.spelled()).unwrap_or_default()
}

const LISTEN: &str = "listen";
const REDIS: &str = "mastodon.redis_url";
const DATABASE: &str = "mastodon.database_url";
const TLS: &str = "mastodon.database_tls";

#[test]
fn every_variable_says_what_it_says_to_their_server() {
    for (texts, key, expected) in [
        // Where it listens.
        (&[][..], LISTEN, "127.0.0.1:4000"),
        (&["PORT=4001"], LISTEN, "127.0.0.1:4001"),
        (&["PORT=", "BIND=0.0.0.0"], LISTEN, "0.0.0.0:4000"),
        (&["BIND=::1"], LISTEN, "[::1]:4000"),
        (&["BIND=[::]", "PORT=80"], LISTEN, "[::]:80"),
        (&["BIND=localhost"], LISTEN, "127.0.0.1:4000"),
        (&["BIND="], LISTEN, "0.0.0.0:4000"),
        (
            &["SOCKET=/run/streaming.sock", "PORT=4001", "BIND=::1"],
            LISTEN,
            "unix:/run/streaming.sock",
        ),
        (&["SOCKET=", "PORT=4001"], LISTEN, "127.0.0.1:4001"),
        // PostgreSQL, by its parts.
        (
            &["NODE_ENV=production"],
            DATABASE,
            "postgres://mastodon@localhost:5432/mastodon_production",
        ),
        (&["USER=ada"], DATABASE, "postgres://ada@localhost:5432/mastodon_development"),
        (
            &["NODE_ENV=development"],
            DATABASE,
            "postgres://postgres@localhost:5432/mastodon_development",
        ),
        (
            &["DB_HOST=db.example", "DB_PORT=6432", "DB_NAME=m n", "DB_USER=a@b", "DB_PASS=p:/?#%"],
            DATABASE,
            "postgres://a%40b:p%3A%2F%3F%23%25@db.example:6432/m%20n",
        ),
        (
            &["DB_USER=a", "DB_NAME=m", "DB_HOST=/run/pg"],
            DATABASE,
            "postgres://a@%2Frun%2Fpg:5432/m",
        ),
        (&["DB_USER=a", "DB_NAME=m", "DB_HOST=::1"], DATABASE, "postgres://a@[::1]:5432/m"),
        (
            &["DB_PASS=ключ", "DB_USER=a"],
            DATABASE,
            "postgres://a:%D0%BA%D0%BB%D1%8E%D1%87@localhost:5432/mastodon_development",
        ),
        (&[], TLS, "off"),
        (&["DB_SSLMODE="], TLS, "off"),
        (&["DB_SSLMODE=disable"], TLS, "off"),
        (&["DB_SSLMODE=no-verify"], TLS, "unverified"),
        (&["DB_SSLMODE=prefer"], TLS, "verified"),
        (&["DB_SSLMODE=require"], TLS, "verified"),
        (&["DB_POOL=25"], "mastodon.database_connections_max", "25"),
        (&[], "mastodon.database_connections_max", ""),
        // By its address.
        (
            &["DATABASE_URL=postgres://a:b@h:1/m", "DB_HOST=x", "DB_USER=y", "DB_PASS=z"],
            DATABASE,
            "postgres://a:b@h:1/m",
        ),
        (
            &["DATABASE_URL=postgresql://a@h/m", "DB_PASS=z/"],
            DATABASE,
            "postgres://a:z%2F@h:5432/m",
        ),
        (&["DATABASE_URL=postgres://h/m", "USER=ada"], DATABASE, "postgres://ada@h:5432/m"),
        (&["DATABASE_URL=postgres://a:p%40%3Aq@h:/m"], DATABASE, "postgres://a:p%40%3Aq@h:5432/m"),
        (&["DATABASE_URL=postgres://a:p@q@h/m"], DATABASE, "postgres://a:p%40q@h:5432/m"),
        (&["DATABASE_URL=postgres://a@[::1]:6432/m"], DATABASE, "postgres://a@[::1]:6432/m"),
        (&["DATABASE_URL=postgres://a@[::1]/m"], DATABASE, "postgres://a@[::1]:5432/m"),
        (&["DATABASE_URL=postgres://a@%2Frun%2Fpg/m"], DATABASE, "postgres://a@%2Frun%2Fpg:5432/m"),
        (
            &["DATABASE_URL=postgres:///m?host=/run/pg&user=a&port=6432"],
            DATABASE,
            "postgres://a@%2Frun%2Fpg:6432/m",
        ),
        (
            &["DATABASE_URL=socket:/run/pg?db=m&encoding=utf8", "USER=a"],
            DATABASE,
            "postgres://a@%2Frun%2Fpg:5432/m",
        ),
        (
            &["DATABASE_URL=socket://a:b@/run/pg/?db=m"],
            DATABASE,
            "postgres://a:b@%2Frun%2Fpg%2F:5432/m",
        ),
        (&["DATABASE_URL=/run/pg m", "USER=a"], DATABASE, "postgres://a@%2Frun%2Fpg:5432/m"),
        (
            &["DATABASE_URL=postgres://a@h/m?pool=5&application_name=x&options=-c%20a%3Db+c"],
            DATABASE,
            "postgres://a@h:5432/m?options=-c%20a%3Db%20c",
        ),
        (&["DATABASE_URL=postgres://a@h/m", "DB_SSLMODE=require"], TLS, "off"),
        (&["DATABASE_URL=postgres://a@h/m?sslmode=disable"], TLS, "off"),
        (&["DATABASE_URL=postgres://a@h/m?sslmode=no-verify"], TLS, "unverified"),
        (&["DATABASE_URL=postgres://a@h/m?sslmode=require"], TLS, "verified"),
        (&["DATABASE_URL=postgres://a@h/m?sslmode=verify-full"], TLS, "verified"),
        (&["DATABASE_URL=postgres://a@h/m?ssl=true"], TLS, "verified"),
        (&["DATABASE_URL=postgres://a@h/m?ssl=0"], TLS, "off"),
        (&["DATABASE_URL=postgres://a@h/m", "NODE_ENV=test"], DATABASE, "postgres://a@h:5432/m"),
        // Redis.
        (&[], REDIS, "redis://127.0.0.1:6379/0"),
        (&["REDIS_HOST=r", "REDIS_PORT=6380", "REDIS_DB=3"], REDIS, "redis://r:6380/3"),
        (&["REDIS_HOST=::1"], REDIS, "redis://[::1]:6379/0"),
        (&["REDIS_PASSWORD=p@/"], REDIS, "redis://:p%40%2F@127.0.0.1:6379/0"),
        (&["REDIS_USER=u", "REDIS_PASSWORD=p"], REDIS, "redis://u:p@127.0.0.1:6379/0"),
        (&["REDIS_USERNAME=u", "REDIS_PASSWORD=p"], REDIS, "redis://u:p@127.0.0.1:6379/0"),
        (&["REDIS_USER=u"], REDIS, "redis://u@127.0.0.1:6379/0"),
        (
            &["REDIS_URL=rediss://a:b@r:1/2", "REDIS_HOST=x", "REDIS_PORT=oops"],
            REDIS,
            "rediss://a:b@r:1/2",
        ),
        (&["REDIS_URL=unix:///run/redis.sock"], REDIS, "unix:///run/redis.sock"),
        (&["REDIS_URL=/run/redis.sock"], REDIS, "unix:///run/redis.sock"),
        (&["REDIS_URL=", "REDIS_HOST=r"], REDIS, "redis://r:6379/0"),
        (&["REDIS_NAMESPACE=m"], "mastodon.redis_namespace", "m"),
        (
            &["REDIS_SENTINELS=a, b:1,[::1]:2,[::2],", "REDIS_SENTINEL_MASTER=m"],
            "mastodon.redis_sentinels",
            "[a:26379, b:1, [::1]:2, [::2]:26379]",
        ),
        (
            &["REDIS_SENTINELS=a", "REDIS_SENTINEL_MASTER=m", "REDIS_SENTINEL_PORT=5"],
            "mastodon.redis_sentinels",
            "[a:5]",
        ),
        (&["REDIS_SENTINELS=a", "REDIS_SENTINEL_MASTER=m"], "mastodon.redis_sentinel_master", "m"),
        (
            &["REDIS_SENTINELS=a", "REDIS_SENTINEL_MASTER=m", "REDIS_USER=u"],
            "mastodon.redis_sentinel_user",
            "u",
        ),
        (
            &[
                "REDIS_SENTINELS=a",
                "REDIS_SENTINEL_MASTER=m",
                "REDIS_USER=u",
                "REDIS_SENTINEL_USERNAME=v",
            ],
            "mastodon.redis_sentinel_user",
            "v",
        ),
        (
            &["REDIS_SENTINELS=a", "REDIS_SENTINEL_MASTER=m", "REDIS_PASSWORD=p"],
            "mastodon.redis_sentinel_password",
            "p",
        ),
        (
            &[
                "REDIS_SENTINELS=a",
                "REDIS_SENTINEL_MASTER=m",
                "REDIS_PASSWORD=p",
                "REDIS_SENTINEL_PASSWORD=q",
            ],
            "mastodon.redis_sentinel_password",
            "q",
        ),
        (&["REDIS_SENTINELS=a"], "mastodon.redis_sentinels", ""),
        (
            &["REDIS_SENTINELS=a", "REDIS_SENTINEL_MASTER=m", "REDIS_URL=redis://r"],
            "mastodon.redis_sentinels",
            "",
        ),
        // What has no meaning here.
        (
            &["TRUSTED_PROXY_IP=10.0.0.1", "STREAMING_API_BASE_URL=wss://x"],
            LISTEN,
            "127.0.0.1:4000",
        ),
    ] {
        assert_eq!(setting(texts, key), expected, "{texts:?} {key}");
    }
}

#[test]
fn what_cannot_be_is_refused_by_its_name() {
    for (texts, names) in [
        (&["PORT=http"][..], &["PORT"][..]),
        (&["PORT=65536"], &["PORT"]),
        (&["PORT=-1"], &["PORT"]),
        (&["BIND=no where"], &["BIND"]),
        (&["DB_PORT=x"], &["DB_PORT"]),
        (&["DB_POOL=many"], &["DB_POOL"]),
        (&["REDIS_PORT=x"], &["REDIS_PORT"]),
        (&["REDIS_DB=x"], &["REDIS_DB"]),
        (&["REDIS_URL=http://x"], &["REDIS_URL"]),
        (&["REDIS_SENTINELS=a:b", "REDIS_SENTINEL_MASTER=m"], &["REDIS_SENTINELS"]),
        (
            &["REDIS_SENTINELS=a", "REDIS_SENTINEL_MASTER=m", "REDIS_SENTINEL_PORT=x"],
            &["REDIS_SENTINEL_PORT"],
        ),
        (&["DATABASE_URL=hush"], &["DATABASE_URL"]),
        (&["DATABASE_URL=mysql://a:hush@h/m"], &["DATABASE_URL"]),
        (&["DATABASE_URL=postgres://a:hush@h:port/m"], &["DATABASE_URL"]),
        (&["NODE_ENV=test"], &["NODE_ENV"]),
        (&["PORT=x", "REDIS_PORT=y", "DB_POOL=z"], &["PORT", "REDIS_PORT", "DB_POOL"]),
    ] {
        let variables = variables(texts);
        let Err(wrong) = read(&Variables(&variables)) else { panic!("{texts:?} was taken") };
        let found: Vec<_> = wrong.iter().map(|it| it.name).collect();
        assert_eq!(found, names, "{texts:?}");
        assert!(!format!("{wrong:?}").contains("hush"), "{wrong:?}");
        for it in wrong {
            assert_eq!(it.origin, Origin::Environment(it.name.to_owned()));
        }
    }
}

#[test]
fn log_levels_are_theirs() {
    for (texts, expected) in [
        (&[][..], Level::Debug),
        (&["NODE_ENV=production"], Level::Info),
        (&["NODE_ENV=production", "LOG_LEVEL=trace"], Level::Debug),
        (&["NODE_ENV=production", "LOG_LEVEL=debug"], Level::Debug),
        (&["LOG_LEVEL=info"], Level::Info),
        (&["LOG_LEVEL=warn"], Level::Warn),
        (&["LOG_LEVEL=error"], Level::Error),
        (&["LOG_LEVEL=fatal"], Level::Error),
        (&["LOG_LEVEL=loud", "NODE_ENV=production"], Level::Info),
    ] {
        assert_eq!(said(texts).level, expected, "{texts:?}");
    }
}

#[test]
fn an_administrator_is_told_what_counts_no_more() {
    for (texts, word) in [
        (&["REDIS_NAMESPACE=m"][..], "REDIS_NAMESPACE"),
        (&["STREAMING_CLUSTER_NUM=4"], "STREAMING_CLUSTER_NUM"),
        (&["REDIS_SENTINELS=a"], "REDIS_SENTINEL_MASTER"),
        (&["DATABASE_URL=postgres://a@h/m?sslrootcert=/ca.pem"], "sslrootcert"),
    ] {
        let notes = said(texts).notes;
        assert!(notes.len() == 1 && notes[0].contains(word), "{texts:?}: {notes:?}");
    }
    assert_eq!(said(&["NODE_ENV=production"]).notes, Vec::<String>::new());
}

#[test]
fn parts_of_addresses_survive_the_way_there_and_back() {
    for text in ["", "a", "a b", "p@:/?#%", "ключ", "100%", "%zz", "%2"] {
        assert_eq!(decoded(&encoded(text)), text);
    }
    for (text, expected) in [("%2Frun", "/run"), ("100%", "100%"), ("%zz", "%zz"), ("%2", "%2")] {
        assert_eq!(decoded(text), expected);
    }
}

#[test]
fn every_variable_is_in_the_written_page() {
    let page = include_str!("../../../docs/mastodon-migration.md");
    for file in
        [include_str!("variables.rs"), include_str!("redis.rs"), include_str!("database.rs")]
    {
        let words = file.split('"').skip(1).step_by(2);
        let is_name = |it: &&str| {
            it.len() > 3
                && it.bytes().all(|it| it.is_ascii_uppercase() || it == b'_')
                && *it != "USER"
        };
        for name in words.filter(is_name) {
            assert!(page.contains(&format!("`{name}`")), "{name}");
        }
    }
}
