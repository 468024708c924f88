//! The worklist on a ledger in memory.

use std::sync::Arc;

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use futures::TryStreamExt;
use futures::executor::block_on;
use futures::future::join_all;

use super::*;
use crate::testing::Map;

/// An item that says what these tests ask for.
fn item(accession: &str, step: &str) -> DataSet {
    let mut code = DataSet::new();
    code.put_text(tags::CODE_VALUE, VR::SH, format!("P{accession}"));
    code.put_text(tags::CODING_SCHEME_DESIGNATOR, VR::SH, "99TEST");
    let mut scheduled = DataSet::new();
    for (tag, vr, text) in [
        (tags::MODALITY, VR::CS, "CT"),
        (tags::SCHEDULED_STATION_AE_TITLE, VR::AE, "CT1"),
        (tags::SCHEDULED_PROCEDURE_STEP_START_DATE, VR::DA, "20260310"),
        (tags::SCHEDULED_PROCEDURE_STEP_START_TIME, VR::TM, "1030"),
        (tags::SCHEDULED_PROCEDURE_STEP_ID, VR::SH, step),
        (tags::SCHEDULED_PERFORMING_PHYSICIAN_NAME, VR::PN, "Doe^John"),
    ] {
        scheduled.put_text(tag, vr, text);
    }
    scheduled.put_items(tags::SCHEDULED_PROTOCOL_CODE_SEQUENCE, vec![code]);
    let mut item = DataSet::new();
    item.put_text(tags::ACCESSION_NUMBER, VR::SH, accession);
    item.put_text(tags::PATIENT_NAME, VR::PN, "Müller^Anna");
    item.put_text(tags::PATIENT_ID, VR::LO, "P1");
    item.put_text(tags::REQUESTED_PROCEDURE_ID, VR::SH, format!("RP{accession}"));
    item.put_items(tags::SCHEDULED_PROCEDURE_STEP_SEQUENCE, vec![scheduled]);
    item
}

/// The same with these values, those of the step in its sequence.
fn with(mut item: DataSet, values: &[(Tag, VR, &str)]) -> DataSet {
    for (tag, vr, text) in values {
        if attributes::is_known_in_step(*tag) {
            let mut step = step_of(&item).unwrap().clone();
            step.put_text(*tag, *vr, *text);
            item.put_items(tags::SCHEDULED_PROCEDURE_STEP_SEQUENCE, vec![step]);
        } else {
            item.put_text(*tag, *vr, *text);
        }
    }
    item
}

/// An identifier with these keys, those of the step in its sequence.
fn keys(values: &[(Tag, VR, &str)]) -> DataSet {
    let mut keys = DataSet::new();
    keys.put_text(tags::ACCESSION_NUMBER, VR::SH, "");
    let mut step = DataSet::new();
    step.put_text(tags::SCHEDULED_PROCEDURE_STEP_ID, VR::SH, "");
    keys.put_items(tags::SCHEDULED_PROCEDURE_STEP_SEQUENCE, vec![step]);
    with(keys, values)
}

fn worklist(items: impl IntoIterator<Item = DataSet>) -> Worklist {
    let worklist = Worklist::new(Arc::new(Map::default()));
    for item in items {
        block_on(worklist.put(item)).unwrap();
    }
    worklist
}

fn answers(worklist: &Worklist, identifier: &DataSet) -> Vec<DataSet> {
    let query = WorklistQuery::from_identifier(identifier).unwrap();
    block_on(worklist.find(query).try_collect()).unwrap()
}

/// Accession number and step ID of what is found, in order of text.
fn found(worklist: &Worklist, values: &[(Tag, VR, &str)]) -> Vec<String> {
    let name = |answer: &DataSet| {
        let step = step_of(answer).unwrap().string(tags::SCHEDULED_PROCEDURE_STEP_ID);
        format!(
            "{} {}",
            answer.string(tags::ACCESSION_NUMBER).unwrap(),
            step.unwrap()
        )
    };
    let mut found: Vec<_> = answers(worklist, &keys(values)).iter().map(name).collect();
    found.sort_unstable();
    found
}

fn status(worklist: &Worklist, accession: &str, step: &str) -> String {
    let item = block_on(worklist.get(accession, step)).unwrap().unwrap();
    status_of(&item).to_owned()
}

