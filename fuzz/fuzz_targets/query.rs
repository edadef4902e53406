//! Queries: decoding never fails, and what is encoded decodes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringmain::wire::http::query::{Plus, decode, decode_lossy, encode, pairs};

fuzz_target!(|text: &str| {
    for plus in [Plus::Space, Plus::Literal] {
        let lossy = decode_lossy(text, plus);
        if let Some(strict) = decode(text, plus) {
            assert_eq!(strict, lossy);
        }
    }
    let _ = pairs(text).count();
    let mut out = String::new();
    encode(&mut out, text);
    assert_eq!(decode(&out, Plus::Space).as_deref(), Some(text));
});
