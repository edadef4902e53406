mod answers;

use super::*;
use crate::auth::Apps;
use crate::auth::apps::tests::settings as app_settings;
use crate::push::device::{Device, Recipient};
use crate::push::order::{Change, Page};
use crate::push::publish::{Content, Counters, Fate, Outcome, Status, Target};
use crate::push::template::Text;

/// One request and the world it asks.
struct Bench {
    app: Arc<App>,
    terms: Terms,
    head: Head,
    key: Option<&'static str>,
    pushing: Option<Pushing>,
    out: Vec<Output>,
}

/// A browser's public key (RFC 8291, appendix A) and its secret.
const P256DH: &str =
    "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4";
const AUTH: &str = "BTBZMqHH6r4Tts7J_aSIgg";

fn bench() -> Bench {
    let apps = Apps::new(&[app_settings("1", "k", "s")]);
    let app = apps.with_id("1").expect("it is there").clone();
    let head = Head {
        capability: Some(Capability::Admin),
        identity: None,
        is_rotated: false,
        passes_quota: false,
    };
    let terms = Terms {
        is_off: false,
        allow_private: false,
        key_window: crate::base::time::Millis(120_000),
    };
    Bench { app, terms, head, key: None, pushing: None, out: Vec::new() }
}

impl Bench {
    fn device(mut self, identity: Option<&str>) -> Self {
        self.head.capability = Some(Capability::Subscribe);
        self.head.identity = identity.map(str::to_owned);
        self
    }

    /// Asks; the refusal, or the answer that comes at once.
    fn ask(
        &mut self,
        route: PushRoute,
        name: &str,
        query: &str,
        body: &str,
    ) -> Result<Option<Response>, Refusal> {
        let mut names = Names { name: name.into(), ..Names::default() };
        if let Some((provider, name)) = name.split_once('|') {
            (names.provider, names.name) = (provider.into(), name.into());
        }
        let (query, body) = (Query::parse(query), body.as_bytes());
        let asked = Asked { route, names: &names, query: &query, body, key: self.key };
        let begun = Pushing::begin(&asked, &self.head, &self.app, self.terms, &mut self.out)?;
        Ok(match begun {
            Ok(pushing) => {
                self.pushing = Some(pushing);
                None
            }
            Err(response) => Some(response),
        })
    }

    /// The orders that were given since the last look.
    fn orders(&mut self) -> Vec<Order> {
        let orders = self.out.drain(..).map(|it| match it {
            Output::Inquire(_, Inquiry { what: What::Push(app, order), .. }) => {
                assert_eq!(&*app, "1");
                *order
            }
            other => panic!("{other:?}"),
        });
        orders.collect()
    }

    fn order(&mut self) -> Order {
        let mut orders = self.orders();
        assert_eq!(orders.len(), 1, "{orders:?}");
        orders.remove(0)
    }

    /// The one order of a request that is good.
    fn read(route: PushRoute, name: &str, query: &str, body: &str) -> Order {
        let mut it = bench();
        it.ask(route, name, query, body).unwrap_or_else(|refusal| panic!("{body}: {refusal:?}"));
        it.order()
    }

    fn tell(&mut self, ticket: u32, told: Result<Told, Refused>) -> Option<(u16, String)> {
        let finding = Finding::Push(Box::new(told));
        let pushing = self.pushing.as_mut().expect("something was asked");
        let response = pushing.found(Ticket(ticket), finding, &mut self.out);
        response.map(|it| (it.status, String::from_utf8_lossy(&it.body).into_owned()))
    }
}

fn registered(body: &str) -> Device {
    match Bench::read(PushRoute::Register, "", "", body) {
        Order::Register(device, Registrar::Admin { is_rotated: false }) => *device,
        other => panic!("{other:?}"),
    }
}

fn refused(route: PushRoute, name: &str, query: &str, body: &str) -> (u16, String) {
    let refusal = bench().ask(route, name, query, body).map(|_| ()).unwrap_err();
    (refusal.status, refusal.text.into_owned())
}

fn status(id: &str, state: State) -> Box<Status> {
    Box::new(Status {
        id: id.into(),
        state,
        counters: Counters { planned: 1, ..Counters::default() },
        expected: 1,
        is_large: false,
        accepted_at: 5,
        not_before: None,
        finished_at: None,
        retry_after: None,
        error_reason: None,
    })
}

