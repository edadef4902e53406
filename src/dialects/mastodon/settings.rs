//! What can be configured of this dialect.

use super::accounts::{self, is_account};
use super::rules::{AccountRow, FilterRow};
use crate::auth::TokenSettings;
use crate::auth::source::{TOKEN_ROWS, TokenRow, token_settings};
use crate::auth::upstream::{Postgres, PostgresTls, Redis, Servers};
use crate::base::time::Millis;
use crate::config::section::{Rows, Wrong};
use crate::config::table::{Setting, number, switch};
use crate::config::value::{Applies, Kind, SecretFrom};
use crate::config::{Config, DEVELOPMENT_ID, Secret, SectionOf};

/// The settings, checked.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The id of the app whose events these are; empty: the dialect is off.
    pub app: String,
    /// Every WebSocket and every path that no other dialect wants is ours, as with Mastodon's server.
    pub takes_everything: bool,
    /// An inbound message; above it close code 1009.
    pub message_bytes_max: usize,
    /// Streams on one WebSocket; more are ignored and counted.
    pub streams_max: usize,
    /// Between two comments on an event stream.
    pub heartbeat: Millis,
    /// Between two pings; a peer that has not answered the last is gone.
    pub ping: Millis,
    /// Also sends `filters_changed`, as versions before 4.3 did.
    pub sends_filters_changed: bool,
    /// Tokens end when they say so; Mastodon's server does not look at that.
    pub enforces_expiry: bool,
    /// What the names of the metrics begin with, that Mastodon's server has without it.
    pub metrics_prefix: String,
    /// Mastodon's own Redis; none: this server stands alone.
    pub redis_url: Option<Secret>,
    /// Its sentinels.
    pub redis_sentinels: Vec<String>,
    /// What they call the master.
    pub redis_sentinel_master: String,
    /// As whom they are asked.
    pub redis_sentinel_user: String,
    /// And the password for it.
    pub redis_sentinel_password: Option<Secret>,
    /// What Mastodon before 4.4 puts before its channels and keys, with a colon.
    pub redis_namespace: String,
    /// Mastodon's own PostgreSQL.
    pub database_url: Option<Secret>,
    /// How its certificate is checked.
    pub database_tls: PostgresTls,
    /// Connections to it.
    pub database_connections_max: usize,
    /// How long what the database says about blocks and mutes is good for; zero: it is asked for each status.
    pub relations_cache: Millis,
    /// Where tokens come from, when alone.
    pub tokens: TokenSettings,
    /// What accounts follow and do not want, when alone.
    pub accounts: Vec<AccountRow>,
    /// Their keyword filters, when alone.
    pub filters: Vec<FilterRow>,
}

/// The token that works while nothing is configured.
pub const DEVELOPMENT_TOKEN: &str = "dev-token";
/// Whose it is.
pub const DEVELOPMENT_ACCOUNT: &str = "1";
/// The list that they own.
pub const DEVELOPMENT_LIST: &str = "1";

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
/// What a token must have one of to stream anything. Source: our reference, section 4.
const USEFUL_SCOPES: [&str; 3] = ["read", "read:statuses", "read:notifications"];
/// How the certificate of a database is checked, by the names the settings have for it.
const TLS: [(&str, PostgresTls); 3] = [
    ("off", PostgresTls::Off),
    ("unverified", PostgresTls::Unverified),
    ("verified", PostgresTls::Verified),
];
const TLS_WORDS: &[&str] = &[TLS[0].0, TLS[1].0, TLS[2].0];

impl Settings {
    /// What is in force: the development app and a token that everyone knows, while nothing is configured.
    pub fn of(config: &Config) -> Self {
        let settings = config.sections.get::<Self>().cloned();
        let mut settings = settings.unwrap_or_else(|| SECTION.blank());
        if config.development {
            settings.app = DEVELOPMENT_ID.to_owned();
        }
        // A token that everyone knows is no key to somebody's database.
        if config.development && !settings.has_upstream() {
            settings.tokens.tokens.push(TokenRow {
                token: Some(Secret(DEVELOPMENT_TOKEN.to_owned())),
                user: DEVELOPMENT_ACCOUNT.to_owned(),
                permissions: vec!["read".to_owned()],
                ..TokenRow::default()
            });
            if settings.accounts.iter().all(|it| it.id != DEVELOPMENT_ACCOUNT) {
                settings.accounts.push(AccountRow {
                    id: DEVELOPMENT_ACCOUNT.to_owned(),
                    lists: vec![DEVELOPMENT_LIST.to_owned()],
                    ..AccountRow::default()
                });
            }
        }
        settings
    }

