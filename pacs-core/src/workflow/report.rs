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

/// Titles of reports about images (LOINC, of PS3.16 CID 7000): not those that a device writes by itself, as of an ECG.
const TITLES: [&str; 13] = [
    "11528-7", "18745-0", "18748-4", "24606-6", "25045-6", "25056-3", "25061-3", "42148-7", "43468-8",
    "44136-0", "47048-4", "49118-3", "49512-7",
];

/// Whether an instance is a final report, by its attributes:
///
/// - An SR document that is COMPLETE, VERIFIED and not PRELIMINARY (PS3.3 C.17.2).
/// - An encapsulated document that is VERIFIED (PS3.3 C.24.2). Where nothing is said of that, one whose Concept Name Code
///   Sequence (0040,A043) is the title of a report (PS3.16 CID 7000): any other one may be a modality's worksheet, or a
///   request that was scanned.
pub fn is_final(sop_class: &Uid, header: &DataSet) -> bool {
    let verified = header.string(tags::VERIFICATION_FLAG);
    if !may_be_report(sop_class) || header.string(tags::PRELIMINARY_FLAG) == Some("PRELIMINARY") {
        return false;
    }
    match is_encapsulated(name_of(sop_class)) {
        true => verified.map_or_else(|| is_titled(header), |flag| flag == "VERIFIED"),
        false => verified == Some("VERIFIED") && header.string(tags::COMPLETION_FLAG) == Some("COMPLETE"),
    }
}

fn is_titled(header: &DataSet) -> bool {
    let mut titles = header.items(tags::CONCEPT_NAME_CODE_SEQUENCE).iter();
    titles.any(|title| {
        let code = title.string(tags::CODE_VALUE).unwrap_or_default();
        title.string(tags::CODING_SCHEME_DESIGNATOR) == Some("LN") && TITLES.contains(&code)
    })
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
        let mut preliminary = of("COMPLETE", "VERIFIED");
        preliminary.put_text(tags::PRELIMINARY_FLAG, VR::CS, "PRELIMINARY");
        assert!(!is_final(&sr, &preliminary));
        let titled = |code: &str| {
            let mut header = DataSet::new();
            header.put_items(
                tags::CONCEPT_NAME_CODE_SEQUENCE,
                vec![DataSet::code(code, "LN", "Title")],
            );
            header
        };
        let mut unverified = titled("18748-4");
        unverified.put_text(tags::VERIFICATION_FLAG, VR::CS, "UNVERIFIED");
        for document in [uids::ENCAPSULATED_PDF_STORAGE, uids::ENCAPSULATED_CDA_STORAGE] {
            let document = Uid::constant(document);
            assert!(is_final(&document, &of("", "VERIFIED")) && is_final(&document, &titled("18748-4")));
            for other in [
                DataSet::new(),
                titled("11524-0"),
                unverified.clone(),
                preliminary.clone(),
            ] {
                assert!(!is_final(&document, &other));
            }
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
