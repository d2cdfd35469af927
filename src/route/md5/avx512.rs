//! Sixteen blocks at once with AVX-512: each state word of all of them is one register, each mixing function one instruction.

use super::{BLOCK, SINES, START};
use std::arch::x86_64::*;

/// Mixing functions as truth tables of (b, c, d).
const CHOOSE_BY_B: i32 = 0b1100_1010;
const CHOOSE_BY_D: i32 = 0b1110_0100;
const PARITY: i32 = 0b1001_0110;
const LAST: i32 = 0b0011_1001;

/// Proof that this CPU has what the kernel needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Avx512(());

impl Avx512 {
    pub(super) fn detect() -> Option<Avx512> {
        std::is_x86_feature_detected!("avx512f").then_some(Avx512(()))
    }

    /// The MD5 of each block as a big-endian number; blocks have their padding and are whole messages.
    pub(super) fn hash(self, blocks: &[[u8; BLOCK]; 16]) -> [u128; 16] {
        // SAFETY: `detect` has found the features.
        unsafe { hash(blocks) }
    }
}

#[target_feature(enable = "avx512f")]
fn hash(blocks: &[[u8; BLOCK]; 16]) -> [u128; 16] {
    // SAFETY: unaligned loads of exactly one block each.
    let rows = blocks.each_ref().map(|block| unsafe { _mm512_loadu_si512(block.as_ptr().cast()) });
    let words = transpose(&rows);
    let start = START.map(|word| _mm512_set1_epi32(word as i32));
    let s = quarter::<CHOOSE_BY_B, 7, 12, 17, 22>(&words, start, 0, 1, 0);
    let s = quarter::<CHOOSE_BY_D, 5, 9, 14, 20>(&words, s, 1, 5, 16);
    let s = quarter::<PARITY, 4, 11, 16, 23>(&words, s, 5, 3, 32);
    let s = quarter::<LAST, 6, 10, 15, 21>(&words, s, 0, 7, 48);
    digests(&std::array::from_fn(|at| _mm512_add_epi32(s[at], start[at])))
}

/// Sixteen steps with one mixing function. The words are taken from `word` on, each time `stride` further; the sines from `sine` on.
#[inline]
#[target_feature(enable = "avx512f")]
fn quarter<const MIX: i32, const S0: i32, const S1: i32, const S2: i32, const S3: i32>(
    words: &[__m512i; 16],
    [mut a, mut b, mut c, mut d]: [__m512i; 4],
    word: usize,
    stride: usize,
    sine: usize,
) -> [__m512i; 4] {
    let addend = |step: usize| {
        _mm512_add_epi32(words[(word + stride * step) % 16], _mm512_set1_epi32(SINES[sine + step] as i32))
    };
    for four in 0..4 {
        let step = 4 * four;
        a = self::step::<MIX, S0>(a, b, c, d, addend(step));
        d = self::step::<MIX, S1>(d, a, b, c, addend(step + 1));
        c = self::step::<MIX, S2>(c, d, a, b, addend(step + 2));
        b = self::step::<MIX, S3>(b, c, d, a, addend(step + 3));
    }
    [a, b, c, d]
}

#[inline]
#[target_feature(enable = "avx512f")]
fn step<const MIX: i32, const SHIFT: i32>(a: __m512i, b: __m512i, c: __m512i, d: __m512i, addend: __m512i) -> __m512i {
    let mixed = _mm512_ternarylogic_epi32::<MIX>(b, c, d);
    let sum = _mm512_add_epi32(_mm512_add_epi32(a, addend), mixed);
    _mm512_add_epi32(b, _mm512_rol_epi32::<SHIFT>(sum))
}

/// Word `w` of block `b` becomes word `b` of register `w`.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose(rows: &[__m512i; 16]) -> [__m512i; 16] {
    // Of each four rows: quarter `q` of register `j` holds word 4q + j of the four.
    let fours: [[__m512i; 4]; 4] = std::array::from_fn(|g| interleave([0, 1, 2, 3].map(|row| rows[4 * g + row])));
    let mut words = *rows;
    for j in 0..4 {
        let [g0, g1, g2, g3] = fours.map(|four| four[j]);
        let (even_low, odd_low) = (_mm512_shuffle_i32x4::<0x88>(g0, g1), _mm512_shuffle_i32x4::<0xdd>(g0, g1));
        let (even_high, odd_high) = (_mm512_shuffle_i32x4::<0x88>(g2, g3), _mm512_shuffle_i32x4::<0xdd>(g2, g3));
        words[j] = _mm512_shuffle_i32x4::<0x88>(even_low, even_high);
        words[4 + j] = _mm512_shuffle_i32x4::<0x88>(odd_low, odd_high);
        words[8 + j] = _mm512_shuffle_i32x4::<0xdd>(even_low, even_high);
        words[12 + j] = _mm512_shuffle_i32x4::<0xdd>(odd_low, odd_high);
    }
    words
}

/// Within each quarter: word `j` of the four rows becomes register `j`.
#[inline]
#[target_feature(enable = "avx512f")]
fn interleave([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
    let (ab, cd) = (_mm512_unpacklo_epi32(a, b), _mm512_unpacklo_epi32(c, d));
    let (ab_high, cd_high) = (_mm512_unpackhi_epi32(a, b), _mm512_unpackhi_epi32(c, d));
    [
        _mm512_unpacklo_epi64(ab, cd),
        _mm512_unpackhi_epi64(ab, cd),
        _mm512_unpacklo_epi64(ab_high, cd_high),
        _mm512_unpackhi_epi64(ab_high, cd_high),
    ]
}

/// The state words of each block, one behind the other, are its digest.
#[inline]
#[target_feature(enable = "avx512f")]
fn digests(state: &[__m512i; 4]) -> [u128; 16] {
    let mut bytes = [[[0u8; 16]; 4]; 4];
    for (out, register) in bytes.iter_mut().zip(interleave(*state)) {
        // SAFETY: an unaligned store of exactly the array.
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), register) };
    }
    std::array::from_fn(|block| u128::from_be_bytes(bytes[block % 4][block / 4]))
}
