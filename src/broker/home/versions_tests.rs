//! Versions of messages: what is asked of the store, and for how long they are there.

use std::collections::VecDeque;

use bytes::Bytes;

use super::*;
use crate::base::ids::{AppIndex, ConnectionId, LaneId, Ticket};
use crate::base::name::Name;
use crate::base::time::{Millis, Nanos, UnixMillis};
use crate::broker::home::{Keeping, Limits};
use crate::broker::rules::{AppRules, Pattern, Rule, Rules};
use crate::broker::slots::Slots;
use crate::broker::versioned::{About, Action};
use crate::broker::{Command, IdempotencyKey, Payload, Publish, Published, Report, Up};
use crate::store::database::Database;
use crate::store::ledger::Ledger;
use crate::store::memory::Memory;
use crate::store::open;
use crate::store::reads::Reader;

struct Reporter;

impl Render for Reporter {
    fn render(&self, _: LaneId, _: &Event) -> Option<Bytes> {
        None
    }

    fn report(&self, event: &Event, about: Option<&Payload>, out: &mut Vec<Report>) {
        let Some(body) = about.cloned() else { return };
        let kind =
            Name::from(if matches!(event.happening, Happening::Mutated(_)) { "m" } else { "" });
        let (app, fields) = (event.channel.app, Vec::new());
        out.push(Report { app, kind, channel: None, fields, body });
    }
}

/// One home, and a store that does what it is asked when it is told to.
struct Bench {
    home: Home,
    memory: Memory,
    ledger: Ledger,
    store: u128,
    asked: VecDeque<(u64, Ask)>,
    now: Now,
    answers: Vec<Reply>,
}

const MEMORY: &str = "memory";
const DURABLE: &str = "durable";
const PLAIN: &str = "plain";

fn channel(name: &str) -> Channel {
    Channel { app: AppIndex(0), name: name.into() }
}

fn json(text: &str) -> Payload {
    Payload(Bytes::from(text.to_owned()))
}

fn appending(name: &str, message: MessageRef) -> Mutate {
    Mutate {
        channel: channel(name),
        message,
        action: Action::Append,
        name: Patch::Stay,
        data: Patch::Set(json("\"x\"")),
        extras: Patch::Stay,
        about: About::default(),
        only_of: None,
        data_bytes_max: 10_000,
        exclude: None,
        key: None,
        report: None,
        push: None,
    }
}

impl Bench {
    fn new() -> Self {
        let rule = |mode| Rule { mode, age: Millis(10_000), events_max: 0, bytes_max: 0 };
        let rules = AppRules {
            id: "app".into(),
            rules: vec![
                (Pattern(MEMORY.into()), rule(Mode::Memory)),
                (Pattern(DURABLE.into()), rule(Mode::Durable)),
            ],
        };
        let now = Now { steady: Nanos(1 << 40), wall: UnixMillis(1_700_000_000_000) };
        let slots = Arc::new(Slots::new(1, [5, 6]));
        let keeping =
            Keeping { rules: Rules::new(vec![rules]), origin: now, seed: 1, ..Keeping::default() };
        let memory = Memory::default();
        let store = open::settle(&memory, 7).expect("a settled store");
        let ledger = Ledger::new(Arc::new(memory.clone()), store).expect("a sound store");
        Self {
            home: Home::new(slots, Limits { channels_max: 10 }).keeping(keeping),
            memory,
            ledger,
            store,
            asked: VecDeque::new(),
            now,
            answers: Vec::new(),
        }
    }

    fn take(&mut self, out: Vec<(ShardId, Down)>) {
        for (_, down) in out {
            if let Down::Answer { reply, .. } = down {
                self.answers.push(reply);
            }
        }
        while let Some(ask) = self.home.next_ask() {
            self.asked.push_back(ask);
        }
    }

    fn up(&mut self, command: Command) {
        let from = ConnectionId { shard: ShardId(0), slot: 1, generation: 1 };
        let mut out = Vec::new();
        let up = Up::Ask { from, ticket: Ticket(1), command };
        self.home.handle(up, ShardId(0), self.now, &Reporter, &mut out);
        self.take(out);
    }

    /// The store does all it was asked.
    fn store(&mut self) {
        let clock = self.home.clock(self.now);
        while let Some((tag, ask)) = self.asked.pop_front() {
            let look = self.memory.look();
            let answer = match Reader::default().answer(&*look, self.store, &ask, clock) {
                Some(answer) => answer,
                None => self.ledger.answer([ask], clock).pop().expect("one for each"),
            };
            let mut out = Vec::new();
            self.home.stored(tag, answer, self.now, &Reporter, &mut out);
            self.take(out);
        }
    }

