//! The keyword filters of many accounts.
//!
//! A keyword is looked for as JavaScript's regular expressions without the flag `u` do it when case does not matter, as a
//! whole word if asked: then a letter, digit or `_` of ASCII at its edge has none beside it. Source: Mastodon's streaming
//! server as observed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::folded::{Folded, fold};
use crate::base::name::Name;
use crate::base::time::UnixMillis;
use crate::wire::json;

/// Keywords that are looked for of one account, in bytes; what is above is not looked for.
pub const ACCOUNT_BYTES_MAX: usize = 256 * 1024;

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
pub struct Keywords {
    /// Where each account is; nowhere: it looks for nothing.
    places: HashMap<Name, Option<u32>>,
    accounts: Vec<Option<Account>>,
    /// Places of accounts that are looked for one by one.
    young: Vec<u32>,
}

/// An account that looks for something.
#[derive(Debug)]
struct Account {
    name: Name,
    filters: Box<[Filter]>,
    /// Of all its filters, in their order.
    keywords: Box<[Keyword]>,
}

#[derive(Debug)]
struct Filter {
    expires: Option<UnixMillis>,
    /// The result up to the text that was found.
    head: Box<str>,
}

#[derive(Debug)]
struct Keyword {
    /// Which of the account's filters.
    filter: u32,
    whole: bool,
    folded: Box<str>,
}

/// Something that was found; in order, the first of a filter is what that filter finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    account: u32,
    filter: u32,
    start: usize,
    keyword: u32,
    end: usize,
}

impl Keywords {
    /// An account's filters are these from here on. Says how many of their keywords are too much and not looked for.
    pub fn set(&mut self, account: &Name, filters: Vec<KeywordFilter>) -> usize {
        self.remove(account);
        let (read, left_out) = Account::read(account, filters);
        let place = (!read.keywords.is_empty()).then(|| self.add(read));
        self.places.insert(account.clone(), place);
        left_out
    }

    fn add(&mut self, account: Account) -> u32 {
        let place = self.accounts.len() as u32;
        self.accounts.push(Some(account));
        self.young.push(place);
        place
    }

    /// Forgets an account.
    pub fn remove(&mut self, account: &Name) {
        if let Some(Some(place)) = self.places.remove(account) {
            self.accounts[place as usize] = None;
            self.young.retain(|it| *it != place);
        }
    }

    /// Whether an account's filters are known.
    pub fn knows(&self, account: &Name) -> bool {
        self.places.contains_key(account)
    }

    /// Whether nobody looks for anything.
    pub fn is_empty(&self) -> bool {
        self.young.is_empty()
    }

    /// Who finds something in a text at a moment, except those in `except`: their filters' results, a JSON list each.
    pub fn find(
        &self,
        text: &str,
        except: &HashSet<Name>,
        wall: UnixMillis,
    ) -> HashMap<Name, Arc<str>> {
        let text = Folded::new(text);
        let mut found = Vec::new();
        for &place in &self.young {
            let Some(account) = &self.accounts[place as usize] else { continue };
            account.find(place, &text.folded, &mut found);
        }
        found.sort_unstable();
        found.dedup_by_key(|it| (it.account, it.filter));
        let mut results = HashMap::new();
        for found in found.chunk_by(|a, b| a.account == b.account) {
            let Some(account) = &self.accounts[found[0].account as usize] else { continue };
            if except.contains(&account.name) {
                continue;
            }
            if let Some(list) = account.results(found, &text, wall) {
                results.insert(account.name.clone(), list);
            }
        }
        results
    }
}

