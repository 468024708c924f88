//! Pictures of kept instances: [`Renderer`].

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use dicom_core::Tag;
use dicom_dictionary_std::tags;
use futures::TryStreamExt;

use super::frames::FrameReader;
use super::{Inner, Pacs};
use crate::dataset::metadata::{BulkValue, ElementPath, Metadata};
use crate::dataset::{DataSet, Element, Value};
use crate::error::{Error, ErrorKind, Result};
use crate::index::InstanceRecord;
use crate::limits::RENDERED_VALUES_LENGTH_MAX_BYTES;
use crate::pixel::render::{self, Picture, PictureFormat, PresentationState, RenderOptions};

/// The time between the pictures of an animation where the instance doesn't say it.
const FRAME_TIME: Duration = Duration::from_millis(100);

impl Pacs {
    /// Opens an instance to make pictures of its frames.
    ///
    /// ```
    /// use pacs_core::pixel::render::{PictureFormat, RenderOptions};
    /// use pacs_core::{InstanceRecord, Pacs, Renderer, Result};
    ///
    /// /// The frame that stands for the instance, as a PNG.
    /// async fn png(pacs: &Pacs, record: &InstanceRecord) -> Result<Vec<u8>> {
    ///     let renderer: Renderer = pacs.renderer(record).await?;
    ///     let frame = renderer.representative_frame();
    ///     renderer.encoded(&[frame], &RenderOptions::default(), PictureFormat::Png).await
    /// }
    /// ```
    ///
    /// # Errors
    /// Those of [`frame_reader`](Self::frame_reader) and [`metadata`](Self::metadata); `Unsupported` when its
    /// lookup tables, overlays and the like are longer than what is held.
    pub async fn renderer(&self, record: &InstanceRecord) -> Result<Renderer> {
        let reader = self.frame_reader(record).await?;
        let values = self.drawn_values(record, reader.metadata()).await?;
        Ok(Renderer {
            pacs: Arc::clone(&self.inner),
            reader,
            values,
            header: OnceLock::new(),
        })
    }

    /// Reads a presentation state (PS3.3 A.33) that is kept, for [`RenderOptions`].
    ///
    /// # Errors
    /// Those of [`PresentationState::read`] and [`metadata`](Self::metadata).
    pub async fn presentation_state(&self, record: &InstanceRecord) -> Result<PresentationState> {
        let metadata = self.metadata(record).await?;
        let mut header = metadata.header.clone();
        for (path, element) in self.drawn_values(record, &metadata).await? {
            put(&mut header, &path, element);
        }
        PresentationState::read(&header)
    }

    /// The large values that drawing needs.
    async fn drawn_values(
        &self,
        record: &InstanceRecord,
        metadata: &Metadata,
    ) -> Result<Vec<(ElementPath, Element)>> {
        let mut values = Vec::new();
        let mut held = 0;
        for value in metadata.bulk.iter().filter(|value| is_drawn(value)) {
            let length = value.length.unwrap_or(u64::MAX);
            if length > RENDERED_VALUES_LENGTH_MAX_BYTES - held {
                let what = "what is needed to draw the instance is longer than what is held";
                let error = Error::new(ErrorKind::Unsupported, "engine.render", what);
                return Err(error.with_tag(value.path.tag()));
            }
            held += length;
            let pieces: Vec<_> = self.read_bulk(record, value, 0..length).try_collect().await?;
            let element = Element {
                tag: value.path.tag(),
                vr: value.vr,
                value: Value::Bytes(pieces.concat().into()),
            };
            values.push((value.path.clone(), element));
        }
        Ok(values)
    }
}

fn is_drawn(value: &BulkValue) -> bool {
    let around = value.path.items().map(|(sequence, _)| sequence);
    let path: Vec<Tag> = around.chain([value.path.tag()]).collect();
    render::needs(&path)
}

/// Puts an element at its place, where there is one.
fn put(set: &mut DataSet, path: &ElementPath, element: Element) {
    let steps: Vec<(Tag, u32)> = path.items().collect();
    put_within(set, &steps, element);
}

fn put_within(set: &mut DataSet, steps: &[(Tag, u32)], element: Element) {
    let Some((&(sequence, number), rest)) = steps.split_first() else {
        set.put(element);
        return;
    };
    let Some(mut outer) = set.remove(sequence) else {
        return;
    };
    if let Value::Items(items) = &mut outer.value
        && let Some(item) = items.get_mut((number as usize).wrapping_sub(1))
    {
        put_within(item, rest, element);
    }
    set.put(outer);
}

/// Makes pictures of the frames of one instance.
pub struct Renderer {
    pacs: Arc<Inner>,
    reader: FrameReader,
    values: Vec<(ElementPath, Element)>,
    /// What describes decoded frames, whole.
    header: OnceLock<Arc<DataSet>>,
}

