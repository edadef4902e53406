//! One receiver of webhooks: what it hears of, in which form, and how patiently it is told.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use regex_automata::nfa::thompson;
use regex_automata::nfa::thompson::pikevm::PikeVM;
use regex_automata::util::syntax;

use crate::base::address::is_private;
use crate::base::name::Name;
use crate::base::pattern::Pattern;
use crate::base::time::Millis;
use crate::config::Secret;
use crate::config::section::Wrong;
use crate::config::table::{Setting, number, switch};
use crate::config::value::{Applies, Kind, SecretFrom};

/// The longest name of a receiver, in bytes: it is part of a key of the store.
const NAME_BYTES_MAX: usize = 64;
/// Bytes that a regular expression may take when it is compiled.
const EXPRESSION_BYTES_MAX: usize = 256 << 10;
/// Groups and classes of one nest no deeper: the compiler is recursive.
const EXPRESSION_NEST_MAX: u32 = 250;
/// Fields of one receiver's own.
const HEADERS_MAX: usize = 32;
/// Fields of a request that it cannot do without, or that say how it travels: those are ours.
const HEADERS_OURS: &[&str] = &[
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The form of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Our own: any event, its own body or a list, signed with the receiver's secret.
    #[default]
    Ringmain,
    /// As Pusher and Sockudo send them: events of that protocol in one object, signed with the app's secret.
    Sockudo,
}

impl Format {
    /// What the kinds of events begin with that it can tell; none: it tells any.
    pub fn family(self) -> Option<&'static str> {
        match self {
            Self::Ringmain => None,
            Self::Sockudo => Some("sockudo."),
        }
    }

    /// As it is spelled in the settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ringmain => "ringmain",
            Self::Sockudo => "sockudo",
        }
    }
}

/// One `[[webhooks.receivers]]` table.
#[derive(Clone, Debug, Default)]
pub struct ReceiverRow {
    /// What it is called, here and in the store: another name is another receiver.
    pub name: String,
    /// Where requests go.
    pub url: String,
    /// The id of the app it hears of; empty: every app.
    pub app: String,
    /// The form of its requests.
    pub format: Format,
    /// Patterns of the kinds of events it hears of; empty: all.
    pub types: Vec<String>,
    /// What the names of channels begin with that it hears of; empty: anything.
    pub channel_prefix: String,
    /// What they end with; empty: anything.
    pub channel_suffix: String,
    /// A regular expression that matches somewhere in them; empty: none.
    pub channel_pattern: String,
    /// What stands before the first colon in them; empty: anything, or no colon.
    pub channel_namespaces: Vec<String>,
    /// Fields of every request, `Name: value`.
    pub headers: Vec<String>,
    /// What requests are signed with; none: they are not signed.
    pub secret: Option<Secret>,
    /// Events in one request; 1: the body is the event itself, else a list. 0: as usual in the format.
    pub batch_max: u32,
    /// How long the first event of a request waits for others.
    pub batch_window: Millis,
    /// How long an answer may take.
    pub timeout: Millis,
    /// The pause after a first failure; each further one is twice as long ...
    pub retry_first: Millis,
    /// ... up to this.
    pub retry_longest: Millis,
    /// How old an event may become while the receiver does not take it; then it is a dead letter.
    pub retry_max_age: Millis,
    /// Statuses after which the same is sent again until it is too old; empty: those that say something about the
    /// receiver.
    pub retry_statuses: Vec<String>,
    /// It may be on a private address.
    pub allow_private: bool,
}

/// A field of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderField {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

impl FromStr for HeaderField {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (name, value) = text.split_once(':').ok_or(())?;
        let value = value.trim();
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let is_good = !name.is_empty()
            && name.bytes().all(is_name)
            && value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        let is_ours = HEADERS_OURS.iter().any(|it| it.eq_ignore_ascii_case(name));
        let field = Self { name: name.to_owned(), value: value.to_owned() };
        (is_good && !is_ours).then_some(field).ok_or(())
    }
}

/// Statuses: `408`, `500-504` or `5xx`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusRange(pub RangeInclusive<u16>);

impl FromStr for StatusRange {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let status = |text: &str| {
            let status = text.parse::<u16>().ok().filter(|it| (100..=599).contains(it));
            status.filter(|_| text.len() == 3).ok_or(())
        };
        let range = match (text.strip_suffix("xx"), text.split_once('-')) {
            (Some(hundreds), _) => {
                let first = status(&format!("{hundreds}00"))?;
                first..=first + 99
            }
            (None, Some((first, last))) => status(first)?..=status(last)?,
            (None, None) => status(text)?..=status(text)?,
        };
        let is_retried = !range.is_empty() && (*range.end() < 200 || *range.start() > 299);
        is_retried.then_some(Self(range)).ok_or(())
    }
}

