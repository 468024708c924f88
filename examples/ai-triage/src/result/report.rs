//! The report: a Comprehensive SR after TID 1500 (PS3.16).
//!
//! ```text
//! Imaging Measurement Report                            TID 1500
//!   language, observer (a device), procedure
//!   Imaging Measurements
//!     Measurement Group                                 TID 1411, one for each region
//!       tracking, finding, algorithm, site
//!       Image Region: SCOORD selected from a slice      for each outline
//!       Volume in ml, mean attenuation in HU
//!   Qualitative Evaluations
//!     Finding: the code that a rule looks for
//!     Comment: what this is not
//! ```

use dicom_core::VR;
use dicom_dictionary_std::{tags, uids};
use pacs_core::{DataSet, Result, Uid};

use super::codes::*;
use super::{DISCLAIMER, Made, Of, empty, reference};
use crate::analysis::Assessed;
use crate::outline::outlines;
use crate::regions::Region;

/// Outlines of one region; of one that has more, those of its first slices.
const OUTLINES_MAX: usize = 500;

pub(super) fn report(of: &Of<'_>, assessed: &[Assessed]) -> Result<Made> {
    let found = assessed.iter().any(|one| one.found.count > 0);
    let finding = if found { HEMORRHAGE } else { ABSENT };
    let description = if found {
        "AI triage: suspected finding, not for diagnosis"
    } else {
        "AI triage: no finding, not for diagnosis"
    };
    let class = Uid::constant(uids::COMPREHENSIVE_SR_STORAGE);
    let mut made = of.instance(class, "report", "SR", 9901, description);
    let set = &mut made.data_set;
    // No one has looked at it.
    set.put_text(tags::COMPLETION_FLAG, VR::CS, "PARTIAL");
    set.put_text(tags::VERIFICATION_FLAG, VR::CS, "UNVERIFIED");
    set.put_text(tags::PRELIMINARY_FLAG, VR::CS, "PRELIMINARY");
    set.put(empty(tags::REFERENCED_PERFORMED_PROCEDURE_STEP_SEQUENCE, VR::SQ));
    set.put(empty(tags::PERFORMED_PROCEDURE_CODE_SEQUENCE, VR::SQ));
    let requests = requests(of);
    if !requests.is_empty() {
        set.put_items(tags::REFERENCED_REQUEST_SEQUENCE, requests);
    }
    set.put_items(
        tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE,
        vec![evidence(of, assessed)],
    );
    let root = of_template(container(REPORT, tree(of, assessed, finding)), "1500");
    // The root stands to nothing.
    root.into_iter()
        .filter(|element| element.tag != tags::RELATIONSHIP_TYPE)
        .for_each(|element| set.put(element));
    Ok(made)
}

fn tree(of: &Of<'_>, assessed: &[Assessed], finding: Code) -> Vec<DataSet> {
    // The program, whatever machine it runs on.
    let device = pacs_net::IMPLEMENTATION_CLASS_UID;
    let mut groups = Vec::new();
    for one in assessed {
        for (region, number) in one.found.regions.iter().zip(1..) {
            groups.push(group(of, one, region, number));
        }
    }
    let mut told = vec![coded(CONTAINS, FINDING, finding)];
    for one in assessed {
        told.push(text(CONTAINS, COMMENT, summary(one)));
    }
    told.push(text(CONTAINS, COMMENT, DISCLAIMER));
    let mut tree = vec![
        coded(MODIFIER, LANGUAGE, ENGLISH),
        coded(CONTEXT, OBSERVER_TYPE, DEVICE),
        uid(CONTEXT, DEVICE_UID, &device),
        text(CONTEXT, DEVICE_NAME, env!("CARGO_PKG_NAME")),
        text(CONTEXT, DEVICE_MANUFACTURER, "pacs-engine examples"),
        text(CONTEXT, DEVICE_MODEL, env!("CARGO_PKG_NAME")),
        coded(MODIFIER, PROCEDURE, CT),
    ];
    if !groups.is_empty() {
        tree.push(container(MEASUREMENTS, groups));
    }
    tree.push(container(EVALUATIONS, told));
    tree
}

