//! `check --from FILE`: a configuration of Sockudo, Soketi or Reverb as one of ours, on stdout; what has no counterpart,
//! as its comments.

mod read;
mod table;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use ringmain::config::load::{Sources, load};
use ringmain::dialects::SECTIONS;
use serde_json::Value;

use self::read::{Leaf, Theirs};
use self::table::{As, To};
use super::{Failure, settings};

/// Where theirs listen unless told otherwise.
const HOST_DEFAULT: &str = "0.0.0.0";
const PORT_DEFAULT: &str = "6001";

/// Prints the configuration in `file` as one of ours, which is checked before.
pub fn run(file: &Path) -> Result<(), Failure> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        let what = format_args!("cannot read {}: {error}", file.display()).to_string();
        Failure::new(
            2,
            what,
            "name a configuration of Sockudo, Soketi or Reverb (JSON, TOML or .env)",
        )
    })?;
    let theirs = read::read(&text).map_err(|why| {
        let what = format!("{}: {why}", file.display());
        Failure::new(2, what, "name a configuration in JSON, TOML, or lines of NAME=value")
    })?;
    let ours = Ours::of(&theirs).write(file);
    let mut stdout = io::stdout().lock();
    stdout.write_all(ours.as_bytes())?;
    check(ours)
}

/// Refuses to pass on what would not start.
fn check(ours: String) -> Result<(), Failure> {
    let sources = Sources {
        file: Some((PathBuf::from("the configuration above"), ours)),
        environment: Vec::new(),
        flags: Vec::new(),
        machine: settings::here(),
        sections: SECTIONS,
    };
    let Err(problems) = load(&sources) else { return Ok(()) };
    let mut lines: Vec<_> = problems.iter().map(|it| format!("error: {it}")).collect();
    lines
        .push("  change: correct these in the configuration above before you start with it".into());
    Err(Failure { code: 2, lines })
}

/// A configuration of ours, as it is being made.
#[derive(Debug, Default)]
struct Ours {
    /// Settings by section; those without one first.
    settings: BTreeMap<String, BTreeMap<String, String>>,
    apps: BTreeMap<String, BTreeMap<String, String>>,
    /// Of every app that does not say otherwise.
    of_apps: BTreeMap<String, String>,
    /// Webhooks, by where they stand: their app and what is said of them.
    receivers: BTreeMap<String, (String, BTreeMap<String, Value>)>,
    history: BTreeMap<String, Value>,
    /// Names before a colon, by app, as TOML.
    namespaces: BTreeMap<String, Vec<String>>,
    /// Channels that are told as what changed: app, pattern, what is said of it.
    deltas: Vec<(String, String, Value)>,
    host: Option<String>,
    port: Option<String>,
    left: Vec<(String, String)>,
}

impl Ours {
    fn of(theirs: &Theirs) -> Self {
        let mut ours = Self::default();
        for leaf in &theirs.leaves {
            ours.take(leaf, theirs.in_milliseconds);
        }
        ours.left.extend(theirs.unknown.iter().cloned());
        ours.keep_history();
        ours
    }

    fn take(&mut self, leaf: &Leaf, in_milliseconds: bool) {
        let Some(to) = table::row(&leaf.path) else {
            return self.leave(leaf, "nothing here is like it");
        };
        let app = app_of(&leaf.path);
        match to {
            To::Nowhere(why) => self.leave(leaf, why),
            To::Setting(key, how) => match become_ours(&leaf.value, how, in_milliseconds) {
                Ok(Some(text)) => {
                    let (section, name) = key.split_once('.').unwrap_or(("", key));
                    self.settings.entry(section.into()).or_default().insert(name.into(), text);
                }
                Ok(None) => {}
                Err(why) => self.leave(leaf, why),
            },
            To::App(key, how) => match become_ours(&leaf.value, how, in_milliseconds) {
                Ok(text) => {
                    let text = match (text, key) {
                        (Some(text), _) => text,
                        // Without a limit, where it is not so by default.
                        (None, "client_events_per_second_max") => "0".into(),
                        (None, _) => return,
                    };
                    let of = match app {
                        Some(app) => self.apps.entry(app.into()).or_default(),
                        None => &mut self.of_apps,
                    };
                    of.insert(key.into(), text);
                }
                Err(why) => self.leave(leaf, why),
            },
            To::Together("listen") => {
                let text = Some(word(&leaf.value));
                match leaf.path.as_str() {
                    "host" => self.host = text,
                    _ => self.port = text,
                }
            }
            To::Together("namespaces") => {
                let names = self.namespaces.entry(app.unwrap_or_default().into()).or_default();
                names.push(text(&word(&leaf.value)));
            }
            To::Together("[[pusher.delta]]") => {
                let patterns = leaf.value.as_object().cloned().unwrap_or_default();
                let app = app.unwrap_or_default().to_owned();
                self.deltas
                    .extend(patterns.into_iter().map(|(pattern, it)| (app.clone(), pattern, it)));
            }
            To::Together("[[webhooks.receivers]]") => {
                let Some((at, name)) = webhook_of(&leaf.path) else { return };
                let app = app.unwrap_or_default().to_owned();
                let (_, said) = self.receivers.entry(at).or_insert_with(|| (app, BTreeMap::new()));
                said.insert(name, leaf.value.clone());
            }
            To::Together(_) => {
                self.history.insert(leaf.path.clone(), leaf.value.clone());
            }
        }
    }

