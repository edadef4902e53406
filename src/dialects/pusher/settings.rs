//! What is set of version 2: filters, and events told as what changed.

use super::delta::{Algorithm, Rule};
use crate::base::pattern::Pattern;
use crate::base::time::Millis;
use crate::config::section::{Rows, Wrong};
use crate::config::table::{Setting, number, switch};
use crate::config::value::{Applies, Kind};
use crate::config::{Config, SectionOf};

/// Bytes of a path to a conflation key.
const KEY_PATH_BYTES_MAX: usize = 256;

/// The settings, checked.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Subscriptions may have filters.
    pub filters: bool,
    /// Peers may take events as what changed.
    pub delta: bool,
    /// How changes are written unless told otherwise.
    pub delta_algorithm: Algorithm,
    /// Changes in a row, then all of an event.
    pub delta_run_max: u32,
    /// A frame below this is sent as it is.
    pub delta_bytes_min: usize,
    /// After so long a peer's last frame is no base any more.
    pub delta_age_max: Millis,
    /// Channels of one connection for which frames are held.
    pub delta_channels_max: usize,
    /// Bytes of frames held for one connection.
    pub delta_held_bytes_max: usize,
    /// Frames do not say how they are written if it is as announced.
    pub delta_algorithm_omitted: bool,
    /// What is said of channels; the first row that matches counts.
    pub rules: Vec<DeltaRow>,
    /// Theirs, in the same order.
    pub(super) patterns: Vec<Pattern>,
}

/// One `[[pusher.delta]]` table.
#[derive(Clone, Debug, Default)]
pub struct DeltaRow {
    /// The id of an app; empty: every app.
    pub app: String,
    /// Names, `*` for any run of characters.
    pub pattern: String,
    /// Whether the channels' events may be told as what changed.
    pub enabled: bool,
    /// How it is written.
    pub algorithm: Algorithm,
    /// Where an event says what it is about; empty: all are about the same.
    pub conflation_key: String,
    /// Frames that clients keep of each key.
    pub messages_per_key_max: u32,
    /// Keys for which frames are held.
    pub conflation_keys_max: usize,
}

impl Settings {
    /// The settings in force.
    pub fn of(config: &Config) -> Self {
        let mut it = config.sections.get::<Self>().cloned().unwrap_or_else(|| SECTION.blank());
        it.patterns = it.rules.iter().map(|row| Pattern(row.pattern.as_str().into())).collect();
        it
    }

    /// What is said of a channel.
    pub(super) fn rule(&self, app: &str, channel: &str) -> Rule<'_> {
        let is_it = |(row, pattern): &(&DeltaRow, &Pattern)| {
            (row.app.is_empty() || row.app == app) && pattern.matches(channel)
        };
        let Some((row, _)) = self.rules.iter().zip(&self.patterns).find(is_it) else {
            return Rule {
                enabled: true,
                algorithm: None,
                conflation_key: None,
                messages_per_key_max: 1,
                keys_max: 1,
            };
        };
        Rule {
            enabled: row.enabled,
            algorithm: Some(row.algorithm),
            conflation_key: Some(&*row.conflation_key).filter(|it| !it.is_empty()),
            messages_per_key_max: row.messages_per_key_max,
            keys_max: row.conflation_keys_max,
        }
    }
}

