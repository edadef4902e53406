use super::*;
use crate::base::prng::Prng;
use crate::wire::websocket::encode::{Compression, close_frame, masked_frame, write_frame};

/// A step that owns what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Owned {
    Text(String),
    Binary(Vec<u8>),
    Deflated(MessageKind, Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
    Failed(FrameError),
}

/// Everything a run of bytes says, cut as `cut` says (handed what is left).
fn decode(bytes: &[u8], mut decoder: Decoder, mut cut: impl FnMut(usize) -> usize) -> Vec<Owned> {
    let (mut out, mut assembly, mut rest) = (Vec::new(), Vec::new(), bytes);
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(cut(rest.len()).clamp(1, rest.len()));
        rest = after;
        let mut piece = piece.to_vec();
        let mut input = &mut piece[..];
        loop {
            out.push(match decoder.next(&mut input, &mut assembly) {
                Ok(Step::NeedMore) => break,
                Ok(Step::Text(text)) => Owned::Text(text.into()),
                Ok(Step::Binary(bytes)) => Owned::Binary(bytes.into()),
                Ok(Step::Deflated(kind, bytes)) => Owned::Deflated(kind, bytes.into()),
                Ok(Step::Ping(bytes)) => Owned::Ping(bytes.into()),
                Ok(Step::Pong(bytes)) => Owned::Pong(bytes.into()),
                Ok(Step::Close { code, reason }) => Owned::Close(code, reason.into()),
                Err(error) => {
                    out.push(Owned::Failed(error));
                    return out;
                }
            });
        }
        assert!(input.is_empty());
        if !decoder.is_assembling() {
            assembly = Vec::new();
        }
    }
    out
}

const MAX: usize = 1000;

fn server() -> Decoder {
    Decoder::new(Role::Server, MAX, false)
}

/// One frame of any kind, masked; `first` is the header's first byte.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = masked_frame(Opcode::Binary, Compression::Plain, payload, [1, 2, 3, 4]);
    bytes[0] = first;
    bytes
}

