//! The variables of Mastodon's streaming server as settings of ours. docs/mastodon-migration.md lists them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};

use ringmain::config::problem::Origin;
use ringmain::config::value::Given;
use ringmain::observe::log::Level;

use super::database;
use super::redis;

/// Where it listens unless told otherwise.
const PORT_DEFAULT: u16 = 4000;
/// What `LOG_LEVEL` may be, and what it is here.
const LEVELS: [(&str, Level); 7] = [
    ("trace", Level::Debug),
    ("debug", Level::Debug),
    ("info", Level::Info),
    ("warn", Level::Warn),
    ("error", Level::Error),
    ("fatal", Level::Error),
    ("silent", Level::Error),
];

/// One variable: its name, its value, where it was given.
pub type Variable = (String, String, Origin);

/// The variables there are, by name.
pub struct Variables<'a>(pub &'a [Variable]);

impl<'a> Variables<'a> {
    /// A variable's value and where it is from; one that is empty is not set, as Mastodon's server has it.
    pub fn given(&self, name: &str) -> Option<(&'a str, Origin)> {
        let found = self.0.iter().find(|(it, ..)| it == name);
        found
            .filter(|(_, value, _)| !value.is_empty())
            .map(|(_, value, origin)| (value.as_str(), origin.clone()))
    }

    /// A variable's value.
    pub fn text(&self, name: &str) -> Option<&'a str> {
        self.given(name).map(|(value, _)| value)
    }

    /// A variable's value as a number.
    pub fn number(&self, name: &'static str, most: u32) -> Result<Option<u32>, Wrong> {
        let Some((value, origin)) = self.given(name) else { return Ok(None) };
        match value.trim().parse::<u32>() {
            Ok(number) if number <= most => Ok(Some(number)),
            _ => Err(Wrong::new(
                name,
                origin,
                format!("`{value}` is not allowed"),
                format!("a number up to {most}"),
            )),
        }
    }

    /// A variable's value as a port.
    pub fn port(&self, name: &'static str, default: u16) -> Result<u16, Wrong> {
        let port = self.number(name, u16::MAX.into())?;
        Ok(port.and_then(|it| u16::try_from(it).ok()).unwrap_or(default))
    }

    /// Where the first of these variables that is set was given; where all else comes from, if none is.
    pub fn origin(&self, names: &[&str]) -> Origin {
        names.iter().find_map(|name| self.given(name)).map_or(super::ORIGIN, |(_, origin)| origin)
    }
}

/// A variable that cannot be.
#[derive(Debug, PartialEq, Eq)]
pub struct Wrong {
    /// Which.
    pub name: &'static str,
    /// Where it was given.
    pub origin: Origin,
    /// What is wrong with it, without its value where that could be a secret.
    pub what: String,
    /// What is allowed.
    pub allowed: String,
}

impl Wrong {
    /// What is wrong, and what is allowed.
    pub fn new(
        name: &'static str,
        origin: Origin,
        what: impl Into<String>,
        allowed: impl Into<String>,
    ) -> Self {
        Self { name, origin, what: what.into(), allowed: allowed.into() }
    }
}

/// What the variables say. Not printable: there are passwords in it.
pub struct Said {
    /// Settings of ours.
    pub settings: Vec<(Origin, &'static str, Given)>,
    /// How much is logged.
    pub level: Level,
    /// What an administrator should know.
    pub notes: Vec<String>,
}

/// What the variables say, or everything that is wrong with them.
pub fn read(variables: &Variables<'_>) -> Result<Said, Vec<Wrong>> {
    let mut said = Said { settings: Vec::new(), level: level(variables), notes: Vec::new() };
    let mut wrong = Vec::new();
    for part in [listen, redis::settings, database::settings] {
        if let Err(it) = part(variables, &mut said) {
            wrong.push(it);
        }
    }
    if variables.text("STREAMING_CLUSTER_NUM").is_some() {
        said.notes.push("STREAMING_CLUSTER_NUM is not needed: one process uses all cores".into());
    }
    if wrong.is_empty() { Ok(said) } else { Err(wrong) }
}

impl Said {
    /// Adds a setting.
    pub fn set(&mut self, origin: Origin, key: &'static str, value: impl Into<String>) {
        self.settings.push((origin, key, Given::One(value.into())));
    }
}

/// The environment's name, which decides about defaults.
pub fn environment<'a>(variables: &Variables<'a>) -> &'a str {
    variables.text("NODE_ENV").unwrap_or("development")
}

fn level(variables: &Variables<'_>) -> Level {
    let word = variables.text("LOG_LEVEL").unwrap_or_default();
    let known = LEVELS.iter().find(|(name, _)| *name == word);
    let default = if environment(variables) == "development" { Level::Debug } else { Level::Info };
    known.map_or(default, |(_, level)| *level)
}

fn listen(variables: &Variables<'_>, said: &mut Said) -> Result<(), Wrong> {
    if let Some((path, origin)) = variables.given("SOCKET") {
        let path = std::path::absolute(path).map_err(|error| {
            Wrong::new("SOCKET", origin.clone(), error.to_string(), "a path of a Unix socket")
        })?;
        said.set(origin, "listen", format!("unix:{}", path.display()));
        return Ok(());
    }
    let port = variables.port("PORT", PORT_DEFAULT)?;
    let origin = variables.origin(&["PORT", "BIND"]);
    let address = SocketAddr::new(bind(variables)?, port);
    said.set(origin, "listen", address.to_string());
    Ok(())
}

fn bind(variables: &Variables<'_>) -> Result<IpAddr, Wrong> {
    let Some((_, text, origin)) = variables.0.iter().find(|(name, ..)| name == "BIND") else {
        return Ok(Ipv4Addr::LOCALHOST.into());
    };
    let bare = text.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(text).trim();
    match bare {
        // As there: who sets it to nothing wants every address.
        "" => Ok(Ipv4Addr::UNSPECIFIED.into()),
        "localhost" => Ok(Ipv4Addr::LOCALHOST.into()),
        name => {
            let found = name.parse().ok().or_else(|| {
                let mut addresses = (name, 0).to_socket_addrs().ok()?;
                addresses.next().map(|it| it.ip())
            });
            let what = format!("`{text}` is not an address of this machine");
            let allowed = "an IP address or a name that leads to one";
            found.ok_or_else(|| Wrong::new("BIND", origin.clone(), what, allowed))
        }
    }
}

/// Text as a part of a URL: whatever has a meaning there is encoded.
pub fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// A part of a URL as text; what is no encoding stays.
pub fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let digits = bytes.get(at + 1..at + 3).and_then(|it| std::str::from_utf8(it).ok());
        let code = digits.filter(|it| it.bytes().all(|it| it.is_ascii_hexdigit()));
        match code.and_then(|it| u8::from_str_radix(it, 16).ok()).filter(|_| byte == b'%') {
            Some(code) => {
                out.push(code);
                at += 3;
            }
            None => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// A host as it stands in a URL.
pub fn host(text: &str) -> String {
    match text.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(text) {
        v6 if v6.parse::<std::net::Ipv6Addr>().is_ok() => format!("[{v6}]"),
        name => encoded(name),
    }
}

#[cfg(test)]
#[path = "variables_tests.rs"]
mod tests;
