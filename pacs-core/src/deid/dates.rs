//! Dates that go back by days.

use crate::query::days_since_1970;

/// A value of DA or DT, or several with `\` between them, so many days earlier; `None` when one is no date.
///
/// What a DT does not say, such as the day, it doesn't say then either; its time and offset stay.
pub(super) fn shifted(text: &str, days_back: i64) -> Option<String> {
    let each = text.split('\\').map(|value| one(value.trim(), days_back));
    Some(each.collect::<Option<Vec<_>>>()?.join("\\"))
}

fn one(value: &str, days_back: i64) -> Option<String> {
    if value.is_empty() {
        return Some(String::new());
    }
    // As ACR-NEMA wrote it: yyyy.mm.dd (PS3.5 6.2).
    let undotted = match value.as_bytes() {
        [_, _, _, _, b'.', _, _, b'.', _, _] => value.replace('.', ""),
        _ => value.to_owned(),
    };
    let digits = undotted.bytes().take_while(u8::is_ascii_digit).count();
    let said = match digits {
        4 => 4,
        6 => 6,
        8.. => 8,
        _ => return None,
    };
    let (date, rest) = undotted.split_at_checked(said)?;
    if !is_time_and_offset(rest, said == 8) {
        return None;
    }
    let number = |from: usize, to: usize| date.get(from..to).unwrap_or("01").parse::<i64>().ok();
    let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let (year, month, day) = civil(days_since_1970(year, month, day) - days_back);
    let text = format!("{:04}{month:02}{day:02}", year.clamp(0, 9999));
    Some(format!("{}{rest}", text.get(..said)?))
}

/// Whether it is what may stand behind the date of a DT (PS3.5 6.2): anything else may be another date.
fn is_time_and_offset(rest: &str, may_have_time: bool) -> bool {
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (time, offset) = rest.split_at(rest.find(['+', '-']).unwrap_or(rest.len()));
    let (seconds, fraction) = time.split_once('.').unwrap_or((time, ""));
    let is_time = all_digits(seconds) && seconds.len() <= 6 && all_digits(fraction) && fraction.len() <= 6;
    let is_offset = offset.is_empty() || offset.len() == 5 && all_digits(&offset[1..]);
    is_time && is_offset && (may_have_time || time.is_empty())
}

/// The date so many days after 1970-01-01, in the Gregorian calendar.
fn civil(days: i64) -> (i64, i64, i64) {
    // Years are counted from March, so that the leap day is the last of a year.
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let of_year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day = of_era - (365 * of_year + of_year / 4 - of_year / 100);
    let month = (5 * day + 2) / 153;
    let day_of_month = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + of_year + i64::from(month <= 2);
    (year, month, day_of_month)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_goes_back_over_months_and_leap_years() {
        assert_eq!(shifted("20240301", 1).as_deref(), Some("20240229"));
        assert_eq!(shifted("20230301", 1).as_deref(), Some("20230228"));
        assert_eq!(shifted("19700101", 1).as_deref(), Some("19691231"));
        assert_eq!(shifted("2024.03.01", 1).as_deref(), Some("20240229"));
        assert_eq!(
            shifted("20240101\\20240201", 31).as_deref(),
            Some("20231201\\20240101")
        );
    }

    #[test]
    fn every_day_of_400_years_comes_back() {
        for day in -150_000..0 {
            let (year, month, day_of_month) = civil(day);
            assert_eq!(days_since_1970(year, month, day_of_month), day);
        }
    }

    #[test]
    fn the_time_and_what_is_not_said_stay_and_no_date_is_none() {
        assert_eq!(
            shifted("20240301123456.5+0100", 1).as_deref(),
            Some("20240229123456.5+0100")
        );
        assert_eq!(shifted("202403", 31).as_deref(), Some("202401"));
        assert_eq!(shifted("2024", 1).as_deref(), Some("2023"));
        assert_eq!(shifted("", 1).as_deref(), Some(""));
        for text in [
            "yesterday",
            "20241301",
            "2024030",
            "20240301 Doe",
            "2024-03-01",
            "2024.3.1",
            "20240301-20240305",
            "202403-20240305",
        ] {
            assert_eq!(shifted(text, 1), None, "{text}");
        }
    }
}
