//! Connections that asked something which stands: whose they are, what they follow, and what they asked that is not
//! answered yet.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::auth::source::Follow;
use crate::auth::upstream::{Rows, Unanswered};
use crate::base::ids::{ConnectionId, Ticket};
use crate::base::name::Name;

/// What was asked.
#[derive(Debug)]
pub enum Doing {
    /// Whose token is this?
    Token,
    /// Follow.
    Follow(Box<Follow>),
    /// No more.
    Unfollow(Box<Follow>),
}

/// What the database says to it.
#[derive(Debug)]
pub enum Said {
    /// Nothing yet: the question's number.
    Asked(u64),
    /// This; no rows if there was nothing to ask.
    Answer(Result<Rows, Unanswered>),
    /// It was never asked: what there is to ask about is nothing that it could have.
    Nothing,
}

/// Something asked. Answered in the order of asking, whenever the database answers: who unfollows what it is just about
/// to follow does so after that.
#[derive(Debug)]
pub struct Ask {
    /// What its session calls it.
    pub ticket: Ticket,
    /// What it is.
    pub doing: Doing,
    /// What the database says.
    pub said: Said,
}

/// One connection.
#[derive(Debug, Default)]
pub struct Connection {
    /// Its token's row and its account's, once known.
    pub token: Option<(i64, i64)>,
    /// For whom it follows: the first account that it said.
    pub account: Option<Name>,
    /// What it follows, in order of name, and how many times.
    channels: Vec<(Arc<str>, u32)>,
    /// Not answered yet.
    pub asks: VecDeque<Ask>,
    /// It was told to end, and follows nothing more.
    pub is_condemned: bool,
    /// It ended; only what it asked is still to be answered.
    pub is_gone: bool,
}

impl Connection {
    fn place(&self, channel: &str) -> Result<usize, usize> {
        self.channels.binary_search_by(|(name, _)| (**name).cmp(channel))
    }

    /// It follows the channel once more. True: it did not before.
    pub fn follow(&mut self, channel: &Arc<str>) -> bool {
        match self.place(channel) {
            Ok(at) => {
                self.channels[at].1 += 1;
                false
            }
            Err(at) => {
                if self.channels.len() < 2 {
                    // Most follow one or two.
                    self.channels.reserve_exact(1);
                }
                self.channels.insert(at, (channel.clone(), 1));
                true
            }
        }
    }

    /// It follows the channel once less. The channel: it does not any more.
    pub fn unfollow(&mut self, channel: &str) -> Option<Arc<str>> {
        let at = self.place(channel).ok()?;
        self.channels[at].1 -= 1;
        (self.channels[at].1 == 0).then(|| self.channels.remove(at).0)
    }

    /// It follows nothing any more: what it did.
    pub fn unfollow_all(&mut self) -> Vec<Arc<str>> {
        std::mem::take(&mut self.channels).into_iter().map(|(name, _)| name).collect()
    }

    /// Nothing is to be remembered of it.
    pub fn is_over(&self) -> bool {
        self.token.is_none() && self.channels.is_empty() && self.asks.is_empty()
    }
}

/// The connections.
pub type Connections = HashMap<ConnectionId, Connection>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_followed_until_it_is_unfollowed_as_often() {
        let mut connection = Connection::default();
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        assert!(connection.follow(&b) && connection.follow(&a) && !connection.follow(&b));
        assert_eq!(connection.unfollow("c"), None);
        assert_eq!(connection.unfollow("b"), None);
        assert_eq!(connection.unfollow("b"), Some(b));
        assert_eq!(connection.unfollow("b"), None);
        assert_eq!(connection.unfollow_all(), [a]);
        assert!(connection.is_over());
    }
}