const SECOND: u64 = 1_000;
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// The section of the settings, beside those of the protocol that stand with the process's.
pub static SECTION: SectionOf<Settings> = SectionOf {
    name: "pusher",
    about: "Filters of subscriptions, and events that are told as what changed since the last one (delta compression), \
            both of protocol 2. The other `pusher` settings are above.",
    settings: &[
        switch!(
            "pusher.filters",
            filters,
            true,
            "Subscriptions may have filters: event names, tags, JMESPath expressions."
        ),
        switch!(
            "pusher.delta_enabled",
            delta,
            true,
            "Clients that ask for it are told events as what changed since the last one; each such connection costs the work and memory below."
        ),
        Setting {
            key: "pusher.delta_algorithm",
            kind: Kind::Choice {
                default: "fossil",
                words: Algorithm::NAMES,
                put: |it: &mut Settings, word| it.delta_algorithm = Algorithm::chosen(word),
                read: |it| it.delta_algorithm.name(),
            },
            applies: Applies::AtStart,
            help: "How changes are written where neither client nor channel says; xdelta3 is VCDIFF.",
        },
        number!(
            "pusher.delta_run_max",
            delta_run_max,
            Count,
            10,
            1,
            10_000,
            "Changes in a row; then all of an event is sent again."
        ),
        number!(
            "pusher.delta_bytes_min",
            delta_bytes_min,
            Bytes,
            100,
            0,
            MIB,
            "Frames below this many bytes are sent as they are."
        ),
        number!(
            "pusher.delta_age_s",
            delta_age_max,
            Seconds,
            300 * SECOND,
            SECOND,
            24 * 3_600 * SECOND,
            "How old a client's last frame may be for changes to be told against it."
        ),
        number!(
            "pusher.delta_channels_max",
            delta_channels_max,
            Count,
            100,
            1,
            100_000,
            "Channels of one connection for which last frames are held; of more the longest unused go."
        ),
        number!(
            "pusher.delta_held_bytes_max",
            delta_held_bytes_max,
            Bytes,
            MIB,
            KIB,
            KIB * MIB,
            "Bytes of last frames held for one connection; above it the longest unused go."
        ),
        switch!(
            "pusher.delta_algorithm_omitted",
            delta_algorithm_omitted,
            false,
            "Changes do not say how they are written where that is as announced, which saves a few bytes."
        ),
    ],
    tables: &[&Rows {
        name: "delta",
        about: "How events of the channels of one pattern are told as what changed; the first table that matches counts.",
        settings: DELTA_ROWS,
        required: &["pattern"],
        blank: DeltaRow::default,
        push: |it: &mut Settings, row| it.rules.push(row),
    }],
    blank: Settings::default,
    check,
};

fn check(it: &Settings, config: &Config) -> Vec<Wrong> {
    let ids: Vec<_> = config.apps.iter().map(|app| app.id.as_str()).collect();
    let mut wrong: Vec<Wrong> = Vec::new();
    for row in &it.rules {
        if !row.app.is_empty() && !ids.contains(&row.app.as_str()) {
            let allowed = format!("the id of an app: {}", ids.join(", "));
            wrong.push(("pusher.delta.app", row.app.clone(), allowed));
        }
        if row.pattern.is_empty() {
            let allowed = "a name, with * for any run of characters".to_owned();
            wrong.push(("pusher.delta.pattern", row.pattern.clone(), allowed));
        }
        let path = &row.conflation_key;
        if path.len() > KEY_PATH_BYTES_MAX || !path.is_empty() && path.split('.').any(str::is_empty)
        {
            let allowed = format!(
                "names with dots between them, at most {KEY_PATH_BYTES_MAX} bytes: asset, data.asset, tags.asset"
            );
            wrong.push(("pusher.delta.conflation_key", path.clone(), allowed));
        }
    }
    wrong
}

static DELTA_ROWS: &[Setting<DeltaRow>] = &[
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
    switch!("enabled", enabled, true, "Whether their events may be told as what changed."),
    Setting {
        key: "algorithm",
        kind: Kind::Choice {
            default: "fossil",
            words: Algorithm::NAMES,
            put: |row, word| row.algorithm = Algorithm::chosen(word),
            read: |row| row.algorithm.name(),
        },
        applies: Applies::AtStart,
        help: "How changes are written unless the client wants another or does not read this one.",
    },
    Setting {
        key: "conflation_key",
        kind: Kind::Text {
            what: "names with dots between them",
            put: |row, text| row.conflation_key = text,
            read: |row| &row.conflation_key,
        },
        applies: Applies::AtStart,
        help: "Where an event's data (or its tags: tags.asset) say what it is about; changes are told against the last event about the same. None: against the last event.",
    },
    number!(
        "messages_per_key_max",
        messages_per_key_max,
        Count,
        10,
        1,
        10_000,
        "Frames about the same that clients are told to keep; the last one is what changes are told against."
    ),
    number!(
        "conflation_keys_max",
        conflation_keys_max,
        Count,
        100,
        1,
        100_000,
        "Keys of one channel for which a connection's last frames are held; of more the longest unused go."
    ),
];
