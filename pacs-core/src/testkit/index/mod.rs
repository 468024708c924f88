//! The index's promises: each is a sentence of [`Index`], and each sentence a test.
//!
//! A backend runs them all by [`index_conformance!`](crate::index_conformance). Random tests print their
//! seed when they fail; `PACS_SEED` and `PACS_ROUNDS` in the environment repeat or extend them.

mod correcting;
mod random;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use dicom_core::VR;
use dicom_dictionary_std::tags;
use futures::TryStreamExt;
use futures::executor::block_on;

use super::random::Random;
use super::reference::{Reference, name_of_answer};
use super::world::{any_record, record};
use crate::archive::{Locator, Sequence};
use crate::dataset::{DataSet, Element, FrameExtent, FrameTable};
use crate::index::{Change, Index, InstanceRecord, Scope, Totals};
use crate::query::{Model, Query, QueryOptions};
use crate::uid::{Level, Uid};

pub use correcting::*;
pub use random::*;

/// A place that holds an index. Opening it again, after what was opened is dropped, finds what was kept
/// there; a place in memory gives the same one again.
pub trait IndexPlace {
    /// The index of this place.
    fn open(&self) -> Arc<dyn Index>;

    /// Whether there is such a place on this machine. Where there is none, nothing is tested; who says no says why.
    fn is_there(&self) -> bool {
        true
    }
}

impl<F: Fn() -> Arc<dyn Index>> IndexPlace for F {
    fn open(&self) -> Arc<dyn Index> {
        self()
    }
}

/// Makes one `#[test]` of each promise, in a module `$name`; `$place` is an expression for a new, empty
/// [`IndexPlace`], evaluated with the names in scope where the macro stands.
#[macro_export]
macro_rules! index_conformance {
    ($name:ident, $place:expr) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;
            $crate::index_conformance!(@each $place,
                every_later_lookup_and_query_sees_all_that_was_applied,
                a_lookup_yields_the_record_as_it_was_applied,
                applying_the_same_changes_again_changes_nothing,
                changes_are_applied_in_order,
                a_frame_table_is_known_of_the_version_it_was_told_of_and_of_no_other,
                metadata_is_known_of_the_version_it_was_told_of_and_of_no_other,
                metadata_comes_with_its_instance_in_the_order_of_the_instances,
                the_low_water_is_that_of_the_last_batch,
                storing_again_forgets_what_was_known_under_the_same_uid,
                forgetting_the_last_instance_forgets_what_is_above_it,
                forgetting_what_is_not_known_changes_nothing,
                the_first_applied_value_counts_and_later_ones_fill_what_has_none,
                a_correction_counts_above_the_instance_and_stays_whatever_is_stored_then,
                a_study_goes_to_another_patient_with_a_correction_that_says_so,
                who_gets_a_study_keeps_what_is_known_of_him,
                a_study_whose_patient_id_was_taken_away_stays_without,
                a_correction_of_what_is_not_known_changes_nothing,
                what_is_said_of_another_patient_fills_nothing,
                clear_forgets_everything_also_the_low_water,
                a_scope_that_is_not_known_yields_nothing,
                a_scope_yields_every_instance_below_it_and_no_other,
                the_instances_of_one_series_come_together_and_so_of_one_study,
                an_answer_holds_what_is_known_above_and_what_is_derived_from_below,
                queries_of_every_kind_are_answered_as_the_reference_answers_them,
                whatever_way_is_taken_to_candidates_the_answers_are_those_that_match,
                a_stream_goes_on_while_changes_are_applied,
                any_course_of_changes_leaves_what_the_reference_says,
                many_threads_may_read_while_one_applies,
                what_was_flushed_is_there_after_reopening,
                opened_again_in_place_it_knows_what_was_flushed,
                after_reopening_the_state_is_one_that_was_with_its_low_water,
            );
        }
    };
    (@each $place:expr, $($sentence:ident),* $(,)?) => {
        $(#[test] fn $sentence() {
            let place = $place;
            if $crate::testkit::index::IndexPlace::is_there(&place) {
                $crate::testkit::index::$sentence(&place);
            }
        })*
    };
}

fn store(record: &InstanceRecord) -> Change {
    Change::Store(Box::new(record.clone()))
}

fn frames(record: &InstanceRecord, count: u64) -> Change {
    let frame = |at: u64| FrameExtent {
        offset: at * 100 + 8,
        length: 92,
    };
    Change::Frames {
        instance: record.key.instance,
        version: record.locator.clone(),
        table: Arc::new(FrameTable {
            frames: (0..count).map(frame).collect(),
        }),
    }
}

