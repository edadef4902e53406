//! Tables of cases: mail in, mail out, in words.

use bytes::Bytes;

use super::*;
use crate::base::ids::LaneId;
use crate::base::time::UnixMillis;
use crate::broker::{IdempotencyKey, Payload, Publish, Published, Renew, Report, Subscribe};

/// Lanes below 8 show everything; the others only messages.
struct Lanes;

impl Render for Lanes {
    fn render(&self, lane: LaneId, event: &Event) -> Option<Bytes> {
        let shown = lane.0 < 8 || matches!(event.happening, Happening::Message { .. });
        shown.then(|| Bytes::from(format!("{}", lane.0)))
    }
}

struct Bench {
    home: Home,
    now: Now,
    tickets: u32,
}

fn channel(name: &str) -> Channel {
    Channel { app: AppIndex(0), name: name.into() }
}

/// A user, and after a colon what others know about them.
fn member(words: &str) -> Member {
    let (id, info) = words.split_once(':').map_or((words, None), |it| (it.0, Some(it.1)));
    let info = info.map(|it| Payload(Bytes::from(it.to_owned())));
    Member { user_id: id.into(), info }
}

/// A subscription to `c`, in words: `lane=2 member=ann max=1 silent announce lease=1000`.
fn subscription(words: &str) -> Box<Subscribe> {
    let mut it = Subscribe { members_max: 100, ..Subscribe::new(channel("c"), LaneId(0)) };
    for word in words.split_whitespace() {
        match word.split_once('=').unwrap_or((word, "")) {
            ("lane", n) => it.lane = LaneId(n.parse().unwrap()),
            ("member", who) => it.member = Some(Arc::new(member(who))),
            ("bytes", n) => it.members_bytes_max = n.parse().unwrap(),
            ("renews", _) => it.renews = true,
            ("max", n) => it.members_max = n.parse().unwrap(),
            ("silent", _) => it.silent = true,
            ("announce", _) => it.announce_count = true,
            ("lease", n) => it.lease = Millis(n.parse().unwrap()),
            ("in", name) => it.channel = channel(name),
            other => panic!("{other:?}"),
        }
    }
    Box::new(it)
}

/// A message to `c`, in words: `keep=1000 quiet`.
fn message(words: &str) -> Box<Publish> {
    let data = Payload(Bytes::from_static(b"1"));
    let mut it = Publish::new(channel("c"), "e".into(), data, Nanos(0));
    for word in words.split_whitespace() {
        match word.split_once('=').unwrap_or((word, "")) {
            ("keep", n) => it.keep_last = Some(Millis(n.parse().unwrap())),
            ("quiet", _) => it.quiet = true,
            ("key", words) => {
                let (name, span) = words.split_once(':').unwrap();
                let span = Some(Millis(span.parse().unwrap()));
                let fingerprint = [0; 16];
                it.key = Some(Arc::new(IdempotencyKey { name: name.into(), fingerprint, span }));
            }
            ("in", name) => it.channel = channel(name),
            other => panic!("{other:?}"),
        }
    }
    Box::new(it)
}

impl Bench {
    fn new(channels_max: usize) -> Self {
        let home = Home::new(Arc::new(Slots::new(2, [5, 6])), Limits { channels_max });
        Self { home, now: Now { steady: Nanos(1_000_000_000), wall: UnixMillis(7) }, tickets: 0 }
    }

    fn mail(&mut self, shard: u16, up: Up) -> Vec<String> {
        let mut out = Vec::new();
        self.home.handle(up, ShardId(shard), self.now, &Lanes, &mut out);
        out.iter().map(show).collect()
    }

    fn ask(&mut self, shard: u16, command: Command) -> Vec<String> {
        self.tickets += 1;
        let from = ConnectionId { shard: ShardId(shard), slot: 1, generation: 1 };
        self.mail(shard, Up::Ask { from, ticket: Ticket(self.tickets), command })
    }