    fn leave(&mut self, leaf: &Leaf, why: &str) {
        self.left.push((leaf.spelled.clone(), why.to_owned()));
    }

    /// One rule for all channels, where theirs keep anything.
    fn keep_history(&mut self) {
        let number = |key: &str| self.history.get(key).and_then(|it| word(it).parse::<u64>().ok());
        let is_on = |key: &str| self.history.get(key).is_some_and(|it| word(it) == "true");
        let (mode, age, events) = if is_on("history.enabled") {
            let is_memory =
                self.history.get("history.backend").is_some_and(|it| word(it) == "memory");
            let mode = if is_memory { "memory" } else { "durable" };
            (
                mode,
                number("history.retention_window_seconds").unwrap_or(86_400),
                number("history.max_messages_per_channel"),
            )
        } else if is_on("connection_recovery.enabled") {
            let age = number("connection_recovery.buffer_ttl_seconds").unwrap_or(120);
            ("memory", age, number("connection_recovery.max_buffer_size").or(Some(100)))
        } else {
            return;
        };
        let bytes = number("history.max_bytes_per_channel");
        let rule = self.settings.entry("[history.channels]".into()).or_default();
        rule.insert("pattern".into(), text("*"));
        rule.insert("mode".into(), text(mode));
        rule.insert("age_s".into(), age.to_string());
        rule.extend(events.map(|it| ("events_max".to_owned(), it.to_string())));
        rule.extend(bytes.map(|it| ("bytes_max".to_owned(), it.to_string())));
    }

    fn listen(&self) -> String {
        let host = match self.host.as_deref() {
            None => HOST_DEFAULT,
            Some("localhost") => "127.0.0.1",
            Some(host) => host,
        };
        let port = self.port.as_deref().unwrap_or(PORT_DEFAULT);
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        format!("[{}]", text(&format!("{host}:{port}")))
    }

    fn write(&self, file: &Path) -> String {
        let mut out =
            format!("# Made from {}.\n", file.file_name().unwrap_or_default().to_string_lossy());
        let mut line = |text: String| {
            out.push_str(&text);
            out.push('\n');
        };
        line(format!("listen = {}", self.listen()));
        for (section, settings) in &self.settings {
            if !section.is_empty() {
                line(format!("\n[{section}]"));
            }
            for (name, value) in settings {
                line(format!("{name} = {value}"));
            }
        }
        for (number, app) in &self.apps {
            line("\n[[apps]]".into());
            let mut app = app.clone();
            if let Some(names) = self.namespaces.get(number) {
                app.insert("namespaces".into(), format!("[{}]", names.join(", ")));
            }
            for (name, value) in &self.of_apps {
                app.entry(name.clone()).or_insert_with(|| value.clone());
            }
            for first in ["id", "key", "secret"] {
                if let Some(value) = app.remove(first) {
                    line(setting(first, &value));
                }
            }
            for (name, value) in &app {
                line(format!("{name} = {value}"));
            }
        }
        for (app, pattern, said) in &self.deltas {
            for text in self.delta(app, pattern, said) {
                line(text);
            }
        }
        for (at, (app, said)) in &self.receivers {
            for text in self.receiver(at, app, said) {
                line(text);
            }
        }
        if !self.left.is_empty() {
            line("\n# Left out:".into());
        }
        for (why, spelled) in self.left_by_reason() {
            line(format!("#   {}: {why}", spelled.join(", ")));
        }
        out
    }

