//! Subscriptions of all channels whose names match a pattern: a name with one `*`, which stands for any run of
//! characters.
//!
//! A channel's home is one shard, but the channels of a pattern are at home on all of them: so every home knows every
//! pattern that someone listens to, and mails what happens to the shards that do. What an event's name could be matched
//! by is found without looking at each pattern: patterns with as many bytes before and behind the `*` are of one shape,
//! and of each shape a name has exactly one pattern, which is looked up.

use std::collections::HashMap;
use std::sync::Arc;

use super::interest::Interest;
use super::slots::Slots;
use super::table::{Keyed, Table};
use super::{Channel, LaneSet, Refusal};
use crate::base::ids::{AppIndex, LaneId, ShardId};

/// Shapes of an app's patterns, at most; each is one look into a table for every event of the app. Peers choose
/// patterns, and this bounds what that may cost everyone else.
pub const SHAPES_MAX: usize = 256;

/// Patterns that one home knows, at most.
pub const PATTERNS_MAX: usize = 65_536;

/// What everyone may hear is matched by patterns, nothing else. The names of channels that only some may hear begin so:
/// those of the dialects' private channels and their members', and the engine's own.
const CLOSED: [&str; 4] = ["private-", "presence-", "#", "[meta]"];

/// Whether patterns match a channel at all.
pub(crate) fn is_reachable(name: &str) -> bool {
    !CLOSED.iter().any(|prefix| name.starts_with(prefix))
}

/// How many bytes a pattern has before its `*` and behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    before: u32,
    behind: u32,
}

impl Shape {
    fn of(pattern: &str) -> Option<Self> {
        let (before, behind) = pattern.split_once('*')?;
        Some(Self { before: before.len() as u32, behind: behind.len() as u32 })
    }

    /// Puts the pattern of this shape that a name matches into `buffer`; false if there is none.
    fn write(self, name: &str, buffer: &mut String) -> bool {
        let (before, behind) = (self.before as usize, self.behind as usize);
        let Some(split) = name.len().checked_sub(behind).filter(|&it| it >= before) else {
            return false;
        };
        let (Some(before), Some(behind)) = (name.get(..before), name.get(split..)) else {
            return false;
        };
        buffer.clear();
        buffer.push_str(before);
        buffer.push('*');
        buffer.push_str(behind);
        true
    }
}

/// The shapes of the patterns that someone listens to, by app.
#[derive(Debug, Default)]
pub(crate) struct Shapes(HashMap<AppIndex, Vec<(Shape, u32)>>);

impl Shapes {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Notes a pattern once more; false, and nothing noted, if its shape would be one too many.
    pub(crate) fn try_add(&mut self, pattern: &Channel) -> bool {
        let Some(shape) = Shape::of(&pattern.name) else { return false };
        let shapes = self.0.entry(pattern.app).or_default();
        match shapes.iter().position(|(it, _)| *it == shape) {
            Some(at) => shapes[at].1 += 1,
            None if shapes.len() >= SHAPES_MAX => return false,
            None => shapes.push((shape, 1)),
        }
        true
    }

    /// Takes back what [`Shapes::try_add`] noted.
    pub(crate) fn remove(&mut self, pattern: &Channel) {
        let shape = Shape::of(&pattern.name);
        let shapes = self.0.get_mut(&pattern.app).expect("a pattern that was noted has its app");
        let at = shapes.iter().position(|(it, _)| Some(*it) == shape);
        let at = at.expect("a pattern that was noted has its shape");
        shapes[at].1 -= 1;
        if shapes[at].1 == 0 {
            shapes.swap_remove(at);
        }
        if shapes.is_empty() {
            self.0.remove(&pattern.app);
        }
    }

    /// Hands `found` each pattern that a channel's name is one of, among those of the shapes noted.
    pub(crate) fn each(&self, channel: &Channel, mut found: impl FnMut(&str)) {
        let Some(shapes) = self.0.get(&channel.app).filter(|_| is_reachable(&channel.name)) else {
            return;
        };
        let mut buffer = String::with_capacity(channel.name.len() + 1);
        for (shape, _) in shapes {
            if shape.write(&channel.name, &mut buffer) {
                found(&buffer);
            }
        }
    }
}

