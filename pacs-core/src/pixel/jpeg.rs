//! JPEG (ISO/IEC 10918-1): by discrete cosine transform with 8 bits, and lossless.

use jpeg_decoder::{ColorTransform, Decoder};

use super::codec::{corrupt, mismatch, unsupported};
use super::codestream::Jpeg;
use super::image::Image;
use super::samples::{Order, cells, check_precision, read};
use crate::error::Result;
use crate::limits;

/// Decodes a frame. Colours of a lossy codestream come out as RGB, those of a lossless one as they
/// were put in.
pub(super) fn decode(frame: &[u8], image: &Image) -> Result<Vec<u8>> {
    let header = Jpeg::parse(frame)?;
    header.check(image)?;
    check_precision(header.precision, image)?;
    let lossless = header.process == Jpeg::LOSSLESS;
    if header.components.len() == 4 {
        return Err(unsupported("a JPEG codestream of four components"));
    }
    if lossless && header.subsampled() {
        return Err(unsupported(
            "a lossless JPEG codestream with subsampled components",
        ));
    }
    // The decoder takes its predictions from where no restart and no point transform were.
    if lossless && (header.restart_interval > 0 || header.point_transform() > 0) {
        return Err(unsupported(
            "a lossless JPEG codestream with restarts or a point transform",
        ));
    }
    let mut decoder = Decoder::new(frame);
    decoder.set_max_decoding_buffer_size(limits::FRAME_LENGTH_MAX_BYTES);
    if image.samples == 3 {
        decoder.set_color_transform(colours(&header, image)?);
    }
    let pixels = decoder.decode().map_err(|error| match error {
        jpeg_decoder::Error::Unsupported(what) => unsupported(format!("a JPEG codestream with {what:?}")),
        error => corrupt("a JPEG codestream is damaged").with_source(error),
    })?;
    if header.precision == 8 && image.sample_bytes == 1 {
        return Ok(pixels);
    }
    let wide = lossless && header.precision != 8;
    cells(read(&pixels, wide), header.precision, Order::Interleaved, image)
}

/// What the components are turned from, to make them what the label says.
fn colours(header: &Jpeg, image: &Image) -> Result<ColorTransform> {
    if !image.rgb_is_wanted {
        return Ok(ColorTransform::None);
    }
    let identifiers: Vec<u8> = header.components.iter().map(|&(id, _)| id).collect();
    let ybr = match (&identifiers[..], header.adobe) {
        (b"RGB" | b"rgb", _) | (_, Some(0)) => false,
        (_, Some(1)) => true,
        _ => header.jfif || image.is_ybr(),
    };
    if header.process == Jpeg::LOSSLESS && ybr {
        return Err(mismatch("a lossless codestream in a lossy transfer syntax"));
    }
    Ok(if ybr {
        ColorTransform::YCbCr
    } else {
        ColorTransform::RGB
    })
}