/// A regular expression that matches anywhere in a text, in time in proportion to both.
#[derive(Clone)]
pub struct Expression(PikeVM);

impl Expression {
    /// Whether it matches somewhere in this text.
    pub fn matches(&self, text: &str) -> bool {
        self.0.is_match(&mut self.0.create_cache(), text)
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expression")
    }
}

impl FromStr for Expression {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let bounds = thompson::Config::new().nfa_size_limit(Some(EXPRESSION_BYTES_MAX));
        let syntax = syntax::Config::new().nest_limit(EXPRESSION_NEST_MAX);
        PikeVM::builder().syntax(syntax).thompson(bounds).build(text).map(Self).map_err(drop)
    }
}

impl ReceiverRow {
    /// Whether it hears of this app.
    pub fn is_of(&self, app_id: &str) -> bool {
        self.app.is_empty() || self.app == app_id
    }

    /// Whether it hears of events of this kind.
    pub fn takes(&self, kind: &str) -> bool {
        let Some(name) = kind.strip_prefix(self.format.family().unwrap_or_default()) else {
            return false;
        };
        let is_named = |it: &String| Pattern(Name::from(it.as_str())).matches(name);
        self.types.is_empty() || self.types.iter().any(is_named)
    }

    /// Events in one request.
    pub fn batch_max(&self) -> u32 {
        match (self.batch_max, self.format) {
            (0, Format::Ringmain) => 1,
            (0, Format::Sockudo) => 100,
            (given, _) => given,
        }
    }

    /// What is wrong with its values, each by itself or together.
    pub(super) fn faults(&self) -> Vec<Wrong> {
        let mut wrong = Vec::new();
        let mut fault = |key: &'static str, value: &str, allowed: &str| {
            wrong.push((key, value.to_owned(), allowed.to_owned()));
        };
        match host(&self.url) {
            None => fault(
                "webhooks.receivers.url",
                &self.url,
                "a URL that begins with http:// or https:// and a host",
            ),
            Some(host) if is_known_private(host) && !self.allow_private => fault(
                "webhooks.receivers.url",
                &self.url,
                "a host on the public internet; allow_private = true lets it be on a private address",
            ),
            Some(_) => {}
        }
        if self.types.iter().any(String::is_empty) {
            let allowed = "names with * for any run of characters, none of them empty";
            fault("webhooks.receivers.types", &self.types.join(","), allowed);
        }
        if !self.channel_pattern.is_empty() && self.channel_pattern.parse::<Expression>().is_err() {
            let allowed = "a regular expression, at most 256 KiB when compiled";
            fault("webhooks.receivers.channel_pattern", &self.channel_pattern, allowed);
        }
        let fields: Vec<_> = self.headers.iter().map(|it| it.parse::<HeaderField>()).collect();
        if fields.len() > HEADERS_MAX || fields.iter().any(Result::is_err) {
            // A value may be a secret.
            let allowed =
                "at most 32 of \"Name: value\", printable, none that says how a request travels";
            fault("webhooks.receivers.headers", "***", allowed);
        }
        if self.retry_statuses.iter().any(|it| it.parse::<StatusRange>().is_err()) {
            let allowed = "statuses that are not 2xx, as 408, 500-504 or 5xx";
            fault("webhooks.receivers.retry_statuses", &self.retry_statuses.join(","), allowed);
        }
        if self.retry_longest < self.retry_first {
            let allowed = "no shorter than retry_first_s";
            let given = format!("{} ms", self.retry_longest.0);
            fault("webhooks.receivers.retry_longest_s", &given, allowed);
        }
        if self.format == Format::Sockudo && self.secret.is_some() {
            let allowed = "none with format = \"sockudo\": the app's own secret signs";
            fault("webhooks.receivers.secret", "***", allowed);
        }
        wrong
    }
}

/// The host of a URL; none: it has no scheme that is spoken, no host, or something that a request line may not have.
fn host(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("http://").or(url.strip_prefix("https://"))?;
    let is_good = url.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    let authority = rest.split(['/', '?']).next().filter(|_| is_good)?;
    let place = authority.rsplit('@').next()?;
    let host = match place.strip_prefix('[') {
        Some(place) => place.split(']').next()?,
        None => place.split(':').next()?,
    };
    (!host.is_empty()).then_some(host)
}

