//! When two addresses name the same document: a normal form that is compared byte by byte.
//!
//! Observed: 432 addresses and 70 version suffixes were put through the normalisation of the `h` service;
//! `tests/data` has them, and the tests below hold every one. The splitting follows RFC 3986 as Python's
//! `urllib.parse` reads it, odd corners included, because the other side of each comparison was made there.

use std::borrow::Cow;
use std::net::Ipv6Addr;

/// A proxy whose address stands in front of the document's.
const PROXY: &str = "https://via.hypothes.is/";

/// Versions that one address in a filter may name.
pub const VERSIONS_MAX: usize = 32;

/// Query parameters that say nothing about the document. A name may end in one line feed.
const TRACKING: &[&str] = &[
    "utm_campaign",
    "utm_content",
    "utm_medium",
    "utm_source",
    "utm_term",
    "gclid",
    "resourcekey",
];

/// The normal form of an address; none if it cannot be read at all (an unfinished IPv6 address, a port
/// that is none). What is not `http:` or `https:` or has no host is its own normal form.
pub fn normalise(uri: &str) -> Option<Cow<'_, str>> {
    let uri = match uri.strip_prefix(PROXY) {
        Some(inner) if inner.starts_with("http:") || inner.starts_with("https:") => inner,
        _ => uri,
    };
    let cleaned = clean(uri);
    let (scheme, rest) = split_scheme(&cleaned);
    let Some(rest) = rest.strip_prefix("//") else { return Some(Cow::Borrowed(uri)) };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    if !is_authority(authority) {
        return None;
    }
    let default_port = match scheme.as_deref() {
        Some("http") => 80,
        Some("https") => 443,
        _ => return Some(Cow::Borrowed(uri)),
    };
    let (user_info, host_port) = authority.split_at(authority.rfind('@').map_or(0, |at| at + 1));
    let (host, port, is_bracketed) = split_host(host_port);
    if host.is_empty() {
        return Some(Cow::Borrowed(uri));
    }
    let port = match port {
        "" => None,
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(digits.parse::<u16>().ok()?)
        }
        _ => return None,
    };
    let rest = rest.split('#').next().unwrap_or_default();
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut out = String::with_capacity(uri.len() + 8);
    out.push_str("httpx://");
    out.push_str(user_info);
    let host = host.to_lowercase();
    if is_bracketed {
        out.extend(["[", &host, "]"]);
    } else {
        out.push_str(&host);
    }
    if let Some(port) = port.filter(|&port| port != default_port) {
        out.push_str(&format!(":{port}"));
    }
    write_path(path.trim_end_matches('/'), &mut out);
    write_query(query, &mut out);
    Some(Cow::Owned(out))
}

/// The normal forms that a filter's value stands for: one for each version that its suffixes name
/// (`:v2:v3`, `:all`), or the plain one. None if the address cannot be read, or names more than
/// [`VERSIONS_MAX`] versions: each is a copy of it.
pub fn keys_wanted(value: &str) -> Option<Vec<String>> {
    let (base, versions) = split_versions(value);
    let base = normalise(base)?;
    if versions.len() > VERSIONS_MAX {
        return None;
    }
    if versions.is_empty() {
        return Some(vec![base.into_owned()]);
    }
    Some(versions.into_iter().map(|version| key_of_version(&base, version)).collect())
}

/// The normal forms that an annotation of this address is found by, of this version of the document if it
/// names one. An address that cannot be read is its own normal form.
pub fn keys_of(uri: &str, version: Option<u64>) -> [String; 2] {
    let base = normalise(uri).unwrap_or(Cow::Borrowed(uri));
    let version =
        version.map_or(Version::Number("0".to_owned()), |n| Version::Number(n.to_string()));
    [key_of_version(&base, version), key_of_version(&base, Version::All)]
}

enum Version {
    /// In decimal, without leading zeros; 0 is a document without versions.
    Number(String),
    /// Any. (The `h` service makes a key of this that nothing matches.)
    All,
}

fn key_of_version(base: &str, version: Version) -> String {
    match version {
        Version::Number(number) if number == "0" => base.to_owned(),
        Version::Number(number) => format!("{base}__v{number}"),
        Version::All => format!("{base}__vall"),
    }
}

