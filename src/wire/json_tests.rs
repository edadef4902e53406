use serde::de::IgnoredAny;
use serde_json::Value;

use super::*;
use crate::base::prng::Prng;

const GOOD: &[&str] = &[
    "null",
    "true",
    "false",
    "0",
    "-0",
    "12",
    "-1.5e+10",
    "0.0",
    "1E1",
    "18446744073709551615",
    "\"\"",
    "\"a\"",
    "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\"",
    "\"é€😀\"",
    "\"\\ud83d\\ude00\"",
    "[]",
    "[ ]",
    "{}",
    "{ }",
    "[1]",
    "[1,2]",
    " [ 1 , \"]\" , {\"}\" : [ ] } ] ",
    "{\"a\":1}",
    "{\"a\":{\"b\":[{}]},\"c\":\"d\"}",
    "{\"a\":1,\"a\":2}",
    "\t\r\n 1 \n",
    "[[],[[]],{}]",
    "{\"\":\"\"}",
    "\"0123456789abcdef0123456789\"",
    "1e400",
];

const BAD: &[&str] = &[
    "",
    " ",
    "nul",
    "nulll",
    "True",
    "01",
    "-",
    "+1",
    ".5",
    "1.",
    "1e",
    "1e+",
    "0x1",
    "1a",
    "NaN",
    "Infinity",
    "'a'",
    "\"",
    "\"a",
    "\"\\",
    "\"\\x\"",
    "\"\\u12\"",
    "\"\\u12g4\"",
    "\"\n\"",
    "\"\0\"",
    "\"\u{1f}\"",
    "\"01234567\n\"",
    "[",
    "]",
    "[1",
    "[1,",
    "[1,]",
    "[,1]",
    "[1 2]",
    "[1}",
    "{",
    "}",
    "{]",
    "{\"a\"",
    "{\"a\":",
    "{\"a\":1",
    "{\"a\":1,",
    "{\"a\":1,}",
    "{\"a\" 1}",
    "{a:1}",
    "{1:1}",
    "{\"a\":1 \"b\":2}",
    "{,}",
    "1 2",
    "{}{}",
    "[]]",
    "\u{feff}1",
    "/**/1",
    "\u{a0}1",
    "1\u{c}",
    "{\"a\":}",
    "[:]",
    "{:}",
];

/// The value serde_json makes of a text, by way of our accessors.
fn rebuild(raw: Raw<'_>) -> Value {
    match raw.kind() {
        Kind::Null => Value::Null,
        Kind::Bool => Value::Bool(raw.as_bool().unwrap()),
        Kind::Number => serde_json::from_str(raw.text()).unwrap(),
        Kind::String => Value::String(raw.as_str().unwrap().into_owned()),
        Kind::Array => Value::Array(raw.items().map(rebuild).collect()),
        Kind::Object => Value::Object(
            raw.members().map(|(name, value)| (name.into_owned(), rebuild(value))).collect(),
        ),
    }
}

#[test]
fn the_tables_hold() {
    for text in GOOD {
        let raw = parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text:?}: {error}"));
        assert_eq!(raw.text(), text.trim(), "{text:?}");
        if let Ok(value) = serde_json::from_str::<Value>(text) {
            assert_eq!(rebuild(raw), value, "{text:?}");
        }
    }
    for text in BAD {
        assert!(parse(text.as_bytes()).is_err(), "{text:?}");
        assert!(read_object(text, |_, _| {}).is_err(), "{text:?}");
        let inside = format!("{{\"a\":{text}}}");
        assert!(parse(inside.as_bytes()).is_err(), "{inside:?}");
        assert!(read_object(&inside, |_, _| {}).is_err(), "{inside:?}");
    }
    for bytes in [&b"\"\xff\""[..], b"\"\xe2\x82\"", b"\"\xed\xa0\x80\"", b"\xef\xbb"] {
        assert_eq!(parse(bytes), Err(JsonError::Utf8));
    }
}

