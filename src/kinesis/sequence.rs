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

/// Digits are split off 18 at a time: the most that a divisor below 2^64 gives with room for a normalising shift.
const SPLIT: u64 = 1_000_000_000_000_000_000;
const SHIFT: u32 = SPLIT.leading_zeros();
const DIVISOR: u64 = SPLIT << SHIFT;
/// floor((2^128 - 1) / divisor) - 2^64.
const RECIPROCAL: u64 = (u128::MAX / DIVISOR as u128 - (1 << 64)) as u64;

impl SequenceNumber {
    /// The number that a closed shard's range ends with.
    pub const END: u64 = i64::MAX as u64;

    /// The low 128 and the high 60 bits.
    fn bits(&self) -> (u128, u64) {
        let low = 2 | (self.shard as u128) << 4 | (self.at as u128) << 36 | (self.number as u128) << 80;
        let high = self.number >> 48 | (self.shard as u64 & 0xf) << 16 | self.created << 20 | 2 << 56;
        (low, high)
    }

    /// Writes the 56 digits.
    pub fn write(&self, out: &mut [u8; DIGITS]) {
        Run::new(*self).write(0, out);
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

/// Records that follow each other in a shard and arrived in one second: their numbers differ by a multiple of 2^80, so the division into
/// digits is done once, and each further number costs an addition.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    pub first: SequenceNumber,
    /// The upper 20 digits of the first number, as they are in nearly all the others.
    top: [u8; 20],
    /// The same, and the two groups of 18 digits below, as numbers.
    parts: [u64; 4],
}

/// 2^80 in groups of 18 digits.
const STEP: [u64; 2] = [((1u128 << 80) / SPLIT as u128) as u64, ((1u128 << 80) % SPLIT as u128) as u64];

impl Run {
    /// The run that begins with `first`. Two multiplications stand for each division.
    pub fn new(number: SequenceNumber) -> Run {
        let (low, high) = number.bits();
        // From here on in words, highest first. Each round shifts the number as the divisor is: quotients stay, rests come out shifted.
        let shifted = |high: u64, low: u64| (high << SHIFT) | (low >> (64 - SHIFT));
        let (middle, low) = ((low >> 64) as u64, low as u64);
        let (high, rest) = divide(shifted(high, middle), shifted(middle, low));
        let (low, rest) = divide(rest, low << SHIFT);
        let third = rest >> SHIFT;
        // The quotient so far is below 2^126.
        let (high, middle) = (high >> (64 - SHIFT), shifted(high, low));
        let (high, rest) = divide(high, middle);
        let (low, rest) = divide(rest, low << SHIFT);
        let second = rest >> SHIFT;
        // Now below 75 * 10^18.
        let (top, rest) = divide(shifted(high, low), low << SHIFT);
        let first = rest >> SHIFT;
        Run { first: number, top: twenty_digits(top, first), parts: [top, first, second, third] }
    }

