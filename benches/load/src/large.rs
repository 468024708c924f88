//! Large multi-frame instances that are made while they are sent: nothing of them is held or on disk.

use bytes::Bytes;
use dicom_core::VR;
use dicom_dictionary_std::{tags, uids};
use futures::stream::{self, StreamExt as _};
use pacs_core::dataset::charset::CharacterSet;
use pacs_core::dataset::encode::encode;
use pacs_core::{DataSet, Result, Uid};
use pacs_net::scu::Pieces;
use twox_hash::XxHash3_128;

use crate::scatter;

/// SOP class of all of them.
pub(crate) const SOP_CLASS: Uid =
    Uid::constant(uids::MULTI_FRAME_GRAYSCALE_WORD_SECONDARY_CAPTURE_IMAGE_STORAGE);
/// Transfer syntax of all of them.
pub(crate) const SYNTAX: Uid = Uid::constant(uids::EXPLICIT_VR_LITTLE_ENDIAN);

const SIDE: u16 = 512;
/// Two bytes to a pixel.
const FRAME_BYTES: u64 = SIDE as u64 * SIDE as u64 * 2;
const PIECE_BYTES: usize = 64 * 1024;
const NOISE_BYTES: usize = 1024 * 1024;

/// What pixels are cut from; it is shared, so that a piece costs no copy.
#[derive(Clone)]
pub(crate) struct Noise(Bytes);

impl Noise {
    pub(crate) fn new() -> Self {
        let words = (0..NOISE_BYTES as u64 / 8).flat_map(|at| scatter(at).to_le_bytes());
        Self(words.collect())
    }
}

/// An instance in a study of its own. The same number and length make the same bytes.
#[derive(Clone)]
pub(crate) struct Large {
    pub(crate) number: u64,
    frames: u64,
    noise: Noise,
}

impl Large {
    /// With pixel data of at most `length` bytes, but one frame at least.
    pub(crate) fn new(number: u64, length: u64, noise: &Noise) -> Self {
        // An explicit length has 32 bits (PS3.5 7.1.2).
        let frames = length.min(u64::from(u32::MAX)) / FRAME_BYTES;
        Self {
            number,
            frames: frames.max(1),
            noise: noise.clone(),
        }
    }

    pub(crate) fn study(&self) -> Result<Uid> {
        Uid::parse(&format!("2.25.31415926.{}", self.number))
    }

    pub(crate) fn instance(&self) -> Result<Uid> {
        Uid::parse(&format!("2.25.31415926.{}.1.1", self.number))
    }

    pub(crate) fn pixel_bytes(&self) -> u64 {
        self.frames * FRAME_BYTES
    }

    /// The data set, piece by piece.
    pub(crate) fn data_set(&self) -> Result<Pieces> {
        let head = stream::iter([Ok(self.head()?)]);
        let pieces = (0..self.pixel_bytes() / PIECE_BYTES as u64).map({
            let (noise, number) = (self.noise.0.clone(), self.number);
            move |at| {
                let from = scatter(number << 40 | at) as usize % (NOISE_BYTES - PIECE_BYTES);
                Ok(noise.slice(from..from + PIECE_BYTES))
            }
        });
        Ok(head.chain(stream::iter(pieces)).boxed())
    }

    /// Checksum of the data set.
    pub(crate) async fn checksum(&self) -> Result<u128> {
        let mut digest = XxHash3_128::new();
        let mut pieces = self.data_set()?;
        while let Some(piece) = pieces.next().await {
            digest.write(&piece?);
        }
        Ok(digest.finish_128())
    }

    /// All up to and with the header of the pixel data.
    fn head(&self) -> Result<Bytes> {
        let mut set = DataSet::new();
        set.put_uid(tags::SOP_CLASS_UID, &SOP_CLASS);
        set.put_uid(tags::SOP_INSTANCE_UID, &self.instance()?);
        set.put_text(tags::STUDY_DATE, VR::DA, "20260114");
        set.put_text(tags::MODALITY, VR::CS, "OT");
        set.put_text(tags::CONVERSION_TYPE, VR::CS, "SYN");
        set.put_text(tags::PATIENT_NAME, VR::PN, format!("LOAD^{}", self.number));
        set.put_text(tags::PATIENT_ID, VR::LO, format!("LOAD{}", self.number));
        set.put_uid(tags::STUDY_INSTANCE_UID, &self.study()?);
        set.put_text(
            tags::SERIES_INSTANCE_UID,
            VR::UI,
            format!("2.25.31415926.{}.1", self.number),
        );
        set.put_text(tags::INSTANCE_NUMBER, VR::IS, "1");
        set.put_u16(tags::SAMPLES_PER_PIXEL, 1);
        set.put_text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2");
        set.put_text(tags::NUMBER_OF_FRAMES, VR::IS, self.frames.to_string());
        set.put_u16(tags::ROWS, SIDE);
        set.put_u16(tags::COLUMNS, SIDE);
        set.put_u16(tags::BITS_ALLOCATED, 16);
        set.put_u16(tags::BITS_STORED, 16);
        set.put_u16(tags::HIGH_BIT, 15);
        set.put_u16(tags::PIXEL_REPRESENTATION, 0);
        let mut head = encode(&set, &SYNTAX, &CharacterSet::default())?;
        // (7FE0,0010) OW, two bytes reserved, length of 32 bits.
        head.extend_from_slice(&[0xE0, 0x7F, 0x10, 0x00, b'O', b'W', 0, 0]);
        head.extend_from_slice(&(self.pixel_bytes() as u32).to_le_bytes());
        Ok(head.into())
    }
}
