//! Webhooks of the real binary: a receiver that is gone, a process that is killed, dead letters and the commands
//! for them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::http::Tcp;
use crate::peer::handshake;
use crate::server::{Directory, PATIENCE, Server, ringmain, run};
use crate::sign::hmac;

const SECRET: &str = "hush";

/// One request as the receiver had it: its fields, and its body.
#[derive(Clone, Debug)]
pub struct Told {
    head: String,
    pub body: String,
}

impl Told {
    /// A field of its head; empty: there is none.
    pub fn field(&self, name: &str) -> &str {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|it| it.0.eq_ignore_ascii_case(name)).map(|it| it.1).unwrap_or_default()
    }

    /// That it is signed, as docs/webhooks.md says how to find out.
    fn verify(&self) {
        let (at, signature) =
            self.field("X-Ringmain-Signature").split_once(",v1=").expect("it is signed");
        let at = at.strip_prefix("t=").expect("it has a time");
        assert_eq!(signature, hmac(SECRET, &format!("{at}.{}", self.body)));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        assert!(now.abs_diff(at.parse().expect("a number")) < 60);
    }

    fn uid(&self) -> String {
        let body: Value = serde_json::from_str(&self.body).expect("JSON");
        body["data"]["uid"].as_str().unwrap_or_default().to_owned()
    }
}

/// A receiver: it answers with a status, or ends every connection where that is 0.
pub struct Receiver {
    pub address: SocketAddr,
    status: Arc<AtomicU16>,
    delay_ms: Arc<AtomicU64>,
    told: Arc<Mutex<Vec<Told>>>,
}

impl Receiver {
    /// Listens, and answers with this status.
    pub fn start(status: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let status = Arc::new(AtomicU16::new(status));
        let told = Arc::<Mutex<Vec<Told>>>::default();
        let delay_ms = Arc::<AtomicU64>::default();
        let shared = (Arc::clone(&status), Arc::clone(&delay_ms), Arc::clone(&told));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (status, delay_ms, told) = shared.clone();
                thread::spawn(move || serve(stream, &status, &delay_ms, &told));
            }
        });
        Self { address, status, delay_ms, told }
    }

    /// Takes so long from now on.
    pub fn delays(&self, delay: Duration) {
        self.delay_ms.store(delay.as_millis() as u64, Ordering::SeqCst);
    }

    /// Answers with another status from now on.
    pub fn answers(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    /// What it took so far.
    pub fn told(&self) -> Vec<Told> {
        self.told.lock().expect("no thread panicked").clone()
    }
}

fn serve(mut stream: TcpStream, status: &AtomicU16, delay_ms: &AtomicU64, told: &Mutex<Vec<Told>>) {
    let (mut read, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let code = status.load(Ordering::SeqCst);
        if code == 0 {
            return;
        }
        if let Some(at) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&read[..at]).into_owned();
            let told_now = Told { head, body: String::new() };
            let length: usize = told_now.field("Content-Length").parse().expect("a length");
            if read.len() >= at + 4 + length {
                let body = String::from_utf8_lossy(&read[at + 4..at + 4 + length]).into_owned();
                read.drain(..at + 4 + length);
                thread::sleep(Duration::from_millis(delay_ms.load(Ordering::SeqCst)));
                if code < 300 {
                    told.lock().expect("no thread panicked").push(Told { body, ..told_now });
                }
                let to = if (300..400).contains(&code) { "Location: /elsewhere\r\n" } else { "" };
                let answer = format!("HTTP/1.1 {code} So\r\n{to}Content-Length: 0\r\n\r\n");
                if stream.write_all(answer.as_bytes()).is_err() {
                    return;
                }
                continue;
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(n) => read.extend_from_slice(&buffer[..n]),
        }
    }
}

/// The development server on data that outlives it.
pub fn server(data: &Path, receivers: &str) -> Server {
    let directory = Directory::new();
    let file = directory.write("ringmain.toml", receivers);
    let mut command = ringmain();
    command.arg("serve").arg("--config").arg(file).args(["--listen", "127.0.0.1:0"]);
    command.arg("--data").arg(data);
    Server::spawn(command, directory)
}

fn receiver(name: &str, address: SocketAddr, more: &str) -> String {
    format!(
        "[[webhooks.receivers]]\nname = \"{name}\"\nurl = \"http://{address}/hook\"\nsecret = \"{SECRET}\"\nallow_private = true\n{more}\n"
    )
}

