//! A multi-frame instance in JPEG baseline.

use image::ExtendedColorType;
use image::codecs::jpeg::JpegEncoder;

use crate::set::{Noise, put, text};

const MULTI_FRAME_GRAYSCALE_BYTE_SECONDARY_CAPTURE: &str = "1.2.840.10008.5.1.4.1.1.7.2";
pub(crate) const JPEG_BASELINE: &str = "1.2.840.10008.1.2.4.50";

/// Where it is found.
pub(crate) const STUDY: &str = "2.25.2026100";
pub(crate) const SERIES: &str = "2.25.2026100.1";
pub(crate) const INSTANCE: &str = "2.25.2026100.1.1";

/// A Part 10 file of so many frames; the same arguments make the same bytes.
pub(crate) fn generate(frames: u16, side: u16) -> Result<Vec<u8>, image::ImageError> {
    let mut meta = Vec::new();
    put(&mut meta, 0x0002_0001, b"OB", &[0, 1]);
    text(
        &mut meta,
        0x0002_0002,
        b"UI",
        MULTI_FRAME_GRAYSCALE_BYTE_SECONDARY_CAPTURE,
    );
    text(&mut meta, 0x0002_0003, b"UI", INSTANCE);
    text(&mut meta, 0x0002_0010, b"UI", JPEG_BASELINE);
    text(&mut meta, 0x0002_0012, b"UI", "2.25.1");
    let mut file = vec![0; 128];
    file.extend_from_slice(b"DICM");
    let length = u32::try_from(meta.len()).unwrap_or(u32::MAX);
    put(&mut file, 0x0002_0000, b"UL", &length.to_le_bytes());
    file.extend_from_slice(&meta);
    text(
        &mut file,
        0x0008_0016,
        b"UI",
        MULTI_FRAME_GRAYSCALE_BYTE_SECONDARY_CAPTURE,
    );
    text(&mut file, 0x0008_0018, b"UI", INSTANCE);
    text(&mut file, 0x0008_0020, b"DA", "20260115");
    text(&mut file, 0x0008_0060, b"CS", "OT");
    text(&mut file, 0x0008_0064, b"CS", "SYN");
    text(&mut file, 0x0010_0010, b"PN", "Generated^Frames");
    text(&mut file, 0x0010_0020, b"LO", "FRAMES");
    text(&mut file, 0x0020_000D, b"UI", STUDY);
    text(&mut file, 0x0020_000E, b"UI", SERIES);
    text(&mut file, 0x0020_0013, b"IS", "1");
    put(&mut file, 0x0028_0002, b"US", &1u16.to_le_bytes());
    text(&mut file, 0x0028_0004, b"CS", "MONOCHROME2");
    text(&mut file, 0x0028_0008, b"IS", &frames.to_string());
    put(&mut file, 0x0028_0010, b"US", &side.to_le_bytes());
    put(&mut file, 0x0028_0011, b"US", &side.to_le_bytes());
    put(&mut file, 0x0028_0100, b"US", &8u16.to_le_bytes());
    put(&mut file, 0x0028_0101, b"US", &8u16.to_le_bytes());
    put(&mut file, 0x0028_0102, b"US", &7u16.to_le_bytes());
    put(&mut file, 0x0028_0103, b"US", &0u16.to_le_bytes());
    text(&mut file, 0x0028_2110, b"CS", "01");

    // Encapsulated (PS3.5 A.4): undefined length, an empty offset table, a fragment for each frame.
    file.extend_from_slice(&[0xE0, 0x7F, 0x10, 0x00, b'O', b'B', 0, 0, 0xFF, 0xFF, 0xFF, 0xFF]);
    item(&mut file, &[]);
    let mut noise = Noise::new(42);
    for frame in 0..frames {
        item(&mut file, &jpeg(frame, side, &mut noise)?);
    }
    file.extend_from_slice(&[0xFE, 0xFF, 0xDD, 0xE0, 0, 0, 0, 0]);
    Ok(file)
}

fn item(file: &mut Vec<u8>, content: &[u8]) {
    let padded = content.len().next_multiple_of(2);
    file.extend_from_slice(&[0xFE, 0xFF, 0x00, 0xE0]);
    file.extend_from_slice(&u32::try_from(padded).unwrap_or(u32::MAX).to_le_bytes());
    file.extend_from_slice(content);
    file.resize(file.len() + padded - content.len(), 0);
}

fn jpeg(frame: u16, side: u16, noise: &mut Noise) -> Result<Vec<u8>, image::ImageError> {
    let mut pixels = Vec::with_capacity(usize::from(side) * usize::from(side));
    for row in 0..side {
        for column in 0..side {
            let gradient = (u32::from(row) + u32::from(column)) / 16 + u32::from(frame);
            pixels.push((gradient as u8 & 0xBF) + (noise.next() >> 58) as u8);
        }
    }
    let mut out = Vec::new();
    JpegEncoder::new_with_quality(&mut out, 90).encode(
        &pixels,
        side.into(),
        side.into(),
        ExtendedColorType::L8,
    )?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_frame_has_a_fragment_of_its_own() {
        let file = generate(3, 16).unwrap();
        let items = |of: [u8; 4]| file.windows(4).filter(|window| *window == of).count();
        assert_eq!(
            items([0xFE, 0xFF, 0x00, 0xE0]),
            4,
            "the offset table and three frames"
        );
        assert_eq!(
            file.windows(3)
                .filter(|window| *window == [0xFF, 0xD8, 0xFF])
                .count(),
            3
        );
        assert_eq!(file, generate(3, 16).unwrap());
    }
}
