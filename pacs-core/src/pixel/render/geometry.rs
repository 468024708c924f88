//! What part of a frame is shown, how it is turned, and how large (PS3.3 C.10.4, C.10.6; PS3.18 8.3.5.1.3).

use dicom_core::Tag;
use dicom_dictionary_std::tags;

use super::described::{Described, invalid, pair, unsupported};
use super::options::Viewport;
use crate::dataset::DataSet;
use crate::error::Result;
use crate::limits;

/// A rectangle in pixels of a frame, whose top left pixel begins at 0, 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Region {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

impl Region {
    pub(super) fn whole(columns: u16, rows: u16) -> Self {
        Self {
            x: 0.0,
            y: 0.0,
            width: columns.into(),
            height: rows.into(),
        }
    }
}

/// How a frame is turned: first clockwise, then mirrored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Turn {
    /// Quarters of a circle, 0 to 3.
    pub(super) quarters: u8,
    /// Left becomes right.
    pub(super) mirrored: bool,
    /// Top becomes bottom.
    pub(super) upturned: bool,
}

impl Turn {
    /// The Spatial Transformation of a presentation state (C.10.6).
    pub(super) fn of(set: &DataSet) -> Self {
        let degrees = set.u16(tags::IMAGE_ROTATION).unwrap_or_default() % 360;
        Self {
            quarters: (degrees / 90) as u8,
            mirrored: set.string(tags::IMAGE_HORIZONTAL_FLIP) == Some("Y"),
            upturned: false,
        }
    }

    /// Whether rows become columns.
    pub(super) fn is_across(self) -> bool {
        self.quarters % 2 == 1
    }

    /// Where a point goes, both as fractions of the width and height.
    fn fraction(self, u: f64, v: f64) -> (f64, f64) {
        let (u, v) = match self.quarters % 4 {
            0 => (u, v),
            1 => (1.0 - v, u),
            2 => (1.0 - u, 1.0 - v),
            _ => (v, 1.0 - u),
        };
        (
            if self.mirrored { 1.0 - u } else { u },
            if self.upturned { 1.0 - v } else { v },
        )
    }

    /// Turns a picture of `width` by `height` pixels of `channels`.
    pub(super) fn apply(self, pixels: Vec<u8>, width: u32, height: u32, channels: usize) -> Vec<u8> {
        if self == Turn::default() {
            return pixels;
        }
        let (width, height) = (width as usize, height as usize);
        let (across, down) = if self.is_across() {
            (height, width)
        } else {
            (width, height)
        };
        let mut out = Vec::with_capacity(pixels.len());
        for y in 0..down {
            for x in 0..across {
                // The way back.
                let x = if self.mirrored { across - 1 - x } else { x };
                let y = if self.upturned { down - 1 - y } else { y };
                let (column, row) = match self.quarters % 4 {
                    0 => (x, y),
                    1 => (y, height - 1 - x),
                    2 => (width - 1 - x, height - 1 - y),
                    _ => (width - 1 - y, x),
                };
                let at = (row * width + column) * channels;
                out.extend_from_slice(&pixels[at..at + channels]);
            }
        }
        out
    }
}

/// From a frame to a picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Geometry {
    pub(super) region: Region,
    pub(super) turn: Turn,
    /// Of the picture.
    pub(super) width: u32,
    pub(super) height: u32,
}

impl Geometry {
    /// `aspect` is the height of a pixel over its width.
    ///
    /// # Errors
    /// `Invalid` when the viewport shows nothing of the frame, `Unsupported` when the picture is larger than
    /// what is rendered.
    pub(super) fn new(
        mut region: Region,
        mut turn: Turn,
        aspect: f64,
        frame: Region,
        viewport: Option<&Viewport>,
    ) -> Result<Self> {
        if let Some(viewport) = viewport.filter(|viewport| viewport.has_source()) {
            region = part(viewport, frame)?;
            turn.mirrored ^= viewport.source_width.is_some_and(|width| width < 0.0);
            turn.upturned ^= viewport.source_height.is_some_and(|height| height < 0.0);
        }
        // Pixels that aren't square are stretched, never shrunk: nothing is lost.
        let (mut width, mut height) = if aspect >= 1.0 {
            (region.width, region.height * aspect)
        } else {
            (region.width / aspect, region.height)
        };
        if turn.is_across() {
            (width, height) = (height, width);
        }
        if let Some(viewport) = viewport {
            if viewport.width == 0 || viewport.height == 0 {
                return Err(invalid("a viewport's width and height are above 0"));
            }
            let (across, down) = (f64::from(viewport.width), f64::from(viewport.height));
            let scale = (across / width).min(down / height);
            width = (width * scale).round().min(across);
            height = (height * scale).round().min(down);
        }
        let (width, height) = (width.round().max(1.0), height.round().max(1.0));
        // `as` would saturate.
        if width > f64::from(u16::MAX)
            || height > f64::from(u16::MAX)
            || width * height > limits::PICTURE_PIXELS_MAX as f64
        {
            return Err(unsupported(format!(
                "a picture of {width} by {height} pixels is larger than what is rendered"
            )));
        }
        Ok(Self {
            region,
            turn,
            width: width as u32,
            height: height as u32,
        })
    }