    /// What it follows, for who starts it to read: the addresses without who gets in. Empty: nothing.
    pub fn follows(&self) -> String {
        let Some((redis, database)) = self.redis_url.as_ref().zip(self.database_url.as_ref())
        else {
            return String::new();
        };
        let redis = match self.redis_sentinels.is_empty() {
            true => without_login(&redis.0),
            false => {
                format!("{} of {}", self.redis_sentinel_master, self.redis_sentinels.join(", "))
            }
        };
        format!("; follows {redis} and {}", without_login(&database.0))
    }

    /// Whether it stands in for Mastodon's own server.
    pub fn has_upstream(&self) -> bool {
        self.redis_url.is_some()
    }

    /// Where Mastodon's own servers are; none: this server stands alone.
    pub fn servers(&self) -> Option<Servers> {
        let redis = Redis {
            url: self.redis_url.clone()?,
            sentinels: self.redis_sentinels.clone(),
            sentinel_master: self.redis_sentinel_master.clone(),
            sentinel_user: self.redis_sentinel_user.clone(),
            sentinel_password: self.redis_sentinel_password.clone(),
        };
        let postgres = Postgres {
            url: self.database_url.clone()?,
            tls: self.database_tls,
            connections_max: self.database_connections_max,
        };
        Some(Servers { redis, postgres })
    }
}

/// A row with a text: key, field, what it is, help.
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

/// A row with a secret: key, where it is, field, help.
macro_rules! secret {
    ($key:literal, $from:ident, $field:ident, $help:literal) => {
        Setting {
            key: $key,
            kind: Kind::Secret {
                from: SecretFrom::$from,
                put: |it, text| it.$field = Some(Secret(text)),
            },
            applies: Applies::AtStart,
            help: $help,
        }
    };
}

