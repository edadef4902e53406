//! WebSocket frames: cutting changes nothing and messages stay below the limit.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringmain::wire::websocket::{Decoder, Role};

const MESSAGE_BYTES_MAX: usize = 400;

fn decode(bytes: &[u8], mut decoder: Decoder, mut step: impl FnMut() -> usize) -> Vec<String> {
    let (mut out, mut assembly, mut rest) = (Vec::new(), Vec::new(), bytes);
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(step().clamp(1, rest.len()));
        rest = after;
        let mut piece = piece.to_vec();
        let mut input = &mut piece[..];
        loop {
            let step = decoder.next(&mut input, &mut assembly);
            let shown = format!("{step:?}");
            match step {
                Ok(ringmain::wire::websocket::Step::NeedMore) => break,
                Ok(_) => out.push(shown),
                Err(_) => {
                    out.push(shown);
                    return out;
                }
            }
        }
        assert!(assembly.len() <= MESSAGE_BYTES_MAX + 125);
        if !decoder.is_assembling() {
            assembly = Vec::new();
        }
    }
    out
}

fuzz_target!(|input: &[u8]| {
    let [flags, cuts @ .., _, _, _] = input else { return };
    let (cuts, bytes) = cuts.split_at(cuts.len().min(8));
    let role = if flags & 1 == 0 { Role::Server } else { Role::Client };
    let decoder = Decoder::new(role, MESSAGE_BYTES_MAX, flags & 2 != 0);
    let whole = decode(bytes, decoder.clone(), || usize::MAX);
    assert_eq!(decode(bytes, decoder.clone(), || 1), whole);
    let mut cuts = cuts.iter().cycle();
    assert_eq!(decode(bytes, decoder, || cuts.next().map_or(1, |&cut| usize::from(cut))), whole);
});
