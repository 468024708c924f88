//! `find`, `move` and `get`.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;

use dicom_dictionary_std::{tags, uids};
use futures::StreamExt as _;
use futures::future::BoxFuture;
use indicatif::ProgressBar;
use pacs_core::dataset::part10::{Meta, write_meta};
use pacs_core::{AeTitle, Error, ErrorKind, Result, Uid};
use pacs_net::dimse::{NoServices, Operation, Reply, Responses, Services, SubOperations};
use pacs_net::scu::NATIVE;

use crate::answer;
use crate::cli::{Peer, Query};
use crate::peer::{Service, data_set, expect_done, words};
use crate::say;

/// Asks and prints the answers.
pub(crate) async fn find(
    peer: &Peer,
    query: &Query,
    json: bool,
    cancel_after: Option<usize>,
) -> Result<bool> {
    let sop_class = query.sop_class(Service::Find);
    let proposal = peer.proposal().with_context(sop_class, &NATIVE);
    let client = peer.call(&proposal, Arc::new(NoServices)).await?;
    let context = client.context_for(&sop_class)?.clone();
    let mut responses = client.find(&context, query.identifier(&context)?).await?;
    let mut answers = 0;
    let mut out = io::stdout().lock();
    while let Some(response) = responses.next().await {
        let response = response?;
        if !response.status().is_pending() {
            let cancelled = cancel_after.is_some_and(|wanted| answers >= wanted);
            if !cancelled {
                expect_done(&response)?;
            }
            break;
        }
        if let Some(set) = data_set(&context, &response)? {
            let text = if json {
                format!("{}\n", answer::json(&set))
            } else {
                format!("{}\n", answer::text(&set))
            };
            out.write_all(text.as_bytes()).map_err(output)?;
        }
        answers += 1;
        if cancel_after == Some(answers) {
            responses.cancel().await?;
        }
    }
    client.release().await?;
    if !json {
        writeln!(out, "{answers} answer(s)").map_err(output)?;
    }
    Ok(true)
}

/// Has the peer send what matches to `destination`. Answers whether all of it came there.
pub(crate) async fn r#move(peer: &Peer, query: &Query, destination: &AeTitle) -> Result<bool> {
    let sop_class = query.sop_class(Service::Move);
    let proposal = peer.proposal().with_context(sop_class, &NATIVE);
    let client = peer.call(&proposal, Arc::new(NoServices)).await?;
    let context = client.context_for(&sop_class)?.clone();
    let responses = client
        .r#move(&context, destination, query.identifier(&context)?)
        .await?;
    let whole = watch(responses).await?;
    client.release().await?;
    Ok(whole)
}

/// Fetches what matches into files of `output`, where there is one. Answers whether all of it came.
pub(crate) async fn get(peer: &Peer, query: &Query, output: Option<PathBuf>) -> Result<bool> {
    if let Some(output) = &output {
        fs::create_dir_all(output)
            .map_err(|error| Error::io("get.open", format!("{} can't be made", output.display()), error))?;
    }
    let sop_class = query.sop_class(Service::Get);
    let mut proposal = peer
        .proposal()
        .with_context(sop_class, &NATIVE)
        .with_asynchronous(1, 0);
    // One context for each transfer syntax: the peer can then send what it has as it is. There is room
    // for all of them when the peer says beforehand which classes will come.
    let classes = sop_classes(peer, query).await;
    if (1..=CLASSES_MAX).contains(&classes.len()) {
        for class in classes {
            proposal = proposal.with_role(class, false, true);
            for syntax in NATIVE.iter().chain(&OTHERS) {
                proposal = proposal.with_context(class, [syntax]);
            }
        }
    } else {
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
    }
    let services: Arc<dyn Services> = match output {
        Some(directory) => Arc::new(Files { directory }),
        None => Arc::new(Discard),
    };
    let client = peer.call(&proposal, services).await?;
    let context = client.context_for(&sop_class)?.clone();
    let responses = client.get(&context, query.identifier(&context)?).await?;
    let whole = watch(responses).await?;
    client.release().await?;
    Ok(whole)
}

