//! From a stored value to a level of gray: Modality LUT, VOI LUT, Presentation LUT (PS3.4 N.2, PS3.3 C.11.1,
//! C.11.2, C.11.6).

use dicom_dictionary_std::tags;

use super::described::{Described, is_signed, number};
use super::lut::Lut;
use super::options::{VoiFunction, Window};
use super::samples::Samples;
use crate::dataset::DataSet;
use crate::error::Result;

/// Stored values to what they measure (C.11.1).
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Modality {
    Rescale { slope: f64, intercept: f64 },
    Table(Lut),
}

impl Modality {
    pub(super) const IDENTITY: Self = Modality::Rescale {
        slope: 1.0,
        intercept: 0.0,
    };

    /// Of a frame: its Pixel Value Transformation, or that of the data set.
    pub(super) fn of_frame(described: &Described<'_>) -> Result<Self> {
        let group = described.group(tags::PIXEL_VALUE_TRANSFORMATION_SEQUENCE, tags::RESCALE_SLOPE);
        let set = group.unwrap_or(described.header);
        Ok(Self::of(set, is_signed(described.header))?.unwrap_or(Self::IDENTITY))
    }

    /// What `set` itself says.
    pub(super) fn of(set: &DataSet, signed: bool) -> Result<Option<Self>> {
        if let Some(item) = set.items(tags::MODALITY_LUT_SEQUENCE).first() {
            return Ok(Some(Modality::Table(Lut::of(item, signed)?)));
        }
        let slope = number(set, tags::RESCALE_SLOPE);
        let intercept = number(set, tags::RESCALE_INTERCEPT);
        if slope.is_none() && intercept.is_none() {
            return Ok(None);
        }
        Ok(Some(Modality::Rescale {
            // A slope of nothing would make every pixel the same.
            slope: slope.filter(|&slope| slope != 0.0).unwrap_or(1.0),
            intercept: intercept.unwrap_or(0.0),
        }))
    }

    /// The range of what comes out for `samples`.
    pub(super) fn range(&self, samples: &Samples<'_>) -> Voi {
        let (min, max) = self.bounds(samples);
        Voi::Range { min, max }
    }

    /// Whether what comes out for `samples` may be below 0: then the inputs of a VOI LUT have a sign
    /// (C.11.2.1.1).
    pub(super) fn gives_signed(&self, samples: &Samples<'_>) -> bool {
        self.bounds(samples).0 < 0.0
    }

    fn bounds(&self, samples: &Samples<'_>) -> (f64, f64) {
        match self {
            Modality::Table(lut) => (0.0, lut.largest()),
            Modality::Rescale { .. } => {
                let (least, most) = samples.range();
                let (a, b) = (self.apply(least), self.apply(most));
                (a.min(b), a.max(b))
            }
        }
    }

    fn apply(&self, stored: f64) -> f64 {
        match self {
            Modality::Rescale { slope, intercept } => stored * slope + intercept,
            Modality::Table(lut) => lut.entry(stored),
        }
    }
}

/// What is measured to 0 for black up to 1 (C.11.2).
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Voi {
    Window(Window),
    Table(Lut),
    /// No window is known: the smallest value is black, the largest white.
    Range {
        min: f64,
        max: f64,
    },
}

impl Voi {
    /// What `set` says: of its VOI LUTs the first, else of its windows the first. A window that isn't one is
    /// passed over. `signed` tells whether a table's inputs have a sign.
    pub(super) fn of(set: &DataSet, signed: bool) -> Result<Option<Self>> {
        if let Some(item) = set.items(tags::VOILUT_SEQUENCE).first() {
            return Ok(Some(Voi::Table(Lut::of(item, signed)?)));
        }
        let (center, width) = (number(set, tags::WINDOW_CENTER), number(set, tags::WINDOW_WIDTH));
        let function = match set.string(tags::VOILUT_FUNCTION) {
            Some("SIGMOID") => VoiFunction::Sigmoid,
            Some("LINEAR_EXACT") => VoiFunction::LinearExact,
            _ => VoiFunction::Linear,
        };
        Ok(center.zip(width).and_then(|(center, width)| {
            let window = Window {
                center,
                width,
                function,
            };
            // LINEAR asks for a width of 1 or more; windows of float values below are meant to be exact.
            let exact = Window {
                function: VoiFunction::LinearExact,
                ..window
            };
            [window, exact]
                .into_iter()
                .find(|window| window.check().is_ok())
                .map(Voi::Window)
        }))
    }

    /// Of a frame: its Frame VOI LUT, or that of the data set.
    pub(super) fn of_frame(described: &Described<'_>, signed: bool) -> Result<Option<Self>> {
        let group = described.group(tags::FRAME_VOILUT_SEQUENCE, tags::WINDOW_CENTER);
        Self::of(group.unwrap_or(described.header), signed)
    }

