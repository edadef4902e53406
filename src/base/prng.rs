//! A small seeded generator for everything that must replay: simulation, jitter, tests.
//!
//! Never for secrets or tokens: who sees a few outputs can tell the next.

/// xoshiro256++ (Blackman and Vigna, 2019), its state filled by splitmix64 from one number.
#[derive(Clone, Debug)]
pub struct Prng {
    state: [u64; 4],
}

impl Prng {
    /// The generator of this seed; equal seeds give equal runs.
    pub fn new(seed: u64) -> Self {
        let mut mixed = seed;
        // Four successive outputs of splitmix64 are never all zero, the one state that is stuck.
        Self { state: std::array::from_fn(|_| splitmix64(&mut mixed)) }
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// The next 32 bits.
    pub fn next_u32(&mut self) -> u32 {
        (self.next_u64() >> 32) as u32
    }

    /// A number below `n`, each equally likely. Panics if `n` is 0: there is none.
    ///
    /// Source: Lemire, "Fast random integer generation in an interval", 2019.
    pub fn below(&mut self, n: u64) -> u64 {
        assert!(n > 0, "no number is below 0");
        let mut product = u128::from(self.next_u64()) * u128::from(n);
        if (product as u64) < n {
            // Only here can a low half fall into the uneven rest of 2^64 / n, which is thrown away.
            let rest = n.wrapping_neg() % n;
            while (product as u64) < rest {
                product = u128::from(self.next_u64()) * u128::from(n);
            }
        }
        (product >> 64) as u64
    }

    /// True `numerator` times out of `denominator`. Panics if `denominator` is 0.
    pub fn chance(&mut self, numerator: u64, denominator: u64) -> bool {
        self.below(denominator) < numerator
    }

    /// Puts the items in an order drawn from all orders (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.below(last as u64 + 1) as usize;
            items.swap(last, other);
        }
    }

    /// A generator of its own, for a part that must not disturb the draws of the others.
    pub fn fork(&mut self) -> Self {
        Self::new(self.next_u64())
    }
}

/// Steps a counter and mixes it. Source: Steele, Lea and Flood, "Fast splittable pseudorandom
/// number generators", 2014.
fn splitmix64(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_vectors_come_out() {
        let mut state = 1_234_567;
        let drawn: [u64; 3] = std::array::from_fn(|_| splitmix64(&mut state));
        assert_eq!(
            drawn,
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
        let mut prng = Prng { state: [1, 2, 3, 4] };
        let drawn: [u64; 3] = std::array::from_fn(|_| prng.next_u64());
        assert_eq!(drawn, [41_943_041, 58_720_359, 3_588_806_011_781_223]);
    }

    #[test]
    fn below_reaches_every_number_about_equally() {
        let mut prng = Prng::new(7);
        for n in [1, 2, 3, 6, 10, 100] {
            let mut seen = vec![0_u32; n as usize];
            let draws = 2000 * n;
            for _ in 0..draws {
                seen[prng.below(n) as usize] += 1;
            }
            assert!(seen.iter().all(|&times| (1700..2300).contains(&times)), "{n}: {seen:?}");
        }
        let huge = (1 << 63) + 1;
        assert!((0..100).all(|_| prng.below(huge) < huge));
    }

    #[test]
    fn a_shuffle_keeps_what_it_moves_and_equal_seeds_agree() {
        let shuffled = |seed| {
            let mut items: Vec<u32> = (0..50).collect();
            Prng::new(seed).shuffle(&mut items);
            items
        };
        let mut sorted = shuffled(1);
        assert_ne!(sorted, (0..50).collect::<Vec<_>>());
        assert_eq!(sorted, shuffled(1));
        assert_ne!(sorted, shuffled(2));
        sorted.sort_unstable();
        assert_eq!(sorted, (0..50).collect::<Vec<_>>());
    }

    #[test]
    fn chance_is_never_and_always_at_its_ends() {
        let mut prng = Prng::new(3);
        assert!((0..100).all(|_| !prng.chance(0, 5) && prng.chance(5, 5)));
        let heads = (0..10_000).filter(|_| prng.chance(1, 4)).count();
        assert!((2300..2700).contains(&heads), "{heads}");
    }
}