fn cases() -> Vec<(&'static str, Vec<u8>, Vec<Owned>)> {
    use FrameError as E;
    use Owned::*;
    let text = |text: &str| Text(text.into());
    let f = frame;
    let mut cases = vec![
        ("text", f(0x81, b"hello"), vec![text("hello")]),
        ("empty text", f(0x81, b""), vec![text("")]),
        ("binary", f(0x82, &[0, 255]), vec![Binary(vec![0, 255])]),
        (
            "two in one",
            [f(0x81, b"a"), f(0x82, b"b")].concat(),
            vec![text("a"), Binary(b"b".into())],
        ),
        ("126 bytes", f(0x82, &[7; 126]), vec![Binary(vec![7; 126])]),
        ("fragments", [f(1, b"a"), f(0, b"b"), f(0x80, b"c")].concat(), vec![text("abc")]),
        ("empty fragments", [f(1, b""), f(0, b""), f(0x80, b"")].concat(), vec![text("")]),
        (
            "last fragment has all",
            [f(1, b""), f(0x80, b"abc"), f(0x81, b"d")].concat(),
            vec![text("abc"), text("d")],
        ),
        ("ping", f(0x89, b"x"), vec![Ping(b"x".into())]),
        ("full ping", f(0x89, &[9; 125]), vec![Ping(vec![9; 125])]),
        ("pong", f(0x8a, b""), vec![Pong(vec![])]),
        (
            "controls inside a message",
            [
                f(1, b"a"),
                f(0x89, b"p"),
                f(0, b"b"),
                f(0x8a, b"q"),
                f(0x89, b""),
                f(0x80, b"c"),
                f(0x81, b"d"),
            ]
            .concat(),
            vec![Ping(b"p".into()), Pong(b"q".into()), Ping(vec![]), text("abc"), text("d")],
        ),
        (
            "character across fragments",
            [f(1, b"\xe2\x82"), f(0x80, b"\xac")].concat(),
            vec![text("€")],
        ),
        (
            "character across and a ping",
            [f(1, b"\xe2"), f(0x89, b"\xff"), f(0x80, b"\x82\xac")].concat(),
            vec![Ping(b"\xff".into()), text("€")],
        ),
        (
            "binary is not text",
            [f(2, b"\xe2"), f(0x80, b"\xff")].concat(),
            vec![Binary(b"\xe2\xff".into())],
        ),
        ("close", f(0x88, b""), vec![Close(None, String::new())]),
        ("close with code", f(0x88, b"\x03\xe8"), vec![Close(Some(1000), String::new())]),
        ("close with reason", f(0x88, "\u{3}\u{7e}€".as_bytes()), vec![Failed(E::CloseCode)]),
        (
            "close, then more",
            [f(0x88, b"\x0f\xa0by"), f(0x81, b"x"), vec![255; 9]].concat(),
            vec![Close(Some(4000), "by".into())],
        ),
        ("largest message", f(0x82, &[1; MAX]), vec![Binary(vec![1; MAX])]),
        ("too large", f(0x82, &[1; MAX + 1]), vec![Failed(E::TooLarge)]),
        (
            "too large in fragments",
            [f(2, &[1; MAX]), f(0x80, b"x")].concat(),
            vec![Failed(E::TooLarge)],
        ),
        (
            "control inside the largest",
            [f(2, &[1; MAX]), f(0x89, b"x"), f(0x80, b"")].concat(),
            vec![Ping(b"x".into()), Binary(vec![1; MAX])],
        ),
        ("reserved bit 1", f(0xc1, b"x"), vec![Failed(E::ReservedBits)]),
        ("reserved bit 2", f(0xa1, b"x"), vec![Failed(E::ReservedBits)]),
        ("reserved bit 3", f(0x99, b"x"), vec![Failed(E::ReservedBits)]),
        ("fragmented ping", f(0x09, b"x"), vec![Failed(E::ControlFragmented)]),
        ("long ping", f(0x89, &[0; 126]), vec![Failed(E::ControlTooLong)]),
        ("continuation of nothing", f(0x80, b"x"), vec![Failed(E::ContinuationWithoutStart)]),
        (
            "continuation after the end",
            [f(0x81, b"a"), f(0, b"x")].concat(),
            vec![text("a"), Failed(E::ContinuationWithoutStart)],
        ),
        ("start inside", [f(1, b"a"), f(0x81, b"b")].concat(), vec![Failed(E::StartInsideMessage)]),
        ("no mask", b"\x81\x01a".to_vec(), vec![Failed(E::Unmasked)]),
        ("16 bits too many", b"\x82\xfe\x00\x7d".to_vec(), vec![]),
        ("16 bits for little", b"\x82\xfe\x00\x7d\0\0\0\0".to_vec(), vec![Failed(E::Length)]),
        (
            "64 bits for little",
            b"\x82\xff\0\0\0\0\0\0\xff\xff\0\0\0\0".to_vec(),
            vec![Failed(E::Length)],
        ),
        (
            "64 bits with the top one",
            b"\x82\xff\x80\0\0\0\0\x01\0\0\0\0\0\0".to_vec(),
            vec![Failed(E::Length)],
        ),
        (
            "64 bits of much",
            b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0".to_vec(),
            vec![Failed(E::TooLarge)],
        ),
        ("not UTF-8", f(0x81, b"\xff"), vec![Failed(E::Utf8)]),
        ("unfinished character", f(0x81, b"a\xe2\x82"), vec![Failed(E::Utf8)]),
        (
            "unfinished at the last fragment",
            [f(1, b"a\xe2"), f(0x80, b"")].concat(),
            vec![Failed(E::Utf8)],
        ),
        ("surrogate", f(0x81, b"\xed\xa0\x80"), vec![Failed(E::Utf8)]),
        ("overlong", f(0x81, b"\xc0\xaf"), vec![Failed(E::Utf8)]),
        (
            "fails at the fragment",
            [f(1, b"\xf4\x90"), f(0x89, b"late")].concat(),
            vec![Failed(E::Utf8)],
        ),
        ("close of one byte", f(0x88, b"\x03"), vec![Failed(E::ClosePayload)]),
        ("close reason not UTF-8", f(0x88, b"\x03\xe8\xff"), vec![Failed(E::Utf8)]),
    ];
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        cases.push(("reserved opcode", f(0x80 | opcode, b""), vec![Failed(E::Opcode)]));
    }
    for code in [0u16, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
        cases.push((
            "close code not allowed",
            f(0x88, &code.to_be_bytes()),
            vec![Failed(E::CloseCode)],
        ));
    }
    for code in [1000u16, 1003, 1007, 1011, 1014, 3000, 3999, 4000, 4999] {
        cases.push((
            "close code",
            f(0x88, &code.to_be_bytes()),
            vec![Close(Some(code), String::new())],
        ));
    }
    cases
}

#[test]
fn frames_are_taken_and_refused_however_they_are_cut() {
    let mut prng = Prng::new(21);
    for (name, bytes, want) in cases() {
        assert_eq!(decode(&bytes, server(), |all| all), want, "{name}");
        assert_eq!(decode(&bytes, server(), |_| 1), want, "{name}, by single bytes");
        for _ in 0..20 {
            let got = decode(&bytes, server(), |all| 1 + prng.below(all as u64) as usize);
            assert_eq!(got, want, "{name}, cut at random");
        }
    }
}

