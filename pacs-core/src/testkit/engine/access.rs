//! What the engine promises of who may do what.

use std::collections::BTreeSet;
use std::sync::Arc;

use dicom_core::VR;
use dicom_dictionary_std::tags;
use futures::TryStreamExt;
use futures::executor::block_on;

use super::{Options, Pacs, Place, data_set, explicit, instance, instance_uid, keep, store, study_uid};
use crate::access::{Door, Identity, Part, Permission, Policy, Restriction, Role};
use crate::dataset::DataSet;
use crate::error::ErrorKind;
use crate::hooks::Source;
use crate::index::Scope;
use crate::patient::PatientId;
use crate::query::{Model, Query, QueryOptions};
use crate::uid::Level;

/// An engine that lets in users alone, with what their identity grants.
fn open(place: &dyn Place) -> Pacs {
    let roles = Permission::ALL.map(|permission| Role {
        name: permission.name().to_owned(),
        allow: vec![permission],
        only: std::collections::BTreeMap::new(),
    });
    let policy = Policy::new(Vec::new(), roles.into(), Vec::new()).expect("it can be meant");
    let options = Options {
        access: Arc::new(policy),
        ..Options::default()
    };
    block_on(Pacs::open(place.archive(), place.index(), options)).expect("opens")
}

fn user(roles: &[Permission], granted: Vec<(Permission, Part)>) -> Source {
    Source {
        door: Some(Door::Dicom),
        identity: Some(Arc::new(Identity {
            name: "user".to_owned(),
            roles: roles.iter().map(|role| role.name().to_owned()).collect(),
            granted,
            until: None,
        })),
        ..Source::default()
    }
}

/// Who may do all of these with what has any of the values.
fn with_only(permissions: &[Permission], any: &[(dicom_core::Tag, VR, &str)]) -> Source {
    let restrictions = any.iter().map(|(tag, vr, value)| {
        let mut keys = DataSet::new();
        keys.put_text(*tag, *vr, *value);
        Restriction::new(keys).expect("it restricts")
    });
    let part = Part::Only(restrictions.collect());
    let granted = permissions.iter().map(|permission| (*permission, part.clone()));
    user(&[], granted.collect())
}

fn found(pacs: &Pacs, source: &Source, level: Level, keys: &[(dicom_core::Tag, VR, &str)]) -> Vec<DataSet> {
    let mut set = DataSet::new();
    for tag in [
        tags::PATIENT_ID,
        tags::STUDY_INSTANCE_UID,
        tags::NUMBER_OF_PATIENT_RELATED_STUDIES,
        tags::NUMBER_OF_STUDY_RELATED_INSTANCES,
    ] {
        set.put_text(tag, VR::LO, "");
    }
    for (tag, vr, value) in keys {
        set.put_text(*tag, *vr, *value);
    }
    let options = QueryOptions {
        relational: true,
        ..QueryOptions::default()
    };
    let query = Query::new(Model::PatientRoot, level, set, options);
    let found = pacs.find(source, query).expect("may find");
    block_on(found.try_collect()).expect("is found")
}

fn studies(found: &[DataSet]) -> BTreeSet<String> {
    let uids = found
        .iter()
        .filter_map(|set| set.string(tags::STUDY_INSTANCE_UID));
    uids.map(str::to_owned).collect()
}

