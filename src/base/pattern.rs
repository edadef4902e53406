//! Patterns of names.

use super::name::Name;

/// A pattern of names: `*` stands for any run of characters, everything else for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(pub Name);

impl Pattern {
    /// Whether a name is one of it. Takes time in proportion to the product of both lengths at worst, which
    /// settings and name limits bound.
    pub fn matches(&self, name: &str) -> bool {
        let (pattern, name) = (self.0.as_bytes(), name.as_bytes());
        let (mut p, mut n) = (0, 0);
        // The last star and where in the name it was tried to end.
        let mut star = None;
        while n < name.len() {
            if p < pattern.len() && pattern[p] == b'*' {
                star = Some((p, n));
                p += 1;
            } else if p < pattern.len() && pattern[p] == name[n] {
                (p, n) = (p + 1, n + 1);
            } else if let Some((at, ended)) = star {
                star = Some((at, ended + 1));
                (p, n) = (at + 1, ended + 1);
            } else {
                return false;
            }
        }
        pattern[p..].iter().all(|&byte| byte == b'*')
    }

    /// Whether every name of `other` is one of this, too. A star of the other is a character like any here, and only
    /// a star takes it in.
    pub fn covers(&self, other: &Pattern) -> bool {
        self.matches(&other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match() {
        for (pattern, name, matches) in [
            ("*", "", true),
            ("*", "anything", true),
            ("", "", true),
            ("", "a", false),
            ("orders", "orders", true),
            ("orders", "orders-1", false),
            ("orders-*", "orders-1", true),
            ("orders-*", "orders-", true),
            ("orders-*", "my-orders-1", false),
            ("*-log", "a-log-log", true),
            ("*-log", "a-logs", false),
            ("a*b*c", "abc", true),
            ("a*b*c", "aXbXbc", true),
            ("a*b*c", "acb", false),
            ("a**c", "ac", true),
            ("*a", "aaab", false),
        ] {
            assert_eq!(Pattern(Name::from(pattern)).matches(name), matches, "{pattern} {name}");
        }
    }

    #[test]
    fn a_pattern_covers_what_is_within_it() {
        let pattern = |text: &str| Pattern(Name::from(text));
        for (wide, narrow, covers) in [
            ("*", "orders-*", true),
            ("*", "*", true),
            ("orders-*", "orders-eu-*", true),
            ("orders-*", "orders-1", true),
            ("orders-*", "*", false),
            ("orders-1", "orders-*", false),
            ("*-log", "a-*-log", true),
            ("*-log", "a-*", false),
        ] {
            assert_eq!(pattern(wide).covers(&pattern(narrow)), covers, "{wide} {narrow}");
        }
    }
}
