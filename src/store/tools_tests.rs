use std::fs;
use std::sync::Arc;

use super::*;
use crate::base::event_id::EventId;
use crate::base::ids::{Epoch, Serial};
use crate::base::time::UnixMillis;
use crate::store::directory::Directory;
use crate::store::format::{encode_header, event_key, first_epoch, stream_key};
use crate::store::ledger::Ledger;
use crate::store::memory::Memory;
use crate::store::{Answer, Ask, Change, KeyRecord, Record, Shelf};

/// Puts something into every space.
fn fill(database: Arc<dyn Database>, store: u128, streams: u64) {
    let mut ledger = Ledger::new(database, store).unwrap();
    let mut asks = Vec::new();
    for n in 0..streams {
        let stream = StreamKey { app: "app".into(), channel: format!("c{n}").as_str().into() };
        let epoch = first_epoch(store, &stream);
        let record = |serial| Record {
            serial: Serial(serial),
            id: EventId(u128::from(serial)),
            at: UnixMillis(serial),
            expires: UnixMillis(1000),
            body: Bytes::from(vec![7; 10 + n as usize]),
        };
        let key = KeyRecord {
            key: "key".into(),
            fingerprint: [1; 16],
            serial: Serial(1),
            id: EventId(1),
            expires: UnixMillis(1000),
        };
        let records = (1..=3).map(record).collect();
        asks.push(Ask::Append { stream, epoch, records, keys: vec![key], changes: Vec::new() });
    }
    let put = |expires| Change::Put {
        key: Bytes::from_static(b"k"),
        value: Bytes::from_static(b"v"),
        expires,
    };
    asks.push(Ask::Change { changes: vec![(Shelf::Push, put(UnixMillis(9)))] });
    let pushed = Change::Push { value: Bytes::from_static(b"v") };
    asks.push(Ask::Change { changes: vec![(Shelf::Outbox, pushed)] });
    let gone = StreamKey { app: "app".into(), channel: "c0".into() };
    asks.push(Ask::Reset { stream: gone, epoch: Epoch(5) });
    let answers = ledger.answer(asks, UnixMillis(0));
    assert!(answers.iter().all(|it| !matches!(it, Answer::Fault(_))), "{answers:?}");
}

fn dump(database: &dyn Database) -> Vec<(Space, Vec<u8>, Vec<u8>)> {
    let (look, mut found) = (database.look(), Vec::new());
    for space in SPACES {
        look.walk(space, KeyRange::all(), Direction::Forwards, &mut |key, value| {
            found.push((space, key.to_vec(), value.to_vec()));
            Ok(ControlFlow::Continue(()))
        })
        .unwrap();
    }
    found
}

fn quiet(_: &str) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn open_at(path: &Path) -> open::Opened {
    open::open(path, &mut |_| {}).unwrap()
}

#[test]
fn a_backup_opens_and_equals() {
    let (directory, to) = (Directory::new(), Directory::new());
    let opened = open_at(&directory.0);
    fill(Arc::clone(&opened.database), opened.store, 5);
    let copied = backup_open(&*opened.database, &to.0, &quiet).unwrap();
    let expected = dump(&*opened.database);
    assert_eq!(copied, expected.len() as u64);
    drop(opened);
    let copy = open_at(&to.0);
    assert_eq!(dump(&*copy.database), expected);
    drop(copy);
    let offline = Directory::new();
    assert_eq!(backup(&directory.0, &offline.0, &quiet).unwrap(), copied);
    assert_eq!(dump(&*open_at(&offline.0).database), expected);
    let error = backup(&directory.0, &to.0, &quiet).unwrap_err().to_string();
    assert!(error.contains("has other files in it"), "{error}");
}

#[test]
fn a_backup_that_broke_off_does_not_open() {
    let (memory, to) = (Memory::default(), Directory::new());
    let store = open::settle(&memory, 3).unwrap();
    fill(Arc::new(memory.clone()), store, COPY_KEYS as u64 / 3);
    // There is a batch of a copy before it is broken off.
    let follow = |what: &str| match what.starts_with("20480 ") {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    };
    let error = backup_open(&memory, &to.0, &follow).unwrap_err().to_string();
    assert_eq!(error, "broken off");
    let error = open::open(&to.0, &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("a backup that was not finished"), "{error}");
}

#[test]
fn tools_make_no_store_where_there_is_none() {
    let directory = Directory::new();
    for error in [
        check(&directory.0, &quiet).map(|_| ()),
        stats(&directory.0, &quiet).map(|_| ()),
        backup(&directory.0, &directory.0, &quiet).map(|_| ()),
    ] {
        assert!(matches!(error, Err(ToolError::NoStore(_))));
    }
    assert!(fs::metadata(&directory.0).is_err());
}

#[test]
fn a_sound_store_has_no_faults_and_is_counted() {
    let directory = Directory::new();
    let opened = open_at(&directory.0);
    fill(Arc::clone(&opened.database), opened.store, 3);
    drop(opened);
    let report = check(&directory.0, &quiet).unwrap();
    assert_eq!(report.faults, [""; 0]);
    assert_eq!((report.streams, report.records, report.leftovers), (3, 6, 3));
    assert_eq!((report.bytes, report.keys, report.values), (3 * (11 + 12), 3, 2));
    let report = stats(&directory.0, &quiet).unwrap();
    assert_eq!((report.streams, report.records, report.bytes), (3, 6, 3 * (11 + 12)));
    assert_eq!(&*report.largest[0].0.channel, "c2");
    assert_eq!(report.shelves, [(Shelf::Push, 1, 2), (Shelf::Outbox, 1, 9)]);
    assert!(report.to_string().contains("\noutbox 1 of 9 bytes\n"));
}

#[test]
fn a_check_names_what_is_wrong() {
    let key = stream_key(&StreamKey { app: "app".into(), channel: "c1".into() }).unwrap();
    type Break = fn(&mut Batch, Vec<u8>, Header);
    let breaks: [(Break, &str); 6] = [
        (|batch, _, it| batch.remove(Space::Events, event_key(it.number, Serial(2))), "is missing"),
        (
            |batch, _, it| {
                let value = Bytes::from_static(b"x");
                batch.put(Space::Events, event_key(it.number, Serial(2)), value);
            },
            "has an unknown version",
        ),
        (
            |batch, key, it| {
                let it = Header { bytes_total: it.bytes_total + 1, ..it };
                batch.put(Space::Streams, key, encode_header(&it));
            },
            "counts its bytes",
        ),
        (
            |batch, key, it| {
                let it = Header { newest_at: UnixMillis(77), ..it };
                batch.put(Space::Streams, key, encode_header(&it));
            },
            "another newest record",
        ),
        (|batch, key, _| batch.put(Space::Streams, key, Bytes::new()), "is cut off"),
        (|batch, _, _| batch.put(Space::Meta, *b"what", Bytes::new()), "is of no known kind"),
    ];
    for (break_it, what) in breaks {
        let memory = Memory::default();
        let store = open::settle(&memory, 3).unwrap();
        fill(Arc::new(memory.clone()), store, 3);
        let value = memory.look().value(Space::Streams, &key).unwrap().unwrap();
        let mut batch = Batch::default();
        break_it(&mut batch, key.clone(), decode_header(&key, &value).unwrap());
        memory.commit(batch).unwrap();
        let report = check_database(&*memory.look()).unwrap();
        assert!(report.faults.iter().any(|it| it.contains(what)), "{what}: {:?}", report.faults);
        assert_eq!(report.faults.len() as u64, report.faults_total);
    }
}
