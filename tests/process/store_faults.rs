//! A store that cannot be opened, or not as it was left: refused by name, or served with all that was acknowledged.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ringmain::store::database::{Batch, Database};
use ringmain::store::fjall::Fjall;
use ringmain::store::format::{META_LAYOUT, Space};
use ringmain::store::journal;
use serde_json::Value;

use crate::keeping::{Bulk, SETTINGS, refused_start, tool};
use crate::server::{Directory, Server};

/// Events of a large store, and how long a start on it may take.
const LARGE_EVENTS: u64 = 300_000;
const LARGE_START_MAX: Duration = Duration::from_secs(10);

#[test]
fn a_directory_that_cannot_be_is_the_machines_refusal() {
    let directory = Directory::new();
    let file = directory.write("file", "something else");
    let full = directory.0.join("full");
    fs::create_dir_all(full.join("store")).expect("it can be made");
    fs::write(full.join("store/letter.txt"), "dear").expect("it can be written");
    let blocked = directory.0.join("blocked");
    fs::create_dir_all(&blocked).expect("it can be made");
    fs::write(blocked.join("store"), "a file in its place").expect("it can be written");
    let cases: [(&str, PathBuf, &str); 5] = [
        ("a file in its place", file.clone(), "--data"),
        ("a file on the way to it", file.join("data"), "--data"),
        ("not creatable", "/proc/ringmain-data".into(), "--data"),
        ("a file in the store's place", blocked, "is not a directory"),
        ("something else in it", full.clone(), "other files"),
    ];
    for (name, data, fix) in cases {
        let (code, last) = refused_start(SETTINGS, &data);
        assert_eq!(code, Some(3), "{name}: {last}");
        assert!(last.contains(&*data.to_string_lossy()) && last.contains(fix), "{name}: {last}");
    }
    assert!(full.join("store/letter.txt").exists());
    assert_eq!(fs::read_dir(full.join("store")).expect("it is there").count(), 1);
    // Without anything durable nobody needs it.
    let server = Server::on_data("", &file);
    assert_eq!(server.fetch("/ready").status, 200);
}

#[test]
fn a_directory_in_use_is_the_machines_refusal() {
    let directory = Directory::new();
    let data = directory.0.join("data");
    let server = Server::on_data(SETTINGS, &data);
    let mut bulk = Bulk::new("durable-a", 10);
    bulk.must_publish(&server, 1, 5);
    let (code, last) = refused_start(SETTINGS, &data);
    assert_eq!(code, Some(3), "{last}");
    assert!(last.contains("in use by another process") && last.contains("data"), "{last}");
    // The first one noticed nothing.
    bulk.must_publish(&server, 1, 5);
    bulk.check(&server);
    let (code, said) = tool(&data, &["stats"]);
    assert_eq!(code, Some(0), "{said}");
}

/// The newest journal with something in it, and its bytes.
fn newest_journal(data: &Path) -> (PathBuf, Vec<u8>) {
    let journals = journal::journals(&data.join("store")).expect("the store is there");
    let mut read = journals.into_iter().rev().map(|(path, _)| {
        let bytes = fs::read(&path).expect("a journal can be read");
        (path, bytes)
    });
    read.find(|(_, bytes)| journal::scan(bytes).batches > 0).expect("something was written")
}

/// A server that was killed after it acknowledged these.
fn killed(data: &Path) -> Bulk {
    let mut server = Server::on_data(SETTINGS, data);
    let mut bulk = Bulk::new("durable-a", 50);
    bulk.must_publish(&server, 30, 10);
    server.signal("KILL");
    server.wait();
    bulk
}

#[test]
fn damage_in_the_middle_of_a_journal_is_refused_with_file_and_offset() {
    let directory = Directory::new();
    let data = directory.0.join("data");
    let bulk = killed(&data);
    let (path, bytes) = newest_journal(&data);
    let end = journal::scan(&bytes).last.end;
    let file = fs::File::options().write(true).open(&path).expect("it can be written");
    let at = end / 2;
    let flipped: Vec<u8> = bytes[at..at + 8].iter().map(|byte| byte ^ 0x55).collect();
    file.write_all_at(&flipped, at as u64).expect("it can be written");
    let (code, last) = refused_start(SETTINGS, &data);
    assert_eq!(code, Some(3), "{last}");
    let name = path.file_name().expect("a journal has a name").to_string_lossy().into_owned();
    assert!(last.contains(&name) && last.contains("restore a backup"), "{last}");
    let named = last.split(" is wrong ").nth(1).and_then(|it| it.split(' ').next()?.parse().ok());
    let named: usize = named.unwrap_or_else(|| panic!("no offset: {last}"));
    assert!(named <= at && at - named < 20_000, "{named} for {at}: {last}");
    let (code, said) = tool(&data, &["check"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&name), "{said}");
    // It was looked at only: with the bytes put right all is as it was.
    file.write_all_at(&bytes[at..at + 8], at as u64).expect("it can be written");
    bulk.check(&Server::on_data(SETTINGS, &data));
}

