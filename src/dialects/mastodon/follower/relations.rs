//! Who may not have a status of someone, as the database says: asked once for all viewers, and remembered briefly,
//! since nobody is told when it changes.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::auth::upstream::{Rows, Statement, Unanswered};
use crate::base::name::Name;
use crate::base::time::{Millis, Nanos};

use super::queries;
use super::viewers::Viewers;

/// Answers that are remembered, at most; the oldest goes first.
const REMEMBERED_MAX: usize = 4096;
/// Questions that one remembered answer is made of, at most: more viewers joined than that in between, all are asked
/// about anew.
const PARTS_MAX: usize = 16;

/// What decides who may have a status.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct People {
    /// Its author.
    pub author: i64,
    /// The author and whom it mentions, in order, each once.
    pub all: Box<[i64]>,
    /// The author's domain; none: they are of this site.
    pub domain: Option<Name>,
}

/// What is remembered of some people.
#[derive(Debug)]
struct Remembered {
    since: Nanos,
    /// The questions, each about viewers that joined after those of the one before.
    parts: Vec<u64>,
    /// Viewers up to this number were asked about.
    to: u64,
}

/// One question.
#[derive(Debug)]
struct Lookup {
    people: Arc<People>,
    /// Statuses that wait for it, and one if it is remembered.
    users: u32,
    found: Option<Result<Vec<i64>, ()>>,
}

/// What is known for a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Not yet who may have it.
    Waits,
    /// Nobody can say.
    Failed,
    /// Who may not have it: [`Relations::hidden_from`].
    All,
}

/// The questions, and what is remembered of the answers.
#[derive(Debug)]
pub struct Relations {
    /// For how long an answer is good.
    span: Millis,
    remembered: HashMap<Arc<People>, Remembered>,
    /// By age. What is not remembered since then is not in force any more.
    ages: VecDeque<(Nanos, Arc<People>)>,
    lookups: HashMap<u64, Lookup>,
}

impl Relations {
    /// Answers are good for `span`.
    pub fn new(span: Millis) -> Self {
        Self { span, remembered: HashMap::new(), ages: VecDeque::new(), lookups: HashMap::new() }
    }

