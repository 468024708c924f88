//! JPEG-LS (ISO/IEC 14495-1), by CharLS.

use charls::CharLS;

use super::codec::corrupt;
use super::codestream::Jpeg;
use super::image::Image;
use super::samples::{Order, cells, check_precision, read};
use crate::error::Result;

/// Decodes a frame; its colours come out as they were put in.
pub(super) fn decode(frame: &[u8], image: &Image) -> Result<Vec<u8>> {
    let header = Jpeg::parse(frame)?;
    if header.process != Jpeg::LS {
        return Err(corrupt("a frame is no JPEG-LS codestream"));
    }
    header.check(image)?;
    check_precision(header.precision, image)?;
    let pixels = CharLS::default()
        .decode(frame)
        .map_err(|error| corrupt("a JPEG-LS codestream is damaged").with_source(error))?;
    // Without interleaving, each component is a scan of its own (ISO/IEC 14495-1 C.2.3).
    let planar = image.samples > 1 && header.scan_components == 1;
    let order = if planar { Order::Planar } else { Order::Interleaved };
    cells(
        read(&pixels, header.precision > 8),
        header.precision,
        order,
        image,
    )
}