fn frame_table(index: &dyn Index, record: &InstanceRecord) -> Option<Arc<FrameTable>> {
    block_on(index.frames(&record.key.instance, &record.locator)).expect("frames succeeds")
}

fn metadata(record: &InstanceRecord, text: &str) -> Change {
    Change::Metadata {
        instance: record.key.instance,
        version: record.locator.clone(),
        record: Bytes::copy_from_slice(text.as_bytes()),
    }
}

/// The metadata records of a scope, by instance, in the order they come.
fn metadata_records(index: &dyn Index, scope: Scope) -> Vec<(InstanceRecord, Option<Bytes>)> {
    block_on(index.metadata(scope).try_collect()).expect("metadata succeeds")
}

fn metadata_record(index: &dyn Index, record: &InstanceRecord) -> Option<Bytes> {
    let mut found = metadata_records(index, Scope::Instance(record.key.instance));
    assert_eq!(found.len(), 1);
    let (known, metadata) = found.remove(0);
    metadata.filter(|_| known.locator == record.locator)
}

fn apply(index: &dyn Index, changes: Vec<Change>, low_water: u64) {
    block_on(index.apply(changes, Sequence(low_water))).expect("apply succeeds");
}

fn lookup(index: &dyn Index, instance: &Uid) -> Option<InstanceRecord> {
    block_on(index.lookup(instance)).expect("lookup succeeds")
}

fn totals(index: &dyn Index) -> Totals {
    block_on(index.totals()).expect("totals succeeds")
}

fn low_water(index: &dyn Index) -> u64 {
    block_on(index.low_water()).expect("low_water succeeds").0
}

fn instances(index: &dyn Index, scope: Scope) -> Vec<InstanceRecord> {
    block_on(index.instances(scope).try_collect()).expect("instances succeeds")
}

fn uids(records: &[InstanceRecord]) -> BTreeSet<Uid> {
    let uids: BTreeSet<_> = records.iter().map(|record| record.key.instance).collect();
    assert_eq!(uids.len(), records.len(), "an instance is yielded once");
    uids
}

fn answer_list(index: &dyn Index, query: &Query) -> Vec<DataSet> {
    block_on(index.query(query.clone()).try_collect()).expect("query succeeds")
}

/// The answers by the name of their entity, without elements that have no value.
fn answers(index: &dyn Index, query: &Query) -> BTreeMap<String, DataSet> {
    let all = answer_list(index, query);
    let count = all.len();
    let named: BTreeMap<_, _> = all
        .into_iter()
        .map(|mut answer| {
            answer.retain(|element| !element.is_empty());
            (name_of_answer(query.level(), &answer), answer)
        })
        .collect();
    assert_eq!(named.len(), count, "an entity is answered once: {}", shown(query));
    named
}

fn everything(model: Model, level: Level) -> Query {
    Query::new(model, level, DataSet::new(), QueryOptions::default())
}

/// All that an index knows, as far as a caller can see it.
fn state(index: &dyn Index) -> (Totals, Vec<InstanceRecord>, Vec<BTreeMap<String, DataSet>>) {
    let mut records = instances(index, Scope::All);
    records.sort_by_key(|record| record.key);
    let levels = Level::ALL.map(|level| answers(index, &everything(Model::PatientRoot, level)));
    (totals(index), records, levels.to_vec())
}

/// What is the record's own. The attributes above it are those of its entities.
fn own(record: &InstanceRecord) -> InstanceRecord {
    let mut own = record.clone();
    own.attributes.patient = DataSet::new();
    own.attributes.study = DataSet::new();
    own.attributes.series = DataSet::new();
    own
}

fn assert_is(index: &dyn Index, reference: &Reference) {
    let (found, records, levels) = state(index);
    assert_eq!(found, reference.totals());
    let expected: Vec<_> = reference.instances.values().map(own).collect();
    let mut records: Vec<_> = records.iter().map(own).collect();
    records.sort_by_key(|record| record.key.instance);
    assert!(records == expected, "the instances differ");
    for record in &records {
        let instance = &record.key.instance;
        assert!(
            frame_table(index, record).as_ref() == reference.frames.get(instance),
            "the frame table of {instance} differs"
        );
    }
    for (record, metadata) in metadata_records(index, Scope::All) {
        let instance = &record.key.instance;
        assert!(
            metadata.as_ref() == reference.metadata.get(instance),
            "the metadata of {instance} differs"
        );
    }
    for (level, found) in Level::ALL.into_iter().zip(levels) {
        assert_answers(&everything(Model::PatientRoot, level), &found, reference);
    }
}

