//! Whose ID it is: [`PatientId`].

use dicom_dictionary_std::tags;

use crate::dataset::DataSet;

/// A Patient ID (0010,0020) with who issued it (0010,0021), where that is known: the same ID of two issuers is of two
/// patients (PS3.3 C.2.2).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PatientId {
    id: String,
    issuer: Option<String>,
}

impl PatientId {
    /// Without the blanks around them, which say nothing (PS3.5 6.2). An empty issuer is one that is not known.
    pub fn new(id: &str, issuer: Option<&str>) -> Self {
        let issuer = issuer.map(str::trim).filter(|issuer| !issuer.is_empty());
        Self {
            id: id.trim().to_owned(),
            issuer: issuer.map(str::to_owned),
        }
    }

    /// Of a data set; with an empty ID where it has none.
    pub fn of(set: &DataSet) -> Self {
        let id = set.string(tags::PATIENT_ID).unwrap_or_default();
        Self::new(id, set.string(tags::ISSUER_OF_PATIENT_ID))
    }

    /// Patient ID; empty for who has none.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Issuer of Patient ID, where it is known.
    pub fn issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }

    /// Whether both are the same patient: not where the IDs differ, or both issuers are known and differ.
    pub fn agrees(&self, other: &Self) -> bool {
        let differ = matches!((&self.issuer, &other.issuer), (Some(one), Some(other)) if one != other);
        self.id == other.id && !differ
    }
}

/// One whose issuer is not known.
impl From<&str> for PatientId {
    fn from(id: &str) -> Self {
        Self::new(id, None)
    }
}

/// It is patient data.
impl std::fmt::Debug for PatientId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PatientId").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_id_of_two_issuers_is_of_two_patients() {
        let id = |issuer| PatientId::new(" 1 ", issuer);
        assert!(id(Some("A")).agrees(&id(Some("A "))));
        assert!(id(Some("A")).agrees(&"1".into()));
        assert!(id(Some(" ")).agrees(&id(Some("B"))));
        assert!(!id(Some("A")).agrees(&id(Some("B"))));
        assert!(!id(Some("A")).agrees(&PatientId::new("2", Some("A"))));
        assert_eq!(format!("{:?}", id(Some("A"))), "PatientId { .. }");
    }
}
