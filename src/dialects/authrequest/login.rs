//! Tokens for a password: `POST /auth/login` and `POST /auth/refresh`.
//!
//! Who may log in and what is given out is known to the back shard; here the body is read, in any of the three
//! forms the vendor takes, and the answer is written. Source: our reference, section 4.

use std::sync::Arc;

use bytes::Bytes;

use super::Shared;
use super::events::timestamp;
use crate::auth::source::Issued;
use crate::auth::{Finding, Inquiry, What};
use crate::base::ids::Ticket;
use crate::base::time::Now;
use crate::dialects::api::{draining, method_not_allowed, preflight, respond};
use crate::dialects::{Facts, Input, Opening, Output, Request, Response, Session};
use crate::wire::http::query;
use crate::wire::json::{self, Kind, Raw};

/// Names, passwords and tokens are short.
const BODY_BYTES_MAX: usize = 16 * 1024;
const ALLOW: &str = "POST, OPTIONS";
/// When to come back after too many failed logins, which are counted by the minute.
const RETRY_LIMITED: &str = "60";

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Login,
    Refresh,
}

/// Looks at a request of these paths.
pub(super) fn open(shared: &Arc<Shared>, request: &Request<'_>, facts: &Facts) -> Option<Opening> {
    let path = request.path.strip_suffix('/').unwrap_or(request.path);
    let route = match path {
        "/auth/login" => Route::Login,
        "/auth/refresh" => Route::Refresh,
        _ => return None,
    };
    Some(Opening::Respond(match request.method {
        "OPTIONS" => preflight(ALLOW),
        "POST" if facts.draining => draining(),
        "POST" => {
            let content_type = request.header("content-type").unwrap_or_default().to_owned();
            let session = Box::new(Exchange { shared: shared.clone(), route, content_type });
            return Some(Opening::Exchange { session, body_bytes_max: BODY_BYTES_MAX });
        }
        method => method_not_allowed(method, ALLOW),
    }))
}

/// One request.
struct Exchange {
    shared: Arc<Shared>,
    route: Route,
    content_type: String,
}

impl Exchange {
    fn inquiry(&self, body: &[u8]) -> Result<Inquiry, Refused> {
        let fields = Fields::read(&self.content_type, body)?;
        let needed = |field: Option<String>, name: &'static str| {
            field.filter(|it| !it.is_empty()).ok_or(Refused::Missing(name))
        };
        let what = match self.route {
            Route::Login => What::Login {
                username: needed(fields.username, "username")?.into(),
                password: needed(fields.password, "password")?.into(),
                account: fields.account_id.filter(|it| !it.is_empty()).map(Into::into),
                verify_only: fields.auth_only.is_some_and(|it| it == "1" || it == "true"),
            },
            Route::Refresh => What::Refresh(needed(fields.refresh_token, "refresh_token")?.into()),
        };
        Ok(Inquiry { source: self.shared.source.clone(), what })
    }

    fn answer(&self, finding: Finding) -> Response {
        match (finding, self.route) {
            (Finding::Issued(issued), _) => answer(200, issued_json(&issued)),
            (Finding::Known(identity), _) => {
                let mut body = b"{\"success\":true,\"guid\":".to_vec();
                json::write_str(&mut body, &identity.user);
                body.push(b'}');
                answer(200, body)
            }
            (Finding::Unknown, Route::Login) => {
                refuse(401, "invalid_credentials", "wrong user name, password or account")
            }
            (Finding::Unknown, Route::Refresh) => {
                refuse(401, "invalid_token", "the refresh token is not valid")
            }
            (Finding::Expired, _) => refuse(401, "expired_token", "the refresh token has expired"),
            (Finding::Limited, _) => {
                let mut response =
                    refuse(429, "rate_limited", "too many failed logins: come back later");
                response.headers.push(("Retry-After", RETRY_LIMITED.into()));
                response
            }
            (
                Finding::Unavailable
                | Finding::Done
                | Finding::Following(_)
                | Finding::Told(_)
                | Finding::Push(_),
                _,
            ) => {
                let mut response = refuse(503, "internal_error", "nobody could tell: try again");
                response.headers.push(("Retry-After", "1".into()));
                response
            }
        }
    }
}

impl Session for Exchange {
    fn handle(&mut self, input: Input<'_>, _: Now, out: &mut Vec<Output>) {
        match input {
            Input::Body(body) => out.push(match self.inquiry(body) {
                Ok(inquiry) => Output::Inquire(Ticket(0), inquiry),
                Err(refused) => Output::Respond(refused.response()),
            }),
            Input::Found(_, finding) => out.push(Output::Respond(self.answer(finding))),
            _ => {}
        }
    }
}

