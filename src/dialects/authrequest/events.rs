//! Events: as a back end publishes them, and as peers hear them.
//!
//! What goes into the broker is the finished object without its `type`; a lane puts that in front. Events of
//! bridged channels come from other protocols, and are put together when they are rendered.

use std::borrow::Cow;

use bytes::Bytes;

use super::channels::{self, ID_BYTES_MAX};
use crate::base::name::Name;
use crate::base::time::{Civil, UnixMillis};
use crate::broker::{Event, Happening, Payload};
use crate::config::App;
use crate::dialects::api::{self, Refusal};
use crate::wire::json::{self, Kind, Raw};

/// The category of what happens in bridged channels.
const CHANNEL: &str = "channel";
/// What every event has, and its data cannot override.
const COMMON: [&str; 5] = ["type", "category", "subCategory", "eventName", "eventTimestamp"];
/// A timestamp that a back end gives, in bytes.
const TIMESTAMP_BYTES_MAX: usize = 64;

/// One publish, checked.
#[derive(Debug)]
pub(super) struct EventIn {
    /// To which channels.
    pub channels: Vec<Name>,
    /// What the broker is told its name is; read on bridged channels only.
    pub name: Name,
    pub data: Payload,
}

/// Reads a publish, or a batch of them: all of them, or the first reason against one.
pub(super) fn read(
    body: &[u8],
    app: &App,
    bridge: &[Name],
    wall: UnixMillis,
) -> Result<Vec<EventIn>, Refusal> {
    api::read_events(body, app.event_batch_max, |item| event(item, app, bridge, wall))
}

fn event(item: Raw<'_>, app: &App, bridge: &[Name], wall: UnixMillis) -> Result<EventIn, Refusal> {
    if item.kind() != Kind::Object {
        return Err(Refusal::shape("the event is not an object"));
    }
    let account = text(item, "accountId", ID_BYTES_MAX)?;
    let account = account.ok_or(Refusal::shape("accountId is missing"))?;
    let user = text(item, "userId", ID_BYTES_MAX)?;
    let word = |member: &'static str| {
        text(item, member, app.event_name_bytes_max)?
            .ok_or_else(|| Refusal::shape(format!("{member} is missing")))
    };
    let (category, sub_category, name) =
        (word("category")?, word("subCategory")?, word("eventName")?);
    let timestamp = text(item, "eventTimestamp", TIMESTAMP_BYTES_MAX)?;
    let data = item.member("data").filter(|it| !it.is_null());
    if data.is_some_and(|it| it.kind() != Kind::Object) {
        return Err(Refusal::shape("data is not an object"));
    }
    let data = data.map_or("{}", Raw::text);
    let (bytes, bytes_max) = (data.len(), app.event_payload_bytes_max);
    if bytes > bytes_max {
        let text = format!("data ({bytes} bytes) exceeds limit ({bytes_max} bytes)");
        return Err(Refusal::new(413, "payload_too_large", text));
    }
    let bridged = bridge.iter().find(|it| category == CHANNEL && ***it == *sub_category);
    if let Some(channel) = bridged {
        let data = Payload(Bytes::copy_from_slice(data.as_bytes()));
        return Ok(EventIn { channels: vec![channel.clone()], name: Name::from(&*name), data });
    }
    let mut channels = vec![channels::account(&account)];
    channels.extend(user.as_ref().map(|user| channels::user(&account, user)));
    let timestamp = timestamp.unwrap_or_else(|| Cow::Owned(self::timestamp(wall)));
    let mut out = Vec::with_capacity(160 + data.len());
    out.push(b'{');
    head(&category, &sub_category, &name, &timestamp, &mut out);
    if let Some(user) = &user {
        out.extend_from_slice(b",\"userId\":");
        json::write_str(&mut out, user);
    }
    // It was checked with the body.
    if let Ok(data) = json::parse_str(data) {
        // Whose event it is, is said by who publishes, not by the data.
        merge(data, |key| user.is_some() && key == "userId", &mut out);
    }
    out.push(b'}');
    Ok(EventIn { channels, name: Name::from(&*name), data: Payload(Bytes::from(out)) })
}