    /// From the smallest to the largest of `count` values, without Pixel Padding (C.7.5.1.1.2).
    pub(super) fn of_values(
        header: &DataSet,
        samples: &Samples<'_>,
        count: usize,
        modality: &Modality,
    ) -> Self {
        let padding = Padding::of(header, samples);
        let (mut min, mut max) = (f64::INFINITY, f64::NEG_INFINITY);
        for at in 0..count {
            let value = samples.value(at);
            if value.is_finite() && !padding.is_some_and(|padding| padding.covers(value)) {
                min = min.min(value);
                max = max.max(value);
            }
        }
        if let Modality::Table(_) = modality {
            // A table need not keep the order.
            let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
            for at in 0..count {
                let value = samples.value(at);
                if !padding.is_some_and(|padding| padding.covers(value)) {
                    let value = modality.apply(value);
                    least = least.min(value);
                    most = most.max(value);
                }
            }
            return Voi::Range {
                min: least,
                max: most,
            };
        }
        let (a, b) = (modality.apply(min), modality.apply(max));
        Voi::Range {
            min: a.min(b),
            max: a.max(b),
        }
    }

    fn apply(&self, value: f64) -> f64 {
        match self {
            Voi::Window(window) => window.apply(value),
            Voi::Table(lut) => lut.fraction(lut.entry(value)),
            Voi::Range { min, max } if max > min => ((value - min) / (max - min)).clamp(0.0, 1.0),
            Voi::Range { .. } => 0.0,
        }
    }
}

/// Stored values that fill up a frame around its content.
#[derive(Clone, Copy, Debug)]
struct Padding {
    min: f64,
    max: f64,
}

impl Padding {
    fn of(header: &DataSet, samples: &Samples<'_>) -> Option<Self> {
        let limit = |tag| {
            let number = number(header, tag)?;
            // Its VR is US or SS by Pixel Representation: by the bits either is right.
            Some(if samples.meaning(u32::MAX) < 0.0 && number > 32767.0 {
                number - 65536.0
            } else {
                number
            })
        };
        let value = limit(tags::PIXEL_PADDING_VALUE)?;
        let other = limit(tags::PIXEL_PADDING_RANGE_LIMIT).unwrap_or(value);
        Some(Self {
            min: value.min(other),
            max: value.max(other),
        })
    }

    fn covers(&self, value: f64) -> bool {
        self.min <= value && value <= self.max
    }
}

/// From there to what is displayed (C.11.6).
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Presentation {
    Identity,
    Inverse,
    Table(Lut),
}

impl Presentation {
    /// What `set` itself says.
    pub(super) fn of(set: &DataSet) -> Result<Option<Self>> {
        if let Some(item) = set.items(tags::PRESENTATION_LUT_SEQUENCE).first() {
            return Ok(Some(Presentation::Table(Lut::of(item, false)?)));
        }
        Ok(match set.string(tags::PRESENTATION_LUT_SHAPE) {
            Some("INVERSE") => Some(Presentation::Inverse),
            Some(_) => Some(Presentation::Identity),
            None => None,
        })
    }

    /// Of an image. MONOCHROME1 begins with white: a shape of IDENTITY, which it must not have, changes
    /// nothing of that.
    pub(super) fn of_image(header: &DataSet) -> Result<Self> {
        let of_set = Self::of(header)?.unwrap_or(Presentation::Identity);
        let inverse = header.string(tags::PHOTOMETRIC_INTERPRETATION) == Some("MONOCHROME1");
        Ok(match of_set {
            Presentation::Identity if inverse => Presentation::Inverse,
            other => other,
        })
    }

    fn apply(&self, value: f64) -> f64 {
        match self {
            Presentation::Identity => value,
            Presentation::Inverse => 1.0 - value,
            Presentation::Table(lut) => lut.fraction(lut.entry_of_fraction(value)),
        }
    }
}

/// The three of them.
#[derive(Clone, Debug)]
pub(super) struct Grayscale {
    pub(super) modality: Modality,
    pub(super) voi: Voi,
    pub(super) presentation: Presentation,
}

impl Grayscale {
    /// What is displayed for a stored value: 0 for black to 1 for white.
    pub(super) fn fraction(&self, stored: f64) -> f64 {
        self.presentation
            .apply(self.voi.apply(self.modality.apply(stored)))
    }
}

/// A fraction of white as a level of 8 bits.
pub(super) fn level(fraction: f64) -> u8 {
    // `as` saturates.
    (fraction * 255.0 + 0.5).floor() as u8
}

#[cfg(test)]
mod tests {
    use dicom_core::VR;

    use super::super::lut::tests::item;
    use super::*;

    fn window(set: &mut DataSet, center: &str, width: &str, function: Option<&str>) {
        set.put_text(tags::WINDOW_CENTER, VR::DS, center);
        set.put_text(tags::WINDOW_WIDTH, VR::DS, width);
        if let Some(function) = function {
            set.put_text(tags::VOILUT_FUNCTION, VR::CS, function);
        }
    }

    fn grayscale(header: &DataSet, number: u32) -> Grayscale {
        let described = Described { header, number };
        let modality = Modality::of_frame(&described).unwrap();
        let voi = Voi::of_frame(&described, false).unwrap();
        Grayscale {
            voi: voi.unwrap_or(Voi::Range { min: 0.0, max: 255.0 }),
            modality,
            presentation: Presentation::of_image(header).unwrap(),
        }
    }

