//! Colour spaces (PS3.3 C.7.6.3.1.2), and CIELab values (C.10.7.1.1).

use dicom_dictionary_std::tags;

use super::described::unsupported;
use super::gray::level;
use super::palette::Palette;
use super::samples::Samples;
use crate::dataset::DataSet;
use crate::error::Result;
use crate::pixel::ybr;

/// What three samples mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Space {
    Rgb,
    YbrFull,
    YbrPartial,
}

/// Where the samples of a pixel lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    Interleaved,
    /// Plane after plane.
    Planar,
    /// Two luminances, then the two chrominances that both share.
    Subsampled,
}

/// How the samples of a frame become red, green and blue.
#[derive(Clone, Debug)]
pub(super) enum Color {
    Palette(Palette),
    Samples(Components),
}

/// Three samples of each pixel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Components {
    space: Space,
    layout: Layout,
    pixels: usize,
    /// What makes a sample one of 8 bits.
    scale: f64,
}

impl Color {
    /// Of a frame of so many pixels; `None` when it is one of gray.
    pub(super) fn of(header: &DataSet, samples: &Samples<'_>, pixels: u64) -> Result<Option<Self>> {
        let count = header.u16(tags::SAMPLES_PER_PIXEL).unwrap_or(1);
        let photometric = header
            .string(tags::PHOTOMETRIC_INTERPRETATION)
            .unwrap_or_default();
        let space = match (count, photometric) {
            (1, "PALETTE COLOR") => {
                samples.require(pixels)?;
                return Ok(Some(Color::Palette(Palette::of(header)?)));
            }
            (1, "MONOCHROME1" | "MONOCHROME2" | "") => {
                samples.require(pixels)?;
                return Ok(None);
            }
            // Decoders undo the transforms of JPEG 2000 and JPEG XL, also where the label stays.
            (3, "RGB" | "YBR_RCT" | "YBR_ICT" | "XYB") => Space::Rgb,
            (3, "YBR_FULL" | "YBR_FULL_422") => Space::YbrFull,
            (3, "YBR_PARTIAL_422" | "YBR_PARTIAL_420") => Space::YbrPartial,
            _ => {
                let error = unsupported(format!("{count} samples of a pixel in this colour space"));
                return Err(error.with_tag(tags::PHOTOMETRIC_INTERPRETATION));
            }
        };
        let bits = samples
            .bits()
            .ok_or_else(|| unsupported("colours of float values"))?;
        // What is decoded comes out in full, under the same label.
        let full = samples.holds(pixels.saturating_mul(3));
        let layout = if !full && photometric.ends_with("_422") {
            samples.require(pixels.saturating_mul(2))?;
            Layout::Subsampled
        } else {
            samples.require(pixels.saturating_mul(3))?;
            match header.u16(tags::PLANAR_CONFIGURATION) {
                Some(1) => Layout::Planar,
                _ => Layout::Interleaved,
            }
        };
        Ok(Some(Color::Samples(Components {
            space,
            layout,
            // There are as many in memory.
            pixels: pixels as usize,
            scale: 255.0 / (f64::from(u32::MAX >> (32 - bits))),
        })))
    }

    /// The colour of the pixel `at`.
    pub(super) fn rgb(&self, samples: &Samples<'_>, at: usize) -> [u8; 3] {
        match self {
            Color::Palette(palette) => palette.color(samples.value(at)),
            Color::Samples(components) => components.rgb(samples, at),
        }
    }
}

impl Components {
    fn rgb(&self, samples: &Samples<'_>, at: usize) -> [u8; 3] {
        let places = match self.layout {
            Layout::Interleaved => [at * 3, at * 3 + 1, at * 3 + 2],
            Layout::Planar => [at, self.pixels + at, self.pixels * 2 + at],
            Layout::Subsampled => {
                let pair = at / 2 * 4;
                [pair + at % 2, pair + 2, pair + 3]
            }
        };
        // Colours have no sign.
        let [a, b, c] = places.map(|place| f64::from(samples.code(place)) * self.scale);
        match self.space {
            Space::Rgb => [a, b, c],
            Space::YbrFull => ybr::full_to_rgb([a, b, c]),
            Space::YbrPartial => ybr::partial_to_rgb([a, b, c]),
        }
        .map(|value| (value + 0.5).floor() as u8)
    }
}

/// The sRGB colour of a CIELab value as DICOM encodes it (PS3.3 C.10.7.1.1): L* from 0 to 100 and a*, b* from
/// -128 to 127, each over 16 bits, for the white of D50.
pub(super) fn of_lab(encoded: [u16; 3]) -> [u8; 3] {
    let [l, a, b] = encoded.map(|value| f64::from(value) / 65535.0);
    let (l, a, b) = (l * 100.0, a * 255.0 - 128.0, b * 255.0 - 128.0);
    let y = (l + 16.0) / 116.0;
    let curve = |t: f64| {
        if t > 6.0 / 29.0 {
            t * t * t
        } else {
            (t - 4.0 / 29.0) * 108.0 / 841.0
        }
    };
    let (x, y, z) = (
        0.964_22 * curve(y + a / 500.0),
        curve(y),
        0.825_21 * curve(y - b / 200.0),
    );
    // From D50 to the primaries of sRGB, adapted to D65 after Bradford.
    [
        3.133_856 * x - 1.616_867 * y - 0.490_615 * z,
        -0.978_768 * x + 1.916_142 * y + 0.033_454 * z,
        0.071_945 * x - 0.228_991 * y + 1.405_243 * z,
    ]
    .map(|linear| {
        level(if linear <= 0.003_130_8 {
            12.92 * linear
        } else {
            1.055 * linear.powf(1.0 / 2.4) - 0.055
        })
    })
}

