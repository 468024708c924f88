//! Single frames: as they are stored, decoded, and as pictures.

use std::ffi::c_char;
use std::sync::Arc;

use bytes::Bytes;
use dicom_dictionary_std::tags;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use pacs_core::engine::block_on;
use pacs_core::pixel::render::{PictureFormat, RenderOptions, Viewport};
use pacs_core::{DataSet, FrameReader, Result as CoreResult};

use crate::context::Context;
use crate::error::{Failure, pacs_status};
use crate::ffi::{self, Sized_, fill};
use crate::guard::{call, close};
use crate::handle::{self, Object};
use crate::instance::{Instance, Reader, admit, pacs_instance, pacs_reader};
use crate::store::pacs_source;

/// Reads single frames of an instance, never the whole of it for one frame. May be used from any thread, and from many
/// at once.
pub struct pacs_frames {
    _opaque: [u8; 0],
}

/// The object behind it.
struct Frames {
    context: Arc<Context>,
    reader: FrameReader,
}

impl Object for Frames {
    type Raw = pacs_frames;
    const KIND: u8 = 9;
    const NAME: &'static str = "frame reader";

    fn context(this: &Arc<Self>) -> Arc<Context> {
        Arc::clone(&this.context)
    }
}

/// Opens an instance for the reading of frames. `source`, which may be null, is who asks. `count`, which may be null,
/// becomes the number of frames; of a video it is 1, the whole stream. To be freed with `pacs_frames_free`.
///
/// Blocks shortly: nothing of the pixel data is read. Errors: `PACS_NOT_FOUND` when the instance has no pixel data,
/// `PACS_INVALID` or `PACS_MISMATCH` when its header doesn't say what the pixels are, what a hook says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_frames_open(
    instance: *const pacs_instance,
    source: *const pacs_source,
    frames: *mut *mut pacs_frames,
    count: *mut u32,
) -> pacs_status {
    call(instance, |instance: &Instance| {
        let out = ffi::out(frames)?;
        admit(instance, source)?;
        let reader = block_on(instance.pacs.frame_reader(&instance.record))?;
        let frames = reader.count();
        out.set(handle::insert(Frames {
            context: Arc::clone(&instance.context),
            reader,
        })?);
        if !count.is_null() {
            ffi::out(count)?.set(frames);
        }
        Ok(())
    })
}

/// Frees a frame reader; null is nothing to do.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_frames_free(frames: *mut pacs_frames) -> pacs_status {
    close::<Frames>(frames)
}

/// A frame as it is stored: of a compressed instance the bytes of its fragments, joined; of another one its cells,
/// little endian. `number` counts from 1. The reader is to be freed with `pacs_reader_free`.
///
/// Blocks: where it isn't known yet where the frames lie, the instance is read once. Errors: `PACS_NOT_FOUND` when
/// there is no such frame, `PACS_MISMATCH` when frames can't be told apart, what the archive says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_frames_read(
    frames: *const pacs_frames,
    number: u32,
    reader: *mut *mut pacs_reader,
) -> pacs_status {
    call(frames, |frames: &Frames| {
        let out = ffi::out(reader)?;
        let pieces = block_on(frames.reader.encoded(number))?;
        out.set(handle::insert(Reader::new(&frames.context, pieces))?);
        Ok(())
    })
}

/// Room for a Photometric Interpretation and NUL.
pub const PACS_PHOTOMETRIC_LENGTH: usize = 17;

/// What decoded pixels are (PS3.3 C.7.6.3.1).
#[derive(Clone, Copy)]
#[repr(C)]
pub struct pacs_pixels {
    /// `sizeof(pacs_pixels)`, set by the caller.
    pub struct_size: usize,
    /// Bytes of the frame: rows, one behind the other, without padding, little endian.
    pub length: u64,
    /// Rows (0028,0010).
    pub rows: u16,
    /// Columns (0028,0011).
    pub columns: u16,
    /// Samples per Pixel (0028,0002).
    pub samples_per_pixel: u16,
    /// Bits Allocated (0028,0100).
    pub bits_allocated: u16,
    /// Bits Stored (0028,0101).
    pub bits_stored: u16,
    /// High Bit (0028,0102).
    pub high_bit: u16,
    /// Pixel Representation (0028,0103): 1 for signed.
    pub pixel_representation: u16,
    /// Planar Configuration (0028,0006): 0 for the samples of a pixel together.
    pub planar_configuration: u16,
    /// Photometric Interpretation (0028,0004), of what came out.
    pub photometric_interpretation: [c_char; PACS_PHOTOMETRIC_LENGTH],
}