    /// `0 subscribe <words>`, `0 detach <words>`, `0 lose <words>`, `0 publish <words>`, `0 describe`, `0 members`,
    /// `0 survey <prefix>`, `0 control`, or `wait <ms>` and what then falls due.
    fn run(&mut self, line: &str) -> Vec<String> {
        let (first, rest) = line.split_once(' ').unwrap();
        if first == "wait" {
            self.now.steady = self.now.steady + Millis(rest.parse().unwrap());
            let mut out = Vec::new();
            self.home.expire(self.now, &Lanes, &mut out);
            return out.iter().map(show).collect();
        }
        let shard = first.parse().unwrap();
        let (verb, words) = rest.split_once(' ').unwrap_or((rest, ""));
        match verb {
            "subscribe" => self.ask(shard, Command::Subscribe(subscription(words))),
            "detach" => self
                .mail(shard, Up::Detach(subscription(words), crate::broker::Parting::Unsubscribed)),
            "lose" => {
                self.mail(shard, Up::Detach(subscription(words), crate::broker::Parting::Lost))
            }
            "publish" => self.ask(shard, Command::Publish(message(words))),
            "renew" => {
                let Subscribe { channel, member, members_bytes_max, .. } = *subscription(words);
                let member = member.unwrap();
                let renew = Renew { member, members_bytes_max };
                self.ask(shard, Command::Renew(channel, Box::new(renew)))
            }
            "describe" => self.ask(shard, Command::Describe(channel("c"))),
            "members" => self.ask(shard, Command::Members(channel("c"))),
            "survey" => self.ask(
                shard,
                Command::Survey {
                    shard: ShardId(shard),
                    from: 0,
                    app: AppIndex(0),
                    prefix: words.into(),
                },
            ),
            "control" => self.ask(shard, Command::Control(channel("c"), Control::Terminate)),
            other => panic!("{other}"),
        }
    }
}

fn names(members: &[Arc<Member>]) -> String {
    members.iter().map(|m| m.user_id.to_string()).collect::<Vec<_>>().join("+")
}

fn description(it: &Description) -> String {
    let last =
        it.last.as_ref().map(|(event, left)| format!(" last {} for {}", event.serial.0, left.0));
    format!("{}/{}{}", it.subscription_count, it.user_count, last.unwrap_or_default())
}

fn show((shard, down): &(ShardId, Down)) -> String {
    let what = match down {
        Down::Attach { reply, .. } => {
            let (after, what) = (reply.after.0, description(&reply.description));
            format!("attach after {after}: {what} {}", names(&reply.members))
        }
        Down::Answer { reply, .. } => match reply {
            Reply::Published(Published { serial, subscription_count, user_count, .. }) => {
                format!("published {}: {subscription_count}/{user_count}", serial.0)
            }
            Reply::Refused(refusal) => format!("{refusal:?}"),
            Reply::Described(it) => format!("described {}", description(it)),
            Reply::Members(it) => format!("members {}", names(it)),
            Reply::Channels { found, rest: None } => format!("channels {found:?}"),
            other => format!("{other:?}"),
        },
        Down::Deliver(delivery) => {
            let what = match &delivery.event.happening {
                Happening::Message { .. } => format!("message {}", delivery.event.serial.0),
                Happening::MemberAdded(it) => format!("added {}", it.member.user_id),
                Happening::MemberUpdated(it) => format!("updated {}", it.member.user_id),
                Happening::ValueChanged(it) => format!("value {}", it.key),
                Happening::MemberRemoved(it) => format!("removed {}", it.member.user_id),
                Happening::SubscriptionCount(n) => format!("count {n}"),
                Happening::Control(control) => format!("{control:?}"),
                other => format!("{other:?}"),
            };
            let lanes: Vec<_> = delivery.frames.iter().map(|(lane, _)| lane.0).collect();
            format!("{what} {lanes:?}")
        }
    };
    format!("{} {}", shard.0, what.trim_end())
}

/// Runs the steps and compares; then nothing must be left.
fn check(steps: &[(&str, &[&str])]) {
    let mut bench = Bench::new(100);
    for (n, (line, expected)) in steps.iter().enumerate() {
        assert_eq!(bench.run(line), *expected, "step {n}: {line}");
    }
    assert_eq!((bench.home.channels(), bench.home.next_due()), (0, None));
}

#[test]
fn an_event_goes_once_to_each_shard_and_is_rendered_once_per_lane() {
    check(&[
        ("0 publish", &["0 published 1: 0/0"]),
        ("0 subscribe lane=3", &["0 attach after 0: 1/0"]),
        ("0 publish", &["0 message 1 [3]", "0 published 1: 1/0"]),
        ("1 subscribe lane=1", &["1 attach after 1: 2/0"]),
        ("1 subscribe lane=3", &["1 attach after 1: 3/0"]),
        ("1 publish quiet", &["0 message 2 [1, 3]", "1 message 2 [1, 3]"]),
        ("0 control", &["0 Terminate []", "1 Terminate []", "0 Done"]),
        ("0 detach lane=3", &[]),
        ("1 detach lane=3", &[]),
        ("0 publish", &["1 message 3 [1]", "0 published 3: 1/0"]),
        ("1 detach lane=1", &[]),
        ("0 control", &["0 Done"]),
    ]);
}