#[test]
fn a_torn_tail_is_cut_off_and_told() {
    let directory = Directory::new();
    let data = directory.0.join("data");
    let bulk = killed(&data);
    let (path, bytes) = newest_journal(&data);
    let last = journal::scan(&bytes).last;
    // A batch that was on its way when the power went: its beginning only. Nobody was told of it.
    let torn = &bytes[last.start..last.start + (last.end - last.start) * 2 / 3];
    let file = fs::File::options().write(true).open(&path).expect("it can be written");
    file.write_all_at(torn, last.end as u64).expect("it can be written");
    let mut server = Server::on_data(SETTINGS, &data);
    server.listen_until(|line| line.contains("store_cut") && line.contains("level=warn"));
    let line = server.said.iter().find(|line| line.contains("store_cut")).expect("just heard");
    assert!(line.contains(&format!("at {}", last.end)), "{line}");
    bulk.check(&server);
    assert!(server.stop("TERM").success());
    bulk.check(&Server::on_data(SETTINGS, &data));
}

#[test]
fn a_last_batch_cut_short_takes_only_itself_along() {
    let directory = Directory::new();
    let data = directory.0.join("data");
    let mut bulk = killed(&data);
    let (path, bytes) = newest_journal(&data);
    let last = journal::scan(&bytes).last;
    let file = fs::File::options().write(true).open(&path).expect("it can be written");
    file.set_len(last.end as u64 - 3).expect("it can be cut");
    let mut server = Server::on_data(SETTINGS, &data);
    server.listen_until(|line| line.contains("store_cut"));
    // The cut was by hand: these were acknowledged, in one batch, as all events of a request that came alone.
    let newest = bulk.acknowledged.len() as u64 - 10;
    bulk.acknowledged.retain(|number, _| *number < newest);
    bulk.check(&server);
}

#[test]
fn a_layout_of_the_future_is_refused() {
    let directory = Directory::new();
    let data = directory.0.join("data");
    drop(killed(&data));
    let database = Fjall::open(&data.join("store")).expect("nobody has it");
    let mut batch = Batch::default();
    batch.put(Space::Meta, META_LAYOUT, 99_u32.to_le_bytes().to_vec().into());
    database.commit(batch).expect("it can be written");
    drop(database);
    let (code, last) = refused_start(SETTINGS, &data);
    assert_eq!(code, Some(3), "{last}");
    assert!(last.contains("layout 99") && last.contains("newer version"), "{last}");
    let (code, said) = tool(&data, &["stats"]);
    assert_eq!(code, Some(3), "{said}");
    fs::write(data.join("store/version"), "FJL\u{7f}").expect("it can be written");
    let (code, last) = refused_start(SETTINGS, &data);
    assert_eq!(code, Some(3), "{last}");
    assert!(last.contains("database format"), "{last}");
}

#[test]
fn a_large_store_starts_in_time_after_a_kill() {
    let directory = Directory::new();
    let data = directory.0.join("data");
    let mut server = Server::on_data(SETTINGS, &data);
    let mut bulk = Bulk::new("durable-a", 100);
    let began = Instant::now();
    bulk.must_publish(&server, LARGE_EVENTS / 100, 100);
    let written = began.elapsed();
    server.signal("KILL");
    server.wait();
    let began = Instant::now();
    let server = Server::on_data(SETTINGS, &data);
    let started = began.elapsed();
    let answer = server.get("channels/durable-a/history", &[("limit", "100")]);
    let served = began.elapsed();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let page: Value = serde_json::from_slice(&answer.body).expect("a page is JSON");
    let serials = page["items"].as_array().expect("a page has items").iter();
    let serials: Vec<_> = serials.filter_map(|item| item["serial"].as_u64()).collect();
    let newest = (LARGE_EVENTS - 99..=LARGE_EVENTS).rev();
    assert!(serials.iter().copied().eq(newest), "{serials:?}");
    println!("{LARGE_EVENTS} events in {written:?}, start {started:?}, first page {served:?}");
    assert!(served < LARGE_START_MAX, "{served:?}");
}
