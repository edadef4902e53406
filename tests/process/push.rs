//! Push notifications of the real binary while it is killed, called off or told to wait: every device is reached, and
//! none twice that had been answered for.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::http::Tcp;
use crate::server::{APP, Directory, PATIENCE, Server};
use crate::sign;
use crate::webhooks::until;

const DEVICES: usize = 2_000;
/// Requests that the process has under way at once.
const CONCURRENCY: usize = 16;
/// How long the push service takes, so that there is a middle to be killed in.
const DELAY: Duration = Duration::from_millis(25);
/// An answer that came this long before a kill was on disk by then; [`DELAY`] and a group commit on a busy machine.
const SETTLED: Duration = Duration::from_millis(700);

/// A pair of keys for VAPID, and a browser's. Source: RFC 8291, section 5.
const VAPID: (&str, &str) = (
    "BP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A8",
    "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw",
);
const BROWSER: (&str, &str) = (
    "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
    "BTBZMqHH6r4Tts7J_aSIgg",
);

/// One message as the push service had it.
#[derive(Clone, Debug)]
pub struct Arrival {
    device: String,
    topic: String,
    at: Instant,
    /// When it was answered; none: the process was gone.
    answered: Option<Instant>,
}

/// A push service: it takes everything, and remembers.
pub struct Service {
    address: SocketAddr,
    arrivals: Arc<Mutex<Vec<Arrival>>>,
}

impl Service {
    pub fn start(delay: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let arrivals = Arc::<Mutex<Vec<Arrival>>>::default();
        let shared = Arc::clone(&arrivals);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let arrivals = Arc::clone(&shared);
                thread::spawn(move || serve(stream, delay, &arrivals));
            }
        });
        Self { address, arrivals }
    }

    fn arrivals(&self) -> Vec<Arrival> {
        self.arrivals.lock().expect("no thread panicked").clone()
    }

    /// What came for each device under a topic, in order.
    pub fn by_device(&self, topic: &str) -> BTreeMap<String, Vec<Arrival>> {
        let mut found: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for arrival in self.arrivals().into_iter().filter(|it| it.topic == topic) {
            found.entry(arrival.device.clone()).or_default().push(arrival);
        }
        found
    }

    pub fn count(&self, topic: &str) -> usize {
        self.by_device(topic).len()
    }
}

fn serve(mut stream: TcpStream, delay: Duration, arrivals: &Mutex<Vec<Arrival>>) {
    let _ = stream.set_nodelay(true);
    let (mut read, mut buffer) = (Vec::new(), [0; 8192]);
    loop {
        if let Some(at) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&read[..at]).into_owned();
            let field = |name: &str| {
                let mut lines = head.lines().filter_map(|line| line.split_once(": "));
                lines.find(|it| it.0.eq_ignore_ascii_case(name)).map(|it| it.1.to_owned())
            };
            let length: usize =
                field("content-length").and_then(|it| it.parse().ok()).expect("a length");
            if read.len() >= at + 4 + length {
                read.drain(..at + 4 + length);
                let device = head.split(' ').nth(1).expect("a target").to_owned();
                let topic = field("topic").unwrap_or_default();
                let arrival = Arrival { device, topic, at: Instant::now(), answered: None };
                let number = {
                    let mut arrivals = arrivals.lock().expect("no thread panicked");
                    arrivals.push(arrival);
                    arrivals.len() - 1
                };
                thread::sleep(delay);
                let answer = b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n";
                if stream.write_all(answer).is_err() {
                    return;
                }
                let mut arrivals = arrivals.lock().expect("no thread panicked");
                arrivals[number].answered = Some(Instant::now());
                continue;
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(n) => read.extend_from_slice(&buffer[..n]),
        }
    }
}

fn settings() -> String {
    format!(
        "[push]\nenabled = \"on\"\nallow_private = true\nconcurrency_max = {CONCURRENCY}\n\
         pending_max = 256\nencryption_key = \"a key of the tests, of more than 32 bytes\"\n\
         publishes_per_second_max = 100000\n[[history.channels]]\npattern = \"durable-*\"\nmode = \"durable\"\n"
    )
}

pub fn start(data: &Path) -> Server {
    Server::on_data(&settings(), data)
}

/// Ends it as nothing else would: when that was, at the earliest and at the latest.
fn kill(server: &mut Server) -> (Instant, Instant) {
    let from = Instant::now();
    server.signal("KILL");
    server.wait();
    (from, Instant::now())
}