    /// The size of the picture before it is turned.
    pub(super) fn size_before_turn(&self) -> (u32, u32) {
        if self.turn.is_across() {
            (self.height, self.width)
        } else {
            (self.width, self.height)
        }
    }

    /// Where a point of the frame is in the picture.
    pub(super) fn place(&self, x: f64, y: f64) -> [f64; 2] {
        let (u, v) = self.turn.fraction(
            (x - self.region.x) / self.region.width,
            (y - self.region.y) / self.region.height,
        );
        [u * f64::from(self.width), v * f64::from(self.height)]
    }
}

/// What a viewport shows of a frame: what of it there is.
fn part(viewport: &Viewport, frame: Region) -> Result<Region> {
    let side = |from: f64, extent: Option<f64>, size: f64| {
        let to = extent.map_or(size, |extent| from + extent.abs());
        let (from, to) = (from.max(0.0), to.min(size));
        // Also for what is no number.
        (to - from > 1e-6).then_some((from, to - from))
    };
    let across = side(viewport.source_x, viewport.source_width, frame.width);
    let down = side(viewport.source_y, viewport.source_height, frame.height);
    let ((x, width), (y, height)) = across
        .zip(down)
        .ok_or_else(|| invalid("a viewport shows nothing of the frame"))?;
    Ok(Region { x, y, width, height })
}

/// The height of a frame's pixels over their width: by Pixel Aspect Ratio, else by what the distance of pixels
/// is known by (PS3.3 C.7.6.3.1.7, 10.7.1.3).
pub(super) fn aspect(described: &Described<'_>) -> f64 {
    let of_group = |group: Tag, tag: Tag| described.group(group, tag).and_then(|set| pair(set, tag));
    let header = described.header;
    let pair = pair(header, tags::PIXEL_ASPECT_RATIO)
        .or_else(|| of_group(tags::PIXEL_MEASURES_SEQUENCE, tags::PIXEL_SPACING))
        .or_else(|| pair(header, tags::IMAGER_PIXEL_SPACING))
        .or_else(|| pair(header, tags::NOMINAL_SCANNED_PIXEL_SPACING));
    ratio(pair)
}

/// The ratio of two numbers, or 1 where they make none that a picture could have. Spacings are rounded
/// measurements: what differs by less than 1 in 1,000 is square.
pub(super) fn ratio(pair: Option<[f64; 2]>) -> f64 {
    pair.map(|[down, across]| down / across)
        .filter(|ratio| (1.0 / 32.0..=32.0).contains(ratio) && (ratio - 1.0).abs() > 1e-3)
        .unwrap_or(1.0)
}

#[cfg(test)]
mod tests {
    use dicom_core::VR;

    use super::*;

    fn geometry(frame: (u16, u16), turn: Turn, aspect: f64, viewport: Option<&str>) -> Result<Geometry> {
        let frame = Region::whole(frame.0, frame.1);
        let viewport: Option<Viewport> = viewport.map(|text| text.parse().unwrap());
        Geometry::new(frame, turn, aspect, frame, viewport.as_ref())
    }

    fn size(frame: (u16, u16), turn: Turn, aspect: f64, viewport: Option<&str>) -> (u32, u32) {
        let geometry = geometry(frame, turn, aspect, viewport).unwrap();
        (geometry.width, geometry.height)
    }

