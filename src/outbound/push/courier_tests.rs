use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::AtomicUsize;
use std::thread;

use tokio::net::TcpStream;

use super::*;
use crate::base::time::Millis;
use crate::outbound::push::provider::{Message, ProviderUrls};
use crate::push::template::Text;

/// What a server of these tests does with its n-th request.
type Script = dyn Fn(usize, &str) -> String + Send + Sync;

/// A server that answers as the script says, from threads that end with their connections; how many requests it had.
fn server(
    script: impl Fn(usize, &str) -> String + Send + Sync + 'static,
) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (script, count): (Arc<Script>, Arc<AtomicUsize>) = (Arc::new(script), Arc::default());
    let counted = Arc::clone(&count);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, script, count) = (stream.unwrap(), script.clone(), count.clone());
            thread::spawn(move || {
                while let Some(head) = request(&mut stream) {
                    let n = count.fetch_add(1, Ordering::SeqCst);
                    let path = head.split(' ').nth(1).unwrap_or_default();
                    if stream.write_all(script(n, path).as_bytes()).is_err() {
                        break;
                    }
                }
            });
        }
    });
    (url, counted)
}

/// One request's head; its content is read and dropped. None: there is no more.
fn request(stream: &mut impl Read) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).ok()?.to_ascii_lowercase();
    let length = head.split("content-length: ").nth(1).and_then(|it| it.split('\r').next());
    let mut body = vec![0; length.map_or(0, |it| it.parse().unwrap())];
    stream.read_exact(&mut body).ok()?;
    Some(head)
}

fn answer(status: u16, fields: &str, body: &str) -> String {
    format!("HTTP/1.1 {status} x\r\n{fields}content-length: {}\r\n\r\n{body}", body.len())
}

const GIVEN: &str = r#"{"access_token":"t","expires_in":3600}"#;

fn courier(url: &str, allow_private: bool) -> Courier {
    let urls = ProviderUrls {
        wns_token: format!("{url}/token"),
        apns: url.to_owned(),
        apns_channels: url.to_owned(),
        ..ProviderUrls::real()
    };
    let settings = PushSettings {
        allow_private,
        concurrency_max: 4,
        timeout: Millis(2_000),
        urls,
        ..PushSettings::default()
    };
    Courier::new(Arc::new(settings), Arc::default())
}

fn parcel(recipient: Recipient, material: Material) -> Parcel {
    let credential = Credential::new("a", "default", 1, material);
    let text = Text { title: Some("T".into()), body: Some("B".into()), ..Text::default() };
    Parcel {
        app: "a".into(),
        publish_id: "p".into(),
        provider: recipient.provider(),
        credential: Some(Arc::new(credential)),
        address: Address::Recipient(recipient),
        message: Arc::new(Message { text, ..Message::default() }),
        expires_at: None,
        is_logged: false,
    }
}

fn wns(url: &str) -> Parcel {
    let material = Material::Wns { package_sid: "s".into(), client_secret: "s".into() };
    parcel(Recipient::Wns { uri: format!("{url}/wns") }, material)
}

/// Without a token of its own: the certificate would do.
fn apns() -> Parcel {
    let pem = include_str!("../../../tests/data/certificates/chain-first.pem");
    let material = Material::ApnsCertificate {
        p12: pem.into(),
        password: String::new(),
        topic: "org.x".into(),
        is_sandbox: false,
    };
    parcel(Recipient::Apns { token: "ab".repeat(32) }, material)
}

fn run<T>(what: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(what)
}

/// All of them at once.
async fn deliver_all(courier: &Courier, parcels: Vec<Parcel>) -> Vec<Delivered> {
    let tasks: Vec<_> = parcels
        .into_iter()
        .map(|parcel| {
            let courier = courier.clone();
            tokio::spawn(async move { courier.deliver(parcel).await })
        })
        .collect();
    let mut delivered = Vec::new();
    for task in tasks {
        delivered.push(task.await.unwrap());
    }
    delivered
}

#[test]
fn many_parcels_need_one_access_token() {
    let asked = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&asked);
    let (url, _) = server(move |_, path| match path {
        "/token" => {
            asked.fetch_add(1, Ordering::SeqCst);
            answer(200, "", GIVEN)
        }
        _ => answer(200, "x-wns-msg-id: m\r\n", ""),
    });
    let courier = courier(&url, true);
    let delivered = run(deliver_all(&courier, (0..20).map(|_| wns(&url)).collect()));
    for it in delivered {
        assert_eq!((it.verdict, it.message_id.as_deref()), (Verdict::Taken, Some("m")), "{it:?}");
    }
    assert_eq!(counted.load(Ordering::SeqCst), 1);
}