    /// Writes the number `ordinal` behind the first.
    pub fn write(&self, ordinal: u32, out: &mut [u8; DIGITS]) {
        let [top, first, second, third] = self.parts;
        let product = (STEP[1] as u128 * ordinal as u128) << SHIFT;
        let (quotient, rest) = divide((product >> 64) as u64, product as u64);
        let (over, third) = carry(third + (rest >> SHIFT));
        let (over, second) = carry(second + STEP[0] * ordinal as u64 + quotient + over);
        if over == 0 {
            out[..20].copy_from_slice(&self.top);
        } else {
            let (over, first) = carry(first + over);
            out[..20].copy_from_slice(&twenty_digits(top + over, first));
        }
        eighteen_digits(second, &mut out[20..38]);
        eighteen_digits(third, &mut out[38..]);
    }
}

/// Divides `high` × 2^64 + `low` by [`DIVISOR`], which `high` is below, and gives the rest too. The reciprocal's estimate is off by at most
/// one either way (Möller and Granlund, "Improved division by invariant integers", 2011).
fn divide(high: u64, low: u64) -> (u64, u64) {
    debug_assert!(high < DIVISOR);
    let estimate = RECIPROCAL as u128 * high as u128 + (((high as u128) << 64) | low as u128);
    let mut quotient = ((estimate >> 64) as u64).wrapping_add(1);
    let mut rest = low.wrapping_sub(quotient.wrapping_mul(DIVISOR));
    if rest > estimate as u64 {
        quotient = quotient.wrapping_sub(1);
        rest = rest.wrapping_add(DIVISOR);
    }
    if rest >= DIVISOR {
        quotient = quotient.wrapping_add(1);
        rest -= DIVISOR;
    }
    (quotient, rest)
}

/// What a sum of groups, below 2 * 10^18, leaves to the group above, and the group of 18 digits that stays.
fn carry(sum: u64) -> (u64, u64) {
    if sum < SPLIT { (0, sum) } else { (1, sum - SPLIT) }
}

fn twenty_digits(top: u64, group: u64) -> [u8; 20] {
    let mut out = [0; 20];
    out[..2].copy_from_slice(&two_digits(top));
    eighteen_digits(group, &mut out[2..]);
    out
}

fn eighteen_digits(value: u64, out: &mut [u8]) {
    let (top, sixteen) = (value / 10_000_000_000_000_000, value % 10_000_000_000_000_000);
    out[..2].copy_from_slice(&two_digits(top));
    out[2..10].copy_from_slice(&eight_digits(sixteen / 100_000_000));
    out[10..].copy_from_slice(&eight_digits(sixteen % 100_000_000));
}

fn two_digits(value: u64) -> [u8; 2] {
    [b'0' + (value / 10) as u8, b'0' + (value % 10) as u8]
}

/// Splits into halves, quarters and digits, all parts of a kind at once, the first digit in the lowest byte. (x * 10486 >> 20 is x / 100
/// below 10^4, x * 103 >> 10 is x / 10 below 100.)
fn eight_digits(value: u64) -> [u8; 8] {
    let fours = (value / 10_000) | ((value % 10_000) << 32);
    let hundreds = ((fours * 10_486) >> 20) & 0x0000_007f_0000_007f;
    let twos = hundreds | ((fours - 100 * hundreds) << 16);
    let tens = ((twos * 103) >> 10) & 0x000f_000f_000f_000f;
    let ones = tens | ((twos - 10 * tens) << 8);
    (ones | 0x3030_3030_3030_3030).to_le_bytes()
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
    fn the_ends_of_every_field_survive() {
        let most = (1 << 36) - 1;
        for (created, shard, number, at) in [
            (0, 0, 0, 0),
            (0, u32::MAX, SequenceNumber::END, most),
            (most, 0, 0, 0),
            (most, u32::MAX, SequenceNumber::END, most),
        ] {
            let n = SequenceNumber { created, shard, number, at };
            assert_eq!(SequenceNumber::parse(text(&n).as_bytes()), Some(n));
        }
    }

    #[test]
    fn a_run_writes_what_each_number_alone_does() {
        let mut out = [0; DIGITS];
        // Some of them carry into the upper digits somewhere on the way.
        for start in (0..64).map(|n| (n * 0x0123_4567_89ab_cdef) >> 8).chain([0, 1, SequenceNumber::END - (1 << 32)]) {
            let first = SequenceNumber { created: 1_790_000_000, shard: 77, number: start, at: 1_790_000_001 };
            let run = Run::new(first);
            for ordinal in (0..2_000).chain((0..32).map(|bit| u32::MAX >> bit)) {
                run.write(ordinal, &mut out);
                let alone = SequenceNumber { number: start + ordinal as u64, ..first };
                assert_eq!(SequenceNumber::parse(&out), Some(alone), "{start} and {ordinal}");
            }
        }
    }

    #[test]
    fn no_two_texts_are_one_number() {
        let n = SequenceNumber { created: 1_790_000_000, shard: 77, number: 1 << 40, at: 1_790_000_001 };
        let written = text(&n);
        let mut others = 0;
        for at in 0..DIGITS {
            for digit in b'0'..=b'9' {
                let mut changed = written.clone().into_bytes();
                changed[at] = digit;
                if let Some(read) = SequenceNumber::parse(&changed) {
                    assert_eq!(text(&read).as_bytes(), changed, "{at}: {digit}");
                    others += u32::from(read != n);
                }
            }
        }
        assert!(others > 0, "some digits belong to a field alone");
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
