//! JSON that is passed on, not understood: text is checked once, and values stay the bytes they came as.
//!
//! No tree is built. A [`Raw`] is the exact text of one value; its members and items are found by
//! skipping over text that is known to be good. Start with [`parse`] or, for an envelope of which
//! only some members matter, [`read_object`]. Source: RFC 8259.

mod same;

pub use self::same::same_value;

use std::borrow::Cow;

/// How deep arrays and objects may nest.
pub const DEPTH_MAX: usize = 128;

/// Why a text is not JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonError {
    /// Not UTF-8.
    Utf8,
    /// A byte the grammar does not allow, `at` bytes from the start.
    Syntax {
        /// Where.
        at: usize,
    },
    /// It ends inside a value.
    Unfinished,
    /// It nests deeper than [`DEPTH_MAX`].
    TooDeep,
    /// A value other than an object where one was asked for.
    NotAnObject,
}

impl std::fmt::Display for JsonError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Utf8 => f.write_str("not UTF-8"),
            Self::Syntax { at } => write!(f, "not JSON at byte {at}"),
            Self::Unfinished => f.write_str("unfinished JSON"),
            Self::TooDeep => write!(f, "JSON nested deeper than {DEPTH_MAX}"),
            Self::NotAnObject => f.write_str("not a JSON object"),
        }
    }
}

impl std::error::Error for JsonError {}

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `null`
    Null,
    /// `true` or `false`
    Bool,
    /// A number.
    Number,
    /// A string.
    String,
    /// An array.
    Array,
    /// An object.
    Object,
}

/// The exact text of one value, checked, without white space around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raw<'a>(&'a str);

/// Checks that `text` is one value, perhaps with white space around it.
pub fn parse(text: &[u8]) -> Result<Raw<'_>, JsonError> {
    parse_str(std::str::from_utf8(text).map_err(|_| JsonError::Utf8)?)
}

/// [`parse`] for text that is known to be UTF-8.
pub fn parse_str(text: &str) -> Result<Raw<'_>, JsonError> {
    let mut scanner = Scanner { bytes: text.as_bytes(), at: 0 };
    scanner.space();
    let start = scanner.at;
    scanner.value(1)?;
    let end = scanner.at;
    scanner.end()?;
    Ok(Raw(&text[start..end]))
}

/// Checks that `text` is one object and hands each of its members to `member`, in order, in the same
/// pass. A name that repeats comes again: the last one should win. If the result is an error, what
/// was heard means nothing.
pub fn read_object<'a>(
    text: &'a str,
    mut member: impl FnMut(Cow<'a, str>, Raw<'a>),
) -> Result<(), JsonError> {
    let mut scanner = Scanner { bytes: text.as_bytes(), at: 0 };
    scanner.space();
    match scanner.peek() {
        None => return Err(JsonError::Unfinished),
        Some(b'{') => scanner.at += 1,
        // Something else, good or bad.
        Some(_) => return parse_str(text).and(Err(JsonError::NotAnObject)),
    }
    scanner.space();
    if scanner.peek() == Some(b'}') {
        scanner.at += 1;
        return scanner.end();
    }
    loop {
        let name = scanner.at;
        scanner.string()?;
        let name = &text[name + 1..scanner.at - 1];
        scanner.space();
        scanner.expect(b':')?;
        scanner.space();
        let value = scanner.at;
        scanner.value(2)?;
        member(unescape(name), Raw(&text[value..scanner.at]));
        scanner.space();
        match scanner.take()? {
            b',' => scanner.space(),
            b'}' => return scanner.end(),
            _ => return Err(JsonError::Syntax { at: scanner.at - 1 }),
        }
    }
}

impl<'a> Raw<'a> {
    /// What it is.
    pub fn kind(self) -> Kind {
        match self.0.as_bytes().first() {
            Some(b'{') => Kind::Object,
            Some(b'[') => Kind::Array,
            Some(b'"') => Kind::String,
            Some(b't' | b'f') => Kind::Bool,
            Some(b'n') => Kind::Null,
            _ => Kind::Number,
        }
    }

