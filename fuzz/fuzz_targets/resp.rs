//! RESP2: whatever comes, it is values, an error or not enough yet, and cutting it anywhere changes nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringmain::wire::resp::Decoder;

fn values(bytes: &[u8], piece: usize) -> (Vec<String>, bool) {
    let (mut decoder, mut all) = (Decoder::default(), Vec::new());
    for piece in bytes.chunks(piece) {
        decoder.feed(piece);
        loop {
            match decoder.next() {
                Ok(Some(value)) => all.push(format!("{value:?}")),
                Ok(None) => break,
                Err(_) => return (all, true),
            }
        }
    }
    (all, false)
}

fuzz_target!(|input: (u8, &[u8])| {
    let (piece, bytes) = input;
    let whole = values(bytes, bytes.len().max(1));
    assert_eq!(values(bytes, usize::from(piece).max(1)), whole);
});
