//! Random courses of changes and random questions, held against the [`Reference`].

use std::collections::BTreeSet;

use dicom_core::VR;
use dicom_dictionary_std::tags;
use futures::StreamExt;
use futures::executor::block_on;

use super::{
    IndexPlace, answer_list, answers, apply, assert_answers, assert_is, durable, everything, filled, frames,
    instances, lookup, low_water, metadata, shown, state, store, uids,
};
use crate::archive::{Locator, Sequence};
use crate::dataset::DataSet;
use crate::index::{Change, InstanceRecord, Scope};
use crate::query::{Model, Query};
use crate::testkit::random::{Random, rounds};
use crate::testkit::reference::{Reference, name_of_answer};
use crate::testkit::world::{any_correction, any_query, any_record};
use crate::uid::Level;

/// Every kind of matching, at every level, in every model, is answered as the reference answers it.
pub fn queries_of_every_kind_are_answered_as_the_reference_answers_them(place: &dyn IndexPlace) {
    let index = place.open();
    rounds(8, |random| {
        block_on(index.clear()).expect("clear succeeds");
        let world = random.below(1 << 20);
        let mut reference = Reference::default();
        let changes: Vec<_> = (0..1 + random.below(60))
            .map(|_| store(&any_record(random, world)))
            .collect();
        changes.iter().for_each(|change| reference.apply(change));
        apply(&*index, changes, 1);
        for _ in 0..80 {
            let query = any_query(random, world);
            assert_answers(&query, &answers(&*index, &query), &reference);
        }
    });
}

/// Matching is [`Query::matches`], whatever path the index takes to candidates: also for fuzzy names, for
/// irregular values, and where instances disagree about their study.
pub fn whatever_way_is_taken_to_candidates_the_answers_are_those_that_match(place: &dyn IndexPlace) {
    let index = place.open();
    rounds(6, |random| {
        block_on(index.clear()).expect("clear succeeds");
        let world = random.below(1 << 20);
        let changes: Vec<_> = (0..40)
            .map(|_| {
                let mut record = any_record(random, world);
                let attributes = &mut record.attributes;
                if random.chance(3) {
                    let other = any_record(random, world ^ 1).attributes;
                    attributes.study = other.study;
                    attributes.series = other.series;
                    attributes
                        .study
                        .put_uid(tags::STUDY_INSTANCE_UID, &record.key.study);
                    attributes
                        .series
                        .put_uid(tags::SERIES_INSTANCE_UID, &record.key.series);
                }
                let irregular = *random.pick(&["", "TODAY", "2024", "20240101-20240201", "*", "\u{0}"]);
                match random.below(12) {
                    0 => attributes.study.put_text(tags::STUDY_DATE, VR::DA, irregular),
                    1 => attributes
                        .study
                        .put_text(tags::ACCESSION_NUMBER, VR::SH, "A1\\A2"),
                    2 => drop(attributes.patient.remove(tags::PATIENT_ID)),
                    3 => attributes
                        .patient
                        .put_text(tags::PATIENT_ID, VR::LO, "P".repeat(300)),
                    4 => attributes
                        .study
                        .put_text(tags::STUDY_DESCRIPTION, VR::LO, "CHEST ".repeat(50)),
                    _ => {}
                }
                store(&record)
            })
            .collect();
        apply(&*index, changes, 1);
        for _ in 0..60 {
            let query = any_query(random, world);
            let mut options = query.options();
            options.fuzzy_person_names = random.chance(2);
            let mut keys = query.keys().clone();
            if random.chance(8) {
                keys.put_text(
                    tags::PATIENT_ID,
                    VR::LO,
                    format!("{}*", "P".repeat(1 + random.index(300))),
                );
            }
            let query = Query::new(query.model(), query.level(), keys, options);
            // Without unique keys of their own, entities with unusual names can't be told apart.
            let all = answer_list(&*index, &everything(query.model(), query.level()));
            let mut expected: Vec<DataSet> = all.into_iter().filter(|record| query.matches(record)).collect();
            let mut found = answer_list(&*index, &query);
            let name = |answer: &DataSet| name_of_answer(query.level(), answer);
            expected.sort_by_key(name);
            found.sort_by_key(name);
            assert!(
                found == expected,
                "{} of {}: {}",
                found.len(),
                expected.len(),
                shown(&query)
            );
        }
    });
}

/// What is applied while the stream runs may or may not be yielded; all else is, once.
pub fn a_stream_goes_on_while_changes_are_applied(place: &dyn IndexPlace) {
    let (index, kept) = filled(place);
    let mut random = Random::new(5);
    for round in 0..10 {
        let mut found = Vec::new();
        let mut stream = index.instances(Scope::All);
        let mut studies = index.query(everything(Model::StudyRoot, Level::Study));
        let mut answered = Vec::new();
        loop {
            let (instance, study) = block_on(async { (stream.next().await, studies.next().await) });
            if instance.is_none() && study.is_none() {
                break;
            }
            found.extend(instance.map(|item| item.expect("the stream goes on")));
            answered.extend(study.map(|item| item.expect("the stream goes on")));
            apply(&*index, any_changes(&mut random, 9), 10 + round);
        }
        // What was stored again meanwhile may be yielded before and after.
        for record in &kept {
            let instance = |r: &&InstanceRecord| r.key.instance == record.key.instance;
            assert_eq!(
                found.iter().filter(instance).count(),
                1,
                "an instance is yielded once"
            );
            let study = |a: &&DataSet| name_of_answer(Level::Study, a) == record.key.study.as_str();
            assert_eq!(
                answered.iter().filter(study).count(),
                1,
                "a study is answered once"
            );
        }
    }
}

