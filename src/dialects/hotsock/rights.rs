//! What tokens allow: for a channel, an event, a storage key.
//!
//! A switch counts from every pattern that matches, whichever token it is in: an explicit `false` anywhere denies,
//! else a `true` anywhere grants. A number counts from the most particular pattern that has it, first the channel's,
//! then the event's or the key's; the subscribe token's before the connect token's.

use std::sync::Arc;

use super::claims::{ChannelRule, Claims, MessageRule, React, StorageRule};
use super::expression::Scratch;
use super::patterns::{Pattern, Rank};
use crate::base::time::UnixMillis;
use crate::broker::state::{AdmitKey, Keep, Keys};

/// What the connect token, and for one subscription the subscribe token too, allow.
#[derive(Clone, Copy, Debug)]
pub struct Rights<'a> {
    /// The connect token.
    pub connect: &'a Claims,
    /// The token that the subscription came with.
    pub subscribe: Option<&'a Claims>,
}

/// What is allowed with an event in a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageRights {
    /// Publish it while subscribed; none: nothing is said.
    pub publish: Option<bool>,
    /// Publish it also without a subscription.
    pub broadcast: bool,
    /// Hear it, too.
    pub echo: bool,
    /// How long it is kept; none: not at all.
    pub store: Option<Keep>,
    /// The world outside is told.
    pub emits: bool,
    /// Schedule it for a time up to this.
    pub schedule_before: Option<UnixMillis>,
    /// What may be said to it.
    pub react: Reactions,
}

impl MessageRights {
    /// Whether it may be published by a connection that is subscribed or is not.
    pub fn may_publish(&self, is_subscribed: bool) -> bool {
        self.publish != Some(false)
            && (self.broadcast || self.publish == Some(true) && is_subscribed)
    }
}

/// Which reactions are allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reactions {
    /// No.
    None,
    /// Any.
    All,
    /// These.
    Some(Vec<Box<str>>),
}

impl Reactions {
    /// Whether this one is.
    pub fn allow(&self, reaction: &str) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Some(all) => all.iter().any(|it| **it == *reaction),
        }
    }
}

/// What is allowed with a storage key of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StorageRights {
    /// Read it.
    pub get: bool,
    /// Set it.
    pub set: bool,
    /// Hear its values.
    pub observe: bool,
    /// How long it is kept.
    pub store: Keep,
    /// The world outside is told.
    pub emits: bool,
    /// Schedule it for a time up to this.
    pub schedule_before: Option<UnixMillis>,
}

/// Which storage keys of a channel are observed.
#[derive(Clone, Debug)]
pub enum Observes {
    /// None.
    Nothing,
    /// All.
    Everything,
    /// These.
    Some(Keys),
}

impl<'a> Rights<'a> {
    /// Whether it may be subscribed to.
    pub fn may_subscribe(&self, channel: &str) -> bool {
        let granted = self.switch(channel, |it| it.subscribe);
        granted.unwrap_or_else(|| self.connect.auto_subscribe().any(|it| it == channel))
    }

