//! Numbers of the numeric VRs, compared by value (PS3.4 C.2.2.2.1, CP-2305).

use dicom_core::VR;

use crate::dataset::Element;

/// A number of any numeric VR.
#[derive(Clone, Copy, Debug)]
pub enum Number {
    /// Whole.
    Integer(i128),
    /// With a fraction or an exponent.
    Float(f64),
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        match (*self, *other) {
            (Self::Integer(a), Self::Integer(b)) => a == b,
            (Self::Float(a), Self::Float(b)) => a == b,
            (Self::Integer(a), Self::Float(b)) | (Self::Float(b), Self::Integer(a)) => a as f64 == b,
        }
    }
}

impl Number {
    /// Reads IS or DS: "+7", "007", "7.0" and "7" are one number. `None` for what is no number.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim_matches([' ', '\0']);
        if let Ok(integer) = text.parse() {
            return Some(Self::Integer(integer));
        }
        // Rust also reads "inf" and "NaN", which DICOM doesn't know.
        if !text
            .bytes()
            .all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E'))
        {
            return None;
        }
        text.parse()
            .ok()
            .filter(|float: &f64| float.is_finite())
            .map(Self::Float)
    }
}

/// The numbers of an element, whether in text or in binary.
pub(crate) fn numbers(element: &Element) -> impl Iterator<Item = Number> {
    let size = match element.vr {
        VR::US | VR::SS => 2,
        VR::UL | VR::SL | VR::FL | VR::AT => 4,
        VR::FD | VR::SV | VR::UV => 8,
        _ => 0,
    };
    let binary = if size == 0 { &[] } else { element.bytes() };
    let vr = element.vr;
    let text = (size == 0).then(|| element.strings().filter_map(Number::parse));
    binary
        .chunks_exact(size.max(1))
        .filter_map(move |chunk| from_binary(vr, chunk))
        .chain(text.into_iter().flatten())
}

fn from_binary(vr: VR, bytes: &[u8]) -> Option<Number> {
    let integer = match vr {
        VR::US => i128::from(u16::from_le_bytes(bytes.try_into().ok()?)),
        VR::SS => i128::from(i16::from_le_bytes(bytes.try_into().ok()?)),
        VR::UL => i128::from(u32::from_le_bytes(bytes.try_into().ok()?)),
        VR::SL => i128::from(i32::from_le_bytes(bytes.try_into().ok()?)),
        VR::UV => i128::from(u64::from_le_bytes(bytes.try_into().ok()?)),
        VR::SV => i128::from(i64::from_le_bytes(bytes.try_into().ok()?)),
        VR::FL => return Some(Number::Float(f32::from_le_bytes(bytes.try_into().ok()?).into())),
        VR::FD => return Some(Number::Float(f64::from_le_bytes(bytes.try_into().ok()?))),
        // Group and element, each little endian.
        VR::AT => {
            let [g0, g1, e0, e1] = bytes.try_into().ok()?;
            i128::from(u32::from_be_bytes([g1, g0, e1, e0]))
        }
        _ => return None,
    };
    Some(Number::Integer(integer))
}
