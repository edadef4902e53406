//! The keyword filters of many accounts, looked for together.
//!
//! Accounts are in *runs*, each with an automaton of all its keywords, so that a text is read once a run. New accounts are
//! looked at one by one until they are worth a run; runs of like size become one, so there are few, and a keyword is
//! prepared again a few times in all. An account that was forgotten stays in its run's automaton until half of that is
//! forgotten.
//!
//! A keyword is looked for as JavaScript's regular expressions without the flag `u` do it when case does not matter, as a
//! whole word if asked: then a letter, digit or `_` of ASCII at its edge has none beside it. Source: Mastodon's streaming
//! server as observed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::automaton::Automaton;
use super::folded::{Folded, fold};
use crate::base::name::Name;
use crate::base::time::UnixMillis;
use crate::wire::json;

/// Keywords that are looked for of one account, in bytes; what is above is not looked for.
pub const ACCOUNT_BYTES_MAX: usize = 256 * 1024;
/// Keywords that are looked for one by one. About here an automaton is as fast.
const YOUNG_KEYWORDS_MAX: usize = 64;
/// Runs become one unless the one before is more than so many times larger.
const RUN_RATIO: usize = 4;
/// Keywords of a run, in bytes: what is prepared at once, while nothing else is judged. More than an account's.
const RUN_BYTES_MAX: usize = 1 << 20;
const _: () = assert!(ACCOUNT_BYTES_MAX * 2 <= RUN_BYTES_MAX, "an account has room in a run");
/// Words that may be found in a text for each of its bytes. Words that people look for do not come near it; it bounds what
/// words inside each other cost in a text that was made for them.
const FOUND_PER_BYTE_MAX: usize = 16;
/// Places at which a keyword that is looked for by itself may turn out to be no whole word.
const PLACES_MAX: usize = 1 << 16;

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
    /// Places that nobody is at, and that no run has.
    free: Vec<u32>,
    /// Places of accounts that are looked at one by one.
    young: Vec<u32>,
    /// Their keywords.
    young_keywords: usize,
    /// The large ones first.
    runs: Vec<Run>,
    runs_made: u64,
}

/// Accounts that are looked for with one automaton.
#[derive(Debug)]
struct Run {
    id: u64,
    /// Their places. Those who were forgotten are gone from there; a place is not used again as long as it is here.
    members: Vec<u32>,
    automaton: Automaton,
    /// How each word is looked for: [`ANYWHERE`] and [`WHOLE`] together.
    wants: Box<[u8]>,
    /// How many bytes each word has.
    lengths: Box<[u32]>,
    /// Where the users of each word start, and, last, how many there are.
    starts: Box<[u32]>,
    users: Box<[User]>,
    /// Bytes of the keywords.
    bytes: usize,
    /// Of those who were forgotten.
    bytes_forgotten: usize,
}

/// Who looks for a word.
#[derive(Clone, Copy, Debug)]
struct User {
    account: u32,
    keyword: u32,
    whole: bool,
}

/// Nobody looks for the word any more in this text: it was found.
const DONE: u8 = 0;
/// Somebody looks for it anywhere.
const ANYWHERE: u8 = 1;
/// Somebody looks for it as a whole word.
const WHOLE: u8 = 2;