    /// What its subscriber calls it.
    pub fn alias(&self, channel: &str) -> Option<&'a str> {
        self.tokens().find_map(|claims| {
            let mut own = claims.channels.iter().filter(|it| it.pattern.is_literal());
            own.find(|it| it.pattern.text() == channel)?.alias.as_deref()
        })
    }

    /// The channel that a peer means with a name: one that a token names in full, else the one behind an alias, else
    /// the name itself.
    pub fn resolve<'n>(&self, name: &'n str) -> &'n str
    where
        'a: 'n,
    {
        let is_named = |it: &Claims| it.literal_channels().any(|it| it == name);
        if self.tokens().any(is_named) {
            return name;
        }
        self.tokens().find_map(|it| it.alias_target(name)).unwrap_or(name)
    }

    /// The oldest kept message that may be read.
    pub fn history_start(&self, channel: &str) -> Option<UnixMillis> {
        self.tokens().find_map(|claims| {
            let mut best = Best::default();
            claims.of_channel(channel, &mut Scratch::default(), |rule, _| {
                best.offer([rule.pattern.rank(); 2], rule.history_start);
            });
            best.value()
        })
    }

    /// Whether it may be asked who and how many there are.
    pub fn may_get_info(&self, channel: &str) -> bool {
        self.switch(channel, |it| it.get_info) == Some(true)
    }

    /// Whether a subscription does not count.
    pub fn is_uncounted(&self, channel: &str) -> bool {
        self.switch(channel, |it| it.omit_from_sub_count) == Some(true)
    }

    /// Whether what is known about the user of its subscription may be changed.
    pub fn may_update_umd(&self, channel: &str) -> bool {
        self.switch(channel, |it| it.umd_update) == Some(true)
    }

    /// What is allowed with an event.
    pub fn message(&self, channel: &str, event: &str) -> MessageRights {
        let mut scratch = Scratch::default();
        let [mut publish, mut broadcast, mut echo, mut emits] = [None; 4];
        let (mut store, mut before, mut react) = (None, None, None);
        for claims in self.tokens() {
            let is_connect = std::ptr::eq(claims, self.connect);
            let (mut own_store, mut own_before) = (Best::default(), Best::default());
            let mut own_react: Option<Union<'_>> = None;
            claims.of_channel(channel, &mut scratch, |above, scratch| {
                matching(
                    &above.messages,
                    |it| &it.pattern,
                    event,
                    scratch,
                    |rule: &MessageRule| {
                        let rank = [above.pattern.rank(), rule.pattern.rank()];
                        merge(&mut publish, rule.publish);
                        merge(&mut broadcast, rule.broadcast.filter(|_| is_connect));
                        merge(&mut echo, rule.echo);
                        merge(&mut emits, rule.emits);
                        own_store.offer(rank, rule.store);
                        own_before.offer(rank, rule.schedule_before);
                        if let Some(react) = &rule.react {
                            own_react.get_or_insert_default().add(react);
                        }
                    },
                );
            });
            store = store.or(own_store.value());
            before = before.or(own_before.value());
            react = react.or(own_react);
        }
        MessageRights {
            publish,
            broadcast: broadcast == Some(true),
            echo: echo == Some(true),
            store: store.flatten(),
            emits: emits == Some(true),
            schedule_before: before,
            react: react.map_or(Reactions::None, Union::finish),
        }
    }

    /// What is allowed with a storage key.
    pub fn storage(&self, channel: &str, key: &str) -> StorageRights {
        let mut scratch = Scratch::default();
        let [mut get, mut set, mut observe, mut emits] = [None; 4];
        let (mut store, mut before) = (None, None);
        for claims in self.tokens() {
            let (mut own_store, mut own_before) = (Best::default(), Best::default());
            claims.of_channel(channel, &mut scratch, |above, scratch| {
                matching(
                    &above.storage,
                    |it| &it.pattern,
                    key,
                    scratch,
                    |rule: &StorageRule| {
                        let rank = [above.pattern.rank(), rule.pattern.rank()];
                        merge(&mut get, rule.get);
                        merge(&mut set, rule.set);
                        merge(&mut observe, rule.observe);
                        merge(&mut emits, rule.emits);
                        own_store.offer(rank, rule.store);
                        own_before.offer(rank, rule.schedule_before);
                    },
                );
            });
            store = store.or(own_store.value());
            before = before.or(own_before.value());
        }
        StorageRights {
            get: get == Some(true),
            set: set == Some(true),
            observe: observe == Some(true),
            store: store.unwrap_or(Keep::Forever),
            emits: emits == Some(true),
            schedule_before: before,
        }
    }

    /// Which storage keys a subscription observes.
    pub fn observes(&self, channel: &str) -> Observes {
        self.keys(channel, |it| it.observe)
    }

    /// Which storage keys may be read.
    pub fn gets(&self, channel: &str) -> Observes {
        self.keys(channel, |it| it.get)
    }

    fn keys(&self, channel: &str, of: fn(&StorageRule) -> Option<bool>) -> Observes {
        let mut scratch = Scratch::default();
        let mut chosen = Chosen::default();
        for claims in self.tokens() {
            claims.of_channel(channel, &mut scratch, |rule, _| {
                for rule in &rule.storage {
                    match of(rule) {
                        Some(true) => chosen.granted.push(rule.pattern.clone()),
                        Some(false) => chosen.denied.push(rule.pattern.clone()),
                        None => {}
                    }
                }
            });
        }
        if chosen.granted.is_empty() || chosen.denied.iter().any(Pattern::is_everything) {
            return Observes::Nothing;
        }
        if chosen.denied.is_empty() && chosen.granted.iter().any(Pattern::is_everything) {
            return Observes::Everything;
        }
        Observes::Some(Keys(Arc::new(chosen)))
    }

    /// The tokens, the one that goes first first.
    fn tokens(&self) -> impl Iterator<Item = &'a Claims> + use<'a> {
        self.subscribe.into_iter().chain([self.connect])
    }

    fn switch(&self, channel: &str, of: fn(&ChannelRule) -> Option<bool>) -> Option<bool> {
        let mut scratch = Scratch::default();
        let mut merged = None;
        for claims in self.tokens() {
            claims.of_channel(channel, &mut scratch, |rule, _| merge(&mut merged, of(rule)));
        }
        merged
    }
}

