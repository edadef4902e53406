//! Settings that a dialect declares in its own folder: this room reads and checks them without knowing them.
//!
//! A dialect has a static [`SectionOf`] its own settings type: rows like those of [`super::table`], tables
//! that may be repeated (`[[name.table]]`), and a check of what no single row can know. Who loads says which
//! sections there are; [`Sections::get`] gives a dialect its own back.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use super::Config;
use super::problem::{Fault, Origin, nearest};
use super::table::Setting;
use super::value::{Given, Kind, SecretFrom};

/// A section's values while they are made, and when they are.
pub type Values = Box<dyn Any + Send + Sync>;

/// One setting as it was given: its key within its table, its value, where.
pub type GivenAt = (String, Given, Origin);

/// What is wrong with a setting although its row is right: key, value, what is allowed.
pub type Wrong = (&'static str, String, String);

/// Reads the secret that a setting names.
pub type ReadSecret<'a> = &'a dyn Fn(SecretFrom, &str, &Given) -> Result<String, Fault>;

/// The settings of one dialect.
pub struct SectionOf<T: 'static> {
    /// What all its keys start with, before the dot.
    pub name: &'static str,
    /// A sentence or two for the reference.
    pub about: &'static str,
    /// Its rows; keys in full.
    pub settings: &'static [Setting<T>],
    /// Its tables that may be repeated.
    pub tables: &'static [&'static dyn RowsOf<T>],
    /// Values that the rows' defaults are put into.
    pub blank: fn() -> T,
    /// What is wrong although each row is right: key, value, what is allowed.
    pub check: fn(&T, &Config) -> Vec<Wrong>,
}

/// A table of a section that may be repeated, without its row's type.
pub trait RowsOf<T>: Sync {
    /// Its name in the section.
    fn name(&self) -> &'static str;
    /// A sentence for the reference.
    fn about(&self) -> &'static str;
    /// Its settings in words.
    fn texts(&self) -> Vec<RowText>;
    /// Makes one row of what was given, or says what is wrong.
    fn add(
        &self,
        target: &mut T,
        table: &str,
        given: &[GivenAt],
        secret: ReadSecret<'_>,
    ) -> Vec<(Option<Origin>, Fault)>;
}

/// A table whose rows are `R`.
pub struct Rows<T: 'static, R: 'static> {
    /// Its name in the section.
    pub name: &'static str,
    /// A sentence for the reference.
    pub about: &'static str,
    /// The settings of a row; keys within the table.
    pub settings: &'static [Setting<R>],
    /// Which of them must be given; a secret in any of its three ways.
    pub required: &'static [&'static str],
    /// A row that the defaults are put into.
    pub blank: fn() -> R,
    /// Keeps a row.
    pub push: fn(&mut T, R),
}

/// A setting in words, for reference and help.
pub struct RowText {
    /// Its key.
    pub key: &'static str,
    /// Its default.
    pub default: String,
    /// What is allowed.
    pub allowed: String,
    /// What it does.
    pub help: &'static str,
}

fn texts<T>(settings: &[Setting<T>]) -> Vec<RowText> {
    let text = |it: &Setting<T>| RowText {
        key: it.key,
        default: it.kind.default_text(),
        allowed: it.kind.range_text(),
        help: it.help,
    };
    settings.iter().map(text).collect()
}

/// Checks a value and writes it, secrets read from where they are.
fn put<T>(
    setting: &Setting<T>,
    key: &str,
    target: &mut T,
    given: &Given,
    secret: ReadSecret<'_>,
) -> Result<(), Fault> {
    let read;
    let given = match setting.kind {
        Kind::Secret { from, .. } => {
            read = Given::One(secret(from, key, given)?);
            &read
        }
        _ => given,
    };
    if setting.kind.try_put(target, given) {
        return Ok(());
    }
    let value = match setting.kind {
        Kind::Secret { .. } => "***".to_owned(),
        _ => given.spelled(),
    };
    Err(Fault::NotAllowed { key: key.to_owned(), value, allowed: setting.kind.range_text() })
}

impl<T: 'static, R: 'static> RowsOf<T> for Rows<T, R> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn about(&self) -> &'static str {
        self.about
    }

    fn texts(&self) -> Vec<RowText> {
        texts(self.settings)
    }

    fn add(
        &self,
        target: &mut T,
        table: &str,
        given: &[GivenAt],
        secret: ReadSecret<'_>,
    ) -> Vec<(Option<Origin>, Fault)> {
        let mut row = (self.blank)();
        for setting in self.settings {
            setting.kind.put_default(&mut row);
        }
        let mut faults = Vec::new();
        for (key, value, origin) in given {
            let spelled = format!("{table}.{key}");
            let Some(setting) = self.settings.iter().find(|it| it.key == key) else {
                let nearest = nearest(key, self.settings.iter().map(|it| it.key.to_owned()));
                faults.push((Some(origin.clone()), Fault::UnknownKey { key: spelled, nearest }));
                continue;
            };
            if let Err(fault) = put(setting, &spelled, &mut row, value, secret) {
                faults.push((Some(origin.clone()), fault));
            }
        }
        let origin = given.first().map(|(_, _, origin)| origin.clone());
        for required in self.required {
            let is_it = |key: &str| {
                key == *required
                    || key.strip_prefix(required).is_some_and(|it| it == "_file" || it == "_env")
            };
            match given.iter().filter(|(key, ..)| is_it(key)).count() {
                1 => {}
                0 => faults.push((
                    origin.clone(),
                    Fault::RowLacks { table: table.to_owned(), key: (*required).to_owned() },
                )),
                _ => faults.push((origin.clone(), Fault::SecretTwice)),
            }
        }
        if faults.is_empty() {
            (self.push)(target, row);
        }
        faults
    }
}

