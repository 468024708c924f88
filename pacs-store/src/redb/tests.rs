//! What is particular to this index; the rest is the conformance suite of `pacs_core::testkit`.

use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use dicom_core::VR;
use dicom_dictionary_std::{tags, uids};
use futures::StreamExt;
use futures::executor::block_on;
use pacs_core::archive::{Locator, Sequence, Timestamp};
use pacs_core::dataset::{DataSet, FrameExtent, FrameTable};
use pacs_core::index::{Change, Index, InstanceRecord, Scope, Totals};
use pacs_core::query::{LevelAttributes, Model, Query, QueryOptions};
use pacs_core::uid::{InstanceKey, Level, Uid};

use super::{RedbIndex, RedbIndexOptions};
use crate::index::tables::{Table, Tables as _};
use crate::layers::encrypt::{FileKeys, Key, KeyId, KeyList};

pub(super) fn file_keys() -> Arc<FileKeys> {
    let keys = KeyList::new([(KeyId::parse("k").expect("a name"), Key::new([7; 32]))]);
    Arc::new(FileKeys::new(Arc::new(keys), Default::default()).expect("there is a key"))
}

fn in_memory() -> RedbIndex {
    RedbIndex::with_backend(
        ::redb::backends::InMemoryBackend::new(),
        RedbIndexOptions::default(),
    )
    .unwrap()
}

fn record(patient: &str, study: u32, series: u32, instance: u32) -> InstanceRecord {
    let uid = |text: String| Uid::parse(&text).unwrap();
    let key = InstanceKey {
        study: uid(format!("1.2.{study}")),
        series: uid(format!("1.2.{study}.{series}")),
        instance: uid(format!("1.2.{study}.{series}.{instance}")),
    };
    let mut attributes = LevelAttributes::default();
    if !patient.is_empty() {
        attributes.patient.put_text(tags::PATIENT_ID, VR::LO, patient);
    }
    attributes
        .patient
        .put_text(tags::PATIENT_NAME, VR::PN, format!("Doe^{patient}"));
    attributes.study.put_text(tags::STUDY_DATE, VR::DA, "20240102");
    attributes.series.put_text(tags::MODALITY, VR::CS, "CT");
    attributes.instance.put_uid(tags::SOP_INSTANCE_UID, &key.instance);
    InstanceRecord {
        key,
        sop_class: Uid::constant(uids::CT_IMAGE_STORAGE),
        transfer_syntax: Uid::constant(uids::EXPLICIT_VR_LITTLE_ENDIAN),
        locator: Locator::new(&[1, 2, 3]),
        length: 1_000,
        data_set_offset: 300,
        sequence: Sequence(1),
        received: Timestamp(2),
        attributes,
        coerced: None,
        superseded: Vec::new(),
    }
}

fn store(index: &RedbIndex, records: impl IntoIterator<Item = InstanceRecord>) {
    let changes = records
        .into_iter()
        .map(|record| Change::Store(Box::new(record)))
        .collect();
    block_on(index.apply(changes, Sequence(1))).unwrap();
}

fn find(index: &RedbIndex, level: Level, keys: &[(dicom_core::Tag, VR, &str)]) -> Vec<DataSet> {
    let mut set = DataSet::new();
    for (tag, vr, text) in keys {
        set.put_text(*tag, *vr, *text);
    }
    let query = Query::new(Model::PatientRoot, level, set, QueryOptions::default());
    block_on(index.query(query).map(Result::unwrap).collect())
}

#[test]
fn a_study_without_patient_id_moves_to_the_patient_that_a_later_instance_names() {
    let index = in_memory();
    store(
        &index,
        [record("", 1, 1, 1), record("", 2, 1, 1), record("P", 3, 1, 1)],
    );
    assert_eq!(block_on(index.totals()).unwrap().patients, 2);
    store(&index, [record("P", 1, 2, 1)]);
    let found = find(&index, Level::Patient, &[(tags::PATIENT_ID, VR::LO, "P")]);
    assert_eq!(found.len(), 1);
    assert_eq!(
        found[0].string(tags::NUMBER_OF_PATIENT_RELATED_STUDIES),
        Some("2")
    );
    assert_eq!(
        found[0].string(tags::NUMBER_OF_PATIENT_RELATED_INSTANCES),
        Some("3")
    );
    assert_eq!(
        find(&index, Level::Study, &[(tags::PATIENT_ID, VR::LO, "P")]).len(),
        2
    );
    let scope = |id: &str| block_on(index.instances(Scope::Patient(id.into())).count());
    assert_eq!((scope("P"), scope("")), (3, 1));

    let all = block_on(
        index
            .instances(Scope::All)
            .map(Result::unwrap)
            .collect::<Vec<_>>(),
    );
    let changes = all
        .iter()
        .map(|record| Change::Remove(record.key.instance))
        .collect();
    block_on(index.apply(changes, Sequence(2))).unwrap();
    assert_eq!(block_on(index.totals()).unwrap(), Totals::default());
    assert_eq!(leftovers(&index), 0);
}

