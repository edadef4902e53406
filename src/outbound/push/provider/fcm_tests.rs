use std::sync::Arc;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{self, KeyPair, UnparsedPublicKey};

use super::super::sign::any_base64;
use super::*;
use crate::base::time::{Nanos, UnixMillis};
use crate::push::credential::Credential;
use crate::push::template::Text;
use crate::wire::base64;

const NOW: Now = Now { steady: Nanos(1), wall: UnixMillis(1_700_000_000_000) };

fn account_with(key: &str) -> String {
    Object::new()
        .text("type", "service_account")
        .text("project_id", "project-1")
        .text("private_key_id", "k1")
        .text("private_key", key)
        .text("client_email", "push@project-1.example")
        .text("token_uri", "https://oauth2.example/token")
        .end()
}

fn parcel(service_account: String, message: Message, address: Address) -> Parcel {
    let material = Material::Fcm { service_account };
    let credential = Credential::new("a", "default", 1, material);
    Parcel {
        app: "a".into(),
        publish_id: "p".into(),
        provider: Provider::Fcm,
        credential: Some(Arc::new(credential)),
        address,
        message: Arc::new(message),
        expires_at: Some(NOW.wall.0 + 90_999),
        is_logged: false,
    }
}

fn device() -> Address {
    Address::Recipient(Recipient::Fcm { token: "t\"1".into() })
}

fn full() -> Message {
    let text = |it: &str| Some(it.to_owned());
    Message {
        text: Text {
            title: text("Order \"1\""),
            body: text("packed"),
            icon: text("https://x.example/i.png"),
            sound: text("default"),
            collapse_key: text("order"),
        },
        data: r#"{"id":"o1","n":2,"o":{"a":[true]},"z":null}"#.into(),
        ..Message::default()
    }
}