    #[test]
    fn a_rescale_and_a_window_make_levels_and_monochrome1_turns_them() {
        let mut header = DataSet::new();
        header.put_text(tags::RESCALE_SLOPE, VR::DS, "2");
        header.put_text(tags::RESCALE_INTERCEPT, VR::DS, "-1024");
        window(&mut header, "40\\300", "400\\1500", None);
        // From -160 (black, at 432) to 239 (white, at 631.5).
        let expected = [(0.0, 0), (432.0, 0), (532.0, 128), (631.0, 254), (632.0, 255)];
        for (stored, expected) in expected {
            assert_eq!(
                level(grayscale(&header, 1).fraction(stored)),
                expected,
                "{stored}"
            );
        }
        header.put_text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME1");
        for (stored, expected) in expected {
            assert!(
                level(grayscale(&header, 1).fraction(stored)).abs_diff(255 - expected) <= 1,
                "{stored}"
            );
        }
    }

    #[test]
    fn a_window_that_is_none_is_passed_over_and_a_narrow_one_is_exact() {
        let of = |center, width, function| {
            let mut set = DataSet::new();
            window(&mut set, center, width, function);
            Voi::of(&set, false).unwrap()
        };
        assert_eq!(of("NaN", "10", None), None);
        assert_eq!(of("10", "0", Some("SIGMOID")), None);
        assert_eq!(of("10", "-4", None), None);
        assert_eq!(of("1e999", "4", None), None);
        let exact = Window {
            center: 0.5,
            width: 0.25,
            function: VoiFunction::LinearExact,
        };
        assert_eq!(of("0.5", "0.25", None), Some(Voi::Window(exact)));
    }

    #[test]
    fn what_a_frame_says_of_itself_counts_before_what_all_share_and_that_before_the_data_set() {
        let slope = |slope: &str| {
            let mut values = DataSet::new();
            values.put_text(tags::RESCALE_SLOPE, VR::DS, slope);
            let mut groups = DataSet::new();
            groups.put_items(tags::PIXEL_VALUE_TRANSFORMATION_SEQUENCE, vec![values]);
            groups
        };
        let mut header = DataSet::new();
        header.put_text(tags::RESCALE_SLOPE, VR::DS, "5");
        let slope_of = |header: &DataSet, number| match grayscale(header, number).modality {
            Modality::Rescale { slope, .. } => slope,
            Modality::Table(_) => 0.0,
        };
        assert_eq!(slope_of(&header, 1), 5.0);
        header.put_items(tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE, vec![slope("4")]);
        assert_eq!(slope_of(&header, 1), 4.0);
        header.put_items(
            tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE,
            vec![slope("2"), slope("3")],
        );
        assert_eq!(
            [0, 1, 2, 3].map(|number| slope_of(&header, number)),
            [4.0, 2.0, 3.0, 4.0]
        );
    }

    #[test]
    fn tables_stand_for_each_of_the_three() {
        let mut header = DataSet::new();
        header.put_items(
            tags::MODALITY_LUT_SEQUENCE,
            vec![item([3, 1, 16], &[100, 300, 200])],
        );
        header.put_items(tags::VOILUT_SEQUENCE, vec![item([201, 100, 8], &[51; 100])]);
        let gray = grayscale(&header, 1);
        assert_eq!(
            [0.0, 1.0, 3.0].map(|stored| level(gray.fraction(stored))),
            [51; 3]
        );
        let mut presentation = DataSet::new();
        presentation.put_items(
            tags::PRESENTATION_LUT_SEQUENCE,
            vec![item([256, 0, 10], &[1023; 256])],
        );
        let gray = Grayscale {
            presentation: Presentation::of(&presentation).unwrap().unwrap(),
            ..gray
        };
        assert_eq!(level(gray.fraction(1.0)), 255);
    }

    #[test]
    fn without_a_window_the_smallest_value_is_black_and_the_largest_white_and_padding_is_neither() {
        let mut header = DataSet::new();
        header.put_u16(tags::BITS_ALLOCATED, 16);
        header.put_u16(tags::PIXEL_REPRESENTATION, 1);
        header.put_u16(tags::PIXEL_PADDING_VALUE, (-2000i16) as u16);
        let frame: Vec<u8> = [-2000i16, -100, 0, 100]
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect();
        let samples = Samples::of(&header, &frame).unwrap();
        let modality = Modality::Rescale {
            slope: -1.0,
            intercept: 10.0,
        };
        let voi = Voi::of_values(&header, &samples, 4, &modality);
        assert_eq!(
            voi,
            Voi::Range {
                min: -90.0,
                max: 110.0
            }
        );
        assert_eq!(
            [-90.0, 10.0, 110.0, 2010.0].map(|value| level(voi.apply(value))),
            [0, 128, 255, 255]
        );
        // A frame of one value, and one of nothing but padding, is black.
        for count in [0, 1] {
            let voi = Voi::of_values(&header, &samples, count, &modality);
            assert_eq!(level(voi.apply(5.0)), 0);
        }
    }
}
