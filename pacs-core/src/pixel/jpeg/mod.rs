//! JPEG (ISO/IEC 10918-1): by discrete cosine transform, and lossless.
//!
//! `jpeg-decoder` decodes what has 8 bits and loss. Lossless codestreams and those of 12 bits are
//! decoded here: it has no 12 bits, and loses its way in lossless ones with restarts or a point
//! transform.

mod entropy;
mod extended;
mod lossless;

use jpeg_decoder::{ColorTransform, Decoder};

use super::codec::{corrupt, mismatch, unsupported};
use super::codestream::Jpeg;
use super::image::Image;
use super::samples::{Order, cells, check_precision, read};
use super::ybr;
use crate::error::Result;
use crate::limits;

/// Decodes a frame. Colours of a lossy codestream come out as RGB, those of a lossless one as they
/// were put in.
pub(super) fn decode(frame: &[u8], image: &Image) -> Result<Vec<u8>> {
    let header = Jpeg::parse(frame)?;
    header.check(image)?;
    check_precision(header.precision, image)?;
    // No process has more (ISO/IEC 10918-1, B.2.2).
    if header.precision > 16 {
        return Err(corrupt(format!("a JPEG codestream of {} bits", header.precision)));
    }
    if header.components.len() == 4 {
        return Err(unsupported("a JPEG codestream of four components"));
    }
    match header.process {
        Jpeg::LOSSLESS => {
            if image.rgb_is_wanted && colours(&header, image) != ColorTransform::RGB && image.samples > 1 {
                return Err(mismatch("a lossless codestream in a lossy transfer syntax"));
            }
            let samples = lossless::decode(frame, &header)?;
            cells(
                samples.into_iter().map(i32::from),
                header.precision,
                Order::Interleaved,
                image,
            )
        }
        Jpeg::EXTENDED if header.precision > 8 => {
            let samples = extended::decode(frame, &header)?;
            cells(
                samples.into_iter().map(i32::from),
                header.precision,
                Order::Interleaved,
                image,
            )
        }
        _ => {
            let pixels = decode_8_bit(frame, &header, image)?;
            if image.sample_bytes == 1 {
                return Ok(pixels);
            }
            cells(read(&pixels, false), header.precision, Order::Interleaved, image)
        }
    }
}

fn decode_8_bit(frame: &[u8], header: &Jpeg, image: &Image) -> Result<Vec<u8>> {
    if header.precision != 8 {
        return Err(unsupported(format!(
            "a JPEG codestream of {} bits by process {:X}",
            header.precision, header.process
        )));
    }
    let mut decoder = Decoder::new(frame);
    decoder.set_max_decoding_buffer_size(limits::FRAME_LENGTH_MAX_BYTES);
    // The decoder knows one range of luminance, not the narrow one.
    let mut partial = false;
    if image.samples == 3 {
        let from = colours(header, image);
        partial = image.is_partial && from == ColorTransform::YCbCr;
        decoder.set_color_transform(if partial { ColorTransform::None } else { from });
    }
    let mut pixels = decoder.decode().map_err(|error| match error {
        jpeg_decoder::Error::Unsupported(what) => unsupported(format!("a JPEG codestream with {what:?}")),
        error => corrupt("a JPEG codestream is damaged").with_source(error),
    })?;
    if partial {
        ybr::convert(&mut pixels, ybr::partial_to_rgb);
    }
    Ok(pixels)
}

/// What the components are turned from, to make them what the label says.
fn colours(header: &Jpeg, image: &Image) -> ColorTransform {
    if !image.rgb_is_wanted {
        return ColorTransform::None;
    }
    let identifiers: Vec<u8> = header.components.iter().map(|&[id, ..]| id).collect();
    let ybr = match (&identifiers[..], header.adobe) {
        (b"RGB" | b"rgb", _) | (_, Some(0)) => false,
        (_, Some(1)) => true,
        _ => header.jfif || image.is_ybr(),
    };
    if ybr {
        ColorTransform::YCbCr
    } else {
        ColorTransform::RGB
    }
}