/// Why a body asks nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    /// Neither a form nor JSON.
    ContentType,
    /// Not what its content type says.
    Malformed,
    /// A field that must be there.
    Missing(&'static str),
    /// A field that is not text.
    NotText,
}

impl Refused {
    fn response(self) -> Response {
        match self {
            Self::ContentType => refuse(
                415,
                "invalid_request",
                "send application/x-www-form-urlencoded, multipart/form-data or application/json",
            ),
            Self::Malformed => {
                refuse(400, "invalid_request", "the body is not what its content type says")
            }
            Self::Missing(field) => refuse(400, "invalid_request", &format!("{field} is missing")),
            Self::NotText => refuse(422, "invalid_request", "a field is not a string"),
        }
    }
}

fn refuse(status: u16, word: &str, message: &str) -> Response {
    let mut body = format!("{{\"success\":false,\"error\":\"{word}\",\"message\":").into_bytes();
    json::write_str(&mut body, message);
    body.push(b'}');
    answer(status, body)
}

/// An answer that no cache may keep.
fn answer(status: u16, body: Vec<u8>) -> Response {
    let mut response = respond(status, Bytes::from(body));
    response.headers.push(("Cache-Control", "no-store".into()));
    response
}

fn issued_json(issued: &Issued) -> Vec<u8> {
    let mut out = b"{\"success\":true,\"guid\":".to_vec();
    json::write_str(&mut out, &issued.identity.user);
    out.extend_from_slice(
        format!(
            ",\"token\":\"{}\",\"tokenExpiration\":\"{}\",\"tokenLifetime\":{},\
             \"refreshToken\":\"{}\",\"refreshTokenExpiration\":\"{}\"}}",
            issued.token,
            timestamp(issued.token_expires),
            issued.token_lifetime.0 / 1000,
            issued.refresh_token,
            timestamp(issued.refresh_expires),
        )
        .as_bytes(),
    );
    out
}

/// What a body says.
#[derive(Default)]
struct Fields {
    username: Option<String>,
    password: Option<String>,
    account_id: Option<String>,
    auth_only: Option<String>,
    refresh_token: Option<String>,
}

