//! Configurations of other servers as a flat list: where each value stands, and what it is.

use serde_json::Value;

use super::table::VARIABLES;

/// One value of a configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Leaf {
    /// Where it stands, in snake case, `apps.0.key` for what is in lists.
    pub path: String,
    /// As it is spelled there.
    pub spelled: String,
    /// A value that is neither an object nor a list of objects.
    pub value: Value,
}

/// A configuration.
#[derive(Debug, Default)]
pub struct Theirs {
    /// Its values.
    pub leaves: Vec<Leaf>,
    /// It counts times in milliseconds, as Soketi does.
    pub in_milliseconds: bool,
    /// What could not be made sense of, and why.
    pub unknown: Vec<(String, String)>,
}

/// Reads a configuration: JSON, TOML or lines of `NAME=value`, whichever it is.
pub fn read(text: &str) -> Result<Theirs, String> {
    let json = serde_json::from_str::<Value>(text);
    let value = match json {
        Ok(value) if value.is_object() => value,
        Ok(_) => return Err("it is JSON, but not an object".into()),
        Err(_) if text.trim_start().starts_with('{') => {
            return Err(format!("it is no JSON: {}", json.expect_err("just seen")));
        }
        // Before TOML, which some such lines are, too.
        Err(_) if is_environment(text) => return Ok(environment(text)),
        Err(_) => match toml::from_str::<Value>(text) {
            Ok(table) => table,
            Err(error) => {
                return Err(format!(
                    "it is neither JSON nor NAME=value, and no TOML: {}",
                    error.message()
                ));
            }
        },
    };
    let mut theirs = Theirs::default();
    walk(&value, "", "", &mut theirs);
    // Nobody but Soketi writes names so.
    theirs.in_milliseconds = theirs.leaves.iter().any(|it| {
        it.spelled.starts_with("appManager") || it.spelled.contains("enableClientMessages")
    });
    Ok(theirs)
}

fn walk(value: &Value, path: &str, spelled: &str, theirs: &mut Theirs) {
    let join = |start: &str, name: &str| match start {
        "" => name.to_owned(),
        start => format!("{start}.{name}"),
    };
    match value {
        Value::Null => {}
        Value::Object(members) if !is_leaf_map(path) => {
            for (name, value) in members {
                walk(value, &join(path, &snake(name)), &join(spelled, name), theirs);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for (i, item) in items.iter().enumerate() {
                walk(item, &format!("{path}.{i}"), &format!("{spelled}.{i}"), theirs);
            }
        }
        value => theirs.leaves.push(Leaf {
            path: flat(path),
            spelled: spelled.to_owned(),
            value: value.clone(),
        }),
    }
}

/// Objects whose names are data, not settings.
fn is_leaf_map(path: &str) -> bool {
    path.ends_with("channel_delta_compression") || path.ends_with(".headers")
}

/// The same place, however an app's policy is nested.
fn flat(path: &str) -> String {
    let Some((before, rest)) = path.split_once(".policy.") else { return path.to_owned() };
    let rest = ["limits.", "features.", "channels."]
        .iter()
        .find_map(|it| rest.strip_prefix(it))
        .unwrap_or(rest);
    format!("{before}.{rest}")
}

fn snake(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    for (i, letter) in name.char_indices() {
        if letter.is_ascii_uppercase() {
            if i > 0 && !out.ends_with(['_', '.']) {
                out.push('_');
            }
            out.push(letter.to_ascii_lowercase());
        } else {
            out.push(letter);
        }
    }
    out
}

fn assignment(line: &str) -> Option<(&str, &str)> {
    let line = line.trim().strip_prefix("export ").unwrap_or(line.trim());
    let (name, value) = line.split_once('=')?;
    let name = name.trim();
    let is_name = !name.is_empty()
        && name.bytes().all(|it| it.is_ascii_uppercase() || it.is_ascii_digit() || it == b'_');
    is_name.then(|| (name, unquoted(value.trim())))
}

fn unquoted(value: &str) -> &str {
    for quote in ['"', '\''] {
        if let Some(inner) = value.strip_prefix(quote).and_then(|it| it.split_once(quote)) {
            return inner.0;
        }
    }
    value.split(" #").next().unwrap_or(value).trim()
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
}

fn is_environment(text: &str) -> bool {
    lines(text).all(|line| assignment(line).is_some())
}

fn environment(text: &str) -> Theirs {
    let mut theirs = Theirs::default();
    for (name, value) in lines(text).filter_map(assignment).filter(|(_, value)| !value.is_empty()) {
        let (is_soketi, plain) = match name.strip_prefix("SOKETI_") {
            Some(plain) => (true, plain),
            None => (false, name),
        };
        theirs.in_milliseconds |= is_soketi;
        match VARIABLES.iter().find(|(it, _)| *it == plain) {
            Some((_, path)) => theirs.leaves.push(Leaf {
                path: (*path).to_owned(),
                spelled: name.to_owned(),
                value: serde_json::from_str(value)
                    .ok()
                    .filter(|it: &Value| !it.is_null())
                    .unwrap_or_else(|| value.into()),
            }),
            None => theirs.unknown.push((name.to_owned(), "nothing here is like it".to_owned())),
        }
    }
    theirs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(text: &str) -> Vec<(String, Value)> {
        read(text).unwrap().leaves.into_iter().map(|it| (it.path, it.value)).collect()
    }

    #[test]
    fn every_spelling_stands_at_the_same_place() {
        let port = [("port".to_owned(), Value::from(6002))];
        for text in [
            r#"{"port":6002}"#,
            "port = 6002",
            "PORT=6002",
            "# ours\nexport SOKETI_PORT=\"6002\"\n",
        ] {
            assert_eq!(paths(text), port, "{text}");
        }
        let limit = [("app_manager.array.apps.0.max_connections".to_owned(), Value::from(5))];
        for text in [
            r#"{"appManager":{"array":{"apps":[{"maxConnections":5}]}}}"#,
            r#"{"appManager.array.apps":[{"maxConnections":5}]}"#,
            r#"{"app_manager":{"array":{"apps":[{"policy":{"limits":{"max_connections":5}}}]}}}"#,
            "[[app_manager.array.apps]]\nmax_connections = 5",
            "SOCKUDO_DEFAULT_APP_MAX_CONNECTIONS=5",
            "SOKETI_DEFAULT_APP_MAX_CONNS=5",
        ] {
            assert_eq!(paths(text), limit, "{text}");
        }
    }

    #[test]
    fn what_is_none_of_them_is_refused() {
        for text in ["[1]", "{\"a\":", "a = ", "listen"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
