//! What can be set of this protocol, and what is wrong although each setting is right.

use crate::auth::keyring::{KeySlot, Keyring, METHODS};
use crate::auth::sigv4::AccessKey;
use crate::base::time::Millis;
use crate::config::section::{Rows, SectionOf};
use crate::config::table::{Setting, number};
use crate::config::value::{Applies, Kind, SecretFrom};
use crate::config::{Config, DEVELOPMENT_ID, DEVELOPMENT_KEY, DEVELOPMENT_SECRET, Secret};

/// The development app's secret, as a slot's key.
const DEVELOPMENT_KEY_BASE64: &str = "YXBwLXNlY3JldA==";
/// The shortest bearer key and the shortest secret of an access key: what is shorter can be guessed.
pub const SECRET_BYTES_MIN: usize = 20;
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// The protocol's settings.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The id of the app whose channels these are; empty: the protocol is not spoken.
    pub app: String,
    /// What connection tokens must be for (`aud`); empty: not looked at.
    pub audience: String,
    /// Who must have issued them (`iss`); empty: not looked at.
    pub issuer: String,
    /// How far the clocks of those who issue tokens may be from ours.
    pub leeway: Millis,
    /// How long a connection may live.
    pub connection_lifetime: Millis,
    /// How long nothing may come or go on it.
    pub idle: Millis,
    /// An inbound message.
    pub message_bytes_max: usize,
    /// Subscriptions of one connection.
    pub subscriptions_max: usize,
    /// The keys that tokens may be signed with.
    pub keys: Vec<KeyRow>,
    /// The bearer keys of the server API.
    pub api_keys: Vec<ApiKeyRow>,
    /// The key pairs of its invoke route.
    pub access_keys: Vec<AccessKey>,
}

/// A key that tokens may be signed with.
#[derive(Clone, Debug, Default)]
pub struct KeyRow {
    /// Its algorithm; a token with another is not tried against it.
    pub method: &'static str,
    /// What a token that names a key must call it; empty: any name.
    pub id: String,
    /// Base64 of a secret, or of a public key as PEM.
    pub key_base64: Option<Secret>,
}

/// A bearer key of the server API.
#[derive(Clone, Debug, Default)]
pub struct ApiKeyRow {
    /// The key.
    pub key: Option<Secret>,
}

impl Settings {
    /// The settings in force; in development, those of the development app and its keys.
    pub fn of(config: &Config) -> Self {
        let mut settings =
            config.sections.get::<Self>().cloned().unwrap_or_else(|| SECTION.blank());
        if config.development {
            let secret = |text: &str| Secret(text.to_owned());
            if settings.app.is_empty() {
                settings.app = DEVELOPMENT_ID.to_owned();
            }
            let key_base64 = Some(secret(DEVELOPMENT_KEY_BASE64));
            settings.keys.push(KeyRow { method: "HS256", id: String::new(), key_base64 });
            settings.api_keys.push(ApiKeyRow { key: Some(secret(DEVELOPMENT_SECRET)) });
            let id = DEVELOPMENT_KEY.to_owned();
            settings.access_keys.push(AccessKey { id, secret: secret(DEVELOPMENT_SECRET) });
        }
        settings
    }

    /// The keys that tokens may be signed with, or which of them is none and why.
    pub fn keyring(&self) -> Result<Keyring, (usize, String)> {
        let slot = |row: &KeyRow| KeySlot {
            method: row.method,
            id: (!row.id.is_empty()).then(|| row.id.clone()),
            key_base64: row.key_base64.clone().unwrap_or(Secret(String::new())),
        };
        let slots: Vec<_> = self.keys.iter().map(slot).collect();
        Keyring::new(&slots, &self.audience, &self.issuer, self.leeway)
    }
}

