use super::*;
use crate::base::ids::{AppIndex, LaneId, Serial};
use crate::base::time::UnixMillis;
use crate::broker::home::{Keeping, Limits};
use crate::broker::rules::{AppRules, Pattern, Rule, Rules};
use crate::broker::slots::Slots;
use crate::broker::{Event, Happening, Mode, PageQuery, Parting, Renew, Reply, Subscribe, Up};
use crate::store::ledger::Ledger;
use crate::store::memory::Memory;
use crate::store::{Answer, Fault, open};

struct Plain;

impl Render for Plain {
    fn render(&self, _: LaneId, _: &Event) -> Option<Bytes> {
        None
    }
}

struct Bench {
    memory: Memory,
    ledger: Ledger,
    home: Home,
    now: Now,
    /// The store is not there.
    is_away: bool,
}

fn ledger(memory: &Memory) -> Ledger {
    let store = open::settle(memory, 3).unwrap();
    Ledger::new(Arc::new(memory.clone()), store).unwrap()
}

fn home(now: Now, mode: Mode, seed: u64) -> Home {
    let rules = vec![(Pattern("presence-*".into()), Rule { mode, ..Rule::default() })];
    let rules = Rules::new(vec![AppRules { id: "app".into(), rules }]);
    Home::new(Arc::new(Slots::new(1, [5, 6])), Limits { channels_max: 9 }).keeping(Keeping {
        rules,
        shard: Some(ShardId(0)),
        origin: now,
        seed,
        ..Keeping::default()
    })
}

fn channel() -> Channel {
    Channel { app: AppIndex(0), name: "presence-r".into() }
}

fn member(words: &str) -> Arc<Member> {
    let (id, info) = words.split_once(':').map_or((words, None), |it| (it.0, Some(it.1)));
    let info = info.map(|it| Payload(Bytes::from(it.to_owned())));
    Arc::new(Member { user_id: id.into(), info })
}

fn connection(slot: u32) -> ConnectionId {
    ConnectionId { shard: ShardId(0), slot, generation: 1 }
}

fn subscription(who: &str, lease: u64) -> Subscribe {
    let (member, lease) = (Some(member(who)), Millis(lease));
    Subscribe { member, members_max: 9, lease, ..Subscribe::new(channel(), LaneId(0)) }
}

impl Bench {
    fn new(mode: Mode) -> Self {
        let now = Now { steady: Nanos(0) + Millis(1_000), wall: UnixMillis(50_000) };
        let memory = Memory::default();
        let ledger = ledger(&memory);
        Self { memory, ledger, home: home(now, mode, 1), now, is_away: false }
    }

    fn mail(&mut self, up: Up) -> Option<Reply> {
        let mut out = Vec::new();
        self.home.handle(up, ShardId(0), self.now, &Plain, &mut out);
        self.follow(out)
    }

    /// Lets the store answer, and gives what was replied last.
    fn follow(&mut self, mut out: Vec<(ShardId, Down)>) -> Option<Reply> {
        let mut replied = None;
        loop {
            for (_, down) in out.drain(..) {
                if let Down::Answer { reply, .. } = down {
                    replied = Some(reply);
                }
            }
            let Some((tag, ask)) = self.home.next_ask() else { return replied };
            let clock = self.home.clock(self.now);
            let answer = match self.is_away {
                true => Answer::Fault(Fault::Unavailable),
                false => self.ledger.answer([ask], clock).remove(0),
            };
            self.home.stored(tag, answer, self.now, &Plain, &mut out);
        }
    }

    fn wait(&mut self, span: u64) {
        self.now.steady = self.now.steady + Millis(span);
        self.now.wall.0 += span;
        for _ in 0..100 {
            if self.home.next_due().is_none_or(|due| due > self.now.steady) {
                return;
            }
            let mut out = Vec::new();
            self.home.expire(self.now, &Plain, &mut out);
            self.follow(out);
        }
        panic!("it never rests");
    }

