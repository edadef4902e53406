//! The table of routes as an OpenAPI document.
//!
//! Source: OpenAPI 3.1.0, <https://spec.openapis.org/oas/v3.1.0>.

use super::push::snake;
use super::shapes::{self, Body, Field, Kind};
use super::table::{Row, rows};
use crate::wire::json;

/// The parameters of a signature: name, what it is.
const SIGNATURE: &[(&str, &str)] = &[
    ("auth_key", "The app's key."),
    (
        "auth_timestamp",
        "Seconds since 1970, no further from the server's clock than `pusher.signature_window_s`.",
    ),
    ("auth_version", "`1.0`."),
    ("body_md5", "The MD5 of the body in lower-case hex, where there is a body."),
    (
        "auth_signature",
        "HMAC-SHA256 with the app's secret, in lower-case hex, over three lines: the method, the path, and all other parameters sorted by name as `name=value`, not escaped, joined by `&`.",
    ),
];

/// The document, one JSON object.
pub fn document() -> Vec<u8> {
    let mut text = Vec::new();
    let mut it = Json { out: &mut text, is_first: true };
    it.object(|it| {
        it.text("openapi", "3.1.0");
        it.member("info").object(|it| {
            it.text("title", "Ringmain: HTTP API");
            it.text("version", env!("CARGO_PKG_VERSION"));
            it.text("description", "Pusher's HTTP API and Sockudo's. Every request is signed.");
        });
        it.member("paths").object(|it| {
            let mut paths: Vec<&str> = Vec::new();
            for row in rows().filter(|row| !row.is_alias()) {
                if !paths.contains(&row.path) {
                    paths.push(row.path);
                }
            }
            for path in paths {
                it.member(path).object(|it| {
                    for row in rows().filter(|row| row.path == path) {
                        it.member(&row.method.as_str().to_ascii_lowercase())
                            .object(|it| operation(row, it));
                    }
                });
            }
        });
        it.member("components").object(|it| {
            it.member("schemas")
                .member_object("Error", |it| schema(&shapes::ERROR, "", Absent::Gone, it));
            it.member("securitySchemes").object(|it| {
                for &(name, help) in SIGNATURE {
                    it.member(name).object(|it| {
                        it.text("type", "apiKey");
                        it.text("in", "query");
                        it.text("name", name);
                        it.text("description", help);
                    });
                }
            });
        });
    });
    text
}

fn operation(row: &Row, it: &mut Json<'_>) {
    it.text("operationId", row.name);
    it.text("summary", row.summary);
    if !row.about.is_empty() {
        it.text("description", row.about);
    }
    it.member("security").list(|it| {
        it.item().object(|it| {
            let has_body = row.body.is_some();
            for (name, _) in SIGNATURE.iter().filter(|(name, _)| has_body || *name != "body_md5") {
                it.member(name).list(|_| {});
            }
        });
    });
    it.member("parameters").list(|it| {
        for field in row.path_fields() {
            it.item().object(|it| parameter(&field, "path", it));
        }
        for field in row.query {
            it.item().object(|it| parameter(field, "query", it));
        }
        for field in row.headers {
            it.item().object(|it| parameter(field, "header", it));
        }
    });
    if let Some(body) = row.body {
        it.member("requestBody").object(|it| {
            it.literal("required", "true");
            it.member("content").member_object("application/json", |it| {
                it.member("schema").object(|it| match body.is_list {
                    true => {
                        it.text("type", "array");
                        it.number("minItems", 1);
                        it.member("items").object(|it| body_schema(body, it));
                    }
                    false => body_schema(body, it),
                });
                it.literal("example", body.example);
            });
        });
    }
    it.member("responses").object(|it| {
        for status in row.statuses() {
            it.member(&status.to_string()).object(|it| response(row, status, it));
        }
    });
}

