//! One frame of native pixel data (PS3.5 8.1.1), as Explicit VR Little Endian has it.

use bytes::{Buf, Bytes, BytesMut};
use dicom_core::Tag;
use dicom_dictionary_std::tags;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};

use super::{cut_off, error, number_of_frames, outgoing};
use crate::archive::Archive;
use crate::dataset::scan::PixelData;
use crate::dataset::{DataSet, inflate, syntax};
use crate::error::{ErrorKind, Result};
use crate::index::InstanceRecord;
use crate::limits;

/// The cells of native pixel data, and where they lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cells {
    /// First byte of the value, from the start of the data set, which is inflated where it is deflated.
    offset: u64,
    /// Bytes of the value.
    length: u64,
    pub(super) frame_bits: u64,
    /// Bytes of what is swapped: 1 where nothing is.
    swap: usize,
    deflated: bool,
    /// Every two pixels share their chrominance (PS3.3 C.7.6.3.1.2): bytes of a sample.
    pub(super) shares_chrominance: Option<usize>,
    /// Integers: neither Float nor Double Float Pixel Data.
    pub(super) integers: bool,
}

impl Cells {
    /// What `header` says of the value of `pixel_data`, which has `length` bytes.
    pub(super) fn of(
        header: &DataSet,
        pixel_data: &PixelData,
        length: u64,
        transfer_syntax: &str,
    ) -> Result<Self> {
        let number = |tag: Tag| {
            header.u16(tag).map(u64::from).ok_or_else(|| {
                error(
                    ErrorKind::Invalid,
                    "an attribute that describes the pixels is missing",
                )
                .with_tag(tag)
            })
        };
        let bits = match pixel_data.tag {
            tags::FLOAT_PIXEL_DATA => 32,
            tags::DOUBLE_FLOAT_PIXEL_DATA => 64,
            _ => number(tags::BITS_ALLOCATED)?,
        };
        if !matches!(bits, 1 | 8 | 16 | 32 | 64) {
            let what = format!("pixel cells of {bits} bits are not read");
            return Err(error(ErrorKind::Unsupported, what).with_tag(tags::BITS_ALLOCATED));
        }
        let samples = number(tags::SAMPLES_PER_PIXEL).unwrap_or(1);
        let pixels = number(tags::ROWS)? * number(tags::COLUMNS)?;
        // Below 2^54: two numbers of 16 bits, one more, and 64.
        let full = pixels * samples * bits;
        if full == 0 {
            let what = "an image without rows, columns or samples";
            return Err(error(ErrorKind::Invalid, what));
        }
        let photometric = header
            .string(tags::PHOTOMETRIC_INTERPRETATION)
            .unwrap_or_default();
        // Some that say so have all samples: the length tells.
        let all_full = u64::from(number_of_frames(header)).saturating_mul(full / 8);
        let shares = samples == 3
            && bits >= 8
            && pixels % 2 == 0
            && matches!(photometric, "YBR_FULL_422" | "YBR_PARTIAL_422")
            && length < all_full;
        let big_endian = syntax::Encoding::of(transfer_syntax).big_endian;
        // 64 at most.
        let cell_bits = bits as usize;
        let swap = if big_endian {
            syntax::swapped_size(pixel_data.vr, Some(cell_bits))
        } else {
            1
        };
        Ok(Self {
            offset: pixel_data.offset,
            length,
            frame_bits: if shares { full / 3 * 2 } else { full },
            swap,
            deflated: syntax::is_deflated(transfer_syntax),
            shares_chrominance: shares.then_some(cell_bits / 8),
            integers: pixel_data.tag == tags::PIXEL_DATA,
        })
    }

    /// How many frames are there, whole or in part, in a data set that is stored in so many bytes.
    pub(super) fn frames_within(&self, length: u64) -> u64 {
        let held = match self.deflated {
            true => limits::INFLATED_LENGTH_MAX_BYTES,
            false => length,
        };
        let there = held.saturating_sub(self.offset).min(self.length);
        there.saturating_mul(8).div_ceil(self.frame_bits)
    }