    fn join(&mut self, slot: u32, who: &str, lease: u64) {
        let command = Command::Subscribe(Box::new(subscription(who, lease)));
        self.mail(Up::Ask { from: connection(slot), ticket: Ticket(1), command });
    }

    fn renew(&mut self, slot: u32, who: &str) {
        let renew = Renew { member: member(who), members_bytes_max: 0 };
        let command = Command::Renew(channel(), Box::new(renew));
        self.mail(Up::Ask { from: connection(slot), ticket: Ticket(1), command });
    }

    fn leave(&mut self, slot: u32, who: &str, lease: u64, parting: Parting) {
        let by = Some(connection(slot));
        let ended = Subscribe { by, ..subscription(who, lease) };
        self.mail(Up::Detach(Box::new(ended), parting));
    }

    fn history(&mut self) -> Vec<serde_json::Value> {
        let name = companion::presence_history(&channel().name);
        let query = PageQuery {
            epoch: None,
            from: Serial(1),
            to: None,
            from_at: None,
            to_at: None,
            is_newest_first: false,
            events_max: 1000,
            bytes_max: 1 << 20,
            is_latest: false,
        };
        let command = Command::History(Channel { name, ..channel() }, Box::new(query));
        let up = Up::Ask { from: connection(9), ticket: Ticket(1), command };
        let Some(Reply::Page(page)) = self.mail(up) else { panic!("a page") };
        let told = |event: &Arc<Event>| {
            let Happening::Message { name, data, .. } = &event.happening else { panic!("it is") };
            let it: serde_json::Value = serde_json::from_slice(&data.0).unwrap();
            assert_eq!(it["event"], &**name);
            it
        };
        page.events.iter().map(told).collect()
    }

    /// Event, cause, user, slot of the connection.
    fn words(&mut self) -> Vec<String> {
        let text = |it: &serde_json::Value| it.as_str().unwrap_or("-").to_owned();
        let by = |it: &serde_json::Value| match it["connection_id"].as_str() {
            None => "-".to_owned(),
            Some(id) => (1..9).find(|n| connection(*n).to_string() == id).unwrap().to_string(),
        };
        let words = |it: &serde_json::Value| {
            let (event, cause, user) = (&it["event"], &it["cause"], &it["user_id"]);
            format!("{} {} {} {}", text(event), text(cause), text(user), by(it))
        };
        self.history().iter().map(words).collect()
    }
}

#[test]
fn what_happens_to_members_is_kept_with_its_cause() {
    for mode in [Mode::Memory, Mode::Durable] {
        let mut bench = Bench::new(mode);
        bench.join(1, "ann:{\"n\":1}", 2_000);
        bench.join(2, "ann", 0);
        bench.join(3, "bob", 2_000);
        bench.renew(3, "bob:2");
        bench.leave(1, "ann", 0, Parting::Closed);
        bench.leave(2, "ann", 0, Parting::Lost);
        bench.leave(3, "bob", 2_000, Parting::Lost);
        bench.wait(1_999);
        bench.join(4, "bob:2", 2_000);
        bench.leave(4, "bob", 2_000, Parting::Silent);
        bench.wait(2_000);
        for (slot, parting) in
            [(5, Parting::Unsubscribed), (6, Parting::Silent), (7, Parting::Forced)]
        {
            bench.join(slot, "eve", 0);
            bench.leave(slot, "eve", 0, parting);
        }
        assert_eq!(
            bench.words(),
            [
                "member_added join ann 1",
                "member_added join bob 3",
                "member_updated join bob 3",
                "member_removed disconnect ann 2",
                // Back in time, and not told; lost again, and nobody came back.
                "member_removed timeout bob -",
                "member_added join eve 5",
                "member_removed disconnect eve 5",
                "member_added join eve 6",
                "member_removed timeout eve 6",
                "member_added join eve 7",
                "member_removed forced_disconnect eve 7",
            ],
            "{mode:?}"
        );
        let history = bench.history();
        assert_eq!(
            history[0],
            serde_json::json!({
                "event": "member_added", "cause": "join", "user_id": "ann",
                "connection_id": connection(1).to_string(), "user_info": {"n": 1},
                "dead_node_id": null, "published_at_ms": 50_000,
                "dedupe_key": format!("member_added:presence-r:ann:{}:50000", connection(1)),
            })
        );
        assert_eq!(history[2]["user_info"], 2);
        assert_eq!(history[4]["published_at_ms"], 53_999);
    }
}

