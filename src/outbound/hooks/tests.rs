//! The whole of it on a ledger in memory: receivers that fail, refuse and vanish, a store that fails, crashes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::post::Silence;
use super::*;
use crate::base::ids::AppIndex;
use crate::base::time::UnixMillis;
use crate::broker::{Payload, Report, report};
use crate::config::webhooks::ReceiverRow;
use crate::store::ledger::Ledger;
use crate::store::memory::{Memory, Outcome};
use crate::store::open;
use crate::wire::json;

const STORE: u128 = 9;
const START: u64 = 1_700_000_000_000;

/// How a receiver answers.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mood {
    Well,
    Down,
    Busy,
    /// Anything may happen.
    Moody,
}

/// A receiver's side of it.
struct Peer {
    mood: Mood,
    /// Numbers it will not have.
    refuses: u64,
    /// What it took with a good status, in order of arrival.
    took: Vec<u64>,
    seen_ids: BTreeMap<String, u64>,
    requests: usize,
}

struct World {
    memory: Memory,
    ledger: Ledger,
    hooks: Hooks,
    counts: Arc<Counts>,
    settings: Webhooks,
    peers: Vec<Peer>,
    now: Now,
    chance: Prng,
    asks: VecDeque<(u64, Ask)>,
    posts: Vec<(u64, Post)>,
    told: Vec<(u64, Result<Vec<String>, Denied>)>,
    notes: Vec<Note>,
    pushes: u64,
    /// Pushed, but perhaps not on disk.
    unsure: BTreeSet<u64>,
    /// What is durable: number in the order of pushes, app, kind.
    pushed: Vec<(u64, &'static str, &'static str)>,
    is_full: bool,
}

fn row(name: &str, app: &str, types: &[&str], batch_max: u32) -> ReceiverRow {
    ReceiverRow {
        name: name.into(),
        url: format!("http://{name}/"),
        app: app.into(),
        types: types.iter().map(|it| (*it).to_owned()).collect(),
        batch_max,
        timeout: Millis(10_000),
        retry_first: Millis(1_000),
        retry_longest: Millis(300_000),
        retry_max_age: Millis(3_600_000),
        ..ReceiverRow::default()
    }
}

fn settings(receivers: Vec<ReceiverRow>) -> Webhooks {
    Webhooks {
        receivers,
        queue_bytes_max: 1 << 30,
        dead_letters_max: 10_000,
        dead_letter_bytes_max: 1 << 30,
        signers: Vec::new(),
    }
}

impl World {
    fn new(settings: Webhooks, seed: u64) -> Self {
        let memory = Memory::default();
        open::settle(&memory, STORE).unwrap();
        let ledger = Ledger::new(Arc::new(memory.clone()), STORE).unwrap();
        let counts = Arc::<Counts>::default();
        let peer = |_: &ReceiverRow| Peer {
            mood: Mood::Well,
            refuses: 0,
            took: Vec::new(),
            seen_ids: BTreeMap::new(),
            requests: 0,
        };
        let mut world = Self {
            hooks: Hooks::new(settings.clone(), Arc::clone(&counts), seed),
            peers: settings.receivers.iter().map(peer).collect(),
            memory,
            ledger,
            counts,
            settings,
            now: Now { steady: Nanos(1), wall: UnixMillis(START) },
            chance: Prng::new(seed),
            asks: VecDeque::new(),
            posts: Vec::new(),
            told: Vec::new(),
            notes: Vec::new(),
            pushes: 0,
            unsure: BTreeSet::new(),
            pushed: Vec::new(),
            is_full: false,
        };
        world.with(|hooks, now, out| hooks.drive(now, out));
        world
    }

    fn with(&mut self, act: impl FnOnce(&mut Hooks, Now, &mut Vec<Step>)) {
        let mut out = Vec::new();
        act(&mut self.hooks, self.now, &mut out);
        for step in out {
            match step {
                Step::Ask(tag, ask) => self.asks.push_back((tag, ask)),
                Step::Post(number, post) => self.posts.push((number, post)),
                Step::Tell(caller, told) => self.told.push((caller, told)),
                Step::Say(note) => self.notes.push(note),
            }
        }
        assert!(self.asks.len() <= 4 + 2 * self.peers.len(), "asks are bounded");
        assert!(self.posts.len() <= self.peers.len(), "one request a receiver");
    }

