//! A socket's filter: which annotations it wants, as the tags they are found by.
//!
//! The schema as it really behaves at the `h` service, whose own is mostly inert: clauses are not
//! validated but read, and one that cannot be read drops the whole message without a word. Source:
//! observed, 172 messages; `tests/data` has them.

use super::annotation::Field;
use super::uri;
use crate::base::name::Name;
use crate::broker::Tag;
use crate::wire::json::{Kind, Raw};

/// What becomes of a `filter` message.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed {
    /// It is in force from here on; sorted, each tag once.
    Filter(Vec<Tag>),
    /// It is refused, and the peer is told so.
    Refused,
    /// It is dropped, and the peer is told nothing.
    Dropped,
}

/// What the values of a filter may take in all, in their normal form: they are kept as long as the filter.
const BYTES_MAX: usize = 256 << 10;

/// Reads the value of `filter`; more than `values_max` alternatives, or longer ones than 256 KiB together, are
/// refused before they are kept.
pub fn parse(filter: Raw<'_>, values_max: usize) -> Parsed {
    let is_policy = |it: Raw<'_>| it.as_str().as_deref() == Some("include_any");
    if filter.kind() != Kind::Object
        || !filter.member("match_policy").is_some_and(is_policy)
        || filter.member("actions").is_none()
    {
        return Parsed::Refused;
    }
    let Some(clauses) = filter.member("clauses").filter(|it| it.kind() == Kind::Array) else {
        return Parsed::Refused;
    };
    let mut found = Found { tags: Vec::new(), bytes: 0, values_max };
    for clause in clauses.items() {
        match read_clause(clause, &mut found) {
            Ok(()) => {}
            Err(Unread::TooMuch) => return Parsed::Refused,
            Err(Unread::Odd) => return Parsed::Dropped,
        }
    }
    let mut tags = found.tags;
    tags.sort_unstable();
    tags.dedup();
    Parsed::Filter(tags)
}

/// What a filter's clauses come to so far.
struct Found {
    tags: Vec<Tag>,
    bytes: usize,
    values_max: usize,
}

/// Why a clause is not read.
enum Unread {
    /// It cannot be.
    Odd,
    /// It would be more than is kept.
    TooMuch,
}

impl Found {
    fn push(&mut self, field: Field, value: &str) -> Result<(), Unread> {
        self.bytes += value.len();
        if self.tags.len() >= self.values_max || self.bytes > BYTES_MAX {
            return Err(Unread::TooMuch);
        }
        self.tags.push(field.tag(value));
        Ok(())
    }
}

/// Adds the tags of a clause.
fn read_clause(clause: Raw<'_>, found: &mut Found) -> Result<(), Unread> {
    if clause.kind() != Kind::Object {
        return Err(Unread::Odd);
    }
    let field = clause.member("field").ok_or(Unread::Odd)?;
    if matches!(field.kind(), Kind::Object | Kind::Array) {
        return Err(Unread::Odd);
    }
    // Fields that nobody knows are passed over, value or not.
    let Some(field) = field.as_str().and_then(|name| Field::of(&name)) else { return Ok(()) };
    let value = clause.member("value").ok_or(Unread::Odd)?;
    if value.kind() != Kind::Array {
        return read_value(field, value, found);
    }
    for item in value.items() {
        if matches!(item.kind(), Kind::Object | Kind::Array) {
            return Err(Unread::Odd);
        }
        read_value(field, item, found)?;
    }
    Ok(())
}

fn read_value(field: Field, value: Raw<'_>, found: &mut Found) -> Result<(), Unread> {
    match (field, value.as_str()) {
        (Field::Uri, None) => Err(Unread::Odd),
        (Field::Uri, Some(text)) => {
            let keys = uri::keys_wanted(&text).ok_or(Unread::Odd)?;
            keys.iter().try_for_each(|key| found.push(field, key))
        }
        (_, Some(text)) => found.push(field, &text),
        // Other than text, it equals nothing.
        (_, None) => Ok(()),
    }
}

impl Field {
    /// The tag that says this of an annotation.
    pub fn tag(self, value: &str) -> Tag {
        Tag { name: self.name(), value: Name::from(value) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::json;

    fn parsed(values: &str, values_max: usize) -> Parsed {
        let text = format!(
            r#"{{"match_policy":"include_any","actions":1,"clauses":[{{"field":"/uri","value":{values}}}]}}"#
        );
        parse(json::parse_str(&text).unwrap(), values_max)
    }

    #[test]
    fn a_filter_keeps_no_more_than_it_may() {
        let versions =
            |base: usize, n: usize| format!("\"urn:{}{}\"", "x".repeat(base), ":v1".repeat(n));
        // Copies of one long address: as many as the message has suffixes, were they made.
        assert_eq!(parsed(&versions(120_000, 40_000), 1024), Parsed::Dropped);
        assert_eq!(parsed(&versions(60_000, uri::VERSIONS_MAX), 1024), Parsed::Refused);
        assert!(matches!(parsed(&versions(100, uri::VERSIONS_MAX), 1024), Parsed::Filter(_)));
        assert_eq!(parsed(r#"["a","b","c"]"#, 2), Parsed::Refused);
        assert!(matches!(parsed(r#"["a","b"]"#, 2), Parsed::Filter(tags) if tags.len() == 2));
        let long = format!("\"http://e.com/{}\"", "x".repeat(BYTES_MAX));
        assert_eq!(parsed(&long, 2), Parsed::Refused);
    }
}
