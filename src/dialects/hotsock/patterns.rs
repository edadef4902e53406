//! Patterns of names in tokens: a name itself, one with `*` in it, or `#regex:` and an expression.

use super::expression::{Expression, Scratch};
use crate::base::name::Name;

/// Bytes of one pattern, at most.
pub const PATTERN_BYTES_MAX: usize = 1 << 10;
/// A pattern that starts so goes on as a regular expression.
pub const REGEX: &str = "#regex:";

/// A pattern, ready to match. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: Name,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Literal,
    /// With so many characters beside the stars.
    Wildcard(usize),
    Regex(Box<Expression>),
}

/// How particular a pattern is: the least comes first. Of those that are equally so, the one whose text comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank<'a> {
    kind: u8,
    /// Counted down, because more of them are more particular.
    literals: std::cmp::Reverse<usize>,
    text: &'a str,
}

impl Pattern {
    /// Reads a pattern; compiled it takes up to `bytes_max`. The error says what is wrong, after its text.
    pub fn new(text: &str, bytes_max: usize) -> Result<Self, &'static str> {
        if text.len() > PATTERN_BYTES_MAX {
            return Err("has more than 1024 bytes");
        }
        let kind = match text.strip_prefix(REGEX) {
            Some(expression) => Kind::Regex(Box::new(Expression::new(expression, bytes_max)?)),
            None if text.contains('*') => {
                Kind::Wildcard(text.chars().filter(|c| *c != '*').count())
            }
            None => Kind::Literal,
        };
        Ok(Self { text: Name::from(text), kind })
    }

    /// As it is written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it stands for one name only.
    pub fn is_literal(&self) -> bool {
        matches!(self.kind, Kind::Literal)
    }

    /// Whether it is nothing but stars, so that every name is one of it.
    pub fn is_everything(&self) -> bool {
        matches!(self.kind, Kind::Wildcard(0))
    }

    /// Whether a name is one of it.
    pub fn matches(&self, name: &str, scratch: &mut Scratch) -> bool {
        match &self.kind {
            Kind::Literal => *self.text == *name,
            Kind::Wildcard(_) => matches_wildcard(&self.text, name),
            Kind::Regex(expression) => expression.matches(name, scratch),
        }
    }

    /// How particular it is.
    pub fn rank(&self) -> Rank<'_> {
        let (kind, literals) = match self.kind {
            Kind::Literal => (0, 0),
            Kind::Wildcard(literals) => (1, literals),
            Kind::Regex(_) => (2, 0),
        };
        Rank { kind, literals: std::cmp::Reverse(literals), text: &self.text }
    }

    /// Memory that it holds beside itself.
    pub fn held_bytes(&self) -> usize {
        let compiled = match &self.kind {
            Kind::Regex(it) => size_of::<Expression>() + it.held_bytes(),
            _ => 0,
        };
        self.text.len() + compiled
    }
}

/// What stands between stars is looked for where the last of it ended, so that each byte is passed once.
fn matches_wildcard(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    let mut rest = rest.as_bytes();
    for part in parts {
        let Some(at) = memchr::memmem::find(rest, part.as_bytes()) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::prng::Prng;
    use crate::dialects::hotsock::expression::COMPILED_BYTES_MAX;

    fn pattern(text: &str) -> Pattern {
        Pattern::new(text, COMPILED_BYTES_MAX).unwrap()
    }

    #[test]
    fn patterns_match_whole_names_and_expressions_any_part() {
        let mut scratch = Scratch::default();
        for (text, matching, others) in [
            ("room", &["room"][..], &["", "room1", "aroom", "Room"][..]),
            ("", &[""], &["a"]),
            ("*", &["", "a", "a.b", "a\nb", "é"], &[]),
            ("**", &["", "a"], &[]),
            ("room.*", &["room.", "room.1", "room.1.2"], &["room", "a.room.1", "roomx1"]),
            ("*.log", &[".log", "a.log", "a.log.log"], &["log", "a.logs"]),
            ("a*b*c", &["abc", "aXbXc", "abbcc", "abcbc"], &["ac", "acb", "ab", "abcd"]),
            ("a*a", &["aa", "aba"], &["a", ""]),
            ("*ab*ab*", &["abab", "xabyabz"], &["ab", "aba", "abba"]),
            ("é*ö", &["éö", "éxö"], &["é", "eö"]),
            ("[a-z].*", &["[a-z].1"], &["b.1"]),
            ("#regex:room", &["room", "a room"], &["roo"]),
            ("#regex:^room$", &["room"], &["rooms"]),
            ("#regex:", &["", "a"], &[]),
            ("#regex:a*", &["", "b"], &[]),
            ("#regexp:a", &["#regexp:a"], &["a"]),
        ] {
            let pattern = pattern(text);
            for (names, expected) in [(matching, true), (others, false)] {
                for name in names {
                    assert_eq!(pattern.matches(name, &mut scratch), expected, "{text} {name}");
                }
            }
        }
    }

    /// The definition, which takes exponential time.
    fn matches_by_definition(pattern: &[u8], name: &[u8]) -> bool {
        match pattern.split_first() {
            None => name.is_empty(),
            Some((b'*', rest)) => {
                (0..=name.len()).any(|at| matches_by_definition(rest, &name[at..]))
            }
            Some((byte, rest)) => {
                name.first() == Some(byte) && matches_by_definition(rest, &name[1..])
            }
        }
    }

    #[test]
    fn wildcards_match_by_definition() {
        let seed = 11;
        let mut prng = Prng::new(seed);
        let mut of = |alphabet: &[u8], max: u64| -> String {
            let len = prng.below(max + 1);
            (0..len)
                .map(|_| char::from(alphabet[prng.below(alphabet.len() as u64) as usize]))
                .collect()
        };
        for _ in 0..20_000 {
            let (text, name) = (of(b"ab*", 8), of(b"ab", 10));
            let expected = matches_by_definition(text.as_bytes(), name.as_bytes());
            let found = pattern(&text).matches(&name, &mut Scratch::default());
            assert_eq!(found, expected, "seed {seed}: {text} {name}");
        }
    }

    #[test]
    fn many_stars_take_no_longer() {
        let text = "a*".repeat(PATTERN_BYTES_MAX / 2);
        let name = "a".repeat(PATTERN_BYTES_MAX) + "b";
        assert!(!pattern(&(text[..1000].to_owned() + "c")).matches(&name, &mut Scratch::default()));
        assert!(pattern(&text).matches(&name, &mut Scratch::default()));
        assert!(Pattern::new(&(text + "a"), COMPILED_BYTES_MAX).is_err());
    }

    #[test]
    fn the_more_particular_comes_first() {
        let texts =
            ["a", "b", "abc*", "*abd", "*é*b", "*a", "a*", "*", "**", "#regex:a", "#regex:b"];
        let patterns = texts.map(pattern);
        for (i, one) in patterns.iter().enumerate() {
            for (j, other) in patterns.iter().enumerate() {
                let (a, b) = (one.text(), other.text());
                // `*abd` comes after `abc*` by its rank, not by its text.
                let expected = match (a, b) {
                    ("abc*", "*abd") => std::cmp::Ordering::Greater,
                    ("*abd", "abc*") => std::cmp::Ordering::Less,
                    _ => i.cmp(&j),
                };
                assert_eq!(one.rank().cmp(&other.rank()), expected, "{a} {b}");
            }
        }
    }
}
