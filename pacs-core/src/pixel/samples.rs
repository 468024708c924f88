//! Writes decoded samples as the cells of native pixel data (PS3.5 8.1.1).

use super::codec::mismatch;
use super::image::Image;
use crate::error::Result;

/// How the samples of a decoded frame lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// The samples of a pixel lie together.
    Interleaved,
    /// Plane after plane.
    Planar,
}

/// Whether samples of `precision` bits fit the cells that the data set describes.
pub(super) fn check_precision(precision: u8, image: &Image) -> Result<()> {
    let allocated = image.sample_bytes * 8;
    if precision == 0 || precision > 32 || usize::from(precision) > allocated {
        return Err(mismatch(format!(
            "samples of {precision} bits where the data set describes {allocated} bits allocated"
        )));
    }
    Ok(())
}

/// Writes `samples` of `precision` bits as cells, by pixel: those of Pixel Representation 1 with
/// their sign extended, others with zeros above. Some encoders leave the sign out of the codestream,
/// or put it in where there is none: what the data set says counts, it is what the pixels are read by.
pub(super) fn cells(
    mut samples: impl Iterator<Item = i32>,
    precision: u8,
    order: Order,
    image: &Image,
) -> Result<Vec<u8>> {
    check_precision(precision, image)?;
    let (count, bytes) = (image.samples, image.sample_bytes);
    let shift = 32 - u32::from(precision);
    let cell = |sample: i32| -> [u8; 8] {
        let sample = if image.signed {
            i64::from((sample << shift) >> shift)
        } else {
            i64::from(((sample as u32) << shift) >> shift)
        };
        sample.to_le_bytes()
    };
    let mut cells = vec![0; image.frame_length()?];
    let mut written = 0;
    let mut write = |to: &mut [u8], sample: i32| {
        to.copy_from_slice(&cell(sample)[..bytes]);
        written += 1;
    };
    match order {
        Order::Interleaved => {
            for (to, sample) in cells.chunks_exact_mut(bytes).zip(samples.by_ref()) {
                write(to, sample);
            }
        }
        Order::Planar => {
            for plane in 0..count {
                for (pixel, sample) in cells.chunks_exact_mut(bytes * count).zip(samples.by_ref()) {
                    write(&mut pixel[plane * bytes..][..bytes], sample);
                }
            }
        }
    }
    if written != image.pixels() * count {
        return Err(mismatch("fewer samples are decoded than the data set describes"));
    }
    Ok(cells)
}

/// The samples in `bytes`: one byte each, or two in this machine's order.
pub(super) fn read(bytes: &[u8], wide: bool) -> impl Iterator<Item = i32> {
    bytes
        .chunks_exact(if wide { 2 } else { 1 })
        .map(|sample| match *sample {
            [low, high] => i32::from(u16::from_ne_bytes([low, high])),
            [byte] => i32::from(byte),
            _ => 0,
        })
}
