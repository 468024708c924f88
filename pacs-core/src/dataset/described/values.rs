//! Values as text, and back.

use std::borrow::Cow;
use std::io::Write;

use bytes::Bytes;
use dicom_core::{Tag, VR};

use super::invalid;
use crate::dataset::model::{Element, Value};
use crate::dataset::syntax;
use crate::error::Result;

/// The last whole number up to which a double says each (2 to the power of 53).
const EXACT_MAX: u64 = 1 << 53;

/// A number of a binary VR.
#[derive(Clone, Copy, Debug)]
pub(in crate::dataset) enum Number {
    Unsigned(u64),
    Signed(i64),
    Single(f32),
    Double(f64),
    Tag(Tag),
}

impl Number {
    /// The numbers in a value of this VR; what is left over at its end is none.
    pub(in crate::dataset) fn all(vr: VR, bytes: &[u8]) -> impl Iterator<Item = Number> {
        let size = if vr == VR::AT { 4 } else { syntax::number_size(vr) };
        bytes.chunks_exact(size).map(move |chunk| {
            let mut wide = [0; 8];
            wide[..chunk.len()].copy_from_slice(chunk);
            let [a, b, c, d, ..] = wide;
            match vr {
                VR::SS => Number::Signed(i16::from_le_bytes([a, b]).into()),
                VR::SL => Number::Signed(i32::from_le_bytes([a, b, c, d]).into()),
                VR::SV => Number::Signed(i64::from_le_bytes(wide)),
                VR::FL => Number::Single(f32::from_le_bytes([a, b, c, d])),
                VR::FD => Number::Double(f64::from_le_bytes(wide)),
                VR::AT => Number::Tag(Tag(u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]))),
                _ => Number::Unsigned(u64::from_le_bytes(wide)),
            }
        })
    }

    /// Whether a JSON number can say it, and whoever reads that as a double knows it.
    pub(in crate::dataset) fn is_plain(self) -> bool {
        match self {
            Number::Unsigned(number) => number <= EXACT_MAX,
            Number::Signed(number) => number.unsigned_abs() <= EXACT_MAX,
            Number::Single(number) => number.is_finite(),
            Number::Double(number) => number.is_finite(),
            Number::Tag(_) => false,
        }
    }

    /// Appends it, in the shortest form that says it all.
    pub(in crate::dataset) fn write(self, out: &mut Vec<u8>) {
        let is_short = |size: f64| size == 0.0 || (1e-5..1e16).contains(&size);
        // A vector takes all that is written.
        let _ = match self {
            Number::Unsigned(number) => {
                write_unsigned(number, out);
                Ok(())
            }
            Number::Signed(number) => {
                if number < 0 {
                    out.push(b'-');
                }
                write_unsigned(number.unsigned_abs(), out);
                Ok(())
            }
            Number::Single(number) if number.is_finite() => match is_short(number.abs().into()) {
                true => write!(out, "{number}"),
                false => write!(out, "{number:e}"),
            },
            Number::Double(number) if number.is_finite() => match is_short(number.abs()) {
                true => write!(out, "{number}"),
                false => write!(out, "{number:e}"),
            },
            Number::Single(number) => not_finite(number.into(), out),
            Number::Double(number) => not_finite(number, out),
            Number::Tag(Tag(group, element)) => {
                write_hex(group, out);
                write_hex(element, out);
                Ok(())
            }
        };
    }
}

fn not_finite(number: f64, out: &mut Vec<u8>) -> std::io::Result<()> {
    out.write_all(match number {
        number if number.is_nan() => b"NaN",
        number if number > 0.0 => b"Infinity",
        _ => b"-Infinity",
    })
}

