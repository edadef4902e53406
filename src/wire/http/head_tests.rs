use super::*;
use crate::base::prng::Prng;

const LIMITS: HeadLimits =
    HeadLimits { target_bytes_max: 64, head_bytes_max: 512, head_fields_max: 8 };

/// The head as text, to compare at a glance; None: incomplete.
type Outcome = Result<Option<String>, HeadError>;

fn show(head: &Head<'_>, fields: &[Field<'_>]) -> String {
    let Head {
        len,
        method,
        target,
        path,
        query,
        version,
        body,
        keep_alive,
        expect_continue,
        websocket,
    } = head;
    format!(
        "{len} {method} {target} {path} {query:?} {version:?} {body:?} {keep_alive} {expect_continue} {websocket:?} {fields:?}"
    )
}

fn whole(bytes: &[u8], limits: &HeadLimits) -> Outcome {
    let mut fields = Vec::new();
    match parse_head(bytes, &mut HeadScan::default(), limits, &mut fields)? {
        Progress::Incomplete => Ok(None),
        Progress::Complete(head) => Ok(Some(show(&head, &fields))),
    }
}

/// Feeds growing prefixes, `step` more bytes each time.
fn cut(bytes: &[u8], limits: &HeadLimits, mut step: impl FnMut() -> usize) -> Outcome {
    let (mut scan, mut end) = (HeadScan::default(), 0);
    while end < bytes.len() {
        end = (end + step().max(1)).min(bytes.len());
        let mut fields = Vec::new();
        if let Progress::Complete(head) = parse_head(&bytes[..end], &mut scan, limits, &mut fields)?
        {
            return Ok(Some(show(&head, &fields)));
        }
    }
    Ok(None)
}

fn with_head<T>(text: &str, look: impl FnOnce(&Head<'_>, &[Field<'_>]) -> T) -> T {
    let mut fields = Vec::new();
    match parse_head(text.as_bytes(), &mut HeadScan::default(), &LIMITS, &mut fields) {
        Ok(Progress::Complete(head)) => look(&head, &fields),
        other => panic!("{text:?}: {other:?}"),
    }
}