#[test]
fn a_user_is_announced_with_the_first_and_last_connection_to_those_who_were_there() {
    check(&[
        ("0 subscribe member=ann", &["0 attach after 0: 1/1 ann"]),
        ("1 subscribe member=bob", &["0 added bob [0]", "1 attach after 0: 2/2 ann+bob"]),
        ("1 subscribe member=ann", &["1 attach after 0: 3/2 ann+bob"]),
        ("0 members", &["0 members ann+bob"]),
        ("0 detach member=ann", &[]),
        ("0 publish", &["1 message 1 [0]", "0 published 1: 2/2"]),
        ("1 detach member=ann", &["1 removed ann [0]"]),
        ("0 describe", &["0 described 1/1"]),
        ("1 detach member=bob", &[]),
        ("0 members", &["0 members"]),
    ]);
}

#[test]
fn a_full_channel_takes_a_second_connection_of_a_member_but_no_new_user() {
    check(&[
        ("0 subscribe member=ann max=0", &["0 MembersFull { members_max: 0 }"]),
        ("0 subscribe member=ann max=1", &["0 attach after 0: 1/1 ann"]),
        ("1 subscribe member=bob max=1", &["1 MembersFull { members_max: 1 }"]),
        ("1 subscribe member=ann max=1", &["1 attach after 0: 2/1 ann"]),
        ("0 detach member=ann", &[]),
        ("1 detach member=ann", &[]),
    ]);
}

#[test]
fn who_is_known_by_something_else_keeps_their_place_and_everyone_is_told() {
    check(&[
        ("0 subscribe member=ann:1", &["0 attach after 0: 1/1 ann"]),
        ("1 subscribe member=bob", &["0 added bob [0]", "1 attach after 0: 2/2 ann+bob"]),
        // The same, written otherwise; and another, from one who does not renew.
        ("1 subscribe member=ann:1.0 renews", &["1 attach after 0: 3/2 ann+bob"]),
        ("1 subscribe member=ann:7", &["1 attach after 0: 4/2 ann+bob"]),
        (
            "1 subscribe member=ann:2 renews",
            &["1 attach after 0: 5/2 ann+bob", "0 updated ann [0]", "1 updated ann [0]"],
        ),
        ("0 renew member=ann:2e0", &["0 Done"]),
        ("0 renew member=bob:null", &["0 Done"]),
        ("0 renew member=bob:3", &["0 updated bob [0]", "1 updated bob [0]", "0 Done"]),
        ("0 renew member=cat:3", &["0 NotSubscribed"]),
        ("0 renew member=ann:3 in=d", &["0 NotSubscribed"]),
        ("0 detach member=ann", &[]),
        ("1 detach member=ann", &[]),
        ("1 detach member=ann", &[]),
        ("1 detach member=ann", &["1 removed ann [0]"]),
        ("1 detach member=bob", &[]),
    ]);
}

#[test]
fn what_members_say_of_themselves_has_a_bound() {
    // `{"uid":"a","umd":1}` is 19 bytes.
    check(&[
        ("0 subscribe member=a:1 bytes=18", &["0 MembersTooLarge { bytes_max: 18 }"]),
        ("0 subscribe member=a:1 bytes=40", &["0 attach after 0: 1/1 a"]),
        ("0 subscribe member=b:111 bytes=39", &["0 MembersTooLarge { bytes_max: 39 }"]),
        ("0 subscribe member=b:111 bytes=40", &["0 added b [0]", "0 attach after 0: 2/2 a+b"]),
        // What is the same already is never refused.
        ("1 subscribe member=a:1 bytes=1 renews", &["1 attach after 0: 3/2 a+b"]),
        ("1 subscribe member=a:1234 bytes=1", &["1 attach after 0: 4/2 a+b"]),
        ("1 subscribe member=a:12 bytes=40 renews", &["1 MembersTooLarge { bytes_max: 40 }"]),
        ("1 renew member=a:12 bytes=40", &["1 MembersTooLarge { bytes_max: 40 }"]),
        ("1 renew member=b:2 bytes=40", &["0 updated b [0]", "1 updated b [0]", "1 Done"]),
        ("1 renew member=a:12 bytes=40", &["0 updated a [0]", "1 updated a [0]", "1 Done"]),
        ("0 detach member=a", &[]),
        ("1 detach member=a", &[]),
        ("1 detach member=a", &["0 removed a [0]"]),
        ("0 detach member=b", &[]),
    ]);
}

