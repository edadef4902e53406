//! Tokens: claims of any kind give rights that agree with each other, patterns match by definition, local times are
//! the moments they are, and nobody signs without the key.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use ringmain::auth::keyring::{KeySlot, Keyring};
use ringmain::base::time::{Millis, UnixMillis};
use ringmain::config::Secret;
use ringmain::dialects::hotsock::claims::{Claims, EXPRESSIONS_BYTES_MAX};
use ringmain::dialects::hotsock::rights::{Observes, Reactions, Rights};
use ringmain::dialects::hotsock::{at, names, patterns::PATTERN_BYTES_MAX};
use ringmain::wire::json;

fuzz_target!(|input: (u8, &str)| {
    let (which, text) = input;
    match which % 4 {
        0 => claims(text),
        1 => patterns(text),
        2 => times(text),
        _ => signatures(text),
    }
});

/// Names that are looked at beside those which the claims have.
const NAMES: [&str; 5] = ["a", "ab", "room.1", "chat", "hotsock.messageReaction"];

fn claims(text: &str) {
    let Ok(claims) = Claims::parse(text) else { return };
    let value: serde_json::Value = serde_json::from_str(text).expect("what is taken is JSON");
    assert!(value.is_object());
    let compact = String::from_utf8(names::compact(text)).expect("white space is ASCII");
    assert_eq!(names::compact_len(text), compact.len());
    let again = Claims::parse(&compact).expect("white space says nothing");
    assert_eq!(again.held_bytes(), claims.held_bytes());
    assert!(claims.held_bytes() < EXPRESSIONS_BYTES_MAX + (4 << 20));
    assert!(!claims.single_use || claims.jti.is_some());

    let connect = Rights { connect: &claims, subscribe: None };
    // With itself beside it a token allows what it allows.
    let both = Rights { connect: &claims, subscribe: Some(&again) };
    let own: Vec<&str> = claims.literal_channels().take(8).collect();
    for channel in NAMES.into_iter().chain(own.iter().copied()) {
        assert_eq!(connect.may_subscribe(channel), both.may_subscribe(channel));
        assert_eq!(connect.history_start(channel), both.history_start(channel));
        assert_eq!(connect.alias(channel), both.alias(channel));
        for event in NAMES {
            let rights = connect.message(channel, event);
            assert_eq!(rights, both.message(channel, event));
            assert!(rights.may_publish(true) || !rights.may_publish(false));
            assert!(!matches!(&rights.react, Reactions::Some(all) if all.is_empty()));
        }
        let (observes, gets) = (connect.observes(channel), connect.gets(channel));
        for key in NAMES {
            let rights = connect.storage(channel, key);
            assert_eq!(rights, both.storage(channel, key));
            for (keys, expected) in [(&observes, rights.observe), (&gets, rights.get)] {
                let found = match keys {
                    Observes::Nothing => false,
                    Observes::Everything => true,
                    Observes::Some(keys) => keys.0.admit(key),
                };
                assert_eq!(found, expected, "{channel} {key}");
            }
        }
    }
    for channel in own {
        assert_eq!(connect.resolve(channel), channel);
        if let Some(alias) = connect.alias(channel) {
            assert_eq!(connect.resolve(alias), channel);
            assert_eq!(names::channel_fault(alias), Ok(()));
        }
    }
}

/// Whether a token that names channels by this pattern lets its bearer in.
fn admits(pattern: &str, channel: &str) -> Option<bool> {
    let mut json = br#"{"exp":1,"scope":"connect","channels":{"#.to_vec();
    json::write_str(&mut json, pattern);
    json.extend_from_slice(br#":{"subscribe":true}}}"#);
    let claims = Claims::parse(std::str::from_utf8(&json).expect("it was text")).ok()?;
    Some(Rights { connect: &claims, subscribe: None }.may_subscribe(channel))
}

/// Row by row, as the definition has it.
fn matches_by_table(pattern: &[u8], name: &[u8]) -> bool {
    let mut row = vec![false; name.len() + 1];
    row[0] = true;
    for &byte in pattern {
        let mut next = vec![false; name.len() + 1];
        next[0] = byte == b'*' && row[0];
        for at in 0..name.len() {
            next[at + 1] = match byte {
                b'*' => row[at + 1] || next[at],
                byte => row[at] && byte == name[at],
            };
        }
        row = next;
    }
    row[name.len()]
}

fn patterns(text: &str) {
    let Some((pattern, name)) = text.split_once('\0') else { return };
    if pattern.len() > PATTERN_BYTES_MAX || name.len() > 256 {
        return;
    }
    // What Go's engine would make of it is not known here; that it ends is.
    let _ = admits(&format!("#regex:{pattern}"), name);
    if pattern.starts_with("#regex:") {
        return;
    }
    let expected = matches_by_table(pattern.as_bytes(), name.as_bytes());
    assert_eq!(admits(pattern, name), Some(expected), "{pattern:?} {name:?}");
    // The same as an expression, unless its quotation would end early.
    if !pattern.contains(r"\E") && !pattern.ends_with('\\') {
        let parts: Vec<String> = pattern.split('*').map(|part| format!(r"\Q{part}\E")).collect();
        let expression = format!("#regex:(?s)^{}$", parts.join(".*"));
        if let Some(found) = admits(&expression, name) {
            assert_eq!(found, expected, "{expression:?} {name:?}");
        }
    }
}

fn times(text: &str) {
    let (expression, zone) = text.split_once('\0').unwrap_or((text, "Europe/London"));
    let utc = at::parse(expression, None, UnixMillis(0));
    if let Ok(utc) = utc {
        let civil = utc.to_civil().to_string();
        let expected = format!("at({})", civil.split('.').next().unwrap_or_default());
        assert_eq!(expression, expected);
        assert_eq!(at::parse(expression, None, UnixMillis(utc.0)), Err(at::AtError::Past));
        // Zones whose clocks never change, named the other way round.
        for (zone, hours) in [("Etc/GMT+12", 12), ("Etc/GMT+1", 1), ("Etc/UTC", 0)] {
            // The last hours of the last year are no moment there.
            if let Ok(there) = at::parse(expression, Some(zone), UnixMillis(0)) {
                assert_eq!(there.0, utc.0 + hours * 3_600_000, "{expression} {zone}");
            }
        }
        if let Ok(there) = at::parse(expression, Some(zone), UnixMillis(0)) {
            assert!(there.0.abs_diff(utc.0) <= 26 * 3_600_000, "{expression} {zone}");
        }
    } else {
        let _ = at::parse(expression, Some(zone), UnixMillis(0));
    }
}

fn signatures(text: &str) {
    static KEYRING: OnceLock<Keyring> = OnceLock::new();
    let keyring = KEYRING.get_or_init(|| {
        let key_base64 = Secret("c29tZXRoaW5nIHRoYXQgbm9ib2R5IGtub3dz".to_owned());
        let slot = KeySlot { method: "HS256", id: None, key_base64 };
        Keyring::new(&[slot], "", "", Millis(0)).expect("the key is Base64")
    });
    assert!(keyring.verify(text, UnixMillis(0)).is_err());
}
