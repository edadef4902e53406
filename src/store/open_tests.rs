use bytes::Bytes;

use super::*;
use crate::base::event_id::EventId;
use crate::base::ids::{Epoch, Serial};
use crate::base::time::UnixMillis;
use crate::store::directory::Directory;
use crate::store::format::first_epoch;
use crate::store::ledger::Ledger;
use crate::store::memory::Memory;
use crate::store::{Answer, Ask, NEVER, PurgeTo, Record, StreamKey};

fn stream() -> StreamKey {
    StreamKey { app: "app".into(), channel: "channel".into() }
}

fn opened(path: &Path) -> Opened {
    open(path, &mut |_| {}).unwrap_or_else(|error| panic!("{error}"))
}

fn refused(path: &Path) -> String {
    let error = open(path, &mut |_| {}).unwrap_err().to_string();
    assert!(error.starts_with(&format!("store {}: ", path.display())), "{error}");
    error
}

fn ledger(opened: &Opened) -> Ledger {
    Ledger::new(Arc::clone(&opened.database), opened.store).unwrap()
}

fn append(opened: &Opened, serials: std::ops::RangeInclusive<u64>) {
    let record = |serial| Record {
        serial: Serial(serial),
        id: EventId(u128::from(serial)),
        at: UnixMillis(serial),
        expires: NEVER,
        body: Bytes::from(format!("body {serial}")),
    };
    let epoch = first_epoch(opened.store, &stream());
    let records = serials.map(record).collect();
    let ask =
        Ask::Append { stream: stream(), epoch, records, keys: Vec::new(), changes: Vec::new() };
    let answer = ledger(opened).answer([ask], UnixMillis(0)).remove(0);
    assert!(matches!(answer, Answer::Appended { .. }), "{answer:?}");
}

/// The newest serial, all up to it being there.
fn newest(opened: &Opened) -> u64 {
    let ask = Ask::Open { stream: stream(), after: Serial(0), tail: 0, bytes_max: u64::MAX };
    match ledger(opened).answer([ask], UnixMillis(0)).remove(0) {
        Answer::Opened { head, tail, .. } => {
            let expected: Vec<_> = (head.oldest.0..=head.newest.0).collect();
            assert_eq!(tail.iter().map(|it| it.serial.0).collect::<Vec<_>>(), expected);
            head.newest.0
        }
        other => panic!("{other:?}"),
    }
}

/// Copies a store's directory; journals without their zeros, which nobody needs.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else if target.extension().is_some_and(|it| it == "jnl") {
            let mut bytes = fs::read(entry.path()).unwrap();
            bytes.truncate(bytes.iter().rposition(|&it| it != 0).map_or(0, |at| at + 1));
            fs::write(target, bytes).unwrap();
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A store of three batches of records, its journal and where the last two batches of it begin.
fn three_batches() -> (Directory, Vec<u8>, [usize; 2]) {
    let made = Directory::new();
    let source = opened(&made.0);
    let length = || {
        let bytes = fs::read(made.0.join("0.jnl")).unwrap();
        bytes.iter().rposition(|&it| it != 0).map_or(0, |at| at + 1)
    };
    append(&source, 1..=1);
    let second = length();
    append(&source, 2..=2);
    let third = length();
    append(&source, 3..=4);
    drop(source);
    let plain = Directory::new();
    copy(&made.0, &plain.0);
    let journal = fs::read(plain.0.join("0.jnl")).unwrap();
    (plain, journal, [second, third])
}

#[test]
fn a_list_of_tables_with_a_flipped_bit_is_refused_by_name() {
    let directory = Directory::new();
    drop(open(&directory.0, &mut |_| {}).unwrap());
    for name in ["current", "v0"] {
        let file = directory.0.join(TABLES_FOLDER).join("1").join(name);
        let content = fs::read(&file).unwrap();
        for at in 0..content.len() {
            let mut flipped = content.clone();
            flipped[at] ^= 1 << (at % 8);
            fs::write(&file, flipped).unwrap();
            let error = open(&directory.0, &mut |_| {}).unwrap_err().to_string();
            assert!(error.contains("is not what was written"), "{name} at {at}: {error}");
        }
        fs::write(&file, content).unwrap();
    }
    drop(open(&directory.0, &mut |_| {}).unwrap());
}

