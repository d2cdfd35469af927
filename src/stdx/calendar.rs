//! Seconds since 1970 as a date of the Gregorian calendar, in UTC.

/// A second of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Civil {
    pub year: u64,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    pub hour: u8,
    pub minute: u8,
    pub second: u8,
    /// 0 is Sunday.
    pub weekday: u8,
}

const DAY: u64 = 86_400;
/// Days of 400 years, after which the calendar repeats.
const DAYS_OF_ERA: u64 = 146_097;
/// Days from 0000-03-01 to 1970-01-01. Years are counted from March so that the leap day ends one.
const DAYS_TO_1970: u64 = 719_468;

impl Civil {
    pub const fn from_seconds(seconds: u64) -> Civil {
        let days = seconds / DAY + DAYS_TO_1970;
        let (era, day_of_era) = (days / DAYS_OF_ERA, days % DAYS_OF_ERA);
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        // Months of 31, 30, 31, 30, 31 days repeat from March on: 153 days for five.
        let from_march = (5 * day_of_year + 2) / 153;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        let of_day = seconds % DAY;
        Civil {
            year: era * 400 + year_of_era + (month <= 2) as u64,
            month: month as u8,
            day: (day_of_year - (153 * from_march + 2) / 5 + 1) as u8,
            hour: (of_day / 3_600) as u8,
            minute: (of_day / 60 % 60) as u8,
            second: (of_day % 60) as u8,
            weekday: ((seconds / DAY + 4) % 7) as u8,
        }
    }

    /// Seconds since 1970 of a date and time; `None`: there is no such one, or it is before 1970.
    pub fn to_seconds(year: u64, month: u8, day: u8, [hour, minute, second]: [u8; 3]) -> Option<u64> {
        let in_range = (1970..10_000).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
        if !in_range || hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let (from_march, year_of_march) =
            if month > 2 { (month as u64 - 3, year) } else { (month as u64 + 9, year - 1) };
        let (era, year_of_era) = (year_of_march / 400, year_of_march % 400);
        let day_of_year = (153 * from_march + 2) / 5 + day as u64 - 1;
        let days = era * DAYS_OF_ERA + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let seconds = (days - DAYS_TO_1970) * DAY + hour as u64 * 3_600 + minute as u64 * 60 + second as u64;
        // The 31st of a shorter month has become a day of the next one.
        (Civil::from_seconds(seconds).day == day).then_some(seconds)
    }

    /// `Jan`.
    pub fn month_name(&self) -> &'static str {
        &"JanFebMarAprMayJunJulAugSepOctNovDec"[(self.month as usize - 1) * 3..][..3]
    }

    /// `Sun`.
    pub fn weekday_name(&self) -> &'static str {
        &"SunMonTueWedThuFriSat"[self.weekday as usize * 3..][..3]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_seconds_have_their_dates() {
        // Seconds from `date -u -d ... +%s`.
        for (seconds, year, month, day, hour, minute, second, weekday) in [
            (0, 1970, 1, 1, 0, 0, 0, "Thu"),
            (784_111_777, 1994, 11, 6, 8, 49, 37, "Sun"),
            (951_827_696, 2000, 2, 29, 12, 34, 56, "Tue"),
            (1_421_889_722, 2015, 1, 22, 1, 22, 2, "Thu"),
            (1_709_251_199, 2024, 2, 29, 23, 59, 59, "Thu"),
            (4_107_542_400, 2100, 3, 1, 0, 0, 0, "Mon"),
        ] {
            let civil = Civil::from_seconds(seconds);
            assert_eq!((civil.year, civil.month, civil.day), (year, month, day), "{seconds}");
            assert_eq!((civil.hour, civil.minute, civil.second), (hour, minute, second), "{seconds}");
            assert_eq!(civil.weekday_name(), weekday, "{seconds}");
        }
    }

    #[test]
    fn dates_lead_back_to_their_seconds() {
        for seconds in (0..8_000_000_000).step_by(86_400 * 13 + 4_711) {
            let Civil { year, month, day, hour, minute, second, .. } = Civil::from_seconds(seconds);
            assert_eq!(Civil::to_seconds(year, month, day, [hour, minute, second]), Some(seconds));
        }
        for (year, month, day, time) in [
            (2025, 2, 29, [0; 3]),
            (2026, 4, 31, [0; 3]),
            (2026, 13, 1, [0; 3]),
            (2026, 1, 1, [24, 0, 0]),
            (1969, 12, 31, [0; 3]),
        ] {
            assert_eq!(Civil::to_seconds(year, month, day, time), None, "{year}-{month}-{day}");
        }
    }

    #[test]
    fn each_day_follows_the_one_before() {
        let mut last = Civil::from_seconds(0);
        for day in 1..200_000 {
            let next = Civil::from_seconds(day * DAY);
            let stays = next.year == last.year && next.month == last.month && next.day == last.day + 1;
            let month = next.day == 1 && last.day >= 28 && next.month == last.month % 12 + 1;
            assert!(stays || month && next.year == last.year + (next.month == 1) as u64, "{last:?} {next:?}");
            assert_eq!(next.weekday, (last.weekday + 1) % 7);
            last = next;
        }
    }
}
