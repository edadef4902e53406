//! In the place of Mastodon's streaming server: a real Redis, a real PostgreSQL, the real binary.

use std::collections::BTreeSet;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tungstenite::client::IntoClientRequest;
use tungstenite::{Message, WebSocket};

use crate::http::Tcp;
use crate::server::{APP, Directory, PATIENCE, Server, ringmain};
use crate::upstream::{Postgres, Redis, certificate, free_port, wait_until};

/// How long a peer that is to hear nothing, or not yet, listens.
const MOMENT: Duration = Duration::from_millis(100);

/// A site: Mastodon's servers, and ours beside them.
struct Site {
    server: Server,
    redis: Redis,
    postgres: Postgres,
}

impl Site {
    fn start() -> Self {
        Self::with("")
    }

    /// With further settings of the dialect.
    fn with(settings: &str) -> Self {
        let (redis, postgres) = (Redis::start(), Postgres::mastodon());
        let mut server = Server::start(&format!(
            "[mastodon]\napp = \"{}\"\nredis_url = \"{}\"\ndatabase_url = \"{}\"\n{settings}\n",
            APP.0,
            redis.url(),
            postgres.url(),
        ));
        server.listen_until(|line| line.contains("redis_connected"));
        server.listen_until(|line| line.contains("postgres_connected"));
        Self { server, redis, postgres }
    }

    /// Publishes an event as Mastodon does.
    fn publish(&self, channel: &str, event: &str, payload: &str) {
        publish(&self.redis, channel, event, payload);
    }

    /// A WebSocket of this token, which asks for `query`.
    fn open(&self, token: &str, query: &str) -> Peer {
        self.try_open(token, query).unwrap_or_else(|why| panic!("{token}: {why}"))
    }