/// A section, without its values' type.
pub trait Section: Sync {
    /// What all its keys start with, before the dot.
    fn name(&self) -> &'static str;
    /// A sentence or two for the reference.
    fn about(&self) -> &'static str;
    /// Its settings in words, keys in full.
    fn texts(&self) -> Vec<RowText>;
    /// Its tables in words: name, sentence, settings.
    fn tables(&self) -> Vec<(&'static str, &'static str, Vec<RowText>)>;
    /// Values that are all default.
    fn defaults(&self) -> Values;
    /// Checks a value and writes it.
    fn put(
        &self,
        values: &mut Values,
        key: &str,
        given: &Given,
        secret: ReadSecret<'_>,
    ) -> Result<(), Fault>;
    /// Makes one row of one of its tables, or says what is wrong.
    fn add(
        &self,
        values: &mut Values,
        table: &str,
        given: &[GivenAt],
        secret: ReadSecret<'_>,
    ) -> Vec<(Option<Origin>, Fault)>;
    /// Whether this setting holds a secret itself, not where one is.
    fn is_secret_text(&self, key: &str) -> bool;
    /// A setting's value in force.
    fn value_text(&self, values: &(dyn Any + Send + Sync), key: &str) -> String;
    /// What is wrong although each row is right.
    fn check(&self, values: &(dyn Any + Send + Sync), config: &Config) -> Vec<Wrong>;
}

impl<T: Send + Sync + 'static> SectionOf<T> {
    /// The values when nothing is given.
    pub fn blank(&self) -> T {
        let mut values = (self.blank)();
        for setting in self.settings {
            setting.kind.put_default(&mut values);
        }
        values
    }

    fn setting(&self, key: &str) -> Option<&'static Setting<T>> {
        self.settings.iter().find(|it| it.key == key)
    }
}

const OWN: &str = "a section's values are of its own making";

impl<T: Send + Sync + 'static> Section for SectionOf<T> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn about(&self) -> &'static str {
        self.about
    }

    fn texts(&self) -> Vec<RowText> {
        texts(self.settings)
    }

    fn tables(&self) -> Vec<(&'static str, &'static str, Vec<RowText>)> {
        self.tables.iter().map(|it| (it.name(), it.about(), it.texts())).collect()
    }

    fn defaults(&self) -> Values {
        Box::new(self.blank())
    }

    fn put(
        &self,
        values: &mut Values,
        key: &str,
        given: &Given,
        secret: ReadSecret<'_>,
    ) -> Result<(), Fault> {
        let setting = self.setting(key).expect("who asks has seen it in the texts");
        put(setting, key, values.downcast_mut().expect(OWN), given, secret)
    }

    fn add(
        &self,
        values: &mut Values,
        table: &str,
        given: &[GivenAt],
        secret: ReadSecret<'_>,
    ) -> Vec<(Option<Origin>, Fault)> {
        let rows = self.tables.iter().find(|it| it.name() == table);
        let rows = rows.expect("who asks has seen it in the tables");
        let table = format!("{}.{table}", self.name);
        rows.add(values.downcast_mut().expect(OWN), &table, given, secret)
    }

    fn is_secret_text(&self, key: &str) -> bool {
        let is_text = |kind: &Kind<T>| matches!(kind, Kind::Secret { from: SecretFrom::Text, .. });
        self.setting(key).is_some_and(|it| is_text(&it.kind))
    }

    fn value_text(&self, values: &(dyn Any + Send + Sync), key: &str) -> String {
        let values = values.downcast_ref().expect(OWN);
        self.setting(key).map(|it| it.kind.value_text(values)).unwrap_or_default()
    }

    fn check(&self, values: &(dyn Any + Send + Sync), config: &Config) -> Vec<Wrong> {
        (self.check)(values.downcast_ref().expect(OWN), config)
    }
}

/// The values of all sections, by their types. Not printable: they hold secrets.
#[derive(Clone, Default)]
pub struct Sections(Vec<Arc<dyn Any + Send + Sync>>);

impl fmt::Debug for Sections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} sections", self.0.len())
    }
}

impl Sections {
    pub(super) fn push(&mut self, values: Values) {
        self.0.push(Arc::from(values));
    }

    /// The values of this type; none if its section was not loaded.
    pub fn get<T: 'static>(&self) -> Option<&T> {
        self.0.iter().find_map(|it| it.downcast_ref())
    }

    /// Replaces the values of this type: for tests and for who puts a configuration together by hand.
    pub fn set<T: Send + Sync + 'static>(&mut self, values: T) {
        self.0.retain(|it| !it.is::<T>());
        self.0.push(Arc::new(values));
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(dyn Any + Send + Sync)> {
        self.0.iter().map(|it| &**it)
    }
}
