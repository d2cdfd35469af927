//! What the server gives a client to bring back: readable by anyone, made by nobody else.
//!
//! A token is bytes that end in a tag: SipHash-2-4-128 of what is before it, under a key that stays in the data directory. The first byte
//! says what the token is for, so that one kind never passes for another. As text it is unpadded base64 of the URL alphabet, which JSON
//! writers leave as it is.

use crate::io::clock::Now;
use siphasher::sip128::SipHasher24;
use std::hint::black_box;

pub type Key = [u8; 16];

/// What a token is for: its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Purpose {
    ShardIterator = 1,
    ListShards = 2,
    ListStreams = 3,
    ListStreamConsumers = 4,
}

pub const TAG: usize = 16;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn tag(bytes: &[u8], key: &Key) -> [u8; TAG] {
    SipHasher24::new_with_key(key).hash(bytes).as_bytes()
}

/// Fills in the tag at the end of `token`.
pub fn seal(token: &mut [u8], key: &Key) {
    let (bytes, end) = token.split_at_mut(token.len() - TAG);
    end.copy_from_slice(&tag(bytes, key));
}

/// Whether [`seal`] made it, with this key and for this purpose. Takes the same time wherever the tags differ.
pub fn is_genuine(token: &[u8], purpose: Purpose, key: &Key) -> bool {
    let Some(length) = token.len().checked_sub(TAG) else { return false };
    let (bytes, end) = token.split_at(length);
    let difference = tag(bytes, key).iter().zip(end).fold(0, |difference, (a, b)| black_box(difference | (a ^ b)));
    difference == 0 && bytes.first() == Some(&(purpose as u8))
}

/// Length of the text of a token of `bytes` bytes, which must be whole groups of three: then no text but one decodes to a token.
pub const fn text_len(bytes: usize) -> usize {
    assert!(bytes.is_multiple_of(3));
    bytes / 3 * 4
}

/// Writes the text of `token`, [`text_len`] bytes.
pub fn encode(token: &[u8], out: &mut [u8]) {
    for (group, letters) in token.chunks_exact(3).zip(out.chunks_exact_mut(4)) {
        let bits = (group[0] as usize) << 16 | (group[1] as usize) << 8 | group[2] as usize;
        for (at, letter) in letters.iter_mut().enumerate() {
            *letter = ALPHABET[bits >> (18 - 6 * at) & 0x3f];
        }
    }
}

/// The inverse of [`encode`] into `out`, which has the token's length. False if `text` is not the text of such a token.
pub fn decode(text: &[u8], out: &mut [u8]) -> bool {
    if !out.len().is_multiple_of(3) || text.len() != text_len(out.len()) {
        return false;
    }
    for (letters, group) in text.chunks_exact(4).zip(out.chunks_exact_mut(3)) {
        let mut bits = 0;
        for letter in letters {
            let value = match letter {
                b'A'..=b'Z' => letter - b'A',
                b'a'..=b'z' => letter - b'a' + 26,
                b'0'..=b'9' => letter - b'0' + 52,
                b'-' => 62,
                b'_' => 63,
                _ => return false,
            };
            bits = bits << 6 | value as u32;
        }
        group.copy_from_slice(&bits.to_be_bytes()[1..]);
    }
    true
}

/// Milliseconds since a token was made. Of the two clocks the one that says less counts: a step of the wall clock ends no token early, and a
/// boot clock that has started anew says nothing.
pub fn age_ms(issued: Now, now: Now) -> u64 {
    let wall = now.wall.0.checked_sub(issued.wall.0).map(|us| us / 1_000);
    let mono = now.mono.0.checked_sub(issued.mono.0).map(|ns| ns / 1_000_000);
    match (wall, mono) {
        (Some(wall), Some(mono)) => wall.min(mono),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::clock::{Mono, Wall};

    #[test]
    fn text_and_bytes_are_one_to_one() {
        let bytes: Vec<u8> = (0..=254).collect();
        let mut text = vec![0; text_len(bytes.len())];
        encode(&bytes, &mut text);
        assert!(text.iter().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, b'-' | b'_')));
        let mut back = vec![0; bytes.len()];
        assert!(decode(&text, &mut back));
        assert_eq!(back, bytes);
        for at in 0..text.len() {
            let kept = text[at];
            for wrong in [b'+', b'/', b'=', b' ', 0, 0xff] {
                text[at] = wrong;
                assert!(!decode(&text, &mut back));
            }
            text[at] = kept;
        }
        assert!(!decode(&text[1..], &mut back));
    }

    #[test]
    fn the_tag_is_siphash_2_4_of_128_bits() {
        // First lines of the vectors of the reference implementation: key 00..0f, no input and then one byte 00.
        let key: Key = std::array::from_fn(|i| i as u8);
        assert_eq!(
            tag(&[], &key),
            [0xa3, 0x81, 0x7f, 0x04, 0xba, 0x25, 0xa8, 0xe6, 0x6d, 0xf6, 0x72, 0x14, 0xc7, 0x55, 0x02, 0x93]
        );
        assert_eq!(
            tag(&[0], &key),
            [0xda, 0x87, 0xc1, 0xd8, 0x6b, 0x99, 0xaf, 0x44, 0x34, 0x76, 0x59, 0x11, 0x9b, 0x22, 0xfc, 0x45]
        );
    }

    #[test]
    fn a_step_of_either_clock_ends_no_token_early() {
        let at = |mono_s: u64, wall_s: u64| Now { mono: Mono(mono_s * 1_000_000_000), wall: Wall(wall_s * 1_000_000) };
        let issued = at(100, 10_000);
        for (now, age) in [
            (at(110, 10_010), 10_000),
            (at(110, 13_610), 10_000),
            (at(110, 9_000), 10_000),
            (at(5, 10_010), 10_000),
            (at(5, 9_000), 0),
            (at(500, 10_400), 400_000),
        ] {
            assert_eq!(age_ms(issued, now), age, "{now:?}");
        }
    }
}
