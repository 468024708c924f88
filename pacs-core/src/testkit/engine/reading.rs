//! What the engine promises of the reading worklist: how far a study is, told by what happened.

use dicom_core::VR;
use dicom_dictionary_std::tags;
use futures::TryStreamExt;
use futures::executor::block_on;

use super::{Options, Pacs, Place, instance, keep, study_uid};
use crate::dataset::DataSet;
use crate::route::Priority;
use crate::testkit::workflow::performed;
use crate::uid::Uid;
use crate::workflow::ups::{State, Ups};
use crate::workflow::{PerformedSteps, Reading, StudyStatus, Worklist, performed as steps};

fn open(place: &dyn Place) -> (Pacs, Reading) {
    let options = Options {
        ledger: Some(place.ledger()),
        ..Options::default()
    };
    let pacs = block_on(Pacs::open(place.archive(), place.index(), options)).expect("opens");
    let reading = Reading::new(&pacs).expect("there is a ledger");
    (pacs, reading)
}

fn status(reading: &Reading) -> Option<StudyStatus> {
    block_on(reading.status(&study_uid(1))).expect("is told")
}

fn ups(pacs: &Pacs) -> &Ups {
    pacs.ups().expect("there is a ledger")
}

/// An item of the worklist for the study, urgent.
fn item() -> DataSet {
    let mut step = DataSet::new();
    for (tag, vr, text) in [
        (tags::MODALITY, VR::CS, "CT"),
        (tags::SCHEDULED_STATION_AE_TITLE, VR::AE, "CT1"),
        (tags::SCHEDULED_PROCEDURE_STEP_START_DATE, VR::DA, "20240202"),
        (tags::SCHEDULED_PROCEDURE_STEP_START_TIME, VR::TM, "0800"),
        (tags::SCHEDULED_PROCEDURE_STEP_ID, VR::SH, "S1"),
    ] {
        step.put_text(tag, vr, text);
    }
    let mut item = DataSet::new();
    for (tag, vr, text) in [
        (tags::ACCESSION_NUMBER, VR::SH, "A1"),
        (tags::PATIENT_NAME, VR::PN, "Family1^Given"),
        (tags::PATIENT_ID, VR::LO, "P1"),
        (tags::REQUESTED_PROCEDURE_ID, VR::SH, "R1"),
        (tags::REQUESTED_PROCEDURE_PRIORITY, VR::SH, "STAT"),
    ] {
        item.put_text(tag, vr, text);
    }
    item.put_uid(tags::STUDY_INSTANCE_UID, &study_uid(1));
    item.put_items(tags::SCHEDULED_PROCEDURE_STEP_SEQUENCE, vec![step]);
    item
}

