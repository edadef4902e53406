//! What channels keep of their past, and for how long.

use super::section::Rows;
use super::table::{Setting, number, switch};
use super::value::{Applies, Kind};
use super::{Config, SectionOf};
use crate::base::name::Name;
use crate::base::pattern::Pattern;
use crate::base::time::Millis;

/// The settings, checked.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Which channels keep what; the first row that matches counts.
    pub channels: Vec<ChannelRow>,
    /// Who came, changed and left is kept, too.
    pub presence: bool,
    /// Events of a durable channel that stay in memory.
    pub window_events: usize,
    /// Events replayed to one subscriber at once.
    pub replay_events_max: u32,
    /// Bytes replayed to one subscriber at once.
    pub replay_bytes_max: u64,
    /// How long an idempotency key is remembered.
    pub idempotency_window: Millis,
    /// Keys remembered by one shard.
    pub idempotency_keys_max: usize,
}

/// One `[[history.channels]]` table.
#[derive(Clone, Debug, Default)]
pub struct ChannelRow {
    /// The id of an app; empty: every app.
    pub app: String,
    /// Names, `*` for any run of characters.
    pub pattern: String,
    /// `none`, `memory` or `durable`.
    pub mode: &'static str,
    /// How long; 0: for ever.
    pub age: Millis,
    /// How many; 0: any number.
    pub events_max: u64,
    /// How many bytes; 0: any number.
    pub bytes_max: u64,
}

impl ChannelRow {
    /// Whether no channel is left to `other`, a later row.
    fn covers(&self, other: &Self) -> bool {
        let pattern = |row: &Self| Pattern(Name::from(row.pattern.as_str()));
        (self.app.is_empty() || self.app == other.app) && pattern(self).covers(&pattern(other))
    }
}

/// Channels that are on disk while nothing is configured.
pub const DEVELOPMENT_DURABLE: &str = "durable-*";
/// Events that all other channels keep in memory then.
pub const DEVELOPMENT_EVENTS: u64 = 100;

impl History {
    /// The settings in force: as configured; in development mode without any, all channels keep something.
    pub fn of(config: &Config) -> Self {
        let mut history = config.sections.get::<Self>().cloned().unwrap_or_else(|| SECTION.blank());
        if config.development && history.channels.is_empty() {
            let row = |pattern: &str, mode, hours: u64, events_max| ChannelRow {
                app: String::new(),
                pattern: pattern.to_owned(),
                mode,
                age: Millis(hours * 3_600_000),
                events_max,
                bytes_max: 0,
            };
            history.channels.push(row(DEVELOPMENT_DURABLE, "durable", 24, 0));
            history.channels.push(row("*", "memory", 1, DEVELOPMENT_EVENTS));
        }
        history
    }
}

const HOUR: u64 = 3_600_000;
const KIB: u64 = 1 << 10;

/// The section of the settings.
pub static SECTION: SectionOf<History> = SectionOf {
    name: "history",
    about: "What channels keep of their past. Without a `[[history.channels]]` table nothing is kept; in \
            development mode without one, channels named `durable-*` are on disk for a day and all others keep \
            100 events in memory for an hour.",
    settings: &[
        switch!(
            "history.presence",
            presence,
            true,
            "Channels with members that keep their events keep who came, changed and left as well, by the same rule."
        ),
        number!(
            "history.window_events",
            window_events,
            Count,
            128,
            1,
            100_000,
            "Newest events of a durable channel that stay in memory, so that most readers need no disk."
        ),
        number!(
            "history.replay_events_max",
            replay_events_max,
            Count,
            1_000,
            1,
            100_000,
            "Events that one subscriber is sent of the past at once; who missed more reads the history page by page."
        ),
        // A quarter of the default outbox: what is replayed must fit there beside what is live.
        number!(
            "history.replay_bytes_max",
            replay_bytes_max,
            Bytes,
            KIB * KIB,
            KIB,
            KIB * KIB * KIB,
            "Bytes of the same; keep it well below limits.outbox_bytes_high_water."
        ),
        number!(
            "history.idempotency_window_s",
            idempotency_window,
            Seconds,
            120_000,
            1_000,
            7 * 24 * HOUR,
            "How long an idempotency key is remembered, on durable channels over a restart too."
        ),
        number!(
            "history.idempotency_keys_max",
            idempotency_keys_max,
            Count,
            1_000_000,
            1,
            100_000_000,
            "Keys that one shard remembers at once, over all apps, some 200 bytes each; a publish with a further one is refused."
        ),
    ],
    tables: &[&Rows {
        name: "channels",
        about: "How the channels of one pattern keep their events; the first table that matches counts.",
        settings: CHANNEL_ROWS,
        required: &["pattern", "mode"],
        blank: ChannelRow::default,
        push: |it: &mut History, row| it.channels.push(row),
    }],
    blank: History::default,
    check: |it, config| {
        let known = |id: &str| id.is_empty() || config.apps.iter().any(|app| app.id == id);
        let ids: Vec<_> = config.apps.iter().map(|app| app.id.as_str()).collect();
        let mut wrong = Vec::new();
        for (at, row) in it.channels.iter().enumerate() {
            if !known(&row.app) {
                let allowed = format!("the id of an app: {}", ids.join(", "));
                wrong.push(("history.channels.app", row.app.clone(), allowed));
            }
            if row.pattern.is_empty() {
                let allowed = "a name, with * for any run of characters".to_owned();
                wrong.push(("history.channels.pattern", row.pattern.clone(), allowed));
            }
            // Who put it there expects it to count.
            if let Some(first) = it.channels[..at].iter().find(|first| first.covers(row)) {
                let allowed = format!(
                    "a pattern that no earlier table takes in; here \"{}\" ({}) does: put the narrower one first",
                    first.pattern, first.mode
                );
                wrong.push(("history.channels.pattern", row.pattern.clone(), allowed));
            }
        }
        wrong
    },
};

