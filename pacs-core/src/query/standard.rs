//! The attributes that are kept by default, and the level of each.

use dicom_core::Tag;
use dicom_dictionary_std::tags::*;

use crate::uid::Level;

/// Codes: what is asked for of a code sequence (PS3.3 8.8).
pub(crate) const CODE: &[Tag] = &[
    CODE_VALUE,
    CODING_SCHEME_DESIGNATOR,
    CODING_SCHEME_VERSION,
    CODE_MEANING,
    LONG_CODE_VALUE,
    URN_CODE_VALUE,
];

/// Referenced instances (PS3.3 10.8).
pub(crate) const REFERENCE: &[Tag] = &[REFERENCED_SOP_CLASS_UID, REFERENCED_SOP_INSTANCE_UID];

/// Plain attributes. First of each level the keys of PS3.4 tables C.6-1 to C.6-5, which are of no other level;
/// then what QIDO-RS answers by default (PS3.18 tables 10.6.3-3 to 10.6.3-5) or viewers ask for.
pub(crate) const PLAIN: &[(Level, &[Tag], &[Tag])] = &[
    (
        Level::Patient,
        &[
            PATIENT_NAME,
            PATIENT_ID,
            ISSUER_OF_PATIENT_ID,
            PATIENT_BIRTH_DATE,
            PATIENT_BIRTH_TIME,
            PATIENT_SEX,
            // Retired, and still sent: Other Patient IDs, Ethnic Group.
            Tag(0x0010, 0x1000),
            OTHER_PATIENT_NAMES,
            Tag(0x0010, 0x2160),
            PATIENT_COMMENTS,
        ],
        &[
            TYPE_OF_PATIENT_ID,
            PATIENT_SPECIES_DESCRIPTION,
            PATIENT_BREED_DESCRIPTION,
            RESPONSIBLE_PERSON,
            RESPONSIBLE_ORGANIZATION,
            PATIENT_IDENTITY_REMOVED,
        ],
    ),
    (
        Level::Study,
        &[
            STUDY_INSTANCE_UID,
            STUDY_DATE,
            STUDY_TIME,
            ACCESSION_NUMBER,
            STUDY_ID,
            REFERRING_PHYSICIAN_NAME,
            STUDY_DESCRIPTION,
            NAME_OF_PHYSICIANS_READING_STUDY,
            ADMITTING_DIAGNOSES_DESCRIPTION,
            PATIENT_AGE,
            PATIENT_SIZE,
            PATIENT_WEIGHT,
            OCCUPATION,
            ADDITIONAL_PATIENT_HISTORY,
        ],
        &[
            INSTITUTION_NAME,
            INSTITUTIONAL_DEPARTMENT_NAME,
            ADMISSION_ID,
            TIMEZONE_OFFSET_FROM_UTC,
        ],
    ),
    (
        Level::Series,
        &[SERIES_INSTANCE_UID, MODALITY, SERIES_NUMBER],
        &[
            SERIES_DATE,
            SERIES_TIME,
            SERIES_DESCRIPTION,
            BODY_PART_EXAMINED,
            LATERALITY,
            PROTOCOL_NAME,
            MANUFACTURER,
            MANUFACTURER_MODEL_NAME,
            DEVICE_SERIAL_NUMBER,
            SOFTWARE_VERSIONS,
            STATION_NAME,
            OPERATORS_NAME,
            PERFORMING_PHYSICIAN_NAME,
            PATIENT_POSITION,
            FRAME_OF_REFERENCE_UID,
            SYNCHRONIZATION_FRAME_OF_REFERENCE_UID,
            PERFORMED_PROCEDURE_STEP_ID,
            PERFORMED_PROCEDURE_STEP_DESCRIPTION,
            PERFORMED_PROCEDURE_STEP_START_DATE,
            PERFORMED_PROCEDURE_STEP_START_TIME,
        ],
    ),
    (
        Level::Instance,
        &[SOP_INSTANCE_UID, SOP_CLASS_UID, INSTANCE_NUMBER],
        &[
            IMAGE_TYPE,
            INSTANCE_CREATION_DATE,
            INSTANCE_CREATION_TIME,
            ACQUISITION_NUMBER,
            ACQUISITION_DATE,
            ACQUISITION_TIME,
            ACQUISITION_DATE_TIME,
            CONTENT_DATE,
            CONTENT_TIME,
            CONTENT_LABEL,
            CONTENT_DESCRIPTION,
            CONTENT_CREATOR_NAME,
            PRESENTATION_CREATION_DATE,
            PRESENTATION_CREATION_TIME,
            IMAGE_LATERALITY,
            VIEW_POSITION,
            ROWS,
            COLUMNS,
            BITS_ALLOCATED,
            SAMPLES_PER_PIXEL,
            PHOTOMETRIC_INTERPRETATION,
            NUMBER_OF_FRAMES,
            LOSSY_IMAGE_COMPRESSION,
            SLICE_LOCATION,
            IMAGE_COMMENTS,
            DOCUMENT_TITLE,
            MIME_TYPE_OF_ENCAPSULATED_DOCUMENT,
            OBSERVATION_DATE_TIME,
            COMPLETION_FLAG,
            VERIFICATION_FLAG,
        ],
    ),
];

