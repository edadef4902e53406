//! Accounts that follow what is judged, from when on, and which of their keyword filters are not known yet.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::auth::upstream::{Rows, Unanswered};
use crate::base::name::Name;
use crate::base::time::{Millis, Nanos};
use crate::dialects::mastodon::judge::{KeywordFilter, Keywords};

use super::queries;

/// Accounts whose filters are asked for in one question.
const ACCOUNTS_PER_QUESTION_MAX: usize = 1000;
/// After a question was not answered, the next waits so long.
const RETRY_AFTER: Millis = Millis(1000);

/// One account.
#[derive(Debug)]
struct Viewer {
    name: Name,
    /// How many of its connections' channels are judged.
    holds: u64,
    /// Statuses are judged for it from this number on.
    joined: u64,
}

/// Those accounts, and their keywords.
#[derive(Debug, Default)]
pub struct Viewers {
    /// The number of the last status. Statuses share one until somebody is told a number to start from.
    number: u64,
    /// Somebody was told that the next number is theirs to start from.
    is_told: bool,
    accounts: HashMap<i64, Viewer>,
    /// By when they joined.
    joins: BTreeSet<(u64, i64)>,
    /// Of them those whose filters are not known.
    unknown: BTreeSet<(u64, i64)>,
    /// Those who are asked about now; whose filters changed meanwhile is not among them any more.
    asked: HashSet<i64>,
    is_asking: bool,
    retry: Option<Nanos>,
    /// The keywords of those who are known.
    pub keywords: Keywords,
    /// Moves whenever keywords do.
    pub changes: u64,
    /// Keywords that were too much for one account and are not looked for.
    pub passed_over: u64,
}

