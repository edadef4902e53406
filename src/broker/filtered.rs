//! The subscriptions of one channel that have a filter, found by the tags they look for.
//!
//! An event asks only those that look for one of its tags, so that ten thousand subscriptions with
//! tags of their own cost no more than the few that match. Measured in `perf/results`: `filters`.

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use hashbrown::{HashMap, HashSet, HashTable};

use super::few::Few;
use super::slots::Slots;
use super::{Filter, Tag, Tags};

/// From this many subscriptions on, those that look for one tag are a set, so that thousands can leave at
/// once without each being searched for.
const MANY: usize = 32;

/// The filters of one channel. Subscriptions go by their numbers at the edge.
#[derive(Debug, Default)]
pub(crate) struct Filtered {
    /// Active or not.
    filters: HashMap<u32, Arc<Filter>, Spread>,
    /// Active ones that look at every event.
    all: Subscriptions,
    /// Active ones by each tag they look for.
    by_tag: HashTable<(Tag, Subscriptions)>,
}

impl Filtered {
    /// No filter is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.filters.is_empty()
    }

    /// A subscription's filter.
    pub(crate) fn filter(&self, number: u32) -> &Filter {
        self.filters.get(&number).expect("whoever is found has a filter")
    }

    /// Notes the filter of a subscription that is not active yet.
    pub(crate) fn insert(&mut self, number: u32, filter: Arc<Filter>) {
        let before = self.filters.insert(number, filter);
        assert!(before.is_none(), "a subscription has one filter");
    }

    /// Takes another filter in the place of one that looks for the very same tags; false if it does not.
    pub(crate) fn replace(&mut self, number: u32, filter: &Arc<Filter>) -> bool {
        let held = self.filters.get_mut(&number).expect("it was inserted");
        let is_same = match (&held.any_of, &filter.any_of) {
            (None, None) => true,
            (Some(before), Some(after)) => Arc::ptr_eq(before, after),
            _ => false,
        };
        if is_same {
            *held = filter.clone();
        }
        is_same
    }

    /// From here on events find it.
    pub(crate) fn activate(&mut self, number: u32, slots: &Slots) {
        let filter = self.filters.get(&number).expect("it was inserted");
        let Some(tags) = &filter.any_of else { return self.all.insert(number) };
        for tag in tags.iter() {
            let entry = self.by_tag.entry(
                hash(slots, tag),
                |(other, _)| other == tag,
                |(other, _)| hash(slots, other),
            );
            entry
                .or_insert_with(|| (tag.clone(), Subscriptions::default()))
                .into_mut()
                .1
                .insert(number);
        }
    }

    /// Forgets a subscription's filter.
    pub(crate) fn remove(&mut self, number: u32, is_active: bool, slots: &Slots) {
        let filter = self.filters.remove(&number).expect("it was inserted");
        if !is_active {
            return;
        }
        let Some(tags) = &filter.any_of else { return self.all.remove(number) };
        for tag in tags.iter() {
            // A filter may name a tag twice.
            let found = self.by_tag.find_entry(hash(slots, tag), |(other, _)| other == tag);
            let Ok(mut entry) = found else { continue };
            entry.get_mut().1.remove(number);
            if entry.get().1.is_empty() {
                entry.remove();
            }
        }
    }

    /// Appends whoever is to look at a message with these tags, each once, in the order of their numbers.
    pub(crate) fn find(&self, tags: &Tags, slots: &Slots, found: &mut Vec<u32>) {
        found.extend(self.all.iter());
        for tag in tags.as_slice() {
            let by_tag = self.by_tag.find(hash(slots, tag), |(other, _)| other == tag);
            found.extend(by_tag.into_iter().flat_map(|(_, numbers)| numbers.iter()));
        }
        found.sort_unstable();
        found.dedup();
    }

    /// Appends everyone, as [`Filtered::find`] does: for what is no message and has no tags.
    pub(crate) fn find_all(&self, found: &mut Vec<u32>) {
        found.extend(self.all.iter());
        found.extend(self.by_tag.iter().flat_map(|(_, numbers)| numbers.iter()));
        found.sort_unstable();
        found.dedup();
    }
}

/// Both halves may come from outside.
fn hash(slots: &Slots, tag: &Tag) -> u64 {
    slots.hash_pair(&tag.name, &tag.value)
}

/// A set of subscriptions, small most of the time.
#[derive(Debug)]
enum Subscriptions {
    Few(Few<u32>),
    Many(HashSet<u32, Spread>),
}

impl Default for Subscriptions {
    fn default() -> Self {
        Self::Few(Few::default())
    }
}

impl Subscriptions {
    fn is_empty(&self) -> bool {
        match self {
            Self::Few(few) => few.is_empty(),
            Self::Many(many) => many.is_empty(),
        }
    }

