use super::*;
use crate::config::Machine;
use crate::config::load::{Sources, load};

const APP: &str = "[[apps]]\nid = \"a\"\nkey = \"k\"\nsecret = \"s\"\n";
const TOKEN: &str = "[[mastodon.tokens]]\ntoken = \"t\"\nuser = \"1\"\npermissions = [\"read\"]\n";
const BOTH: &str =
    "mastodon.redis_url = \"redis://:pw@h\"\nmastodon.database_url = \"postgres://u:pw@h/d\"\n";

fn read(text: &str) -> Result<Settings, String> {
    let sources = Sources {
        file: Some(("x.toml".into(), format!("{text}\n{APP}"))),
        environment: vec![("THE_URL".into(), "postgresql://h/d".into())],
        flags: Vec::new(),
        machine: Machine::small(),
        sections: crate::dialects::SECTIONS,
    };
    match load(&sources) {
        Ok(loaded) => Ok(Settings::of(&loaded.config)),
        Err(problems) => {
            Err(problems.iter().map(|it| it.to_string()).collect::<Vec<_>>().join("\n"))
        }
    }
}

#[test]
fn what_is_wrong_is_told_by_name() {
    let on = |more: &str| format!("mastodon.app = \"a\"\n{more}");
    let token = |user: &str, permissions: &str| {
        on(&format!(
            "[[mastodon.tokens]]\ntoken = \"t\"\nuser = \"{user}\"\npermissions = [{permissions}]\n"
        ))
    };
    let account = |more: &str| on(&format!("{TOKEN}[[mastodon.accounts]]\n{more}\n"));
    let filter = |more: &str| {
        on(&format!("{TOKEN}[[mastodon.filters]]\naccount = \"1\"\ntitle = \"f\"\n{more}\n"))
    };
    for (text, parts) in [
        (format!("mastodon.app = \"b\"\n{TOKEN}"), &["mastodon.app", "the id of an app: a"][..]),
        (TOKEN.to_owned(), &["mastodon.app", "the rest is for one"]),
        (BOTH.to_owned(), &["mastodon.app", "the rest is for one"]),
        (on("mastodon.redis_url = \"redis://h\""), &["mastodon.database_url", "PostgreSQL"]),
        (on("mastodon.database_url = \"postgres://h\""), &["mastodon.redis_url", "Redis"]),
        (on("mastodon.redis_url = \"http://h\""), &["mastodon.redis_url", "***", "rediss://"]),
        (on("mastodon.database_url = \"mysql://h\""), &["mastodon.database_url", "postgresql://"]),
        (on("mastodon.database_url_env = \"NOTHING\""), &["database_url_env", "which is not set"]),
        (
            on("mastodon.database_tls = \"on\""),
            &["mastodon.database_tls", "off, unverified, verified"],
        ),
        (on("mastodon.database_connections_max = 0"), &["mastodon.database_connections_max"]),
        (on("mastodon.relations_cache_s = 61"), &["mastodon.relations_cache_s", "0"]),
        (on("mastodon.message_bytes_max = 1"), &["mastodon.message_bytes_max"]),
        (on("mastodon.streams_max = 0"), &["mastodon.streams_max"]),
        (on("mastodon.heartbeat_s = 0"), &["mastodon.heartbeat_s"]),
        (on("mastodon.ping_s = 0"), &["mastodon.ping_s"]),
        (on("mastodon.metrics_prefix = \"a-\""), &["mastodon.metrics_prefix", "letters"]),
        (on("mastodon.metrics_prefix = \"1a\""), &["mastodon.metrics_prefix", "letters"]),
        (on("mastodon.redis_namespace = \"a b\""), &["mastodon.redis_namespace", "without space"]),
        (
            on(&format!(
                "mastodon.redis_sentinels = [\"h\"]\nmastodon.redis_sentinel_master = \"m\"\n{BOTH}"
            )),
            &["mastodon.redis_sentinels", "HOST:PORT"],
        ),
        (
            on(&format!("mastodon.redis_sentinels = [\"h:1\"]\n{BOTH}")),
            &["mastodon.redis_sentinel_master"],
        ),
        (
            on(&format!("mastodon.redis_sentinel_master = \"m\"\n{BOTH}")),
            &["mastodon.redis_sentinel_master"],
        ),
        (on(&format!("{BOTH}{TOKEN}")), &["mastodon.tokens", "without mastodon.redis_url"]),
        (
            on(&format!("{BOTH}[[mastodon.accounts]]\nid = \"1\"\n")),
            &["mastodon.accounts", "without mastodon.redis_url"],
        ),
        (token("ann", "\"read\""), &["mastodon.tokens", "ann", "a number"]),
        (token("1:notifications", "\"read\""), &["mastodon.tokens", "a number"]),
        (token("1", "\"write\""), &["mastodon.tokens", "write", "read:notifications"]),
        (
            on("[[mastodon.tokens]]\ntoken = \"t\"\nuser = \"1\""),
            &["mastodon.tokens", "permissions"],
        ),
        (on(&format!("{TOKEN}{TOKEN}")), &["mastodon.tokens", "each token once"]),
        (account("lists = [\"1\"]"), &["mastodon.accounts", "id"]),
        (account("id = \"public\""), &["mastodon.accounts", "public", "a number"]),
        (
            account("id = \"1\"\n[[mastodon.accounts]]\nid = \"1\""),
            &["mastodon.accounts", "whose ids differ"],
        ),
        (account("id = \"1\"\nmutes = [\"ann\"]"), &["mastodon.accounts", "ann", "mutes"]),
        (account("id = \"1\"\nlists = [\"a\"]"), &["mastodon.accounts", "lists"]),
        (filter("keywords = []"), &["mastodon.filters", "at least one keyword"]),
        (filter("keywords = [\"\"]"), &["mastodon.filters", "none of them empty"]),
        (filter("keywords = [\"a\"]\naction = \"blur\""), &["action", "warn, hide"]),
        (filter("keywords = [\"a\"]\ncontext = [\"work\"]"), &["mastodon.filters", "work", "home"]),
        (
            filter("keywords = [\"a\"]\nexpires_at = \"tomorrow\""),
            &["mastodon.filters", "tomorrow", "2030-01-31T12:00:00Z"],
        ),
        (on("mastodon.consult_url = \"x\""), &["mastodon.consult_url"]),
    ] {
        let problems = read(&text).map(|_| ()).expect_err(&text);
        for part in parts {
            assert!(problems.contains(part), "{text}: {problems}");
        }
        assert!(!problems.contains("pw@"), "a secret is told: {problems}");
    }
}