fn response(row: &Row, status: u16, it: &mut Json<'_>) {
    if row.good.contains(&status) {
        it.text("description", "Done.");
        if status == 204 {
            return;
        }
        it.member("content").member_object("application/json", |it| {
            it.member("schema").object(|it| schema(row.answer, "", Absent::Gone, it));
        });
        return;
    }
    let of_status = row.all_failures().filter(|it| it.status == status);
    let texts: Vec<_> = of_status.map(|it| format!("`{}`: {}.", it.code, it.when)).collect();
    it.text("description", &texts.join(" "));
    if matches!(status, 429 | 503) {
        it.member("headers").member_object("Retry-After", |it| {
            it.text("description", "Seconds.");
            it.member("schema").object(|it| schema(&Kind::Whole(1), "", Absent::Gone, it));
        });
    }
    it.member("content").member_object("application/json", |it| {
        it.member("schema").object(|it| it.text("$ref", "#/components/schemas/Error"));
    });
}

fn parameter(field: &Field, place: &str, it: &mut Json<'_>) {
    it.text("name", field.name);
    it.text("in", place);
    if field.is_required {
        it.literal("required", "true");
    }
    if !field.help.is_empty() {
        it.text("description", field.help);
    }
    it.member("schema").object(|it| schema(&field.kind, "", Absent::Gone, it));
}

fn body_schema(body: &Body, it: &mut Json<'_>) {
    object_schema(body.fields, Absent::OrNull, it);
    if !body.any_of.is_empty() {
        it.member("anyOf").list(|it| {
            for name in body.any_of {
                it.item().object(|it| it.member("required").list(|it| it.item().string(name)));
            }
        });
    }
}

/// How a member that may be absent is.
#[derive(Clone, Copy, PartialEq)]
enum Absent {
    /// Absent: in what we say.
    Gone,
    /// Absent, or null: in what we are told.
    OrNull,
}

fn object_schema(fields: &[Field], absent: Absent, it: &mut Json<'_>) {
    it.text("type", "object");
    if fields.iter().any(|field| field.is_required) {
        it.member("required").list(|it| {
            let required = fields.iter().filter(|field| field.is_required);
            required.for_each(|field| it.item().string(field.name));
        });
    }
    it.member("properties").object(|it| {
        for field in fields {
            let is_nullable = !field.is_required && absent == Absent::OrNull;
            it.member(field.name).object(|it| {
                if !is_nullable || matches!(field.kind, Kind::Any) {
                    return schema(&field.kind, field.help, absent, it);
                }
                it.member("anyOf").list(|it| {
                    it.item().object(|it| schema(&field.kind, "", absent, it));
                    it.item().object(|it| it.text("type", "null"));
                });
                if !field.help.is_empty() {
                    it.text("description", field.help);
                }
            });
        }
    });
}

/// An object whose members are there in both spellings.
fn twice_schema(fields: &[Field], absent: Absent, it: &mut Json<'_>) {
    let spellings = |field: &Field| match snake(field.name) {
        other if other == field.name => vec![other],
        other => vec![field.name.into(), other],
    };
    it.text("type", "object");
    it.member("required").list(|it| {
        let required = fields.iter().filter(|field| field.is_required).flat_map(spellings);
        required.for_each(|name| it.item().string(&name));
    });
    it.member("properties").object(|it| {
        for field in fields {
            for name in spellings(field) {
                it.member(&name).object(|it| schema(&field.kind, field.help, absent, it));
            }
        }
    });
}

/// Writes the members of a schema.
fn schema(kind: &Kind, help: &str, absent: Absent, it: &mut Json<'_>) {
    match *kind {
        Kind::Text(min, max) => {
            it.text("type", "string");
            if min > 0 {
                it.number("minLength", min as u64);
            }
            if max < usize::MAX {
                it.number("maxLength", max as u64);
            }
        }
        Kind::Pattern(pattern) => {
            it.text("type", "string");
            it.text("pattern", pattern);
        }
        Kind::Choice(words) => {
            it.text("type", "string");
            it.member("enum").list(|it| words.iter().for_each(|word| it.item().string(word)));
        }
        Kind::Whole(min) => {
            it.text("type", "integer");
            it.number("minimum", min);
            it.number("maximum", u64::MAX);
        }
        Kind::Number => it.text("type", "number"),
        Kind::Switch => it.text("type", "boolean"),
        Kind::Scalar => it.member("type").list(|it| {
            ["string", "number", "boolean"].iter().for_each(|word| it.item().string(word));
        }),
        Kind::Any => {}
        Kind::Open => it.text("type", "object"),
        Kind::Object(fields) => object_schema(fields, absent, it),
        Kind::Twice(fields) => twice_schema(fields, absent, it),
        Kind::List(min, of) => {
            it.text("type", "array");
            if min > 0 {
                it.number("minItems", min as u64);
            }
            it.member("items").object(|it| schema(of, "", absent, it));
        }
        Kind::Map(of) => {
            it.text("type", "object");
            it.member("additionalProperties").object(|it| schema(of, "", absent, it));
        }
        Kind::Nullable(of) => it.member("anyOf").list(|it| {
            it.item().object(|it| schema(of, "", absent, it));
            it.item().object(|it| it.text("type", "null"));
        }),
    }
    if !help.is_empty() {
        it.text("description", help);
    }
}

