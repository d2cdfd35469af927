//! The Huffman code of header strings (RFC 7541, appendix B).
//!
//! The code is canonical: among codes of one length they ascend with the symbol, and shorter ones come first. So the symbols in that order,
//! and how many there are of each length, are all of it.

/// What ends a string; it never stands in one.
const END: u16 = 256;
const SYMBOLS: usize = 257;
const LONGEST: usize = 30;

/// How many symbols have a code of each length.
const COUNTS: [u16; LONGEST + 1] =
    [0, 0, 0, 0, 0, 10, 26, 32, 6, 0, 5, 3, 2, 6, 2, 3, 0, 0, 0, 3, 8, 13, 26, 29, 12, 4, 15, 19, 29, 0, 4];

/// The symbols by length of their code, then by value.
#[rustfmt::skip]
const ORDER: [u16; SYMBOLS] = [
    48, 49, 50, 97, 99, 101, 105, 111, 115, 116,
    32, 37, 45, 46, 47, 51, 52, 53, 54, 55, 56, 57, 61, 65, 95, 98, 100, 102, 103, 104, 108, 109, 110, 112, 114, 117,
    58, 66, 67, 68, 69, 70, 71, 72, 73, 74, 75, 76, 77, 78, 79, 80, 81, 82, 83, 84, 85, 86, 87, 89, 106, 107, 113, 118, 119, 120, 121, 122,
    38, 42, 44, 59, 88, 90,
    33, 34, 40, 41, 63,
    39, 43, 124,
    35, 62,
    0, 36, 64, 91, 93, 126,
    94, 125,
    60, 96, 123,
    92, 195, 208,
    128, 130, 131, 162, 184, 194, 224, 226,
    153, 161, 167, 172, 176, 177, 179, 209, 216, 217, 227, 229, 230,
    129, 132, 133, 134, 136, 146, 154, 156, 160, 163, 164, 169, 170, 173, 178, 181, 185, 186, 187, 189, 190, 196, 198, 228, 232, 233,
    1, 135, 137, 138, 139, 140, 141, 143, 147, 149, 150, 151, 152, 155, 157, 158, 165, 166, 168, 174, 175, 180, 182, 183, 188, 191, 197, 231,
    239,
    9, 142, 144, 145, 148, 159, 171, 206, 215, 225, 236, 237,
    199, 207, 234, 235,
    192, 193, 200, 201, 202, 205, 210, 213, 218, 219, 238, 240, 242, 243, 255,
    203, 204, 211, 212, 214, 221, 222, 223, 241, 244, 245, 246, 247, 248, 250, 251, 252, 253, 254,
    2, 3, 4, 5, 6, 7, 8, 11, 12, 14, 15, 16, 17, 18, 19, 20, 21, 23, 24, 25, 26, 27, 28, 29, 30, 31, 127, 220, 249,
    10, 13, 22, END,
];

/// Of each length: the first code, the place of its symbol in [`ORDER`], and the first code behind, moved up to 32 bits.
struct Lengths {
    first: [u32; LONGEST + 1],
    place: [u16; LONGEST + 1],
    behind: [u64; LONGEST + 1],
}

const LENGTHS: Lengths = {
    let mut made = Lengths { first: [0; LONGEST + 1], place: [0; LONGEST + 1], behind: [0; LONGEST + 1] };
    let (mut code, mut place, mut len) = (0, 0, 1);
    while len <= LONGEST {
        code <<= 1;
        (made.first[len], made.place[len]) = (code, place);
        code += COUNTS[len] as u32;
        place += COUNTS[len];
        made.behind[len] = (code as u64) << (32 - len);
        len += 1;
    }
    assert!(place as usize == SYMBOLS && made.behind[LONGEST] == 1 << 32, "the code is complete");
    made
};

/// Bits that are looked up at once: nearly all that stands in a header has no longer code.
const SHORT: usize = 8;

/// (symbol, length of its code) by the next 8 bits; length 0: it is longer.
const SHORT_CODES: [(u8, u8); 1 << SHORT] = {
    let mut made = [(0, 0); 1 << SHORT];
    let mut bits = 0;
    while bits < made.len() {
        let (symbol, len) = look((bits as u64) << (32 - SHORT));
        if len <= SHORT {
            made[bits] = (symbol as u8, len as u8);
        }
        bits += 1;
    }
    made
};

