//! Peers that break RFC 6455 or lean on the server, and the close code each is given.

use crate::hostile_http::Witness;
use crate::peer::{Peer, Rude, frame};
use crate::server::{APP, Server};

#[test]
fn broken_frames_close_that_connection_with_the_right_code() {
    let ping = br#"{"event":"pusher:ping","data":{}}"#;
    let unmasked = |first: u8, payload: &[u8]| {
        let mut bytes = vec![first, payload.len() as u8];
        bytes.extend_from_slice(payload);
        bytes
    };
    let announced = |first: u8, length: u64| {
        let mut bytes = vec![first, 0x80 | 127];
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&[1, 2, 3, 4]);
        bytes
    };
    let close = |code: u16, reason: &[u8]| {
        let mut payload = code.to_be_bytes().to_vec();
        payload.extend_from_slice(reason);
        frame(0x88, &payload)
    };
    let two = |one: Vec<u8>, other: Vec<u8>| [one, other].concat();
    let cases: Vec<(&str, Vec<u8>, &[u16])> = vec![
        ("unmasked", unmasked(0x81, ping), &[1002]),
        ("RSV1 without compression", frame(0xc1, ping), &[1002]),
        ("RSV2", frame(0xa1, ping), &[1002]),
        ("RSV3", frame(0x91, ping), &[1002]),
        ("opcode 3", frame(0x83, ping), &[1002]),
        ("opcode 11", frame(0x8b, b""), &[1002]),
        ("a fragmented ping", frame(0x09, b"x"), &[1002]),
        ("a ping of 126 bytes", frame(0x89, &[b'x'; 126]), &[1002]),
        ("a continuation of nothing", frame(0x80, b"x"), &[1002]),
        ("a message within a message", two(frame(0x01, b"a"), frame(0x81, b"b")), &[1002]),
        ("invalid UTF-8", frame(0x81, b"{\"event\":\"\xff\"}"), &[1007]),
        ("UTF-8 cut short", frame(0x81, b"\xe2\x82"), &[1007]),
        ("UTF-8 broken across fragments", two(frame(0x01, b"\xe2"), frame(0x80, b"a")), &[1007]),
        ("a surrogate", frame(0x81, b"\xed\xa0\x80"), &[1007]),
        ("a length with the top bit", announced(0x81, 1 << 63), &[1002, 1009]),
        ("an exabyte", announced(0x81, 1 << 60), &[1009]),
        (
            "a length that is not minimal",
            {
                let mut bytes = vec![0x81, 0x80 | 126, 0, 5, 1, 2, 3, 4];
                bytes.extend_from_slice(b"hello");
                bytes
            },
            &[1002],
        ),
        ("above the limit", frame(0x81, &[b'x'; 5000]), &[1009]),
        (
            "above the limit in fragments",
            [frame(0x01, &[b'x'; 2000]), frame(0x00, &[b'x'; 2000]), frame(0x80, &[b'x'; 2000])]
                .concat(),
            &[1009],
        ),
        ("a close of one byte", frame(0x88, b"\x03"), &[1002]),
        ("a close code that is reserved", close(1005, b""), &[1002]),
        ("a close code out of range", close(999, b""), &[1002]),
        ("a close reason that is not UTF-8", close(1000, b"\xff"), &[1002, 1007]),
        ("a good close", close(1000, b"bye"), &[1000]),
        ("a close without a code", frame(0x88, b""), &[1000, 1005]),
    ];
    for server in Server::on_each_driver("websocket.message_bytes_max = 4096\n") {
        let mut witness = Witness::of(&server);
        for (name, bytes, codes) in &cases {
            let mut rude = Rude::open(&server);
            rude.0.send(bytes);
            // A close that carries no code reads as 1005.
            let code = rude.end().unwrap_or(1005);
            assert!(codes.contains(&code), "{name}: {code}");
        }
        witness.hears(&server, "broken frames");
    }
}