#[test]
fn access_is_exchanged_for_a_signed_assertion() {
    let pair = rsa::KeyPair::generate(rsa::KeySize::Rsa2048).unwrap();
    let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
    let mut text = vec![b'='; der.as_ref().len().div_ceil(3) * 4];
    base64::fill(&mut text, der.as_ref());
    let text = String::from_utf8(text).unwrap();
    let key = format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n");
    let parcel = parcel(account_with(&key), full(), device());
    let material = &parcel.credential.as_ref().unwrap().material;
    assert_eq!(Fcm.check(material), Ok(()));
    let Access::Exchange(request) = Fcm.access(&parcel, &ProviderUrls::real(), NOW).unwrap() else {
        panic!("it is exchanged");
    };
    assert_eq!(request.url, "https://oauth2.example/token");
    let body = std::str::from_utf8(&request.body).unwrap();
    let assertion = body.strip_prefix(
        "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=",
    );
    let (signed, signature) = assertion.unwrap().rsplit_once('.').unwrap();
    let public = pair.public_key().as_ref().to_vec();
    let public = UnparsedPublicKey::new(&signature::RSA_PKCS1_2048_8192_SHA256, public);
    let signature = any_base64(signature).unwrap();
    assert!(public.verify(signed.as_bytes(), &signature).is_ok());
    let (head, claims) = signed.split_once('.').unwrap();
    assert_eq!(any_base64(head).unwrap(), br#"{"alg":"RS256","typ":"JWT","kid":"k1"}"#);
    let claims = String::from_utf8(any_base64(claims).unwrap()).unwrap();
    assert_eq!(
        claims,
        r#"{"iss":"push@project-1.example","scope":"https://www.googleapis.com/auth/firebase.messaging","aud":"https://oauth2.example/token","iat":1700000000,"exp":1700003600}"#
    );
}

#[test]
fn service_accounts_that_are_none_are_refused_by_name() {
    let without = |name: &str| account_with("key").replace(name, "else");
    for (service_account, word) in [
        (String::new(), "no JSON object"),
        ("[]".into(), "no JSON object"),
        (without("project_id"), "no project_id"),
        (without("client_email"), "no client_email"),
        (account_with(""), "no private_key"),
        (account_with("key"), "private_key: it is no private key"),
        (
            account_with("key").replace("project-1\",\"private_key_id", "a/b\",\"private_key_id"),
            "project_id is none",
        ),
        (account_with("key").replace("https://oauth2", "file://oauth2"), "token_uri"),
    ] {
        let error = Fcm.check(&Material::Fcm { service_account }).unwrap_err();
        assert!(error.contains(word), "{error}: {word}");
    }
    let other = Material::Hms { app_id: "1".into(), client_secret: "s".into() };
    assert!(Fcm.check(&other).is_err());
}

fn body(message: Message, address: Address) -> String {
    let parcel = parcel(account_with("key"), message, address);
    let request = Fcm.request(&parcel, "Bearer x", &ProviderUrls::real(), &[0; 32], NOW).unwrap();
    assert_eq!(request.url, "https://fcm.googleapis.com/v1/projects/project-1/messages:send");
    assert_eq!(request.fields[0], ("authorization", "Bearer x".to_owned()));
    String::from_utf8(request.body.to_vec()).unwrap()
}

#[test]
fn messages_are_those_of_the_api() {
    let raw = |text: &str| Message { raw: text.into(), ..full() };
    let data = Message { data: r#"{"a":"b"}"#.into(), ..Message::default() };
    for (message, address, wanted) in [
        (
            full(),
            device(),
            r#"{"message":{"notification":{"title":"Order \"1\"","body":"packed","image":"https://x.example/i.png"},"data":{"id":"o1","n":"2","o":"{\"a\":[true]}"},"android":{"collapse_key":"order","ttl":"90s","notification":{"sound":"default"}},"token":"t\"1"}}"#,
        ),
        (
            data,
            Address::Topic("/topics/news".into()),
            r#"{"message":{"data":{"a":"b"},"android":{"ttl":"90s"},"topic":"news"}}"#,
        ),
        (
            raw(
                r#"{"validate_only":true,"message":{"apns":{"a":1},"token":"another","topic":"x"}}"#,
            ),
            Address::Condition("'a' in topics".into()),
            r#"{"validate_only":true,"message":{"apns":{"a":1},"condition":"'a' in topics"}}"#,
        ),
        (
            raw(r#"{"webpush":{"headers":{"TTL":"1"}}}"#),
            device(),
            r#"{"message":{"webpush":{"headers":{"TTL":"1"}},"token":"t\"1"}}"#,
        ),
    ] {
        assert_eq!(body(message, address), wanted);
    }
    let rendered = Fcm.rendered(&full());
    assert!(!rendered.contains("token") && !rendered.contains("ttl"), "{rendered}");
}

#[test]
fn answers_mean_what_the_documentation_says() {
    let error = |status: &str, code: &str| {
        format!(
            r#"{{"error":{{"code":1,"message":"said","status":"{status}","details":[{{"@type":"type.googleapis.com/google.firebase.fcm.v1.FcmError","errorCode":"{code}"}}]}}}}"#
        )
    };
    let bad_token = r#"{"error":{"code":400,"message":"The registration token is not a valid FCM registration token","status":"INVALID_ARGUMENT","details":[{"errorCode":"INVALID_ARGUMENT"}]}}"#;
    let bad_field = r#"{"error":{"status":"INVALID_ARGUMENT","details":[{"fieldViolations":[{"field":"message.token","description":"Invalid registration token"}]}]}}"#;
    let device_quota = r#"{"error":{"status":"RESOURCE_EXHAUSTED","details":[{"errorCode":"QUOTA_EXCEEDED"},{"violations":[{"subject":"device:1"}]}]}}"#;
    for (status, body, verdict) in [
        (200, r#"{"name":"projects/p/messages/1"}"#.to_owned(), Verdict::Taken),
        (404, error("NOT_FOUND", "UNREGISTERED"), Verdict::Gone),
        (404, error("NOT_FOUND", ""), Verdict::Refused),
        (404, "<html>".into(), Verdict::Refused),
        (400, bad_token.into(), Verdict::Unfit),
        (400, bad_field.into(), Verdict::Unfit),
        (400, error("INVALID_ARGUMENT", "INVALID_ARGUMENT"), Verdict::Refused),
        (403, error("PERMISSION_DENIED", "SENDER_ID_MISMATCH"), Verdict::Unfit),
        (403, r#"{"error":{"status":"PERMISSION_DENIED"}}"#.into(), Verdict::Unauthorized),
        (401, r#"{"error":{"status":"UNAUTHENTICATED"}}"#.into(), Verdict::Unauthorized),
        (401, error("UNAUTHENTICATED", "THIRD_PARTY_AUTH_ERROR"), Verdict::Refused),
        (401, String::new(), Verdict::Unauthorized),
        (429, error("RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED"), Verdict::Throttled),
        (429, device_quota.into(), Verdict::Unavailable),
        (429, "{".into(), Verdict::Throttled),
        (503, error("UNAVAILABLE", "UNAVAILABLE"), Verdict::Unavailable),
        (500, error("INTERNAL", "INTERNAL"), Verdict::Unavailable),
        (502, "<html>".into(), Verdict::Unavailable),
        (413, String::new(), Verdict::Refused),
    ] {
        let read =
            Fcm.read(&Answered { status, fields: Vec::new(), body: body.clone().into() }, NOW);
        assert_eq!((read.verdict, read.status), (verdict, status), "{status} {body}");
        let paused = (verdict == Verdict::Throttled).then_some(PAUSE);
        assert_eq!(read.retry_after, paused, "{body}");
        match verdict {
            Verdict::Taken => {
                assert_eq!(read.message_id.as_deref(), Some("projects/p/messages/1"));
            }
            _ => assert!(read.reason.is_some_and(|it| !it.is_empty())),
        }
    }
    let fields = vec![("retry-after".to_owned(), "Tue, 14 Nov 2023 22:13:29 GMT".to_owned())];
    let read = Fcm.read(&Answered { status: 429, fields, body: Vec::new() }, NOW);
    assert_eq!(read.retry_after, Some(Millis(9000)));
}

#[test]
fn access_is_read_or_why_there_is_none() {
    for (status, body, wanted) in [
        (
            200,
            r#"{"access_token":"ya29.x","expires_in":3599,"token_type":"Bearer"}"#,
            Ok(("Bearer ya29.x", 3_599_000)),
        ),
        (200, r#"{"access_token":"x","expires_in":"60"}"#, Ok(("Bearer x", 60_000))),
        (200, r#"{"access_token":"x"}"#, Ok(("Bearer x", 600_000))),
        (200, r#"{"access_token":"a b"}"#, Err(Verdict::Unavailable)),
        (200, r#"{"access_token":""}"#, Err(Verdict::Unavailable)),
        (200, "ok", Err(Verdict::Unavailable)),
        (400, r#"{"error":"invalid_grant"}"#, Err(Verdict::Unauthorized)),
        (401, "", Err(Verdict::Unauthorized)),
        (429, "", Err(Verdict::Throttled)),
        (503, "", Err(Verdict::Unavailable)),
    ] {
        let answered = Answered { status, fields: Vec::new(), body: body.into() };
        let read = Fcm.read_access(&answered, NOW);
        let read = read.as_ref().map(|(text, lasts)| (text.as_str(), lasts.0));
        assert_eq!(read.map_err(|it| it.verdict), wanted, "{status} {body}");
    }
}
