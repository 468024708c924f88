//! What the benches share: data sets like those of a scanner, the same in every run.

use bytes::Bytes;
use dicom_core::VR;
use dicom_dictionary_std::{tags, uids};
use pacs_core::DataSet;
use pacs_core::dataset::charset::CharacterSet;
use pacs_core::dataset::encode::encode;
use pacs_core::dataset::{Element, Value};

/// Attributes of acquisition and image that a slice carries besides those that identify it.
const DETAILS: usize = 90;

/// A CT slice of `pixel_bytes` pixel data, with some 130 elements and two sequences before it.
pub fn slice(study: usize, series: usize, number: usize, pixel_bytes: usize) -> DataSet {
    let study_uid = format!("2.25.20260114.{study}");
    let series_uid = format!("{study_uid}.{series}");
    let mut code = DataSet::new();
    code.put_text(tags::CODE_VALUE, VR::SH, "RPID16");
    code.put_text(tags::CODING_SCHEME_DESIGNATOR, VR::SH, "RADLEX");
    code.put_text(tags::CODE_MEANING, VR::LO, "CT Chest");
    let mut request = DataSet::new();
    request.put_text(tags::REQUESTED_PROCEDURE_ID, VR::SH, format!("RP{study}"));
    request.put_text(tags::SCHEDULED_PROCEDURE_STEP_ID, VR::SH, format!("SPS{study}"));
    request.put_items(tags::SCHEDULED_PROTOCOL_CODE_SEQUENCE, vec![code.clone()]);

    let mut set = DataSet::new();
    for (tag, vr, text) in [
        (tags::SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 100".to_owned()),
        (tags::IMAGE_TYPE, VR::CS, "ORIGINAL\\PRIMARY\\AXIAL".to_owned()),
        (tags::SOP_CLASS_UID, VR::UI, uids::CT_IMAGE_STORAGE.to_owned()),
        (tags::SOP_INSTANCE_UID, VR::UI, format!("{series_uid}.{number}")),
        (
            tags::STUDY_DATE,
            VR::DA,
            format!("2026{:02}{:02}", study % 12 + 1, study % 28 + 1),
        ),
        (tags::SERIES_DATE, VR::DA, "20260114".to_owned()),
        (
            tags::STUDY_TIME,
            VR::TM,
            format!("{:02}{:02}30", study % 24, study % 60),
        ),
        (tags::ACCESSION_NUMBER, VR::SH, format!("ACC{study:08}")),
        (
            tags::MODALITY,
            VR::CS,
            if study.is_multiple_of(3) { "MR" } else { "CT" }.to_owned(),
        ),
        (tags::MANUFACTURER, VR::LO, "GENERATED".to_owned()),
        (tags::INSTITUTION_NAME, VR::LO, "A Hospital".to_owned()),
        (
            tags::REFERRING_PHYSICIAN_NAME,
            VR::PN,
            format!("Referrer{}^Given", study % 50),
        ),
        (tags::STUDY_DESCRIPTION, VR::LO, "Thorax and abdomen".to_owned()),
        (tags::SERIES_DESCRIPTION, VR::LO, format!("Series {series}")),
        (
            tags::PATIENT_NAME,
            VR::PN,
            format!("Family{:05}^Given{}", study / 2, study % 10),
        ),
        (tags::PATIENT_ID, VR::LO, format!("PAT{:07}", study / 2)),
        (tags::PATIENT_BIRTH_DATE, VR::DA, "19700101".to_owned()),
        (tags::PATIENT_SEX, VR::CS, "O".to_owned()),
        (tags::BODY_PART_EXAMINED, VR::CS, "CHEST".to_owned()),
        (tags::SLICE_THICKNESS, VR::DS, "1.25".to_owned()),
        (tags::KVP, VR::DS, "120".to_owned()),
        (tags::STUDY_INSTANCE_UID, VR::UI, study_uid),
        (tags::SERIES_INSTANCE_UID, VR::UI, series_uid),
        (tags::STUDY_ID, VR::SH, format!("{study}")),
        (tags::SERIES_NUMBER, VR::IS, format!("{series}")),
        (tags::INSTANCE_NUMBER, VR::IS, format!("{number}")),
    ] {
        set.put_text(tag, vr, text);
    }
    set.put_items(tags::PROCEDURE_CODE_SEQUENCE, vec![code]);
    set.put_items(tags::REQUEST_ATTRIBUTES_SEQUENCE, vec![request]);
    // A private block (PS3.5 7.8.1), as long as what scanners write.
    set.put_text(dicom_core::Tag(0x0019, 0x0010), VR::LO, "GENERATED BLOCK");
    for detail in 0..DETAILS {
        let tag = dicom_core::Tag(0x0019, 0x1000 + detail as u16);
        set.put_text(
            tag,
            VR::DS,
            format!("{:.4}", number as f64 * 0.37 + detail as f64),
        );
    }
    set.put_u16(tags::ROWS, 512);
    set.put_u16(tags::COLUMNS, 512);
    set.put_u16(tags::BITS_ALLOCATED, 16);
    let pixels: Vec<u8> = (0..pixel_bytes).map(|at| (at * 31 + number) as u8).collect();
    set.put(Element {
        tag: tags::PIXEL_DATA,
        vr: VR::OW,
        value: Value::Bytes(Bytes::from(pixels)),
    });
    set
}

/// `set` in Explicit VR Little Endian.
///
/// # Panics
/// When `set` holds a value that the transfer syntax can't say, which `slice` makes none of.
pub fn explicit(set: &DataSet) -> Bytes {
    let bytes = encode(set, uids::EXPLICIT_VR_LITTLE_ENDIAN, &CharacterSet::default());
    Bytes::from(bytes.expect("the generated set can be written"))
}
