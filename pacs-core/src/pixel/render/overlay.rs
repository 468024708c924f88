//! Overlay planes: graphics of one bit over an image (PS3.3 C.9.2, C.9.3).

use dicom_core::Tag;
use dicom_dictionary_std::tags;

use super::described::{has_value, number, pair};
use super::samples::Samples;
use crate::dataset::{DataSet, Element};

/// The groups that overlays have.
pub(super) fn groups() -> impl Iterator<Item = u16> {
    (0x6000..=0x601E).step_by(2)
}

/// Where the bits of an overlay are.
#[derive(Clone, Debug)]
enum Bits {
    /// Overlay Data, and the first bit of the frame's plane.
    Own { data: bytes::Bytes, first: usize },
    /// A bit of each cell of the pixel data (retired).
    Embedded(u32),
}

/// One overlay plane, of one frame.
#[derive(Clone, Debug)]
pub(super) struct Overlay {
    bits: Bits,
    rows: i64,
    columns: i64,
    /// The row and column of the image, from 0, where it begins.
    origin: [i64; 2],
}

impl Overlay {
    /// The plane of `group` in `header` for frame `frame`; `None` when there is none.
    pub(super) fn of(header: &DataSet, group: u16, frame: u32) -> Option<Self> {
        let tag = |element| Tag(group, element);
        let size = |element| header.u16(tag(element)).map(i64::from);
        let (rows, columns) = (size(0x0010)?, size(0x0011)?);
        let origin = pair(header, tag(0x0050)).unwrap_or([1.0, 1.0]);
        let data = tag(0x3000);
        let bits = if has_value(header, data) {
            let first = match number(header, tag(0x0015)) {
                Some(frames) => {
                    let begin = number(header, tag(0x0051)).unwrap_or(1.0);
                    let at = f64::from(frame) - begin;
                    if at < 0.0 || at >= frames {
                        return None;
                    }
                    (rows * columns) as usize * at as usize
                }
                // One plane for all frames.
                None => 0,
            };
            let data = match &header.get(data)?.value {
                crate::dataset::Value::Bytes(bytes) => bytes.clone(),
                crate::dataset::Value::Items(_) => return None,
            };
            Bits::Own { data, first }
        } else {
            let position = header.u16(tag(0x0102)).filter(|&position| position > 0)?;
            let allocated = header.u16(tag(0x0100))?;
            if allocated == 1 || header.u16(tags::BITS_ALLOCATED) != Some(allocated) || position >= 32 {
                return None;
            }
            Bits::Embedded(position.into())
        };
        Some(Self {
            bits,
            rows,
            columns,
            // Within what a short holds.
            origin: origin.map(|at| at as i64 - 1),
        })
    }

    /// The overlays that an image shows itself: graphics, not regions of interest.
    pub(super) fn of_image(header: &DataSet, frame: u32) -> impl Iterator<Item = (u16, Overlay)> {
        groups().filter_map(move |group| {
            let kind = header
                .get(Tag(group, 0x0040))
                .and_then(|kind: &Element| kind.strings().next());
            (kind != Some("R")).then_some(())?;
            Some((group, Overlay::of(header, group, frame)?))
        })
    }

    /// Calls `draw` with each column of the image's row `y` that the overlay covers.
    pub(super) fn row(&self, samples: &Samples<'_>, width: usize, y: usize, mut draw: impl FnMut(usize)) {
        let [top, left] = self.origin;
        let row = y as i64 - top;
        if !(0..self.rows).contains(&row) {
            return;
        }
        let end = (left + self.columns).min(width as i64);
        for x in left.max(0)..end {
            let covered = match &self.bits {
                Bits::Own { data, first } => {
                    // A plane is at most 2^32 pixels, and there are fewer frames than 2^31.
                    let at = first + (row * self.columns + x - left) as usize;
                    data.get(at / 8).is_some_and(|byte| byte >> (at % 8) & 1 == 1)
                }
                Bits::Embedded(bit) => samples.cell(y * width + x as usize) >> bit & 1 == 1,
            };
            if covered {
                draw(x as usize);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use dicom_core::VR;

    use super::super::lut::tests::put_words;
    use super::*;
    use crate::dataset::Value;

    fn overlay(data: &'static [u8], origin: [i16; 2]) -> DataSet {
        let mut set = DataSet::new();
        set.put_u16(Tag(0x6002, 0x0010), 2);
        set.put_u16(Tag(0x6002, 0x0011), 3);
        set.put_text(Tag(0x6002, 0x0040), VR::CS, "G");
        put_words(&mut set, Tag(0x6002, 0x0050), VR::SS, &origin.map(|at| at as u16));
        set.put_u16(Tag(0x6002, 0x0100), 1);
        set.put_u16(Tag(0x6002, 0x0102), 0);
        let value = Value::Bytes(Bytes::from_static(data));
        let (tag, vr) = (Tag(0x6002, 0x3000), VR::OW);
        set.put(Element { tag, vr, value });
        set
    }

    fn drawn(set: &DataSet, frame: u32, cells: &[u8]) -> Vec<(usize, usize)> {
        let mut pixels = DataSet::new();
        pixels.put_u16(tags::BITS_ALLOCATED, 16);
        pixels.put_u16(tags::BITS_STORED, 12);
        let samples = Samples::of(&pixels, cells).unwrap();
        let mut drawn = Vec::new();
        for (_, overlay) in Overlay::of_image(set, frame) {
            for y in 0..3 {
                overlay.row(&samples, 3, y, |x| drawn.push((y, x)));
            }
        }
        drawn
    }

    #[test]
    fn bits_are_drawn_from_the_origin_on_and_what_is_beside_the_image_is_not() {
        // Rows of 3 bits: 1 0 1, 0 1 0.
        let data = &[0b01_0101, 0];
        assert_eq!(drawn(&overlay(data, [1, 1]), 1, &[]), [(0, 0), (0, 2), (1, 1)]);
        assert_eq!(drawn(&overlay(data, [2, 2]), 9, &[]), [(1, 1), (2, 2)]);
        assert_eq!(drawn(&overlay(data, [0, -1]), 1, &[]), []);
        let mut roi = overlay(data, [1, 1]);
        roi.put_text(Tag(0x6002, 0x0040), VR::CS, "R");
        assert_eq!(drawn(&roi, 1, &[]), []);
    }

    #[test]
    fn each_frame_of_an_overlay_is_for_the_frame_of_the_image_it_says() {
        let mut set = overlay(&[0b11_1110 | 0b0100_0000, 0b1000], [1, 1]);
        set.put_text(Tag(0x6002, 0x0015), VR::IS, "2");
        set.put_u16(Tag(0x6002, 0x0051), 4);
        assert_eq!(drawn(&set, 3, &[]), []);
        assert_eq!(drawn(&set, 4, &[]).len(), 5);
        assert_eq!(drawn(&set, 5, &[]), [(0, 0), (1, 2)]);
        assert_eq!(drawn(&set, 6, &[]), []);
    }

    #[test]
    fn an_overlay_in_the_bits_of_the_pixels_is_drawn() {
        let mut set = overlay(&[], [1, 1]);
        set.put_u16(tags::BITS_ALLOCATED, 16);
        set.put_u16(Tag(0x6002, 0x0100), 16);
        set.put_u16(Tag(0x6002, 0x0102), 13);
        let cells: Vec<u8> = [0u16, 0x2000, 0xDFFF, 0, 0, 0x3000, 0x2000, 0, 0]
            .iter()
            .flat_map(|cell| cell.to_le_bytes())
            .collect();
        assert_eq!(drawn(&set, 1, &cells), [(0, 1), (1, 2)]);
    }
}
