//! Reads what a header says of one frame: its functional groups count before the data set itself (PS3.3
//! C.7.6.16).

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;

use crate::dataset::{DataSet, Element};
use crate::error::{Error, ErrorKind, Result};

/// A header, and the number of the frame that is looked at, from 1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Described<'a> {
    pub(super) header: &'a DataSet,
    pub(super) number: u32,
}

impl<'a> Described<'a> {
    /// The set that holds `tag`: an item of the functional group `group` of this frame, one of the group that
    /// all frames share, or the data set itself.
    pub(super) fn group(&self, group: Tag, tag: Tag) -> Option<&'a DataSet> {
        let header = self.header;
        let of_frame = (self.number as usize)
            .checked_sub(1)
            .and_then(|at| header.items(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE).get(at));
        let shared = header.items(tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE).first();
        of_frame
            .into_iter()
            .chain(shared)
            .filter_map(|groups| groups.items(group).first())
            .chain([header])
            .find(|set| has_value(set, tag))
    }
}

/// Whether `set` has a value for `tag`.
pub(super) fn has_value(set: &DataSet, tag: Tag) -> bool {
    set.get(tag).is_some_and(|element| !element.is_empty())
}

/// The numbers that an element holds, whether as text or in binary. What is no number is NaN.
pub(super) fn numbers(set: &DataSet, tag: Tag) -> impl Iterator<Item = f64> {
    let element = set.get(tag);
    let size = element.map_or(0, |element| match element.vr {
        VR::US | VR::SS => 2,
        VR::UL | VR::SL | VR::FL | VR::OF | VR::OL => 4,
        VR::FD | VR::OD => 8,
        _ => 0,
    });
    let binary = element.filter(|_| size > 0).into_iter().flat_map(move |element| {
        element
            .bytes()
            .chunks_exact(size)
            .map(|bytes| binary(element.vr, bytes))
    });
    let text = element
        .filter(|_| size == 0)
        .into_iter()
        .flat_map(Element::strings)
        .map(|text| text.parse().unwrap_or(f64::NAN));
    binary.chain(text)
}

fn binary(vr: VR, bytes: &[u8]) -> f64 {
    match (vr, bytes) {
        (VR::SS, &[a, b]) => i16::from_le_bytes([a, b]).into(),
        (_, &[a, b]) => u16::from_le_bytes([a, b]).into(),
        (VR::SL, &[a, b, c, d]) => i32::from_le_bytes([a, b, c, d]).into(),
        (VR::FL | VR::OF, &[a, b, c, d]) => f32::from_le_bytes([a, b, c, d]).into(),
        (_, &[a, b, c, d]) => u32::from_le_bytes([a, b, c, d]).into(),
        _ => bytes
            .first_chunk()
            .map_or(f64::NAN, |bytes| f64::from_le_bytes(*bytes)),
    }
}

/// The first number that an element holds, if it is finite.
pub(super) fn number(set: &DataSet, tag: Tag) -> Option<f64> {
    numbers(set, tag).next().filter(|number| number.is_finite())
}

/// The first two numbers that an element holds, if they are finite.
pub(super) fn pair(set: &DataSet, tag: Tag) -> Option<[f64; 2]> {
    let mut numbers = numbers(set, tag);
    let pair = [numbers.next()?, numbers.next()?];
    pair.iter().all(|number| number.is_finite()).then_some(pair)
}

/// The words of a value of VR US, SS or OW.
pub(super) fn words(set: &DataSet, tag: Tag) -> impl Iterator<Item = u16> {
    let bytes = set.get(tag).map(Element::bytes).unwrap_or_default();
    bytes.as_chunks().0.iter().map(|word| u16::from_le_bytes(*word))
}

/// Whether samples have a sign (Pixel Representation).
pub(super) fn is_signed(header: &DataSet) -> bool {
    header.u16(tags::PIXEL_REPRESENTATION) == Some(1)
}

/// An error about a header that can't be understood.
pub(super) fn unreadable(context: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Mismatch, "frame.render", context)
}

/// An error about what is asked for.
pub(super) fn invalid(context: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Invalid, "frame.render", context)
}

/// An error about what is not rendered here.
pub(super) fn unsupported(context: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Unsupported, "frame.render", context)
}

/// The number that must stand under this tag.
pub(super) fn required(set: &DataSet, tag: Tag) -> Result<u16> {
    set.u16(tag)
        .ok_or_else(|| unreadable("an attribute that describes the pixels is missing").with_tag(tag))
}