/// Writes JSON, with commas where they belong.
struct Json<'o> {
    out: &'o mut Vec<u8>,
    /// Nothing was written in this object or list yet.
    is_first: bool,
}

impl Json<'_> {
    fn object(&mut self, inside: impl FnOnce(&mut Json<'_>)) {
        self.nested(b'{', b'}', inside);
    }

    fn list(&mut self, inside: impl FnOnce(&mut Json<'_>)) {
        self.nested(b'[', b']', inside);
    }

    fn nested(&mut self, open: u8, close: u8, inside: impl FnOnce(&mut Json<'_>)) {
        self.out.push(open);
        inside(&mut Json { out: self.out, is_first: true });
        self.out.push(close);
    }

    /// The next item of a list: its value is written next.
    fn item(&mut self) -> &mut Self {
        if !std::mem::take(&mut self.is_first) {
            self.out.push(b',');
        }
        self
    }

    /// The next member of an object: its value is written next.
    fn member(&mut self, name: &str) -> &mut Self {
        self.item().string(name);
        self.out.push(b':');
        self
    }

    /// An object with one member that is an object.
    fn member_object(&mut self, name: &str, inside: impl FnOnce(&mut Json<'_>)) {
        self.object(|it| it.member(name).object(inside));
    }

    fn string(&mut self, text: &str) {
        json::write_str(self.out, text);
    }

    fn text(&mut self, name: &str, text: &str) {
        self.member(name).string(text);
    }

    fn number(&mut self, name: &str, number: u64) {
        self.literal(name, &number.to_string());
    }

    /// A member that is finished JSON.
    fn literal(&mut self, name: &str, json: &str) {
        self.member(name).out.extend_from_slice(json.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::table::{ALWAYS, Method, OF_BODIES};
    use super::*;

    #[test]
    fn the_document_has_every_route_once() {
        let document: serde_json::Value = serde_json::from_slice(&document()).unwrap();
        let paths = document["paths"].as_object().unwrap();
        let operations: Vec<_> = paths
            .iter()
            .flat_map(|(path, methods)| {
                methods.as_object().unwrap().iter().map(move |(method, it)| {
                    (method.to_ascii_uppercase(), path.clone(), it["operationId"].clone())
                })
            })
            .collect();
        let described: Vec<_> = rows().filter(|row| !row.is_alias()).collect();
        assert_eq!(operations.len(), described.len());
        for row in described {
            let wanted = (row.method.as_str().into(), row.path.into(), row.name.into());
            assert!(operations.contains(&wanted), "{wanted:?}");
            let it = &paths[row.path][row.method.as_str().to_ascii_lowercase()];
            let told: BTreeSet<_> =
                it["responses"].as_object().unwrap().keys().map(|it| it.parse().unwrap()).collect();
            assert_eq!(told, row.statuses().into_iter().collect(), "{}", row.name);
        }
        let names: BTreeSet<_> = rows().map(|row| row.name).collect();
        assert_eq!(names.len(), rows().count(), "names are unique");
    }

    #[test]
    fn examples_are_json_with_members_that_are_described() {
        for row in rows() {
            let Some(body) = row.body else { continue };
            assert_eq!(row.method, Method::Post, "{}", row.name);
            let example: serde_json::Value = serde_json::from_str(body.example).unwrap();
            let example = if body.is_list { &example[0] } else { &example };
            let members = example.as_object().unwrap();
            for field in body.fields.iter().filter(|it| it.is_required) {
                assert!(members.contains_key(field.name), "{}: {}", row.name, field.name);
            }
        }
        assert!(ALWAYS.iter().chain(OF_BODIES).all(|it| it.status >= 400));
    }
}
