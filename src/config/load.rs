//! From texts to a checked [`Config`]: file, then environment, then flags, each over the one before.
//!
//! Every value is checked, also one that a stronger source replaces, and all problems are told at once.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::PathBuf;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Fault, Origin, Problem, nearest};
use super::section::{Section, Values};
use super::table::{APP_SETTINGS, SETTINGS, Setting};
use super::value::{Given, Kind, SecretFrom};
use super::{App, Config, DEVELOPMENT_SECRET, Machine};

/// Everything a configuration is made from. Not printable: an environment holds secrets.
pub struct Sources {
    /// The file's name and text, if there is one.
    pub file: Option<(PathBuf, String)>,
    /// The whole environment.
    pub environment: Vec<(String, String)>,
    /// Settings given as flags, in order; the last of a key counts.
    pub flags: Vec<Flag>,
    /// Facts that defaults are derived from.
    pub machine: Machine,
    /// What the dialects declare themselves.
    pub sections: &'static [&'static dyn Section],
}

/// A setting given as a flag.
#[derive(Clone, Debug)]
pub struct Flag {
    /// As it was spelled, for messages.
    pub spelled: String,
    /// The setting's key; `app.` and an app's setting for the first app.
    pub key: String,
    /// Its values; several only for lists.
    pub values: Vec<String>,
}

/// What whoever loads says beside the sources: weaker than all of them, and stronger than the defaults.
#[derive(Clone, Default)]
pub struct Presets {
    /// Settings: where each comes from, its key, its value.
    pub settings: Vec<(Origin, &'static str, Given)>,
    /// The app there is when none is configured, instead of the development app.
    pub app: Option<App>,
}

/// A checked configuration and where it comes from.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Where each setting was given last; absent if it is the default.
    pub origins: HashMap<&'static str, Origin>,
}

/// The name of a setting's environment variable.
pub fn variable(key: &str) -> String {
    format!("RINGMAIN_{}", key.replace('.', "_").to_ascii_uppercase())
}

/// The environment variable that names the file. It is no setting: a file cannot name itself.
pub const CONFIG_VARIABLE: &str = "RINGMAIN_CONFIG";

/// What the names of our environment variables begin with.
const PREFIX: &str = "RINGMAIN_";
/// Apps there can be: their index has 16 bits.
const APPS_MAX: usize = u16::MAX as usize;

/// Makes the configuration, or says everything that is wrong.
///
/// Reads the files that `secret_file` names, and nothing else from the world.
pub fn load(sources: &Sources) -> Result<Loaded, Vec<Problem>> {
    load_over(Presets::default(), sources)
}

/// The same, over what whoever loads says.
pub fn load_over(presets: Presets, sources: &Sources) -> Result<Loaded, Vec<Problem>> {
    let mut loader = Loader {
        config: Config::from_defaults(),
        origins: HashMap::new(),
        problems: Vec::new(),
        environment: &sources.environment,
        named: HashSet::new(),
        app_first: Table::default(),
        apps: Vec::new(),
        sections: sources.sections,
        values: sources.sections.iter().map(|it| it.defaults()).collect(),
        rows: Vec::new(),
    };
    for (origin, key, given) in presets.settings {
        loader.take(key, &given, origin);
    }
    if let Some((path, text)) = &sources.file {
        loader.take_file(path, text);
    }
    loader.take_environment();
    for flag in &sources.flags {
        loader.take_flag(flag);
    }
    loader.make_apps(presets.app);
    loader.make_rows();
    loader.check(&sources.machine);
    if loader.problems.is_empty() {
        Ok(Loaded { config: loader.config, origins: loader.origins })
    } else {
        Err(loader.problems)
    }
}

/// What was given for one app.
#[derive(Default)]
struct Table {
    origin: Option<Origin>,
    given: Vec<(String, Given, Origin)>,
    /// Something of it was refused while it was read, and is not in `given`.
    refused: bool,
}

