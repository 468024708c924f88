//! RLE Lossless (PS3.5 annex G).

use super::codec::{corrupt, mismatch};
use super::image::Image;
use crate::error::Result;

const HEADER_BYTES: usize = 64;
const SEGMENTS_MAX: usize = 15;

/// Decodes a frame: one segment for each byte of each sample, most significant first (PS3.5 G.2).
pub(super) fn decode(frame: &[u8], image: &Image) -> Result<Vec<u8>> {
    let (pixels, samples, bytes) = (image.pixels(), image.samples, image.sample_bytes);
    let header = frame
        .first_chunk::<HEADER_BYTES>()
        .ok_or_else(|| corrupt("an RLE frame ends in its header"))?;
    let mut words = header
        .as_chunks::<4>()
        .0
        .iter()
        .map(|word| u32::from_le_bytes(*word) as usize);
    let count = words.next().unwrap_or(0);
    if count != samples * bytes || count > SEGMENTS_MAX {
        return Err(mismatch(format!(
            "an RLE frame of {count} segments where the data set describes {}",
            samples * bytes
        )));
    }
    let offsets: Vec<usize> = words.take(count).collect();
    let mut cells = vec![0; image.frame_length()?];
    for (segment, &start) in offsets.iter().enumerate() {
        let end = offsets.get(segment + 1).copied().unwrap_or(frame.len());
        let coded = frame
            .get(start..end)
            .filter(|_| start >= HEADER_BYTES)
            .ok_or_else(|| corrupt("a segment of an RLE frame lies outside of it"))?;
        let (sample, byte) = (segment / bytes, bytes - 1 - segment % bytes);
        let (first, step) = if image.planar {
            (sample * pixels * bytes + byte, bytes)
        } else {
            (sample * bytes + byte, samples * bytes)
        };
        // `first` is inside: a frame has at least one pixel.
        unpack(coded, cells[first..].iter_mut().step_by(step).take(pixels))?;
    }
    Ok(cells)
}

/// Decodes a segment (PS3.5 G.3.2) until every one of `cells` has its byte.
fn unpack<'a>(mut coded: &[u8], mut cells: impl ExactSizeIterator<Item = &'a mut u8>) -> Result<()> {
    let short = || corrupt("a segment of an RLE frame ends before its last pixel");
    while cells.len() > 0 {
        let (&control, rest) = coded.split_first().ok_or_else(short)?;
        coded = rest;
        match control {
            // No operation.
            0x80 => {}
            0x00..=0x7F => {
                let length = (usize::from(control) + 1).min(cells.len());
                let (literal, rest) = coded.split_at_checked(length).ok_or_else(short)?;
                coded = rest;
                for (cell, &byte) in cells.by_ref().take(length).zip(literal) {
                    *cell = byte;
                }
            }
            0x81..=0xFF => {
                let (&byte, rest) = coded.split_first().ok_or_else(short)?;
                coded = rest;
                for cell in cells.by_ref().take(257 - usize::from(control)) {
                    *cell = byte;
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(samples: usize, sample_bytes: usize, planar: bool) -> Image {
        Image {
            rows: 1,
            columns: 3,
            samples,
            sample_bytes,
            signed: false,
            planar,
            photometric: "RGB".into(),
            frames: 1,
            rgb_is_wanted: false,
            is_partial: false,
            shares_chrominance: false,
            decoding_frames: 7,
        }
    }

    fn frame(segments: &[&[u8]]) -> Vec<u8> {
        let mut frame = vec![segments.len() as u8, 0, 0, 0];
        let mut offset = 64u32;
        for segment in segments {
            frame.extend(offset.to_le_bytes());
            offset += segment.len() as u32;
        }
        frame.resize(64, 0);
        frame.extend(segments.concat());
        frame
    }

    #[test]
    fn planes_lie_as_planar_configuration_says_and_bytes_little_endian() {
        let rgb = frame(&[&[2, 1, 2, 3], &[0xFE, 9], &[0x80, 2, 7, 8, 9, 0]]);
        assert_eq!(
            decode(&rgb, &image(3, 1, false)).unwrap(),
            [1, 9, 7, 2, 9, 8, 3, 9, 9]
        );
        assert_eq!(
            decode(&rgb, &image(3, 1, true)).unwrap(),
            [1, 2, 3, 9, 9, 9, 7, 8, 9]
        );
        let wide = frame(&[&[0xFE, 1], &[2, 4, 5, 6]]);
        assert_eq!(decode(&wide, &image(1, 2, false)).unwrap(), [4, 1, 5, 1, 6, 1]);
    }

    #[test]
    fn what_is_cut_or_lies_outside_is_an_error() {
        let good = frame(&[&[2, 1, 2, 3]]);
        for length in 0..good.len() {
            assert!(decode(&good[..length], &image(1, 1, false)).is_err(), "{length}");
        }
        let mut bad = good.clone();
        for offset in [0, 63, 200, u32::MAX] {
            bad[4..8].copy_from_slice(&offset.to_le_bytes());
            assert!(decode(&bad, &image(1, 1, false)).is_err());
        }
        assert!(decode(&good, &image(3, 1, false)).is_err());
    }
}
