use bytes::Bytes;

use super::*;
use crate::base::event_id::EventId;
use crate::base::time::UnixMillis;
use crate::store::format::{SPACES, encode_event};
use crate::store::memory::{Memory, Outcome};
use crate::store::{Bounds, Head, NEVER, Page, PageAsk, open};

const STORE: u128 = 42;
const FREE: fn(&StreamKey) -> Bounds = |_| Bounds { records_max: 0, bytes_max: 0 };

fn stream(name: &str) -> StreamKey {
    StreamKey { app: "app".into(), channel: name.into() }
}

fn ledger(memory: &Memory) -> Ledger {
    open::settle(memory, STORE).unwrap();
    Ledger::new(Arc::new(memory.clone()), STORE).unwrap()
}

fn first(name: &str) -> Epoch {
    first_epoch(STORE, &stream(name))
}

/// A record of `bytes` bytes, ordered at its serial's second.
fn record(serial: u64, expires: UnixMillis, bytes: usize) -> Record {
    Record {
        serial: Serial(serial),
        id: EventId(u128::from(serial) << 80),
        at: UnixMillis(serial * 1000),
        expires,
        body: Bytes::from(vec![serial as u8; bytes]),
    }
}

fn append(name: &str, epoch: Epoch, serials: std::ops::RangeInclusive<u64>) -> Ask {
    let records = serials.map(|serial| record(serial, NEVER, 10)).collect();
    Ask::Append { stream: stream(name), epoch, records, keys: Vec::new(), changes: Vec::new() }
}

fn one(ledger: &mut Ledger, ask: Ask) -> Answer {
    at(ledger, ask, UnixMillis(0))
}

fn at(ledger: &mut Ledger, ask: Ask, clock: Clock) -> Answer {
    let mut answers = ledger.answer([ask], clock);
    assert_eq!(answers.len(), 1);
    answers.remove(0)
}

fn whole(name: &str) -> Ask {
    Ask::Open { stream: stream(name), after: Serial(0), tail: 0, bytes_max: u64::MAX }
}

fn opened(ledger: &mut Ledger, name: &str, clock: Clock) -> (Head, Vec<Record>, Vec<KeyRecord>) {
    match at(ledger, whole(name), clock) {
        Answer::Opened { head, tail, keys } => (head, tail, keys),
        other => panic!("{other:?}"),
    }
}

fn page(ledger: &mut Ledger, name: &str, page: PageAsk, clock: Clock) -> Page {
    match at(ledger, Ask::Page { stream: stream(name), page }, clock) {
        Answer::Page(page) => page,
        other => panic!("{other:?}"),
    }
}

fn round(ledger: &mut Ledger, clock: Clock, bounds: Bounds) -> Vec<(StreamKey, Head)> {
    let mut moved = Vec::new();
    for _ in 0..10_000 {
        let portion = ledger.sweep(clock, &|_| bounds).unwrap();
        assert_eq!(portion.damages, []);
        moved.extend(portion.moved);
        if portion.is_round_over {
            return moved;
        }
    }
    panic!("a round ends");
}

fn serials(records: &[Record]) -> Vec<u64> {
    records.iter().map(|record| record.serial.0).collect()
}

fn order() -> Answer {
    Answer::Fault(Fault::Order)
}

/// Answers have no equality, because nobody else needs one.
fn same(a: &Answer, b: &Answer) -> bool {
    format!("{a:?}") == format!("{b:?}")
}

#[test]
fn appends_of_one_stream_chain_within_a_group_and_refused_ones_change_nothing() {
    let memory = Memory::default();
    let mut ledger = ledger(&memory);
    let (a, b) = (first("a"), first("b"));
    let commits = memory.commits();
    let answers = ledger.answer(
        [
            append("a", a, 1..=2),
            append("a", a, 4..=4),
            append("a", Epoch(1), 3..=3),
            append("a", a, 3..=3),
            append("b", b, 1..=1),
            Ask::Append {
                stream: stream("a"),
                epoch: a,
                records: Vec::new(),
                keys: Vec::new(),
                changes: Vec::new(),
            },
            append("a", a, 4..=5),
        ],
        UnixMillis(0),
    );
    let newest = answers.iter().map(|answer| match answer {
        Answer::Appended { head } => head.newest.0,
        other => {
            assert!(same(other, &order()), "{other:?}");
            0
        }
    });
    assert_eq!(newest.collect::<Vec<_>>(), [2, 0, 0, 3, 1, 0, 5]);
    assert_eq!(memory.commits(), commits + 1, "one batch for all of them");
    let (head, tail, _) = opened(&mut ledger, "a", UnixMillis(0));
    assert_eq!((head.records(), head.bytes, serials(&tail)), (5, 50, vec![1, 2, 3, 4, 5]));
    assert_eq!((head.oldest_at, head.newest_at), (UnixMillis(1000), UnixMillis(5000)));
    assert_eq!(memory.keys(Space::Streams), 2);
}

