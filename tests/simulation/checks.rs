//! What must be true of a run when everything has arrived.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ringmain::observe::{CloseReason, Counter, Gauge};

use crate::back_end::Publisher;
use crate::peer::{Manner, Run, SENDERS, Subscriber, user_channel};
use crate::scene::{CHANNELS, Scene};

impl Scene {
    /// Everything there is to check once a run has come to rest.
    pub fn check(&mut self) {
        self.check_runs();
        self.check_one_order();
        self.check_answers();
        self.check_endings();
        self.check_watchlists();
        self.check_presence();
    }

    pub fn check_runs(&self) {
        // Client events have no answer of their own; a sender that is still there has had them taken.
        let mut answered = self.answered.clone();
        for subscriber in self.subscribers.iter().filter(|it| !it.gone) {
            let id = SENDERS + subscriber.who as u64;
            let own = self.sent.iter().filter(|((_, publisher), _)| *publisher == id);
            answered.extend(own.map(|(key, count)| (key.clone(), *count)));
        }
        for subscriber in &self.subscribers {
            for (channel, runs) in &subscriber.runs {
                let mut heard = BTreeMap::new();
                for run in runs {
                    self.check_run(subscriber, channel, run, &answered, &mut heard);
                }
            }
        }
    }

    /// The first count above `count` that this subscriber should hear.
    fn next(&self, who: usize, channel: &str, publisher: u64, count: u64) -> u64 {
        let mut next = count + 1;
        while self.excluded.contains(&(channel.to_owned(), publisher, next, who)) {
            next += 1;
        }
        next
    }

