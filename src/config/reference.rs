//! The reference of the settings, generated from their table.

use std::fmt::Write;

use super::load::variable;
use super::section::{RowText, Section};
use super::table::{APP_SETTINGS, SETTINGS, Setting};
use super::value::Applies;

/// What `ringmain settings --markdown` prints and `docs/settings.md` holds.
pub fn markdown(sections: &[&dyn Section]) -> String {
    let mut out = String::from(MARKDOWN_HEAD);
    markdown_table(&mut out, SETTINGS, |key| (key.to_owned(), variable(key)));
    out.push_str(MARKDOWN_APPS);
    markdown_table(&mut out, APP_SETTINGS, |key| (key.to_owned(), variable(&format!("app.{key}"))));
    for section in sections {
        let name = section.name();
        let _ = write!(out, "\n## {name}\n\n{}\n\n", section.about());
        out.push_str(MARKDOWN_COLUMNS);
        for row in section.texts() {
            row_line(&mut out, row.key, Some(&variable(row.key)), &row, "at start");
        }
        for (table, about, rows) in section.tables() {
            let _ = write!(out, "\n### `[[{name}.{table}]]`\n\n{about}\n\n");
            out.push_str("| setting | default | allowed | takes effect | what it does |\n");
            out.push_str("| --- | --- | --- | --- | --- |\n");
            for row in rows {
                row_line(&mut out, row.key, None, &row, "at start");
            }
        }
    }
    out.push_str(MARKDOWN_EXAMPLE);
    out
}

const MARKDOWN_COLUMNS: &str = "\
| setting | variable | default | allowed | takes effect | what it does |
| --- | --- | --- | --- | --- | --- |
";

fn row_line(out: &mut String, key: &str, variable: Option<&str>, row: &RowText, applies: &str) {
    let variable = variable.map_or(String::new(), |variable| format!(" `{variable}` |"));
    let help = row.help.replace('|', "\\|").replace('*', "\\*");
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "| `{key}` |{variable} {} | {} | {applies} | {help} |",
        row.default, row.allowed,
    );
}

const MARKDOWN_HEAD: &str = "\
# Settings

Written by `ringmain settings --markdown` from the table in `src/config/table.rs`; change it there.

A setting is given, each of these over the one before it:

1. in `ringmain.toml` (`--config FILE` or `RINGMAIN_CONFIG` name another file): `limits.spin_us = 30`, or
   `spin_us = 30` under `[limits]`;
2. as an environment variable: `RINGMAIN_LIMITS_SPIN_US=30`;
3. as a flag: `--set limits.spin_us=30`. A setting without a dot in its name is a flag of its own:
   `--shards 2`; `--listen` may be repeated.

Sizes are in bytes and take `KiB`, `MiB`, `GiB`; times are in the unit at the end of the name (`_s` seconds, `_us`
microseconds) and take `us`, `ms`, `s`, `min`, `h`, `d`: `\"64KiB\"`, `\"500ms\"`. In the file, `${VARIABLE}` and
`${VARIABLE:-default}` inside a quoted text are replaced by the environment; `$$` is a dollar sign. A list in a variable
or flag is written with commas.

An unknown name or a value that is not allowed stops the start with exit code 2, all of them named at once.
`ringmain check` says what would run.

## The process

";

const MARKDOWN_APPS: &str = "
## Apps

One `[[apps]]` table for each app; ids and keys are unique. The variables (or `--set app.name=value`) give one more
app, before those of the file. Without any app the development app is in force: `app-id` / `app-key` / `app-secret`,
with client events, sign-in, watchlist and subscription counts. It serves loopback addresses only. A secret is given
in one of three ways and is never printed.

";

const MARKDOWN_EXAMPLE: &str = "
## Example

```toml
listen = [\"0.0.0.0:6001\", \"[::]:6001\"]

[limits]
outbox_bytes_high_water = \"1MiB\"

[[apps]]
id = \"shop\"
key = \"shop-key\"
secret = \"${SHOP_SECRET}\"
client_events = true
allowed_origins = [\"https://shop.example.com\"]
```
";

fn markdown_table<T>(
    out: &mut String,
    settings: &[Setting<T>],
    names: impl Fn(&str) -> (String, String),
) {
    out.push_str(MARKDOWN_COLUMNS);
    for setting in settings {
        let (key, variable) = names(setting.key);
        let row = RowText {
            key: setting.key,
            default: setting.kind.default_text(),
            allowed: setting.kind.range_text(),
            help: setting.help,
        };
        row_line(out, &key, Some(&variable), &row, applies_text(setting.applies));
    }
}

