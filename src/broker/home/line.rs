//! A channel's line: operations on their way to disk that are carried out in order.
//!
//! A publish that is kept under its id asks the store as soon as it comes, so that many share a sync, and is carried
//! out when the store has answered and it is the first in line. What has to read before it writes begins to when it is
//! the first. A refusal concerns its operation alone; the line goes on. A channel whose line is empty has none, and
//! costs one look to see it.

use std::collections::VecDeque;

use bytes::Bytes;

use super::annotations::Saying;
use super::asking::Pending;
use super::durable::refusal_of;
use super::publishing::Ordered;
use super::reactions::Reacting;
use super::state::Origin;
use super::values::{Observing, Setting};
use super::versions::Mutating;
use super::{Asker, Home};
use crate::base::event_id::EventId;
use crate::base::ids::ShardId;
use crate::base::time::Now;
use crate::broker::{Command, Down, Published, Refusal, Render, Reply};
use crate::store::{Answer, Ask, Change, Fault, Shelf};

/// Operations in one line, at most; a further one is refused.
const LINE_MAX: usize = 4096;
/// What an operation in a line counts for beside its own bytes.
pub(super) const LINED_BYTES: u64 = 256;

/// The operations of one channel that are on their way, in order; at least one.
#[derive(Debug, Default)]
pub(super) struct Line {
    waiting: VecDeque<Waiting>,
    /// How many have left it, which is the number of the first.
    gone: u64,
}

#[derive(Debug)]
struct Waiting {
    op: Op,
    /// What the store said to what this operation asked last.
    answer: Option<Answer>,
    bytes: u64,
}

/// An operation in a line.
#[derive(Debug)]
pub(super) enum Op {
    Publish(Box<Ordered>),
    SetValue(Box<Setting>),
    React(Box<Reacting>),
    Annotate(Box<Saying>),
    Mutate(Box<Mutating>),
    Observe(Box<Observing>),
    /// Something is read for who asks, once what was asked before it is on disk.
    Read(Asker, Box<Command>),
    /// The one in hand.
    Taken,
}

/// Where an operation in a line is, and the answer it waited for.
#[derive(Debug)]
pub(super) struct Place {
    /// The channel's number.
    pub number: u32,
    /// The operation's, in the line.
    pub nth: u64,
}

/// What is to be found under a key if a write was done that failed so that nobody knows.
#[derive(Clone, Debug)]
pub(super) struct Check {
    pub shelf: Shelf,
    pub key: Bytes,
    pub expected: Option<Bytes>,
}

impl Check {
    /// By the mark among the changes that come with a schedule or a notification. That a schedule's body is gone tells
    /// nothing: it may have been cancelled in the meantime.
    pub(super) fn of_mark(changes: &[(Shelf, Change)]) -> Option<Self> {
        changes.iter().find_map(|(shelf, change)| match change {
            Change::Put { key, value, .. } if *shelf == Shelf::Schedules => {
                let (key, expected) = (key.clone(), Some(value.clone()));
                Some(Self { shelf: *shelf, key, expected })
            }
            _ => None,
        })
    }

    fn ask(&self) -> Ask {
        exactly(self.shelf, self.key.clone())
    }

    fn holds(&self, answer: &Answer) -> bool {
        found(answer, &self.key).is_ok_and(|it| it == self.expected.as_ref())
    }
}

/// Asks for the value of one key: it is the first of those that start with it.
pub(super) fn exactly(shelf: Shelf, key: Bytes) -> Ask {
    Ask::read(shelf, key, None, 1)
}

/// What was found under the key that [`exactly`] asked for.
pub(super) fn found<'a>(answer: &'a Answer, key: &[u8]) -> Result<Option<&'a Bytes>, Refusal> {
    match answer {
        Answer::Values { values, .. } => {
            Ok(values.first().filter(|(it, _)| it == key).map(|(_, value)| value))
        }
        Answer::Fault(Fault::Failed(_)) => Err(Refusal::StoreUnreadable),
        Answer::Fault(fault) => Err(refusal_of(fault)),
        _ => Err(Refusal::StoreBusy),
    }
}

/// A write of an operation: what it waits for, until it is known whether it was done.
#[derive(Debug)]
pub(super) enum Write {
    /// The store was asked to.
    Asked(Option<Check>),
    /// It failed, and is asked what there is.
    Checked(Check),
}

/// What became of a write; of one that is done, subscribers hear after all that is on its way in the channel's history.
#[derive(Debug)]
pub(super) enum Written {
    /// Nobody knows yet.
    Open(Write),
    Done,
    Not(Fault),
}

impl Home {
    /// Whether operations of this channel are on their way.
    pub(super) fn has_line(&self, number: u32) -> bool {
        self.channels[number].rare.as_ref().is_some_and(|it| it.line.is_some())
    }

    fn line(&mut self, number: u32) -> Option<&mut Line> {
        self.channels[number].rare.as_mut()?.line.as_deref_mut()
    }

    /// Whether one more operation of so many bytes may wait in a channel's line.
    pub(super) fn may_line_up(&mut self, number: u32, bytes: usize) -> bool {
        let waiting = self.line(number).map_or(0, |line| line.waiting.len());
        waiting < LINE_MAX && self.may_append(bytes)
    }