fn assert_answers(query: &Query, found: &BTreeMap<String, DataSet>, reference: &Reference) {
    let expected = reference.answers(query);
    let names = |answers: &BTreeMap<String, DataSet>| answers.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(found), names(&expected), "{}", shown(query));
    for (name, expected) in &expected {
        assert!(
            found[name] == *expected,
            "{name}: {:?}\nis not {expected:?}",
            found[name]
        );
    }
}

/// The query with the values of its keys: they were made up by the test, so they may be shown.
fn shown(query: &Query) -> String {
    let value = |key: &Element| String::from_utf8_lossy(key.bytes()).into_owned();
    let keys: Vec<String> = query
        .keys()
        .iter()
        .map(|key| format!("{key:?} {:?}", value(key)))
        .collect();
    format!(
        "{:?} {:?} {:?}\n{keys:#?}",
        query.model(),
        query.level(),
        query.options()
    )
}

/// A few instances: two patients, of which one has two studies.
fn few() -> Vec<InstanceRecord> {
    [
        (1, 0, 0, 0),
        (1, 0, 0, 1),
        (1, 0, 1, 0),
        (1, 1, 0, 0),
        (2, 0, 0, 0),
    ]
    .map(|(patient, study, series, instance)| record(7, patient, study, series, instance, 0))
    .to_vec()
}

fn filled(place: &dyn IndexPlace) -> (Arc<dyn Index>, Vec<InstanceRecord>) {
    let index = place.open();
    let records = few();
    apply(&*index, records.iter().map(store).collect(), 5);
    (index, records)
}

/// When `apply` returns, every later lookup and query sees all of the changes.
pub fn every_later_lookup_and_query_sees_all_that_was_applied(place: &dyn IndexPlace) {
    let index = place.open();
    let mut reference = Reference::default();
    assert_is(&*index, &reference);
    for record in few() {
        let change = store(&record);
        reference.apply(&change);
        apply(&*index, vec![change], 1);
        assert!(lookup(&*index, &record.key.instance).is_some());
        assert_is(&*index, &reference);
    }
}

/// A lookup yields all that was applied of the instance.
pub fn a_lookup_yields_the_record_as_it_was_applied(place: &dyn IndexPlace) {
    let (index, records) = filled(place);
    for record in &records {
        let found = lookup(&*index, &record.key.instance).expect("it was stored");
        assert!(found == *record, "{} differs", record.key.instance);
    }
    assert_eq!(lookup(&*index, &Uid::constant("2.25.404")), None);
}

/// Applying the same changes again changes nothing.
pub fn applying_the_same_changes_again_changes_nothing(place: &dyn IndexPlace) {
    let (index, records) = filled(place);
    let changes = || -> Vec<Change> {
        let stored = records.iter().map(store);
        stored.chain([Change::Remove(records[1].key.instance)]).collect()
    };
    apply(&*index, changes(), 6);
    let before = state(&*index);
    apply(&*index, changes(), 6);
    assert!(state(&*index) == before);
}

/// The changes of a batch are applied in order.
pub fn changes_are_applied_in_order(place: &dyn IndexPlace) {
    let index = place.open();
    let [first, second] = [0, 1].map(|version| record(7, 1, 0, 0, 0, version));
    let instance = first.key.instance;
    apply(&*index, vec![store(&first), Change::Remove(instance)], 1);
    assert_eq!(totals(&*index), Totals::default());
    apply(
        &*index,
        vec![Change::Remove(instance), store(&first), store(&second)],
        2,
    );
    assert!(lookup(&*index, &instance).is_some_and(|found| own(&found) == own(&second)));
    assert_eq!(totals(&*index).instances, 1);
}