struct Loader<'a> {
    config: Config,
    origins: HashMap<&'static str, Origin>,
    problems: Vec<Problem>,
    environment: &'a [(String, String)],
    /// Variables that the file refers to; they may begin as settings do.
    named: HashSet<String>,
    app_first: Table,
    apps: Vec<Table>,
    sections: &'static [&'static dyn Section],
    /// One for each section.
    values: Vec<Values>,
    /// Rows of the sections' tables: which section, which table, what was given.
    rows: Vec<(usize, &'static str, Table)>,
}

impl Loader<'_> {
    fn refuse(&mut self, origin: impl Into<Option<Origin>>, fault: Fault) {
        self.problems.push(Problem { origin: origin.into(), fault });
    }

    fn variable(&self, name: &str) -> Option<&str> {
        self.environment.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn take_file(&mut self, path: &std::path::Path, text: &str) {
        let file = File { path, text };
        let table = match DeTable::parse(text) {
            Ok(table) => table,
            Err(error) => {
                let origin = file.origin(&error.span().unwrap_or(0..0));
                return self.refuse(origin, Fault::Syntax(error.message().to_owned()));
            }
        };
        for (key, value) in table.get_ref() {
            if key.get_ref() == "apps" {
                self.take_apps(&file, value);
            } else if key.get_ref() == "app" {
                // Flags and variables say `app`; here its parts would look like known names.
                let fault = Fault::UnknownKey {
                    key: "app".to_owned(),
                    nearest: Some("[[apps]]".to_owned()),
                };
                self.refuse(file.origin(&key.span()), fault);
            } else {
                let mut leaves = Vec::new();
                self.flatten(&file, key.get_ref().to_string(), key.span(), value, &mut leaves);
                for (key, given, origin) in leaves {
                    self.take(&key, &given, origin);
                }
            }
        }
    }

    fn take_apps(&mut self, file: &File<'_>, value: &Spanned<DeValue<'_>>) {
        let tables = value.get_ref().as_array().map(|array| {
            array.iter().map(|item| (item.span(), item.get_ref().as_table())).collect::<Vec<_>>()
        });
        for (span, table) in tables.unwrap_or_else(|| vec![(value.span(), None)]) {
            let Some(table) = table else {
                let fault = Fault::NotAllowed {
                    key: "apps".to_owned(),
                    value: file.slice(&span).to_owned(),
                    allowed: "one [[apps]] table for each app".to_owned(),
                };
                self.refuse(file.origin(&span), fault);
                continue;
            };
            let mut given = Vec::new();
            let problems = self.problems.len();
            for (key, value) in table {
                self.flatten(file, key.get_ref().to_string(), key.span(), value, &mut given);
            }
            let named = given.iter().filter(|(key, ..)| key == "secret_env");
            self.named.extend(named.map(|(_, name, _)| name.spelled()));
            let refused = self.problems.len() > problems;
            self.apps.push(Table { origin: Some(file.origin(&span)), given, refused });
        }
    }

    /// Appends `key = value` with its place, or what a table holds, each with its dotted key.
    fn flatten(
        &mut self,
        file: &File<'_>,
        key: String,
        span: Range<usize>,
        value: &Spanned<DeValue<'_>>,
        leaves: &mut Vec<(String, Given, Origin)>,
    ) {
        let origin = file.origin(&span);
        let given = match value.get_ref() {
            DeValue::Table(table) => {
                let group = format!("{key}.");
                if table.is_empty() && !self.settings_keys().any(|it| it.starts_with(&group)) {
                    return self.refuse(origin, Fault::UnknownKey { key, nearest: None });
                }
                for (name, value) in table {
                    let key = format!("{group}{}", name.get_ref());
                    self.flatten(file, key, name.span(), value, leaves);
                }
                return;
            }
            DeValue::Array(array) if self.table_of(&key).is_some() => {
                return self.take_rows(file, &key, array);
            }
            DeValue::Array(array) => {
                let texts = array.iter().map(|item| self.text(file, &key, item)).collect();
                let Some(texts) = texts else { return };
                Given::Many(texts)
            }
            _ => match self.text(file, &key, value) {
                Some(text) => Given::One(text),
                None => return,
            },
        };
        leaves.push((key, given, origin));
    }

    /// A scalar as text, variables replaced; refuses what is none.
    fn text(&mut self, file: &File<'_>, key: &str, value: &Spanned<DeValue<'_>>) -> Option<String> {
        let origin = file.origin(&value.span());
        match value.get_ref() {
            DeValue::String(text) => match self.replaced(text) {
                Ok(text) => Some(text),
                Err(variable) => {
                    self.refuse(origin, Fault::VariableUnset { key: key.to_owned(), variable });
                    None
                }
            },
            DeValue::Array(_) | DeValue::Table(_) => {
                let value = file.slice(&value.span()).to_owned();
                let allowed = "a list of plain values".to_owned();
                self.refuse(origin, Fault::NotAllowed { key: key.to_owned(), value, allowed });
                None
            }
            _ => Some(file.slice(&value.span()).to_owned()),
        }
    }

    /// The text with its variables replaced, which are noted; or the name of one that is not set.
    fn replaced(&mut self, text: &str) -> Result<String, String> {
        let environment = self.environment;
        let value = |name: &str| {
            self.named.insert(name.to_owned());
            environment.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
        };
        replace(text, value)
    }

    fn take_environment(&mut self) {
        let environment = self.environment;
        let secret = self.variable(&variable("app.secret_env")).map(str::to_owned);
        self.named.extend(secret);
        for (name, value) in environment {
            if !name.starts_with(PREFIX) || is_no_setting(name) || self.named.contains(name) {
                continue;
            }
            let origin = Origin::Environment(name.clone());
            let given = Given::One(value.clone());
            let app_key = APP_SETTINGS.iter().find(|it| variable(&app_key(it.key)) == *name);
            if let Some(setting) = app_key {
                self.app_first.given.push((setting.key.to_owned(), given, origin));
            } else if let Some(key) = self.settings_keys().find(|key| variable(key) == *name) {
                self.take(key, &given, origin);
            } else {
                // What every variable begins with makes none of them alike.
                let bare = |name: &str| name.trim_start_matches(PREFIX).to_owned();
                let known = self.all_keys().map(|key| bare(&variable(&key)));
                let nearest = nearest(&bare(name), known).map(|it| format!("{PREFIX}{it}"));
                self.refuse(origin, Fault::UnknownKey { key: name.clone(), nearest });
            }
        }
    }

    fn take_flag(&mut self, flag: &Flag) {
        let origin = Origin::Flag(flag.spelled.clone());
        let given = match flag.values.as_slice() {
            [one] => Given::One(one.clone()),
            many => Given::Many(many.to_vec()),
        };
        match flag.key.strip_prefix("app.") {
            Some("secret") => {
                self.app_first.refused = true;
                self.refuse(origin, Fault::SecretFlag { key: flag.key.clone() });
            }
            Some(key) => {
                // A flag replaces what the environment said.
                self.app_first.given.retain(|(earlier, ..)| earlier != key);
                self.app_first.given.push((key.to_owned(), given, origin));
            }
            None if self.is_secret_text(&flag.key) => {
                self.refuse(origin, Fault::SecretFlag { key: flag.key.clone() });
            }
            None => self.take(&flag.key, &given, origin),
        }
    }

    /// Checks and takes one setting of the process.
    fn take(&mut self, key: &str, given: &Given, origin: Origin) {
        if let Some((section, key)) = self.section_of(key) {
            let secret = secret_reader(self.environment);
            return match self.sections[section].put(&mut self.values[section], key, given, &secret)
            {
                Ok(()) => {
                    self.origins.insert(key, origin);
                }
                Err(fault) => self.refuse(origin, fault),
            };
        }
        let Some(setting) = SETTINGS.iter().find(|it| it.key == key) else {
            let table = key.rsplit_once('.').map_or("", |(table, _)| table);
            if self.table_of(table).is_some() {
                let table = table.to_owned();
                return self.refuse(origin, Fault::SingleBrackets { table });
            }
            let nearest = nearest(key, self.all_keys());
            return self.refuse(origin, Fault::UnknownKey { key: key.to_owned(), nearest });
        };
        let read;
        let given = match setting.kind {
            Kind::Secret { from, .. } => {
                match secret_reader(self.environment)(from, setting.key, given) {
                    Ok(secret) => {
                        read = Given::One(secret);
                        &read
                    }
                    Err(fault) => return self.refuse(origin, fault),
                }
            }
            _ => given,
        };
        if setting.kind.try_put(&mut self.config, given) {
            self.origins.insert(setting.key, origin);
        } else {
            self.refuse(origin, not_allowed(setting, setting.key, given));
        }
    }

    /// Whether this setting holds a secret itself, not where one is.
    fn is_secret_text(&self, key: &str) -> bool {
        let own = SETTINGS.iter().find(|it| it.key == key);
        own.is_some_and(|it| matches!(it.kind, Kind::Secret { from: SecretFrom::Text, .. }))
            || self.sections.iter().any(|it| it.is_secret_text(key))
    }

    /// The section that has this setting, and its key.
    fn section_of(&self, key: &str) -> Option<(usize, &'static str)> {
        let name = key.split('.').next()?;
        let section = self.sections.iter().position(|it| it.name() == name)?;
        let text = self.sections[section].texts().into_iter().find(|it| it.key == key)?;
        Some((section, text.key))
    }

    /// The section that has this table, and its name there.
    fn table_of(&self, key: &str) -> Option<(usize, &'static str)> {
        let (name, table) = key.split_once('.')?;
        let section = self.sections.iter().position(|it| it.name() == name)?;
        let tables = self.sections[section].tables();
        tables.into_iter().find(|it| it.0 == table).map(|it| (section, it.0))
    }

    /// The keys of all settings of the process, sections included.
    fn settings_keys(&self) -> impl Iterator<Item = &'static str> + use<> {
        let sections = self.sections.iter().flat_map(|it| it.texts()).map(|it| it.key);
        SETTINGS.iter().map(|it| it.key).chain(sections)
    }

    /// The same, and those of the first app.
    fn all_keys(&self) -> impl Iterator<Item = String> + use<> {
        let apps = APP_SETTINGS.iter().map(|it| app_key(it.key));
        self.settings_keys().map(str::to_owned).chain(apps)
    }

    /// Rows of a section's table.
    fn take_rows(&mut self, file: &File<'_>, key: &str, array: &[Spanned<DeValue<'_>>]) {
        let Some((section, name)) = self.table_of(key) else { return };
        for item in array {
            let origin = file.origin(&item.span());
            let Some(table) = item.get_ref().as_table() else {
                let fault = Fault::NotAllowed {
                    key: key.to_owned(),
                    value: file.slice(&item.span()).to_owned(),
                    allowed: format!("[[{key}]] tables"),
                };
                self.refuse(origin, fault);
                continue;
            };
            let mut given = Vec::new();
            let problems = self.problems.len();
            for (key, value) in table {
                self.flatten(file, key.get_ref().to_string(), key.span(), value, &mut given);
            }
            let named = given.iter().filter(|(key, ..)| key.ends_with("_env"));
            self.named.extend(named.map(|(_, name, _)| name.spelled()));
            let refused = self.problems.len() > problems;
            self.rows.push((section, name, Table { origin: Some(origin), given, refused }));
        }
    }

    /// Makes the rows of the sections' tables, now that all is read.
    fn make_rows(&mut self) {
        for (section, name, mut table) in std::mem::take(&mut self.rows) {
            if table.given.is_empty() {
                let key = format!("{}.{name}", self.sections[section].name());
                self.refuse(table.origin, Fault::UnknownKey { key, nearest: None });
                continue;
            }
            if let Some(origin) = &table.origin {
                // Where a missing key is told to be missing.
                table.given[0].2 = match &table.given[0].2 {
                    Origin::File { .. } => table.given[0].2.clone(),
                    _ => origin.clone(),
                };
            }
            let secret = secret_reader(self.environment);
            let values = &mut self.values[section];
            let faults = self.sections[section].add(values, name, &table.given, &secret);
            if !table.refused {
                faults.into_iter().for_each(|(origin, fault)| self.refuse(origin, fault));
            }
        }
    }

    /// Makes the apps, the environment's first; `otherwise` or the development app if there is none.
    fn make_apps(&mut self, otherwise: Option<App>) {
        let first = std::mem::take(&mut self.app_first);
        // A secret alone is for `ringmain publish`, which reads it too, where a file has the apps.
        let is_publishers = !self.apps.is_empty() && first.given.iter().all(|it| it.0 == "secret");
        if !first.given.is_empty() && !is_publishers {
            self.make_app(first, |key| variable(&app_key(key)));
        }
        for table in std::mem::take(&mut self.apps) {
            self.make_app(table, |key| format!("apps.{key}"));
        }
        if self.config.apps.len() > APPS_MAX {
            let fault = Fault::NotAllowed {
                key: "apps".to_owned(),
                value: format!("{} of them", self.config.apps.len()),
                allowed: format!("at most {APPS_MAX}"),
            };
            self.refuse(None, fault);
        }
        if self.config.apps.is_empty() {
            self.config.development = otherwise.is_none();
            self.config.apps.push(otherwise.unwrap_or_else(App::development));
        }
    }

    fn make_app(&mut self, table: Table, spell: impl Fn(&str) -> String) {
        let mut app = App::from_defaults();
        let mut secrets = 0;
        for (key, given, origin) in &table.given {
            let Some(setting) = APP_SETTINGS.iter().find(|it| it.key == key) else {
                let nearest = nearest(key, APP_SETTINGS.iter().map(|it| it.key.to_owned()));
                self.refuse(origin.clone(), Fault::UnknownKey { key: spell(key), nearest });
                continue;
            };
            let given = match setting.kind {
                Kind::Secret { from, .. } => {
                    secrets += 1;
                    match secret_reader(self.environment)(from, &spell(key), given) {
                        Ok(secret) => &Given::One(secret),
                        Err(fault) => {
                            self.refuse(origin.clone(), fault);
                            continue;
                        }
                    }
                }
                _ => given,
            };
            if !setting.kind.try_put(&mut app, given) {
                self.refuse(origin.clone(), not_allowed(setting, &spell(key), given));
            }
        }
        let origin = || {
            let given = table.given.first().map(|(_, _, origin)| origin.clone());
            table.origin.clone().or(given)
        };
        for (key, is_given) in [
            ("id", table.given.iter().any(|(key, ..)| key == "id")),
            ("key", table.given.iter().any(|(key, ..)| key == "key")),
            ("secret", secrets > 0),
        ] {
            // What was given and refused is told already; the last line must be the one to act on.
            if !is_given && !table.refused {
                self.refuse(origin(), Fault::AppLacks { key: spell(key) });
            }
        }
        if secrets > 1 {
            self.refuse(origin(), Fault::SecretTwice);
        }
        for (what, same) in [
            ("id", self.config.apps.iter().any(|it| it.id == app.id && !it.id.is_empty())),
            ("key", self.config.apps.iter().any(|it| it.key == app.key && !it.key.is_empty())),
        ] {
            if same {
                let value = if what == "id" { app.id.clone() } else { app.key.clone() };
                self.refuse(origin(), Fault::AppTwice { what, value });
            }
        }
        self.config.apps.push(app);
    }

    /// What no single setting can know.
    fn check(&mut self, machine: &Machine) {
        let asked = self.config.limits.connections_max;
        self.config.resolve(machine);
        let config = &self.config;
        let reserved = Machine::descriptors_reserved(config.shards, config.listeners());
        let needed = u64::from(asked).saturating_add(reserved);
        let mut faults = Vec::new();
        if asked > 0 && needed > machine.descriptors_max {
            faults.push((
                "limits.connections_max",
                Fault::Descriptors {
                    connections: asked.into(),
                    needed,
                    allowed: machine.descriptors_max,
                },
            ));
        }
        let all = config.limits.outbox_bytes_per_shard_max;
        let one = config.limits.outbox_bytes_high_water;
        if all < one {
            faults
                .push(("limits.outbox_bytes_per_shard_max", Fault::OutboxesBelowOne { all, one }));
        }
        if config.apps.iter().any(|app| app.secret.0 == DEVELOPMENT_SECRET) {
            let exposed = config.listen.iter().find(|it| !it.ip().to_canonical().is_loopback());
            if let Some(&address) = exposed {
                faults.push(("listen", Fault::DevelopmentExposed { address }));
            }
        }
        // Shards share a port, so the kernel would let us bind it twice.
        let again = |i: usize, it: &std::net::SocketAddr| {
            config.listen.iter().take(i).any(|earlier| earlier == it)
        };
        let twice =
            config.listen.iter().enumerate().find(|(i, it)| it.port() != 0 && again(*i, it));
        let paths = &config.listen_local;
        let path = paths.iter().enumerate().find(|(i, it)| paths[..*i].contains(it));
        let path = path.map(|(_, path)| path.display().to_string());
        if let Some(value) = twice.map(|(_, address)| address.to_string()).or(path) {
            let key = "listen".to_owned();
            let allowed = "each address once".to_owned();
            faults.push(("listen", Fault::NotAllowed { key, value, allowed }));
        }
        for (section, values) in self.sections.iter().zip(std::mem::take(&mut self.values)) {
            for (key, value, allowed) in section.check(&*values, &self.config) {
                faults.push((key, Fault::NotAllowed { key: key.to_owned(), value, allowed }));
            }
            self.config.sections.push(values);
        }
        for (key, fault) in faults {
            self.refuse(self.origins.get(key).cloned(), fault);
        }
    }
}

