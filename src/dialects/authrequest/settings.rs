//! What can be set of this protocol, and what is wrong although each setting is right.

use std::collections::HashMap;
use std::sync::Arc;

use crate::auth::source::{Logins, TOKEN_ROWS, TokenRow, token_settings};
use crate::auth::{Identity, TokenSettings};
use crate::base::time::Millis;
use crate::config::section::{Rows, SectionOf};
use crate::config::table::{Setting, number, switch};
use crate::config::value::{Applies, Kind, SecretFrom};
use crate::config::{Config, DEVELOPMENT_ID, Secret};

/// Where connections come in if nothing else is said.
const PATH_DEFAULT: &str = "/realtime";
/// The token that opens the development app.
pub const DEVELOPMENT_TOKEN: &str = "dev-token";
/// What lets someone have the events of their whole account.
pub const ACCOUNT_EVENTS: &str = "account_events";

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const SECOND: u64 = 1_000;
const HOUR: u64 = 3_600 * SECOND;
const DAY: u64 = 24 * HOUR;

/// The protocol's settings.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The id of the app whose events these are; empty: the protocol is not spoken.
    pub app: String,
    /// Where connections come in; empty: `/realtime`.
    pub path: String,
    /// How long a peer may take to authenticate.
    pub auth_timeout: Millis,
    /// Failed attempts in a row; the last closes the connection.
    pub auth_failures_max: u32,
    /// An inbound message.
    pub message_bytes_max: usize,
    /// Messages in a row that are not JSON objects; the last closes the connection.
    pub invalid_json_max: u32,
    /// Requests per second and connection; 0 for no limit.
    pub requests_per_second_max: u32,
    /// How often a peer is asked for a sign of life.
    pub keep_alive: Millis,
    /// What the vendor's documentation does not know: `requestId`, `pingrequest`, `liststreamsrequest`.
    pub extensions: bool,
    /// `POST /auth/login` and `/auth/refresh`.
    pub login: bool,
    /// How long a token that was given out is good for.
    pub token_lifetime: Millis,
    /// How long its refresh token is.
    pub refresh_lifetime: Millis,
    /// Where tokens come from.
    pub tokens: TokenSettings,
    /// Who may log in.
    pub users: Vec<UserRow>,
}

/// Someone who may log in.
#[derive(Clone, Debug, Default)]
pub struct UserRow {
    /// What they call themselves.
    pub username: String,
    /// How they show it.
    pub password: Option<Secret>,
    /// Their id; empty: the user name.
    pub user: String,
    /// Their account.
    pub account: String,
    /// What else they may do.
    pub permissions: Vec<String>,
}

impl UserRow {
    fn identity(&self) -> Identity {
        let user = if self.user.is_empty() { &self.username } else { &self.user };
        Identity {
            account: Some((&*self.account).into()),
            permissions: self.permissions.iter().map(|it| (&**it).into()).collect(),
            ..Identity::named(user)
        }
    }
}

impl Settings {
    /// The settings in force; in development, those of the development app and its token.
    pub fn of(config: &Config) -> Self {
        let mut settings =
            config.sections.get::<Self>().cloned().unwrap_or_else(|| SECTION.blank());
        if config.development {
            if settings.app.is_empty() {
                settings.app = DEVELOPMENT_ID.to_owned();
            }
            settings.tokens.tokens.push(TokenRow {
                token: Some(Secret(DEVELOPMENT_TOKEN.to_owned())),
                user: "dev".to_owned(),
                account: "dev".to_owned(),
                permissions: vec![ACCOUNT_EVENTS.to_owned()],
                ..TokenRow::default()
            });
        }
        settings
    }

    /// Where connections come in, without a slash at its end; empty for the root.
    pub fn path(&self) -> &str {
        let path = if self.path.is_empty() { PATH_DEFAULT } else { &self.path };
        path.strip_suffix('/').unwrap_or(path)
    }