    /// Whether nothing is asked or remembered.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.remembered.is_empty() && self.ages.is_empty() && self.lookups.is_empty()
    }

    /// The questions whose answers say who of the viewers may not have a status of these people and this number, the
    /// last there is; `ask` gives a new question its number. To be given back with [`Relations::release`].
    pub fn look_up(
        &mut self,
        people: People,
        number: u64,
        viewers: &Viewers,
        now: Nanos,
        mut ask: impl FnMut(Statement) -> u64,
    ) -> Vec<u64> {
        self.forget_old(now);
        let people = Arc::new(people);
        let known = self.remembered.get(&people);
        let known = known.filter(|it| it.to >= number || it.parts.len() < PARTS_MAX);
        let (mut parts, to) = known.map_or((Vec::new(), 0), |it| (it.parts.clone(), it.to));
        let is_new = known.is_none();
        let asked = if to < number { viewers.since(to) } else { Vec::new() };
        if !asked.is_empty() {
            let domain = people.domain.as_deref().unwrap_or_default();
            let statement = queries::relations(asked, people.all.to_vec(), people.author, domain);
            let lookup = ask(statement);
            let users = u32::from(self.span > Millis(0));
            self.lookups.insert(lookup, Lookup { people: people.clone(), users, found: None });
            parts.push(lookup);
        }
        for part in &parts {
            if let Some(lookup) = self.lookups.get_mut(part) {
                lookup.users += 1;
            }
        }
        if self.span > Millis(0) && !parts.is_empty() {
            if is_new {
                self.forget(&people);
                self.ages.push_back((now, people.clone()));
            }
            let since = self.remembered.get(&people).map_or(now, |it| it.since);
            let remembered = Remembered { since, parts: parts.clone(), to: number };
            self.remembered.insert(people, remembered);
            if self.ages.len() > REMEMBERED_MAX {
                self.forget_oldest();
            }
        }
        parts
    }

    /// A status needs these no more.
    pub fn release(&mut self, lookups: &[u64]) {
        for number in lookups {
            let lookup = self.lookups.get_mut(number).expect("what is released was looked up");
            lookup.users -= 1;
            if lookup.users == 0 {
                self.lookups.remove(number);
            }
        }
    }

    /// The answer to a question; of one that nobody waits for any more nothing is kept.
    pub fn answered(&mut self, number: u64, answer: &Result<Rows, Unanswered>) {
        let Some(lookup) = self.lookups.get_mut(&number) else { return };
        let found = answer.as_ref().map_err(|_| ());
        lookup.found = Some(found.map(|rows| queries::read_numbers(rows).into_iter().collect()));
        if found.is_err() {
            let people = lookup.people.clone();
            let is_part = |it: &Remembered| it.parts.contains(&number);
            if self.remembered.get(&people).is_some_and(is_part) {
                self.forget(&people);
            }
        }
    }

    /// What is known from these questions.
    pub fn known(&self, lookups: &[u64]) -> Known {
        let mut known = Known::All;
        for lookup in lookups {
            match self.lookups.get(lookup).and_then(|it| it.found.as_ref()) {
                Some(Ok(_)) => {}
                Some(Err(())) => return Known::Failed,
                None => known = Known::Waits,
            }
        }
        known
    }

    /// Who may not have it, as these questions were answered.
    pub fn hidden_from<'a>(&'a self, lookups: &'a [u64]) -> impl Iterator<Item = i64> + 'a {
        let found =
            lookups.iter().filter_map(|it| self.lookups.get(it)?.found.as_ref()?.as_ref().ok());
        found.flatten().copied()
    }

    /// When something is to be forgotten.
    pub fn due(&self) -> Option<Nanos> {
        self.ages.front().map(|(since, _)| *since + self.span)
    }

    /// Forgets what is not good any more.
    pub fn forget_old(&mut self, now: Nanos) {
        while self.due().is_some_and(|due| due <= now) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((since, people)) = self.ages.pop_front() else { return };
        // It may have been asked anew since.
        if self.remembered.get(&people).is_some_and(|it| it.since == since) {
            self.forget(&people);
        }
    }

    fn forget(&mut self, people: &Arc<People>) {
        if let Some(remembered) = self.remembered.remove(people) {
            self.release(&remembered.parts);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::upstream::{Cell, Parameter};

    fn people(author: i64) -> People {
        People { author, all: [author].into(), domain: None }
    }

    /// Looks up, and says who was asked about under which number.
    fn look_up(
        relations: &mut Relations,
        author: i64,
        viewers: &mut Viewers,
        seconds: u64,
        next: &mut u64,
    ) -> (Vec<u64>, Option<Vec<i64>>) {
        let number = viewers.next_number();
        let mut asked = None;
        let now = Nanos(seconds * 1_000_000_000);
        let lookups = relations.look_up(people(author), number, viewers, now, |statement| {
            if let Parameter::Integers(viewers) = &statement.parameters[0] {
                asked = Some(viewers.clone());
            }
            *next += 1;
            *next
        });
        (lookups, asked)
    }

    #[test]
    fn an_answer_is_good_for_a_while_and_for_those_it_is_about() {
        let (mut relations, mut viewers, mut next) =
            (Relations::new(Millis(5000)), Viewers::default(), 0);
        viewers.join(1);
        viewers.join(2);
        let first = look_up(&mut relations, 9, &mut viewers, 0, &mut next);
        assert_eq!(first, (vec![1], Some(vec![1, 2])));
        assert_eq!(relations.known(&first.0), Known::Waits);
        relations.answered(1, &Ok(vec![vec![Cell::Integer(2)]]));
        assert_eq!(relations.known(&first.0), Known::All);
        assert_eq!(relations.hidden_from(&first.0).collect::<Vec<_>>(), [2]);
        // The same again, with one more viewer, of someone else, and too late.
        assert_eq!(look_up(&mut relations, 9, &mut viewers, 4, &mut next), (vec![1], None));
        viewers.join(3);
        let third = look_up(&mut relations, 9, &mut viewers, 4, &mut next);
        assert_eq!(third, (vec![1, 2], Some(vec![3])));
        relations.answered(2, &Err(Unanswered("lost".into())));
        assert_eq!(relations.known(&third.0), Known::Failed);
        let fourth = look_up(&mut relations, 9, &mut viewers, 4, &mut next);
        assert_eq!(fourth, (vec![3], Some(vec![1, 2, 3])), "what failed is not remembered");
        let other = look_up(&mut relations, 8, &mut viewers, 4, &mut next);
        assert_eq!(other, (vec![4], Some(vec![1, 2, 3])));
        let late = look_up(&mut relations, 9, &mut viewers, 9, &mut next);
        assert_eq!(late, (vec![5], Some(vec![1, 2, 3])));
        for lookups in [first.0, vec![1], third.0, fourth.0, other.0, late.0] {
            relations.release(&lookups);
        }
        relations.forget_old(Nanos(14_000_000_000));
        assert!(relations.is_empty(), "{relations:?}");
    }

    #[test]
    fn without_a_cache_each_status_asks() {
        let (mut relations, mut viewers, mut next) =
            (Relations::new(Millis(0)), Viewers::default(), 0);
        viewers.join(1);
        for n in 1..=3 {
            let (lookups, asked) = look_up(&mut relations, 9, &mut viewers, 0, &mut next);
            assert_eq!((&*lookups, asked), (&[n][..], Some(vec![1])));
            relations.release(&lookups);
        }
        assert!(relations.is_empty());
        viewers.leave(1);
        let nobody = look_up(&mut relations, 9, &mut viewers, 0, &mut next);
        assert_eq!(nobody, (vec![], None));
    }
}