fn described(header: &DataSet, length: usize) -> pacs_pixels {
    let number = |tag| header.u16(tag).unwrap_or_default();
    pacs_pixels {
        struct_size: size_of::<pacs_pixels>(),
        length: length as u64,
        rows: number(tags::ROWS),
        columns: number(tags::COLUMNS),
        samples_per_pixel: number(tags::SAMPLES_PER_PIXEL).max(1),
        bits_allocated: number(tags::BITS_ALLOCATED),
        bits_stored: number(tags::BITS_STORED),
        high_bit: number(tags::HIGH_BIT),
        pixel_representation: number(tags::PIXEL_REPRESENTATION),
        planar_configuration: number(tags::PLANAR_CONFIGURATION),
        photometric_interpretation: fill(
            header
                .string(tags::PHOTOMETRIC_INTERPRETATION)
                .unwrap_or_default(),
        ),
    }
}

fn once(bytes: Bytes) -> BoxStream<'static, CoreResult<Bytes>> {
    stream::iter([Ok(bytes)]).boxed()
}

/// The pixels of a frame, decoded. `number` counts from 1. The reader is to be freed with `pacs_reader_free`; until
/// then its bytes count among those that one engine hands out at once.
///
/// Blocks. Errors: as `pacs_frames_read`; `PACS_UNSUPPORTED` when the transfer syntax is not decoded here,
/// `PACS_MISMATCH` when the frame is damaged, `PACS_OUT_OF_RESOURCES` when too many decoded frames are held.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_frames_decode(
    frames: *const pacs_frames,
    number: u32,
    pixels: *mut pacs_pixels,
    reader: *mut *mut pacs_reader,
) -> pacs_status {
    call(frames, |frames: &Frames| {
        let (pixels, out) = (ffi::out_sized(pixels)?, ffi::out(reader)?);
        let decoded = block_on(frames.reader.decoded(number))?;
        let what = described(&decoded.header, decoded.pixels.len());
        out.set(handle::insert(Reader::new(
            &frames.context,
            once(decoded.pixels),
        ))?);
        pixels.set(what);
        Ok(())
    })
}

/// Of what format a picture is: a number that `pacs_picture` takes as `int32_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum pacs_picture_format {
    /// PNG, without loss.
    PACS_PICTURE_PNG = 0,
    /// JPEG.
    PACS_PICTURE_JPEG = 1,
}

/// What picture is asked for. Zero is the default of every field but the first.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct pacs_picture {
    /// `sizeof(pacs_picture)`.
    pub struct_size: usize,
    /// The frame, from 1; 0 for the one that stands for all.
    pub frame: u32,
    /// A `pacs_picture_format`.
    pub format: i32,
    /// Quality of JPEG, 1 to 100; 0 for 90.
    pub quality: u32,
    /// Width that the picture is to fit into; 0 with `height` 0 for the frame's own size.
    pub width: u32,
    /// Height that the picture is to fit into.
    pub height: u32,
    /// Window centre and width, and after a further comma `linear`, `linear-exact` or `sigmoid` (PS3.18 8.3.5.1.4), as
    /// in `"40,400,linear"`; null for the instance's own.
    pub window: *const c_char,
}

// SAFETY: it begins with its size, and all zero is the default.
unsafe impl Sized_ for pacs_picture {
    const FIRST_SIZE: usize = 40;
}

/// Draws a frame as a picture, as a viewer shows it. `picture` and `source` may be null. The reader is to be freed with
/// `pacs_reader_free`.
///
/// Blocks. Errors: as `pacs_frames_open` and `pacs_frames_decode`; `PACS_INVALID` for a window or a size that can't be.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pacs_instance_render(
    instance: *const pacs_instance,
    source: *const pacs_source,
    picture: *const pacs_picture,
    reader: *mut *mut pacs_reader,
) -> pacs_status {
    call(instance, |instance: &Instance| {
        let out = ffi::out(reader)?;
        admit(instance, source)?;
        let asked = ffi::optional_sized(picture)?;
        let mut options = RenderOptions::default();
        let mut format = PictureFormat::Png;
        if let Some(asked) = &asked {
            format = match (asked.format, asked.quality) {
                (0, _) => PictureFormat::Png,
                (1, 0) => PictureFormat::Jpeg { quality: 90 },
                (1, quality @ 1..=100) => PictureFormat::Jpeg {
                    quality: quality as u8,
                },
                (1, _) => return Err(Failure::argument("a quality is 1 to 100")),
                _ => return Err(Failure::argument("a format is one of pacs_picture_format")),
            };
            if let Some(window) = ffi::optional_text(asked.window)? {
                options.window = Some(window.parse()?);
            }
            if (asked.width, asked.height) != (0, 0) {
                options.viewport = Some(Viewport::new(asked.width, asked.height));
            }
        }
        let drawn = block_on(async {
            let renderer = instance.pacs.renderer(&instance.record).await?;
            let frame = match asked.map_or(0, |asked| asked.frame) {
                0 => renderer.representative_frame(),
                frame => frame,
            };
            renderer.encoded(&[frame], &options, format).await
        })?;
        out.set(handle::insert(Reader::new(
            &instance.context,
            once(drawn.into()),
        ))?);
        Ok(())
    })
}
