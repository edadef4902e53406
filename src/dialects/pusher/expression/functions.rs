//! The functions of the specification.

use std::cmp::Ordering;
use std::rc::Rc;

use super::evaluate::Evaluation;
use super::value::put;
use super::{NodeId, Unanswered, Value};
use crate::wire::json;

/// A function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Abs,
    Avg,
    Ceil,
    Contains,
    EndsWith,
    Floor,
    Join,
    Keys,
    Length,
    Map,
    Max,
    MaxBy,
    Merge,
    Min,
    MinBy,
    NotNull,
    Reverse,
    Sort,
    SortBy,
    StartsWith,
    Sum,
    ToArray,
    ToNumber,
    ToString,
    Type,
    Values,
}

const NAMES: [(&str, Function); 26] = [
    ("abs", Function::Abs),
    ("avg", Function::Avg),
    ("ceil", Function::Ceil),
    ("contains", Function::Contains),
    ("ends_with", Function::EndsWith),
    ("floor", Function::Floor),
    ("join", Function::Join),
    ("keys", Function::Keys),
    ("length", Function::Length),
    ("map", Function::Map),
    ("max", Function::Max),
    ("max_by", Function::MaxBy),
    ("merge", Function::Merge),
    ("min", Function::Min),
    ("min_by", Function::MinBy),
    ("not_null", Function::NotNull),
    ("reverse", Function::Reverse),
    ("sort", Function::Sort),
    ("sort_by", Function::SortBy),
    ("starts_with", Function::StartsWith),
    ("sum", Function::Sum),
    ("to_array", Function::ToArray),
    ("to_number", Function::ToNumber),
    ("to_string", Function::ToString),
    ("type", Function::Type),
    ("values", Function::Values),
];

impl Function {
    pub fn named(name: &str) -> Option<Self> {
        NAMES.iter().find(|(it, _)| *it == name).map(|(_, function)| *function)
    }

    /// Whether it takes so many arguments.
    pub fn takes(self, arguments: usize) -> bool {
        match self {
            Self::Merge | Self::NotNull => arguments >= 1,
            Self::Contains
            | Self::EndsWith
            | Self::StartsWith
            | Self::Join
            | Self::Map
            | Self::MaxBy
            | Self::MinBy
            | Self::SortBy => arguments == 2,
            _ => arguments == 1,
        }
    }

    /// Which of its arguments is an expression.
    pub fn reference(self) -> Option<usize> {
        match self {
            Self::Map => Some(0),
            Self::MaxBy | Self::MinBy | Self::SortBy => Some(1),
            _ => None,
        }
    }
}

type Answer<'a> = Result<Value<'a>, Unanswered>;

impl<'a> Evaluation<'a> {
    /// A function with these arguments, which are as many as it takes.
    pub fn call(&mut self, function: Function, parts: &[NodeId], value: &Value<'a>) -> Answer<'a> {
        let mut arguments = Vec::with_capacity(parts.len());
        for (at, &part) in parts.iter().enumerate() {
            arguments.push(match function.reference() {
                Some(reference) if reference == at => Value::Null,
                _ => self.ask(part, value)?,
            });
        }
        let first = &arguments[0];
        let second = arguments.get(1).unwrap_or(&Value::Null);
        match function {
            Function::Abs => Ok(Value::Number(number(first)?.abs())),
            Function::Ceil => Ok(Value::Number(number(first)?.ceil())),
            Function::Floor => Ok(Value::Number(number(first)?.floor())),
            Function::Sum => Ok(Value::Number(self.numbers(first)?.iter().sum())),
            Function::Avg => {
                let numbers = self.numbers(first)?;
                let count = numbers.len() as f64;
                let is_empty = numbers.is_empty();
                Ok(match is_empty {
                    true => Value::Null,
                    false => Value::Number(numbers.iter().sum::<f64>() / count),
                })
            }
            Function::Contains => self.contains(first, second),
            Function::StartsWith => Ok(Value::Bool(text(first)?.starts_with(text(second)?))),
            Function::EndsWith => Ok(Value::Bool(text(first)?.ends_with(text(second)?))),
            Function::Join => self.join(first, second),
            Function::Keys | Function::Values => {
                let members = first.members(&mut self.steps)?.ok_or(Unanswered)?;
                let part = members.iter().map(|(name, value)| match function {
                    Function::Keys => Value::Made(Rc::from(&**name)),
                    _ => value.clone(),
                });
                Ok(Value::list(part.collect()))
            }
            Function::Length => {
                let length = match first.text() {
                    Some(text) => {
                        self.steps.text(text)?;
                        text.chars().count()
                    }
                    None => match first.items(&mut self.steps)? {
                        Some(items) => items.len(),
                        None => first.members(&mut self.steps)?.ok_or(Unanswered)?.len(),
                    },
                };
                Ok(Value::Number(length as f64))
            }
            Function::Map => {
                let part = self.referred(parts[0])?;
                let items = self.list(second)?;
                let answers = items.iter().map(|item| self.ask(part, item));
                Ok(Value::list(answers.collect::<Result<_, _>>()?))
            }
            Function::Max | Function::Min => {
                let items = self.list(first)?;
                self.orderable(&items)?;
                Ok(best(function == Function::Max, items.iter().map(|it| (it, it))))
            }
            Function::MaxBy | Function::MinBy => {
                let (items, keys) = self.keyed(first, parts[1])?;
                let pairs = keys.iter().zip(items.iter());
                Ok(best(function == Function::MaxBy, pairs))
            }
            Function::Merge => {
                let mut members = Vec::new();
                for argument in &arguments {
                    for (name, value) in
                        argument.members(&mut self.steps)?.ok_or(Unanswered)?.iter()
                    {
                        put(&mut members, name.clone(), value.clone(), &mut self.steps)?;
                    }
                }
                Ok(Value::Object(members.into()))
            }
            Function::NotNull => {
                let found = arguments.iter().find(|it| !matches!(it, Value::Null));
                Ok(found.cloned().unwrap_or(Value::Null))
            }
            Function::Reverse => match first.text() {
                Some(text) => {
                    self.steps.take(1 + text.len() / 16)?;
                    Ok(Value::Made(text.chars().rev().collect::<String>().into()))
                }
                None => Ok(Value::list(self.list(first)?.iter().rev().cloned().collect())),
            },
            Function::Sort => {
                let items = self.list(first)?;
                self.orderable(&items)?;
                let mut sorted = items.to_vec();
                sorted.sort_by(order);
                Ok(Value::list(sorted))
            }
            Function::SortBy => {
                let (items, keys) = self.keyed(first, parts[1])?;
                let mut places: Vec<usize> = (0..items.len()).collect();
                places.sort_by(|&a, &b| order(&keys[a], &keys[b]));
                Ok(Value::list(places.into_iter().map(|at| items[at].clone()).collect()))
            }
            Function::ToArray => match first.kind() {
                "array" => Ok(first.clone()),
                _ => Ok(Value::list(vec![first.clone()])),
            },
            Function::ToNumber => Ok(match first {
                Value::Number(_) => first.clone(),
                _ => self.number_of(first)?,
            }),
            Function::ToString => match first.text() {
                Some(_) => Ok(first.clone()),
                None => {
                    let mut json = Vec::new();
                    first.write(&mut json, &mut self.steps)?;
                    Ok(Value::Made(String::from_utf8_lossy(&json).into()))
                }
            },
            Function::Type => Ok(Value::Text(first.kind())),
        }
    }

    fn list(&mut self, value: &Value<'a>) -> Result<Rc<[Value<'a>]>, Unanswered> {
        value.items(&mut self.steps)?.ok_or(Unanswered)
    }

    fn numbers(&mut self, value: &Value<'a>) -> Result<Vec<f64>, Unanswered> {
        self.list(value)?.iter().map(number).collect()
    }

    fn contains(&mut self, value: &Value<'a>, wanted: &Value<'a>) -> Answer<'a> {
        if let Some(text) = value.text() {
            self.steps.text(text)?;
            return Ok(Value::Bool(wanted.text().is_some_and(|wanted| text.contains(wanted))));
        }
        for item in self.list(value)?.iter() {
            if item.is_same(wanted, &mut self.steps)? {
                return Ok(Value::Bool(true));
            }
        }
        Ok(Value::Bool(false))
    }

