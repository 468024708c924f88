//! Draws lines, areas and text into a picture. What lies beside it costs nothing and is not drawn.

use font8x8::{BASIC_FONTS, GREEK_FONTS, HIRAGANA_FONTS, LATIN_FONTS, UnicodeFonts};

use super::Picture;
use super::shutter::crossings;
use crate::limits;

/// The side of a glyph, in its own pixels.
pub(super) const GLYPH: f64 = 8.0;

/// Draws into `picture` in one colour.
pub(super) struct Canvas<'a> {
    pub(super) picture: &'a mut Picture,
    pub(super) color: [u8; 3],
    /// Of lines, in pixels.
    pub(super) thickness: u32,
    /// What may still be drawn, in pixels; what is beyond is left out.
    pub(super) left: u64,
}

impl<'a> Canvas<'a> {
    pub(super) fn new(picture: &'a mut Picture) -> Self {
        let side = picture.width.min(picture.height);
        Self {
            picture,
            color: [255; 3],
            thickness: (side / 1024).max(1),
            left: limits::DRAWN_PIXELS_MAX,
        }
    }

    fn spend(&mut self, pixels: u64) -> bool {
        self.left = self.left.saturating_sub(pixels);
        self.left > 0
    }

    fn dot(&mut self, x: i64, y: i64, color: [u8; 3]) {
        let (width, height) = (i64::from(self.picture.width), i64::from(self.picture.height));
        if (0..width).contains(&x) && (0..height).contains(&y) {
            let channels = usize::from(self.picture.channels);
            let at = (y * width + x) as usize * channels;
            self.picture.pixels[at..at + channels].copy_from_slice(&color[..channels]);
        }
    }

    /// A square as large as lines are thick, around a point.
    pub(super) fn point(&mut self, [x, y]: [f64; 2], size: u32) {
        let reach = f64::from(size) / 2.0;
        // `as` saturates; what is far away is beside the picture.
        let (left, top) = ((x - reach).round() as i64, (y - reach).round() as i64);
        for down in 0..i64::from(size) {
            for across in 0..i64::from(size) {
                self.dot(left.saturating_add(across), top.saturating_add(down), self.color);
            }
        }
    }

    pub(super) fn line(&mut self, from: [f64; 2], to: [f64; 2]) {
        let Some(([x, y], [to_x, to_y])) = self.clip(from, to) else {
            return;
        };
        let (across, down) = (to_x - x, to_y - y);
        let steps = across.abs().max(down.abs()).ceil().max(1.0);
        if !self.spend(steps as u64 * u64::from(self.thickness * self.thickness)) {
            return;
        }
        for step in 0..=steps as u32 {
            let at = f64::from(step) / steps;
            self.point([x + across * at, y + down * at], self.thickness);
        }
    }

    /// What of a line lies in the picture, with room for its thickness (Liang and Barsky).
    fn clip(&self, from: [f64; 2], to: [f64; 2]) -> Option<([f64; 2], [f64; 2])> {
        let room = f64::from(self.thickness);
        let ends = [
            f64::from(self.picture.width) + room,
            f64::from(self.picture.height) + room,
        ];
        let (mut first, mut last) = (0.0f64, 1.0f64);
        for axis in 0..2 {
            let delta = to[axis] - from[axis];
            for (direction, distance) in [(-delta, from[axis] + room), (delta, ends[axis] - from[axis])] {
                if !direction.is_finite() || !distance.is_finite() {
                    return None;
                }
                if direction == 0.0 {
                    if distance < 0.0 {
                        return None;
                    }
                } else if direction < 0.0 {
                    first = first.max(distance / direction);
                } else {
                    last = last.min(distance / direction);
                }
            }
        }
        let at = |part: f64| {
            [
                from[0] + part * (to[0] - from[0]),
                from[1] + part * (to[1] - from[1]),
            ]
        };
        (first <= last).then(|| (at(first), at(last)))
    }

    pub(super) fn lines(&mut self, points: &[[f64; 2]]) {
        for two in points.windows(2) {
            self.line(two[0], two[1]);
        }
    }

    /// What is inside of a closed line.
    pub(super) fn area(&mut self, points: &[[f64; 2]]) {
        if points.iter().flatten().any(|at| !at.is_finite()) {
            return;
        }
        let turned: Vec<[f64; 2]> = points.iter().map(|&[x, y]| [y, x]).collect();
        let width = f64::from(self.picture.width);
        for y in 0..self.picture.height {
            if !self.spend(u64::from(self.picture.width) / 4 + points.len() as u64) {
                return;
            }
            let crossings = crossings(&turned, f64::from(y) + 0.5);
            for span in crossings.chunks_exact(2) {
                // Pixels whose center is inside.
                let from = (span[0] - 0.5).ceil().clamp(0.0, width) as i64;
                let to = (span[1] - 0.5).ceil().clamp(0.0, width) as i64;
                for x in from..to {
                    self.dot(x, y.into(), self.color);
                }
            }
        }
    }

