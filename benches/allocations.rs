//! Counts what the shards allocate while a million tiny publishes go to 10,000 channels: per publish, and
//! per recipient. Run: `cargo bench --bench allocations` (`-- 100000` for fewer publishes).
//!
//! The real server on its real driver, the client on plain sockets in the same process; only the shard's thread is
//! counted. The figure per recipient is the difference between five subscribers of every channel and
//! one, divided by four: anything that grows with recipients shows there.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use ringmain::auth::{App, Apps, sign};
use ringmain::base::time::UnixMillis;
use ringmain::broker::Event;
use ringmain::config::Config;
use ringmain::dialects::{self, Dialect, Facts, Farewell, LaneKind, Opening, Request};
use ringmain::observe::{CloseReason, Counter, Metrics};
use ringmain::wire::websocket::Opcode;
use ringmain::wire::websocket::encode::{Compression, masked_frame};

const CHANNELS: usize = 10_000;
const CHANNELS_PER_CONNECTION: usize = 100;
const BATCH: usize = 100;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static IS_SHARD: Cell<bool> = const { Cell::new(false) };
}

// SAFETY: every call is passed on unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if IS_SHARD.try_with(Cell::get).unwrap_or(false) {
            ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: the caller's contract is the same as ours.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Marks the thread that it runs on as a shard's.
struct Marking(Arc<dyn Dialect>);

impl Dialect for Marking {
    fn name(&self) -> &'static str {
        self.0.name()
    }
    fn lanes(&self) -> &'static [LaneKind] {
        self.0.lanes()
    }
    fn open(&self, request: &Request<'_>, facts: &Facts) -> Option<Opening> {
        IS_SHARD.set(true);
        self.0.open(request, facts)
    }
    fn render(&self, lane: usize, event: &Event, out: &mut Vec<u8>) -> bool {
        self.0.render(lane, event, out)
    }
    fn farewell(&self, reason: CloseReason) -> Farewell {
        self.0.farewell(reason)
    }
}

/// Lets the server's banner tell the address.
struct Banner(std::sync::mpsc::Sender<SocketAddr>, Vec<u8>);

impl Write for Banner {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.1.extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        let text = String::from_utf8_lossy(&self.1);
        let address = text.split("http://").nth(1).and_then(|rest| rest.split(' ').next());
        let address =
            address.and_then(|address| address.parse().ok()).expect("the banner says where");
        self.0.send(address).map_err(std::io::Error::other)
    }
}

fn main() {
    let publishes = std::env::args().filter_map(|it| it.parse().ok()).next().unwrap_or(1_000_000);
    let mut config = Config::development();
    config.listen = vec!["127.0.0.1:0".parse().expect("an address")];
    config.shards = 1;
    config.apps[0].subscription_counts = false;
    config.apps[0].event_batch_max = BATCH;
    config.limits.connections_max = 10_000;
    let app = Arc::clone(Apps::new(&config.apps).with_key("app-key").expect("the development app"));
    let (sender, receiver) = std::sync::mpsc::channel();
    let (metrics_sender, metrics_receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let make = |config: &Config, metrics: Arc<Metrics>| -> Vec<Arc<dyn Dialect>> {
            metrics_sender.send(Arc::clone(&metrics)).expect("main waits for it");
            let marked = |it| Arc::new(Marking(it)) as Arc<dyn Dialect>;
            dialects::all(config, metrics).into_iter().map(marked).collect()
        };
        let ran = ringmain::server::run_with(
            config,
            &dialects::NAMES,
            make,
            &mut Banner(sender, Vec::new()),
        );
        ran.expect("it runs until the process ends");
    });
    let metrics = metrics_receiver.recv().expect("the server starts");
    let address = receiver.recv().expect("the server starts");

    let mut rows = Vec::new();
    for subscribers in [1, 4] {
        // The first round's subscribers stay: 1, then 1 + 4 = 5 a channel.
        for _ in 0..subscribers {
            (0..CHANNELS / CHANNELS_PER_CONNECTION).for_each(|group| subscribe(address, group));
        }
        let per_channel = if rows.is_empty() { 1 } else { 5 };
        publish(address, &app, publishes / 10);
        let (before, delivered) =
            (ALLOCATIONS.load(Ordering::Relaxed), metrics.total(Counter::EventsDelivered));
        let start = Instant::now();
        publish(address, &app, publishes);
        let took = start.elapsed();
        let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
        let delivered = metrics.total(Counter::EventsDelivered) - delivered;
        let per_publish = allocations as f64 / publishes as f64;
        println!(
            "{publishes} publishes, {CHANNELS} channels, {per_channel} subscribers each: {delivered} deliveries in {:.1} s, \
             {per_publish:.3} allocations per publish",
            took.as_secs_f64()
        );
        rows.push(per_publish);
    }
    println!("allocations per recipient: {:.4}", (rows[1] - rows[0]) / 4.0);
}

