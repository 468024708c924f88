//! Dates, times and date-times as numbers: PS3.5 6.2 (DA, TM, DT) and range matching, PS3.4 C.2.2.2.5.
//!
//! A value with less than full precision stands for the whole span it names: "1030" is the minute from
//! 10:30:00.000000 to 10:30:59.999999. A key matches a stored value when the *start* of the stored
//! value's span lies in the key's span, so a stored "10" is found by "1000" and by "10", and a stored
//! "1030" is found by "10" but not by "11-".

/// First and last moment of a span, both inside.
pub(crate) type Span<T> = (T, T);

pub(crate) const MICROSECONDS_PER_DAY: i64 = 86_400_000_000;

fn number(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() || digits.len() > 9 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0, |sum, d| sum * 10 + u32::from(d - b'0')))
}

/// A date as the number yyyymmdd. Besides YYYYMMDD, it may be YYYY.MM.DD (ACR-NEMA, PS3.5 6.2), YYYYMM or YYYY.
pub(crate) fn date(text: &str) -> Option<Span<u32>> {
    let bytes = text.trim_matches([' ', '\0']).as_bytes();
    match *bytes {
        [_, _, _, _, b'.', _, _, b'.', _, _] => {
            let whole = number(&bytes[..4])? * 10_000 + number(&bytes[5..7])? * 100 + number(&bytes[8..])?;
            Some((whole, whole))
        }
        [_, _, _, _, _, _, _, _] => number(bytes).map(|whole| (whole, whole)),
        [_, _, _, _, _, _] => number(bytes).map(|month| (month * 100 + 1, month * 100 + 31)),
        [_, _, _, _] => number(bytes).map(|year| (year * 10_000 + 101, year * 10_000 + 1231)),
        _ => None,
    }
}

/// A time in microseconds since midnight. HH, HHMM, HHMMSS, HHMMSS.F to HHMMSS.FFFFFF; colons
/// (ACR-NEMA) are passed over.
pub(crate) fn time(text: &str) -> Option<Span<u64>> {
    let text = text.trim_matches([' ', '\0']);
    let mut digits = [0u8; 16];
    let mut length = 0;
    for byte in text.bytes().filter(|&b| b != b':') {
        *digits.get_mut(length)? = byte;
        length += 1;
    }
    time_digits(&digits[..length])
}

fn time_digits(bytes: &[u8]) -> Option<Span<u64>> {
    let (whole, fraction) = match bytes.iter().position(|&b| b == b'.') {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (bytes, &bytes[..0]),
    };
    let part = |at: usize, max: u32| -> Option<u64> {
        match whole.get(at..at + 2) {
            None => Some(0),
            Some(pair) => number(pair).filter(|&n| n <= max).map(u64::from),
        }
    };
    let seconds = part(0, 23)? * 3600 + part(2, 59)? * 60 + part(4, 60)?;
    let start = seconds * 1_000_000;
    let span = match (whole.len(), fraction.len()) {
        (2, 0) => 3_600_000_000,
        (4, 0) => 60_000_000,
        (6, 0) => 1_000_000,
        (6, 1..=6) => {
            let unit = 10u64.pow(6 - fraction.len() as u32);
            let begin = start + u64::from(number(fraction)?) * unit;
            return Some((begin, begin + unit - 1));
        }
        _ => return None,
    };
    Some((start, start + span - 1))
}

/// Days since 1970-01-01 in the Gregorian calendar, for any year of four digits.
pub(crate) fn days(year: i64, month: i64, day: i64) -> i64 {
    // Years are counted from March, so that the leap day is the last of a year.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The start of a date of form yyyymmdd, in microseconds since 1970-01-01.
pub(crate) fn date_start(date: u32) -> i64 {
    let date = i64::from(date);
    let (year, month) = (date / 10_000, (date / 100 % 100).clamp(1, 12));
    // Where a day stands for the end of its month, months of less than 31 days end sooner.
    let day = days(year, month, (date % 100).clamp(1, 31));
    day.min(month_end(year, month)) * MICROSECONDS_PER_DAY
}

/// The last day of a month.
fn month_end(year: i64, month: i64) -> i64 {
    match month {
        12 => days(year + 1, 1, 1) - 1,
        _ => days(year, month + 1, 1) - 1,
    }
}

/// A date-time in microseconds since 1970-01-01 UTC: YYYY[MM[DD[HH[MM[SS[.F{1,6}]]]]]][&ZZXX]. Without an
/// offset it is taken for UTC, so that values without any compare among themselves.
pub(crate) fn date_time(text: &str) -> Option<Span<i64>> {
    let bytes = text.trim_matches([' ', '\0']).as_bytes();
    let (local, offset_minutes) = match bytes.iter().rposition(|&b| b == b'+' || b == b'-') {
        Some(at) => (&bytes[..at], offset(&bytes[at..])?),
        None => (bytes, 0),
    };
    let dot = local.iter().position(|&b| b == b'.').unwrap_or(local.len());
    let field = |at: usize| local.get(at..at + 2).and_then(number).map(i64::from);
    let year = i64::from(number(local.get(..4)?)?);
    let month = |m: i64| (1..=12).contains(&m).then_some(m);
    let (start, end) = match dot {
        4 => (days(year, 1, 1), days(year + 1, 1, 1)),
        6 => {
            let m = month(field(4)?)?;
            (days(year, m, 1), month_end(year, m) + 1)
        }
        8.. => {
            let day = field(6).filter(|d| (1..=31).contains(d))?;
            let start = days(year, month(field(4)?)?, day);
            if local.len() > 8 {
                let (from, to) = time_digits(&local[8..])?;
                let start = start * MICROSECONDS_PER_DAY - offset_minutes * 60_000_000;
                return Some((start + i64::try_from(from).ok()?, start + i64::try_from(to).ok()?));
            }
            (start, start + 1)
        }
        _ => return None,
    };
    if dot != local.len() {
        return None;
    }
    let shift = offset_minutes * 60_000_000;
    Some((
        start * MICROSECONDS_PER_DAY - shift,
        end * MICROSECONDS_PER_DAY - shift - 1,
    ))
}

/// &ZZXX in minutes, from -1200 to +1400 (PS3.5 6.2, DT).
fn offset(bytes: &[u8]) -> Option<i64> {
    let [sign, hours @ .., _, _] = bytes else {
        return None;
    };
    if bytes.len() != 5 {
        return None;
    }
    let minutes = number(&bytes[3..]).filter(|&m| m < 60)?;
    let value = i64::from(number(hours)? * 60 + minutes);
    let value = if *sign == b'-' { -value } else { value };
    (-720..=840).contains(&value).then_some(value)
}

/// Which ends a range names; PS3.4 C.2.2.2.5 calls it the form of the range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RangeForm {
    /// No range: one value.
    Single,
    /// "a-b".
    Between,
    /// "-b".
    UpTo,
    /// "a-".
    From,
}

