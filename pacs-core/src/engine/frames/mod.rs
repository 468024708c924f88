//! One frame out of many, never a whole instance for one frame: [`FrameReader`].

#[cfg(feature = "pixel")]
mod decoded;
mod fragments;
mod native;
mod tables;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use dicom_dictionary_std::{tags, uids};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};

#[cfg(feature = "pixel")]
pub use self::decoded::DecodedFrame;
use self::native::Cells;
use self::tables::repeated;
pub(super) use self::tables::{Known, Tables};
use super::{Inner, Pacs, outgoing};
use crate::dataset::metadata::Metadata;
use crate::dataset::recode::is_native;
use crate::dataset::{DataSet, FrameExtent, FrameTable, syntax};
use crate::error::{Error, ErrorKind, Result};
use crate::index::InstanceRecord;
use crate::limits;
#[cfg(feature = "pixel")]
use crate::pixel::can_transcode;
use crate::uid::Uid;

/// Explicit VR Little Endian.
const EXPLICIT: Uid = Uid::constant(uids::EXPLICIT_VR_LITTLE_ENDIAN);

/// The transfer syntaxes in which a frame of an instance that is stored in `stored` can be handed out, best
/// first: the one that [`FrameReader::encoded`] has it in, then, where compressed frames can be decoded,
/// Explicit VR Little Endian, in which `FrameReader::decoded` has it. A particular frame may still fail.
pub fn frame_transfer_syntaxes(stored: &Uid) -> Vec<Uid> {
    if is_native(stored) {
        return vec![EXPLICIT];
    }
    #[cfg_attr(not(feature = "pixel"), allow(unused_mut))]
    let mut all = vec![*stored];
    #[cfg(feature = "pixel")]
    all.extend(can_transcode(stored, &[EXPLICIT]).map(|target| target.uid()));
    all
}

impl Pacs {
    /// Opens an instance for the reading of single frames.
    ///
    /// Nothing of the pixel data is read for it.
    ///
    /// # Errors
    /// - `NotFound` when the instance has no pixel data.
    /// - `Invalid` when an attribute that describes the pixels is missing, `Mismatch` when the pixel data is
    ///   not encapsulated and its transfer syntax says so, or the other way round.
    /// - `Unsupported` when native cells have a size that is not read here: see [`FrameReader::encoded`].
    /// - What the archive says.
    pub async fn frame_reader(&self, record: &InstanceRecord) -> Result<FrameReader> {
        let metadata = self.metadata(record).await?;
        FrameReader::new(Arc::clone(&self.inner), record.clone(), metadata).map_err(Error::about_kept)
    }
}

/// Reads single frames of one instance. Holds its header, and its frame table while that is used.
pub struct FrameReader {
    pacs: Arc<Inner>,
    record: InstanceRecord,
    metadata: Arc<Metadata>,
    count: u32,
    form: Form,
    #[cfg(feature = "pixel")]
    described: decoded::Described,
}

/// How the frames lie.
enum Form {
    Native(Cells),
    /// In fragments (PS3.5 A.4).
    Encapsulated(Known),
}

impl FrameReader {
    fn new(pacs: Arc<Inner>, record: InstanceRecord, metadata: Arc<Metadata>) -> Result<Self> {
        let Some(pixel_data) = metadata.pixel_data else {
            return Err(error(ErrorKind::NotFound, "the instance has no pixel data"));
        };
        let native = is_native(&record.transfer_syntax);
        let form = match pixel_data.length {
            Some(length) if native => Form::Native(Cells::of(
                &metadata.header,
                &pixel_data,
                length,
                &record.transfer_syntax,
            )?),
            None if !native => Form::Encapsulated(pacs.frame_table(&record)),
            _ => {
                let what = "the pixel data is not encapsulated as its transfer syntax says";
                return Err(error(ErrorKind::Mismatch, what).with_tag(tags::PIXEL_DATA));
            }
        };
        let length = record.length.saturating_sub(record.data_set_offset);
        let most = match &form {
            _ if syntax::is_video(&record.transfer_syntax) => 1,
            Form::Native(cells) => cells.frames_within(length),
            // Each has the header of an item, and an entry in the frame table.
            Form::Encapsulated(_) => {
                let items = length.saturating_sub(pixel_data.offset) / 8;
                items.min(limits::FRAME_TABLE_ENTRIES_MAX as u64)
            }
        };
        let most = u32::try_from(most).unwrap_or(u32::MAX).max(1);
        let count = number_of_frames(&metadata.header).min(most);
        Ok(Self {
            pacs,
            record,
            metadata,
            count,
            form,
            #[cfg(feature = "pixel")]
            described: decoded::Described::default(),
        })
    }