/// Opens a connection, subscribes one group of channels, and leaves a thread reading what comes.
fn subscribe(address: SocketAddr, group: usize) {
    let mut socket = TcpStream::connect(address).expect("the server listens");
    socket
        .write_all(
            b"GET /app/app-key?protocol=7 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
              Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        )
        .expect("the handshake is sent");
    for channel in group * CHANNELS_PER_CONNECTION..(group + 1) * CHANNELS_PER_CONNECTION {
        let text =
            format!("{{\"event\":\"pusher:subscribe\",\"data\":{{\"channel\":\"c{channel}\"}}}}");
        let frame = masked_frame(Opcode::Text, Compression::Plain, text.as_bytes(), [1, 2, 3, 4]);
        socket.write_all(&frame).expect("a subscribe is sent");
    }
    let needle = b"subscription_succeeded";
    let (mut heard, mut buffer) = (0, vec![0; 65536]);
    let mut seen = Vec::new();
    while heard < CHANNELS_PER_CONNECTION {
        let length = socket.read(&mut buffer).expect("the server answers");
        assert!(length > 0, "the server closed the connection");
        seen.extend_from_slice(&buffer[..length]);
        heard = seen.windows(needle.len()).filter(|window| window == needle).count();
    }
    std::thread::Builder::new()
        .stack_size(64 << 10)
        .spawn(move || {
            let mut buffer = vec![0; 32768];
            while socket.read(&mut buffer).is_ok_and(|length| length > 0) {}
        })
        .expect("a thread");
}

/// Publishes to the channels in turn, in batches, and waits for every answer.
fn publish(address: SocketAddr, app: &App, publishes: usize) {
    let mut socket = TcpStream::connect(address).expect("the server listens");
    let mut channel = 0;
    let mut answer = Vec::new();
    let mut buffer = vec![0; 65536];
    for _ in 0..publishes / BATCH {
        let mut body = String::from("{\"batch\":[");
        for i in 0..BATCH {
            let comma = if i == 0 { "" } else { "," };
            body += &format!("{comma}{{\"name\":\"e\",\"channel\":\"c{channel}\",\"data\":\"x\"}}");
            channel = (channel + 1) % CHANNELS;
        }
        body += "]}";
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
        let path = "/apps/app-id/batch_events";
        let query =
            sign::sign_request(app, "POST", path, &[], body.as_bytes(), UnixMillis(wall as u64));
        // One write: two would wait for each other's acknowledgement.
        let request = format!(
            "POST {path}?{query} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        socket.write_all(request.as_bytes()).expect("a batch is sent");
        answer.clear();
        while !answer.ends_with(b"\r\n\r\n{}") {
            let length = socket.read(&mut buffer).expect("the server answers");
            assert!(length > 0, "the server closed the connection");
            answer.extend_from_slice(&buffer[..length]);
        }
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    }
}
