//! Event streams as HTTP clients meet them: an independent one that reads chunks, one of HTTP/1.0, one that wants the
//! head alone, one that stalls, one that goes on talking.

use std::net::Shutdown;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::http::Tcp;
use crate::server::{APP, PATIENCE, Server};

const SETTINGS: &str = "[mastodon]\napp = \"1001\"\n[[mastodon.tokens]]\ntoken = \"ann\"\n\
    user = \"1\"\npermissions = [\"read\"]\n";
const PATH: &str = "/api/v1/streaming/user?access_token=ann";

/// Publishes an event that the user's streams hear.
fn publish(server: &Server, event: &str, payload: &str) {
    let body = format!(r#"{{"event":"{event}","payload":"{payload}","channels":["timeline:1"]}}"#);
    let answer = server.post("mastodon/events", &body);
    assert_eq!(answer.status, 202, "{}", answer.text());
}

/// What an event looks like.
fn block(event: &str, payload: &str) -> String {
    format!("event: {event}\ndata: {payload}\n\n")
}

/// Asks for a stream.
fn ask(tcp: &mut Tcp, method: &str, version: &str) {
    tcp.send(format!("{method} {PATH} HTTP/{version}\r\nHost: here\r\n\r\n").as_bytes());
}

/// Opens a stream of HTTP/1.0, whose bytes are the events themselves.
fn open_plain(server: &Server) -> Tcp {
    let mut tcp = server.connect();
    ask(&mut tcp, "GET", "1.0");
    let answer = tcp.answer_without_body();
    assert_eq!(answer.status, 200, "{}", answer.head);
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!((answer.header("transfer-encoding"), answer.header("content-length")), (None, None));
    assert_eq!(tcp.take(3), b":)\n");
    tcp
}

/// A count that the server has made.
fn counted(server: &Server, metric: &str) -> u64 {
    let metrics = server.fetch("/metrics").text();
    let lines = metrics.lines().filter(|line| line.starts_with(metric));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

/// The body of a stream as hyper reads it, and what of it has come.
struct Stream {
    body: Incoming,
    text: String,
}

impl Stream {
    async fn open(server: &Server) -> Self {
        let socket = TcpStream::connect(server.address).await.expect("it listens");
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(socket)).await.expect("it is open");
        tokio::spawn(connection);
        let request = Request::get(PATH).header("Host", "here").body(Empty::<Bytes>::new());
        let request = request.expect("a request");
        let answer = sender.send_request(request).await.expect("it is answered");
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["transfer-encoding"], "chunked");
        let mut stream = Self { body: answer.into_body(), text: String::new() };
        stream.hear(":)\n").await;
        stream
    }

    /// The next piece; none at the end, which must be a whole answer's.
    async fn more(&mut self) -> Option<()> {
        let frame = tokio::time::timeout(PATIENCE, self.body.frame()).await.expect("in time")?;
        let piece = frame.expect("chunks are well-formed").into_data().expect("no trailers");
        self.text += std::str::from_utf8(&piece).expect("text");
        Some(())
    }

    /// Takes what comes next, which must be this.
    async fn hear(&mut self, expected: &str) {
        while self.text.len() < expected.len() && self.more().await.is_some() {}
        let rest = self.text.split_off(expected.len().min(self.text.len()));
        assert_eq!(std::mem::replace(&mut self.text, rest), expected);
    }
}

#[test]
fn an_independent_client_reads_every_event_and_the_end() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    for mut server in Server::on_each_driver(SETTINGS) {
        runtime.block_on(async {
            let mut stream = Stream::open(&server).await;
            for length in [0, 1, 15, 16, 255, 4096, 90_000] {
                let payload = "x".repeat(length + 1);
                publish(&server, "update", &payload);
                stream.hear(&block("update", &payload)).await;
            }
            for n in 0..30 {
                publish(&server, "delete", &n.to_string());
            }
            for n in 0..30 {
                stream.hear(&block("delete", &n.to_string())).await;
            }
            // A drain ends it as a whole answer.
            server.signal("TERM");
            while stream.more().await.is_some() {}
            assert_eq!(stream.text, "");
        });
        assert!(server.wait().success());
    }
}