/// A frame table is what was told of the version that is known now; of any other nothing is known.
pub fn a_frame_table_is_known_of_the_version_it_was_told_of_and_of_no_other(place: &dyn IndexPlace) {
    let (index, records) = filled(place);
    let first = &records[0];
    assert_eq!(frame_table(&*index, first), None);
    apply(&*index, vec![frames(first, 3)], 6);
    let known = frame_table(&*index, first).expect("it was told");
    assert_eq!(known.frames.len(), 3);
    assert_eq!(frame_table(&*index, &records[1]), None);

    // Of the same version: it stays.
    let mut changed = first.clone();
    changed.superseded.push(Locator::new(&[1, 1]));
    apply(&*index, vec![store(&changed)], 7);
    assert_eq!(frame_table(&*index, first), Some(known));
    assert_eq!(lookup(&*index, &first.key.instance), Some(changed));

    // Another version: it goes, and what is told of the one before comes too late.
    let mut second = first.clone();
    second.locator = Locator::new(&[2, 2]);
    apply(&*index, vec![store(&second), frames(first, 3)], 8);
    assert_eq!(frame_table(&*index, first), None);
    assert_eq!(frame_table(&*index, &second), None);
    apply(&*index, vec![frames(&second, 0)], 9);
    assert_eq!(frame_table(&*index, &second), Some(Arc::default()));

    // With the instance it goes, and does not come back with it.
    apply(
        &*index,
        vec![Change::Remove(second.key.instance), frames(&second, 2)],
        10,
    );
    assert_eq!(frame_table(&*index, &second), None);
    apply(&*index, vec![store(&second)], 11);
    assert_eq!(frame_table(&*index, &second), None);
}

/// Metadata is what was told of the version that is known now; of any other nothing is known.
pub fn metadata_is_known_of_the_version_it_was_told_of_and_of_no_other(place: &dyn IndexPlace) {
    let (index, records) = filled(place);
    let first = &records[0];
    let is = |record: &InstanceRecord, expected: Option<&str>| {
        let found = metadata_record(&*index, record);
        assert_eq!(found.as_deref(), expected.map(str::as_bytes));
    };
    is(first, None);
    apply(&*index, vec![metadata(first, "one")], 6);
    is(first, Some("one"));
    is(&records[1], None);
    apply(&*index, vec![metadata(first, "again")], 6);
    is(first, Some("again"));

    // Of the same version: it stays.
    let mut changed = first.clone();
    changed.superseded.push(Locator::new(&[1, 1]));
    apply(&*index, vec![store(&changed)], 7);
    is(first, Some("again"));

    // Another version: it goes, and what is told of the one before comes too late.
    let mut second = first.clone();
    second.locator = Locator::new(&[2, 2]);
    apply(&*index, vec![store(&second), metadata(first, "late")], 8);
    is(first, None);
    is(&second, None);
    apply(&*index, vec![metadata(&second, "")], 9);
    is(&second, Some(""));

    // With the instance it goes, and does not come back with it.
    apply(
        &*index,
        vec![Change::Remove(second.key.instance), metadata(&second, "gone")],
        10,
    );
    assert_eq!(
        metadata_records(&*index, Scope::Instance(second.key.instance)),
        []
    );
    apply(&*index, vec![store(&second)], 11);
    is(&second, None);
}

/// Every instance of the scope comes as `instances` yields it, with its metadata where that is known.
pub fn metadata_comes_with_its_instance_in_the_order_of_the_instances(place: &dyn IndexPlace) {
    let index = place.open();
    let mut random = Random::new(11);
    for _ in 0..60 {
        let record = any_record(&mut random, 3);
        let mut changes = vec![store(&record)];
        if random.chance(2) {
            // Some longer than what is read at once.
            let text = record.key.instance.as_str().repeat(random.index(3) * 2_000 + 1);
            changes.push(metadata(&record, &text));
        }
        apply(&*index, changes, 1);
    }
    let all = instances(&*index, Scope::All);
    let mut scopes = vec![Scope::All, Scope::Study(Uid::constant("2.25.404"))];
    scopes.extend(all.iter().flat_map(|record| {
        let key = record.key;
        [
            Scope::Study(key.study),
            Scope::Series(key.series),
            Scope::Instance(key.instance),
        ]
    }));
    for scope in scopes {
        let found = metadata_records(&*index, scope.clone());
        let records: Vec<_> = found.iter().map(|(record, _)| record.clone()).collect();
        assert!(records == instances(&*index, scope));
        for (record, metadata) in found {
            assert!(metadata.is_none_or(|text| text.starts_with(record.key.instance.as_bytes())));
        }
    }
    let known = metadata_records(&*index, Scope::All);
    assert!(known.iter().any(|(_, metadata)| metadata.is_some()));
}

