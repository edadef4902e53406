//! What the settings say about accounts, when there is no database to ask: the same rules as PostgreSQL would tell.

use std::collections::{HashMap, HashSet};

use super::brief::Brief;
use super::judge::judge;
use super::keywords::{KeywordFilter, Keywords};
use super::status::Status;
use crate::base::name::Name;
use crate::base::time::UnixMillis;

/// An account that stands in the settings.
#[derive(Clone, Debug, Default)]
pub struct AccountRow {
    /// Its id.
    pub id: String,
    /// The languages it wants to hear; none: all.
    pub languages: Vec<String>,
    /// Ids of accounts that it blocks.
    pub blocks: Vec<String>,
    /// Ids of accounts that it mutes.
    pub mutes: Vec<String>,
    /// Domains that it blocks.
    pub domain_blocks: Vec<String>,
    /// Ids of the lists that it owns.
    pub lists: Vec<String>,
}

/// A keyword filter that stands in the settings.
#[derive(Clone, Debug, Default)]
pub struct FilterRow {
    /// The id of the account whose it is; it need not stand in the settings otherwise.
    pub account: String,
    /// What it is called.
    pub title: String,
    /// Where it applies.
    pub context: Vec<String>,
    /// What it looks for.
    pub keywords: Vec<String>,
    /// Keywords are whole words.
    pub whole_word: bool,
    /// What it finds is hidden, by the client; else there is a warning.
    pub hides: bool,
    /// When it ends, as RFC 3339 has it; empty: never.
    pub expires_at: String,
}

impl FilterRow {
    /// When it ends; a fault if that is no time since 1970.
    fn expires(&self) -> Result<Option<UnixMillis>, ()> {
        if self.expires_at.is_empty() {
            return Ok(None);
        }
        let time: jiff::Timestamp = self.expires_at.parse().map_err(|_| ())?;
        u64::try_from(time.as_millisecond()).map(|it| Some(UnixMillis(it))).map_err(|_| ())
    }
}

/// What is wrong although each setting is right: the last part of its key, the value, what is allowed.
pub fn faults(
    accounts: &[AccountRow],
    filters: &[FilterRow],
) -> Vec<(&'static str, String, String)> {
    let mut faults = Vec::new();
    let mut ids = HashSet::new();
    for account in accounts {
        if !ids.insert(&account.id) {
            let allowed = "accounts whose ids differ".to_owned();
            faults.push(("accounts", account.id.clone(), allowed));
        }
    }
    for filter in filters {
        if filter.expires().is_err() {
            let allowed = "an `expires_at` like 2030-01-31T12:00:00Z".to_owned();
            faults.push(("filters", filter.expires_at.clone(), allowed));
        }
        if filter.keywords.is_empty() || filter.keywords.iter().any(String::is_empty) {
            let allowed = "at least one keyword, and none of them empty".to_owned();
            faults.push(("filters", format!("{:?}", filter.keywords), allowed));
        }
    }
    faults
}

/// The rules of all accounts, turned around: who is concerned by an author, a mention, a domain.
#[derive(Debug, Default)]
pub struct Rules {
    languages: HashMap<Name, Vec<Name>>,
    lists: HashMap<Name, HashSet<Name>>,
    /// Who blocks or mutes an account.
    averse: HashMap<Name, Vec<Name>>,
    /// Whom an account blocks.
    blocked: HashMap<Name, Vec<Name>>,
    /// Who blocks a domain.
    closed: HashMap<Name, Vec<Name>>,
    keywords: Keywords,
}

impl Rules {
    /// The rules of these rows, which have no [`faults`]; a filter's id is its place among them, from 1.
    pub fn new(accounts: &[AccountRow], filters: &[FilterRow]) -> Self {
        let names = |texts: &[String]| texts.iter().map(|it| Name::from(&**it)).collect::<Vec<_>>();
        let mut rules = Self::default();
        for account in accounts {
            let id = Name::from(&*account.id);
            if !account.languages.is_empty() {
                rules.languages.insert(id.clone(), names(&account.languages));
            }
            rules.lists.insert(id.clone(), names(&account.lists).into_iter().collect());
            rules.blocked.insert(id.clone(), names(&account.blocks));
            for target in account.blocks.iter().chain(&account.mutes) {
                rules.averse.entry(Name::from(&**target)).or_default().push(id.clone());
            }
            for domain in &account.domain_blocks {
                rules.closed.entry(Name::from(&**domain)).or_default().push(id.clone());
            }
        }
        let mut theirs = HashMap::<Name, Vec<KeywordFilter>>::new();
        for (i, row) in filters.iter().enumerate() {
            let filter = KeywordFilter {
                id: Name::from(&*(i + 1).to_string()),
                title: row.title.clone(),
                context: row.context.clone(),
                expires: row.expires().unwrap_or_default(),
                hides: row.hides,
                keywords: row.keywords.iter().map(|it| (it.clone(), row.whole_word)).collect(),
            };
            theirs.entry(Name::from(&*row.account)).or_default().push(filter);
        }
        for (account, filters) in theirs {
            rules.keywords.set(&account, filters);
        }
        rules
    }

    /// The languages that an account wants to hear; none: all.
    pub fn languages(&self, account: &str) -> Option<Vec<Name>> {
        self.languages.get(account).cloned()
    }

    /// Whether a list is an account's.
    pub fn owns(&self, account: &str, list: &str) -> bool {
        self.lists.get(account).is_some_and(|it| it.contains(list))
    }

    /// Judges a status for all accounts.
    pub fn judge(&self, status: &Status<'_>, number: u64, wall: UnixMillis) -> Brief {
        judge(status, number, self.hidden_from(status), &self.keywords, wall)
    }

    fn hidden_from(&self, status: &Status<'_>) -> HashSet<Name> {
        let targets = status.mentions.iter().chain([&status.author]);
        let averse = targets.filter_map(|it| self.averse.get(it));
        let blocked = self.blocked.get(&status.author);
        let closed = status.domain.as_ref().and_then(|it| self.closed.get(it));
        averse.chain(blocked).chain(closed).flatten().cloned().collect()
    }
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
