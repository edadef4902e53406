use std::sync::Arc;

use super::*;
use crate::base::prng::Prng;
use crate::base::time::{Nanos, UnixMillis};
use crate::push::credential::Credential;
use crate::push::template::Text;

/// Source: RFC 8291, section 5 and appendix A.
const OURS: &str = "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw";
const OUR_POINT: &str =
    "BP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A8";
const THEIRS: &str = "q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94";
const THEIR_POINT: &str =
    "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4";
const SECRET: &str = "BTBZMqHH6r4Tts7J_aSIgg";
const SALT: &str = "DGv6ra1nlYgDCS1FRnbzlw";
const PLAIN: &[u8] = b"When I grow up, I want to be a watermelon";
const BODY: &str = "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN";

const NOW: Now = Now { steady: Nanos(1), wall: UnixMillis(1_700_000_000_000) };

fn bytes(text: &str) -> Vec<u8> {
    any_base64(text).unwrap()
}

fn salt(text: &str) -> [u8; SALT_BYTES] {
    bytes(text).try_into().unwrap()
}

#[test]
fn the_example_of_rfc_8291() {
    let ours = PrivateKey::from_private_key(&ECDH_P256, &bytes(OURS)).unwrap();
    let (theirs, secret) = (bytes(THEIR_POINT), bytes(SECRET));
    let body = seal_for(&theirs, &secret, &ours, &salt(SALT), PLAIN, 0).unwrap();
    assert_eq!(base64url(&body), BODY);
    assert_eq!(ours.compute_public_key().unwrap().as_ref(), bytes(OUR_POINT));
    assert_eq!(opened(&body).as_deref(), Some(PLAIN));
}

#[test]
fn the_example_of_rfc_8188() {
    let (key, salt) = (bytes("yqdlZ-tYemfogSmv7Ws5PQ"), salt("I1BsxtFttlv3u_Oo94xnmw"));
    let body = seal(&salt, &key, b"", b"I am the walrus", 0).unwrap();
    let wanted = "I1BsxtFttlv3u_Oo94xnmwAAEAAA-NAVub2qFgBEuQKRapoZu-IxkIva3MEB1PD-ly8Thjg";
    assert_eq!(base64url(&body), wanted);
}

/// What the browser reads. None: nothing that it can.
fn opened(body: &[u8]) -> Option<Vec<u8>> {
    let theirs = PrivateKey::from_private_key(&ECDH_P256, &bytes(THEIRS)).unwrap();
    let (salt, rest) = body.split_first_chunk::<16>()?;
    let (size, rest) = rest.split_first_chunk::<4>()?;
    let (&length, rest) = rest.split_first()?;
    let (ours, record) = rest.split_at_checked(usize::from(length))?;
    assert!(record.len() <= u32::from_be_bytes(*size) as usize && body.len() <= BODY_BYTES_MAX);
    let key = agreement::agree(&theirs, UnparsedPublicKey::new(&ECDH_P256, ours), (), |shared| {
        let prk = digest(&hmac::Key::new(hmac::HMAC_SHA256, &bytes(SECRET)), &[shared]);
        let prk = hmac::Key::new(hmac::HMAC_SHA256, &prk);
        Ok(digest(&prk, &[b"WebPush: info\0", &bytes(THEIR_POINT), ours, &[1]]))
    });
    let prk = digest(&hmac::Key::new(hmac::HMAC_SHA256, salt), &[&key.ok()?]);
    let prk = hmac::Key::new(hmac::HMAC_SHA256, &prk);
    let content = digest(&prk, &[b"Content-Encoding: aes128gcm\0\x01"]);
    let nonce = digest(&prk, &[b"Content-Encoding: nonce\0\x01"]);
    let content = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &content[..16]).ok()?);
    let nonce = Nonce::assume_unique_for_key(*nonce.first_chunk()?);
    let mut record = record.to_vec();
    let plain = content.open_in_place(nonce, Aad::empty(), &mut record).ok()?;
    let end = plain.iter().rposition(|&byte| byte != 0)?;
    (plain[end] == 2).then(|| plain[..end].to_vec())
}

