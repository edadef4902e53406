//! Accounts and their keyword filters as the settings have them: what PostgreSQL knows, for a server that stands alone.

use std::collections::HashSet;

use super::judge::KeywordFilter;
use crate::base::name::Name;
use crate::base::time::UnixMillis;
use crate::config::section::Rows;
use crate::config::table::{Setting, switch};
use crate::config::value::{Applies, Kind};

use super::settings::Settings;

/// What an account of the settings follows and does not want.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountRow {
    /// Its id.
    pub id: String,
    /// The languages it chose; empty: all.
    pub languages: Vec<String>,
    /// Accounts that it blocks.
    pub blocks: Vec<String>,
    /// Accounts that it mutes.
    pub mutes: Vec<String>,
    /// Domains that it blocks.
    pub domain_blocks: Vec<String>,
    /// Lists that it owns.
    pub lists: Vec<String>,
}

/// A keyword filter of the settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilterRow {
    /// Whose it is.
    pub account: String,
    /// What it is called.
    pub title: String,
    /// Where it applies.
    pub context: Vec<String>,
    /// What it looks for.
    pub keywords: Vec<String>,
    /// Each of them as a whole word.
    pub whole_word: bool,
    /// `warn` or `hide`.
    pub action: &'static str,
    /// When it ends, as RFC 3339 has it; empty: never.
    pub expires_at: String,
}

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

impl FilterRow {
    /// When it ends; none: never. The error: the text is no moment.
    fn expires(&self) -> Result<Option<UnixMillis>, ()> {
        if self.expires_at.is_empty() {
            return Ok(None);
        }
        let at: jiff::Timestamp = self.expires_at.parse().map_err(|_| ())?;
        Ok(Some(UnixMillis(u64::try_from(at.as_millisecond()).unwrap_or(0))))
    }
}

impl Settings {
    /// What the settings say of an account.
    pub fn account(&self, id: &str) -> Option<&AccountRow> {
        self.accounts.iter().find(|it| it.id == id)
    }

    /// The languages an account chose; none: all.
    pub fn languages(&self, account: &str) -> Option<Vec<Name>> {
        let languages = &self.account(account)?.languages;
        (!languages.is_empty()).then(|| languages.iter().map(|it| Name::from(&**it)).collect())
    }

    /// Whether an account owns a list.
    pub fn owns_list(&self, account: &str, list: &str) -> bool {
        self.account(account).is_some_and(|it| it.lists.iter().any(|own| own == list))
    }

    /// The keyword filters by account. A filter's id is its place among all of them, from 1.
    pub fn keyword_filters(&self) -> Vec<(Name, Vec<KeywordFilter>)> {
        let mut all: Vec<(Name, Vec<KeywordFilter>)> = Vec::new();
        for (i, row) in self.filters.iter().enumerate() {
            let filter = KeywordFilter {
                id: Name::from(&*(i + 1).to_string()),
                title: row.title.clone(),
                context: row.context.clone(),
                // One that is no moment has stopped the start.
                expires: row.expires().unwrap_or_default(),
                hides: row.action == "hide",
                keywords: row.keywords.iter().map(|it| (it.clone(), row.whole_word)).collect(),
            };
            match all.iter_mut().find(|(account, _)| **account == *row.account) {
                Some((_, filters)) => filters.push(filter),
                None => all.push((Name::from(&*row.account), vec![filter])),
            }
        }
        all
    }
}

/// What is wrong with the rows although each setting of them is right: key, value, what is allowed.
pub(super) fn faults(settings: &Settings) -> Vec<(&'static str, String, String)> {
    const ACCOUNTS: &str = "mastodon.accounts";
    const FILTERS: &str = "mastodon.filters";
    let mut faults = Vec::new();
    let mut fault = |key, value: &str, allowed: &str| {
        faults.push((key, value.to_owned(), allowed.to_owned()));
    };
    let mut seen = HashSet::new();
    for row in &settings.accounts {
        if !is_account(&row.id) {
            fault(ACCOUNTS, &row.id, "an account's id, a number, in `id`");
        }
        if !seen.insert(&row.id) {
            fault(ACCOUNTS, &row.id, "each account once");
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
        if row.keywords.is_empty() || row.keywords.iter().any(String::is_empty) {
            fault(FILTERS, &row.title, "one or more texts that are not empty in `keywords`");
        }
        if let Some(context) = row.context.iter().find(|it| !CONTEXTS.contains(&&***it)) {
            fault(FILTERS, context, &format!("in `context`: {}", CONTEXTS.join(", ")));
        }
        if row.expires().is_err() {
            let allowed = "in `expires_at` a moment such as 2027-01-31T12:00:00Z";
            fault(FILTERS, &row.expires_at, allowed);
        }
    }
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
                put: |it, word| {
                    it.action = ACTIONS.iter().find(|known| **known == word).unwrap_or(&"warn");
                },
                read: |it| it.action,
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