    /// Its text.
    pub fn text(self) -> &'a str {
        self.0
    }

    /// Its text without what stands between its parts: however a value is set out, the same.
    pub fn compact(self) -> String {
        let mut out = String::with_capacity(self.0.len());
        let (mut is_in_string, mut is_escaped) = (false, false);
        out.extend(self.0.chars().filter(|&it| {
            if is_in_string {
                (is_in_string, is_escaped) = (is_escaped || it != '"', !is_escaped && it == '\\');
                return true;
            }
            is_in_string = it == '"';
            !matches!(it, ' ' | '\t' | '\n' | '\r')
        }));
        out
    }

    /// Is it `null`?
    pub fn is_null(self) -> bool {
        self.kind() == Kind::Null
    }

    /// A string's content. A surrogate without its other half, which JSON can spell and text cannot hold,
    /// becomes U+FFFD.
    pub fn as_str(self) -> Option<Cow<'a, str>> {
        self.as_escaped().map(unescape)
    }

    /// A string's content, escapes left as they are.
    pub fn as_escaped(self) -> Option<&'a str> {
        self.0.strip_prefix('"')?.strip_suffix('"')
    }

    /// A boolean.
    pub fn as_bool(self) -> Option<bool> {
        match self.0 {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }

    /// A number without fraction and exponent, if it fits.
    pub fn as_u64(self) -> Option<u64> {
        if self.kind() == Kind::Number { self.0.parse().ok() } else { None }
    }

    /// A number without fraction and exponent, if it fits.
    pub fn as_i64(self) -> Option<i64> {
        if self.kind() == Kind::Number { self.0.parse().ok() } else { None }
    }

    /// Any number, rounded to what an `f64` can hold.
    pub fn as_f64(self) -> Option<f64> {
        if self.kind() == Kind::Number { self.0.parse().ok() } else { None }
    }

    /// An object's members in order, a repeated name each time; nothing for any other value.
    pub fn members(self) -> impl Iterator<Item = (Cow<'a, str>, Raw<'a>)> {
        let mut walk = Walk::new(self, Kind::Object);
        std::iter::from_fn(move || {
            let name = walk.next()?;
            let value = walk.next()?;
            Some((unescape(name.as_escaped()?), value))
        })
    }

    /// An object's member; the last one if the name repeats.
    pub fn member(self, name: &str) -> Option<Raw<'a>> {
        self.members().filter(|(key, _)| key == name).last().map(|(_, value)| value)
    }

    /// An array's items in order; nothing for any other value.
    pub fn items(self) -> impl Iterator<Item = Raw<'a>> {
        let mut walk = Walk::new(self, Kind::Array);
        std::iter::from_fn(move || walk.next())
    }
}

/// Steps over the values inside a container whose text is known to be good; in an object, names and
/// values in turn.
struct Walk<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Walk<'a> {
    fn new(raw: Raw<'a>, kind: Kind) -> Self {
        let text = if raw.kind() == kind { raw.0 } else { "" };
        Self { text, at: 1 }
    }

    fn next(&mut self) -> Option<Raw<'a>> {
        let bytes = self.text.as_bytes();
        while matches!(bytes.get(self.at)?, b' ' | b'\t' | b'\n' | b'\r' | b',' | b':') {
            self.at += 1;
        }
        let start = self.at;
        let mut depth = 0usize;
        loop {
            match *bytes.get(self.at)? {
                b'"' => self.at = string_end(bytes, self.at + 1)?,
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' if depth == 0 => return None,
                b'}' | b']' => {
                    depth -= 1;
                    self.at += 1;
                }
                _ if depth > 0 => self.at += 1,
                _ => {
                    // A number or a word: up to what may follow one.
                    while !matches!(
                        bytes.get(self.at)?,
                        b',' | b']' | b'}' | b' ' | b'\t' | b'\n' | b'\r'
                    ) {
                        self.at += 1;
                    }
                }
            }
            if depth == 0 {
                return Some(Raw(&self.text[start..self.at]));
            }
        }
    }
}

/// Behind the quote that ends a good string whose content starts at `at`.
fn string_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += special(bytes.get(at..)?);
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => return None,
        }
    }
}

const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
const HIGHS: u64 = ONES << 7;

/// Marks the highest bit of quotes, backslashes and control bytes; not zero if there is one, and then
/// the lowest mark is exact: borrows run from a hit to the bytes above it only.
fn specials(word: u64) -> u64 {
    let control = word.wrapping_sub(ONES * 0x20);
    let quote = (word ^ (ONES * 0x22)).wrapping_sub(ONES);
    let backslash = (word ^ (ONES * 0x5c)).wrapping_sub(ONES);
    // Bytes from 0x80 are none of them.
    (control | quote | backslash) & !word & HIGHS
}