    fn join(&mut self, glue: &Value<'a>, list: &Value<'a>) -> Answer<'a> {
        let glue = text(glue)?;
        let mut joined = String::new();
        for (i, item) in self.list(list)?.iter().enumerate() {
            let item = text(item)?;
            self.steps.take(1 + (glue.len() + item.len()) / 16)?;
            if i > 0 {
                joined.push_str(glue);
            }
            joined.push_str(item);
        }
        Ok(Value::Made(joined.into()))
    }

    fn number_of(&mut self, value: &Value<'a>) -> Answer<'a> {
        let Some(text) = value.text() else { return Ok(Value::Null) };
        self.steps.text(text)?;
        let number = json::parse_str(text).ok().and_then(|it| it.as_f64());
        Ok(number.map_or(Value::Null, Value::Number))
    }

    /// A list's items and what an expression says of each; all numbers or all text.
    fn keyed(&mut self, list: &Value<'a>, by: NodeId) -> Result<Keyed<'a>, Unanswered> {
        let (items, part) = (self.list(list)?, self.referred(by)?);
        let keys = items.iter().map(|item| self.ask(part, item)).collect::<Result<Vec<_>, _>>()?;
        self.orderable(&keys)?;
        Ok((items, keys))
    }

    /// Only numbers, or only text; and what putting them in order costs.
    fn orderable(&mut self, items: &[Value<'a>]) -> Result<(), Unanswered> {
        for item in items {
            self.steps.take(8 + item.text().map_or(0, |it| it.len() / 8))?;
        }
        let all_numbers = items.iter().all(|it| it.number().is_some());
        let all_text = items.iter().all(|it| it.text().is_some());
        if all_numbers || all_text { Ok(()) } else { Err(Unanswered) }
    }
}

type Keyed<'a> = (Rc<[Value<'a>]>, Vec<Value<'a>>);

fn number(value: &Value<'_>) -> Result<f64, Unanswered> {
    value.number().ok_or(Unanswered)
}

fn text<'b>(value: &'b Value<'_>) -> Result<&'b str, Unanswered> {
    value.text().ok_or(Unanswered)
}

fn order(a: &Value<'_>, b: &Value<'_>) -> Ordering {
    match (a.number(), b.number()) {
        (Some(a), Some(b)) => a.total_cmp(&b),
        _ => a.text().cmp(&b.text()),
    }
}

/// The value whose key is the greatest or the least, the first of several; null of none.
fn best<'a: 'b, 'b>(
    is_greatest: bool,
    pairs: impl Iterator<Item = (&'b Value<'a>, &'b Value<'a>)>,
) -> Value<'a> {
    let wanted = if is_greatest { Ordering::Greater } else { Ordering::Less };
    let best = pairs.reduce(|best, it| if order(it.0, best.0) == wanted { it } else { best });
    best.map_or(Value::Null, |(_, value)| value.clone())
}
