//! Lookup tables: a descriptor and its data (PS3.3 C.11.1.1, C.11.2.1.1, C.7.6.3.1.5).

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;

use super::described::{unreadable, words};
use crate::dataset::{DataSet, Element};
use crate::error::Result;

/// What a descriptor says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Descriptor {
    /// 1 to 65536.
    pub(super) entries: usize,
    /// The input that the first entry is for.
    pub(super) first: i32,
    /// Bits of an entry, 8 to 16.
    pub(super) bits: u32,
}

impl Descriptor {
    /// Reads the descriptor under `tag`. Its second number has a sign when its VR is SS, or when `signed`: the
    /// VR that is right (US or SS) depends on other attributes, and not every writer has the right one.
    pub(super) fn of(set: &DataSet, tag: Tag, signed: bool) -> Result<Self> {
        let signed = signed || set.get(tag).is_some_and(|element| element.vr == VR::SS);
        let numbers: Vec<u16> = match set.get(tag).map(|element| element.vr) {
            // Some writers have it as text.
            Some(VR::DS | VR::IS) => set.strings(tag).map(|text| text.parse().unwrap_or(0)).collect(),
            _ => words(set, tag).take(3).collect(),
        };
        let &[entries, first, bits] = &numbers[..] else {
            return Err(unreadable("a lookup table's descriptor has not three values").with_tag(tag));
        };
        if !(1..=16).contains(&bits) {
            return Err(unreadable(format!("a lookup table with entries of {bits} bits")).with_tag(tag));
        }
        Ok(Self {
            entries: if entries == 0 { 65536 } else { entries.into() },
            first: if signed {
                (first as i16).into()
            } else {
                first.into()
            },
            bits: bits.into(),
        })
    }

    /// The entries in `element`: words, or bytes where there is not one word for each. Where fewer are there,
    /// those that are.
    pub(super) fn entries(&self, element: Option<&Element>) -> Vec<u16> {
        let bytes = element.map(Element::bytes).unwrap_or_default();
        if self.bits <= 8 && bytes.len() < self.entries * 2 {
            bytes.iter().take(self.entries).map(|&byte| byte.into()).collect()
        } else {
            let words = bytes.as_chunks().0.iter().take(self.entries);
            words.map(|word| u16::from_le_bytes(*word)).collect()
        }
    }

    /// The largest entry.
    pub(super) fn largest(&self) -> u16 {
        (u32::from(u16::MAX) >> (16 - self.bits)) as u16
    }
}

/// A table of a modality, VOI or presentation LUT.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Lut {
    first: f64,
    entries: Vec<u16>,
    largest: u16,
}

impl Lut {
    /// Reads LUT Descriptor and LUT Data of an item.
    pub(super) fn of(item: &DataSet, signed: bool) -> Result<Self> {
        let descriptor = Descriptor::of(item, tags::LUT_DESCRIPTOR, signed)?;
        let entries = descriptor.entries(item.get(tags::LUT_DATA));
        if entries.is_empty() {
            return Err(unreadable("a lookup table without data").with_tag(tags::LUT_DATA));
        }
        Ok(Self {
            first: descriptor.first.into(),
            entries,
            largest: descriptor.largest(),
        })
    }

    /// The entry for `input`; what is below the first or above the last has that.
    pub(super) fn entry(&self, input: f64) -> f64 {
        self.nth((input - self.first).round())
    }

    /// The entry for `input` of 0 to 1, over the whole table.
    pub(super) fn entry_of_fraction(&self, input: f64) -> f64 {
        self.nth((input * (self.entries.len() - 1) as f64).round())
    }

    fn nth(&self, at: f64) -> f64 {
        // From a float, `as` saturates; NaN is 0. A table is never empty.
        let entry = self.entries[(at as usize).min(self.entries.len() - 1)];
        f64::from(entry)
    }

    /// The largest entry that its bits allow.
    pub(super) fn largest(&self) -> f64 {
        self.largest.into()
    }

    /// An entry as a fraction of the largest that its bits allow.
    pub(super) fn fraction(&self, entry: f64) -> f64 {
        (entry / f64::from(self.largest)).min(1.0)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::dataset::Value;

    pub(in super::super) fn put_words(set: &mut DataSet, tag: Tag, vr: VR, words: &[u16]) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let value = Value::Bytes(Bytes::from(bytes));
        set.put(Element { tag, vr, value });
    }

    /// An item of a lookup table.
    pub(in super::super) fn item(descriptor: [u16; 3], entries: &[u16]) -> DataSet {
        let mut set = DataSet::new();
        put_words(&mut set, tags::LUT_DESCRIPTOR, VR::US, &descriptor);
        put_words(&mut set, tags::LUT_DATA, VR::OW, entries);
        set
    }

    #[test]
    fn inputs_outside_of_a_table_have_its_first_or_last_entry() {
        let lut = Lut::of(&item([3, 65534, 12], &[10, 20, 4095]), true).unwrap();
        let inputs = [-100.0, -2.0, -1.0, 0.0, 1.0, f64::INFINITY, f64::NAN];
        let entries = inputs.map(|input| lut.entry(input));
        assert_eq!(entries, [10.0, 10.0, 20.0, 4095.0, 4095.0, 4095.0, 10.0]);
        assert_eq!(lut.fraction(4095.0), 1.0);
        assert_eq!(
            [0.0, 0.5, 1.0].map(|at| lut.entry_of_fraction(at)),
            [10.0, 20.0, 4095.0]
        );
        let unsigned = Lut::of(&item([3, 65534, 12], &[10, 20, 4095]), false).unwrap();
        assert_eq!(unsigned.entry(65535.0), 20.0);
    }

    #[test]
    fn zero_entries_are_65536_and_entries_of_8_bits_are_bytes_or_words() {
        let mut many = item([0, 0, 16], &[7; 65536]);
        let descriptor = Descriptor::of(&many, tags::LUT_DESCRIPTOR, false).unwrap();
        assert_eq!(descriptor.entries, 65536);
        assert_eq!(descriptor.entries(many.get(tags::LUT_DATA)).len(), 65536);
        for (vr, data, expected) in [
            (VR::OB, &[1u8, 2, 3, 4][..], [1, 2, 3, 4]),
            (VR::OW, &[1, 0, 2, 0, 3, 0, 4, 0], [1, 2, 3, 4]),
        ] {
            put_words(&mut many, tags::LUT_DESCRIPTOR, VR::US, &[4, 0, 8]);
            let (tag, value) = (tags::LUT_DATA, Value::Bytes(Bytes::from_static(data)));
            many.put(Element { tag, vr, value });
            let descriptor = Descriptor::of(&many, tags::LUT_DESCRIPTOR, false).unwrap();
            assert_eq!(descriptor.entries(many.get(tags::LUT_DATA)), expected);
        }
    }

    #[test]
    fn a_table_without_data_or_with_an_absurd_descriptor_is_refused() {
        assert!(Lut::of(&item([4, 0, 8], &[]), false).is_err());
        assert!(Lut::of(&item([4, 0, 0], &[1]), false).is_err());
        assert!(Lut::of(&item([4, 0, 17], &[1]), false).is_err());
        assert!(Lut::of(&DataSet::new(), false).is_err());
    }
}
