//! What is asked for: [`RenderOptions`] (PS3.18 8.3.5).

use std::str::FromStr;
use std::sync::Arc;

use super::described::invalid;
use super::state::PresentationState;
use crate::error::{Error, Result};

/// How a picture is to be made of a frame. The default is what the instance itself says.
#[derive(Clone, Debug, Default)]
pub struct RenderOptions {
    /// In place of what the instance or presentation state says of its VOI (PS3.18 8.3.5.1.4). Colour has none.
    pub window: Option<Window>,
    /// The size of the picture, and the part of the frame that it shows (PS3.18 8.3.5.1.3).
    pub viewport: Option<Viewport>,
    /// What is written into the picture (PS3.18 8.3.5.1.1).
    pub annotation: Annotation,
    /// Applied where it refers to the frame.
    pub presentation_state: Option<Arc<PresentationState>>,
}

/// The VOI LUT Function (PS3.3 C.11.2.1.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VoiFunction {
    /// LINEAR (C.11.2.1.2.1).
    #[default]
    Linear,
    /// LINEAR_EXACT (C.11.2.1.3.2).
    LinearExact,
    /// SIGMOID (C.11.2.1.3.1).
    Sigmoid,
}

/// A window, in units of what comes out of the modality LUT.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    /// Window Center.
    pub center: f64,
    /// Window Width.
    pub width: f64,
    /// VOI LUT Function.
    pub function: VoiFunction,
}

impl Window {
    /// Whether the numbers are a window of its function.
    ///
    /// # Errors
    /// `Invalid` when a number is not finite, the width is not above 0 or, for LINEAR, below 1.
    pub fn check(&self) -> Result<()> {
        let least = match self.function {
            VoiFunction::Linear => self.width >= 1.0,
            VoiFunction::LinearExact | VoiFunction::Sigmoid => self.width > 0.0,
        };
        if least && self.center.is_finite() && self.width.is_finite() {
            Ok(())
        } else {
            Err(invalid(
                "a window has a center, and a width above 0 (at least 1 where it is linear)",
            ))
        }
    }

    /// What a value is in the window: 0 for black to 1 for white.
    pub(super) fn apply(&self, value: f64) -> f64 {
        let (center, width) = (self.center, self.width);
        match self.function {
            VoiFunction::Linear => {
                let (center, width) = (center - 0.5, width - 1.0);
                if value <= center - width / 2.0 {
                    0.0
                } else if value > center + width / 2.0 {
                    1.0
                } else {
                    (value - center) / width + 0.5
                }
            }
            VoiFunction::LinearExact => {
                if value <= center - width / 2.0 {
                    0.0
                } else if value > center + width / 2.0 {
                    1.0
                } else {
                    (value - center) / width + 0.5
                }
            }
            VoiFunction::Sigmoid => 1.0 / (1.0 + (-4.0 * (value - center) / width).exp()),
        }
    }
}

/// Reads `center,width,function`, the value of the query parameter `window`; the function is `linear`,
/// `linear-exact` or `sigmoid`.
impl FromStr for Window {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let mut parts = text.split(',');
        let (center, width) = (decimal(parts.next())?, decimal(parts.next())?);
        let function = match parts.next() {
            None | Some("linear") => VoiFunction::Linear,
            Some("linear-exact") => VoiFunction::LinearExact,
            Some("sigmoid") => VoiFunction::Sigmoid,
            Some(_) => return Err(invalid("a window's function is linear, linear-exact or sigmoid")),
        };
        let window = Window {
            center: center.ok_or_else(|| invalid("a window has a center"))?,
            width: width.ok_or_else(|| invalid("a window has a width"))?,
            function,
        };
        if parts.next().is_some() {
            return Err(invalid("a window is a center, a width and a function"));
        }
        window.check()?;
        Ok(window)
    }
}

/// The viewport, and what of the frame is shown in it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Viewport {
    /// Its width in pixels, above 0. The picture is as wide, or as high, as the viewport, and keeps the aspect
    /// ratio of what it shows.
    pub width: u32,
    /// Its height in pixels, above 0.
    pub height: u32,
    /// The left edge of what is shown, in pixels of the frame, from 0.
    pub source_x: f64,
    /// The top edge.
    pub source_y: f64,
    /// How many columns are shown; below 0 they are mirrored. All from the left edge on without it.
    pub source_width: Option<f64>,
    /// How many rows are shown; below 0 they are mirrored.
    pub source_height: Option<f64>,
}

impl Viewport {
    /// One that shows the whole frame.
    pub fn new(width: u32, height: u32) -> Self {
        Self {
            width,
            height,
            source_x: 0.0,
            source_y: 0.0,
            source_width: None,
            source_height: None,
        }
    }

    /// Whether it says what part of the frame is shown.
    pub(super) fn has_source(&self) -> bool {
        self.source_x != 0.0
            || self.source_y != 0.0
            || self.source_width.is_some()
            || self.source_height.is_some()
    }
}

