//! Reads what a codestream says of itself, before anything is decoded: so its dimensions can be held
//! against the data set's, and its colours named.

#[cfg(feature = "jpeg2000")]
use super::codec::unsupported;
use super::codec::{corrupt, mismatch};
use super::image::Image;
use crate::error::Result;

/// The markers before the first scan of a JPEG or JPEG-LS codestream (ISO/IEC 10918-1 annex B,
/// ISO/IEC 14495-1 annex C).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Jpeg {
    /// The low byte of the Start of Frame marker: the process.
    pub(super) process: u8,
    pub(super) precision: u8,
    pub(super) rows: u32,
    pub(super) columns: u32,
    /// Identifier, sampling factors and quantization table of each.
    pub(super) components: Vec<[u8; 3]>,
    /// Colour transform of an Adobe APP14 marker.
    pub(super) adobe: Option<u8>,
    /// There is a JFIF APP0 marker.
    pub(super) jfif: bool,
}

impl Jpeg {
    /// Lossless, Huffman coded.
    pub(super) const LOSSLESS: u8 = 0xC3;
    /// Extended sequential by discrete cosine transform, Huffman coded.
    pub(super) const EXTENDED: u8 = 0xC1;
    /// JPEG-LS.
    pub(super) const LS: u8 = 0xF7;

    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        let mut jpeg = Jpeg::default();
        let mut rest = image_data(bytes)?;
        loop {
            match segment(&mut rest)? {
                (0xC4 | 0xC8 | 0xCC, _) => {}
                (marker @ (0xC0..=0xCF | 0xF7), [precision, y1, y0, x1, x0, _, components @ ..]) => {
                    jpeg.process = marker;
                    jpeg.precision = *precision;
                    jpeg.rows = u16::from_be_bytes([*y1, *y0]).into();
                    jpeg.columns = u16::from_be_bytes([*x1, *x0]).into();
                    jpeg.components = components.as_chunks::<3>().0.to_vec();
                }
                (0xE0, [b'J', b'F', b'I', b'F', 0, ..]) => jpeg.jfif = true,
                (0xEE, [b'A', b'd', b'o', b'b', b'e', _, _, _, _, _, _, transform, ..]) => {
                    jpeg.adobe = Some(*transform);
                }
                (0xDA, _) if jpeg.process != 0 => return Ok(jpeg),
                (0xDA | 0xD9, _) => return Err(corrupt("a JPEG codestream has no frame header")),
                _ => {}
            }
        }
    }

    /// Holds the frame header against what the data set says.
    pub(super) fn check(&self, image: &Image) -> Result<()> {
        check(self.rows, self.columns, self.components.len(), image)
    }

    /// Whether any component is subsampled.
    pub(super) fn subsampled(&self) -> bool {
        self.components.len() > 1 && self.components.iter().any(|&[_, factors, _]| factors != 0x11)
    }
}

/// What follows Start of Image.
pub(super) fn image_data(bytes: &[u8]) -> Result<&[u8]> {
    bytes
        .strip_prefix(&[0xFF, 0xD8])
        .ok_or_else(|| corrupt("a frame does not begin as a JPEG codestream does"))
}

/// Takes the next marker segment: the low byte of the marker and what follows its length. End of
/// Image has none.
pub(super) fn segment<'a>(rest: &mut &'a [u8]) -> Result<(u8, &'a [u8])> {
    let ended = || corrupt("a JPEG codestream ends early");
    loop {
        match **rest {
            // Fill bytes may stand before a marker.
            [0xFF, 0xFF, ..] => *rest = &rest[1..],
            [0xFF, 0x01 | 0xD0..=0xD8, ..] => *rest = &rest[2..],
            [0xFF, 0xD9, ..] => return Ok((0xD9, &[])),
            [0xFF, marker, high, low, ..] => {
                let length = usize::from(u16::from_be_bytes([high, low]));
                let segment = rest.get(4..length + 2).ok_or_else(ended)?;
                *rest = &rest[length + 2..];
                return Ok((marker, segment));
            }
            _ => return Err(ended()),
        }
    }
}

