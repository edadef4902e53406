//! MessagePack and Protobuf: whatever comes is refused or stands for one JSON object, and what was written and read
//! once stays as it is, but for extras: a list of two there may say what its second item is.
//!
//! The first byte says which format.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringmain::dialects::pusher::formats::Format;
use ringmain::wire::{json, msgpack, protobuf};
use serde_json::Value;

fn read(format: Format, bytes: &[u8]) -> Option<(String, Value)> {
    let text = format.decode(bytes).ok()?;
    assert_eq!(json::parse_str(&text).expect("it is JSON").kind(), json::Kind::Object, "{text}");
    let value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    Some((text, value))
}

fuzz_target!(|input: &[u8]| {
    let Some((first, bytes)) = input.split_first() else { return };
    let format = if first & 1 == 0 { Format::MessagePack } else { Format::Protobuf };
    // Value by value, nothing is read twice and nothing hangs.
    let mut reader = msgpack::Reader::new(bytes);
    let mut at = 0;
    while !reader.is_empty() && reader.read().is_ok() {
        assert!(reader.at() > at);
        at = reader.at();
    }
    assert!(protobuf::Fields::new(bytes).count() <= bytes.len());
    let Some((text, _)) = read(format, bytes) else { return };
    let again = |text: &str| read(format, &format.encoded(text.as_bytes())).expect("what we write is read");
    let (text, mut once) = again(&text);
    let (_, mut twice) = again(&text);
    for value in [&mut once, &mut twice] {
        value.as_object_mut().expect("it is an object").remove("extras");
    }
    assert_eq!(once, twice);
});