/// Takes suffixes that name versions off, in the order in which they stand.
fn split_versions(value: &str) -> (&str, Vec<Version>) {
    let mut versions = Vec::new();
    let mut rest = value.strip_suffix('\n').unwrap_or(value);
    while let Some((before, suffix)) = rest.rsplit_once(':') {
        if versions.len() > VERSIONS_MAX {
            break;
        }
        let digits = suffix.strip_prefix('v').filter(|it| !it.is_empty());
        match digits {
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                let number = digits.trim_start_matches('0');
                let number = if number.is_empty() { "0" } else { number };
                versions.push(Version::Number(number.to_owned()));
            }
            _ if suffix == "all" => versions.push(Version::All),
            _ => break,
        }
        rest = before;
    }
    if versions.is_empty() {
        return (value, versions);
    }
    versions.reverse();
    (rest, versions)
}

/// Control characters and spaces in front and line ends anywhere do not count.
fn clean(uri: &str) -> Cow<'_, str> {
    let start = uri.trim_start_matches(|c: char| c <= ' ');
    if start.contains(['\t', '\n', '\r']) {
        Cow::Owned(start.replace(['\t', '\n', '\r'], ""))
    } else {
        Cow::Borrowed(start)
    }
}

/// The scheme in lower case, and what follows its colon.
fn split_scheme(uri: &str) -> (Option<String>, &str) {
    let Some((scheme, rest)) = uri.split_once(':') else { return (None, uri) };
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    if is_scheme { (Some(scheme.to_ascii_lowercase()), rest) } else { (None, uri) }
}

/// Whether brackets stand in pairs around an IPv6 (or later) address, and no character is a compatibility
/// form of one that separates the parts of an address.
fn is_authority(authority: &str) -> bool {
    // Source: Unicode's compatibility decompositions that hold one of `/?#@:`.
    const LOOKALIKES: &[char] = &[
        '\u{2047}', '\u{2048}', '\u{2049}', '\u{2100}', '\u{2101}', '\u{2105}', '\u{2106}',
        '\u{2a74}', '\u{fe13}', '\u{fe16}', '\u{fe55}', '\u{fe56}', '\u{fe5f}', '\u{fe6b}',
        '\u{ff03}', '\u{ff0f}', '\u{ff1a}', '\u{ff1f}', '\u{ff20}',
    ];
    if authority.contains(LOOKALIKES) {
        return false;
    }
    match (authority.split_once('['), authority.contains(']')) {
        (None, closes) => !closes,
        (Some(_), false) => false,
        (Some((_, after)), true) => {
            let host = after.split(']').next().unwrap_or_default();
            if let Some(rest) = host.strip_prefix('v') {
                return rest.split_once('.').is_some_and(|(version, address)| {
                    !version.is_empty()
                        && version.bytes().all(|byte| byte.is_ascii_hexdigit())
                        && !address.is_empty()
                });
            }
            let (address, zone) = host.split_once('%').unwrap_or((host, "-"));
            address.parse::<Ipv6Addr>().is_ok() && !zone.is_empty() && !zone.contains('%')
        }
    }
}

/// Host, text of the port, and whether the host stood in brackets.
fn split_host(text: &str) -> (&str, &str, bool) {
    match text.split_once('[') {
        Some((_, after)) => {
            let (host, after) = after.split_once(']').unwrap_or((after, ""));
            (host, after.split_once(':').map_or("", |(_, port)| port), true)
        }
        None => {
            let (host, port) = text.split_once(':').unwrap_or((text, ""));
            (host, port, false)
        }
    }
}

fn write_path(path: &str, out: &mut String) {
    for (i, segment) in path.split('/').enumerate() {
        if i > 0 {
            out.push('/');
        }
        quote(&unquote(segment), b"-._~:@!$&'()*+,;=", out);
    }
}

