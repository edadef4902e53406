//! The way to the homes of channels: what comes from the world outside without being asked for.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Arrival;
use super::port::Arrivals;
use crate::base::name::Channel;
use crate::broker::Publish;
use crate::broker::slots::Slots;

/// The way to the homes of channels. What finds no room waits here: whoever sends says how much that may be.
pub(super) struct Homes {
    slots: Arc<Slots>,
    ways: Vec<HomeWay>,
    /// Arrivals that wait for room, over all homes.
    pub(super) waiting: usize,
}

struct HomeWay {
    arrivals: Arc<Arrivals>,
    waiting: VecDeque<Arrival>,
    is_fresh: bool,
}

impl Homes {
    pub(super) fn new(slots: Arc<Slots>, arrivals: &[Arc<Arrivals>]) -> Self {
        let ways = arrivals.iter().map(|arrivals| HomeWay {
            arrivals: arrivals.clone(),
            waiting: VecDeque::new(),
            is_fresh: false,
        });
        Self { slots, ways: ways.collect(), waiting: 0 }
    }

    /// The shard that is a channel's home.
    pub(super) fn of(&self, channel: &Channel) -> usize {
        self.slots.home_of(channel).index()
    }

    /// An event, for the home of its channel.
    pub(super) fn push(&mut self, publish: Box<Publish>) {
        let home = self.of(&publish.channel);
        self.send(home, Arrival::Publish(publish));
    }

    /// Something for this shard.
    pub(super) fn send(&mut self, shard: usize, arrival: Arrival) {
        self.ways[shard].waiting.push_back(arrival);
        self.waiting += 1;
    }

    /// Puts on its way what there is room for, and says which shards have something new.
    pub(super) fn flush(&mut self, mut wake: impl FnMut(usize)) {
        if self.waiting == 0 {
            return;
        }
        for (shard, way) in self.ways.iter_mut().enumerate() {
            self.waiting -= way.flush();
            if !way.waiting.is_empty() {
                // Said before it is looked again: room that came in between is not missed.
                way.arrivals.is_wanted.store(true, Ordering::SeqCst);
                self.waiting -= way.flush();
            }
            if std::mem::take(&mut way.is_fresh) {
                wake(shard);
            }
        }
    }
}

impl HomeWay {
    fn flush(&mut self) -> usize {
        let mut flushed = 0;
        while let Some(arrival) = self.waiting.pop_front() {
            if let Err(arrival) = self.arrivals.queue.push(arrival) {
                self.waiting.push_front(arrival);
                break;
            }
            flushed += 1;
        }
        self.is_fresh |= flushed > 0;
        flushed
    }
}
