//! What an operator asks: how receivers are, which letters are dead, and to send them again or drop them.

use std::fmt::Write as _;

use bytes::Bytes;

use super::letter::{Mark, again_key, letter_key};
use super::receiver::Receiver;
use super::{Hooks, Step, TAG_ORDER};
use crate::auth::Denied;
use crate::base::event_id::EVENT_ID_CHARS;
use crate::base::time::{Now, UnixMillis};
use crate::store::{Answer, Ask, Change, Fault, NEVER, Shelf};
use crate::wire::json;

/// Letters changed in one commit.
const LETTERS_AT_ONCE: usize = 1024;
/// Letters listed for a person; more are counted.
const LISTED_MAX: usize = 1000;
/// Letters of one portion for a program, and one that says that there are more.
const PORTION_MAX: usize = 1001;

/// What an operator asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// How each receiver is.
    Status,
    /// Which letters are dead.
    Dead(Option<String>),
    /// How each receiver is, for a program: a JSON object each.
    Statuses,
    /// Which letters are dead, for a program: a JSON object each.
    Letters {
        /// Only those behind this one.
        after: u64,
        /// So many, at most.
        letters_max: usize,
        /// Only those of this receiver.
        receiver: Option<String>,
    },
    /// Send letters again.
    Retry(Which),
    /// Forget letters.
    Drop(Which),
}

/// Which letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// This one.
    One(u64),
    /// All, or all of one receiver.
    All(Option<String>),
}

impl Order {
    /// The order of these words: nothing, `dead [RECEIVER]`, `retry ID|all [RECEIVER]`, `drop ID|all [RECEIVER]`, and for
    /// programs `json` and `json dead AFTER MAX [RECEIVER]`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace();
        if let Some(rest) = text.strip_prefix("json") {
            return Self::parse_json(rest);
        }
        let (verb, first) = (words.next(), words.next());
        let second = words.next().map(str::to_owned);
        if words.next().is_some() {
            return None;
        }
        let which = |second: Option<String>| match first? {
            "all" => Some(Which::All(second)),
            id if second.is_none() => Some(Which::One(id.parse().ok()?)),
            _ => None,
        };
        match (verb, first, &second) {
            (None, ..) => Some(Self::Status),
            (Some("dead"), _, None) => Some(Self::Dead(first.map(str::to_owned))),
            (Some("retry"), ..) => Some(Self::Retry(which(second)?)),
            (Some("drop"), ..) => Some(Self::Drop(which(second)?)),
            _ => None,
        }
    }

    fn parse_json(text: &str) -> Option<Self> {
        let words: Vec<_> = text.split_ascii_whitespace().collect();
        let (after, most, receiver) = match words[..] {
            [] => return Some(Self::Statuses),
            ["dead", after, most] => (after, most, None),
            ["dead", after, most, receiver] => (after, most, Some(receiver.to_owned())),
            _ => return None,
        };
        let letters_max = most.parse().ok().filter(|most| (1..=PORTION_MAX).contains(most))?;
        Some(Self::Letters { after: after.parse().ok()?, letters_max, receiver })
    }
}

/// An order that takes a while.
pub(super) struct Running {
    caller: u64,
    /// Send them again; else forget them.
    is_retry: bool,
    left: Vec<u64>,
    done: u64,
    /// Those that the store is working on.
    open: Vec<u64>,
}

impl Hooks {
    /// Takes an order; `caller` is told what came of it, once.
    pub fn order(&mut self, caller: u64, order: Order, now: Now, out: &mut Vec<Step>) {
        let told = match order {
            _ if !self.is_loaded => {
                Err(Denied::unavailable("webhooks are still being read from disk; ask again"))
            }
            Order::Statuses => Ok(self.receivers.iter().map(|it| self.status_json(it)).collect()),
            Order::Letters { after, letters_max, receiver } => {
                self.letters_json(after, letters_max, receiver.as_deref())
            }
            Order::Status => Ok(self.status(now)),
            Order::Dead(receiver) => self.dead(receiver.as_deref()),
            Order::Retry(which) => match self.begin(caller, true, &which) {
                Ok(()) => return self.drive(now, out),
                Err(told) => told,
            },
            Order::Drop(which) => match self.begin(caller, false, &which) {
                Ok(()) => return self.drive(now, out),
                Err(told) => told,
            },
        };
        out.push(Step::Tell(caller, told));
    }