    /// The same; fails with the reason that the server gives.
    fn try_open(&self, token: &str, query: &str) -> Result<Peer, String> {
        let stream = TcpStream::connect(self.server.address).expect("the server accepts");
        stream.set_nodelay(true).expect("a socket option");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
        let url =
            format!("ws://{}/api/v1/streaming?access_token={token}&{query}", self.server.address);
        let request = url.into_client_request().expect("an address");
        match tungstenite::client(request, stream) {
            Ok((socket, _)) => Ok(Peer { socket }),
            Err(tungstenite::HandshakeError::Failure(tungstenite::Error::Http(answer))) => {
                let why = answer.headers().get("x-error-message");
                let why = why.map_or("", |it| it.to_str().unwrap_or(""));
                Err(format!("{} {why}", answer.status().as_u16()))
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Waits until what is published on a channel comes to a peer.
    fn settle(&self, peer: &mut Peer, channel: &str) {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            self.publish(channel, "probe", &format!("\"{number}\""));
            if let Some(heard) = peer.hear(MOMENT) {
                assert_eq!(heard["event"], "probe", "{heard}");
                // What was published before it is heard before it.
                self.publish(channel, "probe", "\"last\"");
                while peer.hear(PATIENCE).expect("it is heard")["payload"] != "last" {}
                return;
            }
        }
        panic!("nothing on {channel} is heard");
    }

    /// An event stream of this token, of HTTP/1.0: nothing is wrapped. After its head.
    fn event_stream(&self, path: &str, token: &str) -> Tcp {
        let mut tcp = self.server.connect();
        tcp.send(
            format!(
                "GET /api/v1/streaming/{path} HTTP/1.0\r\nAuthorization: Bearer {token}\r\n\r\n"
            )
            .as_bytes(),
        );
        let head = tcp.head();
        assert!(head.starts_with("HTTP/1.1 200") || head.starts_with("HTTP/1.0 200"), "{head}");
        assert_eq!(tcp.take(3), b":)\n");
        tcp
    }

    fn fetch(&self, path: &str, token: &str) -> (u16, String) {
        let mut tcp = self.server.connect();
        tcp.send(
            format!("GET /api/v1/streaming/{path} HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n")
                .as_bytes(),
        );
        let answer = tcp.answer();
        (answer.status, answer.text())
    }
}

fn publish(redis: &Redis, channel: &str, event: &str, payload: &str) {
    redis.publish(channel, &format!(r#"{{"event":"{event}","payload":{payload}}}"#));
}

/// A WebSocket.
struct Peer {
    socket: WebSocket<TcpStream>,
}

impl Peer {
    fn say(&mut self, text: &str) {
        self.socket.send(Message::text(text)).expect("the server reads");
    }

    /// The next message within that time.
    fn hear(&mut self, time: Duration) -> Option<Value> {
        let until = Instant::now() + time;
        loop {
            let left = until.checked_duration_since(Instant::now())?;
            let left = left.max(Duration::from_millis(1));
            self.socket.get_ref().set_read_timeout(Some(left)).expect("a socket option");
            match self.socket.read() {
                Ok(Message::Text(text)) => {
                    return Some(serde_json::from_str(&text).expect("messages are JSON"));
                }
                Ok(Message::Close(frame)) => panic!("closed: {frame:?}"),
                Ok(_) => {}
                Err(tungstenite::Error::Io(error))
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                    ) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// The next message but probes.
    fn next(&mut self) -> Value {
        loop {
            let heard = self.hear(PATIENCE).expect("something is heard");
            if heard["event"] != "probe" {
                return heard;
            }
        }
    }

    /// Ids of the statuses that come before the event `end`, each with the keywords that matched.
    fn statuses(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        loop {
            let heard = self.next();
            if heard["event"] == "end" {
                return all;
            }
            let payload = heard["payload"].as_str().expect("payloads are texts");
            let status: Value = serde_json::from_str(payload).expect("a status is JSON");
            let filtered = status["filtered"].as_array().expect("it is there");
            let matched = filtered.iter().map(|it| {
                let filter = &it["filter"];
                format!(
                    " {}:{}:{}",
                    filter["title"].as_str().expect("a text"),
                    filter["filter_action"].as_str().expect("a text"),
                    it["keyword_matches"][0].as_str().expect("a text"),
                )
            });
            let matched: String = matched.collect();
            all.push(format!("{}{matched}", status["id"].as_str().expect("a text")));
        }
    }

    /// Reads to the end; the body of the close frame, if one came.
    fn end(mut self) -> Option<Option<u16>> {
        self.socket.get_ref().set_read_timeout(Some(PATIENCE)).expect("a socket option");
        loop {
            match self.socket.read() {
                Ok(Message::Close(frame)) => return Some(frame.map(|it| it.code.into())),
                Ok(_) => {}
                Err(tungstenite::Error::Io(error))
                    if error.kind() == std::io::ErrorKind::WouldBlock =>
                {
                    panic!("it does not end")
                }
                Err(_) => return None,
            }
        }
    }
}

/// A status: its id, who wrote it (id and name, with the domain), in which language, what.
fn status(
    id: &str,
    author: (u32, &str),
    language: &str,
    content: &str,
    mentions: &[u32],
) -> String {
    let (author, acct) = author;
    let username = acct.split('@').next().unwrap_or_default();
    let mentions: Vec<_> =
        mentions.iter().map(|it| format!(r#"{{"id":"{it}","acct":"x"}}"#)).collect();
    format!(
        r#"{{"id":"{id}","language":{language},"spoiler_text":"","content":"<p>{content}</p>","account":{{"id":"{author}","username":"{username}","acct":"{acct}"}},"mentions":[{}],"media_attachments":[],"poll":null}}"#,
        mentions.join(",")
    )
}

const ANN: (u32, &str) = (1, "ann");
const CYD: (u32, &str) = (3, "cyd");

#[test]
fn a_token_opens_a_stream_that_carries_what_mastodon_publishes() {
    let site = Site::start();
    let mut peer = site.open("token-bob", "stream=user");
    // The four channels of the stream and of the system; the keys that Mastodon looks for.
    for channel in
        ["timeline:2", "timeline:2:notifications", "timeline:system:2", "timeline:access_token:102"]
    {
        site.redis.wait_for_subscribers(channel, 1);
    }
    for key in ["subscribed:timeline:2", "subscribed:timeline:2:notifications"] {
        assert!((1070..=1080).contains(&site.redis.ttl(key)), "{key}");
    }
    site.settle(&mut peer, "timeline:2");
    site.publish("timeline:2", "update", r#"{"id":"1","content":"a \"quoted\" é"}"#);
    site.publish("timeline:2", "delete", r#""106692867363994015""#);
    site.redis.publish("timeline:2", "no JSON");
    site.redis.publish("timeline:2", r#"{"event":"nothing"}"#);
    site.publish("timeline:2:notifications", "notification", r#"{"id":"2"}"#);
    let heard = peer.next();
    assert_eq!((&heard["stream"][0], &heard["event"]), (&"user".into(), &"update".into()));
    assert_eq!(heard["payload"], r#"{"id":"1","content":"a \"quoted\" é"}"#);
    let heard = peer.next();
    assert_eq!(
        (&heard["event"], &heard["payload"]),
        (&"delete".into(), &"106692867363994015".into())
    );
    assert_eq!(peer.next()["event"], "notification");
    // The same as an event stream.
    let mut stream = site.event_stream("direct", "token-bob");
    site.redis.wait_for_subscribers("timeline:direct:2", 1);
    let expected = "event: conversation\ndata: {\"id\":\"3\"}\n\n";
    wait_until("an event", || site.redis.subscribers("timeline:direct:2") == 1);
    site.publish("timeline:direct:2", "conversation", r#"{"id":"3"}"#);
    assert_eq!(String::from_utf8_lossy(&stream.take(expected.len())), expected);
    drop(stream);
    site.redis.wait_for_subscribers("timeline:direct:2", 0);
    peer.say(r#"{"type":"unsubscribe","stream":"user"}"#);
    site.redis.wait_for_subscribers("timeline:2", 0);
    assert_eq!(site.redis.subscribers("timeline:system:2"), 1);
    drop(peer);
    site.redis.wait_for_subscribers("timeline:system:2", 0);
    site.redis.wait_for_subscribers("timeline:access_token:102", 0);
}

#[test]
fn who_may_not_come_in_is_told_why() {
    let site = Site::start();
    site.postgres.run("UPDATE users SET disabled = true WHERE id = 5");
    site.postgres.run("UPDATE accounts SET suspended_at = now() WHERE id = 6");
    for token in ["nobody", "token-revoked", "token-of-an-app", "token-eve", "token-fay"] {
        let expected = "401 Invalid access token";
        assert_eq!(site.try_open(token, "").err().as_deref(), Some(expected), "{token}");
        let body = r#"{"error":"Invalid access token"}"#;
        assert_eq!(site.fetch("user", token), (401, body.to_owned()), "{token}");
    }
    let scopes = r#"{"error":"Access token does not have the required scopes"}"#;
    for (path, token, expected) in [
        ("user", "token-bob-writes", scopes),
        ("public", "token-bob-notifications", scopes),
        ("user/notification", "token-bob-statuses", scopes),
        ("user", "token-bob-scopeless", scopes),
        ("list?list=1", "token-bob", r#"{"error":"Not authorized to stream this list"}"#),
        ("list?list=x", "token-bob", r#"{"error":"Not authorized to stream this list"}"#),
        ("list?list=99", "token-bob", r#"{"error":"Not authorized to stream this list"}"#),
    ] {
        assert_eq!(site.fetch(path, token), (401, expected.to_owned()), "{path} {token}");
    }
    // One's own list is open.
    let mut peer = site.open("token-bob", "stream=list&list=2");
    site.settle(&mut peer, "timeline:list:2");
    peer.say(r#"{"type":"subscribe","stream":"list","list":"1"}"#);
    let refused = peer.next();
    assert_eq!(refused["error"], "Not authorized to stream this list");
    assert_eq!(refused["status"], 401);
    assert_eq!(site.redis.subscribers("timeline:list:1"), 0);
}

#[test]
fn a_public_status_is_for_whom_it_is_for() {
    let site = Site::start();
    let tokens = ["ann", "bob", "cyd", "dee", "eve", "fay"];
    let mut peers: Vec<_> =
        tokens.iter().map(|it| site.open(&format!("token-{it}"), "stream=public")).collect();
    for peer in &mut peers {
        site.settle(peer, "timeline:public");
    }
    let channel = "timeline:public";
    let update = |status: String| site.publish(channel, "update", &status);
    update(status("plain", ANN, "\"en\"", "hello", &[]));
    update(status("by-cyd", CYD, "\"en\"", "hello", &[]));
    update(status("of-cyd", ANN, "\"en\"", "hello", &[3]));
    update(status("by-bob", (2, "bob"), "\"en\"", "hello", &[]));
    update(status("of-bob", ANN, "\"en\"", "hello", &[2]));
    update(status("by-gus", (7, "gus@far.example"), "\"en\"", "hello", &[]));
    update(status("by-hal", (8, "hal@bad.example"), "\"en\"", "hello", &[]));
    update(status("german", ANN, "\"de\"", "hallo", &[]));
    update(status("silent", ANN, "null", "hello", &[]));
    update(status("spoils", ANN, "\"en\"", "a Spoiler: no news", &[]));
    update(status("catty", ANN, "\"fr\"", "conCATenate", &[]));
    site.publish(channel, "update", r#"{"id":"broken","account":null}"#);
    site.publish(channel, "update", "7");
    site.publish(channel, "end", "1");
    let heard: Vec<_> = peers.iter_mut().map(Peer::statuses).collect();
    let all = [
        "plain", "by-cyd", "of-cyd", "by-bob", "of-bob", "by-gus", "by-hal", "german", "silent",
        "spoils", "catty",
    ];
    let but = |left_out: &[&str]| -> Vec<String> {
        let kept = all.iter().filter(|it| !left_out.contains(it));
        kept.map(|it| (*it).to_owned()).collect()
    };
    assert_eq!(heard[0], but(&[]), "ann");
    // Bob blocks Cyd, mutes Gus, blocks bad.example, is blocked by Eve, and is warned of spoilers.
    let mut bob = but(&["by-cyd", "of-cyd", "by-gus", "by-hal"]);
    let spoils = bob.iter().position(|it| it == "spoils").expect("he is warned only");
    bob[spoils] += " Spoilers:warn:Spoiler";
    assert_eq!(heard[1], bob, "bob");
    // Who is blocked gets nothing of who blocks, but may read of whom they blocked.
    assert_eq!(heard[2], but(&["by-bob"]), "cyd");
    assert_eq!(heard[3], ["german", "catty"], "dee");
    assert_eq!(heard[4], but(&["by-bob", "of-bob"]), "eve");
    let mut fay = but(&[]);
    *fay.last_mut().expect("not empty") += " Cats:hide:CAT";
    assert_eq!(heard[5], fay, "fay");
    // Filters are asked for anew when they change, and only then.
    let bob = &mut peers[1];
    site.postgres.run(
        "DELETE FROM custom_filter_keywords; INSERT INTO custom_filter_keywords \
         (custom_filter_id, keyword, whole_word) VALUES (1, 'hello', true)",
    );
    update(status("old", ANN, "\"en\"", "hello spoiler", &[]));
    site.publish(channel, "end", "1");
    assert_eq!(bob.statuses(), ["old Spoilers:warn:spoiler"]);
    site.redis.publish("timeline:system:2", r#"{"event":"filters_changed"}"#);
    update(status("new", ANN, "\"en\"", "hello spoiler", &[]));
    site.publish(channel, "end", "1");
    assert_eq!(bob.statuses(), ["new Spoilers:warn:hello"]);
}

#[test]
fn feeds_that_are_closed_carry_deletions_only_but_for_who_may_view_them() {
    let site = Site::start();
    site.postgres.run(
        "INSERT INTO settings (var, value) VALUES ('local_live_feed_access', E'--- disabled\\n')",
    );
    let mut peers = ["ann", "bob"].map(|it| site.open(&format!("token-{it}"), "stream=public"));
    let mut tagged = site.open("token-bob", "stream=hashtag&tag=Cats");
    for peer in &mut peers {
        site.settle(peer, "timeline:public");
    }
    site.settle(&mut tagged, "timeline:hashtag:cats");
    for channel in ["timeline:public", "timeline:hashtag:cats"] {
        site.publish(channel, "update", &status("here", ANN, "\"en\"", "hello", &[]));
        site.publish(
            channel,
            "update",
            &status("there", (7, "x@far.example"), "\"en\"", "hello", &[]),
        );
        site.publish(channel, "end", "1");
    }
    let [ann, bob] = &mut peers;
    assert_eq!(ann.statuses(), ["here", "there"], "her role views every feed");
    // Bob mutes account 7, so that nothing is left.
    assert_eq!(bob.statuses(), [""; 0]);
    assert_eq!(tagged.statuses(), ["here"]);
    site.publish("timeline:public", "delete", "\"9\"");
    assert_eq!(bob.next()["event"], "delete");
}

#[test]
fn a_kill_ends_connections_that_do_nothing_at_all() {
    let site = Site::start();
    let idle = site.open("token-ann", "");
    let mut other = site.open("token-ann-too", "stream=user");
    let mut stream = site.event_stream("user", "token-ann");
    site.redis.wait_for_subscribers("timeline:access_token:101", 1);
    site.redis.wait_for_subscribers("timeline:access_token:111", 1);
    // Whoever hears what is published heard the system before.
    stream.stream.set_read_timeout(Some(MOMENT)).expect("a socket option");
    wait_until("the stream to be heard", || {
        site.publish("timeline:1", "probe", "1");
        stream.stream.peek(&mut [0]).is_ok()
    });
    stream.stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
    site.redis.publish("timeline:access_token:101", r#"{"event":"kill"}"#);
    assert_eq!(idle.end(), Some(None), "a close frame without a body");
    let probes = String::from_utf8_lossy(&stream.rest()).replace("event: probe\ndata: 1\n\n", "");
    assert_eq!(probes, "", "and the stream ends");
    site.redis.wait_for_subscribers("timeline:access_token:101", 0);
    // The other token is another matter, the account is not.
    site.settle(&mut other, "timeline:1");
    site.redis.publish("timeline:system:1", r#"{"event":"kill"}"#);
    assert_eq!(other.end(), Some(None));
    site.redis.wait_for_subscribers("timeline:system:1", 0);
}

#[test]
fn a_redis_that_was_lost_is_found_and_nobody_is_sent_away() {
    let mut site = Site::start();
    let mut peer = site.open("token-bob", "stream=user");
    site.settle(&mut peer, "timeline:2");
    site.redis.stop();
    site.server.listen_until(|line| line.contains("redis_lost"));
    let ready = site.server.fetch("/ready");
    assert_eq!(ready.status, 503);
    assert!(ready.text().contains("Redis"), "{}", ready.text());
    // Who comes meanwhile comes in, and hears when there is something to hear.
    let mut late = site.open("token-ann", "stream=user");
    site.redis.start_again();
    for key in ["subscribed:timeline:2", "subscribed:timeline:1"] {
        wait_until(key, || site.redis.ttl(key) > 1000);
    }
    site.redis.wait_for_subscribers("timeline:2", 1);
    site.settle(&mut peer, "timeline:2");
    site.settle(&mut late, "timeline:1");
    assert_eq!(site.server.fetch("/ready").status, 200);
    site.publish("timeline:2", "update", r#"{"id":"1"}"#);
    assert_eq!(peer.next()["payload"], r#"{"id":"1"}"#);
}

#[test]
fn without_its_database_nothing_is_shown_that_was_not_judged() {
    let mut site = Site::with("relations_cache_s = 0");
    let mut bob = site.open("token-bob", "stream=public");
    bob.say(r#"{"type":"subscribe","stream":"user"}"#);
    site.settle(&mut bob, "timeline:public");
    site.settle(&mut bob, "timeline:2");
    site.postgres.stop();
    site.publish("timeline:public", "update", &status("1", CYD, "\"en\"", "hello", &[]));
    site.publish("timeline:public", "update", &status("2", ANN, "\"en\"", "hello", &[]));
    // What needs no judgement comes all the same, and those who wait are not kept.
    site.publish("timeline:public", "delete", "\"3\"");
    assert_eq!(bob.next()["event"], "delete");
    site.publish("timeline:2", "update", r#"{"id":"4"}"#);
    assert_eq!(bob.next()["payload"], r#"{"id":"4"}"#);
    assert_eq!(site.fetch("user", "token-ann").0, 500);
    site.postgres.start_again();
    site.server.said.clear();
    site.server.listen_until(|line| line.contains("postgres_connected"));
    let mut ann = site.open("token-ann", "stream=public");
    site.settle(&mut ann, "timeline:public");
    site.publish("timeline:public", "update", &status("5", CYD, "\"en\"", "hello", &[]));
    site.publish("timeline:public", "update", &status("6", ANN, "\"en\"", "hello", &[]));
    site.publish("timeline:public", "end", "1");
    assert_eq!(ann.statuses(), ["5", "6"]);
    assert_eq!(bob.statuses(), ["6"]);
}

/// Ids of statuses that a peer hears until it is told to stop; counts them meanwhile.
fn listen(mut peer: Peer, stop: &AtomicBool, heard_all: &AtomicU32) -> Vec<u64> {
    let mut ids = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let Some(heard) = peer.hear(MOMENT) else { continue };
        if heard["event"] == "update" {
            let payload = heard["payload"].as_str().expect("payloads are texts");
            let status: Value = serde_json::from_str(payload).expect("a status is JSON");
            ids.push(status["id"].as_str().and_then(|it| it.parse().ok()).expect("a number"));
            heard_all.fetch_add(1, Ordering::Relaxed);
        }
    }
    ids
}

#[test]
fn restarts_under_load_reorder_nothing_and_show_nobody_what_is_not_for_them() {
    const STATUSES: u64 = 1500;
    let mut site = Site::with("relations_cache_s = 0");
    let (stop, heard) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let listeners: Vec<_> = ["bob", "eve", "fay"]
        .into_iter()
        .map(|name| {
            let mut peer = site.open(&format!("token-{name}"), "stream=public");
            site.settle(&mut peer, "timeline:public");
            let (stop, heard) = (stop.clone(), heard.clone());
            thread::spawn(move || listen(peer, &stop, &heard))
        })
        .collect();
    // Even ones are Cyd's, whom Bob blocks.
    let say = |redis: &Redis, id: u64| {
        let author = if id.is_multiple_of(2) { CYD } else { ANN };
        let status = status(&id.to_string(), author, "\"en\"", "hello", &[]);
        publish(redis, "timeline:public", "update", &status);
    };
    for id in 0..STATUSES {
        match id {
            300 => {
                // Some are heard, others wait for the database when it is lost.
                wait_until("statuses", || heard.load(Ordering::Relaxed) > 100);
                site.postgres.stop();
            }
            600 => site.postgres.start_again(),
            900 => site.redis.stop(),
            901 => site.redis.start_again(),
            902 => site.redis.wait_for_subscribers("timeline:public", 1),
            _ => {}
        }
        if id != 900 {
            say(&site.redis, id);
        }
    }
    // Until everybody hears again: a status a moment, of an author nobody minds.
    let mut last = STATUSES + 1;
    let mut witness = site.open("token-ann", "stream=public");
    site.settle(&mut witness, "timeline:public");
    wait_until("a status that is judged", || {
        last += 2;
        say(&site.redis, last);
        let heard = witness.hear(MOMENT);
        heard.is_some_and(|it| it["event"] == "update")
    });
    say(&site.redis, last + 2);
    while witness.next()["payload"].as_str().is_some_and(|it| !it.contains(&(last + 2).to_string()))
    {
    }
    thread::sleep(MOMENT);
    stop.store(true, Ordering::Relaxed);
    for (name, listener) in ["bob", "eve", "fay"].into_iter().zip(listeners) {
        let ids = listener.join().expect("it does not panic");
        assert!(ids.is_sorted(), "{name}");
        let once: BTreeSet<_> = ids.iter().collect();
        assert_eq!(once.len(), ids.len(), "{name}");
        if name == "bob" {
            assert!(ids.iter().all(|id| id % 2 == 1), "{ids:?}");
        }
        // The beginning, and the end.
        assert!(ids.contains(&1) && ids.contains(&(last + 2)), "{name} {last}: {ids:?}");
        assert!(ids.len() > 100, "{name}: {}", ids.len());
    }
}

/// Publishes so many events on a channel, as fast as a Redis takes them, and reads nothing meanwhile.
fn flood(redis: &Redis, channel: &str, events: u64, payload: &str) {
    let mut talk = redis.connect();
    for number in 0..events {
        let message =
            format!(r#"{{"event":"update","payload":{{"id":"{number}","x":"{payload}"}}}}"#);
        talk.say(&["PUBLISH", channel, &message]);
    }
}

#[test]
fn a_flood_comes_whole_and_in_order_and_who_does_not_read_is_cut() {
    const EVENTS: u64 = 6000;
    let site = Site::start();
    let mut reader = site.open("token-bob", "stream=user");
    let mut stalled = site.event_stream("user", "token-bob");
    site.settle(&mut reader, "timeline:2");
    let payload = "x".repeat(2800);
    thread::scope(|scope| {
        scope.spawn(|| flood(&site.redis, "timeline:2", EVENTS, &payload));
        let mut next = 0;
        while next < EVENTS {
            let heard = reader.next();
            let payload = heard["payload"].as_str().expect("payloads are texts");
            assert!(payload.starts_with(&format!(r#"{{"id":"{next}","#)), "{next}");
            next += 1;
        }
    });
    // Its outbox is bounded: it ends, and not with an event that is whole by chance only.
    let rest = stalled.rest();
    assert!(rest.len() as u64 <= EVENTS * 3000, "{}", rest.len());
    // Sixteen megabytes are more than sockets and an outbox hold.
    site.redis.wait_for_subscribers("timeline:access_token:102", 1);
    drop(reader);
    site.redis.wait_for_subscribers("timeline:access_token:102", 0);
}

#[test]
fn what_mastodon_would_never_publish_costs_nobody_anything() {
    let site = Site::start();
    let mut bob = site.open("token-bob", "stream=public");
    bob.say(r#"{"type":"subscribe","stream":"user"}"#);
    for channel in ["timeline:public", "timeline:2"] {
        site.settle(&mut bob, channel);
    }
    let deep = format!("{}1{}", "[".repeat(50_000), "]".repeat(50_000));
    let large = format!(r#"{{"id":"1","content":"{}"}}"#, "x".repeat(3 << 20));
    let mentions: Vec<u32> = (0..10_000).collect();
    for channel in
        ["timeline:public", "timeline:2", "timeline:system:2", "timeline:access_token:102"]
    {
        for message in [
            "",
            "no JSON",
            "null",
            "[]",
            "{\"event\":",
            r#"{"event":null,"payload":null}"#,
            r#"{"event":7,"payload":7}"#,
            r#"{"event":"update","payload":null}"#,
            r#"{"event":"delete","payload":""}"#,
            &format!(r#"{{"event":"update","payload":{deep}}}"#),
            &format!(r#"{{"event":"update","payload":{large}}}"#),
        ] {
            site.redis.publish(channel, message);
        }
    }
    // Of a public status nothing is taken on trust.
    for payload in [
        "[]",
        "{}",
        r#""text""#,
        r#"{"account":[]}"#,
        r#"{"account":{"id":null}}"#,
        r#"{"account":{"id":"3x","acct":"cyd"}}"#,
        r#"{"account":{"id":"99999999999999999999999","acct":"cyd"}}"#,
    ] {
        site.publish("timeline:public", "update", payload);
    }
    let crowd = status("crowd", ANN, "\"en\"", "hello", &mentions);
    site.publish("timeline:public", "update", &crowd);
    site.publish("timeline:public", "update", &status("good", ANN, "\"en\"", "hello", &[]));
    site.publish("timeline:public", "end", "1");
    assert_eq!(bob.statuses(), ["good"], "who mentions everybody mentions whom he blocks");
    site.publish("timeline:2", "update", r#"{"id":"2"}"#);
    // What JSON is goes, however odd, where nothing is judged.
    loop {
        let heard = bob.next();
        if heard["payload"] == r#"{"id":"2"}"# {
            break;
        }
        assert_eq!(heard["stream"][0], "user");
    }
}

#[test]
fn while_a_table_is_locked_nothing_is_shown_that_was_not_judged() {
    let site = Site::with("relations_cache_s = 0");
    let mut bob = site.open("token-bob", "stream=public");
    site.settle(&mut bob, "timeline:public");
    let lock = site.postgres.lock("blocks");
    site.publish("timeline:public", "update", &status("1", CYD, "\"en\"", "hello", &[]));
    site.publish("timeline:public", "update", &status("2", ANN, "\"en\"", "hello", &[]));
    assert!(bob.hear(MOMENT).is_none(), "they wait");
    lock.release();
    site.publish("timeline:public", "end", "1");
    assert_eq!(bob.statuses(), ["2"]);
}

#[test]
fn both_servers_are_reached_by_tls_and_certificates_are_checked() {
    let directory = Directory::new();
    let (file, key) = certificate(&directory.0);
    let (mut postgres, tls_port) = (Postgres::mastodon(), free_port().to_string());
    postgres.serve_tls(&file, &key);
    let [file, key] = [file, key].map(|it| it.to_string_lossy().into_owned());
    // Redis runs as nobody, too.
    for path in [&file, &key] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        std::fs::set_permissions(path, mode).expect("it is ours");
    }
    let options = ["--tls-port", &tls_port, "--tls-cert-file", &file, "--tls-key-file", &key];
    let redis = Redis::with(&[&options[..], &["--tls-auth-clients", "no"]].concat());
    let (id, app_key, secret) = APP;
    let settings = directory.write(
        "ringmain.toml",
        &format!(
            "[mastodon]\napp = \"{id}\"\nredis_url = \"rediss://localhost:{tls_port}\"\n\
             database_url = \"{}\"\ndatabase_tls = \"verified\"\n\
             [[apps]]\nid = \"{id}\"\nkey = \"{app_key}\"\nsecret = \"{secret}\"\n",
            postgres.url(),
        ),
    );
    let start = |is_trusted: bool| {
        let mut command = ringmain();
        command.arg("serve").arg("--config").arg(&settings).args(["--listen", "127.0.0.1:0"]);
        if is_trusted {
            command.env("SSL_CERT_FILE", &file);
        }
        Server::spawn(command, Directory::new())
    };
    let mut server = start(true);
    server.listen_until(|line| line.contains("redis_connected"));
    server.listen_until(|line| line.contains("postgres_connected"));
    let mut site = Site { server, redis, postgres };
    let mut peer = site.open("token-bob", "stream=user");
    site.settle(&mut peer, "timeline:2");
    drop(peer);
    site.server = start(false);
    site.server.listen_until(|line| line.contains("redis_lost") && line.contains("certificate"));
    site.server.listen_until(|line| line.contains("postgres_lost") && line.contains("certificate"));
}
