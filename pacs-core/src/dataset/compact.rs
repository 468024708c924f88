//! The normal form of a [`DataSet`] as bytes, for ourselves: small, and read back without a copy.
//!
//! Each element: group and element number (16 bits each, little endian), the two letters of the VR,
//! then a number and that many bytes; for a sequence the number of its items, and for each item the
//! number of its bytes and its elements. Numbers are LEB128.

use bytes::Bytes;
use dicom_core::{Tag, VR};

use super::model::{DataSet, Element, Value};
use super::syntax;
use crate::error::{Error, ErrorKind, Result};
use crate::limits;

/// Writes `set`; equal data sets give equal bytes.
pub fn to_bytes(set: &DataSet) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    write(set, &mut out);
    out
}

fn write(set: &DataSet, out: &mut Vec<u8>) {
    for element in set.iter() {
        out.extend_from_slice(&element.tag.0.to_le_bytes());
        out.extend_from_slice(&element.tag.1.to_le_bytes());
        // Whether it is a sequence is told by the VR alone when it is read.
        let vr = match (&element.value, element.vr) {
            (Value::Items(_), _) => VR::SQ,
            (Value::Bytes(_), VR::SQ) => VR::UN,
            (Value::Bytes(_), vr) => vr,
        };
        out.extend_from_slice(&vr.to_bytes());
        match &element.value {
            Value::Bytes(bytes) => {
                write_number(bytes.len() as u64, out);
                out.extend_from_slice(bytes);
            }
            Value::Items(items) => {
                write_number(items.len() as u64, out);
                for item in items {
                    let mut inside = Vec::new();
                    write(item, &mut inside);
                    write_number(inside.len() as u64, out);
                    out.extend_from_slice(&inside);
                }
            }
        }
    }
}

pub(super) fn write_number(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Reads what [`to_bytes`] wrote. Values are slices of `bytes`.
///
/// # Errors
/// `Corrupt` when it is anything else.
pub fn from_bytes(bytes: &Bytes) -> Result<DataSet> {
    from_bytes_of(bytes, &|_| true)
}

/// The same, of the elements alone that are wanted, each with all that is in it.
///
/// # Errors
/// `Corrupt` as far as it is read.
pub(crate) fn from_bytes_of(bytes: &Bytes, wanted: &dyn Fn(Tag) -> bool) -> Result<DataSet> {
    read(bytes, 0, wanted).ok_or_else(|| {
        Error::new(
            ErrorKind::Corrupt,
            "data_set.from_bytes",
            "not a compact data set",
        )
    })
}

fn read(bytes: &Bytes, depth: usize, wanted: &dyn Fn(Tag) -> bool) -> Option<DataSet> {
    if depth > limits::SEQUENCE_DEPTH_MAX {
        return None;
    }
    let mut rest: &[u8] = bytes;
    let mut elements = Vec::new();
    while let Some((header, tail)) = rest.split_first_chunk::<6>() {
        let [g0, g1, e0, e1, v0, v1] = *header;
        rest = tail;
        let tag = Tag(u16::from_le_bytes([g0, g1]), u16::from_le_bytes([e0, e1]));
        let vr = syntax::vr([v0, v1])?;
        let number = read_length(&mut rest)?;
        let is_wanted = wanted(tag);
        let value = if vr == VR::SQ {
            // No room is made for `number` items before they are seen.
            let mut items = Vec::new();
            for _ in 0..number {
                let length = read_length(&mut rest)?;
                let item = rest.split_off(..length)?;
                if is_wanted {
                    items.push(read(&bytes.slice_ref(item), depth + 1, &|_| true)?);
                }
            }
            Value::Items(items)
        } else {
            let value = rest.split_off(..number)?;
            // A slice counts who holds it: none is made in vain.
            Value::Bytes(if is_wanted {
                bytes.slice_ref(value)
            } else {
                Bytes::new()
            })
        };
        if is_wanted {
            elements.push(Element { tag, vr, value });
        }
    }
    rest.is_empty().then(|| DataSet::from(elements))
}

pub(super) fn read_number(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..u64::BITS).step_by(7) {
        let byte = *rest.split_off_first()?;
        number |= u64::from(byte & 0x7F).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn read_length(rest: &mut &[u8]) -> Option<usize> {
    usize::try_from(read_number(rest)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_wanted_is_passed_over_and_the_rest_is_as_it_was() {
        let mut inside = DataSet::new();
        inside.put_text(Tag(0x0008, 0x0060), VR::CS, "CT");
        let mut set = DataSet::new();
        set.put_text(Tag(0x0008, 0x0050), VR::SH, "A1");
        set.put_items(Tag(0x0008, 0x1140), vec![inside.clone(), DataSet::new()]);
        set.put_items(Tag(0x0008, 0x1145), vec![inside]);
        set.put_text(Tag(0x0010, 0x0010), VR::PN, "A^B");
        let bytes = to_bytes(&set).into();
        let of = |tags: &[Tag]| from_bytes_of(&bytes, &|tag| tags.contains(&tag)).unwrap();
        for left in [
            &[][..],
            &[Tag(0x0008, 0x1140)],
            &[Tag(0x0008, 0x0050), Tag(0x0010, 0x0010)],
        ] {
            let mut expected = set.clone();
            expected.retain(|element| left.contains(&element.tag));
            assert_eq!(of(left), expected);
        }
    }

    #[test]
    fn cut_or_padded_bytes_are_corrupt_and_nothing_panics() {
        let mut set = DataSet::new();
        set.put_text(Tag(0x0010, 0x0010), VR::PN, "A^B");
        let mut outer = DataSet::new();
        outer.put_text(Tag(0x0008, 0x0060), VR::CS, "x".repeat(300));
        outer.put_items(Tag(0x0008, 0x1140), vec![set, DataSet::new()]);
        let whole = to_bytes(&outer);
        assert_eq!(from_bytes(&whole.clone().into()).unwrap(), outer);
        for end in 1..whole.len() {
            // The end of an element is an end.
            if end != 308 {
                let cut = Bytes::copy_from_slice(&whole[..end]);
                assert_eq!(from_bytes(&cut).unwrap_err().kind(), ErrorKind::Corrupt, "{end}");
            }
        }
        let endless = [&[8, 0, 0, 0][..], b"SQ", &[0xFF; 9], &[0x7F]].concat();
        assert!(from_bytes(&endless.into()).is_err());
    }
}