#[test]
fn good_heads_are_read() {
    use BodyKind::{Chunked, Length, None as Nothing};
    // Request line, fields (Host is added), path, query, body, keep-alive, expects 100.
    type Case =
        (&'static str, &'static str, &'static str, Option<&'static str>, BodyKind, bool, bool);
    let cases: &[Case] = &[
        ("GET / HTTP/1.1", "", "/", None, Nothing, true, false),
        ("GET / HTTP/1.0", "", "/", None, Nothing, false, false),
        ("GET / HTTP/1.0", "Connection: Keep-Alive\r\n", "/", None, Nothing, true, false),
        ("GET / HTTP/1.1", "Connection: x, CLOSE\r\n", "/", None, Nothing, false, false),
        (
            "GET / HTTP/1.1",
            "Connection: keep-alive\r\nConnection: close\r\n",
            "/",
            None,
            Nothing,
            false,
            false,
        ),
        ("GET /a?b?c=/d HTTP/1.1", "", "/a", Some("b?c=/d"), Nothing, true, false),
        ("GET /a? HTTP/1.1", "", "/a", Some(""), Nothing, true, false),
        ("GET //a/%zz|{} HTTP/1.1", "", "//a/%zz|{}", None, Nothing, true, false),
        ("GET http://h:1/p?q HTTP/1.1", "", "/p", Some("q"), Nothing, true, false),
        ("GET HTTPS://h?q HTTP/1.1", "", "/", Some("q"), Nothing, true, false),
        ("GET ws://h HTTP/1.1", "", "/", None, Nothing, true, false),
        ("OPTIONS * HTTP/1.1", "", "*", None, Nothing, true, false),
        ("B-R!EW / HTTP/1.1", "", "/", None, Nothing, true, false),
        ("POST / HTTP/1.1", "Content-Length: 0\r\n", "/", None, Nothing, true, false),
        ("POST / HTTP/1.1", "content-length:\t007 \t\r\n", "/", None, Length(7), true, false),
        (
            "POST / HTTP/1.1",
            "Content-Length: 18446744073709551615\r\n",
            "/",
            None,
            Length(u64::MAX),
            true,
            false,
        ),
        ("POST / HTTP/1.1", "Transfer-Encoding: Chunked\r\n", "/", None, Chunked, true, false),
        (
            "POST / HTTP/1.1",
            "Expect: 100-Continue\r\nContent-Length: 1\r\n",
            "/",
            None,
            Length(1),
            true,
            true,
        ),
        ("POST / HTTP/1.1", "Expect: 100-continue\r\n", "/", None, Nothing, true, false),
        (
            "POST / HTTP/1.0",
            "Expect: 100-continue\r\nContent-Length: 1\r\n",
            "/",
            None,
            Length(1),
            false,
            false,
        ),
        (
            "GET / HTTP/1.1",
            "Empty:\r\nOdd: \x7e\ta\u{e9}\u{20ac}\r\n",
            "/",
            None,
            Nothing,
            true,
            false,
        ),
    ];
    for (line, fields, path, query, body, keep_alive, expect) in cases {
        let text = format!("{line}\r\nHost: h\r\n{fields}\r\nbehind");
        with_head(&text, |head, _| {
            assert_eq!((head.path, head.query, head.body), (*path, *query, *body), "{text:?}");
            assert_eq!((head.keep_alive, head.expect_continue), (*keep_alive, *expect), "{text:?}");
            assert_eq!(head.len, text.len() - "behind".len(), "{text:?}");
            assert_eq!(head.websocket, None, "{text:?}");
        });
    }
    with_head("\r\nGET / HTTP/1.0\r\nA:  b c \r\nd:\r\n\r\n", |head, fields| {
        assert_eq!(fields, [("A", &b"b c"[..]), ("d", b"")]);
        assert_eq!((head.method, head.len), ("GET", 34));
    });
}