#[test]
fn what_another_secret_was_let_in_with_is_not_used() {
    let (url, asked) = server(|_, path| match path {
        "/token" => answer(200, "", GIVEN),
        _ => answer(200, "", ""),
    });
    let courier = courier(&url, true);
    // Credentials that were removed and given again: their version is what it was.
    for (secret, requests) in [("s", 2), ("s", 3), ("t", 5), ("t", 6)] {
        let material = Material::Wns { package_sid: "s".into(), client_secret: secret.into() };
        let parcel = parcel(Recipient::Wns { uri: format!("{url}/wns") }, material);
        // As the registry does.
        let _known = parcel.credential.clone();
        assert_eq!(run(courier.deliver(parcel)).verdict, Verdict::Taken);
        assert_eq!(asked.load(Ordering::SeqCst), requests, "{secret}");
    }
    let pem = include_str!("../../../tests/data/certificates/chain-first.pem");
    let certificate = |p12: String| {
        let (password, topic) = (String::new(), "org.x".to_owned());
        let material = Material::ApnsCertificate { p12, password, topic, is_sandbox: false };
        Arc::new(Credential::new("a", "default", 1, material))
    };
    let (old, new) = (certificate(pem.into()), certificate(format!("{pem}\n")));
    let named = || courier.0.named.lock().unwrap().len();
    for (credential, lines) in [(&old, 1), (&old, 1), (&new, 2), (&old, 2)] {
        courier.0.lines(Some(credential)).unwrap();
        assert_eq!(named(), lines);
    }
    drop((old, new));
    courier.0.lines(Some(&certificate(format!("{pem}\n\n")))).unwrap();
    assert_eq!(named(), 1, "what is gone is not kept");
}

