//! The samples of a frame as they are stored (PS3.5 8.1.1, PS3.3 C.7.6.3, C.7.6.24).

use dicom_dictionary_std::tags;

use super::described::{is_signed, required, unreadable, unsupported};
use crate::dataset::DataSet;
use crate::error::{Error, ErrorKind, Result};

/// The cells that a frame is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cell {
    Bit,
    Byte,
    Word,
    Long,
    Float,
    Double,
}

/// The samples of a frame, in the order of its bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Samples<'a> {
    bytes: &'a [u8],
    cell: Cell,
    /// The lowest bit of a sample in its cell.
    low_bit: u32,
    bits: u32,
    signed: bool,
}

impl<'a> Samples<'a> {
    /// Of a `frame` that `header` describes.
    ///
    /// # Errors
    /// `Invalid` when bits are described that a cell doesn't have, `Unsupported` for cells of other sizes.
    pub(super) fn of(header: &DataSet, frame: &'a [u8]) -> Result<Self> {
        let allocated = required(header, tags::BITS_ALLOCATED)?;
        // Float Pixel Data has cells of 32 bits without any of these (C.7.6.24).
        let is_float = header.contains(tags::FLOAT_PIXEL_DATA)
            || !header.contains(tags::BITS_STORED) && !header.contains(tags::PIXEL_REPRESENTATION);
        let cell = match allocated {
            1 => Cell::Bit,
            8 => Cell::Byte,
            16 => Cell::Word,
            32 if is_float => Cell::Float,
            32 => Cell::Long,
            64 => Cell::Double,
            _ => {
                let error = unsupported(format!("pixels of {allocated} bits allocated"));
                return Err(error.with_tag(tags::BITS_ALLOCATED));
            }
        };
        let (mut bits, mut low_bit) = (u32::from(allocated), 0);
        if matches!(cell, Cell::Byte | Cell::Word | Cell::Long) {
            bits = header.u16(tags::BITS_STORED).map_or(bits, u32::from);
            let high = header
                .u16(tags::HIGH_BIT)
                .map_or(bits.saturating_sub(1), u32::from);
            if bits == 0 || high >= allocated.into() || bits > high + 1 {
                let context = format!("{bits} bits stored up to bit {high} of {allocated} bits allocated");
                return Err(unreadable(context).with_tag(tags::BITS_STORED));
            }
            low_bit = high + 1 - bits;
        }
        let signed = cell != Cell::Bit && is_signed(header);
        Ok(Self {
            bytes: frame,
            cell,
            low_bit,
            bits,
            signed,
        })
    }

    /// How many bytes `count` samples take.
    fn length(&self, count: u64) -> u64 {
        match self.cell {
            Cell::Bit => count.div_ceil(8),
            Cell::Byte => count,
            Cell::Word => count.saturating_mul(2),
            Cell::Long | Cell::Float => count.saturating_mul(4),
            Cell::Double => count.saturating_mul(8),
        }
    }

    /// Whether there are bytes for `count` samples.
    pub(super) fn holds(&self, count: u64) -> bool {
        self.bytes.len() as u64 >= self.length(count)
    }

