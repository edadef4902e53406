//! Members whose connections were all lost, and who stay for a while: until when.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::name::Name;
use crate::base::time::Nanos;

/// The members of one channel who stay without a connection.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    until: BTreeMap<Name, Nanos>,
    /// The same, by when they are over.
    due: BTreeSet<(Nanos, Name)>,
}

impl Leases {
    pub(crate) fn is_empty(&self) -> bool {
        self.due.is_empty()
    }

    /// A member who has no connection stays until then.
    pub(crate) fn insert(&mut self, user_id: &Name, until: Nanos) {
        self.remove(user_id);
        self.until.insert(user_id.clone(), until);
        self.due.insert((until, user_id.clone()));
    }

    /// The member has a connection again.
    pub(crate) fn remove(&mut self, user_id: &str) {
        if let Some((user_id, until)) = self.until.remove_entry(user_id) {
            self.due.remove(&(until, user_id));
        }
    }

    /// When the first is over.
    pub(crate) fn next_due(&self) -> Option<Nanos> {
        self.due.first().map(|(until, _)| *until)
    }

    /// Takes a member whose time is over.
    pub(crate) fn take_due(&mut self, now: Nanos) -> Option<Name> {
        if self.next_due()? > now {
            return None;
        }
        let (_, user_id) = self.due.pop_first()?;
        self.until.remove(&user_id);
        Some(user_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::prng::Prng;

    #[test]
    fn a_plain_list_agrees() {
        let mut chance = Prng::new(3);
        let mut leases = Leases::default();
        let mut plain: Vec<(Name, Nanos)> = Vec::new();
        for now in 0..5_000 {
            let user_id: Name = format!("u{}", chance.below(8)).as_str().into();
            match chance.below(3) {
                0 => {
                    let until = Nanos(now + chance.below(20));
                    leases.insert(&user_id, until);
                    plain.retain(|it| it.0 != user_id);
                    plain.push((user_id, until));
                }
                1 => {
                    leases.remove(&user_id);
                    plain.retain(|it| it.0 != user_id);
                }
                _ => {
                    let first = plain.iter().map(|it| it.1).min();
                    assert_eq!(leases.next_due(), first);
                    let taken = leases.take_due(Nanos(now));
                    assert_eq!(taken.is_some(), first.is_some_and(|it| it <= Nanos(now)));
                    if let Some(taken) = taken {
                        let at = plain.iter().position(|it| it.0 == taken).expect("it was there");
                        assert_eq!(Some(plain.remove(at).1), first);
                    }
                }
            }
            assert_eq!(leases.is_empty(), plain.is_empty());
        }
    }
}
