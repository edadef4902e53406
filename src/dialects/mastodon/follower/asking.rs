//! What connections ask, and what is kept for them until they are gone.

use std::collections::VecDeque;
use std::sync::Arc;

use super::connections::{Ask, Connection, Doing, Said};
use super::queries;
use super::{Purpose, Relay, TokenHeld};
use crate::auth::source::{Follow, Need};
use crate::auth::upstream::{Rows, Statement, Unanswered};
use crate::auth::{Finding, Following, What};
use crate::base::ids::{ConnectionId, Ticket};
use crate::base::time::Now;
use crate::dialects::mastodon::names;
use crate::dialects::upstream::FollowerOutput;

impl Relay {
    /// A session asks.
    pub(super) fn asked(
        &mut self,
        connection: ConnectionId,
        ticket: Ticket,
        what: What,
        now: Now,
        out: &mut Vec<FollowerOutput>,
    ) {
        let (doing, statement) = match what {
            What::Token(token) => {
                let question = queries::token(&token, self.plan.enforces_expiry);
                (Doing::Token, question.map(Some).ok_or(()))
            }
            What::Follow(follow) => {
                let question = question(&follow);
                (Doing::Follow(follow), question)
            }
            What::Unfollow(follow) => {
                // What feeds are open matters only to who follows them.
                let is_feed = matches!(follow.need, Need::Feeds(_));
                let question = if is_feed { Ok(None) } else { question(&follow) };
                (Doing::Unfollow(follow), question)
            }
            What::Submit { channels, envelope } => {
                for channel in channels {
                    self.submitted(&channel, &envelope, now, out);
                }
                out.push(FollowerOutput::Tell(connection, ticket, Finding::Done));
                return;
            }
            What::Login { .. }
            | What::Refresh(_)
            | What::Revoke { .. }
            | What::Operate(_)
            | What::Push(..) => {
                out.push(FollowerOutput::Tell(connection, ticket, Finding::Unavailable));
                return;
            }
        };
        let said = match statement {
            Ok(Some(statement)) => {
                Said::Asked(self.ask_database(Purpose::Ask(connection), statement, out))
            }
            Ok(None) => Said::Answer(Ok(Rows::new())),
            Err(()) => Said::Nothing,
        };
        let it = self.connections.entry(connection).or_default();
        it.asks.push_back(Ask { ticket, doing, said });
        self.answer_asks(connection, now, out);
    }

    /// The database has said something to what a connection asked.
    pub(super) fn ask_answered(
        &mut self,
        connection: ConnectionId,
        number: u64,
        answer: Result<Rows, Unanswered>,
        now: Now,
        out: &mut Vec<FollowerOutput>,
    ) {
        let it = self.connections.get_mut(&connection).expect("who asks is remembered until told");
        let waits = |it: &&mut Ask| matches!(it.said, Said::Asked(asked) if asked == number);
        if let Some(ask) = it.asks.iter_mut().find(waits) {
            ask.said = Said::Answer(answer);
        }
        self.answer_asks(connection, now, out);
    }

    /// Answers what can be answered in order.
    fn answer_asks(&mut self, connection: ConnectionId, now: Now, out: &mut Vec<FollowerOutput>) {
        let Some(mut it) = self.connections.remove(&connection) else { return };
        while let Some(Ask { ticket, doing, said }) = it.asks.pop_front() {
            let finding = match (doing, said) {
                (doing, Said::Asked(number)) => {
                    it.asks.push_front(Ask { ticket, doing, said: Said::Asked(number) });
                    break;
                }
                (_, Said::Answer(Err(_))) => Finding::Unavailable,
                (_, Said::Nothing) => Finding::Unknown,
                (Doing::Follow(_), _) if it.is_condemned => Finding::Unknown,
                (Doing::Token, Said::Answer(Ok(rows))) => {
                    self.token_found(&mut it, &rows, now, out)
                }
                (Doing::Follow(follow), Said::Answer(Ok(rows))) => {
                    self.follow(&mut it, &follow, &rows, now, out)
                }
                (Doing::Unfollow(follow), Said::Answer(Ok(rows))) => {
                    self.unfollow(&mut it, &follow, &rows, out)
                }
            };
            out.push(FollowerOutput::Tell(connection, ticket, finding));
        }
        if it.asks.is_empty() {
            // Most never ask again.
            it.asks = VecDeque::new();
        }
        if !it.is_over() {
            self.connections.insert(connection, it);
        }
    }

    /// The database knows the token, or not.
    fn token_found(
        &mut self,
        it: &mut Connection,
        rows: &Rows,
        now: Now,
        out: &mut Vec<FollowerOutput>,
    ) -> Finding {
        let Some(token) = queries::read_token(rows) else { return Finding::Unknown };
        if token.identity.is_expired(now.wall) {
            return Finding::Expired;
        }
        // Of two tokens the first is what the connection stands on.
        if !it.is_gone && it.token.is_none() {
            it.token = Some((token.id, token.account));
            let held = TokenHeld { account: token.account, connections: 0, condemned: 0 };
            self.tokens.entry(token.id).or_insert(held).connections += 1;
            self.newcomers.come(token.id, now.steady);
            self.channels.hold(&self.told_on(token.id, token.account), false, now.steady, out);
        }
        Finding::Known(token.identity)
    }

