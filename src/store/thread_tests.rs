use std::sync::Condvar;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::*;
use crate::base::event_id::EventId;
use crate::base::ids::{Epoch, Serial};
use crate::base::time::UnixMillis;
use crate::store::directory::Directory;
use crate::store::format::first_epoch;
use crate::store::memory::{Memory, Outcome};
use crate::store::open;
use crate::store::port::{ASK_BYTES_OPEN_MAX, NoStore, TAG_MOVED};
use crate::store::{Change, Keeper, NEVER, PurgeTo, Record, Shelf};

const STORE: u128 = 9;
/// A test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where the threads' calls end up.
#[derive(Default)]
struct World {
    rung: Mutex<Vec<usize>>,
    bell: Condvar,
    notes: Mutex<Vec<Note>>,
    clock: Mutex<u64>,
    free: Mutex<u64>,
    bounds: Mutex<Bounds>,
}

fn world() -> Arc<World> {
    Arc::new(World { free: Mutex::new(1 << 40), ..World::default() })
}

fn options(world: &Arc<World>, ports: usize, bytes_max: u64, bytes_free_min: u64) -> Options {
    let [for_free, for_bounds, for_clock, for_bell, for_notes] =
        std::array::from_fn(|_| Arc::clone(world));
    Options {
        path: PathBuf::from("memory"),
        bytes_max,
        bytes_free_min,
        free_bytes: Box::new(move |_| Ok(*lock(&for_free.free))),
        bounds_of: Box::new(move |_| *lock(&for_bounds.bounds)),
        clock: Arc::new(move || UnixMillis(*lock(&for_clock.clock))),
        ports,
        pushes_wake: Some(ports - 1),
        notify: Arc::new(move |port| {
            lock(&for_bell.rung).push(port);
            for_bell.bell.notify_all();
        }),
        note: Arc::new(move |note| {
            lock(&for_notes.notes).push(note);
            for_notes.bell.notify_all();
        }),
    }
}

fn opened(memory: &Memory) -> Opened {
    let store = open::settle(memory, STORE).unwrap();
    Opened { database: Arc::new(memory.clone()), store, cut: None }
}

fn started(memory: &Memory, options: Options) -> (Store, Vec<Port>) {
    let again = memory.clone();
    let reopen = Box::new(move || {
        again.reopen();
        Ok(opened(&again))
    });
    start_with(options, opened(memory), reopen).unwrap()
}

/// Waits for the bell until `look` finds something.
fn wait<T>(world: &World, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        let left = until.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "{what} did not come");
        // A bell that rang before the wait is looked for again soon.
        let rung = lock(&world.rung);
        drop(world.bell.wait_timeout(rung, left.min(Duration::from_millis(50))));
    }
}

fn answer(world: &World, port: &mut Port, tag: u64) -> Answer {
    let (found, answer) = wait(world, "an answer", || port.take());
    assert_eq!(found, tag);
    answer
}

fn stream() -> StreamKey {
    StreamKey { app: "app".into(), channel: "channel".into() }
}

fn append(serial: u64, expires: u64, bytes: usize) -> Ask {
    let record = Record {
        serial: Serial(serial),
        id: EventId(u128::from(serial)),
        at: UnixMillis(serial),
        expires: UnixMillis(expires),
        body: Bytes::from(vec![0; bytes]),
    };
    let epoch = first_epoch(STORE, &stream());
    Ask::Append {
        stream: stream(),
        epoch,
        records: vec![record],
        keys: Vec::new(),
        changes: Vec::new(),
    }
}

fn open_ask() -> Ask {
    Ask::Open { stream: stream(), after: Serial(0), tail: 0, bytes_max: u64::MAX }
}

fn put() -> Ask {
    let (key, value) = (Bytes::from_static(b"k"), Bytes::from_static(b"v"));
    Ask::Change { changes: vec![(Shelf::Push, Change::Put { key, value, expires: NEVER })] }
}

#[test]
fn a_push_wakes_whoever_reads_them() {
    let (world, memory) = (world(), Memory::default());
    let (store, mut ports) = started(&memory, options(&world, 2, 0, 0));
    ports[0].ask(1, put());
    assert!(matches!(answer(&world, &mut ports[0], 1), Answer::Changed));
    assert!(!lock(&world.rung).contains(&1));
    ports[0].ask(2, Ask::change(Shelf::Outbox, vec![Change::Push { value: "v".into() }]));
    assert!(matches!(answer(&world, &mut ports[0], 2), Answer::Changed));
    wait(&world, "a wake", || lock(&world.rung).contains(&1).then_some(()));
    assert_eq!(store.health().pushes.load(Ordering::Relaxed), 1);
    ports[1].ask(3, Ask::read(Shelf::Outbox, Bytes::new(), None, 10));
    let Answer::Values { values, .. } = answer(&world, &mut ports[1], 3) else { panic!("read") };
    assert_eq!(values, [(Bytes::copy_from_slice(&1_u64.to_be_bytes()), Bytes::from("v"))]);
    ports[0].ask(4, Ask::change(Shelf::PushQueue, vec![Change::Push { value: "v".into() }]));
    assert!(matches!(answer(&world, &mut ports[0], 4), Answer::Changed));
    let counted = || store.health().pushes_queued.load(Ordering::Relaxed);
    wait(&world, "a count", || (counted() == 1).then_some(()));
    assert_eq!(store.health().pushes.load(Ordering::Relaxed), 1, "each counts its own");
}