/// A pattern that someone listens to, and where.
#[derive(Debug)]
struct Listened {
    pattern: Channel,
    interest: Interest,
}

impl Keyed for Listened {
    fn channel(&self) -> &Channel {
        &self.pattern
    }
}

/// The patterns that a home knows.
#[derive(Debug)]
pub(crate) struct Wildcards {
    patterns: Table<Listened>,
    shapes: Shapes,
}

/// Who listens to patterns that a channel's name is one of.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Reached {
    pub(crate) lanes: LaneSet,
    /// Each once, sorted.
    pub(crate) shards: Vec<ShardId>,
}

impl Wildcards {
    pub(crate) fn new(slots: Arc<Slots>) -> Self {
        Self { patterns: Table::new(slots), shapes: Shapes::default() }
    }

    /// Nobody listens to any: that is all that an event pays then.
    pub(crate) fn is_empty(&self) -> bool {
        self.shapes.is_empty()
    }

    /// How many patterns someone listens to.
    pub(crate) fn len(&self) -> usize {
        self.patterns.len()
    }

    /// Notes that a shard listens in a lane, once more.
    pub(crate) fn add(
        &mut self,
        pattern: &Channel,
        shard: ShardId,
        lane: LaneId,
    ) -> Result<(), Refusal> {
        let number = match self.patterns.find(pattern.app, &pattern.name) {
            Some(number) => number,
            None if self.patterns.len() >= PATTERNS_MAX => {
                return Err(Refusal::ChannelsFull { channels_max: PATTERNS_MAX });
            }
            None if !self.shapes.try_add(pattern) => {
                return Err(Refusal::ChannelsFull { channels_max: SHAPES_MAX });
            }
            None => {
                let interest = Interest::default();
                self.patterns.insert(Listened { pattern: pattern.clone(), interest })
            }
        };
        self.patterns[number].interest.add(shard, lane);
        Ok(())
    }

    /// Takes back what [`Wildcards::add`] noted.
    pub(crate) fn remove(&mut self, pattern: &Channel, shard: ShardId, lane: LaneId) {
        let number = self.patterns.find(pattern.app, &pattern.name);
        let number = number.expect("a pattern that is listened to is known");
        let interest = &mut self.patterns[number].interest;
        interest.remove(shard, lane);
        if interest.is_empty() {
            self.patterns.remove(number);
            self.shapes.remove(pattern);
        }
    }

    /// Whether anyone listens to a pattern that a channel's name is one of.
    pub(crate) fn reach_any(&self, channel: &Channel) -> bool {
        let mut any = false;
        if !self.is_empty() {
            self.shapes.each(channel, |it| any |= self.patterns.find(channel.app, it).is_some());
        }
        any
    }

