//! Randomness from a seed: xoshiro256**, one stream for each concern, so that a draw added to one does not shift the others.

#[derive(Clone, Debug)]
pub struct Random {
    state: [u64; 4],
}

/// One step of splitmix64: spreads a seed over the state.
fn splitmix(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*seed ^ (*seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Random {
    /// The stream of `concern` under `seed`.
    pub fn stream(seed: u64, concern: &str) -> Random {
        let mut mixed =
            concern.bytes().fold(seed, |hash, byte| (hash ^ byte as u64).wrapping_mul(0x0000_0100_0000_01b3));
        Random { state: std::array::from_fn(|_| splitmix(&mut mixed)) }
    }

    pub fn next(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[1].wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// Below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((self.next() as u128 * bound as u128) >> 64) as u64
    }

    pub fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// From `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True in `part` of 1,000 draws.
    pub fn chance(&mut self, part: u32) -> bool {
        self.below(1000) < part as u64
    }

    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.index(of.len())]
    }

    /// An index, each with the weight at its place.
    pub fn weighted(&mut self, weights: &[u32]) -> usize {
        let mut at = self.below(weights.iter().map(|w| *w as u64).sum());
        for (index, weight) in weights.iter().enumerate() {
            if at < *weight as u64 {
                return index;
            }
            at -= *weight as u64;
        }
        unreachable!("the draw is below the sum of the weights")
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.index(last + 1));
        }
    }

    pub fn u128(&mut self) -> u128 {
        (self.next() as u128) << 64 | self.next() as u128
    }

    /// A delay of mostly about `typical`, seldom ten times, once in a thousand a hundred times that.
    pub fn delay(&mut self, typical: u64) -> u64 {
        let scale = match self.below(1000) {
            0 => 100,
            1..=40 => 10,
            _ => 1,
        };
        1 + self.between(typical / 2, typical * 3 / 2) * scale
    }
}

#[test]
fn a_stream_is_its_seed_s_and_its_concern_s() {
    let draws = |seed, concern| {
        let mut random = Random::stream(seed, concern);
        [random.next(), random.next(), random.next()]
    };
    assert_eq!(draws(7, "disk"), draws(7, "disk"));
    assert_ne!(draws(7, "disk"), draws(7, "net"));
    assert_ne!(draws(7, "disk"), draws(8, "disk"));
    let mut random = Random::stream(1, "weights");
    let mut seen = [0u32; 3];
    (0..3000).for_each(|_| seen[random.weighted(&[1, 0, 2])] += 1);
    assert!(seen[1] == 0 && seen[0] > 800 && seen[2] > 1800, "{seen:?}");
}