    /// How many frames the instance has: its Number of Frames (0028,0008), 1 where it has none. It is never more
    /// than the stored bytes can hold: of native pixel data that is cut off, those that are there whole or in part.
    /// Of a video
    /// (MPEG-2, MPEG-4, HEVC) it is 1: its frames are inside one stream (PS3.5 8.2.5 to 8.2.8), which is handed
    /// out whole, as frame 1.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// All of the instance but its bulk data.
    pub fn metadata(&self) -> &Arc<Metadata> {
        &self.metadata
    }

    /// The header of its [`metadata`](Self::metadata).
    pub fn header(&self) -> &DataSet {
        &self.metadata.header
    }

    /// One frame as it is stored, in pieces of bounded size. `number` counts from 1.
    ///
    /// Of a compressed instance these are the bytes of the frame's fragments, joined, with the byte that may
    /// make the last one even (PS3.5 A.4): what a receiver of its transfer syntax expects. Of a native one they
    /// are its cells as in Explicit VR Little Endian (PS3.18 8.7.3.3): big-endian words are swapped, and where
    /// cells of one bit begin inside a byte, all are shifted, so that the frame begins at bit 0 and the last
    /// byte ends with zeros (PS3.5 8.1.1).
    ///
    /// It is one range read of the archive; of a deflated instance, all up to the frame is inflated. Where no
    /// frame table is known, the instance is read once to make it, whoever asks meanwhile waits for the same
    /// one, and the index keeps it.
    ///
    /// # Errors
    /// - `NotFound` when the instance has no frame of this number.
    /// - `Mismatch` when there are fewer frames in the pixel data than its header says, when frames can't be told
    ///   apart, or when the pixel data ends inside the frame.
    /// - `OutOfResources` when there is no room to make the frame table now.
    /// - What the archive or the index says, also as an item of the stream.
    pub async fn encoded(&self, number: u32) -> Result<BoxStream<'static, Result<Bytes>>> {
        let at = self.position(number)?;
        match &self.form {
            Form::Native(cells) => {
                let pieces = cells.read(&*self.pacs.archive, &self.record, at)?;
                Ok(pieces.map_err(Error::about_kept).boxed())
            }
            Form::Encapsulated(_) => {
                let extent = self.extent(at).await?;
                let pieces = fragments::read(&*self.pacs.archive, &self.record, extent);
                Ok(pieces.map_err(Error::about_kept).boxed())
            }
        }
    }

    /// The place of a frame among the others, from 0.
    fn position(&self, number: u32) -> Result<u32> {
        match number.checked_sub(1) {
            Some(at) if at < self.count => Ok(at),
            _ => {
                let what = format!("there is no frame {number}: the instance has {}", self.count);
                Err(error(ErrorKind::NotFound, what))
            }
        }
    }

    /// Where an encapsulated frame lies: inside the stored data set.
    async fn extent(&self, at: u32) -> Result<FrameExtent> {
        let Form::Encapsulated(table) = &self.form else {
            return Err(error(ErrorKind::Internal, "native pixel data has no frame table"));
        };
        let table: Arc<FrameTable> = table.clone().await.map_err(|failed| repeated(&failed))?;
        let found = match &table.frames[..] {
            // What an offset table tells apart is one frame all the same.
            [first, .., last] if self.count == 1 => Some(FrameExtent {
                offset: first.offset,
                length: (last.offset + last.length).saturating_sub(first.offset),
            }),
            frames => frames.get(at as usize).copied(),
        };
        let Some(extent) = found else {
            let what = format!(
                "{} frames are in the pixel data where the data set describes {}",
                table.frames.len(),
                self.count
            );
            return Err(error(ErrorKind::Mismatch, what).with_tag(tags::NUMBER_OF_FRAMES));
        };
        let length = self.record.length.saturating_sub(self.record.data_set_offset);
        match extent.offset.checked_add(extent.length) {
            Some(end) if end <= length => Ok(extent),
            _ => Err(cut_off()),
        }
    }
}

impl fmt::Debug for FrameReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameReader")
            .field("instance", &self.record.key.instance)
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}

fn number_of_frames(header: &DataSet) -> u32 {
    let text = header.string(tags::NUMBER_OF_FRAMES);
    let number = text.and_then(|text| text.trim().parse::<u32>().ok());
    number.unwrap_or(1).max(1)
}

fn error(kind: ErrorKind, context: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(kind, "engine.frames", context)
}

/// What is answered where the instance was cut short before it came here.
fn cut_off() -> Error {
    error(ErrorKind::Mismatch, "the pixel data ends inside the frame").with_tag(tags::PIXEL_DATA)
}
