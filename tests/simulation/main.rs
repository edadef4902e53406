//! Whole servers on a simulated network, clock and schedule: many seeds, and checkers that watch order,
//! gaps, duplicates, presence, answers, memory and leaks.
//!
//! `RINGMAIN_SEEDS=1000` runs more seeds, `RINGMAIN_SEED=n` replays one.

mod broken;
mod peer;
mod universe;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use ringmain::config::Config;
use ringmain::reactor::sim::Faults;

use peer::{Publisher, Run, Subscriber};
use universe::{Sound, Universe, Wrap};

const CHANNELS: [&str; 5] = ["a", "b", "c", "presence-d", "presence-e"];

/// One run: what the peers did and heard.
struct Scene<'w> {
    universe: Universe,
    wrap: &'w dyn Wrap,
    subscribers: Vec<Subscriber>,
    publishers: Vec<Publisher>,
    /// By channel and publisher: how far it has sent, and how far it was answered.
    sent: BTreeMap<(String, u64), u64>,
    answered: BTreeMap<(String, u64), u64>,
    next_publisher: u64,
    next_user: u64,
}

fn config(seed: u64) -> Config {
    let mut config = Config::development();
    // Small bounds, so that they are met.
    config.limits.mailbox_slots = 4 << (seed % 3 * 2);
    config.limits.backlog_mails_high_water = 8 << (seed % 4);
    config.limits.outbox_bytes_high_water = if seed.is_multiple_of(2) { 16 << 10 } else { 1 << 20 };
    config.limits.connections_max = 1000;
    config.limits.spin_us = 0;
    config.apps[0].presence_members_max = 1000;
    config.apps[0].subscription_counts = seed.is_multiple_of(3);
    config
}

impl<'w> Scene<'w> {
    fn new(seed: u64, wrap: &'w dyn Wrap) -> Self {
        let faults = match seed % 3 {
            0 => Faults::none(),
            1 => Faults::slow(),
            _ => Faults::rough(),
        };
        let shards = 1 + (seed % 4) as u16;
        Self {
            universe: Universe::new(seed, faults, config(seed), shards, wrap),
            wrap,
            subscribers: Vec::new(),
            publishers: Vec::new(),
            sent: BTreeMap::new(),
            answered: BTreeMap::new(),
            next_publisher: 0,
            next_user: 0,
        }
    }

    fn draw(&self, n: usize) -> usize {
        self.universe.world.draw(n as u64) as usize
    }

    fn act(&mut self) {
        let _ = &self.wrap;
        match self.draw(100) {
            0..=3 if self.subscribers.len() < 24 => {
                // Some users come with a second tab.
                let user = if self.next_user > 0 && self.draw(3) == 0 {
                    self.next_user - 1
                } else {
                    self.next_user += 1;
                    self.next_user - 1
                };
                self.subscribers.push(Subscriber::new(&self.universe, format!("user-{user}")));
            }
            4 if self.publishers.iter().filter(|it| !it.gone).count() < 4 => {
                self.publishers.push(Publisher::new(&self.universe, self.next_publisher));
                self.next_publisher += 1;
            }
            5..=19 if !self.subscribers.is_empty() => {
                let (who, channel) = (self.draw(self.subscribers.len()), CHANNELS[self.draw(5)]);
                let subscriber = &mut self.subscribers[who];
                if !subscriber.has(channel) {
                    subscriber.wants.push_back(channel.to_owned());
                }
            }
            20..=24 if !self.subscribers.is_empty() => {
                let (who, channel) = (self.draw(self.subscribers.len()), CHANNELS[self.draw(5)]);
                self.subscribers[who].unsubscribe(channel);
            }
            25 if !self.subscribers.is_empty() => {
                let who = self.draw(self.subscribers.len());
                let how = self.draw(3);
                let subscriber = &mut self.subscribers[who];
                match how {
                    0 => subscriber.socket.reset(),
                    1 => subscriber.socket.finish(),
                    _ => {
                        subscriber.stalled = !subscriber.stalled;
                        if subscriber.stalled {
                            subscriber.socket.stall()
                        } else {
                            subscriber.socket.resume()
                        }
                    }
                }
                if how < 2 {
                    subscriber.gone = true;
                }
            }
            26..=60 if !self.publishers.is_empty() => {
                let (who, channel) = (self.draw(self.publishers.len()), CHANNELS[self.draw(5)]);
                let padding = if self.draw(8) == 0 { self.draw(3000) } else { self.draw(30) };
                let publisher = &mut self.publishers[who];
                if !publisher.gone && publisher.waiting.len() < 8 {
                    let count = self.sent.entry((channel.to_owned(), publisher.id)).or_default();
                    *count += 1;
                    publisher.publish(&self.universe, channel, *count, padding);
                }
            }
            61..=64 => {
                self.universe.world.advance();
            }
            _ => self.universe.tick(),
        }
        self.hear();
    }

