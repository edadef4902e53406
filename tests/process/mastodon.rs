//! Mastodon streaming on the wire: handshakes and heads as bytes, refusals, close frames, and the end of the process.

use crate::http::Answer;
use crate::peer::{Rude, frame, handshake};
use crate::server::Server;

const SETTINGS: &str = "shards = 2\n[mastodon]\napp = \"1001\"\nheartbeat_s = 1\n\
                        [[mastodon.tokens]]\ntoken = \"t\"\nuser = \"7\"\npermissions = [\"read\"]\n";

/// A socket of account 7, open, and the head that opened it.
fn socket(server: &Server, query: &str, fields: &str) -> (Rude, String) {
    let mut tcp = server.connect();
    let request = handshake(&format!("/api/v1/streaming?{query}"));
    tcp.send(request.replacen("\r\n\r\n", &format!("\r\n{fields}\r\n"), 1).as_bytes());
    let head = tcp.head();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    (Rude(tcp), head)
}

/// The answer to a request.
fn asked(server: &Server, request: &str) -> Answer {
    let mut tcp = server.connect();
    tcp.send(request.as_bytes());
    tcp.answer()
}

fn publish(server: &Server, body: &str) {
    let answer = server.post("mastodon/events", body);
    assert_eq!(answer.status, 202, "{}", answer.text());
}