    /// A line for each receiver.
    fn status(&self, now: Now) -> Vec<String> {
        let line = |it: &Receiver| {
            let of_it = |mark: &Mark| mark.receiver == it.name;
            let dead = self.letters.iter().filter(|(_, mark)| of_it(mark)).count();
            let mut line = format!("{}: ", it.name);
            let _ = match it.failing_since {
                None => write!(line, "well"),
                Some(since) => {
                    let pause = it.next_at.since(now.steady).as_secs();
                    let since = since.to_civil();
                    write!(line, "failing since {since} ({}), next attempt in {pause} s", it.said())
                }
            };
            let _ = write!(line, "; {} waiting", it.waiting);
            if let Some(oldest) = it.ready.front() {
                let age = now.wall.0.saturating_sub(oldest.report.at.0) / 1000;
                let _ = write!(line, ", the oldest for {age} s");
            }
            let _ = match it.taken_at {
                Some(at) => write!(line, "; last delivered {}", at.to_civil()),
                None => write!(line, "; nothing delivered since the start"),
            };
            let _ = write!(line, "; {dead} dead");
            if !it.again.is_empty() {
                let _ = write!(line, ", {} of them to be sent again", it.again.len());
            }
            line
        };
        self.receivers.iter().map(line).collect()
    }

    /// How a receiver is, as JSON.
    fn status_json(&self, it: &Receiver) -> String {
        let dead = self.letters.iter().filter(|(_, mark)| mark.receiver == it.name).count();
        let mut out = object("name", &it.name);
        let or_null = |it: Option<u64>| it.map_or("null".to_owned(), |it| it.to_string());
        let _ = write!(
            out,
            ",\"failing_since_ms\":{},\"waiting\":{},\"oldest_ms\":{},\"delivered_ms\":{},\"dead\":{dead},\"retrying\":{},\"said\":",
            or_null(it.failing_since.map(|it| it.0)),
            it.waiting,
            or_null(it.ready.front().map(|it| it.report.at.0)),
            or_null(it.taken_at.map(|it| it.0)),
            it.again.len(),
        );
        push_text(&mut out, &it.said());
        out.push('}');
        out
    }

    /// Dead letters, each as JSON.
    fn letters_json(
        &self,
        after: u64,
        letters_max: usize,
        receiver: Option<&str>,
    ) -> Result<Vec<String>, Denied> {
        if let Some(name) = receiver {
            self.known(name)?;
        }
        let is_wanted = |it: &(u64, &Mark)| receiver.is_none_or(|name| &*it.1.receiver == name);
        let json = |(id, mark): (u64, &Mark)| {
            let Mark { kind, event, at, why, status, attempts, died, .. } = mark;
            let mut out = object("receiver", &mark.receiver);
            out.push_str(",\"type\":");
            push_text(&mut out, kind);
            let event = event.write(&mut [0; EVENT_ID_CHARS]).to_owned();
            let status = if *status == 0 { "null".to_owned() } else { status.to_string() };
            let _ = write!(
                out,
                ",\"id\":{id},\"event_id\":\"{event}\",\"at_ms\":{},\"died_ms\":{},\"why\":\"{why}\",\"status\":{status},\"attempts\":{attempts},\"retrying\":{}}}",
                at.0, died.0, mark.is_again,
            );
            out
        };
        Ok(self.letters.after(after).filter(is_wanted).take(letters_max).map(json).collect())
    }

    /// A line for each dead letter.
    fn dead(&self, receiver: Option<&str>) -> Result<Vec<String>, Denied> {
        if let Some(name) = receiver {
            self.known(name)?;
        }
        let mut lines = Vec::new();
        let wanted =
            self.letters.iter().filter(|(_, it)| receiver.is_none_or(|name| &*it.receiver == name));
        let mut more = 0;
        for (id, mark) in wanted {
            if lines.len() >= LISTED_MAX {
                more += 1;
                continue;
            }
            let Mark { receiver, kind, event, at, why, status, attempts, died, .. } = mark;
            let status =
                if *status == 0 { "no answer".to_owned() } else { format!("status {status}") };
            let again = if mark.is_again { ", to be sent again" } else { "" };
            let (at, died): (UnixMillis, UnixMillis) = (*at, *died);
            lines.push(format!(
                "{id} {receiver} {kind} {event} of {}: {why} {}, {status}, {attempts} attempts{again}",
                at.to_civil(),
                died.to_civil(),
            ));
        }
        if more > 0 {
            lines.push(format!("and {more} more"));
        }
        Ok(lines)
    }

