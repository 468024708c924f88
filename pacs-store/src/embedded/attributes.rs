//! What the `[[attribute]]` tables say together.

use pacs_core::query::{AttributePath, AttributeSet};

use super::Attribute;

/// The usual attributes and these. The error says what of it can't mean anything, and is fit to be shown.
pub(super) fn set(attributes: &[Attribute]) -> Result<AttributeSet, String> {
    let mut set = AttributeSet::default();
    let mut before: Vec<(&Attribute, AttributePath)> = Vec::new();
    for attribute in attributes {
        let refused = |why: &str| format!("[[attribute]] {:?}: {why}", attribute.path);
        let path: AttributePath = attribute
            .path
            .parse()
            .map_err(|error: pacs_core::Error| refused(error.context()))?;
        for (other, other_path) in &before {
            if path == *other_path {
                return Err(format!(
                    "two [[attribute]] tables have the path {:?}",
                    attribute.path
                ));
            }
            if attribute.level != other.level && path.steps().first() == other_path.steps().first() {
                return Err(refused(&format!(
                    "it stands in one sequence with {:?}, which is of one level",
                    other.path
                )));
            }
        }
        set = set
            .keep(attribute.level.level(), &path)
            .map_err(|error| refused(error.context()))?;
        before.push((attribute, path));
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use crate::embedded::Settings;

    fn parse(attributes: &[(&str, &str)]) -> Result<Settings, String> {
        let tables = attributes
            .iter()
            .map(|(level, path)| format!("[[attribute]]\nlevel = \"{level}\"\npath = \"{path}\"\n"));
        let settings: Settings =
            toml::from_str(&tables.collect::<String>()).map_err(|error| error.to_string())?;
        settings.attribute_set().map_err(|error| error.to_string())?;
        Ok(settings)
    }

    #[test]
    fn attributes_that_can_mean_nothing_are_refused_with_the_reason() {
        const REQUEST: &str = "RequestAttributesSequence.RequestedProcedureID";
        let cases: [(&[(&str, &str)], &str); 12] = [
            (&[("study", "PatientName")], "is of level PATIENT"),
            (&[("series", "00080020")], "is of level STUDY"),
            (&[("patient", "SOPInstanceUID")], "is of level IMAGE"),
            (
                &[("series", "ProcedureCodeSequence.CodeMeaning")],
                "is of level STUDY",
            ),
            (&[("study", "NumberOfStudyRelatedInstances")], "this is counted"),
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
        assert_eq!(taken.map(|settings| settings.attributes.len()), Ok(7));
    }
}
