//! What names may be, how large things may get, and which broker channel stands behind a channel.
//!
//! Counts of characters are counts of Unicode scalar values.

use crate::base::name::Name;

/// Characters of a channel's name, at most.
pub const CHANNEL_CHARS_MAX: usize = 256;
/// Characters of an event's name, at most.
pub const EVENT_CHARS_MAX: usize = 128;
/// Characters of a storage key, at most.
pub const KEY_CHARS_MAX: usize = 128;
/// Characters of a user's id, at most.
pub const UID_CHARS_MAX: usize = 128;
/// Bytes of what is said about a user, as compact JSON, at most.
pub const UMD_BYTES_MAX: usize = 1024;
/// Bytes of a reaction, at most.
pub const REACTION_BYTES_MAX: usize = 100;
/// Bytes of a message's data or a stored value, as compact JSON, at most.
pub const DATA_BYTES_MAX: usize = 32 << 10;
/// The longest time that anything may be kept for, in seconds: a century.
pub const STORE_SECONDS_MAX: i64 = 3_155_695_200;

/// Channels whose name starts with this tell who is in them.
pub const PRESENCE: &str = "presence.";
/// Events of the protocol itself start with this.
pub const OWN_EVENTS: &str = "hotsock.";
/// Sets a stored value.
pub const STORAGE_SET: &str = "hotsock.channelStorageSet";
/// Adds or removes a reaction.
pub const REACTION: &str = "hotsock.messageReaction";

/// Broker channels of this dialect alone start with this; names with `#` belong to the engine, and no other dialect
/// lets peers in.
const OWN_CHANNELS: &str = "#hotsock:";

/// What is wrong with a channel's name.
pub fn channel_fault(name: &str) -> Result<(), &'static str> {
    if !has_chars(name, CHANNEL_CHARS_MAX) {
        return Err("a channel name has 1 to 256 characters");
    }
    if name.contains(|c: char| matches!(c, '*' | '#' | ',') || c.is_whitespace()) {
        return Err("a channel name has no *, no #, no comma and no white space");
    }
    Ok(())
}

/// What is wrong with the name of an event that someone publishes. Two names of the protocol's own pass:
/// [`STORAGE_SET`] and [`REACTION`].
pub fn event_fault(name: &str) -> Result<(), &'static str> {
    if !has_chars(name, EVENT_CHARS_MAX) {
        return Err("an event name has 1 to 128 characters");
    }
    if name.contains('*') {
        return Err("an event name has no *");
    }
    if name.starts_with('#') {
        return Err("an event name does not start with #");
    }
    if name.starts_with(OWN_EVENTS) && ![STORAGE_SET, REACTION].contains(&name) {
        return Err(
            "of the names that start with hotsock. only hotsock.channelStorageSet and hotsock.messageReaction can be published",
        );
    }
    Ok(())
}

/// What is wrong with a storage key.
pub fn key_fault(key: &str) -> Result<(), &'static str> {
    if !has_chars(key, KEY_CHARS_MAX) {
        return Err("a storage key has 1 to 128 characters");
    }
    if key.contains([' ', '*', '#', ',']) {
        return Err("a storage key has no space, no *, no # and no comma");
    }
    Ok(())
}

/// What is wrong with a user's id.
pub fn uid_fault(uid: &str) -> Result<(), &'static str> {
    match uid.chars().nth(UID_CHARS_MAX) {
        None => Ok(()),
        Some(_) => Err("a uid has at most 128 characters"),
    }
}

/// What is wrong with a reaction.
pub fn reaction_fault(reaction: &str) -> Result<(), &'static str> {
    if reaction.trim().is_empty() || reaction.len() > REACTION_BYTES_MAX {
        return Err("a reaction is not blank and has at most 100 bytes");
    }
    if reaction.contains('#') {
        return Err("a reaction has no #");
    }
    Ok(())
}

