//! De-identification of data sets of any attributes and any bytes behind them, by several profiles: it is refused, or
//! what leaves can be read, has other UIDs and another patient.
//!
//! Run with `cargo fuzz run -s none deidentify`.

#![no_main]

use std::sync::LazyLock;

use arbitrary::Arbitrary;
use bytes::Bytes;
use dicom_core::{Tag, VR};
use dicom_dictionary_std::{tags, uids};
use futures::TryStreamExt;
use futures::executor::block_on;
use libfuzzer_sys::fuzz_target;
use pacs_core::dataset::charset::CharacterSet;
use pacs_core::dataset::encode::encode;
use pacs_core::dataset::scan::parse;
use pacs_core::dataset::{Element, Value};
use pacs_core::deid::{BurnedIn, Dates, Deidentifier, Documents, Profile, Project, Rectangle, Region};
use pacs_core::{DataSet, InstanceRecord, Pacs};
use pacs_fuzz::codec::contain_decoders;
use pacs_fuzz::instance::{INSTANCE, SERIES, STUDY, engine, forget, keep, meta, names};

static PACS: LazyLock<Pacs> = LazyLock::new(engine);

const NAME: &str = "Quixadelle^Zeno";

const TAGS: [Tag; 40] = [
    tags::SPECIFIC_CHARACTER_SET,
    tags::STUDY_DATE,
    tags::STUDY_TIME,
    tags::ACQUISITION_DATE_TIME,
    tags::TIMEZONE_OFFSET_FROM_UTC,
    tags::MODALITY,
    tags::MANUFACTURER,
    tags::INSTITUTION_NAME,
    tags::REFERRING_PHYSICIAN_NAME,
    tags::STUDY_DESCRIPTION,
    tags::PATIENT_ID,
    tags::PATIENT_BIRTH_DATE,
    tags::PATIENT_AGE,
    tags::PATIENT_COMMENTS,
    tags::OTHER_PATIENT_I_DS_SEQUENCE,
    tags::BURNED_IN_ANNOTATION,
    tags::REFERENCED_STUDY_SEQUENCE,
    tags::REFERENCED_SOP_INSTANCE_UID,
    tags::ORIGINAL_ATTRIBUTES_SEQUENCE,
    tags::CONTENT_SEQUENCE,
    tags::VALUE_TYPE,
    tags::TEXT_VALUE,
    tags::PERSON_NAME,
    tags::GRAPHIC_ANNOTATION_SEQUENCE,
    tags::UNFORMATTED_TEXT_VALUE,
    tags::ENCAPSULATED_DOCUMENT,
    tags::ENCRYPTED_ATTRIBUTES_SEQUENCE,
    Tag(0x5000, 0x3000),
    Tag(0x6000, 0x3000),
    Tag(0x6000, 0x0102),
    tags::SAMPLES_PER_PIXEL,
    tags::PHOTOMETRIC_INTERPRETATION,
    tags::NUMBER_OF_FRAMES,
    tags::ROWS,
    tags::COLUMNS,
    tags::BITS_ALLOCATED,
    tags::PLANAR_CONFIGURATION,
    Tag(0x0009, 0x0010),
    Tag(0x0009, 0x1001),
    tags::PIXEL_DATA,
];

const VRS: [VR; 14] = [
    VR::LO,
    VR::PN,
    VR::DA,
    VR::DT,
    VR::TM,
    VR::UI,
    VR::CS,
    VR::AS,
    VR::IS,
    VR::UT,
    VR::US,
    VR::OB,
    VR::OW,
    VR::UN,
];

/// Explicit VR Big Endian, which is retired.
const BIG_ENDIAN: &str = "1.2.840.10008.1.2.2";

const SYNTAXES: [&str; 6] = [
    uids::EXPLICIT_VR_LITTLE_ENDIAN,
    uids::IMPLICIT_VR_LITTLE_ENDIAN,
    BIG_ENDIAN,
    uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    uids::RLE_LOSSLESS,
    uids::JPEG_BASELINE8_BIT,
];

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    syntax: u8,
    profile: u16,
    attributes: Vec<Attribute<'a>>,
    behind: &'a [u8],
}

#[derive(Arbitrary, Debug)]
struct Attribute<'a> {
    tag: u8,
    any_tag: Option<(u16, u16)>,
    value: Content<'a>,
}

