//! In the place of Mastodon's own streaming server: follows Mastodon's Redis for those who are connected, and asks its
//! PostgreSQL who they are and what they may have.
//!
//! [`Relay`] is the whole, as the back shard drives it. What connections ask is in `asking`; which channels that
//! keeps subscribed, in `channels`; what comes on them, in `hearing`. A status on a public channel waits in the
//! `line` until the database has said who of the `viewers` may not have it (`relations`) and which
//! keywords they filter, and is then judged once for all of them. What the database does not answer in time nobody gets.

mod asking;
mod channels;
mod connections;
mod counts;
mod hearing;
mod judged;
mod line;
mod newcomers;
mod queries;
mod relations;
mod viewers;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub use self::counts::Counts;
pub use self::queries::VIEW_FEEDS;

use self::channels::Channels;
use self::connections::Connections;
use self::counts::count;
use self::judged::JustJudged;
use self::line::Line;
use self::newcomers::Newcomers;
use self::relations::Relations;
use self::viewers::Viewers;
use crate::auth::upstream::{Rows, Statement, TOO_MANY, Unanswered};
use crate::base::ids::{AppIndex, ConnectionId};
use crate::base::time::{Millis, Nanos, Now};
use crate::dialects::upstream::{Follower, FollowerInput, FollowerOutput};

/// While the database answers, it is asked whether it still does when nothing else was asked for so long.
const PROBE_EVERY: Millis = Millis(5000);
/// And while it does not, so long after it did not.
const PROBE_AGAIN: Millis = Millis(1000);
/// Tokens that are asked about in one question.
const TOKENS_PER_QUESTION_MAX: usize = 1000;

/// How to follow.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Events are of this app.
    pub app: AppIndex,
    /// What is in front of channels and keys, without its colon; empty: nothing is.
    pub namespace: String,
    /// How long what the database says about blocks and mutes is good for; zero: it is asked for each status.
    pub relations_cache: Millis,
    /// `filters_changed` is an event on home timelines, without data.
    pub sends_filters_changed: bool,
    /// When tokens end is asked, too.
    pub enforces_expiry: bool,
}

/// What a question to the database was for.
#[derive(Debug)]
enum Purpose {
    /// The first ask of this connection that waits for it.
    Ask(ConnectionId),
    /// Who may have a status.
    Relations,
    /// Keyword filters of viewers.
    Filters,
    /// Which of these tokens are still good.
    Tokens(Vec<i64>),
    /// Does it answer?
    Probe,
}

/// A token with connections.
#[derive(Debug)]
struct TokenHeld {
    account: i64,
    connections: u32,
    /// Of those, ones that were told to end.
    condemned: u32,
}

/// Follows Mastodon's Redis and PostgreSQL.
pub struct Relay {
    plan: Plan,
    counts: Arc<Counts>,
    connections: Connections,
    channels: Channels,
    tokens: HashMap<i64, TokenHeld>,
    newcomers: Newcomers,
    /// Tokens that may have been taken back unheard: while Redis was lost, or just when a connection came with them.
    unchecked: BTreeSet<i64>,
    unchecked_retry: Nanos,
    is_checking: bool,
    viewers: Viewers,
    relations: Relations,
    line: Line,
    judged: JustJudged,
    queries: HashMap<u64, Purpose>,
    query_last: u64,
    /// When the database is to be asked whether it answers; none: it is being asked.
    probe: Option<Nanos>,
}

impl Relay {
    /// Nobody is connected yet. What comes of it is counted in `counts`.
    pub fn new(plan: Plan, counts: Arc<Counts>) -> Self {
        Self {
            channels: Channels::new(&plan.namespace),
            relations: Relations::new(plan.relations_cache),
            plan,
            counts,
            connections: Connections::new(),
            tokens: HashMap::new(),
            newcomers: Newcomers::default(),
            unchecked: BTreeSet::new(),
            unchecked_retry: Nanos(0),
            is_checking: false,
            viewers: Viewers::default(),
            line: Line::default(),
            judged: JustJudged::default(),
            queries: HashMap::new(),
            query_last: 0,
            probe: Some(Nanos(0)),
        }
    }

    /// Asks the database, and returns the question's number.
    fn ask_database(
        &mut self,
        purpose: Purpose,
        statement: Statement,
        out: &mut Vec<FollowerOutput>,
    ) -> u64 {
        self.query_last += 1;
        self.queries.insert(self.query_last, purpose);
        out.push(FollowerOutput::Query(self.query_last, statement));
        self.query_last
    }

