//! The client of Redis against a real one.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use ringmain::auth::upstream::{FeedOrder, Redis as Settings};
use ringmain::config::Secret;
use ringmain::outbound::redis::{Event, Feed, Place};

use super::database::runtime;
use super::{Redis, START_MAX, wait_until};

/// A feed and the runtime that polls it.
struct Listener {
    runtime: tokio::runtime::Runtime,
    feed: Feed,
}

fn settings(url: String) -> Settings {
    Settings {
        url: Secret(url),
        sentinels: Vec::new(),
        sentinel_master: String::new(),
        sentinel_user: String::new(),
        sentinel_password: None,
    }
}

fn names(names: &[&str]) -> Vec<Arc<str>> {
    names.iter().map(|it| Arc::from(*it)).collect()
}

impl Listener {
    fn new(settings: &Settings) -> Self {
        let runtime = runtime();
        let place = Place::new(settings).expect("the address is one");
        let feed = runtime.block_on(async { Feed::new(place) });
        Self { runtime, feed }
    }

    /// The next thing that happens, but messages.
    fn event(&mut self) -> Event {
        loop {
            match self.poll(true) {
                Some(Event::Ready) => self.feed.messages(100, |_, _| {}),
                Some(event) => return event,
                None => panic!("nothing happened"),
            }
        }
    }

    fn poll(&mut self, may_read: bool) -> Option<Event> {
        let feed = &mut self.feed;
        let next = async {
            let next = poll_fn(|context| feed.poll(context, may_read));
            tokio::time::timeout(START_MAX, next).await
        };
        self.runtime.block_on(next).ok()
    }

    /// The next messages, so many.
    fn messages(&mut self, wanted: usize) -> Vec<(String, String)> {
        let mut all = Vec::new();
        while all.len() < wanted {
            match self.poll(true) {
                Some(Event::Ready) => self.feed.messages(7, |channel, payload| {
                    all.push((channel.to_owned(), String::from_utf8_lossy(payload).into_owned()));
                }),
                other => panic!("no message: {other:?}"),
            }
        }
        all
    }

    /// Does what was ordered until that is so.
    fn until(&mut self, what: &str, mut is_so: impl FnMut() -> bool) {
        wait_until(what, || {
            let feed = &mut self.feed;
            let turn = async {
                let turn = poll_fn(|context| feed.poll(context, true));
                tokio::time::timeout(Duration::from_millis(1), turn).await
            };
            if let Ok(Event::Ready) = self.runtime.block_on(turn) {
                self.feed.messages(100, |channel, _| panic!("a message on {channel}"));
            }
            is_so()
        });
    }
}

fn pair(channel: &str, payload: &str) -> (String, String) {
    (channel.to_owned(), payload.to_owned())
}

#[test]
fn channels_are_heard_and_keys_are_set_before() {
    let redis = Redis::with(&["--requirepass", "a secret"]);
    let url = redis.url().replace(' ', "%20");
    let by_socket = format!("unix://:a%20secret@{}?db=0", redis.socket().display());
    for url in [url, by_socket] {
        let mut listener = Listener::new(&settings(url));
        // What is ordered before there is a link is in force when there is one.
        listener.feed.order(FeedOrder::Touch(names(&["subscribed:a"]), 1080));
        listener.feed.order(FeedOrder::Subscribe(names(&["a", "b"])));
        listener.feed.order(FeedOrder::Unsubscribe(names(&["b"]), Vec::new()));
        assert_eq!(listener.event(), Event::Linked);
        assert_eq!((redis.subscribers("a"), redis.subscribers("b")), (1, 0));
        assert!((1079..=1080).contains(&redis.ttl("subscribed:a")));
        redis.publish("a", "one");
        redis.publish("b", "nobody hears it");
        redis.publish("a", "two\r\n");
        assert_eq!(listener.messages(2), [pair("a", "one"), pair("a", "two\r\n")]);
        // A key is there before its channel is.
        let many: Vec<Arc<str>> = (0..5000).map(|n| format!("c{n}").into()).collect();
        let keys = many.iter().map(|it| format!("subscribed:{it}").into()).collect();
        listener.feed.order(FeedOrder::Touch(keys, 100));
        listener.feed.order(FeedOrder::Subscribe(many));
        listener.until("the last subscription", || {
            let is_there = redis.subscribers("c4999") == 1;
            assert!(!is_there || redis.ttl("subscribed:c4999") > 0);
            is_there
        });
        listener.feed.order(FeedOrder::Unsubscribe(names(&["a"]), Vec::new()));
        listener.until("the subscription's end", || redis.subscribers("a") == 0);
        drop(listener);
        redis.say(&["FLUSHALL"]);
    }
}

