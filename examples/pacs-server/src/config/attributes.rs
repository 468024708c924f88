//! Which `[[attribute]]` tables mean something, alone and together.

use dicom_core::Tag;
use dicom_dictionary_std::tags::*;
use pacs_core::Level;
use pacs_core::query::{AttributePath, AttributeStep};

use super::{Attribute, AttributeLevel};

/// Keys whose level the query models fix (PS3.4 tables C.6-1 to C.6-5).
const FIXED: &[(Level, &[Tag])] = &[
    (
        Level::Patient,
        &[
            PATIENT_ID,
            PATIENT_NAME,
            ISSUER_OF_PATIENT_ID,
            ISSUER_OF_PATIENT_ID_QUALIFIERS_SEQUENCE,
            REFERENCED_PATIENT_SEQUENCE,
            PATIENT_BIRTH_DATE,
            PATIENT_BIRTH_TIME,
            PATIENT_SEX,
            OTHER_PATIENT_NAMES,
            OTHER_PATIENT_I_DS_SEQUENCE,
            PATIENT_COMMENTS,
        ],
    ),
    (
        Level::Study,
        &[
            STUDY_INSTANCE_UID,
            STUDY_DATE,
            STUDY_TIME,
            STUDY_ID,
            ACCESSION_NUMBER,
            ISSUER_OF_ACCESSION_NUMBER_SEQUENCE,
            REFERRING_PHYSICIAN_NAME,
            STUDY_DESCRIPTION,
            PROCEDURE_CODE_SEQUENCE,
            NAME_OF_PHYSICIANS_READING_STUDY,
            ADMITTING_DIAGNOSES_DESCRIPTION,
            REFERENCED_STUDY_SEQUENCE,
            PATIENT_AGE,
            PATIENT_SIZE,
            PATIENT_WEIGHT,
            OCCUPATION,
            ADDITIONAL_PATIENT_HISTORY,
        ],
    ),
    (Level::Series, &[SERIES_INSTANCE_UID, MODALITY, SERIES_NUMBER]),
    (
        Level::Instance,
        &[SOP_INSTANCE_UID, SOP_CLASS_UID, INSTANCE_NUMBER],
    ),
];

/// What the index counts itself, and no instance brings (PS3.4 C.3.4).
const COUNTED: &[Tag] = &[
    NUMBER_OF_PATIENT_RELATED_STUDIES,
    NUMBER_OF_PATIENT_RELATED_SERIES,
    NUMBER_OF_PATIENT_RELATED_INSTANCES,
    NUMBER_OF_STUDY_RELATED_SERIES,
    NUMBER_OF_STUDY_RELATED_INSTANCES,
    NUMBER_OF_SERIES_RELATED_INSTANCES,
    MODALITIES_IN_STUDY,
    SOP_CLASSES_IN_STUDY,
];

/// What says how a query is encoded and answered, and is no key of one (PS3.4 C.4.1.1.3).
const NO_KEYS: &[Tag] = &[
    SPECIFIC_CHARACTER_SET,
    QUERY_RETRIEVE_LEVEL,
    RETRIEVE_AE_TITLE,
    RETRIEVE_URL,
    INSTANCE_AVAILABILITY,
    STORAGE_MEDIA_FILE_SET_ID,
    STORAGE_MEDIA_FILE_SET_UID,
];

/// Refuses what can't mean anything. The error is fit to be shown.
pub(super) fn check(attributes: &[Attribute]) -> Result<(), String> {
    for (at, attribute) in attributes.iter().enumerate() {
        check_one(attribute)?;
        for other in &attributes[..at] {
            check_two(other, attribute)?;
        }
    }
    Ok(())
}

