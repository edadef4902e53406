//! A loaded configuration in words: what would run, and why.

use std::fmt::Write;

use super::App;
use super::load::Loaded;
use super::table::{APP_SETTINGS, SETTINGS};
use super::value::Kind;

/// Every setting in force with where it was given, then the apps; secrets as `***`.
pub fn describe(loaded: &Loaded) -> String {
    let config = &loaded.config;
    let rows = SETTINGS.iter().map(|setting| {
        let origin = match (loaded.origins.get(setting.key), &setting.kind) {
            (Some(origin), _) => origin.to_string(),
            (None, Kind::Number { default: 0, zero: Some(meaning), .. }) => {
                format!("default: {meaning}")
            }
            (None, _) => "default".to_owned(),
        };
        (setting.key, setting.kind.value_text(config), origin)
    });
    let rows: Vec<_> = rows.collect();
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
    if config.development {
        out.push_str("No app is configured: the development app serves loopback addresses only.\n");
    }
    out
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