    /// That there is a receiver, or letters, of this name.
    fn known(&self, name: &str) -> Result<(), Denied> {
        let is_known = self.receivers.iter().any(|it| &*it.name == name)
            || self.letters.iter().any(|(_, it)| &*it.receiver == name);
        if is_known {
            return Ok(());
        }
        let names: Vec<_> = self.receivers.iter().map(|it| &*it.name).collect();
        let names = names.join(", ");
        Err(Denied::unknown(format!("there is no receiver \"{name}\"; there are: {names}")))
    }

    /// Begins to work on letters; else what to say at once.
    fn begin(
        &mut self,
        caller: u64,
        is_retry: bool,
        which: &Which,
    ) -> Result<(), Result<Vec<String>, Denied>> {
        if self.order.is_some() {
            let text = "another command of this kind is under way; ask again";
            return Err(Err(Denied::conflict(text)));
        }
        let is_there = |mark: &Mark| self.receivers.iter().any(|it| it.name == mark.receiver);
        let mut left: Vec<u64> = match which {
            Which::One(id) => {
                let found = self.letters.iter().find(|(it, _)| it == id);
                let Some((_, mark)) = found else {
                    return Err(Err(Denied::unknown(format!(
                        "there is no dead letter {id}; `ringmain webhooks dead` lists them"
                    ))));
                };
                if is_retry && !is_there(mark) {
                    return Err(Err(Denied::conflict(format!(
                        "its receiver \"{}\" is not configured any more; `ringmain webhooks drop {id}` forgets it",
                        mark.receiver
                    ))));
                }
                vec![*id]
            }
            Which::All(receiver) => {
                if let Some(name) = receiver {
                    self.known(name).map_err(Err)?;
                }
                let is_it = |mark: &Mark| receiver.as_ref().is_none_or(|it| *it == *mark.receiver);
                let wanted = self.letters.iter().filter(|(_, mark)| {
                    is_it(mark) && (!is_retry || is_there(mark) && !mark.is_again)
                });
                wanted.map(|(id, _)| id).collect()
            }
        };
        left.reverse();
        self.order = Some(Running { caller, is_retry, left, done: 0, open: Vec::new() });
        Ok(())
    }

    /// Asks the store for the next part of an order.
    pub(super) fn go_on_with_order(&mut self, out: &mut Vec<Step>) {
        let Some(order) = &mut self.order else { return };
        if !order.open.is_empty() {
            return;
        }
        if order.left.is_empty() {
            let what = if order.is_retry { "to be sent again" } else { "dropped" };
            out.push(Step::Tell(order.caller, Ok(vec![format!("{} {what}", order.done)])));
            self.order = None;
            return;
        }
        let keep = order.left.len().saturating_sub(LETTERS_AT_ONCE);
        order.open = order.left.split_off(keep);
        order.open.reverse();
        let mut changes = Vec::new();
        for id in &order.open {
            let key = again_key(*id);
            if order.is_retry {
                changes.push(Change::Put { key, value: Bytes::new(), expires: NEVER });
            } else {
                changes.push(Change::Remove { key });
                changes.push(Change::Remove { key: letter_key(*id) });
            }
        }
        out.push(Step::Ask(TAG_ORDER, Ask::change(Shelf::Deliveries, changes)));
    }

    /// Takes the store's answer to a part of an order.
    pub(super) fn ordered(&mut self, answer: Answer, out: &mut Vec<Step>) {
        let Some(order) = &mut self.order else { return };
        let (open, is_retry) = (std::mem::take(&mut order.open), order.is_retry);
        if let Answer::Changed = answer {
            order.done += open.len() as u64;
            for id in open {
                if is_retry {
                    self.send_again(id);
                } else {
                    self.letters.remove(id);
                    self.receivers.iter_mut().for_each(|it| it.again.retain(|again| *again != id));
                }
            }
            return;
        }
        let why = match answer {
            Answer::Fault(Fault::Full) => "the disk of durable state is full",
            _ => "the store is not available now; see the server's log",
        };
        let told = format!("{why}; {} letters were done before that", order.done);
        out.push(Step::Tell(order.caller, Err(Denied::unavailable(told))));
        self.order = None;
    }
}

/// The beginning of a JSON object.
fn object(name: &str, text: &str) -> String {
    let mut out = format!("{{\"{name}\":");
    push_text(&mut out, text);
    out
}

/// Appends a text as JSON.
fn push_text(out: &mut String, text: &str) {
    let mut bytes = Vec::with_capacity(text.len() + 2);
    json::write_str(&mut bytes, text);
    out.push_str(&String::from_utf8_lossy(&bytes));
}