#[test]
fn a_message_in_pieces_of_any_size_is_one_message() {
    let ping = br#"{"event":"pusher:ping","data":{}}"#;
    for server in Server::on_each_driver("") {
        let mut rude = Rude::open(&server);
        // One frame, byte by byte on the wire.
        rude.0.trickle(&frame(0x81, ping));
        let (first, pong) = rude.frame().expect("a pong");
        assert_eq!(first, 0x81);
        assert!(String::from_utf8_lossy(&pong).contains("pusher:pong"));
        // Frames of one byte, with control frames between them.
        let mut bytes = frame(0x01, &ping[..1]);
        for byte in &ping[1..] {
            bytes.extend(frame(0x00, &[*byte]));
            bytes.extend(frame(0x89, b"?"));
        }
        bytes.extend(frame(0x80, b""));
        rude.0.send(&bytes);
        let mut pongs = 0;
        loop {
            match rude.frame().expect("it goes on") {
                (0x8a, payload) => {
                    assert_eq!(payload, b"?");
                    pongs += 1;
                }
                (0x81, pong) => {
                    assert!(String::from_utf8_lossy(&pong).contains("pusher:pong"));
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(pongs >= 1 && pongs < ping.len(), "{pongs}");
    }
}

#[test]
fn floods_cost_at_most_their_own_connection() {
    for server in Server::on_each_driver("limits.outbox_bytes_high_water = 65536\n") {
        let mut witness = Witness::of(&server);
        let mut pings = Rude::open(&server);
        let mut empties = Rude::open(&server);
        let mut nonsense = Rude::open(&server);
        // None of them ever reads; whoever does not take its answers is closed or no longer read.
        let floods = [
            (&mut pings, frame(0x89, &[b'x'; 125])),
            (&mut empties, frame(0x01, b"")),
            (&mut nonsense, frame(0x81, b"nonsense")),
        ];
        for (rude, frame) in floods {
            let nonblocking =
                rude.0.stream.set_write_timeout(Some(std::time::Duration::from_millis(200)));
            nonblocking.expect("a socket option");
            let many = frame.repeat(1000);
            for _ in 0..100 {
                rude.0.send(&many);
            }
        }
        witness.hears(&server, "floods");
    }
}

#[test]
fn a_thousand_frames_of_continuation_stay_within_the_limit() {
    for server in Server::on_each_driver("websocket.message_bytes_max = 4096\n") {
        let mut witness = Witness::of(&server);
        let mut rude = Rude::open(&server);
        rude.0.send(&frame(0x01, b"x"));
        rude.0.send(&frame(0x00, b"x").repeat(10_000));
        assert_eq!(rude.end(), Some(1009));
        witness.hears(&server, "continuations");
    }
}

#[test]
fn thousands_of_subscriptions_and_odd_names() {
    for server in Server::on_each_driver("pusher.subscriptions_per_connection_max = 3000\n") {
        let mut witness = Witness::of(&server);
        let mut peer = Peer::open(&server);
        let subscribe =
            |name: &str| format!(r#"{{"event":"pusher:subscribe","data":{{"channel":"{name}"}}}}"#);
        for n in 0..3000 {
            peer.say(&subscribe(&format!("many-{n}")));
        }
        for _ in 0..3000 {
            peer.next("pusher_internal:subscription_succeeded");
        }
        peer.say(&subscribe("one-too-many"));
        peer.next("pusher:error");
        assert_eq!(server.publish("many-2999", "e", "last").status, 200);
        assert!(peer.next("e").contains("last"));
        let mut odd = Peer::open(&server);
        for name in ["a,b", "a;b", "a=b@c", "-", "...", "private", "presence", "cache-", "client-x"]
        {
            odd.subscribe(name);
            assert_eq!(server.publish(name, "odd", name).status, 200, "{name}");
            assert!(odd.next("odd").contains(name));
        }
        for name in ["", " ", "a b", "a/b", "a\\\"b", "a\\u0000b", "\u{fc}", "a%2Cb", "a\\nb"] {
            odd.say(&subscribe(name));
            odd.next("pusher:error");
        }
        for text in [
            r#"{"event":"pusher:subscribe"}"#,
            r#"{"event":"pusher:subscribe","data":null}"#,
            r#"{"event":"pusher:subscribe","data":{}}"#,
            r#"{"event":"pusher:subscribe","data":{"channel":5}}"#,
            r#"{"event":"pusher:subscribe","data":{"channel":["a"]}}"#,
            r#"{"event":"pusher:subscribe","data":"not json"}"#,
            r#"{"event":"pusher:signin","data":{}}"#,
        ] {
            odd.say(text);
            odd.next("pusher:error");
        }
        odd.say(&format!(
            r#"{{"event":"pusher:ping","data":{}1{}}}"#,
            "[".repeat(5000),
            "]".repeat(5000)
        ));
        odd.say(&"[".repeat(100_000));
        odd.next("pusher:error");
        // A peer that leaves takes all its subscriptions along.
        drop(peer);
        witness.hears(&server, "subscriptions");
    }
}

#[test]
fn a_compression_bomb_is_stopped_at_the_limit() {
    for server in Server::on_each_driver("websocket.message_bytes_max = 65536\n") {
        let mut witness = Witness::of(&server);
        let mut tcp = server.connect();
        let request = crate::peer::handshake(&format!("/app/{}?protocol=7", APP.1));
        let offer = "Sec-WebSocket-Extensions: permessage-deflate\r\nHost:";
        let request = request.replace("Host:", offer);
        tcp.send(request.as_bytes());
        let head = tcp.head();
        assert!(head.contains("permessage-deflate"), "{head}");
        let mut rude = Rude(tcp);
        rude.frame().expect("a greeting");
        rude.0.send(&frame(0xc1, &bomb()));
        assert_eq!(rude.end(), Some(1009));
        witness.hears(&server, "a bomb");
    }
}

/// A deflate stream of 8 MiB of one byte: a fixed-Huffman block of that byte and copies of 258 at
/// distance 1, written bit by bit (RFC 1951, section 3.2.6), ended as RFC 7692 wants it.
fn bomb() -> Vec<u8> {
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0_u64, 0);
    let mut put = |value: u64, width: u32| {
        bits |= value << count;
        count += width;
        while count >= 8 {
            bytes.push(bits as u8);
            bits >>= 8;
            count -= 8;
        }
    };
    let reversed = |code: u64, width: u32| code.reverse_bits() >> (64 - width);
    put(0b010, 3); // Not final, fixed codes.
    put(reversed(0x30 + u64::from(b'x'), 8), 8);
    for _ in 0..(8 << 20) / 258 {
        put(reversed(0b1100_0101, 8), 8); // Length 258.
        put(0, 5); // Distance 1.
    }
    put(0, 7); // End of block.
    put(0, 3); // An empty stored block, whose four length bytes the message leaves out.
    put(0, 7);
    bytes
}