    /// What is left out, those together that are for one reason; a whole part of theirs in one word.
    fn left_by_reason(&self) -> Vec<(&str, Vec<String>)> {
        let mut reasons: Vec<(&str, Vec<String>)> = Vec::new();
        for (spelled, why) in &self.left {
            let at = reasons.iter().position(|(it, _)| it == why).unwrap_or_else(|| {
                reasons.push((why, Vec::new()));
                reasons.len() - 1
            });
            let part = match spelled.split_once('.') {
                Some(("app_manager" | "appManager", _)) | None => spelled.clone(),
                Some((part, _)) => format!("{part}.*"),
            };
            if !reasons[at].1.contains(&part) {
                reasons[at].1.push(part);
            }
        }
        reasons
    }

    fn delta(&self, app: &str, pattern: &str, said: &Value) -> Vec<String> {
        let id =
            self.apps.get(app).and_then(|it| it.get("id")).cloned().unwrap_or_else(|| text(""));
        let mut out = vec!["\n[[pusher.delta]]".to_owned()];
        out.push(format!("app = {id}"));
        out.push(format!("pattern = {}", text(pattern)));
        for (theirs, ours) in [
            ("enabled", "enabled"),
            ("algorithm", "algorithm"),
            ("conflation_key", "conflation_key"),
            ("max_messages_per_key", "messages_per_key_max"),
            ("max_conflation_keys", "conflation_keys_max"),
        ] {
            let how = if theirs == "algorithm" { As::Lower } else { As::Same };
            let value = said.get(theirs).and_then(|it| become_ours(it, how, false).ok().flatten());
            out.extend(value.map(|value| format!("{ours} = {value}")));
        }
        out
    }

    fn receiver(&self, at: &str, app: &str, said: &BTreeMap<String, Value>) -> Vec<String> {
        let Some(url) = said.get("url") else {
            return vec![format!(
                "# A webhook of app {app} has no URL that it is sent to with POST."
            )];
        };
        let id =
            self.apps.get(app).and_then(|it| it.get("id")).cloned().unwrap_or_else(|| text(""));
        let mut out = vec!["\n[[webhooks.receivers]]".to_owned()];
        out.push(format!("name = {}", text(&format!("webhook-{}", at.replace('.', "-")))));
        out.push(format!("url = {}", text(&word(url))));
        out.push(format!("app = {id}"));
        out.push("format = \"sockudo\"".into());
        if let Some(types) = said.get("event_types").and_then(Value::as_array) {
            let types: Vec<_> = types.iter().map(|it| text(&word(it))).collect();
            out.push(format!("types = [{}]", types.join(", ")));
        }
        for name in ["channel_prefix", "channel_suffix", "channel_pattern"] {
            let given = said.get(&format!("filter.{name}"));
            out.extend(given.map(|it| format!("{name} = {}", text(&word(it)))));
        }
        let several = said.get("filter.channel_namespaces").and_then(Value::as_array);
        let namespaces: Vec<_> = said
            .get("filter.channel_namespace")
            .into_iter()
            .chain(several.into_iter().flatten())
            .map(|it| text(&word(it)))
            .collect();
        if !namespaces.is_empty() {
            out.push(format!("channel_namespaces = [{}]", namespaces.join(", ")));
        }
        let field = |(name, value): (&String, &Value)| text(&format!("{name}: {}", word(value)));
        let fields = said.get("headers").and_then(Value::as_object);
        let fields: Vec<_> = fields.into_iter().flatten().map(field).collect();
        if !fields.is_empty() {
            out.push(format!("headers = [{}]", fields.join(", ")));
        }
        let timeout = said.get("request_timeout_ms");
        out.extend(timeout.map(|it| format!("timeout_s = {}", text(&format!("{}ms", word(it))))));
        out
    }
}

/// The number of the app that a place belongs to.
fn app_of(path: &str) -> Option<&str> {
    path.strip_prefix("app_manager.array.apps.")?.split('.').next()
}

/// Which webhook a place belongs to, and what of it.
fn webhook_of(path: &str) -> Option<(String, String)> {
    let rest = path.strip_prefix("app_manager.array.apps.")?;
    let (app, rest) = rest.split_once(".webhooks.")?;
    let (number, name) = rest.split_once('.')?;
    Some((format!("{app}.{number}"), name.to_owned()))
}

/// `id = "1"`; a variable of their environment stays one.
fn setting(name: &str, value: &str) -> String {
    let variable = value.strip_prefix("\"${").and_then(|it| it.strip_suffix("}\""));
    match (name, variable) {
        ("secret", Some(variable)) if !variable.contains(':') => {
            format!("secret_env = {}", text(variable))
        }
        _ => format!("{name} = {value}"),
    }
}

