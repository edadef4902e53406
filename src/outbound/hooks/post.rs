//! A request as it leaves, and what is made of the answer. The shape is described in `docs/webhooks.md`.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::auth::sign::SigningKey;
use crate::base::event_id::EventId;
use crate::base::name::Name;
use crate::base::time::{Millis, Now, UnixMillis};
use crate::broker::report::{self, StoredReport};
use crate::config::webhooks::HeaderField;
use crate::wire::{json, write_decimal};

/// A `Retry-After` may ask for no more than this.
const RETRY_AFTER_MAX: Millis = Millis(3_600_000);

/// `POST url` with these fields and this body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Post {
    /// Where.
    pub url: Arc<str>,
    /// Field names and values. What cannot stand in a head is left out.
    pub fields: Vec<(String, String)>,
    /// One JSON value.
    pub body: Bytes,
    /// How long the answer may take.
    pub timeout: Millis,
    /// It may go to a private address.
    pub allow_private: bool,
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The status, or why there is none.
    pub outcome: Result<u16, Silence>,
    /// The answer's `Retry-After`.
    pub retry_after: Option<String>,
}

/// Why there was no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// No connection, or it ended too early.
    Unreachable,
    /// Nothing in time.
    Late,
    /// Its host is on a private address, and may not be.
    Private,
}

/// What an answer means for the events that were sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// They are taken.
    Done,
    /// The receiver will not have them as they are; the next may be better.
    Refused,
    /// The receiver takes nothing now.
    Later,
}

impl Heard {
    /// What it means.
    ///
    /// A status that is about the request's content condemns that; one that is about where it went, who sent it or
    /// when would meet every event alike, and to give up on them one by one would lose them all. A redirect
    /// is not followed and is of the second kind. Where statuses of the second kind are given, they alone are.
    pub fn verdict(&self, later: &[RangeInclusive<u16>]) -> Verdict {
        match self.outcome {
            Ok(200..=299) => Verdict::Done,
            Ok(status) if !later.is_empty() => {
                match later.iter().any(|range| range.contains(&status)) {
                    true => Verdict::Later,
                    false => Verdict::Refused,
                }
            }
            Ok(401 | 403 | 404 | 405 | 407 | 408 | 410 | 421 | 423 | 425 | 426 | 429 | 451) => {
                Verdict::Later
            }
            Ok(400..=499) => Verdict::Refused,
            _ => Verdict::Later,
        }
    }

    /// How long the receiver asks to be left alone, bounded.
    pub fn pause(&self, now: UnixMillis) -> Millis {
        let text = self.retry_after.as_deref().unwrap_or_default().trim();
        let asked = match text.parse::<u64>() {
            Ok(seconds) => seconds.saturating_mul(1000),
            Err(_) => parse_date(text).map_or(0, |at| at.0.saturating_sub(now.0)),
        };
        Millis(asked).min(RETRY_AFTER_MAX)
    }
}

/// A date as HTTP writes it: `Sun, 06 Nov 1994 08:49:37 GMT`. Source: RFC 9110, section 5.6.7; its obsolete forms
/// are no date here.
fn parse_date(text: &str) -> Option<UnixMillis> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (_, rest) = text.strip_suffix(" GMT")?.split_once(", ")?;
    let mut words = rest.split(' ');
    let number = |text: Option<&str>| text?.parse::<u64>().ok();
    let day = number(words.next()).filter(|day| (1..=31).contains(day))?;
    let month = words.next()?;
    let month = MONTHS.iter().position(|it| *it == month)? as u64 + 1;
    let year = number(words.next()).filter(|year| (1970..=9999).contains(year))?;
    let mut clock = words.next()?.split(':');
    let mut part = |max| number(clock.next()).filter(|it| *it < max);
    let (hour, minute, second) = (part(24)?, part(60)?, part(61)?);
    // Days are counted from 0000-03-01. Source: Howard Hinnant, "chrono-compatible low-level date algorithms".
    let year = year - u64::from(month <= 2);
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some(UnixMillis((days * 86_400 + hour * 3600 + minute * 60 + second) * 1000))
}

/// One thing to be told, as it waits in the queue.
#[derive(Debug)]
pub struct Entry {
    /// Its position in the queue.
    pub number: u64,
    /// Its name for good: the same at every attempt and at every receiver.
    pub id: EventId,
    /// What is told.
    pub report: StoredReport,
    /// The same as it is stored.
    pub stored: Bytes,
}