#[test]
fn asks_come_back_with_their_tags_and_a_read_sees_what_was_answered() {
    let (world, memory) = (world(), Memory::default());
    let (store, mut ports) = started(&memory, options(&world, 2, 0, 0));
    for serial in 1..=50 {
        ports[1].ask(serial, append(serial, u64::MAX, 10));
    }
    for serial in 1..=50 {
        let Answer::Appended { head } = answer(&world, &mut ports[1], serial) else {
            panic!("kept")
        };
        assert_eq!(head.newest, Serial(serial));
    }
    ports[0].ask(7, open_ask());
    let Answer::Opened { head, tail, .. } = answer(&world, &mut ports[0], 7) else {
        panic!("opens")
    };
    assert_eq!((head.newest, tail.len()), (Serial(50), 50));
    assert!(ports.iter_mut().all(|port| !port.is_ready() && port.take().is_none()));
    let health = store.health();
    assert_eq!(health.records.load(Ordering::Relaxed), 50);
    assert!(health.batches.load(Ordering::Relaxed) <= 50);
    assert_eq!(health.condition(), Condition::Ok);
    store.stop();
    assert_eq!(health.condition(), Condition::Stopped);
    ports[0].ask(8, open_ask());
    assert!(matches!(ports[0].take(), Some((8, Answer::Fault(Fault::Unavailable)))));
}

#[test]
fn more_than_a_port_may_ask_is_unavailable_at_once() {
    let (world, memory) = (world(), Memory::default());
    let (store, mut ports) = started(&memory, options(&world, 1, 0, 0));
    // Too large for the bound alone is taken, and what comes beside it is not.
    ports[0].ask(1, append(1, u64::MAX, ASK_BYTES_OPEN_MAX + 1));
    ports[0].ask(2, append(2, u64::MAX, 10));
    let Some((2, Answer::Fault(Fault::Unavailable))) = ports[0].take() else { panic!("refused") };
    assert!(matches!(answer(&world, &mut ports[0], 1), Answer::Appended { .. }));
    for tag in 0..=ASKS_OPEN_MAX as u64 {
        ports[0].ask(tag, open_ask_small());
    }
    let last = ASKS_OPEN_MAX as u64;
    let Some((tag, Answer::Fault(Fault::Unavailable))) = ports[0].take() else { panic!("refused") };
    assert_eq!(tag, last);
    (0..last).for_each(|tag| {
        assert!(matches!(answer(&world, &mut ports[0], tag), Answer::Opened { .. }))
    });
    drop(store);
}

/// Without the record, which is large in that test.
fn open_ask_small() -> Ask {
    Ask::Open { stream: stream(), after: Serial(u64::MAX), tail: 0, bytes_max: 0 }
}

#[test]
fn a_failed_commit_ends_in_a_database_opened_again() {
    let (world, memory) = (world(), Memory::default());
    let (store, mut ports) = started(&memory, options(&world, 1, 0, 0));
    let port = &mut ports[0];
    port.ask(1, append(1, u64::MAX, 10));
    answer(&world, port, 1);
    memory.expect([Outcome::FailsAfter]);
    port.ask(2, append(2, u64::MAX, 10));
    assert!(matches!(answer(&world, port, 2), Answer::Fault(Fault::Failed(_))));
    port.ask(3, append(3, u64::MAX, 10));
    assert!(matches!(answer(&world, port, 3), Answer::Fault(Fault::Unavailable)));
    assert_eq!(store.health().condition(), Condition::Failed);
    wait(&world, "the database", || lock(&world.notes).contains(&Note::Reopened).then_some(()));
    port.ask(4, open_ask());
    let Answer::Opened { head, .. } = answer(&world, port, 4) else { panic!("opens") };
    assert_eq!(head.newest, Serial(2));
    port.ask(5, append(3, u64::MAX, 10));
    assert!(matches!(answer(&world, port, 5), Answer::Appended { .. }));
    assert_eq!(store.health().condition(), Condition::Ok);
}

