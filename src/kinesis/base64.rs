//! Base64 of record data: checking and measuring while looking for the end of the text, then decoding what has been checked.
//!
//! Strict, as the service is: whole groups of four, canonical padding, no bit set that stands for nothing. With AVX-512 VBMI the end of
//! the text and a byte that does not belong are found 64 characters at a time, and 48 bytes are decoded or encoded a step; other CPUs find
//! them with AVX2 and decode with the `base64-simd` crate.

mod avx2;
mod avx512;

use avx512::Vbmi;
use base64_simd::{Out, STANDARD};

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

/// Which instructions do the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kernel {
    Avx2,
    Avx512(Vbmi),
}

impl Kernel {
    #[inline]
    fn here() -> Kernel {
        Vbmi::detect().map_or(Kernel::Avx2, Kernel::Avx512)
    }

    /// How many bytes at the start are of the alphabet.
    #[inline]
    fn alphabet_len(self, bytes: &[u8]) -> usize {
        match self {
            Kernel::Avx512(vbmi) => vbmi.alphabet_len(bytes),
            Kernel::Avx2 => avx2::alphabet_len(bytes),
        }
    }

    fn measure(self, bytes: &[u8]) -> Text {
        let plain = self.alphabet_len(bytes);
        let padding = match &bytes[plain..] {
            [b'"', ..] => 0,
            [b'=', b'"', ..] => 1,
            [b'=', b'=', b'"', ..] => 2,
            // Padding may be escaped, in theory.
            [b'\\', ..] | [b'=', b'\\', ..] | [b'=', b'=', b'\\', ..] => return Text::Escaped { at: plain },
            _ => return Text::Wrong,
        };
        match data_len(plain, bytes[..plain].last().copied(), padding) {
            Some(data) => Text::Whole { len: plain + padding, data },
            None => Text::Wrong,
        }
    }

    fn decode(self, text: &[u8], out: &mut [u8]) {
        match self {
            Kernel::Avx512(vbmi) => vbmi.decode(without_padding(text), out),
            Kernel::Avx2 => {
                STANDARD.decode(text, Out::from_slice(out)).expect("the text has been checked");
            }
        }
    }

    fn encode(self, data: &[u8], out: &mut [u8]) -> usize {
        let len = data.len().div_ceil(3) * 4;
        let out = &mut out[..len];
        match self {
            Kernel::Avx512(vbmi) => {
                let plain = vbmi.encode(data, out);
                out[plain..].fill(b'=');
            }
            Kernel::Avx2 => {
                let _ = STANDARD.encode(data, Out::from_slice(out));
            }
        }
        len
    }
}

/// Measures the text that ends at the first quote.
pub fn measure(bytes: &[u8]) -> Text {
    Kernel::here().measure(bytes)
}

/// Bytes that `text` decodes to, if its length, padding and unused bits are canonical and every byte is of the alphabet.
pub fn decoded_len(text: &[u8]) -> Option<usize> {
    let plain = without_padding(text);
    let known = Kernel::here().alphabet_len(plain) == plain.len();
    if known { data_len(plain.len(), plain.last().copied(), text.len() - plain.len()) } else { None }
}

/// Decodes text that [`measure`] or [`decoded_len`] has found valid; `out` is exactly as long as it said.
pub fn decode_into(text: &[u8], out: &mut [u8]) {
    Kernel::here().decode(text, out);
}

/// Encodes `data` at the start of `out`, which has room for it, and gives the length of the text.
pub fn encode_into(data: &[u8], out: &mut [u8]) -> usize {
    Kernel::here().encode(data, out)
}

/// How many bytes at the start are of the alphabet.
pub(super) fn alphabet_len(bytes: &[u8]) -> usize {
    Kernel::here().alphabet_len(bytes)
}

pub(super) const fn is_of_alphabet(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/'
}

/// Bytes that `plain` characters of the alphabet, of which `last` is the last, and `padding` behind them decode to.
pub(super) fn data_len(plain: usize, last: Option<u8>, padding: usize) -> Option<usize> {
    // Bits of the last character that nothing stands for.
    let unused = match (plain % 4, padding) {
        (0, 0) => 0,
        (3, 1) => 3,
        (2, 2) => 15,
        _ => return None,
    };
    let clean = last.is_none_or(|last| value(last) & unused == 0);
    clean.then_some(plain / 4 * 3 + [0, 0, 1, 2][plain % 4])
}