/// Sequences, each with what is kept of its items.
pub(crate) const NESTED: &[(Level, &[Tag], &[Tag])] = &[
    (Level::Patient, &[REFERENCED_PATIENT_SEQUENCE], REFERENCE),
    (
        Level::Patient,
        &[OTHER_PATIENT_I_DS_SEQUENCE],
        &[PATIENT_ID, ISSUER_OF_PATIENT_ID, TYPE_OF_PATIENT_ID],
    ),
    (
        Level::Patient,
        &[ISSUER_OF_PATIENT_ID_QUALIFIERS_SEQUENCE],
        &[UNIVERSAL_ENTITY_ID, UNIVERSAL_ENTITY_ID_TYPE],
    ),
    (
        Level::Study,
        &[ISSUER_OF_ACCESSION_NUMBER_SEQUENCE],
        &[
            LOCAL_NAMESPACE_ENTITY_ID,
            UNIVERSAL_ENTITY_ID,
            UNIVERSAL_ENTITY_ID_TYPE,
        ],
    ),
    (Level::Study, &[PROCEDURE_CODE_SEQUENCE], CODE),
    (Level::Study, &[REFERENCED_STUDY_SEQUENCE], REFERENCE),
    (
        Level::Series,
        &[REQUEST_ATTRIBUTES_SEQUENCE],
        &[
            SCHEDULED_PROCEDURE_STEP_ID,
            REQUESTED_PROCEDURE_ID,
            ACCESSION_NUMBER,
            STUDY_INSTANCE_UID,
            SCHEDULED_PROCEDURE_STEP_DESCRIPTION,
            REQUESTED_PROCEDURE_DESCRIPTION,
        ],
    ),
    (Level::Series, &[ANATOMIC_REGION_SEQUENCE], CODE),
    (
        Level::Series,
        &[REFERENCED_PERFORMED_PROCEDURE_STEP_SEQUENCE],
        REFERENCE,
    ),
    (Level::Instance, &[CONCEPT_NAME_CODE_SEQUENCE], CODE),
    (
        Level::Instance,
        &[CONTENT_TEMPLATE_SEQUENCE],
        &[MAPPING_RESOURCE, TEMPLATE_IDENTIFIER],
    ),
    (
        Level::Instance,
        &[REFERENCED_REQUEST_SEQUENCE],
        &[ACCESSION_NUMBER, STUDY_INSTANCE_UID, REQUESTED_PROCEDURE_ID],
    ),
    (
        Level::Instance,
        &[VERIFYING_OBSERVER_SEQUENCE],
        &[
            VERIFYING_ORGANIZATION,
            VERIFICATION_DATE_TIME,
            VERIFYING_OBSERVER_NAME,
        ],
    ),
    (
        Level::Instance,
        &[REFERENCED_SERIES_SEQUENCE],
        &[SERIES_INSTANCE_UID],
    ),
    (
        Level::Instance,
        &[REFERENCED_SERIES_SEQUENCE, REFERENCED_IMAGE_SEQUENCE],
        REFERENCE,
    ),
];

/// Attributes that an index derives from the entities below (PS3.4 C.3.4).
pub(crate) const DERIVED: &[(Level, Tag)] = &[
    (Level::Patient, NUMBER_OF_PATIENT_RELATED_STUDIES),
    (Level::Patient, NUMBER_OF_PATIENT_RELATED_SERIES),
    (Level::Patient, NUMBER_OF_PATIENT_RELATED_INSTANCES),
    (Level::Study, NUMBER_OF_STUDY_RELATED_SERIES),
    (Level::Study, NUMBER_OF_STUDY_RELATED_INSTANCES),
    (Level::Study, MODALITIES_IN_STUDY),
    (Level::Study, SOP_CLASSES_IN_STUDY),
    (Level::Series, NUMBER_OF_SERIES_RELATED_INSTANCES),
];

/// The level that PS3.4 C.6 gives a key, so that it can be of no other: of patient and study also the sequences.
pub(crate) fn fixed_level(tag: Tag) -> Option<Level> {
    let plain = PLAIN
        .iter()
        .flat_map(|(level, keys, _)| keys.iter().map(|key| (*level, *key)));
    let sequences = NESTED.iter().map(|(level, path, _)| (*level, path[0]));
    let mut keys = plain.chain(sequences.filter(|(level, _)| *level <= Level::Study));
    keys.find(|(_, key)| *key == tag).map(|(level, _)| level)
}