fn hostile() -> Vec<(Vec<u8>, HeadError)> {
    use HeadError::*;
    // The line before the fields, the fields behind `Host`, what is said to it.
    let lines: &[(&[u8], HeadError)] = &[
        (b"", BareLf),
        (b"\r\n\r\nGET / HTTP/1.1", Method),
        (b" GET / HTTP/1.1", Method),
        (b"\x16\x03\x01\x02\x00\x01", Method),
        (b"G(T / HTTP/1.1", Method),
        (b"GET\t/ HTTP/1.1", Method),
        (b"ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG / HTTP/1.1", Method),
        (b"GET", Method),
        (b"GET /", RequestLine),
        (b"GET  / HTTP/1.1", RequestLine),
        (b"GET /  HTTP/1.1", VersionForm),
        (b"GET / HTTP/1.1 ", RequestLine),
        (b"GET / HTTP/1.1x", RequestLine),
        (b"GET / http/1.1", VersionForm),
        (b"GET / HTTP/1.", VersionForm),
        (b"GET / HTTP/11", VersionForm),
        (b"GET / HTTP/1.2", VersionUnsupported),
        (b"GET / HTTP/0.9", VersionUnsupported),
        (b"PRI * HTTP/2.0", VersionUnsupported),
        (b"GET /a#b HTTP/1.1", TargetByte),
        (b"GET /\xc3\xa9 HTTP/1.1", TargetByte),
        (b"GET /\x00 HTTP/1.1", TargetByte),
        (b"GET /\ta HTTP/1.1", TargetByte),
        (b"GET a HTTP/1.1", TargetForm),
        (b"GET * HTTP/1.1", TargetForm),
        (b"CONNECT h:1 HTTP/1.1", TargetForm),
        (b"GET ftp://h/ HTTP/1.1", TargetForm),
        (b"GET http:///a HTTP/1.1", TargetForm),
        (b"GET http://u@h/ HTTP/1.1", TargetForm),
        (b"GET / HTTP/1.1\rX: y", BareCr),
    ];
    let fields: &[(&[u8], HeadError)] = &[
        (b"X: y\nZ: a\r\n", BareLf),
        (b"X: y\rZ: a\r\n", BareCr),
        (b"\nX: y\r\n", BareLf),
        (b"\rX: y\r\n", BareCr),
        (b"X: a\r\n b\r\n", Fold),
        (b"X: a\r\n\tb\r\n", Fold),
        (b"X : a\r\n", SpaceBeforeColon),
        (b"X\t: a\r\n", SpaceBeforeColon),
        (b": a\r\n", FieldName),
        (b"X\r\n", FieldName),
        (b"X(Y): a\r\n", FieldName),
        (b"X\xc3\xa9: a\r\n", FieldName),
        (b"X: a\x00b\r\n", FieldValue),
        (b"X: a\x7fb\r\n", FieldValue),
        (b"X: \x1b\r\n", FieldValue),
        (b"Host: h\r\n", HostRepeated),
        (b"hOST: i\r\n", HostRepeated),
        (b"Content-Length: +1\r\n", ContentLength),
        (b"Content-Length: -1\r\n", ContentLength),
        (b"Content-Length: 1,1\r\n", ContentLength),
        (b"Content-Length: 1 1\r\n", ContentLength),
        (b"Content-Length: 0x1\r\n", ContentLength),
        (b"Content-Length: 1.0\r\n", ContentLength),
        (b"Content-Length:\r\n", ContentLength),
        (b"Content-Length: 18446744073709551616\r\n", ContentLength),
        (b"Content-Length: 1\r\nContent-Length: 1\r\n", ContentLengthRepeated),
        (b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", BothLengths),
        (b"Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", BothLengths),
        (b"Transfer-Encoding:\r\n", TransferEncoding),
        (b"Transfer-Encoding: gzip\r\n", TransferEncoding),
        (b"Transfer-Encoding: chunked, gzip\r\n", TransferEncoding),
        (b"Transfer-Encoding: chunked, chunked\r\n", TransferEncoding),
        (b"Transfer-Encoding: chunked;a\r\n", TransferEncoding),
        (b"Transfer-Encoding: xchunked\r\n", TransferEncoding),
        (b"Transfer-Encoding: \x0bchunked\r\n", FieldValue),
        (b"Transfer-Encoding: gzip, chunked\r\n", TransferCodingUnknown),
        (b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", TransferEncodingRepeated),
        (b"Expect: 200-ok\r\n", Expectation),
        (b"A:\r\nB:\r\nC:\r\nD:\r\nE:\r\nF:\r\nG:\r\nH:\r\n", TooManyFields),
    ];
    let mut cases = Vec::new();
    for (line, error) in lines {
        // The empty one is a head that starts with LF.
        let end: &[u8] =
            if line.is_empty() { b"\r\n\nHost: h\r\n\r\n" } else { b"\r\nHost: h\r\n\r\n" };
        let error = if line.is_empty() { Method } else { *error };
        cases.push(([*line, end].concat(), error));
    }
    for (fields, error) in fields {
        cases.push(([b"POST / HTTP/1.1\r\nHost: h\r\n", *fields, b"\r\n"].concat(), *error));
    }
    for host in ["a b", "a,b", "a/b", "u@h", "h#", "h\u{e9}", "\"h\""] {
        cases.push((format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").into(), Host));
    }
    cases.push((b"GET / HTTP/1.1\r\n\r\n".to_vec(), HostMissing));
    cases.push((b"GET / HTTP/1.1\r\nHosts: h\r\n\r\n".to_vec(), HostMissing));
    cases.push((
        b"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(),
        TransferEncodingInHttp10,
    ));
    cases.push((
        format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "a".repeat(64)).into(),
        TargetTooLong,
    ));
    cases.push((format!("GET /{}", "a".repeat(5000)).into(), TargetTooLong));
    cases.push((
        format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "a".repeat(481)).into(),
        TooLong,
    ));
    cases.push((format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}", "a".repeat(5000)).into(), TooLong));
    cases.push((format!("GET / HTTP/1.1\r\n{}", "a".repeat(5000)).into(), TooLong));
    cases.push((vec![b'a'; 5000], Method));
    cases
}

#[test]
fn hostile_heads_are_refused_however_they_are_cut() {
    let mut prng = Prng::new(5);
    for (bytes, want) in hostile() {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned();
        assert_eq!(whole(&bytes, &LIMITS), Err(want), "{shown:?}");
        assert_eq!(cut(&bytes, &LIMITS, || 1), Err(want), "{shown:?} by single bytes");
        for _ in 0..10 {
            assert_eq!(
                cut(&bytes, &LIMITS, || prng.below(40) as usize),
                Err(want),
                "{shown:?} cut at random"
            );
        }
        assert!((400..=505).contains(&want.status()) && want.as_str().ends_with('.'));
    }
}

#[test]
fn limits_are_reached_and_not_passed() {
    let target = format!("/{}", "a".repeat(63));
    with_head(&format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n"), |head, _| {
        assert_eq!(head.target, target)
    });
    let fields = "A:\r\n".repeat(7);
    with_head(&format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n"), |_, fields| {
        assert_eq!(fields.len(), 8)
    });
    let head = "GET / HTTP/1.1\r\nHost: h\r\nX: ";
    let text = format!("{head}{}\r\n\r\n", "a".repeat(512 - 4 - head.len()));
    with_head(&format!("{text}behind"), |head, _| assert_eq!(head.len, 512));
    assert!(cut(text.as_bytes(), &LIMITS, || 1).is_ok_and(|head| head.is_some()));
}

#[test]
fn handshakes_are_judged() {
    let good = "Upgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n\
                Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let plain = "GET / HTTP/1.1";
    let cases: &[(&str, String, Result<(), HandshakeError>)] = &[
        (plain, good.into(), Ok(())),
        (plain, good.replace("WebSocket\r\nC", "h2c, websocket\r\nC"), Ok(())),
        ("POST / HTTP/1.1", good.into(), Err(HandshakeError::Method)),
        ("GET / HTTP/1.0", good.into(), Err(HandshakeError::Http10)),
        (plain, format!("{good}Content-Length: 1\r\n"), Err(HandshakeError::Body)),
        (plain, good.replace(", Upgrade", ""), Err(HandshakeError::Connection)),
        (plain, good.replace("13", "12"), Err(HandshakeError::Version)),
        (plain, good.replace("Sec-WebSocket-Version: 13\r\n", ""), Err(HandshakeError::Version)),
        (plain, format!("{good}Sec-WebSocket-Version: 13\r\n"), Err(HandshakeError::Version)),
        (plain, good.replace("==", "="), Err(HandshakeError::Key)),
        (plain, good.replace("Key: dGhlIHNhbXBsZSBub25jZQ==", "Kay: x"), Err(HandshakeError::Key)),
        (
            plain,
            format!("{good}Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"),
            Err(HandshakeError::Key),
        ),
    ];
    for (line, fields, want) in cases {
        with_head(&format!("{line}\r\nHost: h\r\n{fields}\r\n"), |head, _| {
            assert_eq!(
                head.websocket.map(|result| result.map(|_| ())),
                Some(*want),
                "{line} {fields}"
            );
            assert_eq!(head.is_websocket(), want.is_ok());
        });
    }
    with_head(
        "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        |head, _| {
            assert_eq!(head.websocket, None);
        },
    );
}

