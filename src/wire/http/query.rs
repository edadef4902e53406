//! Percent-encoding and query strings.

use std::borrow::Cow;

/// What a `+` means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plus {
    /// A space, as in a form or a query.
    Space,
    /// Itself, as in a path.
    Literal,
}

/// Removes percent-encoding. None if a `%` is not followed by two hex digits, or if the result is
/// not UTF-8: for whatever is trusted for a name.
pub fn decode(text: &str, plus: Plus) -> Option<Cow<'_, str>> {
    match decode_bytes(text, plus) {
        (None, true) => Some(Cow::Borrowed(text)),
        (Some(bytes), true) => String::from_utf8(bytes).ok().map(Cow::Owned),
        (_, false) => None,
    }
}

/// Removes percent-encoding as browsers do: a malformed `%` stays as it is, bytes that are not UTF-8
/// become U+FFFD. Source: URL Living Standard, sections 1.3 and 5.1.
pub fn decode_lossy(text: &str, plus: Plus) -> Cow<'_, str> {
    match decode_bytes(text, plus).0 {
        None => Cow::Borrowed(text),
        Some(bytes) => Cow::Owned(
            String::from_utf8(bytes)
                .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()),
        ),
    }
}

/// None for the bytes: nothing to change. The flag: every `%` was well formed.
fn decode_bytes(text: &str, plus: Plus) -> (Option<Vec<u8>>, bool) {
    let bytes = text.as_bytes();
    let first = match plus {
        Plus::Space => memchr::memchr2(b'%', b'+', bytes),
        Plus::Literal => memchr::memchr(b'%', bytes),
    };
    let Some(first) = first else { return (None, true) };
    let mut out = Vec::with_capacity(bytes.len());
    out.extend_from_slice(&bytes[..first]);
    let mut rest = &bytes[first..];
    let mut well_formed = true;
    while let [byte, after @ ..] = rest {
        rest = after;
        match byte {
            b'%' => match after {
                [high, low, after @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                    out.push(hex(*high) << 4 | hex(*low));
                    rest = after;
                }
                _ => {
                    well_formed = false;
                    out.push(b'%');
                }
            },
            b'+' if plus == Plus::Space => out.push(b' '),
            _ => out.push(*byte),
        }
    }
    (Some(out), well_formed)
}

/// The value of a hex digit; the caller has checked that it is one.
fn hex(digit: u8) -> u8 {
    (digit & 0x0f) + if digit.is_ascii_alphabetic() { 9 } else { 0 }
}

/// The pairs of a query as they came: split at `&`, then at the first `=`; empty parts left out.
pub fn pairs_raw(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query
        .split('&')
        .filter(|part| !part.is_empty())
        .map(|part| part.split_once('=').unwrap_or((part, "")))
}

/// The pairs of a query, decoded as browsers do.
pub fn pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    pairs_raw(query)
        .map(|(key, value)| (decode_lossy(key, Plus::Space), decode_lossy(value, Plus::Space)))
}

/// The first value of a key, decoded.
pub fn value<'a>(query: &'a str, key: &str) -> Option<Cow<'a, str>> {
    pairs(query).find(|(name, _)| name == key).map(|(_, value)| value)
}

/// Appends `text` percent-encoded: all but RFC 3986's unreserved characters.
pub fn encode(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            const HEX: &[u8; 16] = b"0123456789ABCDEF";
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_encoding_is_removed() {
        // Text, what a strict reader makes of it, what a browser makes of it.
        let cases: &[(&str, Option<&str>, &str)] = &[
            ("", Some(""), ""),
            ("plain", Some("plain"), "plain"),
            ("a+b%20c", Some("a b c"), "a b c"),
            ("%E2%82%aC", Some("€"), "€"),
            ("%00", Some("\0"), "\0"),
            ("%", None, "%"),
            ("%4", None, "%4"),
            ("%zz", None, "%zz"),
            ("%%41", None, "%A"),
            ("%+1", None, "% 1"),
            ("%e2%82", None, "\u{fffd}"),
            ("%ff", None, "\u{fffd}"),
        ];
        for (text, strict, lossy) in cases {
            assert_eq!(decode(text, Plus::Space).as_deref(), *strict, "{text}");
            assert_eq!(decode_lossy(text, Plus::Space), *lossy, "{text}");
        }
        assert_eq!(decode("a+b%2B", Plus::Literal).as_deref(), Some("a+b+"));
    }

    #[test]
    fn queries_are_split() {
        let cases: &[(&str, &[(&str, &str)])] = &[
            ("", &[]),
            ("&&", &[]),
            ("a", &[("a", "")]),
            ("a=", &[("a", "")]),
            ("=a", &[("", "a")]),
            ("a=1&b=2&a=3", &[("a", "1"), ("b", "2"), ("a", "3")]),
            ("a=b=c&%61%3d=%26", &[("a", "b=c"), ("a=", "&")]),
        ];
        for (query, want) in cases {
            let got: Vec<_> = pairs(query).collect();
            assert_eq!(got.len(), want.len(), "{query}");
            for ((key, value), want) in got.iter().zip(*want) {
                assert_eq!((&**key, &**value), *want, "{query}");
            }
        }
        assert_eq!(value("a=1&b=%41&b=2", "b").as_deref(), Some("A"));
        assert_eq!(value("a=1", "b"), None);
    }

    #[test]
    fn what_is_encoded_decodes() {
        for text in ["", "a b", "€ & = + %", "\0\x7f~"] {
            let mut out = String::new();
            encode(&mut out, text);
            assert_eq!(decode(&out, Plus::Space).as_deref(), Some(text));
        }
    }
}
