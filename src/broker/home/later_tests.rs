use bytes::Bytes;

use super::*;
use crate::base::ids::{ConnectionId, LaneId, Ticket};
use crate::broker::home::once::MARGIN;
use crate::broker::home::{Keeping, Limits};
use crate::broker::rules::{AppRules, Rules};
use crate::broker::slots::Slots;
use crate::broker::{Event, Happening, IdempotencyKey, Payload, Publish, Subscribe, Up};
use crate::store::StreamKey;
use crate::store::ledger::Ledger;
use crate::store::memory::{Memory, Outcome};
use crate::store::open;

struct Plain;

impl Render for Plain {
    fn render(&self, _: LaneId, _: &Event) -> Option<Bytes> {
        Some(Bytes::from_static(b"x"))
    }
}

struct Bench {
    memory: Memory,
    ledger: Ledger,
    home: Home,
    now: Now,
    heard: Vec<String>,
}

fn now(steady_ms: u64, wall: u64) -> Now {
    Now { steady: Nanos(0) + Millis(steady_ms), wall: UnixMillis(wall) }
}

fn ledger(memory: &Memory) -> Ledger {
    let store = open::settle(memory, 3).unwrap();
    Ledger::new(Arc::new(memory.clone()), store).unwrap()
}

fn home(now: Now, keys_max: usize) -> Home {
    let app = |id: &str| AppRules { id: id.into(), rules: Vec::new() };
    Home::new(Arc::new(Slots::new(1, [5, 6])), Limits { channels_max: 9 }).keeping(Keeping {
        rules: Rules::new(vec![app("one"), app("two")]),
        shard: Some(ShardId(0)),
        origin: now,
        keys_max,
        ..Keeping::default()
    })
}

fn channel(app: u16) -> Channel {
    Channel { app: AppIndex(app), name: "c".into() }
}

impl Bench {
    fn new() -> Self {
        let (memory, now) = (Memory::default(), now(1_000, 1_000_000));
        let (ledger, home) = (ledger(&memory), home(now, 2));
        let mut bench = Self { memory, ledger, home, now, heard: Vec::new() };
        bench.ask(Command::Subscribe(Box::new(Subscribe::new(channel(0), LaneId(0)))));
        bench.run();
        bench
    }

    /// Another process on the same disk.
    fn again(&mut self) {
        self.memory.reopen();
        (self.ledger, self.home) = (ledger(&self.memory), home(self.now, 2));
        self.ask(Command::Subscribe(Box::new(Subscribe::new(channel(0), LaneId(0)))));
        self.run();
    }

    fn ask(&mut self, command: Command) -> Option<Reply> {
        let from = ConnectionId { shard: ShardId(0), slot: 1, generation: 1 };
        let mut out = Vec::new();
        let up = Up::Ask { from, ticket: Ticket(1), command };
        self.home.handle(up, ShardId(0), self.now, &Plain, &mut out);
        self.follow(out)
    }

    /// Lets the store answer, and gives what was replied last.
    fn follow(&mut self, mut out: Vec<(ShardId, Down)>) -> Option<Reply> {
        let mut replied = None;
        loop {
            for (_, down) in out.drain(..) {
                match down {
                    Down::Answer { reply, .. } => replied = Some(reply),
                    Down::Deliver(it) => {
                        if let Happening::Message { name, .. } = &it.event.happening {
                            self.heard.push(name.to_string());
                        }
                    }
                    Down::Attach { .. } => {}
                }
            }
            let Some((tag, ask)) = self.home.next_ask() else { return replied };
            let clock = self.home.clock(self.now);
            let answer = self.ledger.answer([ask], clock).remove(0);
            if self.ledger.is_broken() {
                self.memory.reopen();
                self.ledger = ledger(&self.memory);
            }
            self.home.stored(tag, answer, self.now, &Plain, &mut out);
        }
    }

    /// Does what is due now, and whatever follows at once. Gives how long there is nothing to do then.
    fn run(&mut self) -> Option<u64> {
        for _ in 0..1_000 {
            let due = self.home.next_due()?;
            if due > self.now.steady {
                return Some(due.since(self.now.steady).as_millis() as u64);
            }
            let mut out = Vec::new();
            self.home.expire(self.now, &Plain, &mut out);
            self.follow(out);
        }
        panic!("it never rests");
    }

    fn pass(&mut self, steady_ms: u64, wall_ms: i64) -> Option<u64> {
        self.now.steady = self.now.steady + Millis(steady_ms);
        self.now.wall = UnixMillis(self.now.wall.0.wrapping_add_signed(wall_ms));
        self.run()
    }

    fn schedule(&mut self, app: u16, name: &str, at: u64, key: Option<&str>) -> Reply {
        let data = Payload(Bytes::from_static(b"1"));
        let publish = Publish::new(channel(app), name.into(), data, Nanos(0));
        let key = key.map(|key| {
            let (name, digest) = key.split_at(1);
            let fingerprint = [digest.len() as u8; 16];
            Arc::new(IdempotencyKey { name: name.into(), fingerprint, span: Some(Millis(9_000)) })
        });
        let (what, at) = (Deferred::Publish(Box::new(publish)), UnixMillis(at));
        self.ask(Command::Schedule(Box::new(Schedule { what, at, key }))).expect("an answer")
    }

