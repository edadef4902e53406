//! Events that a push notification goes with although their publishers do not say so.

use super::Config;
use super::push::{Enabled, PushSettings};
use super::section::{Rows, Wrong};
use super::table::{Setting, number, switch};
use super::value::{Applies, Kind};

/// Rules of one process, at most: each event that is published is held against them.
const RULES_MAX: usize = 1_000;

/// One `[[push.rules]]` table.
#[derive(Clone, Debug, Default)]
pub struct PushRule {
    /// The id of an app; empty: every app.
    pub app: String,
    /// Names of channels, `*` for any run of characters.
    pub pattern: String,
    /// Names of events, the same.
    pub events: Vec<String>,
    /// The member of the event's data that is the title ...
    pub title_field: String,
    /// ... the body ...
    pub body_field: String,
    /// ... and, an object, what the application on the device gets, or the template.
    pub data_field: String,
    /// The other members of the event's data belong to that, too.
    pub includes_rest: bool,
    /// A template that says it instead of title and body; empty: none.
    pub template: String,
    /// Events in a second that a notification goes with.
    pub per_second_max: u32,
    /// Devices whose client has a connection are left out.
    pub skip_connected: bool,
}

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

/// The table.
pub(super) static TABLE: Rows<PushSettings, PushRule> = Rows {
    name: "rules",
    about: "Events of the HTTP API that a notification to the devices that hear of their channel goes with, without a word of \
            their publishers (`extras.push` of an event counts instead); the first table that matches counts.",
    settings: &[
        text!(
            "app",
            app,
            "the id of an app",
            "The app whose events it is about; none: every app's."
        ),
        text!(
            "pattern",
            pattern,
            "a name, with * for any run of characters",
            "Channels it is about."
        ),
        Setting {
            key: "events",
            kind: Kind::Texts { put: |row, texts| row.events = texts, read: |row| &row.events },
            applies: Applies::AtStart,
            help: "Names of events it is about, with * for any run of characters.",
        },
        text!(
            "title_field",
            title_field,
            "a name",
            "The member of the event's data, an object, that is the title; none: title."
        ),
        text!("body_field", body_field, "a name", "The member that is the body; none: body."),
        text!(
            "data_field",
            data_field,
            "a name",
            "The member, an object, that the application on the device gets, or the template; none: data."
        ),
        switch!(
            "includes_rest",
            includes_rest,
            true,
            "All other members of the event's data belong to that, too."
        ),
        text!(
            "template",
            template,
            "the id of a template",
            "A template that says it instead of title and body."
        ),
        number!(
            "per_second_max",
            per_second_max,
            Count,
            100,
            1,
            100_000,
            "Events in a second that a notification goes with; further ones are published without."
        ),
        switch!(
            "skip_connected",
            skip_connected,
            false,
            "Devices whose client has a connection are left out."
        ),
    ],
    required: &["pattern", "events"],
    blank: PushRule::default,
    push: |it, row| it.rules.push(row),
};

/// What is wrong with the rules although each row is right.
pub(super) fn check(it: &PushSettings, config: &Config) -> Vec<Wrong> {
    let mut wrong = Vec::new();
    if it.rules.len() > RULES_MAX {
        wrong.push((
            "push.rules",
            it.rules.len().to_string(),
            format!("at most {RULES_MAX} tables"),
        ));
    }
    if !it.rules.is_empty() && it.enabled == Enabled::Off {
        let allowed = "auto or on, as there are [[push.rules]]".to_owned();
        wrong.push(("push.enabled", "off".to_owned(), allowed));
    }
    for row in &it.rules {
        if !row.app.is_empty() && !config.apps.iter().any(|app| app.id == row.app) {
            let ids: Vec<_> = config.apps.iter().map(|app| app.id.as_str()).collect();
            let allowed = format!("the id of an app: {}", ids.join(", "));
            wrong.push(("push.rules.app", row.app.clone(), allowed));
        }
        if row.pattern.is_empty() {
            let allowed = "a name, with * for any run of characters".to_owned();
            wrong.push(("push.rules.pattern", String::new(), allowed));
        }
        if row.events.is_empty() || row.events.iter().any(String::is_empty) {
            let allowed = "at least one name, none of them empty".to_owned();
            wrong.push(("push.rules.events", row.events.join(", "), allowed));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::{Sources, load};
    use crate::config::push::SECTION;
    use crate::config::{Machine, Section};

    const ONLY: &[&dyn Section] = &[&SECTION];

    fn read(text: &str) -> Result<Vec<PushRule>, String> {
        let apps = "[[apps]]\nid = \"a\"\nkey = \"k\"\nsecret = \"s\"\n";
        let sources = Sources {
            file: Some(("x.toml".into(), format!("{apps}{text}"))),
            environment: Vec::new(),
            flags: Vec::new(),
            machine: Machine::small(),
            sections: ONLY,
        };
        match load(&sources) {
            Ok(loaded) => Ok(PushSettings::of(&loaded.config).rules),
            Err(wrong) => Err(wrong.iter().map(|it| it.to_string()).collect::<Vec<_>>().join("\n")),
        }
    }

    #[test]
    fn rules_are_read_in_their_order() {
        let rules = read(
            "[[push.rules]]\npattern = \"news-*\"\nevents = [\"done\", \"over\"]\nper_second_max = 7\n\
             [[push.rules]]\napp = \"a\"\npattern = \"*\"\nevents = [\"*\"]\nincludes_rest = false\n\
             template = \"t\"\nskip_connected = true\ntitle_field = \"head\"\n",
        )
        .expect("they are right");
        let [first, second] = &rules[..] else { panic!("{rules:?}") };
        assert_eq!(
            (&*first.pattern, &first.events[..]),
            ("news-*", &["done", "over"].map(str::to_owned)[..])
        );
        assert_eq!(
            (first.per_second_max, first.includes_rest, first.skip_connected),
            (7, true, false)
        );
        assert_eq!(
            (second.per_second_max, second.includes_rest, second.skip_connected),
            (100, false, true)
        );
        assert_eq!((&*second.app, &*second.template, &*second.title_field), ("a", "t", "head"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let row = "[[push.rules]]\npattern = \"p\"\nevents = [\"e\"]\n";
        for (text, named) in [
            ("[[push.rules]]\nevents = [\"e\"]\n".to_owned(), "pattern"),
            ("[[push.rules]]\npattern = \"p\"\n".to_owned(), "events"),
            (row.replace("\"p\"", "\"\""), "push.rules.pattern"),
            (row.replace("\"e\"", "\"\""), "push.rules.events"),
            (row.replace("[\"e\"]", "[]"), "events"),
            (format!("{row}app = \"b\"\n"), "push.rules.app"),
            (format!("{row}per_second_max = 0\n"), "per_second_max"),
            (format!("[push]\nenabled = \"off\"\n{row}"), "push.enabled"),
        ] {
            let wrong = read(&text).expect_err(&text);
            assert!(wrong.contains(named), "{text}: {wrong}");
        }
    }
}
