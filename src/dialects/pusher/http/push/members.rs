//! The members of bodies about push notifications: each may be spelled as running Sockudo spells it (`deviceId`) or as its
//! documentation does (`device_id`), and is refused in the same words. Source: Sockudo's push API, where every refusal of a
//! body is 400.

use std::borrow::Cow;

use crate::dialects::api::Refusal;
use crate::push::Provider;
use crate::wire::json::{self, Kind, Raw};

/// An object of a body. A member that is null is not there, and of several with one name the last counts.
pub(super) struct Members<'a> {
    /// What stands before a member's name where it is refused: `payload.`, or nothing.
    at: Cow<'static, str>,
    rows: Vec<(Cow<'a, str>, Raw<'a>)>,
}

/// Reads a body.
pub(super) fn parse(body: &[u8]) -> Result<Raw<'_>, Refusal> {
    json::parse(body).map_err(|error| Refusal::invalid(format!("the body is {error}")))
}

/// Whether a member's name is `name` or what that is in snake case.
fn is_spelled(given: &str, name: &str) -> bool {
    if given == name {
        return true;
    }
    let mut given = given.bytes();
    name.bytes().all(|byte| match byte.is_ascii_uppercase() {
        true => given.next() == Some(b'_') && given.next() == Some(byte.to_ascii_lowercase()),
        false => given.next() == Some(byte),
    }) && given.next().is_none()
}

/// A name in snake case.
pub fn snake(name: &str) -> Cow<'_, str> {
    if !name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return name.into();
    }
    let mut out = String::with_capacity(name.len() + 4);
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(letter.to_ascii_lowercase());
    }
    out.into()
}

impl<'a> Members<'a> {
    /// The members of the whole body.
    pub fn of_body(body: Raw<'a>) -> Result<Self, Refusal> {
        Self::of(body, "the body", "")
    }

    /// The members of a part of it: what it is called, and what stands before theirs.
    pub fn of(
        value: Raw<'a>,
        what: &str,
        at: impl Into<Cow<'static, str>>,
    ) -> Result<Self, Refusal> {
        match value.kind() {
            Kind::Object => Ok(Self { at: at.into(), rows: value.members().collect() }),
            _ => Err(Refusal::invalid(format!("{what} is not an object"))),
        }
    }

    /// A member of any kind, by the first of these names that is there; each in either spelling.
    pub fn any(&self, names: &[&str]) -> Option<Raw<'a>> {
        let find = |name: &&str| {
            let found = self.rows.iter().rev().find(|(given, _)| is_spelled(given, name));
            found.map(|(_, value)| *value).filter(|it| !it.is_null())
        };
        names.iter().find_map(find)
    }

    /// A refusal of a member.
    pub fn wrong(&self, name: &str, why: impl std::fmt::Display) -> Refusal {
        Refusal::invalid(format!("{}{name} {why}", self.at))
    }

    fn first<'n>(names: &[&'n str]) -> &'n str {
        names.first().copied().unwrap_or_default()
    }

    /// A string.
    pub fn text(&self, names: &[&str]) -> Result<Option<String>, Refusal> {
        let Some(value) = self.any(names) else { return Ok(None) };
        match value.as_str() {
            Some(text) => Ok(Some(text.into_owned())),
            None => Err(self.wrong(Self::first(names), "is not a string")),
        }
    }

    /// A string of at most so many bytes.
    pub fn bounded(&self, names: &[&str], bytes_max: usize) -> Result<Option<String>, Refusal> {
        let text = self.text(names)?;
        match text {
            Some(it) if it.len() > bytes_max => Err(self.too_large(Self::first(names), bytes_max)),
            text => Ok(text),
        }
    }

    /// A string that names something: half of a surrogate pair, which would become the same character as any other half,
    /// is refused.
    pub fn whole(&self, names: &[&str]) -> Result<Option<String>, Refusal> {
        const LOST: char = '\u{fffd}';
        let Some(text) = self.text(names)? else { return Ok(None) };
        let lost = text.matches(LOST).count();
        if lost > 0 {
            let raw = self.any(names).map(|it| it.text().to_ascii_lowercase()).unwrap_or_default();
            if lost > raw.matches(LOST).count() + raw.matches("\\ufffd").count() {
                return Err(self.wrong(Self::first(names), "has half of a surrogate pair"));
            }
        }
        Ok(Some(text))
    }

    /// What something is called: 1 to `bytes_max` bytes without control characters.
    pub fn id(&self, names: &[&str], bytes_max: usize) -> Result<Option<String>, Refusal> {
        let Some(text) = self.whole(names)? else { return Ok(None) };
        check_id(&text, bytes_max).map_err(|why| self.wrong(Self::first(names), why))?;
        Ok(Some(text))
    }

    /// As [`Members::id`]; it must be there.
    pub fn must_id(&self, names: &[&str], bytes_max: usize) -> Result<String, Refusal> {
        self.id(names, bytes_max)?.ok_or_else(|| self.wrong(Self::first(names), "is missing"))
    }

    /// A whole number from 0.
    pub fn number(&self, names: &[&str]) -> Result<Option<u64>, Refusal> {
        let Some(value) = self.any(names) else { return Ok(None) };
        match value.as_u64() {
            Some(number) => Ok(Some(number)),
            None => Err(self.wrong(Self::first(names), "is not a whole number from 0")),
        }
    }

    /// `true` or `false`; absent: the latter.
    pub fn switch(&self, names: &[&str]) -> Result<bool, Refusal> {
        let Some(value) = self.any(names) else { return Ok(false) };
        value.as_bool().ok_or_else(|| self.wrong(Self::first(names), "is not a boolean"))
    }

    /// The text of an object of at most so many bytes; empty: there is none.
    pub fn object(&self, names: &[&str], bytes_max: usize) -> Result<String, Refusal> {
        let Some(value) = self.any(names) else { return Ok(String::new()) };
        if value.kind() != Kind::Object {
            return Err(self.wrong(Self::first(names), "is not an object"));
        }
        self.sized(Self::first(names), value, bytes_max)
    }

    /// The text of a value, unless it has too many bytes; without what stands between its parts, so that the same
    /// request is the same however it is set out.
    pub fn sized(&self, name: &str, value: Raw<'_>, bytes_max: usize) -> Result<String, Refusal> {
        match value.text().len() > bytes_max {
            true => Err(self.too_large(name, bytes_max)),
            false => Ok(value.compact()),
        }
    }

    fn too_large(&self, name: &str, bytes_max: usize) -> Refusal {
        let text = format!("{}{name} has at most {bytes_max} bytes", self.at);
        Refusal::new(413, "payload_too_large", text)
    }

    /// A provider.
    pub fn provider(&self, names: &[&str]) -> Result<Option<Provider>, Refusal> {
        let Some(text) = self.text(names)? else { return Ok(None) };
        let found = Provider::parse(&text);
        found.map(Some).ok_or_else(|| {
            self.wrong(Self::first(names), "is none of fcm, apns, webPush, hms, wns, realtime")
        })
    }

    /// If the body names an app, it must be that of the path.
    pub fn check_app(&self, app: &str) -> Result<(), Refusal> {
        match self.text(&["appId"])? {
            Some(given) if given != app => Err(self.wrong("appId", "is not the app of the path")),
            _ => Ok(()),
        }
    }
}

