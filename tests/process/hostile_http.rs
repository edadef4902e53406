//! Requests that must be refused, and what each is told.

use crate::peer::{Peer, handshake};
use crate::server::{APP, Server};
use crate::sign;

/// A peer that must not notice what is done to the server.
pub struct Witness(Peer);

impl Witness {
    /// Subscribes.
    pub fn of(server: &Server) -> Self {
        let mut peer = Peer::open(server);
        peer.subscribe("witness");
        Self(peer)
    }

    /// Hears a publish.
    pub fn hears(&mut self, server: &Server, after: &str) {
        let answer = server.publish("witness", "still-here", after);
        assert_eq!(answer.status, 200, "after {after}: {}", answer.text());
        assert!(self.0.next("still-here").contains(after));
    }
}

#[test]
fn ambiguous_or_broken_requests_are_refused_and_closed() {
    let get = |line: &str| format!("GET /up HTTP/1.1\r\n{line}\r\n\r\n").into_bytes();
    let post = |lines: &str, body: &str| {
        format!("POST /apps/1/events HTTP/1.1\r\nHost: h\r\n{lines}\r\n\r\n{body}").into_bytes()
    };
    let cases: Vec<(&str, Vec<u8>, &[u16])> = vec![
        ("garbage", b"\x00\x01\x02\xff\xfe garbage\r\n\r\n".to_vec(), &[400]),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), &[400]),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), &[400, 505]),
        ("HTTP/3", b"GET /up HTTP/3.0\r\nHost: h\r\n\r\n".to_vec(), &[400, 505]),
        ("HTTP/0.9", b"GET /up\r\n\r\n".to_vec(), &[400]),
        ("no host", b"GET /up HTTP/1.1\r\nAccept: x\r\n\r\n".to_vec(), &[400]),
        ("two hosts", get("Host: a\r\nHost: b"), &[400]),
        ("two spaces", b"GET  /up HTTP/1.1\r\nHost: h\r\n\r\n".to_vec(), &[400]),
        ("a tab between", b"GET\t/up HTTP/1.1\r\nHost: h\r\n\r\n".to_vec(), &[400]),
        ("bare LF", b"GET /up HTTP/1.1\nHost: h\n\n".to_vec(), &[400]),
        ("bare LF in a head", b"GET /up HTTP/1.1\r\nHost: h\nX: y\r\n\r\n".to_vec(), &[400]),
        ("bare CR in a value", get("Host: h\r\nX: a\rb"), &[400]),
        ("NUL in a value", get("Host: h\r\nX: a\0b"), &[400]),
        ("obs-fold", get("Host: h\r\nX: a\r\n b"), &[400]),
        ("a space before the colon", get("Host: h\r\nX : a"), &[400]),
        ("a field without a name", get("Host: h\r\n: a"), &[400]),
        ("a field without a colon", get("Host: h\r\nX"), &[400]),
        ("a space in a target", b"GET /u p HTTP/1.1\r\nHost: h\r\n\r\n".to_vec(), &[400]),
        (
            "both lengths",
            post("Content-Length: 3\r\nTransfer-Encoding: chunked", "0\r\n\r\n"),
            &[400],
        ),
        ("two lengths", post("Content-Length: 3\r\nContent-Length: 4", "abcd"), &[400]),
        ("the same length twice", post("Content-Length: 3\r\nContent-Length: 3", "abc"), &[400]),
        ("a list of lengths", post("Content-Length: 3, 3", "abc"), &[400]),
        ("a negative length", post("Content-Length: -1", ""), &[400]),
        ("a signed length", post("Content-Length: +3", "abc"), &[400]),
        ("a length that is none", post("Content-Length: three", "abc"), &[400]),
        ("a length beyond 64 bits", post("Content-Length: 99999999999999999999", ""), &[400, 413]),
        ("an unknown coding", post("Transfer-Encoding: gzip", ""), &[400, 501]),
        ("chunked twice", post("Transfer-Encoding: chunked, chunked", "0\r\n\r\n"), &[400, 501]),
        ("chunked not last", post("Transfer-Encoding: chunked, gzip", "0\r\n\r\n"), &[400, 501]),
        (
            "chunked in 1.0",
            b"POST /apps/1/events HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(),
            &[400],
        ),
        ("a chunk size that is none", post("Transfer-Encoding: chunked", "x\r\n"), &[400]),
        (
            "a chunk size of 0x",
            post("Transfer-Encoding: chunked", "0x3\r\nabc\r\n0\r\n\r\n"),
            &[400],
        ),
        ("a huge chunk", post("Transfer-Encoding: chunked", "fffffffffffffffff\r\n"), &[400, 413]),
        (
            "a chunk longer than said",
            post("Transfer-Encoding: chunked", "3\r\nabcd\r\n0\r\n\r\n"),
            &[400],
        ),
        (
            "a bare LF after a chunk size",
            post("Transfer-Encoding: chunked", "3\nabc\r\n0\r\n\r\n"),
            &[400],
        ),
        ("an unknown expectation", post("Content-Length: 3\r\nExpect: miracles", "abc"), &[417]),
    ];
    for server in Server::on_each_driver("") {
        let mut witness = Witness::of(&server);
        for (name, bytes, statuses) in &cases {
            let mut tcp = server.connect();
            tcp.send(bytes);
            let answer = tcp.answer();
            assert!(statuses.contains(&answer.status), "{name}: {}", answer.head);
            tcp.rest();
        }
        witness.hears(&server, "the table");
    }
}