    fn hear(&mut self) {
        for publisher in &mut self.publishers {
            for (channel, count) in publisher.hear() {
                self.answered.insert((channel, publisher.id), count);
            }
        }
        for subscriber in &mut self.subscribers {
            subscriber.hear(&self.sent);
            subscriber.ask(&self.universe.app, &self.answered);
        }
        let bounds = self.universe.config.limits.outbox_bytes_high_water + (64 << 10);
        let peak = self.universe.outbox_bytes_peak();
        assert!(peak <= bounds * (self.subscribers.len() + 8), "outboxes hold {peak} bytes");
    }

    /// Lets everything that is under way arrive.
    fn come_to_rest(&mut self) {
        self.universe.world.set_faults(Faults::none());
        for subscriber in &mut self.subscribers {
            if subscriber.stalled {
                subscriber.stalled = false;
                subscriber.socket.resume();
            }
        }
        for _ in 0..60 {
            self.universe.pass(Duration::from_millis(500));
            self.hear();
        }
    }

    fn check_runs(&self) {
        for (who, subscriber) in self.subscribers.iter().enumerate() {
            for (channel, runs) in &subscriber.runs {
                let mut heard = BTreeMap::new();
                for run in runs {
                    check_run(
                        who,
                        subscriber.gone,
                        channel,
                        run,
                        &self.answered,
                        &self.sent,
                        &mut heard,
                    );
                }
            }
        }
        self.check_one_order();
    }

    /// Two subscribers never hear two events in different orders.
    fn check_one_order(&self) {
        for channel in CHANNELS {
            let mut after: BTreeMap<(u64, u64), BTreeSet<(u64, u64)>> = BTreeMap::new();
            for subscriber in &self.subscribers {
                for run in subscriber.runs.get(channel).into_iter().flatten() {
                    for pair in run.events.windows(2) {
                        after.entry(pair[0]).or_default().insert(pair[1]);
                    }
                }
            }
            // Kahn's algorithm: what cannot be put in one order has a cycle.
            let mut before: BTreeMap<(u64, u64), usize> = BTreeMap::new();
            for (event, followers) in &after {
                before.entry(*event).or_default();
                for follower in followers {
                    *before.entry(*follower).or_default() += 1;
                }
            }
            let total = before.len();
            let mut free: Vec<_> =
                before.iter().filter(|(_, n)| **n == 0).map(|(event, _)| *event).collect();
            let mut placed = 0;
            while let Some(event) = free.pop() {
                placed += 1;
                for follower in after.get(&event).into_iter().flatten() {
                    let n = before.get_mut(follower).expect("counted above");
                    *n -= 1;
                    if *n == 0 {
                        free.push(*follower);
                    }
                }
            }
            assert_eq!(placed, total, "{channel}: subscribers heard events in different orders");
        }
    }

    /// Presence is what a plain model says, for those who ask and for every member's own account.
    fn check_presence(&mut self) {
        let mut asker = Publisher::new(&self.universe, u64::MAX);
        for channel in ["presence-d", "presence-e"] {
            let mut model = BTreeSet::new();
            for subscriber in self.subscribers.iter().filter(|subscriber| !subscriber.gone) {
                if subscriber.has(channel) {
                    model.insert(subscriber.user.clone());
                }
            }
            asker.ask_users(&self.universe, channel);
            for _ in 0..20 {
                self.universe.pass(Duration::from_millis(100));
                asker.hear();
            }
            let (status, body) = asker.answers.pop_front().expect("an answer");
            assert_eq!(status, 200, "{body}");
            let value: serde_json::Value = serde_json::from_str(&body).expect("JSON");
            let users = value["users"].as_array().expect("a list");
            let users: Vec<_> =
                users.iter().filter_map(|user| user["id"].as_str().map(str::to_owned)).collect();
            let told: BTreeSet<_> = users.iter().cloned().collect();
            assert_eq!(told.len(), users.len(), "{channel}: a user is listed twice");
            assert_eq!(told, model, "{channel}: the server's members");
            for subscriber in self.subscribers.iter().filter(|subscriber| !subscriber.gone) {
                let Some(run) = subscriber.runs.get(channel).and_then(|runs| runs.last()) else {
                    continue;
                };
                if run.confirmed && !run.ended {
                    let own: BTreeSet<_> = run.members.iter().cloned().collect();
                    assert_eq!(
                        own, model,
                        "{channel}: the members as {} knows them",
                        subscriber.user
                    );
                }
            }
        }
        asker.socket.finish();
    }

    fn check_nothing_is_left(&mut self) {
        for subscriber in &self.subscribers {
            subscriber.socket.reset();
        }
        for publisher in &self.publishers {
            publisher.socket.reset();
        }
        // Past every time-out and every kept count.
        self.universe.pass(Duration::from_secs(200));
        assert_eq!(self.universe.held(), Default::default(), "after the peers left");
    }
}

