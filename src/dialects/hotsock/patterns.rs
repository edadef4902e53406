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