    fn push(&mut self, app: &'static str, kind: &'static str) {
        self.pushes += 1;
        let number = self.pushes;
        let report = Report {
            app: AppIndex(0),
            kind: kind.into(),
            channel: None,
            fields: vec![("X-Number", number.to_string().into())],
            body: Payload(format!("{{\"n\":{number}}}").into()),
        };
        let value = report::encode(&report, app, self.now.wall);
        let change = Ask::change(Shelf::Outbox, vec![Change::Push { value }]);
        let answers = self.ledger.answer([change], UnixMillis(0));
        self.reopen();
        if matches!(answers[0], Answer::Changed) {
            self.pushed.push((number, app, kind));
            self.with(|hooks, now, out| hooks.nudged(now, out));
        } else {
            self.unsure.insert(number);
        }
    }

    fn reopen(&mut self) {
        if self.ledger.is_broken() {
            self.memory.reopen();
            self.ledger = Ledger::new(Arc::new(self.memory.clone()), STORE).unwrap();
        }
    }

    /// Answers the oldest ask.
    fn answer(&mut self) {
        let Some((tag, ask)) = self.asks.pop_front() else { return };
        let brings_more = match &ask {
            Ask::Change { changes } => {
                changes.iter().any(|(_, it)| !matches!(it, Change::Remove { .. }))
            }
            _ => false,
        };
        let answer = if self.is_full && brings_more {
            Answer::Fault(Fault::Full)
        } else {
            self.ledger.answer([ask], UnixMillis(0)).pop().unwrap()
        };
        self.reopen();
        self.with(|hooks, now, out| hooks.answered(tag, answer, now, out));
    }

    /// Has a receiver answer a request; `is_lost`: nobody hears it.
    fn complete(&mut self, at: usize, is_lost: bool) {
        let (number, post) = self.posts.swap_remove(at);
        let name = post.url.trim_start_matches("http://").trim_end_matches('/');
        let index = self.settings.receivers.iter().position(|it| it.name == name).unwrap();
        let (row, peer) = (&self.settings.receivers[index], &mut self.peers[index]);
        peer.requests += 1;
        let root = json::parse(&post.body).unwrap();
        let field = |name: &str| {
            post.fields.iter().find(|it| it.0 == name).map(|it| it.1.clone()).unwrap_or_default()
        };
        let n = |body: json::Raw<'_>| body.member("n").unwrap().as_u64().unwrap();
        let events: Vec<(String, u64)> = if row.batch_max > 1 {
            let id =
                |item: json::Raw<'_>| item.member("id").unwrap().as_str().unwrap().into_owned();
            root.items().map(|it| (id(it), n(it.member("body").unwrap()))).collect()
        } else {
            assert_eq!(field("X-Number"), n(root).to_string());
            vec![(field("X-Ringmain-Event-Id"), n(root))]
        };
        assert!(!events.is_empty() && events.len() <= row.batch_max as usize);
        for (id, n) in &events {
            let before = peer.seen_ids.insert(id.clone(), *n);
            assert!(before.is_none_or(|it| it == *n), "an id is of one event");
        }
        let is_bad = |n: u64| peer.refuses > 0 && n.is_multiple_of(peer.refuses);
        let outcome = match (peer.mood, self.chance.below(6)) {
            (Mood::Down, it) if it < 3 => Err(Silence::Unreachable),
            (Mood::Down, _) | (Mood::Moody, 1) => Err(Silence::Late),
            (Mood::Busy, _) | (Mood::Moody, 2) => Ok(503),
            (Mood::Moody, 3) => Ok(404),
            _ if events.iter().any(|it| is_bad(it.1)) => Ok(422),
            _ => Ok(200),
        };
        if outcome == Ok(200) || outcome == Err(Silence::Late) && self.chance.chance(1, 2) {
            peer.took.extend(events.iter().map(|it| it.1));
        }
        if !is_lost {
            let heard = Heard { outcome, retry_after: None };
            self.with(|hooks, now, out| hooks.heard(number, &heard, now, out));
        }
    }

    fn pass(&mut self, millis: u64) {
        self.now.steady = self.now.steady + Millis(millis);
        self.now.wall.0 += millis;
        self.with(|hooks, now, out| hooks.drive(now, out));
    }