#[test]
fn each_key_is_remembered_for_its_own_time() {
    let published = |n| format!("0 published {n}: 0/0");
    let mut bench = Bench::new(100);
    for (line, n) in [
        ("0 publish key=a:1000", 1),
        ("0 publish key=b:10", 2),
        ("0 publish key=a:1000", 1),
        ("0 publish key=b:10", 2),
    ] {
        assert_eq!(bench.run(line), [published(n)], "{line}");
    }
    assert_eq!(bench.run("wait 10"), [""; 0]);
    for (line, n) in [("0 publish key=a:1", 1), ("0 publish key=b:10", 3)] {
        assert_eq!(bench.run(line), [published(n)], "{line}");
    }
    bench.run("wait 990");
    assert_eq!((bench.home.channels(), bench.home.next_due()), (0, None));
}

#[test]
fn a_silent_subscription_hears_and_is_not_counted() {
    check(&[
        ("0 subscribe silent lane=2", &["0 attach after 0: 0/0"]),
        ("0 survey ", &["0 channels []"]),
        ("1 subscribe member=ann lane=9", &["0 added ann [2]", "1 attach after 0: 1/1 ann"]),
        ("0 survey ", &["0 channels [(\"c\", 1, 1)]"]),
        ("0 survey d", &["0 channels []"]),
        ("0 publish", &["0 message 1 [2, 9]", "1 message 1 [2, 9]", "0 published 1: 1/1"]),
        ("1 detach member=ann lane=9", &["0 removed ann [2]"]),
        ("0 detach silent lane=2", &[]),
    ]);
}

#[test]
fn a_lane_that_shows_nothing_of_it_gets_no_mail() {
    check(&[
        ("0 subscribe lane=9", &["0 attach after 0: 1/0"]),
        ("0 subscribe lane=9 member=ann", &["0 attach after 0: 2/1 ann"]),
        ("0 detach lane=9 member=ann", &[]),
        ("0 detach lane=9", &[]),
    ]);
}

#[test]
fn the_last_event_is_kept_as_long_as_asked() {
    check(&[
        ("0 publish keep=1000", &["0 published 1: 0/0"]),
        ("0 describe", &["0 described 0/0 last 1 for 1000"]),
        ("wait 400", &[]),
        ("0 publish keep=1000 quiet", &[]),
        ("0 publish", &["0 published 3: 0/0"]),
        ("wait 700", &[]),
        ("1 subscribe", &["1 attach after 3: 1/0 last 2 for 300"]),
        ("wait 300", &[]),
        ("0 describe", &["0 described 1/0"]),
        ("1 detach", &[]),
        ("0 publish keep=10", &["0 published 1: 0/0"]),
        ("wait 9", &[]),
        ("wait 1", &[]),
        ("0 describe", &["0 described 0/0"]),
    ]);
}

#[test]
fn a_shorter_keep_is_not_held_up_by_a_longer_one() {
    check(&[
        ("0 publish keep=100000", &["0 published 1: 0/0"]),
        ("0 publish keep=10", &["0 published 2: 0/0"]),
        ("wait 10", &[]),
    ]);
}

#[test]
fn a_small_count_is_told_with_every_change_to_the_newcomer_too() {
    check(&[
        ("0 subscribe announce", &["0 attach after 0: 1/0", "0 count 1 [0]"]),
        (
            "1 subscribe announce lane=1",
            &["1 attach after 0: 2/0", "0 count 2 [0, 1]", "1 count 2 [0, 1]"],
        ),
        ("1 subscribe announce silent", &["1 attach after 0: 2/0"]),
        ("0 detach", &["1 count 1 [0, 1]"]),
        ("1 detach silent", &[]),
        ("1 detach lane=1", &[]),
    ]);
}

