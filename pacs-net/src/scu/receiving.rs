//! What is proposed to receive instances by C-GET (PS3.4 C.4.3): [`receiving`].

use std::collections::BTreeSet;

use dicom_dictionary_std::uids;
use pacs_core::Uid;

use super::NATIVE;
use crate::transport::Proposal;

/// Adds presentation contexts in which a peer may send instances on this association, in the role of an SCU
/// (PS3.7 D.3.3.4).
///
/// `classes` are the SOP classes that will come, as far as they are known. Where those are few, there is a context for
/// each transfer syntax, so that the peer can send what it has as it is; else the usual classes are proposed in the
/// native ones, and the most usual ones compressed too.
pub fn receiving(mut proposal: Proposal, classes: &BTreeSet<Uid>) -> Proposal {
    if (1..=CLASSES_MAX).contains(&classes.len()) {
        for class in classes {
            proposal = proposal.with_role(*class, false, true);
            for syntax in NATIVE.iter().chain(&OTHERS) {
                proposal = proposal.with_context(*class, [syntax]);
            }
        }
        return proposal;
    }
    for class in STORAGE {
        let class = Uid::constant(class);
        proposal = proposal
            .with_context(class, &NATIVE)
            .with_role(class, false, true);
    }
    for syntax in COMPRESSED {
        for class in COMPRESSIBLE {
            proposal = proposal.with_context(Uid::constant(class), [&Uid::constant(syntax)]);
        }
    }
    proposal
}

/// Transfer syntaxes beside [`NATIVE`] that instances are stored in.
const OTHERS: [Uid; 19] = [
    Uid::constant("1.2.840.10008.1.2.2"), // Explicit VR Big Endian, retired
    Uid::constant(uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN),
    Uid::constant(uids::RLE_LOSSLESS),
    Uid::constant(uids::JPEG_BASELINE8_BIT),
    Uid::constant(uids::JPEG_EXTENDED12_BIT),
    Uid::constant(uids::JPEG_LOSSLESS),
    Uid::constant(uids::JPEG_LOSSLESS_SV1),
    Uid::constant(uids::JPEGLS_LOSSLESS),
    Uid::constant(uids::JPEGLS_NEAR_LOSSLESS),
    Uid::constant(uids::JPEG2000_LOSSLESS),
    Uid::constant(uids::JPEG2000),
    Uid::constant(uids::HTJ2K_LOSSLESS),
    Uid::constant(uids::HTJ2K_LOSSLESS_RPCL),
    Uid::constant(uids::HTJ2K),
    Uid::constant(uids::MPEG2MPML),
    Uid::constant(uids::MPEG4HP41),
    Uid::constant(uids::MPEG4HP41BD),
    Uid::constant(uids::MPEG4HP422D),
    Uid::constant(uids::HEVCMP51),
];

/// Classes for which every transfer syntax is proposed: with the retrieval's own they fit the 128
/// contexts of an association (PS3.8 9.3.2.2).
const CLASSES_MAX: usize = 127 / (NATIVE.len() + OTHERS.len());

