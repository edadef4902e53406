//! Who in the world outside is told of events, and where: the receivers of webhooks.

use std::collections::HashSet;

use super::section::Rows;
use super::table::{Setting, number};
use super::value::{Applies, Kind, SecretFrom};
use super::{Config, Secret, SectionOf};
use crate::base::time::Millis;

/// Receivers, at most: each reads the whole queue.
const RECEIVERS_MAX: usize = 64;
/// The longest name of a receiver, in bytes: it is part of a key of the store.
const NAME_BYTES_MAX: usize = 64;

/// The settings, checked.
#[derive(Clone, Debug, Default)]
pub struct Webhooks {
    /// Who is told.
    pub receivers: Vec<ReceiverRow>,
    /// Bytes that wait for receivers; above it the oldest become dead letters.
    pub queue_bytes_max: u64,
    /// Dead letters kept; above it the oldest go.
    pub dead_letters_max: u64,
    /// Bytes of dead letters kept; above it the oldest go.
    pub dead_letter_bytes_max: u64,
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
    /// Patterns of the kinds of events it hears of; empty: all.
    pub types: Vec<String>,
    /// What requests are signed with; none: they are not signed.
    pub secret: Option<Secret>,
    /// Events in one request; 1: the body is the event itself, else a list.
    pub batch_max: u32,
    /// How long an answer may take.
    pub timeout: Millis,
    /// How old an event may become while the receiver does not take it; then it is a dead letter.
    pub retry_max_age: Millis,
}

impl Webhooks {
    /// The settings in force.
    pub fn of(config: &Config) -> Self {
        config.sections.get::<Self>().cloned().unwrap_or_else(|| SECTION.blank())
    }

    /// Whether someone is told of this app's events: if nobody is, there is nothing to report.
    pub fn any_for(&self, app_id: &str) -> bool {
        self.receivers.iter().any(|it| it.app.is_empty() || it.app == app_id)
    }
}

const SECOND: u64 = 1_000;
const HOUR: u64 = 3_600 * SECOND;
const MIB: u64 = 1 << 20;

/// The section of the settings.
pub static SECTION: SectionOf<Webhooks> = SectionOf {
    name: "webhooks",
    about: "Who outside is told of events over HTTP; docs/webhooks.md is for who receives them. Without a \
            `[[webhooks.receivers]]` table nothing is reported. What waits is on disk and survives a restart.",
    settings: &[
        number!(
            "webhooks.queue_bytes_max",
            queue_bytes_max,
            Bytes,
            1024 * MIB,
            MIB,
            1 << 50,
            "Bytes on disk that wait for receivers; above it the oldest events become dead letters of those that lack them."
        ),
        number!(
            "webhooks.dead_letters_max",
            dead_letters_max,
            Count,
            10_000,
            1,
            100_000,
            "Dead letters kept, over all receivers; above it the oldest go."
        ),
        number!(
            "webhooks.dead_letter_bytes_max",
            dead_letter_bytes_max,
            Bytes,
            256 * MIB,
            MIB,
            1 << 50,
            "Bytes of dead letters kept; above it the oldest go."
        ),
    ],
    tables: &[&Rows {
        name: "receivers",
        about: "One receiver of webhooks. Each has all events in order and at its own pace.",
        settings: RECEIVER_ROWS,
        required: &["name", "url"],
        blank: ReceiverRow::default,
        push: |it: &mut Webhooks, row| it.receivers.push(row),
    }],
    blank: Webhooks::default,
    check,
};

fn check(it: &Webhooks, config: &Config) -> Vec<super::section::Wrong> {
    let ids: Vec<_> = config.apps.iter().map(|app| app.id.as_str()).collect();
    let (mut wrong, mut names) = (Vec::new(), HashSet::new());
    for row in &it.receivers {
        if !names.insert(&row.name) {
            let allowed = "each name once: the store knows a receiver by it".to_owned();
            wrong.push(("webhooks.receivers.name", row.name.clone(), allowed));
        }
        if !is_url(&row.url) {
            let allowed = "a URL that begins with http:// or https:// and a host".to_owned();
            wrong.push(("webhooks.receivers.url", row.url.clone(), allowed));
        }
        if !row.app.is_empty() && !ids.contains(&row.app.as_str()) {
            let allowed = format!("the id of an app: {}", ids.join(", "));
            wrong.push(("webhooks.receivers.app", row.app.clone(), allowed));
        }
        if row.types.iter().any(String::is_empty) {
            let allowed = "names with * for any run of characters, none of them empty".to_owned();
            wrong.push(("webhooks.receivers.types", row.types.join(","), allowed));
        }
    }
    if it.receivers.len() > RECEIVERS_MAX {
        let allowed = format!("at most {RECEIVERS_MAX} tables");
        wrong.push(("webhooks.receivers", it.receivers.len().to_string(), allowed));
    }
    wrong
}

