use std::sync::atomic::Ordering;

use super::hearing::MESSAGE_BYTES_MAX;
use super::*;
use crate::auth::source::{Feeds, Follow, Need};
use crate::auth::upstream::{Cell, FeedOrder};
use crate::auth::{Finding, What};
use crate::base::ids::{ShardId, Ticket};
use crate::base::name::Name;
use crate::base::time::UnixMillis;
use crate::dialects::mastodon::brief::Brief;

/// A relay, and what it wants in lines.
struct Rig {
    relay: Relay,
    counts: Arc<Counts>,
    now: Nanos,
    out: Vec<FollowerOutput>,
}

fn plan() -> Plan {
    Plan {
        app: AppIndex(0),
        namespace: String::new(),
        relations_cache: Millis(5000),
        sends_filters_changed: false,
        enforces_expiry: false,
    }
}

fn peer(n: u32) -> ConnectionId {
    ConnectionId { shard: ShardId(0), slot: n, generation: 0 }
}

/// What is asked of the database, by name.
fn question(sql: &str) -> &'static str {
    let names = [
        (queries::TOKEN, "token"),
        (queries::TOKENS_GOOD, "tokens"),
        (queries::LIST, "list"),
        (queries::FEEDS, "feeds"),
        (queries::RELATIONS, "relations"),
        (queries::FILTERS, "filters"),
        (queries::PROBE, "probe"),
    ];
    names.iter().find(|it| it.0 == sql).map_or("token that ends", |it| it.1)
}

impl Rig {
    /// Redis and the database are there; the first question of all is answered.
    fn new(plan: Plan) -> Self {
        let counts = Arc::<Counts>::default();
        let relay = Relay::new(plan, counts.clone());
        let mut rig = Self { relay, counts, now: Nanos(0), out: Vec::new() };
        assert_eq!(rig.hear(FollowerInput::Linked), ["1 probe"]);
        assert_eq!(rig.answer(1, Vec::new()), [""; 0]);
        rig
    }

    fn hear(&mut self, input: FollowerInput<'_>) -> Vec<String> {
        let wall = UnixMillis(self.now.0 / 1_000_000);
        self.relay.handle(input, Now { steady: self.now, wall }, &mut self.out);
        let line = |it| match it {
            FollowerOutput::Tell(to, ticket, finding) => {
                let finding = match finding {
                    Finding::Following(it) => {
                        format!("following from {} {} {}", it.judged_from, it.local, it.remote)
                    }
                    Finding::Known(it) => format!("known {}", it.user),
                    other => format!("{other:?}"),
                };
                format!("tell {}.{} {finding}", to.slot, ticket.0)
            }
            FollowerOutput::Publish(it) => {
                let data = String::from_utf8_lossy(&it.data.0);
                let brief = it.meta.as_ref().and_then(|it| it.brief.get::<Brief>());
                let hidden = brief.map(|brief| {
                    let mut hidden: Vec<_> = brief.hidden_from.iter().map(|it| &**it).collect();
                    hidden.sort_unstable();
                    format!(" {} [{}]", brief.number, hidden.join(" "))
                });
                let id = data.split('"').nth(3).filter(|_| hidden.is_some()).unwrap_or(&data);
                format!("{} {} {id}{}", it.channel.name, it.name, hidden.unwrap_or_default())
            }
            FollowerOutput::Feed(FeedOrder::Subscribe(it)) => format!("+ {}", it.join(" ")),
            FollowerOutput::Feed(FeedOrder::Unsubscribe(it, _)) => format!("- {}", it.join(" ")),
            FollowerOutput::Feed(FeedOrder::Touch(it, _)) => format!("! {}", it.join(" ")),
            FollowerOutput::Query(number, it) => format!("{number} {}", question(it.sql)),
        };
        self.out.drain(..).map(line).collect()
    }

    fn ask(&mut self, n: u32, ticket: u32, what: What) -> Vec<String> {
        self.hear(FollowerInput::Asked(peer(n), Ticket(ticket), what))
    }

    fn answer(&mut self, number: u64, rows: Rows) -> Vec<String> {
        self.hear(FollowerInput::Answered(number, Ok(rows)))
    }

    fn fail(&mut self, number: u64) -> Vec<String> {
        self.hear(FollowerInput::Answered(number, Err(Unanswered("lost".into()))))
    }

    fn message(&mut self, channel: &str, payload: &str) -> Vec<String> {
        self.hear(FollowerInput::Message { channel, payload: payload.as_bytes() })
    }

