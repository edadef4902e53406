//! What comes from providers and goes to them: any answer means something, no reason or pause is without bounds, and any
//! message to any address is a request that can leave or is refused.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use ringmain::base::time::{Nanos, Now, UnixMillis};
use ringmain::outbound::push::provider::{
    self, Access, Address, Answered, Message, Parcel, ProviderUrls, SPEAKERS, Verdict,
};
use ringmain::push::Provider;
use ringmain::push::credential::{Credential, Material};
use ringmain::push::device::Recipient;
use ringmain::push::template::Text;
use ringmain::wire::json::{self, Kind};

const NOW: Now = Now { steady: Nanos(1), wall: UnixMillis(1_700_000_000_000) };
const REASON_BYTES_MAX: usize = 4096;
/// Source: RFC 8291, section 5.
const POINT: &str =
    "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4";

/// A byte, two texts, and the rest.
type Input<'a> = (u8, u16, &'a str, &'a str, &'a [u8]);

fn is_field(text: &str) -> bool {
    text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
}

fuzz_target!(|input: Input<'_>| {
    let (choice, status, one, two, body) = input;
    let speak = SPEAKERS[usize::from(choice) % SPEAKERS.len()];
    let fields = vec![("retry-after".into(), one.into()), ("location".into(), two.into())];
    let answered = Answered { status, fields, body: body.to_vec() };
    let read = speak.read(&answered, NOW);
    assert_eq!(read.reason.is_none(), read.verdict == Verdict::Taken);
    assert!(read.reason.is_none_or(|it| it.len() <= REASON_BYTES_MAX));
    assert!(read.message_id.is_none_or(|it| it.len() <= REASON_BYTES_MAX));
    assert!(read.retry_after.is_none_or(|it| it.0 > 0 && it.0 <= 366 * 86_400_000));
    if let Ok((text, _)) = speak.read_access(&answered, NOW) {
        assert!(is_field(&text), "{text}");
    }

    let provider = speak.provider();
    let other = String::from_utf8_lossy(body).into_owned();
    let material = match provider {
        Provider::Fcm => Material::Fcm { service_account: other.clone() },
        Provider::Hms => Material::Hms { app_id: two.into(), client_secret: one.into() },
        Provider::Wns => Material::Wns { package_sid: two.into(), client_secret: one.into() },
        Provider::Apns => Material::ApnsToken {
            team_id: one.into(),
            key_id: two.into(),
            private_key: other.clone(),
            topic: "org.example".into(),
            is_sandbox: choice & 64 != 0,
        },
        _ => Material::WebPush {
            public_key: POINT.into(),
            private_key: two.into(),
            subject: String::new(),
        },
    };
    let is_good = provider::check(&material).is_ok();
    let credential = Credential::new("a", "i", 1, material);
    let recipient = match provider {
        Provider::Fcm => Recipient::Fcm { token: one.into() },
        Provider::Hms => Recipient::Hms { token: one.into() },
        Provider::Wns => Recipient::Wns { uri: format!("https://a.notify.windows.com/{one}") },
        Provider::Apns if choice & 64 != 0 => Recipient::ApnsLiveActivity { token: one.into() },
        Provider::Apns => Recipient::Apns { token: one.into() },
        _ => Recipient::Web { endpoint: one.into(), p256dh: POINT.into(), auth: "A".repeat(22) },
    };
    let object = |text: &str| {
        // As it comes: deep in a request's body.
        let is_one = json::parse_str(text).is_ok_and(|it| it.kind() == Kind::Object)
            && json::parse_str(&format!("[[[{text}]]]")).is_ok();
        if is_one { text.to_owned() } else { String::new() }
    };
    let text = Text {
        title: Some(two.into()),
        collapse_key: Some(one.into()).filter(|_| choice & 64 != 0),
        ..Text::default()
    };
    let raw = if choice & 128 != 0 { object(&other) } else { String::new() };
    let message = Message { text, data: object(two), raw, live_activity: object(&other) };
    let rendered = provider::rendered(provider, &message);
    assert!(json::parse_str(&rendered).is_ok_and(|it| it.kind() == Kind::Object), "{rendered}");
    let parcel = Parcel {
        app: "a".into(),
        publish_id: "p".into(),
        provider,
        credential: Some(Arc::new(credential)),
        address: Address::Recipient(recipient),
        message: Arc::new(message),
        expires_at: (choice & 32 != 0).then_some(u64::from(status)),
        is_logged: false,
    };
    let urls = ProviderUrls::real();
    if let Ok(Access::Exchange(request)) = speak.access(&parcel, &urls, NOW) {
        assert!(is_good && request.fields.iter().all(|(_, value)| is_field(value)));
    }
    let Ok(request) = speak.request(&parcel, "Bearer x", &urls, &[7; 32], NOW) else { return };
    assert!(request.fields.iter().all(|(_, value)| is_field(value)), "{:?}", request.fields);
    assert!(request.url.bytes().all(|it| it.is_ascii_graphic()), "{}", request.url);
    match provider {
        Provider::WebPush => assert!(request.body.len() <= 4096 && !speak.realm(&parcel).is_empty()),
        Provider::Wns => assert!(request.body.len() <= 5000),
        Provider::Apns => assert!(request.body.len() <= 5120 && json::parse(&request.body).is_ok()),
        _ => {
            let body = json::parse(&request.body).expect("it is JSON");
            let message = body.member("message").expect("it is there");
            let token = message.member("token").expect("it is for somebody");
            let token = token.items().next().unwrap_or(token);
            assert_eq!(token.as_str().as_deref(), Some(one));
        }
    }
});
