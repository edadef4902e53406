//! What is wrong with a configuration: where, what, what is allowed and what to change.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Where a setting was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In a file.
    File {
        /// Which.
        path: PathBuf,
        /// In which line, from 1.
        line: usize,
    },
    /// In an environment variable of this name.
    Environment(String),
    /// By a flag, spelled like this.
    Flag(String),
    /// By the command itself, of this name.
    Command(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
            Self::Command(name) => write!(f, "command {name}"),
        }
    }
}

/// One reason not to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it stands; none if it is about something that is missing everywhere.
    pub origin: Option<Origin>,
    /// What it is.
    pub fault: Fault,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The file is not TOML.
    Syntax(String),
    /// No setting has this name.
    UnknownKey {
        /// The name, as it was given.
        key: String,
        /// A known name that looks like it.
        nearest: Option<String>,
    },
    /// A table that may be repeated was begun as one that may not.
    SingleBrackets {
        /// Which.
        table: String,
    },
    /// The value is not one of those allowed.
    NotAllowed {
        /// The setting.
        key: String,
        /// The value, as it was given; `***` for a secret.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// `${VARIABLE}` or `secret_env` names a variable that is not set.
    VariableUnset {
        /// The setting.
        key: String,
        /// The variable.
        variable: String,
    },
    /// A file that holds a secret cannot be read.
    SecretFile {
        /// The setting.
        key: String,
        /// The file.
        path: String,
        /// Why.
        why: String,
    },
    /// A secret was given as a flag, where every user of the machine can read it.
    SecretFlag {
        /// The setting.
        key: String,
    },
    /// A secret was given in more than one way.
    SecretTwice,
    /// An app lacks something.
    AppLacks {
        /// What it lacks, as one would give it.
        key: String,
    },
    /// A row of a table lacks something.
    RowLacks {
        /// Which table.
        table: String,
        /// What it lacks.
        key: String,
    },
    /// Two apps have the same id or key.
    AppTwice {
        /// `id` or `key`.
        what: &'static str,
        /// The same text.
        value: String,
    },
    /// The credentials that everyone knows, on an address that others can reach.
    DevelopmentExposed {
        /// The address.
        address: SocketAddr,
    },
    /// More connections than the descriptor limit allows.
    Descriptors {
        /// Connections asked for.
        connections: u64,
        /// Descriptors they and the process need.
        needed: u64,
        /// Descriptors there are.
        allowed: u64,
    },
    /// All outboxes of a shard together may hold less than one alone.
    OutboxesBelowOne {
        /// What all may hold, in bytes.
        all: usize,
        /// What one may hold, in bytes.
        one: usize,
    },
}

