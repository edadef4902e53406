//! The mailboxes between shards: *up* (an edge asks a home) and *down* (a home answers and
//! delivers), one of each for every ordered pair, a shard with itself included.
//!
//! Two mailboxes and not one, because then asks may wait while answers never do: a model with one
//! queue for each pair deadlocks. What does not fit a mailbox waits in a bounded backlog here, at the sender.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::base::ids::ShardId;
use crate::base::mailbox::Parking;
use crate::base::mailbox::{self, Receiver, Sender};
use crate::broker::{Down, Up};
use crate::reactor::Waker;

/// How a shard is woken by its peers: its parking flag and its driver's waker.
pub struct Doorbell {
    /// Says whether it sleeps.
    pub parking: Parking,
    /// Ends its wait.
    pub waker: Waker,
}

/// One direction to one peer: a mailbox and the backlog in front of it.
struct Way<T> {
    sender: Sender<T>,
    backlog: VecDeque<T>,
    staged: bool,
}

impl<T: Send> Way<T> {
    fn new(sender: Sender<T>) -> Self {
        Self { sender, backlog: VecDeque::new(), staged: false }
    }

    /// Returns true if the mail had to wait in the backlog.
    fn push(&mut self, mail: T) -> bool {
        if self.backlog.is_empty() {
            match self.sender.try_push(mail) {
                Ok(()) => self.staged = true,
                Err(mail) => {
                    self.backlog.push_back(mail);
                    return true;
                }
            }
            return false;
        }
        self.backlog.push_back(mail);
        true
    }

    /// Moves what fits and makes it visible. Returns true if the peer has new mail.
    fn publish(&mut self) -> bool {
        while let Some(mail) = self.backlog.pop_front() {
            match self.sender.try_push(mail) {
                Ok(()) => self.staged = true,
                Err(mail) => {
                    self.backlog.push_front(mail);
                    break;
                }
            }
        }
        if self.backlog.is_empty() && self.backlog.capacity() > 1024 {
            self.backlog = VecDeque::new();
        }
        if !self.staged {
            return false;
        }
        self.staged = false;
        self.sender.publish();
        true
    }
}

/// What one shard holds of the mesh.
pub struct Ports {
    me: ShardId,
    up_out: Vec<Way<Up>>,
    down_out: Vec<Way<Down>>,
    up_in: Vec<Receiver<Up>>,
    down_in: Vec<Receiver<Down>>,
    doorbells: Arc<Vec<Doorbell>>,
}

/// What a round of publishing did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Published {
    /// Peers that slept and were woken.
    pub wakes: u64,
    /// Asks waiting in backlogs.
    pub backlog_up: usize,
    /// Answers and deliveries waiting in backlogs.
    pub backlog_down: usize,
}

impl Ports {
    /// Puts an ask on its way. Returns true if it had to wait.
    pub fn send_up(&mut self, to: ShardId, mail: Up) -> bool {
        self.up_out[to.index()].push(mail)
    }

    /// Puts an answer or a delivery on its way. Returns true if it had to wait.
    pub fn send_down(&mut self, to: ShardId, mail: Down) -> bool {
        self.down_out[to.index()].push(mail)
    }

    /// Makes the mail to ourselves visible: no other thread is concerned.
    pub fn publish_own(&mut self) {
        self.up_out[self.me.index()].publish();
        self.down_out[self.me.index()].publish();
    }

    /// Makes all mail visible and wakes those who sleep, each once.
    pub fn publish(&mut self) -> Published {
        let mut done = Published::default();
        for peer in 0..self.up_out.len() {
            // Both first, and not short-circuited: one wake serves both.
            let fresh = self.up_out[peer].publish() | self.down_out[peer].publish();
            done.backlog_up += self.up_out[peer].backlog.len();
            done.backlog_down += self.down_out[peer].backlog.len();
            if fresh && peer != self.me.index() && self.doorbells[peer].parking.should_wake() {
                self.doorbells[peer].waker.wake();
                done.wakes += 1;
            }
        }
        done
    }

    /// Takes one ask from a peer.
    pub fn take_up(&mut self, from: ShardId) -> Option<Up> {
        self.up_in[from.index()].pop()
    }

    /// Takes one answer or delivery from a peer.
    pub fn take_down(&mut self, from: ShardId) -> Option<Down> {
        self.down_in[from.index()].pop()
    }

    /// Is there mail to take, or mail still to put on its way?
    pub fn is_busy(&mut self, asks_too: bool) -> bool {
        self.down_in.iter_mut().any(|mailbox| !mailbox.is_empty())
            || (asks_too && self.up_in.iter_mut().any(|mailbox| !mailbox.is_empty()))
    }

    /// Asks waiting in backlogs.
    pub fn backlog_up(&self) -> usize {
        self.up_out.iter().map(|way| way.backlog.len()).sum()
    }

    /// Answers and deliveries waiting in backlogs.
    pub fn backlog_down(&self) -> usize {
        self.down_out.iter().map(|way| way.backlog.len()).sum()
    }

    /// Our own doorbell.
    pub fn doorbell(&self) -> &Doorbell {
        &self.doorbells[self.me.index()]
    }

    /// How many shards there are.
    pub fn shards(&self) -> u16 {
        self.up_out.len() as u16
    }
}

/// Joins shards into a mesh: `doorbells` has one for each, `slots` is the size of every mailbox, a
/// power of two. Returns the ports in the order of the shards.
pub fn mesh(doorbells: &Arc<Vec<Doorbell>>, slots: usize) -> Vec<Ports> {
    let shards = doorbells.len();
    let mut ports: Vec<Ports> = (0..shards)
        .map(|me| Ports {
            me: ShardId(me as u16),
            up_out: Vec::new(),
            down_out: Vec::new(),
            up_in: Vec::new(),
            down_in: Vec::new(),
            doorbells: Arc::clone(doorbells),
        })
        .collect();
    // Receivers end up in the order of their senders because `from` is the outer loop.
    for from in 0..shards {
        for to in 0..shards {
            let (sender, receiver) = mailbox::mailbox(slots);
            ports[from].up_out.push(Way::new(sender));
            ports[to].up_in.push(receiver);
            let (sender, receiver) = mailbox::mailbox(slots);
            ports[from].down_out.push(Way::new(sender));
            ports[to].down_in.push(receiver);
        }
    }
    ports
}