    /// Who listens to patterns that a channel's name is one of.
    pub(crate) fn reach(&self, channel: &Channel) -> Reached {
        let mut reached = Reached::default();
        self.shapes.each(channel, |it| {
            let Some(number) = self.patterns.find(channel.app, it) else { return };
            let interest = &self.patterns[number].interest;
            reached.lanes.0 |= interest.lanes().0;
            reached.shards.extend(interest.shards());
        });
        reached.shards.sort_unstable();
        reached.shards.dedup();
        reached
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::base::pattern::Pattern;
    use crate::base::prng::Prng;

    fn channel(app: u16, name: &str) -> Channel {
        Channel { app: AppIndex(app), name: name.into() }
    }

    #[test]
    fn patterns_reach_what_everyone_may_hear() {
        let mut it = Wildcards::new(Arc::new(Slots::new(1, [3, 4])));
        assert!(it.is_empty() && !it.reach_any(&channel(0, "a")));
        for (n, pattern) in ["*", "p*", "ticker:*", "*:eu", "a*b", "é*", "*#"].iter().enumerate() {
            it.add(&channel(0, pattern), ShardId(n as u16), LaneId(n as u8)).unwrap();
        }
        for (name, shards) in [
            ("x", &[0][..]),
            ("", &[0]),
            ("ticker:", &[0, 2]),
            ("ticker:eu", &[0, 2, 3]),
            ("ticker", &[0]),
            ("ab", &[0, 4]),
            ("aXb", &[0, 4]),
            ("a", &[0]),
            ("public", &[0, 1]),
            ("private-x", &[]),
            ("presence-x", &[]),
            ("#x", &[]),
            ("[meta]x", &[]),
            ("é", &[0, 5]),
            ("éx", &[0, 5]),
            // Within a character no pattern ends.
            ("è", &[0]),
            ("x#", &[0, 6]),
        ] {
            let reached = it.reach(&channel(0, name));
            let found: Vec<_> = reached.shards.iter().map(|it| it.0).collect();
            assert_eq!(found, shards, "{name}");
            assert_eq!(reached.lanes.len(), shards.len());
            assert_eq!(it.reach_any(&channel(0, name)), !shards.is_empty());
        }
        assert_eq!(it.reach(&channel(1, "x")), Reached::default());
    }

    /// Against a plain list of patterns, each looked at.
    #[test]
    fn it_finds_what_a_look_at_every_pattern_finds() {
        for seed in 0..100 {
            let mut prng = Prng::new(seed);
            let mut it = Wildcards::new(Arc::new(Slots::new(4, [prng.next_u64(), 1])));
            let mut model: BTreeMap<(u16, String, u16, u8), u32> = BTreeMap::new();
            let text = |prng: &mut Prng| -> String {
                (0..prng.below(4)).map(|_| ['a', 'b', 'ß'][prng.below(3) as usize]).collect()
            };
            for _ in 0..300 {
                let pattern = format!("{}*{}", text(&mut prng), text(&mut prng));
                let (app, shard) = (prng.below(2) as u16, prng.below(3) as u16);
                let lane = prng.below(3) as u8;
                let key = (app, pattern.clone(), shard, lane);
                match model.get_mut(&key) {
                    Some(count) if prng.chance(1, 2) => {
                        *count -= 1;
                        if *count == 0 {
                            model.remove(&key);
                        }
                        it.remove(&channel(app, &pattern), ShardId(shard), LaneId(lane));
                    }
                    _ => {
                        *model.entry(key).or_default() += 1;
                        it.add(&channel(app, &pattern), ShardId(shard), LaneId(lane)).unwrap();
                    }
                }
                let name = format!("{}{}", text(&mut prng), text(&mut prng));
                let matching = model.keys().filter(|(of, pattern, ..)| {
                    *of == app && Pattern(pattern.as_str().into()).matches(&name)
                });
                let (mut shards, mut lanes) = (BTreeSet::new(), LaneSet::default());
                for (_, _, shard, lane) in matching {
                    shards.insert(ShardId(*shard));
                    lanes.insert(LaneId(*lane));
                }
                let expected = Reached { lanes, shards: shards.into_iter().collect() };
                assert_eq!(it.reach(&channel(app, &name)), expected, "seed {seed} {name}");
            }
            for ((app, pattern, shard, lane), count) in model {
                for _ in 0..count {
                    it.remove(&channel(app, &pattern), ShardId(shard), LaneId(lane));
                }
            }
            assert!(it.is_empty() && it.patterns.len() == 0);
        }
    }

    #[test]
    fn shapes_are_bounded() {
        let mut it = Wildcards::new(Arc::new(Slots::new(1, [3, 4])));
        let pattern = |n: usize| channel(0, &format!("{}*", "x".repeat(n)));
        for n in 0..SHAPES_MAX {
            assert_eq!(it.add(&pattern(n), ShardId(0), LaneId(0)), Ok(()));
        }
        assert!(it.add(&pattern(SHAPES_MAX), ShardId(0), LaneId(0)).is_err());
        assert_eq!(it.add(&pattern(1), ShardId(1), LaneId(0)), Ok(()));
        assert_eq!(it.add(&channel(0, "y*"), ShardId(1), LaneId(0)), Ok(()));
        it.remove(&pattern(0), ShardId(0), LaneId(0));
        assert_eq!(it.add(&pattern(SHAPES_MAX), ShardId(0), LaneId(0)), Ok(()));
    }
}
