//! Values that expressions meet.

use std::borrow::Cow;
use std::rc::Rc;

use super::Unanswered;
use crate::wire::json::{self, Kind, Raw};

/// A value.
#[derive(Clone, Debug)]
pub(in super::super) enum Value<'a> {
    Null,
    Bool(bool),
    Number(f64),
    Text(&'a str),
    /// Text that was made here.
    Made(Rc<str>),
    /// A list or an object as it came.
    Raw(Raw<'a>),
    List(Rc<[Value<'a>]>),
    /// No name twice.
    Object(Rc<[(Cow<'a, str>, Value<'a>)]>),
}

impl<'a> Value<'a> {
    /// Of JSON.
    pub fn new(raw: Raw<'a>) -> Self {
        match raw.kind() {
            Kind::Null => Self::Null,
            Kind::Bool => Self::Bool(raw.as_bool() == Some(true)),
            Kind::Number => Self::Number(raw.as_f64().unwrap_or(f64::NAN)),
            Kind::String => match raw.as_str() {
                Some(Cow::Borrowed(text)) => Self::Text(text),
                Some(Cow::Owned(text)) => Self::Made(text.into()),
                None => Self::Null,
            },
            Kind::Array | Kind::Object => Self::Raw(raw),
        }
    }

    /// An object of these members.
    pub fn object(members: impl IntoIterator<Item = (&'a str, Self)>) -> Self {
        let members = members.into_iter().map(|(name, value)| (Cow::Borrowed(name), value));
        Self::Object(members.collect())
    }

    /// A list of these.
    pub fn list(items: Vec<Self>) -> Self {
        Self::List(items.into())
    }

    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Made(text) => Some(text),
            _ => None,
        }
    }

    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// Whether it counts as true: everything does but null, false and what is empty.
    pub fn is_true(&self) -> bool {
        match self {
            Self::Null => false,
            Self::Bool(it) => *it,
            Self::Number(_) => true,
            Self::Text(text) => !text.is_empty(),
            Self::Made(text) => !text.is_empty(),
            Self::Raw(raw) => raw.items().next().is_some() || raw.members().next().is_some(),
            Self::List(items) => !items.is_empty(),
            Self::Object(members) => !members.is_empty(),
        }
    }

    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "boolean",
            Self::Number(_) => "number",
            Self::Text(_) | Self::Made(_) => "string",
            Self::Raw(raw) if raw.kind() == Kind::Object => "object",
            Self::Object(_) => "object",
            Self::Raw(_) | Self::List(_) => "array",
        }
    }

    /// A member of an object; null if there is none.
    pub fn field(&self, name: &str, steps: &mut Steps) -> Result<Self, Unanswered> {
        match self {
            Self::Raw(raw) if raw.kind() == Kind::Object => {
                steps.text(raw.text())?;
                Ok(raw.member(name).map_or(Self::Null, Self::new))
            }
            Self::Object(members) => {
                steps.take(members.len())?;
                let found = members.iter().find(|(it, _)| it == name);
                Ok(found.map_or(Self::Null, |(_, value)| value.clone()))
            }
            _ => Ok(Self::Null),
        }
    }

    /// The items of a list; none for anything else.
    pub fn items(&self, steps: &mut Steps) -> Result<Option<Rc<[Self]>>, Unanswered> {
        match self {
            Self::Raw(raw) if raw.kind() == Kind::Array => {
                steps.text(raw.text())?;
                let mut items = Vec::new();
                for item in raw.items() {
                    steps.take(1)?;
                    items.push(Self::new(item));
                }
                Ok(Some(items.into()))
            }
            Self::List(items) => {
                steps.take(items.len())?;
                Ok(Some(items.clone()))
            }
            _ => Ok(None),
        }
    }

    /// The members of an object; none for anything else.
    pub fn members(&self, steps: &mut Steps) -> Result<Option<Members<'a>>, Unanswered> {
        match self {
            Self::Raw(raw) if raw.kind() == Kind::Object => {
                steps.text(raw.text())?;
                let mut members = Vec::new();
                for (name, value) in raw.members() {
                    steps.take(1)?;
                    put(&mut members, name, Self::new(value), steps)?;
                }
                Ok(Some(members.into()))
            }
            Self::Object(members) => {
                steps.take(members.len())?;
                Ok(Some(members.clone()))
            }
            _ => Ok(None),
        }
    }

    /// Whether both are the same value: numbers by what they are worth, objects in any order.
    pub fn is_same(&self, other: &Self, steps: &mut Steps) -> Result<bool, Unanswered> {
        steps.take(1)?;
        if let (Some(a), Some(b)) = (self.text(), other.text()) {
            steps.text(a)?;
            return Ok(a == b);
        }
        match (self, other) {
            (Self::Null, Self::Null) => return Ok(true),
            (Self::Bool(a), Self::Bool(b)) => return Ok(a == b),
            (Self::Number(a), Self::Number(b)) => return Ok(a == b),
            _ => {}
        }
        if let (Some(a), Some(b)) = (self.items(steps)?, other.items(steps)?) {
            if a.len() != b.len() {
                return Ok(false);
            }
            for (a, b) in a.iter().zip(b.iter()) {
                if !a.is_same(b, steps)? {
                    return Ok(false);
                }
            }
            return Ok(true);
        }
        let (Some(a), Some(b)) = (self.members(steps)?, other.members(steps)?) else {
            return Ok(false);
        };
        if a.len() != b.len() {
            return Ok(false);
        }
        for (name, a) in a.iter() {
            steps.take(b.len())?;
            let Some((_, b)) = b.iter().find(|(it, _)| it == name) else { return Ok(false) };
            if !a.is_same(b, steps)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Appends it as JSON.
    pub fn write(&self, out: &mut Vec<u8>, steps: &mut Steps) -> Result<(), Unanswered> {
        steps.take(1)?;
        let before = out.len();
        match self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::Bool(it) => out.extend_from_slice(it.to_string().as_bytes()),
            Self::Number(number) => out.extend_from_slice(number.to_string().as_bytes()),
            Self::Text(text) => json::write_str(out, text),
            Self::Made(text) => json::write_str(out, text),
            Self::Raw(raw) => out.extend_from_slice(raw.text().as_bytes()),
            Self::List(items) => {
                out.push(b'[');
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        out.push(b',');
                    }
                    item.write(out, steps)?;
                }
                out.push(b']');
            }
            Self::Object(members) => {
                out.push(b'{');
                for (i, (name, value)) in members.iter().enumerate() {
                    if i > 0 {
                        out.push(b',');
                    }
                    json::write_str(out, name);
                    out.push(b':');
                    value.write(out, steps)?;
                }
                out.push(b'}');
            }
        }
        steps.take((out.len() - before) / 16)
    }
}

/// Members of an object, each name once.
pub(in super::super) type Members<'a> = Rc<[(Cow<'a, str>, Value<'a>)]>;

/// Sets a member: the last one of a name is the one that counts.
pub(super) fn put<'a>(
    members: &mut Vec<(Cow<'a, str>, Value<'a>)>,
    name: Cow<'a, str>,
    value: Value<'a>,
    steps: &mut Steps,
) -> Result<(), Unanswered> {
    steps.take(members.len() / 8)?;
    match members.iter_mut().find(|(it, _)| *it == name) {
        Some(member) => member.1 = value,
        None => members.push((name, value)),
    }
    Ok(())
}

/// How many steps are left.
pub(in super::super) struct Steps(pub u32);

impl Steps {
    /// Takes some.
    pub fn take(&mut self, steps: usize) -> Result<(), Unanswered> {
        let steps = u32::try_from(steps).map_err(|_| Unanswered)?;
        self.0 = self.0.checked_sub(steps).ok_or(Unanswered)?;
        Ok(())
    }

    /// Takes what looking at a text costs.
    pub fn text(&mut self, text: &str) -> Result<(), Unanswered> {
        self.take(1 + text.len() / 64)
    }
}
