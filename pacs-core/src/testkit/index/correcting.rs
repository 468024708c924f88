//! What an index promises of corrections: what counts above the instances that say otherwise.

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;

use super::{
    IndexPlace, answer_list, answers, apply, everything, filled, instances, record, state, store, totals,
};
use crate::dataset::DataSet;
use crate::index::{Change, Index, InstanceRecord, Scope};
use crate::query::{LevelAttributes, Model, Query, QueryOptions};
use crate::uid::Level;

/// How many entities have this value.
fn having(index: &dyn Index, level: Level, tag: Tag, vr: VR, text: &str) -> usize {
    let mut keys = DataSet::new();
    keys.put_text(tag, vr, text);
    let query = Query::new(Model::PatientRoot, level, keys, QueryOptions::default());
    answers(index, &query).len()
}

fn correct(record: &InstanceRecord, change: impl FnOnce(&mut LevelAttributes)) -> Change {
    let mut correction = LevelAttributes::default();
    change(&mut correction);
    Change::Correct(record.key, Box::new(correction))
}

/// What is corrected counts for patient, study and series, and nothing else of them changes; no instance that is
/// stored again or that comes later takes it back.
pub fn a_correction_counts_above_the_instance_and_stays_whatever_is_stored_then(place: &dyn IndexPlace) {
    let index = place.open();
    let [mut first, second, third] = [0, 1, 2].map(|instance| record(7, 1, 0, 0, instance, 0));
    first
        .attributes
        .study
        .put_text(tags::STUDY_DESCRIPTION, VR::LO, "THERE");
    first.attributes.study.put_text(tags::STUDY_ID, VR::SH, "STAYS");
    let mut third = third;
    third
        .attributes
        .study
        .put_text(tags::STUDY_DESCRIPTION, VR::LO, "THERE");
    let correction = correct(&second, |correction| {
        let LevelAttributes {
            patient,
            study,
            series,
            ..
        } = correction;
        patient.put_text(tags::PATIENT_NAME, VR::PN, "Corrected^Name");
        study.put_text(tags::ACCESSION_NUMBER, VR::SH, "CORRECTED");
        study.put_text(tags::STUDY_DESCRIPTION, VR::LO, "");
        series.put_text(tags::MODALITY, VR::CS, "XA");
    });
    apply(&*index, vec![store(&first), store(&second)], 2);
    apply(&*index, vec![correction.clone()], 3);
    for again in [
        vec![],
        vec![correction],
        vec![store(&first), store(&second)],
        vec![
            store(&third),
            Change::Remove(first.key.instance),
            Change::Remove(second.key.instance),
        ],
        vec![store(&third)],
    ] {
        apply(&*index, again, 4);
        let study = |tag, vr, text| having(&*index, Level::Study, tag, vr, text);
        assert_eq!(study(tags::ACCESSION_NUMBER, VR::SH, "CORRECTED"), 1);
        let before = first
            .attributes
            .study
            .string(tags::ACCESSION_NUMBER)
            .expect("has one");
        assert_eq!(study(tags::ACCESSION_NUMBER, VR::SH, before), 0);
        assert_eq!(study(tags::MODALITIES_IN_STUDY, VR::CS, "XA"), 1);
        assert_eq!(study(tags::STUDY_ID, VR::SH, "STAYS"), 1);
        assert_eq!(study(tags::STUDY_DESCRIPTION, VR::LO, "THERE"), 0);
        let answer = &answer_list(&*index, &everything(Model::StudyRoot, Level::Study))[0];
        assert_eq!(answer.string(tags::MODALITIES_IN_STUDY), Some("XA"));
        for level in [Level::Patient, Level::Study] {
            let found = having(&*index, level, tags::PATIENT_NAME, VR::PN, "Corrected^Name");
            assert_eq!(found, 1, "{level:?}");
        }
    }
}

