//! C-FIND (CC.2.8), and what is known of a patient.

use std::collections::BTreeSet;

use futures::TryStreamExt;
use pacs_core::query::{Keys, QueryOptions};

use super::*;

const PRIORITIES: [&str; 3] = ["HIGH", "MEDIUM", "LOW"];

/// Steps of every state, priority and some days, studies and patients.
fn many(ups: &Ups) {
    for number in 0..60_usize {
        let mut set = step();
        let uid = Uid::parse(&format!("1.2.3.{number}")).unwrap();
        set.put_text(
            tags::SCHEDULED_PROCEDURE_STEP_PRIORITY,
            VR::CS,
            PRIORITIES[number % 3],
        );
        let day = 1 + number % 5;
        let start = format!("2024020{day}12{:02}00", 59 - number);
        set.put_text(tags::SCHEDULED_PROCEDURE_STEP_START_DATE_TIME, VR::DT, start);
        set.put_text(tags::PATIENT_ID, VR::LO, format!("P{}", number % 7));
        set.put_text(tags::PATIENT_NAME, VR::PN, format!("Family{}^Given", number % 7));
        set.put_text(tags::STUDY_INSTANCE_UID, VR::UI, format!("1.9.{}", number % 4));
        let mut item = DataSet::new();
        item.put_text(tags::STUDY_INSTANCE_UID, VR::UI, format!("1.8.{}", number % 6));
        item.put_text(tags::ACCESSION_NUMBER, VR::SH, format!("A{}", number % 9));
        set.put_items(tags::REFERENCED_REQUEST_SEQUENCE, vec![item]);
        set.put_items(
            tags::SCHEDULED_STATION_NAME_CODE_SEQUENCE,
            vec![code(&format!("S{}", number % 2))],
        );
        block_on(async {
            ups.create(Some(uid), set).await.unwrap();
            if number % 4 > 0 {
                let mine = Some(&TRANSACTION);
                ups.change_state(&uid, State::InProgress, mine).await.unwrap();
                ups.set(&uid, mine, performed()).await.unwrap();
                ups.set(&uid, mine, discontinued()).await.unwrap();
                let to = [State::InProgress, State::Completed, State::Canceled][number % 4 - 1];
                if to.is_final() {
                    ups.change_state(&uid, to, mine).await.unwrap();
                }
            }
        });
    }
}

fn keys(identifier: &DataSet) -> Keys {
    Keys::new(identifier.clone(), QueryOptions::default()).unwrap()
}

fn uids(steps: &[DataSet]) -> Vec<&str> {
    steps
        .iter()
        .map(|step| step.string(tags::SOP_INSTANCE_UID).unwrap())
        .collect()
}

fn all(ups: &Ups, identifier: &DataSet) -> Vec<DataSet> {
    block_on(ups.steps(keys(identifier)).try_collect()).unwrap()
}