impl Viewers {
    /// Whether nobody is there.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.accounts.is_empty()
    }

    /// From which number on statuses are judged for who joins now.
    pub fn judged_from(&mut self) -> u64 {
        self.is_told = true;
        self.number + 1
    }

    /// The number of a status that has come.
    pub fn next_number(&mut self) -> u64 {
        self.number += u64::from(std::mem::take(&mut self.is_told));
        self.number
    }

    /// An account has one more channel that is judged.
    pub fn join(&mut self, account: i64) {
        if let Some(viewer) = self.accounts.get_mut(&account) {
            viewer.holds += 1;
            return;
        }
        let joined = self.judged_from();
        let name = Name::from(&*account.to_string());
        self.accounts.insert(account, Viewer { name, holds: 1, joined });
        self.joins.insert((joined, account));
        self.unknown.insert((joined, account));
    }

    /// An account has one channel less that is judged.
    ///
    /// # Panics
    /// If it has none.
    pub fn leave(&mut self, account: i64) {
        let viewer = self.accounts.get_mut(&account).expect("who leaves has joined");
        viewer.holds -= 1;
        if viewer.holds > 0 {
            return;
        }
        if let Some(viewer) = self.accounts.remove(&account) {
            self.joins.remove(&(viewer.joined, account));
            if !self.unknown.remove(&(viewer.joined, account)) {
                self.keywords.remove(&viewer.name);
                self.changes += 1;
            }
            self.asked.remove(&account);
        }
    }

    /// Who joined after the number `after`.
    pub fn since(&self, after: u64) -> Vec<i64> {
        self.joins.range((after + 1, i64::MIN)..).map(|(_, account)| *account).collect()
    }

    /// Their names, of those who are still there.
    pub fn names<'a>(
        &'a self,
        accounts: impl Iterator<Item = i64> + 'a,
    ) -> impl Iterator<Item = Name> + 'a {
        accounts.filter_map(|it| Some(self.accounts.get(&it)?.name.clone()))
    }

    /// An account's filters are not what they were.
    pub fn filters_changed(&mut self, account: i64) {
        let Some(viewer) = self.accounts.get(&account) else { return };
        self.asked.remove(&account);
        if self.unknown.insert((viewer.joined, account)) {
            self.keywords.remove(&viewer.name);
            self.changes += 1;
        }
    }

    /// Nobody's filters are known to be what they were.
    pub fn all_filters_changed(&mut self) {
        let accounts: Vec<_> = self.accounts.keys().copied().collect();
        accounts.into_iter().for_each(|it| self.filters_changed(it));
    }

    /// Accounts that a status of this number is judged for and whose filters are not known.
    pub fn unknown(&self, number: u64) -> impl Iterator<Item = i64> + '_ {
        self.unknown.range(..=(number, i64::MAX)).map(|(_, account)| *account)
    }

    /// Whose filters are to be asked for now: one question at a time, so that those who join meanwhile share the next.
    pub fn ask(&mut self, now: Nanos) -> Option<Vec<i64>> {
        if self.is_asking || self.unknown.is_empty() || self.retry.is_some_and(|it| it > now) {
            return None;
        }
        self.retry = None;
        self.is_asking = true;
        let first = self.unknown.iter().take(ACCOUNTS_PER_QUESTION_MAX);
        let accounts: Vec<_> = first.map(|(_, account)| *account).collect();
        self.asked = accounts.iter().copied().collect();
        Some(accounts)
    }

    /// When they are to be asked for again; none: that does not wait for a time.
    pub fn due(&self) -> Option<Nanos> {
        self.retry.filter(|_| !self.is_asking && !self.unknown.is_empty())
    }

    /// The answer to what [`Viewers::ask`] wanted.
    pub fn answered(&mut self, answer: &Result<Rows, Unanswered>, now: Nanos) {
        self.is_asking = false;
        let asked = std::mem::take(&mut self.asked);
        let Ok(rows) = answer else {
            self.retry = Some(now + RETRY_AFTER);
            return;
        };
        let mut filters: HashMap<i64, Vec<KeywordFilter>> = HashMap::new();
        for (account, filter) in queries::read_filters(rows) {
            filters.entry(account).or_default().push(filter);
        }
        for account in asked {
            let Some(viewer) = self.accounts.get(&account) else { continue };
            let filters = filters.remove(&account).unwrap_or_default();
            self.passed_over += self.keywords.set(&viewer.name, filters) as u64;
            self.unknown.remove(&(viewer.joined, account));
            self.changes += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_move_only_when_somebody_starts_from_them() {
        let mut viewers = Viewers::default();
        viewers.join(7);
        assert_eq!((viewers.next_number(), viewers.next_number()), (1, 1));
        assert_eq!(viewers.judged_from(), 2);
        assert_eq!((viewers.next_number(), viewers.next_number()), (2, 2));
        viewers.join(7);
        assert_eq!(viewers.next_number(), 2);
        viewers.join(8);
        assert_eq!((viewers.since(0), viewers.since(1)), (vec![7, 8], vec![8]));
        assert_eq!(viewers.next_number(), 3);
        viewers.leave(7);
        viewers.leave(7);
        assert_eq!(viewers.since(0), [8]);
    }

    #[test]
    fn filters_are_asked_for_one_question_at_a_time() {
        let mut viewers = Viewers::default();
        let now = Nanos(0);
        let answer = Ok(Vec::new());
        viewers.join(1);
        assert_eq!(viewers.ask(now), Some(vec![1]));
        viewers.join(2);
        viewers.join(3);
        assert_eq!(viewers.ask(now), None);
        assert_eq!(viewers.unknown(1).collect::<Vec<_>>(), [1, 2, 3]);
        // What changes while the question is under way is asked again.
        viewers.filters_changed(1);
        viewers.answered(&answer, now);
        assert_eq!(viewers.ask(now), Some(vec![1, 2, 3]));
        viewers.leave(3);
        viewers.answered(&Err(Unanswered("late".into())), now);
        assert_eq!((viewers.ask(now), viewers.due()), (None, Some(Nanos(1_000_000_000))));
        assert_eq!(viewers.ask(Nanos(1_000_000_000)), Some(vec![1, 2]));
        viewers.answered(&answer, now);
        assert_eq!((viewers.unknown(9).count(), viewers.due()), (0, None));
        viewers.all_filters_changed();
        assert_eq!(viewers.ask(now), Some(vec![1, 2]));
    }
}
