//! What is acknowledged as durable, while the process is killed at any moment.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::server::{APP, Directory, PATIENCE, Server};
use crate::sign;

const SETTINGS: &str = "[[history.channels]]\npattern = \"durable-*\"\nmode = \"durable\"\n";

/// Kills, unless `RINGMAIN_KILLS` says otherwise.
const KILLS: usize = 24;
/// Publishers of one round, two for each channel.
const PUBLISHERS: usize = 6;
/// How long a start may take that finds what this test leaves behind.
const START_MAX: Duration = Duration::from_secs(5);

/// One who publishes numbered events to one channel, each with its own idempotency key, one after the other. What was
/// not acknowledged it publishes again when the server is back.
struct Publisher {
    number: usize,
    channel: String,
    next: u64,
    /// The serial each event was acknowledged with.
    acknowledged: HashMap<u64, u64>,
}

impl Publisher {
    /// Publishes until the server is gone.
    fn run(&mut self, address: SocketAddr, stop: &AtomicBool) {
        let Ok(mut stream) = TcpStream::connect(address) else { return };
        let _ = stream.set_read_timeout(Some(PATIENCE));
        let _ = stream.set_nodelay(true);
        while !stop.load(Ordering::Relaxed) {
            let body = format!(
                r#"{{"name":"n","channel":"{}","data":"{}:{}","info":"subscription_count","idempotency_key":"{}-{}"}}"#,
                self.channel, self.number, self.next, self.number, self.next
            );
            if stream.write_all(sign::post(APP, "events", body.as_bytes()).as_bytes()).is_err() {
                return;
            }
            let Some((status, body)) = answer(&mut stream) else { return };
            assert_eq!(status, 200, "{body}");
            let body: Value = serde_json::from_str(&body).expect("an answer is JSON");
            let told = &body["channels"][&self.channel];
            assert_eq!(told["mode"], "durable", "{body}");
            let serial = told["history_serial"].as_u64().expect("the answer names the serial");
            self.acknowledged.insert(self.next, serial);
            self.next += 1;
        }
    }
}

/// The status and the body of the next answer; none when the server is gone.
fn answer(stream: &mut TcpStream) -> Option<(u16, String)> {
    let mut read = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        if let Some(at) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&read[..at]).to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length:"))?;
            let length: usize = length.trim().parse().ok()?;
            if read.len() >= at + 4 + length {
                let status = head.split(' ').nth(1)?.parse().ok()?;
                return Some((status, String::from_utf8_lossy(&read[at + 4..]).into_owned()));
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) => return None,
            Ok(n) => read.extend_from_slice(&buffer[..n]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("no answer in time"),
            Err(_) => return None,
        }
    }
}

/// A channel's whole history: its stream id, and each event's serial and data.
pub fn history(server: &Server, channel: &str) -> (String, Vec<(u64, String)>) {
    let route = format!("channels/{channel}/history");
    let (mut stream, mut events) = (String::new(), Vec::new());
    let mut cursor = String::new();
    loop {
        let mut query = vec![("direction", "oldest_first"), ("limit", "100")];
        if !cursor.is_empty() {
            query.push(("cursor", &cursor));
        }
        let answer = server.get(&route, &query);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let page: Value = serde_json::from_slice(&answer.body).expect("a page is JSON");
        for item in page["items"].as_array().expect("a page has items") {
            let serial = item["serial"].as_u64().expect("an item has its serial");
            let data = item["message"]["data"].as_str().expect("an item has its data");
            stream = item["stream_id"].as_str().expect("an item has its stream").to_owned();
            events.push((serial, data.to_owned()));
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => return (stream, events),
        }
    }
}

/// Everything acknowledged is there, once, where it was said to be; nothing is there twice, and what one
/// publisher published one after the other stands in that order.
fn check(
    server: &Server,
    publishers: &[Publisher],
    streams: &mut HashMap<String, String>,
) -> usize {
    let mut total = 0;
    let mut channels: Vec<_> = publishers.iter().map(|it| it.channel.clone()).collect();
    channels.dedup();
    for channel in channels {
        let (stream, events) = history(server, &channel);
        total += events.len();
        if events.is_empty() {
            assert!(
                publishers.iter().all(|it| it.channel != channel || it.acknowledged.is_empty())
            );
            continue;
        }
        assert_eq!(*streams.entry(channel.clone()).or_insert(stream.clone()), stream);
        let serials: Vec<_> = events.iter().map(|(serial, _)| *serial).collect();
        assert!(serials.iter().copied().eq(1..=events.len() as u64), "{channel}: {serials:?}");
        for publisher in publishers.iter().filter(|it| it.channel == channel) {
            let prefix = format!("{}:", publisher.number);
            let own: Vec<(u64, u64)> = events
                .iter()
                .filter_map(|(serial, data)| {
                    Some((data.strip_prefix(&prefix)?.parse().ok()?, *serial))
                })
                .collect();
            // In order, none missing, none twice; one more than acknowledged may be there.
            let numbers: Vec<_> = own.iter().map(|(n, _)| *n).collect();
            assert!(
                numbers.iter().copied().eq(0..own.len() as u64),
                "{channel} {prefix} {numbers:?}"
            );
            assert!(own.len() as u64 >= publisher.next, "{channel}: {prefix} lost an event");
            assert!(own.len() as u64 <= publisher.next + 1);
            for (n, serial) in own {
                let said = publisher.acknowledged.get(&n);
                assert!(said.is_none_or(|said| *said == serial), "{prefix}{n}: {said:?} {serial}");
            }
        }
    }
    total
}

#[test]
fn what_was_acknowledged_survives_being_killed() {
    let kills =
        std::env::var("RINGMAIN_KILLS").ok().and_then(|it| it.parse().ok()).unwrap_or(KILLS);
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos() as u64;
    println!("seed {seed}");
    let mut chance = ringmain::base::prng::Prng::new(seed);
    let directory = Directory::new();
    let data = directory.0.join("data");
    let mut streams = HashMap::new();
    let mut publishers: Vec<_> = (0..PUBLISHERS)
        .map(|number| Publisher {
            number,
            channel: format!("durable-{}", number / 2),
            next: 0,
            acknowledged: HashMap::new(),
        })
        .collect();
    for round in 0..=kills {
        let began = Instant::now();
        let mut server = Server::on_data(SETTINGS, &data);
        assert!(began.elapsed() < START_MAX, "start {round} took {:?}", began.elapsed());
        if round % 6 == 0 || round == kills {
            let total = check(&server, &publishers, &mut streams);
            println!("round {round}: {total} events");
            if round == kills {
                assert!(total > kills, "hardly anything was published");
                assert!(server.stop("TERM").success());
                return;
            }
        }
        let (address, stop) = (server.address, Arc::new(AtomicBool::new(false)));
        let running: Vec<_> = publishers
            .drain(..)
            .map(|mut publisher| {
                let stop = Arc::clone(&stop);
                thread::spawn(move || {
                    publisher.run(address, &stop);
                    publisher
                })
            })
            .collect();
        // The moment is the point of the test: anything from the first batch on.
        thread::sleep(Duration::from_micros(1_000 + chance.below(150_000)));
        server.signal("KILL");
        server.wait();
        stop.store(true, Ordering::Relaxed);
        publishers.extend(running.into_iter().map(|it| it.join().expect("a publisher")));
    }
}