#[test]
fn each_key_finds_what_a_look_at_every_step_finds() {
    let ups = in_memory();
    many(&ups);
    let every = all(&ups, &DataSet::new());
    assert_eq!(every.len(), 60);
    let texts: &[(Tag, VR, &[&str])] = &[
        (
            tags::PROCEDURE_STEP_STATE,
            VR::CS,
            &[
                "SCHEDULED",
                "IN PROGRESS",
                "COMPLETED\\CANCELED",
                "SCHED*",
                "*",
                "GONE",
            ],
        ),
        (
            tags::SCHEDULED_PROCEDURE_STEP_PRIORITY,
            VR::CS,
            &["HIGH", "LOW\\MEDIUM", ""],
        ),
        (
            tags::SCHEDULED_PROCEDURE_STEP_START_DATE_TIME,
            VR::DT,
            &["20240202-20240203", "-20240202", "20240204-", "20240201", ""],
        ),
        (tags::PATIENT_ID, VR::LO, &["P3", "P*", "P3\\P4", "nobody"]),
        (
            tags::STUDY_INSTANCE_UID,
            VR::UI,
            &["1.9.2", "1.9.2\\1.9.3", "1.8.1"],
        ),
        (
            tags::SOP_INSTANCE_UID,
            VR::UI,
            &["1.2.3.5", "1.2.3.5\\1.2.3.50\\1.2.404", "1.2.3"],
        ),
        (tags::PATIENT_NAME, VR::PN, &["family2*", "Family1^Given"]),
    ];
    let mut identifiers = Vec::new();
    for (tag, vr, values) in texts {
        for value in *values {
            let mut set = DataSet::new();
            set.put_text(*tag, *vr, *value);
            identifiers.push(set);
        }
    }
    for (sequence, tag, vr, value) in [
        (
            tags::SCHEDULED_STATION_NAME_CODE_SEQUENCE,
            tags::CODE_VALUE,
            VR::SH,
            "S1",
        ),
        (
            tags::REFERENCED_REQUEST_SEQUENCE,
            tags::ACCESSION_NUMBER,
            VR::SH,
            "A4",
        ),
        (
            tags::REFERENCED_REQUEST_SEQUENCE,
            tags::STUDY_INSTANCE_UID,
            VR::UI,
            "1.8.3",
        ),
    ] {
        let mut item = DataSet::new();
        item.put_text(tag, vr, value);
        let mut set = DataSet::new();
        set.put_items(sequence, vec![item]);
        identifiers.push(set);
    }
    // Each alone, and each with each.
    let pairs = identifiers.iter().flat_map(|one| {
        identifiers.iter().map(move |other| {
            let mut both = one.clone();
            both.add_from(other);
            both
        })
    });
    for identifier in identifiers.iter().cloned().chain(pairs) {
        let asked = keys(&identifier);
        let expected: BTreeSet<&str> = uids(&every)
            .into_iter()
            .zip(&every)
            .filter(|(_, step)| asked.matches(step))
            .map(|(uid, _)| uid)
            .collect();
        let found = all(&ups, &identifier);
        let found = uids(&found);
        assert_eq!(found.len(), expected.len(), "{identifier:?}: each once");
        assert_eq!(
            found.into_iter().collect::<BTreeSet<_>>(),
            expected,
            "{identifier:?}"
        );
    }
}

#[test]
fn what_waits_comes_by_urgency_and_then_by_its_start() {
    let ups = in_memory();
    many(&ups);
    let mut identifier = DataSet::new();
    identifier.put_text(tags::PROCEDURE_STEP_STATE, VR::CS, "SCHEDULED");
    let steps = all(&ups, &identifier);
    let order: Vec<(usize, &str)> = steps
        .iter()
        .map(|step| {
            let priority = step.string(tags::SCHEDULED_PROCEDURE_STEP_PRIORITY).unwrap();
            let place = PRIORITIES.iter().position(|one| *one == priority).unwrap();
            let start = tags::SCHEDULED_PROCEDURE_STEP_START_DATE_TIME;
            (place, step.string(start).unwrap())
        })
        .collect();
    assert_eq!(order.len(), 15);
    assert!(order.is_sorted());
}

#[test]
fn what_was_asked_for_is_answered_and_the_transaction_uid_is_not() {
    let ups = in_memory();
    many(&ups);
    let mut identifier = DataSet::new();
    identifier.put_text(tags::SOP_INSTANCE_UID, VR::UI, "1.2.3.5");
    identifier.put_text(tags::TRANSACTION_UID, VR::UI, "");
    identifier.put_text(tags::PATIENT_ID, VR::LO, "");
    identifier.put_text(tags::MEDICAL_ALERTS, VR::LO, "");
    let found: Vec<DataSet> = block_on(ups.find(keys(&identifier)).try_collect()).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].string(tags::PATIENT_ID), Some("P5"));
    assert_eq!(found[0].string(tags::TRANSACTION_UID), None);
    assert!(found[0].contains(tags::MEDICAL_ALERTS));
    // Nor is it found by it.
    identifier.put_text(tags::TRANSACTION_UID, VR::UI, TRANSACTION.as_str());
    assert!(all(&ups, &identifier).is_empty());
}