/// See its name.
pub fn how_far_a_study_is_is_told_by_what_happened(place: &dyn Place) {
    let (pacs, reading) = open(place);
    let ledger = ledger(&pacs);
    assert_eq!(status(&reading), None);
    block_on(Worklist::new(ledger.clone()).put(item())).expect("is put");
    assert_eq!(status(&reading), Some(StudyStatus::Scheduled));
    let performing = PerformedSteps::new(ledger);
    let step = Uid::constant("1.2.3.4");
    let mut begun = steps::begun(&item());
    for (tag, vr, text) in [
        (tags::PERFORMED_PROCEDURE_STEP_ID, VR::SH, "1"),
        (tags::PERFORMED_STATION_AE_TITLE, VR::AE, "CT1"),
        (tags::PERFORMED_PROCEDURE_STEP_START_DATE, VR::DA, "20240202"),
        (tags::PERFORMED_PROCEDURE_STEP_START_TIME, VR::TM, "0801"),
    ] {
        begun.put_text(tag, vr, text);
    }
    block_on(performing.create(&step, begun)).expect("begins");
    let received = keep(&pacs, instance(1, 1, 1, 0));
    assert_eq!(status(&reading), Some(StudyStatus::InProgress));
    // Opened once, as urgent as it was ordered.
    let study = study_uid(1);
    assert!(block_on(reading.open(&study, Priority::Low)).expect("is opened"));
    assert!(!block_on(reading.open(&study, Priority::Stat)).expect("is asked"));
    assert_eq!(status(&reading), Some(StudyStatus::Acquired));
    let uid = Reading::step_of(&study);
    let opened = block_on(ups(&pacs).get(&uid)).expect("is there");
    assert_eq!(
        opened.string(tags::SCHEDULED_PROCEDURE_STEP_PRIORITY),
        Some("HIGH")
    );
    // Read by somebody, then reported.
    let transaction = Uid::random();
    let change = |state| block_on(ups(&pacs).change_state(&uid, state, Some(&transaction))).expect("changes");
    change(State::InProgress);
    block_on(ups(&pacs).set(&uid, Some(&transaction), performed())).expect("is set");
    change(State::Completed);
    assert_eq!(status(&reading), Some(StudyStatus::Read));
    // What is over is neither raised nor completed again.
    block_on(reading.raise(&study, Priority::Stat)).expect("is over");
    block_on(reading.complete(&received.record)).expect("is over");
    assert_eq!(status(&reading), Some(StudyStatus::Reported));
    // A report that is removed reports nothing.
    block_on(pacs.remove(&received.record.key.instance)).expect("is removed");
    assert_eq!(status(&reading), Some(StudyStatus::Read));
}

/// See its name.
pub fn a_report_completes_the_step_and_keeps_what_its_reader_said(place: &dyn Place) {
    let (pacs, reading) = open(place);
    let received = keep(&pacs, instance(1, 1, 1, 0));
    let study = study_uid(1);
    let uid = Reading::step_of(&study);
    block_on(reading.raise(&study, Priority::High)).expect("is opened");
    let transaction = Uid::random();
    let claimed = ups(&pacs).change_state(&uid, State::InProgress, Some(&transaction));
    block_on(claimed).expect("is claimed");
    block_on(ups(&pacs).set(&uid, Some(&transaction), performed())).expect("is set");
    block_on(reading.complete(&received.record)).expect("is completed");
    assert_eq!(status(&reading), Some(StudyStatus::Reported));
    let step = block_on(ups(&pacs).get(&uid)).expect("is there");
    assert_eq!(step.string(tags::PROCEDURE_STEP_STATE), Some("COMPLETED"));
    let [done] = step.items(tags::UNIFIED_PROCEDURE_STEP_PERFORMED_PROCEDURE_SEQUENCE) else {
        panic!("one was performed");
    };
    let station = &done.items(tags::PERFORMED_STATION_NAME_CODE_SEQUENCE)[0];
    assert_eq!(station.string(tags::CODE_VALUE), Some("STATION"));
    assert_eq!(done.items(tags::OUTPUT_INFORMATION_SEQUENCE).len(), 1);
    // Of a study that is gone nothing is left to be read.
    let (elsewhere, other) = (keep(&pacs, instance(2, 1, 1, 0)), study_uid(2));
    block_on(pacs.remove(&elsewhere.record.key.instance)).expect("is removed");
    block_on(reading.complete(&elsewhere.record)).expect("ends");
    assert!(!block_on(reading.open(&other, Priority::Medium)).expect("is asked"));
}

/// The reading steps of the study that are not canceled.
fn open_steps(pacs: &Pacs) -> Vec<DataSet> {
    let steps: Vec<DataSet> = block_on(ups(pacs).of_study(&study_uid(1)).try_collect()).expect("are read");
    let state = |step: &DataSet| step.string(tags::PROCEDURE_STEP_STATE).map(str::to_owned);
    steps
        .into_iter()
        .filter(|step| state(step).as_deref() != Some("CANCELED"))
        .collect()
}