    /// The channels on which a token and its account are told of.
    fn told_on(&self, token: i64, account: i64) -> [Arc<str>; 2] {
        let (token, account) = (token.to_string(), account.to_string());
        [names::access_token(&token), names::system(&account)].map(|it| self.channels.shared(&it))
    }

    /// Follows, if what that needs is theirs.
    fn follow(
        &mut self,
        it: &mut Connection,
        follow: &Follow,
        rows: &Rows,
        now: Now,
        out: &mut Vec<FollowerOutput>,
    ) -> Finding {
        if matches!(follow.need, Need::List(_)) && rows.is_empty() {
            return Finding::Unknown;
        }
        if *it.account.get_or_insert_with(|| follow.account.clone()) != follow.account {
            return Finding::Unknown;
        }
        // Before the account is among the viewers: from this number on it is, and judged for.
        let judged_from = self.viewers.judged_from();
        if !it.is_gone {
            let mut new = Vec::new();
            for channel in &follow.channels {
                let channel = self.channels.shared(channel);
                if it.follow(&channel) {
                    if let Some(viewer) = viewer(it, &channel) {
                        self.viewers.join(viewer);
                    }
                    new.push(channel);
                }
            }
            self.channels.hold(&new, true, now.steady, out);
        }
        Finding::Following(match follow.need {
            Need::Feeds(feeds) => queries::read_feeds(feeds, rows, judged_from),
            Need::Nothing | Need::List(_) => Following { judged_from, local: true, remote: true },
        })
    }

    /// Unfollows, if what that needs is theirs; what is not followed is passed over.
    fn unfollow(
        &mut self,
        it: &mut Connection,
        follow: &Follow,
        rows: &Rows,
        out: &mut Vec<FollowerOutput>,
    ) -> Finding {
        if matches!(follow.need, Need::List(_)) && rows.is_empty() {
            return Finding::Unknown;
        }
        let over: Vec<_> =
            follow.channels.iter().filter_map(|channel| it.unfollow(channel)).collect();
        self.release(it, over, out);
        Finding::Done
    }

    /// A connection does not follow these any more.
    fn release(&mut self, it: &Connection, over: Vec<Arc<str>>, out: &mut Vec<FollowerOutput>) {
        for viewer in over.iter().filter_map(|channel| viewer(it, channel)) {
            self.viewers.leave(viewer);
        }
        self.channels.release(over, out);
    }

    /// A connection is gone: nothing is kept for it. What it asked is still answered.
    pub(super) fn gone(&mut self, connection: ConnectionId, out: &mut Vec<FollowerOutput>) {
        let Some(mut it) = self.connections.remove(&connection) else { return };
        it.is_gone = true;
        let over = it.unfollow_all();
        self.release(&it, over, out);
        if let Some((token, account)) = it.token.take() {
            self.channels.release(self.told_on(token, account), out);
            if let Some(held) = self.tokens.get_mut(&token) {
                held.connections -= 1;
                held.condemned -= u32::from(it.is_condemned);
                if held.connections == 0 {
                    self.tokens.remove(&token);
                    self.unchecked.remove(&token);
                    self.newcomers.go(token);
                }
            }
        }
        if !it.is_over() {
            self.connections.insert(connection, it);
        }
    }
}

impl Relay {
    /// Whoever is connected so (token, account) is told to end. A session that is only being set up does not hear that:
    /// it gets nothing that it asks for, and its token's turn comes again until it is gone.
    pub(super) fn condemn(&mut self, is_theirs: impl Fn(i64, i64) -> bool, now: Now) {
        for it in self.connections.values_mut().filter(|it| !it.is_condemned) {
            let Some((token, _)) = it.token.filter(|it| is_theirs(it.0, it.1)) else { continue };
            it.is_condemned = true;
            if let Some(held) = self.tokens.get_mut(&token) {
                held.condemned += 1;
            }
            self.newcomers.come(token, now.steady);
        }
    }
}

/// What the database is to be asked before this is followed; an error: nobody has what it needs.
fn question(follow: &Follow) -> Result<Option<Statement>, ()> {
    match &follow.need {
        Need::Nothing => Ok(None),
        Need::Feeds(feeds) => Ok(Some(queries::feeds(*feeds))),
        Need::List(list) => {
            let ids = queries::number(list).zip(queries::number(&follow.account));
            ids.map(|(list, account)| Some(queries::list(list, account))).ok_or(())
        }
    }
}

/// Whose viewing it is if this connection follows this channel; none: it is not judged, or not for an account that the
/// database could say anything about.
fn viewer(it: &Connection, channel: &str) -> Option<i64> {
    let account = it.account.as_deref().filter(|_| names::is_judged(channel))?;
    queries::number(account)
}