#[derive(Arbitrary, Debug)]
enum Content<'a> {
    Bytes(u8, &'a [u8]),
    Number(u16),
    Items(Vec<Vec<Attribute<'a>>>),
    /// Text with the patient's name in it.
    Name(&'a str),
}

/// Of more levels nothing more is found.
const DEPTH_MAX: usize = 4;

fn put_all(set: &mut DataSet, attributes: &[Attribute<'_>], depth: usize) {
    for attribute in attributes {
        let known = TAGS[usize::from(attribute.tag) % TAGS.len()];
        let tag = attribute
            .any_tag
            .map_or(known, |(group, element)| Tag(group, element));
        if tag.group() < 8 {
            continue;
        }
        let bytes = |bytes: &[u8]| Value::Bytes(Bytes::copy_from_slice(bytes));
        let (vr, value) = match &attribute.value {
            Content::Bytes(vr, value) => (VRS[usize::from(*vr) % VRS.len()], bytes(value)),
            Content::Number(number) => (VR::US, bytes(&number.to_le_bytes())),
            Content::Name(text) => (VR::LO, bytes(format!("{text} {NAME}").as_bytes())),
            Content::Items(items) if depth < DEPTH_MAX => {
                let items = items.iter().map(|attributes| {
                    let mut item = DataSet::new();
                    put_all(&mut item, attributes, depth + 1);
                    item
                });
                (VR::SQ, Value::Items(items.collect()))
            }
            Content::Items(_) => continue,
        };
        set.put(Element { tag, vr, value });
    }
}

fn deidentifier(bits: u16) -> Deidentifier {
    let bit = |bit: u16| bits >> bit & 1 == 1;
    let profile = Profile {
        retain_uids: false,
        retain_device_identity: bit(0),
        retain_institution_identity: bit(1),
        retain_patient_characteristics: bit(2),
        retain_safe_private: bit(3),
        clean_descriptors: bit(4),
        clean_structured_content: bit(5),
        clean_graphics: bit(6),
        dates: [Dates::Remove, Dates::Keep, Dates::Shift][usize::from(bits >> 7 & 3) % 3],
        burned_in: if bit(9) { BurnedIn::Keep } else { BurnedIn::Refuse },
        documents: if bit(10) {
            Documents::Replace
        } else {
            Documents::Refuse
        },
        regions: Vec::from_iter(bit(11).then(|| Region {
            blank: vec![Rectangle {
                x: 1,
                y: 0,
                width: 5,
                height: u32::MAX,
            }],
            ..Region::default()
        })),
        safe_private: Vec::new(),
    };
    let project = Project::new("fuzz", &[7; 32]).expect("a secret that is long enough");
    Deidentifier::new(profile, project)
}

fn check(record: &InstanceRecord, by: &Deidentifier) {
    block_on(async {
        let Ok(deidentified) = PACS.deidentified(record, by).await else {
            return;
        };
        assert!(deidentified.key.instance.as_str() != INSTANCE);
        let syntax = deidentified.transfer_syntax;
        let Ok(pieces) = deidentified.data_set.try_collect::<Vec<Bytes>>().await else {
            return;
        };
        let is_encapsulated = ![SYNTAXES[0], SYNTAXES[1], SYNTAXES[2]].contains(&syntax.as_str());
        match parse(&pieces.concat(), syntax.as_str()) {
            Ok(header) => {
                let name = header.string(tags::PATIENT_NAME).unwrap_or_default();
                assert!(!name.contains("Quixadelle"), "the patient is as before");
                assert_eq!(header.string(tags::PATIENT_IDENTITY_REMOVED), Some("YES"));
                for tag in [
                    tags::STUDY_INSTANCE_UID,
                    tags::SERIES_INSTANCE_UID,
                    tags::SOP_INSTANCE_UID,
                ] {
                    let uid = header.string(tag);
                    assert!(uid.is_some_and(|uid| ![STUDY, SERIES, INSTANCE].contains(&uid)));
                }
            }
            // Pixel data passes by as it came.
            Err(_) => assert!(is_encapsulated, "what leaves can't be read"),
        }
    });
}

fuzz_target!(init: contain_decoders(), |input: Input| {
    let mut set = DataSet::new();
    put_all(&mut set, &input.attributes, 0);
    for element in names(STUDY, SERIES, INSTANCE) {
        set.put(element);
    }
    set.put_text(tags::PATIENT_NAME, VR::PN, NAME);
    let syntax = SYNTAXES[usize::from(input.syntax) % SYNTAXES.len()];
    let mut file = meta(INSTANCE, syntax);
    let encoded_in = match syntax {
        uids::IMPLICIT_VR_LITTLE_ENDIAN | BIG_ENDIAN => syntax,
        _ => uids::EXPLICIT_VR_LITTLE_ENDIAN,
    };
    // A value may be longer than its length can say.
    let Ok(bytes) = encode(&set, encoded_in, &CharacterSet::utf8()) else {
        return;
    };
    file.extend(bytes);
    file.extend_from_slice(input.behind);
    if let Ok(Some(record)) = keep(&PACS, file) {
        check(&record, &deidentifier(input.profile));
        forget(&PACS);
    }
});