/// A head put together from good pieces and, now and then, an odd one.
fn random_head(prng: &mut Prng) -> Vec<u8> {
    let mut pick = |good: &[&'static str], odd: &[&'static str]| {
        let from = if prng.chance(1, 40) { odd } else { good };
        from[prng.below(from.len() as u64) as usize]
    };
    const LINE_ENDS: &[&str] = &["\n", "\r", "\r\n ", "\r\n\r\n", ""];
    let mut text = String::from(pick(&["", "\r\n"], &["\n", "\r", " "]));
    text += pick(&["GET", "POST", "OPTIONS", "get", "A!b"], &["G T", "", "G\0"]);
    text += pick(&[" "], &["  ", "\t", ""]);
    text += pick(&["/", "/a?b", "http://h/", "/%41|"], &["*", "/\u{e9}", "/a b", "x", "/#"]);
    text += pick(&[" HTTP/1.1", " HTTP/1.0"], &[" HTTP/1.2", " HTTP/1.1 ", "", " HTTP/2"]);
    text += pick(&["\r\n"], LINE_ENDS);
    text += pick(&["Host: h\r\n", "hosT:h:1 \r\n"], &["", "Host : h\r\n", "Host: a,b\r\n"]);
    for _ in 0..3 {
        text += pick(
            &["Connection", "X", "x-y", "Accept", "~"],
            &["Content-Length", "Transfer-Encoding", "X Y", "", " X"],
        );
        text += pick(&[":", ": ", ":\t "], &[" :", "", "::"]);
        text += pick(
            &["h", "1", "close", "a b ", "", "a\tb", "\u{e9}"],
            &["chunked", "\0", "\x7f", "1, 1", "\x0b"],
        );
        text += pick(&["\r\n"], LINE_ENDS);
    }
    text += pick(&["\r\n"], LINE_ENDS);
    let mut bytes = text.into_bytes();
    if prng.chance(1, 4) {
        let at = prng.below(bytes.len() as u64) as usize;
        bytes[at] = prng.next_u32() as u8;
    }
    bytes
}

