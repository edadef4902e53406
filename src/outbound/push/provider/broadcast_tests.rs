use super::*;
use crate::base::time::{Nanos, UnixMillis};

const NOW: Now = Now { steady: Nanos(1), wall: UnixMillis(1_700_000_000_000) };

fn material(topic: &str) -> Material {
    Material::ApnsToken {
        team_id: "T".into(),
        key_id: "K".into(),
        private_key: String::new(),
        topic: topic.into(),
        is_sandbox: false,
    }
}

#[test]
fn a_request_is_what_the_documentation_says() {
    let id = || "a+/=".to_owned();
    for (what, method, resource, body, channel) in [
        (
            BroadcastWhat::Create(1),
            "POST",
            "channels",
            r#"{"message-storage-policy":1,"push-type":"LiveActivity"}"#,
            None,
        ),
        (BroadcastWhat::List, "GET", "all-channels", "", None),
        (BroadcastWhat::Read(id()), "GET", "channels", "", Some("a+/=")),
        (BroadcastWhat::Remove(id()), "DELETE", "channels", "", Some("a+/=")),
    ] {
        let urls = ProviderUrls::real();
        let request = request(&what, &material("org.x"), "bearer x", &urls, &[0; 32]).unwrap();
        assert_eq!(request.method, method);
        let server = "https://api-manage-broadcast.push.apple.com:2196";
        assert_eq!(request.url, format!("{server}/1/apps/org.x/{resource}"));
        assert_eq!(request.body, body);
        let field = request.fields.iter().find(|(name, _)| *name == "apns-channel-id");
        assert_eq!(field.map(|(_, value)| value.as_str()), channel);
    }
    for (what, material) in [
        (BroadcastWhat::List, material("")),
        (BroadcastWhat::List, material("a/b")),
        (BroadcastWhat::Read("a\r\nb".into()), material("org.x")),
        (BroadcastWhat::Remove(String::new()), material("org.x")),
    ] {
        let refused = request(&what, &material, "", &ProviderUrls::real(), &[0; 32]).unwrap_err();
        assert_eq!(refused.status, 400);
    }
}

#[test]
fn an_answer_says_what_there_is_or_why_not() {
    let answered = |status, fields: &[(&str, &str)], body: &str| Answered {
        status,
        fields: fields.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
        body: body.as_bytes().to_vec(),
    };
    let one = |id: &str, storage_policy| Broadcast { channel_id: id.into(), storage_policy };
    for (what, answered, told) in [
        (
            BroadcastWhat::Create(1),
            answered(201, &[("apns-channel-id", "c")], ""),
            Ok(Told::Broadcast(one("c", Some(1)))),
        ),
        (BroadcastWhat::Create(1), answered(201, &[], ""), Err(502)),
        (
            BroadcastWhat::List,
            answered(200, &[], r#"{"channels":["a","b"]}"#),
            Ok(Told::Broadcasts(vec![one("a", None), one("b", None)])),
        ),
        (BroadcastWhat::List, answered(200, &[], "x"), Err(502)),
        (
            BroadcastWhat::Read("c".into()),
            answered(200, &[], r#"{"message-storage-policy":0}"#),
            Ok(Told::Broadcast(one("c", Some(0)))),
        ),
        (BroadcastWhat::Remove("c".into()), answered(204, &[], ""), Ok(Told::Removed(1))),
        (
            BroadcastWhat::Remove("c".into()),
            answered(404, &[], r#"{"reason":"ChannelNotRegistered"}"#),
            Err(404),
        ),
        (BroadcastWhat::List, answered(403, &[], r#"{"reason":"InvalidProviderToken"}"#), Err(502)),
        (BroadcastWhat::List, answered(429, &[("retry-after", "1")], ""), Err(429)),
        (BroadcastWhat::List, answered(500, &[], ""), Err(503)),
        (BroadcastWhat::Create(7), answered(400, &[], r#"{"reason":"x"}"#), Err(400)),
    ] {
        assert_eq!(read(&what, &answered, NOW).map_err(|it| it.status), told, "{what:?}");
    }
}
