//! A frame as a picture of its own size, row by row: gray or colour, then shutter, then overlays.

use dicom_dictionary_std::tags;

use super::color::Color;
use super::described::{Described, is_signed, required};
use super::gray::{Grayscale, Modality, Presentation, Voi, level};
use super::options::Window;
use super::overlay::Overlay;
use super::palette::Palette;
use super::samples::Samples;
use super::shutter::Shutter;
use super::state::PresentationState;
use crate::error::Result;

/// See the module's text.
pub(super) struct Frame<'a> {
    samples: Samples<'a>,
    rows: usize,
    columns: usize,
    channels: usize,
    pixels: Pixels,
    shutter: Option<Shutter>,
    overlays: Vec<(Overlay, [u8; 3])>,
}

/// What is displayed for stored values.
enum Pixels {
    /// By the bits of a sample.
    Table(Vec<[u8; 3]>),
    Gray(Gray),
    Color(Color),
}

/// Levels of gray, or colours in their place.
struct Gray {
    grayscale: Grayscale,
    palette: Option<Palette>,
}

impl Gray {
    fn color(&self, stored: f64) -> [u8; 3] {
        let fraction = self.grayscale.fraction(stored);
        match &self.palette {
            Some(palette) => palette.color_of_fraction(fraction),
            None => [level(fraction); 3],
        }
    }
}

impl<'a> Frame<'a> {
    /// # Errors
    /// See [`render`](super::render).
    pub(super) fn new(
        described: &Described<'_>,
        frame: &'a [u8],
        window: Option<&Window>,
        state: Option<&PresentationState>,
    ) -> Result<Self> {
        let (header, number) = (described.header, described.number);
        if let Some(window) = window {
            window.check()?;
        }
        let samples = Samples::of(header, frame)?;
        let (rows, columns) = (required(header, tags::ROWS)?, required(header, tags::COLUMNS)?);
        let count = u64::from(rows) * u64::from(columns);
        let overlays = match state {
            Some(state) => state.overlays(header, number),
            None => {
                let overlays = Overlay::of_image(header, number);
                overlays.map(|(_, overlay)| (overlay, [255; 3])).collect()
            }
        };
        let shutter = match state {
            Some(state) => state.shutter(number),
            None => Shutter::of(header, number),
        };
        let colored = shutter
            .iter()
            .map(Shutter::color)
            .any(|[r, g, b]| r != g || g != b)
            || state.is_some_and(PresentationState::is_colored);
        let (pixels, is_gray) = match Color::of(header, &samples, count)? {
            Some(color) => (Pixels::Color(color), false),
            None => {
                let palette = state.map(PresentationState::palette).transpose()?.flatten();
                let is_gray = palette.is_none() && !colored;
                // There are bytes for all.
                (
                    gray(described, &samples, count as usize, window, state, palette)?,
                    is_gray,
                )
            }
        };
        Ok(Self {
            samples,
            rows: rows.into(),
            columns: columns.into(),
            channels: if is_gray { 1 } else { 3 },
            pixels,
            shutter,
            overlays,
        })
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    pub(super) fn channels(&self) -> usize {
        self.channels
    }

    /// Writes row `y`, below [`rows`](Self::rows), to `out`, as long as a row.
    pub(super) fn row(&self, y: usize, out: &mut [u8]) {
        let (channels, first) = (self.channels, y * self.columns);
        for (x, pixel) in out.chunks_exact_mut(channels).enumerate() {
            let at = first + x;
            let color = match &self.pixels {
                Pixels::Table(table) => table
                    .get(self.samples.code(at) as usize)
                    .copied()
                    .unwrap_or_default(),
                Pixels::Gray(gray) => gray.color(self.samples.value(at)),
                Pixels::Color(color) => color.rgb(&self.samples, at),
            };
            pixel.copy_from_slice(&color[..channels]);
        }
        let mut paint = |x: usize, color: [u8; 3]| {
            out[x * channels..][..channels].copy_from_slice(&color[..channels]);
        };
        if let Some(shutter) = &self.shutter {
            shutter.row(&self.samples, self.columns, y, |x| paint(x, shutter.color()));
        }
        for (overlay, color) in &self.overlays {
            overlay.row(&self.samples, self.columns, y, |x| paint(x, *color));
        }
    }
}

fn gray(
    described: &Described<'_>,
    samples: &Samples<'_>,
    count: usize,
    window: Option<&Window>,
    state: Option<&PresentationState>,
    palette: Option<Palette>,
) -> Result<Pixels> {
    let (header, number) = (described.header, described.number);
    let instance = header.string(tags::SOP_INSTANCE_UID).unwrap_or_default();
    let modality = match state {
        Some(state) => state.modality(is_signed(header))?,
        None => Modality::of_frame(described)?,
    };
    let signed = modality.gives_signed(samples);
    let voi = match (window, state) {
        (Some(window), _) => Voi::Window(*window),
        (None, Some(state)) => match state.voi(instance, number, signed)? {
            Some(voi) => voi,
            // All that there may be (PS3.3 C.11.8).
            None => modality.range(samples),
        },
        (None, None) => match Voi::of_frame(described, signed)? {
            Some(voi) => voi,
            None => Voi::of_values(header, samples, count, &modality),
        },
    };
    let presentation = match state {
        Some(state) => state.presentation()?,
        None => Presentation::of_image(header)?,
    };
    let gray = Gray {
        grayscale: Grayscale {
            modality,
            voi,
            presentation,
        },
        palette,
    };
    // Where there are more pixels than values, each value is worked out once.
    Ok(match samples.bits() {
        Some(bits @ 1..=16) if count >> bits > 0 => {
            let values = 0..1u32 << bits;
            Pixels::Table(values.map(|code| gray.color(samples.meaning(code))).collect())
        }
        _ => Pixels::Gray(gray),
    })
}