/// The section of the settings.
pub static SECTION: SectionOf<Settings> = SectionOf {
    name: "mastodon",
    about: "Mastodon streaming: `docs/mastodon.md`. Off unless `mastodon.app` names an app. In development mode it \
            serves the development app, with the token `dev-token` of account 1.",
    settings: token_settings!(
        "mastodon",
        text!(
            "mastodon.app",
            app,
            "the id of an app",
            "The id of the app whose events these are; none: the protocol is off."
        ),
        switch!(
            "mastodon.takes_everything",
            takes_everything,
            false,
            "Every WebSocket, whatever its path, and every path that no other protocol wants is for this one, as with Mastodon's server."
        ),
        number!(
            "mastodon.message_bytes_max",
            message_bytes_max,
            Bytes,
            64 * KIB,
            KIB,
            16 * MIB,
            "An inbound message; above it close code 1009. Never above websocket.message_bytes_max."
        ),
        number!(
            "mastodon.streams_max",
            streams_max,
            Count,
            1_000,
            1,
            100_000,
            "Streams on one WebSocket; more are ignored and counted, because clients take an error for that of every stream."
        ),
        number!(
            "mastodon.heartbeat_s",
            heartbeat,
            Seconds,
            15 * SECOND,
            100,
            HOUR,
            "Between two comments on an event stream."
        ),
        number!(
            "mastodon.ping_s",
            ping,
            Seconds,
            30 * SECOND,
            100,
            HOUR,
            "Between two pings on a WebSocket; a peer that has not answered the last is cut."
        ),
        switch!(
            "mastodon.sends_filters_changed",
            sends_filters_changed,
            false,
            "Send filters_changed, which has no payload, to peers; Mastodon documents it and has not sent it since 4.3."
        ),
        switch!(
            "mastodon.enforces_expiry",
            enforces_expiry,
            false,
            "End connections when their token does; Mastodon's server does not look at that."
        ),
        text!(
            "mastodon.metrics_prefix",
            metrics_prefix,
            "letters, digits and _, not a digit first",
            "What the names of the metrics begin with that Mastodon's server has, such as connected_clients; none: as there."
        ),
        secret!(
            "mastodon.redis_url",
            Text,
            redis_url,
            "Mastodon's Redis, redis://, rediss:// (TLS) or unix://, with user, password and database: the server stands in for Mastodon's own. None: it stands alone."
        ),
        secret!("mastodon.redis_url_file", File, redis_url, "A file that holds that address."),
        secret!(
            "mastodon.redis_url_env",
            Environment,
            redis_url,
            "An environment variable that holds that address."
        ),
        Setting {
            key: "mastodon.redis_sentinels",
            kind: Kind::Texts {
                put: |it, texts| it.redis_sentinels = texts,
                read: |it| &it.redis_sentinels
            },
            applies: Applies::AtStart,
            help: "Sentinels, HOST:PORT each, who say where that Redis is; none: its address does.",
        },
        text!(
            "mastodon.redis_sentinel_master",
            redis_sentinel_master,
            "a text",
            "What the sentinels call it."
        ),
        text!(
            "mastodon.redis_sentinel_user",
            redis_sentinel_user,
            "a text",
            "As whom the sentinels are asked; none: nobody in particular."
        ),
        secret!(
            "mastodon.redis_sentinel_password",
            Text,
            redis_sentinel_password,
            "The password for the sentinels."
        ),
        secret!(
            "mastodon.redis_sentinel_password_file",
            File,
            redis_sentinel_password,
            "A file that holds that password."
        ),
        secret!(
            "mastodon.redis_sentinel_password_env",
            Environment,
            redis_sentinel_password,
            "An environment variable that holds that password."
        ),
        text!(
            "mastodon.redis_namespace",
            redis_namespace,
            "a text without space",
            "What Mastodon 4.3 and older puts before its channels and keys, without the colon (REDIS_NAMESPACE); none since 4.4."
        ),
        secret!(
            "mastodon.database_url",
            Text,
            database_url,
            "Mastodon's PostgreSQL, postgres:// or postgresql://, with user, password and database; it is only read, a replica will do."
        ),
        secret!(
            "mastodon.database_url_file",
            File,
            database_url,
            "A file that holds that address."
        ),
        secret!(
            "mastodon.database_url_env",
            Environment,
            database_url,
            "An environment variable that holds that address."
        ),
        Setting {
            key: "mastodon.database_tls",
            kind: Kind::Choice {
                default: "off",
                words: TLS_WORDS,
                put: |it, word| {
                    let known = TLS.iter().find(|(known, _)| *known == word);
                    it.database_tls = known.map_or(PostgresTls::Off, |(_, tls)| *tls);
                },
                read: |it| {
                    let known = TLS.iter().find(|(_, tls)| *tls == it.database_tls);
                    known.map_or("off", |(word, _)| *word)
                },
            },
            applies: Applies::AtStart,
            help: "Whether connections to it are encrypted: not, without looking at its certificate, or with a certificate that this machine trusts.",
        },
        number!(
            "mastodon.database_connections_max",
            database_connections_max,
            Count,
            10,
            1,
            1_000,
            "Connections to it."
        ),
        number!(
            "mastodon.relations_cache_s",
            relations_cache,
            Seconds,
            5 * SECOND,
            0,
            MINUTE,
            zero: Some("asked for each status"),
            "How long what it says about blocks and mutes is good for."
        ),
    ),
    tables: &[
        &Rows {
            name: "tokens",
            about: "Tokens that are known without asking anyone, for a server that stands alone. `user` is the id of \
                    the account, a number; `permissions` are its scopes, such as `read`.",
            settings: TOKEN_ROWS,
            required: &["token", "user", "permissions"],
            blank: TokenRow::default,
            push: |it: &mut Settings, row| it.tokens.tokens.push(row),
        },
        &accounts::ACCOUNTS,
        &accounts::FILTERS,
    ],
    blank: Settings::default,
    check,
};

/// An address without user, password and query.
fn without_login(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    format!("{scheme}://{}", rest.split('?').next().unwrap_or_default())
}

fn check(settings: &Settings, config: &Config) -> Vec<Wrong> {
    let mut faults = check_app(settings, config);
    faults.extend(check_servers(settings));
    for row in &settings.tokens.tokens {
        if !is_account(&row.user) {
            let allowed = "the id of an account, a number, in `user`".to_owned();
            faults.push(("mastodon.tokens", row.user.clone(), allowed));
        }
        if !row.permissions.iter().any(|it| USEFUL_SCOPES.contains(&&**it)) {
            let allowed = format!("in `permissions` one of {}", USEFUL_SCOPES.join(", "));
            faults.push(("mastodon.tokens", row.permissions.join(", "), allowed));
        }
    }
    faults.extend(settings.tokens.faults().into_iter().map(|(key, value, allowed)| {
        let key = match key {
            "jwt_key" => "mastodon.jwt_key",
            "consult_secret" => "mastodon.consult_secret",
            "tokens" => "mastodon.tokens",
            _ => "mastodon.consult_url",
        };
        (key, value, allowed)
    }));
    faults.extend(accounts::faults(settings));
    let prefix = &settings.metrics_prefix;
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if !prefix.bytes().all(is_name) || prefix.starts_with(|c: char| c.is_ascii_digit()) {
        let allowed = "letters, digits and _, not a digit first".to_owned();
        faults.push(("mastodon.metrics_prefix", prefix.clone(), allowed));
    }
    faults
}

