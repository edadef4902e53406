//! The text of a piece of HTML, as a browser's `textContent` has it.
//!
//! Elements are not nested here, only passed over, so where a browser would move text (out of a table) it stays. Every
//! loop moves on by at least a byte. Source: the HTML standard, "Tokenization".

use std::collections::HashMap;
use std::sync::LazyLock;

/// The longest name of a character, in bytes.
const NAME_BYTES_MAX: usize = 31;

/// Line ends instead of `<br>`, and blank lines between paragraphs, which would be lost with the tags.
pub fn with_lines(html: &str) -> String {
    let mut out = String::with_capacity(html.len());
    let mut rest = html;
    while let Some(at) = memchr::memchr(b'<', rest.as_bytes()) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("</p><p>") {
            out.push_str("\n\n");
            rest = after;
        } else if let Some(after) = after_break(rest) {
            out.push('\n');
            rest = after;
        } else {
            out.push('<');
            rest = &rest[1..];
        }
    }
    out.push_str(rest);
    out
}

/// What follows a `<br>`, if it begins with one.
fn after_break(html: &str) -> Option<&str> {
    // What JavaScript takes for space.
    let is_space = |it: char| it.is_whitespace() && it != '\u{85}' || it == '\u{feff}';
    let rest = html.strip_prefix("<br")?.trim_start_matches(is_space);
    rest.strip_prefix('/').unwrap_or(rest).strip_prefix('>')
}

/// The text of `html`.
pub fn text_of(html: &str) -> String {
    let mut reader = Reader { rest: html, out: String::with_capacity(html.len()), templates: 0 };
    while let Some(at) = memchr::memchr(b'<', reader.rest.as_bytes()) {
        reader.text(at, true);
        reader.markup();
    }
    reader.text(reader.rest.len(), true);
    reader.out
}

struct Reader<'a> {
    rest: &'a str,
    out: String,
    /// Templates that are open; what is in one is no part of the document.
    templates: usize,
}

impl<'a> Reader<'a> {
    /// Takes the next `bytes` as text, with names of characters if they mean something here.
    fn text(&mut self, bytes: usize, has_names: bool) {
        let (text, rest) = self.rest.split_at(bytes);
        self.rest = rest;
        if self.templates == 0 {
            write_text(&mut self.out, text, has_names);
        }
    }

    /// Takes what begins with `<`.
    fn markup(&mut self) {
        let bytes = self.rest.as_bytes();
        let is_letter = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_alphabetic);
        match bytes.get(1) {
            Some(b'/') if is_letter(2) => {
                let name = self.tag(2);
                if name.eq_ignore_ascii_case("template") {
                    self.templates = self.templates.saturating_sub(1);
                }
            }
            Some(b'/') if bytes.get(2) == Some(&b'>') => self.rest = &self.rest[3..],
            Some(b'/') if bytes.len() == 2 => self.text(2, false),
            Some(b'!') if self.rest.starts_with("<!--") => self.comment(),
            Some(b'/' | b'!' | b'?') => self.skip_past('>'),
            _ if is_letter(1) => {
                let name = self.tag(1).to_ascii_lowercase();
                self.opened(&name);
            }
            _ => self.text(1, false),
        }
    }

    /// After the start tag of an element whose content is not like others'.
    fn opened(&mut self, name: &str) {
        match name {
            "template" => self.templates += 1,
            "pre" | "listing" => self.line_end(),
            "plaintext" => self.text(self.rest.len(), false),
            "textarea" => {
                self.line_end();
                self.raw(name, true);
            }
            "title" => self.raw(name, true),
            "script" | "style" | "xmp" | "iframe" | "noembed" | "noframes" => self.raw(name, false),
            _ => {}
        }
    }

    /// The first line end in some elements is none of their text.
    fn line_end(&mut self) {
        let rest = self.rest.strip_prefix("\r\n").or(self.rest.strip_prefix(['\n', '\r']));
        self.rest = rest.unwrap_or(self.rest);
    }

    /// Takes text in which `<` means nothing, up to the end tag.
    fn raw(&mut self, name: &str, has_names: bool) {
        let bytes = self.rest.as_bytes();
        let ends = |at: &usize| {
            let after = bytes[*at + 1..].strip_prefix(b"/");
            let name = after.and_then(|it| {
                it.split_at_checked(name.len())
                    .filter(|it| it.0.eq_ignore_ascii_case(name.as_bytes()))
            });
            name.is_some_and(|it| {
                matches!(it.1.first(), Some(b'\t' | b'\n' | b'\r' | 0x0c | b' ' | b'/' | b'>'))
            })
        };
        let end = memchr::memchr_iter(b'<', bytes).find(ends);
        self.text(end.unwrap_or(bytes.len()), has_names);
    }

    /// Takes a tag whose name starts at `start`, and gives the name. One that does not end takes everything.
    fn tag(&mut self, start: usize) -> &'a str {
        let text = self.rest;
        let bytes = text.as_bytes();
        let is_space = |byte: u8| matches!(byte, b'\t' | b'\n' | b'\r' | 0x0c | b' ');
        let find = |from: usize, is_end: &dyn Fn(u8) -> bool| {
            let at = bytes[from..].iter().position(|&it| is_end(it));
            at.map_or(bytes.len(), |at| from + at)
        };
        let name_end = find(start, &|it| is_space(it) || it == b'/' || it == b'>');
        let mut at = name_end;
        loop {
            at = find(at, &|it| !is_space(it) && it != b'/');
            match bytes.get(at) {
                None => break,
                Some(b'>') => {
                    at += 1;
                    break;
                }
                Some(_) => {}
            }
            // An attribute; `=` may be the first of its name.
            at = find(at + 1, &|it| is_space(it) || matches!(it, b'/' | b'>' | b'='));
            let equals = find(at, &|it| !is_space(it));
            if bytes.get(equals) != Some(&b'=') {
                continue;
            }
            at = find(equals + 1, &|it| !is_space(it));
            at = match bytes.get(at) {
                Some(&quote @ (b'"' | b'\'')) => find(at + 1, &|it| it == quote) + 1,
                _ => find(at, &|it| is_space(it) || it == b'>'),
            }
            .min(bytes.len());
        }
        self.rest = &text[at..];
        &text[start..name_end]
    }

    fn comment(&mut self) {
        let after = &self.rest[4..];
        let early = after.strip_prefix('>').or(after.strip_prefix("->"));
        self.rest = early.or_else(|| after_comment(after)).unwrap_or("");
    }

    fn skip_past(&mut self, end: char) {
        self.rest = self.rest.split_once(end).map_or("", |it| it.1);
    }
}

