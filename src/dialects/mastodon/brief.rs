//! What is found out about a status once, before it is published, for everyone who may hear it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::base::name::Name;

/// What is known of one status: who may not have it, and who gets it with a filter's result. Travels with the event
/// ([`crate::broker::Brief`]); the filters of judged subscriptions look at it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Brief {
    /// Its number among what was judged, from 1: it moves on when somebody was told to be judged from the next. A
    /// subscription that is judged from a later one does not get it.
    pub number: u64,
    /// It was written here.
    pub is_local: bool,
    /// Its language, if it says one.
    pub language: Option<Name>,
    /// Accounts that do not get it: they block or mute its author or someone it mentions, its author blocks them, or
    /// they block the author's domain.
    pub hidden_from: HashSet<Name>,
    /// Accounts with keywords that it has: the value of `filtered` that they get, a JSON list.
    pub filtered: HashMap<Name, Arc<str>>,
    /// It has a member `filtered` already, and goes as it is.
    pub has_filtered: bool,
}

/// What becomes of a status for one viewer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// They do not get it.
    Hidden,
    /// They get it as everyone does: `"filtered":[]` added unless it has one.
    Plain,
    /// They get it with this as `filtered`.
    Filtered(Arc<str>),
}

/// What of a viewer matters.
#[derive(Clone, Debug)]
pub struct Viewer {
    /// Who it is.
    pub account: Name,
    /// The languages they chose; none: all.
    pub languages: Option<Vec<Name>>,
    /// From which number on statuses are judged for them.
    pub judged_from: u64,
    /// They get what is written here.
    pub local: bool,
    /// They get what is written elsewhere.
    pub remote: bool,
}

impl Brief {
    /// What becomes of it for a viewer, in the order in which Mastodon asks.
    pub fn fate(&self, viewer: &Viewer) -> Fate {
        let is_open = if self.is_local { viewer.local } else { viewer.remote };
        let speaks = |languages: &Vec<Name>| {
            self.language.as_ref().is_some_and(|language| languages.contains(language))
        };
        let is_understood = viewer.languages.as_ref().is_none_or(speaks);
        if self.number < viewer.judged_from
            || !is_open
            || !is_understood
            || self.hidden_from.contains(&viewer.account)
        {
            return Fate::Hidden;
        }
        match self.filtered.get(&viewer.account) {
            Some(list) if !self.has_filtered => Fate::Filtered(list.clone()),
            _ => Fate::Plain,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_viewer_gets_what_is_open_understood_and_not_hidden() {
        let viewer = |account: &str| Viewer {
            account: account.into(),
            languages: None,
            judged_from: 5,
            local: true,
            remote: false,
        };
        let list: Arc<str> = "[1]".into();
        let brief = Brief {
            number: 5,
            is_local: true,
            language: Some("en".into()),
            hidden_from: HashSet::from(["2".into()]),
            filtered: HashMap::from([("3".into(), list.clone())]),
            has_filtered: false,
        };
        assert_eq!(brief.fate(&viewer("1")), Fate::Plain);
        assert_eq!(brief.fate(&viewer("2")), Fate::Hidden);
        assert_eq!(brief.fate(&viewer("3")), Fate::Filtered(list));
        let whole = Brief { has_filtered: true, ..brief.clone() };
        assert_eq!(whole.fate(&viewer("3")), Fate::Plain);
        let early = Brief { number: 4, ..brief.clone() };
        assert_eq!(early.fate(&viewer("1")), Fate::Hidden);
        let remote = Brief { is_local: false, ..brief.clone() };
        assert_eq!(remote.fate(&viewer("1")), Fate::Hidden);
        let speaks = |languages: &[&str]| Viewer {
            languages: Some(languages.iter().map(|it| Name::from(*it)).collect()),
            ..viewer("1")
        };
        assert_eq!(brief.fate(&speaks(&["de", "en"])), Fate::Plain);
        assert_eq!(brief.fate(&speaks(&["de"])), Fate::Hidden);
        let silent = Brief { language: None, ..brief.clone() };
        assert_eq!(silent.fate(&speaks(&["de"])), Fate::Hidden);
        assert_eq!(silent.fate(&viewer("1")), Fate::Plain);
    }
}