/// [`specials`] with every mark exact, at a little more cost.
fn specials_exact(word: u64) -> u64 {
    // No carry leaves a byte: 0x7f + 0x7f is 0xfe.
    let zeros = |x: u64| !(((x & !HIGHS) + !HIGHS) | x) & HIGHS;
    zeros(word ^ (ONES * 0x22)) | zeros(word ^ (ONES * 0x5c)) | zeros(word & (ONES * 0xe0))
}

/// How many bytes come before the first quote, backslash or control byte.
fn special(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let marks = specials(u64::from_le_bytes(*chunk));
        if marks != 0 {
            return at + (marks.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    let is_special = |&byte: &u8| byte < 0x20 || byte == b'"' || byte == b'\\';
    bytes[at..].iter().position(is_special).map_or(bytes.len(), |i| at + i)
}

/// Resolves a good string's escapes.
fn unescape(content: &str) -> Cow<'_, str> {
    let Some(first) = memchr::memchr(b'\\', content.as_bytes()) else {
        return Cow::Borrowed(content);
    };
    let mut out = String::with_capacity(content.len());
    out.push_str(&content[..first]);
    let mut rest = &content[first..];
    while let Some(escape) = rest.strip_prefix('\\') {
        let mut chars = escape.chars();
        match chars.next() {
            Some('u') => {
                let (character, after) = unescape_unit(chars.as_str());
                out.push(character);
                rest = after;
            }
            Some(letter) => {
                out.push(match letter {
                    'b' => '\u{8}',
                    'f' => '\u{c}',
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    other => other,
                });
                rest = chars.as_str();
            }
            None => break,
        }
        let plain = memchr::memchr(b'\\', rest.as_bytes()).unwrap_or(rest.len());
        out.push_str(&rest[..plain]);
        rest = &rest[plain..];
    }
    Cow::Owned(out)
}

/// The character whose four digits come first, with a second half if it needs one, and what follows.
fn unescape_unit(text: &str) -> (char, &str) {
    let unit = |text: &str| text.get(..4).and_then(|digits| u32::from_str_radix(digits, 16).ok());
    let Some(high) = unit(text) else { return (char::REPLACEMENT_CHARACTER, text) };
    let after = &text[4..];
    if let Some(character) = char::from_u32(high) {
        return (character, after);
    }
    let low = after.strip_prefix("\\u").and_then(unit).filter(|low| (0xdc00..0xe000).contains(low));
    match low {
        Some(low) if high < 0xdc00 => {
            let character = char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00));
            (character.unwrap_or(char::REPLACEMENT_CHARACTER), &after[6..])
        }
        _ => (char::REPLACEMENT_CHARACTER, after),
    }
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn take(&mut self) -> Result<u8, JsonError> {
        let byte = self.peek().ok_or(JsonError::Unfinished)?;
        self.at += 1;
        Ok(byte)
    }

    fn expect(&mut self, wanted: u8) -> Result<(), JsonError> {
        if self.take()? == wanted { Ok(()) } else { Err(JsonError::Syntax { at: self.at - 1 }) }
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// Nothing but white space may follow.
    fn end(&mut self) -> Result<(), JsonError> {
        self.space();
        if self.at == self.bytes.len() { Ok(()) } else { Err(JsonError::Syntax { at: self.at }) }
    }

    /// One value, itself at nesting level `level`; the open containers are bits, so that a hostile
    /// text cannot use up the stack.
    fn value(&mut self, level: usize) -> Result<(), JsonError> {
        // A set bit is an object. The first container opened here is the highest bit in use.
        let (mut open, mut depth) = (0u128, 0);
        loop {
            match self.peek().ok_or(JsonError::Unfinished)? {
                b'"' => self.string()?,
                byte @ (b'{' | b'[') => {
                    if depth + level > DEPTH_MAX {
                        return Err(JsonError::TooDeep);
                    }
                    self.at += 1;
                    let is_object = byte == b'{';
                    open = open << 1 | u128::from(is_object);
                    depth += 1;
                    self.space();
                    let close = if is_object { b'}' } else { b']' };
                    if self.peek() != Some(close) {
                        if is_object {
                            self.name()?;
                        }
                        continue;
                    }
                }
                b't' => self.word(b"true")?,
                b'f' => self.word(b"false")?,
                b'n' => self.word(b"null")?,
                _ => self.number()?,
            }
            // A value has ended, or an empty container is about to: close what closes here.
            loop {
                if depth == 0 {
                    return Ok(());
                }
                self.space();
                let is_object = open & 1 == 1;
                match self.take()? {
                    b',' => {
                        self.space();
                        if is_object {
                            self.name()?;
                        }
                        break;
                    }
                    b'}' if is_object => {}
                    b']' if !is_object => {}
                    _ => return Err(JsonError::Syntax { at: self.at - 1 }),
                }
                open >>= 1;
                depth -= 1;
            }
        }
    }

    /// A member's name and colon, with the white space around the colon.
    fn name(&mut self) -> Result<(), JsonError> {
        self.string()?;
        self.space();
        self.expect(b':')?;
        self.space();
        Ok(())
    }

    fn string(&mut self) -> Result<(), JsonError> {
        self.expect(b'"')?;
        'words: while let Some(chunk) = self.bytes[self.at..].first_chunk::<8>() {
            let word = u64::from_le_bytes(*chunk);
            if specials(word) == 0 {
                self.at += 8;
                continue;
            }
            // JSON inside JSON has a backslash every few bytes: all of a word's are dealt with here.
            let mut marks = specials_exact(word);
            while marks != 0 {
                let i = (marks.trailing_zeros() / 8) as usize;
                match (chunk[i], chunk.get(i + 1)) {
                    (b'"', _) => {
                        self.at += i + 1;
                        return Ok(());
                    }
                    (b'\\', Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't')) => {
                        // Both bytes of it; `i` is at most 6.
                        marks &= (u64::MAX << 8) << (8 * i + 8);
                    }
                    _ => {
                        // An escape that leaves the word, or an error.
                        self.at += i;
                        self.escape()?;
                        continue 'words;
                    }
                }
            }
            self.at += 8;
        }
        loop {
            self.at += special(&self.bytes[self.at..]);
            if self.peek() == Some(b'"') {
                self.at += 1;
                return Ok(());
            }
            self.escape()?;
        }
    }

    fn escape(&mut self) -> Result<(), JsonError> {
        self.expect(b'\\')?;
        match self.take()? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Ok(()),
            b'u' => {
                for _ in 0..4 {
                    if !self.take()?.is_ascii_hexdigit() {
                        return Err(JsonError::Syntax { at: self.at - 1 });
                    }
                }
                Ok(())
            }
            _ => Err(JsonError::Syntax { at: self.at - 1 }),
        }
    }

    fn word(&mut self, word: &[u8]) -> Result<(), JsonError> {
        for &byte in word {
            self.expect(byte)?;
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), JsonError> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.take()? {
            b'0' => {}
            b'1'..=b'9' => self.digits(),
            _ => return Err(JsonError::Syntax { at: self.at - 1 }),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits_some()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits_some()?;
        }
        Ok(())
    }

    fn digits(&mut self) {
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
    }

    fn digits_some(&mut self) -> Result<(), JsonError> {
        if !self.take()?.is_ascii_digit() {
            return Err(JsonError::Syntax { at: self.at - 1 });
        }
        self.digits();
        Ok(())
    }
}

/// Appends `text` as a JSON string, quotes included.
pub fn write_str(out: &mut Vec<u8>, text: &str) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    write_escaped(out, text);
    out.push(b'"');
}

/// Appends `text` as the inside of a JSON string.
pub fn write_escaped(out: &mut Vec<u8>, text: &str) {
    let mut rest = text.as_bytes();
    loop {
        let plain = special(rest);
        out.extend_from_slice(&rest[..plain]);
        let Some((&byte, after)) = rest[plain..].split_first() else { return };
        rest = after;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            control => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(control >> 4)]);
                out.push(HEX[usize::from(control & 15)]);
            }
        }
    }
}

/// Appends a value as a JSON string: a string as it is, anything else as a string that holds its text.
pub fn write_str_of_raw(out: &mut Vec<u8>, raw: Raw<'_>) {
    if raw.kind() == Kind::String {
        out.extend_from_slice(raw.0.as_bytes());
    } else {
        write_str(out, raw.0);
    }
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