#[test]
fn what_was_acknowledged_is_there_after_reopening() {
    let directory = Directory::new();
    let first = opened(&directory.0.join("made/on/the/way"));
    append(&first, 1..=3);
    let (store, epoch) = (first.store, first_epoch(first.store, &stream()));
    drop(first);
    let again = opened(&directory.0.join("made/on/the/way"));
    assert_eq!((newest(&again), again.store, again.cut.is_none()), (3, store, true));
    append(&again, 4..=4);
    assert_eq!(first_epoch(again.store, &stream()), epoch);
    assert_eq!(newest(&again), 4);
    let used = again.database.disk_use().unwrap();
    assert!(used.journals == 1 && used.bytes < 16 << 20, "holes do not count: {used:?}");
    again.database.compact().unwrap();
    assert_eq!(newest(&again), 4);
    let purge = Ask::Purge { stream: stream(), to: PurgeTo::All };
    ledger(&again).answer([purge], UnixMillis(0));
    drop(again);
    assert_eq!(newest(&opened(&directory.0.join("made/on/the/way"))), 4);
}

#[test]
fn a_process_that_was_killed_left_all_it_acknowledged() {
    let (directory, killed) = (Directory::new(), Directory::new());
    let running = opened(&directory.0);
    for serial in 1..=20 {
        append(&running, serial..=serial);
    }
    // What lies on disk now is what a killed process leaves.
    copy(&directory.0, &killed.0);
    let again = opened(&killed.0);
    assert_eq!((newest(&again), again.cut.is_none()), (20, true));
}

#[test]
fn a_torn_tail_is_cut_wherever_it_is_torn() {
    let (plain, journal, [_, third]) = three_batches();
    let target = Directory::new();
    let mut torn = Vec::new();
    for cut in third + 1..journal.len() {
        torn.push((format!("cut at {cut}"), journal[..cut].to_vec()));
        let mut zeros = journal[..cut].to_vec();
        zeros.resize(journal.len() + 100, 0);
        torn.push((format!("zeros from {cut}"), zeros));
        let mut flipped = journal.clone();
        flipped[cut] ^= 0x55;
        // The sequence number is not under the checksum: the batch is as good with another one.
        if !(third + 5..third + 13).contains(&cut) {
            torn.push((format!("flipped at {cut}"), flipped));
        }
    }
    // The first page of the last batch is lost, and the rest is there.
    let mut holed = journal.clone();
    holed[third..third + 20].fill(0);
    torn.push(("holed".into(), holed));
    // Opening fsyncs often, so the real database sees every seventh case; the scan sees all.
    for (n, (what, bytes)) in torn.into_iter().enumerate() {
        let scan = journal::scan(&bytes);
        let is_whole = bytes == journal;
        assert_eq!((scan.batches > 2, scan.last.end), (true, third), "{what}");
        assert!(is_whole || scan.rest != journal::Rest::Nothing, "{what}");
        if n % 7 > 0 && what != "holed" {
            continue;
        }
        let _ = fs::remove_dir_all(&target.0);
        copy(&plain.0, &target.0);
        fs::write(target.0.join("0.jnl"), bytes).unwrap();
        let again = opened(&target.0);
        let cut = again.cut.as_ref().unwrap_or_else(|| panic!("{what}"));
        assert_eq!((newest(&again), cut.at), (2, third), "{what}");
        append(&again, 3..=3);
        drop(again);
        assert_eq!(newest(&opened(&target.0)), 3, "{what}");
    }
}