    fn crash(&mut self) {
        // What was asked may or may not have been done; what was sent may have arrived.
        while !self.asks.is_empty() && self.chance.chance(1, 2) {
            let (_, ask) = self.asks.pop_front().unwrap();
            self.ledger.answer([ask], UnixMillis(0));
            self.reopen();
        }
        self.asks.clear();
        while !self.posts.is_empty() {
            self.complete(0, true);
        }
        let seed = self.chance.next_u64();
        self.hooks = Hooks::new(self.settings.clone(), Arc::clone(&self.counts), seed);
        self.now.steady = Nanos(self.chance.below(1 << 40) + 1);
        self.with(|hooks, now, out| hooks.drive(now, out));
    }

    /// Until there is nothing to do but to wait for more than a pause of the longest kind.
    fn settle(&mut self) {
        for _ in 0..200_000 {
            if !self.asks.is_empty() {
                self.answer();
            } else if !self.posts.is_empty() {
                self.complete(0, false);
            } else if let Some(due) = self.hooks.due(self.now) {
                let millis = due.since(self.now.steady).as_millis() as u64 + 1;
                self.pass(millis);
            } else {
                return;
            }
        }
        panic!("it does not come to rest");
    }

    fn order(&mut self, text: &str) -> Result<Vec<String>, Denied> {
        let order = Order::parse(text).unwrap();
        self.with(|hooks, now, out| hooks.order(1, order, now, out));
        self.settle();
        self.told.pop().expect("an answer").1
    }

    fn values(&mut self, shelf: Shelf) -> Vec<(Bytes, Bytes)> {
        let ask = Ask::read(shelf, Bytes::new(), None, u32::MAX);
        match self.ledger.answer([ask], UnixMillis(0)).pop() {
            Some(Answer::Values { values, .. }) => values,
            other => panic!("{other:?}"),
        }
    }

    /// Numbers of the dead letters of a receiver.
    fn dead(&mut self, receiver: &str) -> BTreeSet<u64> {
        let mut found = BTreeSet::new();
        for (key, value) in self.values(Shelf::Deliveries) {
            if key[0] == b'd' {
                let (letter, entry) = Letter::decode(&value).unwrap();
                if &*letter.mark.receiver == receiver {
                    let n = json::parse(&entry.report.body).unwrap().member("n").unwrap();
                    found.insert(n.as_u64().unwrap());
                }
            }
        }
        found
    }

    /// What a receiver is to have.
    fn wanted(&self, index: usize) -> Vec<u64> {
        let row = &self.settings.receivers[index];
        let is_wanted = |it: &&(u64, &str, &str)| {
            (row.app.is_empty() || row.app == it.1)
                && (row.types.is_empty() || row.types.iter().any(|kind| kind == it.2))
        };
        self.pushed.iter().filter(is_wanted).map(|it| it.0).collect()
    }

    /// Everything that was durable was taken or is dead; first deliveries are in order; the queue is empty.
    fn check(&mut self, is_in_order: bool) {
        for index in 0..self.peers.len() {
            let name = self.settings.receivers[index].name.clone();
            let dead = self.dead(&name);
            let took = &self.peers[index].took;
            let firsts: BTreeSet<u64> = took.iter().copied().collect();
            let wanted = self.wanted(index);
            let lost: Vec<_> =
                wanted.iter().filter(|it| !firsts.contains(it) && !dead.contains(it)).collect();
            assert!(lost.is_empty(), "{name} lost {lost:?}; {:?}", self.notes);
            let strange =
                firsts.iter().find(|it| !wanted.contains(it) && !self.unsure.contains(it));
            assert_eq!(strange, None, "{name} took what is not its");
            let mut newest = 0;
            let mut seen = BTreeSet::new();
            for &n in took {
                if seen.insert(n) && is_in_order {
                    assert!(n > newest, "{name} first had {n} after {newest}");
                    newest = n;
                }
            }
            assert_eq!(self.hooks.receivers[index].waiting, 0, "{name}");
        }
        assert!(self.values(Shelf::Outbox).is_empty(), "the queue is empty");
        assert_eq!(self.hooks.queue_bytes, 0);
        let dead: usize =
            self.values(Shelf::Deliveries).iter().filter(|(key, _)| key[0] == b'd').count();
        assert_eq!(self.hooks.letters.count(), dead);
    }
}