/// A file's text and name, to tell where something stands.
struct File<'a> {
    path: &'a std::path::Path,
    text: &'a str,
}

impl File<'_> {
    fn slice(&self, span: &Range<usize>) -> &str {
        self.text.get(span.clone()).unwrap_or_default()
    }

    fn origin(&self, span: &Range<usize>) -> Origin {
        let before = self.text.as_bytes().get(..span.start).unwrap_or_default();
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        Origin::File { path: self.path.to_owned(), line }
    }
}

fn app_key(key: &str) -> String {
    format!("app.{key}")
}

/// Reads the secret that a setting names.
fn secret_reader(
    environment: &[(String, String)],
) -> impl Fn(SecretFrom, &str, &Given) -> Result<String, Fault> {
    move |from, key, given| {
        let key = key.to_owned();
        match from {
            SecretFrom::Text => Ok(given.spelled()),
            SecretFrom::File => {
                let path = given.spelled();
                match std::fs::read_to_string(&path) {
                    Ok(text) if !text.trim().is_empty() => Ok(text.trim().to_owned()),
                    Ok(_) => Err(Fault::SecretFile { key, path, why: "it is empty".to_owned() }),
                    Err(error) => Err(Fault::SecretFile { key, path, why: error.to_string() }),
                }
            }
            SecretFrom::Environment => {
                let variable = given.spelled();
                match environment.iter().find(|(name, _)| *name == variable) {
                    Some((_, secret)) => Ok(secret.clone()),
                    None => Err(Fault::VariableUnset { key, variable }),
                }
            }
        }
    }
}