/// One signed request.
fn call(server: &Server, method: &str, route: &str, body: &Value) -> (u16, Value) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let path = format!("/apps/{}/{route}", APP.0);
    let target = sign::target_of(APP, method, &path, &[], body.as_bytes());
    let mut tcp = server.connect();
    tcp.send(request(method, &target, &body).as_bytes());
    let answer = tcp.answer();
    (answer.status, serde_json::from_slice(&answer.body).unwrap_or_default())
}

fn request(method: &str, target: &str, body: &str) -> String {
    format!(
        "{method} {target} HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Requests one behind the other on a connection, all of them answered so.
fn call_all(server: &Server, route: &str, bodies: impl Iterator<Item = Value>, status: u16) {
    let bodies: Vec<_> = bodies.map(|it| it.to_string()).collect();
    let mut tcp = server.connect();
    for bodies in bodies.chunks(16) {
        for body in bodies {
            tcp.send(sign::post(APP, route, body.as_bytes()).as_bytes());
        }
        for body in bodies {
            let answer = tcp.answer();
            assert_eq!(answer.status, status, "{body}: {}", answer.text());
        }
    }
}

/// Devices of a push service that hear of a channel.
pub fn register(server: &Server, service: &Service, channel: &str, count: usize) {
    let id = |n: usize| format!("{channel}-{n}");
    let device = |n| {
        let endpoint = format!("http://{}/{channel}/{n}", service.address);
        json!({
            "id": id(n), "platform": "browser", "formFactor": "desktop",
            "push": { "recipient": {
                "transportType": "web", "endpoint": endpoint, "p256dh": BROWSER.0, "auth": BROWSER.1,
            }},
        })
    };
    call_all(server, "push/deviceRegistrations", (0..count).map(device), 201);
    let subscription = |n| json!({ "channel": channel, "deviceId": id(n) });
    call_all(server, "push/channelSubscriptions", (0..count).map(subscription), 201);
}

pub fn prepare(server: &Server) {
    let keys = json!({ "publicKey": VAPID.0, "privateKey": VAPID.1 });
    // Those that there are may still be read.
    until("credentials", || {
        let (status, told) = call(server, "POST", "push/credentials/webpush", &keys);
        assert!([201, 503].contains(&status), "{told}");
        status == 201
    });
}

/// A publish to a channel; its topic is its id.
pub fn publish(server: &Server, id: &str, channel: &str, more: &Value) {
    let mut body = json!({
        "publishId": id,
        "recipients": [{ "type": "channel", "channel": channel }],
        "payload": { "title": "t", "body": "b", "collapseKey": id },
    });
    let members = more.as_object().into_iter().flatten().map(|(k, v)| (k.clone(), v.clone()));
    body.as_object_mut().expect("it is one").extend(members);
    let (status, told) = call(server, "POST", "push/publish", &body);
    assert_eq!((status, &told["publishId"]), (202, &json!(id)), "{told}");
}

fn status(server: &Server, id: &str) -> Value {
    let (status, told) = call(server, "GET", &format!("push/publish/{id}/status"), &Value::Null);
    assert_eq!(status, 200, "{told}");
    told
}

pub fn until_state(server: &Server, id: &str, state: &str) -> Value {
    let mut told = Value::Null;
    until(state, || {
        told = status(server, id);
        told["state"] == state
    });
    told
}

/// How many devices are on record as reached.
fn reached(server: &Server, id: &str) -> usize {
    let mut reached = 0;
    let mut after = String::new();
    loop {
        let path = format!("/apps/{}/push/publish/{id}/outcomes", APP.0);
        let mut query = vec![("limit", "500")];
        if !after.is_empty() {
            query.push(("cursor", &after));
        }
        let target = sign::target_of(APP, "GET", &path, &query, b"");
        let mut tcp = server.connect();
        tcp.send(request("GET", &target, "").as_bytes());
        let answer = tcp.answer();
        assert_eq!(answer.status, 200, "{}", answer.text());
        let page: Value = serde_json::from_slice(&answer.body).expect("JSON");
        let items = page["items"].as_array().expect("items");
        reached += items.iter().filter(|it| it["outcome"] == "accepted").count();
        match page["next_cursor"].as_str() {
            Some(next) => after = next.to_owned(),
            None => return reached,
        }
    }
}

/// That nothing came twice but what was under way when the process was killed; how often that was.
fn check_twice(service: &Service, topic: &str, kills: &[(Instant, Instant)]) -> usize {
    let mut twice = 0;
    for (device, arrivals) in service.by_device(topic) {
        for two in arrivals.windows(2) {
            twice += 1;
            let is_excused = |kill: &(Instant, Instant)| {
                let is_between = two[0].at <= kill.1 && two[1].at >= kill.0;
                is_between && two[0].answered.is_none_or(|it| it + SETTLED >= kill.0)
            };
            assert!(kills.iter().any(is_excused), "{device} twice: {two:?}, killed {kills:?}");
        }
    }
    twice
}

#[test]
fn a_fan_out_that_is_killed_goes_on_where_it_was() {
    let (data, service) = (Directory::new(), Service::start(DELAY));
    let mut server = start(&data.0);
    prepare(&server);
    register(&server, &service, "news", DEVICES);
    publish(&server, "fanout", "news", &Value::Null);
    let mut kills = Vec::new();
    for part in [1, 2, 3] {
        until("a part of them", || service.count("fanout") >= DEVICES * part / 4);
        kills.push(kill(&mut server));
        server = start(&data.0);
    }
    let told = until_state(&server, "fanout", "succeeded");
    let (all, counters) = (json!(DEVICES), &told["counters"]);
    assert_eq!((&counters["planned"], &counters["succeeded"]), (&all, &all), "{told}");
    assert_eq!(service.count("fanout"), DEVICES, "every device got it");
    assert_eq!(reached(&server, "fanout"), DEVICES);
    let twice = check_twice(&service, "fanout", &kills);
    println!("{twice} of {DEVICES} came twice over {} kills", kills.len());
    assert!(twice < DEVICES / 4, "{twice} came twice");
    // It is over, and said again it is the same.
    publish(&server, "fanout", "news", &Value::Null);
    kills.push(kill(&mut server));
    let server = start(&data.0);
    assert_eq!(status(&server, "fanout")["state"], "succeeded");
    assert_eq!(check_twice(&service, "fanout", &kills), twice);
}

#[test]
fn what_is_called_off_half_way_stays_so() {
    let (data, service) = (Directory::new(), Service::start(DELAY));
    let mut server = start(&data.0);
    prepare(&server);
    register(&server, &service, "news", DEVICES / 2);
    register(&server, &service, "one", 1);
    publish(&server, "half", "news", &Value::Null);
    until("a part of them", || service.count("half") >= DEVICES / 8);
    let (code, told) = call(&server, "DELETE", "push/publish/half", &Value::Null);
    assert!(code == 200 || code == 204, "{code} {told}");
    let cancelled = Instant::now();
    assert_eq!(status(&server, "half")["state"], "cancelled");
    // Others go on, and what is under way is taken to its end.
    publish(&server, "after", "one", &Value::Null);
    until_state(&server, "after", "succeeded");
    let late = |service: &Service| {
        service.arrivals().iter().filter(|it| it.topic == "half" && it.at > cancelled).count()
    };
    assert!(late(&service) <= CONCURRENCY, "{}", late(&service));
    let kills = [kill(&mut server)];
    let before = service.count("half");
    let server = start(&data.0);
    assert_eq!(status(&server, "half")["state"], "cancelled");
    publish(&server, "again", "one", &Value::Null);
    until_state(&server, "again", "succeeded");
    assert_eq!(service.count("half"), before, "it goes on after it was called off");
    check_twice(&service, "half", &kills);
    assert!(before < DEVICES / 2);
}

fn wall_in(span: Duration) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    (now + span).as_millis() as u64
}

#[test]
fn what_is_for_later_outlives_the_process() {
    let (data, service) = (Directory::new(), Service::start(Duration::ZERO));
    let mut server = start(&data.0);
    prepare(&server);
    register(&server, &service, "news", 3);
    let begun = Instant::now();
    let span = Duration::from_secs(6);
    let due = json!({ "notBeforeMs": wall_in(span) });
    for id in ["later", "never", "not"] {
        publish(&server, id, "news", &due);
    }
    let (code, told) = call(&server, "DELETE", "push/scheduled/never", &Value::Null);
    assert_eq!(code, 204, "{told}");
    kill(&mut server);
    let mut server = start(&data.0);
    assert_eq!(status(&server, "later")["state"], "accepted");
    let (code, told) = call(&server, "DELETE", "push/publish/not", &Value::Null);
    assert!(code == 200 || code == 204, "{code} {told}");
    until_state(&server, "later", "succeeded");
    let arrivals = service.by_device("later");
    assert_eq!(arrivals.len(), 3);
    for (device, arrivals) in &arrivals {
        assert_eq!(arrivals.len(), 1, "{device}");
        assert!(arrivals[0].at >= begun + span - Duration::from_millis(50), "{device} is early");
    }
    // What is due while nobody is there is done when someone is.
    let due = wall_in(Duration::from_secs(1));
    publish(&server, "meanwhile", "news", &json!({ "notBeforeMs": due }));
    kill(&mut server);
    until("its time", || wall_in(Duration::ZERO) >= due);
    let server = start(&data.0);
    until_state(&server, "meanwhile", "succeeded");
    assert_eq!(service.by_device("meanwhile").values().flatten().count(), 3);
    for id in ["never", "not"] {
        assert_eq!(status(&server, id)["state"], "cancelled");
        assert_eq!(service.count(id), 0, "{id}");
    }
}

/// Publishes events with notifications, each again with its key until it is acknowledged.
struct Publisher {
    channel: &'static str,
    next: usize,
    /// By number: when it was acknowledged, and how often it was asked for.
    acknowledged: BTreeMap<usize, usize>,
    tries: usize,
}

impl Publisher {
    /// Asks for the next one, or again for the last; whether it was acknowledged, or none if nobody is there.
    fn step(&mut self, tcp: &mut Tcp) -> Option<bool> {
        let topic = format!("{}-{}", self.channel, self.next);
        let push = json!({ "title": "t", "body": "b", "collapseKey": topic });
        let body = json!({
            "name": "e", "channel": self.channel, "data": topic, "idempotency_key": topic,
            "extras": { "push": push },
        });
        self.tries += 1;
        tcp.send(sign::post(APP, "events", body.to_string().as_bytes()).as_bytes());
        let answer = tcp.try_answer()?;
        assert!([200, 503].contains(&answer.status), "{}", answer.text());
        let is_acknowledged = answer.status == 200;
        if is_acknowledged {
            self.acknowledged.insert(self.next, self.tries);
            (self.next, self.tries) = (self.next + 1, 0);
        }
        Some(is_acknowledged)
    }
}

/// Waits until that is so; false: it is not, after a long time.
fn comes(mut is_so: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + PATIENCE * 3;
    while !is_so() && Instant::now() < end {
        thread::sleep(Duration::from_millis(20));
    }
    is_so()
}

#[test]
fn a_notification_of_an_acknowledged_event_is_not_lost() {
    const CHANNELS: [&str; 2] = ["durable-a", "plain"];
    const EVENTS: usize = 120;
    let (data, service) = (Directory::new(), Service::start(Duration::from_millis(2)));
    let mut server = start(&data.0);
    prepare(&server);
    for channel in CHANNELS {
        register(&server, &service, channel, 1);
    }
    let mut publishers = CHANNELS.map(|channel| Publisher {
        channel,
        next: 0,
        acknowledged: BTreeMap::new(),
        tries: 0,
    });
    let mut kills = Vec::new();
    for round in 1..=4 {
        let address = server.address;
        let enough = EVENTS / 4 * round;
        // In the middle of what they do: each stops when the process is gone.
        thread::scope(|scope| {
            for publisher in &mut publishers {
                scope.spawn(move || {
                    let mut tcp = Tcp::connect(address);
                    while publisher.step(&mut tcp).is_some() {}
                });
            }
            let last = format!("plain-{}", enough - 1);
            let has_come = comes(|| service.count(&last) > 0);
            // They end with it, whatever came.
            kills.push(kill(&mut server));
            assert!(has_come, "{last} did not come");
        });
        server = start(&data.0);
    }
    for publisher in &mut publishers {
        let mut tcp = server.connect();
        until("the last", || publisher.step(&mut tcp) == Some(true));
        let channel = publisher.channel;
        for (number, tries) in &publisher.acknowledged {
            let topic = format!("{channel}-{number}");
            until(&topic, || service.count(&topic) == 1);
            let arrivals: Vec<_> = service.by_device(&topic).into_values().flatten().collect();
            // Once for what was asked once; or it was under way when the process was killed.
            if *tries == 1 {
                check_twice(&service, &topic, &kills);
            } else {
                assert!(arrivals.len() <= 2 * tries, "{topic}: {arrivals:?}");
            }
        }
        assert!(publisher.acknowledged.len() >= EVENTS / 4, "{channel}");
    }
}
