//! Accounts and their keyword filters as the settings have them: what PostgreSQL knows, for a server that stands alone.

use super::rules::{self, AccountRow, FilterRow};
use super::settings::Settings;
use crate::config::section::Rows;
use crate::config::table::{Setting, switch};
use crate::config::value::{Applies, Kind};

/// What a filter may say that clients do with what it finds.
const ACTIONS: &[&str] = &["warn", "hide"];
/// Where filters apply. Source: Mastodon's documentation, "Filter".
const CONTEXTS: [&str; 5] = ["home", "notifications", "public", "thread", "account"];
/// The longest id, in digits: that of a number of 64 bits.
const ID_DIGITS_MAX: usize = 20;

/// Whether this is an account's id: digits. Nothing else may be one, because channels are named by it, and
/// `timeline:public` is nobody's home timeline.
pub fn is_account(id: &str) -> bool {
    (1..=ID_DIGITS_MAX).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_digit())
}

/// What is wrong with the rows although each setting of them is right: key, value, what is allowed.
pub(super) fn faults(settings: &Settings) -> Vec<(&'static str, String, String)> {
    const ACCOUNTS: &str = "mastodon.accounts";
    const FILTERS: &str = "mastodon.filters";
    let mut faults = Vec::new();
    let mut fault = |key, value: &str, allowed: &str| {
        faults.push((key, value.to_owned(), allowed.to_owned()));
    };
    for row in &settings.accounts {
        if !is_account(&row.id) {
            fault(ACCOUNTS, &row.id, "an account's id, a number, in `id`");
        }
        let ids = row.blocks.iter().chain(&row.mutes);
        if let Some(id) = ids.into_iter().find(|it| !is_account(it)) {
            fault(ACCOUNTS, id, "ids of accounts, numbers, in `blocks` and `mutes`");
        }
        if let Some(id) = row.lists.iter().find(|it| !is_account(it)) {
            fault(ACCOUNTS, id, "ids of lists, numbers, in `lists`");
        }
    }
    for row in &settings.filters {
        if !is_account(&row.account) {
            fault(FILTERS, &row.account, "an account's id, a number, in `account`");
        }
        if let Some(context) = row.context.iter().find(|it| !CONTEXTS.contains(&&***it)) {
            fault(FILTERS, context, &format!("in `context`: {}", CONTEXTS.join(", ")));
        }
    }
    let contradictions = rules::faults(&settings.accounts, &settings.filters);
    faults.extend(contradictions.into_iter().map(|(key, value, allowed)| {
        (if key == "accounts" { ACCOUNTS } else { FILTERS }, value, allowed)
    }));
    faults
}

/// A row of texts: key, field, help.
macro_rules! texts {
    ($key:literal, $field:ident, $help:literal) => {
        Setting {
            key: $key,
            kind: Kind::Texts { put: |it, texts| it.$field = texts, read: |it| &it.$field },
            applies: Applies::AtStart,
            help: $help,
        }
    };
}

/// A row with a text: key, field, what it is, help.
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

/// `[[mastodon.accounts]]`.
pub(super) static ACCOUNTS: Rows<Settings, AccountRow> = Rows {
    name: "accounts",
    about: "What an account follows and does not want, for a server that stands alone; Mastodon's database says it \
            otherwise. An account without a row owns no list and hides nothing.",
    settings: &[
        text!("id", id, "a number", "The account's id, as tokens have it for their user."),
        texts!("languages", languages, "The languages it wants public statuses in; none: all."),
        texts!("blocks", blocks, "Ids of accounts that it blocks: they do not hear it either."),
        texts!("mutes", mutes, "Ids of accounts that it mutes."),
        texts!("domain_blocks", domain_blocks, "Domains whose public statuses it does not want."),
        texts!("lists", lists, "Ids of lists that it owns, and may stream."),
    ],
    required: &["id"],
    blank: AccountRow::default,
    push: |it: &mut Settings, row| it.accounts.push(row),
};

/// `[[mastodon.filters]]`.
pub(super) static FILTERS: Rows<Settings, FilterRow> = Rows {
    name: "filters",
    about: "A keyword filter of an account, for a server that stands alone: public statuses that match say so in \
            `filtered`.",
    settings: &[
        text!("account", account, "a number", "The id of the account whose it is."),
        text!("title", title, "a text", "What it is called."),
        texts!(
            "context",
            context,
            "Where it applies: home, notifications, public, thread, account."
        ),
        texts!("keywords", keywords, "What it looks for; one of them is enough."),
        switch!("whole_word", whole_word, true, "Only where they stand as whole words."),
        Setting {
            key: "action",
            kind: Kind::Choice {
                default: "warn",
                words: ACTIONS,
                put: |it, word| it.hides = word == "hide",
                read: |it| if it.hides { "hide" } else { "warn" },
            },
            applies: Applies::AtStart,
            help: "What clients are told to do with what it finds; it is sent in any case.",
        },
        text!(
            "expires_at",
            expires_at,
            "a moment as RFC 3339 has it",
            "From when on it finds nothing; none: never."
        ),
    ],
    required: &["account", "title", "keywords"],
    blank: FilterRow::default,
    push: |it: &mut Settings, row| it.filters.push(row),
};