fn published(id: &str, state: State) -> Told {
    Told::Published {
        status: status(id, state),
        rendered: vec![(Provider::Fcm, "{\"a\":1}".into(), false)],
        is_repeated: false,
        is_forced_async: false,
        outcomes: None,
        due: None,
    }
}

#[test]
fn a_device_is_the_same_in_every_spelling() {
    let documented = registered(
        r#"{"device_id":"d","client_id":"u","platform":"apns","provider_token":"aa","form_factor":"phone",
            "last_active_at_ms":7,"metadata":{"app_version":"4.5.0"},"push_rate_policy":{"capacity":2,"refill_per_second":1}}"#,
    );
    let running = registered(
        r#"{"appId":"1","id":"d","clientId":"u","formFactor":"phone","platform":"ios","deviceSecret":"x","timezone":"","locale":"",
            "push":{"recipient":{"transportType":"apns","deviceToken":"aa"},"state":"ACTIVE"},"lastActiveAtMs":7,
            "metadata":{"app_version":"4.5.0"},"pushRatePolicy":{"capacity":2,"refillPerSecond":1}}"#,
    );
    assert_eq!(documented, running);
    assert_eq!(documented.recipient, Recipient::Apns { token: "aa".into() });
    assert_eq!(documented.metadata, r#"{"app_version":"4.5.0"}"#);
}

