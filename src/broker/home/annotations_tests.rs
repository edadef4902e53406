//! Annotations in a storm: the store is not asked more than it must be, few summaries are told, and the last is true.

use std::collections::BTreeMap;

use super::*;
use crate::base::ids::{AppIndex, ConnectionId, LaneId, Ticket};
use crate::base::name::Name;
use crate::base::time::Nanos;
use crate::broker::home::summaries::SUMMARY_PERIOD;
use crate::broker::home::{Keeping, Limits};
use crate::broker::rules::{AppRules, Pattern, Rule, Rules};
use crate::broker::slots::Slots;
use crate::broker::summary::Summary;
use crate::broker::versioned::{Annotation, Summarized, Summarizer};
use crate::broker::{Payload, Publish, Subscribe, Up};
use crate::store::ledger::Ledger;
use crate::store::memory::Memory;
use crate::store::open;

struct Plain;

impl Render for Plain {
    fn render(&self, _: LaneId, _: &Event) -> Option<Bytes> {
        Some(Bytes::from_static(b"x"))
    }
}

struct Bench {
    ledger: Ledger,
    home: Home,
    now: Now,
    /// Each ask of the store that was not answered yet.
    asked: Vec<(u64, Ask)>,
    told: Vec<Arc<Summarized>>,
    raw: Vec<Annotated>,
    replies: Vec<Reply>,
}

fn ledger(memory: &Memory) -> Ledger {
    let store = open::settle(memory, 3).unwrap();
    Ledger::new(Arc::new(memory.clone()), store).unwrap()
}

fn home(now: Now, bytes_max: u64) -> Home {
    let rule = |mode| Rule { mode, age: Millis(0), events_max: 0, bytes_max: 0 };
    let rules = vec![
        (Pattern("durable".into()), rule(Mode::Durable)),
        (Pattern("memory".into()), rule(Mode::Memory)),
    ];
    let rules = Rules::new(vec![AppRules { id: "app".into(), rules }]);
    let keeping = Keeping { rules, origin: now, bytes_max, ..Keeping::default() };
    Home::new(Arc::new(Slots::new(1, [5, 6])), Limits { channels_max: 9 }).keeping(keeping)
}

fn channel(name: &str) -> Channel {
    Channel { app: AppIndex(0), name: name.into() }
}

impl Bench {
    fn new(bytes_max: u64) -> Self {
        let memory = Memory::default();
        let now = Now { steady: Nanos(1 << 40), wall: UnixMillis(1_000_000) };
        Self {
            ledger: ledger(&memory),
            home: home(now, bytes_max),
            now,
            asked: Vec::new(),
            told: Vec::new(),
            raw: Vec::new(),
            replies: Vec::new(),
        }
    }

    fn take(&mut self, out: Vec<(ShardId, Down)>) {
        while let Some(ask) = self.home.next_ask() {
            self.asked.push(ask);
        }
        for (_, down) in out {
            match down {
                Down::Deliver(delivery) => match &delivery.event.happening {
                    Happening::Summarized(it) => self.told.push(it.clone()),
                    Happening::Annotated(it) => self.raw.push((**it).clone()),
                    _ => {}
                },
                Down::Answer { reply, .. } => self.replies.push(reply),
                Down::Attach { .. } => {}
            }
        }
    }

    fn ask(&mut self, command: Command) {
        let from = ConnectionId { shard: ShardId(0), slot: 1, generation: 1 };
        let up = Up::Ask { from, ticket: Ticket(1), command };
        let mut out = Vec::new();
        self.home.handle(up, ShardId(0), self.now, &Plain, &mut out);
        self.take(out);
    }

    /// The store answers all it was asked, in groups.
    fn store(&mut self) {
        while !self.asked.is_empty() {
            self.store_once();
        }
    }

    fn store_once(&mut self) {
        let (tags, asks): (Vec<_>, Vec<_>) = std::mem::take(&mut self.asked).into_iter().unzip();
        let answers = self.ledger.answer(asks, self.now.wall);
        for (tag, answer) in tags.into_iter().zip(answers) {
            let mut out = Vec::new();
            self.home.stored(tag, answer, self.now, &Plain, &mut out);
            self.take(out);
        }
    }

    fn pass(&mut self, span: Nanos) {
        self.now.steady = Nanos(self.now.steady.0 + span.0);
        let mut out = Vec::new();
        self.home.expire(self.now, &Plain, &mut out);
        self.take(out);
    }

    fn published(&mut self) -> Published {
        match self.replies.pop() {
            Some(Reply::Published(it)) => it,
            other => panic!("{other:?}"),
        }
    }

    fn publish(&mut self, name: &str) -> MessageRef {
        let data = Payload(Bytes::from_static(b"1"));
        let publish = Publish::new(channel(name), "e".into(), data, Nanos(0));
        self.ask(Command::Publish(Box::new(publish)));
        self.store();
        let Published { id, serial, .. } = self.published();
        MessageRef { id, serial }
    }

