//! Who in the world outside is told of events, and where: the receivers of webhooks.

mod receiver;

use std::collections::HashSet;

pub use self::receiver::{Expression, Format, HeaderField, ReceiverRow, StatusRange};
use super::section::Rows;
use super::table::number;
use super::{Config, Secret, SectionOf};

/// Receivers, at most: each reads the whole queue.
const RECEIVERS_MAX: usize = 64;

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
    /// Who signs for each app, where requests are signed as by the app itself.
    pub signers: Vec<Signer>,
}

/// An app, as far as it signs.
#[derive(Clone, Debug)]
pub struct Signer {
    /// Its id.
    pub app: String,
    /// What it is known by.
    pub key: String,
    /// What it signs with.
    pub secret: Secret,
}

impl Webhooks {
    /// The settings in force.
    pub fn of(config: &Config) -> Self {
        let given = config.sections.get::<Self>().cloned().unwrap_or_else(|| SECTION.blank());
        let signer = |app: &super::App| Signer {
            app: app.id.clone(),
            key: app.key.clone(),
            secret: app.secret.clone(),
        };
        Self { signers: config.apps.iter().map(signer).collect(), ..given }
    }

    /// Whether someone may be told of an app's events whose kinds begin with this family: if nobody is, there is
    /// nothing to report.
    pub fn any_for(&self, app_id: &str, family: &str) -> bool {
        self.receivers
            .iter()
            .any(|it| it.is_of(app_id) && it.format.family().is_none_or(|its| its == family))
    }

    /// Whether someone is told of events of this kind in this app.
    pub fn wants(&self, app_id: &str, kind: &str) -> bool {
        self.receivers.iter().any(|it| it.is_of(app_id) && it.takes(kind))
    }
}

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
        settings: receiver::ROWS,
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
        wrong.extend(row.faults());
        if !row.app.is_empty() && !ids.contains(&row.app.as_str()) {
            let allowed = format!("the id of an app: {}", ids.join(", "));
            wrong.push(("webhooks.receivers.app", row.app.clone(), allowed));
        }
    }
    if it.receivers.len() > RECEIVERS_MAX {
        let allowed = format!("at most {RECEIVERS_MAX} tables");
        wrong.push(("webhooks.receivers", it.receivers.len().to_string(), allowed));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Millis;
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
        assert_eq!((&*row.name, row.batch_max(), row.format), ("crm", 1, Format::Ringmain));
        assert_eq!((row.batch_window, row.retry_first), (Millis(50), Millis(1_000)));
        assert_eq!((row.retry_longest, row.allow_private), (Millis(300_000), false));
        assert_eq!((row.timeout, row.retry_max_age), (Millis(10_000), Millis(86_400_000)));
        assert_eq!(row.secret.as_ref().map(|it| &*it.0), Some("hush"));
        assert!(webhooks.any_for("a", "x.") && webhooks.any_for("b", "x."));
        assert!(webhooks.wants("a", "anything"));
        let webhooks = read(&format!("{text}app = \"a\"\ntypes = [\"x.*\", \"y\"]\n")).unwrap();
        assert!(webhooks.any_for("a", "x.") && !webhooks.any_for("b", "x."));
        assert!(webhooks.wants("a", "x.z") && !webhooks.wants("a", "z"));
        assert!(!webhooks.wants("b", "x.z"));
        assert_eq!(webhooks.receivers[0].types, ["x.*", "y"]);
        assert!(!read("").unwrap().any_for("a", "x."));
        let webhooks = read(
            "[[webhooks.receivers]]\nname = \"p\"\nurl = \"http://127.0.0.1/\"\nformat = \"sockudo\"\n\
             allow_private = true\nheaders = [\"X-A: b\"]\nretry_statuses = [\"408\", \"5xx\"]\n",
        );
        let webhooks = webhooks.unwrap();
        assert_eq!(webhooks.receivers[0].batch_max(), 100);
        assert!(webhooks.any_for("a", "sockudo.") && !webhooks.any_for("a", "x."));
        assert!(webhooks.wants("a", "sockudo.cache_miss") && !webhooks.wants("a", "cache_miss"));
        assert_eq!((&*webhooks.signers[0].app, &*webhooks.signers[0].key), ("a", "k"));
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
            (row(&format!("{url}\nbatch_max = 1001")), &["webhooks.receivers.batch_max"]),
            (row(&format!("{url}\nformat = \"x\"")), &["webhooks.receivers.format", "sockudo"]),
            (row("url = \"http://10.0.0.1/\""), &["webhooks.receivers.url", "allow_private"]),
            (
                row(&format!("{url}\nchannel_pattern = \"(\"")),
                &["webhooks.receivers.channel_pattern"],
            ),
            (row(&format!("{url}\nheaders = [\"Host: x\"]")), &["webhooks.receivers.headers"]),
            (
                row(&format!("{url}\nretry_statuses = [\"200\"]")),
                &["webhooks.receivers.retry_statuses"],
            ),
            (
                row(&format!("{url}\nretry_first_s = 9\nretry_longest_s = 1")),
                &["webhooks.receivers.retry_longest_s"],
            ),
            (
                row(&format!("{url}\nformat = \"sockudo\"\nsecret = \"s\"")),
                &["webhooks.receivers.secret", "app's own"],
            ),
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