    fn scheduled(&mut self, app: u16, name: &str, at: u64) -> EventId {
        match self.schedule(app, name, at, None) {
            Reply::Scheduled(id) => id,
            other => panic!("{other:?}"),
        }
    }

    fn list(&mut self, query: SchedulesQuery) -> Vec<EventId> {
        match self.ask(Command::Schedules(query)) {
            Some(Reply::Schedules(found)) => found.into_iter().map(|it| it.id).collect(),
            other => panic!("{other:?}"),
        }
    }

    fn cancel(&mut self, app: u16, id: EventId) -> Option<Refusal> {
        match self.ask(Command::CancelSchedule(AppIndex(app), id)) {
            Some(Reply::Done) => None,
            Some(Reply::Refused(refusal)) => Some(refusal),
            other => panic!("{other:?}"),
        }
    }

    fn use_once(&mut self, app: u16, name: &str, until: u64) -> Option<Refusal> {
        match self.ask(Command::UseOnce(AppIndex(app), name.into(), UnixMillis(until))) {
            Some(Reply::Done) => None,
            Some(Reply::Refused(refusal)) => Some(refusal),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_is_due_is_done_in_order_by_the_wall_clock() {
    let mut bench = Bench::new();
    assert_eq!(bench.pass(0, 0), None, "with nothing to do there is nothing to look at");
    bench.scheduled(0, "b", 1_030_000);
    bench.scheduled(0, "a", 1_020_000);
    bench.scheduled(0, "far", 9_000_000);
    assert_eq!(bench.pass(0, 0), Some(20_000));
    assert_eq!(bench.pass(19_999, 19_999), Some(1));
    assert_eq!(bench.heard, [""; 0]);
    // The wall clock is behind the steady one: not yet.
    assert_eq!(bench.pass(1, 0), Some(1));
    assert_eq!(bench.heard, [""; 0]);
    assert_eq!(bench.pass(1, 1), Some(10_000));
    assert_eq!(bench.heard, ["a"]);
    // It leaps ahead, which is seen at the next look.
    assert_eq!(bench.pass(10_000, 100_000), Some(60_000));
    assert_eq!(bench.heard, ["a", "b"]);
    // And back: what is far is looked for every minute.
    assert_eq!(bench.pass(60_000, -500_000), Some(60_000));
    bench.again();
    assert_eq!(bench.pass(60_000, 20_000_000), None);
    assert_eq!(bench.heard, ["a", "b", "far"]);
}

#[test]
fn what_is_listed_is_there_in_the_order_of_ids_and_what_is_cancelled_is_not() {
    let mut bench = Bench::new();
    let ids: Vec<_> = (0..5).map(|n| bench.scheduled(0, "e", 9_000_000 - n)).collect();
    let other = bench.scheduled(1, "e", 9_000_000);
    let app = AppIndex(0);
    let all = SchedulesQuery { app, after: None, only: None, schedules_max: 100 };
    for (query, expected) in [
        (all, &ids[..]),
        (SchedulesQuery { schedules_max: 2, ..all }, &ids[..2]),
        (SchedulesQuery { schedules_max: 0, ..all }, &[]),
        (SchedulesQuery { after: Some(ids[2]), ..all }, &ids[3..]),
        (SchedulesQuery { only: Some(ids[3]), ..all }, &ids[3..4]),
        (SchedulesQuery { only: Some(other), ..all }, &[]),
        (SchedulesQuery { app: AppIndex(1), ..all }, &[other]),
        (SchedulesQuery { app: AppIndex(7), ..all }, &[]),
    ] {
        assert_eq!(bench.list(query), expected, "{query:?}");
    }
    assert_eq!(bench.cancel(1, ids[0]), Some(Refusal::NotFound), "of another app");
    assert_eq!(bench.cancel(7, ids[0]), Some(Refusal::NotFound), "of no app");
    assert_eq!((bench.cancel(0, ids[0]), bench.cancel(0, ids[0])), (None, Some(Refusal::NotFound)));
    assert_eq!(bench.list(all), ids[1..]);
    bench.pass(60_000, 20_000_000);
    assert_eq!(bench.heard, ["e"; 4]);
    assert_eq!(bench.cancel(0, ids[1]), Some(Refusal::NotFound), "it is done");
    let counts = bench.home.take_counts();
    assert_eq!((counts.schedules_done, counts.schedules_late, counts.published), (5, 5, 5));
}

#[test]
fn a_repeated_key_hears_the_first_answer_within_its_span() {
    let mut bench = Bench::new();
    let id = |reply| match reply {
        Reply::Scheduled(id) => Ok(id),
        Reply::Refused(refusal) => Err(refusal),
        other => panic!("{other:?}"),
    };
    // A key's name, and behind it what it is used with.
    let first = id(bench.schedule(0, "e", 9_000_000, Some("k1"))).expect("a new key");
    assert_eq!(id(bench.schedule(0, "e", 9_000_000, Some("k1"))), Ok(first));
    assert_eq!(id(bench.schedule(0, "e", 9_000_000, Some("k22"))), Err(Refusal::KeyReused));
    assert!(id(bench.schedule(1, "e", 9_000_000, Some("k1"))).expect("of its own") != first);
    let full = Refusal::KeysFull { keys_max: 2, free_in: Millis(9_000) };
    assert_eq!(id(bench.schedule(0, "e", 9_000_000, Some("l1"))), Err(full));
    bench.pass(9_000, 9_000);
    assert!(id(bench.schedule(0, "e", 9_000_000, Some("k1"))).expect("forgotten") != first);
    // One that failed so that nobody knows is scheduled once, whichever way it failed.
    for outcome in [Outcome::FailsBefore, Outcome::FailsAfter] {
        bench.pass(9_000, 9_000);
        bench.heard.clear();
        bench.memory.expect([outcome]);
        let reply = bench.schedule(0, "failed", bench.now.wall.0 + 5, Some("m1"));
        assert_eq!(id(reply), Err(Refusal::StoreFailed));
        let again = id(bench.schedule(0, "failed", bench.now.wall.0 + 5, Some("m1")));
        assert_eq!(id(bench.schedule(0, "failed", bench.now.wall.0 + 5, Some("m1"))), again);
        bench.pass(5, 5);
        assert_eq!(bench.heard, ["failed"], "{outcome:?}");
    }
}

#[test]
fn what_could_not_be_done_is_tried_again_later_and_later_and_done_once() {
    for outcome in [Outcome::FailsBefore, Outcome::FailsAfter] {
        let mut bench = Bench::new();
        bench.scheduled(0, "e", 1_000_010);
        bench.memory.expect([outcome]);
        let next = bench.pass(10, 10);
        let is_done = outcome == Outcome::FailsAfter;
        assert_eq!(next, (!is_done).then_some(1_000));
        assert_eq!(bench.heard.len(), usize::from(is_done));
        if !is_done {
            bench.memory.expect([outcome]);
            assert_eq!(bench.pass(1_000, 1_000), Some(2_000));
            assert_eq!(bench.pass(2_000, 2_000), None);
        }
        assert_eq!(bench.heard, ["e"]);
        bench.again();
        assert_eq!(bench.heard, ["e"]);
    }
}

#[test]
fn a_name_is_used_once_in_its_app_until_it_is_no_good_any_more() {
    let mut bench = Bench::new();
    let used = Some(Refusal::Used);
    assert_eq!(
        (bench.use_once(0, "t", 1_010_000), bench.use_once(0, "t", 1_010_000)),
        (None, used)
    );
    assert_eq!(
        (bench.use_once(1, "t", 1_010_000), bench.use_once(0, "tt", 1_010_000)),
        (None, None)
    );
    bench.again();
    assert_eq!(bench.use_once(0, "t", 9_000_000), used);
    bench.pass(10_000, 10_000);
    assert_eq!(bench.use_once(0, "t", 9_000_000), used, "a clock may be set back a little");
    bench.pass(MARGIN.0, MARGIN.0 as i64);
    assert_eq!(bench.use_once(0, "t", u64::MAX), None);
    assert_eq!(bench.use_once(9, "t", 9_000_000), Some(Refusal::StoreBusy), "no such app");
    // After a failure nobody knows, and nobody may use it.
    bench.memory.expect([Outcome::FailsAfter]);
    assert_eq!(bench.use_once(0, "f", 9_000_000), Some(Refusal::StoreFailed));
    assert_eq!(bench.use_once(0, "f", 9_000_000), used);
}

#[test]
fn a_home_that_does_no_schedules_takes_none() {
    let mut bench = Bench::new();
    let keeping = Keeping { shard: None, ..bench.home.keeping.clone() };
    let slots = Arc::new(Slots::new(1, [5, 6]));
    bench.home = Home::new(slots, Limits { channels_max: 9 }).keeping(keeping);
    assert!(matches!(bench.schedule(0, "e", 1, None), Reply::Refused(Refusal::StoreBusy)));
    assert_eq!(bench.home.next_due(), None);
}

#[test]
fn what_is_of_an_app_that_is_gone_is_left_where_it_is() {
    let mut bench = Bench::new();
    let stream = StreamKey { app: "gone".into(), channel: "c".into() };
    let put = |key, value| (Shelf::Schedules, Change::Put { key, value, expires: NEVER });
    let (at, id) = (UnixMillis(5), EventId(7));
    let changes = vec![
        put(deferred::index_key(at, id), deferred::encode_index(&stream, Body::Told)),
        put(deferred::index_key(at, EventId(8)), Bytes::from_static(b"of a later version")),
    ];
    bench.ledger.answer([Ask::Change { changes }], UnixMillis(0));
    bench.again();
    assert_eq!(bench.pass(0, 0), None);
    let ask = Ask::read(Shelf::Schedules, Bytes::new(), None, 9);
    let Answer::Values { values, .. } = bench.ledger.answer([ask], UnixMillis(0)).remove(0) else {
        panic!("reads")
    };
    assert_eq!(values.len(), 2);
}
