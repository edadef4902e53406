use std::fs;

use super::*;
use crate::base::event_id::EventId;
use crate::base::ids::{Epoch, Serial};
use crate::base::time::UnixMillis;
use crate::store::directory::Directory;
use crate::store::format::{encode_header, event_key, first_epoch, stream_key};
use crate::store::ledger::Ledger;
use crate::store::memory::Memory;
use crate::store::{Answer, Ask, Change, KeyRecord, NEVER, Record, Shelf};

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
        asks.push(Ask::Append { stream, epoch, records, keys: vec![key] });
    }
    let put = |expires| Change::Put {
        key: Bytes::from_static(b"k"),
        value: Bytes::from_static(b"v"),
        expires,
    };
    asks.push(Ask::Change { shelf: Shelf::Push, changes: vec![put(UnixMillis(9))] });
    asks.push(Ask::Change { shelf: Shelf::Outbox, changes: vec![put(NEVER)] });
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

fn quiet() -> impl FnMut(&str) {
    |_| {}
}

#[test]
fn a_backup_opens_and_equals() {
    let (directory, to) = (Directory::new(), Directory::new());
    let opened = open::open(&directory.0, &mut quiet()).unwrap();
    fill(Arc::clone(&opened.database), opened.store, 5);
    let (busy, is_copying) = (Arc::default(), Arc::new(AtomicBool::new(true)));
    let database = Arc::clone(&opened.database);
    let backup = start_backup(database, &to.0, busy, Arc::clone(&is_copying)).unwrap();
    let copied = backup.wait().unwrap();
    assert!(!is_copying.load(Ordering::Relaxed));
    let expected = dump(&*opened.database);
    assert_eq!(copied, expected.len() as u64);
    drop(opened);
    let copy = open::open(&to.0, &mut quiet()).unwrap();
    assert_eq!(dump(&*copy.database), expected);
    drop(copy);
    let offline = Directory::new();
    assert_eq!(backup_offline(&directory.0, &offline.0, &mut quiet()).unwrap(), copied);
    assert_eq!(dump(&*open::open(&offline.0, &mut quiet()).unwrap().database), expected);
    let error = backup_offline(&directory.0, &to.0, &mut quiet()).unwrap_err().to_string();
    assert!(error.contains("has other files in it"), "{error}");
}

#[test]
fn a_backup_that_broke_off_does_not_open() {
    let (memory, to) = (Memory::default(), Directory::new());
    let store = open::settle(&memory, 3).unwrap();
    fill(Arc::new(memory.clone()), store, COPY_KEYS as u64 / 3);
    let target = open::create(&to.0).unwrap();
    let stop = AtomicBool::new(true);
    assert!(copy(&*memory.look(), &target, &stop, &AtomicU64::new(0)).is_err());
    let mut batch = Batch::default();
    batch.put(Space::State, *b"k", Bytes::new());
    target.commit(batch).unwrap();
    drop(target);
    let error = open::open(&to.0, &mut quiet()).unwrap_err().to_string();
    assert!(error.contains("a backup that was not finished"), "{error}");
}

#[test]
fn tools_make_no_store_where_there_is_none() {
    let directory = Directory::new();
    for error in [
        check(&directory.0, &mut quiet()).map(|_| ()),
        stats(&directory.0, &mut quiet()).map(|_| ()),
        backup_offline(&directory.0, &directory.0, &mut quiet()).map(|_| ()),
    ] {
        assert!(matches!(error, Err(ToolError::NoStore(_))));
    }
    assert!(fs::metadata(&directory.0).is_err());
}

#[test]
fn a_sound_store_has_no_faults_and_is_counted() {
    let directory = Directory::new();
    let opened = open::open(&directory.0, &mut quiet()).unwrap();
    fill(Arc::clone(&opened.database), opened.store, 3);
    drop(opened);
    let report = check(&directory.0, &mut quiet()).unwrap();
    assert_eq!(report.faults, [""; 0]);
    assert_eq!((report.streams, report.records, report.leftovers), (3, 6, 3));
    assert_eq!((report.bytes, report.keys, report.values), (3 * (11 + 12), 3, 2));
    let report = stats(&directory.0, &mut quiet()).unwrap();
    assert_eq!((report.streams, report.records, report.bytes), (3, 6, 3 * (11 + 12)));
    assert_eq!(&*report.largest[0].0.channel, "c2");
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
        let report = check_database(&*memory.look(), &mut quiet()).unwrap();
        assert!(report.faults.iter().any(|it| it.contains(what)), "{what}: {:?}", report.faults);
        assert_eq!(report.faults.len() as u64, report.faults_total);
    }
}