#[test]
fn what_we_take_httparse_takes_and_reads_alike() {
    let (mut prng, mut taken) = (Prng::new(9), 0);
    for round in 0..60_000 {
        let bytes = random_head(&mut prng);
        let ours = whole(&bytes, &LIMITS);
        // Once in a while by single bytes: slow in a test build.
        if round % 8 == 0 {
            let pieces = cut(&bytes, &LIMITS, || 1 + prng.below(7) as usize);
            // An error before the end may be noticed only when the head ends.
            if pieces != Ok(None) || ours.is_ok() {
                assert_eq!(pieces, ours, "round {round}: {:?}", String::from_utf8_lossy(&bytes));
            }
        }
        let mut fields = Vec::new();
        let Ok(Progress::Complete(head)) =
            parse_head(&bytes, &mut HeadScan::default(), &LIMITS, &mut fields)
        else {
            continue;
        };
        taken += 1;
        let mut slots = [httparse::EMPTY_HEADER; 16];
        let mut theirs = httparse::Request::new(&mut slots);
        let status = theirs.parse(&bytes);
        let shown = String::from_utf8_lossy(&bytes);
        assert_eq!(status, Ok(httparse::Status::Complete(head.len)), "round {round}: {shown:?}");
        assert_eq!(
            (theirs.method, theirs.path),
            (Some(head.method), Some(head.target)),
            "round {round}"
        );
        let theirs: Vec<Field<'_>> =
            theirs.headers.iter().map(|field| (field.name, field.value)).collect();
        assert_eq!(theirs, fields, "round {round}: {shown:?}");
    }
    assert!(taken > 10_000, "only {taken} heads were good: the generator is too wild");
}

#[test]
fn the_memory_for_fields_is_kept() {
    let mut spare = FieldsSpare::default();
    let mut fields = spare.take();
    fields.reserve(50);
    let memory = fields.as_ptr() as usize;
    {
        let text = String::from("x");
        let mut fields: Vec<Field<'_>> = fields;
        fields.push((&text, b""));
        spare.put_back(fields);
    }
    let fields = spare.take();
    assert!(fields.is_empty() && fields.capacity() >= 50);
    assert_eq!(fields.as_ptr() as usize, memory);
}
