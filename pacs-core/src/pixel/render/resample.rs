//! Scales a part of an image, row by row: by the average of the area when it becomes smaller, bilinearly when
//! it becomes larger.

use std::collections::VecDeque;
use std::ops::Range;

/// Of which pixels, and how much of each, the pixels of one side are made.
struct Side {
    weights: Vec<(usize, f32)>,
    ranges: Vec<Range<usize>>,
}

impl Side {
    /// `count` pixels out of those from `from` on, `extent` long; the image has `size`. Beside it all is black.
    fn new(from: f64, extent: f64, size: usize, count: u32) -> Self {
        let scale = extent / f64::from(count);
        let mut side = Side {
            weights: Vec::new(),
            ranges: Vec::with_capacity(count as usize),
        };
        for at in 0..count {
            let begin = side.weights.len();
            if scale >= 1.0 {
                side.area(from + f64::from(at) * scale, scale, size);
            } else {
                let center = from + (f64::from(at) + 0.5) * scale - 0.5;
                // Not beyond the centers of the first and the last pixel that are shown.
                let last = (from + extent).ceil() - 1.0;
                side.between(center.clamp(from.floor(), last.max(from.floor())), size);
            }
            side.ranges.push(begin..side.weights.len());
        }
        side
    }

    fn area(&mut self, from: f64, extent: f64, size: usize) {
        let to = from + extent;
        // `as` saturates.
        let (first, end) = (from.max(0.0).floor() as usize, to.max(0.0).ceil() as usize);
        for pixel in first..end.min(size) {
            let covered = to.min(pixel as f64 + 1.0) - from.max(pixel as f64);
            if covered > extent * 1e-6 {
                self.weights.push((pixel, (covered / extent) as f32));
            }
        }
    }

    fn between(&mut self, center: f64, size: usize) {
        let (first, part) = (center.floor(), center - center.floor());
        for (pixel, weight) in [(first, 1.0 - part), (first + 1.0, part)] {
            if weight > 0.0 && pixel >= 0.0 && pixel < size as f64 {
                self.weights.push((pixel as usize, weight as f32));
            }
        }
    }

    fn of(&self, at: usize) -> &[(usize, f32)] {
        &self.weights[self.ranges[at].clone()]
    }

    /// Whether each pixel is one of the image's, in order.
    fn is_plain(&self) -> bool {
        let one_each = self.ranges.len() == self.weights.len()
            && self.ranges.iter().all(|range| range.len() == 1)
            && self.weights.iter().all(|&(_, weight)| weight == 1.0);
        one_each && self.weights.windows(2).all(|two| two[0].0 + 1 == two[1].0)
    }
}

/// The image that is scaled.
pub(super) struct Image<F> {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) channels: usize,
    /// Writes a row of it.
    pub(super) row: F,
}