    /// Reads the frame at a place, from 0.
    pub(super) fn read(
        &self,
        archive: &dyn Archive,
        record: &InstanceRecord,
        at: u32,
    ) -> Result<BoxStream<'static, Result<Bytes>>> {
        let first = self.frame_bits.checked_mul(at.into()).ok_or_else(cut_off)?;
        let end = first.checked_add(self.frame_bits).ok_or_else(cut_off)?;
        let (start, end) = (first / 8, end.div_ceil(8));
        // A frame that begins inside a byte may end in the one after it.
        if end > self.length {
            return Err(cut_off());
        }
        // Whole words, or as much as there is of the last one.
        let words = self.swap as u64;
        let (from, to) = (
            start / words * words,
            end.next_multiple_of(words).min(self.length),
        );
        let (from, to) = (self.offset.saturating_add(from), self.offset.saturating_add(to));
        let (pieces, passed) = if self.deflated {
            (inflate::inflated(outgoing::data_set(archive, record)), from)
        } else {
            if to > record.length.saturating_sub(record.data_set_offset) {
                return Err(cut_off());
            }
            (outgoing::data_set_range(archive, record, from..to), 0)
        };
        let cutter = Cutter {
            swap: self.swap,
            // What is passed over of a deflated data set is not swapped: that one is little endian.
            skip: passed + start % words,
            shift: (first % 8) as u32,
            bits: self.frame_bits,
            rest: BytesMut::new(),
            carried: None,
        };
        Ok(cut(pieces, cutter))
    }
}

