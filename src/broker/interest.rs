//! Which shards hear a channel, in which lanes.

use super::LaneSet;
use super::few::Few;
use crate::base::ids::{LaneId, ShardId};

/// Subscriptions per shard and lane, silent ones included. Kept sorted, because one delivery goes to
/// each shard whatever its lanes.
#[derive(Debug, Default)]
pub(crate) struct Interest(Few<Claim>);

#[derive(Clone, Copy, Debug)]
struct Claim {
    shard: ShardId,
    lane: LaneId,
    subscriptions: u32,
}

impl Interest {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn add(&mut self, shard: ShardId, lane: LaneId) {
        match self.find(shard, lane) {
            Ok(at) => self.0.as_mut_slice()[at].subscriptions += 1,
            Err(at) => self.0.insert(at, Claim { shard, lane, subscriptions: 1 }),
        }
    }

    /// Takes back what [`Interest::add`] added.
    pub(crate) fn remove(&mut self, shard: ShardId, lane: LaneId) {
        let at = self.find(shard, lane).expect("a detached subscription was attached");
        let claim = &mut self.0.as_mut_slice()[at];
        claim.subscriptions -= 1;
        if claim.subscriptions == 0 {
            self.0.remove(at);
        }
    }

    /// The lanes that have a subscriber anywhere.
    pub(crate) fn lanes(&self) -> LaneSet {
        let mut lanes = LaneSet::default();
        for claim in self.0.as_slice() {
            lanes.insert(claim.lane);
        }
        lanes
    }

    /// Each shard that has a subscriber, once.
    pub(crate) fn shards(&self) -> impl Iterator<Item = ShardId> {
        self.0.as_slice().chunk_by(|a, b| a.shard == b.shard).map(|claims| claims[0].shard)
    }

    fn find(&self, shard: ShardId, lane: LaneId) -> Result<usize, usize> {
        self.0.as_slice().binary_search_by_key(&(shard, lane), |claim| (claim.shard, claim.lane))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_named_once_and_a_lane_goes_with_its_last_subscription() {
        let mut interest = Interest::default();
        for (shard, lane) in [(2, 1), (0, 1), (2, 0), (2, 1), (1, 5)] {
            interest.add(ShardId(shard), LaneId(lane));
        }
        let shards = |interest: &Interest| interest.shards().map(|s| s.0).collect::<Vec<_>>();
        let lanes = |interest: &Interest| interest.lanes().iter().map(|l| l.0).collect::<Vec<_>>();
        assert_eq!((shards(&interest), lanes(&interest)), (vec![0, 1, 2], vec![0, 1, 5]));
        interest.remove(ShardId(2), LaneId(1));
        interest.remove(ShardId(1), LaneId(5));
        assert_eq!((shards(&interest), lanes(&interest)), (vec![0, 2], vec![0, 1]));
        for (shard, lane) in [(2, 1), (0, 1), (2, 0)] {
            interest.remove(ShardId(shard), LaneId(lane));
        }
        assert!(interest.is_empty());
    }

    #[test]
    #[should_panic(expected = "was attached")]
    fn what_was_not_added_is_not_removed() {
        Interest::default().remove(ShardId(0), LaneId(0));
    }
}