#[test]
fn a_gap_within_the_records_is_refused() {
    let mut ledger = ledger(&Memory::default());
    let records = vec![record(1, NEVER, 1), record(3, NEVER, 1)];
    let ask = Ask::Append {
        stream: stream("a"),
        epoch: first("a"),
        records,
        keys: Vec::new(),
        changes: Vec::new(),
    };
    assert!(same(&one(&mut ledger, ask), &order()));
}

#[test]
fn a_stream_that_was_never_written_is_not_written_by_a_look() {
    let memory = Memory::default();
    let mut ledger = ledger(&memory);
    let (head, tail, keys) = opened(&mut ledger, "a", UnixMillis(0));
    assert_eq!(head, Head { epoch: first("a"), oldest: Serial(1), ..Head::default() });
    assert!(tail.is_empty() && keys.is_empty() && head.records() == 0);
    let purged = one(&mut ledger, Ask::Purge { stream: stream("a"), to: PurgeTo::All });
    assert!(matches!(purged, Answer::Purged { records: 0, .. }));
    assert_eq!(memory.keys(Space::Streams), 0);
}

#[test]
fn a_name_that_cannot_be_a_key_fails_alone() {
    let mut ledger = ledger(&Memory::default());
    let bad = StreamKey { app: "a\0b".into(), channel: "c".into() };
    let records = vec![record(1, NEVER, 1)];
    let bad = Ask::Append {
        stream: bad,
        epoch: Epoch(0),
        records,
        keys: Vec::new(),
        changes: Vec::new(),
    };
    let answers = ledger.answer([bad, append("a", first("a"), 1..=1)], UnixMillis(0));
    assert!(matches!(answers[0], Answer::Fault(Fault::Failed(_))));
    assert!(matches!(answers[1], Answer::Appended { .. }));
    assert!(!ledger.is_broken());
}

#[test]
fn after_a_failed_commit_all_of_the_group_failed_and_a_new_ledger_tells_what_is_there() {
    for (outcome, newest) in [(Outcome::FailsBefore, 1), (Outcome::FailsAfter, 3)] {
        let memory = Memory::default();
        let mut writing = ledger(&memory);
        one(&mut writing, append("a", first("a"), 1..=1));
        memory.expect([outcome]);
        let asks = [append("a", first("a"), 2..=2), append("a", first("a"), 3..=3)];
        let answers = writing.answer(asks, UnixMillis(0));
        assert!(answers.iter().all(|it| matches!(it, Answer::Fault(Fault::Failed(_)))));
        assert!(writing.is_broken());
        memory.reopen();
        let answer = one(&mut writing, append("a", first("a"), 2..=2));
        assert!(matches!(answer, Answer::Fault(Fault::Failed(_))), "it does not go on by guessing");
        let mut again = ledger(&memory);
        assert_eq!(opened(&mut again, "a", UnixMillis(0)).0.newest, Serial(newest));
    }
}

