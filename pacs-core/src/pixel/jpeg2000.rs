//! JPEG 2000 (ISO/IEC 15444-1) and High-Throughput JPEG 2000 (ISO/IEC 15444-15), by openjp2.

use jpeg2k::{DecodeParameters, Image as Decoded};

use super::codec::{corrupt, unsupported};
use super::codestream::Jpeg2000;
use super::image::Image;
use super::samples::{Order, cells, check_precision};
use crate::error::Result;

/// Decodes a frame. A multiple component transform is undone.
pub(super) fn decode(frame: &[u8], image: &Image) -> Result<Vec<u8>> {
    let header = Jpeg2000::parse(frame, image)?;
    check_precision(header.precision, image)?;
    let damaged = || {
        if header.is_extended {
            unsupported("a JPEG 2000 codestream with extensions of part 2")
        } else {
            corrupt("a JPEG 2000 codestream is damaged")
        }
    };
    // DICOM has the colours from its attributes alone (PS3.5 8.2.4).
    let parameters = DecodeParameters::new().ignore_pclr_cmap_cdef();
    let decoded = Decoded::from_bytes_with(frame, parameters)
        .map_err(|error| damaged().with_source(error.to_string()))?;
    let components = decoded.components();
    let as_told = components.len() == image.samples
        && components.iter().all(|component| {
            (component.height(), component.width()) == (image.rows, image.columns)
                && component.precision() == u32::from(header.precision)
        });
    if !as_told {
        return Err(damaged());
    }
    let samples = components
        .iter()
        .flat_map(|component| component.data().iter().copied());
    cells(samples, header.precision, Order::Planar, image)
}
