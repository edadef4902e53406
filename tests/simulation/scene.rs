//! One run: what the peers do, drawn from the seed, and the bounds that hold at every step.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ringmain::base::time::Millis;
use ringmain::config::Config;
use ringmain::observe::{CloseReason, Counter, Gauge};
use ringmain::reactor::sim::Faults;

use crate::back_end::{Post, Publisher, Sloth, Unfinished};
use crate::peer::{Counts, Manner, Met, SENDERS, Subscriber, user_channel};
use crate::tell;
use crate::universe::{Sound, Universe, Wrap};

pub const CHANNELS: [&str; 6] = ["a", "b", "private-c", "cache-d", "presence-e", "presence-f"];

/// Members of the process that may be connected when the seed makes connections scarce.
const CONNECTIONS_SCARCE: u32 = 14;
const OUTBOX_SMALL: usize = 16 << 10;

/// One run: what the peers did and heard.
pub struct Scene {
    pub seed: u64,
    pub universe: Universe,
    pub subscribers: Vec<Subscriber>,
    pub publishers: Vec<Publisher>,
    pub sloths: Vec<Sloth>,
    /// By channel and publisher: how far it has sent, and how far it was answered.
    pub sent: Counts,
    pub answered: Counts,
    /// Channel, publisher, count, and the subscriber that must not hear it.
    pub excluded: BTreeSet<(String, u64, u64, usize)>,
    /// Users whose connections were ended by their app.
    pub terminated: BTreeSet<String>,
    pub drained: bool,
    /// The most mails that waited in backlogs at once.
    backlog_mails_peak: usize,
    next_publisher: u64,
    next_user: u64,
}

fn config(seed: u64) -> Config {
    let mut config = Config::development();
    // Small bounds, so that they are met.
    config.limits.mailbox_slots = 4 << (seed % 3 * 2);
    config.limits.backlog_mails_high_water = 8 << (seed % 4);
    config.limits.outbox_bytes_high_water =
        if seed.is_multiple_of(2) { OUTBOX_SMALL } else { 1 << 20 };
    config.limits.connections_max = if seed % 5 == 4 { CONNECTIONS_SCARCE } else { 1000 };
    config.limits.spin_us = 0;
    // Longer than a run, in which the clock may jump by half an hour when nobody is there.
    config.pusher.cache_ttl = Millis(24 * 3_600_000);
    config.websocket.deflate_bytes_min = 64;
    config.pusher.activity_timeout = Millis(20_000);
    config.pusher.pong_timeout = Millis(20_000);
    config.apps[0].presence_members_max = 1000;
    config.apps[0].subscription_counts = seed.is_multiple_of(3);
    config.apps[0].client_events_per_second_max = if seed % 4 == 3 { 2 } else { 0 };
    config
}

impl Scene {
    pub fn new(seed: u64, wrap: &dyn Wrap) -> Self {
        let faults = match seed % 3 {
            0 => Faults::none(),
            1 => Faults::slow(),
            _ => Faults::rough(),
        };
        let shards = 1 + (seed % 4) as u16;
        Self::with(seed, Universe::new(seed, faults, config(seed), shards, wrap))
    }

    /// A run that says what happens itself, without faults and without small bounds.
    pub fn of_shards(shards: u16) -> Self {
        let mut config = Config::development();
        config.limits.spin_us = 0;
        config.apps[0].subscription_counts = false;
        Self::with(0, Universe::new(0, Faults::none(), config, shards, &Sound))
    }

    /// A subscriber of one channel that does nothing else.
    pub fn add_subscriber_of(&mut self, channel: &str) {
        let who = self.subscribers.len();
        let mut added = Subscriber::new(&self.universe, who, format!("user-{who}"), Manner::Usual);
        added.wants.push_back(channel.to_owned());
        self.subscribers.push(added);
    }

    /// Publishes one event, over one connection.
    pub fn publish_to(&mut self, channel: &str) {
        if self.publishers.is_empty() {
            self.publishers.push(Publisher::new(&self.universe, 0));
        }
        let count = self.sent.entry((channel.to_owned(), 0)).or_default();
        *count += 1;
        let counts = vec![(channel.to_owned(), *count)];
        let post = Post { counts, exclude: None, padding: 9 };
        self.publishers[0].publish(&self.universe, &[post]);
    }