pub(in crate::dataset) fn write_unsigned(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Four hexadecimal digits.
pub(in crate::dataset) fn write_hex(number: u16, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |shift: u32| DIGITS[usize::from(number >> shift & 0xF)];
    out.extend_from_slice(&[digit(12), digit(8), digit(4), digit(0)]);
}

/// Whether a value stands in the models as base64 (PS3.18 F.2.7).
pub(in crate::dataset) fn is_binary(vr: VR) -> bool {
    matches!(
        vr,
        VR::OB | VR::OD | VR::OF | VR::OL | VR::OV | VR::OW | VR::UN | VR::SQ
    )
}

/// Whether a value stands in the models as numbers or tags.
pub(in crate::dataset) fn is_number(vr: VR) -> bool {
    matches!(
        vr,
        VR::AT | VR::FD | VR::FL | VR::SL | VR::SS | VR::SV | VR::UL | VR::US | VR::UV
    )
}

/// A component group of a name without what stands around it and says nothing.
pub(in crate::dataset) fn bare_group(group: &str) -> &str {
    group.trim_matches(|char: char| char == '\0' || char.is_whitespace())
}

/// The same without the delimiters of components that are empty at its end (PS3.5 6.2.1.1).
pub(in crate::dataset) fn bare_components(group: &str) -> &str {
    let says_nothing = |char: char| matches!(char, '^' | '\0') || char.is_whitespace();
    bare_group(group).trim_end_matches(says_nothing)
}

/// The element with text that is UTF-8 for sure.
pub(in crate::dataset) fn readable(element: &Element) -> Cow<'_, Element> {
    if std::str::from_utf8(element.bytes()).is_ok() {
        return Cow::Borrowed(element);
    }
    let text = String::from_utf8_lossy(element.bytes()).into_owned();
    Cow::Owned(Element {
        value: Value::Bytes(Bytes::from(text)),
        ..element.clone()
    })
}

/// The value of an element whose values are these, with `\` between them.
///
/// # Errors
/// `Invalid` when the VR can't be that.
pub(in crate::dataset) fn value(tag: Tag, vr: VR, text: String) -> Result<Value> {
    if !is_number(vr) {
        if is_binary(vr) && !text.is_empty() {
            return Err(invalid("text stands where the VR has none").with_tag(tag));
        }
        return Ok(Value::Bytes(Bytes::from(text)));
    }
    let mut bytes = Vec::new();
    if !text.is_empty() {
        for number in text.split('\\') {
            put_number(vr, number.trim(), &mut bytes)
                .ok_or_else(|| invalid("a number is none of its VR").with_tag(tag))?;
        }
    }
    Ok(Value::Bytes(Bytes::from(bytes)))
}

fn put_number(vr: VR, text: &str, out: &mut Vec<u8>) -> Option<()> {
    match vr {
        VR::FL => out.extend_from_slice(&float::<f32>(text, f32::NAN)?.to_le_bytes()),
        VR::FD => out.extend_from_slice(&float::<f64>(text, f64::NAN)?.to_le_bytes()),
        VR::AT => {
            let Tag(group, element) = crate::dataset::metadata::parse_tag(text)?;
            out.extend_from_slice(&group.to_le_bytes());
            out.extend_from_slice(&element.to_le_bytes());
        }
        VR::US => out.extend_from_slice(&u16::try_from(whole(text)?).ok()?.to_le_bytes()),
        VR::UL => out.extend_from_slice(&u32::try_from(whole(text)?).ok()?.to_le_bytes()),
        VR::UV => out.extend_from_slice(&u64::try_from(whole(text)?).ok()?.to_le_bytes()),
        VR::SS => out.extend_from_slice(&i16::try_from(whole(text)?).ok()?.to_le_bytes()),
        VR::SL => out.extend_from_slice(&i32::try_from(whole(text)?).ok()?.to_le_bytes()),
        VR::SV => out.extend_from_slice(&i64::try_from(whole(text)?).ok()?.to_le_bytes()),
        _ => return None,
    }
    Some(())
}

/// A whole number, which some write as `1.0` or `1e3`.
fn whole(text: &str) -> Option<i128> {
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let number: f64 = text.parse().ok()?;
    let is_whole = number.fract() == 0.0 && number.abs() <= EXACT_MAX as f64;
    is_whole.then_some(number as i128)
}

