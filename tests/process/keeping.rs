//! Durable events published many at a time, and looked for again.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::durable::history;
use crate::http::{Answer, Tcp};
use crate::server::{APP, PATIENCE, Server, ringmain, run};
use crate::sign;

/// Channels of all three modes.
pub const SETTINGS: &str = "[[history.channels]]\npattern = \"durable-*\"\nmode = \"durable\"\n\
                            [[history.channels]]\npattern = \"memory-*\"\nmode = \"memory\"\n";

/// Between two looks at something that is to change.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Who publishes numbered events to one channel, and remembers which of them were acknowledged.
pub struct Bulk {
    pub channel: &'static str,
    next: u64,
    padding: String,
    /// The serial each event was acknowledged with.
    pub acknowledged: BTreeMap<u64, u64>,
}

impl Bulk {
    /// Events have so many bytes, about.
    pub fn new(channel: &'static str, bytes: usize) -> Self {
        Self { channel, next: 0, padding: "x".repeat(bytes), acknowledged: BTreeMap::new() }
    }

    /// Publishes the next `count` events in one request.
    pub fn publish(&mut self, tcp: &mut Tcp, count: u64) -> Answer {
        let numbers = self.next..self.next + count;
        self.next += count;
        let event = |n: u64| {
            let (channel, padding) = (self.channel, &self.padding);
            format!(r#"{{"name":"n","channel":"{channel}","data":"{n}:{padding}","info":""}}"#)
        };
        let events: Vec<_> = numbers.clone().map(event).collect();
        let body = format!(r#"{{"batch":[{}]}}"#, events.join(","));
        tcp.send(sign::post(APP, "batch_events", body.as_bytes()).as_bytes());
        let answer = tcp.answer();
        if answer.status == 200 {
            let told: Value = serde_json::from_slice(&answer.body).expect("an answer is JSON");
            let told = told["batch"].as_array().expect("one for each event");
            assert_eq!(told.len() as u64, count);
            for (n, told) in numbers.zip(told) {
                assert_eq!(told["mode"], "durable", "{told}");
                let serial = told["history_serial"].as_u64().expect("the answer names the serial");
                self.acknowledged.insert(n, serial);
            }
        }
        answer
    }

    /// The same, and it is acknowledged.
    pub fn must_publish(&mut self, server: &Server, requests: u64, count: u64) {
        let mut tcp = server.connect();
        for _ in 0..requests {
            let answer = self.publish(&mut tcp, count);
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
    }

    /// Publishes until it is refused; gives the refusal.
    pub fn publish_until_refused(&mut self, server: &Server, count: u64) -> Answer {
        let mut tcp = server.connect();
        loop {
            let answer = self.publish(&mut tcp, count);
            if answer.status != 200 {
                return answer;
            }
        }
    }

    /// Every acknowledged event is there, once, where it was said to be.
    pub fn check(&self, server: &Server) {
        check_acknowledged(server, self.channel, &self.acknowledged);
    }
}

/// Every one of these events (their number and serial) is there, once, in a history without holes. Gives how many
/// events there are.
pub fn check_acknowledged(
    server: &Server,
    channel: &str,
    acknowledged: &BTreeMap<u64, u64>,
) -> usize {
    let (_, events) = history(server, channel);
    let mut found = BTreeMap::new();
    for (at, (serial, data)) in (1..).zip(&events) {
        assert_eq!(*serial, at, "a hole in {channel}");
        let number = data.split(':').next().and_then(|n| n.parse::<u64>().ok());
        let number = number.expect("an event of ours begins with its number");
        assert_eq!(found.insert(number, *serial), None, "{channel}: {number} is there twice");
    }
    for (number, serial) in acknowledged {
        assert_eq!(found.get(number), Some(serial), "{channel}: {number} was acknowledged");
    }
    events.len()
}

/// A start that is refused: its exit code and its last line.
pub fn refused_start(settings: &str, data: &Path) -> (Option<i32>, String) {
    let (id, key, secret) = APP;
    let directory = crate::server::Directory::new();
    let app = format!("[[apps]]\nid = \"{id}\"\nkey = \"{key}\"\nsecret = \"{secret}\"\n");
    let file = directory.write("ringmain.toml", &format!("{settings}\n{app}"));
    let mut command = ringmain();
    command.arg("--config").arg(file).args(["--listen", "127.0.0.1:0", "--data"]).arg(data);
    let (code, said) = run(command);
    (code, said.lines().last().unwrap_or_default().to_owned())
}

/// `ringmain store` with these arguments on this data directory: its exit code and all it said.
pub fn tool(data: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command: Command = ringmain();
    command.arg("store").args(arguments).arg("--data").arg(data);
    run(command)
}

/// Waits until `/ready` says so.
pub fn wait_ready(server: &Server, status: u16, word: &str) -> Duration {
    wait_ready_within(server, status, word, PATIENCE)
}

/// The same, with more patience.
pub fn wait_ready_within(server: &Server, status: u16, word: &str, most: Duration) -> Duration {
    let began = Instant::now();
    loop {
        let answer = server.fetch("/ready");
        if answer.status == status && answer.text().trim_end() == word {
            return began.elapsed();
        }
        assert!(began.elapsed() < most, "/ready says {} {}", answer.status, answer.text());
        std::thread::sleep(LOOK_EVERY);
    }
}