    fn with(seed: u64, universe: Universe) -> Self {
        Self {
            seed,
            universe,
            backlog_mails_peak: 0,
            subscribers: Vec::new(),
            publishers: Vec::new(),
            sloths: Vec::new(),
            sent: Counts::new(),
            answered: Counts::new(),
            excluded: BTreeSet::new(),
            terminated: BTreeSet::new(),
            drained: false,
            next_publisher: 0,
            next_user: 0,
        }
    }

    /// Client events may be refused for their rate, so some may be missing.
    pub fn limits_senders(&self) -> bool {
        self.universe.config.apps[0].client_events_per_second_max > 0
    }

    /// Connections may break without anybody's fault.
    pub fn breaks(&self) -> bool {
        self.seed % 3 == 2
    }

    /// More peers may come than the process takes.
    pub fn is_scarce(&self) -> bool {
        self.universe.config.limits.connections_max == CONNECTIONS_SCARCE
    }

    fn draw(&self, n: usize) -> usize {
        self.universe.world.draw(n as u64) as usize
    }

    fn drawn_subscriber(&self) -> usize {
        self.draw(self.subscribers.len())
    }

    fn drawn_channel(&self) -> &'static str {
        CHANNELS[self.draw(CHANNELS.len())]
    }

    pub fn act(&mut self) {
        let nobody = self.subscribers.is_empty();
        match self.draw(100) {
            0..=3 if self.subscribers.len() < 24 => self.add_subscriber(),
            4 if self.publishers.iter().filter(|it| !it.gone).count() < 4 => {
                self.publishers.push(Publisher::new(&self.universe, self.next_publisher));
                self.next_publisher += 1;
            }
            5..=17 if !nobody => {
                let (who, channel) = (self.drawn_subscriber(), self.drawn_channel());
                let subscriber = &mut self.subscribers[who];
                if !subscriber.has(channel) {
                    subscriber.wants.push_back(channel.to_owned());
                }
            }
            18..=21 if !nobody => {
                let (who, channel) = (self.drawn_subscriber(), self.drawn_channel());
                self.subscribers[who].unsubscribe(channel);
            }
            22..=23 if !nobody => self.send_client_event(),
            24 if !nobody => self.trouble(),
            25..=58 if !self.publishers.is_empty() => self.publish(),
            59 if !self.publishers.is_empty() => self.ask_aside(),
            60 if self.draw(4) == 0 => self.universe.neglect_one(),
            60 if self.sloths.len() < 3 && self.draw(2) == 0 => {
                let what = [Unfinished::Head, Unfinished::Body, Unfinished::All][self.draw(3)];
                self.sloths.push(Sloth::new(&self.universe, what));
            }
            61..=64 => self.universe.advance(),
            _ => self.universe.tick(),
        }
        self.hear();
    }

    fn add_subscriber(&mut self) {
        // Some users come with a second tab.
        let user = if self.next_user > 0 && self.draw(3) == 0 {
            self.next_user - 1
        } else {
            self.next_user += 1;
            self.next_user - 1
        };
        let manner = match self.draw(10) {
            0 => Manner::Deaf,
            1 => Manner::Mute,
            _ => Manner::Usual,
        };
        let who = self.subscribers.len();
        let mut added = Subscriber::new(&self.universe, who, format!("user-{user}"), manner);
        if self.draw(2) == 0 {
            let watched = (0..self.draw(4)).map(|_| format!("user-{}", self.draw(8)));
            // Whoever watches themselves is not told of it.
            let watched: BTreeSet<_> = watched.filter(|it| *it != added.user).collect();
            added.signs_in = Some(watched.into_iter().collect());
        }
        self.subscribers.push(added);
    }

    fn send_client_event(&mut self) {
        let (who, channel) = (self.drawn_subscriber(), self.drawn_channel());
        let is_allowed = channel.starts_with("private-") || channel.starts_with("presence-");
        // Now and then too many at once for those who may send only so many.
        let burst = if self.draw(4) == 0 { 4 } else { 1 };
        let subscriber = &mut self.subscribers[who];
        if !is_allowed || !subscriber.stands(channel) {
            return;
        }
        for _ in 0..burst {
            let key = (channel.to_owned(), SENDERS + who as u64);
            let count = self.sent.entry(key).or_default();
            *count += 1;
            subscriber.client_event(channel, *count);
        }
    }

    fn trouble(&mut self) {
        let (who, how) = (self.drawn_subscriber(), self.draw(3));
        let subscriber = &mut self.subscribers[who];
        tell!(
            self.universe.world,
            "subscriber {who} {}",
            ["resets", "ends", "stalls or goes on"][how]
        );
        match how {
            0 => subscriber.socket.reset(),
            1 => subscriber.socket.finish(),
            _ if subscriber.manner == Manner::Deaf => {}
            _ if subscriber.stalled => subscriber.resume(),
            _ => subscriber.stall(),
        }
        if how < 2 {
            subscriber.gone = true;
        }
    }

    fn publish(&mut self) {
        let who = self.draw(self.publishers.len());
        if self.publishers[who].gone || self.publishers[who].waiting() >= 8 {
            return;
        }
        let events = if self.draw(6) == 0 { 2 + self.draw(3) } else { 1 };
        let mut posts: Vec<Post> = Vec::new();
        for _ in 0..events {
            let padding = if self.draw(8) == 0 { self.draw(6000) } else { self.draw(60) };
            let mut channels = BTreeSet::from([match self.draw(12) {
                0 => user_channel(&format!("user-{}", self.draw(8))),
                _ => self.drawn_channel().to_owned(),
            }]);
            // One event to two channels, but only by itself: a batch has one channel for each.
            if events == 1 && self.draw(8) == 0 {
                channels.insert(self.drawn_channel().to_owned());
            }
            let left_out = (self.draw(5) == 0 && !self.subscribers.is_empty())
                .then(|| self.drawn_subscriber())
                .filter(|it| self.subscribers[*it].socket_id.is_some());
            let id = self.publishers[who].id;
            let mut counts = Vec::new();
            for channel in channels {
                let count = self.sent.entry((channel.clone(), id)).or_default();
                *count += 1;
                if let Some(left_out) = left_out {
                    self.excluded.insert((channel.clone(), id, *count, left_out));
                }
                counts.push((channel, *count));
            }
            let exclude = left_out.and_then(|it| self.subscribers[it].socket_id.clone());
            posts.push(Post { counts, exclude, padding });
        }
        self.publishers[who].publish(&self.universe, &posts);
    }

    /// Requests whose answers differ, so that answers out of order are seen; among them the end of a user's
    /// connections.
    fn ask_aside(&mut self) {
        let (who, what) = (self.draw(self.publishers.len()), self.draw(8));
        let publisher = &mut self.publishers[who];
        if publisher.gone || publisher.waiting() >= 8 {
            return;
        }
        match what {
            0 => publisher.ask(&self.universe, "HEAD", "/nothing", 404),
            1 | 2 => publisher.ask(&self.universe, "GET", "/nothing", 404),
            3 => publisher.ask(&self.universe, "GET", "/apps/app-id/channels", 401),
            4 => publisher.ask(&self.universe, "POST", "/apps/app-id/events", 401),
            5 => publisher.ask(&self.universe, "POST", "/apps/app-id/events", 422),
            6 => publisher.ask(&self.universe, "GET", "/apps/app-id/channels", 200),
            _ => {
                let user = format!("user-{}", self.universe.world.draw(24));
                // A sign-in that is under way may come before the end or after it.
                let whom =
                    self.subscribers.iter().filter(|it| it.user == user && it.is_signed_in());
                let whom = whom.map(|it| it.who).collect();
                publisher.terminate(&self.universe, &user, whom);
                self.terminated.insert(user);
            }
        }
    }

    pub fn hear(&mut self) {
        for publisher in &mut self.publishers {
            for (channel, count) in publisher.hear() {
                self.answered.insert((channel, publisher.id), count);
            }
            for who in publisher.ended.drain(..) {
                self.subscribers[who].doomed = true;
            }
        }
        for subscriber in &mut self.subscribers {
            subscriber.hear(&self.sent);
            subscriber.ask(&self.universe.app, &self.answered);
        }
        let bounds = self.universe.config.limits.outbox_bytes_high_water + (64 << 10);
        let peak = self.universe.outbox_bytes_peak();
        assert!(peak <= bounds * (self.subscribers.len() + 8), "outboxes hold {peak} bytes");
        let held = self.universe.held();
        let limits = &self.universe.config.limits;
        let connections_max = limits.connections_max as usize + 64 * self.universe.shards();
        assert!(held.connections <= connections_max, "{} connections", held.connections);
        self.backlog_mails_peak = self.backlog_mails_peak.max(held.backlog_mails);
        assert_eq!(self.universe.metrics.total(Counter::SessionPanics), 0, "a session panicked");
    }

    /// Lets everything that is under way arrive, and every time-out of those who do nothing.
    pub fn come_to_rest(&mut self) {
        tell!(self.universe.world, "everyone comes to rest");
        self.universe.world.set_faults(Faults::none());
        for subscriber in &mut self.subscribers {
            match subscriber.manner {
                Manner::Deaf => subscriber.is_lost = subscriber.stalled,
                Manner::Mute => subscriber.is_lost = true,
                Manner::Usual => {}
            }
            if subscriber.stalled && subscriber.manner != Manner::Deaf {
                subscriber.resume();
            }
        }
        for second in 0..62 {
            self.universe.pass(Duration::from_secs(1));
            self.sloths.iter_mut().for_each(Sloth::dribble);
            self.hear();
            if second == 15 {
                // Slow consumers have been told, and given the time to take it, by now.
                self.check_slow_consumers();
            }
        }
        for subscriber in &mut self.subscribers {
            if subscriber.stalled {
                subscriber.resume();
            }
        }
        self.universe.pass(Duration::from_secs(5));
        // What is heard last may be answered, and the answer answered.
        for _ in 0..3 {
            self.hear();
            self.universe.pass(Duration::from_millis(50));
        }
        self.hear();
    }

    /// No outbox stays above its mark, whoever does not read.
    fn check_slow_consumers(&self) {
        let held = self.universe.held().outbox_bytes;
        let deaf = self.subscribers.iter().filter(|it| it.stalled).count();
        let most = self.universe.config.limits.outbox_bytes_high_water * deaf;
        assert!(held <= most, "{deaf} peers that do not read have {held} bytes in their outboxes");
    }

    /// Everyone leaves, and all time-outs pass.
    pub fn leave(&mut self) {
        for socket in self
            .subscribers
            .iter()
            .map(|it| &it.socket)
            .chain(self.publishers.iter().map(|it| &it.socket))
            .chain(self.sloths.iter().map(|it| &it.socket))
        {
            socket.reset();
        }
        // Kept events last a day.
        self.universe.pass(Duration::from_secs(25 * 3600));
    }

    /// What this run came across.
    pub fn exercised(&self) -> BTreeMap<&'static str, u64> {
        let sum = |of: fn(&Met) -> u64| self.subscribers.iter().map(|it| of(&it.met)).sum();
        let closed =
            |code| self.subscribers.iter().filter(|it| it.closed == Some(code)).count() as u64;
        let metrics = &self.universe.metrics;
        BTreeMap::from([
            ("events heard", sum(|it| it.events)),
            ("subscriptions confirmed", sum(|it| it.confirmed)),
            ("presence changes", sum(|it| it.presence_changes)),
            ("cached events", sum(|it| it.cache_hits)),
            ("cache misses", sum(|it| it.cache_misses)),
            ("client events heard", sum(|it| it.client_events)),
            ("client events refused for their rate", sum(|it| it.client_events_limited)),
            ("user events heard", sum(|it| it.user_events)),
            ("watchlist news", sum(|it| it.watchlists)),
            ("subscription counts", sum(|it| it.counts)),
            ("messages inflated", sum(|it| it.inflated)),
            ("messages deflated", sum(|it| it.deflated)),
            ("messages in fragments", sum(|it| it.fragmented)),
            ("pongs", self.subscribers.iter().map(|it| it.pongs).sum()),
            ("publishes left out a peer", self.excluded.len() as u64),
            ("requests answered", self.publishers.iter().map(|it| it.answered).sum()),
            ("told 4009, terminated", closed(4009)),
            ("told 4100, slow or too many", closed(4100)),
            ("told 4200, drained", closed(4200)),
            ("told 4201, silent", closed(4201)),
            ("slow consumers", metrics.total(Counter::SlowConsumers)),
            ("receive pauses", metrics.total(Counter::ReceivePauses)),
            ("mails spilled", metrics.total(Counter::MailSpills)),
            ("accepts failed", metrics.total(Counter::AcceptsFailed)),
            ("receives starved", metrics.total(Counter::ReceiveBuffersExhausted)),
            ("requests timed out", metrics.total(Counter::HttpRefused408)),
            ("connections broken", metrics.total_closed(CloseReason::Peer)),
            ("connections over the limit", metrics.total_closed(CloseReason::Overload)),
            ("gathered sends", metrics.total(Counter::SendsGathered)),
            ("backlog peak mails", self.backlog_mails_peak as u64),
            ("outbox peak bytes", metrics.total_gauge(Gauge::OutboxPeakBytes)),
        ])
    }
}