/// The SOP classes of what matches, where the peer can tell; none otherwise.
async fn sop_classes(peer: &Peer, query: &Query) -> BTreeSet<Uid> {
    let ask = async {
        let sop_class = query.sop_class(Service::Find);
        let proposal = peer.proposal().with_context(sop_class, &NATIVE);
        let client = peer.call(&proposal, Arc::new(NoServices)).await?;
        let context = client.context_for(&sop_class)?.clone();
        let asked = [tags::SOP_CLASSES_IN_STUDY, tags::SOP_CLASS_UID];
        let identifier = query.identifier_asking(&context, &asked)?;
        let mut responses = client.find(&context, identifier).await?;
        let mut classes = BTreeSet::new();
        while let Some(response) = responses.next().await {
            let Some(set) = data_set(&context, &response?)? else {
                continue;
            };
            let values = asked.iter().flat_map(|tag| set.strings(*tag));
            classes.extend(values.filter_map(|value| Uid::parse(value).ok()));
        }
        client.release().await?;
        Ok::<_, Error>(classes)
    };
    // Only a help: without it the usual classes are proposed.
    ask.await.unwrap_or_default()
}

/// Shows sub-operations as they are done; answers whether none failed.
async fn watch(mut responses: Responses) -> Result<bool> {
    let bar = ProgressBar::no_length();
    while let Some(response) = responses.next().await {
        let response = response?;
        let counts = response.command.sub_operations();
        let SubOperations {
            remaining,
            completed,
            failed,
            warning,
        } = counts;
        let done = u64::from(completed) + u64::from(failed) + u64::from(warning);
        bar.set_length(done + u64::from(remaining.unwrap_or_default()));
        bar.set_position(done);
        if response.status().is_pending() {
            continue;
        }
        bar.finish_and_clear();
        say(&format!(
            "{completed} done, {warning} with a warning, {failed} failed\n"
        ))?;
        if failed == 0 && warning == 0 {
            expect_done(&response)?;
        } else {
            say(&format!("the peer answered {}\n", words(&response)))?;
        }
        return Ok(failed == 0 && warning == 0);
    }
    Err(Error::new(
        ErrorKind::Closed,
        "retrieve.wait",
        "the association ended before the final response",
    ))
}

/// Takes C-STORE requests into files.
struct Files {
    directory: PathBuf,
}

impl Services for Files {
    fn c_store(&self, mut operation: Operation) -> BoxFuture<'_, Result<Reply>> {
        Box::pin(async move {
            let sop_instance = operation.command().sop_instance()?;
            let meta = write_meta(&Meta {
                sop_class: operation.command().sop_class()?,
                sop_instance,
                transfer_syntax: operation.context().transfer_syntax,
                source: AeTitle::parse(&operation.negotiated().called_ae_title).ok(),
                sending: None,
                receiving: None,
            });
            // A UID is digits and dots, so it leads nowhere else.
            let path = self.directory.join(format!("{sop_instance}.dcm"));
            let part = self.directory.join(format!("{sop_instance}.part"));
            let failed = |error| Error::io("file.write", "the received instance can't be written", error);
            let mut file = File::create(&part).map_err(failed)?;
            file.write_all(&meta).map_err(failed)?;
            if let Some(mut data_set) = operation.take_data_set() {
                while let Some(piece) = data_set.next_piece().await? {
                    file.write_all(&piece).map_err(failed)?;
                }
            }
            fs::rename(&part, &path).map_err(failed)?;
            Ok(Reply::success())
        })
    }
}

/// Takes C-STORE requests and keeps nothing.
struct Discard;

impl Services for Discard {
    fn c_store(&self, mut operation: Operation) -> BoxFuture<'_, Result<Reply>> {
        Box::pin(async move {
            if let Some(mut data_set) = operation.take_data_set() {
                while data_set.next_piece().await?.is_some() {}
            }
            Ok(Reply::success())
        })
    }
}

fn output(error: io::Error) -> Error {
    Error::io("answer.print", "standard output can't be written", error)
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
