//! A head to be looked at: air, a skull, brain, and a ball of known size where it bleeds.
#![allow(dead_code, unreachable_pub, reason = "each test uses a part of it")]

use bytes::Bytes;
use dicom_dictionary_std::{tags, uids};
use pacs_core::dataset::charset::CharacterSet;
use pacs_core::dataset::encode::encode;
use pacs_core::dataset::part10::{Meta, write_meta};
use pacs_core::dataset::{Element, Value};
use pacs_core::{DataSet, Uid, VR};

/// Rows and columns.
pub const SIDE: usize = 96;
pub const SLICES: usize = 14;
/// Of a pixel and of a slice, in millimetres.
pub const SPACING: f64 = 2.0;
pub const THICKNESS: f64 = 4.0;
/// Of the ball, in millimetres.
pub const RADIUS: f64 = 20.0;
/// Where the ball is, in pixels and slices.
pub const MIDDLE: [f64; 3] = [55.0, 45.0, 7.0];

/// The volume of the ball in ml.
pub fn volume_ml() -> f64 {
    4.0 / 3.0 * std::f64::consts::PI * (RADIUS / 10.0).powi(3)
}

/// An instance: SOP Instance UID, transfer syntax, data set.
pub type Instance = (Uid, Uid, Bytes);

pub fn study_uid(study: u32) -> Uid {
    Uid::parse(&format!("1.2.826.0.1.3680043.10.9.{study}")).unwrap()
}

/// The slices of a study, in an order that is not theirs.
pub fn slices(study: u32, bleeds: bool) -> Vec<DataSet> {
    (0..SLICES)
        .map(|at| slice(study, at * 5 % SLICES, bleeds))
        .collect()
}

/// As they go over the wire in Explicit VR Little Endian.
pub fn explicit(slices: &[DataSet]) -> Vec<Instance> {
    let syntax = Uid::constant(uids::EXPLICIT_VR_LITTLE_ENDIAN);
    let bytes = |set| encode(set, &syntax, &CharacterSet::utf8()).unwrap().into();
    let instances = slices
        .iter()
        .map(|set| (set.uid(tags::SOP_INSTANCE_UID).unwrap(), syntax, bytes(set)));
    instances.collect()
}

/// The same with RLE Lossless (PS3.5 annex G).
pub fn run_length_encoded(slices: &[DataSet]) -> Vec<Instance> {
    let syntax = Uid::constant(uids::RLE_LOSSLESS);
    let instance = |set: &DataSet| {
        let mut header = set.clone();
        let pixels = header.remove(tags::PIXEL_DATA).unwrap();
        let mut bytes = encode(&header, &syntax, &CharacterSet::utf8()).unwrap();
        let frame = rle(pixels.bytes());
        let item = |length: usize| [&[0xFE, 0xFF, 0x00, 0xE0][..], &(length as u32).to_le_bytes()].concat();
        bytes.extend(b"\xE0\x7F\x10\x00OB\0\0\xFF\xFF\xFF\xFF");
        bytes.extend(item(0));
        bytes.extend(item(frame.len()));
        bytes.extend(frame);
        bytes.extend(b"\xFE\xFF\xDD\xE0\0\0\0\0");
        (set.uid(tags::SOP_INSTANCE_UID).unwrap(), syntax, bytes.into())
    };
    slices.iter().map(instance).collect()
}

/// A Part 10 file of an instance.
pub fn file(class: &str, (instance, syntax, data_set): &Instance) -> Vec<u8> {
    let meta = write_meta(&Meta::new(Uid::parse(class).unwrap(), *instance, *syntax));
    [&meta[..], data_set].concat()
}

/// Words in two segments, the high bytes first; runs of equal bytes, and what is between them as it is.
fn rle(pixels: &[u8]) -> Vec<u8> {
    let mut segments = Vec::new();
    for byte in [1, 0] {
        let plane: Vec<u8> = pixels.iter().copied().skip(byte).step_by(2).collect();
        let mut segment = Vec::new();
        // Each row by itself (G.3.1).
        for row in plane.chunks(SIDE) {
            for run in row.chunk_by(|a, b| a == b) {
                for run in run.chunks(128) {
                    segment.extend(match run {
                        [one] => [0, *one],
                        more => [(257 - more.len()) as u8, more[0]],
                    });
                }
            }
        }
        segments.push(segment);
    }
    let first = 64;
    let mut frame = Vec::new();
    for number in [2, first, first + segments[0].len() as u32] {
        frame.extend(number.to_le_bytes());
    }
    frame.resize(first as usize, 0);
    frame.extend(segments.concat());
    if frame.len() % 2 == 1 {
        frame.push(0);
    }
    frame
}