fn three() -> Vec<ReceiverRow> {
    vec![row("a", "", &[], 1), row("b", "", &["even"], 5), row("c", "other", &[], 3)]
}

#[test]
fn whatever_fails_every_durable_report_is_told_or_dead() {
    for seed in 0..60 {
        let mut settings = settings(three());
        if seed % 3 == 0 {
            settings.queue_bytes_max = 2_000;
        }
        if seed % 2 == 0 {
            settings.receivers.iter_mut().for_each(|it| it.retry_max_age = Millis(30_000));
        }
        let mut world = World::new(settings, seed);
        let mut dice = Prng::new(seed ^ 0x5eed);
        world.peers[1].refuses = 10;
        for _ in 0..1500 {
            match dice.below(100) {
                0..20 => {
                    for _ in 0..=dice.below(4) {
                        let app = if dice.chance(1, 3) { "other" } else { "app" };
                        let kind = if world.pushes % 2 == 1 { "even" } else { "odd" };
                        world.push(app, kind);
                    }
                }
                20..50 => world.answer(),
                50..75 if !world.posts.is_empty() => {
                    let at = dice.below(world.posts.len() as u64) as usize;
                    world.complete(at, false);
                }
                75..85 => world.pass(dice.below(3_000)),
                85..88 => world.pass(dice.below(60_000)),
                88..94 => {
                    let moods = [Mood::Well, Mood::Down, Mood::Busy, Mood::Moody];
                    let peer = dice.below(3) as usize;
                    world.peers[peer].mood = moods[dice.below(4) as usize];
                }
                94..96 => world.memory.expect([Outcome::FailsBefore]),
                96..97 => world.memory.expect([Outcome::FailsAfter]),
                97..98 => world.is_full = !world.is_full,
                98 => world.crash(),
                _ => {}
            }
        }
        world.memory.expect([]);
        world.is_full = false;
        world.peers.iter_mut().for_each(|it| it.mood = Mood::Well);
        world.settle();
        world.check(true);
        assert!(world.peers.iter().all(|it| !it.took.is_empty()), "seed {seed}: something is told");
        // What is dead and taken by now is told when someone asks for it.
        world.peers[1].refuses = 0;
        world.order("retry all").unwrap();
        world.check(false);
        for (index, name) in ["a", "b", "c"].into_iter().enumerate() {
            assert!(world.dead(name).is_empty());
            let took: BTreeSet<_> = world.peers[index].took.iter().copied().collect();
            assert!(world.wanted(index).iter().all(|it| took.contains(it)), "seed {seed}");
        }
    }
}

#[test]
fn a_dead_receiver_holds_up_no_other() {
    let mut world = World::new(settings(vec![row("a", "", &[], 1), row("b", "", &[], 10)]), 1);
    world.peers[0].mood = Mood::Down;
    for _ in 0..3000 {
        world.push("app", "k");
        while !world.asks.is_empty() {
            world.answer();
        }
        while let Some(at) = world.posts.iter().position(|it| it.1.url.contains("//b")) {
            world.complete(at, false);
        }
    }
    world.pass(30);
    while !world.asks.is_empty() {
        world.answer();
    }
    assert_eq!(world.peers[1].took.len(), 3000);
    assert_eq!(world.hooks.receivers[0].waiting, 3000);
    assert!(world.hooks.receivers[0].ready.len() <= receiver::READY_ENTRIES_MAX);
    assert_eq!(world.values(Shelf::Outbox).len(), 3000);
    // It comes back, after a restart even, and gets all of it.
    world.crash();
    world.peers[0].mood = Mood::Well;
    world.settle();
    world.check(true);
    assert_eq!(world.peers[1].took.len(), 3000, "b's place was on disk");
}

#[test]
fn pages_and_batches_of_a_backlog_are_bounded() {
    let mut world = World::new(settings(vec![row("a", "", &[], 100)]), 1);
    world.peers[0].mood = Mood::Busy;
    for _ in 0..5000 {
        world.push("app", "k");
    }
    while !world.asks.is_empty() {
        world.answer();
    }
    world.complete(0, false);
    world.peers[0].mood = Mood::Well;
    let before = world.peers[0].requests;
    world.settle();
    world.check(true);
    let requests = world.peers[0].requests - before;
    assert!((50..70).contains(&requests), "{requests} requests for 5000 events");
    assert_eq!(world.peers[0].took.len(), 5000, "none twice");
}