    /// Demands that there are.
    pub(super) fn require(&self, count: u64) -> Result<()> {
        if self.holds(count) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Mismatch,
            "frame.render",
            format!(
                "a frame of {} bytes where the data set describes {}",
                self.bytes.len(),
                self.length(count)
            ),
        ))
    }

    /// Bits of a sample, where it is an integer.
    pub(super) fn bits(&self) -> Option<u32> {
        (!matches!(self.cell, Cell::Float | Cell::Double)).then_some(self.bits)
    }

    /// The bits of a cell, with all that stands beside the sample; 0 beyond the end.
    pub(super) fn cell(&self, at: usize) -> u32 {
        match self.cell {
            Cell::Bit => {
                let byte = self.bytes.get(at / 8).copied().unwrap_or_default();
                u32::from(byte >> (at % 8) & 1)
            }
            Cell::Byte => self.bytes.get(at).copied().unwrap_or_default().into(),
            Cell::Word => u16::from_le_bytes(self.chunk(at)).into(),
            Cell::Long | Cell::Float => u32::from_le_bytes(self.chunk(at)),
            Cell::Double => 0,
        }
    }

    fn chunk<const N: usize>(&self, at: usize) -> [u8; N] {
        self.bytes.as_chunks().0.get(at).copied().unwrap_or([0; N])
    }

    /// The bits of a sample that is an integer; what stands in the cell beside it is masked off.
    pub(super) fn code(&self, at: usize) -> u32 {
        self.cell(at) >> self.low_bit & (u32::MAX >> (32 - self.bits.min(32)))
    }

    /// What these bits of an integer mean, with the sign extended.
    pub(super) fn meaning(&self, code: u32) -> f64 {
        if self.signed {
            let above = 32 - self.bits.min(32);
            f64::from((code << above) as i32 >> above)
        } else {
            code.into()
        }
    }

    /// The smallest and largest value that a sample may have; of float values, 0 and 1.
    pub(super) fn range(&self) -> (f64, f64) {
        match self.bits() {
            None => (0.0, 1.0),
            Some(bits) if self.signed => (-(2f64.powi(bits as i32 - 1)), 2f64.powi(bits as i32 - 1) - 1.0),
            Some(bits) => (0.0, 2f64.powi(bits as i32) - 1.0),
        }
    }

    /// The stored value of a sample.
    pub(super) fn value(&self, at: usize) -> f64 {
        match self.cell {
            Cell::Float => f32::from_le_bytes(self.chunk(at)).into(),
            Cell::Double => f64::from_le_bytes(self.chunk(at)),
            _ => self.meaning(self.code(at)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(allocated: u16, stored: u16, high: u16, signed: bool) -> DataSet {
        let mut set = DataSet::new();
        set.put_u16(tags::BITS_ALLOCATED, allocated);
        set.put_u16(tags::BITS_STORED, stored);
        set.put_u16(tags::HIGH_BIT, high);
        set.put_u16(tags::PIXEL_REPRESENTATION, signed.into());
        set
    }

    fn values(header: &DataSet, frame: &[u8], count: usize) -> Vec<f64> {
        let samples = Samples::of(header, frame).unwrap();
        assert!(samples.holds(count as u64) && !samples.holds(count as u64 + 8));
        (0..count).map(|at| samples.value(at)).collect()
    }

    #[test]
    fn bits_beside_a_sample_are_masked_off_and_its_sign_extended() {
        // 12 bits up to bit 11, an overlay in bit 15.
        let frame = [0xFF, 0x8F, 0x34, 0x12];
        assert_eq!(values(&header(16, 12, 11, false), &frame, 2), [4095.0, 564.0]);
        assert_eq!(values(&header(16, 12, 11, true), &frame, 2), [-1.0, 564.0]);
        // 12 bits up to bit 15.
        assert_eq!(values(&header(16, 12, 15, false), &frame, 2), [2303.0, 291.0]);
        assert_eq!(values(&header(16, 12, 15, true), &frame, 2), [-1793.0, 291.0]);
    }

    #[test]
    fn cells_of_every_size_are_read_in_little_endian() {
        assert_eq!(values(&header(1, 1, 0, false), &[0b101], 8)[..3], [1.0, 0.0, 1.0]);
        assert_eq!(values(&header(8, 8, 7, true), &[0x80, 0x7F], 2), [-128.0, 127.0]);
        let long = [0, 0, 0, 0x80];
        assert_eq!(values(&header(32, 32, 31, false), &long, 1), [2_147_483_648.0]);
        assert_eq!(values(&header(32, 32, 31, true), &long, 1), [-2_147_483_648.0]);
        let mut float = DataSet::new();
        float.put_u16(tags::BITS_ALLOCATED, 32);
        assert_eq!(values(&float, &(-1.5f32).to_le_bytes(), 1), [-1.5]);
        float.put_u16(tags::BITS_ALLOCATED, 64);
        assert_eq!(values(&float, &0.1f64.to_le_bytes(), 1), [0.1]);
    }

    #[test]
    fn bits_that_no_cell_has_are_refused() {
        for (allocated, stored, high) in [(8, 9, 8), (16, 0, 0), (16, 12, 16), (8, 8, 3), (12, 12, 11)] {
            assert!(
                Samples::of(&header(allocated, stored, high, false), &[]).is_err(),
                "{allocated} {stored} {high}"
            );
        }
    }
}
