//! Performed steps on a ledger in memory.

use std::sync::Arc;

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use futures::executor::block_on;

use super::*;
use crate::testing::Map;
use crate::uid::Uid;

const INSTANCE: Uid = Uid::constant("2.25.1");
const STUDY: &str = "2.25.100";

fn text(set: &mut DataSet, values: &[(Tag, VR, &str)]) {
    values
        .iter()
        .for_each(|(tag, vr, text)| set.put_text(*tag, *vr, *text));
}

/// An item of the worklist.
fn item(accession: &str, step: &str) -> DataSet {
    let mut scheduled = DataSet::new();
    text(
        &mut scheduled,
        &[
            (tags::MODALITY, VR::CS, "CT"),
            (tags::SCHEDULED_PROCEDURE_STEP_ID, VR::SH, step),
        ],
    );
    let mut item = DataSet::new();
    text(
        &mut item,
        &[
            (tags::ACCESSION_NUMBER, VR::SH, accession),
            (tags::PATIENT_NAME, VR::PN, "Doe^Jane"),
            (tags::PATIENT_ID, VR::LO, "P1"),
            (tags::STUDY_INSTANCE_UID, VR::UI, STUDY),
        ],
    );
    item.put_items(tags::SCHEDULED_PROCEDURE_STEP_SEQUENCE, vec![scheduled]);
    item
}

/// What a modality creates for an item.
fn created(item: &DataSet) -> DataSet {
    let mut set = begun(item);
    text(
        &mut set,
        &[
            (tags::PERFORMED_PROCEDURE_STEP_ID, VR::SH, "PPS1"),
            (tags::PERFORMED_STATION_AE_TITLE, VR::AE, "CT1"),
            (tags::PERFORMED_PROCEDURE_STEP_START_DATE, VR::DA, "20260310"),
            (tags::PERFORMED_PROCEDURE_STEP_START_TIME, VR::TM, "1031"),
        ],
    );
    set
}

/// What a modality says at the end.
fn ended(status: &str) -> DataSet {
    let mut series = DataSet::new();
    text(
        &mut series,
        &[
            (tags::PROTOCOL_NAME, VR::LO, "Head"),
            (tags::SERIES_INSTANCE_UID, VR::UI, "2.25.200"),
        ],
    );
    let mut set = DataSet::new();
    text(
        &mut set,
        &[
            (tags::PERFORMED_PROCEDURE_STEP_STATUS, VR::CS, status),
            (tags::PERFORMED_PROCEDURE_STEP_END_DATE, VR::DA, "20260310"),
            (tags::PERFORMED_PROCEDURE_STEP_END_TIME, VR::TM, "1045"),
        ],
    );
    set.put_items(tags::PERFORMED_SERIES_SEQUENCE, vec![series]);
    set
}

fn steps() -> (PerformedSteps, Worklist) {
    let ledger: Arc<dyn Ledger> = Arc::new(Map::default());
    (PerformedSteps::new(Arc::clone(&ledger)), Worklist::new(ledger))
}

fn scheduled_status(worklist: &Worklist, accession: &str, step: &str) -> String {
    let item = block_on(worklist.get(accession, step)).unwrap().unwrap();
    let step = &item.items(tags::SCHEDULED_PROCEDURE_STEP_SEQUENCE)[0];
    step.string(tags::SCHEDULED_PROCEDURE_STEP_STATUS)
        .unwrap()
        .to_owned()
}

