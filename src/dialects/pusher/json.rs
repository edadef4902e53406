//! Validated JSON as slices of what came, and text as JSON strings.

use std::borrow::Cow;

/// One valid JSON value, as the bytes that came, without space around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raw<'a>(&'a [u8]);

/// The text is not one JSON value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotJson;

/// Arrays and objects within each other, at most.
const DEPTH_MAX: usize = 128;

impl<'a> Raw<'a> {
    /// Checks a whole text. Source: RFC 8259.
    pub fn parse(text: &'a [u8]) -> Result<Self, NotJson> {
        std::str::from_utf8(text).map_err(|_| NotJson)?;
        let start = skip_space(text, 0);
        let end = value(text, start, 0).ok_or(NotJson)?;
        if skip_space(text, end) != text.len() {
            return Err(NotJson);
        }
        Ok(Self(&text[start..end]))
    }

    /// The bytes.
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// The text of a string.
    pub fn as_str(self) -> Option<Cow<'a, str>> {
        let inner = self.0.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
        let text = std::str::from_utf8(inner).ok()?;
        if !text.contains('\\') {
            return Some(Cow::Borrowed(text));
        }
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('\\') {
            out.push_str(&rest[..at]);
            let escape = *rest.as_bytes().get(at + 1)?;
            rest = &rest[at + 2..];
            match escape {
                b'u' => {
                    let mut unit = u32::from_str_radix(rest.get(..4)?, 16).ok()?;
                    rest = &rest[4..];
                    if (0xd800..0xdc00).contains(&unit) {
                        let low = rest.strip_prefix("\\u").and_then(|it| it.get(..4));
                        let low = low.and_then(|it| u32::from_str_radix(it, 16).ok());
                        if let Some(low @ 0xdc00..=0xdfff) = low {
                            unit = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
                            rest = &rest[6..];
                        }
                    }
                    out.push(char::from_u32(unit).unwrap_or('\u{fffd}'));
                }
                b'b' => out.push('\u{8}'),
                b'f' => out.push('\u{c}'),
                b'n' => out.push('\n'),
                b'r' => out.push('\r'),
                b't' => out.push('\t'),
                other => out.push(char::from(other)),
            }
        }
        out.push_str(rest);
        Some(Cow::Owned(out))
    }

    /// The members of an object, in order.
    pub fn members(self) -> Option<impl Iterator<Item = (Cow<'a, str>, Raw<'a>)>> {
        if self.0.first() != Some(&b'{') {
            return None;
        }
        let (text, mut at) = (self.0, 1);
        Some(std::iter::from_fn(move || {
            at = skip_space(text, at);
            if text.get(at) == Some(&b',') {
                at = skip_space(text, at + 1);
            }
            let end = value(text, at, 0).filter(|_| text.get(at) == Some(&b'"'))?;
            let key = Raw(&text[at..end]).as_str()?;
            let start = skip_space(text, skip_space(text, end) + 1);
            at = value(text, start, 0)?;
            Some((key, Raw(&text[start..at])))
        }))
    }

    /// The elements of an array, in order.
    pub fn elements(self) -> Option<impl Iterator<Item = Raw<'a>>> {
        if self.0.first() != Some(&b'[') {
            return None;
        }
        let (text, mut at) = (self.0, 1);
        Some(std::iter::from_fn(move || {
            at = skip_space(text, at);
            if text.get(at) == Some(&b',') {
                at = skip_space(text, at + 1);
            }
            let start = at;
            at = value(text, start, 0)?;
            Some(Raw(&text[start..at]))
        }))
    }
}

fn skip_space(text: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\t' | b'\n' | b'\r') = text.get(at) {
        at += 1;
    }
    at
}

/// Where the value that starts at `at` ends.
fn value(text: &[u8], at: usize, depth: usize) -> Option<usize> {
    if depth > DEPTH_MAX {
        return None;
    }
    match text.get(at)? {
        b'"' => string(text, at),
        open @ (b'{' | b'[') => {
            let close = if *open == b'{' { b'}' } else { b']' };
            let mut at = skip_space(text, at + 1);
            if text.get(at) == Some(&close) {
                return Some(at + 1);
            }
            loop {
                if close == b'}' {
                    at = skip_space(text, string(text, at)?);
                    if text.get(at) != Some(&b':') {
                        return None;
                    }
                    at = skip_space(text, at + 1);
                }
                at = skip_space(text, value(text, at, depth + 1)?);
                match text.get(at)? {
                    b',' => at = skip_space(text, at + 1),
                    byte if *byte == close => return Some(at + 1),
                    _ => return None,
                }
            }
        }
        b't' => text[at..].starts_with(b"true").then_some(at + 4),
        b'f' => text[at..].starts_with(b"false").then_some(at + 5),
        b'n' => text[at..].starts_with(b"null").then_some(at + 4),
        _ => number(text, at),
    }
}

fn string(text: &[u8], at: usize) -> Option<usize> {
    if text.get(at) != Some(&b'"') {
        return None;
    }
    let mut at = at + 1;
    loop {
        match text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => match text.get(at + 1)? {
                b'u' => {
                    let digits = text.get(at + 2..at + 6)?;
                    if !digits.iter().all(u8::is_ascii_hexdigit) {
                        return None;
                    }
                    at += 6;
                }
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => at += 2,
                _ => return None,
            },
            0..=0x1f => return None,
            _ => at += 1,
        }
    }
}

fn number(text: &[u8], at: usize) -> Option<usize> {
    let digits = |mut at: usize| {
        let start = at;
        while text.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        (at > start).then_some(at)
    };
    let mut at = if text.get(at) == Some(&b'-') { at + 1 } else { at };
    at = if text.get(at) == Some(&b'0') { at + 1 } else { digits(at)? };
    if text.get(at) == Some(&b'.') {
        at = digits(at + 1)?;
    }
    if let Some(b'e' | b'E') = text.get(at) {
        let sign = matches!(text.get(at + 1), Some(b'+' | b'-'));
        at = digits(at + 1 + usize::from(sign))?;
    }
    Some(at)
}

/// Appends `text` as a JSON string.
pub fn write_str(text: &str, out: &mut Vec<u8>) {
    write_str_of_raw(text.as_bytes(), out);
}

/// Appends the text of a JSON value as a JSON string.
pub fn write_str_of_raw(raw: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let mut from = 0;
    for (at, &byte) in raw.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&raw[from..at]);
        from = at + 1;
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            _ => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
        }
    }
    out.extend_from_slice(&raw[from..]);
    out.push(b'"');
}