impl Entry {
    /// The entry of these bytes; none: this version cannot read them.
    pub fn read(number: u64, stored: Bytes) -> Option<Self> {
        let report = report::decode(&stored)?;
        let mut hash = Sha256::new();
        hash.update(number.to_be_bytes());
        hash.update(&stored);
        let digest: [u8; 32] = hash.finalize().into();
        // What it is, where it stood and when it happened: the same after a restart, and another's nowhere.
        let chance = u128::from_be_bytes(std::array::from_fn(|i| digest[i]));
        let id = EventId::next(EventId::default(), report.at, chance);
        Some(Self { number, id, report, stored })
    }

    /// Bytes it holds, about.
    pub fn bytes(&self) -> usize {
        self.stored.len() + 128
    }
}

/// Who a request goes to, as far as its form depends on it.
pub struct Address {
    /// Where.
    pub url: Arc<str>,
    /// How it is written and signed.
    pub form: Form,
    /// Fields of the receiver's own.
    pub headers: Vec<HeaderField>,
    /// How long the answer may take.
    pub timeout: Millis,
    /// It may go to a private address.
    pub allow_private: bool,
}

/// How a request is written and signed.
pub enum Form {
    /// Our own, signed with the receiver's secret if it has one.
    Own {
        /// What it is signed with.
        key: Option<SigningKey>,
        /// The body is a list, however many there are.
        is_list: bool,
    },
    /// Events of one app in an object, signed by that app: its key and what it signs with, by its id. Source: Pusher's
    /// documentation of webhooks.
    OfApp(HashMap<Name, (String, SigningKey)>),
}

impl Form {
    /// Whether an app's events can be told in it.
    pub fn speaks_for(&self, app: &Name) -> bool {
        match self {
            Self::Own { .. } => true,
            Self::OfApp(signers) => signers.contains_key(app),
        }
    }

    /// Whether events of two apps may be told together.
    pub fn mixes_apps(&self) -> bool {
        matches!(self, Self::Own { .. })
    }
}

impl Address {
    /// The request that tells these entries, at least one; `attempt` counts from 1.
    pub fn post(&self, entries: &[Arc<Entry>], attempt: u32, now: Now) -> Post {
        let mut fields: Vec<_> =
            self.headers.iter().map(|it| (it.name.clone(), it.value.clone())).collect();
        let body = match &self.form {
            Form::Own { key, is_list } => {
                own(entries, *is_list, attempt, key.as_ref(), now, &mut fields)
            }
            Form::OfApp(signers) => of_app(entries, attempt, signers, &mut fields),
        };
        let Self { timeout, allow_private, .. } = *self;
        Post { url: Arc::clone(&self.url), fields, body, timeout, allow_private }
    }
}

/// Writes a request of our own form.
fn own(
    entries: &[Arc<Entry>],
    is_list: bool,
    attempt: u32,
    key: Option<&SigningKey>,
    now: Now,
    fields: &mut Vec<(String, String)>,
) -> Bytes {
    let mut own = |name: &str, value: String| fields.push((name.to_owned(), value));
    let body = match entries {
        [entry] if !is_list => {
            for (name, value) in &entry.report.fields {
                own(name, value.to_string());
            }
            own("X-Ringmain-Event-Id", entry.id.to_string());
            entry.report.body.clone()
        }
        entries => {
            own("X-Ringmain-Event-Count", entries.len().to_string());
            list(entries)
        }
    };
    own("X-Ringmain-Attempt", attempt.to_string());
    if let Some(key) = key {
        let at = now.wall.seconds().to_string();
        let hex = key.sign(&[at.as_bytes(), b".", &body]);
        own(
            "X-Ringmain-Signature",
            format!("t={at},v1={}", std::str::from_utf8(&hex).unwrap_or_default()),
        );
    }
    body
}

/// Writes a request as an app's own. Its time is that of its newest event, so that it says at every attempt how long the
/// receiver was without it.
fn of_app(
    entries: &[Arc<Entry>],
    attempt: u32,
    signers: &HashMap<Name, (String, SigningKey)>,
    fields: &mut Vec<(String, String)>,
) -> Bytes {
    let bytes: usize = entries.iter().map(|it| it.bytes()).sum();
    let mut out = Vec::with_capacity(bytes + 64);
    out.extend_from_slice(b"{\"time_ms\":");
    write_decimal(&mut out, entries.iter().map(|it| it.report.at.0).max().unwrap_or(0));
    out.extend_from_slice(b",\"events\":[");
    for (n, entry) in entries.iter().enumerate() {
        if n > 0 {
            out.push(b',');
        }
        out.extend_from_slice(&entry.report.body);
    }
    out.extend_from_slice(b"]}");
    let mut field = |name: &str, value: &str| fields.push((name.to_owned(), value.to_owned()));
    if let Some(first) = entries.first() {
        field("X-Ringmain-Event-Id", &first.id.to_string());
        if let Some((key, secret)) = signers.get(&first.report.app) {
            field("X-Pusher-Key", key);
            let hex = secret.sign(&[&out]);
            field("X-Pusher-Signature", std::str::from_utf8(&hex).unwrap_or_default());
        }
    }
    field("X-Ringmain-Event-Count", &entries.len().to_string());
    field("X-Ringmain-Attempt", &attempt.to_string());
    out.into()
}