/// What follows a comment, whose inside `text` begins with.
fn after_comment(text: &str) -> Option<&str> {
    let mut rest = text;
    loop {
        let dashes = memchr::memmem::find(rest.as_bytes(), b"--")?;
        rest = rest[dashes..].trim_start_matches('-');
        let end = rest.strip_prefix('>').or(rest.strip_prefix("!>"));
        if end.is_some() {
            return end;
        }
    }
}

/// Appends text: one kind of line end, no NUL, characters instead of their names.
fn write_text(out: &mut String, text: &str, has_names: bool) {
    let mut rest = text;
    while let Some(at) = rest.bytes().position(|it| matches!(it, b'&' | b'\r' | 0)) {
        out.push_str(&rest[..at]);
        let special = rest.as_bytes()[at];
        rest = &rest[at + 1..];
        match special {
            b'\r' => {
                out.push('\n');
                rest = rest.strip_prefix('\n').unwrap_or(rest);
            }
            b'&' => match reference(rest).filter(|_| has_names) {
                Some((characters, after)) => {
                    out.extend(characters.into_iter().flatten());
                    rest = after;
                }
                None => out.push('&'),
            },
            _ => {}
        }
    }
    out.push_str(rest);
}

/// One character, or two.
type Characters = [Option<char>; 2];

/// What the text after an `&` stands for, and what follows it.
fn reference(text: &str) -> Option<(Characters, &str)> {
    if let Some(number) = text.strip_prefix('#') {
        return numeric(number);
    }
    let bytes = text.as_bytes();
    let longest = bytes.iter().take(NAME_BYTES_MAX).take_while(|it| it.is_ascii_alphanumeric());
    (2..=longest.count()).rev().find_map(|end| {
        let (name, after) = text.split_at(end);
        let (characters, needs_no_end) = NAMES.get(name)?;
        match after.strip_prefix(';') {
            Some(after) => Some((*characters, after)),
            None => needs_no_end.then_some((*characters, after)),
        }
    })
}

fn numeric(text: &str) -> Option<(Characters, &str)> {
    let hex = text.strip_prefix(['x', 'X']);
    let (radix, digits) = hex.map_or((10, text), |it| (16, it));
    let end = digits.bytes().position(|it| !char::from(it).is_digit(radix));
    let (digits, after) = digits.split_at(end.unwrap_or(digits.len()));
    if digits.is_empty() {
        return None;
    }
    // Too many digits are too large a number.
    let number = u32::from_str_radix(digits, radix).unwrap_or(u32::MAX);
    let character = match number {
        0 => char::REPLACEMENT_CHARACTER,
        0x80..=0x9f => WINDOWS[(number - 0x80) as usize],
        _ => char::from_u32(number).unwrap_or(char::REPLACEMENT_CHARACTER),
    };
    Some(([Some(character), None], after.strip_prefix(';').unwrap_or(after)))
}

/// What numbers from 0x80 to 0x9f mean, as Windows has it. Source: the HTML standard, "Numeric character reference end
/// state".
const WINDOWS: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}',
    '\u{90}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

/// The named characters, and whether the name may lack its semicolon.
static NAMES: LazyLock<HashMap<&'static str, (Characters, bool)>> = LazyLock::new(|| {
    let entries = include_str!("entities.txt").split_ascii_whitespace();
    let read = |entry: &'static str| {
        let (name, numbers) = entry.split_once('=')?;
        let mut characters =
            numbers.split(',').map(|it| u32::from_str_radix(it, 16).ok().and_then(char::from_u32));
        let characters = [characters.next().flatten(), characters.next().flatten()];
        let bare = name.strip_prefix('!');
        Some((bare.unwrap_or(name), (characters, bare.is_some())))
    };
    entries.filter_map(read).collect()
});

#[cfg(test)]
#[path = "html_tests.rs"]
mod tests;