fn slice(study: u32, at: usize, bleeds: bool) -> DataSet {
    let mut set = DataSet::new();
    let root = study_uid(study);
    let uid = |set: &mut DataSet, tag, text: &str| set.put_text(tag, VR::UI, text);
    uid(&mut set, tags::SOP_CLASS_UID, uids::CT_IMAGE_STORAGE);
    uid(&mut set, tags::STUDY_INSTANCE_UID, &root);
    uid(&mut set, tags::SERIES_INSTANCE_UID, &format!("{root}.1"));
    uid(&mut set, tags::SOP_INSTANCE_UID, &format!("{root}.1.{}", at + 1));
    uid(&mut set, tags::FRAME_OF_REFERENCE_UID, &format!("{root}.9"));
    for (tag, vr, text) in [
        (tags::IMAGE_TYPE, VR::CS, "ORIGINAL\\PRIMARY\\AXIAL"),
        (tags::STUDY_DATE, VR::DA, "20260102"),
        (tags::STUDY_TIME, VR::TM, "030405"),
        (tags::ACCESSION_NUMBER, VR::SH, "A 7"),
        (tags::MODALITY, VR::CS, "CT"),
        (tags::MANUFACTURER, VR::LO, ""),
        (tags::REFERRING_PHYSICIAN_NAME, VR::PN, "Ordnung^Ärztin"),
        (tags::TIMEZONE_OFFSET_FROM_UTC, VR::SH, "+0130"),
        (tags::PATIENT_NAME, VR::PN, "Müller^Jörg"),
        (tags::PATIENT_ID, VR::LO, "P 7"),
        (tags::PATIENT_BIRTH_DATE, VR::DA, ""),
        (tags::PATIENT_SEX, VR::CS, "O"),
        (tags::STUDY_ID, VR::SH, "7"),
        (tags::SERIES_NUMBER, VR::IS, "3"),
        (tags::KVP, VR::DS, "120"),
        (tags::POSITION_REFERENCE_INDICATOR, VR::LO, ""),
        (tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2"),
        (tags::RESCALE_INTERCEPT, VR::DS, "-1024"),
        (tags::RESCALE_SLOPE, VR::DS, "1"),
        (tags::IMAGE_ORIENTATION_PATIENT, VR::DS, "1\\0\\0\\0\\1\\0"),
    ] {
        set.put_text(tag, vr, text);
    }
    set.put_text(tags::INSTANCE_NUMBER, VR::IS, (at + 1).to_string());
    set.put_text(tags::PIXEL_SPACING, VR::DS, format!("{SPACING}\\{SPACING}"));
    set.put_text(tags::SLICE_THICKNESS, VR::DS, THICKNESS.to_string());
    let position = format!("0\\0\\{}", at as f64 * THICKNESS);
    set.put_text(tags::IMAGE_POSITION_PATIENT, VR::DS, position);
    for (tag, number) in [
        (tags::SAMPLES_PER_PIXEL, 1),
        (tags::ROWS, SIDE as u16),
        (tags::COLUMNS, SIDE as u16),
        (tags::BITS_ALLOCATED, 16),
        (tags::BITS_STORED, 12),
        (tags::HIGH_BIT, 11),
        (tags::PIXEL_REPRESENTATION, 0),
    ] {
        set.put_u16(tag, number);
    }
    let mut asked = DataSet::new();
    asked.put_text(tags::REQUESTED_PROCEDURE_ID, VR::SH, "R7");
    asked.put_text(tags::SCHEDULED_PROCEDURE_STEP_ID, VR::SH, "S7");
    set.put_items(tags::REQUEST_ATTRIBUTES_SEQUENCE, vec![asked]);
    let pixels = (0..SIDE * SIDE).flat_map(|pixel| {
        let [x, y] = [pixel % SIDE, pixel / SIDE].map(|n| n as f64);
        let middle = (SIDE as f64 - 1.0) / 2.0;
        let away = (x - middle).hypot(y - middle) * SPACING;
        let across = (x - MIDDLE[0]).hypot(y - MIDDLE[1]) * SPACING;
        let from_ball = across.hypot((at as f64 - MIDDLE[2]) * THICKNESS);
        // Noise that is the same each time.
        let noise = (pixel * 7919 + at * 104_729) % 11;
        let hounsfield = match away {
            _ if bleeds && from_ball < RADIUS => 65 + noise as i16,
            inner if inner < 80.0 => 30 + noise as i16,
            skull if skull < 88.0 => 1200,
            _ => -1000,
        };
        ((hounsfield + 1024) as u16).to_le_bytes()
    });
    set.put(Element {
        tag: tags::PIXEL_DATA,
        vr: VR::OW,
        value: Value::Bytes(pixels.collect::<Vec<u8>>().into()),
    });
    set
}
