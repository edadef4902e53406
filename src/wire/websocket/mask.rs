//! The client's mask. Source: RFC 6455, section 5.3.

/// Removes (or applies: it is the same) a mask, in place.
///
/// `payload` is a run of one WebSocket frame's bytes, header excluded; `start` is how many came before
/// it. `key` is the mask in wire order. Cannot fail.
pub fn unmask(payload: &mut [u8], key: [u8; 4], start: usize) {
    let mut key = key;
    key.rotate_left(start % 4);
    let half = u32::from_ne_bytes(key);
    let word = u64::from(half) << 32 | u64::from(half);
    // Whole words in a plain loop: the compiler makes vector instructions of it.
    let mut words = payload.chunks_exact_mut(8);
    for chunk in &mut words {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(chunk);
        chunk.copy_from_slice(&(u64::from_ne_bytes(bytes) ^ word).to_ne_bytes());
    }
    for (byte, mask) in words.into_remainder().iter_mut().zip(key.iter().cycle()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::prng::Prng;

    #[test]
    fn agrees_with_the_plain_loop_at_every_length_and_cut() {
        let mut prng = Prng::new(3);
        for len in 0..100 {
            let mut payload = vec![0; len];
            payload.fill_with(|| prng.next_u64() as u8);
            let key = (prng.next_u64() as u32).to_ne_bytes();
            let plain: Vec<u8> =
                payload.iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]).collect();
            for cut in 0..=len {
                let mut masked = payload.clone();
                unmask(&mut masked[..cut], key, 0);
                unmask(&mut masked[cut..], key, cut);
                assert_eq!(masked, plain, "{len} bytes cut at {cut}");
            }
        }
    }
}
