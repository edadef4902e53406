//! Who is in a channel: each user once, however many connections they have.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use siphasher::sip::SipHasher13;

use crate::base::name::Name;
use crate::broker::Member;

/// The members of one channel, in the order they joined.
#[derive(Debug)]
pub(crate) struct Members {
    /// By turn: each user takes the next one when their first connection joins.
    users: BTreeMap<u64, User>,
    /// Turns by user id.
    turns: HashMap<Name, u64, Keys>,
    turn_next: u64,
}

#[derive(Debug)]
struct User {
    /// As their first connection introduced them.
    member: Arc<Member>,
    connections: u32,
}

/// User ids come from outside, so their hash has the process's key.
#[derive(Clone, Debug)]
struct Keys([u64; 2]);

impl std::hash::BuildHasher for Keys {
    type Hasher = SipHasher13;
    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.0[0], self.0[1])
    }
}

impl Members {
    pub(crate) fn new(key: [u64; 2]) -> Self {
        Self { users: BTreeMap::new(), turns: HashMap::with_hasher(Keys(key)), turn_next: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.users.len()
    }

    pub(crate) fn contains(&self, user_id: &str) -> bool {
        self.turns.contains_key(user_id)
    }

    /// Counts one more connection of a user; true if it is their first.
    pub(crate) fn join(&mut self, member: &Arc<Member>) -> bool {
        if let Some(turn) = self.turns.get(&*member.user_id) {
            self.users.get_mut(turn).expect("a user with a turn is present").connections += 1;
            return false;
        }
        self.turns.insert(member.user_id.clone(), self.turn_next);
        self.users.insert(self.turn_next, User { member: member.clone(), connections: 1 });
        self.turn_next += 1;
        true
    }

    /// Counts one connection less of a user who is present; true if it was their last.
    pub(crate) fn leave(&mut self, user_id: &str) -> bool {
        let turn = *self.turns.get(user_id).expect("who leaves has joined");
        let user = self.users.get_mut(&turn).expect("a user with a turn is present");
        user.connections -= 1;
        if user.connections > 0 {
            return false;
        }
        self.users.remove(&turn);
        self.turns.remove(user_id);
        true
    }

    /// Everyone present, in the order they joined.
    pub(crate) fn snapshot(&self) -> Vec<Arc<Member>> {
        self.users.values().map(|user| user.member.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_joins_once_and_leaves_with_the_last_connection() {
        let member = |id: &str| Arc::new(Member { user_id: id.into(), info: None });
        let mut members = Members::new([1, 2]);
        let present =
            |m: &Members| m.snapshot().iter().map(|m| m.user_id.to_string()).collect::<Vec<_>>();
        // (joins or leaves, who, whether it changes who is present, who is present then)
        for (joins, who, changes, after) in [
            (true, "b", true, &["b"][..]),
            (true, "a", true, &["b", "a"]),
            (true, "b", false, &["b", "a"]),
            (true, "c", true, &["b", "a", "c"]),
            (false, "b", false, &["b", "a", "c"]),
            (false, "b", true, &["a", "c"]),
            (true, "b", true, &["a", "c", "b"]),
            (false, "c", true, &["a", "b"]),
        ] {
            let changed = if joins { members.join(&member(who)) } else { members.leave(who) };
            assert_eq!(
                (changed, present(&members)),
                (changes, after.iter().map(|s| s.to_string()).collect())
            );
            assert_eq!(members.contains(who), after.contains(&who));
        }
    }
}