/// What JSON has no number for came as a word, or as nothing.
fn float<F: std::str::FromStr>(text: &str, nan: F) -> Option<F> {
    match text {
        "" => Some(nan),
        "INF" => "inf".parse().ok(),
        "-INF" => "-inf".parse().ok(),
        text => text.parse().ok(),
    }
}

/// The number that a value of IS or DS is, as JSON writes it; `None` when it is none.
pub(in crate::dataset) fn json_number(text: &str) -> Option<Cow<'_, str>> {
    let (sign, size) = match text.as_bytes().first()? {
        b'-' => ("-", &text[1..]),
        b'+' => ("", &text[1..]),
        _ => ("", text),
    };
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let whole = digits(size);
    let (whole, rest) = size.split_at(whole);
    let (fraction, exponent) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(digits(rest)),
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() || text.len() > 64 {
        return None;
    }
    if let Some(power) = exponent.strip_prefix(['e', 'E']) {
        let power = power.strip_prefix(['+', '-']).unwrap_or(power);
        let is_finite = text.parse::<f64>().is_ok_and(f64::is_finite);
        if power.is_empty() || digits(power) != power.len() || !is_finite {
            return None;
        }
    } else if !exponent.is_empty() {
        return None;
    }
    let bare = whole.trim_start_matches('0');
    let is_plain = !text.starts_with('+')
        && (bare.len() == whole.len() || whole == "0")
        && !whole.is_empty()
        && rest.starts_with('.') != fraction.is_empty();
    if is_plain {
        return Some(Cow::Borrowed(text));
    }
    let whole = if bare.is_empty() { "0" } else { bare };
    let point = if fraction.is_empty() { "" } else { "." };
    Some(Cow::Owned([sign, whole, point, fraction, exponent].concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_number_is_written_as_json_has_it() {
        for (text, expected) in [
            ("1", Some("1")),
            ("-0", Some("-0")),
            ("1.50", Some("1.50")),
            ("1.5e-3", Some("1.5e-3")),
            ("1E+05", Some("1E+05")),
            ("+1.5", Some("1.5")),
            ("007", Some("7")),
            ("00.5", Some("0.5")),
            (".5", Some("0.5")),
            ("-.5", Some("-0.5")),
            ("5.", Some("5")),
            ("5.e2", Some("5e2")),
            ("1e999", None),
            ("1e", None),
            ("1.2.3", None),
            ("--1", None),
            ("-", None),
            (".", None),
            ("", None),
            ("NaN", None),
            ("0x10", None),
            ("1 2", None),
        ] {
            assert_eq!(json_number(text).as_deref(), expected, "{text}");
            if let Some(expected) = expected {
                assert!(
                    serde_json::from_str::<serde_json::Value>(expected)
                        .unwrap()
                        .is_number()
                );
            }
        }
    }

    #[test]
    fn a_number_that_its_vr_can_not_be_is_invalid() {
        let tag = Tag(0x0028, 0x0010);
        for (vr, text) in [
            (VR::US, "65536"),
            (VR::US, "-1"),
            (VR::US, "1.5"),
            (VR::US, ""),
            (VR::SS, "32768"),
            (VR::UV, "18446744073709551616"),
            (VR::FL, "one"),
            (VR::AT, "0028001"),
            (VR::OB, "x"),
        ] {
            let text = if text.is_empty() {
                "\\".to_owned()
            } else {
                text.to_owned()
            };
            assert_eq!(
                value(tag, vr, text).err().map(|error| error.tags().to_vec()),
                Some(vec![tag])
            );
        }
        let Value::Bytes(bytes) = value(tag, VR::UL, "1e3\\2.0".to_owned()).unwrap() else {
            panic!("bytes");
        };
        assert_eq!(&bytes[..], [0xE8, 3, 0, 0, 2, 0, 0, 0]);
    }
}
