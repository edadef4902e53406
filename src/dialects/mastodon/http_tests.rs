use super::*;
use crate::auth::source::TokenSettings;
use crate::config::{App as AppSettings, DEVELOPMENT_ID};
use crate::dialects::mastodon::brief::Brief;
use crate::dialects::mastodon::rules::AccountRow;

fn route(has_upstream: bool, sends_filters_changed: bool) -> Publishing {
    let tight = AppSettings {
        bridge: vec!["hello".into(), "#no".into()],
        event_name_bytes_max: 20,
        event_payload_bytes_max: 60,
        event_channels_max: 3,
        ..AppSettings::development()
    };
    let apps = Arc::new(Apps::new(&[tight]));
    let app = apps.with_id(DEVELOPMENT_ID).unwrap().clone();
    let mut source = Source::new("mastodon", &TokenSettings::default(), None);
    source.has_upstream = has_upstream;
    let averse = AccountRow { id: "1".into(), mutes: vec!["9".into()], ..AccountRow::default() };
    Publishing {
        bridge: bridge(&app),
        signature_window: Millis(1),
        body_bytes_max: 1,
        sends_filters_changed,
        rules: Arc::new(Rules::new(&[averse], &[])),
        source: Arc::new(source),
        app,
        apps,
    }
}

/// What a body has published: channel, name and data of each; or the text and the status of its refusal.
fn publish(route: &Publishing, body: &str) -> Result<Vec<String>, (u16, String)> {
    let mut out = Vec::new();
    let app = route.app.clone();
    let read = route.read(&app, body.as_bytes(), Now::default(), &mut out);
    read.map_err(|it| (it.status, it.text.into_owned()))?;
    let text = |it: &Bytes| String::from_utf8(it.to_vec()).unwrap();
    let line = |it: &Output| match it {
        Output::Ask(_, Command::Publish(it)) => {
            assert!(!it.quiet, "each is answered");
            assert_eq!(
                it.ephemeral,
                it.channel.name.starts_with('#'),
                "timelines are kept elsewhere"
            );
            let is_judged = it.meta.as_ref().is_some_and(|it| it.brief.get::<Brief>().is_some());
            let judged = if is_judged { " judged" } else { "" };
            format!("{} {} {}{judged}", it.channel.name, it.name, text(&it.data.0))
        }
        Output::Inquire(_, Inquiry { what: What::Submit { channels, envelope }, .. }) => {
            let channels: Vec<_> = channels.iter().map(|it| &**it).collect();
            format!("{} {}", channels.join("+"), text(envelope))
        }
        other => panic!("{other:?}"),
    };
    Ok(out.iter().map(line).collect())
}