/// An account that looks for something.
#[derive(Debug)]
struct Account {
    name: Name,
    filters: Box<[Filter]>,
    /// Of all its filters, in their order.
    keywords: Box<[Keyword]>,
    /// Bytes of those.
    bytes: usize,
    /// The run that it is in; none: it is looked at by itself.
    run: Option<u64>,
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
        let keywords = account.keywords.len();
        let place = match self.free.pop() {
            Some(place) => {
                self.accounts[place as usize] = Some(account);
                place
            }
            None => {
                self.accounts.push(Some(account));
                u32::try_from(self.accounts.len() - 1).expect("fewer accounts than 2^32")
            }
        };
        self.young.push(place);
        self.young_keywords += keywords;
        if self.young_keywords > YOUNG_KEYWORDS_MAX {
            self.gather();
        }
        place
    }

    /// Makes a run of what is young, together with runs that are not much larger.
    fn gather(&mut self) {
        let mut members = std::mem::take(&mut self.young);
        self.young_keywords = 0;
        let bytes_of = |it: &Vec<u32>| -> usize {
            it.iter().filter_map(|it| self.accounts[*it as usize].as_ref()).map(|it| it.bytes).sum()
        };
        let mut bytes = bytes_of(&members);
        while let Some(last) = self.runs.pop_if(|it| {
            let lives = it.bytes - it.bytes_forgotten;
            lives <= RUN_RATIO * bytes && lives + bytes <= RUN_BYTES_MAX
        }) {
            bytes += last.bytes - last.bytes_forgotten;
            members.extend(last.members);
        }
        self.run(members);
    }

    /// Makes a run of accounts; places whose accounts were forgotten are free again.
    fn run(&mut self, mut members: Vec<u32>) {
        let (accounts, free) = (&mut self.accounts, &mut self.free);
        members.retain(|&place| {
            let lives = accounts[place as usize].is_some();
            if !lives {
                free.push(place);
            }
            lives
        });
        if members.is_empty() {
            return;
        }
        self.runs_made += 1;
        for &place in &members {
            if let Some(account) = &mut accounts[place as usize] {
                account.run = Some(self.runs_made);
            }
        }
        let run = Run::new(self.runs_made, members, &self.accounts);
        let at = self.runs.partition_point(|it| it.bytes >= run.bytes);
        self.runs.insert(at, run);
    }

    /// Forgets an account.
    pub fn remove(&mut self, account: &Name) {
        let Some(Some(place)) = self.places.remove(account) else { return };
        let Some(account) = self.accounts[place as usize].take() else { return };
        let Some(id) = account.run else {
            self.young.retain(|it| *it != place);
            self.young_keywords -= account.keywords.len();
            self.free.push(place);
            return;
        };
        let at = self.runs.iter().position(|it| it.id == id).expect("a run has its members");
        let run = &mut self.runs[at];
        run.bytes_forgotten += account.bytes;
        if run.bytes_forgotten * 2 > run.bytes {
            let run = self.runs.remove(at);
            self.run(run.members);
        }
    }

    /// Whether an account's filters are known.
    pub fn knows(&self, account: &Name) -> bool {
        self.places.contains_key(account)
    }

    /// Whether nobody looks for anything.
    pub fn is_empty(&self) -> bool {
        self.young.is_empty() && self.runs.is_empty()
    }

    /// About how many bytes of memory the keywords take.
    pub fn bytes(&self) -> usize {
        let accounts = self.accounts.iter().flatten().map(Account::memory);
        accounts.chain(self.runs.iter().map(Run::memory)).sum()
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
        for run in &self.runs {
            run.find(&self.accounts, &text.folded, &mut found);
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

impl Run {
    fn new(id: u64, members: Vec<u32>, accounts: &[Option<Account>]) -> Self {
        let mut wanted = Vec::new();
        let mut bytes = 0;
        for &place in &members {
            let Some(account) = &accounts[place as usize] else { continue };
            bytes += account.bytes;
            for (i, keyword) in account.keywords.iter().enumerate() {
                let user = User { account: place, keyword: i as u32, whole: keyword.whole };
                wanted.push((keyword.folded.as_bytes(), user));
            }
        }
        wanted.sort_unstable_by_key(|it| it.0);
        let (mut words, mut wants, mut starts) = (Vec::new(), Vec::new(), Vec::new());
        for (i, (word, user)) in wanted.iter().enumerate() {
            if words.last() != Some(word) {
                words.push(*word);
                wants.push(DONE);
                starts.push(i as u32);
            }
            if let Some(wants) = wants.last_mut() {
                *wants |= if user.whole { WHOLE } else { ANYWHERE };
            }
        }
        starts.push(wanted.len() as u32);
        Self {
            id,
            automaton: Automaton::new(&words),
            wants: wants.into(),
            lengths: words.iter().map(|it| it.len() as u32).collect(),
            starts: starts.into(),
            users: wanted.iter().map(|it| it.1).collect(),
            members,
            bytes,
            bytes_forgotten: 0,
        }
    }

    /// Looks for all keywords in one pass.
    fn find(&self, accounts: &[Option<Account>], text: &str, found: &mut Vec<Found>) {
        let mut wants = self.wants.clone();
        let words_max = text.len().saturating_mul(FOUND_PER_BYTE_MAX);
        self.automaton.find(text.as_bytes(), words_max, |word, end| {
            let start = end - self.lengths[word] as usize;
            let mut fits = wants[word];
            if fits & WHOLE != 0 && !is_whole(text.as_bytes(), start, end) {
                fits &= !WHOLE;
            }
            if fits == DONE {
                return;
            }
            wants[word] &= !fits;
            let users = &self.users[self.starts[word] as usize..self.starts[word + 1] as usize];
            for user in users {
                let how = if user.whole { WHOLE } else { ANYWHERE };
                let Some(account) = &accounts[user.account as usize] else { continue };
                if how & fits != 0 {
                    let filter = account.keywords[user.keyword as usize].filter;
                    let (account, keyword) = (user.account, user.keyword);
                    found.push(Found { account, filter, start, keyword, end });
                }
            }
        });
    }

    fn memory(&self) -> usize {
        let users = size_of_val(&*self.users) + size_of_val(&*self.starts);
        let words = self.wants.len() + size_of_val(&*self.lengths);
        self.automaton.bytes() + users + words + self.members.len() * size_of::<u32>()
    }
}

impl Account {
    fn memory(&self) -> usize {
        let heads = self.filters.iter().map(|it| it.head.len()).sum::<usize>();
        let keywords = size_of_val(&*self.keywords) + self.bytes;
        heads + size_of_val(&*self.filters) + keywords + size_of::<Self>() + self.name.len()
    }

    /// An account with these filters, and how many keywords are too much.
    fn read(name: &Name, mut filters: Vec<KeywordFilter>) -> (Self, usize) {
        // As JavaScript orders an object's members.
        filters.sort_by_key(|it| it.id.parse::<u64>().unwrap_or(u64::MAX));
        let (mut keywords, mut bytes, mut left_out) = (Vec::new(), 0, 0);
        for (i, filter) in filters.iter().enumerate() {
            for (keyword, whole) in filter.keywords.iter().filter(|it| !it.0.is_empty()) {
                let folded: Box<str> = keyword.chars().map(fold).collect();
                if bytes + folded.len() > ACCOUNT_BYTES_MAX {
                    left_out += 1;
                    continue;
                }
                bytes += folded.len();
                keywords.push(Keyword { filter: i as u32, whole: *whole, folded });
            }
        }
        let filters = filters.iter().map(|it| Filter { expires: it.expires, head: it.head() });
        let account = Self {
            name: name.clone(),
            filters: filters.collect(),
            keywords: keywords.into(),
            bytes,
            run: None,
        };
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
        for _ in 0..PLACES_MAX {
            let start = from + finder.find(text.as_bytes().get(from..)?)?;
            if !self.whole || is_whole(text.as_bytes(), start, start + self.folded.len()) {
                return Some(start);
            }
            from = start + 1;
        }
        None
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