#[test]
fn what_is_encrypted_is_opened_and_every_body_is_another() {
    let mut prng = Prng::new(7);
    let mut seen = std::collections::BTreeSet::new();
    for length in (0..300).chain([1000, NOTIFICATION_BYTES_MAX - 1, NOTIFICATION_BYTES_MAX]) {
        let plain: Vec<u8> = (0..length).map(|_| prng.next_u64() as u8).collect();
        let chance: [u8; 32] = std::array::from_fn(|_| prng.next_u64() as u8);
        let body = encrypt(THEIR_POINT, SECRET, &plain, &chance).unwrap();
        assert_eq!(opened(&body), Some(plain), "{length}");
        assert!(seen.insert(body[..HEAD_BYTES].to_vec()), "salt and key are new each time");
        let shown = body.len() - HEAD_BYTES - RECORD_EXTRA_BYTES;
        assert!(shown.is_multiple_of(PADDED_TO) || shown == NOTIFICATION_BYTES_MAX, "{length}");
        let mut broken = body.clone();
        *broken.last_mut().unwrap() ^= 1;
        assert_eq!(opened(&broken), None);
    }
    assert_eq!(
        encrypt(THEIR_POINT, SECRET, b"x", &[1; 32]),
        encrypt(THEIR_POINT, SECRET, b"x", &[1; 32]),
        "all that is chance comes in"
    );
}

#[test]
fn keys_that_are_none_encrypt_nothing() {
    let off_the_curve = THEIR_POINT.replace("VxsR7N", "VxsR8N").replace("BCVxsr7N", "BCVxsr8N");
    let compressed = base64url(&bytes(THEIR_POINT)[..33]);
    let infinity = base64url(&[0]);
    for (p256dh, auth) in [
        (off_the_curve.as_str(), SECRET),
        (compressed.as_str(), SECRET),
        (infinity.as_str(), SECRET),
        ("", SECRET),
        ("!", SECRET),
        (THEIR_POINT, ""),
        (THEIR_POINT, "BTBZMqHH6r4Tts7J_aSI"),
        (THEIR_POINT, "not base64"),
    ] {
        assert_eq!(encrypt(p256dh, auth, b"x", &[1; 32]), None, "{p256dh} {auth}");
    }
}

fn parcel(message: Message, expires_at: Option<u64>) -> Parcel {
    let recipient = Recipient::Web {
        endpoint: "https://push.example/send/1?a=b".into(),
        p256dh: THEIR_POINT.into(),
        auth: SECRET.into(),
    };
    let material = Material::WebPush {
        public_key: OUR_POINT.into(),
        private_key: OURS.into(),
        subject: "mailto:a@b.example".into(),
    };
    let credential = Credential::new("a", "default", 1, material);
    Parcel {
        app: "a".into(),
        publish_id: "p".into(),
        provider: Provider::WebPush,
        credential: Some(Arc::new(credential)),
        address: Address::Recipient(recipient),
        message: Arc::new(message),
        expires_at,
        is_logged: false,
    }
}

fn text(title: &str, collapse_key: Option<&str>) -> Text {
    let collapse_key = collapse_key.map(str::to_owned);
    Text { title: Some(title.into()), collapse_key, ..Text::default() }
}

fn asked(parcel: &Parcel) -> Result<Request, Delivered> {
    WebPush.request(parcel, "vapid t=x, k=y", &ProviderUrls::real(), &[3; 32], NOW)
}