/// A value of theirs as TOML; none: it says what is so without it.
fn become_ours(
    value: &Value,
    how: As,
    in_milliseconds: bool,
) -> Result<Option<String>, &'static str> {
    let number = || {
        let number = value.as_f64().or_else(|| word(value).parse().ok());
        number.ok_or("it is no number")
    };
    let whole = |number: f64| (number.round() as u64).to_string();
    Ok(Some(match how {
        As::Same => match value {
            Value::Number(_) | Value::Bool(_) => value.to_string(),
            Value::String(it) if it.parse::<u64>().is_ok() || it == "true" || it == "false" => {
                it.clone()
            }
            _ => text(&word(value)),
        },
        As::Lower => text(&word(value).to_ascii_lowercase()),
        As::Kibibytes => whole(number()? * 1024.0),
        As::Mebibytes => whole(number()? * 1_048_576.0),
        As::Milliseconds => (number()? / 1000.0).to_string(),
        As::Days => whole(number()? * 86_400.0),
        As::Time if in_milliseconds => whole((number()? / 1000.0).ceil()),
        As::Time => whole(number()?),
        As::Limit => match number()? {
            limit if limit <= 0.0 => return Ok(None),
            limit => whole(limit),
        },
        As::Texts => {
            let texts: Vec<String> = match value {
                Value::Array(items) => items.iter().map(word).collect(),
                other => word(other).split(',').map(|it| it.trim().to_owned()).collect(),
            };
            let texts: Vec<_> =
                texts.iter().filter(|it| !it.is_empty()).map(|it| text(it)).collect();
            format!("[{}]", texts.join(", "))
        }
        As::Compression => (!matches!(word(value).as_str(), "disabled" | "false" | "")).to_string(),
    }))
}