/// Several entries as one JSON list: each with its id, the fields it would have had alone, and its body.
fn list(entries: &[Arc<Entry>]) -> Bytes {
    let bytes: usize = entries.iter().map(|it| it.bytes() + 64).sum();
    let mut out = Vec::with_capacity(bytes);
    out.push(b'[');
    for (n, entry) in entries.iter().enumerate() {
        out.extend_from_slice(if n == 0 { b"{\"id\":" } else { b",{\"id\":" });
        json::write_str(&mut out, &entry.id.to_string());
        out.extend_from_slice(b",\"headers\":{");
        for (n, (name, value)) in entry.report.fields.iter().enumerate() {
            if n > 0 {
                out.push(b',');
            }
            json::write_str(&mut out, name);
            out.push(b':');
            json::write_str(&mut out, value);
        }
        out.extend_from_slice(b"},\"body\":");
        out.extend_from_slice(&entry.report.body);
        out.push(b'}');
    }
    out.push(b']');
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::AppIndex;
    use crate::base::time::Nanos;
    use crate::broker::{Payload, Report};

    fn entry(number: u64, body: &'static str) -> Arc<Entry> {
        let report = Report {
            app: AppIndex(0),
            kind: "a.kind".into(),
            channel: None,
            fields: vec![("X-Kind", "a.kind".into()), ("X-Channel", "r%20".into())],
            body: Payload(Bytes::from_static(body.as_bytes())),
        };
        let stored = report::encode(&report, "app", UnixMillis(1_700_000_000_123));
        Arc::new(Entry::read(number, stored).expect("a report"))
    }

    fn address(is_list: bool, secret: Option<&str>) -> Address {
        let key = secret.map(|it| SigningKey::new(it.as_bytes()));
        addressed(Form::Own { key, is_list }, &[])
    }

    fn addressed(form: Form, headers: &[&str]) -> Address {
        Address {
            url: "http://x/".into(),
            form,
            headers: headers.iter().map(|it| it.parse().expect("a field")).collect(),
            timeout: Millis(5),
            allow_private: false,
        }
    }

    fn now() -> Now {
        Now { steady: Nanos(0), wall: UnixMillis(1_700_000_100_999) }
    }

    #[test]
    fn one_event_is_its_own_body_and_signed() {
        let entry = entry(7, "{\"a\":1}");
        let post = address(false, Some("hush")).post(&[Arc::clone(&entry)], 2, now());
        assert_eq!(&post.body[..], b"{\"a\":1}");
        let field = |name: &str| {
            post.fields.iter().find(|it| it.0 == name).map(|it| it.1.as_str()).unwrap_or_default()
        };
        assert_eq!((field("X-Kind"), field("X-Channel")), ("a.kind", "r%20"));
        assert_eq!(field("X-Ringmain-Attempt"), "2");
        assert_eq!(field("X-Ringmain-Event-Id").parse(), Ok(entry.id));
        assert_eq!(entry.id.at(), UnixMillis(1_700_000_000_123));
        // printf '1700000100.{"a":1}' | openssl dgst -sha256 -hmac hush
        let hex = "c2f83ff50b6776b501277f26014066e6750f485ed772d7b292ca1d062b13ad1d";
        assert_eq!(field("X-Ringmain-Signature"), format!("t=1700000100,v1={hex}"));
        let unsigned = address(false, None).post(&[entry], 1, now());
        assert!(unsigned.fields.iter().all(|it| it.0 != "X-Ringmain-Signature"));
    }

    #[test]
    fn a_list_is_one_however_many_there_are() {
        let entries = [entry(7, "{\"a\":1}"), entry(8, "[]")];
        for n in 1..=2 {
            let post = address(true, None).post(&entries[..n], 1, now());
            let list = json::parse(&post.body).expect("JSON");
            let items: Vec<_> = list.items().collect();
            assert_eq!(items.len(), n);
            for (item, entry) in items.iter().zip(&entries) {
                let member = |name: &str| item.member(name).expect("a member");
                assert_eq!(member("id").as_str().unwrap().parse(), Ok(entry.id));
                assert_eq!(member("body").text().as_bytes(), &entry.report.body[..]);
                assert_eq!(member("headers").member("X-Channel").unwrap().text(), "\"r%20\"");
            }
        }
        assert_ne!(entries[0].id, entries[1].id);
    }

    #[test]
    fn an_apps_form_is_signed_by_the_app() {
        let signer = ("app".into(), ("its-key".to_owned(), SigningKey::new(b"hush")));
        let form = Form::OfApp([signer].into());
        assert!(form.speaks_for(&"app".into()) && !form.speaks_for(&"other".into()));
        let address = addressed(form, &["X-Team: shop"]);
        let entries = [entry(7, "{\"name\":\"a\"}"), entry(8, "{\"name\":\"b\"}")];
        let post = address.post(&entries, 3, now());
        let body = r#"{"time_ms":1700000000123,"events":[{"name":"a"},{"name":"b"}]}"#;
        assert_eq!(std::str::from_utf8(&post.body), Ok(body));
        let hmac = SigningKey::new(b"hush");
        let fields = [
            ("X-Team", "shop".to_owned()),
            ("X-Ringmain-Event-Id", entries[0].id.to_string()),
            ("X-Pusher-Key", "its-key".to_owned()),
            ("X-Pusher-Signature", String::from_utf8_lossy(&hmac.sign(&[body.as_bytes()])).into()),
            ("X-Ringmain-Event-Count", "2".to_owned()),
            ("X-Ringmain-Attempt", "3".to_owned()),
        ];
        assert_eq!(post.fields, fields.map(|(name, value)| (name.to_owned(), value)));
    }

    #[test]
    fn an_id_is_of_place_and_content() {
        assert_eq!(entry(7, "1").id, entry(7, "1").id);
        assert_ne!(entry(7, "1").id, entry(8, "1").id);
        assert_ne!(entry(7, "1").id, entry(7, "2").id);
    }

    #[test]
    fn what_is_said_has_a_meaning() {
        for (outcome, verdict) in [
            (Ok(200), Verdict::Done),
            (Ok(204), Verdict::Done),
            (Ok(101), Verdict::Later),
            (Ok(301), Verdict::Later),
            (Ok(400), Verdict::Refused),
            (Ok(401), Verdict::Later),
            (Ok(404), Verdict::Later),
            (Ok(408), Verdict::Later),
            (Ok(410), Verdict::Later),
            (Ok(413), Verdict::Refused),
            (Ok(422), Verdict::Refused),
            (Ok(425), Verdict::Later),
            (Ok(429), Verdict::Later),
            (Ok(500), Verdict::Later),
            (Ok(503), Verdict::Later),
            (Err(Silence::Late), Verdict::Later),
            (Err(Silence::Unreachable), Verdict::Later),
        ] {
            let heard = Heard { outcome, retry_after: None };
            assert_eq!(heard.verdict(&[]), verdict, "{outcome:?}");
        }
        let later = [408..=409, 500..=599];
        for (outcome, verdict) in [
            (Ok(204), Verdict::Done),
            (Ok(409), Verdict::Later),
            (Ok(599), Verdict::Later),
            (Ok(404), Verdict::Refused),
            (Ok(301), Verdict::Refused),
            (Err(Silence::Private), Verdict::Later),
        ] {
            let heard = Heard { outcome, retry_after: None };
            assert_eq!(heard.verdict(&later), verdict, "{outcome:?}");
        }
    }

    #[test]
    fn a_pause_is_read_and_bounded() {
        let now = UnixMillis(784_111_700_000);
        for (text, millis) in [
            ("", 0),
            ("0", 0),
            ("120", 120_000),
            ("-1", 0),
            ("99999999999999999999", 0),
            ("9999999", 3_600_000),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 77_000),
            ("Sun, 06 Nov 1994 08:00:00 GMT", 0),
            ("Thu, 29 Feb 1996 00:00:00 GMT", 3_600_000),
            ("Sun, 06 Nov 1994 25:49:37 GMT", 0),
            ("Sunday, 06-Nov-94 08:49:37 GMT", 0),
            ("soon", 0),
        ] {
            let heard = Heard { outcome: Ok(503), retry_after: Some(text.to_owned()) };
            assert_eq!(heard.pause(now), Millis(millis), "{text}");
        }
        assert_eq!(parse_date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(UnixMillis(0)));
        let leap = parse_date("Tue, 29 Feb 2000 00:00:00 GMT");
        assert_eq!(leap, Some(UnixMillis(951_782_400_000)));
    }
}
