//! Texts of requests and answers that several providers have in common: JSON objects as they are written, forms, origins
//! of addresses, access tokens as they are given out.

use bytes::Bytes;

use super::{Answered, Delivered, Message, Request, Verdict};
use crate::base::time::{Millis, Now};
use crate::wire::json::{self, Kind, Raw};

/// Characters of an answer that are kept as the reason.
const SAID_CHARS_MAX: usize = 200;
/// Names of messages longer than this are none: push services give out addresses.
const MESSAGE_ID_BYTES_MAX: usize = 1024;
/// An access token without a time of its own is used so long.
const ACCESS_LASTS: Millis = Millis(600_000);
/// Access tokens longer than this are none.
const ACCESS_BYTES_MAX: usize = 8 << 10;

/// A JSON object as it is written.
pub struct Object {
    out: Vec<u8>,
}

impl Object {
    /// Without members.
    pub fn new() -> Self {
        Self { out: vec![b'{'] }
    }

    fn name(&mut self, name: &str) {
        if self.out.len() > 1 {
            self.out.push(b',');
        }
        json::write_str(&mut self.out, name);
        self.out.push(b':');
    }

    /// With a text.
    pub fn text(mut self, name: &str, value: &str) -> Self {
        self.name(name);
        json::write_str(&mut self.out, value);
        self
    }

    /// With a text, if there is one.
    pub fn optional(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.text(name, value),
            None => self,
        }
    }

    /// With a value that is JSON already.
    pub fn raw(mut self, name: &str, value: &str) -> Self {
        self.name(name);
        self.out.extend_from_slice(value.as_bytes());
        self
    }

    /// With an object, unless it has no members.
    pub fn object(self, name: &str, value: Object) -> Self {
        match value.out.len() {
            0..2 => self,
            _ => self.raw(name, &value.end()),
        }
    }

    /// The whole.
    pub fn end(mut self) -> String {
        self.out.push(b'}');
        // Only texts were written.
        String::from_utf8(self.out).unwrap_or_default()
    }
}

/// A message in nobody's words.
pub fn plain(message: &Message) -> String {
    let text = &message.text;
    let notification = Object::new()
        .optional("title", text.title.as_deref())
        .optional("body", text.body.as_deref())
        .optional("icon", text.icon.as_deref());
    let object = Object::new().object("notification", notification);
    match message.data.is_empty() {
        true => object.end(),
        false => object.raw("data", &message.data).end(),
    }
}

/// The members of an object but some, as they are.
pub fn copy(mut into: Object, object: Raw<'_>, but: &[&str]) -> Object {
    for (name, value) in object.members() {
        if !but.contains(&&*name) {
            into = into.raw(&name, value.text());
        }
    }
    into
}

/// A JSON object; none: it is something else.
pub fn object(text: &str) -> Option<Raw<'_>> {
    json::parse_str(text).ok().filter(|it| it.kind() == Kind::Object)
}

/// A JSON object whose values are all texts: a text as it is, `null` left out, anything else as its JSON.
pub fn texts(data: &str) -> Object {
    let mut out = Object::new();
    for (name, value) in object(data).into_iter().flat_map(Raw::members) {
        match value.as_str() {
            Some(text) => out = out.text(&name, &text),
            None if value.is_null() => {}
            None => out = out.text(&name, value.text()),
        }
    }
    out
}

/// Names and values as a form's content. Source: the URL standard, `application/x-www-form-urlencoded`.
pub fn urlencoded(pairs: &[(&str, &str)]) -> String {
    let mut out = String::new();
    for (name, value) in pairs {
        if !out.is_empty() {
            out.push('&');
        }
        percent(&mut out, name);
        out.push('=');
        percent(&mut out, value);
    }
    out
}

/// Appends a text of which nothing but letters, digits and `-._~` stands for itself. Source: RFC 3986, section 2.1.
pub fn percent(out: &mut String, text: &str) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in text.as_bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            _ => {
                out.push('%');
                out.push(char::from(HEX[usize::from(byte >> 4)]));
                out.push(char::from(HEX[usize::from(byte & 15)]));
            }
        }
    }
}

/// The origin of an http or https address, in lower case and without a port that goes without saying; none: it is no such
/// address, or says who is asking. Source: RFC 6454, section 6.1.
pub fn origin(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    let usual = match scheme.as_str() {
        "https" => "443",
        "http" => "80",
        _ => return None,
    };
    let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'\\';
    if !url.bytes().all(is_plain) {
        return None;
    }
    let authority = rest.split(['/', '?', '#']).next()?;
    if authority.contains('@') {
        return None;
    }
    // The colons of an IPv6 address are within brackets.
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let is_address = host.starts_with('[') && host.ends_with(']');
    let is_host = is_address || !host.contains([':', '[', ']']);
    if host.is_empty() || !is_host {
        return None;
    }
    let host = host.to_ascii_lowercase();
    match port {
        None | Some("") => Some(format!("{scheme}://{host}")),
        Some(port) if port == usual => Some(format!("{scheme}://{host}")),
        Some(port) => {
            let port: u16 =
                port.parse().ok().filter(|_| port.bytes().all(|it| it.is_ascii_digit()))?;
            Some(format!("{scheme}://{host}:{port}"))
        }
    }
}