/// See its name.
pub fn a_study_that_its_reader_gives_back_waits_for_another_one(place: &dyn Place) {
    let (pacs, reading) = open(place);
    let received = keep(&pacs, instance(1, 1, 1, 0));
    let study = study_uid(1);
    let first = Reading::step_of(&study);
    block_on(reading.raise(&study, Priority::High)).expect("is opened");
    let transaction = Uid::random();
    let claimed = ups(&pacs).change_state(&first, State::InProgress, Some(&transaction));
    block_on(claimed).expect("is claimed");
    let mut progress = DataSet::new();
    let reason = DataSet::code("110513", "DCM", "Discontinued for unspecified reason");
    progress.put_items(
        tags::PROCEDURE_STEP_DISCONTINUATION_REASON_CODE_SEQUENCE,
        vec![reason],
    );
    let mut said = performed();
    said.put_items(tags::PROCEDURE_STEP_PROGRESS_INFORMATION_SEQUENCE, vec![progress]);
    block_on(ups(&pacs).set(&first, Some(&transaction), said)).expect("is set");
    block_on(ups(&pacs).change_state(&first, State::Canceled, Some(&transaction))).expect("is canceled");
    let [waiting] = &open_steps(&pacs)[..] else {
        panic!("one waits");
    };
    let uid = waiting.uid(tags::SOP_INSTANCE_UID).expect("it has one");
    assert_ne!(uid, first);
    assert_eq!(waiting.string(tags::PROCEDURE_STEP_STATE), Some("SCHEDULED"));
    assert_eq!(
        waiting.string(tags::SCHEDULED_PROCEDURE_STEP_PRIORITY),
        Some("HIGH")
    );
    let said = tags::UNIFIED_PROCEDURE_STEP_PERFORMED_PROCEDURE_SEQUENCE;
    assert!(waiting.items(said).is_empty());
    let replaced = &waiting.items(tags::REPLACED_PROCEDURE_STEP_SEQUENCE)[0];
    assert_eq!(replaced.uid(tags::REFERENCED_SOP_INSTANCE_UID).ok(), Some(first));
    assert_eq!(status(&reading), Some(StudyStatus::Acquired));
    // It is the one that is meant from now on.
    assert!(!block_on(reading.open(&study, Priority::Stat)).expect("is asked"));
    block_on(reading.raise(&study, Priority::Stat)).expect("is raised");
    let raised = block_on(ups(&pacs).get(&uid)).expect("is there");
    let request = &raised.items(tags::REFERENCED_REQUEST_SEQUENCE)[0];
    assert_eq!(request.string(tags::REQUESTED_PROCEDURE_PRIORITY), Some("STAT"));
    block_on(reading.complete(&received.record)).expect("is completed");
    let [done] = &open_steps(&pacs)[..] else {
        panic!("one was done");
    };
    assert_eq!(done.string(tags::PROCEDURE_STEP_STATE), Some("COMPLETED"));
    assert_eq!(done.uid(tags::SOP_INSTANCE_UID).ok(), Some(uid));
}

/// See its name.
pub fn a_study_whose_step_is_canceled_before_anybody_claims_it_is_not_to_be_read(place: &dyn Place) {
    let (pacs, reading) = open(place);
    keep(&pacs, instance(1, 1, 1, 0));
    let study = study_uid(1);
    assert!(block_on(reading.open(&study, Priority::Medium)).expect("is opened"));
    let requester = "RIS".parse().expect("is one");
    let step = Reading::step_of(&study);
    block_on(ups(&pacs).request_cancel(&step, &requester, &DataSet::new())).expect("is canceled");
    assert!(open_steps(&pacs).is_empty());
    assert!(!block_on(reading.open(&study, Priority::Medium)).expect("is asked"));
    block_on(reading.raise(&study, Priority::Stat)).expect("is over");
    assert!(open_steps(&pacs).is_empty());
}

fn ledger(pacs: &Pacs) -> std::sync::Arc<dyn crate::Ledger> {
    std::sync::Arc::clone(pacs.ledger().expect("there is one"))
}