#[test]
fn every_kind_of_recipient_is_read() {
    let web = Recipient::Web {
        endpoint: "https://push.example/x".into(),
        p256dh: P256DH.into(),
        auth: AUTH.into(),
    };
    let keys = format!(r#""keys":{{"p256dh":"{P256DH}","auth":"{AUTH}"}}"#);
    let subscription =
        format!(r#"{{"endpoint":"https://push.example/x","expirationTime":null,{keys}}}"#);
    let quoted = subscription.replace('"', "\\\"");
    let fcm = || Recipient::Fcm { token: "t:1".into() };
    for (body, expected) in [
        (r#""platform":"fcm","provider_token":"t:1""#.to_owned(), fcm()),
        (r#""platform":"android","providerToken":"t:1""#.into(), fcm()),
        (r#""platform":"other","provider":"gcm","token":"t:1""#.into(), fcm()),
        (format!(r#""platform":"webpush","provider_token":{subscription}"#), web.clone()),
        (format!(r#""platform":"browser","provider_token":"{quoted}""#), web.clone()),
        (
            format!(
                r#""push":{{"recipient":{{"transportType":"web","endpoint":"https://push.example/x","p256dh":"{P256DH}=","auth":"{AUTH}=="}}}}"#
            ),
            web.clone(),
        ),
        (
            format!(
                r#""push":{{"recipient":{{"transport_type":"web","endpoint":"https://push.example/x",{keys}}}}}"#
            ),
            web,
        ),
        (r#""push":{"recipient":{"transportType":"gcm","registrationToken":"t:1"}}"#.into(), fcm()),
        (
            r#""push":{"recipient":{"transportType":"apnsLiveActivity","activityToken":"aa"}}"#.into(),
            Recipient::ApnsLiveActivity { token: "aa".into() },
        ),
        (
            r#""push":{"recipient":{"transportType":"apnsLiveActivityBroadcast","channelId":"aa==","storagePolicy":1}}"#
                .into(),
            Recipient::ApnsBroadcast { channel_id: "aa==".into(), storage_policy: Some(1) },
        ),
        (
            r#""push":{"recipient":{"transportType":"hms","registrationToken":"h"}}"#.into(),
            Recipient::Hms { token: "h".into() },
        ),
        (
            r#""push":{"recipient":{"transportType":"wns","channelUri":"https://db5.notify.windows.com/?token=a"}}"#.into(),
            Recipient::Wns { uri: "https://db5.notify.windows.com/?token=a".into() },
        ),
        (
            r#""push":{"recipient":{"transportType":"realtime","channel":"orders"}}"#.into(),
            Recipient::Realtime { channel: "orders".into() },
        ),
    ] {
        let device = registered(&format!("{{\"id\":\"d\",{body}}}"));
        assert_eq!(device.recipient, expected, "{body}");
        assert_eq!(device.recipient.address(), expected.address(), "{body}");
    }
}

#[test]
fn a_registration_that_makes_no_sense_is_refused() {
    let long = "x".repeat(4097);
    let web = |endpoint: &str| {
        format!(
            r#"{{"id":"d","push":{{"recipient":{{"transportType":"web","endpoint":"{endpoint}","p256dh":"{P256DH}","auth":"{AUTH}"}}}}}}"#
        )
    };
    let apns = |more: &str| format!(r#"{{"id":"d","platform":"ios","provider_token":"aa"{more}}}"#);
    for (body, status, part) in [
        ("nope".to_owned(), 400, "the body is not JSON"),
        ("[]".into(), 400, "the body is not an object"),
        ("{}".into(), 400, "id is missing"),
        (r#"{"id":""}"#.into(), 400, "id has 1 to 255 bytes"),
        (r##"{"id":"#1"}"##.into(), 400, "id begins with #"),
        (r#"{"id":"d"}"#.into(), 400, "push.recipient, or provider_token, is missing"),
        (r#"{"id":"d","push":{}}"#.into(), 400, "push.recipient is missing"),
        (r#"{"id":"d","provider_token":"a"}"#.into(), 400, "platform is missing"),
        (r#"{"id":"d","platform":"symbian","provider_token":"a"}"#.into(), 400, "platform is missing, or none"),
        (r#"{"id":"d","platform":"apns","provider_token":"a b"}"#.into(), 400, "letters, digits"),
        (r#"{"id":"d","platform":"apns","provider_token":"../3"}"#.into(), 400, "letters, digits"),
        (r#"{"id":"d","platform":"fcm","provider_token":""}"#.into(), 400, "1 to 4096 bytes"),
        (r#"{"id":"d","platform":"fcm","provider_token":7}"#.into(), 400, "is not a string"),
        (format!(r#"{{"id":"d","platform":"fcm","provider_token":"{long}"}}"#), 400, "1 to 4096 bytes"),
        (r#"{"id":"d","platform":"web","provider_token":"nope"}"#.into(), 400, "subscription as JSON"),
        (r#"{"id":"d","push":{"recipient":{"transportType":"smoke"}}}"#.into(), 400, "is none of gcm"),
        (r#"{"id":"d","push":{"recipient":{"transportType":"gcm"}}}"#.into(), 400, "registrationToken is missing"),
        (apns(r#","appId":"2""#), 400, "appId is not the app of the path"),
        (apns(r#","metadata":[]"#), 400, "metadata is not an object"),
        (apns(&format!(r#","metadata":{{"a":"{long}"}}"#)), 413, "metadata has at most 4096 bytes"),
        (apns(r#","formFactor":"brick""#), 400, "formFactor is none of phone"),
        (apns(r#","pushRatePolicy":{"capacity":0,"refillPerSecond":1}"#), 400, "pushRatePolicy.capacity"),
        (web("http://push.example/x"), 400, "endpoint is not an https:// address"),
        (web("https://localhost/x"), 400, "private network"),
        (web("https://[fe80::1%25lo]/x"), 400, "no good host"),
        (web("https://127.0.0.1%2e/x"), 400, "no good host"),
        (web("https://127.0.0.1e/x"), 400, "private network"),
        (web("https://push.example/").replacen("\"d\"", "\"\\ud800\"", 1), 400, "surrogate"),
        (web("https://127.0.0.1/x"), 400, "private network"),
        (web("https://2130706433/x"), 400, "private network"),
        (web("https://0x7f.1/x"), 400, "private network"),
        (web("https://[::1]:443/x"), 400, "private network"),
        (web("https://[::ffff:10.0.0.1]/x"), 400, "private network"),
        (web("https://metadata.google.internal/x"), 400, "private network"),
        (web("https://u:p@push.example/x"), 400, "has a user in it"),
        (web("https://push.example:0/x"), 400, "no good host"),
        (web("https:///x"), 400, "no good host"),
        (web("https://push.example/x y"), 400, "characters"),
        (web("https://push.example/").replace(P256DH, "BAAA"), 400, "p256dh is not 65 bytes"),
        (web("https://push.example/").replace("\"BCV", "\"ACV"), 400, "not an uncompressed point"),
        (web("https://push.example/").replace("\"BCV", "\"BCW"), 400, "p256dh is not an uncompressed point of P-256"),
        (web("https://push.example/").replace(AUTH, "AAAA"), 400, "auth is not 16 bytes"),
        (
            r#"{"id":"d","push":{"recipient":{"transportType":"wns","channelUri":"https://evil.example/"}}}"#.into(),
            400,
            "not at notify.windows.com",
        ),
    ] {
        let (found, text) = refused(PushRoute::Register, "", "", &body);
        assert_eq!(found, status, "{body}: {text}");
        assert!(text.contains(part), "{body}: {text}");
    }
    let mut it = bench();
    it.terms.allow_private = true;
    for endpoint in ["http://127.0.0.1:8080/x", "https://localhost/x", "https://[::1]/"] {
        assert!(it.ask(PushRoute::Register, "", "", &web(endpoint)).is_ok(), "{endpoint}");
    }
    assert!(it.ask(PushRoute::Register, "", "", &web("ftp://push.example/")).is_err());
}

#[test]
fn a_publish_is_the_same_in_every_spelling() {
    let of = |body: &str| match Bench::read(PushRoute::Publish, "", "", body) {
        Order::Publish(intent) => *intent,
        other => panic!("{other:?}"),
    };
    // Word for word from the documentation.
    let documented = of(r#"{"recipients":[{"type":"channel","channel":"orders"}],
        "payload":{"title":"Order updated","body":"Order ord_123 moved to packing","data":{"order_id":"ord_123"}},
        "sync":false,"idempotency_key":"push-order-ord_123-packing"}"#);
    assert_eq!(documented.targets, [Target::Channel("orders".into())]);
    assert_eq!(documented.key.as_deref(), Some("push-order-ord_123-packing"));
    assert_eq!(documented.content.data, r#"{"order_id":"ord_123"}"#);
    let one = of(
        r#"{"publish_id":"p","recipients":[{"type":"device","device_id":"d"},{"type":"client","client_id":"u"},{"type":"device","deviceId":"d"}],
        "payload":{"template_id":"t","template_data":{"a":1},"collapse_key":"c"},"provider_overrides":{"fcm":{"x":1}},
        "not_before_ms":5,"expires_at_ms":9,"credential_id":"k","skip_connected":true,"live_activity":{"event":"end"}}"#,
    );
    let other = of(
        r#"{"publishId":"p","recipients":[{"type":"device","deviceId":"d"},{"type":"client","clientId":"u"}],"sync":true,
        "payload":{"templateId":"t","templateData":{"a":1},"collapseKey":"c","skipConnected":true},
        "providerOverrides":[{"provider":"fcm","payload":{"x":1}}],"notBeforeMs":5,"expiresAtMs":9,"credentialId":"k",
        "liveActivity":{"event":"end"}}"#,
    );
    assert!(other.is_sync && !one.is_sync);
    assert_eq!(one, Intent { is_sync: false, ..other });
    let expected = Content {
        template_id: Some("t".into()),
        template_data: r#"{"a":1}"#.into(),
        text: Text { collapse_key: Some("c".into()), ..Text::default() },
        data: String::new(),
        overrides: vec![(Provider::Fcm, r#"{"x":1}"#.into())],
        live_activity: r#"{"event":"end"}"#.into(),
    };
    assert_eq!(one.content, expected);
    // What it is called and whether it is waited for is nothing of what it says; everything else is.
    let plain = r#"{"recipients":[{"type":"client","client_id":"u"}],"payload":{"title":"a"}"#;
    let print = |more: &str| of(&format!("{plain}{more}}}")).fingerprint;
    for same in [r#","publishId":"x""#, r#","idempotencyKey":"x""#, r#","sync":true"#] {
        assert_eq!(print(""), print(same), "{same}");
    }
    for another in [r#","notBeforeMs":7"#, r#","skipConnected":true"#, r#","credentialId":"x""#] {
        assert_ne!(print(""), print(another), "{another}");
    }
    let waits = Bench::read(PushRoute::Publish, "", "mode=sync", &format!("{plain}}}"));
    assert!(matches!(waits, Order::Publish(it) if it.is_sync));
}

#[test]
fn a_publish_that_makes_no_sense_is_refused() {
    let to =
        |recipient: &str| format!(r#"{{"recipients":[{recipient}],"payload":{{"title":"t"}}}}"#);
    let saying = |payload: &str, more: &str| {
        format!(
            r#"{{"recipients":[{{"type":"client","client_id":"u"}}],"payload":{payload}{more}}}"#
        )
    };
    let of = |bytes: usize| "x".repeat(bytes);
    let many = vec![r#"{"type":"client","client_id":"u"}"#; 1025].join(",");
    let different: Vec<_> =
        (0..1025).map(|n| format!(r#"{{"type":"client","client_id":"u{n}"}}"#)).collect();
    for (body, status, part) in [
        (r#"{"payload":{"title":"t"}}"#.to_owned(), 400, "recipients is missing"),
        (r#"{"recipients":{},"payload":{"title":"t"}}"#.into(), 400, "recipients is not a list"),
        (to(""), 400, "recipients is empty"),
        (to("{}"), 400, "recipients[0]: type is missing"),
        (to(r#"{"type":"device"}"#), 400, "recipients[0]: deviceId is missing"),
        (to(r#"{"type":"client","client_id":7}"#), 400, "clientId is not a string"),
        (to(r#"{"type":"everyone"}"#), 400, "type is none of device"),
        (to(r#"{"type":"userTopic","topic":"x"}"#), 400, "userTopic reaches nothing"),
        (to(r#"{"type":"providerTopic","provider":"apns","topic":"x"}"#), 400, "has no topics"),
        (
            to(r#"{"type":"recipient","recipient":{"transportType":"web"}}"#),
            400,
            "endpoint is missing",
        ),
        (to(&different.join(",")), 400, "recipients has at most 1024"),
        (r#"{"recipients":[{"type":"client","client_id":"u"}]}"#.into(), 400, "payload is missing"),
        (saying("{}", ""), 400, "payload says nothing"),
        (saying(r#"{"title":7}"#, ""), 400, "payload.title is not a string"),
        (
            saying(&format!(r#"{{"title":"{}"}}"#, of(257)), ""),
            413,
            "payload.title has at most 256",
        ),
        (
            saying(&format!(r#"{{"body":"{}"}}"#, of(4097)), ""),
            413,
            "payload.body has at most 4096",
        ),
        (saying(&format!(r#"{{"data":{{"a":"{}"}}}}"#, of(4090)), ""), 413, "payload.data has"),
        (saying(r#"{"title":"t","icon":"http://x/"}"#, ""), 400, "icon is not an https:// address"),
        (saying(r#"{"title":"t","data":"x"}"#, ""), 400, "payload.data is not an object"),
        (
            saying(r#"{"title":"t"}"#, r#","providerOverrides":[{"provider":"fcm"}]"#),
            400,
            "payload is missing",
        ),
        (saying(r#"{"title":"t"}"#, r#","providerOverrides":{"smoke":{}}"#), 400, "none"),
        (
            saying(
                r#"{"title":"t"}"#,
                &format!(r#","providerOverrides":{{"fcm":{{"a":"{}"}}}}"#, of(4090)),
            ),
            413,
            "at most 4096 bytes",
        ),
        (saying(r#"{"title":"t"}"#, r#","notBeforeMs":9,"expiresAtMs":9"#), 400, "is not after"),
        (saying(r#"{"title":"t"}"#, r#","notBeforeMs":"soon""#), 400, "not a whole number"),
        (saying(r#"{"title":"t"}"#, r#","idempotencyKey":"""#), 400, "idempotencyKey has 1 to 128"),
        (saying(r#"{"title":"t"}"#, r#","sync":1"#), 400, "sync is not a boolean"),
    ] {
        let (found, text) = refused(PushRoute::Publish, "", "", &body);
        let body: String = body.chars().take(200).collect();
        assert_eq!(found, status, "{body}: {text}");
        assert!(text.contains(part), "{body}: {text}");
    }
    // The same recipient again is no further one, and an override for APNs may be larger.
    assert!(bench().ask(PushRoute::Publish, "", "", &to(&many)).is_ok());
    let large = format!(r#","providerOverrides":{{"apns":{{"a":"{}"}}}}"#, of(5000));
    assert!(bench().ask(PushRoute::Publish, "", "", &saying(r#"{"title":"t"}"#, &large)).is_ok());
}

#[test]
fn queries_and_paths_become_orders() {
    use PushRoute::*;
    let said = |route, name: &str, query: &str, body: &str| {
        format!("{:?}", Bench::read(route, name, query, body))
    };
    for (route, name, query, body, parts) in [
        (Devices, "", "", "", &["Devices(", "rows_max: 100", "client_id: None"][..]),
        (
            Devices,
            "",
            "limit=5&clientid=u&platform=apns&state=failed",
            "",
            &["rows_max: 5", "Some(\"u\")", "provider: Some(Apns)", "state: Some(Failed)"],
        ),
        (
            Devices,
            "",
            "client_id=u&platform=ios&device_id=d",
            "",
            &["platform: Some(\"ios\")", "Some(\"d\")"],
        ),
        (Device, "d", "", "", &["Device(\"d\")"]),
        (Unregister, "d", "", "", &["Unregister(\"d\", Admin"]),
        (UnregisterClient, "", "clientid=u", "", &["UnregisterClient(\"u\")"]),
        (
            Subscribe,
            "",
            "",
            r#"{"device_id":"d","channel":"orders","client_id":"u"}"#,
            &[
                "channel: \"orders\"",
                "device_id: \"d\"",
                "client_id: Some(\"u\")",
                "provider: None",
            ],
        ),
        (
            Subscribe,
            "",
            "",
            r#"{"appId":"1","channel":"private-a","deviceId":"d","provider":"webPush","tokenHash":"ff","credentialVersion":3}"#,
            &["provider: Some(WebPush)", "token_hash: Some(\"ff\")", "credential_version: Some(3)"],
        ),
        (
            Subscriptions,
            "",
            "channel=c&deviceid=d",
            "",
            &["channel: Some(\"c\")", "device_id: Some(\"d\")"],
        ),
        (
            Unsubscribe,
            "",
            "channel=c",
            "",
            &["Unsubscribe { channel: Some(\"c\"), device_id: None"],
        ),
        (Channels, "", "", "", &["Channels("]),
        (
            PutCredential,
            "fcm|",
            "",
            r#"{"serviceAccountJson":{"a":1}}"#,
            &["id: \"default\"", "fcm ***"],
        ),
        (
            PutCredential,
            "fcm|",
            "",
            r#"{"service_account_json":"{}","credential_id":"x","version":4}"#,
            &["\"x\"", "Some(4)"],
        ),
        (PutCredential, "apns|", "", r#"{"p12":"aa","p12Password":"x"}"#, &["apns ***"]),
        (
            PutCredential,
            "apns|",
            "",
            r#"{"team_id":"t","keyId":"k","pem":"x","environment":"sandbox"}"#,
            &["apns ***"],
        ),
        (PutCredential, "webpush|", "", r#"{"publicKey":"a","privateKey":"b"}"#, &["webPush ***"]),
        (PutCredential, "hms|", "", r#"{"hmsAppId":"a","clientSecret":"b"}"#, &["hms ***"]),
        (PutCredential, "wns|", "", r#"{"package_sid":"a","client_secret":"b"}"#, &["wns ***"]),
        (Credentials, "", "", "", &["Credentials"]),
        (RemoveCredential, "webPush|x", "", "", &["RemoveCredential(WebPush, \"x\")"]),
        (
            PutTemplate,
            "",
            "",
            r#"{"appId":"1","templateId":"t","defaultLocale":"en","locales":{"en":{"title":"a"},"de":{"body":"b","collapse_key":"c"}},
                "providerOverrides":{}}"#,
            &["id: \"t\"", "locales: [(\"de\"", "collapse_key: Some(\"c\")"],
        ),
        (Templates, "", "limit=1000", "", &["rows_max: 1000"]),
        (Template, "t", "", "", &["Template(\"t\")"]),
        (RemoveTemplate, "t", "", "", &["RemoveTemplate(\"t\")"]),
        (Status, "p", "", "", &["Status(\"p\")"]),
        (Outcomes, "p", "", "", &["Outcomes(\"p\""]),
        (Cancel, "p", "", "", &["Cancel(\"p\")"]),
        (CancelScheduled, "p", "", "", &["Cancel(\"p\")"]),
        (
            Feedback,
            "",
            "",
            r#"{"appId":"1","publishId":"p","eventId":"e","occurredAtMs":1,"result":{"appId":"1","publishId":"p","provider":"fcm",
                "batchId":"b","deviceId":"d","outcome":"rejected","providerMessageId":"m","error":{"class":"c","reason":"r"},"attempt":1}}"#,
            &["publish_id: \"p\"", "key: \"d\"", "Failed", "Some(\"m\")", "Some(\"r\")"],
        ),
        (
            Feedback,
            "",
            "",
            r#"{"publish_id":"p","device_id":"d","outcome":"delivered"}"#,
            &["Delivered", "reason: None"],
        ),
        (
            DeadLetters,
            "",
            "provider=fcm&sincems=1&until_ms=2",
            "",
            &["Some(Fcm)", "since: Some(1)", "until: Some(2)"],
        ),
        (Replay, "7", "", "", &["Replay(7)"]),
        (CreateBroadcast, "", "", r#"{"storagePolicy":1}"#, &["storage_policy: 1"]),
        (Broadcasts, "", "credentialid=k", "", &["credential_id: Some(\"k\")"]),
        (Broadcast, "c", "", "", &["channel_id: \"c\""]),
        (RemoveBroadcast, "c", "", "", &["RemoveBroadcast"]),
    ] {
        let order = said(route, name, query, body);
        for part in parts {
            assert!(order.contains(part), "{route:?} {query} {body}: {part} in {order}");
        }
    }
}

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    use PushRoute::*;
    for (route, name, query, body, status, part) in [
        (Devices, "", "limit=0", "", 400, "limit must be between 1 and 1000"),
        (Devices, "", "limit=1001", "", 400, "limit must be between 1 and 1000"),
        (Devices, "", "limit=", "", 400, "limit must be"),
        (Devices, "", "cursor=xyz", "", 400, "cursor is none"),
        (Devices, "", "platform=symbian", "", 400, "platform is none of android"),
        (Devices, "", "state=tired", "", 400, "state is none of"),
        (Devices, "", "clientid=", "", 400, "clientId has 1 to"),
        (UnregisterClient, "", "", "", 400, "removeWhere requires clientId"),
        (Subscribe, "", "", r#"{"channel":"c"}"#, 400, "deviceId is missing"),
        (Subscribe, "", "", r#"{"deviceId":"d"}"#, 400, "channel is missing"),
        (Subscribe, "", "", r#"{"deviceId":"d","channel":"a b"}"#, 400, "invalid characters"),
        (
            Subscribe,
            "",
            "",
            r#"{"deviceId":"d","channel":"c","provider":"smoke"}"#,
            400,
            "provider is none of",
        ),
        (Unsubscribe, "", "", "", 400, "delete requires channel or deviceId"),
        (PutCredential, "smoke|", "", "{}", 400, "provider must be one of"),
        (PutCredential, "realtime|", "", "{}", 400, "provider must be one of"),
        (PutCredential, "fcm|", "", "{}", 400, "serviceAccountJson is missing"),
        (
            PutCredential,
            "fcm|",
            "",
            r#"{"serviceAccountJson":7}"#,
            400,
            "neither an object nor its text",
        ),
        (PutCredential, "apns|", "", "{}", 400, "privateKey or p12 is missing"),
        (PutCredential, "apns|", "", r#"{"privateKey":"x","teamId":"t"}"#, 400, "keyId is missing"),
        (PutCredential, "webpush|", "", r#"{"publicKey":"x"}"#, 400, "privateKey is missing"),
        (
            PutCredential,
            "webpush|",
            "",
            r#"{"publicKey":"x","privateKey":"y","subject":"me"}"#,
            400,
            "subject is neither",
        ),
        (
            PutTemplate,
            "",
            "",
            r#"{"templateId":"t","defaultLocale":"en"}"#,
            400,
            "locales is not an object",
        ),
        (
            PutTemplate,
            "",
            "",
            r#"{"templateId":"t","defaultLocale":"en","locales":{"de":{"title":"x"}}}"#,
            400,
            "defaultLocale is none",
        ),
        (
            PutTemplate,
            "",
            "",
            r#"{"templateId":"t","defaultLocale":"en","locales":{"en":{}}}"#,
            400,
            "title or body is missing",
        ),
        (Batch, "", "", "{}", 400, "the body is not a list"),
        (Batch, "", "", "[]", 400, "a batch has 1 to 100"),
        (Batch, "", "", "[{}]", 400, "[0]: recipients is missing"),
        (Feedback, "", "", r#"{"publishId":"p","deviceId":"d"}"#, 400, "outcome is missing"),
        (
            Feedback,
            "",
            "",
            r#"{"publishId":"p","deviceId":"d","outcome":"maybe"}"#,
            400,
            "outcome is none of",
        ),
        (
            Feedback,
            "",
            "",
            r#"{"publishId":"p","outcome":"delivered"}"#,
            400,
            "deviceId is missing",
        ),
        (DeadLetters, "", "sincems=2&untilms=1", "", 400, "sinceMs must be less"),
        (DeadLetters, "", "sincems=x", "", 400, "sinceMs is not a whole number"),
        (Replay, "x", "", "", 404, "there is no such dead letter"),
        (CreateBroadcast, "", "", r#"{"storagePolicy":2}"#, 400, "storagePolicy is neither"),
    ] {
        let (found, text) = refused(route, name, query, body);
        assert_eq!(found, status, "{route:?} {query} {body}: {text}");
        assert!(text.contains(part), "{route:?} {query} {body}: {text}");
    }
    let mut it = bench();
    it.terms.is_off = true;
    assert_eq!(it.ask(Devices, "", "", "").unwrap_err().status, 404);
}

#[test]
fn a_device_asks_for_itself_alone() {
    use PushRoute::*;
    let forbidden = |mut it: Bench, route| {
        let refusal = it.ask(route, "x", "", "{}").map(|_| ()).unwrap_err();
        assert_eq!((refusal.status, refusal.code), (403, "forbidden"), "{route:?}");
    };
    for route in
        [Devices, UnregisterClient, Channels, PutCredential, Publish, Batch, Status, Replay]
    {
        forbidden(bench().device(Some("t")), route);
    }
    for route in [Subscriptions, Unsubscribe] {
        forbidden(bench().device(Some("t")), route);
    }
    let mut it = bench();
    it.head.capability = None;
    forbidden(it, Device);
    let device = |identity: Option<&str>| {
        let mut device = registered(r#"{"id":"d","platform":"ios","provider_token":"aa"}"#);
        device.identity = identity.map(|it| Sha256::digest(it.as_bytes()).into());
        Ok(Told::Device(Box::new(device)))
    };
    for (shown, kept, status) in [
        (Some("t"), Some("t"), 200),
        (Some("x"), Some("t"), 401),
        (None, Some("t"), 401),
        (Some("t"), None, 401),
    ] {
        let mut it = bench().device(shown);
        it.ask(Device, "d", "", "").unwrap();
        assert!(matches!(it.order(), Order::Device(id) if id == "d"));
        let (found, body) = it.tell(0, device(kept)).unwrap();
        assert_eq!(found, status, "{body}");
        let mut it = bench().device(shown);
        it.ask(Subscriptions, "", "deviceid=d", "").unwrap();
        assert!(matches!(it.order(), Order::Device(id) if id == "d"));
        let told = it.tell(0, device(kept)).map(|it| it.0);
        if status == 200 {
            assert_eq!(told, None);
            assert!(matches!(it.order(), Order::Subscriptions { .. }));
            let (found, _) =
                it.tell(0, Ok(Told::Subscriptions(Page { rows: Vec::new(), next: None }))).unwrap();
            assert_eq!(found, 200);
        } else {
            assert_eq!(told, Some(status));
        }
    }
    let mut it = bench().device(Some("t"));
    it.ask(Unregister, "d", "", "").unwrap();
    let Order::Unregister(_, Registrar::Device { identity, .. }) = it.order() else { panic!() };
    assert_eq!(identity.as_deref(), Some("t"));
}

const PUBLISH: &str =
    r#"{"recipients":[{"type":"client","client_id":"u"}],"payload":{"title":"t"}}"#;
