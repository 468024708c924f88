//! Palette colour lookup tables, also segmented (PS3.3 C.7.6.3.1.5, C.7.6.3.1.6, C.7.9.2).

use dicom_core::Tag;
use dicom_dictionary_std::tags;

use super::described::{has_value, is_signed, unreadable};
use super::gray::level;
use super::lut::Descriptor;
use crate::dataset::{DataSet, Element};
use crate::error::Result;

/// Descriptor, data and segmented data of each colour.
const TABLES: [[Tag; 3]; 3] = [
    [
        tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
        tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DATA,
        tags::SEGMENTED_RED_PALETTE_COLOR_LOOKUP_TABLE_DATA,
    ],
    [
        tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
        tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DATA,
        tags::SEGMENTED_GREEN_PALETTE_COLOR_LOOKUP_TABLE_DATA,
    ],
    [
        tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
        tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DATA,
        tags::SEGMENTED_BLUE_PALETTE_COLOR_LOOKUP_TABLE_DATA,
    ],
];

/// The colours of a palette, with 8 bits of each of red, green and blue.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Palette {
    first: f64,
    colors: [Vec<u8>; 3],
}

impl Palette {
    pub(super) fn of(header: &DataSet) -> Result<Self> {
        let mut tables = Vec::with_capacity(3);
        let mut first = 0;
        for [descriptor_tag, data, segmented] in TABLES {
            let descriptor = Descriptor::of(header, descriptor_tag, is_signed(header))?;
            let entries = if has_value(header, data) {
                descriptor.entries(header.get(data))
            } else {
                expand(header.get(segmented), &descriptor).map_err(|error| error.with_tag(segmented))?
            };
            if entries.is_empty() {
                return Err(unreadable("a palette without data").with_tag(data));
            }
            first = descriptor.first;
            tables.push((entries, descriptor.largest()));
        }
        // Some writers put entries of 8 bits under a descriptor of 16.
        let narrow = tables
            .iter()
            .all(|(entries, _)| entries.iter().all(|&entry| entry <= 255));
        let mut colors = tables.into_iter().map(|(entries, largest)| {
            let largest = f64::from(if narrow { 255 } else { largest });
            entries
                .into_iter()
                .map(|entry| level(f64::from(entry) / largest))
                .collect()
        });
        // There are three.
        let colors = std::array::from_fn(|_| colors.next().unwrap_or_default());
        Ok(Self {
            first: first.into(),
            colors,
        })
    }

    /// The colour of 0 to 1, over the whole palette.
    pub(super) fn color_of_fraction(&self, fraction: f64) -> [u8; 3] {
        std::array::from_fn(|color| {
            let table = &self.colors[color];
            let last = table.len() - 1;
            // `as` saturates.
            table[((fraction * last as f64).round() as usize).min(last)]
        })
    }

    /// The colour of a stored value; what is outside of the palette has its first or last one.
    pub(super) fn color(&self, stored: f64) -> [u8; 3] {
        let at = (stored - self.first) as usize;
        std::array::from_fn(|color| {
            let table = &self.colors[color];
            table[at.min(table.len() - 1)]
        })
    }
}

/// Writes a segmented table out (C.7.9.2): of discrete, linear and indirect segments.
fn expand(data: Option<&Element>, descriptor: &Descriptor) -> Result<Vec<u16>> {
    let bytes = data.map(Element::bytes).unwrap_or_default();
    // Of entries of 8 bits each datum is a byte, and a segment's offset four of them.
    let words: Vec<u16> = if descriptor.bits <= 8 {
        bytes.iter().map(|&byte| byte.into()).collect()
    } else {
        bytes
            .as_chunks()
            .0
            .iter()
            .map(|word| u16::from_le_bytes(*word))
            .collect()
    };
    let mut out = Vec::new();
    // A segment may make nothing: what is read is counted, not only what is made.
    let mut steps = 4 * 65536;
    let mut at = 0;
    while at < words.len() && out.len() < descriptor.entries {
        let Some(&[opcode, length]) = words[at..].first_chunk() else {
            // A byte of padding.
            break;
        };
        if opcode != 2 {
            at += segment(&words[at..], &mut out, descriptor.entries)?;
            continue;
        }
        let wide = if descriptor.bits <= 8 { 4 } else { 2 };
        let parts = words.get(at + 2..at + 2 + wide).ok_or_else(ended)?;
        let shift = if wide == 4 { 8 } else { 16 };
        let offset = parts
            .iter()
            .rev()
            .fold(0usize, |offset, &part| offset << shift | usize::from(part));
        // In bytes from the start of the table.
        let mut from = if wide == 4 { offset } else { offset / 2 };
        for _ in 0..length {
            steps -= 1;
            let rest = words.get(from..).filter(|_| steps > 0).ok_or_else(ended)?;
            from += segment(rest, &mut out, descriptor.entries)?;
        }
        at += 2 + wide;
    }
    out.truncate(descriptor.entries);
    Ok(out)
}