#[test]
fn defaults_are_the_references() {
    let settings = read("").unwrap();
    assert!(settings.app.is_empty() && settings.tokens.tokens.is_empty());
    assert!(!settings.takes_everything && !settings.sends_filters_changed);
    assert_eq!((settings.message_bytes_max, settings.streams_max), (65_536, 1_000));
    assert_eq!((settings.heartbeat, settings.ping), (Millis(15_000), Millis(30_000)));
    assert_eq!(settings.relations_cache, Millis(5_000));
    assert_eq!(settings.database_connections_max, 10);
    assert!(settings.servers().is_none() && !settings.has_upstream());
}

#[test]
fn servers_are_where_the_settings_say() {
    let text = "mastodon.app = \"a\"\nmastodon.redis_url = \"rediss://u:pw@h:1/2\"\n\
                mastodon.redis_sentinels = [\"s:26379\", \"[::1]:5\"]\nmastodon.redis_sentinel_master = \"m\"\n\
                mastodon.database_url_env = \"THE_URL\"\nmastodon.database_tls = \"verified\"\n\
                mastodon.database_connections_max = 3\nmastodon.relations_cache_s = 0";
    let settings = read(text).unwrap();
    let servers = settings.servers().unwrap();
    assert_eq!(servers.redis.url.0, "rediss://u:pw@h:1/2");
    assert_eq!(servers.redis.sentinels, ["s:26379", "[::1]:5"]);
    assert_eq!(servers.redis.sentinel_master, "m");
    assert_eq!(servers.postgres.url.0, "postgresql://h/d");
    assert_eq!(servers.postgres.tls, PostgresTls::Verified);
    assert_eq!(servers.postgres.connections_max, 3);
    assert_eq!(settings.relations_cache, Millis(0));
}

#[test]
fn accounts_and_filters_are_read() {
    let text = format!(
        "mastodon.app = \"a\"\n{TOKEN}[[mastodon.accounts]]\nid = \"1\"\nlanguages = [\"en\", \"de\"]\n\
         blocks = [\"2\"]\nlists = [\"7\"]\n[[mastodon.filters]]\naccount = \"1\"\ntitle = \"f\"\n\
         keywords = [\"a\", \"b c\"]\nwhole_word = false\naction = \"hide\"\ncontext = [\"public\"]\n\
         expires_at = \"1970-01-01T01:00:01+01:00\"\n[[mastodon.filters]]\naccount = \"1\"\ntitle = \"g\"\n\
         keywords = [\"d\"]\n"
    );
    let settings = read(&text).unwrap();
    let [account] = &settings.accounts[..] else { panic!("{settings:?}") };
    assert_eq!(
        (&*account.id, &account.languages[..]),
        ("1", &["en".to_owned(), "de".to_owned()][..])
    );
    assert_eq!(
        (&account.blocks[..], &account.lists[..]),
        (&["2".to_owned()][..], &["7".to_owned()][..])
    );
    let [first, second] = &settings.filters[..] else { panic!("{settings:?}") };
    assert_eq!((&*first.account, &*first.title), ("1", "f"));
    assert_eq!(first.keywords, ["a", "b c"]);
    assert_eq!((first.whole_word, first.hides), (false, true));
    assert_eq!((second.whole_word, second.hides, &*second.expires_at), (true, false, ""));
}

#[test]
fn the_development_token_is_for_development_alone() {
    let settings = Settings::of(&Config::development());
    assert_eq!(settings.app, DEVELOPMENT_ID);
    assert_eq!(settings.tokens.tokens.len(), 1);
    assert_eq!(settings.accounts[0].lists, [DEVELOPMENT_LIST]);
    assert!(check(&settings, &Config::development()).is_empty());
    let mut config = Config::development();
    let mut upstream = SECTION.blank();
    upstream.redis_url = Some(Secret("redis://h".to_owned()));
    upstream.database_url = Some(Secret("postgres://h".to_owned()));
    config.sections.set(upstream);
    let settings = Settings::of(&config);
    assert!(settings.tokens.tokens.is_empty() && settings.accounts.is_empty());
    let settings = read(&format!("mastodon.app = \"a\"\n{TOKEN}")).unwrap();
    assert_eq!(settings.tokens.tokens.len(), 1);
}