/// Whether a host is private whatever anyone is asked about it.
fn is_known_private(host: &str) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let is_localhost = name == "localhost" || name.ends_with(".localhost");
    is_localhost || name.parse::<IpAddr>().is_ok_and(is_private)
}

const SECOND: u64 = 1_000;
const HOUR: u64 = 3_600 * SECOND;

macro_rules! text {
    ($key:literal, $field:ident, $what:literal, $help:literal) => {
        Setting {
            key: $key,
            kind: Kind::Text {
                what: $what,
                put: |row, text| row.$field = text,
                read: |row| &row.$field,
            },
            applies: Applies::AtStart,
            help: $help,
        }
    };
}

macro_rules! texts {
    ($key:literal, $field:ident, $help:literal) => {
        Setting {
            key: $key,
            kind: Kind::Texts { put: |row, texts| row.$field = texts, read: |row| &row.$field },
            applies: Applies::AtStart,
            help: $help,
        }
    };
}

pub(super) static ROWS: &[Setting<ReceiverRow>] = &[
    Setting {
        key: "name",
        kind: Kind::Word {
            bytes_max: NAME_BYTES_MAX,
            put: |row, text| row.name = text,
            read: |row| &row.name,
        },
        applies: Applies::AtStart,
        help: "What it is called; under this name the store knows how far it is. A new name begins with all that waits.",
    },
    text!(
        "url",
        url,
        "an http:// or https:// URL",
        "Where events are sent with POST; redirects are not followed."
    ),
    switch!(
        "allow_private",
        allow_private,
        false,
        "It may be on this machine or in a private network; else no connection is made to such an address, whatever its name resolves to."
    ),
    text!("app", app, "the id of an app", "The app whose events it hears of; none: every app's."),
    Setting {
        key: "format",
        kind: Kind::Choice {
            default: "ringmain",
            words: &["ringmain", "sockudo"],
            put: |row, word| {
                row.format = if word == "sockudo" { Format::Sockudo } else { Format::Ringmain };
            },
            read: |row| row.format.as_str(),
        },
        applies: Applies::AtStart,
        help: "The form of requests: our own for events of every protocol, or that of Pusher and Sockudo for theirs, which SDKs check with the app's key and secret.",
    },
    texts!(
        "types",
        types,
        "Kinds of events it hears of, * for any run of characters; none: all. Of the format sockudo they are without sockudo. in front."
    ),
    text!(
        "channel_prefix",
        channel_prefix,
        "a text",
        "Only of channels whose names begin so. With any of these four, nothing is told that is of no channel."
    ),
    text!("channel_suffix", channel_suffix, "a text", "Only of channels whose names end so."),
    text!(
        "channel_pattern",
        channel_pattern,
        "a regular expression",
        "Only of channels whose names this matches somewhere; ^ and $ are the ends."
    ),
    texts!(
        "channel_namespaces",
        channel_namespaces,
        "Only of channels that have one of these before the first colon."
    ),
    texts!("headers", headers, "More fields of each request, as \"Name: value\"."),
    secret(
        "secret",
        SecretFrom::Text,
        "What requests are signed with; give it here or by one of the next two. None: they are not signed. Not with the format sockudo.",
    ),
    secret("secret_file", SecretFrom::File, "A file that holds the secret."),
    secret("secret_env", SecretFrom::Environment, "An environment variable that holds the secret."),
    number!(
        "batch_max",
        batch_max,
        Count,
        0,
        1,
        1_000,
        zero: Some("1 with the format ringmain, 100 with sockudo"),
        "Events in one request. With the format ringmain and 1 the body is the event itself; with more it is a list, however many there are."
    ),
    number!(
        "batch_window_s",
        batch_window,
        Seconds,
        50,
        0,
        60 * SECOND,
        "How long the first event of a request waits for others, while there are fewer than batch_max."
    ),
    number!(
        "timeout_s",
        timeout,
        Seconds,
        10 * SECOND,
        100,
        300 * SECOND,
        "How long it may take to answer; longer counts as no answer."
    ),
    number!(
        "retry_first_s",
        retry_first,
        Seconds,
        SECOND,
        10,
        HOUR,
        "The pause after a failure; each further one is twice as long. Chance shortens each by up to half."
    ),
    number!(
        "retry_longest_s",
        retry_longest,
        Seconds,
        300 * SECOND,
        10,
        24 * HOUR,
        "The longest pause."
    ),
    number!(
        "retry_max_age_s",
        retry_max_age,
        Seconds,
        24 * HOUR,
        SECOND,
        30 * 24 * HOUR,
        "How old an event may become while its receiver fails; then it is a dead letter."
    ),
    texts!(
        "retry_statuses",
        retry_statuses,
        "Statuses that say that the receiver is not well, as 408, 500-504 or 5xx: the same is sent until it is too old. Any other but 2xx refuses the event. None: as docs/webhooks.md says."
    ),
];