/// Someone who connects, which is an event; one more when they leave.
fn connect(server: &Server, uid: &str) -> Tcp {
    let exp = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() + 600;
    let claims = json!({"scope": "connect", "uid": uid, "exp": exp});
    let key = EncodingKey::from_secret(b"app-secret");
    let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key);
    let target = format!("/v1?token={}", token.expect("it can be signed"));
    let mut tcp = server.connect();
    tcp.send(handshake(&target).as_bytes());
    let head = tcp.head();
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    tcp
}

/// What `ringmain webhooks` says.
pub fn webhooks(data: &Path, words: &[&str]) -> (Option<i32>, String) {
    let mut command = ringmain();
    command.arg("webhooks").args(words).arg("--data").arg(data);
    run(command)
}

/// Asks until that is so.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE * 3;
    while !is_so() {
        assert!(Instant::now() < end, "{what} did not come");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn what_a_dead_receiver_missed_survives_a_kill() {
    let data = Directory::new();
    let (crm, audit) = (Receiver::start(0), Receiver::start(200));
    let settings = receiver("crm", crm.address, "types = [\"hotsock.connected\"]")
        + &receiver("audit", audit.address, "batch_max = 10");
    let mut first = server(&data.0, &settings);
    let peers: Vec<_> = (0..5).map(|n| connect(&first, &format!("u{n}"))).collect();
    until("five that wait", || webhooks(&data.0, &[]).1.contains("5 waiting"));
    // The other one has them meanwhile, in a list.
    let in_list = |it: &Told| {
        it.verify();
        let list: Value = serde_json::from_str(&it.body).expect("JSON");
        let list = list.as_array().expect("a list").clone();
        list.into_iter().map(|it| it["body"]["data"]["uid"].as_str().unwrap_or_default().to_owned())
    };
    until("five that are told", || audit.told().iter().flat_map(in_list).count() >= 5);
    first.signal("KILL");
    first.wait();
    drop(peers);

    crm.answers(204);
    let mut second = server(&data.0, &settings);
    until("all five", || crm.told().len() >= 5);
    let told = crm.told();
    told.iter().for_each(Told::verify);
    let uids: Vec<_> = told.iter().map(Told::uid).collect();
    assert_eq!(uids, ["u0", "u1", "u2", "u3", "u4"], "each once, in order");
    let mut ids: Vec<_> = told.iter().map(|it| it.field("X-Ringmain-Event-Id")).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 5);
    assert_eq!(told[0].field("Content-Type"), "application/json");
    assert_eq!(told[0].field("X-Hotsock-Type"), "hotsock.connected");
    until("nothing that waits", || webhooks(&data.0, &[]).1.matches("0 waiting").count() == 2);
    let metrics = second.fetch("/metrics").text();
    assert!(metrics.contains("ringmain_webhook_events_delivered_total"), "{metrics}");
    assert!(second.stop("TERM").success());
    let (code, said) = webhooks(&data.0, &[]);
    assert!(code == Some(1) && said.contains("start it first"), "{said}");
}

#[test]
fn a_refused_event_is_a_dead_letter_until_someone_retries_it() {
    let data = Directory::new();
    let crm = Receiver::start(422);
    let settings = receiver("crm", crm.address, "types = [\"*.connected\"]");
    let mut server = server(&data.0, &settings);
    let _peer = connect(&server, "ann");
    assert_eq!(webhooks(&data.0, &["dead"]), (Some(0), "no dead letters".into()));
    until("a dead letter", || webhooks(&data.0, &["dead"]).1.contains("refused"));
    server.listen_until(|line| line.contains("webhook_dead") && line.contains("status=422"));
    let (_, said) = webhooks(&data.0, &["dead", "--receiver", "crm"]);
    assert!(said.starts_with("1 crm hotsock.connected ") && said.contains("2 attempts"), "{said}");
    crm.answers(200);
    assert_eq!(webhooks(&data.0, &["retry", "1"]), (Some(0), "1 to be sent again".into()));
    until("the event", || crm.told().len() == 1);
    assert_eq!(
        (crm.told()[0].uid().as_str(), crm.told()[0].field("X-Ringmain-Attempt")),
        ("ann", "3")
    );
    until("none that is dead", || webhooks(&data.0, &["dead"]).1 == "no dead letters");
    let (code, said) = webhooks(&data.0, &["drop", "1"]);
    assert!(code == Some(1) && said.contains("no dead letter 1"), "{said}");
    let (code, said) = webhooks(&data.0, &["dead", "--receiver", "erp"]);
    assert!(code == Some(1) && said.contains("there are: crm"), "{said}");
    let (code, said) = webhooks(&data.0, &["retry", "everything"]);
    assert!(code == Some(2) && said.contains("or all"), "{said}");
}