#[test]
fn bad_text_fails_before_its_frame_is_whole() {
    // Autobahn 6.4: the third byte can never become UTF-8; the rest has not come.
    let bytes = frame(0x81, b"a\xce\xba\xe1\xbd\xb9\xf4\x90\x80\x80later");
    let bad = 6 + 8;
    for len in 0..bytes.len() {
        let want = if len < bad { vec![] } else { vec![Owned::Failed(FrameError::Utf8)] };
        assert_eq!(decode(&bytes[..len], server(), |_| 1), want, "{len} bytes");
    }
}

#[test]
fn a_client_takes_unmasked_frames_only() {
    let client = || Decoder::new(Role::Client, MAX, false);
    let mut bytes = Vec::new();
    write_frame(&mut bytes, Opcode::Text, Compression::Plain, &[b'x'; 200]);
    bytes.extend_from_slice(&close_frame(4100, "again"));
    let want = vec![Owned::Text("x".repeat(200)), Owned::Close(Some(4100), "again".into())];
    assert_eq!(decode(&bytes, client(), |all| all), want);
    assert_eq!(decode(&bytes, client(), |_| 1), want);
    assert_eq!(
        decode(&frame(0x81, b"x"), client(), |all| all),
        vec![Owned::Failed(FrameError::Masked)]
    );
}

#[test]
fn compressed_messages_are_marked_at_their_start_only() {
    let deflate = || Decoder::new(Role::Server, MAX, true);
    let f = frame;
    let compressed = |kind, bytes: &[u8]| Owned::Deflated(kind, bytes.into());
    let cases = [
        (f(0xc1, b"\xff"), vec![compressed(MessageKind::Text, b"\xff")]),
        (f(0xc2, b""), vec![compressed(MessageKind::Binary, b"")]),
        (
            [f(0x41, b"\xff"), f(0x89, b""), f(0x80, b"\xfe")].concat(),
            vec![Owned::Ping(vec![]), compressed(MessageKind::Text, b"\xff\xfe")],
        ),
        (
            [f(0xc1, b"a"), f(0x81, b"b")].concat(),
            vec![compressed(MessageKind::Text, b"a"), Owned::Text("b".into())],
        ),
        ([f(0x41, b"a"), f(0xc0, b"b")].concat(), vec![Owned::Failed(FrameError::ReservedBits)]),
        (f(0xc9, b""), vec![Owned::Failed(FrameError::ReservedBits)]),
        (f(0xe1, b""), vec![Owned::Failed(FrameError::ReservedBits)]),
    ];
    for (bytes, want) in cases {
        assert_eq!(decode(&bytes, deflate(), |all| all), want, "{bytes:?}");
        assert_eq!(decode(&bytes, deflate(), |_| 1), want, "{bytes:?} by single bytes");
    }
}

#[test]
fn a_whole_message_is_not_copied() {
    let mut bytes = frame(0x81, b"hello");
    let place = bytes[6..].as_ptr();
    let (mut input, mut assembly) = (&mut bytes[..], Vec::new());
    match server().next(&mut input, &mut assembly) {
        Ok(Step::Text(text)) => assert_eq!((text, text.as_ptr()), ("hello", place)),
        other => panic!("{other:?}"),
    }
    assert_eq!(assembly.capacity(), 0);
}

#[test]
fn random_bytes_mean_the_same_however_they_are_cut() {
    let mut prng = Prng::new(33);
    for round in 0..3000 {
        // Mostly good frames, some bytes of them bent.
        let mut bytes = Vec::new();
        for _ in 0..1 + prng.below(6) {
            let first =
                [0x81, 0x01, 0x00, 0x80, 0x82, 0x89, 0x8a, 0x88, 0xc1][prng.below(9) as usize];
            let payload: Vec<u8> = "aé€😀"
                .bytes()
                .cycle()
                .skip(prng.below(4) as usize)
                .take(prng.below(150) as usize)
                .collect();
            bytes.extend(frame(first, &payload));
        }
        if prng.chance(1, 3) {
            let at = prng.below(bytes.len() as u64) as usize;
            bytes[at] = prng.next_u32() as u8;
        }
        let decoder = Decoder::new(Role::Server, 300, prng.chance(1, 2));
        let want = decode(&bytes, decoder.clone(), |all| all);
        let got =
            decode(&bytes, decoder.clone(), |all| 1 + prng.below(all.min(40) as u64) as usize);
        assert_eq!(got, want, "round {round}: {bytes:?}");
        assert_eq!(decode(&bytes, decoder, |_| 1), want, "round {round}: {bytes:?}");
    }
}
