//! The plain part of a JSON string with AVX2, 32 bytes a step.

use std::arch::x86_64::*;

/// How many bytes at the start are plain: printable ASCII but for the quote and the backslash.
#[inline]
pub(super) fn plain_len(bytes: &[u8]) -> usize {
    // SAFETY: AVX2 is part of the target (x86-64-v3), and looked for before anything runs.
    unsafe { by_chunks(bytes) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn by_chunks(bytes: &[u8]) -> usize {
    let (quote, backslash) = (_mm256_set1_epi8(b'"' as i8), _mm256_set1_epi8(b'\\' as i8));
    let printable = _mm256_set1_epi8(0x1f);
    let mut at = 0;
    while let Some(chunk) = bytes[at..].first_chunk::<32>() {
        // SAFETY: an unaligned load of exactly the chunk.
        let text = unsafe { _mm256_loadu_si256(chunk.as_ptr().cast()) };
        // As signed bytes, those beyond ASCII are below the printable ones too.
        let above = _mm256_cmpgt_epi8(text, printable);
        let ends = _mm256_or_si256(_mm256_cmpeq_epi8(text, quote), _mm256_cmpeq_epi8(text, backslash));
        let plain = _mm256_movemask_epi8(_mm256_andnot_si256(ends, above)).cast_unsigned();
        if plain != u32::MAX {
            return at + plain.trailing_ones() as usize;
        }
        at += 32;
    }
    at + super::plain_len_portable(&bytes[at..])
}
