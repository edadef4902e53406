//! `ringmain store`: copies, checks and figures, while a server runs and while none does.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileExt, FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::http::Tcp;
use crate::keeping::{Bulk, SETTINGS, check_acknowledged, tool};
use crate::server::{Directory, PATIENCE, Server};

/// Acknowledged before a copy begins, at least.
const BEFORE: usize = 2_000;

#[test]
fn a_backup_beside_a_publisher_has_all_that_was_acknowledged_before_it() {
    let directory = Directory::new();
    let (data, copy) = (directory.0.join("data"), directory.0.join("copy"));
    let mut server = Server::on_data(SETTINGS, &data);
    let stop = Arc::new(AtomicBool::new(false));
    let acknowledged = Arc::new(Mutex::new(BTreeMap::new()));
    let publisher = {
        let (stop, acknowledged, address) =
            (Arc::clone(&stop), Arc::clone(&acknowledged), server.address);
        thread::spawn(move || {
            let (mut bulk, mut tcp) = (Bulk::new("durable-a", 200), Tcp::connect(address));
            while !stop.load(Ordering::Relaxed) {
                let answer = bulk.publish(&mut tcp, 20);
                assert_eq!(answer.status, 200, "{}", answer.text());
                acknowledged.lock().expect("nobody panics with it").clone_from(&bulk.acknowledged);
            }
            bulk
        })
    };
    let count = || acknowledged.lock().expect("nobody panics with it").len();
    let began = Instant::now();
    while count() < BEFORE {
        assert!(began.elapsed() < PATIENCE && !publisher.is_finished(), "{} events", count());
        thread::yield_now();
    }
    let before = acknowledged.lock().expect("nobody panics with it").clone();
    let to = copy.to_string_lossy().into_owned();
    let (code, said) = tool(&data, &["backup", "--to", &to]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("copied"), "{said}");
    // It is there now, and not made twice.
    let (code, said) = tool(&data, &["backup", "--to", &to]);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("not empty") && said.contains("--to"), "{said}");
    let (code, said) = tool(&data, &["check"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("faults 0"), "{said}");
    stop.store(true, Ordering::Relaxed);
    let bulk = publisher.join().expect("the publisher was never refused");
    assert!(bulk.acknowledged.len() > before.len(), "nothing was published meanwhile");

    let second = Server::on_data(SETTINGS, &copy);
    let copied = check_acknowledged(&second, "durable-a", &before);
    assert!(copied >= before.len());
    bulk.check(&server);
    println!("{} before, {copied} copied, {} in all", before.len(), bulk.acknowledged.len());

    // Running and stopped they say the same.
    let figures = |text: &str| {
        let lines = text.lines().filter(|line| !line.starts_with("on disk"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    for what in ["stats", "check"] {
        let (code, running) = tool(&data, &[what]);
        assert_eq!(code, Some(0), "{running}");
        assert!(running.contains(&format!("events {} of", bulk.acknowledged.len())), "{running}");
        if what == "check" {
            assert!(server.stop("TERM").success());
            assert!(fs::symlink_metadata(data.join("control.sock")).is_err());
        }
        let (code, again) = tool(&data, &[what]);
        assert_eq!((code, figures(&again)), (Some(0), figures(&running)));
    }
    let (code, said) = tool(&data, &["stats"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("durable-a"), "{said}");
    let again = directory.0.join("again");
    let (code, said) = tool(&data, &["backup", "--to", &again.to_string_lossy()]);
    assert_eq!(code, Some(0), "{said}");
    bulk.check(&Server::on_data(SETTINGS, &again));
}

#[test]
fn a_tool_says_what_it_was_not_given() {
    let directory = Directory::new();
    let (code, said) = tool(&directory.0.join("nowhere"), &["stats"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.lines().last().is_some_and(|line| line.contains("--data")), "{said}");
    assert!(!directory.0.join("nowhere").exists());
    let data = directory.0.join("data");
    let server = Server::on_data(SETTINGS, &data);
    // A copy within what is copied would be a part of it.
    let (code, said) = tool(&data, &["backup", "--to", &data.join("store/x").to_string_lossy()]);
    assert_eq!(code, Some(3), "{said}");
    assert!(!data.join("store/x").exists());
    let (code, said) = tool(&data, &["backup", "--to", "/proc/backup"]);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("/proc/backup"), "{said}");
    drop(server);
}

#[test]
fn the_socket_of_a_killed_server_is_replaced_and_only_its_user_may_use_it() {
    let directory = Directory::new();
    let (data, socket) = (directory.0.join("data"), directory.0.join("data/control.sock"));
    let mut killed = Server::on_data(SETTINGS, &data);
    killed.signal("KILL");
    killed.wait();
    assert!(fs::symlink_metadata(&socket).is_ok_and(|it| it.file_type().is_socket()));
    let (code, said) = tool(&data, &["stats"]);
    assert_eq!(code, Some(0), "{said}");
    let mut server = Server::on_data(SETTINGS, &data);
    let mode = fs::symlink_metadata(&socket).expect("it is there again").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let (code, said) = tool(&data, &["stats"]);
    assert_eq!(code, Some(0), "{said}");
    // Who connects and says nothing, too much, or something else, is in nobody's way for long.
    for nonsense in [&b""[..], &[b'x'; 100_000], b"dance\n", b"backup relative\n"] {
        use std::io::Write;
        let mut stream = std::os::unix::net::UnixStream::connect(&socket).expect("it listens");
        let _ = stream.write_all(nonsense);
    }
    let (code, said) = tool(&data, &["stats"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(server.stop("TERM").success());
}

#[test]
fn a_path_too_long_for_a_socket_means_to_stop_the_server_first() {
    let directory = Directory::new();
    let data = directory.0.join("d".repeat(120));
    let mut server = Server::on_data(SETTINGS, &data);
    server.listen_until(|line| line.contains("control_off") && line.contains("level=info"));
    let (code, said) = tool(&data, &["stats"]);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.lines().last().is_some_and(|line| line.contains("stop the server")), "{said}");
    assert!(server.stop("TERM").success());
    let (code, said) = tool(&data, &["stats"]);
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn nothing_durable_has_no_socket() {
    let directory = Directory::new();
    let server = Server::on_data("", &directory.0.join("data"));
    assert_eq!(server.fetch("/ready").status, 200);
    assert!(!directory.0.join("data").exists());
}

/// Table files below a folder, the largest first.
fn tables(data: &Path) -> Vec<(u64, PathBuf)> {
    let (mut folders, mut found) = (vec![data.join("store/keyspaces")], Vec::new());
    while let Some(folder) = folders.pop() {
        // What is merged meanwhile is gone.
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if folder.ends_with("tables") {
                found.push((entry.metadata().map_or(0, |it| it.len()), path));
            }
        }
    }
    found.sort_unstable_by(|a, b| b.cmp(a));
    found
}

#[test]
fn a_check_names_a_damaged_table_and_ends_with_1() {
    let directory = Directory::new();
    let data = directory.0.join("data");
    let mut server = Server::on_data(SETTINGS, &data);
    let mut bulk = Bulk::new("durable-a", 20_000);
    // More than stays in memory as one table.
    bulk.must_publish(&server, 12, 100);
    let began = Instant::now();
    while tables(&data).is_empty() {
        assert!(began.elapsed() < PATIENCE, "no table was written");
        thread::sleep(Duration::from_millis(20));
    }
    assert!(server.stop("TERM").success());
    let (code, said) = tool(&data, &["check"]);
    assert_eq!(code, Some(0), "{said}");
    let (bytes, table) = tables(&data).remove(0);
    let file = fs::File::options().read(true).write(true).open(&table).expect("a table");
    let mut block = [0; 64];
    file.read_exact_at(&mut block, bytes / 2).expect("it is long enough");
    block.iter_mut().for_each(|byte| *byte ^= 0x55);
    file.write_all_at(&block, bytes / 2).expect("it can be written");

    let (code, said) = tool(&data, &["check"]);
    assert_eq!(code, Some(1), "{said}");
    // The two pipes are read as they come.
    assert!(
        said.lines().any(|line| line.contains("change: ") && line.contains("backup")),
        "{said}"
    );
    let fault = said.lines().find(|line| line.starts_with("fault: "));
    assert!(fault.is_some_and(|it| it.contains("durable-a") && it.contains("checksum")), "{said}");
    println!("{said}");
    let (code, said) = tool(&data, &["backup", "--to", &directory.0.join("b").to_string_lossy()]);
    assert_eq!(code, Some(1), "{said}");
    println!("{said}");
    let mut server = Server::on_data(SETTINGS, &data);
    let (code, said) = tool(&data, &["check"]);
    assert_eq!(code, Some(1), "{said}");
    println!("{said}");
    // What is not damaged is served, what is damaged is refused by name, and nothing hangs.
    let newest = server.get("channels/durable-a/history", &[("limit", "1")]);
    assert_eq!(newest.status, 200, "{}", newest.text());
    let mut refused = Vec::new();
    for start in (1..1200).step_by(20) {
        let (start, end) = (start.to_string(), (start + 19).to_string());
        let query =
            [("direction", "oldest_first"), ("end_serial", &*end), ("start_serial", &*start)];
        let answer = server.get("channels/durable-a/history", &query);
        if answer.status != 200 {
            refused.push((answer.status, answer.text()));
        }
    }
    assert_eq!(refused.len(), 1, "{refused:?}");
    let (status, text) = &refused[0];
    assert!(*status == 503 && text.contains("cannot read this part"), "{refused:?}");
    server.listen_until(|line| line.contains("store_damaged") && line.contains("checksum"));
    bulk.must_publish(&server, 1, 10);
    assert_eq!(server.fetch("/ready").status, 200);
    assert!(server.stop("TERM").success());
}
