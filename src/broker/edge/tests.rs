use super::*;
use crate::base::event_id::EventId;
use crate::base::ids::{AppIndex, Serial};
use crate::base::time::{Nanos, UnixMillis};
use crate::broker::{Control, Description, Parting, Tags};

const SHARD: ShardId = ShardId(1);

/// What the shard was handed, in words.
#[derive(Default)]
struct Heard(Vec<String>);

impl Sink for Heard {
    fn fan_out(
        &mut self,
        lane: LaneId,
        frame: &Bytes,
        recipients: &[Recipient],
        exclude: Option<u32>,
        _: &Event,
    ) {
        let slots: Vec<_> =
            recipients.iter().map(|it| it.slot).filter(|it| Some(*it) != exclude).collect();
        self.0.push(format!("lane {} {frame:?} to {slots:?}", lane.0));
    }

    fn answer(&mut self, to: ConnectionId, ticket: Ticket, reply: Reply) {
        let reply = match reply {
            Reply::Subscribed(it) => format!("subscribed after {}", it.after.0),
            other => format!("{other:?}"),
        };
        self.0.push(format!("{}.{} ticket {}: {reply}", to.slot, to.generation, ticket.0));
    }

    fn hand(&mut self, to: ConnectionId, event: &Event) {
        self.0.push(format!("{}.{} {:?}", to.slot, to.generation, event.happening));
    }
}

struct Bench {
    edge: Edge,
    up: Vec<(ShardId, Up)>,
    heard: Heard,
}

fn id(slot: u32, generation: u32) -> ConnectionId {
    ConnectionId { shard: SHARD, slot, generation }
}

fn channel(name: &str) -> Channel {
    Channel { app: AppIndex(0), name: name.into() }
}

fn subscription(lane: u8, member: bool) -> Box<Subscribe> {
    let member = member.then(|| Arc::new(Member { user_id: "u".into(), info: None }));
    let (channel, lane) = (channel("c"), LaneId(lane));
    Box::new(Subscribe { member, members_max: 9, ..Subscribe::new(channel, lane) })
}

fn happened(happening: Happening) -> Event {
    let (at, arrived) = (UnixMillis(0), Nanos(0));
    let (channel, tags) = (channel("c"), Tags::default());
    Event {
        channel,
        serial: Serial(1),
        epoch: None,
        id: EventId::default(),
        at,
        arrived,
        tags,
        meta: None,
        guarded: false,
        happening,
    }
}

impl Bench {
    fn new() -> Self {
        let edge = Edge::new(SHARD, Arc::new(Slots::new(2, [8, 9])));
        Self { edge, up: Vec::new(), heard: Heard::default() }
    }

    fn ask(&mut self, from: ConnectionId, ticket: u32, command: Command) {
        self.edge.ask(from, Ticket(ticket), command, &mut self.up);
    }

    fn subscribe(&mut self, from: ConnectionId, ticket: u32, lane: u8, member: bool) {
        self.ask(from, ticket, Command::Subscribe(subscription(lane, member)));
    }

    fn unsubscribe(&mut self, from: ConnectionId) {
        self.ask(from, 0, Command::Unsubscribe(channel("c")));
    }

    fn grant(&mut self, to: ConnectionId, ticket: u32, lane: u8, member: bool) {
        let reply = Box::new(Subscribed {
            values: Vec::new(),
            has_more_values: false,
            channel: channel("c"),
            after: Serial(4),
            description: Description::default(),
            members: Vec::new(),
            position: None,
            replay: None,
        });
        let granted = subscription(lane, member);
        self.down(Down::Attach { to, ticket: Ticket(ticket), granted, reply });
    }

    fn down(&mut self, down: Down) {
        self.edge.handle(down, &mut self.heard, &mut self.up);
    }

    fn join(&mut self, slot: u32, lane: u8, member: bool) {
        self.subscribe(id(slot, 1), 1, lane, member);
        self.grant(id(slot, 1), 1, lane, member);
        self.taken();
    }

    fn deliver(&mut self, happening: Happening, exclude: Option<ConnectionId>) {
        let frames = [0, 1, 2].map(|lane| (LaneId(lane), Bytes::from_static(b"f"))).to_vec();
        let event = happened(happening);
        self.down(Down::Deliver(Arc::new(Delivery { event, exclude, frames })));
    }

    /// What went up and what the shard was handed since the last time.
    fn taken(&mut self) -> (Vec<&'static str>, Vec<String>) {
        let up = self.up.drain(..).map(|(_, up)| match up {
            Up::Ask { .. } => "ask",
            Up::Detach(..) => "detach",
        });
        (up.collect(), std::mem::take(&mut self.heard.0))
    }

    fn check(&mut self, up: &[&str], heard: &[&str]) {
        let taken = self.taken();
        assert_eq!(
            (&taken.0[..], taken.1.iter().map(String::as_str).collect::<Vec<_>>()),
            (up, heard.to_vec())
        );
    }

    fn check_empty(&self) {
        assert_eq!((self.edge.subscriptions(), self.edge.channels()), (0, 0));
    }
}

fn count() -> Happening {
    Happening::SubscriptionCount(1)
}

#[test]
fn a_subscription_hears_from_the_answer_to_the_end() {
    let mut bench = Bench::new();
    bench.subscribe(id(3, 7), 1, 1, false);
    bench.deliver(count(), None);
    bench.check(&["ask"], &[]);
    bench.grant(id(3, 7), 1, 1, false);
    bench.check(&[], &["3.7 ticket 1: subscribed after 4"]);
    bench.deliver(count(), None);
    bench.check(&[], &["lane 1 b\"f\" to [3]"]);
    bench.unsubscribe(id(3, 7));
    bench.deliver(count(), None);
    bench.check(&["detach"], &[]);
    bench.unsubscribe(id(3, 7));
    bench.check(&[], &[]);
    bench.check_empty();
}

