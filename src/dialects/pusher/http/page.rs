//! The table of routes as a page for people: `docs/http-api.md`.

use std::fmt::Write;

use super::shapes::{Field, Kind};
use super::table::{ALWAYS, Failure, OF_BODIES, Row, rows};

const HEAD: &str = "\
# HTTP API

Made from the table of routes in `src/dialects/pusher/http/table.rs` by `ringmain routes --markdown`; a running server
has the same as an OpenAPI document at `/openapi.json`. The libraries of Pusher and Sockudo for servers do all of this for
you.

Every request is signed with an app's key and secret, by parameters of the query:

| parameter | |
| --- | --- |
| `auth_key` | the app's key |
| `auth_timestamp` | seconds since 1970; within `pusher.signature_window_s` of the server's clock |
| `auth_version` | `1.0` |
| `body_md5` | MD5 of the body in hex, where there is a body |
| `auth_signature` | HMAC-SHA256 in hex, keyed with the secret, over the method, the path and all other parameters (sorted by name, `name=value` without escapes, joined by `&`), a line each |

Bodies and answers are JSON objects. Members that are not named here are ignored, and a member that is `null` is not there.
What fails is answered with `{\"error\":\"...\",\"code\":\"...\",\"status\":...}`: a sentence for people, a word for programs.
`HEAD` goes wherever `GET` does; `OPTIONS` says what a path takes.
";

/// The page.
pub fn markdown() -> String {
    let mut page = String::from(HEAD);
    page.push_str("\n| | |\n| --- | --- |\n");
    for row in rows() {
        let _ = writeln!(page, "| `{} {}` | {} |", row.method.as_str(), row.path, row.summary);
    }
    page.push_str("\n## What every route may answer\n");
    failures(ALWAYS.iter(), &mut page);
    page.push_str("\nAnd where there is a body:\n");
    failures(OF_BODIES.iter(), &mut page);
    page.push_str(
        "\nAnother method than a path takes is 405 with `Allow`; a path that is none is 404, both as above.\n",
    );
    for row in rows() {
        section(row, &mut page);
    }
    page
}

fn section(row: &Row, page: &mut String) {
    let _ = writeln!(page, "\n## {}\n\n`{} {}`", row.summary, row.method.as_str(), row.path);
    if !row.about.is_empty() {
        let _ = writeln!(page, "\n{}", row.about);
    }
    let mut told: Vec<_> = row.path_fields().into_iter().map(|it| ("path", it)).collect();
    told.extend(row.query.iter().map(|it| ("query", *it)));
    told.extend(row.headers.iter().map(|it| ("head", *it)));
    told.extend(row.body.iter().flat_map(|body| body.fields).map(|it| ("body", *it)));
    page.push_str("\n| in | name | | |\n| --- | --- | --- | --- |\n");
    for (place, field) in &told {
        let need = if field.is_required { "" } else { "optional " };
        let kind = kind_text(&field.kind);
        let _ = writeln!(page, "| {place} | `{}` | {need}{kind} | {} |", field.name, field.help);
    }
    if let Some(body) = row.body {
        let _ = writeln!(page, "\n```json\n{}\n```", body.example);
    }
    let good: Vec<_> = row.good.iter().map(u16::to_string).collect();
    let good = if row.good == [200] { String::new() } else { format!(" ({})", good.join(" or ")) };
    match row.good {
        [204] => page.push_str("\nAnswer: 204 without a body\n"),
        _ => {
            let _ = writeln!(page, "\nAnswer{good}: {}", answer_text(row.answer));
        }
    }
    if !row.failures.is_empty() {
        failures(row.failures.iter(), page);
    }
}

fn failures<'f>(failures: impl Iterator<Item = &'f Failure>, page: &mut String) {
    page.push_str("\n| status | code | when |\n| --- | --- | --- |\n");
    for it in failures {
        let _ = writeln!(page, "| {} | `{}` | {} |", it.status, it.code, it.when);
    }
}

/// A kind in a few words.
fn kind_text(kind: &Kind) -> String {
    match *kind {
        Kind::Text(0, usize::MAX) | Kind::Pattern(_) => "string".into(),
        Kind::Text(min, usize::MAX) => format!("string of at least {min} bytes"),
        Kind::Text(min, max) => format!("string of {min} to {max} bytes"),
        Kind::Choice(words) => {
            let words: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
            words.join(", ")
        }
        Kind::Whole(min) => format!("whole number from {min}"),
        Kind::Number => "number".into(),
        Kind::Switch => "`true` or `false`".into(),
        Kind::Scalar => "string, number or boolean".into(),
        Kind::Any => "any JSON value".into(),
        Kind::Open => "object".into(),
        Kind::Object(fields) | Kind::Twice(fields) => format!("object of {}", names(fields)),
        Kind::List(_, Kind::Object(_) | Kind::Twice(_)) => "list of objects".into(),
        Kind::List(_, of) => format!("list of: {}", kind_text(of)),
        Kind::Map(of) => format!("object, each member: {}", kind_text(of)),
        Kind::Nullable(of) => format!("{} or `null`", kind_text(of)),
    }
}

fn names(fields: &[Field]) -> String {
    let names: Vec<_> = fields.iter().map(|it| format!("`{}`", it.name)).collect();
    names.join(", ")
}

/// An answer's shape: members in order, `?` behind those that may be absent.
fn answer_text(kind: &Kind) -> String {
    format!("`{}`", outline(kind))
}

fn outline(kind: &Kind) -> String {
    match *kind {
        Kind::Text(..) | Kind::Pattern(_) => "string".into(),
        Kind::Choice(words) => words.join("/"),
        Kind::Whole(_) | Kind::Number => "number".into(),
        Kind::Switch => "bool".into(),
        Kind::Scalar => "scalar".into(),
        Kind::Any => "any".into(),
        Kind::Open => "object".into(),
        Kind::Object(fields) | Kind::Twice(fields) => {
            let member = |it: &Field| {
                let mark = if it.is_required { "" } else { "?" };
                format!("{}{mark}: {}", it.name, outline(&it.kind))
            };
            format!("{{{}}}", fields.iter().map(member).collect::<Vec<_>>().join(", "))
        }
        Kind::List(_, of) => format!("[{}]", outline(of)),
        Kind::Map(of) => format!("{{name: {}}}", outline(of)),
        Kind::Nullable(of) => format!("{} or null", outline(of)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_in_the_tree_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/http-api.md");
        let kept = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            kept == markdown(),
            "docs/http-api.md is stale: cargo run -- routes --markdown > docs/http-api.md"
        );
    }
}