#[test]
fn a_step_goes_from_in_progress_to_completed_and_the_worklist_with_it() {
    let (steps, worklist) = steps();
    for step in ["S1", "S2"] {
        block_on(worklist.put(item("A1", step))).unwrap();
    }
    let change = block_on(steps.create(&INSTANCE, created(&item("A1", "S1")))).unwrap();
    let study = Uid::constant(STUDY);
    assert_eq!(
        (change.before, change.status),
        (None, PerformedStatus::InProgress)
    );
    assert_eq!(change.studies, [study]);
    assert_eq!(scheduled_status(&worklist, "A1", "S1"), "STARTED");
    assert_eq!(scheduled_status(&worklist, "A1", "S2"), "SCHEDULED");
    let change = block_on(steps.set(&INSTANCE, ended("COMPLETED"))).unwrap();
    assert_eq!(change.before, Some(PerformedStatus::InProgress));
    assert_eq!(change.status, PerformedStatus::Completed);
    assert_eq!(scheduled_status(&worklist, "A1", "S1"), "COMPLETED");
    let of_study = block_on(steps.of_study(&study)).unwrap();
    assert_eq!(of_study.len(), 1);
    assert_eq!(of_study[0].sop_instance, INSTANCE);
    assert_eq!(of_study[0].status, PerformedStatus::Completed);
    assert_eq!(of_study[0].attributes.string(tags::PATIENT_ID), Some("P1"));
}

#[test]
fn a_step_that_names_none_is_of_the_one_that_is_open_in_its_study() {
    let (steps, worklist) = steps();
    for step in ["S1", "S2"] {
        block_on(worklist.put(item("A1", step))).unwrap();
    }
    block_on(worklist.set_status("A1", Some("S1"), status::COMPLETED)).unwrap();
    block_on(steps.create(&INSTANCE, created(&item("", "")))).unwrap();
    assert_eq!(scheduled_status(&worklist, "A1", "S1"), "COMPLETED");
    assert_eq!(scheduled_status(&worklist, "A1", "S2"), "STARTED");
    block_on(steps.set(&INSTANCE, ended("COMPLETED"))).unwrap();
    assert_eq!(scheduled_status(&worklist, "A1", "S2"), "COMPLETED");
}

#[test]
fn a_scheduled_step_is_started_as_long_as_any_that_performs_it_is_in_progress() {
    let (steps, worklist) = steps();
    block_on(worklist.put(item("A1", "S1"))).unwrap();
    let other = Uid::constant("2.25.2");
    for instance in [&INSTANCE, &other] {
        block_on(steps.create(instance, created(&item("A1", "S1")))).unwrap();
    }
    block_on(steps.set(&INSTANCE, ended("COMPLETED"))).unwrap();
    assert_eq!(scheduled_status(&worklist, "A1", "S1"), "STARTED");
    // One was brought to its end.
    block_on(steps.set(&other, ended("DISCONTINUED"))).unwrap();
    assert_eq!(scheduled_status(&worklist, "A1", "S1"), "COMPLETED");
}

#[test]
fn what_was_selected_wrongly_is_still_to_be_done() {
    let (steps, worklist) = steps();
    block_on(worklist.put(item("A1", "S1"))).unwrap();
    block_on(steps.create(&INSTANCE, created(&item("A1", "S1")))).unwrap();
    let mut given_up = ended("DISCONTINUED");
    let wrong = DataSet::code("110514", "DCM", "Incorrect worklist entry selected");
    given_up.put_items(
        tags::PERFORMED_PROCEDURE_STEP_DISCONTINUATION_REASON_CODE_SEQUENCE,
        vec![wrong],
    );
    block_on(steps.set(&INSTANCE, given_up)).unwrap();
    assert_eq!(scheduled_status(&worklist, "A1", "S1"), "SCHEDULED");
}

#[test]
fn the_scheduled_step_is_found_by_its_numbers_or_by_its_study() {
    // What the performed step says, and which of A1 S1, A1 S2 and B1 S1 of the same study are started by it.
    let cases = [
        ("A1", "S2", [false, true, false]),
        ("", "S1", [true, false, true]),
        ("another", "S2", [false, true, false]),
        ("", "", [false, false, false]),
        ("", "S9", [false, false, false]),
    ];
    for (accession, step, started) in cases {
        let (steps, worklist) = steps();
        let items = [("A1", "S1"), ("A1", "S2"), ("B1", "S1")];
        for (accession, step) in items {
            block_on(worklist.put(item(accession, step))).unwrap();
        }
        block_on(steps.create(&INSTANCE, created(&item(accession, step)))).unwrap();
        let found = items.map(|(accession, step)| scheduled_status(&worklist, accession, step) == "STARTED");
        assert_eq!(found, started, "{accession} {step}");
    }
}