/// Scales `region` (left, top, width, height) of `image` to `width` by `height` pixels.
pub(super) fn resample<F: FnMut(usize, &mut [u8])>(
    mut image: Image<F>,
    region: [f64; 4],
    width: u32,
    height: u32,
) -> Vec<u8> {
    let channels = image.channels;
    let [left, top, across, down] = region;
    let columns = Side::new(left, across, image.width, width);
    let rows = Side::new(top, down, image.height, height);
    let mut source = vec![0; image.width * channels];
    let row_length = width as usize * channels;
    let mut out = Vec::with_capacity(row_length * height as usize);
    if columns.is_plain() && rows.is_plain() {
        let first = columns.weights[0].0 * channels;
        for &(row, _) in &rows.weights {
            (image.row)(row, &mut source);
            out.extend_from_slice(&source[first..first + row_length]);
        }
        return out;
    }
    // Rows that were scaled in their width, and that the next row of the picture may need again.
    let mut scaled: VecDeque<(usize, Vec<f32>)> = VecDeque::with_capacity(2);
    let mut sum = vec![0.0f32; row_length];
    for at in 0..height as usize {
        sum.fill(0.0);
        for &(row, weight) in rows.of(at) {
            if !scaled.iter().any(|&(known, _)| known == row) {
                let mut line = match scaled.len() {
                    2 => scaled.pop_front().map(|(_, line)| line).unwrap_or_default(),
                    _ => Vec::new(),
                };
                (image.row)(row, &mut source);
                line.clear();
                for column in 0..width as usize {
                    let parts = columns.of(column);
                    for channel in 0..channels {
                        let value = |&(pixel, weight): &(usize, f32)| {
                            f32::from(source[pixel * channels + channel]) * weight
                        };
                        line.push(parts.iter().map(value).sum());
                    }
                }
                scaled.push_back((row, line));
            }
            if let Some((_, line)) = scaled.iter().find(|&&(known, _)| known == row) {
                for (sum, value) in sum.iter_mut().zip(line) {
                    *sum += value * weight;
                }
            }
        }
        out.extend(sum.iter().map(|value| (value + 0.5) as u8));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scale(pixels: &[u8], width: usize, channels: usize, region: [f64; 4], size: (u32, u32)) -> Vec<u8> {
        let image = Image {
            width,
            height: pixels.len() / width / channels,
            channels,
            row: |y: usize, out: &mut [u8]| {
                out.copy_from_slice(&pixels[y * width * channels..][..width * channels]);
            },
        };
        resample(image, region, size.0, size.1)
    }

    #[test]
    fn what_is_as_large_is_as_it_was_and_a_part_is_a_part() {
        let pixels: Vec<u8> = (0..12).collect();
        assert_eq!(scale(&pixels, 4, 1, [0.0, 0.0, 4.0, 3.0], (4, 3)), pixels);
        assert_eq!(scale(&pixels, 4, 1, [1.0, 1.0, 2.0, 2.0], (2, 2)), [5, 6, 9, 10]);
    }

    #[test]
    fn what_becomes_smaller_is_the_average_of_its_area() {
        let pixels = [0, 100, 10, 30, 200, 100, 50, 70];
        assert_eq!(scale(&pixels, 4, 1, [0.0, 0.0, 4.0, 2.0], (2, 1)), [100, 40]);
        // Three pixels to two: one and a half each.
        assert_eq!(
            scale(&[0, 90, 240], 3, 1, [0.0, 0.0, 3.0, 1.0], (2, 1)),
            [30, 190]
        );
        assert_eq!(
            scale(&[0, 1, 2, 100, 101, 102], 2, 3, [0.0, 0.0, 2.0, 1.0], (1, 1)),
            [50, 51, 52]
        );
    }

    #[test]
    fn what_becomes_larger_is_between_its_pixels() {
        assert_eq!(
            scale(&[0, 100], 2, 1, [0.0, 0.0, 2.0, 1.0], (4, 1)),
            [0, 25, 75, 100]
        );
        let both = scale(&[0, 100, 200, 100], 2, 1, [0.0, 0.0, 2.0, 2.0], (4, 4));
        assert_eq!(both[..4], [0, 25, 75, 100]);
        assert_eq!(both[4..8], [50, 63, 88, 100]);
        // Of a part, nothing of what is beside it.
        assert_eq!(
            scale(&[0, 100, 200], 3, 1, [1.0, 0.0, 1.0, 1.0], (3, 1)),
            [100; 3]
        );
    }

    #[test]
    fn beside_the_image_all_is_black() {
        assert_eq!(
            scale(&[9; 4], 2, 1, [-1.0, -1.0, 4.0, 4.0], (4, 4))[4..8],
            [0, 9, 9, 0]
        );
        assert_eq!(scale(&[9; 4], 2, 1, [-1e9, -1e9, 2.0, 2.0], (2, 2)), [0; 4]);
        assert_eq!(scale(&[8; 4], 2, 1, [-2.0, 0.0, 4.0, 2.0], (2, 1)), [0, 8]);
        assert_eq!(scale(&[8; 4], 2, 1, [-1e9, -1e9, 4e9, 4e9], (2, 2)), [0; 4]);
    }
}