    fn wait(&mut self, millis: u64) -> Vec<String> {
        self.now = self.now + Millis(millis);
        self.hear(FollowerInput::Due)
    }

    fn count(&self, of: impl Fn(&Counts) -> &std::sync::atomic::AtomicU64) -> u64 {
        of(&self.counts).load(Ordering::Relaxed)
    }
}

fn token_row(id: i64, account: i64) -> Rows {
    let scopes = Cell::Text("read".into());
    vec![vec![Cell::Integer(id), Cell::Integer(account), Cell::Null, scopes, Cell::Null]]
}

fn follow(account: &str, channels: &[&str], need: Need) -> Box<Follow> {
    Box::new(Follow {
        channels: channels.iter().map(|it| Name::from(*it)).collect(),
        account: account.into(),
        is_judged: matches!(need, Need::Feeds(_)),
        need,
    })
}

fn status(id: u32, author: u32) -> String {
    format!(
        r#"{{"event":"update","payload":{{"id":"{id}","account":{{"id":"{author}","username":"a","acct":"a"}}}}}}"#
    )
}

/// A connection that hears everything public, its account's filters known.
fn viewer(rig: &mut Rig, n: u32, account: &str) {
    let public = follow(account, &["timeline:public"], Need::Feeds(Feeds::Live));
    rig.ask(n, 1, What::Follow(public));
    let feeds = rig.relay.query_last;
    rig.answer(feeds, Vec::new());
    let filters = rig.relay.query_last;
    rig.answer(filters, Vec::new());
}

