//! MD5 of many short keys at once, one key a lane.
//!
//! MD5 is one chain of 64 dependent steps, so a single key cannot be hashed faster; several can side by side: 16 with AVX-512, and 8 with
//! AVX2, whose steps are written on arrays of lanes that the compiler turns into vector registers. Keys of more than 55 bytes take more
//! than one block and go to the `md-5` crate.

mod avx512;

use avx512::Avx512;
use md5::{Digest, Md5};

/// Bytes of a block.
const BLOCK: usize = 64;

/// A key with its padding and length in one block of 64 bytes.
const SHORT: usize = 55;

/// With AVX2, up to this many keys are hashed one after another: all lanes together cost as much as three. With AVX-512, as much as one.
const FEW: usize = 2;

const SHIFTS: [[u32; 4]; 4] = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];
const START: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
/// floor(2^32 × |sin(i + 1)|), RFC 1321.
const SINES: [u32; 64] = [
    0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee, 0xf57c0faf, 0x4787c62a, 0xa8304613, 0xfd469501, 0x698098d8,
    0x8b44f7af, 0xffff5bb1, 0x895cd7be, 0x6b901122, 0xfd987193, 0xa679438e, 0x49b40821, 0xf61e2562, 0xc040b340,
    0x265e5a51, 0xe9b6c7aa, 0xd62f105d, 0x02441453, 0xd8a1e681, 0xe7d3fbc8, 0x21e1cde6, 0xc33707d6, 0xf4d50d87,
    0x455a14ed, 0xa9e3e905, 0xfcefa3f8, 0x676f02d9, 0x8d2a4c8a, 0xfffa3942, 0x8771f681, 0x6d9d6122, 0xfde5380c,
    0xa4beea44, 0x4bdecfa9, 0xf6bb4b60, 0xbebfbc70, 0x289b7ec6, 0xeaa127fa, 0xd4ef3085, 0x04881d05, 0xd9d4d039,
    0xe6db99e5, 0x1fa27cf8, 0xc4ac5665, 0xf4292244, 0x432aff97, 0xab9423a7, 0xfc93a039, 0x655b59c3, 0x8f0ccc92,
    0xffeff47d, 0x85845dd1, 0x6fa87e4f, 0xfe2ce6e0, 0xa3014314, 0x4e0811a1, 0xf7537e82, 0xbd3af235, 0x2ad7d2bb,
    0xeb86d391,
];

/// The hash key of one partition key: its MD5 as a big-endian number.
pub fn hash(key: &[u8]) -> u128 {
    u128::from_be_bytes(Md5::digest(key).into())
}

/// Hashes of short keys, gathered lane by lane; each is handed to `done` with the tag it came with.
pub struct Lanes {
    /// Keys, each with its padding and length.
    blocks: [[u8; BLOCK]; 16],
    tags: [u32; 16],
    used: usize,
    wide: Option<Avx512>,
}

impl Default for Lanes {
    fn default() -> Lanes {
        Lanes { blocks: [[0; BLOCK]; 16], tags: [0; 16], used: 0, wide: Avx512::detect() }
    }
}

impl Lanes {
    /// Takes up a key. Its hash, or those of all keys gathered so far, may be ready now.
    pub fn push(&mut self, tag: u32, key: &[u8], mut done: impl FnMut(u32, u128)) {
        if key.len() > SHORT {
            return done(tag, hash(key));
        }
        let block = &mut self.blocks[self.used];
        *block = [0; BLOCK];
        block[..key.len()].copy_from_slice(key);
        block[key.len()] = 0x80;
        block[56..].copy_from_slice(&(key.len() as u64 * 8).to_le_bytes());
        self.tags[self.used] = tag;
        self.used += 1;
        if self.used == 16 {
            self.flush(done);
        }
    }

    /// Hashes what is gathered.
    pub fn flush(&mut self, mut done: impl FnMut(u32, u128)) {
        let used = std::mem::take(&mut self.used);
        if used == 0 {
            return;
        }
        if used <= FEW && self.wide.is_none() {
            for lane in 0..used {
                let state = compress::<1>(&words(&self.blocks, lane));
                done(self.tags[lane], digest(&state, 0));
            }
            return;
        }
        let hashes = match self.wide {
            Some(wide) => wide.hash(&self.blocks),
            None => sixteen(&self.blocks),
        };
        for (tag, hash) in self.tags[..used].iter().zip(hashes) {
            done(*tag, hash);
        }
    }
}

