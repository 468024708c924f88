//! The picture: a Secondary Capture of the slice that shows most of the largest region, with its outline.

use dicom_core::VR;
use dicom_dictionary_std::{tags, uids};
use font8x8::{BASIC_FONTS, UnicodeFonts as _};
use pacs_core::Uid;
use pacs_core::dataset::{Element, Value};

use super::{DISCLAIMER, Made, Of, reference};
use crate::analysis::{Assessed, Key};
use crate::regions::{Grid, Run};

/// From black to white, in HU: where brain and blood differ.
const WINDOW: (i32, i32) = (0, 80);
/// What is drawn.
const RED: [u8; 3] = [255, 40, 40];
/// Written into the picture, so that it goes where the picture goes.
const NOTICE: &str = "AI TRIAGE - NOT FOR DIAGNOSIS";
/// Width and height of a letter.
const LETTER: usize = 8;

/// Red, green and blue of each pixel.
struct Picture {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

pub(super) fn capture(of: &Of<'_>, one: &Assessed) -> Option<Made> {
    let (key, region) = (one.key.as_ref()?, one.found.regions.first()?);
    let runs: Vec<Run> = region
        .runs
        .iter()
        .filter(|run| run.slice == region.key_slice)
        .copied()
        .collect();
    let picture = Picture::of(key, &one.grid, &runs);
    let (class, instance) = &one.slices[region.key_slice as usize];
    let sop_class = Uid::constant(uids::SECONDARY_CAPTURE_IMAGE_STORAGE);
    let description = "AI triage: outlined region, not for diagnosis";
    let mut made = of.instance(sop_class, "picture", "OT", 9902, description);
    let set = &mut made.data_set;
    set.put_text(tags::CONVERSION_TYPE, VR::CS, "WSD");
    set.put_text(tags::IMAGE_TYPE, VR::CS, "DERIVED\\SECONDARY");
    // Neither is known of a picture (both type 2C).
    set.put_text(tags::PATIENT_ORIENTATION, VR::CS, "");
    set.put_text(tags::LATERALITY, VR::CS, "");
    set.put_text(
        tags::DERIVATION_DESCRIPTION,
        VR::ST,
        "Window of 0 to 80 HU, a dense region outlined",
    );
    set.put_items(tags::SOURCE_IMAGE_SEQUENCE, vec![reference(class, instance)]);
    set.put_text(tags::IMAGE_COMMENTS, VR::LT, DISCLAIMER);
    // What is written names no patient.
    set.put_text(tags::BURNED_IN_ANNOTATION, VR::CS, "NO");
    set.put_u16(tags::SAMPLES_PER_PIXEL, 3);
    set.put_text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "RGB");
    set.put_u16(tags::PLANAR_CONFIGURATION, 0);
    // Sides are at most 2048 or a few hundred.
    set.put_u16(tags::ROWS, picture.height as u16);
    set.put_u16(tags::COLUMNS, picture.width as u16);
    set.put_u16(tags::BITS_ALLOCATED, 8);
    set.put_u16(tags::BITS_STORED, 8);
    set.put_u16(tags::HIGH_BIT, 7);
    set.put_u16(tags::PIXEL_REPRESENTATION, 0);
    set.put(Element {
        tag: tags::PIXEL_DATA,
        vr: VR::OB,
        value: Value::Bytes(picture.pixels.into()),
    });
    Some(made)
}

impl Picture {
    fn of(key: &Key, grid: &Grid, runs: &[Run]) -> Self {
        // So large that the notice fits.
        let scale = ((NOTICE.len() + 1) * LETTER).div_ceil(grid.columns.max(1)).max(1);
        let (width, height) = (grid.columns * scale, grid.rows * scale);
        let mut pixels = Vec::with_capacity(width * height * 3);
        let (black, white) = WINDOW;
        for row in 0..height {
            for column in 0..width {
                let value = key.values[row / scale * grid.columns + column / scale];
                let level = (i32::from(value).clamp(black, white) - black) * 255 / (white - black);
                pixels.extend([level as u8; 3]);
            }
        }
        let mut picture = Self {
            width,
            height,
            pixels,
        };
        picture.outline(runs, scale);
        picture.write(NOTICE);
        picture
    }

    /// Draws along the inner side of the region's edge.
    fn outline(&mut self, runs: &[Run], scale: usize) {
        let (width, height) = (self.width, self.height);
        let mut inside = vec![false; width * height];
        for run in runs {
            for row in run.row as usize * scale..(run.row as usize + 1) * scale {
                inside[row * width..][run.from as usize * scale..run.to as usize * scale].fill(true);
            }
        }
        for at in (0..inside.len()).filter(|at| inside[*at]) {
            let (row, column) = (at / width, at % width);
            let within = row > 0
                && row + 1 < height
                && column > 0
                && column + 1 < width
                && [at - 1, at + 1, at - width, at + width]
                    .iter()
                    .all(|at| inside[*at]);
            if !within {
                self.dot(column, row);
            }
        }
    }

    /// Writes into the lower left corner, as far as there is room.
    fn write(&mut self, text: &str) {
        let top = self.height.saturating_sub(LETTER + LETTER / 2);
        for (letter, at) in text.chars().zip(0..) {
            let glyph = BASIC_FONTS.get(letter).unwrap_or_default();
            for (line, row) in glyph.into_iter().zip(top..) {
                for bit in (0..LETTER).filter(|bit| line >> bit & 1 == 1) {
                    self.dot(LETTER / 2 + at * LETTER + bit, row);
                }
            }
        }
    }

    fn dot(&mut self, column: usize, row: usize) {
        if column < self.width && row < self.height {
            self.pixels[(row * self.width + column) * 3..][..3].copy_from_slice(&RED);
        }
    }
}
