//! Whether a value is one that its VR allows (PS3.5 6.2): what somebody types is held against it, what comes from a
//! device never is.

use dicom_core::VR;
use dicom_core::chrono::NaiveDate;

use super::model::{Element, Value};
use super::syntax;
use crate::uid::Uid;

/// Whether all values of a text element are ones that its VR allows. Sequences and numbers in binary are taken as
/// they are.
pub(crate) fn is_conforming(element: &Element) -> bool {
    if matches!(element.value, Value::Items(_)) || !syntax::is_text(element.vr) {
        return true;
    }
    let vr = element.vr;
    if matches!(vr, VR::ST | VR::LT | VR::UT) {
        let text = String::from_utf8_lossy(element.bytes());
        let most = match vr {
            VR::ST => 1024,
            VR::LT => 10240,
            _ => usize::MAX,
        };
        let may_be = |c: char| !c.is_control() || matches!(c, '\t' | '\n' | '\r' | '\u{c}');
        return text.chars().count() <= most && text.chars().all(may_be);
    }
    element
        .strings()
        .all(|value| value.is_empty() || is_one(vr, value))
}

fn is_one(vr: VR, value: &str) -> bool {
    let plain = |most| value.chars().count() <= most && !value.chars().any(char::is_control);
    match vr {
        VR::DA => is_date(value),
        VR::TM => is_time(value),
        VR::DT => is_date_time(value),
        VR::AS => {
            let (number, unit) = value.split_at_checked(3).unwrap_or_default();
            is_digits(number) && matches!(unit, "D" | "W" | "M" | "Y")
        }
        VR::IS => value.len() <= 12 && value.trim().parse::<i32>().is_ok(),
        VR::DS => {
            let in_it = |c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | 'e' | 'E');
            value.len() <= 16 && value.chars().all(in_it) && value.parse::<f64>().is_ok_and(f64::is_finite)
        }
        VR::CS => {
            let in_it = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || matches!(c, ' ' | '_');
            value.len() <= 16 && value.chars().all(in_it)
        }
        VR::AE => value.is_ascii() && plain(16),
        VR::UI => Uid::parse(value).is_ok(),
        VR::SH => plain(16),
        VR::LO => plain(64),
        VR::PN => {
            let is_group = |group: &str| group.chars().count() <= 64 && group.split('^').count() <= 5;
            plain(usize::MAX) && value.split('=').count() <= 3 && value.split('=').all(is_group)
        }
        _ => true,
    }
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The number in two digits at `at`, at most `most`; `None` when there is something else.
fn pair(text: &str, at: usize, most: u32) -> Option<u32> {
    let digits = text.get(at..at + 2).filter(|digits| is_digits(digits))?;
    digits.parse().ok().filter(|number| *number <= most)
}

fn is_date(text: &str) -> bool {
    let parse = |digits: &str| digits.parse::<u32>().ok();
    let parts = || {
        let year = i32::try_from(parse(text.get(..4)?)?).ok()?;
        NaiveDate::from_ymd_opt(year, pair(text, 4, 12)?, pair(text, 6, 31)?)
    };
    text.len() == 8 && is_digits(text) && parts().is_some()
}

fn is_time(text: &str) -> bool {
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (text, None),
    };
    let is_fraction = |fraction: &str| (1..=6).contains(&fraction.len()) && is_digits(fraction);
    let parts = [(0, 23), (2, 59), (4, 60)];
    let holds = |&(at, most): &(usize, u32)| whole.len() <= at || pair(whole, at, most).is_some();
    matches!(whole.len(), 2 | 4 | 6)
        && parts.iter().all(holds)
        && fraction.is_none_or(|fraction| whole.len() == 6 && is_fraction(fraction))
}

fn is_date_time(text: &str) -> bool {
    let sign = text.rfind(['+', '-']);
    let (local, offset) = match sign {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let is_offset =
        |offset: &str| offset.len() == 4 && pair(offset, 0, 14).is_some() && pair(offset, 2, 59).is_some();
    let is_day = match local.get(..8) {
        Some(day) => is_date(day) && (local.len() == 8 || local.get(8..).is_some_and(is_time)),
        None => match local.len() {
            4 => is_digits(local),
            6 => is_digits(local) && pair(local, 4, 12).is_some_and(|month| month > 0),
            _ => false,
        },
    };
    is_day && offset.is_none_or(is_offset)
}

#[cfg(test)]
mod tests {
    use dicom_core::Tag;

    use super::*;

    #[test]
    fn a_value_is_one_of_its_vr_or_not() {
        let long = "x".repeat(65);
        let cases: &[(VR, &[&str], &[&str])] = &[
            (
                VR::DA,
                &["19700131", "20240229", ""],
                &["31.12.1970", "20230229", "1970", "19701301", "garbage"],
            ),
            (
                VR::TM,
                &["10", "1015", "235959.999999", "101530.5"],
                &["24", "1", "10:15", "1015.5", "101530."],
            ),
            (
                VR::DT,
                &[
                    "2024",
                    "202402",
                    "20240229",
                    "2024022910",
                    "20240229101530.5+0100",
                    "2024-0500",
                ],
                &["24", "20240230", "202413", "2024022924", "20240229+1"],
            ),
            (VR::AS, &["034Y", "007D"], &["34Y", "034", "034X"]),
            (VR::IS, &["1", "-42", "+7", "1\\2"], &["x1", "1.5", "9999999999"]),
            (
                VR::DS,
                &["1.5", "-2e3", "70", "1\\2.5"],
                &["heavy", "1,5", "nan", "12345678901234567"],
            ),
            (
                VR::CS,
                &["M", "HEAD_NECK", "A\\B"],
                &["female", "M\u{e4}", "ABCDEFGHIJKLMNOPQ"],
            ),
            (VR::UI, &["1.2.840"], &["1..2.x", "one"]),
            (VR::SH, &["A-1"], &["more than sixteen characters"]),
            (VR::LO, &["St. M\u{fc}ller"], &["a\nb", &long]),
            (VR::LT, &["a\nb"], &["a\u{1b}b"]),
            (
                VR::PN,
                &["Doe^Jane", "Yamada^Tarou=\u{5c71}\u{7530}^\u{592a}\u{90ce}"],
                &["A\nB", "a^b^c^d^e^f", "a=b=c=d", &long],
            ),
        ];
        for (vr, good, bad) in cases {
            for (texts, expected) in [(good, true), (bad, false)] {
                for text in *texts {
                    let value = Value::Bytes(text.as_bytes().to_vec().into());
                    let element = Element {
                        tag: Tag(0x0010, 0x0010),
                        vr: *vr,
                        value,
                    };
                    assert_eq!(is_conforming(&element), expected, "{vr} {text:?}");
                }
            }
        }
    }
}
