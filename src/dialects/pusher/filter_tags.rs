//! The part of a filter that is about tags: comparisons, and what is made of them. Source: Sockudo, "Tag filtering".

use std::borrow::Cow;

use crate::base::name::Name;
use crate::broker::{Tag, Tags};
use crate::wire::json::{Kind, Raw};

use super::filters::Wrong;

/// Nodes of one filter. Source: Sockudo's limits, as are the next four.
const NODES_MAX: usize = 128;
/// How deep they nest.
const DEPTH_MAX: usize = 16;
/// Bytes of a tag's name.
const KEY_BYTES_MAX: usize = 256;
/// Bytes of a value.
const VALUE_BYTES_MAX: usize = 1024;
/// Values of one comparison.
const VALUES_MAX: usize = 128;
/// Tags by which one subscription is found: each takes room at the edge. With more it is asked about every message.
const ANY_OF_MAX: usize = 256;

/// Something that holds of an event's tags or does not.
#[derive(Debug)]
pub(super) enum Node {
    All(Vec<Node>),
    Any(Vec<Node>),
    Not(Box<Node>),
    Is(Name, Comparison),
}

/// What holds of one tag. Of one that is not there, what begins with "not" holds and nothing else.
#[derive(Debug)]
pub(super) enum Comparison {
    Equal(Name),
    NotEqual(Name),
    /// Sorted.
    In(Vec<Name>),
    NotIn(Vec<Name>),
    Exists,
    NotExists,
    StartsWith(Name),
    EndsWith(Name),
    Contains(Name),
    /// No number: never.
    Greater(Option<f64>),
    GreaterOrEqual(Option<f64>),
    Less(Option<f64>),
    LessOrEqual(Option<f64>),
}

impl Node {
    /// Reads a node and all below it.
    pub fn read(given: Raw<'_>) -> Result<Self, Wrong> {
        let mut nodes = 0;
        read(given, 1, &mut nodes).map_err(|it| it.text())
    }

    /// Whether it holds of these tags; of a name that repeats, the first value counts, as it does for clients.
    pub fn holds(&self, tags: &Tags) -> bool {
        match self {
            Self::All(nodes) => nodes.iter().all(|it| it.holds(tags)),
            Self::Any(nodes) => nodes.iter().any(|it| it.holds(tags)),
            Self::Not(node) => !node.holds(tags),
            Self::Is(key, comparison) => comparison.holds(tags.value(key)),
        }
    }

    /// Tags of which an event has one if this holds of it; none: there are no such tags, or too many.
    pub fn any_of(&self) -> Option<Vec<Tag>> {
        let tag = |key: &Name, value: &Name| Tag { name: key.clone(), value: value.clone() };
        match self {
            Self::Is(key, Comparison::Equal(value)) => Some(vec![tag(key, value)]),
            Self::Is(key, Comparison::In(values)) => {
                Some(values.iter().map(|value| tag(key, value)).collect())
            }
            Self::All(nodes) => nodes.iter().filter_map(Self::any_of).min_by_key(Vec::len),
            Self::Any(nodes) => {
                let mut any_of = Vec::new();
                for node in nodes {
                    any_of.append(&mut node.any_of()?);
                    if any_of.len() > ANY_OF_MAX {
                        return None;
                    }
                }
                any_of.sort_unstable();
                any_of.dedup();
                Some(any_of)
            }
            Self::Not(_) | Self::Is(..) => None,
        }
    }

    /// Memory that it holds.
    pub fn held_bytes(&self) -> usize {
        let below = match self {
            Self::All(nodes) | Self::Any(nodes) => nodes.iter().map(Self::held_bytes).sum(),
            Self::Not(node) => node.held_bytes(),
            Self::Is(key, Comparison::In(values) | Comparison::NotIn(values)) => {
                key.len() + values.iter().map(|it| it.len() + 32).sum::<usize>()
            }
            Self::Is(key, _) => key.len(),
        };
        size_of::<Self>() + 32 + below
    }
}

impl Comparison {
    fn holds(&self, value: Option<&Name>) -> bool {
        let Some(value) = value else {
            return matches!(self, Self::NotEqual(_) | Self::NotIn(_) | Self::NotExists);
        };
        let number = || value.parse::<f64>().ok();
        match self {
            Self::Equal(it) => value == it,
            Self::NotEqual(it) => value != it,
            Self::In(values) => values.binary_search(value).is_ok(),
            Self::NotIn(values) => values.binary_search(value).is_err(),
            Self::Exists => true,
            Self::NotExists => false,
            Self::StartsWith(it) => value.starts_with(&**it),
            Self::EndsWith(it) => value.ends_with(&**it),
            Self::Contains(it) => memchr::memmem::find(value.as_bytes(), it.as_bytes()).is_some(),
            Self::Greater(it) => number().zip(*it).is_some_and(|(a, b)| a > b),
            Self::GreaterOrEqual(it) => number().zip(*it).is_some_and(|(a, b)| a >= b),
            Self::Less(it) => number().zip(*it).is_some_and(|(a, b)| a < b),
            Self::LessOrEqual(it) => number().zip(*it).is_some_and(|(a, b)| a <= b),
        }
    }
}

/// What is wrong: with a node, or with all of it. Sockudo words the two apart.
enum Fault {
    Node(String),
    Whole(String),
}