fn check(settings: &Settings, config: &Config) -> Vec<(&'static str, String, String)> {
    let mut faults = Vec::new();
    let app = &settings.app;
    let ids: Vec<_> = config.apps.iter().map(|it| &*it.id).collect();
    let one_of = format!("the id of an app: {}", ids.join(", "));
    let has_keys = !(settings.keys.is_empty()
        && settings.api_keys.is_empty()
        && settings.access_keys.is_empty());
    if !app.is_empty() && !ids.contains(&&**app) {
        faults.push(("hotsock.app", app.clone(), one_of));
    } else if app.is_empty() && has_keys && !config.development {
        faults.push(("hotsock.app", app.clone(), format!("{one_of}; there are keys for one")));
    }
    if !app.is_empty() && settings.keys.is_empty() && !config.development {
        let allowed = "at least one [[hotsock.keys]]: without one no token is good".to_owned();
        faults.push(("hotsock.keys", "none".to_owned(), allowed));
    }
    if let Err((i, why)) = settings.keyring() {
        let row = &settings.keys[i];
        let value = format!("{} {}", row.method, row.id);
        faults.push(("hotsock.keys", value.trim_end().to_owned(), why));
    }
    for (i, key) in settings.keys.iter().enumerate() {
        let before = settings.keys.iter().take(i);
        if !key.id.is_empty() && before.into_iter().any(|it| it.id == key.id) {
            let allowed = "each id once, or no id".to_owned();
            faults.push(("hotsock.keys", key.id.clone(), allowed));
        }
    }
    for (i, row) in settings.api_keys.iter().enumerate() {
        let text = |row: &ApiKeyRow| row.key.clone().map_or_else(String::new, |it| it.0);
        let key = text(row);
        let is_key = key.bytes().all(|byte| byte.is_ascii_graphic());
        if key.len() < SECRET_BYTES_MIN || !is_key {
            let allowed = format!("at least {SECRET_BYTES_MIN} characters of ASCII, no space");
            faults.push(("hotsock.api_keys", "***".to_owned(), allowed));
        }
        if settings.api_keys.iter().take(i).any(|it| text(it) == key) {
            faults.push(("hotsock.api_keys", "***".to_owned(), "each key once".to_owned()));
        }
    }
    for (i, row) in settings.access_keys.iter().enumerate() {
        let is_id = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if row.id.is_empty() || row.id.len() > 128 || !row.id.bytes().all(is_id) {
            let allowed = "an id of 1 to 128 letters, digits, `-`, `_`, `.`".to_owned();
            faults.push(("hotsock.access_keys", row.id.clone(), allowed));
        }
        if row.secret.0.len() < SECRET_BYTES_MIN {
            let allowed =
                format!("for {}: a secret of at least {SECRET_BYTES_MIN} characters", row.id);
            faults.push(("hotsock.access_keys", "***".to_owned(), allowed));
        }
        if settings.access_keys.iter().take(i).any(|it| it.id == row.id) {
            faults.push(("hotsock.access_keys", row.id.clone(), "each id once".to_owned()));
        }
    }
    faults
}

/// A row with a text: field, what it is, help.
macro_rules! text {
    ($key:literal, $field:ident, $what:literal, $help:literal) => {
        Setting {
            key: $key,
            kind: Kind::Text {
                what: $what,
                put: |it, text| it.$field = text,
                read: |it| &it.$field,
            },
            applies: Applies::AtStart,
            help: $help,
        }
    };
}

/// A row with a secret: where it is, where it goes, help.
macro_rules! secret {
    ($key:literal, $from:ident, $put:expr, $help:literal) => {
        Setting {
            key: $key,
            kind: Kind::Secret { from: SecretFrom::$from, put: $put },
            applies: Applies::AtStart,
            help: $help,
        }
    };
}

/// What this dialect declares of settings.
pub static SECTION: SectionOf<Settings> = SectionOf {
    name: "hotsock",
    about: "The Hotsock protocol: `docs/hotsock.md`.",
    settings: &[
        text!(
            "hotsock.app",
            app,
            "the id of an app",
            "The app whose channels these are; none: the protocol is not spoken (in development: the development app)."
        ),
        text!(
            "hotsock.audience",
            audience,
            "a text",
            "For whom tokens must be (aud); none: not looked at."
        ),
        text!(
            "hotsock.issuer",
            issuer,
            "a text",
            "Who must have issued tokens (iss); none: anyone who has a key."
        ),
        number!(
            "hotsock.leeway_s",
            leeway,
            Seconds,
            0,
            0,
            5 * MINUTE,
            "How far the clocks of those who issue tokens may be from ours."
        ),
        number!(
            "hotsock.connection_lifetime_s",
            connection_lifetime,
            Seconds,
            2 * HOUR,
            SECOND,
            30 * DAY,
            "How long a connection may live; then close code 1001, and clients come back with a new token."
        ),
        number!(
            "hotsock.idle_s",
            idle,
            Seconds,
            10 * MINUTE,
            SECOND,
            DAY,
            "How long a connection may be without a message either way; then close code 1001."
        ),
        number!(
            "hotsock.message_bytes_max",
            message_bytes_max,
            Bytes,
            128 * KIB,
            KIB,
            16 * MIB,
            "An inbound message; above it close code 1009. Never above websocket.message_bytes_max."
        ),
        number!(
            "hotsock.subscriptions_max",
            subscriptions_max,
            Count,
            1_000,
            1,
            1_000_000,
            "Subscriptions of one connection; a further one is refused."
        ),
    ],
    tables: &[
        &Rows {
            name: "keys",
            about: "Keys that tokens may be signed with; two or more while one replaces another.",
            settings: KEY_ROWS,
            required: &["method", "key_base64"],
            blank: KeyRow::default,
            push: |it: &mut Settings, row| it.keys.push(row),
        },
        &Rows {
            name: "api_keys",
            about: "Bearer keys of the server API.",
            settings: API_KEY_ROWS,
            required: &["key"],
            blank: ApiKeyRow::default,
            push: |it: &mut Settings, row| it.api_keys.push(row),
        },
        &Rows {
            name: "access_keys",
            about: "Key pairs of its invoke route, for AWS SDKs.",
            settings: ACCESS_KEY_ROWS,
            required: &["id", "secret"],
            blank: || AccessKey { id: String::new(), secret: Secret(String::new()) },
            push: |it: &mut Settings, row| it.access_keys.push(row),
        },
    ],
    blank: Settings::default,
    check,
};

