//! What can be configured of this dialect.

use crate::auth::TokenSettings;
use crate::auth::source::{TOKEN_ROWS, TokenRow, token_settings};
use crate::base::time::Millis;
use crate::config::section::Rows;
use crate::config::table::{Setting, number, switch};
use crate::config::value::{Applies, Kind, SecretFrom};
use crate::config::{Config, DEVELOPMENT_ID, Secret, SectionOf};

/// The settings, checked.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The id of the app whose events these are; empty: the dialect is off.
    pub app: String,
    /// Bearer token of the webhook route; none: there is no such route.
    pub webhook_token: Option<Secret>,
    /// Groups that everyone may read, beside `__world__`, for events that do not say it themselves.
    pub open_groups: Vec<String>,
    /// As upstream: an event without a client id is not delivered to a socket without one.
    pub null_origin_suppressed: bool,
    /// A token that is nobody's is answered 401 instead of an anonymous connection.
    pub strict_tokens: bool,
    /// An inbound message; above it close code 1009.
    pub message_bytes_max: usize,
    /// Alternatives in one filter, over all its clauses.
    pub filter_values_max: usize,
    /// Between two pings; a peer that is silent for two of them is gone.
    pub keep_alive: Millis,
    /// Where tokens come from.
    pub tokens: TokenSettings,
}

impl Settings {
    /// What is in force while nothing is configured: the development app, and a token that everyone knows.
    pub fn development(mut self) -> Self {
        self.app = DEVELOPMENT_ID.to_owned();
        self.tokens.tokens.push(TokenRow {
            token: Some(Secret(DEVELOPMENT_TOKEN.to_owned())),
            user: DEVELOPMENT_USER.to_owned(),
            ..TokenRow::default()
        });
        self
    }
}

/// The token that works while nothing is configured.
pub const DEVELOPMENT_TOKEN: &str = "dev-token";
/// Whose it is.
pub const DEVELOPMENT_USER: &str = "acct:dev@localhost";

/// The section of the settings.
pub static SECTION: SectionOf<Settings> = SectionOf {
    name: "hypothesis",
    about: "The Hypothesis Real Time API, off unless `hypothesis.app` names an app. In development mode it \
            serves the development app, anonymously or with the token `dev-token`.",
    settings: token_settings!(
        "hypothesis",
        Setting {
            key: "hypothesis.app",
            kind: Kind::Text {
                what: "the id of an app",
                put: |it, text| it.app = text,
                read: |it| &it.app
            },
            applies: Applies::AtStart,
            help: "The id of the app whose annotations these are; none: the protocol is off.",
        },
        webhook_row(
            "hypothesis.webhook_token",
            SecretFrom::Text,
            "Lets an h deployment post events to /hypothesis/webhook as a bearer; none: there is no such route."
        ),
        webhook_row(
            "hypothesis.webhook_token_file",
            SecretFrom::File,
            "A file that holds that token."
        ),
        webhook_row(
            "hypothesis.webhook_token_env",
            SecretFrom::Environment,
            "An environment variable that holds that token."
        ),
        Setting {
            key: "hypothesis.open_groups",
            kind: Kind::Texts {
                put: |it, texts| it.open_groups = texts,
                read: |it| &it.open_groups
            },
            applies: Applies::AtStart,
            help: "Groups that everyone may read, beside __world__, for events that do not say it themselves.",
        },
        switch!(
            "hypothesis.null_origin_suppressed",
            null_origin_suppressed,
            false,
            "As the h service: an event without a client id is not delivered to a socket that sent none."
        ),
        switch!(
            "hypothesis.strict_tokens",
            strict_tokens,
            false,
            "Answer 401 to a token that is nobody's; the h service opens an anonymous connection."
        ),
        number!(
            "hypothesis.message_bytes_max",
            message_bytes_max,
            Bytes,
            256 << 10,
            1 << 10,
            16 << 20,
            "An inbound message; above it close code 1009."
        ),
        number!(
            "hypothesis.filter_values_max",
            filter_values_max,
            Count,
            1024,
            1,
            100_000,
            "Alternatives in one filter, over all its clauses; a filter with more is refused."
        ),
        number!(
            "hypothesis.keep_alive_s",
            keep_alive,
            Seconds,
            30_000,
            100,
            3_600_000,
            "Between two pings; a peer that is silent for two of them is gone."
        ),
    ),
    tables: &[&Rows {
        name: "tokens",
        about: "Tokens that are known without asking anyone; `user` is a userid such as \
                `acct:ann@example.com`. Permissions mean nothing here.",
        settings: TOKEN_ROWS,
        required: &["token", "user"],
        blank: TokenRow::default,
        push: |it: &mut Settings, row| it.tokens.tokens.push(row),
    }],
    blank: Settings::default,
    check,
};

const fn webhook_row(key: &'static str, from: SecretFrom, help: &'static str) -> Setting<Settings> {
    let kind =
        Kind::Secret { from, put: |it: &mut Settings, text| it.webhook_token = Some(Secret(text)) };
    Setting { key, kind, applies: Applies::AtStart, help }
}

fn check(settings: &Settings, config: &Config) -> Vec<(&'static str, String, String)> {
    let mut faults = Vec::new();
    let app = &settings.app;
    if !app.is_empty() && config.apps.iter().all(|it| it.id != *app) {
        let ids: Vec<_> = config.apps.iter().map(|it| it.id.as_str()).collect();
        faults.push((
            "hypothesis.app",
            app.clone(),
            format!("the id of an app: {}", ids.join(", ")),
        ));
    }
    if app.is_empty() && settings.webhook_token.is_some() && !config.development {
        let allowed = "with hypothesis.app only: the webhook publishes to that app".to_owned();
        faults.push(("hypothesis.webhook_token", "***".to_owned(), allowed));
    }
    for row in settings.tokens.tokens.iter().filter(|it| !it.user.starts_with("acct:")) {
        let allowed = "a userid such as acct:ann@example.com in `user`".to_owned();
        faults.push(("hypothesis.tokens", row.user.clone(), allowed));
    }
    for (key, value, allowed) in settings.tokens.faults() {
        let key = match key {
            "jwt_key" => "hypothesis.jwt_key",
            "consult_secret" => "hypothesis.consult_secret",
            "tokens" => "hypothesis.tokens",
            _ => "hypothesis.consult_url",
        };
        faults.push((key, value, allowed));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    #[test]
    fn what_no_single_setting_knows_is_told_by_name() {
        let row = |token: &str, user: &str| TokenRow {
            token: Some(Secret(token.to_owned())),
            user: user.to_owned(),
            ..TokenRow::default()
        };
        let good = || SECTION.blank();
        let mut elsewhere = good();
        elsewhere.app = "nobody".to_owned();
        let mut hook = good();
        hook.webhook_token = Some(Secret("t".to_owned()));
        let mut plain_user = good();
        plain_user.tokens.tokens.push(row("t", "ann"));
        let mut twice = good();
        twice.tokens.tokens.extend([row("t", "acct:ann@h"), row("t", "acct:bob@h")]);
        let mut unasked = good();
        unasked.tokens.consult_secret = Some(Secret("s".to_owned()));
        let cases = [
            (good(), None),
            (elsewhere, Some("hypothesis.app")),
            (hook, Some("hypothesis.webhook_token")),
            (plain_user, Some("hypothesis.tokens")),
            (twice, Some("hypothesis.tokens")),
            (unasked, Some("hypothesis.consult_secret")),
        ];
        for (settings, expected) in cases {
            let faults = check(&settings, &Config::from_defaults());
            assert_eq!(faults.first().map(|it| it.0), expected, "{faults:?}");
        }
    }
}
