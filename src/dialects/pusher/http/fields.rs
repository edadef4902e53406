//! The members of a body, read and refused in the same words everywhere.

use std::borrow::Cow;

use super::super::names;
use crate::config::App;
use crate::dialects::api::Refusal;
use crate::wire::json::{self, Kind, Raw};

/// A body that is an object. A member that is null is not there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a>(Raw<'a>);

/// Reads a body.
pub(super) fn parse(body: &[u8]) -> Result<Raw<'_>, Refusal> {
    json::parse(body).map_err(|error| Refusal::invalid(format!("the body is {error}")))
}

impl<'a> Fields<'a> {
    /// Reads a body, which must be an object.
    pub fn read(body: &'a [u8]) -> Result<Self, Refusal> {
        let body = parse(body)?;
        match body.kind() {
            Kind::Object => Ok(Self(body)),
            _ => Err(Refusal::shape("the body is not an object")),
        }
    }

    /// A member of any kind.
    pub fn any(self, name: &str) -> Option<Raw<'a>> {
        self.0.member(name).filter(|it| !it.is_null())
    }

    /// A string member, under the first of its spellings that is there.
    pub fn text(self, spellings: &[&str]) -> Result<Option<Cow<'a, str>>, Refusal> {
        let found = spellings.iter().find_map(|name| Some((name, self.any(name)?)));
        let Some((name, value)) = found else { return Ok(None) };
        text(Some(value), name)
    }

    /// A string member of 1 to `bytes_max` bytes.
    pub fn id(self, spellings: &[&str], bytes_max: usize) -> Result<Option<Cow<'a, str>>, Refusal> {
        let found = self.text(spellings)?;
        match &found {
            Some(it) if !(1..=bytes_max).contains(&it.len()) => {
                let name = spellings.first().unwrap_or(&"");
                Err(Refusal::invalid(format!("{name} has 1 to {bytes_max} bytes")))
            }
            _ => Ok(found),
        }
    }

    /// A whole number from 0.
    pub fn number(self, name: &str) -> Result<Option<u64>, Refusal> {
        let number = |it: Raw<'_>| {
            let number = it.as_u64();
            number.ok_or_else(|| Refusal::shape(format!("{name} is not a whole number from 0")))
        };
        self.any(name).map(number).transpose()
    }
}

/// A string member that may be absent or null.
pub(super) fn text<'a>(
    value: Option<Raw<'a>>,
    field: &str,
) -> Result<Option<Cow<'a, str>>, Refusal> {
    match value.filter(|it| !it.is_null()) {
        None => Ok(None),
        Some(value) => match value.as_str() {
            Some(text) => Ok(Some(text)),
            None => Err(Refusal::shape(format!("{field} is not a string"))),
        },
    }
}

/// Reads a query's bound of how much it is told: from 1, and never more than `max`.
pub(super) fn limit(given: Option<&str>, max: u32, what: &str) -> Result<u32, Refusal> {
    match given.map(str::parse::<u64>) {
        None => Ok(max),
        Some(Ok(0)) => Err(Refusal::invalid(format!("{what} limit must be greater than 0"))),
        Some(Ok(limit)) => Ok(u32::try_from(limit).unwrap_or(u32::MAX).min(max)),
        Some(Err(_)) => Err(Refusal::invalid("limit is not a whole number from 1")),
    }
}

/// Checks the name of an event or message.
pub(super) fn check_event_name(name: &str, app: &App) -> Result<(), Refusal> {
    if name.is_empty() {
        return Err(Refusal::invalid("name is empty"));
    }
    if name.len() > app.event_name_bytes_max {
        return Err(Refusal::limit(format_args!(
            "Event name too long. Max length is {}",
            app.event_name_bytes_max
        )));
    }
    Ok(())
}

/// Checks a channel's name in a path.
pub(super) fn check_channel(name: &str, app: &App) -> Result<(), Refusal> {
    // A user's channel may be longer by its prefix.
    let bytes_max = app.channel_name_bytes_max;
    names::check_published(name, bytes_max, &app.namespaces)
        .map_err(|error| Refusal::invalid(error.to_string()))
}