static KEY_ROWS: &[Setting<KeyRow>] = &[
    Setting {
        key: "method",
        kind: Kind::Choice {
            default: "HS256",
            words: METHODS,
            put: |it, word| {
                it.method = METHODS.iter().find(|known| **known == word).unwrap_or(&"HS256");
            },
            read: |it| it.method,
        },
        applies: Applies::AtStart,
        help: "Its algorithm; a token with another is not tried against it.",
    },
    text!("id", id, "a text", "What a token that names a key (kid) must call it; none: any name."),
    secret!(
        "key_base64",
        Text,
        |it, text| it.key_base64 = Some(Secret(text)),
        "Base64 of the secret (HS methods) or of the public key as PEM; give it here or by one of the next two."
    ),
    secret!(
        "key_base64_file",
        File,
        |it, text| it.key_base64 = Some(Secret(text)),
        "A file that holds it."
    ),
    secret!(
        "key_base64_env",
        Environment,
        |it, text| it.key_base64 = Some(Secret(text)),
        "An environment variable that holds it."
    ),
];

static API_KEY_ROWS: &[Setting<ApiKeyRow>] = &[
    secret!(
        "key",
        Text,
        |it, text| it.key = Some(Secret(text)),
        "The key, at least 20 characters; give it here or by one of the next two."
    ),
    secret!("key_file", File, |it, text| it.key = Some(Secret(text)), "A file that holds it."),
    secret!(
        "key_env",
        Environment,
        |it, text| it.key = Some(Secret(text)),
        "An environment variable that holds it."
    ),
];