impl std::fmt::Debug for Renderer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Renderer")
            .field("reader", &self.reader)
            .finish_non_exhaustive()
    }
}

impl Renderer {
    /// How many frames the instance has: see [`FrameReader::count`].
    pub fn count(&self) -> u32 {
        self.reader.count()
    }

    /// The frame that stands for all, from 1: Representative Frame Number (0028,6010), else the first.
    pub fn representative_frame(&self) -> u32 {
        let number = self
            .reader
            .header()
            .u16(tags::REPRESENTATIVE_FRAME_NUMBER)
            .map(u32::from);
        number
            .filter(|number| (1..=self.count()).contains(number))
            .unwrap_or(1)
    }

    /// How long each frame of an animation is shown: as the instance says, else a tenth of a second.
    pub fn frame_time(&self) -> Duration {
        render::default_frame_time(self.reader.header()).unwrap_or(FRAME_TIME)
    }

    /// Draws a frame, counted from 1.
    ///
    /// It is read, decoded and drawn on a thread of its own, so that what is wrong with it is an error of this call
    /// alone. All that one engine decodes and draws at once shares
    /// [`DECODING_LENGTH_MAX_BYTES`](crate::limits::DECODING_LENGTH_MAX_BYTES): this waits while that is used up.
    ///
    /// # Errors
    /// Those of [`FrameReader::decoded`] and [`render`](render::render).
    pub async fn picture(&self, number: u32, options: &RenderOptions) -> Result<Picture> {
        let drawn = self
            .drawn(&[number], options, |mut pictures| Ok(pictures.pop()))
            .await?;
        drawn.ok_or_else(|| failed("no picture was drawn"))
    }

    /// Draws these frames as one picture: several as an animation, all on one thread.
    ///
    /// # Errors
    /// Those of [`picture`](Self::picture) and [`encode`](render::encode), whose `Invalid` comes before anything is
    /// drawn where frames make pictures of several sizes.
    pub async fn encoded(
        &self,
        numbers: &[u32],
        options: &RenderOptions,
        format: PictureFormat,
    ) -> Result<Vec<u8>> {
        if let (&[first, _, ..], PictureFormat::Gif { .. }) = (numbers, format) {
            let (width, height) = render::picture_size(self.reader.header(), first, options)?;
            render::check_animation(numbers.len() as u64, width, height)?;
        }
        self.drawn(numbers, options, move |pictures| {
            render::encode(&pictures, format)
        })
        .await
    }

    /// Draws frames and does something with the pictures. Room for all of that is taken at once: who has some must
    /// not wait for more.
    async fn drawn<T: Send + 'static>(
        &self,
        numbers: &[u32],
        options: &RenderOptions,
        finish: impl FnOnce(Vec<Picture>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let decoding = self.reader.decoding()?;
        let mut size = None;
        let mut frames = Vec::with_capacity(numbers.len());
        for &number in numbers {
            let this = render::picture_size(self.reader.header(), number, options)?;
            if *size.get_or_insert(this) != this {
                let what = format!("the picture of frame {number} has another size than the first one");
                return Err(Error::new(ErrorKind::Invalid, "engine.render", what));
            }
            frames.push((number, self.reader.encoded(number).await?));
        }
        let (width, height) = size.unwrap_or_default();
        let pixels = (width as usize).saturating_mul(height as usize);
        // The picture, and as much on the way to it; of several all, and what they are encoded to.
        let drawing = pixels.saturating_mul(6).saturating_add(decoding.frame_length()?);
        let kept = match numbers.len() {
            0 | 1 => 0,
            several => pixels.saturating_mul(4).saturating_mul(several),
        };
        let length = decoding.length()?.max(drawing).saturating_add(kept);
        let header = Arc::clone(self.header.get_or_init(|| {
            if self.values.is_empty() {
                return Arc::clone(&decoding.header);
            }
            let mut header = DataSet::clone(&decoding.header);
            for (path, element) in &self.values {
                put(&mut header, path, element.clone());
            }
            Arc::new(header)
        }));
        let options = options.clone();
        let draw = move |goes_on: &dyn Fn() -> bool| {
            let mut pictures = Vec::with_capacity(frames.len());
            for (number, pieces) in frames {
                if !goes_on() {
                    return Err(failed("nobody waits for the picture"));
                }
                let pixels = decoding.decode(pieces)?;
                pictures.push(render::render(&header, &pixels, number, &options)?);
            }
            finish(pictures)
        };
        self.pacs.decoding.work(length, draw).await
    }
}

fn failed(what: &'static str) -> Error {
    Error::new(ErrorKind::Internal, "engine.render", what)
}