/// What is fetched uncompressed. Presentation contexts are few (128, PS3.8 9.3.2), so not every storage
/// SOP class has one.
const STORAGE: &[&str] = &[
    uids::COMPUTED_RADIOGRAPHY_IMAGE_STORAGE,
    uids::DIGITAL_X_RAY_IMAGE_STORAGE_FOR_PRESENTATION,
    uids::DIGITAL_X_RAY_IMAGE_STORAGE_FOR_PROCESSING,
    uids::DIGITAL_MAMMOGRAPHY_X_RAY_IMAGE_STORAGE_FOR_PRESENTATION,
    uids::DIGITAL_MAMMOGRAPHY_X_RAY_IMAGE_STORAGE_FOR_PROCESSING,
    uids::BREAST_TOMOSYNTHESIS_IMAGE_STORAGE,
    uids::CT_IMAGE_STORAGE,
    uids::ENHANCED_CT_IMAGE_STORAGE,
    uids::MR_IMAGE_STORAGE,
    uids::ENHANCED_MR_IMAGE_STORAGE,
    uids::MR_SPECTROSCOPY_STORAGE,
    uids::ULTRASOUND_IMAGE_STORAGE,
    uids::ULTRASOUND_MULTI_FRAME_IMAGE_STORAGE,
    uids::ENHANCED_US_VOLUME_STORAGE,
    uids::SECONDARY_CAPTURE_IMAGE_STORAGE,
    uids::MULTI_FRAME_SINGLE_BIT_SECONDARY_CAPTURE_IMAGE_STORAGE,
    uids::MULTI_FRAME_GRAYSCALE_BYTE_SECONDARY_CAPTURE_IMAGE_STORAGE,
    uids::MULTI_FRAME_GRAYSCALE_WORD_SECONDARY_CAPTURE_IMAGE_STORAGE,
    uids::MULTI_FRAME_TRUE_COLOR_SECONDARY_CAPTURE_IMAGE_STORAGE,
    uids::X_RAY_ANGIOGRAPHIC_IMAGE_STORAGE,
    uids::ENHANCED_XA_IMAGE_STORAGE,
    uids::X_RAY_RADIOFLUOROSCOPIC_IMAGE_STORAGE,
    uids::ENHANCED_XRF_IMAGE_STORAGE,
    uids::NUCLEAR_MEDICINE_IMAGE_STORAGE,
    uids::POSITRON_EMISSION_TOMOGRAPHY_IMAGE_STORAGE,
    uids::ENHANCED_PET_IMAGE_STORAGE,
    uids::RT_IMAGE_STORAGE,
    uids::RT_DOSE_STORAGE,
    uids::RT_STRUCTURE_SET_STORAGE,
    uids::RT_PLAN_STORAGE,
    uids::RT_ION_PLAN_STORAGE,
    uids::RT_BEAMS_TREATMENT_RECORD_STORAGE,
    uids::VL_ENDOSCOPIC_IMAGE_STORAGE,
    uids::VL_MICROSCOPIC_IMAGE_STORAGE,
    uids::VL_PHOTOGRAPHIC_IMAGE_STORAGE,
    uids::VL_WHOLE_SLIDE_MICROSCOPY_IMAGE_STORAGE,
    uids::OPHTHALMIC_PHOTOGRAPHY8_BIT_IMAGE_STORAGE,
    uids::OPHTHALMIC_TOMOGRAPHY_IMAGE_STORAGE,
    uids::SEGMENTATION_STORAGE,
    uids::SURFACE_SEGMENTATION_STORAGE,
    uids::PARAMETRIC_MAP_STORAGE,
    uids::SPATIAL_REGISTRATION_STORAGE,
    uids::RAW_DATA_STORAGE,
    uids::GRAYSCALE_SOFTCOPY_PRESENTATION_STATE_STORAGE,
    uids::COLOR_SOFTCOPY_PRESENTATION_STATE_STORAGE,
    uids::KEY_OBJECT_SELECTION_DOCUMENT_STORAGE,
    uids::BASIC_TEXT_SR_STORAGE,
    uids::ENHANCED_SR_STORAGE,
    uids::COMPREHENSIVE_SR_STORAGE,
    uids::COMPREHENSIVE3_DSR_STORAGE,
    uids::X_RAY_RADIATION_DOSE_SR_STORAGE,
    uids::TWELVE_LEAD_ECG_WAVEFORM_STORAGE,
    uids::GENERAL_ECG_WAVEFORM_STORAGE,
    uids::ENCAPSULATED_PDF_STORAGE,
    uids::ENCAPSULATED_CDA_STORAGE,
];

/// What is often stored compressed.
const COMPRESSIBLE: &[&str] = &[
    uids::CT_IMAGE_STORAGE,
    uids::MR_IMAGE_STORAGE,
    uids::COMPUTED_RADIOGRAPHY_IMAGE_STORAGE,
    uids::DIGITAL_X_RAY_IMAGE_STORAGE_FOR_PRESENTATION,
    uids::DIGITAL_MAMMOGRAPHY_X_RAY_IMAGE_STORAGE_FOR_PRESENTATION,
    uids::ULTRASOUND_IMAGE_STORAGE,
    uids::ULTRASOUND_MULTI_FRAME_IMAGE_STORAGE,
    uids::SECONDARY_CAPTURE_IMAGE_STORAGE,
    uids::X_RAY_ANGIOGRAPHIC_IMAGE_STORAGE,
];

/// How.
const COMPRESSED: &[&str] = &[
    uids::JPEG_BASELINE8_BIT,
    uids::JPEG_EXTENDED12_BIT,
    uids::JPEG_LOSSLESS_SV1,
    uids::JPEGLS_LOSSLESS,
    uids::JPEG2000_LOSSLESS,
    uids::JPEG2000,
    uids::RLE_LOSSLESS,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_context_of_a_get_fits_into_one_association() {
        // One is the retrieval's own.
        assert!(1 + STORAGE.len() + COMPRESSIBLE.len() * COMPRESSED.len() <= 128);
        assert!(COMPRESSIBLE.iter().all(|class| STORAGE.contains(class)));
    }
}
