//! What a well-behaved peer gets: HTTP as RFC 9112 has it, and a signed event.

use crate::peer::Peer;
use crate::server::{APP, Server};
use crate::sign;

#[test]
fn a_signed_publish_reaches_every_subscriber() {
    for server in Server::on_each_driver("shards = 2\n") {
        let mut peers: Vec<_> = (0..50).map(|_| Peer::open(&server)).collect();
        for peer in &mut peers {
            peer.subscribe("news");
        }
        for n in 0..20 {
            let answer = server.publish("news", "item", &format!("number {n}"));
            assert_eq!((answer.status, answer.text().as_str()), (200, "{}"));
        }
        for peer in &mut peers {
            for n in 0..20 {
                let expected =
                    format!(r#"{{"event":"item","channel":"news","data":"number {n}"}}"#);
                assert_eq!(peer.next("item"), expected);
            }
        }
    }
}

#[test]
fn a_large_event_arrives_whole() {
    for server in Server::on_each_driver("") {
        let mut peer = Peer::open(&server);
        peer.subscribe("bulk");
        for length in [1, 125, 126, 1000, 65_535, 65_536, 100_000] {
            let text = "x".repeat(length);
            assert_eq!(server.publish("bulk", "e", &text).status, 200, "{length}");
            assert!(peer.next("e").contains(&text), "{length}");
        }
    }
}

#[test]
fn requests_follow_each_other_on_one_connection() {
    for server in Server::on_each_driver("") {
        let mut tcp = server.connect();
        let up = "GET /up HTTP/1.1\r\nHost: h\r\n\r\n";
        let event = sign::post(APP, "events", br#"{"name":"e","channels":["c"],"data":"d"}"#);
        // One after the other, then all in one write.
        for _ in 0..3 {
            tcp.send(up.as_bytes());
            assert_eq!(tcp.answer().status, 200);
        }
        tcp.send(format!("{up}{event}{up}GET /nowhere HTTP/1.1\r\nHost: h\r\n\r\n{up}").as_bytes());
        let statuses: Vec<_> = (0..5).map(|_| tcp.answer().status).collect();
        assert_eq!(statuses, [200, 200, 200, 404, 200]);
        // Byte by byte.
        tcp.trickle(event.as_bytes());
        assert_eq!(tcp.answer().status, 200);
        tcp.send(b"GET /up HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        assert_eq!(tcp.answer().status, 200);
        assert_eq!(tcp.rest(), b"");
        // 1.0 closes unless asked not to.
        let mut old = server.connect();
        old.send(b"GET /up HTTP/1.0\r\n\r\n");
        assert_eq!(old.answer().status, 200);
        assert_eq!(old.rest(), b"");
    }
}

#[test]
fn bodies_come_in_every_form() {
    let body = r#"{"name":"e","channels":["forms"],"data":"d"}"#;
    let target = |body: &str| sign::target(APP, "events", body.as_bytes());
    for server in Server::on_each_driver("") {
        let mut peer = Peer::open(&server);
        peer.subscribe("forms");
        // Chunked, in chunks of one byte, with an extension and a trailer.
        let chunks: String = body.chars().map(|c| format!("1;x=y\r\n{c}\r\n")).collect();
        let mut tcp = server.connect();
        tcp.send(
            format!(
                "POST {} HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n\
                 Transfer-Encoding: chunked\r\n\r\n{chunks}0\r\nTrailer: t\r\n\r\n",
                target(body)
            )
            .as_bytes(),
        );
        assert_eq!(tcp.answer().status, 200);
        peer.next("e");
        // Announced, sent when asked for, on the same connection.
        tcp.send(
            format!(
                "POST {} HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n\
                 Expect: 100-continue\r\nContent-Length: {}\r\n\r\n",
                target(body),
                body.len()
            )
            .as_bytes(),
        );
        assert!(tcp.head().starts_with("HTTP/1.1 100 "));
        tcp.send(body.as_bytes());
        assert_eq!(tcp.answer().status, 200);
        peer.next("e");
    }
}

#[test]
fn head_and_options_are_answered() {
    for server in Server::on_each_driver("") {
        let mut tcp = server.connect();
        tcp.send(b"HEAD /up HTTP/1.1\r\nHost: h\r\n\r\nGET /up HTTP/1.1\r\nHost: h\r\n\r\n");
        let head = tcp.answer_without_body();
        assert_eq!(head.status, 200);
        let get = tcp.answer();
        assert_eq!(head.header("content-length"), get.header("content-length"));
        assert!(!get.body.is_empty());
        tcp.send(
            b"OPTIONS /apps/1001/events HTTP/1.1\r\nHost: h\r\nOrigin: https://a.example\r\n\
              Access-Control-Request-Method: POST\r\n\r\n",
        );
        let options = tcp.answer();
        assert!([200, 204].contains(&options.status), "{}", options.head);
        assert!(options.header("access-control-allow-origin").is_some(), "{}", options.head);
    }
}

#[test]
fn a_request_split_anywhere_is_the_same_request() {
    for server in Server::on_each_driver("") {
        let request = sign::post(APP, "events", br#"{"name":"e","channels":["c"],"data":"d"}"#);
        for at in (1..request.len()).step_by(7) {
            let mut tcp = server.connect();
            tcp.send(&request.as_bytes()[..at]);
            tcp.send(&request.as_bytes()[at..]);
            assert_eq!(tcp.answer().status, 200, "split at {at}");
        }
    }
}