/// Parameters sorted by name, in order where names repeat; a query that is not made of `name=value` alone
/// stays as it is.
fn write_query(query: &str, out: &mut String) {
    if query.is_empty() {
        return;
    }
    let pairs: Option<Vec<_>> = query.split('&').map(|pair| pair.split_once('=')).collect();
    let Some(pairs) = pairs else {
        out.push('?');
        return out.push_str(query);
    };
    let decode = |text: &str| unquote(&text.replace('+', " ")).into_owned();
    let mut pairs: Vec<(String, String)> =
        pairs.into_iter().map(|(name, value)| (decode(name), decode(value))).collect();
    pairs.retain(|(name, _)| !is_tracking(name));
    pairs.sort_by(|a, b| a.0.cmp(&b.0));
    for (i, (name, value)) in pairs.iter().enumerate() {
        out.push(if i == 0 { '?' } else { '&' });
        // Decoded once more: so does the other side.
        quote_form(&decode(name), b"-._~:@!$'()*,", out);
        out.push('=');
        quote_form(&decode(value), b"-._~:@!$'()*,=", out);
    }
}

fn is_tracking(name: &str) -> bool {
    let stem = name.strip_suffix('\n').unwrap_or(name);
    TRACKING.contains(&stem)
        || stem.eq_ignore_ascii_case("x-amz-security-token")
        || stem.strip_prefix("WT.").is_some_and(|rest| !rest.is_empty() && !rest.contains('\n'))
}

/// Resolves percent escapes in each run of ASCII; what is no escape stays, what is no UTF-8 is replaced.
fn unquote(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut run = Vec::new();
    let bytes = text.as_bytes();
    let hex = |at: usize| char::from(*bytes.get(at)?).to_digit(16);
    let mut rest = text.char_indices();
    while let Some((at, c)) = rest.next() {
        if !c.is_ascii() {
            out.push_str(&String::from_utf8_lossy(&run));
            run.clear();
            out.push(c);
            continue;
        }
        match (c, hex(at + 1), hex(at + 2)) {
            ('%', Some(high), Some(low)) => {
                run.push((high << 4 | low) as u8);
                rest.nth(1);
            }
            _ => run.push(c as u8),
        }
    }
    out.push_str(&String::from_utf8_lossy(&run));
    Cow::Owned(out)
}

/// Escapes every byte but letters, digits and `safe`.
fn quote(text: &str, safe: &[u8], out: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || safe.contains(&byte) {
            out.push(char::from(byte));
        } else {
            let digit = |it: u8| char::from(HEX[usize::from(it)]);
            out.extend(['%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
}

/// The same, a space becoming a plus.
fn quote_form(text: &str, safe: &[u8], out: &mut String) {
    for (i, part) in text.split(' ').enumerate() {
        if i > 0 {
            out.push('+');
        }
        quote(part, safe, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn data(name: &str) -> Value {
        let path = format!("{}/tests/data/{name}", env!("CARGO_MANIFEST_DIR"));
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    #[test]
    fn addresses_are_normalised_as_the_service_does() {
        let data = data("hypothesis_uris.json");
        let rows = data.as_array().unwrap();
        assert!(rows.len() > 400);
        for row in rows {
            let uri = row[0].as_str().unwrap();
            assert_eq!(normalise(uri).as_deref(), row[1].as_str(), "{uri:?}");
        }
    }

    #[test]
    fn suffixes_name_versions() {
        let data = data("hypothesis_versions.json");
        let rows = data.as_array().unwrap();
        assert!(rows.len() > 60);
        for row in rows {
            let expected = row[1].as_array().map(|keys| {
                keys.iter().map(|key| key.as_str().unwrap().to_owned()).collect::<Vec<_>>()
            });
            assert_eq!(keys_wanted(row[0].as_str().unwrap()), expected, "{row}");
        }
    }

    #[test]
    fn a_filter_finds_its_version_all_of_them_or_none() {
        let found = |value: &str, version| {
            let keys = keys_of("http://e.com/a", version);
            keys_wanted(value).unwrap().iter().any(|key| keys.contains(key))
        };
        for (value, of_none, of_2) in [
            ("http://e.com/a", true, false),
            ("http://e.com/a:v0", true, false),
            ("http://e.com/a:v2", false, true),
            ("http://e.com/a:v3", false, false),
            ("http://e.com/a:v3:v2", false, true),
            ("http://e.com/a:all", true, true),
            ("http://e.com/b:all", false, false),
        ] {
            assert_eq!((found(value, None), found(value, Some(2))), (of_none, of_2), "{value}");
        }
        assert_eq!(keys_of("http://[", None)[0], "http://[");
    }
}