#[cfg(test)]
mod tests {
    use dicom_core::VR;

    use super::*;

    fn rgb(photometric: &str, bits: u16, planar: u16, frame: &[u8], pixels: u64) -> Vec<[u8; 3]> {
        let mut header = DataSet::new();
        header.put_u16(tags::SAMPLES_PER_PIXEL, 3);
        header.put_text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, photometric);
        header.put_u16(tags::BITS_ALLOCATED, bits);
        header.put_u16(tags::BITS_STORED, bits);
        header.put_u16(tags::PIXEL_REPRESENTATION, 0);
        header.put_u16(tags::PLANAR_CONFIGURATION, planar);
        let samples = Samples::of(&header, frame).unwrap();
        let color = Color::of(&header, &samples, pixels).unwrap().unwrap();
        (0..pixels as usize).map(|at| color.rgb(&samples, at)).collect()
    }

    #[test]
    fn planes_and_pixels_and_wide_samples_are_the_same_colours() {
        let expected = [[1, 2, 3], [4, 5, 6]];
        assert_eq!(rgb("RGB", 8, 0, &[1, 2, 3, 4, 5, 6], 2), expected);
        assert_eq!(rgb("RGB", 8, 1, &[1, 4, 2, 5, 3, 6], 2), expected);
        let wide: Vec<u8> = [1u16, 2, 3, 4, 5, 6]
            .iter()
            .flat_map(|v| (v * 257).to_le_bytes())
            .collect();
        assert_eq!(rgb("RGB", 16, 0, &wide, 2), expected);
        assert_eq!(rgb("YBR_RCT", 8, 0, &[1, 2, 3, 4, 5, 6], 2), expected);
    }

    #[test]
    fn luminance_and_chrominance_become_colours_by_the_inverse_of_the_standards_formula() {
        // Pure red: Y = 0.299 * 255, CB = -0.1687 * 255 + 128, CR = 0.5 * 255 + 128, which is one too many.
        assert_eq!(rgb("YBR_FULL", 8, 0, &[76, 85, 255], 1), [[254, 0, 0]]);
        assert_eq!(rgb("YBR_FULL", 8, 0, &[128, 128, 128], 1), [[128; 3]]);
        // Black and white of the narrow range.
        let frame = [16, 128, 128, 235, 128, 128, 82, 90, 240];
        assert_eq!(
            rgb("YBR_PARTIAL_422", 8, 0, &frame, 3),
            [[0; 3], [255; 3], [255, 1, 0]]
        );
    }

    #[test]
    fn two_pixels_share_their_chrominance_where_it_is_subsampled() {
        let frame = [76, 128, 85, 255, 10, 20, 128, 128];
        let colors = rgb("YBR_FULL_422", 8, 0, &frame, 4);
        assert_eq!(colors, [[254, 0, 0], [255, 52, 52], [10; 3], [20; 3]]);
        // In full after decoding, under the same label.
        assert_eq!(rgb("YBR_FULL_422", 8, 0, &[76, 85, 255], 1), [[254, 0, 0]]);
        assert_eq!(
            rgb("YBR_PARTIAL_422", 8, 0, &[16, 235, 128, 128], 2),
            [[0; 3], [255; 3]]
        );
    }

    #[test]
    fn lab_values_become_colours_of_srgb() {
        let lab = |l: f64, a: f64, b: f64| {
            let encode = |value: f64| (value * 65535.0).round() as u16;
            of_lab([
                encode(l / 100.0),
                encode((a + 128.0) / 255.0),
                encode((b + 128.0) / 255.0),
            ])
        };
        let close = |found: [u8; 3], expected: [u8; 3]| {
            assert!(
                found
                    .iter()
                    .zip(expected)
                    .all(|(found, expected)| found.abs_diff(expected) <= 1),
                "{found:?} {expected:?}"
            );
        };
        close(lab(0.0, 0.0, 0.0), [0; 3]);
        close(lab(100.0, 0.0, 0.0), [255; 3]);
        close(lab(53.585, 0.0, 0.0), [128; 3]);
        // Red, green and blue of sRGB, adapted to D50.
        close(lab(54.29, 80.81, 69.89), [255, 0, 0]);
        close(lab(87.82, -79.29, 80.99), [0, 255, 0]);
        close(lab(29.57, 68.30, -112.03), [0, 0, 255]);
    }
}