fn check_one(attribute: &Attribute) -> Result<(), String> {
    let path = &attribute.path;
    let Some(AttributeStep::Standard(tag)) = first_step(path) else {
        return Ok(());
    };
    if COUNTED.contains(&tag) {
        return Err(format!(
            "[[attribute]] {path:?}: the server counts this itself, no instance brings it"
        ));
    }
    if NO_KEYS.contains(&tag) || tag.element() == 0 {
        return Err(format!("[[attribute]] {path:?}: this is never searched"));
    }
    let fixed = FIXED.iter().find(|(_, tags)| tags.contains(&tag));
    match fixed {
        Some((level, _)) if *level != attribute.level.level() => Err(format!(
            "[[attribute]] {path:?}: level \"{}\" contradicts the Standard, by which it is of level \"{}\" \
             (PS3.4 C.6)",
            attribute.level.name(),
            AttributeLevel::of(*level).name()
        )),
        _ => Ok(()),
    }
}

fn check_two(one: &Attribute, other: &Attribute) -> Result<(), String> {
    let paths = [one, other].map(|attribute| attribute.path.parse::<AttributePath>().ok());
    if paths[0] == paths[1] {
        return Err(format!("two [[attribute]] tables have the path {:?}", other.path));
    }
    if one.level != other.level && first_step(&one.path) == first_step(&other.path) {
        return Err(format!(
            "[[attribute]] {:?} and {:?} stand in one sequence, which is of one level",
            one.path, other.path
        ));
    }
    Ok(())
}

/// The outermost step of a path.
fn first_step(path: &str) -> Option<AttributeStep> {
    // The creator of a private attribute may hold dots.
    let end = match path.find('[') {
        Some(bracket) if path.find('.').is_none_or(|dot| bracket < dot) => {
            let closed = path[bracket..].find(']').map_or(path.len(), |at| bracket + at);
            path[closed..].find('.').map(|at| closed + at)
        }
        _ => path.find('.'),
    };
    path[..end.unwrap_or(path.len())].trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    fn parse(attributes: &[(&str, &str)]) -> Result<Config, String> {
        let tables = attributes
            .iter()
            .map(|(level, path)| format!("[[attribute]]\nlevel = \"{level}\"\npath = \"{path}\"\n"));
        Config::parse(&tables.collect::<String>())
    }

    #[test]
    fn attributes_that_can_mean_nothing_are_refused_with_the_reason() {
        const REQUEST: &str = "RequestAttributesSequence.RequestedProcedureID";
        let cases: [(&[(&str, &str)], &str); 12] = [
            (&[("study", "PatientName")], "is of level \"patient\""),
            (&[("series", "00080020")], "is of level \"study\""),
            (&[("patient", "SOPInstanceUID")], "is of level \"instance\""),
            (
                &[("series", "ProcedureCodeSequence.CodeMeaning")],
                "is of level \"study\"",
            ),
            (
                &[("study", "NumberOfStudyRelatedInstances")],
                "counts this itself",
            ),
            (&[("study", "SpecificCharacterSet")], "never searched"),
            (&[("study", "00180000")], "never searched"),
            (
                &[("series", "ProtocolName"), ("series", "(0018,1030)")],
                "two [[attribute]] tables",
            ),
            (
                &[("series", "ProtocolName"), ("study", "ProtocolName")],
                "two [[attribute]] tables",
            ),
            (
                &[
                    ("series", REQUEST),
                    ("study", "RequestAttributesSequence.AccessionNumber"),
                ],
                "one sequence",
            ),
            (
                &[("series", "RequestAttributesSequence.NoSuchKeyword")],
                "\"RequestAttributesSequence.NoSuchKeyword\"",
            ),
            (&[("series", "PatientName.PatientID")], "must be a sequence"),
        ];
        for (attributes, reason) in cases {
            let error = parse(attributes).unwrap_err();
            assert!(error.contains(reason), "{attributes:?}: {error}");
        }
    }

    #[test]
    fn attributes_that_mean_something_are_taken() {
        let taken = parse(&[
            ("patient", "PatientName"),
            ("series", "InstitutionName"),
            ("instance", "0029xx10[ACME 1.1]:LO"),
            ("study", "0029xx11[ACME 1.1]:LO"),
            ("series", "0029xx12[ACME 1.1]:SQ.CodeValue"),
            ("series", "RequestAttributesSequence.RequestedProcedureID"),
            ("series", "RequestAttributesSequence.AccessionNumber"),
        ]);
        assert_eq!(taken.map(|config| config.attributes.len()), Ok(7));
    }
}
