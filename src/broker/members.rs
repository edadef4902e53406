//! Who is in a channel: each user once, however many connections they have.

use std::sync::Arc;

use super::few::Few;
use crate::broker::Member;

/// What a further connection makes of its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Joined {
    /// A member, who was none.
    Came,
    /// A member with a connection again, who had stayed without one.
    CameBack,
    /// What it was: a member.
    Again,
}

/// The members of one channel, in the order they joined.
///
/// A plain list that is walked: whoever joins is sent all of it, and whoever comes or goes is told to
/// everyone in it, so that an index would save the least part of the work. Most such channels have
/// one member (a signed-in user's own channel), and there are as many as connections.
#[derive(Debug, Default)]
pub(crate) struct Members {
    users: Few<User>,
    /// What all of them weigh: see [`Member::weight`].
    bytes: u64,
}

#[derive(Debug)]
struct User {
    /// As their first connection introduced them, or the last that renewed them.
    member: Arc<Member>,
    /// None, if they stay for a while without one.
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
        self.users.as_slice().len()
    }

    /// Bytes of what they say of themselves, all together.
    #[cfg(test)]
    fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The same if this were one of them, as told here.
    pub(crate) fn bytes_with(&self, member: &Member) -> u64 {
        let before = self.member(&member.user_id).map_or(0, |known| known.weight());
        self.bytes - before + member.weight()
    }

    /// Whether a user is present and known as just this.
    pub(crate) fn knows(&self, member: &Member) -> bool {
        self.member(&member.user_id).is_some_and(|known| known.is_known_as(member))
    }

    pub(crate) fn member(&self, user_id: &str) -> Option<&Arc<Member>> {
        self.find(user_id).map(|at| &self.users.as_slice()[at].member)
    }

    /// Counts one more connection of a user.
    pub(crate) fn join(&mut self, member: &Arc<Member>) -> Joined {
        if let Some(at) = self.find(&member.user_id) {
            let user = &mut self.users.as_mut_slice()[at];
            user.connections += 1;
            return if user.connections == 1 { Joined::CameBack } else { Joined::Again };
        }
        let mark = mark(&member.user_id);
        self.bytes += member.weight();
        self.users.push(User { member: member.clone(), connections: 1, mark });
        Joined::Came
    }

    /// Lets others know something else about a user who is present.
    pub(crate) fn renew(&mut self, member: &Arc<Member>) {
        let at = self.find(&member.user_id).expect("who is renewed has joined");
        let user = &mut self.users.as_mut_slice()[at];
        self.bytes = self.bytes - user.member.weight() + member.weight();
        user.member = member.clone();
    }

    /// Counts one connection less of a user who is present; true if it was their last. They stay until they are
    /// removed.
    pub(crate) fn part(&mut self, user_id: &str) -> bool {
        let at = self.find(user_id).expect("who leaves has joined");
        let user = &mut self.users.as_mut_slice()[at];
        assert!(user.connections > 0, "more connections of a member ended than began");
        user.connections -= 1;
        user.connections == 0
    }

    /// Removes a user who has no connection; who they were.
    pub(crate) fn remove(&mut self, user_id: &str) -> Arc<Member> {
        let at = self.find(user_id).expect("who is removed has joined");
        let user = &self.users.as_slice()[at];
        assert!(user.connections == 0, "who has a connection is present");
        let gone = user.member.clone();
        self.bytes -= gone.weight();
        self.users.remove(at);
        gone
    }

    /// Everyone present, in the order they joined.
    pub(crate) fn snapshot(&self) -> Vec<Arc<Member>> {
        self.users.as_slice().iter().map(|user| user.member.clone()).collect()
    }

    fn find(&self, user_id: &str) -> Option<usize> {
        let mark = mark(user_id);
        let is_it = |user: &User| user.mark == mark && *user.member.user_id == *user_id;
        self.users.as_slice().iter().position(is_it)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::name::Name;
    use crate::base::prng::Prng;
    use crate::broker::Payload;

    /// A connection ends, and nobody stays without one.
    fn leave(members: &mut Members, user_id: &str) -> Option<Arc<Member>> {
        members.part(user_id).then(|| members.remove(user_id))
    }

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
            let changed = match joins {
                true => members.join(&member(who)) == Joined::Came,
                false => leave(&mut members, who).is_some(),
            };
            assert_eq!(changed, changes);
            assert!(
                members.snapshot().iter().map(|member| &*member.user_id).eq(after.iter().copied())
            );
            assert_eq!(
                (members.member(who).is_some(), members.len()),
                (after.contains(&who), after.len())
            );
            assert_eq!(
                members.bytes(),
                members.snapshot().iter().map(|it| it.weight()).sum::<u64>()
            );
        }
    }

    #[test]
    fn users_with_one_mark_are_two_users() {
        // A known collision of 32-bit FNV-1a.
        let pair = ["costarring", "liquid"];
        assert_eq!(mark(pair[0]), mark(pair[1]));
        let mut members = Members::default();
        for id in pair {
            let member = Arc::new(Member { user_id: id.into(), info: None });
            assert_eq!(members.join(&member), Joined::Came);
        }
        assert_eq!(leave(&mut members, pair[1]).expect("the last").user_id, pair[1].into());
        assert!(members.member(pair[0]).is_some() && members.member(pair[1]).is_none());
    }

    #[test]
    fn who_is_renewed_keeps_their_place_and_what_they_said_last() {
        let member = |id: &str, info: &'static str| {
            let info = Some(crate::broker::Payload(bytes::Bytes::from_static(info.as_bytes())));
            Arc::new(Member { user_id: id.into(), info })
        };
        let mut members = Members::default();
        assert_eq!(members.join(&member("a", "1")), Joined::Came);
        assert_eq!(members.join(&member("b", "2")), Joined::Came);
        assert_eq!(members.join(&member("a", "333")), Joined::Again);
        members.renew(&member("a", "333"));
        assert_eq!(members.snapshot(), [member("a", "333"), member("b", "2")]);
        assert_eq!(members.bytes(), member("a", "333").weight() + member("b", "2").weight());
        assert_eq!(leave(&mut members, "a"), None);
        assert_eq!(leave(&mut members, "a"), Some(member("a", "333")));
        assert_eq!(members.bytes(), member("b", "2").weight());
    }

    #[test]
    fn a_plain_list_agrees() {
        let mut chance = Prng::new(5);
        let mut members = Members::default();
        // Who, what they said last, and as how many connections.
        let mut plain: Vec<(Arc<Member>, u32)> = Vec::new();
        for _ in 0..5_000 {
            let user_id: Name = format!("u{}", chance.below(6)).as_str().into();
            let info = "9".repeat(chance.below(4) as usize);
            let info = (!info.is_empty()).then(|| Payload(info.into()));
            let member = Arc::new(Member { user_id, info });
            let at = plain.iter().position(|it| it.0.user_id == member.user_id);
            let known = at.map_or(0, |at| plain[at].0.weight());
            let bytes: u64 = plain.iter().map(|it| it.0.weight()).sum();
            assert_eq!(members.bytes_with(&member), bytes - known + member.weight());
            match (chance.below(4), at) {
                (0, Some(at)) => {
                    assert_eq!(members.knows(&member), plain[at].0.info == member.info);
                    members.renew(&member);
                    plain[at].0 = member;
                }
                (1, Some(at)) if plain[at].1 > 0 => {
                    plain[at].1 -= 1;
                    assert_eq!(members.part(&member.user_id), plain[at].1 == 0);
                }
                (2, Some(at)) if plain[at].1 == 0 => {
                    assert_eq!(members.remove(&member.user_id), plain.remove(at).0);
                }
                (_, at) => {
                    let joined = match at.map(|at| plain[at].1) {
                        None => Joined::Came,
                        Some(0) => Joined::CameBack,
                        Some(_) => Joined::Again,
                    };
                    assert_eq!(members.join(&member), joined);
                    match at {
                        Some(at) => plain[at].1 += 1,
                        None => plain.push((member, 1)),
                    }
                }
            }
            let present: Vec<_> = plain.iter().map(|it| it.0.clone()).collect();
            assert_eq!((members.snapshot(), members.len()), (present, plain.len()));
        }
    }
}
