//! Blanks regions of native pixel data as it passes by (PS3.15 E.3.1).

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use dicom_core::Tag;
use dicom_dictionary_std::tags;

use super::profile::Rectangle;
use crate::dataset::DataSet;
use crate::error::{Error, ErrorKind, Result};

/// Which bytes of each frame become zeros.
#[derive(Debug)]
pub(super) struct Blanking {
    frame_bytes: u64,
    /// Of a frame, in order, none touching another.
    ranges: Vec<Range<u64>>,
}

impl Blanking {
    /// Of an image with this header.
    ///
    /// # Errors
    /// `Unsupported` for pixels that don't have whole bytes of their own, `Invalid` when the header doesn't describe
    /// the pixels.
    pub(super) fn of(header: &DataSet, rectangles: &[Rectangle]) -> Result<Self> {
        let number = |tag: Tag| {
            let number = header.u16(tag).filter(|number| *number > 0).map(u64::from);
            let why = "an attribute that describes the pixels is missing";
            number.ok_or_else(|| Error::new(ErrorKind::Invalid, "deid.blank", why).with_tag(tag))
        };
        let (rows, columns) = (number(tags::ROWS)?, number(tags::COLUMNS)?);
        let samples = number(tags::SAMPLES_PER_PIXEL)?;
        let bits = number(tags::BITS_ALLOCATED)?;
        let shares = header
            .string(tags::PHOTOMETRIC_INTERPRETATION)
            .is_some_and(|told| told.contains("_42"));
        if bits % 8 != 0 || shares {
            let why = "pixels that share bytes with each other can't be blanked";
            return Err(Error::new(ErrorKind::Unsupported, "deid.blank", why).with_tag(tags::BITS_ALLOCATED));
        }
        // 4 are the most that a photometric interpretation has (PS3.3 C.7.6.3.1.2).
        if samples > 4 {
            let why = "no image has so many samples per pixel";
            return Err(
                Error::new(ErrorKind::Unsupported, "deid.blank", why).with_tag(tags::SAMPLES_PER_PIXEL)
            );
        }
        let planes = match header.u16(tags::PLANAR_CONFIGURATION) {
            Some(1) => samples,
            _ => 1,
        };
        // 16-bit numbers, and planes and samples whose product is the samples: far below 64 bits.
        let pixel_bytes = samples / planes * (bits / 8);
        let plane_bytes = rows * columns * pixel_bytes;
        let mut ranges = Vec::new();
        for plane in 0..planes {
            for rectangle in rectangles {
                let edge = |from: u32, size: u32, all: u64| {
                    let from = u64::from(from);
                    from.min(all)..(from + u64::from(size)).min(all)
                };
                let x = edge(rectangle.x, rectangle.width, columns);
                for row in edge(rectangle.y, rectangle.height, rows) {
                    let at = |column| plane * plane_bytes + (row * columns + column) * pixel_bytes;
                    ranges.push(at(x.start)..at(x.end));
                }
            }
        }
        ranges.retain(|range| !range.is_empty());
        if ranges.is_empty() {
            let why = "no region that is to be blanked lies within the image";
            return Err(Error::new(ErrorKind::Refused, "deid.blank", why));
        }
        ranges.sort_unstable_by_key(|range| range.start);
        ranges.dedup_by(|next, before| {
            let touches = next.start <= before.end;
            if touches {
                before.end = before.end.max(next.end);
            }
            touches
        });
        Ok(Self {
            frame_bytes: planes * plane_bytes,
            ranges,
        })
    }

    /// A piece of the pixel data that begins `at` bytes behind its start.
    pub(super) fn apply(&self, at: u64, piece: Bytes) -> Bytes {
        let end = at + piece.len() as u64;
        let mut blanked: Option<BytesMut> = None;
        let mut frame = at / self.frame_bytes * self.frame_bytes;
        while frame < end {
            let from = at.saturating_sub(frame);
            let first = self.ranges.partition_point(|range| range.end <= from);
            for range in &self.ranges[first..] {
                let (start, stop) = ((frame + range.start).max(at), (frame + range.end).min(end));
                if start >= stop {
                    break;
                }
                let bytes = blanked.get_or_insert_with(|| BytesMut::from(&piece[..]));
                // Inside of the piece, by the line above.
                bytes[(start - at) as usize..(stop - at) as usize].fill(0);
            }
            frame += self.frame_bytes;
        }
        blanked.map_or(piece, BytesMut::freeze)
    }
}

#[cfg(test)]
mod tests {
    use dicom_core::VR;

    use super::*;

    fn header(samples: u16, planar: u16, bits: u16) -> DataSet {
        let mut header = DataSet::new();
        for (tag, number) in [
            (tags::ROWS, 3),
            (tags::COLUMNS, 4),
            (tags::SAMPLES_PER_PIXEL, samples),
            (tags::PLANAR_CONFIGURATION, planar),
            (tags::BITS_ALLOCATED, bits),
        ] {
            header.put_u16(tag, number);
        }
        header
    }

    fn rectangle(x: u32, y: u32, width: u32, height: u32) -> Rectangle {
        Rectangle { x, y, width, height }
    }

    #[test]
    fn pixels_of_a_rectangle_and_no_others_become_zeros_in_every_frame_however_it_is_cut() {
        for (samples, planar, bits) in [(1, 0, 8), (1, 0, 16), (3, 0, 8), (3, 1, 8), (3, 1, 16)] {
            let rectangles = [
                rectangle(1, 1, 2, 9),
                rectangle(2, 2, 100, 1),
                rectangle(9, 9, 1, 1),
            ];
            let blanking = Blanking::of(&header(samples, planar, bits), &rectangles).unwrap();
            let (samples, size) = (usize::from(samples), usize::from(bits / 8));
            let frame = 12 * samples * size;
            let is_blank = |byte: usize| {
                let pixel = match planar {
                    1 => byte % frame / size % 12,
                    _ => byte % frame / size / samples,
                };
                let (x, y) = (pixel % 4, pixel / 4);
                (1..3).contains(&x) && y >= 1 || x >= 2 && y == 2
            };
            let all = vec![0xFFu8; frame * 3];
            for cut in [1, 5, 7, frame, frame * 3] {
                let mut at = 0;
                let mut made = Vec::new();
                for piece in all.chunks(cut) {
                    made.extend_from_slice(&blanking.apply(at, Bytes::copy_from_slice(piece)));
                    at += piece.len() as u64;
                }
                for (place, byte) in made.iter().enumerate() {
                    assert_eq!(
                        *byte == 0,
                        is_blank(place),
                        "{samples} {planar} {bits} {cut} {place}"
                    );
                }
            }
        }
    }

    #[test]
    fn pixels_that_share_bytes_are_not_supported() {
        let mut shared = header(3, 0, 8);
        shared.put_text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "YBR_FULL_422");
        for header in [header(1, 0, 1), shared] {
            let error = Blanking::of(&header, &[rectangle(0, 0, 1, 1)]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
        }
    }
}