fn matching<'a, T>(
    rules: &'a [T],
    pattern: fn(&T) -> &Pattern,
    name: &str,
    scratch: &mut Scratch,
    mut each: impl FnMut(&'a T),
) {
    for rule in rules {
        if pattern(rule).matches(name, scratch) {
            each(rule);
        }
    }
}

/// An explicit `false` stays.
fn merge(merged: &mut Option<bool>, more: Option<bool>) {
    *merged = match (*merged, more) {
        (Some(false), _) | (_, Some(false)) => Some(false),
        (before, None) => before,
        (_, more) => more,
    };
}

/// What the most particular pattern says.
struct Best<'a, T>(Option<([Rank<'a>; 2], T)>);

impl<T> Default for Best<'_, T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'a, T> Best<'a, T> {
    fn offer(&mut self, rank: [Rank<'a>; 2], value: Option<T>) {
        let is_better = self.0.as_ref().is_none_or(|(best, _)| rank < *best);
        if let Some(value) = value.filter(|_| is_better) {
            self.0 = Some((rank, value));
        }
    }

    fn value(self) -> Option<T> {
        self.0.map(|(_, value)| value)
    }
}

/// The reactions of several patterns together.
#[derive(Default)]
struct Union<'a> {
    all: Option<bool>,
    some: Vec<&'a str>,
}

impl<'a> Union<'a> {
    fn add(&mut self, react: &'a React) {
        match react {
            React::All(is_granted) => merge(&mut self.all, Some(*is_granted)),
            React::Some(more) => self.some.extend(more.iter().map(|it| &**it)),
        }
    }

    fn finish(self) -> Reactions {
        match self.all {
            Some(true) => Reactions::All,
            None if !self.some.is_empty() => {
                Reactions::Some(self.some.into_iter().map(Box::from).collect())
            }
            _ => Reactions::None,
        }
    }
}

/// Keys of some patterns, but not of others.
#[derive(Default)]
struct Chosen {
    granted: Vec<Pattern>,
    denied: Vec<Pattern>,
}

impl AdmitKey for Chosen {
    fn admit(&self, key: &str) -> bool {
        let mut scratch = Scratch::default();
        let mut any = |all: &[Pattern]| all.iter().any(|it| it.matches(key, &mut scratch));
        any(&self.granted) && !any(&self.denied)
    }
}

#[cfg(test)]
#[path = "rights_tests.rs"]
mod tests;
