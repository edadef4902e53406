//! Push notifications without sockets: what it costs to encrypt one for a browser, to build whole requests and to read
//! what providers answer.
//!
//! `cargo bench --bench push`; times a second of one thread's processor time, as the kernel counts it, the most of several
//! rounds. The bare cryptography is what a message cannot cost less than: a key pair, and what both keys come to.

use std::hint::black_box;
use std::sync::Arc;

use aws_lc_rs::agreement::{self, ECDH_P256, PrivateKey, UnparsedPublicKey};
use ringmain::base::time::{Nanos, Now, UnixMillis};
use ringmain::outbound::push::provider::{
    self, Access, Address, Answered, Message, Parcel, ProviderUrls, webpush,
};
use ringmain::push::Provider;
use ringmain::push::credential::{Credential, Material};
use ringmain::push::device::Recipient;
use ringmain::push::template::Text;
use ringmain::wire::base64::{self, Alphabet};

const NOW: Now = Now { steady: Nanos(1), wall: UnixMillis(1_700_000_000_000) };
const ROUNDS: usize = 5;
/// Processor time of one round.
const ROUND_NS: u64 = 300_000_000;
/// Calls between two looks at the clock.
const STRIDE: u64 = 16;

/// Source: RFC 8291, section 5.
const OURS: &str = "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw";
const OUR_POINT: &str =
    "BP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A8";
const THEIR_POINT: &str =
    "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4";
const SECRET: &str = "BTBZMqHH6r4Tts7J_aSIgg";

fn main() {
    let theirs = base64::decode(THEIR_POINT.as_bytes(), Alphabet::Url).expect("it is a point");
    report("bare cryptography", |chance| {
        let key = PrivateKey::from_private_key(&ECDH_P256, chance).expect("it is a scalar");
        let public = key.compute_public_key();
        let theirs = UnparsedPublicKey::new(&ECDH_P256, &theirs);
        let shared = agreement::agree(&key, theirs, (), |it| Ok(it[0]));
        black_box((public.is_ok(), shared.is_ok()));
    });
    for bytes in [100, 300, 1000, webpush::NOTIFICATION_BYTES_MAX] {
        let plain = vec![b'x'; bytes];
        report(&format!("Web Push encryption, {bytes} bytes"), |chance| {
            black_box(webpush::encrypt(THEIR_POINT, SECRET, &plain, chance));
        });
    }
    let urls = ProviderUrls::real();
    let web = parcel(
        Provider::WebPush,
        Material::WebPush {
            public_key: OUR_POINT.into(),
            private_key: OURS.into(),
            subject: "mailto:push@example.com".into(),
        },
        Recipient::Web {
            endpoint: "https://updates.push.example/wpush/v2/gAAAAABk".into(),
            p256dh: THEIR_POINT.into(),
            auth: SECRET.into(),
        },
    );
    let fcm = parcel(
        Provider::Fcm,
        Material::Fcm {
            service_account:
                r#"{"project_id":"p","client_email":"a@b.example","private_key":"none"}"#.into(),
        },
        Recipient::Fcm { token: "t".repeat(160) },
    );
    let hms = parcel(
        Provider::Hms,
        Material::Hms { app_id: "104".into(), client_secret: "s".into() },
        Recipient::Hms { token: "t".repeat(130) },
    );
    let speak = |parcel: &Parcel| provider::speaker(parcel.provider).expect("there is one");
    report("Web Push token for an origin", |_| {
        let access = speak(&web).access(&web, &urls, NOW);
        assert!(matches!(access, Ok(Access::Signed(..))), "it is signed");
    });
    for parcel in [&web, &fcm, &hms] {
        report(&format!("{} request", parcel.provider.as_str()), |chance| {
            let request = speak(parcel).request(parcel, "Bearer x", &urls, chance, NOW);
            assert!(request.is_ok());
        });
    }
    let body = r#"{"error":{"code":404,"message":"Requested entity was not found.","status":"NOT_FOUND","details":[{"@type":"type.googleapis.com/google.firebase.fcm.v1.FcmError","errorCode":"UNREGISTERED"}]}}"#;
    let answered = Answered { status: 404, fields: Vec::new(), body: body.into() };
    report("fcm answer", |_| {
        black_box(speak(&fcm).read(&answered, NOW));
    });
}

fn parcel(provider: Provider, material: Material, recipient: Recipient) -> Parcel {
    let text = |it: &str| Some(it.to_owned());
    let text = Text {
        title: text("Order updated"),
        body: text("Order ord_123 moved to packing"),
        icon: text("https://example.com/icon.png"),
        collapse_key: text("order-ord_123"),
        ..Text::default()
    };
    let data = r#"{"order_id":"ord_123"}"#.into();
    Parcel {
        app: "app".into(),
        publish_id: "publish".into(),
        provider,
        credential: Some(Arc::new(Credential::new("app", "default", 1, material))),
        address: Address::Recipient(recipient),
        message: Arc::new(Message { text, data, ..Message::default() }),
        expires_at: None,
        is_logged: false,
    }
}

/// Nanoseconds that this thread ran.
fn ran() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("the kernel counts");
    let first = text.split(' ').next().and_then(|it| it.parse().ok());
    first.expect("nanoseconds come first")
}

/// Prints how often a second `call` can be made, with chance that is another each time.
fn report(what: &str, mut call: impl FnMut(&[u8; 32])) {
    let mut best = 0.0_f64;
    let mut number = 0_u64;
    for _ in 0..ROUNDS {
        let (from, first) = (ran(), number);
        let spent = loop {
            for _ in 0..STRIDE {
                number += 1;
                let mut chance = [1; 32];
                chance[..8].copy_from_slice(&number.to_be_bytes());
                call(&chance);
            }
            let spent = ran() - from;
            if spent >= ROUND_NS {
                break spent;
            }
        };
        best = best.max((number - first) as f64 * 1e9 / spent as f64);
    }
    println!("{what:36} {best:>12.0}/s {:>10.2} us", 1e6 / best);
}
