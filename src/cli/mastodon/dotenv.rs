//! Files of `NAME=value` lines as Node's dotenv reads them, to the letter: Mastodon's streaming server does.
//!
//! Source: the `dotenv` package, version 16, as documented and as observed.

/// One assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What is set.
    pub name: String,
    /// To what.
    pub value: String,
    /// In which line, from 1.
    pub line: usize,
}

/// What quotes a value.
const QUOTES: [char; 3] = ['\'', '"', '`'];

/// The assignments, in order; of several with one name the last counts. Whatever is none is passed over.
pub fn read(text: &str) -> Vec<Entry> {
    // What some editors put in front is space to JavaScript.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let (mut rest, mut line) = (text.as_str(), 1);
    let mut entries = Vec::new();
    while !rest.is_empty() {
        let length = match assignment(rest) {
            Some((name, value, length)) => {
                entries.push(Entry { name: name.to_owned(), value, line });
                length
            }
            None => line_of(rest).len(),
        };
        let (passed, after) = rest.split_at(length);
        line += 1 + passed.matches('\n').count();
        rest = after.strip_prefix('\n').unwrap_or(after);
    }
    entries
}

/// The assignment that a text starts with, and how long it is.
fn assignment(text: &str) -> Option<(&str, String, usize)> {
    let line = line_of(text);
    let mut rest = line.trim_start();
    if let Some(after) = rest.strip_prefix("export").filter(|it| it.starts_with(is_blank)) {
        rest = after.trim_start();
    }
    let is_name = |letter: char| letter.is_ascii_alphanumeric() || "_.-".contains(letter);
    let (name, rest) = rest.split_at(rest.find(|it| !is_name(it)).unwrap_or(rest.len()));
    let value = match rest.trim_start().strip_prefix('=') {
        Some(value) => value,
        None => rest.strip_prefix(':').filter(|it| it.starts_with(is_blank))?,
    };
    if name.is_empty() {
        return None;
    }
    let start = line.len() - value.len();
    let blank = value.len() - value.trim_start().len();
    // What is quoted may go on over lines.
    if let Some((inner, end)) = quoted(&text[start + blank..]) {
        let value = if value[blank..].starts_with('"') { unescaped(inner) } else { inner.into() };
        return Some((name, value, start + blank + end));
    }
    let value = value.split('#').next().unwrap_or(value).trim();
    let first = value.chars().next();
    // Quotes at both ends go, whatever stands between them.
    let inner = first
        .filter(|it| QUOTES.contains(it))
        .and_then(|quote| value[1..].strip_suffix(quote))
        .unwrap_or(value);
    let value = if first == Some('"') { unescaped(inner) } else { inner.to_owned() };
    Some((name, value, line.len()))
}

/// What stands in quotes at the start of a text, if nothing but a comment follows on the line; and where that line ends.
fn quoted(text: &str) -> Option<(&str, usize)> {
    let quote = text.chars().next().filter(|it| QUOTES.contains(it))?;
    let mut ends = Vec::new();
    for (at, _) in text.match_indices(quote).skip(1) {
        ends.push(at);
        if !text[..at].ends_with('\\') {
            break;
        }
    }
    // An escaped quote ends it only if no other does.
    ends.into_iter().rev().find_map(|end| {
        let after = line_of(&text[end + 1..]);
        let is_end = after.trim_start().is_empty() || after.trim_start().starts_with('#');
        is_end.then(|| (&text[1..end], end + 1 + after.len()))
    })
}

fn unescaped(text: &str) -> String {
    text.replace("\\n", "\n").replace("\\r", "\r")
}

fn line_of(text: &str) -> &str {
    text.split('\n').next().unwrap_or(text)
}

fn is_blank(letter: char) -> bool {
    letter.is_whitespace()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the package itself makes of each of these was looked at.
    #[test]
    fn lines_are_read_as_dotenv_reads_them() {
        for (text, expected) in [
            ("", &[][..]),
            ("A=1", &[("A", "1")]),
            ("A=1\nB=2\r\nC=3\rD=4", &[("A", "1"), ("B", "2"), ("C", "3"), ("D", "4")]),
            ("# a comment\n\n  A = 1  \n", &[("A", "1")]),
            ("export A=1\nexport\tB=2", &[("A", "1"), ("B", "2")]),
            ("exported=1", &[("exported", "1")]),
            ("A=\nB=2", &[("A", ""), ("B", "2")]),
            ("A=a b # c", &[("A", "a b")]),
            ("A=a#b", &[("A", "a")]),
            ("A=\"a#b\" # c", &[("A", "a#b")]),
            ("A='a#b'", &[("A", "a#b")]),
            ("A=`a'\"b`", &[("A", "a'\"b")]),
            ("A=\"a\\nb\"", &[("A", "a\nb")]),
            ("A='a\\nb'", &[("A", "a\\nb")]),
            ("A=a\\nb", &[("A", "a\\nb")]),
            ("A=\"a\nb\"\nB=2", &[("A", "a\nb"), ("B", "2")]),
            ("A=\"  a  \"", &[("A", "  a  ")]),
            ("A=\"a\\\"b\"", &[("A", "a\\\"b")]),
            ("A=\"a\\\"", &[("A", "a\\")]),
            ("A=\"a\"b\"", &[("A", "a\"b")]),
            ("A=\"a\" b", &[("A", "\"a\" b")]),
            ("A=\"a\nB=2", &[("A", "\"a"), ("B", "2")]),
            ("A: 1", &[("A", "1")]),
            ("A:1", &[]),
            ("A 1\nB=2", &[("B", "2")]),
            ("=1", &[]),
            ("a.b-c=1", &[("a.b-c", "1")]),
            ("A=1\nA=2", &[("A", "1"), ("A", "2")]),
            ("A=b=c", &[("A", "b=c")]),
            ("A=$B ${C}", &[("A", "$B ${C}")]),
            ("A=ключ", &[("A", "ключ")]),
            ("A='ключ'", &[("A", "ключ")]),
        ] {
            let entries = read(text);
            let found: Vec<_> = entries.iter().map(|it| (&*it.name, &*it.value)).collect();
            assert_eq!(found, expected, "{text:?}");
        }
    }

    #[test]
    fn entries_know_their_lines() {
        let lines: Vec<_> = read("# c\nA=1\n\nB=\"a\nb\"\nC=3").iter().map(|it| it.line).collect();
        assert_eq!(lines, [2, 4, 6]);
    }
}
