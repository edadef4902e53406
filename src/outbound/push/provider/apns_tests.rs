use std::sync::Arc;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
    UnparsedPublicKey,
};

use super::*;
use crate::base::time::{Nanos, UnixMillis};
use crate::push::credential::Credential;
use crate::push::template::Text;
use crate::wire::base64::{self, Alphabet};

const NOW: Now = Now { steady: Nanos(1), wall: UnixMillis(1_700_000_000_000) };
const TOKEN: &str = "a9f0";

fn key() -> (String, Vec<u8>) {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let der = pair.to_pkcs8v1().unwrap();
    let mut text = String::new();
    base64::encode(&mut text, der.as_ref(), Alphabet::Standard);
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n");
    (pem, pair.public_key().as_ref().to_vec())
}

fn token_material(private_key: &str, topic: &str, is_sandbox: bool) -> Material {
    Material::ApnsToken {
        team_id: "TEAM".into(),
        key_id: "KEY".into(),
        private_key: private_key.into(),
        topic: topic.into(),
        is_sandbox,
    }
}

fn parcel(material: Material, recipient: Recipient, message: Message) -> Parcel {
    let credential = Credential::new("a", "default", 1, material);
    Parcel {
        app: "a".into(),
        publish_id: "p".into(),
        provider: Provider::Apns,
        credential: Some(Arc::new(credential)),
        address: Address::Recipient(recipient),
        message: Arc::new(message),
        expires_at: None,
        is_logged: false,
    }
}

fn device() -> Recipient {
    Recipient::Apns { token: TOKEN.into() }
}

fn live() -> Recipient {
    Recipient::ApnsLiveActivity { token: TOKEN.into() }
}

fn text(it: &str) -> Option<String> {
    Some(it.to_owned())
}

fn asked(parcel: &Parcel) -> Result<Request, Delivered> {
    Apns.request(parcel, "bearer x", &ProviderUrls::real(), &[0xff; 32], NOW)
}

fn field<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    request.fields.iter().find(|(it, _)| *it == name).map(|(_, value)| value.as_str())
}