#[test]
fn a_full_disk_refuses_what_brings_more_and_takes_the_rest() {
    for is_scarce in [true, false] {
        let (world, memory) = (world(), Memory::default());
        let bound = if is_scarce { (0, 1000) } else { (1000, 0) };
        let set = |is_full: bool| {
            if is_scarce {
                *lock(&world.free) = if is_full { 999 } else { 2000 };
            } else {
                memory.pretend_disk_bytes(if is_full { 1000 } else { 500 });
            }
        };
        set(true);
        let (store, mut ports) = started(&memory, options(&world, 1, bound.0, bound.1));
        let port = &mut ports[0];
        let commits = memory.commits();
        port.ask(1, append(1, u64::MAX, 10));
        assert!(matches!(answer(&world, port, 1), Answer::Fault(Fault::Full)));
        port.ask(2, put());
        assert!(matches!(answer(&world, port, 2), Answer::Fault(Fault::Full)));
        assert_eq!((memory.commits(), store.health().condition()), (commits, Condition::Full));
        port.ask(3, open_ask());
        assert!(matches!(answer(&world, port, 3), Answer::Opened { .. }));
        port.ask(4, Ask::Purge { stream: stream(), to: PurgeTo::All });
        assert!(matches!(answer(&world, port, 4), Answer::Purged { .. }));
        port.ask(5, Ask::Reset { stream: stream(), epoch: Epoch(1) });
        assert!(matches!(answer(&world, port, 5), Answer::Purged { .. }));
        set(false);
        wait(&world, "room", || lock(&world.notes).contains(&Note::Room).then_some(()));
        port.ask(6, put());
        assert!(matches!(answer(&world, port, 6), Answer::Changed));
    }
}

#[test]
fn a_port_is_told_when_retention_moves_what_it_opened() {
    let (world, memory) = (world(), Memory::default());
    let (_store, mut ports) = started(&memory, options(&world, 2, 0, 0));
    for (tag, expires) in [(1, 10), (2, 20)] {
        ports[0].ask(tag, append(tag, expires, 10));
        answer(&world, &mut ports[0], tag);
    }
    ports[1].ask(3, open_ask());
    answer(&world, &mut ports[1], 3);
    *lock(&world.clock) = 10;
    let Answer::Moved { stream: which, head } = answer(&world, &mut ports[1], TAG_MOVED) else {
        panic!("moved")
    };
    assert_eq!((which, head.oldest, head.bytes), (stream(), Serial(2), 10));
    assert!(!ports[0].is_ready(), "only who opened it");
    assert!(lock(&world.rung).contains(&1));
}

#[test]
fn without_a_store_all_is_unavailable() {
    let mut nobody = NoStore::default();
    assert!(!nobody.is_ready());
    nobody.ask(5, put());
    assert!(nobody.is_ready());
    assert!(matches!(nobody.take(), Some((5, Answer::Fault(Fault::Unavailable)))));
    assert!(nobody.take().is_none());
}

#[test]
fn a_store_on_disk_starts_stops_and_is_backed_up_while_it_runs() {
    let (directory, to) = (Directory::new(), Directory::new());
    let world = world();
    let options = || Options { path: directory.0.clone(), ..options(&world, 1, 0, 0) };
    let mut said = Vec::new();
    let (store, mut ports) = start(options(), &mut |text| said.push(text.to_owned())).unwrap();
    assert!(said.contains(&"opening the database".to_owned()));
    let port = &mut ports[0];
    port.ask(1, open_ask());
    let Answer::Opened { head, .. } = answer(&world, port, 1) else { panic!("opens") };
    let with_epoch = |ask| match ask {
        Ask::Append { stream, records, keys, .. } => {
            Ask::Append { stream, epoch: head.epoch, records, keys, changes: Vec::new() }
        }
        other => other,
    };
    port.ask(2, with_epoch(append(1, u64::MAX, 10)));
    assert!(matches!(answer(&world, port, 2), Answer::Appended { .. }));
    let go_on = |_: &str| ControlFlow::Continue(());
    store.backup(&to.0, &go_on).unwrap();
    assert!(store.backup(&to.0, &go_on).is_err(), "there is one already");
    port.ask(3, with_epoch(append(2, u64::MAX, 10)));
    assert!(matches!(answer(&world, port, 3), Answer::Appended { .. }));
    let health = store.health();
    assert!(health.used_bytes.load(Ordering::Relaxed) > 0);
    store.stop();
    for (path, newest) in [(&directory.0, 2), (&to.0, 1)] {
        let (store, mut ports) =
            start(Options { path: path.clone(), ..options() }, &mut |_| {}).unwrap();
        ports[0].ask(1, open_ask());
        let Answer::Opened { head, tail, .. } = answer(&world, &mut ports[0], 1) else {
            panic!("opens")
        };
        assert_eq!((head.newest.0, tail.len() as u64), (newest, newest));
        store.stop();
    }
}