#[test]
fn requests_are_those_of_the_specifications() {
    let digested = topic("order of Ann");
    assert_eq!(digested.len(), TOPIC_CHARS_MAX);
    let own =
        |headers: &str| format!(r#"{{"headers":{headers},"notification":{{"title":"T"}},"x":1}}"#);
    let collapsed = |key| Message { text: text("T", Some(key)), ..Message::default() };
    let raw = |headers| Message { raw: own(headers), ..collapsed("unused") };
    let data = Message { text: text("T", None), data: r#"{"a":1}"#.into(), ..Message::default() };
    let soon = Some(NOW.wall.0 + 61_500);
    for (message, expires_at, fields, body) in [
        (
            data,
            None,
            ("2419200", "normal", None),
            r#"{"notification":{"title":"T"},"data":{"a":1}}"#,
        ),
        (
            collapsed("order-1"),
            soon,
            ("61", "normal", Some("order-1")),
            r#"{"notification":{"title":"T","tag":"order-1"}}"#,
        ),
        (
            collapsed("order of Ann"),
            Some(1),
            ("0", "normal", Some(digested.as_str())),
            r#"{"notification":{"title":"T","tag":"order of Ann"}}"#,
        ),
        (
            raw(r#"{"ttl":60,"urgency":"high","topic":"t"}"#),
            None,
            ("60", "high", Some("t")),
            r#"{"notification":{"title":"T"},"x":1}"#,
        ),
        (
            raw(r#"{"ttl":"90","urgency":"now"}"#),
            soon,
            ("61", "normal", None),
            r#"{"notification":{"title":"T"},"x":1}"#,
        ),
        (Message::default(), Some(u64::MAX), ("2419200", "normal", None), "{}"),
    ] {
        let request = asked(&parcel(message, expires_at)).unwrap();
        let (ttl, urgency, topic) = fields;
        let mut wanted = vec![
            ("authorization", "vapid t=x, k=y"),
            ("content-encoding", "aes128gcm"),
            ("content-type", "application/octet-stream"),
            ("ttl", ttl),
            ("urgency", urgency),
        ];
        wanted.extend(topic.map(|it| ("topic", it)));
        let fields: Vec<_> = request.fields.iter().map(|(k, v)| (*k, v.as_str())).collect();
        assert_eq!(fields, wanted);
        assert_eq!(request.url, "https://push.example/send/1?a=b");
        let plain = String::from_utf8(opened(&request.body).unwrap()).unwrap();
        assert_eq!(plain, body);
    }
}

#[test]
fn what_will_never_do_is_refused_by_name() {
    let long =
        |bytes: usize| Message { text: text(&"x".repeat(bytes), None), ..Message::default() };
    let around = r#"{"notification":{"title":""}}"#.len();
    assert!(asked(&parcel(long(NOTIFICATION_BYTES_MAX - around), None)).is_ok());
    let refused = asked(&parcel(long(NOTIFICATION_BYTES_MAX - around + 1), None)).unwrap_err();
    assert_eq!(refused.verdict, Verdict::Refused);
    assert_eq!(refused.reason.as_deref(), Some("payload too large: 3994 bytes, 3993 at most"));
    let mut there = parcel(Message::default(), None);
    let web = |endpoint: &str, p256dh: &str| {
        let (endpoint, p256dh, auth) = (endpoint.into(), p256dh.into(), SECRET.into());
        Address::Recipient(Recipient::Web { endpoint, p256dh, auth })
    };
    for (address, word) in [
        (Address::Topic("news".into()), "subscriptions alone"),
        (Address::Recipient(Recipient::Fcm { token: "t".into() }), "subscriptions alone"),
        (web("ftp://x/", THEIR_POINT), "no https address"),
        (web("https://u:p@x/", THEIR_POINT), "no https address"),
        (web("https://x/", "AAAA"), "keys"),
    ] {
        there.address = address;
        let refused = asked(&there).unwrap_err();
        assert_eq!(refused.verdict, Verdict::Refused);
        assert!(refused.reason.unwrap_or_default().contains(word), "{word}");
    }
}

#[test]
fn one_token_for_each_origin() {
    let mut there = parcel(Message::default(), None);
    assert_eq!(WebPush.realm(&there), "https://push.example");
    let Access::Signed(text, _) = WebPush.access(&there, &ProviderUrls::real(), NOW).unwrap()
    else {
        panic!("it is signed here");
    };
    let claims = text.split('.').nth(1).unwrap();
    let claims = String::from_utf8(bytes(claims)).unwrap();
    assert!(claims.starts_with(r#"{"aud":"https://push.example","exp":"#), "{claims}");
    there.credential = None;
    let refused = WebPush.access(&there, &ProviderUrls::real(), NOW).unwrap_err();
    assert_eq!(refused.verdict, Verdict::Unauthorized);
}

#[test]
fn answers_mean_what_push_services_say() {
    for (status, body, verdict) in [
        (201, "", Verdict::Taken),
        (200, "", Verdict::Taken),
        (202, "", Verdict::Taken),
        (204, "", Verdict::Taken),
        (301, "", Verdict::Refused),
        (400, r#"{"reason":"BadWebPushTopic"}"#, Verdict::Refused),
        (401, r#"{"errno":109,"message":"VAPID public key mismatch"}"#, Verdict::Refused),
        (401, r#"{"errno":109,"message":"Invalid bearer auth"}"#, Verdict::Unavailable),
        (403, "the key in the authorization header does not correspond", Verdict::Refused),
        (403, r#"{"reason":"BadJwtToken"}"#, Verdict::Unavailable),
        (400, r#"{"reason":"VapidPkHashMismatch"}"#, Verdict::Refused),
        (404, "", Verdict::Gone),
        (406, "", Verdict::Unavailable),
        (408, "", Verdict::Unavailable),
        (410, "", Verdict::Gone),
        (413, "", Verdict::Refused),
        (429, "", Verdict::Unavailable),
        (500, "", Verdict::Unavailable),
        (503, "", Verdict::Unavailable),
    ] {
        let fields = vec![("Retry-After".to_owned(), "7".to_owned())];
        let read = WebPush.read(&Answered { status, fields, body: body.into() }, NOW);
        assert_eq!((read.verdict, read.status), (verdict, status), "{status} {body}");
        assert_eq!(read.retry_after, Some(Millis(7000)));
        assert_eq!(read.reason.is_none(), verdict == Verdict::Taken);
    }
    let fields = vec![("location".to_owned(), "https://push.example/m/1".to_owned())];
    let read = WebPush.read(&Answered { status: 201, fields, body: Vec::new() }, NOW);
    assert_eq!(read.message_id.as_deref(), Some("https://push.example/m/1"));
    assert_eq!(read.retry_after, None);
}