/// Whether a channel tells who is in it.
pub fn is_presence(channel: &str) -> bool {
    channel.starts_with(PRESENCE)
}

/// The name of the broker channel behind a channel: its own, unless the app has it in its `bridge`.
pub fn to_broker(channel: &str, bridge: &[String]) -> Name {
    if bridge.iter().any(|it| it == channel) {
        return Name::from(channel);
    }
    let mut name = String::with_capacity(OWN_CHANNELS.len() + channel.len());
    name.push_str(OWN_CHANNELS);
    name.push_str(channel);
    Name::from(&*name)
}

/// The channel that a broker channel stands behind.
pub fn from_broker(name: &str) -> &str {
    name.strip_prefix(OWN_CHANNELS).unwrap_or(name)
}

/// How many bytes a JSON text has without the white space between its parts.
pub fn compact_len(json: &str) -> usize {
    let mut len = 0;
    each_compact(json, |_| len += 1);
    len
}

/// A JSON text without the white space between its parts.
pub fn compact(json: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len());
    each_compact(json, |byte| out.push(byte));
    out
}

fn each_compact(json: &str, mut keep: impl FnMut(u8)) {
    let (mut in_string, mut is_escaped) = (false, false);
    for byte in json.bytes() {
        if in_string {
            in_string = is_escaped || byte != b'"';
            is_escaped = !is_escaped && byte == b'\\';
        } else if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
            continue;
        } else {
            in_string = byte == b'"';
        }
        keep(byte);
    }
}

fn has_chars(name: &str, max: usize) -> bool {
    !name.is_empty() && name.chars().nth(max).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_or_refused() {
        let long = |n| "é".repeat(n);
        let (c256, c257, c128, c129) = (long(256), long(257), long(128), long(129));
        type Check = fn(&str) -> Result<(), &'static str>;
        let cases: &[(Check, &[&str], &[&str])] = &[
            (
                channel_fault,
                &["a", "room.1", "presence.", "Ω/ö:-_~", "hotsock.x", "\u{1}", &c256],
                &["", "a b", "a*", "#a", "a#b", "a,b", "a\nb", "a\tb", "a\u{a0}b", &c257],
            ),
            (
                event_fault,
                &["a", "two words", "a#b", "hotsock", "Hotsock.x", STORAGE_SET, REACTION, &c128],
                &["", "#a", "a*b", "hotsock.", "hotsock.ping", "hotsock.channelStorageset", &c129],
            ),
            (key_fault, &["a", "a.b", "a\tb", &c128], &["", "a b", "a*", "#", "a,", &c129]),
            (uid_fault, &["", "a b#*", &c128], &[&c129]),
            (reaction_fault, &["👍", "+1", " x ", &long(50)], &["", " ", "\n", "a#", &long(51)]),
        ];
        for (check, good, bad) in cases {
            for name in *good {
                assert_eq!(check(name), Ok(()), "{name:?}");
            }
            for name in *bad {
                assert!(check(name).is_err(), "{name:?}");
            }
        }
    }

    #[test]
    fn a_channel_and_its_broker_channel_are_one_to_one() {
        let bridge = ["news".to_owned()];
        for (channel, broker) in
            [("room.1", "#hotsock:room.1"), ("news", "news"), ("news.1", "#hotsock:news.1")]
        {
            assert_eq!(&*to_broker(channel, &bridge), broker);
            assert_eq!(from_broker(broker), channel);
        }
    }

    #[test]
    fn white_space_between_parts_does_not_count() {
        for (json, expected) in [
            ("{ \"a b\" : [ 1 , \"\\\" \\\\\" ] }\n", "{\"a b\":[1,\"\\\" \\\\\"]}"),
            ("null", "null"),
            (" \t\"  \" ", "\"  \""),
        ] {
            assert_eq!(compact(json), expected.as_bytes());
            assert_eq!(compact_len(json), expected.len());
        }
    }
}
