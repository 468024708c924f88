//! Luminance and chrominance to red, green and blue (PS3.3 C.7.6.3.1.2), in units of 8 bits.

/// Of YBR_FULL and YBR_FULL_422.
#[cfg(any(feature = "render", feature = "jpegxl"))]
pub(super) fn full_to_rgb([y, cb, cr]: [f64; 3]) -> [f64; 3] {
    let (cb, cr) = (cb - 128.0, cr - 128.0);
    [
        y + 1.402 * cr,
        y - 0.344_136 * cb - 0.714_136 * cr,
        y + 1.772 * cb,
    ]
}

/// Of YBR_PARTIAL_422 and YBR_PARTIAL_420, where black is 16 and white 235.
pub(super) fn partial_to_rgb([y, cb, cr]: [f64; 3]) -> [f64; 3] {
    let (y, cb, cr) = ((y - 16.0) * 1.164_384, cb - 128.0, cr - 128.0);
    [
        y + 1.596_027 * cr,
        y - 0.391_762 * cb - 0.812_968 * cr,
        y + 2.017_232 * cb,
    ]
}

/// Turns pixels of three bytes.
pub(super) fn convert(pixels: &mut [u8], to_rgb: impl Fn([f64; 3]) -> [f64; 3]) {
    for pixel in pixels.as_chunks_mut::<3>().0 {
        // `as` saturates.
        *pixel = to_rgb(pixel.map(f64::from)).map(|value| (value + 0.5).floor() as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_narrow_range_is_spread_and_what_is_beyond_is_cut() {
        let mut pixels = [16, 128, 128, 235, 128, 128, 82, 90, 240, 255, 255, 255];
        convert(&mut pixels, partial_to_rgb);
        assert_eq!(pixels, [0, 0, 0, 255, 255, 255, 255, 1, 0, 255, 125, 255]);
    }
}