    #[test]
    fn a_picture_keeps_its_aspect_ratio_in_the_viewport() {
        let plain = Turn::default();
        assert_eq!(size((100, 50), plain, 1.0, None), (100, 50));
        assert_eq!(size((100, 50), plain, 1.0, Some("50,50")), (50, 25));
        assert_eq!(size((100, 50), plain, 1.0, Some("500,100")), (200, 100));
        assert_eq!(size((100, 50), plain, 1.0, Some("1,1")), (1, 1));
        assert_eq!(size((100, 50), plain, 1.0, Some("50,50,10,10,20,40")), (25, 50));
        // Pixels twice as high as wide, and twice as wide as high.
        assert_eq!(size((100, 50), plain, 2.0, None), (100, 100));
        assert_eq!(size((100, 50), plain, 0.5, None), (200, 50));
        let turned = Turn { quarters: 1, ..plain };
        assert_eq!(size((100, 50), turned, 2.0, Some("10,99")), (10, 10));
        assert_eq!(size((100, 50), turned, 1.0, None), (50, 100));
    }

    #[test]
    fn a_viewport_beside_the_frame_or_a_picture_beyond_the_limit_is_refused() {
        let fails = |viewport| {
            geometry((100, 50), Turn::default(), 1.0, Some(viewport))
                .unwrap_err()
                .kind()
        };
        use crate::error::ErrorKind::{Invalid, Unsupported};
        assert_eq!(fails("10,10,100,0,5,5"), Invalid);
        assert_eq!(fails("10,10,-9,0,5,5"), Invalid);
        assert_eq!(fails("65536,65536"), Unsupported);
        let zero = Viewport::new(0, 7);
        let frame = Region::whole(1, 1);
        assert!(Geometry::new(frame, Turn::default(), 1.0, frame, Some(&zero)).is_err());
        // What is partly beside it shows what there is.
        let partly = geometry((100, 50), Turn::default(), 1.0, Some("10,10,90,40,20,20")).unwrap();
        assert_eq!((partly.region.width, partly.region.height), (10.0, 10.0));
    }

    #[test]
    fn points_and_pixels_are_turned_alike() {
        // Each pixel of 3 by 2 its number.
        let pixels: Vec<u8> = (0..6).collect();
        let expected: [(u8, bool, bool, &[u8]); 6] = [
            (0, true, false, &[2, 1, 0, 5, 4, 3]),
            (0, false, true, &[3, 4, 5, 0, 1, 2]),
            (1, false, false, &[3, 0, 4, 1, 5, 2]),
            (2, false, false, &[5, 4, 3, 2, 1, 0]),
            (3, false, false, &[2, 5, 1, 4, 0, 3]),
            (1, true, false, &[0, 3, 1, 4, 2, 5]),
        ];
        for (quarters, mirrored, upturned, expected) in expected {
            let turn = Turn {
                quarters,
                mirrored,
                upturned,
            };
            let turned = turn.apply(pixels.clone(), 3, 2, 1);
            assert_eq!(turned, expected, "{turn:?}");
            let geometry = geometry((3, 2), turn, 1.0, None).unwrap();
            for (number, (row, column)) in (0..2).flat_map(|row| (0..3).map(move |c| (row, c))).enumerate() {
                let [x, y] = geometry.place(f64::from(column) + 0.5, f64::from(row) + 0.5);
                let at = y.floor() as usize * geometry.width as usize + x.floor() as usize;
                assert_eq!(usize::from(turned[at]), number, "{turn:?}");
            }
        }
        let rgb: Vec<u8> = (0..6).collect();
        let turn = Turn {
            quarters: 2,
            ..Turn::default()
        };
        assert_eq!(turn.apply(rgb, 2, 1, 3), [3, 4, 5, 0, 1, 2]);
    }

    #[test]
    fn the_shape_of_pixels_is_taken_from_what_says_it_and_absurd_ones_are_square() {
        let of = |values: &[(Tag, &str)]| {
            let mut header = DataSet::new();
            for &(tag, value) in values {
                header.put_text(tag, VR::DS, value);
            }
            aspect(&Described {
                header: &header,
                number: 1,
            })
        };
        assert_eq!(of(&[]), 1.0);
        assert_eq!(of(&[(tags::PIXEL_SPACING, "0.5\\0.25")]), 2.0);
        assert_eq!(
            of(&[
                (tags::PIXEL_SPACING, "0.5\\0.25"),
                (tags::PIXEL_ASPECT_RATIO, "1\\4")
            ]),
            0.25
        );
        assert_eq!(of(&[(tags::IMAGER_PIXEL_SPACING, "0.2\\0.1")]), 2.0);
        for absurd in ["0\\1", "1\\0", "1000\\1", "-1\\1", "x\\1", "1", "0.50001\\0.5"] {
            assert_eq!(of(&[(tags::PIXEL_SPACING, absurd)]), 1.0, "{absurd}");
        }
    }
}
