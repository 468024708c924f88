//! What a data set says of its pixels ([`Image`]), and what it must say once they are decoded.

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;

use super::codec::{Codec, unsupported};
use crate::dataset::DataSet;
use crate::dataset::recode::Overrides;
use crate::error::{Error, ErrorKind, Result};
use crate::limits;

/// What a compressed frame may hold beside its pixels.
const COMPRESSED_OVERHEAD_BYTES: usize = 1024 * 1024;

/// The Image Pixel module (PS3.3 C.7.6.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Image {
    pub(super) rows: u32,
    pub(super) columns: u32,
    pub(super) samples: usize,
    /// Bytes of one sample.
    pub(super) sample_bytes: usize,
    /// Pixel Representation is 1.
    pub(super) signed: bool,
    /// The samples of a pixel do not lie together: Planar Configuration of what is decoded is 1.
    pub(super) planar: bool,
    /// Photometric Interpretation, of what is compressed.
    pub(super) photometric: String,
    pub(super) frames: u64,
    /// Colours are to be decoded to RGB.
    pub(super) rgb_is_wanted: bool,
    /// Colours are YBR_PARTIAL: no label says that of chrominance in full, so that they become RGB.
    pub(super) is_partial: bool,
    /// Two pixels share their chrominance, also in what is decoded (PS3.3 C.7.6.3.1.2, YBR_FULL_422).
    pub(super) shares_chrominance: bool,
    /// What decoding takes, in decoded frames.
    pub(super) decoding_frames: usize,
}

impl Image {
    /// What `header` says of the image that `codec` has compressed.
    pub(super) fn of(header: &DataSet, codec: Codec) -> Result<Self> {
        let number = |tag: Tag| {
            header.u16(tag).ok_or_else(|| {
                Error::new(
                    ErrorKind::Invalid,
                    "pixel_data.decode",
                    "an attribute that describes the pixels is missing",
                )
                .with_tag(tag)
            })
        };
        let photometric = header
            .string(tags::PHOTOMETRIC_INTERPRETATION)
            .unwrap_or_default();
        let samples = number(tags::SAMPLES_PER_PIXEL).unwrap_or(1);
        let bits = number(tags::BITS_ALLOCATED)?;
        if !matches!(bits, 8 | 16 | 32 | 64) {
            return Err(unsupported(format!("compressed pixels of {bits} bits allocated"))
                .with_tag(tags::BITS_ALLOCATED));
        }
        if !matches!(samples, 1..=4) {
            return Err(unsupported(format!("{samples} samples per pixel")).with_tag(tags::SAMPLES_PER_PIXEL));
        }
        let frames = header
            .string(tags::NUMBER_OF_FRAMES)
            .and_then(|text| text.trim().parse().ok());
        let keeps_planes = codec.knows_no_image();
        // The segments of RLE are whole planes.
        let shares_chrominance = samples == 3
            && matches!(codec, Codec::Uncompressed | Codec::Deflated)
            && matches!(photometric, "YBR_FULL_422" | "YBR_PARTIAL_422");
        Ok(Self {
            rows: number(tags::ROWS)?.into(),
            columns: number(tags::COLUMNS)?.into(),
            samples: samples.into(),
            sample_bytes: usize::from(bits / 8),
            signed: header.u16(tags::PIXEL_REPRESENTATION) == Some(1),
            planar: samples > 1 && keeps_planes && header.u16(tags::PLANAR_CONFIGURATION) == Some(1),
            photometric: photometric.to_owned(),
            frames: frames.unwrap_or(1).max(1),
            rgb_is_wanted: codec.gives_rgb(),
            is_partial: samples == 3 && photometric.starts_with("YBR_PARTIAL"),
            shares_chrominance,
            // Compressed, in pieces and whole; decoded, with samples of 32 bits on the way.
            decoding_frames: match codec {
                #[cfg(feature = "jpegxl")]
                Codec::JpegXlLossless | Codec::JpegXlRecompressed | Codec::JpegXl => 35,
                _ => 7,
            },
        })
    }

    /// Pixels of a frame.
    pub(super) fn pixels(&self) -> usize {
        // Both come from a u16.
        self.rows as usize * self.columns as usize
    }

