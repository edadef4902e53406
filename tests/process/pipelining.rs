//! Requests sent ahead of their answers, and answers larger than an outbox.

use std::net::Shutdown;

use crate::peer::Peer;
use crate::server::{APP, Server};
use crate::sign;

fn event(number: usize) -> String {
    let body = format!(r#"{{"name":"n","channels":["pipe","other"],"data":"{number}"}}"#);
    sign::post(APP, "events", body.as_bytes())
}

#[test]
fn what_was_asked_before_a_half_close_is_answered() {
    for server in Server::on_each_driver("") {
        let mut tcp = server.connect();
        let asked: String = (0..5).map(event).collect();
        tcp.send(asked.as_bytes());
        tcp.stream.shutdown(Shutdown::Write).expect("a half-close");
        for number in 0..5 {
            assert_eq!(tcp.answer().status, 200, "{number}");
        }
        assert_eq!(tcp.rest(), b"");
        // The last is not whole: those before it are answered all the same.
        let mut tcp = server.connect();
        tcp.send(format!("{}{}", event(5), &event(6)[..100]).as_bytes());
        tcp.stream.shutdown(Shutdown::Write).expect("a half-close");
        assert_eq!(tcp.answer().status, 200);
        assert_eq!(tcp.rest(), b"");
    }
}

#[test]
fn thousands_of_requests_at_once_are_answered_in_order() {
    const COUNT: usize = 3000;
    for server in Server::on_each_driver("shards = 2\n") {
        let mut peer = Peer::open(&server);
        peer.subscribe("pipe");
        let mut tcp = server.connect();
        let mut writer = tcp.stream.try_clone().expect("a second handle");
        let sender = std::thread::spawn(move || {
            for number in 0..COUNT {
                std::io::Write::write_all(&mut writer, event(number).as_bytes()).expect("it reads");
            }
        });
        for number in 0..COUNT {
            assert_eq!(tcp.answer().status, 200, "{number}");
        }
        sender.join().expect("everything was sent");
        for number in 0..COUNT {
            let heard = peer.next("n");
            assert!(heard.contains(&format!("\"{number}\"")), "{number}: {heard}");
        }
    }
}

/// More than an outbox may hold is asked for in a few packets.
#[test]
fn short_requests_for_long_answers_are_answered_as_they_are_taken() {
    const COUNT: usize = 400;
    for server in Server::on_each_driver("limits.outbox_bytes_high_water = 1048576\n") {
        let mut tcp = server.connect();
        tcp.send("GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n".repeat(COUNT).as_bytes());
        tcp.stream.shutdown(Shutdown::Write).expect("a half-close");
        let mut bytes = 0;
        for number in 0..COUNT {
            let answer = tcp.answer();
            assert_eq!(answer.status, 200, "{number}");
            bytes += answer.body.len();
        }
        assert!(bytes > 4 << 20, "{bytes}");
        assert_eq!(tcp.rest(), b"");
    }
}

#[test]
fn an_answer_above_the_high_water_mark_arrives() {
    for server in Server::on_each_driver("limits.outbox_bytes_high_water = 16384\n") {
        let answer = server.fetch("/metrics");
        assert_eq!(answer.status, 200);
        assert!(answer.body.len() > 16384, "{} bytes prove nothing", answer.body.len());
    }
}

#[test]
fn an_early_answer_to_a_peer_that_asks_to_go_on_is_the_last() {
    for server in Server::on_each_driver("") {
        let mut tcp = server.connect();
        tcp.send(
            b"GET /up HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
        );
        assert_eq!(tcp.answer().header("connection"), Some("close"));
        assert_eq!(tcp.rest(), b"");
    }
}

#[test]
fn channels_are_listed_whole_however_many_there_are() {
    const COUNT: usize = 5000;
    for server in Server::on_each_driver("shards = 2\n") {
        let mut peer = Peer::open(&server);
        for number in 0..COUNT {
            peer.say(&format!(
                r#"{{"event":"pusher:subscribe","data":{{"channel":"c{number}"}}}}"#
            ));
        }
        for _ in 0..COUNT {
            peer.next("pusher_internal:subscription_succeeded");
        }
        let (id, key, secret) = APP;
        let path = format!("/apps/{id}/channels");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now = now.expect("after 1970").as_secs();
        let query = format!("auth_key={key}&auth_timestamp={now}&auth_version=1.0");
        let signature = sign::hmac(secret, &format!("GET\n{path}\n{query}"));
        let answer = server.fetch(&format!("{path}?{query}&auth_signature={signature}"));
        assert_eq!(answer.status, 200);
        let listed: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
        let listed = listed["channels"].as_object().expect("an object");
        assert!((0..COUNT).all(|number| listed.contains_key(&format!("c{number}"))));
        assert_eq!(listed.len(), COUNT);
    }
}