const fn secret(key: &'static str, from: SecretFrom, help: &'static str) -> Setting<ReceiverRow> {
    let kind =
        Kind::Secret { from, put: |it: &mut ReceiverRow, text| it.secret = Some(Secret(text)) };
    Setting { key, kind, applies: Applies::AtStart, help }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_a_host_that_may_be_private() {
        for (url, found, private) in [
            ("http://x.example/a?b=c", Some("x.example"), false),
            ("https://x.example:8443", Some("x.example"), false),
            ("http://user:pass@10.0.0.1:80/", Some("10.0.0.1"), true),
            ("http://[::1]:80/x", Some("::1"), true),
            ("http://[2606:4700::1]/", Some("2606:4700::1"), false),
            ("http://LocalHost./", Some("LocalHost."), true),
            ("http://a.localhost/", Some("a.localhost"), true),
            ("http://169.254.169.254/latest", Some("169.254.169.254"), true),
            ("http://1.1.1.1/", Some("1.1.1.1"), false),
            ("http:///path", None, false),
            ("http://?x", None, false),
            ("http://:80/", None, false),
            ("http://x/ y", None, false),
            ("http://x/#y", None, false),
            ("ftp://x/", None, false),
            ("x.example", None, false),
        ] {
            assert_eq!(host(url), found, "{url}");
            assert_eq!(host(url).is_some_and(is_known_private), private, "{url}");
        }
    }

    #[test]
    fn statuses_are_read() {
        for (text, range) in [
            ("408", Some(408..=408)),
            ("5xx", Some(500..=599)),
            ("500-504", Some(500..=504)),
            ("3xx", Some(300..=399)),
            ("2xx", None),
            ("150-300", None),
            ("504-500", None),
            ("xx", None),
            ("60xx", None),
            ("600", None),
            ("99", None),
            ("+50", None),
            ("", None),
        ] {
            assert_eq!(text.parse().ok(), range.map(StatusRange), "{text}");
        }
    }

    #[test]
    fn fields_are_read() {
        for (text, read) in [
            ("X-Team: shop", Some(("X-Team", "shop"))),
            ("Authorization:Bearer a:b", Some(("Authorization", "Bearer a:b"))),
            ("X-Empty:", Some(("X-Empty", ""))),
            ("no colon", None),
            (": x", None),
            ("X Y: z", None),
            ("X: a\nY: b", None),
            ("content-LENGTH: 5", None),
            ("Host: x", None),
        ] {
            let found = text.parse::<HeaderField>().ok();
            let found = found.as_ref().map(|it| (it.name.as_str(), it.value.as_str()));
            assert_eq!(found, read, "{text}");
        }
    }

    #[test]
    fn kinds_are_taken_by_format_and_type() {
        let row = |format, types: &[&str]| ReceiverRow {
            format,
            types: types.iter().map(|it| (*it).to_owned()).collect(),
            ..ReceiverRow::default()
        };
        use Format::{Ringmain, Sockudo};
        for (row, kind, takes) in [
            (row(Ringmain, &[]), "a.b", true),
            (row(Ringmain, &["a.*"]), "a.b", true),
            (row(Ringmain, &["b"]), "a.b", false),
            (row(Ringmain, &["sockudo.member_*"]), "sockudo.member_added", true),
            (row(Sockudo, &[]), "a.b", false),
            (row(Sockudo, &[]), "sockudo.member_added", true),
            (row(Sockudo, &["member_*"]), "sockudo.member_added", true),
            (row(Sockudo, &["sockudo.member_*"]), "sockudo.member_added", false),
            (row(Sockudo, &["cache_miss"]), "sockudo.member_added", false),
        ] {
            assert_eq!(row.takes(kind), takes, "{row:?} {kind}");
        }
    }

    #[test]
    fn expressions_match_anywhere_and_are_bounded() {
        let matches =
            |text: &str, name: &str| text.parse::<Expression>().map(|it| it.matches(name));
        assert_eq!(matches("^orders-[0-9]+$", "orders-12"), Ok(true));
        assert_eq!(matches("^orders-[0-9]+$", "my-orders-12"), Ok(false));
        assert_eq!(matches("der", "orders"), Ok(true));
        assert!(matches("(", "").is_err() && matches("(a{1000}){1000}", "").is_err());
    }
}