static ACCESS_KEY_ROWS: &[Setting<AccessKey>] = &[
    text!("id", id, "letters, digits, `-`, `_`, `.`", "Its access key id."),
    secret!(
        "secret",
        Text,
        |it, text| it.secret = Secret(text),
        "Its secret access key, at least 20 characters; give it here or by one of the next two."
    ),
    secret!("secret_file", File, |it, text| it.secret = Secret(text), "A file that holds it."),
    secret!(
        "secret_env",
        Environment,
        |it, text| it.secret = Secret(text),
        "An environment variable that holds it."
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Machine;
    use crate::config::load::{Sources, load};

    const APP: &str = "[[apps]]\nid = \"a\"\nkey = \"k\"\nsecret = \"s\"\n";
    const KEY: &str = "[[hotsock.keys]]\nmethod = \"HS256\"\nkey_base64 = \"c2VjcmV0\"\n";

    fn read(text: &str) -> Result<Settings, String> {
        let sources = Sources {
            file: Some(("x.toml".into(), format!("{text}\n{APP}"))),
            environment: vec![("THE_KEY".into(), "c2VjcmV0".into())],
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
        let on = |more: &str| format!("hotsock.app = \"a\"\n{KEY}{more}");
        let api_key = |key: &str| on(&format!("[[hotsock.api_keys]]\nkey = \"{key}\"\n"));
        let access = |id: &str, secret: &str| {
            format!("[[hotsock.access_keys]]\nid = \"{id}\"\nsecret = \"{secret}\"\n")
        };
        let (long, other) = ("x".repeat(20), "y".repeat(20));
        for (text, parts) in [
            (
                format!("hotsock.app = \"b\"\n{KEY}"),
                &["hotsock.app", "\"b\"", "the id of an app: a"][..],
            ),
            (KEY.to_owned(), &["hotsock.app", "there are keys for one"]),
            ("hotsock.app = \"a\"".to_owned(), &["hotsock.keys", "at least one"]),
            (
                on("[[hotsock.keys]]\nmethod = \"none\"\nkey_base64 = \"eA==\""),
                &["method", "none", "HS256"],
            ),
            (on("[[hotsock.keys]]\nmethod = \"HS256\""), &["hotsock.keys", "key_base64"]),
            (on("[[hotsock.keys]]\nkey_base64 = \"eA==\""), &["hotsock.keys", "method"]),
            (
                on("[[hotsock.keys]]\nmethod = \"ES256\"\nkey_base64 = \"!\""),
                &["hotsock.keys", "ES256"],
            ),
            (
                on("[[hotsock.keys]]\nmethod = \"RS256\"\nid = \"new\"\nkey_base64 = \"eA==\""),
                &["hotsock.keys", "RS256 new"],
            ),
            (
                on(&format!("{KEY}id = \"1\"\n{KEY}id = \"1\"")),
                &["hotsock.keys", "\"1\"", "each id once"],
            ),
            (api_key("short"), &["hotsock.api_keys", "***", "at least 20 characters"]),
            (api_key("twenty characters and a space"), &["hotsock.api_keys", "no space"]),
            (
                api_key(&long) + &format!("[[hotsock.api_keys]]\nkey = \"{long}\""),
                &["hotsock.api_keys", "each key once"],
            ),
            (on(&access("a b", &long)), &["hotsock.access_keys", "\"a b\"", "letters"]),
            (on(&access("", &long)), &["hotsock.access_keys", "letters"]),
            (on(&access("a", "short")), &["hotsock.access_keys", "for a", "at least 20"]),
            (
                on(&(access("a", &long) + &access("a", &other))),
                &["hotsock.access_keys", "each id once"],
            ),
            ("hotsock.leeway_s = 301".to_owned(), &["hotsock.leeway_s"]),
            ("hotsock.connection_lifetime_s = 0".to_owned(), &["hotsock.connection_lifetime_s"]),
            ("hotsock.idle_s = 0".to_owned(), &["hotsock.idle_s"]),
            ("hotsock.message_bytes_max = 1".to_owned(), &["hotsock.message_bytes_max"]),
            ("hotsock.subscriptions_max = 0".to_owned(), &["hotsock.subscriptions_max"]),
        ] {
            let problems = read(&text).map(|_| ()).expect_err(&text);
            for part in parts {
                assert!(problems.contains(part.trim_matches('"')), "{text}: {problems}");
            }
            assert!(!problems.contains("short"), "a secret is told: {problems}");
        }
    }

    #[test]
    fn defaults_are_the_references() {
        let settings = read("").unwrap();
        assert!(settings.app.is_empty() && settings.keys.is_empty());
        assert!(settings.audience.is_empty() && settings.issuer.is_empty());
        assert_eq!(settings.leeway, Millis(0));
        assert_eq!(settings.connection_lifetime, Millis(7_200_000));
        assert_eq!(settings.idle, Millis(600_000));
        assert_eq!((settings.message_bytes_max, settings.subscriptions_max), (131_072, 1_000));
    }

    #[test]
    fn keys_are_read() {
        let (key, secret) = ("x".repeat(20), "y".repeat(20));
        let text = format!(
            "hotsock.app = \"a\"\n[[hotsock.keys]]\nmethod = \"HS512\"\nid = \"1\"\nkey_base64_env = \"THE_KEY\"\n\
             [[hotsock.api_keys]]\nkey = \"{key}\"\n[[hotsock.access_keys]]\nid = \"i\"\nsecret = \"{secret}\"\n"
        );
        let settings = read(&text).unwrap();
        let slot = &settings.keys[0];
        assert_eq!((slot.method, &*slot.id), ("HS512", "1"));
        assert_eq!(slot.key_base64.as_ref().unwrap().0, "c2VjcmV0");
        assert_eq!(settings.api_keys[0].key.as_ref().unwrap().0, key);
        let pair = &settings.access_keys[0];
        assert_eq!((&*pair.id, &*pair.secret.0), ("i", &*secret));
    }

    #[test]
    fn development_keys_are_for_development_only() {
        let settings = Settings::of(&Config::development());
        assert_eq!(settings.app, "app-id");
        assert_eq!((settings.keys.len(), settings.api_keys.len()), (1, 1));
        assert_eq!(settings.access_keys[0].id, "app-key");
        let settings = read(&format!("hotsock.app = \"a\"\n{KEY}")).unwrap();
        assert_eq!((settings.keys.len(), settings.api_keys.len()), (1, 0));
        assert!(settings.access_keys.is_empty());
    }
}
