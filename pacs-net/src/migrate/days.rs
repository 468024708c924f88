//! Days as numbers, for slices of dates.

use std::fmt;
use std::str::FromStr;

/// A day of the Gregorian calendar, counted from 1970-01-01. `Display` and `FromStr` are DICOM's: YYYYMMDD (PS3.5
/// 6.2, VR DA).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(pub(super) i32);

impl Day {
    /// What migrations begin with, when nothing is said: no image is older.
    pub(super) const FIRST: Self = Self(-25_567);
    /// And end with.
    pub(super) const LAST: Self = Self(47_481);

    /// Year, month and day (Howard Hinnant's civil_from_days).
    fn civil(self) -> (i32, i32, i32) {
        let days = self.0 + 719_468;
        let era = days.div_euclid(146_097);
        let of_era = days.rem_euclid(146_097);
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * of_year + 2) / 153;
        let day = of_year - (153 * shifted + 2) / 5 + 1;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        let year = year_of_era + era * 400 + i32::from(month <= 2);
        (year, month, day)
    }

    fn of(year: i32, month: i32, day: i32) -> Self {
        let year = year - i32::from(month <= 2);
        let era = year.div_euclid(400);
        let year_of_era = year.rem_euclid(400);
        let shifted = if month > 2 { month - 3 } else { month + 9 };
        let of_year = (153 * shifted + 2) / 5 + day - 1;
        let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
        Self(era * 146_097 + of_era - 719_468)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.civil();
        write!(f, "{year:04}{month:02}{day:02}")
    }
}

impl FromStr for Day {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits: String = text.chars().filter(|c| *c != '-').collect();
        let number = |range| digits.get(range).and_then(|text: &str| text.parse().ok());
        let day = match (digits.len(), number(0..4), number(4..6), number(6..8)) {
            (8, Some(year), Some(month @ 1..=12), Some(day @ 1..=31)) => Some(Self::of(year, month, day)),
            _ => None,
        };
        // A day that its month doesn't have comes back as another one.
        day.filter(|day| day.to_string() == digits)
            .ok_or_else(|| "a date is YYYYMMDD or YYYY-MM-DD".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_follow_the_calendar() {
        let mut day: Day = "18991231".parse().unwrap();
        for next in ["19000101", "19000102"] {
            day = Day(day.0 + 1);
            assert_eq!(day.to_string(), next);
        }
        for (text, next) in [
            ("20240228", "20240229"),
            ("20230228", "20230301"),
            ("19991231", "20000101"),
        ] {
            let day: Day = text.parse().unwrap();
            assert_eq!(Day(day.0 + 1).to_string(), next);
        }
        assert_eq!(
            (Day::FIRST.to_string(), Day::LAST.to_string()),
            ("19000101".into(), "20991231".into())
        );
        for bad in ["20230229", "2023", "20231301", "today"] {
            assert!(bad.parse::<Day>().is_err(), "{bad}");
        }
    }
}
