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

/// Reads the value of `filter`; more than `values_max` alternatives are refused.
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
    let mut tags = Vec::new();
    for clause in clauses.items() {
        if read_clause(clause, &mut tags).is_none() {
            return Parsed::Dropped;
        }
        if tags.len() > values_max {
            return Parsed::Refused;
        }
    }
    tags.sort_unstable();
    tags.dedup();
    Parsed::Filter(tags)
}

/// Appends the tags of a clause; none if it cannot be read.
fn read_clause(clause: Raw<'_>, tags: &mut Vec<Tag>) -> Option<()> {
    if clause.kind() != Kind::Object {
        return None;
    }
    let field = clause.member("field")?;
    if matches!(field.kind(), Kind::Object | Kind::Array) {
        return None;
    }
    // Fields that nobody knows are passed over, value or not.
    let Some(field) = field.as_str().and_then(|name| Field::of(&name)) else { return Some(()) };
    let value = clause.member("value")?;
    if value.kind() != Kind::Array {
        return read_value(field, value, tags);
    }
    for item in value.items() {
        if matches!(item.kind(), Kind::Object | Kind::Array) {
            return None;
        }
        read_value(field, item, tags)?;
    }
    Some(())
}

fn read_value(field: Field, value: Raw<'_>, tags: &mut Vec<Tag>) -> Option<()> {
    let text = value.as_str();
    match (field, text) {
        (Field::Uri, None) => return None,
        (Field::Uri, Some(text)) => {
            tags.extend(uri::keys_wanted(&text)?.iter().map(|key| field.tag(key)));
        }
        (_, Some(text)) => tags.push(field.tag(&text)),
        // Other than text, it equals nothing.
        (_, None) => {}
    }
    Some(())
}

impl Field {
    /// The tag that says this of an annotation.
    pub fn tag(self, value: &str) -> Tag {
        Tag { name: self.name(), value: Name::from(value) }
    }
}