#[test]
fn every_limit_has_its_status() {
    let settings = "http.target_bytes_max = 512\nhttp.head_bytes_max = 2048\n\
                    http.head_fields_max = 20\nhttp.body_bytes_max = 4096\n";
    let long = "x".repeat(10_000);
    let fields = "X: y\r\n".repeat(40);
    let chunk = format!("{:x}\r\n{long}\r\n", long.len());
    let cases = [
        ("target", format!("GET /{long} HTTP/1.1\r\nHost: h\r\n\r\n"), 414),
        ("head", format!("GET /up HTTP/1.1\r\nHost: h\r\nX: {long}\r\n\r\n"), 431),
        ("endless head", format!("GET /up HTTP/1.1\r\nHost: h\r\nX: {long}"), 431),
        ("fields", format!("GET /up HTTP/1.1\r\nHost: h\r\n{fields}\r\n"), 431),
    ];
    for server in Server::on_each_driver(settings) {
        let mut witness = Witness::of(&server);
        for (name, request, status) in &cases {
            let mut tcp = server.connect();
            tcp.send(request.as_bytes());
            assert_eq!(tcp.answer().status, *status, "{name}");
            tcp.rest();
        }
        let target = sign::target(APP, "events", b"");
        for (name, request) in [
            (
                "body",
                format!("POST {target} HTTP/1.1\r\nHost: h\r\nContent-Length: 10000\r\n\r\n{long}"),
            ),
            (
                "body only announced",
                format!(
                    "POST {target} HTTP/1.1\r\nHost: h\r\nContent-Length: 999999999999\r\n\r\n"
                ),
            ),
            (
                "body announced and asked about",
                format!(
                    "POST {target} HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n\
                     Content-Length: 10000\r\n\r\n"
                ),
            ),
            (
                "chunked body",
                format!(
                    "POST {target} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}"
                ),
            ),
        ] {
            let mut tcp = server.connect();
            tcp.send(request.as_bytes());
            assert_eq!(tcp.answer().status, 413, "{name}");
            tcp.rest();
        }
        witness.hears(&server, "limits");
    }
}

#[test]
fn who_is_too_slow_is_told_408() {
    let settings = "http.head_timeout_s = \"300ms\"\nhttp.body_timeout_s = \"300ms\"\nhttp.idle_timeout_s = \"500ms\"\n";
    for server in Server::on_each_driver(settings) {
        let mut witness = Witness::of(&server);
        let mut slow: Vec<_> = (0..50).map(|_| server.connect()).collect();
        for tcp in &mut slow {
            tcp.send(b"GET /up HTTP/1.1\r\nHost: h\r\nX: ");
        }
        let mut body = server.connect();
        let target = sign::target(APP, "events", b"abc");
        body.send(
            format!("POST {target} HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nabc")
                .as_bytes(),
        );
        witness.hears(&server, "slow heads");
        for mut tcp in slow {
            assert_eq!(tcp.answer().status, 408);
            assert_eq!(tcp.rest(), b"");
        }
        assert_eq!(body.answer().status, 408);
        assert_eq!(body.rest(), b"");
        // One that says nothing at all, and one that is silent after its answer.
        let mut silent = server.connect();
        let mut idle = server.connect();
        idle.send(b"GET /up HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(idle.answer().status, 200);
        for tcp in [&mut silent, &mut idle] {
            let last = String::from_utf8_lossy(&tcp.rest()).into_owned();
            assert!(last.is_empty() || last.starts_with("HTTP/1.1 408 "), "{last}");
        }
        witness.hears(&server, "408");
    }
}

#[test]
fn vanishing_peers_leave_nothing_behind() {
    for server in Server::on_each_driver("") {
        let mut witness = Witness::of(&server);
        for round in 0..200 {
            let mut tcp = server.connect();
            match round % 5 {
                0 => {}
                1 => tcp.send(b"GET /up HT"),
                2 => tcp.send(b"GET /up HTTP/1.1\r\nHost: h\r\n\r\n"),
                3 => tcp.send(handshake(&format!("/app/{}", APP.1)).as_bytes()),
                _ => tcp.send(
                    b"POST /apps/1/events HTTP/1.1\r\nHost: h\r\nContent-Length: 50\r\n\r\nab",
                ),
            }
            if round % 2 == 0 {
                let _ = tcp.stream.shutdown(std::net::Shutdown::Write);
            }
        }
        witness.hears(&server, "the vanished");
    }
}

#[test]
fn handshakes_that_are_none_are_refused() {
    let target = format!("/app/{}?protocol=7", APP.1);
    let good = handshake(&target);
    let cases: &[(&str, String, &[u16])] = &[
        ("another version", good.replace("Version: 13", "Version: 12"), &[400, 426]),
        ("no version", good.replace("Sec-WebSocket-Version: 13\r\n", ""), &[400, 426]),
        (
            "no key",
            good.replace("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", ""),
            &[400, 426],
        ),
        ("a short key", good.replace("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ="), &[400, 426]),
        ("a key that is none", good.replace("dGhlIHNhbXBsZSBub25jZQ==", "!!!"), &[400, 426]),
        ("no Connection", good.replace("Connection: Upgrade\r\n", ""), &[400, 426]),
        ("no Upgrade", good.replace("Upgrade: websocket\r\n", ""), &[400, 426]),
        ("a POST", good.replace("GET ", "POST "), &[400, 405, 426]),
        ("HTTP/1.0", good.replace("HTTP/1.1", "HTTP/1.0"), &[400, 426, 505]),
        ("another path", handshake("/elsewhere"), &[400, 404]),
    ];
    for server in Server::on_each_driver("") {
        for (name, request, statuses) in cases {
            let mut tcp = server.connect();
            tcp.send(request.as_bytes());
            let answer = tcp.answer();
            assert!(statuses.contains(&answer.status), "{name}: {}", answer.head);
        }
    }
}
