//! Values of any VR as text, and back: as queries and programs write them.

use bytes::Bytes;
use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};
use dicom_core::{Tag, VR};
use dicom_dictionary_std::StandardDataDictionary;

use super::described::values;
use super::model::{Element, Value};
use crate::error::{Error, ErrorKind, Result};
use crate::query::Number;
use crate::query::numbers;

/// The VR that the Standard gives an attribute, LO for a private creator (PS3.5 7.8.1); none for one that it
/// doesn't know.
pub fn standard_vr(tag: Tag) -> Option<VR> {
    if is_private_creator(tag) {
        return Some(VR::LO);
    }
    StandardDataDictionary
        .by_tag(tag)
        .map(|entry| entry.vr().relaxed())
}

/// Whether the element reserves a block of private elements (PS3.5 7.8.1).
pub fn is_private_creator(tag: Tag) -> bool {
    tag.group() % 2 == 1 && (0x10..=0xFF).contains(&tag.element())
}

impl Element {
    /// The element whose values text says, with `\` between them: numbers in decimal, tags in eight hexadecimal
    /// digits. What has no text of its own (OB, UN, ...) takes the bytes of the text.
    ///
    /// # Errors
    /// `Invalid` when a number is none that the VR can hold, and for a sequence.
    pub fn from_text(tag: Tag, vr: VR, text: &str) -> Result<Self> {
        let refused = |what: &'static str| Error::new(ErrorKind::Invalid, "data_set.put", what).with_tag(tag);
        let numbers = |read: &dyn Fn(&str) -> Option<Vec<u8>>| -> Result<Bytes> {
            if text.is_empty() {
                return Ok(Bytes::new());
            }
            let values: Option<Vec<Vec<u8>>> = text.split('\\').map(|value| read(value.trim())).collect();
            let values = values.ok_or_else(|| refused("a number that the attribute can't have"))?;
            Ok(Bytes::from(values.concat()))
        };
        macro_rules! number {
            ($kind:ty) => {
                numbers(&|text| Some(text.parse::<$kind>().ok()?.to_le_bytes().to_vec()))
            };
        }
        let bytes = match vr {
            VR::SQ => return Err(refused("a sequence is not text")),
            VR::US => number!(u16),
            VR::SS => number!(i16),
            VR::UL => number!(u32),
            VR::SL => number!(i32),
            VR::UV => number!(u64),
            VR::SV => number!(i64),
            VR::FL => number!(f32),
            VR::FD => number!(f64),
            VR::AT => numbers(&|text| {
                let number = u32::from_str_radix(text, 16).ok().filter(|_| text.len() == 8)?;
                let [group, element] = [(number >> 16) as u16, number as u16];
                Some([group.to_le_bytes(), element.to_le_bytes()].concat())
            }),
            _ => Ok(Bytes::copy_from_slice(text.as_bytes())),
        };
        Ok(Self {
            tag,
            vr,
            value: Value::Bytes(bytes?),
        })
    }

    /// Its values as [`from_text`](Self::from_text) reads them, without insignificant padding; none of a sequence
    /// and of what has no text.
    pub fn texts(&self) -> Vec<String> {
        if values::is_number(self.vr) {
            let text = |number: values::Number| {
                let mut out = Vec::new();
                number.write(&mut out);
                String::from_utf8(out).unwrap_or_default()
            };
            return values::Number::all(self.vr, self.bytes()).map(text).collect();
        }
        if values::is_binary(self.vr) {
            return Vec::new();
        }
        self.strings().map(str::to_owned).collect()
    }

    /// Its values that are numbers, in text (IS, DS) or in binary.
    pub fn numbers(&self) -> Vec<Number> {
        numbers(self).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_each_vr_reads_back() {
        for (vr, text) in [
            (VR::US, "1\\65535"),
            (VR::SS, "-1"),
            (VR::UL, "4294967295"),
            (VR::SL, "-2147483648"),
            (VR::UV, "18446744073709551615"),
            (VR::SV, "-9223372036854775808"),
            (VR::FL, "0.5\\-1.25"),
            (VR::FD, "0.1"),
            (VR::AT, "00100010\\7FE00010"),
            (VR::PN, "Family^Given\\Other"),
            (VR::IS, "7"),
            (VR::US, ""),
        ] {
            let element = Element::from_text(Tag(0x0008, 0x0001), vr, text).unwrap();
            assert_eq!(element.texts().join("\\"), text, "{vr:?}");
        }
    }

    #[test]
    fn a_number_that_the_vr_can_not_hold_is_refused() {
        for (vr, text) in [(VR::US, "65536"), (VR::US, "x"), (VR::AT, "1"), (VR::SQ, "")] {
            let refused = Element::from_text(Tag(0x0008, 0x0001), vr, text);
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::Invalid, "{vr:?}");
        }
    }
}