#[test]
fn every_kind_of_key_of_the_model_finds_what_it_names_and_nothing_else() {
    const DATE: Tag = tags::SCHEDULED_PROCEDURE_STEP_START_DATE;
    const TIME: Tag = tags::SCHEDULED_PROCEDURE_STEP_START_TIME;
    const STATION: Tag = tags::SCHEDULED_STATION_AE_TITLE;
    let worklist = worklist([
        item("A1", "S1"),
        with(
            item("A1", "S2"),
            &[(DATE, VR::DA, "20260311"), (TIME, VR::TM, "08")],
        ),
        with(
            item("A2", "S1"),
            &[
                (STATION, VR::AE, "MR1\\MR2"),
                (tags::MODALITY, VR::CS, "MR"),
                (tags::PATIENT_NAME, VR::PN, "Yamada^Tarou=山田^太郎"),
                (tags::PATIENT_ID, VR::LO, "P2"),
                (tags::STUDY_INSTANCE_UID, VR::UI, "1.2.3"),
                (tags::ADMISSION_ID, VR::LO, "V7"),
                (tags::REFERRING_PHYSICIAN_NAME, VR::PN, "House^Greg"),
            ],
        ),
        with(item("B1", "S1"), &[(DATE, VR::DA, ""), (STATION, VR::AE, "")]),
    ]);
    type Case<'a> = (&'a [(Tag, VR, &'a str)], &'a [&'a str]);
    let cases: &[Case<'_>] = &[
        (&[], &["A1 S1", "A1 S2", "A2 S1", "B1 S1"]),
        (&[(STATION, VR::AE, "CT1")], &["A1 S1", "A1 S2"]),
        (&[(STATION, VR::AE, "MR2")], &["A2 S1"]),
        (
            &[(STATION, VR::AE, "MR1\\MR2\\CT1")],
            &["A1 S1", "A1 S2", "A2 S1"],
        ),
        (
            &[(STATION, VR::AE, "CT1"), (DATE, VR::DA, "20260310")],
            &["A1 S1"],
        ),
        (&[(DATE, VR::DA, "20260311-")], &["A1 S2"]),
        (&[(DATE, VR::DA, "-20260310")], &["A1 S1", "A2 S1"]),
        (
            &[(DATE, VR::DA, "20260301-20260331")],
            &["A1 S1", "A1 S2", "A2 S1"],
        ),
        // One range from the 10th 12:00 to the 11th 09:00, not two of days and of hours.
        (
            &[(DATE, VR::DA, "20260310-20260311"), (TIME, VR::TM, "1200-0900")],
            &["A1 S2"],
        ),
        (&[(TIME, VR::TM, "1000-1100")], &["A1 S1", "A2 S1", "B1 S1"]),
        (&[(tags::MODALITY, VR::CS, "MR")], &["A2 S1"]),
        (&[(tags::MODALITY, VR::CS, "MR"), (DATE, VR::DA, "20260311")], &[]),
        (
            &[(tags::PATIENT_NAME, VR::PN, "muller*")],
            &["A1 S1", "A1 S2", "B1 S1"],
        ),
        (
            &[(tags::PATIENT_NAME, VR::PN, "*anna")],
            &["A1 S1", "A1 S2", "B1 S1"],
        ),
        (&[(tags::PATIENT_NAME, VR::PN, "山田*")], &["A2 S1"]),
        (&[(tags::PATIENT_ID, VR::LO, "P2")], &["A2 S1"]),
        (
            &[(tags::PATIENT_ID, VR::LO, "P*")],
            &["A1 S1", "A1 S2", "A2 S1", "B1 S1"],
        ),
        (&[(tags::PATIENT_ID, VR::LO, "p2")], &[]),
        (&[(tags::ACCESSION_NUMBER, VR::SH, "A1")], &["A1 S1", "A1 S2"]),
        (
            &[(tags::ACCESSION_NUMBER, VR::SH, "A?")],
            &["A1 S1", "A1 S2", "A2 S1"],
        ),
        (&[(tags::REQUESTED_PROCEDURE_ID, VR::SH, "RPB1")], &["B1 S1"]),
        (&[(tags::STUDY_INSTANCE_UID, VR::UI, "1.2.3\\1.2.4")], &["A2 S1"]),
        (&[(tags::ADMISSION_ID, VR::LO, "V7")], &["A2 S1"]),
        (&[(tags::REFERRING_PHYSICIAN_NAME, VR::PN, "house*")], &["A2 S1"]),
        (&[(tags::SCHEDULED_PROCEDURE_STEP_ID, VR::SH, "S2")], &["A1 S2"]),
        (
            &[(tags::SCHEDULED_PERFORMING_PHYSICIAN_NAME, VR::PN, "DOE^*")],
            &["A1 S1", "A1 S2", "A2 S1", "B1 S1"],
        ),
        (&[(tags::SCHEDULED_STATION_NAME, VR::SH, "ROOM 1")], &[]),
    ];
    for (values, expected) in cases {
        assert_eq!(found(&worklist, values), *expected, "{values:?}");
    }
    let mut code = DataSet::new();
    code.put_text(tags::CODE_VALUE, VR::SH, "PA2");
    let mut step = DataSet::new();
    step.put_items(tags::SCHEDULED_PROTOCOL_CODE_SEQUENCE, vec![code]);
    let mut by_code = keys(&[]);
    by_code.put_items(tags::SCHEDULED_PROCEDURE_STEP_SEQUENCE, vec![step]);
    let answers = answers(&worklist, &by_code);
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].string(tags::ACCESSION_NUMBER), Some("A2"));
}

#[test]
fn what_is_asked_for_is_answered_and_nothing_else() {
    let worklist = worklist([item("A1", "S1")]);
    let mut asked = keys(&[
        (tags::PATIENT_WEIGHT, VR::DS, ""),
        (tags::MODALITY, VR::CS, "CT"),
        (tags::REQUESTED_CONTRAST_AGENT, VR::LO, ""),
        (tags::TIMEZONE_OFFSET_FROM_UTC, VR::SH, ""),
        (tags::SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 100"),
    ]);
    asked.put_items(tags::REQUESTED_PROCEDURE_CODE_SEQUENCE, vec![DataSet::new()]);
    let answer = answers(&worklist, &asked).remove(0);
    let tags_of = |set: &DataSet| set.iter().map(|element| element.tag).collect::<Vec<_>>();
    assert_eq!(
        tags_of(&answer),
        [
            tags::ACCESSION_NUMBER,
            tags::PATIENT_WEIGHT,
            tags::REQUESTED_PROCEDURE_CODE_SEQUENCE,
            tags::SCHEDULED_PROCEDURE_STEP_SEQUENCE,
        ]
    );
    assert!(answer.get(tags::PATIENT_WEIGHT).unwrap().is_empty());
    assert!(answer.items(tags::REQUESTED_PROCEDURE_CODE_SEQUENCE).is_empty());
    let step = step_of(&answer).unwrap();
    assert_eq!(
        tags_of(step),
        [
            tags::MODALITY,
            tags::REQUESTED_CONTRAST_AGENT,
            tags::SCHEDULED_PROCEDURE_STEP_ID
        ]
    );
    // A sequence without an item, or with an empty one, asks for all of it (K.2.2.1.2 note 4).
    for items in [Vec::new(), vec![DataSet::new()]] {
        let mut asked = DataSet::new();
        asked.put_items(tags::SCHEDULED_PROCEDURE_STEP_SEQUENCE, items);
        let answer = answers(&worklist, &asked).remove(0);
        assert_eq!(step_of(&answer).unwrap().string(tags::MODALITY), Some("CT"));
    }
    assert!(answers(&worklist, &DataSet::new()).is_empty(), "K.4.1.3.1");
}

#[test]
fn a_key_that_is_none_of_the_model_does_not_restrict_and_is_told() {
    let worklist = worklist([with(
        item("A1", "S1"),
        &[(tags::STUDY_DESCRIPTION, VR::LO, "CT head")],
    )]);
    let asked = keys(&[
        (tags::STUDY_DESCRIPTION, VR::LO, "something else"),
        (tags::ACCESSION_NUMBER, VR::SH, "A1"),
    ]);
    let query = WorklistQuery::from_identifier(&asked).unwrap();
    assert_eq!(query.unsupported(), [tags::STUDY_DESCRIPTION]);
    let answers = answers(&worklist, &asked);
    assert_eq!(answers[0].string(tags::STUDY_DESCRIPTION), Some("CT head"));
    // Universal matching only (table K.6-1), so it is supported and doesn't restrict.
    let mut reference = DataSet::new();
    reference.put_text(tags::REFERENCED_SOP_CLASS_UID, VR::UI, "1.2");
    let mut asked = keys(&[]);
    asked.put_items(tags::PERTINENT_DOCUMENTS_SEQUENCE, vec![reference]);
    let query = WorklistQuery::from_identifier(&asked).unwrap();
    assert!(query.unsupported().is_empty());
    assert!(query.matches(&item("A1", "S1")));
}

#[test]
fn two_items_in_a_sequence_key_are_refused() {
    let mut asked = DataSet::new();
    asked.put_items(tags::SCHEDULED_PROCEDURE_STEP_SEQUENCE, vec![DataSet::new(); 2]);
    let error = WorklistQuery::from_identifier(&asked).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(error.tags(), [tags::SCHEDULED_PROCEDURE_STEP_SEQUENCE]);
}

#[test]
fn what_is_over_is_answered_only_to_who_asks_for_a_status() {
    const STATUS: Tag = tags::SCHEDULED_PROCEDURE_STEP_STATUS;
    let worklist = worklist(["S1", "S2", "S3", "S4"].map(|step| item("A1", step)));
    for (step, status) in [
        ("S2", status::STARTED),
        ("S3", status::COMPLETED),
        ("S4", status::CANCELLED),
    ] {
        assert_eq!(
            block_on(worklist.set_status("A1", Some(step), status)).unwrap(),
            1
        );
    }
    let open = ["A1 S1", "A1 S2"];
    assert_eq!(found(&worklist, &[]), open);
    assert_eq!(found(&worklist, &[(STATUS, VR::CS, "")]), open);
    assert_eq!(found(&worklist, &[(tags::ACCESSION_NUMBER, VR::SH, "A1")]), open);
    assert_eq!(found(&worklist, &[(STATUS, VR::CS, "COMPLETED")]), ["A1 S3"]);
    assert_eq!(found(&worklist, &[(STATUS, VR::CS, "C*")]), ["A1 S3", "A1 S4"]);
    assert_eq!(found(&worklist, &[(STATUS, VR::CS, "SCHEDULED")]), ["A1 S1"]);
    // To schedule it again is to say so.
    block_on(worklist.put(item("A1", "S3"))).unwrap();
    assert_eq!(found(&worklist, &[]), open);
    block_on(worklist.put(with(item("A1", "S3"), &[(STATUS, VR::CS, "SCHEDULED")]))).unwrap();
    assert_eq!(found(&worklist, &[]), ["A1 S1", "A1 S2", "A1 S3"]);
}

#[test]
fn an_item_that_is_put_again_is_found_by_what_it_says_now_and_keeps_its_study() {
    let worklist = worklist([item("A1", "S1"), item("A1", "S2"), item("A2", "S1")]);
    let study = |accession, step| {
        let item = block_on(worklist.get(accession, step)).unwrap().unwrap();
        item.uid(tags::STUDY_INSTANCE_UID).unwrap()
    };
    let first = study("A1", "S1");
    assert!(first.starts_with("2.25."));
    assert_eq!(
        study("A1", "S2"),
        first,
        "steps of one procedure are of one study"
    );
    assert_ne!(study("A2", "S1"), first);
    assert_eq!(status(&worklist, "A1", "S1"), "SCHEDULED");
    block_on(worklist.put(with(
        item("A1", "S1"),
        &[
            (tags::PATIENT_NAME, VR::PN, "Schmidt^Eva"),
            (tags::SCHEDULED_PROCEDURE_STEP_START_DATE, VR::DA, "20260401"),
            (tags::REQUESTED_PROCEDURE_ID, VR::SH, "another"),
        ],
    )))
    .unwrap();
    assert_eq!(study("A1", "S1"), first);
    assert_eq!(
        found(&worklist, &[(tags::PATIENT_NAME, VR::PN, "schmidt*")]),
        ["A1 S1"]
    );
    assert_eq!(
        found(&worklist, &[(tags::PATIENT_NAME, VR::PN, "muller*")]),
        ["A1 S2", "A2 S1"]
    );
    let day = |day| {
        found(
            &worklist,
            &[(tags::SCHEDULED_PROCEDURE_STEP_START_DATE, VR::DA, day)],
        )
    };
    assert_eq!(day("20260401"), ["A1 S1"]);
    assert_eq!(day("20260310"), ["A1 S2", "A2 S1"]);
    assert_eq!(block_on(worklist.of_study(&first)).unwrap().len(), 2);
    // Another ledger makes other UIDs of the same numbers.
    let other = super::tests::worklist([item("A1", "S1")]);
    let others = block_on(other.get("A1", "S1")).unwrap().unwrap();
    assert_ne!(others.uid(tags::STUDY_INSTANCE_UID).unwrap(), first);
}

#[test]
fn what_can_not_be_an_item_is_refused_with_the_attribute_and_changes_nothing() {
    let worklist = worklist([]);
    let without = |tag| {
        let mut item = item("A1", "S1");
        item.remove(tag);
        item
    };
    let mut two = item("A1", "S1");
    let step = step_of(&two).unwrap().clone();
    two.put_items(tags::SCHEDULED_PROCEDURE_STEP_SEQUENCE, vec![step; 2]);
    let cases = [
        (without(tags::ACCESSION_NUMBER), tags::ACCESSION_NUMBER),
        (
            without(tags::SCHEDULED_PROCEDURE_STEP_SEQUENCE),
            tags::SCHEDULED_PROCEDURE_STEP_SEQUENCE,
        ),
        (two, tags::SCHEDULED_PROCEDURE_STEP_SEQUENCE),
        (item("A1", ""), tags::SCHEDULED_PROCEDURE_STEP_ID),
        (item("A1\\A2", "S1"), tags::ACCESSION_NUMBER),
        (
            item("an accession number that is too long", "S1"),
            tags::ACCESSION_NUMBER,
        ),
        (
            with(
                item("A1", "S1"),
                &[(tags::PATIENT_BIRTH_DATE, VR::DA, "1.1.1970")],
            ),
            tags::PATIENT_BIRTH_DATE,
        ),
        (
            with(
                item("A1", "S1"),
                &[(tags::SCHEDULED_PROCEDURE_STEP_START_TIME, VR::TM, "noon")],
            ),
            tags::SCHEDULED_PROCEDURE_STEP_START_TIME,
        ),
        (
            with(item("A1", "S1"), &[(tags::PATIENT_NAME, VR::LO, "A^B")]),
            tags::PATIENT_NAME,
        ),
    ];
    for (item, tag) in cases {
        let error = block_on(worklist.put(item)).unwrap_err();
        assert_eq!((error.kind(), error.tags()), (ErrorKind::Invalid, &[tag][..]));
    }
    assert!(found(&worklist, &[]).is_empty());
    assert_eq!(
        block_on(worklist.set_status("A1", None, "done"))
            .unwrap_err()
            .kind(),
        ErrorKind::Invalid
    );
}

#[test]
fn an_order_is_removed_whole_or_step_by_step_and_leaves_no_entry() {
    let ledger = Arc::new(Map::default());
    let worklist = Worklist::new(ledger.clone());
    for (accession, step) in [("A1", "S1"), ("A1", "S2"), ("A1", "S3"), ("A12", "S1")] {
        block_on(worklist.put(item(accession, step))).unwrap();
    }
    assert_eq!(block_on(worklist.remove("A1", Some("S2"))).unwrap(), 1);
    assert_eq!(block_on(worklist.remove("A1", Some("S2"))).unwrap(), 0);
    assert_eq!(found(&worklist, &[]), ["A1 S1", "A1 S3", "A12 S1"]);
    assert_eq!(block_on(worklist.remove("A1", None)).unwrap(), 2);
    assert_eq!(block_on(worklist.of_order("A12")).unwrap().len(), 1);
    assert_eq!(block_on(worklist.remove("A12", None)).unwrap(), 1);
    assert_eq!(ledger.len(), 1, "the number that UIDs are made of stays");
}

#[test]
fn what_was_given_up_and_is_ordered_again_is_scheduled_and_what_is_done_stays_done() {
    let worklist = worklist([item("A1", "S1")]);
    for (before, again) in [
        (status::CANCELLED, status::SCHEDULED),
        (status::DISCONTINUED, status::SCHEDULED),
        (status::STARTED, status::STARTED),
        (status::COMPLETED, status::COMPLETED),
    ] {
        block_on(worklist.set_status("A1", None, before)).unwrap();
        block_on(worklist.put(item("A1", "S1"))).unwrap();
        let had = block_on(worklist.change_status("A1", None, |_| None)).unwrap();
        assert_eq!(had, [before]);
        block_on(worklist.schedule(item("A1", "S1"))).unwrap();
        let had = block_on(worklist.change_status("A1", Some("S1"), |_| Some(status::STARTED)));
        assert_eq!(had.unwrap(), [again]);
    }
    assert!(
        block_on(worklist.change_status("A2", None, |_| None))
            .unwrap()
            .is_empty()
    );
}

#[test]
fn a_patient_is_corrected_in_all_items_and_may_become_another() {
    let worklist = worklist([
        item("A1", "S1"),
        item("A2", "S1"),
        with(item("A3", "S1"), &[(tags::PATIENT_ID, VR::LO, "P12")]),
    ]);
    block_on(worklist.set_status("A2", None, status::COMPLETED)).unwrap();
    let mut patient = DataSet::new();
    patient.put_text(tags::PATIENT_NAME, VR::PN, "Schmidt^Anna");
    patient.put_text(tags::PATIENT_ID, VR::LO, "P9");
    assert_eq!(block_on(worklist.set_patient(&"P1".into(), &patient)).unwrap(), 2);
    assert_eq!(block_on(worklist.set_patient(&"P1".into(), &patient)).unwrap(), 0);
    assert_eq!(found(&worklist, &[(tags::PATIENT_ID, VR::LO, "P9")]), ["A1 S1"]);
    assert_eq!(
        found(&worklist, &[(tags::PATIENT_NAME, VR::PN, "schmidt*")]),
        ["A1 S1"]
    );
    let over = block_on(worklist.get("A2", "S1")).unwrap().unwrap();
    assert_eq!(over.string(tags::PATIENT_ID), Some("P9"));
    // The same ID of another issuer is another patient's.
    patient.put_text(tags::ISSUER_OF_PATIENT_ID, VR::LO, "A");
    assert_eq!(block_on(worklist.set_patient(&"P9".into(), &patient)).unwrap(), 2);
    let of = |issuer| crate::PatientId::new("P9", Some(issuer));
    patient.put_text(tags::PATIENT_NAME, VR::PN, "Schulz^Anna");
    assert_eq!(block_on(worklist.set_patient(&of("B"), &patient)).unwrap(), 0);
    assert_eq!(block_on(worklist.set_patient(&of("A"), &patient)).unwrap(), 2);
    let mut other = DataSet::new();
    other.put_text(tags::ACCESSION_NUMBER, VR::SH, "A9");
    let error = block_on(worklist.set_patient(&"P9".into(), &other)).unwrap_err();
    assert_eq!(error.tags(), [tags::ACCESSION_NUMBER]);
}

#[test]
fn many_who_change_an_item_at_once_leave_one_set_of_entries() {
    let ledger = Arc::new(Map::default());
    let worklist = Worklist::new(ledger.clone());
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let worklist = worklist.clone();
            scope.spawn(move || {
                for turn in 0..20 {
                    let name = format!("Name{thread}^{turn}");
                    let changed = with(item("A1", "S1"), &[(tags::PATIENT_NAME, VR::PN, &name)]);
                    let status = if turn % 2 == 0 { "COMPLETED" } else { "SCHEDULED" };
                    block_on(join_all([worklist.put(changed)])).remove(0).unwrap();
                    block_on(worklist.set_status("A1", Some("S1"), status)).unwrap();
                }
            });
        }
    });
    let kept = block_on(worklist.get("A1", "S1")).unwrap().unwrap();
    let expected = entries::of(&kept).unwrap().len() + 2;
    assert_eq!(ledger.len(), expected);
}

#[test]
fn a_long_name_is_found_by_all_of_it() {
    let long = format!("{}^{}", "é".repeat(40), "ﷺ".repeat(20));
    let worklist = worklist([with(item("A1", "S1"), &[(tags::PATIENT_NAME, VR::PN, &long)])]);
    assert_eq!(
        found(&worklist, &[(tags::PATIENT_NAME, VR::PN, &long)]),
        ["A1 S1"]
    );
    let other = format!("{}^x", "é".repeat(40));
    assert!(found(&worklist, &[(tags::PATIENT_NAME, VR::PN, &other)]).is_empty());
}

#[test]
fn more_than_a_page_is_answered_once_each_whatever_way_is_taken() {
    let worklist = worklist((0..300).map(|number| item(&format!("A{number}"), "S1")));
    assert_eq!(found(&worklist, &[]).len(), 300);
    assert_eq!(found(&worklist, &[(tags::PATIENT_ID, VR::LO, "P1")]).len(), 300);
    let both = [
        (tags::PATIENT_ID, VR::LO, "P1"),
        (tags::ACCESSION_NUMBER, VR::SH, "A29*"),
    ];
    assert_eq!(found(&worklist, &both).len(), 11);
}