    /// Puts an operation at the end of its channel's line; [`Home::may_line_up`] said that it may. Asks the store at
    /// once if it is given something to ask.
    #[expect(clippy::too_many_arguments, reason = "the operation, its place, and the world")]
    pub(super) fn line_up(
        &mut self,
        number: u32,
        op: Op,
        bytes: usize,
        ask: Option<Ask>,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let bytes = bytes as u64 + LINED_BYTES;
        self.in_flight_bytes += bytes;
        let line = self.channels[number].rare.get_or_insert_default().line.get_or_insert_default();
        let nth = line.gone + line.waiting.len() as u64;
        line.waiting.push_back(Waiting { op, answer: None, bytes });
        let is_first = line.waiting.len() == 1;
        if let Some(ask) = ask {
            self.ask_store(Pending::Line(Place { number, nth }), ask);
        }
        if is_first {
            self.advance(number, now, render, out);
        }
    }

    /// Takes the store's answer to what an operation asked.
    pub(super) fn lined(
        &mut self,
        place: &Place,
        answer: Answer,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let Some(line) = self.line(place.number) else { return };
        let at = (place.nth - line.gone) as usize;
        if let Some(waiting) = line.waiting.get_mut(at) {
            waiting.answer = Some(answer);
        }
        if at == 0 {
            self.advance(place.number, now, render, out);
        }
    }

    /// Carries out what is first in line, and so on, until one has to wait for the store.
    pub(super) fn advance(
        &mut self,
        number: u32,
        now: Now,
        render: &dyn Render,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        while let Some(line) = self.line(number) {
            let nth = line.gone;
            let Some(first) = line.waiting.front_mut() else { break };
            // It stays the first while it is in hand: so the channel is not forgotten under it.
            let op = std::mem::replace(&mut first.op, Op::Taken);
            let answer = first.answer.take();
            let place = Place { number, nth };
            let waits = match op {
                Op::Publish(it) => self.carry_publish(&place, it, answer, now, render, out),
                Op::SetValue(it) => self.carry_value(&place, it, answer, now, render, out),
                Op::React(it) => self.carry_reaction(&place, it, answer, now, render, out),
                Op::Mutate(it) => self.carry_mutation(&place, it, answer, now, render, out),
                Op::Annotate(it) => self.carry_annotation(&place, it, answer, now, render, out),
                Op::Observe(it) => self.carry_observer(&place, it, answer, now, render, out),
                Op::Read(asker, command) => {
                    self.read_state(asker, *command, out);
                    None
                }
                Op::Taken => None,
            };
            let Some(line) = self.line(number) else { break };
            if let (Some(op), Some(first)) = (waits, line.waiting.front_mut()) {
                first.op = op;
                return;
            }
            line.gone += 1;
            let bytes = line.waiting.pop_front().map_or(0, |it| it.bytes);
            self.in_flight_bytes -= bytes;
        }
        if let Some(rare) = self.channels[number].rare.as_mut() {
            rare.line = None;
        }
        self.settle(number, now);
    }

    /// Asks the store something for an operation that is the first in line.
    pub(super) fn ask_in_line(&mut self, place: &Place, ask: Ask) {
        let &Place { number, nth } = place;
        self.ask_store(Pending::Line(Place { number, nth }), ask);
    }

    /// What became of a write, by what the store said; one that failed so that nobody knows is looked up.
    pub(super) fn written(
        &mut self,
        place: &Place,
        write: Write,
        answer: Option<Answer>,
    ) -> Written {
        match (write, answer) {
            (write, None) => Written::Open(write),
            (Write::Asked(_), Some(Answer::Changed)) => Written::Done,
            (Write::Asked(Some(check)), Some(Answer::Fault(Fault::Failed(_)))) => {
                self.ask_in_line(place, check.ask());
                Written::Open(Write::Checked(check))
            }
            (Write::Asked(_), Some(Answer::Fault(fault))) => Written::Not(fault),
            (Write::Checked(check), Some(answer)) if check.holds(&answer) => Written::Done,
            (Write::Checked(_), Some(_)) => Written::Not(Fault::Failed(String::new())),
            (Write::Asked(_), Some(_)) => Written::Not(Fault::Unavailable),
        }
    }

    /// Answers one more with what becomes of a publish in the line.
    pub(super) fn answer_in_line_too(&mut self, number: u32, id: EventId, asker: Asker) {
        let Some(line) = self.line(number) else { return };
        for waiting in &mut line.waiting {
            match &mut waiting.op {
                Op::Publish(it) if it.id == id => return it.others.push(asker),
                Op::Mutate(it) if it.id == id => return it.others.push(asker),
                _ => {}
            }
        }
    }

    /// Tells who asked for an operation what became of it.
    pub(super) fn conclude(
        &mut self,
        origin: Origin,
        result: Result<Reply, Refusal>,
        now: Now,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        let Origin { asker, schedule, again, changes: _ } = origin;
        if let (Some(again), Err(_)) = (again, &result) {
            self.keep_later(again);
        }
        if let Some(schedule) = schedule {
            self.carried_out(schedule, result.as_ref().map(|_| ()).map_err(|it| *it), now);
        }
        super::answer(asker, result.unwrap_or_else(Reply::Refused), out);
    }

    /// The same for a publish, and for those who repeated it.
    pub(super) fn conclude_publish(
        &mut self,
        origin: Origin,
        others: Vec<Asker>,
        result: Result<Published, Refusal>,
        now: Now,
        out: &mut Vec<(ShardId, Down)>,
    ) {
        self.conclude(origin, result.map(Reply::Published), now, out);
        for asker in others {
            let again = result.map(|it| Reply::Published(Published { is_repeated: true, ..it }));
            asker.answer(again.unwrap_or_else(Reply::Refused), out);
        }
    }
}