#[test]
fn what_nobody_wants_is_removed_at_once() {
    let mut world = World::new(settings(vec![row("a", "other", &[], 1)]), 1);
    for _ in 0..2500 {
        world.push("app", "k");
    }
    world.settle();
    world.check(true);
    assert_eq!(world.peers[0].requests, 0);
}

#[test]
fn dead_letters_are_listed_sent_again_and_dropped() {
    let mut world = World::new(settings(vec![row("a", "", &[], 1), row("b", "", &["k"], 1)]), 1);
    world.peers[0].refuses = 2;
    for _ in 0..6 {
        world.push("app", "k");
    }
    world.settle();
    assert_eq!(world.dead("a"), [2, 4, 6].into());
    let lines = world.order("dead").unwrap();
    assert_eq!(lines.len(), 3);
    for (line, id) in lines.iter().zip(1..) {
        assert!(line.starts_with(&format!("{id} a k 01")), "{line}");
        assert!(line.contains("refused") && line.contains("status 422, 2 attempts"), "{line}");
    }
    assert_eq!(world.order("dead b").unwrap(), Vec::<String>::new());
    let denied = world.order("dead x").unwrap_err();
    assert_eq!(denied, Denied::unknown("there is no receiver \"x\"; there are: a, b"));
    let denied = world.order("retry 77").unwrap_err();
    assert!(denied.status == 404 && denied.text.contains("no dead letter 77"));
    let portion = world.order("json dead 1 2").unwrap();
    let ids: Vec<_> = portion.iter().map(|it| json_member(it, "id").as_u64().unwrap()).collect();
    assert_eq!(ids, [2, 3]);
    for (name, value) in [
        ("receiver", "\"a\""),
        ("type", "\"k\""),
        ("why", "\"refused\""),
        ("status", "422"),
        ("attempts", "2"),
        ("retrying", "false"),
    ] {
        assert_eq!(json_member(&portion[0], name).text(), value);
    }
    assert_eq!(world.order("json dead 0 1001 b").unwrap(), Vec::<String>::new());
    assert_eq!(world.order("json dead 0 9 x").unwrap_err().status, 404);
    assert_eq!(world.order("drop 2").unwrap(), ["1 dropped"]);
    assert_eq!(world.dead("a"), [2, 6].into());
    // Refused again, they are dead again.
    assert_eq!(world.order("retry all a").unwrap(), ["2 to be sent again"]);
    assert_eq!(world.dead("a"), [2, 6].into());
    assert!(world.order("dead").unwrap()[0].contains("3 attempts"));
    world.peers[0].refuses = 0;
    assert_eq!(world.order("retry 1").unwrap(), ["1 to be sent again"]);
    assert_eq!(world.dead("a"), [6].into());
    assert_eq!(world.peers[0].took, [1, 3, 5, 2]);
    assert_eq!(world.order("drop all").unwrap(), ["1 dropped"]);
    assert!(world.order("dead").unwrap().is_empty());
    let lines = world.order("").unwrap();
    assert!(lines[0].starts_with("a: well; 0 waiting; last delivered 2023-11-14"), "{lines:?}");
    assert!(lines[1].ends_with("; 0 dead"), "{lines:?}");
    let lines = world.order("json").unwrap();
    assert_eq!((json_member(&lines[0], "name").text(), lines.len()), ("\"a\"", 2));
    assert_eq!(json_member(&lines[1], "failing_since_ms").text(), "null");
}

fn json_member<'a>(line: &'a str, name: &str) -> json::Raw<'a> {
    json::parse_str(line).expect("JSON").member(name).expect("it is there")
}

#[test]
fn letters_to_be_sent_again_survive_a_crash_and_wait_for_a_failing_receiver() {
    let mut world = World::new(settings(vec![row("a", "", &[], 1)]), 1);
    world.peers[0].refuses = 1;
    world.push("app", "k");
    world.push("app", "k");
    world.settle();
    world.peers[0].refuses = 0;
    world.peers[0].mood = Mood::Busy;
    world.push("app", "k");
    while world.asks.len() + world.posts.len() > 0 {
        world.answer();
        if !world.posts.is_empty() {
            world.complete(0, false);
        }
    }
    let order = Order::parse("retry all").unwrap();
    world.with(|hooks, now, out| hooks.order(1, order, now, out));
    while !world.asks.is_empty() {
        world.answer();
    }
    assert_eq!(world.told.pop(), Some((1, Ok(vec!["2 to be sent again".to_owned()]))));
    assert!(world.posts.is_empty(), "it waits until the receiver is tried again");
    world.crash();
    world.peers[0].mood = Mood::Well;
    world.settle();
    world.check(false);
    assert!(world.dead("a").is_empty());
}