#[test]
fn a_token_is_signed_by_the_key_and_says_when() {
    let (pem, public) = key();
    let parcel = parcel(token_material(&pem, "org.x", false), device(), Message::default());
    let access = Apns.access(&parcel, &ProviderUrls::real(), NOW).unwrap();
    let Access::Signed(token, lasts) = access else { panic!("it is signed") };
    assert!((Millis(20 * 60_000)..Millis(60 * 60_000)).contains(&lasts));
    let token = token.strip_prefix("bearer ").unwrap();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let (head, claims) = signed.split_once('.').unwrap();
    let opened = |part: &str| base64::decode(part.as_bytes(), Alphabet::Url).unwrap();
    assert_eq!(opened(head), br#"{"alg":"ES256","kid":"KEY"}"#);
    assert_eq!(opened(claims), br#"{"iss":"TEAM","iat":1700000000}"#);
    let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, public);
    assert!(public.verify(signed.as_bytes(), &opened(signature)).is_ok());
}

#[test]
fn a_message_is_what_the_documentation_says() {
    let said = |title, body: Option<&str>| Text {
        title: text(title),
        body: body.map(str::to_owned),
        ..Text::default()
    };
    let all = Text {
        icon: text("https://x/i"),
        sound: text("default"),
        collapse_key: text("k"),
        ..said("T\"", Some("B"))
    };
    let data = r#"{"a":1}"#.to_owned();
    let raw = |raw: &str| Message { raw: raw.into(), ..Message::default() };
    for (message, push_type, priority, collapse, wanted) in [
        (
            Message { text: all, data: data.clone(), ..Message::default() },
            "alert",
            "10",
            Some("k"),
            r#"{"icon":"https://x/i","aps":{"alert":{"title":"T\"","body":"B"},"sound":"default","mutable-content":1},"data":{"a":1}}"#,
        ),
        (
            Message { text: said("T", None), ..Message::default() },
            "alert",
            "10",
            None,
            r#"{"aps":{"alert":{"title":"T"}}}"#,
        ),
        (
            Message { data, ..Message::default() },
            "background",
            "5",
            None,
            r#"{"aps":{"content-available":1},"data":{"a":1}}"#,
        ),
        (
            raw(r#"{"aps":{"badge":0},"x":[]}"#),
            "alert",
            "10",
            None,
            r#"{"aps":{"badge":0},"x":[]}"#,
        ),
        (
            raw(
                r#"{"headers":{"apns-push-type":"background","apns-priority":5,"apns-collapse-id":"c"},"aps":{"alert":"x"}}"#,
            ),
            "background",
            "5",
            Some("c"),
            r#"{"aps":{"alert":"x"}}"#,
        ),
        (
            raw(
                r#"{"headers":{"apns-collapse-id":null,"apns-priority":null},"aps":{"alert":"x"}}"#,
            ),
            "alert",
            "10",
            None,
            r#"{"aps":{"alert":"x"}}"#,
        ),
    ] {
        let parcel = parcel(token_material("", "org.x", false), device(), message);
        let request = asked(&parcel).unwrap();
        assert_eq!(request.url, "https://api.push.apple.com/3/device/a9f0");
        assert_eq!(std::str::from_utf8(&request.body), Ok(wanted));
        assert_eq!(field(&request, "apns-push-type"), Some(push_type), "{wanted}");
        assert_eq!(field(&request, "apns-priority"), Some(priority), "{wanted}");
        assert_eq!(field(&request, "apns-collapse-id"), collapse, "{wanted}");
        assert_eq!(field(&request, "apns-topic"), Some("org.x"));
        assert_eq!(field(&request, "authorization"), Some("bearer x"));
        assert_eq!(field(&request, "apns-id"), Some("ffffffff-ffff-4fff-bfff-ffffffffffff"));
        assert_eq!(field(&request, "apns-expiration"), None);
        assert!(request.is_http2);
    }
}

#[test]
fn a_head_holds_what_fits_it() {
    let long = "x".repeat(65);
    for (key, is_kept) in
        [("k", true), (&long[..64], true), (&long, false), ("a b", false), ("\u{e9}", false)]
    {
        let id = collapse_id(key);
        assert_eq!(id == key, is_kept, "{key}");
        assert!(id.len() <= COLLAPSE_BYTES_MAX && id.bytes().all(|it| it.is_ascii_graphic()));
        assert_eq!(id, collapse_id(key));
    }
    let message = Message {
        raw: r#"{"headers":{"apns-push-type":"a\r\nb"},"aps":{}}"#.into(),
        ..Message::default()
    };
    let with_lines = parcel(token_material("", "org.x", false), device(), message);
    assert_eq!(field(&asked(&with_lines).unwrap(), "apns-push-type"), Some("alert"));
    let sandbox = parcel(token_material("", "org.x", true), device(), Message::default());
    let sandbox = Parcel { expires_at: Some(NOW.wall.0 + 1_999), ..sandbox };
    let request = asked(&sandbox).unwrap();
    assert_eq!(request.url, "https://api.sandbox.push.apple.com/3/device/a9f0");
    assert_eq!(field(&request, "apns-expiration"), Some("1700000001"));
}

#[test]
fn live_activities_are_said_in_either_spelling() {
    for (said, wanted) in [
        (
            r#"{"event":"end","contentState":{"a":1},"dismissalDate":5,"timestamp":7}"#,
            r#"{"aps":{"event":"end","content-state":{"a":1},"dismissal-date":5,"timestamp":7,"alert":{"title":"T"}}}"#,
        ),
        (
            r#"{"content-state":{},"alert":{"title":"x"}}"#,
            r#"{"aps":{"content-state":{},"alert":{"title":"x"},"event":"update","timestamp":1700000000}}"#,
        ),
        (
            r#"{"aps":{"event":"start","attributes_type":"A","attributes":{},"content_state":{}},"more":1}"#,
            r#"{"more":1,"aps":{"event":"start","attributes-type":"A","attributes":{},"content-state":{},"timestamp":1700000000,"alert":{"title":"T"}}}"#,
        ),
    ] {
        let message = Message {
            text: Text { title: text("T"), ..Text::default() },
            live_activity: said.into(),
            ..Message::default()
        };
        let request = asked(&parcel(token_material("", "org.x", false), live(), message)).unwrap();
        assert_eq!(std::str::from_utf8(&request.body), Ok(wanted));
        assert_eq!(field(&request, "apns-topic"), Some("org.x.push-type.liveactivity"));
        assert_eq!(field(&request, "apns-push-type"), Some("liveactivity"));
    }
    let nothing = asked(&parcel(token_material("", "org.x", false), live(), Message::default()));
    assert_eq!(nothing.unwrap_err().verdict, Verdict::Refused);
}

#[test]
fn a_broadcast_goes_to_a_channel() {
    for (storage_policy, expires_at, until) in [
        (None, Some(NOW.wall.0 + 60_000), "0"),
        (Some(0), None, "0"),
        (Some(1), None, "1700028800"),
        (Some(1), Some(NOW.wall.0 + 60_000), "1700000060"),
    ] {
        let to = Recipient::ApnsBroadcast { channel_id: "ch+/=".into(), storage_policy };
        let message = Message { live_activity: "{}".into(), ..Message::default() };
        let parcel = parcel(token_material("", "org.x", false), to, message);
        let request = asked(&Parcel { expires_at, ..parcel }).unwrap();
        assert_eq!(request.url, "https://api.push.apple.com/4/broadcasts/apps/org.x");
        assert_eq!(field(&request, "apns-channel-id"), Some("ch+/="));
        assert_eq!(field(&request, "apns-expiration"), Some(until));
        assert_eq!(field(&request, "apns-topic"), None);
    }
}

#[test]
fn what_will_never_do_is_refused_by_name() {
    let large = |bytes| Message {
        raw: format!(r#"{{"aps":{{}},"x":"{}"}}"#, "x".repeat(bytes)),
        ..Message::default()
    };
    let material = || token_material("", "org.x", false);
    let none = Recipient::Apns { token: "not hex".into() };
    let fcm = Recipient::Fcm { token: "x".into() };
    let voip = Message {
        raw: format!(
            r#"{{"headers":{{"apns-push-type":"voip"}},"aps":{{}},"x":"{}"}}"#,
            "x".repeat(5000)
        ),
        ..Message::default()
    };
    for (parcel, refused) in [
        (parcel(material(), device(), large(4000)), None),
        (parcel(material(), device(), voip), None),
        (parcel(material(), device(), large(4096)), Some((Verdict::Refused, "PayloadTooLarge"))),
        (parcel(material(), none, Message::default()), Some((Verdict::Unfit, "BadDeviceToken"))),
        (
            parcel(token_material("", "", false), device(), Message::default()),
            Some((Verdict::Refused, "MissingTopic")),
        ),
        (
            parcel(material(), fcm, Message::default()),
            Some((Verdict::Refused, "this is no address of APNs")),
        ),
        (
            parcel(
                Material::Hms { app_id: String::new(), client_secret: String::new() },
                device(),
                Message::default(),
            ),
            Some((Verdict::Unauthorized, "these are no credentials for APNs")),
        ),
    ] {
        let got = asked(&parcel).err();
        let got = got.as_ref().map(|it| (it.verdict, it.reason.as_deref().unwrap_or_default()));
        assert_eq!(got, refused, "{:?}", parcel.address);
    }
}

#[test]
fn answers_mean_what_the_documentation_says() {
    for (status, reason, retry_after, verdict) in [
        (200, "", None, Verdict::Taken),
        (400, "BadDeviceToken", None, Verdict::Unfit),
        (410, "Unregistered", None, Verdict::Gone),
        (410, "ExpiredToken", None, Verdict::Gone),
        (410, "", None, Verdict::Gone),
        (404, "ChannelNotRegistered", None, Verdict::Gone),
        (400, "BadCollapseId", None, Verdict::Refused),
        (400, "DeviceTokenNotForTopic", None, Verdict::Unfit),
        (400, "TopicDisallowed", None, Verdict::Refused),
        (400, "PayloadEmpty", None, Verdict::Refused),
        (404, "BadPath", None, Verdict::Refused),
        (413, "PayloadTooLarge", None, Verdict::Refused),
        (403, "ExpiredProviderToken", None, Verdict::Unauthorized),
        (403, "InvalidProviderToken", None, Verdict::Unauthorized),
        (403, "BadCertificateEnvironment", None, Verdict::Unauthorized),
        (403, "", None, Verdict::Unauthorized),
        (429, "TooManyProviderTokenUpdates", None, Verdict::Throttled),
        (429, "TooManyRequests", None, Verdict::Unavailable),
        (429, "TooManyRequests", Some("3"), Verdict::Throttled),
        (429, "", None, Verdict::Throttled),
        (500, "InternalServerError", None, Verdict::Unavailable),
        (503, "Shutdown", None, Verdict::Unavailable),
        (400, "IdleTimeout", None, Verdict::Unavailable),
        (418, "", None, Verdict::Refused),
    ] {
        let body = match reason {
            "" => Vec::new(),
            reason => format!(r#"{{"reason":"{reason}"}}"#).into_bytes(),
        };
        let mut fields = vec![("apns-id".to_owned(), "id".to_owned())];
        fields.extend(retry_after.map(|it: &str| ("retry-after".to_owned(), it.to_owned())));
        let got = Apns.read(&Answered { status, fields, body }, NOW);
        assert_eq!(got.verdict, verdict, "{status} {reason}");
        assert_eq!(got.status, status);
        assert_eq!(got.message_id.is_some(), verdict == Verdict::Taken);
        assert_eq!(got.reason.is_some(), verdict != Verdict::Taken);
        assert_eq!(got.retry_after, retry_after.map(|_| Millis(3000)));
    }
}

#[test]
fn who_is_gone_is_so_since_a_moment() {
    for (status, body, gone_at) in [
        (410, r#"{"reason":"Unregistered","timestamp":1700000000000}"#, Some(1_700_000_000_000)),
        (410, r#"{"reason":"Unregistered"}"#, None),
        (410, r#"{"reason":"Unregistered","timestamp":"soon"}"#, None),
        (400, r#"{"reason":"BadDeviceToken","timestamp":1}"#, None),
    ] {
        let answered = Answered { status, fields: Vec::new(), body: body.into() };
        assert_eq!(Apns.read(&answered, NOW).gone_at, gone_at, "{body}");
    }
}

#[test]
fn credentials_are_looked_at() {
    let (pem, _) = key();
    for (material, is_good) in [
        (token_material(&pem, "org.x", false), true),
        (token_material(&pem, "", false), true),
        (token_material(&pem, "org x", false), false),
        (token_material("x", "org.x", false), false),
        (Material::Wns { package_sid: "x".into(), client_secret: "x".into() }, false),
        (
            Material::ApnsCertificate {
                p12: "x".into(),
                password: String::new(),
                topic: String::new(),
                is_sandbox: false,
            },
            false,
        ),
    ] {
        assert_eq!(Apns.check(&material).is_ok(), is_good, "{:?}", Apns.check(&material));
    }
}