#[test]
fn a_large_count_is_told_once_in_a_while() {
    let mut bench = Bench::new(1);
    for _ in 0..100 {
        assert_eq!(bench.run("0 subscribe announce").len(), 2);
    }
    for _ in 0..50 {
        assert_eq!(bench.run("0 subscribe announce").len(), 1);
    }
    assert_eq!(bench.run("wait 4999"), [""; 0]);
    assert_eq!(bench.run("wait 1"), ["0 count 150 [0]"]);
    // A count that comes back to what was told needs no telling.
    for line in ["0 subscribe", "0 detach", "wait 5000", "wait 5000"] {
        assert!(bench.run(line).iter().all(|mail| !mail.contains("count")), "{line}");
    }
    // After a quiet time the first change is told at once, the next has to wait...
    assert_eq!(bench.run("0 detach"), ["0 count 149 [0]"]);
    for _ in 0..48 {
        assert_eq!(bench.run("0 detach"), [""; 0]);
    }
    // ... unless few are left.
    assert_eq!(bench.run("0 detach"), ["0 count 100 [0]"]);
    for left in (0..100).rev() {
        assert_eq!(bench.run("0 detach").len(), usize::from(left > 0));
    }
    assert_eq!((bench.home.channels(), bench.home.next_due()), (0, None));
}

#[test]
fn a_full_home_refuses_new_channels_only() {
    let mut bench = Bench::new(1);
    let full = ["0 ChannelsFull { channels_max: 1 }"];
    assert_eq!(bench.run("0 subscribe in=a"), ["0 attach after 0: 1/0"]);
    assert_eq!(bench.run("0 subscribe in=b"), full);
    assert_eq!(bench.run("0 publish in=b keep=5"), full);
    assert_eq!(bench.run("0 publish in=b"), ["0 published 1: 0/0"]);
    assert_eq!(bench.run("1 subscribe in=a"), ["1 attach after 0: 2/0"]);
    assert_eq!((bench.run("0 detach in=a").len(), bench.run("1 detach in=a").len()), (0, 0));
    assert_eq!(bench.run("0 subscribe in=b"), ["0 attach after 0: 1/0"]);
}

#[test]
fn expiry_is_bounded_per_call() {
    let mut bench = Bench::new(1000);
    for n in 0..EXPIRE_MAX + 10 {
        bench.run(&format!("0 publish in=c{n} keep=5"));
    }
    bench.run("wait 5");
    assert_eq!(bench.home.channels(), 10);
    assert!(bench.home.next_due().is_some_and(|due| due <= bench.now.steady));
    bench.run("wait 0");
    assert_eq!((bench.home.channels(), bench.home.next_due()), (0, None));
}

#[test]
fn a_channel_is_small() {
    assert!(size_of::<Held>() <= 72, "{}", size_of::<Held>());
}

#[test]
fn who_is_lost_stays_for_a_while() {
    check(&[
        ("0 subscribe", &["0 attach after 0: 1/0"]),
        ("1 subscribe member=ann lease=2000", &["0 added ann [0]", "1 attach after 0: 2/1 ann"]),
        ("1 lose member=ann lease=2000", &[]),
        ("0 describe", &["0 described 1/1"]),
        ("wait 1000", &[]),
        // Back in time: nobody hears of it.
        ("1 subscribe member=ann", &["1 attach after 0: 2/1 ann"]),
        ("wait 2000", &[]),
        // Without a lease it leaves at once.
        ("1 lose member=ann", &["0 removed ann [0]"]),
        ("1 subscribe member=ann lease=2000", &["0 added ann [0]", "1 attach after 0: 2/1 ann"]),
        // It is the last of its connections that counts, and how that ends.
        ("1 subscribe member=ann", &["1 attach after 0: 3/1 ann"]),
        ("1 lose member=ann lease=2000", &[]),
        ("1 detach member=ann", &["0 removed ann [0]"]),
        ("1 subscribe member=ann:1", &["0 added ann [0]", "1 attach after 0: 2/1 ann"]),
        ("1 lose member=ann:1 lease=2000", &[]),
        // Back as another, which is told.
        (
            "1 subscribe member=ann:2",
            &["1 attach after 0: 2/1 ann", "0 updated ann [0]", "1 updated ann [0]"],
        ),
        ("1 lose member=ann:2 lease=2000", &[]),
        // It counts among those there may be.
        ("1 subscribe member=bob max=1", &["1 MembersFull { members_max: 1 }"]),
        ("wait 2000", &["0 removed ann [0]"]),
        ("0 detach", &[]),
        // The channel is there as long as it is.
        ("1 subscribe member=ann", &["1 attach after 0: 1/1 ann"]),
        ("1 lose member=ann lease=2000", &[]),
        ("0 survey c", &["0 channels [(\"c\", 0, 1)]"]),
        ("wait 2000", &[]),
    ]);
}

