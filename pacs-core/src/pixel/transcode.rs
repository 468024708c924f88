//! [`transcode`]: an instance on its way out, in a transfer syntax that its receiver takes.

use std::sync::Arc;

use bytes::Bytes;
use dicom_core::VR;
use dicom_dictionary_std::tags;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};

use super::codec::{Codec, unsupported};
use super::frames::Frames;
use super::image::Image;
use super::room::DecodingRoom;
use crate::budget::Share;
use crate::dataset::recode::{Event, Overrides, PixelEvent, Recoder, Target, is_native, recode};
use crate::dataset::scan::Scanner;
use crate::dataset::{DataSet, FrameTable};
use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::uid::Uid;

type Source = BoxStream<'static, Result<Bytes>>;

/// Hands out a data set that is stored in the transfer syntax `from` in `target`.
///
/// `data_set` are its bytes without preamble and File Meta Information; `frames` is its frame table,
/// when the caller has one. Compressed pixel data is decoded, frame by frame: memory follows the size
/// of a frame, and what stands before the pixel data. Attributes that describe the pixels say what was
/// decoded (PS3.5 8.2):
/// - RGB where a lossy JPEG or JPEG XL, YBR_RCT, YBR_ICT or YBR_PARTIAL was; YBR_FULL where YBR_FULL_422 was and
///   no colours were converted. PALETTE COLOR and everything else stays.
/// - Planar Configuration is 0; RLE keeps what is labelled.
/// - Lossy Image Compression stays, and is added to what was JPEG with loss.
/// - Icon Image Sequence is left out when the icon is compressed too.
///
/// What can be known to fail fails before the first byte is handed out: this waits until the first
/// frame is decoded. A later frame that can't be decoded is an error of the stream, which then ends.
///
/// The data set's SOP Instance UID stays: its pixels are the ones it had.
///
/// `overrides` stand in place of what is stored: for an instance that was coerced those of
/// [`coercion::overrides`](crate::dataset::coercion::overrides). What describes the pixels is not for them.
///
/// What a stream holds, a frame compressed and decoded, is counted in `room` until the stream is dropped, and what
/// decoding takes while a frame is decoded: this, and the stream, wait while that is used up.
///
/// # Errors
/// With a context that says why, fit for an Error Comment: `Unsupported` when the transfer syntax, or
/// a way of coding used in it, is not decoded here; `Mismatch` when frames are not what the data set
/// says of them; `Invalid` when they are damaged; those of the [`Recoder`], and those of `data_set`.
pub async fn transcode(
    from: &Uid,
    data_set: BoxStream<'static, Result<Bytes>>,
    frames: Option<Arc<FrameTable>>,
    target: Target,
    overrides: Overrides,
    room: &DecodingRoom,
) -> Result<BoxStream<'static, Result<Bytes>>> {
    let mut running: Source = if is_native(from) {
        recode(Recoder::new(from, target, overrides)?, data_set)
    } else {
        let codec = Codec::of(from)
            .ok_or_else(|| unsupported(format!("nothing here decodes transfer syntax {from}")))?;
        Transcoder::open(from, codec, data_set, frames, target, overrides, room)
            .await?
            .run()
            .await?
    };
    // An error at the start is the caller's answer, not the stream's.
    let first: Option<Bytes> = running.try_next().await?;
    Ok(stream::iter(first.map(Ok)).chain(running).boxed())
}

/// What runs while compressed pixel data is decoded.
struct Transcoder {
    source: Source,
    recoder: Recoder,
    /// `None` for a data set without pixels.
    pixels: Option<Pixels>,
    finished: bool,
}

struct Pixels {
    codec: Codec,
    image: Arc<Image>,
    frames: Frames,
    room: DecodingRoom,
    decoded: u64,
    ended: bool,
    /// What the stream holds.
    _share: Share,
}