impl Fields {
    /// Reads a body; one without a content type is a form, unless it starts as JSON does.
    fn read(content_type: &str, body: &[u8]) -> Result<Self, Refused> {
        let body = std::str::from_utf8(body).map_err(|_| Refused::Malformed)?;
        let (kind, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
        let mut fields = Self::default();
        match kind.trim().to_ascii_lowercase().as_str() {
            "application/json" => fields.read_json(body)?,
            "" if body.trim_start().starts_with('{') => fields.read_json(body)?,
            "" | "application/x-www-form-urlencoded" => {
                query::pairs(body).for_each(|(name, value)| fields.put(&name, value.into_owned()));
            }
            "multipart/form-data" => {
                let boundary = parameter(parameters, "boundary").ok_or(Refused::Malformed)?;
                fields.read_parts(body, boundary).ok_or(Refused::Malformed)?;
            }
            _ => return Err(Refused::ContentType),
        }
        Ok(fields)
    }

    fn put(&mut self, name: &str, value: String) {
        let field = match name {
            "username" => &mut self.username,
            "password" => &mut self.password,
            "account_id" => &mut self.account_id,
            "auth_only" => &mut self.auth_only,
            "refresh_token" => &mut self.refresh_token,
            _ => return,
        };
        *field = Some(value);
    }

    fn read_json(&mut self, body: &str) -> Result<(), Refused> {
        let object = json::parse_str(body).map_err(|_| Refused::Malformed)?;
        if object.kind() != Kind::Object {
            return Err(Refused::Malformed);
        }
        for (name, value) in object.members().filter(|(_, value)| !value.is_null()) {
            // A flag is a number or a boolean in some clients, an id a number.
            let is_loose = matches!(&*name, "auth_only" | "account_id");
            let text = match value.kind() {
                Kind::String => value.as_str().map(|it| it.into_owned()),
                Kind::Number | Kind::Bool if is_loose => Some(Raw::text(value).to_owned()),
                _ => None,
            };
            match (&*name, text) {
                (_, Some(text)) => self.put(&name, text),
                ("username" | "password" | "account_id" | "auth_only" | "refresh_token", None) => {
                    return Err(Refused::NotText);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Reads the parts of a multipart form that are text fields. Source: RFC 7578, section 4.
    fn read_parts(&mut self, body: &str, boundary: &str) -> Option<()> {
        let delimiter = format!("--{boundary}");
        // What stands before the first delimiter means nothing.
        let mut parts = body.split(&*delimiter).skip(1);
        loop {
            let part = parts.next()?;
            if part.starts_with("--") {
                return Some(());
            }
            let (head, value) = part.strip_prefix("\r\n")?.split_once("\r\n\r\n")?;
            let value = value.strip_suffix("\r\n")?;
            let disposition = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.trim().eq_ignore_ascii_case("content-disposition").then_some(value)
            })?;
            self.put(parameter(disposition, "name")?, value.to_owned());
        }
    }
}

/// A parameter of a header field's value, quotes taken off.
fn parameter<'a>(parameters: &'a str, name: &str) -> Option<&'a str> {
    parameters.split(';').find_map(|it| {
        let (key, value) = it.split_once('=')?;
        let value = value.trim();
        let unquoted = value.strip_prefix('"').and_then(|it| it.strip_suffix('"'));
        let value = unquoted.unwrap_or(value);
        (key.trim().eq_ignore_ascii_case(name) && !value.is_empty()).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Identity;
    use crate::base::time::{Millis, UnixMillis};

    const FORM: &str = "application/x-www-form-urlencoded";
    const MULTIPART: &str = "multipart/form-data; boundary=XX";

    /// The fields in one line, or why there are none.
    fn read(content_type: &str, body: &str) -> Result<String, Refused> {
        let it = Fields::read(content_type, body.as_bytes())?;
        let all = [it.username, it.password, it.account_id, it.auth_only, it.refresh_token];
        Ok(all.map(|it| it.unwrap_or("-".into())).join(" "))
    }

    #[test]
    fn bodies_are_read_in_three_forms() {
        let part = |name: &str, value: &str| {
            format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        let multipart = format!(
            "{}{}--XX--\r\n",
            part("username", "ann"),
            part("password", "p\r\nq").replace("\r\n\r\n", "\r\nContent-Type: text/plain\r\n\r\n"),
        );
        let cut = multipart.replace("--XX--", "");
        let unnamed = multipart.replace("name=", "filename=");
        for (content_type, body, expected) in [
            (FORM, "username=ann&password=a%26+b&account_id=7&auth_only=1", Ok("ann a& b 7 1 -")),
            (FORM, "refresh_token=r&x=y", Ok("- - - - r")),
            (FORM, "", Ok("- - - - -")),
            (FORM, "%zz=%", Ok("- - - - -")),
            ("", "username=ann", Ok("ann - - - -")),
            ("", " {\"username\":\"ann\"}", Ok("ann - - - -")),
            (
                "Application/JSON; charset=utf-8",
                r#"{"username":"\u0061nn","password":"p","account_id":7,"auth_only":true,"x":{}}"#,
                Ok("ann p 7 true -"),
            ),
            ("application/json", r#"{"username":null}"#, Ok("- - - - -")),
            ("application/json", r#"{"username":5}"#, Err(Refused::NotText)),
            ("application/json", r#"{"auth_only":[]}"#, Err(Refused::NotText)),
            ("application/json", "[]", Err(Refused::Malformed)),
            ("application/json", "username=ann", Err(Refused::Malformed)),
            ("application/json", "", Err(Refused::Malformed)),
            (MULTIPART, &multipart, Ok("ann p\r\nq - - -")),
            ("multipart/form-data; boundary=\"XX\"", &multipart, Ok("ann p\r\nq - - -")),
            (MULTIPART, &cut, Err(Refused::Malformed)),
            (MULTIPART, &unnamed, Err(Refused::Malformed)),
            (MULTIPART, "--XX--", Ok("- - - - -")),
            (MULTIPART, "", Err(Refused::Malformed)),
            (MULTIPART, "--XX", Err(Refused::Malformed)),
            (MULTIPART, "--XX\r\n\r\n--XX--", Err(Refused::Malformed)),
            ("multipart/form-data", &multipart, Err(Refused::Malformed)),
            ("multipart/form-data; boundary=", &multipart, Err(Refused::Malformed)),
            ("text/plain", "username=ann", Err(Refused::ContentType)),
        ] {
            assert_eq!(
                read(content_type, body),
                expected.map(str::to_owned),
                "{content_type} {body}"
            );
        }
        assert!(matches!(Fields::read(FORM, b"\xff"), Err(Refused::Malformed)));
    }

    #[test]
    fn what_was_given_out_is_spelled_as_the_vendor_does() {
        let issued = Issued {
            identity: Arc::new(Identity::named("a\"")),
            token: "t".into(),
            token_expires: UnixMillis(1_700_000_000_999),
            token_lifetime: Millis(3_600_000),
            refresh_token: "r".into(),
            refresh_expires: UnixMillis(1_701_000_000_000),
        };
        assert_eq!(
            String::from_utf8_lossy(&issued_json(&issued)),
            r#"{"success":true,"guid":"a\"","token":"t","tokenExpiration":"2023-11-14T22:13:20+00:00","tokenLifetime":3600,"refreshToken":"r","refreshTokenExpiration":"2023-11-26T12:00:00+00:00"}"#
        );
    }
}
