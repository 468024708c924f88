//! A multi-frame instance longer than an explicit length can say, made while it is sent: encapsulated, in RLE
//! Lossless, from a few frames that recur.

use bytes::{BufMut as _, Bytes, BytesMut};
use dicom_core::VR;
use dicom_dictionary_std::{tags, uids};
use pacs_core::dataset::charset::CharacterSet;
use pacs_core::dataset::encode::encode;
use pacs_core::dataset::part10::{Meta, write_meta};
use pacs_core::{DataSet, Result, Uid};

use crate::scatter;

pub(crate) const STUDY: &str = "2.25.31415927";
pub(crate) const SERIES: &str = "2.25.31415927.1";
pub(crate) const INSTANCE: &str = "2.25.31415927.1.1";
pub(crate) const SYNTAX: &str = uids::RLE_LOSSLESS;

const SOP_CLASS: Uid = Uid::constant(uids::MULTI_FRAME_GRAYSCALE_WORD_SECONDARY_CAPTURE_IMAGE_STORAGE);
const SIDE: usize = 512;
/// The frames that recur.
const DIFFERENT: u64 = 7;

/// The instance, as pieces of its Part 10 file.
pub(crate) struct Frames {
    count: u64,
    different: Vec<Frame>,
}

struct Frame {
    /// An item (PS3.5 A.4) with one fragment.
    item: Bytes,
    /// Two bytes a pixel, little endian.
    pixels: Bytes,
}

/// Before the fragment in its item: tag and length.
const ITEM_HEAD: usize = 8;

impl Frames {
    /// With frames of at least `length` bytes together.
    pub(crate) fn new(length: u64) -> Self {
        let different: Vec<Frame> = (0..DIFFERENT).map(Frame::new).collect();
        let each = different.first().map_or(1, |frame| frame.item.len() as u64);
        Self {
            count: length.div_ceil(each).max(1),
            different,
        }
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Frame `number`, from 1, as it is stored.
    pub(crate) fn stored(&self, number: u64) -> Bytes {
        self.frame(number).item.slice(ITEM_HEAD..)
    }

    /// Frame `number`, from 1, decoded.
    pub(crate) fn pixels(&self, number: u64) -> Bytes {
        self.frame(number).pixels.clone()
    }

    fn frame(&self, number: u64) -> &Frame {
        &self.different[(scatter(number) % DIFFERENT) as usize]
    }

    /// The header of the file.
    pub(crate) fn meta(&self) -> Result<Bytes> {
        let meta = Meta::new(SOP_CLASS, Uid::parse(INSTANCE)?, Uid::constant(SYNTAX));
        Ok(write_meta(&meta))
    }

    /// The data set, piece by piece.
    pub(crate) fn data_set(&self) -> Result<impl Iterator<Item = Bytes> + Send + use<>> {
        // A sequence delimiter ends the pixel data.
        let end = Bytes::from_static(&[0xFE, 0xFF, 0xDD, 0xE0, 0, 0, 0, 0]);
        let items: Vec<Bytes> = self.different.iter().map(|frame| frame.item.clone()).collect();
        let items = (1..=self.count).map(move |number| items[(scatter(number) % DIFFERENT) as usize].clone());
        Ok([self.head()?].into_iter().chain(items).chain([end]))
    }

    /// All up to and with the empty offset table.
    fn head(&self) -> Result<Bytes> {
        let mut set = DataSet::new();
        set.put_uid(tags::SOP_CLASS_UID, &SOP_CLASS);
        set.put_text(tags::SOP_INSTANCE_UID, VR::UI, INSTANCE);
        set.put_text(tags::STUDY_DATE, VR::DA, "20260114");
        set.put_text(tags::MODALITY, VR::CS, "OT");
        set.put_text(tags::CONVERSION_TYPE, VR::CS, "SYN");
        set.put_text(tags::PATIENT_NAME, VR::PN, "LOAD^FRAMES");
        set.put_text(tags::PATIENT_ID, VR::LO, "LOADFRAMES");
        set.put_text(tags::STUDY_INSTANCE_UID, VR::UI, STUDY);
        set.put_text(tags::SERIES_INSTANCE_UID, VR::UI, SERIES);
        set.put_text(tags::INSTANCE_NUMBER, VR::IS, "1");
        set.put_u16(tags::SAMPLES_PER_PIXEL, 1);
        set.put_text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2");
        set.put_text(tags::NUMBER_OF_FRAMES, VR::IS, self.count.to_string());
        set.put_u16(tags::ROWS, SIDE as u16);
        set.put_u16(tags::COLUMNS, SIDE as u16);
        set.put_u16(tags::BITS_ALLOCATED, 16);
        set.put_u16(tags::BITS_STORED, 16);
        set.put_u16(tags::HIGH_BIT, 15);
        set.put_u16(tags::PIXEL_REPRESENTATION, 0);
        let mut head = encode(&set, SYNTAX, &CharacterSet::default())?;
        // (7FE0,0010) OB, two bytes reserved, undefined length; the item of an empty offset table.
        head.extend_from_slice(&[0xE0, 0x7F, 0x10, 0x00, b'O', b'B', 0, 0, 0xFF, 0xFF, 0xFF, 0xFF]);
        head.extend_from_slice(&[0xFE, 0xFF, 0x00, 0xE0, 0, 0, 0, 0]);
        Ok(head.into())
    }
}

impl Frame {
    fn new(number: u64) -> Self {
        let words = (0..(SIDE * SIDE / 4) as u64).map(|at| scatter(number << 32 | at));
        let pixels: Bytes = words.flat_map(u64::to_le_bytes).collect();
        let (high, low) = (segment(&pixels, 1), segment(&pixels, 0));
        let length = 64 + high.len() + low.len();
        let mut item = BytesMut::with_capacity(ITEM_HEAD + length);
        item.put_slice(&[0xFE, 0xFF, 0x00, 0xE0]);
        item.put_u32_le(length as u32);
        // The header of an RLE frame: the number of segments, and where they begin (PS3.5 G.5).
        item.put_u32_le(2);
        item.put_u32_le(64);
        item.put_u32_le((64 + high.len()) as u32);
        item.put_bytes(0, 13 * 4);
        item.put_slice(&high);
        item.put_slice(&low);
        Self {
            item: item.freeze(),
            pixels,
        }
    }
}

/// One byte of every pixel, as runs of literals: noise has no others (PS3.5 G.3). A run ends with its row.
fn segment(pixels: &[u8], byte: usize) -> Vec<u8> {
    let plane: Vec<u8> = pixels.iter().skip(byte).step_by(2).copied().collect();
    let mut out = Vec::with_capacity(plane.len() + plane.len() / 128);
    for run in plane.chunks(128) {
        out.push((run.len() - 1) as u8);
        out.extend_from_slice(run);
    }
    out
}