/// The frame that `cutter` takes out of `pieces`.
fn cut(pieces: BoxStream<'static, Result<Bytes>>, cutter: Cutter) -> BoxStream<'static, Result<Bytes>> {
    stream::try_unfold(Some((pieces, cutter)), |running| async {
        let Some((mut pieces, mut cutter)) = running else {
            return Ok(None);
        };
        while cutter.bits > 0 {
            let Some(piece) = pieces.try_next().await? else {
                let last = cutter.finish();
                return if cutter.bits > 0 {
                    Err(cut_off())
                } else {
                    Ok(Some((last, None)))
                };
            };
            let out = cutter.push(piece);
            if !out.is_empty() {
                return Ok(Some((out, Some((pieces, cutter)))));
            }
        }
        Ok(None)
    })
    .boxed()
}

/// Takes a frame out of bytes that pass by.
struct Cutter {
    /// Bytes of a word whose bytes are turned round, before all else.
    swap: usize,
    /// Bytes that stand before the frame.
    skip: u64,
    /// Bits of its first byte that stand before it.
    shift: u32,
    /// Bits of it still to come.
    bits: u64,
    /// Less than a word, while the rest of it comes.
    rest: BytesMut,
    /// A byte whose upper bits go into the same byte as the lower ones of the next.
    carried: Option<u8>,
}

impl Cutter {
    fn push(&mut self, piece: Bytes) -> Bytes {
        let mut piece = piece;
        if self.swap > 1 {
            self.rest.extend_from_slice(&piece);
            let whole = self.rest.len() / self.swap * self.swap;
            let mut words = self.rest.split_to(whole);
            for word in words.chunks_exact_mut(self.swap) {
                word.reverse();
            }
            piece = words.freeze();
        }
        self.take(piece)
    }

    /// Nothing more comes: the last of it, where what was pushed sufficed.
    fn finish(&mut self) -> Bytes {
        // Less than a word stays as it is.
        let rest = self.rest.split().freeze();
        let mut out = BytesMut::from(&self.take(rest)[..]);
        if let Some(byte) = self.carried.take()
            && (1..=u64::from(8 - self.shift)).contains(&self.bits)
        {
            out.extend_from_slice(&[byte >> self.shift & lowest(self.bits)]);
            self.bits = 0;
        }
        out.freeze()
    }

    /// Of bytes in their order, those of the frame.
    fn take(&mut self, mut piece: Bytes) -> Bytes {
        let passed = self.skip.min(piece.len() as u64);
        self.skip -= passed;
        piece.advance(passed as usize);
        if self.shift > 0 {
            piece = self.shifted(&piece);
        }
        let wanted = usize::try_from(self.bits.div_ceil(8)).unwrap_or(usize::MAX);
        piece.truncate(wanted);
        let ends = piece.len() == wanted && wanted > 0;
        let used = self.bits % 8;
        self.bits = self.bits.saturating_sub(piece.len() as u64 * 8);
        if ends && used > 0 {
            // The next frame may begin in the same byte.
            let mut bytes = BytesMut::from(&piece[..]);
            if let Some(byte) = bytes.last_mut() {
                *byte &= lowest(used);
            }
            piece = bytes.freeze();
        }
        piece
    }

    /// The bytes that lie across two of these, from the bit on where the frame begins.
    fn shifted(&mut self, piece: &[u8]) -> Bytes {
        let mut out = BytesMut::with_capacity(piece.len());
        for &byte in piece {
            if let Some(before) = self.carried.replace(byte) {
                out.extend_from_slice(&[before >> self.shift | byte << (8 - self.shift)]);
            }
        }
        out.freeze()
    }
}

/// A byte whose lowest bits are set: so many, or all.
fn lowest(bits: u64) -> u8 {
    match bits {
        0..8 => (1 << bits) - 1,
        _ => u8::MAX,
    }
}

#[cfg(test)]
mod tests {
    use dicom_core::VR;
    use futures::executor::block_on;
    use proptest::prelude::*;

    use super::*;

    fn run(value: &[u8], piece: usize, cutter: Cutter) -> Result<Vec<u8>> {
        let pieces: Vec<_> = value
            .chunks(piece)
            .map(|piece| Ok(Bytes::copy_from_slice(piece)))
            .collect();
        let out: Vec<Bytes> = block_on(cut(stream::iter(pieces).boxed(), cutter).try_collect())?;
        Ok(out.concat())
    }

    fn cutter(swap: usize, first: u64, bits: u64) -> Cutter {
        Cutter {
            swap,
            skip: first / 8,
            shift: (first % 8) as u32,
            bits,
            rest: BytesMut::new(),
            carried: None,
        }
    }

    fn bit(bytes: &[u8], at: u64) -> u8 {
        bytes[(at / 8) as usize] >> (at % 8) & 1
    }

    #[test]
    fn a_frame_of_single_bits_is_shifted_to_bit_0_and_ends_with_zeros() {
        // Three frames of 11 bits.
        let value = [0b1010_0101, 0b0110_1100, 0b1111_0000, 0b0000_1001, 0b1];
        let frame = |at: u64| run(&value, 2, cutter(1, at * 11, 11)).unwrap();
        assert_eq!(frame(0), [0b1010_0101, 0b100]);
        assert_eq!(frame(1), [0b0000_1101, 0b110]);
        assert_eq!(frame(2), [0b0010_0111, 0b100]);
    }

    #[test]
    fn words_are_swapped_also_across_pieces_and_an_odd_last_byte_stays() {
        for piece in 1..8 {
            assert_eq!(
                run(&[1, 2, 3, 4, 5, 6, 7, 8], piece, cutter(2, 0, 64)).unwrap(),
                [2, 1, 4, 3, 6, 5, 8, 7]
            );
            assert_eq!(
                run(&[1, 2, 3, 4, 5, 6, 7, 8], piece, cutter(4, 0, 64)).unwrap(),
                [4, 3, 2, 1, 8, 7, 6, 5]
            );
            assert_eq!(run(&[1, 2, 3], piece, cutter(2, 0, 24)).unwrap(), [2, 1, 3]);
            // Bytes in big-endian words: the second frame of 3 begins in the middle of one.
            assert_eq!(run(&[4, 3, 6, 5], piece, cutter(2, 8, 24)).unwrap(), [4, 5, 6]);
        }
    }

    #[test]
    fn a_frame_that_does_not_come_to_its_end_is_an_error() {
        for (first, bits) in [(0, 33), (8, 25), (3, 30), (40, 8)] {
            let error = run(&[0; 4], 3, cutter(1, first, bits)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Mismatch, "{first} {bits}");
        }
        assert!(run(&[0; 4], 3, cutter(1, 3, 29)).is_ok());
    }

    proptest! {
        #[test]
        fn any_bits_of_any_pieces_are_those_bits(
            value in proptest::collection::vec(any::<u8>(), 1..50),
            piece in 1_usize..20,
            first in 0_u64..400,
            bits in 1_u64..400,
        ) {
            let all = value.len() as u64 * 8;
            let cut = run(&value, piece, cutter(1, first, bits));
            if first + bits > all {
                prop_assert!(cut.is_err());
                return Ok(());
            }
            let cut = cut.unwrap();
            prop_assert_eq!(cut.len() as u64, bits.div_ceil(8));
            for at in 0..cut.len() as u64 * 8 {
                let expected = if at < bits { bit(&value, first + at) } else { 0 };
                prop_assert_eq!(bit(&cut, at), expected);
            }
        }
    }

    /// An image of 3 rows and 4 columns.
    fn cells(bits: u16, samples: u16, photometric: &str, vr: VR, syntax: &str, length: u64) -> Result<Cells> {
        let mut header = DataSet::new();
        header.put_u16(tags::SAMPLES_PER_PIXEL, samples);
        header.put_text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, photometric);
        header.put_text(tags::NUMBER_OF_FRAMES, VR::IS, "2");
        header.put_u16(tags::ROWS, 3);
        header.put_u16(tags::COLUMNS, 4);
        header.put_u16(tags::BITS_ALLOCATED, bits);
        let pixel_data = PixelData {
            tag: tags::PIXEL_DATA,
            vr,
            offset: 100,
            length: Some(length),
        };
        Cells::of(&header, &pixel_data, length, syntax)
    }

    #[test]
    fn the_length_of_a_frame_follows_from_its_description_and_chrominance_may_be_shared() {
        let bits = |cells: Result<Cells>| cells.unwrap().frame_bits;
        let little = "1.2.840.10008.1.2.1";
        assert_eq!(bits(cells(1, 1, "MONOCHROME2", VR::OB, little, 4)), 12);
        assert_eq!(bits(cells(16, 1, "MONOCHROME2", VR::OW, little, 48)), 192);
        assert_eq!(bits(cells(8, 3, "YBR_FULL", VR::OB, little, 72)), 288);
        assert_eq!(bits(cells(8, 3, "YBR_FULL_422", VR::OB, little, 48)), 192);
        // It says so, and is not.
        assert_eq!(bits(cells(8, 3, "YBR_FULL_422", VR::OB, little, 72)), 288);
        for bits in [0, 2, 12, 24] {
            let refused = cells(bits, 1, "MONOCHROME2", VR::OW, little, 48).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Unsupported);
        }
    }

    #[test]
    fn only_big_endian_words_are_swapped_and_those_of_large_cells_whole() {
        let swap = |bits, vr, syntax| cells(bits, 1, "MONOCHROME2", vr, syntax, 96).unwrap().swap;
        let (little, big) = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.2");
        assert_eq!([swap(16, VR::OW, little), swap(32, VR::OW, little)], [1, 1]);
        assert_eq!([swap(8, VR::OB, big), swap(16, VR::OB, big)], [1, 1]);
        assert_eq!([swap(8, VR::OW, big), swap(1, VR::OW, big)], [2, 2]);
        assert_eq!([swap(16, VR::OW, big), swap(32, VR::OW, big)], [2, 4]);
        assert_eq!([swap(32, VR::OF, big), swap(64, VR::OD, big)], [4, 8]);
    }
}