/// Whether it has a scheme that is spoken, a host, and nothing that a request line may not have.
fn is_url(url: &str) -> bool {
    let rest = url.strip_prefix("http://").or(url.strip_prefix("https://"));
    let has_host = rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['/', '?', ':']));
    has_host && url.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#')
}

static RECEIVER_ROWS: &[Setting<ReceiverRow>] = &[
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
    Setting {
        key: "url",
        kind: Kind::Text {
            what: "an http:// or https:// URL",
            put: |row, text| row.url = text,
            read: |row| &row.url,
        },
        applies: Applies::AtStart,
        help: "Where events are sent with POST; redirects are not followed.",
    },
    Setting {
        key: "app",
        kind: Kind::Text {
            what: "the id of an app",
            put: |row, text| row.app = text,
            read: |row| &row.app,
        },
        applies: Applies::AtStart,
        help: "The app whose events it hears of; none: every app's.",
    },
    Setting {
        key: "types",
        kind: Kind::Texts { put: |row, texts| row.types = texts, read: |row| &row.types },
        applies: Applies::AtStart,
        help: "Kinds of events it hears of, * for any run of characters; none: all.",
    },
    secret(
        "secret",
        SecretFrom::Text,
        "What requests are signed with; give it here or by one of the next two. None: they are not signed.",
    ),
    secret("secret_file", SecretFrom::File, "A file that holds the secret."),
    secret("secret_env", SecretFrom::Environment, "An environment variable that holds the secret."),
    number!(
        "batch_max",
        batch_max,
        Count,
        1,
        1,
        1_000,
        "Events in one request. With 1 the body is the event itself; with more it is a list, however many there are."
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
        "retry_max_age_s",
        retry_max_age,
        Seconds,
        24 * HOUR,
        SECOND,
        30 * 24 * HOUR,
        "How old an event may become while its receiver fails; then it is a dead letter."
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
    use crate::config::load::{Sources, load};
    use crate::config::{Machine, Section};

    const ONLY: &[&dyn Section] = &[&SECTION];

    fn read(text: &str) -> Result<Webhooks, String> {
        let apps = "[[apps]]\nid = \"a\"\nkey = \"k\"\nsecret = \"s\"\n";
        let sources = Sources {
            file: Some(("x.toml".into(), format!("{apps}{text}"))),
            environment: vec![("SECRET".into(), "hush".into())],
            flags: Vec::new(),
            machine: Machine::small(),
            sections: ONLY,
        };
        match load(&sources) {
            Ok(loaded) => Ok(Webhooks::of(&loaded.config)),
            Err(wrong) => Err(wrong.iter().map(|it| it.to_string()).collect::<Vec<_>>().join("\n")),
        }
    }

    #[test]
    fn a_receiver_is_read_with_its_defaults() {
        let text = "[[webhooks.receivers]]\nname = \"crm\"\nurl = \"https://x.example/hook?a=b\"\nsecret_env = \"SECRET\"\n";
        let webhooks = read(text).unwrap();
        let [row] = &webhooks.receivers[..] else { panic!("one receiver") };
        assert_eq!((&*row.name, row.batch_max), ("crm", 1));
        assert_eq!((row.timeout, row.retry_max_age), (Millis(10_000), Millis(86_400_000)));
        assert_eq!(row.secret.as_ref().map(|it| &*it.0), Some("hush"));
        assert!(webhooks.any_for("a") && webhooks.any_for("b"));
        let webhooks = read(&format!("{text}app = \"a\"\ntypes = [\"x.*\", \"y\"]\n")).unwrap();
        assert!(webhooks.any_for("a") && !webhooks.any_for("b"));
        assert_eq!(webhooks.receivers[0].types, ["x.*", "y"]);
        assert!(!read("").unwrap().any_for("a"));
    }

    #[test]
    fn what_is_wrong_is_told_by_name() {
        let row = |rest: &str| format!("[[webhooks.receivers]]\nname = \"crm\"\n{rest}\n");
        let url = "url = \"http://x/\"";
        for (text, parts) in [
            (row(""), &["webhooks.receivers", "url"][..]),
            (row("url = \"x.example\""), &["webhooks.receivers.url", "http://"]),
            (row("url = \"http:///path\""), &["webhooks.receivers.url"]),
            (row("url = \"http://x/ y\""), &["webhooks.receivers.url"]),
            (row(&format!("{url}\napp = \"b\"")), &["webhooks.receivers.app", "id of an app: a"]),
            (row(&format!("{url}\ntypes = [\"\"]")), &["webhooks.receivers.types"]),
            (row(&format!("{url}\nbatch_max = 0")), &["webhooks.receivers.batch_max"]),
            (row(&format!("{url}\nbatch_ma = 5")), &["webhooks.receivers.batch_ma", "batch_max"]),
            (row(url) + &row(url), &["webhooks.receivers.name", "crm", "each name once"]),
        ] {
            let wrong = read(&text).map(|_| ()).expect_err(&text);
            for part in parts {
                assert!(wrong.contains(part), "{text}: {wrong}");
            }
        }
    }
}