#[test]
fn a_step_that_changes_is_found_by_what_it_is_now() {
    let ups = in_memory();
    let uid = in_state(&ups, State::Scheduled);
    let by = |tag: Tag, vr: VR, value: &str| {
        let mut set = DataSet::new();
        set.put_text(tag, vr, value);
        all(&ups, &set).len()
    };
    let mut set = DataSet::new();
    set.put_text(tags::SCHEDULED_PROCEDURE_STEP_PRIORITY, VR::CS, "HIGH");
    set.put_text(tags::SCHEDULED_PROCEDURE_STEP_START_DATE_TIME, VR::DT, "20250101");
    set.put_text(tags::STUDY_INSTANCE_UID, VR::UI, "1.7.7");
    block_on(ups.set(&uid, None, set)).unwrap();
    assert_eq!(by(tags::SCHEDULED_PROCEDURE_STEP_PRIORITY, VR::CS, "MEDIUM"), 0);
    assert_eq!(by(tags::SCHEDULED_PROCEDURE_STEP_PRIORITY, VR::CS, "HIGH"), 1);
    assert_eq!(
        by(tags::SCHEDULED_PROCEDURE_STEP_START_DATE_TIME, VR::DT, "2024"),
        0
    );
    assert_eq!(
        by(tags::SCHEDULED_PROCEDURE_STEP_START_DATE_TIME, VR::DT, "2025"),
        1
    );
    let study = |uid: &str| -> Vec<DataSet> {
        let uid = Uid::parse(uid).unwrap();
        block_on(ups.of_study(&uid).try_collect()).unwrap()
    };
    assert_eq!((study("1.7.7").len(), study("1.7").len()), (1, 0));
}

#[test]
fn what_is_known_of_a_patient_is_corrected_in_all_their_steps_and_no_others() {
    let ups = in_memory();
    many(&ups);
    let of = |id: &str| -> Vec<DataSet> { block_on(ups.of_patient(id).try_collect()).unwrap() };
    let (theirs, others) = (of("P2").len(), of("P3").len());
    assert_eq!(theirs, 9);
    let mut attributes = DataSet::new();
    attributes.put_text(tags::PATIENT_ID, VR::LO, "P3");
    attributes.put_text(tags::PATIENT_NAME, VR::PN, "Family3^Given");
    attributes.put_text(tags::STUDY_INSTANCE_UID, VR::UI, "1.2.404");
    let changes = block_on(ups.set_patient(&"P2".into(), &attributes)).unwrap();
    assert_eq!(changes.len(), theirs);
    assert_eq!((of("P2").len(), of("P3").len()), (0, theirs + others));
    for step in of("P3") {
        assert_eq!(step.string(tags::PATIENT_NAME), Some("Family3^Given"));
        assert_ne!(step.string(tags::STUDY_INSTANCE_UID), Some("1.2.404"));
    }
    // Said again, it changes nothing.
    assert_eq!(
        block_on(ups.set_patient(&"P2".into(), &attributes))
            .unwrap()
            .len(),
        0
    );
    assert_eq!(
        block_on(ups.set_patient(&"P3".into(), &attributes))
            .unwrap()
            .len(),
        0
    );
    // The same ID of another issuer is another patient's.
    attributes.put_text(tags::ISSUER_OF_PATIENT_ID, VR::LO, "A");
    let of_issuer = |issuer| pacs_core::PatientId::new("P3", Some(issuer));
    let set =
        |issuer, attributes: &DataSet| block_on(ups.set_patient(&of_issuer(issuer), attributes)).unwrap();
    assert_eq!(set("A", &attributes).len(), theirs + others);
    attributes.put_text(tags::PATIENT_NAME, VR::PN, "Other^Given");
    assert_eq!(set("B", &attributes).len(), 0);
    // Whoever had claimed one still has.
    let claimed = of("P3");
    let claimed = claimed
        .iter()
        .find(|step| step.string(tags::PROCEDURE_STEP_STATE) == Some("IN PROGRESS"))
        .unwrap();
    let uid = claimed.uid(tags::SOP_INSTANCE_UID).unwrap();
    block_on(ups.change_state(&uid, State::Completed, Some(&TRANSACTION))).unwrap();
}
