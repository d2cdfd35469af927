//! Sequence numbers: four fields in the 56 decimal digits of Kinesis (version 2 of its form, as its public numbers show).
//!
//! ```text
//! hex digit  0      constant 2
//!            1..10  creation of the shard, seconds since 1970
//!            10     low four bits of the shard's number
//!            11..27 number of the record in its shard
//!            27..29 00
//!            29..38 arrival of the record, seconds since 1970
//!            38..46 number of the shard
//!            46     version: 2
//! ```

/// A record's place, as clients see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SequenceNumber {
    /// Creation of the shard, in seconds since 1970.
    pub created: u64,
    pub shard: u32,
    /// Number of the record in its shard; 0 is where the shard starts, [`SequenceNumber::END`] where a closed one ends.
    pub number: u64,
    /// Arrival of the record, in seconds since 1970.
    pub at: u64,
}

/// Decimal digits of a number.
pub const DIGITS: usize = 56;

const PAIRS: [u8; 200] = {
    let mut pairs = [0; 200];
    let mut n = 0;
    while n < 100 {
        pairs[2 * n] = b'0' + (n / 10) as u8;
        pairs[2 * n + 1] = b'0' + (n % 10) as u8;
        n += 1;
    }
    pairs
};

impl SequenceNumber {
    /// The number that a closed shard's range ends with.
    pub const END: u64 = i64::MAX as u64;

    /// The low 128 and the high 60 bits.
    fn bits(&self) -> (u128, u64) {
        let low = 2 | (self.shard as u128) << 4 | (self.at as u128) << 36 | (self.number as u128) << 80;
        let high = self.number >> 48 | (self.shard as u64 & 0xf) << 16 | self.created << 20 | 2 << 56;
        (low, high)
    }

    pub fn write(&self, out: &mut [u8; DIGITS]) {
        let (low, high) = self.bits();
        // Six limbs of 32 bits, highest first; each round divides by 10^9 and leaves nine digits.
        let mut limbs: [u32; 6] =
            [(high >> 32) as u32, high as u32, (low >> 96) as u32, (low >> 64) as u32, (low >> 32) as u32, low as u32];
        for round in 0..6 {
            let mut rest = 0u64;
            // The quotient loses almost a limb with each round.
            for limb in &mut limbs[round.max(1) - 1..] {
                rest = rest << 32 | *limb as u64;
                *limb = (rest / 1_000_000_000) as u32;
                rest %= 1_000_000_000;
            }
            let end = DIGITS - 9 * round;
            nine_digits(rest as u32, (&mut out[end - 9..end]).try_into().expect("nine bytes"));
        }
        // 56 digits are six nines and two more.
        out[..2].copy_from_slice(&PAIRS[2 * limbs[5] as usize..][..2]);
    }

    /// Reads a number of this form; `None` for any other text.
    pub fn parse(text: &[u8]) -> Option<SequenceNumber> {
        if text.len() != DIGITS || !text.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let (mut low, mut high) = (0u128, 0u128);
        for digit in text {
            // 188 bits in two halves of 96 and 92: neither overflows.
            low = low * 10 + (digit - b'0') as u128;
            high = high * 10 + (low >> 96);
            low &= (1 << 96) - 1;
        }
        let (low, high) = (low | high << 96, (high >> 32) as u64);
        let sequence = SequenceNumber {
            created: high >> 20 & 0xf_ffff_ffff,
            shard: (low >> 4) as u32,
            number: (high & 0xffff) << 48 | (low >> 80) as u64 & 0xffff_ffff_ffff,
            at: (low >> 36) as u64 & 0xf_ffff_ffff,
        };
        (sequence.bits() == (low, high) && sequence.number <= SequenceNumber::END).then_some(sequence)
    }
}

fn nine_digits(mut value: u32, out: &mut [u8; 9]) {
    for at in [7, 5, 3, 1] {
        let pair = value as usize % 100 * 2;
        value /= 100;
        out[at..at + 2].copy_from_slice(&PAIRS[pair..pair + 2]);
    }
    out[0] = b'0' + value as u8;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(n: &SequenceNumber) -> String {
        let mut out = [0; DIGITS];
        n.write(&mut out);
        String::from_utf8(out.to_vec()).expect("digits")
    }

    #[test]
    fn a_published_number_is_read_and_written_back() {
        let published = "49590338271490256608559692538361571095921575989136588898";
        let n = SequenceNumber::parse(published.as_bytes()).expect("a number of AWS");
        assert_eq!(n, SequenceNumber { created: 0x5bf4e5c2, shard: 6, number: 0x67648a17, at: 0x5c181eea });
        assert_eq!(text(&n), published);
    }

    #[test]
    fn numbers_survive_and_keep_their_order() {
        let mut state = 0x5eed_u64;
        let mut next = || {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            state >> 16
        };
        for _ in 0..2_000 {
            let a = SequenceNumber {
                created: 1_500_000_000 + next() % 1_000_000_000,
                shard: next() as u32,
                number: next() << 8 & SequenceNumber::END,
                at: next() % (1 << 34),
            };
            assert_eq!(SequenceNumber::parse(text(&a).as_bytes()), Some(a));
            let later = SequenceNumber { number: a.number + 1, at: next() % (1 << 34), ..a };
            assert!(text(&a) < text(&later), "the number counts, not the clock");
            let child = SequenceNumber { created: a.created + 1, shard: next() as u32, number: 1, at: a.at };
            assert!(text(&later) < text(&child), "a child is above its parent");
        }
    }

    #[test]
    fn other_texts_are_no_numbers() {
        let beyond = "9".repeat(DIGITS);
        let version_1 = "49590338271490256608559692538361571095921575989136588897";
        for wrong in ["", "0", "abc", version_1, &beyond, &"0".repeat(DIGITS)] {
            assert_eq!(SequenceNumber::parse(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
