//! What lies on a disk that anything may have happened to: no bytes make the readers of journals, keys and
//! values panic, and what a scan calls good is good when it is looked at alone.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringmain::store::{format, journal};

fuzz_target!(|bytes: &[u8]| {
    let scan = journal::scan(bytes);
    assert!(scan.last.start <= scan.last.end && scan.last.end <= bytes.len());
    // The good part alone is good, and all there is.
    let again = journal::scan(&bytes[..scan.last.end]);
    assert_eq!((again.batches, &again.last, again.rest), (scan.batches, &scan.last, journal::Rest::Nothing));
    match scan.rest {
        journal::Rest::Damaged { next_at } => assert!(next_at >= scan.last.end && next_at < bytes.len()),
        journal::Rest::Torn { bytes: torn } => assert!(torn > 0 && scan.last.end + torn <= bytes.len()),
        journal::Rest::Nothing => assert!(bytes[scan.last.end..].iter().all(|byte| *byte == 0)),
    }
    let (key, value) = bytes.split_at(bytes.len() / 3);
    let _ = format::parse_stream_key(key);
    let _ = format::parse_event_key(key);
    let _ = format::parse_expiry_key(key);
    let _ = format::decode_header(key, value);
    let _ = format::decode_event(key, value);
    let _ = format::decode_key(key, value);
    let _ = format::decode_state(key, value);
    let _ = format::decode_leftover(key, value);
    let _ = format::parse_pushed_key(key);
});