/// A string member that may be absent or null, but not empty and not longer than `bytes_max`.
pub(super) fn text<'a>(
    object: Raw<'a>,
    member: &'static str,
    bytes_max: usize,
) -> Result<Option<Cow<'a, str>>, Refusal> {
    let Some(value) = object.member(member).filter(|it| !it.is_null()) else { return Ok(None) };
    let Some(text) = value.as_str() else {
        return Err(Refusal::shape(format!("{member} is not a string")));
    };
    match text.len() {
        0 => Err(Refusal::invalid(format!("{member} is empty"))),
        bytes if bytes > bytes_max => {
            Err(Refusal::limit(format_args!("{member} too long. Max length is {bytes_max}")))
        }
        _ => Ok(Some(text)),
    }
}

/// Appends an event as the account stream shows it; false, and nothing appended, if it does not.
pub(super) fn render_account(event: &Event, out: &mut Vec<u8>) -> bool {
    let Happening::Message { name, data, sender } = &event.happening else { return false };
    let channel = &event.channel.name;
    if channels::is_own(channel) {
        return splice("account", data, out);
    }
    out.reserve(192 + name.len() + channel.len() + data.0.len());
    out.extend_from_slice(b"{\"type\":\"accountevent\",");
    head(CHANNEL, channel, name, &timestamp(event.at), out);
    write_bridged(data, sender.is_some(), out);
    out.push(b'}');
    true
}

/// Appends an event as the user stream shows it; false, and nothing appended, if it does not.
pub(super) fn render_user(event: &Event, out: &mut Vec<u8>) -> bool {
    let Happening::Message { data, .. } = &event.happening else { return false };
    channels::is_own(&event.channel.name) && splice("user", data, out)
}

/// Appends a finished object with its `type` in front.
fn splice(stream: &str, data: &Payload, out: &mut Vec<u8>) -> bool {
    let Some(rest) = data.0.strip_prefix(b"{") else { return false };
    out.reserve(32 + rest.len());
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(stream.as_bytes());
    out.extend_from_slice(b"event\",");
    out.extend_from_slice(rest);
    true
}

/// Appends four of the five common members, without a comma before or after.
fn head(category: &str, sub_category: &str, name: &str, timestamp: &str, out: &mut Vec<u8>) {
    let members = [
        ("\"category\":", category),
        (",\"subCategory\":", sub_category),
        (",\"eventName\":", name),
        (",\"eventTimestamp\":", timestamp),
    ];
    for (key, value) in members {
        out.extend_from_slice(key.as_bytes());
        json::write_str(out, value);
    }
}

/// Appends the data of another protocol's event, of a peer or of a back end: an object's members, else one member.
///
/// Pusher's back ends send data as a string that holds JSON: an object in there counts as one.
fn write_bridged(data: &Payload, is_peers: bool, out: &mut Vec<u8>) {
    // What the broker holds was checked as JSON at its door.
    let Ok(data) = json::parse(&data.0) else { return };
    // A peer cannot say whose event it is; a back end can.
    let is_claim = |key: &str| is_peers && matches!(key, "userId" | "userData");
    if data.kind() == Kind::Object {
        return merge(data, is_claim, out);
    }
    let inside = data.as_str();
    let inside = inside.as_deref().and_then(|it| json::parse_str(it).ok());
    if let Some(object) = inside.filter(|it| it.kind() == Kind::Object) {
        return merge(object, is_claim, out);
    }
    out.extend_from_slice(b",\"data\":");
    out.extend_from_slice(data.text().as_bytes());
}

/// Appends an object's members, a comma before each, but for the common ones and those that `skip` names.
fn merge(object: Raw<'_>, skip: impl Fn(&str) -> bool, out: &mut Vec<u8>) {
    let members = object.members().filter(|(key, _)| !COMMON.contains(&&**key) && !skip(key));
    for (key, value) in members {
        out.push(b',');
        json::write_str(out, &key);
        out.push(b':');
        out.extend_from_slice(value.text().as_bytes());
    }
}

