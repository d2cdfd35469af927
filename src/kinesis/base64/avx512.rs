//! Base64 with AVX-512 VBMI: 64 characters or 48 bytes a step, by table look-ups over whole registers.

use std::arch::x86_64::*;

const ALPHABET: [u8; 64] = *b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// Marks what is not of the alphabet, in the sign bit.
const OTHER: u8 = 0x80;
/// The six bits of each of the 128 ASCII characters.
const VALUES: [u8; 128] = {
    let mut values = [OTHER; 128];
    let mut at = 0;
    while at < 64 {
        values[ALPHABET[at] as usize] = at as u8;
        at += 1;
    }
    values
};
/// Where each byte of 48 comes from when 16 words of 24 bits, most significant byte first, are pushed together.
const PACK: [u8; 64] = {
    let mut from = [0; 64];
    let mut at = 0;
    while at < 48 {
        from[at] = (at / 3 * 4 + 2 - at % 3) as u8;
        at += 1;
    }
    from
};
/// Where the four bytes come from that 24 bits are spread over: each of them holds one of the four sextets, somewhere.
const SPREAD: [u8; 64] = {
    let mut from = [0; 64];
    let mut at = 0;
    while at < 64 {
        from[at] = (at / 4 * 3 + [1, 0, 2, 1][at % 4]) as u8;
        at += 1;
    }
    from
};
/// The bit at which each sextet of eight spread bytes begins, one byte each.
const SEXTETS: i64 = 0x3036_242a_1016_040a;

/// Proof that this CPU has what the kernel needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Vbmi(());

impl Vbmi {
    #[inline]
    pub(super) fn detect() -> Option<Vbmi> {
        let found = std::is_x86_feature_detected!("avx512bw") && std::is_x86_feature_detected!("avx512vbmi");
        found.then_some(Vbmi(()))
    }

    /// How many bytes at the start are of the alphabet.
    #[inline]
    pub(super) fn alphabet_len(self, bytes: &[u8]) -> usize {
        // SAFETY: `detect` has found the features.
        unsafe { alphabet_len(bytes) }
    }

    /// Decodes text without its padding, all of it of the alphabet, into exactly the bytes that it stands for.
    pub(super) fn decode(self, text: &[u8], out: &mut [u8]) {
        assert_eq!(text.len() / 4 * 3 + [0, 0, 1, 2][text.len() % 4], out.len(), "base64 into a room of another size");
        // SAFETY: `detect` has found the features.
        unsafe { decode(text, out) }
    }

    /// Encodes `data` without padding at the start of `out`, which has room for it, and gives the length.
    pub(super) fn encode(self, data: &[u8], out: &mut [u8]) -> usize {
        let len = data.len() / 3 * 4 + [0, 2, 3][data.len() % 3];
        // SAFETY: `detect` has found the features.
        unsafe { encode(data, &mut out[..len]) };
        len
    }
}

/// The lowest `count` bits, up to all 64.
fn low(count: usize) -> u64 {
    if count >= 64 { u64::MAX } else { (1 << count) - 1 }
}

#[inline]
#[target_feature(enable = "avx512bw,avx512vbmi")]
fn table(bytes: &[u8; 64]) -> __m512i {
    // SAFETY: an unaligned load of exactly the array.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

/// The sextet of each character, and [`OTHER`] somewhere in the sign bits of either where a byte is none.
#[inline]
#[target_feature(enable = "avx512bw,avx512vbmi")]
fn values(text: __m512i) -> __m512i {
    let (first, second) = VALUES.split_at(64);
    let (first, second) = (first.try_into().expect("half of 128"), second.try_into().expect("half of 128"));
    _mm512_permutex2var_epi8(table(first), text, table(second))
}

#[target_feature(enable = "avx512bw,avx512vbmi")]
fn alphabet_len(bytes: &[u8]) -> usize {
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        // SAFETY: only the bytes of the mask are touched, which lie in `rest`. The others read as zero, which ends the text.
        let text = unsafe { _mm512_maskz_loadu_epi8(low(rest.len()), rest.as_ptr().cast()) };
        // A look-up uses seven bits of a byte; the eighth is its own mark.
        let others = _mm512_movepi8_mask(_mm512_or_si512(values(text), text));
        if others != 0 {
            return at + others.trailing_zeros() as usize;
        }
        at += 64;
    }
    bytes.len()
}

/// `out` is as long as what `text` stands for.
#[target_feature(enable = "avx512bw,avx512vbmi")]
fn decode(text: &[u8], out: &mut [u8]) {
    let (mut from, mut to) = (0, 0);
    while from < text.len() {
        let (rest, room) = (&text[from..], &mut out[to..]);
        // SAFETY: the load touches the bytes of its mask, all in `rest`; what is missing in the last step reads as 'A', which is zero.
        let characters =
            unsafe { _mm512_mask_loadu_epi8(_mm512_set1_epi8(b'A' as i8), low(rest.len()), rest.as_ptr().cast()) };
        let pairs = _mm512_maddubs_epi16(values(characters), _mm512_set1_epi32(0x0140_0140));
        let words = _mm512_madd_epi16(pairs, _mm512_set1_epi32(0x0001_1000));
        let bytes = _mm512_permutexvar_epi8(table(&PACK), words);
        if room.len() >= 64 {
            // SAFETY: `room` has 64 bytes; the last 16 are written again by the next step, which there is: 48 do not fill the room.
            unsafe { _mm512_storeu_si512(room.as_mut_ptr().cast(), bytes) };
        } else {
            // SAFETY: the store touches the bytes of its mask, all in `room`.
            unsafe { _mm512_mask_storeu_epi8(room.as_mut_ptr().cast(), low(room.len().min(48)), bytes) };
        }
        from += 64;
        to += 48;
    }
}

/// `out` is as long as the text.
#[target_feature(enable = "avx512bw,avx512vbmi")]
fn encode(data: &[u8], out: &mut [u8]) {
    let (mut from, mut to) = (0, 0);
    while from < data.len() {
        let (rest, room) = (&data[from..], &mut out[to..]);
        // SAFETY: the load touches the bytes of its mask, all in `rest`; what is missing reads as zero.
        let bytes = unsafe { _mm512_maskz_loadu_epi8(low(rest.len().min(48)), rest.as_ptr().cast()) };
        let spread = _mm512_permutexvar_epi8(table(&SPREAD), bytes);
        let sextets = _mm512_multishift_epi64_epi8(_mm512_set1_epi64(SEXTETS), spread);
        let characters = _mm512_permutexvar_epi8(sextets, table(&ALPHABET));
        // SAFETY: the store touches the bytes of its mask, all in `room`.
        unsafe { _mm512_mask_storeu_epi8(room.as_mut_ptr().cast(), low(room.len()), characters) };
        from += 48;
        to += 64;
    }
}