/// Whether this is a UUID, version 4.
fn is_uuid(text: &str) -> bool {
    let parts: Vec<_> = text.split('-').collect();
    let lengths: Vec<_> = parts.iter().map(|it| it.len()).collect();
    lengths == [8, 4, 4, 4, 12]
        && text.bytes().all(|it| it == b'-' || it.is_ascii_hexdigit())
        && parts[2].starts_with('4')
        && parts[3].starts_with(['8', '9', 'a', 'b'])
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

#[test]
fn a_handshake_is_accepted_as_browsers_and_libraries_want_it() {
    for server in Server::on_each_driver(SETTINGS) {
        let (_peer, head) = socket(&server, "access_token=t", "");
        assert!(field(&head, "X-Request-Id").is_some_and(is_uuid), "{head}");
        assert_eq!(field(&head, "Sec-WebSocket-Protocol"), None);
        // The token as a sub-protocol, and one that is offered beside another credential.
        let (_peer, head) = socket(&server, "", "Sec-WebSocket-Protocol: t\r\n");
        assert_eq!(field(&head, "Sec-WebSocket-Protocol"), Some("t"));
        let offers = "Sec-WebSocket-Protocol: other\r\nAuthorization: Bearer t\r\n";
        let (_peer, head) = socket(&server, "", offers);
        assert_eq!(field(&head, "Sec-WebSocket-Protocol"), Some("other"));
        // Compression is never agreed on.
        let offers = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
        let (_peer, head) = socket(&server, "access_token=t", offers);
        assert_eq!(field(&head, "Sec-WebSocket-Extensions"), None);
        // Two answers have two names.
        let ids = [(); 2].map(|()| {
            let (_peer, head) = socket(&server, "access_token=t", "");
            field(&head, "X-Request-Id").unwrap().to_owned()
        });
        assert_ne!(ids[0], ids[1]);
    }
}

#[test]
fn a_handshake_is_refused_with_its_reason_in_the_head() {
    for server in Server::on_each_driver(SETTINGS) {
        let mut tcp = server.connect();
        tcp.send(handshake("/api/v1/streaming?access_token=x").as_bytes());
        let answer = tcp.answer();
        assert_eq!((answer.status, &*answer.text()), (401, ""));
        assert_eq!(answer.header("X-Error-Message"), Some("Invalid access token"));
        assert_eq!(answer.header("Connection"), Some("close"));
        assert_eq!(answer.header("Content-Length"), Some("0"));
        assert_eq!(answer.header("Content-Type"), Some("text/plain"));
        assert_eq!(answer.header("Access-Control-Allow-Origin"), None);
        assert!(answer.header("X-Request-Id").is_some_and(is_uuid));
        assert_eq!(tcp.rest(), b"");
        // What is no handshake at all.
        let good = handshake("/api/v1/streaming?access_token=t");
        let answer = asked(&server, &good.replace("Version: 13", "Version: 7"));
        assert_eq!((answer.status, answer.header("Sec-WebSocket-Version")), (400, Some("13, 8")));
        let answer = asked(&server, &good.replace("dGhlIHNhbXBsZSBub25jZQ==", "short"));
        assert_eq!((answer.status, answer.header("Sec-WebSocket-Version")), (400, None));
    }
}

#[test]
fn what_no_stream_is_for_closes_a_socket_with_its_code() {
    for server in Server::on_each_driver(SETTINGS) {
        let binary = "The mastodon streaming server does not support binary messages";
        for (bytes, code, text) in [
            (frame(0x82, b"\x00"), 1003, binary),
            (frame(0x81, b"\xff"), 1007, ""),
            (frame(0x81, &vec![b' '; (64 << 10) + 1]), 1009, "message too large"),
        ] {
            let (mut peer, _) = socket(&server, "access_token=t", "");
            peer.0.send(&bytes);
            let (first, payload) = peer.frame().expect("a close frame");
            assert_eq!(first, 0x88);
            let (was, why) = payload.split_first_chunk().expect("it has a code");
            assert_eq!((u16::from_be_bytes(*was), why), (code, text.as_bytes()));
        }
        // As long as may be.
        let (mut peer, _) = socket(&server, "access_token=t", "");
        let mut text = br#"{"type":"subscribe","stream":"nothing"}"#.to_vec();
        text.resize(64 << 10, b' ');
        peer.0.send(&frame(0x81, &text));
        let (first, answer) = peer.frame().expect("an answer");
        assert_eq!(
            (first, &*answer),
            (0x81, &br#"{"error":"Unknown stream type","status":400}"#[..])
        );
    }
}

#[test]
fn what_is_taken_back_ends_with_an_empty_close_frame_or_a_whole_body() {
    for server in Server::on_each_driver(SETTINGS) {
        let (mut peer, _) = socket(&server, "access_token=t", "");
        let mut stream = server.connect();
        stream.send(b"GET /api/v1/streaming/user?access_token=t HTTP/1.1\r\nHost: h\r\n\r\n");
        let head = stream.head();
        for (name, value) in [
            ("Content-Type", "text/event-stream"),
            ("Cache-Control", "private, no-store"),
            ("Transfer-Encoding", "chunked"),
            ("Access-Control-Allow-Origin", "*"),
        ] {
            assert_eq!(field(&head, name), Some(value), "{head}");
        }
        assert!(field(&head, "X-Request-Id").is_some_and(is_uuid), "{head}");
        assert_eq!(stream.take(8), b"3\r\n:)\n\r\n");
        // Nothing tells when a stream hears: it is told until it does.
        let event = "17\r\nevent: delete\ndata: 5\n\n\r\n";
        while !stream.hears() {
            publish(&server, r#"{"event":"delete","payload":"5","channels":["timeline:7"]}"#);
        }
        publish(&server, r#"{"event":"kill","channels":["timeline:system:7"]}"#);
        assert_eq!(peer.frame(), Some((0x88, Vec::new())));
        let rest = String::from_utf8(stream.rest()).unwrap();
        // Signs of life may have come between.
        let rest = rest.replace("9\r\n:thump\n\n\r\n", "");
        assert!(rest.starts_with(event), "{rest}");
        assert_eq!(rest.replace(event, ""), "0\r\n\r\n");
    }
}

#[test]
fn heads_are_answered_without_a_body() {
    for server in Server::on_each_driver(SETTINGS) {
        let mut tcp = server.connect();
        tcp.send(b"HEAD /api/v1/streaming/user?access_token=t HTTP/1.1\r\nHost: h\r\n\r\n");
        let head = tcp.head();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert_eq!(field(&head, "Content-Type"), Some("text/event-stream"));
        assert_eq!(tcp.rest(), b"");
        let mut tcp = server.connect();
        tcp.send(b"HEAD /api/v1/streaming/health HTTP/1.1\r\nHost: h\r\n\r\n");
        let answer = tcp.answer_without_body();
        assert_eq!((answer.status, answer.header("Content-Length")), (200, Some("2")));
        assert!(answer.header("X-Request-Id").is_some_and(is_uuid));
    }
}

#[test]
fn the_end_of_the_process_asks_sockets_to_come_back() {
    for mut server in Server::on_each_driver(SETTINGS) {
        let (mut peer, _) = socket(&server, "access_token=t&stream=public", "");
        let mut stream = server.connect();
        stream.send(b"GET /api/v1/streaming/public?access_token=t HTTP/1.1\r\nHost: h\r\n\r\n");
        stream.head();
        server.signal("TERM");
        let (first, payload) = peer.frame().expect("a close frame");
        assert_eq!((first, &payload[..2]), (0x88, &1012u16.to_be_bytes()[..]));
        // It would be waited for.
        drop(peer);
        let rest = stream.rest();
        assert!(rest.ends_with(b"0\r\n\r\n"), "{}", String::from_utf8_lossy(&rest));
        drop(stream);
        assert!(server.wait().success());
    }
}

#[test]
fn a_status_as_large_as_any_reaches_every_transport_whole() {
    for server in Server::on_each_driver(SETTINGS) {
        let (mut peer, _) = socket(&server, "access_token=t&stream=public", "");
        let mut stream = server.connect();
        stream.send(b"GET /api/v1/streaming/public?access_token=t HTTP/1.0\r\nHost: h\r\n\r\n");
        let head = stream.head();
        assert_eq!(field(&head, "Transfer-Encoding"), None, "{head}");
        assert_eq!(stream.take(3), b":)\n");
        for length in [1, 100, 125, 126, 200, 4_000, 50_000] {
            // Every byte of it is escaped within a frame.
            let content = "\\\"".repeat(length);
            let status = format!(
                r#"{{"id":"1","account":{{"id":"9","username":"u","acct":"u"}},"content":"{content}"}}"#
            );
            publish(
                &server,
                &format!(
                    r#"{{"event":"update","payload":{status},"channels":["timeline:public"]}}"#
                ),
            );
            let shown = format!("{},\"filtered\":[]}}", status.strip_suffix('}').unwrap());
            let (first, text) = peer.frame().expect("a frame");
            assert_eq!(first, 0x81);
            let text: serde_json::Value = serde_json::from_slice(&text).unwrap();
            assert_eq!(text["payload"].as_str(), Some(&*shown), "{length}");
            let lines = format!("event: update\ndata: {shown}\n\n");
            let mut came = String::from_utf8(stream.take(lines.len())).unwrap();
            while came.contains(":thump\n\n") {
                came = came.replacen(":thump\n\n", "", 1);
                came += &String::from_utf8(stream.take(lines.len() - came.len())).unwrap();
            }
            assert_eq!(came, lines, "{length}");
        }
    }
}