    fn ask(&mut self, command: Command) -> Reply {
        self.answers.clear();
        self.up(command);
        self.store();
        assert_eq!(self.answers.len(), 1);
        self.answers.pop().expect("one answer")
    }

    fn publish(&mut self, name: &str, data: &str) -> MessageRef {
        let publish = Publish::new(channel(name), "e".into(), json(data), self.now.steady);
        match self.ask(Command::Publish(Box::new(publish))) {
            Reply::Published(Published { id, serial, .. }) => MessageRef { id, serial },
            other => panic!("{other:?}"),
        }
    }

    fn pass(&mut self, span: Millis) {
        self.now.steady = self.now.steady + span;
        self.now.wall = UnixMillis(self.now.wall.0 + span.0);
        let mut out = Vec::new();
        self.home.expire(self.now, &Reporter, &mut out);
        self.take(out);
    }

    /// The data of a message, or why there is none.
    fn data(&mut self, name: &str, message: MessageRef) -> String {
        match self.ask(Command::Latest(channel(name), message)) {
            Reply::Versions(it) => match &it.events[0].happening {
                Happening::Mutated(it) => {
                    String::from_utf8_lossy(&it.data.as_ref().expect("it has").0).into_owned()
                }
                Happening::Message { data, .. } => String::from_utf8_lossy(&data.0).into_owned(),
                other => panic!("{other:?}"),
            },
            Reply::Refused(refusal) => format!("{refusal:?}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_storm_of_appends_asks_for_nothing_but_to_be_written() {
    let mut bench = Bench::new();
    let messages = [(); 3].map(|()| bench.publish(DURABLE, "\"\""));
    bench.answers.clear();
    for n in 0..300 {
        bench.up(Command::Mutate(Box::new(appending(DURABLE, messages[n % 3]))));
    }
    assert_eq!(bench.asked.len(), 300, "all are on their way at once");
    assert!(bench.asked.iter().all(|(_, ask)| matches!(ask, Ask::Append { .. })));
    assert!(bench.answers.is_empty(), "nobody is told before it is on disk");
    bench.store();
    let is_told = |it: &Reply| matches!(it, Reply::Published(it) if it.mode == Mode::Durable);
    assert_eq!(bench.answers.iter().filter(|it| is_told(it)).count(), 300);
    for message in messages {
        assert_eq!(bench.data(DURABLE, message), format!("\"{}\"", "x".repeat(100)));
    }
}

#[test]
fn a_message_stays_as_long_as_its_last_version() {
    for name in [MEMORY, DURABLE] {
        let mut bench = Bench::new();
        let [changed, other] = [(); 2].map(|()| bench.publish(name, "1"));
        for _ in 0..4 {
            bench.pass(Millis(6_000));
            let reply = bench.ask(Command::Mutate(Box::new(appending(name, changed))));
            assert!(matches!(reply, Reply::Published(_)), "{name}: {reply:?}");
        }
        assert_eq!(bench.data(name, changed), "\"1xxxx\"", "{name}");
        assert_eq!(bench.data(name, other), "NotFound", "{name}");
        bench.pass(Millis(10_000));
        assert_eq!(bench.data(name, changed), "NotFound", "{name}");
        let reply = bench.ask(Command::Mutate(Box::new(appending(name, changed))));
        assert!(matches!(reply, Reply::Refused(Refusal::NotFound)), "{name}: {reply:?}");
    }
}

#[test]
fn what_cannot_be_is_refused_and_takes_no_place() {
    for (name, refusal) in
        [(MEMORY, Refusal::NotFound), (DURABLE, Refusal::NotFound), (PLAIN, Refusal::NotKept)]
    {
        let mut bench = Bench::new();
        let nothing = MessageRef { id: EventId(7), serial: Serial(1) };
        for _ in 0..2 {
            let command = Command::Mutate(Box::new(appending(name, nothing)));
            let reply = bench.ask(command);
            assert!(matches!(reply, Reply::Refused(it) if it == refusal), "{name}: {reply:?}");
            let reply = bench.ask(Command::Latest(channel(name), nothing));
            assert!(matches!(reply, Reply::Refused(it) if it == refusal), "{name}: {reply:?}");
            let query = VersionsQuery {
                message: nothing,
                after: None,
                is_newest_first: true,
                versions_max: 9,
                bytes_max: 999,
            };
            let reply = bench.ask(Command::Versions(channel(name), Box::new(query)));
            assert!(matches!(reply, Reply::Refused(it) if it == refusal), "{name}: {reply:?}");
            // And the same with a channel that is known.
            bench.publish(name, "1");
        }
        if name == PLAIN {
            continue;
        }
        let message = bench.publish(name, "\"a\"");
        let refused = |change: fn(&mut Mutate)| {
            let mut mutate = appending(name, message);
            change(&mut mutate);
            Command::Mutate(Box::new(mutate))
        };
        for (command, why) in [
            (refused(|it| it.only_of = Some("ann".into())), Refusal::NotOwner),
            (refused(|it| it.data = Patch::Set(json("1"))), Refusal::NotText),
            (refused(|it| it.data_bytes_max = 1), Refusal::DataTooLarge { bytes: 2, bytes_max: 1 }),
        ] {
            let reply = bench.ask(command);
            assert!(matches!(reply, Reply::Refused(it) if it == why), "{name}: {reply:?}");
        }
        let next = bench.publish(name, "1");
        assert_eq!(next.serial.0, message.serial.0 + 1, "{name}");
    }
}

#[test]
fn a_key_gives_one_version_and_its_report_goes_with_it() {
    for name in [MEMORY, DURABLE] {
        let mut bench = Bench::new();
        let message = bench.publish(name, "\"\"");
        let key = |fingerprint| {
            Some(Arc::new(IdempotencyKey {
                name: "k".into(),
                fingerprint: [fingerprint; 16],
                span: None,
            }))
        };
        let mutate = |fingerprint| Mutate {
            key: key(fingerprint),
            report: Some(json("{}")),
            ..appending(name, message)
        };
        bench.answers.clear();
        for fingerprint in [1, 1, 2] {
            bench.up(Command::Mutate(Box::new(mutate(fingerprint))));
        }
        bench.store();
        let told: Vec<_> = bench
            .answers
            .iter()
            .map(|it| match it {
                Reply::Published(it) => Ok((it.serial.0, it.is_repeated)),
                Reply::Refused(refusal) => Err(*refusal),
                other => panic!("{other:?}"),
            })
            .collect();
        for expected in [Ok((2, false)), Ok((2, true)), Err(Refusal::KeyReused)] {
            assert!(told.contains(&expected), "{name}: {told:?}");
        }
        assert_eq!(bench.data(name, message), "\"x\"", "{name}");
        bench.store();
        let ask = Ask::read(Shelf::Outbox, Bytes::new(), None, 9);
        let look = bench.memory.look();
        let outbox = Reader::default().answer(&*look, bench.store, &ask, bench.now.wall);
        let Some(Answer::Values { values, .. }) = outbox else { panic!("{outbox:?}") };
        assert_eq!(values.len(), 1, "{name}");
    }
}

#[test]
fn without_push_notifications_a_version_is_told_alone() {
    let mut bench = Bench::new();
    bench.home.keeping.has_pushes = false;
    let message = bench.publish(MEMORY, "\"\"");
    let pushing = Mutate {
        push: Some(json("a notification")),
        data: Patch::Set(json("\"x\"")),
        ..appending(MEMORY, message)
    };
    bench.answers.clear();
    bench.up(Command::Mutate(Box::new(pushing)));
    assert!(matches!(bench.answers[..], [Reply::Published(_)]), "{:?}", bench.answers);
    assert_eq!(bench.data(MEMORY, message), "\"x\"");
}

#[test]
fn a_notification_is_on_disk_before_its_version_is_told() {
    for name in [MEMORY, DURABLE] {
        let mut bench = Bench::new();
        let message = bench.publish(name, "\"\"");
        let pushing = |data: &str| Mutate {
            push: Some(json("a notification")),
            data: Patch::Set(json(data)),
            ..appending(name, message)
        };
        bench.answers.clear();
        bench.up(Command::Mutate(Box::new(pushing("\"x\""))));
        bench.up(Command::Mutate(Box::new(appending(name, message))));
        assert!(bench.answers.is_empty(), "{name}: {:?}", bench.answers);
        // What cannot be is refused, and nobody is notified of it.
        bench.up(Command::Mutate(Box::new(pushing("7"))));
        bench.store();
        let mut told: Vec<_> = bench
            .answers
            .iter()
            .map(|it| match it {
                Reply::Published(it) => Ok(it.serial.0),
                Reply::Refused(refusal) => Err(*refusal),
                other => panic!("{other:?}"),
            })
            .collect();
        told.sort_by_key(|it| it.is_err());
        assert_eq!(told, [Ok(2), Ok(3), Err(Refusal::NotText)], "{name}");
        assert_eq!(bench.data(name, message), "\"xx\"", "{name}");
        let ask = Ask::read(Shelf::PushQueue, Bytes::new(), None, 9);
        let look = bench.memory.look();
        let queue = Reader::default().answer(&*look, bench.store, &ask, bench.now.wall);
        let Some(Answer::Values { values, .. }) = queue else { panic!("{queue:?}") };
        let values: Vec<_> = values.iter().map(|(_, value)| &value[..]).collect();
        assert_eq!(values, [b"a notification"], "{name}");
    }
}