    /// Who may log in, if anyone may.
    pub fn logins(&self) -> Option<Logins> {
        let user = |row: &UserRow| {
            let password = row.password.clone()?;
            Some((row.username.clone(), (password, Arc::new(row.identity()))))
        };
        self.login.then(|| Logins {
            users: self.users.iter().filter_map(user).collect::<HashMap<_, _>>(),
            token_lifetime: self.token_lifetime,
            refresh_lifetime: self.refresh_lifetime,
        })
    }
}

fn check(settings: &Settings, config: &Config) -> Vec<(&'static str, String, String)> {
    let mut faults = Vec::new();
    let app = &settings.app;
    if !app.is_empty() && !config.apps.iter().any(|it| it.id == *app) {
        let ids: Vec<_> = config.apps.iter().map(|it| &*it.id).collect();
        let allowed = format!("the id of an app: {}", ids.join(", "));
        faults.push(("authrequest.app", app.clone(), allowed));
    }
    let path = &settings.path;
    let is_path = path.starts_with('/') && !path.contains(['?', '#', ' ']);
    let first = path.split('/').nth(1).unwrap_or_default();
    let is_anothers = ["app", "apps", "ws", "_", "auth"].contains(&first);
    if !path.is_empty() && (!is_path || is_anothers) {
        let allowed =
            "a path that starts with /, not below /app, /apps, /auth, /ws or /_".to_owned();
        faults.push(("authrequest.path", path.clone(), allowed));
    }
    for (i, user) in settings.users.iter().enumerate() {
        if settings.users.iter().take(i).any(|it| it.username == user.username) {
            let allowed = "each user name once".to_owned();
            faults.push(("authrequest.users", user.username.clone(), allowed));
        }
    }
    if settings.login && settings.users.is_empty() && settings.tokens.consult_url.is_empty() {
        let allowed =
            "with [[authrequest.users]] or authrequest.consult_url: who may log in".to_owned();
        faults.push(("authrequest.login", "true".to_owned(), allowed));
    }
    if !settings.login && !settings.users.is_empty() {
        let allowed = "with authrequest.login = true: users are those who log in".to_owned();
        faults.push(("authrequest.users", settings.users[0].username.clone(), allowed));
    }
    let tokens = settings.tokens.tokens.iter().map(|it| ("authrequest.tokens", &it.permissions));
    let users = settings.users.iter().map(|it| ("authrequest.users", &it.permissions));
    for (key, permissions) in tokens.chain(users) {
        let unknown = permissions.iter().filter(|it| *it != ACCOUNT_EVENTS);
        faults
            .extend(unknown.map(|it| {
                (key, it.clone(), format!("the permission `{ACCOUNT_EVENTS}`, or none"))
            }));
    }
    faults.extend(settings.tokens.faults().into_iter().map(|(key, value, allowed)| match key {
        "jwt_key" => ("authrequest.jwt_key", value, allowed),
        "consult_secret" => ("authrequest.consult_secret", value, allowed),
        "tokens" => ("authrequest.tokens", value, allowed),
        _ => ("authrequest.consult_url", value, allowed),
    }));
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

/// What this dialect declares of settings.
pub static SECTION: SectionOf<Settings> = SectionOf {
    name: "authrequest",
    about: "The authrequest RealTime API: `docs/authrequest.md`.",
    settings: token_settings!(
        "authrequest",
        text!(
            "authrequest.app",
            app,
            "the id of an app",
            "The app whose events these are; none: the protocol is not spoken (in development: the development app)."
        ),
        text!(
            "authrequest.path",
            path,
            "a path that starts with /, not below /app, /apps, /auth, /ws or /_",
            "Where WebSocket connections come in, beside /; none: /realtime."
        ),
        number!(
            "authrequest.auth_timeout_s",
            auth_timeout,
            Seconds,
            30 * SECOND,
            SECOND,
            HOUR,
            "How long a connection may take to authenticate; then close code 1008."
        ),
        number!(
            "authrequest.auth_failures_max",
            auth_failures_max,
            Count,
            5,
            1,
            1_000,
            "Failed authentications in a row; the last is answered, then close code 1008."
        ),
        number!(
            "authrequest.message_bytes_max",
            message_bytes_max,
            Bytes,
            64 * KIB,
            KIB,
            16 * MIB,
            "An inbound message; above it close code 1009. Never above websocket.message_bytes_max."
        ),
        number!(
            "authrequest.invalid_json_max",
            invalid_json_max,
            Count,
            10,
            1,
            1_000,
            "Messages in a row that are no JSON objects; the last is answered, then close code 1007."
        ),
        number!(
            "authrequest.requests_per_second_max",
            requests_per_second_max,
            Count,
            100,
            1,
            1_000_000,
            zero: Some("no limit"),
            "Requests per second and connection, a second's worth at once; a further one is answered rate_limited."
        ),
        number!(
            "authrequest.keep_alive_s",
            keep_alive,
            Seconds,
            30 * SECOND,
            SECOND,
            HOUR,
            "How often a peer is asked for a sign of life; after two without an answer it is cut."
        ),
        switch!(
            "authrequest.extensions",
            extensions,
            false,
            "Understand requestId, pingrequest and liststreamsrequest, which the vendor does not document."
        ),
        switch!(
            "authrequest.login",
            login,
            false,
            "Give out tokens at POST /auth/login and /auth/refresh."
        ),
        number!(
            "authrequest.token_lifetime_s",
            token_lifetime,
            Seconds,
            HOUR,
            SECOND,
            365 * DAY,
            "How long a token that was given out is good for."
        ),
        number!(
            "authrequest.refresh_lifetime_s",
            refresh_lifetime,
            Seconds,
            14 * DAY,
            SECOND,
            3_650 * DAY,
            "How long its refresh token is good for."
        ),
    ),
    tables: &[
        &Rows {
            name: "tokens",
            about: "Tokens that are always good. Permission: `account_events`.",
            settings: TOKEN_ROWS,
            required: &["token", "user", "account"],
            blank: TokenRow::default,
            push: |it: &mut Settings, row| it.tokens.tokens.push(row),
        },
        &Rows {
            name: "users",
            about: "Who may log in, where `authrequest.login` is on. Permission: `account_events`.",
            settings: USER_ROWS,
            required: &["username", "password", "account"],
            blank: UserRow::default,
            push: |it: &mut Settings, row| it.users.push(row),
        },
    ],
    blank: Settings::default,
    check,
};

static USER_ROWS: &[Setting<UserRow>] = &[
    text!("username", username, "a text", "What they call themselves."),
    password(
        "password",
        SecretFrom::Text,
        "Their password; give it here or by one of the next two.",
    ),
    password("password_file", SecretFrom::File, "A file that holds the password."),
    password(
        "password_env",
        SecretFrom::Environment,
        "An environment variable that holds the password.",
    ),
    text!("user", user, "a text", "Their id, which events are for; none: the user name."),
    text!("account", account, "a text", "The account they belong to."),
    Setting {
        key: "permissions",
        kind: Kind::Texts { put: |it, texts| it.permissions = texts, read: |it| &it.permissions },
        applies: Applies::AtStart,
        help: "What else they may do.",
    },
];

const fn password(key: &'static str, from: SecretFrom, help: &'static str) -> Setting<UserRow> {
    let kind =
        Kind::Secret { from, put: |it: &mut UserRow, text| it.password = Some(Secret(text)) };
    Setting { key, kind, applies: Applies::AtStart, help }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Machine;
    use crate::config::load::{Sources, load};

    const APP: &str = "[[apps]]\nid = \"a\"\nkey = \"k\"\nsecret = \"s\"\n";

    fn read(text: &str) -> Result<Settings, String> {
        let sources = Sources {
            file: Some(("x.toml".into(), format!("{text}\n{APP}"))),
            environment: vec![("PASSWORD".into(), "p".into())],
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
        for (text, parts) in [
            ("authrequest.app = \"b\"", &["authrequest.app", "\"b\"", "the id of an app: a"][..]),
            ("authrequest.path = \"realtime\"", &["authrequest.path"]),
            ("authrequest.path = \"/apps/x\"", &["authrequest.path"]),
            ("authrequest.consult_url = \"nowhere\"", &["authrequest.consult_url"]),
            (
                "authrequest.jwt_algorithm = \"RS256\"\nauthrequest.jwt_key = \"x\"",
                &["authrequest.jwt_key"],
            ),
            ("authrequest.auth_failures_max = 0", &["authrequest.auth_failures_max"]),
            ("[[authrequest.tokens]]\ntoken = \"t\"\nuser = \"u\"", &["account"]),
            ("[[authrequest.users]]\nusername = \"u\"\naccount = \"a\"", &["password"]),
            (
                "[[authrequest.users]]\nusername = \"u\"\naccount = \"a\"\npassword = \"p\"\n\
                 [[authrequest.users]]\nusername = \"u\"\naccount = \"a\"\npassword = \"p\"",
                &["authrequest.users", "each user name once"],
            ),
            ("authrequest.path = \"/ws\"", &["authrequest.path", "/ws"]),
            ("authrequest.path = \"/_/x\"", &["authrequest.path"]),
            ("authrequest.consult_secret = \"s\"", &["authrequest.consult_secret", "consult_url"]),
            ("authrequest.login = true", &["authrequest.login", "authrequest.users"]),
            (
                "[[authrequest.users]]\nusername = \"u\"\naccount = \"a\"\npassword = \"p\"",
                &["authrequest.users", "authrequest.login = true"],
            ),
            (
                "[[authrequest.tokens]]\ntoken = \"t\"\nuser = \"u\"\naccount = \"a\"\npermissions = [\"all\"]",
                &["authrequest.tokens", "account_events"],
            ),
            (
                "[[authrequest.tokens]]\ntoken = \"t\"\nuser = \"u\"\naccount = \"a\"\n\
                 [[authrequest.tokens]]\ntoken = \"t\"\nuser = \"v\"\naccount = \"a\"",
                &["authrequest.tokens", "each token once"],
            ),
        ] {
            let problems = read(text).map(|_| ()).expect_err(text);
            for part in parts {
                assert!(problems.contains(part.trim_matches('"')), "{text}: {problems}");
            }
        }
    }

    #[test]
    fn defaults_are_the_references() {
        let settings = read("").unwrap();
        assert!(settings.app.is_empty() && settings.tokens.tokens.is_empty());
        assert_eq!(settings.path(), "/realtime");
        assert_eq!((settings.auth_timeout, settings.keep_alive), (Millis(30_000), Millis(30_000)));
        assert_eq!((settings.auth_failures_max, settings.invalid_json_max), (5, 10));
        assert_eq!(settings.message_bytes_max, 65_536);
        assert!(!settings.extensions && settings.logins().is_none());
        assert_eq!(settings.token_lifetime, Millis(3_600_000));
        assert_eq!(settings.refresh_lifetime, Millis(14 * 86_400_000));
    }

    #[test]
    fn the_development_token_is_for_development_only() {
        let settings = Settings::of(&Config::development());
        assert_eq!((&*settings.app, settings.tokens.tokens.len()), ("app-id", 1));
        let settings = read("authrequest.app = \"a\"").unwrap();
        assert_eq!((&*settings.app, settings.tokens.tokens.len()), ("a", 0));
    }

    #[test]
    fn users_are_read() {
        let text = "authrequest.login = true\n[[authrequest.users]]\nusername = \"ann\"\n\
             password_env = \"PASSWORD\"\naccount = \"a\"\npermissions = [\"account_events\"]";
        let logins = read(text).unwrap().logins().unwrap();
        let (password, identity) = &logins.users["ann"];
        assert_eq!((&*password.0, &*identity.user), ("p", "ann"));
        assert!(identity.may(ACCOUNT_EVENTS) && identity.account.as_deref() == Some("a"));
    }
}