    /// One line of text with its top left corner at a point, each pixel of its glyphs as large as `scale`. With
    /// an outline of black, or of white where it is dark.
    pub(super) fn text(&mut self, [x, y]: [f64; 2], text: &str, scale: u32) {
        let (left, top) = (x.round() as i64, y.round() as i64);
        let advance = (GLYPH as i64).saturating_mul(scale.into());
        let bright = self.color.iter().map(|&value| u32::from(value)).sum::<u32>() >= 384;
        let outline = if bright { [0; 3] } else { [255; 3] };
        let picture_width = i64::from(self.picture.width);
        for (color, reach) in [(outline, i64::from(scale.div_ceil(2))), (self.color, 0)] {
            let mut at = left;
            for character in text.chars() {
                if at >= picture_width {
                    break;
                }
                let side = u64::from(scale) * GLYPH as u64;
                if at >= -advance && self.spend(side * side) {
                    self.glyph([at, top], character, scale.into(), color, reach);
                }
                at = at.saturating_add(advance);
            }
        }
    }

    fn glyph(&mut self, [left, top]: [i64; 2], character: char, scale: i64, color: [u8; 3], reach: i64) {
        for (row, bits) in (0i64..).zip(glyph(character)) {
            for column in (0i64..8).filter(|column| bits >> column & 1 == 1) {
                let y = top.saturating_add(row * scale);
                let x = left.saturating_add(column * scale);
                for y in y.saturating_sub(reach)..y.saturating_add(scale + reach) {
                    for x in x.saturating_sub(reach)..x.saturating_add(scale + reach) {
                        self.dot(x, y, color);
                    }
                }
            }
        }
    }
}

/// The glyph of a character: a byte a row, its lowest bit on the left.
fn glyph(character: char) -> [u8; 8] {
    let known = BASIC_FONTS
        .get(character)
        .or_else(|| LATIN_FONTS.get(character))
        .or_else(|| GREEK_FONTS.get(character))
        .or_else(|| HIRAGANA_FONTS.get(character));
    known.or_else(|| BASIC_FONTS.get('?')).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(width: u32, height: u32, draw: impl FnOnce(&mut Canvas<'_>)) -> Vec<String> {
        let mut picture = Picture {
            width,
            height,
            channels: 1,
            pixels: vec![100; (width * height) as usize],
        };
        draw(&mut Canvas::new(&mut picture));
        let character = |&value: &u8| match value {
            100 => '.',
            255 => '#',
            _ => 'o',
        };
        picture
            .pixels
            .chunks(width as usize)
            .map(|row| row.iter().map(character).collect())
            .collect()
    }

    #[test]
    fn lines_are_drawn_where_they_are_inside() {
        let lines = draw(5, 5, |canvas| {
            canvas.line([0.5, 0.5], [4.5, 4.5]);
            canvas.line([-1e12, 2.5], [1e12, 2.5]);
            canvas.line([f64::NAN, 0.0], [1.0, 1.0]);
            canvas.line([0.0, f64::INFINITY], [1.0, 1.0]);
            canvas.line([-50.0, -20.0], [-10.0, 100.0]);
        });
        assert_eq!(lines, ["#....", ".#...", "#####", "...#.", "....#"]);
    }

    #[test]
    fn an_area_is_filled_to_its_edges() {
        let area = draw(6, 5, |canvas| {
            canvas.area(&[[1.0, 1.0], [5.0, 1.0], [5.0, 4.0], [1.0, 4.0]]);
            canvas.area(&[[1.0, f64::NAN], [5.0, 1.0], [5.0, 4.0]]);
        });
        assert_eq!(area, ["......", ".####.", ".####.", ".####.", "......"]);
    }

    #[test]
    fn text_has_an_outline_and_what_the_font_lacks_is_a_question_mark() {
        let one = draw(10, 10, |canvas| canvas.text([1.0, 1.0], "I", 1));
        assert_eq!(one[1], ".o####o...", "{one:#?}");
        let kanji = draw(10, 10, |canvas| canvas.text([1.0, 1.0], "\u{5c71}", 1));
        assert_eq!(kanji, draw(10, 10, |canvas| canvas.text([1.0, 1.0], "?", 1)));
        let umlaut = draw(10, 10, |canvas| canvas.text([1.0, 1.0], "\u{e4}", 1));
        assert_ne!(umlaut, kanji);
        let beside = draw(4, 4, |canvas| {
            canvas.text([1e30, -1e30], "far away", u32::MAX);
            canvas.text([f64::NAN, 50.0], "far away", 3);
        });
        assert_eq!(beside, ["...."; 4]);
    }
}