#[test]
fn a_refused_exchange_is_told_to_all_who_waited_for_it() {
    let refused = || answer(400, "", r#"{"error":"invalid_client"}"#);
    let (url, asked) = server(move |_, _| refused());
    let courier = courier(&url, true);
    // As many as there is room for at once.
    let delivered = run(deliver_all(&courier, (0..4).map(|_| wns(&url)).collect()));
    for it in &delivered {
        assert_eq!((it.verdict, it.status), (Verdict::Unauthorized, 400), "{it:?}");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    // Whoever comes later asks again: the credentials may be good now.
    assert_eq!(run(courier.deliver(wns(&url))).verdict, Verdict::Unauthorized);
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[test]
fn a_token_that_is_refused_is_asked_for_again_once_at_most() {
    let (url, asked) = server(|_, path| match path {
        "/token" => answer(200, "", GIVEN),
        _ => answer(401, "", ""),
    });
    let delivered = run(courier(&url, true).deliver(wns(&url)));
    assert_eq!((delivered.verdict, delivered.status), (Verdict::Unauthorized, 401));
    // Not even once if it is as new as this one is, unless the machine is slow.
    assert!(matches!(asked.load(Ordering::SeqCst), 2 | 4));
}

#[test]
fn an_answer_says_how_long_to_wait() {
    let (url, _) = server(|_, path| match path {
        "/token" => answer(200, "", GIVEN),
        _ => answer(503, "Retry-After: 7\r\n", ""),
    });
    let delivered = run(courier(&url, true).deliver(wns(&url)));
    let got = (delivered.verdict, delivered.retry_after, delivered.status);
    assert_eq!(got, (Verdict::Unavailable, Some(Millis(7_000)), 503));
}

#[test]
fn silence_is_told_by_name() {
    // It reads and says nothing: a status line that never ends.
    let (url, _) = server(|_, path| match path {
        "/token" => answer(200, "", GIVEN),
        _ => String::from("HTTP/1.1 2"),
    });
    let courier = courier(&url, true);
    let delivered = run(courier.deliver(wns(&url)));
    assert_eq!(
        (delivered.verdict, delivered.reason.as_deref()),
        (Verdict::Unavailable, Some("timeout"))
    );
    // Nobody listens where one just did.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let closed = format!("http://{closed}");
    let delivered = run(super::tests::courier(&closed, true).deliver(wns(&closed)));
    assert_eq!(
        (delivered.verdict, delivered.reason.as_deref()),
        (Verdict::Unavailable, Some(&*closed.replace("http://", "unreachable ")))
    );
}

#[test]
fn a_devices_own_endpoint_is_public_or_nothing_leaves() {
    let (url, asked) = server(|_, path| match path {
        "/token" => answer(200, "", GIVEN),
        _ => answer(200, "", ""),
    });
    let port = url.rsplit(':').next().unwrap();
    let courier = courier(&url, false);
    // The token's server is the settings' affair, so it is asked; the devices' own is not.
    let delivered = run(courier.deliver(wns(&url)));
    assert_eq!(
        (delivered.verdict, delivered.reason.as_deref()),
        (Verdict::Refused, Some("private_endpoint"))
    );
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    let lines = Lines::new(None);
    for host in ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "10.0.0.1"] {
        let request = Request {
            method: "POST",
            url: format!("http://{host}:{port}/"),
            fields: Vec::new(),
            body: bytes::Bytes::new(),
            is_http2: false,
        };
        let sent = run(lines.send(&request, false, Duration::from_secs(2)));
        assert_eq!(sent.err(), Some(Silence::Private), "{host}");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[test]
fn no_more_than_so_many_are_under_way() {
    let under_way = Arc::<AtomicUsize>::default();
    let most = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&most);
    let (url, _) = server(move |_, path| match path {
        "/token" => answer(200, "", GIVEN),
        _ => {
            most.fetch_max(under_way.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            thread::yield_now();
            under_way.fetch_sub(1, Ordering::SeqCst);
            answer(200, "", "")
        }
    });
    let courier = courier(&url, true);
    let delivered = run(deliver_all(&courier, (0..64).map(|_| wns(&url)).collect()));
    assert!(delivered.iter().all(|it| it.verdict == Verdict::Taken));
    assert!((1..=4).contains(&counted.load(Ordering::SeqCst)));
}

#[test]
fn what_is_logged_is_kept_for_the_console_and_goes_nowhere() {
    let courier = courier("http://127.0.0.1:1", false);
    for n in 0..LOGGED_MAX + 3 {
        let parcel = wns("http://127.0.0.1:1");
        let parcel =
            Parcel { is_logged: true, credential: None, publish_id: format!("p{n}"), ..parcel };
        assert_eq!(run(courier.deliver(parcel)).verdict, Verdict::Taken);
    }
    let logged = courier.logged();
    assert_eq!(logged.len(), LOGGED_MAX);
    assert!(logged[0].contains(&format!("p{}", LOGGED_MAX + 2)), "{}", logged[0]);
    assert!(logged[0].contains("\"T\" \"B\"") && !logged[0].contains("127.0.0.1"), "{}", logged[0]);
}

/// What a server of HTTP/2 does with a request.
#[derive(Clone, Copy)]
enum Does {
    Answer(u16),
    /// Says that it did not process it.
    Refuse,
    /// Took it, and the connection is lost.
    Lose,
}

/// Serves the connections of a listener by HTTP/2. The first one is told good-bye before anything was processed, if
/// `is_goodbye`.
async fn serve_http2(
    listener: tokio::net::TcpListener,
    is_goodbye: bool,
    does: fn(usize) -> Does,
    count: Arc<AtomicUsize>,
) {
    let mut is_first = true;
    while let Ok((stream, _)) = listener.accept().await {
        if std::mem::take(&mut is_first) && is_goodbye {
            tokio::spawn(say_goodbye(stream));
            continue;
        }
        let count = Arc::clone(&count);
        tokio::spawn(async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                match does(count.fetch_add(1, Ordering::SeqCst)) {
                    Does::Answer(status) => {
                        let answer = hyper::http::Response::builder().status(status);
                        respond.send_response(answer.body(()).unwrap(), true).unwrap();
                    }
                    Does::Refuse => respond.send_reset(h2::Reason::REFUSED_STREAM),
                    Does::Lose => return,
                }
            }
        });
    }
}

/// Waits for a request, says that none was processed, and waits for the end.
async fn say_goodbye(stream: TcpStream) {
    const PREFACE_BYTES: usize = 24;
    const HEADERS: u8 = 1;
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let goodbye = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let (mut got, mut has_said) = (Vec::new(), false);
    loop {
        stream.readable().await.unwrap();
        let mut part = [0; 4096];
        match stream.try_read(&mut part) {
            Ok(0) => return,
            Ok(length) => got.extend_from_slice(&part[..length]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(_) => return,
        }
        let (mut at, mut has_request) = (PREFACE_BYTES, false);
        while let Some([a, b, c, kind, ..]) = got.get(at..) {
            has_request |= *kind == HEADERS;
            at += 9 + (usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c));
        }
        if has_request && !std::mem::replace(&mut has_said, true) {
            stream.writable().await.unwrap();
            stream.try_write(&[&settings[..], &goodbye[..]].concat()).unwrap();
        }
    }
}

#[test]
fn what_was_surely_not_processed_is_sent_again_at_once() {
    for (is_goodbye, does, verdict, requests) in [
        (false, (|_| Does::Answer(200)) as fn(usize) -> Does, Verdict::Taken, 1),
        (false, |n| if n < 2 { Does::Refuse } else { Does::Answer(200) }, Verdict::Taken, 3),
        (true, |_| Does::Answer(200), Verdict::Taken, 1),
        // Not for ever.
        (false, |_| Does::Refuse, Verdict::Unavailable, 4),
        // It may have been taken: whoever planned it decides.
        (false, |_| Does::Lose, Verdict::Unavailable, 1),
    ] {
        let count = Arc::<AtomicUsize>::default();
        let delivered = run(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            tokio::spawn(serve_http2(listener, is_goodbye, does, Arc::clone(&count)));
            courier(&url, true).deliver(apns()).await
        });
        assert_eq!(delivered.verdict, verdict, "{delivered:?}");
        assert_eq!(count.load(Ordering::SeqCst), requests, "{delivered:?}");
    }
}

#[test]
fn broadcast_channels_are_asked_about() {
    let (answered, count) = (|_: usize| Does::Answer(204), Arc::<AtomicUsize>::default());
    let told = run(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(serve_http2(listener, false, answered, count));
        let credential = apns().credential.unwrap();
        let what = BroadcastWhat::Remove("c".into());
        let ask = BroadcastAsk { credential, provider: Provider::Apns, what };
        courier(&url, false).broadcast(ask).await
    });
    assert_eq!(told, Ok(Told::Removed(1)));
}