/// One subscription: a gap-free, duplicate-free run of every publisher's events from the attach point.
fn check_run(
    who: usize,
    gone: bool,
    channel: &str,
    run: &Run,
    answered: &BTreeMap<(String, u64), u64>,
    sent: &BTreeMap<(String, u64), u64>,
    heard: &mut BTreeMap<u64, u64>,
) {
    let mut next: BTreeMap<u64, u64> = BTreeMap::new();
    for &(publisher, count) in &run.events {
        let sent = sent.get(&(channel.to_owned(), publisher)).copied().unwrap_or_default();
        assert!(count <= sent, "subscriber {who} heard {channel} {publisher}:{count}, never sent");
        match next.insert(publisher, count + 1) {
            Some(expected) => assert_eq!(
                count, expected,
                "subscriber {who} on {channel}: publisher {publisher} skipped or repeated"
            ),
            None => {
                let answered = run.answered_at_ask.get(&publisher).copied().unwrap_or_default();
                assert!(
                    count > answered,
                    "subscriber {who} on {channel}: {publisher}:{count} is from before it asked"
                );
                let sent = run.sent_at_confirm.get(&publisher).copied().unwrap_or_default();
                assert!(
                    count <= sent + 1,
                    "subscriber {who} on {channel}: the first of publisher {publisher} is {count}, {sent} was sent when it attached"
                );
                assert!(
                    heard.get(&publisher).is_none_or(|before| count > *before),
                    "heard again after a break"
                );
            }
        }
    }
    for (publisher, next) in &next {
        heard.insert(*publisher, next - 1);
    }
    if run.confirmed && !run.ended && !gone {
        for ((name, publisher), answered) in answered {
            let attached_after = run.sent_at_confirm.get(publisher).copied().unwrap_or_default();
            if name == channel && *answered > attached_after {
                let heard = next.get(publisher).map_or(0, |next| next - 1);
                assert!(
                    heard >= *answered,
                    "subscriber {who} on {channel}: {publisher}:{answered} was acknowledged, {heard} arrived"
                );
            }
        }
    }
}

fn run(seed: u64, wrap: &dyn Wrap) {
    let mut scene = Scene::new(seed, wrap);
    for _ in 0..1500 {
        scene.act();
    }
    scene.come_to_rest();
    scene.check_runs();
    scene.check_presence();
    scene.check_nothing_is_left();
}

/// Runs a seed; what went wrong, if anything did.
fn verdict(seed: u64, wrap: &dyn Wrap) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(|| run(seed, wrap))).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("panicked").to_owned()
    })
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn every_seed_keeps_every_promise() {
    if let Some(seed) = variable("RINGMAIN_SEED") {
        return run(seed, &Sound);
    }
    for seed in 0..variable("RINGMAIN_SEEDS").unwrap_or(60) {
        if let Err(why) = verdict(seed, &Sound) {
            panic!(
                "seed {seed}: {why}\nreplay: RINGMAIN_SEED={seed} cargo test --test simulation every_seed"
            );
        }
    }
}

#[test]
fn a_seed_runs_the_same_way_twice() {
    let heard = |seed| {
        let mut scene = Scene::new(seed, &Sound);
        for _ in 0..800 {
            scene.act();
        }
        scene.come_to_rest();
        scene
            .subscribers
            .iter()
            .map(|it| (it.socket_id.clone(), format!("{:?}", it.runs)))
            .collect::<Vec<_>>()
    };
    for seed in 0..4 {
        assert_eq!(heard(seed), heard(seed), "seed {seed}");
    }
}

#[test]
fn a_drain_ends_every_connection_with_words() {
    for seed in 0..20 {
        let mut scene = Scene::new(seed * 3, &Sound);
        for _ in 0..600 {
            scene.act();
        }
        scene.come_to_rest();
        scene.universe.drain();
        for _ in 0..30 {
            scene.universe.pass(Duration::from_millis(500));
            scene.hear();
        }
        assert!(scene.universe.is_done(), "seed {seed}: some shard runs on");
        assert!(
            scene.subscribers.iter().all(|subscriber| subscriber.gone),
            "seed {seed}: someone was not told"
        );
    }
}

/// The checkers catch what they are for: each broken variant fails within a few seeds.
#[test]
fn broken_variants_are_caught() {
    // Their panics are wanted; the lines would only drown real ones.
    std::panic::set_hook(Box::new(|_| {}));
    let variants: [(&str, &dyn Wrap, &[&str]); 4] = [
        (
            "a driver that loses a frame",
            &broken::LosesFrames::default(),
            &["skipped or repeated", "arrived", "unseen", "never", "members"],
        ),
        (
            "a driver that sends a frame twice",
            &broken::RepeatsFrames::default(),
            &["skipped or repeated", "twice", "unseen"],
        ),
        (
            "a session that confirms before the home did",
            &broken::ConfirmsEarly,
            &["attached", "arrived", "confirmed", "members", "before it asked"],
        ),
        ("a session that never unsubscribes", &broken::NeverUnsubscribes, &["members", "joined"]),
    ];
    let mut missed = Vec::new();
    for (name, wrap, words) in variants {
        let caught = (0..40).find_map(|seed| verdict(seed, wrap).err());
        match caught {
            Some(why) if words.iter().any(|word| why.contains(word)) => {}
            Some(why) => missed.push(format!("{name}: caught for another reason: {why}")),
            None => missed.push(format!("{name}: not caught")),
        }
    }
    let _ = std::panic::take_hook();
    assert!(missed.is_empty(), "{missed:#?}");
}
