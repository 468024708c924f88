//! What a report is: a document that somebody stands for.

use dicom_core::dictionary::UidDictionary;
use dicom_dictionary_std::{StandardSopClassDictionary, tags};

use crate::dataset::DataSet;
use crate::uid::Uid;

/// The dictionary's names of SR documents that report. What measures, lists or computes is none.
const DOCUMENTS: [&str; 5] = [
    "BasicTextSR",
    "EnhancedSR",
    "ComprehensiveSR",
    "Comprehensive3DSR",
    "ExtensibleSR",
];

/// Encapsulated documents that are shapes and no text.
const SHAPES: [&str; 3] = ["STL", "OBJ", "MTL"];

/// Whether instances of this SOP class may be reports: SR documents (PS3.3 A.35) and encapsulated ones (A.45).
pub fn may_be_report(sop_class: &Uid) -> bool {
    let name = name_of(sop_class);
    is_encapsulated(name) || DOCUMENTS.iter().any(|document| name.starts_with(document))
}

/// Whether an instance is a final report: an encapsulated document, or an SR document that is complete and verified
/// (PS3.3 C.17.2).
pub fn is_final(sop_class: &Uid, header: &DataSet) -> bool {
    may_be_report(sop_class)
        && (is_encapsulated(name_of(sop_class))
            || header.string(tags::COMPLETION_FLAG) == Some("COMPLETE")
                && header.string(tags::VERIFICATION_FLAG) == Some("VERIFIED"))
}

fn is_encapsulated(name: &str) -> bool {
    name.starts_with("Encapsulated") && !SHAPES.iter().any(|shape| name.contains(shape))
}

fn name_of(sop_class: &Uid) -> &'static str {
    let entry = StandardSopClassDictionary.by_uid(sop_class);
    entry.map(|entry| entry.alias).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use dicom_core::VR;
    use dicom_dictionary_std::uids;

    use super::*;

    #[test]
    fn a_report_is_final_when_somebody_stands_for_it() {
        let of = |completion: &str, verification: &str| {
            let mut header = DataSet::new();
            header.put_text(tags::COMPLETION_FLAG, VR::CS, completion);
            header.put_text(tags::VERIFICATION_FLAG, VR::CS, verification);
            header
        };
        let sr = Uid::constant(uids::BASIC_TEXT_SR_STORAGE);
        assert!(is_final(&sr, &of("COMPLETE", "VERIFIED")));
        assert!(!is_final(&sr, &of("COMPLETE", "UNVERIFIED")));
        assert!(!is_final(&sr, &of("PARTIAL", "VERIFIED")));
        let none = DataSet::new();
        for document in [uids::ENCAPSULATED_PDF_STORAGE, uids::ENCAPSULATED_CDA_STORAGE] {
            assert!(is_final(&Uid::constant(document), &none), "{document}");
        }
        for other in [
            uids::ENCAPSULATED_STL_STORAGE,
            uids::X_RAY_RADIATION_DOSE_SR_STORAGE,
            uids::KEY_OBJECT_SELECTION_DOCUMENT_STORAGE,
            uids::CT_IMAGE_STORAGE,
        ] {
            let other = Uid::constant(other);
            assert!(!may_be_report(&other) && !is_final(&other, &of("COMPLETE", "VERIFIED")));
        }
    }
}