/// Everything that stands in the tables.
pub(super) fn contents(index: &RedbIndex) -> Vec<(Table, Vec<u8>, Vec<u8>)> {
    let tables = index.shared.read().unwrap();
    let mut all = Vec::new();
    for &table in super::tables::ALL {
        let everything = (Bound::Unbounded, Bound::Unbounded);
        let gathered = tables.range(table, everything, usize::MAX, |key, value| {
            all.push((table, key.to_vec(), value.to_vec()));
            Ok(ControlFlow::Continue(()))
        });
        gathered.expect("is read");
    }
    all
}

/// Entries of all tables but that of the index itself.
fn leftovers(index: &RedbIndex) -> usize {
    let mut all = contents(index);
    all.retain(|(table, ..)| *table != Table::Meta);
    all.len()
}

#[test]
fn a_long_frame_table_and_many_older_versions_come_back() {
    let index = in_memory();
    let mut long = record("P", 1, 1, 1);
    let frame = |at: u64| FrameExtent {
        offset: at * 1_000,
        length: 990 + at % 7,
    };
    let table = Arc::new(FrameTable {
        frames: (0..5_000).map(frame).collect(),
    });
    long.superseded = vec![Locator::new(&[9; 20]); 50];
    long.superseded.push(Locator::new(&[]));
    store(&index, [long.clone()]);
    let (instance, version) = (long.key.instance, long.locator.clone());
    let frames = Change::Frames {
        instance,
        version: version.clone(),
        table: Arc::clone(&table),
    };
    block_on(index.apply(vec![frames], Sequence(1))).unwrap();
    assert_eq!(block_on(index.lookup(&instance)).unwrap().as_ref(), Some(&long));
    assert_eq!(block_on(index.frames(&instance, &version)).unwrap(), Some(table));
    long.superseded.truncate(1);
    store(&index, [long.clone()]);
    assert_eq!(block_on(index.lookup(&instance)).unwrap(), Some(long));
}

#[test]
fn values_that_are_cut_replaced_or_irregular_in_the_entries_are_found_all_the_same() {
    let index = in_memory();
    let long = "L".repeat(200);
    for (at, (text, date)) in [
        (long.as_str(), "2024.01.02"),
        ("A\u{1}B", "20240103"),
        ("Ä^Ö", "202401"),
        ("C", ""),
    ]
    .into_iter()
    .enumerate()
    {
        let mut record = record("P", at as u32, 1, 1);
        record
            .attributes
            .study
            .put_text(tags::ACCESSION_NUMBER, VR::SH, text);
        record.attributes.study.put_text(tags::STUDY_DATE, VR::DA, date);
        record
            .attributes
            .patient
            .put_text(tags::PATIENT_NAME, VR::PN, text);
        store(&index, [record]);
    }
    let count = |keys: &[(dicom_core::Tag, VR, &str)]| find(&index, Level::Study, keys).len();
    let accession = |text: &str| count(&[(tags::ACCESSION_NUMBER, VR::SH, text)]);
    assert_eq!(accession(&long), 1);
    assert_eq!(accession(&long[..150]), 0);
    assert_eq!(accession(&format!("*{}*", &long[..100])), 1);
    assert_eq!(
        (accession("A\u{1}B"), accession("A?B"), accession("*\u{1}*")),
        (1, 1, 1)
    );
    assert_eq!(count(&[(tags::PATIENT_NAME, VR::PN, "a^*")]), 1);
    let date = |text: &str| count(&[(tags::STUDY_DATE, VR::DA, text)]);
    assert_eq!(
        (date("20240101-20240131"), date("20240102"), date("-")),
        (3, 1, 4)
    );
    let both = [
        (tags::STUDY_DATE, VR::DA, "20240102-"),
        (tags::MODALITIES_IN_STUDY, VR::CS, "CT"),
    ];
    assert_eq!(count(&both), 2);
}

#[test]
fn a_study_with_several_entries_in_a_range_is_answered_once() {
    let index = in_memory();
    let mut one = record("P", 1, 1, 1);
    one.attributes
        .patient
        .put_text(tags::PATIENT_NAME, VR::PN, "Yamada^Tarou=山田^太郎=yamada^tarou");
    let mut two = record("P", 1, 2, 1);
    two.attributes.series.put_text(tags::MODALITY, VR::CS, "MR\\PT");
    store(&index, [one, two]);
    for level in [Level::Patient, Level::Study] {
        assert_eq!(
            find(&index, level, &[(tags::PATIENT_NAME, VR::PN, "yamada*")]).len(),
            1
        );
        assert_eq!(
            find(&index, level, &[(tags::PATIENT_NAME, VR::PN, "山田*")]).len(),
            1
        );
        assert_eq!(
            find(&index, level, &[(tags::PATIENT_NAME, VR::PN, "*tarou\\Ya*")]).len(),
            1
        );
    }
    let modalities = [(tags::MODALITIES_IN_STUDY, VR::CS, "CT\\MR\\PT")];
    assert_eq!(find(&index, Level::Study, &modalities).len(), 1);
    assert_eq!(
        find(&index, Level::Series, &[(tags::MODALITY, VR::CS, "PT")]).len(),
        1
    );
}