#[test]
fn a_byte_flipped_in_an_earlier_batch_is_refused_by_name() {
    let (plain, journal, [second, third]) = three_batches();
    for at in [second, second + 1, second + 13, second + 30, third - 10, third - 1, 0, 40] {
        let mut flipped = journal.clone();
        flipped[at] ^= 0x10;
        fs::write(plain.0.join("0.jnl"), &flipped).unwrap();
        let error = refused(&plain.0);
        assert!(error.contains("0.jnl is wrong") && error.contains("restore a backup"), "{error}");
        let begin = if at >= second { second } else { 0 };
        assert!(error.contains(&format!(" {begin} bytes from its beginning")), "{at}: {error}");
        assert_eq!(fs::read(plain.0.join("0.jnl")).unwrap(), flipped, "nothing is cut");
    }
}

#[test]
fn only_the_newest_journal_may_have_a_torn_tail() {
    let (plain, journal, [second, third]) = three_batches();
    fs::write(plain.0.join("0.jnl"), &journal[..third - 5]).unwrap();
    fs::write(plain.0.join("1.jnl"), &journal[third..]).unwrap();
    let error = refused(&plain.0);
    assert!(error.contains(&format!("0.jnl is wrong {second} bytes")), "{error}");
    // Where nothing was written after it, it is a tail.
    fs::write(plain.0.join("1.jnl"), [0; 64]).unwrap();
    assert_eq!(newest(&opened(&plain.0)), 1);
}

#[test]
fn two_cannot_have_it_open() {
    let directory = Directory::new();
    let first = opened(&directory.0);
    append(&first, 1..=1);
    assert!(refused(&directory.0).contains("is in use by another process"));
    append(&first, 2..=2);
    drop(first);
    assert_eq!(newest(&opened(&directory.0)), 2);
}

#[test]
fn what_is_no_directory_for_a_store_is_refused() {
    let directory = Directory::new();
    fs::create_dir_all(&directory.0).unwrap();
    let file = directory.0.join("file");
    fs::write(&file, "mine").unwrap();
    assert!(refused(&file).contains("is not a directory"));
    assert!(refused(&file.join("below")).contains("is not a directory"));
    assert!(refused(&directory.0).contains("has other files in it"));
    assert_eq!(fs::read_dir(&directory.0).unwrap().count(), 1, "it is left as it was");
    // Nobody, root neither, makes directories there.
    assert!(refused(Path::new("/proc/ringmain")).contains("cannot be written"));
}

#[test]
fn a_creation_that_broke_off_is_begun_again() {
    let directory = Directory::new();
    fs::create_dir_all(directory.0.join("keyspaces")).unwrap();
    fs::write(directory.0.join("0.jnl"), [0; 4096]).unwrap();
    fs::write(directory.0.join("lock"), "").unwrap();
    assert_eq!(newest(&opened(&directory.0)), 0);
}

#[test]
fn other_formats_and_newer_layouts_are_refused() {
    let directory = Directory::new();
    let first = opened(&directory.0);
    let mut batch = Batch::default();
    batch.put(Space::Meta, META_LAYOUT, (LAYOUT + 1).to_le_bytes().to_vec().into());
    first.database.commit(batch).unwrap();
    drop(first);
    assert!(refused(&directory.0).contains("has layout 2, written by a newer version"));
    fs::write(directory.0.join("version"), b"FJL\x04").unwrap();
    let journal = fs::read(directory.0.join("0.jnl")).unwrap();
    assert!(refused(&directory.0).contains("format this version does not know"));
    assert!(fs::read(directory.0.join("0.jnl")).unwrap() == journal, "its journal is not touched");
}

#[test]
fn a_database_with_content_and_no_layout_is_an_unfinished_copy() {
    let memory = Memory::default();
    let mut batch = Batch::default();
    batch.put(Space::State, *b"k", Bytes::from_static(b"v"));
    memory.commit(batch).unwrap();
    assert!(matches!(settle(&memory, 1), Err(Refusal::Unfinished)));
    let memory = Memory::default();
    assert_eq!(settle(&memory, 7).unwrap(), 7);
    assert_eq!(settle(&memory, 8).unwrap(), 7, "the id stays");
    assert_ne!(first_epoch(7, &stream()), Epoch(0));
}
