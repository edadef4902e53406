//! Wire functions, each beside an oracle in the same run: nanoseconds per call and their ratio.
//!
//! `cargo bench --bench wire`; the least of several rounds counts, the two sides taking turns.

use std::hint::black_box;
use std::time::Instant;

use ringmain::wire::http::{HeadLimits, HeadScan, parse_head};
use ringmain::wire::json;
use ringmain::wire::websocket::deflate::{Compressor, Inflater};
use ringmain::wire::websocket::encode::{Compression, masked_frame};
use ringmain::wire::websocket::mask::unmask;
use ringmain::wire::websocket::{Decoder, Opcode, Role, Step};

const HANDSHAKE: &[u8] = b"GET /app/app-key?protocol=7&client=js&version=8.4.0&flash=false HTTP/1.1\r\n\
Host: 127.0.0.1:6001\r\nConnection: Upgrade\r\nPragma: no-cache\r\nCache-Control: no-cache\r\n\
User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36\r\n\
Upgrade: websocket\r\nOrigin: https://example.com\r\nSec-WebSocket-Version: 13\r\n\
Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-GB,en;q=0.9\r\n\
Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n";

const PUBLISH: &[u8] = b"POST /apps/app-id/events?auth_key=app-key&auth_timestamp=1700000000&auth_version=1.0\
&body_md5=0123456789abcdef0123456789abcdef&auth_signature=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef HTTP/1.1\r\n\
Host: 127.0.0.1:6001\r\nContent-Type: application/json\r\nContent-Length: 180\r\nConnection: keep-alive\r\n\r\n";

fn main() {
    heads();
    masks();
    messages();
    scans();
    compression();
}

/// Prints both sides' least time per call; `theirs` is the oracle.
fn compare(name: &str, oracle: &str, mut ours: impl FnMut(), mut theirs: impl FnMut()) {
    let (ours, theirs) = least(&mut ours, &mut theirs);
    println!("{name:32} {ours:9.1} ns   {oracle:28} {theirs:9.1} ns   ratio {:.2}", ours / theirs);
}

fn least(ours: &mut dyn FnMut(), theirs: &mut dyn FnMut()) -> (f64, f64) {
    let calls = |run: &mut dyn FnMut()| {
        let mut calls = 1u32;
        while time(run, calls) * f64::from(calls) < 5e6 {
            calls *= 2;
        }
        calls
    };
    let (our_calls, their_calls) = (calls(ours), calls(theirs));
    (0..15).fold((f64::MAX, f64::MAX), |(a, b), _| {
        (a.min(time(ours, our_calls)), b.min(time(theirs, their_calls)))
    })
}

/// Nanoseconds per call.
fn time(run: &mut dyn FnMut(), calls: u32) -> f64 {
    let start = Instant::now();
    for _ in 0..calls {
        run();
    }
    start.elapsed().as_nanos() as f64 / f64::from(calls)
}

fn heads() {
    let limits = HeadLimits { target_bytes_max: 8192, head_bytes_max: 16384, head_fields_max: 64 };
    for (name, head) in [("head, browser handshake", HANDSHAKE), ("head, publish", PUBLISH)] {
        let mut fields = Vec::with_capacity(64);
        compare(
            name,
            "httparse, syntax only",
            || {
                let parsed =
                    parse_head(black_box(head), &mut HeadScan::default(), &limits, &mut fields);
                assert!(black_box(parsed).is_ok());
            },
            || {
                let mut slots = [httparse::EMPTY_HEADER; 64];
                let mut request = httparse::Request::new(&mut slots);
                assert!(black_box(request.parse(black_box(head))).is_ok());
            },
        );
    }
}

fn masks() {
    for len in [16, 128, 1024, 65536] {
        let (mut a, mut b) = (vec![7u8; len], vec![7u8; len]);
        compare(
            &format!("unmask {len} B"),
            "byte by byte",
            || unmask(black_box(&mut a), black_box([1, 2, 3, 4]), 0),
            || {
                let key = black_box([1, 2, 3, 4]);
                for (i, byte) in black_box(&mut b).iter_mut().enumerate() {
                    *byte ^= key[i % 4];
                }
            },
        );
    }
}

fn messages() {
    for len in [128, 1024] {
        let frame = masked_frame(Opcode::Text, Compression::Plain, &vec![b'x'; len], [1, 2, 3, 4]);
        let (mut a, mut b) = (frame.clone(), frame.clone());
        let mut decoder = Decoder::new(Role::Server, 1 << 20, false);
        let mut assembly = Vec::new();
        compare(
            &format!("decode a {len} B text"),
            "copy and from_utf8 alone",
            || {
                a.copy_from_slice(&frame);
                let mut input = &mut a[..];
                assert!(matches!(
                    black_box(decoder.next(&mut input, &mut assembly)),
                    Ok(Step::Text(_))
                ));
            },
            || {
                b.copy_from_slice(&frame);
                let _ = black_box(std::str::from_utf8(black_box(&b[8..])));
            },
        );
    }
}

fn scans() {
    let inner = r#"{\"id\":123,\"text\":\"hello\",\"tags\":[1,2,3]}"#.repeat(20);
    let string = format!(r#"{{"name":"my-event","channel":"private-room-1","data":"{inner}"}}"#);
    let object =
        r#"{"id":123,"text":"hello there","tags":[1,2.5,null,true],"user":{"name":"ann"}},"#
            .repeat(12);
    let object = format!(
        r#"{{"name":"my-event","channels":["a","b"],"data":[{}]}}"#,
        object.trim_end_matches(',')
    );
    for (name, text) in [("string data", &string), ("object data", &object)] {
        compare(
            &format!("json, 1 KiB {name}"),
            "serde_json::Value",
            || {
                let mut found = 0;
                let text = std::str::from_utf8(black_box(text.as_bytes()));
                let read = text
                    .map(|text| json::read_object(text, |_, value| found += value.text().len()));
                assert!(matches!(read, Ok(Ok(()))) && black_box(found) > 0);
            },
            || {
                assert!(
                    black_box(serde_json::from_slice::<serde_json::Value>(black_box(
                        text.as_bytes()
                    )))
                    .is_ok()
                )
            },
        );
        compare(
            &format!("json, 1 KiB {name}"),
            "serde_json::IgnoredAny",
            || assert!(black_box(json::parse(black_box(text.as_bytes()))).is_ok()),
            || {
                let ignored =
                    serde_json::from_slice::<serde::de::IgnoredAny>(black_box(text.as_bytes()));
                assert!(black_box(ignored).is_ok());
            },
        );
    }
}

fn compression() {
    let payload =
        r#"{"id":123,"text":"hello there","tags":[1,2.5,null,true],"user":{"name":"ann"}},"#
            .repeat(13);
    let payload = &payload.as_bytes()[..1024];
    let (mut six, mut one, mut inflater) =
        (Compressor::new(6), Compressor::new(1), Inflater::new());
    let mut compressed = Vec::new();
    assert!(six.compress(payload, &mut compressed));
    let mut out = Vec::new();
    compare(
        "deflate 1 KiB, level 6",
        "level 1",
        || {
            out.clear();
            assert!(six.compress(black_box(payload), &mut out));
        },
        || {
            compressed.clear();
            assert!(one.compress(black_box(payload), &mut compressed));
        },
    );
    let mut fresh = Vec::new();
    compare(
        "inflate 1 KiB",
        "deflate, a new compressor",
        || assert!(black_box(inflater.inflate(&compressed, 4096)).is_ok()),
        || {
            fresh.clear();
            assert!(Compressor::new(6).compress(black_box(payload), &mut fresh));
        },
    );
}