/// Reads "a", "a-b", "-b" or "a-", with spaces around the hyphen allowed. `least` and `most` stand for an open end.
pub(crate) fn range<T: Copy>(
    text: &str,
    parse: impl Fn(&str) -> Option<Span<T>>,
    least: T,
    most: T,
) -> Option<(Span<T>, RangeForm)> {
    // In a DT a hyphen may begin an offset: what reads as one value is one value, then each hyphen is
    // tried as the range's.
    if let Some(span) = parse(text) {
        return Some((span, RangeForm::Single));
    }
    for (at, _) in text.match_indices('-') {
        let (left, right) = (text[..at].trim(), text[at + 1..].trim());
        let found = match (left.is_empty(), right.is_empty()) {
            (true, true) => None,
            (true, false) => parse(right).map(|(_, to)| ((least, to), RangeForm::UpTo)),
            (false, true) => parse(left).map(|(from, _)| ((from, most), RangeForm::From)),
            (false, false) => parse(left)
                .zip(parse(right))
                .map(|((from, _), (_, to))| ((from, to), RangeForm::Between)),
        };
        if found.is_some() {
            return found;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instant(text: &str) -> i64 {
        date_time(text).unwrap().0
    }

    #[test]
    fn a_date_may_have_dots_and_may_name_a_month_or_a_year() {
        assert_eq!(date("20240229"), Some((20240229, 20240229)));
        assert_eq!(date("2024.02.29 "), Some((20240229, 20240229)));
        assert_eq!(date("202402"), Some((20240201, 20240231)));
        assert_eq!(date("2024"), Some((20240101, 20241231)));
        for bad in ["", "2024-02-29", "2024022", "2O240229", "202402291"] {
            assert_eq!(date(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_time_stands_for_the_whole_span_of_its_precision() {
        assert_eq!(time("10"), Some((36_000_000_000, 39_599_999_999)));
        assert_eq!(time("10:30"), time("1030"));
        assert_eq!(time("103005.5"), Some((37_805_500_000, 37_805_599_999)));
        assert_eq!(time("235960").unwrap().0, 86_400_000_000);
        for bad in [
            "",
            "1",
            "24",
            "1060",
            "103005.1234567",
            "1030.5",
            "10300",
            "99999999999999999999",
        ] {
            assert_eq!(time(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_month_ends_with_its_last_day_where_date_and_time_are_combined() {
        let (from, to) = date("202402").unwrap();
        assert_eq!(date_start(from), instant("20240201"));
        assert_eq!(date_start(to), instant("20240229"));
        let (_, to) = date("2023").unwrap();
        assert_eq!(date_start(to), instant("20231231"));
    }

    #[test]
    fn a_date_time_counts_its_offset() {
        assert_eq!(instant("19700101"), 0);
        assert_eq!(instant("20240301000000+0100"), instant("20240229230000"));
        assert_eq!(instant("20240301-0500"), instant("2024030105"));
        assert_eq!(date_time("2023").unwrap().1 + 1, instant("2024"));
        assert_eq!(date_time("202312").unwrap().1 + 1, instant("20240101"));
        assert_eq!(date_time("19000228").unwrap().1 + 1, instant("19000301"));
        for bad in [
            "",
            "2024130",
            "20241301",
            "20240100",
            "2024+9900",
            "20240101x",
            "2024.5",
            "20240101.5",
        ] {
            assert_eq!(date_time(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_hyphen_in_a_date_time_is_an_offset_where_it_can_be_one() {
        let dt = |text| range(text, date_time, i64::MIN, i64::MAX);
        assert_eq!(dt("20240101-0500").unwrap().1, RangeForm::Single);
        assert_eq!(
            dt("20240101-0500-").unwrap(),
            ((instant("20240101-0500"), i64::MAX), RangeForm::From)
        );
        assert_eq!(dt("-20240101-0500").unwrap().1, RangeForm::UpTo);
        let both = dt("20240101-0500-20240102-0500").unwrap();
        assert_eq!(
            both.0,
            (instant("20240101-0500"), date_time("20240102-0500").unwrap().1)
        );
        assert_eq!(dt("2023-2024").unwrap().1, RangeForm::Between);
        assert_eq!(dt("-"), None);
    }
}
