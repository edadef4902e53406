//! Where the tokens of one dialect come from: the settings, a signing issuer, or a question to the
//! application.
//!
//! The first two are answered on the spot. What only the world outside knows becomes an [`Inquiry`], which
//! the dialect's session hands to its shard, and which comes back as a [`Finding`].

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::identity::Identity;
use super::jwt::{self, Verifier};
use super::sign::SigningKey;
use crate::base::name::Name;
use crate::base::time::{Millis, UnixMillis};
use crate::config::Secret;
use crate::config::table::Setting;
use crate::config::value::{Applies, Kind, SecretFrom};
use crate::push::order;

/// The digest that stands for a token wherever one is kept: a dump of memory tells no token.
pub type Digest32 = [u8; 32];

/// The digest of a token.
pub fn digest(token: &str) -> Digest32 {
    Sha256::digest(token.as_bytes()).into()
}

/// The settings of a source; a dialect's own settings hold one and declare its rows by
/// `token_settings!`.
#[derive(Clone, Debug, Default)]
pub struct TokenSettings {
    /// Tokens that stand in the settings.
    pub tokens: Vec<TokenRow>,
    /// The algorithm of JSON Web Tokens.
    pub jwt_algorithm: &'static str,
    /// Their key; none: there are no such tokens.
    pub jwt_key: Option<Secret>,
    /// Who must have issued them; empty: anyone.
    pub jwt_issuer: String,
    /// For whom they must be; empty: anyone.
    pub jwt_audience: String,
    /// Whom to ask about other tokens; empty: nobody.
    pub consult_url: String,
    /// What signs the question.
    pub consult_secret: Option<Secret>,
    /// How long the answer may take.
    pub consult_timeout: Millis,
    /// How long an answer is good for.
    pub consult_cache: Millis,
}

/// A token that stands in the settings.
#[derive(Clone, Debug, Default)]
pub struct TokenRow {
    /// The token.
    pub token: Option<Secret>,
    /// Whose it is.
    pub user: String,
    /// Their account.
    pub account: String,
    /// Their groups.
    pub groups: Vec<String>,
    /// Groups they moderate.
    pub moderates: Vec<String>,
    /// What else they may do.
    pub permissions: Vec<String>,
}

impl TokenRow {
    fn identity(&self) -> Identity {
        let names = |texts: &[String]| texts.iter().map(|it| Name::from(&**it)).collect();
        Identity {
            account: (!self.account.is_empty()).then(|| Name::from(&*self.account)),
            groups: names(&self.groups),
            moderates: names(&self.moderates),
            permissions: names(&self.permissions),
            ..Identity::named(&self.user)
        }
    }
}

impl TokenSettings {
    /// What is wrong although each setting is right: the last part of its key, the value, what is allowed.
    pub fn faults(&self) -> Vec<(&'static str, String, String)> {
        let mut faults = Vec::new();
        if let Some(Err(why)) = self.verifier() {
            let allowed = format!("a secret for HS algorithms, else a public key as PEM ({why})");
            faults.push(("jwt_key", "***".to_owned(), allowed));
        }
        let url = &self.consult_url;
        let is_url = url.strip_prefix("http://").or(url.strip_prefix("https://"));
        let is_url = is_url.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'));
        if !url.is_empty() && !is_url {
            let allowed = "an http:// or https:// address".to_owned();
            faults.push(("consult_url", url.clone(), allowed));
        }
        if url.is_empty() && self.consult_secret.is_some() {
            let allowed = "with consult_url only: it signs what is asked there".to_owned();
            faults.push(("consult_secret", "***".to_owned(), allowed));
        }
        let mut seen = HashSet::new();
        for row in &self.tokens {
            if row.token.as_ref().is_some_and(|it| !seen.insert(&it.0)) {
                faults.push(("tokens", "*** (twice)".to_owned(), "each token once".to_owned()));
            }
        }
        faults
    }

    fn verifier(&self) -> Option<Result<Verifier, String>> {
        let key = self.jwt_key.as_ref()?;
        Some(Verifier::new(self.jwt_algorithm, &key.0, &self.jwt_issuer, &self.jwt_audience))
    }
}

/// Where the tokens of one dialect come from.
pub struct Source {
    /// The dialect.
    pub dialect: &'static str,
    known: HashMap<Digest32, Arc<Identity>>,
    verifier: Option<Verifier>,
    /// Whom to ask about the rest.
    pub consult: Option<Consult>,
    /// Who may log in, where that is offered.
    pub logins: Option<Logins>,
    /// Whatever else there is to ask is for the dialect's upstream ([`super::upstream`]).
    pub has_upstream: bool,
}

