//! Tokens that were given out to who logged in: kept in memory as digests, bounded, void when they end.
//!
//! Sans-io. A refresh token works once: it is replaced together with the token it came with.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::auth::Identity;
use crate::auth::source::{Digest32, Issued, Logins, digest};
use crate::base::time::UnixMillis;

/// Pairs kept at most; the oldest go first, and their owners log in again.
pub const PAIRS_MAX: usize = 100_000;

/// What was given out.
#[derive(Default)]
pub struct Tokens {
    /// By the digest of the token.
    pairs: HashMap<Digest32, Pair>,
    /// From the digest of the refresh token to that of its token.
    refreshes: HashMap<Digest32, Digest32>,
    /// Oldest first; those that were replaced meanwhile are passed over.
    order: VecDeque<Digest32>,
}

struct Pair {
    identity: Arc<Identity>,
    expires: UnixMillis,
    refresh: Digest32,
    refresh_expires: UnixMillis,
}

/// What a token of ours is by now.
#[derive(Debug, PartialEq, Eq)]
pub enum Standing {
    /// Good.
    Good(Arc<Identity>),
    /// Good once.
    Expired,
    /// Not one of ours.
    Unknown,
}

impl Tokens {
    /// How many pairs are kept.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Gives out a pair. `random` makes 128 bits that nobody can guess.
    pub fn issue(
        &mut self,
        identity: Arc<Identity>,
        logins: &Logins,
        wall: UnixMillis,
        random: &mut dyn FnMut() -> u128,
    ) -> Issued {
        let (token, refresh_token) = (uuid(random()), uuid(random()));
        let issued = Issued {
            identity: identity.clone(),
            token_expires: UnixMillis(wall.0 + logins.token_lifetime.0),
            token_lifetime: logins.token_lifetime,
            refresh_expires: UnixMillis(wall.0 + logins.refresh_lifetime.0),
            token,
            refresh_token,
        };
        let (key, refresh) = (digest(&issued.token), digest(&issued.refresh_token));
        let (expires, refresh_expires) = (issued.token_expires, issued.refresh_expires);
        self.pairs.insert(key, Pair { identity, expires, refresh, refresh_expires });
        self.refreshes.insert(refresh, key);
        self.order.push_back(key);
        while self.pairs.len() > PAIRS_MAX || self.order.len() > 2 * PAIRS_MAX {
            let Some(oldest) = self.order.pop_front() else { break };
            self.forget(&oldest);
        }
        issued
    }

    /// What a token is.
    pub fn check(&self, token: &str, wall: UnixMillis) -> Standing {
        match self.pairs.get(&digest(token)) {
            None => Standing::Unknown,
            Some(pair) if pair.expires <= wall => Standing::Expired,
            Some(pair) => Standing::Good(pair.identity.clone()),
        }
    }

    /// Takes a refresh token and the token it came with back; whose they were.
    pub fn redeem(&mut self, refresh_token: &str, wall: UnixMillis) -> Standing {
        let Some(key) = self.refreshes.get(&digest(refresh_token)).copied() else {
            return Standing::Unknown;
        };
        let Some(pair) = self.forget(&key) else { return Standing::Unknown };
        if pair.refresh_expires <= wall { Standing::Expired } else { Standing::Good(pair.identity) }
    }

    /// Forgets everything that was given to a user of an account.
    pub fn revoke(&mut self, user: &str, account: Option<&str>) {
        let is_it = |it: &Identity| *it.user == *user && it.account.as_deref() == account;
        let keys: Vec<_> = self
            .pairs
            .iter()
            .filter(|(_, pair)| is_it(&pair.identity))
            .map(|(key, _)| *key)
            .collect();
        keys.iter().for_each(|key| {
            self.forget(key);
        });
    }

    fn forget(&mut self, key: &Digest32) -> Option<Pair> {
        let pair = self.pairs.remove(key)?;
        self.refreshes.remove(&pair.refresh);
        Some(pair)
    }
}

/// A random UUID. Source: RFC 9562, section 5.4.
fn uuid(random: u128) -> String {
    let bits = random & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let hex = format!("{bits:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Millis;

    fn logins() -> Logins {
        let (token_lifetime, refresh_lifetime) = (Millis(1000), Millis(5000));
        Logins { users: HashMap::new(), token_lifetime, refresh_lifetime }
    }

    fn issue(tokens: &mut Tokens, user: &str, wall: u64, next: &mut u128) -> Issued {
        let identity = Arc::new(Identity::named(user));
        tokens.issue(identity, &logins(), UnixMillis(wall), &mut || {
            *next += 1;
            *next << 90 | *next
        })
    }

    #[test]
    fn a_pair_is_good_until_it_ends_is_refreshed_or_revoked() {
        let (mut tokens, mut next) = (Tokens::default(), 0);
        let first = issue(&mut tokens, "ann", 0, &mut next);
        assert_eq!(first.token.len(), 36);
        assert_eq!(&first.token[14..15], "4");
        let good = |it: &Standing| matches!(it, Standing::Good(it) if &*it.user == "ann");
        assert!(good(&tokens.check(&first.token, UnixMillis(999))));
        assert_eq!(tokens.check(&first.token, UnixMillis(1000)), Standing::Expired);
        assert_eq!(tokens.check(&first.refresh_token, UnixMillis(0)), Standing::Unknown);
        assert_eq!(tokens.redeem(&first.token, UnixMillis(0)), Standing::Unknown);
        // Both rotate: the old ones are nothing any more.
        assert!(good(&tokens.redeem(&first.refresh_token, UnixMillis(1500))));
        assert_eq!(tokens.redeem(&first.refresh_token, UnixMillis(1500)), Standing::Unknown);
        assert_eq!(tokens.check(&first.token, UnixMillis(0)), Standing::Unknown);
        let late = issue(&mut tokens, "ann", 0, &mut next);
        assert_eq!(tokens.redeem(&late.refresh_token, UnixMillis(5000)), Standing::Expired);
        let (ann, bob) =
            (issue(&mut tokens, "ann", 0, &mut next), issue(&mut tokens, "bob", 0, &mut next));
        tokens.revoke("ann", None);
        assert_eq!(tokens.check(&ann.token, UnixMillis(0)), Standing::Unknown);
        tokens.revoke("bob", Some("another account"));
        assert!(matches!(tokens.check(&bob.token, UnixMillis(0)), Standing::Good(_)));
        assert_eq!((tokens.len(), tokens.refreshes.len()), (1, 1));
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many() {
        let (mut tokens, mut next) = (Tokens::default(), 0);
        let first = issue(&mut tokens, "first", 0, &mut next);
        for _ in 0..PAIRS_MAX {
            issue(&mut tokens, "ann", 0, &mut next);
        }
        assert_eq!((tokens.len(), tokens.refreshes.len()), (PAIRS_MAX, PAIRS_MAX));
        assert_eq!(tokens.check(&first.token, UnixMillis(0)), Standing::Unknown);
    }
}
