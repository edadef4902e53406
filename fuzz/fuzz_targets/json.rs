//! JSON: serde_json takes and refuses the same texts and reads the same values.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringmain::wire::json::{DEPTH_MAX, JsonError, Kind, Raw, parse, read_object, write_str, write_str_of_raw};
use serde::de::IgnoredAny;
use serde_json::Value;

fn rebuild(raw: Raw<'_>) -> Value {
    match raw.kind() {
        Kind::Null => Value::Null,
        Kind::Bool => Value::Bool(raw.as_bool().unwrap()),
        Kind::Number => serde_json::from_str(raw.text()).unwrap(),
        Kind::String => Value::String(raw.as_str().unwrap().into_owned()),
        Kind::Array => Value::Array(raw.items().map(rebuild).collect()),
        Kind::Object => {
            Value::Object(raw.members().map(|(name, value)| (name.into_owned(), rebuild(value))).collect())
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let ours = parse(input);
    let depth = input.iter().filter(|byte| matches!(byte, b'{' | b'[')).count();
    let Ok(text) = std::str::from_utf8(input) else {
        assert_eq!(ours, Err(JsonError::Utf8));
        return;
    };
    // serde_json has a depth limit of its own, one below ours.
    if depth < DEPTH_MAX - 1 {
        let theirs = serde_json::from_str::<IgnoredAny>(text);
        assert_eq!(ours.is_ok(), theirs.is_ok());
        if let (Ok(raw), Ok(value)) = (ours, serde_json::from_str::<Value>(text)) {
            assert_eq!(rebuild(raw), value);
        }
    }
    let mut members = Vec::new();
    let read = read_object(text, |name, value| members.push((name.into_owned(), value.text().to_owned())));
    if let Ok(raw) = ours {
        assert_eq!(read.is_ok(), raw.kind() == Kind::Object);
        if read.is_ok() {
            assert!(raw.members().map(|(name, value)| (name.into_owned(), value.text().to_owned())).eq(members));
        }
        let mut out = Vec::new();
        write_str_of_raw(&mut out, raw);
        let string = parse(&out).unwrap();
        assert!(string.kind() == Kind::String);
    } else {
        assert!(read.is_err());
    }
    let mut out = Vec::new();
    write_str(&mut out, text);
    assert_eq!(parse(&out).unwrap().as_str().as_deref(), Some(text));
});