#[test]
fn a_cancelled_subscription_goes_straight_back() {
    let mut bench = Bench::new();
    bench.subscribe(id(0, 1), 1, 0, false);
    bench.unsubscribe(id(0, 1));
    bench.unsubscribe(id(0, 1));
    bench.check(&["ask"], &[]);
    // Wanted again while the first answer is under way.
    bench.subscribe(id(0, 1), 2, 2, false);
    bench.grant(id(0, 1), 1, 0, false);
    bench.check(&["ask", "detach"], &["0.1 ticket 1: Refused(Cancelled)"]);
    bench.grant(id(0, 1), 2, 2, false);
    bench.deliver(count(), None);
    bench.check(&[], &["0.1 ticket 2: subscribed after 4", "lane 2 b\"f\" to [0]"]);
    bench.edge.close(id(0, 1), Parting::Closed, &mut bench.up);
    bench.check(&["detach"], &[]);
    bench.check_empty();
}

#[test]
fn a_refused_subscription_leaves_nothing() {
    let mut bench = Bench::new();
    let refusal = Refusal::MembersFull { members_max: 9 };
    for cancelled in [false, true] {
        bench.subscribe(id(0, 1), 1, 0, false);
        if cancelled {
            bench.unsubscribe(id(0, 1));
        }
        bench.down(Down::Answer {
            to: id(0, 1),
            ticket: Ticket(1),
            reply: Reply::Refused(refusal),
        });
        bench.check(&["ask"], &["0.1 ticket 1: Refused(MembersFull { members_max: 9 })"]);
        bench.check_empty();
    }
}

#[test]
fn a_closed_connection_leaves_nothing_and_gets_nothing() {
    let mut bench = Bench::new();
    bench.subscribe(id(0, 1), 1, 0, false);
    bench.edge.close(id(0, 1), Parting::Closed, &mut bench.up);
    bench.check_empty();
    // Closed twice, and asked for after the end.
    bench.edge.close(id(0, 1), Parting::Closed, &mut bench.up);
    bench.subscribe(id(0, 1), 2, 0, false);
    bench.check(&["ask"], &[]);
    // The slot's next owner uses the same ticket, which is not theirs to take.
    bench.subscribe(id(0, 2), 1, 0, false);
    bench.grant(id(0, 1), 1, 0, false);
    bench.check(&["ask", "detach"], &[]);
    bench.grant(id(0, 2), 1, 0, false);
    bench.check(&[], &["0.2 ticket 1: subscribed after 4"]);
    bench.edge.close(id(0, 2), Parting::Closed, &mut bench.up);
    bench.check_empty();
}

#[test]
fn only_the_very_connection_is_excluded() {
    let mut bench = Bench::new();
    bench.join(0, 0, false);
    bench.join(1, 0, false);
    let elsewhere = ConnectionId { shard: ShardId(0), slot: 1, generation: 1 };
    for (exclude, heard) in [
        (id(1, 1), "lane 0 b\"f\" to [0]"),
        (id(1, 2), "lane 0 b\"f\" to [0, 1]"),
        (elsewhere, "lane 0 b\"f\" to [0, 1]"),
        (id(9, 1), "lane 0 b\"f\" to [0, 1]"),
    ] {
        bench.deliver(count(), Some(exclude));
        bench.check(&[], &[heard]);
    }
}

#[test]
fn a_control_reaches_members_only() {
    let mut bench = Bench::new();
    bench.join(0, 0, false);
    bench.join(1, 1, true);
    bench.join(2, 0, true);
    bench.deliver(Happening::Control(Control::Reconnect), None);
    bench.check(&[], &["2.1 Control(Reconnect)", "1.1 Control(Reconnect)"]);
}

#[test]
fn a_connection_leaves_its_other_subscriptions_alone() {
    let mut bench = Bench::new();
    for slot in 0..5 {
        bench.join(slot, (slot % 2) as u8, false);
    }
    bench.unsubscribe(id(0, 1));
    bench.deliver(count(), None);
    bench.check(&["detach"], &["lane 0 b\"f\" to [4, 2]", "lane 1 b\"f\" to [1, 3]"]);
    bench.edge.close(id(4, 1), Parting::Closed, &mut bench.up);
    bench.edge.close(id(2, 1), Parting::Closed, &mut bench.up);
    bench.deliver(count(), None);
    bench.check(&["detach", "detach"], &["lane 1 b\"f\" to [1, 3]"]);
}

#[test]
fn a_survey_goes_where_it_is_to_go_and_the_rest_to_its_home() {
    let mut bench = Bench::new();
    for shard in [ShardId(0), ShardId(1)] {
        let survey = Command::Survey { shard, from: 0, app: AppIndex(0), prefix: "".into() };
        bench.ask(id(0, 1), 1, survey);
        assert_eq!(bench.up.pop().map(|(to, _)| to), Some(shard));
    }
    for name in ["a", "b", "c", "d", "e"] {
        bench.ask(id(0, 1), 2, Command::Describe(channel(name)));
        assert_eq!(bench.up.pop().map(|(to, _)| to), Some(bench.edge.home_of(&channel(name))));
    }
}

#[test]
fn sessions_of_one_shard_share_a_name() {
    let mut bench = Bench::new();
    bench.subscribe(id(0, 1), 1, 0, false);
    bench.subscribe(id(1, 1), 1, 0, false);
    let names = bench.up.iter().map(|(_, up)| match up {
        Up::Ask { command: Command::Subscribe(it), .. } => it.channel.name.as_ptr(),
        other => panic!("{other:?}"),
    });
    assert_eq!(names.collect::<std::collections::BTreeSet<_>>().len(), 1);
}
