//! Which of upstream's channels are held by how many, and when their keys are to be touched again.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::auth::upstream::FeedOrder;
use crate::base::time::{Millis, Nanos};
use crate::dialects::upstream::FollowerOutput;

/// Mastodon publishes to home timelines and lists only while such a key says that somebody listens. Source: Mastodon's
/// `FeedManager` and streaming server.
const KEY: &str = "subscribed:";
/// For how long a key says so.
const KEY_SECONDS: u32 = 1080;
/// How often it is said again.
const TOUCH_EVERY: Millis = Millis(360_000);
/// Keys in one order.
const KEYS_PER_ORDER_MAX: usize = 500;

/// A channel that is held.
#[derive(Debug)]
struct Held {
    /// By how many.
    holders: u64,
    /// In full.
    full: Arc<str>,
    /// When its key is to be touched; none: it has none.
    due: Option<Nanos>,
}

/// The channels that are held.
#[derive(Debug)]
pub struct Channels {
    /// In front of every channel and key.
    prefix: String,
    held: HashMap<Arc<str>, Held>,
    /// Those with keys, by when these are to be touched.
    due: BTreeSet<(Nanos, Arc<str>)>,
}

impl Channels {
    /// None is held; `namespace` is Mastodon's `REDIS_NAMESPACE`.
    pub fn new(namespace: &str) -> Self {
        let prefix = if namespace.is_empty() { String::new() } else { format!("{namespace}:") };
        Self { prefix, held: HashMap::new(), due: BTreeSet::new() }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// The channel's name, shared with whoever holds it.
    pub fn shared(&self, channel: &str) -> Arc<str> {
        self.held.get_key_value(channel).map_or_else(|| channel.into(), |(name, _)| name.clone())
    }

    /// Whether somebody holds the channel, by upstream's name.
    pub fn is_held(&self, channel: &str) -> bool {
        self.held.contains_key(channel)
    }

    /// Upstream's name of a channel that came in full; none: it is of another namespace.
    pub fn name<'a>(&self, full: &'a str) -> Option<&'a str> {
        full.strip_prefix(&*self.prefix)
    }

    /// These are held by one more each; `with_key`: their keys say so.
    pub fn hold(
        &mut self,
        channels: &[Arc<str>],
        with_key: bool,
        now: Nanos,
        out: &mut Vec<FollowerOutput>,
    ) {
        let (mut keys, mut new) = (Vec::new(), Vec::new());
        for channel in channels {
            let held = match self.held.entry(channel.clone()) {
                Entry::Occupied(held) => held.into_mut(),
                Entry::Vacant(free) => {
                    let full: Arc<str> = if self.prefix.is_empty() {
                        channel.clone()
                    } else {
                        format!("{}{channel}", self.prefix).into()
                    };
                    new.push(full.clone());
                    free.insert(Held { holders: 0, full, due: None })
                }
            };
            held.holders += 1;
            if with_key && held.due.is_none() {
                held.due = Some(now + TOUCH_EVERY);
                self.due.insert((now + TOUCH_EVERY, channel.clone()));
                keys.push(key(&self.prefix, channel));
            }
        }
        // The key comes first: without it nothing is published that a subscription could miss.
        touch(keys, out);
        if !new.is_empty() {
            out.push(FollowerOutput::Feed(FeedOrder::Subscribe(new)));
        }
    }

    /// These are held by one less each.
    ///
    /// # Panics
    /// If one is not held.
    pub fn release(
        &mut self,
        channels: impl IntoIterator<Item = Arc<str>>,
        out: &mut Vec<FollowerOutput>,
    ) {
        let (mut over, mut keys) = (Vec::new(), Vec::new());
        for channel in channels {
            let held = self.held.get_mut(&channel).expect("what is released was held");
            held.holders -= 1;
            if held.holders > 0 {
                continue;
            }
            if let Some(held) = self.held.remove(&channel) {
                if let Some(due) = held.due {
                    keys.push(key(&self.prefix, &channel));
                    self.due.remove(&(due, channel));
                }
                over.push(held.full);
            }
        }
        if !over.is_empty() {
            out.push(FollowerOutput::Feed(FeedOrder::Unsubscribe(over, keys)));
        }
    }

    /// When a key is to be touched.
    pub fn due(&self) -> Option<Nanos> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Touches the keys whose time has come.
    pub fn drive(&mut self, now: Nanos, out: &mut Vec<FollowerOutput>) {
        self.touch_until(now, now, out);
    }

    /// Touches them all: the server that had them was lost.
    pub fn touch_all(&mut self, now: Nanos, out: &mut Vec<FollowerOutput>) {
        self.touch_until(Nanos(u64::MAX), now, out);
    }

    fn touch_until(&mut self, until: Nanos, now: Nanos, out: &mut Vec<FollowerOutput>) {
        // Everything after `until` stays; what is touched goes behind all of it.
        let later = self.due.split_off(&(Nanos(until.0.saturating_add(1)), Arc::from("")));
        let over = std::mem::replace(&mut self.due, later);
        let mut keys = Vec::with_capacity(over.len());
        for (_, channel) in over {
            keys.push(key(&self.prefix, &channel));
            if let Some(held) = self.held.get_mut(&channel) {
                held.due = Some(now + TOUCH_EVERY);
            }
            self.due.insert((now + TOUCH_EVERY, channel));
        }
        touch(keys, out);
    }
}