/// A value as a word.
fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A TOML string.
fn text(text: &str) -> String {
    // JSON's escapes are among TOML's.
    Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(text: &str) -> String {
        Ours::of(&read::read(text).unwrap()).write(Path::new("dir/theirs"))
    }

    #[test]
    fn every_setting_of_ours_that_is_named_is_one() {
        // A value of each kind, in a configuration that is read as any other.
        for (place, to) in table::ROWS {
            let (To::Setting(_, how) | To::App(_, how)) = to else { continue };
            let value = match how {
                As::Texts => Value::from("a,b"),
                As::Compression => Value::from("disabled"),
                As::Lower => Value::from("Fossil"),
                As::Days => Value::from(30),
                As::Same if place.ends_with("encryption_key") => Value::from("k".repeat(32)),
                As::Same if place.ends_with("endpoint") => Value::from("https://x.example"),
                As::Same if place.ends_with("omit_delta_algorithm") => Value::Bool(true),
                As::Same if place.contains("enable") || place.ends_with("terminate_on_limit") => {
                    Value::Bool(true)
                }
                _ => Value::from(100_000),
            };
            let path = place.replace('*', "0");
            let mut ours = Ours::default();
            for (path, value) in [
                ("app_manager.array.apps.0.id", Value::from("i")),
                ("app_manager.array.apps.0.key", Value::from("k")),
                ("app_manager.array.apps.0.secret", Value::from("s")),
                (&path, value),
            ] {
                let leaf = Leaf { path: path.to_owned(), spelled: path.to_owned(), value };
                ours.take(&leaf, false);
            }
            assert!(ours.left.is_empty(), "{place}: {:?}", ours.left);
            let text = ours.write(Path::new("theirs"));
            let unknown = check(text.clone())
                .err()
                .map(|it| it.lines.join("\n"))
                .filter(|it| it.contains("unknown setting"));
            assert_eq!(unknown, None, "{place}\n{text}");
        }
    }

    #[test]
    fn what_both_have_is_carried_over_and_the_rest_is_named() {
        let theirs = r#"{
            "port": 7000,
            "adapter": { "driver": "redis", "redis": { "prefix": "x" } },
            "history": { "enabled": true, "retention_window_seconds": 60 },
            "app_manager": { "array": { "apps": [{
                "id": "a", "key": "k", "secret": "${SECRET}",
                "policy": { "limits": { "max_connections": 0, "max_client_events_per_second": -1 },
                            "channels": { "allowed_origins": ["x.example"] },
                            "webhooks": [{ "url": "https://x.example/h", "event_types": ["member_added"],
                                           "filter": { "channel_prefix": "a-", "channel_namespaces": ["n"] },
                                           "headers": { "X-Team": "shop" }, "request_timeout_ms": 500 }] }
            }] } },
            "event_limits": { "max_payload_in_kb": "10" },
            "odd": 1
        }"#;
        let expected = r#"# Made from theirs.
listen = ["0.0.0.0:7000"]

[[history.channels]]
age_s = 60
mode = "durable"
pattern = "*"

[[apps]]
id = "a"
key = "k"
secret_env = "SECRET"
allowed_origins = ["x.example"]
client_events_per_second_max = 0
event_payload_bytes_max = 10240

[[webhooks.receivers]]
name = "webhook-0-0"
url = "https://x.example/h"
app = "a"
format = "sockudo"
types = ["member_added"]
channel_prefix = "a-"
channel_namespaces = ["n"]
headers = ["X-Team: shop"]
timeout_s = "500ms"

# Left out:
#   adapter.*: one process serves all connections; several nodes are not joined yet
#   odd: nothing here is like it
"#;
        assert_eq!(ours(theirs), expected);
    }

    /// The tables of docs/migrating.md.
    fn markdown() -> String {
        let mut out = String::from("\n| theirs | here |\n| --- | --- |\n");
        for (place, to) in table::ROWS {
            let here = match to {
                To::Setting(key, _) => format!("`{key}`"),
                To::App(key, _) => format!("`{key}` of the app"),
                To::Together(what) => format!("`{what}`"),
                To::Nowhere(why) => (*why).to_owned(),
            };
            out.push_str(&format!(
                "| `{}` | {here} |\n",
                place.replace("app_manager.array.apps.*.", "app: ")
            ));
        }
        out.push_str("\n| environment variable (Soketi's with `SOKETI_` in front) | the setting of theirs that it is |\n| --- | --- |\n");
        for (name, place) in table::VARIABLES {
            out.push_str(&format!(
                "| `{name}` | `{}` |\n",
                place.replace("app_manager.array.apps.0.", "app: ")
            ));
        }
        out.push('\n');
        out
    }

    #[test]
    fn push_notifications_are_carried_over_from_variables() {
        let ours = ours(
            "SOCKUDO_DEFAULT_APP_ID=a\nSOCKUDO_DEFAULT_APP_KEY=k\nSOCKUDO_DEFAULT_APP_SECRET=s\n\
             PUSH_RETRY_INITIAL_BACKOFF_MS=500\nPUSH_RETRY_MAX_ATTEMPTS=7\nPUSH_PUBLISH_STATUS_TTL_DAYS=30\n\
             PUSH_DEFAULT_DELIVERY_QUOTA_DAILY=0\nPUSH_FCM_ENABLED=true\nPUSH_FANOUT_SHARD_SIZE=500\n\
             PUSH_CREDENTIAL_ENCRYPTION_KEY=0123456789abcdef0123456789abcdef\nPUSH_STORAGE_DRIVER=memory\n",
        );
        for line in [
            "[push]",
            "attempts_max = 7",
            "retry_first_s = 0.5",
            "retention_s = 2592000",
            "encryption_key = \"0123456789abcdef0123456789abcdef\"",
        ] {
            assert!(ours.lines().any(|it| it == line), "{line}\n{ours}");
        }
        assert!(!ours.contains("deliveries_per_day_max"), "any number is the default: {ours}");
        for left in ["PUSH_FCM_ENABLED", "PUSH_FANOUT_SHARD_SIZE", "PUSH_STORAGE_DRIVER"] {
            assert!(ours.contains(left), "{left}\n{ours}");
        }
        assert!(check(ours).is_ok());
    }

    #[test]
    fn the_page_about_it_is_current() {
        const BEGIN: &str = "src/cli/migrate.rs -->\n";
        const END: &str = "<!-- /settings -->";
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/migrating.md");
        let page = std::fs::read_to_string(path).unwrap();
        let (before, rest) = page.split_once(BEGIN).unwrap();
        let (made, after) = rest.split_once(END).unwrap();
        let now = markdown();
        if std::env::var_os("UPDATE_DOCS").is_some() {
            return std::fs::write(path, format!("{before}{BEGIN}{now}{END}{after}")).unwrap();
        }
        assert!(
            made == now,
            "docs/migrating.md is old: UPDATE_DOCS=1 cargo test the_page_about_it writes it anew"
        );
    }
}
