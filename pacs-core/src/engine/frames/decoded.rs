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
use crate::engine::block_on::block_on;
use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::pixel::FrameDecoder;

/// The pixels of one frame.
#[derive(Clone)]
pub struct DecodedFrame {
    /// Native little-endian cells (PS3.5 8.1.1), without padding. Cells of one bit stay packed, from bit 0 on. They
    /// count among what is handed out until the last part of them is dropped: see
    /// [`DecodingRoom`](crate::pixel::DecodingRoom).
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
    /// The frame is read and decoded on a thread of its own: what is wrong with it, or with its decoder, is an
    /// error of this call alone. All that one engine decodes at once shares
    /// [`DECODING_LENGTH_MAX_BYTES`](crate::limits::DECODING_LENGTH_MAX_BYTES): this waits while that is used
    /// up. What is handed out shares as much again, for which nobody waits.
    ///
    /// Colours of lossy JPEG and JPEG 2000 come out as [`pixel::transcode`](crate::pixel::transcode) has them;
    /// native pixels that share their chrominance (YBR_FULL_422) get one each, as YBR_FULL.
    ///
    /// # Errors
    /// Those of [`encoded`](Self::encoded), and
    /// - `Unsupported` when the transfer syntax, or a way of coding used in it, is not decoded here, when a frame
    ///   is larger than [`FRAME_LENGTH_MAX_BYTES`](crate::limits::FRAME_LENGTH_MAX_BYTES), and for Float and
    ///   Double Float Pixel Data.
    /// - `Mismatch` when the frame is damaged or not what the header describes.
    /// - `OutOfResources`, to be tried again, when too many decoded frames are held by those who asked for them.
    pub async fn decoded(&self, number: u32) -> Result<DecodedFrame> {
        self.position(number)?;
        let decoding = self.decoding()?;
        let pieces = self.encoded(number).await?;
        let room = &self.pacs.decoding;
        let held = room.hand_out(decoding.frame_length()?)?;
        let (length, header) = (decoding.length()?, Arc::clone(&decoding.header));
        let decode = move |_: &dyn Fn() -> bool| decoding.decode(pieces);
        let pixels = room.work(length, decode).await?;
        let pixels = held.count(pixels);
        Ok(DecodedFrame { pixels, header })
    }

    /// What decodes its frames.
    pub(in crate::engine) fn decoding(&self) -> Result<Decoding> {
        let metadata = &self.metadata.header;
        let (way, header) = match &self.form {
            Form::Native(cells) => {
                let way = Way::native(cells)?;
                (
                    way,
                    self.described
                        .get_or_init(|| Arc::new(described_native(cells, metadata))),
                )
            }
            Form::Encapsulated(_) => {
                let decoder = FrameDecoder::new(&self.record.transfer_syntax, metadata);
                let decoder = decoder.map_err(Error::about_kept)?;
                let header = self
                    .described
                    .get_or_init(|| Arc::new(decoder.describe(metadata)));
                (Way::Fragments(decoder), header)
            }
        };
        Ok(Decoding {
            way,
            header: Arc::clone(header),
        })
    }
}

/// Decodes frames of one instance.
pub(in crate::engine) struct Decoding {
    way: Way,
    /// What describes decoded frames.
    pub(in crate::engine) header: Arc<DataSet>,
}

enum Way {
    Native {
        /// Bytes of a frame.
        length: usize,
        shares_chrominance: Option<usize>,
    },
    Fragments(FrameDecoder),
}

impl Way {
    fn native(cells: &Cells) -> Result<Self> {
        if !cells.integers {
            let what = "floating point pixels are not decoded";
            return Err(error(ErrorKind::Unsupported, what));
        }
        let length = usize::try_from(cells.frame_bits.div_ceil(8)).unwrap_or(usize::MAX);
        if length > limits::FRAME_LENGTH_MAX_BYTES {
            let what = format!("a frame of {length} bytes is larger than what is decoded");
            return Err(error(ErrorKind::Unsupported, what));
        }
        Ok(Way::Native {
            length,
            shares_chrominance: cells.shares_chrominance,
        })
    }
}

impl Decoding {
    /// What decoding a frame takes at once, in bytes.
    pub(in crate::engine) fn length(&self) -> Result<usize> {
        match &self.way {
            // In pieces, and whole; with a chrominance for each pixel.
            Way::Native { length, .. } => Ok(length.saturating_mul(4)),
            Way::Fragments(decoder) => decoder.decoding_length().map_err(Error::about_kept),
        }
    }

    /// Bytes of a decoded frame.
    pub(in crate::engine) fn frame_length(&self) -> Result<usize> {
        match &self.way {
            Way::Native {
                length,
                shares_chrominance: Some(_),
            } => Ok(length / 2 * 3),
            Way::Native { length, .. } => Ok(*length),
            Way::Fragments(decoder) => decoder.frame_length().map_err(Error::about_kept),
        }
    }

    /// Reads and decodes a frame, which [`FrameReader::encoded`] has, on this thread.
    pub(in crate::engine) fn decode(&self, pieces: BoxStream<'static, Result<Bytes>>) -> Result<Bytes> {
        match &self.way {
            Way::Native {
                length,
                shares_chrominance,
            } => {
                let pixels = block_on(collect(pieces, *length))?;
                Ok(match shares_chrominance {
                    Some(sample) => with_own_chrominance(&pixels, *sample),
                    None => pixels,
                })
            }
            Way::Fragments(decoder) => {
                let length = decoder.compressed_length_max().map_err(Error::about_kept)?;
                let frame = block_on(collect(pieces, length))?;
                Ok(decoder.decode(&frame).map_err(Error::about_kept)?.into())
            }
        }
    }
}

/// `header` as it describes native pixels that are handed out.
fn described_native(cells: &Cells, header: &DataSet) -> DataSet {
    let mut header = header.clone();
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
    header
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
