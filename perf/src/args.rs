//! `--name value` and `--flag`, nothing more; a name nobody asked for is an error.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

/// The arguments after the subcommand.
#[derive(Clone, Default)]
pub struct Args {
    named: BTreeMap<String, Vec<String>>,
    asked: RefCell<BTreeSet<String>>,
}

impl Args {
    /// Reads `--name value`, `--name=value` and bare `--flag`.
    pub fn read(words: &[String]) -> Result<Self, String> {
        let mut named: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut at = 0;
        while at < words.len() {
            let Some(name) = words[at].strip_prefix("--") else {
                return Err(format!("expected --name, found {:?}", words[at]));
            };
            at += 1;
            if let Some((name, value)) = name.split_once('=') {
                named.entry(name.into()).or_default().push(value.into());
            } else if at < words.len() && !words[at].starts_with("--") {
                named.entry(name.into()).or_default().push(words[at].clone());
                at += 1;
            } else {
                named.entry(name.into()).or_default().push("true".into());
            }
        }
        Ok(Self { named, asked: RefCell::default() })
    }

    /// The last value given for `name`.
    pub fn text(&self, name: &str) -> Option<String> {
        self.all(name).pop()
    }

    /// All values given for `name`.
    pub fn all(&self, name: &str) -> Vec<String> {
        self.asked.borrow_mut().insert(name.into());
        self.named.get(name).cloned().unwrap_or_default()
    }

    /// The last value given for `name`, parsed, or `default`.
    pub fn value<T: FromStr>(&self, name: &str, default: T) -> Result<T, String> {
        match self.text(name) {
            None => Ok(default),
            Some(text) => {
                text.replace('_', "").parse().map_err(|_| format!("--{name}: cannot read {text:?}"))
            }
        }
    }

    /// Fails if something was given that nobody asked for.
    pub fn finish(&self) -> Result<(), String> {
        let asked = self.asked.borrow();
        match self.named.keys().find(|name| !asked.contains(*name)) {
            Some(name) => Err(format!("--{name} means nothing here")),
            None => Ok(()),
        }
    }
}