/// The symbol at the beginning of 32 bits, and the length of its code.
const fn look(bits: u64) -> (u16, usize) {
    let mut len = 5;
    while len < LONGEST && bits >= LENGTHS.behind[len] {
        len += 1;
    }
    let nth = (bits >> (32 - len)) as u32 - LENGTHS.first[len];
    (ORDER[LENGTHS.place[len] as usize + nth as usize], len)
}

/// Appends what `bytes` stand for to `out`, at most 8/5 as long. `None`: they are no string in this code: its end stands in it, or its last
/// byte is filled up with something else than the beginning of that (RFC 7541, 5.2).
pub(super) fn decode(bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let (mut window, mut have) = (0_u64, 0);
    let mut input = bytes.iter();
    loop {
        while have <= 56
            && let Some(byte) = input.next()
        {
            window |= (*byte as u64) << (56 - have);
            have += 8;
        }
        let (mut symbol, mut len) = SHORT_CODES[(window >> (64 - SHORT)) as usize];
        if len == 0 {
            let (long, bits) = look(window >> 32);
            if bits as u32 <= have && long == END {
                return None;
            }
            (symbol, len) = (long as u8, bits as u8);
        }
        if len as u32 > have {
            let filling = !(!0 >> have);
            return (have < 8 && window == filling).then_some(());
        }
        out.push(symbol);
        window <<= len;
        have -= len as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(symbol: u16) -> (u32, usize) {
        let place = ORDER.iter().position(|other| *other == symbol).expect("every symbol has a code");
        let len = (1..=LONGEST).rfind(|len| LENGTHS.place[*len] as usize <= place && COUNTS[*len] > 0);
        let len = len.expect("a length");
        (LENGTHS.first[len] + (place as u32 - LENGTHS.place[len] as u32), len)
    }

    fn encode(text: &[u8]) -> Vec<u8> {
        let mut bits: Vec<bool> = Vec::new();
        for byte in text {
            let (code, len) = code(*byte as u16);
            bits.extend((0..len).rev().map(|bit| code >> bit & 1 == 1));
        }
        bits.resize(bits.len().next_multiple_of(8), true);
        bits.chunks(8).map(|byte| byte.iter().fold(0, |sum, bit| sum << 1 | *bit as u8)).collect()
    }

    fn decoded(bytes: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        decode(bytes, &mut out).map(|()| out)
    }

    #[test]
    fn codes_are_those_of_the_standard() {
        // RFC 7541, appendix B: the first and the last of some lengths.
        for (symbol, bits, len) in [
            (b'0' as u16, 0x0, 5),
            (b't' as u16, 0x9, 5),
            (b' ' as u16, 0x14, 6),
            (b'u' as u16, 0x2d, 6),
            (b'Z' as u16, 0xfd, 8),
            (b'!' as u16, 0x3f8, 10),
            (b'\\' as u16, 0x7fff0, 19),
            (255, 0x3ffffee, 26),
            (249, 0xffffffe, 28),
            (10, 0x3ffffffc, 30),
            (END, 0x3fffffff, 30),
        ] {
            assert_eq!(code(symbol), (bits, len), "{symbol}");
        }
        // C.4.1 and C.6.1.
        assert_eq!(encode(b"www.example.com"), b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff");
        assert_eq!(encode(b"private"), b"\xae\xc3\x77\x1a\x4b");
    }

    #[test]
    fn every_byte_comes_back() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(decoded(&encode(&all)), Some(all.clone()));
        for byte in &all {
            for len in 1..9 {
                let text = vec![*byte; len];
                assert_eq!(decoded(&encode(&text)), Some(text));
            }
        }
        assert_eq!(decoded(b""), Some(Vec::new()));
    }

    #[test]
    fn only_the_beginning_of_the_end_fills_up() {
        assert_eq!(decoded(b"\x1f"), Some(b"a".to_vec()), "00011 and 111");
        assert_eq!(decoded(b"\x1e"), None, "00011 and 110");
        assert_eq!(decoded(b"\x1f\xff"), None, "more than 7 bits");
        assert_eq!(decoded(b"\xff"), None);
        assert_eq!(decoded(b"\xff\xff\xff\xff"), None, "the end");
        assert_eq!(decoded(b"\xff\xff\xff\xfc"), None, "the end, and 00");
    }
}
