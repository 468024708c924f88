//! Which transfer syntaxes can be decoded, and one frame of each.

use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::image::Image;
use super::{jpeg, jpeg_ls, rle, ybr};
use crate::dataset::recode::{Target, is_native};
use crate::error::{Error, ErrorKind, Result};
use crate::uid::Uid;

/// How the frames of an encapsulated transfer syntax are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Codec {
    /// Not at all (PS3.5 A.4.11).
    Uncompressed,
    /// Deflate (PS3.5 A.4.13).
    Deflated,
    /// RLE Lossless (PS3.5 annex G).
    Rle,
    /// JPEG by discrete cosine transform: Baseline and Extended.
    JpegLossy,
    /// JPEG Lossless.
    JpegLossless,
    /// JPEG-LS, lossless or near lossless.
    JpegLs,
    /// JPEG 2000 and High-Throughput JPEG 2000.
    #[cfg(feature = "jpeg2000")]
    Jpeg2000,
    /// JPEG XL without loss.
    #[cfg(feature = "jpegxl")]
    JpegXlLossless,
    /// JPEG XL of what was JPEG.
    #[cfg(feature = "jpegxl")]
    JpegXlRecompressed,
    /// JPEG XL.
    #[cfg(feature = "jpegxl")]
    JpegXl,
}

impl Codec {
    /// The codec of an encapsulated transfer syntax, if it can be decoded.
    pub(super) fn of(transfer_syntax: &str) -> Option<Self> {
        Some(match transfer_syntax.strip_prefix("1.2.840.10008.1.2.")? {
            "1.98" => Codec::Uncompressed,
            "8.1" => Codec::Deflated,
            "5" => Codec::Rle,
            "4.50" | "4.51" => Codec::JpegLossy,
            "4.57" | "4.70" => Codec::JpegLossless,
            "4.80" | "4.81" => Codec::JpegLs,
            #[cfg(feature = "jpeg2000")]
            "4.90" | "4.91" | "4.92" | "4.93" | "4.201" | "4.202" | "4.203" => Codec::Jpeg2000,
            #[cfg(feature = "jpegxl")]
            "4.110" => Codec::JpegXlLossless,
            #[cfg(feature = "jpegxl")]
            "4.111" => Codec::JpegXlRecompressed,
            #[cfg(feature = "jpegxl")]
            "4.112" => Codec::JpegXl,
            _ => return None,
        })
    }

    /// Whether each frame is one fragment, by the transfer syntax.
    pub(super) fn frame_is_fragment(self) -> bool {
        self.knows_no_image()
    }

    /// Whether what it gives is as the data set describes it: it knows nothing of images.
    pub(super) fn knows_no_image(self) -> bool {
        matches!(self, Codec::Uncompressed | Codec::Deflated | Codec::Rle)
    }

    /// Whether colours come out of it as RGB, whatever they were.
    pub(super) fn gives_rgb(self) -> bool {
        match self {
            Codec::JpegLossy => true,
            #[cfg(feature = "jpegxl")]
            Codec::JpegXlRecompressed | Codec::JpegXl => true,
            _ => false,
        }
    }

    /// Whether what it decodes was once compressed with loss, by the transfer syntax.
    pub(super) fn had_loss(self) -> bool {
        match self {
            Codec::JpegLossy => true,
            // What was JPEG before.
            #[cfg(feature = "jpegxl")]
            Codec::JpegXlRecompressed => true,
            _ => false,
        }
    }

    /// As [`decode`](Self::decode); a panic of a decoder is an error of its frame.
    pub(super) fn decode_contained(self, frame: &[u8], image: &Image) -> Result<Vec<u8>> {
        let decoded = catch_unwind(AssertUnwindSafe(|| self.decode(frame, image)));
        decoded.unwrap_or_else(|_| Err(corrupt("the decoder failed on a frame")))
    }

