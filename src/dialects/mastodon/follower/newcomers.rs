//! Tokens whose connections have just come, to be looked at once more.
//!
//! Between the moment at which the database read a token's row and the one from which its connection hears of its end,
//! at the pub/sub server and on its own shard, the end is heard by nobody. Tokens that got a connection are therefore
//! asked about again when both are long past. They share one question: who came in the same turn is looked at together.

use std::collections::BTreeSet;

use crate::base::time::{Millis, Nanos};

/// How long a turn is. Who came is looked at after one whole turn at least, and two at most.
const TURN: Millis = Millis(1500);

/// Those tokens: never more than there are with connections.
#[derive(Debug, Default)]
pub struct Newcomers {
    /// Of the turn that runs.
    now: BTreeSet<i64>,
    /// Of the turn before.
    before: BTreeSet<i64>,
    /// When the turn is over; none: nobody has come.
    turn: Option<Nanos>,
}

impl Newcomers {
    /// A token has one more connection.
    pub fn come(&mut self, token: i64, now: Nanos) {
        self.now.insert(token);
        self.turn.get_or_insert(now + TURN);
    }

    /// A token has no connection any more.
    pub fn go(&mut self, token: i64) {
        self.now.remove(&token);
        self.before.remove(&token);
    }

    /// Whose time has come.
    pub fn take(&mut self, now: Nanos) -> BTreeSet<i64> {
        if self.turn.is_none_or(|it| it > now) {
            return BTreeSet::new();
        }
        let over = std::mem::replace(&mut self.before, std::mem::take(&mut self.now));
        self.turn = (!self.before.is_empty()).then(|| now + TURN);
        over
    }

    /// When that is.
    pub fn due(&self) -> Option<Nanos> {
        self.turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_came_is_looked_at_after_a_whole_turn() {
        let mut newcomers = Newcomers::default();
        let at = |millis: u64| Nanos(millis * 1_000_000);
        let tokens = |it: &[i64]| it.iter().copied().collect::<BTreeSet<_>>();
        let none = tokens(&[]);
        assert_eq!((newcomers.due(), newcomers.take(at(9000))), (None, none.clone()));
        newcomers.come(1, at(10_000));
        newcomers.come(2, at(11_499));
        newcomers.come(3, at(11_499));
        for (when, taken, due) in [
            (11_499, &[][..], Some(11_500)),
            // The second has only just come.
            (11_500, &[], Some(13_000)),
            (12_999, &[], Some(13_000)),
            (13_000, &[1, 2], Some(14_500)),
            // The second came again, and is looked at again.
            (14_500, &[2], None),
        ] {
            assert_eq!(newcomers.take(at(when)), tokens(taken), "{when}");
            assert_eq!(newcomers.due(), due.map(at), "{when}");
            match when {
                11_500 => newcomers.go(3),
                12_999 => newcomers.come(2, at(when)),
                _ => {}
            }
        }
        newcomers.come(4, at(20_000));
        newcomers.go(4);
        assert_eq!(newcomers.take(at(21_500)), none);
        assert_eq!(newcomers.due(), None);
    }
}
