//! The alphabet of base64 with AVX2, 32 bytes a step.
//!
//! A byte is looked up by its low half and by its high half. High halves fall into five classes: digits and `+ /`, the first and the second
//! half of the letters, and those that nothing of the alphabet has. A low half's entry has the bit of each class in which it is none of the
//! alphabet; so a byte is outside when its two entries share a bit.

use super::is_of_alphabet;
use std::arch::x86_64::*;

/// The class of bytes with this high half, as a bit.
const fn class(high: u8) -> u8 {
    match high {
        2 => 1,
        3 => 2,
        4 | 6 => 4,
        5 | 7 => 8,
        _ => 16,
    }
}

const HIGH: [u8; 16] = {
    let mut entries = [0; 16];
    let mut high = 0;
    while high < 16 {
        entries[high as usize] = class(high);
        high += 1;
    }
    entries
};
const LOW: [u8; 16] = {
    let mut entries = [0; 16];
    let mut byte = 0;
    while byte < 256 {
        if !is_of_alphabet(byte as u8) {
            entries[byte & 15] |= class((byte >> 4) as u8);
        }
        byte += 1;
    }
    entries
};

/// How many bytes at the start are of the alphabet.
#[inline]
pub(super) fn alphabet_len(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(chunk) = bytes[at..].first_chunk::<32>() {
        // SAFETY: AVX2 is part of the target (x86-64-v3), and looked for before anything runs.
        let others = unsafe { others(chunk) };
        if others != 0 {
            return at + others.trailing_zeros() as usize;
        }
        at += 32;
    }
    let rest = bytes[at..].iter().position(|byte| !is_of_alphabet(*byte));
    rest.map_or(bytes.len(), |rest| at + rest)
}

/// A bit for each byte outside the alphabet.
#[inline]
#[target_feature(enable = "avx2")]
fn others(chunk: &[u8; 32]) -> u32 {
    // SAFETY: unaligned loads of exactly the arrays.
    let (bytes, low, high) = unsafe {
        (
            _mm256_loadu_si256(chunk.as_ptr().cast()),
            _mm_loadu_si128(LOW.as_ptr().cast()),
            _mm_loadu_si128(HIGH.as_ptr().cast()),
        )
    };
    let half = _mm256_set1_epi8(15);
    let by_low = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(low), _mm256_and_si256(bytes, half));
    let by_high =
        _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(high), _mm256_and_si256(_mm256_srli_epi32::<4>(bytes), half));
    let inside = _mm256_cmpeq_epi8(_mm256_and_si256(by_low, by_high), _mm256_setzero_si256());
    !(_mm256_movemask_epi8(inside).cast_unsigned())
}
