//! A disk at its bound and a disk that is really full: refused by name, all else goes on, and nothing
//! acknowledged is lost.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::http::{Answer, Tcp};
use crate::keeping::{Bulk, SETTINGS, refused_start, tool, wait_ready, wait_ready_within};
use crate::server::{APP, Directory, PATIENCE, Server};
use crate::sign;

/// The smallest bound there is.
const BOUND: u64 = 128 << 20;
/// A file system for a test.
const SMALL_DISK: &str = "96m";
/// Kept away from the store, and given to it later.
const BALLAST: usize = 40 << 20;
/// How long the disk stays full.
const FULL_FOR: Duration = Duration::from_secs(4);
/// How long room may take to come back: a compaction may have to wait for its turn.
const ROOM_MAX: Duration = Duration::from_secs(90);

/// A channel that keeps few events, and how many.
const SETTINGS_OF_FEW: &str =
    "[[history.channels]]\npattern = \"durable-*\"\nmode = \"durable\"\nevents_max = ";
const EVENTS_MAX: u64 = 200;

/// Refused because the disk is at its bound, and the settings are named.
fn assert_full(answer: &Answer) {
    let text = answer.text();
    assert_eq!(answer.status, 503, "{text}");
    assert!(text.contains("store.bytes_max") && text.contains("store.free_bytes_min"), "{text}");
    assert!(answer.header("retry-after").is_some(), "{}", answer.head);
}

/// What is not durable goes on, and so does reading; the probes tell.
fn assert_degraded(server: &Server, bulk: &Bulk) {
    let ready = server.fetch("/ready");
    assert_eq!((ready.status, ready.text().trim_end()), (503, "STORE_FULL"));
    let up = server.fetch("/up");
    assert_eq!((up.status, up.text().trim_end()), (200, "DEGRADED"));
    for channel in ["memory-a", "plain"] {
        let answer = server.publish(channel, "n", "x");
        assert_eq!(answer.status, 200, "{channel}: {}", answer.text());
    }
    assert_full(&server.publish(bulk.channel, "n", "x"));
    bulk.check(server);
}