    fn insert(&mut self, number: u32) {
        match self {
            Self::Few(few) if few.as_slice().contains(&number) => {}
            Self::Few(few) if few.as_slice().len() < MANY => few.push(number),
            Self::Few(few) => {
                let many = few.as_slice().iter().copied().chain([number]);
                *self = Self::Many(many.collect());
            }
            Self::Many(many) => {
                many.insert(number);
            }
        }
    }

    fn remove(&mut self, number: u32) {
        match self {
            Self::Few(few) => {
                if let Some(at) = few.as_slice().iter().position(|&it| it == number) {
                    few.swap_remove(at);
                }
            }
            Self::Many(many) => {
                many.remove(&number);
                // A crowd that has left takes its table with it.
                if many.capacity() > 4 * MANY && many.len() < many.capacity() / 8 {
                    many.shrink_to_fit();
                }
            }
        }
    }

    fn iter(&self) -> impl Iterator<Item = u32> {
        let (few, many) = match self {
            Self::Few(few) => (few.as_slice(), None),
            Self::Many(many) => (&[][..], Some(many)),
        };
        few.iter().copied().chain(many.into_iter().flatten().copied())
    }
}

/// Hashes numbers of ours, which nobody outside chooses: one multiplication.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spread;

impl BuildHasher for Spread {
    type Hasher = Spreading;
    fn build_hasher(&self) -> Spreading {
        Spreading(0)
    }
}

#[derive(Debug)]
pub(crate) struct Spreading(u64);

impl Hasher for Spreading {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u32(u32::from(byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        // 2^64 divided by the golden ratio; the top bits are the good ones and the table wants both ends.
        let wide = (self.0 ^ u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = wide ^ wide >> 32;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::base::prng::Prng;
    use crate::broker::{Admit, Event, Verdict};

    struct Everything;

    impl Admit for Everything {
        fn admit(&self, _: &Event) -> Verdict {
            Verdict::Frame
        }
    }

    fn tag(n: u64) -> Tag {
        Tag {
            name: ["uri", "group"][(n % 2) as usize].into(),
            value: format!("v{}", n / 2)[..].into(),
        }
    }

    /// Against a plain map from subscription to what it looks for.
    #[test]
    fn whoever_looks_for_a_tag_is_found_once() {
        for seed in 0..60 {
            let mut prng = Prng::new(seed);
            let slots = Slots::new(1, [prng.next_u64(), 7]);
            let (mut filtered, mut model) = (Filtered::default(), BTreeMap::new());
            let many = 1 + prng.below(200) as u32;
            for _ in 0..600 {
                let number = prng.below(u64::from(many)) as u32;
                if let Some((_, is_active)) = model.remove(&number) {
                    filtered.remove(number, is_active, &slots);
                } else {
                    let any_of: Option<Vec<u64>> = (!prng.chance(1, 8))
                        .then(|| (0..prng.below(4)).map(|_| prng.below(9)).collect());
                    let tags = any_of.as_ref().map(|it| it.iter().map(|&n| tag(n)).collect());
                    let filter = Filter { any_of: tags, admit: Box::new(Everything) };
                    filtered.insert(number, Arc::new(filter));
                    let is_active = prng.chance(3, 4);
                    if is_active {
                        filtered.activate(number, &slots);
                    }
                    model.insert(number, (any_of, is_active));
                }
                let event: BTreeSet<u64> = (0..prng.below(4)).map(|_| prng.below(9)).collect();
                let tags = Tags::from(event.iter().map(|&n| tag(n)).collect::<Vec<_>>());
                let mut found = Vec::new();
                filtered.find(&tags, &slots, &mut found);
                let wants = |any_of: &Option<Vec<u64>>| {
                    any_of.as_ref().is_none_or(|it| it.iter().any(|n| event.contains(n)))
                };
                let expected =
                    model.iter().filter(|(_, (any_of, active))| *active && wants(any_of));
                let expected: Vec<u32> = expected.map(|(&number, _)| number).collect();
                assert_eq!(found, expected, "seed {seed}");
                found.clear();
                filtered.find_all(&mut found);
                // Who looks for none of any tags is never found.
                let is_there = |any_of: &Option<Vec<u64>>| any_of.as_ref() != Some(&Vec::new());
                let all = model.iter().filter(|(_, (any_of, active))| *active && is_there(any_of));
                assert_eq!(found, all.map(|(&number, _)| number).collect::<Vec<_>>());
            }
            for (number, (_, is_active)) in model {
                filtered.remove(number, is_active, &slots);
            }
            assert!(filtered.is_empty() && filtered.by_tag.is_empty() && filtered.all.is_empty());
        }
    }
}