    /// Decodes one frame: as many bytes as `image` says, its samples as `image` says they lie.
    pub(super) fn decode(self, frame: &[u8], image: &Image) -> Result<Vec<u8>> {
        let pixels = match self {
            Codec::Uncompressed => frame.to_vec(),
            Codec::Deflated => inflate(frame, image)?,
            Codec::Rle => rle::decode(frame, image)?,
            Codec::JpegLossy | Codec::JpegLossless => jpeg::decode(frame, image)?,
            Codec::JpegLs => jpeg_ls::decode(frame, image)?,
            #[cfg(feature = "jpeg2000")]
            Codec::Jpeg2000 => super::jpeg2000::decode(frame, image)?,
            #[cfg(feature = "jpegxl")]
            Codec::JpegXlLossless | Codec::JpegXlRecompressed | Codec::JpegXl => {
                super::jpeg_xl::decode(frame, image)?
            }
        };
        let length = image.frame_length()?;
        // A byte of padding may follow what is not compressed.
        let padding = usize::from(self == Codec::Uncompressed && length % 2 == 1);
        if pixels.len() != length && pixels.len() != length + padding {
            return Err(mismatch(format!(
                "a frame of {} bytes is decoded where the data set describes {length}",
                pixels.len()
            )));
        }
        let mut pixels = pixels;
        pixels.truncate(length);
        if image.is_partial && !self.knows_no_image() && !self.gives_rgb() {
            if image.sample_bytes != 1 {
                return Err(unsupported("YBR_PARTIAL of more than 8 bits"));
            }
            ybr::convert(&mut pixels, ybr::partial_to_rgb);
        }
        Ok(pixels)
    }
}

/// The best of the transfer syntaxes that a receiver accepts in which an instance stored in `from`
/// can be handed out: Explicit VR Little Endian, else Implicit VR Little Endian; `None` when neither
/// is accepted, or when nothing here decodes `from`. A particular instance may still fail: see
/// [`transcode`](super::transcode).
pub fn can_transcode(from: &Uid, accepted: &[Uid]) -> Option<Target> {
    if !is_native(from) && Codec::of(from).is_none() {
        return None;
    }
    [Target::ExplicitLittleEndian, Target::ImplicitLittleEndian]
        .into_iter()
        .find(|target| accepted.contains(&target.uid()))
}

fn inflate(frame: &[u8], image: &Image) -> Result<Vec<u8>> {
    let length = image.frame_length()?;
    let mut pixels = Vec::new();
    flate2::read::DeflateDecoder::new(frame)
        .take(length as u64)
        .read_to_end(&mut pixels)
        .map_err(|error| corrupt("a deflated frame is damaged").with_source(error))?;
    Ok(pixels)
}

/// An error about a frame that can't be decoded as it is.
pub(super) fn corrupt(context: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Invalid, "pixel_data.decode", context)
}

/// An error about a frame that is not what the data set says.
pub(super) fn mismatch(context: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Mismatch, "pixel_data.decode", context)
}

/// An error about a frame in a way of coding that is not decoded here.
pub(super) fn unsupported(context: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Unsupported, "pixel_data.decode", context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn explicit_is_preferred_implicit_taken_and_what_nobody_decodes_refused() {
        let (explicit, implicit) = (Target::ExplicitLittleEndian, Target::ImplicitLittleEndian);
        let rle = Uid::constant("1.2.840.10008.1.2.5");
        assert_eq!(
            can_transcode(&rle, &[implicit.uid(), explicit.uid()]),
            Some(explicit)
        );
        assert_eq!(can_transcode(&rle, &[implicit.uid()]), Some(implicit));
        assert_eq!(
            can_transcode(&rle, &[Uid::constant("1.2.840.10008.1.2.4.50")]),
            None
        );
        for from in [
            "1.2.840.10008.1.2.2",
            "1.2.840.10008.1.2.1.99",
            "1.2.840.10008.1.2.4.70",
        ] {
            assert_eq!(
                can_transcode(&Uid::constant(from), &[implicit.uid()]),
                Some(implicit)
            );
        }
        #[cfg(feature = "jpegxl")]
        for from in [
            "1.2.840.10008.1.2.4.110",
            "1.2.840.10008.1.2.4.111",
            "1.2.840.10008.1.2.4.112",
        ] {
            let target = can_transcode(&Uid::constant(from), &[explicit.uid()]);
            assert_eq!(target, Some(explicit));
        }
        // MPEG-2, JPIP, a syntax of nobody's.
        for from in ["1.2.840.10008.1.2.4.100", "1.2.840.10008.1.2.4.94", "1.2.3"] {
            assert_eq!(can_transcode(&Uid::constant(from), &[explicit.uid()]), None);
        }
    }
}
