use super::*;
use crate::auth::source::TokenSettings;
use crate::config::App as AppSettings;

fn route(has_upstream: bool, change: impl FnOnce(&mut Settings)) -> Publishing {
    let mut config = Config::development();
    let tight = AppSettings {
        bridge: vec!["hello".into(), "#no".into()],
        event_name_bytes_max: 20,
        event_payload_bytes_max: 40,
        event_channels_max: 3,
        ..AppSettings::development()
    };
    config.apps = vec![tight];
    let apps = Arc::new(Apps::new(&config.apps));
    let app = apps.with_id(&config.apps[0].id).unwrap().clone();
    let mut source = Source::new("mastodon", &TokenSettings::default(), None);
    source.has_upstream = has_upstream;
    let mut settings = Settings::of(&config);
    change(&mut settings);
    Publishing::new(&config, apps, app, Arc::new(source), &settings)
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
            format!("{} {} {}", it.channel.name, it.name, text(&it.data.0))
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
    let route = route(false, |_| {});
    for (body, expected) in [
        (
            r#"{"event":"update","payload":{"id":"1"},"channels":["timeline:public","timeline:1","timeline:public"]}"#,
            &[r##"#timeline:public update {"id":"1"}"##, r##"#timeline:1 update {"id":"1"}"##][..],
        ),
        (
            r#"{"event":"delete","payload":"7","channels":["timeline:hashtag:größe:local"]}"#,
            &[r##"#timeline:hashtag:größe:local delete "7""##],
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
    let asked = self::route(false, |it| it.sends_filters_changed = true);
    assert_eq!(publish(&asked, body).unwrap(), ["#timeline:7 filters_changed null"]);
}

#[test]
fn where_mastodons_servers_are_followed_events_go_that_way() {
    let route = route(true, |_| {});
    let body = r#"{"event":"update","payload":{"id":"1"},"channels":["timeline:public","hello","timeline:1"]}"#;
    assert_eq!(
        publish(&route, body).unwrap(),
        [
            r#"hello update {"id":"1"}"#,
            r#"timeline:public+timeline:1 {"event":"update","payload":{"id":"1"}}"#
        ]
    );
    let body = r#"{"event":"kill","channels":["timeline:access_token:3","timeline:system:1"]}"#;
    let expected = r#"timeline:access_token:3+timeline:system:1 {"event":"kill"}"#;
    assert_eq!(publish(&route, body).unwrap(), [expected]);
}

#[test]
fn what_makes_no_sense_is_refused_and_nothing_is_published() {
    let route = route(false, |_| {});
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
        (event("\"x\"", &format!("\"{}\"", "x".repeat(39)), "[\"hello\"]"), 413, "41 bytes"),
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
        (to("timeline:hashtag:a b"), 400, "no stream is made of"),
        (to("timeline:list:ann"), 400, "no stream is made of"),
        (to("timeline:1:device"), 400, "no stream is made of"),
        (to("timeline:access_token:1"), 400, "timeline:system:ACCOUNT"),
        (to(&format!("timeline:hashtag:{}", "x".repeat(200))), 400, "Max length is 200"),
        (event("\"update\"", "null", "[\"timeline:1\"]"), 422, "payload is missing or empty"),
        (event("\"update\"", "0", "[\"timeline:1\"]"), 422, "payload is missing or empty"),
        (event("\"update\"", "\"{}\"", "[\"timeline:public\"]"), 422, "wants a whole status"),
        (event("\"status.update\"", "1", "[\"timeline:hashtag:a\"]"), 422, "a whole status"),
        (event("\"update\"", "1", "[\"timeline:system:1\"]"), 400, "kill and filters_changed"),
        (event("\"kill\"", "1", "[\"timeline:system:1\"]"), 422, "the id of a token"),
        (format!("{{\"batch\":[{},{}]}}", to("hello"), to("b")), 400, "batch[1]: b is no channel"),
    ] {
        let (given, why) = publish(&route, &body).expect_err(&body);
        assert_eq!(given, status, "{body}: {why}");
        assert!(why.contains(text), "{body}: {why}");
    }
}
