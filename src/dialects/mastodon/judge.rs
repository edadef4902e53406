//! What a status means for the accounts that may hear it, found out once.

use std::collections::HashSet;

use super::brief::Brief;
use crate::base::name::Name;
use crate::base::time::UnixMillis;
use crate::wire::json::Raw;

/// What of a status matters here.
#[derive(Clone, Debug)]
pub struct Status<'a> {
    whole: Raw<'a>,
    /// Its author's id.
    pub author: Name,
    /// The author's domain; none: they are of this site.
    pub domain: Option<Name>,
    /// Ids of the accounts that it mentions.
    pub mentions: Vec<Name>,
}

impl<'a> Status<'a> {
    /// Reads a status; none if it has not the shape of one.
    pub fn read(_payload: Raw<'a>) -> Option<Self> {
        None
    }
}

/// One keyword filter of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeywordFilter {
    /// Its id.
    pub id: Name,
    /// What its owner calls it.
    pub title: String,
    /// Where it applies.
    pub context: Vec<String>,
    /// When it ends.
    pub expires: Option<UnixMillis>,
    /// What it finds is hidden, by the client; else there is a warning.
    pub hides: bool,
    /// What it looks for, and whether as a whole word.
    pub keywords: Vec<(String, bool)>,
}

/// The keyword filters of many accounts, looked for together.
#[derive(Debug, Default)]
pub struct Keywords {}

impl Keywords {
    /// An account's filters are these from here on.
    pub fn set(&mut self, _account: &Name, _filters: Vec<KeywordFilter>) {}

    /// Forgets an account.
    pub fn remove(&mut self, _account: &Name) {}

    /// Whether an account's filters are known.
    pub fn knows(&self, _account: &Name) -> bool {
        false
    }
}

/// Judges a status: `hidden_from` is who may not have it by relations.
pub fn judge(
    _status: &Status<'_>,
    number: u64,
    hidden_from: HashSet<Name>,
    _keywords: &Keywords,
    _wall: UnixMillis,
) -> Brief {
    Brief { number, hidden_from, ..Brief::default() }
}
