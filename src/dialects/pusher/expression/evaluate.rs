//! Parts asked of values.

use std::borrow::Cow;

use super::value::{Steps, put};
use super::{Comparison, Expression, Node, NodeId, STEPS_MAX, Unanswered, Value};
use crate::wire::json;

/// One question.
pub(super) struct Evaluation<'a> {
    nodes: &'a [Node],
    pub steps: Steps,
}

type Answer<'a> = Result<Value<'a>, Unanswered>;

impl<'a> Evaluation<'a> {
    pub fn new(expression: &'a Expression) -> Self {
        Self { nodes: &expression.nodes, steps: Steps(STEPS_MAX) }
    }

    /// The whole expression.
    pub fn whole(&mut self, document: Value<'a>) -> Answer<'a> {
        let whole = self.nodes.len().checked_sub(1).ok_or(Unanswered)?;
        self.ask(whole as NodeId, &document)
    }

    /// One part; parts nest no deeper than an expression may.
    pub fn ask(&mut self, part: NodeId, value: &Value<'a>) -> Answer<'a> {
        self.steps.take(1)?;
        let nodes = self.nodes;
        match &nodes[usize::from(part)] {
            Node::Current => Ok(value.clone()),
            Node::Field(name) => value.field(name, &mut self.steps),
            Node::Index(index) => {
                let Some(items) = value.items(&mut self.steps)? else { return Ok(Value::Null) };
                let at = if *index < 0 { items.len() as i64 + index } else { *index };
                let item = usize::try_from(at).ok().and_then(|at| items.get(at));
                Ok(item.cloned().unwrap_or(Value::Null))
            }
            Node::Slice { from, to, step } => {
                let Some(items) = value.items(&mut self.steps)? else { return Ok(Value::Null) };
                let picked = slice(items.len() as i64, *from, *to, *step);
                Ok(Value::list(picked.map(|at| items[at].clone()).collect()))
            }
            Node::Literal(text) => {
                self.steps.text(text)?;
                json::parse_str(text).map(Value::new).map_err(|_| Unanswered)
            }
            Node::Then(first, second) => {
                let value = self.ask(*first, value)?;
                self.ask(*second, &value)
            }
            Node::Each(first, second) => {
                let list = self.ask(*first, value)?;
                let Some(items) = list.items(&mut self.steps)? else { return Ok(Value::Null) };
                self.each(items.iter(), *second)
            }
            Node::EachValue(first, second) => {
                let object = self.ask(*first, value)?;
                let Some(members) = object.members(&mut self.steps)? else {
                    return Ok(Value::Null);
                };
                self.each(members.iter().map(|(_, value)| value), *second)
            }
            Node::EachIf(first, condition, second) => {
                let list = self.ask(*first, value)?;
                let Some(items) = list.items(&mut self.steps)? else { return Ok(Value::Null) };
                let mut matching = Vec::new();
                for item in items.iter() {
                    if self.ask(*condition, item)?.is_true() {
                        matching.push(item.clone());
                    }
                }
                self.each(matching.iter(), *second)
            }
            Node::Flatten(inner) => {
                let list = self.ask(*inner, value)?;
                let Some(items) = list.items(&mut self.steps)? else { return Ok(Value::Null) };
                let mut flat = Vec::new();
                for item in items.iter() {
                    match item.items(&mut self.steps)? {
                        Some(inner) => flat.extend(inner.iter().cloned()),
                        None => flat.push(item.clone()),
                    }
                }
                Ok(Value::list(flat))
            }
            // Nothing is made of nothing.
            Node::List(_) | Node::Object(_) if matches!(value, Value::Null) => Ok(Value::Null),
            Node::List(parts) => {
                let items = parts.iter().map(|&part| self.ask(part, value));
                Ok(Value::list(items.collect::<Result<_, _>>()?))
            }
            Node::Object(parts) => {
                let mut members = Vec::new();
                for (name, part) in parts {
                    let value = self.ask(*part, value)?;
                    put(&mut members, Cow::Borrowed(&**name), value, &mut self.steps)?;
                }
                Ok(Value::Object(members.into()))
            }
            Node::Or(first, second) => {
                let it = self.ask(*first, value)?;
                if it.is_true() { Ok(it) } else { self.ask(*second, value) }
            }
            Node::And(first, second) => {
                let it = self.ask(*first, value)?;
                if it.is_true() { self.ask(*second, value) } else { Ok(it) }
            }
            Node::Not(inner) => Ok(Value::Bool(!self.ask(*inner, value)?.is_true())),
            Node::Compare(comparison, first, second) => {
                let (first, second) = (self.ask(*first, value)?, self.ask(*second, value)?);
                self.compare(*comparison, &first, &second)
            }
            Node::Call(function, parts) => self.call(*function, parts, value),
            // Only functions ask it, and they know what of.
            Node::Reference(_) => Err(Unanswered),
        }
    }

    /// A part asked of each of these; answers that are null are left out.
    fn each<'b>(&mut self, items: impl Iterator<Item = &'b Value<'a>>, part: NodeId) -> Answer<'a>
    where
        'a: 'b,
    {
        let mut answers = Vec::new();
        for item in items {
            match self.ask(part, item)? {
                Value::Null => {}
                answer => answers.push(answer),
            }
        }
        Ok(Value::list(answers))
    }

    fn compare(
        &mut self,
        comparison: Comparison,
        first: &Value<'a>,
        second: &Value<'a>,
    ) -> Answer<'a> {
        let is_true = match comparison {
            Comparison::Equal => first.is_same(second, &mut self.steps)?,
            Comparison::Unequal => !first.is_same(second, &mut self.steps)?,
            ordered => {
                let (Some(first), Some(second)) = (first.number(), second.number()) else {
                    return Ok(Value::Null);
                };
                match ordered {
                    Comparison::Less => first < second,
                    Comparison::LessOrEqual => first <= second,
                    Comparison::Greater => first > second,
                    _ => first >= second,
                }
            }
        };
        Ok(Value::Bool(is_true))
    }

    /// The part that a function is to ask.
    pub fn referred(&self, part: NodeId) -> Result<NodeId, Unanswered> {
        match self.nodes[usize::from(part)] {
            Node::Reference(inner) => Ok(inner),
            _ => Err(Unanswered),
        }
    }
}

/// Which of so many items a slice picks.
fn slice(
    length: i64,
    from: Option<i64>,
    to: Option<i64>,
    step: i64,
) -> impl Iterator<Item = usize> {
    // One before the first, going down; one behind the last, going up.
    let (least, most) = if step > 0 { (0, length) } else { (-1, length - 1) };
    let place = |at: i64| {
        let at = if at < 0 { at.saturating_add(length) } else { at };
        at.clamp(least, most)
    };
    let (first, last) = if step > 0 { (least, most) } else { (most, least) };
    let mut at = from.map_or(first, place);
    let end = to.map_or(last, place);
    std::iter::from_fn(move || {
        let is_in = if step > 0 { at < end } else { at > end };
        let picked = is_in.then_some(at as usize);
        at = at.saturating_add(step);
        picked
    })
}
