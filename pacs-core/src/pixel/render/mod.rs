//! Rendered pictures (feature `render`): one decoded frame, by what its header says and what is asked for, to
//! pixels that a browser shows (PS3.18 8.3.5; the pipelines of PS3.4 N.2).
//!
//! - [`render`] makes a [`Picture`] of a frame, as [`RenderOptions`] ask; [`picture_size`] tells its size before.
//! - [`encode`] makes PNG, JPEG or GIF of one or more; [`default_frame_time`] is the time between them.
//! - [`PresentationState`] says how other instances are displayed.
//! - [`needs`] tells which large values the header must hold.
//!
//! # What is done, in order
//! 1. **Samples** by Bits Stored, High Bit and Pixel Representation, also of 1 bit and of float values.
//! 2. **Gray**: Modality LUT (rescale or table), VOI LUT (table, else window), Presentation LUT; each of the
//!    frame's functional groups before those of the data set. Without any VOI, the smallest value of the frame is
//!    black and the largest white, where pixel padding doesn't count. MONOCHROME1 is inverted.
//!    **Colour**: PALETTE COLOR, RGB, and YBR_FULL or YBR_PARTIAL in full or subsampled to 4:2:2. YBR_RCT, YBR_ICT
//!    and XYB name what decoders undo: they are taken for RGB.
//! 3. **Display shutter** and **overlays** (graphics, not regions of interest) of the image; or those of the
//!    presentation state in their place.
//! 4. **Displayed area, viewport, rotation and flip**; pixels that aren't square are stretched.
//! 5. **Graphics and text** of the presentation state, then what `annotation` asks for.
//!
//! A presentation state that refers to the frame stands in place of the image's own Modality, VOI and
//! Presentation LUT, also where it has none (PS3.4 N.2.1).
//!
//! Memory is the picture's, at most [`limits::PICTURE_PIXELS_MAX`], and a few rows. Nothing here is worth a
//! thread's contention or an await: call it where blocking is allowed.

mod annotate;
mod canvas;
mod color;
mod described;
mod encode;
mod frame;
mod geometry;
mod gray;
mod lut;
mod options;
mod overlay;
mod palette;
mod resample;
mod samples;
mod shutter;
mod state;
#[cfg(test)]
mod tests;

use dicom_core::Tag;
use dicom_dictionary_std::tags;

pub use self::encode::{PictureFormat, check_animation, default_frame_time, encode};
pub use self::options::{Annotation, RenderOptions, Viewport, VoiFunction, Window};
pub use self::state::{PresentationState, Reference};

use self::described::{Described, required};
use self::frame::Frame;
use self::geometry::{Geometry, Region, Turn, aspect};
use self::resample::{Image, resample};
use crate::dataset::DataSet;
use crate::error::Result;
#[cfg(doc)]
use crate::limits;

/// A rendered picture.
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    /// Pixels of a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// 1 for gray, 3 for red, green and blue.
    pub channels: u8,
    /// Row by row from the top, a byte for each channel of each pixel.
    pub pixels: Vec<u8>,
}

impl std::fmt::Debug for Picture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Picture of {} by {} pixels, {} channels",
            self.width, self.height, self.channels
        )
    }
}

