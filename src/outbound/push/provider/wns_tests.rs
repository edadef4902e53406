use std::sync::Arc;

use super::*;
use crate::base::time::{Nanos, UnixMillis};
use crate::push::credential::Credential;
use crate::push::template::Text;

const NOW: Now = Now { steady: Nanos(1), wall: UnixMillis(1_700_000_000_000) };
const URI: &str = "https://db5p.notify.windows.com/?token=AwYA";

fn parcel(uri: &str, message: Message) -> Parcel {
    let material = Material::Wns { package_sid: "ms-app://s".into(), client_secret: "s+".into() };
    let credential = Credential::new("a", "default", 1, material);
    Parcel {
        app: "a".into(),
        publish_id: "p".into(),
        provider: Provider::Wns,
        credential: Some(Arc::new(credential)),
        address: Address::Recipient(Recipient::Wns { uri: uri.into() }),
        message: Arc::new(message),
        expires_at: Some(NOW.wall.0 + 90_999),
        is_logged: false,
    }
}

fn field<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    request.fields.iter().find(|(it, _)| *it == name).map(|(_, value)| value.as_str())
}

#[test]
fn access_is_exchanged_for_package_and_secret() {
    let parcel = parcel(URI, Message::default());
    let Access::Exchange(request) = Wns.access(&parcel, &ProviderUrls::real(), NOW).unwrap() else {
        panic!("it is exchanged");
    };
    assert_eq!(request.url, "https://login.live.com/accesstoken.srf");
    assert_eq!(
        request.body,
        "grant_type=client_credentials&client_id=ms-app%3A%2F%2Fs&client_secret=s%2B&scope=notify.windows.com"
    );
}