/// Whom to ask.
pub struct Consult {
    /// Where.
    pub url: String,
    /// Signs the question.
    pub key: Option<SigningKey>,
    /// How long the answer may take.
    pub timeout: Millis,
    /// How long an answer is good for.
    pub cache: Millis,
}

/// Who may log in, and how long what they get is good for.
pub struct Logins {
    /// By user name: the password, and who they are.
    pub users: HashMap<String, (Secret, Arc<Identity>)>,
    /// How long a token is good for.
    pub token_lifetime: Millis,
    /// How long a refresh token is good for.
    pub refresh_lifetime: Millis,
}

/// What a source says about a token on the spot.
#[derive(Debug)]
pub enum Checked {
    /// It is good, and this is whose it is.
    Known(Arc<Identity>),
    /// It was good once.
    Expired,
    /// It is nobody's.
    Unknown,
    /// Only the world outside knows.
    Inquire(Inquiry),
}

impl Source {
    /// The source these settings make. Settings that [`TokenSettings::faults`] names are passed over.
    pub fn new(dialect: &'static str, settings: &TokenSettings, logins: Option<Logins>) -> Self {
        let known = settings
            .tokens
            .iter()
            .filter_map(|row| Some((digest(&row.token.as_ref()?.0), Arc::new(row.identity()))));
        let consult = (!settings.consult_url.is_empty()).then(|| Consult {
            url: settings.consult_url.clone(),
            key: settings.consult_secret.as_ref().map(|it| SigningKey::new(it.0.as_bytes())),
            timeout: settings.consult_timeout,
            cache: settings.consult_cache,
        });
        let verifier = settings.verifier().and_then(Result::ok);
        Self { dialect, known: known.collect(), verifier, consult, logins, has_upstream: false }
    }

    /// Looks at a token.
    pub fn check(self: &Arc<Self>, token: &str, wall: UnixMillis) -> Checked {
        if let Some(identity) = self.known.get(&digest(token)) {
            return Checked::Known(identity.clone());
        }
        if let Some(verifier) = self.verifier.as_ref().filter(|_| token.split('.').count() == 3) {
            return match verifier.verify(token, wall) {
                Ok(identity) => Checked::Known(Arc::new(identity)),
                Err(jwt::Refused::Expired) => Checked::Expired,
                Err(jwt::Refused::Invalid) => Checked::Unknown,
            };
        }
        if self.consult.is_none() && self.logins.is_none() && !self.has_upstream {
            return Checked::Unknown;
        }
        Checked::Inquire(Inquiry { source: self.clone(), what: What::Token(token.into()) })
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "source of {}", self.dialect)
    }
}

/// What a session wants to know from the world outside.
#[derive(Clone, Debug)]
pub struct Inquiry {
    /// Whose affair it is.
    pub source: Arc<Source>,
    /// What.
    pub what: What,
}

/// The question. Answered by exactly one [`Finding`].
#[derive(Clone)]
pub enum What {
    /// Whose token is this? [`Finding::Known`], or why not.
    Token(Box<str>),
    /// Let this user in: [`Finding::Issued`], or with `verify_only` [`Finding::Known`].
    Login {
        /// Who they say they are.
        username: Box<str>,
        /// How they show it.
        password: Box<str>,
        /// Which of their accounts.
        account: Option<Box<str>>,
        /// Give no tokens.
        verify_only: bool,
    },
    /// New tokens for old: [`Finding::Issued`].
    Refresh(Box<str>),
    /// Forget the tokens that were given to this user of this account: [`Finding::Done`].
    Revoke {
        /// Who.
        user: Name,
        /// Of which account.
        account: Option<Name>,
    },
    /// Deliver what comes on these channels from upstream from here on, for as long as the connection lives or until
    /// it is unfollowed: [`Finding::Following`], [`Finding::Unknown`] if what it needs is not theirs.
    Follow(Box<Follow>),
    /// No more of these channels: [`Finding::Done`], [`Finding::Unknown`] if what it needs is not theirs.
    Unfollow(Box<Follow>),
    /// Publish this on these channels as if it came from upstream: [`Finding::Done`].
    Submit {
        /// The channels, as upstream calls them.
        channels: Vec<Name>,
        /// What upstream would send.
        envelope: bytes::Bytes,
    },
    /// An operator's order about what the world outside is told, in words: [`Finding::Told`].
    Operate(Box<str>),
    /// About push notifications, in the name of the app with this id: [`Finding::Push`].
    Push(Name, Box<order::Order>),
}

