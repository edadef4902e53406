//! What can be configured of this dialect.

use crate::auth::TokenSettings;
use crate::auth::source::{TOKEN_ROWS, TokenRow, token_settings};
use crate::auth::upstream::{PostgresTls, Servers};
use crate::base::time::Millis;
use crate::config::section::Rows;
use crate::config::table::{Setting, number};
use crate::config::value::{Applies, Kind};
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
}

/// The token that works while nothing is configured.
pub const DEVELOPMENT_TOKEN: &str = "dev-token";
/// Whose it is.
pub const DEVELOPMENT_ACCOUNT: &str = "1";

impl Settings {
    /// What is in force: the development app and a token that everyone knows, while nothing is configured.
    pub fn of(config: &Config) -> Self {
        let settings = config.sections.get::<Self>().cloned();
        let mut settings = settings.unwrap_or_else(|| SECTION.blank());
        if config.development {
            settings.app = DEVELOPMENT_ID.to_owned();
            settings.tokens.tokens.push(TokenRow {
                token: Some(Secret(DEVELOPMENT_TOKEN.to_owned())),
                user: DEVELOPMENT_ACCOUNT.to_owned(),
                permissions: vec!["read".to_owned()],
                ..TokenRow::default()
            });
        }
        settings
    }

    /// Whether it stands in for Mastodon's own server.
    pub fn has_upstream(&self) -> bool {
        self.redis_url.is_some()
    }

    /// Where Mastodon's own servers are; none: this server stands alone.
    pub fn servers(&self) -> Option<Servers> {
        None
    }
}

/// The section of the settings.
pub static SECTION: SectionOf<Settings> = SectionOf {
    name: "mastodon",
    about: "Mastodon streaming, off unless `mastodon.app` names an app. In development mode it serves the \
            development app, with the token `dev-token` of account 1.",
    settings: token_settings!(
        "mastodon",
        Setting {
            key: "mastodon.app",
            kind: Kind::Text {
                what: "the id of an app",
                put: |it, text| it.app = text,
                read: |it| &it.app
            },
            applies: Applies::AtStart,
            help: "The id of the app whose events these are; none: the protocol is off.",
        },
    ),
    tables: &[&Rows {
        name: "tokens",
        about: "A token that stands in the settings.",
        settings: TOKEN_ROWS,
        required: &["token", "user"],
        blank: TokenRow::default,
        push: |it: &mut Settings, row| it.tokens.tokens.push(row),
    }],
    blank: Settings::default,
    check,
};

fn check(settings: &Settings, _: &Config) -> Vec<(&'static str, String, String)> {
    let key = |key: &str| match key {
        "jwt_key" => "mastodon.jwt_key",
        "consult_secret" => "mastodon.consult_secret",
        "tokens" => "mastodon.tokens",
        _ => "mastodon.consult_url",
    };
    let faults = settings.tokens.faults().into_iter();
    faults.map(|(part, value, allowed)| (key(part), value, allowed)).collect()
}