/// `apply` remembers the low water in the same step, and `flush` returns it.
pub fn the_low_water_is_that_of_the_last_batch(place: &dyn IndexPlace) {
    let index = place.open();
    assert_eq!(low_water(&*index), 0);
    apply(&*index, vec![store(&few()[0])], 41);
    assert_eq!(low_water(&*index), 41);
    apply(&*index, Vec::new(), 42);
    assert_eq!(low_water(&*index), 42);
    assert_eq!(block_on(index.flush()).expect("flush succeeds"), Sequence(42));
}

/// Storing an instance forgets what was known under the same SOP Instance UID, wherever it stood.
pub fn storing_again_forgets_what_was_known_under_the_same_uid(place: &dyn IndexPlace) {
    let (index, records) = filled(place);
    let mut moved = records[4].clone();
    moved.key.instance = records[3].key.instance;
    moved
        .attributes
        .instance
        .put_uid(tags::SOP_INSTANCE_UID, &moved.key.instance);
    apply(&*index, vec![store(&moved)], 6);
    let mut reference = Reference::default();
    for record in records.iter().chain([&moved]) {
        reference.apply(&store(record));
    }
    // Its old study had no other instance.
    assert_eq!(totals(&*index).studies, 2);
    assert_is(&*index, &reference);
}

/// Forgetting the last instance of a series forgets the series, and so up to the patient.
pub fn forgetting_the_last_instance_forgets_what_is_above_it(place: &dyn IndexPlace) {
    let (index, records) = filled(place);
    let mut reference = Reference::default();
    records.iter().for_each(|record| reference.apply(&store(record)));
    for (at, left) in [
        (0, (2, 3, 4)),
        (2, (2, 3, 3)),
        (4, (1, 2, 2)),
        (1, (1, 1, 1)),
        (3, (0, 0, 0)),
    ] {
        let change = Change::Remove(records[at].key.instance);
        reference.apply(&change);
        apply(&*index, vec![change], 6);
        let totals = totals(&*index);
        assert_eq!((totals.patients, totals.studies, totals.series), left);
        assert_is(&*index, &reference);
    }
}

/// Forgetting what isn't known succeeds.
pub fn forgetting_what_is_not_known_changes_nothing(place: &dyn IndexPlace) {
    let (index, _) = filled(place);
    let before = state(&*index);
    apply(&*index, vec![Change::Remove(Uid::constant("2.25.404"))], 5);
    assert!(state(&*index) == before);
}

/// Where instances disagree about their study, the first one applied counts, and later ones fill what
/// has no value yet.
pub fn the_first_applied_value_counts_and_later_ones_fill_what_has_none(place: &dyn IndexPlace) {
    let index = place.open();
    let [mut first, mut second] = [0, 1].map(|instance| record(7, 1, 0, 0, instance, 0));
    first.attributes.study.remove(tags::STUDY_DESCRIPTION);
    first.attributes.series.remove(tags::MODALITY);
    first
        .attributes
        .study
        .put_text(tags::ACCESSION_NUMBER, VR::SH, "FIRST");
    second
        .attributes
        .study
        .put_text(tags::ACCESSION_NUMBER, VR::SH, "SECOND");
    second
        .attributes
        .study
        .put_text(tags::STUDY_DESCRIPTION, VR::LO, "FILLED");
    second.attributes.series.put_text(tags::MODALITY, VR::CS, "US");
    apply(&*index, vec![store(&first), store(&second)], 2);
    let asks = |tag, vr, text: &str| {
        let mut keys = DataSet::new();
        keys.put_text(tag, vr, text);
        let query = Query::new(Model::StudyRoot, Level::Study, keys, QueryOptions::default());
        answers(&*index, &query).len()
    };
    assert_eq!(asks(tags::ACCESSION_NUMBER, VR::SH, "FIRST"), 1);
    assert_eq!(asks(tags::ACCESSION_NUMBER, VR::SH, "SECOND"), 0);
    assert_eq!(asks(tags::STUDY_DESCRIPTION, VR::LO, "FILLED"), 1);
    assert_eq!(asks(tags::MODALITIES_IN_STUDY, VR::CS, "US"), 1);
    let study = &lookup(&*index, &second.key.instance)
        .expect("it was stored")
        .attributes
        .study;
    assert_eq!(study.string(tags::ACCESSION_NUMBER), Some("FIRST"));
}

/// `clear` forgets everything, also the low water.
pub fn clear_forgets_everything_also_the_low_water(place: &dyn IndexPlace) {
    let (index, records) = filled(place);
    block_on(index.clear()).expect("clear succeeds");
    assert_eq!(low_water(&*index), 0);
    assert_is(&*index, &Reference::default());
    apply(&*index, records.iter().map(store).collect(), 5);
    assert_eq!(totals(&*index).instances, 5);
}