#[test]
fn a_companion_tells_of_its_channel() {
    check(&[
        ("1 subscribe in=[meta]c silent", &["1 attach after 0: 0/0"]),
        ("0 subscribe", &["1 Occupied [0]", "0 attach after 0: 1/0", "1 count 1 [0]"]),
        ("0 subscribe silent", &["0 attach after 0: 1/0"]),
        (
            "0 subscribe member=ann lease=2000",
            &["0 added ann [0]", "1 added ann [0]", "0 attach after 0: 2/1 ann", "1 count 2 [0]"],
        ),
        // No news for others than those who are in the channel.
        ("0 renew member=ann:1", &["0 updated ann [0]", "0 Done"]),
        ("0 detach", &["1 count 1 [0]"]),
        // Occupied by who stays.
        ("0 lose member=ann lease=2000", &["1 count 0 [0]"]),
        ("wait 2000", &["0 removed ann [0]", "1 removed ann [0]", "1 Vacated [0]"]),
        (
            "0 subscribe announce",
            &["1 Occupied [0]", "0 attach after 0: 1/0", "0 count 1 [0]", "1 count 1 [0]"],
        ),
        ("0 detach", &["0 count 0 [0]", "1 Vacated [0]"]),
        ("1 detach in=[meta]c silent", &[]),
        ("0 subscribe", &["0 attach after 0: 1/0", "0 count 1 [0]"]),
        ("0 detach", &["0 count 0 [0]"]),
        ("0 detach silent", &[]),
    ]);
}

/// Reports as they are rendered: what happened, in a word.
struct Reporting;

impl Render for Reporting {
    fn render(&self, _: LaneId, _: &Event) -> Option<Bytes> {
        None
    }

    fn reports(&self) -> bool {
        true
    }

    fn report(&self, event: &Event, _: Option<&Payload>, out: &mut Vec<Report>) {
        let kind = match &event.happening {
            Happening::Occupied => "occupied".to_owned(),
            Happening::Vacated => "vacated".to_owned(),
            Happening::SubscriptionCount(n) => format!("count {n}"),
            Happening::MemberAdded(it) => format!("added {}", it.member.user_id),
            Happening::MemberRemoved(it) => format!("removed {}", it.member.user_id),
            _ => return,
        };
        let (body, app) = (Payload(Bytes::from(kind)), event.channel.app);
        out.push(Report { app, kind: "k".into(), channel: None, fields: Vec::new(), body });
    }
}

#[test]
fn the_world_outside_hears_later_that_a_channel_is_vacated() {
    let mut bench = Bench::new(100);
    let mut reported = |line: &str| -> Vec<String> {
        let (first, words) = line.split_once(' ').unwrap();
        let mut out = Vec::new();
        let (home, now) = (&mut bench.home, &mut bench.now);
        match first {
            "wait" => {
                now.steady = now.steady + Millis(words.parse().unwrap());
                home.expire(*now, &Reporting, &mut out);
            }
            "subscribe" => {
                let from = ConnectionId { shard: ShardId(0), slot: 1, generation: 1 };
                let command = Command::Subscribe(subscription(words));
                let up = Up::Ask { from, ticket: Ticket(0), command };
                home.handle(up, ShardId(0), *now, &Reporting, &mut out);
            }
            _ => {
                let up = Up::Detach(subscription(words), crate::broker::Parting::Lost);
                home.handle(up, ShardId(0), *now, &Reporting, &mut out);
            }
        }
        home.take_reports()
            .into_iter()
            .map(|it| String::from_utf8(it.body.0.to_vec()).unwrap())
            .collect()
    };
    for (line, expected) in [
        ("subscribe ", &["occupied", "count 1"][..]),
        ("subscribe silent", &[]),
        ("lose ", &["count 0"]),
        ("wait 2999", &[]),
        // Occupied again before anyone was told that it was not.
        ("subscribe ", &["count 1"]),
        ("wait 5000", &[]),
        ("lose ", &["count 0"]),
        ("wait 3000", &["vacated"]),
        ("subscribe member=ann", &["occupied", "added ann", "count 1"]),
        ("lose member=ann lease=2000", &["count 0"]),
        ("wait 2000", &["removed ann"]),
        ("wait 3000", &["vacated"]),
        // The engine's own channels are nobody's business.
        ("subscribe in=#own", &[]),
        ("lose in=#own", &[]),
        ("wait 3000", &[]),
        ("lose silent", &[]),
    ] {
        assert_eq!(reported(line), expected, "{line}");
    }
    assert_eq!((bench.home.channels(), bench.home.next_due()), (0, None));
}