#[test]
fn strings_are_resolved() {
    let cases: &[(&str, &str)] = &[
        ("\"\"", ""),
        ("\"plain\"", "plain"),
        (r#""\"\\\/\b\f\n\r\t""#, "\"\\/\u{8}\u{c}\n\r\t"),
        (r#""a\u0000b""#, "a\0b"),
        (r#""\u20AC\u00e9""#, "€é"),
        (r#""\uD83D\uDE00""#, "😀"),
        (r#""\uD83D""#, "\u{fffd}"),
        (r#""\uDE00\uD83D""#, "\u{fffd}\u{fffd}"),
        (r#""\uD83D\u0041""#, "\u{fffd}A"),
        (r#""\uD83D\uD83D\uDE00""#, "\u{fffd}😀"),
        (r#""\uD83Dx\\u""#, "\u{fffd}x\\u"),
    ];
    for (text, want) in cases {
        assert_eq!(parse_str(text).unwrap().as_str().as_deref(), Some(*want), "{text}");
    }
    assert!(matches!(parse_str("\"plain\"").unwrap().as_str(), Some(Cow::Borrowed(_))));
    assert_eq!(parse_str("1").unwrap().as_str(), None);
}

#[test]
fn scalars_are_read() {
    type Case = (&'static str, Option<bool>, Option<u64>, Option<i64>, Option<f64>);
    let cases: &[Case] = &[
        ("true", Some(true), None, None, None),
        ("null", None, None, None, None),
        ("\"1\"", None, None, None, None),
        ("7", None, Some(7), Some(7), Some(7.0)),
        ("-7", None, None, Some(-7), Some(-7.0)),
        ("1.0", None, None, None, Some(1.0)),
        ("1e2", None, None, None, Some(100.0)),
        ("18446744073709551616", None, None, None, Some(18446744073709551616.0)),
        ("[1]", None, None, None, None),
    ];
    for (text, boolean, unsigned, signed, float) in cases {
        let raw = parse_str(text).unwrap();
        assert_eq!(
            (raw.as_bool(), raw.as_u64(), raw.as_i64(), raw.as_f64()),
            (*boolean, *unsigned, *signed, *float)
        );
    }
}

#[test]
fn members_come_in_order_and_the_last_wins() {
    let text = r#" {"a":1,"b":{"a":[2]},"a":"3\"}", "c\n" : null } "#;
    let want = [("a", "1"), ("b", r#"{"a":[2]}"#), ("a", r#""3\"}""#), ("c\n", "null")];
    let raw = parse_str(text).unwrap();
    let members: Vec<_> =
        raw.members().map(|(name, value)| (name.into_owned(), value.text())).collect();
    assert_eq!(members.iter().map(|(name, value)| (&**name, *value)).collect::<Vec<_>>(), want);
    let mut read = Vec::new();
    read_object(text, |name, value| read.push((name.into_owned(), value.text()))).unwrap();
    assert_eq!(read, members);
    assert_eq!(raw.member("a").map(Raw::text), Some(r#""3\"}""#));
    assert_eq!(raw.member("d"), None);
    assert_eq!(raw.items().count(), 0);
    assert_eq!(parse_str("[1]").unwrap().members().count(), 0);
    for (text, error) in
        [("[]", JsonError::NotAnObject), ("1", JsonError::NotAnObject), ("", JsonError::Unfinished)]
    {
        assert_eq!(read_object(text, |_, _| {}), Err(error), "{text}");
    }
}

#[test]
fn escapes_may_stand_anywhere() {
    // Each piece at each place of two words, with quotes, ends and errors behind it.
    const PIECES: &[&str] = &[
        "\\\"",
        "\\n",
        "\\\\",
        "\\\\\\",
        "\\\\\\\\",
        "\\u00e9",
        "\\x",
        "\\u00g0",
        "\\u12",
        "\\",
        "\n",
        "\"",
        "é",
        "\\\"\\\"\\\"\\\"\\\"",
        "\\u00e9\\u00e9",
    ];
    for piece in PIECES {
        for before in 0..20 {
            for after in [0, 1, 3, 8, 17] {
                let text = format!("\"{}{piece}{}\"", "a".repeat(before), "b".repeat(after));
                let theirs = serde_json::from_str::<String>(&text);
                let ours = parse_str(&text);
                assert_eq!(ours.is_ok(), theirs.is_ok(), "{text}");
                if let (Ok(ours), Ok(theirs)) = (ours, theirs) {
                    assert_eq!(ours.as_str().as_deref(), Some(&*theirs), "{text}");
                }
            }
        }
    }
    for byte in 0..=255u8 {
        let exact =
            specials_exact(u64::from_le_bytes([b'a', byte, b'"', byte, 0x80, 0x1f, byte, 0x21]));
        let special = byte < 0x20 || byte == b'"' || byte == b'\\';
        let marks = exact.to_le_bytes().map(|byte| byte == 0x80);
        assert_eq!(marks, [false, special, true, special, false, true, special, false], "{byte}");
    }
}

#[test]
fn depth_is_bounded() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let nest = |depth: usize| {
            let inner = if open == "[" { "" } else { "1" };
            format!("{}{inner}{}", open.repeat(depth), close.repeat(depth))
        };
        assert!(parse_str(&nest(DEPTH_MAX)).is_ok());
        assert_eq!(parse_str(&nest(DEPTH_MAX + 1)), Err(JsonError::TooDeep));
        assert_eq!(parse_str(&open.repeat(1_000_000)), Err(JsonError::TooDeep));
        let object = |depth| read_object(&format!("{{\"x\":{}}}", nest(depth)), |_, _| {});
        assert_eq!((object(DEPTH_MAX - 1), object(DEPTH_MAX)), (Ok(()), Err(JsonError::TooDeep)));
    }
}

#[test]
fn what_is_written_reads_back() {
    for text in ["", "plain", "\"\\\n\r\t\u{8}\u{c}\0\u{1f}\u{7f}/é€😀", "01234567\"89abcdef\\"]
    {
        let mut out = Vec::new();
        write_str(&mut out, text);
        assert_eq!(parse(&out).unwrap().as_str().as_deref(), Some(text));
        assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        assert_eq!(out, serde_json::to_vec(text).unwrap());
    }
    for (raw, want) in
        [("\"a\\n\"", "\"a\\n\""), ("{\"a\":\"b\"}", r#""{\"a\":\"b\"}""#), ("1", "\"1\"")]
    {
        let mut out = Vec::new();
        write_str_of_raw(&mut out, parse_str(raw).unwrap());
        assert_eq!(std::str::from_utf8(&out), Ok(want));
    }
}

/// Runs of JSON's own pieces, mostly wrong, often nearly right.
fn random_text(prng: &mut Prng) -> String {
    const PIECES: &[&str] = &[
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\"a\"",
        "\"a\":",
        "1",
        "-",
        "0",
        ".5",
        "e9",
        "true",
        "null",
        " ",
        "\\",
        "\\n",
        "\\u00e9",
        "\\ud83d",
        "é",
        "\n",
        "longer text without any end",
    ];
    let mut text = if prng.chance(1, 2) {
        GOOD[prng.below(GOOD.len() as u64) as usize].to_owned()
    } else {
        String::new()
    };
    for _ in 0..prng.below(8) {
        let mut at = prng.below(text.len() as u64 + 1) as usize;
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        text.insert_str(at, PIECES[prng.below(PIECES.len() as u64) as usize]);
    }
    text
}

#[test]
fn serde_json_agrees() {
    let (mut prng, mut good) = (Prng::new(17), 0);
    for round in 0..60_000 {
        let text = random_text(&mut prng);
        let theirs = serde_json::from_str::<IgnoredAny>(&text).is_ok();
        let ours = parse_str(&text);
        assert_eq!(ours.is_ok(), theirs, "round {round}: {text:?}: {ours:?}");
        let Ok(raw) = ours else { continue };
        good += 1;
        // A lone surrogate is good JSON that serde_json cannot hold.
        if let Ok(value) = serde_json::from_str::<Value>(&text) {
            assert_eq!(rebuild(raw), value, "round {round}: {text:?}");
        }
        let object = read_object(&text, |_, _| {});
        assert_eq!(object.is_ok(), raw.kind() == Kind::Object, "round {round}: {text:?}");
    }
    assert!(good > 5000, "only {good} were good");
}

#[test]
fn what_stands_between_parts_is_left_out_and_nothing_else() {
    for (text, compact) in [
        (r#" { "a b" : [ 1 , "c \" d" ] } "#, r#"{"a b":[1,"c \" d"]}"#),
        (r#"{"a":"\\", "b" : " "}"#, r#"{"a":"\\","b":" "}"#),
        ("\t\"é \\u0022 x\"\n", "\"é \\u0022 x\""),
        ("{}", "{}"),
    ] {
        assert_eq!(parse_str(text).expect("JSON").compact(), compact, "{text}");
    }
}