/// Which app it is, and that it is one if anything is configured.
fn check_app(settings: &Settings, config: &Config) -> Vec<Wrong> {
    let app = &settings.app;
    let ids: Vec<_> = config.apps.iter().map(|it| &*it.id).collect();
    let one_of = format!("the id of an app: {}", ids.join(", "));
    if !app.is_empty() && !ids.contains(&&**app) {
        return vec![("mastodon.app", app.clone(), one_of)];
    }
    let tokens = &settings.tokens;
    let is_meant = settings.has_upstream()
        || !tokens.tokens.is_empty()
        || tokens.jwt_key.is_some()
        || !tokens.consult_url.is_empty();
    if app.is_empty() && is_meant && !config.development {
        return vec![("mastodon.app", String::new(), format!("{one_of}; the rest is for one"))];
    }
    Vec::new()
}

/// That both of Mastodon's servers are known, or none and nothing of them.
fn check_servers(settings: &Settings) -> Vec<Wrong> {
    let mut faults = Vec::new();
    // An address may have a password in it.
    let mut fault = |key, value: &str, allowed: &str| {
        faults.push((key, value.to_owned(), allowed.to_owned()));
    };
    let starts = |url: &Option<Secret>, schemes: &[&str]| {
        url.as_ref().is_none_or(|url| schemes.iter().any(|it| url.0.starts_with(it)))
    };
    if !starts(&settings.redis_url, &["redis://", "rediss://", "unix://"]) {
        fault("mastodon.redis_url", "***", "a redis://, rediss:// or unix:// address");
    }
    if !starts(&settings.database_url, &["postgres://", "postgresql://"]) {
        fault("mastodon.database_url", "***", "a postgres:// or postgresql:// address");
    }
    match (&settings.redis_url, &settings.database_url) {
        (Some(_), None) => {
            fault(
                "mastodon.database_url",
                "",
                "the address of Mastodon's PostgreSQL, beside its Redis",
            );
        }
        (None, Some(_)) => {
            fault(
                "mastodon.redis_url",
                "",
                "the address of Mastodon's Redis, beside its PostgreSQL",
            );
        }
        _ => {}
    }
    let sentinels = &settings.redis_sentinels;
    let is_address = |text: &str| {
        let (host, port) = text.rsplit_once(':').unwrap_or_default();
        !host.is_empty() && port.parse::<u16>().is_ok_and(|it| it > 0)
    };
    if let Some(wrong) = sentinels.iter().find(|it| !is_address(it)) {
        fault("mastodon.redis_sentinels", wrong, "HOST:PORT, or several");
    }
    let master = &settings.redis_sentinel_master;
    if sentinels.is_empty() != master.is_empty() {
        let allowed = "with mastodon.redis_sentinels, and never without";
        fault("mastodon.redis_sentinel_master", master, allowed);
    }
    let is_unix = settings.redis_url.as_ref().is_some_and(|it| it.0.starts_with("unix://"));
    if is_unix && !sentinels.is_empty() {
        let allowed = "a redis:// or rediss:// address, beside sentinels";
        fault("mastodon.redis_url", "***", allowed);
    }
    if settings.redis_namespace.contains(char::is_whitespace) {
        fault("mastodon.redis_namespace", &settings.redis_namespace, "a text without space");
    }
    if settings.has_upstream() {
        let tokens = &settings.tokens;
        let alone = "without mastodon.redis_url only, beside which Mastodon's own database says it";
        for (key, is_given) in [
            ("mastodon.tokens", !tokens.tokens.is_empty()),
            ("mastodon.jwt_key", tokens.jwt_key.is_some()),
            ("mastodon.consult_url", !tokens.consult_url.is_empty()),
            ("mastodon.accounts", !settings.accounts.is_empty()),
            ("mastodon.filters", !settings.filters.is_empty()),
        ] {
            if is_given {
                fault(key, "***", alone);
            }
        }
    }
    faults
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