    /// Bytes of a decoded frame.
    pub(super) fn frame_length(&self) -> Result<usize> {
        // 2^32 pixels of 4 samples of 8 bytes at most.
        let samples = if self.shares_chrominance { 2 } else { self.samples };
        let length = self.pixels() as u64 * (samples * self.sample_bytes) as u64;
        if length == 0 {
            return Err(Error::new(
                ErrorKind::Invalid,
                "pixel_data.decode",
                "an image without rows or columns",
            ));
        }
        usize::try_from(length)
            .ok()
            .filter(|&length| length <= limits::FRAME_LENGTH_MAX_BYTES)
            .ok_or_else(|| {
                unsupported(format!(
                    "a frame of {length} bytes is larger than what is decoded"
                ))
            })
    }

    /// What a compressed frame may take: no way of coding makes it much larger, beside what an image of a few
    /// pixels carries in its markers.
    pub(super) fn compressed_length_max(&self) -> Result<usize> {
        Ok(self.frame_length()? * 2 + COMPRESSED_OVERHEAD_BYTES)
    }

    /// What decoding a frame takes, in bytes: compressed and decoded, and what decoders take beside.
    pub(super) fn decoding_length(&self) -> Result<usize> {
        let frame = self.frame_length()?;
        Ok(frame
            .saturating_mul(self.decoding_frames)
            .saturating_add(COMPRESSED_OVERHEAD_BYTES))
    }

    /// What a stream of decoded frames holds, in bytes: one that is decoded and what of the next has come, which
    /// mostly takes less; and where the frames begin.
    pub(super) fn streaming_length(&self) -> Result<usize> {
        let table = self.frames.min(limits::FRAME_TABLE_ENTRIES_MAX as u64) as usize * 32;
        Ok(self.frame_length()?.saturating_mul(2).saturating_add(table))
    }

    /// Bytes of all frames, which a native Pixel Data has a 4-byte length for.
    pub(super) fn length(&self) -> Result<u32> {
        (self.frame_length()? as u64)
            .checked_mul(self.frames)
            .and_then(|length| u32::try_from(length.checked_add(length % 2)?).ok())
            .filter(|&length| length != u32::MAX)
            .ok_or_else(|| {
                unsupported("decoded pixels of more than 4 GiB can't be said in a native transfer syntax")
            })
    }

    /// Whether what is compressed is luminance and chrominance.
    pub(super) fn is_ybr(&self) -> bool {
        self.photometric.starts_with("YBR")
    }

    /// What the data set must say of the pixels that `codec` decodes (PS3.5
    /// 8.2, PS3.3 C.7.6.3.1.2).
    pub(super) fn labels(&self, codec: Codec, header: &DataSet) -> Overrides {
        let mut labels = Overrides {
            put: DataSet::new(),
            // They are about the fragments (PS3.3 C.7.6.3.1.8).
            remove: vec![
                tags::EXTENDED_OFFSET_TABLE,
                tags::EXTENDED_OFFSET_TABLE_LENGTHS,
                tags::ENCAPSULATED_PIXEL_DATA_VALUE_TOTAL_LENGTH,
            ],
            ..Overrides::default()
        };
        let photometric = self.decoded_photometric(codec);
        if photometric != self.photometric {
            labels
                .put
                .put_text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, photometric);
        }
        if self.samples > 1 {
            labels.put.put_u16(tags::PLANAR_CONFIGURATION, self.planar.into());
        }
        // That the pixels once were compressed with loss stays true (PS3.3 C.7.6.1.1.5).
        if codec.had_loss() && header.string(tags::LOSSY_IMAGE_COMPRESSION).is_none() {
            labels.put.put_text(tags::LOSSY_IMAGE_COMPRESSION, VR::CS, "01");
        }
        labels
    }

    fn decoded_photometric(&self, codec: Codec) -> &str {
        match codec {
            // Its frames are what they would be without it.
            Codec::Rle | Codec::Uncompressed | Codec::Deflated => &self.photometric,
            _ if self.samples == 3 && (codec.gives_rgb() || self.is_partial) => "RGB",
            #[cfg(feature = "jpeg2000")]
            Codec::Jpeg2000 if matches!(&*self.photometric, "YBR_RCT" | "YBR_ICT") => "RGB",
            #[cfg(feature = "jpegxl")]
            Codec::JpegXlLossless if matches!(&*self.photometric, "YBR_RCT" | "XYB") => "RGB",
            // Chrominance that was subsampled comes out in full.
            _ if self.photometric.starts_with("YBR_FULL") => "YBR_FULL",
            _ => &self.photometric,
        }
    }
}