#[test]
fn a_redis_that_was_lost_gets_every_order_again() {
    let mut redis = Redis::start();
    let mut listener = Listener::new(&settings(redis.url()));
    listener.feed.order(FeedOrder::Touch(names(&["k"]), 500));
    listener.feed.order(FeedOrder::Subscribe(names(&["a", "gone"])));
    assert_eq!(listener.event(), Event::Linked);
    redis.stop();
    assert!(matches!(listener.event(), Event::Unlinked(_)));
    listener.feed.order(FeedOrder::Unsubscribe(names(&["gone"]), Vec::new()));
    listener.feed.order(FeedOrder::Subscribe(names(&["new"])));
    redis.start_again();
    assert_eq!(listener.event(), Event::Linked, "the loss was told once");
    assert!((400..=500).contains(&redis.ttl("k")));
    let subscribers = ["a", "new", "gone"].map(|it| redis.subscribers(it));
    assert_eq!(subscribers, [1, 1, 0]);
    // One that stands still is lost as well, and its connections are ended.
    redis.pause();
    let why = match listener.event() {
        Event::Unlinked(why) => why,
        other => panic!("{other:?}"),
    };
    assert_eq!(why, "it gives no sign of life");
    redis.go_on();
    assert_eq!(listener.event(), Event::Linked);
    // A replica takes no keys: it is not the one to talk to.
    redis.say(&["REPLICAOF", "127.0.0.1", "1"]);
    listener.feed.order(FeedOrder::Touch(names(&["k"]), 500));
    assert!(matches!(listener.event(), Event::Unlinked(why) if why.contains("READONLY")));
    redis.say(&["REPLICAOF", "NO", "ONE"]);
    assert_eq!(listener.event(), Event::Linked);
}

#[test]
fn what_nobody_reads_stays_where_it_is() {
    let redis = Redis::start();
    let mut listener = Listener::new(&settings(redis.url()));
    listener.feed.order(FeedOrder::Subscribe(names(&["a"])));
    assert_eq!(listener.event(), Event::Linked);
    let mut talk = redis.connect();
    let payload = "x".repeat(100_000);
    for n in 0..100 {
        talk.say(&["PUBLISH", "a", &format!("{n}{payload}")]);
    }
    let closed = async {
        let feed = &mut listener.feed;
        let turn = poll_fn(|context| feed.poll(context, false));
        tokio::time::timeout(Duration::from_millis(100), turn).await
    };
    assert!(listener.runtime.block_on(closed).is_err(), "nothing is read");
    let all = listener.messages(100);
    assert!(all.iter().enumerate().all(|(n, it)| it.1.starts_with(&format!("{n}x"))));
}

#[test]
fn a_password_that_is_wrong_and_a_port_without_a_redis_are_told_once() {
    let redis = Redis::with(&["--requirepass", "secret"]);
    for (url, expected) in [
        (redis.url().replace("secret", "another"), "WRONGPASS"),
        (format!("redis://127.0.0.1:{}", redis.port), "NOAUTH"),
        (format!("redis://127.0.0.1:{}", super::free_port()), "refused"),
    ] {
        let mut listener = Listener::new(&settings(url));
        let told = listener.event();
        assert!(matches!(&told, Event::Unlinked(why) if why.contains(expected)), "{told:?}");
    }
}

#[test]
fn a_password_for_a_redis_that_has_none_is_no_mistake() {
    let redis = Redis::start();
    let mut listener =
        Listener::new(&settings(format!("redis://:secret@127.0.0.1:{}", redis.port)));
    assert!(matches!(listener.event(), Event::Linked));
}

#[test]
fn sentinels_say_who_is_the_master() {
    let master = Redis::start();
    let sentinel = Redis::sentinel(&master, "main");
    let nobody = super::free_port();
    let by_sentinels = |name: &str| Settings {
        sentinels: vec![format!("127.0.0.1:{nobody}"), format!("127.0.0.1:{}", sentinel.port)],
        sentinel_master: name.to_owned(),
        ..settings("redis://ignored.invalid/0".to_owned())
    };
    let mut listener = Listener::new(&by_sentinels("main"));
    listener.feed.order(FeedOrder::Subscribe(names(&["a"])));
    assert_eq!(listener.event(), Event::Linked);
    assert_eq!(master.subscribers("a"), 1);
    let told = Listener::new(&by_sentinels("other")).event();
    let expected = "the sentinels know no master of that name";
    assert_eq!(told, Event::Unlinked(expected.to_owned()));
    // A failover: a replica becomes the master, the old one is gone.
    let replica = Redis::with(&["--replicaof", "127.0.0.1", &master.port.to_string()]);
    wait_until("the sentinel to know the replica", || {
        let known = sentinel.say(&["SENTINEL", "REPLICAS", "main"]).texts();
        let state = known.iter().skip_while(|it| *it != "master-link-status").nth(1);
        state.is_some_and(|it| it == "ok")
    });
    wait_until("the failover to begin", || {
        let said = sentinel.say(&["SENTINEL", "FAILOVER", "main"]);
        said.texts() == ["OK"]
    });
    assert!(matches!(listener.event(), Event::Unlinked(_)));
    assert_eq!(listener.event(), Event::Linked);
    assert_eq!(replica.subscribers("a"), 1);
}