#[test]
fn events_go_where_they_say() {
    let route = route(false, false);
    for (body, expected) in [
        (
            r#"{"event":"update","payload":{"account":{"id":"9","acct":"a"}},"channels":["timeline:public","timeline:1","timeline:public"]}"#,
            &[
                r##"#timeline:public update {"account":{"id":"9","acct":"a"}} judged"##,
                r##"#timeline:1 update {"account":{"id":"9","acct":"a"}}"##,
            ][..],
        ),
        (
            r#"{"event":"delete","payload":"7","channels":["timeline:hashtag:Größe :local","timeline:hashtag:große:local"]}"#,
            &[r##"#timeline:hashtag:große:local delete "7""##],
        ),
        (
            r#"{"event":"update","payload":"x","channels":["timeline:list:5","timeline:direct:1"]}"#,
            &[r##"#timeline:list:5 update "x""##, r##"#timeline:direct:1 update "x""##],
        ),
        (
            r#"{"event":"notification","payload":{},"channels":["timeline:1:notifications"]}"#,
            &["#timeline:1:notifications notification {}"],
        ),
        (r#"{"event":"greeting","channels":["hello"]}"#, &["hello greeting null"]),
        (
            "{\"event\":\"x\",\"payload\":{\r\n\"a\":1\n},\"channels\":[\"hello\"]}",
            &["hello x {  \"a\":1 }"],
        ),
        (
            r#"{"batch":[{"event":"kill","channels":["timeline:system:7"]},{"event":"kill","payload":"12","channels":["timeline:system:7"]}]}"#,
            &["#timeline:system:7 kill null", r##"#timeline:system:7 kill "12""##],
        ),
        (
            r#"{"event":"filters_changed","channels":["timeline:system:7","timeline:7"]}"#,
            &["#timeline:system:7 filters_changed null"],
        ),
        (r#"{"batch":[]}"#, &[]),
    ] {
        assert_eq!(publish(&route, body).unwrap(), expected, "{body}");
    }
    let body = r#"{"event":"filters_changed","channels":["timeline:7"]}"#;
    let asked = self::route(false, true);
    assert_eq!(publish(&asked, body).unwrap(), ["#timeline:7 filters_changed null"]);
}

#[test]
fn where_mastodons_servers_are_followed_events_go_that_way() {
    let route = route(true, false);
    let body = r#"{"event":"update","payload":{"account":{"id":"9","acct":"a"}},"channels":["timeline:public","hello","timeline:1"]}"#;
    assert_eq!(
        publish(&route, body).unwrap(),
        [
            r#"hello update {"account":{"id":"9","acct":"a"}}"#,
            r#"timeline:public+timeline:1 {"event":"update","payload":{"account":{"id":"9","acct":"a"}}}"#
        ]
    );
    let body = r#"{"event":"kill","channels":["timeline:access_token:3","timeline:system:1"]}"#;
    let expected = r#"timeline:access_token:3+timeline:system:1 {"event":"kill"}"#;
    assert_eq!(publish(&route, body).unwrap(), [expected]);
}

#[test]
fn what_makes_no_sense_is_refused_and_nothing_is_published() {
    let route = route(false, false);
    let event = |event: &str, payload: &str, channels: &str| {
        format!(r#"{{"event":{event},"payload":{payload},"channels":{channels}}}"#)
    };
    let to = |channel: &str| event("\"x\"", "1", &format!("[\"{channel}\"]"));
    for (body, status, text) in [
        ("{".to_owned(), 400, "the body is"),
        ("[]".to_owned(), 422, "not an object"),
        ("{\"batch\":{}}".to_owned(), 422, "batch is not a list"),
        (event("1", "1", "[\"hello\"]"), 422, "event is missing"),
        (event("\"\"", "1", "[\"hello\"]"), 400, "event is empty"),
        (event("\"a\\n\\ndata: x\"", "1", "[\"hello\"]"), 400, "control characters"),
        (event(&format!("\"{}\"", "x".repeat(21)), "1", "[\"hello\"]"), 400, "Max length is 20"),
        (event("\"x\"", &format!("\"{}\"", "x".repeat(59)), "[\"hello\"]"), 413, "61 bytes"),
        (event("\"x\"", "1", "\"hello\""), 422, "channels is missing"),
        (event("\"x\"", "1", "[]"), 400, "channels is empty"),
        (event("\"x\"", "1", "[1]"), 422, "a channel is not a string"),
        (event("\"x\"", "1", "[\"a\",\"b\",\"c\",\"d\"]"), 400, "Max size is 3"),
        (to("elsewhere"), 400, "elsewhere is no channel of Mastodon's"),
        (to("#timeline:1"), 400, "no channel of Mastodon's"),
        (to("#no"), 400, "no channel of Mastodon's"),
        (to("timeline:"), 400, "no stream is made of timeline:"),
        (to("timeline:publicity"), 400, "no stream is made of"),
        (to("timeline:public:hashtag"), 400, "no stream is made of"),
        (to("timeline:user"), 400, "no stream is made of"),
        (to("timeline:hashtag:"), 400, "no stream is made of"),
        (to("timeline:hashtag:# :local"), 400, "no stream is made of"),
        (to("timeline:list:ann"), 400, "no stream is made of"),
        (to("timeline:1:device"), 400, "no stream is made of"),
        (to("timeline:access_token:1"), 400, "timeline:system:ACCOUNT"),
        (to(&format!("timeline:hashtag:{}", "x".repeat(200))), 400, "Max length is 200"),
        (event("\"update\"", "null", "[\"timeline:1\"]"), 422, "payload is missing or empty"),
        (event("\"update\"", "0", "[\"timeline:1\"]"), 422, "payload is missing or empty"),
        (event("\"update\"", "\"{}\"", "[\"timeline:public\"]"), 422, "wants a whole one"),
        (event("\"update\"", "{\"account\":null}", "[\"timeline:public\"]"), 422, "no status"),
        (event("\"status.update\"", "1", "[\"timeline:hashtag:a\"]"), 422, "wants a whole one"),
        (event("\"update\"", "1", "[\"timeline:system:1\"]"), 400, "kill and filters_changed"),
        (event("\"kill\"", "1", "[\"timeline:system:1\"]"), 422, "the id of a token"),
        (format!("{{\"batch\":[{},{}]}}", to("hello"), to("b")), 400, "batch[1]: b is no channel"),
    ] {
        let (given, why) = publish(&route, &body).expect_err(&body);
        assert_eq!(given, status, "{body}: {why}");
        assert!(why.contains(text), "{body}: {why}");
    }
}

#[test]
fn statuses_are_judged_by_the_settings() {
    let route = route(false, false);
    let app = route.app.clone();
    let hidden = |event: &str, author: &str| {
        let body = format!(
            r#"{{"event":"{event}","payload":{{"account":{{"id":"{author}","acct":"a"}}}},"channels":["timeline:hashtag:a"]}}"#
        );
        let mut out = Vec::new();
        route.read(&app, body.as_bytes(), Now::default(), &mut out).unwrap();
        let [Output::Ask(_, Command::Publish(publish))] = &out[..] else { panic!("{out:?}") };
        let brief = publish.meta.as_ref()?.brief.get::<Brief>()?;
        Some(brief.hidden_from.contains("1"))
    };
    assert_eq!(hidden("update", "9"), Some(true));
    assert_eq!(hidden("status.update", "8"), Some(false));
    assert_eq!(hidden("delete", "9"), None);
}
