//! A frame's pixels, decoded (feature `pixel`).

use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};
use dicom_core::VR;
use dicom_dictionary_std::tags;
use futures::TryStreamExt;
use futures::stream::BoxStream;

use super::native::Cells;
use super::{Form, FrameReader, error};
use crate::dataset::DataSet;
use crate::error::{ErrorKind, Result};
use crate::limits;
use crate::pixel::FrameDecoder;

/// The pixels of one frame.
#[derive(Clone)]
pub struct DecodedFrame {
    /// Native little-endian cells (PS3.5 8.1.1), without padding. Cells of one bit stay packed, from bit 0 on.
    pub pixels: Bytes,
    /// The instance's header, as it describes these pixels: Photometric Interpretation (0028,0004) and Planar
    /// Configuration (0028,0006) are what came out (PS3.5 8.2). Number of Frames is still the instance's.
    pub header: Arc<DataSet>,
}

impl fmt::Debug for DecodedFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecodedFrame")
            .field("length", &self.pixels.len())
            .finish_non_exhaustive()
    }
}

/// The header that describes decoded frames, once there is one.
pub(super) type Described = OnceLock<Arc<DataSet>>;

impl FrameReader {
    /// The pixels of one frame. `number` counts from 1.
    ///
    /// A compressed frame is decoded on a thread of its own: what is wrong with it, or with its decoder, is an
    /// error of this call alone. All that one engine decodes at once shares
    /// [`DECODING_LENGTH_MAX_BYTES`](crate::limits::DECODING_LENGTH_MAX_BYTES): this waits while that is used
    /// up. What is handed out counts no longer.
    ///
    /// Colours of lossy JPEG and JPEG 2000 come out as [`pixel::transcode`](crate::pixel::transcode) has them;
    /// native pixels that share their chrominance (YBR_FULL_422) get one each, as YBR_FULL.
    ///
    /// # Errors
    /// Those of [`encoded`](Self::encoded), and
    /// - `Unsupported` when the transfer syntax, or a way of coding used in it, is not decoded here, when a frame
    ///   is larger than [`FRAME_LENGTH_MAX_BYTES`](crate::limits::FRAME_LENGTH_MAX_BYTES), and for Float and
    ///   Double Float Pixel Data.
    /// - `Mismatch` when the frame is not what the header describes, `Invalid` when it is damaged.
    pub async fn decoded(&self, number: u32) -> Result<DecodedFrame> {
        self.position(number)?;
        match &self.form {
            Form::Native(cells) => self.decoded_native(cells, number).await,
            Form::Encapsulated(_) => self.decoded_fragments(number).await,
        }
    }

    async fn decoded_fragments(&self, number: u32) -> Result<DecodedFrame> {
        let decoder = FrameDecoder::new(&self.record.transfer_syntax, &self.metadata.header)?;
        let header = Arc::clone(
            self.described
                .get_or_init(|| Arc::new(decoder.describe(&self.metadata.header))),
        );
        // Where it lies may take long to find; nothing of it is read before there is room for it.
        let pieces = self.encoded(number).await?;
        let share = self.pacs.decoding.take(decoder.decoding_length()?).await;
        let frame = collect(pieces, decoder.compressed_length_max()?).await?;
        let pixels = decoder.decode(frame, share).await?;
        Ok(DecodedFrame { pixels, header })
    }

    async fn decoded_native(&self, cells: &Cells, number: u32) -> Result<DecodedFrame> {
        if !cells.integers {
            let what = "floating point pixels are not decoded";
            return Err(error(ErrorKind::Unsupported, what));
        }
        let length = usize::try_from(cells.frame_bits.div_ceil(8)).unwrap_or(usize::MAX);
        if length > limits::FRAME_LENGTH_MAX_BYTES {
            let what = format!("a frame of {length} bytes is larger than what is decoded");
            return Err(error(ErrorKind::Unsupported, what));
        }
        // In pieces, and whole; with a chrominance for each pixel.
        let _share = self.pacs.decoding.take(length.saturating_mul(4)).await;
        let pieces = self.encoded(number).await?;
        let mut pixels = collect(pieces, length).await?;
        if let Some(sample) = cells.shares_chrominance {
            pixels = with_own_chrominance(&pixels, sample);
        }
        let header = self.described.get_or_init(|| {
            let mut header = self.metadata.header.clone();
            let photometric = header
                .string(tags::PHOTOMETRIC_INTERPRETATION)
                .unwrap_or_default();
            // Where it is not shared, it never was.
            let full = photometric.strip_suffix("_422").map(str::to_owned);
            if let Some(full) = full.filter(|_| header.u16(tags::SAMPLES_PER_PIXEL) == Some(3)) {
                header.put_text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, full);
            }
            if cells.shares_chrominance.is_some() {
                header.put_u16(tags::PLANAR_CONFIGURATION, 0);
            }
            Arc::new(header)
        });
        Ok(DecodedFrame {
            pixels,
            header: Arc::clone(header),
        })
    }
}

/// All of `pieces`, which are `max` bytes at most.
async fn collect(mut pieces: BoxStream<'static, Result<Bytes>>, max: usize) -> Result<Bytes> {
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(piece) = pieces.try_next().await? {
        if first.len() + all.len() + piece.len() > max {
            let what = "a compressed frame is far larger than what it describes";
            return Err(error(ErrorKind::Unsupported, what));
        }
        if first.is_empty() && all.is_empty() {
            first = piece;
            continue;
        }
        all.extend_from_slice(&std::mem::take(&mut first));
        all.extend_from_slice(&piece);
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

/// From two luminances and the chrominance they share (PS3.3 C.7.6.3.1.2) to three samples for each pixel.
fn with_own_chrominance(pixels: &[u8], sample: usize) -> Bytes {
    let mut all = BytesMut::with_capacity(pixels.len() / 2 * 3);
    for pair in pixels.chunks_exact(sample * 4) {
        let (luminances, chrominance) = pair.split_at(sample * 2);
        for luminance in luminances.chunks_exact(sample) {
            all.extend_from_slice(luminance);
            all.extend_from_slice(chrominance);
        }
    }
    all.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_that_share_their_chrominance_get_one_each() {
        assert_eq!(
            with_own_chrominance(&[1, 2, 8, 9, 3, 4, 6, 7], 1)[..],
            [1, 8, 9, 2, 8, 9, 3, 6, 7, 4, 6, 7]
        );
        assert_eq!(
            with_own_chrominance(&[1, 0, 2, 0, 8, 0, 9, 0], 2)[..],
            [1, 0, 8, 0, 9, 0, 2, 0, 8, 0, 9, 0]
        );
    }
}