    /// One subscription: a gap-free, duplicate-free run of every publisher's events from the attach point.
    fn check_run(
        &self,
        subscriber: &Subscriber,
        channel: &str,
        run: &Run,
        answered: &BTreeMap<(String, u64), u64>,
        heard: &mut BTreeMap<u64, u64>,
    ) {
        let (who, key) = (subscriber.who, |publisher| (channel.to_owned(), publisher));
        let mut last: BTreeMap<u64, u64> = BTreeMap::new();
        let mut missing: BTreeMap<u64, u64> = BTreeMap::new();
        for &(publisher, count) in &run.events {
            let sent = self.sent.get(&key(publisher)).copied().unwrap_or_default();
            assert!(
                count <= sent,
                "subscriber {who} heard {channel} {publisher}:{count}, never sent"
            );
            assert!(
                !self.excluded.contains(&(channel.to_owned(), publisher, count, who))
                    && publisher != SENDERS + who as u64,
                "subscriber {who} heard {channel} {publisher}:{count}, but was to be left out"
            );
            let is_lenient = publisher >= SENDERS && self.limits_senders();
            match last.insert(publisher, count) {
                Some(before) if is_lenient => {
                    assert!(
                        count > before,
                        "subscriber {who} on {channel}: {publisher} skipped or repeated"
                    );
                    *missing.entry(publisher).or_default() += count - before - 1;
                }
                Some(before) => assert_eq!(
                    count,
                    self.next(who, channel, publisher, before),
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
                        is_lenient || count <= self.next(who, channel, publisher, sent),
                        "subscriber {who} on {channel}: the first of publisher {publisher} is {count}, {sent} was sent when it attached"
                    );
                    assert!(
                        heard.get(&publisher).is_none_or(|before| count > *before),
                        "heard again after a break"
                    );
                }
            }
        }
        for (publisher, missing) in missing {
            let sender = &self.subscribers[(publisher - SENDERS) as usize];
            assert!(
                missing <= sender.met.client_events_limited || sender.gone,
                "subscriber {who} on {channel}: {missing} client events of {publisher} are missing"
            );
        }
        self.check_cached(who, channel, run, &last);
        heard.extend(&last);
        if !run.confirmed || run.ended || subscriber.gone {
            return;
        }
        for ((name, publisher), &answered) in answered {
            let attached_after = run.sent_at_confirm.get(publisher).copied().unwrap_or_default();
            let is_own = *publisher == SENDERS + who as u64;
            let is_lenient = *publisher >= SENDERS && self.limits_senders();
            if name != channel || is_own || is_lenient {
                continue;
            }
            // The last of the answered ones that were meant for this subscriber too.
            let mut due = answered;
            while self.excluded.contains(&(name.clone(), *publisher, due, who)) {
                due -= 1;
            }
            if due > attached_after {
                let heard = last.get(publisher).copied().unwrap_or_default();
                assert!(
                    heard >= due,
                    "subscriber {who} on {channel}: {publisher}:{due} was acknowledged, {heard} arrived"
                );
            }
        }
    }

    /// The kept event is no older than what was acknowledged before the ask, and what follows follows it.
    fn check_cached(&self, who: usize, channel: &str, run: &Run, last: &BTreeMap<u64, u64>) {
        if !channel.starts_with("cache-") {
            return assert_eq!(run.cached, None);
        }
        match run.cached {
            None => {
                assert!(last.is_empty(), "subscriber {who}: {channel} has no word of its cache")
            }
            Some(None) => assert!(
                run.answered_at_ask.is_empty(),
                "subscriber {who}: a miss, although {:?} were kept",
                run.answered_at_ask
            ),
            Some(Some((publisher, count))) => {
                let answered = run.answered_at_ask.get(&publisher).copied().unwrap_or_default();
                assert!(count >= answered, "subscriber {who}: {publisher}:{count} is not the last");
                let first = run.events.iter().find(|(it, _)| *it == publisher);
                if let Some((_, first)) = first {
                    assert_eq!(
                        *first,
                        self.next(who, channel, publisher, count),
                        "subscriber {who}: skipped or repeated after the kept event"
                    );
                }
            }
        }
    }

    /// Two subscribers never hear two events in different orders.
    pub fn check_one_order(&self) {
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

    /// Every ask was answered: requests, subscriptions, sign-ins, pings.
    fn check_answers(&mut self) {
        for publisher in self.publishers.iter().filter(|it| !it.gone) {
            assert_eq!(publisher.waiting(), 0, "publisher {} waits for answers", publisher.id);
        }
        for subscriber in self.subscribers.iter().filter(|it| !it.gone) {
            let who = subscriber.who;
            assert!(subscriber.socket_id.is_some(), "subscriber {who} was never greeted");
            assert_eq!(subscriber.pongs, subscriber.pings, "subscriber {who} misses pongs");
            for (channel, runs) in &subscriber.runs {
                let all = runs.iter().all(|run| run.confirmed);
                assert!(all, "subscriber {who}: {channel} was never confirmed");
            }
        }
        let breaks = self.breaks();
        for sloth in &mut self.sloths {
            sloth.check(breaks);
        }
    }

    /// Those who were to be ended were, and nobody else.
    fn check_endings(&self) {
        for subscriber in &self.subscribers {
            let who = subscriber.who;
            assert!(subscriber.gone || !subscriber.doomed, "subscriber {who} was not terminated");
            assert!(
                subscriber.gone || !subscriber.is_lost,
                "subscriber {who}, {:?}, is still there",
                subscriber.manner
            );
            let is_tardy = subscriber.was_stalled || !self.seed.is_multiple_of(3);
            match subscriber.closed {
                None | Some(1005) => {}
                Some(4009) => assert!(self.terminated.contains(&subscriber.user)),
                Some(4100) => assert!(self.is_scarce() || self.seed.is_multiple_of(2)),
                Some(4200) => assert!(self.drained),
                Some(4201) => assert!(is_tardy || subscriber.manner == Manner::Mute),
                Some(other) => panic!("subscriber {who} was closed with {other}"),
            }
            if let Some(head) = &subscriber.refused {
                assert!(self.drained || self.is_scarce(), "subscriber {who} was refused: {head}");
            }
        }
    }

    /// Whoever watches knows who is online.
    fn check_watchlists(&self) {
        let online: BTreeSet<_> = self
            .subscribers
            .iter()
            .filter(|it| it.stands(&user_channel(&it.user)))
            .map(|it| it.user.as_str())
            .collect();
        for subscriber in &self.subscribers {
            if subscriber.gone || !subscriber.is_signed_in() {
                continue;
            }
            for (user, is_online) in &subscriber.online {
                assert_eq!(
                    *is_online,
                    online.contains(user.as_str()),
                    "what subscriber {} believes of {user}",
                    subscriber.who
                );
            }
        }
    }

    /// Presence is what a plain model says, for those who ask and for every member's own account.
    fn check_presence(&mut self) {
        for channel in ["presence-e", "presence-f"] {
            let mut model = BTreeSet::new();
            for subscriber in self.subscribers.iter().filter(|it| it.stands(channel)) {
                model.insert(subscriber.user.clone());
            }
            let mut asker = Publisher::new(&self.universe, u64::MAX);
            let path = format!("/apps/app-id/channels/{channel}/users");
            asker.ask(&self.universe, "GET", &path, 200);
            for _ in 0..20 {
                self.universe.pass(Duration::from_millis(100));
                asker.hear();
            }
            asker.socket.finish();
            let (_, body) = asker.answers.pop_front().expect("an answer");
            let value: serde_json::Value = serde_json::from_str(&body).expect("JSON");
            let users = value["users"].as_array().expect("a list");
            let users: Vec<_> =
                users.iter().filter_map(|user| user["id"].as_str().map(str::to_owned)).collect();
            let told: BTreeSet<_> = users.iter().cloned().collect();
            assert_eq!(told.len(), users.len(), "{channel}: a user is listed twice");
            assert_eq!(told, model, "{channel}: the server's members");
            for subscriber in self.subscribers.iter().filter(|it| it.stands(channel)) {
                let run = subscriber.runs[channel].last().expect("it stands");
                let own: BTreeSet<_> = run.members.iter().cloned().collect();
                assert_eq!(own, model, "{channel}: the members as {} knows them", subscriber.user);
            }
        }
    }

    /// After everyone has left nothing is held, and the metrics say what the peers saw.
    pub fn check_nothing_is_left(&mut self) {
        self.leave();
        assert_eq!(self.universe.held(), Default::default(), "after the peers left");
        let metrics = &self.universe.metrics;
        for gauge in [
            Gauge::Connections,
            Gauge::Subscriptions,
            Gauge::Channels,
            Gauge::Members,
            Gauge::OutboxBytes,
            Gauge::BacklogUp,
            Gauge::BacklogDown,
        ] {
            assert_eq!(metrics.total_gauge(gauge), 0, "{gauge:?} after the peers left");
        }
        let total = |counter| metrics.total(counter);
        assert_eq!(total(Counter::SubscriptionsOpened), total(Counter::SubscriptionsClosed));
        let closed: u64 = CloseReason::ALL.iter().map(|reason| metrics.total_closed(*reason)).sum();
        assert_eq!(total(Counter::ConnectionsAccepted), closed, "closed connections");
        assert_eq!(metrics.total_closed(CloseReason::Failed), 0);
        let met = self.exercised();
        let most = |what: &str, counter| {
            let heard = met[what];
            assert!(
                heard <= total(counter),
                "{what}: {heard}, but {counter:?} is {}",
                total(counter)
            );
        };
        most("events heard", Counter::EventsDelivered);
        most("subscriptions confirmed", Counter::SubscriptionsOpened);
        most("client events refused for their rate", Counter::ClientEventsLimited);
        let answered: u64 = self.answered.values().sum();
        let sent: u64 = self.sent.values().sum();
        let published = total(Counter::EventsPublished);
        assert!(
            published >= answered.min(published)
                && published <= sent + self.terminated.len() as u64 * 100,
            "{published} events were published, {answered} answered, {sent} sent"
        );
        // Whoever was leaving already keeps that reason.
        assert!(
            total(Counter::SlowConsumers) >= metrics.total_closed(CloseReason::SlowConsumer),
            "slow consumers"
        );
    }
}