    fn summaries(&mut self, name: &str) -> Vec<Arc<Summarized>> {
        self.ask(Command::Summaries(channel(name)));
        self.store();
        match self.replies.pop() {
            Some(Reply::Summaries(it)) => it,
            other => panic!("{other:?}"),
        }
    }
}

fn say(name: &str, message: MessageRef, client: &str, what: &str) -> Command {
    let annotation = Annotation {
        message,
        kind: "reaction:unique.v1".into(),
        summarizer: Summarizer::Unique,
        name: Some(what.into()),
        client_id: Some(client.into()),
        count: None,
        data: None,
        encoding: None,
    };
    let (channel, what) = (channel(name), Annotating::Say(annotation));
    Command::Annotate(Box::new(Annotate {
        channel,
        what,
        summary_bytes_max: 1 << 20,
        report: None,
    }))
}

#[test]
fn a_storm_of_annotations_makes_few_summaries_and_the_last_is_true() {
    const ANNOTATIONS: u64 = 10_000;
    for name in ["memory", "durable"] {
        let mut bench = Bench::new(64 << 20);
        bench.ask(Command::Subscribe(Box::new(Subscribe::new(channel(name), LaneId(0)))));
        bench.store();
        let message = bench.publish(name);
        let mut expected = Summary::new(Summarizer::Unique);
        let mut reads = 0;
        // One after the other within a second; the store syncs every 4 ms.
        for n in 0..ANNOTATIONS {
            let client = format!("client-{}", n * 7 % 1_000);
            bench.ask(say(name, message, &client, ["up", "down", "heart"][(n % 3) as usize]));
            // A read is looked at until it is answered, 40 times at most.
            reads += bench.asked.iter().filter(|it| !matches!(it.1, Ask::Append { .. })).count();
            if n % 40 == 0 {
                bench.store();
            }
            bench.pass(Nanos(1_000_000_000 / ANNOTATIONS));
        }
        bench.store();
        bench.pass(Nanos(SUMMARY_PERIOD.0 * 1_000_000));
        assert_eq!(bench.replies.len() as u64, ANNOTATIONS);
        assert_eq!(bench.raw.len() as u64, ANNOTATIONS);
        bench.raw.iter().for_each(|it| expected.apply(it));
        // What was said before, and the message, once it left the window, in two places.
        assert!(reads <= 3 * 40, "{reads} looks at reads");
        let most = 1_000 / SUMMARY_PERIOD.0 + 2;
        let told = bench.told.len() as u64;
        assert!((most / 2..=most).contains(&told), "{name}: {told} summaries");
        let last = bench.told.last().unwrap().clone();
        assert_eq!(last.summary, expected.write(1 << 20), "{name}");
        bench.pass(Nanos(1_000_000_000));
        assert_eq!(bench.told.len() as u64, told, "nothing is told twice");
        assert_eq!(bench.summaries(name), vec![last], "{name}");
        if name == "durable" {
            // Another process reads a small part of it.
            bench.home = home(bench.now, 64 << 20);
            bench.ask(Command::Summaries(channel(name)));
            let mut reads = 0;
            while !bench.asked.is_empty() {
                let is_of_said =
                    |ask: &Ask| matches!(ask, Ask::Read { shelf: Shelf::Annotations, .. });
                reads += bench.asked.iter().filter(|it| is_of_said(&it.1)).count();
                bench.store_once();
            }
            // Each of a few annotations.
            assert!(reads < 250, "{reads} reads");
            let Some(Reply::Summaries(all)) = bench.replies.pop() else { panic!("no answer") };
            assert_eq!(all[0].summary, expected.write(1 << 20));
        }
    }
}

#[test]
fn a_new_listener_is_told_of_the_newest_messages() {
    for name in ["memory", "durable"] {
        let mut bench = Bench::new(64 << 20);
        let mut messages = Vec::new();
        for _ in 0..130 {
            let message = bench.publish(name);
            bench.ask(say(name, message, "ann", "up"));
            bench.store();
            bench.published();
            messages.push(message);
        }
        let told: Vec<_> = bench.summaries(name).iter().map(|it| it.message).collect();
        assert_eq!(told, messages[30..], "{name}");
        assert!(bench.told.is_empty(), "nobody listens");
    }
}

#[test]
fn what_does_not_fit_in_memory_is_read_again_or_gone() {
    for name in ["memory", "durable"] {
        let mut bench = Bench::new(100 << 10);
        let mut messages = Vec::new();
        for n in 0..300 {
            let message = bench.publish(name);
            for client in ["ann", "bob"] {
                bench.ask(say(name, message, client, &format!("up-{n}")));
                bench.store();
                bench.published();
            }
            messages.push(message);
            assert!(bench.home.history_bytes() <= 110 << 10, "{}", bench.home.history_bytes());
        }
        let told: BTreeMap<_, Name> =
            bench.summaries(name).iter().map(|it| (it.message, it.kind.clone())).collect();
        let newest = *told.last_key_value().unwrap().0;
        assert_eq!(newest, messages[299], "{name}");
        assert!(bench.home.history_bytes() <= 110 << 10);
    }
}