/// See its name.
pub fn nobody_does_what_they_may_not_and_the_program_itself_may_all(place: &dyn Place) {
    let pacs = open(place);
    // The program itself.
    let kept = keep(&pacs, instance(1, 1, 1, 0));
    let query = || {
        Query::new(
            Model::StudyRoot,
            Level::Study,
            DataSet::new(),
            QueryOptions::default(),
        )
    };
    let mut wanted = DataSet::new();
    wanted.put_text(tags::PATIENT_NAME, VR::PN, "Other^Name");
    for role in Permission::ALL {
        let source = user(&[role], Vec::new());
        let (mut announced, bytes) = instance(1, 1, 2, 0);
        announced.source = source.clone();
        let patient = PatientId::from("P1");
        let done = [
            (
                Permission::Store,
                block_on(store(&pacs, (announced, bytes))).map(|_| ()),
            ),
            (Permission::Find, pacs.find(&source, query()).map(|_| ())),
            (
                Permission::Retrieve,
                block_on(pacs.admit_retrieve(&source, &kept.record)),
            ),
            (
                Permission::Delete,
                block_on(pacs.permit_instance(&source, Permission::Delete, &kept.record.key)),
            ),
            (
                Permission::Amend,
                block_on(pacs.amend(&source, Scope::Study(study_uid(1)), wanted.clone())).map(|_| ()),
            ),
            (
                Permission::Amend,
                block_on(pacs.amend_patient(&source, &patient, wanted.clone())).map(|_| ()),
            ),
            (
                Permission::Amend,
                block_on(pacs.merge_patients(&source, &patient, &PatientId::from("P9"))).map(|_| ()),
            ),
            (Permission::Work, pacs.permit_all(&source, Permission::Work)),
            (Permission::Route, pacs.permit_all(&source, Permission::Route)),
            (
                Permission::Administer,
                pacs.permit_all(&source, Permission::Administer),
            ),
        ];
        for (permission, done) in done {
            let is_refused = done.is_err_and(|error| error.kind() == ErrorKind::Refused);
            assert_eq!(is_refused, permission != role, "{permission:?} with {role:?}");
        }
        // What was refused is not kept.
        let second = block_on(pacs.lookup(&instance_uid(1, 1, 2))).expect("is looked up");
        assert_eq!(second.is_some(), role == Permission::Store, "{role:?}");
        if second.is_some() {
            block_on(pacs.remove(&instance_uid(1, 1, 2))).expect("is removed");
        }
    }
}

/// See its name; at each level, also where what tells the part apart is of another one.
pub fn who_may_find_a_part_finds_that_and_nothing_that_counts_the_rest(place: &dyn Place) {
    let pacs = open(place);
    // Series 1 is MR and series 2 is CT. Studies 1 and 8 are of one patient.
    for (study, series) in [(1, 1), (1, 2), (2, 1), (8, 2), (3, 2)] {
        keep(&pacs, instance(study, series, 1, 0));
    }
    let uid = |study| study_uid(study).to_string();
    let one = uid(1);
    let shared = with_only(&[Permission::Find], &[(tags::STUDY_INSTANCE_UID, VR::UI, &one)]);
    let magnetic = with_only(&[Permission::Find], &[(tags::MODALITY, VR::CS, "MR")]);
    let several = with_only(
        &[Permission::Find],
        &[
            (tags::ACCESSION_NUMBER, VR::SH, "A2"),
            (tags::ACCESSION_NUMBER, VR::SH, "A3"),
        ],
    );
    for (source, expected, counts) in [
        (&shared, vec![1], [1, 1, 2, 2]),
        (&magnetic, vec![1, 2], [2, 2, 2, 2]),
        (&several, vec![2, 3], [2, 2, 2, 2]),
    ] {
        let expected: BTreeSet<String> = expected.into_iter().map(uid).collect();
        for (level, count) in Level::ALL.into_iter().zip(counts) {
            let found = found(&pacs, source, level, &[]);
            assert_eq!(found.len(), count, "{level:?}");
            if level != Level::Patient {
                assert_eq!(studies(&found), expected, "{level:?}");
            }
        }
    }
    // The patient has two studies, of which one is theirs.
    let [patient] = &found(&pacs, &shared, Level::Patient, &[])[..] else {
        panic!("one patient is found");
    };
    assert!(
        !patient
            .strings(tags::NUMBER_OF_PATIENT_RELATED_STUDIES)
            .any(|count| !count.is_empty())
    );
    let of_study = &found(&pacs, &shared, Level::Study, &[])[0];
    assert_eq!(
        of_study.string(tags::NUMBER_OF_STUDY_RELATED_INSTANCES),
        Some("2")
    );
    let of_study = found(
        &pacs,
        &magnetic,
        Level::Study,
        &[(tags::ACCESSION_NUMBER, VR::SH, "A1")],
    );
    assert_eq!(
        of_study[0]
            .string(tags::NUMBER_OF_STUDY_RELATED_INSTANCES)
            .unwrap_or_default(),
        ""
    );
    // What is asked for narrows, and never widens.
    let other = uid(2);
    assert!(
        found(
            &pacs,
            &shared,
            Level::Study,
            &[(tags::STUDY_INSTANCE_UID, VR::UI, &other)]
        )
        .is_empty()
    );
}