#[test]
fn a_message_is_a_toast_or_raw() {
    let text = |it: &str| Some(it.to_owned());
    let all = Text {
        title: text("T<&>\"'\u{1}"),
        body: text("B\n"),
        icon: text("https://x/i?a&b"),
        sound: text("ms-winsoundevent:Notification.IM"),
        collapse_key: text("k"),
    };
    let data = r#"{"a":1}"#.to_owned();
    let raw = |raw: &str| Message { raw: raw.into(), ..Message::default() };
    for (message, kind, tag, wanted) in [
        (
            Message { text: all, data: data.clone(), ..Message::default() },
            "wns/toast",
            Some("k"),
            r#"<toast launch="{&quot;a&quot;:1}"><visual><binding template="ToastGeneric"><text>T&lt;&amp;&gt;&quot;&apos;</text><text>B&#10;</text><image placement="appLogoOverride" src="https://x/i?a&amp;b"/></binding></visual><audio src="ms-winsoundevent:Notification.IM"/></toast>"#,
        ),
        (
            Message {
                text: Text { body: text("B"), sound: text("default"), ..Text::default() },
                ..Message::default()
            },
            "wns/toast",
            None,
            r#"<toast><visual><binding template="ToastGeneric"><text>B</text></binding></visual></toast>"#,
        ),
        (Message { data, ..Message::default() }, "wns/raw", None, r#"{"a":1}"#),
        (raw(r#"{"type":"tile","xml":"<tile/>"}"#), "wns/tile", None, "<tile/>"),
        (raw(r#"{"xml":"<toast/>"}"#), "wns/toast", None, "<toast/>"),
        (raw(r#"{"type":"raw","data":"as it is"}"#), "wns/raw", None, "as it is"),
        (raw(r#"{"type":"raw","data":{"a":[1]}}"#), "wns/raw", None, r#"{"a":[1]}"#),
        (raw(r#"{"type":"raw","a":1}"#), "wns/raw", None, r#"{"a":1}"#),
        (
            raw(
                r#"{"type":"toast","toast":{"visual":{"binding":{"template":"ToastText02","text":["a","b"],"image":null}},"audio":{"src":null}},"data":null}"#,
            ),
            "wns/toast",
            None,
            r#"<toast><visual><binding template="ToastText02"><text>a</text><text>b</text></binding></visual></toast>"#,
        ),
    ] {
        let parcel = parcel(URI, message);
        let request = Wns.request(&parcel, "Bearer x", &ProviderUrls::real(), &[0; 32], NOW);
        let request = request.unwrap();
        assert_eq!(request.url, URI);
        assert_eq!(std::str::from_utf8(&request.body), Ok(wanted));
        assert_eq!(field(&request, "x-wns-type"), Some(kind));
        assert_eq!(field(&request, "x-wns-tag"), tag);
        assert_eq!(field(&request, "x-wns-ttl"), Some("90"));
        assert_eq!(field(&request, "authorization"), Some("Bearer x"));
        let content_type = field(&request, "content-type");
        assert_eq!(content_type == Some("text/xml"), kind != "wns/raw");
    }
}

#[test]
fn what_will_never_do_is_refused() {
    let raw = |raw: String| Message { raw, ..Message::default() };
    let large = raw(format!(r#"{{"type":"raw","data":"{}"}}"#, "x".repeat(5001)));
    for (message, reason) in [
        (large, "payload_too_large"),
        (raw(r#"{"type":"shout"}"#.into()), "WNS has no such type"),
        (
            raw(r#"{"type":"tile"}"#.into()),
            "an override for WNS has a member xml, or toast, or is raw",
        ),
        (raw(r#"{"a":1}"#.into()), "an override for WNS has a member xml, or toast, or is raw"),
    ] {
        let parcel = parcel(URI, message);
        let refused = Wns.request(&parcel, "", &ProviderUrls::real(), &[0; 32], NOW).unwrap_err();
        assert_eq!((refused.verdict, refused.reason.as_deref()), (Verdict::Refused, Some(reason)));
    }
}

#[test]
fn an_access_token_goes_to_the_hosts_of_wns_alone() {
    let moved =
        ProviderUrls { wns_token: "http://127.0.0.1:9/token".into(), ..ProviderUrls::real() };
    for (uri, urls, is_one) in [
        (URI, ProviderUrls::real(), true),
        ("https://wns2-by3p.NOTIFY.windows.com/?token=x", ProviderUrls::real(), true),
        ("https://x.wns.windows.com/?token=x", moved.clone(), true),
        ("http://db5p.notify.windows.com/?token=x", ProviderUrls::real(), false),
        ("https://db5p.notify.windows.com:8443/?token=x", ProviderUrls::real(), false),
        ("https://evil-notify.windows.com/", ProviderUrls::real(), false),
        ("https://db5p.notify.windows.com.evil.org/", ProviderUrls::real(), false),
        ("https://evil.org/?.notify.windows.com", ProviderUrls::real(), false),
        ("https://evil.org#.notify.windows.com", ProviderUrls::real(), false),
        ("https://db5p.notify.windows.com@evil.org/", ProviderUrls::real(), false),
        ("https://login.live.com/x", ProviderUrls::real(), false),
        ("http://127.0.0.1:9/wns", moved.clone(), true),
        ("http://127.0.0.1:90/wns", moved, false),
        ("", ProviderUrls::real(), false),
    ] {
        assert_eq!(is_channel(uri, &urls), is_one, "{uri}");
    }
}

#[test]
fn answers_mean_what_the_documentation_says() {
    for (status, said, verdict) in [
        (200, Some("received"), Verdict::Taken),
        (200, None, Verdict::Taken),
        (200, Some("dropped"), Verdict::Refused),
        (200, Some("channelthrottled"), Verdict::Unavailable),
        (400, Some("dropped"), Verdict::Refused),
        (401, None, Verdict::Unauthorized),
        (403, None, Verdict::Refused),
        (404, None, Verdict::Gone),
        (406, None, Verdict::Throttled),
        (410, Some("dropped"), Verdict::Gone),
        (413, None, Verdict::Refused),
        (429, None, Verdict::Throttled),
        (500, None, Verdict::Unavailable),
        (503, None, Verdict::Unavailable),
        (302, None, Verdict::Refused),
    ] {
        let mut fields = vec![
            ("x-wns-msg-id".to_owned(), "m".to_owned()),
            ("retry-after".to_owned(), "7".to_owned()),
        ];
        fields.extend(said.map(|it: &str| ("x-wns-status".to_owned(), it.to_owned())));
        let got = Wns.read(&Answered { status, fields, body: Vec::new() }, NOW);
        assert_eq!((got.verdict, got.status), (verdict, status), "{status} {said:?}");
        assert_eq!(got.message_id.is_some(), verdict == Verdict::Taken);
        assert_eq!(got.retry_after.is_some(), verdict != Verdict::Taken);
    }
}

#[test]
fn what_is_rendered_does_as_an_override() {
    let text = Text { title: Some("T".into()), ..Text::default() };
    let said = Message { text, data: r#"{"a":1}"#.into(), ..Message::default() };
    let silent = Message { data: r#"{"a":1}"#.into(), ..Message::default() };
    for message in [said, silent] {
        let again = Message { raw: Wns.rendered(&message), ..Message::default() };
        assert_eq!(body(&again), Ok(shown(&message)));
    }
    assert_eq!(tag("a b"), tag("a b"));
    assert!(tag(&"x".repeat(99)).len() <= TAG_MAX);
}