fn any_changes(random: &mut Random, world: u64) -> Vec<Change> {
    let mut changes = Vec::new();
    for _ in 0..random.below(12) {
        let mut record = any_record(random, world);
        if random.chance(3) {
            changes.push(Change::Remove(record.key.instance));
            continue;
        }
        changes.push(store(&record));
        if random.chance(3) {
            changes.push(frames(&record, random.below(4)));
            changes.push(metadata(&record, &"x".repeat(random.index(40))));
            if random.chance(2) {
                // The same version again, or another of which no frames are known.
                record.superseded.clear();
                if random.chance(2) {
                    record.locator = Locator::new(&[7]);
                }
                changes.push(store(&record));
            }
        }
    }
    changes
}

/// Whatever the course of changes, the state is that of the reference: counts, aggregates, instances.
pub fn any_course_of_changes_leaves_what_the_reference_says(place: &dyn IndexPlace) {
    let index = place.open();
    rounds(6, |random| {
        block_on(index.clear()).expect("clear succeeds");
        let world = random.below(1 << 20);
        let mut reference = Reference::default();
        for step in 0..20 {
            let changes = any_changes(random, world);
            changes.iter().for_each(|change| reference.apply(change));
            // A repeated batch stands for a replay.
            if random.chance(4) {
                apply(&*index, changes.clone(), step);
            }
            apply(&*index, changes, step);
            if random.chance(4) {
                block_on(index.flush()).expect("flush succeeds");
            }
            let known: Vec<_> = reference.instances.values().map(|record| record.key).collect();
            if !known.is_empty() && random.chance(2) {
                let key = known[random.index(known.len())];
                let correction = Change::Correct(key, Box::new(any_correction(random, world)));
                reference.apply(&correction);
                for _ in 0..=random.below(2) {
                    apply(&*index, vec![correction.clone()], step);
                }
            }
            assert_is(&*index, &reference);
        }
    });
}

/// Every method may be called from any thread, and many at once; what is applied while a stream runs may
/// or may not be yielded.
pub fn many_threads_may_read_while_one_applies(place: &dyn IndexPlace) {
    let (index, kept) = filled(place);
    let kept_uids = uids(&kept);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..20 {
                    // What is there all the time is always yielded.
                    let found = instances(&*index, Scope::All);
                    assert!(
                        found
                            .iter()
                            .map(|r| r.key.instance)
                            .collect::<BTreeSet<_>>()
                            .is_superset(&kept_uids)
                    );
                    let studies = answers(&*index, &everything(Model::StudyRoot, Level::Study));
                    assert!(studies.len() >= 3);
                }
            });
        }
        let mut random = Random::new(9);
        for step in 0..40 {
            // Another world: other UIDs.
            apply(&*index, any_changes(&mut random, 9), 10 + step);
        }
    });
    assert!(
        kept.iter()
            .all(|record| lookup(&*index, &record.key.instance).is_some())
    );
}

/// What was applied and flushed survives.
pub fn what_was_flushed_is_there_after_reopening(place: &dyn IndexPlace) {
    let (index, _) = filled(place);
    if !durable(&*index) {
        return;
    }
    assert_eq!(block_on(index.flush()).expect("flush succeeds"), Sequence(5));
    let before = state(&*index);
    drop(index);
    let index = place.open();
    assert_eq!(low_water(&*index), 5);
    assert!(state(&*index) == before);
}

/// See its name.
pub fn opened_again_in_place_it_knows_what_was_flushed(place: &dyn IndexPlace) {
    let (index, _) = filled(place);
    assert_eq!(block_on(index.flush()).expect("flush succeeds"), Sequence(5));
    let before = state(&*index);
    block_on(index.reopen()).expect("reopen succeeds");
    assert_eq!(low_water(&*index), 5);
    assert!(state(&*index) == before);
    // And it goes on.
    apply(&*index, Vec::new(), 6);
    assert_eq!(block_on(index.flush()).expect("flush succeeds"), Sequence(6));
}

/// Whatever becomes durable does so in the order of application, with its low water: without a flush, the
/// state after reopening is that after some batch.
pub fn after_reopening_the_state_is_one_that_was_with_its_low_water(place: &dyn IndexPlace) {
    if !durable(&*place.open()) {
        return;
    }
    rounds(3, |random| {
        let index = place.open();
        block_on(index.clear()).expect("clear succeeds");
        let world = random.below(1 << 20);
        let mut reference = Reference::default();
        let mut states = vec![reference.clone()];
        let mut flushed = 0;
        for step in 1..=10 {
            let changes = any_changes(random, world);
            changes.iter().for_each(|change| reference.apply(change));
            apply(&*index, changes, step);
            states.push(reference.clone());
            if random.chance(4) {
                flushed = block_on(index.flush()).expect("flush succeeds").0;
                assert_eq!(flushed, step);
            }
        }
        drop(index);
        let index = place.open();
        let at = low_water(&*index);
        assert!(
            (flushed..=10).contains(&at),
            "low water {at} after a flush at {flushed}"
        );
        let state = states.get(usize::try_from(at).unwrap_or(usize::MAX));
        assert_is(&*index, state.expect("one of the batches"));
    });
}
