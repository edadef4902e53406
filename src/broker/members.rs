//! Who is in a channel: each user once, however many connections they have.

use std::sync::Arc;

use super::few::Few;
use crate::broker::Member;

/// The members of one channel, in the order they joined.
///
/// A plain list that is walked: whoever joins is sent all of it, and whoever comes or goes is told to
/// everyone in it, so that an index would save the least part of the work. Most such channels have
/// one member (a signed-in user's own channel), and there are as many as connections.
#[derive(Debug, Default)]
pub(crate) struct Members(Few<User>);

#[derive(Debug)]
struct User {
    /// As their first connection introduced them.
    member: Arc<Member>,
    connections: u32,
    /// [`mark`] of the user id.
    mark: u32,
}

/// Tells most user ids apart without looking at them. It needs no key: ids that share a mark cost a
/// comparison each and nothing else. Source: FNV-1a, 32 bits.
fn mark(user_id: &str) -> u32 {
    user_id
        .bytes()
        .fold(0x811c_9dc5, |mark, byte| (mark ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

impl Members {
    pub(crate) fn len(&self) -> usize {
        self.0.as_slice().len()
    }

    pub(crate) fn contains(&self, user_id: &str) -> bool {
        self.find(user_id).is_some()
    }

    /// Counts one more connection of a user; true if it is their first.
    pub(crate) fn join(&mut self, member: &Arc<Member>) -> bool {
        if let Some(at) = self.find(&member.user_id) {
            self.0.as_mut_slice()[at].connections += 1;
            return false;
        }
        let mark = mark(&member.user_id);
        self.0.push(User { member: member.clone(), connections: 1, mark });
        true
    }

    /// Counts one connection less of a user who is present; true if it was their last.
    pub(crate) fn leave(&mut self, user_id: &str) -> bool {
        let at = self.find(user_id).expect("who leaves has joined");
        let user = &mut self.0.as_mut_slice()[at];
        user.connections -= 1;
        if user.connections > 0 {
            return false;
        }
        self.0.remove(at);
        true
    }

    /// Everyone present, in the order they joined.
    pub(crate) fn snapshot(&self) -> Vec<Arc<Member>> {
        self.0.as_slice().iter().map(|user| user.member.clone()).collect()
    }

    fn find(&self, user_id: &str) -> Option<usize> {
        let mark = mark(user_id);
        let is_it = |user: &User| user.mark == mark && *user.member.user_id == *user_id;
        self.0.as_slice().iter().position(is_it)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_joins_once_and_leaves_with_the_last_connection() {
        let member = |id: &str| Arc::new(Member { user_id: id.into(), info: None });
        let mut members = Members::default();
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
            assert_eq!(changed, changes);
            assert!(
                members.snapshot().iter().map(|member| &*member.user_id).eq(after.iter().copied())
            );
            assert_eq!((members.contains(who), members.len()), (after.contains(&who), after.len()));
        }
    }

    #[test]
    fn users_with_one_mark_are_two_users() {
        // A known collision of 32-bit FNV-1a.
        let pair = ["costarring", "liquid"];
        assert_eq!(mark(pair[0]), mark(pair[1]));
        let mut members = Members::default();
        for id in pair {
            assert!(members.join(&Arc::new(Member { user_id: id.into(), info: None })));
        }
        assert!(members.leave(pair[1]) && members.contains(pair[0]) && !members.contains(pair[1]));
    }
}