/// A moment in UTC as this protocol writes it: `2022-10-22T03:54:05+00:00`.
pub(super) fn timestamp(wall: UnixMillis) -> String {
    let Civil { year, month, day, hour, minute, second, .. } = wall.to_civil();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}+00:00")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::apps::tests::settings;
    use crate::base::ids::{AppIndex, Serial};
    use crate::base::name::Channel;
    use crate::base::time::Nanos;
    use crate::broker::Tags;

    const WALL: UnixMillis = UnixMillis(1_666_410_845_999);

    fn read(body: &str) -> Result<Vec<EventIn>, Refusal> {
        let mut app = settings("1", "k", "s");
        app.event_payload_bytes_max = 1024;
        app.event_name_bytes_max = 20;
        app.event_batch_max = 2;
        super::read(body.as_bytes(), &app, &["hello".into()], WALL)
    }

    fn one(more: &str) -> String {
        format!(r#"{{"accountId":"a","category":"c","subCategory":"s","eventName":"e"{more}}}"#)
    }

    #[test]
    fn bodies_are_refused_for_what_is_wrong_with_them() {
        let without = |member: &str| one("").replace(member, "x");
        let large = one(&format!(r#","data":{{"x":"{}"}}"#, "x".repeat(1024)));
        let batch = |items: &[&str]| format!(r#"{{"batch":[{}]}}"#, items.join(","));
        let good = one("");
        let deep = one(&format!(r#","data":{}"#, "{\"x\":".repeat(200)));
        for (body, status, part) in [
            ("", 400, "unfinished JSON"),
            ("nope", 400, "not JSON at byte 1"),
            ("\u{0}", 400, "not JSON"),
            ("[]", 422, "the body is not an object"),
            ("{}", 422, "accountId is missing"),
            (&without("accountId"), 422, "accountId is missing"),
            (&without("category"), 422, "category is missing"),
            (&without("subCategory"), 422, "subCategory is missing"),
            (&without("eventName"), 422, "eventName is missing"),
            (&one(r#","accountId":1"#), 422, "accountId is not a string"),
            (&one(r#","accountId":"""#), 400, "accountId is empty"),
            (&one(&format!(r#","accountId":"{}""#, "x".repeat(257))), 400, "accountId too long"),
            (&one(r#","userId":{}"#), 422, "userId is not a string"),
            (&one(r#","userId":"""#), 400, "userId is empty"),
            (&one(&format!(r#","eventName":"{}""#, "x".repeat(21))), 400, "Max length is 20"),
            (&one(r#","eventTimestamp":5"#), 422, "eventTimestamp is not a string"),
            (&one(&format!(r#","eventTimestamp":"{}""#, "x".repeat(65))), 400, "too long"),
            (&one(r#","data":[]"#), 422, "data is not an object"),
            (&one(r#","data":"{}""#), 422, "data is not an object"),
            (&deep, 400, "nested deeper"),
            (&large, 413, "1032 bytes"),
            (r#"{"batch":{}}"#, 422, "batch is not a list"),
            (&batch(&["1"]), 422, "batch[0]: the event is not an object"),
            (&batch(&[&good, "{}"]), 422, "batch[1]: accountId is missing"),
            (&batch(&[&good, &good, "{}"]), 400, "Batch size (3) exceeds limit (2)"),
        ] {
            let refusal = read(body).map(|_| ()).expect_err(body);
            assert_eq!(refusal.status, status, "{body}: {}", refusal.text);
            assert!(refusal.text.contains(part), "{body}: {}", refusal.text);
        }
        assert_eq!(read(&batch(&[])).unwrap().len(), 0);
        assert_eq!(read(&batch(&[&good, &good])).unwrap().len(), 2);
    }

    #[test]
    fn an_event_is_put_together() {
        let start = r#"{"category":"c","subCategory":"s","eventName":"e","eventTimestamp":"#;
        let now = r#""2022-10-22T03:54:05+00:00""#;
        let all = [channels::account("a"), channels::user("a", "u")];
        for (more, rest, heard) in [
            ("", format!("{now}}}"), 1),
            (r#","data":null,"userId":null,"unknown":1"#, format!("{now}}}"), 1),
            (r#","data":{},"userId":"u""#, format!(r#"{now},"userId":"u"}}"#), 2),
            (r#","eventTimestamp":"then""#, r#""then"}"#.to_owned(), 1),
            (
                r#","data":{"type":1,"category":2,"subCategory":3,"eventName":4,"eventTimestamp":5,"\u0074ype":6,"x" : [ 1 ],"é\"":null,"userData":{"type":7}}"#,
                format!(r#"{now},"x":[ 1 ],"é\"":null,"userData":{{"type":7}}}}"#),
                1,
            ),
            // Who publishes says whose it is; without that the data may.
            (
                r#","userId":"u","data":{"userId":"v","x":1}"#,
                format!(r#"{now},"userId":"u","x":1}}"#),
                2,
            ),
            (r#","data":{"userId":"v"}"#, format!(r#"{now},"userId":"v"}}"#), 1),
        ] {
            let event = read(&one(more)).unwrap().remove(0);
            assert_eq!(event.channels, all[..heard], "{more}");
            assert_eq!(
                std::str::from_utf8(&event.data.0),
                Ok(&*format!("{start}{rest}")),
                "{more}"
            );
            let mut out = Vec::new();
            assert!(splice("user", &event.data, &mut out));
            assert!(out.starts_with(br#"{"type":"userevent","category":"c","#));
            assert!(json::parse(&out).is_ok());
        }
    }

    #[test]
    fn a_publish_to_a_bridged_channel_goes_there_instead() {
        let body = |category: &str, channel: &str| {
            format!(
                r#"{{"accountId":"a","userId":"u","category":"{category}","subCategory":"{channel}","eventName":"e","data":{{ "type":1}}}}"#
            )
        };
        let event = read(&body("channel", "hello")).unwrap().remove(0);
        assert_eq!((&*event.name, &event.data.0[..]), ("e", &br#"{ "type":1}"#[..]));
        assert_eq!(event.channels, ["hello".into()]);
        for body in [body("channel", "hell"), body("channels", "hello")] {
            assert_eq!(read(&body).unwrap().remove(0).channels[0], channels::account("a"));
        }
    }

    #[test]
    fn events_of_bridged_channels_are_shown_to_accounts() {
        let event = |happening| Event {
            channel: Channel { app: AppIndex(0), name: "hello".into() },
            serial: Serial(1),
            at: WALL,
            arrived: Nanos(0),
            epoch: None,
            id: Default::default(),
            meta: None,
            tags: Tags::default(),
            guarded: false,
            happening,
        };
        let start = r#"{"type":"accountevent","category":"channel","subCategory":"hello","eventName":"greeting","eventTimestamp":"2022-10-22T03:54:05+00:00""#;
        for (data, rest) in [
            ("{}", "}"),
            (r#"{"x":1,"type":"y","eventName":"z"}"#, r#","x":1}"#),
            (r#""{\"x\":{\"y\":\"\\\"\"}}""#, r#","x":{"y":"\""}}"#),
            (r#""{}""#, "}"),
            (r#""[1]""#, r#","data":"[1]"}"#),
            (r#""text""#, r#","data":"text"}"#),
            (r#""""#, r#","data":""}"#),
            ("null", r#","data":null}"#),
            ("[1]", r#","data":[1]}"#),
            ("5", r#","data":5}"#),
        ] {
            let happening = Happening::Message {
                name: "greeting".into(),
                data: Payload(Bytes::copy_from_slice(data.as_bytes())),
                sender: None,
            };
            let (event, mut out) = (event(happening), Vec::new());
            assert!(render_account(&event, &mut out));
            assert_eq!(std::str::from_utf8(&out), Ok(&*format!("{start}{rest}")), "{data}");
            assert!(json::parse(&out).is_ok());
            assert!(!render_user(&event, &mut out));
        }
        let mut out = Vec::new();
        for happening in
            [Happening::SubscriptionCount(1), Happening::Control(crate::broker::Control::Terminate)]
        {
            assert!(!render_account(&event(happening.clone()), &mut out));
            assert!(!render_user(&event(happening), &mut out));
        }
        assert!(out.is_empty());
    }
}