/// What was looked at, and what came of it.
fn summary(one: &Assessed) -> String {
    let (slices, closed, count) = (one.slices.len(), one.found.closed_slices, one.found.count);
    let series = one.number.as_deref().unwrap_or("without a number");
    format!(
        "Series {series}: {slices} slices, {closed} of them with a closed skull, where {count} dense regions are."
    )
}

/// One region (TID 1411).
fn group(of: &Of<'_>, one: &Assessed, region: &Region, number: usize) -> DataSet {
    let tracking = of.names.uid(&format!("region {} {number}", one.series));
    let mut group = vec![
        text(CONTEXT, TRACKING, format!("Dense region {number}")),
        uid(CONTEXT, TRACKING_UID, &tracking),
        coded(CONTAINS, FINDING, HEMORRHAGE),
        text(MODIFIER, ALGORITHM_NAME, super::ALGORITHM),
        text(
            MODIFIER,
            super::codes::ALGORITHM_VERSION,
            super::ALGORITHM_VERSION,
        ),
        coded(MODIFIER, SITE, BRAIN),
    ];
    let of_slices = region.runs.chunk_by(|a, b| a.slice == b.slice);
    let regions = of_slices.flat_map(|runs| {
        let (class, instance) = &one.slices[runs[0].slice as usize];
        let outlines = outlines(runs).into_iter();
        outlines.map(move |outline| super::codes::region(&outline, class, instance))
    });
    group.extend(regions.take(OUTLINES_MAX));
    let (class, instance) = &one.slices[region.key_slice as usize];
    let source = || image("INFERRED FROM", Some(SOURCE), class, instance);
    group.push(with(
        number_of(VOLUME, region.volume_ml, MILLILITRE),
        vec![source()],
    ));
    group.push(with(
        number_of(ATTENUATION, region.mean_hu, HOUNSFIELD),
        vec![coded(MODIFIER, DERIVATION, MEAN), source()],
    ));
    of_template(container(GROUP, group), "1411")
}

fn number_of(name: Code, value: f64, unit: Code) -> DataSet {
    super::codes::number(name, value, unit)
}

/// All that was looked at (PS3.3 C.17.2.1).
fn evidence(of: &Of<'_>, assessed: &[Assessed]) -> DataSet {
    let series = assessed.iter().map(|one| {
        let instances = one
            .slices
            .iter()
            .map(|(class, instance)| reference(class, instance));
        let mut item = DataSet::new();
        item.put_uid(tags::SERIES_INSTANCE_UID, &one.series);
        item.put_items(tags::REFERENCED_SOP_SEQUENCE, instances.collect());
        item
    });
    let mut item = DataSet::new();
    item.put_items(tags::REFERENCED_SERIES_SEQUENCE, series.collect());
    item.put_uid(tags::STUDY_INSTANCE_UID, &of.study);
    item
}

/// The orders that the images were made for, as they say it (PS3.3 C.17.2).
fn requests(of: &Of<'_>) -> Vec<DataSet> {
    let asked = of.header.items(tags::REQUEST_ATTRIBUTES_SEQUENCE);
    let itself = [DataSet::new()];
    let has_number = of.header.string(tags::ACCESSION_NUMBER).is_some();
    let asked = if asked.is_empty() && has_number {
        &itself[..]
    } else {
        asked
    };
    let request = |asked: &DataSet| {
        let mut item = DataSet::new();
        item.put_uid(tags::STUDY_INSTANCE_UID, &of.study);
        item.put(empty(tags::REFERENCED_STUDY_SEQUENCE, VR::SQ));
        for (tag, vr) in [
            (tags::ACCESSION_NUMBER, VR::SH),
            (tags::PLACER_ORDER_NUMBER_IMAGING_SERVICE_REQUEST, VR::LO),
            (tags::FILLER_ORDER_NUMBER_IMAGING_SERVICE_REQUEST, VR::LO),
            (tags::REQUESTED_PROCEDURE_ID, VR::SH),
            (tags::REQUESTED_PROCEDURE_DESCRIPTION, VR::LO),
            (tags::REQUESTED_PROCEDURE_CODE_SEQUENCE, VR::SQ),
        ] {
            let said = asked.get(tag).or_else(|| of.header.get(tag));
            item.put(said.cloned().unwrap_or_else(|| empty(tag, vr)));
        }
        item
    };
    asked.iter().map(request).collect()
}