#[test]
fn what_the_store_does_not_take_is_kept_later_and_in_order() {
    let mut bench = Bench::new(Mode::Durable);
    bench.join(1, "ann", 0);
    bench.is_away = true;
    let mut expected = vec!["member_added join ann 1".to_owned()];
    for round in 0..5 {
        let slot = 2 + round % 4;
        bench.join(slot, "bob", 0);
        bench.wait(if round % 2 == 0 { 10 } else { 1_500 });
        bench.leave(slot, "bob", 0, Parting::Closed);
        expected.push(format!("member_added join bob {slot}"));
        expected.push(format!("member_removed disconnect bob {slot}"));
    }
    assert!(bench.home.untaken.due().is_some());
    bench.is_away = false;
    bench.wait(1_500);
    bench.wait(1_500);
    assert_eq!(bench.home.untaken.due(), None);
    assert_eq!(bench.words(), expected);
    assert_eq!(bench.home.take_counts().presence_lost, 0);
}

#[test]
fn what_waits_is_bounded() {
    let mut untaken = Untaken::default();
    let publish = || {
        let data = Payload(Bytes::from_static(b"1"));
        Box::new(Publish::new(channel(), "e".into(), data, Nanos(0)))
    };
    assert!((0..WAITING_MAX).all(|_| untaken.push(publish())));
    assert!(!untaken.push(publish()));
}

#[test]
fn a_later_process_is_another_run() {
    let mut bench = Bench::new(Mode::Durable);
    bench.join(1, "ann", 0);
    let first = bench.home.run_text();
    bench.memory.reopen();
    (bench.ledger, bench.home) = (ledger(&bench.memory), home(bench.now, Mode::Durable, 2));
    bench.join(1, "bob", 0);
    assert_eq!(bench.words(), ["member_added join ann 1", "member_added join bob 1"]);
    assert_ne!(bench.home.run_text(), first);
}

#[test]
fn who_reads_hears_of_what_is_on_its_way() {
    let mut bench = Bench::new(Mode::Durable);
    bench.join(1, "ann", 0);
    let name = companion::presence_history(&channel().name);
    // An event is on its way; who asks now waits for it, and not for the next.
    let mut out = Vec::new();
    let mut tell = |bench: &mut Bench, command| {
        let up = Up::Ask { from: connection(3), ticket: Ticket(7), command };
        bench.home.handle(up, ShardId(0), bench.now, &Plain, &mut out);
        out.iter().filter(|(_, it)| matches!(it, Down::Answer { .. })).count()
    };
    let join = |who: &str| Command::Subscribe(Box::new(subscription(who, 0)));
    assert_eq!(tell(&mut bench, join("bob")), 0);
    assert_eq!(tell(&mut bench, Command::Stream(Channel { name, ..channel() })), 0);
    assert_eq!(tell(&mut bench, join("eve")), 0);
    let mut answered = Vec::new();
    while let Some((tag, ask)) = bench.home.next_ask() {
        let clock = bench.home.clock(bench.now);
        let is_append = matches!(ask, crate::store::Ask::Append { .. });
        let answer = bench.ledger.answer([ask], clock).remove(0);
        let mut out = Vec::new();
        bench.home.stored(tag, answer, bench.now, &Plain, &mut out);
        let stream = out.iter().find_map(|(_, it)| match it {
            Down::Answer { reply: Reply::Stream(stream), .. } => Some(stream.newest),
            _ => None,
        });
        answered.extend(is_append.then_some(stream));
    }
    assert_eq!(answered, [Some(Serial(2)), None]);
}