/// Checks what something is called.
pub(super) fn check_id(text: &str, bytes_max: usize) -> Result<(), String> {
    if !(1..=bytes_max).contains(&text.len()) {
        return Err(format!("has 1 to {bytes_max} bytes"));
    }
    match text.chars().any(char::is_control) || text.trim().is_empty() {
        true => Err("has control characters or nothing but white space".into()),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_found_in_either_spelling() {
        let body =
            parse(br#"{"device_id":"a","lastActiveAtMs":1,"x":null,"deviceId2":2}"#).unwrap();
        let members = Members::of_body(body).unwrap();
        assert_eq!(members.text(&["id", "deviceId"]).unwrap().as_deref(), Some("a"));
        assert_eq!(members.number(&["lastActiveAtMs"]).unwrap(), Some(1));
        for name in ["device", "deviceI", "x", "lastActiveAt", "deviceId3", ""] {
            assert!(members.any(&[name]).is_none(), "{name}");
        }
        for (name, other) in [("deviceId", "device_id"), ("p256dh", "p256dh"), ("aB1C", "a_b1_c")] {
            assert_eq!(snake(name), other);
            assert!(is_spelled(name, name) && is_spelled(other, name));
        }
        assert!(!is_spelled("device_i", "deviceId") && !is_spelled("device_idx", "deviceId"));
    }

    #[test]
    fn members_are_refused_by_name() {
        let body = parse(br#"{"a":1,"b":"","c":"x\u0000","d":"long","e":-1,"f":[],"g":{"h":1}}"#);
        let members = Members::of(body.unwrap(), "it", "it.").unwrap();
        let wrong = |found: Result<(), Refusal>, status, text| {
            let refusal = found.unwrap_err();
            assert_eq!((refusal.status, &*refusal.text), (status, text));
        };
        wrong(members.text(&["a"]).map(drop), 400, "it.a is not a string");
        wrong(members.id(&["b"], 9).map(drop), 400, "it.b has 1 to 9 bytes");
        let why = "it.c has control characters or nothing but white space";
        wrong(members.id(&["c"], 9).map(drop), 400, why);
        wrong(members.bounded(&["d"], 3).map(drop), 413, "it.d has at most 3 bytes");
        wrong(members.must_id(&["z"], 3).map(drop), 400, "it.z is missing");
        wrong(members.number(&["e"]).map(drop), 400, "it.e is not a whole number from 0");
        wrong(members.switch(&["e"]).map(drop), 400, "it.e is not a boolean");
        wrong(members.object(&["f"], 9).map(drop), 400, "it.f is not an object");
        wrong(members.object(&["g"], 3).map(drop), 413, "it.g has at most 3 bytes");
    }
}