impl Transcoder {
    /// Reads up to the pixel data, to know what is to be decoded and how it is labelled.
    async fn open(
        from: &Uid,
        codec: Codec,
        mut source: Source,
        table: Option<Arc<FrameTable>>,
        target: Target,
        overrides: Overrides,
        room: &DecodingRoom,
    ) -> Result<Self> {
        let mut scanner = Scanner::new(from);
        let mut head = Vec::new();
        while scanner.at_pixel_data().is_none()
            && let Some(bytes) = source.try_next().await?
        {
            if scanner.length() > limits::TRANSCODED_HEADER_LENGTH_MAX_BYTES as u64 {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    "instance.transcode",
                    "what stands before the pixel data is longer than what is held",
                ));
            }
            scanner.push(&bytes)?;
            head.push(bytes);
        }
        let header: DataSet = scanner.header_so_far();
        let pixels = match scanner.at_pixel_data() {
            Some(place) if place.tag == tags::PIXEL_DATA => {
                let image = Image::of(&header, codec)?;
                // Before any thread and memory is taken.
                image.length()?;
                let share = room.stream(image.streaming_length()?).await;
                let frames = Frames::new(&image, table, codec.frame_is_fragment())?;
                Some(Pixels {
                    codec,
                    image: Arc::new(image),
                    frames,
                    room: room.clone(),
                    decoded: 0,
                    ended: false,
                    _share: share,
                })
            }
            _ => None,
        };
        let mut labels = pixels
            .as_ref()
            .map_or_else(Overrides::default, |pixels| pixels.image.labels(codec, &header));
        labels.charset = overrides.charset;
        labels.remove.extend(overrides.remove);
        let said: DataSet = std::mem::take(&mut labels.put);
        labels.put = overrides.put.into_iter().chain(said).collect();
        if header.contains(tags::ICON_IMAGE_SEQUENCE) && has_compressed_icon(from, &head)? {
            labels.remove.push(tags::ICON_IMAGE_SEQUENCE);
        }
        Ok(Self {
            source: stream::iter(head.into_iter().map(Ok)).chain(source).boxed(),
            recoder: Recoder::capturing(from, target, labels)?,
            pixels,
            finished: false,
        })
    }

    /// Goes on until the first frame is decoded, then hands out what there is and what comes.
    async fn run(mut self) -> Result<Source> {
        let mut head = Vec::new();
        let mut ended = false;
        while !ended && self.pixels.as_ref().is_some_and(|pixels| pixels.decoded == 0) {
            match self.next().await? {
                Some(piece) => head.push(Ok(piece)),
                None => ended = true,
            }
        }
        let rest = stream::try_unfold(self, |mut transcoder| async move {
            let piece = transcoder.next().await?;
            Ok(piece.map(|piece| (piece, transcoder)))
        });
        Ok(stream::iter(head).chain(rest).boxed())
    }

    /// The next piece; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            let walk = self.recoder.walk();
            if let Some(piece) = walk.out.pop() {
                return Ok(Some(piece));
            }
            if let Some(pixels) = &mut self.pixels {
                if let Some(frame) = pixels.frames.next() {
                    // Frames beyond Number of Frames are nobody's.
                    if pixels.decoded < pixels.image.frames {
                        let (codec, image) = (pixels.codec, Arc::clone(&pixels.image));
                        let length = image.decoding_length()?;
                        let decode = move |_: &dyn Fn() -> bool| codec.decode_contained(&frame, &image);
                        let decoded = Bytes::from(pixels.room.work(length, decode).await?);
                        pixels.decoded += 1;
                        walk.out.value(decoded);
                    }
                    continue;
                }
                if std::mem::take(&mut pixels.ended) {
                    pixels.check_count()?;
                    if pixels.image.frame_length()? as u64 * pixels.image.frames % 2 == 1 {
                        walk.out.put(&[0]);
                    }
                    continue;
                }
            }
            match walk.step()? {
                Event::Output => {}
                Event::Pixel(event) => self.pixel(event)?,
                Event::Starved if self.finished => {
                    walk.out.finish();
                    return Ok(walk.out.pop());
                }
                Event::Starved => match self.source.next().await {
                    Some(bytes) => walk.push(bytes?),
                    None => {
                        self.finished = true;
                        walk.finish()?;
                    }
                },
            }
        }
    }

    fn pixel(&mut self, event: PixelEvent) -> Result<()> {
        let Some(pixels) = &mut self.pixels else {
            return Ok(());
        };
        match event {
            PixelEvent::Begin => {
                // PS3.5 A.2: OW above 8 bits.
                let vr = if pixels.image.sample_bytes > 1 {
                    VR::OW
                } else {
                    VR::OB
                };
                let length = pixels.image.length()?;
                self.recoder.walk().out.header(tags::PIXEL_DATA, vr, length);
            }
            PixelEvent::Fragment { offset } => pixels.frames.fragment(offset),
            PixelEvent::Data(bytes) => pixels.frames.data(bytes)?,
            PixelEvent::End => {
                pixels.frames.end();
                pixels.ended = true;
            }
        }
        Ok(())
    }
}

/// Whether what stands before the pixel data holds compressed pixel data in its icon: that can't be
/// said in a native transfer syntax.
fn has_compressed_icon(from: &Uid, head: &[Bytes]) -> Result<bool> {
    let mut trial = Recoder::capturing(from, Target::ExplicitLittleEndian, Overrides::default())?;
    for bytes in head {
        trial.push(bytes.clone());
        loop {
            match trial.next_piece() {
                Ok(Some(_)) => {}
                Ok(None) => break,
                // Any other error is met again, and answered, by the recoder that counts.
                Err(error) => {
                    return Ok(error.kind() == ErrorKind::Unsupported && error.tags() == [tags::PIXEL_DATA]);
                }
            }
        }
    }
    Ok(false)
}

impl Pixels {
    fn check_count(&self) -> Result<()> {
        if self.decoded == self.image.frames {
            return Ok(());
        }
        let context = format!(
            "{} frames are in the pixel data where the data set describes {}",
            self.decoded, self.image.frames
        );
        Err(Error::new(ErrorKind::Mismatch, "instance.transcode", context).with_tag(tags::NUMBER_OF_FRAMES))
    }
}

#[cfg(test)]
mod tests;