#[test]
fn pages_are_what_was_asked_for() {
    let mut ledger = ledger(&Memory::default());
    one(&mut ledger, append("a", first("a"), 1..=10));
    let all =
        PageAsk { to: Serial(u64::MAX), records_max: 100, bytes_max: 1000, ..PageAsk::default() };
    let back = PageAsk { is_newest_first: true, ..all };
    let second = |n: u64| Some(UnixMillis(n * 1000));
    for (name, ask, expected, has_more) in [
        ("all", all, (1..=10).collect::<Vec<_>>(), false),
        ("exactly all", PageAsk { records_max: 10, ..all }, (1..=10).collect(), false),
        ("one less", PageAsk { records_max: 9, ..all }, (1..=9).collect(), true),
        ("none is one", PageAsk { records_max: 0, ..all }, vec![1], true),
        ("from", PageAsk { from: Serial(8), ..all }, vec![8, 9, 10], false),
        ("to", PageAsk { to: Serial(2), ..all }, vec![1, 2], false),
        ("to, full", PageAsk { to: Serial(2), records_max: 2, ..all }, vec![1, 2], false),
        ("beyond", PageAsk { from: Serial(11), ..all }, vec![], false),
        ("crossed", PageAsk { from: Serial(5), to: Serial(4), ..all }, vec![], false),
        ("bytes", PageAsk { bytes_max: 29, ..all }, vec![1, 2], true),
        ("bytes, exact", PageAsk { bytes_max: 30, ..all }, vec![1, 2, 3], true),
        ("no bytes is one", PageAsk { bytes_max: 0, ..all }, vec![1], true),
        ("back", back, (1..=10).rev().collect(), false),
        ("back, few", PageAsk { records_max: 2, ..back }, vec![10, 9], true),
        ("back, to", PageAsk { to: Serial(3), records_max: 2, ..back }, vec![3, 2], true),
        ("back, from", PageAsk { from: Serial(9), records_max: 2, ..back }, vec![10, 9], false),
        ("times", PageAsk { from_at: second(3), to_at: second(5), ..all }, vec![3, 4, 5], false),
        ("times, few", PageAsk { from_at: second(9), records_max: 1, ..all }, vec![9], true),
        (
            "no more at those times",
            PageAsk { to_at: second(2), records_max: 2, ..all },
            vec![1, 2],
            false,
        ),
    ] {
        let page = page(&mut ledger, "a", ask, UnixMillis(0));
        assert_eq!((serials(&page.records), page.has_more), (expected, has_more), "{name}");
        assert_eq!(page.head.newest, Serial(10));
    }
}

#[test]
fn an_open_brings_the_records_after_a_position_or_so_many() {
    let mut ledger = ledger(&Memory::default());
    one(&mut ledger, append("a", first("a"), 1..=10));
    for (after, tail, bytes_max, expected) in [
        (10, 0, 1000, vec![]),
        (8, 0, 1000, vec![9, 10]),
        (8, 4, 1000, vec![7, 8, 9, 10]),
        (6, 1, 1000, vec![7, 8, 9, 10]),
        (0, 0, 35, vec![8, 9, 10]),
        (0, 0, 9, vec![]),
        (u64::MAX, 100, 20, vec![9, 10]),
    ] {
        let ask = Ask::Open { stream: stream("a"), after: Serial(after), tail, bytes_max };
        let Answer::Opened { tail: found, .. } = one(&mut ledger, ask) else { panic!("opens") };
        assert_eq!(serials(&found), expected, "after {after}, tail {tail}, bytes {bytes_max}");
    }
}

#[test]
fn expired_records_are_not_shown_and_a_sweep_removes_them() {
    let memory = Memory::default();
    let mut ledger = ledger(&memory);
    // The third expires before the second: it stays with it, so that there is no hole.
    let expiries = [10, 30, 20, 40];
    let records = expiries.into_iter().zip(1..).map(|(it, n)| record(n, UnixMillis(it), 10));
    let records = records.collect();
    let ask = Ask::Append {
        stream: stream("a"),
        epoch: first("a"),
        records,
        keys: Vec::new(),
        changes: Vec::new(),
    };
    one(&mut ledger, ask);
    for (clock, shown) in
        [(9, vec![1, 2, 3, 4]), (10, vec![2, 3, 4]), (25, vec![2, 3, 4]), (30, vec![4])]
    {
        let (head, tail, _) = opened(&mut ledger, "a", UnixMillis(clock));
        assert_eq!((serials(&tail), head.bytes), (shown.clone(), shown.len() as u64 * 10));
        assert_eq!((head.oldest.0, head.oldest_at.0), (shown[0], shown[0] * 1000));
    }
    assert_eq!(memory.keys(Space::Events), 4);
    let moved = round(&mut ledger, UnixMillis(25), Bounds::default());
    assert_eq!((moved.len(), moved[0].1.oldest, memory.keys(Space::Events)), (1, Serial(2), 3));
    assert!(round(&mut ledger, UnixMillis(25), Bounds::default()).is_empty());
    round(&mut ledger, UnixMillis(40), Bounds::default());
    assert_eq!((memory.keys(Space::Events), memory.keys(Space::Streams)), (0, 1));
    // The header stays: the next record goes on where the last one was.
    let (head, ..) = opened(&mut ledger, "a", UnixMillis(40));
    assert_eq!((head.newest, head.oldest, head.bytes), (Serial(4), Serial(5), 0));
    let answer = at(&mut ledger, append("a", first("a"), 5..=5), UnixMillis(41));
    let Answer::Appended { head } = answer else { panic!("{answer:?}") };
    assert_eq!((head.oldest, head.bytes, head.records()), (Serial(5), 10, 1));
}