impl What {
    /// Whoever answers it remembers the connection that asked until that is gone.
    pub fn stands(&self) -> bool {
        matches!(self, Self::Token(_) | Self::Follow(_))
    }
}

/// What of upstream's channels a connection follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Follow {
    /// As upstream calls them, without its namespace.
    pub channels: Vec<Name>,
    /// For which account.
    pub account: Name,
    /// Events there are judged for the account before they are published.
    pub is_judged: bool,
    /// What it needs.
    pub need: Need,
}

/// What a connection may follow a channel for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing more than what was checked already.
    Nothing,
    /// That the account owns this list.
    List(Name),
    /// That such feeds are open: told in [`Following`].
    Feeds(Feeds),
}

/// Kinds of feeds that a site opens or closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feeds {
    /// Everything public.
    Live,
    /// By topic.
    Topic,
}

/// What a connection that follows something is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Following {
    /// Events with a number from here on are judged for the account; others are not for it.
    pub judged_from: u64,
    /// What is written here is shown.
    pub local: bool,
    /// What is written elsewhere is shown.
    pub remote: bool,
}

impl std::fmt::Debug for What {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Token(_) => "token ***",
            Self::Login { .. } => "login ***",
            Self::Refresh(_) => "refresh ***",
            Self::Revoke { .. } => "revoke",
            Self::Follow(_) => "follow",
            Self::Unfollow(_) => "unfollow",
            Self::Submit { .. } => "submit",
            Self::Operate(_) => "operate",
            Self::Push(..) => "push",
        })
    }
}

/// What the world outside says.
#[derive(Clone, Debug)]
pub enum Finding {
    /// This is who it is.
    Known(Arc<Identity>),
    /// Tokens were given out.
    Issued(Box<Issued>),
    /// Nobody, or not with that password.
    Unknown,
    /// It was good once.
    Expired,
    /// Too many tries: come back later.
    Limited,
    /// Nobody could be asked, or nobody answered in time. Treated as a refusal.
    Unavailable,
    /// Carried out.
    Done,
    /// It is followed.
    Following(Following),
    /// What came of an order, in lines.
    Told(Result<Vec<String>, Denied>),
    /// What came of an order about push notifications.
    Push(Box<Result<order::Told, order::Refused>>),
}

/// Why an operator's order was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// The status of HTTP that says so.
    pub status: u16,
    /// In words.
    pub text: String,
}

impl Denied {
    /// It is about something that there is not.
    pub fn unknown(text: impl Into<String>) -> Self {
        Self { status: 404, text: text.into() }
    }

    /// Another one of its kind is under way.
    pub fn conflict(text: impl Into<String>) -> Self {
        Self { status: 409, text: text.into() }
    }

    /// It cannot be done now.
    pub fn unavailable(text: impl Into<String>) -> Self {
        Self { status: 503, text: text.into() }
    }
}

/// Tokens that were given out.
#[derive(Clone)]
pub struct Issued {
    /// To whom.
    pub identity: Arc<Identity>,
    /// Opens connections.
    pub token: String,
    /// Until when.
    pub token_expires: UnixMillis,
    /// For how long in all.
    pub token_lifetime: Millis,
    /// Gives new ones, once.
    pub refresh_token: String,
    /// Until when.
    pub refresh_expires: UnixMillis,
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "tokens of {}", self.identity.user)
    }
}