/// The status and the tags of an error.
fn answered<T: std::fmt::Debug>(result: Result<T>) -> (ErrorKind, Option<u16>, Vec<Tag>) {
    let error = result.unwrap_err();
    (error.kind(), error.status(), error.tags().to_vec())
}

#[test]
fn what_is_not_as_the_table_has_it_can_not_be_created_and_leaves_nothing() {
    let (steps, worklist) = steps();
    block_on(worklist.put(item("A1", "S1"))).unwrap();
    let cases: &[(Tag, Option<&str>, u16)] = &[
        (tags::MODALITY, None, 0x0120),
        (tags::MODALITY, Some(""), 0x0121),
        (tags::PERFORMED_STATION_AE_TITLE, Some(" "), 0x0121),
        (tags::STUDY_ID, None, 0x0120),
        (tags::PERFORMED_PROCEDURE_STEP_STATUS, Some("COMPLETED"), 0x0106),
        (tags::PERFORMED_PROCEDURE_STEP_STATUS, Some("DONE"), 0x0106),
    ];
    for (tag, value, status) in cases {
        let mut set = created(&item("A1", "S1"));
        match value {
            Some(value) => set.put_text(*tag, VR::CS, *value),
            None => drop(set.remove(*tag)),
        }
        let told = answered(block_on(steps.create(&INSTANCE, set)));
        assert_eq!(told, (ErrorKind::Invalid, Some(*status), vec![*tag]));
    }
    let scheduled = |change: &dyn Fn(&mut DataSet)| {
        let mut set = created(&item("A1", "S1"));
        let mut of = set.items(tags::SCHEDULED_STEP_ATTRIBUTES_SEQUENCE)[0].clone();
        change(&mut of);
        set.put_items(tags::SCHEDULED_STEP_ATTRIBUTES_SEQUENCE, vec![of]);
        answered(block_on(steps.create(&INSTANCE, set)))
    };
    let (_, status, at) = scheduled(&|of| drop(of.remove(tags::REQUESTED_PROCEDURE_ID)));
    assert_eq!((status, at), (Some(0x0120), vec![tags::REQUESTED_PROCEDURE_ID]));
    let (_, status, at) = scheduled(&|of| of.put_text(tags::STUDY_INSTANCE_UID, VR::UI, "x"));
    assert_eq!((status, at), (Some(0x0106), vec![tags::STUDY_INSTANCE_UID]));
    assert_eq!(block_on(steps.get(&INSTANCE)).unwrap(), None);
    assert_eq!(scheduled_status(&worklist, "A1", "S1"), "SCHEDULED");
    block_on(steps.create(&INSTANCE, created(&item("A1", "S1")))).unwrap();
    let again = answered(block_on(steps.create(&INSTANCE, created(&item("A1", "S1")))));
    assert_eq!(again, (ErrorKind::AlreadyExists, None, vec![]));
}

