//! Numbers as DynamoDB has them: exact decimals of 38 digits.

use std::cmp::Ordering;
use std::fmt;

/// Digits that a number may have.
const DIGITS_MAX: u32 = 38;
/// One more than the most that `digits` may be.
const DIGITS_END: u128 = 10u128.pow(DIGITS_MAX);
/// Decimal exponents of the first digit: from 1E-130 to 9.9E+125.
const FIRST_MIN: i32 = -130;
const FIRST_MAX: i32 = 125;

/// `digits` times ten to the power of `exponent`; `digits` has no zero at its end, and zero has one form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Number {
    negative: bool,
    digits: u128,
    exponent: i32,
}

/// Why a text or a sum is no number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotANumber {
    Syntax,
    TooManyDigits,
    TooLarge,
    TooSmall,
}

impl NotANumber {
    /// DynamoDB's text for it.
    pub fn text(self, of: &str) -> String {
        match self {
            NotANumber::Syntax if of.is_empty() => "The parameter cannot be converted to a numeric value".to_string(),
            NotANumber::Syntax => {
                format!("The parameter cannot be converted to a numeric value: {}", &of[..of.floor_char_boundary(128)])
            }
            NotANumber::TooManyDigits => "Attempting to store more than 38 significant digits in a Number".to_string(),
            NotANumber::TooLarge => {
                "Number overflow. Attempting to store a number with magnitude larger than supported range".to_string()
            }
            NotANumber::TooSmall => {
                "Number underflow. Attempting to store a number with magnitude smaller than supported range".to_string()
            }
        }
    }
}

impl Number {
    pub const ZERO: Number = Number { negative: false, digits: 0, exponent: 0 };

    /// Reads `-12.50E+3` and the like.
    pub fn parse(text: &str) -> Result<Number, NotANumber> {
        let (negative, rest) = match text.as_bytes() {
            [b'-', ..] => (true, &text[1..]),
            [b'+', ..] => (false, &text[1..]),
            _ => (false, text),
        };
        let (mantissa, power) = match rest.find(['e', 'E']) {
            Some(at) => (&rest[..at], Some(&rest[at + 1..])),
            None => (rest, None),
        };
        let power = power.map_or(Ok(0), parse_power)?;
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = || whole.bytes().chain(fraction.bytes());
        if all().next().is_none() || !all().all(|byte| byte.is_ascii_digit()) {
            return Err(NotANumber::Syntax);
        }
        // Zeros at either end count for nothing; text of any length may have them.
        let significant: Vec<u8> = all().skip_while(|byte| *byte == b'0').collect();
        let zeros = significant.iter().rev().take_while(|byte| **byte == b'0').count();
        let significant = &significant[..significant.len() - zeros];
        if significant.len() > DIGITS_MAX as usize {
            return Err(NotANumber::TooManyDigits);
        }
        let digits = significant.iter().fold(0u128, |all, byte| all * 10 + (byte - b'0') as u128);
        let last = zeros as i64 - fraction.len() as i64 + power as i64;
        Number::of(negative, digits, last.clamp(-1_000_000, 1_000_000) as i32)
    }

    /// In its one form, if it is within bounds.
    fn of(negative: bool, mut digits: u128, mut exponent: i32) -> Result<Number, NotANumber> {
        if digits == 0 {
            return Ok(Number::ZERO);
        }
        while digits.is_multiple_of(10) {
            (digits, exponent) = (digits / 10, exponent + 1);
        }
        if digits >= DIGITS_END {
            return Err(NotANumber::TooManyDigits);
        }
        let number = Number { negative, digits, exponent };
        match number.first() {
            first if first > FIRST_MAX => Err(NotANumber::TooLarge),
            first if first < FIRST_MIN => Err(NotANumber::TooSmall),
            _ => Ok(number),
        }
    }

    /// The decimal exponent of the first digit.
    fn first(self) -> i32 {
        self.exponent + self.digits.checked_ilog10().unwrap_or(0) as i32
    }

    /// The exact sum.
    pub fn plus(self, other: Number) -> Result<Number, NotANumber> {
        if self.digits == 0 || other.digits == 0 {
            return Ok(if self.digits == 0 { other } else { self });
        }
        let exponent = self.exponent.min(other.exponent);
        // The last digit of the lower one stays, so what overflows here has more than 38 digits.
        let aligned = |number: Number| {
            let shift = 10u128.checked_pow((number.exponent - exponent) as u32)?;
            number.digits.checked_mul(shift)
        };
        let (Some(a), Some(b)) = (aligned(self), aligned(other)) else { return Err(NotANumber::TooManyDigits) };
        if self.negative == other.negative {
            let sum = a.checked_add(b).ok_or(NotANumber::TooManyDigits)?;
            return Number::of(self.negative, sum, exponent);
        }
        let negative = if a >= b { self.negative } else { other.negative };
        Number::of(negative, a.abs_diff(b), exponent)
    }

    pub fn negated(self) -> Number {
        Number { negative: !self.negative && self.digits != 0, ..self }
    }