    /// The database has answered, or not.
    fn answered(
        &mut self,
        number: u64,
        answer: Result<Rows, Unanswered>,
        now: Now,
        out: &mut Vec<FollowerOutput>,
    ) {
        let Some(purpose) = self.queries.remove(&number) else { return };
        let is_asked = !matches!(&answer, Err(Unanswered(why)) if why == TOO_MANY);
        if is_asked {
            self.counts.is_answered.store(answer.is_ok(), Ordering::Relaxed);
        }
        let next = if answer.is_ok() { PROBE_EVERY } else { PROBE_AGAIN };
        // The one that is under way moves it when it is answered.
        if self.probe.is_some() || matches!(purpose, Purpose::Probe) {
            self.probe = Some(now.steady + next);
        }
        match purpose {
            Purpose::Ask(connection) => self.ask_answered(connection, number, answer, now, out),
            Purpose::Relations => self.relations.answered(number, &answer),
            Purpose::Filters => self.viewers.answered(&answer, now.steady),
            Purpose::Tokens(asked) => self.tokens_answered(asked, &answer, now, out),
            Purpose::Probe => {}
        }
    }

    /// Everything was ordered anew: what was said meanwhile was not heard.
    fn linked(&mut self, now: Now, out: &mut Vec<FollowerOutput>) {
        self.counts.is_linked.store(true, Ordering::Relaxed);
        self.channels.touch_all(now.steady, out);
        self.viewers.all_filters_changed();
        self.unchecked = self.tokens.keys().copied().collect();
    }

    /// Tokens were looked at again: what is not good any more is ended.
    fn tokens_answered(
        &mut self,
        asked: Vec<i64>,
        answer: &Result<Rows, Unanswered>,
        now: Now,
        out: &mut Vec<FollowerOutput>,
    ) {
        self.is_checking = false;
        let Ok(rows) = answer else {
            self.unchecked_retry = now.steady + PROBE_AGAIN;
            self.unchecked.extend(asked.into_iter().filter(|it| self.tokens.contains_key(it)));
            return;
        };
        let good = queries::read_numbers(rows);
        for token in asked {
            // What was taken back, and what has not heard yet that it was told to end.
            let is_condemned = self.tokens.get(&token).is_some_and(|it| it.condemned > 0);
            if is_condemned || !good.contains(&token) {
                self.kill_token(token, now, out);
            }
        }
    }

    /// What is to be asked and can be.
    fn ask_what_is_due(&mut self, now: Now, out: &mut Vec<FollowerOutput>) {
        if let Some(accounts) = self.viewers.ask(now.steady) {
            self.ask_database(Purpose::Filters, queries::filters(accounts), out);
        }
        self.unchecked.append(&mut self.newcomers.take(now.steady));
        if !self.is_checking && !self.unchecked.is_empty() && self.unchecked_retry <= now.steady {
            let rest = self.unchecked.iter().nth(TOKENS_PER_QUESTION_MAX).copied();
            let rest = rest.map_or_else(BTreeSet::new, |it| self.unchecked.split_off(&it));
            let asked: Vec<_> = std::mem::replace(&mut self.unchecked, rest).into_iter().collect();
            self.is_checking = true;
            self.ask_database(Purpose::Tokens(asked.clone()), queries::tokens_good(asked), out);
        }
        if self.probe.is_some_and(|it| it <= now.steady) {
            self.probe = None;
            self.ask_database(Purpose::Probe, queries::probe(), out);
        }
    }
}

impl Follower for Relay {
    fn handle(&mut self, input: FollowerInput<'_>, now: Now, out: &mut Vec<FollowerOutput>) {
        match input {
            FollowerInput::Asked(connection, ticket, what) => {
                self.asked(connection, ticket, what, now, out);
            }
            FollowerInput::Gone(connection) => self.gone(connection, out),
            FollowerInput::Message { channel, payload } => {
                count(&self.counts.messages);
                if let Some(channel) = self.channels.name(channel) {
                    self.message(channel, payload, now, out);
                }
            }
            FollowerInput::Linked => self.linked(now, out),
            FollowerInput::Unlinked => self.counts.is_linked.store(false, Ordering::Relaxed),
            FollowerInput::Answered(number, answer) => self.answered(number, answer, now, out),
            FollowerInput::Due => {
                self.channels.drive(now.steady, out);
                self.relations.forget_old(now.steady);
                self.judged.forget_old(now.steady);
            }
            FollowerInput::Pool(connections, idle, waiting) => {
                self.counts.pool(connections, idle, waiting);
            }
        }
        self.ask_what_is_due(now, out);
        self.move_line(now, out);
        self.counts.subscriptions.store(self.channels.len() as u64, Ordering::Relaxed);
        self.counts.waiting.store(self.line.len() as u64, Ordering::Relaxed);
        self.counts.keywords_passed_over.store(self.viewers.passed_over, Ordering::Relaxed);
    }

    fn due(&self) -> Option<Nanos> {
        let unchecked = !self.is_checking && !self.unchecked.is_empty();
        [
            self.channels.due(),
            self.relations.due(),
            self.viewers.due(),
            self.line_due(),
            self.judged.due(),
            self.probe,
            self.newcomers.due(),
            unchecked.then_some(self.unchecked_retry),
        ]
        .into_iter()
        .flatten()
        .min()
    }
}

#[cfg(test)]
mod model;

#[cfg(test)]
mod tests;
