use super::*;
use crate::base::prng::Prng;

const BYTES_MAX: usize = 1 << 20;

fn fossil_of(base: &[u8], target: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    fossil::encode(base, target, &mut out);
    out
}

fn vcdiff_of(base: &[u8], target: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    vcdiff::encode(base, target, &mut out);
    out
}

fn both_ways(base: &[u8], target: &[u8]) {
    let fossil = fossil_of(base, target);
    assert_eq!(fossil::apply(base, &fossil, BYTES_MAX).as_deref(), Ok(target));
    let vcdiff = vcdiff_of(base, target);
    assert_eq!(vcdiff::apply(base, &vcdiff, BYTES_MAX).as_deref(), Ok(target));
}

#[test]
fn deltas_are_written_as_documented() {
    // Lengths, offsets and checksum in digits of 64; as the format's other implementations have them.
    assert_eq!(fossil_of(b"", b"abc"), b"3\n3:abc1XObC0;");
    assert_eq!(fossil_of(b"0123456789abcdef", b"0123456789abcdef"), b"G\nG@0,12xn;");
    let vcdiff = vcdiff_of(b"0123456789abcdef", b"0123456789abcdef!");
    assert_eq!(
        vcdiff,
        [0xd6, 0xc3, 0xc4, 0, 0, 1, 16, 0, 9, 17, 0, 1, 2, 1, b'!', 32, 2, 0],
        "{vcdiff:x?}"
    );
}

#[test]
fn what_is_alike_is_not_repeated() {
    let frame = |price: &str, id: &str| {
        format!(
            "{{\"event\":\"price\",\"channel\":\"market\",\"data\":\"{{\\\"asset\\\":\\\"BTC\\\",\\\"price\\\":{price},\
             \\\"volume\\\":123456,\\\"venue\\\":\\\"somewhere\\\"}}\",\"message_id\":\"{id}\"}}"
        )
    };
    let (base, target) = (
        frame("100.01", "01J0000000000000000000000A"),
        frame("100.02", "01J0000000000000000000000B"),
    );
    both_ways(base.as_bytes(), target.as_bytes());
    let fossil = fossil_of(base.as_bytes(), target.as_bytes());
    assert!(fossil.len() < 40, "{}", String::from_utf8_lossy(&fossil));
    assert!(vcdiff_of(base.as_bytes(), target.as_bytes()).len() < 35);
}

/// Whatever the two are, what is encoded is decoded; edits of a base take little.
#[test]
fn what_is_encoded_is_decoded() {
    for seed in 0..400 {
        let mut prng = Prng::new(seed);
        let letters = if prng.chance(1, 2) { 4 } else { 200 };
        let length = |prng: &mut Prng| match prng.below(4) {
            0 => prng.below(20),
            1 => prng.below(300),
            _ => prng.below(5000),
        };
        let run = |prng: &mut Prng| -> Vec<u8> {
            let length = length(prng);
            (0..length).map(|_| prng.below(letters) as u8).collect()
        };
        let base = run(&mut prng);
        let mut target = run(&mut prng);
        both_ways(&base, &target);
        if prng.chance(2, 3) {
            target = base.clone();
            for _ in 0..prng.below(8) {
                let at = prng.below(target.len() as u64 + 1) as usize;
                let to = (at + prng.below(20) as usize).min(target.len());
                let new: Vec<u8> = (0..prng.below(20)).map(|_| prng.below(256) as u8).collect();
                target.splice(at..to, new);
            }
            both_ways(&base, &target);
        }
        let parts = changes(&base, &target);
        let mut made = Vec::new();
        for part in parts {
            match part {
                Change::Copy(run) => made.extend_from_slice(&base[run]),
                Change::Add(run) => {
                    assert_eq!(run.start, made.len(), "in order");
                    made.extend_from_slice(&target[run]);
                }
            }
        }
        assert_eq!(made, target, "seed {seed}");
    }
}

#[test]
fn damage_is_seen() {
    let base: Vec<u8> = (0..600u32).map(|n| (n * 7 % 251) as u8).collect();
    let mut target = base.clone();
    target[300] ^= 1;
    let fossil = fossil_of(&base, &target);
    let mut other = base.clone();
    other[10] ^= 1;
    assert_eq!(fossil::apply(&other, &fossil, BYTES_MAX), Err(DeltaError::Checksum));
    assert_eq!(fossil::apply(&base, &fossil, 599), Err(DeltaError::Length));
    assert_eq!(fossil::apply(&base[..500], &fossil, BYTES_MAX), Err(DeltaError::OutOfBase));
    let vcdiff = vcdiff_of(&base, &target);
    assert_eq!(vcdiff::apply(&base, &vcdiff, 599), Err(DeltaError::Length));
    assert_eq!(vcdiff::apply(&base[..500], &vcdiff, BYTES_MAX), Err(DeltaError::OutOfBase));
    // Cut or changed anywhere, they are refused or make something; they never panic.
    for seed in 0..2000 {
        let mut prng = Prng::new(seed);
        for (delta, apply) in
            [(&fossil, fossil::apply as fn(&[u8], &[u8], usize) -> _), (&vcdiff, vcdiff::apply)]
        {
            let mut delta = delta.clone();
            for _ in 0..1 + prng.below(3) {
                let at = prng.below(delta.len() as u64) as usize;
                match prng.below(3) {
                    0 => delta[at] = prng.below(256) as u8,
                    1 => delta.truncate(at + 1),
                    _ => delta.insert(at, prng.below(256) as u8),
                }
            }
            let _: Result<Vec<u8>, DeltaError> = apply(&base, &delta, 4096);
        }
    }
}