#[test]
fn an_attribute_that_is_kept_below_its_usual_level_is_found_there() {
    let index = in_memory();
    let mut one = record("P", 1, 1, 1);
    one.attributes.study.remove(tags::STUDY_DATE);
    one.attributes
        .series
        .put_text(tags::STUDY_DATE, VR::DA, "20240103");
    one.attributes.series.remove(tags::MODALITY);
    one.attributes.instance.put_text(tags::MODALITY, VR::CS, "MR");
    store(&index, [one, record("P", 2, 1, 1)]);
    let count = |level, tag, vr, text| find(&index, level, &[(tag, vr, text)]).len();
    assert_eq!(count(Level::Series, tags::STUDY_DATE, VR::DA, "20240103"), 1);
    assert_eq!(count(Level::Study, tags::STUDY_DATE, VR::DA, "20240103"), 0);
    assert_eq!(count(Level::Instance, tags::MODALITY, VR::CS, "MR"), 1);
    assert_eq!(count(Level::Instance, tags::MODALITY, VR::CS, "CT"), 1);
}

#[test]
fn what_is_stored_anew_behind_a_stream_is_not_met_again_and_what_is_replaced_before_it_is() {
    let index = in_memory();
    let all: Vec<_> = (0..12)
        .map(|at| record("P", at / 6, at / 3 % 2, at % 3))
        .collect();
    store(&index, all.clone());
    let uids: std::collections::BTreeSet<_> = all.iter().map(|record| record.key.instance).collect();
    let replaced = |at: usize, length| {
        let mut record = all[at].clone();
        record.length = length;
        record
    };
    for seen in 1..12 {
        let mut stream = index.instances(Scope::All);
        let mut found: Vec<_> = (0..seen)
            .map(|_| block_on(stream.next()).unwrap().unwrap().key.instance)
            .collect();
        let again: Vec<_> = found.clone();
        let forget = again.iter().map(|uid| Change::Remove(*uid)).collect();
        block_on(index.apply(forget, Sequence(2))).unwrap();
        store(
            &index,
            all.iter()
                .filter(|record| again.contains(&record.key.instance))
                .cloned(),
        );
        // All that is not yielded yet is replaced, some of it twice.
        let rest = |length| (0..12).map(move |at| (at, length));
        for (at, length) in rest(seen).chain(rest(seen + 100)) {
            if !again.contains(&all[at].key.instance) {
                store(&index, [replaced(at, length as u64)]);
            }
        }
        found.extend(block_on(
            stream
                .map(|record| record.unwrap().key.instance)
                .collect::<Vec<_>>(),
        ));
        assert_eq!(found.len(), 12, "{seen}");
        assert_eq!(found.into_iter().collect::<std::collections::BTreeSet<_>>(), uids);
    }
}

#[test]
fn a_stream_of_a_closed_index_ends_with_an_error_and_keeps_no_file_open() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("index.redb");
    let index = RedbIndex::open(&path, RedbIndexOptions::default()).unwrap();
    store(&index, [record("P", 1, 1, 1)]);
    let stream = index.instances(Scope::All);
    drop(index);
    let again = RedbIndex::open(&path, RedbIndexOptions::default()).unwrap();
    let results = block_on(stream.collect::<Vec<_>>());
    assert_eq!(results.len(), 1);
    assert_eq!(
        results[0].as_ref().unwrap_err().kind(),
        pacs_core::ErrorKind::Closed
    );
    assert_eq!(block_on(again.totals()).unwrap().instances, 1);
}

#[test]
fn a_file_that_is_no_index_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("index.redb");
    std::fs::write(&path, vec![7; 10_000]).unwrap();
    assert!(RedbIndex::open(&path, RedbIndexOptions::default()).is_err());
}

pacs_core::index_conformance!(conformance, {
    let directory = tempfile::tempdir().expect("a temporary directory");
    move || -> std::sync::Arc<dyn Index> {
        let index = RedbIndex::open(directory.path().join("index.redb"), RedbIndexOptions::default());
        std::sync::Arc::new(index.expect("the index opens"))
    }
});

pacs_core::index_conformance!(conformance_encrypted, {
    let directory = tempfile::tempdir().expect("a temporary directory");
    move || -> std::sync::Arc<dyn Index> {
        let path = directory.path().join("index.redb");
        let index = RedbIndex::open_encrypted(path, file_keys(), RedbIndexOptions::default());
        std::sync::Arc::new(index.expect("the index opens"))
    }
});