#[test]
fn what_may_be_set_is_set_and_what_may_not_changes_nothing() {
    let (steps, _) = steps();
    let nobody = answered(block_on(steps.set(&INSTANCE, ended("COMPLETED"))));
    assert_eq!(nobody.0, ErrorKind::NotFound);
    block_on(steps.create(&INSTANCE, created(&item("A1", "S1")))).unwrap();
    let set = |tag, vr, value: &str| {
        let mut set = DataSet::new();
        set.put_text(tag, vr, value);
        block_on(steps.set(&INSTANCE, set))
    };
    let description = tags::PERFORMED_PROCEDURE_STEP_DESCRIPTION;
    assert!(set(description, VR::LO, "CT Head").is_ok());
    // Not created, and still no harm.
    assert!(set(tags::COMMENTS_ON_THE_PERFORMED_PROCEDURE_STEP, VR::ST, "none").is_ok());
    // What is known already, however it is padded.
    assert!(set(tags::PATIENT_ID, VR::LO, "P1 ").is_ok());
    for (result, status, tag) in [
        (set(tags::PATIENT_ID, VR::LO, "P2"), 0x0105, tags::PATIENT_ID),
        (set(tags::MODALITY, VR::CS, "MR"), 0x0105, tags::MODALITY),
        (
            set(tags::ISSUER_OF_PATIENT_ID, VR::LO, "X"),
            0x0105,
            tags::ISSUER_OF_PATIENT_ID,
        ),
        (
            set(tags::PERFORMED_PROCEDURE_STEP_STATUS, VR::CS, "SCHEDULED"),
            0x0106,
            tags::PERFORMED_PROCEDURE_STEP_STATUS,
        ),
        (
            set(tags::PERFORMED_PROCEDURE_STEP_STATUS, VR::CS, ""),
            0x0121,
            tags::PERFORMED_PROCEDURE_STEP_STATUS,
        ),
    ] {
        assert_eq!(answered(result), (ErrorKind::Invalid, Some(status), vec![tag]));
    }
    for (change, at) in [
        (
            &(|set: &mut DataSet| drop(set.remove(tags::PERFORMED_PROCEDURE_STEP_END_TIME)))
                as &dyn Fn(&mut DataSet),
            tags::PERFORMED_PROCEDURE_STEP_END_TIME,
        ),
        (
            &|set: &mut DataSet| set.put_items(tags::PERFORMED_SERIES_SEQUENCE, vec![]),
            tags::PERFORMED_SERIES_SEQUENCE,
        ),
        (
            &|set: &mut DataSet| {
                let mut series = set.items(tags::PERFORMED_SERIES_SEQUENCE)[0].clone();
                series.remove(tags::PROTOCOL_NAME);
                set.put_items(tags::PERFORMED_SERIES_SEQUENCE, vec![series]);
            },
            tags::PROTOCOL_NAME,
        ),
    ] {
        for status in ["COMPLETED", "DISCONTINUED"] {
            let mut set = ended(status);
            change(&mut set);
            let told = answered(block_on(steps.set(&INSTANCE, set)));
            assert_eq!(told, (ErrorKind::Invalid, Some(0x0121), vec![at]));
        }
    }
    let kept = block_on(steps.get(&INSTANCE)).unwrap().unwrap();
    assert_eq!(kept.status, PerformedStatus::InProgress);
    assert_eq!(kept.attributes.string(description), Some("CT Head"));
    assert_eq!(kept.attributes.string(tags::PATIENT_ID), Some("P1"));
}

#[test]
fn what_is_final_may_no_longer_be_updated() {
    for status in ["COMPLETED", "DISCONTINUED"] {
        let (steps, worklist) = steps();
        block_on(worklist.put(item("A1", "S1"))).unwrap();
        block_on(steps.create(&INSTANCE, created(&item("A1", "S1")))).unwrap();
        block_on(steps.set(&INSTANCE, ended(status))).unwrap();
        assert_eq!(scheduled_status(&worklist, "A1", "S1"), status);
        for next in ["IN PROGRESS", "COMPLETED", "DISCONTINUED"] {
            let error = block_on(steps.set(&INSTANCE, ended(next))).unwrap_err();
            assert_eq!((error.status(), error.error_id()), (Some(0x0110), Some(0xA710)));
        }
    }
}

#[test]
fn of_many_who_end_a_step_at_once_one_does() {
    let (steps, _) = steps();
    block_on(steps.create(&INSTANCE, created(&item("A1", "S1")))).unwrap();
    let ended: Vec<bool> = std::thread::scope(|scope| {
        let end = |status| {
            let steps = steps.clone();
            scope.spawn(move || block_on(steps.set(&INSTANCE, ended(status))).is_ok())
        };
        let threads = ["COMPLETED", "DISCONTINUED", "COMPLETED", "DISCONTINUED"].map(end);
        threads.map(|thread| thread.join().unwrap()).to_vec()
    });
    assert_eq!(ended.iter().filter(|done| **done).count(), 1);
}

#[test]
fn debug_of_a_change_shows_no_value() {
    let (steps, _) = steps();
    let change = block_on(steps.create(&INSTANCE, created(&item("A1", "S1")))).unwrap();
    assert!(!format!("{change:?}").contains("Doe"));
}
