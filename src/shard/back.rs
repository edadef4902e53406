//! The back shard: one thread beside the shards, for what needs the world outside. A shard hands it
//! inquiries and takes findings; neither ever waits for the other.

use std::collections::VecDeque;
use std::sync::Arc;

use crossbeam_queue::ArrayQueue;
use tokio::sync::mpsc;

use crate::auth::{Finding, Inquiry};
use crate::base::ids::{ConnectionId, Ticket};
use crate::outbound::client::Client;
use crate::outbound::desk::{Desk, HttpAnswer, Step};
use crate::reactor::machine;

use super::mesh::Doorbell;

/// Inquiries of one shard that are not answered yet, at most; a further one is answered with
/// [`Finding::Unavailable`] at once. As many findings fit the way back, so that none is ever lost.
const INQUIRIES_MAX: usize = 4096;

/// Who answers a shard's inquiries: the back shard, or a test.
pub trait Outside: Send {
    /// Takes an inquiry of a session. Each is answered once, by [`Outside::take`].
    fn ask(&mut self, from: ConnectionId, ticket: Ticket, inquiry: Inquiry);
    /// A finding, and whose.
    fn take(&mut self) -> Option<(ConnectionId, Ticket, Finding)>;
    /// Is there one?
    fn is_ready(&self) -> bool;
}

/// Answers that nobody can be asked.
#[derive(Default)]
pub struct Nobody(VecDeque<(ConnectionId, Ticket, Finding)>);

impl Outside for Nobody {
    fn ask(&mut self, from: ConnectionId, ticket: Ticket, _: Inquiry) {
        self.0.push_back((from, ticket, Finding::Unavailable));
    }

    fn take(&mut self) -> Option<(ConnectionId, Ticket, Finding)> {
        self.0.pop_front()
    }

    fn is_ready(&self) -> bool {
        !self.0.is_empty()
    }
}

/// Who waits for a finding.
#[derive(Clone, Copy, Debug)]
struct Waiter {
    shard: usize,
    to: ConnectionId,
    ticket: Ticket,
}

/// What the back shard's thread is told.
enum Mail {
    Inquiry(Waiter, Inquiry),
    Answered(u64, HttpAnswer),
}

type Findings = ArrayQueue<(ConnectionId, Ticket, Finding)>;

/// A shard's end of the way to the back shard and back.
pub struct BackPort {
    shard: usize,
    out: mpsc::Sender<Mail>,
    findings: Arc<Findings>,
    /// Asked and not taken yet.
    open: usize,
    refused: Nobody,
}

impl Outside for BackPort {
    fn ask(&mut self, from: ConnectionId, ticket: Ticket, inquiry: Inquiry) {
        let waiter = Waiter { shard: self.shard, to: from, ticket };
        if self.open >= INQUIRIES_MAX {
            return self.refused.ask(from, ticket, inquiry);
        }
        match self.out.try_send(Mail::Inquiry(waiter, inquiry)) {
            Ok(()) => self.open += 1,
            Err(
                mpsc::error::TrySendError::Full(mail) | mpsc::error::TrySendError::Closed(mail),
            ) => {
                if let Mail::Inquiry(_, inquiry) = mail {
                    self.refused.ask(from, ticket, inquiry);
                }
            }
        }
    }

    fn take(&mut self) -> Option<(ConnectionId, Ticket, Finding)> {
        if let Some(refused) = self.refused.take() {
            return Some(refused);
        }
        let found = self.findings.pop()?;
        self.open -= 1;
        Some(found)
    }

    fn is_ready(&self) -> bool {
        self.refused.is_ready() || !self.findings.is_empty()
    }
}

/// Starts the thread; gives one port for each shard, in the order of their doorbells. It ends with the
/// process.
pub fn start(doorbells: Arc<Vec<Doorbell>>) -> std::io::Result<Vec<BackPort>> {
    let shards = doorbells.len();
    // Room for what all shards may ask and for the answers to it.
    let (out, mail) = mpsc::channel(shards * INQUIRIES_MAX + 1024);
    let ways: Vec<_> = (0..shards).map(|_| Arc::new(Findings::new(INQUIRIES_MAX))).collect();
    let ports = ways.iter().enumerate().map(|(shard, findings)| BackPort {
        shard,
        out: out.clone(),
        findings: Arc::clone(findings),
        open: 0,
        refused: Nobody::default(),
    });
    let ports = ports.collect();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    std::thread::Builder::new().name("back".into()).spawn(move || {
        runtime.block_on(run(mail, &out, &ways, &doorbells));
    })?;
    Ok(ports)
}

async fn run(
    mut mail: mpsc::Receiver<Mail>,
    out: &mpsc::Sender<Mail>,
    ways: &[Arc<Findings>],
    doorbells: &[Doorbell],
) {
    let (mut desk, client) = (Desk::default(), Client::default());
    let mut steps = Vec::new();
    let mut random = || {
        let mut bytes = [0; 16];
        // Without chance there are no tokens that nobody can guess: better none at all.
        getrandom::fill(&mut bytes).expect("the kernel has a random source");
        u128::from_ne_bytes(bytes)
    };
    while let Some(mail) = mail.recv().await {
        let now = machine::now();
        match mail {
            Mail::Inquiry(waiter, inquiry) => {
                desk.ask(waiter, inquiry, now, &mut random, &mut steps);
            }
            Mail::Answered(number, answer) => {
                desk.answered(number, answer, now, &mut random, &mut steps);
            }
        }
        for step in steps.drain(..) {
            match step {
                Step::Tell(waiter, finding) => {
                    let way = &ways[waiter.shard];
                    let told = way.push((waiter.to, waiter.ticket, finding));
                    assert!(told.is_ok(), "a shard asks no more than it has room to be told");
                    let doorbell = &doorbells[waiter.shard];
                    if doorbell.parking.should_wake() {
                        doorbell.waker.wake();
                    }
                }
                Step::Ask(number, question) => {
                    let (client, out) = (client.clone(), out.clone());
                    tokio::spawn(async move {
                        let answer = client.ask(question).await;
                        // Fails only when the thread is gone, and then nobody waits.
                        let _ = out.send(Mail::Answered(number, answer)).await;
                    });
                }
            }
        }
    }
}