/// What `ringmain settings` prints: aligned columns, the help below each row.
pub fn text(sections: &[&dyn Section]) -> String {
    let mut rows = Vec::new();
    collect(&mut rows, SETTINGS, "");
    collect(&mut rows, APP_SETTINGS, "app.");
    for section in sections {
        let tables = section.tables();
        let tables = tables.into_iter().flat_map(|(table, _, rows)| {
            let prefix = format!("[[{}.{table}]] ", section.name());
            rows.into_iter().map(move |row| (prefix.clone(), row))
        });
        let own = section.texts().into_iter().map(|row| (String::new(), row));
        rows.extend(own.chain(tables).map(|(prefix, row)| {
            ([format!("{prefix}{}", row.key), row.default, row.allowed], row.help)
        }));
    }
    let width = |column: fn(&[String; 3]) -> &String| {
        rows.iter().map(|(cells, _)| column(cells).len()).max().unwrap_or(0)
    };
    let (key, default) = (width(|cells| &cells[0]), width(|cells| &cells[1]));
    let mut out = String::new();
    let _ = writeln!(out, "{:key$}  {:default$}  ALLOWED", "SETTING", "DEFAULT");
    for ([name, value, allowed], help) in &rows {
        let _ = writeln!(out, "{name:key$}  {value:default$}  {allowed}\n    {help}");
    }
    out.push_str(
        "\nGive a setting in ringmain.toml, as RINGMAIN_SETTING (dots become underscores) or with\n\
         --set setting=value; the later wins. app.* is the first app; more are [[apps]] tables of the file.\n",
    );
    out
}

fn collect<T>(rows: &mut Vec<([String; 3], &'static str)>, settings: &[Setting<T>], prefix: &str) {
    for setting in settings {
        let cells = [
            format!("{prefix}{}", setting.key),
            setting.kind.default_text(),
            setting.kind.range_text(),
        ];
        rows.push((cells, setting.help));
    }
}

fn applies_text(applies: Applies) -> &'static str {
    match applies {
        Applies::AtStart => "at start",
        Applies::WhileRunning => "while running",
    }
}

#[cfg(test)]
mod tests {
    use super::super::value::{Kind, Unit};
    use super::*;
    use crate::dialects;

    /// What a key with this unit holds; names and units cannot drift apart.
    fn mark<T>(kind: &Kind<T>) -> &'static str {
        match kind {
            Kind::Number { unit: Unit::Seconds, .. } => "_s",
            Kind::Number { unit: Unit::Micros, .. } => "_us",
            Kind::Number { unit: Unit::Bytes | Unit::BytesPowerOfTwo, .. } => "bytes",
            _ => "",
        }
    }

    #[test]
    fn the_written_reference_is_fresh() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/settings.md");
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            written == markdown(dialects::SECTIONS),
            "docs/settings.md is stale: cargo run -- settings --markdown > docs/settings.md"
        );
    }

    #[test]
    fn rows_are_unique_and_say_their_unit() {
        fn check<T>(settings: &[Setting<T>], seen: &mut Vec<String>, prefix: &str) {
            for setting in settings {
                let variable = variable(&format!("{prefix}{}", setting.key));
                assert!(!seen.contains(&variable), "{variable} twice");
                seen.push(variable);
                assert!(setting.help.ends_with('.'), "{}", setting.key);
                assert!(setting.key.contains(mark(&setting.kind)), "{}", setting.key);
            }
        }
        let mut seen = Vec::new();
        check(SETTINGS, &mut seen, "");
        check(APP_SETTINGS, &mut seen, "app.");
    }

    #[test]
    fn every_setting_is_in_both_references() {
        let (text, markdown) = (text(dialects::SECTIONS), markdown(dialects::SECTIONS));
        for setting in SETTINGS {
            assert!(text.contains(setting.key) && markdown.contains(setting.key));
        }
        for row in dialects::SECTIONS.iter().flat_map(|it| it.texts()) {
            assert!(text.contains(row.key) && markdown.contains(&variable(row.key)));
            assert!(row.help.ends_with('.'), "{}", row.key);
        }
        for setting in APP_SETTINGS {
            assert!(text.contains(&format!("app.{}", setting.key)));
            assert!(markdown.contains(&format!("| `{}` |", setting.key)));
        }
    }
}
