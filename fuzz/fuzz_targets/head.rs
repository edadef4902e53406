//! Request heads: cutting changes nothing, and what we take httparse reads alike.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringmain::wire::http::client::parse_response_head;
use ringmain::wire::http::{HeadError, HeadLimits, HeadScan, Progress, parse_head};
use ringmain::wire::websocket::{deflate, handshake};

const LIMITS: HeadLimits = HeadLimits { target_bytes_max: 256, head_bytes_max: 1024, head_fields_max: 16 };

fn outcome(bytes: &[u8], scan: &mut HeadScan) -> Result<Option<String>, HeadError> {
    let mut fields = Vec::new();
    Ok(match parse_head(bytes, scan, &LIMITS, &mut fields)? {
        Progress::Incomplete => None,
        Progress::Complete(head) => Some(format!("{head:?} {fields:?}")),
    })
}

fuzz_target!(|input: &[u8]| {
    let Some((&step, bytes)) = input.split_first() else { return };
    let whole = outcome(bytes, &mut HeadScan::default());
    let (mut scan, mut end, mut pieces) = (HeadScan::default(), 0, Ok(None));
    while end < bytes.len() && pieces == Ok(None) {
        end = (end + 1 + usize::from(step % 64)).min(bytes.len());
        pieces = outcome(&bytes[..end], &mut scan);
    }
    // An error before the end may be noticed only when the head ends.
    if whole.is_ok() || pieces != Ok(None) {
        assert_eq!(pieces, whole);
    }

    let _ = parse_response_head(bytes);
    let mut fields = Vec::new();
    if let Ok(Progress::Complete(head)) = parse_head(bytes, &mut HeadScan::default(), &LIMITS, &mut fields) {
        let mut slots = [httparse::EMPTY_HEADER; 32];
        let mut theirs = httparse::Request::new(&mut slots);
        assert_eq!(theirs.parse(bytes), Ok(httparse::Status::Complete(head.len)));
        assert_eq!((theirs.method, theirs.path), (Some(head.method), Some(head.target)));
        assert!(theirs.headers.iter().map(|field| (field.name, field.value)).eq(fields.iter().copied()));
        let _ = head.path_decoded();
        let _ = handshake::protocols(&fields).count();
        if let Some(agreed) = deflate::negotiate(&fields) {
            let mut out = Vec::new();
            agreed.write(&mut out);
            assert!(deflate::accepts(&out));
        }
    }
});
