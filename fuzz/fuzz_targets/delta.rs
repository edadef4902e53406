//! What changed from one run of bytes to the next: what is written is read back, and nothing that is no delta breaks
//! its reader or makes more than it is allowed.
//!
//! The input: two bytes for the length of the base, the base, then a target or a delta.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringmain::wire::delta::{Change, changes, fossil, vcdiff};

const BYTES_MAX: usize = 1 << 16;

fuzz_target!(|input: &[u8]| {
    let Some((length, rest)) = input.split_first_chunk::<2>() else { return };
    let length = usize::from(u16::from_le_bytes(*length)).min(rest.len());
    let (base, target) = rest.split_at(length);

    let mut at = 0;
    for change in changes(base, target) {
        let run = match change {
            Change::Copy(run) => &base[run],
            Change::Add(run) => &target[run],
        };
        assert_eq!(run, &target[at..at + run.len()]);
        at += run.len();
    }
    assert_eq!(at, target.len());

    let mut delta = Vec::new();
    fossil::encode(base, target, &mut delta);
    assert_eq!(fossil::apply(base, &delta, target.len()).as_deref(), Ok(target));
    delta.clear();
    vcdiff::encode(base, target, &mut delta);
    assert_eq!(vcdiff::apply(base, &delta, target.len()).as_deref(), Ok(target));

    for made in [fossil::apply(base, target, BYTES_MAX), vcdiff::apply(base, target, BYTES_MAX)] {
        assert!(made.is_err() || made.is_ok_and(|it| it.len() <= BYTES_MAX));
    }
});