/// Up to two characters of padding at the end are left away.
fn without_padding(text: &[u8]) -> &[u8] {
    let text = text.strip_suffix(b"=").unwrap_or(text);
    text.strip_suffix(b"=").unwrap_or(text)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::memory_disk::Random;

    /// Both, where the CPU has both.
    fn kernels() -> impl Iterator<Item = Kernel> {
        [Kernel::Avx2, Kernel::here()].into_iter()
    }

    #[test]
    fn the_first_byte_outside_the_alphabet_is_found_wherever_it_is() {
        for kernel in kernels() {
            for byte in 0..=255u8 {
                let known = byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
                for at in [0, 1, 31, 32, 63, 64, 65, 100, 129] {
                    let mut bytes = [b'q'; 130];
                    bytes[at] = byte;
                    assert_eq!(
                        kernel.alphabet_len(&bytes),
                        if known { 130 } else { at },
                        "{kernel:?}: {byte:#x} at {at}"
                    );
                    assert_eq!(kernel.alphabet_len(&bytes[..at]), at);
                }
            }
        }
    }

    #[test]
    fn what_is_encoded_is_measured_and_decoded_back_at_every_length() {
        for kernel in kernels() {
            for len in 0..400usize {
                let data: Vec<u8> = (0..len).map(|i| (i * 37 + len) as u8).collect();
                let mut text = vec![b'.'; 600];
                let end = kernel.encode(&data, &mut text);
                assert!(text[end..].iter().all(|byte| *byte == b'.'), "{kernel:?} wrote past its end");
                assert_eq!(text[..end], *STANDARD.encode_to_string(&data).as_bytes(), "{kernel:?}, {len} bytes");
                text[end] = b'"';
                assert_eq!(kernel.measure(&text), Text::Whole { len: end, data: len });
                let mut back = vec![0xee; len + 70];
                kernel.decode(&text[..end], &mut back[..len]);
                assert_eq!(back[..len], data, "{kernel:?}, {len} bytes");
                assert!(back[len..].iter().all(|byte| *byte == 0xee), "{kernel:?} wrote past its end");
            }
        }
    }

    #[test]
    fn every_short_text_is_judged_as_the_crate_judges_it() {
        let letters = b"AQfgw/=.\xc3";
        for len in 0..=6u32 {
            for number in 0..letters.len().pow(len) {
                let text: Vec<u8> =
                    (0..len).map(|at| letters[number / letters.len().pow(at) % letters.len()]).collect();
                let expected = STANDARD.decode_to_vec(&text).ok().map(|data| data.len());
                assert_eq!(decoded_len(&text), expected, "{}", String::from_utf8_lossy(&text));
                let quoted = [&text[..], b"\""].concat();
                for kernel in kernels() {
                    let measured = match kernel.measure(&quoted) {
                        Text::Whole { len, data } if len == text.len() => Some(data),
                        other => {
                            assert_eq!(other, Text::Wrong);
                            None
                        }
                    };
                    assert_eq!(measured, expected, "{kernel:?}: {}", String::from_utf8_lossy(&text));
                }
            }
        }
    }

    #[test]
    fn a_changed_text_of_any_length_is_judged_as_the_crate_judges_it() {
        let random = &mut Random(0xb64);
        for len in 0..300u64 {
            let data: Vec<u8> = (0..len).map(|_| random.below(256) as u8).collect();
            let text = STANDARD.encode_to_string(&data).into_bytes();
            for _ in 0..20.min(20 * text.len()) {
                let mut changed = text.clone();
                let at = match random.below(2) {
                    0 => random.below(text.len() as u64) as usize,
                    _ => text.len() - 1 - random.below(4) as usize,
                };
                changed[at] = b"AQgw/+=\x00\xff-_. \n\xc1@[`{"[random.below(18) as usize];
                let expected = STANDARD.decode_to_vec(&changed).ok();
                assert_eq!(
                    decoded_len(&changed),
                    expected.as_ref().map(Vec::len),
                    "{}",
                    String::from_utf8_lossy(&changed)
                );
                let quoted =
                    [&changed[..], b"\", and more text than a step takes in, so that no kernel meets the end"].concat();
                for kernel in kernels() {
                    let measured = kernel.measure(&quoted);
                    let Some(expected) = &expected else {
                        assert_eq!(measured, Text::Wrong, "{kernel:?}: {}", String::from_utf8_lossy(&changed));
                        continue;
                    };
                    assert_eq!(measured, Text::Whole { len: changed.len(), data: expected.len() }, "{kernel:?}");
                    let mut back = vec![0; expected.len()];
                    kernel.decode(&changed, &mut back);
                    assert_eq!(back, *expected, "{kernel:?}: {}", String::from_utf8_lossy(&changed));
                }
            }
        }
    }

    #[test]
    fn text_that_does_not_end_or_has_escapes_is_told_apart() {
        for kernel in kernels() {
            for text in ["", "A", "AAAA", "AAA=", "AA==", "AA==A\"", "AAAA \""] {
                assert_eq!(kernel.measure(text.as_bytes()), Text::Wrong, "{text}");
            }
            assert_eq!(kernel.measure(b"A\\/AA\""), Text::Escaped { at: 1 });
            assert_eq!(kernel.measure(b"AA\\u003d=\""), Text::Escaped { at: 2 });
            assert_eq!(kernel.measure(b"AA=\\u003d\""), Text::Escaped { at: 2 });
        }
    }
}
