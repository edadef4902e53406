//! Compressed messages: nonsense is refused, the limit holds, and what we compress comes back.
#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use ringmain::wire::websocket::deflate::{Compressor, Inflater};

const MESSAGE_BYTES_MAX: usize = 20_000;

thread_local! {
    static BOTH: RefCell<(Compressor, Inflater)> = RefCell::new((Compressor::new(6), Inflater::new()));
}

fuzz_target!(|input: &[u8]| {
    BOTH.with_borrow_mut(|(compressor, inflater)| {
        let first = inflater.inflate(input, MESSAGE_BYTES_MAX);
        if let Ok(message) = &first {
            assert!(message.len() <= MESSAGE_BYTES_MAX);
        }
        let mut out = Vec::new();
        assert!(compressor.compress(input, &mut out));
        assert_eq!(inflater.inflate(&out, input.len()).as_deref(), Ok(input));
        // Nothing of one message lingers into the next.
        assert_eq!(inflater.inflate(input, MESSAGE_BYTES_MAX), first);
    });
});
