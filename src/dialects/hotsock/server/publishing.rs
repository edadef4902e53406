//! Messages of a back end on their way through the broker, and what is told of each.

use super::message::{DEDUPLICATION, Message};
use crate::base::event_id::EventId;
use crate::base::ids::{AppIndex, Ticket};
use crate::base::name::Name;
use crate::base::time::{Now, UnixMillis};
use crate::broker::{Command, Refusal, Reply};
use crate::dialects::Output;
use crate::dialects::hotsock::calls::accepted;
use crate::dialects::hotsock::faults::Fault;

/// Some messages; the ticket of an ask is its message's place. They are asked in order, and what becomes of one
/// changes nothing for the others.
#[derive(Debug)]
pub(in super::super) struct Publishing {
    items: Vec<Item>,
    /// The first that was not begun.
    next: usize,
    app: AppIndex,
    /// Until when a `deduplicationId` is remembered.
    until: UnixMillis,
}

#[derive(Debug)]
struct Item {
    channel: Box<str>,
    event: Box<str>,
    shows_id: bool,
    step: Step,
}

#[derive(Debug)]
enum Step {
    /// It waits for those before it. With a name: only if nobody used that before.
    Waiting(Option<Name>, Command),
    /// Whether the name was used before is asked.
    Claiming(Command),
    /// It is asked; `is_claimed`: a name was used up for it.
    Asked { is_claimed: bool },
    /// It is done.
    Done { id: Option<EventId>, schedule: Option<EventId> },
    /// It is not done.
    Failed(Fault),
}

impl Publishing {
    /// Messages that were read, or why they are none.
    pub fn new(app: AppIndex, messages: Vec<Result<Message, Fault>>, now: Now) -> Self {
        let item = |message: Result<Message, Fault>| match message {
            Ok(Message { channel, event, shows_id, command, once }) => {
                Item { channel, event, shows_id, step: Step::Waiting(once, command) }
            }
            Err(fault) => Item {
                channel: "".into(),
                event: "".into(),
                shows_id: false,
                step: Step::Failed(fault),
            },
        };
        let until = UnixMillis(now.wall.0.saturating_add(DEDUPLICATION.0));
        Self { items: messages.into_iter().map(item).collect(), next: 0, app, until }
    }

    /// Asks what can be asked now.
    pub fn ask(&mut self, out: &mut Vec<Output>) {
        while let Some(item) = self.items.get_mut(self.next) {
            let ticket = Ticket(self.next as u32);
            match std::mem::replace(&mut item.step, Step::Asked { is_claimed: false }) {
                Step::Waiting(Some(name), command) => {
                    let claim = Command::UseOnce(self.app, name, self.until);
                    out.push(Output::Ask(ticket, claim));
                    item.step = Step::Claiming(command);
                    // Those behind it wait, or they would overtake it.
                    return;
                }
                Step::Waiting(None, command) => out.push(Output::Ask(ticket, command)),
                step => item.step = step,
            }
            self.next += 1;
        }
    }

    /// Takes an answer of the broker; perhaps asks more.
    pub fn take(&mut self, ticket: Ticket, reply: Reply, out: &mut Vec<Output>) {
        let Some(item) = self.items.get_mut(ticket.0 as usize) else { return };
        let step = std::mem::replace(&mut item.step, Step::Asked { is_claimed: false });
        let done = Step::Done { id: None, schedule: None };
        item.step = match (step, reply) {
            (Step::Claiming(command), Reply::Done) => {
                out.push(Output::Ask(ticket, command));
                Step::Asked { is_claimed: true }
            }
            (Step::Claiming(_), Reply::Refused(Refusal::Used)) => done,
            (Step::Asked { is_claimed: true }, Reply::Refused(refusal)) => {
                let mut fault = Fault::from(refusal);
                // The name cannot be given back.
                let text = "; its deduplicationId is used up: try again with another";
                fault.text.to_mut().push_str(text);
                Step::Failed(fault)
            }
            (_, Reply::Refused(refusal)) => Step::Failed(refusal.into()),
            (Step::Asked { .. }, Reply::Published(it)) => {
                Step::Done { id: Some(it.id), schedule: None }
            }
            (Step::Asked { .. }, Reply::Scheduled(id)) => {
                Step::Done { id: None, schedule: Some(id) }
            }
            (Step::Asked { .. }, Reply::Done) => done,
            (step, _) => step,
        };
        if self.next == ticket.0 as usize && !matches!(item.step, Step::Claiming(_)) {
            self.next += 1;
            self.ask(out);
        }
    }

    /// Whether it is known what became of all of them.
    pub fn is_done(&self) -> bool {
        let is_done = |it: &Item| matches!(it.step, Step::Done { .. } | Step::Failed(_));
        self.items.iter().all(is_done)
    }

    /// What is told of each, once all are done: its answer appended to `out`, or why there is none.
    pub fn results(&self) -> impl Iterator<Item = Result<Vec<u8>, &Fault>> {
        self.items.iter().map(|item| match &item.step {
            Step::Failed(fault) => Err(fault),
            Step::Done { id, schedule } => {
                let id = id.filter(|_| item.shows_id);
                Ok(accepted(&item.channel, &item.event, id, *schedule))
            }
            _ => Ok(accepted(&item.channel, &item.event, None, None)),
        })
    }
}