/// What a provider said, cut to what fits into a record: its words, or else the status.
pub fn said(answered: &Answered) -> String {
    let out = cut(&String::from_utf8_lossy(&answered.body));
    match out.is_empty() {
        true => format!("status {}", answered.status),
        false => out,
    }
}

/// What a provider calls a message, unless that is longer than any name is.
pub fn message_id(text: Option<&str>) -> Option<String> {
    text.filter(|it| !it.is_empty() && it.len() <= MESSAGE_ID_BYTES_MAX).map(str::to_owned)
}

/// A text, cut to what fits into a record, on one line.
pub fn cut(text: &str) -> String {
    let words = text.split(|it: char| it.is_whitespace() || it.is_control());
    let mut out = String::new();
    for word in words.filter(|it| !it.is_empty()) {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
        if let Some((end, _)) = out.char_indices().nth(SAID_CHARS_MAX) {
            out.truncate(end);
            break;
        }
    }
    out
}

/// The request that is answered with an access token: a form with these names and values. Source: RFC 6749, section 4.4.2.
pub fn exchange(url: &str, pairs: &[(&str, &str)]) -> Request {
    Request {
        method: "POST",
        url: url.to_owned(),
        fields: vec![("content-type", "application/x-www-form-urlencoded".to_owned())],
        body: Bytes::from(urlencoded(pairs)),
        is_http2: false,
    }
}

/// What goes into `Authorization` for an answer that gives out an access token, and for how long. Source: RFC 6749,
/// sections 5.1 and 5.2.
pub fn read_access(answered: &Answered, now: Now) -> Result<(String, Millis), Delivered> {
    let not = |verdict, reason| {
        let delivered = Delivered::not(verdict, reason).with_status(answered.status);
        Err(Delivered { retry_after: answered.pause(now), ..delivered })
    };
    match answered.status {
        200..=299 => {}
        429 => return not(Verdict::Throttled, said(answered)),
        400..=499 => return not(Verdict::Unauthorized, format!("no access: {}", said(answered))),
        _ => return not(Verdict::Unavailable, format!("no access: {}", said(answered))),
    }
    let answer = json::parse(&answered.body).ok();
    let member = |name| answer.and_then(|it| it.member(name));
    let token = member("access_token").and_then(Raw::as_str);
    let is_one = |it: &str| {
        (1..=ACCESS_BYTES_MAX).contains(&it.len()) && it.bytes().all(|it| it.is_ascii_graphic())
    };
    let Some(token) = token.filter(|it| is_one(it)) else {
        // Not its words: they may hold what is a secret.
        return not(Verdict::Unavailable, "no access: the answer has no access_token".to_owned());
    };
    let seconds = member("expires_in");
    let seconds = seconds.and_then(|it| it.as_u64().or_else(|| it.as_str()?.parse().ok()));
    let lasts = seconds.map_or(ACCESS_LASTS, |it| Millis(it.saturating_mul(1000)));
    Ok((format!("Bearer {token}"), lasts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_spelled_in_one_way() {
        for (url, origin_is) in [
            (
                "https://updates.push.services.mozilla.com/wpush/v2/x",
                Some("https://updates.push.services.mozilla.com"),
            ),
            ("HTTPS://Push.Example:443/a?b#c", Some("https://push.example")),
            ("http://127.0.0.1:8080", Some("http://127.0.0.1:8080")),
            ("https://[::1]:8443/x", Some("https://[::1]:8443")),
            ("https://[::1]/x", Some("https://[::1]")),
            ("http://x:80?y", Some("http://x")),
            ("https://x:/y", Some("https://x")),
            ("https://a@b/", None),
            ("https:///x", None),
            ("https://x:99999/", None),
            ("https://x:+1/", None),
            ("ftp://x/", None),
            ("https://::1/", None),
            ("https://a b/", None),
            ("https://a\\b/", None),
            ("", None),
        ] {
            assert_eq!(origin(url).as_deref(), origin_is, "{url}");
        }
    }

    #[test]
    fn forms_and_texts_are_escaped() {
        assert_eq!(urlencoded(&[("a b", "c&d=\u{e9}"), ("x", "")]), "a%20b=c%26d%3D%C3%A9&x=");
        let data = r#"{"a":"x\"y","n":1,"o":{"p":[1,2]},"z":null,"t":true}"#;
        let texts = texts(data).end();
        assert_eq!(texts, r#"{"a":"x\"y","n":"1","o":"{\"p\":[1,2]}","t":"true"}"#);
        assert_eq!(super::texts("[]").end(), "{}");
    }
}