/// Declares the rows of a dialect's settings: its own, then those of its `tokens: TokenSettings`.
macro_rules! token_settings {
    ($name:literal, $($own:expr),* $(,)?) => {
        &[
            $($own,)*
            $crate::config::table::Setting {
                key: concat!($name, ".jwt_algorithm"),
                kind: $crate::config::value::Kind::Choice {
                    default: "HS256",
                    words: $crate::auth::jwt::ALGORITHMS,
                    put: |it, word| {
                        let known = $crate::auth::jwt::ALGORITHMS.iter().find(|it| **it == word);
                        it.tokens.jwt_algorithm = known.copied().unwrap_or("HS256");
                    },
                    read: |it| it.tokens.jwt_algorithm,
                },
                applies: $crate::config::value::Applies::AtStart,
                help: "The algorithm of JSON Web Tokens; no other is taken.",
            },
            $crate::auth::source::token_settings!(@secret concat!($name, ".jwt_key"), Text, jwt_key,
                "Their key: a secret for HS algorithms, else a public key as PEM. None: no such tokens."),
            $crate::auth::source::token_settings!(@secret concat!($name, ".jwt_key_file"), File, jwt_key,
                "A file that holds the key."),
            $crate::auth::source::token_settings!(@secret concat!($name, ".jwt_key_env"), Environment, jwt_key,
                "An environment variable that holds the key."),
            $crate::auth::source::token_settings!(@text concat!($name, ".jwt_issuer"), jwt_issuer, "a text",
                "Who must have issued them (iss); none: anyone who has the key."),
            $crate::auth::source::token_settings!(@text concat!($name, ".jwt_audience"), jwt_audience, "a text",
                "For whom they must be (aud); none: not looked at."),
            $crate::auth::source::token_settings!(@text concat!($name, ".consult_url"), consult_url,
                "an http:// or https:// address",
                "Who is asked about tokens that are neither configured nor JSON Web Tokens; none: nobody."),
            $crate::auth::source::token_settings!(@secret concat!($name, ".consult_secret"), Text, consult_secret,
                "Signs the question (X-Ringmain-Signature); none: not signed."),
            $crate::auth::source::token_settings!(@secret concat!($name, ".consult_secret_file"), File, consult_secret,
                "A file that holds that secret."),
            $crate::auth::source::token_settings!(@secret concat!($name, ".consult_secret_env"), Environment, consult_secret,
                "An environment variable that holds that secret."),
            $crate::config::table::number!(concat!($name, ".consult_timeout_s"), tokens.consult_timeout,
                Seconds, 2_000, 50, 60_000,
                "How long the answer may take; after that the token is refused."),
            $crate::config::table::number!(concat!($name, ".consult_cache_s"), tokens.consult_cache,
                Seconds, 60_000, 0, 24 * 3_600_000,
                "How long a token that was found good is not asked about again; one that was not: at most 5 s."),
        ]
    };
    (@secret $key:expr, $from:ident, $field:ident, $help:literal) => {
        $crate::config::table::Setting {
            key: $key,
            kind: $crate::config::value::Kind::Secret {
                from: $crate::config::value::SecretFrom::$from,
                put: |it, text| it.tokens.$field = Some($crate::config::Secret(text)),
            },
            applies: $crate::config::value::Applies::AtStart,
            help: $help,
        }
    };
    (@text $key:expr, $field:ident, $what:literal, $help:literal) => {
        $crate::config::table::Setting {
            key: $key,
            kind: $crate::config::value::Kind::Text {
                what: $what,
                put: |it, text| it.tokens.$field = text,
                read: |it| &it.tokens.$field,
            },
            applies: $crate::config::value::Applies::AtStart,
            help: $help,
        }
    };
}

pub(crate) use token_settings;

/// The settings of one `[[<dialect>.tokens]]` table.
pub static TOKEN_ROWS: &[Setting<TokenRow>] = &[
    secret_row("token", SecretFrom::Text, "The token; give it here or by one of the next two."),
    secret_row("token_file", SecretFrom::File, "A file that holds the token."),
    secret_row(
        "token_env",
        SecretFrom::Environment,
        "An environment variable that holds the token.",
    ),
    Setting {
        key: "user",
        kind: Kind::Text { what: "a text", put: |it, text| it.user = text, read: |it| &it.user },
        applies: Applies::AtStart,
        help: "Whose it is.",
    },
    Setting {
        key: "account",
        kind: Kind::Text {
            what: "a text",
            put: |it, text| it.account = text,
            read: |it| &it.account,
        },
        applies: Applies::AtStart,
        help: "The account they belong to, where the protocol has accounts.",
    },
    Setting {
        key: "groups",
        kind: Kind::Texts { put: |it, texts| it.groups = texts, read: |it| &it.groups },
        applies: Applies::AtStart,
        help: "Groups they are a member of, where the protocol has groups.",
    },
    Setting {
        key: "moderates",
        kind: Kind::Texts { put: |it, texts| it.moderates = texts, read: |it| &it.moderates },
        applies: Applies::AtStart,
        help: "Groups they moderate.",
    },
    Setting {
        key: "permissions",
        kind: Kind::Texts { put: |it, texts| it.permissions = texts, read: |it| &it.permissions },
        applies: Applies::AtStart,
        help: "What else they may do, in the protocol's words.",
    },
];

const fn secret_row(key: &'static str, from: SecretFrom, help: &'static str) -> Setting<TokenRow> {
    let kind = Kind::Secret { from, put: |it: &mut TokenRow, text| it.token = Some(Secret(text)) };
    Setting { key, kind, applies: Applies::AtStart, help }
}