/// See its name.
pub fn what_is_handed_out_or_stored_is_of_the_part_that_is_theirs(place: &dyn Place) {
    let pacs = open(place);
    let all: Vec<_> = [(1, 1), (1, 2), (2, 1)]
        .map(|(study, series)| keep(&pacs, instance(study, series, 1, 0)).record)
        .into();
    let admitted = |source: &Source| -> Vec<bool> {
        let admitted = all
            .iter()
            .map(|record| block_on(pacs.admit_retrieve(source, record)).is_ok());
        admitted.collect()
    };
    let one = study_uid(1).to_string();
    let both = [Permission::Retrieve, Permission::Store];
    let shared = with_only(&both, &[(tags::STUDY_INSTANCE_UID, VR::UI, &one)]);
    let magnetic = with_only(&both, &[(tags::MODALITY, VR::CS, "MR")]);
    assert_eq!(admitted(&shared), [true, true, false]);
    assert_eq!(admitted(&magnetic), [true, false, true]);
    // As the index knows it now, whatever stands in the instance.
    let mut wanted = DataSet::new();
    wanted.put_text(tags::ACCESSION_NUMBER, VR::SH, "MINE");
    block_on(pacs.amend(&Source::default(), Scope::Study(study_uid(2)), wanted)).expect("is amended");
    let mine = with_only(&both, &[(tags::ACCESSION_NUMBER, VR::SH, "MINE")]);
    assert_eq!(admitted(&mine), [false, false, true]);
    for (source, study, series, is_theirs) in [
        (&shared, 1, 1, true),
        (&shared, 2, 1, false),
        (&magnetic, 2, 1, true),
        (&magnetic, 2, 2, false),
    ] {
        let (mut announced, bytes) = instance(study, series, 7, 0);
        announced.source = source.clone();
        let stored = block_on(store(&pacs, (announced, bytes)));
        assert_eq!(stored.is_ok(), is_theirs, "{study} {series}");
        let kept = block_on(pacs.lookup(&instance_uid(study, series, 7))).expect("is looked up");
        assert_eq!(kept.is_some(), is_theirs);
    }
}

/// See its name: what is sent says of itself what it likes.
pub fn who_may_store_a_part_puts_nothing_in_the_place_of_what_is_not_of_it(place: &dyn Place) {
    let pacs = open(place);
    let kept = keep(&pacs, instance(2, 1, 1, 0)).record;
    let source = with_only(&[Permission::Store], &[(tags::PATIENT_ID, VR::LO, "P1")]);
    // The same instance, another one of its series, and another series of its study.
    for (series, number) in [(1, 1), (1, 2), (2, 1)] {
        let mut set = data_set(2, series, number, 9);
        set.put_text(tags::PATIENT_ID, VR::LO, "P1");
        let (mut announced, _) = instance(2, series, number, 9);
        announced.source = source.clone();
        let stored = block_on(store(&pacs, (announced, explicit(&set))));
        let error = stored.expect_err("it is refused");
        assert_eq!(error.kind(), ErrorKind::Refused, "{series} {number}");
    }
    let now = block_on(pacs.lookup(&kept.key.instance)).expect("is looked up");
    assert_eq!(now.as_ref(), Some(&*kept));
    assert_eq!(found(&pacs, &Source::default(), Level::Instance, &[]).len(), 1);
    // Their own patient's study, and one that nobody has.
    for (study, series) in [(1, 1), (1, 2), (8, 1)] {
        let (mut announced, bytes) = instance(study, series, 1, 0);
        announced.source = source.clone();
        block_on(store(&pacs, (announced, bytes))).expect("is kept");
    }
}