#[test]
fn the_bounds_of_queue_and_letters_hold() {
    let mut settings = settings(vec![row("a", "", &[], 1), row("b", "", &[], 1)]);
    settings.queue_bytes_max = 100_000;
    settings.dead_letters_max = 100;
    let mut world = World::new(settings, 1);
    world.peers[0].mood = Mood::Busy;
    for _ in 0..5000 {
        world.push("app", "k");
        while world.asks.len() + world.posts.len() > 0 {
            world.answer();
            if !world.posts.is_empty() {
                world.complete(0, false);
            }
        }
        world.pass(25);
        assert!(world.hooks.queue_bytes < 200_000);
        assert!(world.hooks.letters.count() <= 100);
    }
    assert_eq!(world.peers[1].took.len(), 5000);
    let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
    assert!(world.values(Shelf::Outbox).len() < 2500);
    world.peers[0].mood = Mood::Well;
    world.settle();
    let died = count(&world.counts.died[Why::Overflow as usize - 1]);
    assert!(died > 2000, "{died}");
    assert_eq!(count(&world.counts.dropped), died - world.hooks.letters.count() as u64);
    assert_eq!(world.peers[0].took.len() as u64, 5000 - died);
}

#[test]
fn a_full_store_is_emptied_all_the_same() {
    let mut world = World::new(settings(vec![row("a", "", &[], 1), row("b", "", &[], 1)]), 1);
    world.peers[0].refuses = 50;
    for _ in 0..100 {
        world.push("app", "k");
    }
    world.is_full = true;
    for _ in 0..3000 {
        if !world.asks.is_empty() {
            world.answer();
        } else if !world.posts.is_empty() {
            world.complete(0, false);
        } else {
            world.pass(50);
        }
    }
    // The first letter cannot be written: its receiver waits there, the other does not.
    assert_eq!((world.peers[0].took.len(), world.peers[1].took.len()), (49, 100));
    assert_eq!(world.values(Shelf::Outbox).len(), 51);
    world.is_full = false;
    world.settle();
    world.check(true);
    assert_eq!(world.dead("a"), [50, 100].into());
}

#[test]
fn a_new_receiver_begins_with_what_waits_and_a_gone_one_holds_nothing() {
    let mut world = World::new(settings(vec![row("a", "", &[], 1)]), 1);
    world.peers[0].mood = Mood::Down;
    for _ in 0..10 {
        world.push("app", "k");
    }
    while !world.asks.is_empty() {
        world.answer();
    }
    world.settings.receivers = vec![row("b", "", &[], 1)];
    world.posts.clear();
    world.peers[0].mood = Mood::Well;
    world.crash();
    world.settle();
    assert_eq!(world.peers[0].took, (1..=10).collect::<Vec<_>>());
    world.check(true);
}

#[test]
fn orders_are_read() {
    let all = |name: Option<&str>| Which::All(name.map(str::to_owned));
    use orders::Which;
    for (text, order) in [
        ("", Some(Order::Status)),
        ("dead", Some(Order::Dead(None))),
        ("dead crm", Some(Order::Dead(Some("crm".into())))),
        ("retry 7", Some(Order::Retry(Which::One(7)))),
        ("retry all", Some(Order::Retry(all(None)))),
        ("retry all crm", Some(Order::Retry(all(Some("crm"))))),
        ("drop all", Some(Order::Drop(all(None)))),
        ("drop", None),
        ("drop x", None),
        ("retry 7 crm", None),
        ("dead crm crm", None),
        ("list", None),
        ("json", Some(Order::Statuses)),
        ("json dead 0 0", None),
        ("json dead 0 1002", None),
        ("json dead x 1", None),
        ("json list", None),
    ] {
        assert_eq!(Order::parse(text), order, "{text}");
    }
}