/// Reads `vw,vh` or `vw,vh,sx,sy,sw,sh`, the value of the query parameter `viewport`, where any of the last
/// four may be empty.
impl FromStr for Viewport {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split(',').collect();
        if !matches!(parts.len(), 2..=6) {
            return Err(invalid("a viewport is a width, a height, and up to four numbers"));
        }
        let size = |text: &str| match text.parse() {
            Ok(0) | Err(_) => Err(invalid("a viewport's width and height are whole numbers above 0")),
            Ok(size) => Ok(size),
        };
        let source = |at: usize| decimal(parts.get(at).copied());
        let extent = |at| match source(at)? {
            Some(0.0) => Err(invalid("a viewport shows no pixel")),
            extent => Ok(extent),
        };
        Ok(Self {
            width: size(parts[0])?,
            height: size(parts[1])?,
            source_x: source(2)?.unwrap_or(0.0),
            source_y: source(3)?.unwrap_or(0.0),
            source_width: extent(4)?,
            source_height: extent(5)?,
        })
    }
}

/// A number, or `None` where there is no text.
fn decimal(text: Option<&str>) -> Result<Option<f64>> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(Some(number)),
        _ => Err(invalid("a decimal number is expected")),
    }
}

/// What is written into the picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Annotation {
    /// Whose it is: name, identifier, birth date and sex.
    pub patient: bool,
    /// How it was made.
    pub technique: bool,
}

/// Reads `patient`, `technique` or both with a comma between them, the value of the query parameter
/// `annotation`.
impl FromStr for Annotation {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let mut annotation = Annotation::default();
        for part in text.split(',') {
            match part {
                "patient" => annotation.patient = true,
                "technique" => annotation.technique = true,
                _ => return Err(invalid("an annotation is patient or technique")),
            }
        }
        Ok(annotation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_function_is_the_standards_formula() {
        let apply = |function, values: [f64; 5]| {
            let window = Window {
                center: 2048.0,
                width: 4096.0,
                function,
            };
            values.map(|value| window.apply(value) * 255.0)
        };
        let close = |found: [f64; 5], expected: [f64; 5]| {
            for (found, expected) in found.into_iter().zip(expected) {
                assert!((found - expected).abs() < 1e-3, "{found} {expected}");
            }
        };
        // C.11.2.1.2.1: c=2048, w=4096 is x * 255 / 4095.
        close(
            apply(VoiFunction::Linear, [0.0, 1.0, 2047.0, 4094.0, 4095.0]),
            [0.0, 0.0623, 127.4689, 254.9377, 255.0],
        );
        close(
            apply(VoiFunction::LinearExact, [-1.0, 0.0, 1024.0, 4096.0, 4097.0]),
            [0.0, 0.0, 63.75, 255.0, 255.0],
        );
        // 255 / (1 + e^2), 255 / 2, 255 / (1 + e^-2)
        close(
            apply(VoiFunction::Sigmoid, [-1e9, 0.0, 2048.0, 4096.0, 1e9]),
            [0.0, 30.3968, 127.5, 224.6032, 255.0],
        );
        // A width of 1 is a threshold at the center less a half.
        let threshold = Window {
            center: 10.0,
            width: 1.0,
            function: VoiFunction::Linear,
        };
        assert_eq!(
            [9.0, 9.5, 9.6, 10.0].map(|value| threshold.apply(value)),
            [0.0, 0.0, 1.0, 1.0]
        );
    }

    #[test]
    fn the_query_parameters_are_read_and_what_is_none_is_refused() {
        let window: Window = "-40.5,350,sigmoid".parse().unwrap();
        assert_eq!(
            (window.center, window.width, window.function),
            (-40.5, 350.0, VoiFunction::Sigmoid)
        );
        for text in [
            "",
            "1",
            "1,0,linear",
            "1,2,linear,3",
            "1,2,cubic",
            "nan,2,linear",
            "1,inf,linear",
            "1,0.5,linear",
        ] {
            assert!(text.parse::<Window>().is_err(), "{text}");
        }
        assert_eq!("512,256".parse::<Viewport>().unwrap(), Viewport::new(512, 256));
        let viewport: Viewport = "512,256,1.5,,-20,".parse().unwrap();
        assert_eq!(
            (viewport.source_x, viewport.source_width, viewport.source_height),
            (1.5, Some(-20.0), None)
        );
        for text in [
            "",
            "5",
            "0,5",
            "5,0",
            "-5,5",
            "5.5,5",
            "5,5,a,1,1,1",
            "5,5,1,1,0,1",
            "1,1,1,1,1,1,1",
            "99999999999,1",
        ] {
            assert!(text.parse::<Viewport>().is_err(), "{text}");
        }
        let both = Annotation {
            patient: true,
            technique: true,
        };
        assert_eq!("technique,patient".parse::<Annotation>().unwrap(), both);
        assert!("everything".parse::<Annotation>().is_err());
    }
}