#[test]
fn peers_of_http_1_0_hear_until_the_connection_closes() {
    for mut server in Server::on_each_driver(SETTINGS) {
        let mut tcp = open_plain(&server);
        let expected = block("delete", "1") + &block("delete", "2");
        publish(&server, "delete", "1");
        publish(&server, "delete", "2");
        assert_eq!(tcp.take(expected.len()), expected.as_bytes());
        server.signal("TERM");
        assert_eq!(tcp.rest(), b"");
        assert!(server.wait().success());
    }
}

#[test]
fn a_head_is_answered_and_that_is_all() {
    for server in Server::on_each_driver(SETTINGS) {
        let mut tcp = server.connect();
        ask(&mut tcp, "HEAD", "1.1");
        let answer = tcp.answer_without_body();
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-type"), Some("text/event-stream"));
        assert_eq!(tcp.rest(), b"");
    }
}

#[test]
fn a_peer_that_goes_on_talking_is_not_heard() {
    for server in Server::on_each_driver(SETTINGS) {
        let mut tcp = server.connect();
        let more = "GET /up HTTP/1.1\r\nHost: here\r\n\r\n".repeat(1000) + "\0\u{1}no HTTP";
        let head = format!("GET {PATH} HTTP/1.0\r\nHost: here\r\n\r\n");
        tcp.send((head + &more).as_bytes());
        assert_eq!(tcp.answer_without_body().status, 200);
        tcp.send(more.as_bytes());
        publish(&server, "delete", "1");
        let expected = format!(":)\n{}", block("delete", "1"));
        assert_eq!(tcp.take(expected.len()), expected.as_bytes());
        tcp.send(&[0; 100_000]);
        publish(&server, "delete", "2");
        let expected = block("delete", "2");
        assert_eq!(tcp.take(expected.len()), expected.as_bytes());
        // It says that it has gone by saying that it will say no more.
        tcp.stream.shutdown(Shutdown::Write).expect("it is open");
        assert_eq!(tcp.rest(), b"");
    }
}

#[test]
fn a_reader_that_stalls_is_cut_and_its_neighbours_hear_on() {
    for server in
        Server::on_each_driver(&format!("limits.outbox_bytes_high_water = \"256KiB\"\n{SETTINGS}"))
    {
        let mut stalled = open_plain(&server);
        let mut neighbour = open_plain(&server);
        let payload = "x".repeat(90_000);
        let expected = block("update", &payload);
        let mut sent = 0;
        // What the kernel takes for a peer that does not read is at most some megabytes.
        while counted(&server, "ringmain_slow_consumers_total") == 0 {
            assert!(sent < 400, "nobody noticed");
            publish(&server, "update", &payload);
            assert!(neighbour.take(expected.len()) == expected.as_bytes());
            sent += 1;
        }
        // It gets events from the first on, without a gap, up to the cut.
        let heard = stalled.rest();
        assert!(!heard.is_empty() && heard.len() < sent * expected.len());
        let heard = String::from_utf8(heard).expect("text");
        assert!(heard.bytes().zip(expected.bytes().cycle()).all(|(a, b)| a == b));
        publish(&server, "delete", "1");
        let last = block("delete", "1");
        assert_eq!(neighbour.take(last.len()), last.as_bytes());
    }
}

#[test]
fn streams_are_counted() {
    let server = Server::start(SETTINGS);
    let _one = open_plain(&server);
    let _other = open_plain(&server);
    assert_eq!(counted(&server, "ringmain_event_streams_total"), 2);
    assert_eq!(server.get("channels", &[]).status, 200, "{APP:?} is served as before");
}