fn key(prefix: &str, channel: &str) -> Arc<str> {
    format!("{prefix}{KEY}{channel}").into()
}

fn touch(mut keys: Vec<Arc<str>>, out: &mut Vec<FollowerOutput>) {
    while !keys.is_empty() {
        let rest = keys.split_off(keys.len().min(KEYS_PER_ORDER_MAX));
        out.push(FollowerOutput::Feed(FeedOrder::Touch(keys, KEY_SECONDS)));
        keys = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orders(out: &mut Vec<FollowerOutput>) -> Vec<String> {
        let order = |it| match it {
            FollowerOutput::Feed(FeedOrder::Subscribe(it)) => format!("+ {}", it.join(" ")),
            FollowerOutput::Feed(FeedOrder::Unsubscribe(it, _)) => format!("- {}", it.join(" ")),
            FollowerOutput::Feed(FeedOrder::Touch(it, s)) => format!("{s} {}", it.join(" ")),
            other => panic!("{other:?}"),
        };
        out.drain(..).map(order).collect()
    }

    fn names(names: &[&str]) -> Vec<Arc<str>> {
        names.iter().map(|it| Arc::from(*it)).collect()
    }

    #[test]
    fn a_channel_is_subscribed_once_and_its_key_is_first() {
        let mut channels = Channels::new("ns");
        let mut out = Vec::new();
        channels.hold(&names(&["a", "b"]), true, Nanos(0), &mut out);
        assert_eq!(orders(&mut out), ["1080 ns:subscribed:a ns:subscribed:b", "+ ns:a ns:b"]);
        channels.hold(&names(&["b", "c"]), true, Nanos(0), &mut out);
        assert_eq!(orders(&mut out), ["1080 ns:subscribed:c", "+ ns:c"]);
        channels.hold(&names(&["s"]), false, Nanos(0), &mut out);
        assert_eq!(orders(&mut out), ["+ ns:s"]);
        channels.release(names(&["a", "b"]), &mut out);
        assert_eq!(orders(&mut out), ["- ns:a"]);
        channels.release(names(&["b", "c", "s"]), &mut out);
        assert_eq!(orders(&mut out), ["- ns:b ns:c ns:s"]);
        assert_eq!((channels.len(), channels.due()), (0, None));
        assert_eq!((channels.name("ns:x"), channels.name("x")), (Some("x"), None));
    }

    #[test]
    fn keys_are_touched_every_six_minutes_and_when_the_server_is_back() {
        let mut channels = Channels::new("");
        let mut out = Vec::new();
        let at = |seconds: u64| Nanos(seconds * 1_000_000_000);
        channels.hold(&names(&["a"]), true, at(0), &mut out);
        channels.hold(&names(&["b"]), true, at(10), &mut out);
        channels.hold(&names(&["s"]), false, at(10), &mut out);
        out.clear();
        assert_eq!(channels.due(), Some(at(360)));
        channels.drive(at(359), &mut out);
        assert_eq!(orders(&mut out), [""; 0]);
        channels.drive(at(365), &mut out);
        assert_eq!(orders(&mut out), ["1080 subscribed:a"]);
        assert_eq!(channels.due(), Some(at(370)));
        channels.touch_all(at(366), &mut out);
        assert_eq!(orders(&mut out), ["1080 subscribed:b subscribed:a"]);
        assert_eq!(channels.due(), Some(at(726)));
        // Touched with the others in one order, up to a bound.
        let many: Vec<_> = (0..1001).map(|n| Arc::from(format!("c{n}"))).collect();
        channels.hold(&many, true, at(366), &mut out);
        assert_eq!(orders(&mut out).len(), 4);
    }
}
