//! Times of the day, and days of the week.

use serde::{Deserialize, Deserializer, de};

use crate::archive::Timestamp;

/// A part of each day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hours {
    /// Minutes since midnight.
    from: u16,
    to: u16,
}

impl Hours {
    /// From one time of the day to another, which it does not reach: `18:00-06:00`, or `18-6`.
    pub fn parse(text: &str) -> Option<Self> {
        let minute = |text: &str| {
            let (hour, minute) = text.split_once(':').unwrap_or((text, "0"));
            let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
            (hour <= 24 && minute < 60 && hour * 60 + minute <= 24 * 60).then_some(hour * 60 + minute)
        };
        let (from, to) = text.split_once('-')?;
        let (from, to) = (minute(from.trim())?, minute(to.trim())?);
        (from != to).then_some(Self { from, to })
    }

    /// Whether a time is in it.
    pub fn holds(self, at: LocalTime) -> bool {
        match self.from <= self.to {
            true => (self.from..self.to).contains(&at.minute),
            false => at.minute >= self.from || at.minute < self.to,
        }
    }
}

impl<'de> Deserialize<'de> for Hours {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| de::Error::custom("HH:MM-HH:MM is needed, such as 18:00-06:00"))
    }
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the names say it")]
pub enum Day {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

/// What the clock on the wall shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalTime {
    /// Minutes since midnight.
    pub minute: u16,
    /// Days since Monday.
    pub weekday: u8,
}

impl LocalTime {
    /// In UTC.
    pub fn utc(at: Timestamp) -> Self {
        const MINUTES: u64 = 24 * 60;
        let minutes = at.0 / 60_000;
        // 1970-01-01 was a Thursday.
        let weekday = (minutes / MINUTES + 3) % 7;
        Self {
            minute: u16::try_from(minutes % MINUTES).unwrap_or_default(),
            weekday: u8::try_from(weekday).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_may_go_over_midnight_and_what_is_none_is_refused() {
        let hold = |text: &str| {
            let hours = Hours::parse(text).unwrap();
            let at = |hour: u16| LocalTime {
                minute: hour * 60,
                weekday: 0,
            };
            (0..24).filter(|hour| hours.holds(at(*hour))).collect::<Vec<_>>()
        };
        assert_eq!(hold("20-6"), [0, 1, 2, 3, 4, 5, 20, 21, 22, 23]);
        assert_eq!(hold("20:30-06:00"), [0, 1, 2, 3, 4, 5, 21, 22, 23]);
        assert_eq!(hold("8-10"), [8, 9]);
        assert_eq!(hold("22:00-24:00"), [22, 23]);
        for bad in ["20", "6-6", "20-25", "24:01-6", "8:60-9", "a-b", ""] {
            assert!(Hours::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn the_clock_of_utc_knows_the_day_of_the_week() {
        // Thursday, 1 January 1970; Monday, 2 March 2026, 13:05.
        let expected = [(0, 0, 3), (1_772_456_700_000, 13 * 60 + 5, 0)];
        for (at, minute, weekday) in expected {
            assert_eq!(LocalTime::utc(Timestamp(at)), LocalTime { minute, weekday });
        }
    }
}