/// A study goes to another patient with all that is below it, and the patient that it leaves is forgotten with its
/// last study. What is known of the other one stays.
pub fn a_study_goes_to_another_patient_with_a_correction_that_says_so(place: &dyn IndexPlace) {
    let (index, records) = filled(place);
    let mut other = records[4].attributes.patient.clone();
    let name = other.string(tags::PATIENT_NAME).map(str::to_owned);
    for (at, patients, studies) in [(0, 2, ["1", "2"]), (3, 1, ["", "3"])] {
        let moved = correct(&records[at], |correction| {
            correction.patient = other.clone();
        });
        apply(&*index, vec![moved], 6);
        assert_eq!(totals(&*index).patients, patients);
        let found = answers(&*index, &everything(Model::PatientRoot, Level::Patient));
        for (patient, studies) in ["P1", "P2"].into_iter().zip(studies) {
            let counted = found
                .get(patient)
                .and_then(|patient| patient.string(tags::NUMBER_OF_PATIENT_RELATED_STUDIES));
            assert_eq!(counted.unwrap_or_default(), studies, "{patient}");
        }
        assert_eq!(found["P2"].string(tags::PATIENT_NAME), name.as_deref());
        // The next one says something else of that patient.
        other.put_text(tags::PATIENT_NAME, VR::PN, "Another^Name");
    }
    // To one that is not known.
    let moved = correct(&records[4], |correction| {
        correction.patient.put_text(tags::PATIENT_ID, VR::LO, "NEW");
    });
    apply(&*index, vec![moved], 7);
    let found = answers(&*index, &everything(Model::PatientRoot, Level::Patient));
    assert_eq!(found["NEW"].string(tags::PATIENT_NAME), name.as_deref());
    assert_eq!(totals(&*index).patients, 2);
}

/// However many of its instances say that a study is another patient's, what is known of that one stays.
pub fn who_gets_a_study_keeps_what_is_known_of_him(place: &dyn IndexPlace) {
    let (index, records) = filled(place);
    let other = &records[4].attributes.patient;
    for at in [0, 1, 2] {
        let moved = correct(&records[at], |correction| {
            correction.patient = other.clone();
            correction
                .patient
                .put_text(tags::PATIENT_NAME, VR::PN, "Another^Name");
            correction.patient.put_text(tags::PATIENT_BIRTH_DATE, VR::DA, "");
        });
        apply(&*index, vec![moved], 6);
        let found = answers(&*index, &everything(Model::PatientRoot, Level::Patient));
        for tag in [tags::PATIENT_NAME, tags::PATIENT_BIRTH_DATE] {
            assert_eq!(found["P2"].string(tag), other.string(tag));
        }
        let study = [(Level::Study, 1), (Level::Series, 2)];
        for (level, count) in study {
            let found = having(&*index, level, tags::PATIENT_NAME, VR::PN, "Another^Name");
            assert_eq!(found, count, "{level:?}");
        }
    }
}

/// A study that is known to have no Patient ID goes to nobody by an instance that says one.
pub fn a_study_whose_patient_id_was_taken_away_stays_without(place: &dyn IndexPlace) {
    let (index, records) = filled(place);
    let taken = correct(&records[4], |correction| {
        correction.patient.put_text(tags::PATIENT_ID, VR::LO, "");
    });
    apply(&*index, vec![taken], 6);
    let again = record(7, 2, 0, 0, 1, 0);
    apply(&*index, vec![store(&again)], 7);
    assert_eq!(having(&*index, Level::Study, tags::PATIENT_ID, VR::LO, "P2"), 0);
    assert_eq!(instances(&*index, Scope::Patient(String::new())).len(), 2);
    assert_eq!(totals(&*index).patients, 2);
}

/// See its name.
pub fn a_correction_of_what_is_not_known_changes_nothing(place: &dyn IndexPlace) {
    let (index, records) = filled(place);
    let before = state(&*index);
    let mut elsewhere = records[0].clone();
    elsewhere.key.series = records[2].key.series;
    let unknown = record(7, 9, 0, 0, 0, 0);
    for record in [&elsewhere, &unknown] {
        let correction = correct(record, |correction| {
            correction
                .study
                .put_text(tags::ACCESSION_NUMBER, VR::SH, "CORRECTED");
        });
        apply(&*index, vec![correction], 5);
    }
    assert!(state(&*index) == before);
}

/// An instance whose Patient ID is not the one that its study is known under brings nothing of that patient.
pub fn what_is_said_of_another_patient_fills_nothing(place: &dyn IndexPlace) {
    let index = place.open();
    let [mut first, mut second] = [0, 1].map(|instance| record(7, 1, 0, 0, instance, 0));
    first.attributes.patient.put_text(tags::PATIENT_NAME, VR::PN, "");
    second
        .attributes
        .patient
        .put_text(tags::PATIENT_ID, VR::LO, "ANOTHER");
    second
        .attributes
        .patient
        .put_text(tags::PATIENT_NAME, VR::PN, "Another^Name");
    apply(&*index, vec![store(&first), store(&second)], 2);
    for level in [Level::Patient, Level::Study] {
        let found = having(&*index, level, tags::PATIENT_NAME, VR::PN, "Another^Name");
        assert_eq!(found, 0, "{level:?}");
    }
    assert_eq!(totals(&*index).patients, 1);
}