#[test]
fn an_append_tells_the_head_without_what_is_expired() {
    let mut ledger = ledger(&Memory::default());
    let records = vec![record(1, UnixMillis(5), 10), record(2, UnixMillis(50), 10)];
    let ask = Ask::Append {
        stream: stream("a"),
        epoch: first("a"),
        records,
        keys: Vec::new(),
        changes: Vec::new(),
    };
    one(&mut ledger, ask);
    let answer = at(&mut ledger, append("a", first("a"), 3..=3), UnixMillis(5));
    let Answer::Appended { head } = answer else { panic!("{answer:?}") };
    assert_eq!((head.oldest, head.newest, head.bytes), (Serial(2), Serial(3), 20));
}

#[test]
fn a_sweep_keeps_the_bounds_of_a_stream() {
    for (bounds, oldest) in [
        (Bounds { records_max: 3, bytes_max: 0 }, 8),
        (Bounds { records_max: 0, bytes_max: 45 }, 7),
        (Bounds { records_max: 3, bytes_max: 45 }, 8),
        (Bounds { records_max: 6, bytes_max: 10 }, 10),
        (Bounds { records_max: 0, bytes_max: 5 }, 11),
        (Bounds { records_max: 10, bytes_max: 100 }, 1),
        (Bounds { records_max: 0, bytes_max: 0 }, 1),
    ] {
        let memory = Memory::default();
        let mut ledger = ledger(&memory);
        one(&mut ledger, append("a", first("a"), 1..=10));
        let moved = round(&mut ledger, UnixMillis(0), bounds);
        assert_eq!(moved.len(), usize::from(oldest > 1), "{bounds:?}");
        let (head, tail, _) = opened(&mut ledger, "a", UnixMillis(0));
        assert_eq!((head.oldest, head.bytes), (Serial(oldest), (11 - oldest) * 10), "{bounds:?}");
        assert_eq!((tail.len(), memory.keys(Space::Events)), (11 - oldest as usize, tail.len()));
    }
}

#[test]
fn a_sweep_passes_by_what_it_cannot_read() {
    let memory = Memory::default();
    let mut ledger = ledger(&memory);
    for name in ["a", "b", "c"] {
        one(&mut ledger, append(name, first(name), 1..=4));
    }
    let mut batch = Batch::default();
    batch.put(Space::Streams, stream_key(&stream("b")).unwrap(), Bytes::from_static(b"?"));
    memory.commit(batch).unwrap();
    let portion =
        ledger.sweep(UnixMillis(0), &|_| Bounds { records_max: 1, bytes_max: 0 }).unwrap();
    assert_eq!((portion.moved.len(), portion.damages.len()), (2, 1));
    assert!(portion.damages[0].to_string().starts_with("streams key=app\\x00b "));
}

#[test]
fn a_missing_record_is_a_fault_and_not_a_hole() {
    let memory = Memory::default();
    let mut ledger = ledger(&memory);
    one(&mut ledger, append("a", first("a"), 1..=5));
    for serial in [3, 1, 5] {
        let mut batch = Batch::default();
        batch.remove(Space::Events, event_key(1, Serial(serial)));
        memory.commit(batch).unwrap();
        let Answer::Fault(Fault::Failed(text)) = one(&mut ledger, whole("a")) else {
            panic!("fails")
        };
        assert!(text.contains("events") && text.contains("is missing"), "{text}");
        let mut batch = Batch::default();
        let value = encode_event(&record(serial, NEVER, 10), (serial - 1) * 10);
        batch.put(Space::Events, event_key(1, Serial(serial)), value);
        memory.commit(batch).unwrap();
    }
    assert_eq!(opened(&mut ledger, "a", UnixMillis(0)).1.len(), 5);
}

