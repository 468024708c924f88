//! [`FrameDecoder`]: one frame by itself.

use super::codec::{Codec, unsupported};
use super::image::Image;
use crate::dataset::DataSet;
use crate::error::Result;
use crate::uid::Uid;

/// Decodes single frames of a compressed instance.
#[derive(Debug)]
pub(crate) struct FrameDecoder {
    codec: Codec,
    image: Image,
}

impl FrameDecoder {
    /// For frames in this transfer syntax that `header` describes.
    ///
    /// # Errors
    /// `Unsupported` when they are not decoded here, `Invalid` when they are not described.
    pub(crate) fn new(transfer_syntax: &Uid, header: &DataSet) -> Result<Self> {
        let codec = Codec::of(transfer_syntax)
            .ok_or_else(|| unsupported(format!("nothing here decodes transfer syntax {transfer_syntax}")))?;
        let mut image = Image::of(header, codec)?;
        // Room is taken for one frame, not for where the others begin.
        image.frames = 1;
        Ok(Self { codec, image })
    }

    /// `header` as it describes what is decoded.
    pub(crate) fn describe(&self, header: &DataSet) -> DataSet {
        let labels = self.image.labels(self.codec, header);
        let mut header = header.clone();
        for tag in labels.remove {
            header.remove(tag);
        }
        for element in labels.put {
            header.put(element);
        }
        header
    }

    /// What a compressed frame may take, in bytes.
    pub(crate) fn compressed_length_max(&self) -> Result<usize> {
        self.image.compressed_length_max()
    }

    /// What decoding one frame takes at once, in bytes.
    pub(crate) fn decoding_length(&self) -> Result<usize> {
        self.image.decoding_length()
    }

    /// Bytes of a decoded frame.
    pub(crate) fn frame_length(&self) -> Result<usize> {
        self.image.frame_length()
    }

    /// Decodes a frame; what is wrong with a decoder is an error of this frame.
    pub(crate) fn decode(&self, frame: &[u8]) -> Result<Vec<u8>> {
        self.codec.decode_contained(frame, &self.image)
    }
}