#[test]
fn too_little_free_space_refuses_what_is_durable_and_nothing_else() {
    let directory = Directory::new();
    let data = directory.0.join("data");
    let mut bulk = Bulk::new("durable-a", 100);
    let mut server = Server::on_data(SETTINGS, &data);
    bulk.must_publish(&server, 5, 20);
    assert!(server.stop("TERM").success());
    let mut server =
        Server::on_data(&format!("store.free_bytes_min = 562949953421312\n{SETTINGS}"), &data);
    server.listen_until(|line| line.contains("store_full") && line.contains("level=error"));
    wait_ready(&server, 503, "STORE_FULL");
    assert_degraded(&server, &bulk);
    let (code, said) = tool(&data, &["check"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(server.stop("TERM").success());
    let server = Server::on_data(SETTINGS, &data);
    wait_ready(&server, 200, "OK");
    bulk.must_publish(&server, 5, 20);
    bulk.check(&server);
}

#[test]
fn the_stores_own_bound_under_load() {
    let directory = Directory::new();
    let data = directory.0.join("data");
    let bounded = format!("store.bytes_max = {BOUND}\nstore.free_bytes_min = 0\n{SETTINGS}");
    let mut bulk = Bulk::new("durable-a", 20_000);
    let mut server = Server::on_data(&bounded, &data);
    let began = Instant::now();
    let refused = bulk.publish_until_refused(&server, 50);
    assert_full(&refused);
    println!("full after {:?} and {} events", began.elapsed(), bulk.acknowledged.len());
    wait_ready(&server, 503, "STORE_FULL");
    let ready = server.fetch("/ready");
    assert_eq!(ready.text().trim_end(), "STORE_FULL");
    assert!(bulk.acknowledged.len() as u64 * 20_000 > BOUND / 4, "{}", bulk.acknowledged.len());
    bulk.check(&server);
    for channel in ["memory-a", "plain"] {
        assert_eq!(server.publish(channel, "n", "x").status, 200, "{channel}");
    }
    server.signal("KILL");
    server.wait();

    // Another bound.
    let mut server = Server::on_data(SETTINGS, &data);
    wait_ready(&server, 200, "OK");
    bulk.must_publish(&server, 100, 50);
    bulk.check(&server);
    assert!(server.stop("TERM").success());

    // The old bound, which is passed now; then room is made.
    let mut server = Server::on_data(&bounded, &data);
    wait_ready(&server, 503, "STORE_FULL");
    assert_full(&server.publish("durable-a", "n", "x"));
    let newest = *bulk.acknowledged.values().max().expect("some were acknowledged");
    let keep = newest - 9;
    let body = format!(
        r#"{{"confirm_channel":"durable-a","confirm_operation":"purge","reason":"test","mode":"before_serial","before_serial":{keep}}}"#
    );
    let purged = server.post("channels/durable-a/history/purge", &body);
    assert_eq!(purged.status, 200, "{}", purged.text());
    let took = wait_ready_within(&server, 200, "OK", ROOM_MAX);
    println!("room again {took:?} after the purge");
    server.listen_until(|line| line.contains("store_recovered"));
    let answer = server.publish("durable-a", "n", "1000000:x");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let page = server.get("channels/durable-a/history", &[("direction", "oldest_first")]);
    let page: Value = serde_json::from_slice(&page.body).expect("a page is JSON");
    assert_eq!(page["items"][0]["serial"].as_u64(), Some(keep), "{page}");
}

/// A file system of its own, gone with its value.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// None: mounting is not allowed here.
    fn mount(at: &Path) -> Option<Self> {
        fs::create_dir_all(at).expect("it can be made");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={SMALL_DISK}"), "ringmain-test"]).arg(at);
        mount.stderr(std::process::Stdio::null());
        mount.status().is_ok_and(|it| it.success()).then(|| Self(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_disk_that_is_really_full() {
    let directory = Directory::new();
    let Some(disk) = SmallDisk::mount(&directory.0.join("disk")) else {
        println!("skipped: no tmpfs can be mounted here");
        return;
    };
    let ballast = disk.0.join("ballast");
    fs::write(&ballast, vec![1; BALLAST]).expect("there is room");
    let data = disk.0.join("data");
    let settings = format!("store.free_bytes_min = 0\n{SETTINGS}");
    let mut server = Server::on_data(&settings, &data);
    let mut bulk = Bulk::new("durable-a", 20_000);
    let refused = bulk.publish_until_refused(&server, 20);
    println!("{} events, then {}", bulk.acknowledged.len(), refused.text());
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.text().contains("store"), "{}", refused.text());
    assert!(bulk.acknowledged.len() > 500, "{}", bulk.acknowledged.len());
    server.listen_until(|line| line.contains("store_failed") && line.contains("bytes are free"));
    // For a while it is tried again and again, and refused again and again; nothing else suffers.
    let (began, mut crumbs) = (Instant::now(), 0);
    let mut tcp = server.connect();
    let (mut statuses, mut ready) = (BTreeMap::new(), BTreeMap::new());
    while began.elapsed() < FULL_FOR {
        let answer = bulk.publish(&mut tcp, 20);
        *statuses.entry(answer.status).or_insert(0) += 1;
        assert!(matches!(answer.status, 200 | 503), "{}", answer.text());
        assert_eq!(answer.header("retry-after").is_some(), answer.status == 503);
        for channel in ["memory-a", "plain"] {
            assert_eq!(server.publish(channel, "n", "x").status, 200, "{channel}");
        }
        assert_eq!(server.fetch("/up").status, 200);
        *ready.entry(server.fetch("/ready").text()).or_insert(0) += 1;
    }
    println!("{statuses:?}; {ready:?}");
    // There is room for nothing new, and that is no damage.
    while fs::write(disk.0.join("crumb"), vec![1; 4096]).is_ok()
        && fs::rename(disk.0.join("crumb"), disk.0.join(format!("crumb-{crumbs}"))).is_ok()
    {
        crumbs += 1;
    }
    let (code, last) = refused_start(&settings, &disk.0.join("another"));
    assert_eq!(code, Some(3), "{last}");
    assert!(last.contains("another") && last.contains("make room on its disk"), "{last}");
    assert!(ready.keys().any(|word| word.contains("STORE_F")), "{ready:?}");
    fs::remove_file(&ballast).expect("it is there");
    let took = wait_ready_within(&server, 200, "OK", ROOM_MAX);
    println!("ready {took:?} after the ballast was gone");
    // A channel looks again a second after it found the store failed.
    let (began, mut taken) = (Instant::now(), 0);
    while taken < 5 {
        let answer = bulk.publish(&mut tcp, 20);
        taken = if answer.status == 200 { taken + 1 } else { 0 };
        assert!(began.elapsed() < PATIENCE, "{} {}", answer.status, answer.text());
    }
    bulk.check(&server);
    server.signal("KILL");
    server.wait();
    let server = Server::on_data(&settings, &data);
    bulk.check(&server);
    drop(server);
}

/// One page of a history, the oldest first: the serials, the cursor to the next, and whether it says that retention cut
/// something off.
fn page(tcp: &mut Tcp, cursor: Option<&str>) -> Result<(Vec<u64>, Option<String>, bool), Answer> {
    let mut query = vec![("direction", "oldest_first"), ("limit", "20")];
    query.extend(cursor.map(|it| ("cursor", it)));
    tcp.send(sign::get(APP, "channels/durable-a/history", &query).as_bytes());
    let answer = tcp.answer();
    if answer.status != 200 {
        return Err(answer);
    }
    let page: Value = serde_json::from_slice(&answer.body).expect("a page is JSON");
    let items = page["items"].as_array().expect("a page has items").iter();
    let serials = items.map(|item| item["serial"].as_u64().expect("an item has its serial"));
    let is_cut = page["continuity"]["truncated_by_retention"] == true;
    Ok((serials.collect(), page["next_cursor"].as_str().map(str::to_owned), is_cut))
}

#[test]
fn retention_beside_readers_leaves_no_hole_within_a_page() {
    let directory = Directory::new();
    let settings = format!("{SETTINGS_OF_FEW}{EVENTS_MAX}\n");
    let server = Server::on_data(&settings, &directory.0.join("data"));
    let mut bulk = Bulk::new("durable-a", 100);
    bulk.must_publish(&server, 1, 100);
    let stop = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (stop, address) = (Arc::clone(&stop), server.address);
            thread::spawn(move || {
                let mut tcp = Tcp::connect(address);
                let (mut pages, mut skips, mut walks) = (0, 0, 0);
                while !stop.load(Ordering::Relaxed) {
                    let (mut cursor, mut last): (Option<String>, u64) = (None, 0);
                    walks += 1;
                    loop {
                        let (serials, next, is_cut) = match page(&mut tcp, cursor.as_deref()) {
                            Ok(read) => read,
                            Err(answer) => {
                                // An old cursor may be refused, by name.
                                assert_eq!(answer.status, 400, "{}", answer.text());
                                break;
                            }
                        };
                        pages += 1;
                        let from = serials.first().copied().unwrap_or(last + 1);
                        assert!(
                            serials.iter().copied().eq(from..from + serials.len() as u64),
                            "{serials:?}"
                        );
                        assert!(from > last, "{from} after {last}");
                        let is_skip = last > 0 && from > last + 1;
                        assert!(!is_skip || is_cut, "a silent hole before {from}");
                        skips += u64::from(is_skip);
                        last = serials.last().copied().unwrap_or(last);
                        match next {
                            Some(next) => cursor = Some(next),
                            None => break,
                        }
                    }
                }
                (pages, skips, walks)
            })
        })
        .collect();
    let began = Instant::now();
    let mut tcp = server.connect();
    let mut events = 0;
    while began.elapsed() < Duration::from_secs(8) {
        let answer = bulk.publish(&mut tcp, 50);
        assert_eq!(answer.status, 200, "{}", answer.text());
        events += 50;
    }
    stop.store(true, Ordering::Relaxed);
    for reader in readers {
        let (pages, skips, walks) = reader.join().expect("a reader was never refused");
        println!("{pages} pages in {walks} walks, {skips} times retention was faster");
        assert!(pages > walks && walks > 0);
    }
    let answer = server.get("channels/durable-a/history", &[("limit", "1")]);
    let newest: Value = serde_json::from_slice(&answer.body).expect("a page is JSON");
    assert_eq!(newest["items"][0]["serial"].as_u64(), Some(events + 100), "{newest}");
    // The bound holds from the next round of the sweep on.
    let began = Instant::now();
    let kept = |server: &Server| {
        let answer = server.get("channels/durable-a/history", &[("limit", "1")]);
        let page: Value = serde_json::from_slice(&answer.body).expect("a page is JSON");
        page["continuity"]["retained_messages"].as_u64()
    };
    let at_first = kept(&server);
    while kept(&server) != Some(EVENTS_MAX) {
        assert!(began.elapsed() < PATIENCE * 2, "{:?} are kept", kept(&server));
        thread::sleep(Duration::from_millis(50));
    }
    println!(
        "{events} events, {at_first:?} kept at first, {EVENTS_MAX} after {:?}",
        began.elapsed()
    );
}
