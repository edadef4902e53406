use std::sync::Arc;

use super::*;
use crate::base::time::{Nanos, UnixMillis};
use crate::push::credential::Credential;
use crate::push::template::Text;

const NOW: Now = Now { steady: Nanos(1), wall: UnixMillis(1_700_000_000_000) };

fn parcel(message: Message) -> Parcel {
    let material = Material::Hms { app_id: "104".into(), client_secret: "s&1".into() };
    let credential = Credential::new("a", "default", 1, material);
    Parcel {
        app: "a".into(),
        publish_id: "p".into(),
        provider: Provider::Hms,
        credential: Some(Arc::new(credential)),
        address: Address::Recipient(Recipient::Hms { token: "t1".into() }),
        message: Arc::new(message),
        expires_at: Some(NOW.wall.0 + 90_999),
        is_logged: false,
    }
}

#[test]
fn access_is_exchanged_for_id_and_secret() {
    let parcel = parcel(Message::default());
    let Access::Exchange(request) = Hms.access(&parcel, &ProviderUrls::real(), NOW).unwrap() else {
        panic!("it is exchanged");
    };
    assert_eq!(request.url, "https://oauth-login.cloud.huawei.com/oauth2/v3/token");
    let wanted = "grant_type=client_credentials&client_id=104&client_secret=s%261";
    assert_eq!(request.body, wanted);
}

#[test]
fn messages_are_those_of_the_api() {
    let text = |it: &str| Some(it.to_owned());
    let all = Text {
        title: text("T"),
        body: text("B"),
        icon: text("https://x/i"),
        sound: text("/raw/s"),
        collapse_key: text("k"),
    };
    let data = r#"{"a":1}"#.to_owned();
    let silent = Message { data: data.clone(), ..Message::default() };
    let raw = |raw: &str| Message { raw: raw.into(), ..Message::default() };
    for (message, wanted) in [
        (
            Message { text: all, data, ..Message::default() },
            r#"{"message":{"notification":{"title":"T","body":"B","image":"https://x/i"},"data":"{\"a\":1}","android":{"ttl":"90s","notification":{"click_action":{"type":3},"sound":"/raw/s","tag":"k"}},"token":["t1"]}}"#,
        ),
        (silent, r#"{"message":{"data":"{\"a\":1}","android":{"ttl":"90s"},"token":["t1"]}}"#),
        (
            raw(r#"{"validate_only":false,"message":{"data":"x","token":["another"]}}"#),
            r#"{"validate_only":false,"message":{"data":"x","token":["t1"]}}"#,
        ),
        (raw(r#"{"data":"x"}"#), r#"{"message":{"data":"x","token":["t1"]}}"#),
    ] {
        let parcel = parcel(message);
        let urls = ProviderUrls::real();
        let request = Hms.request(&parcel, "Bearer x", &urls, &[0; 32], NOW).unwrap();
        assert_eq!(request.url, "https://push-api.cloud.huawei.com/v1/104/messages:send");
        assert_eq!(std::str::from_utf8(&request.body), Ok(wanted));
    }
    let topic = Parcel { address: Address::Topic("x".into()), ..parcel(Message::default()) };
    let refused = Hms.request(&topic, "", &ProviderUrls::real(), &[0; 32], NOW).unwrap_err();
    assert_eq!(refused.verdict, Verdict::Refused);
}

#[test]
fn answers_mean_what_the_documentation_says() {
    let said = |code: &str| format!(r#"{{"code":"{code}","msg":"said","requestId":"r1"}}"#);
    for (status, body, verdict) in [
        (200, said("80000000"), Verdict::Taken),
        (200, r#"{"code":80000000,"requestId":"r1"}"#.into(), Verdict::Taken),
        (200, said("80100000"), Verdict::Unfit),
        (200, said("80300007"), Verdict::Unfit),
        (400, said("80300007"), Verdict::Unfit),
        (200, said("80100003"), Verdict::Refused),
        (400, said("80100001"), Verdict::Refused),
        (200, said("80300008"), Verdict::Refused),
        (401, said("80200001"), Verdict::Unauthorized),
        (200, said("80200003"), Verdict::Unauthorized),
        (200, said("80300002"), Verdict::Unauthorized),
        (500, said("81000001"), Verdict::Unavailable),
        (200, said("80600003"), Verdict::Unavailable),
        (503, said("1"), Verdict::Throttled),
        (429, String::new(), Verdict::Throttled),
        (503, String::new(), Verdict::Throttled),
        (502, "<html>".into(), Verdict::Unavailable),
        (401, String::new(), Verdict::Unauthorized),
        (404, String::new(), Verdict::Refused),
        (200, String::new(), Verdict::Taken),
    ] {
        let read =
            Hms.read(&Answered { status, fields: Vec::new(), body: body.clone().into() }, NOW);
        assert_eq!((read.verdict, read.status), (verdict, status), "{status} {body}");
        assert_eq!(read.reason.is_none(), verdict == Verdict::Taken);
        let wanted = (verdict == Verdict::Taken && !body.is_empty()).then_some("r1");
        assert_eq!(read.message_id.as_deref(), wanted);
    }
}

#[test]
fn credentials_that_are_none_are_refused_by_name() {
    for (app_id, client_secret, word) in
        [("104", "s", ""), ("", "s", "app id"), ("1/2", "s", "app id"), ("104", "", "secret")]
    {
        let material = Material::Hms { app_id: app_id.into(), client_secret: client_secret.into() };
        let error = Hms.check(&material).err().unwrap_or_default();
        assert_eq!(error.is_empty(), word.is_empty());
        assert!(error.contains(word), "{error}");
    }
}
