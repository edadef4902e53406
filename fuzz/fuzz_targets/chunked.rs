//! Chunked bodies: cutting changes nothing and the limit holds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringmain::wire::http::chunked::ChunkProgress;
use ringmain::wire::http::{BodyError, Chunked};

const BODY_BYTES_MAX: usize = 512;

fn read(bytes: &[u8], step: usize) -> Result<Option<(Vec<u8>, usize)>, BodyError> {
    let (mut chunked, mut out, mut at) = (Chunked::new(), Vec::new(), 0);
    for piece in bytes.chunks(step) {
        let progress = chunked.read(piece, &mut out, BODY_BYTES_MAX)?;
        assert!(out.len() <= BODY_BYTES_MAX);
        match progress {
            ChunkProgress::More => at += piece.len(),
            ChunkProgress::Done { used } => return Ok(Some((out, at + used))),
        }
    }
    Ok(None)
}

fuzz_target!(|input: &[u8]| {
    let Some((&step, bytes)) = input.split_first() else { return };
    let whole = read(bytes, bytes.len().max(1));
    assert_eq!(read(bytes, 1), whole);
    assert_eq!(read(bytes, 1 + usize::from(step)), whole);
});
