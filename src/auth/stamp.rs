//! The moment at which a request was signed, and whether it is now.

use super::refusal::{Reason, Refused};
use crate::kinesis::error::Kind;
use crate::stdx::calendar::Civil;

/// How far the client's clock may be off.
const SKEW_SECONDS: u64 = 300;

/// `20260131T235959Z`, as it is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub text: [u8; 16],
    pub seconds: u64,
}

impl Stamp {
    pub fn of_seconds(seconds: u64) -> Stamp {
        let civil = Civil::from_seconds(seconds);
        let mut text = *b"00000000T000000Z";
        let pairs =
            [(0, civil.year / 100 % 100), (2, civil.year % 100), (4, civil.month.into()), (6, civil.day.into())];
        let time = [(9, civil.hour.into()), (11, civil.minute.into()), (13, civil.second.into())];
        for (at, value) in pairs.into_iter().chain(time) {
            (text[at], text[at + 1]) = (b'0' + (value / 10) as u8, b'0' + (value % 10) as u8);
        }
        Stamp { text, seconds }
    }

    /// From `X-Amz-Date`, or from a `Date`, which may also be as HTTP writes it.
    pub fn parse(text: &[u8]) -> Option<Stamp> {
        basic(text).or_else(|| of_http(text)).map(Stamp::of_seconds)
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.text).expect("digits and two letters")
    }

    /// `20260131`.
    pub fn day(&self) -> &[u8] {
        &self.text[..8]
    }

    /// Whether a request that was signed then is to be taken at second `now`. `expires`: for how many seconds a presigned one is good.
    pub fn check(&self, now: u64, expires: Option<u64>) -> Result<(), Refused> {
        let refused = |text| Err(Refused::new(Reason::Clock, Kind::InvalidSignature, text));
        let (text, at) = (self.as_str(), Stamp::of_seconds(now));
        let life = expires.unwrap_or(SKEW_SECONDS);
        if self.seconds + life < now {
            let bound = Stamp::of_seconds(now - life);
            let span = expires.map_or("5 min.".to_owned(), |seconds| format!("{seconds} sec."));
            return refused(format!(
                "Signature expired: {text} is now earlier than {} ({} - {span})",
                bound.as_str(),
                at.as_str()
            ));
        }
        if self.seconds > now + SKEW_SECONDS {
            let bound = Stamp::of_seconds(now + SKEW_SECONDS);
            return refused(format!(
                "Signature not yet current: {text} is still later than {} ({} + 5 min.)",
                bound.as_str(),
                at.as_str()
            ));
        }
        Ok(())
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    let all = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    all.then(|| digits.iter().fold(0, |n, digit| n * 10 + (digit - b'0') as u64))
}

fn pair(digits: &[u8]) -> Option<u8> {
    number(digits).map(|n| n as u8)
}

fn basic(text: &[u8]) -> Option<u64> {
    let whole = text.len() == 16 && text[8] == b'T' && text[15] == b'Z';
    if !whole {
        return None;
    }
    let time = [pair(&text[9..11])?, pair(&text[11..13])?, pair(&text[13..15])?];
    Civil::to_seconds(number(&text[..4])?, pair(&text[4..6])?, pair(&text[6..8])?, time)
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`; the name of the day is not looked at.
fn of_http(text: &[u8]) -> Option<u64> {
    let shape = |at: usize, byte: u8| text[at] == byte;
    let whole = text.len() == 29 && text.ends_with(b" GMT") && shape(3, b',') && shape(19, b':') && shape(22, b':');
    if !whole {
        return None;
    }
    const MONTHS: [&[u8; 3]; 12] =
        [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
    let month = MONTHS.iter().position(|name| text[8..11] == name[..])? as u8 + 1;
    let time = [pair(&text[17..19])?, pair(&text[20..22])?, pair(&text[23..25])?];
    Civil::to_seconds(number(&text[12..16])?, month, pair(&text[5..7])?, time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_a_date_are_read() {
        let at = Stamp::parse(b"19941106T084937Z").expect("basic format");
        assert_eq!((at.seconds, at.day()), (784_111_777, &b"19941106"[..]));
        assert_eq!(Stamp::parse(b"Sun, 06 Nov 1994 08:49:37 GMT"), Some(at));
        for wrong in [
            "",
            "19941106T084937",
            "19941306T084937Z",
            "1994-11-06T08:49:37Z",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "1994110xT084937Z",
        ] {
            assert_eq!(Stamp::parse(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn the_window_is_five_minutes_either_way() {
        let at = Stamp::parse(b"20200101T000000Z").expect("basic format");
        let told = |now, expires| at.check(now, expires).map_err(|refused| refused.error.message);
        for now in [at.seconds - 300, at.seconds, at.seconds + 300] {
            assert_eq!(told(now, None), Ok(()));
        }
        assert_eq!(
            told(at.seconds + 600, None),
            Err("Signature expired: 20200101T000000Z is now earlier than 20200101T000500Z (20200101T001000Z - 5 min.)"
                .into())
        );
        assert_eq!(
            told(at.seconds - 600, None),
            Err("Signature not yet current: 20200101T000000Z is still later than 20191231T235500Z (20191231T235000Z + 5 min.)".into())
        );
        assert_eq!(told(at.seconds + 3600, Some(3600)), Ok(()));
        assert!(told(at.seconds + 3601, Some(3600)).is_err() && told(at.seconds - 301, Some(3600)).is_err());
    }
}