impl Problem {
    /// What to change, as one sentence.
    pub fn remedy(&self) -> String {
        let place = match &self.origin {
            Some(origin) => format!(" ({origin})"),
            None => String::new(),
        };
        match &self.fault {
            Fault::Syntax(_) => format!("correct the TOML{place}"),
            Fault::UnknownKey { key, nearest: Some(nearest) } => {
                format!("rename `{key}` to `{nearest}`{place}, or remove it")
            }
            Fault::UnknownKey { key, nearest: None } => {
                format!("remove `{key}`{place}; `ringmain settings` lists what there is")
            }
            Fault::SingleBrackets { table } => format!("write [[{table}]]{place}"),
            Fault::NotAllowed { key, allowed, .. } => {
                format!("set {key} to another value{place}; allowed: {allowed}")
            }
            Fault::VariableUnset { variable, .. } => {
                format!("set the environment variable {variable}{place}")
            }
            Fault::SecretFile { key, path, .. } => {
                format!("make {path} readable or change {key}{place}")
            }
            Fault::SecretFlag { key } => {
                let variable = super::load::variable(key);
                format!("give the secret as {variable}, or name a file that holds it with {key}_file")
            }
            Fault::SecretTwice => {
                format!("keep one of the secret itself, its _file and its _env{place}")
            }
            Fault::AppLacks { key } if key == "apps.secret" => {
                format!("set {key}, {key}_file or {key}_env{place}")
            }
            Fault::AppLacks { key } => format!("set {key}{place}"),
            Fault::RowLacks { key, .. } => format!("set {key} in that table{place}"),
            Fault::AppTwice { what, .. } => format!("change the {what} of one of the two{place}"),
            Fault::DevelopmentExposed { .. } => {
                "set RINGMAIN_APP_ID, RINGMAIN_APP_KEY and RINGMAIN_APP_SECRET (or [[apps]] in ringmain.toml) \
                 to credentials of your own, or set listen to a loopback address (--listen 127.0.0.1:6001)"
                    .to_owned()
            }
            Fault::Descriptors { allowed, needed, .. } => format!(
                "set limits.connections_max to 0 (what the machine allows) or raise the descriptor limit \
                 from {allowed} to {needed} (`ulimit -n {needed}`){place}"
            ),
            Fault::OutboxesBelowOne { one, .. } => {
                format!("set limits.outbox_bytes_per_shard_max to 0 or at least {one}{place}")
            }
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(origin) = &self.origin {
            write!(f, "{origin}: ")?;
        }
        match &self.fault {
            Fault::Syntax(message) => write!(f, "{message}"),
            Fault::UnknownKey { key, nearest } => {
                write!(f, "unknown setting `{key}`")?;
                match nearest {
                    Some(nearest) => write!(f, " (did you mean `{nearest}`?)"),
                    None => Ok(()),
                }
            }
            Fault::SingleBrackets { table } => {
                write!(f, "[{table}] stands in single brackets, and there may be several of it")
            }
            Fault::NotAllowed { key, value, allowed } => {
                write!(f, "{key} = {value} is not allowed; allowed: {allowed}")
            }
            Fault::VariableUnset { key, variable } => {
                write!(f, "{key} refers to the environment variable {variable}, which is not set")
            }
            Fault::SecretFile { key, path, why } => write!(f, "{key}: cannot read {path}: {why}"),
            Fault::SecretFlag { key } => {
                write!(f, "{key} was given on the command line, where others can read it")
            }
            Fault::SecretTwice => write!(f, "a secret is given in more than one way"),
            Fault::AppLacks { key } => write!(f, "an app needs {key}"),
            Fault::RowLacks { table, key } => write!(f, "a [[{table}]] table needs {key}"),
            Fault::AppTwice { what, value } => {
                write!(f, "two apps have the same {what}: {value}")
            }
            Fault::DevelopmentExposed { address } => write!(
                f,
                "listen = {address} can be reached from other machines, and the development \
                 credentials (app-id / app-key / app-secret) are known to everyone"
            ),
            Fault::Descriptors { connections, needed, allowed } => write!(
                f,
                "limits.connections_max = {connections} needs {needed} file descriptors; allowed: {allowed}"
            ),
            Fault::OutboxesBelowOne { all, one } => write!(
                f,
                "limits.outbox_bytes_per_shard_max = {all} is below limits.outbox_bytes_high_water = {one}"
            ),
        }
    }
}

/// The known name nearest to `key`, if it is near enough to be a slip of the finger.
pub(super) fn nearest(key: &str, known: impl Iterator<Item = String>) -> Option<String> {
    let allowance = (key.len() / 3).clamp(1, 4);
    known
        .map(|name| {
            // A missing group is a common slip as well: `spin_us` for `limits.spin_us`.
            let same_tail = name.rsplit('.').next() == Some(key);
            (if same_tail { 1 } else { distance(key, &name) }, name)
        })
        .filter(|(distance, _)| *distance <= allowance)
        .min()
        .map(|(_, name)| name)
}

/// Single-letter edits between two texts (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (above, y) in row.iter_mut().skip(1).zip(b.bytes()) {
            let here = (diagonal + usize::from(x != y)).min(left + 1).min(*above + 1);
            diagonal = *above;
            *above = here;
            left = here;
        }
    }
    // The first cell of the row is only ever read for an empty `b`.
    if b.is_empty() { a.len() } else { row.last().copied().unwrap_or(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_single_edits() {
        let cases = [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("abc", "abc", 0),
            ("abc", "abd", 1),
            ("abc", "ab", 1),
            ("kitten", "sitting", 3),
        ];
        for (a, b, expected) in cases {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn nearest_forgives_slips_only() {
        let known =
            ["listen", "shards", "limits.spin_us", "limits.mailbox_slots", "a.app", "bcd.app"];
        let cases = [
            ("lisen", Some("listen")),
            ("shard", Some("shards")),
            ("limit.spin_us", Some("limits.spin_us")),
            ("spin_us", Some("limits.spin_us")),
            ("limits.mailbox_slot", Some("limits.mailbox_slots")),
            ("colour", None),
            ("x", None),
            ("limits.colour", None),
            ("bd.app", Some("bcd.app")),
            ("other.app", None),
        ];
        for (key, expected) in cases {
            let found = nearest(key, known.iter().map(|name| (*name).to_owned()));
            assert_eq!(found.as_deref(), expected, "{key}");
        }
    }
}