#[test]
fn a_connection_is_known_follows_is_killed_and_goes() {
    let mut rig = Rig::new(Plan { namespace: "ns".into(), ..plan() });
    assert_eq!(rig.ask(1, 0, What::Token("abc".into())), ["2 token"]);
    let known = rig.answer(2, token_row(5, 7));
    assert_eq!(known, ["+ ns:timeline:access_token:5 ns:timeline:system:7", "tell 1.0 known 7"]);
    let home = follow("7", &["timeline:7", "timeline:7:notifications"], Need::Nothing);
    let subscribed = "+ ns:timeline:7 ns:timeline:7:notifications";
    assert_eq!(
        rig.ask(1, 1, What::Follow(home)),
        [
            "! ns:subscribed:timeline:7 ns:subscribed:timeline:7:notifications",
            subscribed,
            "tell 1.1 following from 1 true true",
        ]
    );
    let heard = rig.message("ns:timeline:7", r#"{"event":"delete","payload":"9"}"#);
    assert_eq!(heard, ["#timeline:7 delete \"9\""]);
    let kill = r#"{"event":"kill"}"#;
    for (channel, heard) in [
        ("ns:timeline:access_token:5", Some("#timeline:system:7 kill \"5\"")),
        ("ns:timeline:system:7", Some("#timeline:system:7 kill null")),
        // Of another namespace, of nobody here, and on a stream, where it is an event without payload.
        ("timeline:access_token:5", None),
        ("ns:timeline:access_token:6", None),
        ("ns:timeline:system:8", None),
        ("ns:timeline:7", None),
    ] {
        assert_eq!(rig.message(channel, kill).first().map(String::as_str), heard, "{channel}");
    }
    assert_eq!(rig.count(|it| &it.subscriptions), 4);
    let gone = rig.hear(FollowerInput::Gone(peer(1)));
    assert_eq!(
        gone,
        [
            "- ns:timeline:7 ns:timeline:7:notifications",
            "- ns:timeline:access_token:5 ns:timeline:system:7",
        ]
    );
    assert_eq!(rig.hear(FollowerInput::Gone(peer(1))), [""; 0]);
    assert_eq!((rig.count(|it| &it.subscriptions), rig.count(|it| &it.malformed)), (0, 0));
}

#[test]
fn what_nobody_can_have_is_not_asked_for() {
    let mut rig = Rig::new(plan());
    assert_eq!(rig.ask(1, 0, What::Token("a\0".into())), ["tell 1.0 Unknown"]);
    let list = |it: &str| follow("7", &["timeline:list:x"], Need::List(it.into()));
    for (ticket, id) in [(1, "x"), (2, ""), (3, "1 or 1"), (4, "9223372036854775808")] {
        let told = rig.ask(1, ticket, What::Follow(list(id)));
        assert_eq!(told, [format!("tell 1.{ticket} Unknown")]);
    }
    assert_eq!(rig.ask(1, 5, What::Follow(list("3"))), ["2 list"]);
    assert_eq!(rig.answer(2, Vec::new()), ["tell 1.5 Unknown"]);
    assert_eq!(rig.ask(1, 6, What::Unfollow(list("3"))), ["3 list"]);
    assert_eq!(rig.fail(3), ["tell 1.6 Unavailable"]);
    assert!(rig.relay.connections.is_empty());
}

#[test]
fn asks_of_a_connection_are_answered_in_order_and_after_it_is_gone() {
    let mut rig = Rig::new(plan());
    let list = || follow("7", &["timeline:list:3"], Need::List("3".into()));
    assert_eq!(rig.ask(1, 1, What::Follow(list())), ["2 list"]);
    assert_eq!(rig.ask(1, 2, What::Unfollow(list())), ["3 list"]);
    assert_eq!(rig.answer(3, vec![vec![Cell::Integer(3)]]), [""; 0]);
    assert_eq!(
        rig.answer(2, vec![vec![Cell::Integer(3)]]),
        [
            "! subscribed:timeline:list:3",
            "+ timeline:list:3",
            "tell 1.1 following from 1 true true",
            "- timeline:list:3",
            "tell 1.2 Done",
        ]
    );
    assert_eq!(rig.ask(1, 3, What::Token("t".into())), ["4 token"]);
    assert_eq!(rig.ask(1, 4, What::Follow(list())), ["5 list"]);
    assert_eq!(rig.hear(FollowerInput::Gone(peer(1))), [""; 0]);
    let told = rig.answer(4, token_row(5, 7));
    assert_eq!(told, ["tell 1.3 known 7"], "nothing is held for who is gone");
    let told = rig.answer(5, vec![vec![Cell::Integer(3)]]);
    assert_eq!(told, ["tell 1.4 following from 1 true true"]);
    assert!(rig.relay.connections.is_empty() && rig.relay.channels.len() == 0);
}

#[test]
fn a_token_that_has_ended_is_told_where_that_counts() {
    let mut rig = Rig::new(Plan { enforces_expiry: true, ..plan() });
    let mut rows = token_row(5, 7);
    rows[0].push(Cell::Time(UnixMillis(1000)));
    assert_eq!(rig.ask(1, 1, What::Token("t".into())), ["2 token that ends"]);
    assert_eq!(rig.answer(2, rows.clone()).last().unwrap(), "tell 1.1 known 7");
    rig.now = Nanos(1_000_000_000);
    rig.ask(2, 1, What::Token("t".into()));
    assert_eq!(rig.answer(3, rows), ["tell 2.1 Expired"]);
}

#[test]
fn a_status_waits_for_who_may_have_it_and_what_comes_after_it_too() {
    let mut rig = Rig::new(plan());
    viewer(&mut rig, 1, "7");
    viewer(&mut rig, 2, "8");
    let last = rig.relay.query_last;
    let asked = rig.message("timeline:public", &status(1, 50));
    assert_eq!(asked, [format!("{} relations", last + 1)]);
    let delete = r#"{"event":"delete","payload":"1"}"#;
    assert_eq!(rig.message("timeline:public", delete), [""; 0]);
    assert_eq!(rig.message("timeline:public", &status(2, 50)), [""; 0]);
    assert_eq!(rig.count(|it| &it.waiting), 3);
    assert_eq!(
        rig.answer(last + 1, vec![vec![Cell::Integer(8)]]),
        [
            "#timeline:public update 1 1 [8]",
            "#timeline:public delete \"1\"",
            "#timeline:public update 2 1 [8]",
        ]
    );
    // Who comes later is asked about, and nobody else.
    viewer(&mut rig, 3, "9");
    let last = rig.relay.query_last;
    let asked = rig.message("timeline:public", &status(3, 50));
    assert_eq!(asked, [format!("{} relations", last + 1)]);
    let judged = rig.answer(last + 1, vec![vec![Cell::Integer(9)]]);
    assert_eq!(judged, ["#timeline:public update 3 2 [8 9]"]);
    assert_eq!((rig.count(|it| &it.judged), rig.count(|it| &it.unjudged)), (3, 0));
}

#[test]
fn what_the_database_does_not_say_in_time_nobody_gets() {
    let mut rig = Rig::new(plan());
    viewer(&mut rig, 1, "7");
    let delete = r#"{"event":"delete","payload":"1"}"#;
    rig.message("timeline:public", &status(1, 50));
    let lost = rig.relay.query_last;
    rig.message("timeline:public", delete);
    assert_eq!(rig.fail(lost), ["#timeline:public delete \"1\""]);
    rig.message("timeline:public", &status(2, 50));
    let late = rig.relay.query_last;
    rig.message("timeline:public", delete);
    let first = rig.wait(9_999);
    assert!(first.iter().all(|it| it.ends_with(" probe")), "{first:?}");
    assert_eq!(rig.wait(1), ["#timeline:public delete \"1\""]);
    assert_eq!(rig.answer(late, Vec::new()), [""; 0], "too late");
    assert_eq!((rig.count(|it| &it.judged), rig.count(|it| &it.unjudged)), (0, 2));
}

#[test]
fn who_changes_their_filters_gets_nothing_until_they_are_known() {
    let mut rig = Rig::new(plan());
    rig.ask(1, 0, What::Token("t".into()));
    rig.answer(2, token_row(5, 7));
    viewer(&mut rig, 1, "7");
    viewer(&mut rig, 2, "8");
    let changed = rig.message("timeline:system:7", r#"{"event":"filters_changed"}"#);
    let filters = rig.relay.query_last;
    assert_eq!(changed, [format!("{filters} filters")]);
    rig.message("timeline:public", &status(1, 50));
    assert_eq!(rig.answer(filters + 1, Vec::new()), [""; 0]);
    assert_eq!(rig.answer(filters, Vec::new()), ["#timeline:public update 1 1 []"]);
    rig.message("timeline:system:7", r#"{"event":"filters_changed"}"#);
    assert_eq!(rig.message("timeline:public", &status(2, 50)), [""; 0]);
    assert_eq!(rig.wait(1000), ["#timeline:public update 2 1 [7]"]);
    assert_eq!(rig.count(|it| &it.withheld), 1);
}

#[test]
fn what_is_no_event_is_skipped_and_counted() {
    let mut rig = Rig::new(Plan { sends_filters_changed: true, ..plan() });
    viewer(&mut rig, 1, "7");
    rig.ask(1, 2, What::Follow(follow("7", &["timeline:7"], Need::Nothing)));
    let long = format!(r#"{{"event":"x","payload":"{}"}}"#, "x".repeat(MESSAGE_BYTES_MAX));
    let broken = [
        ("timeline:7", "nonsense"),
        ("timeline:7", "[]"),
        ("timeline:7", "\u{0}"),
        ("timeline:7", &long),
        ("timeline:public", r#"{"event":"update","payload":{"id":"1","account":null}}"#),
        ("timeline:public", r#"{"event":"update","payload":"{}"}"#),
        ("timeline:public", r#"{"event":"status.update","payload":[1]}"#),
        ("timeline:public", r#"{"event":"update","payload":{"account":{"id":"x","acct":"a"}}}"#),
    ];
    for (n, (channel, message)) in broken.iter().enumerate() {
        assert_eq!(rig.message(channel, message), [""; 0], "{n}");
        assert_eq!(rig.count(|it| &it.malformed), n as u64 + 1, "{n}");
    }
    let nothing = r#"{"event":"update","payload":null}"#;
    for (channel, message, heard) in [
        ("timeline:7", nothing, None),
        ("timeline:public", nothing, None),
        ("timeline:7", r#"{"event":"x","payload":7}"#, Some("#timeline:7 x 7")),
        ("timeline:7", r#"{"event":"filters_changed"}"#, Some("#timeline:7 filters_changed null")),
        ("timeline:public", r#"{"event":"x","payload":7}"#, Some("#timeline:public x 7")),
    ] {
        assert_eq!(rig.message(channel, message).first().map(String::as_str), heard, "{message}");
    }
    assert_eq!(rig.count(|it| &it.malformed), broken.len() as u64);
}

#[test]
fn what_is_submitted_here_goes_the_same_way() {
    let mut rig = Rig::new(plan());
    rig.ask(1, 1, What::Follow(follow("7", &["timeline:7"], Need::Nothing)));
    let channels = ["timeline:7", "timeline:8", "hello"].map(Name::from).to_vec();
    let envelope = bytes::Bytes::from(r#"{"event":"x","payload":7}"#);
    let told = rig.ask(2, 5, What::Submit { channels, envelope });
    assert_eq!(told, ["#timeline:7 x 7", "hello x 7", "tell 2.5 Done"]);
    assert_eq!(rig.relay.connections.len(), 1, "who submits is not remembered");
}

#[test]
fn a_token_that_was_taken_back_while_its_connection_came_is_found() {
    let mut rig = Rig::new(plan());
    let comes = |rig: &mut Rig, n: u32, token: i64| {
        rig.ask(n, 0, What::Token("t".into()));
        let last = rig.relay.query_last;
        rig.answer(last, token_row(token, 7));
    };
    comes(&mut rig, 1, 5);
    comes(&mut rig, 2, 6);
    comes(&mut rig, 3, 8);
    rig.hear(FollowerInput::Gone(peer(3)));
    let last = rig.relay.query_last;
    assert_eq!(rig.wait(1500), [""; 0]);
    // One question for all; who comes again meanwhile is asked about again.
    comes(&mut rig, 4, 6);
    assert_eq!(rig.wait(1500), [format!("{} tokens", last + 2)]);
    let good = rig.answer(last + 2, vec![vec![Cell::Integer(6)]]);
    assert_eq!(good, ["#timeline:system:7 kill \"5\""]);
    assert_eq!(rig.wait(1500), [format!("{} tokens", last + 3)]);
    assert_eq!(rig.fail(last + 3), [""; 0]);
    assert_eq!(rig.wait(999), [""; 0]);
    let again = rig.wait(1);
    assert_eq!(again, [format!("{} tokens", last + 4), format!("{} probe", last + 5)]);
    assert_eq!(rig.answer(last + 4, Vec::new()), ["#timeline:system:7 kill \"6\""]);
    // Whoever is only being set up has not heard of it: both are asked about again until nobody is left.
    let again = [rig.wait(1500), rig.wait(1500)].concat();
    assert_eq!(again.iter().filter(|it| it.ends_with(" tokens")).count(), 1, "{again:?}");
    let last = rig.relay.query_last;
    let asked = rig.answer(last, Vec::new());
    assert!(asked.contains(&"#timeline:system:7 kill \"5\"".to_owned()), "{asked:?}");
    for n in [1, 2, 4] {
        rig.hear(FollowerInput::Gone(peer(n)));
    }
    rig.wait(1500);
    rig.wait(1500);
    assert_eq!(rig.relay.newcomers.due(), None);
}

#[test]
fn a_kill_is_for_those_too_who_are_only_being_set_up() {
    let mut rig = Rig::new(plan());
    rig.ask(1, 0, What::Token("t".into()));
    rig.answer(rig.relay.query_last, token_row(5, 7));
    rig.ask(1, 1, What::Follow(follow("7", &["timeline:list:3"], Need::List("3".into()))));
    let list = rig.relay.query_last;
    let kill = rig.message("timeline:system:7", r#"{"event":"kill"}"#);
    assert_eq!(kill, ["#timeline:system:7 kill null"]);
    assert_eq!(rig.answer(list, vec![vec![Cell::Integer(3)]]), ["tell 1.1 Unknown"]);
    // Their session may not hear yet: whatever the database says of the token, they are told again until they are gone.
    rig.wait(1500);
    rig.wait(1500);
    let again = rig.answer(rig.relay.query_last, vec![vec![Cell::Integer(5)]]);
    assert!(again.contains(&"#timeline:system:7 kill \"5\"".to_owned()), "{again:?}");
    rig.hear(FollowerInput::Gone(peer(1)));
    rig.wait(1500);
    rig.wait(1500);
    assert_eq!(rig.relay.newcomers.due(), None);
}

#[test]
fn it_says_what_is_lost_and_makes_up_for_it() {
    let mut rig = Rig::new(plan());
    rig.ask(1, 0, What::Token("t".into()));
    rig.answer(2, token_row(5, 7));
    viewer(&mut rig, 1, "7");
    assert_eq!(rig.counts.unready(), None);
    rig.hear(FollowerInput::Unlinked);
    assert_eq!(rig.counts.unready().unwrap(), "Redis is not connected");
    let last = rig.relay.query_last;
    let asked = ["filters", "tokens"].iter().zip(1..).map(|(it, n)| format!("{} {it}", last + n));
    let back = rig.hear(FollowerInput::Linked);
    assert_eq!(back[0], "! subscribed:timeline:public");
    assert_eq!(back[1..], asked.collect::<Vec<_>>());
    // The token was taken back meanwhile.
    assert_eq!(rig.answer(last + 2, Vec::new()), ["#timeline:system:7 kill \"5\""]);
    assert_eq!(rig.fail(last + 1), [""; 0]);
    assert_eq!(rig.counts.unready().unwrap(), "PostgreSQL does not answer");
    let again = rig.wait(1000);
    assert_eq!(again, [format!("{} filters", last + 3), format!("{} probe", last + 4)]);
    rig.answer(last + 4, Vec::new());
    assert_eq!(rig.counts.unready(), None);
}