/// Renders a frame.
///
/// `header` describes `frame` as it is: decoded, in little endian; of Bits Allocated 1 it begins with the lowest
/// bit of its first byte. It holds what [`needs`] tells, also where that is large. `number` is the frame's, from
/// 1: by it its functional groups and overlays are found.
///
/// # Errors
/// `Invalid` when a window is none or a viewport shows nothing; `Mismatch` when the header can't be understood, a
/// lookup table is missing or the frame is shorter than described; `Unsupported` for colour spaces and cells that aren't
/// rendered, and for a picture beyond [`limits::PICTURE_PIXELS_MAX`]. All are about what was sent or asked for.
pub fn render(header: &DataSet, frame: &[u8], number: u32, options: &RenderOptions) -> Result<Picture> {
    let described = Described { header, number };
    let instance = header.string(tags::SOP_INSTANCE_UID).unwrap_or_default();
    let state = state_of(&described, options);
    let geometry = geometry(&described, options)?;
    let frame = Frame::new(&described, frame, options.window.as_ref(), state)?;
    let region = geometry.region;
    let (width, height) = geometry.size_before_turn();
    let image = Image {
        width: frame.columns(),
        height: frame.rows(),
        channels: frame.channels(),
        row: |y, row: &mut [u8]| frame.row(y, row),
    };
    let pixels = resample(
        image,
        [region.x, region.y, region.width, region.height],
        width,
        height,
    );
    let mut picture = Picture {
        width: geometry.width,
        height: geometry.height,
        channels: frame.channels() as u8,
        pixels: geometry.turn.apply(pixels, width, height, frame.channels()),
    };
    if let Some(state) = state {
        state.draw(instance, number, &geometry, &mut picture);
    }
    annotate::annotate(header, options.annotation, number, &mut picture);
    Ok(picture)
}

/// Width and height of the picture that [`render`] makes of a frame, which need not be decoded to know.
///
/// # Errors
/// Those of [`render`] that are about the size.
pub fn picture_size(header: &DataSet, number: u32, options: &RenderOptions) -> Result<(u32, u32)> {
    let geometry = geometry(&Described { header, number }, options)?;
    Ok((geometry.width, geometry.height))
}

/// The presentation state, if it is about the frame.
fn state_of<'a>(described: &Described<'_>, options: &'a RenderOptions) -> Option<&'a PresentationState> {
    let instance = described
        .header
        .string(tags::SOP_INSTANCE_UID)
        .unwrap_or_default();
    let state = options.presentation_state.as_deref();
    state.filter(|state| state.refers_to(instance, described.number))
}

fn geometry(described: &Described<'_>, options: &RenderOptions) -> Result<Geometry> {
    let header = described.header;
    let (rows, columns) = (required(header, tags::ROWS)?, required(header, tags::COLUMNS)?);
    if rows == 0 || columns == 0 {
        return Err(described::unreadable("an image without rows or columns"));
    }
    let whole = Region::whole(columns, rows);
    let instance = header.string(tags::SOP_INSTANCE_UID).unwrap_or_default();
    let state = state_of(described, options);
    let region = state.and_then(|state| state.region(instance, described.number));
    let ratio = state.and_then(|state| state.aspect(instance, described.number));
    Geometry::new(
        region.unwrap_or(whole),
        state.map_or(Turn::default(), PresentationState::turn),
        ratio.unwrap_or_else(|| aspect(described)),
        whole,
        options.viewport.as_ref(),
    )
}

/// Whether [`render`] or [`PresentationState::read`] needs the whole value of an element that may be large:
/// lookup tables, overlays, what is drawn and shutters. `path` is its tag, with those of the sequences around it
/// before it.
pub fn needs(path: &[Tag]) -> bool {
    let Some((&tag, around)) = path.split_last() else {
        return false;
    };
    // An icon has a palette of its own.
    !around.contains(&tags::ICON_IMAGE_SEQUENCE)
        && (matches!(
            tag,
            tags::LUT_DATA
                | tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DATA
                | tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DATA
                | tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DATA
                | tags::SEGMENTED_RED_PALETTE_COLOR_LOOKUP_TABLE_DATA
                | tags::SEGMENTED_GREEN_PALETTE_COLOR_LOOKUP_TABLE_DATA
                | tags::SEGMENTED_BLUE_PALETTE_COLOR_LOOKUP_TABLE_DATA
                | tags::GRAPHIC_DATA
                | tags::UNFORMATTED_TEXT_VALUE
                | tags::VERTICES_OF_THE_POLYGONAL_SHUTTER
                | tags::FRAME_TIME_VECTOR
        ) || tag.group() & 0xFFE1 == 0x6000 && tag.element() == 0x3000)
}