impl Account {
    /// An account with these filters, and how many keywords are too much.
    fn read(name: &Name, mut filters: Vec<KeywordFilter>) -> (Self, usize) {
        // As JavaScript orders an object's members.
        filters.sort_by_key(|it| it.id.parse::<u64>().unwrap_or(u64::MAX));
        let (mut keywords, mut bytes, mut left_out) = (Vec::new(), 0, 0);
        for (i, filter) in filters.iter().enumerate() {
            for (keyword, whole) in filter.keywords.iter().filter(|it| !it.0.is_empty()) {
                let folded: Box<str> = keyword.chars().map(fold).collect();
                bytes += folded.len();
                if bytes > ACCOUNT_BYTES_MAX {
                    left_out += 1;
                    continue;
                }
                keywords.push(Keyword { filter: i as u32, whole: *whole, folded });
            }
        }
        let filters = filters.iter().map(|it| Filter { expires: it.expires, head: it.head() });
        let account =
            Self { name: name.clone(), filters: filters.collect(), keywords: keywords.into() };
        (account, left_out)
    }

    /// Looks for each keyword by itself.
    fn find(&self, place: u32, text: &str, found: &mut Vec<Found>) {
        for (i, keyword) in self.keywords.iter().enumerate() {
            if let Some(start) = keyword.first(text) {
                found.push(Found {
                    account: place,
                    filter: keyword.filter,
                    start,
                    keyword: i as u32,
                    end: start + keyword.folded.len(),
                });
            }
        }
    }

    /// The results of what was found, one for each filter, if any of them is still in force.
    fn results(&self, found: &[Found], text: &Folded<'_>, wall: UnixMillis) -> Option<Arc<str>> {
        let mut list = Vec::new();
        for found in found {
            let filter = &self.filters[found.filter as usize];
            if filter.expires.is_some_and(|it| it < wall) {
                continue;
            }
            list.push(if list.is_empty() { b'[' } else { b',' });
            list.extend_from_slice(filter.head.as_bytes());
            json::write_str(&mut list, text.original(found.start, found.end));
            list.extend_from_slice(b"],\"status_matches\":null}");
        }
        list.push(b']');
        (list.len() > 1).then(|| String::from_utf8_lossy(&list).into())
    }
}

impl KeywordFilter {
    /// What a result begins with, up to the text that was found.
    fn head(&self) -> Box<str> {
        let mut out = b"{\"filter\":{\"id\":".to_vec();
        json::write_str(&mut out, &self.id);
        out.extend_from_slice(b",\"title\":");
        json::write_str(&mut out, &self.title);
        out.extend_from_slice(b",\"context\":[");
        for (i, context) in self.context.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            json::write_str(&mut out, context);
        }
        out.extend_from_slice(b"],\"expires_at\":");
        match self.expires {
            Some(at) => json::write_str(&mut out, &at.to_civil().to_string()),
            None => out.extend_from_slice(b"null"),
        }
        let action = if self.hides { "hide" } else { "warn" };
        out.extend_from_slice(b",\"filter_action\":");
        json::write_str(&mut out, action);
        out.extend_from_slice(b"},\"keyword_matches\":[");
        String::from_utf8_lossy(&out).into()
    }
}

impl Keyword {
    /// Where it is first in a folded text.
    fn first(&self, text: &str) -> Option<usize> {
        let finder = memchr::memmem::Finder::new(self.folded.as_bytes());
        let mut from = 0;
        loop {
            let start = from + finder.find(text.as_bytes().get(from..)?)?;
            if !self.whole || is_whole(text.as_bytes(), start, start + self.folded.len()) {
                return Some(start);
            }
            from = start + 1;
        }
    }
}

/// Whether no word goes on beyond the edges of what is at `start..end`.
fn is_whole(text: &[u8], start: usize, end: usize) -> bool {
    let is_word =
        |at: usize| text.get(at).is_some_and(|it| it.is_ascii_alphanumeric() || *it == b'_');
    let goes_on_before = start > 0 && is_word(start) && is_word(start - 1);
    let goes_on_after = end > 0 && is_word(end - 1) && is_word(end);
    !goes_on_before && !goes_on_after
}

#[cfg(test)]
#[path = "keywords_tests.rs"]
mod tests;