impl Fault {
    fn text(self) -> Wrong {
        match self {
            Self::Node(text) => format!("Invalid tags filter: {text}"),
            Self::Whole(text) => format!("Invalid subscription filter: {text}"),
        }
    }
}

fn wrong<T>(text: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Node(text.into()))
}

fn read(given: Raw<'_>, depth: usize, nodes: &mut usize) -> Result<Node, Fault> {
    let whole = |text| Err(Fault::Whole(text));
    *nodes += 1;
    if *nodes > NODES_MAX {
        return whole(format!("tag filter exceeds the node limit of {NODES_MAX}"));
    }
    if depth > DEPTH_MAX {
        return whole(format!("tag filter exceeds the depth limit of {DEPTH_MAX}"));
    }
    if given.kind() != Kind::Object {
        return wrong("a node is an object");
    }
    let member = |name| given.member(name).filter(|it: &Raw<'_>| !it.is_null());
    let word = |name| match member(name) {
        None => Ok(None),
        Some(it) => match it.as_str() {
            Some(text) => Ok(Some(text)),
            None => wrong(format!("{name} is not a string")),
        },
    };
    if let Some(op) = word("op")? {
        if ["key", "cmp", "val", "vals"].into_iter().any(|name| member(name).is_some()) {
            return wrong("logical node contains comparison fields");
        }
        if !["and", "or", "not"].contains(&&*op) {
            return wrong(format!("unknown logical operator: {}", short(&op)));
        }
        let mut below = Vec::new();
        for node in member("nodes").into_iter().flat_map(Raw::items) {
            below.push(read(node, depth + 1, nodes)?);
        }
        return match &*op {
            "not" => match (below.pop(), below.len()) {
                (Some(node), 0) => Ok(Node::Not(Box::new(node))),
                (last, rest) => wrong(format!(
                    "not operation requires exactly one child node, got {}",
                    rest + usize::from(last.is_some())
                )),
            },
            op if below.is_empty() => {
                wrong(format!("{op} operation requires at least one child node"))
            }
            "and" => Ok(Node::All(below)),
            _ => Ok(Node::Any(below)),
        };
    }
    if member("nodes").is_some_and(|it| it.items().next().is_some()) {
        return wrong("comparison node contains child nodes");
    }
    let Some(key) = word("key")?.filter(|it| !it.is_empty()) else {
        return wrong("Leaf node requires a non-empty key");
    };
    if key.len() > KEY_BYTES_MAX {
        return whole(format!("tag filter key exceeds the byte limit of {KEY_BYTES_MAX}"));
    }
    let Some(cmp) = word("cmp")? else {
        return wrong("Leaf node requires a comparison operator");
    };
    let comparison = comparison(&cmp, member("val"), member("vals"))?;
    Ok(Node::Is(Name::from(&*key), comparison))
}

fn comparison(cmp: &str, val: Option<Raw<'_>>, vals: Option<Raw<'_>>) -> Result<Comparison, Fault> {
    match cmp {
        "ex" => return Ok(Comparison::Exists),
        "nex" => return Ok(Comparison::NotExists),
        "in" | "nin" => {
            let mut values = Vec::new();
            for value in vals.into_iter().flat_map(Raw::items) {
                if values.len() >= VALUES_MAX {
                    let text = format!("tag filter value list exceeds the limit of {VALUES_MAX}");
                    return Err(Fault::Whole(text));
                }
                values.push(text_of(value)?);
            }
            if values.is_empty() {
                return wrong(format!("{cmp} operation requires at least one value in vals"));
            }
            values.sort_unstable();
            values.dedup();
            return Ok(match cmp {
                "in" => Comparison::In(values),
                _ => Comparison::NotIn(values),
            });
        }
        "eq" | "neq" | "sw" | "ew" | "ct" | "gt" | "gte" | "lt" | "lte" => {}
        _ => return wrong(format!("unknown comparison operator: {}", short(cmp))),
    }
    let value = val.map(text_of).transpose()?.filter(|it| !it.is_empty());
    let Some(value) = value else {
        return wrong(format!("{cmp} operation requires a non-empty val"));
    };
    let number = value.parse().ok();
    Ok(match cmp {
        "eq" => Comparison::Equal(value),
        "neq" => Comparison::NotEqual(value),
        "sw" => Comparison::StartsWith(value),
        "ew" => Comparison::EndsWith(value),
        "ct" => Comparison::Contains(value),
        "gt" => Comparison::Greater(number),
        "gte" => Comparison::GreaterOrEqual(number),
        "lt" => Comparison::Less(number),
        _ => Comparison::LessOrEqual(number),
    })
}

/// A value to compare with: text, or a number or truth value as it is spelled.
fn text_of(value: Raw<'_>) -> Result<Name, Fault> {
    let text = match value.kind() {
        Kind::String => value.as_str().unwrap_or_default(),
        Kind::Number | Kind::Bool => Cow::Borrowed(value.text()),
        _ => return wrong("a value is a string, a number or a boolean"),
    };
    if text.len() > VALUE_BYTES_MAX {
        let text = format!("tag filter value exceeds the byte limit of {VALUE_BYTES_MAX}");
        return Err(Fault::Whole(text));
    }
    Ok(Name::from(&*text))
}

fn short(text: &str) -> String {
    text.chars().take(40).collect()
}
