//! A loaded configuration in words: what would run, and why.

use std::fmt::Write;

use super::App;
use super::Section;
use super::history::History;
use super::load::Loaded;
use super::push::PushSettings;
use super::table::{APP_SETTINGS, SETTINGS};
use super::value::{Kind, Unit};
use super::webhooks::Webhooks;

/// Every setting in force with where it was given, then the apps; secrets as `***`.
pub fn describe(loaded: &Loaded, sections: &[&dyn Section]) -> String {
    let config = &loaded.config;
    let rows = SETTINGS.iter().map(|setting| {
        let origin = match (loaded.origins.get(setting.key), &setting.kind) {
            (Some(origin), _) => origin.to_string(),
            (None, Kind::Number { default: 0, zero: Some(meaning), .. }) => {
                format!("default: {meaning}")
            }
            (None, _) => "default".to_owned(),
        };
        (setting.key, shown(setting.kind.value_text(config), &origin), origin)
    });
    let mut rows: Vec<_> = rows.collect();
    for (section, values) in sections.iter().zip(config.sections.iter()) {
        rows.extend(section.texts().into_iter().map(|it| {
            let origin = loaded.origins.get(it.key);
            let origin = origin.map_or("default".to_owned(), |origin| origin.to_string());
            (it.key, shown(section.value_text(values, it.key), &origin), origin)
        }));
    }
    let key = rows.iter().map(|(key, ..)| key.len()).max().unwrap_or(0);
    let value = rows.iter().map(|(_, value, _)| value.len()).max().unwrap_or(0);
    let mut out = String::new();
    for (name, text, origin) in &rows {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{name:key$}  {text:value$}  ({origin})");
    }
    for app in &config.apps {
        let _ = writeln!(out, "app {}: {}", app.id, describe_app(app));
    }
    for row in &History::of(config).channels {
        let whose = whose(&row.app);
        let bound = |unit: Unit, number: u64| match number {
            0 => "any number".to_owned(),
            number => unit.spell(number),
        };
        let age = match row.age.0 {
            0 => "for ever".to_owned(),
            age => Unit::Seconds.spell(age),
        };
        let (events, bytes) =
            (bound(Unit::Count, row.events_max), bound(Unit::Bytes, row.bytes_max));
        let _ = writeln!(
            out,
            "history of {} in {whose}: {}, age {age}, events {events}, bytes {bytes}",
            row.pattern, row.mode
        );
    }
    for row in &PushSettings::of(config).rules {
        let whose = whose(&row.app);
        let events = row.events.join(", ");
        let says = match row.template.as_str() {
            "" => String::new(),
            template => format!(", template {template}"),
        };
        let skips = if row.skip_connected { ", skip_connected" } else { "" };
        let _ = writeln!(
            out,
            "push rule for {} in {whose}: events {events}, at most {} in a second{says}{skips}",
            row.pattern, row.per_second_max
        );
    }
    for row in &Webhooks::of(config).receivers {
        let (whose, format) = (whose(&row.app), row.format.as_str());
        let types = if row.types.is_empty() { "all".to_owned() } else { row.types.join(", ") };
        // What is behind the host may be a secret: many receivers have one in their path.
        let host = row.url.split('/').take(3).collect::<Vec<_>>().join("/");
        let _ = writeln!(
            out,
            "webhook receiver {} of {whose}: {host}, format {format}, types {types}",
            row.name
        );
    }
    if config.development {
        out.push_str("No app is configured: the development app serves loopback addresses only.\n");
    }
    out
}

fn whose(app: &str) -> &str {
    if app.is_empty() { "every app" } else { app }
}

/// A secret that was not given is not hidden: there is none.
fn shown(value: String, origin: &str) -> String {
    if value == "***" && origin == "default" { "none".to_owned() } else { value }
}

/// Key, secret and whatever is not the default.
fn describe_app(app: &App) -> String {
    let defaults = App::from_defaults();
    let mut parts = vec![format!("key = {}", app.key), "secret = ***".to_owned()];
    for setting in APP_SETTINGS {
        let shown = matches!(setting.kind, Kind::Word { .. } | Kind::Secret { .. });
        let text = setting.kind.value_text(app);
        if !shown && text != setting.kind.value_text(&defaults) {
            parts.push(format!("{} = {text}", setting.key));
        }
    }
    parts.join(", ")
}