/// The words of `N` blocks, from block `from` on: `[i][lane]` is word i of a block.
fn words<const N: usize>(blocks: &[[u8; BLOCK]; 16], from: usize) -> [[u32; N]; 16] {
    let word = |w: usize, lane: usize| {
        let bytes = blocks[from + lane].as_chunks::<4>().0[w];
        u32::from_le_bytes(bytes)
    };
    std::array::from_fn(|w| std::array::from_fn(|lane| word(w, lane)))
}

/// Two halves, so that each fits the 16 registers of AVX2.
fn sixteen(blocks: &[[u8; BLOCK]; 16]) -> [u128; 16] {
    let (low, high) = (compress::<8>(&words(blocks, 0)), compress::<8>(&words(blocks, 8)));
    std::array::from_fn(|lane| if lane < 8 { digest(&low, lane) } else { digest(&high, lane - 8) })
}

fn digest<const N: usize>(state: &[[u32; N]; 4], lane: usize) -> u128 {
    state.iter().fold(0, |sum, row| sum << 32 | row[lane].swap_bytes() as u128)
}

/// One block of each lane.
#[inline(always)]
fn compress<const N: usize>(words: &[[u32; N]; 16]) -> [[u32; N]; 4] {
    let mut s: [[u32; N]; 4] = START.map(|word| [word; N]);
    quarter::<N, 0>(words, &mut s);
    quarter::<N, 1>(words, &mut s);
    quarter::<N, 2>(words, &mut s);
    quarter::<N, 3>(words, &mut s);
    std::array::from_fn(|w| std::array::from_fn(|lane| s[w][lane].wrapping_add(START[w])))
}

/// Sixteen steps with one mixing function.
#[inline(always)]
fn quarter<const N: usize, const Q: usize>(words: &[[u32; N]; 16], s: &mut [[u32; N]; 4]) {
    for step in 0..16 {
        let word = match Q {
            0 => step,
            1 => (5 * step + 1) % 16,
            2 => (3 * step + 5) % 16,
            _ => 7 * step % 16,
        };
        let [a, b, c, d] = *s;
        let sine = SINES[16 * Q + step];
        let shift = SHIFTS[Q][step % 4];
        let mut next = [0; N];
        for lane in 0..N {
            let (b, c, d) = (b[lane], c[lane], d[lane]);
            let mixed = match Q {
                0 => d ^ (b & (c ^ d)),
                1 => c ^ (d & (b ^ c)),
                2 => b ^ c ^ d,
                _ => c ^ (b | !d),
            };
            let sum = a[lane].wrapping_add(mixed).wrapping_add(sine).wrapping_add(words[word][lane]);
            next[lane] = b.wrapping_add(sum.rotate_left(shift));
        }
        *s = [d, next, b, c];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(lanes: &mut Lanes, keys: &[Vec<u8>]) -> Vec<u128> {
        let mut out = vec![0; keys.len()];
        for (tag, key) in keys.iter().enumerate() {
            lanes.push(tag as u32, key, |tag, hash| out[tag as usize] = hash);
        }
        lanes.flush(|tag, hash| out[tag as usize] = hash);
        out
    }

    #[test]
    fn every_lane_and_remainder_agrees_with_the_crate() {
        for wide in [None, Avx512::detect()] {
            for count in 0..70usize {
                let keys: Vec<Vec<u8>> = (0..count).map(|n| (0..n).map(|i| (i * 7 + n) as u8).collect()).collect();
                let mut lanes = Lanes { wide, ..Lanes::default() };
                let expected: Vec<u128> = keys.iter().map(|key| hash(key)).collect();
                assert_eq!(all(&mut lanes, &keys), expected, "{wide:?}, {count} keys");
            }
        }
    }

    #[test]
    fn a_known_digest() {
        assert_eq!(hash(b"abc"), 0x900150983cd24fb0d6963f7d28e17f72);
        let mut lanes = Lanes::default();
        assert_eq!(all(&mut lanes, &[b"abc".to_vec(), Vec::new()])[0], 0x900150983cd24fb0d6963f7d28e17f72);
    }
}