    /// By size, the sign aside.
    fn cmp_size(self, other: Number) -> Ordering {
        if self.digits == 0 || other.digits == 0 {
            return self.digits.cmp(&other.digits);
        }
        // To 38 digits each, so that they compare as whole numbers.
        let full = |number: Number| number.digits * 10u128.pow(DIGITS_MAX - 1 - number.digits.ilog10());
        self.first().cmp(&other.first()).then_with(|| full(self).cmp(&full(other)))
    }
}

fn parse_power(text: &str) -> Result<i32, NotANumber> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(NotANumber::Syntax);
    }
    // What does not fit is out of range in any case.
    let size = digits.parse::<i32>().unwrap_or(1_000_000).min(1_000_000);
    Ok(if text.starts_with('-') { -size } else { size })
}

impl Ord for Number {
    fn cmp(&self, other: &Number) -> Ordering {
        match (self.negative, other.negative) {
            (false, false) => self.cmp_size(*other),
            (true, true) => other.cmp_size(*self),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
        }
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Number) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Without an exponent, as clients read counters back with a strict parse.
impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.negative {
            f.write_str("-")?;
        }
        let digits = self.digits.to_string();
        let point = digits.len() as i32 + self.exponent;
        if self.exponent >= 0 {
            let zeros = if self.digits == 0 { 0 } else { self.exponent as usize };
            return write!(f, "{digits}{:0<zeros$}", "");
        }
        match point {
            1.. => write!(f, "{}.{}", &digits[..point as usize], &digits[point as usize..]),
            _ => write!(f, "0.{:0<width$}{digits}", "", width = -point as usize),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::memory_disk::Random;

    #[track_caller]
    fn number(text: &str) -> Number {
        Number::parse(text).expect(text)
    }

    #[test]
    fn a_number_has_one_form() {
        let nines = "9".repeat(38);
        for (text, form) in [
            ("7", "7"),
            ("007.0", "7"),
            ("+7E0", "7"),
            ("-0.0", "0"),
            ("1.0E-4", "0.0001"),
            ("12.50", "12.5"),
            (".5", "0.5"),
            ("5.", "5"),
            ("120e1", "1200"),
            ("-0.00120", "-0.0012"),
            ("0e999999999999", "0"),
            (nines.as_str(), nines.as_str()),
        ] {
            assert_eq!(number(text).to_string(), form, "{text}");
        }
        assert_eq!(number("1E125").to_string(), format!("1{}", "0".repeat(125)));
        assert_eq!(number("1E-130").to_string(), format!("0.{}1", "0".repeat(129)));
    }

    #[test]
    fn what_is_no_number_is_told() {
        for text in ["", "-", "x", "1x", "1e", "1e+", "1.2.3", " 1", "1 ", "0x1", "NaN", "--1", ".", "e1", "1e1.5"] {
            assert_eq!(Number::parse(text), Err(NotANumber::Syntax), "{text:?}");
        }
        assert_eq!(Number::parse(&"1".repeat(39)), Err(NotANumber::TooManyDigits));
        assert_eq!(Number::parse("1E126"), Err(NotANumber::TooLarge));
        assert_eq!(Number::parse("1E99999999999999999999"), Err(NotANumber::TooLarge));
        assert_eq!(Number::parse("1E-131"), Err(NotANumber::TooSmall));
    }

    #[test]
    fn sums_are_exact_or_refused() {
        for (a, b, sum) in [
            ("9", "1", Ok("10")),
            ("0.1", "0.2", Ok("0.3")),
            ("-1", "1", Ok("0")),
            ("1", "-3", Ok("-2")),
            (
                "1e-100",
                "0",
                Ok(
                    "0.0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000001",
                ),
            ),
            ("100000000000000000000000000000000000000", "-1", Ok("99999999999999999999999999999999999999")),
            ("1e38", "1", Err(NotANumber::TooManyDigits)),
            ("1e100", "1", Err(NotANumber::TooManyDigits)),
            ("9e125", "1e125", Err(NotANumber::TooLarge)),
        ] {
            assert_eq!(number(a).plus(number(b)).map(|n| n.to_string()), sum.map(str::to_string), "{a} + {b}");
        }
    }

    #[test]
    fn order_and_sum_agree_with_whole_numbers() {
        let mut random = Random(3);
        let mut draw = || {
            let size = 10u64.pow(random.below(9) as u32);
            let (n, scale) = (random.below(2 * size) as i128 - size as i128, random.below(6) as u32);
            (n * 10i128.pow(5 - scale), number(&format!("{n}E-{scale}")))
        };
        for _ in 0..5_000 {
            let ((a, x), (b, y)) = (draw(), draw());
            assert_eq!(a.cmp(&b), x.cmp(&y), "{x} {y}");
            assert_eq!(number(&format!("{}E-5", a + b)), x.plus(y).expect("few digits"), "{x} + {y}");
            assert_eq!(number(&x.to_string()), x);
            assert_eq!(x.plus(x.negated()), Ok(Number::ZERO));
        }
    }
}
