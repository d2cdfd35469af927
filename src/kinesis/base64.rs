//! Base64 of record data: checking and measuring while looking for the end of the text, then decoding what has been checked.

use base64_simd::{Out, STANDARD};
use std::arch::x86_64::*;

/// Where the base64 text at the start of some bytes ends, and what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text {
    /// Valid, `len` bytes long with its padding, followed by a quote; decodes to `data` bytes.
    Whole { len: usize, data: usize },
    /// A backslash at this byte: to be unescaped, then measured.
    Escaped { at: usize },
    /// Not base64, or not ended.
    Wrong,
}

/// Measures the text that ends at the first quote.
pub fn measure(bytes: &[u8]) -> Text {
    let plain = alphabet_len(bytes);
    let padding = match &bytes[plain..] {
        [b'"', ..] => 0,
        [b'=', b'"', ..] => 1,
        [b'=', b'=', b'"', ..] => 2,
        [b'\\', ..] => return Text::Escaped { at: plain },
        // Padding may be escaped, in theory.
        [b'=', b'\\', ..] | [b'=', b'=', b'\\', ..] => return Text::Escaped { at: plain },
        _ => return Text::Wrong,
    };
    match decoded_len(&bytes[..plain + padding]) {
        Some(data) => Text::Whole { len: plain + padding, data },
        None => Text::Wrong,
    }
}

/// Bytes that `text` decodes to, if its length, padding and unused bits are canonical and every byte is of the alphabet.
pub fn decoded_len(text: &[u8]) -> Option<usize> {
    let padding = text.iter().rev().take(3).take_while(|byte| **byte == b'=').count();
    let plain = text.len() - padding;
    if !text.len().is_multiple_of(4) || padding > 2 || alphabet_len(text) != plain {
        return None;
    }
    // The last character before padding has bits that nothing stands for.
    let unused = [0, 3, 15][padding];
    let clean = plain == 0 || value(text[plain - 1]) & unused == 0;
    clean.then(|| plain / 4 * 3 + [0, 0, 1, 2][plain % 4])
}

/// The six bits of a character of the alphabet.
fn value(byte: u8) -> u8 {
    match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        _ => 63,
    }
}

/// How many bytes at the start are of the alphabet.
fn alphabet_len(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(chunk) = bytes[at..].first_chunk::<32>() {
        let others = not_of_alphabet(chunk);
        if others != 0 {
            return at + others.trailing_zeros() as usize;
        }
        at += 32;
    }
    let is_other = |byte: &u8| !(byte.is_ascii_alphanumeric() || *byte == b'+' || *byte == b'/');
    at + bytes[at..].iter().position(is_other).unwrap_or(bytes.len() - at)
}

/// A bit for each byte outside the alphabet. A byte is looked up by its low and by its high half; it is outside when the two share a bit.
fn not_of_alphabet(chunk: &[u8; 32]) -> u32 {
    // SAFETY: AVX2 is part of the target (x86-64-v3); the one memory access reads the 32 bytes of `chunk`.
    unsafe {
        let low = _mm256_broadcastsi128_si256(_mm_setr_epi8(
            0x15, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x13, 0x1a, 0x1b, 0x1b, 0x1b, 0x1a,
        ));
        let high = _mm256_broadcastsi128_si256(_mm_setr_epi8(
            0x10, 0x10, 0x01, 0x02, 0x04, 0x08, 0x04, 0x08, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10,
        ));
        let bytes = _mm256_loadu_si256(chunk.as_ptr().cast());
        let nibble = _mm256_set1_epi8(15);
        let by_low = _mm256_shuffle_epi8(low, _mm256_and_si256(bytes, nibble));
        let by_high = _mm256_shuffle_epi8(high, _mm256_and_si256(_mm256_srli_epi32(bytes, 4), nibble));
        let inside = _mm256_cmpeq_epi8(_mm256_and_si256(by_low, by_high), _mm256_setzero_si256());
        !(_mm256_movemask_epi8(inside) as u32)
    }
}

/// Decodes text that [`measure`] or [`decoded_len`] has found valid; `out` is exactly as long as it said.
pub fn decode_into(text: &[u8], out: &mut [u8]) {
    STANDARD.decode(text, Out::from_slice(out)).expect("the text has been checked");
}

/// Encodes `data` at the start of `out` and gives the length of the text.
pub fn encode_into(data: &[u8], out: &mut [u8]) -> usize {
    let len = STANDARD.encoded_length(data.len());
    let _ = STANDARD.encode(data, Out::from_slice(&mut out[..len]));
    len
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_in_the_alphabet_or_not_as_the_standard_says() {
        for byte in 0..=255u8 {
            let known = byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
            assert_eq!(not_of_alphabet(&[byte; 32]), if known { 0 } else { u32::MAX }, "{byte:#x}");
        }
    }

    #[test]
    fn what_is_encoded_is_measured_and_decoded_back_at_every_length() {
        for len in 0..200usize {
            let data: Vec<u8> = (0..len).map(|i| (i * 37 + len) as u8).collect();
            let mut text = vec![0; 300];
            let end = encode_into(&data, &mut text);
            text[end] = b'"';
            assert_eq!(measure(&text), Text::Whole { len: end, data: len });
            let mut back = vec![0; len];
            decode_into(&text[..end], &mut back);
            assert_eq!(back, data);
        }
    }

    #[test]
    fn wrong_text_is_told_apart() {
        let wrong = [
            "",
            "A\"",
            "AB\"",
            "ABC\"",
            "AB==",
            "AB=\"",
            "A===\"",
            "=\"",
            "AB==C\"",
            "AB C\"",
            "AC=A\"",
            "AB==\u{e9}\"",
            "AB===",
        ];
        for text in wrong {
            assert_eq!(measure(text.as_bytes()), Text::Wrong, "{text}");
        }
        // Bits that nothing stands for.
        assert_eq!(measure(b"AB==\""), Text::Wrong);
        assert_eq!(measure(b"AA==\""), Text::Whole { len: 4, data: 1 });
        assert_eq!(measure(b"AAB=\""), Text::Wrong);
        assert_eq!(measure(b"A\\/AA\""), Text::Escaped { at: 1 });
    }
}
