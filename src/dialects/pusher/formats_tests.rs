use serde_json::{Value, json};

use super::*;
use crate::base::prng::Prng;
use crate::wire::{msgpack as mp, protobuf as pb};

fn decoded(format: Format, bytes: &[u8]) -> Result<Value, DecodeError> {
    let text = format.decode(bytes)?;
    Ok(serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
}

/// Frames as they are sent, with everything that has a place.
const FRAMES: [&str; 7] = [
    r#"{"event":"sockudo:pong"}"#,
    r#"{"event":"e","channel":"c","data":"text \" é","message_id":"m"}"#,
    r#"{"event":"sockudo:error","data":{"code":4000,"message":"x"},"message_id":"m"}"#,
    r#"{"event":"e","channel":"c","data":null,"user_id":"u","serial":18446744073709551615}"#,
    r#"{"event":"e","channel":"c","data":[1,{"a":-2.5}],"name":"n","user_id":"u","tags":{"a":"1","b":""},"sequence":1,"conflation_key":"k","message_id":"m","stream_id":"s","serial":300,"idempotency_key":"i","extras":{"headers":{"t":"x","n":1.5,"b":false},"ephemeral":true,"idempotencyKey":"j","echo":false,"ai":{"transport":{"a":"b"},"codec":{"c":"d"}}},"__delta_seq":0,"__conflation_key":"l"}"#,
    r#"{"event":"e","channel":"c","data":"","extras":{"ephemeral":true}}"#,
    r#"{"event":"sockudo:channel_history","channel":"c","data":{"items":[]}}"#,
];

#[test]
fn what_is_written_in_a_format_reads_as_what_it_was() {
    for frame in FRAMES {
        let json: Value = serde_json::from_str(frame).unwrap();
        for format in [Format::Json, Format::MessagePack, Format::Protobuf] {
            let bytes = format.encoded(frame.as_bytes());
            assert_eq!(decoded(format, &bytes), Ok(json.clone()), "{}: {frame}", format.name());
        }
    }
}

#[test]
fn what_is_cut_short_is_refused_or_less() {
    for frame in FRAMES {
        let bytes = Format::MessagePack.encoded(frame.as_bytes());
        for short in 0..bytes.len() {
            let unfinished = Err(DecodeError::MessagePack(MsgpackError::Unfinished));
            assert_eq!(decoded(Format::MessagePack, &bytes[..short]), unfinished, "{frame}");
        }
        let mut more = bytes.clone();
        more.push(0xc0);
        assert_eq!(decoded(Format::MessagePack, &more), Err(DecodeError::Trailing));
        let bytes = Format::Protobuf.encoded(frame.as_bytes());
        for short in 0..bytes.len() {
            // Cut between two fields, it is a message with fewer.
            if let Err(error) = decoded(Format::Protobuf, &bytes[..short]) {
                assert_eq!(error, DecodeError::Protobuf(ProtobufError::Unfinished), "{frame}");
            }
        }
    }
}

/// Byte for byte what Sockudo 5.2.0 sends, except that extras are the map that its clients read.
#[test]
fn frames_are_the_bytes_that_clients_know() {
    let greeting = br#"{"event":"sockudo:connection_established","data":"{}","message_id":"m"}"#;
    let mut bytes = b"\x9f\xbesockudo:connection_established\xc0\x92\xa6string\xa2{}".to_vec();
    bytes.extend_from_slice(b"\xc0\xc0\xc0\xc0\xc0\xa1m\xc0\xc0\xc0\xc0\xc0\xc0");
    assert_eq!(Format::MessagePack.encoded(greeting), bytes);
    let mut bytes = b"\x0a\x1esockudo:connection_established".to_vec();
    bytes.extend_from_slice(b"\x1a\x04\x0a\x02{}\x4a\x01m");
    assert_eq!(Format::Protobuf.encoded(greeting), bytes);

    let pong = br#"{"event":"sockudo:pong"}"#;
    let mut bytes = b"\x9f\xacsockudo:pong".to_vec();
    bytes.extend_from_slice(&[0xc0; 14]);
    assert_eq!(Format::MessagePack.encoded(pong), bytes);
    assert_eq!(Format::Protobuf.encoded(pong), b"\x0a\x0csockudo:pong");

    let event = br#"{"event":"e","channel":"c","data":{"n":1},"tags":{"t":"1"},"stream_id":"s","serial":300,"extras":{"headers":{"n":1.0,"s":"x","b":true}}}"#;
    assert_eq!(
        Format::MessagePack.encoded(event),
        b"\x9f\xa1e\xa1c\x92\xa4json\xa7{\"n\":1}\xc0\xc0\x81\xa1t\xa11\xc0\xc0\xc0\xa1s\xcd\x01\x2c\xc0\
          \x81\xa7headers\x83\xa1n\x92\xa6number\xcb\x3f\xf0\0\0\0\0\0\0\xa1s\x92\xa6string\xa1x\
          \xa1b\x92\xa4bool\xc3\xc0\xc0"
    );
    assert_eq!(
        Format::Protobuf.encoded(event),
        b"\x0a\x01e\x12\x01c\x1a\x09\x1a\x07{\x22n\x22:1}2\x06\x0a\x01t\x12\x011R\x01sX\xac\x02j#\x0a\x0e\x0a\x01n\x12\x09\x11\x00\x00\x00\x00\x00\x00\xf0?\x0a\x08\x0a\x01s\x12\x03\x0a\x01x\x0a\x07\x0a\x01b\x12\x02\x18\x01"
    );
}

#[test]
fn what_clients_write_is_read() {
    // The clients' array: data says what it is, extras are a map whose headers say so as well.
    let array = |data: &[u8], extras: &[u8]| {
        let mut out = Vec::new();
        mp::write_array(&mut out, 15);
        mp::write_str(&mut out, "client-x");
        mp::write_str(&mut out, "private-c");
        out.extend_from_slice(data);
        out.extend_from_slice(&[0xc0; 9]);
        out.extend_from_slice(extras);
        out.extend_from_slice(&[0xc0; 2]);
        out
    };
    for (data, json) in [
        (&b"\xc0"[..], Value::Null),
        (b"\x92\xa6string\xa3abc", json!("abc")),
        (b"\x92\xa4json\xa7{\"n\":1}", json!({"n": 1})),
        // What would be more than one value stays text.
        (b"\x92\xa4json\xa9,\"a\":1,\"b", json!(",\"a\":1,\"b")),
        (b"\x92\xa6binary\xc4\x03\x00\x7f\xff", json!([0, 127, 255])),
        (b"\x92\xa6number\xcb\x3f\xf8\0\0\0\0\0\0", json!(1.5)),
        (b"\x92\xa4bool\xc3", json!(true)),
        (
            b"\x92\xaastructured\x94\xa2cd\xa1c\xc0\x82\xa1a\xa11\xa1b\xa1x",
            json!({"channel_data": "cd", "channel": "c", "a": 1, "b": "x"}),
        ),
        (b"\x92\xaastructured\x81\xa7channel\xa1c", json!({"channel": "c"})),
        (b"\xa3abc", json!("abc")),
        (b"\x92\xa5other\x01", json!(["other", 1])),
        (b"\x93\xa6string\x01\x02", json!(["string", 1, 2])),
        (b"\x81\xa1a\x92\xff\xc2", json!({"a": [-1, false]})),
        (b"\xcb\x7f\xf8\0\0\0\0\0\0", Value::Null),
        (b"\xcb\x7f\xef\xff\xff\xff\xff\xff\xff", json!(f64::MAX)),
    ] {
        let read = decoded(Format::MessagePack, &array(data, b"\xc0")).unwrap();
        assert_eq!(read["event"], "client-x");
        assert_eq!(read["channel"], "private-c");
        assert_eq!(read.get("data").unwrap_or(&Value::Null), &json, "{data:x?}");
    }
    let extras = json!({"headers": {"n": 1.5, "b": true, "s": "x"}, "echo": false});
    for written in [
        &b"\x82\xa7headers\x83\xa1n\x92\xa6number\xcb\x3f\xf8\0\0\0\0\0\0\xa1b\x92\xa4bool\xc3\
           \xa1s\x92\xa6string\xa1x\xa4echo\xc2"[..],
        b"\x95\x83\xa1n\x92\xa6number\xcb\x3f\xf8\0\0\0\0\0\0\xa1b\x92\xa4bool\xc3\
          \xa1s\x92\xa6string\xa1x\xc0\xc0\xc2\xc0",
    ] {
        let read = decoded(Format::MessagePack, &array(b"\xc0", written)).unwrap();
        assert_eq!(read["extras"], extras);
    }
    // A map by name, with more in it than is known.
    let map = b"\x83\xa5event\xa1e\xa5other\x81\xa1a\x01\xa4data\x92\xa6string\xa1x";
    assert_eq!(decoded(Format::MessagePack, map), Ok(json!({"event": "e", "data": "x"})));

    let mut bytes = Vec::new();
    pb::write_bytes(&mut bytes, 1, b"e");
    pb::write_bytes(&mut bytes, 99, b"unknown");
    for (data, json) in [
        (&b"\x0a\x01x"[..], json!("x")),
        (b"\x1a\x07{\"n\":1}", json!({"n": 1})),
        (b"\x1a\x01{", json!("{")),
        (b"\x22\x02\x00\xff", json!([0, 255])),
        (b"", Value::Null),
        (
            b"\x12\x11\x0a\x02cd\x12\x01c\x22\x08\x0a\x01a\x12\x03[1]",
            json!({"channel_data": "cd", "channel": "c", "a": [1]}),
        ),
        (b"\x0a\x01x\x1a\x01y", json!("y")),
    ] {
        let mut bytes = bytes.clone();
        pb::write_bytes(&mut bytes, 3, data);
        let read = decoded(Format::Protobuf, &bytes).unwrap();
        assert_eq!(read, json!({"event": "e", "data": json}), "{data:x?}");
    }
}

#[test]
fn what_is_no_message_is_refused() {
    use DecodeError::*;
    for (bytes, error) in [
        (&b""[..], MessagePack(MsgpackError::Unfinished)),
        (b"{\"event\":\"x\"}", NotAnEnvelope),
        (b"\x9f\xc1", MessagePack(MsgpackError::Head { at: 1 })),
        (b"\xdd\xff\xff\xff\xff\xc0", MessagePack(MsgpackError::Unfinished)),
        (b"\x81\x01\x01", Key),
        (b"\x93\xc0\xc0\x81\x01\x01", Key),
        (b"\x91\xa1\xff", MessagePack(MsgpackError::Utf8 { at: 1 })),
        (&[&[0x93, 0xc0, 0xc0][..], &[0x91; 40], &[0x01]].concat(), TooDeep),
        (b"\xa1x", NotAnEnvelope),
    ] {
        assert_eq!(decoded(Format::MessagePack, bytes), Err(error), "{bytes:x?}");
    }
    for (bytes, error) in [
        (&b"\x0b"[..], Protobuf(ProtobufError::Field { at: 0 })),
        (b"\x0a\x01\xff", Utf8),
        (b"\x1a\x03\x0a\x01\xff", Utf8),
        (b"\x1a\x01\x0a", Protobuf(ProtobufError::Unfinished)),
    ] {
        assert_eq!(decoded(Format::Protobuf, bytes), Err(error), "{bytes:x?}");
    }
}

#[test]
fn whatever_comes_is_refused_or_stands_for_one_object() {
    for seed in 0..20_000 {
        let mut random = Prng::new(seed);
        let format = [Format::MessagePack, Format::Protobuf][random.below(2) as usize];
        let frame = FRAMES[random.below(FRAMES.len() as u64) as usize];
        let mut bytes = format.encoded(frame.as_bytes());
        for _ in 0..1 + random.below(4) {
            let at = random.below(bytes.len() as u64) as usize;
            match random.below(4) {
                0 => bytes[at] = random.next_u32() as u8,
                1 => bytes.insert(at, random.next_u32() as u8),
                2 => drop(bytes.splice(at..at, b"\x92\xa6string".iter().copied())),
                _ => bytes.truncate(at + 1),
            }
        }
        let Ok(text) = format.decode(&bytes) else { continue };
        let read = json::parse_str(&text).unwrap_or_else(|it| panic!("seed {seed}: {it}: {text}"));
        assert_eq!(read.kind(), Kind::Object, "seed {seed}: {text}");
        // What we write is read.
        let again = format.decode(&format.encoded(text.as_bytes()));
        assert!(again.is_ok(), "seed {seed}: {text}: {again:?}");
    }
}