fn not_allowed<T>(setting: &Setting<T>, key: &str, given: &Given) -> Fault {
    let value = match setting.kind {
        Kind::Secret { .. } => "***".to_owned(),
        _ => given.spelled(),
    };
    Fault::NotAllowed { key: key.to_owned(), value, allowed: setting.kind.range_text() }
}

/// True for variables that begin as ours do and are nobody's settings: the one that names the file,
/// those of our own tests, and those that Kubernetes sets in every container for a service called
/// `ringmain` (Kubernetes documentation, "Environment variables" of services).
fn is_no_setting(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("RINGMAIN_") else { return true };
    matches!(rest, "CONFIG" | "BIN" | "SEED" | "SEEDS" | "PORT")
        || ["SIM_", "PORT_", "SERVICE_"].iter().any(|family| rest.starts_with(family))
}

/// Replaces `${NAME}` and `${NAME:-default}`; `$$` is a dollar sign. The error is the name that is unset.
fn replace<'a>(
    text: &str,
    mut value: impl FnMut(&str) -> Option<&'a str>,
) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        rest = after;
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((inner, after)) =
            rest.strip_prefix('{').and_then(|it| it.split_once('}'))
        {
            let (name, default) = match inner.split_once(":-") {
                Some((name, default)) => (name, Some(default)),
                None => (inner, None),
            };
            // As in a shell, `:-` also replaces what is set but empty.
            let found = value(name).filter(|found| !found.is_empty() || default.is_none());
            out.push_str(found.or(default).ok_or(name)?);
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests;
