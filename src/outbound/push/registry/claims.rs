//! Who may write what: an order that changes something claims it first, and those that want the same wait in line.
//!
//! An order enters all its lines at once and acts when it is first in each, so the orders in front of it came before it
//! everywhere and no two wait for each other. One that finds out that it needs more leaves all lines and enters again
//! at their ends.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Orders in one line, at most; a further one is refused.
pub const LINE_MAX: usize = 64;

/// What can be claimed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Claim {
    /// A device of an app, with all its subscriptions.
    Device(Arc<str>, Box<str>),
    /// An address that may have no device yet. Who has the device has its address, too.
    Address(Arc<str>, [u8; 32]),
    /// The last room for devices of an app.
    Room(Arc<str>),
    /// The credentials of an app.
    Credentials(Arc<str>),
    /// The templates of an app.
    Templates(Arc<str>),
    /// One of the seats for orders that read much: what they have read is bounded by how many there are.
    Seat(u64),
}

/// All lines.
#[derive(Debug, Default)]
pub struct Claims {
    lines: HashMap<Claim, VecDeque<u64>>,
}

impl Claims {
    /// Enters all these lines, none of them twice; false, and none is entered, if one is too long.
    pub fn enter(&mut self, order: u64, claims: &[Claim]) -> bool {
        let is_long = |it: &Claim| self.lines.get(it).is_some_and(|line| line.len() >= LINE_MAX);
        if claims.iter().any(is_long) {
            return false;
        }
        for claim in claims {
            self.lines.entry(claim.clone()).or_default().push_back(order);
        }
        true
    }

    /// Whether an order is first in all these lines.
    pub fn has(&self, order: u64, claims: &[Claim]) -> bool {
        let first = |it: &Claim| self.lines.get(it).and_then(|line| line.front());
        claims.iter().all(|it| first(it) == Some(&order))
    }

    /// Leaves all these lines, and says who is first now where this order was.
    pub fn leave(&mut self, order: u64, claims: &[Claim], first: &mut Vec<u64>) {
        for claim in claims {
            let Some(line) = self.lines.get_mut(claim) else { continue };
            let Some(at) = line.iter().position(|it| *it == order) else { continue };
            line.remove(at);
            match line.front() {
                Some(next) if at == 0 => first.push(*next),
                Some(_) => {}
                None => {
                    self.lines.remove(claim);
                }
            }
        }
    }

    /// Whether nobody claims anything.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(id: &str) -> Claim {
        Claim::Device("app".into(), id.into())
    }

    #[test]
    fn who_came_first_acts_first_in_all_lines() {
        let mut claims = Claims::default();
        let (a, b) = (device("a"), device("b"));
        let both = [a.clone(), b.clone()];
        assert!(claims.enter(1, std::slice::from_ref(&a)) && claims.has(1, &both[..1]));
        assert!(claims.enter(2, &both) && !claims.has(2, &both));
        assert!(claims.enter(3, std::slice::from_ref(&b)) && !claims.has(3, &both[1..]));
        let mut first = Vec::new();
        claims.leave(1, &both[..1], &mut first);
        assert_eq!(first, [2]);
        assert!(claims.has(2, &both));
        first.clear();
        claims.leave(2, &both, &mut first);
        assert_eq!(first, [3]);
        claims.leave(3, &both[1..], &mut first);
        assert!(claims.is_empty());
    }

    #[test]
    fn a_long_line_refuses_and_leaves_the_others_as_they_were() {
        let mut claims = Claims::default();
        let (a, b) = (device("a"), device("b"));
        for order in 0..LINE_MAX as u64 {
            assert!(claims.enter(order, std::slice::from_ref(&a)));
        }
        assert!(!claims.enter(99, &[b.clone(), a]));
        assert!(!claims.has(99, std::slice::from_ref(&b)));
        assert!(claims.enter(98, std::slice::from_ref(&b)) && claims.has(98, &[b]));
    }
}