/// Writes a discrete or linear segment; answers how much of `words` it took.
fn segment(words: &[u16], out: &mut Vec<u16>, entries: usize) -> Result<usize> {
    let (&[opcode, length], rest) = words.split_first_chunk().ok_or_else(ended)?;
    let length = usize::from(length);
    match opcode {
        0 => {
            let values = rest.get(..length).ok_or_else(ended)?;
            out.extend(values.iter().take(entries.saturating_sub(out.len())));
            Ok(2 + length)
        }
        1 => {
            let &end = rest.first().ok_or_else(ended)?;
            let begin = out
                .last()
                .copied()
                .ok_or_else(|| unreadable("a palette that begins with a line"))?;
            let (begin, step) = (
                f64::from(begin),
                (f64::from(end) - f64::from(begin)) / length.max(1) as f64,
            );
            let room = entries.saturating_sub(out.len());
            out.extend((1..=length.min(room)).map(|at| (begin + step * at as f64).round() as u16));
            Ok(3)
        }
        _ => Err(unreadable(
            "a palette's segment is neither discrete, linear nor indirect",
        )),
    }
}

fn ended() -> crate::error::Error {
    unreadable("a segmented palette ends early")
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use dicom_core::VR;

    use super::super::lut::tests::put_words;
    use super::*;
    use crate::dataset::Value;

    fn palette(descriptor: [u16; 3], data: &[&[u16]; 3], segmented: bool) -> DataSet {
        let mut set = DataSet::new();
        for (tags, data) in TABLES.iter().zip(data) {
            put_words(&mut set, tags[0], VR::US, &descriptor);
            put_words(&mut set, tags[1 + usize::from(segmented)], VR::OW, data);
        }
        set
    }

    #[test]
    fn entries_of_16_bits_become_8_and_values_outside_have_the_ends() {
        let tables: [&[u16]; 3] = [&[0, 0x8000, 0xFFFF], &[0xFF00, 0, 0], &[1, 2, 0x0101]];
        let palette = Palette::of(&palette([3, 10, 16], &tables, false)).unwrap();
        assert_eq!(palette.color(10.0), [0, 254, 0]);
        assert_eq!(palette.color(11.0), [128, 0, 0]);
        assert_eq!(palette.color(12.0), [255, 0, 1]);
        assert_eq!(palette.color(-5.0), palette.color(10.0));
        assert_eq!(palette.color(1e9), palette.color(12.0));
    }

    #[test]
    fn the_first_value_may_be_negative_and_entries_of_8_bits_may_stand_under_16() {
        let tables: [&[u16]; 3] = [&[1, 255], &[2, 3], &[4, 5]];
        let mut header = palette([2, 65535, 16], &tables, false);
        header.put_u16(tags::PIXEL_REPRESENTATION, 1);
        let palette = Palette::of(&header).unwrap();
        assert_eq!(
            [palette.color(-1.0), palette.color(0.0)],
            [[1, 2, 4], [255, 3, 5]]
        );
    }

    #[test]
    fn segments_are_written_out_as_the_standard_does() {
        // Discrete 3 entries, linear 4 up to 1000, then both again from their offset 0.
        let data: &[u16] = &[0, 3, 512, 600, 200, 1, 4, 1000, 2, 2, 0, 0];
        let header = palette([14, 0, 16], &[data, data, data], true);
        let descriptor = Descriptor::of(&header, TABLES[0][0], false).unwrap();
        let out = expand(header.get(TABLES[0][2]), &descriptor).unwrap();
        assert_eq!(out[..7], [512, 600, 200, 400, 600, 800, 1000]);
        assert_eq!(out[7..], out[..7]);
        assert!(Palette::of(&header).is_ok());
        // The same in bytes.
        let bytes = Value::Bytes(Bytes::from_static(&[0, 2, 10, 20, 1, 2, 40, 2, 1, 0, 0, 0, 0]));
        let (tag, vr) = (TABLES[0][2], VR::OB);
        let bytes = Element {
            tag,
            vr,
            value: bytes,
        };
        let descriptor = Descriptor {
            entries: 6,
            first: 0,
            bits: 8,
        };
        assert_eq!(
            expand(Some(&bytes), &descriptor).unwrap(),
            [10, 20, 30, 40, 10, 20]
        );
    }

    #[test]
    fn segments_that_end_early_or_turn_in_circles_are_refused() {
        let descriptor = Descriptor {
            entries: 65536,
            first: 0,
            bits: 16,
        };
        let fails = |words: &[u16]| {
            let mut set = DataSet::new();
            put_words(&mut set, TABLES[0][2], VR::OW, words);
            assert!(expand(set.get(TABLES[0][2]), &descriptor).is_err(), "{words:?}");
        };
        fails(&[0, 5, 1]);
        fails(&[1, 5, 1]);
        fails(&[2, 5, 0]);
        fails(&[7, 0]);
        fails(&[2, 1, 0, 0]);
        // Ever again a segment that makes nothing.
        let mut circle = vec![0, 0];
        for _ in 0..1000 {
            circle.extend([2, 1, 0, 0]);
        }
        let mut set = DataSet::new();
        put_words(&mut set, TABLES[0][2], VR::OW, &circle);
        assert!(expand(set.get(TABLES[0][2]), &descriptor).unwrap().is_empty());
    }
}