fn check(rows: u32, columns: u32, components: usize, image: &Image) -> Result<()> {
    if (rows, columns, components) != (image.rows, image.columns, image.samples) {
        return Err(mismatch(format!(
            "a codestream of {rows} rows, {columns} columns and {components} components where the data \
             set describes {}, {} and {}",
            image.rows, image.columns, image.samples
        )));
    }
    Ok(())
}

/// The SIZ marker of a JPEG 2000 codestream (ISO/IEC 15444-1 A.5.1).
#[cfg(feature = "jpeg2000")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Jpeg2000 {
    pub(super) precision: u8,
    /// Capabilities (Rsiz) name extensions of ISO/IEC 15444-2.
    pub(super) is_extended: bool,
}

#[cfg(feature = "jpeg2000")]
impl Jpeg2000 {
    /// Reads it and holds it against what the data set says. The codestream may be in a JP2 file.
    pub(super) fn parse(bytes: &[u8], image: &Image) -> Result<Self> {
        let ended = || corrupt("a frame holds no JPEG 2000 codestream");
        let start = bytes
            .windows(4)
            .position(|window| window == [0xFF, 0x4F, 0xFF, 0x51]);
        let siz = &bytes[start.ok_or_else(ended)? + 4..];
        let (fixed, components) = siz.split_at_checked(38).ok_or_else(ended)?;
        let word = |at: usize| {
            let word = fixed[at..].first_chunk::<4>().copied().unwrap_or_default();
            u32::from_be_bytes(word)
        };
        let (columns, rows) = (word(4).checked_sub(word(12)), word(8).checked_sub(word(16)));
        let count = u16::from_be_bytes([fixed[36], fixed[37]]);
        let (rows, columns) = rows.zip(columns).ok_or_else(ended)?;
        let is_extended = fixed[2] & 0x80 != 0;
        if is_extended && usize::from(count) != image.samples {
            // PS3.5 A.4.4 allows a codestream to hold several frames as its components.
            return Err(unsupported(
                "a JPEG 2000 codestream of part 2 with components of several frames",
            ));
        }
        check(rows, columns, count.into(), image)?;
        let mut components = components.as_chunks::<3>().0.iter().take(image.samples);
        let &first = components.next().ok_or_else(ended)?;
        if first[1..] != [1, 1] || components.any(|&other| other != first) {
            return Err(unsupported("JPEG 2000 components that differ or are subsampled"));
        }
        Ok(Self {
            precision: (first[0] & 0x7F) + 1,
            is_extended,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jpeg_header_is_read_up_to_its_first_scan_and_no_cut_of_it_panics() {
        let bytes = b"\xFF\xD8\xFF\xE0\x00\x07JFIF\0\xFF\xEE\x00\x0EAdobe\0\x64\0\0\0\0\x01\xFF\xFF\xDD\x00\x04\x00\x08\
            \xFF\xC3\x00\x11\x0C\x00\x10\x00\x20\x03\x01\x11\0\x02\x22\0\x03\x11\0\xFF\xDA\x00\x0C\x03\x01\0\x02\0\x03\0\x01\0\x02rest";
        let jpeg = Jpeg::parse(bytes).unwrap();
        assert_eq!(
            (jpeg.process, jpeg.precision, jpeg.rows, jpeg.columns),
            (Jpeg::LOSSLESS, 12, 16, 32)
        );
        assert_eq!(jpeg.components, [[1, 0x11, 0], [2, 0x22, 0], [3, 0x11, 0]]);
        assert_eq!((jpeg.adobe, jpeg.jfif), (Some(1), true));
        assert!(jpeg.subsampled());
        for length in 0..bytes.len() - 4 {
            assert!(Jpeg::parse(&bytes[..length]).is_err());
        }
    }
}
