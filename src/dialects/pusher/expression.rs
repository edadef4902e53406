//! JMESPath expressions of subscribers: read once, then asked of each message. Source: the JMESPath specification,
//! jmespath.org/specification.html.
//!
//! They come from peers, so everything about one is bounded: its text, its parts, how deep they nest, and the steps that
//! one question takes. No tree is made of the document: values stay text until an expression looks into them.

mod evaluate;
mod functions;
mod parse;
mod value;

use self::evaluate::Evaluation;
use self::functions::Function;
pub(super) use self::value::Value;

/// Bytes of an expression. Source: Sockudo, "Filters".
pub(super) const BYTES_MAX: usize = 4096;
/// Its parts. Source: the same.
const NODES_MAX: usize = 256;
/// How deep they nest. Source: the same.
const DEPTH_MAX: u8 = 32;
/// Steps of one question: a part, an item, or 64 bytes of text looked at. About a millisecond when all are used.
const STEPS_MAX: u32 = 32_768;

/// An expression, ready to be asked.
#[derive(Debug)]
pub(super) struct Expression {
    /// Parts of a part come before it; the last one is the whole.
    nodes: Vec<Node>,
    /// It may look at all of the document at once.
    takes_whole: bool,
}

/// Which part.
type NodeId = u16;

/// A part of an expression.
#[derive(Debug)]
enum Node {
    /// What is looked at.
    Current,
    Field(Box<str>),
    Index(i64),
    Slice {
        from: Option<i64>,
        to: Option<i64>,
        step: i64,
    },
    /// JSON.
    Literal(Box<str>),
    /// The second, asked of what the first gives.
    Then(NodeId, NodeId),
    /// The second, asked of each item of the list that the first gives.
    Each(NodeId, NodeId),
    /// The same of each value of an object.
    EachValue(NodeId, NodeId),
    /// The same of each item for which the second holds.
    EachIf(NodeId, NodeId, NodeId),
    /// Lists in the list become their items.
    Flatten(NodeId),
    List(Vec<NodeId>),
    Object(Vec<(Box<str>, NodeId)>),
    Or(NodeId, NodeId),
    And(NodeId, NodeId),
    Not(NodeId),
    Compare(Comparison, NodeId, NodeId),
    Call(Function, Vec<NodeId>),
    /// An expression for a function to ask.
    Reference(NodeId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Why a text is no expression, for its writer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NotAnExpression(String);

impl std::fmt::Display for NotAnExpression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// An expression that cannot be asked of this document, or not within its steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unanswered;

impl Expression {
    /// Reads one.
    pub fn new(text: &str) -> Result<Self, NotAnExpression> {
        parse::read(text)
    }

    /// What it says of a document.
    pub fn ask<'a>(&'a self, document: Value<'a>) -> Result<Value<'a>, Unanswered> {
        Evaluation::new(self).whole(document)
    }

    /// Whether it may look at a member of the document that has this name.
    pub fn looks_at(&self, name: &str) -> bool {
        let is_it = |node: &Node| matches!(node, Node::Field(field) if **field == *name);
        self.takes_whole || self.nodes.iter().any(is_it)
    }

    /// Memory that it holds.
    pub fn held_bytes(&self) -> usize {
        let more = |node: &Node| match node {
            Node::Field(text) | Node::Literal(text) => text.len(),
            Node::List(parts) | Node::Call(_, parts) => parts.len() * size_of::<NodeId>(),
            Node::Object(parts) => parts.iter().map(|(name, _)| name.len() + 24).sum(),
            _ => 0,
        };
        self.nodes.capacity() * size_of::<Node>() + self.nodes.iter().map(more).sum::<usize>()
    }
}

#[cfg(test)]
#[path = "expression_tests.rs"]
mod tests;