/// A scope that is not known yields nothing.
pub fn a_scope_that_is_not_known_yields_nothing(place: &dyn IndexPlace) {
    let (index, records) = filled(place);
    let unknown = Uid::constant("2.25.404");
    // A UID names one level only.
    let study = records[0].key.study;
    for scope in [
        Scope::Patient("nobody".to_owned()),
        Scope::Study(unknown),
        Scope::Series(unknown),
        Scope::Instance(unknown),
        Scope::Series(study),
        Scope::Instance(study),
    ] {
        assert!(instances(&*index, scope).is_empty());
    }
}

/// A scope yields every instance below its entity.
pub fn a_scope_yields_every_instance_below_it_and_no_other(place: &dyn IndexPlace) {
    let (index, records) = filled(place);
    let expect = |scope, wanted: &[usize]| {
        let wanted: BTreeSet<_> = wanted.iter().map(|at| records[*at].key.instance).collect();
        assert_eq!(uids(&instances(&*index, scope)), wanted);
    };
    expect(Scope::All, &[0, 1, 2, 3, 4]);
    expect(Scope::Patient("P1".to_owned()), &[0, 1, 2, 3]);
    expect(Scope::Study(records[0].key.study), &[0, 1, 2]);
    expect(Scope::Series(records[0].key.series), &[0, 1]);
    expect(Scope::Instance(records[1].key.instance), &[1]);
}

/// The instances of one series come together, and so those of one study.
pub fn the_instances_of_one_series_come_together_and_so_of_one_study(place: &dyn IndexPlace) {
    let index = place.open();
    let mut random = Random::new(3);
    for _ in 0..60 {
        apply(&*index, vec![store(&any_record(&mut random, 3))], 1);
    }
    let together = |names: Vec<Uid>| {
        let mut runs = names.clone();
        runs.dedup();
        let distinct: BTreeSet<_> = names.into_iter().collect();
        assert_eq!(runs.len(), distinct.len());
    };
    let found = instances(&*index, Scope::All);
    together(found.iter().map(|record| record.key.study).collect());
    together(found.iter().map(|record| record.key.series).collect());
}

/// A yielded data set holds all that is known of the entity and of those above it, also what is derived
/// from those below.
pub fn an_answer_holds_what_is_known_above_and_what_is_derived_from_below(place: &dyn IndexPlace) {
    let (index, records) = filled(place);
    let mut keys = DataSet::new();
    keys.put_uid(tags::SERIES_INSTANCE_UID, &records[0].key.series);
    let query = Query::new(Model::StudyRoot, Level::Series, keys, QueryOptions::default());
    let found = answers(&*index, &query);
    let answer = found.values().next().expect("the series was stored");
    for (tag, text) in [
        (tags::PATIENT_ID, "P1"),
        (tags::NUMBER_OF_PATIENT_RELATED_STUDIES, "2"),
        (tags::NUMBER_OF_PATIENT_RELATED_SERIES, "3"),
        (tags::NUMBER_OF_PATIENT_RELATED_INSTANCES, "4"),
        (tags::NUMBER_OF_STUDY_RELATED_SERIES, "2"),
        (tags::NUMBER_OF_STUDY_RELATED_INSTANCES, "3"),
        (tags::NUMBER_OF_SERIES_RELATED_INSTANCES, "2"),
    ] {
        assert_eq!(answer.string(tag), Some(text), "{tag}");
    }
    let modalities: BTreeSet<_> = answer.strings(tags::MODALITIES_IN_STUDY).collect();
    let expected: BTreeSet<_> = records[..3]
        .iter()
        .filter_map(|record| record.attributes.series.string(tags::MODALITY))
        .collect();
    assert_eq!(modalities, expected);
    let classes: BTreeSet<_> = answer.strings(tags::SOP_CLASSES_IN_STUDY).collect();
    let expected: BTreeSet<_> = records[..3]
        .iter()
        .map(|record| record.sop_class.as_str())
        .collect();
    assert_eq!(classes, expected);
}

#[expect(clippy::print_stderr, reason = "what is skipped is said in the test's output")]
fn durable(index: &dyn Index) -> bool {
    let durable = index.capability().durable;
    if !durable {
        eprintln!("skipped: this index keeps nothing beyond its process");
    }
    durable
}