#[test]
fn keys_and_state_expire_and_are_swept_unless_written_again() {
    let memory = Memory::default();
    let mut ledger = ledger(&memory);
    let key = |name: &str, expires| KeyRecord {
        key: name.into(),
        fingerprint: [1; 16],
        serial: Serial(1),
        id: EventId(1),
        expires: UnixMillis(expires),
    };
    let Ask::Append { stream: of, epoch, records, .. } = append("a", first("a"), 1..=1) else {
        unreachable!()
    };
    one(
        &mut ledger,
        Ask::Append {
            stream: of,
            epoch,
            records,
            keys: vec![key("k", 10), key("l", 20)],
            changes: Vec::new(),
        },
    );
    let put = |key: &'static [u8], expires| Change::Put {
        key: Bytes::from_static(key),
        value: Bytes::from_static(b"v"),
        expires,
    };
    let change = |changes| Ask::change(Shelf::Push, changes);
    let changes = vec![put(b"a", UnixMillis(10)), put(b"b", UnixMillis(10)), put(b"c", NEVER)];
    one(&mut ledger, change(changes));
    one(&mut ledger, change(vec![put(b"b", UnixMillis(30)), put(b"d", UnixMillis(10))]));
    one(&mut ledger, change(vec![Change::Remove { key: Bytes::from_static(b"d") }]));
    let read = |ledger: &mut Ledger, clock| {
        let ask = Ask::read(Shelf::Push, Bytes::new(), None, 10);
        match at(ledger, ask, UnixMillis(clock)) {
            Answer::Values { values, .. } => {
                values.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(read(&mut ledger, 9), ["a", "b", "c"]);
    assert_eq!(read(&mut ledger, 10), ["b", "c"]);
    let names = |ledger: &mut Ledger, clock| {
        let keys = opened(ledger, "a", UnixMillis(clock)).2;
        keys.into_iter().map(|key| key.key.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(
        (names(&mut ledger, 9), names(&mut ledger, 10)),
        (vec!["k".into(), "l".into()], vec!["l".into()])
    );
    round(&mut ledger, UnixMillis(10), Bounds::default());
    assert_eq!((memory.keys(Space::Keys), memory.keys(Space::State)), (1, 2));
    assert_eq!(memory.keys(Space::Expiry), 2);
    assert_eq!(read(&mut ledger, 29), ["b", "c"]);
    round(&mut ledger, UnixMillis(30), Bounds::default());
    assert_eq!(SPACES.map(|space| memory.keys(space))[3..], [0, 1, 0]);
}

#[test]
fn a_read_is_bounded_by_prefix_position_and_number() {
    let mut ledger = ledger(&Memory::default());
    let names = ["a", "b/1", "b/2", "b/3", "c"];
    let put = |name: &str| Change::Put {
        key: Bytes::copy_from_slice(name.as_bytes()),
        value: Bytes::from_static(b"v"),
        expires: NEVER,
    };
    let changes = names.map(put).to_vec();
    one(&mut ledger, Ask::change(Shelf::Storage, changes));
    one(&mut ledger, Ask::change(Shelf::Schedules, vec![put("b/9")]));
    for (prefix, after, values_max, expected) in [
        ("", None, 9, &names[..]),
        ("b/", None, 9, &names[1..4]),
        ("b/", None, 2, &names[1..3]),
        ("b/", Some("b/1"), 9, &names[2..4]),
        ("b/", Some("a"), 9, &names[1..4]),
        ("b/", Some("c"), 9, &[]),
        ("", None, 0, &[]),
    ] {
        let after = after.map(|it| Bytes::copy_from_slice(it.as_bytes()));
        let prefix_bytes = Bytes::copy_from_slice(prefix.as_bytes());
        let ask = Ask::read(Shelf::Storage, prefix_bytes, after.clone(), values_max);
        let Answer::Values { values: found, .. } = one(&mut ledger, ask) else { panic!("reads") };
        let found: Vec<_> = found.into_iter().map(|(key, _)| key).collect();
        assert_eq!(found, expected, "{prefix} {after:?} {values_max}");
    }
}

#[test]
fn a_read_goes_either_way_between_keys_and_says_whether_there_is_more() {
    let mut ledger = ledger(&Memory::default());
    let put = |name: &str, expires| Change::Put {
        key: Bytes::copy_from_slice(name.as_bytes()),
        value: Bytes::from_static(b"12345678"),
        expires,
    };
    let mut changes = ["a", "b1", "b3", "b4", "c"].map(|name| put(name, NEVER)).to_vec();
    changes.push(put("b2", UnixMillis(5)));
    changes.push(put("b5", UnixMillis(5)));
    one(&mut ledger, Ask::change(Shelf::Storage, changes));
    one(&mut ledger, Ask::change(Shelf::Schedules, vec![put("b", NEVER)]));
    let no = (None, None);
    for (prefix, (after, before), is_last_first, (values_max, bytes_max), expected, has_more) in [
        ("b", no, false, (9, 999), vec!["b1", "b3", "b4"], false),
        ("b", no, true, (9, 999), vec!["b4", "b3", "b1"], false),
        ("b", no, false, (3, 999), vec!["b1", "b3", "b4"], false),
        ("b", no, false, (2, 999), vec!["b1", "b3"], true),
        ("b", no, true, (2, 999), vec!["b4", "b3"], true),
        ("b", no, false, (9, 20), vec!["b1", "b3"], true),
        ("b", no, false, (9, 19), vec!["b1"], true),
        ("b", no, true, (9, 0), vec!["b4"], true),
        ("b", (Some("b1"), None), true, (9, 999), vec!["b4", "b3"], false),
        ("b", (None, Some("b4")), false, (9, 999), vec!["b1", "b3"], false),
        ("b", (None, Some("b4")), true, (1, 999), vec!["b3"], true),
        ("b", (Some("b1"), Some("b4")), true, (9, 999), vec!["b3"], false),
        ("b", (Some("a"), Some("c")), true, (9, 999), vec!["b4", "b3", "b1"], false),
        ("b", (None, Some("a")), true, (9, 999), vec![], false),
        ("b", (Some("b4"), Some("b1")), false, (9, 999), vec![], false),
        ("", (None, Some("b")), true, (9, 999), vec!["a"], false),
        ("", no, true, (1, 999), vec!["c"], true),
        ("", no, false, (0, 999), vec![], true),
        ("d", no, false, (0, 999), vec![], false),
    ] {
        let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        let ask = Ask::Read {
            shelf: Shelf::Storage,
            prefix: bytes(prefix),
            after: after.map(bytes),
            before: before.map(bytes),
            is_last_first,
            values_max,
            bytes_max,
        };
        let what = format!("{ask:?}");
        let Answer::Values { values, has_more: more } = at(&mut ledger, ask, UnixMillis(5)) else {
            panic!("reads")
        };
        let found: Vec<_> = values.into_iter().map(|(key, _)| key).collect();
        assert_eq!((found, more), (expected.into_iter().map(bytes).collect(), has_more), "{what}");
    }
}

#[test]
fn a_purge_takes_the_oldest_and_counts_them() {
    for (to, gone) in [
        (PurgeTo::All, 10),
        (PurgeTo::Serial(Serial(4)), 3),
        (PurgeTo::Serial(Serial(0)), 0),
        (PurgeTo::Serial(Serial(99)), 10),
        (PurgeTo::At(UnixMillis(4000)), 3),
        (PurgeTo::At(UnixMillis(4001)), 4),
        (PurgeTo::At(NEVER), 10),
        (PurgeTo::At(UnixMillis(0)), 0),
    ] {
        let memory = Memory::default();
        let mut ledger = ledger(&memory);
        // In one group with the appends it purges.
        let asks = [append("a", first("a"), 1..=10), Ask::Purge { stream: stream("a"), to }];
        let answers = ledger.answer(asks, UnixMillis(0));
        let Answer::Purged { head, records, bytes } = answers[1] else { panic!("{answers:?}") };
        assert_eq!((records, bytes, head.oldest.0), (gone, gone * 10, gone + 1), "{to:?}");
        assert_eq!((head.newest, head.bytes), (Serial(10), 100 - gone * 10));
        assert_eq!(memory.keys(Space::Events) as u64, 10 - gone);
        assert!(matches!(
            one(&mut ledger, append("a", first("a"), 11..=11)),
            Answer::Appended { .. }
        ));
    }
}

#[test]
fn a_long_purge_is_done_in_chunks_and_goes_on_after_a_crash() {
    let memory = Memory::default();
    let mut writing = ledger(&memory);
    let total = CHUNK_RECORDS * 3 + 5;
    one(&mut writing, append("a", first("a"), 1..=total));
    let purged =
        one(&mut writing, Ask::Purge { stream: stream("a"), to: PurgeTo::Serial(Serial(total)) });
    let Answer::Purged { head, records, .. } = purged else { panic!("{purged:?}") };
    assert_eq!((head.oldest.0, records), (total, total - 1));
    assert_eq!(memory.keys(Space::Events) as u64, total - CHUNK_RECORDS);
    writing.sweep(UnixMillis(0), &FREE).unwrap();
    assert_eq!(memory.keys(Space::Events) as u64, total - 2 * CHUNK_RECORDS);
    // Another purge while the first one is not all done, and a crash.
    let records = vec![record(total + 1, NEVER, 10)];
    let ask = Ask::Append {
        stream: stream("a"),
        epoch: first("a"),
        records,
        keys: Vec::new(),
        changes: Vec::new(),
    };
    one(&mut writing, ask);
    memory.expect([Outcome::FailsAfter]);
    one(&mut writing, Ask::Purge { stream: stream("a"), to: PurgeTo::All });
    memory.reopen();
    let mut again = ledger(&memory);
    assert_eq!(opened(&mut again, "a", UnixMillis(0)).0.records(), 0);
    round(&mut again, UnixMillis(0), Bounds::default());
    assert_eq!(memory.keys(Space::Events), 0);
    assert!(ledger(&memory).leftovers.is_empty());
}

#[test]
fn a_reset_begins_another_life_and_the_old_one_is_deleted_later() {
    let memory = Memory::default();
    let mut ledger = ledger(&memory);
    let Ask::Append { stream: of, epoch, records, .. } = append("a", first("a"), 1..=5) else {
        unreachable!()
    };
    let key = KeyRecord {
        key: "k".into(),
        fingerprint: [0; 16],
        serial: Serial(1),
        id: EventId(1),
        expires: NEVER,
    };
    one(
        &mut ledger,
        Ask::Append { stream: of, epoch, records, keys: vec![key], changes: Vec::new() },
    );
    let reset = |epoch| Ask::Reset { stream: stream("a"), epoch };
    assert!(same(&one(&mut ledger, reset(first("a"))), &order()), "a new life has a new epoch");
    let asks = [reset(Epoch(7)), append("a", first("a"), 6..=6), append("a", Epoch(7), 1..=2)];
    let answers = ledger.answer(asks, UnixMillis(0));
    let Answer::Purged { head, records: 5, bytes: 50 } = answers[0] else { panic!("{answers:?}") };
    assert_eq!((head.epoch, head.newest, head.oldest), (Epoch(7), Serial(0), Serial(1)));
    assert_eq!(head.last_id, EventId(5 << 80), "ids go on");
    assert!(same(&answers[1], &order()));
    let (head, tail, keys) = opened(&mut ledger, "a", UnixMillis(0));
    assert_eq!((head.bytes, serials(&tail), keys.len()), (20, vec![1, 2], 0));
    round(&mut ledger, UnixMillis(0), Bounds::default());
    assert_eq!((memory.keys(Space::Events), memory.keys(Space::Keys)), (2, 0));
}

#[test]
fn headers_that_were_forgotten_are_read_again() {
    let memory = Memory::default();
    let mut ledger = ledger(&memory);
    one(&mut ledger, append("a", first("a"), 1..=3));
    ledger.headers.clear();
    assert!(same(&one(&mut ledger, append("a", first("a"), 3..=3)), &order()));
    assert!(matches!(one(&mut ledger, append("a", first("a"), 4..=4)), Answer::Appended { .. }));
}

#[path = "ledger_model.rs"]
mod model;