static CHANNEL_ROWS: &[Setting<ChannelRow>] = &[
    Setting {
        key: "app",
        kind: Kind::Text {
            what: "the id of an app",
            put: |row, text| row.app = text,
            read: |row| &row.app,
        },
        applies: Applies::AtStart,
        help: "The app whose channels these are; none: every app's.",
    },
    Setting {
        key: "pattern",
        kind: Kind::Text {
            what: "a name, with * for any run of characters",
            put: |row, text| row.pattern = text,
            read: |row| &row.pattern,
        },
        applies: Applies::AtStart,
        help: "Which channels, by name; * stands for any run of characters.",
    },
    Setting {
        key: "mode",
        kind: Kind::Choice {
            default: "none",
            words: &["none", "memory", "durable"],
            put: |row, word| {
                row.mode = match word {
                    "durable" => "durable",
                    "memory" => "memory",
                    _ => "none",
                }
            },
            read: |row| row.mode,
        },
        applies: Applies::AtStart,
        help: "none keeps nothing; memory keeps events while the process runs; durable acknowledges an event when it is on disk, synced.",
    },
    number!("age_s", age, Seconds, 24 * HOUR, 1_000, 100 * 365 * 24 * HOUR,
        zero: Some("for ever"), "How long an event is kept after it was published."),
    number!("events_max", events_max, Count, 0, 1, 1 << 40,
        zero: Some("any number"), "Events kept of one channel; above it the oldest go. In memory, versions of messages and annotations have up to 99 places more for each; on disk they count."),
    number!("bytes_max", bytes_max, Bytes, 0, KIB, 1 << 50,
        zero: Some("any number"), "Bytes of events kept of one channel; above it the oldest go."),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_would_never_count_is_refused() {
        let row = |app: &str, pattern: &str, mode| ChannelRow {
            app: app.to_owned(),
            pattern: pattern.to_owned(),
            mode,
            ..ChannelRow::default()
        };
        let (all, orders) = (row("", "*", "memory"), row("", "orders-*", "durable"));
        let of_app = row("app-id", "*", "none");
        for (channels, keys) in [
            (vec![orders.clone(), all.clone()], vec![]),
            (vec![of_app.clone(), all.clone()], vec![]),
            (vec![all.clone(), orders.clone()], vec!["history.channels.pattern"]),
            (vec![all.clone(), of_app], vec!["history.channels.pattern"]),
            (vec![row("nobody", "a", "none")], vec!["history.channels.app"]),
            (vec![row("", "", "none")], vec!["history.channels.pattern"]),
        ] {
            let history = History { channels, ..History::default() };
            let wrong = (SECTION.check)(&history, &Config::development());
            assert_eq!(wrong.iter().map(|it| it.0).collect::<Vec<_>>(), keys, "{history:?}");
        }
    }

    #[test]
    fn development_keeps_something_of_every_channel() {
        let mut config = Config::development();
        let rows = |config: &Config| {
            let rows = History::of(config).channels.into_iter();
            rows.map(|row| (row.pattern, row.mode)).collect::<Vec<_>>()
        };
        let (durable, all) = (DEVELOPMENT_DURABLE.to_owned(), "*".to_owned());
        assert_eq!(rows(&config), [(durable, "durable"), (all, "memory")]);
        config.development = false;
        assert!(rows(&config).is_empty());
    }
}
